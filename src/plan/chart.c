/* SPDX-License-Identifier: MIT */
/* The SVG writer. One fixed layout: title above, plot to the left, legend to the right. Text from callers is escaped. */
#include "plan/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 960, HEIGHT = 640, LEFT = 74, TOP = 64, PLOT_W = 640, PLOT_H = 510, N_COLOURS = 10, TICKS_MAX = 40 };

struct axis {
    double low, high;
    int log;
    double ticks[TICKS_MAX];
    unsigned n_ticks;
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

static void head(FILE *out)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n"
            "<style>\n"
            "svg{--bg:#ffffff;--ink:#1c2430;--dim:#5d6875;--grid:#e3e7ec;font-family:system-ui,sans-serif}\n"
            "@media(prefers-color-scheme:dark){svg{--bg:#14181e;--ink:#e6ebf1;--dim:#9aa6b4;--grid:#2a323c}}\n"
            ".bg{fill:var(--bg)}.t{fill:var(--ink);font-size:18px;font-weight:600}.s{fill:var(--dim);font-size:13px}\n"
            ".l{fill:var(--ink);font-size:13px}.k{fill:var(--dim);font-size:12px}.g{stroke:var(--grid);stroke-width:1}\n"
            ".d{stroke:var(--dim);stroke-width:1.2;stroke-dasharray:5 4}.p{fill:none;stroke-width:1.8}\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    /* Mid-tone hues, told apart on both backgrounds; marks differ, too, for those who see colours alike. */
    static const char *const colours[N_COLOURS] = {"#2f7ed8", "#e0702b", "#2ca25f", "#c0489c", "#8567d6",
                                                   "#b8860b", "#1ba3a8", "#d64550", "#7a8794", "#6b8e23"};
    for (unsigned i = 0; i < N_COLOURS; i++)
        fprintf(out, ".c%u{stroke:%s;fill:%s;fill-opacity:.35}.c%u.p{fill:none}\n", i, colours[i], colours[i], i);
    fprintf(out, "</style>\n<rect class=\"bg\" width=\"%d\" height=\"%d\"/>\n", WIDTH, HEIGHT);
}

static void mark(FILE *out, unsigned series, double x, double y, double r)
{
    unsigned colour = series % N_COLOURS;
    switch (series / N_COLOURS % 4) {
    case 0: fprintf(out, "<circle class=\"c%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\">", colour, x, y, r); return;
    case 1:
        fprintf(out, "<path class=\"c%u\" d=\"M%.1f %.1fh%.1fv%.1fh-%.1fz\">", colour, x - r, y - r, 2 * r, 2 * r, 2 * r);
        return;
    case 2:
        fprintf(out, "<path class=\"c%u\" d=\"M%.1f %.1fl%.1f %.1fh-%.1fz\">", colour, x, y - r, r, 2 * r, 2 * r);
        return;
    default:
        fprintf(out, "<path class=\"c%u\" d=\"M%.1f %.1fl%.1f %.1fl-%.1f %.1fl-%.1f -%.1fz\">", colour, x, y - r, r, r, r, r, r, r);
    }
}

static void axes(FILE *out, const struct mb_chart *chart, const struct axis *x, const struct axis *y)
{
    char label[32];
    for (unsigned i = 0; i < x->n_ticks; i++) {
        double at = px(x, x->ticks[i]);
        fprintf(out, "<line class=\"g\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n", at, TOP, at, TOP + PLOT_H);
        snprintf(label, sizeof label, "%g", x->ticks[i]);
        text_at(out, at, TOP + PLOT_H + 18, "k", "middle", label);
    }
    for (unsigned i = 0; i < y->n_ticks; i++) {
        double at = py(y, y->ticks[i]);
        fprintf(out, "<line class=\"g\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n", LEFT, at, LEFT + PLOT_W, at);
        snprintf(label, sizeof label, "%g", y->ticks[i]);
        text_at(out, LEFT - 8, at + 4, "k", "end", label);
    }
    text_at(out, LEFT + PLOT_W / 2.0, HEIGHT - 14, "l", "middle", chart->x_label);
    fprintf(out, "<g transform=\"translate(20 %d) rotate(-90)\">", TOP + PLOT_H / 2);
    text_at(out, 0, 0, "l", "middle", chart->y_label);
    fputs("</g>\n", out);
    if (chart->same_axes)
        fprintf(out, "<line class=\"d\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", LEFT, TOP + PLOT_H, LEFT + PLOT_W, TOP);
}

static void draw_series(FILE *out, const struct mb_chart_series *series, unsigned index, const struct axis *x,
                        const struct axis *y)
{
    int first = 1;
    if (series->line)
        fprintf(out, "<path class=\"c%u p\" d=\"", index % N_COLOURS);
    for (unsigned i = 0; i < series->n_points; i++) {
        const struct mb_chart_point *point = &series->points[i];
        if (!visible(point->x, x->log) || !visible(point->y, y->log))
            continue;
        double at_x = px(x, point->x), at_y = py(y, point->y);
        if (series->line) {
            fprintf(out, "%s%.1f %.1f", first ? "M" : "L", at_x, at_y);
            first = 0;
            continue;
        }
        mark(out, index, at_x, at_y, series->emphasis ? 6 : 4);
        if (point->label) {
            fputs("<title>", out);
            put_text(out, point->label);
            fputs("</title>", out);
        }
        fputs(series->n_points && index / N_COLOURS % 4 == 0 ? "</circle>\n" : "</path>\n", out);
        if (series->emphasis && point->label)
            text_at(out, at_x + 9, at_y + 4, "k", "start", point->label);
    }
    if (series->line)
        fputs("\"/>\n", out);
}

static void legend(FILE *out, const struct mb_chart *chart)
{
    unsigned n = 0, rows = 0;
    for (unsigned i = 0; i < chart->n_series; i++)
        n += chart->series[i].name != NULL;
    double pitch = n > 25 ? (double)PLOT_H / n : 20;
    for (unsigned i = 0; i < chart->n_series; i++) {
        if (!chart->series[i].name)
            continue;
        double y = TOP + 10 + pitch * rows++;
        mark(out, i, LEFT + PLOT_W + 24, y, 4.5);
        fputs(i / N_COLOURS % 4 == 0 ? "</circle>\n" : "</path>\n", out);
        text_at(out, LEFT + PLOT_W + 36, y + 4, "k", "start", chart->series[i].name);
    }
}

int mb_chart_svg(const struct mb_chart *chart, char **out, struct mb_err *err)
{
    struct axis x = {.low = NAN, .high = NAN, .log = chart->log_x}, y = {.low = NAN, .high = NAN, .log = chart->log_y};
    char *text = NULL;
    size_t n = 0;
    if (chart->n_series > MB_CHART_SERIES_MAX)
        return mb_fail(err, MB_EINVAL, "chart: %u series; at most %d can be told apart", chart->n_series, MB_CHART_SERIES_MAX);
    for (unsigned s = 0; s < chart->n_series; s++) {
        for (unsigned i = 0; i < chart->series[s].n_points; i++) {
            const struct mb_chart_point *point = &chart->series[s].points[i];
            if (!visible(point->x, x.log) || !visible(point->y, y.log))
                continue;
            cover(&x, point->x);
            cover(&y, point->y);
        }
    }
    if (isnan(x.low))
        return mb_fail(err, MB_EINVAL, "chart: there is no point to show");
    if (chart->same_axes) {
        x.low = y.low = fmin(x.low, y.low);
        x.high = y.high = fmax(x.high, y.high);
    }
    finish_axis(&x);
    finish_axis(&y);
    FILE *stream = open_memstream(&text, &n);
    if (!stream)
        return mb_fail_memory(err);
    head(stream);
    text_at(stream, LEFT, 28, "t", "start", chart->title);
    if (chart->subtitle)
        text_at(stream, LEFT, 48, "s", "start", chart->subtitle);
    axes(stream, chart, &x, &y);
    for (unsigned s = 0; s < chart->n_series; s++)
        draw_series(stream, &chart->series[s], s, &x, &y);
    legend(stream, chart);
    fputs("</svg>\n", stream);
    int failed = ferror(stream);
    if (fclose(stream) || failed) {
        free(text);
        return mb_fail_memory(err);
    }
    *out = text;
    return MB_OK;
}
