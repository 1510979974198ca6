#!/bin/sh
# SPDX-License-Identifier: MIT
# Build the kernels and their suite for AArch64 and run them under qemu: `make check-aarch64`. Needs a cross compiler
# (gcc-aarch64-linux-gnu) and qemu-aarch64 (qemu-user), but no libraries for AArch64: a header stands in for the few calls of
# cmocka that the suite makes.
set -eu
cd "$(dirname "$0")/../.."
cc=${AARCH64_CC:-aarch64-linux-gnu-gcc}
qemu=${AARCH64_QEMU:-qemu-aarch64}
out=${1:-build}/aarch64
mkdir -p "$out/include"
cat > "$out/include/cmocka.h" <<'HEADER'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct CMUnitTest { const char *name; void (*run)(void **); };
#define cmocka_unit_test(f) {#f, f}
#define must(x) ((x) ? (void)0 : (printf("%s:%d: %s\n", __FILE__, __LINE__, #x), exit(1)))
#define assert_true(x) must(x)
#define assert_non_null(x) must((x) != NULL)
#define assert_int_equal(a, b) must((long long)(a) == (long long)(b))
#define assert_ptr_equal(a, b) must((void *)(a) == (void *)(b))
#define assert_string_equal(a, b) must(strcmp(a, b) == 0)
#define print_message printf
#define cmocka_run_group_tests(t, a, b) run_all(t, sizeof(t) / sizeof *(t))
static int run_all(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        tests[i].run(NULL);
        printf("ok %s\n", tests[i].name);
    }
    return 0;
}
HEADER
echo 'typedef struct json_t json_t;' > "$out/include/jansson.h"
flags="-std=c11 -Wall -Wextra -Wvla -fno-math-errno -D_GNU_SOURCE -Iinclude -Isrc -I$out/include"
isa="-O3 -fno-tree-reassoc -fno-tree-ter -fno-schedule-insns" # as src/kernels/meson.build says
objects=
for file in src/kernels/cpu_flags.c src/kernels/kernels.c src/kernels/pack.c src/kernels/quant_grid.c src/kernels/*_ref.c \
    src/kernels/*_neon.c src/kernels/*_neon_dotprod.c src/model/type.c; do
    case $file in
    *_neon.c) options=$isa ;;
    *_neon_dotprod.c) options="$isa -march=armv8.2-a+dotprod" ;;
    *) options=-O2 ;;
    esac
    object=$out/$(basename "$file" .c).o
    "$cc" $flags $options -c -o "$object" "$file"
    objects="$objects $object"
done
# A CPU with dot products of bytes, and one without.
for suite in kernels quants matmul ops; do
    "$cc" $flags -O2 -static -o "$out/test-$suite" "tests/unit/$suite.c" $objects -lm
    for cpu in max cortex-a72; do
        echo "$suite on $cpu"
        "$qemu" -cpu $cpu "$out/test-$suite"
    done
done
