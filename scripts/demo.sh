#!/usr/bin/env bash
# Builds edge-rlp and runs the main job on drawn pictures: adapt to a camera condition that the default model has
# never seen, then classify new pictures without and with the prompt. Usage: scripts/demo.sh [CONDITION]
# With --web it starts the page instead, with two cameras that draw, to be taught and trained in a browser.
set -euo pipefail
cd "$(dirname "$0")/.."

web=""
if [ "${1:-}" = --web ]; then
    web=yes
    shift
fi
condition="${1:-peephole}"
scripts/setup.sh
echo "building edge-rlp: the first time takes 10 to 15 minutes on two cores" >&2
cargo build --release --bin edge-rlp
edge_rlp=target/release/edge-rlp
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export EDGE_RLP_HOME="${EDGE_RLP_HOME:-target/demo-home}"

if [ -n "$web" ]; then
    printf '[[camera]]\nname = "%s"\nsource = "%s"\nprompt = "shelf"\n\n' shop-door "demo:$condition" workshop demo:clear >"$work/edge-rlp.toml"
    $edge_rlp demo --out target/demo-pictures --condition "$condition" --shots 8 --test 1 2>/dev/null || true
    echo "open the address below in a browser; pictures to teach with are in target/demo-pictures/train; Ctrl-C ends it"
    $edge_rlp serve --config "$work/edge-rlp.toml"
    exit
fi

step() { printf '\n$ %s\n' "$*"; }

step edge-rlp demo --out pictures --condition "$condition"
$edge_rlp demo --out "$work/pictures" --condition "$condition" | sed "s|$work/||"

step edge-rlp adapt --images pictures
$edge_rlp adapt --images "$work/pictures"

step edge-rlp classify pictures/test --labels pictures/labels.txt "   # before: the plain template"
$edge_rlp classify "$work/pictures/test" --labels "$work/pictures/labels.txt" >"$work/before"

step edge-rlp classify pictures/test "   # after: the prompt"
$edge_rlp classify "$work/pictures/test" >"$work/after"

step edge-rlp classify --camera "demo:$condition" --frames 5 --every-frame
$edge_rlp classify --camera "demo:$condition" --frames 5 --every-frame

step edge-rlp prompt show default
$edge_rlp prompt show default
