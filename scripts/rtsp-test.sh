#!/usr/bin/env bash
# Watches cameras that speak RTSP, which GStreamer's server stands for: TCP and UDP, right, wrong and missing logins, loss, a
# stall, a restart of the server, another size in mid-stream, H.265 and motion JPEG.
#
#     scripts/rtsp-test.sh [EDGE_RLP]
#
# Without a program it builds one. Where the server's packages cannot be installed, it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    gstreamer1.0-plugins-ugly)
python=/usr/bin/python3
has_server() {
    "$python" -c 'import gi; gi.require_version("GstRtspServer", "1.0"); from gi.repository import GstRtspServer' 2>/dev/null
}
if ! has_server; then
    if ! scripts/install.sh "${packages[@]}" >/dev/null || ! has_server; then
        echo "SKIPPED: cameras that speak RTSP were not tested: ${packages[*]} cannot be installed here" >&2
        exit 0
    fi
fi
program="${1:-}"
if [ -z "$program" ]; then
    cargo build --quiet --release --features rtsp --bin edge-rlp
    program=target/release/edge-rlp
fi
program="$(realpath "$program")"

work="$(mktemp -d)"
server=""
stop_server() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    server=""
}
trap 'stop_server; rm -rf "$work"' EXIT
printf 'mug\nfish\n' >"$work/labels.txt"
export EDGE_RLP_HOME="$work/home"
port=$((20000 + RANDOM % 20000))
failures=0

# serve ARGUMENTS...: a camera at rtsp://127.0.0.1:$port/stream.
serve() {
    stop_server
    "$python" tests/rtsp/server.py "$port" "$@" >"$work/server" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        grep -q ready "$work/server" && return
        sleep 0.1
    done
    echo "the server does not come up: $(cat "$work/server")" >&2
    exit 1
}
# watch LOGIN ARGUMENTS...: what `classify` says of it, in $said, and its exit code in $code. $pace is how often it looks.
pace=--every-frame
watch() {
    local login="$1"
    shift
    code=0
    # shellcheck disable=SC2086 # pace is an option and its value
    said="$(timeout 120 "$program" classify --labels "$work/labels.txt" --camera "rtsp://${login}127.0.0.1:$port/stream" \
        $pace "$@" 2>&1)" || code=$?
}
# expect WHAT CODE PATTERN
expect() {
    if [ "$code" = "$2" ] && grep -qE "$3" <<<"$said" && ! grep -q s3cret <<<"$said"; then
        echo "ok   $1"
    else
        echo "FAIL $1: exit code $code"
        tail -20 <<<"$said" | sed 's/^/     /'
        failures=$((failures + 1))
    fi
}

serve
watch "" --frames 20
expect "over TCP" 0 "20 frames"
watch "" --frames 20 --rtsp-transport udp
expect "over UDP" 0 "20 frames"
pace="--every 2s"
watch "" --frames 4
pace=--every-frame
expect "key frames alone" 0 "4 frames"
code=0
said="$("$program" cameras "rtsp://127.0.0.1:$port/stream" 2>&1)" || code=$?
expect "what it sends" 0 "video H264 320x240@1[45]"
serve --user admin --password s3cret
watch "admin:s3cret@" --frames 5
expect "a digest login" 0 "5 frames"
watch "admin:wrong@" --frames 5 --camera-timeout 3s
expect "a wrong login" 1 "refuses the name and the password"
watch "" --frames 5 --camera-timeout 3s
expect "a missing login" 1 "none was given"
serve --loss 0.02
watch "" --frames 20 --rtsp-transport udp
expect "2 % of the packets lost" 0 "20 frames"
serve --resize-after 3 640x480
watch "" --frames 75
expect "another size in mid-stream" 0 "75 frames"
serve --stall-after 3
watch "" --frames 60 --camera-timeout 12s
expect "a stall: asked anew, and pictures again" 0 "gone quiet; trying again"
serve
(
    sleep 4
    kill "$server"
) &
watch "" --frames 2000 --camera-timeout 6s
expect "a server that goes away" 1 "no picture came for 6 s"
server=""
serve
(
    sleep 3
    kill "$server"
    sleep 3
    exec "$python" tests/rtsp/server.py "$port"
) >/dev/null 2>&1 &
restarted=$!
watch "" --frames 90
expect "a restart of the server" 0 "trying again"
kill "$restarted" 2>/dev/null || true
server=""
port=$((port + 1))
serve --codec jpeg
watch "" --frames 10
expect "motion JPEG" 0 "10 frames"
if command -v ffmpeg >/dev/null; then
    serve --codec h265
    watch "" --frames 10
    expect "H.265, through ffmpeg" 0 "10 frames"
fi
[ "$failures" = 0 ]
