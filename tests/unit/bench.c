/* SPDX-License-Identifier: MIT */
/* Suite for the bench: which blocks count and what is made of them, the cache that was never evaluated, the bytes that ops read
 * against those that traffic counts, predictions of the CPU alone, and ends before the end. Speeds themselves are not looked at. */
#include "base/base.h"
#include "engine/bench.h"
#include "engine/probe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPPORT_DIR
#define SUPPORT_MODELS
#include "../engine/golden.h"
#include "support.h"

static const char *root;

static void open_golden(const char *name, struct mb_model **out)
{
    char from[PATH_MAX];
    struct mb_err err = {0};
    snprintf(from, sizeof from, "%s/tests/data/golden/%s.gguf", root, name);
    if (golden_fill(from, in_dir("%s.gguf", name), &err) || mb_model_open(in_dir("%s.gguf", name), NULL, out, &err))
        fail_msg("%s", err.text);
}

/* A CPU with a small cache, so that the buffer of the probe is small; and a GPU that is 100 times as fast. */
struct bench_machine {
    struct mb_machine machine;
    struct mb_pool pools[2];
    struct mb_processor processors[2];
    struct mb_read reads[2];
};

static const struct mb_machine *make_machine(struct bench_machine *m, double bytes_per_s)
{
    struct mb_figure size = mb_figure_of(64 * MB_GIB, MB_SPEC, "test");
    *m = (struct bench_machine){.machine = {.name = "test machine", .pools = m->pools, .n_pools = 2, .processors = m->processors,
                                            .n_processors = 2}};
    m->pools[0] = (struct mb_pool){.id = "vram0", .kind = MB_POOL_VRAM, .capacity_bytes = size};
    m->pools[1] = (struct mb_pool){.id = "ram", .kind = MB_POOL_SYSTEM, .capacity_bytes = size};
    m->reads[0] = (struct mb_read){0, mb_figure_of(5e12, MB_SPEC, "test")};
    m->reads[1] = (struct mb_read){1, mb_figure_of(bytes_per_s, MB_SPEC, "of the RAM")};
    m->processors[0] = (struct mb_processor){.id = "gpu0", .name = "NVIDIA H100", .kind = MB_PROCESSOR_GPU, .reads = &m->reads[0],
                                             .n_reads = 1};
    m->processors[1] = (struct mb_processor){.id = "cpu", .name = "CPU", .kind = MB_PROCESSOR_CPU, .reads = &m->reads[1],
                                             .n_reads = bytes_per_s > 0, .cache_bytes = {0, 0, 1 << 20}};
    return &m->machine;
}

/* ---- sums ---- */

static void blocks_of_a_changing_memory_do_not_count(void **state)
{
    (void)state;
    struct mb_bench_block blocks[] = {
        {10, 20e9, 20e9, 1}, {4, 20e9, 10e9, 1}, {12, 21e9, 20e9, 0.99}, {2, 20e9, 20e9, 0.5}, {11, 19e9, 20e9, 0.95},
    };
    struct mb_bench_row row = {.bytes_per_token = 1e9};
    mb_bench_sum(blocks, 5, &row);
    assert_int_equal(row.n_blocks, 3);
    assert_int_equal(row.n_discarded, 2);
    assert_false(row.unsteady);
    assert_true(row.tokens_per_s == 11 && row.tokens_per_s_min == 10 && row.tokens_per_s_max == 12);
    assert_true(row.bytes_per_s == 11e9);
    assert_true(row.bound_before_bytes_per_s == 20e9 && row.bound_after_bytes_per_s == 20e9);
    assert_true(fabs(row.fraction_of_bound - 11 / 19.5) < 1e-9);
    assert_true(row.cpu_share == 0.99);
}

static void without_steady_blocks_all_count_and_that_is_said(void **state)
{
    (void)state;
    struct mb_bench_block blocks[] = {{10, 20e9, 10e9, 1}, {4, 20e9, 20e9, 0.2}};
    struct mb_bench_row row = {.bytes_per_token = 1e9};
    mb_bench_sum(blocks, 2, &row);
    assert_true(row.unsteady);
    assert_int_equal(row.n_blocks, 2);
    assert_int_equal(row.n_discarded, 0);
    assert_true(row.tokens_per_s == 7);
}

/* ---- the cache ---- */

/* A token after n real ones and one after n made-up ones read the same cells; the latter are finite and no zeros. */
static void a_filled_cache_holds_numbers_everywhere(void **state)
{
    (void)state;
    static const char *const types[] = {"F16", "F32", "Q8_0"};
    struct mb_model *model;
    struct mb_engine *engine;
    struct mb_err err = {0};
    const int32_t token = 3;
    open_golden("gpt-oss", &model);
    assert_int_equal(mb_engine_open(model, NULL, &engine, &err), MB_OK);
    for (unsigned t = 0; t < 3; t++) {
        struct mb_session_opts opts = {.n_threads = 2, .n_ctx = 100, .n_batch = 16, .type_k = types[t], .type_v = types[t]};
        struct mb_session *session;
        float first;
        if (mb_session_open(engine, &opts, &session, &err))
            fail_msg("%s", err.text);
        mb_session_fill(session, 1);
        for (uint32_t i = 0; i < session->cache.n_layers; i++) {
            const struct mb_kv_cache_layer *layer = &session->cache.layers[i];
            for (size_t cell = 0; cell < (size_t)layer->cells * layer->n_heads; cell++) {
                int zeros = 1;
                for (size_t b = 0; b < layer->v_row; b++)
                    zeros &= !layer->v[cell * layer->v_row + b];
                assert_false(zeros);
            }
        }
        for (uint32_t depth = 99;; depth -= 33) {
            mb_session_seek(session, depth);
            if (mb_session_eval(session, &token, 1, NULL, &err))
                fail_msg("%s", err.text);
            assert_true(isfinite(mb_session_logits(session, 0)[0]));
            assert_true(depth == 99 || mb_session_logits(session, 0)[0] != first);
            first = mb_session_logits(session, 0)[0];
            if (!depth)
                break;
        }
        assert_int_equal(mb_session_eval(session, &token, 1, NULL, &err), MB_OK);
        mb_session_free(session);
    }
    mb_engine_free(engine);
    mb_model_free(model);
}

static void the_probe_reads_weights_or_a_buffer(void **state)
{
    (void)state;
    struct mb_model *model;
    struct mb_engine *engine;
    struct mb_session *session;
    struct mb_probe *probe;
    struct mb_err err = {0};
    struct mb_session_opts opts = {.n_threads = 3, .n_ctx = 32};
    open_golden("llama-q4_k", &model);
    assert_int_equal(mb_engine_open(model, NULL, &engine, &err), MB_OK);
    assert_int_equal(mb_session_open(engine, &opts, &session, &err), MB_OK);
    assert_int_equal(mb_probe_open(session, 1 << 20, &probe, &err), MB_OK);
    assert_false(mb_probe_is_weights(probe));
    assert_int_equal(mb_probe_bytes(probe), 8 << 20);
    assert_true(mb_probe_read(probe, 0.01) > 0);
    mb_probe_close(probe);
    assert_int_equal(mb_probe_open(session, 512, &probe, &err), MB_OK);
    assert_true(mb_probe_is_weights(probe));
    assert_true(mb_probe_bytes(probe) >= 4096);
    assert_true(mb_probe_read(probe, 0.01) > 0 && mb_probe_read(probe, 0.01) > 0);
    mb_probe_close(probe);
    mb_session_free(session);
    mb_engine_free(engine);
    mb_model_free(model);
}

/* ---- a whole bench ---- */

static int near(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fabs(b);
}

static void check_ops(const struct mb_bench *bench)
{
    for (unsigned i = 0; i < bench->n_rows; i++) {
        const struct mb_bench_row *row = &bench->rows[i];
        double bytes = 0, share = 0;
        for (unsigned k = 0; k < bench->n_ops; k++) {
            const struct mb_bench_op *op = &bench->ops[k];
            if (op->depth != row->depth || strcmp(op->phase, row->phase) != 0)
                continue;
            bytes += (double)op->bytes;
            share += op->share;
            assert_true(op->n_calls > 0 && op->seconds >= 0);
        }
        assert_true(near(share, 1));
        /* Prefill: the experts that were really chosen, of which traffic knows only the expected number. */
        if (strcmp(row->phase, "decode") == 0 && !near(bytes, row->bytes_per_token * row->n_tokens))
            fail_msg("%s at %llu: ops read %.0f bytes, traffic says %.0f", row->phase, (unsigned long long)row->depth, bytes,
                     row->bytes_per_token * row->n_tokens);
    }
}

static void rows_and_ops_of_a_model(void **state)
{
    (void)state;
    static const uint64_t depths[] = {0, 40};
    struct bench_machine m;
    struct mb_model *model;
    struct mb_bench *bench;
    struct mb_err err = {0};
    char *text;
    struct mb_bench_opts opts = {.load = MB_LOAD_COPY, .seed = 5, .n_threads = 1, .n_prefill = 20, .n_decode = 3, .depths = depths,
                                 .n_depths = 2, .ops = 1, .machine = make_machine(&m, 20e9)};
    open_golden("gpt-oss", &model);
    if (mb_bench_run(model, &opts, &bench, &err))
        fail_msg("%s", err.text);
    mb_model_free(model);
    assert_int_equal(bench->n_rows, 4);
    assert_false(bench->cancelled || bench->synthetic);
    assert_string_equal(bench->machine, "test machine");
    assert_string_equal(bench->bandwidth.detail, "of the RAM");
    for (unsigned i = 0; i < 4; i++) {
        const struct mb_bench_row *row = &bench->rows[i];
        assert_string_equal(row->phase, i < 2 ? "prefill" : "decode");
        assert_int_equal(row->depth, depths[i % 2]);
        assert_int_equal(row->n_tokens, i < 2 ? 20 : 3);
        assert_true(row->n_blocks >= 1 && row->n_blocks + row->n_discarded <= 15);
        assert_true(row->tokens_per_s_min <= row->tokens_per_s && row->tokens_per_s <= row->tokens_per_s_max);
        assert_true(row->tokens_per_s_min > 0 && row->bytes_per_token > 0 && row->fraction_of_bound > 0);
        assert_true(row->predicted.low < row->predicted.tokens_per_s && row->predicted.tokens_per_s < row->predicted.high);
        assert_int_equal(row->holds, row->tokens_per_s >= row->predicted.low && row->tokens_per_s <= row->predicted.high);
    }
    assert_true(bench->rows[3].bytes_per_token > bench->rows[2].bytes_per_token);
    /* The GPU is not what runs it: 20 GB/s are the bound. */
    assert_true(fabs(bench->rows[2].predicted.bound_tokens_per_s * bench->rows[2].bytes_per_token / 20e9 - 1) < 0.05);
    check_ops(bench);
    assert_int_equal(mb_bench_json(bench, &text, &err), MB_OK);
    json_t *json = mb_json_parse(text, strlen(text), "bench", &err);
    assert_non_null(json);
    assert_int_equal(json_array_size(json_object_get(json, "runs")), 4);
    assert_int_equal(json_array_size(json_object_get(json, "ops")), bench->n_ops);
    json_t *run = json_array_get(json_object_get(json, "runs"), 2);
    assert_true(near(json_number_value(json_object_get(json_object_get(run, "tokens_per_s"), "median")), bench->rows[2].tokens_per_s));
    assert_true(near(json_number_value(json_object_get(run, "predicted_low")), bench->rows[2].predicted.low));
    json_decref(json);
    mb_text_free(text);
    mb_bench_free(bench);
}

/* The name of a catalog runs on synthetic weights; a machine of unknown bandwidth is predicted by the bound of the run. */
static void synthetic_weights_on_an_unknown_machine(void **state)
{
    (void)state;
    struct bench_machine m;
    struct mb_model *model;
    struct mb_bench *bench;
    struct mb_err err = {0};
    struct mb_bench_opts opts = {.load = MB_LOAD_SYNTHETIC, .seed = 5, .n_threads = 1, .no_prefill = 1, .n_decode = 2,
                                 .machine = make_machine(&m, 0)};
    open_golden("qwen3", &model);
    if (mb_bench_run(model, &opts, &bench, &err))
        fail_msg("%s", err.text);
    assert_int_equal(bench->n_rows, 1);
    assert_int_equal(bench->n_ops, 0);
    assert_true(bench->synthetic);
    assert_true(bench->rows[0].predicted.tokens_per_s > 0);
    assert_non_null(strstr(bench->bandwidth.detail, "bound of this run"));
    mb_bench_free(bench);
    opts.machine = NULL;
    opts.n_decode = 1;
    if (mb_bench_run(model, &opts, &bench, &err))
        fail_msg("%s", err.text);
    assert_true(bench->rows[0].predicted.tokens_per_s == 0 && !bench->rows[0].holds);
    assert_null(bench->machine);
    mb_bench_free(bench);
    mb_model_free(model);
}

/* Three quarters of each head are turned, which a model without a file has no key to say. */
static void a_partly_turned_model_of_the_catalog_runs(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("Phi-4-mini-3.8B@Q4_K_M");
    struct mb_engine_hparams hp;
    struct mb_err err = {0};
    assert_int_equal(mb_engine_hparams_read(model, NULL, &hp, &err), MB_OK);
    assert_int_equal(hp.rope.n_rot, 96);
    mb_model_free(model);
}

/* ---- ends ---- */

struct stop {
    int flag;
    const char *when;
};

static void stop_at(void *user, const char *what, double share)
{
    struct stop *stop = user;
    (void)share;
    if (strncmp(what, stop->when, strlen(stop->when)) == 0)
        stop->flag = 1;
}

static void what_was_measured_before_the_end_is_kept(void **state)
{
    (void)state;
    struct bench_machine m;
    struct mb_model *model;
    struct mb_bench *bench = NULL;
    struct mb_err err = {0};
    struct stop stop = {.when = "decode"};
    struct mb_bench_opts opts = {.load = MB_LOAD_COPY, .n_threads = 1, .n_prefill = 4, .n_decode = 2, .machine = make_machine(&m, 1e9),
                                 .progress = stop_at, .user = &stop, .cancel = &stop.flag};
    open_golden("qwen3", &model);
    assert_int_equal(mb_bench_run(model, &opts, &bench, &err), MB_OK);
    assert_int_equal(bench->n_rows, 1);
    assert_true(bench->cancelled);
    mb_bench_free(bench);
    stop = (struct stop){.when = "prefill"};
    assert_int_equal(mb_bench_run(model, &opts, &bench, &err), MB_ECANCEL);
    stop = (struct stop){.when = "loading"};
    assert_int_equal(mb_bench_run(model, &opts, &bench, &err), MB_ECANCEL);
    mb_model_free(model);
}

static void refuse(const struct mb_model *model, const struct mb_bench_opts *opts, int code, const char *word)
{
    struct mb_bench *bench;
    struct mb_err err = {0};
    assert_int_equal(mb_bench_run(model, opts, &bench, &err), code);
    if (!strstr(err.text, word))
        fail_msg("no '%s' in: %s", word, err.text);
}

static void what_cannot_be_measured_is_refused(void **state)
{
    (void)state;
    uint64_t deep = 40960, deeper = (uint64_t)1 << 40, long_ago[65] = {0};
    struct mb_model *model = open_spec("Qwen3-0.6B@Q4_K_M"), *large = open_spec("Kimi-K2-1T-A32B@Q8_0");
    struct mb_bench_opts opts = {.load = MB_LOAD_SYNTHETIC, .depths = &deep, .n_depths = 1};
    refuse(model, &opts, MB_ERANGE, "trained");
    opts.depths = &deeper;
    refuse(model, &opts, MB_ERANGE, "limit");
    opts.depths = long_ago;
    opts.n_depths = 65;
    refuse(model, &opts, MB_ERANGE, "at most 64");
    opts.n_depths = 0;
    refuse(model, &opts, MB_EINVAL, "nothing");
    opts = (struct mb_bench_opts){.no_prefill = 1, .no_decode = 1};
    refuse(model, &opts, MB_EINVAL, "nothing");
    opts = (struct mb_bench_opts){.load = MB_LOAD_BEHIND};
    refuse(model, &opts, MB_EINVAL, "copy them first");
    opts = (struct mb_bench_opts){.load = MB_LOAD_COPY};
    refuse(model, &opts, MB_EINVAL, "catalog");
    opts = (struct mb_bench_opts){.load = MB_LOAD_SYNTHETIC};
    struct mb_bench *bench;
    struct mb_err err = {0};
    int code = mb_bench_run(large, &opts, &bench, &err);
    assert_true(code == MB_ENOMEM || code == MB_ENOTSUP);
    mb_model_free(model);
    mb_model_free(large);
}

int main(int argc, char **argv)
{
    (void)argc;
    root = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_a_changing_memory_do_not_count),
        cmocka_unit_test(without_steady_blocks_all_count_and_that_is_said),
        cmocka_unit_test(a_filled_cache_holds_numbers_everywhere),
        cmocka_unit_test(the_probe_reads_weights_or_a_buffer),
        cmocka_unit_test(rows_and_ops_of_a_model),
        cmocka_unit_test(synthetic_weights_on_an_unknown_machine),
        cmocka_unit_test(a_partly_turned_model_of_the_catalog_runs),
        cmocka_unit_test(what_was_measured_before_the_end_is_kept),
        cmocka_unit_test(what_cannot_be_measured_is_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
