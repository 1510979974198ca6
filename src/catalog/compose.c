/* SPDX-License-Identifier: MIT */
/* A machine from a catalog entry: pools, processors and links follow from its chips and its RAM.
 * Figures are those of the documents that the entries name; nothing is filled in where they are
 * silent. */
#include "catalog/compose.h"
#include "base/reader.h"
#include "machine/machine.h"

#include <math.h>
#include <string.h>

enum { MAX_CHIPS = 16, MAX_COUNT = 16, NO_POOL = -1 };

/* One element of "chips". */
struct part {
    const struct mb_chip *chip;
    unsigned count;
    double memory_bytes; /* 0: a CPU has none of its own */
};

struct composer {
    struct mb_reader reader;
    struct mb_machine *machine;
    const struct mb_chips *chips;
    const json_t *sources;
    struct part parts[MAX_CHIPS];
    unsigned n_parts, n_gpus;
    int host_pool; /* what the CPU reads: "ram" or "unified" */
};

static struct mb_figure spec(double value, const char *source)
{
    return isnan(value) ? (struct mb_figure){0} : mb_figure_of(value, MB_SPEC, source);
}

static void read_part(struct composer *composer, struct part *part, const json_t *object)
{
    static const char *const keys[] = {"chip", "count", "memory_gib"};
    struct mb_reader *reader = &composer->reader;
    mb_reader_keys(reader, object, keys, MB_COUNT(keys));
    const char *id = mb_reader_text(reader, object, "chip", MB_REQUIRED);
    double gib = mb_reader_number(reader, object, "memory_gib", 0.25, 65536, MB_OPTIONAL);
    part->count = (unsigned)mb_reader_count(reader, object, "count", MAX_COUNT, MB_REQUIRED);
    part->chip = mb_chip_by_id(composer->chips, id);
    if (reader->code)
        return;
    const struct mb_chip *chip = part->chip;
    if (!chip) {
        mb_reader_fail(reader, "chip", "no chip has the id \"%.60s\"", id);
        return;
    }
    if (!part->count)
        mb_reader_fail(reader, "count", "is 0");
    if (chip->kind == MB_CHIP_SOC && part->count != 1)
        mb_reader_fail(reader, "count", "is not 1 for a system on a chip");
    if (chip->kind == MB_CHIP_CPU) {
        if (!isnan(gib))
            mb_reader_fail(reader, "memory_gib", "a CPU has none; write \"ram\"");
        return;
    }
    if (isnan(gib) && chip->n_capacities == 1)
        gib = chip->capacities_bytes[0] / MB_GIB;
    for (unsigned i = 0; i < chip->n_capacities; i++)
        if (chip->capacities_bytes[i] == gib * MB_GIB)
            part->memory_bytes = gib * MB_GIB;
    if (!(part->memory_bytes > 0))
        mb_reader_fail(reader, "memory_gib", "%s is not sold with that size", chip->id);
}

static void read_parts(struct composer *composer, const json_t *entry)
{
    const json_t *list = mb_reader_array(&composer->reader, entry, "chips", MAX_CHIPS, MB_REQUIRED);
    unsigned n_hosts = 0;
    for (size_t i = 0; i < json_array_size(list) && !composer->reader.code; i++) {
        size_t mark = mb_reader_enter(&composer->reader, "chips[%zu]", i);
        struct part *part = composer->parts + composer->n_parts++;
        read_part(composer, part, json_array_get(list, i));
        if (part->chip && part->chip->kind != MB_CHIP_GPU && ++n_hosts > 1)
            mb_reader_fail(&composer->reader, "chip", "a second kind of CPU");
        mb_reader_leave(&composer->reader, mark);
    }
    if (!composer->reader.code && !composer->n_parts)
        mb_reader_fail(&composer->reader, "chips", "is empty");
}

static const struct part *host_part(const struct composer *composer, enum mb_chip_kind kind)
{
    for (unsigned i = 0; i < composer->n_parts; i++)
        if (composer->parts[i].chip->kind == kind)
            return composer->parts + i;
    return NULL;
}

/* Peaks of a chip; those of several CPUs add up. */
static void add_peaks(struct composer *composer, unsigned processor, const struct mb_chip *chip,
                      unsigned count)
{
    for (unsigned i = 0; i < chip->n_peaks; i++) {
        struct mb_figure flops = chip->peaks[i].flops_per_s;
        if (count > 1)
            flops = mb_figure_of(flops.value * count, MB_DERIVED,
                                 mb_arena_format(composer->reader.arena, "%u chips; %s", count,
                                                 flops.detail ? flops.detail : ""));
        flops.detail = mb_arena_text(composer->reader.arena, flops.detail);
        mb_machine_add_peak(composer->machine, processor,
                            mb_arena_text(composer->reader.arena, chip->peaks[i].type), flops);
    }
}

/* A figure of a chip, its texts copied: the machine outlives the chips. */
static struct mb_figure copied(struct composer *composer, struct mb_figure figure)
{
    figure.detail = mb_arena_text(composer->reader.arena, figure.detail);
    return figure;
}

/* RAM in slots, and the CPU that reads it. */
static void add_ram(struct composer *composer, const json_t *entry)
{
    static const char *const keys[] = {"type",         "channels", "mega_transfers_per_s",
                                       "capacity_gib", "source",   "note"};
    struct mb_reader *reader = &composer->reader;
    const struct part *host = host_part(composer, MB_CHIP_CPU);
    const json_t *ram = mb_reader_object(reader, entry, "ram", host ? MB_REQUIRED : MB_OPTIONAL);
    if (!ram)
        return;
    size_t mark = mb_reader_enter(reader, "ram");
    mb_reader_keys(reader, ram, keys, MB_COUNT(keys));
    const char *type = mb_reader_text(reader, ram, "type", MB_REQUIRED);
    unsigned channels = (unsigned)mb_reader_count(reader, ram, "channels", 64, MB_REQUIRED);
    double transfers = mb_reader_number(reader, ram, "mega_transfers_per_s", 100, 1e5, MB_REQUIRED);
    double gib = mb_reader_number(reader, ram, "capacity_gib", 0.25, 65536, MB_REQUIRED);
    const char *source = mb_reader_source(reader, ram, composer->sources);
    if (!reader->code && !channels)
        mb_reader_fail(reader, "channels", "is 0");
    if (!reader->code && host && host->chip->bus_bits &&
        channels * 64 > host->chip->bus_bits * host->count)
        mb_reader_fail(reader, "channels", "%u, but %u x %s has %u", channels, host->count,
                       host->chip->id, host->chip->bus_bits * host->count / 64);
    if (!reader->code && host_part(composer, MB_CHIP_SOC))
        mb_reader_fail(reader, NULL, "a system on a chip has its memory in memory_gib");
    mb_reader_leave(reader, mark);
    if (reader->code)
        return;
    struct mb_arena *arena = reader->arena;
    struct mb_pool pool = {.id = "ram", .kind = MB_POOL_SYSTEM};
    pool.name = mb_arena_format(arena, "%s-%.0f, %u channels", type, transfers, channels);
    pool.capacity_bytes = pool.installed_bytes = mb_figure_of(gib * MB_GIB, MB_SPEC, source);
    pool.bandwidth_spec_bytes_per_s =
        mb_figure_of(channels * 8 * transfers * 1e6, MB_DERIVED,
                     mb_arena_format(arena, "%u channels * 8 bytes * %.0f MT/s; %s", channels,
                                     transfers, source));
    composer->host_pool = (int)mb_machine_add_pool(composer->machine, &pool);
    struct mb_processor cpu = {.id = "cpu", .kind = MB_PROCESSOR_CPU};
    if (host) {
        const char *name = host->chip->cpu_name ? host->chip->cpu_name : host->chip->name;
        cpu.name = host->count > 1 ? mb_arena_format(arena, "%u x %s", host->count, name)
                                   : mb_arena_text(arena, name);
        cpu.n_cores = host->chip->n_cpu_cores * host->count;
    }
    unsigned at = mb_machine_add_processor(composer->machine, &cpu);
    mb_machine_add_read(composer->machine, at, (unsigned)composer->host_pool,
                        pool.bandwidth_spec_bytes_per_s);
    if (host)
        add_peaks(composer, at, host->chip, host->count);
}

/* A system on a chip: one pool that its CPU and its GPU read. */
static void add_soc(struct composer *composer, const struct part *part)
{
    struct mb_arena *arena = composer->reader.arena;
    const struct mb_chip *chip = part->chip;
    struct mb_pool pool = {
        .id = "unified", .kind = MB_POOL_UNIFIED, .name = mb_arena_text(arena, chip->memory_type)};
    pool.capacity_bytes = pool.installed_bytes = mb_figure_of(
        part->memory_bytes, MB_SPEC, mb_arena_format(arena, "size sold with %s", chip->name));
    pool.usable_bytes = mb_usable_bytes(chip->usable_rule, part->memory_bytes, arena, &pool.raise);
    if (mb_figure_known(&pool.usable_bytes) && chip->usable_source)
        pool.usable_bytes.detail =
            mb_arena_format(arena, "%s; %s", pool.usable_bytes.detail, chip->usable_source);
    pool.bandwidth_spec_bytes_per_s = copied(composer, chip->bandwidth_bytes_per_s);
    composer->host_pool = (int)mb_machine_add_pool(composer->machine, &pool);
    struct mb_processor cpu = {.id = "cpu", .kind = MB_PROCESSOR_CPU, .n_cores = chip->n_cpu_cores};
    cpu.name = mb_arena_text(arena, chip->cpu_name ? chip->cpu_name : chip->name);
    struct mb_processor gpu = {
        .kind = MB_PROCESSOR_GPU, .integrated = 1, .n_cores = chip->n_gpu_cores};
    gpu.id = mb_arena_format(arena, "gpu%u", composer->n_gpus++);
    gpu.name = mb_arena_text(arena, chip->gpu_name ? chip->gpu_name : chip->name);
    /* What the CPU part reaches alone is less than the pool delivers; few makers say how much. */
    mb_machine_add_read(composer->machine, mb_machine_add_processor(composer->machine, &cpu),
                        (unsigned)composer->host_pool,
                        copied(composer, chip->cpu_read_bytes_per_s));
    unsigned at = mb_machine_add_processor(composer->machine, &gpu);
    mb_machine_add_read(composer->machine, at, (unsigned)composer->host_pool,
                        pool.bandwidth_spec_bytes_per_s);
    add_peaks(composer, at, chip, 1);
}

/* One card: its pool, and its link to what the CPU reads, both ways. */
static void add_card(struct composer *composer, const struct part *part)
{
    struct mb_arena *arena = composer->reader.arena;
    const struct mb_chip *chip = part->chip;
    struct mb_pool pool = {.kind = MB_POOL_VRAM, .name = mb_arena_text(arena, chip->name)};
    pool.id = mb_arena_format(arena, "vram%u", composer->n_gpus);
    pool.capacity_bytes = pool.installed_bytes = mb_figure_of(
        part->memory_bytes, MB_SPEC, mb_arena_format(arena, "size sold with %s", chip->name));
    pool.usable_bytes = mb_usable_bytes(MB_USABLE_ALL, part->memory_bytes, arena, &pool.raise);
    pool.bandwidth_spec_bytes_per_s = copied(composer, chip->bandwidth_bytes_per_s);
    unsigned pool_at = mb_machine_add_pool(composer->machine, &pool);
    struct mb_processor gpu = {
        .kind = MB_PROCESSOR_GPU, .n_cores = chip->n_gpu_cores, .name = pool.name};
    gpu.id = mb_arena_format(arena, "gpu%u", composer->n_gpus++);
    gpu.power_limit_w = copied(composer, chip->power_load_w);
    unsigned at = mb_machine_add_processor(composer->machine, &gpu);
    mb_machine_add_read(composer->machine, at, pool_at, pool.bandwidth_spec_bytes_per_s);
    add_peaks(composer, at, chip, 1);
    if (composer->host_pool == NO_POOL || !chip->link_name)
        return;
    struct mb_link link = {.from = (unsigned)composer->host_pool, .to = pool_at};
    link.name = mb_arena_text(arena, chip->link_name);
    link.bytes_per_s = copied(composer, chip->link_bytes_per_s);
    mb_machine_add_link(composer->machine, &link);
    link.from = pool_at;
    link.to = (unsigned)composer->host_pool;
    mb_machine_add_link(composer->machine, &link);
}

static int is_date(const char *text)
{
    static const char form[] = "dddd-dd-dd";
    size_t n = strlen(text);
    if (n != 7 && n != 10 && n != 4)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return 0;
    return 1;
}

static void read_price(struct composer *composer, const json_t *entry)
{
    static const char *const keys[] = {"amount", "currency", "date", "condition", "source", "note"};
    static const char *const conditions[] = {"new", "second-hand"};
    struct mb_reader *reader = &composer->reader;
    const json_t *object = mb_reader_object(reader, entry, "price", MB_OPTIONAL);
    if (!object)
        return;
    size_t mark = mb_reader_enter(reader, "price");
    mb_reader_keys(reader, object, keys, MB_COUNT(keys));
    struct mb_price price = {.amount =
                                 mb_reader_number(reader, object, "amount", 1, 1e8, MB_REQUIRED)};
    price.currency = mb_reader_text(reader, object, "currency", MB_REQUIRED);
    price.date = mb_reader_text(reader, object, "date", MB_REQUIRED);
    int condition = mb_reader_choice(reader, object, "condition", conditions, MB_COUNT(conditions),
                                     MB_REQUIRED);
    price.condition = condition >= 0 ? conditions[condition] : NULL;
    price.source = mb_reader_source(reader, object, composer->sources);
    if (price.currency &&
        (strlen(price.currency) != 3 || strspn(price.currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 3))
        mb_reader_fail(reader, "currency", "\"%.20s\" is not a code like USD", price.currency);
    if (price.date && !is_date(price.date))
        mb_reader_fail(reader, "date", "\"%.20s\" is not like 2025-10", price.date);
    struct mb_price *kept = mb_arena_alloc(reader->arena, sizeof *kept);
    if (kept)
        *kept = price;
    composer->machine->price = kept;
    mb_reader_leave(reader, mark);
}

static void read_power(struct composer *composer, const json_t *entry)
{
    static const char *const keys[] = {"idle_w", "load_w", "source", "note"};
    struct mb_reader *reader = &composer->reader;
    const json_t *object = mb_reader_object(reader, entry, "power", MB_OPTIONAL);
    if (!object)
        return;
    size_t mark = mb_reader_enter(reader, "power");
    mb_reader_keys(reader, object, keys, MB_COUNT(keys));
    double idle = mb_reader_number(reader, object, "idle_w", 0.1, 1e5, MB_OPTIONAL);
    double load = mb_reader_number(reader, object, "load_w", 0.1, 1e5, MB_OPTIONAL);
    const char *source = mb_reader_source(reader, object, composer->sources);
    if (idle > load)
        mb_reader_fail(reader, "idle_w", "more than load_w");
    composer->machine->power_idle_w = spec(idle, source);
    composer->machine->power_load_w = spec(load, source);
    mb_reader_leave(reader, mark);
}

static const char *join(struct mb_arena *arena, const char *const *texts, unsigned n)
{
    const char *joined = n ? texts[0] : NULL;
    for (unsigned i = 1; i < n; i++)
        joined = mb_arena_format(arena, "%s, %s", joined ? joined : "", texts[i]);
    return joined;
}

static void compose(struct composer *composer, const json_t *entry)
{
    static const char *const keys[] = {"name", "aliases", "family", "released", "os",  "chips",
                                       "ram",  "power",   "price",  "sources",  "note"};
    struct mb_reader *reader = &composer->reader;
    if (mb_reader_keys(reader, entry, keys, MB_COUNT(keys)))
        return;
    composer->machine->name = mb_reader_text(reader, entry, "name", MB_REQUIRED);
    mb_reader_enter(reader, "%s", composer->machine->name ? composer->machine->name : "");
    composer->sources = mb_reader_object(reader, entry, "sources", MB_REQUIRED);
    const char *released = mb_reader_text(reader, entry, "released", MB_OPTIONAL);
    if (released && !is_date(released))
        mb_reader_fail(reader, "released", "\"%.20s\" is not like 2025-10", released);
    unsigned n_os = 0;
    const char **os = mb_reader_texts(reader, entry, "os", 8, &n_os, MB_REQUIRED);
    composer->machine->os = join(reader->arena, os, n_os);
    read_parts(composer, entry);
    if (reader->code)
        return;
    add_ram(composer, entry);
    for (int cards = 0; cards < 2 && !reader->code; cards++)
        for (unsigned i = 0; i < composer->n_parts; i++) {
            const struct part *part = composer->parts + i;
            if (!cards && part->chip->kind == MB_CHIP_SOC)
                add_soc(composer, part);
            for (unsigned k = 0; cards && part->chip->kind == MB_CHIP_GPU && k < part->count; k++)
                add_card(composer, part);
        }
    read_price(composer, entry);
    read_power(composer, entry);
}

int mb_catalog_compose(const json_t *entry, const char *file, const struct mb_chips *chips,
                       struct mb_machine **out, struct mb_err *err)
{
    struct mb_machine *machine = mb_machine_new(MB_ORIGIN_CATALOG);
    if (!machine)
        return mb_fail_memory(err);
    struct composer composer = {
        .reader = {.arena = mb_machine_arena(machine), .file = file, .err = err},
        .machine = machine,
        .chips = chips,
        .host_pool = NO_POOL};
    compose(&composer, entry);
    int code = composer.reader.code ? composer.reader.code : mb_machine_finish(machine, err);
    if (code)
        mb_machine_free(machine);
    else
        *out = machine;
    return code;
}
