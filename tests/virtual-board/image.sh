#!/usr/bin/env bash
# Builds the virtual board's disk from Debian packages, once; prints the folder
# that holds it: disk.img, vmlinuz, initrd, host_key.pub. Debian 12 on amd64, as
# root; 3 to 5 minutes, then at once. A changed script builds a new image.
#
# The guest is Debian's own: kernel, systemd, sshd. Its kernel package lacks three
# drivers, which are compiled here from Debian's kernel source: i2c-virtio (the
# adapter), ina3221 and ina2xx (hwmon). Nothing comes from outside Debian.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wattline/virtual-board
want=$(sha256sum "$here/image.sh" | cut -c1-16)
home=$cache/$want

fail() { printf 'error: %s\ntry: %s\n' "$1" "$2" >&2; exit 1; }
step() { printf 'virtual board: %4d s  %s\n' "$SECONDS" "$*" >&2; }

if [ -e "$home/whole" ]; then
    echo "$home"
    exit 0
fi
[ "$(id -u)" -eq 0 ] || fail "an image is built by root (debootstrap)" "sudo $0"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
[ ! -e "$home/whole" ] || { echo "$home"; exit 0; }

work=$cache/work
log=$cache/image.log
# A root whose /proc or /sys is still mounted must neither be copied nor removed.
unmount() {
    for place in proc sys dev/pts dev; do
        if mountpoint -q "$work/root/$place"; then umount "$work/root/$place"; fi
    done
}
unmount
# Images of other scripts go: each has 700 MB.
find "$cache" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
mkdir -p "$work/kernel" "$home"
trap unmount EXIT
: >"$log"

step "packages"
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>"$log" 2>&1 ||
        fail "these packages cannot be installed: $*" "read $log"
}
install debootstrap e2fsprogs linux-source-6.1 build-essential bc xz-utils

step "root file system"
sites=$(apt-get indextargets --format '$(SITE)' 'Codename: bookworm' 2>/dev/null | sort -u | grep -v security || true)
mirror=$(printf '%s\n' "$sites" | head -n 1)
debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,udev,kmod,openssh-server,iproute2,sudo,initramfs-tools,zstd \
    bookworm "$work/root" ${mirror:+"$mirror"} >>"$log" 2>&1 ||
    fail "debootstrap did not finish" "read $log"
root=$work/root
in_root() { DEBIAN_FRONTEND=noninteractive chroot "$root" "$@" >>"$log" 2>&1; }

# Before the kernel comes: a small initrd is built once, and unpacked at each boot.
mkdir -p "$root/etc/initramfs-tools/conf.d"
echo 'MODULES=list' >"$root/etc/initramfs-tools/conf.d/board"
printf '%s\n' virtio_pci virtio_blk ext4 crc32c_generic >>"$root/etc/initramfs-tools/modules"
in_root apt-get install -y -qq --no-install-recommends linux-image-amd64 ||
    fail "the guest's kernel was not installed" "read $log"
release=$(ls "$root/lib/modules" | head -n 1)

step "drivers for $release"
# The headers of this very release: with others a module is refused.
install "linux-headers-$release"
tar -xf /usr/src/linux-source-6.1.tar.xz -C "$work/kernel" --strip-components=1 \
    linux-source-6.1/drivers/i2c/busses/i2c-virtio.c \
    linux-source-6.1/drivers/hwmon/ina3221.c linux-source-6.1/drivers/hwmon/ina2xx.c
mkdir "$work/modules"
find "$work/kernel" -name '*.c' -exec mv {} "$work/modules/" \;
# i2c-virtio of 6.1 stops waiting when its process is killed, and frees requests
# that the ring still holds: the kernel falls. Here it waits for every request.
sed -i -e '/struct virtio_i2c_req \*req = &reqs\[i\];/a\		wait_for_completion(\&req->completion);' \
    -e '/if (wait_for_completion_interruptible/,/failed = true;/d' \
    -e 's/else if (req->in_hdr.status/if (req->in_hdr.status/' "$work/modules/i2c-virtio.c"
if [ "$(grep -c wait_for_completion "$work/modules/i2c-virtio.c")" != 1 ] ||
    grep -q interruptible "$work/modules/i2c-virtio.c"; then
    fail "i2c-virtio.c is not the file that this script mends" "compare it with Debian's 6.1"
fi
echo 'obj-m := i2c-virtio.o ina3221.o ina2xx.o' >"$work/modules/Makefile"
make -C "/usr/src/linux-headers-$release" M="$work/modules" modules >>"$log" 2>&1 ||
    fail "the drivers do not compile" "read $log"
mkdir -p "$root/lib/modules/$release/extra"
cp "$work"/modules/*.ko "$root/lib/modules/$release/extra/"
in_root depmod "$release"

step "board"
echo vboard >"$root/etc/hostname"
printf '127.0.0.1 localhost vboard\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 defaults,noatime 0 1\n' >"$root/etc/fstab"
mkdir -p "$root/etc/systemd/network" "$root/etc/systemd/journald.conf.d"
printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/10-wire.network"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=32M\n' >"$root/etc/systemd/journald.conf.d/board.conf"
# As a device tree would: the chips that the kernel's drivers hold, and the shunts
# of the agent's simulated INA3221; an INA226 has its driver's own 10 mOhm.
cat >"$root/etc/udev/rules.d/60-chips.rules" <<'RULES'
ACTION=="add", SUBSYSTEM=="i2c", ATTR{name}=="i2c_virtio*", RUN+="/bin/sh -c 'echo ina3221 0x40 >/sys%p/new_device; echo ina226 0x41 >/sys%p/new_device'"
SUBSYSTEM=="hwmon", ATTR{name}=="ina3221", ATTR{shunt1_resistor}="5000", ATTR{shunt2_resistor}="5000", ATTR{shunt3_resistor}="5000"
RULES
# Debian's IIO driver for the INA226 is there as well; a Jetson has the hwmon one.
echo 'blacklist ina2xx_adc' >"$root/etc/modprobe.d/board.conf"
# `board` may become root, `visitor` may not. Both are let in by the key on the
# kernel's command line, which each test makes for itself.
in_root useradd -m -s /bin/bash board
in_root useradd -m -s /bin/bash visitor
echo 'board ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/board"
cat >"$root/usr/local/sbin/board-key" <<'KEY'
#!/bin/sh
exec sed -n 's/.*board\.key=\([^ ]*\).*/ssh-ed25519 \1/p' /proc/cmdline
KEY
chmod 755 "$root/usr/local/sbin/board-key"
cat >"$root/etc/ssh/sshd_config.d/board.conf" <<'SSHD'
AuthorizedKeysCommand /usr/local/sbin/board-key
AuthorizedKeysCommandUser nobody
PasswordAuthentication no
UseDNS no
SSHD
in_root systemctl enable systemd-networkd ssh
in_root systemctl mask systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service
[ -f "$root/etc/ssh/ssh_host_ed25519_key" ] || in_root ssh-keygen -A
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* \
    "$root"/usr/share/locale/* "$root"/usr/share/man/*

step "disk"
unmount
cp "$root"/boot/vmlinuz-* "$home/vmlinuz"
cp "$root"/boot/initrd.img-* "$home/initrd"
cp "$root/etc/ssh/ssh_host_ed25519_key.pub" "$home/host_key.pub"
truncate -s 3G "$home/disk.img"
mke2fs -q -t ext4 -L vboard -E lazy_itable_init=1,root_owner=0:0 -d "$root" "$home/disk.img"
rm -rf "$work"
: >"$home/whole"
step "ready, $(du -h "$home/disk.img" | cut -f1) on disk"
echo "$home"
