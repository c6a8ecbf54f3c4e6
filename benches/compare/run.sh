#!/usr/bin/env bash
# Sets up Python, builds everything, makes ViT-B/32 with random weights, measures, and writes the table of docs/results/time-and-memory.md.
# Needs network for PyPI (several GB for PyTorch) and crates, about 10 GB of disk, and half an hour on an idle machine.
# Usage: benches/compare/run.sh [arguments of compare.py]
set -euo pipefail
cd "$(dirname "$0")/../.."

work="${COMPARE_DIR:-target/compare}"
mkdir -p "$work"
scripts/setup.sh
if [ ! -x "$work/venv/bin/python" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q -r benches/compare/requirements.txt
fi
python="$work/venv/bin/python"
[ -f "$work/models/preprocessor_config.json" ] || "$python" benches/compare/make_models.py "$work/models"
cargo build --release --bin edge-rlp --example plain_tract --example coop_recipe
cargo build --release --manifest-path benches/compare/rten/Cargo.toml
for precision in int8 f32; do
    [ -f "$work/models/$precision.rlpm" ] && continue
    target/release/edge-rlp --home "$work/home" model import "$work/models" --name "$precision" --precision "$precision" --force
    mv "$work/home/models/$precision.rlpm" "$work/models/"
done
"$python" benches/compare/compare.py "$work/models" --write docs/results/time-and-memory.md "$@"
