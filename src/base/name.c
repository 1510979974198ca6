/* SPDX-License-Identifier: MIT */
/* Names as people type them: comparing without case and punctuation, and offering the nearest. */
#include "base.h"

#include <ctype.h>
#include <string.h>

enum { NAME_MAX_LETTERS = 96 };

/* Letters and digits in lower case; blanks and punctuation dropped; cut at NAME_MAX_LETTERS. '+' is kept: "Max+". */
static size_t fold(const char *name, char *out)
{
    size_t n = 0;
    for (; *name && n < NAME_MAX_LETTERS; name++)
        if (isalnum((unsigned char)*name) || *name == '+' || (unsigned char)*name >= 0x80)
            out[n++] = (char)tolower((unsigned char)*name);
    out[n] = 0;
    return n;
}

int mb_name_compare(const char *a, const char *b)
{
    char fa[NAME_MAX_LETTERS + 1], fb[NAME_MAX_LETTERS + 1];
    fold(a, fa);
    fold(b, fb);
    return strcmp(fa, fb);
}

unsigned mb_name_distance(const char *a, const char *b)
{
    char fa[NAME_MAX_LETTERS + 1], fb[NAME_MAX_LETTERS + 1];
    size_t na = fold(a, fa), nb = fold(b, fb);
    if (na && nb && (strstr(fa, fb) || strstr(fb, fa)))
        return na == nb ? 0 : 1;
    unsigned row[NAME_MAX_LETTERS + 1];
    for (size_t j = 0; j <= nb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned up = row[j], best = diagonal + (fa[i - 1] != fb[j - 1]);
            if (up + 1 < best)
                best = up + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
            diagonal = up;
        }
    }
    return row[nb];
}

char *mb_name_nearest(const char *wanted, const char *const *names, size_t n, unsigned max, char *buf,
                      size_t buf_n)
{
    enum { MOST = 8 };
    size_t best[MOST];
    unsigned distance[MOST], n_best = 0;
    unsigned limit = (unsigned)strlen(wanted) / 2 + 2;
    if (max > MOST)
        max = MOST;
    for (size_t i = 0; i < n; i++) {
        unsigned d = mb_name_distance(wanted, names[i]);
        if (d > limit)
            continue;
        unsigned at = n_best;
        while (at > 0 && distance[at - 1] > d)
            at--;
        if (at >= max)
            continue;
        if (n_best < max)
            n_best++;
        memmove(best + at + 1, best + at, (n_best - at - 1) * sizeof *best);
        memmove(distance + at + 1, distance + at, (n_best - at - 1) * sizeof *distance);
        best[at] = i;
        distance[at] = d;
    }
    size_t used = 0;
    if (buf_n)
        *buf = 0;
    for (unsigned i = 0; i < n_best; i++) {
        const char *between = i == 0 ? "" : i + 1 == n_best ? " or " : ", ";
        int wrote = snprintf(buf + used, buf_n - used, "%s%s", between, names[best[i]]);
        if (wrote < 0 || (size_t)wrote >= buf_n - used) {
            buf[used] = 0;
            break;
        }
        used += (size_t)wrote;
    }
    return buf;
}
