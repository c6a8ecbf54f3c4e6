#!/usr/bin/env python3
"""Makes a camera's frames of a folder of pictures: `frames.py PICTURES OUT` writes OUT/LABEL-N.mjpg and OUT/LABEL-N.yuyv
for each of PICTURES/LABEL/*.png: 640 x 480, the picture in the middle square that CLIP crops to."""

import pathlib
import sys

from PIL import Image

WIDTH, HEIGHT = 640, 480


def view(path):
    picture = Image.open(path).convert("RGB")
    frame = picture.resize((WIDTH, HEIGHT)).point(lambda value: value // 2)
    frame.paste(picture.resize((HEIGHT, HEIGHT), Image.BICUBIC), ((WIDTH - HEIGHT) // 2, 0))
    return frame


def yuyv(frame):
    """Two bytes a pixel in the limited range of BT.601, as V4L2 means it."""
    y, u, v = frame.convert("YCbCr").split()
    y = y.point(lambda value: round(16 + value * 219 / 255)).tobytes()
    u, v = (plane.point(lambda value: round(128 + (value - 128) * 224 / 255)).tobytes() for plane in (u, v))
    data = bytearray(2 * len(y))
    data[0::2] = y
    data[1::4] = u[0::2]
    data[3::4] = v[0::2]
    return data


pictures, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)
for folder in sorted(path for path in pictures.iterdir() if path.is_dir()):
    for number, path in enumerate(sorted(folder.glob("*.png"))):
        frame = view(path)
        frame.save(out / f"{folder.name}-{number}.mjpg", format="JPEG", quality=90)
        (out / f"{folder.name}-{number}.yuyv").write_bytes(yuyv(frame))
