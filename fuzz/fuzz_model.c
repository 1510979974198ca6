/* SPDX-License-Identifier: MIT */
/* The header of any GGUF file is either refused or a model: its tape is complete, its sums agree, its JSON is written. */
#include "model/gguf.h"
#include "model/open.h"
#include "model/tape.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct mb_model *model, uint32_t n_tokens, uint64_t depth)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *bytes = malloc(size ? size : 1);
    struct mb_gguf *gguf = NULL;
    struct mb_model *model = NULL;
    struct mb_err err = {0};
    struct mb_kv_size kv;
    char *json = NULL;
    if (!bytes)
        return 0;
    memcpy(bytes, data, size);
    if (mb_gguf_open_bytes(bytes, size, MB_SOURCE_UNKNOWN, "fuzz.gguf", &gguf, &err) == MB_OK) {
        if (mb_model_from_gguf(gguf, "fuzz.gguf", &model, &err) == MB_OK) {
            use(model, 1, 0);
            use(model, 512, 100000);
            use(model, MB_DEPTH_MAX, 0);
            use(model, 1, MB_DEPTH_MAX - 1);
            struct mb_kv_opts opts = {.type_k = "Q8_0", .type_v = "F32", .n_seq = 4096, .n_batch = 4096};
            if (mb_model_kv_size(model, MB_DEPTH_MAX, &opts, &kv, &err) != MB_OK ||
                mb_model_json(model, NULL, &json, &err) != MB_OK)
                abort();
        } else if (!*err.text) {
            abort();
        }
    }
    mb_text_free(json);
    mb_model_free(model);
    mb_gguf_close(gguf);
    free(bytes);
    return 0;
}
