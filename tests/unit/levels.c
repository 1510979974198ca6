/* SPDX-License-Identifier: MIT */
/* Suite for src/machine/levels.c: synthetic series whose levels are known. */
#include "machine/levels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static uint64_t seed;

static double uniform(void)
{
    seed += 0x9e3779b97f4a7c15u;
    uint64_t x = seed;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return ((double)((x ^ (x >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static int setup(void **state)
{
    (void)state;
    seed = 1;
    return 0;
}

static void noise_is_one_level(void **state)
{
    (void)state;
    double x[200];
    struct mb_levels levels;
    for (unsigned i = 0; i < 200; i++)
        x[i] = 50e9 * (1 + 0.03 * normal());
    assert_int_equal(mb_levels_find(x, 200, &levels), MB_OK);
    assert_int_equal(levels.n, 1);
    assert_int_equal(levels.holds, 0);
    assert_true(fabs(levels.level[0].bytes_per_s / 50e9 - 1) < 0.01);
    assert_true(levels.level[0].share == 1);
    assert_true(levels.level[0].bytes_per_s == levels.median);
    /* p10 and p90 of a normal distribution lie 2.56 deviations apart. */
    assert_true(fabs(levels.spread - 2.563 * 0.03) < 0.02);
    assert_true(levels.min < levels.median && levels.median < levels.max);
}

static void two_levels(void **state)
{
    (void)state;
    double x[200];
    struct mb_levels levels;
    for (unsigned i = 0; i < 200; i++)
        x[i] = (i % 10 < 3 ? 34e9 : 60e9) * (1 + 0.03 * normal());
    assert_int_equal(mb_levels_find(x, 200, &levels), MB_OK);
    assert_int_equal(levels.n, 2);
    assert_true(fabs(levels.level[0].bytes_per_s / 34e9 - 1) < 0.02);
    assert_true(fabs(levels.level[1].bytes_per_s / 60e9 - 1) < 0.02);
    assert_true(fabs(levels.level[0].share - 0.3) < 1e-9);
    assert_true(fabs(levels.level[1].share - 0.7) < 1e-9);
    assert_int_equal(levels.holds, 1);
}

/* The larger share holds, unless the slower level comes within 10 points of it. */
static void a_near_tie_holds_at_the_lower_level(void **state)
{
    (void)state;
    static const struct {
        unsigned slow; /* of 100 */
        unsigned holds;
    } rows[] = {{30, 1}, {44, 1}, {45, 0}, {50, 0}, {55, 0}, {70, 0}};
    for (unsigned r = 0; r < MB_COUNT(rows); r++) {
        double x[100];
        struct mb_levels levels;
        for (unsigned i = 0; i < 100; i++)
            x[i] = (i < rows[r].slow ? 34e9 : 60e9) * (1 + 0.02 * normal());
        assert_int_equal(mb_levels_find(x, 100, &levels), MB_OK);
        assert_int_equal(levels.n, 2);
        assert_int_equal(levels.holds, rows[r].holds);
    }
}

static void four_levels(void **state)
{
    (void)state;
    static const double at[] = {20e9, 30e9, 45e9, 67e9};
    double x[120];
    struct mb_levels levels;
    for (unsigned i = 0; i < 120; i++)
        x[i] = at[i % 4] * (1 + 0.03 * normal());
    assert_int_equal(mb_levels_find(x, 120, &levels), MB_OK);
    assert_int_equal(levels.n, 4);
    for (unsigned k = 0; k < 4; k++)
        assert_true(fabs(levels.level[k].bytes_per_s / at[k] - 1) < 0.03);
    assert_int_equal(levels.holds, 0);
}

static void a_drift_is_one_level_with_a_wide_spread(void **state)
{
    (void)state;
    double x[200];
    struct mb_levels levels;
    for (unsigned i = 0; i < 200; i++)
        x[i] = (34e9 + 26e9 * i / 199) * (1 + 0.02 * normal());
    assert_int_equal(mb_levels_find(x, 200, &levels), MB_OK);
    assert_int_equal(levels.n, 1);
    assert_true(levels.spread > 0.3);
}

static void outliers_are_no_level(void **state)
{
    (void)state;
    double x[100];
    struct mb_levels levels;
    for (unsigned i = 0; i < 100; i++)
        x[i] = 50e9 * (1 + 0.03 * normal());
    x[17] = 5e9;
    assert_int_equal(mb_levels_find(x, 100, &levels), MB_OK);
    assert_int_equal(levels.n, 1);
    assert_true(levels.min == 5e9);
    assert_true(fabs(levels.level[0].bytes_per_s / 50e9 - 1) < 0.01);
    /* Nor do they hide two levels: the hypervisor took the CPU away in three samples. */
    for (unsigned i = 0; i < 100; i++)
        x[i] = (i % 10 < 3 ? 34e9 : 60e9) * (1 + 0.03 * normal());
    x[17] = x[38] = 5e9;
    x[59] = 3e9;
    assert_int_equal(mb_levels_find(x, 100, &levels), MB_OK);
    assert_int_equal(levels.n, 2);
    assert_int_equal(levels.holds, 1);
}

static void few_samples(void **state)
{
    (void)state;
    double x[MB_LEVEL_SAMPLES_MIN] = {34e9, 34e9, 34e9, 60e9, 60e9, 60e9, 60e9, 60e9, 60e9, 60e9, 60e9, 60e9};
    struct mb_levels levels;
    assert_int_equal(mb_levels_find(x, 1, &levels), MB_OK);
    assert_true(levels.n == 1 && levels.median == 34e9 && levels.spread == 0);
    assert_int_equal(mb_levels_find(x, MB_LEVEL_SAMPLES_MIN - 1, &levels), MB_OK);
    assert_int_equal(levels.n, 1);
    assert_int_equal(mb_levels_find(x, MB_LEVEL_SAMPLES_MIN, &levels), MB_OK);
    assert_int_equal(levels.n, 2);
    assert_int_equal(levels.holds, 1);
    for (unsigned i = 0; i < MB_LEVEL_SAMPLES_MIN; i++)
        x[i] = 7;
    assert_int_equal(mb_levels_find(x, MB_LEVEL_SAMPLES_MIN, &levels), MB_OK);
    assert_true(levels.n == 1 && levels.median == 7);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct mb_levels levels;
    const double bad[] = {0, -1, NAN, INFINITY};
    assert_int_equal(mb_levels_find(bad, 0, &levels), MB_EINVAL);
    for (unsigned i = 0; i < MB_COUNT(bad); i++)
        assert_int_equal(mb_levels_find(bad + i, 1, &levels), MB_EINVAL);
    static double many[MB_LEVEL_SAMPLES_MAX + 1];
    for (unsigned i = 0; i <= MB_LEVEL_SAMPLES_MAX; i++)
        many[i] = 1 + i;
    assert_int_equal(mb_levels_find(many, MB_LEVEL_SAMPLES_MAX + 1, &levels), MB_EINVAL);
    assert_int_equal(mb_levels_find(many, MB_LEVEL_SAMPLES_MAX, &levels), MB_OK);
    assert_int_equal(levels.n, 1);
}

/* How often one noisy level is taken for several: normal, even, and with a long tail downwards, which is what disturbances by
 * other programs look like. */
static void noise_is_rarely_split(void **state)
{
    (void)state;
    static const unsigned sizes[] = {12, 20, 30, 60};
    for (unsigned shape = 0; shape < 3; shape++)
        for (unsigned s = 0; s < MB_COUNT(sizes); s++) {
            unsigned split = 0;
            for (unsigned series = 0; series < 500; series++) {
                double x[60];
                struct mb_levels levels;
                for (unsigned i = 0; i < sizes[s]; i++)
                    x[i] = 50e9 * (shape == 0   ? exp(0.1 * normal())
                                   : shape == 1 ? exp(0.5 * uniform())
                                                : pow(uniform(), 0.1));
                assert_int_equal(mb_levels_find(x, sizes[s], &levels), MB_OK);
                split += levels.n > 1;
            }
            if (split > 10)
                print_error("shape %u, %u samples: %u of 500 series split\n", shape, sizes[s], split);
            assert_in_range(split, 0, 10);
        }
}

static void quantiles(void **state)
{
    (void)state;
    double x[] = {5, 1, 4, 2, 3};
    mb_sort(x, 5);
    assert_true(mb_quantile(x, 5, 0) == 1 && mb_quantile(x, 5, 1) == 5);
    assert_true(mb_quantile(x, 5, 0.5) == 3);
    assert_true(fabs(mb_quantile(x, 5, 0.125) - 1.5) < 1e-12);
    assert_true(mb_quantile(x, 1, 0.9) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(noise_is_one_level, setup),
        cmocka_unit_test_setup(two_levels, setup),
        cmocka_unit_test_setup(a_near_tie_holds_at_the_lower_level, setup),
        cmocka_unit_test_setup(four_levels, setup),
        cmocka_unit_test_setup(a_drift_is_one_level_with_a_wide_spread, setup),
        cmocka_unit_test_setup(outliers_are_no_level, setup),
        cmocka_unit_test_setup(few_samples, setup),
        cmocka_unit_test_setup(nonsense_is_refused, setup),
        cmocka_unit_test_setup(noise_is_rarely_split, setup),
        cmocka_unit_test(quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
