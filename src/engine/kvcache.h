/* SPDX-License-Identifier: MIT */
/* The key and value cache of one sequence. Full layers keep every position, sliding ones a ring of their window and one chunk:
 * position p lies in cell p % cells. Head after head, so that attention streams. */
#ifndef MB_KVCACHE_H
#define MB_KVCACHE_H

#include "model/kv.h"

struct mb_kv_cache_layer {
    uint8_t *k, *v;             /* NULL: this layer keeps none */
    size_t k_row, v_row;        /* bytes of one cell of one head */
    size_t k_head, v_head;      /* bytes from head to head */
    uint32_t n_heads, cells, window;
};

struct mb_kv_cache {
    struct mb_kv_types types;
    struct mb_kv_cache_layer *layers; /* hp.n_layers of them */
    uint32_t n_layers;
    void *pages;
    uint64_t bytes;
    int may_be_huge; /* pages: mb_kv_cache_expect() */
};

/* Take the memory for n_ctx tokens, evaluated n_batch at a time at most: what mb_model_kv_size() says. Free with
 * mb_kv_cache_free(). MB_OK; MB_EINVAL: a type; MB_ENOTSUP: heads that are no whole blocks of it; MB_ERANGE; MB_ENOMEM. */
int mb_kv_cache_take(struct mb_kv_cache *cache, const struct mb_model *model, struct mb_arena *arena, uint32_t n_ctx,
                     const struct mb_kv_opts *opts, struct mb_err *err);
void mb_kv_cache_free(struct mb_kv_cache *cache);

/* Positions below n_tokens are about to be filled. A cache is as large as its context and each head has a place of its own in
 * it, so that a first token on huge pages took hundreds of them; only many tokens do. */
void mb_kv_cache_expect(struct mb_kv_cache *cache, uint64_t n_tokens);

/* Positions that lie one after the other in cells. */
struct mb_kv_span {
    uint64_t position;
    size_t cell, n;
};

/* The one or two spans of positions [begin, end), which are at most `cells` many. Returns how many. */
unsigned mb_kv_spans(const struct mb_kv_cache_layer *layer, uint64_t begin, uint64_t end, struct mb_kv_span spans[2]);

/* The first position that the token at `position` sees. */
static inline uint64_t mb_kv_first_seen(const struct mb_kv_cache_layer *layer, uint64_t position)
{
    return layer->window && position + 1 > layer->window ? position + 1 - layer->window : 0;
}

#endif
