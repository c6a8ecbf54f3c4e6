"""Packs folders of photographs into square crops of one size, so that training never decodes a picture again.

The teacher and the student see exactly the same crop (FKD, arXiv 2112.01528). View 0 is the largest square in the middle;
every other view is a window drawn at random, mirrored half of the time. Rows are shuffled, so that any first part of the
table is a fair sample. Writes OUT/views.npy [views, pictures, side, side, 3] (uint8) and OUT/index.json.
Usage: python pack.py --photos FOLDER --out FOLDER [--side 112] [--views 5]       (FOLDER/SET/CLASS/picture)
"""

import argparse
import json
import math
import random
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = (".webp", ".jpg", ".jpeg", ".png")


def middle(size):
    """The largest square in the middle."""
    width, height = size
    side = min(size)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def window(size, rng):
    """A random window: 30 to 100 % of the largest square's area, sides 3:4 to 4:3."""
    width, height = size
    area = min(size) ** 2 * rng.uniform(0.3, 1.0)
    stretch = math.exp(rng.uniform(-math.log(4 / 3), math.log(4 / 3)) / 2)
    w, h = min(width, area**0.5 * stretch), min(height, area**0.5 / stretch)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return x, y, x + w, y + h


def views(path, side, count):
    """[count, side, side, 3]: the middle, then random windows that follow from the file's name."""
    picture, rng = Image.open(path).convert("RGB"), random.Random(path.name)
    crops = []
    for view in range(count):
        box = window(picture.size, rng) if view else middle(picture.size)
        crop = picture.resize((side, side), Image.BICUBIC, box=box)
        if view and rng.random() < 0.5:
            crop = crop.transpose(Image.FLIP_LEFT_RIGHT)
        crops.append(np.asarray(crop))
    return np.stack(crops)


def listing(photos):
    """(set, class, path) of every picture, shuffled."""
    found = [(path.parts[-3], path.parts[-2], path) for path in sorted(photos.glob("*/*/*")) if path.suffix in PICTURES]
    random.Random(0).shuffle(found)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--views", type=int, default=5)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = listing(args.photos)
    rows = [{"set": name, "class": label, "path": str(path.relative_to(args.photos))} for name, label, path in found]
    (args.out / "index.json").write_text(json.dumps({"side": args.side, "views": args.views, "rows": rows}))
    shape = (args.views, len(found), args.side, args.side, 3)
    table = np.lib.format.open_memmap(args.out / "views.npy", mode="w+", dtype=np.uint8, shape=shape)
    for row, (*_, path) in enumerate(found):
        table[:, row] = views(path, args.side, args.views)
        if row % 4096 == 4095:
            (args.out / "packed").write_text(str(row + 1))
            print(row + 1, "of", len(found), flush=True)
    table.flush()
    (args.out / "packed").write_text(str(len(found)))
