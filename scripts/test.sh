#!/usr/bin/env bash
# Passes all tests, on a fresh machine with Rust. They share the build of scripts/demo.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cargo test --release "$@"
