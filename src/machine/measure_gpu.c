/* SPDX-License-Identifier: MIT */
/* The GPU's part of a measurement: reads of its pools, both directions of its link, and CPU and GPU at once where they
 * read one pool. How a GPU reads and copies, and the proof that it did, is gpu/vk_measure.h; the CPU's buffer and team are
 * those of measure.c. What does not work here is told as a note or a rejected series; the CPU's figures stay. */
#include "gpu/vk_measure.h"
#include "machine/machine.h"
#include "machine/measure.h"
#include "machine/stream.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Four times the largest cache that a GPU has today, 256 MiB, and twice that to compare with. */
#define READ_BYTES ((uint64_t)1 << 30)
/* What a GPU is tried with first: a pass over more must not take longer than this, lest cancelling take long. */
#define PROBE_BYTES ((uint64_t)64 << 20)
#define PASS_S 0.04
#define COPY_BYTES ((uint64_t)128 << 20)
#define COPY_BYTES_SMALL ((uint64_t)32 << 20)
/* Of CPU and GPU at once: well over the pass of a GPU that has ended when the CPU still reads, well below the 0.1 s in which a
 * measurement must be cancellable. */
#define SHARED_S 0.06
#define SAMPLES_MIN 5

/* The samples of one series. */
struct samples {
    double *rate;
    unsigned n;
    uint64_t bytes; /* of one */
};

struct gpu_run {
    struct mb_measuring *all;
    struct mb_gpu *gpu;
    unsigned processor;
    const char *name;
    double seconds;
};

static int is_over(const struct samples *samples, double end_s)
{
    return samples->n == MB_LEVEL_SAMPLES_MAX || (samples->n >= SAMPLES_MIN && mb_now_s() >= end_s);
}

static int fail_cancelled(const struct gpu_run *run)
{
    return mb_fail(run->all->err, MB_ECANCEL, "the measurement was cancelled");
}

static void keep(struct samples *samples, double rate)
{
    if (isfinite(rate) && rate > 0)
        samples->rate[samples->n++] = rate;
}

static double median_of(const struct samples *samples)
{
    struct mb_levels levels;
    return mb_levels_find(samples->rate, samples->n, &levels) == MB_OK ? levels.median : 0;
}

static void tell(const struct gpu_run *run, const char *what)
{
    char text[160];
    snprintf(text, sizeof text, "%s: %s", run->name, what);
    mb_measuring_tell(run->all, text);
}

/* Append a series of this GPU. Returns NULL when out of memory. */
static struct mb_measured *add_series(struct gpu_run *run, enum mb_measured_kind kind, unsigned pool, unsigned pool_to,
                                      const struct samples *samples, const char *rejected)
{
    struct mb_measurement *measurement = run->all->measurement;
    struct mb_arena *arena = mb_machine_arena(run->all->machine);
    struct mb_measured *series =
        mb_arena_append(arena, &measurement->series, &measurement->n_series, sizeof *series);
    if (!series)
        return NULL;
    series->kind = kind;
    series->processor = run->processor;
    series->pool = pool;
    series->pool_to = pool_to;
    series->buffer_bytes = samples->bytes;
    series->rejected = mb_arena_text(arena, rejected);
    if (samples->n && mb_measure_summarise(series, samples->rate, samples->n) != MB_OK)
        return NULL;
    return series;
}

/* ---- reads ---- */

/* Read a buffer of that size for a while. MB_OK; MB_ECANCEL; else what the GPU says, in why. */
static int take_reads(struct gpu_run *run, uint64_t bytes, struct samples *samples, struct mb_err *why)
{
    int code = mb_gpu_read_prepare(run->gpu, bytes, why);
    double end_s = mb_now_s() + run->seconds;
    while (code == MB_OK && !is_over(samples, end_s)) {
        double seconds;
        if (mb_measuring_is_cancelled(run->all))
            return fail_cancelled(run);
        code = mb_gpu_read_once(run->gpu, &samples->bytes, &seconds, why);
        if (code == MB_OK)
            keep(samples, (double)samples->bytes / seconds);
    }
    return code;
}

static uint64_t at_most_asked(const struct gpu_run *run, uint64_t bytes)
{
    uint64_t asked = run->all->opts->buffer_bytes;
    return asked && asked < bytes ? asked & ~(uint64_t)0xffff : bytes;
}

/* How much this GPU can read in one pass. */
static int choose_bytes(struct gpu_run *run, uint64_t *bytes, struct mb_err *why)
{
    double seconds;
    int code = mb_gpu_read_prepare(run->gpu, at_most_asked(run, PROBE_BYTES), why);
    if (code == MB_OK)
        code = mb_gpu_read_once(run->gpu, bytes, &seconds, why);
    if (code == MB_OK && (double)*bytes / seconds * PASS_S > (double)*bytes) {
        double fits = (double)*bytes / seconds * PASS_S;
        *bytes = at_most_asked(run, fits < (double)READ_BYTES ? (uint64_t)fits & ~(uint64_t)0xfffff : READ_BYTES);
    }
    return code;
}

static int measure_reads(struct gpu_run *run, unsigned pool, struct samples *samples)
{
    const struct mb_machine *machine = run->all->machine;
    struct mb_arena *arena = mb_machine_arena(run->all->machine);
    const struct mb_pool *of = machine->pools + pool;
    struct mb_err why = {0};
    double half = 0;
    tell(run, "reading memory");
    uint64_t bytes = 0;
    int code = choose_bytes(run, &bytes, &why);
    if (code == MB_OK)
        code = take_reads(run, bytes, samples, &why);
    if (code == MB_OK && !run->all->opts->quick && samples->bytes == bytes) {
        half = median_of(samples);
        struct samples whole = {.rate = samples->rate + MB_LEVEL_SAMPLES_MAX};
        int again = take_reads(run, 2 * bytes, &whole, &why);
        if (again == MB_ENOMEM)
            half = 0; /* no room to compare with */
        else {
            code = again;
            if (whole.bytes > samples->bytes) {
                memmove(samples->rate, whole.rate, whole.n * sizeof *whole.rate);
                *samples = (struct samples){samples->rate, whole.n, whole.bytes};
            } else {
                half = 0;
            }
        }
    }
    if (code == MB_ECANCEL)
        return code;
    if (code != MB_OK && code != MB_EREJECT) {
        mb_machine_add_note(run->all->machine, "%s: its reads could not be measured: %s", run->name, why.text);
        return code == MB_ENOHW ? code : MB_OK;
    }
    const struct mb_evidence evidence = {
        .bytes_per_s = median_of(samples),
        .buffer_bytes = samples->bytes,
        .half_ratio = half > 0 && samples->n ? half / median_of(samples) : 0,
        .spec_bytes_per_s =
            mb_figure_known(&of->bandwidth_spec_bytes_per_s) ? of->bandwidth_spec_bytes_per_s.value : 0,
        /* The card is itself in a virtual machine, too; only the table of the RAM is the host's invention. */
        .virtual_machine = machine->virtual_by != NULL && of->kind != MB_POOL_VRAM,
    };
    const char *warning = NULL, *rejected = code == MB_EREJECT ? why.text : mb_measure_reject(arena, &evidence, &warning);
    if (!rejected && !samples->n)
        rejected = "no sample was taken";
    if (warning)
        mb_machine_add_note(run->all->machine, "%s", warning);
    struct mb_measured *series = add_series(run, MB_MEASURED_READ, pool, pool, samples, rejected);
    if (!series)
        return mb_fail_memory(run->all->err);
    series->method = mb_arena_format(arena, "Vulkan compute reads, %s", mb_gpu_clock(run->gpu));
    return MB_OK;
}

/* ---- copies ---- */

static int measure_copies(struct gpu_run *run, unsigned vram, struct samples *both)
{
    struct mb_arena *arena = mb_machine_arena(run->all->machine);
    struct samples samples[2] = {{.rate = both->rate}, {.rate = both->rate + MB_LEVEL_SAMPLES_MAX}}; /* from, to */
    struct mb_err why = {0};
    tell(run, "copying over its link");
    uint64_t bytes = at_most_asked(run, run->all->opts->quick ? COPY_BYTES_SMALL : COPY_BYTES);
    int code = mb_gpu_copy_prepare(run->gpu, bytes, &why);
    if (code == MB_ENOMEM && bytes > COPY_BYTES_SMALL)
        code = mb_gpu_copy_prepare(run->gpu, bytes = COPY_BYTES_SMALL, &why);
    double end_s = mb_now_s() + 2 * run->seconds;
    samples[0].bytes = samples[1].bytes = bytes;
    for (unsigned round = 0; code == MB_OK && !(is_over(samples, end_s) && is_over(samples + 1, end_s));
         round++) {
        int to_device = (round & 1) == 0;
        double seconds;
        if (mb_measuring_is_cancelled(run->all))
            return fail_cancelled(run);
        if (samples[to_device].n == MB_LEVEL_SAMPLES_MAX)
            break;
        code = mb_gpu_copy_once(run->gpu, to_device, &seconds, &why);
        if (code == MB_OK)
            keep(samples + to_device, (double)bytes / seconds);
    }
    if (code == MB_OK)
        code = mb_gpu_copy_check(run->gpu, &why);
    double latency_s = code == MB_OK ? mb_gpu_latency_s(run->gpu, NULL) : -1;
    if (code != MB_OK && code != MB_EREJECT) {
        mb_machine_add_note(run->all->machine, "%s: its link could not be measured: %s", run->name, why.text);
        return code == MB_ENOHW ? code : MB_OK;
    }
    for (int to_device = 1; to_device >= 0; to_device--) {
        struct mb_measured *series =
            add_series(run, MB_MEASURED_COPY, to_device ? run->all->pool : vram, to_device ? vram : run->all->pool,
                       samples + to_device, code == MB_EREJECT ? why.text : samples[to_device].n ? NULL : "no sample was taken");
        if (!series)
            return mb_fail_memory(run->all->err);
        series->latency_s = latency_s > 0 ? latency_s : 0;
        series->method = mb_arena_text(arena, "Vulkan copies of pinned memory, host clock");
    }
    return MB_OK;
}

/* ---- CPU and GPU at once ---- */

struct shared_read {
    struct gpu_run *run;
    uint64_t bytes;
    double seconds;
    int code;
    struct mb_err why;
    atomic_int done;
};

static void *read_on_gpu(void *arg)
{
    struct shared_read *shared = arg;
    mb_team_unbind(shared->run->all->team);
    shared->code =
        mb_gpu_read_for(shared->run->gpu, SHARED_S, &shared->bytes, &shared->seconds, &shared->why);
    atomic_store(&shared->done, 1);
    return NULL;
}

/* One sample: the team reads from before the GPU starts until after it ends, so that all of the GPU's time is contended.
 * Adds up the team's bad blocks. */
static int take_shared(struct gpu_run *run, struct samples *samples, uint64_t *n_bad, struct mb_err *why)
{
    struct shared_read shared = {.run = run};
    struct mb_stream_sample sample;
    double bytes = 0, seconds = 0;
    pthread_t thread;
    int code = pthread_create(&thread, NULL, read_on_gpu, &shared);
    if (code)
        return mb_fail(why, MB_ENOTSUP, "no thread for it: %s", strerror(code));
    do {
        mb_stream_read(run->all->stream, mb_team_size(run->all->team), 0, 0.005, &sample);
        bytes += (double)sample.bytes;
        seconds += sample.seconds;
        *n_bad += sample.n_bad_blocks;
    } while (!atomic_load(&shared.done));
    pthread_join(thread, NULL);
    if (shared.code != MB_OK)
        return mb_fail(why, shared.code, "%s", shared.why.text);
    keep(samples, bytes / seconds + (double)shared.bytes / shared.seconds);
    return MB_OK;
}

static int measure_shared(struct gpu_run *run, unsigned pool, struct samples *samples)
{
    struct mb_arena *arena = mb_machine_arena(run->all->machine);
    struct mb_err why = {0};
    uint64_t n_bad = 0;
    *samples = (struct samples){.rate = samples->rate, .bytes = mb_stream_bytes(run->all->stream)};
    tell(run, "reading together with the CPU");
    int code = MB_OK;
    for (double end_s = mb_now_s() + run->seconds; code == MB_OK && !is_over(samples, end_s);) {
        if (mb_measuring_is_cancelled(run->all))
            return fail_cancelled(run);
        code = take_shared(run, samples, &n_bad, &why);
    }
    if (code != MB_OK && code != MB_EREJECT) {
        mb_machine_add_note(run->all->machine, "%s: reads together with the CPU could not be measured: %s", run->name,
                            why.text);
        return code == MB_ENOHW ? code : MB_OK;
    }
    const char *rejected = code == MB_EREJECT ? why.text
                           : n_bad            ? "the CPU's blocks had wrong checksums: not everything was read"
                                              : NULL;
    struct mb_measured *series = add_series(run, MB_MEASURED_SHARED, pool, pool, samples, rejected);
    if (!series)
        return mb_fail_memory(run->all->err);
    series->n_threads = mb_team_size(run->all->team);
    series->method = mb_arena_format(arena, "%s loads, %u threads, and Vulkan compute reads at once",
                                     run->all->kernels->read_name, series->n_threads);
    return MB_OK;
}

int mb_measure_gpu(struct mb_measuring *all, unsigned processor, double seconds)
{
    const struct mb_machine *machine = all->machine;
    const struct mb_processor *gpu = machine->processors + processor;
    struct gpu_run run = {.all = all, .processor = processor, .seconds = seconds};
    struct mb_err why = {0};
    run.name = gpu->name ? gpu->name : gpu->id ? gpu->id : "GPU";
    struct samples samples = {.rate = calloc(2 * MB_LEVEL_SAMPLES_MAX, sizeof(double))};
    if (!samples.rate)
        return mb_fail_memory(all->err);
    int code = mb_gpu_open(gpu->pci, gpu->name, all->opts->allow_software_gpu, &run.gpu, &why);
    if (code != MB_OK) {
        free(samples.rate);
        mb_machine_add_note(all->machine, "%s was not measured: %s", run.name, why.text);
        return MB_OK;
    }
    for (unsigned r = 0; r < gpu->n_reads && code == MB_OK; r++) {
        unsigned pool = gpu->reads[r].pool;
        if (pool >= machine->n_pools || machine->pools[pool].kind == MB_POOL_SYSTEM)
            continue; /* over the link: that is what copies tell */
        samples.n = 0;
        code = measure_reads(&run, pool, &samples);
        if (code == MB_OK && pool == all->pool)
            code = measure_shared(&run, pool, &samples);
        else if (code == MB_OK)
            code = measure_copies(&run, pool, &samples);
    }
    mb_gpu_close(run.gpu);
    free(samples.rate);
    /* A lost device was told as a note, and the others can still be measured. */
    return code == MB_ENOHW ? MB_OK : code;
}
