/* SPDX-License-Identifier: MIT */
/* Predictions beside the measurements of the bench: the planner's cost model on the part of the machine that this engine uses,
 * the CPU and the memory that it reads best. */
#include "engine/bench.h"
#include "machine/machine.h"
#include "plan/predict.h"

#include <stdlib.h>
#include <string.h>

struct mb_forecast {
    struct mb_machine machine; /* the caller's with the CPU as its only processor */
    struct mb_processor cpu;
    struct mb_read read; /* by the bound of a row */
    struct mb_load *load;
    uint8_t *pool_of_unit;
    struct mb_cost cost;
    struct mb_prediction prediction;
    struct mb_figure bandwidth;
    int on, by_bound; /* by_bound: no figure of the machine tells its bandwidth */
};

int mb_forecast_open(const struct mb_machine *machine, const struct mb_model *model, uint64_t n_ctx, struct mb_forecast **out,
                     struct mb_err *err)
{
    struct mb_forecast *forecast = calloc(1, sizeof *forecast);
    if (!forecast)
        return mb_fail_memory(err);
    const struct mb_processor *cpu = mb_machine_cpu(machine);
    int code = MB_OK;
    if (cpu && machine->n_pools) {
        code = mb_load_build(model, n_ctx, NULL, &forecast->load, err);
        forecast->pool_of_unit = code ? NULL : calloc(forecast->load->n_units, 1);
        if (!code && !forecast->pool_of_unit)
            code = mb_fail_memory(err);
        forecast->machine = *machine;
        forecast->machine.processors = &forecast->cpu;
        forecast->machine.n_processors = 1;
        forecast->machine.n_links = 0;
        forecast->cpu = *cpu;
        forecast->on = 1;
        forecast->by_bound = mb_cost_init(&forecast->cost, &forecast->machine, "membound", NULL) != MB_OK;
    }
    if (code) {
        mb_forecast_close(forecast);
        return code;
    }
    *out = forecast;
    return MB_OK;
}

void mb_forecast_close(struct mb_forecast *forecast)
{
    if (!forecast)
        return;
    mb_load_free(forecast->load);
    free(forecast->pool_of_unit);
    free(forecast);
}

/* The memory that a CPU reads; of several the first. */
static unsigned host_pool(const struct mb_machine *machine)
{
    unsigned i = 0;
    while (i + 1 < machine->n_pools && machine->pools[i].kind == MB_POOL_VRAM)
        i++;
    return i;
}

static struct mb_figure figure_of(const struct mb_forecast *forecast, unsigned pool)
{
    for (unsigned i = 0; i < forecast->cpu.n_reads; i++) {
        const struct mb_read *read = &forecast->cpu.reads[i];
        if (read->pool == pool && mb_figure_known(&read->bytes_per_s) && read->bytes_per_s.value > 0)
            return read->bytes_per_s;
    }
    return forecast->machine.pools[pool].bandwidth_bytes_per_s;
}

static int set_costs(struct mb_forecast *forecast, const struct mb_bench_row *row)
{
    double bound = (row->bound_before_bytes_per_s + row->bound_after_bytes_per_s) / 2;
    if (!forecast->by_bound)
        return 1; /* set when it opened */
    forecast->read =
        (struct mb_read){host_pool(&forecast->machine),
                         mb_figure_of(bound, MB_MEASURED, "the bound of this run: the machine's own bandwidth is not known")};
    forecast->cpu.reads = &forecast->read;
    forecast->cpu.n_reads = 1;
    return mb_cost_init(&forecast->cost, &forecast->machine, "membound", NULL) == MB_OK;
}

void mb_forecast_row(struct mb_forecast *forecast, struct mb_bench_row *row)
{
    struct mb_prediction *prediction = &forecast->prediction;
    int pool = -1, decode = strcmp(row->phase, "decode") == 0;
    if (!forecast->on || !set_costs(forecast, row) || (pool = mb_cost_best_pool(&forecast->cost)) < 0)
        return;
    memset(forecast->pool_of_unit, pool, forecast->load->n_units);
    int code = decode ? mb_predict_decode(&forecast->cost, forecast->load, forecast->pool_of_unit,
                                          (double)row->depth + (row->n_tokens - 1) / 2.0, prediction, NULL)
                      : mb_predict_prefill(&forecast->cost, forecast->load, forecast->pool_of_unit, row->n_tokens,
                                           (double)row->depth, 0, prediction, NULL);
    if (code)
        return;
    forecast->bandwidth = figure_of(forecast, (unsigned)pool);
    row->predicted = (struct mb_speed){prediction->tokens_per_s, prediction->low, prediction->high,
                                       prediction->bound_tokens_per_s};
    row->holds = row->tokens_per_s >= prediction->low && row->tokens_per_s <= prediction->high;
}

struct mb_figure mb_forecast_bandwidth(const struct mb_forecast *forecast)
{
    return forecast->bandwidth;
}
