#!/usr/bin/env bash
# Runs the tests of the modules that hold unsafe code under AddressSanitizer: memory that is read or written outside its
# bounds, or after it was freed, ends them. Needs no nightly toolchain; the first time it builds everything once more.
#
#     scripts/sanitize.sh [FILTER...]          # without FILTER, the modules that docs/security.md names
set -euo pipefail
cd "$(dirname "$0")/.."
filters=("$@")
[ ${#filters[@]} -gt 0 ] || filters=(ops:: clip::bundle:: clip::image_tower:: host::memory:: adapt::)
host=$(rustc -vV | sed -n 's/^host: //p')
# Two tables of OpenH264 are alike, the linker makes them one, and that counts as an error otherwise; it is not our code, nor a fault.
# SIGBUS is left to the program, which explains it.
export ASAN_OPTIONS=detect_odr_violation=0:handle_sigbus=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_PROFILE_RELEASE_DEBUG=0
# The target is named, so that build scripts and macros are built without it.
exec cargo test --release --lib --target "$host" --target-dir target/sanitize -- "${filters[@]}"
