/* SPDX-License-Identifier: MIT */
/* Reading memory with AVX2. Contract: read_ref.c. Compiled with -mavx2, called only where the flags say so. */
#include "kernels/x86_avx2.h"

#include <assert.h>
#include <immintrin.h>

static inline __m256i load(const char *at)
{
    return _mm256_load_si256((const __m256i *)(const void *)at);
}

static uint64_t read_sum_avx2(const void *from, size_t bytes)
{
    assert(bytes % MB_READ_UNIT == 0 && (uintptr_t)from % MB_READ_ALIGN == 0);
    size_t quarter = bytes / 4;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (const char *at = from, *end = at + quarter; at < end; at += 128)
        for (unsigned s = 0; s < 4; s++) {
            const char *stream = at + s * quarter;
            a = _mm256_add_epi64(a, load(stream));
            b = _mm256_add_epi64(b, load(stream + 32));
            c = _mm256_add_epi64(c, load(stream + 64));
            d = _mm256_add_epi64(d, load(stream + 96));
        }
    uint64_t lane[4];
    a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
    _mm256_storeu_si256((__m256i *)(void *)lane, a);
    return lane[0] + lane[1] + lane[2] + lane[3];
}

void mb_kernels_add_avx2(struct mb_kernels *kernels)
{
    kernels->read_name = "avx2";
    kernels->read_sum = read_sum_avx2;
    mb_kernels_add_avx2_attention(kernels);
    mb_kernels_add_avx2_matmul(kernels);
    mb_kernels_add_avx2_ops(kernels);
}
