/* SPDX-License-Identifier: MIT */
/* Hyperparameters: their limits, and the layers that follow from them. Serves both origins; reading them from a file is in
 * hparams_gguf.c, from the catalog in catalog_models.c. Everything here may be hostile until checked. */
#include "model/arch.h"

#include <stddef.h>
#include <string.h>

/* Names as GGUF files spell the key, where one holds the figure. */
static const struct {
    const char *name;
    size_t offset;
    uint32_t min, max;
} limits[] = {
#define NAMED(name, field, min, max) {name, offsetof(struct mb_hparams, field), min, max}
#define LIMIT(field, min, max) NAMED(#field, field, min, max)
    NAMED("block_count", n_layers, 1, MB_LAYERS_MAX - 64),
    NAMED("nextn_predict_layers", n_nextn, 0, 64),
    NAMED("embedding_length", n_embd, 1, 1u << 20),
    NAMED("vocab_size", n_vocab, 1, 1u << 24),
    NAMED("attention.head_count", n_head, 0, 1u << 14),
    NAMED("attention.head_count_kv", n_head_kv, 0, 1u << 14),
    NAMED("attention.key_length", head_k, 0, 1u << 14),
    NAMED("attention.value_length", head_v, 0, 1u << 14),
    LIMIT(n_head_window, 0, 1u << 14),
    LIMIT(n_head_kv_window, 0, 1u << 14),
    NAMED("attention.key_length_swa", head_k_window, 0, 1u << 14),
    NAMED("attention.value_length_swa", head_v_window, 0, 1u << 14),
    NAMED("feed_forward_length", n_ff, 0, 1u << 22),
    NAMED("attention.sliding_window", window, 0, MB_DEPTH_MAX),
    NAMED("expert_count", n_expert, 0, MB_EXPERTS_MAX),
    NAMED("expert_used_count", n_expert_used, 0, MB_EXPERTS_MAX),
    NAMED("expert_feed_forward_length", n_ff_exp, 0, 1u << 22),
    NAMED("expert_shared_feed_forward_length", n_ff_shexp, 0, 1u << 22),
    LIMIT(latent, 0, 1u << 20),
    NAMED("attention.q_lora_rank", q_lora, 0, 1u << 20),
    NAMED("attention.kv_lora_rank", kv_lora, 0, 1u << 18),
    LIMIT(nope, 0, 1u << 14),
    NAMED("rope.dimension_count", rope, 0, 1u << 14),
    NAMED("attention.value_length_mla", v_mla, 0, 1u << 14),
    NAMED("attention.indexer.head_count", index_heads, 0, 1u << 14),
    NAMED("attention.indexer.key_length", index_dim, 0, 1u << 14),
    LIMIT(index_pool, 0, 1u << 14),
    LIMIT(linear_k_heads, 0, 1u << 12),
    LIMIT(linear_v_heads, 0, 1u << 12),
    NAMED("kda.head_dim", linear_dim, 0, 1u << 12),
    LIMIT(linear_conv, 0, 1u << 10),
    NAMED("ssm.inner_size", ssm_inner, 0, 1u << 22),
    NAMED("ssm.state_size", ssm_state, 0, 1u << 14),
    LIMIT(ssm_heads, 0, 1u << 16),
    NAMED("ssm.group_count", ssm_groups, 0, 1u << 12),
    NAMED("ssm.conv_kernel", ssm_conv, 0, 1u << 10),
    NAMED("shortconv.l_cache", conv_cache, 0, 1u << 10),
    LIMIT(o_groups, 0, 1u << 12),
    LIMIT(o_lora, 0, 1u << 18),
    NAMED("hyper_connection.count", hc, 0, 64),
    LIMIT(hc_low_rank, 0, 1u << 18),
    LIMIT(ngram_dim, 0, 1u << 18),
    LIMIT(ngram_rows, 0, 1u << 30),
    LIMIT(ngram_heads, 0, 1u << 12),
    LIMIT(ngram_conv, 0, 1u << 10),
    NAMED("embedding_length_per_layer_input", per_layer_embd, 0, 1u << 16),
    LIMIT(rope_freqs, 0, 1u << 16),
    LIMIT(rope_factors, 0, 1u << 16),
#undef LIMIT
#undef NAMED
};

int mb_hparams_check(const struct mb_model *model, struct mb_err *err)
{
    const struct mb_hparams *hp = &model->hp;
    for (unsigned i = 0; i < MB_COUNT(limits); i++) {
        uint32_t value;
        memcpy(&value, (const char *)hp + limits[i].offset, sizeof(value));
        if (value < limits[i].min || value > limits[i].max)
            return mb_fail(err, MB_EFORMAT, "%s: %s is %u, outside %u..%u; the file is damaged", model->name,
                           limits[i].name, value, limits[i].min, limits[i].max);
    }
    if (hp->n_expert_used > hp->n_expert)
        return mb_fail(err, MB_EFORMAT, "%s: expert_used_count %u is more than expert_count %u; the file is damaged",
                       model->name, hp->n_expert_used, hp->n_expert);
    if (hp->n_expert && !hp->n_expert_used)
        return mb_fail(err, MB_EFORMAT, "%s: expert_used_count is 0 of %u experts; the file is damaged", model->name,
                       hp->n_expert);
    if (hp->shared_kv_layers >= hp->n_layers)
        return mb_fail(err, MB_EFORMAT, "%s: shared_kv_layers %u leaves no layer of %u that keeps a cache; the file is damaged",
                       model->name, hp->shared_kv_layers, hp->n_layers);
    return MB_OK;
}

static int listed(const uint32_t *list, uint32_t n, uint32_t value)
{
    for (uint32_t i = 0; i < n; i++) {
        if (list[i] == value)
            return 1;
    }
    return 0;
}

static void set_heads(const struct mb_hparams *hp, struct mb_layer *layer)
{
    int window = layer->window > 0;
    layer->n_head = window && hp->n_head_window ? hp->n_head_window : hp->n_head;
    layer->n_head_kv = window && hp->n_head_kv_window ? hp->n_head_kv_window : hp->n_head_kv;
    layer->head_k = window && hp->head_k_window ? hp->head_k_window : hp->head_k;
    uint32_t v = window && hp->head_v_window ? hp->head_v_window : hp->head_v;
    layer->head_v = v ? v : layer->head_k;
}

int mb_hparams_layers(struct mb_model *model, const struct mb_layer_lists *lists, struct mb_err *err)
{
    const struct mb_hparams *hp = &model->hp;
    const struct mb_arch *arch = model->arch;
    size_t n_pattern = lists->pattern ? strlen(lists->pattern) : 0;
    model->n_layers_all = hp->n_layers + hp->n_nextn;
    model->layers = mb_arena_array(&model->arena, model->n_layers_all, sizeof(*model->layers));
    if (!model->layers)
        return mb_fail_memory(err);
    for (uint32_t i = 0; i < model->n_layers_all; i++) {
        struct mb_layer *layer = &model->layers[i];
        char letter = i < hp->n_layers && n_pattern ? lists->pattern[i % n_pattern] : 'F';
        layer->nextn = i >= hp->n_layers;
        if (layer->nextn && arch->flags & MB_ARCH_NEXTN_DENSE)
            letter = 'S';
        uint32_t every = hp->moe_every ? hp->moe_every : 1;
        int experts = hp->n_expert && i >= hp->dense_first && (i + 1) % every == 0;
        int one_part = arch->flags & MB_ARCH_ONE_PART;
        layer->moe = (uint8_t)(one_part ? letter == 'E' : experts);
        if (layer->nextn && arch->flags & MB_ARCH_NEXTN_DENSE)
            layer->moe = 0;
        switch (letter) {
        case 'F':
        case 'S':
            layer->mixer = hp->kv_lora ? MB_MIX_MLA : MB_MIX_ATTENTION;
            layer->window = letter == 'S' || lists->compress_ratios ? hp->window : 0;
            layer->chunked = arch->flags & MB_ARCH_CHUNKED && layer->window;
            break;
        case 'R':
            layer->mixer = arch->recurrent;
            if (!layer->mixer)
                return mb_fail(err, MB_EFORMAT, "%s: %s has no recurrent layers; mend its pattern", model->name, arch->name);
            break;
        case '-':
        case 'E':
            layer->mixer = MB_MIX_NONE;
            break;
        default:
            return mb_fail(err, MB_EFORMAT, "%s: layers: '%c' is not a kind of layer; use F, S, R, - or E", model->name,
                           letter);
        }
        set_heads(hp, layer);
        layer->kv_layer = i;
        layer->n_ff = one_part && letter != '-' ? 0 : hp->n_ff;
        if (hp->double_wide_ffn && i + hp->shared_kv_layers >= hp->n_layers)
            layer->n_ff *= 2;
        layer->compress_ratio = lists->compress_ratios && i < hp->n_layers ? lists->compress_ratios[i] : 0;
        int attends = layer->mixer == MB_MIX_ATTENTION || layer->mixer == MB_MIX_MLA;
        if (hp->index_heads && attends && !lists->compress_ratios)
            layer->indexed = layer->nextn || (lists->index_layers ? listed(lists->index_layers, lists->n_index_layers, i)
                                                                  : i >= hp->index_first);
        layer->ngram = (uint8_t)listed(lists->ngram_layers, lists->n_ngram_layers, i);
    }
    return MB_OK;
}
