#!/usr/bin/env bash
# Runs all fuzz targets in turn, SECONDS each, ROUNDS times, and says after each turn what it came to:
#     fuzz/campaign.sh SECONDS ROUNDS [TARGET...] | tee -a fuzz/campaign.txt
# The corpora stay in fuzz/corpus, so that each turn goes on from the one before.
set -uo pipefail
cd "$(dirname "$0")" || exit
seconds=$1 rounds=$2
shift 2
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(bundle onnx tokenizer prompt_file prompt_json http_answer labels mjpeg picture rtsp serve_config serve_request)
export ASAN_OPTIONS=detect_leaks=0
TIMEFORMAT="%U %S"
for _ in $(seq "$rounds"); do
    for target in "${targets[@]}"; do
        log=$(mktemp)
        cpu=$({ time nice -n 19 ./run.sh "$target" "$seconds" >"$log" 2>&1; } 2>&1)
        count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
        cover=$(grep -o 'cov: [0-9]*' "$log" | tail -1)
        found=$(grep -aE 'SUMMARY|panicked' "$log" | head -2 | tr '\n' ' ')
        echo "$(date -u +%H:%M) $target cpu_seconds ${cpu/ /+} executions ${count:-?} ${cover:-cov ?} ${found:+FOUND $found}"
        rm -f "$log"
    done
done
