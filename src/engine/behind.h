/* SPDX-License-Identifier: MIT */
/* Weights that come to memory while the model already runs from its mapped file. */
#ifndef MB_BEHIND_H
#define MB_BEHIND_H

#include "kernels/kernels.h"

/* Where a tensor is read. The two belong together: pointers to this are what is published, never one of its parts. */
struct mb_weights_place {
    const uint8_t *data;
    int packed; /* in packed order (kernels/matmul.h) */
};

/* Rows that are brought at a time, and the unit of what can be packed: a multiple of every kernel's group. */
#define MB_ROWS_AT_ONCE 64

/* Bring n rows of file order to the order of a place. from may be to where nothing changes. */
static inline void mb_rows_bring(const struct mb_kernels *kernels, uint32_t type, int packed, uint8_t *to, const uint8_t *from,
                                 size_t row_bytes, size_t n)
{
    if (packed)
        kernels->pack(type, kernels->pack_rows, to, from, row_bytes, n, 0, n);
    else if (from != to)
        memcpy(to, from, n * row_bytes);
}

/* A tensor that is to come. */
struct mb_behind_tensor {
    const uint8_t *from; /* in file order, in a mapping of a file */
    uint64_t n_rows, n_matrices; /* rows of one matrix; matrices one after the other */
    uint64_t row_bytes;
    uint32_t type;
    struct mb_weights_place to; /* packed: as it is to be; data is set by mb_behind_open() */
    const struct mb_weights_place **now; /* points to `to` when it has come: a release, to be read with an acquire */
};

struct mb_behind;

enum { MB_BEHIND_THREADS_MAX = 8 };

/* Take the memory of n tensors. They are used where they are until mb_behind_close().
 * MB_OK; MB_ENOMEM: the OS has not that much. */
int mb_behind_open(struct mb_behind_tensor *tensors, size_t n, const struct mb_kernels *kernels, struct mb_behind **out);

/* Bring the next tensor, publish it and give back the pages of the mapping that only it lies in. From any number of threads.
 * 0: none was left, or mb_behind_close() is under way. */
int mb_behind_step(struct mb_behind *behind);

/* Start n >= 1 threads, at most MB_BEHIND_THREADS_MAX, that take all steps. They block all signals. MB_OK, also if only some of
 * them could be started; MB_ENOMEM: there is no thread to be had, so nothing comes and the memory is given back. No step may
 * have been taken then. */
int mb_behind_start(struct mb_behind *behind, unsigned n);

/* Let the threads rest before their next rows, or go on. */
void mb_behind_hold(struct mb_behind *behind, int hold);

/* Stop the threads, which takes as long as bringing a few rows does, and give the memory back. NULL is allowed. */
void mb_behind_close(struct mb_behind *behind);

/* Threads that still bring tensors. From any thread. */
unsigned mb_behind_n_busy(const struct mb_behind *behind);

struct mb_behind_state {
    uint64_t taken_bytes;         /* of memory */
    uint64_t done_bytes, n_bytes; /* of tensors */
    double done_at_s;             /* mb_now_s() when the last had come; 0: not yet */
};
void mb_behind_get_state(const struct mb_behind *behind, struct mb_behind_state *out);

#endif
