/* SPDX-License-Identifier: MIT */
/* membound advise: machines for a model, or models for a machine, with reasons. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* "71 (60-84)": a speed with its 80 % interval. */
static char *interval_of(const struct mb_speed *speed, char *buf, size_t n)
{
    int digits = speed->tokens_per_s < 9.95;
    snprintf(buf, n, "%.*f (%.*f-%.*f)", digits, speed->tokens_per_s, digits, speed->low, digits, speed->high);
    return buf;
}

static char *short_speed_of(double tokens_per_s, char *buf, size_t n)
{
    snprintf(buf, n, "%.*f", tokens_per_s < 9.95, tokens_per_s);
    return buf;
}

/* "8k", "1000" */
static char *context_of(uint64_t n_ctx, char *buf, size_t n)
{
    int whole = n_ctx && n_ctx % 1024 == 0;
    snprintf(buf, n, whole ? "%juk" : "%ju", (uintmax_t)(whole ? n_ctx / 1024 : n_ctx));
    return buf;
}

/* "117B/5.1B", "32.8B": all parameters, and those of one token where they are fewer. */
static char *params_of(const struct mb_model_advice *row, char *buf, size_t n)
{
    double all = (double)row->params / 1e9, active = (double)row->active_params / 1e9;
    snprintf(buf, n, "%.*fB", all < 99.5, all);
    if (row->moe)
        append(buf, n, "/%.*fB", active < 99.5, active);
    return buf;
}

static char *price_of(const struct mb_price *price, char *buf, size_t n)
{
    if (price->currency)
        snprintf(buf, n, "%.0f %s%s", price->amount, price->currency,
                 strcmp(price->condition, "new") == 0 ? "" : " used");
    else
        snprintf(buf, n, "-");
    return buf;
}

/* "71 GiB", "3.1 GiB" */
static char *gib_of(double bytes, char *buf, size_t n)
{
    snprintf(buf, n, "%.*f GiB", bytes < 9.95 * MB_GIB, bytes / MB_GIB);
    return buf;
}

/* "VRAM 24 GiB at 1008 GB/s, RAM 64 GiB at 89.6 GB/s" */
static void pools_text(const struct mb_machine *machine, char *buf, size_t n)
{
    static const char *const kinds[] = {"RAM", "VRAM", "unified memory"};
    char rate[32], bytes[32];
    for (unsigned i = machine->n_pools; i > 0; i--) {
        const struct mb_pool *pool = machine->pools + i - 1;
        const struct mb_figure *size =
            pool->installed_bytes.provenance ? &pool->installed_bytes : &pool->capacity_bytes;
        append(buf, n, "%s%s %s at %s", i < machine->n_pools ? ", " : "", kinds[pool->kind],
               size->provenance ? gib_of(size->value, bytes, sizeof bytes) : "of unknown size",
               mb_format_rate(pool->bandwidth_bytes_per_s.provenance ? pool->bandwidth_bytes_per_s.value : -1, rate,
                              sizeof rate));
    }
}

/* For a column: the increase of perplexity; in brackets when it was measured on the reference model. */
static char *loss_short(const struct mb_loss *loss, char *buf, size_t n)
{
    if (loss->native)
        snprintf(buf, n, "none");
    else if (!loss->measured_on || isnan(loss->perplexity_increase))
        snprintf(buf, n, "?");
    else
        snprintf(buf, n, loss->same_model ? "%.1f" : "(%.1f)", fmax(0, 100 * loss->perplexity_increase));
    return buf;
}

static void loss_long(const struct mb_loss *loss, const char *quant, char *buf, size_t n)
{
    if (!loss->measured_on) {
        snprintf(buf, n, "unknown: no published figure for %s is in data/quality.json", quant ? quant : "this type");
        return;
    }
    if (loss->native) {
        snprintf(buf, n, "none: its makers publish it in %s", quant);
        return;
    }
    *buf = 0;
    if (!loss->same_model)
        append(buf, n, "unknown for this model; on %s, for orientation: ", loss->measured_on);
    if (!isnan(loss->perplexity_increase))
        append(buf, n, "perplexity %+.1f %%", 100 * loss->perplexity_increase);
    if (!isnan(loss->kld))
        append(buf, n, "%sKL divergence %.3g", isnan(loss->perplexity_increase) ? "" : ", ", loss->kld);
    append(buf, n, " against %s (%s%s%s)", loss->base ? loss->base : "the original",
           loss->corpus ? loss->corpus : "corpus not stated", loss->date ? ", " : "", loss->date ? loss->date : "");
    if (loss->same_model && loss->note)
        append(buf, n, "; %s", loss->note);
}

static void columns_of(struct mb_table *table, const char *const *headings, unsigned n)
{
    for (unsigned c = 0; c < n; c++)
        mb_table_column(table, c, headings[c], c + 1 < n ? MB_RIGHT : MB_LEFT);
}

static void show_notes(const char *const *notes, unsigned n, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(2);
    for (unsigned i = 0; i < n; i++)
        line(table, "-", notes[i]);
    heading("notes", terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

/* "#  why; but" for the rows shown. */
static void why_row(struct mb_table *table, unsigned i, const char *before, const struct mb_outcome *fit)
{
    char number[16], text[500];
    snprintf(number, sizeof number, "%u", i + 1);
    snprintf(text, sizeof text, "%s%s%s%s", before, fit->why ? fit->why : "", fit->but ? " " : "",
             fit->but ? fit->but : "");
    line(table, number, text);
}

/* ---- machines for a model ---- */

static void step_text(const struct mb_step_up *step, const char *what, const char *currency, char *buf, size_t n)
{
    char bytes[32];
    if (!step->machine)
        return;
    append(buf, n, " %s: %s, %.0f %s", what, step->machine, step->price, currency);
    if (step->price_more != step->price)
        append(buf, n, " (%+.0f)", step->price_more);
    append(buf, n, ", %+.0f tok/s", step->tokens_per_s_more);
    if (step->fast_bytes_more > 0)
        append(buf, n, ", +%s", mb_format_bytes(step->fast_bytes_more, bytes, sizeof bytes));
    append(buf, n, ".");
}

static void pick(struct mb_table *table, const char *label, const struct mb_machine_advice *row, const char *currency,
                 int steps)
{
    char text[600], speed[48], price[48];
    if (!row)
        return;
    snprintf(text, sizeof text, "%s: %s tok/s", row->machine, interval_of(&row->fit.decode, speed, sizeof speed));
    if (row->price.currency)
        append(text, sizeof text, ", %s (%s, %s)", price_of(&row->price, price, sizeof price), row->price.condition,
               row->price.date);
    if (row->tokens_per_joule > 0)
        append(text, sizeof text, ", %.2g tokens per joule at %.0f W", row->tokens_per_joule, row->load_w);
    append(text, sizeof text, ".");
    if (steps) {
        step_text(&row->faster, "A quarter faster", currency, text, sizeof text);
        step_text(&row->larger, "A quarter more fast memory", currency, text, sizeof text);
    }
    line(table, label, text);
}

static void show_near(const struct mb_machine_advice_list *list, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(2);
    char text[400], a[32];
    const struct mb_machine_advice *row = list->near_price;
    if (row) {
        snprintf(text, sizeof text, "%s, %.0f %s, which is %.0f over the budget; %s tok/s", row->machine,
                 row->price.amount, list->currency, row->price.amount - list->budget,
                 short_speed_of(row->fit.decode.tokens_per_s, a, sizeof a));
        line(table, "cheapest that does it", text);
    }
    row = list->near_speed;
    if (row) {
        snprintf(text, sizeof text, "%s, %s tok/s", row->machine, short_speed_of(row->fit.decode.tokens_per_s, a, sizeof a));
        line(table, list->budget > 0 ? "fastest for the money" : "fastest of all", text);
    }
    row = list->near_unpriced;
    if (row) {
        snprintf(text, sizeof text, "%u machines that would do it, the smallest of them %s, %s tok/s", list->n_unpriced,
                 row->machine, short_speed_of(row->fit.decode.tokens_per_s, a, sizeof a));
        line(table, "price not known", text);
    }
    row = list->near_any;
    if (!row)
        line(table, "fits", "on no machine of the catalog; a smaller quantization or a shorter context needs less");
    else if (!list->near_price && !list->near_speed && !list->near_unpriced) {
        snprintf(text, sizeof text, "%s, %s tok/s", row->machine, short_speed_of(row->fit.decode.tokens_per_s, a, sizeof a));
        line(table, "fastest of the catalog", text);
    }
    heading("nearest", terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void show_machines(const struct mb_machine_advice_list *list, const struct mb_advise_opts *opts)
{
    struct terminal terminal = terminal_of_stdout();
    char text[700], a[48], b[48];
    struct mb_table *head = mb_table_new(2);
    snprintf(text, sizeof text, "%s%s%s: %s, of which a token reads %s", list->model, list->quant ? ", " : "",
             list->quant ? list->quant : "", mb_format_bytes((double)list->model_bytes, a, sizeof a),
             mb_format_bytes(list->read_bytes, b, sizeof b));
    line(head, "model", text);
    snprintf(text, sizeof text, "room for %s tokens of context", context_of(list->n_ctx, a, sizeof a));
    if (list->min_tokens_per_s > 0)
        append(text, sizeof text, ", at least %.3g tok/s%s", list->min_tokens_per_s,
               opts->min_tokens_per_s == 0 ? " (to read along)" : "");
    if (list->budget > 0)
        append(text, sizeof text, ", at most %.0f %s", list->budget, list->currency);
    if (opts->class_given)
        append(text, sizeof text, ", class %s", mb_class_name(opts->machine_class));
    line(head, "wanted", text);
    snprintf(text, sizeof text, "%u of %u machines", list->n_rows, list->n_all);
    if (list->n_unpriced && list->n_rows)
        append(text, sizeof text, "; %u more would do, but have no price here, the smallest of them %s (%s tok/s)",
               list->n_unpriced, list->near_unpriced->machine,
               short_speed_of(list->near_unpriced->fit.decode.tokens_per_s, a, sizeof a));
    line(head, "found", text);
    loss_long(&list->loss, list->quant, text, sizeof text);
    line(head, "loss", text);
    mb_table_print(head, stdout, 0, terminal.width, terminal.colour);
    mb_table_free(head);
    if (!list->n_rows) {
        show_near(list, &terminal);
        show_notes(list->notes, list->n_notes, &terminal);
        return;
    }
    static const char *const headings[] = {"#", "tok/s (80 %)", "prompt", "memory", "price", "machine"};
    struct mb_table *table = mb_table_new(6), *why = mb_table_new(2), *picks = mb_table_new(2);
    columns_of(table, headings, 6);
    for (unsigned i = 0; i < list->n_shown; i++) {
        const struct mb_machine_advice *row = list->rows + i;
        mb_table_row(table);
        snprintf(text, sizeof text, "%u", i + 1);
        mb_table_cell(table, 0, MB_DIM, text);
        mb_table_cell(table, 1, MB_GOOD, interval_of(&row->fit.decode, a, sizeof a));
        mb_table_cell(table, 2, MB_PLAIN, short_speed_of(row->fit.prefill.tokens_per_s, a, sizeof a));
        mb_table_cell(table, 3, MB_PLAIN, gib_of(row->fast_bytes, a, sizeof a));
        mb_table_cell(table, 4, row->price.currency ? MB_PLAIN : MB_DIM, price_of(&row->price, a, sizeof a));
        mb_table_cell(table, 5, MB_BOLD, row->machine);
        why_row(why, i, "", &row->fit);
    }
    putchar('\n');
    mb_table_print(table, stdout, 0, terminal.width, terminal.colour);
    if (list->n_shown < list->n_rows)
        printf("... and %u more: --limit 0, or --sort speed, price or energy\n", list->n_rows - list->n_shown);
    heading("why", &terminal);
    mb_table_print(why, stdout, 2, terminal.width, terminal.colour);
    pick(picks, "best", list->rows, list->currency, 1);
    pick(picks, "cheapest", list->cheapest, list->currency, 1);
    pick(picks, "fastest", list->fastest, list->currency, 0);
    pick(picks, "thriftiest", list->thriftiest, list->currency, 0);
    heading("picks, and what the next step costs", &terminal);
    mb_table_print(picks, stdout, 2, terminal.width, terminal.colour);
    show_notes(list->notes, list->n_notes, &terminal);
    mb_table_free(table);
    mb_table_free(why);
    mb_table_free(picks);
}

static int save(const char *path, const char *text, struct mb_err *err)
{
    FILE *file = fopen(path, "w");
    int done = file && fputs(text, file) >= 0;
    if (file && fclose(file) != 0)
        done = 0;
    if (done)
        return MB_OK;
    err->code = MB_EWRITE;
    snprintf(err->text, sizeof err->text, "%.200s: cannot be written; choose another file", path);
    return MB_EWRITE;
}

static int print_machines(const char *spec, const struct mb_advise_opts *opts, int json, const char *svg)
{
    struct mb_model *model = NULL;
    struct mb_machine_advice_list *list = NULL;
    struct mb_err err;
    char *text = NULL;
    int code = open_model(spec, &model, &err);
    if (code == MB_OK)
        code = mb_advise_machines(model, opts, &list, &err);
    if (code == MB_OK && svg)
        code = mb_machine_advice_svg(list, &text, &err);
    if (code == MB_OK && svg)
        code = save(svg, text, &err);
    mb_text_free(text);
    text = NULL;
    if (code == MB_OK && json)
        code = mb_machine_advice_json(list, &text, &err);
    if (code == MB_OK && json)
        puts(text);
    else if (code == MB_OK)
        show_machines(list, opts);
    int answer = code != MB_OK ? report(&err) : list->n_rows ? 0 : 1;
    mb_text_free(text);
    mb_machine_advice_free(list);
    mb_model_free(model);
    return answer;
}

/* ---- models for a machine ---- */

enum { NAMED = 4 };

static int by_need(const void *left, const void *right)
{
    const struct mb_model_advice *const *a = left, *const *b = right;
    return ((*a)->fit.used_bytes > (*b)->fit.used_bytes) - ((*a)->fit.used_bytes < (*b)->fit.used_bytes);
}

/* "3: NAME (90 GiB at Q3_K_M), ... up to NAME (1200 GiB)": the nearest first. */
static void show_too_large(const struct mb_model_advice_list *list, struct mb_table *table)
{
    const struct mb_model_advice **rows = malloc((list->n_all + 1) * sizeof *rows);
    char text[500] = "", label[40], a[32];
    unsigned n = 0;
    for (unsigned i = list->n_rows; i < list->n_all && rows; i++)
        if (list->rows[i].fit.misses & MB_MISS_FIT)
            rows[n++] = list->rows + i;
    if (n)
        qsort(rows, n, sizeof *rows, by_need);
    for (unsigned i = 0; i < n; i++) {
        if (i >= NAMED - 1 && i + 1 < n)
            continue;
        append(text, sizeof text, "%s%s (%s at %s)",
               i == 0       ? ""
               : i >= NAMED ? " ... "
                            : ", ",
               rows[i]->model, gib_of(rows[i]->fit.used_bytes, a, sizeof a), rows[i]->quant);
    }
    snprintf(label, sizeof label, "does not fit: %u", n);
    if (n)
        line(table, label, text);
    free(rows);
}

static void show_too_slow(const struct mb_model_advice_list *list, struct mb_table *table)
{
    char text[500] = "", label[40], a[32];
    unsigned n = 0;
    for (unsigned i = list->n_rows; i < list->n_all; i++) {
        const struct mb_model_advice *row = list->rows + i;
        if (row->fit.misses == MB_MISS_SPEED && n++ < NAMED)
            append(text, sizeof text, "%s%s@%s (%s tok/s)", n > 1 ? ", " : "", row->model, row->quant,
                   short_speed_of(row->fit.decode.tokens_per_s, a, sizeof a));
    }
    if (n > NAMED)
        append(text, sizeof text, " ...");
    snprintf(label, sizeof label, "too slow: %u", n);
    if (n)
        line(table, label, text);
}

/* What the machine can't do, and what the next one up costs that can do some of it. */
static void show_rest(const struct mb_model_advice_list *list, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(2);
    show_too_slow(list, table);
    show_too_large(list, table);
    if (list->step.machine) {
        char text[500], bytes[32];
        snprintf(text, sizeof text, "%s, %.0f %s", list->step.machine, list->step.price, list->currency);
        if (list->step.price_more != list->step.price)
            append(text, sizeof text, " (%+.0f)", list->step.price_more);
        append(text, sizeof text, ": +%s of fast memory", gib_of(list->step.fast_bytes_more, bytes, sizeof bytes));
        for (unsigned i = 0; i < list->n_step_models; i++)
            append(text, sizeof text, "%s%s", i ? ", " : "; runs ", list->step_models[i]);
        line(table, "next step up", text);
    }
    heading("what this machine can't do", terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void show_models(const struct mb_model_advice_list *list, const struct mb_advise_opts *opts,
                        const struct mb_machine *machine)
{
    struct terminal terminal = terminal_of_stdout();
    char text[700], a[48];
    struct mb_table *head = mb_table_new(2);
    snprintf(text, sizeof text, "%s: ", list->machine ? list->machine : "(unnamed)");
    pools_text(machine, text, sizeof text);
    line(head, "machine", text);
    snprintf(text, sizeof text, "room for %s tokens of context",
             context_of(list->n_ctx ? list->n_ctx : 8192, a, sizeof a));
    if (list->min_tokens_per_s > 0)
        append(text, sizeof text, ", at least %.3g tok/s%s", list->min_tokens_per_s,
               opts->min_tokens_per_s == 0 ? " (to read along)" : "");
    line(head, "wanted", text);
    snprintf(text, sizeof text, "%u of %u models, the best quantization of each; older ones of a shape left out",
             list->n_rows, list->n_all);
    line(head, "found", text);
    mb_table_print(head, stdout, 0, terminal.width, terminal.colour);
    mb_table_free(head);
    enum { OTHER_COLUMNS = 53 };
    if (list->n_rows) {
        char full[60];
        snprintf(full, sizeof full, "at %s", context_of(list->n_ctx ? list->n_ctx : 8192, a, sizeof a));
        const char *const headings[] = {"#", "tok/s (80 %)", full, "memory", "loss %", "params", "model"};
        struct mb_table *table = mb_table_new(7), *why = mb_table_new(2);
        columns_of(table, headings, 7);
        for (unsigned i = 0; i < list->n_shown; i++) {
            const struct mb_model_advice *row = list->rows + i;
            char before[300] = "";
            mb_table_row(table);
            snprintf(text, sizeof text, "%u", i + 1);
            mb_table_cell(table, 0, MB_DIM, text);
            mb_table_cell(table, 1, MB_GOOD, interval_of(&row->fit.decode, a, sizeof a));
            mb_table_cell(table, 2, MB_PLAIN, short_speed_of(row->fit.decode_full.tokens_per_s, a, sizeof a));
            mb_table_cell(table, 3, MB_PLAIN, gib_of(row->fit.used_bytes, a, sizeof a));
            mb_table_cell(table, 4, MB_PLAIN, loss_short(&row->loss, a, sizeof a));
            mb_table_cell(table, 5, MB_PLAIN, params_of(row, a, sizeof a));
            /* Names have no blanks to wrap at; one before the quantization is better than a cut through it. */
            unsigned long_name = strlen(row->model) + strlen(row->quant) + 1 + OTHER_COLUMNS > terminal.width;
            snprintf(text, sizeof text, "%s%s@%s", row->model, long_name ? " " : "", row->quant);
            mb_table_cell(table, 6, MB_BOLD, text);
            if (row->released)
                append(before, sizeof before, "%.7s%s", row->released, row->n_also ? "; as fast: " : ". ");
            for (unsigned k = 0; k < row->n_also && k < 3; k++)
                append(before, sizeof before, "%s%s", row->also[k], k + 1 < row->n_also && k < 2 ? ", " : ". ");
            why_row(why, i, before, &row->fit);
        }
        putchar('\n');
        mb_table_print(table, stdout, 0, terminal.width, terminal.colour);
        if (list->n_shown < list->n_rows)
            printf("... and %u smaller ones: --limit 0\n", list->n_rows - list->n_shown);
        puts("loss: published increase of perplexity; in brackets that of Llama-3-8B, where\n"
             "nobody measured this model, which may lose more or less.");
        heading("why", &terminal);
        mb_table_print(why, stdout, 2, terminal.width, terminal.colour);
        mb_table_free(table);
        mb_table_free(why);
    }
    show_rest(list, &terminal);
    show_notes(list->notes, list->n_notes, &terminal);
}

static int print_models(const char *on, const struct mb_advise_opts *opts, int json)
{
    struct mb_machine *machine = NULL;
    struct mb_model_advice_list *list = NULL;
    struct mb_err err;
    char *text = NULL;
    int code = open_machine(on, NULL, &machine, &err);
    if (code == MB_OK)
        code = mb_advise_models(machine, opts, &list, &err);
    if (code == MB_OK && json)
        code = mb_model_advice_json(list, &text, &err);
    if (code == MB_OK && json)
        puts(text);
    else if (code == MB_OK)
        show_models(list, opts, machine);
    int answer = code != MB_OK ? report(&err) : list->n_rows ? 0 : 1;
    mb_text_free(text);
    mb_model_advice_free(list);
    mb_machine_free(machine);
    return answer;
}

/* ---- the verb ---- */

static int find_word(const char *word, const char *const *words, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    return -1;
}

/* Split "Q8_0,Q4_K_M" in place into at most max names. */
static unsigned split(char *list, const char **names, unsigned max)
{
    unsigned n = 0;
    for (char *name = strtok(list, ", "); name && n < max; name = strtok(NULL, ", "))
        names[n++] = name;
    return n;
}

int verb_advise(int argc, char **argv)
{
    enum { QUANTS_MAX = 16 };
    static const char *const classes[] = {"cpu", "gpu", "unified", "dedicated"};
    static const char *const orders[] = {"memory", "speed", "price", "energy"};
    struct mb_advise_opts opts = {.limit = 10};
    const char *model = NULL, *on = NULL, *class_name = NULL, *order = NULL, *svg = NULL, *quants = NULL,
               *names[QUANTS_MAX];
    const char *kv_type = NULL;
    uint64_t limit = 10, apps = UINT64_MAX;
    double min_speed = NAN, budget = NAN;
    int json = 0;
    const struct option options[] = {
        {"model", OPTION_TEXT, &model, "MODEL", "rank the catalog's machines for it (NAME@QUANT, a file, hf:...)"},
        {"on", OPTION_TEXT, &on, "MACHINE", "rank the catalog's models for it (a NAME, FILE.json; default: here)"},
        {"ctx", OPTION_COUNT, &opts.n_ctx, "N", "room for N tokens of context (default 8192)"},
        {"min-speed", OPTION_NUMBER, &min_speed, "T",
         "at least T tokens/s, with an empty context (default 10; 0: any)"},
        {"budget", OPTION_NUMBER, &budget, "B", "machines that cost at most B"},
        {"currency", OPTION_TEXT, &opts.currency, "CODE", "of the budget and the prices compared (default USD)"},
        {"class", OPTION_TEXT, &class_name, "CLASS", "only machines of this class: cpu, gpu, unified, dedicated"},
        {"sort", OPTION_TEXT, &order, "ORDER", "machines by memory (default), speed, price or energy first"},
        {"quant", OPTION_TEXT, &quants, "LIST",
         "quantizations to choose from, best first (default Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q3_K_M)"},
        {"engine", OPTION_TEXT, &opts.engine, "ENGINE", "whose speed is predicted (default llama.cpp)"},
        {"apps", OPTION_BYTES, &apps, "SIZE", "RAM that other programs need"},
        {"kv", OPTION_TEXT, &kv_type, "TYPE", "type of the KV cache: F16 (default), Q8_0, Q4_0, ..."},
        {"limit", OPTION_COUNT, &limit, "N", "rows to show (default 10; 0: all)"},
        {"svg", OPTION_TEXT, &svg, "FILE", "draw price against speed of the machines"},
        {"json", OPTION_FLAG, &json, NULL, "JSON (docs/json.md)"},
    };
    const struct command command = {
        .name = "advise",
        .synopsis = "--model MODEL [options]\n       membound advise [--on MACHINE] [options]",
        .summary = "What to buy for a model, or what to run on a machine: ranked by the size of the memory that a GPU\n"
                   "reads, then predicted speed, then prompt speed, price and power; each row says why.\n"
                   "Exit code 1: nothing meets the conditions; the nearest is named.",
        .examples = "  membound advise\n  membound advise --on \"RTX 4090 64\" --min-speed 20\n"
                    "  membound advise --model gpt-oss-120b --budget 2500 --min-speed 20\n"
                    "  membound advise --model Llama-3.3-70B@Q4_K_M --class unified --svg price.svg\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, NULL);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    int class_found = class_name ? find_word(class_name, classes, 4) : 0,
        order_found = order ? find_word(order, orders, 4) : 0;
    const char *clash = model && on ? "--model and --on exclude each other"
                        : !model && (!isnan(budget) || class_name || order || svg)
                            ? "--budget, --class, --sort and --svg rank machines, so they need --model"
                        : model && quants ? "--quant chooses among models; write --model NAME@QUANT"
                        : class_found < 0 ? "--class is cpu, gpu, unified or dedicated"
                        : order_found < 0 ? "--sort is memory, speed, price or energy"
                        : limit > 1000    ? "--limit is at most 1000"
                        : budget == 0     ? "--budget 0 buys nothing; leave it out for any price"
                                          : NULL;
    if (clash)
        return command_refuse(&command, clash);
    opts.limit = (unsigned)limit;
    opts.min_tokens_per_s = isnan(min_speed) ? 0 : min_speed == 0 ? -1 : min_speed;
    opts.budget = isnan(budget) ? 0 : budget;
    opts.class_given = class_name != NULL;
    opts.machine_class = (enum mb_machine_class)class_found;
    opts.order = (enum mb_advise_order)order_found;
    opts.apps_given = apps != UINT64_MAX;
    opts.apps_bytes = opts.apps_given ? apps : 0;
    opts.kv.type_k = opts.kv.type_v = kv_type;
    char list[300];
    if (quants) {
        snprintf(list, sizeof list, "%s", quants);
        opts.n_quants = split(list, names, QUANTS_MAX);
        opts.quants = names;
    }
    return model ? print_machines(model, &opts, json, svg) : print_models(on, &opts, json);
}
