/* SPDX-License-Identifier: MIT */
/* Which model for a machine. Every model of the catalog is tried in quantizations from the best down, until one meets
 * the conditions. Models of one shape run alike: the newest stands for them. Size ranks, because there is nothing
 * better to rank by that holds for all models: larger ones tend to be smarter, and docs/advise.md says what that is
 * worth. */
#include "catalog/catalog.h"
#include "plan/advise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A machine is a step up from so much more fast memory on, and at least so much of the bandwidth. */
#define STEP_MEMORY    1.3
#define STEP_BANDWIDTH 0.6
enum { STEP_MODELS = 3 };

static const char *const usual_quants[] = {"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M"};

struct owner {
    struct mb_arena arena;
    struct mb_model_advice_list list;
    struct mb_quality *quality;
};

/* What tells models of one shape. */
struct entry {
    struct mb_model_advice row; /* first, so that a row is one of these */
    const char *arch;
    uint32_t n_layers, n_embd, n_expert;
    int folded; /* into a newer one */
};

static int same_shape(const struct entry *a, const struct entry *b)
{
    double params = (double)a->row.params / (double)b->row.params;
    return strcmp(a->arch, b->arch) == 0 && a->n_layers == b->n_layers && a->n_embd == b->n_embd &&
           a->n_expert == b->n_expert && params > 0.99 && params < 1.01;
}

static int by_date(const char *a, const char *b)
{
    return strcmp(b ? b : "", a ? a : "");
}

/* Sizes in steps of 5 %: 14.77 and 14.66 billion parameters are one size, and the date decides. Steps, not distances,
 * because an order must hold among any three. */
static long size_step(uint64_t params)
{
    return lround(log((double)params + 1) / log(1.05));
}

/* Those that meet the conditions first; then total size, active size, date. */
static int by_size(const void *left, const void *right)
{
    const struct mb_model_advice *a = left, *b = right;
    int order = (a->fit.misses != 0) - (b->fit.misses != 0);
    long size_a = size_step(a->params), size_b = size_step(b->params);
    long active_a = size_step(a->active_params), active_b = size_step(b->active_params);
    if (!order)
        order = (size_a < size_b) - (size_a > size_b);
    if (!order)
        order = (active_a < active_b) - (active_a > active_b);
    if (!order)
        order = by_date(a->released, b->released);
    return order ? order : strcmp(a->model, b->model);
}

/* One model in one quantization. *out_done: no other quantization can do better. */
static int try_quant(struct owner *owner, struct mb_trial *trial, const struct mb_site *site,
                     const struct mb_advise_terms *terms, const char *name, const char *quant, struct entry *entry,
                     int *out_done, struct mb_err *err)
{
    char spec[200];
    struct mb_model *model = NULL;
    struct mb_model_info info;
    struct mb_load *load = NULL;
    struct mb_model_advice *row = &entry->row;
    struct mb_arena *arena = &owner->arena;
    snprintf(spec, sizeof spec, "%s@%s", name, quant);
    int code = mb_model_catalog(spec, &model, err);
    if (code)
        return code;
    mb_model_get_info(model, &info);
    uint64_t n_ctx = terms->opts.n_ctx ? terms->opts.n_ctx : MB_ADVISE_CTX;
    int too_long = info.context_max && n_ctx > info.context_max;
    n_ctx = too_long ? info.context_max : n_ctx;
    if (!row->model) {
        *row = (struct mb_model_advice){.model = mb_arena_text(arena, info.name),
                                        .released = mb_arena_text(arena, info.released),
                                        .params = info.params,
                                        .active_params = info.active_params,
                                        .moe = info.n_expert > 0};
        entry->arch = mb_arena_text(arena, info.arch);
        entry->n_layers = info.n_layers;
        entry->n_embd = info.n_embd;
        entry->n_expert = info.n_expert;
    }
    code = mb_load_build(model, n_ctx, &terms->opts.kv, &load, err);
    if (!code)
        code = mb_trial_load(trial, load, err);
    if (!code) {
        double ram = 0;
        row->quant = mb_arena_text(arena, quant);
        row->model_bytes = load->resident_bytes;
        row->read_bytes = load->weight_bytes;
        mb_trial_run(trial, site, terms, &row->fit, &ram);
        mb_outcome_explain(arena, site, load, ram, 0, &row->fit);
        mb_quality_loss(owner->quality, row->model, row->quant, &row->loss);
        if (too_long && terms->opts.n_ctx) {
            row->fit.misses |= MB_MISS_RUN;
            row->fit.why = mb_arena_format(arena, "Takes at most %ju tokens of context.", (uintmax_t)info.context_max);
        }
        *out_done = !row->fit.misses || (too_long && terms->opts.n_ctx);
    }
    mb_load_free(load);
    mb_model_free(model);
    return code;
}

/* The best quantization of a model that meets the conditions, else the last. A model that is published in a format of
 * its own comes in no other. */
static int try_model(struct owner *owner, struct mb_trial *trial, const struct mb_site *site,
                     const struct mb_advise_terms *terms, const char *name, struct entry *entry, struct mb_err *err)
{
    const char *native = mb_quality_native(owner->quality, name);
    const char *const *quants = terms->opts.quants ? terms->opts.quants : native ? &native : usual_quants;
    unsigned n_quants = terms->opts.quants ? terms->opts.n_quants : native ? 1 : MB_COUNT(usual_quants);
    int done = 0, code = MB_OK;
    for (unsigned i = 0; i < n_quants && !done && !code; i++)
        code = try_quant(owner, trial, site, terms, name, quants[i], entry, &done, err);
    return code;
}

/* Leave one entry for each shape, and count the older ones in it. Among equals those that meet the conditions come
 * first, so no answer is lost. */
static void fold(struct mb_arena *arena, struct entry *entries, unsigned n)
{
    qsort(entries, n, sizeof *entries, by_size);
    for (unsigned i = 0; i < n; i++) {
        if (entries[i].folded)
            continue;
        struct entry *kept = entries + i;
        for (unsigned k = i + 1; k < n; k++) {
            struct entry *other = entries + k;
            if (other->folded || !same_shape(kept, other))
                continue;
            struct mb_model_advice *new = &kept->row;
            if (!new->fit.misses && !other->row.fit.misses && by_date(new->released, other->row.released) > 0) {
                struct entry swap = *kept;
                const char **also = kept->row.also;
                unsigned n_also = kept->row.n_also;
                *kept = *other;
                *other = swap;
                kept->row.also = also;
                kept->row.n_also = n_also;
            }
            const char **name = mb_arena_append(arena, &kept->row.also, &kept->row.n_also, sizeof *name);
            if (name)
                *name = other->row.model;
            other->folded = 1;
        }
    }
}

/* A dense model that crawls, and a MoE of about the same bytes that does not. */
static void find_pair(struct mb_model_advice_list *list, const struct mb_site *site)
{
    double best = 0;
    for (unsigned d = 0; d < list->n_all; d++) {
        const struct mb_model_advice *dense = list->rows + d;
        if (dense->moe || dense->fit.misses & (MB_MISS_RUN | MB_MISS_FIT) ||
            (site->spills && dense->fit.slow_share < 0.05))
            continue;
        for (unsigned m = 0; m < list->n_all; m++) {
            const struct mb_model_advice *sparse = list->rows + m;
            double size = (double)sparse->model_bytes / (double)dense->model_bytes;
            double gain = sparse->fit.decode.tokens_per_s / dense->fit.decode.tokens_per_s;
            if (!sparse->moe || sparse->fit.misses || size < 0.75 || size > 2 || gain < 3 ||
                (site->spills && sparse->fit.slow_share < 0.01))
                continue;
            /* Alike in size, and large: that is where the difference decides. */
            double worth = log(gain) * (double)dense->model_bytes * (size < 1 ? size : 1 / size);
            if (worth > best) {
                best = worth;
                list->dense = dense;
                list->sparse = sparse;
            }
        }
    }
}

static int try_all(struct owner *owner, const struct mb_site *site, const struct mb_advise_terms *terms,
                   struct entry **out, unsigned *out_n, struct mb_err *err)
{
    size_t n = 0;
    const char *const *names = mb_model_names(&n);
    struct entry *entries = calloc(n + 1, sizeof *entries);
    struct mb_trial trial = {.load = NULL};
    int code = entries ? MB_OK : mb_fail_memory(err);
    for (size_t i = 0; i < n && !code; i++)
        code = try_model(owner, &trial, site, terms, names[i], entries + i, err);
    mb_trial_free(&trial);
    if (code) {
        free(entries);
        return code;
    }
    fold(&owner->arena, entries, (unsigned)n);
    *out = entries;
    *out_n = (unsigned)n;
    return MB_OK;
}

/* The cheapest machine with more fast memory, and the largest models that it adds. */
static int find_step(struct owner *owner, const struct mb_site *site, const struct mb_advise_terms *terms,
                     struct mb_err *err)
{
    struct mb_model_advice_list *list = &owner->list;
    struct mb_catalog_row *facts = NULL;
    struct mb_machine **machines = NULL;
    size_t n = 0, best = 0;
    int found = 0;
    const char *currency = terms->opts.currency;
    /* Of a machine that nobody priced, the whole price of the next one is what it costs more. */
    double own = list->price.currency && strcmp(list->price.currency, currency) == 0 ? list->price.amount : 0;
    int code = mb_catalog_machines(&facts, &machines, &n, err);
    if (code)
        return code;
    for (size_t i = 0; i < n; i++) {
        int priced = facts[i].price.currency && strcmp(facts[i].price.currency, currency) == 0;
        if (!priced || facts[i].fast_bytes < STEP_MEMORY * list->fast_bytes || facts[i].machine_class == MB_CLASS_CPU ||
            facts[i].bandwidth_bytes_per_s < STEP_BANDWIDTH * site->fast_bytes_per_s)
            continue;
        if (!found || facts[i].price.amount < facts[best].price.amount)
            best = i;
        found = 1;
    }
    struct mb_site next;
    struct mb_trial trial = {.load = NULL};
    if (found)
        mb_site_init(&next, machines[best], terms->engine);
    for (unsigned i = list->n_rows; i < list->n_all && found && next.runs && list->n_step_models < STEP_MODELS && !code;
         i++) {
        struct entry entry = {.arch = NULL};
        code = try_model(owner, &trial, &next, terms, list->rows[i].model, &entry, err);
        const char **name = code || entry.row.fit.misses ? NULL
                                                         : mb_arena_append(&owner->arena, &list->step_models,
                                                                           &list->n_step_models, sizeof *name);
        if (name)
            *name = mb_arena_format(&owner->arena, "%s@%s", entry.row.model, entry.row.quant);
    }
    if (!code && found)
        list->step = (struct mb_step_up){.machine = mb_arena_text(&owner->arena, facts[best].name),
                                      .price = facts[best].price.amount,
                                      .price_more = facts[best].price.amount - own,
                                      .fast_bytes_more = facts[best].fast_bytes - list->fast_bytes};
    mb_trial_free(&trial);
    mb_catalog_rows_free(facts);
    mb_catalog_machines_free(machines, n);
    return code;
}

static void write_notes(struct owner *owner, const struct mb_site *site)
{
    struct mb_model_advice_list *list = &owner->list;
    mb_advise_note(
        &owner->arena, &list->notes, &list->n_notes,
        "Larger models tend to be smarter, and newer ones than older ones of a size. That is a rule of thumb, not a "
        "benchmark: try the first few on your own questions.");
    if (list->dense) {
        char a[16], b[16], dense[32], sparse[32], reads_dense[32], reads_sparse[32];
        mb_advise_note(
            &owner->arena, &list->notes, &list->n_notes,
            "%s crawl, a mixture of experts of the same size need not: %s@%s (%s, reads %s per token) does %s tok/s, "
            "%s@%s (%s, reads %s) does %s.",
            site->spills ? "Dense models larger than the VRAM" : "Large dense models", list->dense->model,
            list->dense->quant, mb_format_bytes((double)list->dense->model_bytes, dense, sizeof dense),
            mb_format_bytes(list->dense->read_bytes, reads_dense, sizeof reads_dense),
            mb_speed_text(list->dense->fit.decode.tokens_per_s, a, sizeof a), list->sparse->model, list->sparse->quant,
            mb_format_bytes((double)list->sparse->model_bytes, sparse, sizeof sparse),
            mb_format_bytes(list->sparse->read_bytes, reads_sparse, sizeof reads_sparse),
            mb_speed_text(list->sparse->fit.decode.tokens_per_s, b, sizeof b));
    }
}

static int rank(struct owner *owner, const struct mb_site *site, const struct mb_advise_terms *terms,
                struct mb_err *err)
{
    struct mb_model_advice_list *list = &owner->list;
    struct entry *entries = NULL;
    unsigned n = 0;
    int code = try_all(owner, site, terms, &entries, &n, err);
    if (code)
        return code;
    list->rows = mb_arena_array(&owner->arena, n, sizeof *list->rows);
    for (unsigned i = 0; i < n && list->rows; i++) {
        if (entries[i].folded)
            continue;
        list->rows[list->n_all++] = entries[i].row;
        list->n_rows += !entries[i].row.fit.misses;
    }
    free(entries);
    if (owner->arena.failed)
        return mb_fail_memory(err);
    /* Folding may have put a newer model, a little larger or smaller, in the place of an older one. */
    qsort(list->rows, list->n_all, sizeof *list->rows, by_size);
    list->n_shown = terms->opts.limit && terms->opts.limit < list->n_rows ? terms->opts.limit : list->n_rows;
    find_pair(list, site);
    code = find_step(owner, site, terms, err);
    write_notes(owner, site);
    return code;
}

void mb_model_advice_free(struct mb_model_advice_list *list)
{
    if (!list)
        return;
    struct owner *owner = list->owner;
    mb_quality_close(owner->quality);
    mb_arena_free(&owner->arena);
    free(owner);
}

static void copy_facts(struct owner *owner, const struct mb_machine *machine, const struct mb_advise_terms *terms)
{
    struct mb_model_advice_list *list = &owner->list;
    struct mb_catalog_row facts = {.name = NULL};
    mb_catalog_row_fill(&owner->arena, &facts, machine);
    list->owner = owner;
    list->machine = facts.name;
    list->engine = mb_arena_text(&owner->arena, terms->engine);
    list->currency = mb_arena_text(&owner->arena, terms->opts.currency);
    list->n_ctx = terms->opts.n_ctx;
    list->min_tokens_per_s = terms->opts.min_tokens_per_s;
    list->price = facts.price;
    list->fast_bytes = facts.fast_bytes;
}

int mb_advise_models(const struct mb_machine *machine, const struct mb_advise_opts *opts,
                     struct mb_model_advice_list **out, struct mb_err *err)
{
    struct mb_advise_terms terms;
    struct mb_site site;
    int code = mb_advise_settle(opts, &terms, err);
    if (!code)
        code = mb_cost_init(&site.cost, machine, terms.engine, err);
    if (code)
        return code;
    mb_site_init(&site, machine, terms.engine);
    struct owner *owner = calloc(1, sizeof *owner);
    if (!owner)
        return mb_fail_memory(err);
    copy_facts(owner, machine, &terms);
    code = mb_quality_open(&owner->quality, err);
    if (!code)
        code = rank(owner, &site, &terms, err);
    if (!code && owner->arena.failed)
        code = mb_fail_memory(err);
    if (code) {
        mb_model_advice_free(&owner->list);
        return code;
    }
    *out = &owner->list;
    return MB_OK;
}
