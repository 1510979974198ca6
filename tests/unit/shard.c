/* SPDX-License-Identifier: MIT */
/* Suite for src/plan/shard.c: each of bandwidth, speed and size from the other two and back; what a model makes of it.
 */
#include "base/base.h"
#include "model/open.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_MODELS
#include "support.h"

static struct mb_shard infer(struct mb_shard_opts opts)
{
    struct mb_shard shard;
    struct mb_err err;
    if (mb_shard_infer(&opts, &shard, &err) != MB_OK)
        fail_msg("%s", err.text);
    return shard;
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-9 * fabs(b)))
        fail_msg("%.15g instead of %.15g", a, b);
}

static void the_missions_figures(void **state)
{
    (void)state;
    struct mb_shard shard = infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .tokens_per_s = 13});
    assert_int_equal(shard.found, MB_SHARD_SIZE);
    near(shard.size_bytes, 21e9);
    assert_true(shard.assumed);
    assert_int_equal(shard.verdict, MB_SHARD_UNTOLD);
    /* What is read is less if the memory was not read at its full rate. */
    assert_int_equal(shard.n_typical, 3);
    for (unsigned i = 0; i < 3; i++)
        near(shard.typical[i].value, 21e9 * shard.typical[i].efficiency);
    near(infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .size_bytes = 21e9}).tokens_per_s, 13);
    shard = infer((struct mb_shard_opts){.size_bytes = 21e9, .tokens_per_s = 13});
    assert_int_equal(shard.found, MB_SHARD_BANDWIDTH);
    near(shard.bandwidth_bytes_per_s, 273e9);
    near(
        infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .tokens_per_s = 13, .efficiency = 0.5}).size_bytes,
        10.5e9);
}

/* bandwidth, size -> speed -> size and bandwidth again, at any scale and efficiency. */
static void there_and_back(void **state)
{
    (void)state;
    uint64_t seed = 0x9e3779b97f4a7c15u;
    for (unsigned i = 0; i < 5000; i++) {
        double random[3];
        for (unsigned r = 0; r < 3; r++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            random[r] = (double)(seed >> 11) / 9007199254740992.0;
        }
        double bandwidth = pow(10, 8 + 6 * random[0]), size = pow(10, 6 + 7 * random[1]),
               efficiency = 0.01 + 0.99 * random[2];
        struct mb_shard speed = infer(
            (struct mb_shard_opts){.bandwidth_bytes_per_s = bandwidth, .size_bytes = size, .efficiency = efficiency});
        struct mb_shard_opts opts = {
            .bandwidth_bytes_per_s = bandwidth, .tokens_per_s = speed.tokens_per_s, .efficiency = efficiency};
        near(infer(opts).size_bytes, size);
        opts = (struct mb_shard_opts){.size_bytes = size, .tokens_per_s = speed.tokens_per_s, .efficiency = efficiency};
        near(infer(opts).bandwidth_bytes_per_s, bandwidth);
        opts = (struct mb_shard_opts){
            .bandwidth_bytes_per_s = bandwidth, .size_bytes = size, .tokens_per_s = speed.tokens_per_s};
        near(infer(opts).efficiency, efficiency);
    }
}

static void three_figures_give_the_efficiency(void **state)
{
    (void)state;
    static const struct {
        double speed;
        enum mb_shard_verdict verdict;
    } runs[] = {{3, MB_SHARD_BELOW},   {9, MB_SHARD_USUAL}, {12.5, MB_SHARD_NEAR},
                {13.2, MB_SHARD_NEAR}, {14, MB_SHARD_OVER}, {130, MB_SHARD_OVER}};
    for (unsigned i = 0; i < MB_COUNT(runs); i++) {
        struct mb_shard shard = infer(
            (struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .size_bytes = 21e9, .tokens_per_s = runs[i].speed});
        assert_int_equal(shard.found, MB_SHARD_EFFICIENCY);
        near(shard.efficiency, runs[i].speed / 13);
        assert_int_equal(shard.verdict, runs[i].verdict);
        assert_false(shard.assumed);
        assert_int_equal(shard.n_typical, 0);
    }
}

static void a_model_tells_its_experts(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("gpt-oss-120b");
    struct mb_shard law = infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .model = model});
    assert_int_equal(law.found, MB_SHARD_SPEED);
    near(law.size_bytes, law.active_bytes + law.cache_bytes);
    near(law.experts, 4);
    /* A run at the bound reads what the model reads: 4 experts; at depth, too. */
    for (uint64_t n_ctx = 0; n_ctx <= 32768; n_ctx += 16384) {
        struct mb_shard_opts opts = {.bandwidth_bytes_per_s = 273e9, .model = model, .n_ctx = n_ctx};
        opts.tokens_per_s = infer(opts).tokens_per_s;
        struct mb_shard shard = infer(opts);
        assert_int_equal(shard.found, MB_SHARD_SIZE);
        assert_true(fabs(shard.experts - 4) < 1e-6);
        assert_true(fabs(shard.reads_efficiency - 1) < 1e-9);
        assert_true(fabs(shard.weights_bytes - shard.active_bytes) < 1);
        assert_int_equal(shard.verdict, MB_SHARD_NEAR);
        if (n_ctx)
            assert_true(shard.cache_bytes > 100e6);
        /* k experts more are k times the bytes of one. */
        opts.size_bytes = shard.active_bytes + shard.cache_bytes + 3 * shard.expert_bytes;
        opts.tokens_per_s = 0;
        assert_true(fabs(infer(opts).experts - 7) < 1e-6);
    }
    /* All experts are all that a pass could read: the weights but the embedding's rows. */
    struct mb_shard all =
        infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .size_bytes = law.resident_bytes, .model = model});
    assert_true(all.experts > 128 && all.experts < 132);
    /* Too fast for the shared part alone. */
    struct mb_shard fast =
        infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .tokens_per_s = 2000, .model = model});
    assert_true(fast.experts < 0);
    assert_int_equal(fast.verdict, MB_SHARD_OVER);
    mb_model_free(model);
    model = open_spec("Qwen3-8B@Q4_K_M");
    struct mb_shard dense =
        infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 936e9, .tokens_per_s = 150, .model = model});
    near(dense.expert_bytes, 0);
    assert_int_equal(dense.verdict, MB_SHARD_USUAL);
    assert_true(dense.share > 1); /* 6.24 GB of 5.03 GB: it ran below the bound */
    mb_model_free(model);
}

static void impossible_input_is_refused(void **state)
{
    (void)state;
    struct mb_shard shard;
    struct mb_err err;
    struct mb_model *model = open_spec("Qwen3-8B");
    const struct mb_shard_opts bad[] = {
        {0},
        {.bandwidth_bytes_per_s = 273e9},
        {.tokens_per_s = 13},
        {.model = model},
        {.bandwidth_bytes_per_s = -273e9, .tokens_per_s = 13},
        {.bandwidth_bytes_per_s = (double)NAN, .tokens_per_s = 13},
        {.bandwidth_bytes_per_s = (double)INFINITY, .tokens_per_s = 13},
        {.bandwidth_bytes_per_s = 273e9, .tokens_per_s = 13, .efficiency = 1.5},
        {.bandwidth_bytes_per_s = 273e9, .tokens_per_s = 13, .efficiency = -1},
        {.bandwidth_bytes_per_s = 273e9, .tokens_per_s = 13, .size_bytes = 21e9, .efficiency = 0.5},
        {.bandwidth_bytes_per_s = 5e-324, .tokens_per_s = 1e30},
    };
    for (unsigned i = 0; i < MB_COUNT(bad); i++) {
        assert_int_equal(mb_shard_infer(bad + i, &shard, &err), MB_EINVAL);
        assert_non_null(strchr(err.text, ';'));
    }
    struct mb_shard_opts opts = {.bandwidth_bytes_per_s = 273e9, .model = model, .n_ctx = 40960};
    assert_int_equal(mb_shard_infer(&opts, &shard, &err), MB_ERANGE);
    opts = (struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .model = model, .kv = {.type_k = "Q9"}};
    assert_int_equal(mb_shard_infer(&opts, &shard, &err), MB_EINVAL);
    assert_int_equal(mb_shard_infer(&(struct mb_shard_opts){0}, &shard, NULL), MB_EINVAL);
    mb_model_free(model);
}

static void json_has_its_keys(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("gpt-oss-20b");
    char *text;
    struct mb_shard shard =
        infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .tokens_per_s = 50, .model = model});
    assert_int_equal(mb_shard_json(&shard, &text, NULL), MB_OK);
    json_t *root = mb_json_parse(text, strlen(text), "shard", NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "found")), "size");
    near(json_number_value(json_object_get(root, "size_bytes")), 273e9 / 50);
    assert_int_equal(json_array_size(json_object_get(root, "typical")), 3);
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "model"), "name")), "gpt-oss-20b");
    assert_true(json_is_number(json_object_get(json_object_get(root, "model"), "experts_implied")));
    json_decref(root);
    mb_text_free(text);
    shard = infer((struct mb_shard_opts){.bandwidth_bytes_per_s = 273e9, .tokens_per_s = 13});
    assert_int_equal(mb_shard_json(&shard, &text, NULL), MB_OK);
    root = mb_json_parse(text, strlen(text), "shard", NULL);
    assert_true(json_is_null(json_object_get(root, "model")));
    assert_true(json_is_null(json_object_get(root, "reads_efficiency")));
    json_decref(root);
    mb_text_free(text);
    mb_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_missions_figures),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(three_figures_give_the_efficiency),
        cmocka_unit_test(a_model_tells_its_experts),
        cmocka_unit_test(impossible_input_is_refused),
        cmocka_unit_test(json_has_its_keys),
    };
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}
