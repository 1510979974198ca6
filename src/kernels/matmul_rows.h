/* SPDX-License-Identifier: MIT */
/* Matrix products of rows in file order with one to MB_ACT_TILE tokens, for the types that are most used: what a mapped file is
 * decoded with. Needs matmul_packed.h over lanes of 16 rows, and AVX2.
 *
 * Rows are walked one by one, as they lie in memory, 32 columns in a register, and leave an integer for every 32 columns. These
 * are turned so that a lane is a row; from there on everything is as in matmul_packed.h, so sums are equal bit for bit. */
#ifndef MB_MATMUL_ROWS_H
#define MB_MATMUL_ROWS_H

/* 32 columns each: what is unpacked at once, and what is walked of a row before the next row. */
#define AT_ONCE 8
#define OF_ROW  64

/* Quants of up to AT_ONCE times 32 columns: one block, or blocks of 32 columns. */
typedef void row_fn(__m256i *w, const char *at, size_t n);

/* Sums of 16 columns become those of 32, multiplied by what scales the block at `at` has. a: of the first four times 32 columns,
 * their first halves and then their second halves; b: of the next four. */
typedef __m256i close_fn(__m256i a, __m256i b, const char *at);

/* The scales of n <= AT_ONCE blocks of 32 columns. */
typedef __m256 row_d_fn(const char *at, size_t block_bytes, size_t n);

/* The beginning of packed blocks of 256 columns (mb_pack()), as far as scales_fn reads it, of LANES
 * rows. */
typedef void head_fn(char *to, const char *const *rows, size_t offset);

/* ---- types ---- */

INLINE __m256i nibbles_of(const char *at)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
}

INLINE __m256i load_32(const char *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

/* (bits >> shift) & mask of each byte; << if shift is negative. */
INLINE __m256i bits_of(__m256i v, int shift, int mask)
{
    v = shift < 0 ? _mm256_slli_epi16(v, -shift) : _mm256_srli_epi16(v, shift);
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

INLINE void row_q4_0(__m256i *w, const char *at, size_t n)
{
    for (size_t k = 0; k < n; k++)
        w[k] = nibbles_of(at + 18 * k + 2);
}

INLINE void row_q8_0(__m256i *w, const char *at, size_t n)
{
    for (size_t k = 0; k < n; k++)
        w[k] = load_32(at + 34 * k + 2);
}

INLINE void row_mxfp4(__m256i *w, const char *at, size_t n)
{
    const __m256i values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)values_plus_12));
    for (size_t k = 0; k < n; k++)
        w[k] = _mm256_shuffle_epi8(values, nibbles_of(at + 17 * k + 1));
}

INLINE void row_q4_k(__m256i *w, const char *at, size_t n)
{
    (void)n;
    UNROLL
    for (int p = 0; p < 4; p++) {
        __m256i v = load_32(at + 16 + 32 * p);
        w[2 * p] = bits_of(v, 0, 15);
        w[2 * p + 1] = bits_of(v, 4, 15);
    }
}

INLINE void row_q5_k(__m256i *w, const char *at, size_t n)
{
    __m256i fifth = load_32(at + 16);
    row_q4_k(w, at + 32, n);
    UNROLL
    for (int k = 0; k < 8; k++)
        w[k] = _mm256_or_si256(w[k], bits_of(fifth, k - 4, 16));
}

INLINE void row_q6_k(__m256i *w, const char *at, size_t n)
{
    (void)n;
    UNROLL
    for (int h = 0; h < 2; h++) {
        __m256i a = load_32(at + 64 * h), b = load_32(at + 64 * h + 32), high = load_32(at + 128 + 32 * h);
        w[4 * h] = _mm256_or_si256(bits_of(a, 0, 15), bits_of(high, -4, 48));
        w[4 * h + 1] = _mm256_or_si256(bits_of(b, 0, 15), bits_of(high, -2, 48));
        w[4 * h + 2] = _mm256_or_si256(bits_of(a, 4, 15), bits_of(high, 0, 48));
        w[4 * h + 3] = _mm256_or_si256(bits_of(b, 4, 15), bits_of(high, 2, 48));
    }
}

INLINE __m256i close_1(__m256i a, __m256i b, const char *at)
{
    (void)at;
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

/* Q4_K and Q5_K: six bits each, four in the low bits of as many bytes, and four as nibbles with two bits above those. */
INLINE __m256i close_k4(__m256i a, __m256i b, const char *at)
{
    uint32_t first, last;
    memcpy(&first, at + 4, 4);
    memcpy(&last, at + 12, 4);
    last = (last & 0x0f0f0f0f) | (first >> 2 & 0x30303030);
    __m128i s = _mm_cvtsi64_si128((long long)((uint64_t)last << 32 | (first & 0x3f3f3f3f)));
    return _mm256_mullo_epi32(close_1(a, b, at), _mm256_cvtepu8_epi32(s));
}

INLINE __m256i close_q6_k(__m256i a, __m256i b, const char *at)
{
    const __m128i halves = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    __m128i s = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(at + 192)), halves);
    a = _mm256_mullo_epi32(a, _mm256_cvtepi8_epi32(s));
    b = _mm256_mullo_epi32(b, _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(s, s)));
    return close_1(a, b, at);
}

INLINE __m256 row_d_f16(const char *at, size_t block_bytes, size_t n)
{
    uint16_t d[AT_ONCE] = {0};
    UNROLL
    for (size_t k = 0; k < n; k++)
        memcpy(d + k, at + k * block_bytes, 2);
    return _mm256_cvtph_ps(_mm_setr_epi16((short)d[0], (short)d[1], (short)d[2], (short)d[3], (short)d[4], (short)d[5],
                                          (short)d[6], (short)d[7]));
}

INLINE __m256 row_d_mxfp4(const char *at, size_t block_bytes, size_t n)
{
    uint8_t e[AT_ONCE] = {0};
    UNROLL
    for (size_t k = 0; k < n; k++)
        memcpy(e + k, at + k * block_bytes, 1);
    __m256i v = _mm256_setr_epi32(e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_subs_epu16(v, _mm256_set1_epi32(1)), 23)); /* e8m0_half() */
}

/* Blocks of 256 columns have no scales of their own here. */
INLINE __m256 row_d_none(const char *at, size_t block_bytes, size_t n)
{
    (void)at, (void)block_bytes, (void)n;
    return _mm256_setzero_ps();
}

INLINE void head_none(char *to, const char *const *rows, size_t offset)
{
    (void)to, (void)rows, (void)offset;
}

INLINE void head_q6_k(char *to, const char *const *rows, size_t offset)
{
    interleave_unit(to, rows, offset + 208, 2);
}

INLINE void head_k4(char *to, const char *const *rows, size_t offset)
{
    interleave_unit(to, rows, offset, 2);
    interleave_unit(to + 2 * LANES, rows, offset + 2, 2);
    interleave_four(to + 4 * LANES, 1, rows, offset + 4);
}

/* ---- rows ---- */

/* Sums of 16 columns of x, as close_fn has them, times the centre. */
struct centre {
    __m256i a, b;
};

static struct centre centre_of(const struct mb_act_block *x, size_t step, size_t n, int centre)
{
    int32_t half[2][8] = {{0}};
    for (size_t k = 0; k < n; k++)
        for (int h = 0; h < 2; h++)
            half[k / 4][4 * h + (int)(k % 4)] = centre * (x[k * step].pairs[h][0] + x[k * step].pairs[h][1]);
    return (struct centre){load_32((const char *)half[0]), load_32((const char *)half[1])};
}

/* a and b, two lanes of each, with what stands in the other two added; in 16 or in 32 bits. */
INLINE __m256i fold_32(__m256i a, __m256i b, int bits)
{
    __m256i low = _mm256_unpacklo_epi32(a, b), high = _mm256_unpackhi_epi32(a, b);
    return bits == 16 ? _mm256_add_epi16(low, high) : _mm256_add_epi32(low, high);
}

INLINE __m256i fold_64(__m256i a, __m256i b, int bits)
{
    __m256i low = _mm256_unpacklo_epi64(a, b), high = _mm256_unpackhi_epi64(a, b);
    return bits == 16 ? _mm256_add_epi16(low, high) : _mm256_add_epi32(low, high);
}

/* Of four times 32 columns, the sums of their first and of their second halves. Pairs of products stay 16 bits wide while they
 * fit: four pairs of weights up to 31, two of up to 63, one of signed weights. */
INLINE __m256i four_sums(const __m256i *w, const struct mb_act_block *x, size_t step, size_t n, struct kind kind)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const int wide = kind.is_signed, six_bits = kind.centre == 32;
    __m256i v[4];
    UNROLL
    for (size_t k = 0; k < 4; k++) {
        __m256i q = k < n ? load_32((const char *)x[k * step].q) : _mm256_setzero_si256();
        v[k] = wide ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[k]), _mm256_sign_epi8(q, w[k])) : _mm256_maddubs_epi16(w[k], q);
        v[k] = wide ? _mm256_madd_epi16(v[k], ones) : v[k];
    }
    v[0] = fold_32(v[0], v[1], wide ? 32 : 16);
    v[2] = fold_32(v[2], v[3], wide ? 32 : 16);
    if (six_bits) {
        v[0] = _mm256_madd_epi16(v[0], ones);
        v[2] = _mm256_madd_epi16(v[2], ones);
    }
    v[0] = fold_64(v[0], v[2], wide || six_bits ? 32 : 16);
    return wide || six_bits ? v[0] : _mm256_madd_epi16(v[0], ones);
}

/* sums[32 columns] of one row and token; x of n times 32 columns, `step` apart. */
INLINE void sum_row(int32_t *sums, const __m256i *w, const char *at, const struct mb_act_block *x, size_t step, size_t n,
                    const struct centre *centre, close_fn *close, struct kind kind)
{
    __m256i a = four_sums(w, x, step, n, kind), b = four_sums(w + 4, x + 4 * step, step, n > 4 ? n - 4 : 0, kind);
    if (kind.centre) {
        a = _mm256_sub_epi32(a, centre->a);
        b = _mm256_sub_epi32(b, centre->b);
    }
    _mm256_storeu_si256((__m256i *)(void *)sums, close(a, b, at));
}

/* n (a constant if it can be) times 32 columns of a row, for all tokens: their scales and sums. */
INLINE void walk(int32_t (*sums)[LANES][OF_ROW], float *d, size_t i, size_t b, const char *at, const struct mb_act_block *x,
                 size_t step, size_t n, const struct centre (*centres)[OF_ROW / AT_ONCE], row_fn *unpack_row, row_d_fn *row_d,
                 close_fn *close, struct kind kind, size_t block_bytes)
{
    __m256i w[AT_ONCE];
    for (size_t k = n; k < AT_ONCE; k++)
        w[k] = _mm256_setzero_si256();
    unpack_row(w, at, n);
    if (kind.steps == 1)
        _mm256_storeu_ps(d + b, row_d(at, block_bytes, n));
    for (size_t t = 0; t < step; t++)
        sum_row(&sums[t][i][b], w, at, x + b * step + t, step, n, &centres[t][b / AT_ONCE], close, kind);
}

/* AT_ONCE words of each of LANES rows from column b on, a lane per row. */
static void turn(char *to, const char *from, size_t b)
{
    const char *rows[LANES];
    for (size_t i = 0; i < LANES; i++)
        rows[i] = from + 4 * (i * OF_ROW + b);
    interleave_words(to, 1, rows, 0, AT_ONCE);
}

/* y + n times 32 columns from x on, of sums with a lane per row; d: scales, likewise, or those of the block at `offset`. */
INLINE vf add_sums(vf y, const char *sums, const char *d, const char *const *rows, size_t offset, const struct mb_act_block *x,
                   size_t step, size_t n, scales_fn *fill, head_fn *head, struct kind kind)
{
    char begin[LANES * 20];
    struct scales scales;
    vf total = all(0);
    for (size_t k = 0; k < n; k++) {
        total = fma3(to_float(load(sums + 4 * LANES * k)), all(x[k * step].d), kind.steps == 1 ? all(0) : total);
        if (kind.steps == 1)
            y = fma3(load_floats((const float *)(const void *)d + LANES * k), total, y);
    }
    if (kind.steps == 1)
        return y;
    head(begin, rows, offset);
    fill(&scales, begin);
    return add_scaled(y, total, &scales, kind, x, step);
}

/* Rows [begin, end) in file order; step: the tokens, a constant if it can be. */
INLINE void multiply_rows(const struct mb_matmul *op, size_t begin, size_t end, size_t step, scales_fn *fill, head_fn *head,
                          row_fn *unpack_row, row_d_fn *row_d, close_fn *close, struct kind kind, size_t block_bytes)
{
    const size_t n_x = op->n_cols / 32, part_bytes = AT_ONCE / (size_t)kind.steps * block_bytes;
    for (size_t r = begin; r < end; r += LANES) {
        const size_t n_rows = end - r < LANES ? end - r : LANES;
        const char *rows[LANES];
        vf y[MB_ACT_TILE];
        for (size_t i = 0; i < LANES; i++)
            rows[i] = (const char *)op->weights + (r + (i < n_rows ? i : n_rows - 1)) * op->row_bytes;
        for (size_t t = 0; t < step; t++)
            y[t] = all(0);
        for (size_t first = 0; first < n_x; first += OF_ROW) {
            const struct mb_act_block *x = (const struct mb_act_block *)op->x + first * step;
            const size_t n = n_x - first < OF_ROW ? n_x - first : OF_ROW, offset = first / AT_ONCE * part_bytes;
            int32_t sums[MB_ACT_TILE][LANES][OF_ROW];
            float d[LANES][OF_ROW];
            struct centre centres[MB_ACT_TILE][OF_ROW / AT_ONCE];
            for (size_t t = 0; kind.centre && t < step; t++)
                for (size_t b = 0; b < n; b += AT_ONCE)
                    centres[t][b / AT_ONCE] = centre_of(x + b * step + t, step, n - b < AT_ONCE ? n - b : AT_ONCE, kind.centre);
            for (size_t i = 0; i < LANES; i++) {
                const char *at = rows[i] + offset;
                for (size_t b = 0; b < n; b += AT_ONCE, at += part_bytes) {
                    for (size_t line = 0; line < part_bytes; line += 64)
                        __builtin_prefetch(at + op->row_bytes + line);
                    if (n - b >= AT_ONCE)
                        walk(sums, d[i], i, b, at, x, step, AT_ONCE, centres, unpack_row, row_d, close, kind, block_bytes);
                    else if (kind.steps == 1)
                        walk(sums, d[i], i, b, at, x, step, n - b, centres, unpack_row, row_d, close, kind, block_bytes);
                }
            }
            for (size_t b = 0; b < n; b += AT_ONCE) {
                char d_lanes[4 * LANES * AT_ONCE], lanes[4 * LANES * AT_ONCE];
                if (kind.steps == 1)
                    turn(d_lanes, (const char *)d, b);
                for (size_t t = 0; t < step; t++) {
                    turn(lanes, (const char *)sums[t], b);
                    y[t] = add_sums(y[t], lanes, d_lanes, rows, offset + b / AT_ONCE * part_bytes, x + b * step + t, step,
                                    n - b < AT_ONCE ? n - b : AT_ONCE, fill, head, kind);
                }
            }
        }
        for (size_t t = 0; t < step; t++)
            put(op->y + t * op->y_stride + r, y[t], n_rows);
    }
}

/* X(type, name, scales, head, row_d, close, kind) */
#define ROW_TYPES(X)                                                          \
    X(Q4_0, q4_0, scales_d, head_none, row_d_f16, close_1, zero_8)            \
    X(Q8_0, q8_0, scales_d, head_none, row_d_f16, close_1, signed_1)          \
    X(MXFP4, mxfp4, scales_mxfp4, head_none, row_d_mxfp4, close_1, zero_12)   \
    X(Q4_K, q4_k, scales_k4, head_k4, row_d_none, close_k4, k4)               \
    X(Q5_K, q5_k, scales_k4, head_k4, row_d_none, close_k4, k5)               \
    X(Q6_K, q6_k, scales_d, head_q6_k, row_d_none, close_q6_k, k6)

#define ROWS(TYPE, name, scales, head, row_d, close, kind)                                                                     \
    static void rows_##name(const struct mb_matmul *op, size_t begin, size_t end)                                              \
    {                                                                                                                          \
        const size_t bytes = sizeof(struct mb_block_##name);                                                                   \
        if (op->packed || op->n_tokens > MB_ACT_TILE)                                                                          \
            matmul_##name(op, begin, end);                                                                                     \
        else if (op->n_tokens == 1)                                                                                            \
            multiply_rows(op, begin, end, 1, scales, head, row_##name, row_d, close, kind_##kind, bytes);                      \
        else                                                                                                                   \
            multiply_rows(op, begin, end, op->n_tokens, scales, head, row_##name, row_d, close, kind_##kind, bytes);           \
    }
ROW_TYPES(ROWS)
#undef ROWS

static void add_rows(struct mb_kernels *kernels)
{
#define ROW(TYPE, name, scales, head, row_d, close, kind) kernels->matmul[MB_TYPE_##TYPE] = rows_##name;
    ROW_TYPES(ROW)
#undef ROW
}

#endif
