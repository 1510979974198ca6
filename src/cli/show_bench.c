/* SPDX-License-Identifier: MIT */
/* A bench on the screen: speeds beside their predictions, the memory beside its bound, and the ops if they were timed. */
#include "cli.h"

#include <string.h>

static char *name_of(const char *phase, uint64_t depth, char *buf, size_t n)
{
    char text[32];
    if (depth)
        snprintf(buf, n, "%.10s at %s", phase, depth_of(depth, text, sizeof text));
    else
        snprintf(buf, n, "%.10s", phase);
    return buf;
}

static char *rate_of(double bytes_per_s, char *buf, size_t n)
{
    snprintf(buf, n, bytes_per_s >= 99.95e9 ? "%.0f" : bytes_per_s >= 9.95e9 ? "%.1f" : "%.2f", bytes_per_s / 1e9);
    return buf;
}

static char *percent_of(double share, char *buf, size_t n)
{
    snprintf(buf, n, share >= 0.0995 ? "%.0f %%" : "%.1f %%", 100 * share);
    return buf;
}

static struct mb_table *table_of(const char *const *headings, unsigned n)
{
    struct mb_table *table = mb_table_new(n);
    for (unsigned c = 0; c < n; c++)
        mb_table_column(table, c, headings[c], c ? MB_RIGHT : MB_LEFT);
    return table;
}

static void end_table(struct mb_table *table, unsigned indent, const struct terminal *terminal)
{
    mb_table_print(table, stdout, indent, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void paragraph(const char *text, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(1);
    mb_table_row(table);
    mb_table_cell(table, 0, MB_DIM, text);
    end_table(table, 2, terminal);
}

static void show_head(const struct mb_bench *bench, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(2);
    char text[400], size[32], rate[32];
    snprintf(text, sizeof text, "%.120s%s%.40s, %s%s", bench->model, bench->quant ? ", " : "", bench->quant ? bench->quant : "",
             mb_format_bytes((double)bench->weights_bytes, size, sizeof size), bench->synthetic ? ", synthetic weights" : "");
    line(table, "model", text);
    snprintf(text, sizeof text, "%.120s, %u thread%s, %.16s", bench->machine ? bench->machine : "this machine", bench->n_threads,
             bench->n_threads == 1 ? "" : "s", bench->simd);
    if (!bench->is_bound)
        append(text, sizeof text, ", not bound to CPUs");
    line(table, "machine", text);
    if (bench->bandwidth.provenance == MB_UNKNOWN)
        snprintf(text, sizeof text, "unknown bandwidth");
    else
        snprintf(text, sizeof text, "%s %s, which the predictions count on",
                 mb_format_rate(bench->bandwidth.value, rate, sizeof rate), mb_provenance_name(bench->bandwidth.provenance));
    line(table, "memory", text);
    mb_format_bytes((double)bench->cache_bytes, size, sizeof size);
    snprintf(text, sizeof text, "%s", size);
    mb_format_bytes((double)bench->buffer_bytes, size, sizeof size);
    append(text, sizeof text, ", and %s of buffers", size);
    line(table, "cache", text);
    end_table(table, 0, terminal);
}

static void show_speeds(const struct mb_bench *bench, const struct terminal *terminal)
{
    static const char *const headings[] = {"tokens/s", "measured", "least to most", "predicted", "80 % of runs", "holds"};
    struct mb_table *table = table_of(headings, 6);
    char text[80], a[24], b[24];
    heading("speed", terminal);
    for (unsigned i = 0; i < bench->n_rows; i++) {
        const struct mb_bench_row *row = &bench->rows[i];
        const struct mb_speed *predicted = &row->predicted;
        int known = predicted->tokens_per_s > 0;
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, name_of(row->phase, row->depth, text, sizeof text));
        mb_table_cell(table, 1, MB_BOLD, speed_of(row->tokens_per_s, text, sizeof text));
        snprintf(text, sizeof text, "%s to %s", speed_of(row->tokens_per_s_min, a, sizeof a),
                 speed_of(row->tokens_per_s_max, b, sizeof b));
        mb_table_cell(table, 2, MB_PLAIN, text);
        mb_table_cell(table, 3, MB_PLAIN, known ? speed_of(predicted->tokens_per_s, text, sizeof text) : "-");
        snprintf(text, sizeof text, "%s to %s", speed_of(predicted->low, a, sizeof a), speed_of(predicted->high, b, sizeof b));
        mb_table_cell(table, 4, MB_PLAIN, known ? text : "-");
        mb_table_cell(table, 5, !known ? MB_PLAIN : row->holds ? MB_GOOD : MB_WARN, !known ? "-" : row->holds ? "yes" : "no");
    }
    end_table(table, 2, terminal);
}

static void show_memory(const struct mb_bench *bench, const struct terminal *terminal)
{
    static const char *const headings[] = {"GB/s", "reads/token", "reached", "bound", "after", "of bound", "blocks"};
    struct mb_table *table = table_of(headings, 7);
    char text[400];
    unsigned n_discarded = 0, n_unsteady = 0;
    double cpu_share = 1, bound = 0;
    heading("memory", terminal);
    for (unsigned i = 0; i < bench->n_rows; i++) {
        const struct mb_bench_row *row = &bench->rows[i];
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, name_of(row->phase, row->depth, text, sizeof text));
        mb_table_cell(table, 1, MB_PLAIN, read_of(row->bytes_per_token, text, sizeof text));
        mb_table_cell(table, 2, MB_PLAIN, rate_of(row->bytes_per_s, text, sizeof text));
        mb_table_cell(table, 3, MB_PLAIN, rate_of(row->bound_before_bytes_per_s, text, sizeof text));
        mb_table_cell(table, 4, MB_PLAIN, rate_of(row->bound_after_bytes_per_s, text, sizeof text));
        mb_table_cell(table, 5, MB_BOLD, percent_of(row->fraction_of_bound, text, sizeof text));
        snprintf(text, sizeof text, "%u of %u%s", row->n_blocks, row->n_blocks + row->n_discarded, row->unsteady ? " !" : "");
        mb_table_cell(table, 6, MB_PLAIN, text);
        n_discarded += row->n_discarded;
        n_unsteady += row->unsteady != 0;
        bound += (row->bound_before_bytes_per_s + row->bound_after_bytes_per_s) / 2;
        cpu_share = row->unsteady && row->cpu_share < cpu_share ? row->cpu_share : cpu_share;
    }
    end_table(table, 2, terminal);
    char size[32];
    snprintf(text, sizeof text, "Bound: reading %s with the same threads just before and after each block (%s).",
             bench->probe_is_weights ? "the weights" : "a buffer",
             mb_format_bytes((double)bench->probe_bytes, size, sizeof size));
    if (n_discarded)
        append(text, sizeof text, " %u block%s discarded: the two readings differed by over 10 %%, or other programs ran.",
               n_discarded, n_discarded == 1 ? " was" : "s were");
    if (n_unsteady)
        append(text, sizeof text, " !: so it was in all blocks, and these speeds say little; the threads had a CPU for %.0f %% of"
               " the time.", 100 * cpu_share);
    paragraph(text, terminal);
    double expected = bench->bandwidth.value, ratio = bound / bench->n_rows / expected;
    if (bench->bandwidth.provenance != MB_UNKNOWN && expected > 0 && (ratio > 1.15 || ratio < 0.85)) {
        snprintf(text, sizeof text, "The memory delivered %.0f %% %s than the predictions count on; it changes, or"
                 " membound machine --measure met it in another state.", 100 * (ratio > 1 ? ratio - 1 : 1 - ratio),
                 ratio > 1 ? "more" : "less");
        paragraph(text, terminal);
    }
}

static void show_ops(const struct mb_bench *bench, const struct mb_bench_row *row, const struct terminal *terminal)
{
    static const char *const headings[] = {"op", "calls", "reads", "GB/s", "of bound", "of time"};
    struct mb_table *table = table_of(headings, 6);
    char text[80], title[100];
    snprintf(title, sizeof title, "ops of %u tokens, %s", row->n_tokens, name_of(row->phase, row->depth, text, sizeof text));
    heading(title, terminal);
    for (unsigned i = 0; i < bench->n_ops; i++) {
        const struct mb_bench_op *op = &bench->ops[i];
        if (op->depth != row->depth || strcmp(op->phase, row->phase) != 0)
            continue;
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, op->op);
        snprintf(text, sizeof text, "%u", op->n_calls);
        mb_table_cell(table, 1, MB_PLAIN, text);
        mb_table_cell(table, 2, MB_PLAIN, op->bytes ? read_of((double)op->bytes, text, sizeof text) : "-");
        mb_table_cell(table, 3, MB_PLAIN, op->bytes ? rate_of(op->bytes_per_s, text, sizeof text) : "-");
        mb_table_cell(table, 4, MB_PLAIN, op->bytes ? percent_of(op->fraction_of_bound, text, sizeof text) : "-");
        mb_table_cell(table, 5, MB_BOLD, percent_of(op->share, text, sizeof text));
    }
    end_table(table, 2, terminal);
}

void show_bench(const struct mb_bench *bench)
{
    struct terminal terminal = terminal_of_stdout();
    show_head(bench, &terminal);
    show_speeds(bench, &terminal);
    show_memory(bench, &terminal);
    for (unsigned i = 0; bench->n_ops && i < bench->n_rows; i++)
        show_ops(bench, &bench->rows[i], &terminal);
    if (bench->cancelled)
        puts("\nInterrupted: what was not measured is left out.");
}
