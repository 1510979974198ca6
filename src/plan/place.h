/* SPDX-License-Identifier: MIT */
/* Placement: which pool holds which unit of a load, so that decoding is fastest and every pool has room. The search is over
 * what engines can do: the layers' cores go to the devices in ranges, host memory first, then card after card; the dense FFN
 * and the routed experts of any layer, and the head, lie with their core or in the host's memory. docs/placement.md states the
 * method and what is exact about it. Pure; after mb_placer_load() nothing is allocated. Internal to src/plan and above. */
#ifndef MB_PLACE_H
#define MB_PLACE_H

#include "plan/predict.h"

/* Room in one pool. */
struct mb_room {
    int usable;             /* units may lie here */
    double capacity_bytes;  /* that a plan may count on; 0: unknown */
    uint64_t reserved_bytes; /* of it, for the system, other programs and the driver */
    uint64_t room_bytes;    /* the rest: for weights, cache and buffers */
    uint64_t buffers_bytes; /* taken as soon as a unit lies here; of the host's pool: always */
    uint64_t head_bytes;    /* taken besides, if the head lies here */
    uint64_t copy_bytes;    /* taken besides, if a unit is read by the host: prompts copy its weights here */
};

struct mb_rooms {
    struct mb_room pools[MB_COST_POOLS_MAX];
    unsigned n_pools;
    int host; /* the pool of the program itself and of the embedding table; -1: its size is not known */
};

enum { MB_PLACE_NO_UNIT = -1 };

struct mb_place_layer {
    int32_t core, item[2]; /* units, or MB_PLACE_NO_UNIT. The last layer is the head alone, an item without a core */
    uint32_t class;        /* layers with equal items */
};

struct mb_place_class {
    uint32_t shape[2];     /* UINT32_MAX: there is no such item */
    uint64_t bytes[2];
};

/* Items that one layer may leave to the host: a bit for each. */
enum { MB_PLACE_MASKS = 4 };

/* One way to put layers of a class partly to the host. */
struct mb_place_way {
    uint32_t class;
    unsigned mask;
    double seconds; /* more than with the core */
    uint64_t bytes; /* that the device need not hold */
};

/* Work space for one thread; grows with the largest load that it has seen. */
struct mb_placer {
    const struct mb_load *load; /* borrowed */
    struct mb_place_layer *layers;
    uint32_t n_layers; /* with the head */
    struct mb_place_class *classes;
    uint32_t n_classes;
    uint64_t loose_bytes; /* embeddings: in the host's pool */
    uint64_t unit_bytes;  /* of everything else */
    double *shape_bytes;  /* [n_shapes] of the largest unit of a shape */
    /* for the machine at hand */
    double *shape_s;              /* [n_shapes * MB_COST_POOLS_MAX] */
    double *host_s, *device_s;    /* [n_layers + 1] sums from the front */
    double *host_bytes, *device_bytes;
    double *best_s;               /* [devices * (n_layers + 1)] */
    int32_t *best_from;           /* of that; -1: the device is not used */
    uint8_t *best_mask;           /* of the last layer before the next device, and MB_PLACE_HEAD_OUT */
    struct mb_place_way *ways;    /* [n_classes * 3] */
    uint32_t *counts, *chosen, *tried; /* [n_classes], [n_ways], [n_ways] */
    uint8_t *pool_of_unit;        /* [n_units]: the result */
    size_t cap_layers, cap_units, cap_shapes;
    struct mb_arena arena;
};

struct mb_placement {
    int fits;
    int exact;        /* nothing in the search space is faster; 0: the search was cut off */
    double seconds;   /* per token at the depth asked for */
    const uint8_t *pool_of_unit; /* in the placer; of units that are never read: MB_PLAN_NOWHERE */
};

/* What a placement takes of each pool. */
struct mb_place_use {
    uint64_t weights_bytes[MB_COST_POOLS_MAX], cache_bytes[MB_COST_POOLS_MAX], buffers_bytes[MB_COST_POOLS_MAX];
    int fits;
};

/* Zero-initialise a placer, load it with a model, place that on machines, load it with another model, ..., free it.
 * Returns MB_OK; MB_ENOMEM. The load must outlive its use. */
int mb_placer_load(struct mb_placer *placer, const struct mb_load *load, struct mb_err *err);
void mb_placer_free(struct mb_placer *placer);

/* The fastest placement with `depth` tokens in the cache. Returns 1: it fits; 0: nothing does, and only out->fits is set. */
int mb_place_best(struct mb_placer *placer, const struct mb_cost *cost, const struct mb_rooms *rooms, double depth,
                  struct mb_placement *out);

/* Hand rules, for comparison. */
enum mb_place_rule {
    MB_PLACE_IN_ORDER,     /* whole layers, as many as the cards hold, the first ones left to the host */
    MB_PLACE_FIRST_EXPERTS, /* all layers on the cards but the experts of as few of the first ones as must be */
    MB_PLACE_EXPERTS_HOST, /* all experts in host memory, the rest in order */
    MB_PLACE_HOST,         /* everything in host memory */
    MB_N_PLACE_RULES
};

/* "layers in order until full", ... */
const char *mb_place_rule_name(enum mb_place_rule rule);
/* Place by a rule. Returns 1 and the placement; 0: that does not fit, or the machine has no such choice. */
int mb_place_by_rule(struct mb_placer *placer, const struct mb_cost *cost, const struct mb_rooms *rooms, double depth,
                     enum mb_place_rule rule, struct mb_placement *out);

/* Embeddings: looked up by rows, in the memory of the program. */
int mb_place_is_loose(enum mb_unit_kind kind);

/* Sum up what a placement takes, with the buffers that it makes necessary. */
void mb_place_measure(const struct mb_load *load, const struct mb_rooms *rooms, const uint8_t *pool_of_unit,
                      struct mb_place_use *out);

/* Seconds of a placement: the same sum as mb_predict_decode(), by way of the costs of single units. */
double mb_place_seconds(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double depth);

#endif
