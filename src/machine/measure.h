/* SPDX-License-Identifier: MIT */
/* The parts of a measurement that can be tested alone. Internal; mb_machine_measure() is the whole (membound.h). */
#ifndef MB_MEASURE_H
#define MB_MEASURE_H

#include "kernels/kernels.h"
#include "machine/levels.h"

/* mb_machine_measure() with these kernels. */
int mb_measure_machine(struct mb_machine *machine, const struct mb_measure_opts *opts, const struct mb_kernels *kernels,
                       struct mb_err *err);

/* The numbers of threads to measure with, ascending: 1, 2, 4, .. below n_threads, n_threads itself, and n_cores. Returns how
 * many, at most 16. */
unsigned mb_measure_counts(unsigned n_threads, unsigned n_cores, unsigned counts[16]);

/* How many bytes to read: what was asked for, else four times the last cache and over 1 GiB, twice that unless quick, so that
 * half of it can be compared with all; in any case at most half of what is free. 0: that would be less than 64 MiB.
 * Pass 0 for what is unknown. */
uint64_t mb_measure_buffer(uint64_t asked_bytes, uint64_t cache_bytes, uint64_t free_bytes, int quick);

/* What decides whether the figure of a series may be used. */
struct mb_evidence {
    double bytes_per_s;
    uint64_t n_bad_blocks, n_blocks;
    uint64_t buffer_bytes, cache_bytes; /* cache: the last level, 0 unknown */
    double half_ratio;                  /* rate on half the buffer / rate on all of it; 0: not compared */
    double spec_bytes_per_s;            /* 0: unknown */
    int virtual_machine;
};

/* NULL: it may. Else why not, in the arena. *warning (may be NULL) gets a sentence about what is odd but no proof, or NULL. */
const char *mb_measure_reject(struct mb_arena *arena, const struct mb_evidence *evidence, const char **warning);

/* Fill rates, levels, spread and n_samples of a series from its samples. Returns MB_OK; MB_EINVAL; MB_ENOMEM. */
int mb_measure_summarise(struct mb_measured *series, const double *samples, unsigned n);

#endif
