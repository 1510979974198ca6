/* SPDX-License-Identifier: MIT */
/* Text from a session: tokens of a text or of a conversation, what the cache still knows of them, one token after the other.
 * The prompt is kept as tokens; each write compares them with the session's own sequence and evaluates the rest. */
#include "engine/chat.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

struct mb_writer {
    struct mb_session *session;
    const struct mb_model *model;
    struct mb_tokenizer *tokenizer;
    struct mb_chat *chat;     /* NULL: none, chat_err says why */
    struct mb_err chat_err;
    json_t *extra;
    struct mb_sampler *sampler;
    struct mb_detok *detok;
    uint64_t seed;
    int32_t *prompt; /* what the session is to hold before the next token is chosen */
    size_t n_prompt;
    int in_chat;
    char *answer; /* of a conversation, as it grows */
    size_t n_answer, answer_room;
};

const char *mb_stop_name(enum mb_stop stop)
{
    static const char *const names[] = {"end", "length", "context", "cancel"};
    return (unsigned)stop < sizeof names / sizeof *names ? names[stop] : "unknown";
}

static int open_chat(struct mb_writer *writer, const struct mb_gguf *gguf, const char *format, struct mb_err *err)
{
    if (!format) {
        if (mb_chat_open(gguf, &writer->chat, &writer->chat_err) != MB_OK)
            writer->chat = NULL;
        return MB_OK;
    }
    const struct mb_tokenizer_info *info = mb_tokenizer_info(writer->tokenizer);
    int32_t ids[2] = {info->bos, info->eos};
    char text[2][256] = {"", ""};
    for (unsigned i = 0; i < 2; i++) {
        const char *bytes;
        size_t n;
        if (mb_token_bytes(writer->tokenizer, ids[i], &bytes, &n) == MB_OK && n < sizeof text[i])
            memcpy(text[i], bytes, n);
    }
    return mb_chat_new(format, text[0], text[1], &writer->chat, err);
}

static int open_parts(struct mb_writer *writer, const struct mb_writer_opts *opts, struct mb_err *err)
{
    struct mb_sampler_opts sampling = opts->sampling ? *opts->sampling : mb_sampler_defaults();
    struct mb_gguf *opened = NULL;
    int code = writer->model->gguf ? MB_OK : mb_gguf_open(writer->model->path, &opened, err);
    const struct mb_gguf *gguf = opened ? opened : writer->model->gguf;
    if (code == MB_OK)
        code = mb_tokenizer_open(gguf, &writer->tokenizer, err);
    uint32_t n_vocab = mb_session_n_vocab(writer->session);
    if (code == MB_OK && mb_tokenizer_info(writer->tokenizer)->n_vocab > n_vocab)
        code = mb_fail(err, MB_EFORMAT, "%s: the tokenizer knows %u tokens and the weights %u; take another file",
                       writer->model->path, mb_tokenizer_info(writer->tokenizer)->n_vocab, n_vocab);
    if (code == MB_OK)
        code = open_chat(writer, gguf, opts->chat_format, err);
    if (code == MB_OK)
        code = mb_sampler_open(&sampling, n_vocab, &writer->sampler, err);
    if (code == MB_OK)
        code = mb_detok_open(writer->tokenizer, 0, &writer->detok, err);
    if (code == MB_OK && opts->extra_json) {
        writer->extra = json_loads(opts->extra_json, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(writer->extra))
            code = mb_fail(err, MB_EFORMAT, "%.100s: not a JSON object; for example {\"enable_thinking\": false}",
                           opts->extra_json);
    }
    writer->seed = sampling.seed;
    mb_gguf_close(opened);
    return code;
}

void mb_writer_close(struct mb_writer *writer)
{
    if (!writer)
        return;
    mb_detok_close(writer->detok);
    mb_sampler_close(writer->sampler);
    mb_chat_free(writer->chat);
    mb_tokenizer_close(writer->tokenizer);
    json_decref(writer->extra);
    free(writer->prompt);
    free(writer->answer);
    free(writer);
}

int mb_writer_open(struct mb_session *session, const struct mb_model *model, const struct mb_writer_opts *opts,
                   struct mb_writer **out, struct mb_err *err)
{
    static const struct mb_writer_opts defaults;
    if (!model->path)
        return mb_fail(err, MB_EINVAL, "%s is a name of the catalog, without a file: there is no tokenizer", model->name);
    struct mb_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return mb_fail(err, MB_ENOMEM, "no memory for a writer");
    writer->session = session;
    writer->model = model;
    int code = open_parts(writer, opts ? opts : &defaults, err);
    if (code != MB_OK) {
        mb_writer_close(writer);
        return code;
    }
    struct mb_behind *behind = mb_weights_behind(session->engine->weights);
    if (behind) /* while somebody thinks of a prompt, weights may come */
        mb_behind_hold(behind, 0);
    *out = writer;
    return MB_OK;
}

/* Make n tokens the prompt; takes ids. */
static int set_prompt(struct mb_writer *writer, int32_t *ids, size_t n, struct mb_err *err)
{
    uint32_t n_ctx = mb_session_n_ctx(writer->session);
    if (n >= n_ctx) {
        free(ids);
        return mb_fail(err, MB_ERANGE, "the prompt has %zu tokens and the context %u; ask for a longer context (--ctx %zu)", n,
                       n_ctx, n + n / 4 + 256);
    }
    free(writer->prompt);
    writer->prompt = ids;
    writer->n_prompt = n;
    return MB_OK;
}

int mb_writer_text(struct mb_writer *writer, const char *text, size_t n, struct mb_err *err)
{
    int32_t *ids;
    size_t n_ids;
    int code = mb_tokenize(writer->tokenizer, text, n, MB_TOKENIZE_SPECIAL, &ids, &n_ids, err);
    if (code != MB_OK)
        return code;
    code = set_prompt(writer, ids, n_ids, err);
    if (code == MB_OK) {
        writer->in_chat = 0;
        mb_sampler_reset(writer->sampler, writer->seed);
    }
    return code;
}

/* The conversation as tokens. A template writes the token that begins a text itself or leaves it to the tokenizer; it must be
 * there once. */
static int tokenize_chat(struct mb_writer *writer, int32_t **out, size_t *out_n, struct mb_err *err)
{
    const struct mb_tokenizer_info *info = mb_tokenizer_info(writer->tokenizer);
    struct mb_chat_opts opts = {.add_generation_prompt = 1, .extra = writer->extra};
    const char *text;
    size_t n, n_same;
    int code = mb_chat_next(writer->chat, &opts, &text, &n, &n_same, err);
    if (code == MB_OK)
        code = mb_tokenize(writer->tokenizer, text, n, MB_TOKENIZE_PARSE, out, out_n, err);
    if (code != MB_OK || !info->add_bos || info->bos < 0 || (*out_n && (*out)[0] == info->bos))
        return code;
    int32_t *grown = realloc(*out, (*out_n + 1) * sizeof **out);
    if (!grown) {
        free(*out);
        return mb_fail(err, MB_ENOMEM, "no memory for %zu tokens", *out_n);
    }
    memmove(grown + 1, grown, *out_n * sizeof *grown);
    grown[0] = info->bos;
    *out = grown;
    *out_n += 1;
    return MB_OK;
}

int mb_writer_message(struct mb_writer *writer, const char *role, const char *content, struct mb_err *err)
{
    if (!writer->chat)
        return mb_fail(err, writer->chat_err.code, "%s", writer->chat_err.text);
    size_t n_before = json_array_size(mb_chat_messages(writer->chat));
    int32_t *ids;
    size_t n;
    int code = mb_chat_add(writer->chat, role, content, err);
    if (code == MB_OK && strcmp(role, "system") == 0)
        return MB_OK; /* many templates refuse a system message that nothing follows */
    if (code == MB_OK)
        code = tokenize_chat(writer, &ids, &n, err);
    if (code == MB_OK)
        code = set_prompt(writer, ids, n, err);
    if (code != MB_OK) {
        mb_chat_truncate(writer->chat, n_before);
        return code;
    }
    if (!writer->in_chat)
        mb_sampler_reset(writer->sampler, writer->seed);
    writer->in_chat = 1;
    return MB_OK;
}

static int keep_text(struct mb_writer *writer, const char *text, size_t n, const struct mb_write_opts *opts, struct mb_err *err)
{
    if (!n)
        return MB_OK;
    if (opts->on_text)
        opts->on_text(opts->user, text, n);
    if (!writer->in_chat)
        return MB_OK;
    if (writer->n_answer + n + 1 > writer->answer_room) {
        size_t room = 2 * (writer->n_answer + n) + 4096;
        char *grown = realloc(writer->answer, room);
        if (!grown)
            return mb_fail(err, MB_ENOMEM, "no memory for an answer of %zu bytes", room);
        writer->answer = grown;
        writer->answer_room = room;
    }
    memcpy(writer->answer + writer->n_answer, text, n);
    writer->n_answer += n;
    writer->answer[writer->n_answer] = 0;
    return MB_OK;
}

/* Bring the session to the prompt: drop what differs, evaluate what is new. The last token is always evaluated, because its
 * logits choose the next one. */
static int prefill(struct mb_writer *writer, const struct mb_write_opts *opts, struct mb_written *out, struct mb_err *err)
{
    size_t n_known, same = 0;
    const int32_t *known = mb_session_tokens(writer->session, &n_known);
    while (same < n_known && same + 1 < writer->n_prompt && known[same] == writer->prompt[same])
        same++;
    same = mb_session_truncate(writer->session, same);
    const struct mb_eval_opts eval = {.progress = opts->progress, .user = opts->user, .cancel = opts->cancel};
    double began_s = mb_now_s();
    int code = mb_session_eval(writer->session, writer->prompt + same, writer->n_prompt - same, &eval, err);
    out->n_reused = same;
    out->prefill_s = mb_now_s() - began_s;
    for (size_t i = 0; code == MB_OK && i < writer->n_prompt; i++)
        mb_sampler_accept(writer->sampler, writer->prompt[i]);
    return code;
}

/* One pass over one token: what it reads grows with the depth, so it is counted where it is. The traffic is linear in the depth
 * but for windows, so 64 tokens share a figure. */
static int decode(struct mb_writer *writer, int32_t token, const struct mb_write_opts *opts, double *pass_bytes,
                  struct mb_written *out, struct mb_err *err)
{
    const struct mb_eval_opts eval = {.cancel = opts->cancel};
    size_t depth;
    mb_session_tokens(writer->session, &depth);
    if (out->n_decoded % 64 == 0) {
        const struct mb_kv_types *types = &writer->session->cache.types;
        const struct mb_kv_opts kv = {.type_k = mb_type_name(types->k), .type_v = mb_type_name(types->v)};
        struct mb_traffic traffic;
        int code = mb_model_traffic(writer->model, 1, depth, &kv, &traffic, err);
        if (code != MB_OK)
            return code;
        *pass_bytes = (double)traffic.weights_bytes + (double)traffic.kv_read_bytes + (double)traffic.state_read_bytes;
    }
    int code = mb_session_eval(writer->session, &token, 1, &eval, err);
    if (code != MB_OK)
        return code;
    out->n_decoded++;
    out->decode_bytes += *pass_bytes;
    return MB_OK;
}

static int write_tokens(struct mb_writer *writer, const struct mb_write_opts *opts, struct mb_written *out, struct mb_err *err)
{
    double began_s = mb_now_s(), pass_bytes = 0;
    for (;;) {
        int32_t token;
        size_t n, depth;
        int code = mb_sampler_pick(writer->sampler, mb_session_logits(writer->session, 0), &token, err);
        if (code != MB_OK)
            return code;
        out->stop = MB_STOP_END;
        if (mb_token_is_eog(writer->tokenizer, token) && !opts->ignore_end)
            return MB_OK;
        mb_sampler_accept(writer->sampler, token);
        const char *text = mb_detok_add(writer->detok, token, &n);
        code = keep_text(writer, text, n, opts, err);
        if (code != MB_OK)
            return code;
        out->n_written++;
        if (opts->on_token)
            opts->on_token(opts->user, out);
        mb_session_tokens(writer->session, &depth);
        out->stop = opts->n_max && out->n_written >= opts->n_max        ? MB_STOP_LENGTH
                    : depth >= mb_session_n_ctx(writer->session)        ? MB_STOP_CONTEXT
                    : opts->cancel && *opts->cancel                     ? MB_STOP_CANCEL
                                                                        : MB_STOP_END;
        if (out->stop != MB_STOP_END)
            return MB_OK;
        code = decode(writer, token, opts, &pass_bytes, out, err);
        out->decode_s = mb_now_s() - began_s;
        if (code == MB_ECANCEL)
            out->stop = MB_STOP_CANCEL;
        if (code != MB_OK)
            return code;
    }
}

int mb_writer_write(struct mb_writer *writer, const struct mb_write_opts *opts, struct mb_written *out, struct mb_err *err)
{
    static const struct mb_write_opts defaults;
    opts = opts ? opts : &defaults;
    *out = (struct mb_written){.n_prompt = writer->n_prompt, .stop = MB_STOP_CANCEL};
    if (!writer->n_prompt)
        return mb_fail(err, MB_EINVAL, "there is nothing to continue; give a text or a message");
    /* In a conversation the token that ends the answer, and what follows it, come with the next rendering. */
    mb_detok_reset(writer->detok, 0);
    writer->n_answer = 0;
    int code = prefill(writer, opts, out, err);
    if (code == MB_OK)
        code = write_tokens(writer, opts, out, err);
    size_t n;
    const char *rest = mb_detok_end(writer->detok, &n);
    int kept = keep_text(writer, rest, n, opts, err);
    if (writer->in_chat && writer->n_answer && kept == MB_OK)
        kept = mb_chat_add(writer->chat, "assistant", writer->answer, err);
    return code == MB_ECANCEL || code == MB_OK ? kept : code;
}
