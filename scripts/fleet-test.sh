#!/usr/bin/env bash
# Signed prompts over a real Mosquitto, with every fault that was thought of: scripts/fleet-test.sh [PROGRAM [WORDS OF A TEST'S NAME]]
# Installs Mosquitto, openssl and minisign (Debian, Ubuntu). Everything runs on loopback and ends by itself.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH="$PATH:/usr/sbin"
scripts/home/install.sh minisign

program="${1:-target/release/edge-rlp}"
[ -n "${1:-}" ] || cargo build --release --quiet

python3 scripts/fleet/fleet_test.py "$program" "${@:2}"
