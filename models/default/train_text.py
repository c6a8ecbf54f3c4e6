"""Trains the text tower to say where a text lies in the semantic space, in a given time.

Loss: the distance from the text teacher's place, and a contrast with the other texts of the batch. The rate follows the clock.
Usage: python train_text.py --work FOLDER --out FILE.pt --minutes 16
"""

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from model import Clip, Config
from optim import descend, optimisers

HERE = Path(__file__).parent
SHARES = {"listed": 0.18, "foreign": 0.15, "plural": 0.05, "concepts": 0.19, "nouns": 0.21, "phrases": 0.13, "captions": 0.09}
TEMPLATES = ["a photo of a {}.", "a photo of a {}.", "a photo of a {}", "a photo of the {}.", "a photo of {}.", "{}", "{}", "a {}", "the {}", "a picture of a {}.",
             "an image of a {}", "a close-up photo of a {}.", "a blurry photo of a {}.", "a dark photo of the {}.", "a bright photo of a {}.",
             "a cropped photo of a {}.", "a photo of one {}.", "this is a {}.", "there is a {} in the picture."]


def tokenise(tokenizer, texts, longest=32):
    """Texts -> ids [batch, longest], padded with the end token."""
    rows = [torch.tensor(e.ids if len(e.ids) <= longest else [*e.ids[: longest - 1], e.ids[-1]]) for e in tokenizer.encode_batch(texts)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.token_to_id("<|endoftext|>"))


def encode(text, tokenizer, lines, parts=4):
    """Unit features of texts, on the text tower's device. They run in groups of about one length, so that little is padded."""
    device = text.mask.device
    rows = [torch.tensor(e.ids if len(e.ids) <= 32 else [*e.ids[:31], e.ids[-1]]) for e in tokenizer.encode_batch(lines)]
    order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
    end, size, found = tokenizer.token_to_id("<|endoftext|>"), -(-len(rows) // parts), []
    with torch.autocast(device.type, dtype=torch.bfloat16):
        for at in range(0, len(rows), size):
            group = [rows[k] for k in order[at : at + size]]
            found.append(text(torch.nn.utils.rnn.pad_sequence(group, batch_first=True, padding_value=end).to(device)).float())
    back = torch.empty(len(rows), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(rows))
    return F.normalize(torch.cat(found), dim=-1)[back.to(device)]


class Texts:
    """Batches of texts and places; each kind has its share of a batch."""

    def __init__(self, path, seed=0):
        saved = np.load(path)
        self.rng = random.Random(seed)
        self.kinds = {kind: (saved[f"{kind} texts"].tolist(), F.normalize(torch.from_numpy(saved[f"{kind} targets"].astype(np.float32)), dim=-1))
                      for kind in SHARES}
        self.tokens = torch.from_numpy(saved["tokens"])

    def batch(self, size):
        texts, targets = [], []
        for kind, share in SHARES.items():
            lines, places = self.kinds[kind]
            chosen = self.rng.sample(range(len(lines)), min(len(lines), round(share * size)))
            targets.append(places[chosen])
            texts += [lines[k] if kind == "captions" else self.rng.choice(TEMPLATES).format(lines[k]) for k in chosen]
        return texts, torch.cat(targets)


def begin(text, vectors):
    """Tokens begin where the text teacher puts them."""
    width = text.token_embedding.weight.shape[1]
    start = vectors[:, :width]
    text.token_embedding.weight.data.copy_(0.02 * start / start.std())


def lesson(guess, targets, scale=20.0):
    """(loss, mean cosine) of unit features. Texts that mean nearly the same are not held against each other."""
    cosine = (guess * targets).sum(1)
    same = targets @ targets.T > 0.95
    same.fill_diagonal_(False)
    logits = (scale * guess @ targets.T).masked_fill(same, -1e4)
    return 4 * (1 - cosine).mean() + F.cross_entropy(logits, torch.arange(len(guess), device=guess.device)), cosine.mean().item()


class Learner:
    """The text tower, its texts and its optimisers; one step at a time."""

    def __init__(self, work, lr, device="cpu"):
        self.device, self.texts = device, Texts(work / "texts.npz")
        self.tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
        self.text, self.steps, self.recent = Clip(Config()).text, 0, []
        begin(self.text, self.texts.tokens)
        self.text.to(device)
        self.optims = optimisers(list(self.text.named_parameters()), lr)

    def step(self, batch, rate):
        lines, targets = self.texts.batch(batch)
        loss, cosine = lesson(encode(self.text, self.tokenizer, lines), targets.to(self.device))
        loss.backward()
        descend(self.optims, self.text.parameters(), rate)
        self.steps += 1
        self.recent.append((loss.item(), cosine))

    def report(self):
        loss, cosine = np.mean(self.recent, 0)
        self.recent = []
        return {"texts": round(float(loss), 4), "cosine of texts": round(float(cosine), 4)}

    def state(self):
        return {"text": self.text.state_dict(), "steps": self.steps, "optims": [optim.state_dict() for optim in self.optims]}

    def load(self, state):
        self.text.load_state_dict(state["text"])
        self.steps = state["steps"]
        for optim, saved in zip(self.optims, state.get("optims", [])):
            optim.load_state_dict(saved)


def main(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    learner = Learner(args.work, args.lr, args.device)
    if args.start:
        learner.load({"steps": 0, **torch.load(args.start, map_location="cpu", weights_only=True)})
    start = time.time()
    while (progress := (time.time() - start) / (60 * args.minutes)) < 1:
        learner.step(args.batch, args.lr * min(1.0, (learner.steps + 1) / 100) * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2))
        if learner.steps % 50 == 0:
            print(f"step {learner.steps}, {time.time() - start:.0f} s: {learner.report()}", flush=True)
        if learner.steps % 100 == 0:
            save(learner, args.out)
    save(learner, args.out)


def save(learner, path):
    torch.save({"text": learner.text.state_dict(), "config": Config().as_dict(), "step": learner.steps}, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--minutes", type=float, default=16)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cuda: a GPU")
    main(parser.parse_args())
