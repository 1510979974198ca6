/* SPDX-License-Identifier: MIT */
/* The header of a GGUF file as a table of tensors and a table of metadata.
 *
 * Every byte is hostile until checked here. A part owns the bytes of its header and nothing of the
 * data; values stay where they lie in those bytes and are decoded when asked for, because a
 * tokenizer's arrays are most of a header and few callers want them. Names and texts are copied
 * once, so that they are terminated. Opening files and finding the other parts of a split model is
 * left to gguf_split.c. */
#include "model/gguf.h"

#include "base/base.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER_MAX = 512 * 1024 * 1024, /* real headers are 1 to 30 MiB */
    COUNT_MAX = 1 << 20,   /* tensors or pairs of one file; the largest known have some 10^4 */
    KEY_MAX = 65535,       /* the specification's bound */
    NAME_MAX_BYTES = 1023, /* ggml itself stops at 63 */
    DEPTH_MAX = 4,         /* arrays inside arrays; no known file has any */
    MARK_STEP = 64         /* texts of an array per remembered position */
};

struct part {
    struct mb_gguf_part info;
    unsigned char *bytes; /* [header_bytes] */
    struct mb_arena arena;
    struct mb_gguf_kv *kvs;
    const struct mb_gguf_kv **kvs_by_key; /* sorted */
    unsigned n_kvs;
    struct mb_gguf_tensor *tensors;
};

struct mb_gguf {
    struct part *parts;
    unsigned n_parts;
    struct mb_gguf_tensor *tensors; /* of all parts; made by finish, like all below */
    const struct mb_gguf_tensor **tensors_by_name; /* sorted */
    unsigned n_tensors;
    uint64_t tensor_bytes, file_bytes;
    enum mb_gguf_kind kind;
};

/* Bytes of a value of fixed size; 0 for texts and arrays. */
static const unsigned char value_bytes[MB_GGUF_VALUE_END] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

const char *mb_gguf_value_name(enum mb_gguf_value type)
{
    static const char *const names[MB_GGUF_VALUE_END] = {"u8",  "i8",  "u16",  "i16",  "u32",
                                                         "i32", "f32", "bool", "text", "array",
                                                         "u64", "i64", "f64"};
    return (unsigned)type < MB_GGUF_VALUE_END ? names[type] : "unknown";
}

const char *mb_gguf_kind_name(enum mb_gguf_kind kind)
{
    static const char *const names[] = {"model", "LoRA adapter", "image or audio encoder (mmproj)",
                                        "vocabulary", "auxiliary file"};
    return (unsigned)kind < MB_COUNT(names) ? names[kind] : "unknown";
}

/* ---- reading with bounds ---- */

struct cursor {
    const unsigned char *bytes;
    size_t n, at;
    uint64_t file_bytes;
    int swap; /* big endian */
    const char *label;
    struct mb_err *err;
    int code; /* the first failure; nothing is read after it */
};

static uint64_t load(const unsigned char *from, unsigned n, int swap)
{
    /* The length of every token of a vocabulary: compilers make one load of this. */
    if (n == 8 && !swap)
        return from[0] | (uint64_t)from[1] << 8 | (uint64_t)from[2] << 16 | (uint64_t)from[3] << 24 |
               (uint64_t)from[4] << 32 | (uint64_t)from[5] << 40 | (uint64_t)from[6] << 48 |
               (uint64_t)from[7] << 56;
    uint64_t value = 0;
    for (unsigned i = 0; i < n; i++)
        value |= (uint64_t)from[swap ? n - 1 - i : i] << (8 * i);
    return value;
}

/* Are n more bytes here? If not: is it us who have too few of the file, or is the file too short?
 */
static int want(struct cursor *c, uint64_t n)
{
    if (c->code)
        return 0;
    if (n <= c->n - c->at)
        return 1;
    char there[32], missing[32];
    if (n > c->file_bytes - c->at) {
        mb_format_bytes((double)c->file_bytes, there, sizeof there);
        mb_format_bytes((double)n - (double)(c->file_bytes - c->at), missing, sizeof missing);
        c->code = mb_fail(
            c->err, MB_EFORMAT,
            "%s: truncated or damaged: the header goes on after the file's end (%s are there, at least "
            "%s are missing); download it again",
            c->label, there, missing);
    } else if (n > HEADER_MAX - c->at) {
        c->code = mb_fail(c->err, MB_EFORMAT, "%s: the header is over 512 MiB; the file is damaged",
                          c->label);
    } else {
        c->code =
            mb_fail(c->err, MB_EMORE, "%s: %zu bytes are not the whole header", c->label, c->n);
    }
    return 0;
}

static uint64_t take(struct cursor *c, unsigned n)
{
    if (!want(c, n))
        return 0;
    uint64_t value = load(c->bytes + c->at, n, c->swap);
    c->at += n;
    return value;
}

static void skip(struct cursor *c, uint64_t n)
{
    if (want(c, n))
        c->at += (size_t)n;
}

/* n items of at least `bytes` each. A count is believed only if the rest of the file could hold it.
 */
static void want_items(struct cursor *c, uint64_t n, unsigned bytes)
{
    if (n > (UINT64_MAX >> 8) / bytes)
        n = UINT64_MAX >> 8; /* more than any file has, so want() refuses it in its own words */
    else
        n *= bytes;
    want(c, n);
}

static int is_utf8(const unsigned char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned char lead = text[i];
        unsigned more = lead < 0x80   ? 0
                        : lead < 0xc2 ? 9
                        : lead < 0xe0 ? 1
                        : lead < 0xf0 ? 2
                        : lead < 0xf5 ? 3
                                      : 9;
        if (more == 9 || more >= n - i)
            return 0;
        uint32_t point = more ? lead & (0x3fu >> more) : lead;
        for (unsigned k = 1; k <= more; k++) {
            if ((text[i + k] & 0xc0) != 0x80)
                return 0;
            point = point << 6 | (text[i + k] & 0x3f);
        }
        if ((more == 2 && point < 0x800) || (more == 3 && point < 0x10000) ||
            (point >= 0xd800 && point < 0xe000) || point > 0x10ffff)
            return 0;
        i += more + 1;
    }
    return 1;
}

/* A name: terminated copy, at most max bytes, UTF-8 without NUL. what names it in an error. */
static const char *take_name(struct cursor *c, struct mb_arena *arena, size_t max, const char *what,
                             unsigned no)
{
    uint64_t n = take(c, 8);
    if (c->code)
        return NULL;
    if (n > max) {
        c->code = mb_fail(c->err, MB_EFORMAT,
                          "%s: the name of %s %u claims %" PRIu64 " bytes; the file is damaged",
                          c->label, what, no, n);
        return NULL;
    }
    if (!want(c, n))
        return NULL;
    const unsigned char *text = c->bytes + c->at;
    if (!n || memchr(text, 0, (size_t)n) || !is_utf8(text, (size_t)n)) {
        c->code = mb_fail(c->err, MB_EFORMAT, "%s: the name of %s %u is %s; the file is damaged",
                          c->label, what, no, n ? "not UTF-8 text" : "empty");
        return NULL;
    }
    c->at += (size_t)n;
    const char *copy = mb_arena_text_n(arena, (const char *)text, (size_t)n);
    if (!copy)
        c->code = mb_fail_memory(c->err);
    return copy;
}

/* ---- metadata ---- */

static enum mb_gguf_value take_type(struct cursor *c, const char *key)
{
    uint32_t type = (uint32_t)take(c, 4);
    if (!c->code && type >= MB_GGUF_VALUE_END)
        c->code = mb_fail(c->err, MB_EFORMAT,
                          "%s: the value of %.80s has the unknown type %" PRIu32
                          "; the file is damaged or newer than this program",
                          c->label, key, type);
    return c->code ? MB_GGUF_U8 : (enum mb_gguf_value)type;
}

/* Step over the items of an array. marks (may be NULL) gets the place of each MARK_STEPth text. */
static void skip_items(struct cursor *c, const char *key, enum mb_gguf_value type, uint64_t n,
                       uint32_t *marks, unsigned depth)
{
    if (value_bytes[type]) {
        want_items(c, n, value_bytes[type]);
        if (!c->code)
            c->at += (size_t)n * value_bytes[type];
        return;
    }
    if (type == MB_GGUF_ARRAY && depth >= DEPTH_MAX) {
        c->code = mb_fail(c->err, MB_EFORMAT,
                          "%s: the value of %.80s nests arrays over %d deep; the file is damaged",
                          c->label, key, DEPTH_MAX);
        return;
    }
    for (uint64_t i = 0; i < n && !c->code; i++) {
        if (marks && i % MARK_STEP == 0)
            marks[i / MARK_STEP] = (uint32_t)c->at;
        if (type == MB_GGUF_TEXT) {
            skip(c, take(c, 8));
        } else {
            enum mb_gguf_value inner = take_type(c, key);
            uint64_t inner_n = take(c, 8);
            if (!c->code)
                skip_items(c, key, inner, inner_n, NULL, depth + 1);
        }
    }
}

static void take_value(struct cursor *c, struct part *part, struct mb_gguf_kv *kv)
{
    kv->type = kv->item_type = take_type(c, kv->key);
    kv->n = 1;
    kv->at = c->at;
    if (c->code)
        return;
    if (value_bytes[kv->type]) {
        skip(c, value_bytes[kv->type]);
    } else if (kv->type == MB_GGUF_TEXT) {
        uint64_t n = take(c, 8);
        if (!want(c, n))
            return;
        kv->text = mb_arena_text_n(&part->arena, (const char *)c->bytes + c->at, (size_t)n);
        if (!kv->text)
            c->code = mb_fail_memory(c->err);
        c->at += (size_t)n;
    } else {
        kv->item_type = take_type(c, kv->key);
        kv->n = take(c, 8);
        kv->at = c->at;
        if (c->code)
            return;
        uint32_t *marks = NULL;
        if (kv->item_type == MB_GGUF_TEXT) {
            want_items(c, kv->n, 8); /* before the allocation, which is a 128th of this */
            if (c->code)
                return;
            marks = mb_arena_array(&part->arena, (size_t)(kv->n / MARK_STEP) + 1, sizeof *marks);
            if (!marks) {
                c->code = mb_fail_memory(c->err);
                return;
            }
            kv->marks = marks;
        }
        skip_items(c, kv->key, kv->item_type, kv->n, marks, 1);
    }
}

static int compare_kvs(const void *a, const void *b)
{
    return strcmp((*(const struct mb_gguf_kv *const *)a)->key,
                  (*(const struct mb_gguf_kv *const *)b)->key);
}

static void take_kvs(struct cursor *c, struct part *part, unsigned n)
{
    for (unsigned i = 0; i < n && !c->code; i++) {
        /* One by one and not n at once: n is a claim until that many pairs were read. */
        struct mb_gguf_kv *kv = mb_arena_append(&part->arena, &part->kvs, &part->n_kvs, sizeof *kv);
        if (!kv) {
            c->code = mb_fail_memory(c->err);
            return;
        }
        kv->key = take_name(c, &part->arena, KEY_MAX, "metadata pair", i);
        if (kv->key)
            take_value(c, part, kv);
    }
    if (c->code)
        return;
    part->kvs_by_key = mb_arena_array(&part->arena, n, sizeof *part->kvs_by_key);
    if (!part->kvs_by_key) {
        c->code = mb_fail_memory(c->err);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        part->kvs_by_key[i] = &part->kvs[i];
    qsort(part->kvs_by_key, n, sizeof *part->kvs_by_key, compare_kvs);
    for (unsigned i = 1; i < n; i++) {
        if (strcmp(part->kvs_by_key[i - 1]->key, part->kvs_by_key[i]->key) == 0) {
            c->code =
                mb_fail(c->err, MB_EFORMAT, "%s: the key %.80s is there twice; the file is damaged",
                        c->label, part->kvs_by_key[i]->key);
            return;
        }
    }
}

static const struct mb_gguf_kv *find_kv(const struct part *part, const char *key)
{
    struct mb_gguf_kv wanted = {.key = key};
    const struct mb_gguf_kv *at = &wanted;
    if (!part->n_kvs)
        return NULL;
    const struct mb_gguf_kv **found =
        bsearch(&at, part->kvs_by_key, part->n_kvs, sizeof *part->kvs_by_key, compare_kvs);
    return found ? *found : NULL;
}

/* ---- numbers out of metadata ---- */

struct number {
    enum { POSITIVE, NEGATIVE, REAL } kind;
    uint64_t u;
    int64_t i;
    double f;
};

static int load_number(const struct part *part, enum mb_gguf_value type, size_t at,
                       struct number *out)
{
    unsigned n = value_bytes[type];
    if (!n)
        return MB_EFORMAT;
    uint64_t bits = load(part->bytes + at, n, part->info.big_endian);
    *out = (struct number){POSITIVE, bits, 0, 0};
    if (type == MB_GGUF_BOOL) {
        out->u = bits != 0;
    } else if (type == MB_GGUF_F32) {
        uint32_t word = (uint32_t)bits;
        float f;
        memcpy(&f, &word, sizeof f);
        *out = (struct number){REAL, 0, 0, (double)f};
    } else if (type == MB_GGUF_F64) {
        *out = (struct number){REAL, 0, 0, 0};
        memcpy(&out->f, &bits, sizeof out->f);
    } else if (type == MB_GGUF_I8 || type == MB_GGUF_I16 || type == MB_GGUF_I32 ||
               type == MB_GGUF_I64) {
        uint64_t sign = UINT64_C(1) << (8 * n - 1);
        if (bits & sign)
            *out = (struct number){NEGATIVE, 0, (int64_t)(bits | ~(sign | (sign - 1))), 0};
    }
    return MB_OK;
}

/* The number of item i; a scalar is every item. kv NULL: there is none. */
static int number_of(const struct part *part, const struct mb_gguf_kv *kv, int is_item, uint64_t i,
                     struct number *out)
{
    if (!kv)
        return MB_ENODATA;
    if (kv->type != MB_GGUF_ARRAY)
        return load_number(part, kv->type, kv->at, out);
    if (!is_item || !value_bytes[kv->item_type])
        return MB_EFORMAT;
    if (i >= kv->n)
        return MB_ERANGE;
    return load_number(part, kv->item_type, kv->at + (size_t)i * value_bytes[kv->item_type], out);
}

static int number_at(const struct mb_gguf *gguf, unsigned part_no, const char *key, int is_item,
                     uint64_t i, struct number *out)
{
    if (part_no >= gguf->n_parts)
        return MB_ENODATA;
    const struct part *part = &gguf->parts[part_no];
    return number_of(part, find_kv(part, key), is_item, i, out);
}

/* Whole numbers up to 2^53 are exact in a double; NaN fails every comparison. */
static int is_whole(double f)
{
    return f >= -9007199254740992.0 && f <= 9007199254740992.0 && (double)(int64_t)f == f;
}

static int as_u64(int code, const struct number *number, uint64_t *out)
{
    if (code)
        return code;
    if (number->kind == NEGATIVE ||
        (number->kind == REAL && !(is_whole(number->f) && number->f >= 0)))
        return MB_EFORMAT;
    *out = number->kind == REAL ? (uint64_t)number->f : number->u;
    return MB_OK;
}

static int as_i64(int code, const struct number *number, int64_t *out)
{
    if (code)
        return code;
    if ((number->kind == POSITIVE && number->u > INT64_MAX) ||
        (number->kind == REAL && !is_whole(number->f)))
        return MB_EFORMAT;
    *out = number->kind == REAL       ? (int64_t)number->f
           : number->kind == NEGATIVE ? number->i
                                      : (int64_t)number->u;
    return MB_OK;
}

static int as_f64(int code, const struct number *number, double *out)
{
    if (code)
        return code;
    *out = number->kind == REAL       ? number->f
           : number->kind == NEGATIVE ? (double)number->i
                                      : (double)number->u;
    return MB_OK;
}

int mb_gguf_part_u64(const struct mb_gguf *gguf, unsigned part, const char *key, uint64_t *out)
{
    struct number number;
    return as_u64(number_at(gguf, part, key, 0, 0, &number), &number, out);
}

int mb_gguf_get_u64(const struct mb_gguf *gguf, const char *key, uint64_t *out)
{
    return mb_gguf_part_u64(gguf, 0, key, out);
}

int mb_gguf_get_i64(const struct mb_gguf *gguf, const char *key, int64_t *out)
{
    struct number number;
    return as_i64(number_at(gguf, 0, key, 0, 0, &number), &number, out);
}

int mb_gguf_get_f64(const struct mb_gguf *gguf, const char *key, double *out)
{
    struct number number;
    return as_f64(number_at(gguf, 0, key, 0, 0, &number), &number, out);
}

int mb_gguf_get_bool(const struct mb_gguf *gguf, const char *key, int *out)
{
    struct number number;
    int code = number_at(gguf, 0, key, 0, 0, &number);
    if (code || number.kind == REAL)
        return code ? code : MB_EFORMAT;
    *out = number.kind == NEGATIVE || number.u != 0;
    return MB_OK;
}

int mb_gguf_get_text(const struct mb_gguf *gguf, const char *key, const char **out)
{
    const struct mb_gguf_kv *kv = mb_gguf_find_kv(gguf, key);
    if (!kv)
        return MB_ENODATA;
    if (!kv->text)
        return MB_EFORMAT;
    *out = kv->text;
    return MB_OK;
}

int mb_gguf_array_n(const struct mb_gguf *gguf, const char *key, uint64_t *out_n,
                    enum mb_gguf_value *out_type)
{
    const struct mb_gguf_kv *kv = mb_gguf_find_kv(gguf, key);
    if (!kv)
        return MB_ENODATA;
    if (kv->type != MB_GGUF_ARRAY)
        return MB_EFORMAT;
    *out_n = kv->n;
    *out_type = kv->item_type;
    return MB_OK;
}

int mb_gguf_get_u64_at(const struct mb_gguf *gguf, const char *key, uint64_t i, uint64_t *out)
{
    struct number number;
    return as_u64(number_at(gguf, 0, key, 1, i, &number), &number, out);
}

int mb_gguf_get_i64_at(const struct mb_gguf *gguf, const char *key, uint64_t i, int64_t *out)
{
    struct number number;
    return as_i64(number_at(gguf, 0, key, 1, i, &number), &number, out);
}

int mb_gguf_get_f64_at(const struct mb_gguf *gguf, const char *key, uint64_t i, double *out)
{
    struct number number;
    return as_f64(number_at(gguf, 0, key, 1, i, &number), &number, out);
}

int mb_gguf_item_u64(const struct mb_gguf *gguf, const struct mb_gguf_kv *kv, uint64_t i,
                     uint64_t *out)
{
    struct number number;
    return as_u64(number_of(&gguf->parts[0], kv, 1, i, &number), &number, out);
}

int mb_gguf_item_f64(const struct mb_gguf *gguf, const struct mb_gguf_kv *kv, uint64_t i,
                     double *out)
{
    struct number number;
    return as_f64(number_of(&gguf->parts[0], kv, 1, i, &number), &number, out);
}

/* The array of texts of that name. */
static int find_texts(const struct mb_gguf *gguf, const char *key, const struct mb_gguf_kv **out)
{
    *out = mb_gguf_find_kv(gguf, key);
    return !*out ? MB_ENODATA : (*out)->marks ? MB_OK : MB_EFORMAT;
}

int mb_gguf_texts(const struct mb_gguf *gguf, const char *key, struct mb_gguf_texts *out)
{
    const struct mb_gguf_kv *kv;
    int code = find_texts(gguf, key, &kv);
    if (!code)
        *out = (struct mb_gguf_texts){gguf, kv->n ? kv->marks[0] : 0, kv->n};
    return code;
}

int mb_gguf_next_text(struct mb_gguf_texts *texts, const char **out, size_t *out_n)
{
    if (!texts->n_left)
        return 0;
    /* The lengths were checked when the header was read, so that the walk cannot leave it. */
    const struct part *part = &texts->gguf->parts[0];
    *out_n = (size_t)load(part->bytes + texts->at, 8, part->info.big_endian);
    *out = (const char *)part->bytes + texts->at + 8;
    texts->at += 8 + *out_n;
    texts->n_left--;
    return 1;
}

int mb_gguf_get_text_at(const struct mb_gguf *gguf, const char *key, uint64_t i, const char **out,
                        size_t *out_n)
{
    const struct mb_gguf_kv *kv;
    int code = find_texts(gguf, key, &kv);
    if (code)
        return code;
    if (i >= kv->n)
        return MB_ERANGE;
    struct mb_gguf_texts texts = {gguf, kv->marks[i / MARK_STEP], kv->n - i / MARK_STEP * MARK_STEP};
    for (uint64_t k = 0; k <= i % MARK_STEP; k++)
        mb_gguf_next_text(&texts, out, out_n);
    return MB_OK;
}

/* ---- tensors ---- */

static void check_size(struct cursor *c, struct mb_gguf_tensor *tensor)
{
    const char *name = tensor->name;
    const struct mb_type_info *type = mb_type_info(tensor->type);
    switch (mb_type_bytes(tensor->type, tensor->ne, tensor->n_dims, &tensor->bytes)) {
    case MB_OK:
        return;
    case MB_EINVAL:
        c->code = mb_fail(
            c->err, MB_EFORMAT,
            "%s: tensor %.80s is of type %" PRIu32
            ", which this program does not know; take a file of a standard type, or a newer program",
            c->label, name, tensor->type);
        return;
    case MB_EFORMAT:
        c->code = mb_fail(c->err, MB_EFORMAT,
                          "%s: tensor %.80s has rows of %" PRIu64
                          " elements, which is no multiple of the %u of a %s "
                          "block; the file is damaged",
                          c->label, name, tensor->ne[0], type ? type->block_elements : 0,
                          mb_type_name(tensor->type));
        return;
    default:
        c->code = mb_fail(c->err, MB_EFORMAT,
                          "%s: tensor %.80s is larger than any file; the file is damaged", c->label,
                          name);
    }
}

static void take_tensors(struct cursor *c, struct part *part, unsigned n)
{
    for (unsigned i = 0; i < n && !c->code; i++) {
        struct mb_gguf_tensor *tensor =
            mb_arena_append(&part->arena, &part->tensors, &part->info.n_tensors, sizeof *tensor);
        if (!tensor) {
            c->code = mb_fail_memory(c->err);
            return;
        }
        tensor->name = take_name(c, &part->arena, NAME_MAX_BYTES, "tensor", i);
        tensor->n_dims = (unsigned)take(c, 4);
        if (!c->code && tensor->n_dims > MB_COUNT(tensor->ne))
            c->code = mb_fail(c->err, MB_EFORMAT,
                              "%s: tensor %.80s has %u dimensions, at most 4 exist; the file is "
                              "damaged",
                              c->label, tensor->name, tensor->n_dims);
        for (unsigned k = 0; k < MB_COUNT(tensor->ne) && !c->code; k++) {
            tensor->ne[k] = k < tensor->n_dims ? take(c, 8) : 1;
            if (!c->code && !tensor->ne[k])
                c->code = mb_fail(c->err, MB_EFORMAT,
                                  "%s: tensor %.80s has a dimension of 0; the file is damaged",
                                  c->label, tensor->name);
        }
        tensor->type = (uint32_t)take(c, 4);
        tensor->offset = take(c, 8);
        if (!c->code)
            check_size(c, tensor);
    }
}

static int compare_offsets(const void *a, const void *b)
{
    uint64_t x = (*(const struct mb_gguf_tensor *const *)a)->offset;
    uint64_t y = (*(const struct mb_gguf_tensor *const *)b)->offset;
    return (x > y) - (x < y);
}

/* Make the offsets absolute; they are aligned, do not overlap, and end inside the file. */
static void place_tensors(struct cursor *c, struct part *part)
{
    unsigned n = part->info.n_tensors;
    const struct mb_gguf_tensor **order = n ? malloc(n * sizeof *order) : NULL;
    if (n && !order) {
        c->code = mb_fail_memory(c->err);
        return;
    }
    uint64_t end = part->info.data_offset;
    for (unsigned i = 0; i < n && !c->code; i++) {
        struct mb_gguf_tensor *tensor = &part->tensors[i];
        uint64_t room = (uint64_t)INT64_MAX - part->info.data_offset;
        if (tensor->offset % part->info.alignment)
            c->code = mb_fail(c->err, MB_EFORMAT,
                              "%s: tensor %.80s lies at offset %" PRIu64
                              ", which is no multiple of the alignment %u; "
                              "the file is damaged",
                              c->label, tensor->name, tensor->offset, part->info.alignment);
        else if (tensor->offset > room || tensor->bytes > room - tensor->offset)
            c->code = mb_fail(c->err, MB_EFORMAT,
                              "%s: tensor %.80s lies outside any file; the file is damaged",
                              c->label, tensor->name);
        else
            tensor->offset += part->info.data_offset;
        if (tensor->offset + tensor->bytes > end)
            end = tensor->offset + tensor->bytes;
        order[i] = tensor;
    }
    if (!c->code && n)
        qsort(order, n, sizeof *order, compare_offsets);
    for (unsigned i = 1; i < n && !c->code; i++)
        if (order[i]->offset - order[i - 1]->offset < order[i - 1]->bytes)
            c->code = mb_fail(c->err, MB_EFORMAT,
                              "%s: the tensors %.80s and %.80s overlap; the file is damaged",
                              c->label, order[i - 1]->name, order[i]->name);
    free(order);
    if (!c->code && n && end > part->info.file_bytes) {
        char there[32], whole[32], missing[32];
        mb_format_bytes((double)part->info.file_bytes, there, sizeof there);
        mb_format_bytes((double)end, whole, sizeof whole);
        mb_format_bytes((double)(end - part->info.file_bytes), missing, sizeof missing);
        char *unit = strchr(there, ' '), *whole_unit = strchr(whole, ' ');
        if (unit && whole_unit && strcmp(unit, whole_unit) == 0)
            *unit = 0; /* "1.2 of 4.7 GiB" */
        c->code =
            mb_fail(c->err, MB_EFORMAT,
                    "%s: truncated download: %s of %s are there, %s missing; download the rest",
                    c->label, there, whole, missing);
    }
}

/* ---- one file ---- */

static void take_magic(struct cursor *c, struct part *part)
{
    if (c->n < 4 || memcmp(c->bytes, "GGUF", 4) != 0) {
        if (c->n < 64 && c->n < c->file_bytes) {
            want(c, c->file_bytes < 64 ? c->file_bytes : 64); /* enough to say what it is instead */
            return;
        }
        const char *what = mb_source_sniff(c->bytes, c->n);
        if (what)
            c->code = mb_fail(c->err, MB_EFORMAT, "%s: not a GGUF file but %s", c->label, what);
        else
            c->code = mb_fail(c->err, MB_EFORMAT, "%s: not a GGUF file", c->label);
        return;
    }
    c->at = 4;
    uint32_t version = (uint32_t)take(c, 4);
    /* Versions are small: if the low half is empty, the bytes were written in the other order. */
    if (!c->code && (version & 0xffff) == 0) {
        c->swap = 1;
        version = (uint32_t)load(c->bytes + 4, 4, 1);
    }
    part->info.version = version;
    part->info.big_endian = c->swap;
    if (!c->code && (version < 2 || version > 3))
        c->code = mb_fail(
            c->err, MB_EFORMAT, "%s: GGUF version %" PRIu32 ", but this program reads 2 and 3; %s",
            c->label, version,
            version == 1 ? "take a newer file of this model" : "the file is damaged or newer");
}

static unsigned take_count(struct cursor *c, const char *what, unsigned least_bytes)
{
    uint64_t n = take(c, 8);
    if (c->code)
        return 0;
    /* file_bytes may be unknown; COUNT_MAX bounds what follows in any case. */
    if (n > COUNT_MAX || n > c->file_bytes / least_bytes) {
        c->code =
            mb_fail(c->err, MB_EFORMAT, "%s: the header claims %" PRIu64 " %s; the file is damaged",
                    c->label, n, what);
        return 0;
    }
    return (unsigned)n;
}

static void free_part(struct part *part)
{
    mb_arena_free(&part->arena);
    free(part->bytes);
}

static int parse_part(struct part *part, const unsigned char *bytes, size_t n, struct mb_err *err)
{
    /* Places in the header are kept in 32 bits, so that nothing behind HEADER_MAX may be looked at.
     */
    struct cursor cursor = {bytes, n < HEADER_MAX ? n : HEADER_MAX,  0,   part->info.file_bytes,
                            0,     mb_source_label(part->info.path), err, MB_OK};
    struct cursor *c = &cursor;
    take_magic(c, part);
    unsigned n_tensors = take_count(c, "tensors", 24);
    unsigned n_kvs = take_count(c, "pairs of metadata", 13);
    take_kvs(c, part, n_kvs);
    if (!c->code)
        take_tensors(c, part, n_tensors);
    if (c->code)
        return c->code;
    part->info.header_bytes = c->at;
    part->info.alignment = 32;
    const struct mb_gguf_kv *alignment = find_kv(part, "general.alignment");
    if (alignment) {
        /* load_number() reads from part->bytes, which are not ours yet. */
        uint64_t value =
            alignment->type == MB_GGUF_U32 ? load(bytes + alignment->at, 4, c->swap) : 0;
        if (value == 0 || value > 1 << 30 || (value & (value - 1)))
            return mb_fail(err, MB_EFORMAT,
                           "%s: general.alignment is no power of two; the file is damaged",
                           c->label);
        part->info.alignment = (uint32_t)value;
    }
    uint64_t mask = part->info.alignment - 1;
    part->info.data_offset = (part->info.header_bytes + mask) & ~mask;
    place_tensors(c, part);
    return c->code;
}

struct mb_gguf *mb_gguf_new(void)
{
    return calloc(1, sizeof(struct mb_gguf));
}

int mb_gguf_add_part(struct mb_gguf *gguf, unsigned char *bytes, size_t n, uint64_t file_bytes,
                     const char *path, struct mb_err *err)
{
    struct part part = {.info = {.path = path, .file_bytes = file_bytes < n ? n : file_bytes}};
    int code = parse_part(&part, bytes, n, err);
    if (!code) {
        struct part *larger = realloc(gguf->parts, (gguf->n_parts + 1) * sizeof *larger);
        if (larger)
            gguf->parts = larger;
        part.info.path = mb_arena_text(&part.arena, path);
        if (!larger || !part.info.path)
            code = mb_fail_memory(err);
    }
    if (code) {
        free_part(&part);
        return code;
    }
    /* Shrinking cannot fail in a way that matters: the larger block stays valid. */
    unsigned char *smaller = realloc(bytes, (size_t)part.info.header_bytes);
    part.bytes = smaller ? smaller : bytes;
    for (unsigned i = 0; i < part.info.n_tensors; i++)
        part.tensors[i].part = gguf->n_parts;
    gguf->parts[gguf->n_parts++] = part;
    return MB_OK;
}

/* ---- all parts ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct mb_gguf_tensor *const *)a)->name,
                  (*(const struct mb_gguf_tensor *const *)b)->name);
}

static enum mb_gguf_kind find_kind(const struct mb_gguf *gguf)
{
    const char *type = "", *arch = "";
    mb_gguf_get_text(gguf, "general.type", &type);
    mb_gguf_get_text(gguf, "general.architecture", &arch);
    if (strcmp(type, "adapter") == 0 || mb_gguf_find_kv(gguf, "adapter.type"))
        return MB_GGUF_ADAPTER;
    if (strcmp(type, "mmproj") == 0 || strcmp(type, "clip-vision") == 0 ||
        strcmp(arch, "clip") == 0)
        return MB_GGUF_MMPROJ;
    if (strcmp(type, "imatrix") == 0 || strcmp(arch, "controlvector") == 0)
        return MB_GGUF_OTHER;
    return strcmp(type, "vocab") == 0 || !gguf->n_tensors ? MB_GGUF_VOCAB : MB_GGUF_MODEL;
}

int mb_gguf_finish(struct mb_gguf *gguf, struct mb_err *err)
{
    uint64_t n = 0;
    gguf->file_bytes = 0;
    for (unsigned i = 0; i < gguf->n_parts; i++) {
        const struct mb_gguf_part *info = &gguf->parts[i].info;
        n += info->n_tensors;
        int known = gguf->file_bytes <= INT64_MAX && info->file_bytes <= INT64_MAX;
        gguf->file_bytes = known ? gguf->file_bytes + info->file_bytes : MB_SOURCE_UNKNOWN;
    }
    const char *label = mb_source_label(gguf->parts[0].info.path);
    if (n > COUNT_MAX)
        return mb_fail(err, MB_EFORMAT, "%s: the parts hold over %d tensors; the files are damaged",
                       label, COUNT_MAX);
    gguf->tensors = calloc(n ? n : 1, sizeof *gguf->tensors);
    gguf->tensors_by_name = calloc(n ? n : 1, sizeof *gguf->tensors_by_name);
    if (!gguf->tensors || !gguf->tensors_by_name)
        return mb_fail_memory(err);
    for (unsigned i = 0; i < gguf->n_parts; i++) {
        for (unsigned k = 0; k < gguf->parts[i].info.n_tensors; k++) {
            struct mb_gguf_tensor *tensor = &gguf->tensors[gguf->n_tensors];
            *tensor = gguf->parts[i].tensors[k];
            gguf->tensors_by_name[gguf->n_tensors++] = tensor;
            if (tensor->bytes > INT64_MAX - gguf->tensor_bytes)
                return mb_fail(err, MB_EFORMAT,
                               "%s: the tensors are larger than any file; it is damaged", label);
            gguf->tensor_bytes += tensor->bytes;
        }
    }
    qsort(gguf->tensors_by_name, gguf->n_tensors, sizeof *gguf->tensors_by_name, compare_names);
    for (unsigned i = 1; i < gguf->n_tensors; i++)
        if (compare_names(&gguf->tensors_by_name[i - 1], &gguf->tensors_by_name[i]) == 0)
            return mb_fail(err, MB_EFORMAT,
                           "%s: the tensor %.80s is there twice; the file is damaged", label,
                           gguf->tensors_by_name[i]->name);
    gguf->kind = find_kind(gguf);
    return MB_OK;
}

void mb_gguf_close(struct mb_gguf *gguf)
{
    if (!gguf)
        return;
    for (unsigned i = 0; i < gguf->n_parts; i++)
        free_part(&gguf->parts[i]);
    free(gguf->parts);
    free(gguf->tensors);
    free(gguf->tensors_by_name);
    free(gguf);
}

enum mb_gguf_kind mb_gguf_kind(const struct mb_gguf *gguf)
{
    return gguf->kind;
}

unsigned mb_gguf_n_parts(const struct mb_gguf *gguf)
{
    return gguf->n_parts;
}

const struct mb_gguf_part *mb_gguf_part(const struct mb_gguf *gguf, unsigned i)
{
    return i < gguf->n_parts ? &gguf->parts[i].info : NULL;
}

uint64_t mb_gguf_file_bytes(const struct mb_gguf *gguf)
{
    return gguf->file_bytes;
}

uint64_t mb_gguf_tensor_bytes(const struct mb_gguf *gguf)
{
    return gguf->tensor_bytes;
}

unsigned mb_gguf_n_tensors(const struct mb_gguf *gguf)
{
    return gguf->n_tensors;
}

const struct mb_gguf_tensor *mb_gguf_tensor(const struct mb_gguf *gguf, unsigned i)
{
    return i < gguf->n_tensors ? &gguf->tensors[i] : NULL;
}

const struct mb_gguf_tensor *mb_gguf_find_tensor(const struct mb_gguf *gguf, const char *name)
{
    struct mb_gguf_tensor wanted = {.name = name};
    const struct mb_gguf_tensor *at = &wanted;
    const struct mb_gguf_tensor **found = bsearch(&at, gguf->tensors_by_name, gguf->n_tensors,
                                                  sizeof *gguf->tensors_by_name, compare_names);
    return found ? *found : NULL;
}

unsigned mb_gguf_n_kv(const struct mb_gguf *gguf)
{
    return gguf->parts[0].n_kvs;
}

const struct mb_gguf_kv *mb_gguf_kv(const struct mb_gguf *gguf, unsigned i)
{
    return i < gguf->parts[0].n_kvs ? &gguf->parts[0].kvs[i] : NULL;
}

const struct mb_gguf_kv *mb_gguf_find_kv(const struct mb_gguf *gguf, const char *key)
{
    return find_kv(&gguf->parts[0], key);
}
