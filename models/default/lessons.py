"""What each lesson is worth: a short training of a fresh image tower for each choice of lessons, all with as many pictures of the same ones.

The choices are judged on the classes put aside. Such a tower is far from what it could become, so only differences say something, and
`all` is trained twice to show how much chance makes of them. A learnt space turns the places of names by a matrix that learns with the
tower, begins as none and could become part of the text tower's projection.
Usage: python lessons.py --data FOLDER --pack FOLDER --out FILE.jsonl [--steps 900]      (FOLDERs from ship.py --unpack and pack.py)
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from model import Config
from photos import Photos
from targets import Space
from train_gpu import DEVICE, Lesson, Trainer, prepare
from train_image import features_of, judged, per_cent, put_aside

RESEARCH = ("in_mini_imagenet", "in_tiny_imagenet", "in_imagenette", "in_imagenet_sample", "in_hymenoptera", "flickr8k")
TEACHER = ("features", "early map", "late map", "soft labels", "concepts, soft")
CHOICES = {
    "all": {},
    "distillation alone": {"left_out": ("classes", "concepts", "captions")},
    "distillation and labels": {"left_out": ("captions",)},
    "labels and captions": {"left_out": TEACHER},
    "without the teacher's maps": {"left_out": ("early map", "late map")},
    "learnt space": {"learnt": True},
    "without sets for research": {"without": RESEARCH},
    "all, another seed": {"seed": 2},
}


class LearntSpace(Space):
    """A space whose places are turned by what is learnt."""

    def __init__(self, *args, **options):
        self.turn = nn.Linear(256, 256, bias=False).to(options["device"])
        nn.init.eye_(self.turn.weight)
        super().__init__(*args, **options)

    def turned(self, places):
        return F.normalize(self.turn(places), dim=-1)

    targets = property(lambda self: self.turned(self.fixed), lambda self, fixed: setattr(self, "fixed", fixed))
    captions = property(lambda self: self.turned(self.said), lambda self, said: setattr(self, "said", said))

    def places_of(self, names):
        return self.turned(super().places_of(names))


def trained(photos, lesson, config, args, seed):
    """The averaged tower after `args.steps`."""
    torch.manual_seed(seed)
    trainer = Trainer(lesson, config, len(photos.names), args)
    if isinstance(lesson.space, LearntSpace):
        trainer.optims[1].add_param_group({"params": lesson.space.turn.parameters(), "weight_decay": 0.0})
    for step in range(args.steps):
        trainer.step(config.image_size, args.lr * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * min(1.0, (1 - step / args.steps) / 0.8)))
    return trainer.average.module[0].eval(), {name: round(loss.item(), 3) for name, loss in trainer.shown[config.image_size].items()}


@torch.no_grad()
def figures(tower, aside, space, side):
    """Zero-shot and gda of the sets put aside and their means."""
    out = {}
    for name, rows, labels in put_aside(aside):
        seen = dict(zip(("pooled", "joint"), features_of(tower, aside, rows, side)))
        out |= judged(name, seen, labels, space)
    mean = lambda kind: np.mean([value for key, value in out.items() if key.endswith(kind)])
    return per_cent(out | {"zero-shot": mean("zero-shot"), "gda": mean("gda joint"), "gda pooled": mean("gda pooled")})


def main(args):
    begin, config = time.time(), Config(image_size=args.side)
    say = lambda *what: print(f"{time.time() - begin:.0f} s:", *what, flush=True)
    _, first = prepare(args, config, say)
    aside = Photos(args.pack)
    for name in args.choices.split(",") if args.choices else CHOICES:
        choice, photos = CHOICES[name], Photos(args.data, without=CHOICES[name].get("without", ()))
        for table in ("labels", "sets", "train", "aside"):
            setattr(photos, table, getattr(photos, table)[: args.pictures])
        space = (LearntSpace if "learnt" in choice else Space)(args.data / "space.npz", photos, device=DEVICE)
        lesson = Lesson(photos, first.taught, space, first.drawn, args)
        lesson.left_out = choice.get("left_out", ())
        start = time.time()
        tower, losses = trained(photos, lesson, config, args, choice.get("seed", args.seed))
        row = {"lessons": name, "photographs": int(photos.train.sum()), "pictures": args.steps * (args.batch + args.scenes), "seconds": round(time.time() - start)}
        row |= figures(tower, aside, space, args.side) | losses
        with args.out.open("a") as out:
            print(json.dumps(row), file=out)
        say(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "pack", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--choices", default="", help="some of them, by commas")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--pictures", type=int, default=16_000, help="photographs, and how many windows of each the teacher sees")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.35)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=224)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.set_defaults(without="", early=2, share=0.5, compile=True, graph=False)
    main(parser.parse_args())
