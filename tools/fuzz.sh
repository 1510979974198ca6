#!/bin/sh
# SPDX-License-Identifier: MIT
# Fuzz every parser with libFuzzer, ASan and UBSan: fuzz.sh [SECONDS] [NAME...]. Finds are left in build-fuzz/NAME/.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-30}
[ $# -gt 0 ] && shift
command -v clang > /dev/null || { echo "fuzz: clang is not installed; sh tools/bootstrap.sh --with-ci" >&2; exit 4; }
[ -f build-fuzz/build.ninja ] ||
    CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false > /dev/null
ninja -C build-fuzz --quiet
status=0
# shellcheck disable=SC2046 # names without blanks
[ $# -gt 0 ] || set -- $(for f in fuzz/fuzz_*.c; do basename "$f" .c | sed 's/^fuzz_//'; done)
for name in "$@"; do
    mkdir -p "build-fuzz/$name/corpus"
    if UBSAN_OPTIONS=halt_on_error=1 "build-fuzz/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="build-fuzz/$name/" "build-fuzz/$name/corpus" "fuzz/corpus/$name" \
        > "build-fuzz/$name/log" 2>&1; then
        echo "fuzz $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "build-fuzz/$name/log") runs, no finding"
    else
        echo "fuzz $name: FINDING, see build-fuzz/$name/"
        tail -n 30 "build-fuzz/$name/log"
        status=1
    fi
done
exit $status
