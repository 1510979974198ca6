/* SPDX-License-Identifier: MIT */
/* Price against speed as a picture: one point for each machine that runs the model and has a price, with its 80 %
 * interval. Names stand beside the points where they cover nothing; first those of machines that nothing cheaper
 * outruns. */
#include "plan/advise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 960,
    HEIGHT = 600,
    LEFT = 64,
    RIGHT = 24,
    TOP = 76,
    BOTTOM = 52,
    TEXT = 11,
    POINTS_MAX = 500,
    BOXES_MAX = 1000
};

/* Width of a character of the labels: sans-serif fonts are between 0.5 and 0.6 of their size on average. */
#define CHAR_WIDTH (0.58 * TEXT)

struct box {
    double x0, y0, x1, y1;
};

struct point {
    const struct mb_machine_advice *row;
    double x, y, low, high;
    int best; /* nothing cheaper is as fast */
};

struct picture {
    FILE *out;
    double price_max, speed_max;
    struct point points[POINTS_MAX];
    unsigned n_points;
    struct box boxes[BOXES_MAX]; /* taken by points and labels */
    unsigned n_boxes;
};

static const char *const colours[] = {"#6b7280", "#2563eb", "#0f9d6b", "#c2410c"}; /* cpu, gpu, unified, dedicated */

static double x_of(const struct picture *picture, double price)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * price / picture->price_max;
}

static double y_of(const struct picture *picture, double speed)
{
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * speed / picture->speed_max;
}

/* 1, 2 or 5 times a power of ten, about n of them up to max. */
static double step_of(double max, unsigned n)
{
    double step = pow(10, floor(log10(max / n)));
    double times = max / n / step;
    return step * (times > 5 ? 10 : times > 2 ? 5 : times > 1 ? 2 : 1);
}

static void escape(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '&' || *text == '<' || *text == '>' || *text == '"')
            fprintf(out, "&#%d;", *text);
        else
            fputc(*text, out);
    }
}

static int hits(const struct picture *picture, const struct box *box)
{
    if (box->x0 < LEFT || box->x1 > WIDTH - 4 || box->y0 < TOP - 14 || box->y1 > HEIGHT - BOTTOM)
        return 1;
    for (unsigned i = 0; i < picture->n_boxes; i++) {
        const struct box *other = picture->boxes + i;
        if (box->x0 < other->x1 && other->x0 < box->x1 && box->y0 < other->y1 && other->y0 < box->y1)
            return 1;
    }
    return 0;
}

static void take(struct picture *picture, struct box box)
{
    if (picture->n_boxes < BOXES_MAX)
        picture->boxes[picture->n_boxes++] = box;
}

static void collect(struct picture *picture, const struct mb_machine_advice_list *list)
{
    for (unsigned i = 0; i < list->n_all && picture->n_points < POINTS_MAX; i++) {
        const struct mb_machine_advice *row = list->rows + i;
        if (row->fit.misses & (MB_MISS_RUN | MB_MISS_FIT | MB_MISS_CLASS) || !row->price.currency ||
            strcmp(row->price.currency, list->currency) != 0)
            continue;
        picture->points[picture->n_points++] = (struct point){.row = row};
        picture->price_max = fmax(picture->price_max, row->price.amount);
        picture->speed_max = fmax(picture->speed_max, row->fit.decode.high);
    }
    picture->price_max *= 1.04;
    picture->speed_max *= 1.04;
    for (unsigned i = 0; i < picture->n_points; i++) {
        struct point *point = picture->points + i;
        const struct mb_speed *speed = &point->row->fit.decode;
        point->x = x_of(picture, point->row->price.amount);
        point->y = y_of(picture, speed->tokens_per_s);
        point->low = y_of(picture, speed->low);
        point->high = y_of(picture, speed->high);
        point->best = 1;
        for (unsigned k = 0; k < picture->n_points; k++) {
            const struct mb_machine_advice *other = picture->points[k].row;
            double cheaper = point->row->price.amount - other->price.amount;
            double faster = other->fit.decode.tokens_per_s - speed->tokens_per_s;
            if (cheaper >= 0 && faster >= 0 && (cheaper > 0 || faster > 0))
                point->best = 0;
        }
        take(picture, (struct box){point->x - 5, point->y - 5, point->x + 5, point->y + 5});
    }
}

static void draw_axes(const struct picture *picture, const struct mb_machine_advice_list *list)
{
    FILE *out = picture->out;
    double step = step_of(picture->speed_max, 6);
    for (double speed = 0; speed <= picture->speed_max; speed += step) {
        double y = y_of(picture, speed);
        fprintf(out,
                "<path d=\"M%d %.1fH%d\" stroke=\"#e5e7eb\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, y, WIDTH - RIGHT, LEFT - 8, y + 4, speed);
    }
    step = step_of(picture->price_max, 8);
    for (double price = 0; price <= picture->price_max; price += step) {
        double x = x_of(picture, price);
        fprintf(out,
                "<path d=\"M%.1f %dV%d\" stroke=\"#e5e7eb\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
                x, TOP, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 18, price);
    }
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">price, ", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
    escape(out, list->currency);
    fprintf(out,
            " (each of its own month)</text>\n<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">"
            "tokens/s, predicted, with 80 %% interval</text>\n",
            (TOP + HEIGHT - BOTTOM) / 2);
    if (list->min_tokens_per_s > 0 && list->min_tokens_per_s < picture->speed_max)
        fprintf(out,
                "<path d=\"M%d %.1fH%d\" stroke=\"#dc2626\" stroke-dasharray=\"5 4\"/>"
                "<text x=\"%d\" y=\"%.1f\" fill=\"#dc2626\" text-anchor=\"end\">slowest wanted</text>\n",
                LEFT, y_of(picture, list->min_tokens_per_s), WIDTH - RIGHT, WIDTH - RIGHT,
                y_of(picture, list->min_tokens_per_s) - 4);
    if (list->budget > 0 && list->budget < picture->price_max)
        fprintf(out,
                "<path d=\"M%.1f %dV%d\" stroke=\"#dc2626\" stroke-dasharray=\"5 4\"/>"
                "<text x=\"%.1f\" y=\"%d\" fill=\"#dc2626\" text-anchor=\"middle\">budget</text>\n",
                x_of(picture, list->budget), TOP, HEIGHT - BOTTOM, x_of(picture, list->budget), TOP - 4);
}

static void draw_heading(const struct picture *picture, const struct mb_machine_advice_list *list)
{
    static const enum mb_machine_class classes[] = {MB_CLASS_CPU, MB_CLASS_GPU, MB_CLASS_UNIFIED, MB_CLASS_DEDICATED};
    FILE *out = picture->out;
    double x = LEFT;
    fprintf(out, "<text x=\"%d\" y=\"26\" font-size=\"17\" font-weight=\"bold\">", LEFT);
    escape(out, list->model);
    if (list->quant) {
        fputs(", ", out);
        escape(out, list->quant);
    }
    fprintf(out, ": price against speed</text>\n");
    for (unsigned c = 0; c < MB_COUNT(classes); c++) {
        unsigned n = 0;
        for (unsigned i = 0; i < picture->n_points; i++)
            n += picture->points[i].row->machine_class == classes[c];
        if (!n)
            continue;
        const char *title = mb_class_title(classes[c]);
        fprintf(out, "<circle cx=\"%.1f\" cy=\"46\" r=\"5\" fill=\"%s\"/><text x=\"%.1f\" y=\"50\">%s</text>\n", x + 5,
                colours[classes[c]], x + 15, title);
        x += 15 + CHAR_WIDTH * (double)strlen(title) + 22;
    }
    fprintf(out,
            "<circle cx=\"%.1f\" cy=\"46\" r=\"4.5\" fill=\"#fff\" stroke=\"#6b7280\" stroke-width=\"1.5\"/>"
            "<text x=\"%.1f\" y=\"50\">does not meet every condition</text>\n",
            x + 5, x + 15);
    fprintf(out, "<text x=\"%d\" y=\"50\" text-anchor=\"end\">bold names: nothing cheaper is as fast</text>\n",
            WIDTH - RIGHT);
}

/* Beside its point, where it hits nothing; else the point keeps its name as a tooltip only. */
static void label(struct picture *picture, const struct point *point)
{
    double width = CHAR_WIDTH * (double)strlen(point->row->machine) * (point->best ? 1.1 : 1), height = TEXT + 2;
    const struct {
        double x, y;
        const char *anchor;
        double from;
    } places[] = {
        {point->x + 8, point->y + 4, "start", 0},  {point->x - 8, point->y + 4, "end", -1},
        {point->x, point->y - 9, "middle", -0.5},  {point->x, point->y + 17, "middle", -0.5},
        {point->x + 7, point->y - 8, "start", 0},  {point->x + 7, point->y + 16, "start", 0},
        {point->x - 7, point->y - 8, "end", -1},   {point->x - 7, point->y + 16, "end", -1},
        {point->x + 7, point->y - 20, "start", 0}, {point->x + 7, point->y + 28, "start", 0},
    };
    for (unsigned i = 0; i < MB_COUNT(places); i++) {
        double x0 = places[i].x + places[i].from * width;
        struct box box = {x0, places[i].y - height + 3, x0 + width, places[i].y + 3};
        if (hits(picture, &box))
            continue;
        take(picture, box);
        /* Twice: a white outline first, so that lines below do not run through the letters. */
        for (int halo = 1; halo >= 0; halo--) {
            fprintf(picture->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s%s>", places[i].x, places[i].y,
                    places[i].anchor, halo ? " fill=\"#fff\" stroke=\"#fff\" stroke-width=\"3\"" : "",
                    point->best ? " font-weight=\"bold\"" : "");
            escape(picture->out, point->row->machine);
            fputs("</text>\n", picture->out);
        }
        return;
    }
}

static void draw_points(struct picture *picture)
{
    for (unsigned i = 0; i < picture->n_points; i++) {
        const struct point *point = picture->points + i;
        const char *colour = colours[point->row->machine_class];
        fprintf(picture->out, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"%s\" stroke-opacity=\"0.3\" stroke-width=\"2\"/>\n",
                point->x, point->low, point->high, colour);
    }
    for (unsigned i = 0; i < picture->n_points; i++) {
        const struct point *point = picture->points + i;
        const char *colour = colours[point->row->machine_class];
        fprintf(picture->out,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\" fill=\"%s\" stroke=\"%s\" stroke-width=\"1.5\"><title>",
                point->x, point->y, point->row->fit.misses ? "#fff" : colour, colour);
        escape(picture->out, point->row->machine);
        fprintf(picture->out, ", %.0f, %.1f tok/s</title></circle>\n", point->row->price.amount,
                point->row->fit.decode.tokens_per_s);
    }
    for (int best = 1; best >= 0; best--) {
        for (unsigned i = 0; i < picture->n_points; i++) {
            if (picture->points[i].best == best)
                label(picture, picture->points + i);
        }
    }
}

int mb_machine_advice_svg(const struct mb_machine_advice_list *list, char **out, struct mb_err *err)
{
    char *text = NULL;
    size_t n = 0;
    struct picture *picture = calloc(1, sizeof *picture);
    if (!picture)
        return mb_fail_memory(err);
    collect(picture, list);
    if (!picture->n_points) {
        free(picture);
        return mb_fail(err, MB_ENODATA, "picture: no machine that runs this model has a price in %s", list->currency);
    }
    picture->out = open_memstream(&text, &n);
    if (!picture->out) {
        free(picture);
        return mb_fail_memory(err);
    }
    fprintf(picture->out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
            "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"%d\" fill=\"#111827\">\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, TEXT, WIDTH, HEIGHT);
    draw_axes(picture, list);
    draw_heading(picture, list);
    draw_points(picture);
    fputs("</svg>\n", picture->out);
    int bad = ferror(picture->out);
    bad |= fclose(picture->out) != 0;
    free(picture);
    if (bad) {
        free(text);
        return mb_fail_memory(err);
    }
    *out = text;
    return MB_OK;
}
