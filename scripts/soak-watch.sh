#!/usr/bin/env bash
# Does `adapt --watch` go on for ever? Lets it follow a demo camera that changes its condition every thousand pictures, prints
# resident memory and descriptors ten times on the way, and ends it by SIGTERM. Fails if memory grew by more than 4 MiB, or
# descriptors at all, after the first tenth, if it did not end well, or if a generation in the history cannot be read.
#
#     scripts/soak-watch.sh [CYCLES] [BINARY]        # 100 and target/release/edge-rlp unless said otherwise
set -euo pipefail
cycles=${1:-100}
program=$(realpath "${2:-target/release/edge-rlp}")
home=$(mktemp -d)
trap 'kill "$process" 2>/dev/null || true; rm -rf "$home"' EXIT
mkfifo "$home/answers"
"$program" --home "$home" --quiet --threads 1 adapt --camera demo:clear,infrared,squeezed,upside-down,peephole \
    --unlabelled --watch --pause 0s --json > "$home/answers" &
process=$!
exec 3< "$home/answers"

accepted=0 first_memory=0 grown=0
for ((cycle = 1; cycle <= cycles; cycle++)); do
    read -r answer <&3
    [[ $answer == *'"accepted":true'* ]] && accepted=$((accepted + 1))
    ((cycle % (cycles > 10 ? cycles / 10 : 1) == 0)) || continue
    memory=$(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$process/status")
    descriptors=$(ls "/proc/$process/fd" | wc -l)
    printf '%5d times adapted, %3d kept  %7d KiB resident  %3d descriptors\n' "$cycle" "$accepted" "$memory" "$descriptors"
    if [ "$first_memory" = 0 ]; then
        first_memory=$memory first_descriptors=$descriptors
    elif ((memory > first_memory + 4096 || descriptors > first_descriptors)); then
        grown=1
    fi
done
kill -s TERM "$process"
# What it still says must go somewhere.
cat <&3 >/dev/null &
wait "$process" || { echo "it ended with exit code $?"; exit 1; }
"$program" --home "$home" prompt history default --json |
    awk '/"error"/ { bad = 1 } END { print NR " generations can be read"; exit bad || NR == 0 || NR > 10 }'
[ "$grown" = 0 ] || { echo "memory or descriptors grew"; exit 1; }
echo flat
