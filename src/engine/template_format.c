/* SPDX-License-Identifier: MIT */
/* text % values and text.format(values): the conversions that templates use. Width and precision are at most 1000. */
#include "engine/template_value.h"

#include <math.h>
#include <string.h>

enum { WIDTH_MAX = 1000 };

struct spec {
    char fill[4];
    unsigned fill_n;
    char align; /* < > ^ =, or 0 */
    char sign;  /* + - blank, or 0 */
    int zero, alternate, comma;
    int width, precision; /* -1: not given */
    char type;
};

/* Put text in its width; numbers may be filled behind their sign. */
static void add_aligned(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv text, const struct spec *spec, char align)
{
    int64_t gap = spec->width - (int64_t)mb_utf8_count(text.s, text.n);
    if (gap < 0)
        gap = 0;
    int64_t left = align == '>' ? gap : align == '^' ? gap / 2 : 0;
    if (align == '=') {
        size_t sign = text.n && strchr("+- ", text.s[0]) ? 1 : 0;
        if (text.n > sign + 1 && text.s[sign] == '0' && strchr("xXob", text.s[sign + 1]) && text.s[sign + 1])
            sign += 2;
        mb_tbuf_add(run, buf, text.s, sign);
        mb_tbuf_repeat(run, buf, spec->fill, spec->fill_n, gap);
        mb_tbuf_add(run, buf, text.s + sign, text.n - sign);
        return;
    }
    mb_tbuf_repeat(run, buf, spec->fill, spec->fill_n, left);
    mb_tbuf_add(run, buf, text.s, text.n);
    mb_tbuf_repeat(run, buf, spec->fill, spec->fill_n, gap - left);
}

/* Thousands parted by commas in the digits of text before its first other character. */
static struct mb_tv with_commas(struct mb_trun *run, struct mb_tv text)
{
    struct mb_tbuf buf = {0};
    size_t start = text.n && strchr("+- ", text.s[0]) ? 1 : 0, end = start;
    while (end < text.n && text.s[end] >= '0' && text.s[end] <= '9')
        end++;
    mb_tbuf_add(run, &buf, text.s, start);
    for (size_t i = start; i < end; i++) {
        if (i > start && (end - i) % 3 == 0)
            mb_tbuf_word(run, &buf, ",");
        mb_tbuf_add(run, &buf, text.s + i, 1);
    }
    mb_tbuf_add(run, &buf, text.s + end, text.n - end);
    return mb_tbuf_text(run, &buf);
}

static struct mb_tv format_int(struct mb_trun *run, int64_t value, const struct spec *spec)
{
    char digits[80], *at = digits + sizeof digits;
    unsigned base = spec->type == 'x' || spec->type == 'X' ? 16 : spec->type == 'o' ? 8 : spec->type == 'b' ? 2 : 10;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        *--at = (spec->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[left % base];
    while (left /= base);
    if (spec->alternate && base != 10) {
        *--at = spec->type;
        *--at = '0';
    }
    if (value < 0 || spec->sign == '+' || spec->sign == ' ')
        *--at = value < 0 ? '-' : spec->sign;
    struct mb_tbuf buf = {0};
    mb_tbuf_add(run, &buf, at, (size_t)(digits + sizeof digits - at));
    return mb_tbuf_text(run, &buf);
}

static struct mb_tv format_float(struct mb_trun *run, double value, const struct spec *spec)
{
    char text[WIDTH_MAX + 400], format[16];
    int precision = spec->precision < 0 ? 6 : spec->precision;
    char type = spec->type == '%' ? 'f' : spec->type;
    const char *sign = spec->sign == '+' ? "+" : spec->sign == ' ' ? " " : "";
    snprintf(format, sizeof format, "%%%s.*%c", sign, type == 'F' ? 'f' : type);
    if (spec->type == '%')
        value *= 100;
    int n;
    if (isnan(value) || isinf(value))
        n = snprintf(text, sizeof text, "%s", isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
    else
        n = snprintf(text, sizeof text, format, precision, value);
    struct mb_tbuf buf = {0};
    mb_tbuf_add(run, &buf, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
    if (spec->type == '%')
        mb_tbuf_word(run, &buf, "%");
    return mb_tbuf_text(run, &buf);
}

static int to_int(struct mb_trun *run, struct mb_tv v, const char *what, int64_t *out)
{
    *out = v.i;
    if (v.kind == MB_T_INT || v.kind == MB_T_BOOL)
        return 1;
    mb_trun_fail(run, MB_EFORMAT, "%s: a whole number is required, not %s", what, mb_tv_type(v));
    return 0;
}

/* ---- text % values ---- */

static int read_number(const struct mb_tv text, size_t *at, int *out)
{
    *out = 0;
    size_t first = *at;
    for (; *at < text.n && text.s[*at] >= '0' && text.s[*at] <= '9'; (*at)++) {
        *out = *out * 10 + (text.s[*at] - '0');
        if (*out > WIDTH_MAX)
            return -1;
    }
    return *at > first;
}

static void percent_one(struct mb_trun *run, struct mb_tbuf *buf, struct spec *spec, int minus, struct mb_tv v)
{
    struct mb_tv text;
    struct mb_tbuf repr = {0};
    int64_t whole;
    double number;
    int numeric = 1;
    switch (spec->type) {
    case 's':
    case 'r':
        if (spec->type == 's')
            text = mb_tv_str(run, v);
        else {
            mb_tv_repr(run, &repr, v);
            text = mb_tbuf_text(run, &repr);
        }
        if (spec->precision >= 0)
            text.n = (uint32_t)mb_utf8_offset(text.s, text.n, (size_t)spec->precision);
        numeric = 0;
        break;
    case 'd':
    case 'i':
    case 'u':
        spec->type = 'd';
        if (v.kind == MB_T_FLOAT && fabs(v.f) < 9e18)
            v = mb_tv_int((int64_t)v.f);
        if (!to_int(run, v, "%d format", &whole))
            return;
        text = format_int(run, whole, spec);
        break;
    case 'x':
    case 'X':
    case 'o':
        if (!to_int(run, v, "%x format", &whole))
            return;
        text = format_int(run, whole, spec);
        break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (!mb_tv_number(v, &number)) {
            mb_trun_fail(run, MB_EFORMAT, "must be real number, not %s", mb_tv_type(v));
            return;
        }
        text = format_float(run, number, spec);
        break;
    default: mb_trun_fail(run, MB_EFORMAT, "unsupported format character"); return;
    }
    spec->fill[0] = numeric && spec->zero && !minus ? '0' : ' ';
    spec->fill_n = 1;
    add_aligned(run, buf, text, spec, minus ? '<' : numeric && spec->zero ? '=' : '>');
}

struct mb_tv mb_text_percent(struct mb_trun *run, struct mb_tv text, struct mb_tv args)
{
    struct mb_tbuf buf = {0};
    uint32_t used = 0, n = args.kind == MB_T_TUPLE ? args.seq->n : 1;
    int by_name = 0;
    for (size_t i = 0; i < text.n && !mb_trun_failed(run);) {
        const char *next = memchr(text.s + i, '%', text.n - i);
        size_t end = next ? (size_t)(next - text.s) : text.n;
        mb_tbuf_add(run, &buf, text.s + i, end - i);
        if (!next)
            break;
        i = end + 1;
        struct spec spec = {.width = -1, .precision = -1};
        struct mb_tv v = {.kind = MB_T_MISSING};
        int minus = 0;
        if (i < text.n && text.s[i] == '(') {
            const char *close = memchr(text.s + i, ')', text.n - i);
            if (!close || args.kind != MB_T_DICT)
                return mb_trun_fail(run, MB_EFORMAT, "format requires a mapping");
            struct mb_tv *have = mb_tdict_find(run, args.dict, mb_tv_text(text.s + i + 1, (size_t)(close - text.s) - i - 1));
            if (!have)
                return mb_trun_fail(run, MB_EFORMAT, "a key of the format is missing");
            v = *have;
            by_name = 1;
            i = (size_t)(close - text.s) + 1;
        }
        for (; i < text.n && text.s[i] && strchr("-+ 0#", text.s[i]); i++) {
            minus |= text.s[i] == '-';
            spec.zero |= text.s[i] == '0';
            spec.alternate |= text.s[i] == '#';
            if (text.s[i] == '+' || (text.s[i] == ' ' && !spec.sign))
                spec.sign = text.s[i];
        }
        int found = read_number(text, &i, &spec.width);
        if (found == 0)
            spec.width = -1;
        if (found >= 0 && i < text.n && text.s[i] == '.') {
            i++;
            found = read_number(text, &i, &spec.precision);
        }
        if (found < 0)
            return mb_trun_fail(run, MB_ERANGE, "a width or precision is over %d", WIDTH_MAX);
        if (i >= text.n)
            return mb_trun_fail(run, MB_EFORMAT, "incomplete format");
        spec.type = text.s[i++];
        if (spec.type == '%') {
            mb_tbuf_word(run, &buf, "%");
            continue;
        }
        if (v.kind == MB_T_MISSING) {
            if (used >= n)
                return mb_trun_fail(run, MB_EFORMAT, "not enough arguments for format string");
            v = args.kind == MB_T_TUPLE ? args.seq->items[used] : args;
            used++;
        }
        percent_one(run, &buf, &spec, minus, v);
    }
    /* As in Python, what can be asked for an item may be left over, unless it is a tuple or a text. */
    int may_remain = args.kind == MB_T_DICT || args.kind == MB_T_LIST || args.kind == MB_T_RANGE || args.kind == MB_T_UNDEFINED;
    if (used < n && !by_name && !may_remain && !mb_trun_failed(run))
        return mb_trun_fail(run, MB_EFORMAT, "not all arguments converted during string formatting");
    return mb_tbuf_text(run, &buf);
}

/* ---- text.format(values) ---- */

static int read_spec(struct mb_trun *run, struct mb_tv text, struct spec *spec)
{
    size_t i = 0;
    *spec = (struct spec){.fill = " ", .fill_n = 1, .width = -1, .precision = -1};
    unsigned len = 0;
    if (text.n) {
        mb_utf8_at(text.s, text.n, &len);
        if (text.n > len && text.s[len] && strchr("<>^=", text.s[len])) {
            memcpy(spec->fill, text.s, len);
            spec->fill_n = len;
            spec->align = text.s[len];
            i = len + 1;
        } else if (text.s[0] && strchr("<>^=", text.s[0])) {
            spec->align = text.s[0];
            i = 1;
        }
    }
    if (i < text.n && text.s[i] && strchr("+- ", text.s[i]))
        spec->sign = text.s[i++];
    if (i < text.n && text.s[i] == '#') {
        spec->alternate = 1;
        i++;
    }
    if (i < text.n && text.s[i] == '0' && !spec->align) {
        spec->zero = 1;
        spec->align = '=';
        spec->fill[0] = '0';
        i++;
    }
    int found = read_number(text, &i, &spec->width);
    if (found == 0)
        spec->width = -1;
    if (i < text.n && text.s[i] == ',') {
        spec->comma = 1;
        i++;
    }
    if (found >= 0 && i < text.n && text.s[i] == '.') {
        i++;
        found = read_number(text, &i, &spec->precision);
    }
    if (i < text.n)
        spec->type = text.s[i++];
    if (found < 0 || i < text.n || (spec->type && !strchr("sdxXobeEfFgG%", spec->type))) {
        mb_trun_fail(run, found < 0 ? MB_ERANGE : MB_EFORMAT, "a format specifier is not understood");
        return 0;
    }
    return 1;
}

static void format_one(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv v, struct mb_tv spec_text)
{
    struct spec spec;
    struct mb_tv text;
    double number;
    if (spec_text.n == 0) {
        mb_tv_print(run, buf, v);
        return;
    }
    if (!read_spec(run, spec_text, &spec))
        return;
    int is_text = v.kind == MB_T_TEXT;
    if (is_text ? (spec.type && spec.type != 's') || spec.align == '=' : spec.type == 's' || !mb_tv_number(v, &number)) {
        mb_trun_fail(run, MB_EFORMAT, "a format specifier does not fit an object of type '%s'", mb_tv_type(v));
        return;
    }
    if (is_text) {
        text = v;
        if (spec.precision >= 0)
            text.n = (uint32_t)mb_utf8_offset(text.s, text.n, (size_t)spec.precision);
    } else if (spec.type && strchr("eEfFgG%", spec.type)) {
        text = format_float(run, number, &spec);
    } else if (v.kind == MB_T_FLOAT) {
        if (spec.type || spec.precision >= 0) {
            mb_trun_fail(run, MB_EFORMAT, "this format of a float is not supported; name f, e or g");
            return;
        }
        text = mb_tv_str(run, v);
    } else {
        text = format_int(run, v.i, &spec);
    }
    if (spec.comma)
        text = with_commas(run, text);
    add_aligned(run, buf, text, &spec, spec.align ? spec.align : is_text ? '<' : '>');
}

/* The value of a field "0", "name", "a.b[c]" or "" (the next one). */
static struct mb_tv field_value(struct mb_trun *run, struct mb_tv field, const struct mb_targs *args, uint32_t *next)
{
    size_t end = 0;
    uint32_t number = 0, digits = 0;
    while (end < field.n && field.s[end] != '.' && field.s[end] != '[') {
        digits += field.s[end] >= '0' && field.s[end] <= '9';
        if (number < 100000)
            number = number * 10 + (uint32_t)(field.s[end] - '0');
        end++;
    }
    struct mb_tv v = {.kind = MB_T_MISSING};
    if (digits == end) {
        if (!end)
            number = (*next)++;
        if (number < args->n)
            v = args->values[number];
    }
    for (uint32_t i = 0; digits != end && i < args->n_named; i++)
        if (mb_tv_equal(run, args->named[i].key, mb_tv_text(field.s, end)))
            v = args->named[i].value;
    if (v.kind == MB_T_MISSING)
        return mb_trun_fail(run, MB_EFORMAT, "format(): a value is missing");
    while (end < field.n && !mb_trun_failed(run)) {
        int item = field.s[end++] == '[';
        size_t from = end;
        while (end < field.n && (item ? field.s[end] != ']' : field.s[end] != '.' && field.s[end] != '['))
            end++;
        struct mb_tv name = mb_tv_text(field.s + from, end - from);
        int whole = item && name.n && name.n < 9;
        int64_t index = 0;
        for (uint32_t i = 0; i < name.n && whole; i++) {
            whole = name.s[i] >= '0' && name.s[i] <= '9';
            index = index * 10 + (name.s[i] - '0');
        }
        v = item ? mb_top_item(run, v, whole ? mb_tv_int(index) : name) : mb_top_attribute(run, v, name);
        end += item && end < field.n;
    }
    return v;
}

struct mb_tv mb_text_format(struct mb_trun *run, struct mb_tv text, const struct mb_targs *args)
{
    struct mb_tbuf buf = {0};
    uint32_t next = 0;
    for (size_t i = 0; i < text.n && !mb_trun_failed(run); i++) {
        char c = text.s[i];
        if (c != '{' && c != '}') {
            mb_tbuf_add(run, &buf, &c, 1);
            continue;
        }
        if (i + 1 < text.n && text.s[i + 1] == c) {
            mb_tbuf_add(run, &buf, &c, 1);
            i++;
            continue;
        }
        const char *close = c == '{' ? memchr(text.s + i, '}', text.n - i) : NULL;
        if (!close)
            return mb_trun_fail(run, MB_EFORMAT, "single '%c' encountered in format string", c);
        size_t end = (size_t)(close - text.s), colon = i + 1;
        while (colon < end && text.s[colon] != ':' && text.s[colon] != '!')
            colon++;
        if (memchr(text.s + i + 1, '{', end - i - 1))
            return mb_trun_fail(run, MB_EFORMAT, "nested format fields are not supported");
        struct mb_tv v = field_value(run, mb_tv_text(text.s + i + 1, colon - i - 1), args, &next);
        if (colon + 1 < end && text.s[colon] == '!') {
            struct mb_tbuf repr = {0};
            if (text.s[colon + 1] == 'r') {
                mb_tv_repr(run, &repr, v);
                v = mb_tbuf_text(run, &repr);
            } else {
                v = mb_tv_str(run, v);
            }
            colon += 2;
        }
        size_t from = colon < end && text.s[colon] == ':' ? colon + 1 : colon;
        format_one(run, &buf, v, mb_tv_text(text.s + from, end - from));
        i = end;
    }
    return mb_tbuf_text(run, &buf);
}
