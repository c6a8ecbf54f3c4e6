"""The teacher in PyTorch, for a GPU: the operators of a .tflite file as OpenVINO reads them, without its rounding to eight bits.

Usage: python mobilenet.py --tflite FILE --out teacher.pt [--check PICTURE...]
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FOLDED = {
    "Convert": lambda op, x: x.astype(np.float32),
    "Subtract": lambda op, x, y: x - y,
    "Multiply": lambda op, x, y: x * y,
    "Transpose": lambda op, x, order: x.transpose(order),
    "Reshape": lambda op, x, shape: x.reshape(list(op.get_output_shape(0))),
    "Unsqueeze": lambda op, x, axes: x.reshape(list(op.get_output_shape(0))),
}


def read(path):
    """{steps, ends, weights}: a step is (kind, names of its inputs, its name, options); the ends are the pooled features and the logits."""
    import openvino as ov
    from teacher import bound, cut

    model = cut(ov.Core().read_model(path))[0]
    bound(model)
    constants, steps, weights = {}, [], {}
    for op in model.get_ordered_ops():
        kind, name, inputs = op.get_type_name(), op.get_name(), [i.get_node().get_name() for i in op.input_values()]
        if kind == "Constant":
            constants[name] = np.array(op.data)
        elif kind in FOLDED and all(i in constants for i in inputs):
            constants[name] = FOLDED[kind](op, *(constants[i] for i in inputs))
        elif kind in ("Convolution", "GroupConvolution"):
            options, weight = op.get_attributes(), constants[inputs[1]]
            groups = weight.shape[0] if kind == "GroupConvolution" else 1
            weights[name] = torch.from_numpy(weight.reshape(-1, *weight.shape[-3:]).copy())
            (top, left), (bottom, right) = options["pads_begin"], options["pads_end"]
            steps.append(("conv", inputs[:1], name, {"stride": options["strides"][0], "pad": (left, right, top, bottom), "groups": groups}))
        elif kind in ("Add", "Multiply") and any(i in constants for i in inputs):
            x, = (i for i in inputs if i not in constants)
            y, = (constants[i] for i in inputs if i in constants)
            weights[name] = torch.from_numpy(np.asarray(y, np.float32).copy())
            steps.append((f"{kind.lower()} constant", [x], name, {}))
        elif kind == "Clamp":
            options = op.get_attributes()
            steps.append(("clamp", inputs, name, {"low": options["min"], "high": options["max"]}))
        elif kind in ("AvgPool", "ReduceMean"):
            steps.append(("pool", inputs[:1], name, {}))
        elif kind == "Add":
            steps.append(("add", inputs, name, {}))
        elif kind in ("Parameter", "Transpose", "Convert"):  # bytes, channels last; pictures come in as numbers, channels first
            steps.append(("same", inputs[:1], name, {}))
        elif kind != "Result":
            raise SystemExit(f"{path}: operator {kind} is not known here")
    ends = [result.input_value(0).get_node().get_name() for result in model.get_results()]
    return {"steps": steps, "ends": ends, "weights": weights}


def fused(steps, weights):
    """The same steps in fewer passes: constants that are added to what a convolution gives are its bias, and of two bounds one is left."""
    out, made, same = [], {}, {}
    for kind, inputs, name, options in steps:
        inputs = [same.get(i, i) for i in inputs]
        before = made.get(inputs[0]) if inputs else None
        if kind == "add constant" and before and before[0] == "conv":
            before[3]["bias"], same[name] = name, inputs[0]
            weights[name] = weights[name].flatten()
        elif kind == "clamp" and before and before[0] == "clamp":
            before[3].update(low=max(before[3]["low"], options["low"]), high=min(before[3]["high"], options["high"]))
            same[name] = inputs[0]
        else:
            out.append((kind, inputs, name, dict(options)))
            made[name] = out[-1]
    return out, same


class Teacher(nn.Module):
    """Pictures [batch, 3, 224, 224], 0 to 255 -> (pooled [batch, 1280], logits [batch, 1000]), and before them,
    where `maps` are asked for, what the last convolutions that read so many channels read: [batch, channels, side, side]."""

    def __init__(self, steps, ends, weights, maps=()):
        super().__init__()
        steps, same = fused(steps, weights)
        reads = {weights[name].shape[1]: inputs[0] for kind, inputs, name, options in steps if kind == "conv" and options["groups"] == 1}
        self.steps, self.ends = steps, [reads[channels] for channels in maps] + [same.get(end, end) for end in ends]
        self.last_use = {name: n for n, (_, inputs, *_) in enumerate(steps) for name in inputs}
        for name, weight in weights.items():
            self.register_buffer(name, weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight)

    @torch.no_grad()
    def forward(self, x):
        values = {}
        for n, (kind, inputs, name, options) in enumerate(self.steps):
            a = values[inputs[0]] if inputs else x
            match kind:
                case "conv":
                    (left, right, top, bottom), weight = options["pad"], getattr(self, name)
                    bias = getattr(self, options["bias"]) if "bias" in options else None
                    if (left, top) == (right, bottom):
                        y = F.conv2d(a, weight, bias, options["stride"], (top, left), 1, options["groups"])
                    else:
                        y = F.conv2d(F.pad(a, options["pad"]), weight, bias, options["stride"], 0, 1, options["groups"])
                case "add constant":
                    y = a + getattr(self, name)
                case "multiply constant":
                    y = a * getattr(self, name)
                case "clamp":
                    y = a.clamp(options["low"], options["high"])
                case "pool":
                    y = a.mean((2, 3), keepdim=True)
                case "add":
                    y = a + values[inputs[1]]
                case "same":
                    y = a
            values[name] = y
            for done in inputs:
                if self.last_use[done] == n and done not in self.ends:
                    values.pop(done, None)
        *maps, pooled, logits = (values[end] for end in self.ends)
        return *maps, pooled.flatten(1), logits.flatten(1)[:, 1:]


def load(path, maps=()):
    return Teacher(**torch.load(path, weights_only=True), maps=maps).float()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tflite", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--check", nargs="*", default=(), help="pictures on which both are compared")
    args = parser.parse_args()
    torch.save(read(args.tflite), args.out)
    if args.check:
        from PIL import Image

        from teacher import BATCH
        from teacher import load as by_openvino

        crops = np.stack([np.asarray(Image.open(path).convert("RGB").resize((224, 224), Image.BICUBIC)) for path in args.check[:BATCH]])
        pooled, logits = load(args.out)(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
        padded = np.concatenate([crops, np.zeros((BATCH - len(crops), 224, 224, 3), np.uint8)])
        theirs, scores = (torch.from_numpy(x[: len(crops)]) for x in by_openvino(args.tflite)(padded))
        print("cosine of features", F.cosine_similarity(pooled, theirs).min().item(), "same best class", (logits.argmax(1) == scores.argmax(1)).float().mean().item())
