/* SPDX-License-Identifier: MIT */
/* Reading tensor names: which layer, which kind, and so which role, read rule and op. Owns the table of roles.h. A name that
 * is not in the table still gets the truthful default, "read in full", and the model gets a warning. */
#include "model/roles.h"

#include <string.h>

static const struct mb_kind_info infos[] = {
#define KIND_ROW(kind, base, role, op, quant, flags) {base, MB_ROLE_##role, MB_OP_##op, MB_Q_##quant, flags},
    MB_TENSOR_KINDS(KIND_ROW)
#undef KIND_ROW
};

const struct mb_kind_info *mb_kind_info(enum mb_tensor_kind kind)
{
    return &infos[kind];
}

const char *mb_role_name(enum mb_role role)
{
    static const char *const names[MB_N_ROLES] = {
#define ROLE_NAME(name, key) key,
        MB_ROLES(ROLE_NAME)
#undef ROLE_NAME
    };
    return (unsigned)role < MB_N_ROLES ? names[role] : "other";
}

static enum mb_tensor_kind find(const char *base, size_t n)
{
    unsigned low = 0, high = MB_T_END;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int order = strncmp(base, infos[middle].base, n);
        if (order == 0 && infos[middle].base[n])
            order = -1; /* base is the beginning of the longer name */
        if (order == 0)
            return (enum mb_tensor_kind)middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return MB_T_UNKNOWN;
}

/* Length of the name without ".weight" and the like. */
static size_t base_length(const char *name)
{
    static const char *const suffixes[] = {".weight", ".bias", ".scale", ".input_scale"};
    size_t n = strlen(name);
    for (unsigned i = 0; i < MB_COUNT(suffixes); i++) {
        size_t k = strlen(suffixes[i]);
        if (n > k && strcmp(name + n - k, suffixes[i]) == 0)
            return n - k;
    }
    return n;
}

int mb_tensor_parse(const char *name, int32_t *out_layer, enum mb_tensor_kind *out_kind)
{
    *out_layer = -1;
    *out_kind = MB_T_UNKNOWN;
    if (strncmp(name, "blk.", 4) == 0 && name[4] >= '0' && name[4] <= '9') {
        uint32_t layer = 0;
        for (name += 4; *name >= '0' && *name <= '9'; name++) {
            layer = layer * 10 + (uint32_t)(*name - '0');
            if (layer >= MB_LAYERS_MAX)
                return MB_EFORMAT;
        }
        if (*name == '.')
            name++;
        *out_layer = (int32_t)layer;
    }
    size_t n = base_length(name);
    *out_kind = find(name, n);
    if (*out_kind == MB_T_UNKNOWN) {
        /* "ffn_gate.3": one expert of a file of 2023 */
        size_t k = n;
        while (k && name[k - 1] >= '0' && name[k - 1] <= '9')
            k--;
        if (k > 1 && k < n && name[k - 1] == '.') {
            enum mb_tensor_kind kind = find(name, k - 1);
            *out_kind = kind == MB_T_FFN_GATE   ? MB_T_FFN_GATE_EXPS
                        : kind == MB_T_FFN_UP   ? MB_T_FFN_UP_EXPS
                        : kind == MB_T_FFN_DOWN ? MB_T_FFN_DOWN_EXPS
                                                : MB_T_UNKNOWN;
        }
    }
    return MB_OK;
}

static int starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* A name that no table holds: the parts of it that every architecture uses still tell the role. */
static void guess(struct mb_tensor *tensor)
{
    const char *name = tensor->name;
    tensor->op = tensor->layer < 0 ? MB_OP_GLOBAL_OTHER : MB_OP_LAYER_OTHER;
    tensor->role = MB_ROLE_OTHER;
    tensor->quant_class = MB_Q_OTHER;
    if (tensor->layer < 0) {
        if (starts(name, "v.") || starts(name, "a.") || starts(name, "mm.")) {
            tensor->role = MB_ROLE_MEDIA;
            tensor->rule = MB_READ_NEVER;
            tensor->op = MB_OP_NONE;
        }
        return;
    }
    if (strstr(name, "_exps"))
        tensor->role = MB_ROLE_ROUTED_EXPERTS;
    else if (strstr(name, "_shexp"))
        tensor->role = MB_ROLE_SHARED_EXPERTS;
    else if (strstr(name, "_norm"))
        tensor->role = MB_ROLE_NORMS_ROUTERS;
    else if (strstr(name, ".ssm_") || strstr(name, ".time_mix") || strstr(name, ".shortconv"))
        tensor->role = MB_ROLE_RECURRENT;
    else if (strstr(name, ".attn_") || strstr(name, ".indexer"))
        tensor->role = MB_ROLE_ATTENTION;
    else if (strstr(name, ".ffn_") || strstr(name, ".channel_mix"))
        tensor->role = MB_ROLE_DENSE_FFN;
}

void mb_tensor_set_role(const struct mb_model *model, struct mb_tensor *tensor)
{
    const struct mb_hparams *hp = &model->hp;
    const struct mb_layer *layer =
        tensor->layer >= 0 && (uint32_t)tensor->layer < model->n_layers_all ? &model->layers[tensor->layer] : NULL;
    unsigned flags = 0;
    tensor->rule = MB_READ_FULL;
    tensor->rows_per_token = 0;
    if (tensor->kind == MB_T_UNKNOWN) {
        guess(tensor);
        if (tensor->role == MB_ROLE_ROUTED_EXPERTS)
            flags = MB_KIND_EXPERTS;
    } else {
        const struct mb_kind_info *info = &infos[tensor->kind];
        tensor->role = info->role;
        tensor->op = info->op;
        tensor->quant_class = info->quant_class;
        flags = info->flags;
    }
    if (layer && layer->mixer >= MB_MIX_GDN) {
        if (tensor->role == MB_ROLE_ATTENTION)
            tensor->role = MB_ROLE_RECURRENT;
        if (tensor->op == MB_OP_QKV)
            tensor->op = MB_OP_RECURRENT_IN;
        else if (tensor->op == MB_OP_ATTN_OUT)
            tensor->op = MB_OP_RECURRENT_OUT;
    }
    if (flags & MB_KIND_EXPERTS)
        tensor->rule = MB_READ_EXPERTS;
    /* A layer's name outside of the layers, or the reverse: keep it on the tape all the same. */
    int in_layer = tensor->op >= MB_OP_MIX_ATTN && tensor->op < MB_OP_HEAD_MIX;
    if (tensor->op != MB_OP_NONE && in_layer != (tensor->layer >= 0))
        tensor->op = tensor->layer >= 0 ? MB_OP_LAYER_OTHER : MB_OP_GLOBAL_OTHER;
    switch (tensor->kind) {
    case MB_T_TOKEN_EMBD:
        tensor->rule = hp->tied ? MB_READ_TIED : MB_READ_ROWS;
        tensor->rows_per_token = 1;
        if (hp->tied) {
            tensor->role = MB_ROLE_OUTPUT;
            tensor->op = MB_OP_HEAD;
        }
        break;
    case MB_T_PER_LAYER_TOKEN_EMBD:
        tensor->rule = MB_READ_ROWS;
        tensor->rows_per_token = hp->ngram_heads ? hp->ngram_heads : 1;
        break;
    case MB_T_POSITION_EMBD:
    case MB_T_TOKEN_TYPES:
    case MB_T_FFN_GATE_TID2EID:
        tensor->rule = MB_READ_ROWS;
        tensor->rows_per_token = 1;
        break;
    case MB_T_ROPE_FACTORS_SHORT:
        tensor->rule = MB_READ_NEVER; /* one of the two is read, and both have the same size */
        tensor->op = MB_OP_NONE;
        break;
    case MB_T_ATTN_K:
    case MB_T_ATTN_V:
    case MB_T_ATTN_K_NORM:
        /* A layer that attends to another layer's cache makes no keys and values. */
        if (layer && layer->kv_layer != (uint32_t)tensor->layer) {
            tensor->rule = MB_READ_NEVER;
            tensor->op = MB_OP_NONE;
        }
        break;
    default:
        break;
    }
    if ((layer && layer->nextn) || (tensor->layer >= 0 && !layer)) {
        tensor->role = layer ? MB_ROLE_NEXTN : MB_ROLE_OTHER;
        tensor->rule = MB_READ_NEVER;
        tensor->op = MB_OP_NONE;
    }
}

void mb_model_set_roles(struct mb_model *model)
{
    unsigned n_unknown = 0;
    const char *example = NULL;
    int experts = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct mb_tensor *tensor = &model->tensors[i];
        mb_tensor_set_role(model, tensor);
        if (tensor->kind == MB_T_UNKNOWN && tensor->rule != MB_READ_NEVER) {
            n_unknown++;
            example = tensor->name;
        }
        if (tensor->rule == MB_READ_EXPERTS && !model->hp.n_expert)
            experts = 1;
    }
    if (n_unknown == 1)
        mb_model_warn(model, "%s: a tensor of unknown use; it is counted as read in full", example);
    else if (n_unknown)
        mb_model_warn(model, "%u tensors of unknown use (%s is one); they are counted as read in full", n_unknown, example);
    if (experts)
        mb_model_warn(model, "tensors of experts without expert_count; they are counted as read in full");
}
