#!/bin/sh
# What `wattline deploy` does on a board, as root.
#
#   board.sh install TAR SHA256 USER  TAR becomes the current version
#   board.sh rollback                 the version before becomes the current one
#   board.sh remove                   all but the records goes
#   board.sh guard                    before each start of the service: a new version that
#                                     keeps failing is put back
#   board.sh proven                   after a start: the current version is good
#   board.sh gate on listen|dial ADDRESS NAME PIN
#                                     hosts come over TLS as well; PIN is NAME's, a host's
#   board.sh gate off                 … no more; keys and pins stay
#   board.sh keys VERB …              `wattline-agent keys` on the gate's own
#
# Versions lie in /opt/wattline/versions/; the links `current` and `previous` are
# moved atomically. What lies outside /opt/wattline is listed in `outside` and is
# copied from the current version. Nothing is changed there before the new version
# has been unpacked, checked and run once. Whatever step fails, all is put back as it
# was, and the version before runs: `undo` stands at every exit until `settled`.
# Standard output: lines `done …`, `kept …`, `pin …`, `because …`, `error …` for the host.
set -eu
# A cut link must not stop half-way: the host reads the outcome when it is back.
trap '' PIPE HUP

# WATTLINE_ROOT stands for /; the tests of a machine without systemd set it.
root=${WATTLINE_ROOT:-}
home=$root/opt/wattline
socket=$root/run/wattline/agent.sock
unit=wattline-agent.service
gate_unit=wattline-gate.service
gate_conf=$root/etc/wattline/gate.env
gate_keys=$root/var/lib/wattline-gate
before=$home/.before
sandboxed="$unit wattline-runner@.service wattline-board@.service $gate_unit"
starting="starting the services"
# Starts of a version that nobody has seen work, before it is put back.
starts_max=5
# A board under load needs its time to open a large spool.
health_tries=30

# What lies outside the home, as FROM (in a version) and TO.
outside() {
    say "board/wattline-agent.service $root/etc/systemd/system/$unit
board/10-deploy.conf $root/etc/systemd/system/$unit.d/10-deploy.conf
board/wattline-runner.socket $root/etc/systemd/system/wattline-runner.socket
board/wattline-runner@.service $root/etc/systemd/system/wattline-runner@.service
board/10-deploy-runner.conf $root/etc/systemd/system/wattline-runner@.service.d/10-deploy.conf
board/wattline-board.socket $root/etc/systemd/system/wattline-board.socket
board/wattline-board@.service $root/etc/systemd/system/wattline-board@.service
board/10-deploy-board.conf $root/etc/systemd/system/wattline-board@.service.d/10-deploy.conf
board/wattline-gate.service $root/etc/systemd/system/wattline-gate.service
board/10-deploy-gate.conf $root/etc/systemd/system/wattline-gate.service.d/10-deploy.conf
board/wattline.sysusers.conf $root/etc/sysusers.d/wattline.conf
board/70-wattline.rules $root/etc/udev/rules.d/70-wattline.rules
board/modules-load.conf $root/etc/modules-load.d/wattline.conf
board/wattline.tmpfiles.conf $root/etc/tmpfiles.d/wattline.conf"
    # systemd before 239 (JetPack 4) has drop-ins of its own; why is said in them.
    version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    if [ "${version:-239}" -lt 239 ]; then
        for name in $sandboxed; do
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
link() { [ ! -L "$home/$1" ] || readlink "$home/$1"; }
point() { # NAME TARGET; an empty target: no link
    rm -f "$home/.$1.new"
    if [ -z "$2" ]; then
        rm -f "$home/$1"
        return
    fi
    ln -s "$2" "$home/.$1.new"
    mv -T "$home/.$1.new" "$home/$1"
}
place() { # FROM TO, whole or not at all
    mkdir -p "${2%/*}"
    cp -p "$1" "$2.new"
    mv "$2.new" "$2"
}

# Copies what lies outside from the current version, and lets the system read it. What
# a version before did not have, goes.
wear() {
    outside | while read -r from to; do
        if [ -f "$home/current/$from" ]; then
            place "$home/current/$from" "$to"
            chmod 0644 "$to"
        else
            rm -f "$to"
        fi
    done
    mkdir -p "$root/usr/local/bin"
    ln -sfn "$home/current/bin/wattline-agent" "$root/usr/local/bin/wattline-agent"
    sync
    systemctl daemon-reload
}

# From here to `settled` whatever ends this script puts all back.
remember() {
    had_home=1
    [ -d "$home" ] || had_home=
    unpacked="" switched="" link_outside="" step="making ready"
    trap undo EXIT
    trap 'exit 11' INT TERM
    mkdir -p "$home"
    rm -rf "$before"
    mkdir "$before"
    link current >"$before/current"
    link previous >"$before/previous"
    outside | while read -r _ to; do
        if [ -f "$to" ]; then
            mkdir -p "$before/files${to%/*}"
            cp -p "$to" "$before/files$to"
        fi
    done
    link_outside=$(readlink "$root/usr/local/bin/wattline-agent" 2>/dev/null || :)
}
settled() {
    trap - EXIT
    trap '' INT TERM
    rm -rf "$before" "$home/.hello" || :
}
undo() {
    code=$?
    trap - EXIT
    trap '' INT TERM
    set +e
    # A step that failed without words of its own.
    case $code/$step in
    10/* | 11/* | 12/*) ;;
    */"$starting")
        why
        say "error the new version does not answer: it is not started"
        ;;
    *) say "error a step failed: $step" ;;
    esac
    old=$(cat "$before/current" 2>/dev/null)
    if [ -n "$switched" ]; then put_back; fi
    [ -z "$unpacked" ] || rm -rf "$home/versions/.new" "${home:?}/versions/$unpacked"
    rm -rf "$before" "$home/.hello" "$home/unproven" "$home/starts"
    rmdir "$home/versions" 2>/dev/null
    [ -n "$had_home" ] || rm -rf "$home"
    [ -n "$switched" ] || exit "$(is_named "$code" 11)"
    systemctl daemon-reload
    if [ -z "$old" ]; then
        say "because nothing was there before, and nothing is there now"
        exit 11
    fi
    systemctl restart wattline-runner.socket
    open_board
    systemctl restart "$unit"
    restart_gate
    healthy || {
        why
        say "error the version before does not answer either"
        exit 13
    }
    rm -f "$home/.hello"
    say "because the version before runs again"
    exit "$(is_named "$code" 12)"
}
# A code that the host knows, else FALLBACK.
is_named() { case $1 in 10 | 11 | 12) echo "$1" ;; *) echo "$2" ;; esac }
put_back() {
    if [ -z "$old" ]; then
        systemctl disable --now --quiet "$unit" wattline-runner.socket wattline-board.socket
    fi
    point current "$old"
    point previous "$(cat "$before/previous")"
    outside | while read -r _ to; do
        if [ -f "$before/files$to" ]; then place "$before/files$to" "$to"; else rm -f "$to"; fi
        rm -f "$to.new"
        case $to in *.d/*) rmdir "${to%/*}" 2>/dev/null || : ;; esac
    done
    if [ -n "$link_outside" ]; then
        ln -sfn "$link_outside" "$root/usr/local/bin/wattline-agent"
    else
        rm -f "$root/usr/local/bin/wattline-agent"
    fi
    sync
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
    journalctl --unit "${1:-$unit}" --lines 5 --no-pager --output cat 2>/dev/null |
        sed 's/^/because /' || :
}

install() { # TAR SHA256 USER
    tar=$1 sha=$2 user=$3
    version=$(printf %.16s "$sha")
    printf '%s  %s\n' "$sha" "$tar" | sha256sum -c >/dev/null 2>&1 ||
        stop 11 "the uploaded file is not what was sent"
    check_room
    remember
    unpack
    add_users "$user"
    old=$(link current)
    if [ "$old" = "versions/$version" ]; then
        if answers; then
            step="writing what lies outside" switched=1
            wear
            settled
            say "kept version $version: it runs already"
            exit 0
        fi
        old=$(link previous)
    fi
    switch_to "versions/$version" "$old"
    say "done version $version runs"
}

start_units() {
    systemctl enable --quiet "$unit" wattline-runner.socket
    systemctl restart wattline-runner.socket
    open_board
    systemctl restart "$unit"
    restart_gate
}

# Clocks can be held only where this is there; a version before it runs without.
open_board() {
    [ -f "$root/etc/systemd/system/wattline-board.socket" ] || return 0
    systemctl enable --quiet wattline-board.socket
    systemctl restart wattline-board.socket
}
# Where somebody opened it; hosts that come by ssh need none.
restart_gate() {
    [ -f "$gate_conf" ] || return 0
    systemctl try-restart "$gate_unit" || :
}

# Before anything is written.
check_room() {
    if [ -f "$home/versions/$version/complete" ]; then return; fi
    size=$(wc -c <"$tar") || stop 11 "the uploaded file cannot be read"
    need=$((size * 2 / 1024 + 1024))
    where=$home
    while [ ! -d "$where" ] && [ "$where" != / ]; do where=$(dirname "$where"); done
    free=$(df -Pk "$where" | awk 'NR == 2 { print $4 }') || free=""
    [ "${free:-0}" -gt "$need" ] || stop 10 "$where has ${free:-no} KiB free, $need are needed"
}

unpack() {
    if [ -f "$home/versions/$version/complete" ]; then return; fi
    step="unpacking the bundle" unpacked=$version
    new=$home/versions/.new
    mkdir -p "$home/versions"
    rm -rf "$new"
    mkdir "$new"
    tar -C "$new" -xf "$tar" || stop 11 "the bundle cannot be unpacked in $home"
    chown -R 0:0 "$new" 2>/dev/null || :
    "$new/bin/wattline-agent" --version >/dev/null 2>"$home/.hello" || {
        sed 's/^/because /' "$home/.hello" | head -3
        stop 11 "wattline-agent does not start on this board"
    }
    : >"$new/complete"
    sync
    rm -rf "$home/versions/$version"
    mv "$new" "$home/versions/$version"
}

add_users() {
    step="making users and groups"
    conf=$home/versions/$version/board/wattline.sysusers.conf
    if [ -z "$root" ]; then
        systemd-sysusers "$conf" || stop 11 "the user wattline cannot be made"
        [ "$1" = root ] || usermod -a -G wattline "$1" ||
            stop 11 "$1 cannot be added to the group wattline"
    fi
}

switch_to() { # TARGET OLD
    step="moving the links" switched=1
    printf '%s\n' "$2" >"$home/unproven"
    rm -f "$home/starts"
    if [ -n "$2" ] && [ "$2" != "$1" ]; then point previous "$2"; fi
    point current "$1"
    step="writing what lies outside"
    wear
    # The agent looks for rails at its start: their nodes are there by then.
    reload_devices || :
    step=$starting
    start_units
    step="waiting for its hello"
    healthy || {
        why
        stop 12 "the new version does not answer"
    }
    rm -f "$home/unproven" "$home/starts"
    settled
    # It runs: what is left is tidying.
    keep_two || :
}

# Device nodes get the group that the new rules name. A board without udev has none.
reload_devices() {
    [ -z "$root" ] || return 0
    systemd-tmpfiles --create /etc/tmpfiles.d/wattline.conf 2>/dev/null || :
    udevadm control --reload 2>/dev/null || :
    modprobe i2c-dev 2>/dev/null || :
    udevadm trigger --subsystem-match=i2c-dev --subsystem-match=gpio --subsystem-match=hwmon \
        --subsystem-match=powercap 2>/dev/null || :
    udevadm settle --timeout=5 2>/dev/null || :
}

keep_two() {
    kept=$(link current) && kept="$kept $(link previous)" || return 0
    for folder in "$home"/versions/*; do
        case " $kept " in *" versions/${folder##*/} "*) ;; *) rm -rf "$folder" ;; esac
    done
}

rollback() {
    old=$(link previous) now=$(link current)
    if [ -z "$old" ] || [ ! -d "$home/$old" ]; then stop 10 "there is no version before"; fi
    remember
    switch_to "$old" "$now"
    say "done version ${old#versions/} runs again"
}

remove() {
    [ -d "$home" ] || stop 10 "nothing of Wattline is deployed here"
    systemctl disable --now --quiet "$gate_unit" "$unit" wattline-runner.socket \
        wattline-board.socket 2>/dev/null || :
    outside | while read -r _ to; do rm -f "$to"; done
    for name in $sandboxed; do
        rmdir "$root/etc/systemd/system/$name.d" 2>/dev/null || :
    done
    case $(readlink "$root/usr/local/bin/wattline-agent" 2>/dev/null || :) in
    "$home"/*) rm -f "$root/usr/local/bin/wattline-agent" ;;
    esac
    rm -f "$gate_conf"
    rm -rf "$home" "$gate_keys"
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

# The agent that is installed here, by a deployment or by a package.
agent() {
    for program in "$home/current/bin/wattline-agent" "$root/usr/bin/wattline-agent"; do
        if [ -x "$program" ]; then
            "$program" "$@"
            return
        fi
    done
    stop 10 "nothing of Wattline is installed here"
}
of_gate() { agent keys --keys "$gate_keys" "$@"; }
# The gate's own, and nobody else's.
owned() { [ -n "$root" ] || chown -R wattline-gate:wattline-gate "$gate_keys"; }

keys() {
    of_gate "$@" 2>"$root/run/wattline-keys" || {
        sed -n 's/^error: /because /p; s/^because: /because /p' "$root/run/wattline-keys"
        rm -f "$root/run/wattline-keys"
        stop 11 "the board's keys were not changed"
    }
    rm -f "$root/run/wattline-keys"
    owned
}

gate_on() { # listen|dial ADDRESS NAME PIN
    conf="WATTLINE_GATE_$(printf %s "$1" | tr a-z A-Z)=$2"
    had_keys=1
    [ -d "$gate_keys" ] || had_keys=
    added=$(of_gate add "$3" "$4") || stop 11 "the host's key cannot be kept on the board"
    case $added in *": added") ;; *) added="" ;; esac
    was=$(cat "$gate_conf" 2>/dev/null || :)
    if [ "$was" != "$conf" ] || ! systemctl is-active --quiet "$gate_unit"; then
        said=$(agent gate "--$1" "$2" --keys "$gate_keys" --check 2>&1) || {
            printf '%s\n' "$said" | sed -n 's/^because: /because /p'
            forget_host "$4"
            stop 10 "the gate cannot open at $2"
        }
        owned
        mkdir -p "${gate_conf%/*}"
        printf '%s\n' "$conf" >"$gate_conf.new"
        mv "$gate_conf.new" "$gate_conf"
        if ! { systemctl enable --quiet "$gate_unit" && systemctl restart "$gate_unit" &&
            systemctl is-active --quiet "$gate_unit"; }; then
            why "$gate_unit"
            if [ -n "$was" ]; then
                printf '%s\n' "$was" >"$gate_conf"
                systemctl restart "$gate_unit" || :
            else
                systemctl disable --now --quiet "$gate_unit" || :
                rm -f "$gate_conf"
            fi
            forget_host "$4"
            stop 12 "the gate does not start; it is as it was before"
        fi
    fi
    owned
    pins=$(of_gate show | sed 's/^/pin /')
    # For a host whose terminal this goes to.
    rm -f "${0%/*}/pins"
    say "$pins" | tee "${0%/*}/pins"
    chmod 0644 "${0%/*}/pins"
    say "done the gate is open: $1 $2"
}
forget_host() {
    if [ -z "$had_keys" ]; then
        rm -rf "$gate_keys"
    elif [ -n "$added" ]; then
        of_gate revoke "$1" >/dev/null || :
    fi
}
gate_off() {
    systemctl disable --now --quiet "$gate_unit" || stop 11 "the gate cannot be closed"
    rm -f "$gate_conf"
    say "done the gate is closed; its keys stay in $gate_keys"
}

case ${1:-} in
install)
    [ $# -eq 4 ] || stop 10 "usage: board.sh install TAR SHA256 USER"
    install "$2" "$3" "$4"
    ;;
keys)
    shift
    keys "$@"
    ;;
gate)
    case ${2:-}/$# in
    on/6) gate_on "$3" "$4" "$5" "$6" ;;
    off/2) gate_off ;;
    *) stop 10 "usage: board.sh gate on listen|dial ADDRESS NAME PIN | gate off" ;;
    esac
    ;;
rollback | remove | guard | proven) "$1" ;;
*) stop 10 "usage: board.sh install TAR SHA256 USER | rollback | remove | guard | proven | gate | keys" ;;
esac
