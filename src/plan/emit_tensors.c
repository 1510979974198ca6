/* SPDX-License-Identifier: MIT */
/* Patterns over tensor names: rules that put single tensors elsewhere than their layer, as llama.cpp's
 * --override-tensor takes them. Owns the pattern language that is safe there: no commas (they separate rules), no equal
 * sign, anchored at the front, closed by the dot after the base name, so that "ffn_up" is not taken for "ffn_up_exps"
 * nor layer 1 for layer 11. */
#include "plan/emit.h"

#include <string.h>

const char *mb_emit_numbers(struct mb_emit *emit, const uint8_t *wanted, uint32_t n)
{
    const char *text = "";
    for (uint32_t tens = 0; tens * 10 < n && text; tens++) {
        char digits[16] = "";
        unsigned n_digits = 0, first = 0, last = 0;
        for (unsigned d = 0; d < 10 && tens * 10 + d < n; d++) {
            if (!wanted[tens * 10 + d])
                continue;
            if (!n_digits)
                first = d;
            last = d;
            digits[n_digits++] = (char)('0' + d);
        }
        if (!n_digits)
            continue;
        char prefix[16] = "", part[40];
        if (tens)
            snprintf(prefix, sizeof prefix, "%u", tens);
        if (n_digits == 1)
            snprintf(part, sizeof part, "%s%s", prefix, digits);
        else if (last - first + 1 == n_digits)
            snprintf(part, sizeof part, "%s[%u-%u]", prefix, first, last);
        else
            snprintf(part, sizeof part, "%s[%s]", prefix, digits);
        text = mb_emit_text(emit, "%s%s%s", text, *text ? "|" : "", part);
    }
    return text;
}

const char *mb_emit_ranges(struct mb_emit *emit, const uint8_t *wanted, uint32_t n)
{
    const char *text = "";
    unsigned parts = 0;
    for (uint32_t i = 0; i < n && text; i++) {
        if (!wanted[i])
            continue;
        uint32_t end = i;
        while (end + 1 < n && wanted[end + 1])
            end++;
        if (++parts == 9)
            return mb_emit_text(emit, "%s, ...", text);
        text = end == i       ? mb_emit_text(emit, "%s%s%u", text, *text ? ", " : "", i)
               : end == i + 1 ? mb_emit_text(emit, "%s%s%u, %u", text, *text ? ", " : "", i, end)
                              : mb_emit_text(emit, "%s%s%u to %u", text, *text ? ", " : "", i, end);
        i = end;
    }
    return text;
}

/* What stands between "blk.N." and the next dot; NULL for other names. */
static const char *base_of(const char *name, size_t *n)
{
    if (strncmp(name, "blk.", 4) != 0)
        return NULL;
    const char *base = strchr(name + 4, '.');
    if (!base)
        return NULL;
    *n = strcspn(++base, ".");
    return base[*n] ? base : NULL;
}

/* Is this base name used in the layers by tensors of this piece only? */
static int is_pure(const struct mb_emit *emit, const uint8_t *wanted, const char *base, size_t n,
                   enum mb_emit_piece piece)
{
    for (uint32_t i = 0; i < emit->model->n_tensors; i++) {
        const struct mb_tensor *tensor = &emit->model->tensors[i];
        size_t other_n;
        const char *other = base_of(tensor->name, &other_n);
        if (tensor->layer >= 0 && (uint32_t)tensor->layer < emit->n_layers && wanted[tensor->layer] && other &&
            other_n == n && memcmp(other, base, n) == 0 && mb_emit_piece_of(tensor) != piece)
            return 0;
    }
    return 1;
}

const char *mb_emit_pattern(struct mb_emit *emit, const uint8_t *wanted, enum mb_emit_piece piece)
{
    const struct mb_model *model = emit->model;
    const char *names = "", *bases[24];
    size_t lengths[24];
    unsigned n_bases = 0;
    for (uint32_t i = 0; i < model->n_tensors && names; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        size_t n;
        const char *base = base_of(tensor->name, &n);
        if (tensor->layer < 0 || (uint32_t)tensor->layer >= emit->n_layers || !wanted[tensor->layer] || !base ||
            mb_emit_piece_of(tensor) != piece)
            continue;
        /* Early Mixtral files name each expert, "ffn_up.7.weight", which the base name alone catches. */
        unsigned at = 0;
        while (at < n_bases && (lengths[at] != n || memcmp(bases[at], base, n) != 0))
            at++;
        if (at < n_bases || n_bases == MB_COUNT(bases) || !is_pure(emit, wanted, base, n, piece))
            continue;
        bases[n_bases] = base;
        lengths[n_bases++] = n;
        names = mb_emit_text(emit, "%s%s%.*s", names, *names ? "|" : "", (int)n, base);
    }
    const char *numbers = mb_emit_numbers(emit, wanted, emit->n_layers);
    return names && numbers ? mb_emit_text(emit, "^blk\\.(%s)\\.(%s)\\.", numbers, names) : NULL;
}
