#!/usr/bin/env bash
# Installs Mosquitto, its clients, openssl and what else is named, where they are missing (Debian, Ubuntu):
# scripts/home/install.sh [PROGRAM...]. A program is in the package of its name.
set -euo pipefail

PATH="$PATH:/usr/sbin"
missing=()
for program in mosquitto mosquitto_sub mosquitto_passwd openssl "$@"; do
    command -v "$program" > /dev/null || missing+=("$program")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
echo "installing what brings ${missing[*]}" >&2
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends mosquitto mosquitto-clients openssl "$@"
