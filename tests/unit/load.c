/* SPDX-License-Identifier: MIT */
/* Suite for src/plan/load.c: a load holds exactly the bytes of the tape, at any depth, for every model of the catalog. */
#include "plan/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_MODELS
#include "support.h"

static struct mb_load *build(const struct mb_model *model, uint64_t n_ctx)
{
    struct mb_load *load;
    assert_int_equal(mb_load_build(model, n_ctx, NULL, &load, NULL), MB_OK);
    return load;
}

static void check_against_tape(const struct mb_model *model, uint64_t depth)
{
    struct mb_load *load = build(model, depth + 1);
    struct mb_traffic traffic;
    struct mb_kv_part_size parts[MB_KV_PARTS];
    double weights = 0, rows = 0, kv = 0, flops = 0, state = 0, classes = 0;
    uint64_t resident = 0, cache = 0, allocated = 0;
    assert_int_equal(mb_model_traffic(model, 1, depth, NULL, &traffic, NULL), MB_OK);
    assert_int_equal(mb_kv_parts(model, depth + 1, NULL, parts, NULL), MB_OK);
    for (uint32_t i = 0; i < load->n_units; i++) {
        const struct mb_shape *shape = &load->shapes[load->units[i].shape];
        weights += shape->weight_bytes;
        rows += shape->row_bytes;
        kv += mb_shape_kv_bytes(shape, (double)depth);
        flops += shape->flops + mb_shape_kv_flops(shape, (double)depth);
        state += shape->state_bytes;
        resident += load->units[i].resident_bytes;
        cache += load->units[i].cache_bytes;
        for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++)
            classes += shape->bytes[class];
        assert_int_equal(shape->kind, load->units[i].kind);
    }
    for (unsigned i = 0; i < MB_KV_PARTS; i++)
        allocated += parts[i].bytes;
    assert_int_equal((uint64_t)(weights + rows), traffic.weights_bytes);
    assert_int_equal((uint64_t)classes, (uint64_t)weights);
    assert_int_equal((uint64_t)kv, traffic.kv_read_bytes);
    assert_int_equal((uint64_t)state, traffic.state_read_bytes + traffic.state_write_bytes);
    /* The tape counts attention in chunks as if it were a window. */
    if (strcmp(model->arch_name, "llama4") != 0)
        assert_true(fabs(flops / traffic.flops - 1) < 1e-9);
    assert_int_equal(resident, model->resident_bytes);
    assert_int_equal(resident, load->resident_bytes);
    assert_int_equal(cache, allocated);
    assert_true(load->weight_bytes == weights);
    assert_true(load->n_shapes <= load->n_units);
    mb_load_free(load);
}

static void every_byte_of_the_tape(void **state)
{
    static const uint64_t depths[] = {0, 1, 127, 128, 4095, 4096, 10000, 65535};
    size_t n;
    const char *const *names = mb_model_names(&n);
    (void)state;
    assert_true(n > 100);
    for (size_t i = 0; i < n; i++) {
        struct mb_model *model = open_spec(names[i]);
        for (unsigned d = 0; d < MB_COUNT(depths); d++)
            check_against_tape(model, depths[d]);
        mb_model_free(model);
    }
}

/* Qwen3-8B at Q4_K_M: 36 layers with attention and a dense FFN; only the kind of V and down differs between layers. */
static void units_of_a_dense_model(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("Qwen3-8B@Q4_K_M");
    struct mb_load *load = build(model, 4096);
    unsigned n[MB_N_UNIT_KINDS] = {0};
    for (uint32_t i = 0; i < load->n_units; i++)
        n[load->units[i].kind]++;
    assert_int_equal(n[MB_UNIT_CORE], 36);
    assert_int_equal(n[MB_UNIT_FFN], 36);
    assert_int_equal(n[MB_UNIT_EXPERTS], 0);
    assert_int_equal(n[MB_UNIT_HEAD], 1);
    assert_int_equal(n[MB_UNIT_EMBEDDING], 1);
    assert_int_equal(load->units[0].kind, MB_UNIT_EMBEDDING);
    assert_int_equal(load->units[load->n_units - 1].kind, MB_UNIT_HEAD);
    assert_int_equal(load->n_shapes, 6);
    assert_false(load->moe);
    /* 8 KV heads of 128, keys and values in F16: 4096 B per token and layer. */
    const struct mb_shape *core = &load->shapes[load->units[1].shape];
    assert_int_equal(core->kind, MB_UNIT_CORE);
    assert_true(core->cells[0].row_bytes == 4096);
    assert_int_equal(load->units[1].cache_bytes, 4096 * 4096);
    assert_int_equal(core->n_head, 32);
    assert_int_equal(core->n_head_kv, 8);
    assert_int_equal(core->n_matrices, 4);
    assert_true(core->bytes[MB_WEIGHTS_K] > 0 && core->bytes[MB_WEIGHTS_8] == 0);
    double before = load->weight_bytes;
    mb_load_scale(load, 1.5);
    assert_true(fabs(load->weight_bytes / before - 1.5) < 1e-12);
    assert_true(load->scale == 1.5);
    mb_load_free(load);
    mb_model_free(model);
}

static void experts_are_units(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("gpt-oss-120b@MXFP4");
    struct mb_load *load = build(model, 8192);
    double resident = 0;
    assert_true(load->moe);
    assert_int_equal(load->n_moe_layers, 36);
    for (uint32_t i = 0; i < load->n_units; i++) {
        const struct mb_shape *shape = &load->shapes[load->units[i].shape];
        if (load->units[i].kind != MB_UNIT_EXPERTS)
            continue;
        resident += (double)load->units[i].resident_bytes;
        assert_int_equal(shape->n_expert, 128);
        /* 4 of 128 */
        assert_true(fabs(shape->weight_bytes / (double)load->units[i].resident_bytes - 1.0 / 32) < 1e-6);
        assert_true(shape->bytes[MB_WEIGHTS_4] > 0.99 * shape->weight_bytes);
    }
    assert_true(resident > 0.9 * (double)load->resident_bytes);
    mb_load_free(load);
    mb_model_free(model);
}

static void cells(void **state)
{
    (void)state;
    struct mb_cells full = {.cap = UINT64_MAX, .ratio = 1}, window = {.cap = 100, .ratio = 1};
    struct mb_cells compressed = {.cap = UINT64_MAX, .ratio = 4}, chunked = {.cap = 100, .ratio = 1, .chunked = 1};
    assert_true(mb_cells_at(&full, 0) == 1 && mb_cells_at(&full, 99) == 100);
    assert_true(mb_cells_at(&window, 98) == 99 && mb_cells_at(&window, 5000) == 100);
    assert_true(mb_cells_at(&compressed, 2) == 0 && mb_cells_at(&compressed, 3) == 1 && mb_cells_at(&compressed, 8) == 2);
    assert_true(mb_cells_at(&chunked, 99) == 100 && mb_cells_at(&chunked, 100) == 1);
    /* Tokens 1..100 see 50.5 cells on average; 100 tokens from 50 on see 51..100, then 50 times 100. */
    assert_true(fabs(mb_cells_mean(&full, 0, 100) - 50.5) < 1e-9);
    assert_true(fabs(mb_cells_mean(&window, 50, 100) - 87.75) < 0.5);
    assert_true(mb_cells_mean(&window, 200, 10) == 100);
}

static void classes(void **state)
{
    (void)state;
    assert_int_equal(mb_weight_class_of(MB_TYPE_BF16), MB_WEIGHTS_FLOAT);
    assert_int_equal(mb_weight_class_of(MB_TYPE_Q8_0), MB_WEIGHTS_8);
    assert_int_equal(mb_weight_class_of(MB_TYPE_MXFP4), MB_WEIGHTS_4);
    assert_int_equal(mb_weight_class_of(MB_TYPE_Q6_K), MB_WEIGHTS_K);
    assert_int_equal(mb_weight_class_of(MB_TYPE_IQ2_XXS), MB_WEIGHTS_CODE);
    assert_string_equal(mb_unit_kind_name(MB_UNIT_EXPERTS), "experts");
}

static void refusals(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("Qwen3-8B@Q4_K_M");
    struct mb_load *load = NULL;
    assert_int_equal(mb_load_build(model, (uint64_t)MB_DEPTH_MAX + 1, NULL, &load, NULL), MB_ERANGE);
    assert_int_equal(mb_load_build(model, 100, &(struct mb_kv_opts){.type_k = "Q4_K"}, &load, NULL), MB_EINVAL);
    assert_null(load);
    mb_load_free(NULL);
    mb_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_of_the_tape), cmocka_unit_test(units_of_a_dense_model), cmocka_unit_test(experts_are_units),
        cmocka_unit_test(cells),                  cmocka_unit_test(classes),                cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
