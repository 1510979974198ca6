/* SPDX-License-Identifier: MIT */
/* Operators, attribute and item access, slices, as Python has them, with integers of 64 bits: a result that does not fit
 * fails the rendering instead of growing. */
#include "engine/template_value.h"

#include <math.h>
#include <string.h>

static const char *const op_names[] = {"+", "-", "*", "/", "//", "%", "** or pow()", "~", "and", "or", "==",
                                       "!=", "<", "<=", ">", ">=", "in", "not in", "not", "-", "+"};

static struct mb_tv unsupported(struct mb_trun *run, int op, struct mb_tv a, struct mb_tv b)
{
    if (a.kind == MB_T_UNDEFINED || b.kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, a.kind == MB_T_UNDEFINED ? a : b);
    if (op == MB_OP_ADD && a.kind == MB_T_TEXT)
        return mb_trun_fail(run, MB_EFORMAT, "can only concatenate str (not \"%s\") to str", mb_tv_type(b));
    return mb_trun_fail(run, MB_EFORMAT, "unsupported operand type(s) for %s: '%s' and '%s'", op_names[op], mb_tv_type(a),
                        mb_tv_type(b));
}

static struct mb_tv too_large(struct mb_trun *run)
{
    return mb_trun_fail(run, MB_ERANGE, "an integer does not fit 64 bits");
}

static struct mb_tv int_power(struct mb_trun *run, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0)
            return mb_trun_fail(run, MB_EFORMAT, "0.0 cannot be raised to a negative power");
        return mb_tv_float(pow((double)base, (double)exponent));
    }
    if (base >= -1 && base <= 1)
        return mb_tv_int(base == -1 ? (exponent & 1 ? -1 : 1) : exponent ? base : 1);
    for (; exponent; exponent--)
        if (__builtin_mul_overflow(result, base, &result)) /* ends after 63 steps */
            return too_large(run);
    return mb_tv_int(result);
}

static struct mb_tv int_arithmetic(struct mb_trun *run, int op, int64_t a, int64_t b)
{
    int64_t out;
    if ((op == MB_OP_DIV || op == MB_OP_FLOORDIV || op == MB_OP_MOD) && b == 0)
        return mb_trun_fail(run, MB_EFORMAT, op == MB_OP_DIV ? "division by zero" : "integer division or modulo by zero");
    switch (op) {
    case MB_OP_ADD: return __builtin_add_overflow(a, b, &out) ? too_large(run) : mb_tv_int(out);
    case MB_OP_SUB: return __builtin_sub_overflow(a, b, &out) ? too_large(run) : mb_tv_int(out);
    case MB_OP_MUL: return __builtin_mul_overflow(a, b, &out) ? too_large(run) : mb_tv_int(out);
    case MB_OP_DIV: return mb_tv_float((double)a / (double)b);
    case MB_OP_POW: return int_power(run, a, b);
    default: break;
    }
    if (b == -1) {
        if (a == INT64_MIN && op == MB_OP_FLOORDIV)
            return too_large(run);
        return mb_tv_int(op == MB_OP_MOD ? 0 : -a);
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest && (rest < 0) != (b < 0)) { /* Python rounds down */
        quotient--;
        rest += b;
    }
    return mb_tv_int(op == MB_OP_MOD ? rest : quotient);
}

static struct mb_tv float_arithmetic(struct mb_trun *run, int op, double a, double b)
{
    if (b == 0 && (op == MB_OP_DIV || op == MB_OP_FLOORDIV || op == MB_OP_MOD))
        return mb_trun_fail(run, MB_EFORMAT, "float division by zero");
    double rest;
    switch (op) {
    case MB_OP_ADD: return mb_tv_float(a + b);
    case MB_OP_SUB: return mb_tv_float(a - b);
    case MB_OP_MUL: return mb_tv_float(a * b);
    case MB_OP_DIV: return mb_tv_float(a / b);
    case MB_OP_POW:
        rest = pow(a, b);
        if ((isnan(rest) && !isnan(a) && !isnan(b)) || (isinf(rest) && !isinf(a) && !isinf(b)))
            return mb_trun_fail(run, MB_EFORMAT, "the result of ** is not a real number in range");
        return mb_tv_float(rest);
    default: break;
    }
    rest = fmod(a, b);
    double quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        rest += b;
        quotient -= 1;
    } else if (rest == 0) {
        rest = copysign(0.0, b);
    }
    if (op == MB_OP_MOD)
        return mb_tv_float(rest);
    double whole = quotient != 0 ? floor(quotient) : copysign(0.0, a / b);
    return mb_tv_float(quotient - whole > 0.5 ? whole + 1 : whole);
}

/* text or list repeated */
static struct mb_tv repeat(struct mb_trun *run, struct mb_tv what, int64_t times)
{
    if (times < 0)
        times = 0;
    if (what.kind == MB_T_TEXT) {
        struct mb_tbuf buf = {0};
        mb_tbuf_repeat(run, &buf, what.s, what.n, times);
        struct mb_tv out = mb_tbuf_text(run, &buf);
        out.flag = what.flag;
        return out;
    }
    if (what.seq->n && times > UINT32_MAX / what.seq->n)
        return mb_trun_fail(run, MB_ERANGE, "a list of too many items");
    struct mb_tv out = mb_tv_seq(run, what.kind, what.seq->n ? what.seq->n * (size_t)times : 0);
    if (mb_trun_failed(run) || !mb_trun_step(run, out.seq->n))
        return out;
    for (uint32_t i = 0; i < out.seq->n; i++)
        out.seq->items[i] = what.seq->items[i % what.seq->n];
    return out;
}

static struct mb_tv join_seqs(struct mb_trun *run, struct mb_tv a, struct mb_tv b)
{
    struct mb_tv out = mb_tv_seq(run, a.kind, (size_t)a.seq->n + b.seq->n);
    if (mb_trun_failed(run) || !mb_trun_step(run, out.seq->n))
        return out;
    if (a.seq->n)
        memcpy(out.seq->items, a.seq->items, a.seq->n * sizeof *out.seq->items);
    if (b.seq->n)
        memcpy(out.seq->items + a.seq->n, b.seq->items, b.seq->n * sizeof *out.seq->items);
    return out;
}

/* a + b of texts: beside Markup, a plain text is escaped. */
static struct mb_tv add_texts(struct mb_trun *run, struct mb_tv a, struct mb_tv b)
{
    if (a.flag == b.flag) {
        struct mb_tv out = mb_text_concat(run, a, b);
        out.flag = a.flag;
        return out;
    }
    struct mb_tbuf buf = {0};
    if (a.flag)
        mb_tbuf_add(run, &buf, a.s, a.n);
    else
        mb_tbuf_escape(run, &buf, a);
    if (b.flag)
        mb_tbuf_add(run, &buf, b.s, b.n);
    else
        mb_tbuf_escape(run, &buf, b);
    struct mb_tv out = mb_tbuf_text(run, &buf);
    out.flag = 1;
    return out;
}

static int is_int(struct mb_tv v)
{
    return v.kind == MB_T_INT || v.kind == MB_T_BOOL;
}

static int is_list(struct mb_tv v)
{
    return v.kind == MB_T_LIST || v.kind == MB_T_TUPLE;
}

struct mb_tv mb_top_binary(struct mb_trun *run, int op, struct mb_tv a, struct mb_tv b)
{
    double x, y;
    if (mb_trun_failed(run))
        return a;
    if (op == MB_OP_CONCAT)
        return mb_text_concat(run, mb_tv_str(run, a), mb_tv_str(run, b));
    if (op >= MB_OP_EQ && op <= MB_OP_NOT_IN)
        return mb_tv_bool(mb_top_compare(run, op, a, b));
    if (is_int(a) && is_int(b))
        return int_arithmetic(run, op, a.i, b.i);
    if (mb_tv_number(a, &x) && mb_tv_number(b, &y))
        return float_arithmetic(run, op, x, y);
    if (op == MB_OP_ADD && a.kind == MB_T_TEXT && b.kind == MB_T_TEXT)
        return add_texts(run, a, b);
    if (op == MB_OP_ADD && is_list(a) && a.kind == b.kind)
        return join_seqs(run, a, b);
    if (op == MB_OP_MUL && (a.kind == MB_T_TEXT || is_list(a)) && is_int(b))
        return repeat(run, a, b.i);
    if (op == MB_OP_MUL && (b.kind == MB_T_TEXT || is_list(b)) && is_int(a))
        return repeat(run, b, a.i);
    if (op == MB_OP_MOD && a.kind == MB_T_TEXT)
        return mb_text_percent(run, a, b);
    return unsupported(run, op, a, b);
}

static int contains(struct mb_trun *run, struct mb_tv item, struct mb_tv in)
{
    struct mb_tv *items;
    uint32_t n;
    if (in.kind == MB_T_TEXT) {
        if (item.kind == MB_T_TEXT)
            return mb_text_find(run, in, item, 0) >= 0;
        mb_trun_fail(run, MB_EFORMAT, "'in <string>' requires string as left operand, not %s", mb_tv_type(item));
        return 0;
    }
    if (in.kind == MB_T_DICT || in.kind == MB_T_KEYS) {
        if (!mb_tv_hashable(item)) {
            mb_trun_fail(run, MB_EFORMAT, "unhashable type: '%s'", mb_tv_type(item));
            return 0;
        }
        if (in.kind == MB_T_DICT)
            return mb_tdict_find(run, in.dict, item) != NULL;
    }
    if (in.kind == MB_T_NAMESPACE || !mb_tv_items(run, in, &items, &n)) {
        mb_trun_fail(run, MB_EFORMAT, "argument of type '%s' is not iterable", mb_tv_type(in));
        return 0;
    }
    for (uint32_t i = 0; i < n && !mb_trun_failed(run); i++)
        if (mb_tv_equal(run, items[i], item)) {
            if (in.kind == MB_T_ITER) /* what was not looked at is still there */
                in.seq->at = in.seq->n - (n - i - 1);
            return 1;
        }
    return 0;
}

int mb_top_compare(struct mb_trun *run, int op, struct mb_tv a, struct mb_tv b)
{
    int order;
    if (mb_trun_failed(run))
        return 0;
    switch (op) {
    case MB_OP_EQ: return mb_tv_equal(run, a, b);
    case MB_OP_NE: return !mb_tv_equal(run, a, b);
    case MB_OP_IN: return contains(run, a, b);
    case MB_OP_NOT_IN: return !contains(run, a, b);
    default: break;
    }
    double x, y;
    if (mb_tv_number(a, &x) && mb_tv_number(b, &y) && (isnan(x) || isnan(y)))
        return 0;
    order = mb_tv_compare(run, a, b, op_names[op]);
    return op == MB_OP_LT ? order < 0 : op == MB_OP_LE ? order <= 0 : op == MB_OP_GT ? order > 0 : order >= 0;
}

struct mb_tv mb_top_negate(struct mb_trun *run, struct mb_tv a)
{
    if (is_int(a))
        return a.i == INT64_MIN ? too_large(run) : mb_tv_int(-a.i);
    if (a.kind == MB_T_FLOAT)
        return mb_tv_float(-a.f);
    if (a.kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, a);
    return mb_trun_fail(run, MB_EFORMAT, "bad operand type for unary -: '%s'", mb_tv_type(a));
}

/* ---- access ---- */

/* A method of the object, or an undefined value that says why not. */
static struct mb_tv method_of(struct mb_trun *run, struct mb_tv object, struct mb_tv name)
{
    int unsafe = name.n && name.s[0] == '_';
    const struct mb_tcallee *callee = unsafe ? NULL : mb_tmethod_find(object.kind, name, &unsafe);
    if (unsafe && (name.s[0] != '_' || (name.n > 1 && name.s[1] == '_'))) /* Python's objects have no attribute "_x" */
        return mb_tv_undefined(MB_U_UNSAFE, name, object.kind);
    if (!callee)
        return mb_tv_undefined(MB_U_ATTRIBUTE, name, object.kind);
    struct mb_tmethod *method = mb_trun_alloc(run, 1, sizeof *method);
    if (!method)
        return (struct mb_tv){0};
    *method = (struct mb_tmethod){object, callee};
    return (struct mb_tv){.kind = MB_T_METHOD, .method = method};
}

struct mb_tv mb_top_attribute(struct mb_trun *run, struct mb_tv object, struct mb_tv name)
{
    struct mb_tv *have;
    if (mb_trun_failed(run))
        return object;
    if (object.kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, object);
    if (object.kind == MB_T_NAMESPACE) {
        have = mb_tdict_find(run, object.dict, name);
        return have ? *have : mb_tv_undefined(MB_U_ATTRIBUTE, name, object.kind);
    }
    struct mb_tv method = method_of(run, object, name);
    if (method.kind == MB_T_METHOD || method.flag == MB_U_UNSAFE || object.kind != MB_T_DICT)
        return method;
    have = mb_tdict_find(run, object.dict, name);
    return have ? *have : method;
}

/* Index i of n, counting from the end when negative; -1: there is none. */
static int64_t index_of(int64_t i, int64_t n)
{
    if (i < 0)
        i += n;
    return i >= 0 && i < n ? i : -1;
}

struct mb_tv mb_top_item(struct mb_trun *run, struct mb_tv object, struct mb_tv key)
{
    int64_t at;
    if (mb_trun_failed(run))
        return object;
    if (object.kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, object);
    if (object.kind == MB_T_DICT && mb_tv_hashable(key)) {
        struct mb_tv *have = mb_tdict_find(run, object.dict, key);
        if (have)
            return *have;
    } else if (object.kind == MB_T_TEXT && is_int(key)) {
        at = index_of(key.i, mb_tv_length(run, object));
        if (at >= 0) {
            size_t from = mb_utf8_offset(object.s, object.n, (size_t)at);
            struct mb_tv out = mb_tv_text(object.s + from, mb_utf8_offset(object.s + from, object.n - from, 1));
            out.flag = object.flag;
            return out;
        }
    } else if ((is_list(object) || object.kind == MB_T_RANGE) && is_int(key)) {
        at = index_of(key.i, object.seq->n);
        if (at >= 0)
            return object.seq->items[at];
    }
    if (key.kind == MB_T_TEXT)
        return object.kind == MB_T_NAMESPACE ? mb_top_attribute(run, object, key) : method_of(run, object, key);
    return mb_tv_undefined(MB_U_ELEMENT, key, object.kind);
}

struct mb_tv mb_top_path(struct mb_trun *run, struct mb_tv object, struct mb_tv path, struct mb_tv fallback)
{
    int has_fallback = fallback.kind != MB_T_MISSING && fallback.kind != MB_T_NONE;
    if (path.kind != MB_T_TEXT) {
        if (path.kind == MB_T_NONE || path.kind == MB_T_MISSING)
            return object;
        object = mb_top_item(run, object, path);
        return has_fallback && object.kind == MB_T_UNDEFINED ? fallback : object;
    }
    size_t from = 0;
    while (from <= path.n && !mb_trun_failed(run)) {
        const char *dot = path.n > from ? memchr(path.s + from, '.', path.n - from) : NULL;
        size_t end = dot ? (size_t)(dot - path.s) : path.n;
        struct mb_tv part = mb_tv_text(path.s + from, end - from);
        int64_t number = 0;
        size_t i = from;
        for (; i < end && path.s[i] >= '0' && path.s[i] <= '9' && number < 1000000000; i++)
            number = number * 10 + (path.s[i] - '0');
        if (i == end && end > from)
            part = mb_tv_int(number);
        object = mb_top_item(run, object, part);
        if (has_fallback && object.kind == MB_T_UNDEFINED)
            object = fallback;
        from = end + 1;
    }
    return object;
}

/* Where a slice starts and ends (exclusive) for a length, as Python's slice.indices(). */
static void slice_indices(const struct mb_tv bounds[3], int64_t n, int64_t step, int64_t *from, int64_t *to)
{
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    int64_t *const out[] = {from, to};
    for (int i = 0; i < 2; i++) {
        if (!is_int(bounds[i])) {
            *out[i] = (i == 0) == (step > 0) ? low : high;
            continue;
        }
        int64_t at = bounds[i].i;
        if (at < 0)
            at = at < -n ? low : at + n;
        *out[i] = at < low ? low : at > high ? high : at;
    }
}

static struct mb_tv slice_text(struct mb_trun *run, struct mb_tv text, int64_t from, int64_t step, int64_t count)
{
    struct mb_tv out;
    if (step == 1) {
        size_t first = mb_utf8_offset(text.s, text.n, (size_t)from);
        out = mb_tv_text(text.s + first, mb_utf8_offset(text.s + first, text.n - first, (size_t)count));
    } else {
        struct mb_tv *items;
        uint32_t n;
        struct mb_tbuf buf = {0};
        if (!mb_tv_items(run, text, &items, &n))
            return text;
        for (int64_t i = 0; i < count; i++)
            mb_tbuf_add(run, &buf, items[from + i * step].s, items[from + i * step].n);
        out = mb_tbuf_text(run, &buf);
    }
    out.flag = text.flag;
    return out;
}

struct mb_tv mb_top_slice(struct mb_trun *run, struct mb_tv object, const struct mb_tv bounds[3])
{
    if (mb_trun_failed(run))
        return object;
    if (object.kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, object);
    if (object.kind != MB_T_TEXT && !is_list(object) && object.kind != MB_T_RANGE)
        return mb_trun_fail(run, MB_EFORMAT, "'%s' object cannot be sliced", mb_tv_type(object));
    for (int i = 0; i < 3; i++)
        if (!is_int(bounds[i]) && bounds[i].kind != MB_T_NONE)
            return mb_trun_fail(run, MB_EFORMAT, "slice indices must be integers or None, not '%s'", mb_tv_type(bounds[i]));
    int64_t step = is_int(bounds[2]) ? bounds[2].i : 1, n = mb_tv_length(run, object), from, to;
    if (step == 0)
        return mb_trun_fail(run, MB_EFORMAT, "slice step cannot be zero");
    if (step > n + 1 || step < -n - 1) /* one item at most; keeps the products small */
        step = step < 0 ? -n - 1 : n + 1;
    slice_indices(bounds, n, step, &from, &to);
    int64_t count = step > 0 ? (to > from ? (to - from - 1) / step + 1 : 0) : from > to ? (from - to - 1) / -step + 1 : 0;
    if (!mb_trun_step(run, (uint64_t)count / 8 + (object.kind == MB_T_TEXT ? object.n / 16 : 0)))
        return object;
    if (object.kind == MB_T_TEXT)
        return slice_text(run, object, from, step, count);
    struct mb_tv out = mb_tv_seq(run, object.kind, (size_t)count);
    for (int64_t i = 0; i < count && !mb_trun_failed(run); i++)
        out.seq->items[i] = object.seq->items[from + i * step];
    const struct mb_tseq *range = object.seq;
    if (object.kind == MB_T_RANGE && !mb_trun_failed(run) &&
        (__builtin_mul_overflow(from, range->step, &from) || __builtin_add_overflow(from, range->first, &out.seq->first) ||
         __builtin_mul_overflow(to, range->step, &to) || __builtin_add_overflow(to, range->first, &out.seq->last) ||
         __builtin_mul_overflow(range->step, step, &out.seq->step)))
        return too_large(run);
    return out;
}
