/* SPDX-License-Identifier: MIT */
/* 32 floats to integers with one scale, AVX2: activations, and the weights of panels of 16-bit integers. */
#ifndef MB_QUANT_AVX2_H
#define MB_QUANT_AVX2_H

#include "kernels/inline.h"
#include "kernels/quant.h"

#include <immintrin.h>
#include <math.h>

/* Load 32 floats; returns their largest magnitude, a NaN being larger than all. */
INLINE float load_32_floats(__m256 x[4], const float *from)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_loadu_ps(from + 8 * i);
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return mb_f32_of_bits((uint32_t)_mm_cvtsi128_si32(m));
}

/* Times `inverse`, rounded to nearest even, as 16 bits: columns 0..3, 8..11, 4..7, 12..15, and the same from 16 on. */
INLINE void round_32(__m256i words[2], const __m256 x[4], float inverse)
{
    const __m256 v = _mm256_set1_ps(inverse);
    for (int i = 0; i < 2; i++)
        words[i] = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x[2 * i], v)),
                                      _mm256_cvtps_epi32(_mm256_mul_ps(x[2 * i + 1], v)));
}

/* mb_quant_8() */
INLINE float quant_8(int8_t *to, const float *from)
{
    __m256 x[4];
    __m256i words[2];
    const float max = load_32_floats(x, from);
    if (!(max >= 0x1p-100f && max < INFINITY)) {
        memset(to, 0, 32);
        return max < 1 ? 0 : NAN;
    }
    round_32(words, x, 127 / max);
    /* Packing works within 128 bits; the permutation restores the order. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words[0], words[1]), order);
    _mm256_storeu_si256((__m256i *)(void *)to, bytes);
    return max / 127;
}

/* mb_quant_16() */
INLINE float quant_16(int16_t *to, const float *from)
{
    __m256 x[4];
    __m256i words[2];
    const float max = load_32_floats(x, from);
    if (!(max >= 0x1p-100f && max < INFINITY)) {
        memset(to, 0, 32 * sizeof *to);
        return max < 1 ? 0 : NAN;
    }
    round_32(words, x, MB_QUANT_16_MAX / max);
    for (int i = 0; i < 2; i++)
        _mm256_storeu_si256((__m256i *)(void *)(to + 16 * i), _mm256_permute4x64_epi64(words[i], 0xd8));
    return max / MB_QUANT_16_MAX;
}

#endif
