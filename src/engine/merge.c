/* SPDX-License-Identifier: MIT */
/* Merging by a binary heap of pairs. A pair whose symbols have changed meanwhile stays in the heap and is dropped when it
 * comes up: bounds between symbols only vanish, so that a pair is what it was if its two symbols still have its length. */
#include "engine/merge.h"

#include <stdlib.h>

struct mb_pair {
    uint64_t key; /* order, then the left symbol */
    uint32_t n;   /* bytes of both */
    uint32_t string;
};

/* Room for one more element; NULL leaves the array as it was. */
static void *grow(void *array, size_t n, size_t *max, size_t size)
{
    if (n < *max)
        return array;
    size_t larger = *max ? *max * 2 : 64;
    void *block = realloc(array, larger * size);
    if (block)
        *max = larger;
    return block;
}

int mb_merge_add(struct mb_merge *merge, uint32_t at, uint32_t n, uint32_t string)
{
    struct mb_symbol *symbols = grow(merge->symbols, merge->n_symbols, &merge->symbols_max, sizeof *symbols);
    if (!symbols)
        return -1;
    merge->symbols = symbols;
    uint32_t i = (uint32_t)merge->n_symbols++;
    symbols[i] = (struct mb_symbol){at, n, string, i - 1, UINT32_MAX};
    if (i)
        symbols[i - 1].next = i;
    return 0;
}

static int push(struct mb_merge *merge, struct mb_pair pair)
{
    struct mb_pair *pairs = grow(merge->pairs, merge->n_pairs, &merge->pairs_max, sizeof *pairs);
    if (!pairs)
        return -1;
    merge->pairs = pairs;
    size_t i = merge->n_pairs++;
    for (; i && pairs[(i - 1) / 2].key > pair.key; i = (i - 1) / 2)
        pairs[i] = pairs[(i - 1) / 2];
    pairs[i] = pair;
    return 0;
}

static struct mb_pair pop(struct mb_merge *merge)
{
    struct mb_pair *pairs = merge->pairs, first = pairs[0], last = pairs[--merge->n_pairs];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < merge->n_pairs) {
        child += child + 1 < merge->n_pairs && pairs[child + 1].key < pairs[child].key;
        if (pairs[child].key >= last.key)
            break;
        pairs[i] = pairs[child];
        i = child;
    }
    pairs[i] = last;
    return first;
}

static int try_pair(struct mb_merge *merge, uint32_t left, mb_merge_rule *rule, const void *self)
{
    const struct mb_symbol *a = &merge->symbols[left];
    if (a->next == UINT32_MAX)
        return 0;
    const struct mb_symbol *b = &merge->symbols[a->next];
    uint32_t order, string;
    if (!rule(self, a, b, &order, &string))
        return 0;
    return push(merge, (struct mb_pair){(uint64_t)order << 32 | left, a->n + b->n, string});
}

int mb_merge_run(struct mb_merge *merge, mb_merge_rule *rule, const void *self)
{
    struct mb_symbol *symbols = merge->symbols;
    merge->n_pairs = 0;
    for (uint32_t i = 0; i + 1 < merge->n_symbols; i++)
        if (try_pair(merge, i, rule, self))
            return -1;
    while (merge->n_pairs) {
        struct mb_pair pair = pop(merge);
        uint32_t at = (uint32_t)pair.key;
        struct mb_symbol *left = &symbols[at];
        if (left->n == 0 || left->next == UINT32_MAX || left->n + symbols[left->next].n != pair.n)
            continue;
        struct mb_symbol *right = &symbols[left->next];
        left->n = pair.n;
        left->string = pair.string;
        left->next = right->next;
        right->n = 0;
        if (left->next != UINT32_MAX)
            symbols[left->next].previous = at;
        if (left->previous != UINT32_MAX && try_pair(merge, left->previous, rule, self))
            return -1;
        if (try_pair(merge, at, rule, self))
            return -1;
    }
    return 0;
}

void mb_merge_free(struct mb_merge *merge)
{
    free(merge->symbols);
    free(merge->pairs);
    *merge = (struct mb_merge){0};
}
