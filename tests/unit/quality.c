/* SPDX-License-Identifier: MIT */
/* Published losses: the built-in figures are consistent, the right one is found, and damaged files are refused. */
#include "plan/quality.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static struct mb_quality *opened(void)
{
    struct mb_quality *quality = NULL;
    struct mb_err err;
    if (mb_quality_open(&quality, &err) != MB_OK)
        fail_msg("%s", err.text);
    return quality;
}

/* A figure of another model must never look like one of this model. */
static void own_figures_come_before_the_reference(void **state)
{
    (void)state;
    struct mb_quality *quality = opened();
    struct mb_loss loss;
    mb_quality_loss(quality, "Llama-3-70B", "Q4_K_M", &loss);
    assert_true(loss.same_model);
    assert_string_equal(loss.measured_on, "Llama-3-70B");
    assert_float_equal(loss.perplexity_increase, 2.9674 / 2.8308 - 1, 1e-6);
    assert_true(isnan(loss.kld));
    mb_quality_loss(quality, "Qwen3-32B", "Q4_K_M", &loss);
    assert_false(loss.same_model);
    assert_string_equal(loss.measured_on, "Llama-3-8B");
    assert_float_equal(loss.kld, 0.028152, 1e-6);
    assert_non_null(loss.imatrix);
    /* Nobody makes Q8_0 with an importance matrix: the second set of the reference has it. */
    mb_quality_loss(quality, NULL, "Q8_0", &loss);
    assert_float_equal(loss.kld, 0.001355, 1e-6);
    assert_null(loss.imatrix);
    mb_quality_close(quality);
}

static void what_nobody_measured_is_unknown(void **state)
{
    (void)state;
    struct mb_quality *quality = opened();
    struct mb_loss loss;
    const char *const quants[] = {"NVFP4", "UD-Q4_K_XL", "no such type", NULL};
    for (unsigned i = 0; i < MB_COUNT(quants); i++) {
        mb_quality_loss(quality, "Qwen3-32B", quants[i], &loss);
        assert_null(loss.measured_on);
        assert_false(loss.same_model);
        assert_true(isnan(loss.perplexity_increase) && isnan(loss.kld));
    }
    mb_quality_close(quality);
}

static void native_formats_lose_nothing(void **state)
{
    (void)state;
    struct mb_quality *quality = opened();
    struct mb_loss loss;
    assert_string_equal(mb_quality_native(quality, "gpt-oss-120b"), "MXFP4");
    assert_null(mb_quality_native(quality, "Qwen3-32B"));
    mb_quality_loss(quality, "gpt-oss-120b", "MXFP4", &loss);
    assert_true(loss.native && loss.same_model);
    mb_quality_close(quality);
}

/* Each set is of a catalog model, and in each set of the reference fewer bits lose more. */
static void the_figures_are_consistent(void **state)
{
    (void)state;
    struct mb_quality *quality = opened();
    unsigned n_models;
    size_t n_names;
    const char *const *models = mb_quality_models(quality, &n_models), *const *names = mb_model_names(&n_names);
    assert_true(n_models > 10);
    for (unsigned i = 0; i < n_models; i++) {
        size_t k = 0;
        while (k < n_names && strcmp(models[i], names[k]) != 0)
            k++;
        if (k == n_names)
            fail_msg("%s is no model of the catalog", models[i]);
    }
    const char *const falling[] = {"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"};
    for (unsigned m = 0; m < 3; m++) {
        const char *model = (const char *const[]){"Llama-3-8B", "Llama-3-70B", "Llama-3.3-70B"}[m];
        double last = -1;
        for (unsigned i = 0; i < MB_COUNT(falling); i++) {
            struct mb_loss loss;
            mb_quality_loss(quality, model, falling[i], &loss);
            assert_true(loss.same_model && loss.source && loss.base);
            assert_true(loss.perplexity_increase > last);
            last = loss.perplexity_increase;
        }
    }
    mb_quality_close(quality);
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *names;
    } cases[] = {
        {"{", "quality.json"},
        {"[]", "quality.json"},
        {"{\"schema\": 2, \"reference\": \"a\", \"sets\": []}", "schema"},
        {"{\"schema\": 1, \"reference\": \"a\", \"sets\": [], \"more\": 1}", "more"},
        {"{\"schema\": 1, \"sets\": []}", "reference"},
        {"{\"schema\": 1, \"reference\": \"a\", \"sets\": [{\"model\": \"a\", \"base\": \"F16\", \"quants\": {}}]}", "source"},
        {"{\"schema\": 1, \"reference\": \"a\", \"sets\": [{\"model\": \"a\", \"base\": \"F16\", \"source\": \"s\","
         "\"quants\": {\"Q4_0\": {\"perplexity\": 7}}}]}", "base_perplexity"},
        {"{\"schema\": 1, \"reference\": \"a\", \"sets\": [{\"model\": \"a\", \"base\": \"F16\", \"source\": \"s\","
         "\"quants\": {\"Q4_0\": {}}}]}", "Q4_0"},
        {"{\"schema\": 1, \"reference\": \"a\", \"sets\": [{\"model\": \"a\", \"base\": \"F16\", \"source\": \"s\","
         "\"quants\": {\"Q4_0\": {\"kld\": -1}}}]}", "kld"},
        {"{\"schema\": 1, \"reference\": \"a\", \"sets\": [{\"model\": \"a\", \"base\": \"F16\", \"source\": \"s\","
         "\"quants\": {\"Q4_0\": {\"kld\": 1, \"speed\": 2}}}]}", "speed"},
    };
    for (unsigned i = 0; i < MB_COUNT(cases); i++) {
        struct mb_quality *quality = NULL;
        struct mb_err err;
        assert_int_equal(mb_quality_parse(cases[i].text, strlen(cases[i].text), &quality, &err), MB_EFORMAT);
        assert_null(quality);
        if (!strstr(err.text, cases[i].names))
            fail_msg("%s is not named in: %s", cases[i].names, err.text);
    }
    mb_quality_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_figures_come_before_the_reference), cmocka_unit_test(what_nobody_measured_is_unknown),
        cmocka_unit_test(native_formats_lose_nothing),           cmocka_unit_test(the_figures_are_consistent),
        cmocka_unit_test(damaged_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
