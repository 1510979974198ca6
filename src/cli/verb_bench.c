/* SPDX-License-Identifier: MIT */
/* membound bench: how fast a model runs here, beside what the memory delivered in the same seconds and what was predicted. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTHS = 16 };

struct depths {
    uint64_t list[MAX_DEPTHS];
    unsigned n;
};

/* "0,4k,32k"; returns 0 when it is no such list. */
static int read_depths(const char *text, struct depths *out)
{
    out->n = 0;
    for (const char *at = text;;) {
        char *end;
        if (*at < '0' || *at > '9' || out->n == MAX_DEPTHS)
            return 0;
        uint64_t depth = strtoull(at, &end, 10);
        if (depth > UINT32_MAX)
            return 0;
        if (*end == 'k' || *end == 'K') {
            depth *= 1024;
            end++;
        }
        out->list[out->n++] = depth;
        if (!*end)
            return 1;
        if (*end != ',')
            return 0;
        at = end + 1;
    }
}

static int print_bench(const struct mb_bench *bench, int json)
{
    char *text = NULL;
    struct mb_err err;
    if (!json) {
        show_bench(bench);
    } else if (mb_bench_json(bench, &text, &err) != MB_OK) {
        return report(&err);
    } else {
        puts(text);
        mb_text_free(text);
    }
    return bench->cancelled ? mb_code_exit(MB_ECANCEL) : 0;
}

/* A name of the catalog has no weights; the mend is an option of this verb. */
static int check_weights(const struct mb_model *model, const struct mb_bench_opts *opts, struct mb_err *err)
{
    struct mb_model_info info;
    mb_model_get_info(model, &info);
    if (info.path || opts->load == MB_LOAD_SYNTHETIC)
        return MB_OK;
    *err = (struct mb_err){.code = MB_EINVAL};
    snprintf(err->text, sizeof err->text,
             "%.100s is a name of the catalog and has no file; add --synthetic to bench it with made-up weights", info.name);
    return MB_EINVAL;
}

static int bench_model(const char *spec, struct mb_bench_opts *opts, int json)
{
    struct mb_model *model = NULL;
    struct mb_machine *machine = NULL;
    struct mb_bench *bench = NULL;
    struct mb_detect_opts detect = {0};
    struct progress progress;
    struct mb_err err;
    int code = open_model(spec, &model, &err);
    if (code == MB_OK)
        code = check_weights(model, opts, &err);
    if (code == MB_OK)
        code = open_here(&detect, &machine, &err);
    if (code == MB_OK) {
        opts->machine = machine;
        opts->progress = progress_show;
        opts->user = &progress;
        opts->cancel = interrupt_flag();
        progress_begin(&progress);
        code = mb_bench_run(model, opts, &bench, &err);
        progress_end(&progress);
    }
    code = code == MB_OK ? print_bench(bench, json) : report(&err);
    mb_bench_free(bench);
    mb_machine_free(machine);
    mb_model_free(model);
    return code;
}

int verb_bench(int argc, char **argv)
{
    struct mb_bench_opts opts = {.load = MB_LOAD_COPY, .seed = 1};
    struct depths depths = {.n = 1};
    uint64_t prefill = UINT64_MAX, decode = UINT64_MAX, threads = 0;
    const char *spec = NULL, *depth = NULL;
    int synthetic = 0, json = 0;
    const struct option options[] = {
        {"synthetic", OPTION_FLAG, &synthetic, NULL, "made-up weights of the model's types and shapes: no file is needed"},
        {"prefill", OPTION_COUNT, &prefill, "N", "tokens of one prefill (default 512); 0: none"},
        {"decode", OPTION_COUNT, &decode, "N", "tokens of one block of decoding (default: half a second); 0: none"},
        {"depth", OPTION_TEXT, &depth, "D,...", "tokens already in the cache, \"0,4k,32k\" (default 0)"},
        {"threads", OPTION_COUNT, &threads, "N", "CPU threads (default: all)"},
        {"ops", OPTION_FLAG, &opts.ops, NULL, "what each kind of op reads, and how fast"},
        {"json", OPTION_FLAG, &json, NULL, "JSON (docs/json.md)"},
    };
    const struct command command = {
        .name = "bench",
        .synopsis = "MODEL [--synthetic] [options]",
        .summary = "Run a model on this machine and print its speed beside what the memory allowed in the same seconds\n"
                   "(the bound) and what was predicted. MODEL: a GGUF file, a model that is here, or with --synthetic\n"
                   "a name of the catalog. Ctrl-C ends it with what was measured so far, and exit code 1.",
        .examples = "  membound bench model.gguf\n  membound bench Qwen3-1.7B@Q4_K_M --synthetic\n"
                    "  membound bench gpt-oss-20b --synthetic --depth 0,4k,32k --ops\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .max_positional = 1,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, &spec);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    const char *clash = !spec                                                      ? "no MODEL given"
                        : depth && !read_depths(depth, &depths)                    ? "--depth takes up to 16 counts: 0,4k,32k"
                        : prefill != UINT64_MAX && prefill > UINT32_MAX            ? "--prefill is too large"
                        : decode != UINT64_MAX && decode > UINT32_MAX              ? "--decode is too large"
                        : threads > 4096                                           ? "--threads is at most 4096"
                        : !prefill && !decode ? "without prefill and decode nothing is measured"
                                                                                   : NULL;
    if (clash)
        return command_refuse(&command, clash);
    opts.load = synthetic ? MB_LOAD_SYNTHETIC : MB_LOAD_COPY;
    opts.no_prefill = prefill == 0;
    opts.no_decode = decode == 0;
    opts.n_prefill = prefill == UINT64_MAX ? 0 : (uint32_t)prefill;
    opts.n_decode = decode == UINT64_MAX ? 0 : (uint32_t)decode;
    opts.depths = depths.list;
    opts.n_depths = depths.n;
    opts.n_threads = (unsigned)threads;
    return bench_model(spec, &opts, json);
}
