/* SPDX-License-Identifier: MIT */
/* Typed access to JSON that somebody else wrote. It owns the wording of what is wrong; the meaning
 * of keys is left to its callers. */
#include "base/reader.h"

#include <math.h>
#include <string.h>

int mb_reader_fail(struct mb_reader *reader, const char *key, const char *format, ...)
{
    if (reader->code)
        return reader->code;
    char what[300];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: %s%s%s%s%s", reader->file, reader->where,
                           *reader->where ? ": " : "", key ? key : "", key ? ": " : "", what);
    return reader->code;
}

size_t mb_reader_enter(struct mb_reader *reader, const char *format, ...)
{
    size_t mark = strlen(reader->where);
    size_t at = mark;
    if (at && at + 2 < sizeof reader->where) {
        memcpy(reader->where + at, ": ", 3);
        at += 2;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(reader->where + at, sizeof reader->where - at, format, args);
    va_end(args);
    return mark;
}

void mb_reader_leave(struct mb_reader *reader, size_t mark)
{
    reader->where[mark] = 0;
}

int mb_reader_keys(struct mb_reader *reader, const json_t *value, const char *const *keys, size_t n)
{
    if (reader->code)
        return reader->code;
    if (!json_is_object(value))
        return mb_reader_fail(reader, NULL, "not an object; write {...}");
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member)
    {
        size_t k = 0;
        while (k < n && strcmp(key, keys[k]) != 0)
            k++;
        if (k < n)
            continue;
        char nearest[120];
        mb_name_nearest(key, keys, n, 1, nearest, sizeof nearest);
        return *nearest ? mb_reader_fail(reader, NULL, "unknown key \"%.60s\"; did you mean %s?",
                                         key, nearest)
                        : mb_reader_fail(reader, NULL, "unknown key \"%.60s\"; remove it", key);
    }
    return MB_OK;
}

/* The member, or NULL when it is absent or null. */
static json_t *member_of(struct mb_reader *reader, const json_t *object, const char *key,
                         enum mb_need need)
{
    if (reader->code)
        return NULL;
    json_t *value = json_object_get(object, key);
    if (value && !json_is_null(value))
        return value;
    if (need == MB_REQUIRED)
        mb_reader_fail(reader, key, "is missing");
    return NULL;
}

static const char *text_of(struct mb_reader *reader, const json_t *value, const char *key)
{
    const char *text = json_string_value(value);
    size_t n = json_string_length(value);
    if (!text || n > MB_READER_TEXT_MAX) {
        mb_reader_fail(reader, key, text ? "longer than %d bytes" : "not a text of up to %d bytes",
                       MB_READER_TEXT_MAX);
        return NULL;
    }
    char *copy = mb_arena_text_n(reader->arena, text, n);
    if (!copy) {
        reader->code = mb_fail_memory(reader->err);
        return NULL;
    }
    /* These texts reach terminals; none may move the cursor or hide a part behind a NUL. */
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)copy[i] < 0x20 || copy[i] == 0x7f)
            copy[i] = '?';
    return copy;
}

const char *mb_reader_text(struct mb_reader *reader, const json_t *object, const char *key,
                           enum mb_need need)
{
    const json_t *value = member_of(reader, object, key, need);
    if (!value)
        return NULL;
    if (need == MB_REQUIRED && json_is_string(value) && json_string_length(value) == 0) {
        mb_reader_fail(reader, key, "is empty");
        return NULL;
    }
    return text_of(reader, value, key);
}

double mb_reader_number(struct mb_reader *reader, const json_t *object, const char *key, double min,
                        double max, enum mb_need need)
{
    const json_t *value = member_of(reader, object, key, need);
    if (!value)
        return NAN;
    double number = json_number_value(value);
    if (!json_is_number(value))
        mb_reader_fail(reader, key, "not a number");
    else if (!(number >= min && number <= max))
        mb_reader_fail(reader, key, "%.6g is not in %.6g..%.6g", number, min, max);
    else
        return number;
    return NAN;
}

uint64_t mb_reader_count(struct mb_reader *reader, const json_t *object, const char *key,
                         uint64_t max, enum mb_need need)
{
    const json_t *value = member_of(reader, object, key, need);
    if (!value)
        return 0;
    json_int_t number = json_integer_value(value);
    if (json_is_integer(value) && number >= 0 && (uint64_t)number <= max)
        return (uint64_t)number;
    mb_reader_fail(reader, key, "not a whole number in 0..%llu", (unsigned long long)max);
    return 0;
}

int mb_reader_flag(struct mb_reader *reader, const json_t *object, const char *key)
{
    const json_t *value = member_of(reader, object, key, MB_OPTIONAL);
    if (value && !json_is_boolean(value))
        mb_reader_fail(reader, key, "not true or false");
    return json_is_true(value);
}

json_t *mb_reader_array(struct mb_reader *reader, const json_t *object, const char *key,
                        size_t max_n, enum mb_need need)
{
    json_t *value = member_of(reader, object, key, need);
    if (!value)
        return NULL;
    if (!json_is_array(value))
        mb_reader_fail(reader, key, "not an array; write [...]");
    else if (json_array_size(value) > max_n)
        mb_reader_fail(reader, key, "%zu elements, at most %zu are taken", json_array_size(value),
                       max_n);
    else
        return value;
    return NULL;
}

json_t *mb_reader_object(struct mb_reader *reader, const json_t *object, const char *key,
                         enum mb_need need)
{
    json_t *value = member_of(reader, object, key, need);
    if (value && !json_is_object(value)) {
        mb_reader_fail(reader, key, "not an object; write {...}");
        return NULL;
    }
    return value;
}

int mb_reader_choice(struct mb_reader *reader, const json_t *object, const char *key,
                     const char *const *names, size_t n, enum mb_need need)
{
    const json_t *value = member_of(reader, object, key, need);
    if (!value)
        return -1;
    const char *text = json_string_value(value);
    for (size_t i = 0; text && i < n; i++)
        if (strcmp(text, names[i]) == 0)
            return (int)i;
    char list[200] = "";
    for (size_t i = 0, used = 0; i < n && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    mb_reader_fail(reader, key, "\"%.40s\" is none of %s", text ? text : "(not a text)", list);
    return -1;
}

const char **mb_reader_texts(struct mb_reader *reader, const json_t *object, const char *key,
                             size_t max_n, unsigned *out_n, enum mb_need need)
{
    *out_n = 0;
    const json_t *array = mb_reader_array(reader, object, key, max_n, need);
    size_t n = json_array_size(array);
    if (!n)
        return NULL;
    const char **texts = mb_arena_array(reader->arena, n, sizeof *texts);
    if (!texts) {
        reader->code = mb_fail_memory(reader->err);
        return NULL;
    }
    for (size_t i = 0; i < n && !reader->code; i++)
        texts[i] = text_of(reader, json_array_get(array, i), key);
    if (reader->code)
        return NULL;
    *out_n = (unsigned)n;
    return texts;
}

const char *mb_reader_source(struct mb_reader *reader, const json_t *part, const json_t *sources)
{
    const char *name = mb_reader_text(reader, part, "source", MB_REQUIRED);
    if (!name)
        return NULL;
    if (!json_object_get(sources, name))
        mb_reader_fail(reader, "source", "\"%.40s\" is not in sources", name);
    return mb_reader_text(reader, sources, name, MB_REQUIRED);
}
