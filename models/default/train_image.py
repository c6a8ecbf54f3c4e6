"""Trains the image tower in a given time: it learns the teacher's features and soft labels, the classes of the sets, the
places of the classes' names in the semantic space, and the attributes of drawn scenes.

The rate follows the clock. A checkpoint is written every few minutes; the same command goes on from it.
With `--small SIDE` pictures are shrunk to that side until `--grow` of the time has gone: more than twice as many are seen
(progressive resizing; what small pictures cost in accuracy the rest of the time at full size gives back, arXiv 1906.06423).
Usage: python train_image.py --pack FOLDER --out FOLDER --until 15:20 [--space FILE] [--drawn FILE]
"""

import argparse
import json
import signal
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from model import Clip, Config
from optim import Average, descend, optimisers
from photos import Photos, jitter, normalise
from targets import Drawn, Space
from train_text import Learner


class Heads(nn.Module):
    """What the tower is asked while it learns, and never again."""

    def __init__(self, width, classes, attributes):
        super().__init__()
        self.teacher = nn.Linear(width, 1280)
        self.labels = nn.Linear(width, 1000)
        self.classes = nn.Linear(width, classes)
        self.drawn = nn.Linear(width, attributes)
        self.scale = nn.Parameter(torch.tensor(2.5))


def distil(guess, truth, temperature=2.0):
    """Kullback and Leibler's divergence from the teacher's soft labels."""
    return temperature**2 * F.kl_div((guess / temperature).log_softmax(1), (truth / temperature).softmax(1), reduction="batchmean")


class Lesson:
    """One batch: pictures of both kinds and the losses."""

    def __init__(self, photos, space, drawn, args):
        self.photos, self.space, self.drawn = photos, space, drawn
        self.sampler = photos.sampler(args.batch, args.seed)
        self.rng = np.random.default_rng(args.seed)
        sample = np.asarray(photos.table("features", 1)[:4096], np.float32)
        self.mean, self.deviation = torch.from_numpy(sample.mean(0)), torch.from_numpy(sample.std(0) + 0.05)

    def pictures(self, side):
        rows, view = next(self.sampler)
        crops, features, logits = self.photos.taught(rows, view)
        x = jitter(crops, self.rng)
        scenes = self.drawn.next() if self.drawn else None
        if scenes:
            x = torch.cat([x, normalise(scenes[0])])
        if side < x.shape[-1]:
            x = F.interpolate(x, size=(side, side), mode="area")
        x = x.contiguous(memory_format=torch.channels_last)
        return rows, x, features, logits, scenes

    def losses(self, heads, proj, pooled, batch):
        rows, _, features, logits, scenes = batch
        photos = pooled[: len(rows)]
        truth = (features - self.mean) / self.deviation
        labels = torch.from_numpy(self.photos.labels[rows])
        out = {"features": 4 * (1 - F.cosine_similarity(heads.teacher(photos).float(), truth)).mean(),
               "soft labels": distil(heads.labels(photos).float(), logits),
               "classes": F.cross_entropy(heads.classes(photos).float(), labels, ignore_index=-1, label_smoothing=0.1)}
        joint = F.normalize(proj(pooled).float(), dim=-1)
        if self.space:
            out |= self.space.losses(joint[: len(rows)], rows, logits, heads.scale)
        if scenes:
            out |= self.drawn.losses(heads.drawn(pooled[len(rows):]).float(), joint[len(rows):], scenes, self.space, heads.scale)
        return out


def features_of(tower, photos, rows, side):
    """Features before and after the projection of the middles of `rows`, shrunk to `side`."""
    parts = []
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for at in range(0, len(rows), 128):
            x = normalise(photos.crops[0][rows[at : at + 128]])
            pooled = tower.pooled(x if side == x.shape[-1] else F.interpolate(x, size=(side, side), mode="area"))
            parts.append((pooled.float(), tower.proj(pooled).float()))
    return torch.cat([p for p, _ in parts]), torch.cat([j for _, j in parts])


def gaussian(x, y, test, shots=16, ridge=0.3):
    """Classes of `test` by one Gaussian a class with a shared, shrunken covariance, as the product's `gda`."""
    classes = y.unique()
    means = torch.stack([x[y == c].mean(0) for c in classes])
    spread = torch.cat([x[y == c] - x[y == c].mean(0) for c in classes])
    cov = spread.T @ spread / len(spread)
    cov = (1 - ridge) * cov + ridge * cov.diagonal().mean() * torch.eye(len(cov))
    w = torch.linalg.solve(cov, means.T)
    return classes[(test @ w - 0.5 * (means.T * w).sum(0)).argmax(1)]


def put_aside(photos):
    """(set, rows, labels) of the classes put aside that there are pictures enough of: the same 56 a class each time."""
    rng = np.random.default_rng(0)
    for name in ("in_mini_imagenet", "clothing_cc0", "instruments30"):
        rows = np.flatnonzero(photos.aside & (photos.sets == name))
        labels = photos.labels[rows]
        chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:56] for c in np.unique(labels)])
        yield name, rows[chosen], torch.from_numpy(labels[chosen])


def judged(name, features, labels, space):
    """A Gaussian a class on 16 shots for each of the `features`, and zero-shot of the "joint" ones where there is a space; all but the space on the processor."""
    shot, out = torch.zeros(len(labels), dtype=torch.bool), {}
    for c in labels.unique():
        shot[(labels == c).nonzero()[:16, 0]] = True
    for kind, x in features.items():
        x = F.normalize(x, dim=-1)
        out[f"{name} gda {kind}"] = (gaussian(x[shot], labels[shot], x[~shot]) == labels[~shot]).float().mean().item()
    if space:
        device = space.targets.device
        guess = space.nearest(F.normalize(features["joint"], dim=-1).to(device), labels.unique().to(device))
        out[f"{name} zero-shot"] = (guess.cpu() == labels).float().mean().item()
    return out


def per_cent(figures):
    return {key: round(100 * float(value), 1) for key, value in figures.items()}


def evaluate(tower, heads, photos, space, side):
    """Figures for choosing: classes put aside (16 shots), pictures put aside."""
    tower.eval()
    check = np.flatnonzero(photos.check)[:1500]
    pooled, _ = features_of(tower, photos, check, side)
    out = {"classes known": (heads.classes(pooled).argmax(1).numpy() == photos.labels[check]).mean()}
    for name, rows, labels in put_aside(photos):
        out |= judged(name, dict(zip(("pooled", "joint"), features_of(tower, photos, rows, side))), labels, space)
    tower.train()
    return per_cent(out)


def save(path, **state):
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def main(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    photos = Photos(args.pack, without=args.without.split(",") if args.without else ())
    space = Space(args.space, photos) if args.space else None
    drawn = Drawn(args.drawn, args.scenes, args.seed) if args.drawn else None
    model = Clip(Config()).to(memory_format=torch.channels_last)
    tower, heads = model.visual, Heads(model.config.vision_width, len(photos.names), 64)
    named = [(f"visual.{n}", p) for n, p in tower.named_parameters()] + [(f"heads.{n}", p) for n, p in heads.named_parameters()]
    optims = optimisers(named, args.lr)
    average = Average(nn.ModuleList([tower, heads]))
    path, step, seen, begin = args.out / "image.pt", 0, 0, time.time()
    if path.exists():
        old = torch.load(path, map_location="cpu", weights_only=False)
        tower.load_state_dict(old["tower"])
        heads.load_state_dict(old["heads"])
        average.module.load_state_dict(old["average"])
        for optim, state in zip(optims, old.get("optims", [])):
            optim.load_state_dict(state)
        step, seen, begin, average.steps = old["step"], old["seen"], time.time() - old["seconds"], old["step"]
        args.seed += step
    end = datetime.now().replace(**dict(zip(("hour", "minute"), map(int, args.until.split(":")))), second=0).timestamp()
    lesson = Lesson(photos, space, drawn, args)
    words = Learner(args.texts, args.lr) if args.texts else None
    if words and path.exists() and old.get("words"):
        words.load(old["words"])
    elif words and (args.texts / "text.pt").exists():
        words.load({"steps": 0, "text": torch.load(args.texts / "text.pt", weights_only=True)["text"]})
    forward = torch.compile(tower.pooled) if args.compile else tower.pooled
    history = (args.out / "history.jsonl").open("a")
    saved = looked = time.time()
    recent, last = [], time.time()
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    while time.time() < end and not stopped:
        progress = (time.time() - begin) / (end - begin)
        rate = args.lr * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * min(1.0, (1 - progress) / 0.8))
        side = args.small if args.small and progress < args.grow else model.config.image_size
        batch = lesson.pictures(side)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pooled = forward(batch[1])
            losses = lesson.losses(heads, tower.proj, pooled, batch)
        sum(losses.values()).backward()
        descend(optims, [p for _, p in named], rate)
        heads.scale.data.clamp_(0, 3.4)
        average.update(nn.ModuleList([tower, heads]))
        if words and step % args.text_every == 0:
            words.step(args.text_batch, rate)
        step, seen = step + 1, seen + len(batch[1])
        recent.append({key: loss.item() for key, loss in losses.items()})
        if step % 20 == 0:
            mean = {key: round(float(np.mean([r[key] for r in recent if key in r])), 4) for key in recent[0]}
            speed = sum(len(batch[1]) for _ in recent) / (time.time() - last)
            row = {"step": step, "pictures": seen, "seconds": round(time.time() - begin), "rate": round(rate, 6), "speed": round(speed), **mean}
            if words and words.recent:
                row |= words.report()
            print(json.dumps(row), file=history, flush=True)
            print(row, flush=True)
            recent, last = [], time.time()
        final = time.time() >= end or bool(stopped)
        if not stopped and (final or time.time() - looked > 60 * args.evaluate):
            look = evaluate(average.module[0], average.module[1], photos, space, side)
            row = {"step": step, "pictures": seen, "seconds": round(time.time() - begin), "side": side, "evaluation": look}
            print(json.dumps(row), file=history, flush=True)
            print(row, flush=True)
            looked = last = time.time()
        if final or time.time() - saved > 60 * args.save:
            if words:
                save(args.out / "text.pt", text=words.text.state_dict(), config=model.config.as_dict(), step=words.steps)
            save(path, words=words.state() if words else None, tower=tower.state_dict(), heads=heads.state_dict(), average=average.module.state_dict(), step=step, seen=seen,
                 optims=[o.state_dict() for o in optims], seconds=time.time() - begin, config=model.config.as_dict())
            saved = time.time()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--until", required=True, help="HH:MM, when training must have ended")
    parser.add_argument("--space", type=Path, help="space.npz: the semantic space with the classes in it")
    parser.add_argument("--drawn", type=Path, help="folder of drawn scenes, from draw.py")
    parser.add_argument("--texts", type=Path, help="folder of texts.npz: the text tower learns beside, in the same process")
    parser.add_argument("--text-batch", type=int, default=320)
    parser.add_argument("--text-every", type=int, default=1, help="steps of the image tower for one of the text tower")
    parser.add_argument("--small", type=int, default=0, help="side of the pictures while they are small, a multiple of 16")
    parser.add_argument("--grow", type=float, default=0.8, help="share of the time after which pictures have their full side")
    parser.add_argument("--without", default="", help="sets to leave out, by commas")
    parser.add_argument("--batch", type=int, default=160, help="photographs a step")
    parser.add_argument("--scenes", type=int, default=32, help="drawn scenes a step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--evaluate", type=float, default=8, help="minutes between looks")
    parser.add_argument("--save", type=float, default=3, help="minutes between checkpoints")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    main(arguments)
