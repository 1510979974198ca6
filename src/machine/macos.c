/* SPDX-License-Identifier: MIT */
/* A Mac as pools and processors. An Apple chip reads one RAM with CPU and GPU; the GPU may use only
 * what it may wire, by default about 2/3 of RAM up to 36 GiB and 3/4 above (Metal's
 * recommendedMaxWorkingSetSize as observed on machines of 8 to 512 GB), or what the sysctl
 * iogpu.wired_limit_mb says. */
#include "machine/macos.h"
#include "machine/clean.h"

#include <string.h>

static struct mb_figure keep(struct mb_arena *arena, struct mb_figure figure)
{
    figure.detail = mb_arena_text(arena, figure.detail);
    return figure;
}

/* Apple sells one name with different counts of cores, and so bandwidths. */
static const struct mb_chip *find_chip(const struct mb_chips *chips,
                                       const struct mb_macos_facts *facts, const char *name)
{
    struct mb_chip_hints hints = {.name = name,
                                  .n_cpu_cores =
                                      facts->n_performance_cores + facts->n_efficiency_cores,
                                  .n_gpu_cores = facts->n_gpu_cores,
                                  .memory_bytes = (double)facts->memory_bytes};
    return mb_chip_find_like(chips, &hints);
}

static void set_usable(struct mb_arena *arena, const struct mb_macos_facts *facts,
                       struct mb_pool *pool)
{
    double capacity = (double)facts->memory_bytes;
    pool->usable_bytes = mb_usable_bytes(MB_USABLE_APPLE_WIRED, capacity, arena, &pool->raise);
    if (!facts->wired_limit_mb || facts->wired_limit_mb > facts->memory_bytes >> 20)
        return;
    double wired = (double)facts->wired_limit_mb * MB_MIB;
    if (wired >= pool->usable_bytes.value)
        pool->raise = NULL; /* somebody has raised it and knows how */
    pool->usable_bytes = mb_figure_of(wired, MB_REPORTED, "sysctl iogpu.wired_limit_mb");
}

void mb_macos_machine(const struct mb_macos_facts *facts, const struct mb_chips *chips,
                      struct mb_machine *machine)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    const char *name = mb_clean_name(arena, facts->chip);
    unsigned n_cores = facts->n_performance_cores + facts->n_efficiency_cores;
    int apple = name && strncmp(name, "Apple ", 6) == 0;
    const struct mb_chip *chip = apple && chips ? find_chip(chips, facts, name) : NULL;

    machine->name = mb_arena_format(arena, "Mac, %s", name ? name : "unknown chip");
    machine->os = facts->version
                      ? mb_arena_format(arena, "macOS %s", mb_clean_name(arena, facts->version))
                      : "macOS";
    machine->virtual_by = facts->is_virtual ? "Apple Virtualization" : NULL;
    machine->fingerprint = mb_arena_format(
        arena, "%s; %s; %u cores; %u GPU cores; %.0f GiB%s", name ? name : "unknown CPU",
        facts->model ? mb_clean_name(arena, facts->model) : "-", n_cores, facts->n_gpu_cores,
        (double)facts->memory_bytes / MB_GIB, facts->is_virtual ? "; virtual" : "");

    struct mb_pool pool = {.id = apple ? "unified" : "ram",
                           .kind = apple ? MB_POOL_UNIFIED : MB_POOL_SYSTEM};
    if (facts->memory_bytes) {
        pool.capacity_bytes =
            mb_figure_of((double)facts->memory_bytes, MB_REPORTED, "sysctl hw.memsize");
        pool.installed_bytes = pool.capacity_bytes;
        if (apple)
            set_usable(arena, facts, &pool);
    } else {
        mb_machine_add_note(machine,
                            "The size of RAM is unknown: sysctl hw.memsize does not answer.");
    }
    if (facts->has_free && facts->free_bytes <= facts->memory_bytes)
        pool.free_bytes = mb_figure_of((double)facts->free_bytes, MB_REPORTED,
                                       "host_statistics64, free + inactive pages");
    if (chip) {
        pool.bandwidth_spec_bytes_per_s = keep(arena, chip->bandwidth_bytes_per_s);
        if (chip->memory_type && strcmp(chip->memory_type, "unified") != 0)
            pool.name = mb_arena_text(arena, chip->memory_type);
    } else {
        mb_machine_add_note(
            machine,
            "The bandwidth of RAM is unknown: no table has %s with %u CPU and %u GPU cores; measure it "
            "with membound machine --measure.",
            name ? name : "this chip", n_cores, facts->n_gpu_cores);
    }
    unsigned ram = mb_machine_add_pool(machine, &pool);

    struct mb_processor cpu = {.id = "cpu",
                               .name = name ? name : "unknown CPU",
                               .kind = MB_PROCESSOR_CPU,
                               .n_cores = n_cores,
                               .n_threads = n_cores,
                               .n_numa_nodes = 1,
                               .simd = apple ? "neon-dotprod" : NULL,
                               .cache_bytes = {facts->l1d_bytes, facts->l2_bytes, 0}};
    unsigned index = mb_machine_add_processor(machine, &cpu);
    mb_machine_add_read(machine, index, ram,
                        chip && mb_figure_known(&chip->cpu_read_bytes_per_s)
                            ? keep(arena, chip->cpu_read_bytes_per_s)
                            : pool.bandwidth_spec_bytes_per_s);
    if (!apple) {
        mb_machine_add_note(machine, "GPUs of Macs without an Apple chip are not detected.");
        return;
    }
    struct mb_processor gpu = {.id = "gpu0",
                               .name = mb_arena_format(arena, "%s GPU", name),
                               .kind = MB_PROCESSOR_GPU,
                               .integrated = 1,
                               .n_cores = facts->n_gpu_cores ? facts->n_gpu_cores
                                          : chip             ? chip->n_gpu_cores
                                                             : 0,
                               .driver = "macOS"};
    index = mb_machine_add_processor(machine, &gpu);
    mb_machine_add_read(machine, index, ram, pool.bandwidth_spec_bytes_per_s);
    for (unsigned i = 0; chip && i < chip->n_peaks; i++)
        mb_machine_add_peak(machine, index, mb_arena_text(arena, chip->peaks[i].type),
                            keep(arena, chip->peaks[i].flops_per_s));
}
