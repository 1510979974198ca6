/* SPDX-License-Identifier: MIT */
/* Names of tensors in Hugging Face checkpoints -> layer, kind, part. A name is prefixes ("model.",
 * "language_model."), a layer, a module ("self_attn"), what it is there ("q_proj"), and a tail
 * ("weight_scale_inv"). Each is looked up by itself, because families mix them freely. Names:
 * transformers, src/transformers/models, and the published index files, 2026-08. What is not found
 * stays MB_T_UNKNOWN; what that means is decided elsewhere. */
#include "model/roles_hf.h"

#include <string.h>

/* Modules in which a name means the same. */
enum {
    LAYER = 1, /* directly in the layer */
    ATTN = 2,
    LINEAR = 4,
    MAMBA = 8,
    MIXER = 16, /* nemotron_h: whatever the layer is */
    CONV = 32,
    FFN = 64,
    SHARED = 128, /* granitemoehybrid: shared_mlp */
    GLOBAL = 256
};

static const struct {
    const char *name;
    unsigned module;
} modules[] = {{"self_attn.", ATTN},
               {"attention.", ATTN},
               {"attn.", ATTN},
               {"self_attention.", ATTN},
               {"linear_attn.", LINEAR},
               {"mamba.", MAMBA},
               {"mixer.", MIXER},
               {"conv.", CONV},
               {"mlp.", FFN},
               {"feed_forward.", FFN},
               {"block_sparse_moe.", FFN},
               {"moe.", FFN},
               {"shared_mlp.", SHARED}};

#define MOE (FFN | MIXER | LAYER)
static const struct {
    unsigned modules;
    const char *name;
    enum mb_tensor_kind kind;
} names[] = {
    /* Norms of a layer. */
    {LAYER, "input_layernorm", MB_T_ATTN_NORM},
    {LAYER, "norm", MB_T_ATTN_NORM},
    {LAYER, "operator_norm", MB_T_ATTN_NORM},
    {LAYER, "post_attention_layernorm", MB_T_FFN_NORM},
    {LAYER, "post_self_attn_layernorm", MB_T_POST_ATTENTION_NORM},
    {LAYER, "pre_feedforward_layernorm", MB_T_FFN_NORM},
    {LAYER, "pre_feedforward_layernorm_2", MB_T_PRE_FFW_NORM_2},
    {LAYER, "post_feedforward_layernorm", MB_T_POST_FFW_NORM},
    {LAYER, "post_feedforward_layernorm_1", MB_T_POST_FFW_NORM_1},
    {LAYER, "post_feedforward_layernorm_2", MB_T_POST_FFW_NORM_2},
    {LAYER, "post_mlp_layernorm", MB_T_POST_FFW_NORM},
    {LAYER, "pre_ff_layernorm", MB_T_FFN_NORM},
    {LAYER, "ffn_norm", MB_T_FFN_NORM},
    /* Per-layer embeddings. */
    {LAYER, "layer_scalar", MB_T_LAYER_OUTPUT_SCALE},
    {LAYER, "per_layer_input_gate", MB_T_INP_GATE},
    {LAYER, "per_layer_projection", MB_T_PROJ},
    {LAYER, "post_per_layer_input_norm", MB_T_POST_NORM},
    /* Next-token prediction, stored as one layer more. */
    {LAYER, "eh_proj", MB_T_NEXTN_EH_PROJ},
    {LAYER, "embed_tokens", MB_T_NEXTN_EMBED_TOKENS},
    {LAYER, "enorm", MB_T_NEXTN_ENORM},
    {LAYER, "hnorm", MB_T_NEXTN_HNORM},
    {LAYER, "shared_head.head", MB_T_NEXTN_SHARED_HEAD_HEAD},
    {LAYER, "shared_head.norm", MB_T_NEXTN_SHARED_HEAD_NORM},
    /* Attention. */
    {ATTN | MIXER, "q_proj", MB_T_ATTN_Q},
    {ATTN | MIXER, "k_proj", MB_T_ATTN_K},
    {ATTN | MIXER, "v_proj", MB_T_ATTN_V},
    {ATTN | MIXER, "o_proj", MB_T_ATTN_OUTPUT},
    {ATTN, "out_proj", MB_T_ATTN_OUTPUT},
    {ATTN, "dense", MB_T_ATTN_OUTPUT},
    {ATTN, "c_proj", MB_T_ATTN_OUTPUT},
    {ATTN, "qkv_proj", MB_T_ATTN_QKV},
    {ATTN, "query_key_value", MB_T_ATTN_QKV},
    {ATTN, "c_attn", MB_T_ATTN_QKV},
    {ATTN, "Wqkv", MB_T_ATTN_QKV},
    {ATTN, "q_norm", MB_T_ATTN_Q_NORM},
    {ATTN, "k_norm", MB_T_ATTN_K_NORM},
    {ATTN, "q_layernorm", MB_T_ATTN_Q_NORM},
    {ATTN, "k_layernorm", MB_T_ATTN_K_NORM},
    {ATTN, "sinks", MB_T_ATTN_SINKS},
    {ATTN, "attention_sink_bias", MB_T_ATTN_SINKS},
    {ATTN, "gate_proj", MB_T_ATTN_GATE},
    {ATTN, "g_proj", MB_T_ATTN_GATE},
    {ATTN, "q_a_proj", MB_T_ATTN_Q_A},
    {ATTN, "q_a_layernorm", MB_T_ATTN_Q_A_NORM},
    {ATTN, "q_b_proj", MB_T_ATTN_Q_B},
    {ATTN, "kv_a_proj_with_mqa", MB_T_ATTN_KV_A_MQA},
    {ATTN, "kv_a_layernorm", MB_T_ATTN_KV_A_NORM},
    {ATTN, "kv_b_proj", MB_T_ATTN_KV_B},
    {ATTN, "indexer.wq_b", MB_T_INDEXER_ATTN_Q_B},
    {ATTN, "indexer.wk", MB_T_INDEXER_ATTN_K},
    {ATTN, "indexer.k_norm", MB_T_INDEXER_K_NORM},
    {ATTN, "indexer.weights_proj", MB_T_INDEXER_PROJ},
    /* Kimi delta attention stands where attention stands. */
    {ATTN, "q_conv1d", MB_T_SSM_CONV1D_Q},
    {ATTN, "k_conv1d", MB_T_SSM_CONV1D_K},
    {ATTN, "v_conv1d", MB_T_SSM_CONV1D_V},
    {ATTN, "A_log", MB_T_SSM_A},
    {ATTN, "dt_bias", MB_T_SSM_DT},
    {ATTN, "f_a_proj", MB_T_SSM_F_A},
    {ATTN, "f_b_proj", MB_T_SSM_F_B},
    {ATTN, "g_a_proj", MB_T_SSM_G_A},
    {ATTN, "g_b_proj", MB_T_SSM_G_B},
    {ATTN, "b_proj", MB_T_SSM_BETA},
    {ATTN, "o_norm", MB_T_SSM_NORM},
    /* Recurrent mixers. */
    {LINEAR, "in_proj_qkvz", MB_T_SSM_IN},
    {LINEAR, "in_proj_ba", MB_T_SSM_BA},
    {LINEAR, "in_proj_qkv", MB_T_ATTN_QKV},
    {LINEAR, "in_proj_z", MB_T_ATTN_GATE},
    {LINEAR, "in_proj_b", MB_T_SSM_BETA},
    {LINEAR, "in_proj_a", MB_T_SSM_ALPHA},
    {MAMBA | MIXER, "in_proj", MB_T_SSM_IN},
    {MAMBA | MIXER, "x_proj", MB_T_SSM_X},
    {MAMBA | MIXER, "dt_proj", MB_T_SSM_DT},
    {MAMBA | MIXER, "D", MB_T_SSM_D},
    {MAMBA | MIXER | LINEAR, "conv1d", MB_T_SSM_CONV1D},
    {MAMBA | MIXER | LINEAR, "A_log", MB_T_SSM_A},
    {MAMBA | MIXER | LINEAR, "dt_bias", MB_T_SSM_DT},
    {MAMBA | MIXER | LINEAR, "norm", MB_T_SSM_NORM},
    {MAMBA | MIXER | LINEAR, "out_proj", MB_T_SSM_OUT},
    {CONV, "conv", MB_T_SHORTCONV_CONV},
    {CONV, "in_proj", MB_T_SHORTCONV_IN_PROJ},
    {CONV, "out_proj", MB_T_SHORTCONV_OUT_PROJ},
    /* FFN. Two fused projections count as the wider one of them, as in GGUF. */
    {FFN, "gate_proj", MB_T_FFN_GATE},
    {FFN | MIXER, "up_proj", MB_T_FFN_UP},
    {FFN | MIXER, "down_proj", MB_T_FFN_DOWN},
    {FFN, "gate_up_proj", MB_T_FFN_UP},
    {FFN, "w1", MB_T_FFN_GATE},
    {FFN, "w3", MB_T_FFN_UP},
    {FFN, "w2", MB_T_FFN_DOWN},
    {FFN, "fc1", MB_T_FFN_UP},
    {FFN, "fc2", MB_T_FFN_DOWN},
    {FFN, "c_fc", MB_T_FFN_UP},
    {FFN, "c_proj", MB_T_FFN_DOWN},
    {FFN, "dense_h_to_4h", MB_T_FFN_UP},
    {FFN, "dense_4h_to_h", MB_T_FFN_DOWN},
    /* Experts. */
    {MOE, "gate", MB_T_FFN_GATE_INP},
    {MOE, "gate.wg", MB_T_FFN_GATE_INP},
    {MOE, "router", MB_T_FFN_GATE_INP},
    {MOE, "router.layer", MB_T_FFN_GATE_INP},
    {MOE, "router.proj", MB_T_FFN_GATE_INP},
    {MOE, "router.scale", MB_T_FFN_GATE_INP},
    {MOE, "router.per_expert_scale", MB_T_FFN_GATE_INP},
    {MOE, "gate.e_score_correction_bias", MB_T_EXP_PROBS_B},
    {MOE, "router.e_score_correction_bias", MB_T_EXP_PROBS_B},
    {MOE, "e_score_correction_bias", MB_T_EXP_PROBS_B},
    {MOE, "expert_bias", MB_T_EXP_PROBS_B},
    {MOE, "experts.gate_up_proj", MB_T_FFN_GATE_UP_EXPS},
    {MOE, "experts.gate_proj", MB_T_FFN_GATE_EXPS},
    {MOE, "experts.up_proj", MB_T_FFN_UP_EXPS},
    {MOE, "experts.down_proj", MB_T_FFN_DOWN_EXPS},
    {MOE, "experts.w1", MB_T_FFN_GATE_EXPS},
    {MOE, "experts.w3", MB_T_FFN_UP_EXPS},
    {MOE, "experts.w2", MB_T_FFN_DOWN_EXPS},
    {FFN, "input_linear", MB_T_FFN_GATE_UP_EXPS},
    {FFN, "output_linear", MB_T_FFN_DOWN_EXPS},
    {MIXER, "fc1_latent_proj", MB_T_FFN_LATENT_DOWN},
    {MIXER, "fc2_latent_proj", MB_T_FFN_LATENT_UP},
    {MOE, "shared_expert_gate", MB_T_FFN_GATE_INP_SHEXP},
    {MOE, "shared_expert.gate_proj", MB_T_FFN_GATE_SHEXP},
    {MOE, "shared_expert.up_proj", MB_T_FFN_UP_SHEXP},
    {MOE, "shared_expert.down_proj", MB_T_FFN_DOWN_SHEXP},
    {MOE, "shared_experts.gate_proj", MB_T_FFN_GATE_SHEXP},
    {MOE, "shared_experts.up_proj", MB_T_FFN_UP_SHEXP},
    {MOE, "shared_experts.gate_up_proj", MB_T_FFN_UP_SHEXP},
    {MOE, "shared_experts.down_proj", MB_T_FFN_DOWN_SHEXP},
    {SHARED, "input_linear", MB_T_FFN_UP_SHEXP},
    {SHARED, "output_linear", MB_T_FFN_DOWN_SHEXP},
    /* Before and after the layers. */
    {GLOBAL, "embed_tokens", MB_T_TOKEN_EMBD},
    {GLOBAL, "embeddings", MB_T_TOKEN_EMBD},
    {GLOBAL, "word_embeddings", MB_T_TOKEN_EMBD},
    {GLOBAL, "tok_embeddings", MB_T_TOKEN_EMBD},
    {GLOBAL, "wte", MB_T_TOKEN_EMBD},
    {GLOBAL, "wpe", MB_T_POSITION_EMBD},
    {GLOBAL, "embed_positions", MB_T_POSITION_EMBD},
    {GLOBAL, "embedding_norm", MB_T_TOKEN_EMBD_NORM},
    {GLOBAL, "embed_tokens_per_layer", MB_T_PER_LAYER_TOKEN_EMBD},
    {GLOBAL, "per_layer_model_projection", MB_T_PER_LAYER_MODEL_PROJ},
    {GLOBAL, "per_layer_projection_norm", MB_T_PER_LAYER_PROJ_NORM},
    {GLOBAL, "norm", MB_T_OUTPUT_NORM},
    {GLOBAL, "norm_f", MB_T_OUTPUT_NORM},
    {GLOBAL, "ln_f", MB_T_OUTPUT_NORM},
    {GLOBAL, "final_layernorm", MB_T_OUTPUT_NORM},
    {GLOBAL, "lm_head", MB_T_OUTPUT},
    {GLOBAL, "embed_out", MB_T_OUTPUT},
};
#undef MOE

/* Tails, a longer one before one that it ends in. Sources: the quantizers' own loaders in
 * transformers (fp8, gptq, awq, bitsandbytes, mxfp4), compressed-tensors, modelopt. */
static const struct {
    const char *tail;
    enum mb_hf_part part;
} tails[] = {
    {".weight", MB_HF_WEIGHT},
    {".weight_packed", MB_HF_PACKED},
    {".qweight", MB_HF_PACKED},
    {"_blocks", MB_HF_PACKED},
    {".bias", MB_HF_BIAS},
    {"_bias", MB_HF_BIAS},
    {".weight_scale_inv", MB_HF_SCALE},
    {".weight_scale_2", MB_HF_SCALE},
    {".weight_scale", MB_HF_SCALE},
    {".weight_global_scale", MB_HF_SCALE},
    {".weight_zero_point", MB_HF_SCALE},
    {".weight_shape", MB_HF_SCALE},
    {".weight_g_idx", MB_HF_SCALE},
    {".input_global_scale", MB_HF_SCALE},
    {".input_zero_point", MB_HF_SCALE},
    {".input_scale", MB_HF_SCALE},
    {".output_scale", MB_HF_SCALE},
    {".k_scale", MB_HF_SCALE},
    {".v_scale", MB_HF_SCALE},
    {".scale_inv", MB_HF_SCALE},
    {".scale", MB_HF_SCALE},
    {".scales", MB_HF_SCALE},
    {".qzeros", MB_HF_SCALE},
    {".g_idx", MB_HF_SCALE},
    {".SCB", MB_HF_SCALE},
    {".weight_format", MB_HF_SCALE},
    {".weight.absmax", MB_HF_SCALE},
    {".weight.quant_map", MB_HF_SCALE},
    {".weight.nested_absmax", MB_HF_SCALE},
    {".weight.nested_quant_map", MB_HF_SCALE},
    {".weight.quant_state.bitsandbytes__nf4", MB_HF_SCALE},
    {".weight.quant_state.bitsandbytes__fp4", MB_HF_SCALE},
    {"_weight_scale_inv", MB_HF_SCALE},
    {"_weight_scale_2", MB_HF_SCALE},
    {"_weight_scale", MB_HF_SCALE},
    {"_input_scale", MB_HF_SCALE},
    {"_scale_inv", MB_HF_SCALE},
    {"_scales", MB_HF_SCALE},
    {"_scale", MB_HF_SCALE},
};

static const char *const media[] = {"vision_tower.",
                                    "vision_model.",
                                    "vision_encoder.",
                                    "vision.",
                                    "visual.",
                                    "vit.",
                                    "audio_tower.",
                                    "audio_encoder.",
                                    "audio_model.",
                                    "audio.",
                                    "mm_projector.",
                                    "multi_modal_projector.",
                                    "embed_vision.",
                                    "embed_audio.",
                                    "multimodal_projector.",
                                    "image_newline",
                                    "mlp1.",
                                    "vision_language_adapter.",
                                    "talker.",
                                    "token2wav.",
                                    "code2wav.",
                                    "connector.",
                                    "patch_merger.",
                                    "vision_embedder.",
                                    "vision_adapter.",
                                    "embed_tokens_extend.",
                                    "vision_projection."};

static const char *const prefixes[] = {"model.",       "language_model.", "thinker.",
                                       "text_model.",  "backbone.",       "llm.",
                                       "transformer.", "decoder.",        "base_model."};

/* What follows the beginning, or NULL. */
static const char *after(const char *text, const char *beginning)
{
    size_t n = strlen(beginning);
    return strncmp(text, beginning, n) == 0 ? text + n : NULL;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static enum mb_tensor_kind find(unsigned module, const char *name, size_t n)
{
    for (size_t i = 0; i < MB_COUNT(names); i++) {
        if (names[i].modules & module && strncmp(names[i].name, name, n) == 0 && !names[i].name[n])
            return names[i].kind;
    }
    return MB_T_UNKNOWN;
}

/* Kind and part of what is left of a name. Names that end like a tail ("dt_bias") go first. */
static void place(unsigned module, const char *rest, struct mb_hf_name *out)
{
    size_t n = strlen(rest);
    out->kind = find(module, rest, n);
    for (size_t i = 0; i < MB_COUNT(tails) && out->kind == MB_T_UNKNOWN; i++) {
        size_t k = strlen(tails[i].tail);
        if (n <= k || strcmp(rest + n - k, tails[i].tail) != 0)
            continue;
        out->part = tails[i].part;
        out->kind = find(module, rest, n - k);
    }
}

/* "layers.12." or "h.12.": what follows, NULL: none. A number over the limit is told by *layer. */
static const char *take_layer(const char *name, uint32_t *layer)
{
    const char *number = after(name, "layers.");
    if (!number)
        number = after(name, "h.");
    if (!number || !is_digit(*number))
        return NULL;
    *layer = 0;
    for (; is_digit(*number); number++) {
        if (*layer < MB_LAYERS_MAX)
            *layer = *layer * 10 + (uint32_t)(*number - '0');
    }
    return *number == '.' ? number + 1 : NULL;
}

/* Past all prefixes, unless it ends at a projector, a tower or a block of its own. */
static const char *strip(const char *name, struct mb_hf_name *out)
{
    for (size_t i = 0; i < MB_COUNT(prefixes);) {
        const char *next = after(name, prefixes[i]);
        for (size_t k = 0; k < MB_COUNT(media); k++)
            out->media |= after(name, media[k]) != NULL;
        if (after(name, "mtp.")) {
            out->nextn = 1;
            return name + 4;
        }
        if (out->media)
            return name;
        i = next ? 0 : i + 1;
        if (next)
            name = next;
    }
    return name;
}

int mb_hf_parse(const char *name, struct mb_hf_name *out)
{
    char rest[256];
    uint32_t layer = 0;
    *out = (struct mb_hf_name){.layer = -1, .kind = MB_T_UNKNOWN};
    const char *at = strip(name, out);
    size_t n = strlen(at);
    if (out->media)
        return MB_OK;
    if (n >= 20 && strcmp(at + n - 20, ".rotary_emb.inv_freq") == 0) {
        out->kind = MB_T_ROPE_FREQS;
        out->buffer = 1;
    }
    const char *in_layer = take_layer(at, &layer);
    if (in_layer && layer >= MB_LAYERS_MAX)
        return MB_EFORMAT;
    if (in_layer || out->nextn)
        out->layer = (int32_t)layer;
    if (out->buffer)
        return MB_OK;
    unsigned module = in_layer ? LAYER : out->nextn ? 0 : GLOBAL;
    at = in_layer ? in_layer : at;
    /* "experts.17.up_proj" -> "experts.up_proj" */
    const char *experts = in_layer ? strstr(at, "experts.") : NULL,
               *end = experts ? experts + 8 : NULL;
    while (end && is_digit(*end))
        end++;
    if (end && end > experts + 8 && *end == '.') {
        out->expert_begin = (size_t)(experts + 8 - name);
        out->expert_end = (size_t)(end - name);
        n = (size_t)snprintf(rest, sizeof(rest), "%.*s%s",
                             (int)(experts + 8 - at < 128 ? experts + 8 - at : 128), at, end + 1);
    } else {
        n = (size_t)snprintf(rest, sizeof(rest), "%s", at);
    }
    if (n >= sizeof(rest))
        return MB_OK;
    at = rest;
    for (size_t i = 0; in_layer && i < MB_COUNT(modules); i++) {
        const char *inner = after(rest, modules[i].name);
        if (inner) {
            module = modules[i].module;
            at = inner;
            break;
        }
    }
    place(module, at, out);
    return MB_OK;
}
