/* SPDX-License-Identifier: MIT */
/* Suite for src/engine/template*.c: what jinja2 made of the templates in tests/data/templates, failures and their lines, and
 * the bounds that end a hostile template. */
#include "engine/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *root;

/* The local time that tests/check_templates.py uses. */
static const struct tm now = {.tm_year = 125, .tm_mon = 6, .tm_mday = 4, .tm_hour = 9, .tm_min = 8, .tm_sec = 7, .tm_wday = 5, .tm_yday = 184};

/* Parse and render n bytes; *text is NULL on failure. */
static int render_n(const char *source, size_t n, const json_t *context, const struct mb_template_opts *opts, char **text,
                    struct mb_err *err)
{
    struct mb_template *tmpl = NULL;
    *text = NULL;
    char *copy = malloc(n ? n : 1); /* exactly as long, so that reading past the end is seen */
    assert_non_null(copy);
    memcpy(copy, source, n);
    int code = mb_template_parse(copy, n, &tmpl, err);
    free(copy);
    if (code == MB_OK)
        code = mb_template_render(tmpl, context, opts, text, NULL, err);
    mb_template_free(tmpl);
    return code;
}

static int render(const char *source, const struct mb_template_opts *opts, char **text, struct mb_err *err)
{
    return render_n(source, strlen(source), NULL, opts, text, err);
}

static void golden(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    struct mb_err err;
    size_t n, i;
    char *bytes = mb_file_read(&arena, root, "/tests/data/templates/golden.json", 1 << 20, &n), *text;
    assert_non_null(bytes);
    json_t *cases = mb_json_parse(bytes, n, "golden.json", &err), *entry;
    assert_true(json_array_size(cases) > 30);
    json_array_foreach(cases, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "template"));
        const char *expected = json_string_value(json_object_get(entry, "text"));
        const struct mb_template_opts opts = {.now = &now};
        char *source = mb_file_read(&arena, root, mb_arena_format(&arena, "/tests/data/templates/%s", name), 1 << 20, &n);
        assert_non_null(source);
        int code = render_n(source, n, json_object_get(entry, "context"), &opts, &text, &err);
        if (expected) {
            if (code != MB_OK || strcmp(text, expected) != 0)
                fail_msg("%s, %s:\n%s\ninstead of\n%s", name, json_string_value(json_object_get(entry, "name")),
                         code ? err.text : text, expected);
        } else {
            assert_string_equal(name, "chat.jinja"); /* the others are meant to render */
            assert_int_equal(code, MB_EFORMAT);
            const char *message = json_string_value(json_object_get(entry, "error"));
            if (strncmp(message, "Role ", 5) == 0)
                assert_non_null(strstr(err.text, message));
        }
        mb_text_free(text);
    }
    json_decref(cases);
    mb_arena_free(&arena);
}

static void failures_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        int code;
        const char *text;
    } cases[] = {
        {"a\n{{ nothing.x }}", MB_EFORMAT, "chat template, line 2: 'nothing' is undefined"},
        {"{{ {}.x.y }}", MB_EFORMAT, "line 1: 'dict object' has no attribute 'x'"},
        {"{{ none.x.y }}", MB_EFORMAT, "'None' has no attribute 'x'"},
        {"{{ nothing() }}", MB_EFORMAT, "'nothing' is undefined"},
        {"{{ 'a' + nothing }}", MB_EFORMAT, "'nothing' is undefined"},
        {"{{ 'a' + none }}", MB_EFORMAT, "can only concatenate str"},
        {"{{ 1 + 'a' }}", MB_EFORMAT, "unsupported operand"},
        {"\n\n{{ raise_exception('No,\nnot so') }}", MB_EFORMAT, "line 3: No,?not so"},
        {"{{ [].append(1) }}", MB_EFORMAT, "unsafe"},
        {"{{ ''.__class__.__mro__ }}", MB_EFORMAT, "'__class__'"},
        {"{{ 1 // 0 }}", MB_EFORMAT, "by zero"},
        {"{{ 1.5 % 0 }}", MB_EFORMAT, "by zero"},
        {"{{ [1, 'a'] | sort }}", MB_EFORMAT, "'<' not supported"},
        {"{% for a, b in [[1]] %}{% endfor %}", MB_EFORMAT, "not enough values"},
        {"{% for a, b in [[1, 2, 3]] %}{% endfor %}", MB_EFORMAT, "too many values"},
        {"{{ 1 | nosuch }}", MB_EFORMAT, "No filter named 'nosuch'"},
        {"{{ 1 is nosuch }}", MB_EFORMAT, "No test named 'nosuch'"},
        {"{% for x in 5 %}{% endfor %}", MB_EFORMAT, "'int' object is not iterable"},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", MB_EFORMAT, "not more than 1"},
        {"{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", MB_EFORMAT, "no keyword argument 'b'"},
        {"{% set x = {} %}{% set x.y = 1 %}", MB_EFORMAT, "non-namespace"},
        {"{{ nothing | tojson }}", MB_EFORMAT, "not JSON serializable"},
        {"{{ {[]: 1} }}", MB_EFORMAT, "unhashable"},
        {"{{ 5 | length }}", MB_EFORMAT, "no len()"},
        {"{{ {'a': 1}[1:] }}", MB_EFORMAT, "sliced"},
        {"{{ strftime_now('%Y') }}", MB_EFORMAT, "date"},
        {"{{ '%d' % 'x' }}", MB_EFORMAT, "whole number"},
        {"{% if x %}", MB_EFORMAT, "'elif' was expected"},
        {"x\n{% nosuch %}", MB_EFORMAT, "line 2: unknown or unsupported tag 'nosuch'"},
        {"{% include 'x' %}", MB_EFORMAT, "unsupported tag 'include'"},
        {"{{ a b }}", MB_EFORMAT, "got 'b'"},
        {"{{ }}", MB_EFORMAT, "expected an expression"},
        {"{{ 'abc }}", MB_EFORMAT, "string does not end"},
        {"{{ (1] }}", MB_EFORMAT, "closing bracket"},
        {"{{ x", MB_EFORMAT, "ends inside a tag"},
        {"{% break %}", MB_EFORMAT, "outside a loop"},
        {"{% for x in y %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", MB_EFORMAT, "outside a loop"},
        {"x {# y", MB_EFORMAT, "end of comment"},
        {"{% raw %} x", MB_EFORMAT, "end of raw"},
        {"{{ '\\ud800' }}", MB_EFORMAT, "escape"},
        {"{{ x is string is number }}", MB_EFORMAT, "chained"},
        {"{{ f(a=1, 2) }}", MB_EFORMAT, "follows a keyword"},
        {"{% set 1 = 2 %}", MB_EFORMAT, "cannot assign"},
        {"a\xff", MB_EFORMAT, "UTF-8"},
        {"{{ 9223372036854775808 }}", MB_ERANGE, "too large"},
        {"{{ 9223372036854775807 + 1 }}", MB_ERANGE, "64 bits"},
        {"{{ 2 ** 63 }}", MB_ERANGE, "64 bits"},
        {"{{ range(100001) }}", MB_ERANGE, "100000"},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct mb_err err = {0};
        char *text;
        int code = render(cases[i].source, NULL, &text, &err);
        if (code != cases[i].code || !strstr(err.text, cases[i].text))
            fail_msg("%s: %s, %s", cases[i].source, mb_code_name(code), err.text);
        assert_null(text);
    }
}

/* Each of these would run, grow or nest without end. */
static void hostile_templates_end(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{{ 'x' * 1000000000000 }}",
        "{{ '' * 1000000000000 }}{{ [1] * 4000000000 }}",
        "{{ 'ab'.center(99999999999) }}",
        "{{ '%99999999d' % 1 }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ [1] | tojson(indent=99999999) }}",
        "{{ 'a\nb' | indent(99999999999) }}",
        "{{ 'x' | batch(999999999999, 'y') | list }}",
        "{{ 'x' | slice(999999999999) | list }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{{ s.count('ab') }}{{ s[999999] }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{% set t = s.strip('ab') ~ s.upper() %}{% endfor %}",
    };
    for (size_t i = 0; i < MB_COUNT(sources); i++) {
        struct mb_err err = {0};
        char *text;
        const struct mb_template_opts opts = {.steps_max = 2000000};
        int code = render(sources[i], &opts, &text, &err);
        if (code != MB_ERANGE || !strstr(err.text, "chat template, line "))
            fail_msg("%s: %s, %s", sources[i], mb_code_name(code), err.text);
    }
}

/* 100000 times open, then 100000 times close. */
static void nested_sources_are_refused(void **state)
{
    (void)state;
    static const char *const opens[] = {"{{ (", "{{ [", "{{ -", "{{ not ", "{{ a if ", "{% if a %}", "{% for a in b %}",
                                        "{{ a[", "{{ f(", "{{ {1:", "{{ a or not ", "{{ a if b else "};
    enum { TIMES = 20000 };
    for (size_t i = 0; i < MB_COUNT(opens); i++) {
        size_t skip = strncmp(opens[i], "{{", 2) == 0 ? 3 : 0, n = strlen(opens[i]) - skip;
        char *source = malloc(TIMES * n + 16), *text;
        struct mb_err err = {0};
        assert_non_null(source);
        memcpy(source, opens[i], skip);
        for (size_t k = 0; k < TIMES; k++)
            memcpy(source + skip + k * n, opens[i] + skip, n);
        int code = render_n(source, skip + TIMES * n, NULL, NULL, &text, &err);
        assert_true(code == MB_ERANGE || code == MB_EFORMAT);
        free(source);
    }
}

static void bounds_are_what_was_asked(void **state)
{
    (void)state;
    struct mb_err err;
    char *text;
    const struct mb_template_opts few = {.steps_max = 100}, small = {.memory_bytes = 2000}, terse = {.output_bytes = 10};
    assert_int_equal(render("{% for i in range(200) %}{% endfor %}", &few, &text, &err), MB_ERANGE);
    assert_non_null(strstr(err.text, "steps"));
    assert_int_equal(render("{{ range(200) | list }}", &small, &text, &err), MB_ERANGE);
    assert_non_null(strstr(err.text, "memory"));
    assert_int_equal(render("{{ 'x' * 11 }}", &terse, &text, &err), MB_ERANGE);
    assert_non_null(strstr(err.text, "10 bytes"));
    assert_int_equal(render("{{ 'x' * 10 }}", &terse, &text, &err), MB_OK);
    assert_string_equal(text, "xxxxxxxxxx");
    mb_text_free(text);
}

/* Long conversations are no attack: their work and memory grow with their length, not with its square. */
static void long_texts_render(void **state)
{
    (void)state;
    struct mb_err err = {0};
    const struct mb_template_opts opts = {.steps_max = 20000000, .memory_bytes = 100 << 20};
    char *text;
    int code = render("{% set s = 'ab ' * 400000 %}{{ s.split('b') | length }} {{ s.split() | length }} {{ s.rsplit(' ') | length }} "
                      "{{ s.replace('a', '') | length }} {{ s.count('a') }} {{ s.splitlines() | length }}{% for i in range(800) %}"
                      "{% for k in range(800) %}{% set x = k %}{% endfor %}{% endfor %}", &opts, &text, &err);
    if (code != MB_OK)
        fail_msg("%s", err.text);
    assert_string_equal(text, "400001 400000 400001 800000 400000 1");
    mb_text_free(text);
}

static void mentions(void **state)
{
    (void)state;
    struct mb_template *tmpl;
    const char *source = "tools {{ enable_thinking }} {# documents #} {{ 'thinking' }}";
    assert_int_equal(mb_template_parse(source, strlen(source), &tmpl, NULL), MB_OK);
    assert_true(mb_template_mentions(tmpl, "enable_thinking"));
    assert_false(mb_template_mentions(tmpl, "tools"));
    assert_false(mb_template_mentions(tmpl, "documents"));
    assert_false(mb_template_mentions(tmpl, "thinking"));
    mb_template_free(tmpl);
    mb_template_free(NULL);
}

static void nul_bytes_pass(void **state)
{
    (void)state;
    struct mb_template *tmpl;
    char *text;
    size_t n;
    assert_int_equal(mb_template_parse("a\0b{{ '\\0' }}", 13, &tmpl, NULL), MB_OK);
    assert_int_equal(mb_template_render(tmpl, NULL, NULL, &text, &n, NULL), MB_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(text, "a\0b\0", 5);
    mb_text_free(text);
    mb_template_free(tmpl);
}

int main(int argc, char **argv)
{
    root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
        cmocka_unit_test(failures_name_the_line),
        cmocka_unit_test(hostile_templates_end),
        cmocka_unit_test(nested_sources_are_refused),
        cmocka_unit_test(bounds_are_what_was_asked),
        cmocka_unit_test(long_texts_render),
        cmocka_unit_test(mentions),
        cmocka_unit_test(nul_bytes_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
