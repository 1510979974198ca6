/* SPDX-License-Identifier: MIT */
/* A model from a Hugging Face directory: config.json and *.safetensors. The tensors are taken as
 * the files state them, names give roles; the experts of one projection, stored one by one, become
 * one tensor. The config (config_hf.c) is used only for what tensors do not tell. Everything in a
 * directory may be hostile until checked. */
#include "model/arch.h"
#include "model/config_hf.h"
#include "model/open.h"
#include "model/safetensors.h"
#include "model/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_MAX = 16 << 20 };

/* What a layer is made of, by its tensors. */
struct mb_hf_seen {
    uint8_t key, latent_key, fused, conv, kda, gdn, mamba, mamba1, experts, indexer, post_norm;
    uint64_t query_row, key_row, value_row, key_norm;
};

/* ---- tensors ---- */

static void set_type(struct mb_tensor *to, const char *dtype)
{
    static const struct {
        const char *dtype;
        enum mb_type type;
        int same; /* the name in files is that of the type; otherwise the type only has as many
                     bytes */
    } types[] = {{"F32", MB_TYPE_F32, 1}, {"F16", MB_TYPE_F16, 1}, {"BF16", MB_TYPE_BF16, 1},
                 {"F64", MB_TYPE_F64, 1}, {"I8", MB_TYPE_I8, 1},   {"I16", MB_TYPE_I16, 1},
                 {"I32", MB_TYPE_I32, 1}, {"I64", MB_TYPE_I64, 1}, {"U16", MB_TYPE_I16, 0},
                 {"U32", MB_TYPE_I32, 0}, {"U64", MB_TYPE_I64, 0}, {"C64", MB_TYPE_I64, 0}};
    to->type = MB_TYPE_I8;
    to->type_name = dtype;
    for (size_t i = 0; i < MB_COUNT(types); i++) {
        if (strcmp(types[i].dtype, dtype) == 0) {
            to->type = types[i].type;
            to->type_name = types[i].same ? NULL : dtype;
            return;
        }
    }
}

static void set_packing(struct mb_hf_reader *reader, struct mb_tensor *to,
                        const struct mb_hf_name *name, const char *dtype, unsigned *n_unclear)
{
    int byte = strcmp(dtype, "U8") == 0,
        word = strcmp(dtype, "I32") == 0 || strcmp(dtype, "U32") == 0;
    size_t n = strlen(to->name);
    if (name->part == MB_HF_SCALE) {
        to->packing = MB_PACK_NONE;
        return;
    }
    if (name->part == MB_HF_BIAS || (!byte && !word))
        return;
    if (byte && n > 7 && strcmp(to->name + n - 7, "_blocks") == 0) {
        to->packing = 2; /* MXFP4 */
        return;
    }
    uint32_t bits = mb_hf_packed_bits(reader), width = byte ? 8 : 32;
    if (bits && width % bits == 0)
        to->packing = (uint8_t)(width / bits);
    else
        ++*n_unclear;
}

static void set_shape(struct mb_tensor *to, const struct mb_safetensors_tensor *from)
{
    to->n_dims = (uint8_t)(from->n_dims > 4 ? 4 : from->n_dims);
    for (unsigned i = 0; i < 4; i++)
        to->ne[i] = 1;
    /* The row is the last in the file; dimensions beyond the fourth go into it. */
    for (unsigned i = 0; i < from->n_dims; i++)
        to->ne[i < 3 ? i : 3] *= from->shape[from->n_dims - 1 - i];
}

/* Types that safetensors.c knows have the bytes of their shape; no other packs over 8 elements into
 * a byte. */
static int is_plausible(const struct mb_safetensors_tensor *tensor)
{
    uint64_t elements = 1;
    for (unsigned i = 0; i < tensor->n_dims; i++)
        elements *= tensor->shape[i];
    return elements / 8 <= tensor->bytes;
}

/* A stored tensor, and the name that all experts of its projection share. */
struct stored {
    const char *key;
    unsigned at; /* in the files */
};

static int compare_stored(const void *a, const void *b)
{
    const struct stored *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

static int same_shape(const struct mb_safetensors_tensor *a, const struct mb_safetensors_tensor *b)
{
    return strcmp(a->dtype, b->dtype) == 0 && a->n_dims == b->n_dims && a->bytes == b->bytes &&
           memcmp(a->shape, b->shape, a->n_dims * sizeof(*a->shape)) == 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct stored *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

/* Tensors of the model from those of the files, in the order of the files; an expert stands where
 * the first one stood. */
static int copy_tensors(struct mb_hf_reader *reader, const struct mb_safetensors *files,
                        struct mb_arena *scratch)
{
    struct mb_model *model = reader->model;
    unsigned n = files->n_tensors, n_unclear = 0;
    if (!n || n > MB_TENSORS_MAX)
        return mb_fail(reader->err, MB_EFORMAT, "%s: %u tensors; a model has 1 to %u",
                       reader->label, n, MB_TENSORS_MAX);
    struct stored *order = mb_arena_array(scratch, n, sizeof(*order));
    struct mb_hf_name *names = mb_arena_array(scratch, n, sizeof(*names));
    uint32_t *copies =
        mb_arena_array(scratch, n, sizeof(*copies)); /* how many stand for the one at this place */
    model->tensors = mb_arena_array(&model->arena, n, sizeof(*model->tensors));
    reader->names = mb_arena_array(scratch, n, sizeof(*reader->names));
    if (!order || !names || !copies || !model->tensors || !reader->names)
        return mb_fail_memory(reader->err);
    for (unsigned i = 0; i < n; i++) {
        const char *name = files->tensors[i].name;
        if (!files->tensors[i].dtype)
            return mb_fail(
                reader->err, MB_ENOENT,
                "%s: only the index of the safetensors is here; download the files it names",
                reader->label);
        if (mb_hf_parse(name, &names[i]))
            return mb_fail(reader->err, MB_EFORMAT,
                           "%s: %.80s: a layer over %u; the file is damaged", reader->label, name,
                           MB_LAYERS_MAX);
        if (!is_plausible(&files->tensors[i]))
            return mb_fail(reader->err, MB_EFORMAT,
                           "%s: %.80s: its shape does not fit its bytes; the file is damaged",
                           reader->label, name);
        int expert = names[i].expert_end && files->tensors[i].n_dims <= 2;
        order[i].at = i;
        order[i].key = expert ? mb_arena_format(scratch, "%.*s*%s", (int)names[i].expert_begin,
                                                name, name + names[i].expert_end)
                              : name;
        if (!order[i].key)
            return mb_fail_memory(reader->err);
    }
    qsort(order, n, sizeof(*order), compare_stored);
    unsigned n_order = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned last = n_order ? order[n_order - 1].at : 0;
        if (n_order && strcmp(order[n_order - 1].key, order[i].key) == 0 &&
            same_shape(&files->tensors[last], &files->tensors[order[i].at])) {
            copies[last]++;
            continue;
        }
        copies[order[i].at] = 1;
        order[n_order++] = order[i];
    }
    qsort(order, n_order, sizeof(*order), compare_places);
    for (unsigned i = 0; i < n_order; i++) {
        const struct mb_safetensors_tensor *from = &files->tensors[order[i].at];
        const struct mb_hf_name *name = &names[order[i].at];
        struct mb_tensor *to = &model->tensors[i];
        const char *dtype = mb_arena_text(&model->arena, from->dtype);
        to->name = mb_arena_text(&model->arena, order[i].key);
        if (!to->name || !dtype)
            return mb_fail_memory(reader->err);
        reader->names[i] = *name;
        to->layer = name->layer;
        to->kind = (uint16_t)name->kind;
        to->part = (uint16_t)from->file;
        set_type(to, dtype);
        set_shape(to, from);
        if (copies[order[i].at] > 1) {
            to->ne[2] = copies[order[i].at];
            to->n_dims = 3;
        }
        to->bytes =
            from->bytes * copies[order[i].at]; /* of tensors that lie beside each other in files */
        set_packing(reader, to, name, dtype, &n_unclear);
    }
    model->n_tensors = n_order;
    if (n_unclear)
        mb_model_warn(
            model,
            "%u packed tensors, and no bits per weight in config.json: each stored element counts as one parameter; "
            "bytes are exact",
            n_unclear);
    return reader->code;
}

/* Layers after the last one, and the blocks named mtp, are NextN blocks. */
static int place_nextn(struct mb_hf_reader *reader)
{
    struct mb_model *model = reader->model;
    struct mb_hparams *hp = &model->hp;
    uint32_t end = hp->n_layers;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct mb_tensor *tensor = &model->tensors[i];
        if (reader->names[i].nextn)
            tensor->layer += (int32_t)hp->n_layers;
        if (tensor->layer >= 0 && (uint32_t)tensor->layer >= end)
            end = (uint32_t)tensor->layer + 1;
    }
    hp->n_nextn = end - hp->n_layers;
    uint32_t said = mb_hf_get(reader, "num_nextn_predict_layers", 0),
             mtp = mb_hf_get(reader, "mtp_num_hidden_layers", 0);
    uint32_t most = said > mtp ? said : mtp;
    if (hp->n_nextn >
        (most > 4 ? most : 4)) /* configs often do not say; files have at most a few */
        return mb_fail(
            reader->err, MB_EFORMAT,
            "%s: tensors of layer %u where config.json has %u layers; they do not belong together",
            reader->label, end - 1, hp->n_layers);
    return MB_OK;
}

/* ---- layers ---- */

static int is_stored_by_rows(const struct mb_tensor *tensor, const struct mb_hf_name *name)
{
    return name->part == MB_HF_WEIGHT && tensor->n_dims == 2;
}

static void look_at(struct mb_hf_reader *reader, uint32_t index)
{
    const struct mb_tensor *tensor = &reader->model->tensors[index];
    const struct mb_hf_name *name = &reader->names[index];
    struct mb_hf_seen *at = &reader->seen[tensor->layer];
    uint64_t rows = is_stored_by_rows(tensor, name) ? tensor->ne[1] : 0;
    switch (tensor->kind) {
    case MB_T_ATTN_Q:
        if (rows)
            at->query_row = rows;
        break;
    case MB_T_ATTN_K:
        at->key = 1;
        if (rows)
            at->key_row = rows;
        break;
    case MB_T_ATTN_V:
        if (rows)
            at->value_row = rows;
        break;
    case MB_T_ATTN_K_NORM:
        if (tensor->n_dims == 1)
            at->key_norm = tensor->ne[0];
        break;
    case MB_T_ATTN_KV_A_MQA:
        at->latent_key = 1;
        break;
    case MB_T_ATTN_QKV:
        at->fused = 1;
        break;
    case MB_T_SHORTCONV_CONV:
        at->conv = 1;
        break;
    case MB_T_SSM_CONV1D_Q:
        at->kda = 1;
        break;
    case MB_T_SSM_BA:
    case MB_T_SSM_ALPHA:
        at->gdn = 1;
        break;
    case MB_T_SSM_D:
        at->mamba = 1;
        break;
    case MB_T_SSM_X:
        at->mamba1 = 1;
        break;
    case MB_T_FFN_GATE_EXPS:
    case MB_T_FFN_GATE_UP_EXPS:
    case MB_T_FFN_UP_EXPS:
    case MB_T_FFN_DOWN_EXPS:
        at->experts = 1;
        break;
    case MB_T_INDEXER_ATTN_K:
        at->indexer = 1;
        break;
    case MB_T_POST_FFW_NORM:
        at->post_norm = 1;
        break;
    default:
        break;
    }
}

/* How many experts the tensors hold; 0: none, or not to be seen. */
static uint64_t experts_of(const struct mb_tensor *tensor, const struct mb_hf_name *name)
{
    if (tensor->kind != MB_T_FFN_DOWN_EXPS || name->part == MB_HF_BIAS || name->part == MB_HF_SCALE)
        return 0;
    return tensor->n_dims == 4 ? tensor->ne[3] : tensor->n_dims == 3 ? tensor->ne[2] : 0;
}

static void look(struct mb_hf_reader *reader)
{
    struct mb_model *model = reader->model;
    struct mb_hparams *hp = &model->hp;
    int experts = 0;
    hp->tied = 1;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct mb_tensor *tensor = &model->tensors[i];
        uint64_t n = experts_of(tensor, &reader->names[i]);
        if (tensor->layer >= 0)
            look_at(reader, i);
        if (tensor->layer < 0 && tensor->kind == MB_T_OUTPUT)
            hp->tied = 0;
        if (tensor->layer < 0 && tensor->kind == MB_T_TOKEN_EMBD && !hp->n_vocab &&
            tensor->ne[1] <= UINT32_MAX)
            hp->n_vocab = (uint32_t)tensor->ne[1];
        experts |= mb_kind_is_experts(tensor->kind);
        if (n && n <= MB_EXPERTS_MAX && !hp->n_expert)
            hp->n_expert = (uint32_t)n;
        if (n && n != hp->n_expert)
            mb_model_warn(
                model,
                "%s: %llu experts where config.json has %u; the share that is read is uncertain",
                tensor->name, (unsigned long long)n, hp->n_expert);
    }
    if (!experts) /* keys of a family whose dense members state them too */
        hp->n_expert = hp->n_expert_used = 0;
    if (hp->tied && json_is_false(mb_hf_value(reader, "tie_word_embeddings")))
        mb_model_warn(
            model,
            "no lm_head, though config.json says that the embedding is not the head; it is counted as the head");
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct mb_tensor *tensor = &model->tensors[i];
        /* Where an FFN has a norm after it, the norm after attention is not the one before the FFN.
         */
        if (tensor->kind == MB_T_FFN_NORM && reader->seen[tensor->layer].post_norm &&
            strstr(tensor->name, "post_attention"))
            tensor->kind = MB_T_POST_ATTENTION_NORM;
        /* granitemoehybrid without experts: the shared FFN is the FFN. */
        if (!experts && tensor->kind == MB_T_FFN_UP_SHEXP)
            tensor->kind = MB_T_FFN_UP;
        if (!experts && tensor->kind == MB_T_FFN_DOWN_SHEXP)
            tensor->kind = MB_T_FFN_DOWN;
    }
}

static enum mb_mixer mixer_of(const struct mb_hf_seen *seen, uint8_t *out_parallel)
{
    *out_parallel = 0;
    if (seen->conv)
        return MB_MIX_CONV;
    if (seen->kda)
        return MB_MIX_KDA;
    if (seen->gdn)
        return MB_MIX_GDN;
    if (seen->mamba) {
        *out_parallel = seen->key;
        return seen->mamba1 ? MB_MIX_OTHER_STATE : MB_MIX_MAMBA2;
    }
    if (seen->latent_key)
        return MB_MIX_MLA;
    return seen->key || seen->fused ? MB_MIX_ATTENTION : MB_MIX_NONE;
}

/* Heads of a layer by its tensors where the config leaves them to the defaults of its family. */
static void heads_by_tensors(const struct mb_hf_reader *reader, const struct mb_hf_seen *seen,
                             struct mb_layer *layer)
{
    const struct mb_arch *arch = reader->model->arch;
    uint64_t gated = arch && arch->flags & MB_ARCH_GATED_Q ? 2 : 1,
             head = layer->head_k ? layer->head_k : seen->key_norm;
    if (!head || head > 1u << 14 || seen->key_row % head || seen->key_row / head > 1u << 14 ||
        seen->query_row % (head * gated) || seen->query_row / head > 1u << 15)
        return;
    layer->head_k = layer->head_v = (uint32_t)head;
    layer->n_head_kv = (uint32_t)(seen->key_row / head);
    layer->n_head = (uint32_t)(seen->query_row / (head * gated));
}

static int read_layer(struct mb_hf_reader *reader, uint32_t i, const struct mb_hf_windows *windows)
{
    struct mb_model *model = reader->model;
    struct mb_hparams *hp = &model->hp;
    struct mb_layer *layer = &model->layers[i];
    const struct mb_hf_seen *seen = &reader->seen[i];
    layer->nextn = i >= hp->n_layers;
    layer->kv_layer = i;
    layer->moe = seen->experts;
    layer->indexed = seen->indexer && hp->index_dim;
    layer->window = mb_hf_slides(reader, windows, i) ? hp->window : 0;
    layer->chunked = layer->window && model->arch && model->arch->flags & MB_ARCH_CHUNKED;
    layer->mixer = mixer_of(seen, &layer->parallel);
    layer->n_head = mb_hf_get_at(reader, "num_attention_heads", i, hp->n_head);
    layer->n_head_kv = mb_hf_get_at(reader, "num_key_value_heads", i, hp->n_head_kv);
    layer->n_ff = mb_hf_get_at(reader, "intermediate_size", i, hp->n_ff);
    layer->head_k = mb_hf_get_at(reader, "head_dim", i, hp->head_k);
    layer->head_v = layer->head_k;
    if (layer->nextn || reader->code)
        return reader->code;
    if (layer->mixer == MB_MIX_NONE && !model->arch && hp->n_head_kv && hp->head_k) {
        layer->mixer = MB_MIX_ATTENTION;
        mb_model_warn(
            model,
            "layers without attention tensors of a known name: their cache is counted by the heads of config.json");
    }
    if (layer->mixer == MB_MIX_MLA) {
        if (!hp->kv_lora || !hp->rope)
            return mb_fail(reader->err, MB_EFORMAT,
                           "%s: layer %u has a compressed cache, but config.json has no %s",
                           reader->label, i, hp->kv_lora ? "qk_rope_head_dim" : "kv_lora_rank");
        return MB_OK;
    }
    if (layer->mixer != MB_MIX_ATTENTION && !layer->parallel)
        return MB_OK;
    if (!layer->n_head || !layer->n_head_kv || !layer->head_k)
        heads_by_tensors(reader, seen, layer);
    if (!layer->n_head || !layer->n_head_kv || !layer->head_k)
        return mb_fail(reader->err, MB_EFORMAT,
                       "%s: layer %u has attention, but config.json has no %s", reader->label, i,
                       layer->n_head ? "head_dim" : "num_attention_heads");
    /* The projections are the truth about the width of a cache row. */
    uint64_t said = (uint64_t)layer->n_head_kv * layer->head_k;
    if (seen->key_row && (seen->key_row != said || (seen->value_row && seen->value_row != said))) {
        if (seen->key_row > MB_ROW_MAX || seen->value_row > MB_ROW_MAX)
            return mb_fail(reader->err, MB_EFORMAT,
                           "%s: k_proj or v_proj of layer %u is too wide; the file is damaged",
                           reader->label, i);
        layer->k_elements = (uint32_t)seen->key_row;
        layer->v_elements = (uint32_t)(seen->value_row ? seen->value_row : seen->key_row);
        /* Several widths in one model are the rule in some families; only a config that says
         * otherwise is worth a word. */
        if (!hp->shared_kv_layers && !mb_hf_value(reader, "global_head_dim") && !windows->flags &&
            seen->key_row != said)
            mb_model_warn(
                model,
                "layer %u: k_proj makes %llu elements per token where config.json says %llu; counted as the "
                "tensors say",
                i, (unsigned long long)seen->key_row, (unsigned long long)said);
    }
    return MB_OK;
}

/* Things that the state of recurrent layers follows from, and that would be silent zeros. */
static int check_states(struct mb_hf_reader *reader)
{
    struct mb_model *model = reader->model;
    const struct mb_hparams *hp = &model->hp;
    unsigned n_state = 0;
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        const char *missing = NULL;
        switch (model->layers[i].mixer) {
        case MB_MIX_GDN:
            missing = !hp->linear_dim    ? "linear_key_head_dim"
                      : !hp->ssm_groups  ? "linear_num_key_heads"
                      : !hp->ssm_inner   ? "linear_num_value_heads"
                      : !hp->linear_conv ? "linear_conv_kernel_dim"
                                         : NULL;
            break;
        case MB_MIX_MAMBA2:
            missing = !hp->ssm_inner    ? "mamba_num_heads or mamba_head_dim"
                      : !hp->ssm_state  ? "ssm_state_size"
                      : !hp->ssm_groups ? "n_groups"
                      : !hp->ssm_conv   ? "conv_kernel"
                                        : NULL;
            break;
        case MB_MIX_KDA:
            missing = !hp->ssm_conv || !hp->linear_dim || !hp->linear_k_heads ? "linear_attn_config"
                                                                              : NULL;
            break;
        case MB_MIX_CONV:
            missing = !hp->conv_cache ? "conv_L_cache" : NULL;
            break;
        case MB_MIX_OTHER_STATE:
            n_state++;
            break;
        default:
            break;
        }
        if (missing)
            return mb_fail(reader->err, MB_EFORMAT,
                           "%s: layer %u keeps a state, but config.json has no %s", reader->label,
                           i, missing);
    }
    if (n_state)
        mb_model_warn(model,
                      "%u layers keep a state of a kind that is not described; it is not counted",
                      n_state);
    return MB_OK;
}

static void set_roles(struct mb_hf_reader *reader)
{
    struct mb_model *model = reader->model;
    unsigned n_unknown = 0;
    const char *example = NULL;
    int experts = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct mb_tensor *tensor = &model->tensors[i];
        mb_tensor_set_role(model, tensor);
        if (reader->names[i].media || reader->names[i].buffer) {
            tensor->rule = MB_READ_NEVER;
            tensor->op = MB_OP_NONE;
        }
        if (reader->names[i].media)
            tensor->role = MB_ROLE_MEDIA;
        if (tensor->kind == MB_T_UNKNOWN && tensor->rule != MB_READ_NEVER && !n_unknown++)
            example = tensor->name;
        experts |= tensor->rule == MB_READ_EXPERTS && !model->hp.n_expert;
    }
    if (n_unknown == 1)
        mb_model_warn(model, "%s: a tensor of unknown use; it is counted as read in full", example);
    else if (n_unknown)
        mb_model_warn(model,
                      "%u tensors of unknown use (%s is one); they are counted as read in full",
                      n_unknown, example);
    if (experts)
        mb_model_warn(
            model,
            "tensors of experts, but not how many are used; they are counted as read in full");
}

/* "BF16", "FP8": what most bytes are, or the method that the config names. */
static const char *quant_of(struct mb_hf_reader *reader, const struct mb_safetensors *files)
{
    const char *method = json_string_value(json_object_get(reader->quant, "quant_method"));
    const struct mb_safetensors_sum *most = NULL;
    if (method && *method && strlen(method) <= 32)
        return mb_arena_text(&reader->model->arena, method);
    for (unsigned i = 0; i < files->n_sums; i++) {
        if (!most || files->sums[i].bytes > most->bytes)
            most = &files->sums[i];
    }
    return most ? mb_arena_text(&reader->model->arena, most->dtype) : NULL;
}

static int build(struct mb_hf_reader *reader, const struct mb_safetensors *files,
                 struct mb_arena *scratch)
{
    struct mb_model *model = reader->model;
    struct mb_hf_windows windows;
    int code = mb_hf_read_config(reader);
    if (code || (code = copy_tensors(reader, files, scratch)))
        return code;
    if ((code = place_nextn(reader)))
        return code;
    model->n_layers_all = model->hp.n_layers + model->hp.n_nextn;
    model->layers = mb_arena_array(&model->arena, model->n_layers_all, sizeof(*model->layers));
    reader->seen = mb_arena_array(scratch, model->n_layers_all, sizeof(*reader->seen));
    if (!model->layers || !reader->seen)
        return mb_fail_memory(reader->err);
    look(reader);
    if ((code = mb_hf_find_windows(reader, &windows)) ||
        (code = mb_hparams_check(model, reader->err)))
        return code;
    for (uint32_t i = 0; i < model->n_layers_all; i++) {
        if ((code = read_layer(reader, i, &windows)))
            return code;
    }
    if ((code = check_states(reader)) || (code = mb_layers_set_caches(model, reader->err)))
        return code;
    set_roles(reader);
    model->quant = quant_of(reader, files);
    if (reader->code)
        return reader->code;
    return mb_model_finish(model, reader->err);
}

int mb_model_from_hf(const struct mb_safetensors *files, const char *config, size_t n_config,
                     const char *path, struct mb_model **out, struct mb_err *err)
{
    struct mb_arena scratch = {0};
    struct mb_model *model = mb_model_new();
    struct mb_hf_reader reader = {.model = model, .label = mb_source_label(path), .err = err};
    if (!model)
        return mb_fail_memory(err);
    int code = MB_OK;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t begin = n;
    while (begin && path[begin - 1] != '/')
        begin--;
    model->path = mb_arena_text_n(&model->arena, path, n);
    model->is_directory = 1;
    model->name = mb_arena_text_n(&model->arena, path + begin, n - begin);
    char *text = mb_arena_text_n(&scratch, config, n_config);
    json_t *root = NULL;
    if (!model->path || !model->name || !text) {
        code = mb_fail_memory(err);
    } else {
        char label[300];
        snprintf(label, sizeof(label), "%.270s/config.json", reader.label);
        root = mb_hf_parse_config(text, n_config, label, &code, err);
    }
    if (!code) {
        reader.root = root;
        code = build(&reader, files, &scratch);
    }
    if (!code)
        model->file_bytes = model->resident_bytes;
    json_decref(root);
    mb_arena_free(&scratch);
    if (code) {
        mb_model_free(model);
        return code;
    }
    *out = model;
    return MB_OK;
}

int mb_model_open_hf(const char *path, struct mb_model **out, struct mb_err *err)
{
    struct mb_safetensors *files = NULL;
    struct mb_arena arena = {0};
    struct stat st;
    size_t n = 0;
    int code = mb_safetensors_open(path, &files, err);
    if (code)
        return code;
    if (!files->config_path) {
        code = mb_fail(
            err, MB_ENOENT,
            "%s: no config.json beside the safetensors; download it from where they came from",
            mb_source_label(path));
    } else {
        char *text = mb_file_read(&arena, NULL, files->config_path, CONFIG_MAX, &n);
        code = text ? mb_model_from_hf(files, text, n, path, out, err)
                    : mb_fail(err, errno == EFBIG ? MB_EFORMAT : MB_EIO,
                              "%s: config.json cannot be read: %s", mb_source_label(path),
                              strerror(errno));
    }
    /* The files are larger than their tensors by their headers. */
    uint64_t file_bytes = 0;
    for (unsigned i = 0; !code && i < files->n_files; i++)
        file_bytes += stat(files->files[i], &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
    if (!code && file_bytes >= (*out)->resident_bytes)
        (*out)->file_bytes = file_bytes;
    mb_arena_free(&arena);
    mb_safetensors_close(files);
    return code;
}
