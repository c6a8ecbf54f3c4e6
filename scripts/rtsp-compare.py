#!/usr/bin/env python3
"""What reading a camera over RTSP costs beside `ffmpeg -i rtsp://... -f mjpeg - | edge-rlp classify --camera -`: processor time,
and the time from a change of the picture to the line that shows it. Both ways in turn, on one core, in one run.

usage: scripts/rtsp-compare.py [EDGE_RLP] [--size WxH] [--rate N] [--seconds N] [--rounds N] [--core N]

Needs ffmpeg, taskset and what scripts/rtsp-test.sh installs. The server runs beside them, where it likes.
"""
import argparse
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import tempfile
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("program", nargs="?", default="target/release/edge-rlp")
parser.add_argument("--size", default="1920x1080")
parser.add_argument("--rate", type=int, default=15)
parser.add_argument("--seconds", type=float, default=20)
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--core", default="0")
arguments = parser.parse_args()
os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
program = os.path.abspath(arguments.program)
work = tempfile.TemporaryDirectory()
labels = os.path.join(work.name, "labels.txt")
with open(labels, "w") as file:
    file.write("white = a white wall\ncard = a television test card with coloured bars\n")
port = random.randint(20000, 40000)
address = f"rtsp://127.0.0.1:{port}/stream"
server = subprocess.Popen(
    ["/usr/bin/python3", "tests/rtsp/server.py", str(port), "--size", arguments.size, "--rate", str(arguments.rate), "--switch", "2.3"],
    stdout=subprocess.PIPE,
    text=True,
)
assert "ready" in server.stdout.readline(), "the server does not come up"
switches = []
threading.Thread(target=lambda: switches.extend(float(line) for line in iter(server.stdout.readline, "")), daemon=True).start()


def classify(camera, *more):
    return f"{program} --home {work.name}/home --threads 1 classify --json --labels {labels} --camera {camera} {' '.join(more)}"


FFMPEG = f"ffmpeg -loglevel quiet -rtsp_transport tcp -i {address}"
WAYS = {
    "RTSP, every picture": classify(address, "--every-frame"),
    "ffmpeg, every picture": f"{FFMPEG} -f mjpeg -q:v 5 - | {classify('-')}",
    "RTSP, --every 1s": classify(address, "--every 1s"),
    "ffmpeg -r 1": f"{FFMPEG} -r 1 -f mjpeg -q:v 5 - | {classify('-')}",
    "RTSP, --motion": classify(address, "--every-frame --motion"),
    "ffmpeg, --motion": f"{FFMPEG} -f mjpeg -q:v 5 - | {classify('-', '--motion')}",
}


def run(line):
    """Processor seconds, lines and latencies of a command that is ended after a while."""
    begun = len(switches)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        # The shell waits for all of them, or their time would not be counted.
        ["taskset", "-c", arguments.core, "sh", "-c", f"trap : TERM; {line}; :"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    threading.Timer(arguments.seconds, lambda: os.killpg(process.pid, signal.SIGTERM)).start()
    came = [(time.time(), json.loads(text)) for text in process.stdout if text.startswith("{")]
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    latencies = []
    for switch in switches[begun:]:
        earlier = [found["label"] for at, found in came if at <= switch]
        later = [at for at, found in came if at > switch and earlier and found["label"] != earlier[-1]]
        if later and later[0] - switch < 2.3:
            latencies.append(later[0] - switch)
    return spent, len(came), latencies


print(f"{arguments.size} at {arguments.rate} a second, {arguments.seconds:g} s each, load {os.getloadavg()[0]:.1f}", flush=True)
results = {name: [] for name in WAYS}
try:
    for _ in range(arguments.rounds):
        for name, line in WAYS.items():
            results[name].append(run(line))
finally:
    server.terminate()
for name, runs in results.items():
    spent = sum(run[0] for run in runs) / (arguments.seconds * len(runs))
    lines = sum(run[1] for run in runs) / len(runs)
    latencies = sorted(latency for run in runs for latency in run[2])
    middle = f"{1000 * statistics.median(latencies):.0f} ms from a change to its line (median of {len(latencies)})" if latencies else ""
    print(f"{name:24}{100 * spent:6.1f} % of a core, {lines:5.0f} named  {middle}", flush=True)
print(f"load {os.getloadavg()[0]:.1f}")
