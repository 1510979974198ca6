/* SPDX-License-Identifier: MIT */
/* How much room a model finds in each pool of a machine: capacity, what is kept for others, and the buffers that an engine
 * computes in. docs/placement.md states the formulas, what they were checked against, and what is assumed. Pure; nothing is
 * allocated. Internal to src/plan and above. */
#ifndef MB_MEMORY_H
#define MB_MEMORY_H

#include "plan/place.h"

/* What is kept of RAM, or of a unified pool, for the system and other programs where nobody says and nothing was detected:
 * so much, but no more than this share of it. */
#define MB_APPS_DEFAULT_BYTES (8ull << 30)
#define MB_APPS_DEFAULT_SHARE 0.25

/* What is kept of the VRAM of each card: its driver's context, and a margin. */
#define MB_CARD_KEPT_BYTES (1ull << 30)

/* Buffers of one pass over n_ubatch tokens. */
struct mb_buffers {
    uint64_t device_bytes; /* of a device that computes layers */
    uint64_t head_bytes;   /* more, if it also computes the head */
    uint64_t copy_bytes;   /* of a card whose prompts read weights in host memory: the largest tensor, copied */
    uint64_t host_bytes;   /* of the program itself: what it stages for the devices, its code and its tables */
};

/* n_devices: cards that the layers are spread over, 0: none; several of them keep more copies of the inputs. */
void mb_buffers_of(const struct mb_load *load, unsigned n_ubatch, unsigned n_devices, struct mb_buffers *out);

/* What other programs have or are left of a system or unified pool. opts may be NULL. */
uint64_t mb_apps_bytes(const struct mb_machine *machine, const struct mb_pool *pool, const struct mb_plan_opts *opts);

/* The room for this load on the machine of `cost`. opts may be NULL. */
void mb_rooms_find(const struct mb_cost *cost, const struct mb_load *load, const struct mb_plan_opts *opts,
                   struct mb_rooms *out);

/* The depth at which a placement is chosen: half of the context, which a conversation that fills it sees on average. */
double mb_place_depth(const struct mb_load *load);

/* A placement and its figures in one call, without any allocation: for those who try thousands of pairs. */
struct mb_quick {
    int fits;
    struct mb_placement placement;
    struct mb_speed decode; /* at depth 0 */
};

/* The placer holds the load. Returns 1 if the model fits. */
int mb_place_and_predict(struct mb_placer *placer, const struct mb_cost *cost, const struct mb_plan_opts *opts,
                         struct mb_quick *out);

#endif
