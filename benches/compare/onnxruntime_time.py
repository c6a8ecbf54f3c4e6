"""onnxruntime's time for one run of a tower: python onnxruntime_time.py FILE.onnx THREADS REPEATS prints a JSON list of
milliseconds. An image tower gets one picture, a text tower 100 rows of 77 tokens."""
import json
import sys
import time

import numpy as np
import onnxruntime

path, threads, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
if session.get_inputs()[0].name == "input_ids":
    rows = np.full((100, 77), 49407)
    rows[:, 0], rows[:, 1:8] = 49406, np.arange(7) + 320
    feed = {"input_ids": rows}
else:
    feed = {"pixel_values": np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)}
session.run(None, feed)
times = []
for _ in range(repeats):
    start = time.perf_counter()
    session.run(None, feed)
    times.append(1e3 * (time.perf_counter() - start))
print(json.dumps(times))
