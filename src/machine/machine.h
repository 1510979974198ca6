/* SPDX-License-Identifier: MIT */
/* Building a struct mb_machine: its memory, appending parts, and the conclusions drawn at the end. Internal; detection,
 * the catalog and the JSON reader all build machines with it. */
#ifndef MB_MACHINE_H
#define MB_MACHINE_H

#include "base/base.h"

/* An empty machine that owns an arena; NULL when out of memory. Freed by mb_machine_free(). */
struct mb_machine *mb_machine_new(enum mb_origin origin);

/* The arena in which everything that the machine points to must live. */
struct mb_arena *mb_machine_arena(struct mb_machine *machine);

/* Append a copy; returns its index. Out of memory is remembered by the arena (index 0 is returned) and told by finish.
 * Indices stay valid; pointers into the arrays do not survive the next append. */
unsigned mb_machine_add_pool(struct mb_machine *machine, const struct mb_pool *pool);
unsigned mb_machine_add_processor(struct mb_machine *machine, const struct mb_processor *processor);
void mb_machine_add_read(struct mb_machine *machine, unsigned processor, unsigned pool, struct mb_figure bytes_per_s);
void mb_machine_add_peak(struct mb_machine *machine, unsigned processor, const char *type, struct mb_figure flops_per_s);
void mb_machine_add_link(struct mb_machine *machine, const struct mb_link *link);
/* One sentence that tells what could not be learnt; the same sentence is kept once. */
void mb_machine_add_note(struct mb_machine *machine, const char *format, ...) MB_PRINTF(2, 3);

/* The first CPU of a machine; NULL: it has none, or machine is NULL. */
const struct mb_processor *mb_machine_cpu(const struct mb_machine *machine);

/* Draw the conclusions: each pool's bandwidth from the best of its readers (measured before reported before spec and
 * derived; on unified memory with a GPU a CPU's figure under 3/4 of the spec does not count), then the class. Called once a
 * machine is complete and again after figures changed.
 * Returns MB_OK; MB_ENOMEM: something was lost on the way. */
int mb_machine_finish(struct mb_machine *machine, struct mb_err *err);

/* Set class, class_reason and class_change from the pools (docs/classes.md states the rules). Part of finish. */
void mb_machine_classify(struct mb_machine *machine);

/* Bytes of a pool as it is sold: installed where known, else capacity; 0 unknown. Sizes of unified RAM and VRAM are a few
 * percent smaller to programs than on the box, so class limits compare this figure with 4 % tolerance. */
double mb_pool_nominal_bytes(const struct mb_pool *pool);

/* For the owner of a detected machine: is it this live one (root "/")? Only that can be measured. */
int mb_machine_is_live(const struct mb_machine *machine);
void mb_machine_set_live(struct mb_machine *machine, int live);

#endif
