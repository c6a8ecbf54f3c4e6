"""Draws loss.png from the history that train.py writes.
Usage: python plot.py HISTORY.jsonl [--out loss.png]
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("history", type=Path)
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "loss.png")
args = parser.parse_args()
rows = [json.loads(line) for line in args.history.read_text().splitlines()]
pictures = [row["pictures"] / 1000 for row in rows]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
for axes, key, title in ((left, "loss", "contrastive loss"), (right, "heads", "attribute heads, weighted loss")):
    axes.plot(pictures, [row[key] for row in rows], linewidth=1)
    axes.set(title=title, xlabel="thousand pictures", ylabel="mean over 20 steps")
    axes.grid(alpha=0.3)
figure.tight_layout()
figure.savefig(args.out, dpi=110)
