"""Packs what train_gpu.py needs for a machine that only files reach, in parts of a given size.

OUT/partN/: pictures as they are, one behind the other in the order of the pack's rows (pictures.bin), and in part0 the rest: index,
teacher, the semantic space and the texts with their places in eight bits.
There, `--unpack` decodes what has come: OUT/pixelsN.bin, bytes of one picture behind the other, and OUT/sizesN.npy, their heights and widths.
Usage: python ship.py --photos FOLDER --pack FOLDER --work FOLDER --teacher teacher.pt --stream PATH_OF_scene_stream --out FOLDER [--size 60]
       python ship.py --unpack FOLDER_OF_PARTS --out FOLDER
"""

import argparse
import gzip
import io
import json
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

CHUNK = 4096


def eight_bits(places):
    """Directions in eight bits: whoever reads them makes them unit vectors again."""
    places = places.astype(np.float32)
    return np.round(127 * places / np.abs(places).max(1, keepdims=True)).astype(np.int8)


def shrink(path, out, kept=None):
    """Writes a .npz of the same arrays, places in eight bits; of the nouns only those in `kept`."""
    arrays = {name: value for name, value in np.load(path).items()}
    if kept:
        some = np.isin(arrays["nouns"], kept)
        arrays["nouns"], arrays["noun_targets"] = arrays["nouns"][some], arrays["noun_targets"][some]
    for name, value in arrays.items():
        if "targets" in name and name != "targets":
            arrays[name] = eight_bits(value)
    np.savez_compressed(out, **arrays)


def decode(job):
    """Some pictures one behind the other, in a file of their own."""
    number, pieces, out = job
    sizes = []
    with (out / f"pixels{number}.bin").open("wb") as pixels:
        for path, start, length in pieces:
            with path.open("rb") as file:
                file.seek(start)
                picture = np.asarray(Image.open(io.BytesIO(file.read(length))).convert("RGB"))
            sizes.append(picture.shape[:2])
            pixels.write(picture.tobytes())
    np.save(out / f"sizes{number}.npy", np.array(sizes, np.int64))


def unpack(parts, out):
    out.mkdir(parents=True, exist_ok=True)
    rest = parts / "part0"
    (out / "index.json").write_bytes(gzip.decompress((rest / "index.json.gz").read_bytes()))
    for name in ("space.npz", "texts.npz", "teacher.pt", "scene_stream"):
        shutil.copy(rest / name, out / name)
    pieces, at = [], {}
    for part, length in np.load(rest / "lengths.npz")["lengths"].tolist():
        pieces.append((parts / f"part{part}" / "pictures.bin", at.get(part, 0), length))
        at[part] = at.get(part, 0) + length
    pieces = [piece for piece in pieces if piece[0].exists()]  # a trial may begin before all has come
    jobs = [(n, pieces[first : first + CHUNK], out) for n, first in enumerate(range(0, len(pieces), CHUNK))]
    with ProcessPoolExecutor() as pool:
        list(pool.map(decode, jobs))
    print(len(pieces), "pictures")


def main(args):
    rest = args.out / "part0"
    rest.mkdir(parents=True, exist_ok=True)
    index = json.loads((args.pack / "index.json").read_text())
    vocabulary = json.loads(subprocess.run([args.stream, "--vocabulary"], check=True, capture_output=True).stdout)
    shrink(args.work / "space.npz", rest / "space.npz", vocabulary["classes"])
    shrink(args.work / "texts.npz", rest / "texts.npz")
    teacher = torch.load(args.teacher, weights_only=True)
    teacher["weights"] = {name: weight.half() for name, weight in teacher["weights"].items()}
    torch.save(teacher, rest / "teacher.pt")
    shutil.copy(args.stream, rest / "scene_stream")
    subprocess.run(["strip", rest / "scene_stream"], check=True)
    part, lengths = 0, []
    room = args.size * 2**20 - sum(file.stat().st_size for file in rest.iterdir()) - 4 * 2**20  # the index comes last
    out = (rest / "pictures.bin").open("wb")
    for row in index["rows"]:
        data = (args.photos / row["path"]).read_bytes()
        if room < len(data):
            part, room = part + 1, args.size * 2**20
            (args.out / f"part{part}").mkdir(exist_ok=True)
            out = (args.out / f"part{part}" / "pictures.bin").open("wb")
        out.write(data)
        room -= len(data)
        lengths.append((part, len(data)))
    np.savez_compressed(rest / "lengths.npz", lengths=np.array(lengths, np.int32))
    (rest / "index.json.gz").write_bytes(gzip.compress(json.dumps(index).encode()))
    for folder in sorted(args.out.glob("part*")):
        print(folder.name, f"{sum(file.stat().st_size for file in folder.iterdir()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--unpack", type=Path)
    for name in ("photos", "pack", "work", "teacher", "stream"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--size", type=int, default=60, help="MiB of a part at most")
    arguments = parser.parse_args()
    unpack(arguments.unpack, arguments.out) if arguments.unpack else main(arguments)
