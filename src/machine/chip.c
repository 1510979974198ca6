/* SPDX-License-Identifier: MIT */
/* Chips as documents describe them: reads data/chips strictly, so that a wrong entry stops the
 * tests and not a person, and finds the chip that a driver names. Which machines are built from
 * chips is left to src/catalog. */
#include "machine/chip.h"
#include "base/reader.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* One chip: its text, and what was read from it once it was asked for. */
struct item {
    const struct mb_embedded *file;
    size_t at, n;    /* where in the file */
    unsigned number; /* in its file */
    enum { UNREAD, READ, BROKEN } state;
    struct mb_chip chip;
};

/* JSON is read chip by chip, when somebody asks: all of it would cost each start of the program
 * milliseconds. */
struct mb_chips {
    struct mb_arena arena;
    struct item *items;
    unsigned n_items;
};

/* The entry being read: its reader and its sources. */
struct entry {
    struct mb_reader *reader;
    const json_t *sources;
};

/* The source of a part; a figure without a source is refused. */
static const char *source_of(struct entry *entry, const json_t *part)
{
    return mb_reader_source(entry->reader, part, entry->sources);
}

static struct mb_figure spec(double value, const char *source)
{
    return isnan(value) ? (struct mb_figure){0} : mb_figure_of(value, MB_SPEC, source);
}

double mb_pcie_bytes_per_s(unsigned generation, unsigned lanes)
{
    /* Transfers per second and line code (8b/10b, 128b/130b; flits of 242 in 256 bytes) from the
     * PCI Express Base Specification, revisions 1.0 to 6.0. */
    static const struct {
        double transfers_per_s, code;
    } generations[] = {{2.5e9, 0.8},        {5e9, 0.8},          {8e9, 128.0 / 130},
                       {16e9, 128.0 / 130}, {32e9, 128.0 / 130}, {64e9, 242.0 / 256}};
    if (generation < 1 || generation > MB_COUNT(generations) || lanes < 1 || lanes > 32)
        return 0;
    return lanes * generations[generation - 1].transfers_per_s * generations[generation - 1].code / 8;
}

static void read_memory(struct entry *entry, struct mb_chip *chip, const json_t *object)
{
    static const char *const keys[] = {"type",         "bus_bits",
                                       "channels",     "mega_transfers_per_s",
                                       "capacity_gib", "bandwidth_bytes_per_s",
                                       "source",       "note"};
    struct mb_reader *reader = entry->reader;
    const json_t *memory = mb_reader_object(reader, object, "memory", MB_REQUIRED);
    size_t mark = mb_reader_enter(reader, "memory");
    if (memory)
        mb_reader_keys(reader, memory, keys, MB_COUNT(keys));
    chip->memory_type = mb_reader_text(reader, memory, "type", MB_OPTIONAL);
    uint64_t bits = mb_reader_count(reader, memory, "bus_bits", 65536, MB_OPTIONAL);
    uint64_t channels = mb_reader_count(reader, memory, "channels", 64, MB_OPTIONAL);
    double transfers =
        mb_reader_number(reader, memory, "mega_transfers_per_s", 100, 1e6, MB_OPTIONAL);
    double bandwidth =
        mb_reader_number(reader, memory, "bandwidth_bytes_per_s", 1e9, 1e14, MB_OPTIONAL);
    const char *source = source_of(entry, memory);
    const json_t *sizes = mb_reader_array(reader, memory, "capacity_gib", 16,
                                          chip->kind == MB_CHIP_CPU ? MB_OPTIONAL : MB_REQUIRED);
    size_t n_sizes = json_array_size(sizes);
    if (!reader->code && chip->kind != MB_CHIP_CPU && !n_sizes)
        mb_reader_fail(reader, "capacity_gib", "names no size");
    chip->capacities_bytes = mb_arena_array(reader->arena, n_sizes, sizeof *chip->capacities_bytes);
    for (size_t i = 0; i < n_sizes && chip->capacities_bytes && !reader->code; i++) {
        double gib = json_number_value(json_array_get(sizes, i));
        if (!(gib > 0 && gib <= 65536))
            mb_reader_fail(reader, "capacity_gib", "holds something that is not in 0..65536");
        chip->capacities_bytes[i] = gib * MB_GIB;
    }
    chip->n_capacities = (unsigned)n_sizes;
    chip->bus_bits = (unsigned)(bits ? bits : channels * 64);
    chip->mega_transfers_per_s = isnan(transfers) ? 0 : transfers;
    double product = chip->bus_bits / 8.0 * chip->mega_transfers_per_s * 1e6;
    if (!isnan(bandwidth)) {
        chip->bandwidth_bytes_per_s = spec(bandwidth, source);
        /* Makers round (400 for 409.6); more than that is a typing error in one of the three. */
        if (product > 0 && fabs(product - bandwidth) > 0.05 * bandwidth)
            mb_reader_fail(reader, "bandwidth_bytes_per_s",
                           "%.4g, but bus_bits / 8 * mega_transfers_per_s is %.4g", bandwidth,
                           product);
    } else if (product > 0) {
        chip->bandwidth_bytes_per_s = mb_figure_of(
            product, MB_DERIVED,
            mb_arena_format(reader->arena, "%u bits / 8 * %.0f MT/s; %s", chip->bus_bits,
                            chip->mega_transfers_per_s, source ? source : ""));
    }
    mb_reader_leave(reader, mark);
}

static void read_link(struct entry *entry, struct mb_chip *chip, const json_t *object)
{
    static const char *const keys[] = {"type",        "generation", "lanes",
                                       "bytes_per_s", "source",     "note"};
    static const char *const types[] = {"pcie", "nvlink-c2c"};
    struct mb_reader *reader = entry->reader;
    const json_t *link = mb_reader_object(reader, object, "link", MB_OPTIONAL);
    if (!link)
        return;
    size_t mark = mb_reader_enter(reader, "link");
    mb_reader_keys(reader, link, keys, MB_COUNT(keys));
    int type = mb_reader_choice(reader, link, "type", types, MB_COUNT(types), MB_REQUIRED);
    const char *source = source_of(entry, link);
    if (type == 0) {
        chip->link_generation =
            (unsigned)mb_reader_count(reader, link, "generation", 6, MB_REQUIRED);
        chip->link_lanes = (unsigned)mb_reader_count(reader, link, "lanes", 16, MB_REQUIRED);
        double rate = mb_pcie_bytes_per_s(chip->link_generation, chip->link_lanes);
        if (!(rate > 0))
            mb_reader_fail(reader, NULL, "no PCIe link has this generation and these lanes");
        chip->link_name = mb_arena_format(reader->arena, "PCIe %u.0 x%u", chip->link_generation,
                                          chip->link_lanes);
        chip->link_bytes_per_s =
            mb_figure_of(rate, MB_DERIVED,
                         mb_arena_format(reader->arena, "%s after the line code; %s",
                                         chip->link_name, source ? source : ""));
    } else if (type == 1) {
        chip->link_name = "NVLink-C2C";
        chip->link_bytes_per_s =
            spec(mb_reader_number(reader, link, "bytes_per_s", 1e9, 1e13, MB_REQUIRED), source);
    }
    mb_reader_leave(reader, mark);
}

/* {"value": .., "source": ..} */
static struct mb_figure read_figure(struct entry *entry, const json_t *object, const char *key,
                                    double max)
{
    static const char *const keys[] = {"value", "source", "note"};
    struct mb_reader *reader = entry->reader;
    const json_t *figure = mb_reader_object(reader, object, key, MB_OPTIONAL);
    if (!figure)
        return (struct mb_figure){0};
    size_t mark = mb_reader_enter(reader, "%s", key);
    mb_reader_keys(reader, figure, keys, MB_COUNT(keys));
    double value = mb_reader_number(reader, figure, "value", 1, max, MB_REQUIRED);
    const char *source = source_of(entry, figure);
    mb_reader_leave(reader, mark);
    return spec(value, source);
}

/* The name and core count of a part of the chip: {"name": .., "cores": ..}. */
static void read_part(struct entry *entry, const json_t *object, const char *key, const char **name,
                      unsigned *n_cores)
{
    static const char *const keys[] = {"name", "cores", "source", "note"};
    struct mb_reader *reader = entry->reader;
    const json_t *part = mb_reader_object(reader, object, key, MB_OPTIONAL);
    if (!part)
        return;
    size_t mark = mb_reader_enter(reader, "%s", key);
    mb_reader_keys(reader, part, keys, MB_COUNT(keys));
    *name = mb_reader_text(reader, part, "name", MB_OPTIONAL);
    *n_cores = (unsigned)mb_reader_count(reader, part, "cores", 100000, MB_OPTIONAL);
    mb_reader_leave(reader, mark);
}

static void read_usable(struct entry *entry, struct mb_chip *chip, const json_t *object)
{
    static const char *const keys[] = {"rule", "source", "note"};
    static const char *const rules[] = {"all", "apple-wired", "amd-gtt"};
    struct mb_reader *reader = entry->reader;
    const json_t *usable = mb_reader_object(reader, object, "gpu_usable", MB_OPTIONAL);
    if (!usable)
        return;
    size_t mark = mb_reader_enter(reader, "gpu_usable");
    mb_reader_keys(reader, usable, keys, MB_COUNT(keys));
    int rule = mb_reader_choice(reader, usable, "rule", rules, MB_COUNT(rules), MB_REQUIRED);
    static const enum mb_usable_rule values[] = {MB_USABLE_ALL, MB_USABLE_APPLE_WIRED,
                                                 MB_USABLE_AMD_GTT};
    chip->usable_rule = rule >= 0 ? values[rule] : MB_USABLE_UNKNOWN;
    chip->usable_source = source_of(entry, usable);
    mb_reader_leave(reader, mark);
}

static void read_peaks(struct entry *entry, struct mb_chip *chip, const json_t *object)
{
    static const char *const keys[] = {"type", "flops_per_s", "source", "note"};
    static const char *const types[] = {"f32", "f16", "bf16", "i8", "fp8", "fp4", "i4", "tf32"};
    struct mb_reader *reader = entry->reader;
    const json_t *peaks = mb_reader_array(reader, object, "peak", 16, MB_OPTIONAL);
    for (size_t i = 0; i < json_array_size(peaks) && !reader->code; i++) {
        const json_t *peak = json_array_get(peaks, i);
        size_t mark = mb_reader_enter(reader, "peak[%zu]", i);
        mb_reader_keys(reader, peak, keys, MB_COUNT(keys));
        int type = mb_reader_choice(reader, peak, "type", types, MB_COUNT(types), MB_REQUIRED);
        double flops = mb_reader_number(reader, peak, "flops_per_s", 1e9, 1e17, MB_REQUIRED);
        const char *note = mb_reader_text(reader, peak, "note", MB_OPTIONAL);
        const char *source = source_of(entry, peak);
        for (unsigned k = 0; k < chip->n_peaks && type >= 0; k++)
            if (strcmp(chip->peaks[k].type, types[type]) == 0)
                mb_reader_fail(reader, "type", "%s is given twice", types[type]);
        if (note && *note && source)
            source = mb_arena_format(reader->arena, "%s; %s", note, source);
        struct mb_peak *new =
            mb_arena_append(reader->arena, &chip->peaks, &chip->n_peaks, sizeof *new);
        if (new &&type >= 0)
            *new = (struct mb_peak){types[type], spec(flops, source)};
        mb_reader_leave(reader, mark);
    }
}

static void read_power(struct entry *entry, struct mb_chip *chip, const json_t *object)
{
    static const char *const keys[] = {"idle_w", "load_w", "source", "note"};
    struct mb_reader *reader = entry->reader;
    const json_t *power = mb_reader_object(reader, object, "power", MB_OPTIONAL);
    if (!power)
        return;
    size_t mark = mb_reader_enter(reader, "power");
    mb_reader_keys(reader, power, keys, MB_COUNT(keys));
    double idle = mb_reader_number(reader, power, "idle_w", 0, 1e5, MB_OPTIONAL);
    double load = mb_reader_number(reader, power, "load_w", 0.1, 1e5, MB_OPTIONAL);
    if (!isnan(idle) || !isnan(load)) {
        const char *source = source_of(entry, power);
        chip->power_idle_w = spec(idle, source);
        chip->power_load_w = spec(load, source);
    }
    mb_reader_leave(reader, mark);
}

static int is_pci_id(const char *text)
{
    for (int i = 0; i < 9; i++)
        if (i == 4 ? text[i] != ':'
                   : !isxdigit((unsigned char)text[i]) || isupper((unsigned char)text[i]))
            return 0;
    return text[9] == 0;
}

static void read_chip(struct mb_reader *reader, struct mb_chip *chip, const json_t *object)
{
    static const char *const keys[] = {
        "id",         "kind",   "name",  "vendor", "released", "match",
        "pci",        "memory", "link",  "cpu",    "gpu",      "cpu_read_bytes_per_s",
        "gpu_usable", "peak",   "power", "note",   "sources"};
    static const char *const kinds[] = {"gpu", "soc", "cpu"};
    if (mb_reader_keys(reader, object, keys, MB_COUNT(keys)))
        return;
    chip->id = mb_reader_text(reader, object, "id", MB_REQUIRED);
    size_t mark = mb_reader_enter(reader, "%s", chip->id ? chip->id : "");
    struct entry entry = {reader, mb_reader_object(reader, object, "sources", MB_REQUIRED)};
    int kind = mb_reader_choice(reader, object, "kind", kinds, MB_COUNT(kinds), MB_REQUIRED);
    chip->kind = kind > 0 ? (enum mb_chip_kind)kind : MB_CHIP_GPU;
    chip->name = mb_reader_text(reader, object, "name", MB_REQUIRED);
    chip->vendor = mb_reader_text(reader, object, "vendor", MB_REQUIRED);
    chip->released = mb_reader_text(reader, object, "released", MB_OPTIONAL);
    chip->match = mb_reader_texts(reader, object, "match", 64, &chip->n_match, MB_REQUIRED);
    chip->pci = mb_reader_texts(reader, object, "pci", 64, &chip->n_pci, MB_OPTIONAL);
    for (unsigned i = 0; i < chip->n_pci; i++)
        if (!is_pci_id(chip->pci[i]))
            mb_reader_fail(reader, "pci", "\"%.20s\" is not like 10de:2684", chip->pci[i]);
    read_memory(&entry, chip, object);
    read_link(&entry, chip, object);
    read_part(&entry, object, "cpu", &chip->cpu_name, &chip->n_cpu_cores);
    read_part(&entry, object, "gpu", &chip->gpu_name, &chip->n_gpu_cores);
    chip->cpu_read_bytes_per_s = read_figure(&entry, object, "cpu_read_bytes_per_s", 1e14);
    read_usable(&entry, chip, object);
    read_peaks(&entry, chip, object);
    read_power(&entry, chip, object);
    if (!reader->code && mb_figure_known(&chip->cpu_read_bytes_per_s) &&
        chip->cpu_read_bytes_per_s.value > chip->bandwidth_bytes_per_s.value)
        mb_reader_fail(reader, "cpu_read_bytes_per_s", "more than the memory delivers");
    if (!reader->code && chip->kind != MB_CHIP_CPU &&
        !mb_figure_known(&chip->bandwidth_bytes_per_s))
        mb_reader_fail(reader, "memory",
                       "neither bandwidth_bytes_per_s nor bus_bits and mega_transfers_per_s");
    mb_reader_leave(reader, mark);
}

/* Read a chip now if it was not read before; NULL when its entry is broken. */
static const struct mb_chip *chip_of(const struct mb_chips *chips, unsigned at, struct mb_err *err)
{
    /* What was read is kept for the next question; to callers nothing changes. */
    struct mb_chips *keep = (struct mb_chips *)chips;
    struct item *item = keep->items + at;
    if (item->state == UNREAD) {
        const char *text = (const char *)item->file->bytes + item->at;
        json_t *root = mb_json_parse(text, item->n, item->file->name, err);
        struct mb_reader reader = {.arena = &keep->arena, .file = item->file->name, .err = err};
        mb_reader_enter(&reader, "chips[%u]", item->number);
        if (root)
            read_chip(&reader, &item->chip, root);
        item->state = root && !reader.code ? READ : BROKEN;
        json_decref(root);
    }
    return item->state == READ ? &item->chip : NULL;
}

/* Does the text of a chip hold these words, whatever their case? The quick test before an entry is
 * read. */
static int mentions(const struct item *item, const char *words, size_t n)
{
    const char *text = (const char *)item->file->bytes + item->at;
    int first = tolower((unsigned char)*words);
    for (size_t i = 0; i + n <= item->n; i++)
        if (tolower((unsigned char)text[i]) == first && strncasecmp(text + i, words, n) == 0)
            return 1;
    return 0;
}

/* Surrounding blanks cut: start and *n. */
static const char *trim(const char *text, size_t *n)
{
    while (isspace((unsigned char)*text))
        text++;
    *n = strlen(text);
    while (*n && isspace((unsigned char)text[*n - 1]))
        --*n;
    return text;
}

/* Find where each chip stands in a file: the elements of "chips", by counting braces outside of
 * texts. */
static void index_file(struct mb_chips *chips, const struct mb_embedded *file)
{
    const char *text = (const char *)file->bytes;
    const char *list = strstr(text, "\"chips\"");
    size_t at = list ? (size_t)(list - text) + 7 : file->n, start = 0;
    int depth = 0, in_text = 0;
    unsigned number = 0;
    for (; at < file->n; at++) {
        if (in_text) {
            if (text[at] == '\\')
                at++;
            else
                in_text = text[at] != '"';
        } else if (text[at] == '"') {
            in_text = 1;
        } else if (text[at] == '{' && depth++ == 0) {
            start = at;
        } else if (text[at] == '}' && --depth == 0) {
            struct item *item =
                mb_arena_append(&chips->arena, &chips->items, &chips->n_items, sizeof *item);
            if (item)
                *item = (struct item){
                    .file = file, .at = start, .n = at + 1 - start, .number = number++};
        } else if (text[at] == ']' && depth == 0) {
            return;
        }
    }
}

/* Check a whole file, and that index_file() has found all chips of it: {"schema": 1, "chips":
 * [..]}. */
static int check_file(const struct mb_chips *chips, const struct mb_embedded *file,
                      struct mb_err *err)
{
    static const char *const keys[] = {"schema", "chips"};
    json_t *root = mb_json_parse((const char *)file->bytes, file->n, file->name, err);
    if (!root)
        return err->code;
    struct mb_arena arena = {0};
    struct mb_reader reader = {.arena = &arena, .file = file->name, .err = err};
    mb_reader_keys(&reader, root, keys, MB_COUNT(keys));
    if (mb_reader_number(&reader, root, "schema", 0, 1e6, MB_REQUIRED) != 1)
        mb_reader_fail(&reader, "schema", "not 1");
    size_t n = json_array_size(mb_reader_array(&reader, root, "chips", 2000, MB_REQUIRED)),
           n_found = 0;
    for (unsigned i = 0; i < chips->n_items; i++)
        n_found += chips->items[i].file == file;
    if (n != n_found)
        mb_reader_fail(&reader, "chips", "%zu elements, of which %zu are objects", n, n_found);
    json_decref(root);
    mb_arena_free(&arena);
    return reader.code;
}

size_t mb_chips_count(const struct mb_chips *chips)
{
    return chips->n_items;
}

const struct mb_chip *mb_chips_at(const struct mb_chips *chips, size_t at)
{
    return at < chips->n_items ? chip_of(chips, (unsigned)at, NULL) : NULL;
}

const struct mb_chip *mb_chip_by_id(const struct mb_chips *chips, const char *id)
{
    for (unsigned i = 0; i < chips->n_items && id && *id; i++) {
        const struct mb_chip *chip =
            mentions(chips->items + i, id, strlen(id)) ? chip_of(chips, i, NULL) : NULL;
        if (chip && strcmp(chip->id, id) == 0)
            return chip;
    }
    return NULL;
}

/* Equal without case and surrounding blanks. */
static int same_name(const char *a, const char *b)
{
    size_t na, nb;
    a = trim(a, &na);
    b = trim(b, &nb);
    return na && na == nb && strncasecmp(a, b, na) == 0;
}

static int is_among(const char *const *names, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n && name; i++)
        if (same_name(names[i], name))
            return 1;
    return 0;
}

static int has_capacity(const struct mb_chip *chip, double bytes)
{
    for (unsigned i = 0; i < chip->n_capacities; i++)
        if (bytes >= chip->capacities_bytes[i] * 0.93 && bytes <= chip->capacities_bytes[i] * 1.01)
            return 1;
    return chip->n_capacities == 0;
}

/* Does no hint beyond the name speak against the chip? What the chip's entry leaves open speaks for
 * nobody. */
static int fits(const struct mb_chip *chip, const struct mb_chip_hints *hints)
{
    if (hints->pci_id && chip->n_pci && !is_among(chip->pci, chip->n_pci, hints->pci_id))
        return 0;
    if (hints->n_cpu_cores && chip->n_cpu_cores && chip->n_cpu_cores != hints->n_cpu_cores)
        return 0;
    if (hints->n_gpu_cores && chip->n_gpu_cores && chip->n_gpu_cores != hints->n_gpu_cores)
        return 0;
    return !(hints->memory_bytes > 0) || has_capacity(chip, hints->memory_bytes);
}

const struct mb_chip *mb_chip_find_like(const struct mb_chips *chips,
                                        const struct mb_chip_hints *hints)
{
    const struct mb_chip *named = NULL, *fitting = NULL;
    unsigned n_named = 0, n_fitting = 0;
    for (int by_pci = 0; by_pci < 2 && !n_named; by_pci++) {
        const char *words = by_pci ? hints->pci_id : hints->name;
        size_t n = 0;
        words = words ? trim(words, &n) : NULL;
        for (unsigned i = 0; i < chips->n_items && n; i++) {
            const struct mb_chip *chip =
                mentions(chips->items + i, words, n) ? chip_of(chips, i, NULL) : NULL;
            if (!chip || !(by_pci ? is_among(chip->pci, chip->n_pci, words)
                                  : is_among(chip->match, chip->n_match, words)))
                continue;
            named = chip;
            n_named++;
            if (fits(chip, hints)) {
                fitting = chip;
                n_fitting++;
            }
        }
    }
    /* A name that only one chip has is enough: firmware hides cores and memory, and PCI ids are
     * often missing here. */
    return n_named == 1 ? named : n_fitting == 1 ? fitting : NULL;
}

const struct mb_chip *mb_chip_find(const struct mb_chips *chips, const char *name,
                                   const char *pci_id)
{
    return mb_chip_find_like(chips, &(struct mb_chip_hints){.name = name, .pci_id = pci_id});
}

struct mb_figure mb_usable_bytes(enum mb_usable_rule rule, double capacity_bytes,
                                 struct mb_arena *arena, const char **raise)
{
    *raise = NULL;
    if (!(capacity_bytes > 0) || rule == MB_USABLE_UNKNOWN)
        return (struct mb_figure){0};
    if (rule == MB_USABLE_APPLE_WIRED) {
        /* macOS itself needs a few GiB that are not wired. */
        int small = capacity_bytes <= 36 * MB_GIB;
        double left = capacity_bytes > 16 * MB_GIB ? 8 * MB_GIB : 4 * MB_GIB;
        if (capacity_bytes - left > capacity_bytes * (small ? 2.0 / 3 : 0.75))
            *raise = mb_arena_format(
                arena,
                "sudo sysctl iogpu.wired_limit_mb=%.0f (leaves %.0f GiB to macOS; until the "
                "next restart)",
                floor((capacity_bytes - left) / MB_MIB), left / MB_GIB);
        return mb_figure_of(floor(capacity_bytes * (small ? 2.0 / 3 : 0.75)), MB_DERIVED,
                            small ? "2/3 of RAM: default wired limit of macOS up to 36 GiB"
                                  : "3/4 of RAM: default wired limit of macOS above 36 GiB");
    }
    if (rule == MB_USABLE_AMD_GTT) {
        /* 110 of 128 GiB is what people run with; the same share for smaller ones. */
        double most = floor(capacity_bytes * 110 / 128 / MB_GIB) * MB_GIB;
        if (most > capacity_bytes / 2)
            *raise = mb_arena_format(
                arena,
                "boot with ttm.pages_limit=%.0f (older kernels: amdgpu.gttsize=%.0f) for %.0f GiB",
                most / 4096, most / MB_MIB, most / MB_GIB);
        return mb_figure_of(floor(capacity_bytes / 2), MB_DERIVED,
                            "half of RAM: default GTT limit of amdgpu");
    }
    return mb_figure_of(capacity_bytes, MB_DERIVED, "all of its memory");
}

void mb_chips_close(struct mb_chips *chips)
{
    if (!chips)
        return;
    mb_arena_free(&chips->arena);
    free(chips);
}

int mb_chips_index(const struct mb_embedded *files, size_t n_files, struct mb_chips **out,
                   struct mb_err *err)
{
    struct mb_chips *chips = calloc(1, sizeof *chips);
    for (size_t i = 0; chips && i < n_files; i++)
        if (strncmp(files[i].name, "chips/", 6) == 0)
            index_file(chips, files + i);
    if (!chips || chips->arena.failed) {
        mb_chips_close(chips);
        return mb_fail_memory(err);
    }
    *out = chips;
    return MB_OK;
}

int mb_chips_open(struct mb_chips **out, struct mb_err *err)
{
    return mb_chips_index(mb_embedded_files, mb_embedded_n_files, out, err);
}

int mb_chips_parse(const struct mb_embedded *files, size_t n_files, struct mb_chips **out,
                   struct mb_err *err)
{
    struct mb_err unseen;
    if (!err)
        err = &unseen;
    struct mb_chips *chips = NULL;
    int code = mb_chips_index(files, n_files, &chips, err);
    if (code)
        return code;
    for (size_t i = 0; i < n_files && !code; i++)
        if (strncmp(files[i].name, "chips/", 6) == 0)
            code = check_file(chips, files + i, err);
    for (unsigned i = 0; i < chips->n_items && !code; i++) {
        const struct mb_chip *chip = chip_of(chips, i, err);
        if (!chip)
            code = err->code;
        else if (mb_chip_by_id(chips, chip->id) != chip)
            code = mb_fail(err, MB_EFORMAT, "%s: %s: id: exists already",
                           chips->items[i].file->name, chip->id);
    }
    if (!code && chips->arena.failed)
        code = mb_fail_memory(err);
    if (code)
        mb_chips_close(chips);
    else
        *out = chips;
    return code;
}
