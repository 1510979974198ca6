/* SPDX-License-Identifier: MIT */
/* What must hold of every model that was accepted, whatever it was read from: its tape is complete, its sums agree, its
 * cache has a size, its JSON is written. Aborts otherwise. */
#ifndef MB_FUZZ_USE_MODEL_H
#define MB_FUZZ_USE_MODEL_H

#include "model/tape.h"

#include <stdlib.h>

static void use_pass(const struct mb_model *model, uint32_t n_tokens, uint64_t depth)
{
    struct mb_tape *tape;
    uint64_t read = 0, by_role = 0;
    if (mb_tape_build(model, n_tokens, depth, NULL, &tape, NULL) != MB_OK)
        abort();
    for (uint32_t i = 0; i < tape->n_ops; i++) {
        const struct mb_op *op = &tape->ops[i];
        if (op->weight_bytes > op->resident_bytes || op->kind == MB_OP_NONE)
            abort();
        read += op->weight_bytes;
    }
    for (unsigned i = 0; i < MB_N_ROLES; i++)
        by_role += tape->traffic.by_role[i];
    if (read != tape->traffic.weights_bytes || read != by_role)
        abort();
    mb_tape_free(tape);
}

static void use_model(const struct mb_model *model)
{
    const struct mb_kv_opts opts = {.type_k = "Q8_0", .type_v = "F32", .n_seq = 4096, .n_batch = 4096};
    struct mb_kv_size kv;
    char *json = NULL;
    use_pass(model, 1, 0);
    use_pass(model, 512, 100000);
    use_pass(model, MB_DEPTH_MAX, 0);
    use_pass(model, 1, MB_DEPTH_MAX - 1);
    if (mb_model_kv_size(model, MB_DEPTH_MAX, &opts, &kv, NULL) != MB_OK || mb_model_json(model, NULL, &json, NULL) != MB_OK)
        abort();
    mb_text_free(json);
}

#endif
