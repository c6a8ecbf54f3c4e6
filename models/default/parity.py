"""Writes parity.json: what onnxruntime computes from the towers beside it, for a few texts and pictures.

The Rust tests draw the same pictures (integers only, so that they are the same to the bit) and compare.

    python parity.py        (numpy, onnxruntime, tokenizers)
"""
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).parent
TEXTS = [
    "a photo of a mug.",
    "a photo of a key.",
    "a dark night photo of a red fish on wood.",
    "a blurry picture of a striped bottle, seen in fog",
    "grass",
    "",
]
PICTURES = 4


def picture(index, size):
    """[3, size, size] bytes: rings, stripes and gradients."""
    c, y, x = np.meshgrid(np.arange(3), np.arange(size), np.arange(size), indexing="ij")
    rings = ((x - size // 2) ** 2 + (y - size // 3) ** 2) // (4 + 9 * index)
    return ((rings * (index % 2) + x * (2 + index) + y * (c + 1)) % 256).astype(np.uint8)


if __name__ == "__main__":
    config = json.loads((HERE / "config.json").read_text())
    processor = json.loads((HERE / "preprocessor_config.json").read_text())
    size, length = config["vision_config"]["image_size"], config["text_config"]["max_position_embeddings"]
    start, end = (config["text_config"][name] for name in ("bos_token_id", "eos_token_id"))
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    run = {name: onnxruntime.InferenceSession(HERE / f"{name}.onnx", providers=["CPUExecutionProvider"]) for name in ("visual", "textual")}
    sequences = [[start, *tokenizer.encode(text, add_special_tokens=False).ids, end] for text in TEXTS]
    ids = np.array([row + [end] * (length - len(row)) for row in sequences])
    mean, std = (np.array(processor[name], np.float32)[:, None, None] for name in ("image_mean", "image_std"))
    pixels = np.stack([(picture(index, size).astype(np.float32) / 255 - mean) / std for index in range(PICTURES)])
    text = np.concatenate([run["textual"].run(None, {"input_ids": row[None]})[0] for row in ids])
    image = np.concatenate([run["visual"].run(None, {"pixel_values": one[None]})[0] for one in pixels])
    rows = lambda table: [[round(float(value), 6) for value in row] for row in table]
    (HERE / "parity.json").write_text(json.dumps(dict(texts=TEXTS, sequences=sequences, text=rows(text), image=rows(image))) + "\n")
