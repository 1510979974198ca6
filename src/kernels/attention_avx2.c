/* SPDX-License-Identifier: MIT */
/* Attention with AVX2. Contract: attention.h. A tile of cache rows is brought to f32 once, K and V, and stays in the first-level
 * cache while the queries pass by, up to four at a time. */
#include "kernels/math_avx2.h"
#include "kernels/x86_avx2.h"

#include <assert.h>
#include <math.h>

#define QUERIES_MAX 4
#define ROWS_MAX    64          /* of a tile; a multiple of 8 */
#define TILE_FLOATS (16 << 8)   /* of K and of V: 16 KiB each */

/* Some rows of the cache in f32; rows are padded with zeros to vectors of 8. */
struct tile {
    float k[TILE_FLOATS + 64], v[TILE_FLOATS + 64];
    size_t k_stride, v_stride;
    size_t first, n;  /* rows of the cache */
    size_t n_rows;    /* and with zeros that nobody sees, to a multiple of 4 */
};

static size_t up_to(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static void dequant_q8_0(float *to, const void *from, size_t n)
{
    const struct mb_block_q8_0 *block = from;
    for (size_t b = 0; b < n / 32; b++)
        for (int i = 0; i < 4; i++) {
            __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(block[b].qs + 8 * i)));
            _mm256_storeu_ps(to + 32 * b + 8 * i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), _mm256_set1_ps(_cvtsh_ss(block[b].d))));
        }
}

static void dequant_row(uint32_t type, float *to, const void *from, size_t n)
{
    size_t i = 0;
    if (type == MB_TYPE_Q8_0) {
        dequant_q8_0(to, from, n);
        return;
    }
    for (; type == MB_TYPE_F16 && i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)from + i))));
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

/* score[i][r] = q[i] . k[r] for n queries; two or four rows at a time keep eight sums going. */
INLINE void scores_of(const struct tile *tile, const float *q, size_t n, float score[][ROWS_MAX])
{
    const size_t n_rows = n == 4 ? 2 : 4;
    for (size_t r = 0; r < tile->n_rows; r += n_rows) {
        __m256 sum[QUERIES_MAX][4];
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n_rows; k++)
                sum[i][k] = _mm256_setzero_ps();
        for (size_t d = 0; d < tile->k_stride; d += 8)
            for (size_t k = 0; k < n_rows; k++) {
                __m256 row = _mm256_loadu_ps(tile->k + (r + k) * tile->k_stride + d);
                for (size_t i = 0; i < n; i++)
                    sum[i][k] = _mm256_fmadd_ps(row, _mm256_loadu_ps(q + i * tile->k_stride + d), sum[i][k]);
            }
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n_rows; k++)
                score[i][r + k] = sum_ps(sum[i][k]);
    }
}

/* Scores of one query to weights exp(score - max); returns the factor for what was summed before and moves max and sum on. */
INLINE float weights_of(const struct tile *tile, const struct mb_attention *op, size_t query, float *score, float *max,
                        float *sum)
{
    size_t begin = op->begin && op->begin[query] > tile->first ? op->begin[query] - tile->first : 0;
    size_t end = op->end[query] > tile->first ? op->end[query] - tile->first : 0;
    __m256 most = _mm256_set1_ps(*max);
    end = end < tile->n ? end : tile->n;
    for (size_t r = 0; r < ROWS_MAX && r < tile->n_rows; r += 8) {
        __m256 s = _mm256_loadu_ps(score + r);
        if (op->soft_cap != 0)
            s = _mm256_mul_ps(tanh_ps(_mm256_mul_ps(s, _mm256_set1_ps(1 / op->soft_cap))), _mm256_set1_ps(op->soft_cap));
        _mm256_storeu_ps(score + r, s);
        if (r < begin || r + 8 > end)
            for (size_t i = r; i < r + 8; i++)
                if (i < begin || i >= end)
                    score[i] = -INFINITY;
        most = _mm256_max_ps(_mm256_loadu_ps(score + r), most);
    }
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    float new_max = _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
    if (new_max == -INFINITY) { /* nothing seen yet */
        memset(score, 0, tile->n_rows * sizeof *score);
        return 0;
    }
    __m256 total = _mm256_setzero_ps();
    for (size_t r = 0; r < tile->n_rows; r += 8) {
        __m256 w = exp_ps(_mm256_sub_ps(_mm256_loadu_ps(score + r), _mm256_set1_ps(new_max)));
        _mm256_storeu_ps(score + r, w);
        total = _mm256_add_ps(total, w);
    }
    float old = *max == -INFINITY ? 0 : expf(*max - new_max);
    *max = new_max;
    *sum = *sum * old + sum_ps(total);
    return old;
}

/* state[i] = old[i] * state[i] + sum over rows of weight[i][r] * v[r] */
INLINE void add_values(const struct tile *tile, float *state, size_t state_stride, size_t n, const float *old,
                       float weight[][ROWS_MAX])
{
    size_t d = 0;
    for (; d + 16 <= tile->v_stride; d += 16) {
        __m256 sum[QUERIES_MAX][2];
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < 2; k++)
                sum[i][k] = _mm256_mul_ps(_mm256_loadu_ps(state + i * state_stride + d + 8 * k), _mm256_set1_ps(old[i]));
        for (size_t r = 0; r < tile->n_rows; r++) {
            const float *v = tile->v + r * tile->v_stride + d;
            __m256 a = _mm256_loadu_ps(v), b = _mm256_loadu_ps(v + 8);
            for (size_t i = 0; i < n; i++) {
                __m256 w = _mm256_set1_ps(weight[i][r]);
                sum[i][0] = _mm256_fmadd_ps(a, w, sum[i][0]);
                sum[i][1] = _mm256_fmadd_ps(b, w, sum[i][1]);
            }
        }
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < 2; k++)
                _mm256_storeu_ps(state + i * state_stride + d + 8 * k, sum[i][k]);
    }
    for (; d < tile->v_stride; d += 8)
        for (size_t i = 0; i < n; i++) {
            __m256 sum = _mm256_mul_ps(_mm256_loadu_ps(state + i * state_stride + d), _mm256_set1_ps(old[i]));
            for (size_t r = 0; r < tile->n_rows; r++)
                sum = _mm256_fmadd_ps(_mm256_loadu_ps(tile->v + r * tile->v_stride + d), _mm256_set1_ps(weight[i][r]), sum);
            _mm256_storeu_ps(state + i * state_stride + d, sum);
        }
}

/* n queries (1, 2 or 4, a constant) from `first` see the tile. The largest score and the sum lie behind v_dim, where whole
 * vectors of sums may reach, so they are put aside. */
INLINE void see(const struct tile *tile, const struct mb_attention *op, size_t first, size_t n)
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
        float *to = q + i * tile->k_stride;
        for (size_t d = 0; d < op->k_dim; d++)
            to[d] = op->q[(first + i) * op->q_stride + d] * op->scale;
        memset(to + op->k_dim, 0, (tile->k_stride - op->k_dim) * sizeof *to);
        max[i] = state[i * stride + op->v_dim];
        sum[i] = state[i * stride + op->v_dim + 1];
    }
    memset(score, 0, sizeof score);
    scores_of(tile, q, n, score);
    for (size_t i = 0; i < n; i++)
        old[i] = weights_of(tile, op, first + i, score[i], &max[i], &sum[i]);
    add_values(tile, state, stride, n, old, score);
    for (size_t i = 0; i < n; i++) {
        state[i * stride + op->v_dim] = max[i];
        state[i * stride + op->v_dim + 1] = sum[i];
    }
}

static void attention(const struct mb_attention *op, size_t query_begin, size_t query_end, size_t row_begin, size_t row_end)
{
    assert(op->k_dim <= MB_ATTENTION_DIM_MAX && op->v_dim <= MB_ATTENTION_DIM_MAX);
    struct tile tile = {.k_stride = up_to(op->k_dim, 8), .v_stride = up_to(op->v_dim, 8)};
    size_t widest = tile.k_stride > tile.v_stride ? tile.k_stride : tile.v_stride;
    size_t n_rows = TILE_FLOATS / widest / 4 * 4;
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
    for (tile.first = first; tile.first < last; tile.first += n_rows) {
        size_t n = last - tile.first < n_rows ? last - tile.first : n_rows;
        fill_rows(op->type, tile.k, tile.k_stride, (const char *)op->k + tile.first * op->k_stride, op->k_stride, op->k_dim, n);
        fill_rows(op->type, tile.v, tile.v_stride, (const char *)op->v + tile.first * op->v_stride, op->v_stride, op->v_dim, n);
        tile.n = n;
        tile.n_rows = up_to(n, 4);
        size_t i = query_begin;
        for (; i + 4 <= query_end; i += 4)
            see(&tile, op, i, 4);
        for (; i + 2 <= query_end; i += 2)
            see(&tile, op, i, 2);
        for (; i < query_end; i++)
            see(&tile, op, i, 1);
    }
}

void mb_kernels_add_avx2_attention(struct mb_kernels *kernels)
{
    kernels->attention = attention;
    kernels->dequant[MB_TYPE_Q8_0] = dequant_q8_0;
}
