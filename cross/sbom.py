#!/usr/bin/env python3
"""Writes the bill of materials of what is shipped: every crate that is linked into the program for a target, with version,
licence, checksum and what it depends on, as CycloneDX 1.5 (JSON).

    cross/sbom.py TARGET > sbom.cdx.json

It reads what `cargo metadata` says and nothing else, so it needs no tool that takes minutes to compile and makes the same
file of the same Cargo.lock each time.
"""

import json
import re
import subprocess
import sys
import tomllib

if len(sys.argv) != 2:
    sys.exit(__doc__)
target = sys.argv[1]
run = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
metadata = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = metadata["resolve"]["root"]
with open("Cargo.lock", "rb") as lock:
    locked = tomllib.load(lock)["package"]
checksums = {(p["name"], p["version"]): p["checksum"] for p in locked if "checksum" in p}


def linked(identity):
    """What a crate depends on when it is built into the program: no tests, no build scripts, no macros."""
    macro = lambda package: any("proc-macro" in made["kind"] for made in package["targets"])
    return [
        dependency["pkg"]
        for dependency in nodes[identity]["deps"]
        if any(kind["kind"] is None for kind in dependency["dep_kinds"]) and not macro(packages[dependency["pkg"]])
    ]


def reference(identity):
    package = packages[identity]
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(identity, kind):
    package = packages[identity]
    made = {
        "type": kind,
        "bom-ref": reference(identity),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(identity),
        "scope": "required",
    }
    if package.get("license"):
        made["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


reached, ahead = set(), [root]
while ahead:
    identity = ahead.pop()
    if identity not in reached:
        reached.add(identity)
        ahead += linked(identity)
crates = sorted(reached - {root}, key=reference)
bill = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {"component": component(root, "application"), "properties": [{"name": "target", "value": target}]},
    "components": [component(identity, "library") for identity in crates],
    "dependencies": [
        {"ref": reference(identity), "dependsOn": sorted(map(reference, linked(identity)))}
        for identity in [root, *crates]
    ],
}
json.dump(bill, sys.stdout, indent=1)
print()
