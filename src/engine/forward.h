/* SPDX-License-Identifier: MIT */
/* A forward pass on the CPU: the tape compiled to steps, and a team of threads that walks them. */
#ifndef MB_FORWARD_H
#define MB_FORWARD_H

#include "base/team.h"
#include "engine/engine_hparams.h"
#include "engine/kvcache.h"
#include "engine/weights.h"
#include "model/tape.h"

/* ---- the program: what an engine compiles once ---- */

/* Rows of weights that are multiplied with. Those of expert e are expert_bytes * e further on, its bias e * n_rows. */
struct mb_matrix {
    uint32_t tensor;   /* it may move while passes run: mb_weights_at() says where it is */
    uint32_t type;
    uint64_t offset;   /* of the first row in it */
    const float *bias; /* [n_rows], or [experts][n_rows]; NULL: none */
    size_t n_rows;     /* 0: there is no matrix */
    size_t n_cols, row_bytes;
    uint64_t expert_bytes;
};

enum { MB_STEP_MATRICES = 3 };

/* One op of the tape with everything looked up. */
struct mb_step {
    enum mb_op_kind kind;
    int32_t layer;
    const struct mb_op *op;
    struct mb_matrix matrices[MB_STEP_MATRICES]; /* QKV: q, k, v; *_UP: gate, up; others: one */
    const float *norm, *norm_k; /* of the row; ROPE_STORE: of queries and keys */
    const float *sinks, *choice_bias;
    const float *rope_factors; /* ROPE_STORE */
    uint32_t table;            /* EMBED: the tensor */
    uint8_t norm_whole;  /* ROPE_STORE: over all heads at once */
    uint8_t from_stream; /* the input is the residual stream itself, not a norm of it */
    uint8_t closes;      /* its result is added to the residual stream */
    uint8_t adds;        /* its result is added to that of the step before it */
    uint8_t no_rope;
};

struct mb_program {
    const struct mb_model *model;
    struct mb_engine_hparams hp;
    struct mb_tape *tape; /* of one token at depth 0 */
    struct mb_step *steps;
    uint32_t n_steps;
    const float *factors_long, *factors_short; /* LongRoPE: which one depends on the session's context */
    /* The widest of each, in elements: what sessions take buffers for. */
    size_t q_width, k_width, v_width, attention_width, ff_width, expert_ff_width;
    uint32_t n_head, head_v, group; /* query heads on one KV head */
};

/* Compile the tape. program is zeroed; mb_program_free() also after a failure.
 * MB_OK; MB_ENOTSUP: err names the op or tensor that is not run; MB_EFORMAT: shapes that do not fit each other; MB_ENOMEM. */
int mb_program_make(struct mb_program *program, struct mb_weights *weights, struct mb_arena *arena, struct mb_err *err);
void mb_program_free(struct mb_program *program);

/* The tensors of all matrices in the order in which a pass reads them; order: [MB_STEP_MATRICES * n_steps]. Returns how many. */
size_t mb_program_order(const struct mb_program *program, uint32_t *order);

/* ---- the pass ---- */

/* Rows of tokens that a member owns between matrices. With one token each member has a private copy of the stream and computes
 * what lies between matrices itself, which saves barriers; with more, tokens are split and rows are shared. */
struct mb_lane {
    float *x, *h;      /* residual stream and its norm: [tokens][n_embd] */
    void *act[MB_ACT_END]; /* prepared input of the next matrix, but for MB_ACT_F32 */
    float *turns, *turns_window; /* sines and cosines: [tokens][n_rot] */
    size_t begin, end, n; /* own tokens of n */
    unsigned ready;    /* prepared forms of h: 1 << enum mb_act */
    int is_private;
    /* never shared */
    float *own_x, *own_h, *own_turns, *own_turns_window, *own_states;
    void *own_act;     /* MB_ACT_Q8 */
    uint32_t *seen;    /* [2][queries] rows that queries see */
    uint32_t *order;   /* token-and-slot entries by expert */
    uint32_t *counts;  /* [n_expert + 1] where each expert's entries begin */
    uint32_t *own_chosen;
    float *own_weights;
};

/* Activations of n tokens, in the form that some weights read. */
struct mb_input {
    enum mb_act act;
    const void *x;
    size_t n;
};

struct mb_pass {
    const struct mb_program *program;
    const struct mb_weights *weights;
    const struct mb_kernels *kernels;
    struct mb_kv_cache *cache;
    struct mb_team *team;
    unsigned n_team, members; /* members: those that run this pass, at most n_team */
    struct mb_lane *lanes; /* [n_team] */
    uint32_t n_batch;
    /* shared rows, [n_batch][..] */
    float *x, *h, *y, *q, *k, *v, *attended, *gate, *up, *expert_gate, *expert_up, *partial, *router, *weights_chosen;
    float *turns, *turns_window, *states;
    uint32_t *chosen;
    void *act[MB_ACT_END], *act_down, *act_experts, *act_experts_down;
    size_t act_entry, act_down_entry; /* bytes of one token-and-slot of the experts' inputs */
    float *logits; /* [n_logits][n_vocab] */
    uint32_t n_chunks; /* of one head's context at decoding; 0: all fits one */
    double *speeds, *speeds_window;
    /* of the pass that runs */
    const int32_t *tokens;
    uint32_t n;
    uint64_t position;
    enum { MB_LOGITS_NONE, MB_LOGITS_LAST, MB_LOGITS_ALL } keep;
    const volatile int *cancel;
    int stop;    /* member 0 saw the cancel flag */
    int damaged; /* a logit is no number */
    mb_op_time_fn *on_op;
    void *user;
    double stamp_s;
};

/* Walk the steps once for pass->tokens; all members call it through mb_team_run(). */
void mb_pass_run(void *pass, unsigned member);

/* The parts of it (forward_attention.c, forward_experts.c, forward_dense.c). */
void mb_pass_rope_store(struct mb_pass *pass, const struct mb_step *step, unsigned member);
void mb_pass_attention(struct mb_pass *pass, const struct mb_step *step, unsigned member);
void mb_pass_router(struct mb_pass *pass, const struct mb_step *step, unsigned member);
void mb_pass_experts_up(struct mb_pass *pass, const struct mb_step *step, unsigned member);
void mb_pass_experts_down(struct mb_pass *pass, const struct mb_step *step, unsigned member);

/* Wait for all members, unless rows are private. */
void mb_lane_sync(struct mb_pass *pass, const struct mb_lane *lane);
/* Bring `from`, [lane->n][n_cols], into the form that weights of the type read. Shared rows are complete for all members on
 * return. */
struct mb_input mb_lane_prepare(struct mb_pass *pass, struct mb_lane *lane, uint32_t type, const float *from, size_t n_cols);
/* What mb_pass_activate() left for a matrix: in gate if it reads floats, else prepared. */
struct mb_input mb_pass_activated(const struct mb_pass *pass, const struct mb_matrix *matrix, const float *gate,
                                  const void *prepared, size_t n);
/* y = rows of the matrix times the tokens, for the rows of this member; with the bias. */
void mb_pass_multiply(struct mb_pass *pass, const struct mb_matrix *matrix, uint32_t expert, struct mb_input in, float *y,
                      size_t y_stride, unsigned member);
/* gate and up rows [begin, end) of n tokens become their product, and the units of it that the next matrix reads are prepared. */
void mb_pass_activate(struct mb_pass *pass, float *gate, const float *up, size_t width, size_t n, uint32_t next_type, void *to,
                      unsigned member);

/* How fast each pair turns, in radians per position; factors NULL: none. */
void mb_rope_speeds(const struct mb_rope_params *rope, const float *factors, double *speeds);
/* cos and sin of every pair, [n_rot], as mb_rope_fn takes them. */
void mb_rope_table(const struct mb_rope_params *rope, const double *speeds, uint64_t position, float *table);

/* Bytes that the step's op reads in this pass; called after it. */
uint64_t mb_pass_bytes(const struct mb_pass *pass, const struct mb_step *step);

#endif
