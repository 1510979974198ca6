/* SPDX-License-Identifier: MIT */
/* Matrix products and their activations with AVX2. Contract: matmul.h. */
#include "kernels/lanes_avx2.h"
#include "kernels/matmul_float.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_rows.h"
#include "kernels/matmul_wide.h"
#include "kernels/matmul_codes.h"
#include "kernels/x86_avx2.h"

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
    add_wide(kernels);
    add_codes(kernels);
    add_prepare(kernels);
    kernels->store[MB_TYPE_F16] = store_f16;
}
