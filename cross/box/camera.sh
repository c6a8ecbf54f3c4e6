# shellcheck shell=dash disable=SC2086 # lists of pictures are split at their spaces
# In the emulated box: edge-rlp with cameras that show what this script says. Cameras 0 and 1 are v4l2loopback devices,
# camera 9 is vivid, whose cable can be drawn.
# shellcheck source=cross/box/lib.sh
. /box/lib.sh
cd /tmp || exit

# show FRAME: what cameras 0 and 1 see from now on.
show() {
    for kind in mjpg yuyv h264; do
        [ ! -e "/box/frames/$1.$kind" ] || { cp "/box/frames/$1.$kind" next && mv next "view.$kind"; }
    done
}
feed_compressed() { feed /dev/video0 MJPG 640 480 15 view.mjpg & feeder=$!; }

# last_is LABEL: whether the newest answer is that.
last_is() { [ "$(tail -1 answers | label)" = "$1" ]; }

clear="$(cd /box/frames && ls clear/*.mjpg | sed 's/\.mjpg$//')"
squeezed="$(cd /box/frames && ls squeezed/*.mjpg | sed 's/\.mjpg$//')"
set -- $clear
show "$1"
feed_compressed
feed /dev/video1 YUYV 640 480 15 view.yuyv &
sleep 1

echo "--- edge-rlp cameras"
edge-rlp cameras
edge-rlp cameras --json >cameras
grep '"index":0,' cameras | grep -q 'MJPEG 640x480@15' && ok "camera 0 has MJPEG" || failed "cameras: $(cat cameras)"
grep '"index":1,' cameras | grep -q 'YUYV 640x480@15' && ok "camera 1 has YUYV" || failed "cameras: $(cat cameras)"

# watch CAMERA WHAT ARGUMENTS...: starts `classify` in the background.
watch() {
    camera=$1
    shift
    edge-rlp classify --camera "$camera" --json "$@" >answers 2>notes &
    classify=$!
}
# name_views FRAME...: shows one after the other, and counts in `right` those that `classify` names as they are called.
name_views() {
    right=0
    for view in "$@"; do
        show "$view"
        # The frames that are under way still show the last view.
        if ! within 180 has_lines answers $(($(wc -l <answers) + 5)); then
            failed "camera $camera sends no frames: $(cat notes)"
            break
        fi
        wanted="$(basename "$view" | sed 's/-[0-9]*$//')"
        answer="$(tail -1 answers | label)"
        [ "$answer" = "$wanted" ] && right=$((right + 1)) || echo "$view on camera $camera: $answer"
    done
}
all_named() { [ "$right" = "$1" ] && ok "$2: $right of $1 views named rightly" || failed "$2: $right of $1 views named rightly"; }

echo "--- edge-rlp classify --camera 0 (MJPEG), 1 (YUYV)"
for camera in 0 1; do
    watch $camera --labels /box/labels.txt
    name_views $clear
    all_named $# "camera $camera"
    [ "$camera" = 0 ] && signal=TERM || signal=INT
    kill "-$signal" "$classify"
    ended $classify 0 "camera $camera, SIG$signal"
    says notes " frames, "
done

echo "--- classify --camera rtsp://..., a region of it, and only where something moves"
set -- $clear
show "$1"
rtsp 8554 4 view.h264 &
streaming=$!
sleep 1
watch rtsp://127.0.0.1:8554/view --labels /box/labels.txt --region right=50,0,50,100 --motion --at-least 10m
within 180 has_lines answers 1 || failed "no picture over RTSP: $(cat notes)"
right=0
for view in "$@"; do
    show "$view"
    wanted="$(basename "$view" | sed 's/-[0-9]*$//')"
    # Only the change itself is named.
    within 60 last_is "$wanted" && right=$((right + 1)) || echo "$view over RTSP: $(tail -1 answers | label)"
done
all_named $# "RTSP, a region, motion"
seen=$(wc -l <answers)
sleep 10
[ "$(wc -l <answers)" = "$seen" ] && ok "nothing is named while nothing moves" || failed "named without motion"
kill -TERM $classify
ended $classify 0 "RTSP, a region, motion"
says notes "not named, for nothing changed in them"
kill $streaming

echo "--- adapting, and classify --camera 0 with the prompt"
set -- $squeezed
watch 0 --labels /box/labels.txt
name_views $squeezed
before=$right
kill -TERM $classify
ended $classify 0 "zero-shot on a condition never seen in training"
edge-rlp adapt --images /box/pictures --views 1 >notes 2>&1
code=$?
[ $code = 0 ] && ok "adapt: exit code 0" || failed "adapt: exit code $code: $(cat notes)"
says notes "kept as prompt"
edge-rlp prompt show default | sed 's/^/    /'
watch 0
name_views $squeezed
kill -TERM $classify
ended $classify 0 "with the prompt"
[ $right -ge $before ] && ok "views named rightly: zero-shot $before, adapted $right of $#" ||
    failed "views named rightly: zero-shot $before, adapted $right of $#"

echo "--- adapt --shots-from: shots that were copied here"
edge-rlp adapt --shots-from /box/shots --prompt copied --views 1 --steps 20 >notes 2>&1
code=$?
[ $code = 0 ] && ok "shots that were copied: exit code 0" || failed "shots that were copied: exit code $code: $(cat notes)"
says notes "kept as prompt \"copied\""

# Judged without labels, it may refuse the new prompt: what was in use must then be in use still.
echo "--- adapt --camera 0 --unlabelled: a stream of views, and nobody there"
edge-rlp prompt show default --json >before
(
    trap 'exit' TERM
    while :; do
        for view in $(cd /box/frames && ls stream/*.mjpg | sed 's/\.mjpg$//'); do show "$view" && sleep 2; done
    done
) &
stream=$!
edge-rlp adapt --camera 0 --labels /box/labels.txt --unlabelled --pool 36 --collect-for 2m --shots 3 --views 2 --rounds 1 --steps 20 \
    >notes 2>&1
code=$?
kill -TERM $stream && wait $stream
edge-rlp prompt show default --json >after
sed 's/^/    /' notes
case $code in
0) cmp -s before after && failed "a prompt was kept, and is not in use" || ok "kept, and in use" ;;
3) cmp -s before after && ok "not kept (exit code 3): the prompt that was in use is in use still" || failed "refused, but in use" ;;
*) failed "adapt --unlabelled: exit code $code" ;;
esac

echo "--- doctor"
edge-rlp doctor >notes 2>&1
code=$?
sed 's/^/    /' notes
[ $code = 0 ] && ok "doctor: exit code 0" || failed "doctor: exit code $code"
says notes "camera .*formats"
says notes "kernels "
says notes "prompt .*default"

set -- $squeezed
echo "--- a broken frame, a camera that hangs and comes back"
watch 0
within 180 has_lines answers 3 || failed "no frames"
head -c 4000 /dev/zero >broken && mv broken view.mjpg
within 30 grep -q "" notes
says notes "warning: "
show "$1"
within 180 has_lines answers $(($(wc -l <answers) + 3)) && ok "frames again after broken ones" || failed "no frames after broken ones"
kill -STOP $feeder
within 20 grep -q "no frame for 5" notes
says notes "no frame for 5"
kill -CONT $feeder
within 180 has_lines answers $(($(wc -l <answers) + 3)) && ok "frames again after a hang" || failed "no frames after a hang"
kill -TERM $classify
ended $classify 0 "after a broken frame and a hang"
sed 's/^/    /' notes

echo "--- the camera stops for good"
watch 0 --camera-timeout 8s
within 180 has_lines answers 3
kill $feeder
ended $classify 1 "a camera whose pictures stop"
sed 's/^/    /' notes
says notes "^error: .*"

# vivid comes back as soon as nobody has it open: a cable that was only loose.
echo "--- the cable is drawn, and plugged in again"
watch 9 --camera-timeout 8s --every-frame
within 180 has_lines answers 3 && ok "vivid sends frames" || failed "vivid sends none: $(cat notes)"
feed unplug /dev/video9
seen=$(wc -l <answers)
within 180 has_lines answers $((seen + 5)) && ok "frames again" || failed "no frames again: $(cat notes)"
says notes "No such device.*trying again"
kill -TERM $classify
ended $classify 0 "after a loose cable"

echo "--- the cable is drawn for good"
watch 9 --camera-timeout 8s --every-frame
within 180 has_lines answers 3 && ok "vivid sends frames" || failed "vivid sends none: $(cat notes)"
mv /dev/video9 /dev/gone
feed unplug /dev/gone
ended $classify 1 "a camera that goes away"
says notes "^error: .*"

echo "--- no such camera"
watch 5 --camera-timeout 2s
ended $classify 1 "a camera that is not there"
says notes "^error: .*"
