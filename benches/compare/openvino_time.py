"""OpenVINO's time for one picture through an image tower, as its defaults run it: python openvino_time.py FILE THREADS REPEATS
prints a JSON list of milliseconds. FILE is what make_models.py wrote, .xml or .onnx. `ONEDNN_MAX_CPU_ISA` holds its
kernels to a set of instructions."""
import json
import sys
import time

import numpy as np
import openvino

path, threads, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
core = openvino.Core()
settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
model = core.read_model(path)
model.reshape([1, 3, 224, 224])
request = core.compile_model(model, "CPU", settings).create_infer_request()
feed = [np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)]
request.infer(feed)
times = []
for _ in range(repeats):
    start = time.perf_counter()
    request.infer(feed)
    times.append(1e3 * (time.perf_counter() - start))
print(json.dumps(times))
