#!/usr/bin/env bash
# What is checked before a release, and is too slow for every change: the builds for other processors, what they predict, emulated
# boxes with cameras and with power cuts, and the packages.
#
#     scripts/release-check.sh [quick]
#
# `quick` ends after the box with cameras: half an hour on two idle cores; all of it takes about two hours. It prints a table for
# docs/boxes.md, which records the last one, and leaves it and each step's log in target/release-check/.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-all}" in
all | quick) ;;
*)
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
out=target/release-check
mkdir -p "$out"
rm -f "$out"/*.log
table="$out/table.md"
printf '%s, commit %s\n\n| command | time | last line |\n|---|---|---|\n' "$(date -u +%F)" "$(git rev-parse --short HEAD)" >"$table"
failures=0

# step COMMAND...: runs it, and adds its time and last line to the table. The next step runs in any case.
step() {
    local started="$SECONDS" log result=""
    log="$out/$(grep -c . "$table")-$(basename "${1%.sh}").log"
    echo "$* ..." >&2
    "$@" >"$log" 2>&1 || { result="**failed**: " && failures=$((failures + 1)); }
    printf "| \`%s\` | %s s | %s%s |\n" "$*" "$((SECONDS - started))" "$result" "$(tail -1 "$log" | tr '|' ' ')" | tee -a "$table" >&2
}

step cargo build --release --bin edge-rlp
step cross/build.sh aarch64-unknown-linux-gnu release
SHOTS=2 PICTURES=1 STEPS=20 step cross/test.sh aarch64 compare
step cross/box/run.sh camera arm64
if [ "${1:-all}" = all ]; then
    step cross/box/run.sh power arm64
    LIMIT=3000 step cross/test.sh aarch64 tests lib commands::cli commands::robustness commands::pull prompt_file
    for target in aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf x86_64-unknown-linux-gnu; do
        step cross/build.sh "$target"
        step cross/package.sh "$target"
    done
    step cross/package-test.sh arm64
    step cross/package-test.sh armhf
    step cross/package-test.sh amd64
    step cross/container-test.sh
    step cross/instructions.sh
    step scripts/isa-test.sh --whole
fi
cat "$table"
[ "$failures" = 0 ]
