/* SPDX-License-Identifier: MIT */
/* Sums over the tape. Nothing is counted here that the tape does not hold, so that what is printed is what the planner
 * charges. */
#include "model/tape.h"

int mb_model_traffic(const struct mb_model *model, uint32_t n_tokens, uint64_t depth, const struct mb_kv_opts *opts,
                     struct mb_traffic *out, struct mb_err *err)
{
    struct mb_tape *tape;
    int code = mb_tape_build(model, n_tokens, depth, opts, &tape, err);
    if (code)
        return code;
    *out = tape->traffic;
    mb_tape_free(tape);
    return MB_OK;
}
