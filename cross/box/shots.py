#!/usr/bin/env python3
"""Makes shots, as the labelling view keeps them, of pictures: `shots.py PICTURES OUT` writes OUT/LABEL/NUMBER.jpg for each of
PICTURES/LABEL/*.png."""

import pathlib
import sys

from PIL import Image

pictures, out = map(pathlib.Path, sys.argv[1:])
for folder in sorted(path for path in pictures.iterdir() if path.is_dir()):
    (out / folder.name).mkdir(parents=True)
    for number, path in enumerate(sorted(folder.glob("*.png")), start=1):
        Image.open(path).convert("RGB").save(out / folder.name / f"{number:06}.jpg", quality=90)
