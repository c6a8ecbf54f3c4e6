#!/usr/bin/env bash
# Builds the tests for another processor, passes them under qemu's user emulation, and compares predictions and prompts with
# those of this machine's own build:
#
#     cross/test.sh aarch64|armv7 [compare | tests [PROGRAM...]]
#
# Both parts run unless one is named; PROGRAM is lib, bin or the name of a program in tests/, with ::MODULE for a part of it. aarch64 runs as a Cortex-A72
# (Raspberry Pi 4) and, for the kernels with the dot product of eight-bit integers (SDOT), as a Cortex-A76 (Raspberry Pi 5);
# armv7 as a Cortex-A7 (Raspberry Pi 2). Tests left out in emulation are named in SKIPPED, with why. Compared are 4 pictures a
# label to train on and 10 to name, or $SHOTS and $PICTURES; $STEPS ends the training early, which takes minutes otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
source cross/toolchain.sh

case "${1:-}" in
aarch64) target=aarch64-unknown-linux-gnu emulator=qemu-aarch64-static processors="cortex-a72 cortex-a76" ;;
armv7) target=armv7-unknown-linux-gnueabihf emulator=qemu-arm-static processors="cortex-a7" ;;
*)
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
part="${2:-both}"
programs="${*:3}"
# Seconds of the processor for a test program, and three times as many on the clock; the last line of its log names the test
# that did not end.
LIMIT="${LIMIT:-1200}"
declare -A SKIPPED=(
    [a_killed_writer_leaves_nothing_locked]="starts its own program anew, which this kernel cannot do without the emulator"
    [features_of_pictures_do_not_depend_on_the_number_of_threads]="minutes in emulation, and no matter of the processor"
    [features_and_gradients_of_texts_do_not_depend_on_the_number_of_threads]="likewise"
    [a_trained_prompt_does_not_depend_on_the_number_of_threads]="likewise"
    [a_line_that_is_cut_ends_the_program_and_the_shots_survive]="the emulator does not know the terminal's TCGETS2"
    [a_terminal_that_shows_pixels_is_sent_them_and_the_keys_still_work]="likewise"
    [from_the_first_key_to_a_prompt_that_classifies_and_the_shots_are_there_again]="likewise"
    [training_can_be_cancelled_the_size_changed_and_a_signal_gives_the_terminal_back]="likewise"
    [a_watched_camera_is_learnt_anew_after_each_change_and_no_sooner]="three thousand pictures, at five a second in emulation"
    [watching_goes_on_from_the_prompt_in_use_and_can_be_rolled_back]="likewise"
    [each_figure_has_a_median_and_a_spread]="so does edge-rlp bench"
)
logs="$PWD/target/cross/logs"

# Emulated programs see this machine's /proc/cpuinfo, where tract looks for NEON in vain.
export TRACT_CPU_ARM32_NEON=true
needed qemu-user-static
toolchain "$target"
target_libraries "$target"

built="$PWD/target/cross/$target/release"
work="$(mktemp -d)"
trap 'not_emulated; rm -rf "$work"' EXIT

# wrapper FILE CPU PROGRAM: makes FILE a script that runs the program emulated, as that processor.
wrapper() {
    printf '#!/bin/sh\nexec %s -cpu %s -L %s %s "$@"\n' "$emulator" "$2" "$libraries" "$3" >"$1"
    chmod +x "$1"
}

# emulated CPU: from now on the program that tests start, by the name that cargo has built into them, runs emulated.
emulated() {
    [ -e "$built/edge-rlp.elf" ] || mv "$built/edge-rlp" "$built/edge-rlp.elf"
    rm -f "$built/edge-rlp"
    wrapper "$built/edge-rlp" "$1" "$built/edge-rlp.elf"
}
not_emulated() {
    [ ! -e "$built/edge-rlp.elf" ] || mv -f "$built/edge-rlp.elf" "$built/edge-rlp"
}

# run_tests: every test program on the first processor, one test at a time; only the kernels' tests on the others.
run_tests() {
    local executables processor executable program named wanted started arguments skipped result failures=0
    not_emulated
    zigbuild "$target" --release --tests --message-format=json-render-diagnostics >"$work/built"
    executables="$(python3 -c '
import json, sys
for line in sys.stdin:
    artifact = json.loads(line)
    if artifact.get("profile", {}).get("test") and artifact.get("executable"):
        print("/".join(artifact["target"]["kind"]), artifact["executable"])' <"$work/built")"
    mkdir -p "$logs"
    for processor in $processors; do
        emulated "$processor"
        while read -r kind executable; do
            program="$(basename "${executable%-*}")"
            [ "$kind" = test ] || program="$kind"
            arguments=(--test-threads=1)
            wanted=
            for named in ${programs:-$program}; do
                [ "${named%%::*}" = "$program" ] || continue
                wanted=1
                [ "$named" = "$program" ] || arguments+=("${named#*::}::")
            done
            [ -n "$wanted" ] || continue
            if [ "$processor" != "${processors%% *}" ]; then
                [ "$kind" = lib ] || continue
                arguments+=(ops::)
            fi
            for skipped in "${!SKIPPED[@]}"; do
                arguments+=(--skip "$skipped")
            done
            started="$SECONDS"
            log="$logs/$processor-$program.log"
            if (
                ulimit -t "$LIMIT"
                CARGO_MANIFEST_DIR="$PWD" timeout "$((3 * LIMIT))" "$emulator" -cpu "$processor" -L "$libraries" "$executable" \
                    "${arguments[@]}" >"$log" 2>&1 </dev/null
            ); then
                result=passed
            else
                result="FAILED ($?)"
                failures=$((failures + 1))
                sed -n '/^failures:/,$p' "$log"
            fi
            echo "$processor $program: $result, $(sed -n 's/^test result: [A-Za-z]*. //p' "$log" | cut -d';' -f1-4)" \
                "($((SECONDS - started)) s)"
        done <<<"$executables"
    done
    [ "$failures" = 0 ]
}

compare() {
    local own="${EDGE_RLP:-target/release/edge-rlp}" processor
    not_emulated
    [ -n "${EDGE_RLP:-}" ] || cargo build --release --quiet --bin edge-rlp --target-dir target
    [ -x "$built/edge-rlp" ] || zigbuild "$target" --release --bin edge-rlp
    "$own" demo --quiet --out "$work/pictures" --condition squeezed --shots "${SHOTS:-4}" --test "${PICTURES:-10}"
    "$own" model import models/default --home "$work/float" --name float --precision f32 --quiet
    for processor in $processors; do
        wrapper "$work/edge-rlp-$processor" "$processor" "$built/edge-rlp"
        python3 cross/compare.py "$processor" "$own" "$work/edge-rlp-$processor" "$work/pictures" "$work/float" "$work/$processor"
    done
}

code=0
[ "$part" = compare ] || run_tests || code=1
[ "$part" = tests ] || compare || code=1
exit $code
