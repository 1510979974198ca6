/* SPDX-License-Identifier: MIT */
/* The tape: the linear list of operations of one forward pass, each naming the weights, cache and state that it reads. It is
 * built once per question and read by the planner (sums costs), the engine (executes it) and the bench (times it). It knows
 * no processor and no placement. */
#ifndef MB_TAPE_H
#define MB_TAPE_H

#include "model/kv.h"
#include "model/model.h"

struct mb_op {
    enum mb_op_kind kind;
    enum mb_role role;       /* of its largest tensor; of attention itself: MB_ROLE_ATTENTION */
    int32_t layer;           /* -1: none */
    const uint32_t *tensors; /* indices into the model's tensors */
    uint32_t n_tensors;
    uint64_t weight_bytes;   /* read by this pass */
    uint64_t resident_bytes; /* of those tensors */
    uint64_t kv_read_bytes, kv_write_bytes;
    uint64_t state_read_bytes, state_write_bytes;
    uint32_t kv_layer; /* whose cache it reads: its own, or an earlier layer's */
    uint32_t cells;    /* cache cells read */
    double experts;    /* expected number of distinct experts read; 0: none */
    double flops;
};

struct mb_tape {
    const struct mb_model *model; /* borrowed */
    uint32_t n_tokens;
    uint64_t depth;
    struct mb_op *ops; /* in the order of execution */
    uint32_t n_ops;
    struct mb_traffic traffic; /* sums over the ops */
    struct mb_arena arena;
};

/* Build the tape for n_tokens tokens of one sequence whose cache holds depth tokens. The model must outlive it.
 *   opts  in   cache types; may be NULL
 *   out   out  written only on MB_OK; free with mb_tape_free()
 * Returns MB_OK; MB_ERANGE: n_tokens is 0, or tokens over MB_DEPTH_MAX; MB_EINVAL: a cache type; MB_ENOMEM.
 * Pure: no I/O, no clock. About 10 ops per layer. */
int mb_tape_build(const struct mb_model *model, uint32_t n_tokens, uint64_t depth, const struct mb_kv_opts *opts,
                  struct mb_tape **out, struct mb_err *err);
void mb_tape_free(struct mb_tape *tape);

/* "qkv", "experts_up", ...: for people and JSON. */
const char *mb_op_kind_name(enum mb_op_kind kind);

/* Experts of n that at least one of n_tokens tokens chooses, if each chooses `used` of them uniformly:
 * n * (1 - (1 - used/n)^n_tokens). Real routing is skewed, so this is an upper estimate for prefill. */
double mb_experts_expected(uint32_t n, uint32_t used, uint32_t n_tokens);

/* Bytes of a tensor that such a pass reads. */
uint64_t mb_tensor_read_bytes(const struct mb_model *model, const struct mb_tensor *tensor, uint32_t n_tokens);

#endif
