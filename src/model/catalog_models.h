/* SPDX-License-Identifier: MIT */
/* The models of data/models as the build embeds them (tools/embed_models.py). Internal to src/model. */
#ifndef MB_CATALOG_MODELS_H
#define MB_CATALOG_MODELS_H

extern const char *const mb_embedded_model_names[];
extern const char *const mb_embedded_models[]; /* JSON, one text per model, in the same order */
extern const unsigned mb_n_embedded_models;

#endif
