/* SPDX-License-Identifier: MIT */
/* A bench as JSON text; docs/json.md, "bench", lists the keys. */
#include "base/base.h"

/* Null stands for what is not known. */
static json_t *rate(double value)
{
    return value > 0 ? mb_json_number(value) : json_null();
}

static json_t *run_of(const struct mb_bench_row *row)
{
    json_t *object = json_object(), *speed = json_object(), *bound = json_object();
    mb_json_put(speed, "median", rate(row->tokens_per_s));
    mb_json_put(speed, "min", rate(row->tokens_per_s_min));
    mb_json_put(speed, "max", rate(row->tokens_per_s_max));
    mb_json_put(bound, "before", rate(row->bound_before_bytes_per_s));
    mb_json_put(bound, "after", rate(row->bound_after_bytes_per_s));
    mb_json_put(object, "phase", mb_json_text(row->phase));
    mb_json_put(object, "depth", mb_json_count(row->depth));
    mb_json_put(object, "tokens", mb_json_count(row->n_tokens));
    mb_json_put(object, "blocks", mb_json_count(row->n_blocks));
    mb_json_put(object, "discarded", mb_json_count(row->n_discarded));
    mb_json_put(object, "unsteady", json_boolean(row->unsteady));
    mb_json_put(object, "cpu_share", rate(row->cpu_share));
    mb_json_put(object, "tokens_per_s", speed);
    mb_json_put(object, "bytes_per_token", rate(row->bytes_per_token));
    mb_json_put(object, "bytes_per_s", rate(row->bytes_per_s));
    mb_json_put(object, "bound_bytes_per_s", bound);
    mb_json_put(object, "fraction_of_bound", rate(row->fraction_of_bound));
    mb_json_put(object, "predicted_tokens_per_s", rate(row->predicted.tokens_per_s));
    mb_json_put(object, "predicted_low", rate(row->predicted.low));
    mb_json_put(object, "predicted_high", rate(row->predicted.high));
    mb_json_put(object, "holds", row->predicted.tokens_per_s > 0 ? json_boolean(row->holds) : json_null());
    return object;
}

static json_t *op_of(const struct mb_bench_op *op)
{
    json_t *object = json_object();
    mb_json_put(object, "phase", mb_json_text(op->phase));
    mb_json_put(object, "depth", mb_json_count(op->depth));
    mb_json_put(object, "op", mb_json_text(op->op));
    mb_json_put(object, "calls", mb_json_count(op->n_calls));
    mb_json_put(object, "bytes", mb_json_count(op->bytes));
    mb_json_put(object, "seconds", mb_json_number(op->seconds));
    mb_json_put(object, "bytes_per_s", rate(op->bytes_per_s));
    mb_json_put(object, "fraction_of_bound", rate(op->fraction_of_bound));
    mb_json_put(object, "share", mb_json_number(op->share));
    return object;
}

int mb_bench_json(const struct mb_bench *bench, char **out, struct mb_err *err)
{
    json_t *root = json_object(), *runs = json_array(), *ops = json_array();
    for (unsigned i = 0; i < bench->n_rows; i++)
        json_array_append_new(runs, run_of(&bench->rows[i]));
    for (unsigned i = 0; i < bench->n_ops; i++)
        json_array_append_new(ops, op_of(&bench->ops[i]));
    int bad = mb_json_put(root, "model", mb_json_text(bench->model));
    bad |= mb_json_put(root, "quant", mb_json_text(bench->quant));
    bad |= mb_json_put(root, "synthetic", json_boolean(bench->synthetic));
    bad |= mb_json_put(root, "machine", mb_json_text(bench->machine));
    bad |= mb_json_put(root, "threads", mb_json_count(bench->n_threads));
    bad |= mb_json_put(root, "bound_to_cpus", json_boolean(bench->is_bound));
    bad |= mb_json_put(root, "simd", mb_json_text(bench->simd));
    bad |= mb_json_put(root, "weights_bytes", mb_json_count(bench->weights_bytes));
    bad |= mb_json_put(root, "cache_bytes", mb_json_count(bench->cache_bytes));
    bad |= mb_json_put(root, "buffer_bytes", mb_json_count(bench->buffer_bytes));
    bad |= mb_json_put(root, "probe", mb_json_text(bench->probe_is_weights ? "weights" : "buffer"));
    bad |= mb_json_put(root, "probe_bytes", mb_json_count(bench->probe_bytes));
    bad |= mb_json_put(root, "bandwidth", mb_json_figure(&bench->bandwidth, "bytes_per_s"));
    bad |= mb_json_put(root, "cancelled", json_boolean(bench->cancelled));
    bad |= mb_json_put(root, "runs", runs);
    bad |= mb_json_put(root, "ops", ops);
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}
