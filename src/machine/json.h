/* SPDX-License-Identifier: MIT */
/* Machines as JSON from memory; the public side (files) is in membound.h, the keys are in
 * docs/json.md. */
#ifndef MB_MACHINE_JSON_H
#define MB_MACHINE_JSON_H

#include "base/base.h"

/* Read a machine from text. label names it in errors and as the source of its figures.
 * Returns MB_OK; MB_EFORMAT (err names line, or entry and key), MB_ENOMEM. */
int mb_machine_parse(const char *text, size_t n, const char *label, struct mb_machine **out,
                     struct mb_err *err);

/* {amount, currency, date, condition, source}, or null for NULL. */
json_t *mb_price_json(const struct mb_price *price);

/* The words of "kind" in pools and processors, in the order of their enums. */
extern const char *const mb_pool_kind_names[3];
extern const char *const mb_processor_kind_names[2];

#endif
