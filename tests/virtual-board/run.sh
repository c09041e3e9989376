#!/bin/sh
# The virtual board: installs QEMU where it is absent, builds the image, runs the tests.
#
#   tests/virtual-board/run.sh [virtual_main_job] [virtual_night]   both by default
#   tests/virtual-board/run.sh --prepare       QEMU and image alone: 0 where there are
#
# One guest after another. Debian 12 on amd64, as root.
set -eu
cd "$(dirname "$0")/../.."

if [ "$(id -u)" -ne 0 ]; then
    echo "error: the image is built by root" >&2
    echo "try: sudo make virtual-board" >&2
    exit 1
fi
if ! grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || [ "$(uname -m)" != x86_64 ]; then
    echo "error: the image is built on Debian 12 for amd64 alone" >&2
    echo "try: a container or a machine with it" >&2
    exit 1
fi
if ! command -v qemu-system-x86_64 >/dev/null || ! command -v qemu-img >/dev/null; then
    apt-get update -qq
    # One version of both: a qemu-img from elsewhere may not stand beside Debian's QEMU.
    version=$(apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: //p')
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --allow-downgrades \
        "qemu-system-x86=$version" "qemu-utils=$version" openssh-client
fi
WATTLINE_VIRTUAL_BOARD=$(tests/virtual-board/image.sh)
export WATTLINE_VIRTUAL_BOARD
[ "${1:-}" != --prepare ] || exit 0
[ $# -gt 0 ] || set -- virtual_main_job virtual_night
for test in "$@"; do
    "${CARGO:-cargo}" test --release --locked --workspace --test "$test" \
        -- --include-ignored --nocapture --test-threads 1
done
