#!/usr/bin/env bash
# Builds edge-rlp for a box, and tells the binary's size and the glibc that it needs:
#
#     cross/build.sh TARGET [PROFILE]
#
# TARGET is aarch64-unknown-linux-gnu (Raspberry Pi 3 and later with a 64-bit system, Jetson), armv7-unknown-linux-gnueabihf
# (Raspberry Pi 2 and later with a 32-bit system) or x86_64-unknown-linux-gnu. PROFILE is `dist`, what is shipped, unless
# given: `release` builds in half the time and is what tests use. The binary lies in target/cross/TARGET/PROFILE.
# What is missing is installed where that is possible (see cross/toolchain.sh), and named where it is not.
set -euo pipefail
cd "$(dirname "$0")/.."
source cross/toolchain.sh

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n '3,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
target="$1"
profile="${2:-dist}"
started="$SECONDS"
toolchain "$target"
zigbuild "$target" --profile "$profile" --bin edge-rlp

binary="target/cross/$target/$profile/edge-rlp"
needs="$(readelf --wide --dyn-syms "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)"
libraries="$(readelf --dynamic "$binary" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | tr '\n' ' ')"
echo "$binary: $(stat -c %s "$binary") bytes, needs ${needs/_/ }; linked with $libraries($((SECONDS - started)) s)"
