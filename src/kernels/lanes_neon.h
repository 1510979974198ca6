/* SPDX-License-Identifier: MIT */
/* Vectors of one 32-bit lane per row of a packed group, for matmul_packed.h and matmul_float.h: NEON, two registers for 8
 * rows. So the sums of four tokens, or of a span of Q6_K, take 8 of the 32 registers, and what they are added to 8 more.
 *
 * Products of bytes: SDOT adds four to a lane of 32 bits, and takes four columns of the activations out of a register of 16.
 * Without it (Armv8.0) products of 16 bits are added in pairs, and the pairs to the lanes; two of at most 128 * 127 fit.
 * Weights of unsigned kinds are at most 63, so all are signed bytes. Nothing overflows in 32 columns: 32 * 128 * 127 times a
 * scale of at most 128 is under 2^26. Shifts are written as operators: unlike the intrinsics, they take any count. */
#ifndef MB_LANES_NEON_H
#define MB_LANES_NEON_H

#include "kernels/inline.h"
#include "kernels/kernels.h"

#include <arm_neon.h>

#define LANES         8
#define PARTS         1  /* its 32 registers hold the sums of all rows */
#define SUM_BITS      32 /* of the sums of dot() */
#define SIGNED_CENTRE 0  /* what offset_s8() adds to signed weights */
#define TOKENS_AT_ONCE 4 /* that are multiplied at once; MB_ACT_TILE or a multiple */
#define FLOAT_TOKENS  8  /* 16 sums, 2 registers of weights and an activation */

typedef struct {
    int8x16_t v[2];
} vi; /* 8 x 32 or 32 x 8 bits */

typedef struct {
    float32x4_t v[2];
} vf;

INLINE vi load(const void *at)
{
    const int8_t *v = at;
    return (vi){{vld1q_s8(v), vld1q_s8(v + 16)}};
}

/* Eight f16, bf16 or f32, as f32. */
INLINE vf load_f16(const void *at)
{
    float16x8_t halves = vreinterpretq_f16_u8(vld1q_u8(at));
    return (vf){{vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)}};
}

INLINE vf load_bf16(const void *at)
{
    uint16x8_t halves = vreinterpretq_u16_u8(vld1q_u8(at));
    return (vf){{vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(halves), 16)),
                 vreinterpretq_f32_u32(vshll_high_n_u16(halves, 16))}};
}

INLINE vf load_floats(const float *at)
{
    return (vf){{vld1q_f32(at), vld1q_f32(at + 4)}};
}

INLINE vi lanes_of(uint16x8_t words)
{
    return (vi){{vreinterpretq_s8_u32(vmovl_u16(vget_low_u16(words))), vreinterpretq_s8_u32(vmovl_high_u16(words))}};
}

/* Eight bytes or 16-bit words, as lanes. */
INLINE vi load_u16(const void *at)
{
    return lanes_of(vreinterpretq_u16_u8(vld1q_u8(at)));
}

INLINE vi load_u8(const char *at)
{
    return lanes_of(vmovl_u8(vld1_u8((const uint8_t *)at)));
}

INLINE int8x16_t bits_1(int8x16_t a, int shift, int mask)
{
    uint8x16_t v = shift ? vreinterpretq_u8_s8(a) >> (uint8_t)shift : vreinterpretq_u8_s8(a);
    return vreinterpretq_s8_u8(mask == 255 >> shift ? v : vandq_u8(v, vdupq_n_u8((uint8_t)mask)));
}

/* Of each byte, (byte >> shift) & mask, or << for _left. */
INLINE vi bits(vi a, int shift, int mask)
{
    return (vi){{bits_1(a.v[0], shift, mask), bits_1(a.v[1], shift, mask)}};
}

INLINE vi bits_left(vi a, int shift, int mask)
{
    const uint8x16_t m = vdupq_n_u8((uint8_t)mask);
    return (vi){{vreinterpretq_s8_u8(vandq_u8(vreinterpretq_u8_s8(a.v[0]) << (uint8_t)shift, m)),
                 vreinterpretq_s8_u8(vandq_u8(vreinterpretq_u8_s8(a.v[1]) << (uint8_t)shift, m))}};
}

/* Of each byte, moved right by a count that is no constant. */
INLINE vi shift_right(vi a, int count)
{
    const int8x16_t left = vdupq_n_s8((int8_t)-count);
    return (vi){{vreinterpretq_s8_u8(vshlq_u8(vreinterpretq_u8_s8(a.v[0]), left)),
                 vreinterpretq_s8_u8(vshlq_u8(vreinterpretq_u8_s8(a.v[1]), left))}};
}

INLINE vi either(vi a, vi b)
{
    return (vi){{vorrq_s8(a.v[0], b.v[0]), vorrq_s8(a.v[1], b.v[1])}};
}

/* Of each lane. */
INLINE vi lane_bits(vi a, int shift, int mask)
{
    const uint32x4_t m = vdupq_n_u32((uint32_t)mask);
    return (vi){{vreinterpretq_s8_u32(vandq_u32(vreinterpretq_u32_s8(a.v[0]) >> (uint32_t)shift, m)),
                 vreinterpretq_s8_u32(vandq_u32(vreinterpretq_u32_s8(a.v[1]) >> (uint32_t)shift, m))}};
}

INLINE vi lane_shift_left(vi a, int shift)
{
    return (vi){{vreinterpretq_s8_u32(vreinterpretq_u32_s8(a.v[0]) << (uint32_t)shift),
                 vreinterpretq_s8_u32(vreinterpretq_u32_s8(a.v[1]) << (uint32_t)shift)}};
}

/* Of each byte, less b. */
INLINE vi minus(vi a, int b)
{
    const int8x16_t v = vdupq_n_s8((int8_t)b);
    return (vi){{vsubq_s8(a.v[0], v), vsubq_s8(a.v[1], v)}};
}

/* Bits 4 i to 4 i + 3 of each lane, each to bit 4 of its own byte: byte i / 2 of the lane to all its bytes, where one bit
 * each is looked at. */
INLINE vi spread_to_16(vi a, int i)
{
    static const uint8_t of_lane[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    const uint8x16_t pick = vaddq_u8(vld1q_u8(of_lane), vdupq_n_u8((uint8_t)(i / 2))), sixteen = vdupq_n_u8(16);
    const uint8x16_t bit = vreinterpretq_u8_u32(vdupq_n_u32(i % 2 ? 0x80402010 : 0x08040201));
    uint8x16_t low = vtstq_u8(vreinterpretq_u8_s8(vqtbl1q_s8(a.v[0], pick)), bit);
    uint8x16_t high = vtstq_u8(vreinterpretq_u8_s8(vqtbl1q_s8(a.v[1], pick)), bit);
    return (vi){{vreinterpretq_s8_u8(vandq_u8(low, sixteen)), vreinterpretq_s8_u8(vandq_u8(high, sixteen))}};
}

/* table[byte] for bytes of 0..15. */
INLINE vi look_up(const int8_t table[16], vi index)
{
    const int8x16_t t = vld1q_s8(table);
    return (vi){{vqtbl1q_s8(t, vreinterpretq_u8_s8(index.v[0])), vqtbl1q_s8(t, vreinterpretq_u8_s8(index.v[1]))}};
}

INLINE vf to_float(vi a)
{
    return (vf){{vcvtq_f32_s32(vreinterpretq_s32_s8(a.v[0])), vcvtq_f32_s32(vreinterpretq_s32_s8(a.v[1]))}};
}

/* 2^(e - 128) of each lane; 0 for e under 2. */
INLINE vf e8m0_half(vi e)
{
    const uint32x4_t one = vdupq_n_u32(1);
    return (vf){{vreinterpretq_f32_u32(vshlq_n_u32(vqsubq_u32(vreinterpretq_u32_s8(e.v[0]), one), 23)),
                 vreinterpretq_f32_u32(vshlq_n_u32(vqsubq_u32(vreinterpretq_u32_s8(e.v[1]), one), 23))}};
}

INLINE vf all(float f)
{
    return (vf){{vdupq_n_f32(f), vdupq_n_f32(f)}};
}

INLINE vf times(vf a, vf b)
{
    return (vf){{vmulq_f32(a.v[0], b.v[0]), vmulq_f32(a.v[1], b.v[1])}};
}

/* a * b + c */
INLINE vf fma3(vf a, vf b, vf c)
{
    return (vf){{vfmaq_f32(c.v[0], a.v[0], b.v[0]), vfmaq_f32(c.v[1], a.v[1], b.v[1])}};
}

/* to, with one of its PARTS from another. */
INLINE vf part_of(vf to, vf from, int part)
{
    return part == 0 ? from : to;
}

INLINE float sum_lanes(vf a)
{
    return vaddvq_f32(vaddq_f32(a.v[0], a.v[1]));
}

INLINE void store(float *to, vf a)
{
    vst1q_f32(to, a.v[0]);
    vst1q_f32(to + 4, a.v[1]);
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
    const int8x16_t v = vreinterpretq_s8_s32(vdupq_n_s32(word));
    return (vi){{v, v}};
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

INLINE int8x16_t scale_byte_1(int8x16_t a, int i)
{
    return vreinterpretq_s8_s32(vreinterpretq_s32_s8(a) << (24 - 8 * i) >> 24);
}

/* Signed byte i of each lane, as a scale. */
INLINE vi scale_byte(vi a, int i)
{
    return (vi){{scale_byte_1(a.v[0], i), scale_byte_1(a.v[1], i)}};
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

INLINE int32x4_t add_dot(int32x4_t sum, int8x16_t w, vx x)
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

INLINE int32x4_t add_dot(int32x4_t sum, int8x16_t w, vx x)
{
    int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    return vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(w, x)));
}

#endif

/* sum + weights w times x, in lanes. */
INLINE vi dot(vi sum, vi w, vx x)
{
    return (vi){{vreinterpretq_s8_s32(add_dot(vreinterpretq_s32_s8(sum.v[0]), w.v[0], x)),
                 vreinterpretq_s8_s32(add_dot(vreinterpretq_s32_s8(sum.v[1]), w.v[1], x))}};
}

INLINE int8x16_t dot_end_1(int8x16_t total, int8x16_t sum, int8x16_t s)
{
    return vreinterpretq_s8_s32(vreinterpretq_s32_s8(total) + vreinterpretq_s32_s8(sum) * vreinterpretq_s32_s8(s));
}

/* total + s * sum, the sum of dot(), in lanes. */
INLINE vi dot_end(vi total, vi sum, vi s)
{
    return (vi){{dot_end_1(total.v[0], sum.v[0], s.v[0]), dot_end_1(total.v[1], sum.v[1], s.v[1])}};
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

/* Four of the 4-byte units of 8 rows, `offset` bytes into them; their vectors are `step` apart. */
INLINE void interleave_four(char *to, size_t step, const char *const *from, size_t offset)
{
    for (int part = 0; part < 2; part++) {
        int32x4_t v[4];
        for (int i = 0; i < 4; i++)
            v[i] = vreinterpretq_s32_s8(vld1q_s8((const int8_t *)from[4 * part + i] + offset));
        transpose(v);
        for (size_t i = 0; i < 4; i++)
            vst1q_s8((int8_t *)to + 4 * LANES * step * i + 16 * part, vreinterpretq_s8_s32(v[i]));
    }
}

/* Interleave n 4-byte units of 8 rows, `offset` bytes into them, their vectors `step` apart. Returns how many it did: all, or
 * none if there are less than four. */
INLINE size_t interleave_words(char *to, size_t step, const char *const *from, size_t offset, size_t n)
{
    size_t done = 0;
    if (n < 4)
        return 0;
    for (; done + 4 <= n; done += 4)
        interleave_four(to + 4 * LANES * step * done, step, from, offset + 4 * done);
    if (done < n) /* some of them once more */
        interleave_four(to + 4 * LANES * step * (n - 4), step, from, offset + 4 * (n - 4));
    return n;
}

#endif
