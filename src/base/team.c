/* SPDX-License-Identifier: MIT */
/* The thread team: where its threads sit, how they wait, how work reaches them. Assumes that member 0 (who started it)
 * drives it alone. What the work is, and which memory it touches, is left to the callers. */
#include "base/team.h"

#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MEMBERS_MAX 4096

/* Pauses before a waiter starts to yield: some 50 microseconds, more than the gap between two steps of a computation. */
enum { SPINS = 1000 };
#define SLEEP_AFTER_NS 2000000

/* What waiters spin on lies 128 bytes apart: lines are fetched in pairs on x86 and are that long on some Arm. */
#define LINE 128

struct mb_team {
    /* The order to work: count of orders << 16 | number of members that it calls. One word, so that a member who was left
     * out of the last order and looks late can't mix the numbers of two. */
    _Alignas(LINE) atomic_uint_fast64_t order;
    _Alignas(LINE) atomic_uint n_done;
    _Alignas(LINE) atomic_uint n_arrived; /* at the barrier */
    _Alignas(LINE) atomic_uint phase;     /* of the barrier: how many were passed */
    _Alignas(LINE) atomic_uint n_asleep;
    /* Written by member 0 before the order is given, and stable until its last member is done. */
    _Alignas(LINE) mb_team_fn *fn; /* NULL: end */
    void *arg;
    unsigned n_running;

    unsigned n, n_places, n_cores, n_started; /* n_places: hardware threads; n_started: threads, without member 0 */
    int bound, spin;
    hwloc_topology_t topology;
    hwloc_cpuset_t allowed; /* of the thread that became member 0 */
    struct mb_team_place *places;
    struct member *members;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

struct member {
    struct mb_team *team;
    unsigned index;
    int bound;
    pthread_t thread;
};

/* ---- places ---- */

struct candidate {
    struct mb_team_place place;
    hwloc_obj_t core, cache;
    int kind;                          /* higher: more performance */
    unsigned core_in_cache, cache_in_node; /* positions among those allowed */
};

/* NULL where the topology tells of no caches. */
static hwloc_obj_t last_cache_of(hwloc_obj_t pu)
{
    hwloc_obj_t found = NULL;
    for (hwloc_obj_t at = pu->parent; at; at = at->parent)
        if (hwloc_obj_type_is_dcache(at->type))
            found = at;
    return found;
}

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
#define ORDER_BY(p, q)                                                                             \
    if ((p) != (q))                                                                                \
        return (p) < (q) ? -1 : 1
    ORDER_BY(x->place.sibling, y->place.sibling);
    ORDER_BY(y->kind, x->kind);
    ORDER_BY(x->core_in_cache, y->core_in_cache);
    ORDER_BY(x->cache_in_node, y->cache_in_node);
    ORDER_BY(x->place.node, y->place.node);
    ORDER_BY(x->place.cpu, y->place.cpu);
#undef ORDER_BY
    return 0;
}

/* Fill in the positions of candidate i from those before it. Quadratic in a number that is a few hundred at most. */
static void count_positions(struct candidate *all, unsigned i)
{
    struct candidate *c = all + i;
    int cache_seen = 0;
    for (unsigned k = 0; k < i; k++) {
        const struct candidate *before = all + k;
        if (before->core == c->core)
            c->place.sibling++;
        if (before->place.sibling)
            continue;
        if (before->cache == c->cache && before->place.node == c->place.node) {
            c->core_in_cache += before->core != c->core;
            c->cache_in_node = before->cache_in_node;
            cache_seen = 1;
        } else if (before->place.node == c->place.node && before->core_in_cache == 0 && !cache_seen) {
            c->cache_in_node++;
        }
    }
    if (c->place.sibling)
        for (unsigned k = 0; k < i; k++)
            if (all[k].core == c->core && all[k].place.sibling == 0) {
                c->core_in_cache = all[k].core_in_cache;
                c->cache_in_node = all[k].cache_in_node;
            }
}

unsigned mb_team_places(struct hwloc_topology *topology, const struct hwloc_bitmap_s *allowed,
                        struct mb_team_place *places, unsigned max)
{
    int n_pus = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    if (n_pus < 1)
        return 0;
    struct candidate *all = calloc((size_t)n_pus, sizeof *all);
    if (!all)
        return 0;
    unsigned n = 0;
    for (unsigned i = 0; i < (unsigned)n_pus; i++) {
        hwloc_obj_t pu = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, i);
        if (allowed && !hwloc_bitmap_isset(allowed, pu->os_index))
            continue;
        hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, pu);
        int node = hwloc_bitmap_first(pu->nodeset);
        all[n] = (struct candidate){
            .place = {.cpu = pu->os_index, .node = node < 0 ? 0 : (unsigned)node},
            .core = core ? core : pu,
            .cache = last_cache_of(pu),
            .kind = hwloc_cpukinds_get_by_cpuset(topology, pu->cpuset, 0),
        };
        count_positions(all, n);
        n++;
    }
    qsort(all, n, sizeof *all, compare_candidates);
    if (n > max)
        n = max;
    for (unsigned i = 0; i < n; i++)
        places[i] = all[i].place;
    free(all);
    return n;
}

/* ---- waiting ---- */

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* "yield" is a no-op on most cores and hammers the line */
#endif
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Wait a little: pauses first, then yields, which is what lets others go on when there are more threads than CPUs. */
static void wait_a_little(const struct mb_team *team, unsigned *turn)
{
    if (team->spin && *turn < SPINS) {
        ++*turn;
        pause_cpu();
    } else {
        sched_yield();
    }
}

void mb_team_barrier(struct mb_team *team)
{
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->n_arrived, 1, memory_order_acq_rel) + 1 == team->n_running) {
        atomic_store_explicit(&team->n_arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    unsigned turn = 0;
    while (atomic_load_explicit(&team->phase, memory_order_acquire) == phase)
        wait_a_little(team, &turn);
}

/* Wait for an order other than `seen`; asleep at once if nothing was to do in the last one. */
static uint_fast64_t wait_for_order(struct mb_team *team, uint_fast64_t seen, int sleep_now)
{
    uint_fast64_t order;
    uint64_t deadline_ns = 0;
    unsigned turn = 0;
    while (!sleep_now) {
        order = atomic_load_explicit(&team->order, memory_order_acquire);
        if (order != seen)
            return order;
        wait_a_little(team, &turn);
        if (turn < SPINS && team->spin)
            continue;
        if (!deadline_ns)
            deadline_ns = now_ns() + SLEEP_AFTER_NS;
        else if (now_ns() > deadline_ns)
            break;
    }
    /* Sleepers announce themselves before they look at the order, and the order is given before member 0 looks for sleepers
     * (both sequentially consistent): one of the two sees the other. */
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->n_asleep, 1);
    while ((order = atomic_load(&team->order)) == seen)
        pthread_cond_wait(&team->wake, &team->lock);
    atomic_fetch_sub(&team->n_asleep, 1);
    pthread_mutex_unlock(&team->lock);
    return order;
}

/* ---- members ---- */

static int bind_to(const struct mb_team *team, unsigned member)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    int done = set && hwloc_bitmap_only(set, team->places[member].cpu) == 0 &&
               hwloc_set_cpubind(team->topology, set, HWLOC_CPUBIND_THREAD) == 0;
    hwloc_bitmap_free(set);
    return done;
}

static void *work(void *arg)
{
    struct member *member = arg;
    struct mb_team *team = member->team;
    uint_fast64_t seen = 0;
    int called = 1;
    member->bound = bind_to(team, member->index);
    for (;;) {
        seen = wait_for_order(team, seen, !called);
        called = member->index < (seen & 0xffff);
        if (!called)
            continue;
        mb_team_fn *fn = team->fn;
        if (fn)
            fn(team->arg, member->index);
        atomic_fetch_add_explicit(&team->n_done, 1, memory_order_acq_rel);
        if (!fn)
            return NULL;
    }
}

void mb_team_run(struct mb_team *team, unsigned n, mb_team_fn *fn, void *arg)
{
    team->fn = fn;
    team->arg = arg;
    team->n_running = n;
    atomic_store_explicit(&team->n_done, 0, memory_order_relaxed);
    if (n > 1) {
        uint_fast64_t order = atomic_load_explicit(&team->order, memory_order_relaxed);
        atomic_store(&team->order, ((order >> 16) + 1) << 16 | n);
        if (atomic_load(&team->n_asleep)) {
            pthread_mutex_lock(&team->lock);
            pthread_cond_broadcast(&team->wake);
            pthread_mutex_unlock(&team->lock);
        }
    }
    if (fn)
        fn(arg, 0);
    unsigned turn = 0;
    while (atomic_load_explicit(&team->n_done, memory_order_acquire) != n - 1)
        wait_a_little(team, &turn);
}

static void do_nothing(void *arg, unsigned member)
{
    (void)arg;
    (void)member;
}

static int start_members(struct mb_team *team, struct mb_err *err)
{
    sigset_t all, before;
    int why = 0;
    team->members[0] = (struct member){.team = team, .bound = bind_to(team, 0)};
    /* Signals are the business of the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 1; i < team->n && !why; i++) {
        struct member *member = team->members + i;
        member->team = team;
        member->index = i;
        why = pthread_create(&member->thread, NULL, work, member);
        team->n_started += !why;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why)
        return mb_fail(err, MB_ENOHW, "thread %u of %u: %s; use fewer threads", team->n_started + 2, team->n,
                       strerror(why));
    mb_team_run(team, team->n, do_nothing, NULL); /* members bind themselves before their first order */
    team->bound = 1;
    for (unsigned i = 0; i < team->n; i++)
        team->bound &= team->members[i].bound;
    return MB_OK;
}

void mb_team_unbind(const struct mb_team *team)
{
    if (team->allowed)
        hwloc_set_cpubind(team->topology, team->allowed, HWLOC_CPUBIND_THREAD);
}

void mb_team_stop(struct mb_team *team)
{
    if (!team)
        return;
    if (team->n_started)
        mb_team_run(team, team->n_started + 1, NULL, NULL);
    for (unsigned i = 1; i <= team->n_started; i++)
        pthread_join(team->members[i].thread, NULL);
    mb_team_unbind(team);
    hwloc_bitmap_free(team->allowed);
    if (team->topology)
        hwloc_topology_destroy(team->topology);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    free(team->members);
    free(team->places);
    free(team);
}

/* The topology, and what the calling thread may use of it. */
static int read_topology(struct mb_team *team, struct mb_err *err)
{
    if (hwloc_topology_init(&team->topology) != 0) {
        team->topology = NULL;
        return mb_fail_memory(err);
    }
    if (hwloc_topology_load(team->topology) != 0)
        return mb_fail(err, MB_ENOHW, "the topology of this machine could not be read; is /sys mounted?");
    team->allowed = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(team->topology));
    hwloc_bitmap_t mine = hwloc_bitmap_alloc();
    if (!team->allowed || !mine) {
        hwloc_bitmap_free(mine);
        return mb_fail_memory(err);
    }
    /* A binding of the caller (taskset, a batch system) is respected where the OS tells it. */
    if (hwloc_get_cpubind(team->topology, mine, HWLOC_CPUBIND_THREAD) == 0 &&
        hwloc_bitmap_intersects(mine, team->allowed))
        hwloc_bitmap_and(team->allowed, team->allowed, mine);
    hwloc_bitmap_free(mine);
    return MB_OK;
}

int mb_team_start(unsigned n, struct mb_team **out, struct mb_err *err)
{
    if (n > MEMBERS_MAX)
        return mb_fail(err, MB_ERANGE, "%u threads: at most %u are possible", n, MEMBERS_MAX);
    struct mb_team *team = aligned_alloc(LINE, sizeof *team);
    if (!team)
        return mb_fail_memory(err);
    memset(team, 0, sizeof *team);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    int code = read_topology(team, err);
    if (code != MB_OK)
        goto fail;
    code = MB_ENOMEM;
    team->places = calloc(MEMBERS_MAX, sizeof *team->places);
    unsigned n_places = team->n_places =
        team->places ? mb_team_places(team->topology, team->allowed, team->places, MEMBERS_MAX) : 0;
    if (!n_places) {
        mb_fail_memory(err);
        goto fail;
    }
    team->n = n ? n : n_places;
    team->spin = team->n <= n_places;
    for (unsigned i = n_places; i < team->n; i++) {
        team->places[i] = team->places[i % n_places];
        team->places[i].sibling++;
    }
    for (unsigned i = 0; i < team->n; i++)
        team->n_cores += team->places[i].sibling == 0;
    team->members = calloc(team->n, sizeof *team->members);
    if (!team->members) {
        mb_fail_memory(err);
        goto fail;
    }
    code = start_members(team, err);
    if (code != MB_OK)
        goto fail;
    *out = team;
    return MB_OK;
fail:
    mb_team_stop(team);
    return code;
}

unsigned mb_team_size(const struct mb_team *team)
{
    return team->n;
}

unsigned mb_team_n_cores(const struct mb_team *team)
{
    return team->n_cores;
}

const struct mb_team_place *mb_team_place(const struct mb_team *team, unsigned member)
{
    return team->places + member;
}

int mb_team_is_bound(const struct mb_team *team)
{
    return team->bound;
}

unsigned mb_team_n_idle(const struct mb_team *team)
{
    return team->n < team->n_places ? team->n_places - team->n : 0;
}

unsigned mb_team_n_cpus(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (unsigned)CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}
