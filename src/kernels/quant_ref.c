/* SPDX-License-Identifier: MIT */
/* Reading and writing rows, the reference: one function per block, in the words of the format. Source of the layouts: ggml,
 * src/ggml-common.h and src/ggml-quants.c (b10573). The rows of one type are read by the loop that DEQUANT makes. */
#include "kernels/quant.h"

#include <assert.h>
#include <math.h>

const int8_t mb_values_iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t mb_values_e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float mb_f32_of_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    if (exponent == 31) /* infinity, or a NaN, which becomes a quiet one */
        return mb_f32_of_bits(sign | 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0));
    if (exponent == 0) /* zero or denormal: mantissa * 2^-24, exact */
        return mb_f32_of_bits(sign | mb_bits_of_f32((float)mantissa * 0x1p-24f));
    return mb_f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t mb_f16_of_f32(float f)
{
    uint32_t bits = mb_bits_of_f32(f), sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x477ff000) /* 65520 and more */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) /* under 2^-14: adding 0.5 leaves the multiple of 2^-24 in the last bits, rounded by the FPU */
        return (uint16_t)(sign | (mb_bits_of_f32(mb_f32_of_bits(bits) + 0.5f) - 0x3f000000));
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000) >> 13);
}

uint16_t mb_bf16_of_f32(float f)
{
    uint32_t bits = mb_bits_of_f32(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* ---- floats ---- */

static void dequant_f32(float *to, const void *from, size_t n)
{
    memcpy(to, from, n * sizeof *to);
}

static void dequant_f16(float *to, const void *from, size_t n)
{
    const uint16_t *half = from;
    for (size_t i = 0; i < n; i++)
        to[i] = mb_f32_of_f16(half[i]);
}

static void dequant_bf16(float *to, const void *from, size_t n)
{
    const uint16_t *bf16 = from;
    for (size_t i = 0; i < n; i++)
        to[i] = mb_f32_of_bf16(bf16[i]);
}

/* ---- blocks of 32: column i is the low, i + 16 the high nibble of byte i ---- */

static void q4_0(float *to, const struct mb_block_q4_0 *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 16; i++) {
        to[i] = d * (float)((b->qs[i] & 15) - 8);
        to[i + 16] = d * (float)((b->qs[i] >> 4) - 8);
    }
}

static void q4_1(float *to, const struct mb_block_q4_1 *b)
{
    float d = mb_f32_of_f16(b->d), m = mb_f32_of_f16(b->m);
    for (int i = 0; i < 16; i++) {
        to[i] = d * (float)(b->qs[i] & 15) + m;
        to[i + 16] = d * (float)(b->qs[i] >> 4) + m;
    }
}

/* The fifth bit of column i is bit i of qh. */
static int fifth(const uint8_t *qh, int i)
{
    return (qh[i / 8] >> i % 8 & 1) << 4;
}

static void q5_0(float *to, const struct mb_block_q5_0 *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 16; i++) {
        to[i] = d * (float)(((b->qs[i] & 15) | fifth(b->qh, i)) - 16);
        to[i + 16] = d * (float)((b->qs[i] >> 4 | fifth(b->qh, i + 16)) - 16);
    }
}

static void q5_1(float *to, const struct mb_block_q5_1 *b)
{
    float d = mb_f32_of_f16(b->d), m = mb_f32_of_f16(b->m);
    for (int i = 0; i < 16; i++) {
        to[i] = d * (float)((b->qs[i] & 15) | fifth(b->qh, i)) + m;
        to[i + 16] = d * (float)(b->qs[i] >> 4 | fifth(b->qh, i + 16)) + m;
    }
}

static void q8_0(float *to, const struct mb_block_q8_0 *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 32; i++)
        to[i] = d * (float)b->qs[i];
}

static void iq4_nl(float *to, const struct mb_block_iq4_nl *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 16; i++) {
        to[i] = d * (float)mb_values_iq4_nl[b->qs[i] & 15];
        to[i + 16] = d * (float)mb_values_iq4_nl[b->qs[i] >> 4];
    }
}

static void mxfp4(float *to, const struct mb_block_mxfp4 *b)
{
    float d = mb_f32_of_e8m0_half(b->e);
    for (int i = 0; i < 16; i++) {
        to[i] = d * (float)mb_values_e2m1[b->qs[i] & 15];
        to[i + 16] = d * (float)mb_values_e2m1[b->qs[i] >> 4];
    }
}

/* Unsigned E4M3 with bias 7, halved because the E2M1 values are doubled; 0x7f, its NaN, counts as 0. The top bit is ignored. */
static float half_of_ue4m3(uint8_t e4m3)
{
    int exponent = e4m3 >> 3 & 15, mantissa = e4m3 & 7;
    if (e4m3 == 0x7f)
        return 0;
    return 0.5f * (exponent ? ldexpf(1 + (float)mantissa / 8, exponent - 7) : ldexpf((float)mantissa, -9));
}

static void nvfp4(float *to, const struct mb_block_nvfp4 *b)
{
    for (int k = 0; k < 4; k++) {
        float d = half_of_ue4m3(b->d[k]);
        for (int i = 0; i < 8; i++) {
            to[16 * k + i] = d * (float)mb_values_e2m1[b->qs[8 * k + i] & 15];
            to[16 * k + i + 8] = d * (float)mb_values_e2m1[b->qs[8 * k + i] >> 4];
        }
    }
}

static void q1_0(float *to, const struct mb_block_q1_0 *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 128; i++)
        to[i] = b->qs[i / 8] >> i % 8 & 1 ? d : -d;
}

static void q2_0(float *to, const struct mb_block_q2_0 *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 64; i++)
        to[i] = d * (float)((b->qs[i / 4] >> 2 * (i % 4) & 3) - 1);
}

/* ---- blocks of 256 ---- */

/* Scale (low nibble) and minimum (high) of 16 elements; element 128 k + 32 j + i is bits 2 j of byte 32 k + i. */
static void q2_k(float *to, const struct mb_block_q2_k *b)
{
    float d = mb_f32_of_f16(b->d), dmin = mb_f32_of_f16(b->dmin);
    for (int i = 0; i < 256; i++) {
        float scale = d * (float)(b->scales[i / 16] & 15), min = dmin * (float)(b->scales[i / 16] >> 4);
        int q = b->qs[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3;
        to[i] = scale * (float)q - min;
    }
}

/* Scale i of 16 has 6 bits, less 32: its low four are nibble i / 8 of byte i % 8, its high two are bits 2 (i / 4) of byte
 * 8 + i % 4. Elements are as in Q2_K, their third bit is bit i / 32 of byte i % 32 of hmask; where it is 0, 4 is taken off. */
static void q3_k(float *to, const struct mb_block_q3_k *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 256; i++) {
        int s = i / 16;
        int scale = (b->scales[s % 8] >> 4 * (s / 8) & 15) | (b->scales[8 + s % 4] >> 2 * (s / 4) & 3) << 4;
        int q = (b->qs[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3) - (b->hmask[i % 32] >> i / 32 & 1 ? 0 : 4);
        to[i] = d * (float)(scale - 32) * (float)q;
    }
}

/* Scale and minimum i of 8, six bits each, in 12 bytes: those of 0..3 are the low bits of bytes i and i + 4, whose top two
 * bits are the high bits of scale and minimum i + 4; their low nibbles share byte i + 8. */
static void scale_min_k4(const uint8_t *scales, int i, int *scale, int *min)
{
    if (i < 4) {
        *scale = scales[i] & 63;
        *min = scales[i + 4] & 63;
    } else {
        *scale = (scales[i + 4] & 15) | scales[i - 4] >> 6 << 4;
        *min = scales[i + 4] >> 4 | scales[i] >> 6 << 4;
    }
}

/* Element 64 k + i is the low, 64 k + 32 + i the high nibble of byte 32 k + i. */
static void q4_k(float *to, const struct mb_block_q4_k *b)
{
    float d = mb_f32_of_f16(b->d), dmin = mb_f32_of_f16(b->dmin);
    for (int i = 0; i < 256; i++) {
        int scale, min, q = b->qs[i / 64 * 32 + i % 32] >> 4 * (i / 32 % 2) & 15;
        scale_min_k4(b->scales, i / 32, &scale, &min);
        to[i] = d * (float)scale * (float)q - dmin * (float)min;
    }
}

/* As Q4_K; the fifth bit of element i is bit i / 32 of byte i % 32 of qh. */
static void q5_k(float *to, const struct mb_block_q5_k *b)
{
    float d = mb_f32_of_f16(b->d), dmin = mb_f32_of_f16(b->dmin);
    for (int i = 0; i < 256; i++) {
        int scale, min, q = (b->qs[i / 64 * 32 + i % 32] >> 4 * (i / 32 % 2) & 15) | (b->qh[i % 32] >> i / 32 & 1) << 4;
        scale_min_k4(b->scales, i / 32, &scale, &min);
        to[i] = d * (float)scale * (float)q - dmin * (float)min;
    }
}

/* Element 128 k + 64 j + i (i < 64): nibble j of byte 64 k + i of ql; its high two bits are bits 4 j + 2 (i / 32) of byte
 * 32 k + i % 32 of qh. */
static void q6_k(float *to, const struct mb_block_q6_k *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 256; i++) {
        int low = b->ql[i / 128 * 64 + i % 64] >> 4 * (i / 64 % 2) & 15;
        int high = b->qh[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3;
        to[i] = d * (float)b->scales[i / 16] * (float)((low | high << 4) - 32);
    }
}

static void iq4_xs(float *to, const struct mb_block_iq4_xs *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int k = 0; k < 8; k++) {
        int scale = (b->scales_l[k / 2] >> 4 * (k % 2) & 15) | (b->scales_h >> 2 * k & 3) << 4;
        float dl = d * (float)(scale - 32);
        for (int i = 0; i < 16; i++) {
            to[32 * k + i] = dl * (float)mb_values_iq4_nl[b->qs[16 * k + i] & 15];
            to[32 * k + i + 16] = dl * (float)mb_values_iq4_nl[b->qs[16 * k + i] >> 4];
        }
    }
}

/* Five ternary digits per byte: the byte is digits / 243 * 256, rounded up, so that multiplying by 3 moves the next digit into
 * bits 8 and 9. 32 bytes hold elements 0..159, 16 bytes 160..239, four bytes (four digits each) the rest. */
static void tq1_0(float *to, const struct mb_block_tq1_0 *b)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 256; i++) {
        uint8_t byte = i < 160   ? (uint8_t)(b->qs[i % 32] * powers[i / 32])
                       : i < 240 ? (uint8_t)(b->qs[32 + i % 16] * powers[(i - 160) / 16])
                                 : (uint8_t)(b->qh[i % 4] * powers[(i - 240) / 4]);
        to[i] = d * (float)((byte * 3 >> 8) - 1);
    }
}

static void tq2_0(float *to, const struct mb_block_tq2_0 *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int i = 0; i < 256; i++)
        to[i] = d * (float)((b->qs[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3) - 1);
}

/* ---- codebooks ---- */

/* n elements (8 or 4) of a point: magnitudes, and signs of 1 or -1, a byte each. */
static inline void put_point(float *to, float d, uint64_t point, int n, uint64_t signs)
{
    for (int i = 0; i < n; i++)
        to[i] = d * (float)((int8_t)(point >> 8 * i) * (int8_t)(signs >> 8 * i));
}

/* Such signs of eight bits: seven of them as the table has them, but for the eighth. */
static inline uint64_t signs_of(unsigned bits)
{
    const uint64_t top = 0xffull << 56;
    return (mb_signs_even[bits & 127] & ~top) | (bits & 128 ? top : 1ull << 56);
}

/* Per 32 elements two words: four indices of 8 bits; four signs of 7 bits and a scale of 4. */
static void iq2_xxs(float *to, const struct mb_block_iq2_xxs *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int k = 0; k < 8; k++) {
        const uint16_t *qs = b->qs + 4 * k;
        uint32_t word = qs[2] | (uint32_t)qs[3] << 16;
        float db = d * (0.5f + (float)(word >> 28)) * 0.25f;
        for (int j = 0; j < 4; j++)
            put_point(to + 32 * k + 8 * j, db, mb_grid_iq2_xxs[qs[j / 2] >> 8 * (j % 2) & 255], 8,
                      mb_signs_even[word >> 7 * j & 127]);
    }
}

static void iq2_xs(float *to, const struct mb_block_iq2_xs *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int k = 0; k < 32; k++) {
        float db = d * (0.5f + (float)(b->scales[k / 4] >> 4 * (k / 2 % 2) & 15)) * 0.25f;
        put_point(to + 8 * k, db, mb_grid_iq2_xs[b->qs[k] & 511], 8, mb_signs_even[b->qs[k] >> 9]);
    }
}

/* qs: 32 indices (their high two bits in qh), then 32 bytes of signs. */
static void iq2_s(float *to, const struct mb_block_iq2_s *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int k = 0; k < 32; k++) {
        float db = d * (0.5f + (float)(b->scales[k / 4] >> 4 * (k / 2 % 2) & 15)) * 0.25f;
        unsigned index = b->qs[k] | (b->qh[k / 4] >> 2 * (k % 4) & 3u) << 8;
        put_point(to + 8 * k, db, mb_grid_iq2_s[index], 8, signs_of(b->qs[32 + k]));
    }
}

/* qs: 64 indices of points of 4, then per 32 elements a word: four signs of 7 bits and a scale of 4. */
static void iq3_xxs(float *to, const struct mb_block_iq3_xxs *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int k = 0; k < 8; k++) {
        uint32_t word;
        memcpy(&word, b->qs + 64 + 4 * k, 4);
        float db = d * (0.5f + (float)(word >> 28)) * 0.5f;
        for (int j = 0; j < 8; j++)
            put_point(to + 32 * k + 4 * j, db, mb_grid_iq3_xxs[b->qs[8 * k + j]], 4,
                      mb_signs_even[word >> 7 * (j / 2) & 127] >> 32 * (j % 2));
    }
}

static void iq3_s(float *to, const struct mb_block_iq3_s *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int k = 0; k < 64; k++) {
        float db = d * (float)(1 + 2 * (b->scales[k / 16] >> 4 * (k / 8 % 2) & 15));
        unsigned index = b->qs[k] | (b->qh[k / 8] >> k % 8 & 1u) << 8;
        put_point(to + 4 * k, db, mb_grid_iq3_s[index], 4, signs_of(b->signs[k / 2] >> 4 * (k % 2) & 15));
    }
}

/* Eight elements: -1, 0 or 1, all moved by delta. */
static void put_ternary(float *to, float d, uint64_t point, float delta)
{
    for (int i = 0; i < 8; i++)
        to[i] = d * ((float)(int8_t)(point >> 8 * i & 255) / 8 + delta);
}

static void iq1_s(float *to, const struct mb_block_iq1_s *b)
{
    float d = mb_f32_of_f16(b->d);
    for (int k = 0; k < 32; k++) {
        unsigned qh = b->qh[k / 4];
        float dl = d * (float)(2 * (qh >> 12 & 7) + 1);
        put_ternary(to + 8 * k, dl, mb_grid_iq1_s[b->qs[k] | (qh >> 3 * (k % 4) & 7) << 8], qh & 0x8000 ? -0.125f : 0.125f);
    }
}

/* Four words of scales: 3 bits for each 16 elements, and in the top nibbles the f16 scale of the block. */
static void iq1_m(float *to, const struct mb_block_iq1_m *b)
{
    uint16_t words[4];
    for (int i = 0; i < 4; i++)
        words[i] = (uint16_t)(b->scales[2 * i] | b->scales[2 * i + 1] << 8);
    float d = mb_f32_of_f16(
        (uint16_t)(words[0] >> 12 | (words[1] >> 8 & 0xf0) | (words[2] >> 4 & 0xf00) | (words[3] & 0xf000)));
    for (int k = 0; k < 32; k++) {
        float dl = d * (float)(2 * (words[k / 8] >> 3 * (k / 2 % 4) & 7) + 1);
        unsigned qh = b->qh[k / 2] >> 4 * (k % 2);
        put_ternary(to + 8 * k, dl, mb_grid_iq1_s[b->qs[k] | (qh & 7) << 8], qh & 8 ? -0.125f : 0.125f);
    }
}

/* X(name in type.h, name here, elements per block) */
#define BLOCKS(X)                                                                                                      \
    X(Q4_0, q4_0, 32) X(Q4_1, q4_1, 32) X(Q5_0, q5_0, 32) X(Q5_1, q5_1, 32) X(Q8_0, q8_0, 32) X(Q2_K, q2_k, 256)       \
    X(Q3_K, q3_k, 256) X(Q4_K, q4_k, 256) X(Q5_K, q5_k, 256) X(Q6_K, q6_k, 256) X(IQ2_XXS, iq2_xxs, 256)               \
    X(IQ2_XS, iq2_xs, 256) X(IQ3_XXS, iq3_xxs, 256) X(IQ1_S, iq1_s, 256) X(IQ4_NL, iq4_nl, 32) X(IQ3_S, iq3_s, 256)    \
    X(IQ2_S, iq2_s, 256) X(IQ4_XS, iq4_xs, 256) X(IQ1_M, iq1_m, 256) X(TQ1_0, tq1_0, 256) X(TQ2_0, tq2_0, 256)         \
    X(MXFP4, mxfp4, 32) X(NVFP4, nvfp4, 64) X(Q1_0, q1_0, 128) X(Q2_0, q2_0, 64)

#define DEQUANT(TYPE, name, elements)                                   \
    static void dequant_##name(float *to, const void *from, size_t n)   \
    {                                                                   \
        assert(n % (elements) == 0);                                    \
        const struct mb_block_##name *block = from;                     \
        for (size_t i = 0; i < n / (elements); i++)                     \
            name(to + i * (elements), block + i);                       \
    }
BLOCKS(DEQUANT)
#undef DEQUANT

mb_dequant_fn *mb_dequant_ref(uint32_t type)
{
    static mb_dequant_fn *const table[MB_TYPE_END] = {
        [MB_TYPE_F32] = dequant_f32, [MB_TYPE_F16] = dequant_f16, [MB_TYPE_BF16] = dequant_bf16,
#define ROW(TYPE, name, elements) [MB_TYPE_##TYPE] = dequant_##name,
        BLOCKS(ROW)
#undef ROW
    };
    return type < MB_TYPE_END ? table[type] : NULL;
}

int mb_quant_reads(uint32_t type)
{
    return mb_dequant_ref(type) != NULL;
}

/* ---- writing ---- */

/* The largest magnitude of 32, 0 if it is too small to divide by, a NaN if it is not finite. */
static float largest_of(const float *from)
{
    uint32_t largest = 0;
    for (int i = 0; i < 32; i++) {
        uint32_t bits = mb_bits_of_f32(from[i]) & 0x7fffffff; /* a NaN is larger than anything */
        largest = bits > largest ? bits : largest;
    }
    float max = mb_f32_of_bits(largest);
    if (max >= 0x1p-100f && max < INFINITY)
        return max;
    return max < 1 ? 0 : NAN;
}

float mb_quant_8(int8_t *to, const float *from)
{
    float max = largest_of(from), inverse = 127 / max;
    for (int i = 0; i < 32; i++)
        to[i] = max > 0 ? (int8_t)nearbyintf(from[i] * inverse) : 0;
    return max / 127;
}

float mb_quant_16(int16_t *to, const float *from)
{
    float max = largest_of(from), inverse = MB_QUANT_16_MAX / max;
    for (int i = 0; i < 32; i++)
        to[i] = max > 0 ? (int16_t)nearbyintf(from[i] * inverse) : 0;
    return max / MB_QUANT_16_MAX;
}

static void store_f32(void *to, const float *from, size_t n)
{
    memcpy(to, from, n * sizeof *from);
}

static void store_f16(void *to, const float *from, size_t n)
{
    uint16_t *half = to;
    for (size_t i = 0; i < n; i++)
        half[i] = mb_f16_of_f32(from[i]);
}

static void store_bf16(void *to, const float *from, size_t n)
{
    uint16_t *bf16 = to;
    for (size_t i = 0; i < n; i++)
        bf16[i] = mb_bf16_of_f32(from[i]);
}

static void store_q8_0(void *to, const float *from, size_t n)
{
    assert(n % 32 == 0);
    struct mb_block_q8_0 *block = to;
    for (size_t b = 0; b < n / 32; b++, from += 32)
        block[b].d = mb_f16_of_f32(mb_quant_8(block[b].qs, from));
}

mb_store_fn *mb_store_ref(uint32_t type)
{
    return type == MB_TYPE_F32    ? store_f32
           : type == MB_TYPE_F16  ? store_f16
           : type == MB_TYPE_BF16 ? store_bf16
           : type == MB_TYPE_Q8_0 ? store_q8_0
                                  : NULL;
}
