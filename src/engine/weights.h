/* SPDX-License-Identifier: MIT */
/* The bytes of a model's tensors: a mapped file, a copy in memory, the one and then the other, or synthetic blocks. Owned by an
 * engine, read by all its sessions, never written after loading; tensors that are brought to memory behind a running model
 * move, and stay readable at both places. */
#ifndef MB_WEIGHTS_H
#define MB_WEIGHTS_H

#include "engine/behind.h"
#include "model/gguf.h"
#include "model/model.h"

struct mb_weights;

/* Load the tensors that a pass reads. With MB_LOAD_BEHIND the file is mapped as with MB_LOAD_MMAP, and mb_weights_follow() says
 * what comes later.
 *   model  in   borrowed; must outlive the weights
 *   gguf   in   the opened file of the model; NULL for MB_LOAD_SYNTHETIC. May be closed afterwards
 * Returns MB_OK; MB_ENOMEM: more than is free, err says how much; MB_ENOENT, MB_EIO: the file; MB_ENOTSUP: a type that can't be
 * read; MB_ECANCEL. */
int mb_weights_load(const struct mb_model *model, const struct mb_gguf *gguf, const struct mb_engine_opts *opts,
                    const struct mb_kernels *kernels, struct mb_weights **out, struct mb_err *err);
void mb_weights_free(struct mb_weights *weights);

/* Prepare to bring tensors order[n] from the mapped file to memory, in that order; those that are in memory, or stand there
 * twice, are left out. Once, when nothing is looked up with mb_weights_f32() any more, which keeps the places that it saw.
 * Returns what takes the steps, owned by the weights; NULL: there is no memory for it, or nothing to bring. */
struct mb_behind *mb_weights_follow(struct mb_weights *weights, const uint32_t *order, size_t n);
/* The same once more; NULL: there is none. */
struct mb_behind *mb_weights_behind(const struct mb_weights *weights);

/* Where tensor i is now; data NULL: not loaded because no pass reads it. */
struct mb_weights_place mb_weights_at(const struct mb_weights *weights, uint32_t i);
/* First bytes of tensor i, the same for a mapped file as for its copies. NULL: not loaded. */
const void *mb_weights_first(const struct mb_weights *weights, uint32_t i);
/* Row of a table in file order, to look up. Synthetic tables repeat after some rows. */
const void *mb_weights_row(const struct mb_weights *weights, uint32_t i, uint64_t row);

/* Tensor i as floats: itself, or a copy that lives as long as the weights. NULL when out of memory. For small tensors. */
const float *mb_weights_f32(struct mb_weights *weights, uint32_t i);

/* Bytes that were taken for weights; a mapped file takes none. */
uint64_t mb_weights_taken(const struct mb_weights *weights);

/* ---- synthetic blocks ---- */

/* Whole blocks [begin, end) of a tensor, as mb_weights_fill() would leave them at the same place: any bytes of the type that are
 * a sane weight. Equal seed, name, type and place: equal bytes, on every machine. Norms lie around 1, biases around 0, and
 * rows of a matrix are scaled so that activations keep their size. */
void mb_weights_fill(const struct mb_tensor *tensor, uint64_t seed, void *to, uint64_t begin, uint64_t end);
/* Can blocks of the type be made? */
int mb_weights_can_fill(uint32_t type);

/* ---- splitting ---- */

/* Member `member` of n takes items begin <= i < end of `items`, in whole units. The split of rows is the same at loading and at
 * running, so that a member's rows lie on the memory nearest to it. */
static inline void mb_share(size_t items, size_t unit, unsigned member, unsigned n, size_t *begin, size_t *end)
{
    size_t units = (items + unit - 1) / unit;
    *begin = units * member / n * unit;
    *end = units * (member + 1) / n * unit;
    *end = *end < items ? *end : items;
    *begin = *begin < *end ? *begin : *end;
}

#endif
