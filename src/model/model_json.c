/* SPDX-License-Identifier: MIT */
/* The model as JSON: what it is, what a pass over it reads, what its cache takes. The keys are in docs/json.md. */
#include "model/tape.h"

enum { MAX_DEPTHS = 10 };

static const char *layer_kind(const struct mb_layer *layer)
{
    if (layer->nextn)
        return "nextn";
    if (layer->parallel)
        return "attention+recurrent";
    switch (layer->mixer) {
    case MB_MIX_ATTENTION:
        if (layer->compress_ratio)
            return "compressed";
        return layer->chunked ? "chunked" : layer->window ? "sliding" : "full";
    case MB_MIX_MLA: return "mla";
    case MB_MIX_GDN: return "gated_delta_net";
    case MB_MIX_MAMBA2: return "mamba2";
    case MB_MIX_KDA: return "kda";
    case MB_MIX_CONV: return "short_conv";
    case MB_MIX_OTHER_STATE: return "recurrent";
    default: return "ffn";
    }
}

static json_t *layers_json(const struct mb_model *model, const struct mb_tape *tape, const struct mb_kv_types *types)
{
    json_t *list = json_array();
    uint32_t at = 0;
    for (uint32_t i = 0; list && i < model->n_layers_all; i++) {
        const struct mb_layer *layer = &model->layers[i];
        uint64_t read = 0, resident = 0;
        for (uint32_t j = 0; j < layer->n_tensors; j++)
            resident += model->tensors[model->by_layer[layer->first_tensor + j]].bytes;
        while (at < tape->n_ops && tape->ops[at].layer < (int32_t)i)
            at++;
        for (; at < tape->n_ops && tape->ops[at].layer == (int32_t)i; at++)
            read += tape->ops[at].weight_bytes;
        json_t *object = json_object();
        int bad = mb_json_put(object, "layer", mb_json_count(i));
        bad |= mb_json_put(object, "kind", mb_json_text(layer_kind(layer)));
        bad |= mb_json_put(object, "experts", layer->moe ? json_true() : json_false());
        bad |= mb_json_put(object, "weights_bytes", mb_json_count(read));
        bad |= mb_json_put(object, "resident_bytes", mb_json_count(resident));
        bad |= mb_json_put(object, "kv_bytes_per_token", mb_json_number(mb_kv_layer_bytes_per_token(model, i, types)));
        bad |= mb_json_put(object, "window", layer->window ? mb_json_count(layer->window) : json_null());
        if (bad || json_array_append_new(list, object)) {
            if (bad)
                json_decref(object);
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* Usual depths, the one asked for and the model's most, ascending. */
static unsigned depths(const struct mb_model *model, uint64_t asked, uint64_t out[MAX_DEPTHS])
{
    static const uint64_t usual[] = {0, 4096, 16384, 32768, 65536, 131072, 262144};
    uint64_t most = model->hp.context_max;
    unsigned n = 0;
    for (unsigned i = 0; i < MB_COUNT(usual) + 2; i++) {
        uint64_t depth = i < MB_COUNT(usual) ? usual[i] : i == MB_COUNT(usual) ? asked : most;
        unsigned at = 0;
        if ((most && depth > most) || depth > MB_DEPTH_MAX)
            continue;
        while (at < n && out[at] < depth)
            at++;
        if (at < n && out[at] == depth)
            continue;
        for (unsigned k = n++; k > at; k--)
            out[k] = out[k - 1];
        out[at] = depth;
    }
    return n;
}

static int put_at(json_t *object, uint64_t depth, json_t *value)
{
    char key[24];
    snprintf(key, sizeof key, "%llu", (unsigned long long)depth);
    return mb_json_put(object, key, value);
}

/* The cache read at some depths. */
static json_t *kv_at_json(const struct mb_model *model, const struct mb_kv_types *types, uint64_t asked)
{
    uint64_t at[MAX_DEPTHS];
    unsigned n = depths(model, asked, at);
    json_t *object = json_object();
    int bad = !object;
    for (unsigned i = 0; i < n; i++) {
        uint64_t bytes = 0;
        for (uint32_t j = 0; j < model->hp.n_layers; j++) {
            struct mb_kv_use use;
            mb_kv_use(model, j, 1, at[i], types, &use);
            bytes += use.read_bytes + use.index_read_bytes;
        }
        bad |= put_at(object, at[i], mb_json_count(bytes));
    }
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* The law at the same depths: bandwidth / bytes that one token reads. */
static json_t *law_json(const struct mb_model *model, const struct mb_inspect_opts *opts, double bytes_per_s)
{
    uint64_t at[MAX_DEPTHS];
    unsigned n = depths(model, opts->n_ctx, at);
    json_t *object = json_object(), *speeds = json_object();
    int bad = !object || !speeds;
    for (unsigned i = 0; i < n; i++) {
        struct mb_traffic traffic;
        bad |= mb_model_traffic(model, 1, at[i], &opts->kv, &traffic, NULL) != MB_OK;
        double bytes = (double)traffic.weights_bytes + (double)traffic.kv_read_bytes + (double)traffic.state_read_bytes;
        bad |= put_at(speeds, at[i], bytes > 0 ? mb_json_number(bytes_per_s / bytes) : json_null());
    }
    bad |= mb_json_put(object, "bytes_per_s", mb_json_number(bytes_per_s));
    bad |= mb_json_put(object, "tokens_per_s_at", speeds);
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *laws_json(const struct mb_model *model, const struct mb_inspect_opts *opts)
{
    const double rates[] = {100e9, 273e9, 1000e9, opts->bandwidth_bytes_per_s};
    json_t *list = json_array();
    int bad = !list;
    for (unsigned i = 0; i < MB_COUNT(rates); i++)
        if (rates[i] > 0)
            bad |= json_array_append_new(list, law_json(model, opts, rates[i]));
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *tensors_json(const struct mb_model *model)
{
    json_t *list = json_array();
    int bad = !list;
    struct mb_tensor_info tensor;
    for (uint32_t i = 0; mb_model_tensor(model, i, &tensor) == MB_OK; i++) {
        json_t *object = json_object(), *shape = json_array();
        for (unsigned d = 0; d < tensor.n_dims; d++)
            bad |= json_array_append_new(shape, mb_json_count(tensor.ne[d]));
        bad |= mb_json_put(object, "name", mb_json_text(tensor.name));
        bad |= mb_json_put(object, "type", mb_json_text(tensor.type));
        bad |= mb_json_put(object, "shape", shape);
        bad |= mb_json_put(object, "bytes", mb_json_count(tensor.bytes));
        bad |= mb_json_put(object, "read_bytes", mb_json_count(tensor.read_bytes));
        bad |= mb_json_put(object, "layer", tensor.layer >= 0 ? json_integer(tensor.layer) : json_null());
        bad |= mb_json_put(object, "role", mb_json_text(mb_role_name(tensor.role)));
        bad |= json_array_append_new(list, object);
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *types_json(const struct mb_model *model)
{
    uint64_t bytes[MB_TYPE_END] = {0};
    json_t *object = json_object();
    int bad = !object;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        if (!model->tensors[i].type_name)
            bytes[model->tensors[i].type] += model->tensors[i].bytes;
    }
    for (uint32_t i = 0; i < MB_TYPE_END; i++) {
        if (bytes[i])
            bad |= mb_json_put(object, mb_type_name(i), mb_json_count(bytes[i]));
    }
    for (uint32_t i = 0; object && i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        if (!tensor->type_name)
            continue;
        uint64_t so_far = (uint64_t)json_integer_value(json_object_get(object, tensor->type_name));
        bad |= mb_json_put(object, tensor->type_name, mb_json_count(so_far + tensor->bytes));
    }
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *traffic_json(const struct mb_model *model, const struct mb_traffic *traffic, const struct mb_kv_types *types,
                            uint64_t asked_depth)
{
    json_t *object = json_object(), *roles = json_object();
    int bad = !object || !roles;
    for (unsigned i = 0; i < MB_N_ROLES; i++) {
        if (traffic->by_role[i])
            bad |= mb_json_put(roles, mb_role_name((enum mb_role)i), mb_json_count(traffic->by_role[i]));
    }
    bad |= mb_json_put(object, "weights_bytes", mb_json_count(traffic->weights_bytes));
    bad |= mb_json_put(object, "by_role", roles);
    bad |= mb_json_put(object, "state_bytes", mb_json_count(traffic->state_read_bytes + traffic->state_write_bytes));
    bad |= mb_json_put(object, "state_read_bytes", mb_json_count(traffic->state_read_bytes));
    bad |= mb_json_put(object, "state_write_bytes", mb_json_count(traffic->state_write_bytes));
    bad |= mb_json_put(object, "kv_read_bytes", mb_json_count(traffic->kv_read_bytes));
    bad |= mb_json_put(object, "kv_write_bytes", mb_json_count(traffic->kv_write_bytes));
    bad |= mb_json_put(object, "kv_bytes_at", kv_at_json(model, types, asked_depth));
    bad |= mb_json_put(object, "flops", mb_json_number(traffic->flops));
    if (bad) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *warnings_json(const struct mb_model *model)
{
    json_t *list = json_array();
    for (unsigned i = 0; list && i < model->n_warnings; i++) {
        if (json_array_append_new(list, mb_json_text(model->warnings[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int mb_model_json(const struct mb_model *model, const struct mb_inspect_opts *asked, char **out, struct mb_err *err)
{
    static const struct mb_inspect_opts defaults;
    const struct mb_inspect_opts *inspect = asked ? asked : &defaults;
    const struct mb_kv_opts *opts = &inspect->kv;
    uint32_t n_tokens = inspect->n_tokens ? inspect->n_tokens : 1;
    struct mb_kv_types types;
    struct mb_model_info info;
    struct mb_kv_size kv;
    struct mb_tape *tape;
    int code = mb_kv_types(opts, &types, err);
    if (code || (code = mb_model_kv_size(model, 0, opts, &kv, err)) ||
        (code = mb_tape_build(model, n_tokens, inspect->n_ctx, opts, &tape, err)))
        return code;
    mb_model_get_info(model, &info);
    json_t *root = json_object();
    int bad = !root;
    bad |= mb_json_put(root, "name", mb_json_text(info.name));
    bad |= mb_json_put(root, "arch", mb_json_text(info.arch));
    bad |= mb_json_put(root, "described", info.described ? json_true() : json_false());
    bad |= mb_json_put(root, "quant", mb_json_text(info.quant));
    bad |= mb_json_put(root, "path", mb_json_text(info.path));
    bad |= mb_json_put(root, "hf", mb_json_text(info.hf));
    bad |= mb_json_put(root, "license", mb_json_text(info.license));
    bad |= mb_json_put(root, "released", mb_json_text(info.released));
    bad |= mb_json_put(root, "params", mb_json_count(info.params));
    bad |= mb_json_put(root, "active_params", mb_json_count(info.active_params));
    bad |= mb_json_put(root, "n_layers", mb_json_count(info.n_layers));
    bad |= mb_json_put(root, "n_nextn", mb_json_count(info.n_nextn));
    bad |= mb_json_put(root, "n_embd", mb_json_count(info.n_embd));
    bad |= mb_json_put(root, "n_vocab", mb_json_count(info.n_vocab));
    bad |= mb_json_put(root, "n_head", mb_json_count(info.n_head));
    bad |= mb_json_put(root, "n_head_kv", mb_json_count(info.n_head_kv));
    bad |= mb_json_put(root, "n_expert", mb_json_count(info.n_expert));
    bad |= mb_json_put(root, "n_expert_used", mb_json_count(info.n_expert_used));
    bad |= mb_json_put(root, "context_max", info.context_max ? mb_json_count(info.context_max) : json_null());
    bad |= mb_json_put(root, "n_tensors", mb_json_count(info.n_tensors));
    bad |= mb_json_put(root, "file_bytes", mb_json_count(info.file_bytes));
    bad |= mb_json_put(root, "resident_bytes", mb_json_count(info.resident_bytes));
    bad |= mb_json_put(root, "unread_bytes", mb_json_count(info.unread_bytes));
    bad |= mb_json_put(root, "size_uncertainty", mb_json_number(info.size_uncertainty));
    bad |= mb_json_put(root, "kv_type_k", mb_json_text(mb_type_name(types.k)));
    bad |= mb_json_put(root, "kv_type_v", mb_json_text(mb_type_name(types.v)));
    bad |= mb_json_put(root, "kv_bytes_per_token", mb_json_count(kv.bytes_per_token));
    bad |= mb_json_put(root, "window_bytes_per_cell", mb_json_count(kv.window_bytes_per_cell));
    bad |= mb_json_put(root, "window", kv.window ? mb_json_count(kv.window) : json_null());
    bad |= mb_json_put(root, "state_bytes", mb_json_count(kv.state_bytes));
    bad |= mb_json_put(root, "pass_tokens", mb_json_count(n_tokens));
    bad |= mb_json_put(root, "pass_depth", mb_json_count(inspect->n_ctx));
    bad |= mb_json_put(root, "traffic", traffic_json(model, &tape->traffic, &types, inspect->n_ctx));
    bad |= mb_json_put(root, "types", types_json(model));
    bad |= mb_json_put(root, "layers", layers_json(model, tape, &types));
    bad |= mb_json_put(root, "law", laws_json(model, inspect));
    if (inspect->tensors)
        bad |= mb_json_put(root, "tensors", tensors_json(model));
    bad |= mb_json_put(root, "warnings", warnings_json(model));
    mb_tape_free(tape);
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}
