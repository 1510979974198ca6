/* SPDX-License-Identifier: MIT */
/* Texts from files and drivers made fit to be shown and compared: names without control characters,
 * PCI addresses in one spelling, numbers from JSON with bounds. */
#ifndef MB_CLEAN_H
#define MB_CLEAN_H

#include "base/base.h"

/* A copy without surrounding blanks, runs of blanks as one, control characters and what is no UTF-8
 * as '?', cut at 256 bytes. NULL for NULL and for what is then empty. */
const char *mb_clean_name(struct mb_arena *arena, const char *text);

/* "00000000:01:00.0", "0000:01:00.0" or "01:00.0" as "0000:01:00.0"; NULL when it is no PCI
 * address. */
const char *mb_clean_pci(struct mb_arena *arena, const char *text);

/* A member of a JSON object as an unsigned number up to max (fractions are cut), or as a cleaned
 * text; 0 or NULL when it is missing, out of range or of another type. */
uint64_t mb_clean_json_u64(const json_t *object, const char *key, uint64_t max);
const char *mb_clean_json_name(struct mb_arena *arena, const json_t *object, const char *key);

#endif
