# shellcheck shell=bash
# Sourced: Debian's packages of another release or processor, unpacked into a folder of ours. Nothing is installed, and
# the system's own package lists stay as they are. The server is the one this system uses already.

# debian_server: the address of the server that this system's packages come from.
debian_server() {
    awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null ||
        awk '/^deb / { print $2; exit }' /etc/apt/sources.list
}

# debian_lists FOLDER RELEASE ARCHITECTURES: makes (or refreshes) the package lists of a release in FOLDER.
debian_lists() {
    local folder="$1" release="$2" architectures="$3" server
    [ -e "$folder/ready" ] && return
    if ! command -v apt-get >/dev/null; then
        echo "error: this step takes files from Debian's packages, and there is no apt-get here: use Debian or Ubuntu," \
            "or a container of debian:bookworm" >&2
        return 1
    fi
    server="$(debian_server)"
    mkdir -p "$folder"/etc/{sources.list.d,apt.conf.d,preferences.d} "$folder"/state/lists/partial \
        "$folder"/cache/archives/partial
    touch "$folder/status"
    # What the system's apt needs to reach its server, a proxy say, this one needs too.
    cp -r /etc/apt/auth.conf.d "$folder/etc/" 2>/dev/null || true
    cp -r /etc/apt/apt.conf.d/. "$folder/etc/apt.conf.d/"
    cat >"$folder/etc/sources.list.d/debian.sources" <<SOURCES
Types: deb
URIs: $server
Suites: $release
Components: main
Architectures: amd64 $architectures
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    # shellcheck disable=SC2086 # a list of architectures
    cat >"$folder/apt.conf" <<CONFIGURATION
Dir::Etc "$folder/etc"; Dir::State "$folder/state"; Dir::State::status "$folder/status"; Dir::Cache "$folder/cache";
APT::Architectures { "amd64"; $(printf '"%s"; ' $architectures)};
Acquire::Languages "none"; Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false"; APT::Sandbox::User "root";
CONFIGURATION
    APT_CONFIG="$folder/apt.conf" apt-get -q update >&2
    touch "$folder/ready"
}

# debian_unpack LISTS ROOT PACKAGE...: downloads packages (NAME or NAME:ARCHITECTURE) and unpacks them into ROOT.
debian_unpack() {
    local lists="$1" root="$2" fresh package
    shift 2
    mkdir -p "$root"
    fresh="$(mktemp -d "$lists/debs.XXXXXX")"
    (cd "$fresh" && APT_CONFIG="$lists/apt.conf" apt-get -q download "$@" >&2)
    for package in "$fresh"/*.deb; do
        dpkg -x "$package" "$root"
    done
    rm -r "$fresh"
}
