/* SPDX-License-Identifier: MIT */
/* Charts of points as SVG text: linear or logarithmic axes, a colour and a mark for each series, a legend. Colours suit light
 * and dark backgrounds, which the picture follows by itself. Internal to src/plan; it knows nothing about models. */
#ifndef MB_CHART_H
#define MB_CHART_H

#include "base/base.h"

struct mb_chart_point {
    double x, y;
    const char *label; /* shown when the mouse rests on the point; may be NULL */
};

struct mb_chart_series {
    const char *name; /* in the legend; NULL: not there */
    const struct mb_chart_point *points;
    unsigned n_points;
    int line;     /* join the points instead of marking them */
    int emphasis; /* marks are larger and named beside the point */
};

enum { MB_CHART_SERIES_MAX = 40 };

struct mb_chart {
    const char *title, *subtitle; /* subtitle may be NULL */
    const char *x_label, *y_label;
    int log_x, log_y;
    int same_axes; /* both axes have the same range, and a diagonal says where x = y */
    const struct mb_chart_series *series;
    unsigned n_series; /* at most MB_CHART_SERIES_MAX */
};

/* The chart as SVG; free with mb_text_free(). Points that an axis can't show (not finite; zero or less on a logarithmic one) are
 * left out. Returns MB_OK; MB_EINVAL: no point can be shown, or too many series; MB_ENOMEM. */
int mb_chart_svg(const struct mb_chart *chart, char **out, struct mb_err *err);

#endif
