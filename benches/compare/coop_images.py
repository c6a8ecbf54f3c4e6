"""The image side of a step of CoOp in PyTorch: 32 augmented pictures through the frozen image tower of ViT-B/32, as CoOp
encodes them anew in every step. python coop_images.py THREADS REPEATS prints a JSON list of milliseconds."""
import json
import sys
import time

import torch
from make_models import Image, build

torch.set_num_threads(int(sys.argv[1]))
tower = Image(build()[0])
batch = torch.randn(32, 3, 224, 224)
times = []
with torch.no_grad():
    tower(batch)
    for _ in range(int(sys.argv[2])):
        start = time.perf_counter()
        tower(batch)
        times.append(1e3 * (time.perf_counter() - start))
print(json.dumps(times))
