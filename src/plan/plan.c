/* SPDX-License-Identifier: MIT */
/* A plan: the fastest placement with all its figures, other placements beside it, and the sentences that explain it. The
 * placement comes from place.h, the room from memory.h, the speeds from predict.h; here they are only put together. */
#include "plan/plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CTX_DEFAULT = 8192, PREFILL_TOKENS = 512, UBATCH_DEFAULT = 512, ENGINES_MAX = 64 };

/* A placement that is no more than this slower than the fastest, and simpler, is taken: predictions are less certain. */
#define PLAIN_SLACK 1.02

/* Below this many tokens per second people stop waiting. */
#define CRAWL_TOKENS_PER_S 5.0

struct owner {
    struct mb_plan plan;
    struct mb_arena arena;
};

void mb_plan_say(struct mb_arena *arena, const char ***list, unsigned *n, const char *format, ...)
{
    char text[700];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char **entry = mb_arena_append(arena, (void *)list, n, sizeof(*entry));
    if (entry)
        *entry = mb_arena_text(arena, text);
}

static void warn(struct mb_planner *p, const char *text)
{
    mb_plan_say(p->arena, &p->plan->warnings, &p->plan->n_warnings, "%s", text);
}

static struct mb_speed speed_of(const struct mb_prediction *prediction)
{
    return (struct mb_speed){prediction->tokens_per_s, prediction->low, prediction->high, prediction->bound_tokens_per_s};
}

/* ---- what is asked ---- */

static int check_context(struct mb_planner *p, struct mb_err *err)
{
    uint64_t most = p->model->hp.context_max;
    if (most && p->opts.n_ctx > most)
        return mb_fail(err, MB_ERANGE, "a context of %llu tokens: %s takes at most %llu; ask for less",
                       (unsigned long long)p->opts.n_ctx, p->model->name ? p->model->name : "the model",
                       (unsigned long long)most);
    if (p->opts.n_ctx > MB_DEPTH_MAX)
        return mb_fail(err, MB_ERANGE, "a context of %llu tokens is over the limit of %u; ask for less",
                       (unsigned long long)p->opts.n_ctx, MB_DEPTH_MAX);
    if (!p->opts.n_ctx)
        p->opts.n_ctx = most && most < CTX_DEFAULT ? most : CTX_DEFAULT;
    return MB_OK;
}

/* Someone must have room, or there is nothing to plan on. */
static int check_rooms(const struct mb_planner *p, struct mb_err *err)
{
    for (unsigned i = 0; i < p->rooms.n_pools; i++) {
        if (p->rooms.pools[i].usable)
            return MB_OK;
    }
    return mb_fail(err, MB_ENODATA, "%s: no pool has both a known size and a known bandwidth; measure it or state them in a file",
                   p->machine->name);
}

/* ---- memory ---- */

struct group_sum {
    uint64_t bytes;
    double traffic_bytes;
    unsigned n_layers;
};

static void add_group(struct mb_planner *p, const char *name, unsigned pool, const struct group_sum *sum)
{
    if (!sum->bytes)
        return;
    struct mb_plan_group *group = mb_arena_append(p->arena, &p->plan->groups, &p->plan->n_groups, sizeof(*group));
    if (group)
        *group = (struct mb_plan_group){name, pool, sum->n_layers, sum->bytes, sum->traffic_bytes};
}

static void set_groups(struct mb_planner *p, const uint8_t *pool_of_unit)
{
    static const struct {
        enum mb_unit_kind kind;
        const char *name;
    } names[] = {{MB_UNIT_CORE, "attention"},           {MB_UNIT_FFN, "dense FFN"},
                 {MB_UNIT_EXPERTS, "routed experts"},   {MB_UNIT_HEAD, "output"},
                 {MB_UNIT_EMBEDDING, "token embedding"}, {MB_UNIT_LAYER_EMBEDDING, "per-layer embeddings"}};
    const struct mb_load *load = p->load;
    for (unsigned g = 0; g <= MB_COUNT(names); g++) {
        int cache = g == 1; /* after attention */
        unsigned kind = g > 1 ? g - 1 : 0;
        for (unsigned pool = 0; pool < p->plan->n_pools; pool++) {
            struct group_sum sum = {0};
            for (uint32_t i = 0; i < load->n_units; i++) {
                const struct mb_unit *unit = &load->units[i];
                const struct mb_shape *shape = &load->shapes[unit->shape];
                if (pool_of_unit[i] != pool || unit->kind != names[kind].kind)
                    continue;
                uint64_t bytes = cache ? unit->cache_bytes : unit->resident_bytes;
                sum.bytes += bytes;
                sum.n_layers += bytes && unit->layer >= 0;
                sum.traffic_bytes += cache ? mb_shape_kv_bytes(shape, (double)load->n_ctx) + shape->state_bytes / 2
                                           : shape->weight_bytes + shape->row_bytes;
            }
            add_group(p, cache ? "KV cache" : names[kind].name, pool, &sum);
        }
    }
}

static void set_pools(struct mb_planner *p, const struct mb_place_use *use)
{
    struct mb_plan *plan = p->plan;
    for (unsigned i = 0; i < plan->n_pools; i++) {
        struct mb_plan_pool *pool = &plan->pools[i];
        pool->capacity_bytes = p->rooms.pools[i].capacity_bytes;
        pool->reserved_bytes = p->rooms.pools[i].reserved_bytes;
        if (use) {
            pool->weights_bytes = use->weights_bytes[i];
            pool->kv_bytes = use->cache_bytes[i];
            pool->buffers_bytes = use->buffers_bytes[i];
        }
        pool->used_bytes = pool->weights_bytes + pool->kv_bytes + pool->buffers_bytes + pool->reserved_bytes;
    }
}

static void set_layers(struct mb_planner *p, const uint8_t *pool_of_unit)
{
    const struct mb_load *load = p->load;
    struct mb_plan *plan = p->plan;
    size_t n = load->n_layers;
    uint8_t *core = mb_arena_alloc(p->arena, n), *ffn = mb_arena_alloc(p->arena, n), *experts = mb_arena_alloc(p->arena, n);
    plan->output_pool = plan->embedding_pool = MB_PLAN_NOWHERE;
    if (!core || !ffn || !experts)
        return;
    memset(core, (int)MB_PLAN_NOWHERE, n);
    memset(ffn, (int)MB_PLAN_NOWHERE, n);
    memset(experts, (int)MB_PLAN_NOWHERE, n);
    for (uint32_t i = 0; i < load->n_units && pool_of_unit; i++) {
        const struct mb_unit *unit = &load->units[i];
        switch (unit->kind) {
        case MB_UNIT_CORE: core[unit->layer] = pool_of_unit[i]; break;
        case MB_UNIT_FFN: ffn[unit->layer] = pool_of_unit[i]; break;
        case MB_UNIT_EXPERTS: experts[unit->layer] = pool_of_unit[i]; break;
        case MB_UNIT_HEAD: plan->output_pool = pool_of_unit[i]; break;
        case MB_UNIT_EMBEDDING: plan->embedding_pool = pool_of_unit[i]; break;
        default: break;
        }
    }
    plan->n_layers = load->n_layers;
    plan->core_pool = core;
    plan->ffn_pool = ffn;
    plan->experts_pool = experts;
}

/* The longest context for which the units still fit where they are. */
static int find_ctx_max(struct mb_planner *p, const uint8_t *pool_of_unit, struct mb_err *err)
{
    uint64_t low = p->opts.n_ctx, high = p->model->hp.context_max ? p->model->hp.context_max : 1u << 20;
    for (unsigned step = 0; step < 24 && low < high; step++) {
        uint64_t middle = step ? low + (high - low + 1) / 2 : high;
        struct mb_load *load;
        struct mb_rooms rooms;
        struct mb_place_use use;
        int code = mb_load_build(p->model, middle, &p->opts.kv, &load, err);
        if (code)
            return code;
        mb_rooms_find(&p->cost, load, &p->opts, &rooms);
        mb_place_measure(load, &rooms, pool_of_unit, &use);
        mb_load_free(load);
        if (use.fits)
            low = middle;
        else
            high = middle - 1;
    }
    p->plan->ctx_max = low;
    return MB_OK;
}

/* ---- speeds ---- */

static enum mb_provenance provenance_of(enum mb_known_by known_by)
{
    switch (known_by) {
    case MB_BY_MEASUREMENT: return MB_MEASURED;
    case MB_BY_FILE: return MB_REPORTED;
    case MB_BY_LOOKUP: return MB_SPEC;
    default: return MB_DERIVED;
    }
}

static const char *term_detail(struct mb_planner *p, const struct mb_cost_term *term)
{
    char rate[32], fitted[64] = "assumed, not fitted";
    if (term->n_rows)
        snprintf(fitted, sizeof fitted, "fitted on %u measurements", term->n_rows);
    if (term->pool >= 0 && term->bytes_per_s > 0) {
        double bandwidth = p->cost.pools[term->pool].bytes_per_s;
        return mb_arena_format(p->arena, "%s %s x %.2f, %s", mb_format_rate(bandwidth, rate, sizeof rate),
                               term->known_by == MB_BY_MEASUREMENT ? "measured" : "looked up",
                               term->bytes_per_s / bandwidth, fitted);
    }
    if (term->bytes_per_s > 0)
        return mb_arena_format(p->arena, "at %s, %s", mb_format_rate(term->bytes_per_s, rate, sizeof rate),
                               term->known_by == MB_BY_MEASUREMENT ? "measured" : "looked up");
    if (term->count > 0)
        return mb_arena_format(p->arena, "%.0f x %.1f us, %s", term->count, term->seconds / term->count * 1e6, fitted);
    return mb_arena_text(p->arena, fitted);
}

static void set_terms(struct mb_planner *p, const struct mb_prediction *prediction, struct mb_term **out, unsigned *out_n)
{
    struct mb_term *terms = mb_arena_array(p->arena, prediction->n_terms, sizeof(*terms));
    if (!terms)
        return;
    for (unsigned i = 0; i < prediction->n_terms; i++) {
        const struct mb_cost_term *term = &prediction->terms[i];
        terms[i] = (struct mb_term){.name = term->pool < 0 ? mb_arena_text(p->arena, term->what)
                                                           : mb_arena_format(p->arena, "%s, %s", term->what,
                                                                             p->machine->pools[term->pool].id),
                                    .seconds = term->seconds,
                                    .bytes = term->bytes,
                                    .bytes_per_s = term->bytes_per_s,
                                    .provenance = provenance_of(term->known_by),
                                    .detail = term_detail(p, term)};
    }
    *out = terms;
    *out_n = prediction->n_terms;
}

static int set_depths(struct mb_planner *p, const uint8_t *pools, struct mb_err *err)
{
    static const uint64_t depths[] = {0,     1024,  4096,   8192,   16384,  32768,
                                      65536, 131072, 262144, 524288, 1048576};
    struct mb_prediction prediction;
    for (unsigned i = 0; i <= MB_COUNT(depths); i++) {
        uint64_t depth = i < MB_COUNT(depths) ? depths[i] : p->opts.n_ctx;
        if (i < MB_COUNT(depths) && depth >= p->opts.n_ctx)
            continue;
        int code = mb_predict_decode(&p->cost, p->load, pools, (double)depth, &prediction, err);
        if (code)
            return code;
        struct mb_plan_depth *row = mb_arena_append(p->arena, &p->plan->by_depth, &p->plan->n_by_depth, sizeof(*row));
        if (row)
            *row = (struct mb_plan_depth){depth, speed_of(&prediction)};
    }
    return MB_OK;
}

static int set_speeds(struct mb_planner *p, const uint8_t *pools, struct mb_err *err)
{
    static const double prompts[3] = {1024, 8192, 32768};
    struct mb_plan *plan = p->plan;
    struct mb_prediction prediction;
    unsigned n_batch = p->opts.kv.n_batch ? p->opts.kv.n_batch : UBATCH_DEFAULT;
    int code = mb_predict_decode(&p->cost, p->load, pools, 0, &prediction, err);
    if (code)
        return code;
    plan->decode = speed_of(&prediction);
    set_terms(p, &prediction, &plan->terms, &plan->n_terms);
    code = mb_predict_prefill(&p->cost, p->load, pools, PREFILL_TOKENS, 0, n_batch, &prediction, err);
    if (code)
        return code;
    plan->prefill = speed_of(&prediction);
    set_terms(p, &prediction, &plan->prefill_terms, &plan->n_prefill_terms);
    for (unsigned i = 0; i < 3 && !code; i++) {
        if (prompts[i] <= (double)p->opts.n_ctx)
            code = mb_predict_ttft(&p->cost, p->load, pools, prompts[i], n_batch, &plan->ttft_s[i], err);
    }
    return code ? code : set_depths(p, pools, err);
}

/* ---- other ways ---- */

static void add_other(struct mb_planner *p, const char *name, int fits, double seconds)
{
    struct mb_plan_other *other = mb_arena_append(p->arena, &p->plan->others, &p->plan->n_others, sizeof(*other));
    if (other)
        *other = (struct mb_plan_other){mb_arena_text(p->arena, name), fits, fits && seconds > 0 ? 1 / seconds : 0};
}

/* Does the machine offer a choice at all? */
static unsigned usable_pools(const struct mb_planner *p)
{
    unsigned n = 0;
    for (unsigned i = 0; i < p->rooms.n_pools; i++)
        n += (unsigned)p->rooms.pools[i].usable;
    return n;
}

/* Does this plan read weights from a pool, and not only look rows up? */
static int reads(const struct mb_planner *p, unsigned pool)
{
    const struct mb_plan *plan = p->plan;
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        if (plan->core_pool[i] == pool || plan->ffn_pool[i] == pool || plan->experts_pool[i] == pool)
            return 1;
    }
    return plan->output_pool == pool;
}

/* An engine that leaves a GPU idle is no alternative, nor one whose speed in a pool of this plan nobody knows, nor one whose
 * backend drives nothing here. Other backends are of interest for the engine that was asked for. */
static int is_alternative(const struct mb_planner *p, const char *engine, const struct mb_cost *cost)
{
    const char *backend = strchr(engine, ':');
    int driven = !backend;
    if (backend && strncmp(engine, p->plan->engine, (size_t)(backend - engine) + 1) != 0)
        return 0;
    for (unsigned i = 0; i < cost->n_pools; i++) {
        if (p->cost.pools[i].known && !cost->pools[i].known && (p->machine->pools[i].kind != MB_POOL_SYSTEM || reads(p, i)))
            return 0;
        driven |= backend && cost->pools[i].known && strcmp(mb_backend_name(cost->pools[i].backend), backend + 1) == 0;
    }
    return driven;
}

static void set_others(struct mb_planner *p)
{
    const char *const *engines;
    size_t n_engines;
    struct mb_placement placement;
    double depth = mb_place_depth(p->load);
    if (p->fastest_s < p->placed_s * (1 - 1e-6))
        add_other(p, "the fastest placement, which takes more flags", 1, p->fastest_s);
    for (unsigned rule = 0; rule < MB_N_PLACE_RULES && usable_pools(p) > 1; rule++) {
        if ((rule == MB_PLACE_EXPERTS_HOST || rule == MB_PLACE_FIRST_EXPERTS) && !p->load->moe)
            continue;
        int fits = mb_place_by_rule(&p->placer, &p->cost, &p->rooms, depth, (enum mb_place_rule)rule, &placement);
        add_other(p, mb_place_rule_name((enum mb_place_rule)rule), fits, fits ? placement.seconds : 0);
    }
    engines = mb_engine_names(&n_engines);
    for (size_t i = 0; i < n_engines && i < ENGINES_MAX; i++) {
        struct mb_cost cost;
        struct mb_rooms rooms;
        if (strcmp(engines[i], p->plan->engine) == 0 || strcmp(engines[i], p->cost.engine) == 0 ||
            mb_cost_init(&cost, p->machine, engines[i], NULL) || !is_alternative(p, engines[i], &cost))
            continue;
        mb_rooms_find(&cost, p->load, &p->opts, &rooms);
        int fits = mb_place_best(&p->placer, &cost, &rooms, depth, &placement);
        char name[80];
        snprintf(name, sizeof name, "with %s", engines[i]);
        add_other(p, name, fits, fits ? placement.seconds : 0);
    }
}

/* ---- sentences ---- */

static int has_vram(const struct mb_machine *machine)
{
    for (unsigned i = 0; i < machine->n_pools; i++) {
        if (machine->pools[i].kind == MB_POOL_VRAM)
            return 1;
    }
    return 0;
}

static void set_bottleneck(struct mb_planner *p)
{
    const struct mb_plan *plan = p->plan;
    double reading[MB_COST_POOLS_MAX] = {0}, bytes[MB_COST_POOLS_MAX] = {0}, fixed = 0, crossings = 0, total = 0;
    unsigned worst = 0;
    struct mb_prediction prediction;
    char size[32], rate[32];
    /* By the terms of the very prediction that is shown. */
    if (mb_predict_decode(&p->cost, p->load, p->placer.pool_of_unit, 0, &prediction, NULL))
        return;
    for (unsigned i = 0; i < prediction.n_terms; i++) {
        const struct mb_cost_term *term = &prediction.terms[i];
        total += term->seconds;
        if (term->bytes > 0 && term->pool >= 0) {
            reading[term->pool] += term->seconds;
            bytes[term->pool] += term->bytes;
        } else if (term->pool < 0) {
            crossings += term->seconds;
        } else {
            fixed += term->seconds;
        }
    }
    for (unsigned i = 1; i < plan->n_pools; i++)
        worst = reading[i] > reading[worst] ? i : worst;
    if (!(total > 0))
        return;
    if (reading[worst] >= fixed && reading[worst] >= crossings)
        p->plan->bottleneck = mb_arena_format(
            p->arena, "Reading %.*f GB per token from %s at %s takes %.0f %% of the time.", bytes[worst] < 9.95e9 ? 2 : 1,
            bytes[worst] / 1e9, p->machine->pools[worst].id,
            mb_format_rate(p->cost.pools[worst].bytes_per_s, rate, sizeof rate), 100 * reading[worst] / total);
    else if (fixed >= crossings)
        p->plan->bottleneck = mb_arena_format(
            p->arena,
            "The engine's fixed time per layer and token takes %.0f %% of the time; reading %s per token takes the rest.",
            100 * fixed / total, mb_format_bytes(prediction.bytes, size, sizeof size));
    else
        p->plan->bottleneck = mb_arena_format(p->arena, "Handing over between processors takes %.0f %% of the time.",
                                              100 * crossings / total);
}

/* Bytes that a token reads from host memory although cards are there. */
static double read_by_host(const struct mb_planner *p, const uint8_t *pools)
{
    double bytes = 0;
    for (uint32_t i = 0; i < p->load->n_units; i++) {
        if (pools[i] < p->machine->n_pools && p->machine->pools[pools[i]].kind != MB_POOL_VRAM)
            bytes += p->load->shapes[p->load->units[i].shape].weight_bytes;
    }
    return bytes;
}

static void warn_speed(struct mb_planner *p, const uint8_t *pools)
{
    struct mb_plan *plan = p->plan;
    double slow = has_vram(p->machine) ? read_by_host(p, pools) : 0;
    char text[400];
    if (slow > 0.05 * p->load->weight_bytes && !p->load->moe)
        snprintf(text, sizeof text,
                 "The model is dense and larger than the VRAM, so it %s: each token reads %.1f GB from RAM. A MoE of this "
                 "size may not: a token reads only the experts that it chose.",
                 plan->decode.tokens_per_s < CRAWL_TOKENS_PER_S ? "crawls" : "slows down", slow / 1e9);
    else if (plan->decode.tokens_per_s < CRAWL_TOKENS_PER_S)
        snprintf(text, sizeof text, "Below %.0f tokens/s: this machine's memory is slow for %.1f GB per token.",
                 CRAWL_TOKENS_PER_S, p->load->weight_bytes / 1e9);
    else
        return;
    warn(p, text);
}

static void set_warnings(struct mb_planner *p, const struct mb_placement *placement)
{
    char text[400], a[32], b[32];
    if (placement->fits)
        warn_speed(p, placement->pool_of_unit);
    for (unsigned i = 0; i < p->rooms.n_pools; i++) {
        const struct mb_pool *pool = &p->machine->pools[i];
        double whole = pool->capacity_bytes.value;
        if (!p->rooms.pools[i].usable) {
            snprintf(text, sizeof text, "%s is left out: its %s is unknown; measure it (membound machine --measure) or state it.",
                     pool->id, p->rooms.pools[i].capacity_bytes > 0 ? "bandwidth" : "size");
            warn(p, text);
        } else if (pool->kind == MB_POOL_UNIFIED && p->cost.pools[i].gpu && mb_figure_known(&pool->usable_bytes) &&
                   pool->usable_bytes.value < 0.97 * whole) {
            int how = placement->fits && pool->raise; /* else it is among what would make it fit */
            snprintf(text, sizeof text, "A GPU may use %s of the %s of %s%s%s.",
                     mb_format_bytes(pool->usable_bytes.value, a, sizeof a), mb_format_bytes(whole, b, sizeof b), pool->id,
                     how ? "; to raise that: " : "", how ? pool->raise : "");
            warn(p, text);
        }
    }
    if (p->machine->origin == MB_ORIGIN_DETECTED && !p->machine->measurement)
        warn(p, "Nothing was measured on this machine: the bandwidths are looked up (membound machine --measure).");
    if (placement->fits && !placement->exact)
        warn(p, "The search was cut off: another placement may be slightly faster.");
    if (p->model->size_uncertainty > 0.02) {
        snprintf(text, sizeof text, "The model is counted by rules, without a file: files of this label differ by up to %.0f %%.",
                 100 * p->model->size_uncertainty);
        warn(p, text);
    }
    for (unsigned i = 0; i < p->model->n_warnings; i++)
        warn(p, p->model->warnings[i]);
}

/* What is kept for others, in words. */
static void set_assumption(struct mb_planner *p)
{
    const struct mb_plan_opts *opts = &p->opts;
    const char *why = opts->apps_given                               ? "as asked"
                      : p->machine->origin == MB_ORIGIN_DETECTED ? "in use now"
                                                                 : "assumed; --apps changes it";
    int host = p->rooms.host;
    char a[32], b[32];
    if (host >= 0)
        p->plan->reserved_for = mb_arena_format(
            p->arena, "%s of %s for the system and other programs (%s)%s%s%s",
            mb_format_bytes((double)mb_apps_bytes(p->machine, &p->machine->pools[host], opts), a, sizeof a),
            p->machine->pools[host].id, why,
            p->rooms.pools[host].reserved_bytes ? "" : ", of the part that the GPU may not use",
            has_vram(p->machine) ? ", and of each card " : "",
            has_vram(p->machine) ? mb_format_bytes((double)MB_CARD_KEPT_BYTES, b, sizeof b) : "");
}

/* ---- the whole ---- */

static void set_names(struct mb_planner *p)
{
    struct mb_plan *plan = p->plan;
    const struct mb_machine *machine = p->machine;
    int best = mb_cost_best_pool(&p->cost);
    plan->machine = mb_arena_text(p->arena, machine->name);
    plan->model = mb_arena_text(p->arena, p->model->name ? p->model->name : "(unnamed)");
    plan->quant = mb_arena_text(p->arena, p->model->quant);
    plan->engine = strchr(p->cost.engine, ':') || best < 0
                       ? mb_arena_text(p->arena, p->cost.engine)
                       : mb_arena_format(p->arena, "%s:%s", p->cost.engine, mb_backend_name(p->cost.pools[best].backend));
    plan->n_ctx = p->opts.n_ctx;
    plan->model_bytes = p->model->resident_bytes;
    plan->n_pools = p->rooms.n_pools;
    plan->pools = mb_arena_array(p->arena, plan->n_pools, sizeof(*plan->pools));
    plan->pool_ids = mb_arena_array(p->arena, plan->n_pools, sizeof(*plan->pool_ids));
    plan->pool_names = mb_arena_array(p->arena, plan->n_pools, sizeof(*plan->pool_names));
    plan->pool_raises = mb_arena_array(p->arena, plan->n_pools, sizeof(*plan->pool_raises));
    enum mb_pool_kind *kinds = mb_arena_array(p->arena, plan->n_pools, sizeof(*kinds));
    plan->pool_kinds = kinds;
    plan->kv_type_k = mb_arena_text(p->arena, p->opts.kv.type_k ? p->opts.kv.type_k : "F16");
    plan->kv_type_v = mb_arena_text(p->arena, p->opts.kv.type_v ? p->opts.kv.type_v : "F16");
    plan->n_batch = p->opts.kv.n_batch ? p->opts.kv.n_batch : UBATCH_DEFAULT;
    for (unsigned i = 0; i < machine->n_processors; i++) {
        if (machine->processors[i].kind == MB_PROCESSOR_CPU)
            plan->n_threads += machine->processors[i].n_cores;
    }
    if (p->arena->failed)
        return;
    for (unsigned i = 0; i < plan->n_pools; i++) {
        plan->pool_ids[i] = mb_arena_text(p->arena, machine->pools[i].id);
        plan->pool_names[i] = mb_arena_text(p->arena, machine->pools[i].name);
        plan->pool_raises[i] = mb_arena_text(p->arena, machine->pools[i].raise);
        kinds[i] = machine->pools[i].kind;
    }
}

/* The fastest placement; but where a plain one, which takes one flag, is as good as that, the plain one. */
static int place(struct mb_planner *p, struct mb_placement *out)
{
    struct mb_placement plain;
    double depth = mb_place_depth(p->load);
    if (!mb_place_best(&p->placer, &p->cost, &p->rooms, depth, out))
        return 0;
    p->fastest_s = out->seconds;
    for (unsigned rule = MB_PLACE_IN_ORDER; rule <= MB_PLACE_FIRST_EXPERTS; rule++) {
        if (mb_place_by_rule(&p->placer, &p->cost, &p->rooms, depth, (enum mb_place_rule)rule, &plain) &&
            plain.seconds <= p->fastest_s * PLAIN_SLACK) {
            *out = plain;
            return 1;
        }
    }
    return mb_place_best(&p->placer, &p->cost, &p->rooms, depth, out);
}

static int fill(struct mb_planner *p, struct mb_err *err)
{
    struct mb_placement placement;
    struct mb_place_use use;
    int code = check_context(p, err);
    if (code || (code = mb_cost_init(&p->cost, p->machine, p->opts.engine, err)) ||
        (code = mb_load_build(p->model, p->opts.n_ctx, &p->opts.kv, &p->load, err)))
        return code;
    mb_rooms_find(&p->cost, p->load, &p->opts, &p->rooms);
    if ((code = check_rooms(p, err)) || (code = mb_placer_load(&p->placer, p->load, err)))
        return code;
    set_names(p);
    if (p->arena->failed)
        return mb_fail_memory(err);
    set_assumption(p);
    p->plan->placed_depth = (uint64_t)mb_place_depth(p->load);
    p->plan->fits = place(p, &placement);
    if (!p->plan->fits) {
        set_warnings(p, &placement);
        set_layers(p, NULL);
        set_pools(p, NULL);
        return mb_plan_needs(p, err);
    }
    const uint8_t *pools = placement.pool_of_unit;
    mb_place_measure(p->load, &p->rooms, pools, &use);
    set_pools(p, &use);
    set_groups(p, pools);
    set_layers(p, pools);
    p->placed_s = placement.seconds;
    p->plan->placed_tokens_per_s = 1 / placement.seconds;
    if ((code = set_speeds(p, pools, err)) || (code = find_ctx_max(p, pools, err)))
        return code;
    set_bottleneck(p);
    set_warnings(p, &placement);
    set_others(p); /* last: it uses the placer */
    return MB_OK;
}

int mb_plan_make(const struct mb_machine *machine, const struct mb_model *model, const struct mb_plan_opts *opts,
                 struct mb_plan **out, struct mb_err *err)
{
    struct mb_planner planner = {.machine = machine, .model = model};
    struct owner *owner = calloc(1, sizeof(*owner));
    if (!owner)
        return mb_fail_memory(err);
    if (opts)
        planner.opts = *opts;
    owner->plan.owner = owner;
    planner.plan = &owner->plan;
    planner.arena = &owner->arena;
    int code = fill(&planner, err);
    if (!code && owner->arena.failed)
        code = mb_fail_memory(err);
    mb_placer_free(&planner.placer);
    mb_load_free(planner.load);
    if (code) {
        mb_plan_free(&owner->plan);
        return code;
    }
    *out = &owner->plan;
    return MB_OK;
}

void mb_plan_free(struct mb_plan *plan)
{
    if (!plan)
        return;
    struct owner *owner = plan->owner;
    mb_arena_free(&owner->arena);
    free(owner);
}
