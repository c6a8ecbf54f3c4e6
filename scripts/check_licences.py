#!/usr/bin/env python3
"""Compares the licences and sources of all locked dependencies with deny.toml: that part of `cargo deny check`, where it
is not installed. Exit code 1 where one is not allowed."""

import json
import re
import subprocess
import tomllib

rules = tomllib.load(open("deny.toml", "rb"))["licenses"]
exceptions = {rule["crate"]: set(rule["allow"]) for rule in rules["exceptions"]}
command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
packages = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]


def allowed(expression, allow):
    """Whether `expression` (SPDX, or the older A/B) can be met with the licences of `allow`; brackets stand around ORs."""
    groups = re.findall(r"\(([^)]*)\)", expression) or []
    rest = re.sub(r"\([^)]*\)", "", expression)
    parts = [part for part in groups + re.split(r" AND ", rest) if part.strip(" AND")]
    either = lambda part: any(name.strip() in allow for name in re.split(r" OR |/", part))
    return all(either(part) for part in parts)


bad = 0
for package in packages:
    if package["source"] is None:
        continue
    allow = set(rules["allow"]) | exceptions.get(package["name"], set())
    if not allowed(package["license"] or "none", allow):
        bad += 1
        print(f"{package['name']} {package['version']}: {package['license']} is not allowed by deny.toml")
    if not package["source"].startswith("registry+https://github.com/rust-lang/crates.io-index"):
        bad += 1
        print(f"{package['name']} {package['version']}: comes from {package['source']}")
print(f"{len(packages)} packages looked at, {bad} not allowed")
raise SystemExit(bad > 0)
