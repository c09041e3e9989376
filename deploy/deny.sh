#!/bin/sh
# Checks bans, licences and sources of all dependencies with cargo-deny, which
# is installed below .tools where it is absent. Advisories need the network's
# advisory database and are a separate command: cargo deny check advisories.
set -eu

deny=$(command -v cargo-deny || true)
if [ -z "$deny" ]; then
    deny=.tools/bin/cargo-deny
    [ -x "$deny" ] || cargo install --locked --quiet --root .tools cargo-deny
fi
"$deny" --workspace check bans licenses sources
