/* SPDX-License-Identifier: MIT */
/* What the verbs of the program share: options, the terminal, and where this person's files are. The cli uses the
 * library through membound.h only. */
#ifndef MB_CLI_H
#define MB_CLI_H

#include "membound.h"

/* ---- options ---- */

enum option_kind {
    OPTION_FLAG,   /* int *: set to 1 */
    OPTION_TEXT,   /* const char **: the argument */
    OPTION_TEXTS,  /* struct text_list *: the option may stand there several times */
    OPTION_COUNT,  /* uint64_t *: a whole number, 0 and up; "32k" is 32768 */
    OPTION_NUMBER, /* double *: any number, 0 and up; a comma between thousands is ignored: "2,500" */
    OPTION_BYTES,  /* uint64_t *: a size of memory, "24GiB"; a bare number is in GiB */
    /* double *: positive figures. A bare number is in the first unit. */
    OPTION_SHARE, /* "0.7", "70%"; at most 1 */
    OPTION_SPEED, /* tokens per second: "13", "13 tok/s" */
    OPTION_RATE,  /* bytes per second: "273", "273GB/s" */
    OPTION_SIZE   /* bytes, in the units of rates: "21" and "21GB" are 21e9, "19.6GiB" */
};

enum { MAX_TEXTS = 16 };

struct text_list {
    const char *items[MAX_TEXTS];
    unsigned n;
};

struct option {
    const char *name;     /* "measure": typed as --measure */
    enum option_kind kind;
    void *target;
    const char *argument; /* "FILE" for help; NULL for flags */
    const char *help;     /* one line */
};

/* A verb's command line: options anywhere, positional arguments collected, "--" ends options. --help is known to every verb. */
struct command {
    const char *name;      /* "machine"; "" for the program itself */
    const char *synopsis;  /* "[NAME | FILE.json] [options]" */
    const char *summary;   /* one sentence */
    const char *examples;  /* lines, ready to print */
    const struct option *options;
    unsigned n_options;
    const char *letters; /* "pf": the first two options may be typed as -p and -f, too; NULL: none */
    unsigned max_positional;
};

enum parse_result { PARSE_GO, PARSE_STOP /* help was printed */, PARSE_BAD /* told on stderr; exit 2 */ };

/* Parse argv[1..argc). positional gets up to command->max_positional arguments (NULL-filled). */
enum parse_result command_parse(const struct command *command, int argc, char **argv, const char **positional);
void command_help(const struct command *command, FILE *out);

/* Say on stderr what is wrong with how options were combined, and where help is. Returns the exit code. */
int command_refuse(const struct command *command, const char *what);

/* ---- terminal ---- */

struct terminal {
    unsigned width; /* of stdout; 80 where unknown */
    int colour;     /* stdout is a terminal, NO_COLOR is unset and TERM is not "dumb" */
};

struct terminal terminal_of_stdout(void);

/* Add to the text in buf of n bytes; what does not fit is cut. Names come from drivers and files, however long. */
void append(char *buf, size_t n, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* A heading after an empty line; a row of a table of two columns: the label, then the text wrapped beside it. */
void heading(const char *text, const struct terminal *terminal);
void line(struct mb_table *table, const char *label, const char *text);

/* Figures as people read them, in buf: tokens per second with three digits or so, "32k" tokens of context, bytes in the units of
 * rates. They return buf. */
char *speed_of(double tokens_per_s, char *buf, size_t n);
char *depth_of(uint64_t depth, char *buf, size_t n);
char *read_of(double bytes, char *buf, size_t n);

/* A progress line on stderr, shown once work has lasted a second and only on a terminal. */
struct progress {
    double began_s, shown_s;
    int on, visible;
};

void progress_begin(struct progress *progress);
void progress_show(void *progress, const char *what, double share); /* an mb_progress_fn */
void progress_end(struct progress *progress);

/* A flag that SIGINT sets; the second SIGINT ends the program. What it stopped is over: clear it. */
const volatile int *interrupt_flag(void);
void interrupt_clear(void);

/* Is stderr a terminal? */
int terminal_of_stderr(void);

/* The meter of a running model, on stderr if that is a terminal. */
struct meter {
    double bound_bytes_per_s; /* 0 unknown */
    double shown_s;
    unsigned rows; /* of the terminal, where text and meter share one */
    int on;
};

void meter_begin(struct meter *meter, double bound_bytes_per_s);
void meter_show(struct meter *meter, const struct mb_written *so_far);
void meter_end(struct meter *meter);

/* ---- the person's files ---- */

/* XDG_DATA_HOME/membound/history.db in buf; NULL when there is no home directory. */
const char *history_path(char *buf, size_t n);

/* ---- what a person names ---- */

enum { MAX_STORES = 8 };

/* The stores of other programs' models and the cache of headers. Zeroed and filled by find_places(); search points into it. */
struct places {
    struct mb_store_dir stores[MAX_STORES];
    char paths[MAX_STORES][1024];
    size_t n;
    char cache[1024];
};

void find_places(struct places *places, struct mb_model_search *search);

/* Open MODEL; mb_model_open() in the stores of this person. */
int open_model(const char *spec, struct mb_model **out, struct mb_err *err);

/* This machine (or the recorded one of opts) with its newest measurement. A history that can't be read costs the history
 * only, and a line on stderr. */
int open_here(const struct mb_detect_opts *opts, struct mb_machine **out, struct mb_err *err);

/* Open MACHINE: NULL and "here" are this one, "FILE.json" and what holds a slash a hand-written one, else one of the
 * catalog. opts is for this one; NULL: defaults. */
int open_machine(const char *name, const struct mb_detect_opts *opts, struct mb_machine **out, struct mb_err *err);

/* The pool that a model of so many bytes would be read from: the fastest that holds it, of which *holds tells, else the
 * fastest. NULL: no bandwidth is known. */
const struct mb_pool *pool_for(const struct mb_machine *machine, double bytes, int *holds);

/* Print err as one line on stderr; returns the exit code of the failure. */
int report(const struct mb_err *err);
/* Flush stdout; returns code, or 4 with a line on stderr when the output could not be written. */
int finish_output(int code);

/* ---- verbs: each takes its own name as argv[0] and returns the exit code ---- */

int verb_home(int argc, char **argv);
int verb_bench(int argc, char **argv);
int verb_machine(int argc, char **argv);
int verb_inspect(int argc, char **argv);
int verb_plan(int argc, char **argv);
int verb_run(int argc, char **argv);
int verb_shard(int argc, char **argv);
int verb_validate(int argc, char **argv);
int verb_advise(int argc, char **argv);

/* The models that other programs keep here; returns the exit code. */
int list_found_models(int json);

/* The machine as a screen for people; full adds processors, links and series. */
void show_machine(const struct mb_machine *machine, int full);

/* A plan as a screen for people; explain adds the terms that its speeds are sums of. */
void show_plan(const struct mb_plan *plan, int explain);

/* A bench as a screen for people. */
void show_bench(const struct mb_bench *bench);

/* A plan over several machines. */
struct cluster_question {
    const char *const *machines; /* the first is the main one */
    unsigned n_machines;
    const char *link, *spec;
    const struct mb_detect_opts *detect; /* for "here" */
    const struct mb_plan_opts *opts;
    const char *emit; /* a target; NULL: the plan itself */
    int json;
};

/* Make it and print it; returns the exit code. */
int plan_cluster(const struct cluster_question *question);

#endif
