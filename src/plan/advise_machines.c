/* SPDX-License-Identifier: MIT */
/* Which machine for a model. Every machine of the catalog is tried; the conditions divide them into those that meet all
 * and the rest, and each part is ordered. The nearest misses and the next steps up are searched in the same table, so
 * that no answer can contradict a row. */
#include "catalog/catalog.h"
#include "plan/advise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A step up is worth naming from here on. */
#define STEP_MORE       1.25
#define STEP_SPEED_KEPT 0.9
/* More memory for so little more money that the smaller machine makes no sense. */
#define STEP_BARELY_DEARER 0.15

struct owner {
    struct mb_arena arena;
    struct mb_machine_advice_list list;
    struct mb_quality *quality;
};

/* Prices compare in one currency only. */
static double price_of(const struct mb_machine_advice *row, const char *currency)
{
    return row->price.currency && strcmp(row->price.currency, currency) == 0 ? row->price.amount : NAN;
}

static int larger_first(double a, double b)
{
    return (a < b) - (a > b);
}

/* Unknown (NAN) comes last. */
static int smaller_first(double a, double b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) - isnan(b);
    return (a > b) - (a < b);
}

struct ranked {
    struct mb_machine_advice row; /* first, so that a row is one of these */
    const struct mb_site *site;
    enum mb_advise_order order;
    const char *currency;
};

/* Those that meet every condition, then those that run the model at all; in each, the criterion that was asked for,
 * then docs/advise.md, "the order". Speeds are compared as they are: a predicted difference of 1 % is noise, but an
 * order needs one. */
static int by_order(const void *left, const void *right)
{
    const struct ranked *x = left, *y = right;
    const struct mb_machine_advice *a = &x->row, *b = &y->row;
    double price_a = price_of(a, x->currency), price_b = price_of(b, y->currency);
    int a_rest = a->fit.misses != 0, b_rest = b->fit.misses != 0;
    int a_not = (a->fit.misses & (MB_MISS_RUN | MB_MISS_FIT)) != 0,
        b_not = (b->fit.misses & (MB_MISS_RUN | MB_MISS_FIT)) != 0;
    int order = a_rest - b_rest;
    if (!order)
        order = a_not - b_not;
    if (!order && x->order == MB_ORDER_SPEED)
        order = larger_first(a->fit.decode.tokens_per_s, b->fit.decode.tokens_per_s);
    if (!order && x->order == MB_ORDER_PRICE)
        order = smaller_first(price_a, price_b);
    if (!order && x->order == MB_ORDER_ENERGY)
        order = larger_first(a->tokens_per_joule, b->tokens_per_joule);
    if (!order)
        order = (a->fit.slow_share > 0) - (b->fit.slow_share > 0);
    if (!order)
        order = (a->machine_class == MB_CLASS_CPU) - (b->machine_class == MB_CLASS_CPU);
    if (!order)
        order = larger_first(a->fast_bytes, b->fast_bytes);
    if (!order)
        order = larger_first(a->fit.decode.tokens_per_s, b->fit.decode.tokens_per_s);
    if (!order)
        order = larger_first(a->fit.prefill.tokens_per_s, b->fit.prefill.tokens_per_s);
    if (!order)
        order = smaller_first(price_a, price_b);
    if (!order)
        order = larger_first(a->tokens_per_joule, b->tokens_per_joule);
    return order ? order : (int)a->desirability - (int)b->desirability;
}

/* The cheapest machine that is at least `faster` times as fast and has `larger` times the fast memory of a row; one
 * that costs less than the row is a step, too. */
static struct mb_step_up find_step(const struct mb_machine_advice_list *list, const struct mb_machine_advice *from,
                                double faster, double larger)
{
    const struct mb_machine_advice *best = NULL;
    double own = price_of(from, list->currency);
    for (unsigned i = 0; i < list->n_all; i++) {
        const struct mb_machine_advice *row = list->rows + i;
        double price = price_of(row, list->currency);
        if (isnan(price) || row->fit.misses & (MB_MISS_RUN | MB_MISS_FIT | MB_MISS_CLASS) ||
            row->fit.decode.tokens_per_s < faster * from->fit.decode.tokens_per_s ||
            row->fast_bytes < larger * from->fast_bytes)
            continue;
        if (!best || price < price_of(best, list->currency) ||
            (price == price_of(best, list->currency) && row->fit.decode.tokens_per_s > best->fit.decode.tokens_per_s))
            best = row;
    }
    if (!best || best == from)
        return (struct mb_step_up){.machine = NULL};
    double price = price_of(best, list->currency);
    return (struct mb_step_up){.machine = best->machine,
                            .price = price,
                            .price_more = isnan(own) ? price : price - own,
                            .tokens_per_s_more = best->fit.decode.tokens_per_s - from->fit.decode.tokens_per_s,
                            .fast_bytes_more = best->fast_bytes - from->fast_bytes};
}

static void warn_of_bad_buys(struct mb_arena *arena, const struct mb_machine_advice_list *list,
                             struct mb_machine_advice *row)
{
    char more[32];
    double own = price_of(row, list->currency);
    const struct mb_step_up *larger = &row->larger;
    if (isnan(own) || !larger->machine || row->fit.but)
        return;
    mb_format_bytes(larger->fast_bytes_more, more, sizeof more);
    if (larger->price_more <= 0)
        row->fit.but = mb_arena_format(arena, "%s has %s more fast memory and costs %s.", larger->machine, more,
                                       larger->price_more < 0 ? "less" : "the same");
    else if (larger->price_more <= STEP_BARELY_DEARER * own)
        row->fit.but = mb_arena_format(arena, "Barely dearer: %s has %s more fast memory for %.0f %s more.",
                                       larger->machine, more, larger->price_more, list->currency);
}

static const struct mb_machine_advice *
best_of(const struct mb_machine_advice_list *list, unsigned from, unsigned to, unsigned only_misses,
        int (*better)(const struct mb_machine_advice *, const struct mb_machine_advice *, const char *))
{
    const struct mb_machine_advice *best = NULL;
    for (unsigned i = from; i < to; i++) {
        const struct mb_machine_advice *row = list->rows + i;
        if (row->fit.misses == only_misses && (!best || better(row, best, list->currency)))
            best = row;
    }
    return best;
}

static int is_cheaper(const struct mb_machine_advice *a, const struct mb_machine_advice *b, const char *currency)
{
    int order = smaller_first(price_of(a, currency), price_of(b, currency));
    return order < 0 || (order == 0 && a->fit.decode.tokens_per_s > b->fit.decode.tokens_per_s);
}

static int is_faster(const struct mb_machine_advice *a, const struct mb_machine_advice *b, const char *currency)
{
    (void)currency;
    return a->fit.decode.tokens_per_s > b->fit.decode.tokens_per_s;
}

/* The smaller machine is likelier to be affordable. */
static int is_modester(const struct mb_machine_advice *a, const struct mb_machine_advice *b, const char *currency)
{
    (void)currency;
    int order = smaller_first(a->fast_bytes, b->fast_bytes);
    return order < 0 || (order == 0 && a->bandwidth_bytes_per_s < b->bandwidth_bytes_per_s);
}

static int is_thriftier(const struct mb_machine_advice *a, const struct mb_machine_advice *b, const char *currency)
{
    (void)currency;
    return a->tokens_per_joule > b->tokens_per_joule;
}

static void find_picks(struct mb_machine_advice_list *list)
{
    list->cheapest = best_of(list, 0, list->n_rows, 0, is_cheaper);
    if (list->cheapest && isnan(price_of(list->cheapest, list->currency)))
        list->cheapest = NULL;
    list->fastest = best_of(list, 0, list->n_rows, 0, is_faster);
    list->thriftiest = best_of(list, 0, list->n_rows, 0, is_thriftier);
    if (list->thriftiest && list->thriftiest->tokens_per_joule <= 0)
        list->thriftiest = NULL;
    for (unsigned i = 0; i < list->n_all; i++)
        list->n_unpriced += list->rows[i].fit.misses == MB_MISS_UNPRICED;
    list->near_unpriced = best_of(list, 0, list->n_all, MB_MISS_UNPRICED, is_modester);
    if (list->n_rows)
        return;
    list->near_price = best_of(list, 0, list->n_all, MB_MISS_PRICE, is_cheaper);
    list->near_speed = best_of(list, 0, list->n_all, MB_MISS_SPEED, is_faster);
    for (unsigned i = 0; i < list->n_all; i++) {
        const struct mb_machine_advice *row = list->rows + i;
        if (!(row->fit.misses & (MB_MISS_RUN | MB_MISS_FIT)) &&
            (!list->near_any || row->fit.decode.tokens_per_s > list->near_any->fit.decode.tokens_per_s))
            list->near_any = row;
    }
}

static void set_conditions(const struct mb_advise_terms *terms, struct mb_machine_advice *row)
{
    double price = price_of(row, terms->opts.currency);
    if (terms->opts.budget > 0 && isnan(price))
        row->fit.misses |= MB_MISS_UNPRICED;
    else if (terms->opts.budget > 0 && price > terms->opts.budget)
        row->fit.misses |= MB_MISS_PRICE;
    if (terms->opts.class_given && row->machine_class != terms->opts.machine_class)
        row->fit.misses |= MB_MISS_CLASS;
}

static void write_notes(struct mb_arena *arena, struct mb_machine_advice_list *list, const struct mb_load *load)
{
    unsigned n_priced = 0;
    const struct mb_machine_advice *crawler = NULL;
    for (unsigned i = 0; i < list->n_all; i++) {
        const struct mb_machine_advice *row = list->rows + i;
        n_priced += !isnan(price_of(row, list->currency));
        if (row->fit.slow_share > 0.2 && (!crawler || row->fit.decode.tokens_per_s > crawler->fit.decode.tokens_per_s))
            crawler = row;
    }
    mb_advise_note(
        arena, &list->notes, &list->n_notes,
        "%u of %u machines have a price in %s in the catalog, each of its own month (membound machine NAME); no PC "
        "has one, because nobody sells one configuration at one price. Currencies are not converted.",
        n_priced, list->n_all, list->currency);
    if (!load->moe && crawler) {
        char a[16];
        mb_advise_note(
            arena, &list->notes, &list->n_notes,
            "This is a dense model: what does not fit in VRAM is read from RAM for every token. The fastest such "
            "machine (%s) does %s tok/s. A mixture of experts of that size reads a fraction: membound advise --on "
            "\"%s\".",
            crawler->machine, mb_speed_text(crawler->fit.decode.tokens_per_s, a, sizeof a), crawler->machine);
    }
}

static void fill_row(struct mb_arena *arena, const struct mb_catalog_row *facts, const struct mb_machine *machine,
                     struct mb_machine_advice *row)
{
    *row = (struct mb_machine_advice){.machine = mb_arena_text(arena, facts->name),
                                      .machine_class = facts->machine_class,
                                      .fast_bytes = facts->fast_bytes,
                                      .bandwidth_bytes_per_s = facts->bandwidth_bytes_per_s,
                                      .desirability = facts->desirability,
                                      .load_w = mb_machine_load_w(machine)};
    if (facts->price.currency)
        row->price = (struct mb_price){
            facts->price.amount, mb_arena_text(arena, facts->price.currency), mb_arena_text(arena, facts->price.date),
            mb_arena_text(arena, facts->price.condition), mb_arena_text(arena, facts->price.source)};
}

/* The rows in order and in words. */
static void finish_rows(struct owner *owner, struct ranked *ranked, size_t n, const struct mb_load *load,
                        const struct mb_advise_terms *terms)
{
    struct mb_machine_advice_list *list = &owner->list;
    qsort(ranked, n, sizeof *ranked, by_order);
    list->n_all = (unsigned)n;
    for (size_t i = 0; i < n; i++) {
        mb_outcome_explain(&owner->arena, ranked[i].site, load, ranked[i].row.ram_tokens_per_s, 1, &ranked[i].row.fit);
        list->rows[i] = ranked[i].row;
        list->n_rows += !ranked[i].row.fit.misses;
    }
    for (size_t i = 0; i < n; i++) {
        struct mb_machine_advice *row = list->rows + i;
        if (row->fit.misses & (MB_MISS_RUN | MB_MISS_FIT))
            continue;
        row->faster = find_step(list, row, STEP_MORE, 0);
        row->larger = find_step(list, row, STEP_SPEED_KEPT, STEP_MORE);
        warn_of_bad_buys(&owner->arena, list, row);
    }
    list->n_shown = terms->opts.limit && terms->opts.limit < list->n_rows ? terms->opts.limit : list->n_rows;
    list->model_bytes = load->resident_bytes;
    list->read_bytes = load->weight_bytes;
    find_picks(list);
    write_notes(&owner->arena, list, load);
}

static int try_all(struct owner *owner, const struct mb_load *load, const struct mb_catalog_row *facts,
                   struct mb_machine **machines, size_t n, const struct mb_advise_terms *terms, struct mb_err *err)
{
    struct mb_site *sites = calloc(n + 1, sizeof *sites);
    struct ranked *ranked = calloc(n + 1, sizeof *ranked);
    struct mb_trial trial = {.load = NULL};
    owner->list.rows = mb_arena_array(&owner->arena, n, sizeof *owner->list.rows);
    int code = sites && ranked && owner->list.rows ? mb_trial_load(&trial, load, err) : mb_fail_memory(err);
    for (size_t i = 0; i < n && !code; i++) {
        struct mb_machine_advice *row = &ranked[i].row;
        ranked[i].site = sites + i;
        ranked[i].order = terms->opts.order;
        ranked[i].currency = owner->list.currency;
        fill_row(&owner->arena, facts + i, machines[i], row);
        mb_site_init(sites + i, machines[i], terms->engine);
        mb_trial_run(&trial, sites + i, terms, &row->fit, &row->ram_tokens_per_s);
        row->tokens_per_joule = row->load_w > 0 ? row->fit.decode.tokens_per_s / row->load_w : 0;
        set_conditions(terms, row);
    }
    if (!code)
        finish_rows(owner, ranked, n, load, terms);
    mb_trial_free(&trial);
    free(sites);
    free(ranked);
    return code;
}

static int rank(struct owner *owner, const struct mb_model *model, const struct mb_advise_terms *terms,
                struct mb_err *err)
{
    struct mb_catalog_row *facts = NULL;
    struct mb_machine **machines = NULL;
    struct mb_load *load = NULL;
    size_t n = 0;
    int code = mb_load_build(model, owner->list.n_ctx, &terms->opts.kv, &load, err);
    if (!code)
        code = mb_catalog_machines(&facts, &machines, &n, err);
    if (!code)
        code = try_all(owner, load, facts, machines, n, terms, err);
    mb_load_free(load);
    mb_catalog_rows_free(facts);
    mb_catalog_machines_free(machines, n);
    return code;
}

void mb_machine_advice_free(struct mb_machine_advice_list *list)
{
    if (!list)
        return;
    struct owner *owner = list->owner;
    mb_quality_close(owner->quality);
    mb_arena_free(&owner->arena);
    free(owner);
}

int mb_advise_machines(const struct mb_model *model, const struct mb_advise_opts *opts,
                       struct mb_machine_advice_list **out, struct mb_err *err)
{
    struct mb_advise_terms terms;
    struct mb_model_info info;
    int code = mb_advise_settle(opts, &terms, err);
    if (code)
        return code;
    mb_model_get_info(model, &info);
    if (info.context_max && terms.opts.n_ctx > info.context_max)
        return mb_fail(err, MB_ERANGE, "context %ju: %s takes at most %ju tokens", (uintmax_t)terms.opts.n_ctx,
                       info.name, (uintmax_t)info.context_max);
    struct owner *owner = calloc(1, sizeof *owner);
    if (!owner)
        return mb_fail_memory(err);
    struct mb_machine_advice_list *list = &owner->list;
    list->owner = owner;
    list->model = mb_arena_text(&owner->arena, info.name ? info.name : "(unnamed)");
    list->quant = mb_arena_text(&owner->arena, info.quant);
    list->engine = mb_arena_text(&owner->arena, terms.engine);
    list->n_ctx = terms.opts.n_ctx                                       ? terms.opts.n_ctx
                  : info.context_max && info.context_max < MB_ADVISE_CTX ? info.context_max
                                                                         : MB_ADVISE_CTX;
    list->min_tokens_per_s = terms.opts.min_tokens_per_s;
    list->budget = terms.opts.budget;
    list->currency = mb_arena_text(&owner->arena, terms.opts.currency);
    code = owner->arena.failed ? mb_fail_memory(err) : mb_quality_open(&owner->quality, err);
    if (!code)
        mb_quality_loss(owner->quality, list->model, list->quant, &list->loss);
    if (!code)
        code = rank(owner, model, &terms, err);
    if (!code && owner->arena.failed)
        code = mb_fail_memory(err);
    if (code) {
        mb_machine_advice_free(list);
        return code;
    }
    *out = list;
    return MB_OK;
}
