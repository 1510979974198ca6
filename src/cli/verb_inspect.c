/* SPDX-License-Identifier: MIT */
/* membound inspect: what is in a model, what one token of it reads, and the speeds that follow from the law. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

struct question {
    const char *kv_type;
    uint64_t ctx, batch;
    int tensors;
    double here_bytes_per_s; /* bandwidth of this machine's fastest pool that holds the model; 0 unknown */
    char here_pool[64];
};

static const double bandwidths[] = {100e9, 273e9, 1000e9};

/* "8.19 B", "268 M" */
static char *count_of(double count, char *buf, size_t n)
{
    if (count >= 1e12)
        snprintf(buf, n, "%.3g T", count / 1e12);
    else if (count >= 1e9)
        snprintf(buf, n, "%.*f B", count >= 99.95e9 ? 0 : count >= 9.995e9 ? 1 : 2, count / 1e9);
    else if (count >= 1e6)
        snprintf(buf, n, "%.*f M", count >= 99.95e6 ? 0 : 1, count / 1e6);
    else
        snprintf(buf, n, "%.0f", count);
    return buf;
}

/* Bytes in the decimal units of rates, because that is what they are divided by. */
static char *decimal_of(double bytes, char *buf, size_t n)
{
    if (bytes >= 1e8)
        snprintf(buf, n, "%.2f GB", bytes / 1e9);
    else
        snprintf(buf, n, "%.3g MB", bytes / 1e6);
    return buf;
}

static double reads_of(const struct mb_traffic *traffic)
{
    return (double)traffic->weights_bytes + (double)traffic->kv_read_bytes + (double)traffic->state_read_bytes;
}

/* Depths to show: empty, the one asked for, 4k, 32k and the model's most, ascending, within the model's context. */
static unsigned depths(const struct mb_model_info *info, const struct question *question, uint64_t *out)
{
    const uint64_t wanted[] = {0, 4096, 32768, question->ctx, info->context_max};
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        unsigned at = 0;
        if (info->context_max && wanted[i] > info->context_max)
            continue;
        while (at < n && out[at] < wanted[i])
            at++;
        if (at < n && out[at] == wanted[i])
            continue;
        memmove(out + at + 1, out + at, (n - at) * sizeof *out);
        out[at] = wanted[i];
        n++;
    }
    return n;
}

struct share {
    const char *name;
    uint64_t bytes;
};

static int larger_first(const void *a, const void *b)
{
    const struct share *x = a, *y = b;
    return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

/* "Q4_K 78 %, Q6_K 22 %" of the resident bytes. */
static void types_text(const struct mb_model *model, const struct mb_model_info *info, char *buf, size_t n)
{
    struct share shares[64];
    unsigned n_shares = 0;
    struct mb_tensor_info tensor;
    for (uint32_t i = 0; mb_model_tensor(model, i, &tensor) == MB_OK; i++) {
        unsigned at = 0;
        while (at < n_shares && strcmp(shares[at].name, tensor.type) != 0)
            at++;
        if (at == sizeof shares / sizeof *shares)
            continue;
        if (at == n_shares)
            shares[n_shares++] = (struct share){tensor.type, 0};
        shares[at].bytes += tensor.bytes;
    }
    qsort(shares, n_shares, sizeof *shares, larger_first);
    *buf = 0;
    for (unsigned i = 0; i < n_shares; i++)
        append(buf, n, "%s%s %.3g %%", i ? ", " : "", shares[i].name,
               info->resident_bytes ? 100.0 * (double)shares[i].bytes / (double)info->resident_bytes : 0);
}

static void show_head(const struct mb_model *model, const struct mb_model_info *info, const struct mb_traffic *decode,
                      const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(2);
    char text[600], a[32], b[32], types[400];
    if (info->size_uncertainty > 0)
        snprintf(text, sizeof text, "%s, %s; by the rules of llama-quantize, files differ by up to %.0f %%", info->name,
                 info->quant ? info->quant : "?", info->size_uncertainty * 100);
    else
        snprintf(text, sizeof text, "%s%s%s", info->name ? info->name : "(unnamed)", info->quant ? ", " : "",
                 info->quant ? info->quant : "");
    line(table, "model", text);
    if (info->path)
        line(table, "file", info->path);
    snprintf(text, sizeof text, "%.80s%s, %u layers, width %u", info->arch, info->described ? "" : " (not described here)",
                     info->n_layers, info->n_embd);
    if (info->n_expert)
        append(text, sizeof text, ", %u of %u experts", info->n_expert_used, info->n_expert);
    if (info->context_max)
        append(text, sizeof text, ", context up to %s", depth_of(info->context_max, a, sizeof a));
    line(table, "arch", text);
    snprintf(text, sizeof text, "%s, of which %s take part in a token", count_of((double)info->params, a, sizeof a),
             count_of((double)info->active_params, b, sizeof b));
    line(table, "parameters", text);
    types_text(model, info, types, sizeof types);
    snprintf(text, sizeof text, "%s in %u tensors: %s", mb_format_bytes((double)info->resident_bytes, a, sizeof a),
             info->n_tensors, types);
    line(table, "size", text);
    snprintf(text, sizeof text, "%s (%s) per token: the active shard, %.3g %% of the weights",
             decimal_of((double)decode->weights_bytes, b, sizeof b), mb_format_bytes((double)decode->weights_bytes, a, sizeof a),
             info->resident_bytes ? 100.0 * (double)decode->weights_bytes / (double)info->resident_bytes : 0);
    line(table, "reads", text);
    mb_table_print(table, stdout, 0, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void bar(double share, unsigned width, char *buf)
{
    unsigned n = (unsigned)(share * width + 0.5);
    memset(buf, '#', n);
    buf[n] = 0;
}

static void role_row(struct mb_table *table, const char *name, double bytes, double total)
{
    char text[32], chart[64];
    mb_table_row(table);
    mb_table_cell(table, 0, MB_PLAIN, name);
    mb_table_cell(table, 1, MB_PLAIN, mb_format_bytes(bytes, text, sizeof text));
    snprintf(text, sizeof text, "%.1f %%", total > 0 ? 100 * bytes / total : 0);
    mb_table_cell(table, 2, MB_PLAIN, text);
    bar(total > 0 ? bytes / total : 0, 36, chart);
    mb_table_cell(table, 3, MB_GOOD, chart);
}

/* What one pass reads, by role, as a bar chart. */
static void show_roles(const struct mb_traffic *traffic, const char *title, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(4);
    double total = reads_of(traffic);
    mb_table_column(table, 1, NULL, MB_RIGHT);
    mb_table_column(table, 2, NULL, MB_RIGHT);
    for (unsigned role = 0; role < MB_N_ROLES; role++) {
        char name[40];
        if (!traffic->by_role[role])
            continue;
        snprintf(name, sizeof name, "%s", mb_role_name((enum mb_role)role));
        for (char *p = name; *p; p++)
            if (*p == '_')
                *p = ' ';
        role_row(table, name, (double)traffic->by_role[role], total);
    }
    if (traffic->kv_read_bytes)
        role_row(table, "KV cache", (double)traffic->kv_read_bytes, total);
    if (traffic->state_read_bytes)
        role_row(table, "recurrent state", (double)traffic->state_read_bytes, total);
    heading(title, terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static int show_depths(const struct mb_model *model, const struct mb_model_info *info, const struct mb_kv_opts *kv,
                       const struct question *question, const struct terminal *terminal, struct mb_err *err)
{
    uint64_t at[8];
    unsigned n = depths(info, question, at), columns = question->here_bytes_per_s > 0 ? 7 : 6;
    struct mb_table *table = mb_table_new(columns);
    static const char *const headings[] = {"context", "cache", "read/token", "100 GB/s", "273 GB/s", "1000 GB/s"};
    char text[64], here[64];
    for (unsigned c = 0; c < 6; c++)
        mb_table_column(table, c, headings[c], MB_RIGHT);
    if (columns == 7) {
        snprintf(here, sizeof here, "here %s", mb_format_rate(question->here_bytes_per_s, text, sizeof text));
        mb_table_column(table, 6, here, MB_RIGHT);
    }
    int code = MB_OK;
    for (unsigned i = 0; i < n && code == MB_OK; i++) {
        struct mb_traffic traffic;
        struct mb_kv_size size;
        code = mb_model_traffic(model, 1, at[i], kv, &traffic, err);
        if (code == MB_OK)
            code = mb_model_kv_size(model, at[i], kv, &size, err);
        if (code != MB_OK)
            break;
        double bytes = reads_of(&traffic);
        mb_table_row(table);
        mb_table_cell(table, 0, MB_BOLD, depth_of(at[i], text, sizeof text));
        mb_table_cell(table, 1, MB_PLAIN,
                      mb_format_bytes((double)size.cache_bytes + (double)size.state_bytes, text, sizeof text));
        mb_table_cell(table, 2, MB_PLAIN, decimal_of(bytes, text, sizeof text));
        for (unsigned b = 0; b < 3; b++)
            mb_table_cell(table, 3 + b, MB_PLAIN, speed_of(bandwidths[b] / bytes, text, sizeof text));
        if (columns == 7)
            mb_table_cell(table, 6, MB_GOOD, speed_of(question->here_bytes_per_s / bytes, text, sizeof text));
    }
    if (code == MB_OK) {
        struct mb_kv_size size;
        heading("the law: tokens/s = bandwidth / bytes read per token (an upper bound)", terminal);
        mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
        code = mb_model_kv_size(model, 1, kv, &size, err);
        if (code == MB_OK && size.bytes_per_token)
            printf("  Each token of context adds %s to the cache (%s).\n",
                   mb_format_bytes((double)size.bytes_per_token, text, sizeof text), kv->type_k ? kv->type_k : "F16");
        if (code == MB_OK && size.window)
            printf("  Sliding layers keep %u cells of %s in all.\n", size.window,
                   mb_format_bytes((double)size.window_bytes_per_cell, text, sizeof text));
        if (code == MB_OK && columns == 7)
            printf("  \"here\" is %s, as membound machine shows it.\n", question->here_pool);
    }
    mb_table_free(table);
    return code;
}

static void show_tensors(const struct mb_model *model, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(6);
    static const char *const headings[] = {"tensor", "type", "shape", "bytes", "read", "role"};
    struct mb_tensor_info tensor;
    for (unsigned c = 0; c < 6; c++)
        mb_table_column(table, c, headings[c], c == 3 || c == 4 ? MB_RIGHT : MB_LEFT);
    for (uint32_t i = 0; mb_model_tensor(model, i, &tensor) == MB_OK; i++) {
        char text[120] = "";
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, tensor.name);
        mb_table_cell(table, 1, MB_PLAIN, tensor.type);
        for (unsigned d = 0; d < tensor.n_dims; d++)
            append(text, sizeof text, "%s%ju", d ? "x" : "", (uintmax_t)tensor.ne[d]);
        mb_table_cell(table, 2, MB_PLAIN, text);
        mb_table_cell(table, 3, MB_PLAIN, mb_format_bytes((double)tensor.bytes, text, sizeof text));
        mb_table_cell(table, 4, MB_PLAIN, mb_format_bytes((double)tensor.read_bytes, text, sizeof text));
        mb_table_cell(table, 5, MB_DIM, mb_role_name(tensor.role));
    }
    heading("tensors, and what one token reads of each", terminal);
    mb_table_print(table, stdout, 2, 0, terminal->colour);
    mb_table_free(table);
}

static void show_never_read(const struct mb_model_info *info, const struct mb_traffic *decode, const struct terminal *terminal)
{
    char a[32];
    uint64_t resting = info->resident_bytes > decode->weights_bytes ? info->resident_bytes - decode->weights_bytes : 0;
    if (info->unread_bytes) {
        heading("resident but never read", terminal);
        printf("  %s (prediction heads, dead or media weights).\n", mb_format_bytes((double)info->unread_bytes, a, sizeof a));
    }
    if (info->n_expert && resting > info->unread_bytes)
        printf("%s  %s are experts and table rows that this token does not choose.\n", info->unread_bytes ? "" : "\n",
               mb_format_bytes((double)(resting - info->unread_bytes), a, sizeof a));
}

static int show_model(const struct mb_model *model, const struct question *question, struct mb_err *err)
{
    struct terminal terminal = terminal_of_stdout();
    struct mb_kv_opts kv = {.type_k = question->kv_type, .type_v = question->kv_type};
    struct mb_model_info info;
    struct mb_traffic decode, pass;
    mb_model_get_info(model, &info);
    int code = mb_model_traffic(model, 1, 0, &kv, &decode, err);
    uint32_t batch = question->batch ? (uint32_t)question->batch : 1;
    if (code == MB_OK)
        code = mb_model_traffic(model, batch, question->ctx, &kv, &pass, err);
    if (code != MB_OK)
        return code;
    show_head(model, &info, &decode, &terminal);
    char title[120];
    if (batch == 1)
        snprintf(title, sizeof title, "what one token reads, with %ju tokens in the cache", (uintmax_t)question->ctx);
    else
        snprintf(title, sizeof title, "what a pass over %u tokens reads, with %ju in the cache", batch, (uintmax_t)question->ctx);
    show_roles(&pass, title, &terminal);
    code = show_depths(model, &info, &kv, question, &terminal, err);
    if (code != MB_OK)
        return code;
    show_never_read(&info, &decode, &terminal);
    if (question->tensors)
        show_tensors(model, &terminal);
    if (info.n_warnings) {
        struct mb_table *table = mb_table_new(2);
        for (unsigned i = 0; i < info.n_warnings; i++)
            line(table, "-", info.warnings[i]);
        heading("warnings", &terminal);
        mb_table_print(table, stdout, 2, terminal.width, terminal.colour);
        mb_table_free(table);
    }
    return MB_OK;
}

int list_found_models(int json)
{
    struct places places;
    struct mb_model_search search;
    find_places(&places, &search);
    struct mb_found_list *list = NULL;
    struct mb_err err;
    char *text = NULL;
    if (mb_models_found(&search, &list, &err) != MB_OK)
        return report(&err);
    int code = json ? mb_found_json(list, &text, &err) : MB_OK;
    if (code == MB_OK && json) {
        puts(text);
        mb_text_free(text);
    } else if (code == MB_OK && list->n_rows) {
        struct terminal terminal = terminal_of_stdout();
        struct mb_table *table = mb_table_new(4);
        static const char *const headings[] = {"model", "size", "from", "file"};
        for (unsigned c = 0; c < 4; c++)
            mb_table_column(table, c, headings[c], c == 1 ? MB_RIGHT : MB_LEFT);
        for (unsigned i = 0; i < list->n_rows; i++) {
            char size[32];
            mb_table_row(table);
            mb_table_cell(table, 0, MB_BOLD, list->rows[i].name);
            mb_table_cell(table, 1, MB_PLAIN, mb_format_bytes((double)list->rows[i].bytes, size, sizeof size));
            mb_table_cell(table, 2, MB_PLAIN, mb_store_name(list->rows[i].store));
            mb_table_cell(table, 3, MB_DIM, list->rows[i].path);
        }
        mb_table_print(table, stdout, 0, terminal.width, terminal.colour);
        mb_table_free(table);
    } else if (code == MB_OK) {
        puts("No GGUF models were found in the stores of Ollama, Hugging Face, LM Studio and llama.cpp.\n"
             "A file can be named by its path, and one on the hub by hf:owner/repo/file.gguf.");
    }
    mb_found_free(list);
    if (code == MB_OK && !json) {
        size_t n = 0;
        mb_model_names(&n);
        printf("\n%zu models can be counted without a file, as NAME@QUANT: membound inspect --catalog\n", n);
    }
    return code == MB_OK ? 0 : report(&err);
}

static int list_catalog(int json)
{
    size_t n = 0, n_quants = 0;
    const char *const *names = mb_model_names(&n), *const *quants = mb_quant_names(&n_quants);
    if (json)
        fputs("{\n  \"models\": [", stdout);
    for (size_t i = 0; i < n; i++)
        printf(json ? "%s\n    \"%s\"" : "%s%s\n", json && i ? "," : "", names[i]);
    fputs(json ? "\n  ],\n  \"quants\": [" : "\nquantizations:", stdout);
    for (size_t i = 0; i < n_quants; i++)
        printf(json ? "%s\"%s\"" : "%s%s", json ? i ? ", " : "" : i % 10 ? " " : "\n  ", quants[i]);
    puts(json ? "]\n}" : "");
    return 0;
}

/* The bandwidth of this machine's fastest pool that can hold the model; of the fastest one when none can. Nothing is measured
 * here: what membound measured before is used, else what the system or documents say. */
static void look_here(const struct mb_model_info *info, struct question *question)
{
    struct mb_machine *machine = NULL;
    struct mb_detect_opts opts = {0};
    if (open_here(&opts, &machine, NULL) != MB_OK)
        return;
    int holds;
    const struct mb_pool *best = pool_for(machine, (double)info->resident_bytes, &holds);
    if (best) {
        question->here_bytes_per_s = best->bandwidth_bytes_per_s.value;
        snprintf(question->here_pool, sizeof question->here_pool, "pool %.20s%s", best->id,
                 holds ? "" : ", too small for this model");
    }
    mb_machine_free(machine);
}

static int print_json(const struct mb_model *model, const struct question *question, struct mb_err *err)
{
    struct mb_inspect_opts opts = {.kv = {.type_k = question->kv_type, .type_v = question->kv_type},
                                   .n_ctx = question->ctx,
                                   .n_tokens = (uint32_t)question->batch,
                                   .tensors = question->tensors,
                                   .bandwidth_bytes_per_s = question->here_bytes_per_s};
    char *text = NULL;
    int code = mb_model_json(model, &opts, &text, err);
    if (code == MB_OK)
        puts(text);
    mb_text_free(text);
    return code;
}

int verb_inspect(int argc, char **argv)
{
    struct question question = {.batch = 1};
    const char *spec = NULL;
    int json = 0, list = 0, catalog = 0;
    const struct option options[] = {
        {"ctx", OPTION_COUNT, &question.ctx, "N", "with N tokens already in the cache (default 0)"},
        {"batch", OPTION_COUNT, &question.batch, "N", "a pass over N tokens of one sequence (default 1: decoding)"},
        {"kv", OPTION_TEXT, &question.kv_type, "TYPE", "type of the KV cache: F16 (default), Q8_0, Q4_0, ..."},
        {"tensors", OPTION_FLAG, &question.tensors, NULL, "list every tensor with its bytes and what a token reads"},
        {"list", OPTION_FLAG, &list, NULL, "list the models that other programs have downloaded to this machine"},
        {"catalog", OPTION_FLAG, &catalog, NULL, "list the models that can be counted without a file"},
        {"json", OPTION_FLAG, &json, NULL, "JSON (docs/json.md)"},
    };
    const struct command command = {
        .name = "inspect",
        .synopsis = "MODEL [options]",
        .summary = "What is in a model, and what one token of it reads, to the byte.\n"
                   "MODEL: a GGUF file; a directory with config.json and safetensors; the name of a model that\n"
                   "Ollama, Hugging Face, LM Studio or llama.cpp has here; hf:owner/repo/file.gguf, of which only the\n"
                   "header is fetched; or NAME@QUANT, which needs no file.",
        .examples = "  membound inspect model.gguf\n  membound inspect Qwen3-30B-A3B@Q4_K_M --ctx 32768\n"
                    "  membound inspect gpt-oss-120b --kv Q8_0 --json\n  membound inspect --list\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .max_positional = 1,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, &spec);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    const char *clash = list + catalog + (spec != NULL) > 1           ? "MODEL, --list and --catalog exclude each other"
                        : !list && !catalog && !spec                  ? "no MODEL given"
                        : question.batch < 1 || question.batch > 1 << 24 ? "--batch is 1 to 16777216"
                                                                      : NULL;
    if (clash)
        return command_refuse(&command, clash);
    if (list)
        return list_found_models(json);
    if (catalog)
        return list_catalog(json);
    struct mb_model *model = NULL;
    struct mb_model_info info;
    struct mb_err err;
    int code = open_model(spec, &model, &err);
    if (code != MB_OK)
        return report(&err);
    mb_model_get_info(model, &info);
    if (info.context_max && question.ctx > info.context_max) {
        fprintf(stderr, "membound: --ctx %ju: %s takes at most %ju tokens\n", (uintmax_t)question.ctx, info.name,
                (uintmax_t)info.context_max);
        mb_model_free(model);
        return 2;
    }
    look_here(&info, &question);
    code = json ? print_json(model, &question, &err) : show_model(model, &question, &err);
    mb_model_free(model);
    return code == MB_OK ? 0 : report(&err);
}
