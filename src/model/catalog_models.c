/* SPDX-License-Identifier: MIT */
/* Models by name: NAME@QUANT -> the catalog's shape -> layers -> tensors -> types. The entries are those of data/models,
 * embedded at build time; docs/models.md describes their keys. */
#include "model/catalog_models.h"
#include "model/arch.h"
#include "model/open.h"
#include "model/roles.h"

#include <stddef.h>
#include <string.h>

const char *const *mb_model_names(size_t *out_n)
{
    *out_n = mb_n_embedded_models;
    return mb_embedded_model_names;
}

const char *mb_model_catalog_text(size_t i)
{
    return i < mb_n_embedded_models ? mb_embedded_models[i] : NULL;
}

/* Keys of "shape" and of the objects in it: numbers and true/false. */
static const struct {
    const char *object, *key; /* object NULL: in shape itself */
    size_t offset;
} keys[] = {
#define KEY(key, field) {NULL, key, offsetof(struct mb_hparams, field)}
#define IN(object, key, field) {object, key, offsetof(struct mb_hparams, field)}
    KEY("n_layers", n_layers),
    KEY("n_embd", n_embd),
    KEY("n_vocab", n_vocab),
    KEY("n_head", n_head),
    KEY("n_head_kv", n_head_kv),
    KEY("head_dim", head_k),
    KEY("head_dim_v", head_v),
    KEY("n_ff", n_ff),
    KEY("context_max", context_max),
    KEY("tied", tied),
    KEY("window", window),
    KEY("n_head_window", n_head_window),
    KEY("n_head_kv_window", n_head_kv_window),
    KEY("head_dim_window", head_k_window),
    KEY("q_lora", q_lora),
    KEY("o_groups", o_groups),
    KEY("o_lora", o_lora),
    KEY("hash_layers", hash_layers),
    KEY("hc", hc),
    KEY("hc_low_rank", hc_low_rank),
    KEY("per_layer_embd", per_layer_embd),
    KEY("shared_kv_layers", shared_kv_layers),
    KEY("double_wide_ffn", double_wide_ffn),
    KEY("k_eq_v", k_eq_v),
    KEY("qkv_bias", qkv_bias),
    KEY("qk_norm", qk_norm),
    KEY("rope_freqs", rope_freqs),
    KEY("rope_factors", rope_factors),
    KEY("nextn", n_nextn),
    KEY("nextn_tables", nextn_tables),
    IN("moe", "experts", n_expert),
    IN("moe", "used", n_expert_used),
    IN("moe", "ff", n_ff_exp),
    IN("moe", "shared_ff", n_ff_shexp),
    IN("moe", "dense_first", dense_first),
    IN("moe", "every", moe_every),
    IN("moe", "latent", latent),
    IN("mla", "q_lora", q_lora),
    IN("mla", "kv_lora", kv_lora),
    IN("mla", "nope", nope),
    IN("mla", "rope", rope),
    IN("mla", "v", v_mla),
    IN("indexer", "heads", index_heads),
    IN("indexer", "head_dim", index_dim),
    IN("indexer", "top_k", index_top_k),
    IN("indexer", "first_layer", index_first),
    IN("indexer", "pool", index_pool),
    IN("linear", "k_heads", linear_k_heads),
    IN("linear", "v_heads", linear_v_heads),
    IN("linear", "head_dim", linear_dim),
    IN("linear", "conv", linear_conv),
    IN("mamba2", "inner", ssm_inner),
    IN("mamba2", "state", ssm_state),
    IN("mamba2", "heads", ssm_heads),
    IN("mamba2", "groups", ssm_groups),
    IN("mamba2", "conv", ssm_conv),
    IN("shortconv", "cache", conv_cache),
    IN("ple", "head_dim", ngram_dim),
    IN("ple", "rows", ngram_rows),
    IN("ple", "heads", ngram_heads),
    IN("ple", "conv", ngram_conv),
#undef IN
#undef KEY
};

/* Keys that are read elsewhere, or only tell people something. */
static int other_key(const char *object, const char *key)
{
    static const char *const others[] = {"layers", "compress_ratios", "nextn_trained", "moe",  "mla",
                                         "indexer", "linear",         "mamba2",        "shortconv", "ple"};
    if (object)
        return strcmp(key, "layers") == 0 || strcmp(key, "block") == 0 || strcmp(key, "kind") == 0;
    for (unsigned i = 0; i < MB_COUNT(others); i++) {
        if (strcmp(key, others[i]) == 0)
            return 1;
    }
    return 0;
}

static int read_object(struct mb_model *model, json_t *object, const char *name, struct mb_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        unsigned i = 0;
        while (i < MB_COUNT(keys) && (strcmp(keys[i].key, key) != 0 || (keys[i].object == NULL) != (name == NULL) ||
                                      (name && strcmp(keys[i].object, name) != 0)))
            i++;
        json_int_t number = json_is_true(value) ? 1 : json_integer_value(value);
        int is_number = json_is_integer(value) || json_is_boolean(value);
        if (i == MB_COUNT(keys)) {
            if (!other_key(name, key))
                return mb_fail(err, MB_EFORMAT, "%s: %s: a key that is not known; mend data/models", model->name, key);
            if (json_is_object(value)) {
                int code = read_object(model, value, key, err);
                if (code)
                    return code;
            }
            continue;
        }
        if (!is_number || number < 0 || number > UINT32_MAX)
            return mb_fail(err, MB_EFORMAT, "%s: %s must be a number from 0 to 2^32-1; mend data/models", model->name, key);
        uint32_t field = (uint32_t)number;
        memcpy((char *)&model->hp + keys[i].offset, &field, sizeof(field));
    }
    return MB_OK;
}

static const uint32_t *read_list(struct mb_model *model, json_t *list, uint32_t *out_n)
{
    size_t n = json_array_size(list);
    *out_n = 0;
    if (!n)
        return NULL;
    uint32_t *numbers = mb_arena_array(&model->arena, n, sizeof(*numbers));
    for (size_t i = 0; numbers && i < n; i++)
        numbers[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    *out_n = numbers ? (uint32_t)n : 0;
    return numbers;
}

static const char *copy_text(struct mb_model *model, json_t *entry, const char *key)
{
    return mb_arena_text(&model->arena, json_string_value(json_object_get(entry, key)));
}

/* Recurrent mixers share the fields that their state follows from. */
static void settle(struct mb_hparams *hp)
{
    if (!hp->linear_dim)
        return;
    hp->ssm_inner = hp->linear_v_heads * hp->linear_dim;
    hp->ssm_state = hp->linear_dim;
    hp->ssm_groups = hp->linear_k_heads;
    hp->ssm_conv = hp->linear_conv;
}

static int build(struct mb_model *model, json_t *entry, const struct mb_quant *quant,
                 const struct mb_catalog_variant *variant, struct mb_err *err)
{
    struct mb_layer_lists lists = {0};
    json_t *shape = json_object_get(entry, "shape");
    uint32_t n_ratios;
    model->arch_name = copy_text(model, entry, "arch");
    model->hf = copy_text(model, entry, "hf");
    model->license = copy_text(model, entry, "license");
    model->released = copy_text(model, entry, "released");
    model->quant = mb_quant_name(quant);
    model->arch = model->arch_name ? mb_arch_find(model->arch_name) : NULL;
    if (model->arena.failed)
        return mb_fail_memory(err);
    if (!model->arch || !model->arch->globals[0])
        return mb_fail(err, MB_EFORMAT, "%s: no description of %s; mend data/models", model->name, model->arch_name);
    int code = read_object(model, shape, NULL, err);
    if (code)
        return code;
    if (variant) {
        model->hp.old_ssm_in = (uint32_t)variant->old_ssm_in;
        model->hp.old_kv_b = (uint32_t)variant->old_kv_b;
        if (variant->untied)
            model->hp.tied = 0;
    }
    code = mb_hparams_check(model, err);
    if (code)
        return code;
    settle(&model->hp);
    lists.pattern = json_string_value(json_object_get(shape, "layers"));
    lists.compress_ratios = read_list(model, json_object_get(shape, "compress_ratios"), &n_ratios);
    if (lists.compress_ratios && n_ratios != model->hp.n_layers)
        return mb_fail(err, MB_EFORMAT, "%s: compress_ratios must have one number per layer; mend data/models", model->name);
    lists.index_layers =
        read_list(model, json_object_get(json_object_get(shape, "indexer"), "layers"), &lists.n_index_layers);
    lists.ngram_layers = read_list(model, json_object_get(json_object_get(shape, "ple"), "layers"), &lists.n_ngram_layers);
    if ((code = mb_hparams_layers(model, &lists, err)) || (code = mb_layers_set_caches(model, err)) ||
        (code = mb_arch_tensors(model, err)) ||
        (code = mb_quant_assign(model, quant, variant ? &variant->quant : NULL, err)) ||
        (code = mb_model_finish(model, err)))
        return code;
    static const char *const harmless[] = {"released", "license", "context_max", "nextn_trained", "arch"};
    const char *key;
    json_t *why;
    json_object_foreach(json_object_get(entry, "confidence"), key, why) {
        unsigned i = 0;
        while (i < MB_COUNT(harmless) && strcmp(key, harmless[i]) != 0)
            i++;
        if (i == MB_COUNT(harmless))
            mb_model_warn(model, "%s: %s", key, json_string_value(why));
    }
    return MB_OK;
}

/* The embedded entry of that name, -1: none (err filled). */
static int find(const char *name, struct mb_err *err)
{
    for (unsigned i = 0; i < mb_n_embedded_models; i++) {
        if (strcmp(name, mb_embedded_model_names[i]) == 0)
            return (int)i;
    }
    for (unsigned i = 0; i < mb_n_embedded_models; i++) {
        if (mb_name_compare(name, mb_embedded_model_names[i]) == 0)
            return (int)i;
    }
    char near[200];
    mb_name_nearest(name, mb_embedded_model_names, mb_n_embedded_models, 4, near, sizeof(near));
    if (*near)
        mb_fail(err, MB_ENAME, "%s: neither a file nor a model of the catalog; did you mean %s?", name, near);
    else
        mb_fail(err, MB_ENAME,
                "%s: neither a file nor a model of the catalog; membound inspect --catalog lists those, --list the files "
                "found here",
                name);
    return -1;
}

int mb_model_catalog_variant(const char *spec, const struct mb_catalog_variant *variant, struct mb_model **out,
                             struct mb_err *err)
{
    char name[160];
    const char *at = strrchr(spec, '@');
    size_t n = at ? (size_t)(at - spec) : strlen(spec);
    if (!n || n >= sizeof(name))
        return mb_fail(err, MB_ENAME, "%s: not NAME@QUANT; write it as in Qwen3-8B@Q4_K_M", spec);
    memcpy(name, spec, n);
    name[n] = 0;
    int index = find(name, err);
    if (index < 0)
        return MB_ENAME;
    const char *text = mb_embedded_models[index];
    struct mb_model *model = mb_model_new();
    json_t *entry = model ? mb_json_parse(text, strlen(text), mb_embedded_model_names[index], err) : NULL;
    if (!entry) {
        mb_model_free(model);
        return model ? MB_EFORMAT : mb_fail_memory(err);
    }
    const char *arch = json_string_value(json_object_get(entry, "arch"));
    const char *usual = arch && strcmp(arch, "gpt-oss") == 0 ? "MXFP4" : "Q4_K_M";
    model->name = mb_embedded_model_names[index];
    const struct mb_quant *quant = mb_quant_find(at ? at + 1 : usual, &model->size_uncertainty);
    int code;
    if (quant) {
        code = build(model, entry, quant, variant, err);
    } else {
        char near[160];
        size_t n_quants;
        const char *const *quants = mb_quant_names(&n_quants);
        mb_name_nearest(at + 1, quants, n_quants, 4, near, sizeof(near));
        code = mb_fail(err, MB_ENAME, "%s: no quantization of that name; %s %s", at + 1,
                       *near ? "did you mean" : "the usual one is", *near ? near : usual);
    }
    json_decref(entry);
    if (code) {
        mb_model_free(model);
        return code;
    }
    *out = model;
    return MB_OK;
}

int mb_model_catalog(const char *spec, struct mb_model **out, struct mb_err *err)
{
    return mb_model_catalog_variant(spec, NULL, out, err);
}
