#!/bin/sh
# SPDX-License-Identifier: MIT
# clang-tidy on the C files that differ from a base revision: tidy.sh BUILD [BASE]. All files when BASE is unknown.
set -eu
cd "$(dirname "$0")/.."
build=$1 base=${2:-main}
command -v clang-tidy > /dev/null || { echo "tidy: clang-tidy is not installed; sh tools/bootstrap.sh --with-ci" >&2; exit 4; }
if git rev-parse -q --verify "$base^{commit}" > /dev/null && [ "$(git rev-parse "$base")" != "$(git rev-parse HEAD)" ]; then
    changed=$(git diff --name-only --diff-filter=d "$base" -- 'src/*.c')
else
    changed=$(git ls-files -- 'src/*.c')
fi
# Only files that this build compiles: others are for another system.
list=
for f in $changed; do grep -q "\"[^\"]*$f\"" "$build/compile_commands.json" && list="$list $f"; done
[ -n "$list" ] || exit 0
# shellcheck disable=SC2086 # a list of file names
printf '%s\n' $list | xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 4 clang-tidy -p "$build" --quiet --warnings-as-errors='*'
