#!/bin/sh
# In the emulated Debian, once systemd has brought it up: the service of one camera on drawn pictures, left alone, stuck, and
# stopped; then the service of all cameras, its page and its API.
service=edge-rlp-classify@demo
mkdir -p /run/systemd/system/$service.service.d
printf '[Service]\nWatchdogSec=8\nRestartSec=1\n' >/run/systemd/system/$service.service.d/quick.conf
systemctl daemon-reload
shown() { systemctl show -P "$1" $service; }
systemctl start $service && echo "ok started and notified: $(shown ActiveState), $(shown SubState)" || echo "FAIL start"
sleep 20
echo "ok still running after 20 s with a watchdog of 8 s, restarts: $(shown NRestarts)"
[ "$(shown NRestarts)" = 0 ] || echo "FAIL it was started anew without a fault"
echo "ok runs as $(ps -o user= -p "$(shown MainPID)" 2>/dev/null || stat -c %U /proc/"$(shown MainPID)"), memory $(shown MemoryCurrent) bytes"
kill -STOP "$(shown MainPID)"
started_anew() { [ "$(shown NRestarts)" = 1 ] && [ "$(shown ActiveState)" = active ]; }
# Eight seconds of the watchdog, and as long as emulation takes to open the model again.
waited=0
until started_anew || [ $waited = 120 ]; do
    sleep 1
    waited=$((waited + 1))
done
started_anew && echo "ok stuck, so killed and started anew" || echo "FAIL the watchdog: $(shown NRestarts) restarts, $(shown ActiveState)"
systemctl stop $service && echo "ok stopped: $(shown Result)" || echo "FAIL stop"
# A camera on the network that is named by a file: nobody is there, which is told without its password.
front=edge-rlp-classify@front
printf 'CAMERA=http://127.0.0.1:9/stream\nEDGE_RLP_CAMERA_USER=admin\nEDGE_RLP_CAMERA_PASSWORD=s3cr3tword\n' |
    install -m 0640 -g edge-rlp /dev/stdin /etc/edge-rlp/front.conf
systemctl start --no-block $front
waited=0
until journalctl -q --no-pager -u $front | grep -q "cannot reach 127.0.0.1:9" || [ $waited = 120 ]; do
    sleep 1
    waited=$((waited + 1))
done
journalctl -q --no-pager -u $front | grep -q "cannot reach 127.0.0.1:9" && echo "ok a camera named by a file is looked for" ||
    echo "FAIL a camera named by a file: $(journalctl -q --no-pager -u $front | tail -3)"
if { journalctl -q --no-pager -u $front; tr '\0' ' ' </proc/"$(systemctl show -P MainPID $front)"/cmdline; } | grep -q s3cr3tword; then
    echo "FAIL its password is in the journal or the list of processes"
else
    echo "ok its password is in neither the journal nor the list of processes"
fi
systemctl stop $front
# All cameras in one process, with the page: no curl in a small Debian, but bash opens connections.
serve=edge-rlp
state=/var/lib/edge-rlp
served() { systemctl show -P "$1" $serve; }
# ask METHOD PATH [JSON]: the answer of the API, its head and its body.
ask() {
    # shellcheck disable=SC2016 # bash expands it
    timeout 60 bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 || exit 1
        printf "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" \
            "$1" "$2" "${#3}" "$3" >&3; cat <&3' ask "$1" "$2" "${3:-}"
}
# until_says SECONDS TEXT METHOD PATH: whether an answer has the text in time.
until_says() {
    waited=0
    until ask "$3" "$4" 2>/dev/null | grep -q "$2"; do
        [ $waited -lt "$1" ] || return 1
        sleep 1
        waited=$((waited + 1))
    done
}
printf '[[camera]]\nname = "door"\nsource = "demo"\nevery = "2s"\nprompt = "shelf"\n' |
    install -m 0600 -o edge-rlp -g edge-rlp /dev/stdin $state/edge-rlp.toml
mkdir -p /run/systemd/system/$serve.service.d
printf '[Service]\nWatchdogSec=8\nRestartSec=1\n' >/run/systemd/system/$serve.service.d/quick.conf
systemctl daemon-reload
systemctl start $serve && echo "ok serve started and notified: $(served ActiveState), $(served SubState)" || echo "FAIL serve: start"
until_says 120 '"state": *"live"' GET /api/v1/cameras && echo "ok its camera is live" || echo "FAIL serve: $(ask GET /api/v1/cameras)"
ask GET / | grep -q "<!doctype html>" && echo "ok the page is there" || echo "FAIL serve: no page: $(ask GET / | head -3)"
ask PUT /api/v1/prompts/shelf/labels '{"labels": ["mug", "fish"]}' | grep -q "^HTTP/1.1 200" && echo "ok labels are kept" || echo "FAIL serve: labels"
until_says 180 '"label": *"\(mug\|fish\)"' GET /api/v1/cameras/door && echo "ok it names pictures" || echo "FAIL serve: it names nothing"
ask POST /api/v1/prompts/shelf/shots/capture '{"camera": "door", "region": "whole", "label": "mug"}' | grep -q "^HTTP/1.1 201" &&
    echo "ok a shot is kept, $(stat -c '%U %a' $state/shots/shelf/mug/000001.jpg)" || echo "FAIL serve: no shot"
printf '\n[[camera]]\nname = "yard"\nsource = "demo:fog"\nevery = "5s"\n' >>$state/edge-rlp.toml
systemctl reload $serve
until_says 60 '"name": *"yard"' GET /api/v1/cameras && echo "ok a reload brings the second camera" || echo "FAIL serve: reload"
echo 'colour = 1' >>$state/edge-rlp.toml
systemctl reload $serve
sleep 5
journalctl -q --no-pager -u $serve | grep -q "line 11" && [ "$(served ActiveState)" = active ] &&
    echo "ok a file that is wrong is told, and what was in use stays" || echo "FAIL serve: $(journalctl -q --no-pager -u $serve | tail -3)"
[ "$(served NRestarts)" = 0 ] && echo "ok the watchdog of 8 s hears of it, memory $(served MemoryCurrent) bytes" || echo "FAIL serve: $(served NRestarts) restarts"
# kill -9: what was confirmed is there.
sed -i '$d' $state/edge-rlp.toml
kill -KILL "$(served MainPID)"
until_says 120 '"ready": *true' GET /readyz && ask GET /api/v1/prompts/shelf/shots | grep -q '"label": *"mug"' &&
    echo "ok killed and started anew, and the shot is there" || echo "FAIL serve: after a kill: $(ask GET /readyz)"
systemctl stop $serve && echo "ok serve stopped: $(served Result)" || echo "FAIL serve: stop"
journalctl -q --no-pager -u $serve | tail -15
journalctl -q --no-pager -u $service | tail -25
echo "looked"
systemctl poweroff --force
