/* SPDX-License-Identifier: MIT */
/* Matrix products of many tokens with 16-bit integers, MB_ACT_Q16: twice as many multiply-adds in an instruction as with f32.
 * Written once over the vectors of lanes_<set>.h, which has 16 rows and is included before, and needs matmul_float.h and AVX2.
 *
 * As in matmul_float.h, LANES rows of up to WIDE_COLS columns are brought to integers and interleaved, and stay in the
 * second-level cache while tokens pass by, a tile of MB_ACT_16_TILE or WIDE_TILES of them at a time. A panel has records of 32
 * columns like those of the activations, with LANES rows in the place of a tile's tokens: 16 vectors of pairs of columns, and
 * their scales. Integers stay integers for 32 columns: y += d * x.d * (sum of q * x.q). */
#ifndef MB_MATMUL_WIDE_H
#define MB_MATMUL_WIDE_H

#include "kernels/quant_avx2.h"

#define WIDE_COLS    4096 /* a multiple of PIECE_COLS; y meets the caches once for each panel */
#define RECORD_BYTES (MB_ACT_16_WORDS * LANES * 4)
#define SCALES_AT    (16 * LANES * 4) /* of a record */

/* Bring n_cols columns from c on of rows r to r + n_rows - 1 to records; other lanes get what the last row has. */
typedef void panel_fn(char *panel, const struct mb_matmul *op, mb_dequant_fn *dequant, size_t r, size_t n_rows, size_t c,
                      size_t n_cols);

/* LANES rows of 32 columns as 16-bit integers; they start `step` bytes apart. */
INLINE void put_record(char *record, const char *rows, size_t step)
{
    const char *from[LANES];
    for (size_t i = 0; i < LANES; i++)
        from[i] = rows + i * step;
    interleave_words(record, 1, from, 0, 16);
}

/* n <= LANES results, and zeros. */
INLINE vf get(const float *y, size_t n)
{
    float part[LANES] = {0};
    if (n == LANES)
        return load_floats(y);
    memcpy(part, y, n * sizeof *y);
    return load_floats(part);
}

INLINE float *scales_of_record(char *record)
{
    return (float *)(void *)(record + SCALES_AT);
}

/* Of any type, through f32. */
static void make_wide(char *panel, const struct mb_matmul *op, mb_dequant_fn *dequant, size_t r, size_t n_rows, size_t c,
                      size_t n_cols)
{
    const struct mb_type_info *info = mb_type_info(op->type);
    for (size_t done = 0; done < n_cols; done += PIECE_COLS, panel += PIECE_COLS / 32 * RECORD_BYTES) {
        const size_t n = n_cols - done < PIECE_COLS ? n_cols - done : PIECE_COLS;
        int16_t words[LANES][PIECE_COLS + 32]; /* apart in the cache: not a power of two */
        for (size_t i = 0; i < LANES; i++) {
            float floats[PIECE_COLS];
            const size_t row = r + (i < n_rows ? i : n_rows - 1);
            dequant(floats,
                    (const char *)op->weights + row * op->row_bytes + (c + done) / info->block_elements * info->block_bytes, n);
            for (size_t b = 0; b < n / 32; b++)
                scales_of_record(panel + b * RECORD_BYTES)[i] = quant_16(words[i] + 32 * b, floats + 32 * b);
        }
        for (size_t b = 0; b < n / 32; b++)
            put_record(panel + b * RECORD_BYTES, (const char *)(words[0] + 32 * b), sizeof words[0]);
    }
}

/* y of n tokens (a constant) and n_rows rows (+)= panel * x over n_cols columns. The tokens are those of one tile, or of
 * several whole ones, which lie tile_words apart. */
INLINE void multiply_wide(const char *panel, const uint32_t *x, size_t tile_words, size_t n_cols, float *y, size_t y_stride,
                          size_t n, size_t n_rows, int is_first)
{
    const size_t step = n < MB_ACT_16_TILE ? n : MB_ACT_16_TILE;
    vf total[MB_ACT_16_TILE * WIDE_TILES];
    for (size_t t = 0; t < n; t++)
        total[t] = is_first ? all(0) : get(y + t * y_stride, n_rows);
    for (size_t b = 0; b < n_cols / 32; b++, panel += RECORD_BYTES, x += MB_ACT_16_WORDS * step) {
        vi sum[MB_ACT_16_TILE * WIDE_TILES];
        IN_MEMORY(total); /* the registers are for the sums */
        for (size_t t = 0; t < n; t++)
            sum[t] = zero();
        const uint32_t *pairs = x;
        for (size_t j = 0; j < 16; j++, pairs += step) {
            const vi w = load(panel + j * LANES * 4);
            for (size_t t = 0; t < n; t++)
                sum[t] = dot_pairs(sum[t], w, pairs[t / MB_ACT_16_TILE * tile_words + t % MB_ACT_16_TILE]);
        }
        const vf d = load_floats((const float *)(const void *)(panel + SCALES_AT));
        UNROLL
        for (size_t t = 0; t < n; t++) {
            const float x_d = mb_f32_of_bits(pairs[t / MB_ACT_16_TILE * tile_words + t % MB_ACT_16_TILE]);
            total[t] = fma3(times(d, all(x_d)), to_float(sum[t]), total[t]);
        }
    }
    for (size_t t = 0; t < n; t++)
        put(y + t * y_stride, total[t], n_rows);
}

/* The same for all tokens; x: of the first one, at the panel's first column. */
INLINE void multiply_tiles(const char *panel, const struct mb_matmul *op, size_t r, size_t c, size_t n_cols, size_t n_rows)
{
    const size_t blocks = op->n_cols / 32, tile_words = MB_ACT_16_TILE * blocks * MB_ACT_16_WORDS;
    const int is_first = c == 0;
    size_t t = 0, step;
    float *y = op->y + r;
    for (; WIDE_TILES > 1 && t + WIDE_TILES * MB_ACT_16_TILE <= op->n_tokens; t += WIDE_TILES * MB_ACT_16_TILE)
        multiply_wide(panel, (const uint32_t *)op->x + mb_act_16_at(blocks, op->n_tokens, c / 32, t, &step), tile_words, n_cols,
                      y + t * op->y_stride, op->y_stride, WIDE_TILES * MB_ACT_16_TILE, n_rows, is_first);
    for (; t < op->n_tokens; t += MB_ACT_16_TILE) {
        const uint32_t *x = (const uint32_t *)op->x + mb_act_16_at(blocks, op->n_tokens, c / 32, t, &step);
        float *to = y + t * op->y_stride;
        switch (step) {
        case 1: multiply_wide(panel, x, 0, n_cols, to, op->y_stride, 1, n_rows, is_first); break;
        case 2: multiply_wide(panel, x, 0, n_cols, to, op->y_stride, 2, n_rows, is_first); break;
        case 3: multiply_wide(panel, x, 0, n_cols, to, op->y_stride, 3, n_rows, is_first); break;
        case 4: multiply_wide(panel, x, 0, n_cols, to, op->y_stride, 4, n_rows, is_first); break;
        case 5: multiply_wide(panel, x, 0, n_cols, to, op->y_stride, 5, n_rows, is_first); break;
        default: multiply_wide(panel, x, 0, n_cols, to, op->y_stride, MB_ACT_16_TILE, n_rows, is_first);
        }
    }
}

NOT_INLINE void matmul_wide(const struct mb_matmul *op, panel_fn *make, mb_dequant_fn *dequant, size_t begin, size_t end)
{
    _Alignas(64) char panel[WIDE_COLS / 32 * RECORD_BYTES];
    for (size_t r = begin; r < end; r += LANES) {
        const size_t n_rows = end - r < LANES ? end - r : LANES;
        for (size_t c = 0; c < op->n_cols; c += WIDE_COLS) {
            const size_t n_cols = op->n_cols - c < WIDE_COLS ? op->n_cols - c : WIDE_COLS;
            make(panel, op, dequant, r, n_rows, c, n_cols);
            multiply_tiles(panel, op, r, c, n_cols, n_rows);
        }
    }
}

/* ---- types ---- */

static void wide_f16(const struct mb_matmul *op, size_t begin, size_t end)
{
    if (op->act == MB_ACT_Q16)
        matmul_wide(op, make_wide, dequant_f16, begin, end);
    else
        matmul_f16(op, begin, end);
}

static void wide_bf16(const struct mb_matmul *op, size_t begin, size_t end)
{
    if (op->act == MB_ACT_Q16)
        matmul_wide(op, make_wide, dequant_bf16, begin, end);
    else
        matmul_bf16(op, begin, end);
}

/* F32 stays as it is: it would lose bits. */
static void add_wide(struct mb_kernels *kernels)
{
    kernels->matmul[MB_TYPE_F16] = wide_f16;
    kernels->matmul[MB_TYPE_BF16] = wide_bf16;
    kernels->many[MB_TYPE_F16] = kernels->many[MB_TYPE_BF16] = MB_ACT_Q16;
}

#endif
