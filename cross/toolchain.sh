# shellcheck shell=bash
# Sourced by the scripts beside it: everything a build for another processor needs, under target/cross-tools. After
# `toolchain TARGET`, `zigbuild TARGET` builds with it.
#
# Rust's standard library comes from rustup, or from Debian where rustup reaches no server; the C compiler, the linker and
# the C library to link with come from zig, as a Python package: it links against any glibc, so that one binary runs on
# every system with that version or a later one.

# JetPack 4's; Raspberry Pi OS and later JetPacks have newer ones.
GLIBC=2.27
# Debian's release with a Rust that is new enough.
RUST_RELEASE=trixie

tools="$PWD/target/cross-tools"
export CARGO_TARGET_DIR="$PWD/target/cross"
source cross/debian.sh

# debian_name TARGET: how Debian calls the processor.
debian_name() {
    case "$1" in
    aarch64-unknown-linux-gnu) echo arm64 ;;
    armv7-unknown-linux-gnueabihf) echo armhf ;;
    x86_64-unknown-linux-gnu) echo amd64 ;;
    *)
        echo "error: no such target: $1 (there are aarch64-unknown-linux-gnu, armv7-unknown-linux-gnueabihf and" \
            "x86_64-unknown-linux-gnu)" >&2
        return 2
        ;;
    esac
}

toolchain() {
    local target="$1"
    debian_name "$target" >/dev/null
    scripts/setup.sh
    zig
    standard_library "$target"
}

# The zig compiler and cargo's way to it, as Python packages.
zig() {
    if [ ! -x "$tools/zig/bin/cargo-zigbuild" ]; then
        if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
            needed python3 python3-venv
        fi
        python3 -m venv "$tools/zig"
        "$tools/zig/bin/pip" install --quiet --disable-pip-version-check 'ziglang>=0.15' 'cargo-zigbuild>=0.22'
    fi
    export PATH="$tools/zig/bin:$PATH"
}

# target_libraries TARGET: the C library that an emulated program is linked with; sets $libraries.
target_libraries() {
    local name
    name="$(debian_name "$1")"
    libraries="$tools/libraries-$name"
    if [ ! -e "$libraries/ready" ]; then
        debian_lists "$tools/lists-bookworm-$name" bookworm "$name"
        debian_unpack "$tools/lists-bookworm-$name" "$libraries" "libc6:$name" "libgcc-s1:$name"
        touch "$libraries/ready"
    fi
}

# needed PACKAGE...: installs Debian packages.
needed() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "error: install what these Debian packages hold, and run this again: ${missing[*]}" >&2
        return 1
    fi
    "$(dirname "${BASH_SOURCE[0]}")/../scripts/install.sh" "${missing[@]}" >&2
}

# zigbuild TARGET ARGUMENTS...: `cargo zigbuild` for the target. The camera's bindings are generated from the target's
# headers, which zig carries; cargo-zigbuild's own settings for that do not find them with Debian 12's libclang.
zigbuild() {
    local target="$1" library headers processor
    shift
    library="$(echo "$tools"/zig/lib/python3*/site-packages/ziglang/lib)"
    headers="$library/libc/include"
    case "$target" in
    aarch64-*) processor=aarch64 ;;
    armv7-*) processor=arm ;;
    x86_64-*) processor=x86 ;;
    esac
    env "BINDGEN_EXTRA_CLANG_ARGS_$target=-isystem $library/include -isystem $headers/$processor-linux-gnu \
-isystem $headers/generic-glibc -isystem $headers/$processor-linux-any -isystem $headers/any-linux-any" \
        cargo zigbuild --target "$target.$GLIBC" "$@"
}

# Rust's standard library for the target: there already, by rustup, or Debian's compiler with Debian's library.
standard_library() {
    local target="$1"
    if [ -z "${EDGE_RLP_DEBIAN_RUST:-}" ]; then
        if compgen -G "$(rustc --print target-libdir --target "$target")/libstd-*" >/dev/null; then
            return
        fi
        if command -v rustup >/dev/null && timeout 300 rustup target add "$target" >&2; then
            return
        fi
        echo "rustup cannot add $target here; taking Debian's" >&2
    fi
    debian_rust "$target"
    export RUSTC="$tools/debian-rust/rustc"
}

# Debian's rustc and standard libraries of one version, run in place: /lib of this system is another release's.
debian_rust() {
    local target="$1" root="$tools/debian-rust" lists name libraries
    name="$(debian_name "$target")"
    lists="$root/lists-$name"
    debian_lists "$lists" "$RUST_RELEASE" "$name"
    if [ ! -x "$root/rustc" ]; then
        # The libraries that rustc itself is linked with, as far as they are Debian packages of this processor.
        libraries="$(APT_CONFIG="$lists/apt.conf" apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
            --no-breaks --no-replaces --no-enhances rustc-web:amd64 |
            grep -E '^(lib|zlib)' | grep -vE ':(arm64|armhf)|-dev|^libgcc-.*-base|^libc-bin|libstd-rust-web-dev' | sort -u)"
        # shellcheck disable=SC2086 # a list of packages
        debian_unpack "$lists" "$root/root" rustc-web:amd64 libstd-rust-web-dev:amd64 $libraries
        cat >"$root/rustc" <<WRAPPER
#!/bin/sh
libraries="$root/root/usr/lib/x86_64-linux-gnu"
exec "\$libraries/ld-linux-x86-64.so.2" --library-path "\$libraries" "$root/root/usr/bin/rustc" "\$@"
WRAPPER
        chmod +x "$root/rustc"
    fi
    compgen -G "$root/root/usr/lib/rustlib/$target/lib/libstd-*" >/dev/null ||
        debian_unpack "$lists" "$root/root" "libstd-rust-web-dev:$name"
    "$root/rustc" --version >&2
}
