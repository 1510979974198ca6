/* SPDX-License-Identifier: MIT */
/* BPE over numbers: every text that a merge names is a string of the vocabulary, so that a merge is a pair of numbers in a
 * hash table and no text is put together while merging. */
#include "engine/bpe.h"

#include "engine/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MERGES_MAX = 1 << 23 };

#define MERGES "tokenizer.ggml.merges"

struct rule {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: free */
    uint32_t rank, string;
};

struct mb_bpe {
    const struct mb_vocab *vocab;
    const struct mb_pretoken *family;
    struct mb_splitter *splitter;
    struct rule *rules; /* hash table */
    uint32_t rules_mask;
    uint32_t bytes[256]; /* the string of each byte's stand-in; UINT32_MAX: none */
    char spelling[256][2];
    unsigned char spelling_n[256];
};

/* ---- stand-ins ---- */

/* Bytes that print stand for themselves; the others, in order, are U+0100 and up (public source: GPT-2, encoder.py). */
static int prints(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

int mb_bpe_byte(uint32_t code)
{
    if (code < 0x100)
        return prints(code) ? (int)code : -1;
    uint32_t rank = code - 0x100;
    for (unsigned byte = 0; byte < 256; byte++)
        if (!prints(byte) && rank-- == 0)
            return (int)byte;
    return -1;
}

static void spell_bytes(struct mb_bpe *bpe)
{
    uint32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t code = prints(byte) ? byte : next++;
        bpe->spelling_n[byte] = (unsigned char)mb_utf8_write(code, bpe->spelling[byte]);
        bpe->bytes[byte] = mb_vocab_find_string(bpe->vocab, bpe->spelling[byte], bpe->spelling_n[byte]);
    }
}

/* ---- merges ---- */

static struct rule *rule_of(const struct mb_bpe *bpe, uint64_t pair)
{
    uint32_t slot = (uint32_t)((pair * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & bpe->rules_mask;
    while (bpe->rules[slot].pair != pair && bpe->rules[slot].pair != UINT64_MAX)
        slot = (slot + 1) & bpe->rules_mask;
    return &bpe->rules[slot];
}

/* The string with this text, copied if it is new. */
static uint32_t intern(struct mb_vocab *vocab, const char *text, size_t n)
{
    uint32_t at = mb_vocab_find_string(vocab, text, n);
    if (at != UINT32_MAX)
        return at;
    const char *copy = mb_arena_text_n(&vocab->arena, text, n);
    return copy ? mb_vocab_add_string(vocab, copy, n) : UINT32_MAX;
}

/* One merge, "left right": the first blank that is not the first byte parts the two. joined has room for both. */
static int add_rule(struct mb_bpe *bpe, struct mb_vocab *vocab, uint32_t rank, const char *text, size_t n, char *joined)
{
    const char *blank = n > 1 ? memchr(text + 1, ' ', n - 1) : NULL;
    if (!blank)
        return MB_OK; /* it merges nothing */
    size_t n_left = (size_t)(blank - text), n_right = n - n_left - 1;
    memcpy(joined, text, n_left);
    memcpy(joined + n_left, blank + 1, n_right);
    uint32_t left = intern(vocab, text, n_left), right = intern(vocab, blank + 1, n_right);
    uint32_t both = intern(vocab, joined, n - 1);
    if (left == UINT32_MAX || right == UINT32_MAX || both == UINT32_MAX)
        return MB_ENOMEM;
    struct rule *rule = rule_of(bpe, (uint64_t)left << 32 | right);
    if (rule->pair == UINT64_MAX) /* of equal merges the first counts */
        *rule = (struct rule){(uint64_t)left << 32 | right, rank, both};
    return MB_OK;
}

static int read_merges(const struct mb_gguf *gguf, struct mb_bpe *bpe, struct mb_vocab *vocab, struct mb_err *err)
{
    uint64_t n = 0;
    enum mb_gguf_value type = MB_GGUF_TEXT;
    int code = mb_gguf_array_n(gguf, MERGES, &n, &type);
    if (code == MB_ENODATA && strstr(bpe->family->names, "kimi-k2")) /* its first files have tokens only */
        code = MB_OK;
    if (code || type != MB_GGUF_TEXT)
        return mb_fail(err, MB_EFORMAT, MERGES ": there is no list of merges; take a complete file");
    if (n > MERGES_MAX)
        return mb_fail(err, MB_EFORMAT, MERGES ": %llu merges, at most %d are possible; the file is damaged",
                       (unsigned long long)n, (int)MERGES_MAX);
    uint32_t n_slots = 256;
    while (n_slots < 2 * n)
        n_slots *= 2;
    bpe->rules = malloc(n_slots * sizeof *bpe->rules);
    if (!bpe->rules)
        return mb_fail_memory(err);
    memset(bpe->rules, 0xff, n_slots * sizeof *bpe->rules);
    bpe->rules_mask = n_slots - 1;
    struct mb_gguf_texts texts = {0};
    const char *text;
    size_t length;
    mb_gguf_texts(gguf, MERGES, &texts); /* without any, there is nothing to walk */
    for (uint32_t i = 0; mb_gguf_next_text(&texts, &text, &length); i++) {
        char joined[4096];
        if (length > sizeof joined)
            return mb_fail(err, MB_EFORMAT, MERGES ": merge %u is longer than %zu bytes; the file is damaged", i, sizeof joined);
        if (add_rule(bpe, vocab, i, text, length, joined))
            return mb_fail_memory(err);
    }
    return MB_OK;
}

static int merge_rule(const void *self, const struct mb_symbol *left, const struct mb_symbol *right, uint32_t *order,
                      uint32_t *string)
{
    if (left->string == UINT32_MAX || right->string == UINT32_MAX)
        return 0;
    const struct rule *rule = rule_of(self, (uint64_t)left->string << 32 | right->string);
    *order = rule->rank;
    *string = rule->string;
    return rule->pair != UINT64_MAX;
}

/* ---- text to tokens ---- */

int mb_ids_add(struct mb_ids *ids, int32_t id)
{
    if (ids->n == ids->max) {
        size_t max = ids->max ? ids->max * 2 : 64;
        int32_t *block = realloc(ids->ids, max * sizeof *block);
        if (!block)
            return -1;
        ids->ids = block;
        ids->max = max;
    }
    ids->ids[ids->n++] = id;
    return 0;
}

/* The token that a whole piece is, if pieces may be tokens at once. */
static int32_t whole(const struct mb_bpe *bpe, const char *piece, size_t n)
{
    const struct mb_pretoken *family = bpe->family;
    if (n > bpe->vocab->token_bytes_max || !(family->ignore_merges || (family->newlines && piece[0] == '\n')))
        return MB_TOKEN_NONE;
    if (family->plain)
        return mb_vocab_find(bpe->vocab, piece, n);
    char *spelled = malloc(2 * n);
    size_t length = 0;
    for (size_t i = 0; spelled && i < n; i++) {
        unsigned char byte = (unsigned char)piece[i];
        memcpy(spelled + length, bpe->spelling[byte], 2);
        length += bpe->spelling_n[byte];
    }
    int32_t id = spelled ? mb_vocab_find(bpe->vocab, spelled, length) : MB_TOKEN_NONE;
    free(spelled);
    return id;
}

/* A symbol that is no token: its bytes, as far as there are tokens for them. */
static int add_bytes(const struct mb_bpe *bpe, const struct mb_symbol *symbol, const char *text, struct mb_ids *ids)
{
    for (uint32_t i = symbol->at; i < symbol->at + symbol->n; i++) {
        unsigned char byte = (unsigned char)text[i];
        char name[8];
        int32_t id;
        if (bpe->family->plain) {
            snprintf(name, sizeof name, "<0x%02X>", byte);
            id = mb_vocab_find(bpe->vocab, name, 6);
        } else {
            id = bpe->bytes[byte] < bpe->vocab->n_tokens ? (int32_t)bpe->bytes[byte] : MB_TOKEN_NONE;
        }
        if (id != MB_TOKEN_NONE && mb_ids_add(ids, id))
            return -1;
    }
    return 0;
}

/* The symbols of a piece before any merge. */
static int add_symbols(const struct mb_bpe *bpe, struct mb_merge *merge, const char *piece, uint32_t n)
{
    merge->n_symbols = 0;
    for (uint32_t i = 0, length; i < n; i += length) {
        int sequence = bpe->family->plain ? mb_utf8_sequence(piece + i, n - i) : 1;
        length = sequence > 0 ? (uint32_t)sequence : 1;
        uint32_t string = bpe->family->plain ? mb_vocab_find_string(bpe->vocab, piece + i, length)
                                             : bpe->bytes[(unsigned char)piece[i]];
        if (mb_merge_add(merge, i, length, string))
            return -1;
    }
    return 0;
}

static int run_piece(const struct mb_bpe *bpe, struct mb_merge *merge, const char *piece, uint32_t n, struct mb_ids *ids)
{
    int32_t id = whole(bpe, piece, n);
    if (id != MB_TOKEN_NONE)
        return mb_ids_add(ids, id);
    if (add_symbols(bpe, merge, piece, n) || mb_merge_run(merge, merge_rule, bpe))
        return -1;
    for (uint32_t i = 0; i != UINT32_MAX; i = merge->symbols[i].next) {
        const struct mb_symbol *symbol = &merge->symbols[i];
        int failed = symbol->string < bpe->vocab->n_tokens ? mb_ids_add(ids, (int32_t)symbol->string)
                                                           : add_bytes(bpe, symbol, piece, ids);
        if (failed)
            return -1;
    }
    return 0;
}

int mb_bpe_run(const struct mb_bpe *bpe, struct mb_merge *merge, const char *text, size_t n, struct mb_ids *ids,
               struct mb_err *err)
{
    uint32_t *ends;
    size_t n_ends;
    int code = mb_splitter_run(bpe->splitter, text, n, &ends, &n_ends, err);
    if (code)
        return code;
    for (size_t i = 0, start = 0; i < n_ends; start = ends[i++])
        if (run_piece(bpe, merge, text + start, (uint32_t)(ends[i] - start), ids)) {
            free(ends);
            return mb_fail_memory(err);
        }
    free(ends);
    return MB_OK;
}

void mb_bpe_close(struct mb_bpe *bpe)
{
    if (!bpe)
        return;
    mb_splitter_free(bpe->splitter);
    free(bpe->rules);
    free(bpe);
}

int mb_bpe_open(const struct mb_gguf *gguf, struct mb_vocab *vocab, const struct mb_pretoken *family, struct mb_bpe **out,
                struct mb_err *err)
{
    struct mb_bpe *bpe = calloc(1, sizeof *bpe);
    if (!bpe)
        return mb_fail_memory(err);
    bpe->vocab = vocab;
    bpe->family = family;
    int code = mb_splitter_new(family, &bpe->splitter, err);
    code = code ? code : read_merges(gguf, bpe, vocab, err);
    if (code) {
        mb_bpe_close(bpe);
        return code;
    }
    spell_bytes(bpe);
    *out = bpe;
    return MB_OK;
}
