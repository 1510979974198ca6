/* SPDX-License-Identifier: MIT */
/* JSON into values, and the tojson filter: json.dumps() of Python with ensure_ascii off unless asked for, no HTML escapes,
 * keys in order. Texts of the context are borrowed from jansson. */
#include "engine/template_value.h"

#include <math.h>
#include <string.h>

struct mb_tv mb_tv_from_json(struct mb_trun *run, const json_t *json)
{
    struct mb_tv out = {0};
    if (!mb_trun_step(run, 1))
        return out;
    switch (json_typeof(json)) {
    case JSON_NULL: return mb_tv_none();
    case JSON_TRUE: return mb_tv_bool(1);
    case JSON_FALSE: return mb_tv_bool(0);
    case JSON_INTEGER: return mb_tv_int(json_integer_value(json));
    case JSON_REAL: return mb_tv_float(json_real_value(json));
    case JSON_STRING:
        if (json_string_length(json) > run->output_max)
            return mb_trun_fail(run, MB_ERANGE, "a text of the context is longer than %zu bytes", run->output_max);
        return mb_tv_text(json_string_value(json), json_string_length(json));
    default: break;
    }
    if (!mb_trun_enter(run)) {
        mb_trun_leave(run);
        return out;
    }
    if (json_is_array(json)) {
        size_t n = json_array_size(json);
        out = mb_tv_seq(run, MB_T_LIST, n);
        for (size_t i = 0; i < n && !mb_trun_failed(run); i++)
            out.seq->items[i] = mb_tv_from_json(run, json_array_get(json, i));
    } else {
        size_t n = json_object_size(json);
        struct mb_tdict *dict = mb_trun_alloc(run, 1, sizeof *dict);
        struct mb_tpair *pairs = n && n <= UINT32_MAX / 4 ? mb_trun_alloc(run, n, sizeof *pairs) : NULL;
        const char *key;
        json_t *value;
        if (dict && pairs) {
            *dict = (struct mb_tdict){.pairs = pairs, .room = (uint32_t)n};
            json_object_foreach((json_t *)json, key, value) /* only walks it */
                if (!mb_trun_failed(run) && dict->n < n)
                    pairs[dict->n++] = (struct mb_tpair){mb_tv_text(key, strlen(key)), mb_tv_from_json(run, value)};
        }
        if (!mb_trun_failed(run))
            out = (struct mb_tv){.kind = MB_T_DICT, .dict = dict};
    }
    mb_trun_leave(run);
    return out;
}

/* How to write: the arguments of json.dumps(). */
struct style {
    int ascii, sort, indented;
    struct mb_tv indent; /* text of one level */
    struct mb_tv between, colon;
};

static void add_text(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv text, int ascii)
{
    static const char plain[] = "\b\f\n\r\t\"\\", letter[] = "bfnrt\"\\";
    size_t from = 0;
    mb_tbuf_word(run, buf, "\"");
    for (size_t i = 0; i < text.n && !mb_trun_failed(run);) {
        unsigned len;
        uint32_t p = mb_utf8_at(text.s + i, text.n - i, &len);
        char escape[16] = "";
        const char *at = p && p < 0x80 ? strchr(plain, (int)p) : NULL;
        if (at)
            snprintf(escape, sizeof escape, "\\%c", letter[at - plain]);
        else if (p >= 0x10000 && ascii)
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd800u + ((p - 0x10000) >> 10), 0xdc00u + (p & 0x3ff));
        else if (p < 0x20 || (p > 0x7e && ascii && p != 0x7f))
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)p);
        if (*escape) {
            mb_tbuf_add(run, buf, text.s + from, i - from);
            mb_tbuf_word(run, buf, escape);
            from = i + len;
        }
        i += len;
    }
    mb_tbuf_add(run, buf, text.s + from, text.n - from);
    mb_tbuf_word(run, buf, "\"");
}

static void add_float(struct mb_trun *run, struct mb_tbuf *buf, double f)
{
    char text[40];
    mb_tv_float_text(f, text);
    mb_tbuf_word(run, buf, isnan(f) ? "NaN" : isinf(f) ? (f > 0 ? "Infinity" : "-Infinity") : text);
}

static void new_line(struct mb_trun *run, struct mb_tbuf *buf, const struct style *style, unsigned level)
{
    if (!style->indented)
        return;
    mb_tbuf_word(run, buf, "\n");
    mb_tbuf_repeat(run, buf, style->indent.s, style->indent.n, level);
}

/* A key as JSON has it: numbers, true and null become texts. */
static struct mb_tv key_text(struct mb_trun *run, struct mb_tv key)
{
    struct mb_tbuf buf = {0};
    switch (key.kind) {
    case MB_T_TEXT: return key;
    case MB_T_BOOL: return key.i ? mb_tv_text("true", 4) : mb_tv_text("false", 5);
    case MB_T_NONE: return mb_tv_text("null", 4);
    case MB_T_INT: return mb_tv_str(run, key);
    case MB_T_FLOAT: add_float(run, &buf, key.f); return mb_tbuf_text(run, &buf);
    default:
        return mb_trun_fail(run, MB_EFORMAT, "tojson: keys must be str, int, float, bool or None, not %s", mb_tv_type(key));
    }
}

/* Order of keys for sort_keys: merge sort of indices would be faster, but such dicts are small and the steps are charged. */
static void sort_pairs(struct mb_trun *run, struct mb_tpair *pairs, uint32_t n)
{
    for (uint32_t i = 1; i < n && !mb_trun_failed(run); i++) {
        struct mb_tpair moving = pairs[i];
        uint32_t at = i;
        while (at && mb_trun_step(run, 1) && mb_tv_compare(run, moving.key, pairs[at - 1].key, "<") < 0) {
            pairs[at] = pairs[at - 1];
            at--;
        }
        pairs[at] = moving;
    }
}

static void add_value(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv v, const struct style *style, unsigned level);

static void add_dict(struct mb_trun *run, struct mb_tbuf *buf, const struct mb_tdict *dict, const struct style *style,
                     unsigned level)
{
    struct mb_tpair *pairs = dict->pairs;
    if (style->sort && dict->n) {
        pairs = mb_trun_alloc(run, dict->n, sizeof *pairs);
        if (!pairs)
            return;
        memcpy(pairs, dict->pairs, dict->n * sizeof *pairs);
        sort_pairs(run, pairs, dict->n);
    }
    mb_tbuf_word(run, buf, "{");
    for (uint32_t i = 0; i < dict->n && !mb_trun_failed(run); i++) {
        if (i)
            mb_tbuf_add(run, buf, style->between.s, style->between.n);
        new_line(run, buf, style, level + 1);
        struct mb_tv key = key_text(run, pairs[i].key);
        if (mb_trun_failed(run))
            return;
        add_text(run, buf, key, style->ascii);
        mb_tbuf_add(run, buf, style->colon.s, style->colon.n);
        add_value(run, buf, pairs[i].value, style, level + 1);
    }
    if (dict->n)
        new_line(run, buf, style, level);
    mb_tbuf_word(run, buf, "}");
}

static void add_list(struct mb_trun *run, struct mb_tbuf *buf, const struct mb_tseq *seq, const struct style *style,
                     unsigned level)
{
    mb_tbuf_word(run, buf, "[");
    for (uint32_t i = 0; i < seq->n && !mb_trun_failed(run); i++) {
        if (i)
            mb_tbuf_add(run, buf, style->between.s, style->between.n);
        new_line(run, buf, style, level + 1);
        add_value(run, buf, seq->items[i], style, level + 1);
    }
    if (seq->n)
        new_line(run, buf, style, level);
    mb_tbuf_word(run, buf, "]");
}

static void add_value(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv v, const struct style *style, unsigned level)
{
    if (!mb_trun_step(run, 1) || !mb_trun_enter(run)) {
        mb_trun_leave(run);
        return;
    }
    switch (v.kind) {
    case MB_T_NONE: mb_tbuf_word(run, buf, "null"); break;
    case MB_T_BOOL: mb_tbuf_word(run, buf, v.i ? "true" : "false"); break;
    case MB_T_INT: mb_tv_repr(run, buf, v); break;
    case MB_T_FLOAT: add_float(run, buf, v.f); break;
    case MB_T_TEXT: add_text(run, buf, v, style->ascii); break;
    case MB_T_LIST:
    case MB_T_TUPLE: add_list(run, buf, v.seq, style, level); break;
    case MB_T_DICT: add_dict(run, buf, v.dict, style, level); break;
    default: mb_trun_fail(run, MB_EFORMAT, "tojson: object of type %s is not JSON serializable", mb_tv_type(v)); break;
    }
    mb_trun_leave(run);
}

/* v: value, ensure_ascii, indent, separators, sort_keys */
static struct mb_tv tojson(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args)
{
    (void)args;
    struct style style = {.ascii = mb_tv_truth(run, v[1]), .sort = mb_tv_truth(run, v[4])};
    struct mb_tbuf indent = {0}, out = {0};
    if (v[2].kind == MB_T_TEXT) {
        style.indented = 1;
        style.indent = v[2];
    } else if (v[2].kind != MB_T_NONE && v[2].kind != MB_T_MISSING) {
        style.indented = 1;
        int64_t spaces = mb_targ_int(run, v[2], 0);
        mb_tbuf_repeat(run, &indent, " ", 1, spaces < 64 ? spaces : 64);
        if (spaces > 64)
            mb_trun_fail(run, MB_ERANGE, "tojson: indent over 64");
        style.indent = mb_tbuf_text(run, &indent);
    }
    style.between = style.indented ? mb_tv_text(",", 1) : mb_tv_text(", ", 2);
    style.colon = mb_tv_text(": ", 2);
    if (mb_tv_is_seq(v[3]) && v[3].seq->n == 2) {
        style.between = mb_targ_text(run, v[3].seq->items[0]);
        style.colon = mb_targ_text(run, v[3].seq->items[1]);
    } else if (v[3].kind != MB_T_NONE && v[3].kind != MB_T_MISSING) {
        return mb_trun_fail(run, MB_EFORMAT, "tojson: separators are two texts");
    }
    add_value(run, &out, v[0], &style, 0);
    return mb_tbuf_text(run, &out);
}

const struct mb_tcallee mb_tfilter_tojson = {"tojson", "value ensure_ascii indent separators sort_keys", 1, tojson};
