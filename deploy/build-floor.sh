#!/usr/bin/env bash
# Builds programs for boards whose glibc is older than this machine's.
#
#   deploy/build-floor.sh aarch64|x86_64 OUT PACKAGE…
#
# Programs of PACKAGE (wattline-agent, wattline) for 64-bit ARM ask for glibc 2.27
# at most (JetPack 4 to 7), those for x86 for 2.31, and lie stripped in OUT.
#
# cargo-zigbuild links against the old glibc. For ARM, Debian 12 has a current
# compiler (rustc-web) whose standard library for ARM installs beside it. About six
# minutes each on two cores; root the first time, for Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

machine=${1:?usage: build-floor.sh aarch64|x86_64 OUT PACKAGE…} out=${2:?OUT} && shift 2
case $machine in
aarch64) floor=2.27 strip=aarch64-linux-gnu-strip ;;
x86_64) floor=2.31 strip=strip ;;
*)
    echo "error: no build for $machine" >&2
    echo "try: aarch64 or x86_64" >&2
    exit 2
    ;;
esac
target=$machine-unknown-linux-gnu
venv=${ARM64_VENV:-target/arm64-venv}

if [ "$machine" = aarch64 ] && { [ ! -x /usr/bin/rustc ] || [ ! -d "/usr/lib/rustlib/$target" ]; }; then
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
PATH="$(cd "$venv" && pwd)/bin:$PATH"
if [ "$machine" = aarch64 ]; then
    # Debian's cargo stands before one of rustup.
    PATH="$(cd "$venv" && pwd)/bin:/usr/bin:$PATH"
    export RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo
fi
export PATH
packages=()
for package in "$@"; do packages+=(--package "$package" --bin "$package"); done
cargo-zigbuild zigbuild --release --locked --target "$target.$floor" \
    --target-dir target/floor "${packages[@]}"

mkdir -p "$out"
for package in "$@"; do
    cp "target/floor/$target/release/$package" "$out/"
    "$strip" "$out/$package"
    deploy/glibc-floor.sh "$out/$package" "$floor"
done
