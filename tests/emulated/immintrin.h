/* SPDX-License-Identifier: MIT */
/* Stands before the compiler's <immintrin.h> where the AVX-512 kernels are compiled for a CPU without AVX-512, so that their
 * tests run on any x86-64 with AVX2. A register of 512 bits is two of 256, and an instruction is two of AVX2, which the CPU
 * itself carries out: nothing here crosses the halves. What AVX2 lacks (masks, VPDPBUSD, VPDPWSSD, shifts of 16-bit words by words) is
 * written out from Intel's description of it (Intel SDM volume 2). Only what src/kernels uses; that it is fast is not tried. */
#ifndef MB_TEST_IMMINTRIN_H
#define MB_TEST_IMMINTRIN_H

#include_next <immintrin.h>

#include <stdint.h>
#include <string.h>

typedef struct {
    __m256i half[2];
} emulated_i;

typedef struct {
    __m256 half[2];
} emulated_f;

#define __m512i emulated_i
#define __m512  emulated_f

/* _mm512_<name>: one AVX2 instruction for each half. */
#define EMULATE_1(name, TO, FROM, instruction)                                \
    static inline TO emulated_##name(FROM a)                                  \
    {                                                                         \
        return (TO){{instruction(a.half[0]), instruction(a.half[1])}};        \
    }
#define EMULATE_2(name, TYPE, instruction)                                                    \
    static inline TYPE emulated_##name(TYPE a, TYPE b)                                        \
    {                                                                                         \
        return (TYPE){{instruction(a.half[0], b.half[0]), instruction(a.half[1], b.half[1])}}; \
    }
#define EMULATE_SET(name, TYPE, FROM, instruction)          \
    static inline TYPE emulated_##name(FROM a)              \
    {                                                       \
        return (TYPE){{instruction(a), instruction(a)}};    \
    }

EMULATE_1(abs_epi8, emulated_i, emulated_i, _mm256_abs_epi8)
EMULATE_1(castsi512_ps, emulated_f, emulated_i, _mm256_castsi256_ps)
EMULATE_1(cvtepi32_ps, emulated_f, emulated_i, _mm256_cvtepi32_ps)
EMULATE_2(add_epi16, emulated_i, _mm256_add_epi16)
EMULATE_2(add_epi32, emulated_i, _mm256_add_epi32)
EMULATE_2(and_si512, emulated_i, _mm256_and_si256)
EMULATE_2(madd_epi16, emulated_i, _mm256_madd_epi16)
EMULATE_2(maddubs_epi16, emulated_i, _mm256_maddubs_epi16)
EMULATE_2(mul_ps, emulated_f, _mm256_mul_ps)
EMULATE_2(mullo_epi16, emulated_i, _mm256_mullo_epi16)
EMULATE_2(mullo_epi32, emulated_i, _mm256_mullo_epi32)
EMULATE_2(or_si512, emulated_i, _mm256_or_si256)
EMULATE_2(shuffle_epi8, emulated_i, _mm256_shuffle_epi8)
EMULATE_2(sllv_epi32, emulated_i, _mm256_sllv_epi32)
EMULATE_2(srav_epi32, emulated_i, _mm256_srav_epi32)
EMULATE_2(srlv_epi32, emulated_i, _mm256_srlv_epi32)
EMULATE_2(sub_epi8, emulated_i, _mm256_sub_epi8)
EMULATE_2(subs_epu16, emulated_i, _mm256_subs_epu16)
EMULATE_2(xor_si512, emulated_i, _mm256_xor_si256)
EMULATE_SET(broadcast_i32x4, emulated_i, __m128i, _mm256_broadcastsi128_si256)
EMULATE_SET(set1_epi16, emulated_i, short, _mm256_set1_epi16)
EMULATE_SET(set1_epi32, emulated_i, int, _mm256_set1_epi32)
EMULATE_SET(set1_epi8, emulated_i, char, _mm256_set1_epi8)
EMULATE_SET(set1_ps, emulated_f, float, _mm256_set1_ps)

static inline emulated_f emulated_fmadd_ps(emulated_f a, emulated_f b, emulated_f c)
{
    return (emulated_f){{_mm256_fmadd_ps(a.half[0], b.half[0], c.half[0]), _mm256_fmadd_ps(a.half[1], b.half[1], c.half[1])}};
}

static inline emulated_i emulated_setzero_si512(void)
{
    return emulated_set1_epi32(0);
}

/* ---- memory, and between widths ---- */

static inline emulated_i emulated_loadu_si512(const void *at)
{
    emulated_i a;
    memcpy(&a, at, sizeof a);
    return a;
}

static inline emulated_f emulated_loadu_ps(const float *at)
{
    emulated_f a;
    memcpy(&a, at, sizeof a);
    return a;
}

static inline void emulated_storeu_ps(float *to, emulated_f a)
{
    memcpy(to, &a, sizeof a);
}

static inline emulated_f emulated_cvtph_ps(__m256i a)
{
    return (emulated_f){{_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))}};
}

static inline emulated_i emulated_cvtepu16_epi32(__m256i a)
{
    return (emulated_i){{_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)),
                         _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1))}};
}

static inline emulated_i emulated_cvtepu8_epi32(__m128i a)
{
    return (emulated_i){{_mm256_cvtepu8_epi32(a), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(a, a))}};
}

static inline __m256 emulated_castps512_ps256(emulated_f a)
{
    return a.half[0];
}

static inline __m256 emulated_extractf32x8_ps(emulated_f a, int i)
{
    return a.half[i & 1];
}

/* ---- what AVX2 lacks ---- */

/* Counts of 16 and more leave zeros, or copies of the sign. */
#define EMULATE_SHIFT(name, WORD, beyond, shifted)            \
    static inline emulated_i emulated_##name(emulated_i a, emulated_i b) \
    {                                                               \
        WORD v[32];                                                 \
        uint16_t n[32];                                             \
        memcpy(v, &a, sizeof v);                                    \
        memcpy(n, &b, sizeof n);                                    \
        for (int i = 0; i < 32; i++)                                \
            v[i] = (WORD)(n[i] > 15 ? (beyond) : (shifted));        \
        memcpy(&a, v, sizeof v);                                    \
        return a;                                                   \
    }
EMULATE_SHIFT(srlv_epi16, uint16_t, 0, v[i] >> n[i])
EMULATE_SHIFT(sllv_epi16, uint16_t, 0, v[i] << n[i])
EMULATE_SHIFT(srav_epi16, int16_t, v[i] >> 15, v[i] >> n[i])

/* Two products of signed words of a and b to each lane of sum. */
static inline emulated_i emulated_dpwssd_epi32(emulated_i sum, emulated_i a, emulated_i b)
{
    return emulated_add_epi32(sum, emulated_madd_epi16(a, b));
}

/* Four products of unsigned bytes of a with signed ones of b to each lane of sum, modulo 2^32. */
static inline emulated_i emulated_dpbusd_epi32(emulated_i sum, emulated_i a, emulated_i b)
{
    uint32_t lanes[16];
    uint8_t u[64];
    int8_t s[64];
    memcpy(lanes, &sum, sizeof lanes);
    memcpy(u, &a, sizeof u);
    memcpy(s, &b, sizeof s);
    for (int i = 0; i < 16; i++) {
        int32_t add = 0;
        for (int k = 4 * i; k < 4 * i + 4; k++)
            add += u[k] * s[k];
        lanes[i] += (uint32_t)add;
    }
    memcpy(&sum, lanes, sizeof lanes);
    return sum;
}

static inline uint64_t emulated_movepi8_mask(emulated_i a)
{
    return (uint32_t)_mm256_movemask_epi8(a.half[0]) | (uint64_t)(uint32_t)_mm256_movemask_epi8(a.half[1]) << 32;
}

static inline uint64_t emulated_test_epi8_mask(emulated_i a, emulated_i b)
{
    uint8_t v[64];
    uint64_t mask = 0;
    a = emulated_and_si512(a, b);
    memcpy(v, &a, sizeof v);
    for (int i = 0; i < 64; i++)
        mask |= (uint64_t)(v[i] != 0) << i;
    return mask;
}

/* Bytes of a where the mask has ones, else of other. */
static inline emulated_i emulated_choose(emulated_i other, uint64_t mask, emulated_i a)
{
    uint8_t v[64], to[64];
    memcpy(v, &a, sizeof v);
    memcpy(to, &other, sizeof to);
    for (int i = 0; i < 64; i++)
        to[i] = mask >> i & 1 ? v[i] : to[i];
    memcpy(&other, to, sizeof to);
    return other;
}

static inline emulated_i emulated_maskz_mov_epi8(uint64_t mask, emulated_i a)
{
    return emulated_choose(emulated_setzero_si512(), mask, a);
}

static inline emulated_i emulated_mask_sub_epi8(emulated_i other, uint64_t mask, emulated_i a, emulated_i b)
{
    return emulated_choose(other, mask, emulated_sub_epi8(a, b));
}

#undef _mm512_extractf32x8_ps /* of those with an immediate, compilers make macros */
#define _mm512_abs_epi8        emulated_abs_epi8
#define _mm512_add_epi16       emulated_add_epi16
#define _mm512_add_epi32       emulated_add_epi32
#define _mm512_and_si512       emulated_and_si512
#define _mm512_broadcast_i32x4 emulated_broadcast_i32x4
#define _mm512_castps512_ps256 emulated_castps512_ps256
#define _mm512_castsi512_ps    emulated_castsi512_ps
#define _mm512_cvtepi32_ps     emulated_cvtepi32_ps
#define _mm512_cvtepu16_epi32  emulated_cvtepu16_epi32
#define _mm512_cvtepu8_epi32   emulated_cvtepu8_epi32
#define _mm512_cvtph_ps        emulated_cvtph_ps
#define _mm512_dpbusd_epi32    emulated_dpbusd_epi32
#define _mm512_dpwssd_epi32    emulated_dpwssd_epi32
#define _mm512_extractf32x8_ps emulated_extractf32x8_ps
#define _mm512_fmadd_ps        emulated_fmadd_ps
#define _mm512_loadu_ps        emulated_loadu_ps
#define _mm512_loadu_si512     emulated_loadu_si512
#define _mm512_madd_epi16      emulated_madd_epi16
#define _mm512_maddubs_epi16   emulated_maddubs_epi16
#define _mm512_mask_sub_epi8   emulated_mask_sub_epi8
#define _mm512_maskz_mov_epi8  emulated_maskz_mov_epi8
#define _mm512_movepi8_mask    emulated_movepi8_mask
#define _mm512_mul_ps          emulated_mul_ps
#define _mm512_mullo_epi16     emulated_mullo_epi16
#define _mm512_mullo_epi32     emulated_mullo_epi32
#define _mm512_or_si512        emulated_or_si512
#define _mm512_set1_epi16      emulated_set1_epi16
#define _mm512_set1_epi32      emulated_set1_epi32
#define _mm512_set1_epi8       emulated_set1_epi8
#define _mm512_set1_ps         emulated_set1_ps
#define _mm512_setzero_si512   emulated_setzero_si512
#define _mm512_shuffle_epi8    emulated_shuffle_epi8
#define _mm512_sllv_epi16      emulated_sllv_epi16
#define _mm512_sllv_epi32      emulated_sllv_epi32
#define _mm512_srav_epi16      emulated_srav_epi16
#define _mm512_srav_epi32      emulated_srav_epi32
#define _mm512_srlv_epi16      emulated_srlv_epi16
#define _mm512_srlv_epi32      emulated_srlv_epi32
#define _mm512_storeu_ps       emulated_storeu_ps
#define _mm512_sub_epi8        emulated_sub_epi8
#define _mm512_subs_epu16      emulated_subs_epu16
#define _mm512_test_epi8_mask  emulated_test_epi8_mask
#define _mm512_xor_si512       emulated_xor_si512

#endif
