/* SPDX-License-Identifier: MIT */
/* What quantizing a model costs in quality, as people measured and published it: data/quality.json, read once and
 * looked up by model and quantization. docs/advise.md describes the file. Internal; struct mb_loss is public. */
#ifndef MB_QUALITY_H
#define MB_QUALITY_H

#include "base/base.h"

struct mb_quality;

/* Read the built-in figures, or for tests a text. Free with mb_quality_close() (NULL is allowed).
 * Returns MB_OK; MB_EFORMAT: err names entry and key; MB_ENOMEM. */
int mb_quality_open(struct mb_quality **out, struct mb_err *err);
int mb_quality_parse(const char *text, size_t n, struct mb_quality **out, struct mb_err *err);
void mb_quality_close(struct mb_quality *quality);

/* The loss of a quantization: measured on this very model where somebody did, else on the reference model, and that is
 * said in out->same_model; measured_on is NULL where nobody measured either. model may be NULL. Texts live as long as
 * quality. */
void mb_quality_loss(const struct mb_quality *quality, const char *model, const char *quant, struct mb_loss *out);

/* The quantization in which a model's makers publish it, NULL: no such thing. */
const char *mb_quality_native(const struct mb_quality *quality, const char *model);

/* The names of the models of all figures, for the test that they are the catalog's; *out_n of them. */
const char *const *mb_quality_models(const struct mb_quality *quality, unsigned *out_n);

#endif
