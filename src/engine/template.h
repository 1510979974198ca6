/* SPDX-License-Identifier: MIT */
/* Chat templates: an interpreter of the part of the Jinja2 language that chat templates of language models use, with the
 * settings under which they are published (trim_blocks, lstrip_blocks, break and continue, tojson without HTML escapes,
 * raise_exception, strftime_now, a sandbox in which lists and dicts do not change). docs/chat.md lists what is understood.
 *
 * A template comes with a model file and is hostile until it has ended: steps, memory, output, nesting and the depth of
 * calls are bounded, and every failure names the line.
 *
 * Ownership: a template copies its source. A rendering copies nothing of the context, which must not change meanwhile. */
#ifndef MB_TEMPLATE_H
#define MB_TEMPLATE_H

#include "base/base.h"

#include <time.h>

struct mb_template;

/* Bounds of one rendering and what it may know of the world. Zeros mean the defaults. */
struct mb_template_opts {
    const struct tm *now;  /* local time for strftime_now(); NULL: a template that asks for it fails */
    uint64_t steps_max;    /* evaluated nodes, iterations and blocks of 16 bytes handled; default 50 million */
    size_t memory_bytes;   /* for all values of the rendering; default 256 MiB */
    size_t output_bytes;   /* of the rendered text, and of each text within; default 32 MiB */
};

/* Read a template of n bytes of UTF-8 (at most 4 MiB).
 *   out  out  written only on MB_OK; free with mb_template_free()
 * Returns MB_OK; MB_EFORMAT: a syntax error, or not UTF-8; MB_ERANGE: too long or nested too deeply; MB_ENOMEM. */
int mb_template_parse(const char *text, size_t n, struct mb_template **out, struct mb_err *err);
void mb_template_free(struct mb_template *tmpl);

/* Render with the variables of context (a JSON object; the order of keys is kept; NULL: none).
 *   opts    in   may be NULL
 *   text    out  [n + 1] terminated; free with mb_text_free(); written only on MB_OK
 *   n       out  may be NULL; bytes of text, which may hold NULs
 * Returns MB_OK; MB_EFORMAT: the template refused (raise_exception) or is in error, err holds its message and line;
 * MB_ERANGE: a bound was reached; MB_ENOMEM. Several threads may render one template at a time. */
int mb_template_render(const struct mb_template *tmpl, const json_t *context, const struct mb_template_opts *opts,
                       char **text, size_t *n, struct mb_err *err);

/* Does the template name this variable anywhere? A hint of what it understands ("tools", "enable_thinking"). */
int mb_template_mentions(const struct mb_template *tmpl, const char *name);

#endif
