/* SPDX-License-Identifier: MIT */
/* A machine on the screen: pools first, because they decide the speed; then what reads them. Documents with an address go
 * to a list of sources at the foot, or they would drown the figures. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SOURCES = 64 };

struct screen {
    const struct mb_machine *machine;
    struct terminal terminal;
    char *sources[MAX_SOURCES]; /* owned */
    unsigned n_sources;
};

static const char *kind_name(enum mb_pool_kind kind)
{
    return kind == MB_POOL_UNIFIED ? "unified" : kind == MB_POOL_VRAM ? "vram" : "system";
}

static int known(const struct mb_figure *figure)
{
    return figure->provenance != MB_UNKNOWN;
}

static const char *size_of(const struct mb_figure *figure, char *buf, size_t n)
{
    return mb_format_bytes(known(figure) ? figure->value : -1, buf, n);
}

static const char *rate_of(const struct mb_figure *figure, char *buf, size_t n)
{
    return mb_format_rate(known(figure) ? figure->value : -1, buf, n);
}

static enum mb_style style_of(const struct mb_figure *figure)
{
    return figure->provenance == MB_MEASURED ? MB_GOOD : known(figure) ? MB_PLAIN : MB_WARN;
}

/* The number of a source at the foot, 0 when there is no room for it. */
static unsigned source_number(struct screen *screen, const char *text)
{
    for (unsigned i = 0; i < screen->n_sources; i++)
        if (strcmp(screen->sources[i], text) == 0)
            return i + 1;
    if (screen->n_sources == MAX_SOURCES || !(screen->sources[screen->n_sources] = strdup(text)))
        return 0;
    return ++screen->n_sources;
}

/* "measured: 2 threads", "spec [1]", "derived: 2 channels * 8 bytes * 5600 MT/s [2]" */
static void provenance_text(struct screen *screen, const struct mb_figure *figure, char *buf, size_t n)
{
    const char *name = mb_provenance_name(figure->provenance), *detail = figure->detail;
    if (!known(figure) || !detail) {
        snprintf(buf, n, "%s", name);
        return;
    }
    const char *address = strstr(detail, "http"), *rest = strstr(detail, "; ");
    if (!address) {
        snprintf(buf, n, "%s: %s", name, detail);
        return;
    }
    /* What stands before the first "; " is said in place when the address comes later. */
    if (!rest || address < rest)
        snprintf(buf, n, "%s [%u]", name, source_number(screen, detail));
    else
        snprintf(buf, n, "%s: %.*s [%u]", name, (int)(rest - detail), detail, source_number(screen, rest + 2));
}

static void show_pools(struct screen *screen)
{
    const struct mb_machine *machine = screen->machine;
    const struct terminal *terminal = &screen->terminal;
    struct mb_table *table = mb_table_new(6);
    static const char *const headings[] = {"pool", "kind", "size", "free", "read", "bandwidth is"};
    for (unsigned c = 0; c < 6; c++)
        mb_table_column(table, c, headings[c], c >= 2 && c <= 4 ? MB_RIGHT : MB_LEFT);
    for (unsigned i = 0; i < machine->n_pools; i++) {
        const struct mb_pool *pool = machine->pools + i;
        char size[32], free_now[32], rate[32], why[300];
        mb_table_row(table);
        mb_table_cell(table, 0, MB_BOLD, pool->id);
        mb_table_cell(table, 1, MB_PLAIN, kind_name(pool->kind));
        mb_table_cell(table, 2, MB_PLAIN, size_of(&pool->capacity_bytes, size, sizeof size));
        mb_table_cell(table, 3, MB_PLAIN, known(&pool->free_bytes) ? size_of(&pool->free_bytes, free_now, sizeof free_now) : "-");
        mb_table_cell(table, 4, style_of(&pool->bandwidth_bytes_per_s),
                      rate_of(&pool->bandwidth_bytes_per_s, rate, sizeof rate));
        provenance_text(screen, &pool->bandwidth_bytes_per_s, why, sizeof why);
        mb_table_cell(table, 5, MB_DIM, why);
    }
    heading("memory pools", terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

/* What the pool table has no room for: names, nominal sizes, the GPU's part and how to raise it. */
static void show_pool_details(struct screen *screen, int full)
{
    const struct mb_machine *machine = screen->machine;
    const struct terminal *terminal = &screen->terminal;
    struct mb_table *table = mb_table_new(2);
    for (unsigned i = 0; i < machine->n_pools; i++) {
        const struct mb_pool *pool = machine->pools + i;
        char text[700] = "", size[32], rate[32];
        if (pool->name)
            append(text, sizeof text, "%s", pool->name);
        if (known(&pool->installed_bytes) && full)
            append(text, sizeof text, "%s%s installed", *text ? "; " : "",
                          size_of(&pool->installed_bytes, size, sizeof size));
        if (pool->kind == MB_POOL_UNIFIED && known(&pool->usable_bytes))
            append(text, sizeof text, "%sa GPU may use %s", *text ? "; " : "",
                          size_of(&pool->usable_bytes, size, sizeof size));
        if (pool->kind == MB_POOL_UNIFIED && pool->raise)
            append(text, sizeof text, "%sto raise that: %.250s", *text ? "; " : "", pool->raise);
        if (known(&pool->bandwidth_spec_bytes_per_s) && pool->bandwidth_bytes_per_s.provenance == MB_MEASURED)
            append(text, sizeof text, "%s%s by its spec", *text ? "; " : "",
                          rate_of(&pool->bandwidth_spec_bytes_per_s, rate, sizeof rate));
        if (*text)
            line(table, pool->id, text);
    }
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void processor_text(const struct mb_processor *p, char *buf, size_t n)
{
    char cache[32];
    snprintf(buf, n, "%s", p->name ? p->name : p->kind == MB_PROCESSOR_CPU ? "CPU" : "GPU");
    if (p->kind == MB_PROCESSOR_CPU) {
        if (p->n_cores)
            append(buf, n, ", %u core%s", p->n_cores, p->n_cores == 1 ? "" : "s");
        if (p->n_threads && p->n_threads != p->n_cores)
            append(buf, n, " (%u threads)", p->n_threads);
        if (p->n_numa_nodes > 1)
            append(buf, n, ", %u NUMA nodes", p->n_numa_nodes);
        if (p->simd)
            append(buf, n, ", %s", p->simd);
        if (p->cache_bytes[2])
            append(buf, n, ", %s last-level cache",
                             mb_format_bytes((double)p->cache_bytes[2], cache, sizeof cache));
    } else {
        if (p->integrated)
            append(buf, n, " (integrated)");
        if (p->driver)
            append(buf, n, ", %.80s", p->driver);
        if (known(&p->power_limit_w))
            append(buf, n, ", %.0f W limit", p->power_limit_w.value);
    }
}

static void show_processors(struct screen *screen)
{
    const struct mb_machine *machine = screen->machine;
    const struct terminal *terminal = &screen->terminal;
    struct mb_table *table = mb_table_new(2);
    for (unsigned i = 0; i < machine->n_processors; i++) {
        const struct mb_processor *p = machine->processors + i;
        char text[400], rate[32], why[300];
        processor_text(p, text, sizeof text);
        mb_table_row(table);
        mb_table_cell(table, 0, MB_BOLD, p->id);
        mb_table_cell(table, 1, MB_PLAIN, text);
        for (unsigned r = 0; r < p->n_reads; r++) {
            provenance_text(screen, &p->reads[r].bytes_per_s, why, sizeof why);
            snprintf(text, sizeof text, "reads %s at %s, %s", machine->pools[p->reads[r].pool].id,
                     rate_of(&p->reads[r].bytes_per_s, rate, sizeof rate), why);
            if (known(&p->reads[r].bytes_per_s))
                line(table, "", text);
        }
        for (unsigned k = 0; k < p->n_peaks; k++) {
            provenance_text(screen, &p->peaks[k].flops_per_s, why, sizeof why);
            snprintf(text, sizeof text, "%s: %.4g TFLOP/s, %s", p->peaks[k].type, p->peaks[k].flops_per_s.value / 1e12, why);
            line(table, "", text);
        }
    }
    heading("processors", terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void show_links(struct screen *screen)
{
    const struct mb_machine *machine = screen->machine;
    const struct terminal *terminal = &screen->terminal;
    struct mb_table *table = mb_table_new(3);
    for (unsigned i = 0; i < machine->n_links; i++) {
        const struct mb_link *link = machine->links + i;
        char ends[80], rate[32], why[400], latency[40] = "", text[480];
        snprintf(ends, sizeof ends, "%s to %s", machine->pools[link->from].id, machine->pools[link->to].id);
        provenance_text(screen, &link->bytes_per_s, why, sizeof why);
        if (known(&link->latency_s))
            snprintf(latency, sizeof latency, "; %.0f us for one transfer", link->latency_s.value * 1e6);
        snprintf(text, sizeof text, "%s%s%s%s", link->name ? link->name : "", link->name ? "; " : "", why, latency);
        mb_table_row(table);
        mb_table_cell(table, 0, MB_BOLD, ends);
        mb_table_cell(table, 1, style_of(&link->bytes_per_s), rate_of(&link->bytes_per_s, rate, sizeof rate));
        mb_table_cell(table, 2, MB_DIM, text);
    }
    mb_table_column(table, 1, NULL, MB_RIGHT);
    heading("links", terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void series_name(const struct mb_machine *machine, const struct mb_measured *series, char *buf, size_t n)
{
    const char *processor = series->processor < machine->n_processors ? machine->processors[series->processor].id : "?";
    const char *pool = series->pool < machine->n_pools ? machine->pools[series->pool].id : "?";
    const char *to = series->pool_to < machine->n_pools ? machine->pools[series->pool_to].id : "?";
    if (series->kind == MB_MEASURED_COPY)
        snprintf(buf, n, "copy %s to %s", pool, to);
    else if (series->kind == MB_MEASURED_SHARED)
        snprintf(buf, n, "%s, CPU and GPU at once", pool);
    else if (series->n_threads)
        snprintf(buf, n, "%s reads %s, %u thread%s", processor, pool, series->n_threads, series->n_threads == 1 ? "" : "s");
    else
        snprintf(buf, n, "%s reads %s", processor, pool);
}

static void show_series(struct screen *screen)
{
    const struct mb_machine *machine = screen->machine;
    const struct terminal *terminal = &screen->terminal;
    const struct mb_measurement *m = machine->measurement;
    struct mb_table *table = mb_table_new(4);
    static const char *const headings[] = {"series", "holds", "spread", "samples"};
    for (unsigned c = 0; c < 4; c++)
        mb_table_column(table, c, headings[c], c == 1 || c == 2 ? MB_RIGHT : MB_LEFT);
    for (unsigned i = 0; i < m->n_series; i++) {
        const struct mb_measured *s = m->series + i;
        char name[80], holds[32], spread[24], how[600];
        series_name(machine, s, name, sizeof name);
        snprintf(spread, sizeof spread, "%.0f %%", s->spread * 100);
        snprintf(how, sizeof how, "%u, %.3g to %.3g, median %.3g GB/s", s->n_samples, s->min_bytes_per_s / 1e9,
                         s->max_bytes_per_s / 1e9, s->median_bytes_per_s / 1e9);
        for (unsigned l = 0; s->n_levels > 1 && l < s->n_levels; l++)
            append(how, sizeof how, "%s%.3g GB/s in %.0f %%", l ? ", " : "; levels: ",
                          s->levels[l].bytes_per_s / 1e9, s->levels[l].share * 100);
        append(how, sizeof how, "; %s%.250s", s->rejected ? "REJECTED: " : "",
                 s->rejected ? s->rejected : s->method ? s->method : "");
        mb_table_row(table);
        mb_table_cell(table, 0, MB_BOLD, name);
        mb_table_cell(table, 1, s->rejected ? MB_BAD : MB_GOOD, mb_format_rate(s->bytes_per_s, holds, sizeof holds));
        mb_table_cell(table, 2, MB_PLAIN, spread);
        mb_table_cell(table, 3, MB_DIM, how);
    }
    char age[40];
    mb_format_age(m->age_s, age, sizeof age);
    char title[200];
    snprintf(title, sizeof title, "measured %s%s (%s%s, took %.0f s, v%s)", m->age_s >= 1 ? age : "now",
             m->age_s >= 1 ? " ago" : "", m->date ? m->date : "?", m->quick ? ", quick" : "", m->took_s,
             m->version ? m->version : "?");
    heading(title, terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

/* The fastest pool that a whole model may live in, for the law's line. */
static const struct mb_pool *fastest(const struct mb_machine *machine)
{
    const struct mb_pool *best = NULL;
    for (unsigned i = 0; i < machine->n_pools; i++) {
        const struct mb_pool *pool = machine->pools + i;
        if (known(&pool->bandwidth_bytes_per_s) &&
            (!best || pool->bandwidth_bytes_per_s.value > best->bandwidth_bytes_per_s.value))
            best = pool;
    }
    return best;
}

static void show_law(struct screen *screen)
{
    const struct mb_machine *machine = screen->machine;
    const struct terminal *terminal = &screen->terminal;
    static const double gigabytes[] = {1, 5, 21};
    const struct mb_pool *pool = fastest(machine);
    struct mb_table *table = mb_table_new(2);
    char text[300], rate[32];
    if (pool) {
        double bytes_per_s = pool->bandwidth_bytes_per_s.value;
        snprintf(text, sizeof text, "tokens/s = %s / bytes read per token:",
                         mb_format_rate(bytes_per_s, rate, sizeof rate));
        for (unsigned i = 0; i < sizeof gigabytes / sizeof *gigabytes; i++) {
            double speed = bytes_per_s / (gigabytes[i] * 1e9);
            append(text, sizeof text, "%s %.*f for %.0f GB", i ? "," : "",
                          speed >= 9.95 ? 0 : 1, speed, gigabytes[i]);
        }
        line(table, "the law", text);
    } else {
        line(table, "the law",
             "tokens/s = bandwidth / bytes read per token; the bandwidth is unknown until membound machine --measure");
    }
    putchar('\n');
    mb_table_print(table, stdout, 0, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void show_money(struct screen *screen, struct mb_table *table)
{
    const struct mb_machine *machine = screen->machine;
    char text[300];
    if (machine->origin != MB_ORIGIN_CATALOG)
        return;
    if (machine->price)
        snprintf(text, sizeof text, "%.0f %s, %s, %s [%u]", machine->price->amount, machine->price->currency,
                 machine->price->condition, machine->price->date, source_number(screen, machine->price->source));
    else
        snprintf(text, sizeof text, "unknown");
    line(table, "price", text);
    if (known(&machine->power_idle_w) || known(&machine->power_load_w)) {
        const struct mb_figure *one = known(&machine->power_idle_w) ? &machine->power_idle_w : &machine->power_load_w;
        char idle[24] = "unknown", load[24] = "unknown", why[200];
        if (known(&machine->power_idle_w))
            snprintf(idle, sizeof idle, "%.0f W", machine->power_idle_w.value);
        if (known(&machine->power_load_w))
            snprintf(load, sizeof load, "%.0f W", machine->power_load_w.value);
        provenance_text(screen, one, why, sizeof why);
        snprintf(text, sizeof text, "%s idle, %s at inference, %s", idle, load, why);
        line(table, "power", text);
    }
}

static void show_head(struct screen *screen)
{
    static const char *const origins[] = {"machine", "catalog", "file"};
    const struct mb_machine *machine = screen->machine;
    struct mb_table *table = mb_table_new(2);
    char text[600];
    line(table, origins[machine->origin], machine->name ? machine->name : "this machine");
    snprintf(text, sizeof text, "%s%s%s%s", machine->os ? machine->os : "", machine->virtual_by ? ", virtual (" : "",
             machine->virtual_by ? machine->virtual_by : "", machine->virtual_by ? ")" : "");
    if (*text)
        line(table, "system", text);
    snprintf(text, sizeof text, "%s: %s", mb_class_title(machine->machine_class), machine->class_reason);
    line(table, "class", text);
    if (machine->class_change)
        line(table, "change", machine->class_change);
    show_money(screen, table);
    mb_table_print(table, stdout, 0, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

static void show_list(struct screen *screen, const char *title, const char *const *texts, unsigned n, int numbered)
{
    if (!n)
        return;
    struct mb_table *table = mb_table_new(2);
    for (unsigned i = 0; i < n; i++) {
        char number[16] = "-";
        if (numbered)
            snprintf(number, sizeof number, "[%u]", i + 1);
        line(table, number, texts[i]);
    }
    heading(title, &screen->terminal);
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

void show_machine(const struct mb_machine *machine, int full)
{
    struct screen screen = {.machine = machine, .terminal = terminal_of_stdout()};
    show_head(&screen);
    show_pools(&screen);
    show_pool_details(&screen, full);
    if (full) {
        show_processors(&screen);
        if (machine->n_links)
            show_links(&screen);
        if (machine->measurement)
            show_series(&screen);
    }
    show_list(&screen, "notes", machine->notes, machine->n_notes, 0);
    show_law(&screen);
    show_list(&screen, "sources", (const char *const *)screen.sources, screen.n_sources, 1);
    for (unsigned i = 0; i < screen.n_sources; i++)
        free(screen.sources[i]);
}
