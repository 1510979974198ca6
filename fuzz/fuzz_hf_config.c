/* SPDX-License-Identifier: MIT */
/* Any config.json beside any header is either refused or a model of which all that use_model.h asks
 * holds. The input is the config, a zero byte, and the JSON text of the safetensors header; without the zero byte, a
 * header of the harness stands in. */
#include "model/open.h"
#include "model/safetensors.h"
#include "use_model.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
            use_model(model);
        } else if ((code != MB_EFORMAT && code != MB_ENOMEM) || !*err.text || model) {
            abort();
        }
    }
    mb_model_free(model);
    mb_safetensors_close(files);
    free(bytes);
    free(config);
    return 0;
}
