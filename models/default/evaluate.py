"""What the model can do: zero-shot accuracy a condition, what a probe could reach, what a rank-1 prompt reaches.

All pictures come from seeds from 1,000,000 on, which training never uses.
Usage: python evaluate.py --stream PATH_OF_scene_stream --checkpoint FILE [--test 600] [--seeds 5]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

from data import fixed, normalise, tokenise, vocabulary
from model import Clip, Config

TEMPLATE = "a photo of a {}."
SHOTS = 16


def first_shots(labels, classes, shots):
    """Indices of the first `shots` pictures of each class."""
    return np.concatenate([np.flatnonzero(labels == c)[:shots] for c in range(classes)])


def adapt(model, ids, features, labels, seed, steps=300, rank=1, words=4, lr=0.3):
    """Rank-`rank` prompt on cached features: class embeddings [classes, embed_dim], L2-normalised."""
    generator = torch.Generator().manual_seed(seed)
    embeddings, end = model.text.token_embedding(ids).detach(), ids.argmax(dim=-1)
    spread = model.text.token_embedding.weight.std().item()
    u = torch.zeros(words, rank, requires_grad=True)
    v = (spread * torch.randn(rank, embeddings.shape[-1], generator=generator)).requires_grad_()
    optim = torch.optim.Adam([u, v], lr=lr)
    scale = model.logit_scale.exp().detach()

    def classes():
        context = embeddings[:, 1 : 1 + words] + u @ v
        x = torch.cat([embeddings[:, :1], context, embeddings[:, 1 + words :]], dim=1)
        return F.normalize(model.text.from_embeddings(x, end), dim=-1)

    for step in range(steps):
        for group in optim.param_groups:
            group["lr"] = lr * (1 + np.cos(np.pi * step / steps)) / 2
        optim.zero_grad()
        F.cross_entropy(scale * features @ classes().T, labels).backward()
        optim.step()
    return classes().detach()


class Evaluation:
    """Fixed pictures, drawn once: a clear set, a set of reserved combinations, one set a condition."""

    def __init__(self, stream, tokenizer, test, seed=1_000_000, fast=False):
        self.fast = fast  # bfloat16, for a look while training
        self.names = vocabulary(stream)
        self.classes = len(self.names["classes"])
        self.ids = tokenise(tokenizer, [TEMPLATE.format(name) for name in self.names["classes"]])
        self.sets = {"clear": fixed(stream, test, seed=seed, conditions="clear", reserved="skip"),
                     "reserved combinations, clear": fixed(stream, test, seed=seed + 1, conditions="clear", reserved="only")}
        for k, condition in enumerate(self.names["conditions"]):
            if condition["name"] != "clear":
                count = test if condition["held_out"] else test // 3
                self.sets[condition["name"]] = fixed(stream, count, seed=seed + 2 + k, conditions=condition["name"], reserved="any")
        self.shots = {c["name"]: fixed(stream, 2 * SHOTS * self.classes, seed=seed + 100 + k, conditions=c["name"], reserved="any")
                      for k, c in enumerate(self.names["conditions"]) if c["held_out"]}

    @torch.no_grad()
    def features(self, model, pixels):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.fast):
            parts = [model.visual(normalise(pixels[i : i + 120])) for i in range(0, len(pixels), 120)]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def report(self, model, seeds=1):
        """A Markdown table, in per cent: zero-shot; on held-out conditions also probe, rank-1 prompt, gap closed."""
        with torch.no_grad():
            text = F.normalize(model.text(self.ids), dim=-1)
        rows = ["| pictures | zero-shot | probe, 16 shots | rank-1 prompt | gap closed |", "|---|---|---|---|---|"]
        for name, (pixels, attributes) in self.sets.items():
            features, truth = self.features(model, pixels), attributes[:, 0]
            accuracy = lambda t: 100 * np.mean((features @ t.T).argmax(1).numpy() == truth)
            zero = accuracy(text)
            if name not in self.shots:
                rows.append(f"| {name} | {zero:.1f} | | | |")
                continue
            pool, labels = self.shots[name][0], self.shots[name][1][:, 0]
            everything, probes, prompts = self.features(model, pool), [], []
            for seed in range(seeds):
                order = np.random.default_rng(seed).permutation(len(labels))
                chosen = order[first_shots(labels[order], self.classes, SHOTS)]
                shots, target = everything[chosen], labels[chosen]
                probe = LogisticRegression(C=30, max_iter=500).fit(shots.numpy(), target)
                probes.append(100 * probe.score(features.numpy(), truth))
                prompts.append(accuracy(adapt(model, self.ids, shots, torch.from_numpy(target), seed)))
            probe, prompt = np.mean(probes), np.mean(prompts)
            closed = 100 * (prompt - zero) / (probe - zero) if probe > zero else float("nan")
            rows.append(f"| {name} (held out) | {zero:.1f} | {probe:.1f} | {prompt:.1f} | {closed:.0f} |")
        return "\n".join(rows)


def load(path):
    """The model of a checkpoint, in float32, for inference."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = Clip(Config(**saved["config"]))
    model.load_state_dict(saved["model"])
    return model.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--test", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    words = Tokenizer.from_file(str(Path(__file__).parent / "tokenizer.json"))
    print(Evaluation(args.stream, words, args.test).report(load(args.checkpoint), seeds=args.seeds))
