#!/bin/sh
# The first process of the emulated Debian without systemd: configures what debootstrap unpacked, then runs inside.sh.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/debootstrap/debootstrap --second-stage >/root/second-stage && echo "ok Debian is there" ||
    { echo "FAIL debootstrap" && tail -20 /root/second-stage; }
sh /root/inside.sh install
sh /root/inside.sh remove
echo "looked"
sync
echo o >/proc/sysrq-trigger
sleep 60
