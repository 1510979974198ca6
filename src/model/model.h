/* SPDX-License-Identifier: MIT */
/* A model: hyperparameters, layers and tensors. One struct for both origins, a GGUF file and a catalog
 * entry with a quantization name. Internal: the planner, the tape and the engine read it; only the files
 * of this directory write it. The public side is in membound.h, "the model". */
#ifndef MB_MODEL_H
#define MB_MODEL_H

#include "base/base.h"
#include "model/type.h"

/* ---- limits: what no real model reaches, so that products of these fit 64 bits ---- */

#define MB_LAYERS_MAX 1024u
#define MB_EXPERTS_MAX 65536u
#define MB_ROW_MAX (1u << 20)   /* elements of one cache row of one layer */
#define MB_TENSORS_MAX 1000000u /* llama.cpp stops at 65,536 per file */
#define MB_DEPTH_MAX (1u << 28) /* tokens of context */

/* ---- tensors ---- */

/* Which rule llama-quantize applies to a tensor; it decides by substrings of the name. */
enum mb_quant_class {
    MB_Q_OTHER,
    MB_Q_OUTPUT,
    MB_Q_EMBEDDING,
    MB_Q_QKV,
    MB_Q_KV_B,
    MB_Q_V,
    MB_Q_K,
    MB_Q_Q,
    MB_Q_ATTN_OUT,
    MB_Q_UP,
    MB_Q_GATE,
    MB_Q_DOWN
};

/* How one forward pass reads a tensor. */
enum mb_read_rule {
    MB_READ_FULL,    /* all of it, once per pass */
    MB_READ_ROWS,    /* rows_per_token rows for each token */
    MB_READ_TIED,    /* the embedding table that is also the head: all of it, and one row for each token */
    MB_READ_EXPERTS, /* the share of the experts that are chosen */
    MB_READ_NEVER    /* resident, not read in plain decoding */
};

/* The parts of one forward pass, in the order in which a layer executes them. An op of the tape is one part
 * of one layer with the tensors that belong to it. X(name, label) */
#define MB_OP_KINDS(X)                                                                                     \
    X(NONE, "none")                       /* not executed */                                               \
    X(EMBED, "embed")                     /* look up the row of each token */                              \
    X(EMBED_LAYERS, "embed_layers")       /* rows of per-layer embedding tables, and their projection */   \
    X(POSITION, "position")               /* rope factors */                                               \
    X(MIX_ATTN, "mix_attn")               /* hyper-connections: residual streams -> input of attention */  \
    X(NORM_ATTN, "norm_attn")                                                                              \
    X(QKV, "qkv")                         /* projections to query, key, value (MLA: down and up) */        \
    X(INDEX, "index")                     /* sparse attention: indexer projections, scores of all keys */  \
    X(COMPRESS, "compress")               /* build the compressed cache rows */                            \
    X(ROPE_STORE, "rope_store")           /* q/k norms, rope, store the new cache row */                   \
    X(ATTENTION, "attention")             /* scores, softmax, values: reads the KV cache */                \
    X(ATTN_OUT, "attn_out")                                                                                \
    X(RECURRENT_IN, "recurrent_in")       /* input projections of a linear-attention, SSM or conv layer */ \
    X(RECURRENT_MIX, "recurrent_mix")     /* convolution and state update: reads and writes the state */   \
    X(RECURRENT_OUT, "recurrent_out")                                                                      \
    X(NORM_POST_ATTN, "norm_post_attn")   /* after attention; in some families the norm before the FFN */  \
    X(MIX_FFN, "mix_ffn")                                                                                  \
    X(NORM_FFN, "norm_ffn")                                                                                \
    X(FFN_UP, "ffn_up")                   /* gate and up of a dense FFN */                                 \
    X(FFN_DOWN, "ffn_down")                                                                                \
    X(ROUTER, "router")                                                                                    \
    X(EXPERTS_IN, "experts_in")           /* to the latent width of the experts */                         \
    X(EXPERTS_UP, "experts_up")           /* gate and up of the chosen experts */                          \
    X(EXPERTS_DOWN, "experts_down")                                                                        \
    X(EXPERTS_OUT, "experts_out")         /* back from the latent width */                                 \
    X(SHARED_UP, "shared_up")                                                                              \
    X(SHARED_DOWN, "shared_down")                                                                          \
    X(NORM_POST_FFN, "norm_post_ffn")                                                                      \
    X(LAYER_EMBED, "layer_embed")         /* mix in the per-layer embedding */                             \
    X(LAYER_OTHER, "layer_other")         /* tensors of a layer that no description places */              \
    X(HEAD_MIX, "head_mix")                                                                                \
    X(HEAD_NORM, "head_norm")                                                                              \
    X(HEAD, "head")                       /* logits of the last token */                                   \
    X(GLOBAL_OTHER, "global_other")

enum mb_op_kind {
#define MB_OP_ENUM(name, label) MB_OP_##name,
    MB_OP_KINDS(MB_OP_ENUM)
#undef MB_OP_ENUM
        MB_OP_KIND_END
};

/* The tensor holds scales or maps of another: bytes that are read, but no parameters. */
#define MB_PACK_NONE 255u

struct mb_tensor {
    const char *name;
    const char *type_name; /* NULL: that of type; else what the file calls it, and type only has as many bytes */
    uint64_t ne[4]; /* ne[0] is the row; unused dimensions are 1 */
    uint64_t bytes;
    uint64_t offset;         /* of the data in its file part; 0 without a file */
    uint32_t type;           /* enum mb_type */
    uint32_t rows_per_token; /* MB_READ_ROWS */
    int32_t layer;           /* -1: none */
    uint16_t kind;           /* enum mb_tensor_kind (roles.h) */
    uint16_t part;           /* of a split file */
    uint8_t n_dims;
    uint8_t role;        /* enum mb_role */
    uint8_t rule;        /* enum mb_read_rule */
    uint8_t op;          /* enum mb_op_kind */
    uint8_t quant_class; /* enum mb_quant_class */
    uint8_t quantizable; /* llama-quantize may change its type */
    uint8_t packing;     /* weights in one stored element: 0 and 1: one; MB_PACK_NONE */
    uint8_t plain;       /* a weight that the converter keeps in 16 bits, not one that it makes F32 */
};

/* ---- layers ---- */

enum mb_mixer {
    MB_MIX_NONE, /* no attention and no state: only an FFN */
    MB_MIX_ATTENTION,
    MB_MIX_MLA, /* compressed cache: keys and values are one row, there is no V cache */
    MB_MIX_GDN, /* gated delta net */
    MB_MIX_MAMBA2,
    MB_MIX_KDA,   /* Kimi delta attention */
    MB_MIX_CONV,  /* short convolution */
    MB_MIX_OTHER_STATE /* recurrent, of a kind that is not described: its state is unknown */
};

struct mb_layer {
    enum mb_mixer mixer;
    uint8_t nextn;    /* a next-token-prediction block: resident, not read */
    uint8_t moe;      /* has routed experts */
    uint8_t chunked;  /* the window is a chunk: it starts anew every `window` tokens */
    uint8_t parallel; /* recurrent, and attention beside it */
    uint8_t indexed;  /* has an indexer of its own */
    uint8_t ngram;    /* has the n-gram embedding of qwen4exp */
    uint32_t window;  /* 0: full attention */
    uint32_t n_head, n_head_kv, head_k, head_v, n_ff;
    uint32_t kv_layer; /* the layer whose cache this one attends to: itself, or an earlier one */
    /* The cache of this layer, in elements. Zero for what it does not have. */
    uint32_t k_elements, v_elements;         /* one row per cell */
    uint32_t index_elements, index_spare;    /* indexer keys per cell; allocated beside them and never read */
    uint32_t top_k;                          /* cells that sparse attention reads at most; 0 = all */
    uint32_t compress_ratio;                 /* tokens per compressed cell; 0 = no compressed cache */
    uint32_t compress_elements, compress_index_elements;
    /* State that does not grow, F32, one per sequence. */
    uint64_t conv_elements, state_elements;  /* read and written in full for every token */
    uint64_t compressor_elements;            /* written by slots, read once per compressed cell */
    uint32_t compressor_slots;
    uint32_t first_tensor, n_tensors; /* into mb_model.by_layer */
};

/* ---- hyperparameters ---- */

struct mb_arch; /* arch.h */

/* Every field is 0 where the model does not have the thing. */
struct mb_hparams {
    uint32_t n_layers; /* without NextN blocks */
    uint32_t n_nextn;  /* NextN blocks present, after the layers */
    uint32_t n_embd, n_vocab, context_max;
    uint32_t n_head, n_head_kv, head_k, head_v, n_ff;                    /* of full-attention layers */
    uint32_t n_head_window, n_head_kv_window, head_k_window, head_v_window; /* of sliding layers; 0 = the same */
    uint32_t window;
    uint32_t tied; /* no output.weight: the embedding table is the head */
    uint32_t n_expert, n_expert_used, n_ff_exp, n_ff_shexp, dense_first, moe_every, latent;
    uint32_t q_lora, kv_lora, nope, rope, v_mla;
    uint32_t index_heads, index_dim, index_top_k, index_first, index_pool;
    uint32_t linear_k_heads, linear_v_heads, linear_dim, linear_conv;
    uint32_t ssm_inner, ssm_state, ssm_heads, ssm_groups, ssm_conv;
    uint32_t conv_cache;
    uint32_t o_groups, o_lora, hash_layers;
    uint32_t hc, hc_low_rank;
    uint32_t ngram_dim, ngram_rows, ngram_heads, ngram_conv;
    uint32_t per_layer_embd, shared_kv_layers, double_wide_ffn, k_eq_v;
    uint32_t qkv_bias, qk_norm, rope_freqs, rope_factors, nextn_tables;
    uint32_t old_ssm_in, old_kv_b; /* layouts of early files */
};

/* ---- the model ---- */

struct mb_model {
    struct mb_arena arena;
    const char *name, *arch_name, *quant;
    const char *path; /* NULL: from the catalog */
    struct mb_gguf *gguf; /* the header of a file that was opened by its path, for those who run it; NULL: none */
    int is_directory; /* path is one, with config.json and safetensors */
    const char *hf, *license, *released;
    const struct mb_arch *arch; /* NULL: not described */
    struct mb_hparams hp;
    struct mb_layer *layers; /* hp.n_layers + hp.n_nextn */
    uint32_t n_layers_all;
    struct mb_tensor *tensors;
    uint32_t n_tensors;
    uint32_t *by_layer;                  /* indices of tensors, grouped by layer, those without a layer last */
    uint32_t first_global, n_global;     /* into by_layer */
    uint64_t params, resident_bytes;
    uint64_t file_bytes;     /* of all parts; without a file: resident bytes */
    double size_uncertainty; /* relative; 0 for a file */
    const char **warnings;
    unsigned n_warnings;
};

/* An empty model that owns an arena; NULL when out of memory. Freed by mb_model_free(). */
struct mb_model *mb_model_new(void);
/* Parameters in a tensor: its elements, with the packing of some files undone. */
uint64_t mb_tensor_params(const struct mb_tensor *tensor);
/* One sentence about what is not certain; the same one is kept once. */
void mb_model_warn(struct mb_model *model, const char *format, ...) MB_PRINTF(2, 3);

/* Called when layers and tensors are complete: groups tensors by layer, fills what layers keep in caches and
 * states, sums bytes. MB_OK; MB_EFORMAT: sums or cache rows over the limits; MB_ENOMEM. */
int mb_model_finish(struct mb_model *model, struct mb_err *err);

/* ---- parts of the directory ---- */

/* kv.c: cache and state sizes of every layer from mixer, heads and hparams. MB_OK; MB_EFORMAT. */
int mb_layers_set_caches(struct mb_model *model, struct mb_err *err);

/* arch.c: make the tensor list of a catalog model from its hyperparameters and layers; types are those of a BF16
 * conversion. MB_OK; MB_EFORMAT: a dimension is missing; MB_ENOMEM. */
int mb_arch_tensors(struct mb_model *model, struct mb_err *err);

/* What differs between layers, as the catalog states it. `pattern` has one letter per layer, repeated as needed: F full
 * attention, S sliding, R recurrent, '-' dense FFN only, E experts only; NULL: all F. */
struct mb_layer_lists {
    const char *pattern;
    const uint32_t *compress_ratios; /* n_layers of them, or NULL */
    const uint32_t *index_layers;    /* layers with an indexer of their own; NULL: all attention layers from index_first */
    uint32_t n_index_layers;
    const uint32_t *ngram_layers;
    uint32_t n_ngram_layers;
};

/* hparams.c: check hyperparameters against the limits. MB_OK; MB_EFORMAT: err names the one at fault. */
int mb_hparams_check(const struct mb_model *model, struct mb_err *err);
/* hparams.c: set mixers, heads and windows of the layers of a catalog model. Needs arch and checked hyperparameters.
 * MB_OK; MB_EFORMAT; MB_ENOMEM. */
int mb_hparams_layers(struct mb_model *model, const struct mb_layer_lists *lists, struct mb_err *err);

#endif
