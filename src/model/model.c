/* SPDX-License-Identifier: MIT */
/* The life of a model: making it, opening what a name means, the facts about it. Reading files is in hparams_gguf.c, the
 * catalog in catalog_models.c, the sums in traffic.c. */
#include "model/gguf.h"
#include "model/model.h"
#include "model/open.h"
#include "model/tape.h"

#include <stdlib.h>
#include <string.h>

struct mb_model *mb_model_new(void)
{
    struct mb_model *model = calloc(1, sizeof(*model));
    if (model)
        model->name = "model";
    return model;
}

void mb_model_free(struct mb_model *model)
{
    if (!model)
        return;
    mb_gguf_close(model->gguf);
    mb_arena_free(&model->arena);
    free(model);
}

void mb_model_warn(struct mb_model *model, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (unsigned i = 0; i < model->n_warnings; i++) {
        if (strcmp(model->warnings[i], text) == 0)
            return;
    }
    const char **slot = NULL;
    if (model->n_warnings < 64)
        slot = mb_arena_append(&model->arena, &model->warnings, &model->n_warnings, sizeof(*model->warnings));
    if (slot) {
        const char *copy = mb_arena_text(&model->arena, text);
        *slot = copy ? copy : "out of memory for a warning";
    }
}

uint64_t mb_tensor_params(const struct mb_tensor *tensor)
{
    if (tensor->packing == MB_PACK_NONE)
        return 0;
    return tensor->ne[0] * tensor->ne[1] * tensor->ne[2] * tensor->ne[3] * (tensor->packing ? tensor->packing : 1);
}

/* Group the tensors by layer with one counting sort; those of no layer come last. */
static int group(struct mb_model *model)
{
    uint32_t n_groups = model->n_layers_all + 1;
    uint32_t *next = mb_arena_array(&model->arena, n_groups + 1, sizeof(*next));
    model->by_layer = mb_arena_array(&model->arena, model->n_tensors + 1, sizeof(*model->by_layer));
    if (!next || !model->by_layer)
        return MB_ENOMEM;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        int32_t layer = model->tensors[i].layer;
        next[(layer >= 0 && (uint32_t)layer < model->n_layers_all ? (uint32_t)layer : model->n_layers_all) + 1]++;
    }
    for (uint32_t i = 0; i < n_groups; i++) {
        uint32_t n = next[i + 1];
        next[i + 1] += next[i];
        if (i < model->n_layers_all) {
            model->layers[i].first_tensor = next[i];
            model->layers[i].n_tensors = n;
        } else {
            model->first_global = next[i];
            model->n_global = n;
        }
    }
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        int32_t layer = model->tensors[i].layer;
        uint32_t at = layer >= 0 && (uint32_t)layer < model->n_layers_all ? (uint32_t)layer : model->n_layers_all;
        model->by_layer[next[at]++] = i;
    }
    return MB_OK;
}

int mb_model_finish(struct mb_model *model, struct mb_err *err)
{
    model->params = model->resident_bytes = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        model->params += mb_tensor_params(tensor);
        model->resident_bytes += tensor->bytes;
        if (model->resident_bytes > UINT64_C(1) << 62 || model->params > UINT64_C(1) << 62)
            return mb_fail(err, MB_EFORMAT, "%s: tensors of over 2^62 bytes; the file is damaged", model->name);
    }
    if (!model->path)
        model->file_bytes = model->resident_bytes;
    if (group(model) || model->arena.failed)
        return mb_fail_memory(err);
    return MB_OK;
}

void mb_model_get_info(const struct mb_model *model, struct mb_model_info *out)
{
    const struct mb_hparams *hp = &model->hp;
    struct mb_traffic traffic;
    memset(out, 0, sizeof(*out));
    out->name = model->name;
    out->arch = model->arch_name;
    out->quant = model->quant;
    out->path = model->path;
    out->hf = model->hf;
    out->license = model->license;
    out->released = model->released;
    out->described = model->arch != NULL;
    out->n_layers = hp->n_layers;
    out->n_nextn = hp->n_nextn;
    out->n_embd = hp->n_embd;
    out->n_vocab = hp->n_vocab;
    for (uint32_t i = 0; i < hp->n_layers && !out->n_head_kv; i++) {
        const struct mb_layer *layer = &model->layers[i];
        if (layer->mixer != MB_MIX_ATTENTION && layer->mixer != MB_MIX_MLA && !layer->parallel)
            continue;
        out->n_head = layer->n_head;
        out->n_head_kv = layer->n_head_kv;
    }
    out->n_expert = hp->n_expert;
    out->n_expert_used = hp->n_expert_used;
    out->context_max = hp->context_max;
    out->params = model->params;
    if (mb_model_traffic(model, 1, 0, NULL, &traffic, NULL) == MB_OK)
        out->active_params = traffic.active_params;
    out->file_bytes = model->file_bytes;
    out->resident_bytes = model->resident_bytes;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        if (model->tensors[i].rule == MB_READ_NEVER)
            out->unread_bytes += model->tensors[i].bytes;
    }
    out->size_uncertainty = model->size_uncertainty;
    out->n_tensors = model->n_tensors;
    out->warnings = model->warnings;
    out->n_warnings = model->n_warnings;
}

int mb_model_tensor(const struct mb_model *model, uint32_t i, struct mb_tensor_info *out)
{
    if (i >= model->n_tensors)
        return MB_ERANGE;
    const struct mb_tensor *tensor = &model->tensors[i];
    memset(out, 0, sizeof(*out));
    out->name = tensor->name;
    out->type = tensor->type_name ? tensor->type_name : mb_type_name(tensor->type);
    out->n_dims = tensor->n_dims;
    memcpy(out->ne, tensor->ne, sizeof(out->ne));
    out->bytes = tensor->bytes;
    out->read_bytes = mb_tensor_read_bytes(model, tensor, 1);
    out->layer = tensor->layer;
    out->role = (enum mb_role)tensor->role;
    return MB_OK;
}
