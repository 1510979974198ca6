/* SPDX-License-Identifier: MIT */
/* For the scripts that compare with llama.cpp:
 *   engine-run fill HEADER.gguf OUT.gguf       write a golden model, weights and all
 *   engine-run logits MODEL.gguf N_CTX BATCH [TYPE [THREADS]] < tokens > logits
 * tokens are i32, logits f32 [tokens][n_vocab], both in the machine's byte order. */
#include "golden.h"

static int fill(const char *from, const char *to)
{
    struct mb_err err = {0};
    if (golden_fill(from, to, &err) == MB_OK)
        return 0;
    fprintf(stderr, "%s\n", err.text);
    return 1;
}

static int logits(char **args, int n_args)
{
    struct mb_err err = {0};
    struct mb_model *model = NULL;
    struct mb_engine *engine = NULL;
    struct mb_session *session = NULL;
    struct mb_session_opts opts = {.n_ctx = (uint32_t)atoi(args[1]), .n_batch = (uint32_t)atoi(args[2])};
    opts.n_logits = opts.n_batch;
    opts.type_k = opts.type_v = n_args > 3 ? args[3] : NULL;
    opts.n_threads = n_args > 4 ? (unsigned)atoi(args[4]) : 0;
    int32_t *tokens = malloc(4 * (size_t)opts.n_ctx);
    size_t n = fread(tokens, 4, opts.n_ctx, stdin);
    int code = mb_model_open(args[0], NULL, &model, &err);
    if (!code)
        code = mb_engine_open(model, NULL, &engine, &err);
    if (!code)
        code = mb_session_open(engine, &opts, &session, &err);
    for (size_t done = 0; !code && done < n; done += opts.n_batch) {
        struct mb_eval_opts eval = {.all_logits = 1};
        size_t chunk = n - done < opts.n_batch ? n - done : opts.n_batch;
        code = mb_session_eval(session, tokens + done, chunk, &eval, &err);
        for (size_t i = 0; !code && i < chunk; i++)
            fwrite(mb_session_logits(session, i), 4, mb_session_n_vocab(session), stdout);
    }
    if (code)
        fprintf(stderr, "%s\n", err.text);
    mb_session_free(session);
    mb_engine_free(engine);
    mb_model_free(model);
    free(tokens);
    return code != 0;
}

int main(int n, char **args)
{
    if (n == 4 && strcmp(args[1], "fill") == 0)
        return fill(args[2], args[3]);
    if (n >= 5 && strcmp(args[1], "logits") == 0)
        return logits(args + 2, n - 2);
    fprintf(stderr, "engine-run fill HEADER OUT | logits MODEL N_CTX BATCH [TYPE [THREADS]]\n");
    return 2;
}
