/* SPDX-License-Identifier: MIT */
/* The origins of a model. Internal to src/model. */
#ifndef MB_OPEN_H
#define MB_OPEN_H

#include "model/model.h"
#include "model/quant.h"

struct mb_gguf;

/* Open a GGUF file, all its parts. Codes as mb_model_open(). */
int mb_model_open_gguf(const char *path, struct mb_model **out, struct mb_err *err);

/* A model from an opened file; the file may be closed afterwards. label names it in errors and is its name where the
 * file has none. Returns MB_OK; MB_EFORMAT; MB_ENOMEM. */
int mb_model_from_gguf(const struct mb_gguf *gguf, const char *label, struct mb_model **out, struct mb_err *err);

struct mb_safetensors;

/* Open a Hugging Face directory. Codes as mb_model_open(). */
int mb_model_open_hf(const char *path, struct mb_model **out, struct mb_err *err);

/* The same from a list of tensors and the text of config.json; path names it in errors. Both may go afterwards. Returns
 * MB_OK; MB_ENOENT: the list is only that of an index; MB_EFORMAT; MB_ENOMEM. */
int mb_model_from_hf(const struct mb_safetensors *files, const char *config, size_t n_config, const char *path,
                     struct mb_model **out, struct mb_err *err);

/* A catalog model made in a particular way, to compare with published files. */
struct mb_catalog_variant {
    struct mb_quant_opts quant;
    int old_ssm_in; /* first qwen3next files: one fused input projection */
    int old_kv_b;   /* DeepSeek files of early 2025: attn_kv_b unsplit */
    int untied;     /* carries output.weight although the model ties it */
};
int mb_model_catalog_variant(const char *spec, const struct mb_catalog_variant *variant, struct mb_model **out,
                             struct mb_err *err);

/* The JSON entry of catalog model i (data/models), for tests; NULL after the last. */
const char *mb_model_catalog_text(size_t i);

#endif
