/* SPDX-License-Identifier: MIT */
/* The inverse problem: the law solved for the bytes that one token reads, for the speed, for the bandwidth, or for the
 * efficiency that three known figures imply. Pure sums over opts and, where there is a model, its traffic. Owns the
 * efficiencies that published runs reach; leaves words for people to its callers. */
#include "base/base.h"
#include "model/model.h"

#include <math.h>

/* Efficiencies (speed * bytes / specified bandwidth) at the 90th, 50th and 10th percentile of the unflagged rows of
 * data/measured.csv that ran on one GPU with at most 1100 tokens in the cache and a file of at least 4 GB: 126 dense
 * rows, 50 of MoE models (their bytes: the file's size times the share that their active shard has here).
 * docs/shard.md. */
static const double dense_efficiency[3] = {0.86, 0.73, 0.44};
static const double moe_efficiency[3] = {0.70, 0.42, 0.23};

/* Figures that people type have two or three digits: what exceeds the bound by no more than this may be rounding. */
#define ROUNDING 0.02

const char *mb_shard_found_name(enum mb_shard_found found)
{
    static const char *const names[] = {"size", "speed", "bandwidth", "efficiency"};
    return (unsigned)found < MB_COUNT(names) ? names[found] : "unknown";
}

const char *mb_shard_verdict_name(enum mb_shard_verdict verdict)
{
    static const char *const names[] = {"untold", "below", "usual", "near", "over"};
    return (unsigned)verdict < MB_COUNT(names) ? names[verdict] : "untold";
}

static int check(const struct mb_shard_opts *opts, struct mb_err *err)
{
    const struct {
        const char *name;
        double value;
    } given[] = {{"bandwidth", opts->bandwidth_bytes_per_s},
                 {"speed", opts->tokens_per_s},
                 {"size", opts->size_bytes},
                 {"efficiency", opts->efficiency}};
    for (unsigned i = 0; i < MB_COUNT(given); i++)
        if (!(given[i].value >= 0) || given[i].value > 1e30)
            return mb_fail(err, MB_EINVAL, "%s: %g is no possible figure; give one over 0", given[i].name,
                           given[i].value);
    if (opts->efficiency > 1)
        return mb_fail(err, MB_EINVAL,
                       "efficiency: %g is more than the memory can deliver; give a share of 1, such as 0.7",
                       opts->efficiency);
    int bandwidth = opts->bandwidth_bytes_per_s > 0, speed = opts->tokens_per_s > 0, size = opts->size_bytes > 0;
    if (bandwidth + speed + (size || opts->model) < 2)
        return mb_fail(err, MB_EINVAL,
                       "shard: two of bandwidth, speed and size (or a model) are needed; give one more");
    if (bandwidth && speed && size && opts->efficiency > 0)
        return mb_fail(err, MB_EINVAL,
                       "efficiency: bandwidth, speed and size already determine it; leave one of the four out");
    return MB_OK;
}

static int read_model(const struct mb_shard_opts *opts, struct mb_shard *shard, struct mb_err *err)
{
    const struct mb_model *model = opts->model;
    struct mb_traffic traffic;
    if (model->hp.context_max && opts->n_ctx >= model->hp.context_max)
        return mb_fail(err, MB_ERANGE, "%s: %llu tokens in the cache leave no room; it takes %u", model->name,
                       (unsigned long long)opts->n_ctx, model->hp.context_max);
    int code = mb_model_traffic(model, 1, opts->n_ctx, &opts->kv, &traffic, err);
    if (code != MB_OK)
        return code;
    shard->model = model->name ? model->name : "(unnamed)";
    shard->resident_bytes = (double)model->resident_bytes;
    shard->active_bytes = (double)traffic.weights_bytes;
    shard->cache_bytes = (double)traffic.kv_read_bytes + (double)traffic.state_read_bytes;
    shard->n_expert = model->hp.n_expert;
    shard->n_expert_used = model->hp.n_expert_used;
    for (uint32_t i = 0; i < model->n_tensors && model->hp.n_expert; i++)
        if (model->tensors[i].rule == MB_READ_EXPERTS)
            shard->expert_bytes += (double)model->tensors[i].bytes / model->hp.n_expert;
    return MB_OK;
}

/* What follows for the model from the bytes that are read per token. */
static void apply_to_model(struct mb_shard *shard)
{
    double always = shard->active_bytes - shard->n_expert_used * shard->expert_bytes;
    double weights = shard->size_bytes - shard->cache_bytes;
    shard->weights_bytes = weights > 0 ? weights : 0;
    shard->share = shard->resident_bytes > 0 ? shard->weights_bytes / shard->resident_bytes : 0;
    if (shard->expert_bytes > 0)
        shard->experts = (weights - always) / shard->expert_bytes;
}

static enum mb_shard_verdict judge(double efficiency, const double *typical)
{
    return efficiency <= 0             ? MB_SHARD_UNTOLD
           : efficiency > 1 + ROUNDING ? MB_SHARD_OVER
           : efficiency > typical[0]   ? MB_SHARD_NEAR
           : efficiency >= typical[2]  ? MB_SHARD_USUAL
                                       : MB_SHARD_BELOW;
}

/* The figure that is found, at this efficiency. */
static double solve(const struct mb_shard *shard, double efficiency)
{
    switch (shard->found) {
    case MB_SHARD_SIZE:
        return shard->bandwidth_bytes_per_s * efficiency / shard->tokens_per_s;
    case MB_SHARD_SPEED:
        return shard->bandwidth_bytes_per_s * efficiency / shard->size_bytes;
    case MB_SHARD_BANDWIDTH:
        return shard->size_bytes * shard->tokens_per_s / efficiency;
    default:
        return shard->size_bytes * shard->tokens_per_s / shard->bandwidth_bytes_per_s;
    }
}

int mb_shard_infer(const struct mb_shard_opts *opts, struct mb_shard *out, struct mb_err *err)
{
    int code = check(opts, err);
    struct mb_shard shard = {.bandwidth_bytes_per_s = opts->bandwidth_bytes_per_s,
                             .tokens_per_s = opts->tokens_per_s,
                             .size_bytes = opts->size_bytes,
                             .efficiency = opts->efficiency > 0 ? opts->efficiency : 1};
    if (code == MB_OK && opts->model)
        code = read_model(opts, &shard, err);
    if (code != MB_OK)
        return code;
    double model_bytes = shard.active_bytes + shard.cache_bytes;
    /* With bandwidth and speed it is the size that is asked for; a model is then what it is compared with. */
    if (!(shard.size_bytes > 0) && !(shard.bandwidth_bytes_per_s > 0 && shard.tokens_per_s > 0))
        shard.size_bytes = model_bytes;
    if (!(shard.size_bytes > 0) && !(shard.bandwidth_bytes_per_s > 0 && shard.tokens_per_s > 0))
        return mb_fail(err, MB_EINVAL, "%s: a token of it reads nothing that is known; give a size",
                       shard.model ? shard.model : "shard");
    const double *typical = shard.expert_bytes > 0 ? moe_efficiency : dense_efficiency;
    shard.found = !(shard.size_bytes > 0)              ? MB_SHARD_SIZE
                  : !(shard.tokens_per_s > 0)          ? MB_SHARD_SPEED
                  : !(shard.bandwidth_bytes_per_s > 0) ? MB_SHARD_BANDWIDTH
                                                       : MB_SHARD_EFFICIENCY;
    double known_bytes = shard.size_bytes > 0 ? shard.size_bytes : model_bytes;
    if (shard.bandwidth_bytes_per_s > 0 && shard.tokens_per_s > 0)
        shard.reads_efficiency = known_bytes * shard.tokens_per_s / shard.bandwidth_bytes_per_s;
    shard.verdict = judge(shard.reads_efficiency, typical);
    shard.assumed = shard.found != MB_SHARD_EFFICIENCY && !(opts->efficiency > 0);
    for (unsigned i = 0; shard.assumed && i < MB_COUNT(shard.typical); i++)
        shard.typical[shard.n_typical++] = (struct mb_shard_typical){typical[i], solve(&shard, typical[i])};
    double value = solve(&shard, shard.efficiency);
    /* Extremes of both inputs may leave what a double or a person can use. */
    if (!isfinite(value) || !(value > 0))
        return mb_fail(err, MB_EINVAL, "shard: these figures give %g; check their units", value);
    *(shard.found == MB_SHARD_SIZE        ? &shard.size_bytes
      : shard.found == MB_SHARD_SPEED     ? &shard.tokens_per_s
      : shard.found == MB_SHARD_BANDWIDTH ? &shard.bandwidth_bytes_per_s
                                          : &shard.efficiency) = value;
    if (shard.model)
        apply_to_model(&shard);
    *out = shard;
    return MB_OK;
}

static json_t *known_number(double value)
{
    return mb_json_number(value > 0 ? value : (double)NAN);
}

static json_t *model_json(const struct mb_shard *shard)
{
    json_t *object = json_object();
    int moe = shard->expert_bytes > 0;
    int bad = mb_json_put(object, "name", mb_json_text(shard->model));
    bad += mb_json_put(object, "resident_bytes", mb_json_number(shard->resident_bytes));
    bad += mb_json_put(object, "active_bytes", mb_json_number(shard->active_bytes));
    bad += mb_json_put(object, "cache_bytes", mb_json_number(shard->cache_bytes));
    bad += mb_json_put(object, "weights_bytes", mb_json_number(shard->weights_bytes));
    bad += mb_json_put(object, "share", mb_json_number(shard->share));
    bad += mb_json_put(object, "n_expert", mb_json_count(shard->n_expert));
    bad += mb_json_put(object, "n_expert_used", mb_json_count(shard->n_expert_used));
    bad += mb_json_put(object, "expert_bytes", known_number(shard->expert_bytes));
    bad += mb_json_put(object, "experts_implied", moe ? mb_json_number(shard->experts) : json_null());
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

int mb_shard_json(const struct mb_shard *shard, char **out, struct mb_err *err)
{
    json_t *root = json_object(), *typical = json_array();
    int bad = !typical;
    for (unsigned i = 0; i < shard->n_typical && !bad; i++) {
        json_t *row = json_object();
        bad = mb_json_put(row, "efficiency", mb_json_number(shard->typical[i].efficiency));
        bad += mb_json_put(row, "value", mb_json_number(shard->typical[i].value));
        bad += json_array_append_new(typical, row);
    }
    bad += mb_json_put(root, "found", mb_json_text(mb_shard_found_name(shard->found)));
    bad += mb_json_put(root, "bandwidth_bytes_per_s", mb_json_number(shard->bandwidth_bytes_per_s));
    bad += mb_json_put(root, "tokens_per_s", mb_json_number(shard->tokens_per_s));
    bad += mb_json_put(root, "size_bytes", mb_json_number(shard->size_bytes));
    bad += mb_json_put(root, "efficiency", mb_json_number(shard->efficiency));
    bad += mb_json_put(root, "efficiency_assumed", json_boolean(shard->assumed));
    bad += mb_json_put(root, "typical", typical);
    bad += mb_json_put(root, "verdict", mb_json_text(mb_shard_verdict_name(shard->verdict)));
    bad += mb_json_put(root, "reads_efficiency", known_number(shard->reads_efficiency));
    bad += mb_json_put(root, "model", shard->model ? model_json(shard) : json_null());
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}
