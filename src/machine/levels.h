/* SPDX-License-Identifier: MIT */
/* The levels of bandwidth in a series of samples. A virtual machine jumps between two or three of them when its host
 * moves the virtual CPUs, and neither mean nor median of such a series is a speed that the machine ever has. Internal; pure. */
#ifndef MB_LEVELS_H
#define MB_LEVELS_H

#include "base/base.h"

/* A share of the samples below this is no level but disturbance. */
#define MB_LEVEL_SHARE_MIN 0.05
/* Fewer samples than this are one level: clumps by chance look like levels. */
#define MB_LEVEL_SAMPLES_MIN 12
#define MB_LEVEL_SAMPLES_MAX 4096

struct mb_levels {
    struct mb_level level[4]; /* slowest first; the shares add up to 1 */
    unsigned n;
    unsigned holds; /* index of the level that a plan should count on */
    double median, min, max;
    double spread; /* (p90 - p10) / median */
};

/* Find the levels of n positive samples, in any order.
 * Works on logarithms, so that noise of 3 % is the same at each level. The lowest and the highest 4 % are pulled in to their
 * neighbours, since they are too few to be a level and must not stretch one. Then the best partition into k intervals (least
 * sum of squares, found exactly) is tried for k = 4, 3, 2, and the first one is taken in which
 *   - each interval holds at least 5 % of the samples, and 3 of them;
 *   - neighbouring means lie at least 8 % apart;
 *   - and at least 6 standard deviations of the wider of the two.
 * Else all is one level. Halves of one even distribution are 3.5 deviations apart, of a normal one 2.7; with 6 and 12 samples or
 * more, noise is split in at most 2 % of series (tests/unit/levels.c checks it).
 * The level that holds is the one with the largest share; of levels within 10 percentage points of that, the slowest.
 * Returns MB_OK; MB_EINVAL: no samples, more than MB_LEVEL_SAMPLES_MAX, or one that is not positive and finite; MB_ENOMEM. */
int mb_levels_find(const double *samples, unsigned n, struct mb_levels *out);

/* The q-quantile (0..1) of n >= 1 ascending values, interpolated. */
double mb_quantile(const double *ascending, unsigned n, double q);

/* Sort n values ascending. */
void mb_sort(double *values, unsigned n);

#endif
