#!/usr/bin/env python3
"""Counts instructions: `instructions.py PICTURES WORK [--model FILE] NAME=COMMAND...`, where COMMAND runs edge-rlp of one
processor under qemu with the counting plugin, and PICTURES is a folder of labelled pictures.

Prints for each processor what one picture and one training step cost: for eight-bit integers and for f32 alone, each with
the kernel that needs the fewest instructions for a picture (which is not necessarily the fastest: on a box that is
measured). Differences of two runs that differ in pictures, or steps, alone. Of a model that is named, only pictures are counted,
with every integer kernel."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

pictures, work = map(pathlib.Path, sys.argv[1:3])
commands, model = sys.argv[3:], []
if commands and commands[0] == "--model":
    commands, model = commands[2:], commands[:2]
labels = sorted(path.name for path in pictures.iterdir() if path.is_dir())
some = [str(path) for path in sorted((pictures / labels[0]).glob("*.png"))]


def run(command, home, *arguments):
    """The instructions of a run, and its answers."""
    command = [*command, "--threads", "1", "--json", "--home", str(home), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    counted = [line for line in done.stderr.splitlines() if line.startswith("instructions ")]
    if done.returncode not in (0, 3) or not counted:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return int(counted[-1].split()[1]), [json.loads(line) for line in done.stdout.splitlines()]


def opened_and_encoded(command, home):
    return run(command, home, "embed", "--image", some[0])[0]


def picture(command, home):
    # The second picture also pays for weights that are packed for all that follow.
    few, many = (run(command, home, "embed", *model, "--image", *some[:count])[0] for count in (2, 3))
    return many - few


def step(command, home):
    counted, steps = [], []
    for limit in (2, 8):
        instructions, answers = run(
            command, home, "adapt", "--images", str(pictures), "--views", "1", "--steps", str(limit), "--force", "--prompt", "counted"
        )
        counted.append(instructions)
        steps.append(answers[0]["steps"])
    return (counted[1] - counted[0]) / (steps[1] - steps[0])


for name, command in (argument.split("=", 1) for argument in commands):
    command = shlex.split(command)
    home = work / name
    # Where there is a home folder with something in it, the kernels that are chosen are kept there.
    (home / "cache").mkdir(parents=True)
    opened_and_encoded(command, home)
    kept = home / "cache" / "kernels.json"
    chosen = json.loads(kept.read_text())
    # The generic kernels need more, and those for a certain processor as many as the others, in another order.
    written = [kernel for kernel in chosen["compared"] if not re.match("generic|.*_(a5[35]|cortexa[79])/", kernel)]
    floats = [kernel for kernel in written if "f32" in kernel]
    integers = [kernel for kernel in written if "f32" not in kernel]

    def cost(float_kernel, integer_kernel, what=picture):
        kept.write_text(json.dumps({**chosen, "float": float_kernel, "integer": integer_kernel}))
        counted = what(command, home)
        now = json.loads(kept.read_text())
        if (now["float"], now["integer"]) != (float_kernel, integer_kernel):
            sys.exit(f"error: {name}: {float_kernel}, {integer_kernel} were not taken")
        return counted

    best_float = min(floats, key=lambda kernel: cost(kernel, None, opened_and_encoded))
    compared = [("f32", None)]
    if model:
        compared = [*(("eight bits", kernel) for kernel in integers), *compared]
    elif integers:
        compared.insert(0, ("eight bits", min(integers, key=lambda kernel: cost(best_float, kernel, opened_and_encoded))))
    if not model:
        stepped = cost(best_float, compared[0][1], step)
        print(f"{name}: {stepped / 1e6:.1f} million a step of {len(labels)} labels", flush=True)
    for what, integer in compared:
        kernels = " and ".join(filter(None, (integer, best_float)))
        print(f"{name}, {what}: {cost(best_float, integer) / 1e6:.1f} million a picture ({kernels})", flush=True)
