/* SPDX-License-Identifier: MIT */
/* A model from a GGUF file. The tensor table is taken as it is: names give roles, types and shapes give bytes. Metadata is
 * used only for what tensors do not tell: heads, windows, experts used, states. Never rebuilds what the file states.
 * Keys: llama.cpp b10573 (2026-08), src/llama-arch.cpp and load_hparams in src/llama-model.cpp. */
#include "model/arch.h"
#include "model/gguf.h"
#include "model/open.h"
#include "model/roles.h"

#include <string.h>

struct reader {
    const struct mb_gguf *gguf;
    struct mb_model *model;
    struct mb_err *err;
    int code; /* the first failure */
    unsigned n_contradictions; /* layers whose attn_k is not as wide as the metadata says */
    char contradiction[80];    /* the first of them */
};

static const char *full_key(const struct reader *reader, const char *key, char *buf, size_t n)
{
    snprintf(buf, n, "%s.%s", reader->model->arch_name, key);
    return buf;
}

/* A value of the architecture, or the default when the file has none. Layer -1: a scalar. Failures are remembered. */
static uint32_t get_at(struct reader *reader, const char *key, int64_t layer, uint32_t otherwise)
{
    char name[160];
    uint64_t value = 0;
    if (reader->code)
        return otherwise;
    full_key(reader, key, name, sizeof(name));
    int code = layer < 0 ? mb_gguf_get_u64(reader->gguf, name, &value)
                         : mb_gguf_get_u64_at(reader->gguf, name, (uint64_t)layer, &value);
    if (code == MB_ENODATA)
        return otherwise;
    if (code == MB_ERANGE)
        reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: %s has no value for layer %lld; the file is damaged",
                               reader->model->name, name, (long long)layer);
    else if (code)
        reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: %s is not a count; the file is damaged", reader->model->name, name);
    else if (value > UINT32_MAX)
        reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: %s is %llu; the file is damaged", reader->model->name, name,
                               (unsigned long long)value);
    return reader->code ? otherwise : (uint32_t)value;
}

static uint32_t get(struct reader *reader, const char *key, uint32_t otherwise)
{
    return get_at(reader, key, -1, otherwise);
}

/* Is the key there, and is it a list? */
static int has_list(const struct reader *reader, const char *key, uint64_t *out_n)
{
    char name[160];
    enum mb_gguf_value type;
    const struct mb_gguf_kv *kv = mb_gguf_find_kv(reader->gguf, full_key(reader, key, name, sizeof(name)));
    return kv && kv->type == MB_GGUF_ARRAY && mb_gguf_array_n(reader->gguf, name, out_n, &type) == MB_OK;
}

/* A value that may be one per layer: the largest stands for the model, because layers without the thing say 0. */
static uint32_t get_largest(struct reader *reader, const char *key, uint32_t otherwise)
{
    uint64_t n;
    if (!has_list(reader, key, &n))
        return get(reader, key, otherwise);
    uint32_t largest = n ? 0 : otherwise;
    for (uint64_t i = 0; i < n && i < MB_LAYERS_MAX; i++) {
        uint32_t value = get_at(reader, key, (int64_t)i, 0);
        largest = value > largest ? value : largest;
    }
    return largest;
}

static int copy_tensors(struct reader *reader)
{
    struct mb_model *model = reader->model;
    unsigned n = mb_gguf_n_tensors(reader->gguf);
    if (!n || n > MB_TENSORS_MAX)
        return mb_fail(reader->err, MB_EFORMAT, "%s: %u tensors; a model has 1 to %u", model->name, n, MB_TENSORS_MAX);
    model->tensors = mb_arena_array(&model->arena, n, sizeof(*model->tensors));
    if (!model->tensors)
        return mb_fail_memory(reader->err);
    model->n_tensors = n;
    for (unsigned i = 0; i < n; i++) {
        const struct mb_gguf_tensor *from = mb_gguf_tensor(reader->gguf, i);
        struct mb_tensor *to = &model->tensors[i];
        enum mb_tensor_kind kind;
        to->name = mb_arena_text(&model->arena, from->name);
        if (!to->name)
            return mb_fail_memory(reader->err);
        if (mb_tensor_parse(to->name, &to->layer, &kind))
            return mb_fail(reader->err, MB_EFORMAT, "%s: %s: a layer over %u; the file is damaged", model->name, to->name,
                           MB_LAYERS_MAX);
        to->kind = (uint16_t)kind;
        to->type = from->type;
        to->n_dims = (uint8_t)from->n_dims;
        memcpy(to->ne, from->ne, sizeof(to->ne));
        to->bytes = from->bytes;
        to->offset = from->offset;
        to->part = (uint16_t)from->part;
    }
    return MB_OK;
}

/* What a layer is made of, by its tensors. */
struct seen {
    uint8_t key, latent_key, fused, state, conv, kda, gdn, mamba, experts, indexer, ngram, old_state, ffn;
    uint64_t key_row, value_row;
};

static void look(struct mb_model *model, struct seen *seen, uint64_t *out_vocab)
{
    model->hp.tied = 1;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        if (tensor->kind == MB_T_OUTPUT && tensor->layer < 0)
            model->hp.tied = 0;
        if (tensor->kind == MB_T_TOKEN_EMBD)
            *out_vocab = tensor->ne[1];
        if (tensor->layer < 0 || (uint32_t)tensor->layer >= model->n_layers_all)
            continue;
        struct seen *at = &seen[tensor->layer];
        size_t n = strlen(tensor->name);
        int weight = n > 7 && strcmp(tensor->name + n - 7, ".weight") == 0;
        switch (tensor->kind) {
        case MB_T_ATTN_K:
            at->key = 1;
            if (weight)
                at->key_row = tensor->ne[1];
            break;
        case MB_T_ATTN_V:
            if (weight)
                at->value_row = tensor->ne[1];
            break;
        case MB_T_ATTN_KV: at->key = 1; break;
        case MB_T_ATTN_KV_A_MQA: at->latent_key = 1; break;
        case MB_T_ATTN_QKV: at->fused = 1; break;
        case MB_T_SHORTCONV_CONV: at->conv = 1; break;
        case MB_T_SSM_F_A:
        case MB_T_SSM_CONV1D_Q: at->kda = at->state = 1; break;
        case MB_T_SSM_BA:
        case MB_T_SSM_ALPHA: at->gdn = at->state = 1; break;
        case MB_T_SSM_IN:
        case MB_T_SSM_D: at->mamba = at->state = 1; break;
        case MB_T_SSM_A:
        case MB_T_SSM_OUT: at->state = 1; break;
        case MB_T_FFN_GATE_EXPS:
        case MB_T_FFN_GATE_UP_EXPS:
        case MB_T_FFN_UP_EXPS:
        case MB_T_FFN_DOWN_EXPS: at->experts = at->ffn = 1; break;
        case MB_T_FFN_UP:
        case MB_T_FFN_DOWN: at->ffn = 1; break;
        case MB_T_INDEXER_ATTN_K:
        case MB_T_INDEXER_K_PROJ: at->indexer = 1; break;
        case MB_T_PLE_KEY: at->ngram = 1; break;
        case MB_T_UNKNOWN:
            if (strstr(tensor->name, ".time_mix_"))
                at->state = at->old_state = 1;
            break;
        default: break;
        }
    }
}

static enum mb_mixer mixer_of(const struct mb_model *model, const struct seen *seen, uint8_t *out_parallel)
{
    const struct mb_arch *arch = model->arch;
    *out_parallel = 0;
    if (seen->conv)
        return MB_MIX_CONV;
    if (seen->state) {
        /* Linear attention has attn_q/k/v or attn_qkv of its own; only Mamba beside attn_k is a layer with both. */
        if (!arch && seen->key && seen->mamba && !seen->kda && !seen->gdn)
            *out_parallel = 1;
        if (arch && arch->recurrent)
            return arch->recurrent;
        if (seen->old_state)
            return MB_MIX_OTHER_STATE;
        return seen->kda ? MB_MIX_KDA : seen->gdn ? MB_MIX_GDN : MB_MIX_MAMBA2;
    }
    if (seen->latent_key)
        return model->hp.kv_lora && model->hp.v_mla ? MB_MIX_MLA : MB_MIX_ATTENTION;
    return seen->key || seen->fused ? MB_MIX_ATTENTION : MB_MIX_NONE;
}

static void read_scalars(struct reader *reader)
{
    struct mb_hparams *hp = &reader->model->hp;
    uint32_t blocks = get(reader, "block_count", 0);
    hp->n_nextn = get(reader, "nextn_predict_layers", 0);
    if (!reader->code && (blocks <= hp->n_nextn || blocks > MB_LAYERS_MAX - 64 || hp->n_nextn > 64))
        reader->code = mb_fail(reader->err, MB_EFORMAT,
                               "%s: %s.block_count is %u with %u of them NextN; the file is damaged or not a language model",
                               reader->model->name, reader->model->arch_name, blocks, hp->n_nextn);
    hp->n_layers = blocks - hp->n_nextn;
    hp->n_embd = get(reader, "embedding_length", 0);
    hp->context_max = get(reader, "context_length", 0);
    hp->n_head = get_largest(reader, "attention.head_count", 0);
    hp->n_head_kv = get_largest(reader, "attention.head_count_kv", hp->n_head);
    hp->n_ff = get_largest(reader, "feed_forward_length", 0);
    uint32_t head = hp->n_head ? hp->n_embd / hp->n_head : 0;
    hp->head_k = get(reader, "attention.key_length", head);
    hp->head_v = get(reader, "attention.value_length", head);
    hp->head_k_window = get(reader, "attention.key_length_swa", 0);
    hp->head_v_window = get(reader, "attention.value_length_swa", 0);
    hp->n_expert = get(reader, "expert_count", 0);
    hp->n_expert_used = get(reader, "expert_used_count", 0);
    hp->n_ff_exp = get(reader, "expert_feed_forward_length", 0);
    hp->n_ff_shexp = get(reader, "expert_shared_feed_forward_length", 0);
    hp->dense_first = get(reader, "leading_dense_block_count", 0);
    hp->q_lora = get(reader, "attention.q_lora_rank", 0);
    uint32_t mla_k = get(reader, "attention.key_length_mla", 0), mla_v = get(reader, "attention.value_length_mla", 0);
    if (mla_k && mla_v) {
        hp->kv_lora = get(reader, "attention.kv_lora_rank", 0);
        hp->v_mla = mla_v;
        hp->rope = get(reader, "rope.dimension_count", 0);
        /* key_length is the width of a cache row; it tells the rope part where both are given. */
        if (hp->head_k >= hp->kv_lora)
            hp->rope = hp->head_k - hp->kv_lora;
        hp->nope = mla_k > hp->rope ? mla_k - hp->rope : mla_k;
    }
    hp->window = get(reader, "attention.sliding_window", reader->model->arch ? reader->model->arch->window : 0);
    hp->shared_kv_layers = get(reader, "attention.shared_kv_layers", 0);
    if (reader->model->arch && reader->model->arch->flags & MB_ARCH_SHARED_FROM_20 && !hp->shared_kv_layers)
        hp->shared_kv_layers = hp->n_layers > 20 ? hp->n_layers - 20 : 0;
    hp->index_heads = get(reader, "attention.indexer.head_count", 0);
    hp->index_dim = get(reader, "attention.indexer.key_length", 0);
    hp->index_top_k = get(reader, "attention.indexer.top_k", 0);
    uint32_t block = get(reader, "attention.indexer.block_size", 1);
    if (block > 1 && hp->index_top_k <= MB_DEPTH_MAX / block)
        hp->index_top_k *= block; /* counted in blocks of tokens */
    hp->ssm_conv = get(reader, "ssm.conv_kernel", 0);
    hp->ssm_inner = get(reader, "ssm.inner_size", 0);
    hp->ssm_state = get(reader, "ssm.state_size", 0);
    hp->ssm_groups = get(reader, "ssm.group_count", 0);
    hp->linear_dim = get(reader, "kda.head_dim", 0);
    hp->linear_k_heads = hp->n_head;
    hp->conv_cache = get(reader, "shortconv.l_cache", 0);
    hp->per_layer_embd = get(reader, "embedding_length_per_layer_input", 0);
    hp->hc = get(reader, "hyper_connection.count", 0);
    hp->hash_layers = get(reader, "hash_layer_count", 0);
    hp->o_lora = get(reader, "attention.output_lora_rank", 0);
    hp->o_groups = get(reader, "attention.output_group_count", hp->o_lora ? 1 : 0);
    hp->n_vocab = get(reader, "vocab_size", 0);
    if (!hp->n_vocab) {
        uint64_t n_tokens = 0;
        enum mb_gguf_value type;
        if (mb_gguf_array_n(reader->gguf, "tokenizer.ggml.tokens", &n_tokens, &type) == MB_OK && n_tokens <= UINT32_MAX)
            hp->n_vocab = (uint32_t)n_tokens;
    }
}

/* 1: layer i slides. */
static int slides(struct reader *reader, uint32_t i, int listed, uint32_t period)
{
    const struct mb_model *model = reader->model;
    if (!model->hp.window || i >= model->hp.n_layers)
        return 0;
    if (listed)
        return get_at(reader, "attention.sliding_window_pattern", i, 0) != 0;
    return period > 1 && i % period < period - 1;
}

static void read_layer(struct reader *reader, uint32_t i, const struct seen *seen, int listed, uint32_t period)
{
    struct mb_model *model = reader->model;
    struct mb_hparams *hp = &model->hp;
    struct mb_layer *layer = &model->layers[i];
    layer->nextn = i >= hp->n_layers;
    layer->kv_layer = i;
    layer->moe = seen->experts;
    layer->indexed = seen->indexer && hp->index_dim;
    layer->ngram = seen->ngram;
    if (slides(reader, i, listed, period))
        layer->window = hp->window;
    layer->chunked = layer->window && model->arch && model->arch->flags & MB_ARCH_CHUNKED;
    layer->mixer = mixer_of(model, seen, &layer->parallel);
    uint64_t n;
    layer->n_head = has_list(reader, "attention.head_count", &n) ? get_at(reader, "attention.head_count", i, 0) : hp->n_head;
    layer->n_head_kv =
        has_list(reader, "attention.head_count_kv", &n) ? get_at(reader, "attention.head_count_kv", i, 0) : hp->n_head_kv;
    layer->n_ff = has_list(reader, "feed_forward_length", &n) ? get_at(reader, "feed_forward_length", i, 0) : hp->n_ff;
    layer->head_k = layer->window && hp->head_k_window ? hp->head_k_window : hp->head_k;
    layer->head_v = layer->window && hp->head_v_window ? hp->head_v_window : hp->head_v;
    if (has_list(reader, "attention.compress_ratios", &n) && i < hp->n_layers) {
        layer->compress_ratio = get_at(reader, "attention.compress_ratios", i, 0);
        layer->window = hp->window; /* beside the compressed cells, every layer keeps the last ones whole */
    }
    int attends = layer->mixer == MB_MIX_ATTENTION || layer->mixer == MB_MIX_MLA || layer->parallel;
    if (reader->code || layer->nextn || !attends)
        return;
    if (!layer->n_head || (!layer->n_head_kv && layer->mixer != MB_MIX_MLA)) {
        reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: layer %u has attention, but no %s; the file is damaged", model->name,
                               i, layer->n_head ? "KV heads" : "heads");
        return;
    }
    if (layer->mixer == MB_MIX_MLA)
        return;
    /* The projections are the truth about the width of a cache row. */
    uint64_t said = (uint64_t)layer->n_head_kv * layer->head_k;
    if (seen->key_row && seen->key_row != said && !hp->o_groups) {
        if (!reader->n_contradictions++)
            snprintf(reader->contradiction, sizeof(reader->contradiction), "%llu where the metadata says %llu",
                     (unsigned long long)seen->key_row, (unsigned long long)said);
        if (seen->key_row > MB_ROW_MAX || seen->value_row > MB_ROW_MAX) {
            reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: attn_k or attn_v of layer %u is too wide; the file is damaged",
                                   model->name, i);
            return;
        }
        layer->k_elements = (uint32_t)seen->key_row;
        layer->v_elements = (uint32_t)(seen->value_row ? seen->value_row : seen->key_row);
    }
}

/* Things that the state of recurrent layers follows from, and things that would make silent zeros. */
static void check(struct reader *reader, int listed, uint32_t period)
{
    struct mb_model *model = reader->model;
    struct mb_hparams *hp = &model->hp;
    unsigned n_state = 0;
    const char *missing = NULL;
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        const struct mb_layer *layer = &model->layers[i];
        switch (layer->mixer) {
        case MB_MIX_GDN:
        case MB_MIX_MAMBA2:
            missing = !hp->ssm_conv    ? "ssm.conv_kernel"
                      : !hp->ssm_inner ? "ssm.inner_size"
                      : !hp->ssm_state ? "ssm.state_size"
                                       : NULL;
            break;
        case MB_MIX_KDA: missing = !hp->ssm_conv ? "ssm.conv_kernel" : !hp->linear_dim ? "kda.head_dim" : NULL; break;
        case MB_MIX_CONV: missing = !hp->conv_cache ? "shortconv.l_cache" : NULL; break;
        case MB_MIX_OTHER_STATE: n_state++; break;
        default: break;
        }
        if (missing)
            break;
    }
    if (missing)
        reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: recurrent layers, but no %s.%s; the file is damaged", model->name,
                               model->arch_name, missing);
    if (reader->n_contradictions)
        mb_model_warn(model, "attn_k is not as wide as the heads in %u layers (first: %s); counted as the tensors say",
                      reader->n_contradictions, reader->contradiction);
    if (n_state)
        mb_model_warn(model, "%u layers keep a state of a kind that is not described; it is not counted", n_state);
    if (hp->window && !listed && period <= 1 && !model->arch)
        mb_model_warn(model, "a sliding window of %u, but not which layers use it; all are counted as full attention",
                      hp->window);
}

int mb_model_from_gguf(const struct mb_gguf *gguf, const char *label, struct mb_model **out, struct mb_err *err)
{
    struct mb_model *model = mb_model_new();
    struct reader reader = {.gguf = gguf, .model = model, .err = err};
    const char *text = NULL;
    if (!model)
        return mb_fail_memory(err);
    model->path = mb_arena_text(&model->arena, label);
    model->name = mb_arena_text(&model->arena, mb_source_label(label));
    if (!model->name || !model->path) {
        reader.code = mb_fail_memory(err);
        goto fail;
    }
    if (mb_gguf_kind(gguf) != MB_GGUF_MODEL) {
        reader.code = mb_fail(err, MB_EFORMAT, "%s: a GGUF file of another kind (%s); give the model's own file", model->name,
                              mb_gguf_kind_name(mb_gguf_kind(gguf)));
        goto fail;
    }
    if (mb_gguf_get_text(gguf, "general.architecture", &text) != MB_OK || !*text || strlen(text) > 64) {
        reader.code = mb_fail(err, MB_EFORMAT, "%s: no general.architecture; the file is damaged", model->name);
        goto fail;
    }
    model->arch_name = mb_arena_text(&model->arena, text);
    if (!model->arch_name) {
        reader.code = mb_fail_memory(err);
        goto fail;
    }
    model->arch = mb_arch_find(model->arch_name);
    if (!model->arch)
        mb_model_warn(model,
                      "%s: an architecture that is not described; weights are counted by the names of the tensors, "
                      "the cache as plain attention",
                      model->arch_name);
    read_scalars(&reader);
    if (reader.code || (reader.code = copy_tensors(&reader)))
        goto fail;
    model->n_layers_all = model->hp.n_layers + model->hp.n_nextn;
    model->layers = mb_arena_array(&model->arena, model->n_layers_all, sizeof(*model->layers));
    struct seen *seen = mb_arena_array(&model->arena, model->n_layers_all, sizeof(*seen));
    if (!model->layers || !seen) {
        reader.code = mb_fail_memory(err);
        goto fail;
    }
    uint64_t vocab = 0, n_pattern = 0;
    look(model, seen, &vocab);
    if (!model->hp.n_vocab && vocab <= UINT32_MAX)
        model->hp.n_vocab = (uint32_t)vocab;
    reader.code = mb_hparams_check(model, err);
    if (reader.code)
        goto fail;
    int listed = has_list(&reader, "attention.sliding_window_pattern", &n_pattern);
    uint32_t period = listed ? 0 : get(&reader, "attention.sliding_window_pattern", model->arch ? model->arch->swa_period : 0);
    for (uint32_t i = 0; i < model->n_layers_all && !reader.code; i++)
        read_layer(&reader, i, &seen[i], listed, period);
    if (!reader.code)
        check(&reader, listed, period);
    if (reader.code || (reader.code = mb_layers_set_caches(model, err)))
        goto fail;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        if (model->tensors[i].kind == MB_T_PER_LAYER_TOKEN_EMBD && strcmp(model->arch_name, "qwen4exp") == 0 &&
            model->tensors[i].ne[0])
            model->hp.ngram_heads = (uint32_t)(model->hp.n_embd / model->tensors[i].ne[0]);
    }
    mb_model_set_roles(model);
    static const char *const file_types[] = {"F32",    "F16",    "Q4_0",    "Q4_1",   NULL,      NULL,    NULL,    "Q8_0",
                                             "Q5_0",   "Q5_1",   "Q2_K",    "Q3_K_S", "Q3_K_M",  "Q3_K_L", "Q4_K_S", "Q4_K_M",
                                             "Q5_K_S", "Q5_K_M", "Q6_K",    "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS",
                                             "IQ1_S",  "IQ4_NL", "IQ3_S",   "IQ3_M",  "IQ2_S",   "IQ2_M",  "IQ4_XS", "IQ1_M",
                                             "BF16",   NULL,     NULL,      NULL,     "TQ1_0",   "TQ2_0",  "MXFP4_MOE"};
    uint64_t file_type;
    if (mb_gguf_get_u64(gguf, "general.file_type", &file_type) == MB_OK && file_type < MB_COUNT(file_types))
        model->quant = file_types[file_type];
    if (mb_gguf_get_text(gguf, "general.name", &text) == MB_OK && *text)
        model->name = mb_arena_text(&model->arena, text);
    model->file_bytes = mb_gguf_file_bytes(gguf);
    reader.code = mb_model_finish(model, err);
    if (reader.code)
        goto fail;
    if (model->file_bytes == MB_SOURCE_UNKNOWN)
        model->file_bytes = model->resident_bytes;
    *out = model;
    return MB_OK;
fail:
    mb_model_free(model);
    return reader.code;
}

int mb_model_open_gguf(const char *path, struct mb_model **out, struct mb_err *err)
{
    struct mb_gguf *gguf;
    int code = mb_gguf_open(path, &gguf, err);
    if (code)
        return code;
    code = mb_model_from_gguf(gguf, path, out, err);
    if (code)
        mb_gguf_close(gguf);
    else
        (*out)->gguf = gguf;
    return code;
}
