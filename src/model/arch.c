/* SPDX-License-Identifier: MIT */
/* Descriptions of model families as tables: which tensors a layer has and their shapes in terms of hyperparameters. A row
 * with a dimension of zero does not exist, which is how most options (no bias, no q_lora, no shared expert, K = V) are said.
 * Read from llama.cpp b10573 (2026-08), src/models and gguf-py/gguf/constants.py; qwen4exp and glm5-next from newer trees.
 * docs/models.md says which families were checked against real files.
 *
 * Leaves the types of quantized files to quant.c and everything that files state to hparams.c. */
#include "model/arch.h"
#include "model/roles.h"

#include <string.h>

/* Dimensions by name; NO: the tensor has fewer dimensions. */
#define DIMS(X)                                                                                                          \
    X(NO) X(ONE) X(D) X(D2) X(D3) X(V) X(Q) X(K) X(KV) X(O) X(QKV) X(BQ) X(BK) X(BV) X(H) X(HS) X(HK) X(HKC)    \
    X(QALL) X(KALL) X(FF) X(FF2) X(E) X(EH) X(EF) X(EF2) X(SF) X(MD) X(LAT) X(QL) X(KL) X(KLR) X(KVB) X(NOPE) X(VH) X(HB) \
    X(HQ) X(HQ0) X(HV) X(IH) X(IK) X(IHK) X(IP) X(SDI) X(SXBC) X(SIN) X(SH) X(SC) X(SDG) X(SG) X(LQKV) X(LV) X(LIN)      \
    X(LX) X(LNV) X(LNV2) X(LHD) X(LC) X(KDI) X(KHD) X(KNV) X(KC) X(CL) X(RF) X(RL) X(PL) X(PLL) X(PLD) X(HC) X(HCD) X(MIX)      \
    X(HCL) X(NV) X(NGD) X(NGR) X(NGC) X(NGH) X(NGE) X(CK) X(CR) X(CH) X(CI) X(CIK) X(CIH) X(CIQ) X(OG) X(OA) X(HASH)

enum dim {
#define DIM_ENUM(name) d##name,
    DIMS(DIM_ENUM)
#undef DIM_ENUM
        N_DIMS
};

enum part { WEIGHT, WEIGHT_F32, BIAS, BARE, SCALE, WEIGHT_I32 };

struct mb_arch_row {
    uint8_t kind, part, dims[3];
};

#define ROW(kind, part, d0, d1, d2) {MB_T_##kind, part, {d##d0, d##d1, d##d2}}
#define W(kind, d0, d1) ROW(kind, WEIGHT, d0, d1, NO)
#define W3(kind, d0, d1, d2) ROW(kind, WEIGHT, d0, d1, d2)
#define F(kind, d0) ROW(kind, WEIGHT_F32, d0, NO, NO)
#define F2(kind, d0, d1) ROW(kind, WEIGHT_F32, d0, d1, NO)
#define F3(kind, d0, d1, d2) ROW(kind, WEIGHT_F32, d0, d1, d2)
#define B(kind, d0) ROW(kind, BIAS, d0, NO, NO)
#define B2(kind, d0, d1) ROW(kind, BIAS, d0, d1, NO)
#define N(kind, d0) ROW(kind, BARE, d0, NO, NO)
#define N2(kind, d0, d1) ROW(kind, BARE, d0, d1, NO)
#define S(kind, d0) ROW(kind, SCALE, d0, NO, NO)
#define END {MB_T_END, 0, {0, 0, 0}}

/* ---- before and after the layers ---- */
static const struct mb_arch_row g_plain[] = {F(OUTPUT_NORM, D), END};
static const struct mb_arch_row g_rope[] = {F(ROPE_FREQS, RF), F(ROPE_FACTORS_LONG, RL), F(ROPE_FACTORS_SHORT, RL), END};
static const struct mb_arch_row g_lfm2[] = {F(TOKEN_EMBD_NORM, D), END};
static const struct mb_arch_row g_gemma4[] = {W(PER_LAYER_TOKEN_EMBD, PLL, V), W(PER_LAYER_MODEL_PROJ, PLD, PLL),
                                              F(PER_LAYER_PROJ_NORM, PL), END};
static const struct mb_arch_row g_kimi_k3[] = {F(OUTPUT_RES_SCORE, D), END};
static const struct mb_arch_row g_deepseek4[] = {F2(OUTPUT_HC_FN, HCD, HC), F(OUTPUT_HC_BASE, HC), F(OUTPUT_HC_SCALE, ONE),
                                                 END};
static const struct mb_arch_row g_qwen4exp[] = {F(OUTPUT_HC_NORM, HCD), W(OUTPUT_HC_DOWN, HCD, HCL),
                                                W(OUTPUT_HC_UP, HCL, HCD), W(PER_LAYER_TOKEN_EMBD, NGD, NGR), END};

/* ---- norms and mixing, in every layer ---- */
static const struct mb_arch_row n_attn[] = {F(ATTN_NORM, D), END};
static const struct mb_arch_row n_ffn[] = {F(FFN_NORM, D), END};
static const struct mb_arch_row n_post_attn[] = {F(POST_ATTENTION_NORM, D), END};
static const struct mb_arch_row n_post[] = {F(POST_ATTENTION_NORM, D), F(POST_FFW_NORM, D), END};
static const struct mb_arch_row n_gemma4[] = {F(LAYER_OUTPUT_SCALE, ONE), W(INP_GATE, PLD, PL), W(PROJ, PL, PLD),
                                              F(POST_NORM, PLD), END};
static const struct mb_arch_row n_kimi_k3[] = {F(FFN_NORM, D), F(ATTN_RES_SCORE, D), F(FFN_RES_SCORE, D), END};
static const struct mb_arch_row n_hc[] = {F2(HC_ATTN_FN, HCD, MIX), F(HC_ATTN_BASE, MIX), F(HC_ATTN_SCALE, CH),
                                          F2(HC_FFN_FN, HCD, MIX),  F(HC_FFN_BASE, MIX),  F(HC_FFN_SCALE, CH),
                                          END};
static const struct mb_arch_row n_qwen4exp[] = {
    F(HC_ATTN_NORM, HCD), W(HC_ATTN_DOWN, HCD, HCL), W(HC_ATTN_UP, HCL, HCD), W(HC_ATTN_INJECT, HCD, HC),
    F(HC_FFN_NORM, HCD),  W(HC_FFN_DOWN, HCD, HCL),  W(HC_FFN_UP, HCL, HCD),  W(HC_FFN_INJECT, HCD, HC),
    W(PLE_KEY, NGE, NGH), W(PLE_VALUE, NGE, NGE),    F(PLE_NORM_KEY, NGH),    F(PLE_NORM_QUERY, NGH),
    F(PLE_NORM_CONV, NGH), F2(PLE_CONV1D, NGC, NGH), END};

/* ---- attention ---- */
static const struct mb_arch_row a_qkv[] = {W(ATTN_Q, D, Q), W(ATTN_K, D, K), W(ATTN_V, D, KV), B(ATTN_Q, BQ),
                                           B(ATTN_K, BK),   B(ATTN_V, BV),   W(ATTN_OUTPUT, O, D), END};
static const struct mb_arch_row a_qk_norm[] = {F(ATTN_Q_NORM, HK), F(ATTN_K_NORM, HK), END};
static const struct mb_arch_row a_qk_norm_if[] = {F(ATTN_Q_NORM, HKC), F(ATTN_K_NORM, HKC), END};
static const struct mb_arch_row a_qk_norm_all[] = {F(ATTN_Q_NORM, QALL), F(ATTN_K_NORM, KALL), END};
static const struct mb_arch_row a_fused[] = {W(ATTN_QKV, D, QKV), W(ATTN_OUTPUT, O, D), END};
static const struct mb_arch_row a_gpt_oss[] = {B(ATTN_OUTPUT, D), F(ATTN_SINKS, H), END};
static const struct mb_arch_row a_mla[] = {
    F(ATTN_NORM, D),         F(ATTN_Q_A_NORM, QL),      W(ATTN_Q_A, D, QL),       W(ATTN_Q_B, QL, HQ),
    W(ATTN_Q, D, HQ0),       F(ATTN_KV_A_NORM, KL),     W(ATTN_KV_A_MQA, D, KLR), W(ATTN_KV_B, KL, KVB),
    W3(ATTN_K_B, NOPE, KL, HB), W3(ATTN_V_B, KL, VH, HB), W(ATTN_OUTPUT, HV, D),  END};
static const struct mb_arch_row a_mla_gate[] = {W(ATTN_GATE, D, HV), END};
static const struct mb_arch_row a_dsa[] = {F(INDEXER_K_NORM, IK), B(INDEXER_K_NORM, IK), F2(INDEXER_PROJ, D, IH),
                                           W(INDEXER_ATTN_K, D, IK), W(INDEXER_ATTN_Q_B, QL, IHK), END};
static const struct mb_arch_row a_kpool[] = {W(INDEXER_KPOOL_GATE, D, IK), F2(INDEXER_KPOOL_APE, IK, IP), END};
static const struct mb_arch_row a_msa[] = {W(INDEXER_Q_PROJ, D, IHK), W(INDEXER_K_PROJ, D, IK), F(INDEXER_Q_NORM, IK),
                                           F(INDEXER_K_NORM, IK), END};
static const struct mb_arch_row a_step35[] = {W(ATTN_GATE, D, H), END};
static const struct mb_arch_row a_sinks_window[] = {F(ATTN_SINKS, HS), END};
static const struct mb_arch_row a_deepseek4[] = {
    F(ATTN_NORM, D),       F(ATTN_SINKS, H),      W(ATTN_Q_A, D, QL),         F(ATTN_Q_A_NORM, QL), W(ATTN_Q_B, QL, Q),
    W(ATTN_KV, D, HK),     F(ATTN_KV_A_NORM, HK), W(ATTN_OUTPUT_A, OG, OA), W(ATTN_OUTPUT_B, OA, D), END};
static const struct mb_arch_row a_compress[] = {
    W(ATTN_COMPRESSOR_KV, D, CK),          W(ATTN_COMPRESSOR_GATE, D, CK),
    F2(ATTN_COMPRESSOR_APE, CK, CR),       F(ATTN_COMPRESSOR_NORM, CI),
    W(INDEXER_PROJ, D, CIH),               W(INDEXER_ATTN_Q_B, QL, CIQ),
    W(INDEXER_COMPRESSOR_KV, D, CIK),      W(INDEXER_COMPRESSOR_GATE, D, CIK),
    F2(INDEXER_COMPRESSOR_APE, CIK, CR),   F(INDEXER_COMPRESSOR_NORM, IK), END};

/* ---- recurrent mixers ---- */
static const struct mb_arch_row r_mamba2[] = {W(SSM_IN, D, SIN),    F2(SSM_CONV1D, SC, SXBC), B(SSM_CONV1D, SXBC),
                                              B(SSM_DT, SH),        N2(SSM_A, ONE, SH),       N2(SSM_D, ONE, SH),
                                              F2(SSM_NORM, SDG, SG), W(SSM_OUT, SDI, D),      END};
static const struct mb_arch_row r_gdn[] = {W(SSM_IN, D, LIN),        W(ATTN_QKV, D, LQKV), W(ATTN_GATE, D, LV),
                                           F2(SSM_CONV1D, LC, LX),   B(SSM_DT, LNV),       N(SSM_A, LNV),
                                           F(SSM_NORM, LHD),         W(SSM_OUT, KDI, D),   END};
static const struct mb_arch_row r_ba[] = {W(SSM_BA, D, LNV2), END};
static const struct mb_arch_row r_beta_alpha[] = {W(SSM_BETA, D, LNV), W(SSM_ALPHA, D, LNV), END};
static const struct mb_arch_row r_kda[] = {
    F(ATTN_NORM, D),               F3(SSM_CONV1D_Q, KC, ONE, KDI), F3(SSM_CONV1D_K, KC, ONE, KDI),
    F3(SSM_CONV1D_V, KC, ONE, KDI), W(ATTN_Q, D, KDI),             W(ATTN_K, D, KDI),
    W(ATTN_V, D, KDI),             W(SSM_F_A, D, KHD),             W(SSM_F_B, KHD, KDI),
    W(SSM_BETA, D, KNV),           N2(SSM_A, ONE, KNV),            B(SSM_DT, KDI),
    F(SSM_NORM, KHD),              W(ATTN_OUTPUT, KDI, D),         END};
static const struct mb_arch_row r_kda_low[] = {W(SSM_G_A, D, KHD), W(SSM_G_B, KHD, KDI), END};
static const struct mb_arch_row r_kda_full[] = {W(SSM_G, D, KDI), END};
static const struct mb_arch_row r_conv[] = {F2(SHORTCONV_CONV, CL, D), W(SHORTCONV_IN_PROJ, D, D3),
                                            W(SHORTCONV_OUT_PROJ, D, D), END};

/* ---- FFN ---- */
static const struct mb_arch_row f_mlp[] = {W(FFN_GATE, D, FF), W(FFN_UP, D, FF), W(FFN_DOWN, FF, D), END};
static const struct mb_arch_row f_no_gate[] = {W(FFN_UP, D, FF), W(FFN_DOWN, FF, D), END};
static const struct mb_arch_row f_fused[] = {W(FFN_UP, D, FF2), W(FFN_DOWN, FF, D), END};
static const struct mb_arch_row e_router[] = {F2(FFN_GATE_INP, D, E), END};
static const struct mb_arch_row e_router_bias[] = {F2(FFN_GATE_INP, D, E), B(EXP_PROBS_B, E), END};
static const struct mb_arch_row e_experts[] = {W3(FFN_GATE_EXPS, MD, EF, E), W3(FFN_UP_EXPS, MD, EF, E),
                                               W3(FFN_DOWN_EXPS, EF, MD, E), END};
static const struct mb_arch_row e_no_gate[] = {W3(FFN_UP_EXPS, MD, EF, E), W3(FFN_DOWN_EXPS, EF, MD, E), END};
static const struct mb_arch_row e_shared[] = {W(FFN_GATE_SHEXP, D, SF), W(FFN_UP_SHEXP, D, SF), W(FFN_DOWN_SHEXP, SF, D),
                                              END};
static const struct mb_arch_row e_shared_no_gate[] = {W(FFN_UP_SHEXP, D, SF), W(FFN_DOWN_SHEXP, SF, D), END};
static const struct mb_arch_row e_shared_gate[] = {F(FFN_GATE_INP_SHEXP, D), END};
static const struct mb_arch_row e_latent[] = {W(FFN_LATENT_DOWN, D, LAT), W(FFN_LATENT_UP, LAT, D), END};
static const struct mb_arch_row e_routed[] = {W(FFN_ROUTED_DOWN, D, LAT), W(FFN_ROUTED_UP, LAT, D), F(FFN_ROUTED_NORM, LAT),
                                              END};
static const struct mb_arch_row e_gpt_oss[] = {B(FFN_GATE_INP, E), B2(FFN_GATE_EXPS, EF, E), B2(FFN_UP_EXPS, EF, E),
                                               B2(FFN_DOWN_EXPS, D, E), END};
static const struct mb_arch_row e_gemma4[] = {
    F2(FFN_GATE_INP, D, E),           S(FFN_GATE_INP, D),           F(PRE_FFW_NORM_2, D), F(POST_FFW_NORM_1, D),
    F(POST_FFW_NORM_2, D),            W3(FFN_GATE_UP_EXPS, D, EF2, E), W3(FFN_DOWN_EXPS, EF, D, E),
    S(FFN_DOWN_EXPS, E),              END};
static const struct mb_arch_row e_deepseek4[] = {F2(FFN_GATE_INP, D, E), ROW(FFN_GATE_TID2EID, WEIGHT_I32, HASH, V, NO),
                                                 B(EXP_PROBS_B, EH), END};
static const struct mb_arch_row x_nextn[] = {W(NEXTN_EH_PROJ, D2, D),        F(NEXTN_ENORM, D),
                                             F(NEXTN_HNORM, D),              W(NEXTN_EMBED_TOKENS, D, NV),
                                             W(NEXTN_SHARED_HEAD_HEAD, D, NV), F(NEXTN_SHARED_HEAD_NORM, D), END};

#define LLAMA_LIKE                                                                                        \
    .globals = {g_plain, g_rope}, .every = {n_attn, n_ffn}, .attention = {a_qkv}, .dense = {f_mlp},       \
    .experts = {e_router, e_experts}
#define QWEN_HYBRID(beta)                                                                                 \
    .flags = MB_ARCH_GATED_Q, .recurrent = MB_MIX_GDN, .globals = {g_plain},                              \
    .every = {n_attn, n_post_attn}, .attention = {a_qkv, a_qk_norm}, .recur = {r_gdn, beta},              \
    .dense = {f_mlp}, .experts = {e_router, e_experts, e_shared, e_shared_gate}, .nextn = {x_nextn}
#define DEEPSEEK                                                                                          \
    .globals = {g_plain}, .every = {n_ffn}, .dense = {f_mlp},                                             \
    .experts = {e_router_bias, e_experts, e_shared}, .nextn = {x_nextn}

static const struct mb_arch archs[] = {
    {.name = "llama", LLAMA_LIKE},
    {.name = "mistral3", LLAMA_LIKE},
    {.name = "qwen2", LLAMA_LIKE},
    {.name = "smollm3", LLAMA_LIKE},
    {.name = "granite", LLAMA_LIKE},
    {.name = "qwen3", .globals = {g_plain}, .every = {n_attn, n_ffn}, .attention = {a_qkv, a_qk_norm}, .dense = {f_mlp}},
    {.name = "qwen3moe", .globals = {g_plain}, .every = {n_attn, n_ffn}, .attention = {a_qkv, a_qk_norm},
     .experts = {e_router, e_experts}},
    {.name = "gemma2", .swa_period = 2, .window = 4096, .globals = {g_plain}, .every = {n_attn, n_ffn, n_post},
     .attention = {a_qkv}, .dense = {f_mlp}},
    {.name = "gemma3", .swa_period = 6, .globals = {g_plain}, .every = {n_attn, n_ffn, n_post},
     .attention = {a_qkv, a_qk_norm}, .dense = {f_mlp}},
    {.name = "gemma4", .flags = MB_ARCH_DENSE_TOO, .globals = {g_plain, g_rope, g_gemma4},
     .every = {n_attn, n_ffn, n_post, n_gemma4}, .attention = {a_qkv, a_qk_norm}, .dense = {f_mlp},
     .experts = {e_gemma4}},
    {.name = "gpt-oss", .swa_period = 2, .globals = {g_plain}, .every = {n_attn, n_post_attn},
     .attention = {a_qkv, a_gpt_oss}, .experts = {e_router, e_experts, e_gpt_oss}},
    {.name = "llama4", .flags = MB_ARCH_CHUNKED, .swa_period = 4, .window = 8192, .globals = {g_plain, g_rope},
     .every = {n_attn, n_ffn}, .attention = {a_qkv}, .dense = {f_mlp}, .experts = {e_router, e_experts, e_shared}},
    {.name = "olmo2", .swa_period = 4, .globals = {g_plain}, .every = {n_post}, .attention = {a_qkv, a_qk_norm_all},
     .dense = {f_mlp}},
    {.name = "seed_oss", .globals = {g_plain}, .every = {n_attn, n_post_attn}, .attention = {a_qkv}, .dense = {f_mlp}},
    {.name = "phi3", .globals = {g_plain, g_rope}, .every = {n_attn, n_ffn}, .attention = {a_fused}, .dense = {f_fused}},
    {.name = "glm4", .globals = {g_plain}, .every = {n_attn, n_ffn, n_post}, .attention = {a_qkv}, .dense = {f_fused}},
    {.name = "glm4moe", .globals = {g_plain}, .every = {n_attn, n_post_attn},
     .attention = {a_qkv, a_qk_norm_if}, .dense = {f_mlp}, .experts = {e_router_bias, e_experts, e_shared},
     .nextn = {x_nextn}},
    {.name = "deepseek2", DEEPSEEK, .attention = {a_mla}},
    {.name = "mistral4", DEEPSEEK, .attention = {a_mla}},
    {.name = "deepseek32", DEEPSEEK, .attention = {a_mla, a_dsa}},
    {.name = "glm-dsa", DEEPSEEK, .attention = {a_mla, a_dsa}},
    {.name = "glm5-next", .recurrent = MB_MIX_KDA, .globals = {g_plain}, .every = {n_ffn, n_hc},
     .attention = {a_mla, a_dsa, a_kpool}, .recur = {r_kda, r_kda_low}, .dense = {f_mlp},
     .experts = {e_router_bias, e_experts, e_shared}, .nextn = {x_nextn}},
    {.name = "deepseek4", .globals = {g_plain, g_deepseek4}, .every = {n_ffn, n_hc},
     .attention = {a_deepseek4, a_compress}, .experts = {e_deepseek4, e_experts, e_shared}, .nextn = {x_nextn}},
    {.name = "kimi-linear", .flags = MB_ARCH_KV_PER_LAYER, .recurrent = MB_MIX_KDA, .globals = {g_plain},
     .every = {n_ffn}, .attention = {a_mla}, .recur = {r_kda, r_kda_low}, .dense = {f_mlp},
     .experts = {e_router_bias, e_experts, e_shared}},
    {.name = "kimi-k3", .flags = MB_ARCH_KV_PER_LAYER, .recurrent = MB_MIX_KDA, .globals = {g_plain, g_kimi_k3},
     .every = {n_kimi_k3}, .attention = {a_mla, a_mla_gate}, .recur = {r_kda, r_kda_full}, .dense = {f_mlp},
     .experts = {e_router_bias, e_experts, e_shared, e_routed}},
    {.name = "minimax-m2", .globals = {g_plain}, .every = {n_attn, n_ffn}, .attention = {a_qkv, a_qk_norm_all},
     .experts = {e_router_bias, e_experts}},
    {.name = "minimax-m3", .flags = MB_ARCH_INDEX_SPARE, .globals = {g_plain}, .every = {n_attn, n_ffn},
     .attention = {a_qkv, a_qk_norm, a_msa}, .dense = {f_mlp}, .experts = {e_router_bias, e_experts, e_shared}},
    {.name = "qwen3next", QWEN_HYBRID(r_ba)},
    {.name = "qwen35", QWEN_HYBRID(r_beta_alpha)},
    {.name = "qwen35moe", QWEN_HYBRID(r_beta_alpha)},
    {.name = "qwen4exp", .flags = MB_ARCH_GATED_Q, .recurrent = MB_MIX_GDN, .globals = {g_qwen4exp},
     .every = {n_qwen4exp}, .attention = {a_qkv, a_qk_norm, a_msa}, .recur = {r_gdn, r_beta_alpha},
     .experts = {e_router, e_experts, e_shared, e_shared_gate}},
    {.name = "nemotron_h", .flags = MB_ARCH_KV_PER_LAYER | MB_ARCH_ONE_PART, .recurrent = MB_MIX_MAMBA2,
     .globals = {g_plain}, .every = {n_attn}, .attention = {a_qkv}, .recur = {r_mamba2}, .dense = {f_no_gate}},
    {.name = "nemotron_h_moe", .flags = MB_ARCH_KV_PER_LAYER | MB_ARCH_ONE_PART, .recurrent = MB_MIX_MAMBA2,
     .globals = {g_plain}, .every = {n_attn}, .attention = {a_qkv}, .recur = {r_mamba2}, .dense = {f_no_gate},
     .experts = {e_router_bias, e_latent, e_no_gate, e_shared_no_gate}},
    {.name = "granitehybrid", .flags = MB_ARCH_KV_PER_LAYER, .recurrent = MB_MIX_MAMBA2, .globals = {g_plain},
     .every = {n_attn, n_ffn}, .attention = {a_qkv}, .recur = {r_mamba2}, .dense = {f_mlp},
     .experts = {e_router, e_experts, e_shared}},
    {.name = "lfm2", .flags = MB_ARCH_KV_PER_LAYER, .recurrent = MB_MIX_CONV, .globals = {g_lfm2},
     .every = {n_attn, n_ffn}, .attention = {a_qkv, a_qk_norm}, .recur = {r_conv}, .dense = {f_mlp}},
    {.name = "lfm2moe", .flags = MB_ARCH_KV_PER_LAYER, .recurrent = MB_MIX_CONV, .globals = {g_lfm2},
     .every = {n_attn, n_ffn}, .attention = {a_qkv, a_qk_norm}, .recur = {r_conv}, .dense = {f_mlp},
     .experts = {e_router_bias, e_experts}},
    {.name = "step35", .flags = MB_ARCH_NEXTN_DENSE, .globals = {g_plain}, .every = {n_attn, n_ffn},
     .attention = {a_qkv, a_qk_norm, a_step35}, .dense = {f_mlp}, .experts = {e_router_bias, e_experts, e_shared},
     .nextn = {x_nextn}},
    {.name = "mimo2", .flags = MB_ARCH_NEXTN_DENSE, .globals = {g_plain}, .every = {n_attn, n_ffn},
     .attention = {a_qkv, a_sinks_window}, .dense = {f_mlp}, .experts = {e_router_bias, e_experts, e_shared},
     .nextn = {x_nextn}},
    /* Known from files only: plain attention, described well enough by their metadata. */
    {.name = "gemma3n", .flags = MB_ARCH_SHARED_FROM_20, .swa_period = 5},
    {.name = "cohere2", .swa_period = 4},
    {.name = "exaone4", .swa_period = 4},
    {.name = "gemma"},
    {.name = "qwen2moe"},
    {.name = "qwen2vl"},
    {.name = "qwen3vl"},
    {.name = "qwen3vlmoe"},
    {.name = "granitemoe"},
    {.name = "command-r"},
    {.name = "olmo"},
    {.name = "olmoe"},
    {.name = "starcoder2"},
    {.name = "stablelm"},
    {.name = "phi2"},
    {.name = "phimoe"},
    {.name = "internlm2"},
    {.name = "baichuan"},
    {.name = "falcon"},
    {.name = "gptneox"},
    {.name = "mpt"},
    {.name = "deepseek"},
    {.name = "dbrx"},
    {.name = "grok"},
    {.name = "exaone"},
    {.name = "ernie4_5"},
    {.name = "ernie4_5-moe"},
    {.name = "hunyuan-dense"},
    {.name = "hunyuan-moe"},
    {.name = "bailingmoe"},
    {.name = "dots1"},
    {.name = "arcee"},
    {.name = "apertus"},
    {.name = "minicpm"},
    {.name = "nemotron"},
};

const struct mb_arch *mb_arch_find(const char *name)
{
    for (unsigned i = 0; i < MB_COUNT(archs); i++) {
        if (strcmp(archs[i].name, name) == 0)
            return &archs[i];
    }
    return NULL;
}

/* Dimensions that are the same in all layers. Products are of fields that hparams.c has bounded to 2^24 each, so they fit. */
static void base_dims(const struct mb_hparams *hp, uint64_t *dim)
{
    uint64_t d = hp->n_embd, h = hp->n_head;
    dim[dONE] = 1;
    dim[dD] = d;
    dim[dD2] = 2 * d;
    dim[dD3] = 3 * d;
    dim[dV] = hp->n_vocab;
    dim[dE] = hp->n_expert;
    dim[dEF] = hp->n_ff_exp;
    dim[dEF2] = 2 * (uint64_t)hp->n_ff_exp;
    dim[dSF] = hp->n_ff_shexp;
    dim[dLAT] = hp->latent;
    dim[dMD] = hp->latent ? hp->latent : d;
    /* MLA */
    uint64_t query = h * ((uint64_t)hp->nope + hp->rope);
    dim[dQL] = hp->q_lora;
    dim[dKL] = hp->kv_lora;
    dim[dKLR] = (uint64_t)hp->kv_lora + hp->rope;
    dim[dNOPE] = hp->nope;
    dim[dVH] = hp->v_mla;
    dim[dHB] = hp->old_kv_b ? 0 : h;
    dim[dKVB] = hp->old_kv_b ? h * ((uint64_t)hp->nope + hp->v_mla) : 0;
    dim[dHQ] = query;
    dim[dHQ0] = hp->q_lora ? 0 : query;
    dim[dHV] = h * hp->v_mla;
    /* Mamba-2 */
    uint64_t groups = (uint64_t)hp->ssm_groups * hp->ssm_state;
    dim[dSDI] = hp->ssm_inner;
    dim[dSXBC] = hp->ssm_inner + 2 * groups;
    dim[dSIN] = 2 * (uint64_t)hp->ssm_inner + 2 * groups + hp->ssm_heads;
    dim[dSH] = hp->ssm_heads;
    dim[dSC] = hp->ssm_conv;
    dim[dSG] = hp->ssm_groups;
    dim[dSDG] = hp->ssm_groups ? hp->ssm_inner / hp->ssm_groups : 0;
    /* Gated delta net, and the first qwen3next files with one fused input projection */
    uint64_t key = (uint64_t)hp->linear_k_heads * hp->linear_dim, value = (uint64_t)hp->linear_v_heads * hp->linear_dim;
    dim[dLX] = 2 * key + value;
    dim[dLQKV] = hp->old_ssm_in ? 0 : 2 * key + value;
    dim[dLV] = hp->old_ssm_in ? 0 : value;
    dim[dLIN] = hp->old_ssm_in ? 2 * key + 2 * value : 0;
    dim[dLNV] = hp->linear_v_heads;
    dim[dLNV2] = 2 * (uint64_t)hp->linear_v_heads;
    dim[dLHD] = hp->linear_dim;
    dim[dLC] = hp->linear_conv;
    dim[dKDI] = value;
    dim[dKHD] = hp->linear_dim;
    dim[dKNV] = hp->linear_v_heads;
    dim[dKC] = hp->linear_conv;
    dim[dCL] = hp->conv_cache;
    /* Globals */
    dim[dRF] = hp->rope_freqs;
    dim[dRL] = hp->rope_factors;
    dim[dPL] = hp->per_layer_embd;
    dim[dPLD] = hp->per_layer_embd ? d : 0;
    dim[dPLL] = (uint64_t)hp->per_layer_embd * hp->n_layers;
    dim[dHC] = hp->hc;
    dim[dHCD] = hp->hc * d;
    dim[dMIX] = (2 + (uint64_t)hp->hc) * hp->hc;
    dim[dHCL] = hp->hc_low_rank;
    dim[dNGD] = hp->ngram_dim;
    dim[dNGR] = hp->ngram_rows;
    dim[dNGC] = hp->ngram_conv;
    dim[dOA] = (uint64_t)hp->o_groups * hp->o_lora;
}

static void layer_dims(const struct mb_model *model, uint32_t i, uint64_t *dim)
{
    const struct mb_hparams *hp = &model->hp;
    const struct mb_layer *layer = &model->layers[i];
    uint64_t h = layer->n_head, kv = layer->n_head_kv, k = layer->head_k, v = layer->head_v;
    int no_v = hp->k_eq_v && !layer->window;
    dim[dH] = h;
    dim[dHS] = layer->window ? h : 0;
    dim[dHK] = k;
    dim[dHKC] = hp->qk_norm ? k : 0;
    dim[dQALL] = h * k;
    dim[dQ] = model->arch->flags & MB_ARCH_GATED_Q ? 2 * h * k : h * k;
    dim[dK] = dim[dKALL] = kv * k;
    dim[dKV] = no_v ? 0 : kv * v;
    dim[dO] = h * v;
    dim[dQKV] = h * k + kv * k + kv * v;
    dim[dBQ] = hp->qkv_bias ? h * k : 0;
    dim[dBK] = hp->qkv_bias ? kv * k : 0;
    dim[dBV] = hp->qkv_bias ? kv * v : 0;
    dim[dFF] = layer->n_ff;
    dim[dFF2] = 2 * (uint64_t)layer->n_ff;
    dim[dNV] = hp->nextn_tables ? hp->n_vocab : 0;
    /* Indexers of this layer */
    uint64_t index = layer->indexed ? hp->index_heads : 0;
    dim[dIH] = index;
    dim[dIK] = layer->indexed ? hp->index_dim : 0;
    dim[dIHK] = index * hp->index_dim;
    dim[dIP] = hp->index_pool;
    /* Hyper-connections end before the NextN block in glm5-next */
    dim[dMIX] = layer->nextn && hp->kv_lora ? 0 : (2 + (uint64_t)hp->hc) * hp->hc;
    dim[dCH] = dim[dMIX] ? 3 : 0;
    /* N-gram embedding */
    dim[dNGE] = layer->ngram ? hp->n_embd : 0;
    dim[dNGH] = layer->ngram ? dim[dHCD] : 0;
    /* deepseek4: compressor; ratio 4 has overlapping blocks (twice the width) and an indexer */
    uint64_t ratio = layer->compress_ratio, width = ratio == 4 ? 2 * k : ratio ? k : 0;
    int four = ratio == 4;
    dim[dCR] = ratio;
    dim[dCK] = width;
    dim[dCI] = ratio ? k : 0;
    dim[dCIH] = four ? hp->index_heads : 0;
    dim[dCIQ] = four ? (uint64_t)hp->index_heads * hp->index_dim : 0;
    dim[dCIK] = four ? 2 * (uint64_t)hp->index_dim : 0;
    if (ratio)
        dim[dIK] = four ? hp->index_dim : 0;
    dim[dOG] = hp->o_groups ? h * k / hp->o_groups : 0;
    dim[dHASH] = i < hp->hash_layers ? hp->n_expert_used : 0;
    dim[dEH] = i < hp->hash_layers ? 0 : hp->n_expert;
}

struct builder {
    struct mb_model *model;
    const uint64_t *dim;
    struct mb_tensor *tensors; /* NULL: only count */
    uint32_t n;
    size_t name_bytes;
    char *names;
};

static const struct {
    const char *suffix;
    uint8_t n;
} parts[] = {{".weight", 7}, {".weight", 7}, {".bias", 5}, {"", 0}, {".scale", 6}, {".weight", 7}};

static uint32_t part_type(unsigned part)
{
    return part == WEIGHT ? MB_TYPE_BF16 : part == WEIGHT_I32 ? MB_TYPE_I32 : MB_TYPE_F32;
}

static void emit(struct builder *builder, const struct mb_arch_row *row, int32_t layer, const char *prefix, size_t prefix_n)
{
    for (; row->kind != MB_T_END; row++) {
        unsigned n_dims = 1;
        int absent = !builder->dim[row->dims[0]];
        while (n_dims < 3 && row->dims[n_dims])
            absent |= !builder->dim[row->dims[n_dims++]];
        if (absent)
            continue;
        const char *base = mb_kind_info((enum mb_tensor_kind)row->kind)->base;
        size_t base_n = strlen(base), part_n = parts[row->part].n;
        if (builder->tensors) {
            struct mb_tensor *tensor = &builder->tensors[builder->n];
            char *name = builder->names;
            memcpy(name, prefix, prefix_n);
            memcpy(name + prefix_n, base, base_n);
            memcpy(name + prefix_n + base_n, parts[row->part].suffix, part_n + 1);
            builder->names = name + prefix_n + base_n + part_n + 1;
            tensor->name = name;
            tensor->kind = row->kind;
            tensor->layer = layer;
            tensor->type = part_type(row->part);
            tensor->n_dims = (uint8_t)n_dims;
            for (unsigned i = 0; i < 4; i++)
                tensor->ne[i] = i < n_dims ? builder->dim[row->dims[i]] : 1;
            int matrix = tensor->ne[1] > 1 || tensor->ne[2] > 1;
            int weight = row->part == WEIGHT || row->part == WEIGHT_F32;
            tensor->plain = row->part == WEIGHT;
            tensor->quantizable =
                weight && matrix && !(mb_kind_info((enum mb_tensor_kind)row->kind)->flags & MB_KIND_NOT_QUANTIZED);
        }
        builder->n++;
        builder->name_bytes += prefix_n + base_n + part_n + 1;
    }
}

static void emit_lists(struct builder *builder, const struct mb_arch_row *const *lists, unsigned max, int32_t layer,
                       const char *prefix, size_t prefix_n)
{
    for (unsigned i = 0; i < max && lists[i]; i++)
        emit(builder, lists[i], layer, prefix, prefix_n);
}
#define EMIT(lists) emit_lists(builder, lists, MB_COUNT(lists), (int32_t)i, prefix, prefix_n)

static void walk(struct builder *builder, uint64_t *dim)
{
    static const struct mb_arch_row embedding[] = {W(TOKEN_EMBD, D, V), END};
    static const struct mb_arch_row head[] = {W(OUTPUT, D, V), END};
    const struct mb_model *model = builder->model;
    const struct mb_arch *arch = model->arch;
    emit(builder, embedding, -1, "", 0);
    if (!model->hp.tied)
        emit(builder, head, -1, "", 0);
    emit_lists(builder, arch->globals, MB_COUNT(arch->globals), -1, "", 0);
    for (uint32_t i = 0; i < model->n_layers_all; i++) {
        const struct mb_layer *layer = &model->layers[i];
        char prefix[24];
        size_t prefix_n = (size_t)snprintf(prefix, sizeof(prefix), "blk.%u.", i);
        layer_dims(model, i, dim);
        EMIT(arch->every);
        if (layer->mixer == MB_MIX_ATTENTION || layer->mixer == MB_MIX_MLA)
            EMIT(arch->attention);
        else if (layer->mixer != MB_MIX_NONE)
            EMIT(arch->recur);
        if (!layer->moe || arch->flags & MB_ARCH_DENSE_TOO)
            EMIT(arch->dense);
        if (layer->moe)
            EMIT(arch->experts);
        if (layer->nextn)
            EMIT(arch->nextn);
    }
}

int mb_arch_tensors(struct mb_model *model, struct mb_err *err)
{
    uint64_t dim[N_DIMS] = {0};
    struct builder builder = {.model = model, .dim = dim};
    base_dims(&model->hp, dim);
    walk(&builder, dim);
    model->n_tensors = builder.n;
    model->tensors = mb_arena_array(&model->arena, builder.n, sizeof(*model->tensors));
    char *names = mb_arena_alloc(&model->arena, builder.name_bytes);
    if (!model->tensors || !names)
        return mb_fail_memory(err);
    builder = (struct builder){.model = model, .dim = dim, .tensors = model->tensors, .names = names};
    walk(&builder, dim);
    for (uint32_t i = 0; i < model->n_tensors; i++)
        mb_tensor_set_role(model, &model->tensors[i]);
    return MB_OK;
}
