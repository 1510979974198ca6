/* SPDX-License-Identifier: MIT */
/* Suite for src/kernels: every level that this CPU can run, against the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "kernel_levels.h"

static void fill(uint64_t *words, size_t n)
{
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        words[i] = x;
    }
}

static void reads_sum_every_word_once(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 512, 1024, 4096, 4608, 262144, 1048576};
    const size_t largest = 1048576;
    /* Nothing around the block may count. */
    uint64_t *words = aligned_alloc(MB_READ_ALIGN, largest + 2 * MB_READ_ALIGN);
    assert_non_null(words);
    uint64_t *block = words + MB_READ_ALIGN / 8;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        struct mb_kernels kernels;
        if (!has_level(l, &kernels))
            continue;
        print_message("%s: read_sum is %s\n", mb_cpu_simd(levels[l]), kernels.read_name);
        for (unsigned s = 0; s < MB_COUNT(sizes); s++) {
            memset(words, 0xa5, largest + 2 * MB_READ_ALIGN);
            fill(block, sizes[s] / 8);
            uint64_t want = 0;
            for (size_t i = 0; i < sizes[s] / 8; i++)
                want += block[i];
            assert_true(mb_read_sum_ref(block, sizes[s]) == want);
            assert_true(kernels.read_sum(block, sizes[s]) == want);
            /* Each word counts: change one, here and there, and the sum must follow. */
            for (size_t i = 0; i < sizes[s] / 8; i += sizes[s] > 4608 ? 997 : 1) {
                block[i] += 12345;
                assert_true(kernels.read_sum(block, sizes[s]) == want + 12345);
                block[i] -= 12345;
            }
        }
    }
    free(words);
}

static void levels_have_names(void **state)
{
    (void)state;
    assert_string_equal(mb_cpu_simd(0), "scalar");
    assert_string_equal(mb_cpu_simd(MB_CPU_AVX2), "avx2");
    assert_string_equal(mb_cpu_simd(MB_CPU_AVX2 | MB_CPU_AVX512), "avx512");
    assert_string_equal(mb_cpu_simd(MB_CPU_AVX2 | MB_CPU_AVX512 | MB_CPU_AVX512_VNNI), "avx512-vnni");
    assert_string_equal(mb_cpu_simd(MB_CPU_NEON), "neon");
    assert_string_equal(mb_cpu_simd(MB_CPU_NEON | MB_CPU_NEON_DOTPROD), "neon-dotprod");
    struct mb_kernels kernels;
    mb_kernels_init(&kernels, 0);
    assert_string_equal(kernels.read_name, "scalar");
    assert_ptr_equal(kernels.read_sum, mb_read_sum_ref);
#if defined(__x86_64__)
    mb_kernels_init(&kernels, MB_CPU_AVX2);
    assert_string_equal(kernels.read_name, "avx2");
    mb_kernels_init(&kernels, MB_CPU_AVX2 | MB_CPU_AVX512);
    assert_string_equal(kernels.read_name, "avx512");
#endif
#if defined(__aarch64__)
    assert_true(mb_cpu_flags() & MB_CPU_NEON);
    mb_kernels_init(&kernels, MB_CPU_NEON);
    assert_string_equal(kernels.read_name, "neon");
#endif
}

/* A chip's vectors are of no use under an OS that does not save their registers. */
static void flags_need_chip_and_os(void **state)
{
    (void)state;
    const struct mb_x86_facts zen4 = {
        .leaf1_ecx = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29,
        .leaf7_ebx = 1u << 5 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31,
        .leaf7_ecx = 1u << 11,
        .xcr0 = 0xe7,
    };
    const unsigned all = MB_CPU_AVX2 | MB_CPU_AVX512 | MB_CPU_AVX512_VNNI;
    assert_int_equal(mb_cpu_flags_x86(&zen4), all);
    static const struct {
        uint64_t xcr0;
        unsigned flags;
    } rows[] = {{0, 0}, {1, 0}, {3, 0}, {5, 0}, {7, MB_CPU_AVX2}, {0x27, MB_CPU_AVX2}, {0x67, MB_CPU_AVX2},
                {0xe1, 0}, {0xe7, all}};
    for (unsigned i = 0; i < MB_COUNT(rows); i++) {
        struct mb_x86_facts facts = zen4;
        facts.xcr0 = rows[i].xcr0;
        assert_int_equal(mb_cpu_flags_x86(&facts), rows[i].flags);
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        struct mb_x86_facts facts = zen4;
        facts.leaf1_ecx &= ~(1u << bit);
        assert_int_equal(mb_cpu_flags_x86(&facts), facts.leaf1_ecx == zen4.leaf1_ecx ? all : 0);
        facts = zen4;
        facts.leaf7_ebx &= ~(1u << bit);
        assert_int_equal(mb_cpu_flags_x86(&facts),
                         facts.leaf7_ebx == zen4.leaf7_ebx ? all : bit == 5 ? 0 : MB_CPU_AVX2);
    }
    struct mb_x86_facts facts = zen4;
    facts.leaf7_ecx = 0;
    assert_int_equal(mb_cpu_flags_x86(&facts), MB_CPU_AVX2 | MB_CPU_AVX512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_sum_every_word_once),
        cmocka_unit_test(levels_have_names),
        cmocka_unit_test(flags_need_chip_and_os),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
