/* SPDX-License-Identifier: MIT */
/* Published measurements: rows of a CSV file, and what each means in the terms of this program: a machine, a load, a placement,
 * a depth and an engine. Internal to src/plan; docs/prediction.md, "the rows", states the columns and the rules. */
#ifndef MB_PUBLISHED_H
#define MB_PUBLISHED_H

#include "plan/predict.h"

/* Columns. X(field, heading, required); a number that is empty is NAN, a text that is empty "". */
#define MB_ROW_TEXTS(X)                                                                                                \
    X(id, "id", 0)                                                                                                     \
    X(machine, "machine", 1)                                                                                           \
    X(chip, "chip", 1)                                                                                                 \
    X(backend, "backend", 1)                                                                                           \
    X(engine, "engine", 1)                                                                                             \
    X(build, "engine_version_or_build", 0)                                                                             \
    X(model, "model", 1)                                                                                               \
    X(arch, "arch", 0)                                                                                                 \
    X(quant, "quant", 1)                                                                                               \
    X(offload, "ngl_or_offload", 0)                                                                                    \
    X(date, "date", 0)                                                                                                 \
    X(source, "source_url_or_repo_path", 0)                                                                            \
    X(notes, "notes", 0)
#define MB_ROW_NUMBERS(X)                                                                                              \
    X(mem_gb, "mem_gb", 0)                                                                                             \
    X(bandwidth_gbs, "bw_gbs_spec", 0)                                                                                 \
    X(params_b, "params_b", 0)                                                                                         \
    X(active_b, "active_params_b", 0)                                                                                  \
    X(moe, "moe", 0)                                                                                                   \
    X(size_gib, "size_gib", 0)                                                                                         \
    X(depth, "ctx_depth", 0)                                                                                           \
    X(prompt_tokens, "pp_tokens", 0)                                                                                   \
    X(prompt_tps, "pp_tps", 0)                                                                                         \
    X(tokens, "tg_tokens", 0)                                                                                          \
    X(tps, "tg_tps", 1)                                                                                                \
    X(flash, "flash_attn", 0)                                                                                          \
    X(flag, "flag", 0)

enum mb_row_class { MB_ROW_DENSE, MB_ROW_MOE, MB_ROW_HYBRID, MB_ROW_CPU, MB_N_ROW_CLASSES };

/* "dense", "moe", "hybrid", "cpu". */
const char *mb_row_class_name(enum mb_row_class row_class);

struct mb_row {
    unsigned line; /* of the file */
#define MB_ROW_TEXT(field, heading, required) const char *field;
    MB_ROW_TEXTS(MB_ROW_TEXT)
#undef MB_ROW_TEXT
#define MB_ROW_NUMBER(field, heading, required) double field;
    MB_ROW_NUMBERS(MB_ROW_NUMBER)
#undef MB_ROW_NUMBER
    /* What resolving found out. */
    const char *skip; /* why the row can't be used, or NULL */
    enum mb_row_class row_class;
    const char *chip_key;      /* the chip as the fit knows it: "rtx 4090" */
    const char *catalog_model; /* whose shape stands for it */
    int exact_model;           /* it is that model, not one like it */
    int ram_assumed;           /* hybrid: nobody says how fast the RAM is */
    enum mb_backend gpu_backend; /* or MB_BACKEND_CPU */
    char engine_key[40];       /* as mb_cost_init() takes it: "ollama:vulkan" */
    double mean_depth;         /* over the tokens that were written */
    double months;             /* since January 2023; NAN unknown */
    struct mb_machine *owned_machine;
    struct mb_load *load;
    uint8_t *pools; /* [load->n_units] */
};

struct mb_rows {
    struct mb_row *rows;
    unsigned n_rows;
    struct mb_arena arena;
    struct mb_model **models; /* that the loads stand on */
    unsigned n_models;
};

enum { MB_ROWS_MAX = 100000, MB_ROWS_BYTES_MAX = 64 << 20 };

/* Read rows from CSV text (RFC 4180: quoted fields may hold commas, quotes and newlines; the first record names the columns,
 * unknown ones are ignored). name stands in err. Free with mb_rows_free().
 * Returns MB_OK; MB_EFORMAT: err names line and column; MB_ENOMEM. */
int mb_rows_parse(const char *text, size_t n, const char *name, struct mb_rows **out, struct mb_err *err);
void mb_rows_free(struct mb_rows *rows);

/* Find machine, load and placement of every row; rows that can't be used get a reason. MB_OK; MB_ENOMEM. */
int mb_rows_resolve(struct mb_rows *rows, struct mb_err *err);

#endif
