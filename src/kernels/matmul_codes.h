/* SPDX-License-Identifier: MIT */
/* Matrix products of the types whose weights are named by points of a codebook (IQ1, IQ2, IQ3) or by ternary digits (TQ1_0,
 * TQ2_0), with 8-bit activations, or with 16-bit ones through matmul_wide.h. There is no packed order: a point is eight columns
 * of one row, so a row is walked as it lies in the file. Needs AVX2, and matmul_wide.h before it.
 *
 * A weight is d * s * q: d is a float of 256 columns, s a small integer of 16 of them, q fits in a byte. Integers stay integers
 * for four columns in each of eight lanes, which are added up at the end of the row. */
#ifndef MB_MATMUL_CODES_H
#define MB_MATMUL_CODES_H

/* 32 columns: quants in order, and their scales, those of the first and of the last 16 columns in eight words each. */
struct span_32 {
    __m256i q, s;
};

/* Columns 32 k to 32 k + 31 of the block at `at`; k is a constant where a loop is unrolled. */
typedef struct span_32 code_fn(const char *at, int k);

/* d of the block. */
typedef float code_d_fn(const char *at);

/* ---- types ---- */

INLINE float f16_at(const char *at)
{
    uint16_t half;
    memcpy(&half, at, 2);
    return _cvtsh_ss(half);
}

INLINE uint32_t word_at(const void *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

INLINE __m256i four_points(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return _mm256_set_epi64x((long long)d, (long long)c, (long long)b, (long long)a);
}

INLINE __m256i eight_points(const uint32_t *grid, const unsigned *index)
{
    return _mm256_setr_epi32((int)grid[index[0]], (int)grid[index[1]], (int)grid[index[2]], (int)grid[index[3]],
                             (int)grid[index[4]], (int)grid[index[5]], (int)grid[index[6]], (int)grid[index[7]]);
}

/* The signs of four times seven bits, from the lowest on. */
INLINE __m256i signs_of_28(uint32_t bits)
{
    return four_points(mb_signs_even[bits & 127], mb_signs_even[bits >> 7 & 127], mb_signs_even[bits >> 14 & 127],
                       mb_signs_even[bits >> 21 & 127]);
}

/* q, negative where a bit is set. */
INLINE __m256i negate_where(__m256i q, uint32_t bits)
{
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i mask = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte), bit);
    mask = _mm256_cmpeq_epi8(mask, bit);
    return _mm256_sub_epi8(_mm256_xor_si256(q, mask), mask);
}

/* One scale for 32 columns, or one for each half. */
INLINE __m256i scale_32(int s)
{
    return _mm256_set1_epi16((short)s);
}

INLINE __m256i scales_16(int first, int last)
{
    return _mm256_set_m128i(_mm_set1_epi16((short)last), _mm_set1_epi16((short)first));
}

INLINE float code_d_8(const char *at)
{
    return f16_at(at) * 0.125f;
}

INLINE float code_d_4(const char *at)
{
    return f16_at(at) * 0.25f;
}

INLINE struct span_32 code_iq2_xxs(const char *at, int k)
{
    const uint32_t index = word_at(at + 2 + 8 * k), word = word_at(at + 6 + 8 * k);
    const uint64_t *grid = mb_grid_iq2_xxs;
    const __m256i q = four_points(grid[index & 255], grid[index >> 8 & 255], grid[index >> 16 & 255], grid[index >> 24]);
    return (struct span_32){_mm256_sign_epi8(q, signs_of_28(word)), scale_32((int)(word >> 28) * 2 + 1)};
}

INLINE struct span_32 code_iq2_xs(const char *at, int k)
{
    const struct mb_block_iq2_xs *b = (const void *)at;
    const uint16_t *qs = b->qs + 4 * k;
    const uint64_t *grid = mb_grid_iq2_xs, *signs = mb_signs_even;
    const __m256i q = four_points(grid[qs[0] & 511], grid[qs[1] & 511], grid[qs[2] & 511], grid[qs[3] & 511]);
    return (struct span_32){
        _mm256_sign_epi8(q, four_points(signs[qs[0] >> 9], signs[qs[1] >> 9], signs[qs[2] >> 9], signs[qs[3] >> 9])),
        scales_16((b->scales[k] & 15) * 2 + 1, (b->scales[k] >> 4) * 2 + 1)};
}

INLINE struct span_32 code_iq2_s(const char *at, int k)
{
    const struct mb_block_iq2_s *b = (const void *)at;
    const uint8_t *qs = b->qs + 4 * k;
    const unsigned high = b->qh[k];
    const uint64_t *grid = mb_grid_iq2_s;
    const __m256i q = four_points(grid[qs[0] | (high << 8 & 768)], grid[qs[1] | (high << 6 & 768)],
                                  grid[qs[2] | (high << 4 & 768)], grid[qs[3] | (high << 2 & 768)]);
    return (struct span_32){negate_where(q, word_at(qs + 32)),
                            scales_16((b->scales[k] & 15) * 2 + 1, (b->scales[k] >> 4) * 2 + 1)};
}

INLINE struct span_32 code_iq3_xxs(const char *at, int k)
{
    const struct mb_block_iq3_xxs *b = (const void *)at;
    const uint8_t *qs = b->qs + 8 * k;
    const uint32_t word = word_at(b->qs + 64 + 4 * k);
    const unsigned index[8] = {qs[0], qs[1], qs[2], qs[3], qs[4], qs[5], qs[6], qs[7]};
    return (struct span_32){_mm256_sign_epi8(eight_points(mb_grid_iq3_xxs, index), signs_of_28(word)),
                            scale_32((int)(word >> 28) * 2 + 1)};
}

INLINE struct span_32 code_iq3_s(const char *at, int k)
{
    const struct mb_block_iq3_s *b = (const void *)at;
    const uint8_t *qs = b->qs + 8 * k;
    const unsigned high = b->qh[k];
    const unsigned index[8] = {qs[0] | (high << 8 & 256), qs[1] | (high << 7 & 256), qs[2] | (high << 6 & 256),
                               qs[3] | (high << 5 & 256), qs[4] | (high << 4 & 256), qs[5] | (high << 3 & 256),
                               qs[6] | (high << 2 & 256), qs[7] | (high << 1 & 256)};
    return (struct span_32){negate_where(eight_points(mb_grid_iq3_s, index), word_at(b->signs + 4 * k)),
                            scale_32((b->scales[k / 2] >> 4 * (k % 2) & 15) * 2 + 1)};
}

/* Eighths: the points are multiples of 8, and all move by one up or down. */
INLINE struct span_32 code_iq1_s(const char *at, int k)
{
    const struct mb_block_iq1_s *b = (const void *)at;
    const uint8_t *qs = b->qs + 4 * k;
    const unsigned high = b->qh[k];
    const uint64_t *grid = mb_grid_iq1_s;
    const __m256i q = four_points(grid[qs[0] | (high << 8 & 1792)], grid[qs[1] | (high << 5 & 1792)],
                                  grid[qs[2] | (high << 2 & 1792)], grid[qs[3] | (high >> 1 & 1792)]);
    return (struct span_32){_mm256_add_epi8(q, _mm256_set1_epi8(high & 0x8000 ? -1 : 1)),
                            scale_32((int)(high >> 12 & 7) * 2 + 1)};
}

INLINE struct span_32 code_iq1_m(const char *at, int k)
{
    static const uint64_t delta[2] = {0x0101010101010101, 0xffffffffffffffff};
    const struct mb_block_iq1_m *b = (const void *)at;
    const uint8_t *qs = b->qs + 4 * k;
    const unsigned high = b->qh[2 * k] | (unsigned)b->qh[2 * k + 1] << 8, scales = b->scales[k / 2 * 2] |
                          (unsigned)b->scales[k / 2 * 2 + 1] << 8;
    const uint64_t *grid = mb_grid_iq1_s;
    const __m256i q = four_points(grid[qs[0] | (high << 8 & 1792)], grid[qs[1] | (high << 4 & 1792)],
                                  grid[qs[2] | (high & 1792)], grid[qs[3] | (high >> 4 & 1792)]);
    const int s = (int)(scales >> 6 * (k % 2));
    return (struct span_32){_mm256_add_epi8(q, four_points(delta[high >> 3 & 1], delta[high >> 7 & 1], delta[high >> 11 & 1],
                                                           delta[high >> 15])),
                            scales_16((s & 7) * 2 + 1, (s >> 3 & 7) * 2 + 1)};
}

INLINE float code_d_iq1_m(const char *at)
{
    const struct mb_block_iq1_m *b = (const void *)at;
    const unsigned half = b->scales[1] >> 4 | (b->scales[3] & 0xf0) | (unsigned)(b->scales[5] & 0xf0) << 4 |
                          (unsigned)(b->scales[7] & 0xf0) << 8;
    return _cvtsh_ss((unsigned short)half) * 0.125f;
}

/* Digit `first` of 32 bytes, or of 16 bytes and the digit after it: the byte times 3^digit is digits / 243 * 256 from there on,
 * and times 3 once more has the digit in its bits 8 and 9. */
INLINE __m256i ternary(__m256i bytes, int first, int second)
{
    static const short powers[5] = {1, 3, 9, 27, 81};
    const __m256i low = _mm256_set1_epi16(255), three = _mm256_set1_epi16(3);
    const __m256i p = _mm256_set_m128i(_mm_set1_epi16(powers[second]), _mm_set1_epi16(powers[first]));
    __m256i even = _mm256_and_si256(_mm256_mullo_epi16(_mm256_and_si256(bytes, low), p), low);
    __m256i odd = _mm256_and_si256(_mm256_mullo_epi16(_mm256_srli_epi16(bytes, 8), p), low);
    even = _mm256_srli_epi16(_mm256_mullo_epi16(even, three), 8);
    odd = _mm256_andnot_si256(low, _mm256_mullo_epi16(odd, three));
    return _mm256_sub_epi8(_mm256_or_si256(even, odd), _mm256_set1_epi8(1));
}

INLINE struct span_32 code_tq1_0(const char *at, int k)
{
    const __m256i ones = scale_32(1);
    if (k < 5)
        return (struct span_32){ternary(load_32(at), k, k), ones};
    const __m256i more = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(at + 32)));
    if (k < 7)
        return (struct span_32){ternary(more, 2 * k - 10, 2 * k - 9), ones};
    /* 16 bytes have a fifth digit, and the last four bytes have four digits. */
    const __m256i last = _mm256_set1_epi32((int)word_at(at + 48));
    const __m256i digits_01 = ternary(last, 0, 1), digits_23 = ternary(last, 2, 3);
    const __m256i rest = _mm256_unpacklo_epi64(_mm256_unpacklo_epi32(digits_01, _mm256_permute2x128_si256(digits_01, digits_01, 1)),
                                               _mm256_unpacklo_epi32(digits_23, _mm256_permute2x128_si256(digits_23, digits_23, 1)));
    return (struct span_32){_mm256_permute2x128_si256(ternary(more, 4, 4), rest, 0x20), ones};
}

INLINE float code_d_tq1_0(const char *at)
{
    return f16_at(at + 52);
}

INLINE struct span_32 code_tq2_0(const char *at, int k)
{
    const __m256i q = bits_of(load_32(at + k / 4 * 32), k % 4 * 2, 3);
    return (struct span_32){_mm256_sub_epi8(q, _mm256_set1_epi8(1)), scale_32(1)};
}

INLINE float code_d_tq2_0(const char *at)
{
    return f16_at(at + 64);
}

/* ---- products ---- */

/* total + one of 32 columns times x. */
INLINE __m256 add_code(__m256 total, struct span_32 span, const struct mb_act_block *x)
{
    const __m256i q = load_32((const char *)x->q);
    __m256i v = _mm256_maddubs_epi16(_mm256_abs_epi8(span.q), _mm256_sign_epi8(q, span.q));
    v = _mm256_madd_epi16(v, span.s);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(v), _mm256_set1_ps(x->d), total);
}

/* Rows [begin, end) times n tokens (a constant) of one tile. */
INLINE void multiply_codes(const struct mb_matmul *op, size_t begin, size_t end, const struct mb_act_block *x, size_t n, float *y,
                           code_fn *code, code_d_fn *code_d, size_t block_bytes)
{
    for (size_t r = begin; r < end; r++) {
        const char *at = (const char *)op->weights + r * op->row_bytes;
        const struct mb_act_block *here = x;
        __m256 sum[MB_ACT_TILE];
        for (size_t t = 0; t < n; t++)
            sum[t] = _mm256_setzero_ps();
        for (size_t b = 0; b < op->n_cols / 256; b++, at += block_bytes) {
            __m256 total[MB_ACT_TILE];
            for (size_t t = 0; t < n; t++)
                total[t] = _mm256_setzero_ps();
            UNROLL
            for (int k = 0; k < 8; k++, here += n) {
                const struct span_32 span = code(at, k);
                for (size_t t = 0; t < n; t++)
                    total[t] = add_code(total[t], span, here + t);
            }
            const __m256 d = _mm256_set1_ps(code_d(at));
            for (size_t t = 0; t < n; t++)
                sum[t] = _mm256_fmadd_ps(total[t], d, sum[t]);
        }
        for (size_t t = 0; t < n; t++) {
            __m128 s = _mm_add_ps(_mm256_castps256_ps128(sum[t]), _mm256_extractf128_ps(sum[t], 1));
            s = _mm_add_ps(s, _mm_movehl_ps(s, s));
            y[t * op->y_stride + r] = _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
        }
    }
}

/* All tokens, tile by tile. */
INLINE void multiply_code_tiles(const struct mb_matmul *op, size_t begin, size_t end, code_fn *code, code_d_fn *code_d,
                                size_t block_bytes)
{
    for (size_t t = 0; t < op->n_tokens; t += MB_ACT_TILE) {
        const struct mb_act_block *x = (const struct mb_act_block *)op->x + mb_act_at(op->n_cols / 32, op->n_tokens, 0, t);
        float *y = op->y + t * op->y_stride;
        switch (op->n_tokens - t) {
        case 1: multiply_codes(op, begin, end, x, 1, y, code, code_d, block_bytes); break;
        case 2: multiply_codes(op, begin, end, x, 2, y, code, code_d, block_bytes); break;
        case 3: multiply_codes(op, begin, end, x, 3, y, code, code_d, block_bytes); break;
        default: multiply_codes(op, begin, end, x, MB_ACT_TILE, y, code, code_d, block_bytes);
        }
    }
}

/* panel_fn: s * q fits in 16 bits, so nothing is rounded. */
INLINE void make_coded(char *panel, const struct mb_matmul *op, size_t r, size_t n_rows, size_t c, size_t n_cols, code_fn *code,
                       code_d_fn *code_d, size_t block_bytes)
{
    for (size_t done = 0; done < n_cols; done += 256, panel += 256 / 32 * RECORD_BYTES) {
        int16_t words[LANES][256 + 32]; /* apart in the cache: not a power of two */
        for (size_t i = 0; i < LANES; i++) {
            const size_t row = r + (i < n_rows ? i : n_rows - 1);
            const char *at = (const char *)op->weights + row * op->row_bytes + (c + done) / 256 * block_bytes;
            const float d = code_d(at);
            UNROLL
            for (int k = 0; k < 8; k++) {
                const struct span_32 span = code(at, k);
                const __m256i first = _mm256_permute4x64_epi64(span.s, 0x00), last = _mm256_permute4x64_epi64(span.s, 0xff);
                __m256i *to = (__m256i *)(void *)(words[i] + 32 * k);
                _mm256_storeu_si256(to, _mm256_mullo_epi16(_mm256_cvtepi8_epi16(_mm256_castsi256_si128(span.q)), first));
                _mm256_storeu_si256(to + 1, _mm256_mullo_epi16(_mm256_cvtepi8_epi16(_mm256_extracti128_si256(span.q, 1)), last));
                scales_of_record(panel + (size_t)k * RECORD_BYTES)[i] = d;
            }
        }
        for (size_t b = 0; b < 8; b++)
            put_record(panel + b * RECORD_BYTES, (const char *)(words[0] + 32 * b), sizeof words[0]);
    }
}

/* X(type, name, d) */
#define CODED_TYPES(X)             \
    X(IQ2_XXS, iq2_xxs, code_d_8)  \
    X(IQ2_XS, iq2_xs, code_d_8)    \
    X(IQ2_S, iq2_s, code_d_8)      \
    X(IQ3_XXS, iq3_xxs, code_d_4)  \
    X(IQ3_S, iq3_s, f16_at)        \
    X(IQ1_S, iq1_s, code_d_8)      \
    X(IQ1_M, iq1_m, code_d_iq1_m)  \
    X(TQ1_0, tq1_0, code_d_tq1_0)  \
    X(TQ2_0, tq2_0, code_d_tq2_0)

#define CODED(TYPE, name, d)                                                                                              \
    static void make_##name(char *panel, const struct mb_matmul *op, mb_dequant_fn *dequant, size_t r, size_t n_rows,      \
                            size_t c, size_t n_cols)                                                                      \
    {                                                                                                                     \
        (void)dequant;                                                                                                    \
        make_coded(panel, op, r, n_rows, c, n_cols, code_##name, d, sizeof(struct mb_block_##name));                      \
    }                                                                                                                     \
    static void coded_##name(const struct mb_matmul *op, size_t begin, size_t end)                                        \
    {                                                                                                                     \
        if (op->act == MB_ACT_Q16)                                                                                        \
            matmul_wide(op, make_##name, NULL, begin, end);                                                               \
        else if (op->act == MB_ACT_Q8)                                                                                    \
            multiply_code_tiles(op, begin, end, code_##name, d, sizeof(struct mb_block_##name));                          \
        else                                                                                                              \
            matmul_dequantized(op, begin, end);                                                                           \
    }
CODED_TYPES(CODED)
#undef CODED

static void add_codes(struct mb_kernels *kernels)
{
#define ROW(TYPE, name, d)                                \
    kernels->matmul[MB_TYPE_##TYPE] = coded_##name;       \
    kernels->few[MB_TYPE_##TYPE] = MB_ACT_Q8;             \
    kernels->many[MB_TYPE_##TYPE] = MB_ACT_Q16;
    CODED_TYPES(ROW)
#undef ROW
}

#endif
