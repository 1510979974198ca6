/* SPDX-License-Identifier: MIT */
/* Both kinds of advice as JSON; docs/json.md, "advise", lists the keys. */
#include "machine/json.h"
#include "plan/advise.h"

#include <math.h>

static json_t *known(double value)
{
    return value > 0 ? mb_json_number(value) : json_null();
}

static json_t *speed_json(const struct mb_speed *speed)
{
    json_t *object = json_object();
    int bad = 0;
    if (speed->tokens_per_s <= 0) {
        json_decref(object);
        return json_null();
    }
    bad += mb_json_put(object, "tokens_per_s", mb_json_number(speed->tokens_per_s));
    bad += mb_json_put(object, "low", mb_json_number(speed->low));
    bad += mb_json_put(object, "high", mb_json_number(speed->high));
    bad += mb_json_put(object, "bound_tokens_per_s", known(speed->bound_tokens_per_s));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *loss_json(const struct mb_loss *loss)
{
    json_t *object = json_object();
    int bad = 0;
    bad += mb_json_put(object, "measured_on", mb_json_text(loss->measured_on));
    bad += mb_json_put(object, "same_model", json_boolean(loss->same_model));
    bad += mb_json_put(object, "native", json_boolean(loss->native));
    bad += mb_json_put(object, "perplexity_increase", mb_json_number(loss->perplexity_increase));
    bad += mb_json_put(object, "kld", mb_json_number(loss->kld));
    bad += mb_json_put(object, "base", mb_json_text(loss->base));
    bad += mb_json_put(object, "corpus", mb_json_text(loss->corpus));
    bad += mb_json_put(object, "imatrix", mb_json_text(loss->imatrix));
    bad += mb_json_put(object, "date", mb_json_text(loss->date));
    bad += mb_json_put(object, "source", mb_json_text(loss->source));
    bad += mb_json_put(object, "note", mb_json_text(loss->note));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *texts_json(const char *const *texts, unsigned n)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < n && array; i++) {
        if (json_array_append_new(array, mb_json_text(texts[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *misses_json(unsigned misses)
{
    static const char *const names[] = {"run", "fit", "speed", "price", "unpriced", "class"};
    const char *found[MB_COUNT(names)];
    unsigned n = 0;
    for (unsigned i = 0; i < MB_COUNT(names); i++) {
        if (misses & 1u << i)
            found[n++] = names[i];
    }
    return texts_json(found, n);
}

static int put_fit(json_t *object, const struct mb_outcome *fit)
{
    int bad = 0, fits = !(fit->misses & (MB_MISS_RUN | MB_MISS_FIT));
    bad += mb_json_put(object, "fits", json_boolean(fits));
    bad += mb_json_put(object, "misses", misses_json(fit->misses));
    bad += mb_json_put(object, "decode", speed_json(&fit->decode));
    bad += mb_json_put(object, "decode_full", speed_json(&fit->decode_full));
    bad += mb_json_put(object, "prefill", speed_json(&fit->prefill));
    bad += mb_json_put(object, "slow_share", fits ? mb_json_number(fit->slow_share) : json_null());
    bad += mb_json_put(object, "used_bytes", mb_json_number(fit->used_bytes));
    bad += mb_json_put(object, "have_bytes", known(fit->have_bytes));
    bad += mb_json_put(object, "why", mb_json_text(fit->why));
    bad += mb_json_put(object, "but", mb_json_text(fit->but));
    return bad;
}

static json_t *step_json(const struct mb_step_up *step)
{
    if (!step->machine)
        return json_null();
    json_t *object = json_object();
    int bad = 0;
    bad += mb_json_put(object, "machine", mb_json_text(step->machine));
    bad += mb_json_put(object, "price", mb_json_number(step->price));
    bad += mb_json_put(object, "price_more", mb_json_number(step->price_more));
    bad += mb_json_put(object, "tokens_per_s_more", mb_json_number(step->tokens_per_s_more));
    bad += mb_json_put(object, "fast_bytes_more", mb_json_number(step->fast_bytes_more));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *machine_json(const struct mb_machine_advice *row)
{
    if (!row)
        return json_null();
    json_t *object = json_object();
    int bad = 0;
    bad += mb_json_put(object, "machine", mb_json_text(row->machine));
    bad += mb_json_put(object, "class", mb_json_text(mb_class_name(row->machine_class)));
    bad += mb_json_put(object, "desirability", mb_json_count(row->desirability));
    bad += mb_json_put(object, "fast_bytes", mb_json_number(row->fast_bytes));
    bad += mb_json_put(object, "bandwidth_bytes_per_s", known(row->bandwidth_bytes_per_s));
    bad += mb_json_put(object, "price", mb_price_json(row->price.currency ? &row->price : NULL));
    bad += mb_json_put(object, "load_w", known(row->load_w));
    bad += mb_json_put(object, "tokens_per_joule", known(row->tokens_per_joule));
    bad += put_fit(object, &row->fit);
    bad += mb_json_put(object, "ram_tokens_per_s", known(row->ram_tokens_per_s));
    bad += mb_json_put(object, "faster", step_json(&row->faster));
    bad += mb_json_put(object, "larger", step_json(&row->larger));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

int mb_machine_advice_json(const struct mb_machine_advice_list *list, char **out, struct mb_err *err)
{
    json_t *root = json_object(), *rows = json_array();
    int bad = 0;
    bad += mb_json_put(root, "model", mb_json_text(list->model));
    bad += mb_json_put(root, "quant", mb_json_text(list->quant));
    bad += mb_json_put(root, "engine", mb_json_text(list->engine));
    bad += mb_json_put(root, "ctx", mb_json_count(list->n_ctx));
    bad += mb_json_put(root, "min_tokens_per_s", mb_json_number(list->min_tokens_per_s));
    bad += mb_json_put(root, "budget", known(list->budget));
    bad += mb_json_put(root, "currency", mb_json_text(list->currency));
    bad += mb_json_put(root, "model_bytes", mb_json_count(list->model_bytes));
    bad += mb_json_put(root, "read_bytes_per_token", mb_json_number(list->read_bytes));
    bad += mb_json_put(root, "loss", loss_json(&list->loss));
    bad += mb_json_put(root, "n_meet", mb_json_count(list->n_rows));
    bad += mb_json_put(root, "n_unpriced", mb_json_count(list->n_unpriced));
    for (unsigned i = 0; i < list->n_shown && !bad; i++)
        bad += json_array_append_new(rows, machine_json(list->rows + i));
    bad += mb_json_put(root, "machines", rows);
    bad += mb_json_put(root, "cheapest", mb_json_text(list->cheapest ? list->cheapest->machine : NULL));
    bad += mb_json_put(root, "fastest", mb_json_text(list->fastest ? list->fastest->machine : NULL));
    bad += mb_json_put(root, "thriftiest", mb_json_text(list->thriftiest ? list->thriftiest->machine : NULL));
    bad += mb_json_put(root, "near_price", machine_json(list->near_price));
    bad += mb_json_put(root, "near_speed", machine_json(list->near_speed));
    bad += mb_json_put(root, "near_unpriced", machine_json(list->near_unpriced));
    bad += mb_json_put(root, "near_any", machine_json(list->near_any));
    bad += mb_json_put(root, "notes", texts_json(list->notes, list->n_notes));
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}

static json_t *model_json(const struct mb_model_advice *row)
{
    if (!row)
        return json_null();
    json_t *object = json_object();
    int bad = 0;
    bad += mb_json_put(object, "model", mb_json_text(row->model));
    bad += mb_json_put(object, "quant", mb_json_text(row->quant));
    bad += mb_json_put(object, "released", mb_json_text(row->released));
    bad += mb_json_put(object, "params", mb_json_count(row->params));
    bad += mb_json_put(object, "active_params", mb_json_count(row->active_params));
    bad += mb_json_put(object, "moe", json_boolean(row->moe));
    bad += mb_json_put(object, "model_bytes", mb_json_count(row->model_bytes));
    bad += mb_json_put(object, "read_bytes_per_token", mb_json_number(row->read_bytes));
    bad += put_fit(object, &row->fit);
    bad += mb_json_put(object, "loss", loss_json(&row->loss));
    bad += mb_json_put(object, "also", texts_json(row->also, row->n_also));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

int mb_model_advice_json(const struct mb_model_advice_list *list, char **out, struct mb_err *err)
{
    json_t *root = json_object(), *rows = json_array(), *rest = json_array();
    int bad = 0;
    bad += mb_json_put(root, "machine", mb_json_text(list->machine));
    bad += mb_json_put(root, "engine", mb_json_text(list->engine));
    bad += mb_json_put(root, "ctx", list->n_ctx ? mb_json_count(list->n_ctx) : json_null());
    bad += mb_json_put(root, "min_tokens_per_s", mb_json_number(list->min_tokens_per_s));
    bad += mb_json_put(root, "price", mb_price_json(list->price.currency ? &list->price : NULL));
    bad += mb_json_put(root, "fast_bytes", mb_json_number(list->fast_bytes));
    bad += mb_json_put(root, "n_meet", mb_json_count(list->n_rows));
    for (unsigned i = 0; i < list->n_shown && !bad; i++)
        bad += json_array_append_new(rows, model_json(list->rows + i));
    for (unsigned i = list->n_rows; i < list->n_all && !bad; i++)
        bad += json_array_append_new(rest, model_json(list->rows + i));
    bad += mb_json_put(root, "models", rows);
    bad += mb_json_put(root, "rest", rest);
    bad += mb_json_put(root, "dense", model_json(list->dense));
    bad += mb_json_put(root, "sparse", model_json(list->sparse));
    bad += mb_json_put(root, "currency", mb_json_text(list->currency));
    bad += mb_json_put(root, "step", step_json(&list->step));
    bad += mb_json_put(root, "step_models", texts_json(list->step_models, list->n_step_models));
    bad += mb_json_put(root, "notes", texts_json(list->notes, list->n_notes));
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}
