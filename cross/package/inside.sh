#!/bin/sh
# In a fresh Debian with the package at /root/edge-rlp.deb: `inside.sh install` installs it and looks at what it brought,
# `inside.sh remove` removes it and looks at what it leaves. Prints `ok WHAT` or `FAIL WHAT` for each thing it looks at.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
state=/var/lib/edge-rlp

check() {
    told="$1"
    shift
    "$@" && echo "ok $told" || echo "FAIL $told"
}
as_account() { setpriv --reuid edge-rlp --regid edge-rlp --init-groups env EDGE_RLP_HOME=$state edge-rlp "$@"; }
in_video() { id -nG edge-rlp | grep -qw video; }

case "$1" in
install)
    check "it installs, for $(dpkg --print-architecture)" dpkg -i /root/edge-rlp.deb
    check "the account is in group video: $(id edge-rlp)" in_video
    check "it runs: $(edge-rlp --version)" edge-rlp model verify
    as_account doctor | sed 's/^/    /'
    check "a prompt made as the account" as_account adapt --camera demo:squeezed --shots 2 --views 1 --steps 10 --force --quiet
    check "others cannot read it" [ "$(stat -c %a $state)" = 700 ]
    check "an upgrade" dpkg -i /root/edge-rlp.deb
    check "the prompt is still there and readable" as_account prompt show default --quiet
    ;;
remove)
    check "removal" dpkg -r edge-rlp
    check "the prompt outlives removal" test -f $state/prompts/default.rlp
    check "purging" dpkg -P edge-rlp
    check "nothing is left" [ ! -e $state ]
    ;;
esac
