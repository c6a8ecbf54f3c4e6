"""faster-clip's time for one picture, decoding (PNG of 224 x 224) and preprocessing with it, as it offers nothing less:
python faster_clip_time.py REPEATS prints a JSON list of milliseconds. `FASTER_CLIP_CACHE` names the weights that
make_models.py wrote, threads `RAYON_NUM_THREADS`."""
import io
import json
import sys
import time

import numpy as np
from faster_clip import ClipModel
from PIL import Image

pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
file = io.BytesIO()
Image.fromarray(pixels).save(file, "PNG")
model = ClipModel()
model.encode_image([file.getvalue()])
times = []
for _ in range(int(sys.argv[1])):
    start = time.perf_counter()
    model.encode_image([file.getvalue()])
    times.append(1e3 * (time.perf_counter() - start))
print(json.dumps(times))
