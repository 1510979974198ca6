/* SPDX-License-Identifier: MIT */
/* A plan on the screen: memory first, then where things lie, then how fast that is and why. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { BAR = 44, SEGMENTS = 5 };

/* Parts of a pool, in the order of the bar. */
static const struct {
    const char *name, *utf8, *ascii, *colour;
} segments[SEGMENTS] = {
    {"weights", "\xe2\x96\x88", "#", "32"},   {"cache", "\xe2\x96\x93", "=", "36"}, {"buffers", "\xe2\x96\x92", "+", "33"},
    {"reserved", "\xe2\x96\x91", "-", "35"}, {"free", "\xc2\xb7", ".", "2"},
};

struct screen {
    const struct mb_plan *plan;
    struct terminal terminal;
    int utf8;
};

static int locale_is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (unsigned i = 0; i < 3; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return strstr(value, "UTF-8") || strstr(value, "utf8") || strstr(value, "UTF8") || strstr(value, "utf-8");
    }
    return 0;
}

/* "0.8 s", "14 s", "3.5 minutes" */
static char *wait_of(double seconds, char *buf, size_t n)
{
    if (seconds < 0.95)
        snprintf(buf, n, "%.2g s", seconds);
    else if (seconds < 99.5)
        snprintf(buf, n, seconds < 9.95 ? "%.1f s" : "%.0f s", seconds);
    else
        snprintf(buf, n, seconds < 597 ? "%.1f minutes" : "%.0f minutes", seconds / 60);
    return buf;
}

static void paragraph(const struct screen *screen, unsigned indent, enum mb_style style, const char *text)
{
    struct mb_table *table = mb_table_new(1);
    mb_table_row(table);
    mb_table_cell(table, 0, style, text);
    mb_table_print(table, stdout, indent, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

static void show_head(const struct screen *screen)
{
    const struct mb_plan *plan = screen->plan;
    struct mb_table *table = mb_table_new(2);
    char text[400], size[32], ctx[32], most[32];
    snprintf(text, sizeof text, "%.120s%s%.40s, %s", plan->model, plan->quant ? ", " : "", plan->quant ? plan->quant : "",
             mb_format_bytes((double)plan->model_bytes, size, sizeof size));
    line(table, "model", text);
    line(table, "machine", plan->machine);
    line(table, "engine", plan->engine);
    snprintf(text, sizeof text, "%s tokens", depth_of(plan->n_ctx, ctx, sizeof ctx));
    if (plan->ctx_max / 1024 * 1024 > plan->n_ctx)
        append(text, sizeof text, "; up to %s fit with the weights placed so",
               depth_of(plan->ctx_max / 1024 * 1024, most, sizeof most));
    line(table, "context", text);
    mb_table_row(table);
    mb_table_cell(table, 0, MB_DIM, "fits");
    mb_table_cell(table, 1, plan->fits ? MB_GOOD : MB_BAD, plan->fits ? "yes" : "no");
    mb_table_print(table, stdout, 0, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

/* ---- memory ---- */

static void sizes_of(const struct mb_plan_pool *pool, double out[SEGMENTS])
{
    out[0] = (double)pool->weights_bytes;
    out[1] = (double)pool->kv_bytes;
    out[2] = (double)pool->buffers_bytes;
    out[3] = (double)pool->reserved_bytes;
    double used = out[0] + out[1] + out[2] + out[3];
    out[4] = pool->capacity_bytes > used ? pool->capacity_bytes - used : 0;
}

/* Characters for each segment: in proportion, at least one for what is there, BAR in all. */
static void widths_of(const double sizes[SEGMENTS], unsigned out[SEGMENTS])
{
    double total = 0;
    unsigned sum = 0, widest = 0;
    for (unsigned i = 0; i < SEGMENTS; i++)
        total += sizes[i];
    for (unsigned i = 0; i < SEGMENTS; i++) {
        double share = total > 0 ? sizes[i] / total * BAR : 0;
        out[i] = share > 0 && share < 1 ? sizes[i] > MB_MIB : (unsigned)(share + 0.5);
        sum += out[i];
        widest = out[i] > out[widest] ? i : widest;
    }
    out[widest] += BAR - sum; /* rounding, one or two, goes to the widest; unsigned arithmetic wraps back */
}

/* A pool of unknown size, or a card that this plan leaves alone. */
static int is_idle(const struct mb_plan *plan, unsigned i)
{
    const struct mb_plan_pool *pool = &plan->pools[i];
    return !(pool->capacity_bytes > 0) ||
           (plan->fits && plan->pool_kinds[i] == MB_POOL_VRAM && !pool->weights_bytes && !pool->kv_bytes);
}

static void show_bars(const struct screen *screen)
{
    const struct mb_plan *plan = screen->plan;
    int colour = screen->terminal.colour, id_width = 0;
    unsigned seen = 0;
    for (unsigned i = 0; i < plan->n_pools; i++) {
        int n = (int)strnlen(plan->pool_ids[i], 16);
        id_width = n > id_width ? n : id_width;
    }
    for (unsigned i = 0; i < plan->n_pools; i++) {
        const struct mb_plan_pool *pool = &plan->pools[i];
        double sizes[SEGMENTS];
        unsigned widths[SEGMENTS];
        char used[32], whole[32];
        if (is_idle(plan, i))
            continue;
        sizes_of(pool, sizes);
        widths_of(sizes, widths);
        printf("  %-*.16s  ", id_width, plan->pool_ids[i]);
        for (unsigned s = 0; s < SEGMENTS; s++) {
            if (widths[s] && colour)
                printf("\033[%sm", segments[s].colour);
            for (unsigned w = 0; w < widths[s]; w++)
                fputs(screen->utf8 ? segments[s].utf8 : segments[s].ascii, stdout);
            if (widths[s] && colour)
                fputs("\033[0m", stdout);
            seen |= widths[s] ? 1u << s : 0;
        }
        printf("  %s of %s\n", mb_format_bytes((double)pool->used_bytes, used, sizeof used),
               mb_format_bytes(pool->capacity_bytes, whole, sizeof whole));
    }
    printf("  %*s", id_width, "");
    for (unsigned s = 0; s < SEGMENTS; s++) {
        if (seen >> s & 1)
            printf("  %s %s", screen->utf8 ? segments[s].utf8 : segments[s].ascii, segments[s].name);
    }
    putchar('\n');
}

static void show_memory(const struct screen *screen)
{
    const struct mb_plan *plan = screen->plan;
    static const char *const headings[] = {"GiB", "weights", "cache", "buffers", "reserved", "free", "memory"};
    struct mb_table *table = mb_table_new(7);
    char idle[300] = "";
    heading("memory", &screen->terminal);
    show_bars(screen);
    putchar('\n');
    for (unsigned c = 0; c < 7; c++)
        mb_table_column(table, c, headings[c], c && c < 6 ? MB_RIGHT : MB_LEFT);
    for (unsigned i = 0; i < plan->n_pools; i++) {
        double sizes[SEGMENTS];
        if (is_idle(plan, i)) {
            append(idle, sizeof idle, "%s%.16s", *idle ? ", " : "Not used: ", plan->pool_ids[i]);
            continue;
        }
        sizes_of(&plan->pools[i], sizes);
        mb_table_row(table);
        mb_table_cell(table, 0, MB_BOLD, plan->pool_ids[i]);
        for (unsigned s = 0; s < SEGMENTS; s++) {
            char text[32];
            snprintf(text, sizeof text, sizes[s] >= 99.95 * MB_GIB ? "%.0f" : "%.1f", sizes[s] / MB_GIB);
            mb_table_cell(table, 1 + s, MB_PLAIN, sizes[s] > 0 ? text : "-");
        }
        mb_table_cell(table, 6, MB_DIM, plan->pool_names[i] ? plan->pool_names[i] : "");
    }
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
    if (*idle) {
        append(idle, sizeof idle, ".");
        paragraph(screen, 2, MB_PLAIN, idle);
    }
    if (plan->reserved_for) {
        char text[300];
        snprintf(text, sizeof text, "Reserved: %.280s.", plan->reserved_for);
        paragraph(screen, 2, MB_DIM, text);
    }
}

/* ---- placement in words ---- */

/* "layers 0 to 11", "layers 0, 4, 8 and 9 more": those whose part is in a pool. */
static void layers_text(const uint8_t *pools, uint32_t n_layers, unsigned pool, char *buf, size_t n)
{
    unsigned runs = 0, left = 0;
    *buf = 0;
    for (uint32_t i = 0; i < n_layers; i++) {
        uint32_t end = i;
        if (pools[i] != pool)
            continue;
        while (end + 1 < n_layers && pools[end + 1] == pool)
            end++;
        if (runs++ < 3)
            append(buf, n, end > i ? "%s%u to %u" : "%s%u", runs > 1 ? ", " : "", i, end);
        else
            left += end - i + 1;
        i = end;
    }
    if (left)
        append(buf, n, " and %u more", left);
}

/* The pools of each layer's part of that name; NULL: it is no part of layers. */
static const uint8_t *pools_of(const struct mb_plan *plan, const char *group)
{
    return strcmp(group, "attention") == 0        ? plan->core_pool
           : strcmp(group, "dense FFN") == 0      ? plan->ffn_pool
           : strcmp(group, "routed experts") == 0 ? plan->experts_pool
                                                  : NULL;
}

static unsigned layers_of(const struct mb_plan *plan, const char *group)
{
    unsigned n = 0;
    for (unsigned i = 0; i < plan->n_groups; i++)
        n += strcmp(plan->groups[i].group, group) == 0 ? plan->groups[i].n_layers : 0;
    return n;
}

static void show_placement(const struct screen *screen)
{
    const struct mb_plan *plan = screen->plan;
    struct mb_table *table = mb_table_new(4);
    static const char *const headings[] = {"pool", "size", "read/token", "holds"};
    for (unsigned c = 0; c < 4; c++)
        mb_table_column(table, c, headings[c], c == 1 || c == 2 ? MB_RIGHT : MB_LEFT);
    heading("placement", &screen->terminal);
    for (unsigned pool = 0; pool < plan->n_pools; pool++) {
        int first = 1;
        for (unsigned i = 0; i < plan->n_groups; i++) {
            const struct mb_plan_group *group = &plan->groups[i];
            const uint8_t *pools = pools_of(plan, group->group);
            char text[160], layers[80], size[32];
            unsigned all = layers_of(plan, group->group);
            if (group->pool != pool)
                continue;
            snprintf(text, sizeof text, "%s%s", group->group,
                     strcmp(group->group, "attention") == 0 && layers_of(plan, "routed experts")
                         ? ", routers, shared experts" : "");
            if (group->n_layers && group->n_layers == all) {
                append(text, sizeof text, ", all %u layers", all);
            } else if (group->n_layers && pools) {
                layers_text(pools, plan->n_layers, pool, layers, sizeof layers);
                append(text, sizeof text, ", %u of %u layers: %s", group->n_layers, all, layers);
            } else if (group->n_layers) {
                append(text, sizeof text, ", %u of %u layers", group->n_layers, all);
            }
            mb_table_row(table);
            mb_table_cell(table, 0, MB_BOLD, first ? plan->pool_ids[pool] : "");
            mb_table_cell(table, 3, MB_PLAIN, text);
            mb_table_cell(table, 1, MB_PLAIN, mb_format_bytes((double)group->bytes, size, sizeof size));
            mb_table_cell(table, 2, MB_PLAIN, group->traffic_bytes > 0 ? read_of(group->traffic_bytes, text, sizeof text) : "-");
            first = 0;
        }
    }
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

/* ---- speeds ---- */

static void speed_row(struct mb_table *table, const char *name, const struct mb_speed *speed, int bound)
{
    char text[80], a[24], b[24];
    mb_table_row(table);
    mb_table_cell(table, 0, MB_PLAIN, name);
    mb_table_cell(table, 1, MB_GOOD, speed_of(speed->tokens_per_s, text, sizeof text));
    snprintf(text, sizeof text, "%s to %s", speed_of(speed->low, a, sizeof a), speed_of(speed->high, b, sizeof b));
    mb_table_cell(table, 2, MB_PLAIN, text);
    mb_table_cell(table, 3, MB_PLAIN, bound ? speed_of(speed->bound_tokens_per_s, text, sizeof text) : "-");
}

static void show_speeds(const struct screen *screen)
{
    static const char *const headings[] = {"tokens/s", "expected", "80 % of runs", "bound by memory"};
    static const char *const prompts[] = {"1k", "8k", "32k"};
    const struct mb_plan *plan = screen->plan;
    struct mb_table *table = mb_table_new(4);
    char name[40], text[160] = "", wait[32], depth[24];
    for (unsigned c = 0; c < 4; c++)
        mb_table_column(table, c, headings[c], c ? MB_RIGHT : MB_LEFT);
    for (unsigned i = 0; i < plan->n_by_depth; i++) {
        snprintf(name, sizeof name, "decode at %s", depth_of(plan->by_depth[i].depth, depth, sizeof depth));
        speed_row(table, i ? name : "decode", &plan->by_depth[i].decode, 1);
    }
    speed_row(table, "prefill", &plan->prefill, 0); /* arithmetic bounds it, not memory */
    heading("speed", &screen->terminal);
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
    for (unsigned i = 0; i < 3; i++) {
        if (plan->ttft_s[i] > 0)
            append(text, sizeof text, "%s%s tokens after %s", *text ? ", of " : "First token of a prompt of ", prompts[i],
                   wait_of(plan->ttft_s[i], wait, sizeof wait));
    }
    if (*text) {
        append(text, sizeof text, ".");
        paragraph(screen, 2, MB_PLAIN, text);
    }
    if (plan->bottleneck)
        paragraph(screen, 2, MB_PLAIN, plan->bottleneck);
}

static void show_others(const struct screen *screen)
{
    const struct mb_plan *plan = screen->plan;
    struct mb_table *table = mb_table_new(2);
    char title[120], text[40];
    if (!plan->n_others) {
        mb_table_free(table);
        return;
    }
    snprintf(title, sizeof title, "other ways, tokens/s with %s tokens in the cache",
             depth_of(plan->placed_depth, text, sizeof text));
    heading(title, &screen->terminal);
    mb_table_column(table, 1, NULL, MB_RIGHT);
    mb_table_row(table);
    mb_table_cell(table, 0, MB_BOLD, "this plan");
    mb_table_cell(table, 1, MB_GOOD, speed_of(plan->placed_tokens_per_s, text, sizeof text));
    for (unsigned i = 0; i < plan->n_others; i++) {
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, plan->others[i].name);
        mb_table_cell(table, 1, plan->others[i].fits ? MB_PLAIN : MB_DIM,
                      plan->others[i].fits ? speed_of(plan->others[i].tokens_per_s, text, sizeof text) : "does not fit");
    }
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

static void show_terms(const struct screen *screen, const char *title, const struct mb_term *terms, unsigned n)
{
    struct mb_table *table = mb_table_new(4);
    static const char *const headings[] = {"part", "ms", "bytes", "by"};
    for (unsigned c = 0; c < 4; c++)
        mb_table_column(table, c, headings[c], c == 1 || c == 2 ? MB_RIGHT : MB_LEFT);
    for (unsigned i = 0; i < n; i++) {
        char text[40];
        mb_table_row(table);
        mb_table_cell(table, 0, MB_PLAIN, terms[i].name);
        snprintf(text, sizeof text, "%.3f", terms[i].seconds * 1e3);
        mb_table_cell(table, 1, MB_PLAIN, text);
        mb_table_cell(table, 2, MB_PLAIN, terms[i].bytes > 0 ? mb_format_bytes(terms[i].bytes, text, sizeof text) : "-");
        mb_table_cell(table, 3, MB_DIM, terms[i].detail ? terms[i].detail : "");
    }
    heading(title, &screen->terminal);
    mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    mb_table_free(table);
}

static void show_list(const struct screen *screen, const char *title, const char *const *list, unsigned n)
{
    struct mb_table *table = mb_table_new(2);
    for (unsigned i = 0; i < n; i++)
        line(table, "-", list[i]);
    if (n) {
        heading(title, &screen->terminal);
        mb_table_print(table, stdout, 2, screen->terminal.width, screen->terminal.colour);
    }
    mb_table_free(table);
}

void show_plan(const struct mb_plan *plan, int explain)
{
    struct screen screen = {.plan = plan, .terminal = terminal_of_stdout(), .utf8 = locale_is_utf8()};
    show_head(&screen);
    show_memory(&screen);
    if (plan->fits) {
        show_placement(&screen);
        show_speeds(&screen);
        show_others(&screen);
    } else {
        putchar('\n');
        paragraph(&screen, 0, MB_BAD, plan->bottleneck ? plan->bottleneck : "It does not fit.");
        show_list(&screen, "what would make it fit", plan->needs, plan->n_needs);
    }
    if (explain && plan->fits) {
        show_terms(&screen, "one token of decoding, added up", plan->terms, plan->n_terms);
        show_terms(&screen, "prefill of 512 tokens, added up", plan->prefill_terms, plan->n_prefill_terms);
    }
    show_list(&screen, "warnings", plan->warnings, plan->n_warnings);
}
