/* SPDX-License-Identifier: MIT */
/* Building a load: the tape of one token at depth 0 says which op reads which bytes; ops become units by what can be placed
 * apart, and the caches become pieces that can be evaluated at any depth (the formulas of model/kv.c). What a placement does
 * with units is left to others. */
#include "plan/load.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *mb_unit_kind_name(enum mb_unit_kind kind)
{
    static const char *const names[MB_N_UNIT_KINDS] = {
#define UNIT_NAME(name, key, text) key,
        MB_UNITS(UNIT_NAME)
#undef UNIT_NAME
    };
    return (unsigned)kind < MB_N_UNIT_KINDS ? names[kind] : "none";
}

enum mb_weight_class mb_weight_class_of(uint32_t type)
{
    switch (type) {
    case MB_TYPE_Q8_0:
    case MB_TYPE_Q8_1:
    case MB_TYPE_Q8_K:
    case MB_TYPE_I8: return MB_WEIGHTS_8;
    case MB_TYPE_Q4_0:
    case MB_TYPE_Q4_1:
    case MB_TYPE_Q5_0:
    case MB_TYPE_Q5_1:
    case MB_TYPE_IQ4_NL:
    case MB_TYPE_MXFP4:
    case MB_TYPE_NVFP4:
    case MB_TYPE_Q1_0:
    case MB_TYPE_Q2_0: return MB_WEIGHTS_4;
    case MB_TYPE_Q2_K:
    case MB_TYPE_Q3_K:
    case MB_TYPE_Q4_K:
    case MB_TYPE_Q5_K:
    case MB_TYPE_Q6_K:
    case MB_TYPE_IQ4_XS: return MB_WEIGHTS_K;
    case MB_TYPE_IQ1_S:
    case MB_TYPE_IQ1_M:
    case MB_TYPE_IQ2_XXS:
    case MB_TYPE_IQ2_XS:
    case MB_TYPE_IQ2_S:
    case MB_TYPE_IQ3_XXS:
    case MB_TYPE_IQ3_S:
    case MB_TYPE_TQ1_0:
    case MB_TYPE_TQ2_0: return MB_WEIGHTS_CODE;
    default: return MB_WEIGHTS_FLOAT;
    }
}

double mb_cells_at(const struct mb_cells *cells, double depth)
{
    if (cells->chunked)
        return fmod(depth, (double)cells->cap) + 1;
    double n = floor((depth + 1) / cells->ratio);
    return n < (double)cells->cap ? n : (double)cells->cap;
}

double mb_cells_mean(const struct mb_cells *cells, double depth, double n_tokens)
{
    double cap = (double)cells->cap, first = (depth + 1) / cells->ratio, last = (depth + n_tokens) / cells->ratio;
    if (cells->chunked) /* about half of a chunk, once the prompt is longer */
        return last < cap ? (first + last) / 2 : cap / 2;
    if (last <= cap)
        return (first + last) / 2;
    if (first >= cap)
        return cap;
    double growing = (cap - first) / (last - first);
    return growing * (first + cap) / 2 + (1 - growing) * cap;
}

double mb_shape_kv_bytes(const struct mb_shape *shape, double depth)
{
    double bytes = 0;
    for (unsigned i = 0; i < shape->n_cells; i++)
        bytes += shape->cells[i].row_bytes * mb_cells_at(&shape->cells[i], depth);
    return bytes;
}

double mb_shape_kv_flops(const struct mb_shape *shape, double depth)
{
    double flops = 0;
    for (unsigned i = 0; i < shape->n_cells; i++)
        flops += shape->cells[i].flops_per_cell * mb_cells_at(&shape->cells[i], depth);
    return flops;
}

static enum mb_unit_kind unit_of(const struct mb_op *op)
{
    switch (op->kind) {
    case MB_OP_FFN_UP:
    case MB_OP_FFN_DOWN: return MB_UNIT_FFN;
    case MB_OP_EXPERTS_UP:
    case MB_OP_EXPERTS_DOWN: return MB_UNIT_EXPERTS;
    default: return op->layer < 0 ? MB_UNIT_HEAD : MB_UNIT_CORE;
    }
}

/* Files of other makers pack several weights into one stored element. */
static enum mb_weight_class class_of(const struct mb_tensor *tensor)
{
    const struct mb_type_info *info = mb_type_info(tensor->type);
    if (tensor->packing > 1 && tensor->packing != MB_PACK_NONE && info)
        return info->bpw / tensor->packing < 7 ? MB_WEIGHTS_4 : MB_WEIGHTS_8;
    return mb_weight_class_of(tensor->type);
}

struct builder {
    struct mb_load *load;
    struct mb_kv_types types;
    struct mb_shape shapes[MB_N_UNIT_KINDS]; /* of the layer at work; those of the model, when layer is -1 */
    uint64_t resident[MB_N_UNIT_KINDS];
    unsigned present; /* bits */
};

static void start(struct builder *builder)
{
    memset(builder->shapes, 0, sizeof(builder->shapes));
    memset(builder->resident, 0, sizeof(builder->resident));
    builder->present = 0;
}

static void add_tensor(struct builder *builder, enum mb_unit_kind kind, const struct mb_tensor *tensor)
{
    struct mb_shape *shape = &builder->shapes[kind];
    double read = (double)mb_tensor_read_bytes(builder->load->model, tensor, 1);
    enum mb_weight_class class = class_of(tensor);
    shape->bytes[class] += read;
    shape->weight_bytes += read;
    if (tensor->bytes)
        shape->weights[class] += (double)mb_tensor_params(tensor) * (read / (double)tensor->bytes);
    if (tensor->ne[1] > 1 && read > 0)
        shape->n_matrices++;
}

/* An op that looks rows up: the token embedding, and per-layer tables; what else such an op reads goes to the head. */
static void add_rows(struct builder *builder, const struct mb_op *op)
{
    const struct mb_model *model = builder->load->model;
    enum mb_unit_kind kind = op->kind == MB_OP_EMBED ? MB_UNIT_EMBEDDING : MB_UNIT_LAYER_EMBEDDING;
    for (uint32_t i = 0; i < op->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[op->tensors[i]];
        if (tensor->rule == MB_READ_TIED) {
            builder->present |= 1u << MB_UNIT_EMBEDDING;
            builder->shapes[MB_UNIT_EMBEDDING].row_bytes += (double)op->weight_bytes;
        } else if (tensor->rule == MB_READ_ROWS) {
            builder->present |= 1u << kind;
            builder->shapes[kind].row_bytes += (double)mb_tensor_read_bytes(model, tensor, 1);
            builder->resident[kind] += tensor->bytes;
        } else {
            builder->present |= 1u << MB_UNIT_HEAD;
            builder->resident[MB_UNIT_HEAD] += tensor->bytes;
            add_tensor(builder, MB_UNIT_HEAD, tensor);
        }
    }
    builder->shapes[MB_UNIT_HEAD].flops += op->flops;
    builder->shapes[MB_UNIT_HEAD].prefill_flops += op->flops;
}

static void add_op(struct builder *builder, const struct mb_op *op)
{
    const struct mb_model *model = builder->load->model;
    if (op->layer < 0 && (op->kind == MB_OP_EMBED || op->kind == MB_OP_EMBED_LAYERS)) {
        add_rows(builder, op);
        return;
    }
    enum mb_unit_kind kind = unit_of(op);
    struct mb_shape *shape = &builder->shapes[kind];
    builder->present |= 1u << kind;
    builder->resident[kind] += op->resident_bytes;
    for (uint32_t i = 0; i < op->n_tensors; i++)
        add_tensor(builder, kind, &model->tensors[op->tensors[i]]);
    shape->flops += op->flops;
    if (op->kind != MB_OP_HEAD)
        shape->prefill_flops += op->flops;
    shape->kv_write_bytes += (double)op->kv_write_bytes;
    shape->state_bytes += (double)(op->state_read_bytes + op->state_write_bytes);
    shape->n_ops++;
}

static void add_cells(struct mb_shape *shape, uint64_t row_bytes, uint64_t cap, uint32_t ratio, double flops)
{
    struct mb_cells *cells = &shape->cells[shape->n_cells++];
    cells->row_bytes = (double)row_bytes;
    cells->cap = cap;
    cells->ratio = ratio;
    cells->flops_per_cell = flops;
}

static void add_caches(struct builder *builder, uint32_t index)
{
    const struct mb_model *model = builder->load->model;
    const struct mb_layer *layer = &model->layers[index], *owner = &model->layers[layer->kv_layer];
    struct mb_shape *shape = &builder->shapes[MB_UNIT_CORE];
    const struct mb_kv_types *types = &builder->types;
    double width = layer->mixer == MB_MIX_MLA ? 2.0 * model->hp.kv_lora + model->hp.rope
                                              : (double)layer->head_k + layer->head_v;
    double flops = 2.0 * layer->n_head * width, index_flops = 2.0 * model->hp.index_heads * model->hp.index_dim;
    uint64_t sparse = layer->top_k ? layer->top_k : UINT64_MAX;
    shape->mixer = layer->mixer;
    if (owner->k_elements) {
        uint64_t cap = layer->window ? layer->window : UINT64_MAX;
        if (!layer->compress_ratio && sparse < cap)
            cap = sparse;
        add_cells(shape, mb_row_bytes(types->k, owner->k_elements) + mb_row_bytes(types->v, owner->v_elements), cap, 1, flops);
        shape->cells[0].chunked = layer->chunked && layer->window;
        shape->n_head = layer->n_head;
        shape->n_head_kv = layer->n_head_kv;
    }
    if (layer->compress_ratio) {
        add_cells(shape, mb_row_bytes(types->k, layer->compress_elements), sparse, layer->compress_ratio, flops);
        if (layer->compress_index_elements)
            add_cells(shape, mb_row_bytes(types->k, layer->compress_index_elements), UINT64_MAX, layer->compress_ratio,
                      index_flops);
    } else if (layer->index_elements) {
        add_cells(shape, mb_row_bytes(types->k, layer->index_elements), UINT64_MAX, 1, index_flops);
    }
    /* The tape has counted the arithmetic of the first token's own cell. */
    double first = mb_shape_kv_flops(shape, 0);
    shape->flops -= first;
    shape->prefill_flops -= first;
}

/* Put the shape among those of the load, or find its equal: all bytes of both were zeroed before they were set. */
static uint32_t keep_shape(struct mb_load *load, const struct mb_shape *shape)
{
    for (uint32_t i = load->n_shapes; i > 0; i--) {
        if (memcmp(&load->shapes[i - 1], shape, sizeof(*shape)) == 0)
            return i - 1;
    }
    memcpy(&load->shapes[load->n_shapes], shape, sizeof(*shape));
    return load->n_shapes++;
}

static void finish_unit(struct builder *builder, enum mb_unit_kind kind, int32_t layer, uint64_t cache_bytes)
{
    struct mb_load *load = builder->load;
    struct mb_shape *shape = &builder->shapes[kind];
    if (!(builder->present >> kind & 1))
        return;
    shape->kind = kind;
    shape->n_embd = load->n_embd;
    if (kind == MB_UNIT_EXPERTS) {
        shape->n_expert = load->n_expert;
        shape->n_expert_used = load->n_expert_used;
        load->n_moe_layers++;
    }
    load->units[load->n_units++] = (struct mb_unit){.kind = kind,
                                                    .layer = layer,
                                                    .shape = keep_shape(load, shape),
                                                    .resident_bytes = builder->resident[kind],
                                                    .cache_bytes = cache_bytes};
    load->resident_bytes += builder->resident[kind];
    load->cache_bytes += cache_bytes;
    load->weight_bytes += shape->weight_bytes;
}

static int add_layer(struct builder *builder, const struct mb_tape *tape, uint32_t *op, uint32_t layer, struct mb_err *err)
{
    struct mb_load *load = builder->load;
    struct mb_kv_part_size parts[MB_KV_PARTS];
    uint64_t cache = 0;
    start(builder);
    for (; *op < tape->n_ops && tape->ops[*op].layer == (int32_t)layer; ++*op)
        add_op(builder, &tape->ops[*op]);
    memset(parts, 0, sizeof(parts));
    int code = mb_kv_layer_parts(load->model, layer, load->n_ctx, &load->kv, parts, err);
    if (code)
        return code;
    for (unsigned i = 0; i < MB_KV_PARTS; i++)
        cache += parts[i].bytes;
    if (builder->present >> MB_UNIT_CORE & 1)
        add_caches(builder, layer);
    finish_unit(builder, MB_UNIT_CORE, (int32_t)layer, cache);
    finish_unit(builder, MB_UNIT_FFN, (int32_t)layer, 0);
    finish_unit(builder, MB_UNIT_EXPERTS, (int32_t)layer, 0);
    return MB_OK;
}

void mb_load_scale(struct mb_load *load, double factor)
{
    for (uint32_t i = 0; i < load->n_shapes; i++) {
        struct mb_shape *shape = &load->shapes[i];
        shape->weight_bytes *= factor;
        for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++)
            shape->bytes[class] *= factor;
    }
    for (uint32_t i = 0; i < load->n_units; i++)
        load->units[i].resident_bytes = (uint64_t)((double)load->units[i].resident_bytes * factor);
    load->resident_bytes = (uint64_t)((double)load->resident_bytes * factor);
    load->weight_bytes *= factor;
    load->scale *= factor;
}

void mb_load_free(struct mb_load *load)
{
    if (!load)
        return;
    mb_arena_free(&load->arena);
    free(load);
}

static int fill(struct mb_load *load, const struct mb_tape *tape, struct mb_err *err)
{
    const struct mb_model *model = load->model;
    struct builder layer = {.load = load}, global = {.load = load};
    size_t max = 3 * (size_t)model->n_layers_all + MB_N_UNIT_KINDS;
    int code = mb_kv_types(&load->kv, &layer.types, err);
    if (code)
        return code;
    load->units = mb_arena_array(&load->arena, max, sizeof(*load->units));
    load->shapes = mb_arena_array(&load->arena, max, sizeof(*load->shapes));
    if (!load->units || !load->shapes)
        return mb_fail_memory(err);
    for (uint32_t i = 0; i < tape->n_ops; i++) {
        if (tape->ops[i].layer < 0)
            add_op(&global, &tape->ops[i]);
    }
    finish_unit(&global, MB_UNIT_EMBEDDING, -1, 0);
    finish_unit(&global, MB_UNIT_LAYER_EMBEDDING, -1, 0);
    uint32_t op = 0;
    for (uint32_t i = 0; i < model->hp.n_layers && !code; i++) {
        while (op < tape->n_ops && tape->ops[op].layer < (int32_t)i)
            op++;
        code = add_layer(&layer, tape, &op, i, err);
    }
    if (code)
        return code;
    finish_unit(&global, MB_UNIT_HEAD, -1, 0);
    load->moe = load->n_moe_layers > 0;
    if (model->resident_bytes > load->resident_bytes) {
        global.present |= 1u << MB_UNIT_UNREAD;
        global.resident[MB_UNIT_UNREAD] = model->resident_bytes - load->resident_bytes;
        finish_unit(&global, MB_UNIT_UNREAD, -1, 0);
    }
    return MB_OK;
}

int mb_load_build(const struct mb_model *model, uint64_t n_ctx, const struct mb_kv_opts *opts, struct mb_load **out,
                  struct mb_err *err)
{
    struct mb_tape *tape;
    int code = mb_tape_build(model, 1, 0, opts, &tape, err);
    if (code)
        return code;
    struct mb_load *load = calloc(1, sizeof(*load));
    if (!load) {
        mb_tape_free(tape);
        return mb_fail_memory(err);
    }
    load->model = model;
    if (opts)
        load->kv = *opts;
    load->n_ctx = n_ctx;
    load->scale = 1;
    load->n_layers = model->hp.n_layers;
    load->n_embd = model->hp.n_embd;
    load->n_vocab = model->hp.n_vocab;
    load->n_expert = model->hp.n_expert;
    load->n_expert_used = model->hp.n_expert_used;
    code = fill(load, tape, err);
    mb_tape_free(tape);
    if (code) {
        mb_load_free(load);
        return code;
    }
    *out = load;
    return MB_OK;
}
