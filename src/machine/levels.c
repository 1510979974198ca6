/* SPDX-License-Identifier: MIT */
/* Finds the levels in a series: exact one-dimensional clustering by dynamic programming, and the rule that tells levels
 * from noise (levels.h). Assumes nothing about how the samples were taken. */
#include "machine/levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS_MAX = 4 };
#define CLIP_SHARE 0.04
#define APART_MIN 0.0769610411361284 /* log(1.08) */
#define DEVIATIONS_MIN 6.0

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void mb_sort(double *values, unsigned n)
{
    qsort(values, n, sizeof *values, compare);
}

double mb_quantile(const double *ascending, unsigned n, double q)
{
    double at = q * (n - 1);
    unsigned below = (unsigned)at;
    if (below + 1 >= n)
        return ascending[n - 1];
    return ascending[below] + (at - below) * (ascending[below + 1] - ascending[below]);
}

/* Prefix sums of the clipped logarithms and of their squares: [n + 1] each. */
struct sums {
    double *first, *second;
};

/* Sum of squares about the mean of the values i <= . < j; never below 0 by rounding. */
static double scatter(const struct sums *sums, unsigned i, unsigned j)
{
    double sum = sums->first[j] - sums->first[i];
    return fmax(0, sums->second[j] - sums->second[i] - sum * sum / (j - i));
}

static double mean(const struct sums *sums, unsigned i, unsigned j)
{
    return (sums->first[j] - sums->first[i]) / (j - i);
}

/* Best partitions of every prefix: cost[k][j] of the first j values in k intervals of at least `least` values, the last of which
 * begins at start[k][j]. */
struct partitions {
    double *cost[LEVELS_MAX + 1];
    unsigned *start[LEVELS_MAX + 1];
};

static void partition(const struct sums *sums, unsigned n, unsigned least, struct partitions *best)
{
    for (unsigned k = 1; k <= LEVELS_MAX; k++)
        for (unsigned j = 0; j <= n; j++) {
            best->cost[k][j] = INFINITY;
            if (j < k * least)
                continue;
            if (k == 1) {
                best->cost[k][j] = scatter(sums, 0, j);
                continue;
            }
            for (unsigned i = (k - 1) * least; i + least <= j; i++) {
                double cost = best->cost[k - 1][i] + scatter(sums, i, j);
                if (cost < best->cost[k][j]) {
                    best->cost[k][j] = cost;
                    best->start[k][j] = i;
                }
            }
        }
}

/* Are the k intervals between cuts[0] = 0 and cuts[k] = n levels, or pieces of one? */
static int are_levels(const struct sums *sums, const unsigned *cuts, unsigned k)
{
    for (unsigned i = 0; i + 1 < k; i++) {
        unsigned a = cuts[i], b = cuts[i + 1], c = cuts[i + 2];
        double apart = mean(sums, b, c) - mean(sums, a, b);
        double wider = fmax(scatter(sums, a, b) / (b - a), scatter(sums, b, c) / (c - b));
        if (apart < APART_MIN || apart < DEVIATIONS_MIN * sqrt(wider))
            return 0;
    }
    return 1;
}

/* Choose k and its cuts [k + 1] for n ascending values. Returns k; 0: out of memory. */
static unsigned choose_cuts(const double *ascending, unsigned n, unsigned *cuts)
{
    unsigned least = (unsigned)ceil(MB_LEVEL_SHARE_MIN * n), clip = (unsigned)(CLIP_SHARE * n), k;
    if (least < 3)
        least = 3;
    cuts[0] = 0;
    cuts[1] = n;
    if (n < MB_LEVEL_SAMPLES_MIN)
        return 1;
    double *numbers = calloc((size_t)(n + 1) * (2 + LEVELS_MAX), sizeof *numbers);
    unsigned *starts = calloc((size_t)(n + 1) * LEVELS_MAX, sizeof *starts);
    if (!numbers || !starts) {
        free(numbers);
        free(starts);
        return 0;
    }
    struct sums sums = {numbers, numbers + n + 1};
    struct partitions best;
    for (k = 1; k <= LEVELS_MAX; k++) {
        best.cost[k] = numbers + (size_t)(n + 1) * (k + 1);
        best.start[k] = starts + (size_t)(n + 1) * (k - 1);
    }
    /* About the middle value, lest the squares of large logarithms swallow small differences. */
    for (unsigned i = 0; i < n; i++) {
        double clipped = fmin(fmax(ascending[i], ascending[clip]), ascending[n - 1 - clip]);
        double x = log(clipped / ascending[n / 2]);
        sums.first[i + 1] = sums.first[i] + x;
        sums.second[i + 1] = sums.second[i] + x * x;
    }
    partition(&sums, n, least, &best);
    for (k = LEVELS_MAX; k > 1; k--) {
        if (n < k * least)
            continue;
        cuts[k] = n;
        for (unsigned i = k; i > 1; i--)
            cuts[i - 1] = best.start[i][cuts[i]];
        if (are_levels(&sums, cuts, k))
            break;
    }
    cuts[k] = n;
    free(numbers);
    free(starts);
    return k;
}

static unsigned level_that_holds(const struct mb_levels *levels)
{
    double largest = 0;
    for (unsigned i = 0; i < levels->n; i++)
        largest = fmax(largest, levels->level[i].share);
    /* Slowest first; the margin is for shares that are 10 points apart but for rounding. */
    for (unsigned i = 0; i < levels->n; i++)
        if (levels->level[i].share >= largest - 0.1 - 1e-9)
            return i;
    return 0;
}

int mb_levels_find(const double *samples, unsigned n, struct mb_levels *out)
{
    if (!n || n > MB_LEVEL_SAMPLES_MAX)
        return MB_EINVAL;
    for (unsigned i = 0; i < n; i++)
        if (!isfinite(samples[i]) || samples[i] <= 0)
            return MB_EINVAL;
    double *ascending = malloc(n * sizeof *ascending);
    if (!ascending)
        return MB_ENOMEM;
    memcpy(ascending, samples, n * sizeof *ascending);
    mb_sort(ascending, n);
    unsigned cuts[LEVELS_MAX + 1];
    unsigned k = choose_cuts(ascending, n, cuts);
    if (k) {
        *out = (struct mb_levels){.n = k, .min = ascending[0], .max = ascending[n - 1]};
        out->median = mb_quantile(ascending, n, 0.5);
        out->spread = (mb_quantile(ascending, n, 0.9) - mb_quantile(ascending, n, 0.1)) / out->median;
        for (unsigned i = 0; i < k; i++) {
            unsigned size = cuts[i + 1] - cuts[i];
            out->level[i] = (struct mb_level){mb_quantile(ascending + cuts[i], size, 0.5), (double)size / n};
        }
        out->holds = level_that_holds(out);
    }
    free(ascending);
    return k ? MB_OK : MB_ENOMEM;
}
