#!/usr/bin/env bash
# Fuzzes each way in for a while (FUZZ_SECONDS, 60 unless told), or those that are named as arguments.
# What libFuzzer finds interesting is kept below the target directory and used again; a finding ends the target
# and is kept beside it. Prints a line per target; fails where there is a finding.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
corpus=tests/fuzz/corpus

RUSTC_WRAPPER=$PWD/tests/fuzz/rustc.sh CARGO_TARGET_DIR=$built \
  "${CARGO:-cargo}" build --manifest-path tests/fuzz/Cargo.toml
targets=${*:-$(ls "$corpus")}

failed=0
printf '%-14s %12s %10s %10s %8s  %s\n' target runs runs/s edges corpus result
for target in $targets; do
  kept=$built/corpus/$target
  mkdir -p "$kept" "$built/findings"
  log=$built/$target.log
  result=clean
  WEIR_FUZZ_TARGET=$target "$built/debug/weir-fuzz" "$kept" "$corpus/$target" \
    -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -use_value_profile=1 \
    -artifact_prefix="$built/findings/$target-" -print_final_stats=1 >"$log" 2>&1 || { result=FINDING; failed=1; }
  stat() { sed -n "s/^stat::$1: *//p" "$log"; }
  edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -d' ' -f2)
  printf '%-14s %12s %10s %10s %8s  %s\n' "$target" "$(stat number_of_executed_units)" \
    "$(stat average_exec_per_sec)" "$edges" "$(find "$kept" -type f | wc -l)" "$result"
  if [ $result = FINDING ]; then
    grep -m1 -A3 'panicked at' "$log" || tail -5 "$log"
    sed -n 's/.*Test unit written to //p' "$log"
  fi
done
exit $failed
