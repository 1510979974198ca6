/* SPDX-License-Identifier: MIT */
/* membound plan: where a model's bytes go on a machine, and how fast that will be. */
#include "cli.h"

#include <string.h>

struct output {
    int json, explain;
    const char *emit; /* a target; NULL: the plan itself */
};

/* Exit 1: the answer is there, and it is no. */
static int print_plan(const struct mb_plan *plan, int json, int explain)
{
    char *text = NULL;
    struct mb_err err;
    if (!json) {
        show_plan(plan, explain);
    } else if (mb_plan_json(plan, explain, &text, &err) != MB_OK) {
        return report(&err);
    } else {
        puts(text);
        mb_text_free(text);
    }
    return plan->fits ? 0 : 1;
}

/* What another engine needs to place the model like this; a plan that does not fit is shown instead. */
static int print_emitted(const struct mb_plan *plan, const struct mb_model *model, const struct output *output)
{
    char *text = NULL;
    struct mb_err err;
    if (!plan->fits)
        return print_plan(plan, output->json, output->explain);
    if (mb_plan_emit(plan, model, output->emit, &text, &err) != MB_OK)
        return report(&err);
    fputs(text, stdout);
    mb_text_free(text);
    return 0;
}

static int plan_on(const char *machine_name, const char *spec, const struct mb_detect_opts *detect,
                   const struct mb_plan_opts *opts, const struct output *output)
{
    struct mb_machine *machine = NULL;
    struct mb_model *model = NULL;
    struct mb_plan *plan = NULL;
    struct mb_err err;
    int code = open_model(spec, &model, &err);
    if (code == MB_OK)
        code = open_machine(machine_name, detect, &machine, &err);
    if (code == MB_OK)
        code = mb_plan_make(machine, model, opts, &plan, &err);
    code = code != MB_OK ? report(&err)
           : output->emit ? print_emitted(plan, model, output)
                          : print_plan(plan, output->json, output->explain);
    mb_plan_free(plan);
    mb_machine_free(machine);
    mb_model_free(model);
    return code;
}

int verb_plan(int argc, char **argv)
{
    struct mb_plan_opts opts = {0};
    struct mb_detect_opts detect = {0};
    const char *spec = NULL, *on = NULL, *kv = NULL, *link = NULL;
    struct text_list machines = {0};
    uint64_t apps = UINT64_MAX, batch = 0, nodes = 0;
    struct output output = {0};
    const struct option options[] = {
        {"on", OPTION_TEXTS, &machines, "MACHINE", "a catalog machine or FILE.json (default: here); several: one plan over all"},
        {"nodes", OPTION_COUNT, &nodes, "N", "over N machines like that one"},
        {"link", OPTION_TEXT, &link, "LINK", "between machines: 10GbE (default), 200GbE, thunderbolt5, \"1.1GB/s,80us\", ..."},
        {"ctx", OPTION_COUNT, &opts.n_ctx, "N", "room for N tokens of context, \"32k\" is 32768 (default 8192)"},
        {"apps", OPTION_BYTES, &apps, "GiB", "memory that the system and other programs need"},
        {"kv", OPTION_TEXT, &kv, "TYPE", "type of the KV cache: F16 (default), Q8_0, Q4_0, ..."},
        {"batch", OPTION_COUNT, &batch, "N", "tokens of one chunk of prefill (default 512)"},
        {"engine", OPTION_TEXT, &opts.engine, "NAME", "llama.cpp (default), ollama, mlx, ..., or ENGINE:BACKEND"},
        {"emit", OPTION_TEXT, &output.emit, "ENGINE", "print what makes it so: llama.cpp, ollama, vllm, lmstudio, mlx, ..."},
        {"explain", OPTION_FLAG, &output.explain, NULL, "what the speeds are sums of, and where each constant comes from"},
        {"json", OPTION_FLAG, &output.json, NULL, "JSON (docs/json.md)"},
        {"no-gpu", OPTION_FLAG, &detect.no_gpu, NULL, "do not open GPU drivers"},
        {"software-gpu", OPTION_FLAG, &detect.allow_software_gpu, NULL, "keep software GPUs such as llvmpipe (for tests)"},
        {"root", OPTION_TEXT, &detect.root, "DIR", "a recorded machine instead of this one"},
    };
    const struct command command = {
        .name = "plan",
        .synopsis = "MODEL [--on MACHINE] [options]",
        .summary = "Where the bytes of a model go on a machine so that it is fastest, how fast it will be, and why.\n"
                   "MODEL: as for membound inspect. Exit code 1: it does not fit, and what would make it fit is said.",
        .examples = "  membound plan model.gguf\n  membound plan gpt-oss-120b --on \"PC RTX 3090, 64 GB DDR5\" --ctx 32k\n"
                    "  membound plan Qwen3-32B@Q8_0 --on \"DGX Spark\" --explain\n  membound plan model.gguf --emit llama.cpp\n"
                    "  membound plan Qwen3-235B-A22B@Q4_K_M --on \"DGX Spark\" --nodes 2 --link 200GbE\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .max_positional = 1,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, &spec);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    on = machines.n ? machines.items[0] : NULL;
    int here = !on || strcmp(on, "here") == 0, several = machines.n > 1 || nodes > 1;
    const char *clash = !spec                                  ? "no MODEL given"
                        : detect.root && !here                 ? "--on and --root exclude each other"
                        : batch > 1 << 16                      ? "--batch is at most 65536"
                        : nodes && machines.n > 1              ? "--nodes takes one --on"
                        : nodes > MAX_TEXTS                    ? "--nodes is at most 16"
                        : link && !several                     ? "--link is between machines: several --on, or --nodes"
                        : several && output.explain            ? "--explain is for one machine"
                        : output.emit && (output.json || output.explain)
                            ? "--emit prints no plan: it takes no --json and no --explain"
                                                               : NULL;
    if (clash)
        return command_refuse(&command, clash);
    opts.kv.type_k = opts.kv.type_v = kv;
    opts.kv.n_batch = (uint32_t)batch;
    opts.apps_given = apps != UINT64_MAX;
    opts.apps_bytes = opts.apps_given ? apps : 0;
    if (!several)
        return plan_on(on, spec, &detect, &opts, &output);
    for (; machines.n < nodes; machines.n++)
        machines.items[machines.n] = on ? on : "here";
    struct cluster_question question = {machines.items, machines.n, link ? link : "10GbE", spec, &detect,
                                        &opts, output.emit, output.json};
    return plan_cluster(&question);
}
