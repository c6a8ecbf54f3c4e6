#!/usr/bin/env bash
# Memory of `edge-rlp serve` with cameras that speak RTSP, which GStreamer's server stands for: for each number of cameras the
# most that the process ever had, what it has after a minute, and the pictures a second that each camera had named.
#
#     scripts/serve-rtsp-memory.sh [EDGE_RLP] [CAMERAS...]        # target/release/edge-rlp, and 1 2 4 cameras
#
# SIZE=1920x1080, RATE=5, KEY=5 and SECONDS_LONG=60 may be set; VIEWERS=1 looks at each camera, 640 pixels wide. Needs the
# packages of scripts/rtsp-test.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
program="$(realpath "${1:-target/release/edge-rlp}")"
shift || true
[ $# -gt 0 ] || set -- 1 2 4
python=/usr/bin/python3
work="$(mktemp -d)"
servers=()
others=()
stop() {
    [ ${#others[@]} = 0 ] && return
    kill "${others[@]}" 2>/dev/null || true
    wait "${others[@]}" 2>/dev/null || true
    others=()
}
cleanup() {
    stop
    [ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
port=$((20000 + RANDOM % 20000))

: >"$work/server"
"$python" tests/rtsp/server.py "$port" --size "${SIZE:-1920x1080}" --rate "${RATE:-5}" --key "${KEY:-5}" >"$work/server" 2>&1 &
servers+=($!)
for _ in $(seq 100); do
    grep -q ready "$work/server" && break
    sleep 0.1
done
for count in "$@"; do
    home="$work/home$count"
    mkdir -p "$home/shots/default"
    chmod -R go= "$home"
    printf 'mug\nfish\n' >"$home/shots/default/labels.txt"
    for camera in $(seq "$count"); do
        printf '[[camera]]\nname = "c%s"\nsource = "rtsp://127.0.0.1:%s/stream"\n\n' "$camera" "$port"
    done >"$home/edge-rlp.toml"
    api=$((port + count))
    EDGE_RLP_HOME="$home" "$program" serve --listen "127.0.0.1:$api" >"$work/log" 2>&1 &
    pid=$!
    others+=("$pid")
    sleep 5
    if [ -n "${VIEWERS:-}" ]; then
        for camera in $(seq "$count"); do
            curl -sN "http://127.0.0.1:$api/api/v1/cameras/c$camera/stream.mjpeg?width=640" >/dev/null &
            others+=($!)
        done
    fi
    sleep "${SECONDS_LONG:-60}"
    figure() { sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$pid/status"; }
    fps="$(curl -s "http://127.0.0.1:$api/api/v1/cameras" | grep -o '"fps":[0-9.]*' | cut -d: -f2 | tr '\n' ' ')"
    read -r -a stat <"/proc/$pid/stat"
    faults="${stat[9]}"
    awk -v n="$count" -v faults="$faults" -v hwm="$(figure VmHWM)" -v rss="$(figure VmRSS)" -v user="${stat[13]}" -v kernel="${stat[14]}" -v fps="$fps" \
        -v swap="$(figure VmSwap)" \
        'BEGIN { printf "%d cameras: at most %.1f MB, now %.1f MB (swapped %.1f), %.1f + %.1f s of processor, %d faults, pictures a second %s\n", \
            n, hwm * 1.024e-3, rss * 1.024e-3, swap * 1.024e-3, user / 100, kernel / 100, faults, fps }'
    stop
done
