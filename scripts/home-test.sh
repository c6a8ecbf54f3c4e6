#!/usr/bin/env bash
# Reports to a real Mosquitto, and to Home Assistant as their reader: scripts/home-test.sh [PROGRAM]
# Installs Mosquitto (Debian, Ubuntu) and, into target/home-assistant, PyPI's homeassistant for the newest Python there is.
# HOME_ASSISTANT=0 leaves the latter out: it is some 100 packages. Everything runs on loopback and ends by itself.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH="$PATH:/usr/sbin"
scripts/home/install.sh

program="${1:-target/release/edge-rlp}"
[ -n "${1:-}" ] || cargo build --release --quiet

python3 scripts/home/broker_test.py "$program"

[ "${HOME_ASSISTANT:-1}" = 1 ] || exit 0
environment="${HOME_ASSISTANT_VENV:-target/home-assistant}"
if [ ! -x "$environment/bin/python" ]; then
    newest=
    # Those on the path, and those of pyenv, newest first.
    for python in python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1{4,3,2}*/bin/python3; do
        if "$python" --version > /dev/null 2>&1; then
            newest="$python"
            break
        fi
    done
    if [ -z "$newest" ]; then
        echo "Home Assistant needs Python 3.12 or newer: left out" >&2
        exit 0
    fi
    "$newest" -m venv "$environment"
    "$environment/bin/pip" install --quiet uv
    export VIRTUAL_ENV="$PWD/$environment"
    # Its own list of versions that go together.
    "$environment/bin/uv" pip install --quiet --no-deps homeassistant
    constraints=$(echo "$environment"/lib/python3.*/site-packages/homeassistant/package_constraints.txt)
    "$environment/bin/uv" pip install --quiet --constraint "$constraints" homeassistant paho-mqtt
fi
"$environment/bin/python" scripts/home/home_assistant_test.py "$program"
