/* SPDX-License-Identifier: MIT */
/* The sampler against one that sorts everything and uses the library's exp(): which tokens may be chosen, and how often they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 300 };

static struct mb_sampler *open_sampler(const struct mb_sampler_opts *opts, uint32_t n_vocab)
{
    struct mb_sampler *sampler;
    struct mb_err err;
    if (mb_sampler_open(opts, n_vocab, &sampler, &err))
        fail_msg("%s", err.text);
    return sampler;
}

static int32_t pick(struct mb_sampler *sampler, const float *logits)
{
    int32_t id = -1;
    struct mb_err err;
    if (mb_sampler_pick(sampler, logits, &id, &err))
        fail_msg("%s", err.text);
    return id;
}

static uint32_t next_random(uint32_t *seed)
{
    return (*seed = *seed * 1664525 + 1013904223) >> 8;
}

static void fill(float *logits, size_t n, uint32_t *seed, float spread)
{
    for (size_t i = 0; i < n; i++) /* steps, so that some are equal */
        logits[i] = (float)(next_random(seed) % 256) / 256 * spread - spread / 2;
}

/* ---- the reference ---- */

struct entry {
    double logit, p;
    int32_t id;
};

static int by_logit(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->logit > y->logit ? -1 : x->logit < y->logit ? 1 : x->id - y->id;
}

static void soft(struct entry *list, size_t n, double temperature)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += list[i].p = exp((list[i].logit - list[0].logit) / temperature);
    for (size_t i = 0; i < n; i++)
        list[i].p /= sum;
}

/* The tokens that may be chosen, with their probabilities. */
static size_t reference(const struct mb_sampler_opts *o, const float *logits, const int32_t *last, size_t n_last, struct entry *list)
{
    size_t n = VOCAB, kept = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        unsigned count = 0;
        double logit = logits[i];
        for (size_t k = 0; k < o->n_biases; k++)
            logit += o->biases[k].id == i ? o->biases[k].bias : 0;
        for (size_t k = 0; k < n_last; k++)
            count += last[k] == i;
        if (count) {
            logit = logit > 0 ? logit / o->penalty_repeat : logit * o->penalty_repeat;
            logit -= count * o->penalty_frequency + o->penalty_presence;
        }
        list[i] = (struct entry){(float)logit, 0, i};
    }
    qsort(list, n, sizeof *list, by_logit);
    n = o->top_k && o->top_k < n ? o->top_k : n;
    soft(list, n, 1);
    double sum = 0;
    for (; kept < n && (kept == 0 || sum < o->top_p || o->top_p >= 1); kept++)
        sum += list[kept].p;
    n = kept;
    while (n > 1 && list[n - 1].p < o->min_p * list[0].p)
        n--;
    soft(list, n, o->temperature);
    return n;
}

/* Many picks: each may be chosen, and as often as its probability says. */
static void compare(struct mb_sampler_opts *o, uint32_t seed, float spread)
{
    enum { PICKS = 5000 };
    static const int32_t last[] = {3, 7, 3, 250, 299, 3, 12, 7};
    float logits[VOCAB];
    struct entry list[VOCAB];
    unsigned counts[VOCAB] = {0};
    fill(logits, VOCAB, &seed, spread);
    o->seed = seed;
    struct mb_sampler *sampler = open_sampler(o, VOCAB);
    mb_sampler_accept(sampler, 5); /* falls out of the window of 8 */
    for (size_t i = 0; i < MB_COUNT(last); i++)
        mb_sampler_accept(sampler, last[i]);
    size_t n = reference(o, logits, last, o->penalty_last_n ? MB_COUNT(last) : 0, list), n_seen = 0;
    for (unsigned i = 0; i < PICKS; i++)
        counts[pick(sampler, logits)]++;
    for (size_t i = 0; i < n; i++) {
        double expected = list[i].p * PICKS, got = counts[list[i].id];
        assert_true(fabs(got - expected) < 6 * sqrt(expected) + 6);
        n_seen += counts[list[i].id];
    }
    assert_int_equal(n_seen, PICKS);
    mb_sampler_close(sampler);
}

static void it_chooses_as_one_that_sorts(void **state)
{
    (void)state;
    static const struct mb_logit_bias biases[] = {{3, 4}, {10, -INFINITY}, {20, 2.5f}};
    static const unsigned tops[] = {0, 2, 5, 40, 299, 300, 1000};
    static const float ps[] = {1, 0.95f, 0.5f, 0.1f, 0};
    uint32_t seed = 1;
    for (size_t k = 0; k < MB_COUNT(tops); k++)
        for (size_t p = 0; p < MB_COUNT(ps); p++) {
            struct mb_sampler_opts o = mb_sampler_defaults();
            o.top_k = tops[k];
            o.top_p = ps[p];
            o.min_p = next_random(&seed) % 2 ? 0 : 0.03f;
            o.temperature = 0.25f + (float)(next_random(&seed) % 8) / 4;
            o.penalty_last_n = next_random(&seed) % 2 ? 8 : 0;
            o.penalty_repeat = 1.3f;
            o.penalty_presence = 0.5f;
            o.penalty_frequency = 0.25f;
            o.biases = biases;
            o.n_biases = next_random(&seed) % 2 ? MB_COUNT(biases) : 0;
            compare(&o, seed, p % 2 ? 3 : 20);
        }
}

static void the_largest_at_temperature_zero(void **state)
{
    (void)state;
    struct mb_sampler_opts o = mb_sampler_defaults();
    o.temperature = 0;
    struct mb_sampler *sampler = open_sampler(&o, 5);
    assert_int_equal(pick(sampler, (const float[]){1, 3, 2, 3, -1}), 1);
    assert_int_equal(pick(sampler, (const float[]){NAN, -INFINITY, -5, NAN, -6}), 2);
    assert_int_equal(pick(sampler, (const float[]){1e38f, INFINITY, 3, 3, 3}), 1);
    mb_sampler_close(sampler);
    o.penalty_repeat = 2;
    sampler = open_sampler(&o, 5);
    mb_sampler_accept(sampler, 1);
    mb_sampler_accept(sampler, -1);
    mb_sampler_accept(sampler, 5);
    assert_int_equal(pick(sampler, (const float[]){1, 3, 2, 0, 0}), 2);
    assert_int_equal(pick(sampler, (const float[]){-3, -1, -4, -5, -6}), 1);
    mb_sampler_reset(sampler, 0);
    assert_int_equal(pick(sampler, (const float[]){1, 3, 2, 0, 0}), 1);
    mb_sampler_close(sampler);
}

static void odd_logits_are_never_chosen(void **state)
{
    (void)state;
    struct mb_sampler_opts o = mb_sampler_defaults();
    static const unsigned tops[] = {0, 3, 40};
    for (size_t i = 0; i < MB_COUNT(tops); i++)
        for (int p = 0; p < 2; p++) {
            o.top_k = tops[i];
            o.top_p = p ? 0.9f : 1;
            o.min_p = 0;
            struct mb_sampler *sampler = open_sampler(&o, 5);
            struct mb_err err;
            int32_t id = 77;
            for (int k = 0; k < 200; k++) {
                assert_int_equal(pick(sampler, (const float[]){NAN, 1, -INFINITY, 1.1f, NAN}) & 1, 1);
                assert_int_equal(pick(sampler, (const float[]){0, 1, INFINITY, 3, NAN}), 2);
                assert_int_equal(pick(sampler, (const float[]){NAN, -INFINITY, -INFINITY, NAN, -3e38f}), 4);
            }
            assert_int_equal(mb_sampler_pick(sampler, (const float[]){NAN, NAN, -INFINITY, NAN, NAN}, &id, &err), MB_EFORMAT);
            assert_int_equal(id, 77);
            mb_sampler_close(sampler);
        }
}

/* The same on every machine: these tokens were drawn on x86-64 with gcc. */
static void a_seed_gives_its_tokens(void **state)
{
    (void)state;
    enum { N = 32 };
    static const int32_t expected[N] = {140, 299, 164, 289, 223, 188, 233, 194, 289, 150, 197, 86, 98, 106, 186, 197, 99, 66, 181, 92,
        65, 161, 257, 150, 161, 164, 140, 58, 298, 92, 127, 77};
    struct mb_sampler_opts o = mb_sampler_defaults();
    o.seed = 42;
    o.top_k = 0;
    o.temperature = 1.5f;
    o.min_p = 0;
    float logits[VOCAB];
    uint32_t seed = 9;
    fill(logits, VOCAB, &seed, 8);
    struct mb_sampler *sampler = open_sampler(&o, VOCAB);
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < N; i++)
            assert_int_equal(pick(sampler, logits), expected[i]);
        mb_sampler_reset(sampler, 42);
    }
    mb_sampler_reset(sampler, 43);
    unsigned same = 0;
    for (unsigned i = 0; i < N; i++)
        same += pick(sampler, logits) == expected[i];
    assert_true(same < N / 2);
    mb_sampler_close(sampler);
}

static void options_out_of_range(void **state)
{
    (void)state;
    struct mb_sampler *sampler;
    struct mb_err err;
    struct mb_logit_bias bias = {5, 0};
    struct mb_sampler_opts bad[9];
    for (size_t i = 0; i < MB_COUNT(bad); i++)
        bad[i] = mb_sampler_defaults();
    bad[0].temperature = NAN;
    bad[1].top_p = 1.5f;
    bad[2].min_p = -0.1f;
    bad[3].penalty_repeat = 0;
    bad[4].penalty_presence = INFINITY;
    bad[5].penalty_frequency = NAN;
    bad[6].penalty_last_n = 1u << 30;
    bad[7].biases = &bias;
    bad[7].n_biases = 1;
    for (size_t i = 0; i < MB_COUNT(bad) - 1; i++)
        assert_int_equal(mb_sampler_open(&bad[i], 5, &sampler, &err), MB_ERANGE);
    assert_int_equal(mb_sampler_open(&bad[8], 0, &sampler, &err), MB_ERANGE);
    bad[8].temperature = -1;
    mb_sampler_close(open_sampler(&bad[8], 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_chooses_as_one_that_sorts),
        cmocka_unit_test(the_largest_at_temperature_zero),
        cmocka_unit_test(odd_logits_are_never_chosen),
        cmocka_unit_test(a_seed_gives_its_tokens),
        cmocka_unit_test(options_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
