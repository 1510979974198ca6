/* SPDX-License-Identifier: MIT */
/* Suite for src/engine: logits as llama.cpp computes them (tests/data/golden, made by tests/engine/make_golden.py), sessions, their
 * files, and everything that can go wrong. */
#include "base/base.h"
#include "engine/session.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPPORT_DIR
#define SUPPORT_FILES
#define SUPPORT_MODELS
#include "../engine/golden.h"
#include "support.h"

/* The linker sends allocations of the library through these (tests/meson.build): none may happen in the token loop. */
static int in_the_loop;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);

static void count_allocation(void)
{
    if (__atomic_load_n(&in_the_loop, __ATOMIC_RELAXED))
        abort();
}

void *__wrap_malloc(size_t n)
{
    count_allocation();
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    count_allocation();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t n)
{
    count_allocation();
    return __real_realloc(old, n);
}

static const char *root;

/* What llama.cpp said: "MBGOLDEN", then u32 n_ctx, n_tokens, first, n_vocab, then i32 tokens[n_tokens] and
 * f32 logits[n_tokens - first][n_vocab] after each token from `first` on. */
struct golden {
    uint32_t n_ctx, n_tokens, first, n_vocab;
    int32_t *tokens;
    float *logits;
};

static int golden_read(struct mb_arena *arena, const char *path, struct golden *out)
{
    size_t n;
    char *bytes = mb_file_read(arena, NULL, path, 1 << 24, &n);
    if (!bytes || n < 24 || memcmp(bytes, "MBGOLDEN", 8) != 0)
        return MB_EFORMAT;
    memcpy(out, bytes + 8, 16);
    if (n != 24 + 4 * ((size_t)out->n_tokens + (size_t)(out->n_tokens - out->first) * out->n_vocab))
        return MB_EFORMAT;
    out->tokens = (int32_t *)(void *)(bytes + 24);
    out->logits = (float *)(void *)(bytes + 24 + 4 * (size_t)out->n_tokens);
    return MB_OK;
}

/* Mean square of the difference over that of `right`. */
static double golden_nmse(const float *ours, const float *right, size_t n)
{
    double difference = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)ours[i] - right[i]) * ((double)ours[i] - right[i]);
        power += (double)right[i] * right[i];
    }
    return difference / power;
}

struct opened {
    struct mb_arena arena;
    struct golden golden;
    struct mb_model *model;
    struct mb_engine *engine;
    char path[PATH_MAX];
};

static void open_golden(struct opened *opened, const char *name, enum mb_load_mode load)
{
    char from[PATH_MAX];
    struct mb_err err = {0};
    struct mb_engine_opts opts = {.load = load, .n_threads = 1};
    memset(opened, 0, sizeof *opened);
    snprintf(from, sizeof from, "%s/tests/data/golden/%s.bin", root, name);
    assert_int_equal(golden_read(&opened->arena, from, &opened->golden), MB_OK);
    snprintf(from, sizeof from, "%s/tests/data/golden/%s.gguf", root, name);
    snprintf(opened->path, sizeof opened->path, "%s/%s.gguf", dir, name);
    if (golden_fill(from, opened->path, &err) || mb_model_open(opened->path, NULL, &opened->model, &err) ||
        mb_engine_open(opened->model, &opts, &opened->engine, &err))
        fail_msg("%s", err.text);
}

static void close_golden(struct opened *opened)
{
    mb_engine_free(opened->engine);
    mb_model_free(opened->model);
    unlink(opened->path);
    mb_arena_free(&opened->arena);
}

static struct mb_session *open_session(const struct opened *opened, unsigned n_threads, uint32_t n_batch, const char *type)
{
    struct mb_session *session;
    struct mb_err err = {0};
    struct mb_session_opts opts = {.n_threads = n_threads,
                                   .n_ctx = opened->golden.n_ctx,
                                   .n_batch = n_batch,
                                   .n_logits = opened->golden.n_tokens,
                                   .type_k = type,
                                   .type_v = type};
    if (mb_session_open(opened->engine, &opts, &session, &err))
        fail_msg("%s", err.text);
    return session;
}

static void eval(struct mb_session *session, const int32_t *tokens, size_t n, int all)
{
    struct mb_eval_opts opts = {.all_logits = all};
    struct mb_err err = {0};
    in_the_loop = 1;
    int code = mb_session_eval(session, tokens, n, &opts, &err);
    in_the_loop = 0;
    if (code)
        fail_msg("%s", err.text);
}

enum way { AT_ONCE, ONE_BY_ONE, LAST_ONE_BY_ONE };

/* All tokens, in chunks of n_batch; [n_tokens - first][n_vocab] logits, to be freed. */
static float *all_logits(const struct opened *opened, unsigned n_threads, uint32_t n_batch, const char *type, enum way way)
{
    const struct golden *golden = &opened->golden;
    struct mb_session *session = open_session(opened, n_threads, n_batch, type);
    float *out = malloc(sizeof(float) * (golden->n_tokens - golden->first) * golden->n_vocab);
    if (way == AT_ONCE)
        eval(session, golden->tokens, golden->n_tokens, 1);
    else if (way == LAST_ONE_BY_ONE)
        eval(session, golden->tokens, golden->first, 0);
    for (uint32_t i = way == LAST_ONE_BY_ONE ? golden->first : 0; i < golden->n_tokens; i++) {
        if (way != AT_ONCE)
            eval(session, golden->tokens + i, 1, 0);
        if (i >= golden->first)
            memcpy(out + (size_t)(i - golden->first) * golden->n_vocab, mb_session_logits(session, way == AT_ONCE ? i : 0),
                   sizeof(float) * golden->n_vocab);
    }
    mb_session_free(session);
    return out;
}

static void check_golden(const char *name)
{
    struct opened opened;
    open_golden(&opened, name, MB_LOAD_MMAP);
    const struct golden *golden = &opened.golden;
    size_t n = (size_t)(golden->n_tokens - golden->first) * golden->n_vocab;
    int plain = 1;
    for (uint32_t i = 0; i < opened.model->n_tensors; i++)
        plain &= opened.model->tensors[i].type == MB_TYPE_F32;
    const char *type = plain ? "F32" : "F16";
    float *at_once = all_logits(&opened, 1, 512, type, AT_ONCE);
    double error = golden_nmse(at_once, golden->logits, n);
    if (!(error <= (plain ? 1e-6 : 1e-3)))
        fail_msg("%s: NMSE %g", name, error);
    float *one_by_one = all_logits(&opened, 1, 16, type, ONE_BY_ONE);
    error = golden_nmse(one_by_one, at_once, n);
    if (!(error <= (plain ? 1e-9 : 1e-4)))
        fail_msg("%s: one by one and at once differ by %g", name, error);
    free(one_by_one);
    free(at_once);
    close_golden(&opened);
}

static void logits_are_those_of_llama_cpp(void **state)
{
    (void)state;
    assert_true(golden_each(root, check_golden) >= 50);
}

/* Members split rows, heads and contexts differently; chunks end anywhere; caches and places of weights differ. */
static void threads_chunks_and_copies_do_not_matter(void **state)
{
    (void)state;
    static const struct {
        const char *name, *type;
        unsigned n_threads;
        uint32_t n_batch;
        enum way way;
        double limit;
    } ways[] = {
        {"gemma3", "F32", 2, 512, AT_ONCE, 1e-9},  {"gemma3", "F32", 3, 7, AT_ONCE, 1e-9},
        {"gemma3", "F32", 3, 99, LAST_ONE_BY_ONE, 1e-9}, {"gpt-oss", "F32", 2, 100, AT_ONCE, 1e-9},
        {"gpt-oss", "F32", 3, 99, LAST_ONE_BY_ONE, 1e-9}, {"glm4moe", "F32", 3, 33, AT_ONCE, 1e-9},
        {"glm4moe", "F32", 2, 9, LAST_ONE_BY_ONE, 1e-9}, {"olmo3", "F32", 2, 5, AT_ONCE, 1e-9},
        {"olmo3", "F32", 2, 99, LAST_ONE_BY_ONE, 1e-9}, {"qwen3", "F16", 2, 512, AT_ONCE, 1e-5},
        {"qwen3", "Q8_0", 2, 512, AT_ONCE, 1e-2},  {"llama-q4_k", "F16", 3, 17, AT_ONCE, 1e-3},
    };
    for (unsigned i = 0; i < MB_COUNT(ways); i++) {
        struct opened opened;
        open_golden(&opened, ways[i].name, i % 2 ? MB_LOAD_COPY : MB_LOAD_MMAP);
        size_t n = (size_t)(opened.golden.n_tokens - opened.golden.first) * opened.golden.n_vocab;
        float *logits = all_logits(&opened, ways[i].n_threads, ways[i].n_batch, ways[i].type, ways[i].way);
        double error = golden_nmse(logits, opened.golden.logits, n);
        if (!(error <= ways[i].limit + 1e-8 * (strcmp(ways[i].name, "gemma3") == 0)))
            fail_msg("%s, way %u: NMSE %g", ways[i].name, i, error);
        free(logits);
        close_golden(&opened);
    }
}

/* ---- sequences ---- */

static void expect_logits(const struct opened *opened, const struct mb_session *session, uint32_t token)
{
    const struct golden *golden = &opened->golden;
    double error = golden_nmse(mb_session_logits(session, 0), golden->logits + (size_t)(token - golden->first) * golden->n_vocab,
                               golden->n_vocab);
    if (!(error <= 1e-6))
        fail_msg("after token %u: NMSE %g", token, error);
}

static void a_sequence_goes_on_from_a_prefix(void **state)
{
    (void)state;
    struct opened opened;
    open_golden(&opened, "qwen3", MB_LOAD_MMAP);
    const int32_t *tokens = opened.golden.tokens, wrong[] = {1, 2, 3, 4};
    struct mb_session *session = open_session(&opened, 1, 16, "F32");
    size_t n;
    eval(session, tokens, 40, 0);
    expect_logits(&opened, session, 39);
    eval(session, wrong, 4, 0);
    assert_int_equal(mb_session_truncate(session, 100), 44);
    assert_int_equal(mb_session_truncate(session, 30), 30);
    assert_null(mb_session_logits(session, 0));
    assert_memory_equal(mb_session_tokens(session, &n), tokens, 30 * sizeof *tokens);
    assert_int_equal(n, 30);
    eval(session, tokens + 30, 30, 0);
    expect_logits(&opened, session, 59);
    assert_null(mb_session_logits(session, 1));
    mb_session_free(session);
    close_golden(&opened);
}

/* A ring of 16 and 16 in 256 cells: what is 240 tokens back is gone. */
static void windows_forget(void **state)
{
    (void)state;
    struct opened opened;
    open_golden(&opened, "gemma3", MB_LOAD_MMAP);
    const int32_t *tokens = opened.golden.tokens;
    struct mb_session *session = open_session(&opened, 1, 16, "F32");
    eval(session, tokens, 320, 0);
    assert_int_equal(mb_session_truncate(session, 300), 300);
    eval(session, tokens + 300, 10, 0);
    expect_logits(&opened, session, 309);
    assert_int_equal(mb_session_truncate(session, 79), 79); /* the token there sees 64 to 79, and 64 + 256 is not yet written */
    assert_int_equal(mb_session_truncate(session, 78), 0);
    eval(session, tokens, 280, 0);
    expect_logits(&opened, session, 279);
    mb_session_free(session);
    close_golden(&opened);
}

static void prefixes_are_kept_in_files(void **state)
{
    (void)state;
    struct opened opened, other;
    open_golden(&opened, "gemma3", MB_LOAD_MMAP);
    const int32_t *tokens = opened.golden.tokens;
    struct mb_err err = {0};
    struct mb_session *session = open_session(&opened, 1, 16, "F32");
    eval(session, tokens, 290, 0);
    assert_int_equal(mb_session_save(session, in_dir("prefix"), &err), MB_OK);
    assert_int_equal(mb_session_save(session, in_dir("no/prefix"), &err), MB_EWRITE);
    mb_session_free(session);
    session = open_session(&opened, 1, 100, "F32");
    assert_int_equal(mb_session_restore(session, in_dir("nothing"), &err), MB_ENOENT);
    assert_int_equal(mb_session_restore(session, in_dir("prefix"), &err), MB_OK);
    eval(session, tokens + 290, 10, 0);
    expect_logits(&opened, session, 299);
    /* every kind of damage */
    struct mb_arena arena = {0};
    size_t n;
    char *bytes = mb_file_read(&arena, NULL, in_dir("prefix"), 1 << 26, &n);
    assert_non_null(bytes);
    static const size_t places[] = {0, 8, 12, 16, 24, 32, 39, 48, 5000};
    for (unsigned i = 0; i < MB_COUNT(places) + 1; i++) {
        size_t at = i < MB_COUNT(places) ? places[i] : n - 1;
        bytes[at] ^= 0x40;
        write_bytes("damaged", bytes, n);
        bytes[at] ^= 0x40;
        int code = mb_session_restore(session, in_dir("damaged"), &err);
        assert_true(code == MB_EFORMAT || code == MB_ERANGE);
        mb_session_tokens(session, &n);
        assert_int_equal(n, 0);
        mb_arena_free(&arena);
        bytes = mb_file_read(&arena, NULL, in_dir("prefix"), 1 << 26, &n);
    }
    for (size_t keep = 0; keep < n; keep += n / 7 + 1) {
        write_bytes("damaged", bytes, keep);
        assert_int_equal(mb_session_restore(session, in_dir("damaged"), &err), MB_EFORMAT);
    }
    mb_arena_free(&arena);
    mb_session_free(session);
    session = open_session(&opened, 1, 16, "F16");
    assert_int_equal(mb_session_restore(session, in_dir("prefix"), &err), MB_EFORMAT);
    mb_session_free(session);
    open_golden(&other, "olmo3", MB_LOAD_MMAP);
    session = open_session(&other, 1, 16, "F32");
    assert_int_equal(mb_session_restore(session, in_dir("prefix"), &err), MB_EFORMAT);
    mb_session_free(session);
    close_golden(&other);
    close_golden(&opened);
}

struct worker {
    const struct opened *opened;
    uint32_t n_batch;
    double error;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    const struct golden *golden = &worker->opened->golden;
    struct mb_session_opts opts = {.n_threads = 2, .n_ctx = golden->n_ctx, .n_batch = worker->n_batch, .type_k = "F32",
                                   .type_v = "F32"};
    struct mb_session *session;
    worker->error = 1;
    if (mb_session_open(worker->opened->engine, &opts, &session, NULL) != MB_OK)
        return NULL;
    uint32_t half = golden->n_tokens / 2;
    int code = mb_session_eval(session, golden->tokens, half, NULL, NULL);
    for (uint32_t i = half; i < golden->n_tokens && !code; i++)
        code = mb_session_eval(session, golden->tokens + i, 1, NULL, NULL);
    if (!code)
        worker->error = golden_nmse(mb_session_logits(session, 0),
                                    golden->logits + (size_t)(golden->n_tokens - 1 - golden->first) * golden->n_vocab,
                                    golden->n_vocab);
    mb_session_free(session);
    return NULL;
}

static void two_sessions_share_an_engine(void **state)
{
    (void)state;
    struct opened opened;
    open_golden(&opened, "mixtral", MB_LOAD_MMAP);
    struct worker workers[2] = {{&opened, 16, 1}, {&opened, 5, 1}};
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].error <= 1e-6);
    }
    close_golden(&opened);
}

/* ---- stopping, timing ---- */

static void *try_to_eval(void *session)
{
    static const int32_t token = 1;
    struct mb_err err;
    return mb_session_eval(session, &token, 1, NULL, &err) == MB_EINVAL ? session : NULL;
}

static volatile int cancel;

static void cancel_after_a_chunk(void *user, const char *what, double share)
{
    (void)user;
    (void)what;
    if (share > 0.4)
        cancel = 1;
}

static void evaluation_is_cancelled(void **state)
{
    (void)state;
    struct opened opened;
    open_golden(&opened, "llama", MB_LOAD_MMAP);
    struct mb_err err = {0};
    struct mb_eval_opts opts = {.progress = cancel_after_a_chunk, .cancel = &cancel};
    struct mb_session *session = open_session(&opened, 2, 10, "F32");
    size_t n;
    cancel = 0;
    assert_int_equal(mb_session_eval(session, opened.golden.tokens, 80, &opts, &err), MB_ECANCEL);
    mb_session_tokens(session, &n);
    assert_int_equal(n, 40);
    assert_null(mb_session_logits(session, 0));
    eval(session, opened.golden.tokens + 40, 40, 0);
    expect_logits(&opened, session, 79);
    pthread_t thread;
    void *refused;
    assert_int_equal(pthread_create(&thread, NULL, try_to_eval, session), 0);
    pthread_join(thread, &refused);
    assert_ptr_equal(refused, session);
    mb_session_free(session);
    close_golden(&opened);
}

struct sums {
    uint64_t bytes;
    unsigned n;
    double seconds;
};

static void add_op(void *user, const struct mb_op_time *time)
{
    struct sums *sums = user;
    sums->bytes += time->bytes;
    sums->seconds += time->seconds;
    sums->n++;
}

/* The bytes that ops say they read are the bytes that the planner charges. */
static void ops_are_timed(void **state)
{
    (void)state;
    static const char *const names[] = {"llama-q4_k", "gemma3", "gpt-oss", "glm4moe", "phi3", "qwen2"};
    for (unsigned i = 0; i < MB_COUNT(names); i++) {
        struct opened opened;
        struct mb_session *session;
        struct sums sums = {0};
        struct mb_traffic traffic;
        open_golden(&opened, names[i], MB_LOAD_MMAP);
        struct mb_session_opts opts = {.n_threads = 2, .on_op = add_op, .user = &sums};
        assert_int_equal(mb_session_open(opened.engine, &opts, &session, NULL), MB_OK);
        eval(session, opened.golden.tokens, 20, 0);
        assert_true(sums.n > 10 && sums.seconds >= 0);
        sums.bytes = 0;
        eval(session, opened.golden.tokens, 1, 0);
        assert_int_equal(mb_model_traffic(opened.model, 1, 20, NULL, &traffic, NULL), MB_OK);
        assert_int_equal(sums.bytes, traffic.weights_bytes + traffic.kv_read_bytes);
        mb_session_free(session);
        close_golden(&opened);
    }
}

/* ---- what is refused ---- */

static void bad_input_is_refused(void **state)
{
    (void)state;
    struct opened opened;
    open_golden(&opened, "llama", MB_LOAD_MMAP);
    struct mb_err err = {0};
    struct mb_session *session = open_session(&opened, 1, 0, NULL), *none = NULL;
    struct mb_eval_opts all = {.all_logits = 1};
    const int32_t low = -1, high = 96, tokens[300] = {0};
    assert_int_equal(mb_session_eval(session, &low, 1, NULL, &err), MB_ERANGE);
    assert_int_equal(mb_session_eval(session, &high, 1, NULL, &err), MB_ERANGE);
    assert_int_equal(mb_session_eval(session, tokens, 0, NULL, &err), MB_ERANGE);
    assert_int_equal(mb_session_eval(session, tokens, 257, NULL, &err), MB_ERANGE);
    assert_int_equal(mb_session_eval(session, tokens, 81, &all, &err), MB_ERANGE);
    eval(session, tokens, 256, 0);
    assert_int_equal(mb_session_eval(session, tokens, 1, NULL, &err), MB_ERANGE);
    mb_session_free(session);
    struct mb_session_opts opts = {.n_batch = 513};
    assert_int_equal(mb_session_open(opened.engine, &opts, &none, &err), MB_ERANGE);
    opts = (struct mb_session_opts){.n_logits = 513};
    assert_int_equal(mb_session_open(opened.engine, &opts, &none, &err), MB_ERANGE);
    opts = (struct mb_session_opts){.n_ctx = UINT32_MAX};
    assert_int_equal(mb_session_open(opened.engine, &opts, &none, &err), MB_ERANGE);
    opts = (struct mb_session_opts){.type_k = "Q4_0", .type_v = "Q4_0"};
    assert_int_equal(mb_session_open(opened.engine, &opts, &none, &err), MB_EINVAL);
    opts = (struct mb_session_opts){.type_k = "Q8_0", .type_v = "Q8_0"}; /* heads of 16 */
    assert_int_equal(mb_session_open(opened.engine, &opts, &none, &err), MB_ENOTSUP);
    assert_null(none);
    close_golden(&opened);
}

static void what_is_not_run_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *said;
    } models[] = {{"Qwen3.5-4B", "qwen35"}, {"DeepSeek-V3.1", "deepseek2"}, {"Gemma-4-E2B", "gemma4"}};
    for (unsigned i = 0; i < MB_COUNT(models); i++) {
        struct mb_model *model = open_spec(models[i].spec);
        struct mb_engine *engine = NULL;
        struct mb_err err = {0};
        struct mb_engine_opts opts = {.load = MB_LOAD_SYNTHETIC};
        assert_int_equal(mb_engine_open(model, &opts, &engine, &err), MB_ENOTSUP);
        assert_non_null(strstr(err.text, models[i].said));
        assert_non_null(strstr(err.text, "inspect"));
        mb_model_free(model);
    }
}

static void weights_must_fit(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("Qwen3-8B@Q8_0");
    struct mb_engine *engine = NULL;
    struct mb_err err = {0};
    struct mb_engine_opts opts = {.load = MB_LOAD_SYNTHETIC, .memory_bytes = (uint64_t)4 << 30};
    assert_int_equal(mb_engine_open(model, &opts, &engine, &err), MB_ENOMEM);
    assert_non_null(strstr(err.text, "4.0 GiB are free; a quantization of at most 4."));
    opts.memory_bytes = 1 << 20;
    assert_int_equal(mb_engine_open(model, &opts, &engine, &err), MB_ENOMEM);
    assert_int_equal(mb_engine_open(model, NULL, &engine, &err), MB_EINVAL); /* the catalog has no weights */
    mb_model_free(model);
}

/* A weight that is no number, a file that is cut, a key that is missing. */
static void damaged_files_are_refused(void **state)
{
    (void)state;
    struct opened opened;
    struct mb_err err = {0};
    struct mb_arena arena = {0};
    open_golden(&opened, "qwen3", MB_LOAD_MMAP);
    size_t n;
    char *bytes = mb_file_read(&arena, NULL, opened.path, 1 << 24, &n);
    uint32_t output = 0;
    while (strcmp(opened.model->tensors[output].name, "blk.1.ffn_down.weight") != 0)
        output++;
    struct mb_model *model;
    struct mb_engine *engine = NULL;
    struct mb_session *session;
    static const uint32_t nan = 0x7fc00000;
    memcpy(bytes + opened.model->tensors[output].offset + 400, &nan, 4);
    write_bytes("nan.gguf", bytes, n);
    assert_int_equal(mb_model_open(in_dir("nan.gguf"), NULL, &model, &err), MB_OK);
    assert_int_equal(mb_engine_open(model, NULL, &engine, &err), MB_OK);
    assert_int_equal(mb_session_open(engine, NULL, &session, &err), MB_OK);
    assert_int_equal(mb_session_eval(session, opened.golden.tokens, 3, NULL, &err), MB_EFORMAT);
    mb_session_free(session);
    mb_engine_free(engine);
    assert_int_equal(truncate(in_dir("nan.gguf"), (off_t)n - 5000), 0);
    assert_true(mb_engine_open(model, NULL, &engine, &err) < 0);
    mb_model_free(model);
    /* same length, another name: the layer lacks its output */
    char *name = memmem(bytes, n, "blk.1.attn_output", 17);
    memcpy(name, "blk.1.attn_outpux", 17);
    write_bytes("lacks.gguf", bytes, n);
    assert_int_equal(mb_model_open(in_dir("lacks.gguf"), NULL, &model, &err), MB_OK);
    assert_int_equal(mb_engine_open(model, NULL, &engine, &err), MB_ENOTSUP);
    assert_non_null(strstr(err.text, "attn_outpux") ? err.text : strstr(err.text, "layer_other"));
    mb_model_free(model);
    mb_arena_free(&arena);
    close_golden(&opened);
}

/* Whatever a header says: it is refused, or it runs. */
static void strange_headers_do_no_harm(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "gpt-oss", "glm4moe", "gemma3", "phi3"};
    uint64_t random = 1;
    for (unsigned i = 0; i < 60 * MB_COUNT(names); i++) {
        struct mb_arena arena = {0};
        struct mb_model *model = NULL;
        struct mb_engine *engine = NULL;
        struct mb_session *session = NULL;
        struct mb_err err;
        char path[PATH_MAX];
        size_t n;
        static const int32_t tokens[] = {0, 1, 2};
        snprintf(path, sizeof path, "%s/tests/data/golden/%s.gguf", root, names[i % MB_COUNT(names)]);
        if (i < MB_COUNT(names))
            assert_int_equal(golden_fill(path, in_dir("%u.gguf", i), &err), MB_OK);
        char *bytes = mb_file_read(&arena, NULL, in_dir("%zu.gguf", i % MB_COUNT(names)), 1 << 24, &n);
        assert_non_null(bytes);
        for (unsigned flips = 0; flips < 1 + i % 3; flips++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            bytes[(random >> 33) % 4096] ^= (char)(1 << (random >> 60 & 7));
        }
        write_bytes("strange.gguf", bytes, n);
        struct mb_engine_opts opts = {.n_threads = 1, .memory_bytes = 1 << 26};
        struct mb_session_opts session_opts = {.n_threads = 1, .n_ctx = 32, .n_batch = 2};
        if (mb_model_open(in_dir("strange.gguf"), NULL, &model, &err) == MB_OK &&
            mb_engine_open(model, &opts, &engine, &err) == MB_OK &&
            mb_session_open(engine, &session_opts, &session, &err) == MB_OK)
            mb_session_eval(session, tokens, 3, NULL, &err);
        mb_session_free(session);
        mb_engine_free(engine);
        mb_model_free(model);
        mb_arena_free(&arena);
    }
}

static void synthetic_weights_run(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("SmolLM2-135M@Q4_K_M");
    struct mb_err err = {0};
    struct mb_engine_opts opts = {.load = MB_LOAD_SYNTHETIC, .seed = 7, .n_threads = 2};
    struct mb_engine *engine = NULL;
    struct mb_session *session = NULL;
    static const int32_t tokens[] = {1, 20000, 3};
    if (mb_engine_open(model, &opts, &engine, &err) || mb_session_open(engine, NULL, &session, &err))
        fail_msg("%s", err.text);
    eval(session, tokens, 3, 0);
    const float *logits = mb_session_logits(session, 0);
    double sum = 0, square = 0;
    uint32_t n = mb_session_n_vocab(session);
    for (uint32_t i = 0; i < n; i++) {
        sum += logits[i];
        square += (double)logits[i] * logits[i];
    }
    double deviation = sqrt(square / n - sum / n * (sum / n));
    assert_true(deviation > 0.1 && deviation < 100);
    struct mb_session_info info;
    mb_session_get_info(session, &info);
    assert_true(info.weights_bytes >= model->resident_bytes);
    mb_session_free(session);
    mb_engine_free(engine);
    mb_model_free(model);
}

int main(int n_args, char **args)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_llama_cpp),
        cmocka_unit_test(threads_chunks_and_copies_do_not_matter),
        cmocka_unit_test(a_sequence_goes_on_from_a_prefix),
        cmocka_unit_test(windows_forget),
        cmocka_unit_test(prefixes_are_kept_in_files),
        cmocka_unit_test(two_sessions_share_an_engine),
        cmocka_unit_test(evaluation_is_cancelled),
        cmocka_unit_test(ops_are_timed),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(what_is_not_run_is_named),
        cmocka_unit_test(weights_must_fit),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(strange_headers_do_no_harm),
        cmocka_unit_test(synthetic_weights_run),
    };
    root = n_args > 1 ? args[1] : ".";
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
