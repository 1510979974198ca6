/* SPDX-License-Identifier: MIT */
/* The class of a machine, by the rules of docs/classes.md. What counts is memory that a GPU reads:
 * its size first. */
#include "machine/machine.h"

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

/* Unified memory below this is RAM that an integrated GPU shares, not memory made for one. */
#define FAST_BYTES_PER_S 150e9

/* Nominal sizes: firmware and carve-outs take up to 4 % of what is on the box. */
static int at_least(double bytes, double gib)
{
    return bytes >= gib * MB_GIB * 0.96;
}

/* What counts of a machine's pools. */
struct fast {
    double vram, unified;       /* bytes; 0: none, or unknown */
    double unified_bytes_per_s; /* the better of measured and spec; 0 unknown */
    unsigned n_cards, n_unified, n_cards_unknown;
};

static struct fast survey(const struct mb_machine *machine)
{
    struct fast fast = {0};
    for (unsigned i = 0; i < machine->n_pools; i++) {
        const struct mb_pool *pool = machine->pools + i;
        double bytes = mb_pool_nominal_bytes(pool);
        if (pool->kind == MB_POOL_VRAM) {
            fast.vram += bytes;
            fast.n_cards++;
            fast.n_cards_unknown += bytes <= 0;
        }
        if (pool->kind != MB_POOL_UNIFIED)
            continue;
        fast.n_unified++;
        if (bytes > fast.unified)
            fast.unified = bytes;
        /* A CPU alone may measure less than the GPU gets: the document's figure counts, too. */
        const struct mb_figure *rates[] = {&pool->bandwidth_bytes_per_s,
                                           &pool->bandwidth_spec_bytes_per_s};
        for (size_t k = 0; k < MB_COUNT(rates); k++)
            if (mb_figure_known(rates[k]) && rates[k]->value > fast.unified_bytes_per_s)
                fast.unified_bytes_per_s = rates[k]->value;
    }
    return fast;
}

static void be_dedicated(struct mb_machine *machine, double bytes, const char *what)
{
    char size[32];
    machine->machine_class = MB_CLASS_DEDICATED;
    machine->class_reason = mb_arena_format(
        mb_machine_arena(machine), "%s of %s: 96 GB and up is a dedicated inference machine",
        mb_format_bytes(bytes, size, sizeof size), what);
    if (!at_least(bytes, 128))
        machine->class_change = "128 GB would be ideal";
}

static void be_unified(struct mb_machine *machine, const struct fast *fast)
{
    char size[32] = "unknown size", rate[32];
    int slow = fast->unified_bytes_per_s > 0 && fast->unified_bytes_per_s < FAST_BYTES_PER_S;
    machine->machine_class = MB_CLASS_UNIFIED;
    if (fast->unified > 0)
        mb_format_bytes(fast->unified, size, sizeof size);
    machine->class_reason =
        slow ? mb_arena_format(mb_machine_arena(machine),
                               "CPU and GPU read one pool of %s, but at only %s", size,
                               mb_format_rate(fast->unified_bytes_per_s, rate, sizeof rate))
             : mb_arena_format(mb_machine_arena(machine), "CPU and GPU read one pool of %s", size);
    if (fast->unified <= 0)
        machine->class_change = "the size of its memory could not be read";
    else if (!at_least(fast->unified, 36))
        machine->class_change =
            "36 GB is the minimum for a daily driver: turn off apps and keep to small models";
    else if (!at_least(fast->unified, 96))
        machine->class_change =
            slow ? "with 96 GB or more of faster memory it would be a dedicated inference machine"
                 : "with 96 GB or more it would be a dedicated inference machine";
    else
        machine->class_change =
            slow
                ? "with memory of 150 GB/s or more it would be a dedicated inference machine"
                : "its bandwidth is unknown: with 150 GB/s or more it is a dedicated inference machine";
}

static void be_gpu(struct mb_machine *machine, const struct fast *fast)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    const char *what = fast->n_cards > 1 ? "VRAM on all cards" : "VRAM";
    const char *doubt = fast->n_cards_unknown ? ", not counting a card of unknown size" : "";
    char size[32];
    machine->machine_class = MB_CLASS_GPU;
    mb_format_bytes(fast->vram, size, sizeof size);
    if (fast->n_cards_unknown == fast->n_cards) {
        machine->class_reason = "a discrete GPU whose VRAM size is unknown";
        machine->class_change = "install the GPU's driver to learn its memory";
    } else if (at_least(fast->vram, 24)) {
        machine->class_reason = mb_arena_format(arena, "%s of %s%s", size, what, doubt);
        machine->class_change =
            "with 96 GB or more of VRAM it would be a dedicated inference machine";
    } else {
        machine->class_reason =
            mb_arena_format(arena, "%s of %s%s: less than the 24 GB that a GPU daily driver needs",
                            size, what, doubt);
        machine->class_change = mb_arena_format(
            arena,
            "a card of 24 GB or more; until then dense models over %.0f GB run from system RAM",
            fast->vram / MB_GIB);
    }
}

void mb_machine_classify(struct mb_machine *machine)
{
    struct fast fast = survey(machine);
    int unified_is_fast = fast.unified_bytes_per_s >= FAST_BYTES_PER_S;
    machine->class_change = NULL;
    /* RAM that an integrated GPU reads does not hide the card beside it. */
    if (fast.n_cards && (!unified_is_fast || fast.vram > fast.unified)) {
        if (at_least(fast.vram, 96))
            be_dedicated(machine, fast.vram, fast.n_cards > 1 ? "VRAM on all cards" : "VRAM");
        else
            be_gpu(machine, &fast);
    } else if (fast.n_unified) {
        if (unified_is_fast && at_least(fast.unified, 96))
            be_dedicated(machine, fast.unified, "unified memory");
        else
            be_unified(machine, &fast);
    } else {
        machine->machine_class = MB_CLASS_CPU;
        machine->class_reason = "no GPU that a program could use";
        machine->class_change =
            "a GPU with 24 GB of VRAM, or a machine with 36 GB of unified memory and up";
    }
}
