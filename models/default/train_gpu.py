"""Trains the image tower on one GPU, in seconds that are given: the lessons of train_image.py, and the teacher's maps, on a thousand pictures at a time.

Every picture lies in the GPU's memory as it came. The teacher sees several windows of each first, and the student is shown these again
and again, mirrored, in other colours and sharper or softer (FKD, arXiv 2112.01528); with `--grow` small ones for a share of the time. All
blocks but the last learn what the teacher sees: its pooled features, and where in the picture it sees what, after an early block and
after the last of them (FitNets, arXiv 1412.6550). The last block learns names, and teaches the others `--share` of it: what a picture
shows beyond its name stays there for taps.py to read. A step is one CUDA graph of compiled kernels. Writes a checkpoint, and with
`--cache` the features that join.py reads. The same command goes on from its checkpoint, with as many seconds more; the rate then follows
all of them.
Usage: python train_gpu.py --data FOLDER --out FOLDER --seconds 300      (FOLDER from ship.py --unpack)
"""

import argparse
import json
import math
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

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # there to try the code and for a last hour; train_image.py is for processors
HALF = torch.float16 if DEVICE == "cuda" else torch.bfloat16


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
    """(like `prepared`, half of the pictures mirrored, each one's saturation, contrast and brightness changed, half made sharper or softer; which are mirrored)."""
    draw = lambda low, high: torch.empty((len(x), 1, 1, 1), device=x.device).uniform_(low, high)
    mirrored = draw(0, 1) < 0.5
    x = torch.where(mirrored, x.flip(3), x)
    edges = x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = x + edges * torch.where(draw(0, 1) < 0.5, draw(-0.7, 1.2), draw(0, 0))
    x = torch.lerp(x.mean(1, keepdim=True), x, draw(0.6, 1.4))
    middle = x.mean((1, 2, 3), keepdim=True)
    return prepared((x - middle) * draw(0.7, 1.3) + middle) + draw(-0.4, 0.4), mirrored


def resized(maps, side):
    """Maps or pictures [batch, channels, any, any] -> [batch, channels, side, side], means over what each place covers."""
    return F.adaptive_avg_pool2d(maps, side)


class Taught:
    """Windows of every picture, [views, pictures, ...], and what the teacher says of them: maps in the student's grid of tokens."""

    MAPS = (96, 320)  # channels: the middle of the network, and its end before the last convolution

    def __init__(self, pixels, teacher, views, least, side, grid):
        count = len(pixels.start)
        fresh = lambda *shape, dtype=torch.bfloat16: torch.empty((views, count, *shape), dtype=dtype, device=DEVICE)
        self.crops = fresh(side, side, 3, dtype=torch.uint8)
        self.features, self.logits = fresh(1280), fresh(1000)
        self.maps = [fresh(grid, grid, channels) for channels in self.MAPS]
        for view in range(views):
            boxes = pixels.windows(least) if view else pixels.middles()
            for rows in torch.arange(count, device=DEVICE).split(512 if DEVICE == "cuda" else 32):
                self.crops[view, rows] = pixels.crop(rows, boxes[rows], side).round_().permute(0, 2, 3, 1).byte()
                crops = pixels.crop(rows, boxes[rows], 224).to(HALF).contiguous(memory_format=torch.channels_last)
                *maps, features, logits = teacher(crops)
                self.features[view, rows], self.logits[view, rows] = features.bfloat16(), logits.bfloat16()
                for kept, new in zip(self.maps, maps):
                    kept[view, rows] = resized(new.float(), grid).permute(0, 2, 3, 1).bfloat16()
        self.scales = [self.scale(x[-1, :4096].float()) for x in (self.features, *self.maps)]

    @staticmethod
    def scale(sample):
        """(mean, deviation) of each channel."""
        return sample.flatten(0, -2).mean(0), sample.flatten(0, -2).std(0) + 0.05

    def features_of(self, view, rows):
        mean, deviation = self.scales[0]
        return (self.features[view, rows].float() - mean) / deviation

    def map_of(self, number, view, rows, mirrored, grid):
        """[batch, grid * grid, channels], mirrored where the picture is."""
        (mean, deviation), x = self.scales[1 + number], self.maps[number][view, rows].float()
        x = torch.where(mirrored, x.flip(2), x)
        if grid != x.shape[1]:
            x = resized(x.permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)
        return (x.flatten(1, 2) - mean) / deviation


class Hints(Heads):
    """Heads, and those of the teacher's maps."""

    def __init__(self, width, classes, attributes):
        super().__init__(width, classes, attributes)
        self.maps = nn.ModuleList(nn.Linear(width, channels) for channels in Taught.MAPS)


def look(tower, pictures, early, share):
    """The tokens after block `early`, those before the last block, which get `share` of the last one's gradients, and what is pooled."""
    x, kept = tower.embedded(pictures), []
    for number, block in enumerate(tower.blocks):
        if number in (early, len(tower.blocks) - 1):
            kept.append(x)
        if number == len(tower.blocks) - 1:
            x = torch.lerp(x.detach(), x, share)
        x = block(x)
    return *kept, tower.ln_post(tower.mean(x))


def unlike(guess, truth):
    """One less the cosine, the mean over all rows."""
    return (1 - F.cosine_similarity(guess.float(), truth, dim=-1)).mean()


class Lesson:
    """Batches of photographs and drawn scenes, and the losses."""

    AHEAD = 64  # steps whose pictures are chosen at once
    left_out = ()  # names of losses that teach nothing (lessons.py)

    def __init__(self, photos, taught, space, drawn, args):
        self.taught, self.space, self.drawn, self.args = taught, space, drawn, args
        self.labels = torch.from_numpy(photos.labels).to(DEVICE)
        counts = torch.bincount(self.labels[torch.from_numpy(photos.train).to(DEVICE)] + 1, minlength=len(photos.names) + 1)
        counts[0] = 200  # pictures with a caption instead of a class are as good as those of a middling class
        self.weight = counts[self.labels + 1].clamp(min=1) ** -0.3 * torch.from_numpy(photos.train).to(DEVICE)
        self.scenes = torch.from_numpy(np.load(args.data / "drawn/pixels.npy")).to(DEVICE)
        self.attributes = torch.from_numpy(drawn.attributes.astype(np.int64)).to(DEVICE)
        self.chosen = [torch.zeros(size, dtype=torch.long, device=DEVICE) for size in (args.batch, args.batch, args.scenes)]
        self.at = self.AHEAD

    def choose(self):
        """Rows, views and scenes of the next step, always in the same memory."""
        if self.at == self.AHEAD:
            rows = torch.multinomial(self.weight, self.AHEAD * self.args.batch, replacement=True)
            views = torch.randint(len(self.taught.crops), (len(rows),), device=DEVICE)
            scenes = torch.randint(len(self.scenes), (self.AHEAD * self.args.scenes,), device=DEVICE)
            self.ahead, self.at = [x.view(self.AHEAD, -1) for x in (rows, views, scenes)], 0
        for here, ahead in zip(self.chosen, self.ahead):
            here.copy_(ahead[self.at])
        self.at += 1

    def pictures(self, side):
        rows, view, scenes = self.chosen
        smaller = lambda x: x if x.shape[-1] == side else resized(x, side)
        x, mirrored = jitter(smaller(self.taught.crops[view, rows].permute(0, 3, 1, 2).float()))
        shown = self.scenes[scenes].permute(0, 3, 1, 2).float()
        shown = prepared(smaller(torch.where(torch.rand((len(shown), 1, 1, 1), device=DEVICE) < 0.5, shown.flip(3), shown)))
        return torch.cat([x, shown]).contiguous(memory_format=torch.channels_last), mirrored

    def losses(self, tower, heads, seen, mirrored):
        (rows, view, scenes), (early, late, pooled) = self.chosen, seen
        count, grid = len(rows), math.isqrt(early.shape[1] - 1)
        logits = self.taught.logits[view, rows].float()
        out = {"features": 4 * unlike(heads.teacher(tower.early(late[:count])), self.taught.features_of(view, rows))}
        for number, (name, tokens) in enumerate((("early map", early), ("late map", late))):
            tokens = F.layer_norm(tokens[:count, 1:], tower.ln_post.normalized_shape)
            out[name] = (1, 3)[number] * unlike(heads.maps[number](tokens), self.taught.map_of(number, view, rows, mirrored, grid))
        out["soft labels"] = distil(heads.labels(pooled[:count]).float(), logits)
        out["classes"] = F.cross_entropy(heads.classes(pooled[:count]).float(), self.labels[rows], ignore_index=-1, label_smoothing=0.1)
        joint = F.normalize(tower.proj(pooled).float(), dim=-1)
        out |= self.space.losses(joint[:count], rows, logits, heads.scale)
        guesses, scenes = heads.drawn(pooled[count:]).float(), (None, self.attributes[scenes])
        return out | self.drawn.losses(guesses, joint[count:], scenes, self.space, heads.scale)


def drawn_to(positions, count):
    """Learned positions of a square of tokens for a square of `count`: [tokens, width] -> [count, width]."""
    had, wanted = math.isqrt(len(positions)), math.isqrt(count)
    grid = positions.T.reshape(1, -1, had, had)
    return F.interpolate(grid, size=(wanted, wanted), mode="bicubic").flatten(2)[0].T if had != wanted else positions


class Trainer:
    """Tower, heads and their average; one step at a time, of one CUDA graph for each side of the pictures where there is a GPU."""

    WARM = 3  # steps before a graph is taken: optimisers and kernels make what they keep

    def __init__(self, lesson, config, classes, args):
        self.lesson, self.args = lesson, args
        self.tower = Clip(config).visual.to(DEVICE).to(memory_format=torch.channels_last)
        self.heads = Hints(config.vision_width, classes, 64).to(DEVICE)
        self.both = nn.ModuleList([self.tower, self.heads])
        self.weights = list(self.both.parameters())
        self.rate = torch.zeros((), device=DEVICE)
        named = [(f"visual.{n}", p) for n, p in self.tower.named_parameters()] + [(f"heads.{n}", p) for n, p in self.heads.named_parameters()]
        self.optims, self.average = optimisers(named, self.rate), Average(self.both)
        self.look = torch.compile(look, dynamic=False) if args.compile else look
        self.graphs, self.warm, self.shown = {}, {}, {}

    def descent(self, side):
        """One step at the rate that lies in `rate`, with the pictures that the lesson has chosen."""
        pictures, mirrored = self.lesson.pictures(side)
        with torch.autocast(DEVICE, dtype=torch.bfloat16, cache_enabled=False):
            seen = self.look(self.tower, pictures, self.args.early, self.args.share)
            losses = self.lesson.losses(self.tower, self.heads, seen, mirrored)
        sum(loss for name, loss in losses.items() if name not in self.lesson.left_out).backward()
        descend(self.optims, self.weights)
        self.heads.scale.data.clamp_(0, 3.4)
        self.average.follow(self.both)
        return {key: loss.detach() for key, loss in losses.items()}

    def step(self, side, rate):
        self.rate.fill_(rate)
        self.average.count()
        self.lesson.choose()
        if DEVICE == "cpu" or not self.args.graph:
            self.shown[side] = self.descent(side)
        elif side in self.graphs:
            self.graphs[side].replay()
        else:
            self.record(side)

    def record(self, side):
        """One of the first steps, in a stream of its own as CUDA graphs want it; the last of them takes the graph."""
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self.shown[side] = self.descent(side)
        here.wait_stream(aside)
        self.warm[side] = self.warm.get(side, 0) + 1
        if self.warm[side] == self.WARM:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph):
                    self.shown[side] = self.descent(side)
                self.graphs[side] = graph
            except RuntimeError as error:
                print("no graph:", str(error)[:600], flush=True)
                self.args.graph = False
                torch.cuda.synchronize()
                for optim in self.optims:
                    optim.zero_grad()

    def begin_with(self, old):
        """The averaged weights of another run, whose pictures may have had another side: positions are drawn to this one's."""
        key = "0.positional_embedding"
        self.average.module.load_state_dict(old["average"] | {key: drawn_to(old["average"][key].float(), len(self.tower.positional_embedding))})
        self.both.load_state_dict(self.average.module.state_dict())

    def load(self, old):
        for module, name in ((self.tower, "tower"), (self.heads, "heads"), (self.average.module, "average")):
            module.load_state_dict(old[name])
        for optim, state in zip(self.optims, old["optims"]):
            optim.load_state_dict(state)
            for group in optim.param_groups:
                group["lr"] = self.rate
        self.average.steps = old["step"]

    def state(self):
        return {"tower": self.tower.state_dict(), "heads": self.heads.state_dict(), "average": self.average.module.state_dict(),
                "optims": [optim.state_dict() for optim in self.optims]}


@torch.no_grad()
def features(tower, pictures, count, batch=2048 if DEVICE == "cuda" else 128):
    """The tower's features of `pictures(rows)`, [count, width] each on the GPU: {"trunk": before the last block, "pooled", "joint": projected}."""
    parts = []
    tower.eval()
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        for rows in torch.arange(count, device=DEVICE).split(batch):
            every = tower.tokens(pictures(rows).contiguous(memory_format=torch.channels_last))
            pooled = tower.ln_post(tower.mean(every[-1]))
            parts.append((tower.early(every[-2]).float(), pooled.float(), tower.proj(pooled).float()))
    tower.train()
    return {name: torch.cat(some) for name, some in zip(("trunk", "pooled", "joint"), zip(*parts))}


def shown(crops):
    """uint8 [batch, side, side, 3] -> what the tower reads."""
    return prepared(crops.permute(0, 3, 1, 2).float())


def evaluate(tower, photos, taught, space):
    """What `judged` says of the classes put aside."""
    out = {}
    for name, rows, labels in put_aside(photos):
        rows = torch.from_numpy(rows).to(DEVICE)
        seen = features(tower, lambda n: shown(taught.crops[0, rows[n]]), len(rows))
        out |= judged(name, {key: x.cpu() for key, x in seen.items()}, labels, space)
    return per_cent(out)


def caches(tower, args, taught, lesson):
    """What join.py reads: features of some windows of every picture and of drawn scenes, and the teacher's labels."""
    folder = args.out / "cache"
    folder.mkdir(exist_ok=True)
    keep = lambda name, pictures, count: np.save(folder / name, features(tower, pictures, count)["pooled"].half().cpu().numpy())
    for view in range(min(4, len(taught.crops))):
        keep(f"photos{view}.npy", lambda rows: shown(taught.crops[view, rows]), taught.crops.shape[1])
    keep("drawn.npy", lambda rows: shown(lesson.scenes[rows]), min(40_000, len(lesson.scenes)))
    np.save(args.data / "logits1.npy", taught.logits[1].half().cpu().numpy())
    (args.data / "done1").write_text(str(taught.crops.shape[1]))


def prepare(args, config, say):
    """(photographs, lesson): all that stays the same while the student learns."""
    photos = Photos(args.data, without=args.without.split(",") if args.without else ())
    pixels = Pixels(args.data, args.pictures)
    for name in ("labels", "sets", "train", "aside"):
        setattr(photos, name, getattr(photos, name)[: len(pixels.start)])
    say(len(pixels.start), "pictures")
    teacher = mobilenet.load(args.data / "teacher.pt", Taught.MAPS).to(HALF).to(DEVICE)
    grid = config.image_size // 2 ** (len(config.stem) + 1)
    taught = Taught(pixels, teacher, args.views, args.least, config.image_size, grid)
    del pixels, teacher
    taught.features[-1, -1].sum().item()  # the GPU has come so far
    say("taught", args.views, "views")
    space, drawn = Space(args.data / "space.npz", photos, device=DEVICE), Drawn(args.data / "drawn", args.scenes, args.seed)
    return photos, Lesson(photos, taught, space, drawn, args)


def kernels(args, config):
    """Compiles what a step needs into PyTorch's cache, where a later run finds it: the pictures may still be on their way."""
    tower = Clip(config).visual.to(DEVICE).to(memory_format=torch.channels_last)
    compiled = torch.compile(look, dynamic=False) if args.compile else look
    for side in {args.small if args.grow else config.image_size, config.image_size}:
        pictures = torch.randn((args.batch + args.scenes, 3, side, side), device=DEVICE).contiguous(memory_format=torch.channels_last)
        for _ in range(2):
            with torch.autocast(DEVICE, dtype=torch.bfloat16, cache_enabled=False):
                seen = compiled(tower, pictures, args.early, args.share)
            sum(x.float().square().mean() for x in seen).backward()


def main(args):
    torch.manual_seed(args.seed + int(time.time()) * (args.out / "image.pt").exists())  # other pictures than before
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    begin, config = time.time(), Config(image_size=args.side)
    say = lambda *what: print(f"{time.time() - begin:.0f} s:", *what, flush=True)
    photos, lesson = prepare(args, config, say)
    trainer = Trainer(lesson, config, len(photos.names), args)
    if args.start:
        trainer.begin_with(torch.load(args.start, map_location=DEVICE, weights_only=False))
    step, seen, start, path = 0, 0, time.time(), args.out / "image.pt"
    if path.exists():
        old = torch.load(path, map_location=DEVICE, weights_only=False)
        trainer.load(old)
        step, seen, start = old["step"], old["seen"], start - old["seconds"]
    history = (args.out / "history.jsonl").open("a")

    def keep():
        save(path, **trainer.state(), step=step, seen=seen, seconds=time.time() - start, config=config.as_dict())

    def tell(**what):
        row = {"step": step, "pictures": seen, **what}
        print(json.dumps(row), file=history, flush=True)
        say(row)

    judge = lambda: tell(evaluation=evaluate(trainer.average.module[0], photos, lesson.taught, lesson.space))
    last, before = time.time(), step
    saved = last
    while (progress := (time.time() - start) / (begin + args.seconds - start)) < 1:
        rate = args.lr * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * min(1.0, (1 - progress) / 0.8))
        side = args.small if progress < args.grow else config.image_size
        trainer.step(side, rate)
        step, seen = step + 1, seen + args.batch + args.scenes
        if step % 10 == 0 and DEVICE == "cuda":
            torch.cuda.synchronize()  # or the clock would tell how many steps wait, not how many are done
        if step % args.tell == 0:
            losses = {key: round(loss.item(), 4) for key, loss in trainer.shown[side].items()}
            speed = round((step - before) * (args.batch + args.scenes) / (time.time() - last))
            tell(seconds=round(time.time() - start), side=side, rate=round(rate, 6), speed=speed, **losses)
            last, before = time.time(), step
        if step % args.look == 0:
            judge()
            last, before = time.time(), step
        if time.time() - saved > 60:
            keep()
            saved = time.time()
    keep()
    judge()
    if args.cache:
        caches(trainer.average.module[0], args, lesson.taught, lesson)
    say("saved")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for all of it but the last look and the caches")
    parser.add_argument("--start", type=Path, help="a checkpoint of another run: its averaged weights are what is trained")
    parser.add_argument("--without", default="", help="sets to leave out, by commas")
    parser.add_argument("--pictures", type=int, default=10**9, help="photographs at most: rows are shuffled")
    parser.add_argument("--views", type=int, default=7, help="windows of each picture that the teacher sees")
    parser.add_argument("--least", type=float, default=0.2, help="smallest window, as a share of the largest square")
    parser.add_argument("--side", type=int, default=Config.image_size, help="of the pictures, a multiple of 16")
    parser.add_argument("--small", type=int, default=96, help="side of the pictures at first")
    parser.add_argument("--grow", type=float, default=0.0, help="share of the time after which pictures have their full side")
    parser.add_argument("--batch", type=int, default=1024, help="photographs a step")
    parser.add_argument("--scenes", type=int, default=128, help="drawn scenes a step")
    parser.add_argument("--early", type=int, default=2, help="block whose tokens learn the middle of the teacher")
    parser.add_argument("--share", type=float, default=0.5, help="of what names teach, for all blocks but the last")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--tell", type=int, default=100, help="steps between lines of the history")
    parser.add_argument("--look", type=int, default=5000, help="steps between looks at what was put aside")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="kernels of PyTorch as they are")
    parser.add_argument("--no-graph", dest="graph", action="store_false", help="every kernel started by itself")
    parser.add_argument("--kernels", action="store_true", help="only compile")
    parser.add_argument("--cache", action="store_true", help="for join.py")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kernels(arguments, Config(image_size=arguments.side)) if arguments.kernels else main(arguments)
