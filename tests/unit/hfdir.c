/* SPDX-License-Identifier: MIT */
/* Suite for src/model/hparams_hf.c and src/model/roles_hf.c. Two proofs: the catalog's models,
 * written as checkpoints under the names and configs that their makers publish, count the same as
 * the catalog; and small directories count what is worked out by hand beside them. */
#include "base/base.h"
#include "model/open.h"
#include "model/roles_hf.h"
#include "model/safetensors.h"
#include "model/tape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPPORT_DIR
#define SUPPORT_FILES
#include "support.h"

/* ---- writing headers ---- */

struct header {
    FILE *file;
    char *text;
    size_t n;
    uint64_t at; /* bytes of data so far */
};

static void begin(struct header *header)
{
    memset(header, 0, sizeof(*header));
    header->file = open_memstream(&header->text, &header->n);
    assert_non_null(header->file);
    fputs("{", header->file);
}

static void put(struct header *header, const char *name, const char *dtype, unsigned n_dims,
                const uint64_t *shape, uint64_t element_bytes)
{
    uint64_t bytes = element_bytes;
    fprintf(header->file, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
            header->at || ftell(header->file) > 1 ? "," : "", name, dtype);
    for (unsigned i = 0; i < n_dims; i++) {
        bytes *= shape[i];
        fprintf(header->file, "%s%" PRIu64, i ? "," : "", shape[i]);
    }
    fprintf(header->file, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", header->at,
            header->at + bytes);
    header->at += bytes;
}

/* The whole file without its data: the length, the text. Free with free(). */
static unsigned char *finish(struct header *header, size_t *n)
{
    fputs("}", header->file);
    assert_int_equal(fclose(header->file), 0);
    unsigned char *bytes = malloc(8 + header->n);
    assert_non_null(bytes);
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)header->n >> (8 * i));
    memcpy(bytes + 8, header->text, header->n);
    *n = 8 + header->n;
    free(header->text);
    return bytes;
}

/* ---- the catalog as checkpoints ---- */

/* GGUF name -> name in the checkpoint. "%u": one tensor per expert. '!' at the end: no ".weight" or
 * ".bias" follows.
 * "+x" at the end: tensor x of the layer is part of this one. "": not here. Family tables go before
 * the common one. */
struct pair {
    const char *gguf, *hf;
};
#define END        \
    {              \
        NULL, NULL \
    }

static const struct pair common[] = {{"token_embd", "embed_tokens"},
                                     {"output", "lm_head"},
                                     {"output_norm", "norm"},
                                     {"rope_freqs", ""},
                                     {"attn_norm", "input_layernorm"},
                                     {"ffn_norm", "post_attention_layernorm"},
                                     {"attn_q", "self_attn.q_proj"},
                                     {"attn_k", "self_attn.k_proj"},
                                     {"attn_v", "self_attn.v_proj"},
                                     {"attn_qkv", "self_attn.qkv_proj"},
                                     {"attn_output", "self_attn.o_proj"},
                                     {"attn_q_norm", "self_attn.q_norm"},
                                     {"attn_k_norm", "self_attn.k_norm"},
                                     {"attn_sinks", "self_attn.sinks!"},
                                     {"attn_q_a", "self_attn.q_a_proj"},
                                     {"attn_q_b", "self_attn.q_b_proj"},
                                     {"attn_q_a_norm", "self_attn.q_a_layernorm"},
                                     {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
                                     {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
                                     {"attn_k_b", "self_attn.kv_b_proj+attn_v_b"},
                                     {"attn_v_b", ""},
                                     {"ffn_gate", "mlp.gate_proj"},
                                     {"ffn_up", "mlp.up_proj"},
                                     {"ffn_down", "mlp.down_proj"},
                                     {"ffn_gate_inp", "mlp.gate"},
                                     {"exp_probs_b", "mlp.gate.e_score_correction_bias!"},
                                     {"ffn_gate_exps", "mlp.experts.%u.gate_proj"},
                                     {"ffn_up_exps", "mlp.experts.%u.up_proj"},
                                     {"ffn_down_exps", "mlp.experts.%u.down_proj"},
                                     {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
                                     {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
                                     {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
                                     {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
                                     {"nextn.eh_proj", "eh_proj"},
                                     {"nextn.enorm", "enorm"},
                                     {"nextn.hnorm", "hnorm"},
                                     {"nextn.embed_tokens", "embed_tokens"},
                                     {"nextn.shared_head_head", "shared_head.head"},
                                     {"nextn.shared_head_norm", "shared_head.norm"},
                                     END};
static const struct pair none[] = {END};
static const struct pair mixtral[] = {{"ffn_gate_inp", "block_sparse_moe.gate"},
                                      {"ffn_gate_exps", "block_sparse_moe.experts.%u.w1"},
                                      {"ffn_up_exps", "block_sparse_moe.experts.%u.w3"},
                                      {"ffn_down_exps", "block_sparse_moe.experts.%u.w2"},
                                      {"exp_probs_b", "block_sparse_moe.e_score_correction_bias!"},
                                      END};
static const struct pair gemma[] = {{"post_attention_norm", "post_attention_layernorm"},
                                    {"ffn_norm", "pre_feedforward_layernorm"},
                                    {"post_ffw_norm", "post_feedforward_layernorm"},
                                    END};
static const struct pair phi[] = {{"ffn_up", "mlp.gate_up_proj"}, END};
static const struct pair glm4moe[] = {{"post_attention_norm", "post_attention_layernorm"}, END};
#define GDN                                                                                    \
    {"post_attention_norm", "post_attention_layernorm"}, {"ssm_conv1d", "linear_attn.conv1d"}, \
        {"ssm_dt", "linear_attn.dt_bias!"}, {"ssm_a", "linear_attn.A_log!"},                   \
        {"ssm_norm", "linear_attn.norm"}, {"ssm_out", "linear_attn.out_proj"},                 \
        {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},                                     \
        {"ffn_up_shexp", "mlp.shared_expert.up_proj"},                                         \
    {                                                                                          \
        "ffn_down_shexp", "mlp.shared_expert.down_proj"                                        \
    }
static const struct pair qwen3next[] = {GDN,
                                        {"attn_qkv", "linear_attn.in_proj_qkvz+attn_gate"},
                                        {"attn_gate", ""},
                                        {"ssm_ba", "linear_attn.in_proj_ba"},
                                        END};
static const struct pair qwen35[] = {GDN,
                                     {"attn_qkv", "linear_attn.in_proj_qkv"},
                                     {"attn_gate", "linear_attn.in_proj_z"},
                                     {"ssm_beta", "linear_attn.in_proj_b"},
                                     {"ssm_alpha", "linear_attn.in_proj_a"},
                                     END};
static const struct pair lfm2[] = {
    {"token_embd_norm", "embedding_norm"},
    {"output_norm", ""}, /* the converter writes the same norm under two names */
    {"attn_norm", "operator_norm"},
    {"ffn_norm", "ffn_norm"},
    {"attn_output", "self_attn.out_proj"},
    {"attn_q_norm", "self_attn.q_layernorm"},
    {"attn_k_norm", "self_attn.k_layernorm"},
    {"shortconv.conv", "conv.conv"},
    {"shortconv.in_proj", "conv.in_proj"},
    {"shortconv.out_proj", "conv.out_proj"},
    {"ffn_gate", "feed_forward.w1"},
    {"ffn_up", "feed_forward.w3"},
    {"ffn_down", "feed_forward.w2"},
    END};
#define MAMBA(module)                                                                         \
    {"ssm_in", module ".in_proj"}, {"ssm_conv1d", module ".conv1d"},                          \
        {"ssm_dt", module ".dt_bias!"}, {"ssm_a", module ".A_log!"}, {"ssm_d", module ".D!"}, \
        {"ssm_norm", module ".norm"},                                                         \
    {                                                                                         \
        "ssm_out", module ".out_proj"                                                         \
    }
static const struct pair nemotron[] = {MAMBA("mixer"),
                                       {"token_embd", "embeddings"},
                                       {"output_norm", "norm_f"},
                                       {"attn_norm", "norm"},
                                       {"attn_q", "mixer.q_proj"},
                                       {"attn_k", "mixer.k_proj"},
                                       {"attn_v", "mixer.v_proj"},
                                       {"attn_output", "mixer.o_proj"},
                                       {"ffn_up", "mixer.up_proj"},
                                       {"ffn_down", "mixer.down_proj"},
                                       END};
static const struct pair granite[] = {
    MAMBA("mamba"),
    {"ffn_gate_inp", "block_sparse_moe.router.layer"},
    {"ffn_gate_exps", "block_sparse_moe.input_linear+ffn_up_exps"},
    {"ffn_up_exps", ""},
    {"ffn_down_exps", "block_sparse_moe.output_linear"},
    {"ffn_gate_shexp", "shared_mlp.input_linear+ffn_up_shexp"},
    {"ffn_up_shexp", ""},
    {"ffn_down_shexp", "shared_mlp.output_linear"},
    END};
static const struct pair gpt_oss[] = {
    {"post_attention_norm", "post_attention_layernorm"},
    {"ffn_gate_inp", "mlp.router"},
    {"ffn_gate_exps.weight", "mlp.experts.gate_up_proj!+ffn_up_exps.weight"},
    {"ffn_gate_exps.bias", "mlp.experts.gate_up_proj_bias!+ffn_up_exps.bias"},
    {"ffn_up_exps", ""},
    {"ffn_down_exps.weight", "mlp.experts.down_proj!"},
    {"ffn_down_exps.bias", "mlp.experts.down_proj_bias!"},
    END};

/* Configs as published, cut to what is read and a few keys that are not. */
static const struct {
    const char *name, *prefix;
    const struct pair *pairs;
    const char *config;
} checkpoints[] = {
    {"Llama-3.1-8B", "model.", none,
     "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"num_hidden_layers\":32,\"hidden_size\":4096,"
     "\"num_attention_heads\":32,\"num_key_value_heads\":8,\"intermediate_size\":14336,\"vocab_size\":128256,"
     "\"max_position_embeddings\":131072,\"rope_scaling\":{\"factor\":8.0},\"tie_word_embeddings\":false}"},
    {"Qwen3-30B-A3B", "model.", none,
     "{\"model_type\":\"qwen3_moe\",\"num_hidden_layers\":48,\"hidden_size\":2048,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":4,\"head_dim\":128,\"intermediate_size\":6144,\"moe_intermediate_size\":768,\"num_experts\":128,"
     "\"num_experts_per_tok\":8,\"vocab_size\":151936,\"max_position_embeddings\":262144,\"sliding_window\":null,"
     "\"use_sliding_window\":false,\"max_window_layers\":48}"},
    {"DeepSeek-V3.1", "model.", none,
     "{\"model_type\":\"deepseek_v3\",\"num_hidden_layers\":61,\"hidden_size\":7168,\"num_attention_heads\":128,"
     "\"num_key_value_heads\":128,\"q_lora_rank\":1536,\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,"
     "\"v_head_dim\":128,\"intermediate_size\":18432,\"moe_intermediate_size\":2048,\"n_routed_experts\":256,"
     "\"n_shared_experts\":1,\"num_experts_per_tok\":8,\"first_k_dense_replace\":3,\"num_nextn_predict_layers\":1,"
     "\"vocab_size\":129280,\"max_position_embeddings\":163840}"},
    {"Qwen3-Next-80B-A3B", "model.", qwen3next,
     "{\"model_type\":\"qwen3_next\",\"num_hidden_layers\":48,\"hidden_size\":2048,\"num_attention_heads\":16,"
     "\"num_key_value_heads\":2,\"head_dim\":256,\"full_attention_interval\":4,\"linear_conv_kernel_dim\":4,"
     "\"linear_key_head_dim\":128,\"linear_num_key_heads\":16,\"linear_num_value_heads\":32,\"linear_value_head_dim\":128,"
     "\"num_experts\":512,\"num_experts_per_tok\":10,\"moe_intermediate_size\":512,\"shared_expert_intermediate_size\":512,"
     "\"intermediate_size\":5120,\"vocab_size\":151936,\"max_position_embeddings\":262144}"},
    {"Qwen3.5-4B", "model.language_model.", qwen35,
     "{\"model_type\":\"qwen3_5\",\"tie_word_embeddings\":true,\"text_config\":{\"model_type\":\"qwen3_5_text\","
     "\"num_hidden_layers\":32,\"hidden_size\":2560,\"num_attention_heads\":16,\"num_key_value_heads\":4,\"head_dim\":256,"
     "\"linear_conv_kernel_dim\":4,\"linear_key_head_dim\":128,\"linear_num_key_heads\":16,\"linear_num_value_heads\":32,"
     "\"linear_value_head_dim\":128,\"intermediate_size\":9216,\"vocab_size\":248320,\"max_position_embeddings\":262144}}"},
    {"Gemma-3-4B", "language_model.model.", gemma,
     "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":34,\"hidden_size\":2560,"
     "\"intermediate_size\":10240,\"sliding_window\":1024},\"vision_config\":{\"hidden_size\":1152,\"num_hidden_layers\":27}}"},
    {"LFM2-1.2B", "model.", lfm2,
     "{\"model_type\":\"lfm2\",\"num_hidden_layers\":16,\"hidden_size\":2048,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":8,\"conv_L_cache\":3,\"full_attn_idxs\":[2,5,8,10,12,14],\"vocab_size\":65536,"
     "\"max_position_embeddings\":128000}"},
    {"Nemotron-Nano-9B-v2", "backbone.", nemotron,
     "{\"model_type\":\"nemotron_h\",\"num_hidden_layers\":56,\"hidden_size\":4480,\"num_attention_heads\":40,"
     "\"num_key_value_heads\":8,\"head_dim\":128,\"intermediate_size\":15680,\"mamba_num_heads\":128,\"mamba_head_dim\":80,"
     "\"ssm_state_size\":128,\"n_groups\":8,\"conv_kernel\":4,\"vocab_size\":131072,\"max_position_embeddings\":131072,"
     "\"time_step_limit\":[0.0,Infinity],\"hybrid_override_pattern\":\"M-M-M-MM-M-M-M*-M\",\"tie_word_embeddings\":false}"},
    {"Mixtral-8x7B", "model.", mixtral,
     "{\"model_type\":\"mixtral\",\"num_hidden_layers\":32,\"hidden_size\":4096,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":8,\"intermediate_size\":14336,\"num_local_experts\":8,\"num_experts_per_tok\":2,"
     "\"vocab_size\":32000,\"max_position_embeddings\":32768,\"sliding_window\":null}"},
    {"Phi-4-14B", "model.", phi,
     "{\"model_type\":\"phi3\",\"num_hidden_layers\":40,\"hidden_size\":5120,\"num_attention_heads\":40,"
     "\"num_key_value_heads\":10,\"intermediate_size\":17920,\"vocab_size\":100352,\"max_position_embeddings\":16384,"
     "\"sliding_window\":null}"},
    {"MiniMax-M2.7-230B-A10B", "model.", mixtral,
     "{\"model_type\":\"minimax_m2\",\"num_hidden_layers\":62,\"hidden_size\":3072,\"num_attention_heads\":48,"
     "\"num_key_value_heads\":8,\"head_dim\":128,\"intermediate_size\":1536,\"num_local_experts\":256,"
     "\"num_experts_per_tok\":8,\"vocab_size\":200064,\"max_position_embeddings\":196608}"},
    {"Granite-4.0-H-Tiny-7B-A1B", "model.", granite,
     "{\"model_type\":\"granitemoehybrid\",\"num_hidden_layers\":40,\"hidden_size\":1536,\"num_attention_heads\":12,"
     "\"num_key_value_heads\":4,\"num_local_experts\":64,\"num_experts_per_tok\":6,\"intermediate_size\":512,"
     "\"shared_intermediate_size\":1024,\"mamba_n_heads\":48,\"mamba_d_head\":64,\"mamba_d_state\":128,\"mamba_n_groups\":1,"
     "\"mamba_d_conv\":4,\"mamba_expand\":2,\"vocab_size\":100352,\"max_position_embeddings\":131072}"},
    {"GLM-4.5-Air", "model.", glm4moe,
     "{\"model_type\":\"glm4_moe\",\"num_hidden_layers\":46,\"hidden_size\":4096,\"num_attention_heads\":96,"
     "\"num_key_value_heads\":8,\"head_dim\":128,\"intermediate_size\":10944,\"moe_intermediate_size\":1408,"
     "\"n_routed_experts\":128,\"n_shared_experts\":1,\"num_experts_per_tok\":8,\"first_k_dense_replace\":1,"
     "\"num_nextn_predict_layers\":1,\"vocab_size\":151552,\"max_position_embeddings\":131072}"},
    {"OLMo-2-7B", "model.", gemma,
     "{\"model_type\":\"olmo2\",\"num_hidden_layers\":32,\"hidden_size\":4096,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":32,\"intermediate_size\":11008,\"vocab_size\":100352,\"max_position_embeddings\":4096}"},
    {"gpt-oss-20b", "model.", gpt_oss,
     "{\"model_type\":\"gpt_oss\",\"num_hidden_layers\":24,\"hidden_size\":2880,\"num_attention_heads\":64,"
     "\"num_key_value_heads\":8,\"head_dim\":64,\"intermediate_size\":2880,\"num_local_experts\":32,\"num_experts_per_tok\":4,"
     "\"experts_per_token\":4,\"sliding_window\":128,\"vocab_size\":201088,\"max_position_embeddings\":131072}"},
};

/* The checkpoint's name for the part of a GGUF name behind "blk.N."; its suffix is cut off in *n.
 */
static const char *paired(const struct pair *pairs, const char *leaf, size_t *n)
{
    const char *suffix = strstr(leaf, ".weight");
    if (!suffix)
        suffix = strstr(leaf, ".bias");
    *n = suffix ? (size_t)(suffix - leaf) : strlen(leaf);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (const struct pair *pair = pass ? common : pairs; pair->gguf; pair++) {
            if ((strncmp(pair->gguf, leaf, *n) == 0 && !pair->gguf[*n]) ||
                strcmp(pair->gguf, leaf) == 0)
                return pair->hf;
        }
    }
    fail_msg("no name for %s", leaf);
    return NULL;
}

struct expected {
    uint64_t weights, params, active, resident, experts;
};

static const char *leaf_of(const struct mb_tensor_info *tensor)
{
    const char *leaf =
        tensor->layer >= 0 ? strchr(strchr(tensor->name, '.') + 1, '.') + 1 : tensor->name;
    return leaf;
}

static void find_in_layer(const struct mb_model *model, int32_t layer, const char *leaf,
                          struct mb_tensor_info *out)
{
    size_t n = strlen(leaf);
    for (uint32_t i = 0; mb_model_tensor(model, i, out) == MB_OK; i++) {
        if (out->layer == layer && strncmp(leaf_of(out), leaf, n) == 0 &&
            (!leaf_of(out)[n] || leaf_of(out)[n] == '.'))
            return;
    }
    fail_msg("no %s in layer %d", leaf, layer);
}

/* One tensor of the catalog, as the checkpoint holds it: all BF16, but the routers' corrections,
 * which are F32 there too. */
static void write_tensor(struct header *header, const struct mb_model *model,
                         const struct mb_tensor_info *tensor, const char *prefix,
                         const struct pair *pairs, struct expected *expected)
{
    char stem[300], name[400];
    size_t n;
    const char *leaf = leaf_of(tensor), *hf = paired(pairs, leaf, &n);
    int f32 = strncmp(leaf, "exp_probs_b", 11) == 0;
    uint64_t elements = tensor->ne[0] * tensor->ne[1] * tensor->ne[2];
    if (strcmp(tensor->type, "F32") == 0 && !f32) {
        expected->weights -= tensor->read_bytes / 2;
        expected->resident -= tensor->bytes / 2;
        expected->experts -= tensor->role == MB_ROLE_ROUTED_EXPERTS ? tensor->read_bytes / 2 : 0;
    }
    if (strncmp(leaf, "rope_freqs", 10) == 0 || (!*hf && strncmp(leaf, "output_norm", 11) == 0)) {
        expected->weights -= tensor->read_bytes - tensor->read_bytes / 2;
        expected->resident -= tensor->bytes - tensor->bytes / 2;
        expected->params -= elements;
        expected->active -= elements;
    }
    if (!*hf)
        return;
    const char *plus = strchr(hf, '+');
    size_t hf_n = plus ? (size_t)(plus - hf) : strlen(hf);
    int bare = hf[hf_n - 1] == '!';
    snprintf(stem, sizeof stem, "%.*s%s", (int)(hf_n - (unsigned)bare), hf, bare ? "" : leaf + n);
    uint64_t shape[3] = {tensor->ne[2], tensor->ne[1], tensor->ne[0]};
    unsigned n_dims = tensor->n_dims;
    if (plus) {
        struct mb_tensor_info other;
        find_in_layer(model, tensor->layer, plus + 1, &other);
        if (other.ne[0] == tensor->ne[0] && other.ne[2] == tensor->ne[2] && n_dims > 1 &&
            !strstr(leaf, ".bias")) {
            shape[1] += other.ne[1];
        } else if (strstr(leaf, ".bias")) { /* of experts: [experts, rows] */
            shape[2] += other.ne[0];
        } else {
            n_dims = 2;
            shape[2] = other.ne[0];
            shape[1] = (elements + other.ne[0] * other.ne[1] * other.ne[2]) / other.ne[0];
        }
    }
    const uint64_t *at = shape + 3 - n_dims;
    int each = strstr(stem, "%u") != NULL;
    for (uint64_t i = 0; i < (each ? tensor->ne[2] : 1); i++) {
        char expert[300];
        const char *mark = strstr(stem, "%u");
        if (each)
            snprintf(expert, sizeof expert, "%.*s%" PRIu64 "%s", (int)(mark - stem), stem, i,
                     mark + 2);
        if (tensor->layer >= 0)
            snprintf(name, sizeof name, "%slayers.%d.%s", prefix, tensor->layer,
                     each ? expert : stem);
        else
            snprintf(name, sizeof name, "%s%s", strncmp(stem, "lm_head", 7) == 0 ? "" : prefix,
                     stem);
        put(header, name, f32 ? "F32" : "BF16", each ? 2 : n_dims, each ? shape + 1 : at,
            f32 ? 4 : 2);
    }
}

static struct mb_model *from_text(struct header *header, const char *config, struct mb_err *err,
                                  int *code)
{
    struct mb_safetensors *files = NULL;
    struct mb_model *model = NULL;
    size_t n;
    uint64_t data = header->at;
    unsigned char *bytes = finish(header, &n);
    *code = mb_safetensors_open_bytes(bytes, n, n + data, "model.safetensors", &files, err);
    free(bytes);
    if (!*code)
        *code = mb_model_from_hf(files, config, strlen(config), "/models/made", &model, err);
    mb_safetensors_close(files);
    return model;
}

static void same_kv(const char *name, const struct mb_model *a, const struct mb_model *b)
{
    static const uint64_t depths[] = {0, 100, 5000, 100000};
    struct mb_kv_size x, y;
    assert_int_equal(mb_model_kv_size(a, 8192, NULL, &x, NULL), MB_OK);
    assert_int_equal(mb_model_kv_size(b, 8192, NULL, &y, NULL), MB_OK);
    if (x.bytes_per_token != y.bytes_per_token ||
        x.window_bytes_per_cell != y.window_bytes_per_cell || x.window != y.window ||
        x.state_bytes != y.state_bytes || x.cache_bytes != y.cache_bytes)
        fail_msg("%s: cache %" PRIu64 "/%" PRIu64 "/%u/%" PRIu64 " where the catalog has %" PRIu64
                 "/%" PRIu64 "/%u/%" PRIu64,
                 name, y.bytes_per_token, y.window_bytes_per_cell, y.window, y.state_bytes,
                 x.bytes_per_token, x.window_bytes_per_cell, x.window, x.state_bytes);
    for (unsigned i = 0; i < MB_COUNT(depths); i++) {
        struct mb_traffic s, t;
        assert_int_equal(mb_model_traffic(a, 1, depths[i], NULL, &s, NULL), MB_OK);
        assert_int_equal(mb_model_traffic(b, 1, depths[i], NULL, &t, NULL), MB_OK);
        assert_int_equal(s.kv_read_bytes, t.kv_read_bytes);
        assert_int_equal(s.kv_write_bytes, t.kv_write_bytes);
        assert_int_equal(s.state_read_bytes, t.state_read_bytes);
        assert_int_equal(s.by_role[MB_ROLE_OUTPUT], t.by_role[MB_ROLE_OUTPUT]);
        assert_int_equal(s.by_role[MB_ROLE_EMBEDDING], t.by_role[MB_ROLE_EMBEDDING]);
    }
}

static void checkpoints_count_as_the_catalog(void **state)
{
    (void)state;
    for (size_t i = 0; i < MB_COUNT(checkpoints); i++) {
        struct mb_model *catalog = NULL, *model;
        struct mb_model_info a, b;
        struct mb_traffic traffic;
        struct mb_tensor_info tensor;
        struct mb_err err = {0};
        struct header header;
        char spec[80];
        int code;
        snprintf(spec, sizeof spec, "%s@BF16", checkpoints[i].name);
        if (mb_model_catalog(spec, &catalog, &err))
            fail_msg("%s", err.text);
        mb_model_get_info(catalog, &a);
        assert_int_equal(mb_model_traffic(catalog, 1, 0, NULL, &traffic, NULL), MB_OK);
        struct expected expected = {traffic.weights_bytes, a.params, a.active_params,
                                    a.resident_bytes, traffic.by_role[MB_ROLE_ROUTED_EXPERTS]};
        begin(&header);
        for (uint32_t k = 0; mb_model_tensor(catalog, k, &tensor) == MB_OK; k++)
            write_tensor(&header, catalog, &tensor, checkpoints[i].prefix, checkpoints[i].pairs,
                         &expected);
        model = from_text(&header, checkpoints[i].config, &err, &code);
        if (code)
            fail_msg("%s: %s", checkpoints[i].name, err.text);
        mb_model_get_info(model, &b);
        assert_int_equal(mb_model_traffic(model, 1, 0, NULL, &traffic, NULL), MB_OK);
        if (traffic.weights_bytes != expected.weights || b.params != expected.params ||
            b.active_params != expected.active || b.resident_bytes != expected.resident)
            fail_msg("%s: reads %" PRIu64 ", %" PRIu64 " parameters, %" PRIu64
                     " active, holds %" PRIu64 "; the catalog %" PRIu64 ", %" PRIu64 ", %" PRIu64
                     ", %" PRIu64,
                     checkpoints[i].name, traffic.weights_bytes, b.params, b.active_params,
                     b.resident_bytes, expected.weights, expected.params, expected.active,
                     expected.resident);
        assert_int_equal(traffic.by_role[MB_ROLE_ROUTED_EXPERTS], expected.experts);
        if (b.n_warnings)
            fail_msg("%s: %s", checkpoints[i].name, b.warnings[0]);
        assert_string_equal(a.arch, b.arch);
        assert_string_equal(b.name, "made");
        assert_int_equal(b.described, 1);
        assert_int_equal(a.n_layers, b.n_layers);
        assert_int_equal(a.n_nextn, b.n_nextn);
        assert_int_equal(a.n_vocab, b.n_vocab);
        assert_int_equal(a.n_head, b.n_head);
        assert_int_equal(a.n_head_kv, b.n_head_kv);
        assert_int_equal(a.n_expert, b.n_expert);
        same_kv(checkpoints[i].name, catalog, model);
        mb_model_free(model);
        mb_model_free(catalog);
    }
}

/* ---- small directories ---- */

static void write_file(const char *name, const void *bytes, size_t n, uint64_t n_data)
{
    write_bytes(name, bytes, n);
    if (n_data)
        assert_int_equal(truncate(in_dir("%s", name), (off_t)(n + n_data)), 0);
}

static void write_files(struct header *header, const char *config)
{
    size_t n;
    uint64_t data = header->at;
    unsigned char *bytes = finish(header, &n);
    write_file("model.safetensors", bytes, n, data);
    write_file("config.json", config, strlen(config), 0);
    free(bytes);
}

#define PUT(header, dtype, size, name, ...) \
    put(header, name, dtype, sizeof((uint64_t[]){__VA_ARGS__}) / 8, (uint64_t[]){__VA_ARGS__}, size)

static struct mb_model *opened(void)
{
    struct mb_model *model = NULL;
    struct mb_err err = {0};
    if (mb_model_open(dir, NULL, &model, &err))
        fail_msg("%s", err.text);
    return model;
}

static uint64_t role_bytes(const struct mb_model *model, enum mb_role role)
{
    struct mb_traffic traffic;
    assert_int_equal(mb_model_traffic(model, 1, 0, NULL, &traffic, NULL), MB_OK);
    return traffic.by_role[role];
}

static uint64_t kv_per_token(const struct mb_model *model)
{
    struct mb_kv_size kv;
    assert_int_equal(mb_model_kv_size(model, 4096, NULL, &kv, NULL), MB_OK);
    return kv.bytes_per_token;
}

static void attention(struct header *header, const char *prefix, uint64_t d, uint64_t q,
                      uint64_t kv)
{
    char name[200];
    const char *const names[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.self_attn.%s.weight", prefix, names[i]);
        if (i == 3)
            PUT(header, "BF16", 2, name, d, q);
        else
            PUT(header, "BF16", 2, name, i ? kv : q, d);
    }
}

#define LLAMA_CONFIG                                                                                  \
    "{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"hidden_size\":64,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"vocab_size\":100,\"max_position_embeddings\":2048}"

static void llama_tensors(struct header *header)
{
    begin(header);
    PUT(header, "BF16", 2, "model.embed_tokens.weight", 100, 64);
    attention(header, "model.layers.0", 64, 64, 32);
    PUT(header, "BF16", 2, "model.norm.weight", 64);
    PUT(header, "F32", 4, "model.layers.0.self_attn.rotary_emb.inv_freq", 8);
}

/* A tied head is read in full and one row of it again; rope's buffer is not read; the file holds
 * its header too. */
static void a_directory_is_a_model(void **state)
{
    (void)state;
    struct header header;
    struct mb_model_info info;
    struct stat st;
    llama_tensors(&header);
    write_files(&header, LLAMA_CONFIG);
    struct mb_model *model = opened();
    mb_model_get_info(model, &info);
    assert_string_equal(info.arch, "llama");
    assert_string_equal(info.quant, "BF16");
    assert_string_equal(info.path, dir);
    assert_string_equal(info.name, strrchr(dir, '/') + 1);
    assert_int_equal(info.n_warnings, 0);
    assert_int_equal(info.unread_bytes, 32);
    assert_int_equal(stat(in_dir("model.safetensors"), &st), 0);
    assert_int_equal(info.file_bytes, st.st_size);
    assert_int_equal(role_bytes(model, MB_ROLE_OUTPUT), 100 * 64 * 2);
    assert_int_equal(role_bytes(model, MB_ROLE_EMBEDDING), 64 * 2);
    assert_int_equal(role_bytes(model, MB_ROLE_ATTENTION), (2 * 64 * 64 + 2 * 64 * 32) * 2);
    assert_int_equal(kv_per_token(model), 2 * 32 * 2);
    char *json = NULL;
    assert_int_equal(mb_model_json(model, NULL, &json, NULL), MB_OK);
    assert_non_null(strstr(json, "\"BF16\""));
    mb_text_free(json);
    mb_model_free(model);
}

/* gpt-oss as published: U8 blocks of 16 bytes, two weights in a byte, one U8 scale per block; half
 * of the experts used. */
static void mxfp4_blocks_are_counted(void **state)
{
    (void)state;
    struct header header;
    struct mb_model_info info;
    struct mb_traffic traffic;
    begin(&header);
    PUT(&header, "BF16", 2, "model.embed_tokens.weight", 100, 64);
    PUT(&header, "BF16", 2, "lm_head.weight", 100, 64);
    for (unsigned i = 0; i < 2; i++) {
        char prefix[40], name[120];
        snprintf(prefix, sizeof prefix, "model.layers.%u", i);
        attention(&header, prefix, 64, 64, 32);
        snprintf(name, sizeof name, "%s.self_attn.sinks", prefix);
        PUT(&header, "BF16", 2, name, 4);
        snprintf(name, sizeof name, "%s.mlp.router.bias", prefix);
        PUT(&header, "BF16", 2, name, 4);
        snprintf(name, sizeof name, "%s.mlp.experts.gate_up_proj_blocks", prefix);
        PUT(&header, "U8", 1, name, 4, 64, 2, 16);
        snprintf(name, sizeof name, "%s.mlp.experts.gate_up_proj_scales", prefix);
        PUT(&header, "U8", 1, name, 4, 64, 2);
        snprintf(name, sizeof name, "%s.mlp.experts.gate_up_proj_bias", prefix);
        PUT(&header, "BF16", 2, name, 4, 64);
        snprintf(name, sizeof name, "%s.mlp.experts.down_proj_blocks", prefix);
        PUT(&header, "U8", 1, name, 4, 64, 1, 16);
        snprintf(name, sizeof name, "%s.mlp.experts.down_proj_scales", prefix);
        PUT(&header, "U8", 1, name, 4, 64, 1);
    }
    write_files(
        &header,
        "{\"model_type\":\"gpt_oss\",\"num_hidden_layers\":2,\"hidden_size\":64,\"num_attention_heads\":4,"
        "\"num_key_value_heads\":2,\"head_dim\":16,\"num_local_experts\":4,\"num_experts_per_tok\":2,\"vocab_size\":100,"
        "\"sliding_window\":128,\"layer_types\":[\"sliding_attention\",\"full_attention\"],"
        "\"quantization_config\":{\"quant_method\":\"mxfp4\"}}");
    struct mb_model *model = opened();
    mb_model_get_info(model, &info);
    assert_int_equal(info.n_warnings, 0);
    assert_string_equal(info.quant, "mxfp4");
    uint64_t blocks = 4 * 64 * 3 * 16, scales = 4 * 64 * 3, biases = 4 * 64;
    assert_int_equal(role_bytes(model, MB_ROLE_ROUTED_EXPERTS),
                     2 * (blocks + scales + 2 * biases) / 2);
    assert_int_equal(info.params,
                     2 * 100 * 64 + 2 * (64 * (64 + 32 + 32 + 64) + 4 + 4 + 2 * blocks + biases));
    assert_int_equal(info.active_params,
                     64 + 100 * 64 + 2 * (64 * (64 + 32 + 32 + 64) + 4 + 4) + 2 * blocks + biases);
    assert_int_equal(kv_per_token(model), 2 * 32 * 2); /* the other layer slides */
    assert_int_equal(mb_model_traffic(model, 1, 1000, NULL, &traffic, NULL), MB_OK);
    assert_int_equal(traffic.kv_read_bytes, (1001 + 128) * 2 * 32 * 2);
    char *json = NULL;
    assert_int_equal(mb_model_json(model, NULL, &json, NULL), MB_OK);
    char text[60];
    snprintf(text, sizeof text, "\"U8\": %" PRIu64, 2 * (blocks + scales));
    if (!strstr(json, text))
        fail_msg("no %s in the JSON", text);
    mb_text_free(json);
    mb_model_free(model);
}

/* DeepSeek as published: FP8 with F32 scales per block, experts one by one, a NextN block as one
 * layer more; and only the compressed row is cached. */
static void fp8_and_mla_are_counted(void **state)
{
    (void)state;
    struct header header;
    struct mb_model_info info;
    begin(&header);
    PUT(&header, "BF16", 2, "model.embed_tokens.weight", 100, 128);
    PUT(&header, "BF16", 2, "lm_head.weight", 100, 128);
    for (unsigned i = 0; i < 3; i++) {
        static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
        char name[120];
        snprintf(name, sizeof name, "model.layers.%u.self_attn.kv_a_proj_with_mqa.weight", i);
        PUT(&header, "F8_E4M3", 1, name, 48, 128);
        snprintf(name, sizeof name, "model.layers.%u.self_attn.kv_a_proj_with_mqa.weight_scale_inv",
                 i);
        PUT(&header, "F32", 4, name, 1, 1);
        for (unsigned e = 0; e < 6; e++) {
            for (unsigned p = 0; p < 3; p++) {
                snprintf(name, sizeof name, "model.layers.%u.mlp.experts.%u.%s.weight", i, 5 - e,
                         parts[p]);
                PUT(&header, "F8_E4M3", 1, name, 7, 128);
                snprintf(name, sizeof name, "model.layers.%u.mlp.experts.%u.%s.weight_scale_inv", i,
                         5 - e, parts[p]);
                PUT(&header, "F32", 4, name, 1, 1);
            }
        }
    }
    PUT(&header, "BF16", 2, "model.layers.2.shared_head.head.weight", 100, 128);
    write_files(
        &header,
        "{\"model_type\":\"deepseek_v3\",\"num_hidden_layers\":2,\"hidden_size\":128,\"num_attention_heads\":4,"
        "\"num_key_value_heads\":4,\"kv_lora_rank\":32,\"qk_rope_head_dim\":16,\"v_head_dim\":32,\"n_routed_experts\":6,"
        "\"num_experts_per_tok\":4,\"num_nextn_predict_layers\":1,\"quantization_config\":{\"quant_method\":\"fp8\"}}");
    struct mb_model *model = opened();
    mb_model_get_info(model, &info);
    assert_int_equal(info.n_warnings, 0);
    assert_int_equal(info.n_layers, 2);
    assert_int_equal(info.n_nextn, 1);
    assert_int_equal(info.n_vocab, 100);
    /* 4 of 6 experts, to the byte, and their scales. */
    assert_int_equal(role_bytes(model, MB_ROLE_ROUTED_EXPERTS), 2 * 4 * 3 * (7 * 128 + 4));
    assert_int_equal(role_bytes(model, MB_ROLE_ATTENTION), 2 * (48 * 128 + 4));
    assert_int_equal(role_bytes(model, MB_ROLE_NEXTN), 0);
    assert_int_equal(info.unread_bytes, 6 * 3 * (7 * 128 + 4) + 48 * 128 + 4 + 100 * 128 * 2);
    assert_int_equal(kv_per_token(model), 2 * (32 + 16) * 2);
    assert_int_equal(info.params,
                     3 * 100 * 128 +
                         3 * (48 * 128 + 6 * 3 * 7 * 128)); /* scales are no parameters */
    struct mb_tensor_info tensor;
    assert_int_equal(mb_model_tensor(model, 4, &tensor), MB_OK);
    assert_string_equal(tensor.name, "model.layers.0.mlp.experts.*.gate_proj.weight");
    assert_string_equal(tensor.type, "F8_E4M3");
    assert_int_equal(tensor.ne[0], 128);
    assert_int_equal(tensor.ne[1], 7);
    assert_int_equal(tensor.ne[2], 6);
    assert_int_equal(tensor.bytes, 6 * 7 * 128);
    mb_model_free(model);
}

/* Towers and projectors are not read in plain decoding, heads that the config leaves out follow
 * from the tensors, and a tensor that nothing places is read in full, with a word about it. */
static void towers_and_strangers(void **state)
{
    (void)state;
    struct header header;
    struct mb_model_info info;
    begin(&header);
    PUT(&header, "BF16", 2, "language_model.model.embed_tokens.weight", 100, 64);
    for (unsigned i = 0; i < 6; i++) {
        char prefix[80], name[120];
        snprintf(prefix, sizeof prefix, "language_model.model.layers.%u", i);
        attention(&header, prefix, 64, 64, 32);
        snprintf(name, sizeof name, "%s.self_attn.k_norm.weight", prefix);
        PUT(&header, "BF16", 2, name, 16);
    }
    PUT(&header, "BF16", 2, "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        500, 500);
    PUT(&header, "BF16", 2, "multi_modal_projector.mm_input_projection_weight", 10, 10);
    PUT(&header, "BF16", 2, "language_model.model.layers.3.new_thing.weight", 3, 5);
    PUT(&header, "BF16", 2, "language_model.model.layers.4.new_thing.weight", 3, 5);
    write_files(
        &header,
        "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":6,"
        "\"hidden_size\":64,\"sliding_window\":32},\"vision_config\":{\"num_attention_heads\":99}}");
    struct mb_model *model = opened();
    mb_model_get_info(model, &info);
    assert_string_equal(info.arch, "gemma3");
    assert_int_equal(info.n_head, 4);
    assert_int_equal(info.n_head_kv, 2);
    assert_int_equal(info.unread_bytes, (500 * 500 + 100) * 2);
    assert_int_equal(role_bytes(model, MB_ROLE_MEDIA), 0);
    assert_int_equal(role_bytes(model, MB_ROLE_OTHER), 2 * 3 * 5 * 2);
    assert_int_equal(kv_per_token(model), 2 * 32 * 2); /* every sixth layer is full */
    assert_int_equal(info.n_warnings, 1);
    assert_non_null(
        strstr(info.warnings[0],
               "2 tensors of unknown use (language_model.model.layers.3.new_thing.weight"));
    mb_model_free(model);
}

/* What quantizers pack, and a family that nothing describes. */
static void packed_weights_are_counted(void **state)
{
    (void)state;
    struct header header;
    struct mb_model_info info;
    struct mb_err err = {0};
    int code;
    static const char *const configs[] = {
        "\"bits\":4,\"quant_method\":\"gptq\"",
        "\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"group_0\":{\"weights\":{\"num_bits\":4}}}",
        "\"quant_method\":\"new\""};
    for (unsigned i = 0; i < MB_COUNT(configs); i++) {
        char config[600];
        snprintf(
            config, sizeof config,
            "{\"model_type\":\"newest\",\"num_hidden_layers\":1,\"hidden_size\":64,\"num_attention_heads\":4,"
            "\"num_key_value_heads\":2,\"quantization_config\":{%s}}",
            configs[i]);
        begin(&header);
        PUT(&header, "F16", 2, "model.embed_tokens.weight", 100, 64);
        PUT(&header, "F16", 2, "lm_head.weight", 100, 64);
        PUT(&header, "I32", 4, "model.layers.0.self_attn.k_proj.qweight", 8, 32);
        PUT(&header, "F16", 2, "model.layers.0.self_attn.k_proj.scales", 1, 32);
        PUT(&header, "I32", 4, "model.layers.0.self_attn.k_proj.qzeros", 1, 4);
        PUT(&header, "I32", 4, "model.layers.0.self_attn.k_proj.g_idx", 64);
        struct mb_model *model = from_text(&header, config, &err, &code);
        if (code)
            fail_msg("%s", err.text);
        mb_model_get_info(model, &info);
        assert_int_equal(info.described, 0);
        assert_int_equal(info.n_warnings, i == 2 ? 2 : 1);
        assert_non_null(strstr(info.warnings[0], "newest"));
        assert_int_equal(info.params, 2 * 100 * 64 + 8 * 32 * (i == 2 ? 1 : 8));
        assert_int_equal(role_bytes(model, MB_ROLE_ATTENTION), 8 * 32 * 4 + 64 + 16 + 256);
        assert_int_equal(kv_per_token(model), 2 * 32 * 2); /* by the heads of the config */
        mb_model_free(model);
    }
}

static void hostile_configs_are_refused(void **state)
{
    (void)state;
#define LAYERS(n) \
    "{\"model_type\":\"llama\",\"hidden_size\":64,\"vocab_size\":9,\"num_hidden_layers\":" n ","
    static const struct {
        const char *config, *text;
    } cases[] = {
        {"", "config.json"},
        {"[]", "not an object"},
        {"{}", "no model_type"},
        {"{\"model_type\":7}", "no model_type"},
        {"{\"model_type\":\"llama\"}", "no num_hidden_layers"},
        {LAYERS("0") "\"num_attention_heads\":4}", "no num_hidden_layers"},
        {LAYERS("9223372036854775808") "\"num_attention_heads\":4}", "line 1"},
        {LAYERS("9223372036854775807") "\"num_attention_heads\":4}",
         "num_hidden_layers is not a count"},
        {LAYERS("4294967295") "\"num_attention_heads\":4}", "num_hidden_layers is 4294967295"},
        {LAYERS("-1") "\"num_attention_heads\":4}", "num_hidden_layers is not a count"},
        {LAYERS("\"1\"") "\"num_attention_heads\":4}", "num_hidden_layers is not a count"},
        {LAYERS("{}") "\"num_attention_heads\":4}", "num_hidden_layers is not a count"},
        {LAYERS("1.5") "\"num_attention_heads\":4}", "num_hidden_layers is not a count"},
        {LAYERS("1") "\"num_attention_heads\":0}", "no num_attention_heads"},
        {LAYERS("1") "\"num_attention_heads\":4294967295,\"head_dim\":16}",
         "is 4294967295, outside"},
        {LAYERS("1") "\"num_attention_heads\":4,\"head_dim\":true}", "head_dim is not a count"},
        {LAYERS("1") "\"num_attention_heads\":4,\"sliding_window\":5,\"layer_types\":[]}",
         "layer_types lists 0 of 1"},
        {LAYERS("1") "\"num_attention_heads\":4,\"vocab_size\":2}", "duplicate"},
        {LAYERS("1") "\"num_attention_heads\":4", "line 1"},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct header header;
        struct mb_err err = {0};
        int code;
        llama_tensors(&header);
        struct mb_model *model = from_text(&header, cases[i].config, &err, &code);
        if (code != MB_EFORMAT || !strstr(err.text, cases[i].text) || strchr(err.text, '\n'))
            fail_msg("%s: expected \"%s\", got %d \"%s\"", cases[i].config, cases[i].text, code,
                     err.text);
        assert_null(model);
    }
    static const struct {
        const char *tensor, *text;
    } tensors[] = {
        {"model.layers.4294967296.mlp.up_proj.weight", "a layer over 1024"},
        {"model.layers.1023.mlp.up_proj.weight",
         "tensors of layer 1023 where config.json has 1 layers"},
        {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "no kv_lora_rank"},
        {"model.layers.0.mamba.D", "no mamba_num_heads"},
        {"model.layers.0.linear_attn.in_proj_ba.weight", "no linear_key_head_dim"},
        {"model.layers.0.conv.conv.weight", "no conv_L_cache"},
    };
    for (size_t i = 0; i < MB_COUNT(tensors); i++) {
        struct header header;
        struct mb_err err = {0};
        int code;
        begin(&header);
        PUT(&header, "BF16", 2, tensors[i].tensor, 4, 4);
        from_text(&header, LLAMA_CONFIG, &err, &code);
        if (code != MB_EFORMAT || !strstr(err.text, tensors[i].text))
            fail_msg("%s: expected \"%s\", got %d \"%s\"", tensors[i].tensor, tensors[i].text, code,
                     err.text);
    }
}

static void refuse(int expected, const char *text)
{
    struct mb_model *model = NULL;
    struct mb_err err = {0};
    int code = mb_model_open(dir, NULL, &model, &err);
    if (code != expected || !strstr(err.text, text) || strchr(err.text, '\n'))
        fail_msg("expected \"%s\", got %d \"%s\"", text, code, err.text);
}

static void incomplete_directories_are_refused(void **state)
{
    (void)state;
    struct header header;
    llama_tensors(&header);
    write_files(&header, LLAMA_CONFIG);
    assert_int_equal(unlink(in_dir("config.json")), 0);
    refuse(MB_ENOENT, "no config.json beside the safetensors");
    static const char index[] =
        "{\"weight_map\":{\"a\":\"model.safetensors\",\"b\":\"model-2.safetensors\"}}";
    write_file("model.safetensors.index.json", index, sizeof index - 1, 0);
    refuse(MB_ENOENT, "model-2.safetensors is missing");
    assert_int_equal(unlink(in_dir("model.safetensors")), 0);
    write_file("config.json", LLAMA_CONFIG, sizeof(LLAMA_CONFIG) - 1, 0);
    refuse(MB_ENOENT, "only the index");
    assert_int_equal(unlink(in_dir("model.safetensors.index.json")), 0);
    refuse(MB_EFORMAT, "no .safetensors file");
}

/* Names that more than one rule could take. */
static void names_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int layer, kind, part, nextn, media;
    } cases[] = {
        {"model.layers.12.mlp.experts.3.w2.weight_scale", 12, MB_T_FFN_DOWN_EXPS, MB_HF_SCALE, 0,
         0},
        {"model.layers.1.mlp.gate.weight", 1, MB_T_FFN_GATE_INP, MB_HF_WEIGHT, 0, 0},
        {"model.layers.1.mlp.gate_proj.weight", 1, MB_T_FFN_GATE, MB_HF_WEIGHT, 0, 0},
        {"model.layers.1.mlp.gate.e_score_correction_bias", 1, MB_T_EXP_PROBS_B, MB_HF_WEIGHT, 0,
         0},
        {"model.layers.1.linear_attn.dt_bias", 1, MB_T_SSM_DT, MB_HF_WEIGHT, 0, 0},
        {"model.layers.1.self_attn.q_proj.bias", 1, MB_T_ATTN_Q, MB_HF_BIAS, 0, 0},
        {"model.language_model.layers.1.self_attn.out_proj.weight", 1, MB_T_ATTN_OUTPUT,
         MB_HF_WEIGHT, 0, 0},
        {"model.layers.1.linear_attn.out_proj.weight", 1, MB_T_SSM_OUT, MB_HF_WEIGHT, 0, 0},
        {"model.layers.1.conv.out_proj.weight", 1, MB_T_SHORTCONV_OUT_PROJ, MB_HF_WEIGHT, 0, 0},
        {"backbone.layers.1.mixer.shared_experts.up_proj.weight", 1, MB_T_FFN_UP_SHEXP,
         MB_HF_WEIGHT, 0, 0},
        {"backbone.layers.1.norm.weight", 1, MB_T_ATTN_NORM, MB_HF_WEIGHT, 0, 0},
        {"backbone.norm_f.weight", -1, MB_T_OUTPUT_NORM, MB_HF_WEIGHT, 0, 0},
        {"mtp.layers.1.mlp.up_proj.weight", 1, MB_T_FFN_UP, MB_HF_WEIGHT, 1, 0},
        {"mtp.fc.weight", 0, MB_T_UNKNOWN, MB_HF_WEIGHT, 1, 0},
        {"model.visual.blocks.0.attn.qkv.weight", -1, MB_T_UNKNOWN, MB_HF_WEIGHT, 0, 1},
        {"model.layers.1.self_attn.indexer.wq_b.weight", 1, MB_T_INDEXER_ATTN_Q_B, MB_HF_WEIGHT, 0,
         0},
        {"model.layers.x.self_attn.q_proj.weight", -1, MB_T_UNKNOWN, MB_HF_WEIGHT, 0, 0},
        {"model.layers.1.self_attn.q_pro.weight", 1, MB_T_UNKNOWN, MB_HF_WEIGHT, 0, 0},
        {"model.layers.1.self_attn.q_projx.weight", 1, MB_T_UNKNOWN, MB_HF_WEIGHT, 0, 0},
        {"", -1, MB_T_UNKNOWN, MB_HF_WEIGHT, 0, 0},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct mb_hf_name name;
        assert_int_equal(mb_hf_parse(cases[i].name, &name), MB_OK);
        if (name.layer != cases[i].layer || (int)name.kind != cases[i].kind ||
            (int)name.part != cases[i].part || name.nextn != cases[i].nextn ||
            name.media != cases[i].media)
            fail_msg("%s: layer %d, kind %d, part %d, nextn %d, media %d", cases[i].name,
                     name.layer, (int)name.kind, (int)name.part, name.nextn, name.media);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_taken_apart),
        cmocka_unit_test(checkpoints_count_as_the_catalog),
        cmocka_unit_test(a_directory_is_a_model),
        cmocka_unit_test(mxfp4_blocks_are_counted),
        cmocka_unit_test(fp8_and_mla_are_counted),
        cmocka_unit_test(towers_and_strangers),
        cmocka_unit_test(packed_weights_are_counted),
        cmocka_unit_test(hostile_configs_are_refused),
        cmocka_unit_test(incomplete_directories_are_refused),
    };
    return cmocka_run_group_tests_name("hfdir", tests, make_dir, remove_dir);
}
