/* SPDX-License-Identifier: MIT */
/* Suite for src/machine/stream.c and measure.c: that a measurement reads what it says, and is refused when it did not. */
#include "gpu/vk.h"
#include "machine/machine.h"
#include "machine/measure.h"
#include "machine/stream.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)

/* Reads the first half of each block only: twice as fast, and a lie. */
static uint64_t read_half(const void *from, size_t bytes)
{
    return mb_read_sum_ref(from, bytes / 2);
}

/* Reads that half twice: as many loads as promised, half of them from the cache. */
static uint64_t read_half_twice(const void *from, size_t bytes)
{
    return mb_read_sum_ref(from, bytes / 2) + mb_read_sum_ref(from, bytes / 2);
}

/* Leaves out one line of 4096. */
static uint64_t skip_a_line(const void *from, size_t bytes)
{
    uint64_t sum = mb_read_sum_ref(from, bytes);
    for (unsigned i = 0; i < 8; i++)
        sum -= ((const uint64_t *)from)[i];
    return sum;
}

/* Drivers that are unloaded leave memory behind, which is not what a leak check here is for. */
#if defined(__SANITIZE_ADDRESS__)
#define LEAKS_COUNT 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAKS_COUNT 0
#endif
#endif
#ifdef LEAKS_COUNT
#include <sanitizer/lsan_interface.h>
#define LEAKS_OFF() __lsan_disable()
#define LEAKS_ON() __lsan_enable()
#else
#define LEAKS_OFF() (void)0
#define LEAKS_ON() (void)0
#endif

static struct mb_machine *machine_of(uint64_t cache_bytes)
{
    struct mb_machine *machine = mb_machine_new(MB_ORIGIN_DETECTED);
    assert_non_null(machine);
    const struct mb_pool ram = {.id = "ram", .kind = MB_POOL_SYSTEM};
    const struct mb_processor cpu = {.id = "cpu", .kind = MB_PROCESSOR_CPU, .cache_bytes = {0, 0, cache_bytes}};
    mb_machine_add_read(machine, mb_machine_add_processor(machine, &cpu), mb_machine_add_pool(machine, &ram),
                        (struct mb_figure){0});
    mb_machine_set_live(machine, 1);
    return machine;
}

static void every_thread_count_once(void **state)
{
    (void)state;
    static const struct {
        unsigned n_threads, n_cores, n, counts[16];
    } rows[] = {
        {1, 1, 1, {1}},
        {2, 2, 2, {1, 2}},
        {2, 1, 2, {1, 2}},
        {3, 3, 3, {1, 2, 3}},
        {12, 6, 6, {1, 2, 4, 6, 8, 12}},
        {16, 8, 5, {1, 2, 4, 8, 16}},
        {24, 12, 7, {1, 2, 4, 8, 12, 16, 24}},
        {20, 14, 7, {1, 2, 4, 8, 14, 16, 20}},
        {20, 18, 7, {1, 2, 4, 8, 16, 18, 20}},
        {4096, 2048, 13, {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}},
    };
    for (unsigned r = 0; r < MB_COUNT(rows); r++) {
        unsigned counts[16];
        assert_int_equal(mb_measure_counts(rows[r].n_threads, rows[r].n_cores, counts), rows[r].n);
        for (unsigned i = 0; i < rows[r].n; i++)
            assert_int_equal(counts[i], rows[r].counts[i]);
    }
}

static void buffers_fit(void **state)
{
    (void)state;
    const uint64_t gib = 1024 * MIB;
    assert_true(mb_measure_buffer(0, 0, 0, 1) > gib);
    assert_true(mb_measure_buffer(0, 32 * MIB, 64 * gib, 1) > gib);
    assert_true(mb_measure_buffer(0, 32 * MIB, 64 * gib, 0) == 2 * mb_measure_buffer(0, 32 * MIB, 64 * gib, 1));
    assert_true(mb_measure_buffer(0, gib, 64 * gib, 1) == 4 * gib);
    assert_true(mb_measure_buffer(0, gib, 64 * gib, 0) == 8 * gib);
    assert_true(mb_measure_buffer(0, gib, 6 * gib, 0) == 3 * gib);
    assert_true(mb_measure_buffer(96 * MIB, gib, 64 * gib, 0) == 96 * MIB);
    assert_true(mb_measure_buffer(0, 0, 128 * MIB, 0) == 64 * MIB);
    assert_true(mb_measure_buffer(0, 0, 127 * MIB, 0) == 0);
    assert_true(mb_measure_buffer(32 * MIB, 0, gib, 0) == 0);
    assert_true(mb_measure_buffer(0, UINT64_MAX, gib, 0) <= gib / 2);
}

static void figures_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct mb_evidence evidence;
        const char *says; /* NULL: accepted */
        const char *warns;
    } rows[] = {
        {{50e9, 0, 100, 1024 * MIB, 32 * MIB, 0, 0, 0}, NULL, NULL},
        {{50e9, 0, 100, 1024 * MIB, 0, 1.09, 51.2e9, 0}, NULL, NULL},
        {{50e9, 1, 100, 1024 * MIB, 32 * MIB, 0, 0, 0}, "1 of 100 blocks", NULL},
        {{50e9, 0, 100, 63 * MIB, 32 * MIB, 0, 0, 0}, "caches", NULL},
        {{50e9, 0, 100, 64 * MIB, 32 * MIB, 0, 0, 0}, NULL, NULL},
        {{50e9, 0, 100, 1024 * MIB, 32 * MIB, 1.11, 0, 0}, "1.11 times", NULL},
        {{50e9, 0, 100, 1024 * MIB, 32 * MIB, 0.89, 0, 0}, "0.89 times", NULL},
        {{53.7e9, 0, 100, 1024 * MIB, 32 * MIB, 1, 51.2e9, 0}, NULL, NULL},
        {{53.8e9, 0, 100, 1024 * MIB, 32 * MIB, 1, 51.2e9, 0}, "51.2 GB/s", NULL},
        {{53.8e9, 0, 100, 1024 * MIB, 32 * MIB, 1, 51.2e9, 1}, NULL, "made up"},
    };
    struct mb_arena arena = {0};
    for (unsigned r = 0; r < MB_COUNT(rows); r++) {
        const char *warning = "?", *reason = mb_measure_reject(&arena, &rows[r].evidence, &warning);
        if (rows[r].says)
            assert_true(reason && strstr(reason, rows[r].says));
        else
            assert_null(reason);
        if (rows[r].warns)
            assert_true(warning && strstr(warning, rows[r].warns));
        else
            assert_null(warning);
    }
    mb_arena_free(&arena);
}

/* An honest kernel is believed, three kinds of liars are caught, for any number of readers, on all and on half of the buffer. */
static void dropped_loads_are_caught(void **state)
{
    (void)state;
    mb_read_sum_fn *const liars[] = {read_half, read_half_twice, skip_a_line};
    struct mb_team *team;
    struct mb_kernels kernels;
    struct mb_stream_sample sample;
    struct mb_stream *stream = NULL;
    assert_int_equal(mb_team_start(3, &team, NULL), MB_OK);
    mb_kernels_init(&kernels, mb_cpu_flags());
    assert_int_equal(mb_stream_open(team, &kernels, 25 * MIB, NULL, &stream, NULL), MB_OK);
    assert_true(mb_stream_bytes(stream) == 24 * MIB);
    for (unsigned n = 1; n <= 3; n++)
        for (int half = 0; half < 2; half++) {
            mb_stream_read(stream, n, half, 0.01, &sample);
            assert_int_equal(sample.n_bad_blocks, 0);
            assert_true(sample.bytes >= n * MB_STREAM_BLOCK_BYTES);
            assert_true(sample.seconds >= 0.01);
            assert_true(sample.cpu_share > 0 && sample.cpu_share < 1.01);
            assert_true(fabs(sample.bytes_per_s * sample.seconds / (double)sample.bytes - 1) < 1e-9);
        }
    mb_stream_close(stream);
    for (unsigned i = 0; i < MB_COUNT(liars); i++) {
        kernels.read_sum = liars[i];
        assert_int_equal(mb_stream_open(team, &kernels, 24 * MIB, NULL, &stream, NULL), MB_OK);
        mb_stream_read(stream, 2, 0, 0.01, &sample);
        assert_true(sample.n_bad_blocks * MB_STREAM_BLOCK_BYTES == sample.bytes);
        mb_stream_close(stream);
    }
    struct mb_err err;
    assert_int_equal(mb_stream_open(team, &kernels, MIB, NULL, &stream, &err), MB_ERANGE);
    const volatile int cancel = 1;
    assert_int_equal(mb_stream_open(team, &kernels, 24 * MIB, &cancel, &stream, &err), MB_ECANCEL);
    mb_team_stop(team);
}

/* Which addresses are read: all of the buffer, or half of it, in turn. One thread at a time, so a plain counter does. */
static const unsigned char *lowest, *highest;
static unsigned n_calls;

static uint64_t note_addresses(const void *from, size_t bytes)
{
    const unsigned char *at = from;
    if (!lowest || at < lowest)
        lowest = at;
    if (at + bytes > highest)
        highest = at + bytes;
    n_calls++;
    return 0;
}

static void samples_walk_the_whole_buffer(void **state)
{
    (void)state;
    struct mb_team *team;
    const struct mb_kernels kernels = {.read_name = "noting", .read_sum = note_addresses};
    struct mb_stream *stream;
    struct mb_stream_sample sample;
    assert_int_equal(mb_team_start(2, &team, NULL), MB_OK);
    assert_int_equal(mb_stream_open(team, &kernels, 8 * MIB, NULL, &stream, NULL), MB_OK);
    /* Tiny samples, one block each: only going on where the last one stopped gets to the end. */
    for (unsigned i = 0; i < 32; i++)
        mb_stream_read(stream, 1, 0, 0, &sample);
    assert_int_equal(n_calls, 32);
    assert_int_equal(highest - lowest, 8 * MIB);
    /* Half of each of the two slices: the end of the second is never seen. */
    lowest = highest = NULL;
    for (unsigned i = 0; i < 32; i++)
        mb_stream_read(stream, 1, 1, 0, &sample);
    assert_int_equal(highest - lowest, 6 * MIB);
    mb_stream_close(stream);
    mb_team_stop(team);
}

static void huge_pages_are_counted(void **state)
{
    (void)state;
    const char *smaps = "7f0000000000-7f0000400000 rw-p 00000000 00:00 0 \n"
                        "Size:               4096 kB\nAnonHugePages:      2048 kB\nVmFlags: rd wr\n"
                        "7f0000400000-7f0000800000 rw-p 00000000 00:00 0 [heap]\nAnonHugePages:      4096 kB\n"
                        "7f0000800000-7f0000900000 r--p 00000000 08:01 99 /lib/a-b\nAnonHugePages:      1024 kB";
    assert_true(mb_smaps_huge_bytes(smaps, 0x7f0000000000, 0x7f0000400000) == 2 * MIB);
    assert_true(mb_smaps_huge_bytes(smaps, 0x7f0000000000, 0x7f0000800000) == 6 * MIB);
    assert_true(mb_smaps_huge_bytes(smaps, 0x7f0000800000, 0x7f0000900000) == MIB);
    assert_true(mb_smaps_huge_bytes(smaps, 0x7f0000900000, 0x7f0000a00000) == 0);
    assert_true(mb_smaps_huge_bytes("", 0, 1) == 0);
    assert_true(mb_smaps_huge_bytes("1-2 rw-p\nAnonHugePages:\n", 0, 5) == 0);
}

static double last_share;

static void note_progress(void *user, const char *what, double share)
{
    assert_true(what && *what && share >= 0 && share <= 1);
    last_share = share;
    ++*(unsigned *)user;
}

static void a_machine_is_measured(void **state)
{
    (void)state;
    struct mb_machine *machine = machine_of(8 * MIB);
    unsigned n_told = 0;
    const struct mb_measure_opts opts = {
        .quick = 1, .buffer_bytes = 96 * MIB, .no_gpu = 1, .progress = note_progress, .user = &n_told};
    struct mb_err err;
    assert_int_equal(mb_machine_measure(machine, &opts, &err), MB_OK);
    assert_true(last_share == 1 && n_told > 10);
    const struct mb_measurement *m = machine->measurement;
    assert_non_null(m);
    assert_true(m->quick && m->took_s > 0);
    assert_int_equal(strlen(m->date), 20);
    double best = 0;
    for (unsigned i = 0; i < m->n_series; i++) {
        const struct mb_measured *s = m->series + i;
        assert_null(s->rejected);
        assert_int_equal(s->kind, MB_MEASURED_READ);
        assert_true(s->buffer_bytes <= 96 * MIB && s->buffer_bytes > 64 * MIB);
        assert_true(s->n_samples >= 3 && s->n_levels >= 1);
        assert_true(s->min_bytes_per_s <= s->bytes_per_s && s->bytes_per_s <= s->max_bytes_per_s);
        assert_true(strstr(s->method, "loads") && strstr(s->method, "thread") && strstr(s->method, "only 96.0 MiB"));
        best = fmax(best, s->bytes_per_s);
    }
    assert_true(machine->processors[0].reads[0].bytes_per_s.provenance == MB_MEASURED);
    assert_true(machine->processors[0].reads[0].bytes_per_s.value == best);
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == best);
    mb_machine_free(machine);
}

static void a_lie_is_rejected_as_a_whole(void **state)
{
    (void)state;
    struct mb_machine *machine = machine_of(8 * MIB);
    const struct mb_measure_opts opts = {.quick = 1, .buffer_bytes = 64 * MIB, .no_gpu = 1};
    const struct mb_kernels liar = {.read_name = "half", .read_sum = read_half};
    struct mb_err err;
    assert_int_equal(mb_measure_machine(machine, &opts, &liar, &err), MB_EREJECT);
    assert_non_null(strstr(err.text, "checksum"));
    assert_non_null(machine->measurement->series[0].rejected);
    assert_int_equal(machine->pools[0].bandwidth_bytes_per_s.provenance, MB_UNKNOWN);
    mb_machine_free(machine);
}

static int cancel_flag;
static unsigned n_told_after;

static void cancel_in_the_midst(void *user, const char *what, double share)
{
    (void)user;
    (void)share;
    n_told_after += cancel_flag;
    if (strncmp(what, "reading", 7) == 0)
        cancel_flag = 1;
}

static void cancelling_is_quick(void **state)
{
    (void)state;
    struct mb_machine *machine = machine_of(0);
    const struct mb_measure_opts opts = {
        .buffer_bytes = 128 * MIB, .no_gpu = 1, .progress = cancel_in_the_midst, .cancel = &cancel_flag};
    struct mb_err err;
    assert_int_equal(mb_machine_measure(machine, &opts, &err), MB_ECANCEL);
    assert_int_equal(n_told_after, 0); /* not one sample, of 20 ms, was begun after that */
    assert_null(machine->measurement);
    mb_machine_free(machine);
}

/* A machine with the software device as its GPU: discrete, or reading the CPU's pool. NULL: there is none (said). */
static struct mb_machine *machine_with_gpu(int unified)
{
    struct mb_arena arena = {0};
    struct mb_vk_info *list;
    unsigned n = 0;
    struct mb_err err;
    struct mb_machine *machine = NULL;
    LEAKS_OFF();
    if (mb_vk_list(&arena, NULL, &list, &n, &err) != MB_OK)
        n = 0;
    LEAKS_ON();
    for (unsigned i = 0; i < n && !machine; i++) {
        if (strcmp(list[i].type, "cpu") != 0)
            continue;
        machine = machine_of(8 * MIB);
        const struct mb_processor gpu = {.id = "gpu0",
                                         .name = mb_arena_text(mb_machine_arena(machine), list[i].name),
                                         .kind = MB_PROCESSOR_GPU,
                                         .integrated = unified};
        const struct mb_pool vram = {.id = "vram0", .kind = MB_POOL_VRAM};
        unsigned processor = mb_machine_add_processor(machine, &gpu);
        if (unified)
            machine->pools[0].kind = MB_POOL_UNIFIED;
        mb_machine_add_read(machine, processor, unified ? 0 : mb_machine_add_pool(machine, &vram), (struct mb_figure){0});
    }
    mb_arena_free(&arena);
    if (!machine)
        print_message("skipped: no software Vulkan device (lavapipe)\n");
    return machine;
}

/* The GPU's part alone, with a small buffer and short series, into *m. */
static int measure_gpu_of(struct mb_machine *machine, const struct mb_measure_opts *opts, struct mb_measurement *m)
{
    struct mb_kernels kernels;
    struct mb_measuring run = {.machine = machine, .opts = opts, .kernels = &kernels, .measurement = m, .expected_s = 1};
    mb_kernels_init(&kernels, mb_cpu_flags());
    assert_int_equal(mb_team_start(2, &run.team, NULL), MB_OK);
    assert_int_equal(mb_stream_open(run.team, &kernels, 16 * MIB, NULL, &run.stream, NULL), MB_OK);
    LEAKS_OFF();
    int code = mb_measure_gpu(&run, 1, 0.02);
    LEAKS_ON();
    mb_stream_close(run.stream);
    mb_team_stop(run.team);
    return code;
}

static void a_card_and_its_link_are_measured(void **state)
{
    (void)state;
    struct mb_machine *machine = machine_with_gpu(0);
    if (!machine)
        skip();
    const struct mb_measure_opts opts = {.quick = 1, .buffer_bytes = 8 * MIB, .allow_software_gpu = 1};
    struct mb_measurement m = {0};
    assert_int_equal(measure_gpu_of(machine, &opts, &m), MB_OK);
    assert_int_equal(m.n_series, 3);
    const struct mb_measured *s = m.series;
    assert_true(s[0].kind == MB_MEASURED_READ && s[0].processor == 1 && s[0].pool == 1);
    assert_true(s[1].kind == MB_MEASURED_COPY && s[1].pool == 0 && s[1].pool_to == 1);
    assert_true(s[2].kind == MB_MEASURED_COPY && s[2].pool == 1 && s[2].pool_to == 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_null(s[i].rejected);
        assert_true(s[i].bytes_per_s > 0 && s[i].n_samples >= 5 && s[i].n_threads == 0);
        assert_true(s[i].buffer_bytes == 8 * MIB);
        assert_non_null(strstr(s[i].method, "Vulkan"));
    }
    assert_true(s[1].latency_s > 0);
    mb_machine_free(machine);
}

static void one_pool_is_read_by_both_at_once(void **state)
{
    (void)state;
    struct mb_machine *machine = machine_with_gpu(1);
    if (!machine)
        skip();
    const struct mb_measure_opts opts = {.buffer_bytes = 8 * MIB, .allow_software_gpu = 1};
    struct mb_measurement m = {0};
    assert_int_equal(measure_gpu_of(machine, &opts, &m), MB_OK);
    assert_int_equal(m.n_series, 2);
    const struct mb_measured *s = m.series;
    assert_true(s[0].kind == MB_MEASURED_READ && s[0].processor == 1 && s[0].pool == 0);
    assert_true(s[0].buffer_bytes == 16 * MIB); /* compared with half of it */
    assert_true(s[1].kind == MB_MEASURED_SHARED && s[1].processor == 1 && s[1].pool == 0);
    assert_true(s[1].n_threads == 2 && !s[1].rejected && s[1].bytes_per_s > 0);
    mb_machine_free(machine);
}

/* A GPU that is gone costs its own figures only. */
static void a_missing_gpu_is_a_note(void **state)
{
    (void)state;
    struct mb_machine *machine = machine_of(8 * MIB);
    const struct mb_processor gpu = {
        .id = "gpu0", .name = "Imaginary Card", .kind = MB_PROCESSOR_GPU, .pci = "ffff:ff:1f.7"};
    const struct mb_pool vram = {.id = "vram0", .kind = MB_POOL_VRAM};
    mb_machine_add_read(machine, mb_machine_add_processor(machine, &gpu), mb_machine_add_pool(machine, &vram),
                        (struct mb_figure){0});
    const struct mb_measure_opts opts = {.quick = 1, .buffer_bytes = 64 * MIB};
    struct mb_measurement m = {0};
    assert_int_equal(measure_gpu_of(machine, &opts, &m), MB_OK);
    assert_int_equal(m.n_series, 0);
    assert_int_equal(machine->n_notes, 1);
    assert_true(strncmp(machine->notes[0], "Imaginary Card was not measured", 31) == 0);
    mb_machine_free(machine);
}

static void only_live_machines(void **state)
{
    (void)state;
    struct mb_err err;
    struct mb_machine *machine = machine_of(0);
    mb_machine_set_live(machine, 0);
    assert_int_equal(mb_machine_measure(machine, NULL, &err), MB_EINVAL);
    mb_machine_free(machine);
    machine = mb_machine_new(MB_ORIGIN_CATALOG);
    assert_int_equal(mb_machine_measure(machine, NULL, &err), MB_EINVAL);
    mb_machine_free(machine);
    machine = mb_machine_new(MB_ORIGIN_DETECTED);
    mb_machine_set_live(machine, 1);
    assert_int_equal(mb_machine_measure(machine, NULL, &err), MB_EINVAL);
    mb_machine_free(machine);
    machine = machine_of(0);
    const struct mb_measure_opts small = {.buffer_bytes = 8 * MIB};
    assert_int_equal(mb_machine_measure(machine, &small, &err), MB_EINVAL);
    mb_machine_free(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_count_once),
        cmocka_unit_test(buffers_fit),
        cmocka_unit_test(figures_that_cannot_be_are_refused),
        cmocka_unit_test(dropped_loads_are_caught),
        cmocka_unit_test(samples_walk_the_whole_buffer),
        cmocka_unit_test(huge_pages_are_counted),
        cmocka_unit_test(a_machine_is_measured),
        cmocka_unit_test(a_lie_is_rejected_as_a_whole),
        cmocka_unit_test(cancelling_is_quick),
        cmocka_unit_test(a_card_and_its_link_are_measured),
        cmocka_unit_test(one_pool_is_read_by_both_at_once),
        cmocka_unit_test(a_missing_gpu_is_a_note),
        cmocka_unit_test(only_live_machines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
