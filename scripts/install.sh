#!/usr/bin/env bash
# Installs packages of Debian or Ubuntu: scripts/install.sh PACKAGE...
set -euo pipefail

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "$@"
