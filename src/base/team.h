/* SPDX-License-Identifier: MIT */
/* A team of threads that work on one thing together and are bound to the hardware threads that suit reading memory best.
 * The thread that starts a team is its member 0: it is bound while the team lives, and only it may run and stop the team.
 * Everything that a member writes before a barrier, or before its run ends, the others see after it. */
#ifndef MB_TEAM_H
#define MB_TEAM_H

#include "base/base.h"

struct mb_team;
struct hwloc_topology;
struct hwloc_bitmap_s;

/* What a run calls on each of its members. It returns when its part is done; it starts no run of its own. */
typedef void mb_team_fn(void *arg, unsigned member);

/* Where a member runs. */
struct mb_team_place {
    unsigned cpu;     /* number that the OS gives the hardware thread */
    unsigned node;    /* the nearest memory: index of the NUMA node */
    unsigned sibling; /* 0: the first hardware thread of its core in this order */
};

/* The order in which members take places: first one thread on each core, then their SMT siblings. Cores with the
 * higher performance come first, and consecutive members sit on different NUMA nodes and different last-level caches, because
 * each of these has a path to memory of its own.
 *   topology  in   loaded
 *   allowed   in   only these hardware threads; NULL: all
 *   places    out  [max]
 * Returns how many were written, 0 when out of memory. Pure. */
unsigned mb_team_places(struct hwloc_topology *topology, const struct hwloc_bitmap_s *allowed,
                        struct mb_team_place *places, unsigned max);

/* Start a team of n members (1..4096), 0: one on each hardware thread that the calling thread may use. More members than
 * hardware threads share them in turn, and then wait without spinning.
 * Returns MB_OK; MB_ERANGE; MB_ENOMEM; MB_ENOHW: the topology could not be read or a thread not be started. */
int mb_team_start(unsigned n, struct mb_team **out, struct mb_err *err);

/* End the threads and give member 0 its old binding back. NULL is allowed. */
void mb_team_stop(struct mb_team *team);

/* Members; cores that they sit on (SMT siblings count once); the place of one; are all bound? (macOS binds nothing) */
unsigned mb_team_size(const struct mb_team *team);
unsigned mb_team_n_cores(const struct mb_team *team);
const struct mb_team_place *mb_team_place(const struct mb_team *team, unsigned member);
int mb_team_is_bound(const struct mb_team *team);
/* Hardware threads that it may use and has no member on. */
unsigned mb_team_n_idle(const struct mb_team *team);
/* Hardware threads that the calling thread may use, without a team; at least 1. */
unsigned mb_team_n_cpus(void);

/* Call fn(arg, i) on the members i < n (1..size) at once and return when all have returned. Members wait spinning, so that a
 * run costs about a microsecond; after 2 ms without work they sleep, those that were left out at once. */
void mb_team_run(struct mb_team *team, unsigned n, mb_team_fn *fn, void *arg);

/* Inside a run: wait until all its members are here. */
void mb_team_barrier(struct mb_team *team);

/* For a thread that a member started and that is no member: leave the place inherited from it for all the places that the team
 * was allowed to take. */
void mb_team_unbind(const struct mb_team *team);

#endif
