#!/bin/sh
# Stands before rustc and gives our crates the coverage counters that libFuzzer steers by (those of
# cargo-fuzz, which stable Rust has too); what they depend on is compiled as ever.
rustc=$1
shift
case " $* " in
  *" --crate-name weir_"*)
    exec "$rustc" "$@" --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
      -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
      -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares ;;
  *) exec "$rustc" "$@" ;;
esac
