/* SPDX-License-Identifier: MIT */
/* Suite for src/plan/form.c, fit.c, validate.c and chart.c: a fit finds what made the rows, scores are what they are called, and
 * the built-in measurements are predicted as well as docs/prediction.md says. */
#include "plan/chart.h"
#include "plan/fit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_DIR
#define SUPPORT_FILES
#include "support.h"

#define HEADING "id,machine,chip,mem_gb,bw_gbs_spec,backend,engine,model,arch,params_b,active_params_b,moe,quant,size_gib,ctx_depth,tg_tokens,tg_tps,flash_attn,date\n"

/* Rows whose speeds are made by the cost model itself with a memory that is 20 % slower: the fit must find the 20 %. */
static struct mb_rows *synthetic(double slower)
{
    static const char *const models[] = {"Qwen3-4B", "Qwen3-8B", "Qwen3-14B", "Qwen3-32B", "Llama-3.1-8B", "Gemma-3-27B"};
    static const char *const quants[] = {"Q4_K_M", "Q6_K", "Q8_0", "F16"};
    static char text[16000];
    size_t n = (size_t)snprintf(text, sizeof text, HEADING);
    for (unsigned m = 0; m < MB_COUNT(models); m++) {
        for (unsigned q = 0; q < MB_COUNT(quants); q++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%u,PC,RTX 4090,24,1008,cuda,llama.cpp,%s,,,,0,%s,,%u,64,%g,1,2026-06\n",
                                  m * 10 + q, models[m], quants[q], m * 1000, 1.0);
    }
    struct mb_rows *rows;
    struct mb_err err;
    if (mb_rows_parse(text, n, "synthetic", &rows, &err) || mb_rows_resolve(rows, &err))
        fail_msg("%s", err.text);
    const struct mb_fitted_table none = {0};
    for (unsigned i = 0; i < rows->n_rows; i++) {
        struct mb_row *row = &rows->rows[i];
        struct mb_cost cost;
        struct mb_prediction prediction;
        struct mb_cost_hints hints = mb_row_hints(row, &none);
        assert_int_equal(mb_cost_init_as(&cost, row->owned_machine, row->engine_key, &hints, NULL), MB_OK);
        for (unsigned rate = MB_RATE_BYTE_FLOAT; rate <= MB_RATE_BYTE_CODE; rate++)
            cost.pools[0].s_per[rate] *= slower;
        assert_int_equal(mb_predict_decode(&cost, row->load, row->pools, row->mean_depth, &prediction, NULL), MB_OK);
        row->tps = prediction.tokens_per_s;
        row->skip = NULL;
    }
    return rows;
}

static double memory_of(struct mb_fit *fit)
{
    struct mb_fitted_table table;
    double product = 1;
    assert_int_equal(mb_fit_table(fit, &table, NULL), MB_OK);
    for (size_t i = 0; i < table.n; i++) {
        const char *name = table.rows[i].name;
        if (i)
            assert_true(strcmp(table.rows[i - 1].name, name) < 0);
        if (strncmp(name, "memory ", 7) == 0)
            product *= table.rows[i].value;
    }
    return product;
}

static void a_fit_finds_what_made_the_rows(void **state)
{
    (void)state;
    struct mb_rows *rows = synthetic(1.2);
    struct mb_fit *fit;
    struct mb_err err;
    double tps[64], prompt[64];
    if (mb_fit_make(rows, &fit, &err))
        fail_msg("%s", err.text);
    assert_int_equal(mb_fit_predict(fit, MB_CROSS_NONE, tps, prompt, NULL), MB_OK);
    for (unsigned i = 0; i < rows->n_rows; i++)
        assert_true(fabs(tps[i] / rows->rows[i].tps - 1) < 0.03);
    assert_int_equal(mb_fit_predict(fit, MB_CROSS_MODEL, tps, prompt, NULL), MB_OK);
    for (unsigned i = 0; i < rows->n_rows; i++)
        assert_true(fabs(tps[i] / rows->rows[i].tps - 1) < 0.06);
    /* 1.2 / 0.88; part of it may hide in the types' own parameters. */
    double memory = memory_of(fit);
    assert_true(memory > 1.22 && memory < 1.45);
    mb_fit_free(fit);
    unsigned n_rows = rows->n_rows;
    rows->n_rows = 5;
    assert_int_equal(mb_fit_make(rows, &fit, &err), MB_ENODATA);
    rows->n_rows = n_rows;
    mb_rows_free(rows);
}

static void prices_fall_back_to_priors(void **state)
{
    (void)state;
    static const struct mb_fitted rows[] = {{"byte.k", 2, 7}, {"memory cuda", 3, 9}};
    const struct mb_fitted_table table = {rows, 2}, none = {0};
    struct mb_form_context context = {.engine = "llama.cpp", .backend = MB_BACKEND_CUDA, .bytes_per_s = 1e12, .months = NAN, .flash = 1};
    const struct mb_processor gpu = {.name = "NVIDIA GeForce RTX 4090", .kind = MB_PROCESSOR_GPU};
    unsigned n_rows;
    mb_form_processor(&context, &gpu);
    assert_string_equal(context.chip, "rtx 4090");
    assert_string_equal(context.family, "ada");
    assert_true(fabs(mb_form_seconds(&context, MB_RATE_BYTE_K, &table, &n_rows) - 6e-12) < 1e-18);
    assert_int_equal(n_rows, 9);
    assert_true(fabs(mb_form_seconds(&context, MB_RATE_BYTE_K, &none, NULL) - 1e-12 / 0.88) < 1e-18);
    /* Another engine has one parameter more; a slower backend without flash attention pays for the cache. */
    double with = mb_form_seconds(&context, MB_RATE_KV_BYTE, &none, NULL);
    context.flash = 0;
    assert_true(fabs(mb_form_seconds(&context, MB_RATE_KV_BYTE, &none, NULL) / with - 1.5) < 1e-9);
}

static void the_built_in_measurements(void **state)
{
    (void)state;
    struct mb_validation *validation;
    struct mb_err err;
    char *text;
    if (mb_validate(NULL, NULL, &validation, &err))
        fail_msg("%s", err.text);
    assert_true(validation->n_rows > 400);
    assert_true(validation->n_used > 0.85 * validation->n_rows);
    for (unsigned i = 0; i < validation->n_rows; i++)
        assert_true(validation->rows[i].skipped || validation->rows[i].predicted > 0);
    /* docs/prediction.md states the figures; these are bounds that a broken model does not keep. */
    static const struct {
        const char *name;
        double median;
    } limits[] = {{"dense", 0.065}, {"moe", 0.075}, {"hybrid", 0.20}, {"cpu", 0.15}};
    for (unsigned i = 0; i < MB_COUNT(limits); i++) {
        unsigned at = 0;
        while (at < validation->n_classes && strcmp(validation->classes[at].name, limits[i].name) != 0)
            at++;
        assert_true(at < validation->n_classes);
        if (!(validation->classes[at].median_ape < limits[i].median))
            fail_msg("%s: %.3f", limits[i].name, validation->classes[at].median_ape);
        assert_true(validation->classes[at].coverage80 > 0.6);
    }
    assert_int_equal(mb_validation_json(validation, 1, &text, &err), MB_OK);
    assert_non_null(strstr(text, "\"median_ape\""));
    assert_non_null(strstr(text, "\"predictions\""));
    mb_text_free(text);
    assert_int_equal(mb_validation_svg(validation, &text, &err), MB_OK);
    assert_non_null(strstr(text, "</svg>"));
    mb_text_free(text);
    mb_validation_free(validation);
    assert_int_equal(mb_validate(NULL, "day", &validation, &err), MB_ENAME);
    assert_int_equal(mb_validate("/nowhere.csv", NULL, &validation, &err), MB_ENOENT);
}

/* Three rows whose prediction is known: the scores are worked out by hand. */
static void scores(void **state)
{
    (void)state;
    static const double factors[] = {1, 1.25, 2};
    char text[2000];
    double predicted = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        size_t n = (size_t)snprintf(text, sizeof text, HEADING);
        for (unsigned i = 0; i < 3; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%u,PC,RTX 4090,24,1008,cuda,llama.cpp,Qwen3-8B,,,,0,Q4_K_M,,0,64,%.9g,1,2026-06\n",
                                  i, pass ? predicted / factors[i] : 100);
        write_bytes("rows.csv", text, n);
        struct mb_validation *validation;
        struct mb_err err;
        if (mb_validate(in_dir("rows.csv"), NULL, &validation, &err))
            fail_msg("%s", err.text);
        assert_int_equal(validation->n_used, 3);
        predicted = validation->rows[0].predicted;
        if (pass) {
            const struct mb_score *dense = &validation->classes[0];
            assert_string_equal(dense->name, "dense");
            assert_int_equal(dense->n, 3);
            assert_true(fabs(dense->median_ape - 0.25) < 1e-6);
            assert_true(fabs(dense->p90_ape - (0.25 + 0.8 * 0.75)) < 1e-6);
            assert_true(fabs(dense->bias - 0.25) < 1e-6);
            assert_true(fabs(dense->coverage80 - 1.0 / 3) < 0.34);
            assert_string_equal(validation->chips[0].name, "rtx 4090");
        }
        mb_validation_free(validation);
    }
}

static void charts(void **state)
{
    (void)state;
    const struct mb_chart_point points[] = {{.x = 1, .y = 2, .label = "a<b"}, {.x = 100, .y = 50},
                                            {.x = 0, .y = 1, .label = "not on a logarithm"}, {.x = NAN, .y = 1}};
    const struct mb_chart_series series = {.name = "one & two", .points = points, .n_points = 4};
    struct mb_chart chart = {.title = "T", .x_label = "x", .y_label = "y", .log_x = 1, .log_y = 1, .same_axes = 1, .series = &series,
                             .n_series = 1};
    char *svg;
    assert_int_equal(mb_chart_svg(&chart, &svg, NULL), MB_OK);
    assert_non_null(strstr(svg, "a&lt;b"));
    assert_non_null(strstr(svg, "one &amp; two"));
    assert_null(strstr(svg, "nan"));
    assert_null(strstr(svg, "not on a logarithm"));
    assert_non_null(strstr(svg, "prefers-color-scheme:dark"));
    mb_text_free(svg);
    chart.log_x = chart.log_y = chart.same_axes = 0;
    assert_int_equal(mb_chart_svg(&chart, &svg, NULL), MB_OK);
    assert_non_null(strstr(svg, "not on a logarithm"));
    mb_text_free(svg);
    chart.n_series = 0;
    assert_int_equal(mb_chart_svg(&chart, &svg, NULL), MB_EINVAL);
}

/* Where the names of the chart stand: boxes that are narrower than any font. */
static unsigned names_of(const char *svg, double (*boxes)[4], unsigned max)
{
    unsigned n = 0;
    for (const char *p = svg; n < max && (p = strstr(p, "<text class=\"n")); p++) {
        double x, y;
        char anchor[8], name[40];
        const char *at = strstr(p, " x=");
        assert_int_equal(sscanf(at, " x=\"%lf\" y=\"%lf\" text-anchor=\"%7[a-z]\">%39[^<]", &x, &y, anchor, name), 4);
        double width = 5 * (double)strlen(name);
        double left = x - (anchor[0] == 's' ? 0 : anchor[0] == 'm' ? width / 2 : width);
        double *box = boxes[n++];
        box[0] = left, box[1] = y - 8, box[2] = left + width, box[3] = y;
    }
    return n;
}

static void names_cover_nothing(void **state)
{
    (void)state;
    struct mb_chart_point points[60];
    double boxes[60][4];
    char *svg;
    for (unsigned i = 0; i < 60; i++) /* crowded, but for the last */
        points[i] = (struct mb_chart_point){.x = i < 59 ? i % 7 : 40, .y = i < 59 ? i % 9 : 40, .name = "twenty letters, about",
                                            .emphasis = i == 59};
    const struct mb_chart_series series = {.name = "s", .points = points, .n_points = 60};
    const struct mb_chart chart = {.title = "T", .x_label = "x", .y_label = "y", .series = &series, .n_series = 1};
    assert_int_equal(mb_chart_svg(&chart, &svg, NULL), MB_OK);
    unsigned n = names_of(svg, boxes, 60);
    assert_in_range(n, 4, 40);
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++)
            assert_false(boxes[i][0] < boxes[k][2] && boxes[k][0] < boxes[i][2] && boxes[i][1] < boxes[k][3] &&
                         boxes[k][1] < boxes[i][3]);
    }
    const char *bold = strstr(svg, "<text class=\"n e\"");
    assert_ptr_equal(bold, strstr(svg, "<text class=\"n")); /* chose first */
    mb_text_free(svg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fit_finds_what_made_the_rows), cmocka_unit_test(prices_fall_back_to_priors),
        cmocka_unit_test(the_built_in_measurements),      cmocka_unit_test(scores),
        cmocka_unit_test(charts),                         cmocka_unit_test(names_cover_nothing),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
