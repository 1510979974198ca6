/* SPDX-License-Identifier: MIT */
/* Vectors of one 32-bit lane per row of a packed group, for matmul_packed.h and matmul_float.h: AVX-512, one register for 16
 * rows. The file that includes this says WITH_VNNI, 0 or 1, which decides how bytes are multiplied:
 *
 * 1: VPDPBUSD adds four products of unsigned by signed bytes to a lane of 32 bits. Nothing overflows: 32 columns are at most
 * 32 * 255 * 127, about 2^20, and a scale has 8 bits. Signed weights are offset by 128, which the sums start without.
 * VPDPWSSD does the same with two words, for matmul_wide.h.
 *
 * 0: VPMADDUBSW and VPMADDWD, with sums of 16 bits, as lanes_avx2.h explains.
 *
 * Shifts take their count from a register: those by an immediate demand a literal of GCC, and cost the same. */
#ifndef MB_LANES_AVX512_H
#define MB_LANES_AVX512_H

#include "kernels/inline.h"
#include "kernels/interleave_avx2.h"
#include "kernels/kernels.h"

#include <immintrin.h>

#define LANES         16
#define PARTS         1  /* a register has all rows */
#define SUM_BITS      (WITH_VNNI ? 32 : 16) /* of the sums of dot(); 32: none of 32 columns overflows */
/* Tokens that are multiplied at once, MB_ACT_TILE or a multiple: as many sums are added to in turn, for each takes five
 * cycles (VPDPBUSD of Ice Lake; Intel's optimization manual). */
#define TOKENS_AT_ONCE 8
#define FLOAT_TOKENS  8 /* 8 sums; more need more addresses than there are registers for */

typedef __m512i vi; /* 16 x 32 or 64 x 8 bits */
typedef __m512 vf;
typedef __m512i vx; /* four columns of one token, in every lane */

INLINE vi load(const void *at)
{
    return _mm512_loadu_si512(at);
}

INLINE __m256i load_words(const void *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

/* Sixteen f16, bf16 or f32, as f32. */
INLINE vf load_f16(const void *at)
{
    return _mm512_cvtph_ps(load_words(at));
}

INLINE vf load_bf16(const void *at)
{
    return _mm512_castsi512_ps(_mm512_sllv_epi32(_mm512_cvtepu16_epi32(load_words(at)), _mm512_set1_epi32(16)));
}

INLINE vf load_floats(const float *at)
{
    return _mm512_loadu_ps(at);
}

/* Sixteen bytes or 16-bit words, as lanes. */
INLINE vi load_u8(const char *at)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)at));
}

INLINE vi load_u16(const void *at)
{
    return _mm512_cvtepu16_epi32(load_words(at));
}

/* Of each byte, (byte >> shift) & mask, or << for _left; mask has no bit that the shift brings in from another byte. */
INLINE vi bits(vi a, int shift, int mask)
{
    const vi m = _mm512_set1_epi8((char)mask);
    return _mm512_and_si512(shift == 0 ? a : _mm512_srlv_epi16(a, _mm512_set1_epi16((short)shift)), m);
}

INLINE vi bits_left(vi a, int shift, int mask)
{
    return _mm512_and_si512(_mm512_sllv_epi16(a, _mm512_set1_epi16((short)shift)), _mm512_set1_epi8((char)mask));
}

/* Of each byte, moved right by a count that is no constant; bits of another byte may come in. */
INLINE vi shift_right(vi a, int count)
{
    return _mm512_srlv_epi16(a, _mm512_set1_epi16((short)count));
}

INLINE vi either(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

/* Of each lane. */
INLINE vi lane_bits(vi a, int shift, int mask)
{
    return _mm512_and_si512(_mm512_srlv_epi32(a, _mm512_set1_epi32(shift)), _mm512_set1_epi32(mask));
}

INLINE vi lane_shift_left(vi a, int shift)
{
    return _mm512_sllv_epi32(a, _mm512_set1_epi32(shift));
}

/* Of each byte, less b. */
INLINE vi minus(vi a, int b)
{
    return _mm512_sub_epi8(a, _mm512_set1_epi8((char)b));
}

/* Of each lane, the bytes that a lane of `pick` names, of 0..3; 128 is a zero. */
INLINE vi pick_bytes(vi a, int pick)
{
    const __m128i lane = _mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c);
    return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(_mm_add_epi8(_mm_set1_epi32(pick), lane)));
}

/* Bits 4 i to 4 i + 3 of each lane, each to bit 4 of its own byte: byte i / 2 of the lane to all its bytes, where one bit
 * each is looked at. */
INLINE vi spread_to_16(vi a, int i)
{
    const vi bit = _mm512_set1_epi32(i % 2 ? (int)0x80402010 : 0x08040201);
    return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(pick_bytes(a, i / 2 * 0x01010101), bit), _mm512_set1_epi8(16));
}

/* table[byte] for bytes of 0..15. */
INLINE vi look_up(const int8_t table[16], vi index)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), index);
}

INLINE vf to_float(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

/* 2^(e - 128) of each lane; 0 for e under 2. */
INLINE vf e8m0_half(vi e)
{
    return _mm512_castsi512_ps(lane_shift_left(_mm512_subs_epu16(e, _mm512_set1_epi32(1)), 23));
}

INLINE vf all(float f)
{
    return _mm512_set1_ps(f);
}

INLINE vf times(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

/* a * b + c */
INLINE vf fma3(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* to, with one of its PARTS from another. */
INLINE vf part_of(vf to, vf from, int part)
{
    return part == 0 ? from : to;
}

INLINE float sum_lanes(vf a)
{
    __m256 v = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE void store(float *to, vf a)
{
    _mm512_storeu_ps(to, a);
}

/* ---- products of pairs of 16-bit words ---- */

#if WITH_VNNI
#define WIDE_TILES 2 /* of MB_ACT_16_TILE tokens that are multiplied at once: as above */

/* sum + the pairs of w times the pair x. */
INLINE vi dot_pairs(vi sum, vi w, uint32_t x)
{
    sum = _mm512_dpwssd_epi32(sum, w, _mm512_set1_epi32((int)x));
    IN_ORDER(sum); /* GCC would copy every sum twice */
    return sum;
}
#endif

/* ---- products of bytes ---- */

INLINE vi zero(void)
{
    return _mm512_setzero_si512();
}

/* Columns 4 i to 4 i + 3 of those at q. */
INLINE vx four(const int8_t *q, int i)
{
    int32_t word;
    memcpy(&word, q + 4 * i, 4);
    return _mm512_set1_epi32(word);
}

#if WITH_VNNI

#define SIGNED_CENTRE 128 /* what offset_s8() adds to signed weights */

INLINE vi offset_s8(vi a)
{
    return _mm512_xor_si512(a, _mm512_set1_epi8((char)0x80));
}

/* The values of IQ4, with that centre. */
static const int8_t values_iq4_nl[16] = {-127 + 128,    -104 + 128,    -83 + 128,     -65 + 128,
                                         -49 + 128,     -35 + 128,     -22 + 128,     -10 + 128,
                                         1 + 128 - 256, 13 + 128 - 256, 25 + 128 - 256, 38 + 128 - 256,
                                         53 + 128 - 256, 69 + 128 - 256, 89 + 128 - 256, 113 + 128 - 256};

/* The scale 1, which the compiler does not multiply by. */
INLINE vi one(void)
{
    return _mm512_set1_epi32(1);
}

/* Signed byte i of each lane, as a scale: in the upper byte, and down with its sign. */
INLINE vi scale_byte(vi a, int i)
{
    return _mm512_srav_epi32(pick_bytes(a, (int)0x00808080 | i << 24), _mm512_set1_epi32(24));
}

/* What the sums of the columns of `part` (0, 1: half of the block, 2: both) start from. */
INLINE vi dot_begin(const struct mb_act_block *x, int part, int centre)
{
    return centre ? _mm512_madd_epi16(four((const int8_t *)x->pairs[part], 0), _mm512_set1_epi16((short)-centre)) : zero();
}

/* sum + unsigned weights w times x, in lanes. */
INLINE vi dot(vi sum, vi w, vx x)
{
    return _mm512_dpbusd_epi32(sum, w, x);
}

/* total + s * sum, the sum of dot(). */
INLINE vi dot_end(vi total, vi sum, vi s)
{
    return _mm512_add_epi32(total, _mm512_mullo_epi32(sum, s));
}

/* sum + signed weights w (as offset) times x. */
INLINE vi dot_signed(vi sum, vi w, vx x, vi s)
{
    (void)s;
    return dot(sum, w, x);
}

/* total + s * sum, the sum of dot_signed(). */
INLINE vi dot_signed_end(vi total, vi sum, vi s)
{
    return dot_end(total, sum, s);
}

#else

#define SIGNED_CENTRE 0 /* signed weights stay signed */
#define values_iq4_nl mb_values_iq4_nl

INLINE vi offset_s8(vi a)
{
    return a;
}

/* The scale 1. */
INLINE vi one(void)
{
    return _mm512_set1_epi16(1);
}

/* Signed byte i of each lane, as a scale, twice in its lane: in upper bytes, and down with its sign. */
INLINE vi scale_byte(vi a, int i)
{
    return _mm512_srav_epi16(pick_bytes(a, 0x00800080 | i << 8 | i << 24), _mm512_set1_epi16(8));
}

/* What the sums of the columns of `part` (0, 1: half of the block, 2: both) start from. */
INLINE vi dot_begin(const struct mb_act_block *x, int part, int centre)
{
    return centre ? _mm512_mullo_epi16(four((const int8_t *)x->pairs[part], 0), _mm512_set1_epi16((short)-centre)) : zero();
}

/* sum + unsigned weights w times x, 16 bits wide. */
INLINE vi dot(vi sum, vi w, vx x)
{
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, x));
}

/* total + s * sum, the sum of dot(), in lanes. */
INLINE vi dot_end(vi total, vi sum, vi s)
{
    return _mm512_add_epi32(total, _mm512_madd_epi16(sum, s));
}

/* sum + s times signed weights w times x: their sign goes to x. */
INLINE vi dot_signed(vi sum, vi w, vx x, vi s)
{
    vi signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), zero(), x);
    return dot_end(sum, _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x), s);
}

/* total + the sum of dot_signed(), in lanes. */
INLINE vi dot_signed_end(vi total, vi sum, vi s)
{
    (void)s;
    return _mm512_add_epi32(total, sum);
}

#endif

#endif
