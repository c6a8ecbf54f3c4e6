"""What pictures are pulled to in the semantic space: the places of their classes' names, of what lies above those, of
their captions; and drawn scenes with their attributes."""

import json

import numpy as np
import torch
import torch.nn.functional as F


class Space:
    """The concepts of space.npz as targets of the photographs."""

    def __init__(self, path, photos, likely=0.05, near=0.75, above=0.3, device="cpu"):
        saved = np.load(path)
        self.targets = F.normalize(torch.from_numpy(saved["targets"]), dim=-1).to(device)
        self.above = torch.from_numpy(saved["above"]).to(device)
        self.imagenet, own = torch.from_numpy(saved["imagenet"]).to(device), saved["own"]
        assert saved["classes"].tolist() == photos.names, "space.npz is of another pack"
        self.of_class = torch.from_numpy(own).to(device)
        self.own = torch.from_numpy(np.where(photos.labels >= 0, own[photos.labels], -1)).to(device)
        self.near = self.targets @ self.targets.T > near
        self.likely, self.share_above = likely, above
        self.places = dict(zip(saved["nouns"].tolist(), torch.from_numpy(saved["noun_targets"].astype(np.float32)).to(device)))
        number = {row["path"].split("/")[-1]: n for n, row in enumerate(photos.rows)}
        self.captions = F.normalize(torch.from_numpy(saved["caption_targets"].astype(np.float32)), dim=-1).to(device)
        self.caption_of = torch.full((len(photos.rows),), -1)
        for n, path in enumerate(saved["caption_paths"].tolist()):
            if path.split("/")[-1] in number:
                self.caption_of[number[path.split("/")[-1]]] = n
        self.caption_of = self.caption_of.to(device)
        self.likely_concepts = F.one_hot(self.imagenet, len(self.targets)).float()

    def places_of(self, names):
        """Where nouns lie, [names, axes]."""
        return F.normalize(torch.stack([self.places[name] for name in names]), dim=-1)

    def nearest(self, joint, classes):
        """The nearest of some of the folders' classes."""
        return classes[(joint @ self.targets[self.of_class[classes]].T).argmax(1)]

    # Nothing below depends on how many pictures have a label or a caption: a CUDA graph needs the same sizes at every step.

    def choose(self, own):
        """For each picture its class's concept, or with some chance one that lies above it."""
        above = self.above[own].float()
        some = (above.sum(1) > 0) & (torch.rand(len(own), device=own.device) < self.share_above)
        return torch.where(some, (above * torch.rand_like(above)).argmax(1), own)

    def unclear(self, own, chosen, logits):
        """What is neither right nor wrong of a picture: what lies above or below, means nearly the same, or may be there too."""
        mask = self.above[own] | self.near[own] | self.above.T[chosen]
        likely = (logits.softmax(1) > self.likely).float() @ self.likely_concepts
        mask |= (likely > 0) | (likely @ self.above.float() > 0)
        return mask.scatter(1, own[:, None], True).scatter(1, chosen[:, None], False)

    def losses(self, joint, rows, logits, scale, temperature=4.0):
        labelled = self.own[rows] >= 0
        own = self.own[rows].clamp(min=0)
        cosine = joint @ self.targets.T
        chosen = self.choose(own)
        with torch.no_grad():
            mask = self.unclear(own, chosen, logits)
        scores = (scale.exp() * cosine).masked_fill(mask, -1e4)
        guess = scale.exp() * cosine[:, self.imagenet] / temperature
        soft = F.kl_div(guess.log_softmax(1), (logits / temperature).softmax(1), reduction="batchmean")
        return {"concepts": mean_of(F.cross_entropy(scores, chosen, reduction="none"), labelled), "concepts, soft": temperature**2 * soft,
                "captions": 0.3 * self.captioned(joint, self.caption_of[rows], scale)}

    def captioned(self, joint, caption, scale):
        """Contrast of the pictures that have a caption (the others: -1) with each other's captions and 256 of others."""
        others = torch.randint(len(self.captions), (256,), device=caption.device)
        every = torch.cat([caption, others])
        hidden = torch.cat([caption < 0, (others[:, None] == caption).any(1)])
        scores = (scale.exp() * joint @ self.captions[every.clamp(min=0)].T).masked_fill(hidden, -1e4)
        own = torch.arange(len(caption), device=caption.device)
        return mean_of(F.cross_entropy(scores, own, reduction="none"), caption >= 0)


def mean_of(values, some):
    """The mean over some rows; nothing where there are none."""
    return (values * some).sum() / some.sum().clamp(min=1)


class Drawn:
    """Drawn scenes from draw.py, endlessly."""

    def __init__(self, folder, size, seed):
        self.pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        self.attributes = np.load(folder / "attributes.npy")
        self.vocabulary = json.loads((folder / "vocabulary.json").read_text())
        self.sizes = [len(self.vocabulary[key]) for key in ("classes", "colours", "patterns", "backgrounds", "conditions")]
        self.size, self.rng, self.order = size, np.random.default_rng(seed), np.zeros(0, int)

    def next(self):
        """(crops uint8, attributes) of `size` scenes, mirrored half of the time."""
        if len(self.order) < self.size:
            self.order = self.rng.permutation(len(self.pixels))
        rows, self.order = np.sort(self.order[: self.size]), self.order[self.size :]
        pixels = self.pixels[rows]
        mirrored = self.rng.random(len(rows)) < 0.5
        pixels[mirrored] = pixels[mirrored, :, ::-1]
        return pixels, torch.from_numpy(self.attributes[rows].astype(np.int64))

    def losses(self, guesses, joint, scenes, space, scale):
        attributes = scenes[1]
        parts = guesses[:, : sum(self.sizes)].split(self.sizes, dim=1)
        shares = (0.4, 0.2, 0.1, 0.1, 0.2)
        out = {"drawn": sum(share * F.cross_entropy(part, attributes[:, k]) for k, (share, part) in enumerate(zip(shares, parts)))}
        if space:
            places = space.places_of(self.vocabulary["classes"])
            out["drawn concepts"] = 0.3 * F.cross_entropy(scale.exp() * joint @ places.T, attributes[:, 0])
        return out
