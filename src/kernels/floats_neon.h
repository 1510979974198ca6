/* SPDX-License-Identifier: MIT */
/* Eight floats at once, for math_floats.h, ops_floats.h and attention_floats.h: NEON, two registers. */
#ifndef MB_FLOATS_NEON_H
#define MB_FLOATS_NEON_H

#include "kernels/inline.h"
#include "kernels/quant.h"

#include <arm_neon.h>

#define FLOATS 8

typedef struct {
    float32x4_t v[2];
} vf;

typedef struct {
    float64x2_t v[4];
} vd; /* partial sums in double */

INLINE vf load(const float *from)
{
    return (vf){{vld1q_f32(from), vld1q_f32(from + 4)}};
}

INLINE void store(float *to, vf a)
{
    vst1q_f32(to, a.v[0]);
    vst1q_f32(to + 4, a.v[1]);
}

INLINE vf load_f16(const uint16_t *from)
{
    float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(from));
    return (vf){{vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)}};
}

INLINE vf load_s8(const int8_t *from)
{
    int16x8_t words = vmovl_s8(vld1_s8(from));
    return (vf){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))), vcvtq_f32_s32(vmovl_high_s16(words))}};
}

INLINE vf all(float f)
{
    return (vf){{vdupq_n_f32(f), vdupq_n_f32(f)}};
}

INLINE vf all_f16(uint16_t half)
{
    float32x4_t f = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
    return (vf){{f, f}};
}

INLINE vf plus(vf a, vf b)
{
    return (vf){{vaddq_f32(a.v[0], b.v[0]), vaddq_f32(a.v[1], b.v[1])}};
}

INLINE vf less(vf a, vf b)
{
    return (vf){{vsubq_f32(a.v[0], b.v[0]), vsubq_f32(a.v[1], b.v[1])}};
}

INLINE vf times(vf a, vf b)
{
    return (vf){{vmulq_f32(a.v[0], b.v[0]), vmulq_f32(a.v[1], b.v[1])}};
}

INLINE vf over(vf a, vf b)
{
    return (vf){{vdivq_f32(a.v[0], b.v[0]), vdivq_f32(a.v[1], b.v[1])}};
}

/* a * b + c */
INLINE vf fma3(vf a, vf b, vf c)
{
    return (vf){{vfmaq_f32(c.v[0], a.v[0], b.v[0]), vfmaq_f32(c.v[1], a.v[1], b.v[1])}};
}

/* c - a * b */
INLINE vf fnma3(vf a, vf b, vf c)
{
    return (vf){{vfmsq_f32(c.v[0], a.v[0], b.v[0]), vfmsq_f32(c.v[1], a.v[1], b.v[1])}};
}

/* The larger and the smaller of each pair; b where one is a NaN. */
INLINE vf larger(vf a, vf b)
{
    return (vf){{vbslq_f32(vcgtq_f32(a.v[0], b.v[0]), a.v[0], b.v[0]), vbslq_f32(vcgtq_f32(a.v[1], b.v[1]), a.v[1], b.v[1])}};
}

INLINE vf smaller(vf a, vf b)
{
    return (vf){{vbslq_f32(vcltq_f32(a.v[0], b.v[0]), a.v[0], b.v[0]), vbslq_f32(vcltq_f32(a.v[1], b.v[1]), a.v[1], b.v[1])}};
}

INLINE vf magnitude(vf a)
{
    return (vf){{vabsq_f32(a.v[0]), vabsq_f32(a.v[1])}};
}

INLINE vf negative(vf a)
{
    return (vf){{vnegq_f32(a.v[0]), vnegq_f32(a.v[1])}};
}

/* a, which is not negative, with the sign of s. */
INLINE vf signed_as(vf a, vf s)
{
    const uint32x4_t sign = vdupq_n_u32(0x80000000);
    return (vf){{vbslq_f32(sign, s.v[0], a.v[0]), vbslq_f32(sign, s.v[1], a.v[1])}};
}

/* yes where a < b, else no. */
INLINE vf where_less(vf a, vf b, vf yes, vf no)
{
    uint32x4_t is_less[2] = {vcltq_f32(a.v[0], b.v[0]), vcltq_f32(a.v[1], b.v[1])};
    return (vf){{vbslq_f32(is_less[0], yes.v[0], no.v[0]), vbslq_f32(is_less[1], yes.v[1], no.v[1])}};
}

/* To the nearest integer, of two the even one. */
INLINE vf nearest(vf a)
{
    return (vf){{vrndnq_f32(a.v[0]), vrndnq_f32(a.v[1])}};
}

INLINE float32x4_t times_2_to_4(float32x4_t a, float32x4_t n)
{
    int32x4_t i = vcvtq_s32_f32(n), half = vshrq_n_s32(i, 1), rest = vsubq_s32(i, half);
    const int32x4_t bias = vdupq_n_s32(127);
    a = vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23)));
    return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23)));
}

/* a * 2^n for integers n of -252..254; in two factors, so that results may be denormal or infinite. */
INLINE vf times_2_to(vf a, vf n)
{
    return (vf){{times_2_to_4(a.v[0], n.v[0]), times_2_to_4(a.v[1], n.v[1])}};
}

INLINE float sum_floats(vf a)
{
    return vaddvq_f32(vaddq_f32(a.v[0], a.v[1]));
}

/* The sums of four vectors. */
INLINE void store_sums(float *to, vf a, vf b, vf c, vf d)
{
    float32x4_t ab = vpaddq_f32(vaddq_f32(a.v[0], a.v[1]), vaddq_f32(b.v[0], b.v[1]));
    float32x4_t cd = vpaddq_f32(vaddq_f32(c.v[0], c.v[1]), vaddq_f32(d.v[0], d.v[1]));
    vst1q_f32(to, vpaddq_f32(ab, cd));
}

INLINE float largest(vf a)
{
    return vmaxvq_f32(vmaxq_f32(a.v[0], a.v[1]));
}

/* ---- sums in double ---- */

INLINE vd no_doubles(void)
{
    const float64x2_t zero = vdupq_n_f64(0);
    return (vd){{zero, zero, zero, zero}};
}

INLINE vd plus_floats(vd sum, vf a)
{
    for (int i = 0; i < 2; i++) {
        sum.v[2 * i] = vaddq_f64(sum.v[2 * i], vcvt_f64_f32(vget_low_f32(a.v[i])));
        sum.v[2 * i + 1] = vaddq_f64(sum.v[2 * i + 1], vcvt_high_f64_f32(a.v[i]));
    }
    return sum;
}

INLINE vd plus_squares(vd sum, vf a)
{
    for (int i = 0; i < 2; i++) {
        float64x2_t low = vcvt_f64_f32(vget_low_f32(a.v[i])), high = vcvt_high_f64_f32(a.v[i]);
        sum.v[2 * i] = vfmaq_f64(sum.v[2 * i], low, low);
        sum.v[2 * i + 1] = vfmaq_f64(sum.v[2 * i + 1], high, high);
    }
    return sum;
}

INLINE double sum_doubles(vd sum)
{
    return vaddvq_f64(vaddq_f64(vaddq_f64(sum.v[0], sum.v[1]), vaddq_f64(sum.v[2], sum.v[3])));
}

/* ---- pairs ---- */

/* b c + a s beside a c - b s: the sign of what is swapped lies in the table. */
INLINE float32x4_t rotate_2(float32x4_t v, float32x4_t table)
{
    const uint32x4_t first = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000));
    float32x4_t sines = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(vtrn2q_f32(table, table)), first));
    return vfmaq_f32(vmulq_f32(vrev64q_f32(v), sines), v, vtrn1q_f32(table, table));
}

/* a0 b0 a1 b1 and so on, rotated by c0 s0 c1 s1 and so on: a c - b s, b c + a s. */
INLINE vf rotate_pairs(vf v, vf table)
{
    return (vf){{rotate_2(v.v[0], table.v[0]), rotate_2(v.v[1], table.v[1])}};
}

/* The first and the second of eight pairs. */
INLINE void load_pairs(const float *from, vf *first, vf *second)
{
    float32x4x2_t a = vld2q_f32(from), b = vld2q_f32(from + 8);
    *first = (vf){{a.val[0], b.val[0]}};
    *second = (vf){{a.val[1], b.val[1]}};
}

#endif
