/* SPDX-License-Identifier: MIT */
/* Filters on one value: texts, numbers, and the table of all filters. Those that walk sequences are in template_filter_seq.c.
 * Source: Jinja's documentation, "List of Builtin Filters". */
#include "engine/template_filter.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FILTER(name) static struct mb_tv name(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args)

/* The text as it is (Markup stays Markup), anything else as str() of it. */
static struct mb_tv soft_text(struct mb_trun *run, struct mb_tv v)
{
    return v.kind == MB_T_TEXT ? v : mb_tv_str(run, v);
}

static struct mb_tv call_method(struct mb_trun *run, struct mb_tv text, const char *name, struct mb_tv *values, uint32_t n)
{
    int unsafe;
    const struct mb_tcallee *method = mb_tmethod_find(MB_T_TEXT, mb_tv_text(name, strlen(name)), &unsafe);
    return mb_tcall(run, method, text, &(struct mb_targs){.values = values, .n = n});
}

FILTER(trim)
{
    (void)args;
    return call_method(run, soft_text(run, v[0]), "strip", &v[1], v[1].kind != MB_T_MISSING);
}

FILTER(upper)
{
    (void)args;
    return mb_text_case(run, soft_text(run, v[0]), 'u');
}

FILTER(lower)
{
    (void)args;
    return mb_text_case(run, soft_text(run, v[0]), 'l');
}

FILTER(capitalize)
{
    (void)args;
    return mb_text_case(run, soft_text(run, v[0]), 'c');
}

/* Words here start after white space, a dash or an opening bracket, unlike those of str.title(). */
FILTER(title)
{
    struct mb_tv text = soft_text(run, v[0]);
    struct mb_tbuf buf = {0};
    int start = 1;
    (void)args;
    for (size_t i = 0; i < text.n && mb_trun_step(run, 1);) {
        unsigned len;
        uint32_t p = mb_utf8_at(text.s + i, text.n - i, &len);
        struct mb_tv one = mb_text_case(run, mb_tv_text(text.s + i, len), start ? 'u' : 'l');
        mb_tbuf_add(run, &buf, one.s, one.n);
        start = mb_point_space(p) || (p && p < 0x80 && strchr("-({[<", (int)p));
        i += len;
    }
    return mb_tbuf_text(run, &buf);
}

FILTER(replace)
{
    (void)args;
    return mb_text_replace(run, mb_tv_str(run, v[0]), mb_tv_str(run, v[1]), mb_tv_str(run, v[2]), mb_targ_int(run, v[3], -1));
}

FILTER(length)
{
    (void)args;
    return mb_tv_int(mb_tv_length(run, v[0]));
}

FILTER(string)
{
    (void)args;
    return soft_text(run, v[0]);
}

FILTER(safe)
{
    (void)args;
    struct mb_tv out = mb_tv_str(run, v[0]);
    out.flag = 1;
    return out;
}

FILTER(forceescape)
{
    struct mb_tbuf buf = {0};
    (void)args;
    mb_tbuf_escape(run, &buf, mb_tv_str(run, v[0]));
    struct mb_tv out = mb_tbuf_text(run, &buf);
    out.flag = 1;
    return out;
}

FILTER(escape)
{
    return v[0].kind == MB_T_TEXT && v[0].flag ? v[0] : forceescape(run, v, args);
}

FILTER(default_value)
{
    (void)args;
    int use = v[0].kind == MB_T_UNDEFINED || (mb_tv_truth(run, v[2]) && !mb_tv_truth(run, v[0]));
    return !use ? v[0] : v[1].kind == MB_T_MISSING ? mb_tv_text("", 0) : v[1];
}

FILTER(indent)
{
    struct mb_tv unit = mb_tv_text("", 0), text = v[0];
    struct mb_tbuf spaces = {0}, buf = {0};
    (void)args;
    if (text.kind != MB_T_TEXT)
        return mb_targ_text(run, text);
    if (v[1].kind == MB_T_TEXT) {
        unit = v[1];
    } else {
        mb_tbuf_repeat(run, &spaces, " ", 1, mb_targ_int(run, v[1], 4));
        unit = mb_tbuf_text(run, &spaces);
    }
    int first = mb_tv_truth(run, v[2]), blank = mb_tv_truth(run, v[3]);
    struct mb_tv lines = mb_text_lines(run, mb_text_concat(run, text, mb_tv_text("\n", 1)), 0);
    for (uint32_t i = 0; !mb_trun_failed(run) && i < lines.seq->n; i++) {
        struct mb_tv line = lines.seq->items[i];
        if (i)
            mb_tbuf_word(run, &buf, "\n");
        if (i ? blank || line.n : first)
            mb_tbuf_add(run, &buf, unit.s, unit.n);
        mb_tbuf_add(run, &buf, line.s, line.n);
    }
    struct mb_tv out = mb_tbuf_text(run, &buf);
    out.flag = text.flag;
    return out;
}

FILTER(truncate)
{
    struct mb_tv text = v[0], end = v[3].kind == MB_T_MISSING ? mb_tv_text("...", 3) : mb_targ_text(run, v[3]);
    int64_t length = mb_targ_int(run, v[1], 255), leeway = mb_targ_int(run, v[4], 5), n = mb_tv_length(run, text);
    int64_t keep = length - mb_tv_length(run, end);
    (void)args;
    if (mb_trun_failed(run) || keep < 0 || leeway < 0 || leeway > INT64_MAX / 2 || length > INT64_MAX / 2)
        return mb_trun_fail(run, MB_EFORMAT, "truncate: the length or leeway is too small or too large");
    if (n <= length + leeway)
        return text; /* of any kind that has a length */
    if (text.kind != MB_T_TEXT)
        return mb_targ_text(run, text);
    struct mb_tv cut = mb_tv_text(text.s, mb_utf8_offset(text.s, text.n, (size_t)keep));
    if (!mb_tv_truth(run, v[2]))
        for (uint32_t i = cut.n; i > 0; i--)
            if (cut.s[i - 1] == ' ') {
                cut.n = i - 1;
                break;
            }
    return mb_text_concat(run, cut, end);
}

FILTER(center)
{
    (void)args;
    struct mb_tv width = v[1].kind == MB_T_MISSING ? mb_tv_int(80) : v[1];
    return call_method(run, soft_text(run, v[0]), "center", &width, 1);
}

FILTER(wordcount)
{
    struct mb_tv text = soft_text(run, v[0]);
    int64_t n = 0;
    int inside = 0;
    (void)args;
    for (size_t i = 0; i < text.n && mb_trun_step(run, 1);) {
        unsigned len;
        uint32_t p = mb_utf8_at(text.s + i, text.n - i, &len);
        int word = p == '_' || (p >= '0' && p <= '9') || mb_point_alpha(p);
        n += word && !inside;
        inside = word;
        i += len;
    }
    return mb_tv_int(n);
}

FILTER(format)
{
    struct mb_tv values = mb_tv_seq(run, MB_T_TUPLE, args->n);
    if (args->n_named) {
        struct mb_tv dict = mb_tv_dict(run);
        for (uint32_t i = 0; i < args->n_named && !mb_trun_failed(run); i++)
            mb_tdict_set(run, dict.dict, args->named[i].key, args->named[i].value);
        if (args->n)
            return mb_trun_fail(run, MB_EFORMAT, "format: positional and keyword arguments at the same time");
        return mb_trun_failed(run) ? v[0] : mb_text_percent(run, soft_text(run, v[0]), dict);
    }
    if (mb_trun_failed(run))
        return v[0];
    if (args->n)
        memcpy(values.seq->items, args->values, args->n * sizeof *args->values);
    return mb_text_percent(run, soft_text(run, v[0]), values);
}

/* ---- numbers ---- */

/* int(text, base): 1 done, 0 not a number, -1 does not fit (the run has failed). */
static int parse_int(struct mb_trun *run, struct mb_tv text, int base, int64_t *out)
{
    char digits[80], *end;
    size_t n = 0;
    text = mb_text_strip(text, mb_tv_none(), 3);
    for (size_t i = 0; i < text.n; i++) {
        char c = text.s[i];
        if (c == '_' && i > 0 && i + 1 < text.n && text.s[i - 1] != '_' && text.s[i + 1] != '_')
            continue;
        int digit = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'), sign = (c == '-' || c == '+') && !i;
        if (n == sizeof digits - 1 || !(digit || sign))
            return 0;
        digits[n++] = c;
    }
    digits[n] = 0;
    const char *first = digits + (n && (digits[0] == '-' || digits[0] == '+'));
    char mark = first[0] == '0' ? (char)(first[1] | 32) : 0;
    if ((mark == 'b' && base == 2) || (mark == 'o' && base == 8)) /* strtoll knows 0x only */
        memmove((char *)first, first + 2, strlen(first + 2) + 1);
    if (base < 2 || base > 36)
        return 0;
    errno = 0;
    *out = strtoll(digits, &end, base);
    if (end == digits || *end || (mark == 'x' && base != 16))
        return 0;
    if (errno == ERANGE) {
        mb_trun_fail(run, MB_ERANGE, "an integer does not fit 64 bits");
        return -1;
    }
    return 1;
}

/* float(text): 1 done, 0 not a number. */
static int parse_float(struct mb_tv text, double *out)
{
    char copy[400], *end;
    size_t n = 0;
    text = mb_text_strip(text, mb_tv_none(), 3);
    for (size_t i = 0; i < text.n; i++) {
        char c = text.s[i];
        if (c == '_' && i > 0 && i + 1 < text.n && text.s[i - 1] >= '0' && text.s[i - 1] <= '9' && text.s[i + 1] >= '0' &&
            text.s[i + 1] <= '9')
            continue;
        if (n == sizeof copy - 1 || c == 'x' || c == 'X' || c == '(' || !c) /* C knows more forms than Python */
            return 0;
        copy[n++] = c;
    }
    copy[n] = 0;
    *out = strtod(copy, &end);
    return end != copy && *end == 0;
}

/* int(float(x)): 0 when it has none. */
static int truncate_float(struct mb_trun *run, double f, int64_t *out)
{
    if (isnan(f) || isinf(f))
        return 0;
    if (fabs(f) >= 9.2e18) {
        mb_trun_fail(run, MB_ERANGE, "an integer does not fit 64 bits");
        return 0;
    }
    *out = (int64_t)f;
    return 1;
}

FILTER(to_int)
{
    struct mb_tv fallback = v[1].kind == MB_T_MISSING ? mb_tv_int(0) : v[1];
    int64_t base = mb_targ_int(run, v[2], 10), whole = 0;
    double f;
    (void)args;
    if (v[0].kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, v[0]);
    if (v[0].kind == MB_T_INT || v[0].kind == MB_T_BOOL)
        return mb_tv_int(v[0].i);
    if (v[0].kind == MB_T_FLOAT)
        return truncate_float(run, v[0].f, &whole) ? mb_tv_int(whole) : fallback;
    if (v[0].kind != MB_T_TEXT)
        return fallback;
    if (parse_int(run, v[0], base < 0 || base > 36 ? 0 : (int)base, &whole) == 1)
        return mb_tv_int(whole);
    if (parse_float(v[0], &f) && truncate_float(run, f, &whole))
        return mb_tv_int(whole);
    return fallback;
}

FILTER(to_float)
{
    struct mb_tv fallback = v[1].kind == MB_T_MISSING ? mb_tv_float(0) : v[1];
    double f;
    (void)args;
    if (v[0].kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, v[0]);
    if (mb_tv_number(v[0], &f) || (v[0].kind == MB_T_TEXT && parse_float(v[0], &f)))
        return mb_tv_float(f);
    return fallback;
}

FILTER(absolute)
{
    (void)args;
    if (v[0].kind == MB_T_FLOAT)
        return mb_tv_float(fabs(v[0].f));
    if (v[0].kind != MB_T_INT && v[0].kind != MB_T_BOOL) {
        if (v[0].kind == MB_T_UNDEFINED)
            return mb_tv_undefined_fail(run, v[0]);
        return mb_trun_fail(run, MB_EFORMAT, "bad operand type for abs(): '%s'", mb_tv_type(v[0]));
    }
    return v[0].i < 0 ? mb_top_negate(run, v[0]) : mb_tv_int(v[0].i);
}

FILTER(rounded)
{
    int64_t places = mb_targ_int(run, v[1], 0), whole;
    double f;
    (void)args;
    if (v[0].kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, v[0]);
    if (!mb_tv_number(v[0], &f))
        return mb_trun_fail(run, MB_EFORMAT, "type %s doesn't define __round__ method", mb_tv_type(v[0]));
    if (places > 300 || places < -300)
        return mb_trun_fail(run, MB_ERANGE, "round: precision over 300");
    int up = mb_tv_is_text(v[2], "ceil"), down = mb_tv_is_text(v[2], "floor");
    if (up || down) {
        double scale = pow(10, (double)places), scaled = up ? ceil(f * scale) : floor(f * scale);
        if (isnan(scaled) || isinf(scaled) || scale == 0)
            return mb_trun_fail(run, MB_EFORMAT, "round: the number is too large");
        return mb_tv_float(scaled / scale);
    }
    if (v[2].kind != MB_T_MISSING && !mb_tv_is_text(v[2], "common"))
        return mb_trun_fail(run, MB_EFORMAT, "method must be common, ceil or floor");
    if (v[0].kind != MB_T_FLOAT) {
        if (places >= 0)
            return mb_tv_int(v[0].i);
        double scale = pow(10, (double)-places); /* half to even, as Python rounds whole numbers */
        return truncate_float(run, nearbyint(f / scale) * scale, &whole) ? mb_tv_int(whole) : mb_tv_int(0);
    }
    if (isnan(f) || isinf(f))
        return v[0];
    if (places < 0) {
        double scale = pow(10, (double)-places);
        return mb_tv_float(nearbyint(f / scale) * scale);
    }
    char text[700]; /* printf rounds the exact value, as Python does */
    snprintf(text, sizeof text, "%.*f", (int)places, f);
    return mb_tv_float(strtod(text, NULL));
}

static struct mb_tv attribute(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args)
{
    (void)args;
    if (v[0].kind == MB_T_DICT) { /* keys are no attributes */
        struct mb_tv empty = mb_tv_dict(run);
        struct mb_tv found = mb_trun_failed(run) ? empty : mb_top_attribute(run, empty, mb_targ_text(run, v[1]));
        if (found.kind != MB_T_METHOD)
            return found;
    }
    return mb_top_attribute(run, v[0], mb_targ_text(run, v[1]));
}

const struct mb_tcallee *mb_tfilter_find(struct mb_tv name)
{
    static const struct mb_tcallee filters[] = {
        {"abs", "x", 1, absolute},
        {"attr", "obj name", 2, attribute},
        {"capitalize", "s", 1, capitalize},
        {"center", "value width", 1, center},
        {"count", "obj", 1, length},
        {"d", "value default_value boolean", 1, default_value},
        {"default", "value default_value boolean", 1, default_value},
        {"e", "s", 1, escape},
        {"escape", "s", 1, escape},
        {"float", "value default", 1, to_float},
        {"forceescape", "value", 1, forceescape},
        {"format", NULL, 1, format},
        {"indent", "s width first blank", 1, indent},
        {"int", "value default base", 1, to_int},
        {"length", "obj", 1, length},
        {"lower", "s", 1, lower},
        {"replace", "s old new count", 3, replace},
        {"round", "value precision method", 1, rounded},
        {"safe", "value", 1, safe},
        {"string", "object", 1, string},
        {"title", "s", 1, title},
        {"trim", "value chars", 1, trim},
        {"truncate", "s length killwords end leeway", 1, truncate},
        {"upper", "s", 1, upper},
        {"wordcount", "s", 1, wordcount},
    };
    for (size_t i = 0; i < MB_COUNT(filters); i++)
        if (mb_tv_is_text(name, filters[i].name))
            return &filters[i];
    if (mb_tv_is_text(name, mb_tfilter_tojson.name))
        return &mb_tfilter_tojson;
    return mb_tfilter_seq_find(name);
}
