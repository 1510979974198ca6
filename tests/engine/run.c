/* SPDX-License-Identifier: MIT */
/* For the scripts that compare with llama.cpp:
 *   engine-run fill HEADER.gguf OUT.gguf                     write a golden model, weights and all
 *   engine-run logits MODEL.gguf N_CTX BATCH TYPE THREADS    logits after each of the tokens on stdin
 *   engine-run greedy MODEL.gguf N_CTX N TYPE THREADS        the N most likely tokens after those on stdin
 * tokens are i32, logits f32 [tokens][n_vocab], both in the machine's byte order. */
#include "golden.h"

struct opened {
    struct mb_model *model;
    struct mb_engine *engine;
    struct mb_session *session;
    int32_t *tokens;
    size_t n;
};

static int fill(const char *from, const char *to)
{
    struct mb_err err = {0};
    if (golden_fill(from, to, &err) == MB_OK)
        return 0;
    fprintf(stderr, "%s\n", err.text);
    return 1;
}

static int open_all(struct opened *opened, char **args, uint32_t n_batch, struct mb_err *err)
{
    struct mb_session_opts opts = {.n_ctx = (uint32_t)atoi(args[1]), .n_batch = n_batch, .n_logits = n_batch};
    opts.type_k = opts.type_v = args[3];
    opts.n_threads = (unsigned)atoi(args[4]);
    opened->tokens = malloc(4 * (size_t)opts.n_ctx);
    opened->n = fread(opened->tokens, 4, opts.n_ctx, stdin);
    int code = mb_model_open(args[0], NULL, &opened->model, err);
    if (!code)
        code = mb_engine_open(opened->model, NULL, &opened->engine, err);
    return code ? code : mb_session_open(opened->engine, &opts, &opened->session, err);
}

static int close_all(struct opened *opened, int code, const struct mb_err *err)
{
    if (code)
        fprintf(stderr, "%s\n", err->text);
    mb_session_free(opened->session);
    mb_engine_free(opened->engine);
    mb_model_free(opened->model);
    free(opened->tokens);
    return code != 0;
}

static int logits(char **args)
{
    struct mb_err err = {0};
    struct opened opened = {0};
    struct mb_eval_opts eval = {.all_logits = 1};
    size_t n_batch = (size_t)atoi(args[2]);
    int code = open_all(&opened, args, (uint32_t)n_batch, &err);
    for (size_t done = 0; !code && done < opened.n; done += n_batch) {
        size_t chunk = opened.n - done < n_batch ? opened.n - done : n_batch;
        code = mb_session_eval(opened.session, opened.tokens + done, chunk, &eval, &err);
        for (size_t i = 0; !code && i < chunk; i++)
            fwrite(mb_session_logits(opened.session, i), 4, mb_session_n_vocab(opened.session), stdout);
    }
    return close_all(&opened, code, &err);
}

static int32_t most_likely(const struct mb_session *session)
{
    const float *row = mb_session_logits(session, 0);
    uint32_t best = 0;
    for (uint32_t i = 1; i < mb_session_n_vocab(session); i++)
        best = row[i] > row[best] ? i : best;
    return (int32_t)best;
}

static int greedy(char **args)
{
    struct mb_err err = {0};
    struct opened opened = {0};
    int code = open_all(&opened, args, 0, &err);
    if (!code)
        code = mb_session_eval(opened.session, opened.tokens, opened.n, NULL, &err);
    for (int i = atoi(args[2]); i > 0 && !code; i--) {
        int32_t token = most_likely(opened.session);
        fwrite(&token, sizeof token, 1, stdout);
        code = i > 1 ? mb_session_eval(opened.session, &token, 1, NULL, &err) : MB_OK;
    }
    return close_all(&opened, code, &err);
}

int main(int n, char **args)
{
    if (n == 4 && strcmp(args[1], "fill") == 0)
        return fill(args[2], args[3]);
    if (n == 7 && strcmp(args[1], "logits") == 0)
        return logits(args + 2);
    if (n == 7 && strcmp(args[1], "greedy") == 0)
        return greedy(args + 2);
    fprintf(stderr, "engine-run fill HEADER OUT | logits MODEL N_CTX BATCH TYPE THREADS | greedy MODEL N_CTX N TYPE THREADS\n");
    return 2;
}
