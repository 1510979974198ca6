/* SPDX-License-Identifier: MIT */
/* The clocks that measurements are taken with, in seconds. */
#include "base/base.h"

#include <time.h>

static double clock_s(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double mb_now_s(void)
{
    return clock_s(CLOCK_MONOTONIC);
}

double mb_cpu_now_s(void)
{
    return clock_s(CLOCK_THREAD_CPUTIME_ID);
}

double mb_process_cpu_s(void)
{
    return clock_s(CLOCK_PROCESS_CPUTIME_ID);
}
