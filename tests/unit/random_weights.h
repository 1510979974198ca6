/* SPDX-License-Identifier: MIT */
/* Random numbers and rows of weights for suites and benches: seeded, every pattern of quants, scales as they are in models. */
#ifndef MB_TEST_RANDOM_WEIGHTS_H
#define MB_TEST_RANDOM_WEIGHTS_H

#include "kernels/quant.h"

static inline uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

#define SEED 88172645463325252u

static inline void fill_random(void *to, size_t n, uint64_t *x)
{
    uint8_t *byte = to;
    for (; n; n -= n < 8 ? n : 8, byte += 8) {
        uint64_t word = next_random(x);
        memcpy(byte, &word, n < 8 ? n : 8);
    }
}

/* -1 .. 1 */
static inline float random_float(uint64_t *x)
{
    return (float)(int32_t)next_random(x) * 0x1p-31f;
}

/* About normal, as activations are. */
static inline void fill_floats(float *to, size_t n, uint64_t *x)
{
    for (size_t i = 0; i < n; i++)
        to[i] = random_float(x) + random_float(x) + random_float(x);
}

/* Where the f16 scales of a block are; at most two. */
struct scale_places {
    uint8_t n, at[2];
};

static inline struct scale_places scales_of(uint32_t type)
{
    switch (type) {
    case MB_TYPE_Q4_1:
    case MB_TYPE_Q5_1:
    case MB_TYPE_Q4_K:
    case MB_TYPE_Q5_K:
        return (struct scale_places){2, {0, 2}};
    case MB_TYPE_Q2_K:
        return (struct scale_places){2, {80, 82}};
    case MB_TYPE_Q3_K:
        return (struct scale_places){1, {108}};
    case MB_TYPE_Q6_K:
        return (struct scale_places){1, {208}};
    case MB_TYPE_TQ1_0:
        return (struct scale_places){1, {52}};
    case MB_TYPE_TQ2_0:
        return (struct scale_places){1, {64}};
    case MB_TYPE_F32:
    case MB_TYPE_F16:
    case MB_TYPE_BF16:
    case MB_TYPE_MXFP4:
    case MB_TYPE_NVFP4:
    case MB_TYPE_IQ1_M:
        return (struct scale_places){0};
    default:
        return (struct scale_places){1, {0}};
    }
}

/* n elements of random weights: all patterns of quants, scales of about `scale` and either sign. */
static inline void fill_weights(uint32_t type, void *to, size_t n, float scale, uint64_t *x)
{
    const struct mb_type_info *info = mb_type_info(type);
    uint8_t *block = to;
    for (size_t i = 0; i < n / info->block_elements; i++, block += info->block_bytes) {
        fill_random(block, info->block_bytes, x);
        float f = scale * (random_float(x) + 0.1f);
        if (type == MB_TYPE_F32 || type == MB_TYPE_F16 || type == MB_TYPE_BF16)
            mb_store_ref(type)(block, &f, 1);
        for (unsigned k = 0; k < scales_of(type).n; k++) {
            f = scale * (random_float(x) + 0.1f);
            mb_store_ref(MB_TYPE_F16)(block + scales_of(type).at[k], &f, 1);
        }
        if (type == MB_TYPE_MXFP4)
            block[0] = (uint8_t)(120 + block[0] % 8);
        for (unsigned k = 0; type == MB_TYPE_NVFP4 && k < 4; k++)
            block[k] &= 0x3f;
        if (type == MB_TYPE_IQ1_M) /* the top nibble of its scale: small exponents */
            block[55] = (uint8_t)((block[55] & 0x0f) | 0x20);
    }
}

#endif
