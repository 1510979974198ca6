/* SPDX-License-Identifier: MIT */
/* Charts of points as SVG text: linear or logarithmic axes, a colour and a mark for each series, names beside points, a legend.
 * Colours suit light and dark backgrounds, which the picture follows by itself. Internal to src/plan; it knows nothing about
 * models. */
#ifndef MB_CHART_H
#define MB_CHART_H

#include "base/base.h"

struct mb_chart_point {
    double x, y;
    double low, high;  /* ends of a bar through the point, if low < high */
    const char *label; /* shown when the mouse rests on the point; may be NULL */
    const char *name;  /* stands beside the point if it finds a place where it covers no mark and no other name; may be NULL */
    int emphasis;      /* a larger mark; the name is bold and chooses its place first */
    int hollow;
};

struct mb_chart_series {
    const char *name; /* in the legend, if there are points */
    const struct mb_chart_point *points;
    unsigned n_points;
};

struct mb_chart_limit {
    double at;
    const char *name; /* NULL: no limit */
};

enum { MB_CHART_SERIES_MAX = 40 };

struct mb_chart {
    const char *title, *subtitle; /* subtitle may be NULL */
    const char *x_label, *y_label;
    int log_x, log_y;
    int same_axes; /* both axes have the same range, and a diagonal says where x = y */
    struct mb_chart_limit x_limit, y_limit; /* dashed lines; left out where the points do not reach them */
    const struct mb_chart_series *series;
    unsigned n_series; /* at most MB_CHART_SERIES_MAX */
};

/* The chart as SVG; free with mb_text_free(). Points that an axis can't show (not finite; zero or less on a logarithmic one) are
 * left out. Each name is compared with all marks and names: meant for hundreds of names, not for thousands. Returns MB_OK;
 * MB_EINVAL: no point can be shown, or too many series; MB_ENOMEM. */
int mb_chart_svg(const struct mb_chart *chart, char **out, struct mb_err *err);

#endif
