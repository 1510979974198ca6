/* SPDX-License-Identifier: MIT */
/* Functions of eight numbers at once, with AVX2 and FMA. */
#ifndef MB_MATH_AVX2_H
#define MB_MATH_AVX2_H

#include "kernels/inline.h"

#include <immintrin.h>

/* exp(x) within 1.5 ulp for x in -104 .. 88.7; 0 below, infinity above, NaN stays. With n = round(x / ln 2) and r = x - n ln 2 in
 * two parts, exp(x) = 2^n exp(r), |r| <= 0.347; the polynomial is the Taylor series to r^7, whose remainder is under 2^-26. */
INLINE __m256 exp_ps(__m256 x)
{
    x = _mm256_min_ps(_mm256_set1_ps(89), _mm256_max_ps(_mm256_set1_ps(-105), x)); /* in this order a NaN passes */
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1 / 5040.f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1 / 720.f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1 / 120.f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1 / 24.f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1 / 6.f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1));
    /* 2^n in two factors, so that results may be denormal or infinite. */
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), rest = _mm256_sub_epi32(i, half);
    const __m256i bias = _mm256_set1_epi32(127);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

/* 1 / (1 + exp(-x)) */
INLINE __m256 sigmoid_ps(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1);
    return _mm256_div_ps(one, _mm256_add_ps(one, exp_ps(_mm256_xor_ps(x, _mm256_set1_ps(-0.f)))));
}

/* tanh(x): with e = exp(2 |x|), 1 - 2 / (e + 1), and where that would cancel, |x| < 0.55, x + x^3 p(x^2). The coefficients are
 * those of a minimax fit (Cephes, tanhf). */
INLINE __m256 tanh_ps(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.f);
    __m256 a = _mm256_andnot_ps(sign, x), s = _mm256_mul_ps(x, x);
    __m256 e = exp_ps(_mm256_add_ps(a, a));
    __m256 large = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2), _mm256_add_ps(e, one)));
    large = _mm256_or_ps(large, _mm256_and_ps(sign, x));
    __m256 p = _mm256_set1_ps(-5.70498872745e-3f);
    p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(2.06390887954e-2f));
    p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(-5.37397155531e-2f));
    p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(1.33314422036e-1f));
    p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(-3.33332819422e-1f));
    __m256 small = _mm256_fmadd_ps(_mm256_mul_ps(p, s), x, x);
    return _mm256_blendv_ps(large, small, _mm256_cmp_ps(a, _mm256_set1_ps(0.55f), _CMP_LT_OQ));
}

INLINE float sum_ps(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

#endif
