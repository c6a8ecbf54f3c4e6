"""Writes tokenizer.json: Hugging Face's CLIPTokenizerFast built from the first merges of CLIP's list.

The vocabulary is 256 bytes, 256 bytes that end a word, one token a merge, and the two special tokens.
Usage: python make_tokenizer.py --merges bpe_simple_vocab_16e6.txt.gz [--vocab 8706] [--out tokenizer.json]
"""

import argparse
import gzip
from pathlib import Path

from transformers import CLIPTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode


def build(path, vocab_size):
    """CLIP's tokenizer with a vocabulary of `vocab_size`: that many minus 514 merges are kept."""
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
    parser.add_argument("--merges", required=True, help="CLIP's list of merges, as the package open_clip_torch has it")
    parser.add_argument("--vocab", type=int, default=8706)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tokenizer.json")
    args = parser.parse_args()
    build(args.merges, args.vocab).save(str(args.out))
