/* SPDX-License-Identifier: MIT */
/* Tables for people: aligned columns, the last one wrapped at the width of the terminal, colours on request. */
#include "base.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 16, GAP = 2, MIN_LAST = 16 };

struct cell {
    char *text;
    enum mb_style style;
};

struct mb_table {
    unsigned n_columns;
    char *headings[MAX_COLUMNS];
    enum mb_align align[MAX_COLUMNS];
    struct cell *cells; /* [n_rows, n_columns] */
    size_t n_rows, cap_rows;
    int failed;
};

struct mb_table *mb_table_new(unsigned n_columns)
{
    if (n_columns < 1 || n_columns > MAX_COLUMNS)
        return NULL;
    struct mb_table *table = calloc(1, sizeof *table);
    if (table)
        table->n_columns = n_columns;
    return table;
}

void mb_table_free(struct mb_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->n_rows * table->n_columns; i++)
        free(table->cells[i].text);
    for (unsigned i = 0; i < table->n_columns; i++)
        free(table->headings[i]);
    free(table->cells);
    free(table);
}

void mb_table_column(struct mb_table *table, unsigned column, const char *heading, enum mb_align align)
{
    if (!table || column >= table->n_columns)
        return;
    free(table->headings[column]);
    table->headings[column] = heading ? strdup(heading) : NULL;
    table->failed |= heading && !table->headings[column];
    table->align[column] = align;
}

void mb_table_row(struct mb_table *table)
{
    if (!table || table->failed)
        return;
    if (table->n_rows == table->cap_rows) {
        size_t cap = table->cap_rows ? table->cap_rows * 2 : 16;
        struct cell *larger = realloc(table->cells, cap * table->n_columns * sizeof *larger);
        if (!larger) {
            table->failed = 1;
            return;
        }
        table->cells = larger;
        table->cap_rows = cap;
    }
    memset(table->cells + table->n_rows * table->n_columns, 0, table->n_columns * sizeof *table->cells);
    table->n_rows++;
}

void mb_table_cell(struct mb_table *table, unsigned column, enum mb_style style, const char *text)
{
    if (!table || table->failed || column >= table->n_columns || !table->n_rows)
        return;
    struct cell *cell = table->cells + (table->n_rows - 1) * table->n_columns + column;
    free(cell->text);
    cell->text = text ? strdup(text) : NULL;
    cell->style = style;
    table->failed |= text && !cell->text;
    /* Names come from drivers and files; none may move the cursor. */
    for (char *p = cell->text; p && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

/* Code points of the first n bytes: bytes that do not continue one. */
static unsigned width_n(const char *text, size_t n)
{
    unsigned width = 0;
    for (size_t i = 0; i < n && text[i]; i++)
        width += ((unsigned char)text[i] & 0xc0) != 0x80;
    return width;
}

static unsigned width_of(const char *text)
{
    return text ? width_n(text, strlen(text)) : 0;
}

/* Bytes of text that fit into width, cut at a blank where there is one. */
static size_t line_bytes(const char *text, unsigned width)
{
    size_t n = strlen(text), fit = 0, blank = 0;
    unsigned at = 0;
    while (fit < n) {
        size_t next = fit + 1;
        while (next < n && ((unsigned char)text[next] & 0xc0) == 0x80)
            next++;
        if (++at > width)
            return blank ? blank : fit ? fit : next;
        if (text[fit] == ' ')
            blank = fit;
        fit = next;
    }
    return n;
}

static void put_styled(FILE *out, const char *text, size_t n, enum mb_style style, int colour)
{
    static const char *const codes[] = {"", "\033[1m", "\033[2m", "\033[32m", "\033[33m", "\033[31m"};
    int on = colour && style != MB_PLAIN && (unsigned)style < MB_COUNT(codes) && n;
    fprintf(out, "%s%.*s%s", on ? codes[style] : "", (int)n, text, on ? "\033[0m" : "");
}

static void put_blanks(FILE *out, unsigned n)
{
    fprintf(out, "%*s", (int)n, "");
}

struct layout {
    unsigned indent, widths[MAX_COLUMNS], last_at, last_width;
};

static void print_row(const struct mb_table *table, const struct layout *layout, FILE *out, const struct cell *cells,
                      int colour)
{
    unsigned last = table->n_columns - 1, pending = layout->indent;
    for (unsigned c = 0; c < last; c++) {
        const char *text = cells[c].text ? cells[c].text : "";
        unsigned fill = layout->widths[c] - width_of(text);
        /* Blanks are held back so that no line ends in them. */
        if (table->align[c] == MB_RIGHT)
            pending += fill;
        if (*text) {
            put_blanks(out, pending);
            pending = 0;
            put_styled(out, text, strlen(text), cells[c].style, colour);
        }
        pending += (table->align[c] == MB_RIGHT ? 0 : fill) + GAP;
    }
    const char *text = cells[last].text ? cells[last].text : "";
    if (table->align[last] == MB_RIGHT && width_of(text) < layout->widths[last])
        pending += layout->widths[last] - width_of(text);
    while (*text) {
        size_t n = layout->last_width ? line_bytes(text, layout->last_width) : strlen(text);
        put_blanks(out, pending);
        put_styled(out, text, n, cells[last].style, colour);
        text += n;
        while (*text == ' ')
            text++;
        if (*text)
            fputc('\n', out);
        pending = layout->last_at;
    }
    fputc('\n', out);
}

int mb_table_print(const struct mb_table *table, FILE *out, unsigned indent, unsigned width, int colour)
{
    if (!table || table->failed)
        return MB_ENOMEM;
    struct layout layout = {.indent = indent, .last_at = indent};
    int headed = 0;
    for (unsigned c = 0; c < table->n_columns; c++) {
        headed |= table->headings[c] != NULL;
        layout.widths[c] = width_of(table->headings[c]);
        for (size_t r = 0; r < table->n_rows; r++) {
            unsigned w = width_of(table->cells[r * table->n_columns + c].text);
            if (w > layout.widths[c])
                layout.widths[c] = w;
        }
        if (c + 1 < table->n_columns)
            layout.last_at += layout.widths[c] + GAP;
    }
    if (width)
        layout.last_width = width > layout.last_at + MIN_LAST ? width - layout.last_at : MIN_LAST;
    if (headed) {
        struct cell cells[MAX_COLUMNS];
        for (unsigned c = 0; c < table->n_columns; c++)
            cells[c] = (struct cell){table->headings[c], MB_DIM};
        print_row(table, &layout, out, cells, colour);
    }
    for (size_t r = 0; r < table->n_rows; r++)
        print_row(table, &layout, out, table->cells + r * table->n_columns, colour);
    return ferror(out) ? MB_EWRITE : MB_OK;
}
