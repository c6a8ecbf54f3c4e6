"""Exports a checkpoint: visual.onnx and textual.onnx (opset 17) and the two configuration files.

Both towers give features that are not normalised. Batch norms are folded into the convolutions before them. Each ONNX file
is run in onnxruntime and compared with PyTorch; `--half` then stores the weights in float16, which halves the files.
Usage: python export.py --checkpoint FILE [--out FOLDER] [--half]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from tokenizers import Tokenizer

from model import Clip, Config
from photos import MEAN, STD, normalise
from train_text import tokenise

HERE = Path(__file__).parent


def load(path):
    """The model of a checkpoint, in float32, for inference."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in saved["config"].items()}
    model = Clip(Config(**config))
    model.load_state_dict(saved["model"])
    return model.eval()


def configurations(model):
    """config.json (Hugging Face's names for CLIP) and preprocessor_config.json."""
    c = model.config
    shared = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": c.embed_dim + c.tap_dim}
    text = {"hidden_size": c.text_width, "intermediate_size": 4 * c.text_width, "num_hidden_layers": c.text_layers,
            "num_attention_heads": c.text_heads, "max_position_embeddings": c.context_length, "vocab_size": c.vocab_size,
            "bos_token_id": c.vocab_size - 2, "eos_token_id": c.vocab_size - 1, "pad_token_id": c.vocab_size - 1, **shared}
    stem = {"channels": [*c.stem, c.vision_width], "residual_blocks": [*c.stem_blocks, 0], "kernel": 3, "stride": 2, "activation": "relu"}
    vision = {"hidden_size": c.vision_width, "intermediate_size": 4 * c.vision_width, "num_hidden_layers": c.vision_layers,
              "num_attention_heads": c.vision_width // c.vision_head, "image_size": c.image_size, "patch_size": 2 ** (len(c.stem) + 1),
              "num_channels": 3, "stem": stem, "pooling": "mean", **shared}
    config = {"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": c.embed_dim + c.tap_dim,
              "logit_scale": model.logit_scale.exp().item(), "logit_scale_init_value": model.logit_scale.item(),
              "text_config": text, "vision_config": vision}
    preprocessor = {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True, "size": {"shortest_edge": c.image_size},
                    "resample": 3, "do_center_crop": True, "crop_size": {"height": c.image_size, "width": c.image_size},
                    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [MEAN] * 3, "image_std": [STD] * 3}
    return {"config.json": config, "preprocessor_config.json": preprocessor}


def halve(path):
    """Stores the large tensors in float16, each widened by a Cast before it is used."""
    model = onnx.load(path)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < 1024:
            continue
        values, name = onnx.numpy_helper.to_array(tensor), tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        casts.append(onnx.helper.make_node("Cast", [name + "_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def export(tower, example, path, names, axes, trials, half):
    """Writes one tower and returns the largest difference from PyTorch over the trials."""
    torch.onnx.export(tower, (example,), str(path), input_names=names[:1], output_names=names[1:], opset_version=17,
                      dynamic_axes={names[0]: axes, names[1]: {0: "batch"}}, dynamo=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        worst = max(np.abs(session.run(None, {names[0]: x.numpy()})[0] - tower(x).numpy()).max() for x in trials)
    if half:
        halve(path)
    return worst


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="of join.py, or RANDOM")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--half", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = Clip(Config()).eval() if args.checkpoint == "RANDOM" else load(args.checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, content in configurations(model).items():
        (args.out / name).write_text(json.dumps(content, indent=2) + "\n")
    if args.out != HERE:
        (args.out / "tokenizer.json").write_bytes((HERE / "tokenizer.json").read_bytes())
    side = model.config.image_size
    pictures = [normalise(np.random.default_rng(n).integers(0, 256, (n, side, side, 3), dtype=np.uint8)).contiguous() for n in (1, 5)]
    words = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    texts = [tokenise(words, lines) for lines in (["a photo of a mug."], ["a fish", "a dark night photo of a red key on wood, grainy."])]
    texts.append(torch.nn.functional.pad(texts[1], (0, model.config.context_length - texts[1].shape[1]), value=model.config.vocab_size - 1))
    print("visual.onnx", export(model.visual, pictures[1], args.out / "visual.onnx", ["pixel_values", "image_features"], {0: "batch"}, pictures, args.half))
    print("textual.onnx", export(model.text, texts[1], args.out / "textual.onnx", ["input_ids", "text_features"],
                                 {0: "batch", 1: "sequence"}, texts, args.half))
