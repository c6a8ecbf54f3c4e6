#!/usr/bin/env bash
# One sitting on a GPU, from the folder that `ship.py --unpack` filled to the joined model:
#
#     sitting.sh DATA OUT SECONDS [OPTIONS OF train_gpu.py]
#
# DEVICE=cpu rehearses it without a GPU. TEXT and JOIN are the minutes of the text tower, which learns beside the image tower, and of joining both.
set -euo pipefail
here="$(dirname "$0")"
data="$1" out="$2" seconds="$3" device="${DEVICE:-cuda}"
shift 3
mkdir -p "$out"
[ -f "$data/drawn/attributes.npy" ] || python3 "$here/draw.py" --stream "$data/scene_stream" --out "$data/drawn" --count "${DRAWN:-100000}" --threads "$(nproc)"
if [ ! -f "$data/text.pt" ]; then
    python3 "$here/train_text.py" --work "$data" --out "$data/text.pt" --minutes "${TEXT:-3}" --batch 1024 --threads 2 --device "$device" >"$out/text.log" &
fi
python3 "$here/train_gpu.py" --data "$data" --out "$out" --seconds "$seconds" "$@"
wait
python3 "$here/join.py" --image "$out/image.pt" --text "$data/text.pt" --cache "$out/cache" --work "$data" --pack "$data" --drawn "$data/drawn" \
    --out "$out/clip.pt" --minutes "${JOIN:-0.7}" --batch 768 --threads 4 --device "$device" ${WITHOUT:+--without "$WITHOUT"} >"$out/join.log"
tail -n 2 "$out/text.log" "$out/join.log" || true
