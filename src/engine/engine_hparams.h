/* SPDX-License-Identifier: MIT */
/* What a forward pass needs to know beside tensors: constants of the family, and values that the file states. Nothing here
 * changes which bytes are read; that is the model's and the tape's business. */
#ifndef MB_ENGINE_HPARAMS_H
#define MB_ENGINE_HPARAMS_H

#include "kernels/ops.h"
#include "model/gguf.h"
#include "model/model.h"

enum mb_gating {
    MB_GATE_SOFTMAX,
    MB_GATE_SIGMOID,
    MB_GATE_CHOSEN /* softmax over the chosen experts only */
};

/* How positions turn the queries and keys of one kind of layer. */
struct mb_rope_params {
    uint32_t n_rot;    /* leading elements of a head that turn; even */
    float base;        /* frequency of pair i: base^(-2 i / n_rot) */
    float scale;       /* of positions: 1 / factor of linear and YaRN scaling */
    float extrapolate; /* YaRN: how much of the ramp is used; 0: no YaRN */
    float magnitude;   /* factor of both sine and cosine, all included */
    float beta_fast, beta_slow;
    uint32_t context; /* of the training before any scaling */
};

struct mb_engine_hparams {
    float norm_eps;
    enum mb_rope_kind rope_kind;
    struct mb_rope_params rope, rope_window; /* of full and of sliding layers */
    uint32_t no_rope_every;                  /* each such layer leaves positions out; 0: none */
    float score_scale, score_cap;            /* of attention scores; cap 0: none */
    float embed_scale, residual_scale, logit_scale, logit_cap;
    enum mb_glu glu;
    enum mb_gating gating;
    int gate_normalise;      /* chosen weights are made to sum to 1 */
    float gate_scale;        /* of the chosen weights, after that */
    uint32_t n_groups, n_groups_used; /* experts are chosen from the best groups; 0: no groups */
};

/* Fill from the family's row and, if gguf is not NULL, from the file's metadata.
 * Returns MB_OK; MB_ENOTSUP: a family that is not run; MB_EFORMAT: a value that makes no sense, err names its key. */
int mb_engine_hparams_read(const struct mb_model *model, const struct mb_gguf *gguf, struct mb_engine_hparams *out,
                           struct mb_err *err);

#endif
