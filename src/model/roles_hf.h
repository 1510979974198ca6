/* SPDX-License-Identifier: MIT */
/* Tensor names of Hugging Face checkpoints, taken apart. They end in the kinds of roles.h, so that
 * role, read rule and op come from one table whatever a model was stored as. */
#ifndef MB_ROLES_HF_H
#define MB_ROLES_HF_H

#include "model/roles.h"

#include <stddef.h>

enum mb_hf_part {
    MB_HF_WEIGHT,
    MB_HF_PACKED, /* several weights in one stored element */
    MB_HF_BIAS,
    MB_HF_SCALE /* scales, zero points, maps: they belong to a weight and are none themselves */
};

struct mb_hf_name {
    int32_t layer; /* -1: none; of a nextn block outside of the layers: its number among those */
    enum mb_tensor_kind kind; /* MB_T_UNKNOWN: no table holds the name */
    enum mb_hf_part part;
    int nextn;  /* "mtp.": a next-token-prediction block */
    int media;  /* vision, audio, projectors */
    int buffer; /* stored, but computed anew by whoever loads it */
    /* One expert of many: where its number stands in the name. expert_end 0: not that. */
    size_t expert_begin, expert_end;
};

/* Does a pass read only a share of tensors of this kind? */
static inline int mb_kind_is_experts(unsigned kind)
{
    return kind < MB_T_END && mb_kind_info((enum mb_tensor_kind)kind)->flags & MB_KIND_EXPERTS;
}

/* MB_OK; MB_EFORMAT: a layer number over the limit. */
int mb_hf_parse(const char *name, struct mb_hf_name *out);

#endif
