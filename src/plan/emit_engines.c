/* SPDX-License-Identifier: MIT */
/* Flags and files for engines that decide more by themselves: Ollama, LM Studio, vLLM and MLX. Where such an engine
 * can't place a model like the plan, that is an answer, too, and names one that can. What each understands:
 * docs/emit.md. */
#include "plan/emit.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int refuse_split(const struct mb_emit *emit, const char *engine, struct mb_err *err)
{
    if (mb_emit_whole_layers(emit))
        return MB_OK;
    return mb_fail(err, MB_ENOTSUP,
                   "%s: it places whole layers, and this plan puts %s apart from theirs; --emit llama.cpp can do that",
                   engine, emit->info.n_expert ? "routed experts" : "parts of layers");
}

/* "NAME-QUANT.gguf" for a model of the catalog. */
static const char *gguf_path(struct mb_emit *emit)
{
    if (emit->info.path)
        return emit->info.path;
    mb_emit_note(emit,
                 "No file was named: the model was counted from the catalog. Put the path of yours in its place.");
    return mb_emit_text(emit, "%s-%s.gguf", emit->info.name, emit->info.quant ? emit->info.quant : "F16");
}

static int same_kv(const struct mb_plan *plan)
{
    return (!plan->kv_type_k && !plan->kv_type_v) ||
           (plan->kv_type_k && plan->kv_type_v && strcasecmp(plan->kv_type_k, plan->kv_type_v) == 0);
}

static int kv_is(const struct mb_plan *plan, const char *type)
{
    return same_kv(plan) && strcasecmp(plan->kv_type_k ? plan->kv_type_k : "F16", type) == 0;
}

/* The layers that the GPUs hold; with the output, if any do. */
static uint32_t layers_on(const struct mb_emit *emit)
{
    return emit->n_layers - emit->first;
}

static void note_engine(struct mb_emit *emit, const char *engine)
{
    if (strncmp(emit->plan->engine, engine, strlen(engine)) != 0)
        mb_emit_note(emit, mb_emit_text(emit, "For figures of %s itself, plan with --engine %s.", engine, engine));
}

/* ---- Ollama ---- */

int mb_emit_ollama(struct mb_emit *emit, char **out, struct mb_err *err)
{
    const struct mb_plan *plan = emit->plan;
    const char *type = kv_is(plan, "F16") ? "f16" : kv_is(plan, "Q8_0") ? "q8_0" : kv_is(plan, "Q4_0") ? "q4_0" : NULL;
    int code = refuse_split(emit, "ollama", err);
    if (code != MB_OK)
        return code;
    if (!type)
        return mb_fail(err, MB_ENOTSUP,
                       "ollama: its cache is F16, Q8_0 or Q4_0, for K and V alike; plan with --kv Q8_0");
    const char *from = gguf_path(emit);
    for (const char *p = from; p && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return mb_fail(err, MB_ENOTSUP, "ollama: %s: a Modelfile can't hold this name; rename the file", from);
    if (from && strncmp(from, "hf:", 3) == 0) {
        const char *slash = strchr(from, '/'), *file = slash ? strchr(slash + 1, '/') : NULL;
        if (file)
            from = mb_emit_text(emit, "hf.co/%.*s%s%s", (int)(file - from - 3), from + 3, emit->info.quant ? ":" : "",
                                emit->info.quant ? emit->info.quant : "");
    } else if (from && *from != '/') {
        from = mb_emit_text(emit, "./%s", from);
    }
    note_engine(emit, "ollama");
    mb_emit_note(emit, "Save as Modelfile, then: ollama create NAME -f Modelfile");
    mb_emit_note(emit,
                 mb_emit_text(emit,
                              "The server reads these when it starts: OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE=%s "
                              "OLLAMA_NUM_PARALLEL=1",
                              type));
    char *text = NULL, size[32];
    size_t n = 0;
    FILE *file = from ? open_memstream(&text, &n) : NULL;
    if (!file)
        return mb_fail_memory(err);
    uint64_t kv = 0, weights = 0;
    for (unsigned i = 0; i < plan->n_pools; i++) {
        kv += plan->pools[i].kv_bytes;
        if (mb_emit_device(emit, i) >= 0)
            weights += plan->pools[i].weights_bytes;
    }
    mb_emit_head(emit, file);
    fprintf(file, "FROM %s\n", from);
    fprintf(file, "# tokens of context: a cache of %s\nPARAMETER num_ctx %llu\n",
            mb_format_bytes((double)kv, size, sizeof size), (unsigned long long)plan->n_ctx);
    uint32_t on = layers_on(emit);
    fprintf(file, "# layers on the GPU, the output counted as one: %s of weights\nPARAMETER num_gpu %u\n",
            mb_format_bytes((double)weights, size, sizeof size), on ? on + 1 : 0);
    if (emit->n_devices > 1)
        fputs("# Ollama itself divides them among the cards, by their free memory.\n", file);
    if (emit->first && plan->n_threads)
        fprintf(file, "# the physical cores\nPARAMETER num_thread %u\n", plan->n_threads);
    return mb_emit_close(emit, file, &text, out, err);
}

/* ---- LM Studio ---- */

int mb_emit_lmstudio(struct mb_emit *emit, char **out, struct mb_err *err)
{
    const struct mb_plan *plan = emit->plan;
    int code = refuse_split(emit, "lmstudio", err);
    if (code != MB_OK)
        return code;
    if (emit->info.path && strncmp(emit->info.path, "hf:", 3) == 0)
        return mb_fail(err, MB_ENOTSUP,
                       "lmstudio: lms load takes models that are on this machine; get it (lms get) and name the file");
    const char *path = mb_emit_path(emit, gguf_path(emit)),
               *slash = emit->info.path ? strrchr(emit->info.path, '/') : NULL;
    const char *key = slash ? slash + 1 : emit->info.path ? emit->info.path : emit->info.name;
    size_t n = strlen(key);
    if (n > 5 && strcmp(key + n - 5, ".gguf") == 0)
        key = mb_arena_text_n(&emit->arena, key, n - 5);
    const char *word = key ? mb_emit_path(emit, key) : NULL;
    if (!path || !word)
        return mb_fail_memory(err);
    note_engine(emit, "lmstudio");
    mb_emit_note(emit, mb_emit_text(emit, "Once, if LM Studio does not list it yet: lms import %s", path));
    mb_emit_note(emit, "Names of models: lms ls. What the model needs in LM Studio's own estimate: --estimate-only.");
    if (!kv_is(plan, "F16"))
        mb_emit_note(emit, "The cache's type is set in the model's settings in LM Studio; lms has no option for it.");
    mb_emit_flag(emit, word, "the model");
    uint32_t on = layers_on(emit);
    const char *gpu = !on                    ? "--gpu off"
                      : on == emit->n_layers ? "--gpu max"
                                             : mb_emit_text(emit, "--gpu %.3f", (double)on / emit->n_layers);
    mb_emit_flag(emit, gpu, mb_emit_text(emit, "%u of %u layers on the GPU", on, emit->n_layers));
    mb_emit_flag(emit, mb_emit_text(emit, "--context-length %llu", (unsigned long long)plan->n_ctx),
                 "tokens of context");
    return mb_emit_command(emit, "lms load", out, err);
}

/* ---- vLLM ---- */

/* Quantizations that are stored in safetensors, so that the plan's bytes are those that vLLM loads. */
static int is_hub_type(const char *quant)
{
    static const char *const types[] = {"BF16", "F16", "MXFP4", "FP8", "NVFP4"};
    for (size_t i = 0; quant && i < MB_COUNT(types); i++)
        if (strcasecmp(quant, types[i]) == 0)
            return 1;
    return 0;
}

const char *mb_emit_hub_model(struct mb_emit *emit, const char *engine, struct mb_err *err)
{
    if (emit->model->is_directory)
        return mb_emit_path(emit, emit->info.path);
    if (emit->info.path) {
        mb_fail(err, MB_ENOTSUP,
                "%s: it reads safetensors, and %s is a GGUF file; name the model's directory, or use --emit llama.cpp",
                engine, emit->info.path);
        return NULL;
    }
    if (!emit->info.hf || !is_hub_type(emit->info.quant)) {
        mb_fail(err, MB_ENOTSUP,
                "%s: %s is a quantization of GGUF files; plan %s@BF16 or a directory of safetensors, or use --emit "
                "llama.cpp",
                engine, emit->info.quant ? emit->info.quant : "this", emit->info.name);
        return NULL;
    }
    return mb_emit_path(emit, emit->info.hf);
}

int mb_emit_vllm(struct mb_emit *emit, char **out, struct mb_err *err)
{
    const struct mb_plan *plan = emit->plan;
    const char *kv = kv_is(plan, "F16") || kv_is(plan, "BF16") ? "auto" : kv_is(plan, "Q8_0") ? "fp8" : NULL;
    if (!emit->n_devices)
        return mb_fail(err, MB_ENOTSUP, "vllm: this plan uses no GPU; use --emit llama.cpp");
    if (!kv)
        return mb_fail(err, MB_ENOTSUP, "vllm: its cache has 16 or 8 bits; plan with --kv F16 or Q8_0");
    const char *name = mb_emit_hub_model(emit, "vllm", err);
    if (!name)
        return emit->arena.failed ? mb_fail_memory(err) : MB_ENOTSUP;
    double used = 0;
    unsigned n_used = 0;
    int equal = 1;
    for (unsigned i = 0; i < emit->n_devices; i++) {
        const struct mb_plan_pool *pool = &plan->pools[emit->devices[i]];
        double share = (double)(pool->weights_bytes + pool->kv_bytes + pool->buffers_bytes) / pool->capacity_bytes;
        used = share > used ? share : used;
        n_used += emit->on_device[i] > 0;
        equal &= pool->capacity_bytes == plan->pools[emit->devices[0]].capacity_bytes;
    }
    uint64_t in_ram = 0;
    for (unsigned i = 0; i < plan->n_pools; i++)
        if (mb_emit_device(emit, i) < 0)
            in_ram += plan->pools[i].weights_bytes;
    /* The embedding's rows are on the GPU there; llama.cpp and this plan leave that table to the CPU. */
    uint64_t embedding = 0;
    for (uint32_t i = 0; i < emit->model->n_tensors; i++)
        if (emit->model->tensors[i].op == MB_OP_EMBED || emit->model->tensors[i].rule == MB_READ_NEVER)
            embedding += emit->model->tensors[i].bytes;
    used = used + 0.02 > 0.95 ? 0.95 : used + 0.02 < 0.1 ? 0.1 : used + 0.02;
    note_engine(emit, "vllm");
    mb_emit_flag(emit, name, "safetensors: the repository on the hub, or a directory");
    mb_emit_flag(emit, mb_emit_text(emit, "--max-model-len %llu", (unsigned long long)plan->n_ctx),
                 "tokens of context");
    mb_emit_flag(emit, mb_emit_text(emit, "--gpu-memory-utilization %.2f", used),
                 "the share of each card that the plan uses; vLLM fills what it gets with cache");
    if (n_used > 1 && equal && emit->info.n_head % n_used == 0 && emit->info.n_head_kv % n_used == 0)
        mb_emit_flag(
            emit, mb_emit_text(emit, "--tensor-parallel-size %u", n_used),
            "every layer on all cards at once: faster than the plan, which counts them in turn, if their link is fast");
    else if (n_used > 1)
        mb_emit_flag(emit, mb_emit_text(emit, "--pipeline-parallel-size %u", n_used),
                     "layers in order over the cards, in equal parts");
    if (in_ram > embedding) {
        double per_card = (double)(in_ram - embedding) / MB_GIB / (n_used ? n_used : 1);
        mb_emit_flag(emit, mb_emit_text(emit, "--cpu-offload-gb %.0f", per_card + 0.5),
                     "weights in RAM, per card. vLLM copies them to the card for every token, where the plan lets the "
                     "CPU read them: "
                     "the prediction does not hold");
    }
    if (strcmp(kv, "auto") != 0)
        mb_emit_flag(emit, "--kv-cache-dtype fp8", "a cache of 8 bits, as many bytes as Q8_0 less its scales");
    return mb_emit_command(emit, "vllm serve", out, err);
}

/* ---- MLX ---- */

/* Bits per weight of mlx_lm.convert that come nearest to a quantization's name; 0: none. */
static unsigned mlx_bits(const char *quant)
{
    const char *digit = quant ? strpbrk(quant, "2345678") : NULL;
    return !quant || is_hub_type(quant) || !digit ? 0 : *digit == '7' ? 8 : (unsigned)(*digit - '0');
}

int mb_emit_mlx(struct mb_emit *emit, char **out, struct mb_err *err)
{
    const struct mb_plan *plan = emit->plan;
    const char *backend = strchr(plan->engine, ':');
    if (plan->n_pools != 1 || plan->pool_kinds[0] != MB_POOL_UNIFIED || !backend || strcmp(backend, ":metal") != 0)
        return mb_fail(err, MB_ENOTSUP,
                       "mlx: it runs on Apple silicon, and this plan is for another machine; use --emit llama.cpp");
    if (!kv_is(plan, "F16") && !kv_is(plan, "BF16"))
        return mb_fail(err, MB_ENOTSUP, "mlx: its server keeps the cache in 16 bits; plan with --kv F16");
    unsigned bits = emit->info.path ? 0 : mlx_bits(emit->info.quant);
    if (emit->info.path && !emit->model->is_directory)
        return mb_fail(err, MB_ENOTSUP,
                       "mlx: it reads safetensors, and %s is a GGUF file; name the model's directory, or use --emit "
                       "llama.cpp",
                       emit->info.path);
    const char *name = emit->info.path ? mb_emit_path(emit, emit->info.path)
                       : emit->info.hf ? mb_emit_path(emit, emit->info.hf)
                                       : NULL;
    if (!name)
        return emit->arena.failed
                   ? mb_fail_memory(err)
                   : mb_fail(err, MB_ENOTSUP, "mlx: %s: its repository is unknown; name a directory", emit->info.name);
    note_engine(emit, "mlx");
    const char *program = "mlx_lm.server";
    if (bits) {
        const char *made = mb_emit_text(emit, "%s-mlx-%ubit", emit->info.name, bits);
        made = made ? mb_emit_path(emit, made) : NULL;
        if (made) {
            mb_emit_note(emit,
                         mb_emit_text(emit, "Converted once; %u bits are the nearest to %s.", bits, emit->info.quant));
            program = mb_emit_text(
                emit, "[ -d %s ] ||\n    mlx_lm.convert --hf-path %s -q --q-bits %u --mlx-path %s &&\nmlx_lm.server",
                made, name, bits, made);
        }
        name = made;
    }
    const char *raise = plan->pool_raises ? plan->pool_raises[0] : NULL;
    if (raise && (double)plan->pools[0].used_bytes > 0.9 * plan->pools[0].capacity_bytes)
        mb_emit_note(emit, mb_emit_text(emit, "Little is left of what the GPU may use. To raise that: %s", raise));
    mb_emit_note(emit, mb_emit_text(emit, "The server has no limit of context; the plan made room for %llu tokens.",
                                    (unsigned long long)plan->n_ctx));
    mb_emit_flag(emit, name ? mb_emit_text(emit, "--model %s", name) : NULL, "a repository on the hub, or a directory");
    return program ? mb_emit_command(emit, program, out, err) : mb_fail_memory(err);
}
