/* SPDX-License-Identifier: MIT */
/* Walking the steps. Members split the rows of every matrix; what lies between matrices they do for the tokens that they own, or,
 * when there is one token, each for itself. A barrier stands where a matrix needs what others wrote: after QKV, after attention,
 * after each of its output, FFN up and FFN down. */
#include "engine/forward.h"

#include <math.h>
#include <string.h>

void mb_lane_sync(struct mb_pass *pass, const struct mb_lane *lane)
{
    if (!lane->is_private)
        mb_team_barrier(pass->team);
}

static void prepare_rows(const struct mb_pass *pass, const struct mb_lane *lane, enum mb_act act, const float *from,
                         size_t n_cols)
{
    struct mb_prepare op = {
        .act = act, .to = lane->act[act], .from = from, .from_stride = n_cols, .n_cols = n_cols, .n_tokens = lane->n};
    size_t units = (n_cols + 31) / 32;
    pass->kernels->prepare(&op, lane->begin * units, lane->end * units);
}

struct mb_input mb_lane_prepare(struct mb_pass *pass, struct mb_lane *lane, uint32_t type, const float *from, size_t n_cols)
{
    enum mb_act act = mb_kernels_act(pass->kernels, type, n_cols, lane->n);
    if (!(lane->ready >> act & 1)) {
        if (act != MB_ACT_F32)
            prepare_rows(pass, lane, act, from, n_cols);
        lane->ready |= 1u << act;
        mb_lane_sync(pass, lane);
    }
    return (struct mb_input){act, act == MB_ACT_F32 ? (const void *)from : lane->act[act], lane->n};
}

static void add_bias(const struct mb_pass *pass, const float *bias, float *y, size_t stride, size_t n, size_t begin, size_t end)
{
    for (size_t t = 0; t < n; t++)
        pass->kernels->add(y + t * stride + begin, y + t * stride + begin, bias + begin, end - begin);
}

/* Rows are split in 32s, because 32 are one unit of the input of the next matrix. */
#define ROW_UNIT 32

void mb_pass_multiply(struct mb_pass *pass, const struct mb_matrix *matrix, uint32_t expert, struct mb_input in, float *y,
                      size_t y_stride, unsigned member)
{
    size_t begin, end;
    mb_share(matrix->n_rows, ROW_UNIT, member, pass->members, &begin, &end);
    if (begin >= end)
        return;
    struct mb_weights_place place = mb_weights_at(pass->weights, matrix->tensor);
    struct mb_matmul op = {.type = matrix->type,
                           .act = in.act,
                           .packed = (unsigned)place.packed,
                           .weights = place.data + matrix->offset + expert * matrix->expert_bytes,
                           .row_bytes = matrix->row_bytes,
                           .n_rows = matrix->n_rows,
                           .n_cols = matrix->n_cols,
                           .x = in.x,
                           .n_tokens = in.n,
                           .y = y,
                           .y_stride = y_stride};
    pass->kernels->matmul[matrix->type](&op, begin, end);
    if (matrix->bias)
        add_bias(pass, matrix->bias + expert * matrix->n_rows, y, y_stride, in.n, begin, end);
}

void mb_pass_activate(struct mb_pass *pass, float *gate, const float *up, size_t width, size_t n, uint32_t next_type, void *to,
                      unsigned member)
{
    const struct mb_kernels *kernels = pass->kernels;
    size_t begin, end, units = (width + 31) / 32;
    mb_share(width, ROW_UNIT, member, pass->members, &begin, &end);
    if (begin >= end)
        return;
    struct mb_prepare op = {.act = mb_kernels_act(kernels, next_type, width, n),
                            .to = to,
                            .from = gate,
                            .from_stride = width,
                            .n_cols = width,
                            .n_tokens = n};
    for (size_t t = 0; t < n; t++) {
        float *row = gate + t * width;
        kernels->glu(row + begin, row + begin, up + t * width + begin, end - begin, pass->program->hp.glu, 1.702f, 7.0f);
        if (op.act != MB_ACT_F32)
            kernels->prepare(&op, t * units + begin / 32, t * units + (end + 31) / 32);
    }
}

struct mb_input mb_pass_activated(const struct mb_pass *pass, const struct mb_matrix *matrix, const float *gate,
                                  const void *prepared, size_t n)
{
    enum mb_act act = mb_kernels_act(pass->kernels, matrix->type, matrix->n_cols, n);
    return (struct mb_input){act, act == MB_ACT_F32 ? gate : prepared, n};
}

/* ---- between matrices: own tokens ---- */

static void embed(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane)
{
    const struct mb_model *model = pass->program->model;
    const struct mb_engine_hparams *hp = &pass->program->hp;
    size_t d = model->hp.n_embd;
    for (size_t t = lane->begin; t < lane->end; t++) {
        float *x = lane->x + t * d;
        const void *row = mb_weights_row(pass->weights, step->table, (uint64_t)pass->tokens[t]);
        pass->kernels->dequant[model->tensors[step->table].type](x, row, d);
        if (hp->embed_scale != 1)
            pass->kernels->scale(x, x, d, hp->embed_scale);
    }
}

static void turn(struct mb_pass *pass, struct mb_lane *lane)
{
    const struct mb_engine_hparams *hp = &pass->program->hp;
    for (size_t t = lane->begin; t < lane->end; t++) {
        mb_rope_table(&hp->rope, pass->speeds, pass->position + t, lane->turns + t * hp->rope.n_rot);
        mb_rope_table(&hp->rope_window, pass->speeds_window, pass->position + t,
                      lane->turns_window + t * hp->rope_window.n_rot);
    }
}

static void norm(const struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, const float *from)
{
    size_t d = pass->program->model->hp.n_embd;
    for (size_t t = lane->begin; t < lane->end; t++)
        pass->kernels->rms_norm(lane->h + t * d, from + t * d, step->norm, d, pass->program->hp.norm_eps);
    lane->ready = 0;
}

static void close_residual(const struct mb_pass *pass, struct mb_lane *lane, const float *from)
{
    size_t d = pass->program->model->hp.n_embd;
    float scale = pass->program->hp.residual_scale;
    for (size_t t = lane->begin; t < lane->end; t++) {
        if (scale == 1)
            pass->kernels->add(lane->x + t * d, lane->x + t * d, from + t * d, d);
        else
            pass->kernels->axpy(lane->x + t * d, from + t * d, d, scale);
    }
    lane->ready = 0;
}

/* ---- matrices ---- */

static void multiply_input(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, unsigned i, float *y,
                           unsigned member)
{
    const struct mb_matrix *matrix = &step->matrices[i];
    const float *from = step->from_stream ? lane->x : lane->h;
    mb_pass_multiply(pass, matrix, 0, mb_lane_prepare(pass, lane, matrix->type, from, matrix->n_cols), y, matrix->n_rows, member);
}

static void up(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, unsigned member)
{
    size_t width = step->matrices[0].n_rows;
    multiply_input(pass, step, lane, 0, pass->gate, member);
    multiply_input(pass, step, lane, 1, pass->up, member);
    mb_pass_activate(pass, pass->gate, pass->up, width, lane->n, step[1].matrices[0].type, pass->act_down, member);
    mb_team_barrier(pass->team);
}

static void down(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, unsigned member)
{
    const struct mb_matrix *matrix = &step->matrices[0];
    struct mb_input in = mb_pass_activated(pass, matrix, pass->gate, pass->act_down, lane->n);
    size_t begin, end, d = matrix->n_rows;
    mb_pass_multiply(pass, matrix, 0, in, step->adds ? pass->partial : pass->y, d, member);
    if (step->adds) {
        mb_share(d, ROW_UNIT, member, pass->members, &begin, &end);
        for (size_t t = 0; begin < end && t < lane->n; t++)
            pass->kernels->add(pass->y + t * d + begin, pass->y + t * d + begin, pass->partial + t * d + begin, end - begin);
    }
    mb_team_barrier(pass->team);
}

static void attention_out(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, unsigned member)
{
    const struct mb_matrix *matrix = &step->matrices[0];
    lane->ready = 1u << MB_ACT_F32; /* complete since the barrier after attention */
    struct mb_input in = mb_lane_prepare(pass, lane, matrix->type, pass->attended, matrix->n_cols);
    mb_pass_multiply(pass, matrix, 0, in, pass->y, matrix->n_rows, member);
    mb_team_barrier(pass->team);
}

static void head_norm(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane)
{
    size_t d = pass->program->model->hp.n_embd;
    if (!lane->is_private && pass->keep == MB_LOGITS_LAST) {
        mb_team_barrier(pass->team);
        memcpy(lane->own_x, lane->x + (lane->n - 1) * d, d * sizeof(float));
        lane->x = lane->own_x;
        lane->h = lane->own_h;
        lane->act[MB_ACT_Q8] = lane->own_act;
        lane->is_private = 1;
        lane->begin = 0;
        lane->end = lane->n = 1;
    }
    norm(pass, step, lane, lane->x);
}

static void head(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, unsigned member)
{
    const struct mb_engine_hparams *hp = &pass->program->hp;
    size_t begin, end, n_vocab = step->matrices[0].n_rows;
    multiply_input(pass, step, lane, 0, pass->logits, member);
    mb_share(n_vocab, ROW_UNIT, member, pass->members, &begin, &end);
    for (size_t t = 0; begin < end && t < lane->n; t++) {
        float *row = pass->logits + t * n_vocab, zero = 0;
        if (hp->logit_scale != 1)
            pass->kernels->scale(row + begin, row + begin, end - begin, hp->logit_scale);
        if (hp->logit_cap > 0)
            pass->kernels->soft_cap(row + begin, row + begin, end - begin, hp->logit_cap);
        for (size_t i = begin; i < end; i++)
            zero += row[i] * 0; /* stays 0 unless one is infinite or no number */
        if (zero != 0)
            __atomic_store_n(&pass->damaged, 1, __ATOMIC_RELAXED);
    }
}

/* ---- the walk ---- */

static void run_step(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, unsigned member)
{
    switch (step->kind) {
    case MB_OP_EMBED:
        embed(pass, step, lane);
        turn(pass, lane);
        break;
    case MB_OP_NORM_ATTN:
    case MB_OP_NORM_FFN: norm(pass, step, lane, lane->x); break;
    case MB_OP_QKV:
        multiply_input(pass, step, lane, 0, pass->q, member);
        multiply_input(pass, step, lane, 1, pass->k, member);
        multiply_input(pass, step, lane, 2, pass->v, member);
        if (member == 0 && pass->cancel && __atomic_load_n(pass->cancel, __ATOMIC_RELAXED))
            pass->stop = 1;
        mb_team_barrier(pass->team);
        break;
    case MB_OP_ROPE_STORE: mb_pass_rope_store(pass, step, member); break;
    case MB_OP_ATTENTION: mb_pass_attention(pass, step, member); break;
    case MB_OP_ATTN_OUT: attention_out(pass, step, lane, member); break;
    case MB_OP_NORM_POST_ATTN:
    case MB_OP_NORM_POST_FFN:
        norm(pass, step, lane, step->closes ? pass->y : lane->x);
        if (step->closes)
            close_residual(pass, lane, lane->h);
        return;
    case MB_OP_FFN_UP:
    case MB_OP_SHARED_UP: up(pass, step, lane, member); break;
    case MB_OP_FFN_DOWN:
    case MB_OP_SHARED_DOWN: down(pass, step, lane, member); break;
    case MB_OP_ROUTER: mb_pass_router(pass, step, member); break;
    case MB_OP_EXPERTS_UP: mb_pass_experts_up(pass, step, member); break;
    case MB_OP_EXPERTS_DOWN: mb_pass_experts_down(pass, step, member); break;
    case MB_OP_HEAD_NORM: head_norm(pass, step, lane); break;
    case MB_OP_HEAD: head(pass, step, lane, member); break;
    default: break; /* POSITION: its tensors went into the speeds */
    }
    if (step->closes)
        close_residual(pass, lane, pass->y);
}

static void tell(struct mb_pass *pass, const struct mb_step *step, unsigned member)
{
    mb_team_barrier(pass->team);
    if (member == 0) {
        struct mb_op_time time = {.op = mb_op_kind_name(step->kind),
                                  .layer = step->layer,
                                  .n_tokens = pass->n,
                                  .bytes = mb_pass_bytes(pass, step),
                                  .seconds = mb_now_s() - pass->stamp_s};
        pass->on_op(pass->user, &time);
    }
    mb_team_barrier(pass->team);
    if (member == 0)
        pass->stamp_s = mb_now_s();
}

static void set_lane(struct mb_pass *pass, struct mb_lane *lane, unsigned member)
{
    lane->is_private = pass->n == 1;
    lane->n = pass->n;
    lane->ready = 0;
    if (lane->is_private) {
        lane->begin = 0;
        lane->end = 1;
        lane->x = lane->own_x;
        lane->h = lane->own_h;
        lane->act[MB_ACT_Q8] = lane->own_act;
        lane->turns = lane->own_turns;
        lane->turns_window = lane->own_turns_window;
    } else {
        mb_share(pass->n, 1, member, pass->members, &lane->begin, &lane->end);
        lane->x = pass->x;
        lane->h = pass->h;
        memcpy(lane->act, pass->act, sizeof lane->act);
        lane->turns = pass->turns;
        lane->turns_window = pass->turns_window;
    }
}

void mb_pass_run(void *arg, unsigned member)
{
    struct mb_pass *pass = arg;
    struct mb_lane *lane = &pass->lanes[member];
    const struct mb_program *program = pass->program;
    set_lane(pass, lane, member);
    if (member == 0 && pass->on_op)
        pass->stamp_s = mb_now_s();
    for (uint32_t i = 0; i < program->n_steps; i++) {
        const struct mb_step *step = &program->steps[i];
        if (pass->keep == MB_LOGITS_NONE && (step->kind == MB_OP_HEAD_NORM || step->kind == MB_OP_HEAD))
            break;
        run_step(pass, step, lane, member);
        if (step->kind == MB_OP_QKV && pass->stop)
            break; /* the same for all: it is set before the barrier that ends the step */
        if (pass->on_op)
            tell(pass, step, member);
    }
}

uint64_t mb_pass_bytes(const struct mb_pass *pass, const struct mb_step *step)
{
    const struct mb_program *program = pass->program;
    const struct mb_model *model = program->model;
    uint64_t bytes = 0;
    if (step->op->experts > 0) {
        uint32_t read = 0;
        for (uint32_t e = 0; e < model->hp.n_expert; e++)
            read += pass->lanes[0].counts[e + 1] > pass->lanes[0].counts[e];
        return step->op->resident_bytes / model->hp.n_expert * read;
    }
    for (uint32_t i = 0; i < step->op->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[step->op->tensors[i]];
        bytes += step->kind == MB_OP_EMBED ? tensor->bytes / tensor->ne[1] * pass->n
                                           : mb_tensor_read_bytes(model, tensor, pass->n);
    }
    if (step->kind == MB_OP_ATTENTION) {
        struct mb_kv_use use;
        mb_kv_use(model, (uint32_t)step->layer, pass->n, pass->position, &pass->cache->types, &use);
        bytes += use.read_bytes;
    }
    return bytes;
}
