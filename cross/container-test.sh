#!/usr/bin/env bash
# Builds the image of cross/Containerfile from the amd64 package that cross/package.sh made, and tries it as its users would:
#
#     cross/container-test.sh
#
# With podman, which it installs; only root. Where no registry can be reached, the base image debian:bookworm-slim is made by
# debootstrap. The log is left in target/box/container.log.
set -euo pipefail
cd "$(dirname "$0")/.."
source cross/toolchain.sh

if ! compgen -G "target/cross/edge-rlp_*_amd64.deb" >/dev/null; then
    echo "error: there is no package: cross/build.sh x86_64-unknown-linux-gnu && cross/package.sh x86_64-unknown-linux-gnu" >&2
    exit 1
fi
[ "$(id -u)" = 0 ] || { echo "error: only root can make the base image" >&2; exit 1; }
needed podman runc debootstrap
base=docker.io/library/debian:bookworm-slim
image=localhost/edge-rlp:test
volume="edge-rlp-test-$$"
log=target/box/container.log
# runc and limits of its own: podman's defaults ask for more than a machine within a machine may give.
options=(--runtime runc --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 --network none)
work="$(mktemp -d)"
trap 'podman rm -fa --filter "ancestor=$image" >/dev/null 2>&1; podman volume rm -f "$volume" >/dev/null 2>&1; rm -rf "$work"' EXIT
mkdir -p target/box

if ! podman image exists "$base" && ! timeout 60 podman pull -q "$base" >"$work/pull" 2>&1; then
    echo "no registry: making $base by debootstrap" >&2
    debootstrap --variant=minbase bookworm "$work/root" "$(debian_server)" >&2
    tar -C "$work/root" -c . | podman import --quiet - "$base" >&2
fi
podman build --runtime runc --ulimit nofile=1024:1024 --network host --pull=never -f cross/Containerfile -t "$image" target/cross >"$log" 2>&1 ||
    { tail -20 "$log" >&2 && exit 1; }

failures=0 passed=0
# check WHAT COMMAND...: whether the command succeeds; its output goes to the log.
check() {
    local told="$1"
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "ok $told" && passed=$((passed + 1))
    else
        echo "FAIL $told" && failures=$((failures + 1))
        sed 's/^/    /' "$work/said"
    fi
    cat "$work/said" >>"$log"
}
run() { podman run --rm "${options[@]}" -v "$volume:/var/lib/edge-rlp" "$@"; }
as_its_account() { [ "$(run --entrypoint id "$image" -un)" = edge-rlp ] && run --entrypoint id "$image" -nG | grep -qw video; }
stops_at_sigterm() {
    local name="edge-rlp-stop-$$" code
    podman run -d --name "$name" "${options[@]}" -v "$volume:/var/lib/edge-rlp" "$image" classify --camera demo:squeezed
    sleep 5
    podman stop --time 10 "$name"
    podman logs "$name"
    code="$(podman inspect --format '{{.State.ExitCode}}' "$name")"
    [ "$code" = 0 ]
}

check "an image of $(podman image inspect --format '{{.Size}}' "$image") bytes runs: $(run "$image" --version)" run "$image" model verify
check "as the account edge-rlp, in group video" as_its_account
check "doctor finds nothing amiss but the cameras" run "$image" doctor
sed 's/^/    /' "$work/said"
check "a prompt is made" run "$image" adapt --camera demo:squeezed --shots 2 --views 1 --steps 10 --force --quiet
check "and is there in the next container" run "$image" prompt show default
check "which classifies with it, its own files read-only" run --read-only "$image" classify --camera demo:squeezed --frames 5
check "a container that is stopped exits with 0" stops_at_sigterm
echo "$passed passed, $failures failed"
[ "$failures" = 0 ]
