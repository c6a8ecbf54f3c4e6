#!/usr/bin/env bash
# The tables of docs/results for photographs that a person has:
#
#     [MODEL=BUNDLE] [SHOTS=16] [SEEDS=3] scripts/photo_tables.sh FOLDER...
#
# A FOLDER has one sub-folder of photographs a label, in it or in its train/ and test/; without those, the shots are drawn
# by seed and the rest is tested on. First table: every method on every folder. Second: of a prompt that was made on one
# folder, how many pictures of each folder it answers with "unknown". OTHERS names more folders for the second table alone.
set -euo pipefail

if [ $# -lt 1 ]; then
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
edge_rlp="${EDGE_RLP:-$(dirname "$0")/../target/release/edge-rlp}"
model="${MODEL:-}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export EDGE_RLP_HOME="$work/home"
n=0
for folder in "$@"; do
    echo "$folder ..." >&2
    n=$((n + 1))
    "$edge_rlp" eval --quiet --json --images "$folder" --methods "${METHODS:-all}" --shots "${SHOTS:-16}" --seeds "${SEEDS:-3}" \
        ${model:+--model "$model"} >"$work/eval.$n.json"
    # Everything is trained on the first shots of a folder, everything else of it is what the prompt knows.
    python3 - "$folder" "$work/shots.$n" "$work/rest.$n" "${SHOTS:-16}" <<'PYTHON'
import os, random, sys
folder, shots, rest, count = sys.argv[1:]
source = os.path.join(folder, "train") if os.path.isdir(os.path.join(folder, "train")) else folder
for label in sorted(os.listdir(source)):
    if not os.path.isdir(os.path.join(source, label)):
        continue
    names = sorted(os.listdir(os.path.join(source, label)))
    random.Random(0).shuffle(names)
    for where, part in ((shots, names[:int(count)]), (rest, names[int(count):])):
        os.makedirs(os.path.join(where, label))
        for name in part:
            os.symlink(os.path.abspath(os.path.join(source, label, name)), os.path.join(where, label, name))
PYTHON
    "$edge_rlp" adapt --quiet --force --images "$work/shots.$n" --prompt "p$n" ${model:+--model "$model"} >"$work/adapt.$n" || true
done
m=$n
for folder in ${OTHERS:-}; do
    m=$((m + 1))
    ln -s "$(realpath "$folder")" "$work/rest.$m"
done
for prompt in $(seq 1 "$n"); do
    for other in $(seq 1 "$m"); do
        find -L "$work/rest.$other" -type f | sort | awk 'NR % 3 == 0 || NR < 400' | head -400 |
            xargs -d '\n' "$edge_rlp" classify --quiet --json --prompt "p$prompt" ${model:+--model "$model"} >"$work/unknown.$prompt.$other" || true
    done
done
# shellcheck disable=SC2086 # several names
python3 - "$work" "$n" "$m" "$@" ${OTHERS:-} <<'PYTHON'
import json, os, sys
work, n, m, folders = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
name = lambda k: os.path.basename(os.path.normpath(folders[k - 1]))
tables = {k: json.load(open(f"{work}/eval.{k}.json")) for k in range(1, n + 1)}
methods = [row["method"] for row in tables[1]["methods"]]
print("| photographs (labels) | " + " | ".join(methods) + " | calibration error: " + ", ".join(m for m in methods if m in ("zero-shot", "rlp", "auto")) + " |")
print("|---" * (len(methods) + 2) + "|")
sums = {method: [] for method in methods}
for k, table in tables.items():
    rows = {row["method"]: row for row in table["methods"]}
    for method in methods:
        sums[method].append(100 * rows[method]["accuracy"])
    errors = ", ".join(f"{100 * rows[x]['calibration_error']:.1f}" for x in ("zero-shot", "rlp", "auto") if x in rows)
    print(f"| {name(k)} ({len(table['labels'])}) | " + " | ".join(f"{sums[x][-1]:.1f}" for x in methods) + f" | {errors} |")
print("| mean | " + " | ".join(f"{sum(v) / len(v):.1f}" for v in sums.values()) + " | |")
print("\n| pictures answered with \"unknown\" by a prompt of | " + " | ".join(name(k) for k in range(1, m + 1)) + " |")
print("|---" * (m + 1) + "|")
for prompt in range(1, n + 1):
    shares = []
    for other in range(1, m + 1):
        answers = [json.loads(line) for line in open(f"{work}/unknown.{prompt}.{other}") if line.strip()]
        unknown = sum(answer.get("unknown") is True or answer.get("label") in (None, "unknown") for answer in answers)
        shares.append(f"{100 * unknown / max(1, len(answers)):.0f} %")
    print(f"| {name(prompt)} | " + " | ".join(shares) + " |")
PYTHON
