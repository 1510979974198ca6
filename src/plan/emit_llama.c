/* SPDX-License-Identifier: MIT */
/* Flags of llama.cpp and of its fork ik_llama.cpp. What they mean was read in the sources that docs/emit.md names: -ngl
 * N puts the last N of all layers and the output, which counts as one more, on the devices, in the proportions of -ts;
 * -ot rules are tried in order, the first that is found in a tensor's name decides; --n-cpu-moe N is such a rule for
 * the experts of layers 0 to N-1. */
#include "plan/emit.h"

#include <ctype.h>
#include <string.h>

/* What differs between the two. */
struct dialect {
    int ik; /* the output is offloaded only with all layers; fused MoE and run-time repacking exist */
};

static const char *lower(struct mb_emit *emit, const char *text)
{
    char *copy = mb_arena_text(&emit->arena, text);
    for (char *p = copy; p && *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

static const char *gib(struct mb_emit *emit, uint64_t bytes)
{
    char text[32];
    return mb_arena_text(&emit->arena, mb_format_bytes((double)bytes, text, sizeof text));
}

/* -m FILE, or where the file is to be had. */
static int add_model(struct mb_emit *emit, const char *engine, struct mb_err *err)
{
    const struct mb_model_info *info = &emit->info;
    if (info->path && strncmp(info->path, "hf:", 3) == 0) {
        const char *owner = info->path + 3, *slash = strchr(owner, '/'), *file = slash ? strchr(slash + 1, '/') : NULL;
        if (!file)
            return mb_fail(err, MB_EINVAL, "%s: not of the form hf:owner/repo/file; name the model again", info->path);
        const char *repo = mb_arena_text_n(&emit->arena, owner, (size_t)(file - owner));
        const char *name = mb_emit_quote(emit, file + 1);
        if (repo && name && (repo = mb_emit_quote(emit, repo)))
            mb_emit_flag(emit, mb_emit_text(emit, "-hf %s -hff %s", repo, name),
                         "downloaded to the engine's cache at the first start");
        return MB_OK;
    }
    if (emit->model->is_directory)
        return mb_fail(err, MB_ENOTSUP,
                       "%s: it reads GGUF files, and %s is none; convert it (convert_hf_to_gguf.py) or use vllm or mlx",
                       engine, info->path);
    const char *path = info->path ? mb_emit_path(emit, info->path) : NULL;
    if (!info->path) {
        path = mb_emit_text(emit, "%s-%s.gguf", info->name, info->quant ? info->quant : "F16");
        path = path ? mb_emit_path(emit, path) : NULL;
        mb_emit_note(emit,
                     "No file was named: the model was counted from the catalog. Put the path of yours after -m.");
    }
    if (path)
        mb_emit_flag(emit, mb_emit_text(emit, "-m %s", path),
                     mb_emit_text(emit, "%s; of a split model, the first part", gib(emit, emit->plan->model_bytes)));
    return MB_OK;
}

/* The name by which the backend's rules call a device's memory. */
static const char *buffer_of(struct mb_emit *emit, unsigned pool)
{
    static const struct {
        const char *backend, *name;
    } names[] = {{":cuda", "CUDA"}, {":rocm", "ROCm"}, {":vulkan", "Vulkan"}, {":metal", "Metal"}};
    const char *backend = strchr(emit->plan->engine, ':');
    int device = mb_emit_device(emit, pool);
    if (device < 0)
        return "CPU";
    for (size_t i = 0; backend && i < MB_COUNT(names); i++)
        if (strcmp(backend, names[i].backend) == 0)
            return strcmp(names[i].name, "Metal") == 0 ? "Metal" : mb_emit_text(emit, "%s%d", names[i].name, device);
    return "GPU0";
}

static int is_moved(const struct mb_emit *emit, uint32_t layer, enum mb_emit_piece piece, unsigned pool)
{
    const struct mb_plan *plan = emit->plan;
    unsigned at = piece == MB_EMIT_FFN ? plan->ffn_pool[layer] : plan->experts_pool[layer];
    return at == pool && plan->core_pool[layer] != MB_PLAN_NOWHERE && plan->core_pool[layer] != at;
}

/* --n-cpu-moe says it when the experts of the host are exactly those of the first layers, under the names that it
 * knows. */
static int is_n_cpu_moe(const struct mb_emit *emit, uint32_t *out_n, int *all)
{
    static const char *const known[] = {"ffn_up_exps",   "ffn_down_exps",   "ffn_gate_exps",   "ffn_gate_up_exps",
                                        "ffn_up_chexps", "ffn_down_chexps", "ffn_gate_chexps", "ffn_gate_up_chexps"};
    const struct mb_plan *plan = emit->plan;
    uint32_t end = 0;
    *all = 1;
    for (uint32_t i = 0; i < emit->n_layers; i++) {
        if (plan->experts_pool[i] == MB_PLAN_NOWHERE)
            continue;
        int on_host = mb_emit_device(emit, plan->experts_pool[i]) < 0;
        if (on_host && !*all)
            return 0;
        if (on_host)
            end = i + 1;
        else
            *all = 0;
    }
    for (uint32_t i = 0; i < emit->model->n_tensors; i++) {
        const struct mb_tensor *tensor = &emit->model->tensors[i];
        int ok = mb_emit_piece_of(tensor) != MB_EMIT_EXPERTS || tensor->layer < 0;
        const char *base = ok ? NULL : strchr(tensor->name + strcspn(tensor->name, "."), '.');
        base = base ? strchr(base + 1, '.') : NULL;
        for (size_t k = 0; base && k < MB_COUNT(known); k++)
            ok |= strncmp(base + 1, known[k], strlen(known[k])) == 0;
        if (!ok)
            return 0;
    }
    *out_n = end;
    return 1;
}

static uint64_t moved_bytes(const struct mb_emit *emit, const uint8_t *wanted, enum mb_emit_piece piece)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < emit->n_layers; i++)
        if (wanted[i])
            bytes += mb_emit_piece_bytes(emit, i, piece);
    return bytes;
}

struct rules {
    const char *rules; /* "a=CPU,b=CPU" */
    const char *why;
};

static void add_rule(struct mb_emit *emit, struct rules *rules, const char *pattern, const char *buffer,
                     const char *why)
{
    if (!pattern || !buffer || !why)
        return;
    rules->rules =
        mb_emit_text(emit, "%s%s%s=%s", rules->rules ? rules->rules : "", rules->rules ? "," : "", pattern, buffer);
    rules->why = mb_emit_text(emit, "%s%s%s", rules->why ? rules->why : "", rules->why ? "; " : "", why);
}

/* Rules for the pieces that lie in a pool, apart from their layers. */
static void add_pieces(struct mb_emit *emit, struct rules *rules, unsigned pool, enum mb_emit_piece piece)
{
    uint8_t *wanted = mb_arena_alloc(&emit->arena, emit->n_layers + 1);
    unsigned n = 0;
    for (uint32_t i = 0; wanted && i < emit->n_layers; i++)
        n += wanted[i] = (uint8_t)is_moved(emit, i, piece, pool);
    if (!wanted || !n)
        return;
    const char *buffer = buffer_of(emit, pool), *size = gib(emit, moved_bytes(emit, wanted, piece));
    const char *layers = mb_emit_ranges(emit, wanted, emit->n_layers);
    if (buffer && size && layers)
        add_rule(emit, rules, mb_emit_pattern(emit, wanted, piece), buffer,
                 mb_emit_text(emit, "%s of layers %s in %s: %s", piece == MB_EMIT_FFN ? "dense FFN" : "routed experts",
                              layers, emit->plan->pool_ids[pool], size));
}

/* Blocks for next-token prediction come after the layers and would follow the last of them to its card. */
static void add_nextn(struct mb_emit *emit, struct rules *rules)
{
    const struct mb_model *model = emit->model;
    uint32_t first = model->hp.n_layers, end = model->n_layers_all;
    uint8_t *wanted = mb_arena_alloc(&emit->arena, end + 1);
    uint64_t bytes = 0;
    for (uint32_t i = first; wanted && i < end; i++) {
        wanted[i] = 1;
        for (unsigned piece = 0; piece <= MB_EMIT_N_PIECES; piece++)
            bytes += mb_emit_piece_bytes(emit, i, (enum mb_emit_piece)piece);
    }
    const char *numbers = wanted && bytes ? mb_emit_numbers(emit, wanted, end) : NULL;
    const char *size = numbers ? gib(emit, bytes) : NULL;
    if (size)
        add_rule(emit, rules, mb_emit_text(emit, "^blk\\.(%s)\\.", numbers), "CPU",
                 mb_emit_text(emit, "next-token prediction, not used in plain decoding: %s", size));
}

static void add_offload(struct mb_emit *emit, const struct dialect *dialect, struct rules *rules)
{
    const struct mb_plan *plan = emit->plan;
    uint32_t n_on = emit->n_layers - emit->first, after = emit->model->n_layers_all - emit->n_layers;
    int output_on = mb_emit_device(emit, plan->output_pool) >= 0, last = -1;
    uint64_t bytes = 0;
    unsigned n_used = 0;
    if (!n_on) {
        mb_emit_flag(emit, "-ngl 0",
                     emit->n_devices ? "no layer fits the GPU usefully: all of them on the CPU"
                                     : "all layers on the CPU");
        return;
    }
    for (unsigned i = 0; i < emit->n_devices; i++) {
        bytes += plan->pools[emit->devices[i]].weights_bytes;
        n_used += emit->on_device[i] > 0;
        last = emit->on_device[i] ? (int)i : last;
    }
    const char *size = gib(emit, bytes);
    /* ik_llama.cpp counts the output last: it is offloaded only when -ngl is more than all layers. */
    uint32_t beside = after + (!dialect->ik || emit->first == 0), ngl = n_on + beside;
    if (size)
        mb_emit_flag(emit, mb_emit_text(emit, "-ngl %u", ngl),
                     mb_emit_text(emit, "%u of %u layers%s on the GPU%s, less what follows: %s of weights", n_on,
                                  emit->n_layers, output_on ? " and the output" : "", n_used > 1 ? "s" : "", size));
    if (emit->n_devices > 1) {
        const char *split = "", *why = "";
        for (unsigned i = 0; split && why && i < emit->n_devices; i++) {
            uint32_t share = emit->on_device[i] + ((int)i == last ? beside : 0);
            split = mb_emit_text(emit, "%s%s%u", split, i ? "," : "", share);
            why = mb_emit_text(emit, "%s%s%u layers %s", why, i ? ", " : "", emit->on_device[i],
                               plan->pool_ids[emit->devices[i]]);
        }
        if (split && why)
            mb_emit_flag(emit, mb_emit_text(emit, "-ts %s", split),
                         mb_emit_text(emit,
                                      "%s; the output counts with the last. The cards in the order of "
                                      "--list-devices; if yours differs, name them with -dev",
                                      why));
    }
    const char *head = emit->model->hp.tied ? "^token_embd\\.weight$" : "^output\\.weight$";
    if (!output_on && (!dialect->ik || emit->first == 0))
        add_rule(emit, rules, head, "CPU", "the output in RAM");
    else if (output_on && dialect->ik && emit->first > 0)
        add_rule(emit, rules, head, buffer_of(emit, plan->output_pool), "the output on the GPU");
    if (after && emit->host >= 0)
        add_nextn(emit, rules);
}

static void add_cache(struct mb_emit *emit)
{
    const struct mb_plan *plan = emit->plan;
    const char *k = lower(emit, plan->kv_type_k ? plan->kv_type_k : "F16"),
               *v = lower(emit, plan->kv_type_v ? plan->kv_type_v : "F16");
    uint64_t bytes = 0;
    for (unsigned i = 0; i < plan->n_pools; i++)
        bytes += plan->pools[i].kv_bytes;
    const char *size = gib(emit, bytes);
    if (size)
        mb_emit_flag(emit, mb_emit_text(emit, "-c %llu", (unsigned long long)plan->n_ctx),
                     mb_emit_text(emit, "tokens of context: a cache of %s, each layer's beside its attention", size));
    if (k && v && (strcmp(k, "f16") != 0 || strcmp(v, "f16") != 0))
        mb_emit_flag(emit, mb_emit_text(emit, "-ctk %s -ctv %s", k, v), "types of that cache");
    mb_emit_flag(emit, "-fa on",
                 v && strcmp(v, "f16") != 0 ? "flash attention; a quantized cache of V needs it"
                                            : "flash attention: the prediction assumes it");
    if (plan->n_batch && plan->n_batch != 512)
        mb_emit_flag(emit,
                     plan->n_batch > 2048 ? mb_emit_text(emit, "-b %u -ub %u", plan->n_batch, plan->n_batch)
                                          : mb_emit_text(emit, "-ub %u", plan->n_batch),
                     "tokens of one chunk of the prompt");
}

static int write_llama(struct mb_emit *emit, const struct dialect *dialect, const char *engine, char **out,
                       struct mb_err *err)
{
    const struct mb_plan *plan = emit->plan;
    struct rules rules = {0};
    uint32_t n_cpu_moe;
    int all, code = add_model(emit, engine, err);
    if (code != MB_OK)
        return code;
    add_offload(emit, dialect, &rules);
    int on_host = 0, runs_on_cpu = emit->first > 0;
    for (uint32_t i = 0; i < emit->n_layers; i++) {
        on_host |= emit->host >= 0 && is_moved(emit, i, MB_EMIT_EXPERTS, (unsigned)emit->host);
        runs_on_cpu |= emit->host >= 0 && is_moved(emit, i, MB_EMIT_FFN, (unsigned)emit->host);
    }
    runs_on_cpu |= on_host;
    int short_form = on_host && is_n_cpu_moe(emit, &n_cpu_moe, &all);
    for (unsigned pool = 0; pool < plan->n_pools; pool++) {
        add_pieces(emit, &rules, pool, MB_EMIT_FFN);
        if (!short_form || (int)pool != emit->host)
            add_pieces(emit, &rules, pool, MB_EMIT_EXPERTS);
    }
    if (short_form) {
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < n_cpu_moe; i++)
            bytes += mb_emit_piece_bytes(emit, i, MB_EMIT_EXPERTS);
        const char *size = gib(emit, bytes);
        if (size && all)
            mb_emit_flag(emit, "--cpu-moe", mb_emit_text(emit, "all routed experts in RAM: %s", size));
        else if (size)
            mb_emit_flag(emit, mb_emit_text(emit, "--n-cpu-moe %u", n_cpu_moe),
                         mb_emit_text(emit, "routed experts of the first %u of %u layers in RAM: %s", n_cpu_moe,
                                      emit->n_layers, size));
    }
    if (rules.rules && rules.why) {
        const char *quoted = mb_emit_quote(emit, rules.rules);
        if (quoted)
            mb_emit_flag(emit, mb_emit_text(emit, "-ot %s", quoted), rules.why);
    }
    add_cache(emit);
    if (runs_on_cpu && plan->n_threads)
        mb_emit_flag(emit, mb_emit_text(emit, "-t %u", plan->n_threads), "the physical cores");
    if (dialect->ik && emit->info.n_expert)
        mb_emit_flag(emit, "-fmoe", "up and gate of the experts in one step");
    if (dialect->ik && runs_on_cpu)
        mb_emit_note(emit,
                     "-rtr repacks the weights in RAM for the CPU at loading: faster prompts, but no memory mapping.");
    if (runs_on_cpu && emit->n_devices && emit->first < emit->n_layers && !dialect->ik)
        mb_emit_note(
            emit,
            "If loading leaves enough RAM free, switch memory mapping off (-lm none; in builds without it, --no-mmap): "
            "weights in RAM are then read from large pages.");
    for (unsigned i = 0; i < emit->n_devices; i++) {
        const struct mb_plan_pool *pool = &plan->pools[emit->devices[i]];
        const char *raise = plan->pool_raises ? plan->pool_raises[emit->devices[i]] : NULL;
        if (raise && (double)pool->used_bytes > 0.9 * pool->capacity_bytes)
            mb_emit_note(emit, mb_emit_text(emit, "Little is left of what the GPU may use. To raise that: %s", raise));
    }
    return mb_emit_command(emit, "llama-server", out, err);
}

int mb_emit_llama_cpp(struct mb_emit *emit, char **out, struct mb_err *err)
{
    static const struct dialect dialect = {0};
    return write_llama(emit, &dialect, "llama.cpp", out, err);
}

int mb_emit_ik_llama_cpp(struct mb_emit *emit, char **out, struct mb_err *err)
{
    static const struct dialect dialect = {.ik = 1};
    return write_llama(emit, &dialect, "ik_llama.cpp", out, err);
}
