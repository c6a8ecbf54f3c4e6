#!/usr/bin/env bash
# Counts the instructions of one picture and of one training step on each processor, with the binaries that cross/build.sh made:
#
#     cross/instructions.sh [PROFILE]
#
# PROFILE is `dist` unless given; for x86-64, $EDGE_RLP may name another binary. A picture of the default model; a step of the
# twelve labels that the demo draws. Of another model, whose bundle $MODEL names, a picture with every integer kernel. Counted
# by a plugin in qemu's user emulation, so that x86-64 is counted in the same way (up to AVX2: qemu has no AVX-512).
set -euo pipefail
cd "$(dirname "$0")/.."
source cross/toolchain.sh

# Emulated programs see this machine's /proc/cpuinfo, where tract looks for NEON in vain.
export TRACT_CPU_ARM32_NEON=true
profile="${1:-dist}"
needed gcc qemu-user
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
gcc -O2 -shared -fPIC -o "$work/count.so" cross/instructions/count.c
own="${EDGE_RLP:-target/cross/x86_64-unknown-linux-gnu/$profile/edge-rlp}"
commands=("x86-64=qemu-x86_64 -cpu max -plugin $work/count.so $own")
# emulated PROCESSOR TARGET EMULATOR: counts there too, if that binary was made.
emulated() {
    local binary="target/cross/$2/$profile/edge-rlp"
    if [ ! -x "$binary" ]; then
        echo "$1: not counted, as $binary is not there" >&2
        return
    fi
    target_libraries "$2"
    commands+=("$1=$3 -cpu $1 -L $libraries -plugin $work/count.so $binary")
}
emulated cortex-a72 aarch64-unknown-linux-gnu qemu-aarch64
emulated cortex-a76 aarch64-unknown-linux-gnu qemu-aarch64
emulated cortex-a7 armv7-unknown-linux-gnueabihf qemu-arm
"$own" demo --quiet --out "$work/pictures" --condition squeezed --shots 3 --test 0
python3 cross/instructions.py "$work/pictures/train" "$work" ${MODEL:+--model "$MODEL"} "${commands[@]}"
