# shellcheck shell=bash disable=SC2154 # run.sh sets what is not set here
# Sourced by run.sh: boots the box on one disk image again and again, and each time cuts the power at a random moment. The
# prompt in use must then be the one that was saved last, or the one that was being saved, whole. The emulator is killed, so
# what the box's kernel had not yet written is lost; what it had handed to the disk is not.

CUTS="${CUTS:-25}"
box_files
drawn "$work/pictures" squeezed 4 0 7
mkdir -p "$work/disk" "$work/files/box/pictures"
cp -r "$work"/pictures/train/{mug,key,fish} "$work/files/box/pictures/"
for seed in 1 2 3; do
    "$own" adapt --quiet --home "$work/disk/home" --images "$work/files/box/pictures" --views 1 --steps 3 --force --seed $seed
done
pack
disk="$work/disk.ext4"
mke2fs -q -t ext4 -d "$work/disk" "$disk" 32M

log="$out/power-$name.log"
: >"$log"
inside=0 last=3
for cut in $(seq "$CUTS"); do
    boot 120 "$work/console" "$disk"
    until grep -q '^found\|^FAIL' "$work/console" 2>/dev/null; do
        kill -0 "$emulator" 2>/dev/null || break
        sleep 0.1
    done
    sleep "$((RANDOM % 6)).$((RANDOM % 1000))"
    cut_power
    tr -d '\r' <"$work/console" >"$work/console.plain"
    found="$(sed -n 's/^found \([0-9]*\) .*/\1/p' "$work/console.plain" | head -1)"
    echo "cut $cut: $(grep '^found\|^FAIL' "$work/console.plain" | tr '\n' ' ')(saved before: $last);" \
        "then $(grep -c '^saved' "$work/console.plain") saves, cut after: $(grep '^sav' "$work/console.plain" | tail -1)" | tee -a "$log"
    if grep -q '^FAIL' "$work/console.plain" || [ -z "$found" ] || [ "$found" -lt "$last" ] || [ "$found" -gt $((last + 1)) ]; then
        cp "$disk" "$out/power-$name.ext4"
        cat "$work/console.plain"
        echo "error: the disk holds neither the prompt saved last ($last) nor the next; it is kept in $out" >&2
        exit 1
    fi
    saved="$(sed -n 's/^saved \([0-9]*\)$/\1/p' "$work/console.plain" | tail -1)"
    last="${saved:-$found}"
    [ "$(grep '^sav' "$work/console.plain" | tail -1)" != saving ] || inside=$((inside + 1))
done
echo "$CUTS power cuts, $inside of them in the middle of a save: each time the old prompt or the new one, whole" | tee -a "$log"
