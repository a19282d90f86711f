#!/usr/bin/env bash
# What takes long, and a summary of it: kills at SOAK_POINTS system calls (500 unless told), SOAK_ROUNDS rounds of
# kills at any moment (500), FUZZ_SECONDS (60) of each fuzz target. Fails where any of them does.
set -uo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
logs=${CARGO_TARGET_DIR:-target}/soak
mkdir -p "$logs"
failed=0
summary=()

# Runs a command, keeps what it says, and notes how it ended.
part() {
  local name=$1
  shift
  local began=$SECONDS result=passed
  echo "== $name, into $logs/$name.log"
  "$@" >"$logs/$name.log" 2>&1 || { result=FAILED; failed=1; }
  [ $result = passed ] || tail -25 "$logs/$name.log"
  summary+=("$(printf '%-14s %-7s %6d s' "$name" $result $((SECONDS - began)))")
}

# Without the right to trace, the sweep passes over everything; here that is a failure.
part crash-sweep env CI=1 WEIR_CRASH_POINTS="${SOAK_POINTS:-500}" \
  "$cargo" test --workspace --test crash_sweep -- --nocapture
part crash-rounds env WEIR_CRASH_ROUNDS="${SOAK_ROUNDS:-500}" \
  "$cargo" test --workspace --test crash -- --nocapture
part fuzz tests/fuzz.sh

echo
echo 'system calls at which it was killed, of those tried:'
grep -E '^[a-z]+ [a-z]+ [a-z]+: [0-9]+ of [0-9]+$' "$logs/crash-sweep.log"
grep -E '^[0-9]+ acknowledged' "$logs/crash-rounds.log"
cat "$logs/fuzz.log" | grep -A100 '^target '
echo
printf '%s\n' "${summary[@]}"
exit $failed
