/* SPDX-License-Identifier: MIT */
/* membound shard: the law backwards. Bytes read per token from bandwidth and speed, and each of the three from the
 * other two; what that says of a model; and what it rests on. */
#include "cli.h"

#include <string.h>

enum { TEXT = 400 };

struct screen {
    const struct mb_shard *shard;
    const char *bandwidth_from; /* "DGX Spark, pool unified: spec"; NULL: given */
    int size_given;
    struct terminal terminal;
};

/* "21.0 GB (19.6 GiB)": rates are in units of 1e9, memory in units of 2^30. */
static char *size_of(double bytes, char *buf, size_t n)
{
    char binary[32];
    mb_format_bytes(bytes, binary, sizeof binary);
    if (bytes >= 999.5e6)
        snprintf(buf, n, bytes >= 99.95e9 ? "%.0f GB (%s)" : "%#.3g GB (%s)", bytes / 1e9, binary);
    else if (bytes >= 1e6)
        snprintf(buf, n, "%.3g MB (%s)", bytes / 1e6, binary);
    else
        snprintf(buf, n, "%s", binary);
    return buf;
}

static char *rate_text(double tokens_per_s, char *buf, size_t n)
{
    char speed[32];
    snprintf(buf, n, "%s tokens/s", speed_of(tokens_per_s, speed, sizeof speed));
    return buf;
}

static char *share_of(double share, char *buf, size_t n)
{
    snprintf(buf, n, share >= 0.0995 ? "%.0f %%" : "%.1f %%", 100 * share);
    return buf;
}

static char *value_of(enum mb_shard_found found, double value, char *buf, size_t n)
{
    switch (found) {
    case MB_SHARD_SIZE:
        return size_of(value, buf, n);
    case MB_SHARD_SPEED:
        return rate_text(value, buf, n);
    case MB_SHARD_BANDWIDTH:
        return mb_format_rate(value, buf, n);
    default:
        return share_of(value, buf, n);
    }
}

/* The answer in one line. */
static void show_answer(const struct screen *screen)
{
    const struct mb_shard *shard = screen->shard;
    char text[TEXT], a[64], b[64];
    switch (shard->found) {
    case MB_SHARD_SIZE:
        snprintf(text, sizeof text, "%s read per token%s", size_of(shard->size_bytes, a, sizeof a),
                 shard->assumed ? ", at most" : "");
        break;
    case MB_SHARD_SPEED:
        snprintf(text, sizeof text, "%s%s", rate_text(shard->tokens_per_s, a, sizeof a),
                 shard->assumed ? ", at most" : "");
        break;
    case MB_SHARD_BANDWIDTH:
        snprintf(text, sizeof text, "%s %s", mb_format_rate(shard->bandwidth_bytes_per_s, a, sizeof a),
                 shard->assumed ? "achieved" : "needed");
        break;
    case MB_SHARD_EFFICIENCY:
        snprintf(text, sizeof text, "%s of the bandwidth: %s achieved", share_of(shard->efficiency, a, sizeof a),
                 mb_format_rate(shard->size_bytes * shard->tokens_per_s, b, sizeof b));
        break;
    }
    printf(screen->terminal.colour ? "\033[1m%s\033[0m\n\n" : "%s\n\n", text);
}

static void row(struct mb_table *table, const char *label, const char *value, const char *from)
{
    mb_table_row(table);
    mb_table_cell(table, 0, MB_DIM, label);
    mb_table_cell(table, 1, MB_PLAIN, value);
    mb_table_cell(table, 2, MB_DIM, from);
}

static void show_figures(const struct screen *screen)
{
    const struct mb_shard *shard = screen->shard;
    struct mb_table *table = mb_table_new(3);
    char text[TEXT];
    row(table, "bandwidth", mb_format_rate(shard->bandwidth_bytes_per_s, text, sizeof text),
        shard->found == MB_SHARD_BANDWIDTH ? "found"
        : screen->bandwidth_from           ? screen->bandwidth_from
                                           : "given");
    row(table, "speed", rate_text(shard->tokens_per_s, text, sizeof text),
        shard->found == MB_SHARD_SPEED ? "found" : "given");
    row(table, "read/token", size_of(shard->size_bytes, text, sizeof text),
        shard->found == MB_SHARD_SIZE ? "found"
        : screen->size_given          ? "given"
                                      : "active shard and cache of the model");
    row(table, "efficiency", share_of(shard->efficiency, text, sizeof text),
        shard->found == MB_SHARD_EFFICIENCY ? "found"
        : shard->assumed                    ? "assumed: the bound, no time for anything else"
                                            : "assumed, as asked");
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

static void show_typical(const struct screen *screen)
{
    static const char *const who[] = {"one of ten published runs reaches that", "half of them do", "nine of ten do"};
    const struct mb_shard *shard = screen->shard;
    if (!shard->n_typical)
        return;
    struct mb_table *table = mb_table_new(3);
    char text[TEXT];
    mb_table_column(table, 0, NULL, MB_RIGHT);
    for (unsigned i = 0; i < shard->n_typical && i < sizeof who / sizeof *who; i++) {
        mb_table_row(table);
        mb_table_cell(table, 0, MB_BOLD, share_of(shard->typical[i].efficiency, text, sizeof text));
        mb_table_cell(table, 1, MB_PLAIN, value_of(shard->found, shard->typical[i].value, text, sizeof text));
        mb_table_cell(table, 2, MB_DIM, who[i]);
    }
    heading(shard->expert_bytes > 0 ? "at efficiencies of published runs of MoE models on one GPU"
                                    : "at efficiencies of published runs of dense models on one GPU",
            &screen->terminal);
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

static void experts_text(const struct mb_shard *shard, char *buf, size_t n)
{
    char each[64];
    if (shard->experts < 0)
        snprintf(buf, n, "none: attention and what else is always read are more than that; each expert is %s",
                 size_of(shard->expert_bytes, each, sizeof each));
    else if (shard->experts > shard->n_expert)
        snprintf(buf, n, "more than the %u there are; the model chooses %u, %s each", shard->n_expert,
                 shard->n_expert_used, size_of(shard->expert_bytes, each, sizeof each));
    else
        snprintf(buf, n, "%.3g of %u%s; the model chooses %u, %s each", shard->experts, shard->n_expert,
                 shard->found == MB_SHARD_SIZE && shard->assumed ? " at most" : "", shard->n_expert_used,
                 size_of(shard->expert_bytes, each, sizeof each));
}

static void show_model(const struct screen *screen)
{
    const struct mb_shard *shard = screen->shard;
    char text[TEXT], a[64], b[64], c[16];
    if (!shard->model)
        return;
    struct mb_table *table = mb_table_new(2);
    snprintf(text, sizeof text, "%s in all; one token reads %s of them (%s)",
             size_of(shard->resident_bytes, a, sizeof a), size_of(shard->active_bytes, b, sizeof b),
             share_of(shard->resident_bytes > 0 ? shard->active_bytes / shard->resident_bytes : 0, c, sizeof c));
    line(table, "weights", text);
    if (shard->cache_bytes > 0)
        line(table, "cache", size_of(shard->cache_bytes, a, sizeof a));
    if (shard->found == MB_SHARD_SIZE || screen->size_given) {
        snprintf(text, sizeof text, "%s without the cache: %s of the weights",
                 size_of(shard->weights_bytes, a, sizeof a), share_of(shard->share, b, sizeof b));
        line(table, shard->found == MB_SHARD_SIZE ? "found" : "given", text);
        if (shard->expert_bytes > 0) {
            experts_text(shard, text, sizeof text);
            line(table, "experts", text);
        }
    }
    if (shard->found == MB_SHARD_SIZE && shard->reads_efficiency > 0) {
        snprintf(text, sizeof text, "%s of the bandwidth, if exactly the active shard and the cache were read",
                 share_of(shard->reads_efficiency, a, sizeof a));
        line(table, "efficiency", text);
    }
    heading(shard->model, &screen->terminal);
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

/* What to make of the efficiency. */
static void show_verdict(const struct screen *screen)
{
    const struct mb_shard *shard = screen->shard;
    const char *text = NULL;
    char over[2 * TEXT], a[64], b[64], c[64];
    double most = shard->bandwidth_bytes_per_s / shard->tokens_per_s;
    double all = screen->size_given ? shard->size_bytes : shard->resident_bytes;
    switch (shard->verdict) {
    case MB_SHARD_UNTOLD:
        break;
    case MB_SHARD_BELOW:
        text = "Nine of ten published runs get more out of their memory. Look for weights that spilled into slower "
               "memory, one "
               "memory channel instead of two, a power limit, a long context that was not counted, or a small model, "
               "whose "
               "fixed time per layer weighs more.";
        break;
    case MB_SHARD_USUAL:
        text = "Within what eight of ten published runs reach: the memory explains this speed.";
        break;
    case MB_SHARD_NEAR:
        text = "Near the bound: only one of ten published runs reaches that much. Possible, but check the size, the "
               "bandwidth, and that speculation was off.";
        break;
    case MB_SHARD_OVER:
        snprintf(
            over, sizeof over,
            "More than the memory can deliver, so no such read for every token explains this speed. At most %s are "
            "read per "
            "token%s%s%s. Either it is a MoE that reads about that much; or speculation (a draft model, next-token "
            "prediction) wrote %.3g tokens or more per pass; or this is the speed of the prompt, or of several "
            "requests; "
            "or the size or the bandwidth is not that of this run.",
            size_of(most, a, sizeof a), all > most ? ", " : "", all > most ? share_of(most / all, b, sizeof b) : "",
            all > most ? " of it" : "", shard->reads_efficiency);
        if (shard->model && shard->n_expert && all > most)
            snprintf(over, sizeof over,
                     "More than the memory can deliver: the active shard alone would need %s. At most %s are read per "
                     "token, %s "
                     "of the weights. Either speculation (a draft model, next-token prediction) wrote %.3g tokens or "
                     "more per "
                     "pass; or fewer experts were used; or this is the speed of the prompt, or of several requests; or "
                     "the model "
                     "or the bandwidth is not that of this run.",
                     mb_format_rate(shard->reads_efficiency * shard->bandwidth_bytes_per_s, c, sizeof c),
                     size_of(most, a, sizeof a), share_of(most / all, b, sizeof b), shard->reads_efficiency);
        text = over;
        break;
    }
    if (!text)
        return;
    struct mb_table *table = mb_table_new(1);
    mb_table_row(table);
    mb_table_cell(table, 0,
                  shard->verdict == MB_SHARD_USUAL  ? MB_GOOD
                  : shard->verdict == MB_SHARD_OVER ? MB_BAD
                                                    : MB_WARN,
                  text);
    putchar('\n');
    mb_table_print(table, stdout, 0, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

/* Bandwidth of the pool that a model of that size would be read from. */
static int take_bandwidth(const char *name, double bytes, double *out_bytes_per_s, char *from, size_t n,
                          struct mb_err *err)
{
    struct mb_machine *machine = NULL;
    int holds, code = open_machine(name, NULL, &machine, err);
    if (code != MB_OK)
        return code;
    const struct mb_pool *pool = pool_for(machine, bytes, &holds);
    if (pool && pool->bandwidth_bytes_per_s.value > 0) {
        *out_bytes_per_s = pool->bandwidth_bytes_per_s.value;
        snprintf(from, n, "%.120s, pool %.40s (%s)%s", machine->name, pool->id,
                 mb_provenance_name(pool->bandwidth_bytes_per_s.provenance), holds ? "" : "; too small to hold it");
    } else {
        err->code = MB_ENODATA;
        snprintf(err->text, sizeof err->text,
                 "%.120s: no bandwidth is known; measure it (membound machine --measure) or give --bandwidth",
                 machine->name);
        code = MB_ENODATA;
    }
    mb_machine_free(machine);
    return code;
}

int verb_shard(int argc, char **argv)
{
    struct mb_shard_opts opts = {0};
    const char *spec = NULL, *machine = NULL, *kv_type = NULL;
    int json = 0;
    const struct option options[] = {
        {"bandwidth", OPTION_RATE, &opts.bandwidth_bytes_per_s, "RATE",
         "of the memory with the weights: 273, 273GB/s, 1.8TB/s"},
        {"speed", OPTION_SPEED, &opts.tokens_per_s, "N", "measured tokens per second of decoding"},
        {"size", OPTION_SIZE, &opts.size_bytes, "SIZE",
         "bytes read per token: 21, 21GB (1e9), 19.6GiB (2^30); dense: the file"},
        {"model", OPTION_TEXT, &spec, "MODEL", "compare with this model (membound inspect --help)"},
        {"on", OPTION_TEXT, &machine, "MACHINE", "bandwidth of a machine: here, a catalog name or FILE.json"},
        {"efficiency", OPTION_SHARE, &opts.efficiency, "E",
         "assume that this share of the bandwidth is reached (default 1)"},
        {"ctx", OPTION_COUNT, &opts.n_ctx, "N", "with N tokens in the model's cache (default 0)"},
        {"kv", OPTION_TEXT, &kv_type, "TYPE", "type of the KV cache: F16 (default), Q8_0, Q4_0, ..."},
        {"json", OPTION_FLAG, &json, NULL, "JSON (docs/json.md)"},
    };
    const struct command command = {
        .name = "shard",
        .synopsis = "two of --bandwidth, --speed, --size, --model [options]",
        .summary = "The law backwards: bandwidth = speed * bytes read per token. Any two give the third; three give\n"
                   "the efficiency. A model tells what it should read, and what the difference means.",
        .examples = "  membound shard --bandwidth 273 --speed 13\n  membound shard --bandwidth 273 --size 21\n"
                    "  membound shard --on \"DGX Spark\" --speed 55 --model gpt-oss-120b\n"
                    "  membound shard --size 19.6GiB --speed 13 --efficiency 0.7\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, NULL);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    int n_known = (opts.bandwidth_bytes_per_s > 0 || machine) + (opts.tokens_per_s > 0) + (opts.size_bytes > 0 || spec);
    const char *clash = machine && opts.bandwidth_bytes_per_s > 0 ? "--on and --bandwidth exclude each other"
                        : (opts.n_ctx || kv_type) && !spec        ? "--ctx and --kv need a --model"
                        : n_known < 2 ? "two of --bandwidth (or --on), --speed and --size (or --model) are needed"
                                      : NULL;
    if (clash)
        return command_refuse(&command, clash);
    struct mb_model *model = NULL;
    struct mb_shard shard;
    struct mb_err err;
    char from[240] = "", *text = NULL;
    struct screen screen = {.shard = &shard,
                            .bandwidth_from = machine ? from : NULL,
                            .size_given = opts.size_bytes > 0,
                            .terminal = terminal_of_stdout()};
    opts.kv.type_k = opts.kv.type_v = kv_type;
    int code = spec ? open_model(spec, &model, &err) : MB_OK;
    opts.model = model;
    if (code == MB_OK && machine) {
        struct mb_model_info info = {0};
        if (model)
            mb_model_get_info(model, &info);
        code = take_bandwidth(machine, model ? (double)info.resident_bytes : opts.size_bytes,
                              &opts.bandwidth_bytes_per_s, from, sizeof from, &err);
    }
    if (code == MB_OK)
        code = mb_shard_infer(&opts, &shard, &err);
    if (code == MB_OK && json)
        code = mb_shard_json(&shard, &text, &err);
    if (code == MB_OK && json) {
        puts(text);
    } else if (code == MB_OK) {
        show_answer(&screen);
        show_figures(&screen);
        show_typical(&screen);
        show_model(&screen);
        show_verdict(&screen);
    }
    mb_text_free(text);
    mb_model_free(model);
    return code == MB_OK ? 0 : report(&err);
}
