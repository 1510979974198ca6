/* SPDX-License-Identifier: MIT */
/* The machine: its memory, appending parts, and the conclusions that hold for every origin. Where the parts come
 * from is left to detect.c, json.c and the catalog. */
#include "machine/machine.h"

#include <stdlib.h>
#include <string.h>

struct owner {
    struct mb_arena arena;
    int live;
};

struct mb_machine *mb_machine_new(enum mb_origin origin)
{
    struct mb_machine *machine = calloc(1, sizeof *machine);
    struct owner *owner = calloc(1, sizeof *owner);
    if (!machine || !owner) {
        free(machine);
        free(owner);
        return NULL;
    }
    machine->origin = origin;
    machine->owner = owner;
    return machine;
}

const struct mb_processor *mb_machine_cpu(const struct mb_machine *machine)
{
    for (unsigned i = 0; machine && i < machine->n_processors; i++) {
        if (machine->processors[i].kind == MB_PROCESSOR_CPU)
            return &machine->processors[i];
    }
    return NULL;
}

struct mb_arena *mb_machine_arena(struct mb_machine *machine)
{
    struct owner *owner = machine->owner;
    return &owner->arena;
}

void mb_machine_free(struct mb_machine *machine)
{
    if (!machine)
        return;
    mb_arena_free(mb_machine_arena(machine));
    free(machine->owner);
    free(machine);
}

int mb_machine_is_live(const struct mb_machine *machine)
{
    const struct owner *owner = machine->owner;
    return owner->live;
}

void mb_machine_set_live(struct mb_machine *machine, int live)
{
    struct owner *owner = machine->owner;
    owner->live = live;
}

unsigned mb_machine_add_pool(struct mb_machine *machine, const struct mb_pool *pool)
{
    struct mb_pool *new = mb_arena_append(mb_machine_arena(machine), &machine->pools, &machine->n_pools, sizeof *new);
    if (!new)
        return 0;
    *new = *pool;
    return machine->n_pools - 1;
}

unsigned mb_machine_add_processor(struct mb_machine *machine, const struct mb_processor *processor)
{
    struct mb_processor *new =
        mb_arena_append(mb_machine_arena(machine), &machine->processors, &machine->n_processors, sizeof *new);
    if (!new)
        return 0;
    *new = *processor;
    return machine->n_processors - 1;
}

void mb_machine_add_read(struct mb_machine *machine, unsigned processor, unsigned pool, struct mb_figure bytes_per_s)
{
    if (processor >= machine->n_processors)
        return;
    struct mb_processor *reader = machine->processors + processor;
    struct mb_read *new = mb_arena_append(mb_machine_arena(machine), &reader->reads, &reader->n_reads, sizeof *new);
    if (new)
        *new = (struct mb_read){pool, bytes_per_s};
}

void mb_machine_add_peak(struct mb_machine *machine, unsigned processor, const char *type, struct mb_figure flops_per_s)
{
    if (processor >= machine->n_processors)
        return;
    struct mb_processor *p = machine->processors + processor;
    struct mb_peak *new = mb_arena_append(mb_machine_arena(machine), &p->peaks, &p->n_peaks, sizeof *new);
    if (new)
        *new = (struct mb_peak){type, flops_per_s};
}

void mb_machine_add_link(struct mb_machine *machine, const struct mb_link *link)
{
    struct mb_link *new = mb_arena_append(mb_machine_arena(machine), &machine->links, &machine->n_links, sizeof *new);
    if (new)
        *new = *link;
}

void mb_machine_add_note(struct mb_machine *machine, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (unsigned i = 0; i < machine->n_notes; i++)
        if (strcmp(machine->notes[i], text) == 0)
            return;
    const char *copy = mb_arena_text(mb_machine_arena(machine), text);
    const char **new = mb_arena_append(mb_machine_arena(machine), &machine->notes, &machine->n_notes, sizeof *new);
    if (new && copy)
        *new = copy;
    else if (new)
        machine->n_notes--;
}

double mb_pool_nominal_bytes(const struct mb_pool *pool)
{
    if (mb_figure_known(&pool->installed_bytes))
        return pool->installed_bytes.value;
    return mb_figure_known(&pool->capacity_bytes) ? pool->capacity_bytes.value : 0;
}

/* Which of two figures to believe: what was measured here, then what the system says, then the rest. */
static int rank(const struct mb_figure *figure)
{
    if (!mb_figure_known(figure))
        return 0;
    return figure->provenance == MB_MEASURED ? 3 : figure->provenance == MB_REPORTED ? 2 : 1;
}

/* A CPU alone draws only part of what a wide unified memory gives its GPU (M1 Max: 243 of 400 GB/s, Chips and Cheese), while
 * on narrow ones it reaches over three quarters. Below that share a measurement by the CPU says nothing about the pool. */
static int speaks_for_the_pool(const struct mb_machine *machine, const struct mb_pool *pool,
                               const struct mb_processor *reader, const struct mb_figure *figure)
{
    const struct mb_figure *spec = &pool->bandwidth_spec_bytes_per_s;
    int has_gpu = 0;
    for (unsigned p = 0; p < machine->n_processors; p++)
        has_gpu |= machine->processors[p].kind == MB_PROCESSOR_GPU;
    return !(pool->kind == MB_POOL_UNIFIED && has_gpu && reader->kind == MB_PROCESSOR_CPU && mb_figure_known(spec) &&
             figure->value < 0.75 * spec->value);
}

int mb_machine_finish(struct mb_machine *machine, struct mb_err *err)
{
    for (unsigned i = 0; i < machine->n_pools; i++) {
        struct mb_pool *pool = machine->pools + i;
        struct mb_figure best = pool->bandwidth_spec_bytes_per_s;
        for (unsigned p = 0; p < machine->n_processors; p++) {
            const struct mb_processor *processor = machine->processors + p;
            for (unsigned r = 0; r < processor->n_reads; r++) {
                const struct mb_figure *figure = &processor->reads[r].bytes_per_s;
                if (processor->reads[r].pool != i || !speaks_for_the_pool(machine, pool, processor, figure))
                    continue;
                if (rank(figure) > rank(&best) || (rank(figure) == rank(&best) && figure->value > best.value))
                    best = *figure;
            }
        }
        if (mb_figure_known(&best))
            pool->bandwidth_bytes_per_s = best;
    }
    mb_machine_classify(machine);
    return mb_machine_arena(machine)->failed ? mb_fail_memory(err) : MB_OK;
}
