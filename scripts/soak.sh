#!/usr/bin/env bash
# Does memory stay flat? Names frames of the demo camera and prints resident memory and open descriptors at the start, ten
# times on the way, and at the end. Fails if memory grew by more than 2 MiB, or descriptors at all, after the first tenth.
#
#     scripts/soak.sh [FRAMES] [BINARY]        # 100,000 frames and target/release/edge-rlp unless said otherwise
set -euo pipefail
frames=${1:-100000}
program=$(realpath "${2:-target/release/edge-rlp}")
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
printf 'mug\nkey\nfish\nhammer\n' > "$home/labels.txt"
mkfifo "$home/answers"
"$program" --home "$home" --quiet --threads 1 classify --camera demo --labels "$home/labels.txt" --frames "$frames" --csv \
    > "$home/answers" &
process=$!

awk -v process="$process" -v frames="$frames" '
    function sample(    line, memory, descriptors) {
        while ((getline line < ("/proc/" process "/status")) > 0)
            if (line ~ /^VmRSS:/) { split(line, part, " "); memory = part[2] }
        close("/proc/" process "/status")
        ("ls /proc/" process "/fd | wc -l") | getline descriptors
        close("ls /proc/" process "/fd | wc -l")
        printf "%8d frames  %7d KiB resident  %3d descriptors\n", NR - 1, memory, descriptors
        fflush()
        if (!from_memory && NR - 1 >= frames / 10) { from_memory = memory; from_descriptors = descriptors }
        if (from_memory && (memory > from_memory + 2048 || descriptors > from_descriptors)) grown = 1
    }
    NR == 2 || (NR > 2 && (NR - 1) % int(frames / 10) == 0 && NR - 1 < frames) { sample() }
    END {
        if (NR - 1 != frames) { print "only " NR - 1 " of " frames " frames were named"; exit 1 }
        if (grown) { print "memory or descriptors grew"; exit 1 }
        print "flat"
    }' "$home/answers"
wait "$process"
