/* SPDX-License-Identifier: MIT */
/* The cost model. A pool's costs are prepared once from its bandwidth and the profile; a unit's seconds are then sums of
 * products. Which pool holds what is given; nothing is searched here. docs/prediction.md states the formula. */
#include "plan/predict.h"
#include "plan/profile_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { UBATCH_DEFAULT = 512, COPY_BATCH_MIN = 32, CACHED_SHAPES = 64 };

/* 80 % of a normal distribution lie within so many standard deviations. */
#define Z80 1.2816

/* A kernel that only reads reaches this share of the spec bandwidth; fitted efficiencies are shares of the spec. */
#define READ_SHARE 0.92

/* The spread where none was fitted, and the measurements of a chip from which on its own parameters mean something. */
#define SPREAD_DEFAULT 0.25
enum { CHIP_ROWS_SEEN = 3 };

const char *mb_known_by_name(enum mb_known_by known_by)
{
    static const char *const names[] = {"measured here", "read from the file", "looked up", "fitted"};
    return (unsigned)known_by < MB_COUNT(names) ? names[known_by] : "unknown";
}

/* ---- costs ---- */

static const struct mb_read *read_of(const struct mb_processor *processor, unsigned pool)
{
    for (unsigned i = 0; i < processor->n_reads; i++) {
        if (processor->reads[i].pool == pool)
            return &processor->reads[i];
    }
    return NULL;
}

/* The processor that reads a pool best, GPUs before CPUs, and the figure it reads with. */
static int choose_reader(const struct mb_machine *machine, unsigned pool, unsigned *out_processor, struct mb_figure *out)
{
    int found = 0;
    for (unsigned i = 0; i < machine->n_processors; i++) {
        const struct mb_processor *processor = &machine->processors[i];
        const struct mb_read *read = read_of(processor, pool);
        if (!read)
            continue;
        /* What a discrete GPU reads through a link is no home for weights. */
        if (machine->pools[pool].kind == MB_POOL_SYSTEM && processor->kind == MB_PROCESSOR_GPU && !processor->integrated)
            continue;
        struct mb_figure figure = read->bytes_per_s;
        if (!mb_figure_known(&figure) || figure.value <= 0)
            figure = machine->pools[pool].bandwidth_bytes_per_s;
        if (!mb_figure_known(&figure) || figure.value <= 0)
            continue;
        int gpu = processor->kind == MB_PROCESSOR_GPU;
        if (found) {
            int best_gpu = machine->processors[*out_processor].kind == MB_PROCESSOR_GPU;
            if (gpu < best_gpu || (gpu == best_gpu && figure.value <= out->value))
                continue;
        }
        *out_processor = i;
        *out = figure;
        found = 1;
    }
    return found;
}

static void set_pool(struct mb_cost *cost, unsigned pool, const struct mb_profile *profile, struct mb_figure bandwidth,
                     const struct mb_cost_hints *hints, const struct mb_fitted_table *table)
{
    struct mb_pool_cost *p = &cost->pools[pool];
    struct mb_form_context context;
    p->known = 1;
    p->gpu = cost->machine->processors[p->processor].kind == MB_PROCESSOR_GPU;
    p->backend = mb_profile_backend(profile);
    p->bytes_per_s = bandwidth.value;
    p->bandwidth_by = bandwidth.provenance == MB_MEASURED ? MB_BY_MEASUREMENT : MB_BY_LOOKUP;
    snprintf(p->engine, sizeof p->engine, "%s", mb_profile_engine(profile));
    mb_cost_context(cost, pool, hints, &context);
    for (unsigned rate = 0; rate < MB_N_RATES; rate++) {
        unsigned n_rows;
        p->s_per[rate] = mb_form_seconds(&context, (enum mb_rate)rate, table, &n_rows);
        if (rate == MB_RATE_BYTE_K)
            p->n_rows = n_rows;
        /* No fit may read faster than the memory can. */
        if (rate <= MB_RATE_BYTE_CODE && p->s_per[rate] < 1 / p->bytes_per_s)
            p->s_per[rate] = 1 / p->bytes_per_s;
    }
    if (!p->gpu && cost->n_chip_rows)
        return;
    char name[64];
    snprintf(name, sizeof name, "memory chip %.24s %s", context.chip, mb_backend_name(p->backend));
    const struct mb_fitted *chip = mb_fitted_find(table, name);
    cost->n_chip_rows = chip ? chip->n_rows : 0;
}

int mb_cost_context(const struct mb_cost *cost, unsigned pool, const struct mb_cost_hints *hints, struct mb_form_context *out)
{
    const struct mb_pool_cost *p = &cost->pools[pool];
    memset(out, 0, sizeof(*out));
    if (pool >= cost->n_pools || !p->known)
        return 0;
    out->engine = p->engine;
    out->backend = p->backend;
    out->bytes_per_s = p->bandwidth_by == MB_BY_MEASUREMENT ? p->bytes_per_s / READ_SHARE : p->bytes_per_s;
    out->months = hints ? hints->months : NAN;
    out->flash = hints ? hints->flash : -1;
    mb_form_processor(out, &cost->machine->processors[p->processor]);
    return 1;
}

static double spread_of(const struct mb_fitted_table *table, const char *what, int seen)
{
    char name[64];
    snprintf(name, sizeof name, "spread %s %s", what, seen ? "seen" : "unseen");
    const struct mb_fitted *spread = mb_fitted_find(table, name);
    return spread ? spread->value : SPREAD_DEFAULT;
}

static void set_spreads(struct mb_cost *cost, const struct mb_fitted_table *table)
{
    static const char *const names[MB_N_SPREADS] = {"dense", "moe", "hybrid", "cpu"};
    for (unsigned i = 0; i < MB_N_SPREADS; i++)
        cost->sigma[i] = spread_of(table, names[i], cost->n_chip_rows >= CHIP_ROWS_SEEN);
    cost->prompt_sigma = spread_of(table, "prompt", cost->n_chip_rows >= CHIP_ROWS_SEEN);
}

int mb_cost_init_as(struct mb_cost *cost, const struct mb_machine *machine, const char *engine, const struct mb_cost_hints *hints,
                    struct mb_err *err)
{
    const struct mb_fitted_table built_in = {mb_fitted_rows, mb_fitted_n};
    const struct mb_fitted_table *table = hints && hints->table ? hints->table : &built_in;
    unsigned n_known = 0;
    int unsupported = 0;
    memset(cost, 0, sizeof(*cost));
    cost->machine = machine;
    cost->engine = engine ? engine : mb_profile_engines[0];
    cost->n_pools = machine->n_pools < MB_COST_POOLS_MAX ? machine->n_pools : MB_COST_POOLS_MAX;
    for (unsigned i = 0; i < cost->n_pools; i++) {
        const struct mb_profile *profile;
        struct mb_figure bandwidth = {0};
        if (!choose_reader(machine, i, &cost->pools[i].processor, &bandwidth))
            continue;
        int code = mb_profile_for(machine, cost->pools[i].processor, engine, &profile, err);
        if (code == MB_ENOTSUP) {
            unsupported = 1;
            continue;
        }
        if (code)
            return code;
        set_pool(cost, i, profile, bandwidth, hints, table);
        n_known++;
    }
    set_spreads(cost, table);
    const struct mb_form_context anywhere = {.engine = "llama.cpp", .months = NAN};
    cost->crossing_s = mb_form_seconds(&anywhere, MB_RATE_CROSSING, table, NULL);
    cost->copy = mb_form_seconds(&anywhere, MB_RATE_PROMPT_COPY, table, NULL);
    for (unsigned i = 0; i < machine->n_links; i++) {
        const struct mb_link *link = &machine->links[i];
        if (link->from < machine->n_pools && machine->pools[link->from].kind == MB_POOL_SYSTEM &&
            mb_figure_known(&link->bytes_per_s) && link->bytes_per_s.value > cost->link_bytes_per_s)
            cost->link_bytes_per_s = link->bytes_per_s.value;
    }
    if (n_known)
        return MB_OK;
    if (unsupported)
        return mb_fail(err, MB_ENOTSUP, "%s: runs on no processor of %s", cost->engine, machine->name);
    return mb_fail(err, MB_ENODATA, "%s: no memory with a known bandwidth; measure it (membound machine --measure) or state it",
                   machine->name);
}

int mb_cost_init(struct mb_cost *cost, const struct mb_machine *machine, const char *engine, struct mb_err *err)
{
    return mb_cost_init_as(cost, machine, engine, NULL, err);
}

int mb_cost_best_pool(const struct mb_cost *cost)
{
    int best = -1;
    for (unsigned i = 0; i < cost->n_pools; i++) {
        if (cost->pools[i].known && (best < 0 || cost->pools[i].bytes_per_s > cost->pools[best].bytes_per_s))
            best = (int)i;
    }
    return best;
}

/* ---- one unit ---- */

/* Seconds of a unit, by rate. */
struct parts {
    double seconds[MB_N_RATES];
    double amount[MB_N_RATES];
    double sum;
};

static void decode_parts(const struct mb_pool_cost *pool, const struct mb_shape *shape, double depth, struct parts *out)
{
    out->sum = 0;
    mb_shape_amounts(shape, depth, out->amount);
    for (unsigned rate = 0; rate < MB_RATE_TOKEN; rate++)
        out->seconds[rate] = out->amount[rate] * pool->s_per[rate];
    /* What unpacking adds to the time of reading. */
    for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++) {
        double reading = out->seconds[MB_RATE_BYTE_FLOAT + class], *unpacking = &out->seconds[MB_RATE_UNPACK_FLOAT + class];
        if (*unpacking > 0)
            *unpacking = mb_form_join(reading, *unpacking) - reading;
    }
    for (unsigned rate = 0; rate < MB_RATE_TOKEN; rate++)
        out->sum += out->seconds[rate];
}

double mb_unit_decode_seconds(const struct mb_cost *cost, const struct mb_load *load, uint32_t unit, unsigned pool, double depth)
{
    struct parts parts;
    if (pool >= cost->n_pools || !cost->pools[pool].known)
        return INFINITY;
    decode_parts(&cost->pools[pool], &load->shapes[load->units[unit].shape], depth, &parts);
    return parts.sum;
}

double mb_pool_token_seconds(const struct mb_cost *cost, unsigned pool)
{
    return pool < cost->n_pools && cost->pools[pool].known ? cost->pools[pool].s_per[MB_RATE_TOKEN] : INFINITY;
}

double mb_crossing_seconds(const struct mb_cost *cost, const struct mb_load *load)
{
    double bytes = 4.0 * load->n_embd;
    return cost->crossing_s + (cost->link_bytes_per_s > 0 ? bytes / cost->link_bytes_per_s : 0);
}

/* ---- a whole pass ---- */

static int is_free(enum mb_unit_kind kind)
{
    return kind == MB_UNIT_EMBEDDING || kind == MB_UNIT_LAYER_EMBEDDING || kind == MB_UNIT_UNREAD;
}

static int check_pools(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, struct mb_err *err)
{
    for (uint32_t i = 0; i < load->n_units; i++) {
        if (is_free(load->units[i].kind))
            continue;
        if (pool_of_unit[i] >= cost->n_pools)
            return mb_fail(err, MB_EINVAL, "unit %u: there is no pool %u", i, pool_of_unit[i]);
        if (!cost->pools[pool_of_unit[i]].known)
            return mb_fail(err, MB_ENODATA, "%s: nobody reads it at a known bandwidth; measure it or state it",
                           cost->machine->pools[pool_of_unit[i]].id);
    }
    return MB_OK;
}

static void add_term(struct mb_prediction *out, const struct mb_cost_term *term)
{
    if (term->seconds > 0 && out->n_terms < MB_TERMS_MAX)
        out->terms[out->n_terms++] = *term;
}

struct pool_sum {
    double seconds[MB_RATE_TOKEN], amount[MB_RATE_TOKEN];
    int used;
};

/* Rates that are about bytes of memory, as against counts of things. */
static int is_bytes(unsigned rate)
{
    return rate <= MB_RATE_BYTE_CODE || rate == MB_RATE_KV_BYTE || rate == MB_RATE_STATE_BYTE;
}

static void add_pool_terms(const struct mb_cost *cost, unsigned index, const struct pool_sum *sum, struct mb_prediction *out)
{
    const struct mb_pool_cost *pool = &cost->pools[index];
    for (unsigned rate = 0; rate < MB_RATE_TOKEN; rate++) {
        struct mb_cost_term term = {.what = mb_rate_text((enum mb_rate)rate), .pool = (int)index, .seconds = sum->seconds[rate]};
        term.n_rows = pool->n_rows;
        term.known_by = MB_BY_FIT;
        if (is_bytes(rate)) {
            term.bytes = sum->amount[rate];
            term.bytes_per_s = term.seconds > 0 ? term.bytes / term.seconds : 0;
            term.known_by = pool->bandwidth_by;
        } else {
            term.count = sum->amount[rate];
        }
        add_term(out, &term);
    }
    add_term(out, &(struct mb_cost_term){.what = mb_rate_text(MB_RATE_TOKEN), .pool = (int)index, .count = 1,
                                         .seconds = pool->s_per[MB_RATE_TOKEN], .known_by = MB_BY_FIT, .n_rows = pool->n_rows});
}

static void finish(double n_tokens, double bound_s, double sigma, struct mb_prediction *out)
{
    out->seconds = 0;
    for (unsigned i = 0; i < out->n_terms; i++)
        out->seconds += out->terms[i].seconds;
    out->tokens_per_s = out->seconds > 0 ? n_tokens / out->seconds : INFINITY;
    out->bound_tokens_per_s = bound_s > 0 ? n_tokens / bound_s : INFINITY;
    out->sigma = sigma;
    out->low = out->tokens_per_s * exp(-Z80 * sigma);
    out->high = out->tokens_per_s * exp(Z80 * sigma);
}

int mb_predict_decode(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double depth,
                      struct mb_prediction *out, struct mb_err *err)
{
    struct pool_sum sums[MB_COST_POOLS_MAX];
    struct parts cache[CACHED_SHAPES], fresh;
    uint8_t cached_pool[CACHED_SHAPES];
    int code = check_pools(cost, load, pool_of_unit, err), last = -1, any_cpu = 0, any_gpu = 0;
    unsigned crossings = 0;
    double bound_s = 0;
    if (code)
        return code;
    out->n_terms = 0;
    out->bytes = 0;
    memset(sums, 0, cost->n_pools * sizeof(*sums));
    memset(cached_pool, 0xff, sizeof(cached_pool));
    for (uint32_t i = 0; i < load->n_units; i++) {
        const struct mb_unit *unit = &load->units[i];
        const struct mb_shape *shape = &load->shapes[unit->shape];
        unsigned index = pool_of_unit[i];
        struct parts *parts = unit->shape < CACHED_SHAPES ? &cache[unit->shape] : &fresh;
        if (is_free(unit->kind))
            continue;
        const struct mb_pool_cost *pool = &cost->pools[index];
        if (parts == &fresh || cached_pool[unit->shape] != index) {
            decode_parts(pool, shape, depth, parts);
            if (parts != &fresh)
                cached_pool[unit->shape] = (uint8_t)index;
        }
        struct pool_sum *sum = &sums[index];
        for (unsigned rate = 0; rate < MB_RATE_TOKEN; rate++) {
            sum->seconds[rate] += parts->seconds[rate];
            sum->amount[rate] += parts->amount[rate];
        }
        sum->used = 1;
        any_gpu |= pool->gpu;
        any_cpu |= !pool->gpu;
        double bytes = shape->weight_bytes + parts->amount[MB_RATE_KV_BYTE] + shape->state_bytes;
        out->bytes += bytes;
        bound_s += bytes / pool->bytes_per_s;
        crossings += last >= 0 && last != (int)pool->processor;
        last = (int)pool->processor;
    }
    for (unsigned i = 0; i < cost->n_pools; i++) {
        if (sums[i].used)
            add_pool_terms(cost, i, &sums[i], out);
    }
    if (crossings)
        add_term(out, &(struct mb_cost_term){.what = mb_rate_text(MB_RATE_CROSSING), .pool = -1, .count = crossings,
                                             .seconds = crossings * mb_crossing_seconds(cost, load), .known_by = MB_BY_FIT});
    finish(1, bound_s,
           cost->sigma[any_cpu ? any_gpu ? MB_SPREAD_HYBRID : MB_SPREAD_CPU : load->moe ? MB_SPREAD_MOE : MB_SPREAD_DENSE], out);
    return MB_OK;
}

/* ---- prefill ---- */

static double chunk_bytes(const struct mb_shape *shape, double n)
{
    if (shape->kind != MB_UNIT_EXPERTS || !shape->n_expert_used)
        return shape->weight_bytes;
    double share = (double)shape->n_expert_used / shape->n_expert;
    return shape->weight_bytes / share * (1 - pow(1 - share, n));
}

/* One chunk of n tokens at a depth. */
static void chunk_amounts(const struct mb_shape *shape, double n, double depth, double count, double amount[MB_N_RATES])
{
    double bytes = chunk_bytes(shape, n) + shape->state_bytes, flops = shape->prefill_flops * n;
    for (unsigned i = 0; i < shape->n_cells; i++) {
        double cells = mb_cells_mean(&shape->cells[i], depth, n);
        flops += shape->cells[i].flops_per_cell * cells * n;
        bytes += shape->cells[i].row_bytes * cells;
    }
    amount[MB_RATE_PROMPT_FLOP] += count * flops;
    amount[MB_RATE_PROMPT_BYTE] += count * bytes;
    if (shape->kind == MB_UNIT_CORE)
        amount[MB_RATE_PROMPT_LAYER] += count;
}

void mb_prompt_amounts(const struct mb_shape *shape, double n_tokens, double depth, double n_ubatch, double amount[MB_N_RATES])
{
    double full = floor(n_tokens / n_ubatch), rest = n_tokens - full * n_ubatch;
    memset(amount, 0, MB_N_RATES * sizeof(*amount));
    if (is_free(shape->kind))
        return;
    /* All full chunks cost the same but for attention, which is linear in the depth: the middle one stands for all. */
    if (full > 0)
        chunk_amounts(shape, n_ubatch, depth + (full - 1) * n_ubatch / 2, full, amount);
    if (rest > 0)
        chunk_amounts(shape, rest, depth + full * n_ubatch, 1, amount);
}

static const struct mb_pool_cost *first_gpu(const struct mb_cost *cost)
{
    for (unsigned i = 0; i < cost->n_pools; i++) {
        if (cost->pools[i].known && cost->pools[i].gpu)
            return &cost->pools[i];
    }
    return NULL;
}

int mb_predict_prefill(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double n_tokens,
                       double depth, unsigned n_ubatch, struct mb_prediction *out, struct mb_err *err)
{
    const struct mb_pool_cost *gpu = first_gpu(cost);
    int code = check_pools(cost, load, pool_of_unit, err);
    double ubatch = n_ubatch ? n_ubatch : UBATCH_DEFAULT, bound_s = 0, copied = 0;
    double seconds[MB_N_RATES] = {0}, total[MB_N_RATES] = {0}, amount[MB_N_RATES];
    if (code)
        return code;
    if (!(n_tokens >= 1) || !(depth >= 0))
        return mb_fail(err, MB_ERANGE, "a prompt of %g tokens at a depth of %g: ask for at least one token", n_tokens, depth);
    for (uint32_t i = 0; i < load->n_units; i++) {
        const struct mb_shape *shape = &load->shapes[load->units[i].shape];
        if (is_free(shape->kind))
            continue;
        const struct mb_pool_cost *pool = &cost->pools[pool_of_unit[i]];
        mb_prompt_amounts(shape, n_tokens, depth, ubatch, amount);
        double bytes = amount[MB_RATE_PROMPT_BYTE], here = 0;
        bound_s += bytes / pool->bytes_per_s;
        for (unsigned rate = MB_RATE_PROMPT_FLOP; rate <= MB_RATE_PROMPT_LAYER; rate++) {
            here += amount[rate] * pool->s_per[rate];
            total[rate] += amount[rate];
        }
        /* Large batches of weights in RAM are copied to a GPU where that is faster. */
        double copy = gpu && !pool->gpu && cost->link_bytes_per_s > 0 && n_tokens >= COPY_BATCH_MIN && !shape->n_cells
                          ? bytes / cost->link_bytes_per_s * cost->copy
                          : INFINITY;
        double there = gpu ? amount[MB_RATE_PROMPT_FLOP] * gpu->s_per[MB_RATE_PROMPT_FLOP] : 0;
        if (copy + there < here) {
            copied += bytes;
            seconds[MB_RATE_PROMPT_COPY] += copy;
            seconds[MB_RATE_PROMPT_FLOP] += there;
            continue;
        }
        for (unsigned rate = MB_RATE_PROMPT_FLOP; rate <= MB_RATE_PROMPT_LAYER; rate++)
            seconds[rate] += amount[rate] * pool->s_per[rate];
    }
    out->n_terms = 0;
    out->bytes = total[MB_RATE_PROMPT_BYTE];
    total[MB_RATE_PROMPT_COPY] = copied;
    for (unsigned rate = MB_RATE_PROMPT_FLOP; rate < MB_N_RATES; rate++) {
        int bytes = rate == MB_RATE_PROMPT_BYTE || rate == MB_RATE_PROMPT_COPY;
        add_term(out, &(struct mb_cost_term){.what = mb_rate_text((enum mb_rate)rate), .pool = -1, .seconds = seconds[rate],
                                             .bytes = bytes ? total[rate] : 0, .count = bytes ? 0 : total[rate],
                                             .bytes_per_s = bytes && seconds[rate] > 0 ? total[rate] / seconds[rate] : 0,
                                             .known_by = MB_BY_FIT});
    }
    finish(n_tokens, bound_s, cost->prompt_sigma, out);
    return MB_OK;
}

int mb_predict_ttft(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double n_tokens,
                    unsigned n_ubatch, double *out_seconds, struct mb_err *err)
{
    struct mb_prediction prompt, token;
    int code = mb_predict_prefill(cost, load, pool_of_unit, n_tokens, 0, n_ubatch, &prompt, err);
    if (code || (code = mb_predict_decode(cost, load, pool_of_unit, n_tokens, &token, err)))
        return code;
    *out_seconds = prompt.seconds + token.seconds;
    return MB_OK;
}
