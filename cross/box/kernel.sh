# shellcheck shell=bash disable=SC2154 # run.sh sets what is not set here
# Sourced: Debian's kernel for the emulated box, with the modules that its tests need, unpacked under target/cross-tools.

# box_kernel NAME (arm64 or amd64): makes $kernel with vmlinuz, modules/ and the files of the box's C library.
box_kernel() {
    local name="$1" lists="$tools/box/lists-$1" root version headers
    kernel="$tools/box/$name"
    [ -e "$kernel/ready" ] && return
    debian_lists "$lists" bookworm "$name"
    version="$(APT_CONFIG="$lists/apt.conf" apt-cache depends "linux-image-$name:$name" |
        sed -n 's/.*Depends: linux-image-\([^:]*\).*/\1/p' | head -1)"
    root="$kernel/root"
    rm -rf "$kernel"
    debian_unpack "$lists" "$root" "linux-image-$version:$name" "linux-headers-$version:$name" \
        "linux-headers-${version%-*}-common" "linux-kbuild-6.1:amd64" v4l2loopback-dkms "busybox-static:$name" \
        "libc6:$name" "libgcc-s1:$name"
    cp "$root"/boot/vmlinuz-* "$kernel/vmlinuz"

    # v4l2loopback, built in place: the headers' Makefiles name each other by absolute paths.
    headers="$root/usr/src/linux-headers-$version"
    sed -i "s|/usr/src/|$root/usr/src/|" "$headers/Makefile"
    local compiler=gcc processor=x86 prefix=""
    if [ "$name" = arm64 ]; then
        compiler=aarch64-linux-gnu-gcc processor=arm64 prefix=aarch64-linux-gnu-
    fi
    make -s -C "$headers" M="$(echo "$root"/usr/src/v4l2loopback-*)" ARCH=$processor CROSS_COMPILE=$prefix CC=$compiler modules >&2
    mkdir -p "$root/lib/modules/$version/extra"
    cp "$root"/usr/src/v4l2loopback-*/v4l2loopback.ko "$root/lib/modules/$version/extra/"
    depmod -b "$root" "$version"
    echo "$version" >"$kernel/ready"
}

# box_module FOLDER MODULE [OPTIONS]: copies a module and those that it needs into FOLDER, and their names, in the order in
# which they are loaded, to FOLDER/order.
box_module() {
    local folder="$1" module="$2" options="${3:-}" path file
    modprobe -d "$kernel/root" -S "$(cat "$kernel/ready")" --show-depends "$module" | awk '$1 == "insmod" { print $2 }' |
        while read -r path; do
            file="$(basename "$path")"
            grep -q "^$file" "$folder/order" 2>/dev/null && continue
            cp "$path" "$folder/"
            case "$file" in
            "$module".ko*) echo "$file $options" ;;
            *) echo "$file" ;;
            esac >>"$folder/order"
        done
}
