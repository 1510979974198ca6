/* SPDX-License-Identifier: MIT */
/* Building the tape. Tensors carry the op that reads them (roles.c), so a layer's ops are its tensors put into buckets, plus
 * what a layer does without weights: storing and reading the cache, updating the state. Everything is linear in the number
 * of tensors, because a planner builds many tapes. */
#include "model/tape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *mb_op_kind_name(enum mb_op_kind kind)
{
    static const char *const names[MB_OP_KIND_END] = {
#define OP_NAME(name, label) label,
        MB_OP_KINDS(OP_NAME)
#undef OP_NAME
    };
    return (unsigned)kind < MB_OP_KIND_END ? names[kind] : "none";
}

double mb_experts_expected(uint32_t n, uint32_t used, uint32_t n_tokens)
{
    if (!n || used >= n)
        return n;
    if (n_tokens == 1)
        return used;
    return n * (1 - pow(1 - (double)used / n, n_tokens));
}

static uint64_t row_bytes(const struct mb_tensor *tensor, uint64_t rows_wanted)
{
    uint64_t rows = tensor->ne[1] * tensor->ne[2] * tensor->ne[3];
    if (!rows)
        return 0;
    if (rows_wanted > rows)
        rows_wanted = rows;
    return tensor->bytes / rows * rows_wanted;
}

uint64_t mb_tensor_read_bytes(const struct mb_model *model, const struct mb_tensor *tensor, uint32_t n_tokens)
{
    const struct mb_hparams *hp = &model->hp;
    switch (tensor->rule) {
    case MB_READ_NEVER: return 0;
    case MB_READ_ROWS: return row_bytes(tensor, (uint64_t)tensor->rows_per_token * n_tokens);
    case MB_READ_EXPERTS:
        if (!hp->n_expert)
            return tensor->bytes;
        if (n_tokens == 1) /* exact: all experts of a tensor have the same size */
            return tensor->bytes / hp->n_expert * hp->n_expert_used +
                   tensor->bytes % hp->n_expert * hp->n_expert_used / hp->n_expert;
        return (uint64_t)((double)tensor->bytes *
                          (mb_experts_expected(hp->n_expert, hp->n_expert_used, n_tokens) / hp->n_expert));
    default: return tensor->bytes; /* the row of a tied table is the embedding's */
    }
}

/* Sum over n tokens, the first at depth, of min(cells seen, limit). */
static double cells_summed(uint32_t n_tokens, uint64_t depth, uint64_t limit)
{
    double n = n_tokens, first = (double)depth + 1, top = (double)limit;
    if (first >= top)
        return n * top;
    double growing = top - first < n ? top - first : n; /* tokens that still see all before them */
    return growing * first + growing * (growing - 1) / 2 + (n - growing) * top;
}

struct builder {
    const struct mb_model *model;
    struct mb_tape *tape;
    struct mb_kv_types types;
    uint32_t *refs; /* tensors of ops, filled front to back */
    double experts;
};

static struct mb_op *add(struct builder *builder, enum mb_op_kind kind, int32_t layer, enum mb_role role)
{
    struct mb_op *op = &builder->tape->ops[builder->tape->n_ops++];
    op->kind = kind;
    op->layer = layer;
    op->role = role;
    op->tensors = builder->refs;
    return op;
}

static double tensor_flops(const struct builder *builder, const struct mb_tensor *tensor)
{
    const struct mb_hparams *hp = &builder->model->hp;
    double per_token = 2.0 * (double)mb_tensor_params(tensor);
    if (tensor->rule == MB_READ_ROWS || tensor->rule == MB_READ_NEVER)
        return 0;
    if (tensor->op == MB_OP_HEAD)
        return per_token; /* logits of the last token only */
    if (tensor->rule == MB_READ_EXPERTS && hp->n_expert)
        per_token = per_token * hp->n_expert_used / hp->n_expert;
    return per_token * builder->tape->n_tokens;
}

static uint64_t active_elements(const struct mb_model *model, const struct mb_tensor *tensor)
{
    uint64_t n = mb_tensor_params(tensor), rows = tensor->ne[1] * tensor->ne[2] * tensor->ne[3];
    switch (tensor->rule) {
    case MB_READ_NEVER: return 0;
    case MB_READ_ROWS: return tensor->rows_per_token < rows ? n / rows * tensor->rows_per_token : n;
    case MB_READ_EXPERTS:
        return model->hp.n_expert ? n / model->hp.n_expert * model->hp.n_expert_used : n;
    default: return n;
    }
}

static void add_tensor(struct builder *builder, struct mb_op *op, uint32_t index)
{
    const struct mb_model *model = builder->model;
    const struct mb_tensor *tensor = &model->tensors[index];
    struct mb_traffic *traffic = &builder->tape->traffic;
    uint64_t bytes = mb_tensor_read_bytes(model, tensor, builder->tape->n_tokens);
    if (!op->n_tensors || tensor->bytes > model->tensors[op->tensors[0]].bytes)
        op->role = tensor->role;
    *builder->refs++ = index;
    op->n_tensors++;
    op->weight_bytes += bytes;
    op->resident_bytes += tensor->bytes;
    op->flops += tensor_flops(builder, tensor);
    if (tensor->rule == MB_READ_EXPERTS)
        op->experts = builder->experts;
    traffic->weights_bytes += bytes;
    traffic->by_role[tensor->role] += bytes;
    traffic->active_params += active_elements(model, tensor);
}

/* What the op of this kind does beside its weights. */
static void add_memory(struct builder *builder, struct mb_op *op, const struct mb_kv_use *use)
{
    const struct mb_model *model = builder->model;
    const struct mb_layer *layer = &model->layers[op->layer];
    uint32_t n = builder->tape->n_tokens;
    uint64_t depth = builder->tape->depth;
    switch (op->kind) {
    case MB_OP_INDEX:
        op->kv_read_bytes = use->index_read_bytes;
        op->kv_write_bytes = use->index_write_bytes;
        op->cells = (uint32_t)use->index_cells;
        op->flops += 2.0 * model->hp.index_heads * model->hp.index_dim * (double)use->index_cells * n;
        break;
    case MB_OP_COMPRESS:
        op->kv_write_bytes = use->compress_write_bytes;
        op->state_read_bytes = use->compressor_read_bytes;
        op->state_write_bytes = use->compressor_write_bytes;
        break;
    case MB_OP_ROPE_STORE: op->kv_write_bytes = use->write_bytes; break;
    case MB_OP_ATTENTION: {
        uint64_t limit = layer->window ? layer->window : layer->top_k && !layer->compress_ratio ? layer->top_k : UINT64_MAX;
        double width = layer->mixer == MB_MIX_MLA ? 2.0 * model->hp.kv_lora + model->hp.rope
                                                  : (double)layer->head_k + layer->head_v;
        op->kv_read_bytes = use->read_bytes;
        op->kv_layer = layer->kv_layer;
        op->cells = (uint32_t)(use->cells + use->compressed_cells);
        op->flops += 2.0 * layer->n_head * width * (cells_summed(n, depth, limit) + (double)use->compressed_cells * n);
        break;
    }
    case MB_OP_RECURRENT_MIX:
        op->state_read_bytes = op->state_write_bytes = use->state_bytes;
        op->flops += 6.0 * (double)layer->state_elements * n; /* decay, add the outer product, read */
        break;
    default: return;
    }
    struct mb_traffic *traffic = &builder->tape->traffic;
    traffic->kv_read_bytes += op->kv_read_bytes;
    traffic->kv_write_bytes += op->kv_write_bytes;
    traffic->state_read_bytes += op->state_read_bytes;
    traffic->state_write_bytes += op->state_write_bytes;
}

/* Ops of one group of tensors in the order of the kinds, and those that `always` holds even without tensors. */
static void add_group(struct builder *builder, int32_t layer, const uint32_t *tensors, uint32_t n, uint64_t always,
                      unsigned first_kind, unsigned end_kind, const struct mb_kv_use *use)
{
    uint64_t present = always;
    for (uint32_t i = 0; i < n; i++)
        present |= UINT64_C(1) << builder->model->tensors[tensors[i]].op;
    for (unsigned kind = first_kind; kind < end_kind; kind++) {
        if (!(present >> kind & 1))
            continue;
        struct mb_op *op = add(builder, (enum mb_op_kind)kind, layer, MB_ROLE_ATTENTION);
        for (uint32_t i = 0; i < n; i++) {
            if (builder->model->tensors[tensors[i]].op == kind)
                add_tensor(builder, op, tensors[i]);
        }
        if (!op->n_tensors && kind == MB_OP_RECURRENT_MIX)
            op->role = MB_ROLE_RECURRENT;
        if (layer >= 0)
            add_memory(builder, op, use);
    }
}

#define BIT(kind) (UINT64_C(1) << (kind))

static void add_layer(struct builder *builder, uint32_t i)
{
    const struct mb_model *model = builder->model;
    const struct mb_layer *layer = &model->layers[i];
    struct mb_kv_use use;
    uint64_t always = 0;
    if (layer->nextn)
        return;
    mb_kv_use(model, i, builder->tape->n_tokens, builder->tape->depth, &builder->types, &use);
    if (layer->mixer == MB_MIX_ATTENTION || layer->mixer == MB_MIX_MLA || layer->parallel)
        always |= BIT(MB_OP_ATTENTION) | BIT(MB_OP_ROPE_STORE);
    if (layer->index_elements || layer->compress_index_elements)
        always |= BIT(MB_OP_INDEX);
    if (layer->compress_ratio)
        always |= BIT(MB_OP_COMPRESS);
    if (layer->mixer >= MB_MIX_GDN)
        always |= BIT(MB_OP_RECURRENT_MIX);
    add_group(builder, (int32_t)i, model->by_layer + layer->first_tensor, layer->n_tensors, always, MB_OP_MIX_ATTN,
              MB_OP_HEAD_MIX, &use);
}

int mb_tape_build(const struct mb_model *model, uint32_t n_tokens, uint64_t depth, const struct mb_kv_opts *opts,
                  struct mb_tape **out, struct mb_err *err)
{
    struct builder builder = {.model = model};
    int code = mb_kv_types(opts, &builder.types, err);
    if (code)
        return code;
    if (!n_tokens || n_tokens > MB_DEPTH_MAX || depth > MB_DEPTH_MAX - n_tokens)
        return mb_fail(err, MB_ERANGE, "%u tokens at a depth of %llu: both together must be 1..%u; ask for less", n_tokens,
                       (unsigned long long)depth, MB_DEPTH_MAX);
    struct mb_tape *tape = calloc(1, sizeof(*tape));
    if (!tape)
        return mb_fail_memory(err);
    tape->model = model;
    tape->n_tokens = n_tokens;
    tape->depth = depth;
    /* Each op has a tensor of its own, or is one of four that a layer has always; a tied table (a file may hold several, a
     * weight and its bias or scales) is in two ops. */
    tape->ops =
        mb_arena_array(&tape->arena, 2 * (size_t)model->n_tensors + 4 * (size_t)model->n_layers_all + 1, sizeof(*tape->ops));
    builder.refs = mb_arena_array(&tape->arena, 2 * (size_t)model->n_tensors + 1, sizeof(*builder.refs));
    if (!tape->ops || !builder.refs) {
        mb_tape_free(tape);
        return mb_fail_memory(err);
    }
    builder.tape = tape;
    builder.experts = mb_experts_expected(model->hp.n_expert, model->hp.n_expert_used, n_tokens);
    const uint32_t *globals = model->by_layer + model->first_global;
    for (uint32_t i = 0; i < model->n_global; i++) {
        const struct mb_tensor *table = &model->tensors[globals[i]];
        if (table->rule != MB_READ_TIED)
            continue;
        /* The rows that the tokens look up; the head reads the table again, in full. */
        struct mb_op *op = add(&builder, MB_OP_EMBED, -1, MB_ROLE_EMBEDDING);
        *builder.refs++ = globals[i];
        op->n_tensors = 1;
        op->resident_bytes = table->bytes;
        op->weight_bytes = row_bytes(table, n_tokens);
        tape->traffic.weights_bytes += op->weight_bytes;
        tape->traffic.by_role[MB_ROLE_EMBEDDING] += op->weight_bytes;
    }
    add_group(&builder, -1, globals, model->n_global, 0, MB_OP_EMBED, MB_OP_MIX_ATTN, NULL);
    for (uint32_t i = 0; i < model->n_layers_all; i++)
        add_layer(&builder, i);
    add_group(&builder, -1, globals, model->n_global, 0, MB_OP_HEAD_MIX, MB_OP_KIND_END, NULL);
    for (uint32_t i = 0; i < tape->n_ops; i++)
        tape->traffic.flops += tape->ops[i].flops;
    *out = tape;
    return MB_OK;
}

void mb_tape_free(struct mb_tape *tape)
{
    if (!tape)
        return;
    mb_arena_free(&tape->arena);
    free(tape);
}
