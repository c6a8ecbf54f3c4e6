#!/usr/bin/env bash
# Installs what a build needs besides Rust: a C compiler and linker (tract's and BLAKE3's kernels are assembly), and
# libclang (the camera's bindings to Linux are generated with it). Does nothing where they are there already.
set -euo pipefail

has_libclang() {
    compgen -G "${LIBCLANG_PATH:-/nowhere}/libclang*.so*" >/dev/null ||
        compgen -G "/usr/lib/llvm-*/lib/libclang*.so*" >/dev/null ||
        compgen -G "/usr/lib*/libclang*.so*" >/dev/null ||
        compgen -G "/usr/lib/*/libclang*.so*" >/dev/null
}

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
has_libclang || missing+=(libclang-dev)
if [ ${#missing[@]} = 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "error: install what these Debian packages hold, and run this again: ${missing[*]}" >&2
    echo "(without libclang: cargo build --no-default-features --features pull, which leaves out cameras of this machine)" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
fi
$sudo apt-get update -q
$sudo apt-get install -qy --no-install-recommends "${missing[@]}"
