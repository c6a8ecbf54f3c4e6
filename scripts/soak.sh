#!/usr/bin/env bash
# Does memory stay flat, and is the disk left alone? Names frames of the demo camera and prints resident memory, open
# descriptors and bytes written to a disk at the start, ten times on the way, and at the end. Fails if memory grew by more
# than 2 MiB, or descriptors or bytes at all, after the first tenth.
#
#     scripts/soak.sh [FRAMES] [BINARY]        # 100,000 frames and target/release/edge-rlp unless said otherwise
set -euo pipefail
frames=${1:-100000}
program=$(realpath "${2:-target/release/edge-rlp}")
home=$(mktemp -d)
# A pipe on a disk has a time of its last change, which is written there.
pipe=$(mktemp -u -p "$([ -d /dev/shm ] && echo /dev/shm || echo "$home")")
trap 'rm -rf "$home" "$pipe"' EXIT
printf 'mug\nkey\nfish\nhammer\n' > "$home/labels.txt"
mkfifo "$pipe"
"$program" --home "$home" --quiet --threads 1 classify --camera demo --labels "$home/labels.txt" --frames "$frames" --csv \
    > "$pipe" &
process=$!

awk -v process="$process" -v frames="$frames" '
    function sample(    line, memory, descriptors, written) {
        while ((getline line < ("/proc/" process "/status")) > 0)
            if (line ~ /^VmRSS:/) { split(line, part, " "); memory = part[2] }
        close("/proc/" process "/status")
        ("ls /proc/" process "/fd | wc -l") | getline descriptors
        close("ls /proc/" process "/fd | wc -l")
        while ((getline line < ("/proc/" process "/io")) > 0)
            if (line ~ /^write_bytes:/) { split(line, part, " "); written = part[2] }
        close("/proc/" process "/io")
        printf "%8d frames  %7d KiB resident  %3d descriptors  %d bytes written\n", NR - 1, memory, descriptors, written
        fflush()
        if (!from_memory && NR - 1 >= frames / 10) { from_memory = memory; from_descriptors = descriptors; from_written = written; from_time = systime() }
        if (from_memory && (memory > from_memory + 2048 || descriptors > from_descriptors || written > from_written)) grown = 1
        last_written = written
    }
    NR == 2 || (NR > 2 && (NR - 1) % int(frames / 10) == 0 && NR - 1 < frames) { sample() }
    END {
        if (NR - 1 != frames) { print "only " NR - 1 " of " frames " frames were named"; exit 1 }
        if (grown) { print "memory, descriptors or what is written grew"; exit 1 }
        if (systime() > from_time)
            printf "%d bytes a day\n", (last_written - from_written) / (systime() - from_time) * 86400
        print "flat"
    }' "$pipe"
wait "$process"
