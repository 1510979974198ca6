/* SPDX-License-Identifier: MIT */
/* membound validate: predictions beside published measurements, and the fit that the predictions rest on. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    int failed = !file || fputs(text, file) < 0;
    if (file)
        failed |= fclose(file) != 0;
    if (failed)
        fprintf(stderr, "membound: %s: cannot be written; choose another place\n", path);
    return failed ? 4 : 0;
}

static void percent(char *buf, size_t n, double share, int sign)
{
    snprintf(buf, n, sign ? "%+.1f %%" : "%.1f %%", 100 * share);
}

static void score_table(const char *label, const struct mb_score *scores, unsigned n, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(6);
    const char *headings[] = {label, "rows", "median error", "90 %", "bias", "in interval"};
    for (unsigned c = 0; c < 6; c++)
        mb_table_column(table, c, headings[c], c ? MB_RIGHT : MB_LEFT);
    for (unsigned i = 0; i < n; i++) {
        const struct mb_score *score = &scores[i];
        char text[64];
        mb_table_row(table);
        mb_table_cell(table, 0, MB_BOLD, score->name);
        snprintf(text, sizeof text, "%u", score->n);
        mb_table_cell(table, 1, MB_PLAIN, text);
        percent(text, sizeof text, score->median_ape, 0);
        mb_table_cell(table, 2, MB_PLAIN, text);
        percent(text, sizeof text, score->p90_ape, 0);
        mb_table_cell(table, 3, MB_PLAIN, text);
        percent(text, sizeof text, score->bias, 1);
        mb_table_cell(table, 4, MB_PLAIN, text);
        if (score->coverage80 >= 0)
            percent(text, sizeof text, score->coverage80, 0);
        else
            snprintf(text, sizeof text, "-");
        mb_table_cell(table, 5, MB_PLAIN, text);
    }
    mb_table_print(table, stdout, 0, terminal->width, terminal->colour);
    mb_table_free(table);
    puts("");
}

static void row_table(const struct mb_validation *validation, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(5);
    static const char *const headings[] = {"row", "measured", "predicted", "80 % interval", "what"};
    for (unsigned c = 0; c < 5; c++)
        mb_table_column(table, c, headings[c], c && c < 4 ? MB_RIGHT : MB_LEFT);
    for (unsigned i = 0; i < validation->n_rows; i++) {
        const struct mb_validation_row *row = &validation->rows[i];
        char text[400];
        if (row->skipped)
            continue;
        int inside = row->measured >= row->low && row->measured <= row->high;
        mb_table_row(table);
        mb_table_cell(table, 0, MB_DIM, row->id);
        snprintf(text, sizeof text, "%.4g", row->measured);
        mb_table_cell(table, 1, MB_PLAIN, text);
        snprintf(text, sizeof text, "%.4g", row->predicted);
        mb_table_cell(table, 2, inside ? MB_PLAIN : MB_WARN, text);
        snprintf(text, sizeof text, "%.4g-%.4g", row->low, row->high);
        mb_table_cell(table, 3, MB_PLAIN, text);
        snprintf(text, sizeof text, "%s, %s %s at %.0f, %s", row->machine, row->model, row->quant, row->depth, row->engine);
        mb_table_cell(table, 4, MB_PLAIN, text);
    }
    mb_table_print(table, stdout, 0, terminal->width, terminal->colour);
    mb_table_free(table);
    puts("");
}

static void show(const struct mb_validation *validation, int rows)
{
    struct terminal terminal = terminal_of_stdout();
    unsigned n_reasons = 0;
    struct {
        const char *reason;
        unsigned n;
    } reasons[32];
    printf("%u of %u measurements used%s\n\n", validation->n_used, validation->n_rows,
           strcmp(validation->cross, "chip") == 0    ? "; each predicted by a fit that has not seen its chip"
           : strcmp(validation->cross, "model") == 0 ? "; each predicted by a fit that has not seen its model"
                                                     : "");
    if (rows)
        row_table(validation, &terminal);
    score_table("class", validation->classes, validation->n_classes, &terminal);
    score_table("chip", validation->chips, validation->n_chips, &terminal);
    for (unsigned i = 0; i < validation->n_rows; i++) {
        const char *reason = validation->rows[i].skipped;
        unsigned at = 0;
        if (!reason)
            continue;
        while (at < n_reasons && strcmp(reasons[at].reason, reason) != 0)
            at++;
        if (at == sizeof reasons / sizeof *reasons)
            continue;
        if (at == n_reasons) {
            reasons[n_reasons].reason = reason;
            reasons[n_reasons++].n = 0;
        }
        reasons[at].n++;
    }
    struct mb_table *table = mb_table_new(2);
    for (unsigned i = 0; i < n_reasons; i++) {
        char text[32];
        snprintf(text, sizeof text, "skipped %u", reasons[i].n);
        line(table, text, reasons[i].reason);
    }
    mb_table_print(table, stdout, 0, terminal.width, terminal.colour);
    mb_table_free(table);
    puts("Error: |predicted / measured - 1|. In interval: measurements inside the\npredicted 80 % interval.");
}

/* Is the median error of a class over the limit? */
static int over_limit(const struct mb_validation *validation, double limit)
{
    int over = 0;
    for (unsigned i = 0; i < validation->n_classes && limit > 0; i++) {
        const struct mb_score *score = &validation->classes[i];
        if (score->median_ape <= limit)
            continue;
        fprintf(stderr, "membound: %s: the median error is %.1f %%, over the limit of %.1f %%\n", score->name,
                100 * score->median_ape, 100 * limit);
        over = 1;
    }
    return over;
}

static int print_fit(const char *path)
{
    struct mb_err err;
    char *text = NULL;
    int code = mb_validation_fit(path, &text, &err);
    if (code)
        return report(&err);
    puts(text);
    mb_text_free(text);
    return 0;
}

int verb_validate(int argc, char **argv)
{
    const char *path = NULL, *cross = NULL, *svg = NULL;
    int json = 0, rows = 0, fit = 0;
    double limit = 0;
    const struct option options[] = {
        {"cross", OPTION_TEXT, &cross, "WHAT",
         "predict each row by a fit without its \"chip\" or its \"model\" (minutes)"},
        {"rows", OPTION_FLAG, &rows, NULL, "list every row"},
        {"limit", OPTION_SHARE, &limit, "E", "exit with 1 if the median error of a class is over this: 10%"},
        {"svg", OPTION_TEXT, &svg, "FILE", "write a picture: predicted against measured"},
        {"fit", OPTION_FLAG, &fit, NULL, "fit the constants to these rows and print them (a minute)"},
        {"json", OPTION_FLAG, &json, NULL, "JSON (docs/json.md)"},
    };
    const struct command command = {
        .name = "validate",
        .synopsis = "[CSV] [options]",
        .summary = "Predict published measurements and print the errors, by class and by chip. Without CSV: the built-in\n"
                   "measurements. docs/prediction.md states the columns, the formula and how far to trust it.",
        .examples = "  membound validate\n  membound validate --cross chip --json\n"
                    "  membound validate mine.csv --svg mine.svg --limit 20%\n"
                    "  membound validate --fit > data/engines/constants.json\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .max_positional = 1,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, &path);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    if (fit && (cross || svg || rows || json || limit > 0))
        return command_refuse(&command, "--fit goes alone, with a CSV or without");
    if (fit)
        return print_fit(path);
    struct mb_validation *validation;
    struct mb_err err;
    char *text = NULL;
    int code = mb_validate(path, cross, &validation, &err), exit_code;
    if (code)
        return report(&err);
    if (svg)
        code = mb_validation_svg(validation, &text, &err);
    exit_code = code ? report(&err) : svg ? write_text(svg, text) : 0;
    mb_text_free(text);
    text = NULL;
    if (!exit_code && json) {
        code = mb_validation_json(validation, rows, &text, &err);
        exit_code = code ? report(&err) : 0;
        if (text)
            puts(text);
        mb_text_free(text);
    } else if (!exit_code) {
        show(validation, rows);
    }
    if (!exit_code)
        exit_code = over_limit(validation, limit);
    mb_validation_free(validation);
    return exit_code;
}
