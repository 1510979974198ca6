/* SPDX-License-Identifier: MIT */
/* Scores: what the cost model says beside what people measured. Reading and resolving rows is left to published.c and
 * resolve.c, fitting to fit.c. */
#include "plan/chart.h"
#include "plan/fit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEEP 8192.0
#define Z80 1.2816

/* data/measured.csv, by tools/embed_engines.py. */
extern const char mb_embedded_measured[];
extern const size_t mb_embedded_measured_n;

struct owner {
    struct mb_arena arena;
    struct mb_rows *rows;
};

static int read_rows(const char *path, struct mb_rows **out, struct mb_err *err)
{
    struct mb_arena arena = {0};
    const char *text = mb_embedded_measured;
    size_t n = mb_embedded_measured_n;
    if (path && !(text = mb_file_read(&arena, NULL, path, MB_ROWS_BYTES_MAX, &n))) {
        int code = errno == ENOENT ? MB_ENOENT : MB_EIO;
        mb_arena_free(&arena);
        return mb_fail(err, code, "%s: %s", path,
                       code == MB_ENOENT ? "no such file" : "cannot be read as a file of at most 64 MiB");
    }
    int code = mb_rows_parse(text, n, path ? path : "the built-in measurements", out, err);
    mb_arena_free(&arena);
    if (!code && (code = mb_rows_resolve(*out, err)))
        mb_rows_free(*out);
    return code;
}

/* Predict one row with the built-in constants; cross-validated values take the place of these. */
static void predict_row(const struct mb_row *row, struct mb_validation_row *out)
{
    struct mb_cost cost;
    struct mb_prediction prediction;
    struct mb_cost_hints hints = mb_row_hints(row, NULL);
    if (mb_cost_init_as(&cost, row->owned_machine, row->engine_key, &hints, NULL) ||
        mb_predict_decode(&cost, row->load, row->pools, row->mean_depth, &prediction, NULL)) {
        out->skipped = "can't be predicted";
        return;
    }
    out->predicted = prediction.tokens_per_s;
    out->low = prediction.low;
    out->high = prediction.high;
    if (!(row->prompt_tps > 0) || !(row->prompt_tokens >= 32))
        return;
    if (mb_predict_prefill(&cost, row->load, row->pools, row->prompt_tokens, row->depth > 0 ? row->depth : 0,
                           (unsigned)mb_row_ubatch(row), &prediction, NULL) == MB_OK) {
        out->prompt_measured = row->prompt_tps;
        out->prompt_predicted = prediction.tokens_per_s;
    }
}

static double spread_in(const struct mb_fitted_table *table, const char *row_class, int seen)
{
    char name[64];
    snprintf(name, sizeof name, "spread %s %s", row_class, seen ? "seen" : "unseen");
    const struct mb_fitted *spread = mb_fitted_find(table, name);
    return spread ? spread->value : 0.25;
}

static int cross_validate(struct mb_validation *validation, const struct mb_rows *rows, enum mb_cross cross, struct mb_err *err)
{
    struct mb_fit *fit;
    struct mb_fitted_table table;
    struct owner *owner = validation->owner;
    double *tps = mb_arena_array(&owner->arena, 2 * (size_t)rows->n_rows + 1, sizeof(double));
    if (!tps)
        return mb_fail_memory(err);
    int code = mb_fit_make(rows, &fit, err);
    if (code)
        return code;
    code = mb_fit_predict(fit, cross, tps, tps + rows->n_rows, err);
    if (!code)
        code = mb_fit_table(fit, &table, err);
    for (unsigned i = 0; i < rows->n_rows && !code; i++) {
        struct mb_validation_row *row = &validation->rows[i];
        if (row->skipped || !(tps[i] > 0))
            continue;
        double sigma = spread_in(&table, row->row_class, cross == MB_CROSS_MODEL);
        row->predicted = tps[i];
        row->low = tps[i] * exp(-Z80 * sigma);
        row->high = tps[i] * exp(Z80 * sigma);
        if (tps[rows->n_rows + i] > 0)
            row->prompt_predicted = tps[rows->n_rows + i];
        else
            row->prompt_measured = 0;
    }
    mb_fit_free(fit);
    return code;
}

/* ---- scores ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *sorted, unsigned n, double q)
{
    double at = q * (n - 1), rest = at - floor(at);
    unsigned i = (unsigned)at;
    return i + 1 < n ? sorted[i] * (1 - rest) + sorted[i + 1] * rest : sorted[i];
}

/* Which rows a score is about. */
struct choice {
    const char *row_class, *chip;
    int deep, prompt;
};

static int chosen(const struct mb_validation_row *row, const struct choice *choice)
{
    return !row->skipped && (!choice->row_class || strcmp(row->row_class, choice->row_class) == 0) &&
           (!choice->chip || strcmp(row->chip, choice->chip) == 0) && (!choice->deep || row->depth > DEEP) &&
           (!choice->prompt || row->prompt_measured > 0);
}

static int score(const struct mb_validation *validation, const struct choice *choice, struct mb_score *out, double *errors)
{
    unsigned n = 0, inside = 0;
    double *signs = errors + validation->n_rows;
    for (unsigned i = 0; i < validation->n_rows; i++) {
        const struct mb_validation_row *row = &validation->rows[i];
        if (!chosen(row, choice))
            continue;
        double ratio = choice->prompt ? row->prompt_predicted / row->prompt_measured : row->predicted / row->measured;
        inside += row->measured >= row->low && row->measured <= row->high;
        errors[n] = fabs(ratio - 1);
        signs[n++] = ratio - 1;
    }
    out->n = n;
    if (!n)
        return 0;
    qsort(errors, n, sizeof(double), by_value);
    qsort(signs, n, sizeof(double), by_value);
    out->median_ape = quantile(errors, n, 0.5);
    out->p90_ape = quantile(errors, n, 0.9);
    out->bias = quantile(signs, n, 0.5);
    out->coverage80 = choice->prompt ? NAN : (double)inside / n;
    return 1;
}

static int by_size(const void *a, const void *b)
{
    const struct mb_score *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : strcmp(x->name, y->name);
}

static int add_scores(struct mb_validation *validation, struct mb_err *err)
{
    static const struct {
        const char *name;
        struct choice choice;
    } classes[] = {{"dense", {.row_class = "dense"}}, {"moe", {.row_class = "moe"}},  {"hybrid", {.row_class = "hybrid"}},
                   {"cpu", {.row_class = "cpu"}},     {"deep", {.deep = 1}},          {"prefill", {.prompt = 1}}};
    struct owner *owner = validation->owner;
    double *errors = mb_arena_array(&owner->arena, 2 * (size_t)validation->n_rows + 2, sizeof(double));
    validation->classes = mb_arena_array(&owner->arena, MB_COUNT(classes), sizeof(struct mb_score));
    validation->chips = mb_arena_array(&owner->arena, (size_t)validation->n_rows + 1, sizeof(struct mb_score));
    if (!errors || !validation->classes || !validation->chips)
        return mb_fail_memory(err);
    for (unsigned i = 0; i < MB_COUNT(classes); i++) {
        struct mb_score *next = &validation->classes[validation->n_classes];
        next->name = classes[i].name;
        validation->n_classes += (unsigned)score(validation, &classes[i].choice, next, errors);
    }
    for (unsigned i = 0; i < validation->n_rows; i++) {
        int known = validation->rows[i].skipped != NULL;
        for (unsigned c = 0; c < validation->n_chips && !known; c++)
            known = strcmp(validation->chips[c].name, validation->rows[i].chip) == 0;
        if (known)
            continue;
        struct mb_score *next = &validation->chips[validation->n_chips];
        const struct choice choice = {.chip = validation->rows[i].chip};
        next->name = choice.chip;
        validation->n_chips += (unsigned)score(validation, &choice, next, errors);
    }
    if (validation->n_chips)
        qsort(validation->chips, validation->n_chips, sizeof(struct mb_score), by_size);
    return MB_OK;
}

/* ---- the public side ---- */

void mb_validation_free(struct mb_validation *validation)
{
    if (!validation)
        return;
    struct owner *owner = validation->owner;
    mb_rows_free(owner->rows);
    mb_arena_free(&owner->arena);
    free(owner);
    free(validation);
}

int mb_validate(const char *path, const char *cross, struct mb_validation **out, struct mb_err *err)
{
    static const char *const names[MB_N_CROSSES] = {"none", "chip", "model"};
    enum mb_cross how = MB_CROSS_NONE;
    while (cross && how < MB_N_CROSSES && strcmp(cross, names[how]) != 0)
        how++;
    if (how == MB_N_CROSSES)
        return mb_fail(err, MB_ENAME, "%s: not a way to cross-validate; there are none, chip and model", cross);
    struct mb_validation *validation = calloc(1, sizeof(*validation));
    struct owner *owner = calloc(1, sizeof(*owner));
    if (!validation || !owner) {
        free(validation);
        free(owner);
        return mb_fail_memory(err);
    }
    validation->owner = owner;
    validation->cross = names[how];
    int code = read_rows(path, &owner->rows, err);
    if (code) {
        owner->rows = NULL;
        mb_validation_free(validation);
        return code;
    }
    const struct mb_rows *rows = owner->rows;
    validation->rows = mb_arena_array(&owner->arena, (size_t)rows->n_rows + 1, sizeof(*validation->rows));
    if (!validation->rows)
        code = mb_fail_memory(err);
    for (unsigned i = 0; i < rows->n_rows && !code; i++) {
        const struct mb_row *row = &rows->rows[i];
        struct mb_validation_row *to = &validation->rows[validation->n_rows++];
        *to = (struct mb_validation_row){.id = row->id, .machine = row->machine,
                                         .chip = row->chip_key ? row->chip_key : row->chip,
                                         .model = row->model, .quant = row->quant, .engine = row->engine_key,
                                         .row_class = mb_row_class_name(row->row_class), .depth = row->mean_depth,
                                         .measured = row->tps};
        to->skipped = row->skip ? row->skip : row->flag > 0 ? "flagged: its notes name a trap" : NULL;
        if (!to->skipped)
            predict_row(row, to);
    }
    if (!code && how != MB_CROSS_NONE)
        code = cross_validate(validation, rows, how, err);
    for (unsigned i = 0; i < validation->n_rows; i++)
        validation->n_used += validation->rows[i].skipped == NULL;
    if (!code)
        code = add_scores(validation, err);
    if (code) {
        mb_validation_free(validation);
        return code;
    }
    *out = validation;
    return MB_OK;
}

static json_t *score_json(const struct mb_score *score)
{
    json_t *object = json_object();
    int bad = mb_json_put(object, "n", mb_json_count(score->n)) |
              mb_json_put(object, "median_ape", mb_json_number(score->median_ape)) |
              mb_json_put(object, "p90_ape", mb_json_number(score->p90_ape)) |
              mb_json_put(object, "bias", mb_json_number(score->bias)) |
              mb_json_put(object, "coverage80", mb_json_number(score->coverage80));
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *scores_json(const struct mb_score *scores, unsigned n)
{
    json_t *object = json_object();
    int bad = 0;
    for (unsigned i = 0; i < n; i++)
        bad |= mb_json_put(object, scores[i].name, score_json(&scores[i]));
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *row_json(const struct mb_validation_row *row, int skipped)
{
    json_t *object = json_object();
    int bad = mb_json_put(object, "id", mb_json_text(row->id));
    if (skipped) {
        bad |= mb_json_put(object, "reason", mb_json_text(row->skipped));
    } else {
        bad |= mb_json_put(object, "class", mb_json_text(row->row_class)) | mb_json_put(object, "chip", mb_json_text(row->chip)) |
               mb_json_put(object, "model", mb_json_text(row->model)) | mb_json_put(object, "quant", mb_json_text(row->quant)) |
               mb_json_put(object, "engine", mb_json_text(row->engine)) |
               mb_json_put(object, "depth", mb_json_number(row->depth)) |
               mb_json_put(object, "measured", mb_json_number(row->measured)) |
               mb_json_put(object, "predicted", mb_json_number(row->predicted)) |
               mb_json_put(object, "low", mb_json_number(row->low)) |
               mb_json_put(object, "high", mb_json_number(row->high)) |
               mb_json_put(object, "prefill_measured", mb_json_number(row->prompt_measured > 0 ? row->prompt_measured : NAN)) |
               mb_json_put(object, "prefill_predicted", mb_json_number(row->prompt_measured > 0 ? row->prompt_predicted : NAN));
    }
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

int mb_validation_json(const struct mb_validation *validation, int rows, char **out, struct mb_err *err)
{
    json_t *root = json_object(), *skipped = json_array(), *all = json_array();
    int bad = mb_json_put(root, "cross", mb_json_text(validation->cross)) |
              mb_json_put(root, "rows", mb_json_count(validation->n_rows)) |
              mb_json_put(root, "used", mb_json_count(validation->n_used));
    for (unsigned i = 0; i < validation->n_rows; i++) {
        const struct mb_validation_row *row = &validation->rows[i];
        if (row->skipped)
            bad |= json_array_append_new(skipped, row_json(row, 1));
        else if (rows)
            bad |= json_array_append_new(all, row_json(row, 0));
    }
    bad |= mb_json_put(root, "skipped", skipped);
    bad |= mb_json_put(root, "classes", scores_json(validation->classes, validation->n_classes));
    bad |= mb_json_put(root, "chips", scores_json(validation->chips, validation->n_chips));
    if (rows)
        bad |= mb_json_put(root, "predictions", all);
    else
        json_decref(all);
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}

int mb_validation_svg(const struct mb_validation *validation, char **out, struct mb_err *err)
{
    struct mb_arena arena = {0};
    struct mb_chart_series series[24];
    unsigned n_series = 0, named = validation->n_chips < 23 ? validation->n_chips : 23;
    struct mb_chart_point *points = mb_arena_array(&arena, (size_t)validation->n_rows + 1, sizeof(*points)), *next = points;
    for (unsigned c = 0; c <= named && points; c++) {
        struct mb_chart_series *to = &series[n_series];
        *to = (struct mb_chart_series){.name = c < named ? validation->chips[c].name : "other chips", .points = next};
        for (unsigned i = 0; i < validation->n_rows; i++) {
            const struct mb_validation_row *row = &validation->rows[i];
            unsigned chip = 0;
            if (row->skipped)
                continue;
            while (chip < named && strcmp(validation->chips[chip].name, row->chip) != 0)
                chip++;
            if (chip != c)
                continue;
            *next++ = (struct mb_chart_point){
                .x = row->measured, .y = row->predicted,
                .label = mb_arena_format(&arena, "%s, %s %s at depth %.0f, %s: measured %.1f, predicted %.1f tok/s", row->machine,
                                         row->model, row->quant, row->depth, row->engine, row->measured, row->predicted)};
            to->n_points++;
        }
        n_series += to->n_points > 0;
    }
    char subtitle[160];
    snprintf(subtitle, sizeof subtitle, "%u published measurements, %s", validation->n_used,
             strcmp(validation->cross, "none") == 0  ? "with the built-in constants"
             : strcmp(validation->cross, "chip") == 0 ? "each predicted by a fit that has not seen its chip"
                                                      : "each predicted by a fit that has not seen its model");
    const struct mb_chart chart = {.title = "Predicted and measured decoding speed", .subtitle = subtitle,
                                   .x_label = "measured, tokens/s", .y_label = "predicted, tokens/s", .log_x = 1, .log_y = 1,
                                   .same_axes = 1, .series = series, .n_series = n_series};
    int code = arena.failed ? mb_fail_memory(err) : mb_chart_svg(&chart, out, err);
    mb_arena_free(&arena);
    return code;
}

int mb_validation_fit(const char *path, char **out, struct mb_err *err)
{
    struct mb_rows *rows;
    struct mb_fit *fit;
    int code = read_rows(path, &rows, err);
    if (code)
        return code;
    code = mb_fit_make(rows, &fit, err);
    if (!code) {
        code = mb_fit_json(fit, path ? path : "data/measured.csv", out, err);
        mb_fit_free(fit);
    }
    mb_rows_free(rows);
    return code;
}
