/* SPDX-License-Identifier: MIT */
/* How one model runs on one machine, for both kinds of advice: placed by place.h in the memory that memory.h finds,
 * timed by predict.h, and put in words. Ranking is left to advise_machines.c and advise_models.c, printing to
 * advise_json.c and advise_svg.c. */
#include "plan/advise.h"

#include <math.h>
#include <string.h>

/* A card that leaves a dense model this close to the speed of RAM alone, and too slow to read along, was not worth its
 * price. */
#define POINTLESS_GAIN 2.0

/* Spilling less than this share of what a token reads is no spilling: norms and rows of tables. */
#define SPILL_MIN 0.002

int mb_advise_settle(const struct mb_advise_opts *opts, struct mb_advise_terms *out, struct mb_err *err)
{
    const struct mb_advise_opts none = {0};
    size_t n;
    const char *const *engines = mb_engine_names(&n);
    *out = (struct mb_advise_terms){.opts = opts ? *opts : none};
    struct mb_advise_opts *o = &out->opts;
    if (!isfinite(o->min_tokens_per_s) || !isfinite(o->budget) || o->budget < 0)
        return mb_fail(err, MB_ERANGE, "advice: a speed or budget that is no number from 0 up");
    o->min_tokens_per_s = o->min_tokens_per_s == 0  ? MB_ADVISE_READABLE
                          : o->min_tokens_per_s < 0 ? 0
                                                    : o->min_tokens_per_s;
    o->currency = o->currency ? o->currency : "USD";
    out->engine = o->engine ? o->engine : engines[0];
    size_t length = strcspn(out->engine, ":");
    for (size_t i = 0; i < n; i++) {
        if (strlen(engines[i]) == length && strncmp(engines[i], out->engine, length) == 0)
            return MB_OK;
    }
    char near[120];
    mb_name_nearest(out->engine, engines, n, 3, near, sizeof near);
    return mb_fail(err, MB_ENAME, "engine %.40s: no such engine; %s%s", out->engine,
                   *near ? "did you mean " : "the default is ", *near ? near : engines[0]);
}

/* The memory that decides: the fastest pool that a GPU reads; without one, the fastest of all. */
static void find_fast(struct mb_site *site)
{
    int gpu_found = 0, vram = 0, system = 0;
    for (unsigned i = 0; i < site->machine->n_pools; i++) {
        const struct mb_pool *pool = site->machine->pools + i;
        int gpu = pool->kind != MB_POOL_SYSTEM;
        double rate = mb_figure_known(&pool->bandwidth_bytes_per_s) ? pool->bandwidth_bytes_per_s.value : 0;
        vram |= pool->kind == MB_POOL_VRAM;
        system |= pool->kind != MB_POOL_VRAM;
        if (gpu < gpu_found || (gpu == gpu_found && rate <= site->fast_bytes_per_s))
            continue;
        gpu_found = gpu;
        site->fast_bytes_per_s = rate;
        site->fast_name = pool->kind == MB_POOL_VRAM      ? "VRAM"
                          : pool->kind == MB_POOL_UNIFIED ? "unified memory"
                                                          : "RAM";
    }
    site->spills = vram && system;
}

void mb_site_init(struct mb_site *site, const struct mb_machine *machine, const char *engine)
{
    struct mb_err err;
    *site = (struct mb_site){.machine = machine, .fast_name = "RAM"};
    site->runs = mb_cost_init(&site->cost, machine, engine, &err) == MB_OK;
    if (!site->runs)
        snprintf(site->why, sizeof site->why, "%.199s", err.text);
    find_fast(site);
}

int mb_trial_load(struct mb_trial *trial, const struct mb_load *load, struct mb_err *err)
{
    trial->load = load;
    return mb_placer_load(&trial->placer, load, err);
}

void mb_trial_free(struct mb_trial *trial)
{
    mb_placer_free(&trial->placer);
}

static struct mb_speed speed_of(const struct mb_prediction *prediction)
{
    return (struct mb_speed){prediction->tokens_per_s, prediction->low, prediction->high,
                             prediction->bound_tokens_per_s};
}

/* Share of the bytes that a token reads, at an empty context, from RAM beside a GPU with memory of its own. */
static double slow_share(const struct mb_site *site, const struct mb_load *load, const uint8_t *pool_of_unit)
{
    double slow = 0, all = 0;
    for (uint32_t i = 0; i < load->n_units && site->spills; i++) {
        double bytes = load->shapes[load->units[i].shape].weight_bytes;
        unsigned pool = pool_of_unit[i];
        if (pool >= site->machine->n_pools)
            continue;
        all += bytes;
        slow += site->machine->pools[pool].kind == MB_POOL_VRAM ? 0 : bytes;
    }
    double share = all > 0 ? slow / all : 0;
    return share < SPILL_MIN ? 0 : share;
}

void mb_trial_run(struct mb_trial *trial, const struct mb_site *site, const struct mb_advise_terms *terms,
                  struct mb_outcome *out, double *ram_tokens_per_s)
{
    const struct mb_load *load = trial->load;
    struct mb_rooms rooms;
    struct mb_placement placement;
    struct mb_prediction prediction;
    struct mb_place_use use;
    *out = (struct mb_outcome){.used_bytes = (double)load->resident_bytes + (double)load->cache_bytes};
    if (ram_tokens_per_s)
        *ram_tokens_per_s = 0;
    if (!site->runs) {
        out->misses = MB_MISS_RUN;
        return;
    }
    struct mb_plan_opts opts = {.n_ctx = load->n_ctx,
                                .kv = load->kv,
                                .apps_given = terms->opts.apps_given,
                                .apps_bytes = terms->opts.apps_bytes};
    mb_rooms_find(&site->cost, load, &opts, &rooms);
    for (unsigned i = 0; i < rooms.n_pools; i++)
        out->have_bytes += rooms.pools[i].usable ? (double)rooms.pools[i].room_bytes : 0;
    if (!mb_place_best(&trial->placer, &site->cost, &rooms, mb_place_depth(load), &placement)) {
        out->misses = MB_MISS_FIT;
        return;
    }
    const uint8_t *pools = placement.pool_of_unit;
    mb_place_measure(load, &rooms, pools, &use);
    out->used_bytes = 0;
    for (unsigned i = 0; i < rooms.n_pools; i++)
        out->used_bytes += (double)use.weights_bytes[i] + (double)use.cache_bytes[i] + (double)use.buffers_bytes[i];
    out->slow_share = slow_share(site, load, pools);
    if (mb_predict_decode(&site->cost, load, pools, 0, &prediction, NULL) == MB_OK)
        out->decode = speed_of(&prediction);
    if (mb_predict_decode(&site->cost, load, pools, (double)load->n_ctx, &prediction, NULL) == MB_OK)
        out->decode_full = speed_of(&prediction);
    if (mb_predict_prefill(&site->cost, load, pools, 512, 0, 512, &prediction, NULL) == MB_OK)
        out->prefill = speed_of(&prediction);
    if (out->decode.tokens_per_s < terms->opts.min_tokens_per_s)
        out->misses = MB_MISS_SPEED;
    if (ram_tokens_per_s && out->slow_share > 0 &&
        mb_place_by_rule(&trial->placer, &site->cost, &rooms, 0, MB_PLACE_HOST, &placement) && placement.seconds > 0)
        *ram_tokens_per_s = 1 / placement.seconds;
}

char *mb_speed_text(double tokens_per_s, char *buf, size_t n)
{
    snprintf(buf, n, tokens_per_s >= 99.5 ? "%.0f" : tokens_per_s >= 0.95 ? "%.1f" : "%.2f", tokens_per_s);
    return buf;
}

static double ram_rate(const struct mb_machine *machine)
{
    for (unsigned i = 0; i < machine->n_pools; i++) {
        if (machine->pools[i].kind != MB_POOL_VRAM && mb_figure_known(&machine->pools[i].bandwidth_bytes_per_s))
            return machine->pools[i].bandwidth_bytes_per_s.value;
    }
    return -1;
}

void mb_outcome_explain(struct mb_arena *arena, const struct mb_site *site, const struct mb_load *load,
                    double ram_tokens_per_s, int rates, struct mb_outcome *fit)
{
    char used[32], have[32], fast[32], slow[32], a[16], b[16];
    mb_format_bytes(fit->used_bytes, used, sizeof used);
    mb_format_bytes(fit->have_bytes, have, sizeof have);
    mb_format_rate(site->fast_bytes_per_s > 0 ? site->fast_bytes_per_s : -1, fast, sizeof fast);
    if (fit->misses & MB_MISS_RUN)
        fit->why = mb_arena_text(arena, site->why);
    else if (fit->misses & MB_MISS_FIT)
        fit->why = mb_arena_format(arena, "Needs more than %s; programs can have %s.", used, have);
    else if (fit->slow_share > 0 && rates)
        fit->why = mb_arena_format(arena, "%.0f %% of a token's bytes from VRAM (%s), the rest from RAM (%s).",
                                   100 * (1 - fit->slow_share), fast,
                                   mb_format_rate(ram_rate(site->machine), slow, sizeof slow));
    else if (fit->slow_share > 0)
        fit->why = mb_arena_format(arena, "%.0f %% of a token's bytes from VRAM, the rest from RAM.",
                                   100 * (1 - fit->slow_share));
    else if (rates)
        fit->why = mb_arena_format(arena, "%s, all in %s (%s).", used, site->fast_name, fast);
    else
        fit->why = mb_arena_format(arena, "%s, all in %s.", used, site->fast_name);
    if (fit->misses & (MB_MISS_RUN | MB_MISS_FIT))
        return;
    double rest = load->moe ? 0 : fit->slow_share;
    if (rest > 0.02 && ram_tokens_per_s > 0 && fit->decode.tokens_per_s < MB_ADVISE_READABLE &&
        fit->decode.tokens_per_s < POINTLESS_GAIN * ram_tokens_per_s)
        fit->but = mb_arena_format(arena, "The card is next to pointless: RAM alone does %s, with it %s tok/s.",
                                   mb_speed_text(ram_tokens_per_s, a, sizeof a),
                                   mb_speed_text(fit->decode.tokens_per_s, b, sizeof b));
    else if (rest > 0.02)
        fit->but = mb_arena_format(
            arena, "A dense model beyond the VRAM: %.0f %% of it is read from RAM for every token.", 100 * rest);
    else if (fit->have_bytes > 0 && fit->used_bytes > 0.95 * fit->have_bytes)
        fit->but = mb_arena_format(arena, "Tight: %s of %s that other programs leave.", used, have);
    else if (fit->prefill.tokens_per_s > 0 && (double)load->n_ctx / fit->prefill.tokens_per_s > 60)
        fit->but = mb_arena_format(arena, "Slow to read: about %.0f s before it answers a prompt of %ju tokens.",
                                   (double)load->n_ctx / fit->prefill.tokens_per_s, (uintmax_t)load->n_ctx);
}

void mb_advise_note(struct mb_arena *arena, const char ***notes, unsigned *n_notes, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char **note = mb_arena_append(arena, notes, n_notes, sizeof *note);
    if (note)
        *note = mb_arena_text(arena, text);
}

double mb_machine_load_w(const struct mb_machine *machine)
{
    return mb_figure_known(&machine->power_load_w) ? machine->power_load_w.value : 0;
}
