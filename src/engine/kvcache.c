/* SPDX-License-Identifier: MIT */
/* Sizes and places of the cache. What is written into it and read from it is the forward pass's business. */
#include "engine/kvcache.h"
#include "engine/pages.h"

#include <string.h>

/* The keys of so many tokens of a head are 1 MiB in F16 and 128 elements: half a huge page. */
#define HUGE_FROM_TOKENS 4096

/* Cells as the planner counts them (model/kv.c). */
static uint64_t cells_of(const struct mb_layer *layer, uint64_t n_ctx, uint64_t n_batch)
{
    uint64_t all = (n_ctx + 255) / 256 * 256, ring = layer->window + n_batch;
    return !layer->window || ring >= all ? all : (ring + 255) / 256 * 256;
}

int mb_kv_cache_take(struct mb_kv_cache *cache, const struct mb_model *model, struct mb_arena *arena, uint32_t n_ctx,
                     const struct mb_kv_opts *opts, struct mb_err *err)
{
    int code = mb_kv_types(opts, &cache->types, err);
    if (code)
        return code;
    const uint32_t both[] = {cache->types.k, cache->types.v};
    for (unsigned i = 0; i < 2; i++) {
        if (both[i] != MB_TYPE_F32 && both[i] != MB_TYPE_F16 && both[i] != MB_TYPE_Q8_0)
            return mb_fail(err, MB_EINVAL, "a cache of the type %s is not run; use F16, F32 or Q8_0", mb_type_name(both[i]));
    }
    if (cache->types.k != cache->types.v)
        return mb_fail(err, MB_EINVAL, "keys and values of different types are not run; give both the same one");
    cache->n_layers = model->hp.n_layers;
    cache->layers = mb_arena_array(arena, cache->n_layers, sizeof *cache->layers);
    if (!cache->layers)
        return mb_fail_memory(err);
    uint64_t total = 0, block = mb_type_info(cache->types.k)->block_elements;
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        const struct mb_layer *from = &model->layers[i];
        struct mb_kv_cache_layer *to = &cache->layers[i];
        if (!from->k_elements || from->kv_layer != i)
            continue;
        if (from->head_k % block || from->head_v % block)
            return mb_fail(err, MB_ENOTSUP, "%s: heads of %u and %u elements are no whole blocks of %s; use F16 for the cache",
                           model->name, from->head_k, from->head_v, mb_type_name(cache->types.k));
        to->n_heads = from->n_head_kv;
        to->window = from->window;
        to->cells = (uint32_t)cells_of(from, n_ctx, opts->n_batch);
        to->k_row = (size_t)mb_row_bytes(cache->types.k, from->head_k);
        to->v_row = (size_t)mb_row_bytes(cache->types.v, from->head_v);
        to->k_head = to->k_row * to->cells;
        to->v_head = to->v_row * to->cells;
        total += (to->k_head + to->v_head) * to->n_heads + 128;
    }
    cache->bytes = total;
    cache->pages = mb_pages_take_small(total);
    if (!cache->pages)
        return mb_fail(err, MB_ENOMEM, "the cache of %u tokens needs %.1f GiB; use a smaller context", n_ctx,
                       (double)total / MB_GIB);
    uint8_t *at = cache->pages;
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        struct mb_kv_cache_layer *layer = &cache->layers[i];
        if (!layer->cells)
            continue;
        layer->k = at;
        at += (layer->k_head * layer->n_heads + 63) / 64 * 64;
        layer->v = at;
        at += (layer->v_head * layer->n_heads + 63) / 64 * 64;
    }
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        uint32_t owner = model->layers[i].kv_layer;
        if (owner != i && owner < i)
            cache->layers[i] = cache->layers[owner];
    }
    return MB_OK;
}

void mb_kv_cache_free(struct mb_kv_cache *cache)
{
    mb_pages_give(cache->pages, cache->bytes);
    memset(cache, 0, sizeof *cache);
}

void mb_kv_cache_expect(struct mb_kv_cache *cache, uint64_t n_tokens)
{
    if (cache->may_be_huge || n_tokens < HUGE_FROM_TOKENS)
        return;
    mb_pages_allow_huge(cache->pages, cache->bytes);
    cache->may_be_huge = 1;
}

unsigned mb_kv_spans(const struct mb_kv_cache_layer *layer, uint64_t begin, uint64_t end, struct mb_kv_span spans[2])
{
    unsigned n = 0;
    while (begin < end) {
        size_t cell = (size_t)(begin % layer->cells), left = layer->cells - cell;
        size_t length = end - begin < left ? (size_t)(end - begin) : left;
        spans[n++] = (struct mb_kv_span){begin, cell, length};
        begin += length;
    }
    return n;
}
