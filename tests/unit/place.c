/* SPDX-License-Identifier: MIT */
/* Placement against brute force on small random problems, and against hand rules on what people own. */
#include "plan/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MAX_LAYERS = 5, MAX_POOLS = 3, HOST = 0 };

/* A small problem: units and costs by the dice. Pool 0 is the host's. */
struct problem {
    struct mb_load load;
    struct mb_unit units[4 * MAX_LAYERS + 4];
    struct mb_shape shapes[4 * MAX_LAYERS + 4];
    struct mb_machine machine;
    struct mb_cost cost;
    struct mb_rooms rooms;
};

static uint64_t state = 1;

static double dice(double low, double high)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (double)(state >> 11) / 9007199254740992.0;
}

static unsigned pick(unsigned n)
{
    return (unsigned)dice(0, n) % n;
}

static void add_unit(struct problem *p, enum mb_unit_kind kind, int layer, const struct mb_shape *shape, uint64_t cache)
{
    uint32_t i = 0;
    while (i < p->load.n_shapes && memcmp(&p->shapes[i], shape, sizeof(*shape)) != 0)
        i++;
    if (i == p->load.n_shapes)
        memcpy(&p->shapes[p->load.n_shapes++], shape, sizeof(*shape));
    double resident = shape->weight_bytes * (shape->n_expert ? (double)shape->n_expert / shape->n_expert_used : 1);
    p->units[p->load.n_units++] = (struct mb_unit){kind, layer, i, (uint64_t)resident, cache};
}

/* Weights of whole bytes in steps, so that sizes and ratios repeat. */
static void make_shape(struct mb_shape *shape, enum mb_unit_kind kind, unsigned sizes)
{
    memset(shape, 0, sizeof(*shape));
    unsigned class = pick(2) ? MB_WEIGHTS_K : MB_WEIGHTS_8;
    shape->kind = kind;
    shape->bytes[class] = shape->weight_bytes = 1e6 * (1 + pick(sizes));
    if (kind == MB_UNIT_EXPERTS) {
        shape->n_expert = 16;
        shape->n_expert_used = 2;
    }
}

static void roll(struct problem *p, unsigned n_pools, unsigned sizes)
{
    struct mb_shape shapes[3][2], head, embedding = {.kind = MB_UNIT_EMBEDDING};
    unsigned n_layers = 1 + pick(MAX_LAYERS), kind = pick(3);
    double total = 0;
    memset(p, 0, sizeof(*p));
    p->load.units = p->units;
    p->load.shapes = p->shapes;
    p->load.n_layers = n_layers;
    p->load.n_embd = 1000;
    for (unsigned i = 0; i < 2; i++) {
        make_shape(&shapes[0][i], MB_UNIT_CORE, sizes);
        make_shape(&shapes[1][i], MB_UNIT_FFN, sizes);
        make_shape(&shapes[2][i], MB_UNIT_EXPERTS, sizes);
    }
    make_shape(&head, MB_UNIT_HEAD, sizes);
    p->load.moe = kind > 0;
    add_unit(p, MB_UNIT_EMBEDDING, -1, &embedding, 0);
    for (unsigned i = 0; i < n_layers; i++) {
        add_unit(p, MB_UNIT_CORE, (int)i, &shapes[0][pick(2)], (uint64_t)(1e5 * pick(20)));
        if (kind == 0 || kind == 2)
            add_unit(p, MB_UNIT_FFN, (int)i, &shapes[1][pick(2)], 0);
        if (kind)
            add_unit(p, MB_UNIT_EXPERTS, (int)i, &shapes[2][pick(2)], 0);
    }
    add_unit(p, MB_UNIT_HEAD, -1, &head, 0);
    for (unsigned i = 0; i < p->load.n_units; i++)
        total += (double)(p->units[i].resident_bytes + p->units[i].cache_bytes);
    p->cost.n_pools = p->rooms.n_pools = n_pools;
    p->cost.machine = &p->machine;
    p->cost.crossing_s = pick(3) ? dice(0, 5e-5) : 0;
    for (unsigned i = 0; i < n_pools; i++) {
        struct mb_pool_cost *cost = &p->cost.pools[i];
        struct mb_room *room = &p->rooms.pools[i];
        /* Now and then host memory is the fast one. */
        double bytes_per_s = i == HOST ? (pick(8) ? 50e9 : 2e12) : dice(2e11, 1e12);
        cost->known = 1;
        cost->processor = i;
        cost->bytes_per_s = bytes_per_s;
        for (unsigned c = 0; c < MB_N_WEIGHT_CLASSES; c++)
            cost->s_per[MB_RATE_BYTE_FLOAT + c] = 1 / (bytes_per_s * dice(0.5, 1));
        cost->s_per[MB_RATE_ATTENTION] = dice(0, 1e-5);
        cost->s_per[MB_RATE_MOE] = dice(0, 1e-5);
        cost->s_per[MB_RATE_TOKEN] = dice(0, 1e-4);
        room->usable = 1;
        room->room_bytes = (uint64_t)(total * dice(0.1, i == HOST ? 1.6 : 0.9));
        room->buffers_bytes = (uint64_t)(total * dice(0, 0.05));
        room->head_bytes = (uint64_t)(total * dice(0, 0.05));
        room->copy_bytes = i == HOST ? 0 : (uint64_t)(total * dice(0, 0.05));
    }
    p->rooms.host = HOST;
}

struct best {
    double seconds;
    uint8_t pools[4 * MAX_LAYERS + 4];
};

static void try_all(const struct problem *p, unsigned unit, uint8_t *pools, unsigned core, struct best *best)
{
    const struct mb_unit *u = &p->units[unit];
    if (unit == p->load.n_units) {
        struct mb_place_use use;
        mb_place_measure(&p->load, &p->rooms, pools, &use);
        double seconds = mb_place_seconds(&p->cost, &p->load, pools, 0);
        if (use.fits && seconds < best->seconds) {
            best->seconds = seconds;
            memcpy(best->pools, pools, p->load.n_units);
        }
        return;
    }
    if (u->kind == MB_UNIT_EMBEDDING) {
        pools[unit] = HOST;
        try_all(p, unit + 1, pools, core, best);
        return;
    }
    for (unsigned pool = 0; pool < p->rooms.n_pools; pool++) {
        int allowed = u->kind == MB_UNIT_CORE ? pool >= core
                      : u->kind == MB_UNIT_HEAD ? pool >= core || pool == HOST
                                                : pool == core || pool == HOST;
        if (!allowed)
            continue;
        pools[unit] = (uint8_t)pool;
        try_all(p, unit + 1, pools, u->kind == MB_UNIT_CORE ? pool : core, best);
    }
}

static struct mb_placer placer;

static void compare(unsigned n_pools, unsigned rounds, unsigned sizes)
{
    unsigned n_fit = 0, n_split = 0;
    for (unsigned round = 0; round < rounds; round++) {
        static struct problem p;
        struct best best = {.seconds = INFINITY};
        struct mb_placement found;
        uint8_t pools[4 * MAX_LAYERS + 4];
        roll(&p, n_pools, sizes);
        try_all(&p, 0, pools, 0, &best);
        assert_int_equal(mb_placer_load(&placer, &p.load, NULL), MB_OK);
        int fits = mb_place_best(&placer, &p.cost, &p.rooms, 0, &found);
        assert_int_equal(fits, best.seconds < INFINITY);
        if (!fits)
            continue;
        struct mb_place_use use;
        mb_place_measure(&p.load, &p.rooms, found.pool_of_unit, &use);
        assert_true(use.fits);
        n_fit++;
        assert_true(found.exact);
        n_split += memchr(found.pool_of_unit + 1, HOST, p.load.n_units - 1) != NULL;
        if (found.seconds > best.seconds * (1 + 1e-9)) {
            print_message("round %u: %.9g s, brute force %.9g s\n", round, found.seconds, best.seconds);
            for (unsigned i = 0; i < p.load.n_units; i++)
                print_message("  unit %u kind %d layer %d bytes %llu: pool %u, best %u\n", i, (int)p.units[i].kind, p.units[i].layer,
                              (unsigned long long)(p.units[i].resident_bytes + p.units[i].cache_bytes), found.pool_of_unit[i],
                              best.pools[i]);
            fail();
        }
    }
    print_message("%u pools: %u of %u fit, %u use host memory\n", n_pools, n_fit, rounds, n_split);
    assert_true(n_fit > rounds / 5 && n_split > rounds / 20);
}

static void test_brute_force(void **unused)
{
    (void)unused;
    compare(1, 50, 3);
    compare(2, 400, 3);
    compare(2, 200, 1000);
    compare(3, 300, 3);
    compare(3, 200, 1000);
}

/* ---- what people own ---- */

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Every catalog machine, all models: never slower than a hand rule, and the sum is the predictor's. */
static void test_catalog(void **unused)
{
    (void)unused;
    struct mb_catalog_row *rows;
    size_t n_rows, n_models;
    const char *const *models = mb_model_names(&n_models);
    struct mb_machine **machines;
    struct mb_cost *costs;
    unsigned n_fit = 0, n_better = 0, n_cut = 0, n_pairs = 0;
    double took = 0, gain = 1;
    assert_int_equal(mb_catalog_rows(&rows, &n_rows, NULL), MB_OK);
    machines = calloc(n_rows, sizeof(*machines));
    costs = calloc(n_rows, sizeof(*costs));
    for (size_t i = 0; i < n_rows; i++) {
        assert_int_equal(mb_machine_catalog(rows[i].name, &machines[i], NULL), MB_OK);
        assert_int_equal(mb_cost_init(&costs[i], machines[i], NULL, NULL), MB_OK);
    }
    for (size_t m = 0; m < n_models; m++) {
        struct mb_model *model;
        struct mb_load *load;
        assert_int_equal(mb_model_catalog(models[m], &model, NULL), MB_OK);
        assert_int_equal(mb_load_build(model, 8192, NULL, &load, NULL), MB_OK);
        assert_int_equal(mb_placer_load(&placer, load, NULL), MB_OK);
        double began = now_s();
        for (size_t i = 0; i < n_rows; i++) {
            struct mb_quick quick;
            n_pairs++;
            n_fit += (unsigned)mb_place_and_predict(&placer, &costs[i], NULL, &quick);
        }
        took += now_s() - began;
        for (size_t i = 0; i < n_rows; i++) {
            struct mb_rooms rooms;
            struct mb_placement best, rule;
            struct mb_prediction prediction;
            double depth = mb_place_depth(load);
            mb_rooms_find(&costs[i], load, NULL, &rooms);
            int fits = mb_place_best(&placer, &costs[i], &rooms, depth, &best);
            if (fits) {
                n_cut += !best.exact;
                assert_int_equal(mb_predict_decode(&costs[i], load, best.pool_of_unit, depth, &prediction, NULL), MB_OK);
                if (fabs(prediction.seconds / best.seconds - 1) > 1e-9)
                    fail_msg("%s on %s: %g s here, %g s predicted", models[m], rows[i].name, best.seconds, prediction.seconds);
            }
            for (unsigned r = 0; r < MB_N_PLACE_RULES; r++) {
                if (!mb_place_by_rule(&placer, &costs[i], &rooms, depth, (enum mb_place_rule)r, &rule))
                    continue;
                if (!fits || best.seconds > rule.seconds * (1 + 1e-9))
                    fail_msg("%s on %s: %g s, %s: %g s", models[m], rows[i].name, best.seconds,
                             mb_place_rule_name((enum mb_place_rule)r), rule.seconds);
                if (r == MB_PLACE_IN_ORDER && rule.seconds > best.seconds * 1.01) {
                    n_better++;
                    gain = fmax(gain, rule.seconds / best.seconds);
                }
            }
        }
        mb_load_free(load);
        mb_model_free(model);
    }
    print_message("%u pairs, %u fit, %u not proven; faster than layers in order in %u, up to %.1f times; %.1f us a pair\n",
                  n_pairs, n_fit, n_cut, n_better, gain, took / n_pairs * 1e6);
    assert_true(n_better > 100);
    for (size_t i = 0; i < n_rows; i++)
        mb_machine_free(machines[i]);
    free(machines);
    free(costs);
    mb_catalog_rows_free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brute_force),
        cmocka_unit_test(test_catalog),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mb_placer_free(&placer);
    return failed;
}
