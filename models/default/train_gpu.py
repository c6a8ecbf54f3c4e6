"""Trains the image tower on one GPU, in seconds that are given: the lessons of train_image.py on thousands of pictures at a time.

Every picture lies in the GPU's memory as it came. The teacher sees several windows of each first, and the student is shown these again
and again, mirrored, in other colours and sharper or softer (FKD, arXiv 2112.01528); small ones for `--grow` of the time, then the
whole side. Writes a checkpoint for join.py and the cached features that join.py reads. The same command goes on from its checkpoint, with
as many seconds more; the rate then follows all of them.
Usage: python train_gpu.py --data FOLDER --out FOLDER --seconds 300      (FOLDER from ship.py --unpack)
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import mobilenet
from model import Clip, Config
from optim import Average, descend, optimisers
from photos import MEAN, STD, Photos
from targets import Drawn, Space
from train_image import Heads, distil, judged, per_cent, put_aside, save

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # there to try the code; train_image.py is for processors
HALF = torch.float16 if DEVICE == "cuda" else torch.float32


class Pixels:
    """Pictures of any size, one behind the other: bytes [pixels, 3] on the GPU."""

    def __init__(self, folder, most):
        parts = sorted(folder.glob("pixels*.bin"), key=lambda path: int(path.stem.removeprefix("pixels")))
        sizes = np.concatenate([np.load(folder / f"sizes{n}.npy") for n in range(len(parts))])[:most]
        self.height, self.width = torch.from_numpy(sizes).to(DEVICE).T
        areas = self.height * self.width
        self.start = areas.cumsum(0) - areas
        self.bytes = torch.empty((int(areas.sum()), 3), dtype=torch.uint8, device=DEVICE)
        at = 0
        for part in parts:
            piece = torch.from_numpy(np.fromfile(part, np.uint8).reshape(-1, 3))[: len(self.bytes) - at]
            self.bytes[at : at + len(piece)] = piece.to(DEVICE)
            at += len(piece)

    def middles(self):
        """The largest square in the middle of each: [pictures, 4] left, top, right, bottom."""
        side = torch.minimum(self.height, self.width)
        left, top = (self.width - side) / 2, (self.height - side) / 2
        return torch.stack([left, top, left + side, top + side], 1)

    def windows(self, least):
        """A random window of each: `least` to all of the largest square's area, sides 3:4 to 4:3."""
        count = len(self.start)
        area = torch.minimum(self.height, self.width) ** 2 * torch.empty(count, device=DEVICE).uniform_(least, 1)
        stretch = torch.empty(count, device=DEVICE).uniform_(-0.1438, 0.1438).exp()
        w, h = torch.minimum(self.width, area**0.5 * stretch), torch.minimum(self.height, area**0.5 / stretch)
        x, y = torch.rand(count, device=DEVICE) * (self.width - w), torch.rand(count, device=DEVICE) * (self.height - h)
        return torch.stack([x, y, x + w, y + h], 1)

    def crop(self, rows, boxes, side):
        """Bilinear pictures [rows, 3, side, side], 0 to 255, channels last in memory."""
        steps = (torch.arange(side, device=DEVICE) + 0.5) / side
        x = boxes[:, :1] + steps * (boxes[:, 2:3] - boxes[:, :1]) - 0.5
        y = boxes[:, 1:2] + steps * (boxes[:, 3:] - boxes[:, 1:2]) - 0.5
        (x0, x1, fx), (y0, y1, fy) = self.neighbours(x, self.width[rows]), self.neighbours(y, self.height[rows])
        fx, fy = fx[:, None, :, None], fy[:, :, None, None]
        row = lambda line: (self.start[rows][:, None] + line * self.width[rows][:, None])[:, :, None]
        top, bottom = row(y0), row(y1)
        take = lambda line, column: self.bytes[line + column[:, None, :]].float()
        above, below = torch.lerp(take(top, x0), take(top, x1), fx), torch.lerp(take(bottom, x0), take(bottom, x1), fx)
        return torch.lerp(above, below, fy).permute(0, 3, 1, 2)

    @staticmethod
    def neighbours(at, size):
        at = torch.minimum(at.clamp(min=0), (size[:, None] - 1).float())
        low = at.floor().long()
        return low, torch.minimum(low + 1, size[:, None] - 1), at - low


def prepared(x):
    """0 to 255 -> what the tower reads."""
    return (x / 255 - MEAN) / STD


def jitter(x):
    """Like `prepared`, half of the pictures mirrored, each one's saturation, contrast and brightness changed, half made sharper or softer."""
    draw = lambda low, high: torch.empty((len(x), 1, 1, 1), device=x.device).uniform_(low, high)
    x = torch.where(draw(0, 1) < 0.5, x.flip(3), x)
    edges = x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = x + edges * torch.where(draw(0, 1) < 0.5, draw(-0.7, 1.2), draw(0, 0))
    x = torch.lerp(x.mean(1, keepdim=True), x, draw(0.6, 1.4))
    middle = x.mean((1, 2, 3), keepdim=True)
    return prepared((x - middle) * draw(0.7, 1.3) + middle) + draw(-0.4, 0.4)


class Taught:
    """Windows of every picture and what the teacher says of them."""

    def __init__(self, pixels, teacher, views, least):
        count = len(pixels.start)
        self.boxes = torch.stack([pixels.middles(), *(pixels.windows(least) for _ in range(views - 1))])
        self.features = torch.empty((views, count, 1280), dtype=torch.bfloat16, device=DEVICE)
        self.logits = torch.empty((views, count, 1000), dtype=torch.bfloat16, device=DEVICE)
        for view in range(views):
            for rows in torch.arange(count, device=DEVICE).split(512 if DEVICE == "cuda" else 32):
                crops = pixels.crop(rows, self.boxes[view, rows], 224).to(HALF).contiguous(memory_format=torch.channels_last)
                self.features[view, rows], self.logits[view, rows] = (end.bfloat16() for end in teacher(crops))


class Lesson:
    """Batches of photographs and drawn scenes, and the losses."""

    def __init__(self, photos, pixels, taught, space, drawn, args):
        self.photos, self.pixels, self.taught, self.space, self.drawn, self.args = photos, pixels, taught, space, drawn, args
        self.labels = torch.from_numpy(photos.labels).to(DEVICE)
        counts = torch.bincount(self.labels[torch.from_numpy(photos.train).to(DEVICE)] + 1, minlength=len(photos.names) + 1)
        self.weight = counts[self.labels + 1].clamp(min=1) ** -0.3 * torch.from_numpy(photos.train).to(DEVICE)
        sample = taught.features[-1][:4096].float()
        self.mean, self.deviation = sample.mean(0), sample.std(0) + 0.05
        self.scenes = torch.from_numpy(np.load(args.data / "drawn/pixels.npy")).to(DEVICE)
        self.attributes = torch.from_numpy(drawn.attributes.astype(np.int64)).to(DEVICE)

    def pictures(self, side):
        rows = torch.multinomial(self.weight, self.args.batch, replacement=True)
        view = torch.randint(len(self.taught.boxes), (len(rows),), device=DEVICE)
        x = self.pixels.crop(rows, self.taught.boxes[view, rows], 96 if side == 96 else 2 * side)
        x = jitter(x if x.shape[-1] == side else F.avg_pool2d(x, 2))
        scenes = torch.randint(len(self.scenes), (self.args.scenes,), device=DEVICE)
        shown = self.scenes[scenes].permute(0, 3, 1, 2).float()
        shown = torch.where(torch.rand((len(shown), 1, 1, 1), device=DEVICE) < 0.5, shown.flip(3), shown)
        shown = prepared(shown if side == 96 else F.interpolate(shown, size=(side, side), mode="area"))
        return rows, view, torch.cat([x, shown]).contiguous(memory_format=torch.channels_last), (None, self.attributes[scenes])

    def losses(self, heads, proj, pooled, batch):
        rows, view, _, scenes = batch
        photos, logits = pooled[: len(rows)], self.taught.logits[view, rows].float()
        truth = (self.taught.features[view, rows].float() - self.mean) / self.deviation
        out = {"features": 4 * (1 - F.cosine_similarity(heads.teacher(photos).float(), truth)).mean(),
               "soft labels": distil(heads.labels(photos).float(), logits),
               "classes": F.cross_entropy(heads.classes(photos).float(), self.labels[rows], ignore_index=-1, label_smoothing=0.1)}
        joint = F.normalize(proj(pooled).float(), dim=-1)
        out |= self.space.losses(joint[: len(rows)], rows, logits, heads.scale)
        return out | self.drawn.losses(heads.drawn(pooled[len(rows):]).float(), joint[len(rows):], scenes, self.space, heads.scale)


@torch.no_grad()
def pooled_features(tower, pictures, count, batch=2048):
    """The tower's pooled features of `pictures(rows)`, [count, width] on the GPU."""
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        return torch.cat([tower.pooled(pictures(rows)).float() for rows in torch.arange(count, device=DEVICE).split(batch)])


def evaluate(tower, photos, pixels, space, boxes):
    """What `judged` says of the classes put aside."""
    tower.eval()
    out = {}
    for name, rows, labels in put_aside(photos):
        rows = torch.from_numpy(rows).to(DEVICE)
        shown = lambda n: prepared(pixels.crop(rows[n], boxes[rows[n]], 96)).contiguous(memory_format=torch.channels_last)
        pooled = pooled_features(tower, shown, len(rows))
        out |= judged(name, pooled.cpu(), tower.proj(pooled).detach().cpu(), labels, space)
    tower.train()
    return per_cent(out)


def caches(tower, args, photos, pixels, taught, lesson):
    """What join.py reads: features of some windows of every picture and of drawn scenes, and the teacher's labels."""
    tower.eval()
    folder = args.out / "cache"
    folder.mkdir(exist_ok=True)
    layout = lambda x: x.contiguous(memory_format=torch.channels_last)
    for view in range(min(4, len(taught.boxes))):
        shown = lambda rows: layout(prepared(pixels.crop(rows, taught.boxes[view, rows], 96)))
        np.save(folder / f"photos{view}.npy", pooled_features(tower, shown, len(pixels.start)).half().cpu().numpy())
    shown = lambda rows: layout(prepared(lesson.scenes[rows].permute(0, 3, 1, 2).float()))
    np.save(folder / "drawn.npy", pooled_features(tower, shown, min(40_000, len(lesson.scenes))).half().cpu().numpy())
    np.save(args.data / "logits1.npy", taught.logits[1].half().cpu().numpy())
    (args.data / "done1").write_text(str(len(pixels.start)))


def main(args):
    torch.manual_seed(args.seed + int(time.time()) * (args.out / "image.pt").exists())  # other pictures than before
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    begin = time.time()
    say = lambda *what: print(f"{time.time() - begin:.0f} s:", *what, flush=True)
    photos = Photos(args.data, without=args.without.split(",") if args.without else ())
    pixels = Pixels(args.data, args.pictures)
    for name in ("labels", "sets", "train", "aside"):
        setattr(photos, name, getattr(photos, name)[: len(pixels.start)])
    say(len(pixels.start), "pictures")
    taught = Taught(pixels, mobilenet.load(args.data / "teacher.pt").to(HALF).to(DEVICE), args.views, args.least)
    taught.features[-1, -1].sum().item()  # the GPU has come so far
    say("taught", args.views, "views")
    space, drawn = Space(args.data / "space.npz", photos, device=DEVICE), Drawn(args.data / "drawn", args.scenes, args.seed)
    lesson = Lesson(photos, pixels, taught, space, drawn, args)
    model = Clip(Config())
    tower = model.visual.to(DEVICE).to(memory_format=torch.channels_last)
    heads = Heads(model.config.vision_width, len(photos.names), 64).to(DEVICE)
    both = nn.ModuleList([tower, heads])
    named = [(f"visual.{n}", p) for n, p in tower.named_parameters()] + [(f"heads.{n}", p) for n, p in heads.named_parameters()]
    optims, average = optimisers(named, args.lr), Average(both)
    step, seen, start, path = 0, 0, time.time(), args.out / "image.pt"
    if path.exists():
        old = torch.load(path, map_location=DEVICE, weights_only=False)
        for module, name in ((tower, "tower"), (heads, "heads"), (average.module, "average")):
            module.load_state_dict(old[name])
        for optim, state in zip(optims, old["optims"]):
            optim.load_state_dict(state)
        step, seen, start, average.steps = old["step"], old["seen"], start - old["seconds"], old["step"]

    def keep():
        save(path, tower=tower.state_dict(), heads=heads.state_dict(), average=average.module.state_dict(), step=step, seen=seen,
             optims=[optim.state_dict() for optim in optims], seconds=time.time() - start, config=model.config.as_dict())

    history = (args.out / "history.jsonl").open("a")

    def tell(**what):
        row = {"step": step, "pictures": seen, **what}
        print(json.dumps(row), file=history, flush=True)
        say(row)

    look = lambda: tell(evaluation=evaluate(average.module[0], photos, pixels, space, taught.boxes[0]))
    last = saved = time.time()
    while (progress := (time.time() - start) / (begin + args.seconds - start)) < 1:
        rate = args.lr * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * min(1.0, (1 - progress) / 0.8))
        side = args.small if progress < args.grow else model.config.image_size
        batch = lesson.pictures(side)
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            losses = lesson.losses(heads, tower.proj, tower.pooled(batch[2]), batch)
        sum(losses.values()).backward()
        descend(optims, [p for _, p in named], rate)
        heads.scale.data.clamp_(0, 3.4)
        average.update(both)
        step, seen = step + 1, seen + len(batch[2])
        if step % 100 == 0:
            tell(seconds=round(time.time() - start), side=side, rate=round(rate, 6),
                 speed=round(100 * len(batch[2]) / (time.time() - last)), **{key: round(loss.item(), 4) for key, loss in losses.items()})
            last = time.time()
        if step % args.look == 0:
            look()
            last = time.time()
        if time.time() - saved > 60:
            keep()
            saved = time.time()
    look()
    keep()
    caches(average.module[0], args, photos, pixels, taught, lesson)
    say("saved")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for all of it but the last look and the caches")
    parser.add_argument("--without", default="", help="sets to leave out, by commas")
    parser.add_argument("--pictures", type=int, default=10**9, help="photographs at most: rows are shuffled")
    parser.add_argument("--views", type=int, default=8, help="windows of each picture that the teacher sees")
    parser.add_argument("--least", type=float, default=0.25, help="smallest window, as a share of the largest square")
    parser.add_argument("--small", type=int, default=64, help="side of the pictures at first")
    parser.add_argument("--grow", type=float, default=0.6, help="share of the time after which pictures have their full side")
    parser.add_argument("--batch", type=int, default=1024, help="photographs a step")
    parser.add_argument("--scenes", type=int, default=160, help="drawn scenes a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--look", type=int, default=2000, help="steps between looks at what was put aside")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    main(arguments)
