#!/bin/sh
# Installs the Wattline agent on a board without dpkg, from the folder that this
# script lies in, or removes it.
#
#   ./install.sh              install or upgrade (as root)
#   ./install.sh --remove     remove all but records, user and /etc/wattline
#   ./install.sh --dry-run    say what would be written
#
# DPKG_ROOT stands for /. The list of what was written is
# /usr/lib/wattline/installed; --remove goes by it alone.
set -eu
root=${DPKG_ROOT:-}
here=$(cd "$(dirname "$0")" && pwd)
list=$root/usr/lib/wattline/installed

stop() {
    echo "error: $1" >&2
    echo "try: $2" >&2
    exit 1
}
files() { (cd "$here/files" && find . -type f | sed 's|^\./||' | LC_ALL=C sort); }

check() {
    if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
        stop "this writes below /usr and needs root" "sudo $0"
    fi
    if [ -e "$root/opt/wattline/current" ]; then
        stop "this board has an agent of \`wattline deploy\` in /opt/wattline" \
            "wattline deploy BOARD --remove (records are kept)"
    fi
    if [ -e "$root/var/lib/dpkg/info/wattline-agent.list" ]; then
        stop "this board has the package wattline-agent" "apt remove wattline-agent"
    fi
}

install_files() {
    "$here/files/usr/bin/wattline-agent" --version >/dev/null ||
        stop "wattline-agent does not start on this board" \
            "take the tarball for this board's processor: $(uname -m)"
    first=first
    before=""
    if [ -f "$list" ]; then
        first=""
        before=$(cat "$list")
    fi
    mkdir -p "${list%/*}"
    # The list comes first, so that a broken installation can be removed.
    { files && printf '%s\n' "$before"; } | sed '/^$/d' | LC_ALL=C sort -u >"$list.new"
    mv "$list.new" "$list"
    files | while read -r file; do
        mkdir -p "$root/${file%/*}"
        # A running program is replaced, not written into.
        cp -p "$here/files/$file" "$root/$file.new"
        mv "$root/$file.new" "$root/$file"
    done
    # What the version before had and this one has not.
    files >"$list.new"
    LC_ALL=C comm -23 "$list" "$list.new" | while read -r file; do rm -f "${root:?}/$file"; done
    mv "$list.new" "$list"
    sync
    "$root/usr/lib/wattline/board-setup.sh" up $first
    echo "installed $("$root/usr/bin/wattline-agent" --version)"
}

remove_files() {
    [ -f "$list" ] || stop "nothing that this script installed is here" "see /usr/bin/wattline-agent"
    "$root/usr/lib/wattline/board-setup.sh" down
    while read -r file; do
        # A list that somebody wrote into cannot reach outside.
        case $file in usr/*) ;; *) continue ;; esac
        case /$file/ in */../*) continue ;; esac
        rm -f "$root/$file"
    done <"$list"
    rm -f "$list"
    find "$root/usr/lib/wattline" "$root/usr/share/wattline" -depth -type d -empty -delete \
        2>/dev/null || :
    if [ -d "$root/run/systemd/system" ]; then
        systemctl daemon-reload || :
        udevadm control --reload 2>/dev/null || :
    fi
    echo "removed; kept $root/var/lib/wattline: records that no host may have"
}

case ${1:-} in
"")
    check
    install_files
    ;;
--remove)
    if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
        stop "this removes files below /usr and needs root" "sudo $0 --remove"
    fi
    remove_files
    ;;
--dry-run) files | sed "s|^|$root/|" ;;
*) stop "unknown argument $1" "$0 [--remove|--dry-run]" ;;
esac
