/* SPDX-License-Identifier: MIT */
/* Vectors of one 32-bit lane per row of a packed group, for matmul_packed.h and matmul_float.h: AVX2, two registers for 16
 * rows.
 *
 * Products of bytes: VPMADDUBSW multiplies unsigned by signed bytes and adds pairs into 16 bits, saturating. Activations
 * are at most 127, so for weights up to 15 the pairs of 32 columns, 8 * 2 * 15 * 127 = 30480, add up in 16 bits, and for
 * weights up to 31 those of 16 columns. Where a centre is taken off, the sums start from -centre times the sum of the
 * activations, wrap on the way and end in range: 32 columns of -16..15, or 16 of -32..31, are at most 8 * 2 * 16 * 127 = 32512.
 * Signed weights, up to 128, lend their sign to the activation; no two of their pairs add up in 16 bits. VPMADDWD multiplies
 * sums by scales: both are 16 bits wide, a scale stands twice in its lane. */
#ifndef MB_LANES_AVX2_H
#define MB_LANES_AVX2_H

#include "kernels/inline.h"
#include "kernels/interleave_avx2.h"
#include "kernels/kernels.h"

#include <immintrin.h>

#define LANES         16
#define PARTS         2  /* registers of rows; 1: kinds with sums of many columns need not be split */
#define SUM_BITS      16 /* of the sums of dot(); 32: none of 32 columns overflows */
#define SIGNED_CENTRE 0  /* what offset_s8() adds to signed weights */
/* Tokens that are multiplied at once, MB_ACT_TILE or a multiple: 16 registers hold 8 sums, 2 of weights, an activation. */
#define TOKENS_AT_ONCE 4
#define FLOAT_TOKENS  6 /* 12 sums, 2 registers of weights and an activation */

typedef struct {
    __m256i v[2];
} vi; /* 16 x 32 or 64 x 8 bits */

typedef struct {
    __m256 v[2];
} vf;

typedef __m256i vx; /* four columns of one token, in every lane */

INLINE vi load(const void *at)
{
    const __m256i *v = at;
    return (vi){{_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)}};
}

/* Sixteen f16, bf16 or f32, as f32. */
INLINE vf load_f16(const void *at)
{
    const __m128i *v = at;
    return (vf){{_mm256_cvtph_ps(_mm_loadu_si128(v)), _mm256_cvtph_ps(_mm_loadu_si128(v + 1))}};
}

INLINE vf load_bf16(const void *at)
{
    const __m128i *v = at;
    return (vf){{_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(v)), 16)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(v + 1)), 16))}};
}

INLINE vf load_floats(const float *at)
{
    return (vf){{_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)}};
}

/* Sixteen bytes or 16-bit words, as lanes. */
INLINE vi load_u8(const char *at)
{
    return (vi){{_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)at)),
                 _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(at + 8)))}};
}

INLINE vi load_u16(const void *at)
{
    const __m128i *v = at;
    return (vi){{_mm256_cvtepu16_epi32(_mm_loadu_si128(v)), _mm256_cvtepu16_epi32(_mm_loadu_si128(v + 1))}};
}

/* Of each byte, (byte >> shift) & mask, or << for _left; mask has no bit that the shift brings in from another byte. */
INLINE vi bits(vi a, int shift, int mask)
{
    const __m256i m = _mm256_set1_epi8((char)mask);
    if (shift == 0)
        return (vi){{_mm256_and_si256(a.v[0], m), _mm256_and_si256(a.v[1], m)}};
    return (vi){{_mm256_and_si256(_mm256_srli_epi16(a.v[0], shift), m), _mm256_and_si256(_mm256_srli_epi16(a.v[1], shift), m)}};
}

INLINE vi bits_left(vi a, int shift, int mask)
{
    const __m256i m = _mm256_set1_epi8((char)mask);
    return (vi){{_mm256_and_si256(_mm256_slli_epi16(a.v[0], shift), m), _mm256_and_si256(_mm256_slli_epi16(a.v[1], shift), m)}};
}

/* Of each byte, moved right by a count that is no constant; bits of another byte may come in. */
INLINE vi shift_right(vi a, int count)
{
    const __m128i n = _mm_cvtsi32_si128(count);
    return (vi){{_mm256_srl_epi16(a.v[0], n), _mm256_srl_epi16(a.v[1], n)}};
}

INLINE vi either(vi a, vi b)
{
    return (vi){{_mm256_or_si256(a.v[0], b.v[0]), _mm256_or_si256(a.v[1], b.v[1])}};
}

/* Of each lane. */
INLINE vi lane_bits(vi a, int shift, int mask)
{
    const __m256i m = _mm256_set1_epi32(mask);
    return (vi){{_mm256_and_si256(_mm256_srli_epi32(a.v[0], shift), m), _mm256_and_si256(_mm256_srli_epi32(a.v[1], shift), m)}};
}

INLINE vi lane_shift_left(vi a, int shift)
{
    return (vi){{_mm256_slli_epi32(a.v[0], shift), _mm256_slli_epi32(a.v[1], shift)}};
}

/* Of each byte, less b. */
INLINE vi minus(vi a, int b)
{
    const __m256i v = _mm256_set1_epi8((char)b);
    return (vi){{_mm256_sub_epi8(a.v[0], v), _mm256_sub_epi8(a.v[1], v)}};
}

/* Bits 4 i to 4 i + 3 of each lane, each to bit 4 of its own byte: byte i / 2 of the lane to all its bytes, where one bit
 * each is looked at. */
INLINE vi spread_to_16(vi a, int i)
{
    const __m256i pick = _mm256_add_epi8(_mm256_set1_epi8((char)(i / 2)),
                                         _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808,
                                                           0x0c0c0c0c));
    const __m256i bit = _mm256_set1_epi32(i % 2 ? (int)0x80402010 : 0x08040201), sixteen = _mm256_set1_epi8(16);
    __m256i b[2] = {_mm256_shuffle_epi8(a.v[0], pick), _mm256_shuffle_epi8(a.v[1], pick)};
    return (vi){{_mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(b[0], bit), bit), sixteen),
                 _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(b[1], bit), bit), sixteen)}};
}

/* table[byte] for bytes of 0..15. */
INLINE vi look_up(const int8_t table[16], vi index)
{
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    return (vi){{_mm256_shuffle_epi8(t, index.v[0]), _mm256_shuffle_epi8(t, index.v[1])}};
}

INLINE vf to_float(vi a)
{
    return (vf){{_mm256_cvtepi32_ps(a.v[0]), _mm256_cvtepi32_ps(a.v[1])}};
}

/* 2^(e - 128) of each lane; 0 for e under 2. */
INLINE vf e8m0_half(vi e)
{
    const __m256i one = _mm256_set1_epi32(1);
    return (vf){{_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_subs_epu16(e.v[0], one), 23)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_subs_epu16(e.v[1], one), 23))}};
}

INLINE vf all(float f)
{
    return (vf){{_mm256_set1_ps(f), _mm256_set1_ps(f)}};
}

INLINE vf times(vf a, vf b)
{
    return (vf){{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}};
}

/* a * b + c */
INLINE vf fma3(vf a, vf b, vf c)
{
    return (vf){{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
}

/* to, with one of its PARTS from another. */
INLINE vf part_of(vf to, vf from, int part)
{
    to.v[part] = from.v[part];
    return to;
}

INLINE float sum_lanes(vf a)
{
    __m256 v = _mm256_add_ps(a.v[0], a.v[1]);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE void store(float *to, vf a)
{
    _mm256_storeu_ps(to, a.v[0]);
    _mm256_storeu_ps(to + 8, a.v[1]);
}

/* ---- products of pairs of 16-bit words ---- */

#define WIDE_TILES 1 /* of MB_ACT_16_TILE tokens that are multiplied at once */

/* sum + the pairs of w times the pair x. In order, for GCC would make all products first and have no registers for the sums. */
INLINE vi dot_pairs(vi sum, vi w, uint32_t x)
{
    const __m256i v = _mm256_set1_epi32((int)x);
    sum.v[0] = _mm256_add_epi32(sum.v[0], _mm256_madd_epi16(w.v[0], v));
    sum.v[1] = _mm256_add_epi32(sum.v[1], _mm256_madd_epi16(w.v[1], v));
    IN_ORDER(sum.v[0]);
    IN_ORDER(sum.v[1]);
    return sum;
}

/* ---- products of bytes ---- */

/* Signed weights as dot_signed() reads them, and the values of IQ4 likewise. */
INLINE vi offset_s8(vi a)
{
    return a;
}

#define values_iq4_nl mb_values_iq4_nl

INLINE vi zero(void)
{
    return (vi){{_mm256_setzero_si256(), _mm256_setzero_si256()}};
}

/* The scale 1. */
INLINE vi one(void)
{
    return (vi){{_mm256_set1_epi16(1), _mm256_set1_epi16(1)}};
}

/* Signed byte i of each lane, as a scale. */
INLINE vi scale_byte(vi a, int i)
{
    /* The byte comes to the upper half of each 16 bits, and the shift brings it down with its sign. */
    const __m256i pick = _mm256_add_epi16(_mm256_set1_epi16((short)(i << 8)),
                                          _mm256_setr_epi32(0x00800080, 0x04800480, 0x08800880, 0x0c800c80, 0x00800080,
                                                            0x04800480, 0x08800880, 0x0c800c80));
    return (vi){{_mm256_srai_epi16(_mm256_shuffle_epi8(a.v[0], pick), 8),
                 _mm256_srai_epi16(_mm256_shuffle_epi8(a.v[1], pick), 8)}};
}

/* Columns 4 i to 4 i + 3 of those at q. */
INLINE vx four(const int8_t *q, int i)
{
    int32_t word;
    memcpy(&word, q + 4 * i, 4);
    return _mm256_set1_epi32(word);
}

/* What the sums of the columns of `part` (0, 1: half of the block, 2: both) start from. */
INLINE vi dot_begin(const struct mb_act_block *x, int part, int centre)
{
    if (!centre)
        return zero();
    __m256i v = _mm256_mullo_epi16(four((const int8_t *)x->pairs[part], 0), _mm256_set1_epi16((short)-centre));
    return (vi){{v, v}};
}

/* sum + unsigned weights w times x, 16 bits wide. */
INLINE vi dot(vi sum, vi w, vx x)
{
    return (vi){{_mm256_add_epi16(sum.v[0], _mm256_maddubs_epi16(w.v[0], x)),
                 _mm256_add_epi16(sum.v[1], _mm256_maddubs_epi16(w.v[1], x))}};
}

/* total + s * sum, the sum of dot(), in lanes. */
INLINE vi dot_end(vi total, vi sum, vi s)
{
    return (vi){{_mm256_add_epi32(total.v[0], _mm256_madd_epi16(sum.v[0], s.v[0])),
                 _mm256_add_epi32(total.v[1], _mm256_madd_epi16(sum.v[1], s.v[1]))}};
}

INLINE __m256i signed_1(__m256i sum, __m256i w, __m256i x, __m256i s)
{
    __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(p, s));
}

/* sum + s times signed weights w times x. */
INLINE vi dot_signed(vi sum, vi w, vx x, vi s)
{
    return (vi){{signed_1(sum.v[0], w.v[0], x, s.v[0]), signed_1(sum.v[1], w.v[1], x, s.v[1])}};
}

/* total + the sum of dot_signed(), in lanes. */
INLINE vi dot_signed_end(vi total, vi sum, vi s)
{
    (void)s;
    return (vi){{_mm256_add_epi32(total.v[0], sum.v[0]), _mm256_add_epi32(total.v[1], sum.v[1])}};
}

#endif
