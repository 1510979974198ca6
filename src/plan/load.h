/* SPDX-License-Identifier: MIT */
/* The load of a model: what a planner needs to know about it, taken from the tape once and then cheap to evaluate at any
 * depth and for any placement. A load is a list of units, the pieces that can lie in different pools. Units that cost the
 * same share a shape, so that a model of 60 layers has about 5 to 20 shapes. Internal to src/plan and those above it. */
#ifndef MB_LOAD_H
#define MB_LOAD_H

#include "model/tape.h"

/* What can be placed. X(name, JSON key, text) */
#define MB_UNITS(X)                                                                                              \
    X(EMBEDDING, "embedding", "token embedding")      /* rows are looked up: costs nothing to speak of */        \
    X(LAYER_EMBEDDING, "layer_embedding", "per-layer embeddings")                                                \
    X(CORE, "core", "attention and what every token reads of a layer") /* with its cache, router, shared experts */ \
    X(FFN, "ffn", "dense FFN")                                                                                   \
    X(EXPERTS, "experts", "routed experts")                                                                      \
    X(HEAD, "head", "output head")                    /* a tied table is head and embedding in one */            \
    X(UNREAD, "unread", "never read in plain decoding") /* next-token prediction, vision, audio */

enum mb_unit_kind {
#define MB_UNIT_ENUM(name, key, text) MB_UNIT_##name,
    MB_UNITS(MB_UNIT_ENUM)
#undef MB_UNIT_ENUM
        MB_N_UNIT_KINDS
};

/* "core", ...: the JSON key of a kind. */
const char *mb_unit_kind_name(enum mb_unit_kind kind);

/* Types whose unpacking costs about the same arithmetic. */
enum mb_weight_class {
    MB_WEIGHTS_FLOAT, /* F32, F16, BF16: no unpacking */
    MB_WEIGHTS_8,     /* Q8_0 and other bytes */
    MB_WEIGHTS_4,     /* Q4_0 .. Q5_1, MXFP4, NVFP4, IQ4_NL: one scale, one shift */
    MB_WEIGHTS_K,     /* Q2_K .. Q6_K, IQ4_XS: scales of scales */
    MB_WEIGHTS_CODE,  /* IQ1 .. IQ3: a look-up in a code book */
    MB_N_WEIGHT_CLASSES
};

/* The class of a type (enum mb_type). */
enum mb_weight_class mb_weight_class_of(uint32_t type);

/* Cache that one layer reads: row_bytes * cells(depth), where
 *   cells = min((depth + 1) / ratio, cap), and for chunked attention depth mod cap + 1. */
struct mb_cells {
    double row_bytes;
    double flops_per_cell; /* scores and values of all heads */
    uint64_t cap;          /* UINT64_MAX: none */
    uint32_t ratio;        /* 1, or tokens per compressed cell */
    uint32_t chunked;
};

enum { MB_CELLS_MAX = 3 }; /* window, compressed, index */

/* What a unit costs, whichever layer it is in. */
struct mb_shape {
    enum mb_unit_kind kind;
    enum mb_mixer mixer;                        /* CORE; else MB_MIX_NONE */
    double bytes[MB_N_WEIGHT_CLASSES];          /* read per token; of routed experts, the chosen share */
    double weights[MB_N_WEIGHT_CLASSES];        /* elements in them */
    double weight_bytes;                        /* sum of bytes[] */
    double row_bytes;                           /* embedding rows per token: latency, not bandwidth */
    double state_bytes;                         /* recurrent: read, and written again */
    double flops;                               /* per token, without attention over the cache */
    double prefill_flops;                       /* the same for each token of a prompt: the head is 0 there */
    struct mb_cells cells[MB_CELLS_MAX];
    unsigned n_cells;
    double kv_write_bytes;
    unsigned n_matrices;                        /* that are multiplied with */
    unsigned n_ops;                             /* of the tape: matrices, norms, attention, ... */
    uint32_t n_expert, n_expert_used;           /* EXPERTS; else 0 */
    uint32_t n_head, n_head_kv;                 /* CORE with attention; else 0 */
    uint32_t n_embd;                            /* width that crosses between processors */
};

/* A piece that lies in one pool. */
struct mb_unit {
    enum mb_unit_kind kind;
    int32_t layer; /* -1: none */
    uint32_t shape;
    uint64_t resident_bytes;
    uint64_t cache_bytes; /* allocated for n_ctx tokens: KV and state */
};

struct mb_load {
    const struct mb_model *model; /* borrowed */
    struct mb_kv_opts kv;
    uint64_t n_ctx;
    struct mb_unit *units; /* in the order of execution; UNREAD ones last */
    uint32_t n_units;
    struct mb_shape *shapes;
    uint32_t n_shapes;
    uint32_t n_layers, n_moe_layers, n_embd, n_vocab;
    uint32_t n_expert, n_expert_used;
    int moe;                   /* has routed experts */
    double scale;              /* of weight bytes, by mb_load_scale() */
    uint64_t resident_bytes;   /* weights, sums over the units */
    uint64_t cache_bytes;
    double weight_bytes;       /* read per token: the active shard */
    struct mb_arena arena;
};

enum { MB_LOAD_UNITS_MAX = 3 * MB_LAYERS_MAX + MB_N_UNIT_KINDS };

/* Build the load of a model for a context of n_ctx tokens (its cache is allocated for so many).
 *   opts  in   cache types; NULL: F16
 *   out   out  written only on MB_OK; free with mb_load_free(); the model must outlive it
 * Returns MB_OK; MB_ERANGE: n_ctx too large; MB_EINVAL: a cache type; MB_ENOMEM. Pure. */
int mb_load_build(const struct mb_model *model, uint64_t n_ctx, const struct mb_kv_opts *opts, struct mb_load **out,
                  struct mb_err *err);
void mb_load_free(struct mb_load *load);

/* Multiply all weight bytes: the true file is that much larger than what was counted. */
void mb_load_scale(struct mb_load *load, double factor);

/* Cells of one piece that decoding at a depth reads; cache bytes that a shape reads there; arithmetic over them. */
double mb_cells_at(const struct mb_cells *cells, double depth);
double mb_shape_kv_bytes(const struct mb_shape *shape, double depth);
double mb_shape_kv_flops(const struct mb_shape *shape, double depth);

/* Mean number of cells that the n tokens of a chunk, the first at a depth, read each. */
double mb_cells_mean(const struct mb_cells *cells, double depth, double n_tokens);

#endif
