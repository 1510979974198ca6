/* SPDX-License-Identifier: MIT */
/* Suite for matrix products: every level and both orders of weights against the reference, within the contract's tolerance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "kernel_levels.h"

/* A product and everything that it needs. */
struct problem {
    struct mb_matmul op;
    struct guarded weights, packed;
    size_t weight_bytes;
    void *x;
    float *floats, *want, *bound, *y;
};

/* The contract's tolerance for one element, but for the rounding of weights. */
static double tolerance(const struct mb_matmul *op, double magnitude)
{
    double n = (double)op->n_cols, u = 0x1p-24;
    return op->act == MB_ACT_F32 ? (n / 16 + 8) * u * magnitude : (n / 32 + 8) * 2 * u * magnitude;
}

/* Magnitudes of the terms of a row: |w| and, as the contract says, the parts that it is made of (q * scale and minimum). For
 * quantized types the largest |w| of each 32 columns stands for both. */
static void bound_row(const struct problem *p, size_t r, float *w)
{
    const struct mb_matmul *op = &p->op;
    mb_dequant_ref(op->type)(w, p->weights.bytes + r * op->row_bytes, op->n_cols);
    for (size_t t = 0; t < op->n_tokens; t++) {
        double magnitude = 0, rounding = 0;
        for (size_t c = 0; c < op->n_cols; c += 32) {
            double x_max = 0, w_max = 0, exact = 0, x_sum = 0;
            for (size_t i = c; i < c + 32 && i < op->n_cols; i++) {
                double x = fabs((double)p->floats[t * op->n_cols + i]);
                x_max = x > x_max ? x : x_max;
                w_max = fabs((double)w[i]) > w_max ? fabs((double)w[i]) : w_max;
                exact += x * fabs((double)w[i]);
                x_sum += x;
            }
            rounding += op->act == MB_ACT_Q16 ? 1.001 / 2 / MB_QUANT_16_MAX * w_max * x_sum : 0;
            magnitude += op->act == MB_ACT_F32 ? exact : 32 * x_max * w_max;
        }
        p->bound[t * op->n_rows + r] = (float)(tolerance(op, magnitude) + rounding) + 1e-37f;
    }
}

static void problem_open(struct problem *p, const struct mb_kernels *kernels, uint32_t type, enum mb_act act, size_t n_rows,
                         size_t n_cols, size_t n_tokens, float x_scale, uint64_t *x)
{
    const struct mb_type_info *info = mb_type_info(type);
    *p = (struct problem){.op = {.type = type, .act = act, .n_rows = n_rows, .n_cols = n_cols, .n_tokens = n_tokens,
                                 .y_stride = n_rows + 3}};
    p->op.row_bytes = n_cols / info->block_elements * info->block_bytes;
    p->weight_bytes = n_rows * p->op.row_bytes;
    p->weights = guarded_new(p->weight_bytes, info->block_bytes % 4 == 0 ? 4 : info->block_bytes % 2 == 0 ? 2 : 1);
    fill_weights(type, p->weights.bytes, n_rows * n_cols, 0.02f, x);
    p->floats = malloc(n_cols * n_tokens * sizeof(float));
    fill_floats(p->floats, n_cols * n_tokens, x);
    for (size_t i = 0; i < n_cols * n_tokens; i++)
        p->floats[i] *= x_scale;
    if (n_cols > 64) /* a block of zeros, and an outlier */
        memset(p->floats + 32, 0, 32 * sizeof(float));
    p->floats[n_cols * n_tokens / 2] *= 100;
    size_t act_bytes = mb_act_bytes(act, n_cols, n_tokens);
    p->x = aligned_alloc(MB_ACT_ALIGN, (act_bytes + 63) / 64 * 64);
    p->op.x = p->x;
    p->want = malloc(n_rows * n_tokens * sizeof(float));
    p->bound = malloc(n_rows * n_tokens * sizeof(float));
    p->y = malloc((n_rows + 3) * n_tokens * sizeof(float));
    float *w = malloc(n_cols * sizeof(float));
    for (size_t r = 0; r < n_rows; r++)
        bound_row(p, r, w);
    free(w);
    /* Prepared in two uneven parts by the level, and compared with the reference. */
    struct mb_prepare prepare = {.act = act, .to = p->x, .from = p->floats, .from_stride = n_cols, .n_cols = n_cols,
                                 .n_tokens = n_tokens};
    void *want = malloc(act_bytes);
    size_t units = mb_prepare_units(&prepare);
    prepare.to = want;
    mb_prepare_ref(&prepare, 0, units);
    prepare.to = p->x;
    kernels->prepare(&prepare, units / 3, units);
    kernels->prepare(&prepare, 0, units / 3);
    assert_true(memcmp(want, p->x, act_bytes) == 0);
    free(want);
    struct mb_matmul ref = p->op;
    ref.weights = p->weights.bytes;
    ref.y = p->want;
    ref.y_stride = n_rows;
    mb_matmul_ref(&ref, 0, n_rows);
}

static void problem_close(struct problem *p)
{
    guarded_free(&p->weights);
    if (p->packed.map)
        guarded_free(&p->packed);
    free(p->x);
    free(p->floats);
    free(p->want);
    free(p->bound);
    free(p->y);
}

/* Compute in two parts, the later rows first, and compare; what lies around y must stay. */
static void check(struct problem *p, const struct mb_kernels *kernels, const char *level)
{
    struct mb_matmul *op = &p->op;
    size_t n_y = op->y_stride * op->n_tokens, cut = op->n_rows / 2 / MB_MATMUL_ROWS * MB_MATMUL_ROWS;
    for (size_t i = 0; i < n_y; i++)
        p->y[i] = 12345;
    op->y = p->y;
    kernels->matmul[op->type](op, cut, op->n_rows);
    for (size_t t = 0; t < op->n_tokens; t++)
        for (size_t r = 0; r < cut; r++)
            assert_true(p->y[t * op->y_stride + r] == 12345);
    kernels->matmul[op->type](op, 0, cut);
    for (size_t t = 0; t < op->n_tokens; t++) {
        for (size_t r = 0; r < op->n_rows; r++) {
            float got = p->y[t * op->y_stride + r], want = p->want[t * op->n_rows + r], bound = p->bound[t * op->n_rows + r];
            if (!(fabsf(got - want) <= bound)) {
                print_message("%s, %s, %s order, %zu x %zu, %zu tokens: y[%zu, %zu] is %.9g, not %.9g within %.3g\n", level,
                              mb_type_name(op->type), op->packed ? "packed" : "file", op->n_rows, op->n_cols, op->n_tokens, t, r,
                              (double)got, (double)want, (double)bound);
                assert_true(0);
            }
        }
        for (size_t r = op->n_rows; r < op->y_stride; r++)
            assert_true(p->y[t * op->y_stride + r] == 12345);
    }
}

/* Both orders give the same bits, which is what lets weights change from one to the other under a running model. */
static void check_both_orders(struct problem *p, const struct mb_kernels *kernels, const char *level)
{
    p->op.packed = 0;
    p->op.weights = p->weights.bytes;
    check(p, kernels, level);
    if (!kernels->pack_rows || !mb_pack_can(p->op.type))
        return;
    const struct mb_type_info *info = mb_type_info(p->op.type);
    size_t cut = p->op.n_rows / 2 / kernels->pack_rows * kernels->pack_rows;
    p->packed = guarded_new(p->weight_bytes, info->block_bytes % 4 == 0 ? 4 : info->block_bytes % 2 == 0 ? 2 : 1);
    uint8_t *want = malloc(p->weight_bytes);
    mb_pack(p->op.type, kernels->pack_rows, want, p->weights.bytes, p->op.row_bytes, p->op.n_rows, 0, p->op.n_rows);
    kernels->pack(p->op.type, kernels->pack_rows, p->packed.bytes, p->weights.bytes, p->op.row_bytes, p->op.n_rows, 0, cut);
    kernels->pack(p->op.type, kernels->pack_rows, p->packed.bytes, p->weights.bytes, p->op.row_bytes, p->op.n_rows, cut,
                  p->op.n_rows);
    assert_true(memcmp(want, p->packed.bytes, p->weight_bytes) == 0);
    free(want);
    size_t y_bytes = p->op.y_stride * p->op.n_tokens * sizeof(float);
    float *file_order = malloc(y_bytes);
    memcpy(file_order, p->y, y_bytes);
    p->op.packed = 1;
    p->op.weights = p->packed.bytes;
    check(p, kernels, level);
    if (memcmp(file_order, p->y, y_bytes) != 0) {
        print_message("%s, %s, %zu x %zu, %zu tokens: packed and file order differ\n", level, mb_type_name(p->op.type),
                      p->op.n_rows, p->op.n_cols, p->op.n_tokens);
        assert_true(0);
    }
    free(file_order);
}

/* Does the level's kernel take activations of that form? */
static int reads(const struct mb_kernels *kernels, uint32_t type, size_t n_cols, enum mb_act act)
{
    return mb_quant_reads(type) && (act == mb_act_of(type) || act == mb_kernels_act(kernels, type, n_cols, 1) ||
                                    act == mb_kernels_act(kernels, type, n_cols, MB_MANY_TOKENS));
}

static void levels_multiply_alike(void **state)
{
    (void)state;
    static const struct {
        size_t rows, blocks, tokens;
        float x_scale;
    } shapes[] = {
        {1, 1, 1, 1},    {7, 3, 1, 1},   {8, 1, 2, 1},     {16, 5, 3, 1e-6f}, {17, 2, 4, 1},  {23, 1, 5, 1e6f}, {33, 3, 8, 1},
        {48, 2, 17, 1},  {64, 4, 1, 0},  {40, 7, 1, 1},    {5, 1, 16, 1},     {31, 2, 33, 1}, {16, 1, 70, 1},   {9, 9, 7, 1e-42f},
        {18, 67, 2, 1},    {21, 17, 1, 1},  {10, 1, 6, 1},    {20, 11, 15, 1},
    };
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels))
            continue;
        print_message("%s\n", level_name(l));
        uint64_t x = SEED;
        for (uint32_t type = 0; type < MB_TYPE_END; type++)
            for (unsigned s = 0; mb_quant_reads(type) && s < MB_COUNT(shapes); s++) {
                size_t elements = mb_type_info(type)->block_elements;
                /* Floats also where no vector ends: 1, 13, 39 columns and so on. */
                size_t n_cols = elements == 1 ? shapes[s].blocks * 13 * (s % 2 ? 32 : 1) : shapes[s].blocks * elements;
                for (enum mb_act act = 0; act < MB_ACT_END; act++) {
                    struct problem p;
                    if (!reads(&kernels, type, n_cols, act))
                        continue;
                    problem_open(&p, &kernels, type, act, shapes[s].rows, n_cols, shapes[s].tokens, shapes[s].x_scale, &x);
                    check_both_orders(&p, &kernels, level_name(l));
                    problem_close(&p);
                }
            }
    }
}

/* Integer products give a token the same bits, whether it comes alone or with others. */
static void tokens_do_not_touch_each_other(void **state)
{
    (void)state;
    enum { ROWS = 150, COLS = 768, TOKENS = 23 }; /* decode in four streams and a rest; whole tiles and a rest */
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels))
            continue;
        uint64_t x = SEED;
        for (uint32_t i = 0; i < MB_TYPE_END * MB_ACT_END; i++) {
            const uint32_t type = i / MB_ACT_END;
            const enum mb_act act = i % MB_ACT_END;
            if (act == MB_ACT_F32 || !reads(&kernels, type, COLS, act))
                continue;
            struct problem p;
            problem_open(&p, &kernels, type, act, ROWS, COLS, TOKENS, 1, &x);
            check_both_orders(&p, &kernels, level_name(l)); /* leaves p.y of the last order */
            float alone[ROWS];
            _Alignas(MB_ACT_ALIGN) uint32_t one[COLS / 32 * MB_ACT_16_WORDS]; /* the larger of both forms */
            struct mb_prepare prepare = {.act = act, .to = one, .from_stride = COLS, .n_cols = COLS, .n_tokens = 1};
            struct mb_matmul op = p.op;
            op.x = one;
            op.n_tokens = 1;
            op.y = alone;
            for (size_t t = 0; t < TOKENS; t++) {
                prepare.from = p.floats + t * COLS;
                kernels.prepare(&prepare, 0, mb_prepare_units(&prepare));
                kernels.matmul[type](&op, 0, ROWS);
                if (memcmp(alone, p.y + t * p.op.y_stride, sizeof alone) != 0) {
                    print_message("%s, %s: token %zu is not what it is alone\n", level_name(l), mb_type_name(type), t);
                    assert_true(0);
                }
            }
            problem_close(&p);
        }
    }
}

/* The extremes of every quant at once: sums of products must not overflow anything on the way. */
static void extremes_do_not_overflow(void **state)
{
    (void)state;
    static const uint8_t patterns[] = {0x00, 0xff, 0x80, 0x7f, 0xf0, 0x0f, 0x88, 0x77};
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels))
            continue;
        uint64_t x = SEED;
        for (uint32_t type = 0; type < MB_TYPE_END; type++)
            for (unsigned k = 0; mb_pack_can(type) && k < MB_COUNT(patterns); k++)
                for (int sign = -1; sign <= 1; sign += 2) {
                    struct problem p;
                    problem_open(&p, &kernels, type, MB_ACT_Q8, 16, 512, 3, 1, &x);
                    memset(p.weights.bytes, patterns[k], p.weight_bytes);
                    const struct mb_type_info *info = mb_type_info(type);
                    for (size_t b = 0; b < p.weight_bytes / info->block_bytes; b++) {
                        for (unsigned i = 0; i < scales_of(type).n; i++)
                            memcpy(p.weights.bytes + b * info->block_bytes + scales_of(type).at[i], "\x00\x2c", 2);
                        if (type == MB_TYPE_MXFP4)
                            p.weights.bytes[b * info->block_bytes] = 120;
                    }
                    for (size_t i = 0; i < 3 * 512; i++)
                        p.floats[i] = (float)(i < 512 ? 1 : i < 1024 ? (i % 2 ? 1 : -1) : (i / 16 % 2 ? 1 : -1)) * (float)sign;
                    struct mb_prepare prepare = {.act = MB_ACT_Q8, .to = p.x, .from = p.floats, .from_stride = 512,
                                                 .n_cols = 512, .n_tokens = 3};
                    mb_prepare_ref(&prepare, 0, mb_prepare_units(&prepare));
                    float w[512];
                    for (size_t r = 0; r < 16; r++)
                        bound_row(&p, r, w);
                    struct mb_matmul ref = p.op;
                    ref.weights = p.weights.bytes;
                    ref.y = p.want;
                    ref.y_stride = 16;
                    mb_matmul_ref(&ref, 0, 16);
                    check_both_orders(&p, &kernels, level_name(l));
                    problem_close(&p);
                }
    }
}

/* Words as large as they get, all of one sign: 32 products are just below 2^31. And a weight that is not finite. */
static void words_do_not_overflow(void **state)
{
    (void)state;
    enum { COLS = 96, TOKENS = 13 };
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels) || !reads(&kernels, MB_TYPE_F16, COLS, MB_ACT_Q16))
            continue;
        for (unsigned sign = 0; sign < 4; sign++) {
            uint64_t x = SEED;
            struct problem p;
            problem_open(&p, &kernels, MB_TYPE_F16, MB_ACT_Q16, 16, COLS, TOKENS, 1, &x);
            uint16_t *halves = (uint16_t *)(void *)p.weights.bytes;
            for (size_t i = 0; i < COLS * TOKENS; i++)
                p.floats[i] = sign & 1 ? -3 : 3;
            for (size_t i = 0; i < 16 * COLS; i++)
                halves[i] = sign & 2 ? 0xbc00 : 0x3c00; /* -1, 1 */
            halves[5 * COLS + 40] = 0x7c00; /* an infinity in row 5 */
            struct mb_prepare prepare = {.act = MB_ACT_Q16, .to = p.x, .from = p.floats, .from_stride = COLS, .n_cols = COLS,
                                         .n_tokens = TOKENS};
            kernels.prepare(&prepare, 0, mb_prepare_units(&prepare));
            p.op.weights = p.weights.bytes;
            p.op.y = p.y;
            kernels.matmul[MB_TYPE_F16](&p.op, 0, 16);
            const float want = sign == 0 || sign == 3 ? 3 * COLS : -3 * COLS;
            for (size_t t = 0; t < TOKENS; t++)
                for (size_t r = 0; r < 16; r++) {
                    const float got = p.y[t * p.op.y_stride + r];
                    assert_true(r == 5 ? !isfinite(got) : fabsf(got - want) < 1e-3f);
                }
            problem_close(&p);
        }
    }
}

/* A NaN in an activation or a scale is seen in what it enters, and only there. */
static void bad_numbers_stay_visible(void **state)
{
    (void)state;
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels))
            continue;
        uint64_t x = SEED;
        for (uint32_t type = 0; type < MB_TYPE_END; type++) {
            for (enum mb_act act = 0; act < MB_ACT_END; act++) {
                struct problem p;
                if (!reads(&kernels, type, 512, act))
                    continue;
                problem_open(&p, &kernels, type, act, 16, 512, 3, 1, &x);
                p.floats[512 + 77] = NAN;
                struct mb_prepare prepare = {.act = act, .to = p.x, .from = p.floats, .from_stride = 512, .n_cols = 512,
                                             .n_tokens = 3};
                kernels.prepare(&prepare, 0, mb_prepare_units(&prepare));
                p.op.weights = p.weights.bytes;
                p.op.y = p.y;
                kernels.matmul[type](&p.op, 0, 16);
                for (size_t t = 0; t < 3; t++)
                    for (size_t r = 0; r < 16; r++)
                        assert_true(isnan(p.y[t * p.op.y_stride + r]) == (t == 1));
                problem_close(&p);
            }
        }
    }
}

/* Tokens may be picked by an index, as those of one expert are. */
static void tokens_are_gathered(void **state)
{
    (void)state;
    struct mb_kernels kernels;
    for (unsigned l = 0; l < MB_COUNT(levels); l++) {
        if (!has_level(l, &kernels))
            continue;
        uint64_t x = SEED;
        float from[5 * 70];
        fill_floats(from, MB_COUNT(from), &x);
        const uint32_t index[3] = {4, 0, 4};
        float floats[3 * 64];
        struct mb_prepare prepare = {.to = floats, .from = from, .from_stride = 70, .index = index, .n_cols = 64, .n_tokens = 3};
        kernels.prepare(&prepare, 0, mb_prepare_units(&prepare));
        for (size_t t = 0; t < 3; t++)
            assert_true(memcmp(floats + t * 64, from + index[t] * 70, 64 * sizeof(float)) == 0);
        struct mb_act_block blocks[6];
        int8_t q[32];
        prepare.act = MB_ACT_Q8;
        prepare.to = blocks;
        kernels.prepare(&prepare, 0, mb_prepare_units(&prepare));
        for (size_t t = 0; t < 3; t++)
            for (size_t b = 0; b < 2; b++) {
                float d = mb_quant_8(q, from + index[t] * 70 + b * 32);
                assert_true(blocks[b * 3 + t].d == d && memcmp(blocks[b * 3 + t].q, q, 32) == 0);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_multiply_alike),    cmocka_unit_test(tokens_do_not_touch_each_other),
        cmocka_unit_test(extremes_do_not_overflow), cmocka_unit_test(bad_numbers_stay_visible),
        cmocka_unit_test(tokens_are_gathered),      cmocka_unit_test(words_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
