/* SPDX-License-Identifier: MIT */
/* A plan over several machines: opening them, and the screen. */
#include "cli.h"

#include <string.h>

static void speed_row(struct mb_table *table, const char *name, const struct mb_speed *speed)
{
    char text[80], low[32], high[32];
    mb_table_row(table);
    mb_table_cell(table, 0, MB_PLAIN, name);
    mb_table_cell(table, 1, MB_BOLD, speed_of(speed->tokens_per_s, text, sizeof text));
    snprintf(text, sizeof text, "%s to %s", speed_of(speed->low, low, sizeof low),
             speed_of(speed->high, high, sizeof high));
    mb_table_cell(table, 2, MB_PLAIN, text);
    mb_table_cell(table, 3, MB_DIM,
                  speed->bound_tokens_per_s > 0 ? speed_of(speed->bound_tokens_per_s, text, sizeof text) : "-");
}

/* A part that is not there: a dash. */
static const char *size_of(uint64_t bytes, char *buf, size_t n)
{
    return bytes ? mb_format_bytes((double)bytes, buf, n) : "-";
}

static void show_nodes(const struct mb_cluster *cluster, const struct terminal *terminal)
{
    struct mb_table *table = mb_table_new(6);
    static const char *const headings[] = {"layers", "weights", "cache", "room", "ms/token", "machine"};
    for (unsigned c = 0; c < 6; c++)
        mb_table_column(table, c, headings[c], c == 0 || c == 5 ? MB_LEFT : MB_RIGHT);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct mb_cluster_node *node = &cluster->nodes[i];
        char text[200];
        mb_table_row(table);
        snprintf(text, sizeof text, "%u to %u", node->first_layer, node->first_layer + node->n_layers - 1);
        mb_table_cell(table, 0, MB_PLAIN, node->n_layers ? text : "-");
        mb_table_cell(table, 1, MB_PLAIN, size_of(node->weights_bytes, text, sizeof text));
        mb_table_cell(table, 2, MB_PLAIN, size_of(node->kv_bytes, text, sizeof text));
        mb_table_cell(table, 3, MB_DIM, mb_format_bytes(node->room_bytes, text, sizeof text));
        snprintf(text, sizeof text, "%.3g", 1e3 * node->seconds);
        mb_table_cell(table, 4, MB_PLAIN, node->seconds > 0 ? text : "-");
        snprintf(text, sizeof text, "%.160s%s", node->machine, node->is_main ? " (main: embedding, output)" : "");
        mb_table_cell(table, 5, MB_BOLD, text);
    }
    heading("machines, in the order of the layers", terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void show_speeds(const struct mb_cluster *cluster, const struct terminal *terminal)
{
    static const char *const prompts[] = {"1k", "8k", "32k"};
    struct mb_table *table = mb_table_new(4);
    char text[400], rate[32];
    static const char *const headings[] = {"tokens/s", "expected", "80 % of runs", "bound by memory"};
    for (unsigned c = 0; c < 4; c++)
        mb_table_column(table, c, headings[c], c ? MB_RIGHT : MB_LEFT);
    speed_row(table, "decode", &cluster->decode);
    snprintf(text, sizeof text, "decode at %juk", (uintmax_t)(cluster->n_ctx / 1024));
    speed_row(table, cluster->n_ctx >= 1024 ? text : "decode, full", &cluster->decode_at_ctx);
    speed_row(table, "prefill", &cluster->prefill);
    heading("speed", terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
    table = mb_table_new(1);
    *text = 0;
    for (unsigned i = 0; i < 3; i++)
        if (cluster->ttft_s[i] > 0)
            append(text, sizeof text, "%s %s tokens after %.3g s", *text ? "," : "First token of a prompt of",
                   prompts[i], cluster->ttft_s[i]);
    if (*text) {
        append(text, sizeof text, ".");
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, text);
    }
    snprintf(text, sizeof text,
             "The link, %.60s (%s, %.0f us a transfer), takes %.2g %% of a token's time and %.2g %% of a prompt's: %u "
             "%s of %.3g KiB for each token.",
             cluster->link, mb_format_rate(cluster->link_bytes_per_s.value, rate, sizeof rate),
             1e6 * cluster->link_latency_s.value, 100 * cluster->link_share, 100 * cluster->prefill_link_share,
             cluster->n_hops, cluster->n_hops == 1 ? "transfer" : "transfers", cluster->hop_bytes / 1024);
    if (cluster->n_hops) {
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, text);
    }
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void show_list(const char *title, const char *const *list, unsigned n, const struct terminal *terminal)
{
    if (!n)
        return;
    struct mb_table *table = mb_table_new(2);
    for (unsigned i = 0; i < n; i++)
        line(table, "-", list[i]);
    heading(title, terminal);
    mb_table_print(table, stdout, 2, terminal->width, terminal->colour);
    mb_table_free(table);
}

static void show(const struct mb_cluster *cluster)
{
    struct terminal terminal = terminal_of_stdout();
    struct mb_table *table = mb_table_new(2);
    char text[400], size[32];
    snprintf(text, sizeof text, "%.120s%s%.40s, %s", cluster->model, cluster->quant ? ", " : "",
             cluster->quant ? cluster->quant : "", mb_format_bytes((double)cluster->model_bytes, size, sizeof size));
    line(table, "model", text);
    snprintf(text, sizeof text, "%s on %u machines, %.60s between them", cluster->engine, cluster->n_nodes,
             cluster->link);
    line(table, "engine", text);
    snprintf(text, sizeof text, "%ju tokens", (uintmax_t)cluster->n_ctx);
    line(table, "context", text);
    mb_table_row(table);
    mb_table_cell(table, 0, MB_DIM, "fits");
    mb_table_cell(table, 1, cluster->fits ? MB_GOOD : MB_BAD, cluster->fits ? "yes" : "no");
    mb_table_print(table, stdout, 0, terminal.width, terminal.colour);
    mb_table_free(table);
    if (cluster->fits) {
        show_nodes(cluster, &terminal);
        show_speeds(cluster, &terminal);
    }
    show_list("what would make it fit", cluster->needs, cluster->n_needs, &terminal);
    show_list("notes", cluster->notes, cluster->n_notes, &terminal);
}

/* Exit 1: the answer is there, and it is no. */
static int print(const struct mb_cluster *cluster, const struct mb_model *model,
                 const struct cluster_question *question)
{
    char *text = NULL;
    struct mb_err err;
    int code = MB_OK, emitted = question->emit && cluster->fits;
    if (emitted)
        code = mb_cluster_emit(cluster, model, question->emit, &text, &err);
    else if (question->json)
        code = mb_cluster_json(cluster, &text, &err);
    else
        show(cluster);
    if (code != MB_OK)
        return report(&err);
    if (text)
        printf(emitted ? "%s" : "%s\n", text);
    mb_text_free(text);
    return cluster->fits ? 0 : 1;
}

int plan_cluster(const struct cluster_question *question)
{
    struct mb_machine *machines[MAX_TEXTS] = {NULL};
    struct mb_model *model = NULL;
    struct mb_cluster *cluster = NULL;
    struct mb_err err;
    const struct mb_machine *refs[MAX_TEXTS];
    int code = open_model(question->spec, &model, &err);
    for (unsigned i = 0; i < question->n_machines && code == MB_OK; i++) {
        unsigned same = 0;
        while (strcmp(question->machines[same], question->machines[i]) != 0)
            same++;
        if (same == i)
            code = open_machine(question->machines[i], question->detect, &machines[i], &err);
        refs[i] = machines[same];
    }
    if (code == MB_OK)
        code = mb_cluster_make(refs, question->n_machines, question->link, model, question->opts, &cluster, &err);
    code = code == MB_OK ? print(cluster, model, question) : report(&err);
    mb_cluster_free(cluster);
    for (unsigned i = 0; i < MAX_TEXTS; i++)
        mb_machine_free(machines[i]);
    mb_model_free(model);
    return code;
}
