/* SPDX-License-Identifier: MIT */
/* The shape of a profile, for the code that tools/embed_engines.py writes, the cost model and the fit. */
#ifndef MB_PROFILE_TABLE_H
#define MB_PROFILE_TABLE_H

#include "plan/load.h"
#include "plan/profile.h"

/* The constants of a profile. X(name, JSON key) */
#define MB_CONSTANTS(X)                                                                                       \
    X(EFF_FLOAT, "efficiency_float")   /* share of the spec bandwidth that reading such weights reaches */    \
    X(EFF_8, "efficiency_8")                                                                                  \
    X(EFF_4, "efficiency_4")                                                                                  \
    X(EFF_K, "efficiency_k")                                                                                  \
    X(EFF_CODE, "efficiency_code")                                                                            \
    X(EFF_KV, "efficiency_kv")                                                                                \
    X(EFF_STATE, "efficiency_state")                                                                          \
    X(LAYER_S, "layer_s")              /* fixed time of a layer */                                            \
    X(RECURRENT_S, "recurrent_s")      /* more, if it is recurrent */                                         \
    X(MLA_S, "mla_s")                  /* more, if it has multi-head latent attention */                      \
    X(MOE_S, "moe_s")                  /* more, if it has routed experts */                                   \
    X(TOKEN_S, "token_s")              /* fixed time of a token */                                            \
    X(CROSSING_S, "crossing_s")        /* handing over to another processor */                                \
    X(PREFILL_EFF, "prefill_efficiency") /* share of the peak arithmetic */                                   \
    X(PREFILL_FLOPS, "prefill_flops_per_byte_per_s") /* where no peak is known: per byte/s of bandwidth */    \
    X(PREFILL_LAYER_S, "prefill_layer_s")                                                                     \
    X(SIGMA, "sigma")                  /* spread of the logarithm of measured over predicted */

enum mb_constant {
#define MB_CONSTANT_ENUM(name, key) MB_C_##name,
    MB_CONSTANTS(MB_CONSTANT_ENUM)
#undef MB_CONSTANT_ENUM
        MB_N_CONSTANTS
};

/* "efficiency_float", ... */
const char *mb_constant_name(enum mb_constant constant);

struct mb_profile {
    const char *engine;
    enum mb_backend backend;
    double c[MB_N_CONSTANTS];
    unsigned n_rows; /* measurements behind it; 0: none, a stated assumption */
};

extern const struct mb_profile mb_profiles[];
extern const size_t mb_n_profiles;
/* Each engine once, in the order of the files' "rank", then the ENGINE:BACKEND that a person may choose. */
extern const char *const mb_profile_engines[];
extern const size_t mb_n_profile_engines, mb_n_profile_choices;

#endif
