/* SPDX-License-Identifier: MIT */
/* A session: one sequence, its cache, its threads and its buffers, all taken when it opens. */
#include "engine/session.h"
#include "engine/pages.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 512, PIECES_MAX = 64, TILE_QUERIES = 64 };

/* Buffers are laid out twice: without a base to learn their size, then in the memory that was taken. */
struct layout {
    uint8_t *base;
    size_t at;
};

static void *place(struct layout *layout, size_t count, size_t size)
{
    size_t at = layout->at;
    layout->at += (count * size + 63) / 64 * 64;
    return layout->base ? layout->base + at : NULL;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Bytes of prepared activations in any form. */
static size_t larger_act(size_t n_cols, size_t n_tokens)
{
    return larger(mb_act_bytes(MB_ACT_Q8, n_cols, n_tokens), mb_act_bytes(MB_ACT_Q16, n_cols, n_tokens));
}

static void place_lane(struct mb_session *session, struct layout *layout, struct mb_lane *lane)
{
    const struct mb_program *program = session->pass.program;
    const struct mb_hparams *hp = &program->model->hp;
    size_t d = hp->n_embd, act = larger(d, program->attention_width), queries = larger(TILE_QUERIES, program->group);
    lane->own_x = place(layout, d, sizeof(float));
    lane->own_h = place(layout, d, sizeof(float));
    lane->own_act = place(layout, mb_act_bytes(MB_ACT_Q8, (act + 31) / 32 * 32, 1), 1);
    lane->own_turns = place(layout, program->hp.rope.n_rot, sizeof(float));
    lane->own_turns_window = place(layout, program->hp.rope_window.n_rot, sizeof(float));
    lane->own_states = place(layout, queries * mb_attention_state(program->head_v), sizeof(float));
    lane->seen = place(layout, larger(2 * queries, session->n_batch), sizeof(uint32_t));
    lane->order = place(layout, (size_t)session->n_batch * hp->n_expert_used, sizeof(uint32_t));
    lane->counts = place(layout, hp->n_expert + 2, sizeof(uint32_t));
    lane->own_chosen = place(layout, hp->n_expert_used, sizeof(uint32_t));
    lane->own_weights = place(layout, hp->n_expert_used + 2 * (size_t)hp->n_expert, sizeof(float));
}

static void place_all(struct mb_session *session, struct layout *layout)
{
    struct mb_pass *pass = &session->pass;
    const struct mb_program *program = pass->program;
    const struct mb_hparams *hp = &program->model->hp;
    size_t n = session->n_batch, d = hp->n_embd, entries = n * hp->n_expert_used, f = sizeof(float);
    size_t act = (larger(d, program->attention_width) + 31) / 32 * 32, ff = (program->ff_width + 31) / 32 * 32,
           expert_ff = (program->expert_ff_width + 31) / 32 * 32;
    pass->x = place(layout, n * d, f);
    pass->h = place(layout, n * d, f);
    pass->y = place(layout, n * d, f);
    pass->partial = place(layout, n * d, f);
    pass->q = place(layout, n * program->q_width, f);
    pass->k = place(layout, n * program->k_width, f);
    pass->v = place(layout, n * program->v_width, f);
    pass->attended = place(layout, n * program->attention_width, f);
    pass->gate = place(layout, n * program->ff_width, f);
    pass->up = place(layout, n * program->ff_width, f);
    pass->act[MB_ACT_Q8] = place(layout, mb_act_bytes(MB_ACT_Q8, act, n), 1);
    pass->act[MB_ACT_Q16] = place(layout, mb_act_bytes(MB_ACT_Q16, act, n), 1);
    pass->act_down = place(layout, larger_act(ff, n), 1);
    pass->turns = place(layout, n * program->hp.rope.n_rot, f);
    pass->turns_window = place(layout, n * program->hp.rope_window.n_rot, f);
    pass->speeds = place(layout, program->hp.rope.n_rot, sizeof(double));
    pass->speeds_window = place(layout, program->hp.rope_window.n_rot, sizeof(double));
    pass->states = place(layout, (size_t)pass->n_chunks * program->n_head * mb_attention_state(program->head_v), f);
    pass->logits = place(layout, (size_t)session->n_logits * hp->n_vocab, f);
    session->tokens = place(layout, session->n_ctx, sizeof(int32_t));
    if (program->expert_ff_width) {
        /* One entry's input, in any form; the start of each expert's is aligned. */
        pass->act_entry = (d * f + 63) / 64 * 64;
        pass->act_down_entry = (larger_act(expert_ff, 1) + 63) / 64 * 64;
        pass->act_experts = place(layout, entries, pass->act_entry);
        pass->act_experts_down = place(layout, entries, pass->act_down_entry);
        pass->expert_gate = place(layout, entries * program->expert_ff_width, f);
        pass->expert_up = place(layout, entries * program->expert_ff_width, f);
        pass->router = place(layout, n * hp->n_expert, f);
        pass->weights_chosen = place(layout, entries, f);
        pass->chosen = place(layout, entries, sizeof(uint32_t));
    }
    for (unsigned i = 0; i < pass->n_team; i++)
        place_lane(session, layout, &pass->lanes[i]);
}

static int take_buffers(struct mb_session *session, struct mb_err *err)
{
    struct mb_pass *pass = &session->pass;
    struct layout layout = {0};
    pass->lanes = mb_arena_array(&session->arena, pass->n_team, sizeof *pass->lanes);
    if (!pass->lanes)
        return mb_fail_memory(err);
    place_all(session, &layout);
    session->buffers = mb_pages_take(layout.at);
    if (!session->buffers)
        return mb_fail(err, MB_ENOMEM, "buffers need %.2f GiB; use a smaller batch", (double)layout.at / MB_GIB);
    session->buffer_bytes = layout.at;
    layout = (struct layout){.base = session->buffers};
    place_all(session, &layout);
    return MB_OK;
}

static int check_opts(struct mb_session *session, const struct mb_session_opts *opts, struct mb_err *err)
{
    const struct mb_hparams *hp = &session->engine->model->hp;
    session->n_batch = opts->n_batch ? opts->n_batch : BATCH_MAX;
    session->n_logits = opts->n_logits ? opts->n_logits : 1;
    session->n_ctx = opts->n_ctx ? opts->n_ctx : hp->context_max && hp->context_max < 4096 ? hp->context_max : 4096;
    if (session->n_batch > BATCH_MAX)
        return mb_fail(err, MB_ERANGE, "a batch of %u tokens is over the limit of %d", session->n_batch, BATCH_MAX);
    if (session->n_ctx > MB_DEPTH_MAX - BATCH_MAX)
        return mb_fail(err, MB_ERANGE, "a context of %u tokens is over the limit of %u", session->n_ctx,
                       MB_DEPTH_MAX - BATCH_MAX);
    session->n_batch = session->n_batch < session->n_ctx ? session->n_batch : session->n_ctx;
    if (session->n_logits > BATCH_MAX)
        return mb_fail(err, MB_ERANGE, "%u rows of logits are over the limit of %d", session->n_logits, BATCH_MAX);
    return MB_OK;
}

/* LongRoPE has two sets of factors: which one holds depends on the context that is asked for, not on what is in it. */
static void set_speeds(struct mb_session *session)
{
    const struct mb_program *program = session->pass.program;
    const float *factors = session->n_ctx > program->hp.rope.context ? program->factors_long : program->factors_short;
    for (uint32_t i = 0; i < program->n_steps && !factors; i++)
        factors = program->steps[i].rope_factors;
    mb_rope_speeds(&program->hp.rope, factors, session->pass.speeds);
    mb_rope_speeds(&program->hp.rope_window, NULL, session->pass.speeds_window);
}

int mb_session_open(struct mb_engine *engine, const struct mb_session_opts *opts, struct mb_session **out,
                    struct mb_err *err)
{
    static const struct mb_session_opts defaults;
    opts = opts ? opts : &defaults;
    struct mb_session *session = calloc(1, sizeof *session);
    if (!session)
        return mb_fail_memory(err);
    session->engine = engine;
    session->owner = pthread_self();
    int code = check_opts(session, opts, err);
    if (!code)
        code = mb_team_start(opts->n_threads, &session->team, err);
    if (code)
        goto fail;
    struct mb_kv_opts kv = {.type_k = opts->type_k, .type_v = opts->type_v, .n_batch = session->n_batch};
    code = mb_kv_cache_take(&session->cache, engine->model, &session->arena, session->n_ctx, &kv, err);
    if (code)
        goto fail;
    struct mb_pass *pass = &session->pass;
    pass->program = &engine->program;
    pass->weights = engine->weights;
    pass->kernels = &engine->kernels;
    pass->cache = &session->cache;
    pass->team = session->team;
    pass->members = pass->n_team = mb_team_size(session->team);
    pass->n_chunks = pass->n_team < PIECES_MAX ? pass->n_team : PIECES_MAX;
    pass->n_batch = session->n_batch;
    pass->on_op = opts->on_op;
    pass->user = opts->user;
    code = take_buffers(session, err);
    if (code)
        goto fail;
    set_speeds(session);
    *out = session;
    return MB_OK;
fail:
    mb_session_free(session);
    return code;
}

void mb_session_free(struct mb_session *session)
{
    if (!session)
        return;
    mb_team_stop(session->team);
    mb_kv_cache_free(&session->cache);
    mb_pages_give(session->buffers, session->buffer_bytes);
    mb_arena_free(&session->arena);
    free(session);
}

/* ---- evaluation ---- */

static int check_tokens(const struct mb_session *session, const int32_t *tokens, size_t n, const struct mb_eval_opts *opts,
                        struct mb_err *err)
{
    uint32_t n_vocab = session->engine->model->hp.n_vocab;
    if (!pthread_equal(session->owner, pthread_self()))
        return mb_fail(err, MB_EINVAL, "a session is evaluated by the thread that opened it");
    if (!n)
        return mb_fail(err, MB_ERANGE, "no tokens to evaluate");
    if (n > session->n_ctx - session->n_tokens)
        return mb_fail(err, MB_ERANGE, "%zu tokens after %zu are more than the context of %u holds; open a longer one", n,
                       session->n_tokens, session->n_ctx);
    if (opts->all_logits && n > session->n_logits)
        return mb_fail(err, MB_ERANGE, "logits of %zu tokens: the session keeps %u", n, session->n_logits);
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= n_vocab)
            return mb_fail(err, MB_ERANGE, "token %zu is %d; the vocabulary has 0 to %u", i, tokens[i], n_vocab - 1);
    }
    return MB_OK;
}

/* Threads that bring weights need CPUs. Members wait for the slowest of them at every barrier, so one that shares its CPU holds
 * up all: where the team leaves too few CPUs, its last members stay out until the weights are there. */
static unsigned members_of(const struct mb_session *session)
{
    const struct mb_behind *behind = mb_weights_behind(session->engine->weights);
    unsigned n = session->pass.n_team, idle = mb_team_n_idle(session->team), busy = behind ? mb_behind_n_busy(behind) : 0;
    unsigned out = busy > idle ? busy - idle : 0;
    return out < n ? n - out : 1;
}

/* The first pass of an engine is what somebody waits for: it has all CPUs, and those threads rest. */
static void run_pass(struct mb_session *session)
{
    struct mb_engine *engine = session->engine;
    struct mb_pass *pass = &session->pass;
    struct mb_behind *behind = engine->has_run ? NULL : mb_weights_behind(engine->weights);
    pass->members = behind ? pass->n_team : members_of(session);
    if (behind)
        mb_behind_hold(behind, 1);
    mb_team_run(session->team, pass->members, mb_pass_run, pass);
    if (behind)
        mb_behind_hold(behind, 0);
    engine->has_run = 1;
}

static void run_chunk(struct mb_session *session, const int32_t *tokens, size_t n)
{
    struct mb_pass *pass = &session->pass;
    pass->tokens = tokens;
    pass->n = (uint32_t)n;
    pass->position = session->n_tokens;
    pass->stop = 0;
    mb_engine_take_turn(session->engine);
    run_pass(session);
    mb_engine_end_turn(session->engine);
    size_t end = session->n_tokens + n;
    session->n_written = end > session->n_written ? end : session->n_written;
}

int mb_session_eval(struct mb_session *session, const int32_t *tokens, size_t n_tokens, const struct mb_eval_opts *opts,
                    struct mb_err *err)
{
    static const struct mb_eval_opts defaults;
    struct mb_pass *pass = &session->pass;
    opts = opts ? opts : &defaults;
    int code = check_tokens(session, tokens, n_tokens, opts, err);
    if (code)
        return code;
    float *logits = pass->logits;
    mb_kv_cache_expect(&session->cache, session->n_tokens + n_tokens);
    session->n_kept = 0;
    pass->cancel = opts->cancel;
    pass->damaged = 0;
    for (size_t done = 0, n; done < n_tokens; done += n) {
        n = n_tokens - done < session->n_batch ? n_tokens - done : session->n_batch;
        pass->keep = opts->no_logits ? MB_LOGITS_NONE : opts->all_logits ? MB_LOGITS_ALL
                     : done + n == n_tokens                              ? MB_LOGITS_LAST
                                                                         : MB_LOGITS_NONE;
        if (opts->all_logits)
            pass->logits = logits + done * session->engine->model->hp.n_vocab;
        run_chunk(session, tokens + done, n);
        pass->logits = logits;
        if (pass->stop)
            return mb_fail(err, MB_ECANCEL, "evaluation was cancelled after %zu of %zu tokens", done, n_tokens);
        memcpy(session->tokens + session->n_tokens, tokens + done, n * sizeof *tokens);
        session->n_tokens += n;
        if (opts->progress)
            opts->progress(opts->user, "evaluating", (double)(done + n) / (double)n_tokens);
    }
    session->n_kept = opts->no_logits ? 0 : opts->all_logits ? n_tokens : 1;
    if (pass->damaged)
        return mb_fail(err, MB_EFORMAT, "%s: its logits are no numbers; the weights are damaged", session->engine->model->name);
    return MB_OK;
}

const float *mb_session_logits(const struct mb_session *session, size_t i)
{
    return i < session->n_kept ? session->pass.logits + i * session->engine->model->hp.n_vocab : NULL;
}

uint32_t mb_session_n_vocab(const struct mb_session *session)
{
    return session->engine->model->hp.n_vocab;
}

const int32_t *mb_session_tokens(const struct mb_session *session, size_t *out_n)
{
    *out_n = session->n_tokens;
    return session->tokens;
}

uint32_t mb_session_n_ctx(const struct mb_session *session)
{
    return session->n_ctx;
}

size_t mb_session_truncate(struct mb_session *session, size_t n)
{
    session->n_kept = 0;
    if (n >= session->n_tokens)
        return session->n_tokens;
    for (uint32_t i = 0; i < session->cache.n_layers; i++) {
        const struct mb_kv_cache_layer *layer = &session->cache.layers[i];
        if (layer->cells && mb_kv_first_seen(layer, n) + layer->cells < session->n_written)
            n = 0;
    }
    session->n_tokens = n;
    if (!n)
        session->n_written = 0;
    return n;
}

void mb_session_get_info(const struct mb_session *session, struct mb_session_info *out)
{
    const struct mb_behind *behind = mb_weights_behind(session->engine->weights);
    struct mb_behind_state state = {0};
    if (behind)
        mb_behind_get_state(behind, &state);
    *out = (struct mb_session_info){.weights_bytes = mb_weights_taken(session->engine->weights),
                                    .cache_bytes = session->cache.bytes,
                                    .buffer_bytes = session->buffer_bytes,
                                    .n_threads = mb_team_size(session->team),
                                    .is_bound = mb_team_is_bound(session->team),
                                    .simd = session->engine->simd,
                                    .behind_bytes = state.n_bytes,
                                    .behind_done_bytes = state.done_bytes,
                                    .behind_s = state.done_at_s > 0 ? state.done_at_s - session->engine->opened_at_s : 0};
}
