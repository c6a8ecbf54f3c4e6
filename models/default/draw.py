"""Draws scenes with the Rust generator (examples/scene_stream.rs) into files: pixels.npy, attributes.npy, vocabulary.json.

Usage: python draw.py --stream PATH_OF_scene_stream --out FOLDER [--count 60000] [--side 112] [--seed 1]
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np


def vocabulary(stream):
    """The generator's lists of names, as `scene_stream --vocabulary` prints them."""
    return json.loads(subprocess.run([stream, "--vocabulary"], check=True, capture_output=True).stdout)


def scenes(stream, side, count, **options):
    """(pixels [count, side, side, 3], attributes [count, 5]) a batch at a time: scenes(..., seed=1, conditions="train")."""
    record = np.dtype([("attributes", "<u4", 5), ("pixels", "u1", (side, side, 3))])
    flags = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    command = [stream, "--size", str(side), "--count", str(count), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while data := process.stdout.read(record.itemsize * 1024):
            records = np.frombuffer(data, dtype=record)
            yield records["pixels"], records["attributes"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--seed", type=int, default=1, help="below 1,000,000: those from there on are for evaluation")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "vocabulary.json").write_text(json.dumps(vocabulary(args.stream)))
    pixels = np.lib.format.open_memmap(args.out / "pixels.npy", mode="w+", dtype=np.uint8, shape=(args.count, args.side, args.side, 3))
    attributes, at = np.zeros((args.count, 5), np.uint8), 0
    for part, values in scenes(args.stream, args.side, args.count, seed=args.seed, conditions="train", reserved="skip", threads=args.threads):
        pixels[at : at + len(part)], attributes[at : at + len(part)] = part, values
        at += len(part)
    assert at == args.count
    np.save(args.out / "attributes.npy", attributes)
