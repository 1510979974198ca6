/* SPDX-License-Identifier: MIT */
/* The bench: blocks of tokens between readings of the memory, phase after phase and depth after depth. What memory delivers
 * changes within seconds on virtual machines, so a block counts only where the readings before and after it agree, and each
 * block is compared with its own. docs/bench.md states the method. */
#include "engine/bench.h"
#include "engine/pages.h"
#include "engine/probe.h"
#include "machine/machine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTHS_MAX = 64, BLOCKS_MAX = 15, BLOCKS_WANTED = 5, BLOCKS_ENOUGH = 3, BATCH = 512, OPS_MAX = MB_OP_KIND_END };

#define PROBE_S 0.15
/* A row ends early after so long, with enough blocks; with one; at all. */
#define ROW_LONG_S 15
#define ROW_LONGER_S 30
#define ROW_LONGEST_S 45
/* What a block of decoding should last, and its limits. */
#define BLOCK_S 0.6
#define BLOCK_MIN 4
#define BLOCK_MAX 64
#define TOKENS_MAX (1u << 20)

struct op_sum {
    const char *op;
    uint32_t n_calls;
    uint64_t bytes;
    double seconds;
};

struct bench {
    struct mb_bench out;
    struct mb_arena arena;
    const struct mb_model *model;
    const struct mb_bench_opts *opts;
    struct mb_engine *engine;
    struct mb_session *session;
    struct mb_probe *probe;
    struct mb_forecast *forecast;
    int32_t *tokens;
    uint32_t n_tokens_max;
    uint64_t n_given; /* tokens that were made: the next block gets others */
    const uint64_t *depths;
    unsigned n_depths;
    /* of the row that is measured */
    struct mb_bench_block blocks[BLOCKS_MAX];
    double seconds, cpu_s; /* of the last block; cpu_s of all threads together */
    struct op_sum ops[OPS_MAX];
    unsigned n_ops;
};

static int cancelled(const struct bench *bench)
{
    return bench->opts->cancel && __atomic_load_n(bench->opts->cancel, __ATOMIC_RELAXED);
}

/* ---- sums ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *values, unsigned n)
{
    qsort(values, n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

int mb_bench_steady(const struct mb_bench_block *block)
{
    double larger = fmax(block->before, block->after);
    return fabs(block->before - block->after) <= MB_BENCH_SAME * larger && block->cpu_share >= MB_BENCH_CPU;
}

void mb_bench_sum(struct mb_bench_block *blocks, unsigned n, struct mb_bench_row *row)
{
    double speeds[BLOCKS_MAX], before[BLOCKS_MAX], after[BLOCKS_MAX], fractions[BLOCKS_MAX], cpu[BLOCKS_MAX];
    unsigned n_steady = 0;
    for (unsigned i = 0; i < n; i++) {
        if (mb_bench_steady(&blocks[i])) {
            struct mb_bench_block steady = blocks[i];
            blocks[i] = blocks[n_steady];
            blocks[n_steady++] = steady;
        }
    }
    row->unsteady = n_steady == 0;
    row->n_blocks = n_steady ? n_steady : n;
    row->n_discarded = n - row->n_blocks;
    for (unsigned i = 0; i < row->n_blocks; i++) {
        double bound = (blocks[i].before + blocks[i].after) / 2;
        speeds[i] = blocks[i].tokens_per_s;
        before[i] = blocks[i].before;
        after[i] = blocks[i].after;
        cpu[i] = blocks[i].cpu_share;
        fractions[i] = bound > 0 ? speeds[i] * row->bytes_per_token / bound : 0;
    }
    row->tokens_per_s = median_of(speeds, row->n_blocks);
    row->tokens_per_s_min = speeds[0];
    row->tokens_per_s_max = speeds[row->n_blocks - 1];
    row->bytes_per_s = row->tokens_per_s * row->bytes_per_token;
    row->bound_before_bytes_per_s = median_of(before, row->n_blocks);
    row->bound_after_bytes_per_s = median_of(after, row->n_blocks);
    row->fraction_of_bound = median_of(fractions, row->n_blocks);
    row->cpu_share = median_of(cpu, row->n_blocks);
}

/* ---- bytes ---- */

static int add_pass(const struct bench *bench, uint32_t n, uint64_t depth, int head, double *bytes, struct mb_err *err)
{
    struct mb_traffic traffic;
    int code = mb_model_traffic(bench->model, n, depth, NULL, &traffic, err);
    if (code)
        return code;
    *bytes += (double)traffic.weights_bytes + (double)traffic.kv_read_bytes + (double)traffic.state_read_bytes;
    if (!head)
        *bytes -= (double)traffic.by_role[MB_ROLE_OUTPUT];
    return MB_OK;
}

/* Decoding: the mean of the first and the last token. Prefill: chunk by chunk, the head only in the last one. */
static int count_bytes(const struct bench *bench, struct mb_bench_row *row, int decode, struct mb_err *err)
{
    double bytes = 0;
    int code = MB_OK;
    if (decode) {
        code = add_pass(bench, 1, row->depth, 1, &bytes, err);
        if (!code)
            code = add_pass(bench, 1, row->depth + row->n_tokens - 1, 1, &bytes, err);
        row->bytes_per_token = bytes / 2;
        return code;
    }
    for (uint32_t done = 0, n; !code && done < row->n_tokens; done += n) {
        n = row->n_tokens - done < BATCH ? row->n_tokens - done : BATCH;
        code = add_pass(bench, n, row->depth + done, done + n == row->n_tokens, &bytes, err);
    }
    row->bytes_per_token = bytes / row->n_tokens;
    return code;
}

/* ---- blocks ---- */

/* Tokens at random: those that a model would choose soon go round in circles, and so would its experts. */
static void make_tokens(struct bench *bench, uint32_t n)
{
    uint32_t n_vocab = mb_session_n_vocab(bench->session);
    for (uint32_t i = 0; i < n; i++)
        bench->tokens[i] = (int32_t)(mb_mix(bench->opts->seed * UINT64_C(0x100000001) + bench->n_given++) % n_vocab);
}

/* n tokens at a depth. Threads that wait spin, so an undisturbed block takes as much CPU time as time on each of its CPUs. */
static int run_block(struct bench *bench, uint64_t depth, uint32_t n, int decode, struct mb_err *err)
{
    struct mb_eval_opts eval = {.cancel = bench->opts->cancel};
    int code = MB_OK;
    make_tokens(bench, n);
    mb_session_seek(bench->session, (uint32_t)depth);
    double began = mb_now_s(), cpu_began = mb_process_cpu_s();
    for (uint32_t i = 0; decode && !code && i < n; i++)
        code = mb_session_eval(bench->session, bench->tokens + i, 1, &eval, err);
    if (!decode)
        code = mb_session_eval(bench->session, bench->tokens, n, &eval, err);
    bench->seconds = mb_now_s() - began;
    bench->cpu_s = mb_process_cpu_s() - cpu_began;
    return code;
}

/* Touch what a block touches, and learn how many tokens of decoding make one. */
static int warm_up(struct bench *bench, struct mb_bench_row *row, int decode, struct mb_err *err)
{
    uint32_t n = decode ? 2 : 32;
    int code = run_block(bench, row->depth, n < row->n_tokens ? n : row->n_tokens, decode, err);
    if (!code && decode && !bench->opts->n_decode) {
        double tokens = bench->seconds > 0 ? BLOCK_S * n / bench->seconds : BLOCK_MAX;
        row->n_tokens = tokens > BLOCK_MAX ? BLOCK_MAX : tokens < BLOCK_MIN ? BLOCK_MIN : (uint32_t)tokens;
    }
    return code;
}

static int is_done(unsigned n, unsigned n_steady, double seconds)
{
    return n == BLOCKS_MAX || n_steady >= BLOCKS_WANTED || (n_steady >= BLOCKS_ENOUGH && seconds > ROW_LONG_S) ||
           (n_steady && seconds > ROW_LONGER_S) || seconds > ROW_LONGEST_S;
}

static void tell(const struct bench *bench, const struct mb_bench_row *row, double share)
{
    char what[64];
    snprintf(what, sizeof what, "%s after %llu tokens", row->phase, (unsigned long long)row->depth);
    if (bench->opts->progress)
        bench->opts->progress(bench->opts->user, what, share);
}

static int run_blocks(struct bench *bench, struct mb_bench_row *row, int decode, struct mb_err *err)
{
    unsigned n = 0, n_steady = 0;
    double began = mb_now_s(), before = mb_probe_read(bench->probe, PROBE_S);
    do {
        tell(bench, row, (double)n_steady / BLOCKS_WANTED);
        int code = run_block(bench, row->depth, row->n_tokens, decode, err);
        if (code)
            return code;
        double after = mb_probe_read(bench->probe, PROBE_S);
        bench->blocks[n] = (struct mb_bench_block){row->n_tokens / bench->seconds, before, after,
                                                   bench->cpu_s / (bench->seconds * bench->session->pass.members)};
        n_steady += (unsigned)mb_bench_steady(&bench->blocks[n++]);
        before = after;
    } while (!is_done(n, n_steady, mb_now_s() - began));
    mb_bench_sum(bench->blocks, n, row);
    return MB_OK;
}

/* ---- ops ---- */

static void on_op(void *user, const struct mb_op_time *time)
{
    struct bench *bench = user;
    unsigned i = 0;
    while (i < bench->n_ops && strcmp(bench->ops[i].op, time->op) != 0)
        i++;
    if (i == OPS_MAX)
        return;
    if (i == bench->n_ops)
        bench->ops[bench->n_ops++] = (struct op_sum){.op = time->op};
    bench->ops[i].n_calls++;
    bench->ops[i].bytes += time->bytes;
    bench->ops[i].seconds += time->seconds;
}

/* A block of its own, because timing ops costs barriers. */
static int run_ops(struct bench *bench, const struct mb_bench_row *row, int decode, struct mb_err *err)
{
    struct mb_pass *pass = &bench->session->pass;
    double all = 0, before = mb_probe_read(bench->probe, PROBE_S);
    bench->n_ops = 0;
    pass->on_op = on_op;
    pass->user = bench;
    int code = run_block(bench, row->depth, row->n_tokens, decode, err);
    pass->on_op = NULL;
    if (code)
        return code;
    double bound = (before + mb_probe_read(bench->probe, PROBE_S)) / 2;
    for (unsigned i = 0; i < bench->n_ops; i++)
        all += bench->ops[i].seconds;
    for (unsigned i = 0; i < bench->n_ops; i++) {
        const struct op_sum *sum = &bench->ops[i];
        struct mb_bench_op *op = mb_arena_append(&bench->arena, &bench->out.ops, &bench->out.n_ops, sizeof *op);
        if (!op)
            return mb_fail_memory(err);
        double rate = sum->seconds > 0 ? (double)sum->bytes / sum->seconds : 0;
        *op = (struct mb_bench_op){row->phase, row->depth, sum->op, sum->n_calls, sum->bytes, sum->seconds, rate,
                                   bound > 0 ? rate / bound : 0, all > 0 ? sum->seconds / all : 0};
    }
    return MB_OK;
}

/* ---- rows ---- */

static int run_row(struct bench *bench, uint64_t depth, int decode, struct mb_err *err)
{
    struct mb_bench_row row = {.phase = decode ? "decode" : "prefill", .depth = depth};
    row.n_tokens = decode ? bench->opts->n_decode : bench->opts->n_prefill ? bench->opts->n_prefill : BATCH;
    row.n_tokens = row.n_tokens ? row.n_tokens : BLOCK_MAX;
    tell(bench, &row, 0);
    int code = warm_up(bench, &row, decode, err);
    if (!code)
        code = count_bytes(bench, &row, decode, err);
    if (!code)
        code = run_blocks(bench, &row, decode, err);
    unsigned n_ops = bench->out.n_ops;
    if (!code && bench->opts->ops)
        code = run_ops(bench, &row, decode, err);
    if (code) {
        bench->out.n_ops = n_ops;
        return code;
    }
    mb_forecast_row(bench->forecast, &row);
    struct mb_bench_row *kept = mb_arena_append(&bench->arena, &bench->out.rows, &bench->out.n_rows, sizeof row);
    if (!kept)
        return mb_fail_memory(err);
    *kept = row;
    return MB_OK;
}

static int run_rows(struct bench *bench, struct mb_err *err)
{
    int code = MB_OK;
    for (unsigned decode = 0; decode < 2; decode++) {
        for (unsigned i = 0; !code && i < bench->n_depths; i++) {
            if (decode ? bench->opts->no_decode : bench->opts->no_prefill)
                continue;
            code = cancelled(bench) ? mb_fail(err, MB_ECANCEL, "the bench was cancelled")
                                    : run_row(bench, bench->depths[i], (int)decode, err);
        }
    }
    if (code == MB_ECANCEL && bench->out.n_rows) {
        bench->out.cancelled = 1;
        return MB_OK;
    }
    if (code == MB_ECANCEL)
        return mb_fail(err, MB_ECANCEL, "the bench was cancelled before a run was complete");
    return code;
}

/* ---- opening ---- */

static int check_opts(struct bench *bench, uint64_t *out_ctx, struct mb_err *err)
{
    static const uint64_t zero = 0;
    const struct mb_bench_opts *opts = bench->opts;
    uint32_t prefill = opts->no_prefill ? 0 : opts->n_prefill ? opts->n_prefill : BATCH;
    uint32_t decode = opts->no_decode ? 0 : opts->n_decode ? opts->n_decode : BLOCK_MAX;
    uint64_t deepest = 0, context = bench->model->hp.context_max;
    bench->depths = opts->depths ? opts->depths : &zero;
    bench->n_depths = opts->depths ? opts->n_depths : 1;
    bench->n_tokens_max = prefill > decode ? prefill : decode;
    if (!bench->n_tokens_max || !bench->n_depths)
        return mb_fail(err, MB_EINVAL, "nothing is to be measured: neither prefill nor decoding");
    if (opts->load == MB_LOAD_BEHIND)
        return mb_fail(err, MB_EINVAL, "while weights are still on their way nothing holds still; copy them first");
    if (bench->n_depths > DEPTHS_MAX || bench->n_tokens_max > TOKENS_MAX)
        return mb_fail(err, MB_ERANGE, "%u depths, %u tokens: at most %d and %u", bench->n_depths, bench->n_tokens_max,
                       DEPTHS_MAX, TOKENS_MAX);
    for (unsigned i = 0; i < bench->n_depths; i++)
        deepest = bench->depths[i] > deepest ? bench->depths[i] : deepest;
    if (deepest > MB_DEPTH_MAX / 2)
        return mb_fail(err, MB_ERANGE, "a depth of %llu tokens is over the limit of %u", (unsigned long long)deepest,
                       MB_DEPTH_MAX / 2);
    if (context && deepest + bench->n_tokens_max > context)
        return mb_fail(err, MB_ERANGE, "%s: %u tokens after %llu are more than the %llu that it was trained for; use less",
                       bench->model->name, bench->n_tokens_max, (unsigned long long)deepest, (unsigned long long)context);
    *out_ctx = deepest + bench->n_tokens_max;
    return MB_OK;
}

/* What the weights may take: what is free without the cache and the buffers. 0: nobody knows. */
static int room_for_weights(const struct bench *bench, uint64_t n_ctx, uint64_t *out, struct mb_err *err)
{
    struct mb_kv_opts kv = {.n_batch = BATCH};
    struct mb_kv_size size;
    uint64_t free_bytes = mb_pages_free(), buffers = (uint64_t)128 << 20;
    int code = mb_model_kv_size(bench->model, n_ctx, &kv, &size, err);
    if (code)
        return code;
    *out = 0;
    if (!free_bytes)
        return MB_OK;
    if (size.cache_bytes + buffers >= free_bytes)
        return mb_fail(err, MB_ENOMEM, "the cache of %llu tokens needs %.1f GiB and %.1f GiB are free; use a smaller depth",
                       (unsigned long long)n_ctx, (double)size.cache_bytes / MB_GIB, (double)free_bytes / MB_GIB);
    *out = free_bytes - size.cache_bytes - buffers;
    return MB_OK;
}

static int open_all(struct bench *bench, struct mb_err *err)
{
    const struct mb_bench_opts *opts = bench->opts;
    const struct mb_processor *cpu = mb_machine_cpu(opts->machine);
    uint64_t n_ctx, room;
    int code = check_opts(bench, &n_ctx, err);
    if (!code)
        code = room_for_weights(bench, n_ctx, &room, err);
    if (code)
        return code;
    bench->tokens = mb_arena_array(&bench->arena, bench->n_tokens_max, sizeof *bench->tokens);
    if (!bench->tokens)
        return mb_fail_memory(err);
    struct mb_engine_opts engine = {.load = opts->load,
                                    .seed = opts->seed,
                                    .memory_bytes = room,
                                    .n_threads = opts->n_threads,
                                    .progress = opts->progress,
                                    .user = opts->user,
                                    .cancel = opts->cancel};
    struct mb_session_opts session = {.n_threads = opts->n_threads, .n_ctx = (uint32_t)n_ctx, .n_batch = BATCH};
    code = mb_forecast_open(opts->machine, bench->model, n_ctx, &bench->forecast, err);
    if (!code)
        code = mb_engine_open(bench->model, &engine, &bench->engine, err);
    if (!code)
        code = mb_session_open(bench->engine, &session, &bench->session, err);
    if (!code)
        code = mb_probe_open(bench->session, cpu ? cpu->cache_bytes[2] : 0, &bench->probe, err);
    if (!code)
        mb_session_fill(bench->session, opts->seed);
    return code;
}

static int describe(struct bench *bench, struct mb_err *err)
{
    struct mb_bench *out = &bench->out;
    struct mb_model_info model;
    struct mb_session_info info;
    mb_model_get_info(bench->model, &model);
    mb_session_get_info(bench->session, &info);
    out->model = mb_arena_text(&bench->arena, model.name);
    out->quant = mb_arena_text(&bench->arena, model.quant);
    out->machine = mb_arena_text(&bench->arena, bench->opts->machine ? bench->opts->machine->name : NULL);
    out->simd = mb_arena_text(&bench->arena, info.simd);
    out->synthetic = bench->opts->load == MB_LOAD_SYNTHETIC;
    out->is_bound = info.is_bound;
    out->n_threads = info.n_threads;
    out->weights_bytes = model.resident_bytes - model.unread_bytes;
    out->cache_bytes = info.cache_bytes;
    out->buffer_bytes = info.buffer_bytes;
    out->probe_bytes = mb_probe_bytes(bench->probe);
    out->probe_is_weights = mb_probe_is_weights(bench->probe);
    out->bandwidth = mb_forecast_bandwidth(bench->forecast);
    out->bandwidth.detail = mb_arena_text(&bench->arena, out->bandwidth.detail);
    out->owner = bench;
    return bench->arena.failed ? mb_fail_memory(err) : MB_OK;
}

static void close_all(struct bench *bench)
{
    mb_probe_close(bench->probe);
    mb_session_free(bench->session);
    mb_engine_free(bench->engine);
    mb_forecast_close(bench->forecast);
}

int mb_bench_run(const struct mb_model *model, const struct mb_bench_opts *opts, struct mb_bench **out, struct mb_err *err)
{
    static const struct mb_bench_opts defaults;
    struct bench *bench = calloc(1, sizeof *bench);
    if (!bench)
        return mb_fail_memory(err);
    bench->model = model;
    bench->opts = opts ? opts : &defaults;
    int code = open_all(bench, err);
    if (!code)
        code = run_rows(bench, err);
    if (!code)
        code = describe(bench, err);
    close_all(bench);
    if (code) {
        mb_arena_free(&bench->arena);
        free(bench);
        return code;
    }
    *out = &bench->out;
    return MB_OK;
}

void mb_bench_free(struct mb_bench *out)
{
    struct bench *bench = out ? out->owner : NULL;
    if (!bench)
        return;
    mb_arena_free(&bench->arena);
    free(bench);
}
