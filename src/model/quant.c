/* SPDX-License-Identifier: MIT */
/* The types that llama-quantize gives to tensors. Read from llama.cpp b10573 (2026-08), src/llama-quant.cpp; restated as
 * one decision per class of tensor. The rules depend on counters that run over the layers, so tensors must come in layer
 * order, as mb_arch_tensors() makes them. */
#include "model/quant.h"
#include "model/arch.h"
#include "model/roles.h"

#include <string.h>

/* X(name, default type): what every tensor gets that no rule lifts or lowers. Smallest files first. */
#define FILE_TYPES(X)                                                                                            \
    X(IQ1_S, IQ1_S) X(IQ1_M, IQ1_M) X(TQ1_0, TQ1_0) X(IQ2_XXS, IQ2_XXS) X(TQ2_0, TQ2_0) X(IQ2_XS, IQ2_XS)         \
    X(IQ2_S, IQ2_XS) X(IQ2_M, IQ2_S) X(Q2_K_S, Q2_K) X(Q2_K, Q2_K) X(IQ3_XXS, IQ3_XXS) X(IQ3_XS, IQ3_S)           \
    X(Q3_K_S, Q3_K) X(IQ3_S, IQ3_S) X(IQ3_M, IQ3_S) X(Q3_K_M, Q3_K) X(Q3_K_L, Q3_K) X(IQ4_XS, IQ4_XS)             \
    X(MXFP4, MXFP4) X(MXFP4_MOE, MXFP4) X(NVFP4, NVFP4) X(Q4_0, Q4_0) X(IQ4_NL, IQ4_NL) X(Q4_K_S, Q4_K)           \
    X(Q4_K_M, Q4_K) X(Q4_1, Q4_1) X(Q5_0, Q5_0) X(Q5_K_S, Q5_K) X(Q5_K_M, Q5_K) X(Q5_1, Q5_1) X(Q6_K, Q6_K)       \
    X(Q8_0, Q8_0) X(F16, F16) X(BF16, BF16) X(F32, F32)

enum file_type {
#define FILE_TYPE_ENUM(name, type) FT_##name,
    FILE_TYPES(FILE_TYPE_ENUM)
#undef FILE_TYPE_ENUM
        N_FILE_TYPES
};

struct mb_quant {
    const char *name;
    enum mb_type type;
};

static const struct mb_quant quants[N_FILE_TYPES] = {
#define FILE_TYPE_ROW(name, type) {#name, MB_TYPE_##type},
    FILE_TYPES(FILE_TYPE_ROW)
#undef FILE_TYPE_ROW
};

static const char *const names[N_FILE_TYPES] = {
#define FILE_TYPE_NAME(name, type) #name,
    FILE_TYPES(FILE_TYPE_NAME)
#undef FILE_TYPE_NAME
};

const char *const *mb_quant_names(size_t *out_n)
{
    *out_n = N_FILE_TYPES;
    return names;
}

const char *mb_quant_name(const struct mb_quant *quant)
{
    return quant->name;
}

const struct mb_quant *mb_quant_find(const char *name, double *out_uncertainty)
{
    static const struct {
        const char *own, *standard;
    } own[] = {{"UD-IQ1_S", "IQ1_S"},     {"UD-IQ1_M", "IQ1_M"},    {"UD-IQ2_XXS", "IQ2_XXS"}, {"UD-IQ2_M", "IQ2_M"},
               {"UD-IQ3_XXS", "IQ3_XXS"}, {"UD-Q2_K_XL", "Q2_K"},   {"UD-Q3_K_XL", "Q3_K_M"},  {"UD-Q4_K_XL", "Q4_K_M"},
               {"UD-Q5_K_XL", "Q5_K_M"},  {"UD-Q6_K_XL", "Q6_K"},   {"UD-Q8_K_XL", "Q8_0"},    {"Q2_K_L", "Q2_K"},
               {"Q3_K_XL", "Q3_K_L"},     {"Q4_K_L", "Q4_K_M"},     {"Q5_K_L", "Q5_K_M"},      {"Q6_K_L", "Q6_K"}};
    double uncertainty = 0.03;
    for (unsigned i = 0; i < MB_COUNT(own); i++) {
        if (mb_name_compare(name, own[i].own) == 0) {
            name = own[i].standard;
            uncertainty = 0.10;
        }
    }
    for (unsigned i = 0; i < N_FILE_TYPES; i++) {
        if (mb_name_compare(name, quants[i].name) == 0) {
            /* Without a mix there is little to differ in: a few small tensors. */
            if (i >= FT_F16)
                uncertainty = 0.01;
            if (out_uncertainty)
                *out_uncertainty = uncertainty;
            return &quants[i];
        }
    }
    return NULL;
}

/* One run over a model. */
struct run {
    enum file_type file;
    enum mb_type base;
    int imatrix, old;
    int tied, low_iq, is_70b;
    uint32_t gqa, n_expert, n_layers, n_values;
    uint32_t i_value, i_down, i_gate, i_up;
};

static int is(const struct run *run, const enum file_type *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (run->file == list[i])
            return 1;
    }
    return 0;
}
#define IS(...) is(run, (const enum file_type[]){__VA_ARGS__}, MB_COUNT(((const enum file_type[]){__VA_ARGS__})))

/* The layers that get more bits: the first and last eighth, and every third between. */
static int more_bits(uint32_t i, uint32_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static enum mb_type head_type(const struct run *run, uint64_t row)
{
    if (run->file == FT_MXFP4_MOE || row % mb_type_info(run->base)->block_elements)
        return MB_TYPE_Q8_0;
    if (IS(FT_IQ2_XXS, FT_IQ2_XS, FT_IQ3_XXS, FT_IQ1_S, FT_IQ1_M, FT_IQ2_S, FT_IQ2_M))
        return MB_TYPE_Q5_K;
    return run->base == MB_TYPE_Q8_0 ? MB_TYPE_Q8_0 : MB_TYPE_Q6_K;
}

static enum mb_type embedding_type(const struct run *run)
{
    if (IS(FT_IQ2_XXS, FT_IQ2_XS, FT_IQ1_S, FT_IQ1_M))
        return MB_TYPE_Q2_K;
    if (IS(FT_IQ2_S, FT_IQ2_M, FT_IQ3_XXS))
        return MB_TYPE_IQ3_S;
    return IS(FT_TQ1_0, FT_TQ2_0) ? MB_TYPE_Q4_K : run->base;
}

static enum mb_type value_type(struct run *run)
{
    uint32_t i = run->i_value++;
    int gqa4 = run->gqa >= 4;
    enum mb_type type = run->base;
    if (run->low_iq)
        return gqa4 || run->n_expert >= 4 ? MB_TYPE_Q4_K : IS(FT_IQ2_S, FT_IQ2_M) ? MB_TYPE_IQ3_S : MB_TYPE_Q2_K;
    switch (run->file) {
    case FT_Q2_K: type = gqa4 ? MB_TYPE_Q4_K : MB_TYPE_Q3_K; break;
    case FT_Q2_K_S:
    case FT_IQ3_XS:
    case FT_IQ3_S: type = gqa4 ? MB_TYPE_Q4_K : type; break;
    case FT_IQ3_XXS: type = gqa4 ? MB_TYPE_Q4_K : run->imatrix ? MB_TYPE_IQ3_XXS : MB_TYPE_IQ3_S; break;
    case FT_IQ3_M: type = MB_TYPE_Q4_K; break;
    case FT_Q3_K_M: type = i < 2 ? MB_TYPE_Q5_K : MB_TYPE_Q4_K; break;
    case FT_Q3_K_L: type = MB_TYPE_Q5_K; break;
    case FT_IQ4_NL:
    case FT_IQ4_XS: type = gqa4 ? MB_TYPE_Q5_K : type; break;
    case FT_Q4_K_M:
    case FT_Q5_K_M: type = more_bits(i, run->n_values) ? MB_TYPE_Q6_K : type; break;
    case FT_Q4_K_S: type = i < 4 ? MB_TYPE_Q5_K : type; break;
    default: break;
    }
    if (run->is_70b && (type == MB_TYPE_Q3_K || type == MB_TYPE_Q4_K))
        type = MB_TYPE_Q5_K;
    return run->n_expert == 8 ? MB_TYPE_Q8_0 : type;
}

static enum mb_type key_type(const struct run *run, int query)
{
    if (!query && run->n_expert == 8)
        return run->low_iq ? MB_TYPE_Q4_K : MB_TYPE_Q8_0;
    if (run->file == FT_IQ3_XS)
        return MB_TYPE_IQ3_XXS;
    return run->file == FT_IQ3_XXS ? MB_TYPE_IQ2_S : run->base;
}

static enum mb_type down_type(struct run *run, uint32_t layer)
{
    uint32_t count = run->i_down++, n = run->n_layers, i = run->n_expert > 1 ? layer : count;
    if (run->low_iq) {
        if (count >= n / 8)
            return run->base;
        return IS(FT_IQ2_S, FT_IQ2_M) ? MB_TYPE_IQ3_S : MB_TYPE_Q2_K;
    }
    int first = i < n / 8;
    switch (run->file) {
    case FT_Q2_K: return MB_TYPE_Q3_K;
    case FT_Q2_K_S: return first ? MB_TYPE_Q4_K : run->base;
    case FT_IQ3_XXS: return run->imatrix ? run->base : first ? MB_TYPE_Q4_K : MB_TYPE_Q3_K;
    case FT_Q3_K_M: return i < n / 16 ? MB_TYPE_Q5_K : MB_TYPE_Q4_K;
    case FT_IQ3_M: return first || (run->n_expert == 8 && more_bits(i, n)) ? MB_TYPE_Q4_K : run->base;
    case FT_Q3_K_L: return MB_TYPE_Q5_K;
    case FT_Q4_K_M:
    case FT_Q5_K_M: return more_bits(i, n) ? MB_TYPE_Q6_K : run->base;
    case FT_Q4_K_S: return first ? MB_TYPE_Q5_K : run->base;
    case FT_IQ4_NL:
    case FT_IQ4_XS: return first && !run->imatrix ? MB_TYPE_Q5_K : run->base;
    case FT_Q4_0: return first && run->imatrix ? MB_TYPE_Q4_1 : run->base;
    case FT_Q5_0: return first && run->imatrix ? MB_TYPE_Q5_1 : run->base;
    default: return run->base;
    }
}

static enum mb_type attention_out_type(const struct run *run)
{
    if (run->low_iq) {
        if (run->n_expert == 8)
            return MB_TYPE_Q5_K;
        if (IS(FT_IQ1_S, FT_IQ1_M))
            return MB_TYPE_IQ2_XXS;
        return IS(FT_IQ2_S, FT_IQ2_M) ? MB_TYPE_IQ3_S : run->base;
    }
    if (run->n_expert == 8)
        return IS(FT_Q2_K, FT_IQ3_XS, FT_IQ3_XXS, FT_Q3_K_S, FT_Q3_K_M, FT_IQ4_NL, FT_Q4_K_S, FT_Q4_K_M, FT_IQ3_S, FT_IQ3_M,
                  FT_IQ4_XS)
                   ? MB_TYPE_Q5_K
                   : run->base;
    switch (run->file) {
    case FT_Q2_K: return MB_TYPE_Q3_K;
    case FT_IQ3_XXS: return MB_TYPE_IQ3_S;
    case FT_Q3_K_M:
    case FT_IQ3_M: return MB_TYPE_Q4_K;
    case FT_Q3_K_L: return MB_TYPE_Q5_K;
    default: return run->base;
    }
}

static enum mb_type up_type(struct run *run, uint32_t layer, uint32_t *counter)
{
    uint32_t count = (*counter)++, n = run->n_layers, i = run->n_expert > 1 ? layer : count;
    return !run->low_iq && run->file == FT_IQ3_XS && i >= n / 8 && i < 7 * n / 8 ? MB_TYPE_IQ3_XXS : run->base;
}

/* A row that the type's block does not divide. */
static enum mb_type fit(enum mb_type type, uint64_t row)
{
    if (row % mb_type_info(type)->block_elements == 0)
        return type;
    switch (type) {
    case MB_TYPE_Q2_K:
    case MB_TYPE_Q3_K:
    case MB_TYPE_TQ1_0:
    case MB_TYPE_TQ2_0: type = MB_TYPE_Q4_0; break;
    case MB_TYPE_Q4_K: type = MB_TYPE_Q5_0; break;
    case MB_TYPE_Q5_K: type = MB_TYPE_Q5_1; break;
    case MB_TYPE_Q6_K: type = MB_TYPE_Q8_0; break;
    case MB_TYPE_IQ1_S:
    case MB_TYPE_IQ1_M:
    case MB_TYPE_IQ2_XXS:
    case MB_TYPE_IQ2_XS:
    case MB_TYPE_IQ2_S:
    case MB_TYPE_IQ3_XXS:
    case MB_TYPE_IQ3_S:
    case MB_TYPE_IQ4_XS: type = MB_TYPE_IQ4_NL; break;
    default: return MB_TYPE_F16;
    }
    return row % mb_type_info(type)->block_elements ? MB_TYPE_F16 : type;
}

static enum mb_type rule(struct run *run, const struct mb_tensor *tensor)
{
    enum mb_quant_class class = tensor->quant_class;
    uint32_t layer = tensor->layer < 0 ? 0 : (uint32_t)tensor->layer;
    int old_embedding = tensor->kind == MB_T_PER_LAYER_TOKEN_EMBD && run->old;
    if (class == MB_Q_OUTPUT || (run->tied && class == MB_Q_EMBEDDING && !old_embedding))
        return head_type(run, tensor->ne[0]);
    if (run->file == FT_MXFP4_MOE)
        return tensor->ne[2] > 1 ? MB_TYPE_MXFP4 : MB_TYPE_Q8_0;
    switch (class) {
    case MB_Q_EMBEDDING: return embedding_type(run);
    case MB_Q_QKV:
        if (run->old && !run->low_iq) {
            if (IS(FT_Q3_K_M, FT_Q3_K_L, FT_IQ3_M))
                return MB_TYPE_Q4_K;
            return run->file == FT_Q4_K_M ? MB_TYPE_Q5_K : run->file == FT_Q5_K_M ? MB_TYPE_Q6_K : run->base;
        }
        return run->old ? run->base : value_type(run);
    case MB_Q_KV_B: return run->old ? run->base : value_type(run);
    case MB_Q_V: return value_type(run);
    case MB_Q_K: return run->low_iq && run->n_expert != 8 ? run->base : key_type(run, 0);
    case MB_Q_Q: return run->low_iq ? run->base : key_type(run, 1);
    case MB_Q_DOWN: return down_type(run, layer);
    case MB_Q_ATTN_OUT: return attention_out_type(run);
    case MB_Q_GATE: return up_type(run, layer, &run->i_gate);
    case MB_Q_UP: return up_type(run, layer, &run->i_up);
    default: return run->base;
    }
}

static struct run start(const struct mb_model *model, const struct mb_quant *quant, const struct mb_quant_opts *opts)
{
    const struct mb_hparams *hp = &model->hp;
    struct run run = {.file = (enum file_type)(quant - quants), .base = quant->type, .tied = (int)hp->tied};
    run.imatrix = opts && opts->imatrix;
    run.old = opts && opts->before_2026_03;
    run.low_iq = run.file == FT_IQ1_S || run.file == FT_IQ1_M || run.file == FT_IQ2_XXS || run.file == FT_IQ2_XS ||
                 run.file == FT_IQ2_S || run.file == FT_IQ2_M;
    /* The quantizer looks at layer 0; MLA files state one KV head. */
    const struct mb_layer *first = &model->layers[0];
    int none = model->arch->flags & MB_ARCH_KV_PER_LAYER && first->mixer != MB_MIX_ATTENTION;
    if (hp->kv_lora)
        run.gqa = hp->n_head;
    else
        run.gqa = none || !first->n_head_kv ? 0 : first->n_head / first->n_head_kv;
    run.n_expert = hp->n_expert;
    run.n_layers = model->n_layers_all;
    run.is_70b = hp->n_layers == 80 && ((strcmp(model->arch->name, "llama") == 0 && hp->n_head != hp->n_head_kv) ||
                                        strcmp(model->arch->name, "qwen2") == 0);
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        unsigned class = model->tensors[i].quant_class;
        int weight = model->tensors[i].quantizable; /* biases have the class of their weight, but no vote */
        run.n_values += weight && (class == MB_Q_V || class == MB_Q_QKV || class == MB_Q_KV_B);
    }
    return run;
}

int mb_quant_assign(struct mb_model *model, const struct mb_quant *quant, const struct mb_quant_opts *opts,
                    struct mb_err *err)
{
    /* What the makers of gpt-oss publish as MXFP4 came from the converter: experts MXFP4, all other matrices Q8_0. For other
     * families the name means the quantizer's MXFP4_MOE. */
    int native = quant == &quants[FT_MXFP4] && strcmp(model->arch->name, "gpt-oss") == 0;
    if (quant == &quants[FT_MXFP4])
        quant = &quants[FT_MXFP4_MOE];
    struct run run = start(model, quant, opts);
    int mixed = mb_type_info(run.base)->block_elements > 1;
    uint64_t total = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct mb_tensor *tensor = &model->tensors[i];
        if (native) {
            if (tensor->plain)
                tensor->type = tensor->rule == MB_READ_EXPERTS ? MB_TYPE_MXFP4 : MB_TYPE_Q8_0;
        } else if (mixed) {
            if (tensor->quantizable)
                tensor->type = fit(rule(&run, tensor), tensor->ne[0]);
        } else if (tensor->plain) {
            tensor->type = run.base;
        }
        int code = mb_type_bytes(tensor->type, tensor->ne, tensor->n_dims, &tensor->bytes);
        if (code == MB_EFORMAT) { /* gpt-oss rows all divide by 32; only a strange shape gets here */
            tensor->type = MB_TYPE_F16;
            code = mb_type_bytes(tensor->type, tensor->ne, tensor->n_dims, &tensor->bytes);
        }
        if (code || tensor->bytes > (UINT64_C(1) << 62) - total)
            return mb_fail(err, MB_EFORMAT, "%s: %s is too large to count; mend the shape", model->name, tensor->name);
        total += tensor->bytes;
    }
    return MB_OK;
}
