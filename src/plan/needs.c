/* SPDX-License-Identifier: MIT */
/* What would make a model fit that does not: each remedy is planned before it is named, with the number that does it. The cheap
 * ones come first: settings, other programs, context, cache; then a smaller file; then a larger machine. */
#include "plan/plan.h"


#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CTX_STEP = 1024, CTX_LEAST = 1024, BISECTIONS = 40 };

/* What a system takes with no program open, at most this share of its memory. An assumption. */
#define SYSTEM_BYTES (4ull << 30)
#define SYSTEM_SHARE 8

/* Sizes that RAM, and that cards, are sold with, GiB. */
static const unsigned ram_gib[] = {16, 24, 32, 36, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096};
static const unsigned card_gib[] = {12, 16, 20, 24, 32, 48, 80, 96, 141, 192, 288};

/* A model of the usual kind: what a label means in bits per weight. */
static const char *const yardstick = "Llama-3.1-8B";

/* A machine, a load and options that differ from those asked for. */
struct what_if {
    struct mb_planner *p;
    struct mb_machine machine;
    struct mb_pool *pools; /* own copy */
    struct mb_plan_opts opts;
};

static int begin(struct mb_planner *p, struct what_if *what)
{
    *what = (struct what_if){.p = p, .machine = *p->machine, .opts = p->opts};
    what->pools = mb_arena_array(p->arena, p->machine->n_pools, sizeof(*what->pools));
    if (!what->pools)
        return 0;
    memcpy(what->pools, p->machine->pools, p->machine->n_pools * sizeof(*what->pools));
    what->machine.pools = what->pools;
    return 1;
}

static int load_fits(struct what_if *what, const struct mb_load *load)
{
    struct mb_cost cost = what->p->cost;
    struct mb_rooms rooms;
    struct mb_placement placement;
    cost.machine = &what->machine;
    mb_rooms_find(&cost, load, &what->opts, &rooms);
    return mb_placer_load(&what->p->placer, load, NULL) == MB_OK &&
           mb_place_best(&what->p->placer, &cost, &rooms, mb_place_depth(load), &placement);
}

/* With the context and the cache types of the options; factor: of the weights. */
static int fits(struct what_if *what, const struct mb_model *model, double factor)
{
    struct mb_load *load;
    if (mb_load_build(model, what->opts.n_ctx, &what->opts.kv, &load, NULL))
        return 0;
    if (factor != 1)
        mb_load_scale(load, factor);
    int answer = load_fits(what, load);
    mb_load_free(load);
    return answer;
}

static void say(struct mb_planner *p, const char *text)
{
    mb_plan_say(p->arena, &p->plan->needs, &p->plan->n_needs, "%s", text);
}

/* ---- settings and programs ---- */

/* What the GPU may use once a pool's setting is applied; 0: the text names no figure. */
static double raised_bytes(const struct mb_pool *pool)
{
    static const char *const keys[] = {"iogpu.wired_limit_mb=", "amdgpu.gttsize="};
    for (unsigned i = 0; i < MB_COUNT(keys) && pool->raise; i++) {
        const char *at = strstr(pool->raise, keys[i]);
        double bytes = at ? (double)strtoul(at + strlen(keys[i]), NULL, 10) * MB_MIB : 0;
        if (bytes > pool->usable_bytes.value && bytes <= pool->capacity_bytes.value)
            return bytes;
    }
    return 0;
}

/* The unified pool whose limit can be raised; -1: none. */
static int raisable(const struct mb_planner *p)
{
    for (unsigned i = 0; i < p->rooms.n_pools; i++) {
        if (p->machine->pools[i].kind == MB_POOL_UNIFIED && mb_figure_known(&p->machine->pools[i].usable_bytes) &&
            raised_bytes(&p->machine->pools[i]) > 0)
            return (int)i;
    }
    return -1;
}

/* The most that other programs may take; 0: nothing helps. */
static uint64_t most_apps(struct what_if *what, const struct mb_pool *pool, uint64_t now)
{
    uint64_t share = (uint64_t)pool->capacity_bytes.value / SYSTEM_SHARE;
    uint64_t low = share < SYSTEM_BYTES ? share : SYSTEM_BYTES, high = now;
    what->opts.apps_given = 1;
    what->opts.apps_bytes = low;
    if (now <= low || !load_fits(what, what->p->load))
        return 0;
    for (unsigned i = 0; i < BISECTIONS && high - low > (1u << 26); i++) {
        what->opts.apps_bytes = low + (high - low) / 2;
        if (load_fits(what, what->p->load))
            low = what->opts.apps_bytes;
        else
            high = what->opts.apps_bytes;
    }
    return low;
}

/* The setting that lets the GPU have all but that much: the pool's own, on a Mac with another number. */
static void setting_text(const struct mb_pool *pool, double left, char *buf, size_t n)
{
    if (strstr(pool->raise, "iogpu.wired_limit_mb="))
        snprintf(buf, n, "sudo sysctl iogpu.wired_limit_mb=%.0f", floor((pool->capacity_bytes.value - left) / MB_MIB));
    else
        snprintf(buf, n, "%.250s", pool->raise);
}

static void try_settings(struct mb_planner *p)
{
    struct what_if what;
    char text[700], how[300], a[32], b[32];
    int host = p->rooms.host, limited = raisable(p);
    if (host < 0 || !begin(p, &what))
        return;
    const struct mb_pool *pool = &p->machine->pools[host];
    uint64_t now = mb_apps_bytes(p->machine, pool, &p->opts), most = most_apps(&what, pool, now);
    mb_format_bytes((double)now, b, sizeof b);
    if (most) {
        snprintf(text, sizeof text,
                 "Turn off apps: it fits if the system and other programs take at most %s; the plan keeps %s for them.",
                 mb_format_bytes((double)most, a, sizeof a), b);
        say(p, text);
    }
    if (limited < 0)
        return;
    what.opts = p->opts;
    what.pools[limited].usable_bytes.value = raised_bytes(&what.pools[limited]);
    if (load_fits(&what, p->load)) {
        snprintf(text, sizeof text, "Let the GPU use more of the memory: %.250s.", p->machine->pools[limited].raise);
        say(p, text);
        return;
    }
    if (strstr(p->machine->pools[limited].raise, "iogpu"))
        what.pools[limited].usable_bytes = mb_figure_of(0, MB_UNKNOWN, NULL);
    most = most ? 0 : most_apps(&what, pool, now);
    if (!most)
        return;
    setting_text(&p->machine->pools[limited], (double)most, how, sizeof how);
    snprintf(text, sizeof text,
             "Turn off apps, and let the GPU use more of the memory: it fits if the system and other programs take at most %s "
             "(the plan keeps %s) after %s.",
             mb_format_bytes((double)most, a, sizeof a), b, how);
    say(p, text);
}

/* ---- context and cache ---- */

static void try_cache(struct mb_planner *p)
{
    struct what_if what;
    uint64_t low = CTX_LEAST, high = p->opts.n_ctx;
    char text[200];
    if (!begin(p, &what))
        return;
    what.opts.n_ctx = low;
    if (high > low && fits(&what, p->model, 1)) {
        while (high - low > CTX_STEP) {
            what.opts.n_ctx = low + (high - low) / 2 / CTX_STEP * CTX_STEP;
            if (what.opts.n_ctx == low)
                what.opts.n_ctx = low + CTX_STEP;
            if (fits(&what, p->model, 1))
                low = what.opts.n_ctx;
            else
                high = what.opts.n_ctx;
        }
        snprintf(text, sizeof text, "A shorter context: %lluk tokens fit (--ctx %lluk).", (unsigned long long)low / 1024,
                 (unsigned long long)low / 1024);
        say(p, text);
    }
    what.opts = p->opts;
    if (p->opts.kv.type_k || p->opts.kv.type_v)
        return;
    what.opts.kv.type_k = what.opts.kv.type_v = "Q8_0";
    if (fits(&what, p->model, 1))
        say(p, "A smaller cache: with type Q8_0 it fits (--kv Q8_0).");
}

/* ---- a smaller file ---- */

static double bits_per_weight(const struct mb_model *model)
{
    return model->params ? 8.0 * (double)model->resident_bytes / (double)model->params : 0;
}

static void try_quants(struct mb_planner *p)
{
    size_t n;
    const char *const *names = mb_quant_names(&n);
    struct what_if what;
    double now = bits_per_weight(p->model), scale = 0;
    char spec[300], text[300], size[32];
    if (!begin(p, &what) || !(now > 0))
        return;
    for (size_t i = n; i > 0; i--) {
        struct mb_model *other;
        int own = !p->model->path, found;
        snprintf(spec, sizeof spec, "%s@%s", own && p->model->name ? p->model->name : yardstick, names[i - 1]);
        if (mb_model_catalog(spec, &other, NULL))
            continue;
        scale = bits_per_weight(other) / now;
        double bytes = own ? (double)other->resident_bytes : scale * (double)p->model->resident_bytes;
        found = scale < 0.98 && (own ? fits(&what, other, 1) : fits(&what, p->model, scale));
        mb_model_free(other);
        if (!found)
            continue;
        snprintf(text, sizeof text, "A smaller quantization: %s fits (%s%s).", names[i - 1], own ? "" : "about ",
                 mb_format_bytes(bytes, size, sizeof size));
        say(p, text);
        return;
    }
}

/* ---- a larger machine ---- */

static void resize(struct mb_pool *pool, double bytes)
{
    double old = pool->capacity_bytes.value;
    if (mb_figure_known(&pool->usable_bytes))
        pool->usable_bytes.value *= bytes / old;
    if (mb_figure_known(&pool->free_bytes))
        pool->free_bytes.value += bytes - old;
    pool->capacity_bytes.value = bytes;
}

static void try_size(struct mb_planner *p, unsigned index)
{
    struct what_if what;
    char text[200];
    const struct mb_pool *pool = &p->machine->pools[index];
    static const char *const nouns[] = {"of RAM", "of VRAM", "of unified memory"};
    int card = pool->kind == MB_POOL_VRAM;
    const unsigned *sizes_gib = card ? card_gib : ram_gib;
    for (unsigned i = 0; i < (card ? MB_COUNT(card_gib) : MB_COUNT(ram_gib)); i++) {
        double bytes = sizes_gib[i] * MB_GIB;
        if (bytes <= pool->capacity_bytes.value * 1.02 || !begin(p, &what))
            continue;
        resize(&what.pools[index], bytes);
        if (!load_fits(&what, p->load))
            continue;
        snprintf(text, sizeof text, "A larger machine: %u GiB %s would do%s%s.", sizes_gib[i], nouns[pool->kind],
                 card ? " in place of " : "", card ? pool->id : "");
        say(p, text);
        return;
    }
}

static void try_sizes(struct mb_planner *p)
{
    int vram = 0;
    for (unsigned i = 0; i < p->rooms.n_pools; i++) {
        int card = p->machine->pools[i].kind == MB_POOL_VRAM;
        if (!p->rooms.pools[i].usable || (card && vram))
            continue;
        vram |= card;
        try_size(p, i);
    }
}

/* How much is missing. */
static void say_shortage(struct mb_planner *p)
{
    double room = 0;
    char a[32], b[32], c[32];
    for (unsigned i = 0; i < p->rooms.n_pools; i++)
        room += p->rooms.pools[i].usable ? (double)p->rooms.pools[i].room_bytes : 0;
    p->plan->bottleneck =
        mb_arena_format(p->arena, "It does not fit: weights of %s and a cache of %s, beside buffers, into room for %s.",
                        mb_format_bytes((double)p->load->resident_bytes, a, sizeof a),
                        mb_format_bytes((double)p->load->cache_bytes, b, sizeof b), mb_format_bytes(room, c, sizeof c));
}

int mb_plan_needs(struct mb_planner *p, struct mb_err *err)
{
    say_shortage(p);
    try_settings(p);
    try_cache(p);
    try_quants(p);
    try_sizes(p);
    if (!p->plan->n_needs)
        say(p, "Nothing known makes it fit: the model is too large for machines like this one.");
    return p->arena->failed ? mb_fail_memory(err) : MB_OK;
}
