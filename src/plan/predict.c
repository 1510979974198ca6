/* SPDX-License-Identifier: MIT */
/* The cost model. A pool's costs are prepared once from its bandwidth and the profile; a unit's seconds are then sums of
 * products. Which pool holds what is given; nothing is searched here. docs/prediction.md states the formula. */
#include "plan/predict.h"
#include "plan/profile_table.h"

#include <math.h>
#include <string.h>

enum { UBATCH_DEFAULT = 512, COPY_BATCH_MIN = 32, CACHED_SHAPES = 64 };

/* 80 % of a normal distribution lie within so many standard deviations. */
#define Z80 1.2816

/* A kernel that only reads reaches this share of the spec bandwidth; fitted efficiencies are shares of the spec. */
#define READ_SHARE 0.92

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

static double peak_of(const struct mb_processor *processor)
{
    double best = 0;
    for (unsigned i = 0; i < processor->n_peaks; i++) {
        const struct mb_peak *peak = &processor->peaks[i];
        if ((strcmp(peak->type, "f16") == 0 || strcmp(peak->type, "f32") == 0) && mb_figure_known(&peak->flops_per_s) &&
            peak->flops_per_s.value > best)
            best = peak->flops_per_s.value;
    }
    return best;
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

static void set_pool(struct mb_cost *cost, unsigned pool, const struct mb_profile *profile, struct mb_figure bandwidth)
{
    struct mb_pool_cost *p = &cost->pools[pool];
    const struct mb_processor *processor = &cost->machine->processors[p->processor];
    const double *c = profile->c;
    double base = bandwidth.value;
    p->known = 1;
    p->gpu = processor->kind == MB_PROCESSOR_GPU;
    p->profile = profile;
    p->backend = profile->backend;
    p->bytes_per_s = bandwidth.value;
    p->bandwidth_by = bandwidth.provenance == MB_MEASURED ? MB_BY_MEASUREMENT : MB_BY_LOOKUP;
    if (p->bandwidth_by == MB_BY_MEASUREMENT)
        base /= READ_SHARE;
    for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++) {
        double rate = base * c[MB_C_EFF_FLOAT + class];
        p->s_per_byte[class] = 1 / (rate < p->bytes_per_s ? rate : p->bytes_per_s);
    }
    p->s_per_kv_byte = 1 / (base * c[MB_C_EFF_KV]);
    p->s_per_state_byte = 1 / (base * c[MB_C_EFF_STATE]);
    p->layer_s = c[MB_C_LAYER_S];
    p->recurrent_s = c[MB_C_RECURRENT_S];
    p->mla_s = c[MB_C_MLA_S];
    p->moe_s = c[MB_C_MOE_S];
    p->token_s = c[MB_C_TOKEN_S];
    p->peak_flops_per_s = peak_of(processor);
    p->prefill_flops_per_s = p->peak_flops_per_s > 0 ? p->peak_flops_per_s * c[MB_C_PREFILL_EFF]
                                                     : base * c[MB_C_PREFILL_FLOPS];
    p->prefill_layer_s = c[MB_C_PREFILL_LAYER_S];
    if (c[MB_C_CROSSING_S] > cost->crossing_s)
        cost->crossing_s = c[MB_C_CROSSING_S];
    if (c[MB_C_SIGMA] > cost->sigma)
        cost->sigma = c[MB_C_SIGMA];
}

int mb_cost_init(struct mb_cost *cost, const struct mb_machine *machine, const char *engine, struct mb_err *err)
{
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
        set_pool(cost, i, profile, bandwidth);
        n_known++;
    }
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

/* Seconds of a unit by what they are spent on. */
struct parts {
    double weights[MB_N_WEIGHT_CLASSES];
    double kv, state, fixed;
    double kv_bytes;
};

static void decode_parts(const struct mb_pool_cost *pool, const struct mb_shape *shape, double depth, struct parts *out)
{
    memset(out, 0, sizeof(*out));
    if (shape->kind == MB_UNIT_EMBEDDING || shape->kind == MB_UNIT_LAYER_EMBEDDING || shape->kind == MB_UNIT_UNREAD)
        return;
    for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++)
        out->weights[class] = shape->bytes[class] * pool->s_per_byte[class];
    if (shape->n_cells) {
        out->kv_bytes = mb_shape_kv_bytes(shape, depth);
        out->kv = out->kv_bytes * pool->s_per_kv_byte;
    }
    out->state = shape->state_bytes * pool->s_per_state_byte;
    if (shape->kind == MB_UNIT_CORE)
        out->fixed = pool->layer_s + (shape->mixer == MB_MIX_MLA ? pool->mla_s : shape->mixer >= MB_MIX_GDN ? pool->recurrent_s : 0);
    else if (shape->kind == MB_UNIT_EXPERTS)
        out->fixed = pool->moe_s;
}

static double parts_sum(const struct parts *parts)
{
    double sum = parts->kv + parts->state + parts->fixed;
    for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++)
        sum += parts->weights[class];
    return sum;
}

double mb_unit_decode_seconds(const struct mb_cost *cost, const struct mb_load *load, uint32_t unit, unsigned pool, double depth)
{
    struct parts parts;
    if (pool >= cost->n_pools || !cost->pools[pool].known)
        return INFINITY;
    decode_parts(&cost->pools[pool], &load->shapes[load->units[unit].shape], depth, &parts);
    return parts_sum(&parts);
}

double mb_pool_token_seconds(const struct mb_cost *cost, unsigned pool)
{
    return pool < cost->n_pools && cost->pools[pool].known ? cost->pools[pool].token_s : INFINITY;
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
    double seconds[MB_N_WEIGHT_CLASSES], bytes[MB_N_WEIGHT_CLASSES];
    double kv_s, kv_bytes, state_s, state_bytes, fixed_s;
    unsigned n_fixed;
    int used;
};

static void add_pool_terms(const struct mb_cost *cost, unsigned index, const struct pool_sum *sum, struct mb_prediction *out)
{
    static const char *const names[MB_N_WEIGHT_CLASSES] = {"weights, floats", "weights, 8 bits", "weights, 4 and 5 bits",
                                                           "weights, K types", "weights, code books"};
    const struct mb_pool_cost *pool = &cost->pools[index];
    unsigned n_rows = pool->profile->n_rows;
    for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++)
        add_term(out, &(struct mb_cost_term){names[class], (int)index, sum->bytes[class],
                                        sum->seconds[class] > 0 ? sum->bytes[class] / sum->seconds[class] : 0, 0,
                                        sum->seconds[class], pool->bandwidth_by, n_rows});
    add_term(out, &(struct mb_cost_term){"cache", (int)index, sum->kv_bytes, sum->kv_s > 0 ? sum->kv_bytes / sum->kv_s : 0, 0,
                                    sum->kv_s, pool->bandwidth_by, n_rows});
    add_term(out, &(struct mb_cost_term){"state", (int)index, sum->state_bytes, sum->state_s > 0 ? sum->state_bytes / sum->state_s : 0,
                                    0, sum->state_s, pool->bandwidth_by, n_rows});
    add_term(out, &(struct mb_cost_term){"layers", (int)index, 0, 0, sum->n_fixed, sum->fixed_s, MB_BY_FIT, n_rows});
    add_term(out, &(struct mb_cost_term){"token", (int)index, 0, 0, 1, pool->token_s, MB_BY_FIT, n_rows});
}

static void finish(const struct mb_cost *cost, double n_tokens, double bound_s, struct mb_prediction *out)
{
    out->seconds = 0;
    for (unsigned i = 0; i < out->n_terms; i++)
        out->seconds += out->terms[i].seconds;
    out->tokens_per_s = out->seconds > 0 ? n_tokens / out->seconds : INFINITY;
    out->bound_tokens_per_s = bound_s > 0 ? n_tokens / bound_s : INFINITY;
    out->sigma = cost->sigma;
    out->low = out->tokens_per_s * exp(-Z80 * out->sigma);
    out->high = out->tokens_per_s * exp(Z80 * out->sigma);
}

int mb_predict_decode(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double depth,
                      struct mb_prediction *out, struct mb_err *err)
{
    struct pool_sum sums[MB_COST_POOLS_MAX];
    struct parts cache[CACHED_SHAPES];
    uint8_t cached_pool[CACHED_SHAPES];
    int code = check_pools(cost, load, pool_of_unit, err), last = -1;
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
        struct parts fresh, *parts = unit->shape < CACHED_SHAPES ? &cache[unit->shape] : &fresh;
        if (is_free(unit->kind))
            continue;
        const struct mb_pool_cost *pool = &cost->pools[index];
        if (parts == &fresh || cached_pool[unit->shape] != index) {
            decode_parts(pool, shape, depth, parts);
            if (parts != &fresh)
                cached_pool[unit->shape] = (uint8_t)index;
        }
        struct pool_sum *sum = &sums[index];
        for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++) {
            sum->seconds[class] += parts->weights[class];
            sum->bytes[class] += shape->bytes[class];
        }
        sum->kv_s += parts->kv;
        sum->kv_bytes += parts->kv_bytes;
        sum->state_s += parts->state;
        sum->state_bytes += shape->state_bytes;
        sum->fixed_s += parts->fixed;
        sum->n_fixed += parts->fixed > 0;
        sum->used = 1;
        double bytes = shape->weight_bytes + parts->kv_bytes + shape->state_bytes;
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
        add_term(out, &(struct mb_cost_term){"crossings", -1, 0, 0, crossings, crossings * mb_crossing_seconds(cost, load), MB_BY_FIT, 0});
    finish(cost, 1, bound_s, out);
    return MB_OK;
}

/* ---- prefill ---- */

struct chunk_parts {
    double memory, arithmetic, copy, fixed, bytes;
};

static double chunk_bytes(const struct mb_shape *shape, double n)
{
    if (shape->kind != MB_UNIT_EXPERTS || !shape->n_expert_used)
        return shape->weight_bytes;
    double share = (double)shape->n_expert_used / shape->n_expert;
    return shape->weight_bytes / share * (1 - pow(1 - share, n));
}

/* A chunk of n tokens in a unit; large batches of weights in RAM go over the link to a GPU where that is faster. */
static void prefill_parts(const struct mb_cost *cost, const struct mb_pool_cost *pool, const struct mb_pool_cost *gpu,
                          const struct mb_shape *shape, double n, double depth, struct chunk_parts *out)
{
    double bytes = chunk_bytes(shape, n), flops = shape->prefill_flops * n, memory = 0;
    for (unsigned i = 0; i < shape->n_cells; i++) {
        double cells = mb_cells_mean(&shape->cells[i], depth, n);
        flops += shape->cells[i].flops_per_cell * cells * n;
        memory += shape->cells[i].row_bytes * cells * pool->s_per_kv_byte;
    }
    for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES && shape->weight_bytes > 0; class ++)
        memory += bytes * (shape->bytes[class] / shape->weight_bytes) * pool->s_per_byte[class];
    memory += shape->state_bytes * pool->s_per_state_byte;
    *out = (struct chunk_parts){.bytes = bytes, .fixed = shape->kind == MB_UNIT_CORE ? pool->prefill_layer_s : 0};
    double arithmetic = flops / pool->prefill_flops_per_s, longer = memory > arithmetic ? memory : arithmetic;
    if (!pool->gpu && gpu && cost->link_bytes_per_s > 0 && n >= COPY_BATCH_MIN && shape->n_cells == 0) {
        double copy = bytes / cost->link_bytes_per_s, there = flops / gpu->prefill_flops_per_s;
        if (copy + there < longer) {
            out->copy = copy;
            out->arithmetic = there;
            return;
        }
    }
    if (memory > arithmetic)
        out->memory = memory;
    else
        out->arithmetic = arithmetic;
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
    struct chunk_parts sum = {0};
    int code = check_pools(cost, load, pool_of_unit, err);
    double ubatch = n_ubatch ? n_ubatch : UBATCH_DEFAULT, bound_s = 0;
    if (code)
        return code;
    if (!(n_tokens >= 1) || !(depth >= 0))
        return mb_fail(err, MB_ERANGE, "a prompt of %g tokens at a depth of %g: ask for at least one token", n_tokens, depth);
    double full = floor(n_tokens / ubatch), rest = n_tokens - full * ubatch;
    for (uint32_t i = 0; i < load->n_units; i++) {
        const struct mb_unit *unit = &load->units[i];
        const struct mb_shape *shape = &load->shapes[unit->shape];
        struct chunk_parts parts;
        if (is_free(unit->kind))
            continue;
        const struct mb_pool_cost *pool = &cost->pools[pool_of_unit[i]];
        /* All full chunks cost the same but for attention, which is linear in the depth: the middle one stands for all. */
        for (unsigned last = 0; last < 2; last++) {
            double count = last ? rest > 0 : full, n = last ? rest : ubatch;
            if (count <= 0)
                continue;
            double at = last ? depth + full * ubatch : depth + (full - 1) * ubatch / 2;
            prefill_parts(cost, pool, gpu, shape, n, at, &parts);
            sum.memory += count * parts.memory;
            sum.arithmetic += count * parts.arithmetic;
            sum.copy += count * parts.copy;
            sum.fixed += count * parts.fixed;
            sum.bytes += count * parts.bytes;
            bound_s += count * parts.bytes / pool->bytes_per_s;
        }
    }
    out->n_terms = 0;
    out->bytes = sum.bytes;
    add_term(out, &(struct mb_cost_term){"arithmetic", -1, 0, 0, 0, sum.arithmetic, MB_BY_FIT, 0});
    add_term(out, &(struct mb_cost_term){"memory", -1, sum.bytes, 0, 0, sum.memory, MB_BY_FIT, 0});
    add_term(out, &(struct mb_cost_term){"copies to the GPU", -1, sum.copy * cost->link_bytes_per_s, cost->link_bytes_per_s, 0,
                                    sum.copy, MB_BY_LOOKUP, 0});
    add_term(out, &(struct mb_cost_term){"layers", -1, 0, 0, 0, sum.fixed, MB_BY_FIT, 0});
    finish(cost, n_tokens, bound_s, out);
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
