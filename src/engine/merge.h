/* SPDX-License-Identifier: MIT */
/* The merging that BPE and SentencePiece share: a chain of symbols, of which the best neighbours become one until no two
 * fit. Best first, from the left among equals, by a heap: n symbols take n log n steps. */
#ifndef MB_MERGE_H
#define MB_MERGE_H

#include <stddef.h>
#include <stdint.h>

struct mb_symbol {
    uint32_t at, n; /* bytes of the text; n = 0: merged into the symbol before */
    uint32_t string; /* what it is, in the caller's numbers */
    uint32_t previous, next; /* UINT32_MAX: none */
};

/* Scratch memory for merging, used again from one word to the next. Zeroed is empty; mb_merge_free() when done. */
struct mb_merge {
    struct mb_symbol *symbols;
    struct mb_pair *pairs;
    size_t n_symbols, symbols_max, n_pairs, pairs_max;
};

/* Do two neighbours merge? 1: *order says how soon (lower is earlier), *string what they become. */
typedef int mb_merge_rule(const void *self, const struct mb_symbol *left, const struct mb_symbol *right, uint32_t *order,
                          uint32_t *string);

/* Append a symbol of n > 0 bytes. 0, or -1: out of memory. Set n_symbols to 0 to begin a word. */
int mb_merge_add(struct mb_merge *merge, uint32_t at, uint32_t n, uint32_t string);
/* Merge what was added. 0, or -1: out of memory. What is left is the chain from symbol 0 along next. */
int mb_merge_run(struct mb_merge *merge, mb_merge_rule *rule, const void *self);
void mb_merge_free(struct mb_merge *merge);

#endif
