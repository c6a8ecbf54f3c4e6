"""What a checkpoint can do on what was put aside for choosing: classes of photographs that it never saw, and drawn scenes.

All drawn scenes come from seeds from 1,000,000 on, which training never uses. Held-out sets are not read here: the product
judges itself on them (scripts/photo_tables.sh).
Usage: python evaluate.py --checkpoint FILE --pack FOLDER --stream PATH_OF_scene_stream [--test 400]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from draw import scenes, vocabulary
from export import load
from photos import ASIDE, Photos, normalise
from train_image import gaussian
from train_text import tokenise

HERE = Path(__file__).parent
SHOTS = 16


class Judge:
    def __init__(self, model):
        self.model, self.tokenizer = model, Tokenizer.from_file(str(HERE / "tokenizer.json"))

    @torch.inference_mode()
    def pictures(self, pixels):
        parts = []
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for at in range(0, len(pixels), 128):
                parts.append(self.model.visual(normalise(np.asarray(pixels[at : at + 128]))).float())
        return F.normalize(torch.cat(parts), dim=-1)

    @torch.inference_mode()
    def names(self, labels):
        return F.normalize(self.model.text(tokenise(self.tokenizer, [f"a photo of a {label}." for label in labels])), dim=-1)

    def figures(self, features, truth, labels):
        """(zero-shot, a Gaussian a class on 16 shots), per cent."""
        shot = np.zeros(len(truth), bool)
        for k in range(len(labels)):
            shot[np.flatnonzero(truth == k)[:SHOTS]] = True
        zero = (features @ self.names(labels).T).argmax(1).numpy() == truth
        target = torch.from_numpy(truth)
        guess = gaussian(features[shot], target[shot], features[~shot]).numpy() == truth[~shot]
        return 100 * zero.mean(), 100 * guess.mean()


def main(args):
    torch.set_num_threads(1)
    judge, photos = Judge(load(args.checkpoint)), Photos(args.pack)
    print("| put aside | zero-shot | gda, 16 shots |\n|---|---|---|")
    rng, all_figures = np.random.default_rng(0), []
    for name, labels in ASIDE.items():
        rows = np.flatnonzero(photos.aside & (photos.sets == name))
        truth = np.array([labels.index(photos.rows[row]["class"]) for row in rows])
        chosen = np.concatenate([rng.permutation(np.flatnonzero(truth == k))[:56] for k in range(len(labels))])
        if np.bincount(truth).min() < 2 * SHOTS:
            features = judge.pictures(photos.crops[0][rows])
            zero = 100 * ((features @ judge.names(labels).T).argmax(1).numpy() == truth).mean()
            print(f"| {name} ({len(labels)}) | {zero:.1f} | |")
            continue
        zero, gda = judge.figures(judge.pictures(photos.crops[0][rows[chosen]]), truth[chosen], labels)
        all_figures.append((zero, gda))
        print(f"| {name} ({len(labels)}) | {zero:.1f} | {gda:.1f} |")
    print("| mean | {:.1f} | {:.1f} |".format(*np.mean(all_figures, 0)))
    if not args.stream:
        return
    names = vocabulary(args.stream)
    trained = []
    for k, condition in enumerate(names["conditions"]):
        parts = list(scenes(args.stream, photos.crops.shape[2], args.test, seed=1_000_000 + k, conditions=condition["name"], reserved="any"))
        pixels, truth = np.concatenate([p for p, _ in parts]), np.concatenate([a[:, 0] for _, a in parts]).astype(int)
        zero, gda = judge.figures(judge.pictures(pixels), truth, names["classes"])
        print(f"| drawn, {condition['name']}{' (held out)' if condition['held_out'] else ''} | {zero:.1f} | {gda:.1f} |")
        if not condition["held_out"]:
            trained.append(zero)
    print(f"| drawn, mean of the trained conditions | {np.mean(trained):.1f} | |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--stream")
    parser.add_argument("--test", type=int, default=400)
    main(parser.parse_args())
