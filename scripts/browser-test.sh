#!/usr/bin/env bash
# Opens reports of `edge-rlp eval` in headless Chromium: no message on the console, nothing asked of a network, nothing
# wider than a phone, a hostile label stays text. Screenshots to look at are left in target/report/. Installs Chromium
# (Debian, Ubuntu) where there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cargo build --release --quiet --bin edge-rlp
command -v chromium >/dev/null || scripts/install.sh chromium fonts-dejavu-core
edge_rlp="$PWD/target/release/edge-rlp"
out="$PWD/target/report"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
cd "$work"
export EDGE_RLP_HOME="$work/home"

$edge_rlp demo --out pictures --condition squeezed --shots 4 --test 4 >/dev/null
hostile='<script>alert(1)<b>"it&'
mv pictures/train/mug "pictures/train/$hostile"
mv pictures/test/mug "pictures/test/$hostile"
{ grep -v '^mug$' pictures/labels.txt; echo "$hostile = mug"; } >labels.txt
mv labels.txt pictures/labels.txt
quick=(--views 1 --steps 30 --seeds 2 --quiet)
$edge_rlp eval --images pictures "${quick[@]}" --report holdout.html >/dev/null
$edge_rlp eval --images pictures "${quick[@]}" --protocol few-shot --shots 1,4 --report few-shot.html >/dev/null
$edge_rlp eval --images pictures "${quick[@]}" --protocol base-to-new --report base-to-new.html >/dev/null

browser() {
    timeout 120 chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" \
        --no-first-run --disable-background-networking --disable-component-update --enable-logging=stderr --v=0 "$@"
}

for page in holdout few-shot base-to-new; do
    # The page in a frame as wide as a small phone, and what the frame's document looks like from outside.
    cat >frame.html <<FRAME
<!doctype html><meta charset="utf-8"><iframe src="$page.html" width="360" height="800"></iframe>
<pre id="found"></pre><script>
window.onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const blank = [...page.images].filter(image => !image.naturalWidth).length;
  document.getElementById("found").textContent =
    "width=" + page.documentElement.scrollWidth + " charts=" + page.querySelectorAll("svg").length +
    " blank=" + blank + " scripts=" + page.scripts.length +
    " outside=" + performance.getEntriesByType("resource").filter(e => !e.name.startsWith("file:")).length;
};
</script>
FRAME
    found="$(browser --allow-file-access-from-files --dump-dom "file://$work/frame.html" 2>log | grep -o 'width=.*outside=[0-9]*' | tail -1)"
    echo "$page: $found"
    width="${found#*width=}" charts="${found#*charts=}"
    width="${width%% *}" charts="${charts%% *}"
    [ "$width" -le 360 ] || { echo "error: $page is $width pixels wide on a phone of 360" >&2; exit 1; }
    [ "$charts" -ge 5 ] || { echo "error: $page has $charts charts" >&2; exit 1; }
    [[ "$found" == *"blank=0 scripts=0 outside=0" ]] || { echo "error: $page: $found" >&2; exit 1; }
    browser --window-size=1200,2200 --screenshot="$out/$page.png" "file://$work/$page.html" 2>>log >/dev/null
    browser --window-size=500,4600 --screenshot="$out/$page-phone.png" "file://$work/$page.html" 2>>log >/dev/null
    if grep CONSOLE log; then
        echo "error: $page wrote to the console" >&2
        exit 1
    fi
    cp "$page.html" "$out/"
done
echo "reports open cleanly; screenshots are in target/report"
