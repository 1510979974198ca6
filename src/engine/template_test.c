/* SPDX-License-Identifier: MIT */
/* Tests: what stands behind "is". Source: Jinja's documentation, "List of Builtin Tests". */
#include "engine/template_value.h"

#include <math.h>
#include <string.h>

#define TEST(name) static struct mb_tv name(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args)

/* value % by, compared with zero or one. */
static struct mb_tv remainder_is(struct mb_trun *run, struct mb_tv value, int64_t by, int64_t wanted)
{
    struct mb_tv rest = mb_top_binary(run, MB_OP_MOD, value, mb_tv_int(by));
    return mb_tv_bool(!mb_trun_failed(run) && mb_tv_equal(run, rest, mb_tv_int(wanted)));
}

TEST(odd)
{
    (void)args;
    return remainder_is(run, v[0], 2, 1);
}

TEST(even)
{
    (void)args;
    return remainder_is(run, v[0], 2, 0);
}

TEST(divisibleby)
{
    (void)args;
    struct mb_tv rest = mb_top_binary(run, MB_OP_MOD, v[0], v[1]);
    return mb_tv_bool(!mb_trun_failed(run) && mb_tv_equal(run, rest, mb_tv_int(0)));
}

/* By kind of value: v[0].kind is one of the bits. */
static struct mb_tv kind_is(struct mb_tv v, unsigned kinds)
{
    return mb_tv_bool((kinds >> v.kind & 1) != 0);
}

TEST(defined)
{
    (void)run;
    (void)args;
    return mb_tv_bool(v[0].kind != MB_T_UNDEFINED);
}

TEST(undefined)
{
    (void)run;
    (void)args;
    return mb_tv_bool(v[0].kind == MB_T_UNDEFINED);
}

TEST(filter)
{
    (void)args;
    if (!mb_tv_hashable(v[0]))
        return mb_trun_fail(run, MB_EFORMAT, "unhashable type: '%s'", mb_tv_type(v[0]));
    return mb_tv_bool(v[0].kind == MB_T_TEXT && mb_tfilter_find(v[0]) != NULL);
}

TEST(test)
{
    (void)args;
    if (!mb_tv_hashable(v[0]))
        return mb_trun_fail(run, MB_EFORMAT, "unhashable type: '%s'", mb_tv_type(v[0]));
    return mb_tv_bool(v[0].kind == MB_T_TEXT && mb_ttest_find(v[0]) != NULL);
}

TEST(none)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_NONE);
}

TEST(boolean)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_BOOL);
}

TEST(is_false)
{
    (void)run;
    (void)args;
    return mb_tv_bool(v[0].kind == MB_T_BOOL && !v[0].i);
}

TEST(is_true)
{
    (void)run;
    (void)args;
    return mb_tv_bool(v[0].kind == MB_T_BOOL && v[0].i);
}

TEST(integer)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_INT);
}

TEST(is_float)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_FLOAT);
}

/* islower() or isupper() of str(value) */
static struct mb_tv case_is(struct mb_trun *run, struct mb_tv v, const char *method)
{
    int unsafe;
    const struct mb_tcallee *callee = mb_tmethod_find(MB_T_TEXT, mb_tv_text(method, strlen(method)), &unsafe);
    return mb_tcall(run, callee, mb_tv_str(run, v), &(struct mb_targs){0});
}

TEST(lower)
{
    (void)args;
    return case_is(run, v[0], "islower");
}

TEST(upper)
{
    (void)args;
    return case_is(run, v[0], "isupper");
}

TEST(string)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_TEXT);
}

TEST(mapping)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_DICT);
}

TEST(number)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_BOOL | 1u << MB_T_INT | 1u << MB_T_FLOAT);
}

TEST(sequence)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_UNDEFINED | 1u << MB_T_TEXT | 1u << MB_T_LIST | 1u << MB_T_TUPLE | 1u << MB_T_RANGE |
                             1u << MB_T_DICT);
}

TEST(iterable)
{
    (void)run;
    (void)args;
    return mb_tv_bool(mb_tv_is_seq(v[0]) || v[0].kind == MB_T_UNDEFINED || v[0].kind == MB_T_TEXT || v[0].kind == MB_T_DICT ||
                      v[0].kind == MB_T_LOOP);
}

TEST(callable)
{
    (void)run;
    (void)args;
    return kind_is(v[0], 1u << MB_T_MACRO | 1u << MB_T_METHOD | 1u << MB_T_FUNCTION | 1u << MB_T_JOINER | 1u << MB_T_LOOP |
                             1u << MB_T_UNDEFINED);
}

TEST(sameas)
{
    (void)run;
    (void)args;
    if (v[0].kind != v[1].kind)
        return mb_tv_bool(0);
    if (v[0].kind == MB_T_TEXT)
        return mb_tv_bool(v[0].n == v[1].n && memcmp(v[0].s, v[1].s, v[0].n) == 0);
    return mb_tv_bool(v[0].kind == MB_T_NONE || v[0].i == v[1].i);
}

TEST(escaped)
{
    (void)run;
    (void)args;
    return mb_tv_bool(v[0].kind == MB_T_TEXT && v[0].flag);
}

TEST(in)
{
    (void)args;
    return mb_tv_bool(mb_top_compare(run, MB_OP_IN, v[0], v[1]));
}

TEST(eq)
{
    (void)args;
    return mb_tv_bool(mb_top_compare(run, MB_OP_EQ, v[0], v[1]));
}

TEST(ne)
{
    (void)args;
    return mb_tv_bool(mb_top_compare(run, MB_OP_NE, v[0], v[1]));
}

TEST(gt)
{
    (void)args;
    return mb_tv_bool(mb_top_compare(run, MB_OP_GT, v[0], v[1]));
}

TEST(ge)
{
    (void)args;
    return mb_tv_bool(mb_top_compare(run, MB_OP_GE, v[0], v[1]));
}

TEST(lt)
{
    (void)args;
    return mb_tv_bool(mb_top_compare(run, MB_OP_LT, v[0], v[1]));
}

TEST(le)
{
    (void)args;
    return mb_tv_bool(mb_top_compare(run, MB_OP_LE, v[0], v[1]));
}

const struct mb_tcallee *mb_ttest_find(struct mb_tv name)
{
    static const struct mb_tcallee tests[] = {
        {"odd", "value", 1, odd},
        {"even", "value", 1, even},
        {"divisibleby", "value num", 2, divisibleby},
        {"defined", "value", 1, defined},
        {"undefined", "value", 1, undefined},
        {"filter", "value", 1, filter},
        {"test", "value", 1, test},
        {"none", "value", 1, none},
        {"boolean", "value", 1, boolean},
        {"false", "value", 1, is_false},
        {"true", "value", 1, is_true},
        {"integer", "value", 1, integer},
        {"float", "value", 1, is_float},
        {"lower", "value", 1, lower},
        {"upper", "value", 1, upper},
        {"string", "value", 1, string},
        {"mapping", "value", 1, mapping},
        {"number", "value", 1, number},
        {"sequence", "value", 1, sequence},
        {"iterable", "value", 1, iterable},
        {"callable", "value", 1, callable},
        {"sameas", "value other", 2, sameas},
        {"escaped", "value", 1, escaped},
        {"in", "value seq", 2, in},
        {"==", "a / b", 2, eq},
        {"eq", "a / b", 2, eq},
        {"equalto", "a / b", 2, eq},
        {"!=", "a / b", 2, ne},
        {"ne", "a / b", 2, ne},
        {">", "a / b", 2, gt},
        {"gt", "a / b", 2, gt},
        {"greaterthan", "a / b", 2, gt},
        {">=", "a / b", 2, ge},
        {"ge", "a / b", 2, ge},
        {"<", "a / b", 2, lt},
        {"lt", "a / b", 2, lt},
        {"lessthan", "a / b", 2, lt},
        {"<=", "a / b", 2, le},
        {"le", "a / b", 2, le},
    };
    for (size_t i = 0; i < MB_COUNT(tests); i++)
        if (mb_tv_is_text(name, tests[i].name))
            return &tests[i];
    return NULL;
}
