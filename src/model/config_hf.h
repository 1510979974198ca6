/* SPDX-License-Identifier: MIT */
/* config.json of a Hugging Face directory: what tensors do not tell. Internal to src/model; shared
 * by config_hf.c, which reads it, and hparams_hf.c, which makes the model. */
#ifndef MB_CONFIG_HF_H
#define MB_CONFIG_HF_H

#include "model/roles_hf.h"

struct mb_hf_seen; /* hparams_hf.c */

struct mb_hf_reader {
    const json_t *root, *config, *quant; /* quant: how the weights are packed; NULL: not */
    const char *label, *model_type;
    struct mb_model *model;
    struct mb_hf_name *names; /* of each tensor of the model */
    struct mb_hf_seen *seen;  /* of each layer */
    struct mb_err *err;
    int code; /* the first failure; the getters remember theirs here */
};

/* Parse the text, which is changed. A new reference, or NULL with err filled and *code set. */
json_t *mb_hf_parse_config(char *text, size_t n, const char *label, int *code, struct mb_err *err);

/* Find family and hyperparameters; needs root, label and model. MB_OK; MB_EFORMAT. */
int mb_hf_read_config(struct mb_hf_reader *reader);

/* A value of the text model's part of the config, or of the whole. */
const json_t *mb_hf_value(const struct mb_hf_reader *reader, const char *key);
/* A count, or the default where there is none; null and false are none. */
uint32_t mb_hf_get(struct mb_hf_reader *reader, const char *key, uint32_t otherwise);
/* The same of one layer where the value is a list; the default where it is not. */
uint32_t mb_hf_get_at(struct mb_hf_reader *reader, const char *key, uint32_t layer,
                      uint32_t otherwise);
/* Bits of a packed weight; 0: not stated. */
uint32_t mb_hf_packed_bits(struct mb_hf_reader *reader);

/* Which layers slide: the list of the config, its period, the family's. */
struct mb_hf_windows {
    const char *list;    /* key of a text per layer; NULL: none */
    const char *letters; /* "LLLG" */
    int flags;           /* hybrid_layer_pattern */
    uint32_t period, from;
};

/* Sets the width in the hyperparameters too. MB_OK; MB_EFORMAT. */
int mb_hf_find_windows(struct mb_hf_reader *reader, struct mb_hf_windows *windows);
int mb_hf_slides(struct mb_hf_reader *reader, const struct mb_hf_windows *windows, uint32_t layer);

#endif
