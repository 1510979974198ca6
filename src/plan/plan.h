/* SPDX-License-Identifier: MIT */
/* Between the files that make one plan: what it stands on, and lists of sentences. Internal to src/plan. */
#ifndef MB_PLAN_H
#define MB_PLAN_H

#include "plan/memory.h"

/* One plan in the making. */
struct mb_planner {
    const struct mb_machine *machine; /* borrowed */
    const struct mb_model *model;     /* borrowed */
    struct mb_plan_opts opts;         /* n_ctx filled in */
    struct mb_cost cost;
    struct mb_load *load;
    struct mb_rooms rooms;
    struct mb_placer placer;
    double placed_s, fastest_s; /* per token, as placed and at best */
    struct mb_plan *plan;
    struct mb_arena *arena; /* of the plan */
};

/* Append a sentence to a list in the arena. Out of memory is remembered by the arena. */
void mb_plan_say(struct mb_arena *arena, const char ***list, unsigned *n, const char *format, ...) MB_PRINTF(4, 5);

/* Fill plan->needs: what would make the model fit, in numbers. Everything that is said was planned and fits.
 * Returns MB_OK; MB_ENOMEM. */
int mb_plan_needs(struct mb_planner *planner, struct mb_err *err);

#endif
