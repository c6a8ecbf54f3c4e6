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
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_PROFILE_RELEASE_DEBUG=0
# The target is named, so that build scripts and macros are built without it.
exec cargo test --release --lib --target "$host" --target-dir target/sanitize -- "${filters[@]}"
