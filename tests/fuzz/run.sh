#!/usr/bin/env bash
# Fuzzes one decoder, guided by coverage, from the committed corpus on.
#
#   tests/fuzz/run.sh TARGET RUNS [SEED]
#
# TARGET: frames records blocks commands campaigns   (protocol)
#         graphs weights recordings tees             (files; needs candle and SQLite)
# What was found new stays in tests/fuzz/target/corpus/TARGET; a crash is named
# and its input left in tests/fuzz/target/crashes. Prints runs and rate.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${1:?usage: run.sh TARGET RUNS [SEED]} runs=${2:?usage: run.sh TARGET RUNS [SEED]}
seed=${3:-1}

case $target in
frames | records | blocks | commands | campaigns) program=fuzz-protocol features= ;;
graphs | weights | recordings | tees) program=fuzz-files features=files ;;
*) echo "error: no such target: $target" >&2; exit 2 ;;
esac

# The target is named to cargo as well, or build scripts and proc macros would
# be wrapped too.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_WRAPPER="$here/rustc.sh" cargo build --quiet --release --locked --target "$host" \
    --manifest-path "$here/Cargo.toml" --bin "$program" ${features:+--features "$features"}

found=$here/target/corpus/$target crashes=$here/target/crashes
mkdir -p "$found" "$crashes" "$here/corpus/$target"
# Longest input: the first guesses of a decoder lie in the first bytes, and short
# inputs are mutated faster.
case $target in
commands) limit=512 ;;
frames | blocks) limit=1024 ;;
recordings) limit=32768 ;;
*) limit=4096 ;;
esac
start=$(date +%s.%N)
panics=0
FUZZ_TARGET=$target "$here/target/$host/release/$program" \
    -runs="$runs" -seed="$seed" -max_len="$limit" -rss_limit_mb=2048 -timeout=10 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$crashes/$target-" \
    "$found" "$here/corpus/$target" >"$here/target/$target.log" 2>&1 || panics=1
executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$here/target/$target.log")
awk -v t="$target" -v n="$executed" -v p="$panics" -v s="$start" -v e="$(date +%s.%N)" 'BEGIN {
    printf "{\"measure\":\"fuzz.executions\",\"case\":\"%s\",\"value\":%d,\"unit\":\"1\"}\n", t, n
    printf "{\"measure\":\"fuzz.rate\",\"case\":\"%s\",\"value\":%.0f,\"unit\":\"1/s\"}\n", t, n / (e - s)
    printf "{\"measure\":\"fuzz.panics\",\"case\":\"%s\",\"value\":%d,\"unit\":\"1\",\"limit\":0,\"limit_is\":\"none\"}\n", t, p
}'
if [ "$panics" -ne 0 ]; then
    tail -n 40 "$here/target/$target.log" >&2
    echo "error: $target failed; its input is in $crashes" >&2
    exit 1
fi
