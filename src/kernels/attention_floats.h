/* SPDX-License-Identifier: MIT */
/* Attention, written over the vectors of floats_<set>.h, which is included before. Contract: attention.h. Queries pass by a tile
 * of cache rows, up to four at a time. For many queries the tile, K and V, is brought to f32 once and stays in the first-level
 * cache. Up to eight read the cache where it is, in four strips: one thread reads the memory faster so. */
#ifndef MB_ATTENTION_FLOATS_H
#define MB_ATTENTION_FLOATS_H

#include "kernels/kernels.h"
#include "kernels/math_floats.h"

#include <assert.h>
#include <math.h>

#define QUERIES_MAX 4
#define FEW_QUERIES 8           /* bringing a tile to f32 for so few costs more than it saves */
#define ROWS_MAX    512         /* of a tile: of one to three queries, for whom each row is read once; a multiple of FLOATS */
#define ROWS_KEPT   64          /* of a tile that the first-level cache is to keep, for more of them */
#define TILE_FLOATS (16 << 8)   /* brought to f32, of K and of V: 16 KiB each */

/* Rows of the cache in four strips that are read side by side: row r is in strip r % 4, the r / 4-th of it. */
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

/* Elements of a row that are taken together: a line of F16, a block of Q8_0. */
#define SPAN 32

/* Bytes of n elements, a multiple of 16. */
INLINE size_t span_bytes(uint32_t type, size_t n)
{
    return type == MB_TYPE_Q8_0 ? n * sizeof(struct mb_block_q8_0) / SPAN : n * (type == MB_TYPE_F16 ? 2 : 4);
}

/* What the elements that load_row() gives from d on, within a span, are to be multiplied by. */
INLINE vf scale_of(uint32_t type, const char *row, size_t d)
{
    return type == MB_TYPE_Q8_0 ? all_f16(((const struct mb_block_q8_0 *)(const void *)row + d / SPAN)->d) : all(1);
}

/* A vector of a row from element d on. */
INLINE vf load_row(uint32_t type, const char *row, size_t d)
{
    if (type == MB_TYPE_Q8_0)
        return load_s8(((const struct mb_block_q8_0 *)(const void *)row + d / SPAN)->qs + d % SPAN);
    return type == MB_TYPE_F16 ? load_f16((const uint16_t *)(const void *)row + d) : load((const float *)(const void *)row + d);
}

/* Row r, a multiple of 2; those that come with it (of four, if r is a multiple of 4) are `next` bytes after each other. */
INLINE const char *row_at(const struct strips *rows, size_t r)
{
    return rows->at + r % 4 * rows->next + r / 4 * rows->step;
}

/* Rows are asked for AHEAD_BYTES before they are needed, a span of each at a time; those of f32 come by themselves. */
#define AHEAD_BYTES 512

INLINE void ask_ahead(uint32_t type, const char *rows, size_t next, size_t n_rows, size_t d)
{
    for (size_t k = 0; k < n_rows && type != MB_TYPE_F32; k++)
        __builtin_prefetch(rows + k * next + span_bytes(type, d) + AHEAD_BYTES);
}

/* sum[i][k] += q[i] . rows[k] over n_elements (a constant) from d on. */
INLINE void add_products(vf sum[][4], uint32_t type, const char *rows, size_t next, size_t n_rows, const float *q,
                         size_t q_stride, size_t n, size_t d, size_t n_elements)
{
    vf scale[4];
    for (size_t k = 0; k < n_rows; k++)
        scale[k] = scale_of(type, rows + k * next, d);
    UNROLL
    for (size_t e = d; e < d + n_elements; e += FLOATS)
        for (size_t k = 0; k < n_rows; k++) {
            vf row = load_row(type, rows + k * next, e);
            if (type == MB_TYPE_Q8_0)
                row = times(row, scale[k]);
            for (size_t i = 0; i < n; i++)
                sum[i][k] = fma3(row, load(q + i * q_stride + e), sum[i][k]);
        }
}

/* score[i][r] = q[i] . k[r] for n queries; two or four rows at a time keep eight sums going. */
INLINE void scores_of(const struct tile *tile, const float *q, size_t n, uint32_t type, float score[][ROWS_MAX])
{
    const size_t n_rows = n == 4 ? 2 : 4, next = tile->k.next, dim = tile->k.dim;
    for (size_t r = 0; r < tile->n_rows; r += n_rows) {
        const char *rows = row_at(&tile->k, r);
        vf sum[QUERIES_MAX][4];
        size_t d = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n_rows; k++)
                sum[i][k] = all(0);
        for (; d + SPAN <= dim; d += SPAN) {
            ask_ahead(type, rows, next, n_rows, d);
            add_products(sum, type, rows, next, n_rows, q, dim, n, d, SPAN);
        }
        for (; d < dim; d += FLOATS)
            add_products(sum, type, rows, next, n_rows, q, dim, n, d, FLOATS);
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

/* state[i] += weight[i][k] * rows[k] over n_elements (a constant) from d on, of four rows. */
INLINE void add_rows(float *state, size_t state_stride, uint32_t type, const char *rows, size_t next, size_t n,
                     vf weight[][4], size_t d, size_t n_elements)
{
    vf w[2][4];
    for (size_t k = 0; k < 4; k++)
        for (size_t i = 0; i < n; i++)
            w[i][k] = type == MB_TYPE_Q8_0 ? times(weight[i][k], scale_of(type, rows + k * next, d)) : weight[i][k];
    UNROLL
    for (size_t e = d; e < d + n_elements; e += FLOATS) {
        vf sum[2];
        for (size_t i = 0; i < n; i++)
            sum[i] = load(state + i * state_stride + e);
        for (size_t k = 0; k < 4; k++) {
            vf row = load_row(type, rows + k * next, e);
            for (size_t i = 0; i < n; i++)
                sum[i] = fma3(row, w[i][k], sum[i]);
        }
        for (size_t i = 0; i < n; i++)
            store(state + i * state_stride + e, sum[i]);
    }
}

/* One or two queries: four rows at a time pass by their states. */
INLINE void add_values(const struct tile *tile, float *state, size_t state_stride, size_t n, uint32_t type, const float *old,
                       float weight[][ROWS_MAX])
{
    const size_t next = tile->v.next, dim = tile->v.dim;
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; old[i] != 1 && d < dim; d += FLOATS)
            store(state + i * state_stride + d, times(load(state + i * state_stride + d), all(old[i])));
    for (size_t r = 0; r < tile->n_rows; r += 4) {
        const char *rows = row_at(&tile->v, r);
        vf w[2][4];
        size_t d = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < 4; k++)
                w[i][k] = all(weight[i][r + k]);
        for (; d + SPAN <= dim; d += SPAN) {
            ask_ahead(type, rows, next, 4, d);
            add_rows(state, state_stride, type, rows, next, n, w, d, SPAN);
        }
        for (; d < dim; d += FLOATS)
            add_rows(state, state_stride, type, rows, next, n, w, d, FLOATS);
    }
}

/* Four queries, whose states are too many for that: all rows pass by some elements of each. Lines of the next tile are asked for
 * in the order in which they lie, so many for each row that all are when the last elements have been. */
INLINE void add_columns(const struct tile *tile, float *state, size_t state_stride, uint32_t type, const float *old,
                        float weight[][ROWS_MAX], size_t d, size_t wide)
{
    const size_t next = tile->v.next, n_steps = tile->n_rows / 4;
    const char *after = tile->v.at + n_steps * tile->v.step + span_bytes(type, d) * n_steps;
    vf sum[4][2];
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < wide; k++)
            sum[i][k] = times(load(state + i * state_stride + d + FLOATS * k), all(old[i]));
    for (size_t r = 0; r < tile->n_rows; r += 2) {
        const char *rows = row_at(&tile->v, r);
        if (type != MB_TYPE_F32)
            __builtin_prefetch(after + (r % 4 + r / 4 % 2) * next + r / 8 * 64);
        UNROLL
        for (size_t s = 0; s < 2; s++) {
            vf scale = scale_of(type, rows + s * next, d);
            for (size_t k = 0; k < wide; k++) {
                vf row = load_row(type, rows + s * next, d + FLOATS * k);
                if (type == MB_TYPE_Q8_0)
                    row = times(row, scale);
                for (size_t i = 0; i < 4; i++)
                    sum[i][k] = fma3(row, all(weight[i][r + s]), sum[i][k]);
            }
        }
    }
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < wide; k++)
            store(state + i * state_stride + d + FLOATS * k, sum[i][k]);
}

/* state[i] = old[i] * state[i] + sum over rows of weight[i][r] * v[r]. */
INLINE void add_tile(const struct tile *tile, float *state, size_t state_stride, size_t n, uint32_t type, const float *old,
                       float weight[][ROWS_MAX])
{
    size_t d = 0;
    if (n < 4) {
        add_values(tile, state, state_stride, n, type, old, weight);
        return;
    }
    for (; d + 2 * FLOATS <= tile->v.dim; d += 2 * FLOATS)
        add_columns(tile, state, state_stride, type, old, weight, d, 2);
    for (; d < tile->v.dim; d += FLOATS)
        add_columns(tile, state, state_stride, type, old, weight, d, 1);
}

/* n queries (1, 2 or 4, a constant) from `first` see the tile. The largest score and the sum lie behind v_dim, where whole
 * vectors of sums may reach, so they are put aside. */
INLINE void see(const struct tile *tile, const struct mb_attention *op, size_t first, size_t n, uint32_t type)
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
    scores_of(tile, q, n, type, score);
    for (size_t i = 0; i < n; i++)
        old[i] = weights_of(tile, op, first + i, score[i], &max[i], &sum[i]);
    add_tile(tile, state, stride, n, type, old, score);
    for (size_t i = 0; i < n; i++) {
        state[i * stride + op->v_dim] = max[i];
        state[i * stride + op->v_dim + 1] = sum[i];
    }
}

INLINE void see_all(const struct tile *tile, const struct mb_attention *op, size_t begin, size_t end, uint32_t type)
{
    for (; begin + 4 <= end; begin += 4)
        see(tile, op, begin, 4, type);
    for (; begin + 2 <= end; begin += 2)
        see(tile, op, begin, 2, type);
    for (; begin < end; begin++)
        see(tile, op, begin, 1, type);
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
        see_all(&tile, op, query_begin, query_end, MB_TYPE_F32);
    }
}

/* Rows [begin, begin + 4 part) that all queries see: four strips of `part` rows. */
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
        switch (op->type) {
        case MB_TYPE_F16: see_all(&tile, op, query_begin, query_end, MB_TYPE_F16); break;
        case MB_TYPE_Q8_0: see_all(&tile, op, query_begin, query_end, MB_TYPE_Q8_0); break;
        default: see_all(&tile, op, query_begin, query_end, MB_TYPE_F32);
        }
    }
}

static void attention(const struct mb_attention *op, size_t query_begin, size_t query_end, size_t row_begin, size_t row_end)
{
    assert(op->k_dim <= MB_ATTENTION_DIM_MAX && op->v_dim <= MB_ATTENTION_DIM_MAX);
    const size_t widest = up_to(op->k_dim > op->v_dim ? op->k_dim : op->v_dim, FLOATS);
    const size_t fitting = TILE_FLOATS / widest / 4 * 4, n_rows = fitting > ROWS_KEPT ? ROWS_KEPT : fitting;
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
    if (query_end - query_begin > FEW_QUERIES || op->k_dim % FLOATS || op->v_dim % FLOATS || end < begin + 4) {
        see_filled(op, query_begin, query_end, first, last, n_rows);
        return;
    }
    const size_t part = (end - begin) / 4;
    see_filled(op, query_begin, query_end, first, begin, n_rows);
    see_strips(op, query_begin, query_end, begin, part, query_end - query_begin < 4 ? ROWS_MAX : ROWS_KEPT);
    see_filled(op, query_begin, query_end, begin + 4 * part, last, n_rows);
}

static void add_attention(struct mb_kernels *kernels)
{
    kernels->attention = attention;
    kernels->dequant[MB_TYPE_Q8_0] = dequant_q8_0;
}

#endif
