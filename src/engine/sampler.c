/* SPDX-License-Identifier: MIT */
/* The chain of samplers. Nothing is sorted but what remains: top k keeps a heap of k, top p takes from a heap until the sum is
 * reached, so that a vocabulary of 2^18 tokens costs a few passes over it. */
#include "engine/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAST_N_MAX = 1 << 20, VOCAB_MAX = 1 << 24 };

struct candidate {
    float logit;
    uint32_t id;
};

struct mb_sampler {
    struct mb_sampler_opts opts;
    uint32_t n_vocab;
    float *logits;
    struct candidate *candidates;
    double *weights;
    uint32_t *counts;  /* of each token among the last ones */
    int32_t *last;     /* a ring */
    unsigned n_last, at_last;
    double min_p_log;  /* a candidate is this far below the first at most */
    uint64_t state;
    struct mb_arena arena;
};

/* exp(x) for x <= 0, to about 2 ulp. One operation per statement: no compiler fuses across them, so that the result is the same
 * wherever doubles are IEEE's. */
static double exp_of(double x)
{
    static const double inverse_factorials[] = {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
        1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1.0, 1.0};
    if (!(x > -700))
        return 0;
    double n = x * 1.4426950408889634;
    n = floor(n + 0.5);
    double high = n * 0.693147180369123816490, low = n * 1.90821492927058770002e-10; /* ln 2 in two parts */
    double r = x - high;
    r = r - low;
    double sum = 1.0 / 6227020800;
    for (size_t i = 0; i < MB_COUNT(inverse_factorials); i++) {
        double product = sum * r;
        sum = inverse_factorials[i] + product;
    }
    uint64_t bits = (uint64_t)(1023 + (int)n) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

/* The x <= 0 whose exp_of() is p. */
static double log_of(double p)
{
    double low = -700, high = 0;
    for (int i = 0; i < 80; i++) {
        double middle = low + high;
        middle = middle / 2;
        if (exp_of(middle) < p)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* SplitMix64 (public source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). */
static double random_of(struct mb_sampler *s)
{
    s->state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t bits = s->state;
    bits = (bits ^ bits >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94D049BB133111EB);
    bits ^= bits >> 31;
    return (double)(bits >> 11) * 0x1p-53;
}

/* ---- heaps of candidates ---- */

static int is_larger(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Put the candidate at i in its place below. largest: which end of the order is at the top. */
static void sift(struct candidate *heap, size_t n, size_t i, int largest)
{
    struct candidate moved = heap[i];
    size_t child;
    while ((child = 2 * i + 1) < n) {
        if (child + 1 < n && is_larger(heap[child + 1], heap[child]) == largest)
            child++;
        if (is_larger(heap[child], moved) != largest)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

static void make_heap(struct candidate *heap, size_t n, int largest)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(heap, n, i, largest);
}

static void swap(struct candidate *a, struct candidate *b)
{
    struct candidate c = *a;
    *a = *b;
    *b = c;
}

/* ---- the chain ---- */

/* A copy of the logits without what compares oddly, with biases and penalties. */
static void prepare(struct mb_sampler *s, const float *logits)
{
    const struct mb_sampler_opts *o = &s->opts;
    float *to = s->logits;
    for (uint32_t i = 0; i < s->n_vocab; i++) { /* two selections, which compilers turn into min and max */
        float logit = logits[i] > -INFINITY ? logits[i] : -INFINITY;
        to[i] = logit < FLT_MAX ? logit : FLT_MAX;
    }
    for (size_t i = 0; i < o->n_biases; i++) {
        float *logit = &s->logits[o->biases[i].id];
        *logit = isinf(*logit) ? *logit : *logit + o->biases[i].bias;
        *logit = *logit > FLT_MAX ? FLT_MAX : *logit;
    }
    if (o->penalty_repeat == 1 && o->penalty_presence == 0 && o->penalty_frequency == 0)
        return;
    for (unsigned i = 0; i < s->n_last; i++) {
        uint32_t *count = &s->counts[s->last[i]];
        if (*count & UINT32_C(0x80000000))
            continue; /* done; the mark goes below */
        float *logit = &s->logits[s->last[i]];
        *logit = *logit > 0 ? *logit / o->penalty_repeat : *logit * o->penalty_repeat;
        float off = (float)*count * o->penalty_frequency;
        off = off + o->penalty_presence;
        *logit = *logit - off;
        *count |= UINT32_C(0x80000000);
    }
    for (unsigned i = 0; i < s->n_last; i++)
        s->counts[s->last[i]] &= UINT32_C(0x7fffffff);
}

static int32_t largest_of(const struct mb_sampler *s)
{
    /* Lanes, so that no comparison waits for the one before. */
    enum { LANES = 16 };
    float largest[LANES];
    uint32_t i = 0, id = 0;
    for (unsigned lane = 0; lane < LANES; lane++)
        largest[lane] = -INFINITY;
    for (; i + LANES <= s->n_vocab; i += LANES)
        for (unsigned lane = 0; lane < LANES; lane++)
            largest[lane] = s->logits[i + lane] > largest[lane] ? s->logits[i + lane] : largest[lane];
    for (; i < s->n_vocab; i++)
        largest[0] = s->logits[i] > largest[0] ? s->logits[i] : largest[0];
    for (unsigned lane = 1; lane < LANES; lane++)
        largest[0] = largest[lane] > largest[0] ? largest[lane] : largest[0];
    while (s->logits[id] != largest[0])
        id++;
    return (int32_t)id;
}

/* The k largest, largest first. */
static size_t top_k(struct mb_sampler *s, size_t k)
{
    struct candidate *heap = s->candidates;
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        struct candidate next = {s->logits[i], i};
        if (n == k ? next.logit <= heap[0].logit : next.logit == -INFINITY) /* of equals the first stay */
            continue;
        if (n < k) {
            heap[n++] = next;
            if (n == k)
                make_heap(heap, n, 0);
        } else {
            heap[0] = next;
            sift(heap, n, 0, 0);
        }
    }
    if (n < k)
        make_heap(heap, n, 0);
    for (size_t left = n; left > 1; left--) {
        swap(&heap[0], &heap[left - 1]);
        sift(heap, left - 1, 0, 0);
    }
    return n;
}

static size_t take_all(struct mb_sampler *s)
{
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        if (s->logits[i] != -INFINITY)
            s->candidates[n++] = (struct candidate){s->logits[i], i};
    return n;
}

/* What remains of n candidates comes first, largest first. */
static size_t top_p(struct mb_sampler *s, size_t n, float largest)
{
    struct candidate *heap = s->candidates;
    double total = 0, sum = 0;
    for (size_t i = 0; i < n; i++)
        total += exp_of((double)heap[i].logit - largest);
    double enough = total * s->opts.top_p;
    make_heap(heap, n, 1);
    /* The heap shrinks from the end, where what it gives is put: in the end turn that around. */
    size_t left = n;
    while (left && (left == n || sum < enough)) {
        sum += exp_of((double)heap[0].logit - largest);
        left--;
        swap(&heap[0], &heap[left]);
        sift(heap, left, 0, 1);
    }
    size_t kept = n - left;
    for (size_t i = left, k = n - 1; i < k; i++, k--)
        swap(&heap[i], &heap[k]);
    memmove(heap, heap + left, kept * sizeof *heap);
    return kept;
}

static size_t min_p(struct mb_sampler *s, size_t n, float largest)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)s->candidates[i].logit - largest >= s->min_p_log)
            s->candidates[kept++] = s->candidates[i];
    return kept;
}

static int32_t draw(struct mb_sampler *s, size_t n, float largest)
{
    double total = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        double below = (double)s->candidates[i].logit - largest;
        s->weights[i] = exp_of(below / s->opts.temperature);
        total += s->weights[i];
    }
    double limit = random_of(s) * total;
    size_t chosen = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->weights[i] > 0)
            chosen = i;
        at += s->weights[i];
        if (at > limit)
            break;
    }
    return (int32_t)s->candidates[chosen].id;
}

int mb_sampler_pick(struct mb_sampler *s, const float *logits, int32_t *id, struct mb_err *err)
{
    prepare(s, logits);
    int32_t best = largest_of(s);
    float largest = s->logits[best];
    if (largest == -INFINITY)
        return mb_fail(err, MB_EFORMAT, "logits: none of %u is a number above -infinity; the model's file is damaged",
                       s->n_vocab);
    if (!(s->opts.temperature > 0) || s->opts.top_k == 1) {
        *id = best;
        return MB_OK;
    }
    size_t n = s->opts.top_k && s->opts.top_k < s->n_vocab ? top_k(s, s->opts.top_k) : take_all(s);
    if (s->opts.top_p < 1)
        n = top_p(s, n, largest);
    if (s->opts.min_p > 0)
        n = min_p(s, n, largest);
    *id = draw(s, n, largest);
    return MB_OK;
}

/* ---- the last tokens ---- */

void mb_sampler_accept(struct mb_sampler *s, int32_t id)
{
    unsigned max = s->opts.penalty_last_n;
    if (id < 0 || (uint32_t)id >= s->n_vocab || !max)
        return;
    if (s->n_last == max)
        s->counts[s->last[s->at_last]]--;
    else
        s->n_last++;
    s->last[s->at_last] = id;
    s->counts[id]++;
    s->at_last = (s->at_last + 1) % max;
}

void mb_sampler_reset(struct mb_sampler *s, uint64_t seed)
{
    for (unsigned i = 0; i < s->n_last; i++)
        s->counts[s->last[i]] = 0;
    s->n_last = s->at_last = 0;
    s->state = seed;
}

/* ---- opening ---- */

struct mb_sampler_opts mb_sampler_defaults(void)
{
    return (struct mb_sampler_opts){
        .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .penalty_repeat = 1, .penalty_last_n = 64};
}

static int check(const struct mb_sampler_opts *o, uint32_t n_vocab, struct mb_err *err)
{
    const struct {
        const char *name;
        float value, min, max;
    } ranges[] = {{"temperature", o->temperature, -FLT_MAX, 1000}, {"top-p", o->top_p, 0, 1}, {"min-p", o->min_p, 0, 1},
        {"repeat penalty", o->penalty_repeat, 0.01f, 100}, {"presence penalty", o->penalty_presence, -100, 100},
        {"frequency penalty", o->penalty_frequency, -100, 100}};
    for (size_t i = 0; i < MB_COUNT(ranges); i++)
        if (!(ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max))
            return mb_fail(err, MB_ERANGE, "%s: %g is out of range; give a number between %g and %g", ranges[i].name,
                           (double)ranges[i].value, i ? (double)ranges[i].min : 0.0, (double)ranges[i].max);
    if (o->penalty_last_n > LAST_N_MAX)
        return mb_fail(err, MB_ERANGE, "penalty window: %u tokens; give at most %d", o->penalty_last_n, (int)LAST_N_MAX);
    if (n_vocab == 0 || n_vocab > VOCAB_MAX)
        return mb_fail(err, MB_ERANGE, "vocabulary: %u tokens; between 1 and %d are possible", n_vocab, (int)VOCAB_MAX);
    for (size_t i = 0; i < o->n_biases; i++)
        if (o->biases[i].id < 0 || (uint32_t)o->biases[i].id >= n_vocab || isnan(o->biases[i].bias))
            return mb_fail(err, MB_ERANGE, "logit bias: token %d, bias %g: there is no such token, or no such bias",
                           (int)o->biases[i].id, (double)o->biases[i].bias);
    return MB_OK;
}

void mb_sampler_close(struct mb_sampler *s)
{
    if (!s)
        return;
    mb_arena_free(&s->arena);
    free(s);
}

int mb_sampler_open(const struct mb_sampler_opts *opts, uint32_t n_vocab, struct mb_sampler **out, struct mb_err *err)
{
    int code = check(opts, n_vocab, err);
    if (code)
        return code;
    struct mb_sampler *s = calloc(1, sizeof *s);
    if (!s)
        return mb_fail_memory(err);
    s->opts = *opts;
    s->n_vocab = n_vocab;
    s->logits = mb_arena_array(&s->arena, n_vocab, sizeof *s->logits);
    s->candidates = mb_arena_array(&s->arena, n_vocab, sizeof *s->candidates);
    s->weights = mb_arena_array(&s->arena, n_vocab, sizeof *s->weights);
    s->counts = mb_arena_array(&s->arena, n_vocab, sizeof *s->counts);
    s->last = mb_arena_array(&s->arena, opts->penalty_last_n, sizeof *s->last);
    struct mb_logit_bias *biases = mb_arena_array(&s->arena, opts->n_biases, sizeof *biases);
    if (s->arena.failed) {
        mb_sampler_close(s);
        return mb_fail_memory(err);
    }
    if (opts->n_biases)
        memcpy(biases, opts->biases, opts->n_biases * sizeof *biases);
    s->opts.biases = biases;
    s->min_p_log = opts->min_p > 0 ? log_of(opts->min_p) : 0;
    mb_sampler_reset(s, opts->seed);
    *out = s;
    return MB_OK;
}
