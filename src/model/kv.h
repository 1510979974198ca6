/* SPDX-License-Identifier: MIT */
/* What attention keeps between tokens: bytes allocated, and bytes that a pass reads and writes. Internal to src/model and
 * the planner; docs/traffic.md states the formulas. */
#ifndef MB_KV_H
#define MB_KV_H

#include "model/model.h"

/* Cache types of both sides, read from options. */
struct mb_kv_types {
    uint32_t k, v; /* enum mb_type */
};

/* MB_OK; MB_EINVAL: a type that no cache has. opts may be NULL. */
int mb_kv_types(const struct mb_kv_opts *opts, struct mb_kv_types *out, struct mb_err *err);

/* Bytes of one row of n elements, rounded up to whole blocks. */
uint64_t mb_row_bytes(uint32_t type, uint64_t n);

/* What one pass over n tokens at a depth does with the caches and the state of one layer. */
struct mb_kv_use {
    uint64_t cells;                     /* that attention reads */
    uint64_t read_bytes, write_bytes;   /* keys and values */
    uint64_t index_read_bytes, index_write_bytes;
    uint64_t index_cells;
    uint64_t compress_write_bytes, compressor_read_bytes, compressor_write_bytes;
    uint64_t compressed_cells; /* that attention reads beside the window */
    uint64_t state_bytes; /* read, and written again */
};
void mb_kv_use(const struct mb_model *model, uint32_t layer, uint32_t n_tokens, uint64_t depth,
               const struct mb_kv_types *types, struct mb_kv_use *out);

/* What the caches take, by kind. */
enum mb_kv_part { MB_KV_FULL, MB_KV_WINDOW, MB_KV_INDEX, MB_KV_COMPRESSED, MB_KV_STATE, MB_KV_PARTS };
struct mb_kv_part_size {
    uint32_t n_layers;
    uint64_t cells; /* of one layer; 1 for the state, the first layer's where they differ */
    uint64_t bytes;
};
/* MB_OK; MB_ERANGE; MB_EINVAL. */
int mb_kv_parts(const struct mb_model *model, uint64_t n_ctx, const struct mb_kv_opts *opts,
                struct mb_kv_part_size out[MB_KV_PARTS], struct mb_err *err);

/* The same of one layer, added to what out holds. */
int mb_kv_layer_parts(const struct mb_model *model, uint32_t layer, uint64_t n_ctx, const struct mb_kv_opts *opts,
                      struct mb_kv_part_size out[MB_KV_PARTS], struct mb_err *err);

/* Bytes that one further token of context adds to one layer for good (no windows, no state). */
double mb_kv_layer_bytes_per_token(const struct mb_model *model, uint32_t layer, const struct mb_kv_types *types);

#endif
