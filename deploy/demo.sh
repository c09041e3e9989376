#!/bin/sh
# A quick campaign on the simulated board: four networks, batches 1 and 4. The
# agent is this demo's own and ends with it; the last line is the report's path.
set -eu

folder=$(mktemp -d "${TMPDIR:-/tmp}/wattline-demo.XXXXXX")
agent=""
finish() {
    [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT INT TERM

target/release/wattline-agent serve --simulated \
    --socket "$folder/agent.sock" --spool "$folder/spool" >"$folder/ready" 2>"$folder/log" &
agent=$!
tries=0
until grep -q '^ready' "$folder/ready"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$agent" 2>/dev/null; then
        cat "$folder/log" >&2
        exit 1
    fi
    sleep 0.1
done

target/release/wattline run --quick --on "unix:$folder/agent.sock"
