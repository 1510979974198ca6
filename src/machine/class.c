/* SPDX-License-Identifier: MIT */
/* The class of a machine, by the rules of docs/classes.md. What counts is memory that a GPU reads: its size first. */
#include "machine/machine.h"

#include <string.h>

static const char *const names[] = {"cpu", "gpu", "unified", "dedicated"};
static const char *const titles[] = {"CPU only", "GPU daily driver", "unified daily driver",
                                     "dedicated inference machine"};

const char *mb_class_name(enum mb_machine_class machine_class)
{
    return (unsigned)machine_class < MB_COUNT(names) ? names[machine_class] : "unknown";
}

const char *mb_class_title(enum mb_machine_class machine_class)
{
    return (unsigned)machine_class < MB_COUNT(titles) ? titles[machine_class] : "unknown";
}

/* Nominal sizes: firmware and carve-outs take up to 4 % of what is on the box. */
static int at_least(double bytes, double gib)
{
    return bytes >= gib * MB_GIB * 0.96;
}

static double sold_gib(double bytes)
{
    return bytes / MB_GIB;
}

void mb_machine_classify(struct mb_machine *machine)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    double unified = 0, vram = 0;
    unsigned n_cards = 0, n_unknown = 0;
    for (unsigned i = 0; i < machine->n_pools; i++) {
        const struct mb_pool *pool = machine->pools + i;
        double bytes = mb_pool_nominal_bytes(pool);
        if (pool->kind == MB_POOL_UNIFIED && bytes > unified)
            unified = bytes;
        if (pool->kind == MB_POOL_VRAM) {
            vram += bytes;
            n_cards++;
            n_unknown += bytes <= 0;
        }
    }
    double fast = vram > unified ? vram : unified;
    const char *what = vram > unified ? n_cards > 1 ? "VRAM on all cards" : "VRAM" : "unified memory";
    char size[32];
    mb_format_bytes(fast, size, sizeof size);
    machine->class_change = NULL;
    if (at_least(fast, 96)) {
        machine->machine_class = MB_CLASS_DEDICATED;
        machine->class_reason = mb_arena_format(arena, "%s of %s: 96 GB and up is a dedicated inference machine", size, what);
        if (!at_least(fast, 128))
            machine->class_change = "128 GB would be ideal";
    } else if (unified >= vram && unified > 0) {
        machine->machine_class = MB_CLASS_UNIFIED;
        machine->class_reason = mb_arena_format(arena, "CPU and GPU read one pool of %s", size);
        machine->class_change =
            at_least(unified, 36)
                ? "with 96 GB or more it would be a dedicated inference machine"
                : "36 GB is the minimum for a daily driver: turn off apps and keep to small models";
    } else if (n_cards > 0) {
        machine->machine_class = MB_CLASS_GPU;
        if (n_unknown == n_cards) {
            machine->class_reason = "a discrete GPU whose VRAM size is unknown";
            machine->class_change = "install the GPU's driver to learn its memory";
        } else if (at_least(fast, 24)) {
            machine->class_reason = mb_arena_format(arena, "%s of %s", size, what);
            machine->class_change = "with 96 GB or more of VRAM it would be a dedicated inference machine";
        } else {
            machine->class_reason =
                mb_arena_format(arena, "%s of %s: less than the 24 GB that a GPU daily driver needs", size, what);
            machine->class_change = mb_arena_format(
                arena, "a card of 24 GB or more; until then dense models over %.0f GB run from system RAM",
                sold_gib(fast));
        }
    } else {
        machine->machine_class = MB_CLASS_CPU;
        machine->class_reason = "no GPU that a program could use";
        machine->class_change = "a GPU with 24 GB of VRAM, or a machine with 36 GB of unified memory and up";
    }
}
