/* SPDX-License-Identifier: MIT */
/* What the types are like that have no packed order, for matmul_codes.h (AVX2) and matmul_codes_neon.h. Each of them defines
 * struct span_32, the quants and integer scales of 32 columns, float_scales, theirs where scales are no integers, and
 * float_of_half() before this, and after it for each type code_<name>(), and the functions that the table names; matmul_float.h
 * comes before all.
 *
 * A weight is d * s * q: d is a float of a block, s a small integer of 16 columns, q fits in a byte. In NVFP4 s is a float. */
#ifndef MB_CODED_TYPES_H
#define MB_CODED_TYPES_H

/* Indices of a block, in the order of the columns: of points, and of their signs or what else is looked up. */
struct indices {
    uint16_t point[64], sign[32];
};
typedef void index_fn(struct indices *to, const char *at);

/* Columns 32 k to 32 k + 31 of the block at `at`; k is a constant where a loop is unrolled. */
typedef struct span_32 code_fn(const char *at, const struct indices *indices, int k);

/* d of the block. */
typedef float code_d_fn(const char *at);

/* Scales of 32 columns that are no integers, 16 columns in each half. */
typedef float_scales float_scales_fn(const char *at, int k);

/* What a type is like. The compiler sees constants. */
struct code {
    index_fn *index;
    code_fn *span;
    code_d_fn *d;
    float_scales_fn *scales; /* NULL: they are integers */
    int spans;               /* times 32 columns in a block */
    size_t block_bytes;
};

/* X(type, name, index, d, scales, spans) */
#define CODED_TYPES(X)                               \
    X(IQ2_XXS, iq2_xxs, index_none, d_8, NULL, 8)    \
    X(IQ2_XS, iq2_xs, index_none, d_8, NULL, 8)      \
    X(IQ2_S, iq2_s, index_iq2_s, d_8, NULL, 8)       \
    X(IQ3_XXS, iq3_xxs, index_none, d_4, NULL, 8)    \
    X(IQ3_S, iq3_s, index_iq3_s, f16_at, NULL, 8)    \
    X(IQ1_S, iq1_s, index_iq1_s, d_8, NULL, 8)       \
    X(IQ1_M, iq1_m, index_iq1_m, d_iq1_m, NULL, 8)   \
    X(TQ1_0, tq1_0, index_none, d_tq1_0, NULL, 8)    \
    X(TQ2_0, tq2_0, index_none, d_tq2_0, NULL, 8)    \
    X(Q1_0, q1_0, index_none, f16_at, NULL, 4)       \
    X(Q2_0, q2_0, index_none, f16_at, NULL, 2)       \
    X(NVFP4, nvfp4, index_none, d_1, scales_nvfp4, 2)

INLINE void index_none(struct indices *to, const char *at)
{
    (void)to, (void)at;
}

INLINE uint32_t word_at(const void *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

INLINE float f16_at(const char *at)
{
    uint16_t half;
    memcpy(&half, at, 2);
    return float_of_half(half);
}

INLINE float d_8(const char *at)
{
    return f16_at(at) * 0.125f;
}

INLINE float d_4(const char *at)
{
    return f16_at(at) * 0.25f;
}

INLINE float d_iq1_m(const char *at)
{
    const struct mb_block_iq1_m *b = (const void *)at;
    const unsigned half = b->scales[1] >> 4 | (b->scales[3] & 0xf0) | (unsigned)(b->scales[5] & 0xf0) << 4 |
                          (unsigned)(b->scales[7] & 0xf0) << 8;
    return float_of_half((uint16_t)half) * 0.125f;
}

INLINE float d_tq1_0(const char *at)
{
    return f16_at(at + 52);
}

INLINE float d_tq2_0(const char *at)
{
    return f16_at(at + 64);
}

INLINE float d_1(const char *at)
{
    (void)at;
    return 1;
}

/* With f32 activations, through f32. */
static void matmul_dequantized(const struct mb_matmul *op, size_t begin, size_t end)
{
    mb_dequant_fn *dequant = mb_dequant_ref(op->type);
    const struct mb_type_info *info = mb_type_info(op->type);
    if (op->n_tokens > 1) {
        matmul_panels(op, dequant, begin, end);
        return;
    }
    for (size_t r = begin; r < end; r++) {
        float sum = 0;
        for (size_t c = 0; c < op->n_cols; c += info->block_elements) {
            float w[256], part;
            const char *row = (const char *)w;
            dequant(w, (const char *)op->weights + r * op->row_bytes + c / info->block_elements * info->block_bytes,
                    info->block_elements);
            dot_rows(load_f32, 4, mb_dequant_ref(MB_TYPE_F32), &row, 1, (const float *)op->x + c, info->block_elements,
                     &part, 1);
            sum += part;
        }
        op->y[r] = sum;
    }
}

#endif
