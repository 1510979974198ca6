/* SPDX-License-Identifier: MIT */
/* Advice: questions that people ask are answered by what the plan predicts, the answers obey the conditions and their order, and
 * the nearest misses and next steps are really the nearest. No speed is asserted: those are the predictor's to test. */
#include "plan/advise.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#define SUPPORT_MODELS
#include "support.h"

enum { NOWHERE = MB_MISS_RUN | MB_MISS_FIT };

static double price_of(const struct mb_machine_advice *row)
{
    return row->price.currency && strcmp(row->price.currency, "USD") == 0 ? row->price.amount : NAN;
}

static struct mb_machine_advice_list *machines_for(const char *spec, const struct mb_advise_opts *opts)
{
    struct mb_model *model = open_spec(spec);
    struct mb_machine_advice_list *list = NULL;
    struct mb_err err;
    if (mb_advise_machines(model, opts, &list, &err) != MB_OK)
        fail_msg("%s", err.text);
    mb_model_free(model);
    return list;
}

static struct mb_model_advice_list *models_for(const char *name, const struct mb_advise_opts *opts)
{
    struct mb_machine *machine = NULL;
    struct mb_model_advice_list *list = NULL;
    struct mb_err err;
    if (mb_machine_catalog(name, &machine, &err) != MB_OK || mb_advise_models(machine, opts, &list, &err) != MB_OK)
        fail_msg("%s", err.text);
    mb_machine_free(machine);
    return list;
}

/* What holds for every list, whatever was asked. */
static void check_machines(const struct mb_machine_advice_list *list, const struct mb_advise_opts *opts)
{
    assert_int_equal(list->n_all, 165);
    assert_true(list->n_rows <= list->n_all && list->n_shown <= list->n_rows);
    for (unsigned i = 0; i < list->n_all; i++) {
        const struct mb_machine_advice *row = list->rows + i;
        double price = price_of(row);
        assert_int_equal(row->fit.misses == 0, i < list->n_rows);
        assert_non_null(row->fit.why);
        if (row->fit.misses & NOWHERE) {
            assert_true(row->fit.decode.tokens_per_s == 0);
            continue;
        }
        assert_true(row->fit.decode.low <= row->fit.decode.tokens_per_s && row->fit.decode.tokens_per_s <= row->fit.decode.high);
        assert_true(row->fit.decode.tokens_per_s <= row->fit.decode.bound_tokens_per_s);
        assert_true(row->fit.decode_full.tokens_per_s <= row->fit.decode.tokens_per_s * 1.0001);
        assert_true(row->fit.used_bytes >= (double)list->model_bytes && row->fit.used_bytes <= row->fit.have_bytes);
        assert_true(row->fit.slow_share >= 0 && row->fit.slow_share <= 1);
        assert_int_equal(!!(row->fit.misses & MB_MISS_SPEED), row->fit.decode.tokens_per_s < list->min_tokens_per_s);
        assert_int_equal(!!(row->fit.misses & MB_MISS_PRICE), list->budget > 0 && price > list->budget);
        assert_int_equal(!!(row->fit.misses & MB_MISS_UNPRICED), list->budget > 0 && isnan(price));
        assert_int_equal(!!(row->fit.misses & MB_MISS_CLASS), opts->class_given && row->machine_class != opts->machine_class);
        if (row->load_w > 0)
            assert_float_equal(row->tokens_per_joule * row->load_w, row->fit.decode.tokens_per_s, 1e-9);
    }
    for (unsigned i = 0; i < list->n_rows; i++) {
        if (list->cheapest)
            assert_false(price_of(list->rows + i) < price_of(list->cheapest));
        assert_true(list->rows[i].fit.decode.tokens_per_s <= list->fastest->fit.decode.tokens_per_s);
    }
}

static void rows_meet_the_conditions(void **state)
{
    (void)state;
    static const char *const models[] = {"gpt-oss-120b", "Llama-3.3-70B@Q4_K_M"};
    for (unsigned m = 0; m < MB_COUNT(models); m++) {
        for (unsigned o = 0; o < 5; o++) {
            struct mb_advise_opts opts = {.min_tokens_per_s = o == 1 ? -1 : o == 2 ? 40 : 0,
                                          .budget = o == 3 ? 4000 : 0,
                                          .class_given = o == 4,
                                          .machine_class = MB_CLASS_UNIFIED,
                                          .limit = o == 1 ? 3 : 0};
            struct mb_machine_advice_list *list = machines_for(models[m], &opts);
            assert_float_equal(list->min_tokens_per_s, o == 1 ? 0 : o == 2 ? 40 : MB_ADVISE_READABLE, 0);
            check_machines(list, &opts);
            if (opts.limit)
                assert_int_equal(list->n_shown, list->n_rows < 3 ? list->n_rows : 3);
            mb_machine_advice_free(list);
        }
    }
}

static void orders_hold(void **state)
{
    (void)state;
    for (unsigned order = MB_ORDER_MEMORY; order <= MB_ORDER_ENERGY; order++) {
        struct mb_advise_opts opts = {.order = (enum mb_advise_order)order};
        struct mb_machine_advice_list *list = machines_for("Qwen3-32B@Q4_K_M", &opts);
        check_machines(list, &opts);
        for (unsigned i = 1; i < list->n_rows; i++) {
            const struct mb_machine_advice *a = list->rows + i - 1, *b = list->rows + i;
            if (order == MB_ORDER_SPEED)
                assert_true(a->fit.decode.tokens_per_s >= b->fit.decode.tokens_per_s);
            else if (order == MB_ORDER_PRICE)
                assert_true(isnan(price_of(b)) || price_of(a) <= price_of(b));
            else if (order == MB_ORDER_ENERGY)
                assert_true(a->tokens_per_joule >= b->tokens_per_joule);
            else if ((a->fit.slow_share > 0) == (b->fit.slow_share > 0) &&
                     (a->machine_class == MB_CLASS_CPU) == (b->machine_class == MB_CLASS_CPU))
                assert_true(a->fast_bytes > b->fast_bytes || (a->fast_bytes == b->fast_bytes &&
                            a->fit.decode.tokens_per_s >= b->fit.decode.tokens_per_s));
            else
                assert_true(a->fit.slow_share == 0 || b->fit.slow_share > 0);
        }
        mb_machine_advice_free(list);
    }
}

/* "With 2,500 USD, what runs gpt-oss-120b at 20 tokens per second?" and the like: the nearest is the nearest. */
static void the_nearest_miss_is_the_nearest(void **state)
{
    (void)state;
    static const double budgets[] = {0, 500, 2500, 3500}, speeds[] = {-1, 20, 60};
    static const char *const models[] = {"gpt-oss-120b", "DeepSeek-V3.1@Q4_K_M", "Kimi-K3@Q8_0"};
    unsigned n_nothing = 0, n_something = 0;
    for (unsigned m = 0; m < MB_COUNT(models); m++) {
        for (unsigned b = 0; b < MB_COUNT(budgets); b++) {
            for (unsigned s = 0; s < MB_COUNT(speeds); s++) {
                struct mb_advise_opts opts = {.min_tokens_per_s = speeds[s], .budget = budgets[b]};
                struct mb_machine_advice_list *list = machines_for(models[m], &opts);
                double price = INFINITY, speed = 0, any = 0;
                check_machines(list, &opts);
                for (unsigned i = 0; i < list->n_all; i++) {
                    const struct mb_machine_advice *row = list->rows + i;
                    double rate = row->fit.decode.tokens_per_s;
                    int runs = !(row->fit.misses & NOWHERE), reaches = runs && rate >= list->min_tokens_per_s;
                    int affordable = !list->budget || price_of(row) <= list->budget;
                    if (reaches && price_of(row) < price)
                        price = price_of(row);
                    if (runs && affordable && rate > speed)
                        speed = rate;
                    if (runs && rate > any)
                        any = rate;
                    if (reaches && affordable)
                        assert_true(i < list->n_rows);
                }
                n_nothing += !list->n_rows;
                n_something += list->n_rows > 0;
                if (list->n_rows) {
                    assert_null(list->near_price);
                    assert_null(list->near_speed);
                } else {
                    assert_int_equal(list->near_price != NULL, list->budget > 0 && isfinite(price));
                    if (list->near_price)
                        assert_float_equal(price_of(list->near_price), price, 0);
                    assert_int_equal(list->near_speed != NULL, speed > 0);
                    if (list->near_speed)
                        assert_float_equal(list->near_speed->fit.decode.tokens_per_s, speed, 0);
                    assert_int_equal(list->near_any != NULL, any > 0);
                    if (list->near_any)
                        assert_float_equal(list->near_any->fit.decode.tokens_per_s, any, 0);
                }
                mb_machine_advice_free(list);
            }
        }
    }
    assert_true(n_nothing > 5 && n_something > 5);
}

static void steps_up_are_the_cheapest_steps(void **state)
{
    (void)state;
    struct mb_advise_opts opts = {.min_tokens_per_s = -1};
    struct mb_machine_advice_list *list = machines_for("Qwen3-32B@Q4_K_M", &opts);
    unsigned n_faster = 0, n_larger = 0, n_warned = 0;
    for (unsigned i = 0; i < list->n_all; i++) {
        const struct mb_machine_advice *row = list->rows + i;
        double faster = INFINITY, larger = INFINITY;
        for (unsigned k = 0; k < list->n_all && !(row->fit.misses & NOWHERE); k++) {
            const struct mb_machine_advice *other = list->rows + k;
            double gain = other->fit.decode.tokens_per_s / row->fit.decode.tokens_per_s, price = price_of(other);
            if (other->fit.misses & NOWHERE || isnan(price))
                continue;
            if (gain >= 1.25 && price < faster)
                faster = price;
            if (gain >= 0.9 && other->fast_bytes >= 1.25 * row->fast_bytes && price < larger)
                larger = price;
        }
        assert_int_equal(row->faster.machine != NULL, isfinite(faster));
        assert_int_equal(row->larger.machine != NULL, isfinite(larger));
        if (row->faster.machine) {
            assert_float_equal(row->faster.price, faster, 0);
            assert_true(row->faster.tokens_per_s_more > 0);
            n_faster++;
        }
        if (row->larger.machine) {
            assert_float_equal(row->larger.price, larger, 0);
            assert_true(row->larger.fast_bytes_more > 0);
            assert_float_equal(row->larger.price_more, isnan(price_of(row)) ? larger : larger - price_of(row), 1e-6);
            n_larger++;
        }
        n_warned += row->fit.but && strstr(row->fit.but, "Barely dearer") != NULL;
    }
    assert_true(n_faster > 20 && n_larger > 20 && n_warned > 0);
    mb_machine_advice_free(list);
}

/* A dense 70B beside DDR5: a small card hardly helps, and that is said; a mixture of experts is another matter. */
static void pointless_cards_are_called_so(void **state)
{
    (void)state;
    struct mb_advise_opts opts = {.min_tokens_per_s = -1, .class_given = 1, .machine_class = MB_CLASS_GPU};
    struct mb_machine_advice_list *dense = machines_for("Llama-3.3-70B@Q4_K_M", &opts);
    unsigned n_pointless = 0;
    for (unsigned i = 0; i < dense->n_rows; i++) {
        const struct mb_machine_advice *row = dense->rows + i;
        int said = row->fit.but && strstr(row->fit.but, "pointless") != NULL;
        int is = row->ram_tokens_per_s > 0 && row->fit.decode.tokens_per_s < MB_ADVISE_READABLE &&
                 row->fit.decode.tokens_per_s < 2 * row->ram_tokens_per_s;
        assert_int_equal(said, is);
        n_pointless += (unsigned)said;
        if (strcmp(row->machine, "PC RTX 3060, 64 GB DDR5") == 0)
            assert_true(said);
        if (row->fast_bytes >= 80 * MB_GIB) {
            assert_float_equal(row->fit.slow_share, 0, 0);
            assert_float_equal(row->ram_tokens_per_s, 0, 0);
        }
    }
    assert_true(n_pointless >= 3);
    struct mb_machine_advice_list *sparse = machines_for("gpt-oss-120b", &opts);
    for (unsigned i = 0; i < sparse->n_rows; i++)
        assert_false(sparse->rows[i].fit.but && strstr(sparse->rows[i].fit.but, "pointless"));
    mb_machine_advice_free(dense);
    mb_machine_advice_free(sparse);
}

static void check_models(const struct mb_model_advice_list *list)
{
    static const char *const quants[] = {"Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "MXFP4"};
    assert_true(list->n_all > 80 && list->n_all <= 109);
    for (unsigned i = 0; i < list->n_all; i++) {
        const struct mb_model_advice *row = list->rows + i;
        unsigned known = 0;
        assert_int_equal(row->fit.misses == 0, i < list->n_rows);
        assert_non_null(row->fit.why);
        assert_true(row->active_params <= row->params && row->read_bytes <= (double)row->model_bytes);
        for (unsigned q = 0; q < MB_COUNT(quants); q++)
            known += strcmp(row->quant, quants[q]) == 0;
        assert_int_equal(known, 1);
        assert_int_equal(strcmp(row->quant, "MXFP4") == 0, strncmp(row->model, "gpt-oss", 7) == 0);
        if (!row->fit.misses)
            assert_true(row->fit.decode.tokens_per_s >= list->min_tokens_per_s);
        /* Within 5 % sizes count as equal, and rounding may move each by half of that. */
        if (i && (row[-1].fit.misses != 0) == (row->fit.misses != 0))
            assert_true((double)row->params <= 1.06 * (double)row[-1].params);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(row->model, list->rows[k].model);
        for (unsigned k = 0; k < row->n_also; k++)
            assert_string_not_equal(row->model, row->also[k]);
    }
}

static void models_for_every_kind_of_machine(void **state)
{
    (void)state;
    static const char *const names[] = {"Mac mini M4 16 GB", "PC RTX 4090, 64 GB DDR5", "DGX Spark", "DGX H200",
                                        "Server EPYC 9355, 384 GB"};
    double last = 0;
    for (unsigned i = 0; i < MB_COUNT(names); i++) {
        struct mb_model_advice_list *list = models_for(names[i], NULL);
        check_models(list);
        assert_string_equal(list->machine, names[i]);
        assert_true(list->n_rows > 20);
        if (i < 4) {
            assert_true((double)list->rows[0].params > last);
            last = (double)list->rows[0].params;
        }
        mb_model_advice_free(list);
    }
}

/* Every quantization above the one given either does not fit or is too slow. */
static void the_best_quantization_is_given(void **state)
{
    (void)state;
    static const char *const best_first[] = {"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M"};
    struct mb_advise_opts opts = {.min_tokens_per_s = 20};
    struct mb_model_advice_list *list = models_for("PC RTX 4090, 64 GB DDR5", &opts);
    unsigned n_compared = 0;
    check_models(list);
    for (unsigned q = 0; q < MB_COUNT(best_first); q++) {
        struct mb_advise_opts one = opts;
        one.quants = best_first + q;
        one.n_quants = 1;
        struct mb_model_advice_list *only = models_for("PC RTX 4090, 64 GB DDR5", &one);
        for (unsigned i = 0; i < list->n_rows; i++) {
            unsigned given = 0, k = 0;
            while (given < MB_COUNT(best_first) && strcmp(best_first[given], list->rows[i].quant) != 0)
                given++;
            while (k < only->n_all && strcmp(only->rows[k].model, list->rows[i].model) != 0)
                k++;
            /* Of a shape another model may stand for the rest when only one quantization is looked at. */
            if (given == MB_COUNT(best_first) || k == only->n_all || q > given)
                continue;
            assert_int_equal(only->rows[k].fit.misses == 0, q == given);
            n_compared++;
        }
        mb_model_advice_free(only);
    }
    assert_true(n_compared > 50);
    mb_model_advice_free(list);
}

static void a_dense_model_crawls_where_a_moe_does_not(void **state)
{
    (void)state;
    struct mb_model_advice_list *list = models_for("PC RTX 4090, 64 GB DDR5", NULL);
    assert_non_null(list->dense);
    assert_non_null(list->sparse);
    assert_false(list->dense->moe);
    assert_true(list->sparse->moe);
    assert_true(list->dense->fit.slow_share > 0 && list->sparse->fit.slow_share > 0);
    assert_true((double)list->dense->model_bytes > 24 * MB_GIB && (double)list->sparse->model_bytes > 24 * MB_GIB);
    assert_true(list->sparse->fit.decode.tokens_per_s >= 3 * list->dense->fit.decode.tokens_per_s);
    assert_true(list->dense->fit.decode.tokens_per_s < MB_ADVISE_READABLE);
    mb_model_advice_free(list);
}

static void the_step_up_runs_what_it_says(void **state)
{
    (void)state;
    struct mb_model_advice_list *list = models_for("Mac mini M4 16 GB", NULL);
    assert_non_null(list->step.machine);
    assert_true(list->step.price > 0 && list->step.fast_bytes_more > 0 && list->n_step_models > 0);
    assert_float_equal(list->step.price_more, list->step.price - list->price.amount, 1e-6);
    struct mb_model_advice_list *next = models_for(list->step.machine, NULL);
    for (unsigned i = 0; i < list->n_step_models; i++) {
        char name[120];
        unsigned k = 0, own = 0;
        snprintf(name, sizeof name, "%s", list->step_models[i]);
        *strchr(name, '@') = 0;
        while (k < next->n_rows && strcmp(next->rows[k].model, name) != 0)
            k++;
        while (own < list->n_rows && strcmp(list->rows[own].model, name) != 0)
            own++;
        assert_true(k < next->n_rows);
        assert_int_equal(own, list->n_rows);
    }
    mb_model_advice_free(next);
    mb_model_advice_free(list);
}

/* Models of one shape run alike; the newest stands for them. */
static void older_models_of_a_shape_are_folded(void **state)
{
    (void)state;
    struct mb_model_advice_list *list = models_for("DGX Spark", NULL);
    unsigned found = 0;
    for (unsigned i = 0; i < list->n_all; i++) {
        const struct mb_model_advice *row = list->rows + i;
        assert_string_not_equal(row->model, "Qwen3.5-27B");
        assert_string_not_equal(row->model, "Llama-3.1-70B");
        if (strcmp(row->model, "Qwen3.8-27B") != 0)
            continue;
        found++;
        assert_true(row->n_also >= 2);
    }
    assert_int_equal(found, 1);
    mb_model_advice_free(list);
}

static void long_contexts_leave_models_out(void **state)
{
    (void)state;
    struct mb_advise_opts opts = {.n_ctx = 200000};
    struct mb_model_advice_list *list = models_for("DGX Spark", &opts);
    for (unsigned i = 0; i < list->n_all; i++) {
        struct mb_model *model = open_spec(list->rows[i].model);
        struct mb_model_info info;
        mb_model_get_info(model, &info);
        if (info.context_max && info.context_max < 200000)
            assert_true(list->rows[i].fit.misses & MB_MISS_RUN);
        mb_model_free(model);
    }
    assert_true(list->n_rows > 5);
    mb_model_advice_free(list);
}

static void impossible_questions_are_refused(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("Qwen3-8B@Q4_K_M");
    struct mb_machine_advice_list *list = NULL;
    struct mb_err err;
    struct mb_advise_opts opts = {.engine = "lama.cpp"};
    assert_int_equal(mb_advise_machines(model, &opts, &list, &err), MB_ENAME);
    assert_non_null(strstr(err.text, "llama.cpp"));
    opts = (struct mb_advise_opts){.n_ctx = 1u << 30};
    assert_int_equal(mb_advise_machines(model, &opts, &list, &err), MB_ERANGE);
    opts = (struct mb_advise_opts){.budget = NAN};
    assert_int_equal(mb_advise_machines(model, &opts, &list, &err), MB_ERANGE);
    opts = (struct mb_advise_opts){.min_tokens_per_s = INFINITY};
    assert_int_equal(mb_advise_machines(model, &opts, &list, &err), MB_ERANGE);
    opts = (struct mb_advise_opts){.kv = {.type_k = "Q9"}};
    assert_int_equal(mb_advise_machines(model, &opts, &list, &err), MB_EINVAL);
    assert_null(list);
    mb_model_free(model);
    struct mb_machine nothing = {.name = "nothing"};
    struct mb_model_advice_list *models = NULL;
    assert_int_equal(mb_advise_models(&nothing, NULL, &models, &err), MB_ENODATA);
    struct mb_machine *machine = NULL;
    assert_int_equal(mb_machine_catalog("DGX Spark", &machine, &err), MB_OK);
    const char *quant = "Q5_K_MM";
    opts = (struct mb_advise_opts){.quants = &quant, .n_quants = 1};
    assert_int_equal(mb_advise_models(machine, &opts, &models, &err), MB_ENAME);
    assert_null(models);
    mb_machine_free(machine);
    mb_machine_advice_free(NULL);
    mb_model_advice_free(NULL);
}

static void other_currencies_are_not_converted(void **state)
{
    (void)state;
    struct mb_advise_opts opts = {.budget = 5000, .currency = "EUR"};
    struct mb_machine_advice_list *list = machines_for("Qwen3-8B@Q4_K_M", &opts);
    assert_int_equal(list->n_rows, 0);
    assert_null(list->near_price);
    assert_true(list->n_unpriced > 50);
    assert_non_null(list->near_unpriced);
    for (unsigned i = 0; i < list->n_all; i++)
        assert_null(list->rows[i].faster.machine);
    mb_machine_advice_free(list);
}

static void json_and_picture_say_the_same(void **state)
{
    (void)state;
    struct mb_advise_opts opts = {.limit = 4, .budget = 6000};
    struct mb_machine_advice_list *list = machines_for("gpt-oss-120b", &opts);
    char *text = NULL;
    struct mb_err err;
    assert_int_equal(mb_machine_advice_json(list, &text, &err), MB_OK);
    json_t *root = json_loads(text, 0, NULL), *rows = json_object_get(root, "machines");
    assert_int_equal(json_array_size(rows), 4);
    assert_int_equal(json_integer_value(json_object_get(root, "n_meet")), list->n_rows);
    for (size_t i = 0; i < 4; i++) {
        json_t *row = json_array_get(rows, i);
        assert_string_equal(json_string_value(json_object_get(row, "machine")), list->rows[i].machine);
        assert_float_equal(json_number_value(json_object_get(json_object_get(row, "decode"), "tokens_per_s")),
                           list->rows[i].fit.decode.tokens_per_s, 1e-6);
    }
    json_decref(root);
    mb_text_free(text);
    assert_int_equal(mb_machine_advice_svg(list, &text, &err), MB_OK);
    unsigned n_points = 0, n_priced = 0;
    for (const char *p = text; (p = strstr(p, "<title>")); p++)
        n_points++;
    for (unsigned i = 0; i < list->n_all; i++)
        n_priced += !(list->rows[i].fit.misses & NOWHERE) && !isnan(price_of(list->rows + i));
    assert_int_equal(n_points, n_priced);
    assert_string_equal(text + strlen(text) - 7, "</svg>\n");
    mb_text_free(text);
    mb_machine_advice_free(list);
    opts = (struct mb_advise_opts){.currency = "CHF"};
    list = machines_for("gpt-oss-120b", &opts);
    assert_int_equal(mb_machine_advice_svg(list, &text, &err), MB_ENODATA);
    mb_machine_advice_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_meet_the_conditions),
        cmocka_unit_test(orders_hold),
        cmocka_unit_test(the_nearest_miss_is_the_nearest),
        cmocka_unit_test(steps_up_are_the_cheapest_steps),
        cmocka_unit_test(pointless_cards_are_called_so),
        cmocka_unit_test(models_for_every_kind_of_machine),
        cmocka_unit_test(the_best_quantization_is_given),
        cmocka_unit_test(a_dense_model_crawls_where_a_moe_does_not),
        cmocka_unit_test(the_step_up_runs_what_it_says),
        cmocka_unit_test(older_models_of_a_shape_are_folded),
        cmocka_unit_test(long_contexts_leave_models_out),
        cmocka_unit_test(impossible_questions_are_refused),
        cmocka_unit_test(other_currencies_are_not_converted),
        cmocka_unit_test(json_and_picture_say_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
