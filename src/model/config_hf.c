/* SPDX-License-Identifier: MIT */
/* Reading config.json: which family, and the hyperparameters that tensors do not tell: heads,
 * windows, experts used, states. Multimodal models keep those of the text model in a part of its
 * own. Unknown keys are no fault; known ones must be what they should be. Keys: transformers,
 * src/transformers/models, the configuration_*.py files, 2026-08. */
#include "model/config_hf.h"
#include "model/arch.h"

#include <string.h>

const json_t *mb_hf_value(const struct mb_hf_reader *reader, const char *key)
{
    const json_t *value = json_object_get(reader->config, key);
    return value ? value : json_object_get(reader->root, key);
}

/* A count, or the default where the file has none; null and false are none. Failures are
 * remembered. */
static uint32_t count_of(struct mb_hf_reader *reader, const json_t *value, const char *key,
                         uint32_t otherwise)
{
    if (json_is_array(value)) /* one value per layer: the first stands for the model */
        value = json_array_get(value, 0);
    if (reader->code || !value || json_is_null(value) || json_is_false(value))
        return otherwise;
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > UINT32_MAX) {
        reader->code =
            mb_fail(reader->err, MB_EFORMAT,
                    "%s: config.json: %s is not a count; the file is damaged", reader->label, key);
        return otherwise;
    }
    return (uint32_t)json_integer_value(value);
}

uint32_t mb_hf_get(struct mb_hf_reader *reader, const char *key, uint32_t otherwise)
{
    return count_of(reader, mb_hf_value(reader, key), key, otherwise);
}

/* The same by several names; the first that is there and not 0. The list ends in NULL. */
static uint32_t get_any(struct mb_hf_reader *reader, const char *const *keys)
{
    uint32_t value = 0;
    for (; *keys && !value; keys++)
        value = mb_hf_get(reader, *keys, 0);
    return value;
}
#define GET_ANY(reader, ...) get_any(reader, (const char *const[]){__VA_ARGS__, NULL})

uint32_t mb_hf_get_at(struct mb_hf_reader *reader, const char *key, uint32_t layer,
                      uint32_t otherwise)
{
    const json_t *value = mb_hf_value(reader, key);
    return json_is_array(value) ? count_of(reader, json_array_get(value, layer), key, otherwise)
                                : otherwise;
}

static const char *text_at(const struct mb_hf_reader *reader, const char *key, uint32_t layer)
{
    return json_string_value(json_array_get(mb_hf_value(reader, key), layer));
}

/* Python writes numbers that JSON does not have, as in "time_step_limit": [0.0, Infinity]. Nothing
 * reads them; they become 0. */
static void mend_numbers(char *text, size_t n)
{
    int quoted = 0;
    for (size_t i = 0; i < n; i++) {
        if (quoted && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && (text[i] == 'I' || text[i] == 'N' || text[i] == '-')) {
            static const char *const words[] = {"-Infinity", "Infinity", "NaN"};
            for (size_t k = 0; k < MB_COUNT(words); k++) {
                size_t length = strlen(words[k]);
                if (n - i >= length && memcmp(text + i, words[k], length) == 0) {
                    memset(text + i, ' ', length);
                    text[i] = '0';
                    break;
                }
            }
        }
    }
}

/* Families whose description has another name than their config. Others are looked up as they are,
 * without "_text". */
static const struct {
    const char *model_type, *arch;
} families[] = {
    {"mistral", "llama"},
    {"mixtral", "llama"},
    {"ministral", "llama"},
    {"ministral3", "mistral3"},
    {"qwen2_moe", "qwen2moe"},
    {"qwen2_vl", "qwen2vl"},
    {"qwen2_5_vl", "qwen2vl"},
    {"qwen3_moe", "qwen3moe"},
    {"qwen3_vl", "qwen3vl"},
    {"qwen3_vl_moe", "qwen3vlmoe"},
    {"qwen3_next", "qwen3next"},
    {"qwen3_5", "qwen35"},
    {"qwen3_5_moe", "qwen35moe"},
    {"gpt_oss", "gpt-oss"},
    {"glm4_moe", "glm4moe"},
    {"glm4_moe_lite", "deepseek2"},
    {"glm_moe_dsa", "glm-dsa"},
    {"deepseek_v2", "deepseek2"},
    {"deepseek_v3", "deepseek2"},
    {"deepseek_v32", "deepseek32"},
    {"kimi_k2", "deepseek2"},
    {"kimi_linear", "kimi-linear"},
    {"granitemoehybrid", "granitehybrid"},
    {"olmo3", "olmo2"},
    {"minimax_m2", "minimax-m2"},
    {"lfm2_moe", "lfm2moe"},
    {"cohere", "command-r"},
    {"phi", "phi2"},
    {"gpt_neox", "gptneox"},
    {"mimo_v2_flash", "mimo2"},
    {"hunyuan_v1_dense", "hunyuan-dense"},
    {"hunyuan_v1_moe", "hunyuan-moe"},
    {"ernie4_5_moe", "ernie4_5-moe"},
    {"bailing_moe", "bailingmoe"},
};

static void find_arch(struct mb_hf_reader *reader)
{
    struct mb_model *model = reader->model;
    char name[80];
    size_t n = (size_t)snprintf(name, sizeof(name), "%s", reader->model_type);
    if (n > 5 && n < sizeof(name) && strcmp(name + n - 5, "_text") == 0)
        name[n - 5] = 0;
    const char *arch = name;
    for (size_t i = 0; i < MB_COUNT(families); i++) {
        if (strcmp(families[i].model_type, name) == 0)
            arch = families[i].arch;
    }
    if (strcmp(name, "nemotron_h") == 0 &&
        (mb_hf_get(reader, "n_routed_experts", 0) || mb_hf_get(reader, "num_experts", 0)))
        arch = "nemotron_h_moe";
    model->arch = mb_arch_find(arch);
    model->arch_name =
        mb_arena_text(&model->arena, model->arch ? model->arch->name : reader->model_type);
    if (!model->arch)
        mb_model_warn(
            model,
            "%s: a model_type that is not described; weights are counted by the names of the tensors, "
            "the cache as plain attention",
            reader->model_type);
}

/* The parts of the config, and what kind of model it says that this is. */
static int take_config(struct mb_hf_reader *reader)
{
    static const char *const inner[] = {"text_config", "llm_config", "language_config"};
    const json_t *root = reader->root, *thinker = json_object_get(root, "thinker_config");
    reader->config = root;
    if (json_is_object(thinker))
        root = thinker;
    for (size_t i = 0; i < MB_COUNT(inner); i++) {
        const json_t *part = json_object_get(root, inner[i]);
        if (json_is_object(part)) {
            reader->config = part;
            break;
        }
    }
    reader->quant = mb_hf_value(reader, "quantization_config");
    reader->model_type = json_string_value(json_object_get(reader->config, "model_type"));
    if (!reader->model_type)
        reader->model_type = json_string_value(json_object_get(reader->root, "model_type"));
    if (!reader->model_type || !*reader->model_type || strlen(reader->model_type) > 64)
        return mb_fail(
            reader->err, MB_EFORMAT,
            "%s: config.json has no model_type; it is damaged or not that of a language model",
            reader->label);
    return MB_OK;
}

static void read_scalars(struct mb_hf_reader *reader)
{
    struct mb_hparams *hp = &reader->model->hp;
    hp->n_layers = GET_ANY(reader, "num_hidden_layers", "n_layer", "num_layers", "n_layers");
    if (!reader->code && !hp->n_layers)
        reader->code = mb_fail(
            reader->err, MB_EFORMAT,
            "%s: config.json has no num_hidden_layers; it is damaged or not that of a language model",
            reader->label);
    hp->n_embd = GET_ANY(reader, "hidden_size", "n_embd", "d_model");
    hp->n_vocab = mb_hf_get(reader, "vocab_size", 0);
    hp->context_max =
        GET_ANY(reader, "max_position_embeddings", "n_positions", "seq_length", "max_seq_len");
    hp->n_head = GET_ANY(reader, "num_attention_heads", "n_head", "n_heads");
    hp->n_head_kv = GET_ANY(reader, "num_key_value_heads", "num_kv_heads", "multi_query_group_num");
    if (!hp->n_head_kv)
        hp->n_head_kv = hp->n_head;
    hp->head_k = GET_ANY(reader, "head_dim", "attention_head_dim", "kv_channels");
    if (!hp->head_k && hp->n_head)
        hp->head_k = hp->n_embd / hp->n_head;
    hp->head_v = hp->head_k;
    hp->n_ff = GET_ANY(reader, "intermediate_size", "n_inner", "ffn_hidden_size");
    hp->n_expert =
        GET_ANY(reader, "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts");
    hp->n_expert_used =
        GET_ANY(reader, "num_experts_per_tok", "num_experts_per_token", "experts_per_token",
                "top_k_experts", "moe_topk", "moe_top_k", "moe_k");
    hp->n_ff_exp = mb_hf_get(reader, "moe_intermediate_size", 0);
    hp->n_ff_shexp = mb_hf_get(reader, "shared_expert_intermediate_size", 0);
    hp->dense_first = mb_hf_get(reader, "first_k_dense_replace", 0);
    hp->q_lora = mb_hf_get(reader, "q_lora_rank", 0);
    hp->kv_lora = mb_hf_get(reader, "kv_lora_rank", 0);
    hp->rope = hp->kv_lora ? mb_hf_get(reader, "qk_rope_head_dim", 0) : 0;
    hp->nope = hp->kv_lora ? mb_hf_get(reader, "qk_nope_head_dim", 0) : 0;
    hp->v_mla = hp->kv_lora ? mb_hf_get(reader, "v_head_dim", 0) : 0;
    hp->index_heads = mb_hf_get(reader, "index_n_heads", 0);
    hp->index_dim = mb_hf_get(reader, "index_head_dim", 0);
    hp->index_top_k = mb_hf_get(reader, "index_topk", 0);
    hp->shared_kv_layers = mb_hf_get(reader, "num_kv_shared_layers", 0);
    hp->per_layer_embd = mb_hf_get(reader, "hidden_size_per_layer_input", 0);
    hp->conv_cache = mb_hf_get(reader, "conv_L_cache", 0);
    /* Gated delta net. */
    hp->linear_k_heads = mb_hf_get(reader, "linear_num_key_heads", 0);
    hp->linear_v_heads = mb_hf_get(reader, "linear_num_value_heads", 0);
    hp->linear_dim = mb_hf_get(reader, "linear_key_head_dim", 0);
    hp->linear_conv = mb_hf_get(reader, "linear_conv_kernel_dim", 0);
    uint64_t inner = 0;
    if (hp->linear_dim) {
        inner = (uint64_t)hp->linear_v_heads *
                mb_hf_get(reader, "linear_value_head_dim", hp->linear_dim);
        hp->ssm_state = hp->linear_dim;
        hp->ssm_groups = hp->linear_k_heads;
        hp->ssm_conv = hp->linear_conv;
    } else {
        hp->ssm_heads = GET_ANY(reader, "mamba_num_heads", "mamba_n_heads");
        inner = mb_hf_get(reader, "mamba_d_ssm", 0);
        if (!inner && hp->ssm_heads)
            inner = (uint64_t)hp->ssm_heads * GET_ANY(reader, "mamba_head_dim", "mamba_d_head");
        hp->ssm_state = GET_ANY(reader, "ssm_state_size", "mamba_d_state");
        hp->ssm_groups = GET_ANY(reader, "n_groups", "mamba_n_groups");
        hp->ssm_conv = GET_ANY(reader, "conv_kernel", "mamba_d_conv");
    }
    hp->ssm_inner =
        inner <= UINT32_MAX ? (uint32_t)inner : UINT32_MAX; /* which the limits refuse */
    /* Kimi delta attention. */
    const json_t *kda = mb_hf_value(reader, "linear_attn_config");
    if (json_is_object(kda)) {
        hp->linear_k_heads = count_of(reader, json_object_get(kda, "num_heads"), "num_heads", 0);
        hp->linear_dim = count_of(reader, json_object_get(kda, "head_dim"), "head_dim", 0);
        hp->ssm_conv = count_of(reader, json_object_get(kda, "short_conv_kernel_size"),
                                "short_conv_kernel_size", 0);
    }
}

/* ---- windows ---- */

static int starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

int mb_hf_find_windows(struct mb_hf_reader *reader, struct mb_hf_windows *windows)
{
    static const char *const whole[] = {"mistral",   "mixtral",    "phi3",
                                        "ministral", "starcoder2", "phimoe"};
    struct mb_hparams *hp = &reader->model->hp;
    const struct mb_arch *arch = reader->model->arch;
    int chunked = arch && arch->flags & MB_ARCH_CHUNKED;
    const json_t *use = mb_hf_value(reader, "use_sliding_window"),
                 *pattern = mb_hf_value(reader, "sliding_window_pattern");
    memset(windows, 0, sizeof(*windows));
    hp->window = chunked ? mb_hf_get(reader, "attention_chunk_size", arch->window)
                         : GET_ANY(reader, "sliding_window", "sliding_window_size");
    if (!hp->window && arch && !mb_hf_value(reader, "sliding_window"))
        hp->window = arch->window;
    /* Qwen's configs state a width even where nothing slides. */
    if (json_is_false(use) || (!use && starts(reader->model_type, "qwen")))
        hp->window = 0;
    if (hp->context_max && hp->window >= hp->context_max)
        hp->window = 0;
    if (!pattern)
        pattern = mb_hf_value(reader, "_sliding_window_pattern");
    if (!hp->window)
        return MB_OK;
    if (json_is_array(mb_hf_value(reader, "layer_types"))) {
        windows->list = "layer_types";
        if (json_array_size(mb_hf_value(reader, "layer_types")) < hp->n_layers)
            return mb_fail(
                reader->err, MB_EFORMAT,
                "%s: config.json: layer_types lists %zu of %u layers; the file is damaged",
                reader->label, json_array_size(mb_hf_value(reader, "layer_types")), hp->n_layers);
    } else if (json_is_array(mb_hf_value(reader, "hybrid_layer_pattern"))) {
        windows->flags = 1;
    } else if (json_is_string(pattern) && *json_string_value(pattern)) {
        windows->letters = json_string_value(pattern);
    } else if (pattern || (arch && arch->swa_period)) {
        windows->period =
            count_of(reader, pattern, "sliding_window_pattern", arch ? arch->swa_period : 0);
    } else if (json_is_true(use)) {
        windows->from = mb_hf_get(reader, "max_window_layers", 0);
        windows->period = UINT32_MAX;
    } else {
        for (size_t i = 0; i < MB_COUNT(whole); i++) {
            if (strcmp(whole[i], reader->model_type) == 0)
                windows->period = UINT32_MAX;
        }
        if (!windows->period)
            mb_model_warn(
                reader->model,
                "a sliding window of %u, but not which layers use it; all are counted as full attention",
                hp->window);
    }
    return reader->code;
}

int mb_hf_slides(struct mb_hf_reader *reader, const struct mb_hf_windows *windows, uint32_t i)
{
    const struct mb_hparams *hp = &reader->model->hp;
    if (!hp->window || i >= hp->n_layers)
        return 0;
    if (windows->list) {
        const char *type = text_at(reader, windows->list, i);
        return type &&
               (strcmp(type, "sliding_attention") == 0 || strcmp(type, "chunked_attention") == 0);
    }
    if (windows->flags)
        return mb_hf_get_at(reader, "hybrid_layer_pattern", i, 0) == 1;
    if (windows->letters)
        return windows->letters[i % strlen(windows->letters)] == 'L';
    return i >= windows->from && windows->period > 1 && i % windows->period < windows->period - 1;
}

static int has_word(const char *text, const char *word)
{
    for (; text && *text; text++) {
        size_t i = 0;
        while (word[i] && (text[i] | 0x20) == word[i])
            i++;
        if (!word[i])
            return 1;
    }
    return 0;
}

/* Bits of a packed weight as the config states them; 0: it does not. */
uint32_t mb_hf_packed_bits(struct mb_hf_reader *reader)
{
    const json_t *quant = reader->quant, *groups = json_object_get(quant, "config_groups"),
                 *group = NULL;
    uint32_t bits = count_of(reader, json_object_get(quant, "bits"), "bits", 0);
    const char *key;
    json_object_foreach((json_t *)groups, key, group) break;
    if (!bits)
        bits = count_of(reader, json_object_get(json_object_get(group, "weights"), "num_bits"),
                        "num_bits", 0);
    if (!bits && (json_is_true(json_object_get(quant, "load_in_4bit")) ||
                  json_is_true(json_object_get(quant, "_load_in_4bit")) ||
                  has_word(json_string_value(json_object_get(quant, "quant_method")), "fp4") ||
                  has_word(json_string_value(json_object_get(quant, "quant_algo")), "fp4")))
        bits = 4;
    return bits;
}

json_t *mb_hf_parse_config(char *text, size_t n, const char *label, int *code, struct mb_err *err)
{
    mend_numbers(text, n);
    json_t *root = mb_json_parse(text, n, label, err);
    *code = MB_OK;
    if (!root)
        *code = err && err->code == MB_ENOMEM ? MB_ENOMEM : MB_EFORMAT;
    else if (!json_is_object(root))
        *code = mb_fail(err, MB_EFORMAT, "%s: not an object; the file is damaged", label);
    return root;
}

int mb_hf_read_config(struct mb_hf_reader *reader)
{
    int code = take_config(reader);
    if (code)
        return code;
    find_arch(reader);
    read_scalars(reader);
    /* Before anything is made from the count; the rest is checked with all hyperparameters. */
    if (!reader->code && reader->model->hp.n_layers > MB_LAYERS_MAX - 64)
        reader->code =
            mb_fail(reader->err, MB_EFORMAT,
                    "%s: config.json: num_hidden_layers is %u, over %u; the file is damaged",
                    reader->label, reader->model->hp.n_layers, MB_LAYERS_MAX - 64);
    return reader->code;
}
