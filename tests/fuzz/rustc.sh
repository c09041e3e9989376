#!/bin/sh
# rustc with libFuzzer's coverage counters for our own crates, on the stable
# tool chain: the instrumentation is LLVM's SanitizerCoverage pass, by itself,
# without a sanitizer. Cargo calls this (RUSTC_WRAPPER) with rustc as $1.
rustc=$1
shift
case " $* " in
*" --crate-name wattline"* | *" --crate-name fuzz_"*)
    exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$rustc" "$@"
