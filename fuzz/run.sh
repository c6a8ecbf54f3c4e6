#!/usr/bin/env bash
# Builds the fuzz targets, or runs one on its seeds for so many seconds:
#     fuzz/run.sh build
#     fuzz/run.sh TARGET SECONDS [libFuzzer's flags]
# Needs no nightly toolchain: the pinned one is told that it may use the sanitizer. What is found lies in fuzz/artifacts;
# it belongs into fuzz/regressions/TARGET once it is mended.
set -euo pipefail
cd "$(dirname "$0")"

host=$(rustc -vV | sed -n 's/^host: //p')
if [ "${1:?say build, or a target and seconds}" = build ]; then
    export RUSTC_BOOTSTRAP=1
    export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=${SANITIZER:-address}"
    # The target is named, so that build scripts and macros are built without all this.
    exec cargo build --release --target "$host"
fi
target=$1 seconds=${2:?say how many seconds}
shift 2
mkdir -p "corpus/$target" "artifacts/$target" "regressions/$target" "seeds/$target"
seeds=("seeds/$target" "regressions/$target")
case $target in
    prompt_file) seeds+=(../prompts) ;;
    fleet_notice) seeds+=(../tests/fixtures/fleet) ;;
    mjpeg) seeds+=(../tests/fixtures/mjpeg) ;;
    picture) seeds+=(../tests/fixtures/picture) ;;
    onnx) seeds+=(../tests/fixtures/import/dynamic-int8 ../tests/fixtures/import/dynamic-uint8) ;;
esac
# Memory and time of one input are bounded: to go beyond is a finding, too. What tract folds out of a small ONNX file may
# take a gigabyte, and AddressSanitizer keeps some of it.
memory=2048
[ "$target" != onnx ] || memory=6144
exec "target/$host/release/$target" "corpus/$target" "${seeds[@]}" -artifact_prefix="artifacts/$target/" \
    -max_total_time="$seconds" -timeout=300 -rss_limit_mb="$memory" -print_final_stats=1 "$@"
