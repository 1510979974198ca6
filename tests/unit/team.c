/* SPDX-License-Identifier: MIT */
/* Suite for src/base/team.c. */
#include "base/team.h"

#include <hwloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

struct work {
    struct mb_team *team;
    atomic_uint calls[64];
    unsigned step[64];
    unsigned n, rounds;
    atomic_uint wrong;
};

static void count(void *arg, unsigned member)
{
    struct work *work = arg;
    atomic_fetch_add(&work->calls[member], 1);
}

/* After each barrier every member must see what all others wrote before it. */
static void march(void *arg, unsigned member)
{
    struct work *work = arg;
    for (unsigned round = 1; round <= work->rounds; round++) {
        work->step[member] = round;
        mb_team_barrier(work->team);
        for (unsigned i = 0; i < work->n; i++)
            if (work->step[i] != round)
                atomic_fetch_add(&work->wrong, 1);
        mb_team_barrier(work->team);
    }
}

static void nap_ms(long ms)
{
    nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

/* Every number of members, in any order, called exactly once each; also after the others fell asleep. */
static void a_run_calls_its_members_once(void **state)
{
    (void)state;
    static const unsigned sizes[] = {1, 2, 3, 8, 33};
    for (unsigned s = 0; s < MB_COUNT(sizes); s++) {
        struct work work = {0};
        assert_int_equal(mb_team_start(sizes[s], &work.team, NULL), MB_OK);
        assert_int_equal(mb_team_size(work.team), sizes[s]);
        unsigned want[64] = {0};
        for (unsigned round = 0; round < 200; round++) {
            unsigned n = 1 + round * 7 % sizes[s];
            mb_team_run(work.team, n, count, &work);
            for (unsigned i = 0; i < n; i++)
                want[i]++;
            for (unsigned i = 0; i < 64; i++)
                assert_int_equal(atomic_load(&work.calls[i]), want[i]);
            if (round % 50 == 49)
                nap_ms(5);
        }
        mb_team_stop(work.team);
    }
}

static void a_barrier_orders_memory(void **state)
{
    (void)state;
    static const unsigned sizes[] = {1, 2, 7, 32};
    for (unsigned s = 0; s < MB_COUNT(sizes); s++) {
        struct work work = {.rounds = 300};
        assert_int_equal(mb_team_start(sizes[s], &work.team, NULL), MB_OK);
        for (work.n = sizes[s]; work.n; work.n /= 2)
            mb_team_run(work.team, work.n, march, &work);
        assert_int_equal(atomic_load(&work.wrong), 0);
        mb_team_stop(work.team);
    }
}

static void starting_and_stopping(void **state)
{
    (void)state;
    mb_team_stop(NULL);
    struct mb_err err;
    struct mb_team *team = NULL;
    assert_int_equal(mb_team_start(100000, &team, &err), MB_ERANGE);
    assert_null(team);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(mb_team_start(3, &team, &err), MB_OK);
        mb_team_stop(team);
    }
}

/* Member 0 is the caller: bound while the team lives, free again afterwards; other threads can be freed, too. */
static void the_caller_gets_its_binding_back(void **state)
{
    (void)state;
    hwloc_topology_t topology;
    hwloc_topology_init(&topology);
    hwloc_topology_load(topology);
    hwloc_bitmap_t before = hwloc_bitmap_alloc(), now = hwloc_bitmap_alloc();
    if (hwloc_get_cpubind(topology, before, HWLOC_CPUBIND_THREAD) == 0) {
        struct mb_team *team;
        assert_int_equal(mb_team_start(0, &team, NULL), MB_OK);
        assert_int_equal(mb_team_size(team), hwloc_bitmap_weight(before));
        assert_in_range(mb_team_n_cores(team), 1, mb_team_size(team));
        if (mb_team_is_bound(team)) {
            hwloc_get_cpubind(topology, now, HWLOC_CPUBIND_THREAD);
            assert_int_equal(hwloc_bitmap_weight(now), 1);
            assert_true(hwloc_bitmap_isset(now, mb_team_place(team, 0)->cpu));
        }
        mb_team_stop(team);
        hwloc_get_cpubind(topology, now, HWLOC_CPUBIND_THREAD);
        assert_true(hwloc_bitmap_isequal(before, now));
        /* Bound to one, only that one is taken. */
        hwloc_bitmap_singlify(now);
        if (hwloc_set_cpubind(topology, now, HWLOC_CPUBIND_THREAD) == 0) {
            assert_int_equal(mb_team_start(0, &team, NULL), MB_OK);
            assert_int_equal(mb_team_size(team), 1);
            assert_true(hwloc_bitmap_isset(now, mb_team_place(team, 0)->cpu));
            mb_team_stop(team);
            hwloc_set_cpubind(topology, before, HWLOC_CPUBIND_THREAD);
        }
    }
    hwloc_bitmap_free(before);
    hwloc_bitmap_free(now);
    hwloc_topology_destroy(topology);
}

/* Order on machines that are not here. */
static void places_spread_over_memory_paths(void **state)
{
    (void)state;
    static const struct {
        const char *machine;
        const char *allowed; /* list of CPUs, NULL: all */
        unsigned n;
        unsigned cpus[16];
    } rows[] = {
        {"core:2 pu:1", NULL, 2, {0, 1}},
        /* Cores before siblings. */
        {"core:4 pu:2", NULL, 8, {0, 2, 4, 6, 1, 3, 5, 7}},
        /* One L3 after the other gets a core, then each its second. */
        {"l3:2 core:2 pu:2", NULL, 8, {0, 4, 2, 6, 1, 5, 3, 7}},
        /* Nodes first, then the L3 in them. */
        {"numa:2 l3:2 core:2 pu:1", NULL, 8, {0, 4, 2, 6, 1, 5, 3, 7}},
        {"numa:2 l3:2 core:1 pu:2", NULL, 8, {0, 4, 2, 6, 1, 5, 3, 7}},
        /* What is not allowed is not there: CPU 0's sibling becomes the first of its core. */
        {"core:4 pu:2", "1-4", 4, {1, 2, 4, 3}},
        {"numa:2 core:4 pu:1", "2-3,6", 3, {2, 6, 3}},
        {"core:2 pu:1", "7", 0, {0}},
    };
    for (unsigned r = 0; r < MB_COUNT(rows); r++) {
        hwloc_topology_t topology;
        hwloc_topology_init(&topology);
        assert_int_equal(hwloc_topology_set_synthetic(topology, rows[r].machine), 0);
        assert_int_equal(hwloc_topology_load(topology), 0);
        hwloc_bitmap_t allowed = NULL;
        if (rows[r].allowed) {
            allowed = hwloc_bitmap_alloc();
            hwloc_bitmap_list_sscanf(allowed, rows[r].allowed);
        }
        struct mb_team_place places[16];
        unsigned n = mb_team_places(topology, allowed, places, 16);
        assert_int_equal(n, rows[r].n);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(places[i].cpu, rows[r].cpus[i]);
        if (n > 1)
            assert_int_equal(mb_team_places(topology, allowed, places, 2), 2);
        hwloc_bitmap_free(allowed);
        hwloc_topology_destroy(topology);
    }
}

static void nodes_are_told(void **state)
{
    (void)state;
    hwloc_topology_t topology;
    hwloc_topology_init(&topology);
    hwloc_topology_set_synthetic(topology, "numa:2 core:2 pu:2");
    hwloc_topology_load(topology);
    struct mb_team_place places[8];
    assert_int_equal(mb_team_places(topology, NULL, places, 8), 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(places[i].node, places[i].cpu / 4);
        assert_int_equal(places[i].node, i % 2);
        assert_int_equal(places[i].sibling, i / 4);
    }
    hwloc_topology_destroy(topology);
}

/* Signals stay with the program's own threads. */
static void read_mask(void *arg, unsigned member)
{
    sigset_t *masks = arg;
    pthread_sigmask(SIG_SETMASK, NULL, masks + member);
}

static void members_take_no_signals(void **state)
{
    (void)state;
    struct mb_team *team;
    sigset_t masks[2];
    assert_int_equal(mb_team_start(2, &team, NULL), MB_OK);
    mb_team_run(team, 2, read_mask, masks);
    assert_false(sigismember(masks + 0, SIGINT));
    assert_true(sigismember(masks + 1, SIGINT));
    mb_team_stop(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_caller_gets_its_binding_back), /* first: a later one would find what others left */
        cmocka_unit_test(a_run_calls_its_members_once),
        cmocka_unit_test(a_barrier_orders_memory),
        cmocka_unit_test(starting_and_stopping),
        cmocka_unit_test(places_spread_over_memory_paths),
        cmocka_unit_test(nodes_are_told),
        cmocka_unit_test(members_take_no_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
