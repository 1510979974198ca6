/* SPDX-License-Identifier: MIT */
/* What both kinds of advice share: how one model runs on one machine, and the words for it. Internal to src/plan. */
#ifndef MB_ADVISE_H
#define MB_ADVISE_H

#include "plan/memory.h"
#include "plan/place.h"
#include "plan/quality.h"

#define MB_ADVISE_CTX 8192u /* tokens, where nobody says */

/* The options with their defaults filled in and checked. */
struct mb_advise_terms {
    struct mb_advise_opts opts; /* n_ctx as asked for: 0 stays 0; min_tokens_per_s and budget 0: none */
    const char *engine;
};

/* Returns MB_OK; MB_ERANGE: a number is not finite; MB_ENAME: no such engine. */
int mb_advise_settle(const struct mb_advise_opts *opts, struct mb_advise_terms *out, struct mb_err *err);

/* A machine, ready to be planned on. */
struct mb_site {
    const struct mb_machine *machine; /* borrowed */
    struct mb_cost cost;
    int runs;                /* 0: the engine does not run there, or its memory is not known */
    char why[200];           /* then: why not */
    double fast_bytes_per_s; /* of the fastest pool that a GPU reads, else of RAM */
    const char *fast_name;   /* "VRAM", "unified memory", "RAM" */
    int spills;              /* has a GPU with memory of its own, and RAM beside it */
};

void mb_site_init(struct mb_site *site, const struct mb_machine *machine, const char *engine);

/* Work space to try one model after another on one machine after another. Zero-initialise; free at the end. */
struct mb_trial {
    struct mb_placer placer;
    const struct mb_load *load; /* borrowed */
};

/* Returns MB_OK; MB_ENOMEM. */
int mb_trial_load(struct mb_trial *trial, const struct mb_load *load, struct mb_err *err);
void mb_trial_free(struct mb_trial *trial);

/* How the loaded model runs on that machine: misses of running, fitting and speed, and all figures; no words yet.
 *   ram_tokens_per_s  out  of its RAM alone, where part of the model spills there, else 0; may be NULL */
void mb_trial_run(struct mb_trial *trial, const struct mb_site *site, const struct mb_advise_terms *terms,
                  struct mb_outcome *out, double *ram_tokens_per_s);

/* Set fit->why, with bandwidths if rates is set, and fit->but where the figures alone say what to beware of. */
void mb_outcome_explain(struct mb_arena *arena, const struct mb_site *site, const struct mb_load *load,
                    double ram_tokens_per_s, int rates, struct mb_outcome *fit);

/* Add a sentence to a list of notes. */
void mb_advise_note(struct mb_arena *arena, const char ***notes, unsigned *n_notes, const char *format, ...)
    MB_PRINTF(4, 5);

/* "12.3", "4.56", "123": tokens per second for people. */
char *mb_speed_text(double tokens_per_s, char *buf, size_t n);

/* 0 unknown. */
double mb_machine_load_w(const struct mb_machine *machine);

#endif
