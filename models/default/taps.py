"""Adds what earlier blocks of the image tower know to a model: surfaces, materials, layout, which the last block gives up for names.

The means of the tokens after the blocks `--taps` are laid out along their principal axes over photographs, the long ones shortened
(`--power`), and stand behind the features that texts are compared with. Texts have zeros there: zero-shot does not change, class
means and Gaussians gain. Nothing is trained.
Usage: python taps.py --checkpoint clip.pt --pack FOLDER --out FILE.pt [--taps 2,4] [--dim 192] [--power 0.5]
       python taps.py --image image.pt --text text.pt --pack FOLDER --out FILE.pt      (towers that were not joined: their projection is flattened alone)
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from cache import trained
from export import load
from join import flattened
from model import Clip, Config
from photos import Photos, normalise


@torch.no_grad()
def early(tower, crops, taps, batch=128):
    """Means of the tokens after each of `taps`, each of length sqrt(width), side by side: [pictures, taps * width]."""
    parts = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for at in range(0, len(crops), batch):
            every = tower.tokens(normalise(crops[at : at + batch]))
            parts.append(torch.cat([tower.early(every[tap]).float() for tap in taps], 1))
    return torch.cat(parts)


def apart(image, text, flatten):
    """A model of two towers that have not seen each other: what they share is the semantic space."""
    model = Clip(Config())
    model.visual = trained(image)
    model.visual.proj.weight.data = flattened(model.visual.proj.weight, flatten)
    model.text.load_state_dict(torch.load(text, map_location="cpu", weights_only=True)["text"])
    return model.eval()


def main(args):
    torch.set_num_threads(args.threads)
    old = load(args.checkpoint) if args.checkpoint else apart(args.image, args.text, args.flatten)
    photos = Photos(args.pack)
    taps = tuple(map(int, args.taps.split(",")))
    x = early(old.visual, photos.crops[0][np.flatnonzero(photos.train)[: args.pictures]], taps)
    centre = x.mean(0)
    _, size, axes = torch.linalg.svd(x - centre, full_matrices=False)
    axes = axes[: args.dim] * (size[: args.dim] / size[0])[:, None] ** (args.power - 1)
    model = Clip(replace(old.config, taps=taps, tap_dim=args.dim))
    state = {name: weight.float() for name, weight in old.state_dict().items()}
    state["text.proj.weight"] = F.pad(state["text.proj.weight"], (0, 0, 0, args.dim))
    state |= {"visual.tap_proj.weight": axes, "visual.tap_proj.bias": -axes @ centre}
    model.load_state_dict(state)
    torch.save({"config": model.config.as_dict(), "model": model.state_dict()}, args.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("pack", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("checkpoint", "image", "text"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--flatten", type=float, default=0.25, help="power of the projection's singular values, as of join.py")
    parser.add_argument("--taps", default="2,4", help="blocks, 0 being the stem")
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--power", type=float, default=0.5)
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
