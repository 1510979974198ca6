/* SPDX-License-Identifier: MIT */
/* The work space of a placement: a load digested into layers and classes of equal layers, once for many machines; and
 * the sums that any placement can be checked with, however it was found. The search is in place.c. */
#include "plan/place.h"

#include <math.h>
#include <string.h>

enum { WAYS_PER_CLASS = MB_PLACE_MASKS - 1, NO_ITEM = MB_PLACE_NO_UNIT };

/* ---- the model, once ---- */

int mb_place_is_loose(enum mb_unit_kind kind)
{
    return kind == MB_UNIT_EMBEDDING || kind == MB_UNIT_LAYER_EMBEDDING;
}

static int grow(struct mb_placer *placer, const struct mb_load *load)
{
    size_t layers = (size_t)load->n_layers + 1, units = load->n_units, shapes = load->n_shapes;
    if (placer->layers && layers <= placer->cap_layers && units <= placer->cap_units && shapes <= placer->cap_shapes)
        return 1;
    mb_placer_free(placer);
    size_t sums = layers + 1, devices = MB_COST_POOLS_MAX;
    placer->layers = mb_arena_array(&placer->arena, layers, sizeof(*placer->layers));
    placer->classes = mb_arena_array(&placer->arena, layers, sizeof(*placer->classes));
    placer->shape_s = mb_arena_array(&placer->arena, shapes * devices, sizeof(double));
    placer->shape_bytes = mb_arena_array(&placer->arena, shapes, sizeof(double));
    placer->host_s = mb_arena_array(&placer->arena, sums, sizeof(double));
    placer->device_s = mb_arena_array(&placer->arena, sums, sizeof(double));
    placer->host_bytes = mb_arena_array(&placer->arena, sums, sizeof(double));
    placer->device_bytes = mb_arena_array(&placer->arena, sums, sizeof(double));
    placer->best_s = mb_arena_array(&placer->arena, sums * devices, sizeof(double));
    placer->best_from = mb_arena_array(&placer->arena, sums * devices, sizeof(int32_t));
    placer->best_mask = mb_arena_array(&placer->arena, sums * devices, 1);
    placer->ways = mb_arena_array(&placer->arena, layers * WAYS_PER_CLASS, sizeof(*placer->ways));
    placer->counts = mb_arena_array(&placer->arena, layers, sizeof(uint32_t));
    placer->chosen = mb_arena_array(&placer->arena, layers * WAYS_PER_CLASS, sizeof(uint32_t));
    placer->tried = mb_arena_array(&placer->arena, layers * WAYS_PER_CLASS, sizeof(uint32_t));
    placer->pool_of_unit = mb_arena_array(&placer->arena, units, 1);
    if (placer->arena.failed)
        return 0;
    placer->cap_layers = layers;
    placer->cap_units = units;
    placer->cap_shapes = shapes;
    return 1;
}

static uint32_t class_of(struct mb_placer *placer, const struct mb_place_layer *layer)
{
    const struct mb_load *load = placer->load;
    struct mb_place_class wanted = {{UINT32_MAX, UINT32_MAX}, {0, 0}};
    for (unsigned i = 0; i < 2; i++) {
        if (layer->item[i] != NO_ITEM) {
            wanted.shape[i] = load->units[layer->item[i]].shape;
            wanted.bytes[i] = load->units[layer->item[i]].resident_bytes + load->units[layer->item[i]].cache_bytes;
        }
    }
    for (uint32_t i = placer->n_classes; i > 0; i--) {
        const struct mb_place_class *class = &placer->classes[i - 1];
        if (class->shape[0] == wanted.shape[0] && class->shape[1] == wanted.shape[1] && class->bytes[0] == wanted.bytes[0] &&
            class->bytes[1] == wanted.bytes[1])
            return i - 1;
    }
    placer->classes[placer->n_classes] = wanted;
    return placer->n_classes++;
}

int mb_placer_load(struct mb_placer *placer, const struct mb_load *load, struct mb_err *err)
{
    if (!grow(placer, load)) {
        mb_placer_free(placer);
        return mb_fail_memory(err);
    }
    placer->load = load;
    placer->n_layers = load->n_layers + 1;
    placer->n_classes = 0;
    placer->loose_bytes = placer->unit_bytes = 0;
    memset(placer->shape_bytes, 0, load->n_shapes * sizeof(*placer->shape_bytes));
    for (uint32_t i = 0; i < placer->n_layers; i++)
        placer->layers[i] = (struct mb_place_layer){NO_ITEM, {NO_ITEM, NO_ITEM}, 0};
    for (uint32_t i = 0; i < load->n_units; i++) {
        const struct mb_unit *unit = &load->units[i];
        struct mb_place_layer *layer = &placer->layers[unit->kind == MB_UNIT_HEAD ? load->n_layers : (uint32_t)unit->layer];
        double bytes = (double)(unit->resident_bytes + unit->cache_bytes);
        if (unit->kind == MB_UNIT_UNREAD)
            continue;
        if (bytes > placer->shape_bytes[unit->shape])
            placer->shape_bytes[unit->shape] = bytes;
        if (mb_place_is_loose(unit->kind)) {
            placer->loose_bytes += unit->resident_bytes;
            continue;
        }
        placer->unit_bytes += unit->resident_bytes + unit->cache_bytes;
        if (unit->kind == MB_UNIT_CORE)
            layer->core = (int32_t)i;
        else
            layer->item[layer->item[0] != NO_ITEM] = (int32_t)i;
    }
    for (uint32_t i = 0; i < placer->n_layers; i++)
        placer->layers[i].class = class_of(placer, &placer->layers[i]);
    return MB_OK;
}

void mb_placer_free(struct mb_placer *placer)
{
    mb_arena_free(&placer->arena);
    *placer = (struct mb_placer){0};
}

/* ---- what a placement takes and costs ---- */

void mb_place_measure(const struct mb_load *load, const struct mb_rooms *rooms, const uint8_t *pool_of_unit,
                      struct mb_place_use *out)
{
    int host_reads = 0, head = -1, used[MB_COST_POOLS_MAX] = {0};
    memset(out, 0, sizeof(*out));
    for (uint32_t i = 0; i < load->n_units; i++) {
        const struct mb_unit *unit = &load->units[i];
        unsigned pool = pool_of_unit[i];
        if (pool >= rooms->n_pools)
            continue;
        out->weights_bytes[pool] += unit->resident_bytes;
        out->cache_bytes[pool] += unit->cache_bytes;
        if (mb_place_is_loose(unit->kind))
            continue;
        used[pool] = 1;
        host_reads |= (int)pool == rooms->host;
        if (unit->kind == MB_UNIT_HEAD)
            head = (int)pool;
    }
    out->fits = 1;
    for (unsigned i = 0; i < rooms->n_pools; i++) {
        const struct mb_room *room = &rooms->pools[i];
        if (used[i] || (int)i == rooms->host) {
            out->buffers_bytes[i] = room->buffers_bytes;
            if (head == (int)i)
                out->buffers_bytes[i] += room->head_bytes;
            if (host_reads && (int)i != rooms->host)
                out->buffers_bytes[i] += room->copy_bytes;
        }
        uint64_t sum = out->weights_bytes[i] + out->cache_bytes[i] + out->buffers_bytes[i];
        if ((used[i] && !room->usable) || sum > room->room_bytes)
            out->fits = 0;
    }
}

double mb_place_seconds(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double depth)
{
    int last = -1, used[MB_COST_POOLS_MAX] = {0};
    double seconds = 0, crossing = mb_crossing_seconds(cost, load);
    for (uint32_t i = 0; i < load->n_units; i++) {
        unsigned pool = pool_of_unit[i];
        if (mb_place_is_loose(load->units[i].kind) || load->units[i].kind == MB_UNIT_UNREAD)
            continue;
        if (pool >= cost->n_pools)
            return INFINITY;
        seconds += mb_unit_decode_seconds(cost, load, i, pool, depth);
        if (!used[pool]) {
            used[pool] = 1;
            seconds += mb_pool_token_seconds(cost, pool);
        }
        if (last >= 0 && cost->pools[last].processor != cost->pools[pool].processor)
            seconds += crossing;
        last = (int)pool;
    }
    return seconds;
}
