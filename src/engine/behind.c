/* SPDX-License-Identifier: MIT */
/* Bringing weights to memory behind a running model: a few threads, each of which takes the next tensor of the given order.
 * Assumes that kernels form the same sums whatever the order of rows, so that it does not matter when a reader sees a tensor
 * move. Which tensors, and where they are looked up, is left to weights.c. */
#include "engine/behind.h"
#include "base/base.h"
#include "engine/pages.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGN 4096

struct mb_behind {
    const struct mb_kernels *kernels;
    struct mb_behind_tensor *tensors;
    size_t n;
    uint8_t *pages;
    uint64_t taken_bytes, n_bytes;
    pthread_t threads[MB_BEHIND_THREADS_MAX];
    unsigned n_threads;
    /* shared with the threads */
    size_t next, n_done;
    uint64_t done_bytes;
    double done_at_s; /* written before `done` */
    int done, stop, held;
    pthread_mutex_t lock;
    pthread_cond_t turned; /* stop or held */
};

static uint64_t bytes_of(const struct mb_behind_tensor *tensor)
{
    return tensor->n_matrices * tensor->n_rows * tensor->row_bytes;
}

/* 0: told to stop. */
static int may_go_on(struct mb_behind *behind)
{
    if (__atomic_load_n(&behind->held, __ATOMIC_RELAXED)) {
        pthread_mutex_lock(&behind->lock);
        while (behind->held && !behind->stop)
            pthread_cond_wait(&behind->turned, &behind->lock);
        pthread_mutex_unlock(&behind->lock);
    }
    return !__atomic_load_n(&behind->stop, __ATOMIC_RELAXED);
}

static void set(struct mb_behind *behind, int *flag, int to)
{
    pthread_mutex_lock(&behind->lock);
    __atomic_store_n(flag, to, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&behind->turned);
    pthread_mutex_unlock(&behind->lock);
}

void mb_behind_hold(struct mb_behind *behind, int hold)
{
    set(behind, &behind->held, hold);
}

/* 0: told to stop on the way. */
static int bring(struct mb_behind *behind, const struct mb_behind_tensor *tensor)
{
    for (uint64_t matrix = 0; matrix < tensor->n_matrices; matrix++)
        for (uint64_t row = 0; row < tensor->n_rows; row += MB_ROWS_AT_ONCE) {
            if (!may_go_on(behind))
                return 0;
            size_t n = tensor->n_rows - row < MB_ROWS_AT_ONCE ? (size_t)(tensor->n_rows - row) : MB_ROWS_AT_ONCE;
            uint64_t at = (matrix * tensor->n_rows + row) * tensor->row_bytes;
            uint8_t *to = behind->pages + (tensor->to.data - behind->pages) + at;
            mb_rows_bring(behind->kernels, tensor->type, tensor->to.packed, to, tensor->from + at, tensor->row_bytes, n);
        }
    return 1;
}

/* The file stays mapped, for readers who still hold the old place and for rows that are looked up; only its pages go. */
static void let_go(const struct mb_behind_tensor *tensor)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)tensor->from + page - 1) / page * page,
              end = ((uintptr_t)tensor->from + bytes_of(tensor)) / page * page;
    if (begin < end)
        madvise((void *)(tensor->from + (begin - (uintptr_t)tensor->from)), end - begin, MADV_DONTNEED);
}

int mb_behind_step(struct mb_behind *behind)
{
    size_t next = __atomic_fetch_add(&behind->next, 1, __ATOMIC_RELAXED);
    if (next >= behind->n || !bring(behind, &behind->tensors[next]))
        return 0;
    struct mb_behind_tensor *tensor = &behind->tensors[next];
    __atomic_store_n(tensor->now, &tensor->to, __ATOMIC_RELEASE);
    let_go(tensor);
    __atomic_fetch_add(&behind->done_bytes, bytes_of(tensor), __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&behind->n_done, 1, __ATOMIC_ACQ_REL) == behind->n) {
        behind->done_at_s = mb_now_s();
        __atomic_store_n(&behind->done, 1, __ATOMIC_RELEASE);
    }
    return 1;
}

static void *work(void *arg)
{
    while (mb_behind_step(arg))
        ;
    return NULL;
}

void mb_behind_close(struct mb_behind *behind)
{
    if (!behind)
        return;
    set(behind, &behind->stop, 1);
    for (unsigned i = 0; i < behind->n_threads; i++)
        pthread_join(behind->threads[i], NULL);
    mb_pages_give(behind->pages, behind->taken_bytes);
    pthread_cond_destroy(&behind->turned);
    pthread_mutex_destroy(&behind->lock);
    free(behind);
}

int mb_behind_open(struct mb_behind_tensor *tensors, size_t n, const struct mb_kernels *kernels, struct mb_behind **out)
{
    struct mb_behind *behind = calloc(1, sizeof *behind);
    if (!behind)
        return MB_ENOMEM;
    pthread_mutex_init(&behind->lock, NULL);
    pthread_cond_init(&behind->turned, NULL);
    behind->kernels = kernels;
    behind->tensors = tensors;
    behind->n = n;
    for (size_t i = 0; i < n; i++) {
        behind->taken_bytes += (bytes_of(&tensors[i]) + ALIGN - 1) / ALIGN * ALIGN;
        behind->n_bytes += bytes_of(&tensors[i]);
    }
    uint8_t *at = behind->pages = mb_pages_take(behind->taken_bytes);
    if (!at) {
        mb_behind_close(behind);
        return MB_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        tensors[i].to.data = at;
        at += (bytes_of(&tensors[i]) + ALIGN - 1) / ALIGN * ALIGN;
    }
    *out = behind;
    return MB_OK;
}

int mb_behind_start(struct mb_behind *behind, unsigned n)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    n = n < MB_BEHIND_THREADS_MAX ? n : MB_BEHIND_THREADS_MAX;
    while (behind->n_threads < n && pthread_create(&behind->threads[behind->n_threads], NULL, work, behind) == 0)
        behind->n_threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (behind->n_threads)
        return MB_OK;
    mb_pages_give(behind->pages, behind->taken_bytes);
    behind->pages = NULL;
    behind->n = behind->taken_bytes = behind->n_bytes = 0;
    return MB_ENOMEM;
}

unsigned mb_behind_n_busy(const struct mb_behind *behind)
{
    return __atomic_load_n(&behind->done, __ATOMIC_ACQUIRE) ? 0 : behind->n_threads;
}

void mb_behind_get_state(const struct mb_behind *behind, struct mb_behind_state *out)
{
    int done = __atomic_load_n(&behind->done, __ATOMIC_ACQUIRE);
    *out = (struct mb_behind_state){.taken_bytes = behind->taken_bytes,
                                    .done_bytes = __atomic_load_n(&behind->done_bytes, __ATOMIC_RELAXED),
                                    .n_bytes = behind->n_bytes,
                                    .done_at_s = done ? behind->done_at_s : 0};
}
