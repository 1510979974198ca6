/* SPDX-License-Identifier: MIT */
/* Plans as people ask for them: known truths about known machines, what a plan that does not fit says, and hostile questions. */
#include "base/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_DIR
#define SUPPORT_FILES
#define SUPPORT_MODELS
#include "support.h"

static struct mb_machine *open_machine(const char *name)
{
    struct mb_machine *machine;
    struct mb_err err;
    if (mb_machine_catalog(name, &machine, &err) != MB_OK)
        fail_msg("%s", err.text);
    return machine;
}

static struct mb_plan *plan_with(const struct mb_machine *machine, const struct mb_model *model, const struct mb_plan_opts *opts)
{
    struct mb_plan *plan;
    struct mb_err err;
    if (mb_plan_make(machine, model, opts, &plan, &err) != MB_OK)
        fail_msg("%s", err.text);
    return plan;
}

/* The plan of a catalog pair; it needs neither machine nor model any longer. */
static struct mb_plan *plan_of(const char *machine_name, const char *spec, const struct mb_plan_opts *opts)
{
    struct mb_machine *machine = open_machine(machine_name);
    struct mb_model *model = open_spec(spec);
    struct mb_plan *plan = plan_with(machine, model, opts);
    mb_machine_free(machine);
    mb_model_free(model);
    return plan;
}

static int says(const char *const *list, unsigned n, const char *word)
{
    for (unsigned i = 0; i < n; i++) {
        if (strstr(list[i], word))
            return 1;
    }
    return 0;
}

static double reads_of(const struct mb_plan *plan)
{
    double bytes = 0;
    for (unsigned i = 0; i < plan->n_groups; i++)
        bytes += strcmp(plan->groups[i].group, "KV cache") != 0 ? plan->groups[i].traffic_bytes : 0;
    return bytes;
}

/* Sums and orders that hold for every plan. */
static void check_plan(const struct mb_plan *plan)
{
    double terms = 0, bytes = 0, placed = 0;
    if (!plan->fits) {
        assert_true(plan->n_needs > 0);
        assert_int_equal(plan->n_groups, 0);
        return;
    }
    for (unsigned i = 0; i < plan->n_pools; i++) {
        const struct mb_plan_pool *pool = &plan->pools[i];
        assert_int_equal(pool->used_bytes, pool->weights_bytes + pool->kv_bytes + pool->buffers_bytes + pool->reserved_bytes);
        assert_true((double)pool->used_bytes <= pool->capacity_bytes + 1);
        placed += (double)pool->weights_bytes + (double)pool->kv_bytes;
    }
    for (unsigned i = 0; i < plan->n_groups; i++)
        bytes += (double)plan->groups[i].bytes;
    assert_true(fabs(bytes - placed) < 1);
    for (unsigned i = 0; i < plan->n_terms; i++)
        terms += plan->terms[i].seconds;
    assert_true(fabs(terms * plan->decode.tokens_per_s - 1) < 1e-6);
    assert_true(plan->decode.low < plan->decode.tokens_per_s && plan->decode.tokens_per_s < plan->decode.high);
    assert_true(plan->decode.tokens_per_s <= plan->decode.bound_tokens_per_s);
    for (unsigned i = 1; i < plan->n_by_depth; i++)
        assert_true(plan->by_depth[i].decode.tokens_per_s <= plan->by_depth[i - 1].decode.tokens_per_s);
    assert_int_equal(plan->by_depth[plan->n_by_depth - 1].depth, plan->n_ctx);
    assert_true(plan->ctx_max >= plan->n_ctx);
    for (unsigned i = 0; i < plan->n_others; i++) {
        int rule = strncmp(plan->others[i].name, "layers", 6) == 0 || strncmp(plan->others[i].name, "the first", 9) == 0 ||
                   strncmp(plan->others[i].name, "all ", 4) == 0;
        if (rule)
            assert_true(plan->others[i].tokens_per_s <= plan->placed_tokens_per_s * (1 + 1e-9));
    }
}

/* ---- sentences that everybody knows ---- */

static void test_the_law(void **unused)
{
    (void)unused;
    size_t n_models, n_quants;
    const char *const *models = mb_model_names(&n_models), *const *quants = mb_quant_names(&n_quants);
    struct mb_machine *machine = open_machine("DGX Spark");
    unsigned n = 0;
    assert_true(fabs(machine->pools[0].bandwidth_bytes_per_s.value - 273e9) < 1e6);
    for (size_t m = 0; m < n_models; m++) {
        for (size_t q = 0; q < n_quants; q += 3) {
            char spec[200];
            struct mb_model *model;
            struct mb_traffic traffic;
            snprintf(spec, sizeof spec, "%s@%s", models[m], quants[q]);
            if (mb_model_catalog(spec, &model, NULL) != MB_OK)
                continue;
            assert_int_equal(mb_model_traffic(model, 1, 0, NULL, &traffic, NULL), MB_OK);
            double bytes = (double)traffic.weights_bytes;
            if (bytes > 20.7e9 && bytes < 21.3e9) {
                struct mb_plan *plan = plan_with(machine, model, NULL);
                if (plan->fits) {
                    assert_int_equal((int)(plan->decode.bound_tokens_per_s + 0.5), 13);
                    assert_true(fabs(plan->decode.bound_tokens_per_s * bytes / 273e9 - 1) < 0.02);
                    n++;
                }
                mb_plan_free(plan);
            }
            mb_model_free(model);
        }
    }
    assert_true(n > 0);
    mb_machine_free(machine);
}

static void test_dense_crawls(void **unused)
{
    (void)unused;
    static const char *const cards[] = {"PC RTX 3090, 64 GB DDR5", "PC RTX 4090, 128 GB DDR5", "PC RX 7900 XTX, 64 GB DDR5"};
    for (unsigned i = 0; i < MB_COUNT(cards); i++) {
        struct mb_plan *plan = plan_of(cards[i], "Llama-3.3-70B@Q4_K_M", NULL);
        check_plan(plan);
        assert_int_equal(plan->fits, 1);
        assert_true(plan->decode.tokens_per_s < 5);
        assert_true(says(plan->warnings, plan->n_warnings, "crawls") && says(plan->warnings, plan->n_warnings, "MoE"));
        mb_plan_free(plan);
    }
}

static void test_moe_beside_a_card(void **unused)
{
    (void)unused;
    struct mb_plan *plan = plan_of("PC RTX 3090, 64 GB DDR5", "gpt-oss-120b", NULL);
    unsigned n_card = 0;
    check_plan(plan);
    assert_int_equal(plan->fits, 1);
    assert_true(plan->decode.tokens_per_s > 10);
    /* The active shard but the experts: attention, shared experts, router, cache, head. */
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        assert_int_equal(plan->pool_kinds[plan->core_pool[i]], MB_POOL_VRAM);
        n_card += plan->pool_kinds[plan->experts_pool[i]] == MB_POOL_VRAM;
    }
    assert_int_equal(plan->pool_kinds[plan->output_pool], MB_POOL_VRAM);
    assert_true(n_card > 0 && n_card < plan->n_layers);
    assert_false(says(plan->warnings, plan->n_warnings, "crawls"));
    mb_plan_free(plan);
}

static void test_turn_off_apps(void **unused)
{
    (void)unused;
    size_t n_quants;
    const char *const *quants = mb_quant_names(&n_quants);
    struct mb_machine *machine = open_machine("MacBook Pro M4 Max 36 GB");
    unsigned n_raise = 0;
    for (size_t q = 0; q < n_quants; q++) {
        char spec[100];
        struct mb_model *model;
        snprintf(spec, sizeof spec, "Qwen3-32B@%s", quants[q]);
        if (mb_model_catalog(spec, &model, NULL) != MB_OK)
            continue;
        struct mb_plan *plan = plan_with(machine, model, NULL);
        check_plan(plan);
        double gib = (double)plan->model_bytes / MB_GIB;
        int apps = says(plan->needs, plan->n_needs, "Turn off apps"), raised = says(plan->needs, plan->n_needs, "iogpu");
        n_raise += (unsigned)raised;
        assert_true(plan->fits || gib > 18);
        if (gib > 36) { /* no setting helps */
            assert_false(plan->fits || apps || raised);
            assert_true(says(plan->needs, plan->n_needs, "larger machine") && says(plan->needs, plan->n_needs, "smaller quant"));
        }
        mb_plan_free(plan);
        mb_model_free(model);
    }
    assert_true(n_raise > 0);
    /* Without apps it fits; with them it does not, and the plan says how many GiB they may take. */
    struct mb_model *model = open_spec("Qwen3-32B@Q4_K_M");
    struct mb_plan_opts opts = {.apps_given = 1, .apps_bytes = 20ull << 30};
    struct mb_plan *plan = plan_with(machine, model, &opts);
    assert_false(plan->fits);
    assert_true(says(plan->needs, plan->n_needs, "Turn off apps"));
    mb_plan_free(plan);
    opts.apps_bytes = 4ull << 30;
    plan = plan_with(machine, model, &opts);
    assert_true(plan->fits);
    mb_plan_free(plan);
    mb_model_free(model);
    mb_machine_free(machine);
}

/* The plan's own numbers, tried out: the limit that it names, and what other programs may take. */
static void test_mac_settings(void **unused)
{
    (void)unused;
    struct mb_machine *machine = open_machine("Mac mini M4 Pro 64 GB");
    struct mb_model *model = open_spec("gpt-oss-120b");
    struct mb_plan *plan = plan_with(machine, model, NULL);
    double gib = 0, mib = 0;
    check_plan(plan);
    for (unsigned i = 0; i < plan->n_needs; i++) {
        const char *most = strstr(plan->needs[i], "at most "), *limit = strstr(plan->needs[i], "iogpu.wired_limit_mb=");
        if (most && limit) {
            gib = strtod(most + 8, NULL);
            mib = strtod(limit + 21, NULL);
        }
    }
    mb_plan_free(plan);
    assert_true(gib >= 2 && mib > 0);
    machine->pools[0].usable_bytes.value = mib * MB_MIB;
    plan = plan_with(machine, model, &(struct mb_plan_opts){.apps_given = 1, .apps_bytes = (uint64_t)(gib * MB_GIB)});
    assert_true(plan->fits);
    mb_plan_free(plan);
    mb_model_free(model);
    mb_machine_free(machine);
}

/* Tokens per second; 0: it does not fit. */
static double decode_on(const char *name, const struct mb_model *model)
{
    struct mb_machine *machine = open_machine(name);
    struct mb_plan *plan = plan_with(machine, model, NULL);
    check_plan(plan);
    double speed = plan->fits ? plan->decode.tokens_per_s : 0;
    mb_plan_free(plan);
    mb_machine_free(machine);
    return speed;
}

static void test_best_machines(void **unused)
{
    (void)unused;
    static const char *const large[] = {"gpt-oss-120b", "Llama-3.3-70B", "Qwen3-Next-80B-A3B"};
    struct mb_catalog_row *rows;
    size_t n_rows;
    double ratio = 1;
    assert_int_equal(mb_catalog_rows(&rows, &n_rows, NULL), MB_OK);
    for (unsigned m = 0; m < MB_COUNT(large); m++) {
        struct mb_model *model = open_spec(large[m]);
        const char *best_name = "none";
        double best = 0;
        for (size_t i = 0; i < n_rows; i++) {
            /* What stands under a desk. */
            int server = strncmp(rows[i].name, "DGX H", 5) == 0 || strncmp(rows[i].name, "Server", 6) == 0;
            double speed = server ? 0 : decode_on(rows[i].name, model);
            if (speed > best) {
                best = speed;
                best_name = rows[i].name;
            }
        }
        double spark = decode_on("DGX Spark", model), amd = decode_on("AMD Max+ 395 128 GB", model);
        print_message("%s: fastest on %s, %.1f tokens/s; DGX Spark %.1f, AMD Max+ 395 %.1f\n", large[m], best_name, best, spark, amd);
        assert_non_null(strstr(best_name, "RTX PRO 6000"));
        assert_true(amd > 0);
        ratio *= spark / amd;
        mb_model_free(model);
    }
    /* About the same: within a quarter, over the models together. */
    ratio = cbrt(ratio);
    assert_true(ratio < 1.25 && ratio > 0.8);
    mb_catalog_rows_free(rows);
}

/* ---- what does not fit ---- */

static void test_needs_hold(void **unused)
{
    (void)unused;
    struct mb_machine *machine = open_machine("PC RTX 4060 Ti 16 GB, 32 GB DDR5");
    struct mb_model *model = open_spec("Llama-3.3-70B@Q5_K_M");
    struct mb_plan_opts opts = {.n_ctx = 16384};
    struct mb_plan *plan = plan_with(machine, model, &opts);
    unsigned long long ctx = 0;
    char quant[40] = "";
    check_plan(plan);
    assert_false(plan->fits);
    for (unsigned i = 0; i < plan->n_needs; i++) {
        const char *at = strstr(plan->needs[i], "(--ctx ");
        if (at)
            ctx = 1024 * strtoull(at + 7, NULL, 10);
        sscanf(plan->needs[i], "A smaller quantization: %39s fits", quant);
    }
    mb_plan_free(plan);
    if (ctx) {
        opts.n_ctx = ctx;
        plan = plan_with(machine, model, &opts);
        assert_true(plan->fits);
        mb_plan_free(plan);
    }
    assert_true(*quant);
    mb_model_free(model);
    char spec[80];
    snprintf(spec, sizeof spec, "Llama-3.3-70B@%s", quant);
    model = open_spec(spec);
    opts.n_ctx = 16384;
    plan = plan_with(machine, model, &opts);
    assert_true(plan->fits);
    mb_plan_free(plan);
    mb_model_free(model);
    mb_machine_free(machine);
}

/* ---- hostile and impossible questions ---- */

static void refuse(const struct mb_machine *machine, const struct mb_model *model, const struct mb_plan_opts *opts, int code,
                   const char *word)
{
    struct mb_plan *plan = NULL;
    struct mb_err err;
    assert_int_equal(mb_plan_make(machine, model, opts, &plan, &err), code);
    if (!strstr(err.text, word))
        fail_msg("%s: does not say %s", err.text, word);
}

static void test_refusals(void **unused)
{
    (void)unused;
    struct mb_machine *machine = open_machine("DGX Spark"), *odd;
    struct mb_model *model = open_spec("Qwen3-8B");
    static const char *const files[] = {
        "{\"name\": \"no speed\", \"pools\": [{\"id\": \"ram\", \"kind\": \"system\", \"capacity_bytes\": 68719476736}]}",
        "{\"name\": \"zero\", \"pools\": [{\"id\": \"ram\", \"kind\": \"system\", \"capacity_bytes\": 68719476736, "
        "\"bandwidth\": {\"bytes_per_s\": 0, \"provenance\": \"spec\"}}]}"};
    refuse(machine, model, &(struct mb_plan_opts){.n_ctx = 1000000}, MB_ERANGE, "40960");
    refuse(machine, model, &(struct mb_plan_opts){.engine = "abacus"}, MB_ENAME, "abacus");
    refuse(machine, model, &(struct mb_plan_opts){.kv = {.type_k = "Q3"}}, MB_EINVAL, "Q3");
    refuse(machine, model, &(struct mb_plan_opts){.engine = "mlx"}, MB_ENOTSUP, "mlx");
    for (unsigned i = 0; i < MB_COUNT(files); i++) {
        struct mb_err err;
        write_bytes("machine.json", files[i], strlen(files[i]));
        int code = mb_machine_read(in_dir("machine.json"), &odd, &err);
        if (code != MB_OK) /* refused even earlier, by name */
            continue;
        refuse(odd, model, NULL, MB_ENODATA, i ? "zero" : "no speed");
        mb_machine_free(odd);
    }
    /* Limits and applications that leave nothing. */
    uint64_t limit = 1 << 20;
    struct mb_plan *plan = plan_with(machine, model, &(struct mb_plan_opts){.limit_bytes = &limit, .n_limits = 1});
    check_plan(plan);
    assert_false(plan->fits);
    mb_plan_free(plan);
    plan = plan_with(machine, model, &(struct mb_plan_opts){.apps_given = 1, .apps_bytes = UINT64_MAX});
    check_plan(plan);
    assert_false(plan->fits);
    mb_plan_free(plan);
    mb_model_free(model);
    mb_machine_free(machine);
}

/* One pool that both read is counted once. */
static void test_unified_once(void **unused)
{
    (void)unused;
    struct mb_plan *plan = plan_of("Mac Studio M3 Ultra 96 GB", "Qwen3-32B@Q8_0", NULL);
    check_plan(plan);
    assert_int_equal(plan->n_pools, 1);
    assert_true(plan->fits);
    assert_true((double)plan->pools[0].weights_bytes <= (double)plan->model_bytes + 1);
    assert_true((double)plan->pools[0].weights_bytes > 0.99 * (double)plan->model_bytes);
    assert_true(reads_of(plan) > 0.9 * (double)plan->model_bytes);
    mb_plan_free(plan);
}

static void test_json(void **unused)
{
    (void)unused;
    static const char *const keys[] = {"model",   "machine", "engine",  "fits",     "ctx",        "placement", "pools",   "decode",
                                       "prefill", "ttft_s",  "by_depth", "bottleneck", "needs",    "warnings",  "others"};
    static const struct {
        const char *machine, *model;
    } pairs[] = {{"PC 2x RTX 3090, 64 GB DDR5", "Qwen3-235B-A22B@Q2_K"}, {"Mac mini M4 16 GB", "Llama-3.3-70B@Q8_0"}};
    for (unsigned i = 0; i < MB_COUNT(pairs); i++) {
        struct mb_plan *plan = plan_of(pairs[i].machine, pairs[i].model, NULL);
        char *text;
        check_plan(plan);
        assert_int_equal(mb_plan_json(plan, 1, &text, NULL), MB_OK);
        json_t *root = mb_json_parse(text, strlen(text), "plan", NULL);
        assert_non_null(root);
        for (unsigned k = 0; k < MB_COUNT(keys); k++)
            assert_non_null(json_object_get(root, keys[k]));
        assert_int_equal(json_is_true(json_object_get(root, "fits")), plan->fits);
        assert_int_equal(json_array_size(json_object_get(root, "terms")), plan->n_terms);
        json_t *pool = json_array_get(json_object_get(root, "pools"), 0);
        assert_non_null(json_object_get(pool, "used_bytes"));
        json_decref(root);
        mb_text_free(text);
        mb_plan_free(plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_law),
        cmocka_unit_test(test_dense_crawls),
        cmocka_unit_test(test_moe_beside_a_card),
        cmocka_unit_test(test_turn_off_apps),
        cmocka_unit_test(test_mac_settings),
        cmocka_unit_test(test_best_machines),
        cmocka_unit_test(test_needs_hold),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unified_once),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
