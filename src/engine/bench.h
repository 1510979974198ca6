/* SPDX-License-Identifier: MIT */
/* What the bench's files share. Internal to src/engine/bench*.c. */
#ifndef MB_BENCH_H
#define MB_BENCH_H

#include "base/base.h"

/* One block: some tokens between two readings of the memory. */
struct mb_bench_block {
    double tokens_per_s;
    double before, after; /* bytes per second that the memory delivered */
    double cpu_share;     /* of the block's time in which its threads had a CPU, 0..1 */
};

/* Two bounds further apart than this share of the larger one: the memory's speed changed in between. */
#define MB_BENCH_SAME 0.10
/* Threads that had a CPU for less of the time were in each other's way, or in that of other programs. */
#define MB_BENCH_CPU 0.90

/* Did the memory keep its speed during the block, and the threads their CPUs? */
int mb_bench_steady(const struct mb_bench_block *block);

/* Speeds, bounds and fraction of a row from n >= 1 of its blocks; its bytes_per_token must be there. Steady blocks count; if
 * there are none, all do. The blocks are reordered. Pure. */
void mb_bench_sum(struct mb_bench_block *blocks, unsigned n, struct mb_bench_row *row);

/* Predictions of the engine "membound" on the CPU of a machine. */
struct mb_forecast;

/*   machine  in  borrowed; NULL: nothing is predicted
 * MB_OK; MB_ENOMEM; MB_ERANGE: n_ctx. */
int mb_forecast_open(const struct mb_machine *machine, const struct mb_model *model, uint64_t n_ctx, struct mb_forecast **out,
                     struct mb_err *err);
void mb_forecast_close(struct mb_forecast *forecast);

/* Fill the row's predicted and holds. What no figure of the machine tells, the bound of the row itself stands in for. */
void mb_forecast_row(struct mb_forecast *forecast, struct mb_bench_row *row);

/* The bandwidth that the last row was predicted from; unknown: none was. */
struct mb_figure mb_forecast_bandwidth(const struct mb_forecast *forecast);

#endif
