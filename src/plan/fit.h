/* SPDX-License-Identifier: MIT */
/* Fitting the parameters of form.h to published measurements, and cross-validating. Internal to src/plan. */
#ifndef MB_FIT_H
#define MB_FIT_H

#include "plan/published.h"

/* Which rows of a fold are left out: those that share this with the row that is predicted. */
enum mb_cross { MB_CROSS_NONE, MB_CROSS_CHIP, MB_CROSS_MODEL, MB_N_CROSSES };

struct mb_fit;

/* Fit to the rows that are resolved, not skipped and not flagged. The rows must outlive the fit.
 * Returns MB_OK; MB_ENODATA: fewer than 20 rows can be used; MB_ENOMEM. Deterministic. */
int mb_fit_make(const struct mb_rows *rows, struct mb_fit **out, struct mb_err *err);
void mb_fit_free(struct mb_fit *fit);

/* Predictions of all rows that were used: out_tps[row], 0 for the others; with MB_CROSS_CHIP or _MODEL by a fit that has seen no
 * row of that chip (of hybrids: that host) or model. The same for prompts. MB_OK; MB_ENOMEM. */
int mb_fit_predict(const struct mb_fit *fit, enum mb_cross cross, double *out_tps, double *out_prompt_tps, struct mb_err *err);

/* The parameters, sorted by name, with the spreads that cross-validation gives. Valid until the fit is freed. MB_OK;
 * MB_ENOMEM. */
int mb_fit_table(struct mb_fit *fit, struct mb_fitted_table *out, struct mb_err *err);

/* The table as the text of data/engines/constants.json; free with mb_text_free(). MB_OK; MB_ENOMEM. */
int mb_fit_json(struct mb_fit *fit, const char *source, char **out, struct mb_err *err);

/* Hints of a row for mb_cost_init_as(). */
struct mb_cost_hints mb_row_hints(const struct mb_row *row, const struct mb_fitted_table *table);

/* What a prompt of a row was: tokens per chunk. */
double mb_row_ubatch(const struct mb_row *row);

#endif
