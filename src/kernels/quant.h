/* SPDX-License-Identifier: MIT */
/* Quantized rows: what their bits mean. A row is n elements in n / block_elements blocks, as it lies in a GGUF file; n is a
 * multiple of block_elements. Rows are aligned as the C type of their block (type.h): 4 bytes at most. Scales that are not
 * finite give elements that are not finite; no bit pattern is undefined.
 *
 * Every type of type.h but the integers (I8 to I64), F64, Q8_1 and Q8_K can be read; mb_quant_reads() says so. */
#ifndef MB_KERNELS_QUANT_H
#define MB_KERNELS_QUANT_H

#include "model/type.h"

#include <stddef.h>
#include <string.h>

/* to[i] = element i of the row.
 *   to    [n]  f32
 *   from  [n]  one type, file order
 * The reference is exact: it performs the operations of the format's definition in f32, in that order, so it equals what
 * the Python package gguf computes, bit for bit. Faster levels: equal but for the sign of zeros. Reads n / block_elements *
 * block_bytes, writes 4 n. */
typedef void mb_dequant_fn(float *to, const void *from, size_t n);

/* The row of one type that is nearest to from[n], for the KV cache and for tests.
 *   F32, F16 (nearest even; over 65519 becomes infinite), BF16 (nearest even)
 *   Q8_0: per 32 elements d = f16(max |x| / 127), q = x * (127 / max |x|), rounded to nearest even. A block that holds
 *         a NaN or an infinity gets a NaN for d; one whose max |x| is under 2^-100 becomes zeros.
 * Equal bit for bit on every level but for the payload of NaNs. */
typedef void mb_store_fn(void *to, const float *from, size_t n);

/* Can rows of the type be read: is there a mb_dequant_fn? */
int mb_quant_reads(uint32_t type);

/* The references; NULL where there is none. */
mb_dequant_fn *mb_dequant_ref(uint32_t type);
mb_store_fn *mb_store_ref(uint32_t type);

/* ---- single numbers ---- */

static inline float mb_f32_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t mb_bits_of_f32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float mb_f32_of_f16(uint16_t half);
uint16_t mb_f16_of_f32(float f);

static inline float mb_f32_of_bf16(uint16_t bf16)
{
    return mb_f32_of_bits((uint32_t)bf16 << 16);
}

uint16_t mb_bf16_of_f32(float f);

/* 2^(e - 128): an E8M0 scale, halved because the E2M1 values below are doubled. */
static inline float mb_f32_of_e8m0_half(uint8_t e)
{
    return mb_f32_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* 32 elements to 8 bits: q[i] = x[i] * (127 / max |x|), rounded to nearest even; returns the scale max |x| / 127. A NaN or an
 * infinity among them: zeros, and NaN. max |x| under 2^-100: zeros, and 0. */
float mb_quant_8(int8_t *to, const float *from);

/* The same to 14 bits: q[i] = x[i] * (8191 / max |x|); returns max |x| / 8191. Sums of 32 products of two such numbers fit in
 * 32 bits: 32 * 8191^2 < 2^31. */
#define MB_QUANT_16_MAX 8191
float mb_quant_16(int16_t *to, const float *from);

/* ---- tables of the formats ---- */

extern const int8_t mb_values_iq4_nl[16]; /* IQ4_NL, IQ4_XS */
extern const int8_t mb_values_e2m1[16];   /* MXFP4, NVFP4: twice the value */

/* Codebooks: points of 8 elements (IQ3: 4), a byte each, the first in the lowest bits. IQ1: signed, in eighths. */
extern const uint64_t mb_grid_iq2_xxs[256], mb_grid_iq2_xs[512], mb_grid_iq2_s[1024], mb_grid_iq1_s[2048];
extern const uint32_t mb_grid_iq3_xxs[256], mb_grid_iq3_s[512];

/* Signs of 8 elements that 7 bits name: the eighth makes the number of negative ones even. 1 or -1 in each byte. */
extern const uint64_t mb_signs_even[128];

#endif
