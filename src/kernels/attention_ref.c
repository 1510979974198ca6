/* SPDX-License-Identifier: MIT */
/* Attention, the reference, and what all levels share: clearing, merging and finishing states. Contract: attention.h. */
#include "kernels/attention.h"
#include "kernels/quant.h"

#include <assert.h>
#include <math.h>

void mb_attention_clear(float *state, size_t v_dim, size_t n_queries)
{
    size_t stride = mb_attention_state(v_dim);
    memset(state, 0, n_queries * stride * sizeof *state);
    for (size_t i = 0; i < n_queries; i++)
        state[i * stride + v_dim] = -INFINITY;
}

/* exp(from - to), 0 where nothing has been seen. */
static float rescale(float from, float to)
{
    return from == -INFINITY ? 0 : expf(from - to);
}

void mb_attention_merge(float *to, const float *from, size_t v_dim, size_t n_queries)
{
    for (size_t i = 0; i < n_queries; i++, to += mb_attention_state(v_dim), from += mb_attention_state(v_dim)) {
        float max = to[v_dim] >= from[v_dim] ? to[v_dim] : from[v_dim];
        float a = rescale(to[v_dim], max), b = rescale(from[v_dim], max);
        for (size_t j = 0; j < v_dim; j++)
            to[j] = a * to[j] + b * from[j];
        to[v_dim] = max;
        to[v_dim + 1] = a * to[v_dim + 1] + b * from[v_dim + 1];
    }
}

void mb_attention_finish(float *out, const float *state, size_t v_dim, const float *sink)
{
    float max = state[v_dim], sum = state[v_dim + 1], scale = 1;
    if (sink && *sink > max) { /* so that no exponential overflows */
        scale = rescale(max, *sink);
        sum = sum * scale + 1;
    } else if (sink)
        sum += rescale(*sink, max);
    scale = sum == 0 ? 0 : scale / sum;
    for (size_t j = 0; j < v_dim; j++)
        out[j] = state[j] * scale;
}

void mb_attention_ref(const struct mb_attention *op, size_t query_begin, size_t query_end, size_t row_begin,
                      size_t row_end)
{
    assert(op->k_dim <= MB_ATTENTION_DIM_MAX && op->v_dim <= MB_ATTENTION_DIM_MAX);
    mb_dequant_fn *dequant = mb_dequant_ref(op->type);
    for (size_t i = query_begin; i < query_end; i++) {
        const float *q = op->q + i * op->q_stride;
        float *state = op->state + i * mb_attention_state(op->v_dim), *max = state + op->v_dim, *sum = max + 1;
        size_t begin = op->begin && op->begin[i] > row_begin ? op->begin[i] : row_begin;
        for (size_t row = begin; row < row_end && row < op->end[i]; row++) {
            float x[MB_ATTENTION_DIM_MAX];
            dequant(x, (const char *)op->k + row * op->k_stride, op->k_dim);
            double score = 0;
            for (size_t j = 0; j < op->k_dim; j++)
                score += (double)q[j] * x[j];
            score *= op->scale;
            if (op->soft_cap != 0)
                score = op->soft_cap * tanh(score / op->soft_cap);
            double new_max = score > *max ? (float)score : *max;
            double old = *max == -INFINITY ? 0 : exp(*max - new_max), weight = exp(score - new_max);
            dequant(x, (const char *)op->v + row * op->v_stride, op->v_dim);
            for (size_t j = 0; j < op->v_dim; j++)
                state[j] = (float)(old * state[j] + weight * x[j]);
            *sum = (float)(old * *sum + weight);
            *max = (float)new_max;
        }
    }
}
