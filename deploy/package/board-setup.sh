#!/bin/sh
# What stands around the agent's files on a board: its user, its devices, its
# service. Called by the Debian package and by the tarball's install.sh.
#
#   board-setup.sh up [first]  after the files came: make the user, start the service;
#                          `first` enables it as well
#   board-setup.sh down    before the files go: stop the service
#
# Records in /var/lib/wattline, the user and /etc/wattline are never touched. A
# system that is not running (an image that is being made) is set up for its next
# start. DPKG_ROOT stands for /, as dpkg has it.
set -eu
root=${DPKG_ROOT:-}
units="wattline-agent.service wattline-runner.socket wattline-board.socket"
sandboxed="wattline-agent.service wattline-gate.service wattline-runner@.service wattline-board@.service"

# Whether systemd runs here; the tests say so by a folder.
running() { [ -d "$root/run/systemd/system" ]; }
say() { echo "wattline: $*" >&2; }

# udev before 245 reads /lib alone where /lib is no link into /usr (JetPack 4).
link_rules() {
    if [ -d "$root/lib/udev" ] && [ ! -L "$root/lib" ]; then
        mkdir -p "$root/etc/udev/rules.d"
        ln -sf /usr/lib/udev/rules.d/70-wattline.rules "$root/etc/udev/rules.d/70-wattline.rules"
    fi
}
unlink_rules() {
    link=$root/etc/udev/rules.d/70-wattline.rules
    if [ -L "$link" ]; then rm -f "$link"; fi
}

# A systemd that does not know the sandbox of the units (JetPack 4) gets drop-ins of its
# own; why is said in them.
link_old_systemd() {
    version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    for unit in $sandboxed; do
        folder=$root/etc/systemd/system/$unit.d
        drop=/usr/lib/wattline/systemd-237/$unit.conf
        if [ -n "$version" ] && [ "$version" -lt 239 ]; then
            mkdir -p "$folder"
            ln -sf "$drop" "$folder/20-systemd-237.conf"
        elif [ -L "$folder/20-systemd-237.conf" ]; then
            rm -f "$folder/20-systemd-237.conf"
        fi
    done
}
unlink_old_systemd() {
    for unit in $sandboxed; do
        folder=$root/etc/systemd/system/$unit.d
        if [ -L "$folder/20-systemd-237.conf" ]; then rm -f "$folder/20-systemd-237.conf"; fi
        rmdir "$folder" 2>/dev/null || :
    done
}

up() {
    link_rules
    link_old_systemd
    systemd-sysusers ${root:+--root="$root"} "$root/usr/lib/sysusers.d/wattline.conf"
    systemd-tmpfiles ${root:+--root="$root"} --create "$root/usr/lib/tmpfiles.d/wattline.conf" || :
    # A service that somebody disabled stays so at an upgrade.
    if [ "${1:-}" = first ]; then
        for unit in $units; do
            systemctl ${root:+--root="$root"} --quiet enable "$unit" || say "$unit is not enabled"
        done
    fi
    running || return 0
    systemctl daemon-reload || :
    udevadm control --reload 2>/dev/null || :
    modprobe i2c-dev 2>/dev/null || :
    udevadm trigger --subsystem-match=i2c-dev --subsystem-match=gpio --subsystem-match=hwmon \
        --subsystem-match=powercap 2>/dev/null || :
    for unit in wattline-runner.socket wattline-board.socket wattline-agent.service; do
        if systemctl --quiet is-enabled "$unit"; then
            # The package is installed even where the board's service cannot start.
            systemctl restart "$unit" || say "$unit does not start: journalctl -u $unit"
        fi
    done
    # Off unless somebody opened it.
    systemctl try-restart wattline-gate.service || :
}

down() {
    unlink_old_systemd
    unlink_rules
    for unit in wattline-gate.service $units; do
        if running; then systemctl stop "$unit" || :; fi
        systemctl ${root:+--root="$root"} --quiet disable "$unit" 2>/dev/null || :
    done
}

case ${1:-} in
up) up "${2:-}" ;;
down) down ;;
*)
    echo "usage: board-setup.sh up [first] | down" >&2
    exit 2
    ;;
esac
