/* SPDX-License-Identifier: MIT */
/* JSON in and out by jansson: strict parsing with a place in the error, and builders that cannot leak. */
#include "base.h"

#include <math.h>
#include <stdlib.h>

json_t *mb_json_parse(const char *text, size_t n, const char *label, struct mb_err *err)
{
    json_error_t why;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (root)
        return root;
    if (json_error_code(&why) == json_error_out_of_memory)
        mb_fail_memory(err);
    else
        mb_fail(err, MB_EFORMAT, "%s: line %d, column %d: %s", label, why.line, why.column, why.text);
    return NULL;
}

int mb_json_put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value);
}

json_t *mb_json_text(const char *text)
{
    json_t *string = text ? json_string(text) : json_null();
    /* Names come from drivers and files: what is not UTF-8 is told, not lost with the whole answer. */
    return string ? string : json_string("(not UTF-8)");
}

static int is_whole(double value)
{
    return value == floor(value) && fabs(value) < 9007199254740992.0;
}

json_t *mb_json_number(double value)
{
    if (!isfinite(value))
        return json_null();
    /* Take what the 12 digits of mb_json_dump() show, so that text that was read back is written the same again. */
    char shown[40];
    snprintf(shown, sizeof shown, "%.12g", value);
    if (!is_whole(value))
        value = strtod(shown, NULL);
    return is_whole(value) ? json_integer((json_int_t)value) : json_real(value);
}

json_t *mb_json_count(uint64_t value)
{
    return value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value);
}

json_t *mb_json_figure(const struct mb_figure *figure, const char *unit_key)
{
    json_t *object = json_object();
    int known = mb_figure_known(figure);
    int bad = mb_json_put(object, unit_key, known ? mb_json_number(figure->value) : json_null());
    bad += mb_json_put(object, "provenance", mb_json_text(mb_provenance_name(known ? figure->provenance : MB_UNKNOWN)));
    bad += mb_json_put(object, "detail", mb_json_text(figure->detail));
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

int mb_json_dump(json_t *root, char **out, struct mb_err *err)
{
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(root);
    if (!text)
        return mb_fail_memory(err);
    *out = text;
    return MB_OK;
}

void mb_text_free(char *text)
{
    free(text);
}
