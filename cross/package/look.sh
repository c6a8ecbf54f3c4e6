#!/bin/sh
# In the emulated Debian, once systemd has brought it up: the service on drawn pictures, left alone, stuck, and stopped.
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
journalctl -q --no-pager -u $service | tail -25
echo "looked"
systemctl poweroff --force
