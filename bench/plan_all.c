/* SPDX-License-Identifier: MIT */
/* plan_all: how long it takes to plan every model of the catalog in five quantizations on every machine of the catalog:
 * placed for the fastest decoding, and predicted. Loads and costs are made once; each pair is then placed and predicted
 * anew.
 *
 * usage: bench-plan-all [THREADS]     default: 1, then every hardware thread */
#include "catalog/catalog.h"
#include "plan/advise.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUANTS = 5, THREADS_MAX = 64 };

static const char *const quants[QUANTS] = {"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M"};

struct work {
    struct mb_model **models;
    struct mb_load **loads;
    size_t n_loads;
    struct mb_site *sites;
    size_t n_sites;
    struct mb_advise_terms terms;
    atomic_size_t next;
    atomic_size_t n_plans, n_fit;
};

static void *run(void *arg)
{
    struct work *work = arg;
    struct mb_trial trial = {.load = NULL};
    size_t n_plans = 0, n_fit = 0;
    for (size_t i; (i = atomic_fetch_add(&work->next, 1)) < work->n_loads;) {
        if (mb_trial_load(&trial, work->loads[i], NULL) != MB_OK)
            abort();
        for (size_t m = 0; m < work->n_sites; m++) {
            struct mb_outcome fit;
            mb_trial_run(&trial, work->sites + m, &work->terms, &fit, NULL);
            n_plans++;
            n_fit += !(fit.misses & (MB_MISS_RUN | MB_MISS_FIT));
        }
    }
    mb_trial_free(&trial);
    atomic_fetch_add(&work->n_plans, n_plans);
    atomic_fetch_add(&work->n_fit, n_fit);
    return NULL;
}

static void measure(struct work *work, unsigned n_threads)
{
    pthread_t threads[THREADS_MAX];
    double best_s = 1e9, best_cpu_s = 1e9;
    for (int repeat = 0; repeat < 5; repeat++) {
        atomic_store(&work->next, 0);
        atomic_store(&work->n_plans, 0);
        atomic_store(&work->n_fit, 0);
        double began_s = mb_now_s(), cpu_s = mb_process_cpu_s();
        for (unsigned i = 0; i < n_threads; i++) {
            if (pthread_create(threads + i, NULL, run, work) != 0)
                abort();
        }
        for (unsigned i = 0; i < n_threads; i++)
            pthread_join(threads[i], NULL);
        double took_s = mb_now_s() - began_s;
        cpu_s = mb_process_cpu_s() - cpu_s;
        best_s = took_s < best_s ? took_s : best_s;
        best_cpu_s = cpu_s < best_cpu_s ? cpu_s : best_cpu_s;
    }
    /* On a shared machine the CPU time says what a quiet one would need. */
    printf("%u thread%s  %.3f s (%.3f s of CPU time, %.1f us each)  %zu plans, %zu fit\n", n_threads, n_threads == 1 ? " " : "s",
           best_s, best_cpu_s, best_cpu_s / (double)work->n_plans * 1e6, (size_t)work->n_plans, (size_t)work->n_fit);
}

int main(int argc, char **argv)
{
    struct work work = {.n_loads = 0};
    struct mb_err err;
    size_t n_names = 0;
    const char *const *names = mb_model_names(&n_names);
    work.models = calloc(n_names * QUANTS, sizeof(struct mb_model *));
    work.loads = calloc(n_names * QUANTS, sizeof(struct mb_load *));
    double began_s = mb_now_s();
    if (!work.models || !work.loads || mb_advise_settle(NULL, &work.terms, &err) != MB_OK)
        return 1;
    for (size_t i = 0; i < n_names * QUANTS; i++) {
        char spec[200];
        struct mb_model_info info;
        snprintf(spec, sizeof spec, "%s@%s", names[i / QUANTS], quants[i % QUANTS]);
        if (mb_model_catalog(spec, work.models + i, &err) != MB_OK)
            return 1;
        mb_model_get_info(work.models[i], &info);
        uint64_t n_ctx = info.context_max && info.context_max < MB_ADVISE_CTX ? info.context_max : MB_ADVISE_CTX;
        if (mb_load_build(work.models[i], n_ctx, NULL, work.loads + i, &err) != MB_OK)
            return 1;
        work.n_loads++;
    }
    double models_s = mb_now_s() - began_s;
    struct mb_catalog_row *rows = NULL;
    struct mb_machine **machines = NULL;
    began_s = mb_now_s();
    if (mb_catalog_machines(&rows, &machines, &work.n_sites, &err) != MB_OK)
        return 1;
    work.sites = calloc(work.n_sites, sizeof *work.sites);
    for (size_t i = 0; i < work.n_sites && work.sites; i++)
        mb_site_init(work.sites + i, machines[i], work.terms.engine);
    printf("%zu models x %d quantizations opened and loaded  %.3f s\n", n_names, (int)QUANTS, models_s);
    printf("%zu machines composed  %.3f s\n", work.n_sites, mb_now_s() - began_s);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned most = argc > 1 ? (unsigned)atoi(argv[1]) : cpus > 0 ? (unsigned)cpus : 1;
    measure(&work, 1);
    if (most > 1)
        measure(&work, most > THREADS_MAX ? THREADS_MAX : most);
    for (size_t i = 0; i < work.n_loads; i++) {
        mb_load_free(work.loads[i]);
        mb_model_free(work.models[i]);
    }
    free(work.loads);
    free(work.models);
    free(work.sites);
    mb_catalog_rows_free(rows);
    mb_catalog_machines_free(machines, work.n_sites);
    return 0;
}
