/* SPDX-License-Identifier: MIT */
/* A plan over several machines as JSON, and as commands for each of them: llama.cpp's RPC servers, vLLM with Ray, exo.
 */
#include "plan/emit.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- JSON ---- */

static json_t *speed_json(const struct mb_speed *speed)
{
    json_t *object = json_object();
    int bad = mb_json_put(object, "tokens_per_s", mb_json_number(speed->tokens_per_s));
    bad += mb_json_put(object, "low", mb_json_number(speed->low));
    bad += mb_json_put(object, "high", mb_json_number(speed->high));
    bad += mb_json_put(object, "bound_tokens_per_s",
                       speed->bound_tokens_per_s > 0 ? mb_json_number(speed->bound_tokens_per_s) : json_null());
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *node_json(const struct mb_cluster_node *node)
{
    json_t *object = json_object();
    int bad = mb_json_put(object, "machine", mb_json_text(node->machine));
    bad += mb_json_put(object, "main", json_boolean(node->is_main));
    bad += mb_json_put(object, "first_layer", mb_json_count(node->first_layer));
    bad += mb_json_put(object, "n_layers", mb_json_count(node->n_layers));
    bad += mb_json_put(object, "weights_bytes", mb_json_count(node->weights_bytes));
    bad += mb_json_put(object, "kv_bytes", mb_json_count(node->kv_bytes));
    bad += mb_json_put(object, "buffers_bytes", mb_json_count(node->buffers_bytes));
    bad += mb_json_put(object, "room_bytes", mb_json_number(node->room_bytes));
    bad += mb_json_put(object, "seconds_per_token", mb_json_number(node->seconds));
    bad += mb_json_put(object, "seconds_per_token_at_ctx", mb_json_number(node->seconds_at_ctx));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *link_json(const struct mb_cluster *cluster)
{
    json_t *object = json_object();
    int bad = mb_json_put(object, "name", mb_json_text(cluster->link));
    bad += mb_json_put(object, "bandwidth", mb_json_figure(&cluster->link_bytes_per_s, "bytes_per_s"));
    bad += mb_json_put(object, "bytes_per_s", mb_json_number(cluster->link_bytes_per_s.value));
    bad += mb_json_put(object, "latency_s", mb_json_number(cluster->link_latency_s.value));
    bad += mb_json_put(object, "latency_detail", mb_json_text(cluster->link_latency_s.detail));
    bad += mb_json_put(object, "hops", mb_json_count(cluster->n_hops));
    bad += mb_json_put(object, "hop_bytes", mb_json_number(cluster->hop_bytes));
    bad += mb_json_put(object, "seconds_per_token", mb_json_number(cluster->link_seconds));
    bad += mb_json_put(object, "share", mb_json_number(cluster->link_share));
    bad += mb_json_put(object, "prefill_share", mb_json_number(cluster->prefill_link_share));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *texts_json(const char *const *texts, unsigned n)
{
    json_t *array = json_array();
    for (unsigned i = 0; array && i < n; i++) {
        if (json_array_append_new(array, mb_json_text(texts[i]))) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

int mb_cluster_json(const struct mb_cluster *cluster, char **out, struct mb_err *err)
{
    static const char *const prompts[3] = {"1024", "8192", "32768"};
    json_t *root = json_object(), *nodes = json_array(), *ttft = json_object(), *alone = json_null();
    int bad = !nodes;
    for (unsigned i = 0; i < cluster->n_nodes && !bad; i++)
        bad += json_array_append_new(nodes, node_json(&cluster->nodes[i]));
    for (unsigned i = 0; i < 3; i++)
        bad += mb_json_put(ttft, prompts[i], cluster->ttft_s[i] > 0 ? mb_json_number(cluster->ttft_s[i]) : json_null());
    if (cluster->alone) {
        alone = json_object();
        bad += mb_json_put(alone, "machine", mb_json_text(cluster->alone));
        bad += mb_json_put(alone, "tokens_per_s", mb_json_number(cluster->alone_tokens_per_s));
    }
    bad += mb_json_put(root, "model", mb_json_text(cluster->model));
    bad += mb_json_put(root, "quant", mb_json_text(cluster->quant));
    bad += mb_json_put(root, "engine", mb_json_text(cluster->engine));
    bad += mb_json_put(root, "fits", json_boolean(cluster->fits));
    bad += mb_json_put(root, "ctx", mb_json_count(cluster->n_ctx));
    bad += mb_json_put(root, "model_bytes", mb_json_count(cluster->model_bytes));
    bad += mb_json_put(root, "nodes", nodes);
    bad += mb_json_put(root, "link", link_json(cluster));
    bad += mb_json_put(root, "decode", cluster->fits ? speed_json(&cluster->decode) : json_null());
    bad += mb_json_put(root, "decode_at_ctx", cluster->fits ? speed_json(&cluster->decode_at_ctx) : json_null());
    bad += mb_json_put(root, "prefill", cluster->fits ? speed_json(&cluster->prefill) : json_null());
    bad += mb_json_put(root, "ttft_s", ttft);
    bad += mb_json_put(root, "alone", alone);
    bad += mb_json_put(root, "needs", texts_json(cluster->needs, cluster->n_needs));
    bad += mb_json_put(root, "notes", texts_json(cluster->notes, cluster->n_notes));
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}

/* ---- commands ---- */

struct writer {
    const struct mb_cluster *cluster;
    struct mb_emit emit; /* words and arena; no plan */
    FILE *out;
};

static void head(struct writer *w)
{
    const struct mb_cluster *cluster = w->cluster;
    char size[32];
    mb_emit_comment(w->out, " ",
                    mb_emit_text(&w->emit, "%s%s%s over %u machines: %s of weights, context %llu", cluster->model,
                                 cluster->quant ? ", " : "", cluster->quant ? cluster->quant : "", cluster->n_used,
                                 mb_format_bytes((double)cluster->model_bytes, size, sizeof size),
                                 (unsigned long long)cluster->n_ctx));
    mb_emit_comment(w->out, " ",
                    mb_emit_text(&w->emit,
                                 "predicted for %s over %s: %.3g tokens/s (%.3g to %.3g), prompt %.3g tokens/s; the "
                                 "link takes %.2g %% of a token's time",
                                 cluster->engine, cluster->link, cluster->decode.tokens_per_s, cluster->decode.low,
                                 cluster->decode.high, cluster->prefill.tokens_per_s, 100 * cluster->link_share));
}

/* "layers 0 to 46, 54.1 GiB with its cache" */
static const char *share_of(struct writer *w, const struct mb_cluster_node *node)
{
    char size[32];
    mb_format_bytes((double)(node->weights_bytes + node->kv_bytes), size, sizeof size);
    if (!node->n_layers)
        return mb_emit_text(&w->emit, "no layer; embedding and output, %s", size);
    return mb_emit_text(&w->emit, "layers %u to %u%s, %s with their cache", node->first_layer,
                        node->first_layer + node->n_layers - 1, node->is_main ? ", embedding and output" : "", size);
}

static const char *lower(struct writer *w, const char *text)
{
    char *copy = mb_arena_text(&w->emit.arena, text);
    for (char *p = copy; p && *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

/* Rules for what the main machine keeps in RAM; empty: nothing. */
static const char *rules_of(struct writer *w)
{
    const struct mb_cluster *cluster = w->cluster;
    const uint8_t *wanted[MB_EMIT_N_PIECES] = {cluster->ffn_in_ram, cluster->experts_in_ram};
    const char *rules = "";
    uint8_t *nextn = mb_arena_alloc(&w->emit.arena, w->emit.model->n_layers_all + 1);
    w->emit.n_layers = cluster->n_layers;
    for (unsigned piece = 0; piece < MB_EMIT_N_PIECES && rules; piece++) {
        if (!memchr(wanted[piece], 1, cluster->n_layers))
            continue;
        const char *pattern = mb_emit_pattern(&w->emit, wanted[piece], (enum mb_emit_piece)piece);
        rules = pattern ? mb_emit_text(&w->emit, "%s%s%s=CPU", rules, *rules ? "," : "", pattern) : NULL;
    }
    for (uint32_t i = w->emit.model->hp.n_layers; nextn && i < w->emit.model->n_layers_all; i++)
        nextn[i] = 1;
    if (rules && nextn && w->emit.model->n_layers_all > w->emit.model->hp.n_layers) {
        const char *numbers = mb_emit_numbers(&w->emit, nextn, w->emit.model->n_layers_all);
        rules = numbers ? mb_emit_text(&w->emit, "%s%s^blk\\.(%s)\\.=CPU", rules, *rules ? "," : "", numbers) : NULL;
    }
    return rules;
}

static int write_llama(struct writer *w, struct mb_err *err)
{
    const struct mb_cluster *cluster = w->cluster;
    const struct mb_cluster_node *last = &cluster->nodes[cluster->n_nodes - 1];
    const char *split = "", *servers = "";
    unsigned number = 2;
    /* Blocks for next-token prediction come after the layers and count with them. */
    uint32_t n_layers = 0, after = w->emit.model->n_layers_all - w->emit.model->hp.n_layers;
    const char *backend = strrchr(cluster->engine, ':');
    if (backend && strcmp(backend, ":cpu") == 0)
        return mb_fail(
            err, MB_ENOTSUP,
            "llama.cpp: it has its CPU's layers first, and %s, the main machine, has no GPU for the last ones; name a "
            "machine with a GPU first",
            last->machine);
    head(w);
    mb_emit_comment(w->out, " ", "The RPC server has no password and no encryption: only in a network of your own.");
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct mb_cluster_node *node = &cluster->nodes[i];
        if (!node->n_layers && !node->is_main)
            continue;
        n_layers += node->n_layers;
        /* llama.cpp lists the servers first, in the order of --rpc, then the devices of its own machine. */
        for (unsigned d = 0; d < node->n_devices && split; d++) {
            int tail = node->is_main && d + 1 == node->n_devices;
            split =
                mb_emit_text(&w->emit, "%s%s%u", split, *split ? "," : "", node->on_device[d] + (tail ? after + 1 : 0));
        }
        if (node->is_main)
            continue;
        servers = mb_emit_text(&w->emit, "%s%s$NODE%u:50052", servers, *servers ? "," : "", number);
        fputs("#\n", w->out);
        mb_emit_comment(w->out, " ",
                        mb_emit_text(&w->emit, "On node %u, %s: %s. Older builds call it rpc-server.", number,
                                     node->machine, share_of(w, node)));
        fputs("ggml-rpc-server -H 0.0.0.0 -p 50052 -c\n", w->out);
        number++;
    }
    const char *path = w->emit.info.path ? mb_emit_path(&w->emit, w->emit.info.path)
                                         : mb_emit_text(&w->emit, "%s-%s.gguf", w->emit.info.name,
                                                        w->emit.info.quant ? w->emit.info.quant : "F16");
    if (!w->emit.info.path && path)
        path = mb_emit_path(&w->emit, path);
    const char *rules = rules_of(w);
    if (!path || !split || !servers || !rules)
        return mb_fail_memory(err);
    fputs("#\n", w->out);
    mb_emit_comment(w->out, " ",
                    mb_emit_text(&w->emit,
                                 "On node 1, %s, the main one: %s. -ts: layers of each device, servers first.%s",
                                 last->machine, share_of(w, last), *rules ? " -ot: what stays in its RAM." : ""));
    if (!w->emit.info.path)
        mb_emit_comment(w->out, " ",
                        "No file was named: the model was counted from the catalog. Put the path of yours after -m.");
    number = 2;
    for (unsigned i = 0; i + 1 < cluster->n_nodes; i++) {
        if (!cluster->nodes[i].n_layers)
            continue;
        fprintf(w->out, "NODE%u=node%u   ", number, number);
        mb_emit_comment(w->out, " ", mb_emit_text(&w->emit, "the address of %.40s", cluster->nodes[i].machine));
        number++;
    }
    fprintf(w->out, "llama-server -m %s \\\n    --rpc \"%s\" \\\n    -ngl %u -ts %s -c %llu -fa on", path, servers,
            n_layers + after + 1, split, (unsigned long long)cluster->n_ctx);
    if (*rules)
        fprintf(w->out, " \\\n    -ot %s", mb_emit_quote(&w->emit, rules));
    if (cluster->kv.type_k && strcasecmp(cluster->kv.type_k, "F16") != 0)
        fprintf(w->out, " -ctk %s -ctv %s", lower(w, cluster->kv.type_k), lower(w, cluster->kv.type_v));
    fputc('\n', w->out);
    return MB_OK;
}

static int write_vllm(struct writer *w, struct mb_err *err)
{
    const struct mb_cluster *cluster = w->cluster;
    const char *name = mb_emit_hub_model(&w->emit, "vllm", err);
    const struct mb_cluster_node *last = &cluster->nodes[cluster->n_nodes - 1];
    double used = 0;
    unsigned per_node = last->n_devices;
    if (!name)
        return w->emit.arena.failed ? mb_fail_memory(err) : MB_ENOTSUP;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct mb_cluster_node *node = &cluster->nodes[i];
        if (!node->n_layers)
            continue;
        double share = (double)(node->weights_bytes + node->kv_bytes + node->buffers_bytes) / node->room_bytes;
        used = share > used ? share : used;
        if (node->is_main && (memchr(cluster->ffn_in_ram, 1, cluster->n_layers) ||
                              memchr(cluster->experts_in_ram, 1, cluster->n_layers)))
            return mb_fail(err, MB_ENOTSUP, "vllm: %s would keep parts of layers in RAM; it needs all of them on GPUs",
                           node->machine);
        if (node->n_devices != per_node)
            return mb_fail(err, MB_ENOTSUP, "vllm: its machines need equally many GPUs, and %s has %u, %s %u",
                           last->machine, per_node, node->machine, node->n_devices);
    }
    used = used + 0.02 > 0.95 ? 0.95 : used + 0.02;
    /* Ray's first stage is on the head, the main machine. */
    const char *parts = mb_emit_text(&w->emit, "%u", last->n_layers);
    for (unsigned i = 0; parts && i + 1 < cluster->n_nodes; i++)
        if (cluster->nodes[i].n_layers)
            parts = mb_emit_text(&w->emit, "%s,%u", parts, cluster->nodes[i].n_layers);
    head(w);
    mb_emit_comment(w->out, " ",
                    "Layers one machine after the other, as planned. Tensor parallelism over all GPUs "
                    "(--tensor-parallel-size) is vLLM's other way: each layer on all of them at once, with two "
                    "exchanges per layer; it "
                    "is faster only over links of a few microseconds.");
    fprintf(w->out, "#\n# On node 1, the head:\nray start --head --port=6379\n#\n"
                    "# On each of the others, NODE1 being the address of the head:\nNODE1=node1\nray start "
                    "--address=\"$NODE1:6379\"\n#\n");
    mb_emit_comment(w->out, " ",
                    mb_emit_text(&w->emit, "On node 1, when all have joined (ray status). VLLM_PP_LAYER_PARTITION: "
                                           "layers of each machine, the head first."));
    fprintf(w->out,
            "VLLM_PP_LAYER_PARTITION=%s \\\nvllm serve %s \\\n    --distributed-executor-backend ray "
            "--pipeline-parallel-size %u \\\n    ",
            parts ? parts : "", name, cluster->n_used);
    if (per_node > 1)
        fprintf(w->out, "--tensor-parallel-size %u ", per_node);
    fprintf(w->out, "--max-model-len %llu --gpu-memory-utilization %.2f\n", (unsigned long long)cluster->n_ctx, used);
    return MB_OK;
}

static int write_exo(struct writer *w, struct mb_err *err)
{
    const struct mb_cluster *cluster = w->cluster;
    if (w->emit.info.path && !w->emit.model->is_directory)
        return mb_fail(err, MB_ENOTSUP,
                       "exo: it loads models of the hub by their name, not GGUF files; use --emit llama.cpp");
    head(w);
    mb_emit_comment(
        w->out, " ",
        "exo finds the other machines and divides the layers by their memory itself; this plan's division:");
    for (unsigned i = 0; i < cluster->n_nodes; i++)
        mb_emit_comment(w->out, "   ",
                        mb_emit_text(&w->emit, "%s: %s", cluster->nodes[i].machine, share_of(w, &cluster->nodes[i])));
    fputs("#\n# On every machine (from a checkout of its source: uv run exo):\nexo\n#\n", w->out);
    mb_emit_comment(w->out, " ",
                    mb_emit_text(&w->emit, "Then choose %s on the page that one of them serves, http://localhost:52415",
                                 w->emit.info.name ? w->emit.info.name : "the model"));
    return MB_OK;
}

int mb_cluster_emit(const struct mb_cluster *cluster, const struct mb_model *model, const char *target, char **out,
                    struct mb_err *err)
{
    static const struct {
        const char *name;
        int (*write)(struct writer *w, struct mb_err *err);
    } targets[] = {{"llama.cpp", write_llama}, {"vllm", write_vllm}, {"exo", write_exo}};
    for (size_t i = 0; target && i < MB_COUNT(targets); i++) {
        if (mb_name_compare(target, targets[i].name) != 0)
            continue;
        if (!cluster->fits)
            return mb_fail(err, MB_EINVAL, "%s: the plan does not fit, so there is nothing to run; see what it needs",
                           targets[i].name);
        struct writer w = {.cluster = cluster, .emit = {.model = model}};
        char *text = NULL;
        size_t n = 0;
        mb_model_get_info(model, &w.emit.info);
        w.out = open_memstream(&text, &n);
        int code = w.out ? targets[i].write(&w, err) : mb_fail_memory(err);
        if (code == MB_OK) {
            code = mb_emit_close(&w.emit, w.out, &text, out, err);
        } else if (w.out) {
            fclose(w.out);
            free(text);
        }
        mb_arena_free(&w.emit.arena);
        return code;
    }
    return mb_fail(err, MB_ENAME, "%.60s: several machines can be planned for llama.cpp, vllm and exo",
                   target ? target : "(none)");
}
