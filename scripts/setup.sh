#!/usr/bin/env bash
# Installs what a build needs besides Rust: a C compiler and linker (tract's and BLAKE3's kernels are assembly), and
# libclang (the camera's bindings to Linux are generated with it); and openssl, for a test. Does nothing where they are there
# already.
set -euo pipefail

# libclang-cpp, which other packages bring, is another library.
has_libclang() {
    local folder file
    for folder in "${LIBCLANG_PATH:-/nowhere}" /usr/lib/llvm-*/lib /usr/lib* /usr/lib/*; do
        for file in "$folder"/libclang.so* "$folder"/libclang-[0-9]*.so*; do
            [ ! -e "$file" ] || return 0
        done
    done
    return 1
}

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
# Tests of cameras behind https have its server for one.
command -v openssl >/dev/null || missing+=(openssl)
has_libclang || missing+=(libclang-dev)
if [ ${#missing[@]} = 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "error: install what these Debian packages hold, and run this again: ${missing[*]}" >&2
    echo "(without libclang: cargo build --no-default-features --features pull, which leaves out cameras of this machine)" >&2
    exit 1
fi
"$(dirname "$0")/install.sh" "${missing[@]}"
