/* SPDX-License-Identifier: MIT */
/* The operations between the matrices with AVX2. Contracts: ops.h. */
#include "kernels/math_avx2.h"
#include "kernels/x86_avx2.h"

#include <math.h>

/* The last n < 8 numbers, others `rest`. */
INLINE __m256 load_part(const float *from, size_t n, float rest)
{
    float part[8];
    for (size_t i = 0; i < 8; i++)
        part[i] = i < n ? from[i] : rest;
    return _mm256_loadu_ps(part);
}

INLINE void store_part(float *to, __m256 v, size_t n)
{
    float part[8];
    _mm256_storeu_ps(part, v);
    for (size_t i = 0; i < n; i++)
        to[i] = part[i];
}

INLINE __m256 load_n(const float *from, size_t n, float rest)
{
    return n >= 8 ? _mm256_loadu_ps(from) : load_part(from, n, rest);
}

INLINE void store_n(float *to, __m256 v, size_t n)
{
    if (n >= 8)
        _mm256_storeu_ps(to, v);
    else
        store_part(to, v, n);
}

/* Squares are summed in double: f32 would overflow for numbers that are still fine. */
static double sum_of_squares(const float *x, size_t n, float mean)
{
    __m256d sum[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    const __m256 m = _mm256_set1_ps(mean);
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_sub_ps(load_n(x + i, n - i, mean), m);
        __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        sum[0] = _mm256_fmadd_pd(low, low, sum[0]);
        sum[1] = _mm256_fmadd_pd(high, high, sum[1]);
    }
    double part[4];
    _mm256_storeu_pd(part, _mm256_add_pd(sum[0], sum[1]));
    return part[0] + part[1] + part[2] + part[3];
}

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps)
{
    const __m256 scale = _mm256_set1_ps((float)(1 / sqrt(sum_of_squares(x, n, 0) / (double)n + eps)));
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(load_n(x + i, n - i, 0), scale);
        store_n(y + i, w ? _mm256_mul_ps(v, load_n(w + i, n - i, 0)) : v, n - i);
    }
}

static void layer_norm(float *y, const float *x, const float *w, const float *b, size_t n, float eps)
{
    __m256d sums = _mm256_setzero_pd();
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = load_n(x + i, n - i, 0);
        sums = _mm256_add_pd(sums, _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(v)),
                                                 _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))));
    }
    double part[4];
    _mm256_storeu_pd(part, sums);
    float mean = (float)((part[0] + part[1] + part[2] + part[3]) / (double)n);
    const __m256 m = _mm256_set1_ps(mean);
    const __m256 scale = _mm256_set1_ps((float)(1 / sqrt(sum_of_squares(x, n, mean) / (double)n + eps)));
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(load_n(x + i, n - i, 0), m), scale);
        if (w)
            v = _mm256_mul_ps(v, load_n(w + i, n - i, 0));
        store_n(y + i, b ? _mm256_add_ps(v, load_n(b + i, n - i, 0)) : v, n - i);
    }
}

/* a0 b0 a1 b1 a2 b2 a3 b3 with cos and sin in the same order. */
static void rope_normal(float *x, size_t n_rot, const float *table)
{
    size_t i = 0;
    for (; i + 8 <= n_rot; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i), t = _mm256_loadu_ps(table + i);
        __m256 swapped = _mm256_permute_ps(v, 0xb1);
        _mm256_storeu_ps(x + i, _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(t), _mm256_mul_ps(swapped, _mm256_movehdup_ps(t))));
    }
    mb_rope_ref(x + i, 1, 0, n_rot - i, table + i, MB_ROPE_NORMAL);
}

static void rope_neox(float *x, size_t n_rot, const float *table)
{
    float *a = x, *b = x + n_rot / 2;
    size_t i = 0;
    for (; i + 8 <= n_rot / 2; i += 8) {
        __m256 t0 = _mm256_loadu_ps(table + 2 * i), t1 = _mm256_loadu_ps(table + 2 * i + 8);
        /* cos 0 1 4 5 2 3 6 7 of the eight, then in order */
        __m256 c = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(t0, t1, 0x88)), 0xd8));
        __m256 s = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(t0, t1, 0xdd)), 0xd8));
        __m256 re = _mm256_loadu_ps(a + i), im = _mm256_loadu_ps(b + i);
        _mm256_storeu_ps(a + i, _mm256_fmsub_ps(re, c, _mm256_mul_ps(im, s)));
        _mm256_storeu_ps(b + i, _mm256_fmadd_ps(re, s, _mm256_mul_ps(im, c)));
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
    const __m256 s = _mm256_set1_ps(scale);
    __m256 most = _mm256_set1_ps(sink ? *sink : -INFINITY);
    for (size_t i = 0; i < n; i += 8)
        most = _mm256_max_ps(n - i >= 8 ? _mm256_mul_ps(_mm256_loadu_ps(x + i), s)
                                        : _mm256_mul_ps(load_part(x + i, n - i, x[i]), s), most);
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    float max = _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
    if (max == -INFINITY)
        max = 0;
    const __m256 minus_max = _mm256_set1_ps(-max);
    __m256 sum = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        __m256 e = exp_ps(_mm256_fmadd_ps(load_n(x + i, n - i, 0), s, minus_max));
        store_n(y + i, e, n - i);
        sum = _mm256_add_ps(sum, load_n(y + i, n - i, 0));
    }
    float total = sum_ps(sum) + (sink ? expf(*sink - max) : 0);
    const __m256 inverse = _mm256_set1_ps(total == 0 ? 0 : 1 / total);
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, _mm256_mul_ps(load_n(y + i, n - i, 0), inverse), n - i);
}

/* 0.5 g (1 + tanh(z)) = g / (1 + exp(-2 z)) */
INLINE __m256 gelu_ps(__m256 g)
{
    const __m256 a = _mm256_set1_ps(2 * 0.79788456080286535588f), b = _mm256_set1_ps(2 * 0.79788456080286535588f * 0.044715f);
    __m256 z = _mm256_mul_ps(g, _mm256_fmadd_ps(_mm256_mul_ps(g, g), b, a));
    return _mm256_mul_ps(g, sigmoid_ps(z));
}

INLINE __m256 activate(__m256 g, enum mb_glu glu)
{
    switch (glu) {
    case MB_GLU_SILU:
        return _mm256_mul_ps(g, sigmoid_ps(g));
    case MB_GLU_GELU:
        return gelu_ps(g);
    case MB_GLU_GELU_QUICK:
        return _mm256_mul_ps(g, sigmoid_ps(_mm256_mul_ps(g, _mm256_set1_ps(1.702f))));
    default: { /* MB_GLU_RELU2 */
        __m256 r = _mm256_max_ps(_mm256_setzero_ps(), g);
        return _mm256_mul_ps(r, r);
    }
    }
}

INLINE void glu_of(float *y, const float *gate, const float *up, size_t n, enum mb_glu glu)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = activate(load_n(gate + i, n - i, 0), glu);
        store_n(y + i, up ? _mm256_mul_ps(v, load_n(up + i, n - i, 0)) : v, n - i);
    }
}

static void swiglu_oai(float *y, const float *gate, const float *up, size_t n, float alpha, float limit)
{
    const __m256 most = _mm256_set1_ps(limit), least = _mm256_set1_ps(-limit), a = _mm256_set1_ps(alpha);
    for (size_t i = 0; i < n; i += 8) {
        __m256 g = _mm256_min_ps(most, load_n(gate + i, n - i, 0));
        __m256 v = _mm256_max_ps(least, _mm256_min_ps(most, load_n(up + i, n - i, 0)));
        g = _mm256_mul_ps(g, sigmoid_ps(_mm256_mul_ps(g, a)));
        store_n(y + i, _mm256_mul_ps(g, _mm256_add_ps(v, _mm256_set1_ps(1))), n - i);
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
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, _mm256_add_ps(load_n(a + i, n - i, 0), load_n(b + i, n - i, 0)), n - i);
}

static void mul(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, _mm256_mul_ps(load_n(a + i, n - i, 0), load_n(b + i, n - i, 0)), n - i);
}

static void scale(float *y, const float *x, size_t n, float s)
{
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, _mm256_mul_ps(load_n(x + i, n - i, 0), _mm256_set1_ps(s)), n - i);
}

static void axpy(float *y, const float *x, size_t n, float s)
{
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, _mm256_fmadd_ps(load_n(x + i, n - i, 0), _mm256_set1_ps(s), load_n(y + i, n - i, 0)), n - i);
}

static void soft_cap(float *y, const float *x, size_t n, float cap)
{
    const __m256 inverse = _mm256_set1_ps(1 / cap), c = _mm256_set1_ps(cap);
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, _mm256_mul_ps(c, tanh_ps(_mm256_mul_ps(load_n(x + i, n - i, 0), inverse))), n - i);
}

static void sigmoid(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, sigmoid_ps(load_n(x + i, n - i, 0)), n - i);
}

void mb_kernels_add_avx2_ops(struct mb_kernels *kernels)
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
