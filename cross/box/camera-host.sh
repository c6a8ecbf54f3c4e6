# shellcheck shell=bash disable=SC2154 # run.sh sets what is not set here
# Sourced by run.sh: puts the frames into the box, boots it, and looks at what its test says.

"$tools/zig/bin/python" -c 'import PIL' 2>/dev/null || "$tools/zig/bin/pip" install --quiet --disable-pip-version-check pillow
box_files
drawn "$work/clear" clear 0 1 7
drawn "$work/squeezed" squeezed 6 2 7
drawn "$work/stream" squeezed 0 6 8
# Six of the labels: emulation is slow.
for folder in "$work"/*/t*/; do
    (cd "$folder" && ls | sed -n '7,$p' | xargs rm -rf)
done
ls "$work/clear/test" >"$work/files/box/labels.txt"
python cross/box/frames.py "$work/clear/test" "$work/files/box/frames/clear"
python cross/box/frames.py "$work/squeezed/test" "$work/files/box/frames/squeezed"
python cross/box/frames.py "$work/stream/test" "$work/files/box/frames/stream"
rm "$work"/files/box/frames/stream/*.yuyv
# The same views in the right half of a video, for the camera that speaks RTSP.
for view in "$work"/files/box/frames/clear/*.mjpg; do
    ffmpeg -nostdin -v error -y -loop 1 -f image2 -c:v mjpeg -i "$view" -frames:v 3 -vf "pad=2*iw:ih:iw:0:gray,format=yuv420p" -c:v libx264 \
        -profile:v baseline -bf 0 -g 3 -x264-params slices=1:threads=1 -bsf:v filter_units=remove_types=6 -f h264 "${view%.mjpg}.h264"
done
cp -r "$work/squeezed/train" "$work/files/box/pictures"
python cross/box/shots.py "$work/squeezed/train" "$work/files/box/shots"
pack

log="$out/camera-$name.log"
code=0
boot 3600 "$log"
wait "$emulator" || code=$?
emulator=""
tr -d '\r' <"$log" >"$log.plain" && mv "$log.plain" "$log"
cat "$log"
if [ $code != 0 ] || ! grep -q '^box down' "$log"; then
    echo "error: the box did not come to its end (exit code $code); see $log" >&2
    exit 1
fi
echo "$(grep -c '^ok' "$log") passed, $(grep -c '^FAIL' "$log") failed"
! grep -q '^FAIL' "$log"
