/* SPDX-License-Identifier: MIT */
/* A machine from JSON: what json.c writes, or the few lines that a person writes for a what-if.
 * Everything in the file is hostile until checked here; the conclusions (class, best bandwidth) are
 * drawn anew and not taken from it. */
#include "machine/json.h"
#include "base/reader.h"
#include "machine/machine.h"
#include "machine/measured.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
    MAX_FILE_BYTES = 4 << 20,
    MAX_POOLS = 64,
    MAX_PROCESSORS = 64,
    MAX_LINKS = 1024,
    MAX_NOTES = 256
};

#define MAX_SIZE 1152921504606846976.0 /* 2^60 bytes */

/* "reported: /proc/meminfo" as provenance and detail. */
static void split_source(struct mb_reader *reader, const char *key, const char *text,
                         struct mb_figure *figure)
{
    size_t n = strcspn(text, ":");
    for (int p = MB_MEASURED; p <= MB_DERIVED; p++) {
        const char *name = mb_provenance_name((enum mb_provenance)p);
        if (strlen(name) != n || strncmp(name, text, n) != 0)
            continue;
        figure->provenance = (enum mb_provenance)p;
        figure->detail = !text[n] ? NULL : text[n + 1] == ' ' ? text + n + 2 : text + n + 1;
        return;
    }
    mb_reader_fail(reader, key,
                   "\"%.40s\" does not begin with measured:, reported:, spec: or derived:", text);
}

/* A bare number with its provenance under sources; without one it is a spec of this file. */
static struct mb_figure bare_figure(struct mb_reader *reader, const json_t *object, const char *key,
                                    double min, double max)
{
    double value = mb_reader_number(reader, object, key, min, max, MB_OPTIONAL);
    const json_t *sources = mb_reader_object(reader, object, "sources", MB_OPTIONAL);
    const char *source = sources ? mb_reader_text(reader, sources, key, MB_OPTIONAL) : NULL;
    struct mb_figure figure = {0};
    if (!isnan(value))
        figure = mb_figure_of(value, MB_SPEC, reader->file);
    if (!isnan(value) && source)
        split_source(reader, key, source, &figure);
    return figure;
}

/* sources may name only figures of their object. */
static void check_sources(struct mb_reader *reader, const json_t *object, const char *const *keys,
                          size_t n)
{
    const json_t *sources = mb_reader_object(reader, object, "sources", MB_OPTIONAL);
    if (!sources)
        return;
    size_t mark = mb_reader_enter(reader, "sources");
    mb_reader_keys(reader, sources, keys, n);
    mb_reader_leave(reader, mark);
}

/* The figure inside an object that has its value under unit_key beside provenance and detail. */
static struct mb_figure figure_in(struct mb_reader *reader, const json_t *object,
                                  const char *unit_key, double max)
{
    static const char *const names[] = {"unknown", "measured", "reported", "spec", "derived"};
    double value = mb_reader_number(reader, object, unit_key, 1, max, MB_OPTIONAL);
    int provenance =
        mb_reader_choice(reader, object, "provenance", names, MB_COUNT(names), MB_OPTIONAL);
    const char *detail = mb_reader_text(reader, object, "detail", MB_OPTIONAL);
    if (isnan(value))
        return (struct mb_figure){0, MB_UNKNOWN, detail};
    if (provenance < 0)
        return mb_figure_of(value, MB_SPEC, detail ? detail : reader->file);
    return mb_figure_of(value, (enum mb_provenance)provenance, detail);
}

/* A bandwidth: an object with a figure, or a plain number of bytes per second. *plain tells which.
 */
static struct mb_figure bandwidth(struct mb_reader *reader, const json_t *object, const char *key,
                                  int *plain)
{
    static const char *const keys[] = {"bytes_per_s", "provenance", "detail"};
    const json_t *value = json_object_get(object, key);
    *plain = json_is_number(value);
    if (*plain)
        return mb_figure_of(mb_reader_number(reader, object, key, 1, 1e16, MB_REQUIRED), MB_SPEC,
                            reader->file);
    const json_t *part = mb_reader_object(reader, object, key, MB_OPTIONAL);
    if (!part)
        return (struct mb_figure){0};
    size_t mark = mb_reader_enter(reader, "%s", key);
    mb_reader_keys(reader, part, keys, MB_COUNT(keys));
    struct mb_figure figure = figure_in(reader, part, "bytes_per_s", 1e16);
    mb_reader_leave(reader, mark);
    return figure;
}

static const char *read_id(struct mb_reader *reader, const json_t *object)
{
    const char *id = mb_reader_text(reader, object, "id", MB_OPTIONAL);
    if (id && (!*id || strlen(id) > 32 || id[strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-")]))
        mb_reader_fail(reader, "id", "\"%.40s\" is not up to 32 small letters, digits and dashes",
                       id);
    return reader->code ? NULL : id;
}

/* "24 GB" beside capacity_bytes, for people. */
static struct mb_figure read_capacity(struct mb_reader *reader, const json_t *object)
{
    struct mb_figure figure = bare_figure(reader, object, "capacity_bytes", 1, MAX_SIZE);
    const char *text = mb_reader_text(reader, object, "capacity", MB_OPTIONAL);
    uint64_t bytes = 0;
    if (text && mb_figure_known(&figure))
        mb_reader_fail(reader, "capacity", "given twice; remove it or capacity_bytes");
    else if (text && (mb_parse_bytes(text, &bytes) || !bytes))
        mb_reader_fail(reader, "capacity", "\"%.40s\" is no size; write one like \"24 GB\"", text);
    else if (text)
        figure = mb_figure_of((double)bytes, MB_SPEC, reader->file);
    else if (!json_object_get(object, "capacity_bytes"))
        mb_reader_fail(reader, "capacity", "is missing; write one like \"24 GB\"");
    return figure;
}

static void read_pool(struct mb_reader *reader, struct mb_machine *machine, const json_t *object)
{
    static const char *const keys[] = {"id",
                                       "kind",
                                       "name",
                                       "capacity_bytes",
                                       "capacity",
                                       "installed_bytes",
                                       "free_bytes",
                                       "usable_bytes",
                                       "raise",
                                       "bandwidth",
                                       "bandwidth_spec",
                                       "sources"};
    static const char *const figures[] = {"capacity_bytes", "installed_bytes", "free_bytes",
                                          "usable_bytes"};
    struct mb_pool pool = {0};
    if (mb_reader_keys(reader, object, keys, MB_COUNT(keys)))
        return;
    int kind = mb_reader_choice(reader, object, "kind", mb_pool_kind_names, 3, MB_REQUIRED), plain,
        unused;
    pool.kind = kind > 0 ? (enum mb_pool_kind)kind : MB_POOL_SYSTEM;
    pool.id = read_id(reader, object);
    pool.name = mb_reader_text(reader, object, "name", MB_OPTIONAL);
    check_sources(reader, object, figures, MB_COUNT(figures));
    pool.capacity_bytes = read_capacity(reader, object);
    pool.installed_bytes = bare_figure(reader, object, "installed_bytes", 1, MAX_SIZE);
    pool.free_bytes = bare_figure(reader, object, "free_bytes", 0, MAX_SIZE); /* 0: a full card */
    pool.usable_bytes = bare_figure(reader, object, "usable_bytes", 1, MAX_SIZE);
    if (pool.kind == MB_POOL_VRAM && !json_object_get(object, "usable_bytes") &&
        mb_figure_known(&pool.capacity_bytes))
        pool.usable_bytes =
            mb_figure_of(pool.capacity_bytes.value, MB_DERIVED, "all of its memory");
    pool.raise = mb_reader_text(reader, object, "raise", MB_OPTIONAL);
    pool.bandwidth_bytes_per_s = bandwidth(reader, object, "bandwidth", &plain);
    pool.bandwidth_spec_bytes_per_s = bandwidth(reader, object, "bandwidth_spec", &unused);
    if (plain && !json_object_get(object, "bandwidth_spec"))
        pool.bandwidth_spec_bytes_per_s = pool.bandwidth_bytes_per_s;
    for (unsigned i = 0; i < machine->n_pools && pool.id; i++)
        if (machine->pools[i].id && strcmp(machine->pools[i].id, pool.id) == 0)
            mb_reader_fail(reader, "id", "\"%s\" is given twice", pool.id);
    if (!reader->code)
        mb_machine_add_pool(machine, &pool);
}

/* Give pools without an id the first free one of their kind. */
static void name_pools(struct mb_machine *machine)
{
    static const char *const first[] = {"ram", "vram0", "unified"}, *const next[] = {"ram%u",
                                                                                     "vram%u",
                                                                                     "unified%u"};
    for (unsigned i = 0; i < machine->n_pools; i++) {
        struct mb_pool *pool = machine->pools + i;
        char id[24];
        if (pool->id)
            continue;
        snprintf(id, sizeof id, "%s", first[pool->kind]);
        for (unsigned n = 1; mb_machine_pool_index(machine, id) != UINT32_MAX; n++)
            snprintf(id, sizeof id, next[pool->kind], n);
        pool->id = mb_arena_text(mb_machine_arena(machine), id);
    }
}

/* The pool that object[key] names. */
static unsigned read_pool_id(struct mb_reader *reader, const struct mb_machine *machine,
                             const json_t *object, const char *key)
{
    const char *id = mb_reader_text(reader, object, key, MB_REQUIRED);
    unsigned pool = mb_machine_pool_index(machine, id);
    if (id && pool == UINT32_MAX)
        mb_reader_fail(reader, key, "no pool has the id \"%.40s\"", id);
    return pool;
}

static void read_reads(struct mb_reader *reader, struct mb_machine *machine, unsigned processor,
                       const json_t *object)
{
    static const char *const keys[] = {"pool", "bytes_per_s", "provenance", "detail"};
    const json_t *reads = mb_reader_array(reader, object, "reads", MAX_POOLS, MB_REQUIRED);
    for (size_t i = 0; i < json_array_size(reads) && !reader->code; i++) {
        const json_t *read = json_array_get(reads, i);
        size_t mark = mb_reader_enter(reader, "reads[%zu]", i);
        mb_reader_keys(reader, read, keys, MB_COUNT(keys));
        unsigned pool = read_pool_id(reader, machine, read, "pool");
        struct mb_figure figure = figure_in(reader, read, "bytes_per_s", 1e16);
        if (!reader->code)
            mb_machine_add_read(machine, processor, pool, figure);
        mb_reader_leave(reader, mark);
    }
}

static void read_peaks(struct mb_reader *reader, struct mb_machine *machine, unsigned processor,
                       const json_t *object)
{
    static const char *const keys[] = {"type", "flops_per_s", "provenance", "detail"};
    const json_t *peaks = mb_reader_array(reader, object, "peak", 16, MB_OPTIONAL);
    for (size_t i = 0; i < json_array_size(peaks) && !reader->code; i++) {
        const json_t *peak = json_array_get(peaks, i);
        size_t mark = mb_reader_enter(reader, "peak[%zu]", i);
        mb_reader_keys(reader, peak, keys, MB_COUNT(keys));
        const char *type = mb_reader_text(reader, peak, "type", MB_REQUIRED);
        struct mb_figure figure = figure_in(reader, peak, "flops_per_s", 1e19);
        if (!reader->code)
            mb_machine_add_peak(machine, processor, type, figure);
        mb_reader_leave(reader, mark);
    }
}

static void read_processor(struct mb_reader *reader, struct mb_machine *machine,
                           const json_t *object)
{
    static const char *const keys[] = {
        "id",          "kind", "name",   "integrated",    "cores", "threads", "numa_nodes", "simd",
        "cache_bytes", "pci",  "driver", "power_limit_w", "reads", "peak",    "sources"};
    static const char *const figures[] = {"power_limit_w"};
    struct mb_processor processor = {0};
    if (mb_reader_keys(reader, object, keys, MB_COUNT(keys)))
        return;
    int kind = mb_reader_choice(reader, object, "kind", mb_processor_kind_names, 2, MB_REQUIRED);
    processor.kind = kind > 0 ? MB_PROCESSOR_GPU : MB_PROCESSOR_CPU;
    processor.id = read_id(reader, object);
    processor.name = mb_reader_text(reader, object, "name", MB_OPTIONAL);
    processor.integrated = mb_reader_flag(reader, object, "integrated");
    processor.n_cores = (unsigned)mb_reader_count(reader, object, "cores", 1 << 24, MB_OPTIONAL);
    processor.n_threads =
        (unsigned)mb_reader_count(reader, object, "threads", 1 << 20, MB_OPTIONAL);
    processor.n_numa_nodes =
        (unsigned)mb_reader_count(reader, object, "numa_nodes", 1 << 16, MB_OPTIONAL);
    processor.simd = mb_reader_text(reader, object, "simd", MB_OPTIONAL);
    const json_t *caches = mb_reader_array(reader, object, "cache_bytes",
                                           MB_COUNT(processor.cache_bytes), MB_OPTIONAL);
    for (size_t i = 0; i < json_array_size(caches) && !reader->code; i++) {
        const json_t *cache = json_array_get(caches, i);
        json_int_t bytes = json_integer_value(cache);
        if (!(json_is_null(cache) ||
              (json_is_integer(cache) && bytes >= 0 && bytes <= (json_int_t)1 << 50)))
            mb_reader_fail(reader, "cache_bytes", "holds something that is no size in bytes");
        processor.cache_bytes[i] = (uint64_t)bytes;
    }
    processor.pci = mb_reader_text(reader, object, "pci", MB_OPTIONAL);
    processor.driver = mb_reader_text(reader, object, "driver", MB_OPTIONAL);
    check_sources(reader, object, figures, MB_COUNT(figures));
    processor.power_limit_w = bare_figure(reader, object, "power_limit_w", 0, 1e6);
    if (processor.id && mb_machine_processor_index(machine, processor.id) != UINT32_MAX)
        mb_reader_fail(reader, "id", "\"%s\" is given twice", processor.id);
    if (reader->code)
        return;
    unsigned at = mb_machine_add_processor(machine, &processor);
    read_reads(reader, machine, at, object);
    read_peaks(reader, machine, at, object);
}

static void name_processors(struct mb_machine *machine)
{
    for (unsigned i = 0; i < machine->n_processors; i++) {
        struct mb_processor *processor = machine->processors + i;
        int gpu = processor->kind == MB_PROCESSOR_GPU;
        char id[24];
        if (processor->id)
            continue;
        snprintf(id, sizeof id, "%s", gpu ? "gpu0" : "cpu");
        for (unsigned n = 1; mb_machine_processor_index(machine, id) != UINT32_MAX; n++)
            snprintf(id, sizeof id, gpu ? "gpu%u" : "cpu%u", n);
        processor->id = mb_arena_text(mb_machine_arena(machine), id);
    }
}

/* A machine of pools alone: a CPU that reads system RAM and unified RAM, and a GPU for each other
 * pool. How fast a CPU reads a unified pool is not what the pool delivers to the GPU, so that stays
 * unknown. */
static void default_processors(struct mb_machine *machine)
{
    struct mb_processor cpu = {.kind = MB_PROCESSOR_CPU};
    unsigned cpu_at = 0, n_cpus = 0;
    for (unsigned i = 0; i < machine->n_pools; i++) {
        struct mb_figure rate = machine->pools[i].bandwidth_bytes_per_s;
        enum mb_pool_kind kind = machine->pools[i].kind;
        if (kind != MB_POOL_VRAM && !n_cpus++)
            cpu_at = mb_machine_add_processor(machine, &cpu);
        if (kind != MB_POOL_VRAM)
            mb_machine_add_read(machine, cpu_at, i,
                                kind == MB_POOL_SYSTEM ? rate : (struct mb_figure){0});
        if (kind == MB_POOL_SYSTEM)
            continue;
        struct mb_processor gpu = {.kind = MB_PROCESSOR_GPU, .integrated = kind == MB_POOL_UNIFIED};
        mb_machine_add_read(machine, mb_machine_add_processor(machine, &gpu), i, rate);
    }
}

static void read_links(struct mb_reader *reader, struct mb_machine *machine, const json_t *root)
{
    static const char *const keys[] = {"from",      "to",         "name",   "bytes_per_s",
                                       "latency_s", "provenance", "detail", "sources"};
    static const char *const figures[] = {"latency_s"};
    const json_t *links = mb_reader_array(reader, root, "links", MAX_LINKS, MB_OPTIONAL);
    for (size_t i = 0; i < json_array_size(links) && !reader->code; i++) {
        const json_t *object = json_array_get(links, i);
        size_t mark = mb_reader_enter(reader, "links[%zu]", i);
        mb_reader_keys(reader, object, keys, MB_COUNT(keys));
        struct mb_link link = {.from = read_pool_id(reader, machine, object, "from"),
                               .to = read_pool_id(reader, machine, object, "to")};
        if (!reader->code && link.from == link.to)
            mb_reader_fail(reader, "to", "is the same pool as from");
        link.name = mb_reader_text(reader, object, "name", MB_OPTIONAL);
        link.bytes_per_s = figure_in(reader, object, "bytes_per_s", 1e16);
        check_sources(reader, object, figures, MB_COUNT(figures));
        link.latency_s = bare_figure(reader, object, "latency_s", 0, 1e6);
        if (!reader->code)
            mb_machine_add_link(machine, &link);
        mb_reader_leave(reader, mark);
    }
}

static void read_price_and_power(struct mb_reader *reader, struct mb_machine *machine,
                                 const json_t *root)
{
    static const char *const price_keys[] = {"amount", "currency", "date", "condition", "source"};
    static const char *const power_keys[] = {"idle_w", "load_w", "sources"};
    const json_t *object = mb_reader_object(reader, root, "price", MB_OPTIONAL);
    if (object) {
        struct mb_price *price = mb_arena_alloc(reader->arena, sizeof *price);
        size_t mark = mb_reader_enter(reader, "price");
        mb_reader_keys(reader, object, price_keys, MB_COUNT(price_keys));
        double amount = mb_reader_number(reader, object, "amount", 0, 1e12, MB_REQUIRED);
        const char *currency = mb_reader_text(reader, object, "currency", MB_REQUIRED);
        if (currency &&
            (strlen(currency) != 3 || strspn(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 3))
            mb_reader_fail(reader, "currency", "\"%.20s\" is not a code like USD", currency);
        if (price)
            *price = (struct mb_price){amount, currency,
                                       mb_reader_text(reader, object, "date", MB_OPTIONAL),
                                       mb_reader_text(reader, object, "condition", MB_OPTIONAL),
                                       mb_reader_text(reader, object, "source", MB_OPTIONAL)};
        machine->price = price;
        mb_reader_leave(reader, mark);
    }
    object = mb_reader_object(reader, root, "power", MB_OPTIONAL);
    if (object) {
        size_t mark = mb_reader_enter(reader, "power");
        mb_reader_keys(reader, object, power_keys, MB_COUNT(power_keys));
        check_sources(reader, object, power_keys, 2);
        machine->power_idle_w = bare_figure(reader, object, "idle_w", 0, 1e6);
        machine->power_load_w = bare_figure(reader, object, "load_w", 0, 1e6);
        mb_reader_leave(reader, mark);
    }
}

static void read_machine(struct mb_reader *reader, struct mb_machine *machine, const json_t *root)
{
    static const char *const keys[] = {
        "name",  "origin", "class",      "class_title", "class_reason", "class_change",
        "os",    "pools",  "processors", "links",       "measurement",  "price",
        "power", "notes",  "virtual_by", "fingerprint"};
    if (mb_reader_keys(reader, root, keys, MB_COUNT(keys)))
        return;
    const char *slash = strrchr(reader->file, '/'),
               *name = mb_reader_text(reader, root, "name", MB_OPTIONAL);
    machine->name = name && *name ? name : slash ? slash + 1 : reader->file;
    machine->os = mb_reader_text(reader, root, "os", MB_OPTIONAL);
    machine->virtual_by = mb_reader_text(reader, root, "virtual_by", MB_OPTIONAL);
    machine->fingerprint = mb_reader_text(reader, root, "fingerprint", MB_OPTIONAL);
    const json_t *pools = mb_reader_array(reader, root, "pools", MAX_POOLS, MB_REQUIRED);
    if (!reader->code && !json_array_size(pools))
        mb_reader_fail(reader, "pools", "is empty; write at least one pool with kind and capacity");
    for (size_t i = 0; i < json_array_size(pools) && !reader->code; i++) {
        size_t mark = mb_reader_enter(reader, "pools[%zu]", i);
        read_pool(reader, machine, json_array_get(pools, i));
        mb_reader_leave(reader, mark);
    }
    name_pools(machine);
    const json_t *processors =
        mb_reader_array(reader, root, "processors", MAX_PROCESSORS, MB_OPTIONAL);
    for (size_t i = 0; i < json_array_size(processors) && !reader->code; i++) {
        size_t mark = mb_reader_enter(reader, "processors[%zu]", i);
        read_processor(reader, machine, json_array_get(processors, i));
        mb_reader_leave(reader, mark);
    }
    if (!reader->code && !processors)
        default_processors(machine);
    name_processors(machine);
    read_links(reader, machine, root);
    read_price_and_power(reader, machine, root);
    unsigned n_notes = 0;
    const char **notes = mb_reader_texts(reader, root, "notes", MAX_NOTES, &n_notes, MB_OPTIONAL);
    for (unsigned i = 0; i < n_notes; i++)
        mb_machine_add_note(machine, "%s", notes[i]);
    const json_t *measurement = mb_reader_object(reader, root, "measurement", MB_OPTIONAL);
    if (measurement) {
        size_t mark = mb_reader_enter(reader, "measurement");
        machine->measurement = mb_measurement_read(reader, measurement, machine, 0);
        mb_reader_leave(reader, mark);
    }
}

int mb_machine_parse(const char *text, size_t n, const char *label, struct mb_machine **out,
                     struct mb_err *err)
{
    struct mb_err unseen;
    if (!err)
        err = &unseen;
    struct mb_machine *machine = mb_machine_new(MB_ORIGIN_FILE);
    if (!machine)
        return mb_fail_memory(err);
    /* The end of a long path tells more than its start, and the error has to fit beside it. */
    size_t length = strlen(label);
    const char *file =
        mb_arena_text(mb_machine_arena(machine), length > 120 ? label + length - 120 : label);
    struct mb_reader reader = {.arena = mb_machine_arena(machine), .file = file, .err = err};
    json_t *root = NULL;
    int code;
    if (!file) {
        code = mb_fail_memory(err);
    } else if (!(root = mb_json_parse(text, n, file, err))) {
        code = err->code;
    } else {
        read_machine(&reader, machine, root);
        code = reader.code ? reader.code : mb_machine_finish(machine, err);
        json_decref(root);
    }
    if (code)
        mb_machine_free(machine);
    else
        *out = machine;
    return code;
}

int mb_machine_read(const char *path, struct mb_machine **out, struct mb_err *err)
{
    struct mb_arena arena = {0};
    size_t n = 0;
    errno = 0;
    char *text = mb_file_read(&arena, *path == '/' ? "" : ".", path, MAX_FILE_BYTES, &n);
    int why = errno;
    int code;
    if (text)
        code = mb_machine_parse(text, n, path, out, err);
    else if (why == ENOENT || why == ENOTDIR)
        code = mb_fail(err, MB_ENOENT,
                       "%.200s: no such file; membound machine --save FILE writes one", path);
    else if (why == EFBIG)
        code = mb_fail(err, MB_EFORMAT, "%.200s: larger than 4 MiB; this is no machine", path);
    else if (why == ENOMEM)
        code = mb_fail_memory(err);
    else
        code = mb_fail(err, MB_EIO, "%.200s: %s; name a regular file that you may read", path,
                       why == EINVAL ? "no regular file" : strerror(why));
    mb_arena_free(&arena);
    return code;
}
