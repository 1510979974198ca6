/* SPDX-License-Identifier: MIT */
/* Attention, written over the vectors of floats_<set>.h, which is included before. Contract: attention.h. Queries pass by a tile
 * of cache rows, up to four at a time. For many queries the tile, K and V, is brought to f32 once and stays in the first-level
 * cache. Up to eight read a cache of F32 or F16 where it is, in four strips: one thread reads the memory faster so. */
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

/* Rows of the cache, f32 or F16, in four strips that are read side by side: row r is in strip r % 4, the r / 4-th of it. */
struct strips {
    const char *at;
    size_t next, step; /* bytes from strip to strip, and from row to row of one */
    size_t dim;        /* elements that are read, a multiple of FLOATS; those brought to f32 are padded with zeros */
};

struct tile {
    struct strips k, v;
    size_t first, n;  /* rows of the cache; if all queries see all, first is not looked at */
    size_t n_rows;    /* n, and with zeros that nobody sees, to a multiple of 4 */
    int all_seen;
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

/* Row r, a multiple of 2; those that come with it (of four, if r is a multiple of 4) are `next` bytes after each other. */
INLINE const char *row_at(const struct strips *rows, size_t r)
{
    return rows->at + r % 4 * rows->next + r / 4 * rows->step;
}

/* F16 rows are asked for AHEAD_BYTES before they are needed, a line of each at a time. */
#define AHEAD_BYTES 512
#define LINE        (64 / sizeof(uint16_t))

INLINE void ask_ahead(const char *rows, size_t next, size_t n_rows, size_t d)
{
    for (size_t k = 0; k < n_rows; k++)
        __builtin_prefetch(rows + k * next + d * sizeof(uint16_t) + AHEAD_BYTES);
}

/* sum[i][k] += q[i] . rows[k] over elements d to d + FLOATS. */
INLINE void add_products(vf sum[][4], const char *rows, size_t next, size_t n_rows, const float *q, size_t q_stride, size_t n,
                         int is_f16, size_t d)
{
    for (size_t k = 0; k < n_rows; k++) {
        vf row = load_row(rows + k * next, d, is_f16);
        for (size_t i = 0; i < n; i++)
            sum[i][k] = fma3(row, load(q + i * q_stride + d), sum[i][k]);
    }
}

/* score[i][r] = q[i] . k[r] for n queries; two or four rows at a time keep eight sums going. */
INLINE void scores_of(const struct tile *tile, const float *q, size_t n, int is_f16, float score[][ROWS_MAX])
{
    const size_t n_rows = n == 4 ? 2 : 4, next = tile->k.next, dim = tile->k.dim;
    for (size_t r = 0; r < tile->n_rows; r += n_rows) {
        const char *rows = row_at(&tile->k, r);
        vf sum[QUERIES_MAX][4];
        size_t d = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n_rows; k++)
                sum[i][k] = all(0);
        for (; is_f16 && d + LINE <= dim; d += LINE) {
            ask_ahead(rows, next, n_rows, d);
            UNROLL
            for (size_t e = 0; e < LINE; e += FLOATS)
                add_products(sum, rows, next, n_rows, q, dim, n, is_f16, d + e);
        }
        for (; d < dim; d += FLOATS)
            add_products(sum, rows, next, n_rows, q, dim, n, is_f16, d);
        for (size_t i = 0; i < n; i += 4 / n_rows) {
            float part[4];
            store_sums(part, sum[i][0], sum[i][1], n_rows == 2 ? sum[i + 1][0] : sum[i][2],
                       n_rows == 2 ? sum[i + 1][1] : sum[i][3]);
            for (size_t k = 0; k < 4; k += n_rows)
                memcpy(score[i + k / 2] + r, part + k, n_rows * sizeof *part);
        }
    }
    for (size_t i = 0; i < n && tile->n_rows % FLOATS; i++)
        memset(score[i] + tile->n_rows, 0, (FLOATS - tile->n_rows % FLOATS) * sizeof **score);
}

/* Scores of one query to weights exp(score - max); returns the factor for what was summed before and moves max and sum on. */
INLINE float weights_of(const struct tile *tile, const struct mb_attention *op, size_t query, float *score, float *max,
                        float *sum)
{
    size_t begin = !tile->all_seen && op->begin && op->begin[query] > tile->first ? op->begin[query] - tile->first : 0;
    size_t end = tile->all_seen ? tile->n : op->end[query] > tile->first ? op->end[query] - tile->first : 0;
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

/* state[i] += weight[i][k] * rows[k] over elements d to d + FLOATS. */
INLINE void add_row(float *state, size_t state_stride, const char *rows, size_t next, size_t n_rows, size_t n, int is_f16,
                    vf weight[][4], size_t d)
{
    vf sum[QUERIES_MAX];
    for (size_t i = 0; i < n; i++)
        sum[i] = load(state + i * state_stride + d);
    for (size_t k = 0; k < n_rows; k++) {
        vf row = load_row(rows + k * next, d, is_f16);
        for (size_t i = 0; i < n; i++)
            sum[i] = fma3(row, weight[i][k], sum[i]);
    }
    for (size_t i = 0; i < n; i++)
        store(state + i * state_stride + d, sum[i]);
}

/* One or two queries: four rows at a time pass by their states. */
INLINE void add_values(const struct tile *tile, float *state, size_t state_stride, size_t n, int is_f16, const float *old,
                       float weight[][ROWS_MAX])
{
    const size_t next = tile->v.next, dim = tile->v.dim;
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; old[i] != 1 && d < dim; d += FLOATS)
            store(state + i * state_stride + d, times(load(state + i * state_stride + d), all(old[i])));
    for (size_t r = 0; r < tile->n_rows; r += 4) {
        const char *rows = row_at(&tile->v, r);
        vf w[QUERIES_MAX][4];
        size_t d = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < 4; k++)
                w[i][k] = all(weight[i][r + k]);
        for (; is_f16 && d + LINE <= dim; d += LINE) {
            ask_ahead(rows, next, 4, d);
            UNROLL
            for (size_t e = 0; e < LINE; e += FLOATS)
                add_row(state, state_stride, rows, next, 4, n, is_f16, w, d + e);
        }
        for (; d < dim; d += FLOATS)
            add_row(state, state_stride, rows, next, 4, n, is_f16, w, d);
    }
}

/* Four queries, whose states are too many for that: all rows pass by some elements of each. Lines of the next F16 tile are asked
 * for in the order in which they lie, so many for each row that all are when the last elements have been. */
INLINE void add_columns(const struct tile *tile, float *state, size_t state_stride, int is_f16, const float *old,
                        float weight[][ROWS_MAX], size_t d, size_t wide)
{
    const size_t next = tile->v.next, n_steps = tile->n_rows / 4;
    const char *after = tile->v.at + n_steps * tile->v.step + d * sizeof(uint16_t) * n_steps;
    vf sum[4][2];
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < wide; k++)
            sum[i][k] = times(load(state + i * state_stride + d + FLOATS * k), all(old[i]));
    for (size_t r = 0; r < tile->n_rows; r += 2) {
        const char *rows = row_at(&tile->v, r);
        if (is_f16)
            __builtin_prefetch(after + (r % 4 + r / 4 % 2) * next + r / 8 * 64);
        UNROLL
        for (size_t s = 0; s < 2; s++)
            for (size_t k = 0; k < wide; k++) {
                vf row = load_row(rows + s * next, d + FLOATS * k, is_f16);
                for (size_t i = 0; i < 4; i++)
                    sum[i][k] = fma3(row, all(weight[i][r + s]), sum[i][k]);
            }
    }
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < wide; k++)
            store(state + i * state_stride + d + FLOATS * k, sum[i][k]);
}

/* state[i] = old[i] * state[i] + sum over rows of weight[i][r] * v[r]. */
INLINE void add_tile(const struct tile *tile, float *state, size_t state_stride, size_t n, int is_f16, const float *old,
                       float weight[][ROWS_MAX])
{
    size_t d = 0;
    if (n < 4) {
        add_values(tile, state, state_stride, n, is_f16, old, weight);
        return;
    }
    for (; d + 2 * FLOATS <= tile->v.dim; d += 2 * FLOATS)
        add_columns(tile, state, state_stride, is_f16, old, weight, d, 2);
    for (; d < tile->v.dim; d += FLOATS)
        add_columns(tile, state, state_stride, is_f16, old, weight, d, 1);
}

/* n queries (1, 2 or 4, a constant) from `first` see the tile. The largest score and the sum lie behind v_dim, where whole
 * vectors of sums may reach, so they are put aside. */
INLINE void see(const struct tile *tile, const struct mb_attention *op, size_t first, size_t n, int is_f16)
{
    float q[QUERIES_MAX * MB_ATTENTION_DIM_MAX], score[QUERIES_MAX][ROWS_MAX];
    float max[QUERIES_MAX], sum[QUERIES_MAX], old[QUERIES_MAX];
    size_t stride = mb_attention_state(op->v_dim);
    float *state = op->state + first * stride;
    int any = tile->all_seen;
    for (size_t i = 0; i < n && !any; i++)
        any |= op->end[first + i] > tile->first && (!op->begin || op->begin[first + i] < tile->first + tile->n);
    if (!any)
        return;
    for (size_t i = 0; i < n; i++) {
        float *to = q + i * tile->k.dim;
        for (size_t d = 0; d < op->k_dim; d++)
            to[d] = op->q[(first + i) * op->q_stride + d] * op->scale;
        memset(to + op->k_dim, 0, (tile->k.dim - op->k_dim) * sizeof *to);
        max[i] = state[i * stride + op->v_dim];
        sum[i] = state[i * stride + op->v_dim + 1];
    }
    scores_of(tile, q, n, is_f16, score);
    for (size_t i = 0; i < n; i++)
        old[i] = weights_of(tile, op, first + i, score[i], &max[i], &sum[i]);
    add_tile(tile, state, stride, n, is_f16, old, score);
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

/* Rows [begin, end), brought to f32. */
static void see_filled(const struct mb_attention *op, size_t query_begin, size_t query_end, size_t begin, size_t end,
                       size_t n_rows)
{
    struct floats floats;
    struct tile tile = {.k = {.at = (const char *)floats.k, .dim = up_to(op->k_dim, FLOATS)},
                        .v = {.at = (const char *)floats.v, .dim = up_to(op->v_dim, FLOATS)}};
    tile.k.next = tile.k.dim * sizeof(float);
    tile.v.next = tile.v.dim * sizeof(float);
    tile.k.step = 4 * tile.k.next;
    tile.v.step = 4 * tile.v.next;
    for (tile.first = begin; tile.first < end; tile.first += tile.n) {
        tile.n = end - tile.first < n_rows ? end - tile.first : n_rows;
        tile.n_rows = up_to(tile.n, 4);
        fill_rows(op->type, floats.k, tile.k.dim, (const char *)op->k + tile.first * op->k_stride, op->k_stride, op->k_dim,
                  tile.n);
        fill_rows(op->type, floats.v, tile.v.dim, (const char *)op->v + tile.first * op->v_stride, op->v_stride, op->v_dim,
                  tile.n);
        see_all(&tile, op, query_begin, query_end, 0);
    }
}

/* Rows [begin, begin + 4 part) of a cache of F32 or F16, which all queries see: four strips of `part` rows. */
static void see_strips(const struct mb_attention *op, size_t query_begin, size_t query_end, size_t begin, size_t part,
                       size_t n_rows)
{
    struct tile tile = {.k = {.next = part * op->k_stride, .step = op->k_stride, .dim = op->k_dim},
                        .v = {.next = part * op->v_stride, .step = op->v_stride, .dim = op->v_dim},
                        .all_seen = 1};
    for (size_t r = 0; r < part; r += tile.n / 4) {
        tile.n = tile.n_rows = 4 * part - 4 * r < n_rows ? 4 * part - 4 * r : n_rows;
        tile.k.at = (const char *)op->k + (begin + r) * op->k_stride;
        tile.v.at = (const char *)op->v + (begin + r) * op->v_stride;
        see_all(&tile, op, query_begin, query_end, op->type == MB_TYPE_F16);
    }
}

static void attention(const struct mb_attention *op, size_t query_begin, size_t query_end, size_t row_begin, size_t row_end)
{
    assert(op->k_dim <= MB_ATTENTION_DIM_MAX && op->v_dim <= MB_ATTENTION_DIM_MAX);
    const size_t widest = up_to(op->k_dim > op->v_dim ? op->k_dim : op->v_dim, FLOATS);
    const size_t fitting = TILE_FLOATS / widest / 4 * 4, n_rows = fitting > ROWS_MAX ? ROWS_MAX : fitting;
    /* What some query sees, and what all see. */
    size_t first = row_end, last = row_begin, begin = row_begin, end = row_end;
    for (size_t i = query_begin; i < query_end; i++) {
        size_t from = op->begin ? op->begin[i] : 0, to = op->end[i];
        first = from < first ? from : first;
        last = to > last ? to : last;
        begin = from > begin ? from : begin;
        end = to < end ? to : end;
    }
    first = first > row_begin ? first : row_begin;
    last = last < row_end ? last : row_end;
    const int has_floats = op->type == MB_TYPE_F16 || op->type == MB_TYPE_F32;
    if (query_end - query_begin > FEW_QUERIES || !has_floats || op->k_dim % FLOATS || op->v_dim % FLOATS || end < begin + 4) {
        see_filled(op, query_begin, query_end, first, last, n_rows);
        return;
    }
    const size_t part = (end - begin) / 4;
    see_filled(op, query_begin, query_end, first, begin, n_rows);
    see_strips(op, query_begin, query_end, begin, part, n_rows);
    see_filled(op, query_begin, query_end, begin + 4 * part, last, n_rows);
}

static void add_attention(struct mb_kernels *kernels)
{
    kernels->attention = attention;
    kernels->dequant[MB_TYPE_Q8_0] = dequant_q8_0;
}

#endif
