#!/usr/bin/env bash
# Installs the package that cross/package.sh made in a fresh Debian 12, and looks at what it brought: the account, the unit, a
# prompt made as that account, an upgrade, removal. Root only (chroot).
#
#     cross/package-test.sh [amd64|arm64|armhf]
#
# amd64 (unless another is named) is installed in a chroot; that Debian is then booted with its systemd under qemu, starts the
# service on drawn pictures, stops it as a fault would, and looks at whether it is watched. The others are installed in a
# Debian that qemu runs, as a Cortex-A72. The console's log is left in target/box/.
set -euo pipefail
cd "$(dirname "$0")/.."
source cross/toolchain.sh
source cross/box/kernel.sh

name="${1:-amd64}"
case "$name" in
amd64) target=x86_64-unknown-linux-gnu processor=amd64 machine="x86_64 -machine q35 -cpu max" console=ttyS0 ;;
arm64) target=aarch64-unknown-linux-gnu processor=arm64 machine="aarch64 -machine virt -cpu cortex-a72" console=ttyAMA0 ;;
# The kernel of 64 bits runs programs of 32.
armhf) target=armv7-unknown-linux-gnueabihf processor=arm64 machine="aarch64 -machine virt -cpu cortex-a72" console=ttyAMA0 ;;
*)
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
package="$(ls -t target/cross/edge-rlp_*_"$name".deb 2>/dev/null | head -1)"
if [ -z "$package" ]; then
    echo "error: there is no package: cross/build.sh $target && cross/package.sh $target" >&2
    exit 1
fi
[ "$(id -u)" = 0 ] || { echo "error: only root can make a chroot" >&2; exit 1; }
needed debootstrap make gcc kmod cpio e2fsprogs
if [ "$name" = amd64 ]; then
    needed qemu-system-x86
    kind=() include=systemd,systemd-sysv,adduser
else
    # What is unpacked here is configured there.
    needed qemu-system-arm gcc-aarch64-linux-gnu
    kind=(--foreign) include=adduser
fi
box_kernel "$processor"

fresh="$tools/debian-$name"
if [ ! -e "$fresh/ready" ]; then
    rm -rf "$fresh"
    debootstrap "${kind[@]}" --arch="$name" --variant=minbase --include=$include bookworm "$fresh" \
        "$(debian_server)" >&2
    touch "$fresh/ready"
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
root="$work/root"
log="target/box/package-$name.log"
mkdir -p target/box
cp -a "$fresh" "$root"
cp "$package" "$root/root/edge-rlp.deb"
cp cross/package/inside.sh "$root/root/"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

# debian_box SECONDS FIRST...: boots that Debian; FIRST is its first process.
debian_box() {
    local seconds="$1" files="$work/files" module
    shift
    mke2fs -q -t ext4 -d "$root" "$work/disk" 1500M >&2
    mkdir -p "$files"/{bin,modules,proc,sys,dev,debian}
    cp "$kernel/root/bin/busybox" "$files/bin/"
    for module in virtio_pci virtio_mmio virtio_blk ext4; do
        box_module "$files/modules" "$module"
    done
    cat >"$files/init" <<INIT
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/\$module"; done </modules/order
mount -t ext4 /dev/vda /debian
exec switch_root /debian $*
INIT
    chmod +x "$files/init"
    (cd "$files" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"
    # shellcheck disable=SC2086 # a machine and its flags
    timeout "$seconds" qemu-system-$machine -accel tcg -m 768 -nographic -no-reboot -net none \
        -drive "file=$work/disk,format=raw,if=virtio" -kernel "$kernel/vmlinuz" -initrd "$work/initrd" \
        -append "console=$console quiet panic=-1 systemd.show_status=0" </dev/null 2>&1 | tr -d '\r' >>"$log" || true
}

: >"$log"
if [ "$name" = amd64 ]; then
    inside sh /root/inside.sh install >>"$log" 2>&1
    {
        inside systemd-analyze verify /lib/systemd/system/edge-rlp-classify@.service /lib/systemd/system/edge-rlp.service 2>&1 &&
            echo "ok systemd finds nothing wrong with the unit" || echo "FAIL systemd finds something wrong with the unit"
        inside systemd-analyze security --offline=yes /lib/systemd/system/edge-rlp-classify@.service /lib/systemd/system/edge-rlp.service 2>/dev/null | grep '^→' || true
    } >>"$log"
    cp cross/package/look.sh "$root/root/"
    cp cross/package/look.service "$root/etc/systemd/system/"
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    ln -s ../look.service "$root/etc/systemd/system/multi-user.target.wants/look.service"
    debian_box 1500 /lib/systemd/systemd
    inside sh /root/inside.sh remove >>"$log" 2>&1
else
    cp cross/package/first.sh "$root/root/"
    debian_box 2400 /bin/sh /root/first.sh
fi
grep '^ok\|^FAIL\|^    \|edge-rlp\[\|looked\|^→' "$log"
if ! grep -q '^looked' "$log"; then
    echo "error: the box did not come to its end; see $log" >&2
    exit 1
fi
echo "$(grep -c '^ok' "$log") passed, $(grep -c '^FAIL' "$log") failed"
! grep -q '^FAIL' "$log"
