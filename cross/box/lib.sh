# shellcheck shell=dash
# Sourced by the tests inside the emulated box. A test prints `ok WHAT` or `FAIL WHAT` for each thing it looks at.
ok() { echo "ok $*"; }
failed() { echo "FAIL $*"; }
seconds() { cut -d. -f1 /proc/uptime; }

# within SECONDS COMMAND...: whether the command comes true in time.
within() {
    end=$(($(seconds) + $1))
    shift
    until "$@"; do
        [ "$(seconds)" -lt $end ] || return 1
        sleep 0.2
    done
}
has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }
has_ended() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# ended PROCESS CODE WHAT: the process ends by itself within a minute, with that exit code.
ended() {
    if ! within 60 has_ended "$1"; then
        failed "$3: still running after a minute"
        kill -9 "$1"
        return
    fi
    wait "$1"
    code=$?
    [ $code = "$2" ] && ok "$3: exit code $code" || failed "$3: exit code $code, not $2"
}
# says FILE TEXT: the file has a line with the text.
says() {
    line="$(grep -- "$2" "$1" | tail -1)"
    [ -n "$line" ] && ok "it says: $line" || failed "no \"$2\" in: $(cat "$1")"
}
# The label of an answer of `classify --json`.
label() { sed 's/^[^[]*"label":"\([^"]*\)".*/\1/'; }
