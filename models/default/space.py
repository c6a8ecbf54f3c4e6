"""Makes the semantic space that both towers learn: 256 principal axes of the text teacher's embeddings of nouns.

A concept is a class of ImageNet or of the photographs' folders, or what lies above one; its place is the mean of its
names, bare and with their meaning. Writes OUT/space.npz.
Usage: python space.py --pack FOLDER --labels imagenet_labels.txt --wordnet data.noun --photos FOLDER --out FOLDER
"""

import argparse
import random
import re
from pathlib import Path

import numpy as np
import torch

from e5 import Embedder
from photos import Photos
from words import SEEN, Words

WIDTH = 256
SHOWN = ("food", "artifact", "animal", "plant", "object", "substance", "phenomenon")


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True).clip(1e-6)


class Concepts:
    """Names, what lies above each, and texts that tell what each means."""

    def __init__(self, words):
        self.words, self.index, self.names, self.rich, self.above = words, {}, [], [], []

    def add(self, name, synset=None, synonyms=()):
        key = name.lower()
        if key in self.index:
            return self.index[key]
        synset = synset or self.words.nouns.get(key)
        below = synset or self.words.nouns.get(key.split()[-1])  # "cougar face": a face; "mini van": a van
        k = self.index[key] = len(self.names)
        self.names.append([name, *synonyms])
        self.rich.append([self.words.rich(word, synset) for word in self.names[k]] if synset else [])
        chain = self.words.chain(below)[:4] if below else []
        if below and not synset and len(key.split()) > 1:
            chain = [key.split()[-1], *chain]
        self.above.append([])
        self.above[k] = [h for h in dict.fromkeys(self.add(word) for word in chain) if h != k]
        return k


def scientific(word):
    return re.fullmatch(r"[A-Z][a-z]+( [a-z]+)?", word) is not None


def gather(words, classes):
    """(concepts, concept of each of ImageNet's classes, concept of each folder)."""
    concepts, imagenet = Concepts(words), []
    for synset in words.imagenet:
        first, *others = synset.words
        synonyms = [word for word in others if not scientific(word) or len(synset.words) == 1]
        taken = first.lower() in concepts.index  # "crane" is a bird and a machine
        name = f"{first}, {(words.chain(synset) or ['thing'])[0]}" if taken else first
        imagenet.append(concepts.add(name, synset, synonyms))
    return concepts, np.array(imagenet), np.array([concepts.add(name) for name in classes])


def captions(photos):
    """picture's path -> its captions."""
    found = {}
    for file in photos.glob("*/captions.tsv"):
        for line in file.read_text().splitlines():
            name, _, text = line.partition("\t")
            found.setdefault(f"{file.parent.name}/{name}", []).append(text)
    return found


def main(args):
    torch.set_num_threads(1)
    words, photos = Words(args.wordnet, args.labels), Photos(args.pack)
    concepts, imagenet, own = gather(words, photos.names)
    embed = Embedder(args.out)
    nouns = sorted({*words.nouns, *(name for names in concepts.names for name in names)})
    bare = embed(nouns)
    short = [word for word in words.nouns if SEEN[words.nouns[word].file] in SHOWN and len(word) < 12]
    short = sorted(random.Random(0).sample(short, min(args.rich, len(short))))
    told = {word: words.rich(word, words.nouns[word]) for word in short}
    rich = embed(sorted({*told.values(), *(text for texts in concepts.rich for text in texts)}))
    centre, centre_rich = bare.mean(0), rich.mean(0)
    place = dict(zip(nouns, bare - centre))
    both = np.array([place[w] + embed([told[w]])[0] - centre_rich for w in short]) / 1.6
    _, size, axes = np.linalg.svd(np.concatenate([bare[::3] - centre, both]), full_matrices=False)
    basis = axes[:WIDTH].T
    print("variance kept", (size[:WIDTH] ** 2).sum() / (size**2).sum())
    targets = []
    for names, texts in zip(concepts.names, concepts.rich):
        vector = np.mean([place[name] for name in names], 0)
        if texts:
            vector = (vector + embed(texts).mean(0) - centre_rich) / 1.6
        targets.append(vector @ basis)
    above = np.zeros((len(targets), len(targets)), bool)
    for k, chain in enumerate(concepts.above):
        above[k, chain] = True
    rng, told_pictures, texts = random.Random(0), [], []
    for path, lines in sorted(captions(args.photos).items()):
        for line in rng.sample(lines, min(args.captions, len(lines))):
            told_pictures.append(path)
            texts.append(line)
    said = embed(texts)
    said = said - said.mean(0)
    targeted = {w: both[i] for i, w in enumerate(short)}
    noun_targets = np.stack([targeted.get(noun, place[noun]) for noun in nouns]) @ basis
    np.savez(args.out / "space.npz", basis=basis, centre=centre, centre_rich=centre_rich, names=np.array([n[0] for n in concepts.names]),
             targets=unit(np.stack(targets)).astype(np.float32), above=above, imagenet=imagenet, own=own, classes=np.array(photos.names),
             synonyms=np.array(["|".join(n) for n in concepts.names]), caption_paths=np.array(told_pictures), captions=np.array(texts),
             caption_targets=unit(said @ basis).astype(np.float16), nouns=np.array(nouns), noun_targets=unit(noun_targets).astype(np.float16))
    print(len(targets), "concepts", len(nouns), "nouns", len(texts), "captions")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("pack", "labels", "wordnet", "photos", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rich", type=int, default=7000, help="nouns that are read with their meaning too")
    parser.add_argument("--captions", type=int, default=1, help="captions of a picture")
    main(parser.parse_args())
