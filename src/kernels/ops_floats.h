/* SPDX-License-Identifier: MIT */
/* The operations between the matrices, written over the vectors of floats_<set>.h, which is included before. Contracts: ops.h. */
#ifndef MB_OPS_FLOATS_H
#define MB_OPS_FLOATS_H

#include "kernels/kernels.h"
#include "kernels/math_floats.h"

#include <math.h>

/* The last n < FLOATS numbers, others `rest`. */
INLINE vf load_part(const float *from, size_t n, float rest)
{
    float part[FLOATS];
    for (size_t i = 0; i < FLOATS; i++)
        part[i] = i < n ? from[i] : rest;
    return load(part);
}

INLINE void store_part(float *to, vf v, size_t n)
{
    float part[FLOATS];
    store(part, v);
    for (size_t i = 0; i < n; i++)
        to[i] = part[i];
}

INLINE vf load_n(const float *from, size_t n, float rest)
{
    return n >= FLOATS ? load(from) : load_part(from, n, rest);
}

INLINE void store_n(float *to, vf v, size_t n)
{
    if (n >= FLOATS)
        store(to, v);
    else
        store_part(to, v, n);
}

/* Squares are summed in double: f32 would overflow for numbers that are still fine. */
static double sum_of_squares(const float *x, size_t n, float mean)
{
    vd sum = no_doubles();
    const vf m = all(mean);
    for (size_t i = 0; i < n; i += FLOATS)
        sum = plus_squares(sum, less(load_n(x + i, n - i, mean), m));
    return sum_doubles(sum);
}

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps)
{
    const vf scale = all((float)(1 / sqrt(sum_of_squares(x, n, 0) / (double)n + eps)));
    for (size_t i = 0; i < n; i += FLOATS) {
        vf v = times(load_n(x + i, n - i, 0), scale);
        store_n(y + i, w ? times(v, load_n(w + i, n - i, 0)) : v, n - i);
    }
}

static void layer_norm(float *y, const float *x, const float *w, const float *b, size_t n, float eps)
{
    vd sums = no_doubles();
    for (size_t i = 0; i < n; i += FLOATS)
        sums = plus_floats(sums, load_n(x + i, n - i, 0));
    float mean = (float)(sum_doubles(sums) / (double)n);
    const vf m = all(mean);
    const vf scale = all((float)(1 / sqrt(sum_of_squares(x, n, mean) / (double)n + eps)));
    for (size_t i = 0; i < n; i += FLOATS) {
        vf v = times(less(load_n(x + i, n - i, 0), m), scale);
        if (w)
            v = times(v, load_n(w + i, n - i, 0));
        store_n(y + i, b ? plus(v, load_n(b + i, n - i, 0)) : v, n - i);
    }
}

static void rope_normal(float *x, size_t n_rot, const float *table)
{
    size_t i = 0;
    for (; i + FLOATS <= n_rot; i += FLOATS)
        store(x + i, rotate_pairs(load(x + i), load(table + i)));
    mb_rope_ref(x + i, 1, 0, n_rot - i, table + i, MB_ROPE_NORMAL);
}

static void rope_neox(float *x, size_t n_rot, const float *table)
{
    float *a = x, *b = x + n_rot / 2;
    size_t i = 0;
    for (; i + FLOATS <= n_rot / 2; i += FLOATS) {
        vf re = load(a + i), im = load(b + i), c, s;
        load_pairs(table + 2 * i, &c, &s);
        store(a + i, fnma3(im, s, times(re, c)));
        store(b + i, fma3(re, s, times(im, c)));
    }
    for (; i < n_rot / 2; i++) {
        float re = a[i], im = b[i], c = table[2 * i], s = table[2 * i + 1];
        a[i] = re * c - im * s;
        b[i] = re * s + im * c;
    }
}

static void rope(float *x, size_t n_heads, size_t stride, size_t n_rot, const float *table, enum mb_rope_kind kind)
{
    for (size_t h = 0; h < n_heads; h++)
        if (kind == MB_ROPE_NEOX)
            rope_neox(x + h * stride, n_rot, table);
        else
            rope_normal(x + h * stride, n_rot, table);
}

static void softmax(float *y, const float *x, size_t n, float scale, const float *sink)
{
    const vf s = all(scale);
    vf most = all(sink ? *sink : -INFINITY);
    for (size_t i = 0; i < n; i += FLOATS)
        most = larger(times(load_n(x + i, n - i, x[i]), s), most);
    float max = largest(most);
    if (max == -INFINITY)
        max = 0;
    const vf minus_max = all(-max);
    vf sum = all(0);
    for (size_t i = 0; i < n; i += FLOATS) {
        vf e = exp_of(fma3(load_n(x + i, n - i, 0), s, minus_max));
        store_n(y + i, e, n - i);
        sum = plus(sum, load_n(y + i, n - i, 0));
    }
    float total = sum_floats(sum) + (sink ? expf(*sink - max) : 0);
    const vf inverse = all(total == 0 ? 0 : 1 / total);
    for (size_t i = 0; i < n; i += FLOATS)
        store_n(y + i, times(load_n(y + i, n - i, 0), inverse), n - i);
}

/* 0.5 g (1 + tanh(z)) = g / (1 + exp(-2 z)) */
INLINE vf gelu_of(vf g)
{
    const vf a = all(2 * 0.79788456080286535588f), b = all(2 * 0.79788456080286535588f * 0.044715f);
    vf z = times(g, fma3(times(g, g), b, a));
    return times(g, sigmoid_of(z));
}

INLINE vf activate(vf g, enum mb_glu glu)
{
    switch (glu) {
    case MB_GLU_SILU:
        return times(g, sigmoid_of(g));
    case MB_GLU_GELU:
        return gelu_of(g);
    case MB_GLU_GELU_QUICK:
        return times(g, sigmoid_of(times(g, all(1.702f))));
    default: { /* MB_GLU_RELU2 */
        vf r = larger(all(0), g);
        return times(r, r);
    }
    }
}

INLINE void glu_of(float *y, const float *gate, const float *up, size_t n, enum mb_glu glu)
{
    for (size_t i = 0; i < n; i += FLOATS) {
        vf v = activate(load_n(gate + i, n - i, 0), glu);
        store_n(y + i, up ? times(v, load_n(up + i, n - i, 0)) : v, n - i);
    }
}

static void swiglu_oai(float *y, const float *gate, const float *up, size_t n, float alpha, float limit)
{
    const vf most = all(limit), least = all(-limit), a = all(alpha);
    for (size_t i = 0; i < n; i += FLOATS) {
        vf g = smaller(most, load_n(gate + i, n - i, 0));
        vf v = larger(least, smaller(most, load_n(up + i, n - i, 0)));
        g = times(g, sigmoid_of(times(g, a)));
        store_n(y + i, times(g, plus(v, all(1))), n - i);
    }
}

static void glu(float *y, const float *gate, const float *up, size_t n, enum mb_glu glu, float alpha, float limit)
{
    switch (glu) {
    case MB_GLU_SILU:
        glu_of(y, gate, up, n, MB_GLU_SILU);
        return;
    case MB_GLU_GELU:
        glu_of(y, gate, up, n, MB_GLU_GELU);
        return;
    case MB_GLU_GELU_QUICK:
        glu_of(y, gate, up, n, MB_GLU_GELU_QUICK);
        return;
    case MB_GLU_RELU2:
        glu_of(y, gate, up, n, MB_GLU_RELU2);
        return;
    case MB_GLU_SWIGLU_OAI:
        swiglu_oai(y, gate, up, n, alpha, limit);
        return;
    default: /* no model of weight uses the error function */
        mb_glu_ref(y, gate, up, n, glu, alpha, limit);
    }
}

static void add(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += FLOATS)
        store_n(y + i, plus(load_n(a + i, n - i, 0), load_n(b + i, n - i, 0)), n - i);
}

static void mul(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += FLOATS)
        store_n(y + i, times(load_n(a + i, n - i, 0), load_n(b + i, n - i, 0)), n - i);
}

static void scale(float *y, const float *x, size_t n, float s)
{
    for (size_t i = 0; i < n; i += FLOATS)
        store_n(y + i, times(load_n(x + i, n - i, 0), all(s)), n - i);
}

static void axpy(float *y, const float *x, size_t n, float s)
{
    for (size_t i = 0; i < n; i += FLOATS)
        store_n(y + i, fma3(load_n(x + i, n - i, 0), all(s), load_n(y + i, n - i, 0)), n - i);
}

static void soft_cap(float *y, const float *x, size_t n, float cap)
{
    const vf inverse = all(1 / cap), c = all(cap);
    for (size_t i = 0; i < n; i += FLOATS)
        store_n(y + i, times(c, tanh_of(times(load_n(x + i, n - i, 0), inverse))), n - i);
}

static void sigmoid(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += FLOATS)
        store_n(y + i, sigmoid_of(load_n(x + i, n - i, 0)), n - i);
}

static void add_ops(struct mb_kernels *kernels)
{
    kernels->rms_norm = rms_norm;
    kernels->layer_norm = layer_norm;
    kernels->rope = rope;
    kernels->softmax = softmax;
    kernels->glu = glu;
    kernels->add = add;
    kernels->mul = mul;
    kernels->scale = scale;
    kernels->axpy = axpy;
    kernels->soft_cap = soft_cap;
    kernels->sigmoid = sigmoid;
}

#endif
