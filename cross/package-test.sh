#!/usr/bin/env bash
# Installs the amd64 package that cross/package.sh made in a fresh Debian 12, as a chroot, and looks at what it brought: the
# account, the unit, a prompt made as that account, an upgrade, removal. Then boots that Debian with its systemd under qemu,
# starts the service on drawn pictures, stops it as a fault would, and looks at whether it is watched. Root only (chroot).
#
#     cross/package-test.sh
#
# The console's log is left in target/box/package.log.
set -euo pipefail
cd "$(dirname "$0")/.."
source cross/toolchain.sh
source cross/box/kernel.sh

package="$(ls -t target/cross/edge-rlp_*_amd64.deb 2>/dev/null | head -1)"
if [ -z "$package" ]; then
    echo "error: there is no package: cross/build.sh x86_64-unknown-linux-gnu && cross/package.sh x86_64-unknown-linux-gnu" >&2
    exit 1
fi
[ "$(id -u)" = 0 ] || { echo "error: only root can make a chroot" >&2; exit 1; }
needed debootstrap make gcc kmod cpio e2fsprogs qemu-system-x86
box_kernel amd64

fresh="$tools/debian-amd64"
if [ ! -e "$fresh/ready" ]; then
    rm -rf "$fresh"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,adduser bookworm "$fresh" \
        "$(awk '/^URIs:/ { print $2; exit }' "$tools/box/lists-amd64/etc/sources.list.d/debian.sources")" >&2
    touch "$fresh/ready"
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
root="$work/root"
cp -a "$fresh" "$root"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
as_account() { inside setpriv --reuid edge-rlp --regid edge-rlp --init-groups env EDGE_RLP_HOME=/var/lib/edge-rlp "$@"; }
check() {
    local told="$1"
    shift
    if "$@"; then echo "ok $told"; else echo "FAIL $told" && exit 1; fi
}

cp "$package" "$root/root/edge-rlp.deb"
check "it installs" inside dpkg -i /root/edge-rlp.deb
check "the account is in group video: $(inside id edge-rlp)" grep -q video <<<"$(inside id -nG edge-rlp)"
check "systemd finds nothing wrong with the unit" inside systemd-analyze verify /lib/systemd/system/edge-rlp-classify@.service
inside systemd-analyze security --offline=yes /lib/systemd/system/edge-rlp-classify@.service 2>/dev/null | tail -1
as_account edge-rlp adapt --camera demo:squeezed --shots 6 --views 1 --force --quiet
check "a prompt made as the account" test -f "$root/var/lib/edge-rlp/prompts/default.rlp"
check "others cannot read it" [ "$(stat -c %a "$root/var/lib/edge-rlp")" = 750 ]
check "an upgrade" inside dpkg -i /root/edge-rlp.deb
check "the prompt is still there and readable" as_account sh -c "edge-rlp prompt show default >/dev/null"

# What runs once Debian is up, on its console.
cat >"$root/root/look.sh" <<'LOOK'
service=edge-rlp-classify@demo
mkdir -p /run/systemd/system/$service.service.d
printf '[Service]\nWatchdogSec=8\nRestartSec=1\n' >/run/systemd/system/$service.service.d/quick.conf
systemctl daemon-reload
shown() { systemctl show -P "$1" $service; }
systemctl start $service && echo "ok started and notified: $(shown ActiveState), $(shown SubState)" || echo "FAIL start"
sleep 20
echo "ok still running after 20 s with a watchdog of 8 s, restarts: $(shown NRestarts)"
[ "$(shown NRestarts)" = 0 ] || echo "FAIL it was started anew without a fault"
echo "ok runs as $(ps -o user= -p "$(shown MainPID)" 2>/dev/null || stat -c %U /proc/"$(shown MainPID)"), memory $(shown MemoryCurrent) bytes"
kill -STOP "$(shown MainPID)"
sleep 20
[ "$(shown NRestarts)" = 1 ] && [ "$(shown ActiveState)" = active ] && echo "ok stuck, so killed and started anew" ||
    echo "FAIL the watchdog: $(shown NRestarts) restarts, $(shown ActiveState)"
systemctl stop $service && echo "ok stopped: $(shown Result)" || echo "FAIL stop"
journalctl -q --no-pager -u $service | tail -25
echo "looked"
systemctl poweroff --force
LOOK
cat >"$root/etc/systemd/system/look.service" <<'UNIT'
[Unit]
After=basic.target
[Service]
Type=idle
ExecStart=/bin/sh /root/look.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../look.service "$root/etc/systemd/system/multi-user.target.wants/look.service"
mke2fs -q -t ext4 -d "$root" "$work/disk" 1500M

files="$work/files"
mkdir -p "$files"/{bin,modules,proc,sys,dev,debian}
cp "$kernel/root/bin/busybox" "$files/bin/"
for module in virtio_pci virtio_blk ext4; do
    box_module "$files/modules" "$module"
done
cat >"$files/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
mount -t ext4 /dev/vda /debian
exec switch_root /debian /lib/systemd/systemd
INIT
chmod +x "$files/init"
(cd "$files" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"
log="target/box/package.log"
mkdir -p target/box
timeout 300 qemu-system-x86_64 -machine q35 -cpu max -accel tcg -m 768 -nographic -no-reboot -net none \
    -drive "file=$work/disk,format=raw,if=virtio" -kernel "$kernel/vmlinuz" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1 systemd.show_status=0" </dev/null 2>&1 | tr -d '\r' >"$log" || true
grep '^ok\|^FAIL\|edge-rlp\[\|looked' "$log" || true
check "Debian came up, looked and went down" grep -q '^looked' "$log"
check "nothing failed" [ "$(grep -c '^FAIL' "$log")" = 0 ]

check "removal" inside dpkg -r edge-rlp
check "the prompt outlives removal" test -f "$root/var/lib/edge-rlp/prompts/default.rlp"
check "purging" inside dpkg -P edge-rlp
check "nothing is left" [ ! -e "$root/var/lib/edge-rlp" ]
