#!/usr/bin/env bash
# Runs the operators' tests and an import under each set of instructions that this processor can be held down to:
#
#     scripts/isa-test.sh [--whole] [SET...]
#
# All sets that it has unless some are named; with --whole all tests of scripts/test.sh but the doctests instead. Ends with a line a set.
set -euo pipefail
cd "$(dirname "$0")/.."

# set NAME FLAG BEYOND: a set, the flag of /proc/cpuinfo that it needs ("" for none), and what is beyond it.
sets=()
case "$(uname -m)" in
x86_64)
    vnni=-avx512vnni,-amx-int8,-amx-bf16
    zmm=-avx512f,-avx512fp16,$vnni
    sets=("amx amx_tile " "avx512vnni avx512_vnni -amx-int8,-amx-bf16" "avx512 avx512f $vnni" "avxvnni avx_vnni $zmm"
        "avx2 avx2 -avxvnni,$zmm" "sse '' -avx,-avx2,-fma,-f16c,-avxvnni,$zmm")
    ;;
aarch64)
    sets=("sme sme " "sve2 sve2 -sme,-sme2" "dotprod asimddp -sve2,-sme,-sme2"
        "neon '' -fp16,-dotprod,-sve2,-sme,-sme2")
    ;;
esac

whole=
if [ "${1:-}" = --whole ]; then
    whole=1
    shift
fi
wanted=" $* "
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# tests ARGUMENT...: runs them, and says how many passed and failed.
tests() {
    local code=0
    cargo test --release --quiet "$@" >"$log" 2>&1 || code=$?
    awk '/^test result/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$log"
    if [ "$code" != 0 ]; then
        sed -n '/^failures:/,$p' "$log" >&2
    fi
    return "$code"
}

failed=0
tell() {
    local name="$1" what="$2" result
    shift 2
    result="$(tests "$@")" || failed=1
    echo "$name: $what: $result"
}
for set in "${sets[@]}"; do
    read -r name flag beyond <<<"$set"
    if [ "$flag" != "''" ] && ! grep -qw "$flag" /proc/cpuinfo; then
        echo "$name: not on this processor"
        continue
    fi
    [ "$wanted" = "  " ] || [[ "$wanted" == *" $name "* ]] || continue
    # Tests of the library hear tract's own switch; those of the command line hear ours, too.
    export TRACT_CPU_ISA="$beyond" EDGE_RLP_INSTRUCTIONS="$name"
    if [ -n "$whole" ]; then
        tell "$name" "all tests" --no-fail-fast --lib --bins --tests
    else
        tell "$name" "ops::" --lib ops::
        tell "$name" "an import" --test commands an_export_is_imported_told_of_and_used_by_name
    fi
done
exit "$failed"
