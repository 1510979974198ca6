/* SPDX-License-Identifier: MIT */
/* Matrix products of the types that have no packed order, with 8-bit activations, as matmul_codes.h has them for AVX2: a row is
 * walked as it lies in the file. Needs lanes_neon.h and matmul_float.h before it.
 *
 * Quants are signed bytes of at most 62. Integers stay integers for 32 columns: SDOT adds four products of bytes to a lane of 32
 * bits; without it four products fit in 16 bits, 4 * 62 * 127 < 2^15. Times scales of at most 31 that is far from 2^31. */
#ifndef MB_MATMUL_CODES_NEON_H
#define MB_MATMUL_CODES_NEON_H

/* Signed quants, and the scales of the first and of the last 16 columns. */
struct span_32 {
    vi q;
    int s[2];
    int is_one_scale; /* both are the same; a constant */
};

/* Of the first and of the last 16 columns. */
typedef struct {
    float of[2];
} float_scales;

INLINE float float_of_half(uint16_t half)
{
    __fp16 f;
    memcpy(&f, &half, sizeof f);
    return (float)f;
}

#include "kernels/coded_types.h"

#define TILE_ROWS 64 /* that stay in the cache while tokens pass by, a tile at a time */

/* ---- types ---- */

INLINE struct span_32 span_of(vi q, int s)
{
    return (struct span_32){q, {s, s}, 1};
}

INLINE struct span_32 span_of_halves(vi q, int first, int last)
{
    return (struct span_32){q, {first, last}, 0};
}

INLINE struct span_32 span_iq2(vi q, const uint8_t *scales, int k)
{
    return span_of_halves(q, (scales[k] & 15) * 2 + 1, (scales[k] >> 4) * 2 + 1);
}

/* Magnitudes times 1 or -1. */
INLINE vi with_signs(vi size, vi sign)
{
    return (vi){{vmulq_s8(size.v[0], sign.v[0]), vmulq_s8(size.v[1], sign.v[1])}};
}

INLINE int8x16_t two_points(const uint64_t *a, const uint64_t *b)
{
    return vreinterpretq_s8_u64(vcombine_u64(vld1_u64(a), vld1_u64(b)));
}

INLINE vi four_points(const uint64_t *table, unsigned a, unsigned b, unsigned c, unsigned d)
{
    return (vi){{two_points(table + a, table + b), two_points(table + c, table + d)}};
}

INLINE vi look_up_4(const uint64_t *table, const uint16_t *index)
{
    return four_points(table, index[0], index[1], index[2], index[3]);
}

INLINE int8x16_t four_halves(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    return vreinterpretq_s8_u32((uint32x4_t){a, b, c, d});
}

/* The signs of four times seven bits, from the lowest on. */
INLINE vi signs_of_28(uint32_t bits)
{
    return four_points(mb_signs_even, bits & 127, bits >> 7 & 127, bits >> 14 & 127, bits >> 21 & 127);
}

/* 1, or -1 where a bit of two bytes is set, from byte `first` on. */
INLINE int8x16_t signs_of_16(uint32_t bits, uint8_t first)
{
    static const uint8_t byte[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint8x16_t bytes = vqtbl1q_u8(vreinterpretq_u8_u32(vdupq_n_u32(bits)), vaddq_u8(vld1q_u8(byte), vdupq_n_u8(first)));
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    return vreinterpretq_s8_u8(vorrq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(1)));
}

INLINE vi signs_of_32(uint32_t bits)
{
    return (vi){{signs_of_16(bits, 0), signs_of_16(bits, 2)}};
}

/* Pairs of bits of four of eight bytes, from byte `first` on, each in a byte of its own. */
INLINE uint8x16_t pairs_of_bits(const void *at, int first)
{
    static const uint8_t byte[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    const uint8x16_t v = vcombine_u8(vld1_u8(at), vdup_n_u8(0)), pick = vaddq_u8(vld1q_u8(byte), vdupq_n_u8((uint8_t)first));
    const int8x16_t right = vreinterpretq_s8_u32(vdupq_n_u32(0xfafcfe00)); /* 0, -2, -4, -6 */
    return vandq_u8(vshlq_u8(vqtbl1q_u8(v, pick), right), vdupq_n_u8(3));
}

/* 16 indices of their low and high bytes. */
INLINE void store_points(uint16_t *to, const uint8_t *low, uint8x16_t high)
{
    const uint8x16_t v = vld1q_u8(low);
    vst1q_u16(to, vreinterpretq_u16_u8(vzip1q_u8(v, high)));
    vst1q_u16(to + 8, vreinterpretq_u16_u8(vzip2q_u8(v, high)));
}

INLINE struct span_32 code_iq2_xxs(const char *at, const struct indices *indices, int k)
{
    const uint8_t *index = (const uint8_t *)at + 2 + 8 * k;
    const uint32_t word = word_at(index + 4);
    (void)indices;
    const vi size = four_points(mb_grid_iq2_xxs, index[0], index[1], index[2], index[3]);
    return span_of(with_signs(size, signs_of_28(word)), (int)(word >> 28) * 2 + 1);
}

INLINE struct span_32 code_iq2_xs(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq2_xs *b = (const void *)at;
    const uint16_t *qs = b->qs + 4 * k;
    (void)indices;
    const vi size = four_points(mb_grid_iq2_xs, qs[0] & 511, qs[1] & 511, qs[2] & 511, qs[3] & 511);
    const vi sign = four_points(mb_signs_even, qs[0] >> 9, qs[1] >> 9, qs[2] >> 9, qs[3] >> 9);
    return span_iq2(with_signs(size, sign), b->scales, k);
}

/* The high two bits of four points share a byte. */
INLINE void index_iq2_s(struct indices *to, const char *at)
{
    const struct mb_block_iq2_s *b = (const void *)at;
    for (int i = 0; i < 32; i += 16)
        store_points(to->point + i, b->qs + i, pairs_of_bits(b->qh, i / 4));
}

INLINE struct span_32 code_iq2_s(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq2_s *b = (const void *)at;
    const vi size = look_up_4(mb_grid_iq2_s, indices->point + 4 * k);
    return span_iq2(with_signs(size, signs_of_32(word_at(b->qs + 32 + 4 * k))), b->scales, k);
}

INLINE struct span_32 code_iq3_xxs(const char *at, const struct indices *indices, int k)
{
    const uint8_t *index = (const uint8_t *)at + 2 + 8 * k;
    const uint32_t *grid = mb_grid_iq3_xxs, word = word_at(at + 66 + 4 * k);
    (void)indices;
    const vi size = {{four_halves(grid[index[0]], grid[index[1]], grid[index[2]], grid[index[3]]),
                      four_halves(grid[index[4]], grid[index[5]], grid[index[6]], grid[index[7]])}};
    return span_of(with_signs(size, signs_of_28(word)), (int)(word >> 28) * 2 + 1);
}

/* The ninth bits of eight points share a byte. */
INLINE void index_iq3_s(struct indices *to, const char *at)
{
    const struct mb_block_iq3_s *b = (const void *)at;
    for (int i = 0; i < 64; i += 16) {
        const uint8x16_t bytes = vcombine_u8(vdup_n_u8(b->qh[i / 8]), vdup_n_u8(b->qh[i / 8 + 1]));
        const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
        store_points(to->point + i, b->qs + i, vandq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(1)));
    }
}

INLINE struct span_32 code_iq3_s(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq3_s *b = (const void *)at;
    const uint32_t *grid = mb_grid_iq3_s;
    const uint16_t *index = indices->point + 8 * k;
    const vi size = {{four_halves(grid[index[0]], grid[index[1]], grid[index[2]], grid[index[3]]),
                      four_halves(grid[index[4]], grid[index[5]], grid[index[6]], grid[index[7]])}};
    return span_of(with_signs(size, signs_of_32(word_at(b->signs + 4 * k))), (b->scales[k / 2] >> 4 * (k % 2) & 15) * 2 + 1);
}

/* The high three bits of four points are in a word of 16 bits: it comes to all four, and moves until theirs are bits 8 to 10. */
INLINE void index_iq1_s(struct indices *to, const char *at)
{
    static const int16_t left[8] = {8, 5, 2, -1, 8, 5, 2, -1};
    const struct mb_block_iq1_s *b = (const void *)at;
    for (int i = 0; i < 32; i += 8) {
        const uint16x8_t words = vcombine_u16(vdup_n_u16(b->qh[i / 4]), vdup_n_u16(b->qh[i / 4 + 1]));
        const uint16x8_t high = vandq_u16(vshlq_u16(words, vld1q_s16(left)), vdupq_n_u16(0x700));
        vst1q_u16(to->point + i, vorrq_u16(high, vmovl_u8(vld1_u8(b->qs + i))));
    }
}

/* In eighths: points are multiples of 8, and all move by one up or down. */
INLINE struct span_32 code_iq1_s(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq1_s *b = (const void *)at;
    const vi q = look_up_4(mb_grid_iq1_s, indices->point + 4 * k);
    return span_of(minus(q, b->qh[k] & 0x8000 ? 1 : -1), (b->qh[k] >> 12 & 7) * 2 + 1);
}

/* Nibbles: three high bits of a point, and whether it moves down. */
INLINE void index_iq1_m(struct indices *to, const char *at)
{
    const struct mb_block_iq1_m *b = (const void *)at;
    const uint8x16_t v = vld1q_u8(b->qh), low = vandq_u8(v, vdupq_n_u8(7)), high = vandq_u8(v >> 4, vdupq_n_u8(7));
    store_points(to->point, b->qs, vzip1q_u8(low, high));
    store_points(to->point + 16, b->qs + 16, vzip2q_u8(low, high));
}

INLINE struct span_32 code_iq1_m(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq1_m *b = (const void *)at;
    const int s = (b->scales[k / 2 * 2] | b->scales[k / 2 * 2 + 1] << 8) >> 6 * (k % 2);
    const uint8x16_t bit = vreinterpretq_u8_u64(vcombine_u64(vdup_n_u64(0x0808080808080808), vdup_n_u64(0x8080808080808080)));
    vi q = look_up_4(mb_grid_iq1_s, indices->point + 4 * k);
    for (int h = 0; h < 2; h++) {
        const uint8x16_t move = vorrq_u8(vtstq_u8(vdupq_n_u8(b->qh[2 * k + h]), bit), vdupq_n_u8(1));
        q.v[h] = vaddq_s8(q.v[h], vreinterpretq_s8_u8(move));
    }
    return span_of_halves(q, (s & 7) * 2 + 1, (s >> 3 & 7) * 2 + 1);
}

/* A digit of each byte: times 3^digit it is digits / 243 * 256 from there on, in thirds of 256 the first one. */
INLINE int8x16_t ternary(uint8x16_t bytes, uint8x16_t power)
{
    const uint8x16_t v = vmulq_u8(bytes, power);
    const uint8x16_t from_1 = vcgtq_u8(v, vdupq_n_u8(85)), from_2 = vcgtq_u8(v, vdupq_n_u8(170)); /* -1 where it is true */
    return vreinterpretq_s8_u8(vsubq_u8(vsubq_u8(vdupq_n_u8(255), from_1), from_2));
}

INLINE struct span_32 code_tq1_0(const char *at, const struct indices *indices, int k)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81}, of_four[16] = {1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27};
    const uint8_t *qs = (const uint8_t *)at;
    (void)indices;
    if (k < 5) {
        const uint8x16_t power = vdupq_n_u8(powers[k]);
        return span_of((vi){{ternary(vld1q_u8(qs), power), ternary(vld1q_u8(qs + 16), power)}}, 1);
    }
    const int8x16_t more = ternary(vld1q_u8(qs + 32), vdupq_n_u8(powers[2 * k - 10]));
    if (k < 7)
        return span_of((vi){{more, ternary(vld1q_u8(qs + 32), vdupq_n_u8(powers[2 * k - 9]))}}, 1);
    /* 16 bytes have a fifth digit, and the last four bytes have four digits. */
    const uint8x16_t last = vreinterpretq_u8_u32(vdupq_n_u32(word_at(qs + 48)));
    return span_of((vi){{more, ternary(last, vld1q_u8(of_four))}}, 1);
}

INLINE struct span_32 code_tq2_0(const char *at, const struct indices *indices, int k)
{
    (void)indices;
    return span_of(minus(bits(load(at + k / 4 * 32), k % 4 * 2, 3), 1), 1);
}

/* A bit is set where the weight is d, not -d. */
INLINE struct span_32 code_q1_0(const char *at, const struct indices *indices, int k)
{
    (void)indices;
    return span_of(signs_of_32(~word_at(at + 2 + 4 * k)), 1);
}

INLINE struct span_32 code_q2_0(const char *at, const struct indices *indices, int k)
{
    const char *qs = at + 2 + 8 * k;
    (void)indices;
    return span_of(minus((vi){{vreinterpretq_s8_u8(pairs_of_bits(qs, 0)), vreinterpretq_s8_u8(pairs_of_bits(qs, 4))}}, 1), 1);
}

/* Eight bytes are 16 columns: the low nibbles, then the high ones. */
INLINE struct span_32 code_nvfp4(const char *at, const struct indices *indices, int k)
{
    const uint8x16_t v = vld1q_u8((const uint8_t *)at + 4 + 16 * k);
    const int64x2_t low = vreinterpretq_s64_u8(vandq_u8(v, vdupq_n_u8(15))), high = vreinterpretq_s64_u8(v >> 4);
    (void)indices;
    return span_of(look_up(mb_values_e2m1, (vi){{vreinterpretq_s8_s64(vzip1q_s64(low, high)),
                                                 vreinterpretq_s8_s64(vzip2q_s64(low, high))}}), 1);
}

/* E4M3 as the upper bits of an f32, whose exponent is 120 too small; 0x7f counts as 0, and all are halved. */
INLINE float half_of_e4m3(uint8_t e4m3)
{
    return mb_f32_of_bits((e4m3 == 0x7f ? 0 : e4m3 & 0x7fu) << 20) * 0x1p119f;
}

INLINE float_scales scales_nvfp4(const char *at, int k)
{
    const uint8_t *d = (const uint8_t *)at + 2 * k;
    return (float_scales){{half_of_e4m3(d[0]), half_of_e4m3(d[1])}};
}

/* ---- products ---- */

#if defined(__ARM_FEATURE_DOTPROD)

INLINE int32x4_t dot_16(int8x16_t q, int8x16_t x)
{
    return vdotq_s32(vdupq_n_s32(0), q, x);
}

INLINE int32x4_t dot_32(vi q, vi x)
{
    return vdotq_s32(dot_16(q.v[0], x.v[0]), q.v[1], x.v[1]);
}

#else

INLINE int16x8_t products_of_16(int8x16_t q, int8x16_t x)
{
    return vmlal_high_s8(vmull_s8(vget_low_s8(q), vget_low_s8(x)), q, x);
}

INLINE int32x4_t dot_16(int8x16_t q, int8x16_t x)
{
    return vpaddlq_s16(products_of_16(q, x));
}

INLINE int32x4_t dot_32(vi q, vi x)
{
    const int16x8_t v = vmlal_s8(products_of_16(q.v[0], x.v[0]), vget_low_s8(q.v[1]), vget_low_s8(x.v[1]));
    return vpaddlq_s16(vmlal_high_s8(v, q.v[1], x.v[1]));
}

#endif

/* total + scales * (32 columns times x). */
INLINE float32x4_t add_code(float32x4_t total, struct span_32 span, const float_scales *scales, const struct mb_act_block *x)
{
    const vi v = load(x->q);
    float32x4_t sum;
    if (scales) {
        sum = vmulq_n_f32(vcvtq_f32_s32(dot_16(span.q.v[0], v.v[0])), scales->of[0]);
        sum = vfmaq_n_f32(sum, vcvtq_f32_s32(dot_16(span.q.v[1], v.v[1])), scales->of[1]);
    } else if (span.is_one_scale) {
        sum = vcvtq_f32_s32(dot_32(span.q, v) * span.s[0]);
    } else {
        const int32x4_t first = dot_16(span.q.v[0], v.v[0]) * span.s[0];
        sum = vcvtq_f32_s32(first + dot_16(span.q.v[1], v.v[1]) * span.s[1]);
    }
    return vfmaq_n_f32(total, sum, x->d);
}

/* Rows [begin, end) times n tokens (a constant) of one tile. */
INLINE void multiply_codes(const struct mb_matmul *op, size_t begin, size_t end, const struct mb_act_block *x, size_t n, float *y,
                           struct code code)
{
    const size_t n_blocks = op->n_cols / 32 / (size_t)code.spans;
    for (size_t r = begin; r < end; r++) {
        const char *at = (const char *)op->weights + r * op->row_bytes;
        const struct mb_act_block *here = x;
        float32x4_t sum[MB_ACT_TILE];
        struct indices indices[2];
        for (size_t t = 0; t < n; t++)
            sum[t] = vdupq_n_f32(0);
        code.index(&indices[0], at);
        for (size_t b = 0; b < n_blocks; b++, at += code.block_bytes) {
            float32x4_t total[MB_ACT_TILE];
            code.index(&indices[(b + 1) % 2], b + 1 < n_blocks ? at + code.block_bytes : at); /* to be there in time */
            IN_MEMORY(indices); /* loads are cheaper than taking them from registers */
            for (size_t t = 0; t < n; t++)
                total[t] = vdupq_n_f32(0);
            UNROLL
            for (int k = 0; k < code.spans; k++, here += n) {
                const struct span_32 span = code.span(at, &indices[b % 2], k);
                const float_scales scales = code.scales ? code.scales(at, k) : (float_scales){{0, 0}};
                for (size_t t = 0; t < n; t++)
                    total[t] = add_code(total[t], span, code.scales ? &scales : NULL, here + t);
            }
            const float d = code.d(at);
            for (size_t t = 0; t < n; t++)
                sum[t] = vfmaq_n_f32(sum[t], total[t], d);
        }
        for (size_t t = 0; t < n; t++)
            y[t * op->y_stride + r] = vaddvq_f32(sum[t]);
    }
}

/* All tokens, tile by tile. */
INLINE void multiply_code_tiles(const struct mb_matmul *op, size_t begin, size_t end, struct code code)
{
    for (size_t t = 0; t < op->n_tokens; t += MB_ACT_TILE) {
        const struct mb_act_block *x = (const struct mb_act_block *)op->x + mb_act_at(op->n_cols / 32, op->n_tokens, 0, t);
        float *y = op->y + t * op->y_stride;
        switch (op->n_tokens - t) {
        case 1: multiply_codes(op, begin, end, x, 1, y, code); break;
        case 2: multiply_codes(op, begin, end, x, 2, y, code); break;
        case 3: multiply_codes(op, begin, end, x, 3, y, code); break;
        default: multiply_codes(op, begin, end, x, MB_ACT_TILE, y, code);
        }
    }
}

#define CODED(TYPE, name, index, d, floats, spans)                                                                     \
    static const struct code coded_as_##name = {index, code_##name, d, floats, spans, sizeof(struct mb_block_##name)}; \
    static void coded_##name(const struct mb_matmul *op, size_t begin, size_t end)                                     \
    {                                                                                                                  \
        if (op->act == MB_ACT_F32)                                                                                     \
            matmul_dequantized(op, begin, end);                                                                        \
        else                                                                                                           \
            for (size_t r = begin; r < end; r += TILE_ROWS)                                                            \
                multiply_code_tiles(op, r, end - r < TILE_ROWS ? end : r + TILE_ROWS, coded_as_##name);                \
    }
CODED_TYPES(CODED)
#undef CODED

static void add_codes(struct mb_kernels *kernels)
{
#define ROW(TYPE, name, index, d, scales, spans)    \
    kernels->matmul[MB_TYPE_##TYPE] = coded_##name; \
    kernels->few[MB_TYPE_##TYPE] = kernels->many[MB_TYPE_##TYPE] = MB_ACT_Q8;
    CODED_TYPES(ROW)
#undef ROW
}

#endif
