"""Batches from the Rust generator (examples/scene_stream.rs): pictures, attributes, captions, token ids."""

import json
import queue
import random
import subprocess
import threading

import numpy as np
import torch

from captions import caption

SIDE = 64
RECORD = np.dtype([("attributes", "<u4", 5), ("pixels", "u1", (SIDE, SIDE, 3))])
MEAN, STD = 0.5, 0.25  # of every channel; the same values are exported to preprocessor_config.json


def vocabulary(stream):
    """The generator's lists of names, as `scene_stream --vocabulary` prints them."""
    return json.loads(subprocess.run([stream, "--vocabulary"], check=True, capture_output=True).stdout)


def start(stream, **options):
    """Starts the generator: start(stream, seed=1, conditions="train", reserved="skip")."""
    flags = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    return subprocess.Popen([stream, "--size", str(SIDE), *flags], stdout=subprocess.PIPE)


def normalise(pixels):
    """uint8 [batch, 64, 64, 3] -> float32 [batch, 3, 64, 64], channels last in memory."""
    return ((torch.from_numpy(pixels.astype(np.float32)) / 255 - MEAN) / STD).permute(0, 3, 1, 2)


def fixed(stream, count, **options):
    """A fixed set of pictures for evaluation: (pixels, attributes)."""
    with start(stream, count=count, threads=1, **options) as process:
        records = np.frombuffer(process.stdout.read(), dtype=RECORD)
    assert len(records) == count
    return records["pixels"], records["attributes"].astype(np.int64)


def tokenise(tokenizer, texts):
    """Texts -> ids [batch, longest], padded with the end token."""
    rows = [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.token_to_id("<|endoftext|>"))


class Batches:
    """Training batches for ever, made by a thread while the model trains."""

    def __init__(self, stream, tokenizer, size, seed, context_length):
        self.names, self.tokenizer, self.size, self.context_length = vocabulary(stream), tokenizer, size, context_length
        self.process = start(stream, seed=seed, conditions="train", reserved="skip", threads=1)
        self.rng = random.Random(seed)
        self.queue = queue.Queue(maxsize=6)
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            data = self.process.stdout.read(RECORD.itemsize * self.size)
            records = np.frombuffer(data, dtype=RECORD)
            attributes = records["attributes"].astype(np.int64)
            pixels = records["pixels"].copy()
            mirrored = np.random.default_rng(self.rng.getrandbits(32)).random(self.size) < 0.5
            pixels[mirrored] = pixels[mirrored, :, ::-1]
            texts, says = zip(*(caption(row, self.names, self.rng) for row in attributes.tolist()))
            ids = tokenise(self.tokenizer, list(texts))
            assert ids.shape[1] <= self.context_length, max(texts, key=len)
            self.queue.put((normalise(pixels), torch.from_numpy(attributes), ids, torch.tensor(says)))

    def next(self):
        return self.queue.get()
