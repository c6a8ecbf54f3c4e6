"""One table of edge-rlp beside tract as it comes, rten, onnxruntime, OpenVINO, faster-clip and PyTorch, on ViT-B/32 at full size with random
weights. Every subject is a process of its own that prints its times; the rounds take turns, the table holds medians over
all rounds. benches/compare/run.sh sets everything up and runs this.

    python compare.py MODELS [--rounds N] [--threads 1,2] [--write docs/results/time-and-memory.md]
"""
import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RELEASE = ROOT / "target" / "release"
# Each as its own quantiser makes it.
RTEN = {"int8": "visual_int8_rten.onnx", "f32": "visual.onnx"}
OPENVINO = {"int8": "visual_int8_openvino.xml", "f32": "visual.onnx"}
COOP_STEPS = 200 * (16 * 10 // 32)  # epochs x batches: 16 shots of 10 classes, batches of 32


def run(command, threads, **environment):
    """Runs `command` with a home folder of its own; its last line of standard output, read as JSON."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "RTEN_NUM_THREADS")}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env={**os.environ, **limits, **environment})
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Table:
    """Times of named figures, gathered over rounds."""

    def __init__(self):
        self.values = {}

    def add(self, name, values):
        self.values.setdefault(name, []).extend(values if isinstance(values, list) else [values])

    def median(self, name):
        return statistics.median(self.values[name]) if name in self.values else None

    def spread(self, name):
        values = sorted(self.values[name])
        return values[(3 * (len(values) - 1) + 2) // 4] - values[(len(values) - 1) // 4]


def measure(table, models, pictures, home, threads, first, classes):
    """One round: every subject once. `first` also runs what takes minutes."""
    ours = [RELEASE / "edge-rlp", "--home", home, "bench", "--json", "--threads", threads]
    for precision in ("int8", "f32"):
        figures = run([*ours, "--model", models / f"{precision}.rlpm", "--only", "image,text,start", "--repeats", 5], threads)
        table.add(f"image ours {precision}", figures["image_ms"]["median"])
        table.add(f"text ours {precision}", figures["text_ms"]["median"])
        table.add(f"start ours {precision}", figures["cold_start_ms"]["median"])
        for job in ("classify", "adapt"):
            table.add(f"memory {job} ours {precision}", figures["peak_mb"][job]["median"])
        counts = [count for count in classes if first or count < 1000]
        figures = run([*ours, "--model", models / f"{precision}.rlpm", "--only", "step", "--repeats", 3, "--classes", ",".join(map(str, counts))], threads)
        for count in counts:
            table.add(f"step {count} ours {precision}", figures["step_ms"][str(count)]["median"])
    for precision, file in (("f32", "visual.onnx"), ("int8", "visual_int8.onnx")):
        table.add(f"image onnxruntime {precision}", run([sys.executable, HERE / "onnxruntime_time.py", models / file, threads, 7], threads))
        file_of_rten, file_of_openvino = RTEN[precision], OPENVINO[precision]
        table.add(f"image rten {precision}", run([HERE / "rten/target/release/compare-rten", models / file_of_rten, 7], threads))
        table.add(f"image OpenVINO {precision}", run([sys.executable, HERE / "openvino_time.py", models / file_of_openvino, threads, 7], threads))
        if precision == "int8":
            weights = str(models / "faster-clip")
            table.add("image faster-clip int8", run([sys.executable, HERE / "faster_clip_time.py", 7], threads, FASTER_CLIP_CACHE=weights))
        if threads == 1:
            table.add(f"image plain tract {precision}", run([RELEASE / "examples/plain_tract", models / file, 1, 3], threads))
    for precision, file in (("f32", "textual.onnx"), ("int8", "textual_int8.onnx")):
        table.add(f"text onnxruntime {precision}", run([sys.executable, HERE / "onnxruntime_time.py", models / file, threads, 1], threads))
    table.add("step images PyTorch", run([sys.executable, HERE / "coop_images.py", threads, 2], threads))
    counts = [count for count in classes if count == 10 or (first and count < 1000)]
    for count, times in run([sys.executable, HERE / "coop_text.py", "--threads", threads, "--repeats", 2, "--classes", *counts], threads).items():
        table.add(f"step {count} text PyTorch", times)
    if first:
        report = run([RELEASE / "edge-rlp", "--home", home, "adapt", "--json", "--model", models / "int8.rlpm", "--images", pictures, "--shots", 16,
                      "--threads", threads], threads)
        table.add("adaptation ours", report["seconds"]["total"])
        table.add("adaptation features ours", report["seconds"]["features"])
        table.add("adaptation training ours", report["seconds"]["training"])
        for method in run([RELEASE / "examples/coop_recipe"], threads)["methods"]:
            for figure in ("loss", "accuracy", "steps", "seconds"):
                table.add(f"recipe {method['method']} {figure}", method[figure])


def ratio(table, ours, theirs):
    a, b = table.median(ours), table.median(theirs)
    return "" if a is None or b is None else f"{a / b:.3f}"


def rows(table):
    """The lines of the table: what, ours int8, ours f32, others."""
    def ms(name):
        value = table.median(name)
        return "" if value is None else f"{value:.1f} (±{table.spread(name) / 2:.1f})"

    def line(*cells):
        return "| " + " | ".join(cells) + " |"

    yield line("milliseconds (± half the distance of the quartiles)", "ours int8", "ours f32", "onnxruntime int8", "onnxruntime f32", "OpenVINO int8",
               "OpenVINO f32", "rten int8", "rten f32", "faster-clip int8", "plain tract int8", "plain tract f32")
    yield line(*["---"] * 12)
    others = [f"{name} {precision}" for name in ("onnxruntime", "OpenVINO", "rten", "faster-clip", "plain tract") for precision in ("int8", "f32")]
    # faster-clip keeps its weights in eight bits and nothing else.
    others.remove("faster-clip f32")
    for what, name in (("one picture", "image"), ("100 class names", "text"), ("cold start of classify", "start")):
        yield line(what, *(ms(f"{name} ours {p}") for p in ("int8", "f32")), *(ms(f"{name} {other}") for other in others))
    yield ""
    yield line("training step, milliseconds", "ours int8", "ours f32", "PyTorch CoOp, text", "PyTorch CoOp, 32 pictures", "int8 / PyTorch's text")
    yield line(*["---"] * 6)
    for count in (10, 100, 1000):
        if f"step {count} ours int8" in table.values:
            yield line(f"{count} classes", ms(f"step {count} ours int8"), ms(f"step {count} ours f32"), ms(f"step {count} text PyTorch"),
                       ms("step images PyTorch"), ratio(table, f"step {count} ours int8", f"step {count} text PyTorch"))
    yield ""
    yield line("memory at its peak, MB", "int8", "f32")
    yield line("---", "---", "---")
    for job in ("classify", "adapt"):
        yield line(f"{job}, 10 classes", *(f"{table.median(f'memory {job} ours {p}'):.0f}" for p in ("int8", "f32")))
    coop = COOP_STEPS * (table.median("step images PyTorch") + table.median("step 10 text PyTorch")) / 1e3
    ours = table.median("adaptation ours")
    yield ""
    yield (f"Whole adaptation, 16 shots of 10 classes: {ours:.1f} s (features {table.median('adaptation features ours'):.1f} s, training "
           f"{table.median('adaptation training ours'):.1f} s). CoOp's recipe, 200 epochs, extrapolated from the steps measured above "
           f"({COOP_STEPS} steps): {coop:.0f} s. Ratio 1/{coop / ours:.0f}.")
    yield ""
    yield line("default model, four conditions it has never seen, 16 shots of 12 classes", "loss on the training pictures", "test accuracy", "steps", "seconds of training")
    yield line(*["---"] * 5)
    for method in ("zero-shot", "CoOp's recipe", "adapt"):
        loss, accuracy, steps, seconds = (table.median(f"recipe {method} {figure}") for figure in ("loss", "accuracy", "steps", "seconds"))
        yield line(method, f"{loss:.3f}", f"{100 * accuracy:.1f} %", f"{steps:.0f}", f"{seconds:.1f}")
    yield ""
    yield (f"Ratios: picture int8 over onnxruntime's int8 {ratio(table, 'image ours int8', 'image onnxruntime int8')}, over OpenVINO's int8 "
           f"{ratio(table, 'image ours int8', 'image OpenVINO int8')}, f32 over onnxruntime's f32 "
           f"{ratio(table, 'image ours f32', 'image onnxruntime f32')}; step of 10 classes over PyTorch's text pass "
           f"{ratio(table, 'step 10 ours int8', 'step 10 text PyTorch')}; step of 1,000 over 10 classes "
           f"{ratio(table, 'step 1000 ours int8', 'step 10 ours int8')}.")


def processor():
    match = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    flags = set(re.search(r"flags\s*:\s*(.*)", Path("/proc/cpuinfo").read_text()).group(1).split())
    known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in flags]
    return f"{match.group(1) if match else 'unknown'} ({', '.join(known)}), {os.cpu_count()} cores"


def written(sections):
    return "\n".join(f"## {title}\n\n{body}" for title, body in sorted(sections.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--classes", default="10,100,1000")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    classes = [int(count) for count in arguments.classes.split(",")]
    sections = {}
    with tempfile.TemporaryDirectory() as scratch:
        pictures, home = Path(scratch) / "pictures", Path(scratch) / "home"
        labels = Path(scratch) / "labels.txt"
        subprocess.run([RELEASE / "edge-rlp", "--quiet", "demo", "--out", pictures, "--shots", "16", "--test", "1"], check=True, stdout=subprocess.DEVNULL)
        ten = sorted(line for line in (pictures / "labels.txt").read_text().splitlines() if line.strip() and not line.startswith("#"))[:10]
        labels.write_text("\n".join(ten) + "\n")
        (pictures / "labels.txt").write_text("\n".join(ten) + "\n")
        for threads in map(int, arguments.threads.split(",")):
            table = Table()
            for number in range(arguments.rounds):
                print(f"threads {threads}, round {number + 1} of {arguments.rounds}", file=sys.stderr)
                measure(table, arguments.models, pictures, home, threads, number == 0, classes)
            made = f"{processor()}, {datetime.date.today()}. `benches/compare/run.sh`, {arguments.rounds} rounds, subjects taking turns."
            sections[f"{threads} thread{'s' if threads > 1 else ''}"] = "\n".join([made, "", *rows(table), ""])
    print(written(sections))
    if arguments.write:
        page = arguments.write.read_text()
        start, end = "<!-- table -->\n", "<!-- end of table -->"
        before, rest = page.split(start)
        kept, after = rest.split(end)
        # A run with one number of threads leaves the sections of the others.
        kept = dict(section.split("\n\n", 1) for section in kept.split("## ")[1:])
        kept = {title: body.rstrip() + "\n" for title, body in kept.items()}
        arguments.write.write_text(before + start + written(kept | sections) + end + after)


if __name__ == "__main__":
    main()
