/* SPDX-License-Identifier: MIT */
/* Suite for reading and writing rows: against another reader of the formats, and every level against the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "kernel_levels.h"

#define N_BLOCKS 64

/* Printed by tests/gguf/quant_hashes.py (gguf 0.19.0). */
static const struct {
    uint32_t type;
    uint64_t hash;
} golden[] = {
    {MB_TYPE_F32, 0x8b48453ad3a7bf6du},
    {MB_TYPE_F16, 0x8f238e42d81c0a1bu},
    {MB_TYPE_Q4_0, 0x3682a95c6b544c40u},
    {MB_TYPE_Q4_1, 0xa707242c01749385u},
    {MB_TYPE_Q5_0, 0x1079ee17398b6753u},
    {MB_TYPE_Q5_1, 0x46c8e8806782e12au},
    {MB_TYPE_Q8_0, 0x344391d987960f38u},
    {MB_TYPE_Q2_K, 0xae1fb01dc416f543u},
    {MB_TYPE_Q3_K, 0xa22a70d0c695bea7u},
    {MB_TYPE_Q4_K, 0x4d2a1a0e88e09d2eu},
    {MB_TYPE_Q5_K, 0x6e983751a37525aau},
    {MB_TYPE_Q6_K, 0x8d4e48aecccd329du},
    {MB_TYPE_IQ2_XXS, 0xb19f39f5a03bd98fu},
    {MB_TYPE_IQ2_XS, 0x4cdea285622bb659u},
    {MB_TYPE_IQ3_XXS, 0x240cb70855f5d799u},
    {MB_TYPE_IQ1_S, 0xa2d7e617ba77f4bbu},
    {MB_TYPE_IQ4_NL, 0x26f1c13d75bfba7eu},
    {MB_TYPE_IQ3_S, 0x72f638f552a4a2bbu},
    {MB_TYPE_IQ2_S, 0xbc84c2d2429a639eu},
    {MB_TYPE_IQ4_XS, 0x0fa82b82b457b764u},
    {MB_TYPE_IQ1_M, 0x10b7055b98ccec7cu},
    {MB_TYPE_BF16, 0xb140f48407396177u},
    {MB_TYPE_TQ1_0, 0xcc7d8d487f64035eu},
    {MB_TYPE_TQ2_0, 0x4a403b458fda8fe9u},
    {MB_TYPE_MXFP4, 0x72cf933047c29730u},
    {MB_TYPE_NVFP4, 0x7c8fdfbd94b81b16u},
};

static uint64_t fnv(const void *data, size_t n)
{
    const uint8_t *byte = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ byte[i]) * 0x100000001b3u;
    return h;
}

/* NaNs all the same, and zeros too if asked for. */
static void canonical(float *x, size_t n, int zeros)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i]))
            x[i] = mb_f32_of_bits(0x7fc00000);
        else if (zeros && x[i] == 0)
            x[i] = 0;
}

static void rows_mean_what_gguf_says(void **state)
{
    (void)state;
    static uint8_t data[N_BLOCKS * 512];
    static float values[N_BLOCKS * 256];
    uint64_t x = SEED;
    fill_random(data, sizeof data, &x);
    for (unsigned i = 0; i < MB_COUNT(golden); i++) {
        size_t n = N_BLOCKS * mb_type_info(golden[i].type)->block_elements;
        mb_dequant_ref(golden[i].type)(values, data, n);
        canonical(values, n, 0);
        if (fnv(values, n * sizeof *values) != golden[i].hash) {
            print_message("%s differs\n", mb_type_name(golden[i].type));
            assert_true(0);
        }
    }
}

/* The package does not read these two. */
static void small_types(void **state)
{
    (void)state;
    struct mb_block_q1_0 one = {.d = mb_f16_of_f32(0.5f), .qs = {0x05, 0x80}};
    struct mb_block_q2_0 two = {.d = mb_f16_of_f32(0.5f), .qs = {0xe4}};
    float values[128];
    mb_dequant_ref(MB_TYPE_Q1_0)(values, &one, 128);
    for (int i = 0; i < 128; i++)
        assert_true(values[i] == (i == 0 || i == 2 || i == 15 ? 0.5f : -0.5f));
    mb_dequant_ref(MB_TYPE_Q2_0)(values, &two, 64);
    static const float want[4] = {-0.5f, 0, 0.5f, 1};
    for (int i = 0; i < 64; i++)
        assert_true(values[i] == (i < 4 ? want[i] : -0.5f));
}

/* f16: all numbers there and back, and halves rounded to even. */
static void halves_round_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = mb_f32_of_f16((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(mb_f32_of_f16(mb_f16_of_f32(f))));
            continue;
        }
        assert_int_equal(mb_f16_of_f32(f), h);
        if ((h & 0x7fff) >= 0x7bff)
            continue;
        float above = mb_f32_of_f16((uint16_t)(h + 1)), middle = (f + above) / 2;
        assert_int_equal(mb_f16_of_f32(middle), h % 2 ? h + 1 : h);
        assert_int_equal(mb_f16_of_f32(nextafterf(middle, above)), h + 1);
        assert_int_equal(mb_f16_of_f32(nextafterf(middle, f)), h);
    }
    assert_int_equal(mb_f16_of_f32(65519.996f), 0x7bff);
    assert_int_equal(mb_f16_of_f32(65520), 0x7c00);
    assert_int_equal(mb_f16_of_f32(-1e30f), 0xfc00);
    assert_int_equal(mb_bf16_of_f32(1.00390625f), 0x3f80);
    assert_int_equal(mb_bf16_of_f32(1.01171875f), 0x3f82);
    assert_true(isnan(mb_f32_of_bf16(mb_bf16_of_f32(mb_f32_of_bits(0x7f800001)))));
}

static void levels_read_alike(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 3, 7, 8, 33, 1023};
    struct mb_kernels kernels;
    uint64_t x = SEED;
    for (uint32_t type = 0; type < MB_TYPE_END; type++) {
        if (!mb_quant_reads(type))
            continue;
        const struct mb_type_info *info = mb_type_info(type);
        for (unsigned c = 0; c < MB_COUNT(counts); c++) {
            size_t n = counts[c] * info->block_elements;
            struct guarded rows = guarded_new(counts[c] * info->block_bytes, info->block_elements == 1 ? info->block_bytes : 2);
            float *want = malloc((n + 1) * sizeof *want), *got = malloc((n + 1) * sizeof *got);
            fill_random(rows.bytes, counts[c] * info->block_bytes, &x);
            mb_dequant_ref(type)(want, rows.bytes, n);
            canonical(want, n, 1);
            for (unsigned l = 0; l < MB_COUNT(levels); l++) {
                if (!has_level(l, &kernels))
                    continue;
                got[n] = 12345;
                kernels.dequant[type](got, rows.bytes, n);
                canonical(got, n, 1);
                if (memcmp(want, got, n * sizeof *got) || got[n] != 12345) {
                    print_message("%s at level %s\n", mb_type_name(type), mb_cpu_simd(levels[l]));
                    assert_true(0);
                }
            }
            free(want);
            free(got);
            guarded_free(&rows);
        }
    }
}

static void levels_write_alike(void **state)
{
    (void)state;
    static const uint32_t types[] = {MB_TYPE_F32, MB_TYPE_F16, MB_TYPE_BF16, MB_TYPE_Q8_0};
    static const size_t counts[] = {32, 64, 96, 1024, 1, 31, 1023};
    static const float magnitudes[] = {1, 1e-3f, 1e4f, 1e-6f, 1e-39f, 0, 1e38f};
    struct mb_kernels kernels;
    uint64_t x = SEED;
    for (unsigned i = 0; i < MB_COUNT(types); i++)
        for (unsigned c = 0; c < MB_COUNT(counts); c++)
            for (unsigned m = 0; m < MB_COUNT(magnitudes); m++) {
                const struct mb_type_info *info = mb_type_info(types[i]);
                size_t n = counts[c], bytes = n / info->block_elements * info->block_bytes;
                if (n % info->block_elements)
                    continue;
                struct guarded from = guarded_new(n * sizeof(float), sizeof(float));
                float *values = (float *)(void *)from.bytes;
                fill_floats(values, n, &x);
                for (size_t k = 0; k < n; k++)
                    values[k] *= magnitudes[m];
                if (n > 64) {
                    values[1] = NAN;
                    values[40] = -INFINITY;
                }
                unsigned char *want = malloc(bytes + 1), *got = malloc(bytes + 1);
                mb_store_ref(types[i])(want, values, n);
                for (unsigned l = 0; l < MB_COUNT(levels); l++) {
                    if (!has_level(l, &kernels))
                        continue;
                    got[bytes] = 0x5a;
                    kernels.store[types[i]](got, values, n);
                    /* Payloads of NaNs may differ. */
                    float a[1024], b[1024];
                    mb_dequant_ref(types[i])(a, want, n);
                    mb_dequant_ref(types[i])(b, got, n);
                    canonical(a, n, 0);
                    canonical(b, n, 0);
                    if (memcmp(a, b, n * sizeof *a) || got[bytes] != 0x5a) {
                        print_message("%s, %zu of %g, at level %s\n", info->name, n, (double)magnitudes[m],
                                      mb_cpu_simd(levels[l]));
                        assert_true(0);
                    }
                }
                free(want);
                free(got);
                guarded_free(&from);
            }
}

/* What is stored in Q8_0 comes back within half a step, and bad numbers do not pass for good ones. */
static void eight_bits_keep_the_value(void **state)
{
    (void)state;
    uint64_t x = SEED;
    float values[32], back[32];
    struct mb_block_q8_0 block;
    fill_floats(values, 32, &x);
    float max = 0;
    for (int i = 0; i < 32; i++)
        max = fmaxf(max, fabsf(values[i]));
    mb_store_ref(MB_TYPE_Q8_0)(&block, values, 32);
    mb_dequant_ref(MB_TYPE_Q8_0)(back, &block, 32);
    for (int i = 0; i < 32; i++)
        assert_true(fabsf(values[i] - back[i]) <= max / 127 * 0.5f + max * 0x1p-10f);
    int8_t q[32];
    values[5] = INFINITY;
    assert_true(isnan(mb_quant_8(q, values)) && q[0] == 0);
    values[5] = NAN;
    assert_true(isnan(mb_quant_8(q, values)));
    for (int i = 0; i < 32; i++)
        values[i] = 1e-38f;
    assert_true(mb_quant_8(q, values) == 0 && q[3] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_mean_what_gguf_says), cmocka_unit_test(small_types),
        cmocka_unit_test(halves_round_to_even),     cmocka_unit_test(levels_read_alike),
        cmocka_unit_test(levels_write_alike),       cmocka_unit_test(eight_bits_keep_the_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
