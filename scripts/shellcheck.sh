#!/usr/bin/env bash
# Looks through all shell scripts of the repository with shellcheck, which it installs where it is missing (Debian, Ubuntu).
set -euo pipefail
cd "$(dirname "$0")/.."

command -v shellcheck >/dev/null || scripts/install.sh shellcheck
# Those that say which shell they are for, and those that are sourced.
mapfile -t scripts < <({
    git grep -lE '^#!.*[ /](ba)?sh( |$)'
    git ls-files 'cross/*.sh'
} | sort -u)
shellcheck "${scripts[@]}"
echo "shellcheck: ${#scripts[@]} scripts, nothing found"
