#!/bin/sh
# What `wattline deploy` does on a board, as root.
#
#   board.sh install TAR SHA256 USER  TAR becomes the current version
#   board.sh rollback                 the version before becomes the current one
#   board.sh remove                   all but the records goes
#   board.sh guard                    before each start of the service: a new version that
#                                     keeps failing is put back
#   board.sh proven                   after a start: the current version is good
#
# Versions lie in /opt/wattline/versions/; the links `current` and `previous` are
# moved atomically. What lies outside /opt/wattline is listed in `outside` and is
# copied from the current version. Nothing is changed there before the new version
# has been unpacked, checked and run once; from then on a failure puts back what was.
# Standard output: lines `done …`, `kept …`, `because …`, `error …` for the host.
set -eu
# A cut link must not stop half-way: the host reads the outcome when it is back.
trap '' PIPE HUP

# WATTLINE_ROOT stands for /; the tests of a machine without systemd set it.
root=${WATTLINE_ROOT:-}
home=$root/opt/wattline
socket=$root/run/wattline/agent.sock
unit=wattline-agent.service
# Starts of a version that nobody has seen work, before it is put back.
starts_max=5
# A board under load needs its time to open a large spool.
health_tries=30

# What lies outside the home, as FROM (in a version) and TO.
outside() {
    cat <<END
board/wattline-agent.service $root/etc/systemd/system/$unit
board/10-deploy.conf $root/etc/systemd/system/$unit.d/10-deploy.conf
board/wattline-runner.socket $root/etc/systemd/system/wattline-runner.socket
board/wattline-runner@.service $root/etc/systemd/system/wattline-runner@.service
board/10-deploy-runner.conf $root/etc/systemd/system/wattline-runner@.service.d/10-deploy.conf
board/wattline-board.socket $root/etc/systemd/system/wattline-board.socket
board/wattline-board@.service $root/etc/systemd/system/wattline-board@.service
board/10-deploy-board.conf $root/etc/systemd/system/wattline-board@.service.d/10-deploy.conf
board/wattline.sysusers.conf $root/etc/sysusers.d/wattline.conf
board/70-wattline.rules $root/etc/udev/rules.d/70-wattline.rules
board/modules-load.conf $root/etc/modules-load.d/wattline.conf
board/wattline.tmpfiles.conf $root/etc/tmpfiles.d/wattline.conf
END
    # systemd before 239 (JetPack 4) has drop-ins of its own; why is said in them.
    version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    if [ "${version:-239}" -lt 239 ]; then
        for name in "$unit" wattline-runner@.service wattline-board@.service; do
            echo "board/237/$name.conf $root/etc/systemd/system/$name.d/20-systemd-237.conf"
        done
    fi
}

say() { printf '%s\n' "$*" 2>/dev/null || :; }
stop() {
    code=$1
    shift
    say "error $*"
    exit "$code"
}
link() { readlink "$home/$1" 2>/dev/null || :; }
point() { # NAME TARGET
    rm -f "$home/.$1.new"
    ln -s "$2" "$home/.$1.new"
    mv -T "$home/.$1.new" "$home/$1"
}

# Copies what lies outside from the current version, and lets the system read it.
wear() {
    outside | while read -r from to; do
        mkdir -p "${to%/*}"
        cp "$home/current/$from" "$to.new"
        chmod 0644 "$to.new"
        mv "$to.new" "$to"
    done
    mkdir -p "$root/usr/local/bin"
    ln -sfn "$home/current/bin/wattline-agent" "$root/usr/local/bin/wattline-agent"
    sync
    systemctl daemon-reload
}

# True once the service runs, answers a hello, and still does so a moment later.
healthy() {
    tries=0
    while [ "$tries" -lt "$health_tries" ]; do
        tries=$((tries + 1))
        if answers; then
            sleep 2
            answers && return 0
        fi
        sleep 1
    done
    return 1
}
answers() {
    systemctl is-active --quiet "$unit" &&
        "$home/current/bin/wattline-agent" hello --socket "$socket" >/dev/null 2>"$home/.hello"
}
# Why it is not healthy, in the words of the service.
why() {
    [ ! -s "$home/.hello" ] || sed 's/^/because /' "$home/.hello" 2>/dev/null | head -3 || :
    journalctl --unit "$unit" --lines 5 --no-pager --output cat 2>/dev/null | sed 's/^/because /' || :
}

install() { # TAR SHA256 USER
    tar=$1 sha=$2 user=$3
    version=$(printf %.16s "$sha")
    old=$(link current)
    printf '%s  %s\n' "$sha" "$tar" | sha256sum -c >/dev/null 2>&1 ||
        stop 11 "the uploaded file is not what was sent"
    unpack
    add_users "$user"
    if [ "$old" = "versions/$version" ]; then
        if answers; then
            wear
            say "kept version $version: it runs already"
            exit 0
        fi
        old=$(link previous)
    fi
    switch_to "versions/$version" "$old"
    keep_two
    say "done version $version runs"
}

start_units() {
    systemctl enable --quiet "$unit" wattline-runner.socket &&
        systemctl restart wattline-runner.socket && open_board && systemctl restart "$unit"
}

# Clocks can be held only where this is there; a version before it runs without.
open_board() {
    [ -f "$root/etc/systemd/system/wattline-board.socket" ] || return 0
    systemctl enable --quiet wattline-board.socket && systemctl restart wattline-board.socket
}

unpack() {
    if [ -f "$home/versions/$version/complete" ]; then return; fi
    need=$(($(wc -c <"$tar") * 2 / 1024 + 1024))
    mkdir -p "$home/versions"
    free=$(df -Pk "$home" | awk 'NR == 2 { print $4 }')
    [ "$free" -gt "$need" ] ||
        stop 10 "$home has $free KiB free and needs $need"
    new=$home/versions/.new
    rm -rf "$new"
    mkdir "$new"
    tar -C "$new" -xf "$tar" || stop 11 "the bundle cannot be unpacked in $home"
    chown -R 0:0 "$new" 2>/dev/null || :
    "$new/bin/wattline-agent" --version >/dev/null 2>"$home/.hello" || {
        sed 's/^/because /' "$home/.hello" | head -3
        rm -rf "$new"
        stop 11 "wattline-agent does not start on this board"
    }
    : >"$new/complete"
    sync
    rm -rf "$home/versions/$version"
    mv "$new" "$home/versions/$version"
}

add_users() {
    conf=$home/versions/$version/board/wattline.sysusers.conf
    if [ -z "$root" ]; then
        systemd-sysusers "$conf" || stop 11 "the user wattline cannot be made"
        [ "$1" = root ] || usermod -a -G wattline "$1" ||
            stop 11 "$1 cannot be added to the group wattline"
    fi
}

switch_to() { # TARGET OLD
    before=$(link previous)
    printf '%s\n' "$2" >"$home/unproven"
    rm -f "$home/starts"
    if [ -n "$2" ] && [ "$2" != "$1" ]; then point previous "$2"; fi
    point current "$1"
    if wear && start_units && healthy; then
        rm -f "$home/unproven" "$home/starts"
        reload_devices
        return
    fi
    why
    if [ -z "$2" ] || [ ! -d "$home/$2" ]; then
        systemctl disable --now --quiet "$unit" wattline-runner.socket wattline-board.socket || :
        rm -f "$home/current" "$home/unproven"
        stop 13 "the agent does not answer; it is stopped, and nothing was there before"
    fi
    point current "$2"
    rm -f "$home/unproven" "$home/starts"
    rm -f "$home/previous"
    if [ "$before" = "$1" ] || [ -z "$before" ]; then
        [ "$before" = "$1" ] || rm -rf "${home:?}/$1"
    else
        point previous "$before"
        rm -rf "${home:?}/$1"
    fi
    wear
    systemctl restart "$unit" || :
    healthy || stop 13 "the agent does not answer, and neither does the version before"
    stop 12 "the new version does not answer; the version before runs again"
}

# Device nodes get the group that the new rules name. A board without udev has none.
reload_devices() {
    [ -z "$root" ] || return 0
    systemd-tmpfiles --create /etc/tmpfiles.d/wattline.conf 2>/dev/null || :
    udevadm control --reload 2>/dev/null || :
    modprobe i2c-dev 2>/dev/null || :
    udevadm trigger --subsystem-match=i2c-dev --subsystem-match=gpio --subsystem-match=hwmon \
        --subsystem-match=powercap 2>/dev/null || :
}

keep_two() {
    for folder in "$home"/versions/*; do
        name=versions/${folder##*/}
        [ "$name" = "$(link current)" ] || [ "$name" = "$(link previous)" ] || rm -rf "$folder"
    done
}

rollback() {
    old=$(link previous) now=$(link current)
    if [ -z "$old" ] || [ ! -d "$home/$old" ]; then stop 10 "there is no version before"; fi
    switch_to "$old" "$now"
    say "done version ${old#versions/} runs again"
}

remove() {
    [ -d "$home" ] || stop 10 "nothing of Wattline is deployed here"
    systemctl disable --now --quiet "$unit" wattline-runner.socket wattline-board.socket 2>/dev/null || :
    outside | while read -r _ to; do rm -f "$to"; done
    for name in "$unit" wattline-runner@.service wattline-board@.service; do
        rmdir "$root/etc/systemd/system/$name.d" 2>/dev/null || :
    done
    case $(readlink "$root/usr/local/bin/wattline-agent" 2>/dev/null || :) in
    "$home"/*) rm -f "$root/usr/local/bin/wattline-agent" ;;
    esac
    rm -rf "$home"
    systemctl daemon-reload || :
    say "done the agent is removed"
    say "kept $root/var/lib/wattline: records that no host may have; remove it by hand"
}

# A power cut may fall between the switch and its check; then nobody watches.
guard() {
    [ -f "$home/unproven" ] || return 0
    starts=$(($(cat "$home/starts" 2>/dev/null || echo 0) + 1))
    echo "$starts" >"$home/starts"
    [ "$starts" -gt "$starts_max" ] || return 0
    old=$(cat "$home/unproven")
    if [ -n "$old" ] && [ -d "$home/$old" ]; then
        point current "$old"
        wear
    fi
    rm -f "$home/unproven" "$home/starts"
}

proven() { rm -f "$home/unproven" "$home/starts"; }

case ${1:-} in
install)
    [ $# -eq 4 ] || stop 10 "usage: board.sh install TAR SHA256 USER"
    install "$2" "$3" "$4"
    ;;
rollback | remove | guard | proven) "$1" ;;
*) stop 10 "usage: board.sh install TAR SHA256 USER | rollback | remove | guard | proven" ;;
esac
