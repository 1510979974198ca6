/* SPDX-License-Identifier: MIT */
/* Interleaving 4-byte units of 16 rows, eight of them in eight rows at a time: what mb_pack() does, for weights in file order
 * and for panels of floats. AVX2; for the lanes_<set>.h that have 16 rows. */
#ifndef MB_INTERLEAVE_AVX2_H
#define MB_INTERLEAVE_AVX2_H

#include "kernels/inline.h"

#include <immintrin.h>
#include <stddef.h>

INLINE void transpose(__m256i *v)
{
    __m256i a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; k++) {
            b[i + 2 * k] = _mm256_unpacklo_epi64(a[i + k], a[i + k + 2]);
            b[i + 2 * k + 1] = _mm256_unpackhi_epi64(a[i + k], a[i + k + 2]);
        }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* Four of the 4-byte units of 16 rows, `offset` bytes into them; their vectors are `step` apart. */
INLINE void interleave_four(char *to, size_t step, const char *const *from, size_t offset)
{
    __m256i v[8];
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 8; i++)
            v[i] = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(from[8 * half + i] + offset)));
        transpose(v);
        for (size_t i = 0; i < 4; i++)
            _mm256_storeu_si256((__m256i *)(void *)(to + 64 * step * i + 32 * half), v[i]);
    }
}

/* Interleave n 4-byte units of 16 rows, `offset` bytes into them, their vectors `step` apart. Returns how many it did: all, or
 * none if there are less than four. */
INLINE size_t interleave_words(char *to, size_t step, const char *const *from, size_t offset, size_t n)
{
    size_t done = 0;
    __m256i v[8];
    if (n < 4)
        return 0;
    for (; done + 8 <= n; done += 8)
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 8; i++)
                v[i] = _mm256_loadu_si256((const __m256i *)(const void *)(from[8 * half + i] + offset + 4 * done));
            transpose(v);
            for (size_t i = 0; i < 8; i++)
                _mm256_storeu_si256((__m256i *)(void *)(to + 64 * step * (done + i) + 32 * half), v[i]);
        }
    if (done + 4 <= n) {
        interleave_four(to + 64 * step * done, step, from, offset + 4 * done);
        done += 4;
    }
    if (done < n) /* some of them once more */
        interleave_four(to + 64 * step * (n - 4), step, from, offset + 4 * (n - 4));
    return n;
}

#endif
