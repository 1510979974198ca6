/* SPDX-License-Identifier: MIT */
/* The front of the tokenizers: special tokens are found in the text first, the rest goes to BPE or SentencePiece. Owns the
 * bytes that tokens stand for, and the way back. */
#include "engine/tokenizer.h"

#include "engine/spm.h"
#include "engine/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { FILTER_BITS = 4096, SPECIAL = MB_TOKEN_CONTROL | MB_TOKEN_USER | MB_TOKEN_UNKNOWN };

static const char blank[] = "\xe2\x96\x81"; /* U+2581 */

/* Special tokens of one length, in the order of their bytes. */
struct group {
    uint32_t length, n;
    const int32_t *ids;
    unsigned char filter[FILTER_BITS / 8]; /* by first, second and last byte: may there be one? */
};

struct piece {
    const char *bytes;
    uint32_t n;
};

struct mb_tokenizer {
    struct mb_vocab vocab;
    struct mb_bpe *bpe; /* one of the two, by vocab.model */
    struct mb_spm spm;
    struct piece *pieces; /* of each token */
    uint32_t piece_bytes_max;
    struct group *groups; /* longest first */
    unsigned n_groups;
    struct mb_tokenizer_info info;
    struct mb_arena arena;
};

/* ---- the bytes of tokens ---- */

/* Stand-in characters become bytes; anything else stays as it is. */
static uint32_t decode(const char *text, uint32_t n, char *out)
{
    uint32_t n_out = 0;
    for (uint32_t i = 0; i < n;) {
        int length = mb_utf8_sequence(text + i, n - i);
        unsigned char first = (unsigned char)text[i];
        uint32_t code = length == 1 ? first : length == 2 ? (first & 0x1fu) << 6 | ((unsigned char)text[i + 1] & 0x3fu) : 0x800;
        int byte = length > 0 ? mb_bpe_byte(code) : -1;
        uint32_t step = length > 0 ? (uint32_t)length : 1;
        if (byte >= 0) {
            out[n_out++] = (char)byte;
        } else {
            memcpy(out + n_out, text + i, step);
            n_out += step;
        }
        i += step;
    }
    return n_out;
}

static uint32_t unescape(const char *text, uint32_t n, char *out)
{
    uint32_t n_out = 0;
    for (uint32_t i = 0; i < n;) {
        if (n - i >= 3 && memcmp(text + i, blank, 3) == 0) {
            out[n_out++] = ' ';
            i += 3;
        } else {
            out[n_out++] = text[i++];
        }
    }
    return n_out;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Write the bytes of a token to out, which has room for its text. */
static uint32_t write_piece(const struct mb_vocab *vocab, uint32_t id, char *out)
{
    const struct mb_string *string = &vocab->strings[id];
    unsigned kind = vocab->kinds[id];
    if (kind & SPECIAL) {
        memcpy(out, string->text, string->n);
        return string->n;
    }
    if (kind & MB_TOKEN_NORMAL) {
        if (vocab->model == MB_VOCAB_SPM || vocab->family->plain)
            return unescape(string->text, string->n, out);
        return decode(string->text, string->n, out);
    }
    if ((kind & MB_TOKEN_BYTE) && string->n == 6 && memcmp(string->text, "<0x", 3) == 0) {
        int high = hex_digit(string->text[3]), low = hex_digit(string->text[4]);
        if (high >= 0 && low >= 0) {
            *out = (char)(high << 4 | low);
            return 1;
        }
    }
    return 0;
}

static int make_pieces(struct mb_tokenizer *t)
{
    t->pieces = mb_arena_array(&t->arena, t->vocab.n_tokens, sizeof *t->pieces);
    for (uint32_t i = 0; t->pieces && i < t->vocab.n_tokens; i++) {
        char *bytes = mb_arena_alloc(&t->arena, t->vocab.strings[i].n);
        if (!bytes)
            return -1;
        t->pieces[i] = (struct piece){bytes, write_piece(&t->vocab, i, bytes)};
        if (t->pieces[i].n > t->piece_bytes_max)
            t->piece_bytes_max = t->pieces[i].n;
    }
    return t->pieces ? 0 : -1;
}

/* ---- special tokens ---- */

struct special {
    int32_t id;
    uint32_t n;
    const char *text;
};

static int by_length_and_text(const void *a, const void *b)
{
    const struct special *x = a, *y = b;
    if (x->n != y->n)
        return x->n > y->n ? -1 : 1;
    return memcmp(x->text, y->text, x->n);
}

static unsigned filter_bit(const char *text, uint32_t n)
{
    unsigned first = (unsigned char)text[0], second = n > 1 ? (unsigned char)text[1] : 0, last = (unsigned char)text[n - 1];
    return (first + second * 31 + last * 517) % FILTER_BITS;
}

static int make_groups(struct mb_tokenizer *t)
{
    const struct mb_vocab *vocab = &t->vocab;
    uint32_t n = 0;
    for (uint32_t i = 0; i < vocab->n_tokens; i++)
        n += (vocab->kinds[i] & SPECIAL) != 0;
    struct special *specials = malloc((n + 1) * sizeof *specials);
    int32_t *ids = mb_arena_array(&t->arena, n, sizeof *ids);
    if (!specials || !ids) {
        free(specials);
        return -1;
    }
    n = 0;
    for (uint32_t i = 0; i < vocab->n_tokens; i++)
        if (vocab->kinds[i] & SPECIAL)
            specials[n++] = (struct special){(int32_t)i, vocab->strings[i].n, vocab->strings[i].text};
    qsort(specials, n, sizeof *specials, by_length_and_text);
    int failed = 0;
    for (uint32_t i = 0; i < n && !failed; i++) {
        struct group *group = t->n_groups ? &t->groups[t->n_groups - 1] : NULL;
        if (!group || group->length != specials[i].n)
            group = mb_arena_append(&t->arena, &t->groups, &t->n_groups, sizeof *group);
        failed = !group;
        if (failed)
            break;
        if (group->n++ == 0) {
            group->length = specials[i].n;
            group->ids = ids + i;
        }
        ids[i] = specials[i].id;
        unsigned bit = filter_bit(specials[i].text, specials[i].n);
        group->filter[bit / 8] |= (unsigned char)(1u << bit % 8);
    }
    free(specials);
    return failed ? -1 : 0;
}

/* The token of the group that stands here, or none. */
static int32_t match_group(const struct mb_vocab *vocab, const struct group *group, const char *text, int parse)
{
    unsigned bit = filter_bit(text, group->length);
    if (!(group->filter[bit / 8] & 1u << bit % 8))
        return MB_TOKEN_NONE;
    uint32_t low = 0, high = group->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int32_t id = group->ids[middle];
        int order = memcmp(text, vocab->strings[id].text, group->length);
        if (order == 0)
            return parse || !(vocab->kinds[id] & (MB_TOKEN_CONTROL | MB_TOKEN_UNKNOWN)) ? id : MB_TOKEN_NONE;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return MB_TOKEN_NONE;
}

/* A stretch of the text, or a token found in it. */
struct part {
    size_t start, end;
    int32_t id;
};

struct parts {
    struct part *list;
    size_t n, max;
};

static int add_part(struct parts *parts, size_t start, size_t end, int32_t id)
{
    if (id == MB_TOKEN_NONE && start == end)
        return 0;
    if (parts->n == parts->max) {
        size_t max = parts->max ? parts->max * 2 : 16;
        struct part *list = realloc(parts->list, max * sizeof *list);
        if (!list)
            return -1;
        parts->list = list;
        parts->max = max;
    }
    parts->list[parts->n++] = (struct part){start, end, id};
    return 0;
}

static int is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Cut a stretch at the tokens of a group. */
static int part_stretch(const struct mb_tokenizer *t, const struct group *group, const char *text, struct part stretch, int parse,
                        struct parts *out)
{
    size_t start = stretch.start, at = start;
    while (stretch.end - at >= group->length) {
        int32_t id = match_group(&t->vocab, group, text + at, parse);
        if (id == MB_TOKEN_NONE) {
            at++;
            continue;
        }
        size_t left = at, right = at + group->length;
        while ((t->vocab.kinds[id] & MB_TOKEN_LSTRIP) && left > start && is_space(text[left - 1]))
            left--;
        while ((t->vocab.kinds[id] & MB_TOKEN_RSTRIP) && right < stretch.end && is_space(text[right]))
            right++;
        if (add_part(out, start, left, MB_TOKEN_NONE) || add_part(out, at, right, id))
            return -1;
        start = at = right;
    }
    return add_part(out, start, stretch.end, MB_TOKEN_NONE);
}

/* Cut the text at special tokens. The longest go first through the whole text, so that none is found inside a longer one;
 * each length is a pass, so that the time is bounded by lengths times text. */
static int find_specials(const struct mb_tokenizer *t, const char *text, size_t n, int parse, struct parts *parts)
{
    struct parts next = {0};
    int failed = add_part(parts, 0, n, MB_TOKEN_NONE);
    for (unsigned i = 0; i < t->n_groups && !failed; i++) {
        next.n = 0;
        for (size_t k = 0; k < parts->n && !failed; k++) {
            struct part part = parts->list[k];
            failed = part.id == MB_TOKEN_NONE ? part_stretch(t, &t->groups[i], text, part, parse, &next)
                                              : add_part(&next, part.start, part.end, part.id);
        }
        struct parts done = *parts;
        *parts = next;
        next = done;
    }
    free(next.list);
    return failed;
}

/* ---- text to tokens ---- */

/* A copy in which blanks are U+2581, after one more if prefix is set. */
static char *escape(const char *text, size_t n, int prefix, size_t *n_out)
{
    size_t n_blanks = prefix != 0;
    for (size_t i = 0; i < n; i++)
        n_blanks += text[i] == ' ';
    char *out = malloc(n + 3 * n_blanks + 1), *to = out;
    if (!out)
        return NULL;
    if (prefix) {
        memcpy(to, blank, 3);
        to += 3;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ') {
            memcpy(to, blank, 3);
            to += 3;
        } else {
            *to++ = text[i];
        }
    }
    *n_out = (size_t)(to - out);
    return out;
}

static int run_stretch(const struct mb_tokenizer *t, struct mb_merge *merge, const char *text, size_t n, int first,
                       struct mb_ids *ids, struct mb_err *err)
{
    int spm = t->vocab.model == MB_VOCAB_SPM;
    if (!spm && !t->vocab.family->plain)
        return mb_bpe_run(t->bpe, merge, text, n, ids, err);
    char *escaped = escape(text, n, spm && first && t->vocab.add_space_prefix, &n);
    int code = MB_ENOMEM;
    if (escaped && !spm)
        code = mb_bpe_run(t->bpe, merge, escaped, n, ids, err);
    else if (escaped && mb_spm_run(&t->spm, merge, escaped, n, ids) == 0)
        code = MB_OK;
    free(escaped);
    return code == MB_ENOMEM ? mb_fail_memory(err) : code;
}

static int run_parts(const struct mb_tokenizer *t, const char *text, const struct parts *parts, struct mb_ids *ids,
                     struct mb_err *err)
{
    struct mb_merge merge = {0};
    int code = MB_OK, first = 1; /* is this stretch first, or behind a special token? */
    for (size_t i = 0; i < parts->n && !code; i++) {
        const struct part *part = &parts->list[i];
        if (part->id == MB_TOKEN_NONE)
            code = run_stretch(t, &merge, text + part->start, part->end - part->start, first, ids, err);
        else if (mb_ids_add(ids, part->id))
            code = mb_fail_memory(err);
        first = part->id != MB_TOKEN_NONE;
    }
    mb_merge_free(&merge);
    return code;
}

int mb_tokenize(const struct mb_tokenizer *t, const char *text, size_t n_bytes, unsigned flags, int32_t **ids, size_t *n,
                struct mb_err *err)
{
    if (n_bytes > MB_SPLIT_BYTES_MAX)
        return mb_fail(err, MB_ERANGE, "text: %zu bytes, at most 1 GiB becomes tokens at once; give it in parts", n_bytes);
    struct mb_ids out = {.ids = malloc(64 * sizeof *out.ids), .max = 64};
    struct parts parts = {0};
    const struct mb_vocab *vocab = &t->vocab;
    int code = out.ids ? MB_OK : mb_fail_memory(err);
    if (!code && (flags & MB_TOKENIZE_SPECIAL) && vocab->add_bos && vocab->bos != MB_TOKEN_NONE)
        out.ids[out.n++] = vocab->bos;
    if (!code && n_bytes && find_specials(t, text, n_bytes, (flags & MB_TOKENIZE_PARSE) != 0, &parts))
        code = mb_fail_memory(err);
    code = code ? code : run_parts(t, text, &parts, &out, err);
    if (!code && (flags & MB_TOKENIZE_SPECIAL) && vocab->add_eos && vocab->eos != MB_TOKEN_NONE && mb_ids_add(&out, vocab->eos))
        code = mb_fail_memory(err);
    free(parts.list);
    if (code) {
        free(out.ids);
        return code;
    }
    *ids = out.ids;
    *n = out.n;
    return MB_OK;
}

/* ---- tokens to text ---- */

int mb_token_bytes(const struct mb_tokenizer *t, int32_t id, const char **bytes, size_t *n)
{
    if (id < 0 || (uint32_t)id >= t->vocab.n_tokens)
        return MB_ERANGE;
    *bytes = t->pieces[id].bytes;
    *n = t->pieces[id].n;
    return MB_OK;
}

int32_t mb_token_find(const struct mb_tokenizer *t, const char *text)
{
    return mb_vocab_find(&t->vocab, text, strlen(text));
}

static int has_kind(const struct mb_tokenizer *t, int32_t id, unsigned kinds)
{
    return id >= 0 && (uint32_t)id < t->vocab.n_tokens && (t->vocab.kinds[id] & kinds) != 0;
}

int mb_token_is_eog(const struct mb_tokenizer *t, int32_t id)
{
    return has_kind(t, id, MB_TOKEN_EOG);
}

int mb_token_is_control(const struct mb_tokenizer *t, int32_t id)
{
    return has_kind(t, id, MB_TOKEN_CONTROL | MB_TOKEN_UNKNOWN);
}

/* What a token shows. *start: no text has been shown yet, so that the first blank may be the tokenizer's own. */
static struct piece shown(const struct mb_tokenizer *t, int32_t id, unsigned flags, int *start)
{
    struct piece piece = {"", 0};
    if (id < 0 || (uint32_t)id >= t->vocab.n_tokens)
        return piece;
    if (has_kind(t, id, MB_TOKEN_CONTROL | MB_TOKEN_UNKNOWN))
        return flags & MB_DETOKENIZE_CONTROL ? t->pieces[id] : piece;
    piece = t->pieces[id];
    if (*start && piece.n) {
        *start = 0;
        if ((flags & MB_DETOKENIZE_START) && t->vocab.add_space_prefix && piece.bytes[0] == ' ') {
            piece.bytes++;
            piece.n--;
        }
    }
    return piece;
}

int mb_detokenize(const struct mb_tokenizer *t, const int32_t *ids, size_t n, unsigned flags, char **text, size_t *n_bytes,
                  struct mb_err *err)
{
    size_t length = 0;
    int start = 1;
    for (size_t i = 0; i < n; i++)
        length += shown(t, ids[i], flags, &start).n;
    char *out = malloc(length + 1), *to = out;
    if (!out)
        return mb_fail_memory(err);
    start = 1;
    for (size_t i = 0; i < n; i++) {
        struct piece piece = shown(t, ids[i], flags, &start);
        memcpy(to, piece.bytes, piece.n);
        to += piece.n;
    }
    *to = 0;
    *text = out;
    *n_bytes = length;
    return MB_OK;
}

struct mb_detok {
    const struct mb_tokenizer *tokenizer;
    unsigned flags;
    int start;
    size_t n; /* bytes that wait, at the start of in */
    char *in; /* they, and the bytes of a token */
    char out[];
};

int mb_detok_open(const struct mb_tokenizer *tokenizer, unsigned flags, struct mb_detok **out, struct mb_err *err)
{
    size_t n = 4 + (size_t)tokenizer->piece_bytes_max;
    struct mb_detok *detok = malloc(sizeof *detok + 3 * n + 1 + n); /* a byte may become U+FFFD, which has three */
    if (!detok)
        return mb_fail_memory(err);
    detok->tokenizer = tokenizer;
    detok->in = detok->out + 3 * n + 1;
    mb_detok_reset(detok, flags);
    *out = detok;
    return MB_OK;
}

void mb_detok_close(struct mb_detok *detok)
{
    free(detok);
}

void mb_detok_reset(struct mb_detok *detok, unsigned flags)
{
    detok->flags = flags;
    detok->start = 1;
    detok->n = 0;
}

/* Give out what is complete; all of it at the end. */
static const char *give(struct mb_detok *detok, int at_end, size_t *n)
{
    size_t at = 0, n_out = 0;
    while (at < detok->n) {
        int length = mb_utf8_sequence(detok->in + at, detok->n - at);
        if (length < 0 && !at_end)
            break;
        if (length > 0) {
            memcpy(detok->out + n_out, detok->in + at, (size_t)length);
            n_out += (size_t)length;
        } else {
            memcpy(detok->out + n_out, "\xef\xbf\xbd", 3);
            n_out += 3;
        }
        at += length > 0 ? (size_t)length : 1;
        if (length < 0) /* one mark for a character that ends too early */
            at = detok->n;
    }
    detok->n -= at;
    memmove(detok->in, detok->in + at, detok->n);
    detok->out[n_out] = 0;
    *n = n_out;
    return detok->out;
}

const char *mb_detok_add(struct mb_detok *detok, int32_t id, size_t *n)
{
    struct piece piece = shown(detok->tokenizer, id, detok->flags, &detok->start);
    memcpy(detok->in + detok->n, piece.bytes, piece.n);
    detok->n += piece.n;
    return give(detok, 0, n);
}

const char *mb_detok_end(struct mb_detok *detok, size_t *n)
{
    return give(detok, 1, n);
}

/* ---- opening ---- */

const struct mb_tokenizer_info *mb_tokenizer_info(const struct mb_tokenizer *tokenizer)
{
    return &tokenizer->info;
}

void mb_tokenizer_close(struct mb_tokenizer *t)
{
    if (!t)
        return;
    mb_bpe_close(t->bpe);
    mb_vocab_free(&t->vocab);
    mb_arena_free(&t->arena);
    free(t);
}

int mb_tokenizer_open(const struct mb_gguf *gguf, struct mb_tokenizer **out, struct mb_err *err)
{
    struct mb_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return mb_fail_memory(err);
    struct mb_vocab *vocab = &t->vocab;
    int code = mb_vocab_read(gguf, vocab, err);
    if (!code && vocab->model == MB_VOCAB_BPE)
        code = mb_bpe_open(gguf, vocab, vocab->family, &t->bpe, err);
    if (!code && (make_pieces(t) || make_groups(t)))
        code = mb_fail_memory(err);
    if (code) {
        mb_tokenizer_close(t);
        return code;
    }
    if (vocab->model == MB_VOCAB_SPM)
        mb_spm_open(vocab, &t->spm);
    t->info = (struct mb_tokenizer_info){
        .n_vocab = vocab->n_tokens, .bos = vocab->bos, .eos = vocab->eos, .eot = vocab->eot, .unk = vocab->unk,
        .add_bos = vocab->add_bos, .add_eos = vocab->add_eos, .add_space_prefix = vocab->add_space_prefix, .pre = vocab->pre};
    if (vocab->family && !vocab->pre)
        t->info.warning = "the file does not name its pre-tokenizer (tokenizer.ggml.pre), so that text may become other tokens "
                          "than in training; convert the model anew";
    *out = t;
    return MB_OK;
}
