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
"$(dirname "$0")/../install.sh" mosquitto mosquitto-clients openssl "$@"
