/* SPDX-License-Identifier: MIT */
/* Renders templates for tests: each line of stdin is {"template": TEXT, "context": {...}, "now": [y, m, d, H, M, S]}, each line
 * of stdout {"text": TEXT} or {"error": TEXT, "code": NAME}. */
#include "engine/template.h"

#include <stdlib.h>
#include <string.h>

static void answer(json_t *reply)
{
    char *text = json_dumps(reply, JSON_COMPACT);
    printf("%s\n", text);
    fflush(stdout);
    free(text);
    json_decref(reply);
}

static void render(const json_t *request)
{
    const json_t *source = json_object_get(request, "template"), *now = json_object_get(request, "now");
    struct tm tm = {.tm_isdst = -1};
    int *const fields[] = {&tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec};
    for (size_t i = 0; i < 6; i++)
        *fields[i] = (int)json_integer_value(json_array_get(now, i));
    tm.tm_year -= 1900;
    tm.tm_mon--;
    mktime(&tm);
    struct mb_template_opts opts = {.now = now ? &tm : NULL};
    struct mb_template *tmpl = NULL;
    struct mb_err err;
    char *text;
    size_t n;
    int code = mb_template_parse(json_string_value(source), json_string_length(source), &tmpl, &err);
    if (code == MB_OK)
        code = mb_template_render(tmpl, json_object_get(request, "context"), &opts, &text, &n, &err);
    if (code == MB_OK) {
        answer(json_pack("{s:s%}", "text", text, n));
        mb_text_free(text);
    } else {
        answer(json_pack("{s:s, s:s}", "error", err.text, "code", mb_code_name(code)));
    }
    mb_template_free(tmpl);
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    while ((n = getline(&line, &room, stdin)) > 0) {
        json_error_t why;
        json_t *request = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &why);
        if (!request || !json_is_string(json_object_get(request, "template")))
            answer(json_pack("{s:s, s:s}", "error", "bad request", "code", "MB_EINVAL"));
        else
            render(request);
        json_decref(request);
    }
    free(line);
    return 0;
}
