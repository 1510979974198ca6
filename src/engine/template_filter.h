/* SPDX-License-Identifier: MIT */
/* The filters that walk sequences, for the table of all filters. Internal to template_filter*.c. */
#ifndef MB_TEMPLATE_FILTER_H
#define MB_TEMPLATE_FILTER_H

#include "engine/template_value.h"

/* By name; NULL: there is none. */
const struct mb_tcallee *mb_tfilter_seq_find(struct mb_tv name);

#endif
