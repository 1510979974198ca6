/* SPDX-License-Identifier: MIT */
/* Eight floats at once, for math_floats.h, ops_floats.h and attention_floats.h: AVX2 and FMA. */
#ifndef MB_FLOATS_AVX2_H
#define MB_FLOATS_AVX2_H

#include "kernels/inline.h"
#include "kernels/quant.h"

#include <immintrin.h>

#define FLOATS 8

typedef __m256 vf;

typedef struct {
    __m256d v[2];
} vd; /* partial sums in double */

INLINE vf load(const float *from)
{
    return _mm256_loadu_ps(from);
}

INLINE void store(float *to, vf a)
{
    _mm256_storeu_ps(to, a);
}

INLINE vf load_f16(const uint16_t *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

INLINE vf load_s8(const int8_t *from)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from)));
}

INLINE vf all(float f)
{
    return _mm256_set1_ps(f);
}

INLINE vf all_f16(uint16_t half)
{
    return _mm256_set1_ps(_cvtsh_ss(half));
}

INLINE vf plus(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

INLINE vf less(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vf times(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vf over(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

/* a * b + c */
INLINE vf fma3(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* c - a * b */
INLINE vf fnma3(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

/* The larger and the smaller of each pair; b where one is a NaN. */
INLINE vf larger(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf smaller(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

INLINE vf magnitude(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a);
}

INLINE vf negative(vf a)
{
    return _mm256_xor_ps(a, _mm256_set1_ps(-0.f));
}

/* a, which is not negative, with the sign of s. */
INLINE vf signed_as(vf a, vf s)
{
    return _mm256_or_ps(a, _mm256_and_ps(_mm256_set1_ps(-0.f), s));
}

/* yes where a < b, else no. */
INLINE vf where_less(vf a, vf b, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

/* To the nearest integer, of two the even one. */
INLINE vf nearest(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* a * 2^n for integers n of -252..254; in two factors, so that results may be denormal or infinite. */
INLINE vf times_2_to(vf a, vf n)
{
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), rest = _mm256_sub_epi32(i, half);
    const __m256i bias = _mm256_set1_epi32(127);
    a = _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

INLINE float sum_floats(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* The sums of four vectors. */
INLINE void store_sums(float *to, vf a, vf b, vf c, vf d)
{
    __m256 s = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}

INLINE float largest(vf a)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* ---- sums in double ---- */

INLINE vd no_doubles(void)
{
    return (vd){{_mm256_setzero_pd(), _mm256_setzero_pd()}};
}

INLINE vd plus_floats(vd sum, vf a)
{
    return (vd){{_mm256_add_pd(sum.v[0], _mm256_cvtps_pd(_mm256_castps256_ps128(a))),
                 _mm256_add_pd(sum.v[1], _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)))}};
}

INLINE vd plus_squares(vd sum, vf a)
{
    __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(a)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
    return (vd){{_mm256_fmadd_pd(low, low, sum.v[0]), _mm256_fmadd_pd(high, high, sum.v[1])}};
}

INLINE double sum_doubles(vd sum)
{
    double part[4];
    _mm256_storeu_pd(part, _mm256_add_pd(sum.v[0], sum.v[1]));
    return part[0] + part[1] + part[2] + part[3];
}

/* ---- pairs ---- */

/* a0 b0 a1 b1 and so on, rotated by c0 s0 c1 s1 and so on: a c - b s, b c + a s. */
INLINE vf rotate_pairs(vf v, vf table)
{
    vf swapped = _mm256_permute_ps(v, 0xb1);
    return _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(table), _mm256_mul_ps(swapped, _mm256_movehdup_ps(table)));
}

/* The first and the second of eight pairs. */
INLINE void load_pairs(const float *from, vf *first, vf *second)
{
    __m256 a = _mm256_loadu_ps(from), b = _mm256_loadu_ps(from + 8);
    /* 0 1 4 5 2 3 6 7 of the eight, then in order */
    *first = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)), 0xd8));
    *second = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8));
}

#endif
