/* SPDX-License-Identifier: MIT */
/* Tensor types: the numbers that GGUF files use, the blocks that hold the elements, and the one
 * table of sizes. The sizes are taken by sizeof from the structs below, so that what is counted is
 * what is read. */
#ifndef MB_TYPE_H
#define MB_TYPE_H

#include "membound.h"

/* X(name, number in files, elements per block, C type of one block, bytes per block). The numbers
 * left out belonged to types that ggml removed (4, 5, 31-33, 36-38). The last column only feeds the
 * assertions in type.c. Source of numbers and sizes: ggml, include/ggml.h and src/ggml-common.h
 * (b10573, 2026-08). */
#define MB_TYPES(X)                                  \
    X(F32, 0, 1, float, 4)                           \
    X(F16, 1, 1, uint16_t, 2)                        \
    X(Q4_0, 2, 32, struct mb_block_q4_0, 18)         \
    X(Q4_1, 3, 32, struct mb_block_q4_1, 20)         \
    X(Q5_0, 6, 32, struct mb_block_q5_0, 22)         \
    X(Q5_1, 7, 32, struct mb_block_q5_1, 24)         \
    X(Q8_0, 8, 32, struct mb_block_q8_0, 34)         \
    X(Q8_1, 9, 32, struct mb_block_q8_1, 36)         \
    X(Q2_K, 10, 256, struct mb_block_q2_k, 84)       \
    X(Q3_K, 11, 256, struct mb_block_q3_k, 110)      \
    X(Q4_K, 12, 256, struct mb_block_q4_k, 144)      \
    X(Q5_K, 13, 256, struct mb_block_q5_k, 176)      \
    X(Q6_K, 14, 256, struct mb_block_q6_k, 210)      \
    X(Q8_K, 15, 256, struct mb_block_q8_k, 292)      \
    X(IQ2_XXS, 16, 256, struct mb_block_iq2_xxs, 66) \
    X(IQ2_XS, 17, 256, struct mb_block_iq2_xs, 74)   \
    X(IQ3_XXS, 18, 256, struct mb_block_iq3_xxs, 98) \
    X(IQ1_S, 19, 256, struct mb_block_iq1_s, 50)     \
    X(IQ4_NL, 20, 32, struct mb_block_iq4_nl, 18)    \
    X(IQ3_S, 21, 256, struct mb_block_iq3_s, 110)    \
    X(IQ2_S, 22, 256, struct mb_block_iq2_s, 82)     \
    X(IQ4_XS, 23, 256, struct mb_block_iq4_xs, 136)  \
    X(I8, 24, 1, int8_t, 1)                          \
    X(I16, 25, 1, int16_t, 2)                        \
    X(I32, 26, 1, int32_t, 4)                        \
    X(I64, 27, 1, int64_t, 8)                        \
    X(F64, 28, 1, double, 8)                         \
    X(IQ1_M, 29, 256, struct mb_block_iq1_m, 56)     \
    X(BF16, 30, 1, uint16_t, 2)                      \
    X(TQ1_0, 34, 256, struct mb_block_tq1_0, 54)     \
    X(TQ2_0, 35, 256, struct mb_block_tq2_0, 66)     \
    X(MXFP4, 39, 32, struct mb_block_mxfp4, 17)      \
    X(NVFP4, 40, 64, struct mb_block_nvfp4, 36)      \
    X(Q1_0, 41, 128, struct mb_block_q1_0, 18)       \
    X(Q2_0, 42, 64, struct mb_block_q2_0, 18)

enum mb_type {
#define MB_TYPE_ENUM(name, number, elements, block, bytes) MB_TYPE_##name = (number),
    MB_TYPES(MB_TYPE_ENUM)
#undef MB_TYPE_ENUM
        MB_TYPE_END = 43
};

/* The blocks as they lie in files: little endian, no padding. Scales called d, m, s and dmin are
 * halves (f16) unless the field says otherwise. Q8_1 and Q8_K hold activations at run time; files
 * do not use them. */
struct mb_block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
};
struct mb_block_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
};
struct mb_block_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};
struct mb_block_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};
struct mb_block_q8_0 {
    uint16_t d;
    int8_t qs[32];
};
struct mb_block_q8_1 {
    uint16_t d, s; /* s = d * sum of qs */
    int8_t qs[32];
};
struct mb_block_q2_k {
    uint8_t scales[16]; /* low nibble scale, high nibble minimum */
    uint8_t qs[64];
    uint16_t d, dmin;
};
struct mb_block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};
struct mb_block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12]; /* eight scales and eight minima of 6 bits */
    uint8_t qs[128];
};
struct mb_block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
struct mb_block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};
struct mb_block_q8_k {
    float d;
    int8_t qs[256];
    int16_t sums[16]; /* of 16 qs each */
};
struct mb_block_iq2_xxs {
    uint16_t d;
    uint16_t qs[32];
};
struct mb_block_iq2_xs {
    uint16_t d;
    uint16_t qs[32];
    uint8_t scales[8];
};
struct mb_block_iq2_s {
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8];
    uint8_t scales[8];
};
struct mb_block_iq3_xxs {
    uint16_t d;
    uint8_t qs[96];
};
struct mb_block_iq3_s {
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8];
    uint8_t signs[32];
    uint8_t scales[4];
};
struct mb_block_iq1_s {
    uint16_t d;
    uint8_t qs[32];
    uint16_t qh[8];
};
struct mb_block_iq1_m {
    uint8_t qs[32];
    uint8_t qh[16];
    uint8_t scales[8]; /* the bits of the block's half-precision scale hide in here */
};
struct mb_block_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
};
struct mb_block_iq4_xs {
    uint16_t d;
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};
struct mb_block_tq1_0 {
    uint8_t qs[48]; /* five ternary digits per byte */
    uint8_t qh[4];
    uint16_t d;
};
struct mb_block_tq2_0 {
    uint8_t qs[64];
    uint16_t d;
};
struct mb_block_mxfp4 {
    uint8_t e; /* E8M0: a power of two */
    uint8_t qs[16];
};
struct mb_block_nvfp4 {
    uint8_t d[4]; /* unsigned E4M3, one per 16 elements */
    uint8_t qs[32];
};
struct mb_block_q1_0 {
    uint16_t d;
    uint8_t qs[16];
};
struct mb_block_q2_0 {
    uint16_t d;
    uint8_t qs[16];
};

struct mb_type_info {
    const char *name; /* "Q4_K" */
    uint32_t block_elements;
    uint32_t block_bytes;
    double bpw; /* bits per element */
};

/* The row of the table, or NULL for a number that no type has. */
const struct mb_type_info *mb_type_info(uint32_t type);

/* "Q4_K"; "unknown" for a number that no type has. */
const char *mb_type_name(uint32_t type);

/* The type of that name; case does not matter. MB_OK or MB_ENAME. */
int mb_type_by_name(const char *name, enum mb_type *out);

/* Bytes of a tensor of n_dims (0..4) dimensions; ne[0] is the row, and a row is a whole number of
 * blocks. MB_OK; MB_EINVAL: no such type, or more than 4 dimensions; MB_EFORMAT: the row ends
 * inside a block; MB_ERANGE: more elements or bytes than 2^63-1. out is written only on MB_OK. */
int mb_type_bytes(uint32_t type, const uint64_t ne[4], unsigned n_dims, uint64_t *out_bytes);

#endif
