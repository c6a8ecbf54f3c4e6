#!/usr/bin/env bash
# A minute's part of scripts/fleet-test.sh and scripts/home-test.sh, which take five: scripts/broker-test.sh [PROGRAM]. Installs
# Mosquitto (Debian, Ubuntu); where that cannot be had it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH="$PATH:/usr/sbin"
if ! timeout 300 scripts/home/install.sh >/dev/null; then
    echo "SKIPPED: reports and signed prompts were not sent over a real broker: Mosquitto cannot be installed here" >&2
    exit 0
fi
program="${1:-target/release/edge-rlp}"
[ -n "${1:-}" ] || cargo build --release --quiet --bin edge-rlp

python3 scripts/fleet/fleet_test.py "$program" --quick
python3 scripts/home/broker_test.py "$program" --quick
