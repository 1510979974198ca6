/* SPDX-License-Identifier: MIT */
/* Measures the sustained read bandwidth of the pools of the machine that this runs on: how much, how long, in which
 * order, and whether a figure may be believed. docs/measurement.md tells the method in words. Reading itself is stream.c,
 * statistics are levels.c, and making figures the machine's is measured.c. */
#include "machine/measure.h"
#include "machine/machine.h"
#include "machine/measured.h"
#include "machine/stream.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUFFER_MIN ((uint64_t)64 << 20)
#define BUFFER_WANTED ((uint64_t)1280 << 20) /* over 1 GiB */
#define CACHE_TIMES 4      /* a sweep of four times the cache finds nothing in it but by its replacement's luck */
#define CACHE_TIMES_MIN 2
#define HALF_TOLERANCE 0.1
#define SPEC_TOLERANCE 0.05
#define AWAY_MAX 0.05

/* Samples are short against the seconds between two jumps of a virtual machine and long against a thread's start. */
#define SAMPLE_S 0.02
#define SAMPLE_QUICK_S 0.015
#define WARM_UP_S 0.3
#define ROUNDS_MIN 3

enum { COUNTS_MAX = 16 };

/* At most, for the shares of time: reads on two sizes of buffer, two directions of a link. */
enum { SERIES_PER_GPU = 4 };

/* ---- rules ---- */

unsigned mb_measure_counts(unsigned n_threads, unsigned n_cores, unsigned counts[COUNTS_MAX])
{
    unsigned n = 0;
    for (unsigned count = 1; count < n_threads && n < COUNTS_MAX - 2; count *= 2) {
        if (n && counts[n - 1] < n_cores && n_cores < count)
            counts[n++] = n_cores;
        counts[n++] = count;
    }
    if (n && counts[n - 1] < n_cores && n_cores < n_threads)
        counts[n++] = n_cores;
    counts[n++] = n_threads;
    return n;
}

uint64_t mb_measure_buffer(uint64_t asked_bytes, uint64_t cache_bytes, uint64_t free_bytes, int quick)
{
    uint64_t wanted = BUFFER_WANTED;
    if (cache_bytes < UINT64_MAX / 16 && wanted < CACHE_TIMES * cache_bytes)
        wanted = CACHE_TIMES * cache_bytes;
    if (!quick)
        wanted *= 2;
    if (asked_bytes)
        wanted = asked_bytes;
    if (free_bytes && wanted > free_bytes / 2)
        wanted = free_bytes / 2;
    return wanted < BUFFER_MIN ? 0 : wanted;
}

const char *mb_measure_reject(struct mb_arena *arena, const struct mb_evidence *e, const char **warning)
{
    char a[32], b[32];
    const char *ignored;
    if (!warning)
        warning = &ignored;
    *warning = NULL;
    if (e->n_bad_blocks)
        return mb_arena_format(arena,
                               "%llu of %llu blocks had the wrong checksum: not everything was read, or memory is faulty",
                               (unsigned long long)e->n_bad_blocks, (unsigned long long)e->n_blocks);
    if (e->buffer_bytes < CACHE_TIMES_MIN * e->cache_bytes)
        return mb_arena_format(arena, "the buffer of %s fits the caches of %s to half or more, so they were measured, too",
                               mb_format_bytes((double)e->buffer_bytes, a, sizeof a),
                               mb_format_bytes((double)e->cache_bytes, b, sizeof b));
    if (e->half_ratio > 0 && fabs(e->half_ratio - 1) > HALF_TOLERANCE)
        return mb_arena_format(arena, "half of the buffer is read at %.2f times the rate of all of it: caches are in play",
                               e->half_ratio);
    if (e->spec_bytes_per_s > 0 && e->bytes_per_s > e->spec_bytes_per_s * (1 + SPEC_TOLERANCE)) {
        mb_format_rate(e->bytes_per_s, a, sizeof a);
        mb_format_rate(e->spec_bytes_per_s, b, sizeof b);
        if (!e->virtual_machine)
            return mb_arena_format(arena, "%s are more than the memory can deliver (%s): one of the two is wrong", a, b);
        *warning = mb_arena_format(arena,
                                   "%s were measured, yet the memory that the firmware tells of delivers at most %s: on a "
                                   "virtual machine that table is often made up.",
                                   a, b);
    }
    return NULL;
}

int mb_measure_summarise(struct mb_measured *series, const double *samples, unsigned n)
{
    struct mb_levels levels;
    int code = mb_levels_find(samples, n, &levels);
    if (code != MB_OK)
        return code;
    series->n_samples = n;
    series->bytes_per_s = levels.level[levels.holds].bytes_per_s;
    series->median_bytes_per_s = levels.median;
    series->min_bytes_per_s = levels.min;
    series->max_bytes_per_s = levels.max;
    series->spread = levels.spread;
    series->n_levels = levels.n;
    memcpy(series->levels, levels.level, sizeof series->levels);
    return MB_OK;
}

/* ---- the CPU ---- */

/* The samples of one number of threads. */
struct trial {
    unsigned n_threads, n;
    double samples[MB_LEVEL_SAMPLES_MAX];
    uint64_t n_blocks, n_bad_blocks;
    double cpu_share_sum;
};

struct cpu_run {
    struct mb_measuring *all;
    uint64_t cache_bytes, free_bytes;
    unsigned n_trials;
    struct trial *trials; /* [n_trials], ascending by threads */
    double *ratios;       /* half buffer / whole, one for each pair of samples */
    unsigned n_ratios;
};

int mb_measuring_is_cancelled(const struct mb_measuring *run)
{
    return run->opts->cancel && *run->opts->cancel;
}

void mb_measuring_tell(const struct mb_measuring *run, const char *what)
{
    double share = (mb_now_s() - run->began_s) / run->expected_s;
    if (run->opts->progress)
        run->opts->progress(run->opts->user, what, share < 0.99 ? share : 0.99);
}

/* Bytes that programs could have now; 0 unknown. */
static uint64_t free_now(const struct mb_pool *pool)
{
    struct mb_arena arena = {0};
    double bytes = mb_figure_known(&pool->free_bytes) ? pool->free_bytes.value : 0;
    const char *meminfo = mb_file_read(&arena, NULL, "/proc/meminfo", 1 << 20, NULL);
    const char *line = meminfo ? strstr(meminfo, "MemAvailable:") : NULL;
    unsigned long long kib;
    if (line && sscanf(line, "MemAvailable: %llu kB", &kib) == 1 && (bytes == 0 || (double)kib * 1024 < bytes))
        bytes = (double)kib * 1024;
    mb_arena_free(&arena);
    return (uint64_t)bytes;
}

/* The CPU and the pool that it reads. */
static int find_cpu(struct mb_measuring *all)
{
    const struct mb_machine *machine = all->machine;
    const char *name = machine->name ? machine->name : "this machine";
    for (all->cpu = 0; all->cpu < machine->n_processors; all->cpu++)
        if (machine->processors[all->cpu].kind == MB_PROCESSOR_CPU)
            break;
    if (all->cpu == machine->n_processors)
        return mb_fail(all->err, MB_EINVAL, "%s: no CPU in it", name);
    const struct mb_processor *cpu = machine->processors + all->cpu;
    for (unsigned r = 0; r < cpu->n_reads; r++)
        if (machine->pools[cpu->reads[r].pool].kind != MB_POOL_VRAM) {
            all->pool = cpu->reads[r].pool;
            return MB_OK;
        }
    return mb_fail(all->err, MB_EINVAL, "%s: its CPU reads no memory", name);
}

/* Team, buffer, and room for the samples. */
static int prepare(struct cpu_run *run)
{
    struct mb_measuring *all = run->all;
    int code = mb_team_start(all->opts->n_threads_max, &all->team, all->err);
    if (code != MB_OK)
        return code;
    unsigned counts[COUNTS_MAX];
    run->n_trials = mb_measure_counts(mb_team_size(all->team), mb_team_n_cores(all->team), counts);
    run->trials = calloc(run->n_trials, sizeof *run->trials);
    run->ratios = calloc(MB_LEVEL_SAMPLES_MAX, sizeof *run->ratios);
    if (!run->trials || !run->ratios)
        return mb_fail_memory(all->err);
    for (unsigned i = 0; i < run->n_trials; i++)
        run->trials[i].n_threads = counts[i];
    run->free_bytes = free_now(all->machine->pools + all->pool);
    uint64_t asked = all->opts->buffer_bytes;
    uint64_t bytes = mb_measure_buffer(asked, run->cache_bytes, run->free_bytes, all->opts->quick);
    if (!bytes) {
        char text[32];
        if (asked && asked < BUFFER_MIN)
            return mb_fail(all->err, MB_EINVAL, "a buffer under 64 MiB measures caches; ask for more");
        return mb_fail(all->err, MB_ENOMEM, "%s of memory are free, 128 MiB are needed; end other programs",
                       mb_format_bytes((double)run->free_bytes, text, sizeof text));
    }
    mb_measuring_tell(all, "filling memory");
    return mb_stream_open(all->team, all->kernels, bytes, all->opts->cancel, &all->stream, all->err);
}

static double sample(struct cpu_run *run, struct trial *trial, int half)
{
    struct mb_stream_sample sample;
    mb_stream_read(run->all->stream, trial->n_threads, half, run->all->opts->quick ? SAMPLE_QUICK_S : SAMPLE_S,
                   &sample);
    trial->n_blocks += sample.bytes / MB_STREAM_BLOCK_BYTES;
    trial->n_bad_blocks += sample.n_bad_blocks;
    if (!half) {
        trial->samples[trial->n++] = sample.bytes_per_s;
        trial->cpu_share_sum += sample.cpu_share;
    }
    return sample.bytes_per_s;
}

/* Rounds of one sample for each number of threads, so that what the machine does over time meets all of them alike.
 * Beside the sample with the most threads one of half the buffer is taken, before it and after it in turn. */
static int take_samples(struct cpu_run *run, double seconds)
{
    double end_s = mb_now_s() + seconds;
    struct trial *most = run->trials + run->n_trials - 1;
    for (unsigned round = 0; round < ROUNDS_MIN || mb_now_s() < end_s; round++) {
        for (unsigned i = 0; i < run->n_trials; i++) {
            struct trial *trial = run->trials + (i + round) % run->n_trials;
            char what[64];
            if (mb_measuring_is_cancelled(run->all))
                return mb_fail(run->all->err, MB_ECANCEL, "the measurement was cancelled");
            snprintf(what, sizeof what, "reading memory with %u thread%s", trial->n_threads,
                     trial->n_threads == 1 ? "" : "s");
            mb_measuring_tell(run->all, what);
            if (trial->n == MB_LEVEL_SAMPLES_MAX)
                return MB_OK;
            if (trial != most || run->all->opts->quick) {
                sample(run, trial, 0);
                continue;
            }
            double first = sample(run, trial, round & 1), second = sample(run, trial, !(round & 1));
            run->ratios[run->n_ratios++] = round & 1 ? first / second : second / first;
        }
    }
    return MB_OK;
}

/* The share of the time that other programs took from the threads of a trial. */
static double away_share(const struct trial *trial)
{
    return 1 - trial->cpu_share_sum / trial->n;
}

/* What a reader of the history must know of a figure, long after the notes of that run are gone. */
static const char *method_text(const struct cpu_run *run, const struct trial *trial, double huge)
{
    const struct mb_measuring *all = run->all;
    uint64_t bytes = mb_stream_bytes(all->stream);
    char pages[64], small[96] = "", busy[64] = "", text[32];
    if (huge < 0)
        snprintf(pages, sizeof pages, "pages of the system");
    else if (huge < 0.005 || huge > 0.995)
        snprintf(pages, sizeof pages, "%s pages", huge < 0.5 ? "small" : "huge");
    else
        snprintf(pages, sizeof pages, "%.0f %% huge pages", 100 * huge);
    if (run->cache_bytes && bytes < CACHE_TIMES * run->cache_bytes)
        snprintf(small, sizeof small, ", buffer only %.1f times the last cache", (double)bytes / (double)run->cache_bytes);
    else if (bytes < (uint64_t)1 << 30)
        snprintf(small, sizeof small, ", buffer only %s", mb_format_bytes((double)bytes, text, sizeof text));
    if (away_share(trial) > AWAY_MAX)
        snprintf(busy, sizeof busy, ", other programs took %.0f %% of the CPUs", 100 * away_share(trial));
    return mb_arena_format(mb_machine_arena(all->machine), "%s loads, %s, %u thread%s%s%s%s", all->kernels->read_name,
                           pages, trial->n_threads, trial->n_threads == 1 ? "" : "s",
                           mb_team_is_bound(all->team) ? "" : ", not bound", small, busy);
}

/* Turn the samples into series. */
static int conclude(struct cpu_run *run)
{
    struct mb_measuring *all = run->all;
    struct mb_machine *machine = all->machine;
    struct mb_arena *arena = mb_machine_arena(machine);
    const struct mb_pool *pool = machine->pools + all->pool;
    double half_ratio = 0, huge_share = mb_stream_huge_share(all->stream);
    if (run->n_ratios) {
        mb_sort(run->ratios, run->n_ratios);
        half_ratio = mb_quantile(run->ratios, run->n_ratios, 0.5);
    }
    for (unsigned i = 0; i < run->n_trials; i++) {
        const struct trial *trial = run->trials + i;
        struct mb_measured *series =
            mb_arena_append(arena, &all->measurement->series, &all->measurement->n_series, sizeof *series);
        if (!series)
            return mb_fail_memory(all->err);
        series->kind = MB_MEASURED_READ;
        series->processor = all->cpu;
        series->pool = series->pool_to = all->pool;
        series->n_threads = trial->n_threads;
        series->buffer_bytes = mb_stream_bytes(all->stream);
        series->method = method_text(run, trial, huge_share);
        if (mb_measure_summarise(series, trial->samples, trial->n) != MB_OK)
            return mb_fail_memory(all->err);
        const char *warning;
        const struct mb_evidence evidence = {
            .bytes_per_s = series->bytes_per_s,
            .n_bad_blocks = trial->n_bad_blocks,
            .n_blocks = trial->n_blocks,
            .buffer_bytes = series->buffer_bytes,
            .cache_bytes = run->cache_bytes,
            .half_ratio = half_ratio,
            .spec_bytes_per_s =
                mb_figure_known(&pool->bandwidth_spec_bytes_per_s) ? pool->bandwidth_spec_bytes_per_s.value : 0,
            .virtual_machine = machine->virtual_by != NULL,
        };
        series->rejected = mb_measure_reject(arena, &evidence, &warning);
        if (warning && i + 1 == run->n_trials)
            mb_machine_add_note(machine, "%s", warning);
    }
    const struct trial *most = run->trials + run->n_trials - 1;
    double away = away_share(most);
    if (away > AWAY_MAX)
        mb_machine_add_note(machine,
                            "Other programs had the CPUs for %.0f %% of the time while memory was measured, so it may be "
                            "faster than that: end them and measure again.",
                            100 * away);
    return MB_OK;
}

static int measure_cpu(struct cpu_run *run, double gpu_s)
{
    struct mb_measuring *all = run->all;
    int code = prepare(run);
    if (code != MB_OK)
        return code;
    /* A host may give a virtual machine its memory only while it is filled; what that took is taken off here, and so is what
     * the GPUs will take. */
    double filled_s = mb_now_s() - all->began_s;
    double seconds = all->opts->quick ? fmin(2.5, fmax(1, 4.4 - filled_s - gpu_s))
                                      : fmin(fmin(12, fmax(8, 2.5 * run->n_trials)), fmax(5, 24 - filled_s - gpu_s));
    all->expected_s = filled_s + WARM_UP_S + seconds + gpu_s;
    /* Clocks rise and host pages get mapped before anything counts. */
    struct mb_stream_sample ignored;
    for (double end_s = mb_now_s() + WARM_UP_S; mb_now_s() < end_s && !mb_measuring_is_cancelled(all);)
        mb_stream_read(all->stream, mb_team_size(all->team), 0, SAMPLE_S, &ignored);
    code = take_samples(run, seconds);
    return code == MB_OK ? conclude(run) : code;
}

static int measure_all(struct mb_measuring *all)
{
    const struct mb_machine *machine = all->machine;
    int code = find_cpu(all);
    if (code != MB_OK)
        return code;
    const struct mb_processor *cpu = machine->processors + all->cpu;
    struct cpu_run run = {.all = all, .cache_bytes = cpu->cache_bytes[2] ? cpu->cache_bytes[2] : cpu->cache_bytes[1]};
    unsigned n_gpus = 0;
    for (unsigned p = 0; p < machine->n_processors && !all->opts->no_gpu; p++)
        n_gpus += machine->processors[p].kind == MB_PROCESSOR_GPU;
    double each_s = all->opts->quick ? fmin(0.3, 1.2 / (SERIES_PER_GPU * (n_gpus + !n_gpus)))
                                     : fmin(1.5, 12.0 / (SERIES_PER_GPU * (n_gpus + !n_gpus)));
    code = measure_cpu(&run, each_s * SERIES_PER_GPU * n_gpus);
    free(run.trials);
    free(run.ratios);
    for (unsigned p = 0; p < machine->n_processors && n_gpus && code == MB_OK; p++)
        if (machine->processors[p].kind == MB_PROCESSOR_GPU)
            code = mb_measure_gpu(all, p, each_s);
    return code;
}

int mb_measure_machine(struct mb_machine *machine, const struct mb_measure_opts *opts, const struct mb_kernels *kernels,
                       struct mb_err *err)
{
    static const struct mb_measure_opts defaults;
    if (machine->origin != MB_ORIGIN_DETECTED || !mb_machine_is_live(machine))
        return mb_fail(err, MB_EINVAL, "%s: only the machine that this runs on can be measured",
                       machine->name ? machine->name : "this machine");
    struct mb_arena *arena = mb_machine_arena(machine);
    struct mb_measuring all = {.machine = machine, .opts = opts ? opts : &defaults, .kernels = kernels, .err = err};
    all.began_s = mb_now_s();
    all.expected_s = all.opts->quick ? 4 : 12;
    all.measurement = mb_arena_alloc(arena, sizeof *all.measurement);
    int code = all.measurement ? measure_all(&all) : mb_fail_memory(err);
    mb_stream_close(all.stream);
    mb_team_stop(all.team);
    if (code != MB_OK)
        return code;

    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    all.measurement->date = mb_arena_text(arena, date);
    all.measurement->version = MB_VERSION;
    all.measurement->quick = all.opts->quick != 0;
    all.measurement->took_s = mb_now_s() - all.began_s;
    if (mb_machine_apply_measurement(machine, all.measurement) != MB_OK)
        return mb_fail_memory(err);
    if (all.opts->progress)
        all.opts->progress(all.opts->user, "measured", 1);
    for (unsigned i = 0; i < all.measurement->n_series; i++)
        if (!all.measurement->series[i].rejected)
            return MB_OK;
    return mb_fail(err, MB_EREJECT, "%s", all.measurement->series[0].rejected);
}

int mb_machine_measure(struct mb_machine *machine, const struct mb_measure_opts *opts, struct mb_err *err)
{
    struct mb_kernels kernels;
    mb_kernels_init(&kernels, mb_cpu_flags());
    return mb_measure_machine(machine, opts, &kernels, err);
}
