/* SPDX-License-Identifier: MIT */
/* Which type each tensor gets in a file of a given quantization: the rules of llama-quantize. Internal to src/model;
 * docs/models.md restates the rules, their eras and how well they match published files. */
#ifndef MB_QUANT_H
#define MB_QUANT_H

#include "model/model.h"

struct mb_quant; /* one file type */

/* The file type of that name ("Q4_K_M", "q4km"); NULL: none. Names of the makers' own mixes ("UD-Q4_K_XL") give the
 * nearest standard one, and *out_uncertainty (may be NULL) says how far such files differ. */
const struct mb_quant *mb_quant_find(const char *name, double *out_uncertainty);
const char *mb_quant_name(const struct mb_quant *quant);

/* Details that a name does not tell. Zero-initialise for defaults. */
struct mb_quant_opts {
    int imatrix;      /* made with an importance matrix, which changes a few types */
    int before_2026_03; /* attn_qkv had a rule of its own then, attn_kv_b none */
};

/* Set type and bytes of every tensor of a model made by mb_arch_tensors(). MB_OK; MB_EFORMAT: a tensor that no type
 * fits, or sizes over 2^62 bytes. */
int mb_quant_assign(struct mb_model *model, const struct mb_quant *quant, const struct mb_quant_opts *opts,
                    struct mb_err *err);

#endif
