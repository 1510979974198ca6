/* SPDX-License-Identifier: MIT */
/* What each tensor name means: its role, the op that reads it, and the rule by which llama-quantize picks its type. One
 * table for both directions: files are looked up by name, catalog models are made from it. */
#ifndef MB_ROLES_H
#define MB_ROLES_H

#include "model/model.h"

/* X(kind, base name, role, op, quantization class, flags). The base name is what stands between "blk.N." and the last
 * part (".weight", ".bias", ".scale"). Flags: 1 = the converter writes F32, 2 = never quantized, 4 = last dimension is
 * experts. Sorted by base name (strcmp); tests/unit/tape.c checks that. Names: llama.cpp b10573, src/llama-arch.cpp. */
#define MB_TENSOR_KINDS(X)                                                                     \
    X(ATTN_COMPRESSOR_APE, "attn_compressor_ape", ATTENTION, COMPRESS, OTHER, 1)               \
    X(ATTN_COMPRESSOR_GATE, "attn_compressor_gate", ATTENTION, COMPRESS, OTHER, 0)             \
    X(ATTN_COMPRESSOR_KV, "attn_compressor_kv", ATTENTION, COMPRESS, OTHER, 0)                 \
    X(ATTN_COMPRESSOR_NORM, "attn_compressor_norm", NORMS_ROUTERS, COMPRESS, OTHER, 3)         \
    X(ATTN_GATE, "attn_gate", ATTENTION, QKV, OTHER, 0)                                        \
    X(ATTN_K, "attn_k", ATTENTION, QKV, K, 0)                                                  \
    X(ATTN_K_B, "attn_k_b", ATTENTION, QKV, OTHER, 0)                                          \
    X(ATTN_K_NORM, "attn_k_norm", NORMS_ROUTERS, ROPE_STORE, OTHER, 3)                         \
    X(ATTN_KV, "attn_kv", ATTENTION, QKV, OTHER, 0)                                            \
    X(ATTN_KV_A_MQA, "attn_kv_a_mqa", ATTENTION, QKV, OTHER, 0)                                \
    X(ATTN_KV_A_NORM, "attn_kv_a_norm", NORMS_ROUTERS, QKV, OTHER, 3)                          \
    X(ATTN_KV_B, "attn_kv_b", ATTENTION, QKV, KV_B, 0)                                         \
    X(ATTN_NORM, "attn_norm", NORMS_ROUTERS, NORM_ATTN, OTHER, 3)                              \
    X(ATTN_OUTPUT, "attn_output", ATTENTION, ATTN_OUT, ATTN_OUT, 0)                            \
    X(ATTN_OUTPUT_A, "attn_output_a", ATTENTION, ATTN_OUT, OTHER, 0)                           \
    X(ATTN_OUTPUT_B, "attn_output_b", ATTENTION, ATTN_OUT, OTHER, 0)                           \
    X(ATTN_POST_NORM, "attn_post_norm", NORMS_ROUTERS, NORM_POST_ATTN, OTHER, 3)               \
    X(ATTN_Q, "attn_q", ATTENTION, QKV, Q, 0)                                                  \
    X(ATTN_Q_A, "attn_q_a", ATTENTION, QKV, OTHER, 0)                                          \
    X(ATTN_Q_A_NORM, "attn_q_a_norm", NORMS_ROUTERS, QKV, OTHER, 3)                            \
    X(ATTN_Q_B, "attn_q_b", ATTENTION, QKV, OTHER, 0)                                          \
    X(ATTN_Q_NORM, "attn_q_norm", NORMS_ROUTERS, ROPE_STORE, OTHER, 3)                         \
    X(ATTN_QKV, "attn_qkv", ATTENTION, QKV, QKV, 0)                                            \
    X(ATTN_RES_SCORE, "attn_res_score", NORMS_ROUTERS, MIX_ATTN, OTHER, 1)                     \
    X(ATTN_SINKS, "attn_sinks", ATTENTION, ATTENTION, OTHER, 1)                                \
    X(ATTN_SUB_NORM, "attn_sub_norm", NORMS_ROUTERS, ATTN_OUT, OTHER, 3)                       \
    X(ATTN_V, "attn_v", ATTENTION, QKV, V, 0)                                                  \
    X(ATTN_V_B, "attn_v_b", ATTENTION, ATTN_OUT, OTHER, 0)                                     \
    X(EXP_PROBS_B, "exp_probs_b", NORMS_ROUTERS, ROUTER, OTHER, 1)                             \
    X(FFN_DOWN, "ffn_down", DENSE_FFN, FFN_DOWN, DOWN, 0)                                      \
    X(FFN_DOWN_CHEXPS, "ffn_down_chexps", ROUTED_EXPERTS, EXPERTS_DOWN, DOWN, 4)               \
    X(FFN_DOWN_EXPS, "ffn_down_exps", ROUTED_EXPERTS, EXPERTS_DOWN, DOWN, 4)                   \
    X(FFN_DOWN_SHEXP, "ffn_down_shexp", SHARED_EXPERTS, SHARED_DOWN, DOWN, 0)                  \
    X(FFN_GATE, "ffn_gate", DENSE_FFN, FFN_UP, GATE, 0)                                        \
    X(FFN_GATE_CHEXPS, "ffn_gate_chexps", ROUTED_EXPERTS, EXPERTS_UP, GATE, 4)                 \
    X(FFN_GATE_EXPS, "ffn_gate_exps", ROUTED_EXPERTS, EXPERTS_UP, GATE, 4)                     \
    X(FFN_GATE_INP, "ffn_gate_inp", NORMS_ROUTERS, ROUTER, GATE, 3)                            \
    X(FFN_GATE_INP_SHEXP, "ffn_gate_inp_shexp", NORMS_ROUTERS, ROUTER, GATE, 1)                \
    X(FFN_GATE_SHEXP, "ffn_gate_shexp", SHARED_EXPERTS, SHARED_UP, GATE, 0)                    \
    X(FFN_GATE_TID2EID, "ffn_gate_tid2eid", NORMS_ROUTERS, ROUTER, GATE, 3)                    \
    X(FFN_GATE_UP_EXPS, "ffn_gate_up_exps", ROUTED_EXPERTS, EXPERTS_UP, GATE, 4)               \
    X(FFN_LATENT_DOWN, "ffn_latent_down", SHARED_EXPERTS, EXPERTS_IN, OTHER, 0)                \
    X(FFN_LATENT_UP, "ffn_latent_up", SHARED_EXPERTS, EXPERTS_OUT, OTHER, 0)                   \
    X(FFN_NORM, "ffn_norm", NORMS_ROUTERS, NORM_FFN, OTHER, 3)                                 \
    X(FFN_POST_NORM, "ffn_post_norm", NORMS_ROUTERS, NORM_POST_FFN, OTHER, 3)                  \
    X(FFN_RES_SCORE, "ffn_res_score", NORMS_ROUTERS, MIX_FFN, OTHER, 1)                        \
    X(FFN_ROUTED_DOWN, "ffn_routed_down", SHARED_EXPERTS, EXPERTS_IN, OTHER, 0)                \
    X(FFN_ROUTED_NORM, "ffn_routed_norm", NORMS_ROUTERS, EXPERTS_IN, OTHER, 3)                 \
    X(FFN_ROUTED_UP, "ffn_routed_up", SHARED_EXPERTS, EXPERTS_OUT, OTHER, 0)                   \
    X(FFN_SUB_NORM, "ffn_sub_norm", NORMS_ROUTERS, FFN_DOWN, OTHER, 3)                         \
    X(FFN_UP, "ffn_up", DENSE_FFN, FFN_UP, UP, 0)                                              \
    X(FFN_UP_CHEXPS, "ffn_up_chexps", ROUTED_EXPERTS, EXPERTS_UP, UP, 4)                       \
    X(FFN_UP_EXPS, "ffn_up_exps", ROUTED_EXPERTS, EXPERTS_UP, UP, 4)                           \
    X(FFN_UP_SHEXP, "ffn_up_shexp", SHARED_EXPERTS, SHARED_UP, UP, 0)                          \
    X(HC_ATTN_BASE, "hc_attn_base", MIXING, MIX_ATTN, OTHER, 1)                                \
    X(HC_ATTN_DOWN, "hc_attn_down", MIXING, MIX_ATTN, OTHER, 0)                                \
    X(HC_ATTN_FN, "hc_attn_fn", MIXING, MIX_ATTN, OTHER, 1)                                    \
    X(HC_ATTN_INJECT, "hc_attn_inject", MIXING, MIX_ATTN, OTHER, 0)                            \
    X(HC_ATTN_NORM, "hc_attn_norm", NORMS_ROUTERS, MIX_ATTN, OTHER, 3)                         \
    X(HC_ATTN_SCALE, "hc_attn_scale", MIXING, MIX_ATTN, OTHER, 1)                              \
    X(HC_ATTN_UP, "hc_attn_up", MIXING, MIX_ATTN, OTHER, 0)                                    \
    X(HC_FFN_BASE, "hc_ffn_base", MIXING, MIX_FFN, OTHER, 1)                                   \
    X(HC_FFN_DOWN, "hc_ffn_down", MIXING, MIX_FFN, DOWN, 0)                                    \
    X(HC_FFN_FN, "hc_ffn_fn", MIXING, MIX_FFN, OTHER, 1)                                       \
    X(HC_FFN_INJECT, "hc_ffn_inject", MIXING, MIX_FFN, OTHER, 0)                               \
    X(HC_FFN_NORM, "hc_ffn_norm", NORMS_ROUTERS, MIX_FFN, OTHER, 3)                            \
    X(HC_FFN_SCALE, "hc_ffn_scale", MIXING, MIX_FFN, OTHER, 1)                                 \
    X(HC_FFN_UP, "hc_ffn_up", MIXING, MIX_FFN, UP, 0)                                          \
    X(INDEXER_ATTN_K, "indexer.attn_k", ATTENTION, INDEX, K, 0)                                \
    X(INDEXER_ATTN_Q_B, "indexer.attn_q_b", ATTENTION, INDEX, OTHER, 0)                        \
    X(INDEXER_K_NORM, "indexer.k_norm", NORMS_ROUTERS, INDEX, OTHER, 3)                        \
    X(INDEXER_K_PROJ, "indexer.k_proj", ATTENTION, INDEX, OTHER, 2)                            \
    X(INDEXER_KPOOL_APE, "indexer.kpool_ape", ATTENTION, INDEX, OTHER, 1)                      \
    X(INDEXER_KPOOL_GATE, "indexer.kpool_gate", ATTENTION, INDEX, OTHER, 0)                    \
    X(INDEXER_PROJ, "indexer.proj", ATTENTION, INDEX, OTHER, 0)                                \
    X(INDEXER_Q_NORM, "indexer.q_norm", NORMS_ROUTERS, INDEX, OTHER, 3)                        \
    X(INDEXER_Q_PROJ, "indexer.q_proj", ATTENTION, INDEX, OTHER, 2)                            \
    X(INDEXER_COMPRESSOR_APE, "indexer_compressor_ape", ATTENTION, COMPRESS, OTHER, 1)         \
    X(INDEXER_COMPRESSOR_GATE, "indexer_compressor_gate", ATTENTION, COMPRESS, OTHER, 0)       \
    X(INDEXER_COMPRESSOR_KV, "indexer_compressor_kv", ATTENTION, COMPRESS, OTHER, 0)           \
    X(INDEXER_COMPRESSOR_NORM, "indexer_compressor_norm", NORMS_ROUTERS, COMPRESS, OTHER, 3)   \
    X(INP_GATE, "inp_gate", PER_LAYER_EMBEDDING, LAYER_EMBED, OTHER, 0)                        \
    X(LAYER_OUTPUT_NORM, "layer_output_norm", NORMS_ROUTERS, NORM_POST_FFN, OTHER, 3)          \
    X(LAYER_OUTPUT_SCALE, "layer_output_scale", NORMS_ROUTERS, NORM_POST_FFN, OTHER, 1)        \
    X(NEXTN_EH_PROJ, "nextn.eh_proj", NEXTN, NONE, OTHER, 0)                                   \
    X(NEXTN_EMBED_TOKENS, "nextn.embed_tokens", NEXTN, NONE, OTHER, 0)                         \
    X(NEXTN_ENORM, "nextn.enorm", NEXTN, NONE, OTHER, 1)                                       \
    X(NEXTN_HNORM, "nextn.hnorm", NEXTN, NONE, OTHER, 1)                                       \
    X(NEXTN_SHARED_HEAD_HEAD, "nextn.shared_head_head", NEXTN, NONE, OTHER, 0)                 \
    X(NEXTN_SHARED_HEAD_NORM, "nextn.shared_head_norm", NEXTN, NONE, OTHER, 3)                 \
    X(OUTPUT, "output", OUTPUT, HEAD, OUTPUT, 0)                                               \
    X(OUTPUT_HC_BASE, "output_hc_base", MIXING, HEAD_MIX, OTHER, 1)                            \
    X(OUTPUT_HC_DOWN, "output_hc_down", MIXING, HEAD_MIX, OTHER, 0)                            \
    X(OUTPUT_HC_FN, "output_hc_fn", MIXING, HEAD_MIX, OTHER, 1)                                \
    X(OUTPUT_HC_NORM, "output_hc_norm", NORMS_ROUTERS, HEAD_MIX, OTHER, 3)                     \
    X(OUTPUT_HC_SCALE, "output_hc_scale", MIXING, HEAD_MIX, OTHER, 1)                          \
    X(OUTPUT_HC_UP, "output_hc_up", MIXING, HEAD_MIX, OTHER, 0)                                \
    X(OUTPUT_NORM, "output_norm", NORMS_ROUTERS, HEAD_NORM, OTHER, 3)                          \
    X(OUTPUT_RES_SCORE, "output_res_score", NORMS_ROUTERS, HEAD_MIX, OTHER, 1)                 \
    X(PER_LAYER_MODEL_PROJ, "per_layer_model_proj", PER_LAYER_EMBEDDING, EMBED_LAYERS, OTHER, 2) \
    X(PER_LAYER_PROJ_NORM, "per_layer_proj_norm", NORMS_ROUTERS, EMBED_LAYERS, OTHER, 3)       \
    X(PER_LAYER_TOKEN_EMBD, "per_layer_token_embd", EMBEDDING, EMBED_LAYERS, EMBEDDING, 0)     \
    X(PLE_CONV1D, "ple_conv1d", PER_LAYER_EMBEDDING, LAYER_EMBED, OTHER, 1)                    \
    X(PLE_KEY, "ple_key", PER_LAYER_EMBEDDING, LAYER_EMBED, OTHER, 0)                          \
    X(PLE_NORM_CONV, "ple_norm_conv", NORMS_ROUTERS, LAYER_EMBED, OTHER, 1)                    \
    X(PLE_NORM_KEY, "ple_norm_key", NORMS_ROUTERS, LAYER_EMBED, OTHER, 1)                      \
    X(PLE_NORM_QUERY, "ple_norm_query", NORMS_ROUTERS, LAYER_EMBED, OTHER, 1)                  \
    X(PLE_VALUE, "ple_value", PER_LAYER_EMBEDDING, LAYER_EMBED, OTHER, 0)                      \
    X(POSITION_EMBD, "position_embd", EMBEDDING, EMBED, OTHER, 2)                              \
    X(POST_ATTENTION_NORM, "post_attention_norm", NORMS_ROUTERS, NORM_POST_ATTN, OTHER, 3)     \
    X(POST_FFW_NORM, "post_ffw_norm", NORMS_ROUTERS, NORM_POST_FFN, OTHER, 3)                  \
    X(POST_FFW_NORM_1, "post_ffw_norm_1", NORMS_ROUTERS, NORM_POST_FFN, OTHER, 1)              \
    X(POST_FFW_NORM_2, "post_ffw_norm_2", NORMS_ROUTERS, NORM_POST_FFN, OTHER, 1)              \
    X(POST_NORM, "post_norm", NORMS_ROUTERS, LAYER_EMBED, OTHER, 3)                            \
    X(PRE_FFW_NORM_2, "pre_ffw_norm_2", NORMS_ROUTERS, NORM_FFN, OTHER, 1)                     \
    X(PROJ, "proj", PER_LAYER_EMBEDDING, LAYER_EMBED, OTHER, 0)                                \
    X(ROPE_FACTORS_LONG, "rope_factors_long", NORMS_ROUTERS, POSITION, OTHER, 1)               \
    X(ROPE_FACTORS_SHORT, "rope_factors_short", NORMS_ROUTERS, POSITION, OTHER, 1)             \
    X(ROPE_FREQS, "rope_freqs", NORMS_ROUTERS, POSITION, OTHER, 1)                             \
    X(SHORTCONV_CONV, "shortconv.conv", RECURRENT, RECURRENT_MIX, OTHER, 3)                    \
    X(SHORTCONV_IN_PROJ, "shortconv.in_proj", RECURRENT, RECURRENT_IN, OTHER, 0)               \
    X(SHORTCONV_OUT_PROJ, "shortconv.out_proj", RECURRENT, RECURRENT_OUT, OTHER, 0)            \
    X(SSM_A, "ssm_a", RECURRENT, RECURRENT_MIX, OTHER, 1)                                      \
    X(SSM_ALPHA, "ssm_alpha", RECURRENT, RECURRENT_IN, OTHER, 0)                               \
    X(SSM_BA, "ssm_ba", RECURRENT, RECURRENT_IN, OTHER, 0)                                     \
    X(SSM_BETA, "ssm_beta", RECURRENT, RECURRENT_IN, OTHER, 0)                                 \
    X(SSM_CONV1D, "ssm_conv1d", RECURRENT, RECURRENT_MIX, OTHER, 3)                            \
    X(SSM_CONV1D_K, "ssm_conv1d_k", RECURRENT, RECURRENT_MIX, OTHER, 3)                        \
    X(SSM_CONV1D_Q, "ssm_conv1d_q", RECURRENT, RECURRENT_MIX, OTHER, 3)                        \
    X(SSM_CONV1D_V, "ssm_conv1d_v", RECURRENT, RECURRENT_MIX, OTHER, 3)                        \
    X(SSM_D, "ssm_d", RECURRENT, RECURRENT_MIX, OTHER, 1)                                      \
    X(SSM_DT, "ssm_dt", RECURRENT, RECURRENT_MIX, OTHER, 1)                                    \
    X(SSM_F_A, "ssm_f_a", RECURRENT, RECURRENT_IN, OTHER, 0)                                   \
    X(SSM_F_B, "ssm_f_b", RECURRENT, RECURRENT_IN, OTHER, 0)                                   \
    X(SSM_G, "ssm_g", RECURRENT, RECURRENT_IN, OTHER, 0)                                       \
    X(SSM_G_A, "ssm_g_a", RECURRENT, RECURRENT_IN, OTHER, 0)                                   \
    X(SSM_G_B, "ssm_g_b", RECURRENT, RECURRENT_IN, OTHER, 0)                                   \
    X(SSM_IN, "ssm_in", RECURRENT, RECURRENT_IN, OTHER, 0)                                     \
    X(SSM_NORM, "ssm_norm", RECURRENT, RECURRENT_MIX, OTHER, 3)                                \
    X(SSM_OUT, "ssm_out", RECURRENT, RECURRENT_OUT, OTHER, 0)                                  \
    X(SSM_X, "ssm_x", RECURRENT, RECURRENT_IN, OTHER, 0)                                       \
    X(TOKEN_EMBD, "token_embd", EMBEDDING, EMBED, EMBEDDING, 0)                                \
    X(TOKEN_EMBD_NORM, "token_embd_norm", NORMS_ROUTERS, HEAD_NORM, OTHER, 3)                  \
    X(TOKEN_TYPES, "token_types", EMBEDDING, EMBED, OTHER, 2)

enum mb_tensor_kind {
#define MB_KIND_ENUM(kind, base, role, op, quant, flags) MB_T_##kind,
    MB_TENSOR_KINDS(MB_KIND_ENUM)
#undef MB_KIND_ENUM
        MB_T_END, /* also: a name that the table does not hold */
    MB_T_UNKNOWN = MB_T_END
};

struct mb_kind_info {
    const char *base;
    uint8_t role, op, quant_class, flags;
};

enum { MB_KIND_F32 = 1, MB_KIND_NOT_QUANTIZED = 2, MB_KIND_EXPERTS = 4 };

/* The row of a kind; not for MB_T_UNKNOWN. */
const struct mb_kind_info *mb_kind_info(enum mb_tensor_kind kind);

/* Take a name apart: layer (-1: none) and kind. MB_OK; MB_EFORMAT: a layer number over the limit. Names of the 2023
 * Mixtral files ("blk.0.ffn_gate.3.weight") give the kind of the stacked tensor. */
int mb_tensor_parse(const char *name, int32_t *out_layer, enum mb_tensor_kind *out_kind);

/* Set role, rule, op and quantization class of a tensor whose name, kind, layer and shape are set. Needs the layers. */
void mb_tensor_set_role(const struct mb_model *model, struct mb_tensor *tensor);

/* The same for all tensors, with the warnings that belong to it (names that no table holds). */
void mb_model_set_roles(struct mb_model *model);

#endif
