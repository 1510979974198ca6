/* SPDX-License-Identifier: MIT */
/* The CSV side of published measurements: records and fields, bounded and strict, because anybody may have written the file.
 * What a row means is left to resolve.c. */
#include "plan/published.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 64, FIELD_MAX = 4000 };

const char *mb_row_class_name(enum mb_row_class row_class)
{
    static const char *const names[MB_N_ROW_CLASSES] = {"dense", "moe", "hybrid", "cpu"};
    return (unsigned)row_class < MB_N_ROW_CLASSES ? names[row_class] : "none";
}

/* Every column that is known: where it goes in a row. */
struct column {
    const char *heading;
    size_t offset;
    int number, required;
};

static const struct column columns[] = {
#define TEXT_COLUMN(field, heading, required) {heading, offsetof(struct mb_row, field), 0, required},
    MB_ROW_TEXTS(TEXT_COLUMN)
#undef TEXT_COLUMN
#define NUMBER_COLUMN(field, heading, required) {heading, offsetof(struct mb_row, field), 1, required},
        MB_ROW_NUMBERS(NUMBER_COLUMN)
#undef NUMBER_COLUMN
};

struct parser {
    const char *at, *end, *name;
    unsigned line;
    struct mb_arena *arena;
    struct mb_err *err;
    char field[FIELD_MAX + 1];
    size_t n;
    int last; /* the field was the last one of its record */
};

static int bad(struct parser *parser, const char *what)
{
    return mb_fail(parser->err, MB_EFORMAT, "%s: line %u: %s", parser->name, parser->line, what);
}

static int put(struct parser *parser, char c)
{
    if (parser->n >= FIELD_MAX)
        return bad(parser, "a field is longer than 4000 characters; is a quotation mark missing?");
    if (!c)
        return bad(parser, "holds a NUL byte; this is no CSV text");
    parser->field[parser->n++] = c;
    return MB_OK;
}

static int quoted(struct parser *parser)
{
    unsigned began = parser->line;
    for (parser->at++; parser->at < parser->end; parser->at++) {
        if (*parser->at == '"') {
            if (++parser->at < parser->end && *parser->at == '"') {
                if (put(parser, '"'))
                    return MB_EFORMAT;
                continue;
            }
            return MB_OK;
        }
        parser->line += *parser->at == '\n';
        if (put(parser, *parser->at))
            return MB_EFORMAT;
    }
    parser->line = began;
    return bad(parser, "a quotation mark opens here and never closes");
}

/* The next field of the record; parser->last tells whether it ends there. */
static int next_field(struct parser *parser)
{
    parser->n = 0;
    parser->last = 0;
    if (parser->at < parser->end && *parser->at == '"' && quoted(parser))
        return MB_EFORMAT;
    for (; parser->at < parser->end && *parser->at != ',' && *parser->at != '\n'; parser->at++) {
        if (*parser->at != '\r' && put(parser, *parser->at))
            return MB_EFORMAT;
    }
    parser->field[parser->n] = 0;
    parser->last = parser->at == parser->end || *parser->at == '\n';
    if (parser->at < parser->end)
        parser->at++;
    return MB_OK;
}

static int number_of(struct parser *parser, const char *heading, double *out)
{
    char *end;
    *out = NAN;
    if (!parser->n)
        return MB_OK;
    double value = strtod(parser->field, &end);
    if (*end || end == parser->field || !isfinite(value) || value < 0 || value > 1e12)
        return mb_fail(parser->err, MB_EFORMAT, "%s: line %u: %s: \"%.40s\" is no number from 0 to 1e12", parser->name,
                       parser->line, heading, parser->field);
    *out = value;
    return MB_OK;
}

static int read_heading(struct parser *parser, const struct column *order[COLUMNS_MAX], unsigned *n)
{
    unsigned seen = 0;
    *n = 0;
    do {
        int code = next_field(parser);
        if (code)
            return code;
        if (*n == COLUMNS_MAX)
            return bad(parser, "more than 64 columns");
        order[*n] = NULL;
        for (unsigned i = 0; i < MB_COUNT(columns); i++) {
            if (strcmp(parser->field, columns[i].heading) != 0)
                continue;
            if (seen >> i & 1)
                return mb_fail(parser->err, MB_EFORMAT, "%s: line %u: two columns are called %s", parser->name, parser->line,
                               parser->field);
            seen |= 1u << i;
            order[*n] = &columns[i];
        }
        ++*n;
    } while (!parser->last);
    for (unsigned i = 0; i < MB_COUNT(columns); i++) {
        if (columns[i].required && !(seen >> i & 1))
            return mb_fail(parser->err, MB_EFORMAT, "%s: has no column %s; the first line must name the columns", parser->name,
                           columns[i].heading);
    }
    parser->line++;
    return MB_OK;
}

static int read_row(struct parser *parser, const struct column *const *order, unsigned n_columns, struct mb_row *row)
{
    row->line = parser->line;
    for (unsigned i = 0; i < n_columns; i++) {
        int code = next_field(parser);
        if (code)
            return code;
        if (parser->last != (i + 1 == n_columns))
            return mb_fail(parser->err, MB_EFORMAT, "%s: line %u: %s fields than the %u that the first line names",
                           parser->name, row->line, parser->last ? "fewer" : "more", n_columns);
        if (!order[i])
            continue;
        void *target = (char *)row + order[i]->offset;
        if (order[i]->number)
            code = number_of(parser, order[i]->heading, target);
        else if (!(*(const char **)target = mb_arena_text_n(parser->arena, parser->field, parser->n)))
            code = mb_fail_memory(parser->err);
        if (code)
            return code;
    }
    parser->line++;
    return MB_OK;
}

void mb_rows_free(struct mb_rows *rows)
{
    if (!rows)
        return;
    for (unsigned i = 0; i < rows->n_rows; i++) {
        mb_load_free(rows->rows[i].load);
        mb_machine_free(rows->rows[i].owned_machine);
    }
    for (unsigned i = 0; i < rows->n_models; i++)
        mb_model_free(rows->models[i]);
    mb_arena_free(&rows->arena);
    free(rows);
}

static int parse(struct parser *parser, struct mb_rows *rows)
{
    const struct column *order[COLUMNS_MAX];
    unsigned n_columns;
    int code = read_heading(parser, order, &n_columns);
    while (!code && parser->at < parser->end) {
        if (*parser->at == '\n' || *parser->at == '\r') { /* an empty line */
            parser->line += *parser->at++ == '\n';
            continue;
        }
        if (rows->n_rows == MB_ROWS_MAX)
            return bad(parser, "more than 100000 rows");
        struct mb_row *row = mb_arena_append(&rows->arena, &rows->rows, &rows->n_rows, sizeof(*row));
        if (!row)
            return mb_fail_memory(parser->err);
        for (unsigned i = 0; i < MB_COUNT(columns); i++) {
            if (columns[i].number)
                *(double *)((char *)row + columns[i].offset) = NAN;
            else
                *(const char **)((char *)row + columns[i].offset) = "";
        }
        code = read_row(parser, order, n_columns, row);
    }
    return code;
}

int mb_rows_parse(const char *text, size_t n, const char *name, struct mb_rows **out, struct mb_err *err)
{
    struct mb_rows *rows = calloc(1, sizeof(*rows));
    if (!rows)
        return mb_fail_memory(err);
    struct parser parser = {.at = text, .end = text + n, .name = name, .line = 1, .arena = &rows->arena, .err = err};
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        parser.at += 3;
    int code = n > MB_ROWS_BYTES_MAX ? mb_fail(err, MB_EFORMAT, "%s: is longer than 64 MiB", name) : parse(&parser, rows);
    if (code) {
        mb_rows_free(rows);
        return code;
    }
    *out = rows;
    return MB_OK;
}
