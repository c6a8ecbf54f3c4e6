"""Draws loss.png from the history of train_gpu.py or train_image.py.

Usage: python plot.py HISTORY.jsonl [OUT.png]
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

if __name__ == "__main__":
    rows = [json.loads(line) for line in open(sys.argv[1])]
    losses = [row for row in rows if "features" in row]
    looks = [row for row in rows if "evaluation" in row]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for key in ("features", "late map", "early map", "soft labels", "classes", "concepts", "drawn", "texts"):
        points = [(row["pictures"] / 1000, row[key]) for row in losses if key in row]
        left.plot(*zip(*points), label=key, linewidth=1)
    left.set(xlabel="thousand pictures", ylabel="loss", yscale="log", title="losses of training")
    for key in ("classes known", "in_mini_imagenet gda trunk", "in_mini_imagenet gda joint", "in_mini_imagenet zero-shot", "clothing_cc0 gda joint", "instruments30 gda joint"):
        points = [(row["pictures"] / 1000, row["evaluation"][key]) for row in looks if key in row["evaluation"]]
        right.plot(*zip(*points), label=key, marker=".")
    right.set(xlabel="thousand pictures", ylabel="per cent", title="pictures and classes put aside")
    for axis in (left, right):
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent / "loss.png", dpi=110)
