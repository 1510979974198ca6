/* SPDX-License-Identifier: MIT */
/* Template source to tokens. The rules of white space around tags are those of Jinja with trim_blocks and lstrip_blocks:
 * a line break right after a block or comment goes, blanks between the start of a line and a block or comment go, "-"
 * at a tag's edge takes all white space on that side, "+" keeps it. Source: Jinja's documentation, "Whitespace Control". */
#include "engine/template_node.h"

#include <stdlib.h>
#include <string.h>

struct lexer {
    struct mb_tlex *out;
    const char *s;
    size_t n, at;
    unsigned line;
    int line_start; /* the text before `at` ends a line, or there is none */
    int code;
    struct mb_err *err;
};

static int fail(struct lexer *x, int code, const char *what)
{
    if (x->code == MB_OK)
        x->code = mb_fail(x->err, code, "chat template, line %u: %s", x->line, what);
    return 0;
}

static int add(struct lexer *x, enum mb_ttoken_kind kind, struct mb_tv value)
{
    struct mb_ttoken *token = mb_arena_append(x->out->arena, &x->out->tokens, &x->out->n, sizeof *token);
    if (!token) {
        if (x->code == MB_OK)
            x->code = mb_fail_memory(x->err);
        return 0;
    }
    *token = (struct mb_ttoken){kind, x->line, value};
    return 1;
}

static void count_lines(struct lexer *x, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        x->line += x->s[i] == '\n';
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    unsigned len;
    while (at < x->n && mb_point_space(mb_utf8_at(x->s + at, x->n - at, &len)))
        at += len;
    return at;
}

static int stands(const struct lexer *x, size_t at, const char *word)
{
    size_t n = strlen(word);
    return n <= x->n - at && memcmp(x->s + at, word, n) == 0;
}

/* The text x->at .. end, before a tag whose edge carries sign; block: blanks before it on its line go. */
static int add_data(struct lexer *x, size_t end, char sign, int block)
{
    struct mb_tv text = mb_tv_text(x->s + x->at, end - x->at);
    if (sign == '-') {
        text = mb_text_strip(text, (struct mb_tv){.kind = MB_T_MISSING}, 2);
    } else if (sign != '+' && block) {
        size_t from = text.n;
        while (from && text.s[from - 1] != '\n')
            from--;
        if ((from || x->line_start) && mb_text_strip(mb_tv_text(text.s + from, text.n - from), mb_tv_none(), 3).n == 0)
            text.n = (uint32_t)from;
    }
    int ok = text.n == 0 || add(x, MB_TT_DATA, text);
    count_lines(x, x->at, end);
    x->at = end;
    return ok;
}

/* Past the closing edge of a block or comment (x->at stands on its sign or its first character). */
static void close_edge(struct lexer *x, size_t end, char sign, int trim)
{
    size_t to = sign == '-' ? skip_space(x, end) : trim && sign != '+' && end < x->n && x->s[end] == '\n' ? end + 1 : end;
    count_lines(x, x->at, to);
    x->line_start = to > 0 && x->s[to - 1] == '\n';
    x->at = to;
}

static int lex_comment(struct lexer *x)
{
    size_t end = x->at;
    while (end < x->n && !stands(x, end, "#}"))
        end++;
    if (end >= x->n)
        return fail(x, MB_EFORMAT, "missing end of comment tag");
    char sign = end > x->at && (x->s[end - 1] == '-' || x->s[end - 1] == '+') ? x->s[end - 1] : 0;
    close_edge(x, end + 2, sign, 1);
    return 1;
}

/* At `at` stands "{%": is it a tag with just this word? Then *end is past its "%}", *close the sign before that. */
static int is_lone_tag(const struct lexer *x, size_t at, const char *word, size_t *end, char *close)
{
    at += 2;
    at += at < x->n && (x->s[at] == '-' || x->s[at] == '+');
    at = skip_space(x, at);
    if (!stands(x, at, word))
        return 0;
    at = skip_space(x, at + strlen(word));
    *close = 0;
    if (at < x->n && (x->s[at] == '-' || x->s[at] == '+'))
        *close = x->s[at++];
    *end = at + 2;
    return stands(x, at, "%}");
}

static int lex_raw(struct lexer *x, size_t body, char open_close)
{
    size_t end;
    char close;
    close_edge(x, body, open_close, 0);
    for (size_t i = x->at; i + 1 < x->n; i++)
        if (stands(x, i, "{%") && is_lone_tag(x, i, "endraw", &end, &close)) {
            char sign = x->s[i + 2] == '-' || x->s[i + 2] == '+' ? x->s[i + 2] : 0;
            if (!add_data(x, i, sign, 1))
                return 0;
            close_edge(x, end, close, 1);
            return 1;
        }
    return fail(x, MB_EFORMAT, "missing end of raw directive");
}

/* ---- inside a tag ---- */

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits with single underscores between them from `at`; the offset behind them. */
static size_t digits(const struct lexer *x, size_t at)
{
    while (at < x->n && (is_digit(x->s[at]) || (x->s[at] == '_' && at + 1 < x->n && is_digit(x->s[at + 1]))))
        at++;
    return at;
}

static int digit_of(char c)
{
    return is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
}

static int lex_integer(struct lexer *x)
{
    size_t at = x->at, end;
    int base = 10;
    char mark = at + 1 < x->n ? (char)(x->s[at + 1] | 32) : 0;
    if (x->s[at] == '0' && (mark == 'x' || mark == 'o' || mark == 'b')) {
        int wanted = mark == 'x' ? 16 : mark == 'o' ? 8 : 2;
        size_t first = at + 2 + (at + 2 < x->n && x->s[at + 2] == '_');
        if (first < x->n && digit_of(x->s[first]) < wanted) {
            base = wanted;
            at = first;
        }
    }
    uint64_t value = 0;
    int zeros = base == 10 && x->s[at] == '0'; /* 007 is two tokens, as in Jinja */
    for (end = at; end < x->n; end++) {
        char c = x->s[end];
        if (c == '_' && end > at && end + 1 < x->n && digit_of(x->s[end + 1]) < base && (!zeros || x->s[end + 1] == '0'))
            continue;
        if (digit_of(c) >= base || (zeros && c != '0'))
            break;
        if (value > ((uint64_t)INT64_MAX - (unsigned)digit_of(c)) / (unsigned)base)
            return fail(x, MB_ERANGE, "an integer is too large");
        value = value * (unsigned)base + (unsigned)digit_of(c);
    }
    x->at = end;
    return add(x, MB_TT_INT, mb_tv_int((int64_t)value));
}

/* A float at x->at: digits, then a fraction, an exponent, or both. 0: none stands there, and nothing is taken. */
static int lex_float(struct lexer *x, int *ok)
{
    if (x->at && x->s[x->at - 1] == '.')
        return 0; /* a.0.1 are two items */
    size_t end = digits(x, x->at), whole = end;
    if (end + 1 < x->n && x->s[end] == '.' && is_digit(x->s[end + 1]))
        end = digits(x, end + 1);
    size_t exponent = end;
    if (exponent < x->n && (x->s[exponent] | 32) == 'e') {
        exponent++;
        exponent += exponent < x->n && (x->s[exponent] == '+' || x->s[exponent] == '-');
        if (exponent < x->n && is_digit(x->s[exponent]))
            end = digits(x, exponent);
    }
    if (end == whole)
        return 0;
    char text[64];
    size_t n = 0;
    for (size_t i = x->at; i < end; i++)
        if (x->s[i] != '_') {
            if (n == sizeof text - 1) {
                *ok = fail(x, MB_ERANGE, "a number is too long");
                return 1;
            }
            text[n++] = x->s[i];
        }
    text[n] = 0;
    x->at = end;
    *ok = add(x, MB_TT_FLOAT, mb_tv_float(strtod(text, NULL)));
    return 1;
}

/* The code point of a \x41, \u0041, \U00000041 or \101 escape at s (behind the backslash), its length in *len; -1: bad. */
static int64_t numeric_escape(const char *s, size_t n, size_t *len)
{
    int base = s[0] == 'x' || s[0] == 'u' || s[0] == 'U' ? 16 : 8;
    size_t wanted = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 3, first = base == 16, i = first;
    int64_t point = 0;
    for (; i < n && i < first + wanted && digit_of(s[i]) < base; i++)
        point = point * base + digit_of(s[i]);
    *len = i;
    if (base == 16 && i < first + wanted)
        return -1;
    return point > 0x10ffff || (point >= 0xd800 && point < 0xe000) ? -1 : point;
}

/* Undo the escapes of a literal s[0..n) in place of a copy; 0: an escape is wrong. */
static int unescape(struct lexer *x, const char *s, size_t n, struct mb_tv *out)
{
    char *copy = mb_arena_alloc(x->out->arena, n + 1);
    size_t to = 0;
    if (!copy) {
        x->code = mb_fail_memory(x->err);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        static const char letters[] = "abfnrtv\\'\"", meant[] = "\a\b\f\n\r\t\v\\'\"";
        if (s[i] != '\\' || i + 1 == n) {
            copy[to++] = s[i];
            continue;
        }
        char c = s[++i];
        const char *at = c ? strchr(letters, c) : NULL;
        if (at) {
            copy[to++] = meant[at - letters];
        } else if (c == 'x' || c == 'u' || c == 'U' || (c >= '0' && c <= '7')) {
            size_t len;
            int64_t point = numeric_escape(s + i, n - i, &len);
            if (point < 0)
                return fail(x, MB_EFORMAT, "a numeric escape in a string is wrong");
            to += mb_utf8_put((uint32_t)point, copy + to); /* no longer than the escape */
            i += len - 1;
        } else if (c == 'N') {
            return fail(x, MB_EFORMAT, "\\N{...} escapes are not supported");
        } else if (c != '\n') {
            copy[to++] = '\\';
            copy[to++] = c;
        }
    }
    *out = mb_tv_text(copy, to);
    return 1;
}

static int lex_string(struct lexer *x)
{
    char quote = x->s[x->at];
    size_t end = x->at + 1;
    struct mb_tv text;
    while (end < x->n && x->s[end] != quote)
        end += x->s[end] == '\\' ? 2 : 1;
    if (end >= x->n)
        return fail(x, MB_EFORMAT, "a string does not end");
    if (!memchr(x->s + x->at + 1, '\\', end - x->at - 1))
        text = mb_tv_text(x->s + x->at + 1, end - x->at - 1);
    else if (!unescape(x, x->s + x->at + 1, end - x->at - 1, &text))
        return 0;
    int ok = add(x, MB_TT_TEXT, text);
    count_lines(x, x->at, end);
    x->at = end + 1;
    return ok;
}

static int is_name(const struct lexer *x, size_t at, unsigned *len)
{
    uint32_t p = mb_utf8_at(x->s + at, x->n - at, len);
    return p == '_' || (p < 0x80 && is_digit((char)p)) || mb_point_alpha(p);
}

/* Brackets that are open, so that "}}" inside a dict literal does not end the tag. */
struct brackets {
    char open[256];
    unsigned n;
};

static int lex_operator(struct lexer *x, struct brackets *brackets)
{
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    size_t len = 1;
    for (size_t i = 0; i < MB_COUNT(two); i++)
        if (stands(x, x->at, two[i]))
            len = 2;
    char c = x->s[x->at];
    if (!c || !strchr("+-/*%~[](){}=.:|,;<>!", c) || (c == '!' && len == 1))
        return fail(x, MB_EFORMAT, "unexpected character in a tag");
    if (len == 1 && (c == '(' || c == '[' || c == '{')) {
        if (brackets->n == sizeof brackets->open)
            return fail(x, MB_ERANGE, "brackets are nested too deeply");
        brackets->open[brackets->n++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    }
    if (len == 1 && (c == ')' || c == ']' || c == '}')) {
        if (!brackets->n || brackets->open[brackets->n - 1] != c)
            return fail(x, MB_EFORMAT, "a closing bracket has no opening one");
        brackets->n--;
    }
    int ok = add(x, MB_TT_OPERATOR, mb_tv_text(x->s + x->at, len));
    x->at += len;
    return ok;
}

/* From behind an opening "{%" or "{{" to behind its end. */
static int lex_tag(struct lexer *x, int block)
{
    const char *end = block ? "%}" : "}}";
    struct brackets brackets = {.n = 0};
    for (;;) {
        size_t at = skip_space(x, x->at);
        count_lines(x, x->at, at);
        x->at = at;
        if (at >= x->n)
            return fail(x, MB_EFORMAT, "the template ends inside a tag");
        char sign = x->s[at] == '-' || (block && x->s[at] == '+') ? x->s[at] : 0;
        if (!brackets.n && stands(x, at + (sign != 0), end)) {
            if (!add(x, block ? MB_TT_CLOSE : MB_TT_PRINTED, mb_tv_none()))
                return 0;
            close_edge(x, at + (sign != 0) + 2, sign, block);
            return 1;
        }
        unsigned len;
        int ok = 1;
        if (is_digit(x->s[at])) {
            if (!lex_float(x, &ok))
                ok = lex_integer(x);
        } else if (is_name(x, at, &len)) {
            size_t to = at;
            while (to < x->n && is_name(x, to, &len))
                to += len;
            ok = add(x, MB_TT_NAME, mb_tv_text(x->s + at, to - at));
            x->at = to;
        } else if (x->s[at] == '"' || x->s[at] == '\'') {
            ok = lex_string(x);
        } else {
            ok = lex_operator(x, &brackets);
        }
        if (!ok)
            return 0;
    }
}

int mb_tlex_run(struct mb_tlex *lex, const char *source, size_t n, struct mb_err *err)
{
    struct lexer x = {.out = lex, .s = source, .n = n, .line = 1, .line_start = 1, .err = err};
    while (x.at < n && x.code == MB_OK) {
        size_t open = x.at;
        while (open < n && !(source[open] == '{' && open + 1 < n && strchr("%{#", source[open + 1]) && source[open + 1]))
            open++;
        if (open >= n) {
            if (add(&x, MB_TT_DATA, mb_tv_text(source + x.at, n - x.at)))
                x.at = n;
            break;
        }
        char what = source[open + 1], close;
        char sign = open + 2 < n && (source[open + 2] == '-' || source[open + 2] == '+') ? source[open + 2] : 0;
        size_t end;
        if (!add_data(&x, open, sign, what != '{'))
            break;
        x.at = open + 2 + (sign != 0);
        if (what == '#') {
            lex_comment(&x);
        } else if (what == '%' && is_lone_tag(&x, open, "raw", &end, &close) && close != '+') {
            lex_raw(&x, end, close);
        } else if (add(&x, what == '%' ? MB_TT_OPEN : MB_TT_PRINT, mb_tv_none())) {
            lex_tag(&x, what == '%');
        }
    }
    add(&x, MB_TT_END, mb_tv_none());
    return x.code;
}
