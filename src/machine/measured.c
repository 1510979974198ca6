/* SPDX-License-Identifier: MIT */
/* A measurement and its machine. How to measure is left to measure.c, where measurements are kept
 * to history.c. */
#include "machine/measured.h"
#include "machine/machine.h"

#include <math.h>
#include <string.h>

static const char *const kinds[] = {"read", "copy", "shared"};

enum { MAX_SERIES = 1024 };

unsigned mb_machine_pool_index(const struct mb_machine *machine, const char *id)
{
    for (unsigned i = 0; i < machine->n_pools && id; i++)
        if (machine->pools[i].id && strcmp(machine->pools[i].id, id) == 0)
            return i;
    return UINT32_MAX;
}

unsigned mb_machine_processor_index(const struct mb_machine *machine, const char *id)
{
    for (unsigned i = 0; i < machine->n_processors && id; i++)
        if (machine->processors[i].id && strcmp(machine->processors[i].id, id) == 0)
            return i;
    return UINT32_MAX;
}

static json_t *pool_id(const struct mb_machine *machine, unsigned pool)
{
    return mb_json_text(pool < machine->n_pools ? machine->pools[pool].id : NULL);
}

static json_t *series_json(const struct mb_machine *machine, const struct mb_measured *series)
{
    json_t *object = json_object(), *levels = json_array();
    const char *processor = series->processor < machine->n_processors
                                ? machine->processors[series->processor].id
                                : NULL;
    int bad = mb_json_put(
        object, "kind",
        mb_json_text((unsigned)series->kind < MB_COUNT(kinds) ? kinds[series->kind] : NULL));
    bad += mb_json_put(object, "processor", mb_json_text(processor));
    bad += mb_json_put(object, "pool", pool_id(machine, series->pool));
    bad += mb_json_put(object, "pool_to",
                       series->kind == MB_MEASURED_COPY ? pool_id(machine, series->pool_to)
                                                        : json_null());
    bad += mb_json_put(object, "threads", mb_json_count(series->n_threads));
    bad += mb_json_put(object, "samples", mb_json_count(series->n_samples));
    bad += mb_json_put(object, "bytes_per_s", mb_json_number(series->bytes_per_s));
    bad += mb_json_put(object, "median_bytes_per_s", mb_json_number(series->median_bytes_per_s));
    bad += mb_json_put(object, "min_bytes_per_s", mb_json_number(series->min_bytes_per_s));
    bad += mb_json_put(object, "max_bytes_per_s", mb_json_number(series->max_bytes_per_s));
    bad += mb_json_put(object, "spread", mb_json_number(series->spread));
    for (unsigned i = 0; i < series->n_levels && i < MB_COUNT(series->levels); i++) {
        json_t *level = json_object();
        bad += mb_json_put(level, "bytes_per_s", mb_json_number(series->levels[i].bytes_per_s));
        bad += mb_json_put(level, "share", mb_json_number(series->levels[i].share));
        bad += json_array_append_new(levels, level);
    }
    bad += mb_json_put(object, "levels", levels);
    bad += mb_json_put(object, "buffer_bytes", mb_json_count(series->buffer_bytes));
    bad += mb_json_put(object, "latency_s", mb_json_number(series->latency_s));
    bad += mb_json_put(object, "method", mb_json_text(series->method));
    bad += mb_json_put(object, "rejected", mb_json_text(series->rejected));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

json_t *mb_measurement_json(const struct mb_machine *machine,
                            const struct mb_measurement *measurement)
{
    json_t *object = json_object(), *series = json_array();
    int bad = mb_json_put(object, "date", mb_json_text(measurement->date));
    bad += mb_json_put(object, "version", mb_json_text(measurement->version));
    bad += mb_json_put(object, "age_s", mb_json_number(measurement->age_s));
    bad += mb_json_put(object, "took_s", mb_json_number(measurement->took_s));
    bad += mb_json_put(object, "quick", json_boolean(measurement->quick));
    for (unsigned i = 0; i < measurement->n_series; i++)
        bad += json_array_append_new(series, series_json(machine, measurement->series + i));
    bad += mb_json_put(object, "series", series);
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

/* A number that is 0 when absent. */
static double number(struct mb_reader *reader, const json_t *object, const char *key, double max)
{
    double value = mb_reader_number(reader, object, key, 0, max, MB_OPTIONAL);
    return isnan(value) ? 0 : value;
}

static unsigned index_of(struct mb_reader *reader, const json_t *object, const char *key,
                         unsigned find(const struct mb_machine *, const char *),
                         const struct mb_machine *machine, int lenient)
{
    const char *id = mb_reader_text(reader, object, key, MB_OPTIONAL);
    unsigned at = find(machine, id);
    if (id && at == UINT32_MAX && !lenient)
        mb_reader_fail(reader, key, "the machine has no \"%.40s\"", id);
    return at;
}

static void read_series(struct mb_reader *reader, struct mb_measured *series, const json_t *object,
                        const struct mb_machine *machine, int lenient)
{
    static const char *const keys[] = {"kind",
                                       "processor",
                                       "pool",
                                       "pool_to",
                                       "threads",
                                       "samples",
                                       "bytes_per_s",
                                       "spread",
                                       "levels",
                                       "latency_s",
                                       "method",
                                       "min_bytes_per_s",
                                       "max_bytes_per_s",
                                       "median_bytes_per_s",
                                       "rejected",
                                       "buffer_bytes"};
    static const char *const level_keys[] = {"bytes_per_s", "share"};
    if (mb_reader_keys(reader, object, keys, MB_COUNT(keys)))
        return;
    int kind = mb_reader_choice(reader, object, "kind", kinds, MB_COUNT(kinds), MB_REQUIRED);
    series->kind = kind > 0 ? (enum mb_measured_kind)kind : MB_MEASURED_READ;
    series->processor =
        index_of(reader, object, "processor", mb_machine_processor_index, machine, lenient);
    series->pool = index_of(reader, object, "pool", mb_machine_pool_index, machine, lenient);
    series->pool_to = index_of(reader, object, "pool_to", mb_machine_pool_index, machine, lenient);
    series->n_threads = (unsigned)mb_reader_count(reader, object, "threads", 1 << 20, MB_OPTIONAL);
    series->n_samples =
        (unsigned)mb_reader_count(reader, object, "samples", UINT32_MAX, MB_OPTIONAL);
    series->bytes_per_s = number(reader, object, "bytes_per_s", 1e16);
    series->median_bytes_per_s = number(reader, object, "median_bytes_per_s", 1e16);
    series->min_bytes_per_s = number(reader, object, "min_bytes_per_s", 1e16);
    series->max_bytes_per_s = number(reader, object, "max_bytes_per_s", 1e16);
    series->spread = number(reader, object, "spread", 1e16);
    const json_t *levels =
        mb_reader_array(reader, object, "levels", MB_COUNT(series->levels), MB_OPTIONAL);
    for (size_t i = 0; i < json_array_size(levels); i++) {
        const json_t *level = json_array_get(levels, i);
        mb_reader_keys(reader, level, level_keys, MB_COUNT(level_keys));
        series->levels[i].bytes_per_s = number(reader, level, "bytes_per_s", 1e16);
        series->levels[i].share = number(reader, level, "share", 1);
        series->n_levels = (unsigned)i + 1;
    }
    series->buffer_bytes =
        mb_reader_count(reader, object, "buffer_bytes", (uint64_t)1 << 60, MB_OPTIONAL);
    series->latency_s = number(reader, object, "latency_s", 1e6);
    series->method = mb_reader_text(reader, object, "method", MB_OPTIONAL);
    series->rejected = mb_reader_text(reader, object, "rejected", MB_OPTIONAL);
}

struct mb_measurement *mb_measurement_read(struct mb_reader *reader, const json_t *object,
                                           const struct mb_machine *machine, int lenient)
{
    static const char *const keys[] = {"date", "version", "age_s", "took_s", "quick", "series"};
    struct mb_measurement *measurement = mb_arena_alloc(reader->arena, sizeof *measurement);
    mb_reader_keys(reader, object, keys, MB_COUNT(keys));
    const json_t *list = mb_reader_array(reader, object, "series", MAX_SERIES, MB_REQUIRED);
    size_t n = json_array_size(list);
    struct mb_measured *series = mb_arena_array(reader->arena, n, sizeof *series);
    if (!measurement || !series) {
        if (!reader->code)
            reader->code = mb_fail_memory(reader->err);
        return NULL;
    }
    measurement->date = mb_reader_text(reader, object, "date", MB_OPTIONAL);
    measurement->version = mb_reader_text(reader, object, "version", MB_OPTIONAL);
    measurement->age_s = number(reader, object, "age_s", 1e12);
    measurement->took_s = number(reader, object, "took_s", 1e9);
    measurement->quick = mb_reader_flag(reader, object, "quick");
    for (size_t i = 0; i < n && !reader->code; i++) {
        size_t mark = mb_reader_enter(reader, "series[%zu]", i);
        read_series(reader, series + i, json_array_get(list, i), machine, lenient);
        mb_reader_leave(reader, mark);
    }
    measurement->series = series;
    measurement->n_series = (unsigned)n;
    return reader->code ? NULL : measurement;
}

/* "avx2 loads, 2 threads, 3 days ago with membound 0.1.0" */
static struct mb_figure figure_of(struct mb_arena *arena, const struct mb_measurement *measurement,
                                  const struct mb_measured *series, double value)
{
    char threads[40] = "", age[48], when[64];
    if (series->n_threads && !(series->method && strstr(series->method, "thread")))
        snprintf(threads, sizeof threads, "%u thread%s, ", series->n_threads,
                 series->n_threads == 1 ? "" : "s");
    if (measurement->age_s < 60)
        snprintf(when, sizeof when, "now");
    else
        snprintf(when, sizeof when, "%s ago", mb_format_age(measurement->age_s, age, sizeof age));
    const char *detail = mb_arena_format(
        arena, "%s%s%s%s%s%s", threads, series->method ? series->method : "",
        series->method ? ", " : "", when, measurement->version ? " with membound " : "",
        measurement->version ? measurement->version : "");
    return mb_figure_of(value, MB_MEASURED, detail);
}

static int accepted(const struct mb_measured *series, enum mb_measured_kind kind)
{
    return series->kind == kind && !series->rejected && isfinite(series->bytes_per_s) &&
           series->bytes_per_s > 0;
}

static void apply_read(struct mb_machine *machine, const struct mb_measurement *measurement,
                       const struct mb_measured *series)
{
    for (unsigned i = 0; i < measurement->n_series; i++) {
        const struct mb_measured *other = measurement->series + i;
        if (other != series && accepted(other, MB_MEASURED_READ) &&
            other->processor == series->processor && other->pool == series->pool &&
            other->bytes_per_s > series->bytes_per_s)
            return; /* the better one speaks for both */
    }
    struct mb_figure figure =
        figure_of(mb_machine_arena(machine), measurement, series, series->bytes_per_s);
    struct mb_processor *processor = machine->processors + series->processor;
    for (unsigned r = 0; r < processor->n_reads; r++)
        if (processor->reads[r].pool == series->pool) {
            processor->reads[r].bytes_per_s = figure;
            return;
        }
    mb_machine_add_read(machine, series->processor, series->pool, figure);
}

static void apply_copy(struct mb_machine *machine, const struct mb_measurement *measurement,
                       const struct mb_measured *series)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    struct mb_figure figure = figure_of(arena, measurement, series, series->bytes_per_s),
                     latency = {0};
    if (isfinite(series->latency_s) && series->latency_s > 0)
        latency = figure_of(arena, measurement, series, series->latency_s);
    for (unsigned i = 0; i < machine->n_links; i++) {
        struct mb_link *link = machine->links + i;
        if (link->from != series->pool || link->to != series->pool_to)
            continue;
        link->bytes_per_s = figure;
        if (mb_figure_known(&latency))
            link->latency_s = latency;
        return;
    }
    struct mb_link link = {series->pool, series->pool_to, NULL, figure, latency};
    mb_machine_add_link(machine, &link);
}

int mb_machine_apply_measurement(struct mb_machine *machine,
                                 const struct mb_measurement *measurement)
{
    for (unsigned i = 0; i < measurement->n_series; i++) {
        const struct mb_measured *series = measurement->series + i;
        if (series->pool >= machine->n_pools)
            continue;
        if (accepted(series, MB_MEASURED_READ) && series->processor < machine->n_processors)
            apply_read(machine, measurement, series);
        else if (accepted(series, MB_MEASURED_COPY) && series->pool_to < machine->n_pools &&
                 series->pool_to != series->pool)
            apply_copy(machine, measurement, series);
    }
    machine->measurement = measurement;
    return mb_machine_finish(machine, NULL);
}
