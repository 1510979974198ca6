/* SPDX-License-Identifier: MIT */
/* KV caches and recurrent states: what each layer keeps, what allocating it takes, what a pass moves. The rules are those of
 * llama.cpp b10573 (src/llama-hparams.cpp, llama-kv-cache*.cpp, llama-memory-*.cpp); docs/traffic.md restates them and lists
 * the sizes printed by engines that tests/unit/kv.c compares with. */
#include "model/kv.h"
#include "model/arch.h"

#include <string.h>

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t pad(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

uint64_t mb_row_bytes(uint32_t type, uint64_t n)
{
    const struct mb_type_info *info = mb_type_info(type);
    return info ? (n + info->block_elements - 1) / info->block_elements * info->block_bytes : 0;
}

static int cache_type(const char *name, uint32_t *out, struct mb_err *err)
{
    static const enum mb_type allowed[] = {MB_TYPE_F16,  MB_TYPE_F32,  MB_TYPE_BF16, MB_TYPE_Q8_0,  MB_TYPE_Q5_1,
                                           MB_TYPE_Q5_0, MB_TYPE_Q4_1, MB_TYPE_Q4_0, MB_TYPE_IQ4_NL};
    enum mb_type type = MB_TYPE_F16;
    int known = !name || mb_type_by_name(name, &type) == MB_OK;
    for (unsigned i = 0; known && i < MB_COUNT(allowed); i++) {
        if (allowed[i] == type) {
            *out = type;
            return MB_OK;
        }
    }
    return mb_fail(err, MB_EINVAL, "%s: not a type for a KV cache; use F16, Q8_0, Q4_0, F32, BF16, Q5_1, Q5_0, Q4_1 or IQ4_NL",
                   name);
}

int mb_kv_types(const struct mb_kv_opts *opts, struct mb_kv_types *out, struct mb_err *err)
{
    int code = cache_type(opts ? opts->type_k : NULL, &out->k, err);
    return code ? code : cache_type(opts ? opts->type_v : NULL, &out->v, err);
}

/* The layers from n_layers - shared on attend to the last layer of their kind that keeps a cache. */
static int share_caches(struct mb_model *model, struct mb_err *err)
{
    uint32_t own = model->hp.n_layers - model->hp.shared_kv_layers;
    uint32_t last[2] = {UINT32_MAX, UINT32_MAX};
    for (uint32_t i = 0; i < model->hp.n_layers; i++) {
        struct mb_layer *layer = &model->layers[i];
        if (layer->mixer != MB_MIX_ATTENTION)
            continue;
        unsigned kind = layer->window > 0;
        if (i < own) {
            last[kind] = i;
        } else if (last[kind] == UINT32_MAX) {
            return mb_fail(err, MB_EFORMAT, "%s: layer %u shares the cache of a layer that is not there; the file is damaged",
                           model->name, i);
        } else {
            layer->kv_layer = last[kind];
        }
    }
    return MB_OK;
}

static int set_cache(struct mb_model *model, uint32_t i, struct mb_err *err)
{
    const struct mb_hparams *hp = &model->hp;
    struct mb_layer *layer = &model->layers[i];
    uint64_t k = 0, v = 0;
    if (layer->mixer == MB_MIX_MLA) {
        k = (uint64_t)hp->kv_lora + hp->rope;
    } else if (layer->mixer == MB_MIX_ATTENTION || layer->parallel) {
        /* A file's tensors may have told the rows already. */
        k = layer->k_elements ? layer->k_elements : (uint64_t)layer->n_head_kv * layer->head_k;
        v = layer->v_elements ? layer->v_elements : (uint64_t)layer->n_head_kv * layer->head_v;
        if (!k)
            return mb_fail(err, MB_EFORMAT, "%s: layer %u has attention, but no KV heads; the file is damaged", model->name, i);
        if (hp->o_groups)
            v = 0; /* deepseek4: values are keys */
        if (k > MB_ROW_MAX || v > MB_ROW_MAX)
            return mb_fail(err, MB_EFORMAT, "%s: layer %u keeps %llu elements per token, over %u; the file is damaged",
                           model->name, i, (unsigned long long)(k > v ? k : v), MB_ROW_MAX);
    }
    if (layer->kv_layer != i)
        k = v = 0;
    layer->k_elements = (uint32_t)k;
    layer->v_elements = (uint32_t)v;
    if (layer->indexed) {
        layer->index_elements = hp->index_dim;
        layer->index_spare = model->arch && model->arch->flags & MB_ARCH_INDEX_SPARE ? hp->index_dim : 0;
    }
    layer->top_k = layer->mixer == MB_MIX_ATTENTION || layer->mixer == MB_MIX_MLA ? hp->index_top_k : 0;
    if (model->arch && model->arch->flags & MB_ARCH_INDEX_SPARE && !layer->indexed)
        layer->top_k = 0; /* minimax-m3: its first layers see everything */
    if (layer->compress_ratio > 4096)
        return mb_fail(err, MB_EFORMAT, "%s: layer %u compresses %u tokens into one; the file is damaged", model->name, i,
                       layer->compress_ratio);
    if (layer->compress_ratio) {
        uint64_t overlap = layer->compress_ratio == 4 ? 2 : 1; /* blocks of ratio 4 overlap */
        layer->compress_elements = layer->head_k;
        layer->compress_index_elements = overlap == 2 ? hp->index_dim : 0;
        layer->compressor_slots = (uint32_t)overlap * layer->compress_ratio;
        layer->compressor_elements =
            2 * overlap * layer->compressor_slots * ((uint64_t)layer->head_k + layer->compress_index_elements);
        if (overlap == 1)
            layer->top_k = 0; /* the coarse cache is read whole */
    }
    uint64_t taps = hp->ssm_conv ? hp->ssm_conv - 1 : 0;
    switch (layer->mixer) {
    case MB_MIX_GDN:
    case MB_MIX_MAMBA2:
        layer->conv_elements = taps * (hp->ssm_inner + 2 * (uint64_t)hp->ssm_groups * hp->ssm_state);
        layer->state_elements = (uint64_t)hp->ssm_state * hp->ssm_inner;
        break;
    case MB_MIX_KDA:
        layer->conv_elements = 3 * taps * hp->linear_k_heads * hp->linear_dim;
        layer->state_elements = (uint64_t)hp->linear_dim * hp->linear_dim * hp->linear_k_heads;
        break;
    case MB_MIX_CONV:
        layer->conv_elements = (uint64_t)hp->n_embd * (hp->conv_cache ? hp->conv_cache - 1 : 0);
        break;
    default:
        break;
    }
    return MB_OK;
}

int mb_layers_set_caches(struct mb_model *model, struct mb_err *err)
{
    if (model->hp.shared_kv_layers) {
        int code = share_caches(model, err);
        if (code)
            return code;
    }
    /* NextN blocks keep nothing in plain decoding. */
    for (uint32_t i = 0; i < model->hp.n_layers; i++) {
        int code = set_cache(model, i, err);
        if (code)
            return code;
    }
    return MB_OK;
}

static uint64_t cells_read(const struct mb_layer *layer, uint32_t n_tokens, uint64_t depth)
{
    uint64_t all = depth + n_tokens;
    if (!layer->window)
        return all;
    if (layer->chunked)
        return all - depth / layer->window * layer->window;
    return min64(all, (uint64_t)layer->window + n_tokens - 1);
}

void mb_kv_use(const struct mb_model *model, uint32_t index, uint32_t n_tokens, uint64_t depth,
               const struct mb_kv_types *types, struct mb_kv_use *out)
{
    const struct mb_layer *layer = &model->layers[index];
    const struct mb_layer *owner = &model->layers[layer->kv_layer];
    memset(out, 0, sizeof(*out));
    uint64_t n = n_tokens, row = mb_row_bytes(types->k, owner->k_elements) + mb_row_bytes(types->v, owner->v_elements);
    if (owner->k_elements) {
        out->cells = cells_read(layer, n_tokens, depth);
        if (layer->top_k && !layer->compress_ratio)
            out->cells = min64(out->cells, n * layer->top_k);
        out->read_bytes = out->cells * row;
        if (owner == layer)
            out->write_bytes = n * row;
    }
    if (layer->index_elements) {
        uint64_t key = mb_row_bytes(types->k, layer->index_elements);
        out->index_cells = depth + n;
        out->index_read_bytes = out->index_cells * key;
        out->index_write_bytes = n * key;
    }
    if (layer->compress_ratio) {
        /* Whole blocks only; what a token writes is spread evenly over the tokens of a block. */
        uint64_t cells = (depth + n) / layer->compress_ratio, r = layer->compress_ratio;
        uint64_t key = mb_row_bytes(types->k, layer->compress_elements);
        uint64_t index_key = mb_row_bytes(types->k, layer->compress_index_elements);
        out->compressed_cells = layer->top_k ? min64(cells, n * layer->top_k) : cells;
        out->read_bytes += out->compressed_cells * key;
        if (layer->compress_index_elements) {
            out->index_cells = cells;
            out->index_read_bytes = cells * index_key;
        }
        out->compress_write_bytes = n * (key + index_key) / r;
        out->compressor_read_bytes = n * layer->compressor_elements * 4 / r;
        out->compressor_write_bytes = n * (layer->compressor_elements / layer->compressor_slots) * 4;
    }
    out->state_bytes = 4 * (layer->conv_elements + layer->state_elements);
}

double mb_kv_layer_bytes_per_token(const struct mb_model *model, uint32_t index, const struct mb_kv_types *types)
{
    const struct mb_layer *layer = &model->layers[index];
    double bytes = (double)(mb_row_bytes(types->k, layer->index_elements) + mb_row_bytes(types->v, layer->index_spare));
    if (!layer->window)
        bytes += (double)(mb_row_bytes(types->k, layer->k_elements) + mb_row_bytes(types->v, layer->v_elements));
    if (layer->compress_ratio)
        bytes += (double)(mb_row_bytes(types->k, layer->compress_elements) +
                          mb_row_bytes(types->k, layer->compress_index_elements)) /
                 layer->compress_ratio;
    return bytes;
}

static void add_part(struct mb_kv_part_size *part, uint64_t cells, uint64_t bytes)
{
    if (!bytes)
        return;
    if (!part->n_layers++)
        part->cells = cells;
    part->bytes += bytes;
}

static void add_layer_parts(const struct mb_model *model, uint32_t index, uint64_t n_ctx, const struct mb_kv_opts *opts,
                            const struct mb_kv_types *types, struct mb_kv_part_size out[MB_KV_PARTS])
{
    const struct mb_layer *layer = &model->layers[index];
    uint64_t n_seq = opts && opts->n_seq ? opts->n_seq : 1, n_batch = opts && opts->n_batch ? opts->n_batch : 512;
    uint64_t row = mb_row_bytes(types->k, layer->k_elements) + mb_row_bytes(types->v, layer->v_elements);
    n_ctx = pad(n_ctx, 256);
    uint64_t cells = n_ctx;
    if (layer->window && !(opts && opts->window_full))
        cells = pad(min64(n_ctx, layer->window * n_seq + n_batch), 256);
    add_part(&out[layer->window ? MB_KV_WINDOW : MB_KV_FULL], cells, cells * row);
    add_part(&out[MB_KV_INDEX], n_ctx,
             n_ctx * (mb_row_bytes(types->k, layer->index_elements) + mb_row_bytes(types->v, layer->index_spare)));
    if (layer->compress_ratio) {
        cells = pad(pad(n_ctx, layer->compress_ratio) / layer->compress_ratio, 256);
        add_part(&out[MB_KV_COMPRESSED], cells,
                 cells * (mb_row_bytes(types->k, layer->compress_elements) +
                          mb_row_bytes(types->k, layer->compress_index_elements)));
    }
    add_part(&out[MB_KV_STATE], 1, 4 * n_seq * (layer->conv_elements + layer->state_elements + layer->compressor_elements));
}

static int check_context(uint64_t n_ctx, const struct mb_kv_opts *opts, struct mb_err *err)
{
    if (n_ctx > MB_DEPTH_MAX || (opts && opts->n_seq > 4096))
        return mb_fail(err, MB_ERANGE, "a context of %llu tokens is over the limit of %u; ask for less",
                       (unsigned long long)n_ctx, MB_DEPTH_MAX);
    return MB_OK;
}

int mb_kv_layer_parts(const struct mb_model *model, uint32_t layer, uint64_t n_ctx, const struct mb_kv_opts *opts,
                      struct mb_kv_part_size out[MB_KV_PARTS], struct mb_err *err)
{
    struct mb_kv_types types;
    int code = mb_kv_types(opts, &types, err);
    if (code || (code = check_context(n_ctx, opts, err)))
        return code;
    add_layer_parts(model, layer, n_ctx, opts, &types, out);
    return MB_OK;
}

int mb_kv_parts(const struct mb_model *model, uint64_t n_ctx, const struct mb_kv_opts *opts,
                struct mb_kv_part_size out[MB_KV_PARTS], struct mb_err *err)
{
    struct mb_kv_types types;
    int code = mb_kv_types(opts, &types, err);
    if (code || (code = check_context(n_ctx, opts, err)))
        return code;
    memset(out, 0, MB_KV_PARTS * sizeof(*out));
    for (uint32_t i = 0; i < model->hp.n_layers; i++)
        add_layer_parts(model, i, n_ctx, opts, &types, out);
    return MB_OK;
}

int mb_model_kv_size(const struct mb_model *model, uint64_t n_ctx, const struct mb_kv_opts *opts,
                     struct mb_kv_size *out, struct mb_err *err)
{
    struct mb_kv_part_size parts[MB_KV_PARTS];
    struct mb_kv_types types;
    int code = mb_kv_parts(model, n_ctx, opts, parts, err);
    if (code || (code = mb_kv_types(opts, &types, err)))
        return code;
    memset(out, 0, sizeof(*out));
    double per_token = 0;
    for (uint32_t i = 0; i < model->hp.n_layers; i++) {
        const struct mb_layer *layer = &model->layers[i];
        per_token += mb_kv_layer_bytes_per_token(model, i, &types);
        if (layer->window && layer->k_elements) {
            out->window_bytes_per_cell += mb_row_bytes(types.k, layer->k_elements) + mb_row_bytes(types.v, layer->v_elements);
            if (layer->window > out->window)
                out->window = layer->window;
        }
    }
    out->bytes_per_token = (uint64_t)(per_token + 0.5);
    for (unsigned i = 0; i < MB_KV_PARTS; i++) {
        if (i == MB_KV_STATE)
            out->state_bytes = parts[i].bytes;
        else
            out->cache_bytes += parts[i].bytes;
    }
    return MB_OK;
}
