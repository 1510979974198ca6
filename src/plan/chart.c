/* SPDX-License-Identifier: MIT */
/* The SVG writer. One fixed layout: title above, plot to the left, legend to the right. Text from callers is escaped. Names take
 * the first of ten places around their point that covers nothing; widths of text are estimated. */
#include "plan/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 960, HEIGHT = 640, LEFT = 74, TOP = 64, PLOT_W = 640, PLOT_H = 510, N_COLOURS = 10, TICKS_MAX = 40 };
enum { NAME_SIZE = 11 }; /* pixels */

struct axis {
    double low, high;
    int log;
    double ticks[TICKS_MAX];
    unsigned n_ticks;
};

struct box {
    double x0, y0, x1, y1;
};

struct picture {
    FILE *out;
    const struct mb_chart *chart;
    struct axis x, y;
    struct box *taken; /* by marks, names and the legend */
    size_t n_taken;
};

static int visible(double value, int log_axis)
{
    return isfinite(value) && (!log_axis || value > 0);
}

static void cover(struct axis *axis, double value)
{
    if (!visible(value, axis->log))
        return;
    if (!(axis->low <= value))
        axis->low = value;
    if (!(axis->high >= value))
        axis->high = value;
}

static void tick(struct axis *axis, double value)
{
    if (axis->n_ticks < TICKS_MAX && value >= axis->low * (axis->low > 0 ? 0.9999 : 1.0001) && value <= axis->high * 1.0001)
        axis->ticks[axis->n_ticks++] = value;
}

/* Round the range outwards, and choose 1, 2 or 5 times powers of ten as ticks. */
static void finish_axis(struct axis *axis)
{
    if (axis->log) {
        axis->low /= 1.15;
        axis->high *= 1.15;
        if (axis->high / axis->low < 1.5)
            axis->high = axis->low * 1.5;
        int decades = (int)ceil(log10(axis->high / axis->low));
        for (double power = pow(10, floor(log10(axis->low))); power <= axis->high; power *= 10) {
            tick(axis, power);
            if (decades <= 4) {
                tick(axis, 2 * power);
                tick(axis, 5 * power);
            }
        }
        return;
    }
    if (axis->low > 0 && axis->low < 0.5 * axis->high)
        axis->low = 0;
    double span = axis->high - axis->low;
    if (!(span > 0))
        span = axis->high != 0 ? fabs(axis->high) : 1;
    double step = pow(10, floor(log10(span / 4)));
    step *= span / step > 20 ? 5 : span / step > 8 ? 2 : 1;
    axis->low = floor(axis->low / step) * step;
    axis->high = ceil((axis->low + span * 1.02) / step) * step;
    for (double value = axis->low; value <= axis->high + step / 2 && axis->n_ticks < TICKS_MAX; value += step)
        axis->ticks[axis->n_ticks++] = fabs(value) < step * 1e-9 ? 0 : value;
}

/* 0..1 along the axis. */
static double along(const struct axis *axis, double value)
{
    return axis->log ? log(value / axis->low) / log(axis->high / axis->low) : (value - axis->low) / (axis->high - axis->low);
}

static double px(const struct axis *axis, double value)
{
    return LEFT + PLOT_W * along(axis, value);
}

static double py(const struct axis *axis, double value)
{
    return TOP + PLOT_H * (1 - along(axis, value));
}

static void put_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        default:
            if ((unsigned char)*text >= 0x20)
                fputc(*text, out);
        }
    }
}

static void text_at(FILE *out, double x, double y, const char *class, const char *anchor, const char *text)
{
    fprintf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
    put_text(out, text);
    fputs("</text>\n", out);
}

/* Plain rules, said twice: viewers that are no browsers know neither variables nor media queries, and show the light ones. */
static void shades(FILE *out, const char *background, const char *ink, const char *dim, const char *grid)
{
    fprintf(out, ".bg,.h{fill:%s}.n{stroke:%s}.t,.l,.n{fill:%s}.s,.k{fill:%s}.g{stroke:%s}.d{stroke:%s}\n", background,
            background, ink, dim, grid, dim);
}

static void head(FILE *out)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
            "font-family=\"system-ui,sans-serif\">\n"
            "<style>\n"
            ".t{font-size:18px;font-weight:600}.s,.l{font-size:13px}.k{font-size:12px}.g{stroke-width:1}\n"
            ".d,.m{stroke-width:1.2;stroke-dasharray:5 4}.m{stroke:#d64550}.w{fill:#d64550;font-size:%dpx}\n"
            ".n{font-size:%dpx;paint-order:stroke;stroke-width:3px;stroke-linejoin:round}.e{font-weight:600}\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, NAME_SIZE, NAME_SIZE);
    /* Mid-tone hues, told apart on both backgrounds; marks differ, too, for those who see colours alike. */
    static const char *const colours[N_COLOURS] = {"#2f7ed8", "#e0702b", "#2ca25f", "#c0489c", "#8567d6",
                                                   "#b8860b", "#1ba3a8", "#d64550", "#7a8794", "#6b8e23"};
    for (unsigned i = 0; i < N_COLOURS; i++)
        fprintf(out, ".c%u{stroke:%s;fill:%s;fill-opacity:.5}\n", i, colours[i], colours[i]);
    fputs(".b{stroke-width:2;stroke-opacity:.4}.h{fill-opacity:1}\n", out);
    shades(out, "#ffffff", "#1c2430", "#5d6875", "#e3e7ec");
    fputs("@media(prefers-color-scheme:dark){\n", out);
    shades(out, "#14181e", "#e6ebf1", "#9aa6b4", "#2a323c");
    fprintf(out, "}\n</style>\n<rect class=\"bg\" width=\"%d\" height=\"%d\"/>\n", WIDTH, HEIGHT);
}

static void line(FILE *out, const char *class, double x0, double y0, double x1, double y1)
{
    fprintf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x0, y0, x1, y1);
}

static void mark(FILE *out, unsigned series, double x, double y, double r, int hollow, const char *label)
{
    fprintf(out, "<path class=\"c%u%s\" d=\"", series % N_COLOURS, hollow ? " h" : "");
    switch (series / N_COLOURS % 4) {
    case 0: fprintf(out, "M%.1f %.1fa%.1f %.1f 0 1 0 %.1f 0a%.1f %.1f 0 1 0 -%.1f 0z", x - r, y, r, r, 2 * r, r, r, 2 * r); break;
    case 1: fprintf(out, "M%.1f %.1fh%.1fv%.1fh-%.1fz", x - r, y - r, 2 * r, 2 * r, 2 * r); break;
    case 2: fprintf(out, "M%.1f %.1fl%.1f %.1fh-%.1fz", x, y - r, r, 2 * r, 2 * r); break;
    default: fprintf(out, "M%.1f %.1fl%.1f %.1fl-%.1f %.1fl-%.1f -%.1fz", x, y - r, r, r, r, r, r, r);
    }
    fputs("\">", out);
    if (label) {
        fputs("<title>", out);
        put_text(out, label);
        fputs("</title>", out);
    }
    fputs("</path>\n", out);
}

static void take(struct picture *picture, double x0, double y0, double x1, double y1)
{
    picture->taken[picture->n_taken++] = (struct box){x0, y0, x1, y1};
}

static int is_free(const struct picture *picture, const struct box *box)
{
    if (box->x0 < LEFT || box->x1 > WIDTH - 4 || box->y0 < TOP || box->y1 > TOP + PLOT_H)
        return 0;
    for (size_t i = 0; i < picture->n_taken; i++) {
        const struct box *other = &picture->taken[i];
        if (box->x0 < other->x1 && other->x0 < box->x1 && box->y0 < other->y1 && other->y0 < box->y1)
            return 0;
    }
    return 1;
}

/* Sans-serif letters are 0.5 to 0.6 of their size wide on average. */
static double text_width(const char *text, int bold)
{
    return NAME_SIZE * (bold ? 0.64 : 0.58) * (double)strlen(text);
}

static void name_point(struct picture *picture, const struct mb_chart_point *point)
{
    static const struct {
        double x, y;
        const char *anchor;
        double from; /* the left end, in widths of the text */
    } places[] = {{8, 4, "start", 0},  {-8, 4, "end", -1},  {0, -9, "middle", -.5}, {0, 17, "middle", -.5}, {7, -8, "start", 0},
                  {7, 16, "start", 0}, {-7, -8, "end", -1}, {-7, 16, "end", -1},    {7, -20, "start", 0},   {7, 28, "start", 0}};
    double width = text_width(point->name, point->emphasis);
    for (unsigned i = 0; i < MB_COUNT(places); i++) {
        double x = px(&picture->x, point->x) + places[i].x, y = py(&picture->y, point->y) + places[i].y;
        double left = x + places[i].from * width;
        struct box box = {left, y - NAME_SIZE + 1, left + width, y + 3};
        if (!is_free(picture, &box))
            continue;
        take(picture, box.x0, box.y0, box.x1, box.y1);
        text_at(picture->out, x, y, point->emphasis ? "n e" : "n", places[i].anchor, point->name);
        return;
    }
}

static void draw_axes(struct picture *picture)
{
    const struct mb_chart *chart = picture->chart;
    const struct axis *x = &picture->x, *y = &picture->y;
    FILE *out = picture->out;
    char label[32];
    for (unsigned i = 0; i < x->n_ticks; i++) {
        double at = px(x, x->ticks[i]);
        line(out, "g", at, TOP, at, TOP + PLOT_H);
        snprintf(label, sizeof label, "%g", x->ticks[i]);
        text_at(out, at, TOP + PLOT_H + 18, "k", "middle", label);
    }
    for (unsigned i = 0; i < y->n_ticks; i++) {
        double at = py(y, y->ticks[i]);
        line(out, "g", LEFT, at, LEFT + PLOT_W, at);
        snprintf(label, sizeof label, "%g", y->ticks[i]);
        text_at(out, LEFT - 8, at + 4, "k", "end", label);
    }
    text_at(out, LEFT + PLOT_W / 2.0, HEIGHT - 14, "l", "middle", chart->x_label);
    fprintf(out, "<g transform=\"translate(20 %d) rotate(-90)\">", TOP + PLOT_H / 2);
    text_at(out, 0, 0, "l", "middle", chart->y_label);
    fputs("</g>\n", out);
    if (chart->same_axes)
        line(out, "d", LEFT, TOP + PLOT_H, LEFT + PLOT_W, TOP);
    if (chart->x_limit.name && chart->x_limit.at > x->low && chart->x_limit.at < x->high) {
        double at = px(x, chart->x_limit.at);
        line(out, "m", at, TOP, at, TOP + PLOT_H);
        text_at(out, at, TOP - 4, "w", "middle", chart->x_limit.name);
    }
    if (chart->y_limit.name && chart->y_limit.at > y->low && chart->y_limit.at < y->high) {
        double at = py(y, chart->y_limit.at), right = LEFT + PLOT_W;
        line(out, "m", LEFT, at, right, at);
        text_at(out, right, at - 4, "w", "end", chart->y_limit.name);
        take(picture, right - text_width(chart->y_limit.name, 0), at - 4 - NAME_SIZE, right, at);
    }
}

static void draw_legend(struct picture *picture)
{
    const struct mb_chart *chart = picture->chart;
    unsigned n = 0, rows = 0;
    for (unsigned i = 0; i < chart->n_series; i++)
        n += chart->series[i].n_points > 0;
    double pitch = n > 25 ? (double)PLOT_H / n : 20, left = LEFT + PLOT_W + 24;
    for (unsigned i = 0; i < chart->n_series; i++) {
        if (!chart->series[i].n_points)
            continue;
        double y = TOP + 10 + pitch * rows++;
        mark(picture->out, i, left, y, 4.5, 0, NULL);
        text_at(picture->out, left + 12, y + 4, "k", "start", chart->series[i].name);
    }
    take(picture, left - 10, TOP, WIDTH, TOP + pitch * n);
}

/* What `draw` does with each point that the axes can show: bars lie below all marks, marks below all names. */
static void each_point(struct picture *picture, void (*draw)(struct picture *, unsigned series, const struct mb_chart_point *))
{
    for (unsigned s = 0; s < picture->chart->n_series; s++) {
        const struct mb_chart_series *series = &picture->chart->series[s];
        for (unsigned i = 0; i < series->n_points; i++) {
            if (visible(series->points[i].x, picture->x.log) && visible(series->points[i].y, picture->y.log))
                draw(picture, s, &series->points[i]);
        }
    }
}

static void cover_point(struct picture *picture, unsigned series, const struct mb_chart_point *point)
{
    (void)series;
    cover(&picture->x, point->x);
    cover(&picture->y, point->y);
    if (point->low < point->high) {
        cover(&picture->y, point->low);
        cover(&picture->y, point->high);
    }
}

static void draw_bar(struct picture *picture, unsigned series, const struct mb_chart_point *point)
{
    if (!(point->low < point->high) || !visible(point->low, picture->y.log) || !visible(point->high, picture->y.log))
        return;
    char class[16];
    double x = px(&picture->x, point->x);
    snprintf(class, sizeof class, "c%u b", series % N_COLOURS);
    line(picture->out, class, x, py(&picture->y, point->low), x, py(&picture->y, point->high));
}

static void draw_mark(struct picture *picture, unsigned series, const struct mb_chart_point *point)
{
    double x = px(&picture->x, point->x), y = py(&picture->y, point->y);
    mark(picture->out, series, x, y, point->emphasis ? 5 : 4, point->hollow, point->label);
    take(picture, x - 5, y - 5, x + 5, y + 5);
}

static void draw_bold_name(struct picture *picture, unsigned series, const struct mb_chart_point *point)
{
    (void)series;
    if (point->name && point->emphasis)
        name_point(picture, point);
}

static void draw_plain_name(struct picture *picture, unsigned series, const struct mb_chart_point *point)
{
    (void)series;
    if (point->name && !point->emphasis)
        name_point(picture, point);
}

int mb_chart_svg(const struct mb_chart *chart, char **out, struct mb_err *err)
{
    struct picture picture = {.chart = chart, .x = {.low = NAN, .high = NAN, .log = chart->log_x},
                              .y = {.low = NAN, .high = NAN, .log = chart->log_y}};
    struct axis *x = &picture.x, *y = &picture.y;
    char *text = NULL;
    size_t n = 0, boxes = 2; /* the legend, and the name of a limit */
    if (chart->n_series > MB_CHART_SERIES_MAX)
        return mb_fail(err, MB_EINVAL, "chart: %u series; at most %d can be told apart", chart->n_series, MB_CHART_SERIES_MAX);
    for (unsigned s = 0; s < chart->n_series; s++)
        boxes += (size_t)chart->series[s].n_points * 2;
    each_point(&picture, cover_point);
    if (isnan(x->low))
        return mb_fail(err, MB_EINVAL, "chart: there is no point to show");
    if (chart->same_axes) {
        x->low = y->low = fmin(x->low, y->low);
        x->high = y->high = fmax(x->high, y->high);
    }
    finish_axis(x);
    finish_axis(y);
    picture.taken = calloc(boxes, sizeof *picture.taken);
    picture.out = picture.taken ? open_memstream(&text, &n) : NULL;
    if (!picture.out) {
        free(picture.taken);
        return mb_fail_memory(err);
    }
    head(picture.out);
    text_at(picture.out, LEFT, 28, "t", "start", chart->title);
    if (chart->subtitle)
        text_at(picture.out, LEFT, 48, "s", "start", chart->subtitle);
    draw_axes(&picture);
    draw_legend(&picture);
    each_point(&picture, draw_bar);
    each_point(&picture, draw_mark);
    each_point(&picture, draw_bold_name);
    each_point(&picture, draw_plain_name);
    fputs("</svg>\n", picture.out);
    int failed = ferror(picture.out);
    failed |= fclose(picture.out) != 0;
    free(picture.taken);
    if (failed) {
        free(text);
        return mb_fail_memory(err);
    }
    *out = text;
    return MB_OK;
}
