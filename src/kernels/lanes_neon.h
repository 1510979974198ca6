/* SPDX-License-Identifier: MIT */
/* Vectors of one 32-bit lane per row of a packed group, for matmul_packed.h and matmul_float.h: NEON, two registers for 8
 * rows. So four tokens, or the spans of Q6_K, have their sums in 16 of the 32 registers, and what ends in other 16 less.
 *
 * Products of bytes: SDOT adds four to a lane of 32 bits, and takes four columns of the activations out of a register of 16.
 * Without it (Armv8.0) products of 16 bits are added in pairs, and the pairs to the lanes; two of at most 128 * 127 fit. Weights
 * of unsigned kinds are at most 63, so all are signed bytes. Nothing overflows in 32 columns: 32 * 128 * 127 times a scale of at
 * most 128 is under 2^27. Shifts of vectors are written as operators: unlike the intrinsics, they take any count. */
#ifndef MB_LANES_NEON_H
#define MB_LANES_NEON_H

#include "kernels/inline.h"
#include "kernels/kernels.h"

#include <arm_neon.h>

#define LANES         8
#define SUM_BITS      32 /* of the sums of dot() */
#define SIGNED_CENTRE 0  /* what offset_s8() adds to signed weights */
#define TOKENS_AT_ONCE 4 /* that are multiplied at once; MB_ACT_TILE or a multiple */
#define FLOAT_TOKENS  8  /* 16 sums, 2 registers of weights and an activation */

#define N (LANES / 4)

typedef struct {
    int8x16_t v[N];
} vi; /* 8 x 32 or 32 x 8 bits */

typedef struct {
    float32x4_t v[N];
} vf;

INLINE vi load(const void *at)
{
    vi to;
    for (int i = 0; i < N; i++)
        to.v[i] = vld1q_s8((const int8_t *)at + 16 * i);
    return to;
}

INLINE void store_bytes(void *to, vi a)
{
    for (int i = 0; i < N; i++)
        vst1q_s8((int8_t *)to + 16 * i, a.v[i]);
}

/* Eight f16, bf16 or f32, as f32. */
INLINE vf load_f16(const void *at)
{
    vf to;
    for (int i = 0; i < N; i++)
        to.v[i] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)at + 8 * i)));
    return to;
}

INLINE vf load_bf16(const void *at)
{
    vf to;
    for (int i = 0; i < N; i++)
        to.v[i] = vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8((const uint8_t *)at + 8 * i)), 16));
    return to;
}

INLINE vf load_floats(const float *at)
{
    vf to;
    for (int i = 0; i < N; i++)
        to.v[i] = vld1q_f32(at + 4 * i);
    return to;
}

/* Eight bytes or 16-bit words, as lanes. */
INLINE vi load_u16(const void *at)
{
    vi to;
    for (int i = 0; i < N; i++)
        to.v[i] = vreinterpretq_s8_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8((const uint8_t *)at + 8 * i))));
    return to;
}

INLINE vi load_u8(const char *at)
{
    uint16x8_t words = vmovl_u8(vld1_u8((const uint8_t *)at));
    return (vi){{vreinterpretq_s8_u32(vmovl_u16(vget_low_u16(words))), vreinterpretq_s8_u32(vmovl_high_u16(words))}};
}

/* Of each byte, (byte >> shift) & mask, or << for _left. */
INLINE vi bits(vi a, int shift, int mask)
{
    for (int i = 0; i < N; i++) {
        uint8x16_t v = vreinterpretq_u8_s8(a.v[i]);
        v = shift ? v >> (uint8_t)shift : v;
        a.v[i] = vreinterpretq_s8_u8(mask == 255 >> shift ? v : vandq_u8(v, vdupq_n_u8((uint8_t)mask)));
    }
    return a;
}

INLINE vi bits_left(vi a, int shift, int mask)
{
    for (int i = 0; i < N; i++)
        a.v[i] = vreinterpretq_s8_u8(vandq_u8(vreinterpretq_u8_s8(a.v[i]) << (uint8_t)shift, vdupq_n_u8((uint8_t)mask)));
    return a;
}

/* Of each byte, moved right by a count that is no constant. */
INLINE vi shift_right(vi a, int count)
{
    const int8x16_t left = vdupq_n_s8((int8_t)-count);
    for (int i = 0; i < N; i++)
        a.v[i] = vreinterpretq_s8_u8(vshlq_u8(vreinterpretq_u8_s8(a.v[i]), left));
    return a;
}

INLINE vi either(vi a, vi b)
{
    for (int i = 0; i < N; i++)
        a.v[i] = vorrq_s8(a.v[i], b.v[i]);
    return a;
}

/* Of each lane. */
INLINE vi lane_bits(vi a, int shift, int mask)
{
    for (int i = 0; i < N; i++)
        a.v[i] = vreinterpretq_s8_u32(vandq_u32(vreinterpretq_u32_s8(a.v[i]) >> (uint32_t)shift, vdupq_n_u32((uint32_t)mask)));
    return a;
}

INLINE vi lane_shift_left(vi a, int shift)
{
    for (int i = 0; i < N; i++)
        a.v[i] = vreinterpretq_s8_u32(vreinterpretq_u32_s8(a.v[i]) << (uint32_t)shift);
    return a;
}

/* Of each byte, less b. */
INLINE vi minus(vi a, int b)
{
    for (int i = 0; i < N; i++)
        a.v[i] = vsubq_s8(a.v[i], vdupq_n_s8((int8_t)b));
    return a;
}

/* Bits 4 i to 4 i + 3 of each lane, each to bit 4 of its own byte: byte i / 2 of the lane to all its bytes, where one bit
 * each is looked at. */
INLINE vi spread_to_16(vi a, int i)
{
    static const uint8_t of_lane[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    const uint8x16_t pick = vaddq_u8(vld1q_u8(of_lane), vdupq_n_u8((uint8_t)(i / 2)));
    const uint8x16_t bit = vreinterpretq_u8_u32(vdupq_n_u32(i % 2 ? 0x80402010 : 0x08040201));
    for (int k = 0; k < N; k++) {
        uint8x16_t is_set = vtstq_u8(vreinterpretq_u8_s8(vqtbl1q_s8(a.v[k], pick)), bit);
        a.v[k] = vreinterpretq_s8_u8(vandq_u8(is_set, vdupq_n_u8(16)));
    }
    return a;
}

/* table[byte] for bytes of 0..15. */
INLINE vi look_up(const int8_t table[16], vi index)
{
    const int8x16_t t = vld1q_s8(table);
    for (int i = 0; i < N; i++)
        index.v[i] = vqtbl1q_s8(t, vreinterpretq_u8_s8(index.v[i]));
    return index;
}

INLINE vf to_float(vi a)
{
    vf to;
    for (int i = 0; i < N; i++)
        to.v[i] = vcvtq_f32_s32(vreinterpretq_s32_s8(a.v[i]));
    return to;
}

/* 2^(e - 128) of each lane; 0 for e under 2. */
INLINE vf e8m0_half(vi e)
{
    vf to;
    for (int i = 0; i < N; i++)
        to.v[i] = vreinterpretq_f32_u32(vshlq_n_u32(vqsubq_u32(vreinterpretq_u32_s8(e.v[i]), vdupq_n_u32(1)), 23));
    return to;
}

INLINE vf all(float f)
{
    vf to;
    for (int i = 0; i < N; i++)
        to.v[i] = vdupq_n_f32(f);
    return to;
}

INLINE vf times(vf a, vf b)
{
    for (int i = 0; i < N; i++)
        a.v[i] = vmulq_f32(a.v[i], b.v[i]);
    return a;
}

INLINE vf plus(vf a, vf b)
{
    for (int i = 0; i < N; i++)
        a.v[i] = vaddq_f32(a.v[i], b.v[i]);
    return a;
}

/* a * b + c */
INLINE vf fma3(vf a, vf b, vf c)
{
    for (int i = 0; i < N; i++)
        c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
    return c;
}

INLINE float sum_lanes(vf a)
{
    return vaddvq_f32(vaddq_f32(a.v[0], a.v[1]));
}

INLINE void store(float *to, vf a)
{
    for (int i = 0; i < N; i++)
        vst1q_f32(to + 4 * i, a.v[i]);
}

/* ---- products of bytes ---- */

/* Signed weights as dot_signed() reads them, and the values of IQ4 likewise. */
INLINE vi offset_s8(vi a)
{
    return a;
}

#define values_iq4_nl mb_values_iq4_nl

INLINE vi all_lanes(int32_t word)
{
    vi to;
    for (int i = 0; i < N; i++)
        to.v[i] = vreinterpretq_s8_s32(vdupq_n_s32(word));
    return to;
}

INLINE vi zero(void)
{
    return all_lanes(0);
}

/* The scale 1. */
INLINE vi one(void)
{
    return all_lanes(1);
}

/* Signed byte i of each lane, as a scale. */
INLINE vi scale_byte(vi a, int i)
{
    for (int k = 0; k < N; k++)
        a.v[k] = vreinterpretq_s8_s32(vreinterpretq_s32_s8(a.v[k]) << (24 - 8 * i) >> 24);
    return a;
}

/* What the sums of the columns of `part` (0, 1: half of the block, 2: both) start from. */
INLINE vi dot_begin(const struct mb_act_block *x, int part, int centre)
{
    return all_lanes(centre ? -centre * (x->pairs[part][0] + x->pairs[part][1]) : 0);
}

#if defined(__ARM_FEATURE_DOTPROD)

/* Four columns of one token: a register of 16, and which of its lanes (a constant). */
typedef struct {
    int8x16_t v;
    int lane;
} vx;

INLINE vx four(const int8_t *q, int i)
{
    return (vx){vld1q_s8(q + i / 4 * 16), i % 4};
}

INLINE int32x4_t dot_rows_4(int32x4_t sum, int8x16_t w, vx x)
{
    switch (x.lane) {
    case 0:
        return vdotq_laneq_s32(sum, w, x.v, 0);
    case 1:
        return vdotq_laneq_s32(sum, w, x.v, 1);
    case 2:
        return vdotq_laneq_s32(sum, w, x.v, 2);
    default:
        return vdotq_laneq_s32(sum, w, x.v, 3);
    }
}

#else

typedef int8x16_t vx; /* four columns of one token, in every lane */

INLINE vx four(const int8_t *q, int i)
{
    int32_t word;
    memcpy(&word, q + 4 * i, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

INLINE int32x4_t dot_rows_4(int32x4_t sum, int8x16_t w, vx x)
{
    int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    return vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(w, x)));
}

#endif

/* sum + weights w times x, in lanes. */
INLINE vi dot(vi sum, vi w, vx x)
{
    for (int i = 0; i < N; i++)
        sum.v[i] = vreinterpretq_s8_s32(dot_rows_4(vreinterpretq_s32_s8(sum.v[i]), w.v[i], x));
    return sum;
}

/* total + s * sum, the sum of dot(), in lanes. */
INLINE vi dot_end(vi total, vi sum, vi s)
{
    for (int i = 0; i < N; i++)
        total.v[i] = vreinterpretq_s8_s32(vreinterpretq_s32_s8(total.v[i]) +
                                          vreinterpretq_s32_s8(sum.v[i]) * vreinterpretq_s32_s8(s.v[i]));
    return total;
}

/* The same of signed weights; the scale waits for the end. */
INLINE vi dot_signed(vi sum, vi w, vx x, vi s)
{
    (void)s;
    return dot(sum, w, x);
}

INLINE vi dot_signed_end(vi total, vi sum, vi s)
{
    return dot_end(total, sum, s);
}

/* ---- interleaving ---- */

INLINE void transpose(int32x4_t *v)
{
    int32x4_t a = vtrn1q_s32(v[0], v[1]), b = vtrn2q_s32(v[0], v[1]), c = vtrn1q_s32(v[2], v[3]), d = vtrn2q_s32(v[2], v[3]);
    v[0] = vcombine_s32(vget_low_s32(a), vget_low_s32(c));
    v[1] = vcombine_s32(vget_low_s32(b), vget_low_s32(d));
    v[2] = vcombine_s32(vget_high_s32(a), vget_high_s32(c));
    v[3] = vcombine_s32(vget_high_s32(b), vget_high_s32(d));
}

/* Interleave as many as possible of n 4-byte units of 8 rows, their vectors `step` apart; returns how many. */
INLINE size_t interleave_words(char *to, size_t step, const char *const *from, size_t n)
{
    size_t done = 0;
    for (; done + 4 <= n; done += 4)
        for (int part = 0; part < N; part++) {
            int32x4_t v[4];
            for (int i = 0; i < 4; i++)
                v[i] = vreinterpretq_s32_s8(vld1q_s8((const int8_t *)from[4 * part + i] + 4 * done));
            transpose(v);
            for (size_t i = 0; i < 4; i++)
                vst1q_s8((int8_t *)to + 4 * LANES * step * (done + i) + 16 * part, vreinterpretq_s8_s32(v[i]));
        }
    return done;
}

#undef N

#endif
