/* SPDX-License-Identifier: MIT */
/* A machine as JSON text and as a file. Reading it back is left to json_read.c. Unknown figures are
 * null; a figure that is written as a bare number has its provenance under "sources". */
#include "machine/json.h"
#include "machine/machine.h"
#include "machine/measured.h"

#include <string.h>

const char *const mb_pool_kind_names[3] = {"system", "vram", "unified"};
const char *const mb_processor_kind_names[2] = {"cpu", "gpu"};

static const char *word(const char *const *words, size_t n, unsigned at)
{
    return at < n ? words[at] : NULL;
}

/* A count that is unknown when 0. */
static json_t *count(uint64_t value)
{
    return value ? mb_json_count(value) : json_null();
}

/* Put the value under key, and "reported: /proc/meminfo" under the same key of sources. */
static int put_figure(json_t *object, json_t *sources, const char *key,
                      const struct mb_figure *figure)
{
    if (!mb_figure_known(figure))
        return mb_json_put(object, key, json_null());
    json_t *source = figure->detail ? json_sprintf("%s: %s", mb_provenance_name(figure->provenance),
                                                   figure->detail)
                                    : json_string(mb_provenance_name(figure->provenance));
    if (!source) /* the detail is no UTF-8 */
        source = json_string(mb_provenance_name(figure->provenance));
    return mb_json_put(sources, key, source) +
           mb_json_put(object, key, mb_json_number(figure->value));
}

/* object, or NULL with object freed when a part could not be added. */
static json_t *whole(json_t *object, int bad)
{
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *pool_json(const struct mb_pool *pool)
{
    json_t *object = json_object(), *sources = json_object();
    int bad = mb_json_put(object, "id", mb_json_text(pool->id));
    bad += mb_json_put(object, "kind", mb_json_text(word(mb_pool_kind_names, 3, pool->kind)));
    bad += mb_json_put(object, "name", mb_json_text(pool->name));
    bad += put_figure(object, sources, "capacity_bytes", &pool->capacity_bytes);
    bad += put_figure(object, sources, "installed_bytes", &pool->installed_bytes);
    bad += put_figure(object, sources, "free_bytes", &pool->free_bytes);
    bad += put_figure(object, sources, "usable_bytes", &pool->usable_bytes);
    bad += mb_json_put(object, "raise", mb_json_text(pool->raise));
    bad += mb_json_put(object, "bandwidth",
                       mb_json_figure(&pool->bandwidth_bytes_per_s, "bytes_per_s"));
    bad += mb_json_put(object, "bandwidth_spec",
                       mb_json_figure(&pool->bandwidth_spec_bytes_per_s, "bytes_per_s"));
    bad += mb_json_put(object, "sources", sources);
    return whole(object, bad);
}

static json_t *processor_json(const struct mb_machine *machine,
                              const struct mb_processor *processor)
{
    json_t *object = json_object(), *sources = json_object(), *caches = json_array(),
           *reads = json_array(), *peaks = json_array();
    int bad = mb_json_put(object, "id", mb_json_text(processor->id));
    bad += mb_json_put(object, "kind",
                       mb_json_text(word(mb_processor_kind_names, 2, processor->kind)));
    bad += mb_json_put(object, "name", mb_json_text(processor->name));
    bad += mb_json_put(object, "integrated", json_boolean(processor->integrated));
    bad += mb_json_put(object, "cores", count(processor->n_cores));
    bad += mb_json_put(object, "threads", count(processor->n_threads));
    bad += mb_json_put(object, "numa_nodes", count(processor->n_numa_nodes));
    bad += mb_json_put(object, "simd", mb_json_text(processor->simd));
    for (size_t i = 0; i < MB_COUNT(processor->cache_bytes); i++)
        bad += json_array_append_new(caches, count(processor->cache_bytes[i]));
    bad += mb_json_put(object, "cache_bytes", caches);
    bad += mb_json_put(object, "pci", mb_json_text(processor->pci));
    bad += mb_json_put(object, "driver", mb_json_text(processor->driver));
    bad += put_figure(object, sources, "power_limit_w", &processor->power_limit_w);
    for (unsigned i = 0; i < processor->n_reads; i++) {
        const struct mb_read *read = processor->reads + i;
        json_t *figure = mb_json_figure(&read->bytes_per_s, "bytes_per_s");
        bad += mb_json_put(
            figure, "pool",
            mb_json_text(read->pool < machine->n_pools ? machine->pools[read->pool].id : NULL));
        bad += json_array_append_new(reads, figure);
    }
    bad += mb_json_put(object, "reads", reads);
    for (unsigned i = 0; i < processor->n_peaks; i++) {
        json_t *figure = mb_json_figure(&processor->peaks[i].flops_per_s, "flops_per_s");
        bad += mb_json_put(figure, "type", mb_json_text(processor->peaks[i].type));
        bad += json_array_append_new(peaks, figure);
    }
    bad += mb_json_put(object, "peak", peaks);
    bad += mb_json_put(object, "sources", sources);
    return whole(object, bad);
}

static json_t *link_json(const struct mb_machine *machine, const struct mb_link *link)
{
    json_t *object = mb_json_figure(&link->bytes_per_s, "bytes_per_s"), *sources = json_object();
    int bad = mb_json_put(
        object, "from",
        mb_json_text(link->from < machine->n_pools ? machine->pools[link->from].id : NULL));
    bad +=
        mb_json_put(object, "to",
                    mb_json_text(link->to < machine->n_pools ? machine->pools[link->to].id : NULL));
    bad += mb_json_put(object, "name", mb_json_text(link->name));
    bad += put_figure(object, sources, "latency_s", &link->latency_s);
    bad += mb_json_put(object, "sources", sources);
    return whole(object, bad);
}

json_t *mb_price_json(const struct mb_price *price)
{
    if (!price)
        return json_null();
    json_t *object = json_object();
    int bad = mb_json_put(object, "amount", mb_json_number(price->amount));
    bad += mb_json_put(object, "currency", mb_json_text(price->currency));
    bad += mb_json_put(object, "date", mb_json_text(price->date));
    bad += mb_json_put(object, "condition", mb_json_text(price->condition));
    bad += mb_json_put(object, "source", mb_json_text(price->source));
    return whole(object, bad);
}

static json_t *power_json(const struct mb_machine *machine)
{
    json_t *object = json_object(), *sources = json_object();
    int bad = put_figure(object, sources, "idle_w", &machine->power_idle_w);
    bad += put_figure(object, sources, "load_w", &machine->power_load_w);
    bad += mb_json_put(object, "sources", sources);
    return whole(object, bad);
}

static json_t *machine_json(const struct mb_machine *machine)
{
    static const char *const origins[] = {"detected", "catalog", "file"};
    json_t *object = json_object(), *pools = json_array(), *processors = json_array(),
           *links = json_array(), *notes = json_array();
    int bad = mb_json_put(object, "name", mb_json_text(machine->name));
    bad += mb_json_put(object, "origin", mb_json_text(word(origins, 3, machine->origin)));
    bad += mb_json_put(object, "class", mb_json_text(mb_class_name(machine->machine_class)));
    bad += mb_json_put(object, "class_title", mb_json_text(mb_class_title(machine->machine_class)));
    bad += mb_json_put(object, "class_reason", mb_json_text(machine->class_reason));
    bad += mb_json_put(object, "class_change", mb_json_text(machine->class_change));
    bad += mb_json_put(object, "os", mb_json_text(machine->os));
    bad += mb_json_put(object, "virtual_by", mb_json_text(machine->virtual_by));
    bad += mb_json_put(object, "fingerprint", mb_json_text(machine->fingerprint));
    for (unsigned i = 0; i < machine->n_pools; i++)
        bad += json_array_append_new(pools, pool_json(machine->pools + i));
    bad += mb_json_put(object, "pools", pools);
    for (unsigned i = 0; i < machine->n_processors; i++)
        bad += json_array_append_new(processors, processor_json(machine, machine->processors + i));
    bad += mb_json_put(object, "processors", processors);
    for (unsigned i = 0; i < machine->n_links; i++)
        bad += json_array_append_new(links, link_json(machine, machine->links + i));
    bad += mb_json_put(object, "links", links);
    bad += mb_json_put(object, "measurement",
                       machine->measurement ? mb_measurement_json(machine, machine->measurement)
                                            : json_null());
    bad += mb_json_put(object, "price", mb_price_json(machine->price));
    bad += mb_json_put(object, "power", power_json(machine));
    for (unsigned i = 0; i < machine->n_notes; i++)
        bad += json_array_append_new(notes, mb_json_text(machine->notes[i]));
    bad += mb_json_put(object, "notes", notes);
    return whole(object, bad);
}

int mb_machine_json(const struct mb_machine *machine, char **out, struct mb_err *err)
{
    return mb_json_dump(machine_json(machine), out, err);
}

int mb_machine_save(const struct mb_machine *machine, const char *path, struct mb_err *err)
{
    char *text = NULL;
    int code = mb_machine_json(machine, &text, err);
    if (!code)
        code = mb_file_write(path, text, strlen(text), err);
    mb_text_free(text);
    return code;
}
