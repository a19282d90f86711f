#!/usr/bin/env bash
# The figures of BENCHMARKS.md: all of them, or those that are named (ingest remote_write samples promql restart memory
# queries proxy). Server and generator have a core each but for promql; SPANS of the ingest run (4,000,000), of the
# queries (10,000,000), SECONDS_OF_LOAD for the memory (600), ROUNDS (5) and CASES of the proxies. Prometheus,
# VictoriaMetrics, nginx, HAProxy and h2load are Debian's, Envoy is from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(realpath "${CARGO_TARGET_DIR:-target}")
export WEIR=$built/release/weir WEIR_PROXY=$built/proxy/weir-proxy
scratch=$(mktemp -d "${BENCH_DIR:-/tmp}/weir-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

python=$built/bench-venv/bin/python
if [ ! -x "$python" ] || [ tests/bench/requirements.txt -nt "$built/bench-venv/installed" ]; then
  python3 -m venv "$built/bench-venv"
  "$python" -m pip install --quiet --requirement tests/bench/requirements.txt
  touch "$built/bench-venv/installed"
fi

# What follows a program are libraries that Debian's base lacks.
tests/debian.sh "$built/debian" prometheus victoria-metrics nginx haproxy liblua5.3-0 libopentracing-c-wrapper0 \
  libopentracing1 nghttp2-client libev4 libjemalloc2
export PROMETHEUS=$built/debian/usr/bin/prometheus VICTORIA_METRICS=$built/debian/usr/bin/victoria-metrics

for part in "${@:-ingest remote_write samples promql restart memory queries proxy}"; do
  for name in $part; do
    echo "== $name"
    case $name in
      ingest) "$python" tests/bench/ingest.py "$scratch" "${SPANS:-4000000}" ;;
      remote_write) "$python" tests/bench/remote_write.py "$scratch" ;;
      promql) "$python" tests/bench/promql.py "$scratch" ;;
      samples) "$python" tests/bench/samples.py "$scratch" ;;
      restart) "$python" tests/bench/restart.py "$scratch" ;;
      memory) "$python" tests/bench/memory.py "$scratch" "${SECONDS_OF_LOAD:-600}" ;;
      queries) "$python" tests/bench/files.py "$scratch" "${SPANS:-10000000}" ;;
      proxy)
        libraries=$(echo "$built"/debian/usr/lib/*-linux-gnu)
        PATH=$built/debian/usr/sbin:$built/debian/usr/bin:$PATH LD_LIBRARY_PATH=$libraries \
          "$python" tests/bench/proxy.py "$scratch" "${ROUNDS:-5}" 5 ${CASES:-} ;;
      *) echo "there is no part \`$name\`" >&2; exit 2 ;;
    esac
  done
done
