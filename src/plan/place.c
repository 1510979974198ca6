/* SPDX-License-Identifier: MIT */
/* The search for the fastest placement. For every device and every pair of layers there is one question: if the device holds
 * the cores of this range, which items should it leave to the host? That is a knapsack over a few classes of equal layers,
 * solved by branch and bound; a recursion over devices and ranges puts the answers together. What memory there is comes from
 * memory.h, what a unit costs from predict.h; nothing here knows either formula. */
#include "plan/place.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(MB_COST_POOLS_MAX <= 32, "pools are bits of 32");

enum { NODES_MAX = 4000, PRICE_STEPS = 24, WALK_MAX = 50000, HEAD_OUT = 0x80, NO_ITEM = MB_PLACE_NO_UNIT };

/* ---- one question ---- */

struct search {
    struct mb_placer *placer;
    const struct mb_cost *cost;
    const struct mb_rooms *rooms;
    unsigned device[MB_COST_POOLS_MAX]; /* pools other than the host's, in the machine's order */
    unsigned n_devices;
    int host;              /* the host's pool where units may lie there; else -1 */
    double host_room;      /* for units */
    double crossing_s;
    double price;          /* seconds that a byte in host memory is made to cost, so that a tight host is spared */
    int host_slower;       /* for every shape and device */
    double least_per_byte; /* seconds that leaving one byte to the host costs at least */
    int cut;               /* a branch and bound gave up */
    /* the range at hand */
    unsigned n_ways, nodes;
    double need, freed_max; /* bytes that the host has to take, and can take at most */
    double best, bound;     /* of this question; and what an answer must stay below to matter */
    int found;
};

/* Seconds and bytes of the cheapest way to free the rest, items taken apart: a lower bound. */
static double at_least(const struct search *s, unsigned way, double need)
{
    const struct mb_placer *placer = s->placer;
    double seconds = 0;
    for (; way < s->n_ways; way++) {
        const struct mb_place_way *w = &placer->ways[way];
        double n = placer->counts[w->class];
        if (w->seconds <= 0) {
            seconds += n * w->seconds;
            need -= n * (double)w->bytes;
        } else if (need <= 0) {
            break;
        } else if (n * (double)w->bytes >= need) {
            return seconds + need / (double)w->bytes * w->seconds;
        } else {
            seconds += n * w->seconds;
            need -= n * (double)w->bytes;
        }
    }
    return need > 0 ? INFINITY : seconds;
}

static void branch(struct search *s, unsigned way, double need, double freed, double seconds)
{
    struct mb_placer *placer = s->placer;
    double limit = s->best < s->bound ? s->best : s->bound;
    if (++s->nodes > NODES_MAX) {
        s->cut = 1;
        return;
    }
    if (freed > s->freed_max || seconds + at_least(s, way, need) >= limit)
        return;
    if (way == s->n_ways) {
        s->best = seconds;
        s->found = 1;
        memcpy(placer->chosen, placer->tried, s->n_ways * sizeof(*placer->chosen));
        return;
    }
    const struct mb_place_way *w = &placer->ways[way];
    uint32_t most = placer->counts[w->class], least = 0;
    if (w->seconds > 0) { /* no more than what is needed, and the last way must do it */
        double enough = need > 0 ? ceil(need / (double)w->bytes) : 0;
        most = enough < most ? (uint32_t)enough : most;
        least = way + 1 == s->n_ways ? most : 0;
    }
    for (uint32_t n = most + 1; n-- > least && s->nodes <= NODES_MAX;) {
        placer->tried[way] = n;
        placer->counts[w->class] -= n;
        branch(s, way + 1, need - n * (double)w->bytes, freed + n * (double)w->bytes, seconds + n * w->seconds);
        placer->counts[w->class] += n;
    }
}

/* The least extra seconds with which the host takes `need` bytes of the layers counted in placer->counts; INFINITY: it
 * can't, or not below `bound`. The choice is left in placer->chosen. */
static double leave_to_host(struct search *s, double need, double freed_max, double bound)
{
    if (need <= 0 && (!s->n_ways || s->placer->ways[0].seconds > 0)) {
        memset(s->placer->chosen, 0, s->n_ways * sizeof(*s->placer->chosen));
        return bound > 0 ? 0 : INFINITY;
    }
    s->nodes = 0;
    s->found = 0;
    s->best = INFINITY;
    s->bound = bound;
    s->freed_max = freed_max;
    branch(s, 0, need, 0, 0);
    return s->found ? s->best : INFINITY;
}

/* ---- devices and ranges ---- */

static double unit_s(const struct mb_placer *placer, int32_t unit, unsigned pool)
{
    return placer->shape_s[(size_t)placer->load->units[unit].shape * MB_COST_POOLS_MAX + pool];
}

static double unit_bytes(const struct mb_placer *placer, int32_t unit)
{
    return (double)(placer->load->units[unit].resident_bytes + placer->load->units[unit].cache_bytes);
}

/* Where a layer's units run after one another: on the device (0), the host (1) or the next device (2). */
static unsigned changes(const struct mb_place_layer *layer, unsigned mask, unsigned next)
{
    unsigned at = 0, n = 0;
    for (unsigned i = 0; i < 2; i++) {
        if (layer->item[i] != NO_ITEM) {
            n += at != (mask >> i & 1);
            at = mask >> i & 1;
        }
    }
    return n + (at != next);
}

static unsigned masks_of(const struct mb_place_layer *layer)
{
    return (layer->item[0] != NO_ITEM ? 1u : 0) | (layer->item[1] != NO_ITEM ? 2u : 0);
}

/* What it costs, and frees, to leave items of a layer to the host. */
static double mask_seconds(const struct search *s, const struct mb_place_layer *layer, unsigned mask, unsigned pool)
{
    double seconds = 0;
    for (unsigned i = 0; i < 2; i++) {
        if (mask >> i & 1)
            seconds += unit_s(s->placer, layer->item[i], (unsigned)s->host) - unit_s(s->placer, layer->item[i], pool) +
                       s->price * unit_bytes(s->placer, layer->item[i]);
    }
    return seconds;
}

static double mask_bytes(const struct search *s, const struct mb_place_layer *layer, unsigned mask)
{
    double bytes = 0;
    for (unsigned i = 0; i < 2; i++)
        bytes += mask >> i & 1 ? unit_bytes(s->placer, layer->item[i]) : 0;
    return bytes;
}

static double crossing_between(const struct search *s, unsigned a, unsigned b)
{
    return s->cost->pools[a].processor != s->cost->pools[b].processor ? s->crossing_s : 0;
}

static int by_ratio(const void *a, const void *b)
{
    const struct mb_place_way *x = a, *y = b;
    double l = x->seconds * (double)y->bytes, r = y->seconds * (double)x->bytes;
    return l < r ? -1 : l > r ? 1 : x->bytes > y->bytes ? -1 : x->bytes < y->bytes ? 1 : 0;
}

/* Sums over the layers on a device, and the ways to leave a part of an inner layer to the host, cheapest per byte first. */
static void set_device(struct search *s, unsigned pool)
{
    struct mb_placer *placer = s->placer;
    uint32_t seen = 0;
    s->n_ways = 0;
    placer->device_s[0] = placer->device_bytes[0] = 0;
    for (uint32_t i = 0; i < placer->n_layers; i++) {
        const struct mb_place_layer *layer = &placer->layers[i];
        double seconds = 0, bytes = 0;
        const int32_t units[3] = {layer->core, layer->item[0], layer->item[1]};
        for (unsigned u = 0; u < 3; u++) {
            if (units[u] == NO_ITEM)
                continue;
            seconds += unit_s(placer, units[u], pool);
            bytes += unit_bytes(placer, units[u]);
        }
        placer->device_s[i + 1] = placer->device_s[i] + seconds;
        placer->device_bytes[i + 1] = placer->device_bytes[i] + bytes;
        if (layer->class != seen || i + 1 == placer->n_layers || s->host < 0)
            continue;
        seen++; /* classes are numbered in the order of their first layers */
        for (unsigned mask = 1; mask < MB_PLACE_MASKS; mask++) {
            if (mask & ~masks_of(layer))
                continue;
            struct mb_place_way *way = &placer->ways[s->n_ways];
            way->class = layer->class;
            way->mask = mask;
            way->bytes = (uint64_t)mask_bytes(s, layer, mask);
            way->seconds = mask_seconds(s, layer, mask, pool) +
                           changes(layer, mask, 0) * crossing_between(s, pool, (unsigned)s->host);
            s->n_ways += way->bytes > 0;
        }
    }
    qsort(placer->ways, s->n_ways, sizeof(*placer->ways), by_ratio);
}

static size_t at(const struct search *s, unsigned k, uint32_t end)
{
    return (size_t)k * (s->placer->n_layers + 1) + end;
}

/* The pool of the last range before layer `end`, when the devices up to k are used as best_from says; -1: none. */
static int pool_before(const struct search *s, unsigned k, uint32_t end)
{
    while (k > 0 && s->placer->best_from[at(s, k, end)] < 0)
        k--;
    return k ? (int)s->device[k - 1] : end ? s->host : -1;
}

/* Keep the answer for layers [0, end) on devices up to k, if it is the best one yet. */
static void keep(struct search *s, unsigned k, uint32_t start, uint32_t end, unsigned mask, double seconds)
{
    size_t i = at(s, k, end);
    if (seconds < s->placer->best_s[i]) {
        s->placer->best_s[i] = seconds;
        s->placer->best_from[i] = (int32_t)start;
        s->placer->best_mask[i] = (uint8_t)mask;
    }
}

/* Cores [start, end) on device k: without the host. */
static void range_without_host(struct search *s, unsigned k, uint32_t start, uint32_t end, double before)
{
    const struct mb_placer *placer = s->placer;
    const struct mb_room *room = &s->rooms->pools[s->device[k - 1]];
    double bytes = placer->device_bytes[end] - placer->device_bytes[start] + (double)room->buffers_bytes;
    if (end == placer->n_layers)
        bytes += (double)room->head_bytes;
    if (bytes <= (double)room->room_bytes)
        keep(s, k, start, end, 0, before + placer->device_s[end] - placer->device_s[start]);
}

/* The same with the host: placer->counts holds the layers from start to end, the head's not among them. */
static void range_with_host(struct search *s, unsigned k, uint32_t start, uint32_t end, double before)
{
    struct mb_placer *placer = s->placer;
    unsigned pool = s->device[k - 1];
    const struct mb_room *room = &s->rooms->pools[pool];
    double cross = crossing_between(s, pool, (unsigned)s->host), have = (double)room->room_bytes;
    double seconds = before + placer->device_s[end] - placer->device_s[start];
    double bytes = placer->device_bytes[end] - placer->device_bytes[start] + (double)room->buffers_bytes +
                   (double)room->copy_bytes;
    double host_left = s->host_room - (s->n_devices == 1 ? placer->host_bytes[start] : 0);
    size_t target = at(s, k, end);
    uint32_t last = end - 1;
    double head_s = 0, head_bytes = 0;
    unsigned out = 0, next = 2;
    if (end == placer->n_layers) {
        double more = leave_to_host(s, bytes + (double)room->head_bytes - have, host_left, placer->best_s[target] - seconds);
        keep(s, k, start, end, 0, seconds + more);
        if (start == last || s->host < 0)
            return;
        const struct mb_place_layer *head = &placer->layers[last--];
        if (head->item[0] == NO_ITEM)
            return;
        head_s = mask_seconds(s, head, 1, pool);
        head_bytes = mask_bytes(s, head, 1);
        host_left -= (double)s->rooms->pools[s->host].head_bytes;
        out = HEAD_OUT;
        next = 1;
    }
    /* The last layer before another device or the host: leaving its items to the host costs fewer crossings. */
    const struct mb_place_layer *layer = &placer->layers[last];
    placer->counts[layer->class]--;
    for (unsigned mask = 0; mask < MB_PLACE_MASKS; mask++) {
        if (mask & ~masks_of(layer))
            continue;
        double crossings = changes(layer, mask, next) - (next == 2 ? 1.0 : 0.0);
        double fixed = seconds + head_s + crossings * cross + mask_seconds(s, layer, mask, pool);
        double freed = head_bytes + mask_bytes(s, layer, mask);
        double more = leave_to_host(s, bytes - freed - have, host_left - freed, placer->best_s[target] - fixed);
        if (host_left - freed >= 0)
            keep(s, k, start, end, mask | out, fixed + more);
    }
    placer->counts[layer->class]++;
}

/* Fill the table for all devices. with_host: units may lie in host memory, and its costs and copies are paid. */
static void fill_table(struct search *s, int with_host)
{
    struct mb_placer *placer = s->placer;
    uint32_t n = placer->n_layers;
    double host_token = with_host ? mb_pool_token_seconds(s->cost, (unsigned)s->host) : 0;
    for (uint32_t end = 0; end <= n; end++) {
        placer->best_s[end] = end == 0 ? host_token : with_host ? host_token + placer->host_s[end] : INFINITY;
        placer->best_from[end] = -1;
    }
    for (unsigned k = 1; k <= s->n_devices; k++) {
        unsigned pool = s->device[k - 1];
        double token = mb_pool_token_seconds(s->cost, pool);
        set_device(s, pool);
        for (uint32_t end = k == s->n_devices ? n : 0; end <= n; end++) {
            placer->best_s[at(s, k, end)] = placer->best_s[at(s, k - 1, end)];
            placer->best_from[at(s, k, end)] = -1;
            memset(placer->counts, 0, placer->n_classes * sizeof(*placer->counts));
            for (uint32_t start = end; start-- > 0;) {
                double before = placer->best_s[at(s, k - 1, start)] + token;
                int previous = pool_before(s, k - 1, start);
                if (start + 1 < n)
                    placer->counts[placer->layers[start].class]++;
                if (previous >= 0)
                    before += crossing_between(s, (unsigned)previous, pool);
                /* Host memory slower than the device: nothing left to it makes up for a bad start. */
                double least = before + placer->device_s[end] - placer->device_s[start];
                if (!(before < INFINITY) || (s->host_slower && least >= placer->best_s[at(s, k, end)]))
                    continue;
                if (with_host)
                    range_with_host(s, k, start, end, before);
                else
                    range_without_host(s, k, start, end, before);
            }
        }
    }
}

/* ---- reading the table ---- */

static void put(struct mb_placer *placer, int32_t unit, unsigned pool)
{
    if (unit != NO_ITEM)
        placer->pool_of_unit[unit] = (uint8_t)pool;
}

static void put_layer(struct mb_placer *placer, uint32_t index, unsigned pool, unsigned mask, unsigned host)
{
    const struct mb_place_layer *layer = &placer->layers[index];
    put(placer, layer->core, pool);
    put(placer, layer->item[0], mask & 1 ? host : pool);
    put(placer, layer->item[1], mask & 2 ? host : pool);
}

static void put_loose(const struct search *s)
{
    struct mb_placer *placer = s->placer;
    const struct mb_load *load = placer->load;
    unsigned pool = s->rooms->host >= 0 ? (unsigned)s->rooms->host : s->n_devices ? s->device[0] : MB_PLAN_NOWHERE;
    for (uint32_t i = 0; i < load->n_units; i++) {
        if (mb_place_is_loose(load->units[i].kind))
            placer->pool_of_unit[i] = (uint8_t)pool;
        else if (load->units[i].kind == MB_UNIT_UNREAD)
            placer->pool_of_unit[i] = MB_PLAN_NOWHERE;
    }
}

/* Repeat the question of one range, and give out its answer: the first layers of a class go to the host. */
static void put_range(struct search *s, unsigned k, uint32_t start, uint32_t end, unsigned answer)
{
    struct mb_placer *placer = s->placer;
    unsigned pool = s->device[k - 1], host = (unsigned)s->host;
    const struct mb_room *room = &s->rooms->pools[pool];
    double need = placer->device_bytes[end] - placer->device_bytes[start] + (double)room->buffers_bytes +
                  (double)room->copy_bytes - (double)room->room_bytes;
    double left = s->host_room - (s->n_devices == 1 ? placer->host_bytes[start] : 0), freed = 0;
    unsigned mask = answer & (MB_PLACE_MASKS - 1u);
    uint32_t inner = end;
    if (end == placer->n_layers) {
        inner--;
        put_layer(placer, inner, pool, answer & HEAD_OUT ? 1 : 0, host);
        if (answer & HEAD_OUT) {
            freed += mask_bytes(s, &placer->layers[end - 1], 1);
            left -= (double)s->rooms->pools[s->host].head_bytes;
        } else {
            need += (double)room->head_bytes;
        }
    }
    if (end < placer->n_layers || answer & HEAD_OUT) {
        inner--;
        put_layer(placer, inner, pool, mask, host);
        freed += mask_bytes(s, &placer->layers[inner], mask);
    }
    memset(placer->counts, 0, placer->n_classes * sizeof(*placer->counts));
    for (uint32_t i = start; i < inner; i++)
        placer->counts[placer->layers[i].class]++;
    leave_to_host(s, need - freed, left - freed, INFINITY);
    for (uint32_t i = start; i < inner; i++) {
        unsigned way = 0;
        while (way < s->n_ways && (placer->ways[way].class != placer->layers[i].class || !placer->chosen[way]))
            way++;
        if (way < s->n_ways)
            placer->chosen[way]--;
        put_layer(placer, i, pool, way < s->n_ways ? placer->ways[way].mask : 0, host);
    }
}

static void read_table(struct search *s, int with_host)
{
    struct mb_placer *placer = s->placer;
    uint32_t end = placer->n_layers;
    for (unsigned k = s->n_devices; k > 0; k--) {
        int32_t start = placer->best_from[at(s, k, end)];
        if (start < 0)
            continue;
        set_device(s, s->device[k - 1]);
        if (with_host) {
            put_range(s, k, (uint32_t)start, end, placer->best_mask[at(s, k, end)]);
        } else {
            for (uint32_t i = (uint32_t)start; i < end; i++)
                put_layer(placer, i, s->device[k - 1], 0, 0);
        }
        end = (uint32_t)start;
    }
    for (uint32_t i = 0; i < end; i++)
        put_layer(placer, i, (unsigned)s->host, 0, 0);
    put_loose(s);
}

/* ---- the whole ---- */

/* Sums over the layers in host memory. What it can't hold is infinitely slow. */
static void set_host(struct search *s)
{
    struct mb_placer *placer = s->placer;
    placer->host_s[0] = placer->host_bytes[0] = 0;
    for (uint32_t i = 0; i < placer->n_layers; i++) {
        const struct mb_place_layer *layer = &placer->layers[i];
        const int32_t units[3] = {layer->core, layer->item[0], layer->item[1]};
        double seconds = placer->host_s[i], bytes = placer->host_bytes[i];
        for (unsigned u = 0; u < 3; u++) {
            if (units[u] == NO_ITEM)
                continue;
            bytes += unit_bytes(placer, units[u]);
            seconds += unit_s(placer, units[u], (unsigned)s->host) + s->price * unit_bytes(placer, units[u]);
        }
        if (i + 1 == placer->n_layers)
            bytes += (double)s->rooms->pools[s->host].head_bytes;
        placer->host_bytes[i + 1] = bytes;
        placer->host_s[i + 1] = bytes <= s->host_room ? seconds : INFINITY;
    }
}

/* Solve at the price of the search. Returns 1: the placement is in the placer and fits; 0: it does not; -1: there is none. */
static int solve_once(struct search *s, int with_host)
{
    struct mb_placer *placer = s->placer;
    struct mb_place_use use;
    if (with_host)
        set_host(s);
    fill_table(s, with_host);
    if (!(placer->best_s[at(s, s->n_devices, placer->n_layers)] < INFINITY))
        return -1;
    read_table(s, with_host);
    mb_place_measure(placer->load, s->rooms, placer->pool_of_unit, &use);
    return use.fits;
}

/* ---- layer by layer ---- */

/* A walk over all placements, for the case that the table can't settle. */
struct walk {
    struct search *s;
    double best;
    double bytes[MB_COST_POOLS_MAX]; /* taken so far */
    unsigned nodes;
    int improved;
};

/* Seconds that layer i takes at least, on any device. */
static double layer_least(const struct search *s, uint32_t i)
{
    const struct mb_place_layer *layer = &s->placer->layers[i];
    const int32_t units[3] = {layer->core, layer->item[0], layer->item[1]};
    double sum = 0;
    for (unsigned u = 0; u < 3; u++) {
        if (units[u] == NO_ITEM)
            continue;
        double least = unit_s(s->placer, units[u], (unsigned)s->host);
        for (unsigned k = 0; k < s->n_devices; k++) {
            double seconds = unit_s(s->placer, units[u], s->device[k]);
            least = seconds < least ? seconds : least;
        }
        sum += least;
    }
    return sum;
}

/* Put layer i on device k (0: the host) with a mask; -1 when a pool is full, else the seconds that it adds. *last is the pool
 * of the last unit before, and then of this layer's. */
static double walk_put(struct walk *walk, uint32_t i, unsigned k, unsigned mask, int *last)
{
    const struct search *s = walk->s;
    const struct mb_place_layer *layer = &s->placer->layers[i];
    const int32_t units[3] = {layer->core, layer->item[0], layer->item[1]};
    unsigned own = k ? s->device[k - 1] : (unsigned)s->host;
    double seconds = 0;
    for (unsigned u = 0; u < 3; u++) {
        if (units[u] == NO_ITEM)
            continue;
        unsigned pool = u && mask >> (u - 1) & 1 ? (unsigned)s->host : own;
        const struct mb_room *room = &s->rooms->pools[pool];
        if (pool != (unsigned)s->host && walk->bytes[pool] == 0) {
            walk->bytes[pool] = (double)room->buffers_bytes + (double)room->copy_bytes + 1e-6;
            seconds += mb_pool_token_seconds(s->cost, pool);
        }
        walk->bytes[pool] += unit_bytes(s->placer, units[u]);
        if (i + 1 == s->placer->n_layers)
            walk->bytes[pool] += (double)room->head_bytes;
        if (walk->bytes[pool] > (pool == (unsigned)s->host ? s->host_room : (double)room->room_bytes) + 1e-3)
            return -1;
        seconds += unit_s(s->placer, units[u], pool) + (*last >= 0 ? crossing_between(s, (unsigned)*last, pool) : 0);
        *last = (int)pool;
    }
    return seconds;
}

static void walk_on(struct walk *walk, uint32_t i, unsigned from, int last, double seconds)
{
    struct search *s = walk->s;
    struct mb_placer *placer = s->placer;
    const double *rest = placer->device_s; /* least seconds from a layer on */
    uint8_t *devices = placer->best_mask, *masks = placer->best_mask + placer->n_layers + 1;
    if (++walk->nodes > WALK_MAX || seconds + rest[i] >= walk->best)
        return;
    if (i == placer->n_layers) {
        walk->best = seconds;
        walk->improved = 1;
        for (uint32_t l = 0; l < i; l++)
            put_layer(placer, l, devices[l] ? s->device[devices[l] - 1] : (unsigned)s->host, masks[l], (unsigned)s->host);
        return;
    }
    const struct mb_place_layer *layer = &placer->layers[i];
    for (unsigned k = from; k <= s->n_devices; k++) {
        for (unsigned mask = 0; mask < (k ? MB_PLACE_MASKS : 1u); mask++) {
            double kept[MB_COST_POOLS_MAX];
            int now = last;
            if (mask & ~masks_of(layer) || (layer->core == NO_ITEM && mask && k > from))
                continue;
            memcpy(kept, walk->bytes, sizeof(kept));
            double more = walk_put(walk, i, k, mask, &now);
            devices[i] = (uint8_t)k;
            masks[i] = (uint8_t)mask;
            if (more >= 0)
                walk_on(walk, i + 1, k, now, seconds + more);
            memcpy(walk->bytes, kept, sizeof(kept));
        }
    }
}

/* Look for a faster placement than the one in the placer. Returns 1: all were seen. */
static int walk_all(struct search *s, double best, int *improved)
{
    struct mb_placer *placer = s->placer;
    struct walk walk = {.s = s, .best = best};
    placer->device_s[placer->n_layers] = 0;
    for (uint32_t i = placer->n_layers; i-- > 0;)
        placer->device_s[i] = placer->device_s[i + 1] + layer_least(s, i);
    walk_on(&walk, 0, 0, -1, mb_pool_token_seconds(s->cost, (unsigned)s->host));
    *improved = walk.improved;
    return walk.nodes <= WALK_MAX;
}

/* Seconds of the placement in the placer: mb_place_seconds(), from what the shapes are known to cost. */
static double seconds_of(const struct search *s)
{
    const struct mb_placer *placer = s->placer;
    const struct mb_load *load = placer->load;
    uint32_t used = 0;
    int last = -1;
    double seconds = 0;
    for (uint32_t i = 0; i < load->n_units; i++) {
        unsigned pool = placer->pool_of_unit[i];
        if (mb_place_is_loose(load->units[i].kind) || load->units[i].kind == MB_UNIT_UNREAD)
            continue;
        seconds += unit_s(placer, (int32_t)i, pool);
        if (!(used >> pool & 1))
            seconds += mb_pool_token_seconds(s->cost, pool);
        if (last >= 0 && last != (int)pool)
            seconds += crossing_between(s, (unsigned)last, pool);
        used |= 1u << pool;
        last = (int)pool;
    }
    return seconds;
}

/* Host memory may be too small for all ranges together although it is large enough for each: then its bytes are made dearer,
 * by bisection, until it holds them. */
static int solve_with_host(struct search *s)
{
    double low = 0, high = 0;
    int solved = solve_once(s, 1), improved;
    if (solved)
        return solved > 0;
    for (unsigned step = 0; step < PRICE_STEPS; step++) {
        s->price = high > 0 ? (low + high) / 2 : low > 0 ? 8 * low : 1e-13;
        if (solve_once(s, 1) > 0)
            high = s->price;
        else
            low = s->price;
    }
    s->price = high;
    solved = high > 0 && solve_once(s, 1) > 0;
    s->price = 0;
    double seconds = solved ? seconds_of(s) : INFINITY;
    s->cut = !walk_all(s, seconds, &improved);
    return solved || improved;
}

/* Seconds of one unit of each shape in each pool, and whether host memory is the slowest for all. */
static void set_shapes(struct search *s, double depth)
{
    struct mb_placer *placer = s->placer;
    const struct mb_load *load = placer->load;
    uint32_t next = 0;
    s->host_slower = 1;
    s->least_per_byte = INFINITY;
    for (uint32_t i = 0; i < load->n_units && next < load->n_shapes; i++) {
        uint32_t shape = load->units[i].shape; /* numbered in the order of their first units */
        double *seconds = placer->shape_s + (size_t)shape * MB_COST_POOLS_MAX;
        if (shape != next)
            continue;
        next++;
        if (s->host >= 0)
            seconds[s->host] = mb_unit_decode_seconds(s->cost, load, i, (unsigned)s->host, depth);
        for (unsigned k = 0; k < s->n_devices; k++) {
            seconds[s->device[k]] = mb_unit_decode_seconds(s->cost, load, i, s->device[k], depth);
            if (s->host < 0 || mb_place_is_loose(load->units[i].kind) || load->units[i].kind == MB_UNIT_UNREAD)
                continue;
            double more = seconds[s->host] - seconds[s->device[k]], bytes = placer->shape_bytes[shape];
            s->host_slower &= more >= 0;
            if (bytes > 0 && more < s->least_per_byte * bytes)
                s->least_per_byte = more / bytes;
        }
    }
}

/* Can a placement that leaves something to the host still be faster than the one in the placer, which does not? No, if either
 * it uses as many devices, and each unit is at its best already, or it uses fewer, and must leave much to the host. */
static int host_may_help(const struct search *s, double alone_s)
{
    const struct mb_placer *placer = s->placer;
    double least = mb_pool_token_seconds(s->cost, (unsigned)s->host), token = INFINITY, room = 0, smallest = INFINITY;
    uint64_t used = 0;
    unsigned n_used = 0;
    if (!s->host_slower)
        return 1;
    if (s->n_devices == 1)
        return 0;
    for (uint32_t i = 0; i < placer->load->n_units; i++) {
        if (placer->pool_of_unit[i] < 64 && !mb_place_is_loose(placer->load->units[i].kind))
            used |= 1ull << placer->pool_of_unit[i];
    }
    for (unsigned k = 0; k < s->n_devices; k++) {
        const struct mb_room *r = &s->rooms->pools[s->device[k]];
        double seconds = mb_pool_token_seconds(s->cost, s->device[k]), bytes = (double)(r->room_bytes - r->buffers_bytes);
        token = seconds < token ? seconds : token;
        smallest = bytes < smallest ? bytes : smallest;
        room += bytes;
        n_used += used >> s->device[k] & 1;
    }
    for (uint32_t i = 0; i < placer->n_layers; i++)
        least += layer_least(s, i);
    /* With fewer devices at least one is not used, the smallest at best. */
    double left = (double)placer->unit_bytes - (room - smallest * (s->n_devices - n_used + 1));
    double fewer = least + token + (left > 0 ? left * s->least_per_byte : 0);
    double as_many = least + n_used * token + (n_used - 1) * s->crossing_s;
    return alone_s > as_many * (1 + 1e-12) || (n_used > 1 && alone_s > fewer);
}

static int begin(struct search *s, struct mb_placer *placer, const struct mb_cost *cost, const struct mb_rooms *rooms)
{
    *s = (struct search){.placer = placer, .cost = cost, .rooms = rooms, .host = -1};
    for (unsigned i = 0; i < rooms->n_pools && i < cost->n_pools; i++) {
        const struct mb_room *room = &rooms->pools[i];
        if ((int)i == rooms->host) {
            double room_left = (double)room->room_bytes - (double)room->buffers_bytes - (double)placer->loose_bytes;
            if (room_left < 0)
                return 0;
            s->host_room = room_left;
            s->host = room->usable && cost->pools[i].known ? (int)i : -1;
        } else if (room->usable && cost->pools[i].known && room->room_bytes > room->buffers_bytes) {
            s->device[s->n_devices++] = i;
        }
    }
    s->crossing_s = mb_crossing_seconds(cost, placer->load);
    return s->host >= 0 || s->n_devices;
}

static int finish(const struct search *s, struct mb_placement *out)
{
    out->fits = 1;
    out->exact = !s->cut;
    out->pool_of_unit = s->placer->pool_of_unit;
    out->seconds = seconds_of(s);
    return 1;
}

/* Layers from `start` on go to the cards in order, as many to each as it holds; those before it to the host, and the
 * experts of the layers before `experts` besides. */
static int pack(struct search *s, uint32_t start, uint32_t experts)
{
    struct mb_placer *placer = s->placer;
    const struct mb_load *load = placer->load;
    struct mb_place_use use;
    unsigned k = 0;
    double left = -1;
    int copies = start > 0 || experts > 0;
    for (uint32_t i = 0; i < start; i++)
        put_layer(placer, i, (unsigned)s->host, 0, 0);
    for (uint32_t i = start; i < placer->n_layers; i++) {
        const struct mb_place_layer *layer = &placer->layers[i];
        const int32_t units[3] = {layer->core, layer->item[0], layer->item[1]};
        double bytes = 0;
        unsigned mask = 0;
        for (unsigned u = 0; u < 3; u++) {
            if (units[u] == NO_ITEM)
                continue;
            if (i < experts && load->units[units[u]].kind == MB_UNIT_EXPERTS)
                mask = 1u << (u - 1);
            else
                bytes += unit_bytes(placer, units[u]);
        }
        for (;; k++, left = -1) {
            if (k == s->n_devices)
                return 0;
            const struct mb_room *room = &s->rooms->pools[s->device[k]];
            if (left < 0)
                left = (double)room->room_bytes - (double)room->buffers_bytes - (copies ? (double)room->copy_bytes : 0);
            if (left >= bytes + (i + 1 == placer->n_layers ? (double)room->head_bytes : 0))
                break;
        }
        left -= bytes;
        put_layer(placer, i, s->device[k], mask, (unsigned)s->host);
    }
    put_loose(s);
    mb_place_measure(load, s->rooms, placer->pool_of_unit, &use);
    return use.fits;
}

/* Is every device as fast as the first, and as large? */
static int devices_alike(const struct search *s)
{
    const struct mb_placer *placer = s->placer;
    const struct mb_room *first = &s->rooms->pools[s->device[0]];
    for (unsigned k = 1; k < s->n_devices; k++) {
        const struct mb_room *room = &s->rooms->pools[s->device[k]];
        if (room->room_bytes != first->room_bytes || room->buffers_bytes != first->buffers_bytes ||
            mb_pool_token_seconds(s->cost, s->device[k]) != mb_pool_token_seconds(s->cost, s->device[0]))
            return 0;
        for (uint32_t i = 0; i < placer->load->n_shapes; i++) {
            const double *seconds = placer->shape_s + (size_t)i * MB_COST_POOLS_MAX;
            if (seconds[s->device[k]] != seconds[s->device[0]])
                return 0;
        }
    }
    return 1;
}

/* Place everything on the devices. Those that are alike are filled one after another, which uses the fewest. */
static int solve_alone(struct search *s)
{
    return devices_alike(s) ? pack(s, 0, 0) : solve_once(s, 0) > 0;
}

int mb_place_best(struct mb_placer *placer, const struct mb_cost *cost, const struct mb_rooms *rooms, double depth,
                  struct mb_placement *out)
{
    struct search s;
    double room = 0, alone_s = INFINITY;
    out->fits = 0;
    if (!begin(&s, placer, cost, rooms))
        return 0;
    for (unsigned k = 0; k < s.n_devices; k++)
        room += (double)(rooms->pools[s.device[k]].room_bytes - rooms->pools[s.device[k]].buffers_bytes);
    if ((double)placer->unit_bytes > room + (s.host >= 0 ? s.host_room : 0))
        return 0;
    set_shapes(&s, depth);
    int alone = (double)placer->unit_bytes <= room ? solve_alone(&s) : 0;
    if (alone)
        alone_s = seconds_of(&s);
    if (alone && (s.host < 0 || !host_may_help(&s, alone_s)))
        return finish(&s, out);
    if (s.host < 0 || !solve_with_host(&s))
        return alone ? (solve_alone(&s), finish(&s, out)) : 0;
    finish(&s, out);
    if (alone && alone_s <= out->seconds) {
        solve_alone(&s);
        finish(&s, out);
    }
    return 1;
}

/* ---- hand rules ---- */

const char *mb_place_rule_name(enum mb_place_rule rule)
{
    static const char *const names[MB_N_PLACE_RULES] = {"layers in order until full",
                                                        "the first layers' experts in host memory",
                                                        "all experts in host memory", "all in host memory"};
    return (unsigned)rule < MB_N_PLACE_RULES ? names[rule] : "none";
}

int mb_place_by_rule(struct mb_placer *placer, const struct mb_cost *cost, const struct mb_rooms *rooms, double depth,
                     enum mb_place_rule rule, struct mb_placement *out)
{
    struct search s;
    struct mb_place_use use;
    int done = 0;
    out->fits = 0;
    if (!begin(&s, placer, cost, rooms))
        return 0;
    set_shapes(&s, depth);
    if (rule == MB_PLACE_HOST) {
        if (s.host < 0)
            return 0;
        for (uint32_t i = 0; i < placer->n_layers; i++)
            put_layer(placer, i, (unsigned)s.host, 0, 0);
        put_loose(&s);
        mb_place_measure(placer->load, rooms, placer->pool_of_unit, &use);
        return use.fits ? finish(&s, out) : 0;
    }
    if (!s.n_devices || (rule != MB_PLACE_IN_ORDER && (s.host < 0 || !placer->load->moe)))
        return 0;
    if (rule == MB_PLACE_FIRST_EXPERTS) {
        for (uint32_t experts = 0; experts < placer->n_layers && !done; experts++)
            done = pack(&s, 0, experts);
        return done ? finish(&s, out) : 0;
    }
    for (uint32_t start = 0; start < (s.host < 0 ? 1 : placer->n_layers) && !done; start++)
        done = pack(&s, start, rule == MB_PLACE_EXPERTS_HOST ? placer->n_layers : 0);
    return done ? finish(&s, out) : 0;
}
