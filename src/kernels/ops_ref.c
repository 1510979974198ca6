/* SPDX-License-Identifier: MIT */
/* The operations between the matrices, the reference: each in double, rounded once. Contracts: ops.h. */
#include "kernels/ops.h"

#include <assert.h>
#include <math.h>

void mb_rms_norm_ref(float *y, const float *x, const float *w, size_t n, float eps)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    double scale = 1 / sqrt(sum / (double)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(x[i] * scale * (w ? w[i] : 1));
}

void mb_layer_norm_ref(float *y, const float *x, const float *w, const float *b, size_t n, float eps)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    double scale = 1 / sqrt(squares / (double)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * scale * (w ? w[i] : 1) + (b ? b[i] : 0));
}

void mb_rope_ref(float *x, size_t n_heads, size_t stride, size_t n_rot, const float *table, enum mb_rope_kind kind)
{
    assert(n_rot % 2 == 0);
    for (size_t h = 0; h < n_heads; h++, x += stride)
        for (size_t i = 0; i < n_rot / 2; i++) {
            float *a = kind == MB_ROPE_NEOX ? x + i : x + 2 * i;
            float *b = kind == MB_ROPE_NEOX ? a + n_rot / 2 : a + 1;
            double re = *a, im = *b, c = table[2 * i], s = table[2 * i + 1];
            *a = (float)(re * c - im * s);
            *b = (float)(re * s + im * c);
        }
}

void mb_softmax_ref(float *y, const float *x, size_t n, float scale, const float *sink)
{
    double max = sink ? *sink : -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, (double)scale * x[i]);
    if (max == -INFINITY)
        max = 0; /* every exponential is 0, and not that of a NaN */
    for (size_t i = 0; i < n; i++)
        sum += exp((double)scale * x[i] - max);
    if (sink)
        sum += exp(*sink - max);
    for (size_t i = 0; i < n; i++)
        y[i] = sum == 0 ? 0 : (float)(exp((double)scale * x[i] - max) / sum);
}

static double activate(double g, enum mb_glu glu)
{
    const double sqrt_2_over_pi = 0.79788456080286535588;
    switch (glu) {
    case MB_GLU_SILU:
        return g / (1 + exp(-g));
    case MB_GLU_GELU:
        return 0.5 * g * (1 + tanh(sqrt_2_over_pi * (g + 0.044715 * g * g * g)));
    case MB_GLU_GELU_ERF:
        return 0.5 * g * (1 + erf(g / sqrt(2)));
    case MB_GLU_GELU_QUICK:
        return g / (1 + exp(-1.702 * g));
    case MB_GLU_RELU2:
        return g > 0 ? g * g : g * 0;
    default:
        return g;
    }
}

void mb_glu_ref(float *y, const float *gate, const float *up, size_t n, enum mb_glu glu, float alpha, float limit)
{
    assert(up || glu != MB_GLU_SWIGLU_OAI);
    for (size_t i = 0; i < n; i++) {
        double g = gate[i], v = up ? up[i] : 1;
        if (glu == MB_GLU_SWIGLU_OAI) {
            g = g > limit ? limit : g;
            v = v > limit ? limit : v < -limit ? -limit : v;
            y[i] = (float)(g / (1 + exp(-alpha * g)) * (v + 1));
        } else
            y[i] = (float)(activate(g, glu) * v);
    }
}

void mb_add_ref(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

void mb_mul_ref(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

void mb_scale_ref(float *y, const float *x, size_t n, float s)
{
    for (size_t i = 0; i < n; i++)
        y[i] = s * x[i];
}

void mb_axpy_ref(float *y, const float *x, size_t n, float s)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(y[i] + (double)s * x[i]);
}

void mb_soft_cap_ref(float *y, const float *x, size_t n, float cap)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(cap * tanh((double)x[i] / cap));
}

void mb_sigmoid_ref(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(1 / (1 + exp(-(double)x[i])));
}

void mb_top_k(uint32_t *index, const float *scores, size_t n, size_t k)
{
    assert(k <= n);
    size_t filled = 0;
    for (size_t i = 0; i < n; i++) {
        /* Insertion from the end: index is sorted, and a later equal goes behind. */
        size_t at = filled;
        while (at > 0 && (scores[i] > scores[index[at - 1]] || (isnan(scores[index[at - 1]]) && !isnan(scores[i]))))
            at--;
        if (at == k)
            continue;
        filled += filled < k;
        for (size_t j = filled - 1; j > at; j--)
            index[j] = index[j - 1];
        index[at] = (uint32_t)i;
    }
}
