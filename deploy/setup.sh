#!/bin/sh
# Installs what building and testing need, where it is absent: a C compiler
# (SQLite is compiled in), OpenSSH's server and client (the tests reach an agent
# over a real sshd on loopback) and systemd-analyze (they score the units).
# Debian and Ubuntu; as root or by sudo.
# Rust itself comes from rustup and is not touched.
set -eu

if ! command -v cargo >/dev/null 2>&1; then
    echo "error: cargo is not on the PATH" >&2
    echo "try: install Rust with rustup, then open a new shell" >&2
    exit 1
fi

missing=""
command -v cc >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1 ||
    missing="$missing build-essential"
command -v ssh >/dev/null 2>&1 || missing="$missing openssh-client"
[ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
command -v systemd-analyze >/dev/null 2>&1 || missing="$missing systemd"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "error: missing here:$missing" >&2
    echo "try: install them with this system's package tool" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || {
        echo "error: missing here:$missing" >&2
        echo "try: as root: apt-get install$missing" >&2
        exit 1
    }
    as_root="sudo"
fi
echo "installing:$missing" >&2
$as_root apt-get update -qq >&2
# The list is meant to be split.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >&2
