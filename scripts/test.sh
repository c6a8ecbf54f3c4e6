#!/usr/bin/env bash
# Runs all tests on a fresh machine with Rust, or those that `cargo test --release ARGUMENTS` runs. They share the build of
# scripts/demo.sh. Examples are not linked for it; clippy checks them.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
# Half of the tests' time is waiting for cameras and clocks.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}"
if [ $# -gt 0 ]; then
    exec cargo test --release "$@"
fi
cargo test --release --lib --bins --tests
cargo test --release --doc
