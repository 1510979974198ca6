/* SPDX-License-Identifier: MIT */
/* The program: choose the verb. Without one, show this machine. */
#include "cli.h"

#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} verbs[] = {
    {"advise", verb_advise, "what to buy for a model, what to run on a machine"},
    {"bench", verb_bench, "how fast a model runs here, beside its bound and its prediction"},
    {"inspect", verb_inspect, "what is in a model, and what one token of it reads"},
    {"machine", verb_machine, "one machine in full: detected, measured, from the catalog or a file"},
    {"plan", verb_plan, "where a model's bytes go on a machine, and how fast it will be"},
    {"run", verb_run, "write or chat with a model, measured against the bound"},
    {"shard", verb_shard, "bytes read per token from bandwidth and speed, and back"},
    {"validate", verb_validate, "predict published measurements and print the errors"},
};

enum { N_VERBS = sizeof verbs / sizeof *verbs };

static void help(void)
{
    printf("membound %s: LLM inference is memory-bound. This program measures memory and does the sums.\n\n"
           "usage: membound [options]           this machine in one screen (membound home --help)\n"
           "       membound VERB ...            membound VERB --help explains each\n\nverbs:\n",
           MB_VERSION);
    for (unsigned i = 0; i < N_VERBS; i++)
        printf("  %-10s %s\n", verbs[i].name, verbs[i].summary);
    puts("\n--version prints the version. Every verb takes --json.\n"
         "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 bad input file,\n"
         "4 missing hardware or resource, 5 internal error.");
}

static int unknown_verb(const char *verb)
{
    fprintf(stderr, "membound: unknown verb %s; the verbs are", verb);
    for (unsigned i = 0; i < N_VERBS; i++)
        fprintf(stderr, "%s %s", i ? "," : "", verbs[i].name);
    fputs(" (membound --help)\n", stderr);
    return mb_code_exit(MB_EINVAL);
}

int main(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : "";
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || strcmp(first, "help") == 0) {
        help();
        return finish_output(0);
    }
    if (strcmp(first, "--version") == 0) {
        printf("membound %s\n", MB_VERSION);
        return finish_output(0);
    }
    if (strcmp(first, "home") == 0)
        return finish_output(verb_home(argc - 1, argv + 1));
    if (*first == '-' || argc < 2)
        return finish_output(verb_home(argc, argv));
    for (unsigned i = 0; i < N_VERBS; i++)
        if (strcmp(first, verbs[i].name) == 0)
            return finish_output(verbs[i].run(argc - 1, argv + 1));
    return unknown_verb(first);
}
