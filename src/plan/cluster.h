/* SPDX-License-Identifier: MIT */
/* Links between machines, and the parts of a plan over several. Internal to src/plan. */
#ifndef MB_CLUSTER_H
#define MB_CLUSTER_H

#include "plan/memory.h"

enum { MB_CLUSTER_MAX = 16 };

struct mb_machine_link {
    const char *name; /* of the table or in the caller's text */
    struct mb_figure bytes_per_s, latency_s;
};

/* A link by its name or as "RATE[,LATENCY]". MB_OK; MB_EINVAL: err lists the names. */
int mb_link_parse(const char *text, struct mb_machine_link *out, struct mb_err *err);

#endif
