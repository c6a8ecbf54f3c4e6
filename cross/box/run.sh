#!/usr/bin/env bash
# Boots an emulated box and runs one of the tests beside this script in it:
#
#     cross/box/run.sh camera [arm64|amd64]    cameras that show chosen pictures: named, adapted to, stopped, unplugged
#     cross/box/run.sh power  [arm64|amd64]    the power is cut again and again while prompts are saved
#
# The box is Debian's kernel, busybox, edge-rlp and the test, under qemu in software emulation: no hardware, no module of
# this machine's kernel. For arm64 it runs the edge-rlp that cross/build.sh made (profile `release`, or $EDGE_RLP_PROFILE),
# for amd64 this machine's own build (or $EDGE_RLP). The log is left in target/box/. Installs what it needs from Debian and PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cross/toolchain.sh
source cross/box/kernel.sh

test="${1:-}"
name="${2:-arm64}"
case "$test/$name" in
camera/arm64 | power/arm64) triple=aarch64-linux-musl binary="target/cross/aarch64-unknown-linux-gnu/${EDGE_RLP_PROFILE:-release}/edge-rlp" ;;
camera/amd64 | power/amd64) triple=x86_64-linux-musl binary="${EDGE_RLP:-target/release/edge-rlp}" ;;
*)
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
own="${EDGE_RLP:-target/release/edge-rlp}"
[ -n "${EDGE_RLP:-}" ] || cargo build --release --quiet --bin edge-rlp --target-dir target
if [ ! -x "$binary" ]; then
    echo "error: $binary is not there; make it with cross/build.sh aarch64-unknown-linux-gnu release" >&2
    exit 1
fi
case "$name" in
arm64) needed make gcc gcc-aarch64-linux-gnu kmod cpio e2fsprogs ffmpeg qemu-system-arm ;;
amd64) needed make gcc kmod cpio e2fsprogs ffmpeg qemu-system-x86 ;;
esac
zig
box_kernel "$name"

out="target/box"
work="$(mktemp -d)"
trap 'cut_power; rm -rf "$work"' EXIT
mkdir -p "$out"

# box_files: the file system that the box starts with.
box_files() {
    local root="$kernel/root" files="$work/files" library module options
    mkdir -p "$files"/{bin,box,modules,lib,lib64}
    cp "$root/bin/busybox" "$files/bin/"
    ln -s busybox "$files/bin/sh"
    install -m 755 cross/box/init "$files/init"
    cp "cross/box/lib.sh" "$files/box/"
    cp "cross/box/$test.sh" "$files/box/test.sh"
    cp "$binary" "$files/box/edge-rlp"
    # The libraries: this machine's own for its own build, Debian's for the other.
    for library in $(readelf --dynamic "$binary" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p') libm.so.6 libc.so.6; do
        [ "$name" = arm64 ] && library="$root/lib/aarch64-linux-gnu/$library" || library="/lib/x86_64-linux-gnu/$library"
        cp -L "$library" "$files/lib/"
    done
    case "$name" in
    arm64) cp -L "$root/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1" "$files/lib/" ;;
    amd64) cp -L /lib64/ld-linux-x86-64.so.2 "$files/lib64/" ;;
    esac
    python -m ziglang cc -target $triple -static -O2 -s -o "$files/box/feed" cross/box/feed.c
    python -m ziglang cc -target $triple -static -O2 -s -o "$files/box/rtsp" cross/box/rtsp.c

    while read -r module options; do
        box_module "$files/modules" "$module" "$options"
    done <<MODULES
v4l2loopback devices=2 video_nr=0,1 exclusive_caps=1,1 card_label=Compressed,Raw
vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0 vid_cap_nr=9
virtio_pci
virtio_mmio
virtio_blk
ext4
MODULES
}

# drawn FOLDER CONDITION SHOTS TEST SEED: drawn pictures, made by this machine's own build.
drawn() {
    "$own" demo --quiet --out "$1" --condition "$2" --shots "$3" --test "$4" --seed "$5"
}

pack() {
    (cd "$work/files" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"
}

# boot SECONDS LOG DISK...: starts the box, which switches itself off after its test; its console goes to LOG. Sets $emulator.
boot() {
    local seconds="$1" log="$2" machine=(qemu-system-aarch64 -machine virt -cpu cortex-a72) console=ttyAMA0 disk
    shift 2
    [ "$name" = arm64 ] || { machine=(qemu-system-x86_64 -machine q35 -cpu max) && console=ttyS0; }
    for disk in "$@"; do
        machine+=(-drive "file=$disk,format=raw,if=virtio")
    done
    : >"$log"
    # Its clock goes with its instructions, 2 ns each: on a machine that is busy it takes longer, and nothing in it is late. The
    # plug is drawn by this machine's clock.
    [ "$test" = power ] || machine+=(-icount "shift=1,sleep=on")
    timeout "$seconds" "${machine[@]}" -accel tcg -m 384 -nographic -no-reboot -net none -kernel "$kernel/vmlinuz" \
        -initrd "$work/initrd" -append "console=$console quiet panic=-1" </dev/null >"$log" 2>&1 &
    emulator=$!
}

# cut_power: ends the box as a drawn plug does.
cut_power() {
    [ -n "${emulator:-}" ] || return 0
    pkill -KILL -P "$emulator" || true
    wait "$emulator" 2>/dev/null || true
    emulator=""
}

# shellcheck source=/dev/null
source "cross/box/$test-host.sh"
