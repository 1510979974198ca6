/* SPDX-License-Identifier: MIT */
/* Making texts of files and drivers safe to show and easy to compare. Knows nothing of what they
 * mean. */
#include "machine/clean.h"

#include <ctype.h>
#include <string.h>

enum { NAME_BYTES_MAX = 256 };

/* Length of the UTF-8 character at text that may be shown; 0 for stray bytes, overlong forms and
 * control characters. */
static size_t shown_bytes(const unsigned char *text)
{
    unsigned char c = text[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : (c & 0xf0) == 0xe0    ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    if (c < 0x20 || c == 0x7f || (c == 0xc2 && text[1] < 0xa0) || (c == 0xe0 && text[1] < 0xa0) ||
        (c == 0xed && text[1] >= 0xa0) || (c == 0xf0 && text[1] < 0x90) ||
        (c == 0xf4 && text[1] >= 0x90))
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

const char *mb_clean_name(struct mb_arena *arena, const char *text)
{
    if (!text)
        return NULL;
    char out[NAME_BYTES_MAX];
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && n + 4 <= sizeof out;) {
        size_t take = shown_bytes(p);
        if (isspace(*p)) {
            if (n && out[n - 1] != ' ')
                out[n++] = ' ';
        } else if (take) {
            memcpy(out + n, p, take);
            n += take;
        } else {
            out[n++] = '?';
        }
        p += take ? take : 1;
    }
    while (n && out[n - 1] == ' ')
        n--;
    return n ? mb_arena_text_n(arena, out, n) : NULL;
}

const char *mb_clean_pci(struct mb_arena *arena, const char *text)
{
    unsigned domain = 0, bus, device, function;
    int end = 0;
    if (!text || strlen(text) > 16)
        return NULL;
    for (const char *p = text; *p; p++)
        if (!isxdigit((unsigned char)*p) && *p != ':' && *p != '.')
            return NULL;
    if (sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) != 4 ||
        text[end]) {
        domain = 0;
        if (sscanf(text, "%2x:%2x.%1x%n", &bus, &device, &function, &end) != 3 || text[end])
            return NULL;
    }
    return mb_arena_format(arena, "%04x:%02x:%02x.%x", domain, bus, device, function);
}

uint64_t mb_clean_json_u64(const json_t *object, const char *key, uint64_t max)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value)) {
        json_int_t number = json_integer_value(value);
        return number > 0 && (uint64_t)number <= max ? (uint64_t)number : 0;
    }
    if (json_is_real(value)) {
        double number = json_real_value(value);
        return number >= 1 && number <= (double)max && number < 9007199254740992.0
                   ? (uint64_t)number
                   : 0;
    }
    return 0;
}

const char *mb_clean_json_name(struct mb_arena *arena, const json_t *object, const char *key)
{
    return mb_clean_name(arena, json_string_value(json_object_get(object, key)));
}
