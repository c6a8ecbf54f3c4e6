#!/usr/bin/env python3
"""Compares two builds of edge-rlp on drawn pictures: `compare.py NAME OWN OTHER PICTURES FLOAT WORK`.

OWN and OTHER are the programs, PICTURES what `edge-rlp demo` wrote, FLOAT a home folder with the default model in f32 as
"float". Prints what it measured, and exits with 1 where it passes a bound: cosine distances of features 1e-3 (eight-bit
model) and 1e-5 (f32), labels the same, prompts of one accepted by the other."""

import json
import math
import os
import pathlib
import subprocess
import sys

name, own, other, pictures, floats, work = sys.argv[1:]
work = pathlib.Path(work)
wrong = []


def run(program, home, *arguments):
    command = [program, "--json", "--home", str(home), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def distance(a, b):
    product = sum(x * y for x, y in zip(a, b))
    return 1 - product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def rounded(shown):
    """What `prompt show` computes from the numbers of a prompt may differ in the last of a float's digits."""
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in shown.items()}


def check(holds, told):
    print(f"{name}: {told}" + ("" if holds else "  <- WRONG"))
    if not holds:
        wrong.append(told)


def both(*arguments, home=None):
    return [run(program, home or work / kind, *arguments) for kind, program in (("own", own), ("other", other))]


labels = [line.strip() for line in open(f"{pictures}/labels.txt")]
for what, model, bound in ("eight bits", [], 1e-3), ("f32", ["--model", "float"], 1e-5):
    home = floats if model else None
    for kind, inputs in ("pictures", ["--image", f"{pictures}/train"]), ("texts", ["--text", *labels]):
        mine, theirs = both("embed", *inputs, *model, home=home)
        distances = [distance(a["features"], b["features"]) for a, b in zip(mine, theirs, strict=True)]
        worst = max(distances)
        check(worst <= bound, f"{what}, {len(mine)} {kind}: cosine distance {worst:.1e} at most (bound {bound:g})")

mine, theirs = both("classify", f"{pictures}/test", "--labels", f"{pictures}/labels.txt")
different = [(a["source"], a["label"], b["label"]) for a, b in zip(mine, theirs, strict=True) if a["label"] != b["label"]]
check(not different, f"labels of {len(mine)} pictures, zero-shot: {len(different)} differ {different[:5]}")

# A prompt made by each, used by both. $STEPS, if set, ends training early.
steps = ["--steps", os.environ["STEPS"]] if "STEPS" in os.environ else []
for maker, program in ("own", own), ("other", other):
    home = work / f"made-by-{maker}"
    made = run(program, home, "adapt", "--images", f"{pictures}/train", "--views", "1", *steps, "--force")[-1]
    prompt = home / "prompts" / "default.rlp"
    shown = [run(reader, home, "prompt", "show", "default")[0] for reader in (own, other)]
    check(rounded(shown[0]) == rounded(shown[1]), f"prompt made by {maker} ({made['bytes']} bytes): read alike, digest {shown[0]['digest'][:16]}")
    mine, theirs = both("classify", f"{pictures}/test", "--prompt", prompt)
    same = sum(a["label"] == b["label"] for a, b in zip(mine, theirs, strict=True))
    right = [sum(a["label"] == a["truth"] for a in answers) for answers in (mine, theirs)]
    check(same == len(mine), f"labels of {len(mine)} pictures with that prompt: {same} the same, right {right[0]} and {right[1]}")

# Every integer kernel that the other processor has, whichever is the fastest in emulation.
kept = work / "made-by-other" / "cache" / "kernels.json"
chosen = json.loads(kept.read_text())
print(f"{name}: fastest here: f32 {chosen['float']}, int8 {chosen['integer']}")
picture_folder = f"{pictures}/train/{labels[0]}"
mine = run(own, work / "own", "embed", "--image", picture_folder)
for kernel in [None, *(kernel for kernel in chosen["compared"] if "f32" not in kernel)]:
    kept.write_text(json.dumps({**chosen, "integer": kernel}))
    theirs = run(other, work / "made-by-other", "embed", "--image", picture_folder)
    worst = max(distance(a["features"], b["features"]) for a, b in zip(mine, theirs, strict=True))
    check(worst <= 1e-3, f"int8 on {kernel or 'no integer kernel'}: cosine distance {worst:.1e} at most")
    check(json.loads(kept.read_text())["integer"] == kernel, "and that kernel it was")

sys.exit(1 if wrong else 0)
