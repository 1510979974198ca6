/* SPDX-License-Identifier: MIT */
/* Opening a model to run it: metadata, weights, program. */
#include "engine/session.h"
#include "model/hf.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void mb_engine_take_turn(struct mb_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    uint64_t ticket = engine->next_ticket++;
    while (engine->serving != ticket)
        pthread_cond_wait(&engine->turned, &engine->lock);
    pthread_mutex_unlock(&engine->lock);
}

void mb_engine_end_turn(struct mb_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->serving++;
    pthread_cond_broadcast(&engine->turned);
    pthread_mutex_unlock(&engine->lock);
}

static uint64_t mix(uint64_t sum, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ at[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return sum;
}

/* Of names, types, shapes and the first bytes of every tensor, and of the constants that the pass uses. */
static uint64_t fingerprint_of(const struct mb_engine *engine)
{
    const struct mb_model *model = engine->model;
    uint64_t sum = mix(UINT64_C(0xcbf29ce484222325), model->arch_name, strlen(model->arch_name));
    sum = mix(sum, &engine->program.hp, sizeof engine->program.hp);
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        const void *data = mb_weights_first(engine->weights, i);
        sum = mix(sum, tensor->name, strlen(tensor->name));
        sum = mix(sum, &tensor->type, sizeof tensor->type);
        sum = mix(sum, tensor->ne, sizeof tensor->ne);
        if (data)
            sum = mix(sum, data, tensor->bytes < 64 ? (size_t)tensor->bytes : 64);
    }
    return sum;
}

static int open_file(const struct mb_model *model, struct mb_gguf **out, struct mb_err *err)
{
    struct stat info;
    if (!model->path)
        return mb_fail(err, MB_EINVAL, "%s is a name of the catalog, without a file: it can run with synthetic weights only",
                       model->name);
    if (mb_hf_is_name(model->path))
        return mb_fail(err, MB_EINVAL, "%s lies on a model hub; download it to run it", model->path);
    if (stat(model->path, &info) == 0 && S_ISDIR(info.st_mode))
        return mb_fail(err, MB_ENOTSUP, "%s: only GGUF files are run; convert the directory to one", model->path);
    return mb_gguf_open(model->path, out, err);
}

/* By half of the threads: bringing a tensor costs about as much as reading it in file order a few times, so it pays to be done
 * soon. They begin after the first pass, or when a writer is ready: until then they would hold up what somebody waits for.
 * Without memory or a thread for it the file stays mapped, which is slower and no failure. */
static void bring_behind(struct mb_engine *engine, unsigned n_threads)
{
    struct mb_program *program = &engine->program;
    uint32_t *order = mb_arena_array(&engine->arena, (size_t)program->n_steps * MB_STEP_MATRICES, sizeof *order);
    struct mb_behind *behind =
        order ? mb_weights_follow(engine->weights, order, mb_program_order(program, order)) : NULL;
    unsigned n = n_threads ? n_threads : mb_team_n_cpus();
    if (!behind)
        return;
    mb_behind_hold(behind, 1);
    mb_behind_start(behind, n > 1 ? n / 2 : 1);
}

int mb_engine_open(const struct mb_model *model, const struct mb_engine_opts *opts, struct mb_engine **out,
                   struct mb_err *err)
{
    static const struct mb_engine_opts defaults;
    struct mb_gguf *opened = NULL;
    opts = opts ? opts : &defaults;
    if ((unsigned)opts->load > MB_LOAD_BEHIND)
        return mb_fail(err, MB_EINVAL, "load: %d is no way to load weights", (int)opts->load);
    struct mb_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return mb_fail_memory(err);
    engine->opened_at_s = mb_now_s();
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->turned, NULL);
    engine->model = engine->program.model = model;
    unsigned flags = mb_cpu_flags();
    mb_kernels_init(&engine->kernels, flags);
    engine->simd = mb_cpu_simd(flags);
    const int no_file = opts->load == MB_LOAD_SYNTHETIC && !model->path;
    int code = model->gguf || no_file ? MB_OK : open_file(model, &opened, err);
    const struct mb_gguf *gguf = opened ? opened : model->gguf;
    if (!code)
        code = mb_engine_hparams_read(model, gguf, &engine->program.hp, err);
    if (!code)
        code = mb_weights_load(model, gguf, opts, &engine->kernels, &engine->weights, err);
    if (!code)
        code = mb_program_make(&engine->program, engine->weights, &engine->arena, err);
    mb_gguf_close(opened);
    if (code) {
        mb_engine_free(engine);
        return code;
    }
    engine->fingerprint = fingerprint_of(engine);
    if (opts->load == MB_LOAD_BEHIND)
        bring_behind(engine, opts->n_threads);
    *out = engine;
    return MB_OK;
}

void mb_engine_free(struct mb_engine *engine)
{
    if (!engine)
        return;
    mb_program_free(&engine->program);
    mb_weights_free(engine->weights);
    mb_arena_free(&engine->arena);
    pthread_cond_destroy(&engine->turned);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}
