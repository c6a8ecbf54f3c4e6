"""Runs the teacher, a MobileNetV2 in a .tflite file, over the packed crops: its pooled features and its logits.

Writes, for view V, OUT/featuresV.npy [pictures, 1280] and OUT/logitsV.npy [pictures, 1000] in float16, and how many rows
are done in OUT/doneV, so that training may begin before all is there and a run that was cut off goes on.
Usage: python teacher.py --tflite FILE --pack FOLDER [--views 1,0,2,3,4]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import openvino as ov
import torch
import torch.nn.functional as F
from openvino import opset13 as opset

BATCH, CHUNK = 64, 2048


def bound(model):
    """Takes the rounding to eight bits out and leaves the bounds: bfloat16 runs 2.7 times as fast as the file as it is."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize" or node.input_value(0).get_node().get_type_name() == "Constant":
            continue
        low, high, first, last = (float(np.min(node.input_value(k).get_node().data)) for k in (1, 2, 3, 4))
        value = opset.clamp(node.input_value(0), low, high)
        if (low, high) != (first, last):  # the input: bytes to -1 ... 1
            factor = (last - first) / (high - low)
            value = opset.add(opset.multiply(value, np.float32(factor)), np.float32(first - low * factor))
        node.output(0).replace(value.output(0))


def cut(model):
    """([pooled, logits] as a model, the side of its pictures): the softmax and what follows is left out."""
    operators = model.get_ordered_ops()
    logits = next(op for op in operators if op.get_type_name() == "Softmax").input_value(0)
    while len(logits.get_partial_shape()) != 4:
        logits = logits.get_node().input_value(0)
    pooling = next(op for op in operators if op.get_type_name() in ("AvgPool", "ReduceMean"))
    shorter = ov.Model([pooling.output(0), logits], model.get_parameters())
    return shorter, shorter.input(0).get_partial_shape()[1].get_length()


def load(path):
    """crops uint8 [BATCH, side, side, 3] -> (pooled [BATCH, 1280], logits [BATCH, 1000])."""
    core = ov.Core()
    model, side = cut(core.read_model(path))
    model.reshape([BATCH, side, side, 3])
    bound(model)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "bf16"})

    def run(crops):
        x = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
        x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        x = x.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        pooled, logits = compiled(x).values()
        return pooled.reshape(BATCH, -1), logits.reshape(BATCH, -1)[:, 1:]

    return run


def column(folder, name, width, rows):
    """A table in a file: made if it is not there."""
    path = folder / f"{name}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r+")
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, width))


def teach(run, crops, pack, view):
    """Fills the tables of one view from where they were left."""
    rows, done = crops.shape[0], pack / f"done{view}"
    features, logits = column(pack, f"features{view}", 1280, rows), column(pack, f"logits{view}", 1000, rows)
    start, began = int(done.read_text()) if done.exists() else 0, time.time()
    for at in range(start, rows, CHUNK):
        while (ready := int((pack / "packed").read_text()) if (pack / "packed").exists() else 0) < min(at + CHUNK, rows):
            time.sleep(2)
        for row in range(at, min(at + CHUNK, rows), BATCH):
            part = np.asarray(crops[row : row + BATCH])
            full = part if len(part) == BATCH else np.concatenate([part, np.repeat(part[:1], BATCH - len(part), 0)])
            pooled, scores = run(full)
            features[row : row + len(part)], logits[row : row + len(part)] = pooled[: len(part)], scores[: len(part)]
        done.write_text(str(min(at + CHUNK, rows)))
        print(f"view {view}: {min(at + CHUNK, rows)} of {ready}, {(at + CHUNK - start) / (time.time() - began):.0f} a second", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tflite", required=True)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--views", default="1,0,2,3,4")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = np.load(args.pack / "views.npy", mmap_mode="r")
    network = load(args.tflite)
    for view in map(int, args.views.split(",")):
        teach(network, table[view], args.pack, view)
