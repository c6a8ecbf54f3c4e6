#!/usr/bin/env bash
# Signed prompts over a real Mosquitto, with every fault that was thought of: scripts/fleet-test.sh [PROGRAM]
# Installs Mosquitto, openssl and minisign (Debian, Ubuntu). Everything runs on loopback and ends by itself.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH="$PATH:/usr/sbin"
missing=()
for program in mosquitto mosquitto_sub mosquitto_passwd openssl minisign; do
    command -v "$program" > /dev/null || missing+=("$program")
done
if [ "${#missing[@]}" -gt 0 ]; then
    echo "installing what brings ${missing[*]}" >&2
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends mosquitto mosquitto-clients openssl minisign
fi

program="${1:-target/release/edge-rlp}"
[ -n "${1:-}" ] || cargo build --release --quiet

python3 scripts/fleet/fleet_test.py "$program"
