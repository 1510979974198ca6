/* SPDX-License-Identifier: MIT */
/* Descriptions of model families: how hyperparameters become tensors, and what a file of the family leaves unsaid. Internal
 * to src/model. */
#ifndef MB_ARCH_H
#define MB_ARCH_H

#include "model/model.h"

enum mb_arch_flags {
    MB_ARCH_GATED_Q = 1,       /* attn_q holds a gate beside each query */
    MB_ARCH_KV_PER_LAYER = 2,  /* head_count_kv is an array, 0 for layers without attention */
    MB_ARCH_CHUNKED = 4,       /* sliding layers see the current chunk only */
    MB_ARCH_DENSE_TOO = 8,     /* MoE layers have a dense FFN beside the experts */
    MB_ARCH_NEXTN_DENSE = 16,   /* NextN blocks are sliding layers with a dense FFN */
    MB_ARCH_ONE_PART = 32,      /* a layer is a mixer or an FFN, not both */
    MB_ARCH_INDEX_SPARE = 64,   /* the indexer's cache allocates an unused V beside each key */
    MB_ARCH_SHARED_FROM_20 = 128 /* layers from 20 on share caches where the file does not say */
};

struct mb_arch_row;

struct mb_arch {
    const char *name;
    uint16_t flags;
    uint8_t swa_period;     /* sliding pattern where a file has a window but no pattern; 0: none slide */
    uint32_t window;        /* window where a file has none; 0: none */
    enum mb_mixer recurrent; /* what its recurrent layers are */
    /* What to emit: lists of rows, each list ended by NULL. */
    const struct mb_arch_row *globals[4], *every[4], *attention[4], *recur[3], *dense[2], *experts[6], *nextn[2];
};

/* The description of that name, NULL: none. */
const struct mb_arch *mb_arch_find(const char *name);

#endif
