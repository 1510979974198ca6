/* SPDX-License-Identifier: MIT */
/* Suite for the rules of docs/classes.md. */
#include "machine/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct row {
    const char *what;
    struct {
        enum mb_pool_kind kind;
        double gib, gb_per_s; /* 0: unknown */
    } pools[3];
    unsigned n_pools;
    enum mb_machine_class expect;
    const char *reason, *change; /* parts of the sentences; NULL: no sentence */
};

#define RAM     MB_POOL_SYSTEM
#define VRAM    MB_POOL_VRAM
#define UNIFIED MB_POOL_UNIFIED

static const struct row rows[] = {
    {"server", {{RAM, 768, 600}}, 1, MB_CLASS_CPU, "no GPU", "24 GB of VRAM"},
    {"nothing", {{RAM, 0, 0}}, 0, MB_CLASS_CPU, "no GPU", "36 GB"},
    {"Mac mini",
     {{UNIFIED, 16, 120}},
     1,
     MB_CLASS_UNIFIED,
     "one pool of 16.0 GiB",
     "turn off apps"},
    {"36 GB", {{UNIFIED, 36, 410}}, 1, MB_CLASS_UNIFIED, "one pool of 36.0 GiB", "96 GB or more"},
    {"36 GB less firmware",
     {{UNIFIED, 34.8, 410}},
     1,
     MB_CLASS_UNIFIED,
     "34.8 GiB",
     "96 GB or more"},
    {"64 GB", {{UNIFIED, 64, 256}}, 1, MB_CLASS_UNIFIED, "64.0 GiB", "96 GB or more"},
    {"MacBook Pro 96",
     {{UNIFIED, 96, 400}},
     1,
     MB_CLASS_DEDICATED,
     "96.0 GiB of unified memory",
     "128 GB would be ideal"},
    {"MacBook Pro 128",
     {{UNIFIED, 128, 546}},
     1,
     MB_CLASS_DEDICATED,
     "128 GiB of unified memory",
     NULL},
    {"DGX Spark, only MemTotal known",
     {{UNIFIED, 119.7, 273}},
     1,
     MB_CLASS_DEDICATED,
     "120 GiB",
     "128 GB would be ideal"},
    {"DGX Spark", {{UNIFIED, 128, 273}}, 1, MB_CLASS_DEDICATED, "128 GiB", NULL},
    {"slow laptop",
     {{UNIFIED, 64, 58}},
     1,
     MB_CLASS_UNIFIED,
     "64.0 GiB, but at only 58.0 GB/s",
     "faster memory"},
    {"big slow mini",
     {{UNIFIED, 128, 89.6}},
     1,
     MB_CLASS_UNIFIED,
     "but at only 89.6 GB/s",
     "150 GB/s or more it would"},
    {"desktop with two channels of DDR5-6400",
     {{UNIFIED, 128, 102.4}},
     1,
     MB_CLASS_UNIFIED,
     "but at only 102 GB/s",
     "150 GB/s or more it would"},
    {"bandwidth unknown",
     {{UNIFIED, 64, 0}},
     1,
     MB_CLASS_UNIFIED,
     "one pool of 64.0 GiB",
     "96 GB or more"},
    {"big, bandwidth unknown",
     {{UNIFIED, 128, 0}},
     1,
     MB_CLASS_UNIFIED,
     "one pool of 128 GiB",
     "bandwidth is unknown"},
    {"size unknown", {{UNIFIED, 0, 0}}, 1, MB_CLASS_UNIFIED, "unknown size", "could not be read"},
    {"RTX 4090",
     {{RAM, 64, 90}, {VRAM, 24, 1008}},
     2,
     MB_CLASS_GPU,
     "24.0 GiB of VRAM",
     "96 GB or more of VRAM"},
    {"RTX 3060",
     {{RAM, 64, 90}, {VRAM, 12, 360}},
     2,
     MB_CLASS_GPU,
     "less than the 24 GB",
     "over 12 GB run from system RAM"},
    {"two RTX 3090",
     {{RAM, 64, 90}, {VRAM, 24, 936}, {VRAM, 24, 936}},
     3,
     MB_CLASS_GPU,
     "48.0 GiB of VRAM on all cards",
     "96 GB"},
    {"two of 12 GB",
     {{RAM, 64, 90}, {VRAM, 12, 360}, {VRAM, 12, 360}},
     3,
     MB_CLASS_GPU,
     "24.0 GiB of VRAM on all cards",
     "96 GB"},
    {"RTX PRO 6000",
     {{RAM, 64, 90}, {VRAM, 95.6, 1792}},
     2,
     MB_CLASS_DEDICATED,
     "95.6 GiB of VRAM",
     "128 GB would be ideal"},
    {"two PRO 6000",
     {{RAM, 64, 90}, {VRAM, 96, 1792}, {VRAM, 96, 1792}},
     3,
     MB_CLASS_DEDICATED,
     "192 GiB of VRAM on all cards",
     NULL},
    {"card of unknown size",
     {{RAM, 64, 90}, {VRAM, 0, 0}},
     2,
     MB_CLASS_GPU,
     "VRAM size is unknown",
     "driver"},
    {"one known, one not",
     {{VRAM, 24, 936}, {VRAM, 0, 0}},
     2,
     MB_CLASS_GPU,
     "24.0 GiB of VRAM on all cards, not counting",
     "96 GB"},
    {"iGPU beside a card",
     {{UNIFIED, 64, 90}, {VRAM, 24, 1008}},
     2,
     MB_CLASS_GPU,
     "24.0 GiB of VRAM",
     "96 GB"},
    {"iGPU, RAM unknown, beside a card",
     {{UNIFIED, 128, 0}, {VRAM, 16, 600}},
     2,
     MB_CLASS_GPU,
     "less than the 24 GB",
     "24 GB or more"},
    {"card on a Max+ 395",
     {{UNIFIED, 128, 256}, {VRAM, 24, 1008}},
     2,
     MB_CLASS_DEDICATED,
     "128 GiB of unified memory",
     NULL},
};

static struct mb_figure figure(double value)
{
    return value > 0 ? mb_figure_of(value, MB_SPEC, "x") : (struct mb_figure){0};
}

static void each_rule_holds(void **state)
{
    (void)state;
    for (size_t i = 0; i < MB_COUNT(rows); i++) {
        const struct row *row = rows + i;
        struct mb_machine *machine = mb_machine_new(MB_ORIGIN_FILE);
        for (unsigned p = 0; p < row->n_pools; p++) {
            struct mb_pool pool = {.kind = row->pools[p].kind};
            pool.capacity_bytes = figure(row->pools[p].gib * MB_GIB);
            pool.bandwidth_spec_bytes_per_s = figure(row->pools[p].gb_per_s * 1e9);
            mb_machine_add_pool(machine, &pool);
        }
        assert_int_equal(mb_machine_finish(machine, NULL), MB_OK);
        const char *change = machine->class_change;
        if (machine->machine_class != row->expect || !strstr(machine->class_reason, row->reason) ||
            (row->change ? !change || !strstr(change, row->change) : change != NULL))
            fail_msg("%s: %s, because: %s; change: %s", row->what,
                     mb_class_name(machine->machine_class), machine->class_reason,
                     change ? change : "none");
        mb_machine_free(machine);
    }
}

/* Installed memory decides where it is known: firmware may hide a quarter of it. */
static void the_size_on_the_box_counts(void **state)
{
    (void)state;
    struct mb_machine *machine = mb_machine_new(MB_ORIGIN_FILE);
    struct mb_pool pool = {.kind = UNIFIED,
                           .capacity_bytes = figure(64 * MB_GIB),
                           .installed_bytes = figure(128 * MB_GIB)};
    pool.bandwidth_spec_bytes_per_s = figure(256e9);
    mb_machine_add_pool(machine, &pool);
    assert_int_equal(mb_machine_finish(machine, NULL), MB_OK);
    assert_int_equal(machine->machine_class, MB_CLASS_DEDICATED);
    /* A CPU that measures less than the pool delivers does not make it slow. */
    struct mb_processor cpu = {.id = "cpu"};
    mb_machine_add_read(machine, mb_machine_add_processor(machine, &cpu), 0,
                        mb_figure_of(85e9, MB_MEASURED, "x"));
    assert_int_equal(mb_machine_finish(machine, NULL), MB_OK);
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == 85e9);
    assert_int_equal(machine->machine_class, MB_CLASS_DEDICATED);
    mb_machine_free(machine);
    assert_string_equal(mb_class_name(MB_CLASS_GPU), "gpu");
    assert_string_equal(mb_class_title(MB_CLASS_GPU), "GPU daily driver");
    assert_string_equal(mb_class_name((enum mb_machine_class)9), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_rule_holds),
                                       cmocka_unit_test(the_size_on_the_box_counts)};
    return cmocka_run_group_tests_name("class", tests, NULL, NULL);
}
