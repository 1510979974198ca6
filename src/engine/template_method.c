/* SPDX-License-Identifier: MIT */
/* Calls of built-in things: binding arguments to parameters, the methods of texts, dicts, lists and loops' helpers that
 * templates use, and the global functions. Methods that change a list or dict are known and refused, as in the sandbox. */
#include "engine/template_value.h"

#include <string.h>

/* ---- binding ---- */

int64_t mb_targ_int(struct mb_trun *run, struct mb_tv v, int64_t fallback)
{
    if (v.kind == MB_T_MISSING || v.kind == MB_T_NONE)
        return fallback;
    if (v.kind != MB_T_INT && v.kind != MB_T_BOOL) {
        if (v.kind == MB_T_UNDEFINED)
            mb_tv_undefined_fail(run, v);
        mb_trun_fail(run, MB_EFORMAT, "'%s' object cannot be interpreted as an integer", mb_tv_type(v));
        return fallback;
    }
    return v.i;
}

struct mb_tv mb_targ_text(struct mb_trun *run, struct mb_tv v)
{
    if (v.kind == MB_T_TEXT)
        return v;
    if (v.kind == MB_T_UNDEFINED)
        mb_tv_undefined_fail(run, v);
    mb_trun_fail(run, MB_EFORMAT, "a str was expected, not '%s'", mb_tv_type(v));
    return mb_tv_text("", 0);
}

/* Number of the parameter with this name, -1: none that may be named. */
static int find_param(const char *params, struct mb_tv name)
{
    int at = 0;
    for (const char *p = params; *p && *p != '/'; at++) {
        size_t n = strcspn(p, " ");
        if (n == name.n && memcmp(p, name.s, n) == 0)
            return at;
        p += n;
        p += *p == ' ';
    }
    return -1;
}

static unsigned count_params(const char *params)
{
    unsigned n = *params != 0;
    for (const char *p = params; *p; p++)
        n += *p == ' ';
    return strchr(params, '/') ? n - 1 : n; /* "a / b": the slash is no parameter */
}

struct mb_tv mb_tcall(struct mb_trun *run, const struct mb_tcallee *callee, struct mb_tv self, const struct mb_targs *args)
{
    struct mb_tv v[MB_TARGS_MAX];
    for (int i = 0; i < MB_TARGS_MAX; i++)
        v[i] = (struct mb_tv){.kind = MB_T_MISSING};
    v[0] = self;
    if (mb_trun_failed(run))
        return self;
    if (!callee->params)
        return callee->call(run, v, args);
    unsigned n = count_params(callee->params);
    if (args->n + 1 > n)
        return mb_trun_fail(run, MB_EFORMAT, "%s() takes %u argument(s) but %u were given", callee->name, n - 1, args->n);
    for (uint32_t i = 0; i < args->n; i++)
        v[i + 1] = args->values[i];
    for (uint32_t i = 0; i < args->n_named; i++) {
        int at = find_param(callee->params, args->named[i].key);
        if (at < 0 || v[at].kind != MB_T_MISSING)
            return mb_trun_fail(run, MB_EFORMAT, "%s() got an unexpected keyword argument '%.*s'", callee->name,
                                args->named[i].key.n > 60 ? 60 : (int)args->named[i].key.n, args->named[i].key.s);
        v[at] = args->named[i].value;
    }
    for (unsigned i = 0; i < callee->required; i++)
        if (v[i].kind == MB_T_MISSING)
            return mb_trun_fail(run, MB_EFORMAT, "%s() misses a required argument", callee->name);
    return callee->call(run, v, args);
}

/* ---- texts ---- */

#define METHOD(name) static struct mb_tv name(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args)

static struct mb_tv strip(struct mb_trun *run, struct mb_tv *v, int sides)
{
    if (v[1].kind != MB_T_MISSING && v[1].kind != MB_T_NONE)
        mb_targ_text(run, v[1]);
    uint64_t n = v[1].kind == MB_T_TEXT ? (uint64_t)v[1].n / 4 + 1 : 1;
    struct mb_tv out = mb_text_strip(v[0], v[1], sides);
    mb_trun_step(run, (v[0].n - out.n) / 4 * n);
    return out;
}

METHOD(text_strip)
{
    (void)args;
    return strip(run, v, 3);
}

METHOD(text_lstrip)
{
    (void)args;
    return strip(run, v, 1);
}

METHOD(text_rstrip)
{
    (void)args;
    return strip(run, v, 2);
}

static struct mb_tv part(struct mb_tv text, size_t from, size_t to)
{
    struct mb_tv out = mb_tv_text(text.s + from, to - from);
    out.flag = text.flag;
    return out;
}

/* Fields parted by runs of white space. */
static struct mb_tv split_space(struct mb_trun *run, struct mb_tv text, int64_t limit)
{
    struct mb_tv list = mb_tv_seq(run, MB_T_LIST, 0);
    struct mb_tv left = mb_text_strip(text, mb_tv_none(), 1);
    while (left.n && !mb_trun_failed(run)) {
        size_t end = 0;
        unsigned len;
        while (end < left.n && !mb_point_space(mb_utf8_at(left.s + end, left.n - end, &len)))
            end += len;
        if (limit-- == 0) {
            mb_tseq_add(run, list.seq, left);
            break;
        }
        mb_tseq_add(run, list.seq, part(left, 0, end));
        mb_trun_step(run, end / 8 + 1);
        left = mb_text_strip(part(left, end, left.n), mb_tv_none(), 1);
    }
    return list;
}

static void reverse(struct mb_tseq *seq)
{
    for (uint32_t i = 0; i < seq->n / 2; i++) {
        struct mb_tv other = seq->items[i];
        seq->items[i] = seq->items[seq->n - 1 - i];
        seq->items[seq->n - 1 - i] = other;
    }
}

static struct mb_tv rsplit_space(struct mb_trun *run, struct mb_tv text, int64_t limit)
{
    struct mb_tv list = mb_tv_seq(run, MB_T_LIST, 0);
    struct mb_tv left = mb_text_strip(text, mb_tv_none(), 2);
    while (left.n && !mb_trun_failed(run)) {
        if (limit-- == 0) {
            mb_tseq_add(run, list.seq, left);
            break;
        }
        size_t from = left.n, next = left.n;
        while (next) {
            unsigned len;
            next--;
            while (next && ((unsigned char)left.s[next] & 0xc0) == 0x80)
                next--;
            if (mb_point_space(mb_utf8_at(left.s + next, left.n - next, &len)))
                break;
            from = next;
        }
        mb_tseq_add(run, list.seq, part(left, from, left.n));
        mb_trun_step(run, (left.n - from) / 8 + 1);
        left = mb_text_strip(part(left, 0, from), mb_tv_none(), 2);
    }
    if (!mb_trun_failed(run))
        reverse(list.seq);
    return list;
}

/* Offset of the last needle in text, or -1. */
static int64_t find_last(struct mb_trun *run, struct mb_tv text, struct mb_tv needle)
{
    uint64_t compared = 0;
    int64_t i = (int64_t)text.n - needle.n;
    for (; i >= 0; i--) {
        if (needle.n == 0)
            break;
        if (text.s[i] != needle.s[0])
            continue;
        compared += needle.n / 16 + 1;
        if (compared > run->steps_left || memcmp(text.s + i, needle.s, needle.n) == 0)
            break;
    }
    size_t walked = text.n - (size_t)(i < 0 ? 0 : i);
    return mb_trun_step(run, walked / 4 + compared) ? i : -1;
}

METHOD(text_split)
{
    (void)args;
    int64_t limit = mb_targ_int(run, v[2], -1);
    if (v[1].kind == MB_T_MISSING || v[1].kind == MB_T_NONE)
        return split_space(run, v[0], limit);
    struct mb_tv list = mb_tv_seq(run, MB_T_LIST, 0), by = mb_targ_text(run, v[1]);
    if (by.n == 0)
        return mb_trun_fail(run, MB_EFORMAT, "empty separator");
    size_t from = 0;
    while (!mb_trun_failed(run)) {
        int64_t at = limit-- == 0 ? -1 : mb_text_find(run, v[0], by, from);
        mb_tseq_add(run, list.seq, part(v[0], from, at < 0 ? v[0].n : (size_t)at));
        if (at < 0)
            break;
        from = (size_t)at + by.n;
        mb_trun_step(run, 1);
    }
    return list;
}

METHOD(text_rsplit)
{
    (void)args;
    int64_t limit = mb_targ_int(run, v[2], -1);
    if (v[1].kind == MB_T_MISSING || v[1].kind == MB_T_NONE)
        return rsplit_space(run, v[0], limit);
    struct mb_tv list = mb_tv_seq(run, MB_T_LIST, 0), by = mb_targ_text(run, v[1]), left = v[0];
    if (by.n == 0)
        return mb_trun_fail(run, MB_EFORMAT, "empty separator");
    while (!mb_trun_failed(run)) {
        int64_t at = limit-- == 0 ? -1 : find_last(run, left, by);
        mb_tseq_add(run, list.seq, part(left, at < 0 ? 0 : (size_t)at + by.n, left.n));
        if (at < 0)
            break;
        left = part(left, 0, (size_t)at);
    }
    if (!mb_trun_failed(run))
        reverse(list.seq);
    return list;
}

METHOD(text_splitlines)
{
    (void)args;
    return mb_text_lines(run, v[0], mb_tv_truth(run, v[1]));
}

/* v[1] at one end of v[0]; a tuple offers several. start and end are code points. */
static struct mb_tv at_end(struct mb_trun *run, struct mb_tv *v, int suffix)
{
    const struct mb_tv bounds[3] = {v[2], v[3].kind == MB_T_MISSING ? mb_tv_none() : v[3], mb_tv_none()};
    struct mb_tv text = v[2].kind == MB_T_MISSING ? v[0] : mb_top_slice(run, v[0], bounds), *choices = &v[1];
    uint32_t n = 1;
    if (v[1].kind == MB_T_TUPLE) {
        choices = v[1].seq->items;
        n = v[1].seq->n;
    }
    for (uint32_t i = 0; i < n && !mb_trun_failed(run); i++) {
        struct mb_tv end = mb_targ_text(run, choices[i]);
        if (mb_trun_step(run, end.n / 16 + 1) && end.n <= text.n &&
            memcmp(suffix ? text.s + text.n - end.n : text.s, end.s, end.n) == 0)
            return mb_tv_bool(1);
    }
    return mb_tv_bool(0);
}

METHOD(text_startswith)
{
    (void)args;
    return at_end(run, v, 0);
}

METHOD(text_endswith)
{
    (void)args;
    return at_end(run, v, 1);
}

METHOD(text_removeprefix)
{
    struct mb_tv found = at_end(run, v, 0);
    (void)args;
    return found.i && v[1].kind == MB_T_TEXT ? part(v[0], v[1].n, v[0].n) : v[0];
}

METHOD(text_removesuffix)
{
    struct mb_tv found = at_end(run, v, 1);
    (void)args;
    return found.i && v[1].kind == MB_T_TEXT ? part(v[0], 0, v[0].n - v[1].n) : v[0];
}

METHOD(text_replace)
{
    (void)args;
    struct mb_tv out = mb_text_replace(run, v[0], mb_targ_text(run, v[1]), mb_targ_text(run, v[2]), mb_targ_int(run, v[3], -1));
    out.flag = v[0].flag;
    return out;
}

METHOD(text_upper)
{
    (void)args;
    return mb_text_case(run, v[0], 'u');
}

METHOD(text_lower)
{
    (void)args;
    return mb_text_case(run, v[0], 'l');
}

METHOD(text_title)
{
    (void)args;
    return mb_text_case(run, v[0], 't');
}

METHOD(text_capitalize)
{
    (void)args;
    return mb_text_case(run, v[0], 'c');
}

METHOD(text_swapcase)
{
    (void)args;
    return mb_text_case(run, v[0], 's');
}

/* find and index: offsets are code points. */
static struct mb_tv find(struct mb_trun *run, struct mb_tv *v, int last, int must)
{
    struct mb_tv needle = mb_targ_text(run, v[1]), text = v[0];
    int64_t n = mb_tv_length(run, text), from = mb_targ_int(run, v[2], 0), to = mb_targ_int(run, v[3], n);
    from = from < 0 ? (from < -n ? 0 : from + n) : from;
    to = to < 0 ? (to < -n ? 0 : to + n) : to > n ? n : to;
    int64_t at = -1;
    if (from <= to && !mb_trun_failed(run)) {
        size_t first = mb_utf8_offset(text.s, text.n, (size_t)from);
        struct mb_tv within = part(text, first, first + mb_utf8_offset(text.s + first, text.n - first, (size_t)(to - from)));
        at = last ? find_last(run, within, needle) : mb_text_find(run, within, needle, 0);
        if (at >= 0)
            at = from + (int64_t)mb_utf8_count(within.s, (size_t)at);
    }
    if (at < 0 && must)
        return mb_trun_fail(run, MB_EFORMAT, "substring not found");
    return mb_tv_int(at);
}

METHOD(text_find)
{
    (void)args;
    return find(run, v, 0, 0);
}

METHOD(text_rfind)
{
    (void)args;
    return find(run, v, 1, 0);
}

METHOD(text_index)
{
    (void)args;
    return find(run, v, 0, 1);
}

METHOD(text_rindex)
{
    (void)args;
    return find(run, v, 1, 1);
}

METHOD(text_count)
{
    (void)args;
    struct mb_tv needle = mb_targ_text(run, v[1]);
    if (needle.n == 0)
        return mb_tv_int(mb_tv_length(run, v[0]) + 1);
    int64_t n = 0, at = 0;
    while (!mb_trun_failed(run) && (at = mb_text_find(run, v[0], needle, (size_t)at)) >= 0) {
        at += needle.n;
        n++;
    }
    return mb_tv_int(n);
}

METHOD(text_join)
{
    struct mb_tv *items;
    uint32_t n;
    struct mb_tbuf buf = {0};
    (void)args;
    if (!mb_tv_items(run, v[1], &items, &n))
        return v[0];
    for (uint32_t i = 0; i < n && !mb_trun_failed(run); i++) {
        struct mb_tv item = mb_targ_text(run, items[i]);
        if (i)
            mb_tbuf_add(run, &buf, v[0].s, v[0].n);
        mb_tbuf_add(run, &buf, item.s, item.n);
        mb_trun_step(run, 1);
    }
    return mb_tbuf_text(run, &buf);
}

METHOD(text_format)
{
    return mb_text_format(run, v[0], args);
}

/* Is every code point so, and is there one? 'd' digits, 'a' letters, 'n' either, 's' white space. */
static struct mb_tv all_are(struct mb_trun *run, struct mb_tv text, char what)
{
    int all = text.n > 0;
    for (size_t i = 0; i < text.n && all && mb_trun_step(run, 1);) {
        unsigned len;
        uint32_t p = mb_utf8_at(text.s + i, text.n - i, &len);
        int digit = p >= '0' && p <= '9';
        all = what == 'd' ? digit : what == 's' ? mb_point_space(p) : mb_point_alpha(p) || (what == 'n' && digit);
        i += len;
    }
    return mb_tv_bool(all);
}

METHOD(text_isdigit)
{
    (void)args;
    return all_are(run, v[0], 'd');
}

METHOD(text_isalpha)
{
    (void)args;
    return all_are(run, v[0], 'a');
}

METHOD(text_isalnum)
{
    (void)args;
    return all_are(run, v[0], 'n');
}

METHOD(text_isspace)
{
    (void)args;
    return all_are(run, v[0], 's');
}

/* Are there letters with case, all of this one? */
static struct mb_tv all_case(struct mb_trun *run, struct mb_tv text, int wanted)
{
    int any = 0;
    for (size_t i = 0; i < text.n && mb_trun_step(run, 1);) {
        unsigned len;
        int cased = mb_point_cased(mb_utf8_at(text.s + i, text.n - i, &len));
        if (cased && cased != wanted)
            return mb_tv_bool(0);
        any |= cased != 0;
        i += len;
    }
    return mb_tv_bool(any);
}

METHOD(text_isupper)
{
    (void)args;
    return all_case(run, v[0], 1);
}

METHOD(text_islower)
{
    (void)args;
    return all_case(run, v[0], -1);
}

static struct mb_tv pad(struct mb_trun *run, struct mb_tv *v, char how)
{
    int64_t width = mb_targ_int(run, v[1], 0), gap = width - mb_tv_length(run, v[0]);
    struct mb_tv fill = v[2].kind == MB_T_MISSING ? mb_tv_text(" ", 1) : mb_targ_text(run, v[2]);
    if (mb_utf8_count(fill.s, fill.n) != 1)
        return mb_trun_fail(run, MB_EFORMAT, "the fill character must be exactly one character long");
    if (gap <= 0)
        return v[0];
    int64_t left = how == 'r' ? gap : how == 'l' ? 0 : gap / 2 + (gap & width & 1);
    struct mb_tbuf buf = {0};
    mb_tbuf_repeat(run, &buf, fill.s, fill.n, left);
    mb_tbuf_add(run, &buf, v[0].s, v[0].n);
    mb_tbuf_repeat(run, &buf, fill.s, fill.n, gap - left);
    return mb_tbuf_text(run, &buf);
}

METHOD(text_ljust)
{
    (void)args;
    return pad(run, v, 'l');
}

METHOD(text_rjust)
{
    (void)args;
    return pad(run, v, 'r');
}

METHOD(text_center)
{
    (void)args;
    return pad(run, v, 'c');
}

METHOD(text_zfill)
{
    (void)args;
    int64_t gap = mb_targ_int(run, v[1], 0) - mb_tv_length(run, v[0]);
    size_t sign = v[0].n && (v[0].s[0] == '-' || v[0].s[0] == '+');
    struct mb_tbuf buf = {0};
    mb_tbuf_add(run, &buf, v[0].s, sign);
    mb_tbuf_repeat(run, &buf, "0", 1, gap);
    mb_tbuf_add(run, &buf, v[0].s + sign, v[0].n - sign);
    return mb_tbuf_text(run, &buf);
}

/* before, separator, after */
static struct mb_tv partition(struct mb_trun *run, struct mb_tv *v, int last)
{
    struct mb_tv by = mb_targ_text(run, v[1]), out = mb_tv_seq(run, MB_T_TUPLE, 3);
    if (by.n == 0)
        mb_trun_fail(run, MB_EFORMAT, "empty separator");
    if (mb_trun_failed(run))
        return out;
    int64_t at = last ? find_last(run, v[0], by) : mb_text_find(run, v[0], by, 0);
    size_t cut = at >= 0 ? (size_t)at : last ? 0 : v[0].n, behind = at >= 0 ? cut + by.n : cut;
    out.seq->items[0] = part(v[0], 0, cut);
    out.seq->items[1] = part(v[0], cut, behind);
    out.seq->items[2] = part(v[0], behind, v[0].n);
    return out;
}

METHOD(text_partition)
{
    (void)args;
    return partition(run, v, 0);
}

METHOD(text_rpartition)
{
    (void)args;
    return partition(run, v, 1);
}

/* ---- dicts and lists ---- */

static struct mb_tv view(struct mb_trun *run, const struct mb_tdict *dict, int kind)
{
    struct mb_tv out = mb_tv_seq(run, kind, dict->n);
    if (mb_trun_failed(run) || !mb_trun_step(run, dict->n))
        return out;
    for (uint32_t i = 0; i < dict->n && !mb_trun_failed(run); i++)
        out.seq->items[i] = kind == MB_T_KEYS     ? dict->pairs[i].key
                            : kind == MB_T_VALUES ? dict->pairs[i].value
                                                  : mb_tv_pair(run, dict->pairs[i].key, dict->pairs[i].value);
    return out;
}

METHOD(dict_items)
{
    (void)args;
    return view(run, v[0].dict, MB_T_ITEMS);
}

METHOD(dict_keys)
{
    (void)args;
    return view(run, v[0].dict, MB_T_KEYS);
}

METHOD(dict_values)
{
    (void)args;
    return view(run, v[0].dict, MB_T_VALUES);
}

METHOD(dict_get)
{
    (void)args;
    if (!mb_tv_hashable(v[1]))
        return mb_trun_fail(run, MB_EFORMAT, "unhashable type: '%s'", mb_tv_type(v[1]));
    struct mb_tv *have = mb_tdict_find(run, v[0].dict, v[1]);
    return have ? *have : v[2].kind == MB_T_MISSING ? mb_tv_none() : v[2];
}

METHOD(same)
{
    (void)run;
    (void)args;
    return v[0]; /* a copy of what never changes */
}

METHOD(list_index)
{
    (void)args;
    for (uint32_t i = 0; i < v[0].seq->n && !mb_trun_failed(run); i++)
        if (mb_tv_equal(run, v[0].seq->items[i], v[1]))
            return mb_tv_int(i);
    return mb_trun_fail(run, MB_EFORMAT, "the value is not in the list");
}

METHOD(list_count)
{
    int64_t n = 0;
    (void)args;
    for (uint32_t i = 0; i < v[0].seq->n && !mb_trun_failed(run); i++)
        n += mb_tv_equal(run, v[0].seq->items[i], v[1]);
    return mb_tv_int(n);
}

METHOD(cycler_next)
{
    struct mb_tcycler *cycler = v[0].cycler;
    (void)run;
    (void)args;
    struct mb_tv out = cycler->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->n;
    return out;
}

METHOD(cycler_reset)
{
    (void)run;
    (void)args;
    v[0].cycler->at = 0;
    return mb_tv_none();
}

METHOD(unsupported)
{
    (void)args;
    return mb_trun_fail(run, MB_EFORMAT, "this method of '%s' is not supported", mb_tv_type(v[0]));
}

#define KIND(kind) (1u << (kind))
#define TEXT KIND(MB_T_TEXT)
#define DICT KIND(MB_T_DICT)
#define SEQ (KIND(MB_T_LIST) | KIND(MB_T_TUPLE) | KIND(MB_T_RANGE))

static const struct {
    unsigned kinds;
    struct mb_tcallee callee;
} methods[] = {
    {TEXT, {"strip", "self / chars", 1, text_strip}},
    {TEXT, {"lstrip", "self / chars", 1, text_lstrip}},
    {TEXT, {"rstrip", "self / chars", 1, text_rstrip}},
    {TEXT, {"split", "self sep maxsplit", 1, text_split}},
    {TEXT, {"rsplit", "self sep maxsplit", 1, text_rsplit}},
    {TEXT, {"splitlines", "self keepends", 1, text_splitlines}},
    {TEXT, {"startswith", "self / prefix start end", 2, text_startswith}},
    {TEXT, {"endswith", "self / suffix start end", 2, text_endswith}},
    {TEXT, {"removeprefix", "self / prefix", 2, text_removeprefix}},
    {TEXT, {"removesuffix", "self / suffix", 2, text_removesuffix}},
    {TEXT, {"replace", "self / old new count", 3, text_replace}},
    {TEXT, {"upper", "self", 1, text_upper}},
    {TEXT, {"lower", "self", 1, text_lower}},
    {TEXT, {"casefold", "self", 1, text_lower}},
    {TEXT, {"title", "self", 1, text_title}},
    {TEXT, {"capitalize", "self", 1, text_capitalize}},
    {TEXT, {"swapcase", "self", 1, text_swapcase}},
    {TEXT, {"find", "self / sub start end", 2, text_find}},
    {TEXT, {"rfind", "self / sub start end", 2, text_rfind}},
    {TEXT, {"index", "self / sub start end", 2, text_index}},
    {TEXT, {"rindex", "self / sub start end", 2, text_rindex}},
    {TEXT, {"count", "self / sub", 2, text_count}},
    {TEXT, {"join", "self / iterable", 2, text_join}},
    {TEXT, {"format", NULL, 1, text_format}},
    {TEXT, {"isdigit", "self", 1, text_isdigit}},
    {TEXT, {"isdecimal", "self", 1, text_isdigit}},
    {TEXT, {"isnumeric", "self", 1, text_isdigit}},
    {TEXT, {"isalpha", "self", 1, text_isalpha}},
    {TEXT, {"isalnum", "self", 1, text_isalnum}},
    {TEXT, {"isspace", "self", 1, text_isspace}},
    {TEXT, {"isupper", "self", 1, text_isupper}},
    {TEXT, {"islower", "self", 1, text_islower}},
    {TEXT, {"ljust", "self / width fillchar", 2, text_ljust}},
    {TEXT, {"rjust", "self / width fillchar", 2, text_rjust}},
    {TEXT, {"center", "self / width fillchar", 2, text_center}},
    {TEXT, {"zfill", "self / width", 2, text_zfill}},
    {TEXT, {"partition", "self / sep", 2, text_partition}},
    {TEXT, {"rpartition", "self / sep", 2, text_rpartition}},
    {DICT, {"items", "self", 1, dict_items}},
    {DICT, {"keys", "self", 1, dict_keys}},
    {DICT, {"values", "self", 1, dict_values}},
    {DICT, {"get", "self / key default", 2, dict_get}},
    {DICT | KIND(MB_T_LIST), {"copy", "self", 1, same}},
    {SEQ, {"index", "self / value", 2, list_index}},
    {SEQ, {"count", "self / value", 2, list_count}},
    {KIND(MB_T_CYCLER), {"next", "self", 1, cycler_next}},
    {KIND(MB_T_CYCLER), {"reset", "self", 1, cycler_reset}},
};

/* Is name one of the words? */
static int is_among(const char *words, struct mb_tv name)
{
    for (const char *p = words; *p;) {
        size_t n = strcspn(p, " ");
        if (n == name.n && memcmp(p, name.s, n) == 0)
            return 1;
        p += n;
        p += *p == ' ';
    }
    return 0;
}

const struct mb_tcallee *mb_tmethod_find(int kind, struct mb_tv name, int *unsafe)
{
    /* Methods of Python that change the object (the sandbox hides them), and others that exist there and not here. */
    static const struct {
        int kind;
        const char *changing, *others;
    } more[] = {
        {MB_T_TEXT, "", "encode expandtabs format_map isascii isidentifier isprintable istitle maketrans translate"},
        {MB_T_DICT, "clear pop popitem setdefault update", "fromkeys"},
        {MB_T_LIST, "append clear pop reverse insert sort extend remove", ""},
        {MB_T_INT, "", "as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag numerator real to_bytes"},
        {MB_T_BOOL, "", "as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag numerator real to_bytes"},
        {MB_T_FLOAT, "", "as_integer_ratio conjugate fromhex hex imag is_integer real"},
    };
    static const struct mb_tcallee other = {"method", NULL, 1, unsupported};
    *unsafe = 0;
    for (size_t i = 0; i < MB_COUNT(methods); i++)
        if ((methods[i].kinds & KIND(kind)) && mb_tv_is_text(name, methods[i].callee.name))
            return &methods[i].callee;
    for (size_t i = 0; i < MB_COUNT(more); i++)
        if (more[i].kind == kind) {
            *unsafe = is_among(more[i].changing, name);
            return is_among(more[i].others, name) ? &other : NULL;
        }
    return NULL;
}

/* ---- global functions: v[0] is not used ---- */

METHOD(raise_exception)
{
    struct mb_tv text = mb_tv_str(run, v[1]);
    (void)args;
    return mb_trun_fail(run, MB_EFORMAT, "%.*s", text.n > 300 ? 300 : (int)text.n, text.s);
}

METHOD(strftime_now)
{
    struct mb_tv format = mb_targ_text(run, v[1]);
    struct mb_tbuf buf = {0};
    (void)args;
    if (!run->now)
        return mb_trun_fail(run, MB_EFORMAT, "the template asks for the date, and none was given");
    for (size_t i = 0; i < format.n && !mb_trun_failed(run); i++) {
        if (format.s[i] != '%' || i + 1 == format.n) {
            mb_tbuf_add(run, &buf, format.s + i, 1);
            continue;
        }
        /* One directive at a time, so that no width or letter of the template reaches the C library unread. */
        char directive[4] = "%", text[128];
        size_t to = 1;
        i++;
        if (format.s[i] == '-' && i + 1 < format.n)
            directive[to++] = format.s[i++];
        if (format.s[i] == 'f') {
            mb_tbuf_word(run, &buf, "000000");
            continue;
        }
        if (!format.s[i] || !strchr("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%", format.s[i]))
            return mb_trun_fail(run, MB_EFORMAT, "strftime_now: the format is not understood");
        directive[to] = format.s[i];
        mb_tbuf_add(run, &buf, text, strftime(text, sizeof text, directive, run->now));
    }
    return mb_tbuf_text(run, &buf);
}

METHOD(make_range)
{
    enum { RANGE_MAX = 100000 }; /* the sandbox's own bound */
    const int64_t limit = (int64_t)1 << 40;
    int64_t first = 0, last = mb_targ_int(run, v[1], 0), step = v[3].kind == MB_T_MISSING ? 1 : mb_targ_int(run, v[3], 0);
    (void)args;
    if (v[1].kind == MB_T_NONE || v[2].kind == MB_T_NONE || v[3].kind == MB_T_NONE)
        return mb_trun_fail(run, MB_EFORMAT, "'NoneType' object cannot be interpreted as an integer");
    if (v[2].kind != MB_T_MISSING) {
        first = last;
        last = mb_targ_int(run, v[2], 0);
    }
    if (step == 0)
        return mb_trun_fail(run, MB_EFORMAT, "range() arg 3 must not be zero");
    if (first > limit || first < -limit || last > limit || last < -limit || step > limit || step < -limit)
        return mb_trun_fail(run, MB_ERANGE, "range(): a bound is over 2^40");
    int64_t n = step > 0 ? (last > first ? (last - first - 1) / step + 1 : 0) : first > last ? (first - last - 1) / -step + 1 : 0;
    if (n > RANGE_MAX)
        return mb_trun_fail(run, MB_ERANGE, "range(): more than %d items", RANGE_MAX);
    struct mb_tv out = mb_tv_seq(run, MB_T_RANGE, (size_t)n);
    if (mb_trun_failed(run) || !mb_trun_step(run, (uint64_t)n / 8))
        return out;
    for (int64_t i = 0; i < n; i++)
        out.seq->items[i] = mb_tv_int(first + i * step);
    out.seq->first = first;
    out.seq->last = last;
    out.seq->step = step;
    return out;
}

/* dict(...) and namespace(...): a mapping or pairs, then keywords. */
static struct mb_tv make_dict(struct mb_trun *run, const struct mb_targs *args, const char *who)
{
    struct mb_tv out = mb_tv_dict(run), *items = NULL;
    uint32_t n = 0;
    if (args->n > 1)
        return mb_trun_fail(run, MB_EFORMAT, "%s expected at most 1 argument, got %u", who, args->n);
    if (args->n == 1 && args->values[0].kind == MB_T_DICT) {
        const struct mb_tdict *from = args->values[0].dict;
        for (uint32_t i = 0; i < from->n && !mb_trun_failed(run); i++)
            mb_tdict_set(run, out.dict, from->pairs[i].key, from->pairs[i].value);
    } else if (args->n == 1 && mb_tv_items(run, args->values[0], &items, &n)) {
        for (uint32_t i = 0; i < n && !mb_trun_failed(run); i++) {
            if (!mb_tv_is_seq(items[i]) || items[i].seq->n != 2)
                return mb_trun_fail(run, MB_EFORMAT, "%s: an item is no pair", who);
            mb_tdict_set(run, out.dict, items[i].seq->items[0], items[i].seq->items[1]);
        }
    }
    for (uint32_t i = 0; i < args->n_named && !mb_trun_failed(run); i++)
        mb_tdict_set(run, out.dict, args->named[i].key, args->named[i].value);
    return out;
}

METHOD(global_dict)
{
    (void)v;
    return make_dict(run, args, "dict");
}

METHOD(global_namespace)
{
    struct mb_tv out = make_dict(run, args, "namespace");
    (void)v;
    if (!mb_trun_failed(run))
        out.kind = MB_T_NAMESPACE;
    return out;
}

static struct mb_tv make_cycler(struct mb_trun *run, int kind, const struct mb_tv *items, uint32_t n)
{
    struct mb_tcycler *cycler = mb_trun_alloc(run, 1, sizeof *cycler);
    struct mb_tv *copy = mb_trun_alloc(run, n, sizeof *copy);
    if (!cycler || !copy)
        return (struct mb_tv){0};
    memcpy(copy, items, n * sizeof *copy);
    *cycler = (struct mb_tcycler){copy, n, 0};
    return (struct mb_tv){.kind = (uint8_t)kind, .cycler = cycler};
}

METHOD(global_cycler)
{
    (void)v;
    if (!args->n || args->n_named)
        return mb_trun_fail(run, MB_EFORMAT, "cycler(): at least one item has to be provided");
    return make_cycler(run, MB_T_CYCLER, args->values, args->n);
}

METHOD(global_joiner)
{
    (void)args;
    struct mb_tv separator = v[1].kind == MB_T_MISSING ? mb_tv_text(", ", 2) : v[1];
    return make_cycler(run, MB_T_JOINER, &separator, 1);
}

const struct mb_tcallee *mb_tglobal_at(unsigned i)
{
    static const struct mb_tcallee globals[] = {
        {"raise_exception", "- message", 2, raise_exception}, {"strftime_now", "- format", 2, strftime_now},
        {"range", "- / start stop step", 2, make_range},      {"dict", NULL, 0, global_dict},
        {"namespace", NULL, 0, global_namespace},             {"cycler", NULL, 0, global_cycler},
        {"joiner", "- sep", 1, global_joiner},
    };
    return i < MB_COUNT(globals) ? &globals[i] : NULL;
}
