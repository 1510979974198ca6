/* SPDX-License-Identifier: MIT */
/* Reading memory with AVX-512. Contract: read_ref.c. Compiled with -mavx512f, called only where the flags say so. */
#include "kernels/x86_avx512.h"

#include <assert.h>
#include <immintrin.h>

static uint64_t read_sum_avx512(const void *from, size_t bytes)
{
    assert(bytes % MB_READ_UNIT == 0 && (uintptr_t)from % MB_READ_ALIGN == 0);
    size_t quarter = bytes / 4;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (const char *at = from, *end = at + quarter; at < end; at += 128) {
        a = _mm512_add_epi64(a, _mm512_load_si512(at));
        b = _mm512_add_epi64(b, _mm512_load_si512(at + 64));
        c = _mm512_add_epi64(c, _mm512_load_si512(at + quarter));
        d = _mm512_add_epi64(d, _mm512_load_si512(at + quarter + 64));
        a = _mm512_add_epi64(a, _mm512_load_si512(at + 2 * quarter));
        b = _mm512_add_epi64(b, _mm512_load_si512(at + 2 * quarter + 64));
        c = _mm512_add_epi64(c, _mm512_load_si512(at + 3 * quarter));
        d = _mm512_add_epi64(d, _mm512_load_si512(at + 3 * quarter + 64));
    }
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d)));
}

void mb_kernels_add_avx512(struct mb_kernels *kernels)
{
    kernels->read_name = "avx512";
    kernels->read_sum = read_sum_avx512;
    mb_kernels_add_avx512_matmul(kernels);
}
