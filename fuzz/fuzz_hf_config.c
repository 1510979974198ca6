/* SPDX-License-Identifier: MIT */
/* Any config.json beside any header is either refused or a model: its tape is complete, its sums agree, its JSON is
 * written. The input is the config, a zero byte, and the JSON text of the safetensors header; without the zero byte, a
 * header of the harness stands in. */
#include "model/open.h"
#include "model/safetensors.h"
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

static const char header[] =
    "{\"model.embed_tokens.weight\":{\"dtype\":\"BF16\",\"shape\":[8,4],\"data_offsets\":[0,64]},"
    "\"model.layers.0.self_attn.k_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[4,4],\"data_offsets\":[64,96]},"
    "\"model.layers.1.self_attn.kv_a_proj_with_mqa.weight\":{\"dtype\":\"BF16\",\"shape\":[4,4],\"data_offsets\":[96,128]},"
    "\"model.layers.2.mamba.D\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[128,144]},"
    "\"model.layers.3.linear_attn.in_proj_ba.weight\":{\"dtype\":\"U8\",\"shape\":[4,4],\"data_offsets\":[144,160]},"
    "\"model.layers.4.mlp.experts.0.w2.weight\":{\"dtype\":\"I8\",\"shape\":[4,4],\"data_offsets\":[160,176]},"
    "\"model.layers.4.mlp.experts.1.w2.weight\":{\"dtype\":\"I8\",\"shape\":[4,4],\"data_offsets\":[176,192]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n_config = zero ? (size_t)(zero - data) : size, n_json = zero ? size - n_config - 1 : sizeof(header) - 1;
    char *config = malloc(n_config ? n_config : 1);
    unsigned char *bytes = malloc(8 + n_json);
    struct mb_safetensors *files = NULL;
    struct mb_model *model = NULL;
    struct mb_err err = {0};
    struct mb_kv_size kv;
    char *json = NULL;
    if (!config || !bytes) {
        free(config);
        free(bytes);
        return 0;
    }
    if (n_config)
        memcpy(config, data, n_config);
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)n_json >> (8 * i));
    if (n_json)
        memcpy(bytes + 8, zero ? (const void *)(zero + 1) : header, n_json);
    if (mb_safetensors_open_bytes(bytes, 8 + n_json, (uint64_t)1 << 50, "fuzz", &files, &err) == MB_OK) {
        int code = mb_model_from_hf(files, config, n_config, "/fuzz/dir", &model, &err);
        if (code == MB_OK) {
            use(model, 1, 0);
            use(model, 512, 100000);
            use(model, 1, MB_DEPTH_MAX - 1);
            struct mb_kv_opts opts = {.type_k = "Q8_0", .type_v = "F32", .n_seq = 4096, .n_batch = 4096};
            if (mb_model_kv_size(model, MB_DEPTH_MAX, &opts, &kv, &err) != MB_OK ||
                mb_model_json(model, NULL, &json, &err) != MB_OK)
                abort();
        } else if ((code != MB_EFORMAT && code != MB_ENOMEM) || !*err.text || model) {
            abort();
        }
    }
    mb_text_free(json);
    mb_model_free(model);
    mb_safetensors_close(files);
    free(bytes);
    free(config);
    return 0;
}
