#!/usr/bin/env bash
# Figures of BENCHMARKS.md: durable ingest per signal, acknowledged rate, latency, and CPU time of the server
# per thousand records, with server and generator on this one machine.
set -euo pipefail
cd "$(dirname "$0")/.."
weir=${CARGO_TARGET_DIR:-target}/release/weir
seconds=${SECONDS_PER_RUN:-15}
scratch=$(mktemp -d)
trap 'kill $server 2>/dev/null; wait; rm -rf "$scratch"' EXIT

"$weir" serve --data-dir "$scratch/data" --otlp-grpc 127.0.0.1:0 --otlp-http 127.0.0.1:0 --http 127.0.0.1:0 \
  2>"$scratch/log" &
server=$!
until grep -q '^ready' "$scratch/log"; do sleep 0.1; done
grpc=$(grep '^ready' "$scratch/log" | tr ' ' '\n' | sed -n 's/^otlp_grpc=//p')

# User and system time of the server so far, in milliseconds.
cpu_ms() { awk -v hz="$(getconf CLK_TCK)" '{print int(($14 + $15) * 1000 / hz)}' "/proc/$server/stat"; }

printf '%-8s %14s %12s %12s %12s %20s\n' signal 'acked/s' 'p50 ms' 'p99 ms' 'failed' 'server CPU µs/record'
for signal in spans metrics logs; do
  before=$(cpu_ms)
  "$weir" load $signal --to "$grpc" --connections 4 --batch 512 --duration "${seconds}s" --seed 1 --json >"$scratch/$signal"
  sleep 2 # let what is under way be counted: background flushes belong to the cost
  after=$(cpu_ms)
  python3 - "$scratch/$signal" "$signal" "$((after - before))" <<'PY'
import json, sys
result = json.load(open(sys.argv[1]))
acked = result["acknowledged"]
print(f"{sys.argv[2]:8} {result['acknowledged_per_s']:14,.0f} {result['latency_ms']['p50']:12.1f} "
      f"{result['latency_ms']['p99']:12.1f} {result['failed']:12} {float(sys.argv[3]) * 1000 / max(acked, 1):20.2f}")
PY
done
kill -TERM $server
wait $server
