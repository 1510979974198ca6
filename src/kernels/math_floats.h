/* SPDX-License-Identifier: MIT */
/* Functions of several numbers at once, written over the vectors of floats_<set>.h, which is included before. */
#ifndef MB_MATH_FLOATS_H
#define MB_MATH_FLOATS_H

/* exp(x) within 1.5 ulp for x in -104 .. 88.7; 0 below, infinity above, NaN stays. With n = round(x / ln 2) and r = x - n ln 2 in
 * two parts, exp(x) = 2^n exp(r), |r| <= 0.347; the polynomial is the Taylor series to r^7, whose remainder is under 2^-26. */
INLINE vf exp_of(vf x)
{
    x = smaller(all(89), larger(all(-105), x)); /* in this order a NaN passes */
    vf n = nearest(times(x, all(1.44269504f)));
    vf r = fnma3(n, all(0.693359375f), x);
    r = fnma3(n, all(-2.12194440e-4f), r);
    vf p = all(1 / 5040.f);
    p = fma3(p, r, all(1 / 720.f));
    p = fma3(p, r, all(1 / 120.f));
    p = fma3(p, r, all(1 / 24.f));
    p = fma3(p, r, all(1 / 6.f));
    p = fma3(p, r, all(0.5f));
    p = fma3(p, times(r, r), r);
    return times_2_to(plus(p, all(1)), n);
}

/* 1 / (1 + exp(-x)) */
INLINE vf sigmoid_of(vf x)
{
    return over(all(1), plus(all(1), exp_of(negative(x))));
}

/* tanh(x): with e = exp(2 |x|), 1 - 2 / (e + 1), and where that would cancel, |x| < 0.55, x + x^3 p(x^2). The coefficients are
 * those of a minimax fit (Cephes, tanhf). */
INLINE vf tanh_of(vf x)
{
    vf a = magnitude(x), s = times(x, x), e = exp_of(plus(a, a));
    vf large = signed_as(less(all(1), over(all(2), plus(e, all(1)))), x);
    vf p = all(-5.70498872745e-3f);
    p = fma3(p, s, all(2.06390887954e-2f));
    p = fma3(p, s, all(-5.37397155531e-2f));
    p = fma3(p, s, all(1.33314422036e-1f));
    p = fma3(p, s, all(-3.33332819422e-1f));
    return where_less(a, all(0.55f), fma3(times(p, s), x, x), large);
}

#endif
