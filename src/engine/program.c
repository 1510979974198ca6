/* SPDX-License-Identifier: MIT */
/* Compiling the tape: each op gets its tensors looked up, checked against each other and turned into matrices. One generic block
 * serves all families: what a layer does follows from the tensors that it has. Every tensor on the tape must be used by its
 * step, else the model is refused, because bytes that are charged and not read would be a lie. */
#include "engine/forward.h"
#include "model/roles.h"

#include <string.h>

struct compiler {
    struct mb_program *program;
    struct mb_weights *weights;
    const struct mb_model *model;
    const struct mb_op *op;
    uint64_t used; /* bits of op->tensors */
    struct mb_err *err;
    int code; /* the first failure */
    int has_norm;          /* the step before was a norm of the stream */
    const float *factors;  /* frequency factors of all layers */
};

static const char *suffix_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : "";
}

/* The tensor of that kind in the op, -1: none. part: "weight", "bias". */
static int64_t find(struct compiler *compiler, enum mb_tensor_kind kind, const char *part)
{
    const struct mb_op *op = compiler->op;
    for (uint32_t i = 0; i < op->n_tensors && i < 64; i++) {
        const struct mb_tensor *tensor = &compiler->model->tensors[op->tensors[i]];
        if (tensor->kind == kind && !(compiler->used >> i & 1) && strcmp(suffix_of(tensor->name), part) == 0) {
            compiler->used |= UINT64_C(1) << i;
            return op->tensors[i];
        }
    }
    return -1;
}

static int fail_shape(struct compiler *compiler, const struct mb_tensor *tensor, uint64_t cols, uint64_t rows, uint64_t deep)
{
    if (!compiler->code)
        compiler->code = mb_fail(compiler->err, MB_EFORMAT,
                                 "%s: %s is %llu x %llu x %llu where %llu x %llu x %llu fits; the file is damaged",
                                 compiler->model->name, tensor->name, (unsigned long long)tensor->ne[0],
                                 (unsigned long long)tensor->ne[1], (unsigned long long)tensor->ne[2], (unsigned long long)cols,
                                 (unsigned long long)rows, (unsigned long long)deep);
    return 0;
}

static int has_shape(struct compiler *compiler, const struct mb_tensor *tensor, uint64_t cols, uint64_t rows, uint64_t deep)
{
    if (tensor->ne[0] == cols && tensor->ne[1] == rows && tensor->ne[2] == deep && tensor->ne[3] == 1)
        return 1;
    return fail_shape(compiler, tensor, cols, rows, deep);
}

static void fail_missing(struct compiler *compiler, enum mb_tensor_kind kind)
{
    if (!compiler->code)
        compiler->code = mb_fail(compiler->err, MB_EFORMAT, "%s: %s without %s in layer %d; the file is incomplete",
                                 compiler->model->name, mb_op_kind_name(compiler->op->kind), mb_kind_info(kind)->base,
                                 compiler->op->layer);
}

/* A small tensor as floats; NULL: there is none. */
static const float *floats(struct compiler *compiler, enum mb_tensor_kind kind, const char *part, uint64_t cols, uint64_t rows)
{
    int64_t i = find(compiler, kind, part);
    if (i < 0 || !has_shape(compiler, &compiler->model->tensors[i], cols, rows, 1))
        return NULL;
    const float *data = mb_weights_f32(compiler->weights, (uint32_t)i);
    if (!data && !compiler->code)
        compiler->code = mb_fail_memory(compiler->err);
    return data;
}

/* Rows [first, first + rows) of a tensor. */
static struct mb_matrix part_of(struct compiler *compiler, uint32_t i, uint64_t first, uint64_t rows)
{
    const struct mb_tensor *tensor = &compiler->model->tensors[i];
    uint64_t row_bytes = tensor->bytes / (tensor->ne[1] * tensor->ne[2]);
    return (struct mb_matrix){.tensor = i,
                              .type = tensor->type,
                              .offset = first * row_bytes,
                              .n_rows = rows,
                              .n_cols = tensor->ne[0],
                              .row_bytes = row_bytes,
                              .expert_bytes = tensor->ne[1] * row_bytes};
}

/* The matrix of that kind, with its bias. rows 0: any number. deep: experts, or 1. It must be there if `needed`. */
static struct mb_matrix matrix(struct compiler *compiler, enum mb_tensor_kind kind, uint64_t cols, uint64_t rows, uint64_t deep,
                               int needed)
{
    struct mb_matrix none = {0};
    int64_t i = find(compiler, kind, "weight");
    if (i < 0) {
        if (needed)
            fail_missing(compiler, kind);
        return none;
    }
    const struct mb_tensor *tensor = &compiler->model->tensors[i];
    if (!tensor->bytes)
        fail_shape(compiler, tensor, cols, rows, deep);
    if (!tensor->bytes || !has_shape(compiler, tensor, cols, rows ? rows : tensor->ne[1], deep))
        return none;
    struct mb_matrix found = part_of(compiler, (uint32_t)i, 0, tensor->ne[1]);
    found.bias = floats(compiler, kind, "bias", tensor->ne[1], deep);
    return found;
}

static void widen(size_t *width, size_t to)
{
    *width = *width > to ? *width : to;
}

static void make_qkv(struct compiler *compiler, struct mb_step *step)
{
    struct mb_program *program = compiler->program;
    const struct mb_layer *layer = &compiler->model->layers[step->layer];
    uint64_t d = compiler->model->hp.n_embd, q = (uint64_t)layer->n_head * layer->head_k,
             k = (uint64_t)layer->n_head_kv * layer->head_k, v = (uint64_t)layer->n_head_kv * layer->head_v;
    int64_t fused = find(compiler, MB_T_ATTN_QKV, "weight");
    step->from_stream = !compiler->has_norm;
    if (fused >= 0) {
        if (!has_shape(compiler, &compiler->model->tensors[fused], d, q + k + v, 1))
            return;
        step->matrices[0] = part_of(compiler, (uint32_t)fused, 0, q);
        step->matrices[1] = part_of(compiler, (uint32_t)fused, q, k);
        step->matrices[2] = part_of(compiler, (uint32_t)fused, q + k, v);
        const float *bias = floats(compiler, MB_T_ATTN_QKV, "bias", q + k + v, 1);
        for (unsigned i = 0; bias && i < 3; i++)
            step->matrices[i].bias = bias + (i ? q : 0) + (i > 1 ? k : 0);
    } else {
        step->matrices[0] = matrix(compiler, MB_T_ATTN_Q, d, q, 1, 1);
        step->matrices[1] = matrix(compiler, MB_T_ATTN_K, d, k, 1, 1);
        step->matrices[2] = matrix(compiler, MB_T_ATTN_V, d, v, 1, 1);
    }
    widen(&program->q_width, q);
    widen(&program->k_width, k);
    widen(&program->v_width, v);
    widen(&program->attention_width, (size_t)layer->n_head * layer->head_v);
}

static void make_rope_store(struct compiler *compiler, struct mb_step *step)
{
    const struct mb_layer *layer = &compiler->model->layers[step->layer];
    uint32_t every = compiler->program->hp.no_rope_every;
    step->no_rope = every && (uint32_t)(step->layer + 1) % every == 0;
    for (uint32_t i = 0; i < compiler->op->n_tensors; i++) {
        const struct mb_tensor *tensor = &compiler->model->tensors[compiler->op->tensors[i]];
        if (tensor->kind == MB_T_ATTN_Q_NORM && tensor->ne[0] != layer->head_k)
            step->norm_whole = 1;
    }
    uint64_t q = step->norm_whole ? (uint64_t)layer->n_head * layer->head_k : layer->head_k;
    uint64_t k = step->norm_whole ? (uint64_t)layer->n_head_kv * layer->head_k : layer->head_k;
    step->norm = floats(compiler, MB_T_ATTN_Q_NORM, "weight", q, 1);
    step->norm_k = floats(compiler, MB_T_ATTN_K_NORM, "weight", k, 1);
    step->rope_factors = layer->window ? NULL : compiler->factors;
}

/* gate and up; up alone with twice the rows holds both. */
static void make_up(struct compiler *compiler, struct mb_step *step, enum mb_tensor_kind gate, enum mb_tensor_kind up,
                    uint64_t deep, size_t *width)
{
    uint64_t d = compiler->model->hp.n_embd;
    step->from_stream = !compiler->has_norm;
    step->matrices[0] = matrix(compiler, gate, d, 0, deep, 0);
    struct mb_matrix linear = matrix(compiler, up, d, step->matrices[0].n_rows, deep, 1);
    if (compiler->code)
        return;
    if (!step->matrices[0].n_rows) {
        if (linear.n_rows % 2 || linear.bias || deep != 1) {
            compiler->code = mb_fail(compiler->err, MB_ENOTSUP, "%s: an FFN without a gate is not run yet; `membound inspect` "
                                     "counts it", compiler->model->name);
            return;
        }
        linear.n_rows /= 2;
        step->matrices[0] = linear;
        linear.offset += linear.n_rows * linear.row_bytes;
    }
    step->matrices[1] = linear;
    if (deep != 1 && mb_act_of(linear.type) != mb_act_of(step->matrices[0].type))
        compiler->code = mb_fail(compiler->err, MB_ENOTSUP, "%s: experts whose gate is %s and up is %s are not run",
                                 compiler->model->name, mb_type_name(step->matrices[0].type), mb_type_name(linear.type));
    widen(width, linear.n_rows);
}

static void make_down(struct compiler *compiler, struct mb_step *step, const struct mb_step *up, enum mb_op_kind up_kind,
                      enum mb_tensor_kind kind, uint64_t deep)
{
    if (!up || up->kind != up_kind || up->layer != step->layer) {
        fail_missing(compiler, kind);
        return;
    }
    step->matrices[0] = matrix(compiler, kind, up->matrices[1].n_rows, compiler->model->hp.n_embd, deep, 1);
    step->closes = 1; /* until a later one of the layer takes that over */
}

static void make_head(struct compiler *compiler, struct mb_step *step)
{
    const struct mb_hparams *hp = &compiler->model->hp;
    step->matrices[0] = matrix(compiler, hp->tied ? MB_T_TOKEN_EMBD : MB_T_OUTPUT, hp->n_embd, hp->n_vocab, 1, 1);
}

static void make_norm(struct compiler *compiler, struct mb_step *step, enum mb_tensor_kind kind)
{
    step->norm = floats(compiler, kind, "weight", compiler->model->hp.n_embd, 1);
    if (!step->norm)
        fail_missing(compiler, kind);
}

/* Is the norm after attention one of its result, or the norm before the FFN by another name? */
static int norms_result(const struct compiler *compiler, int32_t layer)
{
    const struct mb_layer *at = &compiler->model->layers[layer];
    for (uint32_t i = 0; i < at->n_tensors; i++) {
        unsigned kind = compiler->model->tensors[compiler->model->by_layer[at->first_tensor + i]].kind;
        if (kind == MB_T_FFN_NORM || kind == MB_T_POST_FFW_NORM)
            return 1;
    }
    return 0;
}

/* The result of the step before is normed first and added then. */
static void take_over(struct mb_step *before)
{
    if (before)
        before->closes = 0;
}

static void compile_op(struct compiler *compiler, struct mb_step *step, struct mb_step *before)
{
    const struct mb_hparams *hp = &compiler->model->hp;
    switch (step->kind) {
    case MB_OP_EMBED: {
        int64_t table = find(compiler, MB_T_TOKEN_EMBD, "weight");
        if (table < 0)
            fail_missing(compiler, MB_T_TOKEN_EMBD);
        else if (has_shape(compiler, &compiler->model->tensors[table], hp->n_embd, hp->n_vocab, 1))
            step->table = (uint32_t)table;
        break;
    }
    case MB_OP_POSITION:
        compiler->factors = floats(compiler, MB_T_ROPE_FREQS, "weight", compiler->program->hp.rope.n_rot / 2, 1);
        compiler->program->factors_long =
            floats(compiler, MB_T_ROPE_FACTORS_LONG, "weight", compiler->program->hp.rope.n_rot / 2, 1);
        break;
    case MB_OP_NORM_ATTN: make_norm(compiler, step, MB_T_ATTN_NORM); break;
    case MB_OP_QKV: make_qkv(compiler, step); break;
    case MB_OP_ROPE_STORE: make_rope_store(compiler, step); break;
    case MB_OP_ATTENTION:
        step->sinks = floats(compiler, MB_T_ATTN_SINKS, "weight", compiler->model->layers[step->layer].n_head, 1);
        break;
    case MB_OP_ATTN_OUT: {
        const struct mb_layer *layer = &compiler->model->layers[step->layer];
        step->matrices[0] = matrix(compiler, MB_T_ATTN_OUTPUT, (uint64_t)layer->n_head * layer->head_v, hp->n_embd, 1, 1);
        step->closes = 1;
        break;
    }
    case MB_OP_NORM_POST_ATTN:
        make_norm(compiler, step, MB_T_POST_ATTENTION_NORM);
        if (norms_result(compiler, step->layer)) {
            take_over(before);
            step->closes = 1;
        }
        break;
    case MB_OP_NORM_FFN: make_norm(compiler, step, MB_T_FFN_NORM); break;
    case MB_OP_FFN_UP:
        make_up(compiler, step, MB_T_FFN_GATE, MB_T_FFN_UP, 1, &compiler->program->ff_width);
        break;
    case MB_OP_FFN_DOWN: make_down(compiler, step, before, MB_OP_FFN_UP, MB_T_FFN_DOWN, 1); break;
    case MB_OP_ROUTER:
        step->from_stream = !compiler->has_norm;
        step->matrices[0] = matrix(compiler, MB_T_FFN_GATE_INP, hp->n_embd, hp->n_expert, 1, 1);
        step->choice_bias = floats(compiler, MB_T_EXP_PROBS_B, "bias", hp->n_expert, 1);
        break;
    case MB_OP_EXPERTS_UP:
        if (!before || before->kind != MB_OP_ROUTER)
            fail_missing(compiler, MB_T_FFN_GATE_INP);
        else
            make_up(compiler, step, MB_T_FFN_GATE_EXPS, MB_T_FFN_UP_EXPS, hp->n_expert, &compiler->program->expert_ff_width);
        break;
    case MB_OP_EXPERTS_DOWN:
        make_down(compiler, step, before, MB_OP_EXPERTS_UP, MB_T_FFN_DOWN_EXPS, hp->n_expert);
        break;
    case MB_OP_SHARED_UP:
        make_up(compiler, step, MB_T_FFN_GATE_SHEXP, MB_T_FFN_UP_SHEXP, 1, &compiler->program->ff_width);
        break;
    case MB_OP_SHARED_DOWN:
        make_down(compiler, step, before, MB_OP_SHARED_UP, MB_T_FFN_DOWN_SHEXP, 1);
        if (before && before - 1 >= compiler->program->steps && before[-1].kind == MB_OP_EXPERTS_DOWN) {
            take_over(before - 1);
            step->adds = 1;
        }
        break;
    case MB_OP_NORM_POST_FFN:
        make_norm(compiler, step, MB_T_POST_FFW_NORM);
        take_over(before);
        step->closes = 1;
        break;
    case MB_OP_HEAD_NORM: make_norm(compiler, step, MB_T_OUTPUT_NORM); break;
    case MB_OP_HEAD: make_head(compiler, step); break;
    default:
        compiler->code = mb_fail(compiler->err, MB_ENOTSUP,
                                 "%s: the op %s%s is not run yet; `membound inspect` counts the model", compiler->model->name,
                                 mb_op_kind_name(step->kind), step->layer < 0 ? "" : " of its layers");
    }
}

/* Everything that the op reads must have been taken up by its step. */
static void check_used(struct compiler *compiler)
{
    const struct mb_op *op = compiler->op;
    for (uint32_t i = 0; i < op->n_tensors && !compiler->code; i++) {
        if (i >= 64 || !(compiler->used >> i & 1))
            compiler->code = mb_fail(compiler->err, MB_ENOTSUP, "%s: %s in the op %s is not run yet; `membound inspect` "
                                     "counts the model", compiler->model->name, compiler->model->tensors[op->tensors[i]].name,
                                     mb_op_kind_name(op->kind));
    }
}

static void check_layers(struct compiler *compiler)
{
    const struct mb_model *model = compiler->model;
    struct mb_program *program = compiler->program;
    for (uint32_t i = 0; i < model->hp.n_layers && !compiler->code; i++) {
        const struct mb_layer *layer = &model->layers[i];
        if (layer->mixer != MB_MIX_ATTENTION || layer->chunked || layer->parallel || layer->kv_layer != i)
            compiler->code = mb_fail(compiler->err, MB_ENOTSUP, "%s: layer %u is of a kind that is not run yet (%s); "
                                     "`membound inspect` counts the model", model->name, i,
                                     layer->mixer == MB_MIX_MLA ? "MLA attention" : layer->mixer >= MB_MIX_GDN ? "recurrent"
                                     : layer->chunked ? "chunked attention" : "shared cache");
        else if (!layer->n_head_kv || layer->n_head % layer->n_head_kv || layer->head_k > MB_ATTENTION_DIM_MAX ||
                 layer->head_v > MB_ATTENTION_DIM_MAX || !layer->head_k || !layer->head_v)
            compiler->code = mb_fail(compiler->err, MB_EFORMAT, "%s: layer %u has %u heads on %u, %u and %u wide; the file is "
                                     "damaged", model->name, i, layer->n_head, layer->n_head_kv, layer->head_k, layer->head_v);
        else {
            uint32_t group = layer->n_head / layer->n_head_kv;
            program->group = program->group > group ? program->group : group;
            program->n_head = program->n_head > layer->n_head ? program->n_head : layer->n_head;
            program->head_v = program->head_v > layer->head_v ? program->head_v : layer->head_v;
            if (layer->head_k < (layer->window ? program->hp.rope_window.n_rot : program->hp.rope.n_rot))
                compiler->code = mb_fail(compiler->err, MB_EFORMAT, "%s: rope turns more than the %u elements of a head; "
                                         "the file is damaged", model->name, layer->head_k);
        }
    }
}

#define BIT(kind) (UINT64_C(1) << (kind))

/* No part of a layer may be missing: the tape has only the ops whose tensors are there. */
static void check_complete(struct compiler *compiler)
{
    const struct mb_program *program = compiler->program;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < program->n_steps && !compiler->code; i++) {
        const struct mb_step *step = &program->steps[i];
        seen |= BIT(step->kind);
        if (step->layer < 0 || step[1].layer == step->layer) /* the last step is the head */
            continue;
        int dense = (seen & BIT(MB_OP_FFN_UP)) && (seen & BIT(MB_OP_FFN_DOWN));
        int experts = (seen & BIT(MB_OP_EXPERTS_UP)) && (seen & BIT(MB_OP_EXPERTS_DOWN));
        int shared = !(seen & BIT(MB_OP_SHARED_UP)) == !(seen & BIT(MB_OP_SHARED_DOWN));
        if (!(seen & BIT(MB_OP_QKV)) || !(seen & BIT(MB_OP_ATTN_OUT)) || dense == experts || !shared)
            compiler->code = mb_fail(compiler->err, MB_EFORMAT, "%s: tensors of layer %d are missing; the file is incomplete",
                                     compiler->model->name, step->layer);
        seen = 0;
    }
}

int mb_program_make(struct mb_program *program, struct mb_weights *weights, struct mb_arena *arena, struct mb_err *err)
{
    const struct mb_model *model = program->model;
    struct compiler compiler = {.program = program, .weights = weights, .model = model, .err = err};
    int code = mb_tape_build(model, 1, 0, NULL, &program->tape, err);
    if (code)
        return code;
    program->steps = mb_arena_array(arena, program->tape->n_ops, sizeof *program->steps);
    if (!program->steps)
        return mb_fail_memory(err);
    check_layers(&compiler);
    for (uint32_t i = 0; i < program->tape->n_ops && !compiler.code; i++) {
        struct mb_step *step = &program->steps[program->n_steps], *before = program->n_steps ? step - 1 : NULL;
        compiler.op = step->op = &program->tape->ops[i];
        compiler.used = 0;
        step->kind = step->op->kind;
        step->layer = step->op->layer;
        if (before && before->layer != step->layer)
            compiler.has_norm = 0;
        compile_op(&compiler, step, before);
        check_used(&compiler);
        int norms = step->kind == MB_OP_NORM_ATTN || step->kind == MB_OP_NORM_FFN || step->kind == MB_OP_HEAD_NORM ||
                    (step->kind == MB_OP_NORM_POST_ATTN && !step->closes);
        compiler.has_norm = norms || (compiler.has_norm && step->kind != MB_OP_ATTN_OUT);
        program->n_steps++;
    }
    for (uint32_t i = 0; i < model->n_tensors && program->factors_long && !compiler.code; i++) {
        if (model->tensors[i].kind == MB_T_ROPE_FACTORS_SHORT &&
            has_shape(&compiler, &model->tensors[i], program->hp.rope.n_rot / 2, 1, 1))
            program->factors_short = mb_weights_f32(weights, i);
    }
    if (!compiler.code && (!program->n_steps || program->steps[program->n_steps - 1].kind != MB_OP_HEAD))
        compiler.code = mb_fail(err, MB_EFORMAT, "%s: the output is missing; the file is incomplete", model->name);
    if (!compiler.code)
        check_complete(&compiler);
    return compiler.code;
}

size_t mb_program_order(const struct mb_program *program, uint32_t *order)
{
    size_t n = 0;
    for (uint32_t i = 0; i < program->n_steps; i++)
        for (unsigned k = 0; k < MB_STEP_MATRICES; k++)
            if (program->steps[i].matrices[k].n_rows)
                order[n++] = program->steps[i].matrices[k].tensor;
    return n;
}

void mb_program_free(struct mb_program *program)
{
    mb_tape_free(program->tape);
    program->tape = NULL;
}
