/* SPDX-License-Identifier: MIT */
/* Room and buffers. The formulas follow what llama.cpp allocates with flash attention; docs/placement.md lists the logs that
 * they were checked against. Where nothing is known a stated assumption is made, on the careful side. */
#include "plan/memory.h"

#include <string.h>

enum { UBATCH_DEFAULT = 512, CELL_PAD = 256 };

/* The program itself: code, tokenizer, and tables. An assumption. */
#define PROGRAM_BYTES (256ull << 20)

/* Copies of a pass's inputs when several cards work one after another, each on a batch of its own. */
#define PIPELINE_COPIES 4

static uint64_t ubatch_of(const struct mb_plan_opts *opts)
{
    return opts && opts->kv.n_batch ? opts->kv.n_batch : UBATCH_DEFAULT;
}

/* Widest FFN of a layer, in elements per token. */
static uint64_t ffn_width(const struct mb_model *model)
{
    const struct mb_hparams *hp = &model->hp;
    uint64_t dense = hp->n_ff, routed = (uint64_t)hp->n_ff_exp * hp->n_expert_used + hp->n_ff_shexp;
    return dense > routed ? dense : routed;
}

static uint64_t largest_tensor(const struct mb_model *model)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        if (tensor->layer >= 0 && tensor->rule != MB_READ_NEVER && tensor->rule != MB_READ_ROWS && tensor->bytes > largest)
            largest = tensor->bytes;
    }
    return largest;
}

void mb_buffers_of(const struct mb_load *load, unsigned n_ubatch, unsigned n_devices, struct mb_buffers *out)
{
    uint64_t n = n_ubatch ? n_ubatch : UBATCH_DEFAULT, cells = (load->n_ctx + CELL_PAD - 1) / CELL_PAD * CELL_PAD;
    uint64_t copies = n_devices > 1 ? PIPELINE_COPIES : 1;
    n = n < load->n_ctx || !load->n_ctx ? n : load->n_ctx;
    /* The residual stream and attention's inputs, gate and up of the FFN; the mask as it comes (F32) and as it is used (F16). */
    out->device_bytes = 4 * n * (5 * (uint64_t)load->n_embd + 2 * ffn_width(load->model)) + n * cells * (4 * copies + 2);
    uint64_t head = 4 * n * ((uint64_t)load->n_vocab + 2 * (uint64_t)load->n_embd);
    out->head_bytes = head > out->device_bytes ? head - out->device_bytes : 0;
    out->copy_bytes = n_devices ? (uint64_t)((double)largest_tensor(load->model) * load->scale) : 0;
    out->host_bytes = PROGRAM_BYTES + 4 * n * copies * (load->n_embd + cells);
}

uint64_t mb_apps_bytes(const struct mb_machine *machine, const struct mb_pool *pool, const struct mb_plan_opts *opts)
{
    double capacity = mb_figure_known(&pool->capacity_bytes) ? pool->capacity_bytes.value : 0;
    if (opts && opts->apps_given)
        return opts->apps_bytes;
    if (machine->origin == MB_ORIGIN_DETECTED && mb_figure_known(&pool->free_bytes))
        return pool->free_bytes.value < capacity ? (uint64_t)(capacity - pool->free_bytes.value) : 0;
    double share = capacity * MB_APPS_DEFAULT_SHARE;
    return share < (double)MB_APPS_DEFAULT_BYTES ? (uint64_t)share : MB_APPS_DEFAULT_BYTES;
}

/* Capacity that a model may count on, and what of it is kept for others. */
static void set_capacity(const struct mb_cost *cost, unsigned index, const struct mb_plan_opts *opts, struct mb_room *room)
{
    const struct mb_machine *machine = cost->machine;
    const struct mb_pool *pool = &machine->pools[index];
    double whole = mb_figure_known(&pool->capacity_bytes) ? pool->capacity_bytes.value : 0, kept;
    room->capacity_bytes = whole;
    if (pool->kind != MB_POOL_SYSTEM && mb_figure_known(&pool->usable_bytes) && pool->usable_bytes.value < whole &&
        (pool->kind == MB_POOL_VRAM || cost->pools[index].gpu))
        room->capacity_bytes = pool->usable_bytes.value;
    if (opts && index < opts->n_limits && opts->limit_bytes && opts->limit_bytes[index] &&
        (double)opts->limit_bytes[index] < room->capacity_bytes)
        room->capacity_bytes = (double)opts->limit_bytes[index];
    if (pool->kind == MB_POOL_VRAM) {
        kept = (double)MB_CARD_KEPT_BYTES;
        if (machine->origin == MB_ORIGIN_DETECTED && mb_figure_known(&pool->free_bytes) && pool->free_bytes.value < whole)
            kept += whole - pool->free_bytes.value;
    } else {
        kept = (double)mb_apps_bytes(machine, pool, opts);
    }
    /* What the plan may not count on anyway serves other programs first. */
    kept -= whole - room->capacity_bytes;
    kept = kept < 0 ? 0 : kept > room->capacity_bytes ? room->capacity_bytes : kept;
    room->reserved_bytes = (uint64_t)kept;
    room->room_bytes = (uint64_t)(room->capacity_bytes - kept);
}

void mb_rooms_find(const struct mb_cost *cost, const struct mb_load *load, const struct mb_plan_opts *opts,
                   struct mb_rooms *out)
{
    const struct mb_machine *machine = cost->machine;
    struct mb_buffers buffers;
    unsigned n_cards = 0;
    memset(out, 0, sizeof(*out));
    out->n_pools = cost->n_pools;
    out->host = -1;
    for (unsigned i = 0; i < cost->n_pools; i++) {
        struct mb_room *room = &out->pools[i];
        set_capacity(cost, i, opts, room);
        room->usable = cost->pools[i].known && room->capacity_bytes > 0;
        n_cards += room->usable && machine->pools[i].kind == MB_POOL_VRAM;
        /* The program lives where the CPU reads: the largest such pool. */
        if (machine->pools[i].kind != MB_POOL_VRAM && room->capacity_bytes > 0 &&
            (out->host < 0 || room->capacity_bytes > out->pools[out->host].capacity_bytes))
            out->host = (int)i;
    }
    mb_buffers_of(load, (unsigned)ubatch_of(opts), n_cards, &buffers);
    for (unsigned i = 0; i < cost->n_pools; i++) {
        struct mb_room *room = &out->pools[i];
        int host = (int)i == out->host;
        /* In host memory layers need buffers only if they run there. They are charged always, as they are small. */
        room->buffers_bytes = buffers.device_bytes + (host ? buffers.host_bytes : 0);
        room->head_bytes = buffers.head_bytes;
        room->copy_bytes = machine->pools[i].kind == MB_POOL_VRAM ? buffers.copy_bytes : 0;
    }
}

double mb_place_depth(const struct mb_load *load)
{
    return (double)load->n_ctx / 2;
}

int mb_place_and_predict(struct mb_placer *placer, const struct mb_cost *cost, const struct mb_plan_opts *opts,
                         struct mb_quick *out)
{
    struct mb_rooms rooms;
    struct mb_prediction prediction;
    mb_rooms_find(cost, placer->load, opts, &rooms);
    *out = (struct mb_quick){0};
    if (!mb_place_best(placer, cost, &rooms, mb_place_depth(placer->load), &out->placement) ||
        mb_predict_decode(cost, placer->load, out->placement.pool_of_unit, 0, &prediction, NULL))
        return 0;
    out->fits = 1;
    out->decode = (struct mb_speed){prediction.tokens_per_s, prediction.low, prediction.high, prediction.bound_tokens_per_s};
    return 1;
}
