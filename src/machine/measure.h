/* SPDX-License-Identifier: MIT */
/* The parts of a measurement that can be tested alone. Internal; mb_machine_measure() is the whole (membound.h). */
#ifndef MB_MEASURE_H
#define MB_MEASURE_H

#include "base/team.h"
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

/* One measurement while it is taken. */
struct mb_measuring {
    struct mb_machine *machine;
    const struct mb_measure_opts *opts;
    const struct mb_kernels *kernels;
    struct mb_err *err;
    struct mb_measurement *measurement;
    unsigned cpu, pool;       /* the CPU and the pool that it reads */
    struct mb_team *team;     /* on every hardware thread that is to be used */
    struct mb_stream *stream; /* filled */
    double began_s, expected_s;
};

/* Tell the caller what is done now; has it cancelled? */
void mb_measuring_tell(const struct mb_measuring *run, const char *what);
int mb_measuring_is_cancelled(const struct mb_measuring *run);

/* Measure one GPU: its reads of each of its pools, both directions of its link with the CPU's pool unless they are the same,
 * and the CPU's reads together with its own where they read one pool. A series takes about `seconds`. What fails becomes a
 * rejected series or a note. Returns MB_OK; MB_ENOMEM; MB_ECANCEL. */
int mb_measure_gpu(struct mb_measuring *run, unsigned processor, double seconds);

/* Fill rates, levels, spread and n_samples of a series from its samples. Returns MB_OK; MB_EINVAL; MB_ENOMEM. */
int mb_measure_summarise(struct mb_measured *series, const double *samples, unsigned n);

#endif
