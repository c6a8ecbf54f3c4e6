"""Trains the default CLIP on pictures that the Rust generator draws, on the CPU, in a given time.

Two processes of one thread each share every batch (their gradients are averaged): on two busy cores that is
several times faster than two threads in each operator. The learning rate follows the clock, so that training ends
on time whatever else the machine does.
Usage: python train.py --stream PATH_OF_scene_stream --out FOLDER --minutes 70
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn

from data import Batches
from evaluate import Evaluation
from model import Clip, Config

HERE = Path(__file__).parent


def contrastive(image, text, scale, attributes, says):
    """UniCL's loss (arXiv 2204.03610): a caption is a positive of every picture that agrees with all it mentions."""
    agrees = (attributes[:, None] == attributes[None]) | ~says[None]
    positive = agrees.all(dim=-1).float()
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    per_picture = F.cross_entropy(logits, positive / positive.sum(1, keepdim=True))
    per_caption = F.cross_entropy(logits.T, positive.T / positive.T.sum(1, keepdim=True))
    return (per_picture + per_caption) / 2


def optimisers(model, heads, lr):
    """Muon for the matrices inside the blocks, AdamW for everything else."""
    matrices, decayed, rest = [], [], []
    for name, weight in list(model.named_parameters()) + list(heads.named_parameters()):
        if weight.dim() == 2 and "blocks" in name:
            matrices.append(weight)
        else:
            (decayed if weight.dim() > 1 and "embedding" not in name else rest).append(weight)
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    return [torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))]


def train(rank, args):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port))
    dist.init_process_group("gloo", rank=rank, world_size=args.processes)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    config = Config()
    model = Clip(config).to(memory_format=torch.channels_last)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    batches = Batches(args.stream, tokenizer, args.batch // args.processes, args.seed + rank, config.context_length)
    sizes = [len(batches.names[key]) for key in ("classes", "colours", "patterns", "backgrounds", "conditions")]
    heads = nn.Linear(config.vision_width, sum(sizes))
    weights = [args.heads * share for share in (2.0, 1.0, 0.5, 0.5, 1.0)]
    optims = optimisers(model, heads, args.lr)
    parameters = list(model.parameters()) + list(heads.parameters())
    evaluation = Evaluation(args.stream, tokenizer, test=360, fast=True) if rank == 0 else None
    history = (args.out / "history.jsonl").open("a") if rank == 0 else None

    begin, last_eval, step, progress = time.time(), time.time(), 0, 0.0
    recent = []
    while progress < 1:
        pictures, attributes, ids, says = batches.next()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pooled = model.visual.pooled(pictures)
            image, text, guesses = model.visual.proj(pooled), model.text(ids), heads(pooled)
        loss = contrastive(image.float(), text.float(), model.logit_scale.exp(), attributes, says)
        guesses = guesses.float().split(sizes, dim=1)
        extra = sum(w * F.cross_entropy(g, attributes[:, k]) for k, (w, g) in enumerate(zip(weights, guesses)))
        (loss + extra).backward()

        # One message a step: all gradients, the losses, and the clock of the first process.
        clock = (time.time() - begin) / (60 * args.minutes) if rank == 0 else 0.0
        notes = torch.tensor([loss.item(), extra.item(), args.processes * clock])
        flat = torch.cat([p.grad.flatten() for p in parameters] + [notes])
        dist.all_reduce(flat)
        flat /= args.processes
        *grads, notes = flat.split([p.numel() for p in parameters] + [3])
        norm = flat[:-3].norm().item()
        for p, g in zip(parameters, grads):
            p.grad.copy_(g.view_as(p) * min(1.0, args.clip / (norm + 1e-6)))
        progress = notes[2].item()
        rate = args.lr * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, progress))) / 2)
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = rate
            optim.step()
            optim.zero_grad()
        model.logit_scale.data.clamp_(0, math.log(100))
        step += 1

        if rank == 0:
            recent.append(notes[:2])
            if step % 20 == 0:
                mean = torch.stack(recent).mean(0).tolist()
                recent.clear()
                row = {"step": step, "pictures": step * args.batch, "seconds": round(time.time() - begin, 1), "loss": mean[0],
                       "heads": mean[1], "scale": model.logit_scale.exp().item(), "lr": rate, "norm": norm,
                       "waiting": batches.queue.qsize()}
                print(json.dumps(row), file=history, flush=True)
                print({k: round(v, 4) for k, v in row.items()}, flush=True)
            if time.time() - last_eval > 60 * args.evaluate or progress >= 1:
                torch.save({"config": config.as_dict(), "model": model.state_dict(), "step": step,
                            "pictures": step * args.batch}, args.out / "checkpoint.pt")
                began = time.time()
                table = evaluation.report(model)
                header = f"## {time.strftime('%H:%M:%S')} step {step}, {step * args.batch} pictures, {recent and recent[-1].tolist()}, progress {progress:.3f}, eval {time.time() - began:.0f} s"
                with (args.out / "evaluations.md").open("a") as file:
                    print(f"{header}\n{table}\n", file=file)
                last_eval = time.time()
    batches.process.kill()
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", required=True, help="the built examples/scene_stream")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, history and evaluations")
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--evaluate", type=float, default=10, help="minutes between evaluations")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--heads", type=float, default=0.2, help="weight of the attribute heads")
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=29511)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(train, args=(args,), nprocs=args.processes)
