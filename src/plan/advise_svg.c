/* SPDX-License-Identifier: MIT */
/* Price against speed as a picture: which machines are points, and which of them nothing cheaper outruns. chart.c draws. */
#include "plan/advise.h"
#include "plan/chart.h"

#include <math.h>
#include <string.h>

static int has_point(const struct mb_machine_advice_list *list, const struct mb_machine_advice *row)
{
    return !(row->fit.misses & (MB_MISS_RUN | MB_MISS_FIT | MB_MISS_CLASS)) && row->price.currency &&
           strcmp(row->price.currency, list->currency) == 0;
}

/* Nothing that costs less is as fast, and nothing that costs the same is faster. */
static int is_best(const struct mb_machine_advice_list *list, const struct mb_machine_advice *row)
{
    for (unsigned i = 0; i < list->n_all; i++) {
        const struct mb_machine_advice *other = &list->rows[i];
        double cheaper = row->price.amount - other->price.amount;
        double faster = other->fit.decode.tokens_per_s - row->fit.decode.tokens_per_s;
        if (has_point(list, other) && cheaper >= 0 && faster >= 0 && (cheaper > 0 || faster > 0))
            return 0;
    }
    return 1;
}

int mb_machine_advice_svg(const struct mb_machine_advice_list *list, char **out, struct mb_err *err)
{
    struct mb_arena arena = {0};
    struct mb_chart_series series[MB_CLASS_DEDICATED + 1]; /* all classes, so that each keeps its colour */
    struct mb_chart_point *points = mb_arena_array(&arena, (size_t)list->n_all + 1, sizeof *points), *next = points;
    for (unsigned c = 0; c < MB_COUNT(series); c++) {
        series[c] = (struct mb_chart_series){.name = mb_class_title((enum mb_machine_class)c), .points = next};
        for (unsigned i = 0; i < list->n_all && points; i++) {
            const struct mb_machine_advice *row = &list->rows[i];
            const struct mb_speed *speed = &row->fit.decode;
            if (row->machine_class != c || !has_point(list, row))
                continue;
            *next++ = (struct mb_chart_point){
                .x = row->price.amount, .y = speed->tokens_per_s, .low = speed->low, .high = speed->high, .name = row->machine,
                .label = mb_arena_format(&arena, "%s, %.0f %s, %.1f tok/s", row->machine, row->price.amount, list->currency,
                                         speed->tokens_per_s),
                .emphasis = is_best(list, row), .hollow = row->fit.misses != 0};
            series[c].n_points++;
        }
    }
    const struct mb_chart chart = {
        .title = mb_arena_format(&arena, "%s%s%s: price against speed", list->model, list->quant ? ", " : "",
                                 list->quant ? list->quant : ""),
        .subtitle = "Hollow: misses a condition. Bold: nothing cheaper is as fast.",
        .x_label = mb_arena_format(&arena, "price, %s (each of its own month)", list->currency),
        .y_label = "tokens/s, predicted, with 80 % interval",
        .x_limit = {list->budget, list->budget > 0 ? "budget" : NULL},
        .y_limit = {list->min_tokens_per_s, list->min_tokens_per_s > 0 ? "slowest wanted" : NULL},
        .series = series, .n_series = MB_COUNT(series)};
    int code = arena.failed     ? mb_fail_memory(err)
               : next == points ? mb_fail(err, MB_ENODATA, "picture: no machine that runs this model has a price in %s",
                                          list->currency)
                                : mb_chart_svg(&chart, out, err);
    mb_arena_free(&arena);
    return code;
}
