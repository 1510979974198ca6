/* SPDX-License-Identifier: MIT */
/* The catalog of machines: reads data/machines, finds an entry by the name that a person types, and
 * orders entries by desirability. Building a machine from its chips is left to compose.c, the chips
 * to src/machine/chip.c. */
#include "catalog/catalog.h"
#include "base/reader.h"
#include "catalog/compose.h"
#include "machine/json.h"
#include "machine/machine.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* One entry of the files: what finding it needs. */
struct entry {
    const char *name, *family;
    const char **aliases;
    unsigned n_aliases;
    const json_t *json;
    const char *file;
};

struct catalog {
    struct mb_arena arena;
    struct mb_chips *chips;
    json_t *files; /* array that keeps the parsed files */
    struct entry *entries;
    unsigned n_entries;
};

static void close_catalog(struct catalog *catalog)
{
    mb_chips_close(catalog->chips);
    json_decref(catalog->files);
    mb_arena_free(&catalog->arena);
}

static void read_file(struct catalog *catalog, struct mb_reader *reader, const json_t *root)
{
    static const char *const keys[] = {"schema", "machines"};
    mb_reader_keys(reader, root, keys, MB_COUNT(keys));
    if (mb_reader_number(reader, root, "schema", 0, 1e6, MB_REQUIRED) != 1)
        mb_reader_fail(reader, "schema", "not 1");
    const json_t *list = mb_reader_array(reader, root, "machines", 2000, MB_REQUIRED);
    for (size_t i = 0; i < json_array_size(list) && !reader->code; i++) {
        struct entry entry = {.json = json_array_get(list, i), .file = reader->file};
        size_t mark = mb_reader_enter(reader, "machines[%zu]", i);
        entry.name = mb_reader_text(reader, entry.json, "name", MB_REQUIRED);
        entry.family = mb_reader_text(reader, entry.json, "family", MB_REQUIRED);
        entry.aliases =
            mb_reader_texts(reader, entry.json, "aliases", 16, &entry.n_aliases, MB_OPTIONAL);
        struct entry *new = reader->code ? NULL
                                         : mb_arena_append(reader->arena, &catalog->entries,
                                                           &catalog->n_entries, sizeof *new);
        if (new)
            *new = entry;
        mb_reader_leave(reader, mark);
    }
}

static int open_catalog(const struct mb_embedded *files, size_t n_files, struct catalog *catalog,
                        struct mb_err *err)
{
    *catalog = (struct catalog){.files = json_array()};
    int code =
        catalog->files ? mb_chips_index(files, n_files, &catalog->chips, err) : mb_fail_memory(err);
    for (size_t i = 0; i < n_files && !code; i++) {
        if (strncmp(files[i].name, "machines/", 9) != 0)
            continue;
        json_t *root = mb_json_parse((const char *)files[i].bytes, files[i].n, files[i].name, err);
        struct mb_reader reader = {.arena = &catalog->arena, .file = files[i].name, .err = err};
        if (!root)
            code = err->code;
        else if (json_array_append_new(catalog->files, root) != 0)
            code = mb_fail_memory(err);
        else
            read_file(catalog, &reader, root);
        if (!code)
            code = reader.code;
    }
    if (!code && catalog->arena.failed)
        code = mb_fail_memory(err);
    if (code)
        close_catalog(catalog);
    return code;
}

/* ---- names ---- */

/* The next run of letters or of digits in text; *n its length, 0 at the end. '+' is a letter:
 * "Max+". */
static const char *next_token(const char *text, size_t *n)
{
    while (*text && !isalnum((unsigned char)*text) && *text != '+')
        text++;
    int digits = isdigit((unsigned char)*text) != 0;
    for (*n = 0; isalnum((unsigned char)text[*n]) || text[*n] == '+'; ++*n)
        if ((isdigit((unsigned char)text[*n]) != 0) != digits)
            break;
    return text;
}

/* Does name hold the tokens of one typed word in a row? "M4" is in "Mac mini M4 Pro", but not in
 * "Tesla M40". */
static int holds_word(const char *name, const char *word, size_t word_n)
{
    size_t n, wanted_n, have_n;
    for (const char *start = next_token(name, &n); n; start = next_token(start + n, &n)) {
        const char *have = start, *wanted = next_token(word, &wanted_n);
        have_n = n;
        while (wanted_n && wanted < word + word_n && have_n == wanted_n &&
               strncasecmp(have, wanted, have_n) == 0) {
            have = next_token(have + have_n, &have_n);
            wanted = next_token(wanted + wanted_n, &wanted_n);
        }
        if (!wanted_n || wanted >= word + word_n)
            return 1;
    }
    return 0;
}

/* Does name hold every word that was typed? */
static int holds_words(const char *name, const char *typed)
{
    unsigned n_words = 0;
    for (const char *word = typed; *word;) {
        size_t n = strcspn(word, " ,-_/()\t");
        int some = 0;
        for (size_t i = 0; i < n; i++)
            some |= isalnum((unsigned char)word[i]) || word[i] == '+';
        if (some && !holds_word(name, word, n))
            return 0;
        n_words += (unsigned)some;
        word += n + (word[n] != 0);
    }
    return n_words > 0;
}

enum match { MATCH_WHOLE, MATCH_PART };

static int matches(const struct entry *entry, const char *name, enum match how)
{
    int whole = how == MATCH_WHOLE;
    if (whole ? mb_name_compare(entry->name, name) == 0 : holds_words(entry->name, name))
        return 1;
    for (unsigned i = 0; i < entry->n_aliases; i++)
        if (whole ? mb_name_compare(entry->aliases[i], name) == 0
                  : holds_words(entry->aliases[i], name))
            return 1;
    return !whole && mb_name_compare(entry->family, name) == 0;
}

static int tell_choices(const struct catalog *catalog, const char *name, enum match how, unsigned n,
                        struct mb_err *err)
{
    char list[240] = "";
    size_t used = 0;
    unsigned told = 0;
    for (unsigned i = 0; i < catalog->n_entries; i++) {
        const struct entry *entry = catalog->entries + i;
        if (!matches(entry, name, how))
            continue;
        size_t length = strlen(entry->name) + 2;
        if (used + length >= sizeof list)
            break;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", told ? "; " : "",
                                 entry->name);
        told++;
    }
    char more[32] = "";
    if (told < n)
        snprintf(more, sizeof more, "; and %u more", n - told);
    return mb_fail(err, MB_ENAME,
                   "\"%.40s\" is %u machines: %s%s; membound machine --list shows all", name, n,
                   list, more);
}

static int tell_nearest(const struct catalog *catalog, const char *name, struct mb_err *err)
{
    char nearest[200] = "";
    const char **names = malloc((catalog->n_entries + 1) * sizeof *names);
    for (unsigned i = 0; i < catalog->n_entries && names; i++)
        names[i] = catalog->entries[i].name;
    if (names)
        mb_name_nearest(name, names, catalog->n_entries, 3, nearest, sizeof nearest);
    free(names);
    return *nearest
               ? mb_fail(
                     err, MB_ENAME,
                     "no machine \"%.60s\" in the catalog; did you mean %s?; membound machine --list shows all",
                     name, nearest)
               : mb_fail(err, MB_ENAME,
                         "no machine \"%.60s\" in the catalog; membound machine --list shows all",
                         name);
}

int mb_catalog_find(const struct mb_embedded *files, size_t n_files, const char *name,
                    struct mb_machine **out, struct mb_err *err)
{
    struct mb_err unseen;
    struct catalog catalog;
    if (!err)
        err = &unseen;
    int code = open_catalog(files, n_files, &catalog, err);
    if (code)
        return code;
    const struct entry *found = NULL;
    unsigned n_found = 0;
    enum match how = MATCH_WHOLE;
    for (int step = 0; step < 2 && !n_found; step++) {
        how = step ? MATCH_PART : MATCH_WHOLE;
        for (unsigned i = 0; i < catalog.n_entries; i++)
            if (matches(catalog.entries + i, name, how)) {
                found = catalog.entries + i;
                n_found++;
            }
    }
    if (n_found == 1)
        code = mb_catalog_compose(found->json, found->file, catalog.chips, out, err);
    else if (n_found)
        code = tell_choices(&catalog, name, how, n_found, err);
    else
        code = tell_nearest(&catalog, name, err);
    close_catalog(&catalog);
    return code;
}

/* ---- the list ---- */

struct rows {
    struct mb_arena arena;
    struct mb_catalog_row rows[];
};

void mb_catalog_row_fill(struct mb_arena *arena, struct mb_catalog_row *row, const struct mb_machine *machine)
{
    double vram = 0, vram_rate = 0, unified = 0, unified_rate = 0, ram = 0, ram_rate = 0;
    for (unsigned i = 0; i < machine->n_pools; i++) {
        const struct mb_pool *pool = machine->pools + i;
        double bytes = mb_pool_nominal_bytes(pool);
        double rate =
            mb_figure_known(&pool->bandwidth_bytes_per_s) ? pool->bandwidth_bytes_per_s.value : 0;
        double *sum = pool->kind == MB_POOL_VRAM      ? &vram
                      : pool->kind == MB_POOL_UNIFIED ? &unified
                                                      : &ram;
        double *best = pool->kind == MB_POOL_VRAM      ? &vram_rate
                       : pool->kind == MB_POOL_UNIFIED ? &unified_rate
                                                       : &ram_rate;
        *sum += bytes;
        *best = rate > *best ? rate : *best;
    }
    int by_vram = vram > unified, by_ram = vram <= 0 && unified <= 0;
    row->name = mb_arena_text(arena, machine->name);
    row->machine_class = machine->machine_class;
    row->fast_bytes = by_ram ? ram : by_vram ? vram : unified;
    row->bandwidth_bytes_per_s = by_ram ? ram_rate : by_vram ? vram_rate : unified_rate;
    for (unsigned p = 0; p < machine->n_processors; p++) {
        const struct mb_processor *processor = machine->processors + p;
        for (unsigned k = 0; k < processor->n_peaks && processor->kind == MB_PROCESSOR_GPU; k++)
            if (strcmp(processor->peaks[k].type, "f16") == 0 &&
                processor->peaks[k].flops_per_s.value > row->peak_flops_per_s)
                row->peak_flops_per_s = processor->peaks[k].flops_per_s.value;
    }
    if (machine->price)
        row->price = (struct mb_price){machine->price->amount,
                                       mb_arena_text(arena, machine->price->currency),
                                       mb_arena_text(arena, machine->price->date),
                                       mb_arena_text(arena, machine->price->condition),
                                       mb_arena_text(arena, machine->price->source)};
}

/* Best first (docs/classes.md): memory that a GPU reads before memory that none reads, its size,
 * its bandwidth, compute. */
static int by_desirability(const void *left, const void *right)
{
    const struct mb_catalog_row *a = left, *b = right;
    int a_cpu = a->machine_class == MB_CLASS_CPU, b_cpu = b->machine_class == MB_CLASS_CPU;
    if (a_cpu != b_cpu)
        return a_cpu - b_cpu;
    if (a->fast_bytes != b->fast_bytes)
        return a->fast_bytes < b->fast_bytes ? 1 : -1;
    if (a->bandwidth_bytes_per_s != b->bandwidth_bytes_per_s)
        return a->bandwidth_bytes_per_s < b->bandwidth_bytes_per_s ? 1 : -1;
    if (a->peak_flops_per_s != b->peak_flops_per_s)
        return a->peak_flops_per_s < b->peak_flops_per_s ? 1 : -1;
    return strcmp(a->name, b->name);
}

void mb_catalog_rows_free(struct mb_catalog_row *rows)
{
    if (!rows)
        return;
    struct rows *owner = (struct rows *)((char *)rows - offsetof(struct rows, rows));
    mb_arena_free(&owner->arena);
    free(owner);
}

/* A row and the machine that it is of; the row comes first, for by_desirability(). */
struct listed {
    struct mb_catalog_row row;
    struct mb_machine *machine;
};

static void free_listed(struct listed *listed, size_t n)
{
    for (size_t i = 0; i < n && listed; i++)
        mb_machine_free(listed[i].machine);
    free(listed);
}

/* Every machine composed, with its row, best first; the arena holds the texts of the rows. */
static int compose_all(const struct catalog *catalog, struct mb_arena *arena, struct listed **out, struct mb_err *err)
{
    struct listed *listed = calloc(catalog->n_entries + 1, sizeof *listed);
    int code = listed ? MB_OK : mb_fail_memory(err);
    for (unsigned i = 0; i < catalog->n_entries && !code; i++) {
        code = mb_catalog_compose(catalog->entries[i].json, catalog->entries[i].file, catalog->chips,
                                  &listed[i].machine, err);
        if (!code)
            mb_catalog_row_fill(arena, &listed[i].row, listed[i].machine);
    }
    if (!code && arena->failed)
        code = mb_fail_memory(err);
    if (code) {
        free_listed(listed, catalog->n_entries);
        return code;
    }
    qsort(listed, catalog->n_entries, sizeof *listed, by_desirability);
    *out = listed;
    return MB_OK;
}

static int list_machines(const struct mb_embedded *files, size_t n_files, struct mb_catalog_row **out,
                         struct mb_machine ***out_machines, size_t *out_n, struct mb_err *err)
{
    struct mb_err unseen;
    struct catalog catalog;
    struct listed *listed = NULL;
    if (!err)
        err = &unseen;
    int code = open_catalog(files, n_files, &catalog, err);
    if (code)
        return code;
    size_t n = catalog.n_entries;
    struct rows *rows = calloc(1, sizeof *rows + n * sizeof *rows->rows);
    struct mb_machine **machines = out_machines ? calloc(n + 1, sizeof(struct mb_machine *)) : NULL;
    code = rows && (machines || !out_machines) ? compose_all(&catalog, &rows->arena, &listed, err) : mb_fail_memory(err);
    close_catalog(&catalog);
    if (code) {
        mb_catalog_rows_free(rows ? rows->rows : NULL);
        free(machines);
        return code;
    }
    for (size_t i = 0; i < n; i++) {
        rows->rows[i] = listed[i].row;
        rows->rows[i].desirability = (unsigned)i + 1;
        if (machines) {
            machines[i] = listed[i].machine;
            listed[i].machine = NULL;
        }
    }
    free_listed(listed, n);
    *out = rows->rows;
    if (out_machines)
        *out_machines = machines;
    *out_n = n;
    return MB_OK;
}

int mb_catalog_list(const struct mb_embedded *files, size_t n_files, struct mb_catalog_row **out,
                    size_t *out_n, struct mb_err *err)
{
    return list_machines(files, n_files, out, NULL, out_n, err);
}

int mb_catalog_machines(struct mb_catalog_row **out_rows, struct mb_machine ***out_machines, size_t *out_n,
                        struct mb_err *err)
{
    return list_machines(mb_embedded_files, mb_embedded_n_files, out_rows, out_machines, out_n, err);
}

void mb_catalog_machines_free(struct mb_machine **machines, size_t n)
{
    for (size_t i = 0; i < n && machines; i++)
        mb_machine_free(machines[i]);
    free(machines);
}

/* No two entries may be meant by one name. */
static int check_names(const struct catalog *catalog, struct mb_err *err)
{
    for (unsigned i = 0; i < catalog->n_entries; i++) {
        const struct entry *entry = catalog->entries + i;
        for (unsigned a = 0; a <= entry->n_aliases; a++) {
            const char *name = a < entry->n_aliases ? entry->aliases[a] : entry->name;
            for (unsigned k = 0; k < catalog->n_entries; k++)
                if (k != i && matches(catalog->entries + k, name, MATCH_WHOLE))
                    return mb_fail(err, MB_EFORMAT, "%s: %s: name: \"%.60s\" also means %s",
                                   entry->file, entry->name, name, catalog->entries[k].name);
        }
    }
    return MB_OK;
}

int mb_catalog_check(const struct mb_embedded *files, size_t n_files, struct mb_err *err)
{
    struct mb_chips *chips = NULL;
    struct mb_catalog_row *rows = NULL;
    struct catalog catalog;
    size_t n_rows;
    int code = mb_chips_parse(files, n_files, &chips, err);
    mb_chips_close(chips);
    if (!code)
        code = mb_catalog_list(files, n_files, &rows, &n_rows, err);
    mb_catalog_rows_free(rows);
    if (!code && !(code = open_catalog(files, n_files, &catalog, err))) {
        code = check_names(&catalog, err);
        close_catalog(&catalog);
    }
    return code;
}

int mb_machine_catalog(const char *name, struct mb_machine **out, struct mb_err *err)
{
    return mb_catalog_find(mb_embedded_files, mb_embedded_n_files, name, out, err);
}

int mb_catalog_rows(struct mb_catalog_row **out, size_t *out_n, struct mb_err *err)
{
    return mb_catalog_list(mb_embedded_files, mb_embedded_n_files, out, out_n, err);
}

int mb_catalog_json(char **out, struct mb_err *err)
{
    struct mb_catalog_row *rows = NULL;
    size_t n = 0;
    int code = mb_catalog_rows(&rows, &n, err);
    if (code)
        return code;
    json_t *root = json_object(), *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        const struct mb_catalog_row *row = rows + i;
        json_t *object = json_object();
        bad += mb_json_put(object, "name", mb_json_text(row->name));
        bad += mb_json_put(object, "class", mb_json_text(mb_class_name(row->machine_class)));
        bad += mb_json_put(object, "fast_bytes", mb_json_number(row->fast_bytes));
        bad += mb_json_put(object, "bandwidth_bytes_per_s",
                           row->bandwidth_bytes_per_s > 0 ? mb_json_number(row->bandwidth_bytes_per_s)
                                                          : json_null());
        bad += mb_json_put(object, "peak_flops_per_s",
                           row->peak_flops_per_s > 0 ? mb_json_number(row->peak_flops_per_s)
                                                     : json_null());
        bad += mb_json_put(object, "desirability", mb_json_count(row->desirability));
        bad += mb_json_put(object, "price", mb_price_json(row->price.currency ? &row->price : NULL));
        bad += json_array_append_new(list, object);
    }
    mb_catalog_rows_free(rows);
    bad += mb_json_put(root, "machines", list);
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}
