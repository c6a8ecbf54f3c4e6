#!/usr/bin/env bash
# Goes a person's way through the page of `edge-rlp serve` in headless Chromium, in a window as large as a phone's and in one
# of a desktop, each from an empty home folder: cameras, a region, labels, pictures, training, an accepted prompt, the way back,
# folders, merging, recent pictures, the keyboard alone, German. Fails at any message on the console, at a request to another
# host, at anything wider than the window, and at text that is too faint (WCAG AA), light or dark. Screenshots to look at are
# left in target/page/. $EDGE_RLP names another program than the one that is built here. Installs Chromium and Node.js (Debian,
# Ubuntu) where there are none.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
[ -n "${EDGE_RLP:-}" ] || cargo build --release --quiet --bin edge-rlp
missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
command -v node >/dev/null || missing+=(nodejs)
[ ${#missing[@]} = 0 ] || scripts/install.sh "${missing[@]}"
edge_rlp="${EDGE_RLP:-$PWD/target/release/edge-rlp}"
out="$PWD/target/page"
work="$(mktemp -d)"
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$out"

$edge_rlp demo --out "$work/pictures" --condition squeezed --shots 8 --test 1 --quiet >/dev/null
for size in phone desktop; do
    port="$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')"
    # Nobody waits for a training here as long as cameras would have it.
    mkdir -p "$work/$size"
    printf '[training]\nnice = 0\n' >"$work/$size/edge-rlp.toml"
    EDGE_RLP_HOME="$work/$size" $edge_rlp serve --listen "127.0.0.1:$port" >"$out/serve-$size.log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
        sleep 0.1
    done
    node scripts/browser/serve-page.mjs "http://127.0.0.1:$port/" "$work/pictures/train" "$out" "$size"
    kill "$server"
    wait "$server" || true
    server=""
done
echo "the page works at both sizes; screenshots are in target/page"
