#!/usr/bin/env bash
# Builds wattline-agent for 64-bit ARM boards on Debian 12, for glibc 2.27 and
# later (JetPack 4 to 7), into target/release/boards/aarch64/, where
# `wattline deploy` finds it.
#
#   deploy/build-arm64.sh [GLIBC]        default: 2.27
#
# Debian 12 has a current compiler (rustc-web) whose standard library for ARM
# installs beside it; cargo-zigbuild links against the old glibc. About six
# minutes on two cores; root the first time, for the packages.
set -euo pipefail
cd "$(dirname "$0")/.."

floor=${1:-2.27}
target=aarch64-unknown-linux-gnu
venv=${ARM64_VENV:-target/arm64-venv}
out=target/release/boards/aarch64

if [ ! -x /usr/bin/rustc ] || [ ! -d /usr/lib/rustlib/$target ]; then
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    $as_root dpkg --add-architecture arm64
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends \
        rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu \
        g++-aarch64-linux-gnu binutils-aarch64-linux-gnu python3-venv
fi
if [ ! -x "$venv/bin/cargo-zigbuild" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" --quiet install cargo-zigbuild==0.24.0 ziglang==0.17.1
fi

# The environment comes first: cargo-zigbuild finds zig through its own Python.
# Debian's cargo stands before one of rustup.
PATH="$(cd "$venv" && pwd)/bin:/usr/bin:$PATH"
export PATH RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo
cargo-zigbuild zigbuild --release --locked --target "$target.$floor" \
    --target-dir target/arm64 --package wattline-agent --bin wattline-agent

mkdir -p "$out"
cp "target/arm64/$target/release/wattline-agent" "$out/"
aarch64-linux-gnu-strip "$out/wattline-agent"
deploy/glibc-floor.sh "$out/wattline-agent" "$floor"
