/* SPDX-License-Identifier: MIT */
/* Reading tokenizer.* keys of a GGUF file. Owns every check of what they hold, so that bpe.c, spm.c and tokenizer.c may
 * trust a vocabulary; leaves the names of pre-tokenizers to pretoken.c. */
#include "engine/vocab.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOKENS_MAX = 1 << 22,     /* published vocabularies end at 2^18 */
    TOKEN_BYTES_MAX = 1 << 16 /* longer ones would only make the search for tokens slow */
};

#define KEY(name) "tokenizer.ggml." name
#define DEEPSEEK_END "<\uff5cend\u2581of\u2581sentence\uff5c>"

/* ---- strings ---- */

/* 32 bits of a multiplying hash. The seed differs from run to run, so that no file can aim at collisions. */
static uint32_t hash_of(const char *text, size_t n, uint32_t seed)
{
    uint64_t hash = seed ^ (n * UINT64_C(0x9E3779B97F4A7C15));
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = (hash ^ word) * UINT64_C(0xD6E8FEB86659FD93);
        hash ^= hash >> 32;
        text += 8;
        n -= 8;
    }
    uint64_t word = 0;
    memcpy(&word, text, n);
    hash = (hash ^ word) * UINT64_C(0xD6E8FEB86659FD93);
    hash ^= hash >> 32;
    hash *= UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(hash >> 32);
}

/* The slot where this text is, or where it would go. */
static uint32_t slot_of(const struct mb_vocab *vocab, const char *text, size_t n, uint32_t hash)
{
    uint32_t slot = hash & vocab->slots_mask;
    for (; vocab->slots[slot]; slot = (slot + 1) & vocab->slots_mask) {
        const struct mb_string *string = &vocab->strings[vocab->slots[slot] - 1];
        if (string->hash == hash && string->n == n && memcmp(string->text, text, n) == 0)
            break;
    }
    return slot;
}

uint32_t mb_vocab_find_string(const struct mb_vocab *vocab, const char *text, size_t n)
{
    return vocab->slots[slot_of(vocab, text, n, hash_of(text, n, vocab->seed))] - 1; /* 0 - 1 is UINT32_MAX */
}

int32_t mb_vocab_find(const struct mb_vocab *vocab, const char *text, size_t n)
{
    if (n == 0 || n > vocab->token_bytes_max)
        return MB_TOKEN_NONE;
    uint32_t at = mb_vocab_find_string(vocab, text, n);
    return at < vocab->n_tokens ? (int32_t)at : MB_TOKEN_NONE;
}

/* Room for max strings in all, half of the slots free. */
static int reserve(struct mb_vocab *vocab, uint32_t max)
{
    uint32_t n_slots = 256;
    while (n_slots < 2 * max)
        n_slots *= 2;
    struct mb_string *strings = realloc(vocab->strings, max * sizeof *strings);
    if (strings)
        vocab->strings = strings;
    uint32_t *slots = strings ? calloc(n_slots, sizeof *slots) : NULL;
    if (!slots)
        return -1;
    free(vocab->slots);
    vocab->slots = slots;
    vocab->slots_mask = n_slots - 1;
    vocab->strings_max = max;
    for (uint32_t i = 0; i < vocab->n_strings; i++) {
        uint32_t slot = strings[i].hash & vocab->slots_mask;
        while (slots[slot])
            slot = (slot + 1) & vocab->slots_mask;
        slots[slot] = i + 1;
    }
    return 0;
}

uint32_t mb_vocab_add_string(struct mb_vocab *vocab, const char *text, size_t n)
{
    uint32_t hash = hash_of(text, n, vocab->seed);
    uint32_t slot = slot_of(vocab, text, n, hash);
    if (vocab->slots[slot])
        return vocab->slots[slot] - 1;
    if (vocab->n_strings == vocab->strings_max) {
        if (vocab->strings_max > UINT32_MAX / 8 || reserve(vocab, vocab->strings_max * 2))
            return UINT32_MAX;
        slot = slot_of(vocab, text, n, hash);
    }
    vocab->strings[vocab->n_strings] = (struct mb_string){text, (uint32_t)n, hash};
    vocab->slots[slot] = ++vocab->n_strings;
    return vocab->n_strings - 1;
}

/* ---- keys ---- */

/* An array that has an item for every token, or is absent (*out_there = 0). */
static int check_array(const struct mb_gguf *gguf, const char *key, uint64_t n_tokens, int *out_there, struct mb_err *err)
{
    uint64_t n;
    enum mb_gguf_value type;
    int code = mb_gguf_array_n(gguf, key, &n, &type);
    *out_there = code == MB_OK;
    if (code == MB_ENODATA)
        return MB_OK;
    if (code || type == MB_GGUF_TEXT || type == MB_GGUF_ARRAY)
        return mb_fail(err, MB_EFORMAT, "%s: it is no array of numbers; the file is damaged", key);
    if (n < n_tokens)
        return mb_fail(err, MB_EFORMAT, "%s: %llu items for %llu tokens; the file is damaged", key, (unsigned long long)n,
                       (unsigned long long)n_tokens);
    return MB_OK;
}

/* An optional yes or no. */
static int read_flag(const struct mb_gguf *gguf, const char *key, int *inout, struct mb_err *err)
{
    int code = mb_gguf_get_bool(gguf, key, inout);
    if (code && code != MB_ENODATA)
        return mb_fail(err, MB_EFORMAT, "%s: it is neither true nor false; the file is damaged", key);
    return MB_OK;
}

/* An optional id; -1, also as 32 bits without a sign, says that there is none. */
static int read_id(const struct mb_gguf *gguf, const char *key, uint32_t n_tokens, int32_t *inout, struct mb_err *err)
{
    int64_t id;
    int code = mb_gguf_get_i64(gguf, key, &id);
    if (code == MB_ENODATA)
        return MB_OK;
    if (code == MB_OK && (id == -1 || id == UINT32_MAX)) {
        *inout = MB_TOKEN_NONE;
        return MB_OK;
    }
    if (code || id < 0 || id >= n_tokens)
        return mb_fail(err, MB_EFORMAT, "%s: it names none of the %u tokens; the file is damaged", key, n_tokens);
    *inout = (int32_t)id;
    return MB_OK;
}

static int read_texts(const struct mb_gguf *gguf, struct mb_vocab *vocab, struct mb_err *err)
{
    uint64_t n = 0;
    enum mb_gguf_value type;
    int code = mb_gguf_array_n(gguf, KEY("tokens"), &n, &type);
    if (code || type != MB_GGUF_TEXT)
        return mb_fail(err, MB_EFORMAT, KEY("tokens") ": there is no list of tokens; take a complete file");
    if (n == 0 || n > TOKENS_MAX)
        return mb_fail(err, MB_EFORMAT, KEY("tokens") ": %llu tokens, between 1 and %d are possible; the file is damaged",
                       (unsigned long long)n, (int)TOKENS_MAX);
    struct mb_gguf_texts texts;
    const char *text;
    size_t length;
    if (reserve(vocab, (uint32_t)n))
        return mb_fail_memory(err);
    mb_gguf_texts(gguf, KEY("tokens"), &texts);
    for (uint32_t i = 0; mb_gguf_next_text(&texts, &text, &length); i++) {
        if (length > TOKEN_BYTES_MAX)
            return mb_fail(err, MB_EFORMAT,
                           KEY("tokens") ": token %u has %zu bytes, at most %d are possible; the file is damaged", i, length,
                           (int)TOKEN_BYTES_MAX);
        char *copy = length ? mb_arena_text_n(&vocab->arena, text, length) : mb_arena_format(&vocab->arena, "[EMPTY_%u]", i);
        if (!copy)
            return mb_fail_memory(err);
        length = length ? length : strlen(copy);
        uint32_t at = mb_vocab_add_string(vocab, copy, length);
        if (at == UINT32_MAX)
            return mb_fail_memory(err);
        if (at != i)
            return mb_fail(err, MB_EFORMAT, KEY("tokens") ": tokens %u and %u have the same text; the file is damaged", at, i);
        if (length > vocab->token_bytes_max)
            vocab->token_bytes_max = (uint32_t)length;
    }
    vocab->n_tokens = (uint32_t)n;
    return MB_OK;
}

static int read_scores(const struct mb_gguf *gguf, struct mb_vocab *vocab, struct mb_err *err)
{
    int there, code = check_array(gguf, KEY("scores"), vocab->n_tokens, &there, err);
    if (code)
        return code;
    vocab->scores = mb_arena_array(&vocab->arena, vocab->n_tokens, sizeof *vocab->scores);
    if (!vocab->scores)
        return mb_fail_memory(err);
    const struct mb_gguf_kv *kv = mb_gguf_find_kv(gguf, KEY("scores"));
    for (uint32_t i = 0; there && i < vocab->n_tokens; i++) {
        double score;
        if (mb_gguf_item_f64(gguf, kv, i, &score) || isnan(score))
            return mb_fail(err, MB_EFORMAT, KEY("scores") ": the score of token %u is not a number; the file is damaged", i);
        vocab->scores[i] = (float)score;
    }
    return MB_OK;
}

static int read_kinds(const struct mb_gguf *gguf, struct mb_vocab *vocab, struct mb_err *err)
{
    /* tokenizer.ggml.token_type; 0 and 5 are undefined and unused tokens, which mean nothing in text. */
    static const unsigned char kinds[] = {
        0, MB_TOKEN_NORMAL, MB_TOKEN_UNKNOWN, MB_TOKEN_CONTROL, MB_TOKEN_USER, 0, MB_TOKEN_BYTE};
    int there, code = check_array(gguf, KEY("token_type"), vocab->n_tokens, &there, err);
    if (code)
        return code;
    vocab->kinds = mb_arena_array(&vocab->arena, vocab->n_tokens, 1);
    if (!vocab->kinds)
        return mb_fail_memory(err);
    memset(vocab->kinds, MB_TOKEN_NORMAL, vocab->n_tokens);
    const struct mb_gguf_kv *kv = mb_gguf_find_kv(gguf, KEY("token_type"));
    for (uint32_t i = 0; there && i < vocab->n_tokens; i++) {
        uint64_t type;
        if (mb_gguf_item_u64(gguf, kv, i, &type))
            return mb_fail(err, MB_EFORMAT, KEY("token_type") ": the type of token %u is no count; the file is damaged", i);
        vocab->kinds[i] = type < MB_COUNT(kinds) ? kinds[type] : 0;
    }
    return MB_OK;
}

/* ---- tokens that end what a model writes ---- */

static int32_t find_text(const struct mb_vocab *vocab, const char *text)
{
    return mb_vocab_find(vocab, text, strlen(text));
}

static void mark_end(struct mb_vocab *vocab, int32_t id)
{
    if (id != MB_TOKEN_NONE)
        vocab->kinds[id] |= MB_TOKEN_EOG;
}

/* The first of the names that is a token becomes a control token. */
static int32_t find_first(struct mb_vocab *vocab, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t id = find_text(vocab, names[i]);
        if (id != MB_TOKEN_NONE) {
            vocab->kinds[id] |= MB_TOKEN_CONTROL;
            return id;
        }
    }
    return MB_TOKEN_NONE;
}

/* Files do not state all tokens that end a turn, so that they are known by name, with the names that llama.cpp knows. */
static int read_ends(const struct mb_gguf *gguf, struct mb_vocab *vocab, struct mb_err *err)
{
    static const char *const turns[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
        "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", DEEPSEEK_END, "<end_of_utterance>"};
    static const char *const messages[] = {"<|eom_id|>"};
    static const char *const pads[] = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"};
    static const char *const repositories[] = {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"};
    static const char *const files[] = {"<|file_sep|>"};
    static const char *const ends[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>",
        "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
        "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", DEEPSEEK_END, "[e~["};
    static const char *const harmony[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};
    const struct {
        const char *key;
        const char *const *names;
        size_t n;
    } stated[] = {{KEY("eot_token_id"), turns, MB_COUNT(turns)}, {KEY("eom_token_id"), messages, MB_COUNT(messages)},
        {KEY("fim_pad_token_id"), pads, MB_COUNT(pads)}, {KEY("fim_rep_token_id"), repositories, MB_COUNT(repositories)},
        {KEY("fim_sep_token_id"), files, MB_COUNT(files)}};

    for (size_t i = 0; i < MB_COUNT(stated); i++) {
        int32_t id = MB_TOKEN_NONE;
        int code = read_id(gguf, stated[i].key, vocab->n_tokens, &id, err);
        if (code)
            return code;
        if (id == MB_TOKEN_NONE)
            id = find_first(vocab, stated[i].names, stated[i].n);
        if (i == 0)
            vocab->eot = id;
        mark_end(vocab, id);
    }
    for (size_t i = 0; i < MB_COUNT(ends); i++)
        mark_end(vocab, find_first(vocab, &ends[i], 1));
    for (size_t i = 0; i < MB_COUNT(harmony); i++) { /* gpt-oss writes these around its messages */
        int32_t id = find_text(vocab, harmony[i]);
        if (id != MB_TOKEN_NONE)
            vocab->kinds[id] = (unsigned char)((vocab->kinds[id] & MB_TOKEN_EOG) | MB_TOKEN_USER);
    }
    mark_end(vocab, vocab->eos);

    /* Where messages end with <|end|> and the turn with another token, <|end|> is a part of the text. */
    int32_t end = find_text(vocab, "<|end|>");
    int calls = find_text(vocab, "<|call|>") >= 0 || find_text(vocab, "<|calls|>") >= 0;
    if (end >= 0 && calls && (find_text(vocab, "<|return|>") >= 0 || find_text(vocab, "<|flush|>") >= 0))
        vocab->kinds[end] = MB_TOKEN_USER;
    /* Gemma 4 has a plain </s>, as in HTML. */
    int32_t strike = find_text(vocab, "</s>");
    if (strike >= 0 && find_text(vocab, "<|tool_response>") >= 0)
        vocab->kinds[strike] = MB_TOKEN_NORMAL;
    return MB_OK;
}

/* ---- the whole ---- */

/* Phi-3 takes white space after most special tokens along, Jina that before one. Files do not say so; names do. */
static void strip_blanks(const struct mb_gguf *gguf, struct mb_vocab *vocab)
{
    static const char *const not_these[] = {"<unk>", "<s>", "<|endoftext|>"};
    const char *name;
    char lower[256];
    size_t n = 0;
    if (vocab->pre && strncmp(vocab->pre, "jina-v2-", 8) == 0) {
        int32_t mask = find_text(vocab, "<mask>");
        if (mask != MB_TOKEN_NONE)
            vocab->kinds[mask] |= MB_TOKEN_LSTRIP;
        return;
    }
    if (mb_gguf_get_text(gguf, "general.name", &name))
        return;
    for (; name[n] && n < sizeof lower - 1; n++)
        lower[n] = (char)tolower((unsigned char)name[n]);
    lower[n] = 0;
    if (!strstr(lower, "phi-3") && !strstr(lower, "phi3"))
        return;
    for (uint32_t i = 0; i < vocab->n_tokens; i++)
        if (vocab->kinds[i] & (MB_TOKEN_CONTROL | MB_TOKEN_USER | MB_TOKEN_UNKNOWN))
            vocab->kinds[i] |= MB_TOKEN_RSTRIP;
    for (size_t i = 0; i < MB_COUNT(not_these); i++) {
        int32_t id = find_text(vocab, not_these[i]);
        if (id != MB_TOKEN_NONE)
            vocab->kinds[id] &= (unsigned char)~MB_TOKEN_RSTRIP;
    }
}

static int read_model(const struct mb_gguf *gguf, struct mb_vocab *vocab, struct mb_err *err)
{
    const char *model, *pre;
    if (mb_gguf_get_text(gguf, KEY("model"), &model))
        return mb_fail(err, MB_ENODATA, KEY("model") ": the file has no tokenizer; take a file of a language model");
    int code = mb_gguf_get_text(gguf, KEY("pre"), &pre);
    if (code && code != MB_ENODATA)
        return mb_fail(err, MB_EFORMAT, KEY("pre") ": it is no text; the file is damaged");
    vocab->pre = code || !*pre ? NULL : mb_arena_text(&vocab->arena, pre);
    vocab->bos = vocab->eos = vocab->eot = vocab->unk = MB_TOKEN_NONE;
    if (strcmp(model, "llama") == 0) {
        vocab->model = MB_VOCAB_SPM;
        vocab->bos = 1;
        vocab->eos = 2;
        vocab->unk = 0;
        vocab->add_bos = vocab->add_space_prefix = 1;
        return MB_OK;
    }
    if (strcmp(model, "gemma4") == 0)
        vocab->pre = "gemma4";
    else if (strcmp(model, "gpt2") != 0)
        return mb_fail(err, MB_ENOTSUP,
                       KEY("model") ": %.40s: this kind of tokenizer is not known here; known are gpt2 (BPE), llama "
                                    "(SentencePiece) and gemma4",
                       model);
    vocab->model = MB_VOCAB_BPE;
    vocab->family = mb_pretoken_find(vocab->pre ? vocab->pre : "default");
    if (!vocab->family)
        return mb_fail(err, MB_ENOTSUP, KEY("pre") ": %.60s: this pre-tokenizer is not known here; take a newer program",
                       vocab->pre);
    vocab->add_bos = vocab->family->add_bos;
    return MB_OK;
}

void mb_vocab_free(struct mb_vocab *vocab)
{
    free(vocab->strings);
    free(vocab->slots);
    mb_arena_free(&vocab->arena);
    memset(vocab, 0, sizeof *vocab);
}

int mb_vocab_read(const struct mb_gguf *gguf, struct mb_vocab *vocab, struct mb_err *err)
{
    vocab->seed = (uint32_t)((uintptr_t)vocab >> 4);
    int code = read_model(gguf, vocab, err);
    code = code ? code : read_texts(gguf, vocab, err);
    code = code ? code : read_scores(gguf, vocab, err);
    code = code ? code : read_kinds(gguf, vocab, err);
    if (code)
        return code;
    int32_t *defaults[] = {&vocab->bos, &vocab->eos, &vocab->unk};
    for (size_t i = 0; i < MB_COUNT(defaults); i++)
        if (*defaults[i] >= 0 && (uint32_t)*defaults[i] >= vocab->n_tokens)
            *defaults[i] = MB_TOKEN_NONE;
    code = read_id(gguf, KEY("bos_token_id"), vocab->n_tokens, &vocab->bos, err);
    code = code ? code : read_id(gguf, KEY("eos_token_id"), vocab->n_tokens, &vocab->eos, err);
    code = code ? code : read_id(gguf, KEY("unknown_token_id"), vocab->n_tokens, &vocab->unk, err);
    code = code ? code : read_flag(gguf, KEY("add_bos_token"), &vocab->add_bos, err);
    code = code ? code : read_flag(gguf, KEY("add_eos_token"), &vocab->add_eos, err);
    code = code ? code : read_flag(gguf, KEY("add_space_prefix"), &vocab->add_space_prefix, err);
    code = code ? code : read_ends(gguf, vocab, err);
    if (vocab->family && vocab->family->newlines)
        vocab->add_bos = 1; /* Gemma 4 needs it, whatever its first files said */
    if (code == MB_OK)
        strip_blanks(gguf, vocab);
    return code;
}
