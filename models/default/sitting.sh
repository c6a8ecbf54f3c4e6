#!/usr/bin/env bash
# One sitting on a GPU, from the folder that `ship.py --unpack` filled to the trained towers:
#
#     sitting.sh DATA OUT SECONDS [OPTIONS OF train_gpu.py]
#
# DEVICE=cpu rehearses it without a GPU. TEXT and JOIN are the minutes of the text tower, which learns beside the image tower, and of joining both
# (nothing was gained by that: not done unless asked for).
set -euo pipefail
here="$(dirname "$0")"
data="$1" out="$2" seconds="$3" device="${DEVICE:-cuda}" join="${JOIN:-}"
shift 3
mkdir -p "$out"
python3 "$here/train_gpu.py" --kernels --data "$data" --out "$out" --seconds 0 "$@" &
[ -f "$data/drawn/attributes.npy" ] || python3 "$here/draw.py" --stream "$data/scene_stream" --out "$data/drawn" --count "${DRAWN:-100000}" --threads "$(nproc)"
if [ ! -f "$data/text.pt" ]; then
    python3 "$here/train_text.py" --work "$data" --out "$data/text.pt" --minutes "${TEXT:-3}" --batch 1024 --threads 2 --device "$device" >"$out/text.log" &
fi
python3 "$here/train_gpu.py" --data "$data" --out "$out" --seconds "$seconds" ${join:+--cache} "$@"
wait
if [ -n "$join" ]; then
    python3 "$here/join.py" --image "$out/image.pt" --text "$data/text.pt" --cache "$out/cache" --work "$data" --pack "$data" --drawn "$data/drawn" \
        --out "$out/clip.pt" --minutes "$join" --batch 768 --threads 4 --device "$device" ${WITHOUT:+--without "$WITHOUT"} >"$out/join.log"
fi
tail -n 2 "$out"/*.log 2>/dev/null || true
