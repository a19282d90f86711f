#!/bin/sh
# Unpacks Debian packages below a folder, so that their programs can be run and nothing is installed or started:
# tests/debian.sh FOLDER PACKAGE…
set -eu
folder=$1
shift
mkdir -p "$folder"
cd "$folder"
for package in "$@"; do
  [ -e "$package.done" ] && continue
  apt-get download -qq "$package" || { ${SUDO:-} apt-get update -qq && apt-get download -qq "$package"; }
  for file in "${package}"_*.deb; do
    dpkg -x "$file" .
    rm "$file"
  done
  # Alertmanager looks for its templates there and nowhere else.
  templates=usr/share/prometheus/alertmanager
  if [ -d "$templates" ] && [ ! -d "/$templates" ]; then
    ${SUDO:-} mkdir -p /usr/share/prometheus
    ${SUDO:-} cp -r "$templates" "/$templates"
  fi
  touch "$package.done"
done
