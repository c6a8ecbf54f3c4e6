"""Texts for the text tower and their places in the semantic space: texts.npz, and the vectors that its tokens begin with.

Usage: python texts.py --work FOLDER      (with e5.npz and space.npz from space.py)
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from e5 import Embedder
from space import unit

HERE = Path(__file__).parent
ADJECTIVES = """broken cracked scratched rusty dirty clean empty full red green blue yellow white black brown orange pink grey old new
wooden metal plastic glass paper leather small large open closed ripe rotten sliced cooked raw fresh dried wet dry shiny smooth rough
bent torn folded striped spotted dotted woven damaged toy electric round square long short soft dark bright blurry""".split()
HEADS = ["a pile of {}s", "a box of {}s", "a bag of {}", "a bottle of {}", "a can of {}", "a carton of {}", "a jar of {}", "a slice of {}",
         "a piece of {}", "a bunch of {}s", "a bowl of {}", "a packet of {}", "{} texture", "{} on a table", "{} in a shop", "a person holding a {}"]


def listed():
    """The hand-made list, without its comments and headings."""
    lines = [line.partition(":")[2] for line in (HERE / "nouns.txt").read_text().splitlines() if not line.startswith("#")]
    return sorted({name.strip() for line in lines for name in line.split(",")})


def foreign():
    """(English, German, French or Spanish) of the hand-made list; from names.tsv, which is made by hand too."""
    rows = [line.split("\t") for line in (HERE / "names.tsv").read_text().splitlines() if not line.startswith("#")]
    return [(english, other) for english, *others in rows for other in others]


def plural(name):
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeou":
        return name[:-1] + "ies"
    return name + "s"


def phrases(names, rng, count):
    found = {f"{rng.choice(ADJECTIVES)} {name}" for name in names for _ in range(2)}
    found |= {rng.choice(HEADS).format(name) for name in names for _ in range(2) if len(name) < 14}
    return rng.sample(sorted(found), min(count, len(found)))


def main(work):
    torch.set_num_threads(1)
    rng, space, embed = random.Random(0), np.load(work / "space.npz"), Embedder(work)
    basis, centre = space["basis"], space["centre"]
    place = lambda texts: unit((embed(texts) - centre) @ basis)
    known = dict(zip(space["nouns"].tolist(), space["noun_targets"].astype(np.float32)))
    kinds = {}  # kind -> (texts, targets)
    names = listed()
    new = [name for name in names if name not in known]
    known.update(zip(new, place(new)))
    kinds["listed"] = names, np.stack([known[name] for name in names])
    # What is an English noun too keeps its English meaning: "pain" is no bread, "Rock" no skirt.
    pairs = [(english, other) for english, other in foreign() if other.lower() not in known]
    kinds["foreign"] = [other for _, other in pairs], np.stack([known[english] for english, _ in pairs])
    plurals = [plural(name) for name in names if not name.endswith("s")]
    kinds["plural"] = plurals, unit(place(plurals) + np.stack([known[name] for name in names if not name.endswith("s")]))
    synonyms = [(word, k) for k, line in enumerate(space["synonyms"].tolist()) for word in line.split("|")]
    kinds["concepts"] = [word for word, _ in synonyms], space["targets"][[k for _, k in synonyms]]
    nouns = space["nouns"].tolist()
    kinds["nouns"] = nouns, space["noun_targets"].astype(np.float32)
    said = phrases(names + [word for word, _ in synonyms if len(word) < 16], rng, 12000)
    kinds["phrases"] = said, place(said)
    kinds["captions"] = space["captions"].tolist(), space["caption_targets"].astype(np.float32)
    tokens = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    order = [token for token, _ in sorted(tokens.get_vocab().items(), key=lambda pair: pair[1])]
    vectors = (embed([token.replace("</w>", "") for token in order]) - centre) @ basis
    arrays = {f"{kind} {part}": np.array(value) for kind, pair in kinds.items() for part, value in zip(("texts", "targets"), pair)}
    np.savez(work / "texts.npz", tokens=vectors.astype(np.float32), **arrays)
    print({kind: len(pair[0]) for kind, pair in kinds.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    main(parser.parse_args().work)
