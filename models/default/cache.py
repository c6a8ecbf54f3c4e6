"""Runs the trained image tower over photographs and drawn scenes, once: OUT/photosV.npy (each view) and OUT/drawn.npy, the
pooled features before the projection, in float16.

Usage: python cache.py --image image.pt --pack FOLDER --drawn FOLDER --out FOLDER [--views 0,1] [--part 0/2]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from model import Clip, Config
from photos import normalise


def trained(path):
    """The averaged image tower of train_image.py's checkpoint."""
    saved = torch.load(path, map_location="cpu", weights_only=False)
    tower = Clip(Config(**saved["config"])).visual
    tower.load_state_dict({key[2:]: value for key, value in saved["average"].items() if key.startswith("0.")})
    return tower.eval().to(memory_format=torch.channels_last)


def run(tower, pixels, path, part, batch=128):
    """Writes the features of one part of the pictures."""
    first, parts = part
    if not path.exists():
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(pixels), tower.proj.in_features))
    out = np.load(path, mmap_mode="r+")
    starts, began = range(0, len(pixels), batch), time.time()
    for at in list(starts)[first::parts]:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            out[at : at + batch] = tower.pooled(normalise(pixels[at : at + batch])).float().numpy()
    print(path.name, f"{len(pixels) / parts / (time.time() - began):.0f} a second", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("image", "pack", "drawn", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--views", default="0,1")
    parser.add_argument("--part", default="0/1", help="which of several processes this is")
    parser.add_argument("--scenes", type=int, default=16_000, help="drawn scenes at most")
    parser.add_argument("--rows", type=int, default=10**9, help="photographs at most: rows are shuffled")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    part = tuple(map(int, args.part.split("/")))
    tower, crops = trained(args.image), np.load(args.pack / "views.npy", mmap_mode="r")
    run(tower, np.load(args.drawn / "pixels.npy", mmap_mode="r")[: args.scenes], args.out / "drawn.npy", part)
    for view in map(int, args.views.split(",")):
        run(tower, crops[view][: args.rows], args.out / f"photos{view}.npy", part)
