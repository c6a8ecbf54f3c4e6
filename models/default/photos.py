"""Photographs for training: the packed crops with what the teacher says of them, and which are put aside for choosing.

Nothing here reads the sets that the model is judged by: choices are made on whole classes of the training sets that are
put aside (`ASIDE`), and on one picture in forty of the others.
"""

import json

import numpy as np
import torch

MEAN, STD = 0.5, 0.25  # of every channel; the same values are exported to preprocessor_config.json
ASIDE = {
    "in_mini_imagenet": ["French bulldog", "bolete mushroom", "carousel", "cocktail shaker", "file cabinet", "hair clip", "house finch",
                         "meerkat", "pencil case", "prayer rug", "slot machine", "theater curtain", "unicycle", "wooden rail fence"],
    "clothing_cc0": ["hoodie", "polo shirt", "skirt"],
    "instruments30": ["banjo", "clarinet", "harp", "tambourine"],
    "fruit_veg_mit": ["cucumber", "garlic", "mango", "potato", "tomato"],
}


def normalise(pixels):
    """uint8 [batch, side, side, 3] -> float32 [batch, 3, side, side], channels last in memory."""
    return ((torch.from_numpy(np.array(pixels)).float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)


def jitter(pixels, rng):
    """Like `normalise`, with half of the pictures mirrored and each one's brightness, contrast and saturation changed a little."""
    mirrored = rng.random(len(pixels)) < 0.5
    pixels = pixels.copy()
    pixels[mirrored] = pixels[mirrored, :, ::-1]
    draw = lambda low, high: torch.from_numpy(rng.uniform(low, high, (len(pixels), 1, 1, 1)).astype(np.float32))
    x = torch.from_numpy(pixels).float()
    x = torch.lerp(x.mean(3, keepdim=True), x, draw(0.6, 1.4))
    contrast, brightness = draw(0.7, 1.3), draw(-0.4, 0.4)
    middle = x.mean((1, 2, 3), keepdim=True)
    x.mul_(contrast / (255 * STD)).add_((middle * (1 - contrast) / 255 - MEAN) / STD + brightness)
    return x.permute(0, 3, 1, 2)


class Photos:
    """The pack of one folder. `sets` leaves out others; a row is what pack.py made of one picture."""

    def __init__(self, pack, without=()):
        self.pack = pack
        index = json.loads((pack / "index.json").read_text())
        self.rows, self.views = index["rows"], index["views"]
        self.crops = np.load(pack / "views.npy", mmap_mode="r") if (pack / "views.npy").exists() else None
        self.names = sorted({row["class"] for row in self.rows} - {"captioned"})
        number = {name: n for n, name in enumerate(self.names)}
        self.labels = np.array([number.get(row["class"], -1) for row in self.rows])
        self.sets = np.array([row["set"] for row in self.rows])
        aside = {name for names in ASIDE.values() for name in names}
        self.aside = np.array([row["class"] in aside for row in self.rows])
        self.check = ~self.aside & (np.arange(len(self.rows)) % 40 == 0) & (self.labels >= 0)
        self.train = ~self.aside & ~self.check & ~np.isin(self.sets, without)
        self.tables = {}

    def done(self, view):
        """How many rows of a view the teacher has seen."""
        path = self.pack / f"done{view}"
        return int(path.read_text()) if path.exists() else 0

    def table(self, name, view):
        key = f"{name}{view}"
        if key not in self.tables:
            self.tables[key] = np.load(self.pack / f"{key}.npy", mmap_mode="r")
        return self.tables[key]

    def sampler(self, size, seed, power=0.3):
        """Endless (rows, view): a view in full, then another; common classes a little less often than they are."""
        rng = np.random.default_rng(seed)
        counts = np.bincount(self.labels[self.train] + 1)
        weight = counts[self.labels + 1].clip(1) ** -power * self.train
        while True:
            ready = {view: self.done(view) for view in range(self.views)}
            shares = np.array([ready[view] for view in range(self.views)], float)
            if not shares.any():
                raise SystemExit("the teacher has not begun")
            view = rng.choice(self.views, p=shares / shares.sum())
            part = weight[: ready[view]]
            count = min(int((part > 0).sum()) // size * size, 200 * size)
            # Drawn without putting back (Efraimidis and Spirakis).
            keys = rng.random(len(part)) ** (1 / np.maximum(part / part.max(), 1e-9)) * (part > 0)
            rows = np.argpartition(keys, -count)[-count:]
            rng.shuffle(rows)
            for rows_of_batch in rows.reshape(-1, size):
                yield np.sort(rows_of_batch), view

    def taught(self, rows, view):
        """(crops uint8, teacher's features, teacher's logits) of a batch."""
        features, logits = self.table("features", view)[rows], self.table("logits", view)[rows]
        return self.crops[view][rows], torch.from_numpy(features).float(), torch.from_numpy(logits).float()
