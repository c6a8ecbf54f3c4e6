# shellcheck shell=dash
# In the emulated box: tells what the disk holds after the last power cut, then saves prompts until the next one.
# shellcheck source=cross/box/lib.sh
. /box/lib.sh
mount -t ext4 /dev/vda /data || failed "the disk cannot be mounted"
export EDGE_RLP_HOME=/data/home

number() { sed 's/.*"sequence":\([0-9]*\).*/\1/'; }
edge-rlp prompt show default --json >prompt 2>notes || failed "the prompt in use: $(cat notes)"
grep -q '"warning":null' prompt || failed "the prompt in use is not whole: $(cat prompt notes)"
edge-rlp prompt history default --json >history 2>notes || failed "the history: $(cat notes)"
grep -q '"error"' history && failed "the history has a damaged generation: $(cat history)"
echo "found $(number <prompt) of $(wc -l <history) generations, $(ls -A /data/home/prompts | wc -l) files in prompts/"

while :; do
    for _ in $(seq 12); do
        oldest="$(edge-rlp prompt history default --json | number | sort -n | head -1)"
        echo saving
        edge-rlp prompt rollback default --to "$oldest" --json >prompt 2>notes || failed "rollback: $(cat notes)"
        echo "saved $(number <prompt)"
    done
    echo saving
    edge-rlp adapt --images /box/pictures --views 1 --steps 3 --force --json >prompt 2>notes || failed "adapt: $(cat notes)"
    echo "saved $(edge-rlp prompt show default --json | number)"
done
