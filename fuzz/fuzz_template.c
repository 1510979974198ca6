/* SPDX-License-Identifier: MIT */
/* Any bytes as a chat template, rendered for a conversation with tools. Whatever comes out is UTF-8, or an error of one line. */
#include "engine/template.h"
#include "engine/template_value.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct tm now = {.tm_year = 125, .tm_mday = 1};
    static const char source[] =
        "{\"messages\": [{\"role\": \"system\", \"content\": \" Be \\u00fc.\"}, {\"role\": \"user\", \"content\": \"a,b\\nc\"},"
        " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\":"
        " {\"x\": 1.5, \"y\": [true, {}]}}}]}], \"tools\": [], \"add_generation_prompt\": true,"
        " \"bos_token\": \"<s>\", \"n\": 7}";
    const struct mb_template_opts opts = {.now = &now, .steps_max = 200000, .memory_bytes = 16 << 20, .output_bytes = 1 << 20};
    struct mb_template *tmpl;
    struct mb_err err = {0};
    char *copy = malloc(n ? n : 1), *text;
    size_t text_n;
    if (!copy)
        return 0;
    memcpy(copy, data, n);
    int code = mb_template_parse(copy, n, &tmpl, &err);
    free(copy);
    if (code == MB_OK) {
        json_t *context = mb_json_parse(source, sizeof source - 1, "context", NULL);
        code = mb_template_render(tmpl, context, &opts, &text, &text_n, &err);
        if (code == MB_OK) {
            if (text[text_n] || !mb_utf8_valid(text, text_n) || text_n > opts.output_bytes)
                abort();
            mb_text_free(text);
        }
        json_decref(context);
        mb_template_free(tmpl);
    }
    if (code != MB_OK && (!*err.text || code == MB_EINTERNAL))
        abort();
    return 0;
}
