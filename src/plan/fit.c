/* SPDX-License-Identifier: MIT */
/* The fit: each row is a sum of terms coefficient * exp(sum of parameters), the loss is the pseudo-Huber function of the
 * logarithm of predicted over measured time, and every parameter is held to its prior by a quadratic penalty. Minimised by
 * Levenberg-Marquardt steps from the priors, so that the same rows give the same constants. Decoding and prompts are two
 * problems over disjoint parameters. */
#include "plan/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Errors up to about this size count squared, larger ones linearly. */
#define SCALE 0.06
#define Z80 1.2816

enum { STEPS_MAX = 40, FOLD_STEPS_MAX = 12, ROWS_MIN = 20, TERMS_MAX = 96, PARAMETERS_MAX = 4096 };

struct term {
    double coefficient;
    enum mb_rate rate;
    unsigned n;
    uint16_t id[MB_PARTS_MAX];
    int joined; /* unpacking: index of the term that reads the same weights; -1 */
};

struct sample {
    const struct mb_row *row;
    unsigned index; /* of the row */
    struct term *terms;
    unsigned n_terms;
    double y; /* ln of measured seconds */
};

struct problem {
    struct sample *samples;
    unsigned n;
    double *theta; /* [fit->n_parameters] solution for all rows */
};

struct parameter {
    char name[56];
    double prior, weight;
    unsigned n_rows;
};

struct mb_fit {
    const struct mb_rows *rows;
    struct mb_arena arena;
    struct parameter *parameters;
    unsigned n_parameters;
    struct problem decode, prompt;
    struct mb_fitted *table;
    size_t n_table;
};

struct mb_cost_hints mb_row_hints(const struct mb_row *row, const struct mb_fitted_table *table)
{
    return (struct mb_cost_hints){row->months, row->flash >= 0 ? row->flash > 0 : -1, table};
}

double mb_row_ubatch(const struct mb_row *row)
{
    return strstr(row->notes, "n_ubatch 2048") ? 2048 : 512;
}

/* ---- building ---- */

static unsigned parameter_of(struct mb_fit *fit, const char *name, double prior, double weight)
{
    for (unsigned i = 0; i < fit->n_parameters; i++) {
        if (strcmp(fit->parameters[i].name, name) == 0)
            return i;
    }
    if (fit->n_parameters == PARAMETERS_MAX) {
        fit->arena.failed = 1;
        return 0;
    }
    struct parameter *parameter = mb_arena_append(&fit->arena, &fit->parameters, &fit->n_parameters, sizeof(*parameter));
    if (!parameter)
        return 0;
    snprintf(parameter->name, sizeof parameter->name, "%s", name);
    parameter->prior = prior;
    parameter->weight = weight;
    return fit->n_parameters - 1;
}

/* first: of the sample's terms of this pool. */
static void add_term(struct mb_fit *fit, struct sample *sample, unsigned first, const struct mb_form_context *context,
                     enum mb_rate rate, double amount)
{
    struct mb_form_sum price;
    if (!(amount > 0) || sample->n_terms == TERMS_MAX)
        return;
    mb_form_price(context, rate, &price);
    if (!(price.base > 0))
        return;
    struct term *term = &sample->terms[sample->n_terms++];
    term->coefficient = amount * price.base;
    term->n = price.n;
    term->joined = -1;
    for (unsigned t = sample->n_terms - 1; t-- > first && rate >= MB_RATE_UNPACK_FLOAT && rate <= MB_RATE_UNPACK_CODE;) {
        if (sample->terms[t].rate == rate - MB_RATE_UNPACK_FLOAT + MB_RATE_BYTE_FLOAT)
            term->joined = (int)t;
    }
    term->rate = rate;
    for (unsigned i = 0; i < price.n; i++)
        term->id[i] = (uint16_t)parameter_of(fit, price.part[i].name, price.part[i].prior, price.part[i].weight);
}

static void count_rows(struct mb_fit *fit, const struct sample *sample)
{
    for (unsigned p = 0; p < fit->n_parameters; p++) {
        int used = 0;
        for (unsigned t = 0; t < sample->n_terms && !used; t++) {
            for (unsigned i = 0; i < sample->terms[t].n; i++)
                used |= sample->terms[t].id[i] == p;
        }
        fit->parameters[p].n_rows += (unsigned)used;
    }
}

static int sum_amounts(const struct mb_row *row, const struct mb_cost *cost, double depth, int prompt,
                       double amounts[][MB_N_RATES], unsigned *out_crossings)
{
    double amount[MB_N_RATES];
    int last = -1;
    *out_crossings = 0;
    memset(amounts, 0, cost->n_pools * sizeof(*amounts));
    for (uint32_t i = 0; i < row->load->n_units; i++) {
        const struct mb_shape *shape = &row->load->shapes[row->load->units[i].shape];
        unsigned pool = row->pools[i];
        if (shape->kind == MB_UNIT_EMBEDDING || shape->kind == MB_UNIT_LAYER_EMBEDDING || shape->kind == MB_UNIT_UNREAD)
            continue;
        if (prompt)
            mb_prompt_amounts(shape, row->prompt_tokens, row->depth > 0 ? row->depth : 0, mb_row_ubatch(row), amount);
        else
            mb_shape_amounts(shape, depth, amount);
        for (unsigned rate = 0; rate < MB_N_RATES; rate++)
            amounts[pool][rate] += amount[rate];
        *out_crossings += last >= 0 && last != (int)pool;
        last = (int)pool;
    }
    return 1;
}

static void add_sample(struct mb_fit *fit, struct problem *problem, unsigned index, int prompt)
{
    const struct mb_row *row = &fit->rows->rows[index];
    struct mb_cost cost;
    struct mb_cost_hints hints = mb_row_hints(row, NULL);
    double amounts[MB_COST_POOLS_MAX][MB_N_RATES];
    unsigned crossings;
    if (mb_cost_init_as(&cost, row->owned_machine, row->engine_key, &hints, NULL))
        return;
    struct sample *sample = &problem->samples[problem->n];
    *sample = (struct sample){.row = row, .index = index};
    sample->terms = mb_arena_array(&fit->arena, TERMS_MAX, sizeof(*sample->terms));
    if (!sample->terms)
        return;
    sum_amounts(row, &cost, row->mean_depth, prompt, amounts, &crossings);
    for (unsigned pool = 0; pool < cost.n_pools; pool++) {
        struct mb_form_context context;
        int used = 0;
        unsigned first = sample->n_terms;
        if (!mb_cost_context(&cost, pool, &hints, &context))
            continue;
        for (unsigned rate = 0; rate < MB_N_RATES; rate++) {
            used |= amounts[pool][rate] > 0;
            add_term(fit, sample, first, &context, (enum mb_rate)rate, amounts[pool][rate]);
        }
        if (used && !prompt)
            add_term(fit, sample, first, &context, MB_RATE_TOKEN, 1);
    }
    const struct mb_form_context anywhere = {.engine = "llama.cpp", .months = NAN};
    if (!prompt)
        add_term(fit, sample, 0, &anywhere, MB_RATE_CROSSING, crossings);
    sample->y = prompt ? log(row->prompt_tokens / row->prompt_tps) : -log(row->tps);
    count_rows(fit, sample);
    problem->n++;
}

/* ---- solving ---- */

/* ln of predicted seconds; weights[t] (may be NULL) gets each term's share. */
static double predict(const struct sample *sample, const double *theta, double *weights)
{
    double sum = 0, all[TERMS_MAX];
    for (unsigned t = 0; t < sample->n_terms; t++) {
        const struct term *term = &sample->terms[t];
        double exponent = 0;
        for (unsigned i = 0; i < term->n; i++)
            exponent += theta[term->id[i]];
        all[t] = term->coefficient * exp(exponent);
        if (term->joined < 0) {
            sum += all[t];
            continue;
        }
        /* d ln(joined) / d ln(part) is the part's share of the sum of powers. */
        double *reading = &all[term->joined], both = mb_form_join(*reading, all[t]), share = pow(all[t] / both, 3);
        sum += both - *reading;
        *reading = both * (1 - share);
        all[t] = both * share;
    }
    if (weights)
        memcpy(weights, all, sample->n_terms * sizeof(double));
    for (unsigned t = 0; weights && t < sample->n_terms; t++)
        weights[t] /= sum;
    return log(sum);
}

static double loss(const struct mb_fit *fit, const struct problem *problem, const uint8_t *left_out, const double *theta)
{
    double sum = 0;
    for (unsigned s = 0; s < problem->n; s++) {
        if (left_out && left_out[s])
            continue;
        double e = (predict(&problem->samples[s], theta, NULL) - problem->samples[s].y) / SCALE;
        sum += 2 * (sqrt(1 + e * e) - 1);
    }
    for (unsigned p = 0; p < fit->n_parameters; p++) {
        double d = (theta[p] - fit->parameters[p].prior) * fit->parameters[p].weight;
        sum += d * d;
    }
    return sum;
}

/* Solve the symmetric positive system a x = b in place by Cholesky; 0 when it is not positive. */
static int solve(double *a, double *b, unsigned n)
{
    for (unsigned j = 0; j < n; j++) {
        for (unsigned i = j; i < n; i++) {
            double sum = a[(size_t)i * n + j];
            for (unsigned k = 0; k < j; k++)
                sum -= a[(size_t)i * n + k] * a[(size_t)j * n + k];
            if (i == j && !(sum > 0))
                return 0;
            a[(size_t)i * n + j] = i == j ? sqrt(sum) : sum / a[(size_t)j * n + j];
        }
    }
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++)
            b[i] -= a[(size_t)i * n + k] * b[k];
        b[i] /= a[(size_t)i * n + i];
    }
    for (unsigned i = n; i-- > 0;) {
        for (unsigned k = i + 1; k < n; k++)
            b[i] -= a[(size_t)k * n + i] * b[k];
        b[i] /= a[(size_t)i * n + i];
    }
    return 1;
}

struct work {
    double *hessian, *damped, *gradient, *step, *next, *dense;
    unsigned *touched;
};

static void normal_equations(const struct mb_fit *fit, const struct problem *problem, const uint8_t *left_out,
                             const double *theta, struct work *work)
{
    unsigned n = fit->n_parameters;
    double share[TERMS_MAX];
    memset(work->hessian, 0, (size_t)n * n * sizeof(double));
    for (unsigned p = 0; p < n; p++) {
        double w2 = fit->parameters[p].weight * fit->parameters[p].weight;
        work->hessian[(size_t)p * n + p] = w2;
        work->gradient[p] = w2 * (theta[p] - fit->parameters[p].prior);
        work->dense[p] = 0;
    }
    for (unsigned s = 0; s < problem->n; s++) {
        const struct sample *sample = &problem->samples[s];
        unsigned n_touched = 0;
        if (left_out && left_out[s])
            continue;
        double e = (predict(sample, theta, share) - sample->y) / SCALE, r = 1 / sqrt(1 + e * e);
        for (unsigned t = 0; t < sample->n_terms; t++) {
            for (unsigned i = 0; i < sample->terms[t].n; i++) {
                unsigned id = sample->terms[t].id[i];
                if (work->dense[id] == 0)
                    work->touched[n_touched++] = id;
                work->dense[id] += share[t] / SCALE + 1e-300;
            }
        }
        for (unsigned i = 0; i < n_touched; i++) {
            unsigned a = work->touched[i];
            work->gradient[a] += r * e * work->dense[a];
            for (unsigned k = 0; k < n_touched; k++)
                work->hessian[(size_t)a * n + work->touched[k]] += r * work->dense[a] * work->dense[work->touched[k]];
        }
        for (unsigned i = 0; i < n_touched; i++)
            work->dense[work->touched[i]] = 0;
    }
}

static void minimise(const struct mb_fit *fit, const struct problem *problem, const uint8_t *left_out, double *theta,
                     unsigned steps_max, struct work *work)
{
    unsigned n = fit->n_parameters;
    double damping = 1e-3, now = loss(fit, problem, left_out, theta);
    for (unsigned step = 0; step < steps_max; step++) {
        normal_equations(fit, problem, left_out, theta, work);
        double next = now;
        int better = 0;
        while (!better && damping < 1e6) {
            memcpy(work->damped, work->hessian, (size_t)n * n * sizeof(double));
            for (unsigned p = 0; p < n; p++) {
                work->damped[(size_t)p * n + p] *= 1 + damping;
                work->step[p] = -work->gradient[p];
            }
            if (solve(work->damped, work->step, n)) {
                for (unsigned p = 0; p < n; p++)
                    work->next[p] = theta[p] + fmax(-1, fmin(1, work->step[p]));
                next = loss(fit, problem, left_out, work->next);
                better = next <= now;
            }
            damping = better ? fmax(damping / 5, 1e-9) : damping * 4;
        }
        if (!better)
            return;
        memcpy(theta, work->next, n * sizeof(double));
        if (now - next < 1e-4)
            return;
        now = next;
    }
}

static int take_work(struct mb_fit *fit, struct work *work, struct mb_err *err)
{
    size_t n = fit->n_parameters;
    work->hessian = mb_arena_array(&fit->arena, n * n, sizeof(double));
    work->damped = mb_arena_array(&fit->arena, n * n, sizeof(double));
    work->gradient = mb_arena_array(&fit->arena, 4 * n, sizeof(double));
    work->touched = mb_arena_array(&fit->arena, n, sizeof(unsigned));
    if (fit->arena.failed)
        return mb_fail_memory(err);
    work->step = work->gradient + n;
    work->next = work->gradient + 2 * n;
    work->dense = work->gradient + 3 * n;
    return MB_OK;
}

/* ---- the public side ---- */

static int usable(const struct mb_row *row)
{
    return !row->skip && !(row->flag > 0) && row->load;
}

int mb_fit_make(const struct mb_rows *rows, struct mb_fit **out, struct mb_err *err)
{
    struct mb_fit *fit = calloc(1, sizeof(*fit));
    struct work work;
    if (!fit)
        return mb_fail_memory(err);
    fit->rows = rows;
    fit->decode.samples = mb_arena_array(&fit->arena, rows->n_rows + 1, sizeof(struct sample));
    fit->prompt.samples = mb_arena_array(&fit->arena, rows->n_rows + 1, sizeof(struct sample));
    for (unsigned i = 0; i < rows->n_rows && !fit->arena.failed; i++) {
        const struct mb_row *row = &rows->rows[i];
        if (!usable(row))
            continue;
        add_sample(fit, &fit->decode, i, 0);
        if (row->prompt_tps > 0 && row->prompt_tokens >= 32 && row->row_class != MB_ROW_HYBRID)
            add_sample(fit, &fit->prompt, i, 1);
    }
    fit->decode.theta = mb_arena_array(&fit->arena, fit->n_parameters + 1, sizeof(double));
    fit->prompt.theta = mb_arena_array(&fit->arena, fit->n_parameters + 1, sizeof(double));
    int code = fit->arena.failed ? mb_fail_memory(err) : take_work(fit, &work, err);
    if (!code && fit->decode.n < ROWS_MIN)
        code = mb_fail(err, MB_ENODATA, "%u rows can be used; a fit needs %d", fit->decode.n, ROWS_MIN);
    if (code) {
        mb_fit_free(fit);
        return code;
    }
    for (unsigned p = 0; p < fit->n_parameters; p++)
        fit->decode.theta[p] = fit->prompt.theta[p] = fit->parameters[p].prior;
    minimise(fit, &fit->decode, NULL, fit->decode.theta, STEPS_MAX, &work);
    minimise(fit, &fit->prompt, NULL, fit->prompt.theta, STEPS_MAX, &work);
    *out = fit;
    return MB_OK;
}

void mb_fit_free(struct mb_fit *fit)
{
    if (!fit)
        return;
    mb_arena_free(&fit->arena);
    free(fit);
}

static const char *group_of(const struct mb_row *row, enum mb_cross cross)
{
    if (cross == MB_CROSS_MODEL)
        return row->model;
    return row->row_class == MB_ROW_HYBRID ? row->machine : row->chip_key;
}

static void cross_predict(const struct mb_fit *fit, const struct problem *problem, enum mb_cross cross, double *theta,
                          uint8_t *left_out, uint8_t *done, struct work *work, int prompt, double *out)
{
    memset(done, 0, problem->n);
    for (unsigned s = 0; s < problem->n; s++) {
        if (done[s])
            continue;
        const char *group = group_of(problem->samples[s].row, cross);
        memcpy(theta, problem->theta, fit->n_parameters * sizeof(double));
        if (cross != MB_CROSS_NONE) {
            for (unsigned i = 0; i < problem->n; i++)
                left_out[i] = strcmp(group_of(problem->samples[i].row, cross), group) == 0;
            minimise(fit, problem, left_out, theta, FOLD_STEPS_MAX, work);
        } else {
            memset(left_out, 1, problem->n);
        }
        for (unsigned i = 0; i < problem->n; i++) {
            const struct sample *sample = &problem->samples[i];
            if (!left_out[i])
                continue;
            done[i] = 1;
            out[sample->index] = (prompt ? sample->row->prompt_tokens : 1) / exp(predict(sample, theta, NULL));
        }
    }
}

int mb_fit_predict(const struct mb_fit *const_fit, enum mb_cross cross, double *out_tps, double *out_prompt_tps,
                   struct mb_err *err)
{
    struct mb_fit fit = *const_fit; /* with an arena of its own for this question */
    struct work work;
    fit.arena = (struct mb_arena){0};
    memset(out_tps, 0, fit.rows->n_rows * sizeof(double));
    memset(out_prompt_tps, 0, fit.rows->n_rows * sizeof(double));
    double *theta = mb_arena_array(&fit.arena, fit.n_parameters + 1, sizeof(double));
    uint8_t *flags = mb_arena_array(&fit.arena, fit.rows->n_rows + 1, 2);
    int code = take_work(&fit, &work, err);
    if (!code) {
        cross_predict(&fit, &fit.decode, cross, theta, flags, flags + fit.rows->n_rows, &work, 0, out_tps);
        cross_predict(&fit, &fit.prompt, cross, theta, flags, flags + fit.rows->n_rows, &work, 1, out_prompt_tps);
    }
    mb_arena_free(&fit.arena);
    return code;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct mb_fitted *)a)->name, ((const struct mb_fitted *)b)->name);
}

/* The spread that makes an interval hold 80 % of the rows of a class: their 80 % quantile of |ln(predicted / measured)|. */
static void add_spread(struct mb_fit *fit, const char *name, const double *predicted, int row_class, double *errors)
{
    unsigned n = 0;
    for (unsigned i = 0; i < fit->rows->n_rows; i++) {
        const struct mb_row *row = &fit->rows->rows[i];
        double measured = row_class < 0 ? row->prompt_tps : row->tps;
        if (predicted[i] > 0 && (row_class < 0 || (int)row->row_class == row_class))
            errors[n++] = fabs(log(predicted[i] / measured));
    }
    if (n < 8)
        return;
    qsort(errors, n, sizeof(double), by_value);
    fit->table[fit->n_table++] = (struct mb_fitted){name, errors[(unsigned)(0.8 * (n - 1) + 0.5)] / Z80, n};
}

int mb_fit_table(struct mb_fit *fit, struct mb_fitted_table *out, struct mb_err *err)
{
    static const char *const names[][2] = {{"spread dense unseen", "spread dense seen"},
                                           {"spread moe unseen", "spread moe seen"},
                                           {"spread hybrid unseen", "spread hybrid seen"},
                                           {"spread cpu unseen", "spread cpu seen"}};
    if (!fit->table) {
        unsigned n = fit->rows->n_rows;
        struct mb_fitted *table = mb_arena_array(&fit->arena, fit->n_parameters + 16, sizeof(*table));
        double *tps = mb_arena_array(&fit->arena, 3 * (size_t)n + 1, sizeof(double));
        if (!table || !tps)
            return mb_fail_memory(err);
        fit->table = table;
        for (unsigned p = 0; p < fit->n_parameters; p++) {
            const struct parameter *parameter = &fit->parameters[p];
            double theta = strncmp(parameter->name, "prompt", 6) == 0 ? fit->prompt.theta[p] : fit->decode.theta[p];
            table[fit->n_table++] = (struct mb_fitted){parameter->name, exp(theta), parameter->n_rows};
        }
        for (unsigned seen = 0; seen < 2; seen++) {
            int code = mb_fit_predict(fit, seen ? MB_CROSS_MODEL : MB_CROSS_CHIP, tps, tps + n, err);
            if (code)
                return code;
            for (int row_class = 0; row_class < MB_N_ROW_CLASSES; row_class++)
                add_spread(fit, names[row_class][seen], tps, row_class, tps + 2 * n);
            add_spread(fit, seen ? "spread prompt seen" : "spread prompt unseen", tps + n, -1, tps + 2 * n);
        }
        qsort(table, fit->n_table, sizeof(*table), by_name);
    }
    *out = (struct mb_fitted_table){fit->table, fit->n_table};
    return MB_OK;
}

int mb_fit_json(struct mb_fit *fit, const char *source, char **out, struct mb_err *err)
{
    struct mb_fitted_table table;
    int code = mb_fit_table(fit, &table, err), bad = 0;
    if (code)
        return code;
    json_t *root = json_object(), *constants = json_object();
    bad |= mb_json_put(root, "schema", json_integer(1));
    bad |= mb_json_put(root, "made_by", json_string("membound validate --fit"));
    bad |= mb_json_put(root, "source", mb_json_text(source));
    bad |= mb_json_put(root, "rows", json_integer(fit->decode.n));
    bad |= mb_json_put(root, "prompt_rows", json_integer(fit->prompt.n));
    for (size_t i = 0; i < table.n; i++) {
        char digits[32];
        json_t *pair = json_array();
        snprintf(digits, sizeof digits, "%.5g", table.rows[i].value);
        bad |= json_array_append_new(pair, json_real(strtod(digits, NULL)));
        bad |= json_array_append_new(pair, json_integer(table.rows[i].n_rows));
        bad |= mb_json_put(constants, table.rows[i].name, pair);
    }
    bad |= mb_json_put(root, "constants", constants);
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}
