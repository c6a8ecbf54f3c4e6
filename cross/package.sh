#!/usr/bin/env bash
# Makes target/cross/edge-rlp_VERSION_ARCHITECTURE.deb of a binary that cross/build.sh made:
#
#     cross/package.sh TARGET [BINARY]
#
# BINARY is target/cross/TARGET/dist/edge-rlp unless given. The package needs adduser and the glibc that the binary was linked
# with, and brings the systemd units edge-rlp-classify@.service and edge-rlp.service, which run as an account of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
source cross/toolchain.sh

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
target="$1"
binary="${2:-target/cross/$target/dist/edge-rlp}"
name="$(debian_name "$target")"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)"
if [ ! -x "$binary" ]; then
    echo "error: $binary is not there; make it with cross/build.sh $target" >&2
    exit 1
fi

glibc="$(readelf --wide --dyn-syms "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)"
libraries="libc6 (>= ${glibc#GLIBC_})"
! readelf --dynamic "$binary" | grep -q libgcc_s || libraries+=", libgcc-s1"
root="$(mktemp -d)"
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D -m 755 "$binary" "$root/usr/bin/edge-rlp"
install -D -m 644 cross/package/edge-rlp-classify@.service cross/package/edge-rlp.service -t "$root/lib/systemd/system"
install -D -m 644 docs/install.md docs/cameras.md docs/shots.md docs/serve.md -t "$root/usr/share/doc/edge-rlp"
cross/sbom.py "$target" >"$root/usr/share/doc/edge-rlp/sbom.cdx.json"
cat >"$root/usr/share/doc/edge-rlp/copyright" <<'COPYRIGHT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: edge-rlp

Files: *
Copyright: the authors of edge-rlp
License: MIT or Apache-2.0
COPYRIGHT
install -d "$root/DEBIAN"
install -m 755 cross/package/postinst cross/package/prerm cross/package/postrm -t "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: edge-rlp
Version: $version
Architecture: $name
Maintainer: the authors of edge-rlp <edge-rlp@localhost>
Depends: $libraries, adduser
Section: video
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Description: a camera that teaches itself its own labels
 Runs a frozen, quantised CLIP on an edge box and adapts it there by tuning a low-rank prompt.
CONTROL
package="target/cross/edge-rlp_${version}_$name.deb"
# xz, not zstd: JetPack 4's dpkg does not know the latter.
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package: $(stat -c %s "$package") bytes"
