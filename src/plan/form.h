/* SPDX-License-Identifier: MIT */
/* The form of the cost model: which amounts of work a pass consists of, and which fitted parameters make up the price of each.
 * A price is  base * exp(sum of parameters):  the base is physics (one over the bandwidth, one over the arithmetic, one second),
 * the parameters are shared between backends, families of chips, chips and engines, each pulled towards its prior, so that what
 * nobody measured falls back to its family and its backend. predict.c multiplies amounts by prices; fit.c finds the parameters.
 * docs/prediction.md states the formula. Internal to src/plan. */
#ifndef MB_FORM_H
#define MB_FORM_H

#include "plan/load.h"
#include "plan/profile.h"

/* What is paid for. X(name, key, text) */
#define MB_RATES(X)                                                                                       \
    X(BYTE_FLOAT, "byte.float", "weights, floats")                                                        \
    X(BYTE_8, "byte.8", "weights, 8 bits")                                                                \
    X(BYTE_4, "byte.4", "weights, 4 and 5 bits")                                                          \
    X(BYTE_K, "byte.k", "weights, K types")                                                               \
    X(BYTE_CODE, "byte.code", "weights, code books")                                                      \
    X(UNPACK_FLOAT, "unpack.float", "unpacking floats")                                                   \
    X(UNPACK_8, "unpack.8", "unpacking 8 bits")                                                           \
    X(UNPACK_4, "unpack.4", "unpacking 4 and 5 bits")                                                     \
    X(UNPACK_K, "unpack.k", "unpacking K types")                                                          \
    X(UNPACK_CODE, "unpack.code", "unpacking code books")                                                 \
    X(KV_BYTE, "kv.byte", "cache")                                                                        \
    X(KV_FLOP, "kv.flop", "attention arithmetic")                                                         \
    X(KV_LATENT, "kv.flop", "latent attention arithmetic")                                                \
    X(STATE_BYTE, "state.byte", "recurrent state")                                                        \
    X(OP, "op", "operations")                                                                             \
    X(ATTENTION, "attention", "attention layers")                                                         \
    X(MLA, "mla", "latent attention layers")                                                              \
    X(DELTA, "delta", "delta net layers")                                                                 \
    X(SSM, "ssm", "state space layers")                                                                   \
    X(CONV, "conv", "convolution layers")                                                                 \
    X(INDEX, "index", "sparse attention")                                                                 \
    X(FFN, "ffn", "dense FFN layers")                                                                     \
    X(MOE, "moe", "expert layers")                                                                        \
    X(TOKEN, "token", "once per token")                                                                   \
    X(CROSSING, "crossing", "crossings")                                                                  \
    X(PROMPT_FLOP, "prompt.flop", "prompt arithmetic")                                                    \
    X(PROMPT_BYTE, "prompt.byte", "prompt weights")                                                       \
    X(PROMPT_LAYER, "prompt.layer", "prompt layers")                                                      \
    X(PROMPT_COPY, "prompt.copy", "copies to the GPU")

enum mb_rate {
#define MB_RATE_ENUM(name, key, text) MB_RATE_##name,
    MB_RATES(MB_RATE_ENUM)
#undef MB_RATE_ENUM
        MB_N_RATES
};

/* For people. */
const char *mb_rate_text(enum mb_rate rate);

/* Reading weights and unpacking them overlap: the two take (reading^3 + unpacking^3)^(1/3), between their sum
 * and the longer of them. */
double mb_form_join(double reading_s, double unpacking_s);

/* Amounts of work of a unit in decoding at a depth: amount[rate]. Those of the prompt are left 0. */
void mb_shape_amounts(const struct mb_shape *shape, double depth, double amount[MB_N_RATES]);

/* One processor reading one pool, as the prices depend on it. */
struct mb_form_context {
    const char *engine; /* "ollama" */
    enum mb_backend backend;
    char chip[48], family[24]; /* mb_chip_key() of the processor; "" for CPUs that are not told */
    double bytes_per_s;        /* spec, or measured over what reading reaches */
    double f32_flops_per_s;    /* of the shader cores: known, or derived from the generation */
    double prompt_flops_per_s; /* what prefill is measured against */
    double months;             /* of the engine's build, since January 2023; NAN: the newest */
    int flash;                 /* flash attention: 1 on, 0 off, -1 not told */
};

/* Fill chip, family and arithmetic from a processor; bytes_per_s must be set. */
void mb_form_processor(struct mb_form_context *context, const struct mb_processor *processor);

/* The name of a chip as the fit knows it: no maker, no memory size, lower case ("NVIDIA GeForce RTX 4090" -> "rtx 4090",
 * "Apple M2 Ultra GPU" -> "m2 ultra", "AMD Radeon 8060S" -> "strix halo"). Returns buf. */
char *mb_chip_key(const char *name, char *buf, size_t n);

/* Lower-case words of letters, digits and '+' of a name, at most max; what stands in brackets is left out. */
unsigned mb_chip_words(const char *name, char words[][24], unsigned max);

enum { MB_PARTS_MAX = 8 };

/* What makes up one price: base and the names of its parameters; where each is expected before anything was measured (a
 * logarithm), and how strongly it is held there (one over the standard deviation that is expected of it). */
struct mb_form_sum {
    double base;
    unsigned n;
    struct {
        char name[56];
        double prior, weight;
    } part[MB_PARTS_MAX];
};

/* The price of a rate in a context; base 0: not paid there. */
void mb_form_price(const struct mb_form_context *context, enum mb_rate rate, struct mb_form_sum *out);

/* A table of fitted parameters, sorted by name: what a name's value is; the prior where it is not there. */
struct mb_fitted {
    const char *name;
    double value; /* exp(parameter) */
    unsigned n_rows;
};
struct mb_fitted_table {
    const struct mb_fitted *rows;
    size_t n;
};

/* The table of data/engines/constants.json. */
extern const struct mb_fitted mb_fitted_rows[];
extern const size_t mb_fitted_n;

const struct mb_fitted *mb_fitted_find(const struct mb_fitted_table *table, const char *name);

/* Seconds per unit of work: base * exp(sum). *out_rows (may be NULL): of the parameter that the most rows stand behind. */
double mb_form_seconds(const struct mb_form_context *context, enum mb_rate rate, const struct mb_fitted_table *table,
                       unsigned *out_rows);

#endif
