/* SPDX-License-Identifier: MIT */
/* Suite for the operations between the matrices and for attention: every level against the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "kernel_levels.h"

#define U 0x1p-24
#define N_MAX 1100

static const size_t counts[] = {1, 2, 7, 8, 9, 31, 64, 100, 1023, N_MAX - 1};
static const float magnitudes[] = {1, 1e-3f, 10, 60, 1e-30f, 1e-41f, 0};

/* Two inputs and room for results, each of count numbers that end at an unreadable page. */
struct rows {
    struct guarded guarded[4];
    float *a, *b, *want, *got;
    size_t n;
};

static void rows_open(struct rows *rows, size_t n, float magnitude, uint64_t *x)
{
    float **at[4] = {&rows->a, &rows->b, &rows->want, &rows->got};
    rows->n = n;
    for (int i = 0; i < 4; i++) {
        rows->guarded[i] = guarded_new(n * sizeof(float), sizeof(float));
        *at[i] = (float *)(void *)rows->guarded[i].bytes;
        fill_floats(*at[i], n, x);
    }
    for (size_t i = 0; i < n; i++) {
        rows->a[i] *= magnitude;
        rows->b[i] *= magnitude;
    }
}

static void rows_close(struct rows *rows)
{
    for (int i = 0; i < 4; i++)
        guarded_free(&rows->guarded[i]);
}

static void near(const struct rows *rows, const char *what, const char *level, size_t i, double bound)
{
    double got = (double)rows->got[i], want = (double)rows->want[i];
    if (got == want || fabs(got - want) <= bound)
        return;
    print_message("%s at level %s: [%zu] of %zu is %.9g, not %.9g within %.3g (a %.9g, b %.9g)\n", what, level, i, rows->n, got,
                  want, bound, (double)rows->a[i], (double)rows->b[i]);
    assert_true(0);
}

typedef void check_fn(struct rows *rows, const struct mb_kernels *kernels, const char *level);

/* Every level, count and magnitude. */
static void for_all(check_fn *check)
{
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels))
            continue;
        uint64_t x = SEED;
        for (unsigned c = 0; c < MB_COUNT(counts); c++)
            for (unsigned m = 0; m < MB_COUNT(magnitudes); m++) {
                struct rows rows;
                rows_open(&rows, counts[c], magnitudes[m], &x);
                check(&rows, &kernels, mb_cpu_simd(levels[l]));
                rows_close(&rows);
            }
    }
}

static void check_norms(struct rows *r, const struct mb_kernels *k, const char *level)
{
    for (int weights = 0; weights < 2; weights++) {
        const float *w = weights ? r->b : NULL;
        mb_rms_norm_ref(r->want, r->a, w, r->n, 1e-6f);
        k->rms_norm(r->got, r->a, w, r->n, 1e-6f);
        for (size_t i = 0; i < r->n; i++)
            near(r, "rms_norm", level, i, 8 * U * fabs((double)r->want[i]) + 0x1p-149);
        mb_layer_norm_ref(r->want, r->a, w, w, r->n, 1e-5f);
        k->layer_norm(r->got, r->a, w, w, r->n, 1e-5f);
        double mean = 0, variance = 0, max = 0;
        for (size_t i = 0; i < r->n; i++) {
            mean += (double)r->a[i] / (double)r->n;
            max = fmax(max, fabs((double)r->a[i]));
        }
        for (size_t i = 0; i < r->n; i++)
            variance += ((double)r->a[i] - mean) * ((double)r->a[i] - mean) / (double)r->n;
        for (size_t i = 0; i < r->n; i++)
            near(r, "layer_norm", level, i,
                 16 * U * (max / sqrt(variance + 1e-5) + 1) * (w ? fabs((double)w[i]) : 1) + 0x1p-149);
        /* In place. */
        memcpy(r->want, r->got, r->n * sizeof(float));
        memcpy(r->got, r->a, r->n * sizeof(float));
        k->layer_norm(r->got, r->got, w, w, r->n, 1e-5f);
        assert_true(memcmp(r->want, r->got, r->n * sizeof(float)) == 0);
    }
}

static void norms(void **state)
{
    (void)state;
    for_all(check_norms);
}

static void check_elementwise(struct rows *r, const struct mb_kernels *k, const char *level)
{
    for (int glu = 0; glu < MB_GLU_COUNT; glu++)
        for (int with_up = glu == MB_GLU_SWIGLU_OAI; with_up < 2; with_up++) {
            const float *up = with_up ? r->b : NULL;
            mb_glu_ref(r->want, r->a, up, r->n, (enum mb_glu)glu, 1.702f, 7);
            k->glu(r->got, r->a, up, r->n, (enum mb_glu)glu, 1.702f, 7);
            for (size_t i = 0; i < r->n; i++) {
                double product = fabs((double)r->a[i]) * (with_up ? fabs((double)r->b[i]) : 1);
                int relative = glu != MB_GLU_GELU && glu != MB_GLU_GELU_ERF;
                near(r, "glu", level, i,
                     U * (relative ? (8 + 2 * fabs((double)r->a[i])) * fabs((double)r->want[i]) : 8 * product) +
                         0x1p-126 * (1 + fabs((double)r->a[i])) * (1 + (up ? fabs((double)up[i]) : 1)));
            }
        }
    mb_add_ref(r->want, r->a, r->b, r->n);
    k->add(r->got, r->a, r->b, r->n);
    assert_true(memcmp(r->want, r->got, r->n * sizeof(float)) == 0);
    mb_mul_ref(r->want, r->a, r->b, r->n);
    k->mul(r->got, r->a, r->b, r->n);
    assert_true(memcmp(r->want, r->got, r->n * sizeof(float)) == 0);
    mb_scale_ref(r->want, r->a, r->n, 1.7f);
    k->scale(r->got, r->a, r->n, 1.7f);
    assert_true(memcmp(r->want, r->got, r->n * sizeof(float)) == 0);
    memcpy(r->want, r->b, r->n * sizeof(float));
    memcpy(r->got, r->b, r->n * sizeof(float));
    mb_axpy_ref(r->want, r->a, r->n, -0.3f);
    k->axpy(r->got, r->a, r->n, -0.3f);
    for (size_t i = 0; i < r->n; i++)
        near(r, "axpy", level, i, U * 2 * (fabs((double)r->b[i]) + fabs(0.3 * (double)r->a[i])) + 0x1p-149);
    mb_soft_cap_ref(r->want, r->a, r->n, 30);
    k->soft_cap(r->got, r->a, r->n, 30);
    for (size_t i = 0; i < r->n; i++)
        near(r, "soft_cap", level, i, 8 * U * fabs((double)r->want[i]) + 0x1p-126);
    mb_sigmoid_ref(r->want, r->a, r->n);
    k->sigmoid(r->got, r->a, r->n);
    for (size_t i = 0; i < r->n; i++)
        near(r, "sigmoid", level, i, 8 * U * fabs((double)r->want[i]) + 0x1p-126);
}

static void elementwise(void **state)
{
    (void)state;
    for_all(check_elementwise);
}

static void check_softmax(struct rows *r, const struct mb_kernels *k, const char *level)
{
    for (int with_sink = 0; with_sink < 2; with_sink++) {
        const float *sink = with_sink ? r->b : NULL;
        if (r->n > 8)
            r->a[3] = -INFINITY;
        mb_softmax_ref(r->want, r->a, r->n, 0.7f, sink);
        k->softmax(r->got, r->a, r->n, 0.7f, sink);
        double largest = 0;
        for (size_t i = 0; i < r->n; i++)
            largest = fmax(largest, isinf(r->a[i]) ? 0 : 0.7 * fabs((double)r->a[i]));
        for (size_t i = 0; i < r->n; i++)
            near(r, "softmax", level, i, (16 + 2 * largest) * U * fabs((double)r->want[i]) + 0x1p-126);
        for (size_t i = 0; i < r->n; i++)
            r->got[i] = -INFINITY;
        k->softmax(r->got, r->got, r->n, 1, NULL);
        for (size_t i = 0; i < r->n; i++)
            assert_true(r->got[i] == 0);
    }
}

static void softmax(void **state)
{
    (void)state;
    for_all(check_softmax);
}

/* Sizes of published models; rotating by an angle and back is the identity. */
static void rope(void **state)
{
    (void)state;
    static const struct {
        size_t head, n_rot;
    } dims[] = {{64, 64}, {128, 128}, {128, 64}, {80, 20}, {96, 96}, {6, 4}, {256, 256}, {34, 34}};
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels))
            continue;
        uint64_t x = SEED;
        for (unsigned d = 0; d < MB_COUNT(dims); d++)
            for (int kind = 0; kind < 2; kind++) {
                struct rows r;
                rows_open(&r, 3 * dims[d].head, 1, &x);
                float table[256];
                for (size_t i = 0; i < dims[d].n_rot / 2; i++) {
                    table[2 * i] = cosf((float)(i + d));
                    table[2 * i + 1] = sinf((float)(i + d));
                }
                memcpy(r.want, r.a, r.n * sizeof(float));
                memcpy(r.got, r.a, r.n * sizeof(float));
                mb_rope_ref(r.want, 3, dims[d].head, dims[d].n_rot, table, (enum mb_rope_kind)kind);
                kernels.rope(r.got, 3, dims[d].head, dims[d].n_rot, table, (enum mb_rope_kind)kind);
                for (size_t i = 0; i < r.n; i++)
                    near(&r, "rope", mb_cpu_simd(levels[l]), i, i % dims[d].head < dims[d].n_rot ? 12 * U : 0);
                for (size_t i = 0; i < dims[d].n_rot / 2; i++)
                    table[2 * i + 1] *= -1;
                kernels.rope(r.got, 3, dims[d].head, dims[d].n_rot, table, (enum mb_rope_kind)kind);
                memcpy(r.want, r.a, r.n * sizeof(float));
                for (size_t i = 0; i < r.n; i++)
                    near(&r, "rope back", mb_cpu_simd(levels[l]), i, 32 * U);
                rows_close(&r);
            }
    }
    float pair[4] = {1, 0, 1, 0}, quarter[4] = {0, 1, 0, 1}; /* by 90 degrees: (1, 0) becomes (0, 1) */
    mb_rope_ref(pair, 1, 4, 4, quarter, MB_ROPE_NORMAL);
    assert_true(pair[0] == 0 && pair[1] == 1 && pair[2] == 0 && pair[3] == 1);
    mb_rope_ref(pair, 1, 4, 4, quarter, MB_ROPE_NEOX); /* pairs (0, 2) and (1, 3) */
    assert_true(pair[0] == 0 && pair[1] == -1 && pair[2] == 0 && pair[3] == 1);
}

static void formulas_by_hand(void **state)
{
    (void)state;
    const float x[4] = {1, 2, 3, 4}, one = 1;
    float y[4];
    mb_rms_norm_ref(y, x, NULL, 4, 0);
    assert_true(fabs((double)y[3] - 4 / sqrt(7.5)) < 1e-6);
    mb_layer_norm_ref(y, x, NULL, NULL, 4, 0);
    assert_true(fabs((double)y[0] + 1.5 / sqrt(1.25)) < 1e-6);
    mb_softmax_ref(y, x, 2, 1, NULL);
    assert_true(fabs((double)y[0] - 1 / (1 + exp(1))) < 1e-6);
    mb_softmax_ref(y, &one, 1, 2, &one); /* e^2 / (e^2 + e) */
    assert_true(fabs((double)y[0] - exp(2) / (exp(2) + exp(1))) < 1e-6);
    mb_glu_ref(y, x + 1, x + 2, 1, MB_GLU_SILU, 0, 0);
    assert_true(fabs((double)y[0] - 6 / (1 + exp(-2))) < 1e-6);
    const float big = 20, small = -20;
    mb_glu_ref(y, &big, &small, 1, MB_GLU_SWIGLU_OAI, 1.702f, 7);
    assert_true(fabs((double)y[0] + 42) < 1e-3);
    mb_glu_ref(y, &one, NULL, 1, MB_GLU_GELU, 0, 0);
    assert_true(fabs((double)y[0] - 0.841192) < 1e-6);
    mb_glu_ref(y, &one, NULL, 1, MB_GLU_GELU_ERF, 0, 0);
    assert_true(fabs((double)y[0] - 0.841345) < 1e-6);
    uint32_t index[4];
    const float scores[6] = {1, 3, NAN, 3, -1, 2};
    mb_top_k(index, scores, 6, 4);
    assert_true(index[0] == 1 && index[1] == 3 && index[2] == 5 && index[3] == 0);
    mb_top_k(index, scores + 2, 3, 3);
    assert_true(index[0] == 1 && index[1] == 2 && index[2] == 0);
}

/* ---- attention ---- */

struct cache {
    struct mb_attention op;
    struct guarded k, v;
    uint32_t begin[40], end[40];
    float *q, *state;
    double largest_score, largest_v, q_error; /* for the tolerance */
};

static void cache_open(struct cache *c, uint32_t type, size_t n_rows, size_t k_dim, size_t v_dim, size_t n_queries, float soft_cap,
                       int window, uint64_t *x)
{
    const struct mb_type_info *info = mb_type_info(type);
    size_t gap = 2 * info->block_bytes, elements = info->block_elements;
    *c = (struct cache){.op = {.type = type, .k_dim = k_dim, .v_dim = v_dim, .q_stride = k_dim + 5, .n_queries = n_queries,
                               .scale = 1 / sqrtf((float)k_dim), .soft_cap = soft_cap}};
    c->op.k_stride = k_dim / elements * info->block_bytes + gap;
    c->op.v_stride = v_dim / elements * info->block_bytes + gap;
    size_t align = info->block_bytes % 4 ? 2 : 4;
    c->k = guarded_new(n_rows * c->op.k_stride - gap, align);
    c->v = guarded_new(n_rows * c->op.v_stride - gap, align);
    float row[MB_ATTENTION_DIM_MAX];
    for (size_t i = 0; i < n_rows; i++) {
        fill_floats(row, k_dim, x);
        mb_store_ref(type)(c->k.bytes + i * c->op.k_stride, row, k_dim);
        fill_floats(row, v_dim, x);
        mb_store_ref(type)(c->v.bytes + i * c->op.v_stride, row, v_dim);
    }
    c->q = malloc(n_queries * c->op.q_stride * sizeof(float));
    fill_floats(c->q, n_queries * c->op.q_stride, x);
    for (size_t i = 0; i < n_queries; i++) {
        c->end[i] = (uint32_t)(n_rows - (n_queries - 1 - i) / 2 % n_rows);
        c->begin[i] = window && c->end[i] > 5 ? c->end[i] - 5 : 0;
    }
    c->op.k = c->k.bytes;
    c->op.v = c->v.bytes;
    c->op.q = c->q;
    c->op.begin = window ? c->begin : NULL;
    c->op.end = c->end;
    c->state = malloc(2 * n_queries * mb_attention_state(v_dim) * sizeof(float));
    c->op.state = c->state;
}

static void cache_close(struct cache *c)
{
    guarded_free(&c->k);
    guarded_free(&c->v);
    free(c->q);
    free(c->state);
}

/* Softmax over all visible rows in double, written out. Returns the tolerance. */
static double attend_plainly(const struct cache *c, size_t i, const float *sink, double *out)
{
    const struct mb_attention *op = &c->op;
    float row[MB_ATTENTION_DIM_MAX];
    double max = sink ? *sink : -INFINITY, sum = 0, largest = 0, largest_v = 0, q_error = 0;
    double *score = malloc(c->end[i] * sizeof *score);
    for (size_t r = c->begin[i]; r < c->end[i]; r++) {
        mb_dequant_ref(op->type)(row, (const char *)op->k + r * op->k_stride, op->k_dim);
        double magnitude = 0;
        score[r] = 0;
        for (size_t j = 0; j < op->k_dim; j++) {
            score[r] += (double)op->scale * op->q[i * op->q_stride + j] * row[j];
            magnitude += fabs((double)op->scale * op->q[i * op->q_stride + j] * row[j]);
        }
        if (op->soft_cap != 0)
            score[r] = op->soft_cap * tanh(score[r] / op->soft_cap);
        largest = fmax(largest, magnitude);
        q_error = fmax(q_error, op->type == MB_TYPE_Q8_0 ? 0x1p-8 * magnitude : 0);
        max = fmax(max, score[r]);
    }
    for (size_t j = 0; j < op->v_dim; j++)
        out[j] = 0;
    for (size_t r = c->begin[i]; r < c->end[i]; r++) {
        double weight = exp(score[r] - max);
        mb_dequant_ref(op->type)(row, (const char *)op->v + r * op->v_stride, op->v_dim);
        for (size_t j = 0; j < op->v_dim; j++) {
            out[j] += weight * row[j];
            largest_v = fmax(largest_v, fabs((double)row[j]));
        }
        sum += weight;
    }
    free(score);
    if (sink)
        sum += exp(*sink - max);
    for (size_t j = 0; j < op->v_dim; j++)
        out[j] /= sum;
    return (2 * ((double)op->k_dim + 64) * U * largest + 2e-6 + 2 * q_error) * largest_v;
}

static void attention_of_one_cache(struct cache *c, const struct mb_kernels *kernels, const char *level, size_t n_rows)
{
    struct mb_attention *op = &c->op;
    const float sink = 0.5f;
    size_t n = op->n_queries, stride = mb_attention_state(op->v_dim);
    /* One walk in three uneven pieces; the same in two states that are merged. */
    for (int split = 0; split < 2; split++) {
        op->state = c->state;
        mb_attention_clear(c->state, op->v_dim, 2 * n);
        kernels->attention(op, 0, n / 2, 0, n_rows / 3);
        kernels->attention(op, n / 2, n, 0, n_rows / 3);
        kernels->attention(op, 0, n, n_rows / 3, n_rows / 2);
        if (split)
            op->state = c->state + n * stride;
        kernels->attention(op, 0, n, n_rows / 2, n_rows);
        if (split)
            mb_attention_merge(c->state, c->state + n * stride, op->v_dim, n);
        for (size_t i = 0; i < n; i++) {
            float got[MB_ATTENTION_DIM_MAX];
            double want[MB_ATTENTION_DIM_MAX], bound = attend_plainly(c, i, i % 2 ? &sink : NULL, want);
            mb_attention_finish(got, c->state + i * stride, op->v_dim, i % 2 ? &sink : NULL);
            for (size_t j = 0; j < op->v_dim; j++)
                if (!(fabs((double)got[j] - want[j]) <= bound)) {
                    print_message("%s, %s, %zu rows, dims %zu %zu: query %zu [%zu] is %.9g, not %.9g within %.3g\n", level,
                                  mb_type_name(op->type), n_rows, op->k_dim, op->v_dim, i, j, (double)got[j], want[j], bound);
                    assert_true(0);
                }
        }
    }
}

static void attention(void **state)
{
    (void)state;
    static const uint32_t types[] = {MB_TYPE_F32, MB_TYPE_F16, MB_TYPE_Q8_0};
    static const struct {
        size_t rows, k_dim, v_dim, queries;
        float soft_cap;
        int window;
    } shapes[] = {{1, 64, 64, 1, 0, 0},    {2, 128, 128, 8, 0, 0}, {77, 64, 96, 4, 0, 1},  {150, 128, 128, 5, 50, 0},
                  {40, 32, 32, 33, 0, 0},  {9, 576, 512, 3, 0, 0}, {300, 96, 64, 7, 0, 0}, {65, 256, 256, 17, 30, 1},
                  {1300, 64, 96, 2, 0, 0}};
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels))
            continue;
        uint64_t x = SEED;
        for (unsigned t = 0; t < MB_COUNT(types); t++)
            for (unsigned s = 0; s < MB_COUNT(shapes); s++) {
                struct cache c;
                cache_open(&c, types[t], shapes[s].rows, shapes[s].k_dim, shapes[s].v_dim, shapes[s].queries, shapes[s].soft_cap,
                           shapes[s].window, &x);
                attention_of_one_cache(&c, &kernels, mb_cpu_simd(levels[l]), shapes[s].rows);
                cache_close(&c);
            }
        /* Dimensions that fill no vector, as small test models have. */
        for (unsigned t = 0; t < 2; t++) {
            struct cache c;
            cache_open(&c, types[t], 19, 13, 7, 3, 0, 0, &x);
            attention_of_one_cache(&c, &kernels, mb_cpu_simd(levels[l]), 19);
            cache_close(&c);
        }
    }
}

static void nothing_seen_gives_zeros(void **state)
{
    (void)state;
    float states[2][32], out[20];
    const float sink = 3;
    mb_attention_clear(states[0], 20, 2);
    mb_attention_merge(states[0], states[1], 20, 1);
    mb_attention_finish(out, states[0], 20, NULL);
    for (int i = 0; i < 20; i++)
        assert_true(out[i] == 0);
    mb_attention_finish(out, states[0], 20, &sink);
    assert_true(out[0] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms),     cmocka_unit_test(elementwise),      cmocka_unit_test(softmax),
        cmocka_unit_test(rope),      cmocka_unit_test(formulas_by_hand), cmocka_unit_test(attention),
        cmocka_unit_test(nothing_seen_gives_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
