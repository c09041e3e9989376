#!/bin/sh
# Builds wattline-agent for 64-bit ARM boards on Debian 12, for glibc 2.27 and
# later (JetPack 4 to 7), into target/release/boards/aarch64/, where
# `wattline deploy` finds it.
set -eu
cd "$(dirname "$0")/.."
exec deploy/build-floor.sh aarch64 target/release/boards/aarch64 wattline-agent
