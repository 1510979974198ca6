/* SPDX-License-Identifier: MIT */
/* Suite for src/plan/profile.c and predict.c: profiles are found, and predictions are the sums that their formula states. */
#include "plan/predict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_MODELS
#include "support.h"

static struct mb_machine *machine_of(const char *name)
{
    struct mb_machine *machine;
    struct mb_err err;
    if (mb_machine_catalog(name, &machine, &err))
        fail_msg("%s", err.text);
    return machine;
}

static void profiles(void **state)
{
    (void)state;
    const struct mb_profile *profile;
    struct mb_err err;
    size_t n;
    assert_string_equal(mb_engine_names(&n)[0], "llama.cpp");
    assert_true(n >= 4);
    assert_ptr_equal(mb_profile_find(NULL, MB_BACKEND_CUDA), mb_profile_find("llama.cpp", MB_BACKEND_CUDA));
    assert_null(mb_profile_find("vllm", MB_BACKEND_METAL));
    assert_null(mb_profile_find("nothing", MB_BACKEND_CUDA));
    struct mb_machine *strix = machine_of("AMD Max+ 395 128 GB");
    unsigned gpu = 0;
    while (strix->processors[gpu].kind != MB_PROCESSOR_GPU)
        gpu++;
    assert_int_equal(mb_profile_for(strix, gpu, NULL, &profile, &err), MB_OK);
    assert_int_equal(mb_profile_backend(profile), MB_BACKEND_VULKAN);
    assert_int_equal(mb_profile_for(strix, gpu, "llama.cpp:rocm", &profile, &err), MB_OK);
    assert_int_equal(mb_profile_backend(profile), MB_BACKEND_ROCM);
    assert_int_equal(mb_profile_for(strix, gpu, "llama.cpp:cuda", &profile, &err), MB_ENOTSUP);
    assert_int_equal(mb_profile_for(strix, gpu, "mlx", &profile, &err), MB_ENOTSUP);
    assert_int_equal(mb_profile_for(strix, gpu, "lama.cpp", &profile, &err), MB_ENAME);
    assert_non_null(strstr(err.text, "llama.cpp"));
    mb_machine_free(strix);
    struct mb_machine *mac = machine_of("Mac Studio M2 Ultra 192 GB");
    for (unsigned i = 0; i < mac->n_processors; i++) {
        assert_int_equal(mb_profile_for(mac, i, "ollama", &profile, &err), MB_OK);
        assert_int_equal(mb_profile_backend(profile),
                         mac->processors[i].kind == MB_PROCESSOR_GPU ? MB_BACKEND_METAL : MB_BACKEND_CPU);
    }
    mb_machine_free(mac);
}

static void a_prediction_is_the_sum_of_its_units(void **state)
{
    (void)state;
    struct mb_machine *machine = machine_of("PC RTX 4090, 64 GB DDR5");
    struct mb_model *model = open_spec("Qwen3-30B-A3B@Q4_K_M");
    struct mb_load *load;
    struct mb_cost cost;
    struct mb_prediction all, deep;
    uint8_t pools[MB_LOAD_UNITS_MAX];
    assert_int_equal(mb_cost_init(&cost, machine, NULL, NULL), MB_OK);
    assert_int_equal(mb_load_build(model, 40000, NULL, &load, NULL), MB_OK);
    int vram = mb_cost_best_pool(&cost);
    assert_int_equal(machine->pools[vram].kind, MB_POOL_VRAM);
    unsigned ram = 0;
    while (machine->pools[ram].kind != MB_POOL_SYSTEM)
        ram++;
    for (uint32_t i = 0; i < load->n_units; i++)
        pools[i] = (uint8_t)vram;
    assert_int_equal(mb_predict_decode(&cost, load, pools, 0, &all, NULL), MB_OK);
    double sum = mb_pool_token_seconds(&cost, (unsigned)vram), terms = 0;
    for (uint32_t i = 0; i < load->n_units; i++)
        sum += mb_unit_decode_seconds(&cost, load, i, (unsigned)vram, 0);
    for (unsigned i = 0; i < all.n_terms; i++)
        terms += all.terms[i].seconds;
    assert_true(fabs(sum / all.seconds - 1) < 1e-9);
    assert_true(fabs(terms / all.seconds - 1) < 1e-9);
    assert_true(all.tokens_per_s < all.bound_tokens_per_s);
    assert_true(all.low < all.tokens_per_s && all.tokens_per_s < all.high);
    /* The bound is the law: bytes at the bandwidth of the card. */
    assert_true(fabs(all.bound_tokens_per_s - 1008e9 / all.bytes) < 1e-6 * all.bound_tokens_per_s);
    assert_int_equal(mb_predict_decode(&cost, load, pools, 32768, &deep, NULL), MB_OK);
    assert_true(deep.tokens_per_s < all.tokens_per_s);
    assert_true(deep.bytes > all.bytes);

    /* Experts of one layer in RAM: two crossings more, and slower. */
    uint32_t expert = 0;
    while (load->units[expert].kind != MB_UNIT_EXPERTS)
        expert++;
    struct mb_prediction mixed;
    pools[expert] = (uint8_t)ram;
    assert_int_equal(mb_predict_decode(&cost, load, pools, 0, &mixed, NULL), MB_OK);
    double expected = all.seconds - mb_unit_decode_seconds(&cost, load, expert, (unsigned)vram, 0) +
                      mb_unit_decode_seconds(&cost, load, expert, ram, 0) + mb_pool_token_seconds(&cost, ram) +
                      2 * mb_crossing_seconds(&cost, load);
    assert_true(fabs(expected / mixed.seconds - 1) < 1e-9);
    assert_true(mixed.tokens_per_s < all.tokens_per_s);
    pools[expert] = 9;
    assert_int_equal(mb_predict_decode(&cost, load, pools, 0, &mixed, NULL), MB_EINVAL);
    mb_load_free(load);
    mb_model_free(model);
    mb_machine_free(machine);
}

static void prefill(void **state)
{
    (void)state;
    struct mb_machine *machine = machine_of("PC RTX 4090, 64 GB DDR5");
    struct mb_model *model = open_spec("Qwen3-8B@Q4_K_M");
    struct mb_load *load;
    struct mb_cost cost;
    struct mb_prediction small, large, odd;
    uint8_t pools[MB_LOAD_UNITS_MAX];
    double ttft;
    assert_int_equal(mb_cost_init(&cost, machine, NULL, NULL), MB_OK);
    assert_int_equal(mb_load_build(model, 40000, NULL, &load, NULL), MB_OK);
    memset(pools, mb_cost_best_pool(&cost), sizeof pools);
    assert_int_equal(mb_predict_prefill(&cost, load, pools, 512, 0, 0, &small, NULL), MB_OK);
    assert_int_equal(mb_predict_prefill(&cost, load, pools, 1024, 0, 0, &large, NULL), MB_OK);
    assert_int_equal(mb_predict_prefill(&cost, load, pools, 513, 0, 0, &odd, NULL), MB_OK);
    assert_true(large.seconds > 2 * small.seconds && large.seconds < 2.2 * small.seconds);
    /* Weights once per chunk, and a cache that grows. */
    assert_true(large.bytes > 2 * small.bytes && large.bytes < 2.1 * small.bytes);
    assert_true(odd.bytes > 1.95 * small.bytes && odd.bytes < 2.1 * small.bytes);
    assert_true(small.tokens_per_s > 500);
    assert_int_equal(mb_predict_ttft(&cost, load, pools, 512, 0, &ttft, NULL), MB_OK);
    assert_true(ttft > small.seconds && ttft < 1.5 * small.seconds);
    assert_int_equal(mb_predict_prefill(&cost, load, pools, 0, 0, 0, &odd, NULL), MB_ERANGE);
    mb_load_free(load);
    mb_model_free(model);
    mb_machine_free(machine);
}

static void unknown_bandwidth(void **state)
{
    (void)state;
    struct mb_pool pool = {.id = "ram", .kind = MB_POOL_SYSTEM};
    struct mb_read read = {.pool = 0};
    struct mb_processor cpu = {.id = "cpu", .kind = MB_PROCESSOR_CPU, .reads = &read, .n_reads = 1};
    struct mb_machine machine = {.name = "box", .pools = &pool, .n_pools = 1, .processors = &cpu, .n_processors = 1};
    struct mb_cost cost;
    struct mb_err err;
    assert_int_equal(mb_cost_init(&cost, &machine, NULL, &err), MB_ENODATA);
    assert_non_null(strstr(err.text, "box"));
    read.bytes_per_s = (struct mb_figure){50e9, MB_MEASURED, NULL};
    assert_int_equal(mb_cost_init(&cost, &machine, NULL, &err), MB_OK);
    assert_int_equal(cost.pools[0].bandwidth_by, MB_BY_MEASUREMENT);
    assert_true(cost.pools[0].s_per[MB_RATE_BYTE_8] >= 1 / 50e9);
    assert_int_equal(mb_cost_init(&cost, &machine, "vllm", &err), MB_ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(profiles), cmocka_unit_test(a_prediction_is_the_sum_of_its_units),
        cmocka_unit_test(prefill),  cmocka_unit_test(unknown_bandwidth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
