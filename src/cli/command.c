/* SPDX-License-Identifier: MIT */
/* Command lines: one table per verb gives parsing, help and errors that offer the nearest option. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The letter that option i may be typed as; 0: none. */
static char letter_of(const struct command *command, unsigned i)
{
    return command->letters && i < strlen(command->letters) ? command->letters[i] : 0;
}

void command_help(const struct command *command, FILE *out)
{
    fprintf(out, "usage: membound%s%s %s\n\n%s\n", *command->name ? " " : "", command->name, command->synopsis,
            command->summary);
    struct mb_table *table = mb_table_new(2);
    for (unsigned i = 0; i < command->n_options; i++) {
        const struct option *option = command->options + i;
        char left[64] = "";
        if (letter_of(command, i))
            append(left, sizeof left, "-%c, ", letter_of(command, i));
        append(left, sizeof left, "--%s%s%s", option->name, option->argument ? " " : "",
               option->argument ? option->argument : "");
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, left);
        mb_table_cell(table, 1, MB_PLAIN, option->help);
    }
    mb_table_row(table);
    mb_table_cell(table, 0, MB_PLAIN, "--help");
    mb_table_cell(table, 1, MB_PLAIN, "this text");
    fputs("\noptions:\n", out);
    mb_table_print(table, out, 2, 80, 0);
    mb_table_free(table);
    fprintf(out, "\nexamples:\n%s", command->examples);
}

int command_refuse(const struct command *command, const char *what)
{
    fprintf(stderr, "membound: %s (membound%s%s --help)\n", what, *command->name ? " " : "", command->name);
    return 2;
}

static int bad(const struct command *command, const char *what, const char *thing, const char *mend)
{
    fprintf(stderr, "membound: %s%s%s; %s (membound%s%s --help)\n", what, *thing ? " " : "", thing, mend,
            *command->name ? " " : "", command->name);
    return PARSE_BAD;
}

static int unknown_option(const struct command *command, const char *arg)
{
    const char *best = NULL;
    size_t best_common = 1;
    for (unsigned i = 0; i < command->n_options; i++) {
        size_t common = 0;
        while (arg[2 + common] && arg[2 + common] == command->options[i].name[common])
            common++;
        if (common > best_common) {
            best_common = common;
            best = command->options[i].name;
        }
    }
    char mend[80];
    if (best)
        snprintf(mend, sizeof mend, "did you mean --%s?", best);
    else
        snprintf(mend, sizeof mend, "see the options");
    return bad(command, "unknown option", arg, mend);
}

/* A number as people type it: "12.5", "2,500", "2500". A comma counts only where it stands before three digits, so that "2,5" is
 * not taken for 25. */
static int read_number(const char *text, double *out)
{
    char plain[40];
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        int thousands = *p == ',' && p > text && strspn(p + 1, "0123456789") == 3 && !memchr(plain, '.', n);
        if (thousands)
            continue;
        if (!strchr("0123456789.eE+-", *p) || n + 1 >= sizeof plain)
            return 0;
        plain[n++] = *p;
    }
    plain[n] = 0;
    char *end;
    double value = strtod(plain, &end);
    if (end == plain || *end || !isfinite(value) || value < 0)
        return 0;
    *out = value;
    return 1;
}

/* Units of positive figures, the first of a kind being that of a bare number. */
static const struct {
    enum option_kind kind;
    const char *name;
    double value;
} units[] = {
    {OPTION_SHARE, "", 1},      {OPTION_SHARE, "%", 0.01},
    {OPTION_SPEED, "", 1},      {OPTION_SPEED, "tok/s", 1},  {OPTION_SPEED, "t/s", 1},       {OPTION_SPEED, "tokens/s", 1},
    {OPTION_SPEED, "tps", 1},   {OPTION_RATE, "", 1e9},      {OPTION_RATE, "GB/s", 1e9},     {OPTION_RATE, "GBps", 1e9},
    {OPTION_RATE, "MB/s", 1e6}, {OPTION_RATE, "TB/s", 1e12}, {OPTION_RATE, "GiB/s", MB_GIB}, {OPTION_SIZE, "", 1e9},
    {OPTION_SIZE, "GB", 1e9},   {OPTION_SIZE, "G", 1e9},     {OPTION_SIZE, "MB", 1e6},       {OPTION_SIZE, "TB", 1e12},
    {OPTION_SIZE, "B", 1},      {OPTION_SIZE, "MiB", MB_MIB}, {OPTION_SIZE, "GiB", MB_GIB},
};

/* A positive figure with a unit; 0 when it is none. Only decimal digits start it: strtod would take "inf", "nan" and "0x1p9". */
static int parse_figure(enum option_kind kind, const char *text, double *out)
{
    char *end;
    if (!strchr("0123456789.", *text) || !*text || (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')))
        return 0;
    double value = strtod(text, &end);
    while (*end == ' ')
        end++;
    for (size_t i = 0; end != text && i < sizeof units / sizeof *units; i++) {
        double scaled = value * units[i].value;
        if (units[i].kind != kind || strcasecmp(end, units[i].name) != 0)
            continue;
        if (!(scaled > 0) || scaled > 1e30 || (kind == OPTION_SHARE && scaled > 1))
            return 0;
        *out = scaled;
        return 1;
    }
    return 0;
}

static int set_value(const struct command *command, const struct option *option, const char *value)
{
    char *end;
    uint64_t *number = option->target;
    switch (option->kind) {
    case OPTION_FLAG:
        *(int *)option->target = 1;
        return PARSE_GO;
    case OPTION_TEXT:
        if (!*value)
            return bad(command, "empty argument of", option->name, "give a name");
        *(const char **)option->target = value;
        return PARSE_GO;
    case OPTION_TEXTS: {
        struct text_list *list = option->target;
        if (!*value)
            return bad(command, "empty argument of", option->name, "give a name");
        if (list->n == MAX_TEXTS)
            return bad(command, "too many times:", option->name, "16 at most");
        list->items[list->n++] = value;
        return PARSE_GO;
    }
    case OPTION_COUNT:
        errno = 0;
        *number = strtoull(value, &end, 10);
        if (end != value && (*end == 'k' || *end == 'K') && *number <= UINT64_MAX / 1024) {
            *number *= 1024; /* as contexts are written */
            end++;
        }
        if (errno || end == value || *end || *value == '-')
            return bad(command, "not a whole number:", value, "for example 8");
        return PARSE_GO;
    case OPTION_NUMBER:
        if (!read_number(value, option->target))
            return bad(command, "not a number from 0 up:", value, "for example 20 or 12.5");
        return PARSE_GO;
    case OPTION_BYTES:
        if (mb_parse_bytes(value, number) != MB_OK)
            return bad(command, "not a size:", value, "for example 24GiB or 512MiB");
        return PARSE_GO;
    case OPTION_SHARE:
        if (!parse_figure(option->kind, value, option->target))
            return bad(command, "not a share over 0 and up to 1:", value, "for example 0.7 or 70%");
        return PARSE_GO;
    case OPTION_SPEED:
        if (!parse_figure(option->kind, value, option->target))
            return bad(command, "not a speed over 0:", value, "in tokens per second, for example 13 or 13.5");
        return PARSE_GO;
    case OPTION_RATE:
        if (!parse_figure(option->kind, value, option->target))
            return bad(command, "not a rate over 0:", value, "for example 273 or 273GB/s");
        return PARSE_GO;
    case OPTION_SIZE:
        if (!parse_figure(option->kind, value, option->target))
            return bad(command, "not a size over 0:", value, "for example 21, 21GB (1e9) or 19.6GiB (2^30)");
        return PARSE_GO;
    }
    return PARSE_BAD;
}

/* The option that arg is: "--name", of length bytes, or "-n". */
static const struct option *find_option(const struct command *command, const char *arg, size_t length)
{
    for (unsigned i = 0; i < command->n_options; i++) {
        const struct option *option = command->options + i;
        if (arg[1] == '-' ? strlen(option->name) == length && strncmp(option->name, arg + 2, length) == 0
                          : letter_of(command, i) == arg[1] && !arg[2])
            return option;
    }
    return NULL;
}

enum parse_result command_parse(const struct command *command, int argc, char **argv, const char **positional)
{
    unsigned n_positional = 0;
    int options_ended = 0;
    for (unsigned i = 0; i < command->max_positional; i++)
        positional[i] = NULL;
    for (int a = 1; a < argc; a++) {
        const char *arg = argv[a];
        if (!options_ended && strcmp(arg, "--") == 0) {
            options_ended = 1;
            continue;
        }
        if (!options_ended && (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)) {
            command_help(command, stdout);
            return PARSE_STOP;
        }
        if (options_ended || arg[0] != '-' || !arg[1]) {
            if (n_positional == command->max_positional)
                return bad(command, "unexpected argument", arg, "quote names that hold blanks");
            positional[n_positional++] = arg;
            continue;
        }
        int is_letter = arg[1] != '-';
        size_t length = strcspn(arg + 2, "=");
        const struct option *option = find_option(command, arg, length);
        if (!option && is_letter)
            return bad(command, "unknown option", arg, "options are spelled out");
        if (!option)
            return unknown_option(command, arg);
        const char *value = !is_letter && arg[2 + length] == '=' ? arg + 3 + length : NULL;
        if (option->kind == OPTION_FLAG && value)
            return bad(command, "no argument is taken by", arg, "leave it out");
        if (option->kind != OPTION_FLAG && !value) {
            if (a + 1 == argc)
                return bad(command, "missing argument of", arg, "give one");
            value = argv[++a];
        }
        int result = set_value(command, option, value);
        if (result != PARSE_GO)
            return result;
    }
    return PARSE_GO;
}
