#!/usr/bin/env bash
# Builds Debian packages and tarballs of Wattline into target/packages/.
#
#   deploy/packages.sh [--arch amd64|arm64]… [--programs DIR] [--pages DIR] [--out DIR]
#
# For each architecture (default: both):
#   wattline-agent_VERSION_ARCH.deb     the agent on a board: program, service, devices
#   wattline-agent_VERSION_ARCH.tar.gz  the same with install.sh, for boards without dpkg
#   wattline_VERSION_ARCH.deb           the host's program, and agents to bring to boards
#
# --programs DIR takes DIR/ARCH/wattline and DIR/ARCH/wattline-agent as they are;
# without it deploy/build-floor.sh builds them for old glibcs. --pages DIR takes man
# pages and completions made before.
#
# dpkg-deb does it, not cargo-deb: a package here holds two processors' programs and
# files of four folders, which a manifest would list twice, and dpkg-deb is on every
# Debian, where cargo-deb would be two hundred crates to compile.
set -euo pipefail
cd "$(dirname "$0")/.."

archs=() programs="" pages="" out=target/packages
while [ $# -gt 0 ]; do
    case $1 in
    --arch) archs+=("${2:?}") ;;
    --programs) programs=${2:?} ;;
    --pages) pages=${2:?} ;;
    --out) out=${2:?} ;;
    *)
        echo "error: unknown argument $1" >&2
        sed -n '4s/^# */try: /p' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done
[ ${#archs[@]} -gt 0 ] || archs=(amd64 arm64)
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# The same sources make the same bytes: files are as old as the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

machine_of() {
    case $1 in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *)
        echo "error: no packages for $1" >&2
        echo "try: --arch amd64 or --arch arm64" >&2
        exit 2
        ;;
    esac
}
put() { install -D --mode="$1" "$2" "$3"; } # MODE FROM TO

# Libraries that a program asks for, in the words of Debian and Ubuntu since 18.04.
depends() { # PROGRAM
    local glibc library
    glibc=$(readelf --version-info --wide "$1" | sed -n 's/.*Name: GLIBC_\([0-9.]*\) .*/\1/p' | sort -uV | tail -n 1)
    printf 'libc6 (>= %s)' "$glibc"
    for library in $(readelf --dynamic --wide "$1" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'); do
        case $library in
        libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | ld-linux*) ;;
        libgcc_s.so.1) printf ', libgcc-s1 | libgcc1' ;;
        *)
            echo "error: no package is known that holds $library" >&2
            return 1
            ;;
        esac
    done
}

# Pages, completions and papers of PROGRAM below TREE.
papers() { # PROGRAM TREE
    local program=$1 tree=$2 doc=$2/usr/share/doc/$1
    for page in "$pages/$program"/man1/*.1; do
        put 0644 "$page" "$tree/usr/share/man/man1/${page##*/}"
    done
    put 0644 "$pages/$program/completions/$program.bash" "$tree/usr/share/bash-completion/completions/$program"
    put 0644 "$pages/$program/completions/_$program" "$tree/usr/share/zsh/vendor-completions/_$program"
    put 0644 "$pages/$program/completions/$program.fish" "$tree/usr/share/fish/vendor_completions.d/$program.fish"
    mkdir -p "$doc"
    awk '/^@MIT@$/ { while ((getline line < mit) > 0) print line == "" ? " ." : " " line; next } { print }' \
        mit=LICENSE-MIT deploy/package/copyright >"$doc/copyright"
    {
        echo "$program ($version) unstable; urgency=medium"
        echo
        echo "  * See CHANGELOG.md of the sources."
        echo
        echo " -- The Wattline authors <wattline@users.noreply.github.com>  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
    } >"$doc/changelog"
    gzip -9n "$tree"/usr/share/man/man1/*.1 "$doc/changelog"
    chmod 0644 "$doc"/* "$tree"/usr/share/man/man1/*
}

agent_tree() { # PROGRAM TREE
    local program=$1 tree=$2 unit
    put 0755 "$program" "$tree/usr/bin/wattline-agent"
    for unit in wattline-{agent,gate}.service wattline-{runner,board}.socket wattline-{runner,board}@.service; do
        put 0644 "systemd/$unit" "$tree/usr/lib/systemd/system/$unit"
    done
    for unit in wattline-{agent,gate}.service wattline-{runner,board}@.service; do
        put 0644 "systemd/237/$unit.conf" "$tree/usr/lib/wattline/systemd-237/$unit.conf"
    done
    put 0644 systemd/wattline.sysusers.conf "$tree/usr/lib/sysusers.d/wattline.conf"
    put 0644 systemd/wattline.tmpfiles.conf "$tree/usr/lib/tmpfiles.d/wattline.conf"
    put 0644 deploy/board/70-wattline.rules "$tree/usr/lib/udev/rules.d/70-wattline.rules"
    put 0644 deploy/board/modules-load.conf "$tree/usr/lib/modules-load.d/wattline.conf"
    put 0755 deploy/package/board-setup.sh "$tree/usr/lib/wattline/board-setup.sh"
    put 0644 deploy/agent.toml "$tree/usr/share/wattline/agent.toml"
    for unit in deploy/boards/*.toml; do put 0644 "$unit" "$tree/usr/share/wattline/boards/${unit##*/}"; done
    papers wattline-agent "$tree"
}

# CONTROL is agent or host; then the maintainer scripts of the package.
pack() { # CONTROL ARCH TREE DEPENDS [SCRIPT…]
    local control=$1 arch=$2 tree=$3 size name script
    size=$(du -sk --apparent-size "$tree" | cut -f1)
    mkdir -p "$tree/DEBIAN"
    sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@DEPENDS@/$4/" \
        "deploy/package/$control.control" >"$tree/DEBIAN/control"
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
    for script in "${@:5}"; do put 0755 "deploy/package/$script" "$tree/DEBIAN/$script"; done
    chmod 0644 "$tree/DEBIAN/control" "$tree/DEBIAN/md5sums"
    chmod -R u=rwX,go=rX "$tree"
    name=$(sed -n 's/^Package: //p' "$tree/DEBIAN/control")_${version}_$arch.deb
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$out/$name" >/dev/null
    echo "$out/$name"
}

tarball() { # ARCH TREE
    local name=wattline-agent_${version}_$1
    mkdir -p "$work/$name/files"
    cp -a "$2/usr" "$work/$name/files/"
    put 0755 deploy/package/install.sh "$work/$name/install.sh"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        -C "$work" -c "$name" | gzip -9n >"$out/$name.tar.gz"
    echo "$out/$name.tar.gz"
}

if [ -z "$pages" ]; then
    cargo build --quiet --release --locked --package wattline-pages
    pages=$work/pages
    "${CARGO_TARGET_DIR:-target}/release/wattline-pages" "$pages"
fi
for arch in "${archs[@]}"; do
    machine=$(machine_of "$arch")
    if [ -z "$programs" ]; then
        deploy/build-floor.sh "$machine" "target/floor/programs/$arch" wattline-agent wattline >&2
    fi
done
[ -n "$programs" ] || programs=target/floor/programs
for arch in "${archs[@]}"; do
    tree=$work/agent-$arch
    agent_tree "$programs/$arch/wattline-agent" "$tree"
    needs=$(depends "$programs/$arch/wattline-agent")
    tarball "$arch" "$tree"
    pack agent "$arch" "$tree" "$needs" \
        preinst postinst prerm postrm
done
for arch in "${archs[@]}"; do
    tree=$work/host-$arch
    put 0755 "$programs/$arch/wattline" "$tree/usr/bin/wattline"
    # Boards have other processors than desks: every agent that was built comes along.
    for other in "${archs[@]}"; do
        put 0755 "$programs/$other/wattline-agent" "$tree/usr/lib/wattline/boards/$(machine_of "$other")/wattline-agent"
    done
    put 0644 deploy/package/host.lintian-overrides "$tree/usr/share/lintian/overrides/wattline"
    needs=$(depends "$programs/$arch/wattline")
    papers wattline "$tree"
    pack host "$arch" "$tree" "$needs"
done
