/* SPDX-License-Identifier: MIT */
/* Values: making them, asking them, printing them as Python does; and the run's bounds. Lists and dicts do not change once
 * a template sees them (the sandbox refuses append and the like), so they are shared freely. */
#include "engine/template_value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Levels of nodes, calls and nested values together. A template's own nesting is checked when it is read. */
enum { DEPTH_MAX = 500 };

/* ---- the run ---- */

struct mb_tv mb_trun_fail(struct mb_trun *run, int code, const char *format, ...)
{
    if (run->code == MB_OK) {
        char text[320];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        run->code = mb_fail(&run->err, code, "chat template, line %u: %s", run->line, text);
    }
    return (struct mb_tv){0};
}

int mb_trun_step(struct mb_trun *run, uint64_t steps)
{
    if (run->steps_left < steps) {
        run->steps_left = 0;
        mb_trun_fail(run, MB_ERANGE, "the template does not end within its bound of steps");
        return 0;
    }
    run->steps_left -= steps;
    return !mb_trun_failed(run);
}

int mb_trun_enter(struct mb_trun *run)
{
    run->depth++;
    if (run->depth > DEPTH_MAX)
        mb_trun_fail(run, MB_ERANGE, "nested more than %d levels deep", DEPTH_MAX);
    return !mb_trun_failed(run);
}

void mb_trun_leave(struct mb_trun *run)
{
    run->depth--;
}

void *mb_trun_alloc(struct mb_trun *run, size_t count, size_t size)
{
    if (mb_trun_failed(run))
        return NULL;
    if (count > run->bytes_left / size || count * size + 16 > run->bytes_left) {
        mb_trun_fail(run, MB_ERANGE, "the template needs more memory than its bound");
        return NULL;
    }
    run->bytes_left -= count * size + 16;
    void *at = mb_arena_array(&run->arena, count, size);
    if (!at)
        mb_trun_fail(run, MB_ENOMEM, "an allocation failed; close other programs and try again");
    return at;
}

/* ---- making ---- */

struct mb_tv mb_tv_undefined(enum mb_tundef what, struct mb_tv name, int of_kind)
{
    struct mb_tv v = {.kind = MB_T_UNDEFINED, .flag = (uint8_t)what, .of = (uint8_t)of_kind};
    if (name.kind == MB_T_TEXT) {
        v.n = name.n;
        v.s = name.s;
    }
    return v;
}

struct mb_tv mb_tv_seq(struct mb_trun *run, int kind, size_t n)
{
    struct mb_tseq *seq = n <= UINT32_MAX ? mb_trun_alloc(run, 1, sizeof *seq) : NULL;
    if (!seq)
        return mb_trun_fail(run, MB_ERANGE, "too many items");
    if (n) {
        seq->items = mb_trun_alloc(run, n, sizeof *seq->items);
        if (!seq->items)
            return (struct mb_tv){0};
        seq->n = (uint32_t)n;
    }
    return (struct mb_tv){.kind = (uint8_t)kind, .seq = seq};
}

struct mb_tv mb_tv_pair(struct mb_trun *run, struct mb_tv a, struct mb_tv b)
{
    struct mb_tv pair = mb_tv_seq(run, MB_T_TUPLE, 2);
    if (!mb_trun_failed(run)) {
        pair.seq->items[0] = a;
        pair.seq->items[1] = b;
    }
    return pair;
}

int mb_tseq_add(struct mb_trun *run, struct mb_tseq *seq, struct mb_tv item)
{
    if (mb_trun_failed(run))
        return 0;
    /* The room is the power of two at or above n, at least 4; lists that grow have no other room. */
    if (seq->n == 0 || (seq->n >= 4 && (seq->n & (seq->n - 1)) == 0)) {
        size_t room = seq->n ? (size_t)seq->n * 2 : 4;
        struct mb_tv *larger = seq->n < UINT32_MAX / 2 ? mb_trun_alloc(run, room, sizeof *larger) : NULL;
        if (!larger) {
            mb_trun_fail(run, MB_ERANGE, "too many items");
            return 0;
        }
        if (seq->n)
            memcpy(larger, seq->items, seq->n * sizeof *larger);
        seq->items = larger;
    }
    seq->items[seq->n++] = item;
    return 1;
}

struct mb_tv mb_tv_dict(struct mb_trun *run)
{
    struct mb_tdict *dict = mb_trun_alloc(run, 1, sizeof *dict);
    return dict ? (struct mb_tv){.kind = MB_T_DICT, .dict = dict} : (struct mb_tv){0};
}

struct mb_tv *mb_tdict_find(struct mb_trun *run, const struct mb_tdict *dict, struct mb_tv key)
{
    if (!mb_trun_step(run, dict->n / 8))
        return NULL;
    for (uint32_t i = 0; i < dict->n; i++) {
        const struct mb_tv *have = &dict->pairs[i].key;
        if (key.kind == MB_T_TEXT ? have->kind == MB_T_TEXT && have->n == key.n && memcmp(have->s, key.s, key.n) == 0
                                  : mb_tv_equal(run, *have, key))
            return &dict->pairs[i].value;
    }
    return NULL;
}

void mb_tdict_set(struct mb_trun *run, struct mb_tdict *dict, struct mb_tv key, struct mb_tv value)
{
    if (!mb_tv_hashable(key)) {
        mb_trun_fail(run, MB_EFORMAT, "unhashable type: '%s'", mb_tv_type(key));
        return;
    }
    struct mb_tv *have = mb_tdict_find(run, dict, key);
    if (mb_trun_failed(run))
        return;
    if (have) {
        *have = value;
        return;
    }
    if (dict->n == dict->room) {
        uint32_t room = dict->room ? dict->room * 2 : 4;
        struct mb_tpair *larger = dict->room < UINT32_MAX / 4 ? mb_trun_alloc(run, room, sizeof *larger) : NULL;
        if (!larger) {
            mb_trun_fail(run, MB_ERANGE, "too many keys");
            return;
        }
        if (dict->n)
            memcpy(larger, dict->pairs, dict->n * sizeof *larger);
        dict->pairs = larger;
        dict->room = room;
    }
    dict->pairs[dict->n++] = (struct mb_tpair){key, value};
}

/* ---- asking ---- */

const char *mb_tv_type(struct mb_tv v)
{
    static const char *const names[] = {"Undefined",   "NoneType",  "bool",  "int",       "float",     "str",
                                        "list",        "tuple",     "range", "dict_keys", "dict_values", "dict_items",
                                        "generator",   "dict",      "Namespace", "LoopContext", "Macro", "method",
                                        "function",    "Cycler",    "Joiner", "missing"};
    return names[v.kind];
}

struct mb_tv mb_tv_undefined_fail(struct mb_trun *run, struct mb_tv v)
{
    const char *of = mb_tv_type((struct mb_tv){.kind = v.of});
    int n = v.n > 200 ? 200 : (int)v.n;
    switch (v.flag) {
    case MB_U_NAME: return mb_trun_fail(run, MB_EFORMAT, "'%.*s' is undefined", n, v.s ? v.s : "");
    case MB_U_TEXT: return mb_trun_fail(run, MB_EFORMAT, "%.*s", n, v.s ? v.s : "");
    case MB_U_UNSAFE:
        return mb_trun_fail(run, MB_EFORMAT, "access to attribute '%.*s' of '%s' object is unsafe", n, v.s ? v.s : "", of);
    case MB_U_ATTRIBUTE:
        if (v.of == MB_T_NONE)
            return mb_trun_fail(run, MB_EFORMAT, "'None' has no attribute '%.*s'", n, v.s ? v.s : "");
        return mb_trun_fail(run, MB_EFORMAT, "'%s object' has no attribute '%.*s'", of, n, v.s ? v.s : "");
    default: return mb_trun_fail(run, MB_EFORMAT, "%s object has no such element", of);
    }
}

int mb_tv_number(struct mb_tv v, double *out)
{
    if (v.kind != MB_T_BOOL && v.kind != MB_T_INT && v.kind != MB_T_FLOAT)
        return 0;
    *out = v.kind == MB_T_FLOAT ? v.f : (double)v.i;
    return 1;
}

int mb_tv_truth(struct mb_trun *run, struct mb_tv v)
{
    (void)run;
    switch (v.kind) {
    case MB_T_UNDEFINED:
    case MB_T_NONE:
    case MB_T_MISSING: return 0;
    case MB_T_BOOL:
    case MB_T_INT: return v.i != 0;
    case MB_T_FLOAT: return v.f != 0;
    case MB_T_TEXT: return v.n != 0;
    case MB_T_DICT: return v.dict->n != 0;
    case MB_T_LIST:
    case MB_T_TUPLE:
    case MB_T_RANGE:
    case MB_T_KEYS:
    case MB_T_VALUES:
    case MB_T_ITEMS: return v.seq->n != 0;
    default: return 1;
    }
}

int mb_tv_hashable(struct mb_tv v)
{
    if (v.kind == MB_T_TUPLE) /* nested tuples are few; a deep one is refused rather than walked */
        for (uint32_t i = 0; i < v.seq->n; i++)
            if (v.seq->items[i].kind == MB_T_TUPLE || !mb_tv_hashable(v.seq->items[i]))
                return 0;
    return v.kind != MB_T_LIST && v.kind != MB_T_DICT && v.kind != MB_T_KEYS && v.kind != MB_T_ITEMS;
}

static int same_items(struct mb_trun *run, const struct mb_tseq *a, const struct mb_tseq *b)
{
    if (a->n != b->n)
        return 0;
    for (uint32_t i = 0; i < a->n; i++)
        if (!mb_tv_equal(run, a->items[i], b->items[i]))
            return 0;
    return 1;
}

static int same_pairs(struct mb_trun *run, const struct mb_tdict *a, const struct mb_tdict *b)
{
    if (a->n != b->n)
        return 0;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct mb_tv *other = mb_tdict_find(run, b, a->pairs[i].key);
        if (!other || !mb_tv_equal(run, a->pairs[i].value, *other))
            return 0;
    }
    return 1;
}

int mb_tv_equal(struct mb_trun *run, struct mb_tv a, struct mb_tv b)
{
    double x, y;
    if (!mb_trun_step(run, 1))
        return 0;
    if (mb_tv_number(a, &x) && mb_tv_number(b, &y))
        return a.kind == MB_T_FLOAT || b.kind == MB_T_FLOAT ? x == y : a.i == b.i;
    if (a.kind != b.kind)
        return 0;
    int same = 0;
    switch (a.kind) {
    case MB_T_UNDEFINED:
    case MB_T_NONE: return 1;
    case MB_T_TEXT: return a.n == b.n && mb_trun_step(run, a.n / 16) && memcmp(a.s, b.s, a.n) == 0;
    case MB_T_LIST:
    case MB_T_TUPLE:
    case MB_T_RANGE:
    case MB_T_KEYS:
    case MB_T_ITEMS:
        if (a.seq == b.seq)
            return 1;
        if (mb_trun_enter(run))
            same = same_items(run, a.seq, b.seq);
        mb_trun_leave(run);
        return same;
    case MB_T_DICT:
        if (a.dict == b.dict)
            return 1;
        if (mb_trun_enter(run))
            same = same_pairs(run, a.dict, b.dict);
        mb_trun_leave(run);
        return same;
    default: return a.s == b.s; /* the same object */
    }
}

int mb_tv_compare(struct mb_trun *run, struct mb_tv a, struct mb_tv b, const char *op)
{
    double x, y;
    if (a.kind == MB_T_UNDEFINED || b.kind == MB_T_UNDEFINED) {
        mb_tv_undefined_fail(run, a.kind == MB_T_UNDEFINED ? a : b);
        return 0;
    }
    if (mb_tv_number(a, &x) && mb_tv_number(b, &y)) {
        if (a.kind != MB_T_FLOAT && b.kind != MB_T_FLOAT)
            return a.i < b.i ? -1 : a.i > b.i;
        return x < y ? -1 : x > y;
    }
    if (a.kind == MB_T_TEXT && b.kind == MB_T_TEXT && mb_trun_step(run, a.n / 16)) {
        uint32_t n = a.n < b.n ? a.n : b.n;
        int order = n ? memcmp(a.s, b.s, n) : 0; /* bytes of UTF-8 stand in the order of code points */
        return order ? (order < 0 ? -1 : 1) : a.n < b.n ? -1 : a.n > b.n;
    }
    if (a.kind == b.kind && (a.kind == MB_T_LIST || a.kind == MB_T_TUPLE)) {
        int order = 0;
        if (mb_trun_enter(run)) {
            uint32_t i = 0, n = a.seq->n < b.seq->n ? a.seq->n : b.seq->n;
            while (i < n && mb_tv_equal(run, a.seq->items[i], b.seq->items[i]))
                i++;
            order = i < n ? mb_tv_compare(run, a.seq->items[i], b.seq->items[i], op)
                          : a.seq->n < b.seq->n ? -1 : a.seq->n > b.seq->n;
        }
        mb_trun_leave(run);
        return order;
    }
    mb_trun_fail(run, MB_EFORMAT, "'%s' not supported between instances of '%s' and '%s'", op, mb_tv_type(a), mb_tv_type(b));
    return 0;
}

int64_t mb_tv_length(struct mb_trun *run, struct mb_tv v)
{
    switch (v.kind) {
    case MB_T_UNDEFINED: return 0;
    case MB_T_TEXT: return mb_trun_step(run, v.n / 16) ? (int64_t)mb_utf8_count(v.s, v.n) : -1;
    case MB_T_DICT: return v.dict->n;
    case MB_T_LIST:
    case MB_T_TUPLE:
    case MB_T_RANGE:
    case MB_T_KEYS:
    case MB_T_VALUES:
    case MB_T_ITEMS: return v.seq->n;
    default: mb_trun_fail(run, MB_EFORMAT, "object of type '%s' has no len()", mb_tv_type(v)); return -1;
    }
}

/* The code points of a text as texts of their own. */
static int text_items(struct mb_trun *run, struct mb_tv text, struct mb_tv **out, uint32_t *n)
{
    size_t count = mb_utf8_count(text.s, text.n), at = 0;
    struct mb_tv list = mb_tv_seq(run, MB_T_LIST, count);
    if (mb_trun_failed(run) || !mb_trun_step(run, count))
        return 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = mb_utf8_offset(text.s + at, text.n - at, 1);
        list.seq->items[i] = mb_tv_text(text.s + at, len);
        at += len;
    }
    *out = list.seq->items;
    *n = list.seq->n;
    return 1;
}

int mb_tv_items(struct mb_trun *run, struct mb_tv v, struct mb_tv **out, uint32_t *n)
{
    *out = NULL;
    *n = 0;
    if (v.kind == MB_T_UNDEFINED && v.flag != MB_U_UNSAFE)
        return 1;
    if (v.kind == MB_T_TEXT)
        return text_items(run, v, out, n);
    if (v.kind == MB_T_DICT) {
        struct mb_tv keys = mb_tv_seq(run, MB_T_LIST, v.dict->n);
        if (mb_trun_failed(run))
            return 0;
        for (uint32_t i = 0; i < v.dict->n; i++)
            keys.seq->items[i] = v.dict->pairs[i].key;
        *out = keys.seq->items;
        *n = keys.seq->n;
        return 1;
    }
    if (!mb_tv_is_seq(v)) {
        if (v.kind == MB_T_UNDEFINED)
            mb_tv_undefined_fail(run, v);
        mb_trun_fail(run, MB_EFORMAT, "'%s' object is not iterable", mb_tv_type(v));
        return 0;
    }
    *n = v.seq->n - v.seq->at;
    *out = *n ? v.seq->items + v.seq->at : NULL;
    if (v.kind == MB_T_ITER)
        v.seq->at = v.seq->n;
    return 1;
}

/* ---- printing ---- */

void mb_tv_float_text(double f, char out[40])
{
    if (isnan(f) || isinf(f)) {
        snprintf(out, 40, "%s", isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    char digits[40];
    int precision = 0;
    do
        snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    /* d.ddde+XX -> Python's choice between fixed and exponent notation */
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - exponent;
        snprintf(out, 40, "%.*f", decimals > 0 ? decimals : 1, f);
    } else {
        *strchr(digits, 'e') = 0;
        snprintf(out, 40, "%.30se%c%02u", digits, exponent < 0 ? '-' : '+', (unsigned)abs(exponent) % 1000);
    }
}

static void repr_text(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv text)
{
    char quote = text.n && memchr(text.s, '\'', text.n) && !memchr(text.s, '"', text.n) ? '"' : '\'';
    size_t from = 0;
    mb_tbuf_add(run, buf, &quote, 1);
    for (size_t i = 0; i < text.n && !mb_trun_failed(run);) {
        unsigned len;
        uint32_t p = mb_utf8_at(text.s + i, text.n - i, &len);
        char escape[16] = "";
        if (p == '\n' || p == '\r' || p == '\t')
            snprintf(escape, sizeof escape, "\\%c", p == '\n' ? 'n' : p == '\r' ? 'r' : 't');
        else if (p == (unsigned char)quote || p == '\\')
            snprintf(escape, sizeof escape, "\\%c", (int)p);
        else if (!mb_point_printable(p))
            snprintf(escape, sizeof escape, p < 0x100 ? "\\x%02x" : p < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)p);
        if (*escape) {
            mb_tbuf_add(run, buf, text.s + from, i - from);
            mb_tbuf_word(run, buf, escape);
            from = i + len;
        }
        i += len;
    }
    mb_tbuf_add(run, buf, text.s + from, text.n - from);
    mb_tbuf_add(run, buf, &quote, 1);
}

static void repr_seq(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv v)
{
    static const char *const open[] = {"[", "(", "range(", "dict_keys([", "dict_values([", "dict_items([", "<generator ["};
    static const char *const close[] = {"]", ")", ")", "])", "])", "])", "]>"};
    const struct mb_tseq *seq = v.seq;
    mb_tbuf_word(run, buf, open[v.kind - MB_T_LIST]);
    if (v.kind == MB_T_RANGE) {
        char text[80];
        snprintf(text, sizeof text, seq->step == 1 ? "%lld, %lld" : "%lld, %lld, %lld", (long long)seq->first,
                 (long long)seq->last, (long long)seq->step);
        mb_tbuf_word(run, buf, text);
    }
    for (uint32_t i = seq->at; v.kind != MB_T_RANGE && i < seq->n && !mb_trun_failed(run); i++) {
        if (i > seq->at)
            mb_tbuf_word(run, buf, ", ");
        mb_tv_repr(run, buf, seq->items[i]);
    }
    mb_tbuf_word(run, buf, v.kind == MB_T_TUPLE && seq->n == 1 ? ",)" : close[v.kind - MB_T_LIST]);
}

static void repr_dict(struct mb_trun *run, struct mb_tbuf *buf, const struct mb_tdict *dict)
{
    mb_tbuf_word(run, buf, "{");
    for (uint32_t i = 0; i < dict->n && !mb_trun_failed(run); i++) {
        if (i)
            mb_tbuf_word(run, buf, ", ");
        mb_tv_repr(run, buf, dict->pairs[i].key);
        mb_tbuf_word(run, buf, ": ");
        mb_tv_repr(run, buf, dict->pairs[i].value);
    }
    mb_tbuf_word(run, buf, "}");
}

void mb_tv_repr(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv v)
{
    char text[64];
    if (!mb_trun_step(run, 1) || !mb_trun_enter(run)) {
        mb_trun_leave(run);
        return;
    }
    switch (v.kind) {
    case MB_T_UNDEFINED: mb_tbuf_word(run, buf, "Undefined"); break;
    case MB_T_NONE: mb_tbuf_word(run, buf, "None"); break;
    case MB_T_BOOL: mb_tbuf_word(run, buf, v.i ? "True" : "False"); break;
    case MB_T_INT:
        snprintf(text, sizeof text, "%lld", (long long)v.i);
        mb_tbuf_word(run, buf, text);
        break;
    case MB_T_FLOAT:
        mb_tv_float_text(v.f, text);
        mb_tbuf_word(run, buf, text);
        break;
    case MB_T_TEXT:
        if (v.flag)
            mb_tbuf_word(run, buf, "Markup(");
        repr_text(run, buf, v);
        if (v.flag)
            mb_tbuf_word(run, buf, ")");
        break;
    case MB_T_DICT: repr_dict(run, buf, v.dict); break;
    case MB_T_NAMESPACE:
        mb_tbuf_word(run, buf, "<Namespace ");
        repr_dict(run, buf, v.dict);
        mb_tbuf_word(run, buf, ">");
        break;
    default:
        if (mb_tv_is_seq(v)) {
            repr_seq(run, buf, v);
            break;
        }
        snprintf(text, sizeof text, "<%s>", mb_tv_type(v)); /* Python would show an address */
        mb_tbuf_word(run, buf, text);
        break;
    }
    mb_trun_leave(run);
}

void mb_tv_print(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv v)
{
    if (v.kind == MB_T_TEXT)
        mb_tbuf_add(run, buf, v.s, v.n);
    else if (v.kind == MB_T_UNDEFINED && v.flag == MB_U_UNSAFE)
        mb_tv_undefined_fail(run, v);
    else if (v.kind != MB_T_UNDEFINED)
        mb_tv_repr(run, buf, v);
}

struct mb_tv mb_tv_str(struct mb_trun *run, struct mb_tv v)
{
    if (v.kind == MB_T_TEXT)
        return mb_tv_text(v.s, v.n);
    struct mb_tbuf buf = {0};
    mb_tv_print(run, &buf, v);
    return mb_tbuf_text(run, &buf);
}
