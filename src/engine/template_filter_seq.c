/* SPDX-License-Identifier: MIT */
/* Filters that walk a sequence. Those that give a generator in Jinja give an iterator here, which can be walked once and has
 * no length; its items are made at once, which templates can't tell apart. */
#include "engine/template_filter.h"

#include <string.h>

#define FILTER(name) static struct mb_tv name(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args)

struct items {
    struct mb_tv *at;
    uint32_t n;
};

/* The items of v; 0: the run has failed. */
static int walk(struct mb_trun *run, struct mb_tv v, struct items *out)
{
    return mb_tv_items(run, v, &out->at, &out->n) && mb_trun_step(run, out->n);
}

static struct mb_tv fold_case(struct mb_trun *run, struct mb_tv v)
{
    return v.kind == MB_T_TEXT ? mb_text_case(run, v, 'l') : v;
}

/* An iterator over a copy of n items. */
static struct mb_tv copy_items(struct mb_trun *run, int kind, const struct mb_tv *items, uint32_t n)
{
    struct mb_tv out = mb_tv_seq(run, kind, n);
    if (!mb_trun_failed(run) && n)
        memcpy(out.seq->items, items, n * sizeof *items);
    return out;
}

FILTER(list)
{
    struct items in;
    (void)args;
    return walk(run, v[0], &in) ? copy_items(run, MB_T_LIST, in.at, in.n) : v[0];
}

FILTER(first)
{
    (void)args;
    if (v[0].kind == MB_T_ITER && v[0].seq->at < v[0].seq->n)
        return v[0].seq->items[v[0].seq->at++];
    struct items in;
    if (!walk(run, v[0], &in))
        return v[0];
    return in.n ? in.at[0] : mb_tv_undefined(MB_U_TEXT, mb_tv_text("No first item, sequence was empty.", 34), 0);
}

FILTER(last)
{
    struct items in;
    (void)args;
    if (v[0].kind == MB_T_ITER)
        return mb_trun_fail(run, MB_EFORMAT, "'generator' object is not reversible");
    if (v[0].kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, v[0]);
    if (!walk(run, v[0], &in))
        return v[0];
    return in.n ? in.at[in.n - 1] : mb_tv_undefined(MB_U_TEXT, mb_tv_text("No last item, sequence was empty.", 33), 0);
}

FILTER(join)
{
    struct items in;
    struct mb_tbuf buf = {0};
    struct mb_tv between = v[1].kind == MB_T_MISSING ? mb_tv_text("", 0) : mb_tv_str(run, v[1]);
    (void)args;
    if (!walk(run, v[0], &in))
        return v[0];
    for (uint32_t i = 0; i < in.n && !mb_trun_failed(run); i++) {
        if (i)
            mb_tbuf_add(run, &buf, between.s, between.n);
        mb_tv_print(run, &buf, mb_top_path(run, in.at[i], v[2], (struct mb_tv){.kind = MB_T_MISSING}));
    }
    return mb_tbuf_text(run, &buf);
}

FILTER(items)
{
    (void)args;
    if (v[0].kind == MB_T_UNDEFINED)
        return mb_tv_seq(run, MB_T_ITER, 0);
    if (v[0].kind != MB_T_DICT)
        return mb_trun_fail(run, MB_EFORMAT, "Can only get item pairs from a mapping.");
    struct mb_tv out = mb_tv_seq(run, MB_T_ITER, v[0].dict->n);
    for (uint32_t i = 0; i < v[0].dict->n && !mb_trun_failed(run); i++)
        out.seq->items[i] = mb_tv_pair(run, v[0].dict->pairs[i].key, v[0].dict->pairs[i].value);
    return out;
}

FILTER(reversed)
{
    (void)args;
    if (v[0].kind == MB_T_ITER)
        return mb_trun_fail(run, MB_EFORMAT, "'generator' object is not reversible");
    if (v[0].kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, v[0]);
    if (v[0].kind == MB_T_TEXT) {
        const struct mb_tv bounds[3] = {mb_tv_none(), mb_tv_none(), mb_tv_int(-1)};
        return mb_top_slice(run, v[0], bounds);
    }
    struct items in;
    if (!walk(run, v[0], &in))
        return v[0];
    struct mb_tv out = mb_tv_seq(run, MB_T_ITER, in.n);
    for (uint32_t i = 0; i < in.n && !mb_trun_failed(run); i++)
        out.seq->items[i] = in.at[in.n - 1 - i];
    return out;
}

/* ---- order ---- */

struct keyed {
    struct mb_tv key, value;
};

/* Stable merge sort of n entries by key. */
static void sort_keyed(struct mb_trun *run, struct keyed *at, struct keyed *spare, uint32_t n, int descending)
{
    for (uint32_t width = 1; width < n && !mb_trun_failed(run); width *= 2) {
        for (uint32_t from = 0; from < n; from += 2 * width) {
            uint32_t mid = n - from < width ? n : from + width, to = n - from < 2 * width ? n : from + 2 * width;
            uint32_t a = from, b = mid;
            for (uint32_t i = from; i < to; i++) {
                /* The right one goes first only if it is strictly before the left one, so that equals keep their order. */
                int right = a >= mid || (b < to && mb_trun_step(run, 2) &&
                                         (descending ? mb_tv_compare(run, at[a].key, at[b].key, "<") < 0
                                                     : mb_tv_compare(run, at[b].key, at[a].key, "<") < 0));
                spare[i] = at[right && b < to ? b++ : a++];
            }
        }
        memcpy(at, spare, n * sizeof *at);
    }
}

static struct mb_tv sort_items(struct mb_trun *run, struct keyed *keyed, uint32_t n, int descending)
{
    struct mb_tv out = mb_tv_seq(run, MB_T_LIST, n);
    struct keyed *spare = n ? mb_trun_alloc(run, n, sizeof *spare) : NULL;
    if (spare)
        sort_keyed(run, keyed, spare, n, descending);
    for (uint32_t i = 0; i < n && !mb_trun_failed(run); i++)
        out.seq->items[i] = keyed[i].value;
    return out;
}

/* The key to sort by: a list with one value per path of attribute ("a.b,c"). A list, because lists whose items are equal
 * are in order even when such items have none. */
static struct mb_tv sort_key(struct mb_trun *run, struct mb_tv item, struct mb_tv attribute, int folded)
{
    const struct mb_tv none = {.kind = MB_T_MISSING};
    struct mb_tv key = mb_tv_seq(run, MB_T_LIST, 0);
    size_t from = 0;
    if (attribute.kind != MB_T_TEXT) {
        item = mb_top_path(run, item, attribute, none);
        mb_tseq_add(run, key.seq, folded ? fold_case(run, item) : item);
        return key;
    }
    while (from <= attribute.n && !mb_trun_failed(run)) {
        size_t end = from;
        while (end < attribute.n && attribute.s[end] != ',')
            end++;
        struct mb_tv part = mb_top_path(run, item, mb_tv_text(attribute.s + from, end - from), none);
        mb_tseq_add(run, key.seq, folded ? fold_case(run, part) : part);
        from = end + 1;
    }
    return key;
}

/* Each item with the value of its attribute (fallback where that is undefined, unless MISSING or none). */
static struct keyed *with_keys(struct mb_trun *run, struct items in, struct mb_tv attribute, struct mb_tv fallback, int folded)
{
    struct keyed *keyed = in.n ? mb_trun_alloc(run, in.n, sizeof *keyed) : NULL;
    for (uint32_t i = 0; keyed && i < in.n && !mb_trun_failed(run); i++) {
        struct mb_tv key = mb_top_path(run, in.at[i], attribute, fallback);
        keyed[i] = (struct keyed){folded ? fold_case(run, key) : key, in.at[i]};
    }
    return keyed;
}

FILTER(sort)
{
    struct items in;
    (void)args;
    if (!walk(run, v[0], &in))
        return v[0];
    struct keyed *keyed = in.n ? mb_trun_alloc(run, in.n, sizeof *keyed) : NULL;
    for (uint32_t i = 0; keyed && i < in.n && !mb_trun_failed(run); i++)
        keyed[i] = (struct keyed){sort_key(run, in.at[i], v[3], !mb_tv_truth(run, v[2])), in.at[i]};
    return sort_items(run, keyed, in.n, mb_tv_truth(run, v[1]));
}

FILTER(dictsort)
{
    (void)args;
    if (v[0].kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, v[0]);
    if (v[0].kind != MB_T_DICT)
        return mb_trun_fail(run, MB_EFORMAT, "'%s' object has no attribute 'items'", mb_tv_type(v[0]));
    int by_value = mb_tv_is_text(v[2], "value"), folded = !mb_tv_truth(run, v[1]);
    if (!by_value && v[2].kind != MB_T_MISSING && !mb_tv_is_text(v[2], "key"))
        return mb_trun_fail(run, MB_EFORMAT, "You can only sort by either \"key\" or \"value\"");
    const struct mb_tdict *dict = v[0].dict;
    struct keyed *keyed = dict->n ? mb_trun_alloc(run, dict->n, sizeof *keyed) : NULL;
    for (uint32_t i = 0; keyed && i < dict->n && !mb_trun_failed(run); i++) {
        struct mb_tv key = by_value ? dict->pairs[i].value : dict->pairs[i].key;
        keyed[i] = (struct keyed){folded ? fold_case(run, key) : key,
                                  mb_tv_pair(run, dict->pairs[i].key, dict->pairs[i].value)};
    }
    return sort_items(run, keyed, dict->n, mb_tv_truth(run, v[3]));
}

/* min and max */
static struct mb_tv extreme(struct mb_trun *run, struct mb_tv *v, int greatest)
{
    struct items in;
    if (!walk(run, v[0], &in))
        return v[0];
    if (!in.n)
        return mb_tv_undefined(MB_U_TEXT, mb_tv_text("No aggregated item, sequence was empty.", 39), 0);
    struct keyed *keyed = with_keys(run, in, v[2], (struct mb_tv){.kind = MB_T_MISSING}, !mb_tv_truth(run, v[1]));
    uint32_t best = 0;
    for (uint32_t i = 1; i < in.n && !mb_trun_failed(run); i++) {
        int order = mb_tv_compare(run, keyed[i].key, keyed[best].key, greatest ? ">" : "<");
        if (greatest ? order > 0 : order < 0)
            best = i;
    }
    return in.at[best];
}

FILTER(minimum)
{
    (void)args;
    return extreme(run, v, 0);
}

FILTER(maximum)
{
    (void)args;
    return extreme(run, v, 1);
}

FILTER(unique)
{
    struct items in;
    (void)args;
    if (!walk(run, v[0], &in))
        return v[0];
    struct mb_tv seen = mb_tv_dict(run), out = mb_tv_seq(run, MB_T_ITER, 0);
    int folded = !mb_tv_truth(run, v[1]);
    for (uint32_t i = 0; i < in.n && !mb_trun_failed(run); i++) {
        struct mb_tv key = mb_top_path(run, in.at[i], v[2], (struct mb_tv){.kind = MB_T_MISSING});
        key = folded ? fold_case(run, key) : key;
        uint32_t before = seen.dict->n;
        mb_tdict_set(run, seen.dict, key, mb_tv_none());
        if (!mb_trun_failed(run) && seen.dict->n > before)
            mb_tseq_add(run, out.seq, in.at[i]);
    }
    return out;
}

FILTER(groupby)
{
    struct items in;
    (void)args;
    if (!walk(run, v[0], &in))
        return v[0];
    struct keyed *keyed = with_keys(run, in, v[1], v[2], !mb_tv_truth(run, v[3]));
    struct mb_tv sorted = sort_items(run, keyed, in.n, 0), groups = mb_tv_seq(run, MB_T_LIST, 0), last = {0};
    for (uint32_t i = 0; i < in.n && !mb_trun_failed(run); i++) {
        if (!i || !mb_tv_equal(run, last, keyed[i].key)) {
            struct mb_tv name = mb_top_path(run, sorted.seq->items[i], v[1], v[2]);
            mb_tseq_add(run, groups.seq, mb_tv_pair(run, name, mb_tv_seq(run, MB_T_LIST, 0)));
            last = keyed[i].key;
        }
        if (!mb_trun_failed(run))
            mb_tseq_add(run, groups.seq->items[groups.seq->n - 1].seq->items[1].seq, sorted.seq->items[i]);
    }
    return groups;
}

/* ---- sums and parts ---- */

FILTER(sum)
{
    struct items in;
    struct mb_tv total = v[2].kind == MB_T_MISSING ? mb_tv_int(0) : v[2];
    (void)args;
    if (total.kind == MB_T_TEXT)
        return mb_trun_fail(run, MB_EFORMAT, "sum() can't sum strings");
    if (!walk(run, v[0], &in))
        return v[0];
    for (uint32_t i = 0; i < in.n && !mb_trun_failed(run); i++)
        total = mb_top_binary(run, MB_OP_ADD, total, mb_top_path(run, in.at[i], v[1], (struct mb_tv){.kind = MB_T_MISSING}));
    return total;
}

FILTER(batch)
{
    struct items in;
    int64_t size = mb_targ_int(run, v[1], 0);
    int fill = v[2].kind != MB_T_MISSING && v[2].kind != MB_T_NONE;
    (void)args;
    if (!walk(run, v[0], &in))
        return v[0];
    struct mb_tv out = mb_tv_seq(run, MB_T_ITER, 0), part = mb_tv_seq(run, MB_T_LIST, 0);
    for (uint32_t i = 0; i < in.n && !mb_trun_failed(run); i++) {
        if (part.seq->n == size) {
            mb_tseq_add(run, out.seq, part);
            part = mb_tv_seq(run, MB_T_LIST, 0);
        }
        if (!mb_trun_failed(run))
            mb_tseq_add(run, part.seq, in.at[i]);
    }
    while (fill && !mb_trun_failed(run) && part.seq->n && part.seq->n < size && mb_trun_step(run, 1))
        mb_tseq_add(run, part.seq, v[2]);
    if (!mb_trun_failed(run) && part.seq->n)
        mb_tseq_add(run, out.seq, part);
    return out;
}

FILTER(slices)
{
    struct items in;
    int64_t count = mb_targ_int(run, v[1], 0);
    int fill = v[2].kind != MB_T_MISSING && v[2].kind != MB_T_NONE;
    (void)args;
    if (!walk(run, v[0], &in))
        return v[0];
    if (count == 0)
        return mb_trun_fail(run, MB_EFORMAT, "integer division or modulo by zero");
    struct mb_tv out = mb_tv_seq(run, MB_T_ITER, 0);
    int64_t each = count > 0 ? in.n / count : 0, extra = count > 0 ? in.n % count : 0, from = 0;
    for (int64_t i = 0; i < count && mb_trun_step(run, 1); i++) {
        int64_t n = each + (i < extra);
        struct mb_tv part = mb_tv_seq(run, MB_T_LIST, 0);
        for (int64_t k = 0; k < n && !mb_trun_failed(run); k++)
            mb_tseq_add(run, part.seq, in.at[from + k]);
        from += n;
        if (fill && i >= extra && !mb_trun_failed(run))
            mb_tseq_add(run, part.seq, v[2]);
        if (!mb_trun_failed(run))
            mb_tseq_add(run, out.seq, part);
    }
    return out;
}

/* ---- map and select ---- */

/* The value of a keyword, or MISSING. */
static struct mb_tv keyword(const struct mb_targs *args, const char *name)
{
    for (uint32_t i = 0; i < args->n_named; i++)
        if (mb_tv_is_text(args->named[i].key, name))
            return args->named[i].value;
    return (struct mb_tv){.kind = MB_T_MISSING};
}

FILTER(map)
{
    struct items in;
    struct mb_tv path = keyword(args, "attribute"), fallback = keyword(args, "default");
    int by_path = !args->n && path.kind != MB_T_MISSING;
    if (!mb_tv_truth(run, v[0]))
        return mb_tv_seq(run, MB_T_ITER, 0);
    if (!by_path && !args->n)
        return mb_trun_fail(run, MB_EFORMAT, "map requires a filter argument");
    if (by_path && args->n_named != 1u + (fallback.kind != MB_T_MISSING))
        return mb_trun_fail(run, MB_EFORMAT, "map: unexpected keyword argument");
    const struct mb_tcallee *filter = by_path ? NULL : mb_tfilter_find(mb_targ_text(run, args->values[0]));
    if (!walk(run, v[0], &in))
        return v[0];
    if (!by_path && !filter)
        return mb_trun_fail(run, MB_EFORMAT, "map: no such filter");
    struct mb_targs rest = *args;
    if (!by_path) {
        rest.values++;
        rest.n--;
    }
    struct mb_tv out = mb_tv_seq(run, MB_T_ITER, in.n);
    if (!mb_trun_enter(run))
        in.n = 0;
    for (uint32_t i = 0; i < in.n && !mb_trun_failed(run); i++)
        out.seq->items[i] = by_path ? mb_top_path(run, in.at[i], path, fallback) : mb_tcall(run, filter, in.at[i], &rest);
    mb_trun_leave(run);
    return out;
}

/* select, reject and their forms by attribute: keep the items whose test gives `wanted`. */
static struct mb_tv choose(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args, int wanted, int by_path)
{
    struct items in;
    struct mb_targs rest = *args;
    struct mb_tv path = {.kind = MB_T_MISSING}, out = mb_tv_seq(run, MB_T_ITER, 0);
    const struct mb_tcallee *test = NULL;
    if (!mb_tv_truth(run, v[0]))
        return out;
    if (by_path) {
        if (!rest.n)
            return mb_trun_fail(run, MB_EFORMAT, "Missing parameter for attribute name");
        path = *rest.values++;
        rest.n--;
    }
    if (rest.n) {
        test = mb_ttest_find(mb_targ_text(run, *rest.values++));
        rest.n--;
        if (!test)
            return mb_trun_fail(run, MB_EFORMAT, "select: no such test");
    }
    if (!walk(run, v[0], &in))
        return v[0];
    for (uint32_t i = 0; i < in.n && !mb_trun_failed(run); i++) {
        struct mb_tv asked = mb_top_path(run, in.at[i], path, (struct mb_tv){.kind = MB_T_MISSING});
        struct mb_tv answer = test ? mb_tcall(run, test, asked, &rest) : asked;
        if (!mb_trun_failed(run) && mb_tv_truth(run, answer) == wanted)
            mb_tseq_add(run, out.seq, in.at[i]);
    }
    return out;
}

FILTER(selected)
{
    return choose(run, v, args, 1, 0);
}

FILTER(rejected)
{
    return choose(run, v, args, 0, 0);
}

FILTER(selectattr)
{
    return choose(run, v, args, 1, 1);
}

FILTER(rejectattr)
{
    return choose(run, v, args, 0, 1);
}

const struct mb_tcallee *mb_tfilter_seq_find(struct mb_tv name)
{
    static const struct mb_tcallee filters[] = {
        {"batch", "value linecount fill_with", 2, batch},
        {"dictsort", "value case_sensitive by reverse", 1, dictsort},
        {"first", "seq", 1, first},
        {"groupby", "value attribute default case_sensitive", 2, groupby},
        {"items", "value", 1, items},
        {"join", "value d attribute", 1, join},
        {"last", "seq", 1, last},
        {"list", "value", 1, list},
        {"map", NULL, 1, map},
        {"max", "value case_sensitive attribute", 1, maximum},
        {"min", "value case_sensitive attribute", 1, minimum},
        {"reject", NULL, 1, rejected},
        {"rejectattr", NULL, 1, rejectattr},
        {"reverse", "value", 1, reversed},
        {"select", NULL, 1, selected},
        {"selectattr", NULL, 1, selectattr},
        {"slice", "value slices fill_with", 2, slices},
        {"sort", "value reverse case_sensitive attribute", 1, sort},
        {"sum", "iterable attribute start", 1, sum},
        {"unique", "value case_sensitive attribute", 1, unique},
    };
    for (size_t i = 0; i < MB_COUNT(filters); i++)
        if (mb_tv_is_text(name, filters[i].name))
            return &filters[i];
    return NULL;
}
