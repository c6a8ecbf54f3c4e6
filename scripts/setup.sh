#!/usr/bin/env bash
# Installs what a build needs besides Rust: a C compiler and linker (tract's and BLAKE3's kernels are assembly).
# Does nothing where they are there already.
set -euo pipefail

if command -v cc >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "error: no C compiler found: install one (gcc or clang) and run this again" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
fi
$sudo apt-get update -q
$sudo apt-get install -qy --no-install-recommends gcc libc6-dev
