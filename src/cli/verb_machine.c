/* SPDX-License-Identifier: MIT */
/* membound and membound machine: this machine detected, with its newest measurement; a catalog machine; a file. */
#include "cli.h"

#include <string.h>

static int measure(struct mb_machine *machine, const struct mb_detect_opts *source, int quick, uint64_t threads,
                   struct mb_err *err)
{
    struct progress progress;
    struct mb_measure_opts opts = {.quick = quick,
                                   .n_threads_max = (unsigned)threads,
                                   .no_gpu = source->no_gpu,
                                   .allow_software_gpu = source->allow_software_gpu,
                                   .progress = progress_show,
                                   .user = &progress,
                                   .cancel = interrupt_flag()};
    progress_begin(&progress);
    int code = mb_machine_measure(machine, &opts, err);
    progress_end(&progress);
    char path[4096];
    struct mb_err why;
    if (code == MB_OK && !source->allow_software_gpu) {
        if (!history_path(path, sizeof path))
            fputs("membound: no home directory, so the measurement is not kept; set XDG_DATA_HOME\n", stderr);
        else if (mb_history_save(path, machine, &why) != MB_OK)
            fprintf(stderr, "membound: %s\n", why.text);
    }
    return code;
}

static int print_json(const struct mb_machine *machine)
{
    char *text = NULL;
    struct mb_err err;
    int code = mb_machine_json(machine, &text, &err);
    if (code != MB_OK)
        return report(&err);
    puts(text);
    mb_text_free(text);
    return 0;
}

static int print_machine(const struct mb_machine *machine, int json, int full)
{
    if (json)
        return print_json(machine);
    show_machine(machine, full);
    return 0;
}

int verb_home(int argc, char **argv)
{
    struct mb_detect_opts source = {0};
    int json = 0, no_measure = 0;
    const struct option options[] = {
        {"json", OPTION_FLAG, &json, NULL, "the machine as JSON (docs/json.md)"},
        {"no-measure", OPTION_FLAG, &no_measure, NULL, "do not measure, even if nothing was ever measured here"},
        {"no-gpu", OPTION_FLAG, &source.no_gpu, NULL, "do not open GPU drivers"},
        {"software-gpu", OPTION_FLAG, &source.allow_software_gpu, NULL, "keep software GPUs such as llvmpipe (for tests)"},
        {"root", OPTION_TEXT, &source.root, "DIR", "a recorded machine instead of this one"},
    };
    const struct command command = {
        .name = "",
        .synopsis = "[options]",
        .summary = "This machine in one screen: its memory pools, their bandwidth, its class. A first run measures\n"
                   "for a few seconds and remembers the result.",
        .examples = "  membound\n  membound --json | python3 -m json.tool\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, NULL);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    struct mb_machine *machine = NULL;
    struct mb_err err;
    int code = open_here(&source, &machine, &err);
    if (code != MB_OK)
        return report(&err);
    if (!machine->measurement && !source.root && !no_measure) {
        code = measure(machine, &source, 1, 0, &err);
        /* What was detected is still worth showing. */
        if (code != MB_OK)
            fprintf(stderr, "membound: %s\n", err.text);
    }
    code = code == MB_ECANCEL ? mb_code_exit(code) : print_machine(machine, json, 0);
    mb_machine_free(machine);
    return code;
}

static int list_catalog(int json)
{
    struct mb_catalog_row *rows = NULL;
    size_t n = 0;
    struct mb_err err;
    if (json) {
        char *text = NULL;
        if (mb_catalog_json(&text, &err) != MB_OK)
            return report(&err);
        puts(text);
        mb_text_free(text);
        return 0;
    }
    if (mb_catalog_rows(&rows, &n, &err) != MB_OK)
        return report(&err);
    struct terminal terminal = terminal_of_stdout();
    struct mb_table *table = mb_table_new(6);
    static const char *const headings[] = {"#", "memory", "bandwidth", "class", "price", "machine"};
    for (unsigned c = 0; c < 6; c++)
        mb_table_column(table, c, headings[c], c == 3 || c == 5 ? MB_LEFT : MB_RIGHT);
    for (size_t i = 0; i < n; i++) {
        char text[64];
        mb_table_row(table);
        snprintf(text, sizeof text, "%u", rows[i].desirability);
        mb_table_cell(table, 0, MB_DIM, text);
        mb_table_cell(table, 1, MB_PLAIN, mb_format_bytes(rows[i].fast_bytes, text, sizeof text));
        mb_table_cell(table, 2, MB_PLAIN,
                      mb_format_rate(rows[i].bandwidth_bytes_per_s > 0 ? rows[i].bandwidth_bytes_per_s : -1, text,
                                     sizeof text));
        mb_table_cell(table, 3, MB_PLAIN, mb_class_name(rows[i].machine_class));
        if (rows[i].price.currency) {
            snprintf(text, sizeof text, "%.0f %s%s", rows[i].price.amount, rows[i].price.currency,
                     strcmp(rows[i].price.condition, "new") == 0 ? "" : " used");
            mb_table_cell(table, 4, MB_PLAIN, text);
        } else {
            mb_table_cell(table, 4, MB_DIM, "-");
        }
        mb_table_cell(table, 5, MB_BOLD, rows[i].name);
    }
    mb_table_print(table, stdout, 0, terminal.width, terminal.colour);
    mb_table_free(table);
    mb_catalog_rows_free(rows);
    puts("\nOrder: size of the memory that a GPU reads (CPU-only machines last), then its\n"
         "bandwidth, then compute. membound machine NAME shows one, with its sources.");
    return 0;
}

int verb_machine(int argc, char **argv)
{
    struct mb_detect_opts source = {0};
    int json = 0, list = 0, do_measure = 0, quick = 0;
    const char *save = NULL, *name = NULL;
    uint64_t threads = 0;
    const struct option options[] = {
        {"measure", OPTION_FLAG, &do_measure, NULL, "measure the bandwidths of this machine (under 30 s) and keep the result"},
        {"quick", OPTION_FLAG, &quick, NULL, "measure in under 5 s"},
        {"threads", OPTION_COUNT, &threads, "N", "measure with at most N CPU threads"},
        {"list", OPTION_FLAG, &list, NULL, "list the catalog, best first"},
        {"save", OPTION_TEXT, &save, "FILE", "write the machine as JSON, to edit for a what-if"},
        {"json", OPTION_FLAG, &json, NULL, "JSON (docs/json.md)"},
        {"no-gpu", OPTION_FLAG, &source.no_gpu, NULL, "do not open GPU drivers"},
        {"software-gpu", OPTION_FLAG, &source.allow_software_gpu, NULL, "keep software GPUs such as llvmpipe (for tests)"},
        {"root", OPTION_TEXT, &source.root, "DIR", "a recorded machine instead of this one (tools/record-machine.sh)"},
    };
    const struct command command = {
        .name = "machine",
        .synopsis = "[NAME | FILE.json] [options]",
        .summary = "One machine in full: pools, processors, links, and where each figure comes from.\n"
                   "Without NAME: this machine. NAME: one of the catalog. FILE.json: a hand-written one.",
        .examples = "  membound machine --measure\n  membound machine \"DGX Spark\"\n  membound machine --list\n"
                    "  membound machine --save mine.json; membound machine mine.json\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .max_positional = 1,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, &name);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    const char *clash = list && name                                            ? "--list takes no NAME"
                        : (do_measure || quick) && (name || list || source.root) ? "only this machine can be measured"
                        : name && source.root                                   ? "NAME and --root exclude each other"
                        : threads > 4096                                        ? "--threads is at most 4096"
                                                                                : NULL;
    if (clash)
        return command_refuse(&command, clash);
    if (list)
        return list_catalog(json);
    struct mb_machine *machine = NULL;
    struct mb_err err;
    int code = open_machine(name, &source, &machine, &err);
    if (code == MB_OK && (do_measure || quick))
        code = measure(machine, &source, quick, threads, &err);
    if (code == MB_OK && save)
        code = mb_machine_save(machine, save, &err);
    code = code == MB_OK ? print_machine(machine, json, 1) : report(&err);
    mb_machine_free(machine);
    return code;
}
