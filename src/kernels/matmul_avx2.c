/* SPDX-License-Identifier: MIT */
/* Matrix products and their activations with AVX2. Contract: matmul.h. */
#include "kernels/lanes_avx2.h"
#include "kernels/matmul_float.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_rows.h"
#include "kernels/x86_avx2.h"

#include <math.h>

/* mb_quant_8() of 32 floats. */
static float quant_8(int8_t *to, const float *from)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256 x[4];
    __m256i most = _mm256_setzero_si256(), q[4];
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_loadu_ps(from + 8 * i);
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    float max = mb_f32_of_bits((uint32_t)_mm_cvtsi128_si32(m));
    if (!(max >= 0x1p-100f && max < INFINITY)) {
        memset(to, 0, 32);
        return max < 1 ? 0 : NAN;
    }
    __m256 inverse = _mm256_set1_ps(127 / max);
    for (int i = 0; i < 4; i++)
        q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
    /* Packing works within 128 bits; the permutation restores the order. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, order);
    _mm256_storeu_si256((__m256i *)(void *)to, bytes);
    return max / 127;
}

/* The pairs of both halves of a block from its bytes. */
static void fill_pairs(struct mb_act_block *x)
{
    __m256i q = _mm256_loadu_si256((const __m256i *)(const void *)x->q);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q); /* 8 of each half, even and odd in turn */
    pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0x4e));
    pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0xb1));
    __m128i low = _mm256_castsi256_si128(pairs), high = _mm256_extracti128_si256(pairs, 1);
    _mm_storel_epi64((__m128i *)(void *)x->pairs, _mm_unpacklo_epi32(low, high));
}

#include "kernels/matmul_prepare.h"

static void store_f16(void *to, const float *from, size_t n)
{
    uint16_t *half = to;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(half + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    mb_store_ref(MB_TYPE_F16)(half + i, from + i, n - i);
}

void mb_kernels_add_avx2_matmul(struct mb_kernels *kernels)
{
    add_packed(kernels);
    add_rows(kernels);
    add_float(kernels);
    add_prepare(kernels);
    kernels->store[MB_TYPE_F16] = store_f16;
}
