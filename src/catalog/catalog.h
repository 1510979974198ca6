/* SPDX-License-Identifier: MIT */
/* The catalog of machines from given files, for tests; the public side is in membound.h. */
#ifndef MB_CATALOG_H
#define MB_CATALOG_H

#include "base/base.h"
#include "base/embedded.h"

/* mb_machine_catalog() and mb_catalog_rows() over files below "chips/" and "machines/". */
int mb_catalog_find(const struct mb_embedded *files, size_t n_files, const char *name,
                    struct mb_machine **out, struct mb_err *err);
int mb_catalog_list(const struct mb_embedded *files, size_t n_files, struct mb_catalog_row **out,
                    size_t *out_n, struct mb_err *err);

/* The row of any machine, but for its desirability; texts go into the arena. *row is zeroed before. */
void mb_catalog_row_fill(struct mb_arena *arena, struct mb_catalog_row *row, const struct mb_machine *machine);

/* The rows of mb_catalog_rows() together with their machines, composed in one go: (*out_machines)[i] is that of (*out_rows)[i].
 * Free both. Returns MB_OK; MB_EFORMAT; MB_ENOMEM. */
int mb_catalog_machines(struct mb_catalog_row **out_rows, struct mb_machine ***out_machines, size_t *out_n,
                        struct mb_err *err);
void mb_catalog_machines_free(struct mb_machine **machines, size_t n);

/* Check all of them: every chip, every machine, and that no name means two machines. For tests: it
 * takes a while. Returns MB_OK; MB_EFORMAT: err names file, entry and key; MB_ENOMEM. */
int mb_catalog_check(const struct mb_embedded *files, size_t n_files, struct mb_err *err);

#endif
