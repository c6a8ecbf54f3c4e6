"""Brings both towers together: the image tower's features are cached (LiT, arXiv 2111.07991), its projection and the text
tower go on learning from photographs with names and captions, and from drawn scenes with captions.

Names that lie near each other (apple, pear, peach) are drawn into the same batch as hard negatives; the text tower keeps
learning its places in the semantic space, so that words without pictures stay where they belong.
Usage: python join.py --image image.pt --text text.pt --cache FOLDER --work FOLDER --pack FOLDER --drawn FOLDER --out FILE.pt --minutes 6
"""

import argparse
import copy
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from cache import trained
from captions import caption
from model import Clip, Config
from optim import Average, descend, optimisers
from photos import Photos
from targets import Drawn, Space
from train_text import TEMPLATES, Texts, encode, lesson

HERE = Path(__file__).parent


class Pictures:
    """Cached features with what they show."""

    def __init__(self, args):
        self.device = args.device
        self.photos = Photos(args.pack, without=args.without.split(",") if args.without else ())
        self.space = Space(args.work / "space.npz", self.photos, device=args.device)
        saved = np.load(args.work / "space.npz")
        self.names = [line.split("|") for line in saved["synonyms"].tolist()]
        self.views = [np.load(path) for path in sorted(args.cache.glob("photos*.npy"))]
        self.logits = np.load(args.pack / "logits1.npy", mmap_mode="r")
        train = self.photos.train & (np.arange(len(self.photos.rows)) < min(self.photos.done(1), len(self.views[0])))
        own = self.space.own.cpu().numpy()
        self.of_concept = {k: np.flatnonzero(train & (own == k)) for k in np.unique(own[train & (own >= 0)])}
        self.concepts = np.array(sorted(self.of_concept))
        near = self.space.targets[self.concepts] @ self.space.targets[self.concepts].T
        self.siblings = near.topk(min(12, len(near)), dim=1).indices.cpu().numpy()
        texts, paths = saved["captions"].tolist(), saved["caption_paths"].tolist()
        number = {row["path"].split("/")[-1]: n for n, row in enumerate(self.photos.rows)}
        self.captioned = [(number[p.split("/")[-1]], t) for p, t in zip(paths, texts) if train[number[p.split("/")[-1]]]]
        self.rng = np.random.default_rng(0)

    def features(self, rows):
        views = self.rng.integers(len(self.views), size=len(rows))
        return torch.from_numpy(np.stack([self.views[v][r] for v, r in zip(views, rows)]).astype(np.float32)).to(self.device)

    def named(self, size, families=24):
        """(rows, concepts): half of the pictures from families of near names, half from anywhere."""
        seeds = self.rng.choice(len(self.concepts), families, replace=False)
        family = self.concepts[np.unique(self.siblings[seeds])]
        anywhere = self.rng.choice(self.concepts, size // 2)
        concepts = np.concatenate([self.rng.choice(family, size - len(anywhere)), anywhere])
        return np.array([self.rng.choice(self.of_concept[k]) for k in concepts]), concepts

    def named_loss(self, say, proj, scale, size):
        rows, concepts = self.named(size)
        own = torch.from_numpy(concepts).to(self.device)
        chosen = self.space.choose(own)
        logits = torch.from_numpy(np.asarray(self.logits[rows], np.float32)).to(self.device)
        unclear = self.space.unclear(own, chosen, logits)
        columns, target = chosen.unique(return_inverse=True)
        said = [random.choice(TEMPLATES).format(random.choice(self.names[k]) if random.random() < 0.4 else self.names[k][0]) for k in columns.tolist()]
        t, x = say(said), F.normalize(proj(self.features(rows)), dim=-1)
        cosine = scale * x @ t.T
        scores = cosine.masked_fill(unclear[:, columns], -1e4)
        truth = F.one_hot(target, len(columns)).T.float()
        back = F.cross_entropy(scores.T, truth / truth.sum(1, keepdim=True))
        return (F.cross_entropy(scores, target) + back) / 2, (scores.argmax(1) == target).float().mean().item()

    def caption_loss(self, say, proj, scale, size):
        if not self.captioned:
            return torch.zeros((), device=self.device)
        size = min(size, len(self.captioned))
        chosen = [self.captioned[k] for k in self.rng.choice(len(self.captioned), size, replace=False)]
        x = F.normalize(proj(self.features([row for row, _ in chosen])), dim=-1)
        scores = scale * x @ say([line for _, line in chosen]).T
        truth = torch.arange(size, device=self.device)
        return (F.cross_entropy(scores, truth) + F.cross_entropy(scores.T, truth)) / 2


class Scenes:
    """Cached features of drawn scenes with captions (UniCL, arXiv 2204.03610)."""

    def __init__(self, args):
        drawn = Drawn(args.drawn, 1, 0)
        self.device, self.vocabulary, self.attributes = args.device, drawn.vocabulary, torch.from_numpy(drawn.attributes.astype(np.int64))
        self.features, self.rng = np.load(args.cache / "drawn.npy"), random.Random(0)

    def loss(self, say, proj, scale, size):
        """A caption is right for every scene that agrees with all that it mentions."""
        rows = [self.rng.randrange(len(self.features)) for _ in range(size)]
        attributes = self.attributes[rows]
        lines, says = zip(*(caption(row, self.vocabulary, self.rng) for row in attributes.tolist()))
        x = F.normalize(proj(torch.from_numpy(self.features[rows].astype(np.float32)).to(self.device)), dim=-1)
        right = ((attributes[:, None] == attributes[None]) | ~torch.tensor(says)[None]).all(-1).float().to(self.device)
        scores = scale * x @ say(list(lines)).T
        forth = F.cross_entropy(scores, right / right.sum(1, keepdim=True))
        return (forth + F.cross_entropy(scores.T, right.T / right.T.sum(1, keepdim=True))) / 2


def flattened(weight, power):
    """A projection with the same axes and less uneven lengths: what the pooled features hold beyond the semantic space, and
    class means and Gaussians live on, is not made too small to be used."""
    u, s, v = torch.linalg.svd(weight.detach())
    return u @ torch.diag(s**power * s.mean() ** (1 - power)) @ v


def main(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    pictures, scenes, words = Pictures(args), Scenes(args), Texts(args.work / "texts.npz")
    model = Clip(Config())
    model.visual = trained(args.image)
    model.visual.proj.weight.data = flattened(model.visual.proj.weight, args.flatten)
    model.text.load_state_dict(torch.load(args.text, map_location="cpu", weights_only=True)["text"])
    model.to(args.device)
    learning = torch.nn.ModuleDict({"proj": model.visual.proj, "text": model.text})
    named = [(name, weight) for name, weight in learning.named_parameters()]
    optims, average, before = optimisers(named, args.lr), Average(learning, 0.99), copy.deepcopy(learning.state_dict())
    scale = model.logit_scale

    say = lambda lines: encode(model.text, tokenizer, lines, parts=2)
    start, step, recent = time.time(), 0, []
    while (progress := (time.time() - start) / (60 * args.minutes)) < 1:
        rate = args.lr * min(1.0, (step + 1) / 50) * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        s = scale.exp().detach().clamp(max=30)
        photos, right = pictures.named_loss(say, model.visual.proj, s, args.batch)
        told = pictures.caption_loss(say, model.visual.proj, s, 96)
        drawn = scenes.loss(say, model.visual.proj, s, 128)
        lines, targets = words.batch(256)
        place, cosine = lesson(say(lines), targets.to(args.device))
        (photos + 0.3 * told + args.scenes * drawn + args.words * place).backward()
        descend(optims, learning.parameters(), rate)
        average.update(learning)
        step += 1
        recent.append((photos.item(), right, told.item(), drawn.item(), cosine))
        if step % 25 == 0:
            numbers = dict(zip(("photographs", "right", "captions", "drawn", "cosine of words"), np.mean(recent, 0).round(3).tolist()))
            print(f"step {step}, {time.time() - start:.0f} s: {numbers}", flush=True)
            recent = []
    after = average.module.state_dict()
    learning.load_state_dict({name: torch.lerp(before[name], after[name], args.share) for name in after})
    torch.save({"config": model.config.as_dict(), "model": model.cpu().state_dict(), "step": step}, args.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("image", "text", "cache", "work", "pack", "drawn", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--without", default="", help="sets to leave out, by commas")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--batch", type=int, default=384)
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--scenes", type=float, default=0.5, help="weight of drawn scenes")
    parser.add_argument("--words", type=float, default=1.0, help="weight of the places of words")
    parser.add_argument("--share", type=float, default=0.5, help="how much of the weights is what was learnt here; the rest is what they were")
    parser.add_argument("--flatten", type=float, default=0.25, help="power of the projection's singular values; 1 leaves them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cuda: a GPU")
    main(parser.parse_args())
