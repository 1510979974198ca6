/* SPDX-License-Identifier: MIT */
/* The operations between the matrices. All work on f32 rows; destinations come first and may be the source itself where it
 * says "in place". n is any number, alignment that of float. "Within k ulp" compares with the reference, which computes in
 * double and rounds once; u = 2^-24. */
#ifndef MB_OPS_H
#define MB_OPS_H

#include <stddef.h>
#include <stdint.h>

/* y[i] = x[i] / sqrt(mean over x^2 + eps) * w[i]; in place. w NULL: no weights. Within 8 u |y| (sums differ in order). */
typedef void mb_rms_norm_fn(float *y, const float *x, const float *w, size_t n, float eps);

/* y[i] = (x[i] - mean) / sqrt(variance + eps) * w[i] + b[i]; in place. b NULL: none.
 * Within 16 u (max |x| / sqrt(variance) + 1) |w|. */
typedef void mb_layer_norm_fn(float *y, const float *x, const float *w, const float *b, size_t n, float eps);

enum mb_rope_kind {
    MB_ROPE_NORMAL, /* pairs (2 i, 2 i + 1) */
    MB_ROPE_NEOX    /* pairs (i, i + n_rot / 2) */
};

/* Rotate the first n_rot elements (even) of each of n_heads rows of x, in place; the others stay.
 *   table  [n_rot]  cos and sin of pair i at 2 i and 2 i + 1: the angle of this position, magnitude scales included
 * pair (a, b) becomes (a cos - b sin, a sin + b cos). Row h starts at x + h * stride. Within 2 u (|a| + |b|). */
typedef void mb_rope_fn(float *x, size_t n_heads, size_t stride, size_t n_rot, const float *table, enum mb_rope_kind kind);

/* y[i] = exp(scale * x[i] - max) / (sum of these + exp(sink - max)); in place. sink NULL: that term is 0. x of -infinity gives 0;
 * all of -infinity and no sink gives zeros. n of 0 writes nothing. Within 16 u. */
typedef void mb_softmax_fn(float *y, const float *x, size_t n, float scale, const float *sink);

/* What stands between gate and up of a feed-forward network. */
enum mb_glu {
    MB_GLU_SILU,       /* gate / (1 + exp(-gate)) * up */
    MB_GLU_GELU,       /* 0.5 gate (1 + tanh(sqrt(2 / pi) (gate + 0.044715 gate^3))) * up, as ggml's GELU */
    MB_GLU_GELU_ERF,   /* 0.5 gate (1 + erf(gate / sqrt 2)) * up */
    MB_GLU_GELU_QUICK, /* gate / (1 + exp(-1.702 gate)) * up */
    MB_GLU_RELU2,      /* max(gate, 0)^2 * up */
    MB_GLU_SWIGLU_OAI, /* gpt-oss: g = min(gate, limit), v = clamp(up, -limit, limit): g / (1 + exp(-alpha g)) * (v + 1) */
    MB_GLU_COUNT
};

/* y[i] of gate[i] and up[i]; in place with either. up NULL: the activation alone (as if up were 1; not MB_GLU_SWIGLU_OAI).
 * alpha (1.702) and limit (7) count for MB_GLU_SWIGLU_OAI only. Within (8 + 2 |gate|) u |y| for finite input, for
 * MB_GLU_GELU and _ERF within 8 u |gate * up|; 2^-126 (1 + |gate|) (1 + |up|) more. */
typedef void mb_glu_fn(float *y, const float *gate, const float *up, size_t n, enum mb_glu glu, float alpha, float limit);

/* y[i] = a[i] + b[i]; in place with either. Exact. */
typedef void mb_add_fn(float *y, const float *a, const float *b, size_t n);

/* y[i] = a[i] * b[i]; in place with either. Exact. */
typedef void mb_mul_fn(float *y, const float *a, const float *b, size_t n);

/* y[i] = s * x[i]; in place. Exact. */
typedef void mb_scale_fn(float *y, const float *x, size_t n, float s);

/* y[i] = y[i] + s * x[i]: experts are summed with it. Within u (|y| + |s x|). */
typedef void mb_axpy_fn(float *y, const float *x, size_t n, float s);

/* y[i] = cap * tanh(x[i] / cap); in place. Within 8 u |y|. */
typedef void mb_soft_cap_fn(float *y, const float *x, size_t n, float cap);

/* y[i] = 1 / (1 + exp(-x[i])); in place. Within 8 u |y|. */
typedef void mb_sigmoid_fn(float *y, const float *x, size_t n);

mb_rms_norm_fn mb_rms_norm_ref;
mb_layer_norm_fn mb_layer_norm_ref;
mb_rope_fn mb_rope_ref;
mb_softmax_fn mb_softmax_ref;
mb_glu_fn mb_glu_ref;
mb_add_fn mb_add_ref;
mb_mul_fn mb_mul_ref;
mb_scale_fn mb_scale_ref;
mb_axpy_fn mb_axpy_ref;
mb_soft_cap_fn mb_soft_cap_ref;
mb_sigmoid_fn mb_sigmoid_ref;

/* The indices of the k largest of scores[n], largest first, of equal ones the lower index first; a NaN counts as the smallest.
 * k <= n. Not in the table: routers have a few hundred experts at most. O(n k). */
void mb_top_k(uint32_t *index, const float *scores, size_t n, size_t k);

#endif
