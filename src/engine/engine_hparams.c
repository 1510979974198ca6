/* SPDX-License-Identifier: MIT */
/* Families that are run, one row each: which rope, which activation, and what files of the family leave unsaid. A new family
 * that is built from the same parts is a new row. Facts: llama.cpp (2026-10), src/models and load_hparams in
 * src/llama-model.cpp; keys: src/llama-arch.cpp. */
#include "engine/engine_hparams.h"
#include "model/roles.h"

#include <math.h>
#include <string.h>

enum {
    EMBED_SQRT = 1,     /* embeddings are multiplied by sqrt(n_embd) */
    TOPK_NORM = 2,      /* chosen weights of experts sum to 1 */
    SOFT_CAPS = 4,      /* attention scores and logits are capped, at 50 and 30 where the file says nothing */
    LOGIT_DIVIDES = 8,  /* logits are divided by logit_scale, not multiplied */
    OWN_WINDOW = 16,    /* sliding layers: base 10000 and no scaling where the file says nothing */
    PLAIN_WINDOW = 32,  /* sliding layers: the same base, but neither scaling nor YaRN */
    MEAN_HEAD_27B = 64, /* the 27B scales queries by the mean width of a head, not by that of its own */
    LOGIT_CAP = 128     /* only logits are capped, and only where the file says so */
};

static const struct family {
    const char *name;
    uint8_t rope, glu, gating, flags;
    uint8_t no_rope_every, layers_27b;
} families[] = {
    {.name = "llama", .rope = MB_ROPE_NORMAL, .flags = TOPK_NORM},
    {.name = "mistral3", .rope = MB_ROPE_NORMAL, .flags = TOPK_NORM},
    {.name = "granite", .rope = MB_ROPE_NORMAL, .flags = TOPK_NORM | LOGIT_DIVIDES},
    {.name = "smollm3", .rope = MB_ROPE_NORMAL, .no_rope_every = 4},
    {.name = "qwen2", .rope = MB_ROPE_NEOX},
    {.name = "qwen3", .rope = MB_ROPE_NEOX},
    {.name = "qwen3moe", .rope = MB_ROPE_NEOX, .flags = TOPK_NORM},
    {.name = "seed_oss", .rope = MB_ROPE_NEOX},
    {.name = "gemma2", .rope = MB_ROPE_NEOX, .glu = MB_GLU_GELU, .flags = EMBED_SQRT | SOFT_CAPS | MEAN_HEAD_27B,
     .layers_27b = 46},
    {.name = "gemma3", .rope = MB_ROPE_NEOX, .glu = MB_GLU_GELU,
     .flags = EMBED_SQRT | LOGIT_CAP | OWN_WINDOW | MEAN_HEAD_27B, .layers_27b = 62},
    {.name = "gpt-oss", .rope = MB_ROPE_NEOX, .glu = MB_GLU_SWIGLU_OAI, .gating = MB_GATE_CHOSEN},
    {.name = "glm4", .rope = MB_ROPE_NORMAL},
    {.name = "glm4moe", .rope = MB_ROPE_NEOX, .gating = MB_GATE_SIGMOID},
    {.name = "phi3", .rope = MB_ROPE_NEOX, .flags = TOPK_NORM},
    {.name = "olmo2", .rope = MB_ROPE_NEOX, .flags = PLAIN_WINDOW},
};

struct reader {
    const struct mb_gguf *gguf; /* NULL: a model without a file */
    const struct mb_model *model;
    struct mb_err *err;
    int code;
};

static const char *full_key(const struct reader *reader, const char *key, char *buf, size_t n)
{
    snprintf(buf, n, "%s.%s", reader->model->arch_name, key);
    return buf;
}

/* A number of the architecture between low and high, or the default where the file has none. The first failure stays. */
static double number(struct reader *reader, const char *key, double otherwise, double low, double high)
{
    char name[160];
    double value = otherwise;
    if (reader->code || !reader->gguf)
        return otherwise;
    int code = mb_gguf_get_f64(reader->gguf, full_key(reader, key, name, sizeof name), &value);
    if (code == MB_ENODATA)
        return otherwise;
    if (code || !(value >= low && value <= high)) {
        reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: %s is not a number in %g..%g; the file is damaged",
                               reader->model->name, name, low, high);
        return otherwise;
    }
    return value;
}

static int has(const struct reader *reader, const char *key)
{
    char name[160];
    return reader->gguf && mb_gguf_find_kv(reader->gguf, full_key(reader, key, name, sizeof name)) != NULL;
}

static uint32_t head_width(const struct mb_model *model, int window)
{
    for (uint32_t i = 0; i < model->hp.n_layers; i++) {
        if (model->layers[i].head_k && (model->layers[i].window != 0) == window)
            return model->layers[i].head_k;
    }
    return model->hp.head_k;
}

/* Without a file: a rotation of a part of the head shows in the table of its factors, one for each pair. */
static uint32_t turned_width(const struct mb_model *model)
{
    for (uint32_t i = 0; !model->path && i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        if (tensor->kind == MB_T_ROPE_FREQS || tensor->kind == MB_T_ROPE_FACTORS_LONG)
            return (uint32_t)(2 * tensor->ne[0]);
    }
    return head_width(model, 0);
}

enum scaling { SCALING_NONE, SCALING_LINEAR, SCALING_YARN, SCALING_LONG };

static enum scaling read_scaling(struct reader *reader)
{
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    char name[160];
    const char *text;
    if (!reader->gguf ||
        mb_gguf_get_text(reader->gguf, full_key(reader, "rope.scaling.type", name, sizeof name), &text) == MB_ENODATA)
        return SCALING_LINEAR;
    if (mb_gguf_get_text(reader->gguf, name, &text) == MB_OK) {
        for (unsigned i = 0; i < MB_COUNT(names); i++) {
            if (strcmp(text, names[i]) == 0)
                return (enum scaling)i;
        }
    }
    if (!reader->code)
        reader->code = mb_fail(reader->err, MB_ENOTSUP, "%s: %s is of a kind that is not run; `membound inspect` counts it",
                               reader->model->name, name);
    return SCALING_NONE;
}

static void read_rope(struct reader *reader, const struct family *family, struct mb_engine_hparams *out)
{
    const struct mb_model *model = reader->model;
    struct mb_rope_params *rope = &out->rope, *window = &out->rope_window;
    enum scaling scaling = read_scaling(reader);
    rope->n_rot = (uint32_t)number(reader, "rope.dimension_count", turned_width(model), 2, 1 << 14);
    rope->base = (float)number(reader, "rope.freq_base", 10000, 1.5, 1e12);
    double factor = number(reader, "rope.scaling.factor", 0, 0, 1e6);
    if (factor == 0)
        factor = number(reader, "rope.scale_linear", 0, 0, 1e6);
    if (factor == 0 || scaling == SCALING_NONE)
        factor = 1;
    rope->scale = (float)(1 / factor);
    double context = number(reader, "context_length", 4096, 1, 4294967295.0);
    rope->context = (uint32_t)number(reader, "rope.scaling.original_context_length", context, 1, 4294967295.0);
    rope->extrapolate = scaling == SCALING_YARN;
    rope->beta_fast = (float)number(reader, "rope.scaling.yarn_beta_fast", 32, 0, 1e6);
    rope->beta_slow = (float)number(reader, "rope.scaling.yarn_beta_slow", 1, 0, 1e6);
    double magnitude = number(reader, "rope.scaling.attn_factor", 1, 0, 1e3);
    rope->magnitude = (float)magnitude;
    if (scaling == SCALING_YARN && factor > 1) {
        double multiplier = number(reader, "rope.scaling.yarn_log_multiplier", 0, 0, 1e3), grown = 1 + 0.1 * log(factor);
        rope->magnitude = (float)(magnitude * (multiplier != 0 ? grown / (1 + 0.1 * multiplier * log(factor)) : grown));
    }
    *window = *rope;
    window->n_rot = (uint32_t)number(reader, "rope.dimension_count_swa",
                                     head_width(model, 1) == head_width(model, 0) ? rope->n_rot : head_width(model, 1), 2,
                                     1 << 14);
    if (family->flags & OWN_WINDOW) {
        window->base = 10000;
        window->scale = 1;
    }
    if (family->flags & PLAIN_WINDOW) {
        window->scale = 1;
        window->extrapolate = 0;
        window->magnitude = 1;
    } else
        window->base = (float)number(reader, "rope.freq_base_swa", window->base, 1.5, 1e12);
    if (!reader->code && (rope->n_rot % 2 || window->n_rot % 2 || rope->n_rot > head_width(model, 0) ||
                          window->n_rot > head_width(model, 1)))
        reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: rope turns %u of %u elements of a head; the file is damaged",
                               model->name, rope->n_rot, head_width(model, 0));
}

static void read_experts(struct reader *reader, const struct family *family, struct mb_engine_hparams *out)
{
    const struct mb_hparams *hp = &reader->model->hp;
    out->gating = (enum mb_gating)family->gating;
    switch ((int)number(reader, "expert_gating_func", 0, 0, 4)) {
    case 0: break;
    case 1: out->gating = MB_GATE_SOFTMAX; break;
    case 2: out->gating = MB_GATE_SIGMOID; break;
    case 3: out->gating = MB_GATE_CHOSEN; break;
    default:
        reader->code = mb_fail(reader->err, MB_ENOTSUP, "%s: its way of choosing experts is not run yet", reader->model->name);
        return;
    }
    out->gate_normalise = number(reader, "expert_weights_norm", (family->flags & TOPK_NORM) != 0, 0, 1) != 0;
    out->gate_scale = (float)number(reader, "expert_weights_scale", 1, 0, 1e6);
    if (out->gate_scale == 0)
        out->gate_scale = 1; /* written where there is none */
    out->n_groups = (uint32_t)number(reader, "expert_group_count", 0, 0, MB_EXPERTS_MAX);
    out->n_groups_used = (uint32_t)number(reader, "expert_group_used_count", 0, 0, MB_EXPERTS_MAX);
    if (out->n_groups <= 1 || !hp->n_expert)
        out->n_groups = out->n_groups_used = 0;
    else if (!reader->code && (hp->n_expert % out->n_groups || !out->n_groups_used || out->n_groups_used > out->n_groups ||
                               hp->n_expert / out->n_groups * out->n_groups_used < hp->n_expert_used ||
                               hp->n_expert / out->n_groups < 2))
        reader->code = mb_fail(reader->err, MB_EFORMAT, "%s: %u experts do not form %u groups; the file is damaged",
                               reader->model->name, hp->n_expert, out->n_groups);
}

int mb_engine_hparams_read(const struct mb_model *model, const struct mb_gguf *gguf, struct mb_engine_hparams *out,
                           struct mb_err *err)
{
    struct reader reader = {.gguf = gguf, .model = model, .err = err};
    const struct mb_hparams *hp = &model->hp;
    const struct family *family = NULL;
    for (unsigned i = 0; i < MB_COUNT(families) && !family; i++) {
        if (strcmp(families[i].name, model->arch_name) == 0)
            family = &families[i];
    }
    if (!family)
        return mb_fail(err, MB_ENOTSUP, "%s: models of the architecture %s are not run yet; `membound inspect` counts them",
                       model->name, model->arch_name);
    memset(out, 0, sizeof *out);
    if (gguf && !has(&reader, "attention.layer_norm_rms_epsilon"))
        return mb_fail(err, MB_EFORMAT, "%s: no %s.attention.layer_norm_rms_epsilon; the file is damaged", model->name,
                       model->arch_name);
    static const char *const refused[] = {"attention.temperature_scale", "rope.dimension_sections"};
    for (unsigned i = 0; i < MB_COUNT(refused); i++) {
        if (has(&reader, refused[i]))
            return mb_fail(err, MB_ENOTSUP, "%s: %s.%s is not run yet; `membound inspect` counts the model", model->name,
                           model->arch_name, refused[i]);
    }
    out->norm_eps = (float)number(&reader, "attention.layer_norm_rms_epsilon", 1e-6, 0, 1);
    out->rope_kind = (enum mb_rope_kind)family->rope;
    out->glu = (enum mb_glu)family->glu;
    out->no_rope_every = family->no_rope_every;
    read_rope(&reader, family, out);
    uint32_t head = head_width(model, 0);
    double score = head ? 1 / sqrt(head) : 1;
    if (family->flags & MEAN_HEAD_27B && hp->n_layers == family->layers_27b && hp->n_head)
        score = 1 / sqrt((double)(hp->n_embd / hp->n_head));
    out->score_scale = (float)number(&reader, "attention.scale", 0, 0, 1e6);
    if (out->score_scale == 0)
        out->score_scale = (float)score;
    int caps = family->flags & SOFT_CAPS;
    if (caps)
        out->score_cap = (float)number(&reader, "attn_logit_softcapping", 50, 0, 1e6);
    if (caps || family->flags & LOGIT_CAP)
        out->logit_cap = (float)number(&reader, "final_logit_softcapping", caps ? 30 : 0, 0, 1e6);
    out->embed_scale = (float)number(&reader, "embedding_scale", 0, -1e6, 1e6);
    if (out->embed_scale == 0)
        out->embed_scale = family->flags & EMBED_SQRT ? sqrtf((float)hp->n_embd) : 1;
    out->residual_scale = (float)number(&reader, "residual_scale", 0, -1e6, 1e6);
    if (out->residual_scale == 0)
        out->residual_scale = 1;
    out->logit_scale = (float)number(&reader, "logit_scale", 0, -1e6, 1e6);
    if (out->logit_scale == 0)
        out->logit_scale = 1;
    else if (family->flags & LOGIT_DIVIDES)
        out->logit_scale = 1 / out->logit_scale;
    read_experts(&reader, family, out);
    return reader.code;
}
