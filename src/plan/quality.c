/* SPDX-License-Identifier: MIT */
/* Published loss of quantizations. Owns the reading of data/quality.json; a set of figures is of one model, measured by
 * one person in one way, and is never mixed with another: perplexities compare only with the base of their own set.
 * Nothing is extrapolated here: a quantization that nobody measured is unknown. */
#include "plan/quality.h"
#include "base/embedded.h"
#include "base/reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct figure {
    const char *quant;
    double increase, kld; /* NAN unknown */
    int native;
};

struct set {
    const char *model, *base, *corpus, *imatrix, *date, *source, *note;
    struct figure *figures;
    unsigned n_figures;
};

struct mb_quality {
    struct mb_arena arena;
    const char *reference;
    struct set *sets;
    unsigned n_sets;
    const char **models; /* of each set */
};

enum { SETS_MAX = 500, FIGURES_MAX = 100 };

static void read_figure(struct mb_reader *reader, struct set *set, const char *quant, const json_t *json, double base)
{
    static const char *const keys[] = {"perplexity", "ratio", "kld", "native"};
    size_t mark = mb_reader_enter(reader, "%s", quant);
    mb_reader_keys(reader, json, keys, MB_COUNT(keys));
    double perplexity = mb_reader_number(reader, json, "perplexity", 1, 1e9, MB_OPTIONAL);
    double ratio = mb_reader_number(reader, json, "ratio", 0.5, 1e9, MB_OPTIONAL);
    struct figure figure = {.quant = mb_arena_text(reader->arena, quant),
                            .kld = mb_reader_number(reader, json, "kld", 0, 100, MB_OPTIONAL),
                            .native = mb_reader_flag(reader, json, "native")};
    if (!isnan(perplexity) && isnan(base))
        mb_reader_fail(reader, "perplexity", "says nothing without base_perplexity");
    figure.increase = isnan(ratio) ? perplexity / base - 1 : ratio - 1;
    if (isnan(figure.increase) && isnan(figure.kld) && !figure.native)
        mb_reader_fail(reader, NULL, "states no figure");
    struct figure *new =
        reader->code ? NULL : mb_arena_append(reader->arena, &set->figures, &set->n_figures, sizeof *new);
    if (new)
        *new = figure;
    mb_reader_leave(reader, mark);
}

static void read_set(struct mb_reader *reader, struct mb_quality *quality, const json_t *json)
{
    static const char *const keys[] = {"model",           "variant", "corpus", "imatrix", "base",
                                       "base_perplexity", "date",    "source", "note",    "quants"};
    mb_reader_keys(reader, json, keys, MB_COUNT(keys));
    struct set set = {.model = mb_reader_text(reader, json, "model", MB_REQUIRED),
                      .base = mb_reader_text(reader, json, "base", MB_REQUIRED),
                      .corpus = mb_reader_text(reader, json, "corpus", MB_OPTIONAL),
                      .imatrix = mb_reader_text(reader, json, "imatrix", MB_OPTIONAL),
                      .date = mb_reader_text(reader, json, "date", MB_OPTIONAL),
                      .source = mb_reader_text(reader, json, "source", MB_REQUIRED),
                      .note = mb_reader_text(reader, json, "note", MB_OPTIONAL)};
    double base = mb_reader_number(reader, json, "base_perplexity", 1, 1e9, MB_OPTIONAL);
    json_t *quants = mb_reader_object(reader, json, "quants", MB_REQUIRED), *figure;
    const char *quant;
    if (json_object_size(quants) > FIGURES_MAX)
        mb_reader_fail(reader, "quants", "more than %d", (int)FIGURES_MAX);
    json_object_foreach(quants, quant, figure)
    {
        if (!reader->code)
            read_figure(reader, &set, quant, figure, base);
    }
    struct set *new =
        reader->code ? NULL : mb_arena_append(reader->arena, &quality->sets, &quality->n_sets, sizeof *new);
    if (new)
        *new = set;
}

static void read_file(struct mb_reader *reader, struct mb_quality *quality, const json_t *root)
{
    static const char *const keys[] = {"schema", "reference", "sets"};
    mb_reader_keys(reader, root, keys, MB_COUNT(keys));
    if (mb_reader_number(reader, root, "schema", 0, 1e6, MB_REQUIRED) != 1)
        mb_reader_fail(reader, "schema", "not 1");
    quality->reference = mb_reader_text(reader, root, "reference", MB_REQUIRED);
    const json_t *sets = mb_reader_array(reader, root, "sets", SETS_MAX, MB_REQUIRED);
    for (size_t i = 0; i < json_array_size(sets) && !reader->code; i++) {
        size_t mark = mb_reader_enter(reader, "sets[%zu]", i);
        read_set(reader, quality, json_array_get(sets, i));
        mb_reader_leave(reader, mark);
    }
}

/* The figure of a quantization in a set of that model; NULL: none. Sets come in order of preference. */
static const struct figure *find(const struct mb_quality *quality, const char *model, const char *quant,
                                 const struct set **out)
{
    for (unsigned s = 0; s < quality->n_sets; s++) {
        const struct set *set = quality->sets + s;
        if (mb_name_compare(set->model, model) != 0)
            continue;
        for (unsigned i = 0; i < set->n_figures; i++) {
            if (strcmp(set->figures[i].quant, quant) == 0) {
                *out = set;
                return set->figures + i;
            }
        }
    }
    return NULL;
}

void mb_quality_close(struct mb_quality *quality)
{
    if (!quality)
        return;
    mb_arena_free(&quality->arena);
    free(quality);
}

int mb_quality_parse(const char *text, size_t n, struct mb_quality **out, struct mb_err *err)
{
    struct mb_quality *quality = calloc(1, sizeof *quality);
    if (!quality)
        return mb_fail_memory(err);
    struct mb_err unseen;
    struct mb_reader reader = {.arena = &quality->arena, .file = "quality.json", .err = err ? err : &unseen};
    json_t *root = mb_json_parse(text, n, reader.file, reader.err);
    if (root)
        read_file(&reader, quality, root);
    else
        reader.code = reader.err->code;
    json_decref(root);
    quality->models = mb_arena_array(&quality->arena, quality->n_sets, sizeof *quality->models);
    for (unsigned i = 0; i < quality->n_sets && quality->models; i++)
        quality->models[i] = quality->sets[i].model;
    if (!reader.code && quality->arena.failed)
        reader.code = mb_fail_memory(err);
    if (reader.code) {
        mb_quality_close(quality);
        return reader.code;
    }
    *out = quality;
    return MB_OK;
}

int mb_quality_open(struct mb_quality **out, struct mb_err *err)
{
    for (size_t i = 0; i < mb_embedded_n_files; i++) {
        const struct mb_embedded *file = mb_embedded_files + i;
        if (strcmp(file->name, "quality.json") == 0)
            return mb_quality_parse((const char *)file->bytes, file->n, out, err);
    }
    return mb_fail(err, MB_EINTERNAL, "quality.json: not embedded; build again");
}

const char *const *mb_quality_models(const struct mb_quality *quality, unsigned *out_n)
{
    *out_n = quality->n_sets;
    return quality->models;
}

const char *mb_quality_native(const struct mb_quality *quality, const char *model)
{
    for (unsigned s = 0; s < quality->n_sets; s++) {
        const struct set *set = quality->sets + s;
        for (unsigned i = 0; i < set->n_figures; i++) {
            if (set->figures[i].native && mb_name_compare(set->model, model) == 0)
                return set->figures[i].quant;
        }
    }
    return NULL;
}

void mb_quality_loss(const struct mb_quality *quality, const char *model, const char *quant, struct mb_loss *out)
{
    const struct set *set = NULL;
    const struct figure *figure = NULL;
    *out = (struct mb_loss){.perplexity_increase = NAN, .kld = NAN};
    if (!quant)
        return;
    if (model)
        figure = find(quality, model, quant, &set);
    out->same_model = figure != NULL;
    if (!figure)
        figure = find(quality, quality->reference, quant, &set);
    if (!figure)
        return;
    out->measured_on = set->model;
    out->native = figure->native;
    out->perplexity_increase = figure->increase;
    out->kld = figure->kld;
    out->base = set->base;
    out->corpus = set->corpus;
    out->imatrix = set->imatrix;
    out->date = set->date;
    out->source = set->source;
    out->note = set->note;
}
