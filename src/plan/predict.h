/* SPDX-License-Identifier: MIT */
/* The cost model: seconds of one pass from a load, a machine and a placement. Pure, and nothing is allocated: a planner calls it
 * for every placement that it considers. docs/prediction.md states the formula.
 *
 * Use: mb_cost_init() once per machine and engine; then for each model and placement mb_predict_decode() and _prefill(), or,
 * while a placement is being searched, mb_unit_decode_seconds() unit by unit. */
#ifndef MB_PREDICT_H
#define MB_PREDICT_H

#include "plan/form.h"

enum { MB_COST_POOLS_MAX = 32, MB_TERMS_MAX = 12 * MB_COST_POOLS_MAX };

/* Where a constant of a term comes from. */
enum mb_known_by {
    MB_BY_MEASUREMENT, /* on this machine */
    MB_BY_FILE,        /* counted in the model */
    MB_BY_LOOKUP,      /* a document about the chip */
    MB_BY_FIT          /* fitted to published measurements */
};

/* "measured here", "read from the file", "looked up", "fitted". */
const char *mb_known_by_name(enum mb_known_by known_by);

/* One part of a prediction. */
struct mb_cost_term {
    const char *what;           /* "weights, K types", "cache", "layers", "crossings", ... */
    int pool;                   /* -1: none */
    double bytes;               /* 0: not a matter of bytes */
    double bytes_per_s;         /* that the term was charged with; 0 */
    double count;               /* of launches, layers, crossings; 0 */
    double seconds;
    enum mb_known_by known_by;  /* of the rate */
    unsigned n_rows;            /* MB_BY_FIT: measurements behind it */
};

struct mb_prediction {
    double seconds;             /* of the pass: per token in decoding, of all tokens in prefill */
    double tokens_per_s;
    double low, high;           /* tokens/s: 80 % of what people measure lies between */
    double bound_tokens_per_s;  /* the law with no overhead: bytes / bandwidth */
    double bytes;               /* read by the pass */
    double sigma;               /* of the logarithm: low, high = value / and * exp(1.2816 sigma) */
    struct mb_cost_term terms[MB_TERMS_MAX];
    unsigned n_terms;
};

/* What one pool costs its processor. */
struct mb_pool_cost {
    unsigned processor; /* that reads it best */
    int known;          /* bandwidth is known and a processor reads it */
    int gpu;
    enum mb_backend backend;
    enum mb_known_by bandwidth_by;
    double bytes_per_s;       /* bandwidth that the bound is stated with */
    double s_per[MB_N_RATES]; /* seconds per unit of work */
    unsigned n_rows;          /* measurements behind the price of its weights */
    char engine[24];
};

/* By class of placement: all on a GPU, dense or with experts; on several processors; on a CPU. */
enum mb_spread { MB_SPREAD_DENSE, MB_SPREAD_MOE, MB_SPREAD_HYBRID, MB_SPREAD_CPU, MB_N_SPREADS };

struct mb_cost {
    const struct mb_machine *machine; /* borrowed */
    const char *engine;
    struct mb_pool_cost pools[MB_COST_POOLS_MAX];
    unsigned n_pools;
    double crossing_s;       /* per change of processor */
    double link_bytes_per_s; /* host to GPU, for prefill of weights in RAM; 0 unknown */
    double copy;             /* time of such a copy over that of its bytes at this rate */
    double sigma[MB_N_SPREADS]; /* spread on chips like this one */
    double prompt_sigma;
    unsigned n_chip_rows;    /* measurements of the GPU's own chip behind the constants */
};

/* Prepare the costs of an engine on a machine.
 *   engine  in  "llama.cpp" (NULL), "ollama", "llama.cpp:rocm", ...; see mb_engine_names()
 * A pool that nobody reads at a known bandwidth is there with known = 0: nothing may be placed in it.
 * Returns MB_OK; MB_ENAME: no such engine; MB_ENOTSUP: it runs on none of the processors; MB_ENODATA: no pool has a known
 * bandwidth, err says how to give one. Thread-safe, pure. */
int mb_cost_init(struct mb_cost *cost, const struct mb_machine *machine, const char *engine, struct mb_err *err);

/* The same for what is known about one published measurement, and with other constants than the built-in ones. */
struct mb_cost_hints {
    double months; /* of the engine's build since January 2023; NAN: the newest */
    int flash;     /* flash attention: 1 on, 0 off, -1 not told */
    const struct mb_fitted_table *table; /* NULL: the built-in one */
};
int mb_cost_init_as(struct mb_cost *cost, const struct mb_machine *machine, const char *engine, const struct mb_cost_hints *hints,
                    struct mb_err *err);

/* The context by which such a pool is priced; 0: the pool is not known. For the fit. */
int mb_cost_context(const struct mb_cost *cost, unsigned pool, const struct mb_cost_hints *hints, struct mb_form_context *out);

/* Amounts of the prefill of n_tokens after depth in a unit, by prompt rates. For the fit. */
void mb_prompt_amounts(const struct mb_shape *shape, double n_tokens, double depth, double n_ubatch, double amount[MB_N_RATES]);

/* Seconds that one token spends in a unit that lies in a pool, at a depth. The sum over all units, plus mb_pool_token_seconds()
 * of each pool's processor that is used, plus the crossings, is mb_predict_decode()'s. Infinite for a pool that is not known. */
double mb_unit_decode_seconds(const struct mb_cost *cost, const struct mb_load *load, uint32_t unit, unsigned pool,
                              double depth);

/* Once per token, for each processor that is used at all. */
double mb_pool_token_seconds(const struct mb_cost *cost, unsigned pool);

/* Per change of processor between consecutive units. */
double mb_crossing_seconds(const struct mb_cost *cost, const struct mb_load *load);

/* Predict decoding with `depth` tokens in the cache.
 *   pool_of_unit  in   [load->n_units] a pool of the machine for each unit; of EMBEDDING and UNREAD units it does not matter
 * Processors work one after another: several GPUs that hold different layers add no bandwidth.
 * Returns MB_OK; MB_EINVAL: a unit lies in a pool that is not there; MB_ENODATA: in one of unknown bandwidth. */
int mb_predict_decode(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double depth,
                      struct mb_prediction *out, struct mb_err *err);

/* Predict the prefill of n_tokens after `depth` tokens, in chunks of n_ubatch (0: 512). */
int mb_predict_prefill(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double n_tokens,
                       double depth, unsigned n_ubatch, struct mb_prediction *out, struct mb_err *err);

/* Seconds from the prompt to the first token: prefill of n_tokens, and one token of decoding after them. */
int mb_predict_ttft(const struct mb_cost *cost, const struct mb_load *load, const uint8_t *pool_of_unit, double n_tokens,
                    unsigned n_ubatch, double *out_seconds, struct mb_err *err);

/* All units in the one pool that a machine's best processor reads: the placement of a model that fits there. Returns the
 * pool, -1 when none is known. */
int mb_cost_best_pool(const struct mb_cost *cost);

#endif
