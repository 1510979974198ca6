/* SPDX-License-Identifier: MIT */
/* Suite for src/engine/behind.c and what rests on it: weights come to memory while a model runs, and nobody can tell from the
 * logits. Models are those of tests/data/golden. */
#include "base/base.h"
#include "engine/session.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPPORT_DIR
#include "../engine/golden.h"
#include "support.h"

enum { TOKENS_MAX = 300 };

static const char *root;

struct opened {
    struct mb_model *model;
    struct mb_engine *engine;
};

static void open_file(struct opened *opened, const char *name, enum mb_load_mode load)
{
    struct mb_err err = {0};
    struct mb_engine_opts opts = {.load = load, .n_threads = 1};
    *opened = (struct opened){0};
    if (mb_model_open(in_dir("%s.gguf", name), NULL, &opened->model, &err) ||
        mb_engine_open(opened->model, &opts, &opened->engine, &err))
        fail_msg("%s", err.text);
}

static void make_file(const char *name)
{
    char from[PATH_MAX];
    struct mb_err err = {0};
    snprintf(from, sizeof from, "%s/tests/data/golden/%s.gguf", root, name);
    if (golden_fill(from, in_dir("%s.gguf", name), &err))
        fail_msg("%s", err.text);
}

static void close_file(struct opened *opened)
{
    mb_engine_free(opened->engine);
    mb_model_free(opened->model);
}

static struct mb_session *open_session(const struct opened *opened, unsigned n_threads)
{
    struct mb_session *session;
    struct mb_err err = {0};
    struct mb_session_opts opts = {.n_threads = n_threads, .n_ctx = TOKENS_MAX};
    if (mb_session_open(opened->engine, &opts, &session, &err))
        fail_msg("%s", err.text);
    return session;
}

/* What is called between tokens; it may change where weights are. */
typedef void between_fn(void *user, unsigned token);

/* Logits after `first` tokens at once and after each that follows up to n: [n - first + 1][n_vocab], to be freed. */
static float *logits_of(const struct opened *opened, unsigned n_threads, unsigned first, unsigned n, between_fn *between,
                        void *user)
{
    struct mb_session *session = open_session(opened, n_threads);
    uint32_t n_vocab = mb_session_n_vocab(session);
    float *out = malloc(sizeof(float) * n_vocab * (n - first + 1));
    int32_t tokens[TOKENS_MAX];
    struct mb_err err = {0};
    assert_non_null(out);
    for (unsigned i = 0; i < n; i++)
        tokens[i] = (int32_t)(i * 7919 % n_vocab);
    for (unsigned i = first; i <= n; i++) {
        if (between)
            between(user, i);
        if (mb_session_eval(session, i == first ? tokens : tokens + i - 1, i == first ? first : 1, NULL, &err))
            fail_msg("%s", err.text);
        memcpy(out + (size_t)(i - first) * n_vocab, mb_session_logits(session, 0), sizeof(float) * n_vocab);
    }
    mb_session_free(session);
    return out;
}

static void expect_same(const char *name, const float *a, const float *b, const struct opened *opened, unsigned n)
{
    uint32_t n_vocab = opened->model->hp.n_vocab;
    for (unsigned i = 0; i < n; i++)
        if (memcmp(a + (size_t)i * n_vocab, b + (size_t)i * n_vocab, sizeof(float) * n_vocab) != 0)
            fail_msg("%s: logits %u of %u differ", name, i, n);
}

static struct mb_behind *follow(const struct opened *opened)
{
    const struct mb_program *program = &opened->engine->program;
    uint32_t *order = malloc(sizeof *order * MB_STEP_MATRICES * program->n_steps);
    assert_non_null(order);
    struct mb_behind *behind = mb_weights_follow(opened->engine->weights, order, mb_program_order(program, order));
    free(order);
    assert_non_null(behind);
    return behind;
}

static void take_steps(void *user, unsigned token)
{
    for (unsigned i = 0; i < 2 + token % 3; i++)
        mb_behind_step(user);
}

static void move_weights(const char *name)
{
    enum { FIRST = 5, TOKENS = 20 };
    struct opened opened;
    struct mb_behind_state at;
    make_file(name);
    open_file(&opened, name, MB_LOAD_COPY);
    uint64_t fingerprint = opened.engine->fingerprint;
    float *copied = logits_of(&opened, 2, FIRST, TOKENS, NULL, NULL);
    close_file(&opened);
    open_file(&opened, name, MB_LOAD_MMAP);
    assert_true(opened.engine->fingerprint == fingerprint);
    float *mapped = logits_of(&opened, 2, FIRST, TOKENS, NULL, NULL);
    expect_same(name, copied, mapped, &opened, TOKENS - FIRST + 1);
    struct mb_behind *behind = follow(&opened);
    float *moved = logits_of(&opened, 2, FIRST, TOKENS, take_steps, behind);
    expect_same(name, copied, moved, &opened, TOKENS - FIRST + 1);
    mb_behind_get_state(behind, &at);
    assert_true(at.done_bytes == at.n_bytes && at.n_bytes > 0 && at.done_at_s > 0);
    float *at_last = logits_of(&opened, 2, FIRST, TOKENS, NULL, NULL);
    expect_same(name, copied, at_last, &opened, TOKENS - FIRST + 1);
    free(at_last);
    free(moved);
    free(mapped);
    free(copied);
    close_file(&opened);
    unlink(in_dir("%s.gguf", name));
}

/* Copied at once, mapped, and moved from the one to the other with tokens in between: every type and every family. */
static void places_of_weights_do_not_matter(void **state)
{
    (void)state;
    assert_true(golden_each(root, move_weights) >= 50);
}

/* ---- the threads ---- */

/* Stands in for a level's kernel: threads wait here for leave to go on. */
static mb_pack_fn *real_pack;
static int gate_open, gate_calls, signals_open;

static void gated_pack(uint32_t type, size_t rows, void *to, const void *from, size_t row_bytes, size_t n_rows, size_t begin,
                       size_t end)
{
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    if (!sigismember(&set, SIGINT) || !sigismember(&set, SIGTERM))
        __atomic_store_n(&signals_open, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&gate_calls, 1, __ATOMIC_RELAXED);
    while (!__atomic_load_n(&gate_open, __ATOMIC_RELAXED))
        usleep(1000);
    real_pack(type, rows, to, from, row_bytes, n_rows, begin, end);
}

static void wait_until_done(const struct mb_behind *behind)
{
    while (mb_behind_n_busy(behind))
        usleep(1000);
}

static void open_the_gate(void *user, unsigned token)
{
    (void)user;
    if (token == TOKENS_MAX - 2)
        __atomic_store_n(&gate_open, 1, __ATOMIC_RELAXED);
}

/* Members of a full team stay out while threads bring weights; a long context is split by members, and must not show it. */
static void members_stay_out(void **state)
{
    (void)state;
    enum { FIRST = TOKENS_MAX - 8, N = TOKENS_MAX };
    struct opened opened;
    make_file("llama-q4_k");
    open_file(&opened, "llama-q4_k", MB_LOAD_COPY);
    struct mb_session *session = open_session(&opened, 0);
    unsigned n_threads = session->pass.n_team + 1; /* full, and divides heads unevenly */
    mb_session_free(session);
    float *copied = logits_of(&opened, n_threads, FIRST, N, NULL, NULL);
    close_file(&opened);
    open_file(&opened, "llama-q4_k", MB_LOAD_MMAP);
    int packs = opened.engine->kernels.pack_rows != 0;
    real_pack = opened.engine->kernels.pack;
    if (packs)
        opened.engine->kernels.pack = gated_pack;
    gate_open = 0;
    struct mb_behind *behind = follow(&opened);
    assert_int_equal(mb_behind_start(behind, 2), MB_OK);
    session = open_session(&opened, n_threads);
    static const int32_t token = 1;
    struct mb_err err;
    assert_int_equal(mb_session_eval(session, &token, 1, NULL, &err), MB_OK);
    assert_int_equal(session->pass.members, n_threads); /* the first pass has all */
    assert_int_equal(mb_session_eval(session, &token, 1, NULL, &err), MB_OK);
    if (packs)
        assert_int_equal(session->pass.members, n_threads > 2 ? n_threads - 2 : 1);
    mb_session_free(session);
    float *moved = logits_of(&opened, n_threads, FIRST, N, open_the_gate, NULL);
    expect_same("while it comes", copied, moved, &opened, N - FIRST + 1);
    free(moved);
    wait_until_done(behind);
    session = open_session(&opened, n_threads);
    assert_int_equal(mb_session_eval(session, &token, 1, NULL, &err), MB_OK);
    assert_int_equal(session->pass.members, n_threads);
    mb_session_free(session);
    assert_false(signals_open);
    free(copied);
    close_file(&opened);
}

struct worker {
    const struct opened *opened;
    unsigned first;
    float *logits;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    worker->logits = logits_of(worker->opened, 2, worker->first, 60, NULL, NULL);
    return NULL;
}

/* Two sessions at once, from the moment of opening on. */
static void sessions_run_while_weights_come(void **state)
{
    (void)state;
    struct opened opened;
    struct mb_session_info info;
    make_file("mixtral-mixed");
    open_file(&opened, "mixtral-mixed", MB_LOAD_COPY);
    float *copied = logits_of(&opened, 2, 30, 60, NULL, NULL);
    struct mb_session *session = open_session(&opened, 1);
    mb_session_get_info(session, &info);
    assert_true(info.behind_bytes == 0 && info.behind_done_bytes == 0 && info.behind_s == 0);
    mb_session_free(session);
    close_file(&opened);
    for (unsigned i = 0; i < 4; i++) {
        open_file(&opened, "mixtral-mixed", MB_LOAD_BEHIND);
        struct mb_behind_state at;
        usleep(5000); /* all would have come by now, but nothing may before the first pass */
        mb_behind_get_state(mb_weights_behind(opened.engine->weights), &at);
        assert_true(at.n_bytes > 0 && at.done_bytes == 0);
        struct worker workers[2] = {{&opened, 30, NULL}, {&opened, 30, NULL}};
        pthread_t threads[2];
        for (unsigned k = 0; k < 2; k++)
            assert_int_equal(pthread_create(&threads[k], NULL, work, &workers[k]), 0);
        for (unsigned k = 0; k < 2; k++) {
            pthread_join(threads[k], NULL);
            expect_same("a session", copied, workers[k].logits, &opened, 31);
            free(workers[k].logits);
        }
        wait_until_done(mb_weights_behind(opened.engine->weights));
        session = open_session(&opened, 1);
        mb_session_get_info(session, &info);
        assert_true(info.behind_bytes > 0 && info.behind_done_bytes == info.behind_bytes && info.behind_s > 0);
        assert_true(info.weights_bytes >= info.behind_bytes);
        mb_session_free(session);
        close_file(&opened);
    }
    free(copied);
}

static void *open_later(void *arg)
{
    usleep(20000);
    __atomic_store_n(&gate_open, 1, __ATOMIC_RELAXED);
    return arg;
}

/* A thread stops between groups of rows, whatever is left of the tensor. */
static void an_engine_is_freed_at_once(void **state)
{
    (void)state;
    enum { ROWS = 64 * 20000, ROW_BYTES = 18 };
    struct opened opened;
    make_file("qwen3-mixed");
    for (unsigned i = 0; i < 20; i++) {
        open_file(&opened, "qwen3-mixed", MB_LOAD_BEHIND);
        close_file(&opened);
    }
    struct mb_kernels kernels;
    mb_kernels_init(&kernels, mb_cpu_flags());
    if (!kernels.pack_rows)
        return;
    real_pack = kernels.pack;
    kernels.pack = gated_pack;
    uint8_t *from = mmap(NULL, (size_t)ROWS * ROW_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(from != MAP_FAILED);
    static const struct mb_weights_place nowhere;
    const struct mb_weights_place *now = &nowhere;
    struct mb_behind_tensor tensor = {.from = from, .n_rows = ROWS, .n_matrices = 1, .row_bytes = ROW_BYTES,
                                      .type = MB_TYPE_Q4_0, .to.packed = 1, .now = &now};
    struct mb_behind *behind;
    gate_calls = gate_open = 0;
    assert_int_equal(mb_behind_open(&tensor, 1, &kernels, &behind), MB_OK);
    assert_int_equal(mb_behind_start(behind, 1), MB_OK);
    while (!__atomic_load_n(&gate_calls, __ATOMIC_RELAXED))
        usleep(1000);
    assert_true(mb_behind_n_busy(behind));
    /* Somebody opens the gate while mb_behind_close() waits. */
    pthread_t opener;
    assert_int_equal(pthread_create(&opener, NULL, open_later, NULL), 0);
    mb_behind_close(behind);
    pthread_join(opener, NULL);
    assert_true(gate_calls < 20000);
    assert_ptr_equal(now, &nowhere);
    munmap(from, (size_t)ROWS * ROW_BYTES);
}

/* ---- what can go wrong ---- */

static void memory_must_be_there(void **state)
{
    (void)state;
    struct opened opened;
    struct mb_err err = {0};
    struct mb_kernels kernels;
    struct mb_behind *behind = NULL;
    const struct mb_weights_place *now = NULL;
    struct mb_behind_tensor tensor = {.n_rows = 1, .n_matrices = 1, .row_bytes = UINT64_MAX / 2 + 1, .now = &now};
    mb_kernels_init(&kernels, mb_cpu_flags());
    assert_int_equal(mb_behind_open(&tensor, 1, &kernels, &behind), MB_ENOMEM);
    assert_null(behind);
    make_file("qwen3");
    open_file(&opened, "qwen3", MB_LOAD_BEHIND);
    struct mb_engine *engine = NULL;
    struct mb_engine_opts opts = {.load = MB_LOAD_BEHIND, .memory_bytes = 4096};
    assert_int_equal(mb_engine_open(opened.model, &opts, &engine, &err), MB_ENOMEM);
    opts.load = MB_LOAD_BEHIND + 1;
    assert_int_equal(mb_engine_open(opened.model, &opts, &engine, &err), MB_EINVAL);
    assert_null(engine);
    close_file(&opened);
}

int main(int n_args, char **args)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_of_weights_do_not_matter),
        cmocka_unit_test(members_stay_out),
        cmocka_unit_test(sessions_run_while_weights_come),
        cmocka_unit_test(an_engine_is_freed_at_once),
        cmocka_unit_test(memory_must_be_there),
    };
    root = n_args > 1 ? args[1] : ".";
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
