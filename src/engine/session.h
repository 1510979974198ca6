/* SPDX-License-Identifier: MIT */
/* Engines and sessions: what the public handles are. */
#ifndef MB_SESSION_H
#define MB_SESSION_H

#include "engine/forward.h"

#include <pthread.h>

struct mb_engine {
    const struct mb_model *model; /* borrowed */
    struct mb_kernels kernels;
    struct mb_weights *weights;
    struct mb_program program;
    struct mb_arena arena;
    uint64_t fingerprint; /* of the model: prefixes of one are no use to another */
    const char *simd;
    double opened_at_s; /* mb_now_s() when mb_engine_open() began */
    /* Passes of all sessions take turns in the order in which they ask: two at once would only share one memory. */
    pthread_mutex_t lock;
    pthread_cond_t turned;
    uint64_t next_ticket, serving;
    int has_run; /* a pass; of the one whose turn it is */
};

struct mb_session {
    struct mb_engine *engine;
    struct mb_arena arena;
    struct mb_team *team;
    struct mb_kv_cache cache;
    struct mb_pass pass;
    pthread_t owner;
    void *buffers;
    size_t buffer_bytes;
    uint32_t n_ctx, n_batch, n_logits;
    int32_t *tokens;    /* [n_ctx] */
    size_t n_tokens;    /* the sequence */
    size_t n_written;   /* positions that the cache was written for: rings have lost what lies a ring before the last */
    size_t n_kept;      /* rows of logits of the last call */
};

/* For the bench (fill.c): write every cell of the cache with sane values from a seed, as if all positions had been evaluated; and
 * go to position n <= n_ctx of a cache that was filled like that. What follows is computed as after n real tokens, in the same
 * time; what it says means nothing. */
void mb_session_fill(struct mb_session *session, uint64_t seed);
void mb_session_seek(struct mb_session *session, uint32_t n);

/* Take and end a turn of the engine. */
void mb_engine_take_turn(struct mb_engine *engine);
void mb_engine_end_turn(struct mb_engine *engine);

#endif
