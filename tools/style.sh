#!/bin/sh
# SPDX-License-Identifier: MIT
# The style rules that a grep can check. Prints each offence as file:line: rule; exit 1 if there is any.
set -u
cd "$(dirname "$0")/.." || exit 2
bad=0

files() { # pathspecs of tracked and new files, without data that only looks like text
    git ls-files --cached --others --exclude-standard -- "$@" | grep -v -e '^tests/trees/' -e '^tests/data/' -e '^fuzz/corpus/' |
        while IFS= read -r f; do [ -f "$f" ] && printf '%s\n' "$f"; done
}

offence() { # rule pattern files...
    rule=$1 pattern=$2
    shift 2
    [ $# -gt 0 ] || return
    if grep -nE -e "$pattern" "$@" /dev/null | sed "s|\$|    <- $rule|"; then :; fi | grep . && bad=1
}

c=$(files '*.c' '*.h' '*.comp')
library=$(files 'src/*.c' 'src/*.h' | grep -v '^src/cli/')
text=$(files '*.c' '*.h' '*.comp' '*.py' '*.sh' '*.md' 'meson.build' '**/meson.build' '*.json' 'Makefile')
tab=$(printf '\t')

# shellcheck disable=SC2086,SC2046 # lists of file names without blanks
{
    offence "tab" "$tab" $c $(files '*.py' '*.sh' '*.md' 'meson.build' '**/meson.build')
    offence "blank at the end of the line" '[[:blank:]]$' $text
    offence "line over 130 columns" '^.{131,}' $(printf '%s\n' $c | grep -v '^tests/') # tests quote JSON
    offence "left for others" '\b(TODO|FIXME|XXX)\b' $(printf '%s\n' $text | grep -v '^tools/style.sh$')
    offence "the library never exits" '[^_a-z](exit|abort|_exit)\(' $library
    offence "the library never prints" '[^_a-z](printf|puts|putchar|perror)\(|fprintf\(std(out|err)' $library
    offence "no getenv below the cli" '[^_a-z](getenv|secure_getenv)\(' $library
    # Constants and a lock of the whole process are no state.
    grep -nE '^static [a-z_ 0-9]+[ *][a-z_0-9]+(\[[^]]*\])*( =.*)?;' $(printf '%s\n' $library | grep '\.c$') /dev/null |
        grep -vE 'static (const|.*\*const|pthread_mutex_t) ' | sed 's|$|    <- no mutable globals|' | grep . && bad=1
    offence "no -ffast-math" 'ffast-math' $(files 'meson.build' '**/meson.build' Makefile)
}
for f in $text; do
    [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ] && echo "$f: no newline at the end" && bad=1
done
for f in $c; do
    head -n 1 "$f" | grep -q 'SPDX-License-Identifier: MIT' || { echo "$f:1: no SPDX line"; bad=1; }
done
exit $bad
