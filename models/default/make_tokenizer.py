"""Writes tokenizer.json: Hugging Face's CLIPTokenizerFast built from the first merges of CLIP's list.

The vocabulary is 256 bytes, 256 bytes that end a word, one token a merge, and the two special tokens.
Usage: python make_tokenizer.py [--vocab 2048] [--out tokenizer.json]
"""

import argparse
import gzip
from pathlib import Path

import open_clip
from transformers import CLIPTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode


def build(vocab_size):
    """CLIP's tokenizer with a vocabulary of `vocab_size`: that many minus 514 merges are kept."""
    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.open(path, "rt", encoding="utf-8").read().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : vocab_size - 513]]
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    assert len(vocab) == vocab_size, "two merges make the same token"
    return CLIPTokenizerFast(vocab=vocab, merges=merges).backend_tokenizer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tokenizer.json")
    args = parser.parse_args()
    build(args.vocab).save(str(args.out))
