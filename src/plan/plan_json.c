/* SPDX-License-Identifier: MIT */
/* A plan as JSON text; docs/json.md, "plan", lists the keys. */
#include "base/base.h"

static json_t *texts(const char *const *list, unsigned n)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(array, mb_json_text(list[i]));
    return array;
}

/* Null stands for what is not known or does not run. */
static json_t *rate(double value)
{
    return value > 0 ? mb_json_number(value) : json_null();
}

static int put_speed(json_t *object, const struct mb_speed *speed)
{
    return mb_json_put(object, "tokens_per_s", rate(speed->tokens_per_s)) + mb_json_put(object, "low", rate(speed->low)) +
           mb_json_put(object, "high", rate(speed->high)) +
           mb_json_put(object, "bound_tokens_per_s", rate(speed->bound_tokens_per_s));
}

static json_t *speed_of(const struct mb_speed *speed)
{
    json_t *object = json_object();
    put_speed(object, speed);
    return object;
}

static json_t *placement_of(const struct mb_plan *plan)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < plan->n_groups; i++) {
        const struct mb_plan_group *group = &plan->groups[i];
        json_t *object = json_object();
        mb_json_put(object, "group", mb_json_text(group->group));
        mb_json_put(object, "pool", mb_json_text(plan->pool_ids[group->pool]));
        mb_json_put(object, "bytes", mb_json_count(group->bytes));
        mb_json_put(object, "traffic_bytes", mb_json_number(group->traffic_bytes));
        mb_json_put(object, "layers", group->n_layers ? mb_json_count(group->n_layers) : json_null());
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *pools_of(const struct mb_plan *plan)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < plan->n_pools; i++) {
        const struct mb_plan_pool *pool = &plan->pools[i];
        json_t *object = json_object();
        mb_json_put(object, "id", mb_json_text(plan->pool_ids[i]));
        mb_json_put(object, "name", mb_json_text(plan->pool_names[i]));
        mb_json_put(object, "capacity_bytes", pool->capacity_bytes > 0 ? mb_json_number(pool->capacity_bytes) : json_null());
        mb_json_put(object, "used_bytes", mb_json_count(pool->used_bytes));
        mb_json_put(object, "weights", mb_json_count(pool->weights_bytes));
        mb_json_put(object, "kv", mb_json_count(pool->kv_bytes));
        mb_json_put(object, "buffers", mb_json_count(pool->buffers_bytes));
        mb_json_put(object, "reserved", mb_json_count(pool->reserved_bytes));
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *depths_of(const struct mb_plan *plan)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < plan->n_by_depth; i++) {
        json_t *object = json_object();
        mb_json_put(object, "depth", mb_json_count(plan->by_depth[i].depth));
        put_speed(object, &plan->by_depth[i].decode);
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *others_of(const struct mb_plan *plan)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < plan->n_others; i++) {
        json_t *object = json_object();
        mb_json_put(object, "name", mb_json_text(plan->others[i].name));
        mb_json_put(object, "fits", plan->others[i].fits ? json_true() : json_false());
        mb_json_put(object, "tokens_per_s", rate(plan->others[i].tokens_per_s));
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *terms_of(const struct mb_term *terms, unsigned n)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < n; i++) {
        json_t *object = json_object();
        mb_json_put(object, "name", mb_json_text(terms[i].name));
        mb_json_put(object, "seconds", mb_json_number(terms[i].seconds));
        mb_json_put(object, "bytes", rate(terms[i].bytes));
        mb_json_put(object, "bytes_per_s", rate(terms[i].bytes_per_s));
        mb_json_put(object, "provenance", mb_json_text(mb_provenance_name(terms[i].provenance)));
        mb_json_put(object, "detail", mb_json_text(terms[i].detail));
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *ttft_of(const struct mb_plan *plan)
{
    static const char *const keys[3] = {"1024", "8192", "32768"};
    json_t *object = json_object();
    for (unsigned i = 0; i < 3; i++)
        mb_json_put(object, keys[i], rate(plan->ttft_s[i]));
    return object;
}

int mb_plan_json(const struct mb_plan *plan, int explain, char **out, struct mb_err *err)
{
    json_t *root = json_object();
    int bad = mb_json_put(root, "model", mb_json_text(plan->model));
    bad |= mb_json_put(root, "quant", mb_json_text(plan->quant));
    bad |= mb_json_put(root, "model_bytes", mb_json_count(plan->model_bytes));
    bad |= mb_json_put(root, "machine", mb_json_text(plan->machine));
    bad |= mb_json_put(root, "engine", mb_json_text(plan->engine));
    bad |= mb_json_put(root, "fits", plan->fits ? json_true() : json_false());
    bad |= mb_json_put(root, "ctx", mb_json_count(plan->n_ctx));
    bad |= mb_json_put(root, "ctx_max", plan->ctx_max ? mb_json_count(plan->ctx_max) : json_null());
    bad |= mb_json_put(root, "placement", placement_of(plan));
    bad |= mb_json_put(root, "pools", pools_of(plan));
    bad |= mb_json_put(root, "reserved_for", mb_json_text(plan->reserved_for));
    bad |= mb_json_put(root, "decode", speed_of(&plan->decode));
    bad |= mb_json_put(root, "prefill", speed_of(&plan->prefill));
    bad |= mb_json_put(root, "ttft_s", ttft_of(plan));
    bad |= mb_json_put(root, "by_depth", depths_of(plan));
    bad |= mb_json_put(root, "placed_depth", mb_json_count(plan->placed_depth));
    bad |= mb_json_put(root, "placed_tokens_per_s", rate(plan->placed_tokens_per_s));
    bad |= mb_json_put(root, "others", others_of(plan));
    bad |= mb_json_put(root, "bottleneck", mb_json_text(plan->bottleneck));
    bad |= mb_json_put(root, "needs", texts(plan->needs, plan->n_needs));
    bad |= mb_json_put(root, "warnings", texts(plan->warnings, plan->n_warnings));
    if (explain) {
        bad |= mb_json_put(root, "terms", terms_of(plan->terms, plan->n_terms));
        bad |= mb_json_put(root, "prefill_terms", terms_of(plan->prefill_terms, plan->n_prefill_terms));
    }
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}
