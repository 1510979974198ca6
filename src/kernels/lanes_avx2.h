/* SPDX-License-Identifier: MIT */
/* Vectors of one 32-bit lane per row of a packed group, for matmul_packed.h: AVX2, eight rows.
 *
 * Products of bytes: VPMADDUBSW multiplies unsigned by signed bytes and adds pairs into 16 bits, saturating. Activations are at
 * most 127, so for weights up to 15 the pairs of 32 columns, 8 * 2 * 15 * 127 = 30480, add up in 16 bits; up to 31 those of 16
 * columns do, up to 63 those of 8. Signed weights, up to 128, lend their sign to the activation, and no two pairs add up. */
#ifndef MB_LANES_AVX2_H
#define MB_LANES_AVX2_H

#include "kernels/inline.h"
#include "kernels/kernels.h"

#include <immintrin.h>

#define LANES        8
#define FLOAT_TOKENS 6 /* 12 sums, 2 vectors of weights and an activation fit 16 registers */
#define S8_OFFSET 0 /* what is added to signed weights before dot16() and dot32() */

typedef __m256i vi; /* 8 x 32 or 32 x 8 bits */
typedef __m256 vf;

enum range { U4, U5, U6, S8 }; /* weights up to 15, 31, 63; -128..127 */

INLINE vi load(const void *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

/* Eight f16, as f32. */
INLINE vf load_f16(const void *at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at));
}

INLINE vf load_bf16(const void *at)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at)), 16));
}

INLINE vf load_floats(const void *at)
{
    return _mm256_loadu_ps(at);
}

/* Eight bytes, signed bytes or 16-bit words, as 32-bit lanes. */
INLINE vi load_u8(const void *at)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at));
}

INLINE vi load_i8(const void *at)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)at));
}

INLINE vi load_u16(const void *at)
{
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at));
}

/* Of each byte, (byte >> shift) & mask, or << for _left; mask has no bit that the shift brings in from another byte. */
INLINE vi bits(vi v, int shift, int mask)
{
    return _mm256_and_si256(shift ? _mm256_srli_epi16(v, shift) : v, _mm256_set1_epi8((char)mask));
}

INLINE vi bits_left(vi v, int shift, int mask)
{
    return _mm256_and_si256(shift ? _mm256_slli_epi16(v, shift) : v, _mm256_set1_epi8((char)mask));
}

/* Of each lane. */
INLINE vi lane_bits(vi v, int shift, int mask)
{
    return _mm256_and_si256(_mm256_srli_epi32(v, shift), _mm256_set1_epi32(mask));
}

INLINE vi lane_shift_left(vi v, int shift)
{
    return _mm256_slli_epi32(v, shift);
}

INLINE vi lane_add(vi a, int b)
{
    return _mm256_add_epi32(a, _mm256_set1_epi32(b));
}

/* The low four bits of each lane, bit i into bit 4 of byte i. */
INLINE vi spread_to_16(vi four_bits)
{
    return _mm256_and_si256(_mm256_mullo_epi32(four_bits, _mm256_set1_epi32(0x02040810)), _mm256_set1_epi8(16));
}

INLINE vi either(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}

/* table[byte] for bytes of 0..15. */
INLINE vi look_up(const int8_t table[16], vi index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table)), index);
}

INLINE vf to_float(vi v)
{
    return _mm256_cvtepi32_ps(v);
}

/* 2^(e - 128) of each lane; 0 for e under 2. */
INLINE vf e8m0_half(vi e)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_subs_epu16(e, _mm256_set1_epi32(1)), 23));
}

INLINE vf all(float f)
{
    return _mm256_set1_ps(f);
}

INLINE vf times(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vf plus(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

INLINE float sum_lanes(vf v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* a * b + c */
INLINE vf fma3(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE void store(float *to, vf v)
{
    _mm256_storeu_ps(to, v);
}

/* Signed weights as dot16() and dot32() read them. */
INLINE vi offset_s8(vi v)
{
    return v;
}

#define values_iq4_nl mb_values_iq4_nl

/* Eight words of eight rows: vector i of the result has word i of every row. */
INLINE void transpose(vi *v)
{
    vi a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; k++) {
            b[i + 2 * k] = _mm256_unpacklo_epi64(a[i + k], a[i + k + 2]);
            b[i + 2 * k + 1] = _mm256_unpackhi_epi64(a[i + k], a[i + k + 2]);
        }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* Interleave as many as possible of n words of eight rows; returns how many. */
INLINE size_t interleave_words(char *to, const char *const *from, size_t n)
{
    size_t done = 0;
    vi v[8];
    for (; done + 8 <= n; done += 8) {
        for (int i = 0; i < 8; i++)
            v[i] = load(from[i] + 4 * done);
        transpose(v);
        for (int i = 0; i < 8; i++)
            _mm256_storeu_si256((vi *)(to + 32 * (done + (size_t)i)), v[i]);
    }
    if (done + 4 <= n) {
        for (int i = 0; i < 8; i++)
            v[i] = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(from[i] + 4 * done)));
        transpose(v);
        for (int i = 0; i < 4; i++)
            _mm256_storeu_si256((vi *)(to + 32 * (done + (size_t)i)), v[i]);
        done += 4;
    }
    return done;
}

/* Sixteen bytes of eight rows. */
INLINE void interleave_16_bytes(char *to, const char *const *from)
{
    __m128i v[8], a[8];
    for (int i = 0; i < 8; i++)
        v[i] = _mm_loadu_si128((const __m128i *)(const void *)from[i]);
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm_unpacklo_epi8(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm_unpackhi_epi8(v[2 * i], v[2 * i + 1]);
    }
    for (int half = 0; half < 2; half++) { /* bytes 0 to 7, then 8 to 15: rows 0 1, 2 3, 4 5, 6 7 in pairs */
        __m128i lo0 = _mm_unpacklo_epi16(a[half], a[half + 2]), hi0 = _mm_unpackhi_epi16(a[half], a[half + 2]);
        __m128i lo1 = _mm_unpacklo_epi16(a[half + 4], a[half + 6]), hi1 = _mm_unpackhi_epi16(a[half + 4], a[half + 6]);
        __m128i out[4] = {_mm_unpacklo_epi32(lo0, lo1), _mm_unpackhi_epi32(lo0, lo1), _mm_unpacklo_epi32(hi0, hi1),
                          _mm_unpackhi_epi32(hi0, hi1)};
        for (int i = 0; i < 4; i++)
            _mm_storeu_si128((__m128i *)(void *)(to + 64 * half + 16 * i), out[i]);
    }
}

/* Activations of four columns in every lane. */
INLINE vi four(const int8_t *q, int i)
{
    int32_t word;
    memcpy(&word, q + 4 * i, 4);
    return _mm256_set1_epi32(word);
}

/* Sum over 16 columns of w * q per lane; w[i] holds columns 4 i to 4 i + 3 of every row. */
INLINE vi dot16(const vi *w, const int8_t *q, enum range range)
{
    const vi ones = _mm256_set1_epi16(1);
    vi p[4];
    for (int i = 0; i < 4; i++) {
        vi x = four(q, i);
        p[i] = range == S8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[i]), _mm256_sign_epi8(x, w[i]))
                           : _mm256_maddubs_epi16(w[i], x);
    }
    if (range == S8) {
        for (int i = 0; i < 4; i++)
            p[i] = _mm256_madd_epi16(p[i], ones);
        return _mm256_add_epi32(_mm256_add_epi32(p[0], p[1]), _mm256_add_epi32(p[2], p[3]));
    }
    vi a = _mm256_add_epi16(p[0], p[1]), b = _mm256_add_epi16(p[2], p[3]);
    if (range == U6)
        return _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
    return _mm256_madd_epi16(_mm256_add_epi16(a, b), ones);
}

/* The same over 32 columns. */
INLINE vi dot32(const vi *w, const int8_t *q, enum range range)
{
    if (range != U4)
        return _mm256_add_epi32(dot16(w, q, range), dot16(w + 4, q + 16, range));
    vi sum = _mm256_maddubs_epi16(w[0], four(q, 0));
    for (int i = 1; i < 8; i++)
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[i], four(q, i)));
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

#endif
