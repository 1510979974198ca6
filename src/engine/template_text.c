/* SPDX-License-Identifier: MIT */
/* Texts of a rendering: the growing buffer, UTF-8, and what Python's str methods do to a text. Every text here is valid
 * UTF-8 (the template and the context were checked). Case is known for Latin, Greek, Cyrillic and Armenian letters only;
 * other letters stay as they are. */
#include "engine/template_value.h"

#include <string.h>

/* ---- buffer ---- */

void mb_tbuf_add(struct mb_trun *run, struct mb_tbuf *buf, const char *s, size_t n)
{
    if (n == 0 || mb_trun_failed(run) || !mb_trun_step(run, n / 16))
        return;
    if (n > run->output_max || buf->n > run->output_max - n) {
        mb_trun_fail(run, MB_ERANGE, "the text is longer than %zu bytes; shorten the conversation", run->output_max);
        return;
    }
    if (buf->room - buf->n < n) {
        size_t room = buf->room ? buf->room * 2 : 128;
        while (room < buf->n + n)
            room *= 2;
        char *larger = mb_trun_alloc(run, room, 1);
        if (!larger)
            return;
        if (buf->n)
            memcpy(larger, buf->s, buf->n);
        buf->s = larger;
        buf->room = room;
    }
    memcpy(buf->s + buf->n, s, n);
    buf->n += n;
}

void mb_tbuf_word(struct mb_trun *run, struct mb_tbuf *buf, const char *word)
{
    mb_tbuf_add(run, buf, word, strlen(word));
}

void mb_tbuf_repeat(struct mb_trun *run, struct mb_tbuf *buf, const char *s, size_t n, int64_t times)
{
    while (n && times-- > 0 && !mb_trun_failed(run) && mb_trun_step(run, 1))
        mb_tbuf_add(run, buf, s, n);
}

void mb_tbuf_point(struct mb_trun *run, struct mb_tbuf *buf, uint32_t point)
{
    char bytes[4];
    mb_tbuf_add(run, buf, bytes, mb_utf8_put(point, bytes));
}

struct mb_tv mb_tbuf_text(struct mb_trun *run, const struct mb_tbuf *buf)
{
    (void)run;
    return mb_tv_text(buf->n ? buf->s : "", buf->n);
}

void mb_tbuf_escape(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv text)
{
    size_t from = 0;
    for (size_t i = 0; i < text.n && !mb_trun_failed(run); i++) {
        const char *entity = NULL;
        switch (text.s[i]) {
        case '&': entity = "&amp;"; break;
        case '<': entity = "&lt;"; break;
        case '>': entity = "&gt;"; break;
        case '"': entity = "&#34;"; break;
        case '\'': entity = "&#39;"; break;
        default: continue;
        }
        mb_tbuf_add(run, buf, text.s + from, i - from);
        mb_tbuf_word(run, buf, entity);
        from = i + 1;
    }
    mb_tbuf_add(run, buf, text.s + from, text.n - from);
}

/* ---- UTF-8 ---- */

uint32_t mb_utf8_at(const char *s, size_t n, unsigned *len)
{
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80 || n < 2) {
        *len = 1;
        return p[0];
    }
    if (p[0] < 0xe0 || n < 3) {
        *len = 2;
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    }
    if (p[0] < 0xf0 || n < 4) {
        *len = 3;
        return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *len = 4;
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

unsigned mb_utf8_put(uint32_t point, char out[4])
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xc0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xe0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (point & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (point & 0x3f));
    return 4;
}

int mb_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        unsigned more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 9;
        if (more == 9 || more > n - i - 1)
            return 0;
        for (unsigned k = 1; k <= more; k++)
            if (((unsigned char)s[i + k] & 0xc0) != 0x80)
                return 0;
        unsigned len;
        uint32_t point = mb_utf8_at(s + i, n - i, &len);
        if ((more == 2 && point < 0x800) || (more == 3 && point < 0x10000) || point > 0x10ffff ||
            (point >= 0xd800 && point < 0xe000))
            return 0;
        i += more + 1;
    }
    return 1;
}

size_t mb_utf8_count(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

size_t mb_utf8_offset(const char *s, size_t n, size_t index)
{
    size_t i = 0;
    while (i < n && index--) {
        i++;
        while (i < n && ((unsigned char)s[i] & 0xc0) == 0x80)
            i++;
    }
    return i;
}

/* ---- code points ---- */

int mb_point_space(uint32_t p)
{
    return (p >= 9 && p <= 13) || (p >= 0x1c && p <= 0x20) || p == 0x85 || p == 0xa0 || p == 0x1680 ||
           (p >= 0x2000 && p <= 0x200a) || p == 0x2028 || p == 0x2029 || p == 0x202f || p == 0x205f || p == 0x3000;
}

int mb_point_printable(uint32_t p)
{
    if (p < 0x7f)
        return p >= 0x20;
    if (p <= 0xa0 || p == 0xad || (p > 0xa0 && mb_point_space(p)))
        return 0;
    return !((p >= 0x600 && p <= 0x605) || p == 0x61c || p == 0x6dd || p == 0x70f || p == 0x180e ||
             (p >= 0x200b && p <= 0x200f) || (p >= 0x202a && p <= 0x202e) || (p >= 0x2060 && p <= 0x206f) ||
             (p >= 0xd800 && p <= 0xf8ff) || p == 0xfeff ||
             (p >= 0xfff0 && p <= 0xfffb) || (p & 0xfffe) == 0xfffe || p >= 0xe0000);
}

/* The other case of a letter of a block where upper and lower case alternate; first is the block's first capital. */
static int alternates(uint32_t p, uint32_t *first)
{
    static const struct {
        uint32_t from, to, first;
    } blocks[] = {{0x100, 0x12f, 0}, {0x132, 0x137, 0}, {0x139, 0x148, 1}, {0x14a, 0x177, 0}, {0x179, 0x17e, 1},
                  {0x370, 0x373, 0}, {0x3d8, 0x3ef, 0}, {0x460, 0x481, 0}, {0x48a, 0x4bf, 0}, {0x4c1, 0x4ce, 1},
                  {0x4d0, 0x52f, 0}, {0x1e00, 0x1e95, 0}, {0x1ea0, 0x1eff, 0}};
    for (size_t i = 0; i < MB_COUNT(blocks); i++)
        if (p >= blocks[i].from && p <= blocks[i].to) {
            *first = blocks[i].first;
            return 1;
        }
    return 0;
}

/* Letters whose two cases are a fixed distance apart: capital = lower - distance. */
static const struct {
    uint32_t lower_from, lower_to, distance;
} shifted[] = {{'a', 'z', 32},      {0xe0, 0xf6, 32},   {0xf8, 0xfe, 32},   {0x3ac, 0x3ac, 38},  {0x3ad, 0x3af, 37},
               {0x3b1, 0x3c1, 32},  {0x3c3, 0x3cb, 32}, {0x3cc, 0x3cc, 64}, {0x3cd, 0x3ce, 63},  {0x430, 0x44f, 32},
               {0x450, 0x45f, 80},  {0x4cf, 0x4cf, 15}, {0x561, 0x586, 48}};

uint32_t mb_point_upper(uint32_t p)
{
    uint32_t first;
    for (size_t i = 0; i < MB_COUNT(shifted); i++)
        if (p >= shifted[i].lower_from && p <= shifted[i].lower_to)
            return p - shifted[i].distance;
    if (alternates(p, &first))
        return (p & 1) != first ? p - 1 : p;
    switch (p) {
    case 0xb5: return 0x39c;
    case 0xff: return 0x178;
    case 0x131: return 'I';
    case 0x17f: return 'S';
    case 0x3c2: return 0x3a3;
    default: return p;
    }
}

uint32_t mb_point_lower(uint32_t p)
{
    uint32_t first;
    for (size_t i = 0; i < MB_COUNT(shifted); i++)
        if (p >= shifted[i].lower_from - shifted[i].distance && p <= shifted[i].lower_to - shifted[i].distance)
            return p + shifted[i].distance;
    if (alternates(p, &first))
        return (p & 1) == first ? p + 1 : p;
    return p == 0x178 ? 0xff : p;
}

int mb_point_cased(uint32_t p)
{
    if (mb_point_lower(p) != p)
        return 1;
    return mb_point_upper(p) != p || p == 0xdf || p == 0xaa || p == 0xba || p == 0x138 || p == 0x149 ? -1 : 0;
}

int mb_point_alpha(uint32_t p)
{
    if (p < 0x80)
        return (p | 32) >= 'a' && (p | 32) <= 'z';
    return p == 0xaa || p == 0xb5 || p == 0xba ||
           (p >= 0xc0 && p != 0xd7 && p != 0xf7 && !(p >= 0x300 && p <= 0x36f) && !(p >= 0x2000 && p <= 0x2bff) &&
            !(p >= 0x3000 && p <= 0x3004) && !(p >= 0x3007 && p <= 0x3030) && !(p >= 0xd800 && p <= 0xf8ff) &&
            !(p >= 0xfe00 && p <= 0xfe6f) && !(p >= 0xff00 && p <= 0xff20) && !(p >= 0xffe0 && p <= 0xffff) &&
            !(p >= 0x1f000 && p <= 0x1faff) && p < 0xe0000);
}

/* ---- what str methods do ---- */

static int is_cut(uint32_t point, struct mb_tv chars)
{
    if (chars.kind != MB_T_TEXT)
        return mb_point_space(point);
    for (size_t i = 0; i < chars.n;) {
        unsigned len;
        if (mb_utf8_at(chars.s + i, chars.n - i, &len) == point)
            return 1;
        i += len;
    }
    return 0;
}

struct mb_tv mb_text_strip(struct mb_tv text, struct mb_tv chars, int sides)
{
    unsigned len;
    while ((sides & 1) && text.n && is_cut(mb_utf8_at(text.s, text.n, &len), chars)) {
        text.s += len;
        text.n -= len;
    }
    while ((sides & 2) && text.n) {
        uint32_t last = text.n - 1;
        while (last && ((unsigned char)text.s[last] & 0xc0) == 0x80)
            last--;
        if (!is_cut(mb_utf8_at(text.s + last, text.n - last, &len), chars))
            break;
        text.n = last;
    }
    return text;
}

int64_t mb_text_find(struct mb_trun *run, struct mb_tv text, struct mb_tv needle, size_t from)
{
    if (from > text.n || needle.n > text.n - from)
        return -1;
    if (needle.n == 0)
        return (int64_t)from;
    const char *found = memmem(text.s + from, text.n - from, needle.s, needle.n);
    size_t walked = (found ? (size_t)(found - text.s) : text.n) - from; /* what is charged, so that a split is linear */
    return mb_trun_step(run, walked / 16 + needle.n / 16) && found ? (int64_t)(found - text.s) : -1;
}

/* One code point in another case; German sharp s has no capital of its own. */
static void add_case(struct mb_trun *run, struct mb_tbuf *buf, uint32_t point, int upper, int title)
{
    if (upper && point == 0xdf)
        mb_tbuf_word(run, buf, title ? "Ss" : "SS");
    else
        mb_tbuf_point(run, buf, upper ? mb_point_upper(point) : mb_point_lower(point));
}

struct mb_tv mb_text_case(struct mb_trun *run, struct mb_tv text, char how)
{
    struct mb_tbuf buf = {0};
    int after_cased = 0;
    for (size_t i = 0; i < text.n && !mb_trun_failed(run);) {
        unsigned len;
        uint32_t point = mb_utf8_at(text.s + i, text.n - i, &len);
        int first = how == 'c' ? i == 0 : !after_cased;
        int upper = how == 'u' || (how == 's' ? mb_point_cased(point) < 0 : how != 'l' && first);
        add_case(run, &buf, point, upper, how == 't' || how == 'c');
        after_cased = mb_point_cased(point) != 0;
        i += len;
        mb_trun_step(run, 1);
    }
    struct mb_tv out = mb_tbuf_text(run, &buf);
    out.flag = text.flag;
    return out;
}

struct mb_tv mb_text_replace(struct mb_trun *run, struct mb_tv text, struct mb_tv old, struct mb_tv with, int64_t count)
{
    struct mb_tbuf buf = {0};
    size_t at = 0, copied = 0;
    while (count && !mb_trun_failed(run)) {
        int64_t found = mb_text_find(run, text, old, at);
        if (found < 0)
            break;
        mb_tbuf_add(run, &buf, text.s + copied, (size_t)found - copied);
        mb_tbuf_add(run, &buf, with.s, with.n);
        copied = (size_t)found + old.n;
        at = copied;
        if (old.n == 0) { /* between all code points */
            if (at >= text.n)
                break;
            at += mb_utf8_offset(text.s + at, text.n - at, 1);
        }
        count -= count > 0;
        mb_trun_step(run, 1);
    }
    mb_tbuf_add(run, &buf, text.s + copied, text.n - copied);
    return mb_tbuf_text(run, &buf);
}

struct mb_tv mb_text_concat(struct mb_trun *run, struct mb_tv a, struct mb_tv b)
{
    struct mb_tbuf buf = {0};
    if (a.n == 0)
        return b;
    if (b.n == 0)
        return a;
    mb_tbuf_add(run, &buf, a.s, a.n);
    mb_tbuf_add(run, &buf, b.s, b.n);
    return mb_tbuf_text(run, &buf);
}

struct mb_tv mb_text_lines(struct mb_trun *run, struct mb_tv text, int keep_ends)
{
    struct mb_tv list = mb_tv_seq(run, MB_T_LIST, 0);
    size_t from = 0;
    for (size_t i = 0; i < text.n && !mb_trun_failed(run);) {
        unsigned len;
        uint32_t p = mb_utf8_at(text.s + i, text.n - i, &len);
        if (!((p >= 10 && p <= 13) || (p >= 0x1c && p <= 0x1e) || p == 0x85 || p == 0x2028 || p == 0x2029)) {
            i += len;
            continue;
        }
        size_t end = i;
        i += len;
        if (p == '\r' && i < text.n && text.s[i] == '\n')
            i++;
        struct mb_tv line = mb_tv_text(text.s + from, (keep_ends ? i : end) - from);
        line.flag = text.flag;
        mb_tseq_add(run, list.seq, line);
        from = i;
    }
    if (from < text.n && !mb_trun_failed(run)) {
        struct mb_tv line = mb_tv_text(text.s + from, text.n - from);
        line.flag = text.flag;
        mb_tseq_add(run, list.seq, line);
    }
    return list;
}
