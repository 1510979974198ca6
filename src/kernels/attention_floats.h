/* SPDX-License-Identifier: MIT */
/* Attention, written over the vectors of floats_<set>.h, which is included before. Contract: attention.h. Queries pass by a tile
 * of cache rows, up to four at a time. For many queries the tile, K and V, is brought to f32 once and stays in the first-level
 * cache; up to eight read an F16 cache where it is. */
#ifndef MB_ATTENTION_FLOATS_H
#define MB_ATTENTION_FLOATS_H

#include "kernels/kernels.h"
#include "kernels/math_floats.h"

#include <assert.h>
#include <math.h>

#define QUERIES_MAX 4
#define FEW_QUERIES 8           /* bringing a tile to f32 for so few costs more than it saves */
#define ROWS_MAX    64          /* of a tile; a multiple of FLOATS */
#define TILE_FLOATS (16 << 8)   /* of K and of V: 16 KiB each */

/* Some rows of the cache, f32 or F16; those brought to f32 are padded with zeros to whole vectors. */
struct tile {
    const char *k, *v;
    size_t k_stride, v_stride; /* bytes from row to row */
    size_t k_dim, v_dim;       /* multiples of FLOATS */
    size_t first, n;           /* rows of the cache */
    size_t n_rows;             /* and with zeros that nobody sees, to a multiple of 4 */
};

struct floats {
    float k[TILE_FLOATS + 64], v[TILE_FLOATS + 64];
};

static size_t up_to(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static void dequant_q8_0(float *to, const void *from, size_t n)
{
    const struct mb_block_q8_0 *block = from;
    for (size_t b = 0; b < n / 32; b++)
        for (size_t i = 0; i < 32; i += FLOATS)
            store(to + 32 * b + i, times(load_s8(block[b].qs + i), all_f16(block[b].d)));
}

static void dequant_row(uint32_t type, float *to, const void *from, size_t n)
{
    size_t i = 0;
    if (type == MB_TYPE_Q8_0) {
        dequant_q8_0(to, from, n);
        return;
    }
    for (; type == MB_TYPE_F16 && i + FLOATS <= n; i += FLOATS)
        store(to + i, load_f16((const uint16_t *)from + i));
    mb_dequant_ref(type)(to + i, (const char *)from + i * mb_type_info(type)->block_bytes, n - i);
}

static void fill_rows(uint32_t type, float *to, size_t stride, const char *from, size_t from_stride, size_t n, size_t n_rows)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < n; i += 64 / sizeof(float)) /* the same row of the next tile */
            __builtin_prefetch(from + (r + n_rows) * from_stride + i * sizeof(float) / 2);
        dequant_row(type, to + r * stride, from + r * from_stride, n);
        memset(to + r * stride + n, 0, (stride - n) * sizeof *to);
    }
    memset(to + n_rows * stride, 0, (up_to(n_rows, 4) - n_rows) * stride * sizeof *to);
}

/* A vector of a row from element d on. */
INLINE vf load_row(const char *row, size_t d, int is_f16)
{
    return is_f16 ? load_f16((const uint16_t *)(const void *)row + d) : load((const float *)(const void *)row + d);
}

/* Ask for `bytes` of the row that lies n_rows after this one: it belongs to the next tile. */
INLINE void ask_next(const char *row, size_t stride, size_t n_rows, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += 64)
        __builtin_prefetch(row + n_rows * stride + line);
}

/* score[i][r] = q[i] . k[r] for n queries; two or four rows at a time keep eight sums going. */
INLINE void scores_of(const struct tile *tile, const float *q, size_t n, int is_f16, float score[][ROWS_MAX])
{
    const size_t n_rows = n == 4 ? 2 : 4;
    for (size_t r = 0; r < tile->n_rows; r += n_rows) {
        const char *rows = tile->k + r * tile->k_stride;
        vf sum[QUERIES_MAX][4];
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n_rows; k++)
                sum[i][k] = all(0);
        for (size_t k = 0; k < n_rows && is_f16; k++)
            ask_next(rows + k * tile->k_stride, tile->k_stride, tile->n_rows, 2 * tile->k_dim);
        for (size_t d = 0; d < tile->k_dim; d += FLOATS)
            for (size_t k = 0; k < n_rows; k++) {
                vf row = load_row(rows + k * tile->k_stride, d, is_f16);
                for (size_t i = 0; i < n; i++)
                    sum[i][k] = fma3(row, load(q + i * tile->k_dim + d), sum[i][k]);
            }
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n_rows; k++)
                score[i][r + k] = sum_floats(sum[i][k]);
    }
}

/* Scores of one query to weights exp(score - max); returns the factor for what was summed before and moves max and sum on. */
INLINE float weights_of(const struct tile *tile, const struct mb_attention *op, size_t query, float *score, float *max,
                        float *sum)
{
    size_t begin = op->begin && op->begin[query] > tile->first ? op->begin[query] - tile->first : 0;
    size_t end = op->end[query] > tile->first ? op->end[query] - tile->first : 0;
    vf most = all(*max);
    end = end < tile->n ? end : tile->n;
    for (size_t r = 0; r < ROWS_MAX && r < tile->n_rows; r += FLOATS) {
        vf s = load(score + r);
        if (op->soft_cap != 0)
            s = times(tanh_of(times(s, all(1 / op->soft_cap))), all(op->soft_cap));
        store(score + r, s);
        if (r < begin || r + FLOATS > end)
            for (size_t i = r; i < r + FLOATS; i++)
                if (i < begin || i >= end)
                    score[i] = -INFINITY;
        most = larger(load(score + r), most);
    }
    float new_max = largest(most);
    if (new_max == -INFINITY) { /* nothing seen yet */
        memset(score, 0, tile->n_rows * sizeof *score);
        return 0;
    }
    vf total = all(0);
    for (size_t r = 0; r < tile->n_rows; r += FLOATS) {
        vf w = exp_of(less(load(score + r), all(new_max)));
        store(score + r, w);
        total = plus(total, w);
    }
    float old = *max == -INFINITY ? 0 : expf(*max - new_max);
    *max = new_max;
    *sum = *sum * old + sum_floats(total);
    return old;
}

/* state[i] = old[i] * state[i] + sum over rows of weight[i][r] * v[r], for `wide` vectors from element d on. */
INLINE void add_columns(const struct tile *tile, float *state, size_t state_stride, size_t n, int is_f16, const float *old,
                        float weight[][ROWS_MAX], size_t d, size_t wide)
{
    vf sum[QUERIES_MAX][4];
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < wide; k++)
            sum[i][k] = times(load(state + i * state_stride + d + FLOATS * k), all(old[i]));
    for (size_t r = 0; r < tile->n_rows; r++) {
        const char *row = tile->v + r * tile->v_stride;
        if (is_f16 && d == 0)
            ask_next(row, tile->v_stride, tile->n_rows, 2 * tile->v_dim);
        for (size_t k = 0; k < wide; k++) {
            vf v = load_row(row, d + FLOATS * k, is_f16);
            for (size_t i = 0; i < n; i++)
                sum[i][k] = fma3(v, all(weight[i][r]), sum[i][k]);
        }
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < wide; k++)
            store(state + i * state_stride + d + FLOATS * k, sum[i][k]);
}

/* All columns; eight sums are going. */
INLINE void add_values(const struct tile *tile, float *state, size_t state_stride, size_t n, int is_f16, const float *old,
                       float weight[][ROWS_MAX])
{
    const size_t wide = n == 4 ? 2 : 4;
    size_t d = 0;
    for (; d + FLOATS * wide <= tile->v_dim; d += FLOATS * wide)
        add_columns(tile, state, state_stride, n, is_f16, old, weight, d, wide);
    for (; d < tile->v_dim; d += FLOATS)
        add_columns(tile, state, state_stride, n, is_f16, old, weight, d, 1);
}

/* n queries (1, 2 or 4, a constant) from `first` see the tile. The largest score and the sum lie behind v_dim, where whole
 * vectors of sums may reach, so they are put aside. */
INLINE void see(const struct tile *tile, const struct mb_attention *op, size_t first, size_t n, int is_f16)
{
    float q[QUERIES_MAX * MB_ATTENTION_DIM_MAX], score[QUERIES_MAX][ROWS_MAX];
    float max[QUERIES_MAX], sum[QUERIES_MAX], old[QUERIES_MAX];
    size_t stride = mb_attention_state(op->v_dim);
    float *state = op->state + first * stride;
    int any = 0;
    for (size_t i = 0; i < n; i++)
        any |= op->end[first + i] > tile->first && (!op->begin || op->begin[first + i] < tile->first + tile->n);
    if (!any)
        return;
    for (size_t i = 0; i < n; i++) {
        float *to = q + i * tile->k_dim;
        for (size_t d = 0; d < op->k_dim; d++)
            to[d] = op->q[(first + i) * op->q_stride + d] * op->scale;
        memset(to + op->k_dim, 0, (tile->k_dim - op->k_dim) * sizeof *to);
        max[i] = state[i * stride + op->v_dim];
        sum[i] = state[i * stride + op->v_dim + 1];
    }
    memset(score, 0, sizeof score);
    scores_of(tile, q, n, is_f16, score);
    for (size_t i = 0; i < n; i++)
        old[i] = weights_of(tile, op, first + i, score[i], &max[i], &sum[i]);
    add_values(tile, state, stride, n, is_f16, old, score);
    for (size_t i = 0; i < n; i++) {
        state[i * stride + op->v_dim] = max[i];
        state[i * stride + op->v_dim + 1] = sum[i];
    }
}

INLINE void see_all(const struct tile *tile, const struct mb_attention *op, size_t begin, size_t end, int is_f16)
{
    for (; begin + 4 <= end; begin += 4)
        see(tile, op, begin, 4, is_f16);
    for (; begin + 2 <= end; begin += 2)
        see(tile, op, begin, 2, is_f16);
    for (; begin < end; begin++)
        see(tile, op, begin, 1, is_f16);
}

static void attention(const struct mb_attention *op, size_t query_begin, size_t query_end, size_t row_begin, size_t row_end)
{
    assert(op->k_dim <= MB_ATTENTION_DIM_MAX && op->v_dim <= MB_ATTENTION_DIM_MAX);
    struct floats floats;
    struct tile tile = {.k_dim = up_to(op->k_dim, FLOATS), .v_dim = up_to(op->v_dim, FLOATS)};
    size_t widest = tile.k_dim > tile.v_dim ? tile.k_dim : tile.v_dim;
    size_t n_rows = TILE_FLOATS / widest / 4 * 4;
    const int is_few = query_end - query_begin <= FEW_QUERIES;
    const int is_f16 = is_few && op->type == MB_TYPE_F16 && op->k_dim % FLOATS == 0 && op->v_dim % FLOATS == 0;
    n_rows = n_rows > ROWS_MAX ? ROWS_MAX : n_rows;
    /* Only what some query sees. */
    size_t first = row_end, last = row_begin;
    for (size_t i = query_begin; i < query_end; i++) {
        size_t begin = op->begin ? op->begin[i] : 0;
        first = begin < first ? begin : first;
        last = op->end[i] > last ? op->end[i] : last;
    }
    first = first > row_begin ? first : row_begin;
    last = last < row_end ? last : row_end;
    for (tile.first = first; tile.first < last; tile.first += tile.n) {
        tile.n = last - tile.first < n_rows ? last - tile.first : n_rows;
        tile.k = (const char *)op->k + tile.first * op->k_stride;
        tile.v = (const char *)op->v + tile.first * op->v_stride;
        if (is_f16 && tile.n >= 4) { /* less than four rows are left for the end */
            tile.n_rows = tile.n = tile.n / 4 * 4;
            tile.k_stride = op->k_stride;
            tile.v_stride = op->v_stride;
            see_all(&tile, op, query_begin, query_end, 1);
            continue;
        }
        fill_rows(op->type, floats.k, tile.k_dim, tile.k, op->k_stride, op->k_dim, tile.n);
        fill_rows(op->type, floats.v, tile.v_dim, tile.v, op->v_stride, op->v_dim, tile.n);
        tile.k = (const char *)floats.k;
        tile.v = (const char *)floats.v;
        tile.k_stride = tile.k_dim * sizeof(float);
        tile.v_stride = tile.v_dim * sizeof(float);
        tile.n_rows = up_to(tile.n, 4);
        see_all(&tile, op, query_begin, query_end, 0);
    }
}

static void add_attention(struct mb_kernels *kernels)
{
    kernels->attention = attention;
    kernels->dequant[MB_TYPE_Q8_0] = dequant_q8_0;
}

#endif
