/* SPDX-License-Identifier: MIT */
/* A machine from a catalog entry and its chips. */
#ifndef MB_COMPOSE_H
#define MB_COMPOSE_H

#include "machine/chip.h"

/* Build the machine of one entry of data/machines (docs/catalog.md); file names it in err.
 * Returns MB_OK; MB_EFORMAT: err names file, entry and key; MB_ENOMEM. */
int mb_catalog_compose(const json_t *entry, const char *file, const struct mb_chips *chips,
                       struct mb_machine **out, struct mb_err *err);

#endif
