/* SPDX-License-Identifier: MIT */
/* The buffer, who owns which slice of it, and one sample of reading. Assumes that a member stays near the memory that it
 * touched first, which holds while the team is bound. When to sample, and what samples mean, is left to measure.c. */
#include "machine/stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((uint64_t)2 << 20)

/* What a member writes while others read: lines of its own. */
struct reader {
    _Alignas(128) uint64_t cursor; /* blocks that it has read; the next one modulo its share is next */
    double began_s, ended_s, cpu_s;
    uint64_t n_blocks, n_bad;
};

struct mb_stream {
    struct mb_team *team;
    mb_read_sum_fn *read_sum;
    unsigned n; /* members = slices */
    unsigned char *map, *base;
    size_t map_bytes;
    uint64_t bytes, slice_blocks;
    uint64_t *sums; /* [n * slice_blocks] */
    const volatile int *cancel;
    struct reader *readers;
    /* Members in the order of their nodes; where a member's node begins there, how many members it has, and its own
     * position among them. */
    unsigned *by_node, *node_first, *node_count, *node_index;
    /* The sample that is being taken. */
    unsigned n_threads;
    int half;
    double seconds;
};

static int cancelled(const struct mb_stream *stream)
{
    return stream->cancel && *stream->cancel;
}

static unsigned node_of(const struct mb_stream *stream, unsigned member)
{
    return mb_team_place(stream->team, member)->node;
}

static void order_by_node(struct mb_stream *stream)
{
    unsigned at = 0;
    for (unsigned i = 0; i < stream->n; i++) {
        unsigned first = 0;
        while (first < i && node_of(stream, first) != node_of(stream, i))
            first++;
        if (first < i)
            continue; /* its node is done */
        unsigned begin = at;
        for (unsigned k = i; k < stream->n; k++)
            if (node_of(stream, k) == node_of(stream, i)) {
                stream->node_first[k] = begin;
                stream->node_index[k] = at - begin;
                stream->by_node[at++] = k;
            }
        for (unsigned k = begin; k < at; k++)
            stream->node_count[stream->by_node[k]] = at - begin;
    }
}

static void fill_slice(void *arg, unsigned member)
{
    struct mb_stream *stream = arg;
    for (uint64_t b = 0; b < stream->slice_blocks && !cancelled(stream); b++) {
        uint64_t block = member * stream->slice_blocks + b, sum = 0;
        uint64_t *words = (uint64_t *)(void *)(stream->base + block * MB_STREAM_BLOCK_BYTES);
        /* Random enough for a sum that notices swapped words' absence. */
        for (size_t i = 0; i < MB_STREAM_BLOCK_BYTES / 8; i++)
            sum += words[i] = mb_mix(block << 32 | i);
        stream->sums[block] = sum;
    }
}

static void read_slices(void *arg, unsigned member)
{
    struct mb_stream *stream = arg;
    struct reader *reader = stream->readers + member;
    /* Of the slices on this node, every n-th, n being the readers here. */
    unsigned n_here = 0, rank = stream->node_index[member];
    for (unsigned i = 0; i < stream->n_threads; i++)
        n_here += node_of(stream, i) == node_of(stream, member);
    assert(n_here > 0); /* the member itself */
    uint64_t n_slices = (stream->node_count[member] - rank + n_here - 1) / n_here;
    uint64_t blocks = stream->half ? stream->slice_blocks / 2 : stream->slice_blocks;
    uint64_t at = reader->cursor % (n_slices * blocks), n = 0, n_bad = 0;
    mb_team_barrier(stream->team);
    double cpu_began = mb_cpu_now_s(), began = mb_now_s(), now;
    do {
        unsigned slice = stream->by_node[stream->node_first[member] + rank + (unsigned)(at / blocks) * n_here];
        uint64_t block = slice * stream->slice_blocks + at % blocks;
        uint64_t sum = stream->read_sum(stream->base + block * MB_STREAM_BLOCK_BYTES, MB_STREAM_BLOCK_BYTES);
        n_bad += sum != stream->sums[block];
        n++;
        if (++at == n_slices * blocks)
            at = 0;
        now = mb_now_s();
    } while (now - began < stream->seconds);
    reader->cpu_s = mb_cpu_now_s() - cpu_began;
    reader->began_s = began;
    reader->ended_s = now;
    reader->n_blocks = n;
    reader->n_bad = n_bad;
    reader->cursor += n;
}

void mb_stream_read(struct mb_stream *stream, unsigned n_threads, int half, double seconds, struct mb_stream_sample *out)
{
    stream->n_threads = n_threads;
    stream->half = half;
    stream->seconds = seconds;
    mb_team_run(stream->team, n_threads, read_slices, stream);
    *out = (struct mb_stream_sample){0};
    double began = stream->readers[0].began_s, ended = stream->readers[0].ended_s;
    for (unsigned i = 0; i < n_threads; i++) {
        const struct reader *reader = stream->readers + i;
        began = reader->began_s < began ? reader->began_s : began;
        ended = reader->ended_s > ended ? reader->ended_s : ended;
        out->bytes += reader->n_blocks * MB_STREAM_BLOCK_BYTES;
        out->n_bad_blocks += reader->n_bad;
        out->cpu_share += reader->cpu_s;
    }
    out->seconds = ended - began;
    out->cpu_share /= n_threads * out->seconds;
    out->bytes_per_s = (double)out->bytes / out->seconds;
}

uint64_t mb_smaps_huge_bytes(const char *smaps, uintptr_t from, uintptr_t to)
{
    uint64_t bytes = 0;
    int inside = 0;
    for (const char *line = smaps, *newline; line; line = newline ? newline + 1 : NULL) {
        newline = strchr(line, '\n');
        unsigned long long begin, end, kib;
        /* "7f12e8000000-7f1328000000 rw-p ..." begins a mapping, "AnonHugePages:   1048576 kB" tells of it. */
        if (sscanf(line, "%llx-%llx ", &begin, &end) == 2)
            inside = begin < to && end > from;
        else if (inside && sscanf(line, "AnonHugePages: %llu kB", &kib) == 1)
            bytes += kib << 10;
    }
    return bytes < to - from ? bytes : to - from;
}

double mb_stream_huge_share(const struct mb_stream *stream)
{
    struct mb_arena arena = {0};
    const char *smaps = mb_file_read(&arena, NULL, "/proc/self/smaps", (size_t)64 << 20, NULL);
    uintptr_t from = (uintptr_t)stream->base;
    double share = smaps ? (double)mb_smaps_huge_bytes(smaps, from, from + stream->bytes) / (double)stream->bytes : -1;
    mb_arena_free(&arena);
    return share;
}

uint64_t mb_stream_bytes(const struct mb_stream *stream)
{
    return stream->bytes;
}

void mb_stream_close(struct mb_stream *stream)
{
    if (!stream)
        return;
    if (stream->map)
        munmap(stream->map, stream->map_bytes);
    free(stream->sums);
    free(stream->readers);
    free(stream->by_node);
    free(stream);
}

int mb_stream_open(struct mb_team *team, const struct mb_kernels *kernels, uint64_t bytes, const volatile int *cancel,
                   struct mb_stream **out, struct mb_err *err)
{
    unsigned n = mb_team_size(team);
    /* Equal slices of whole huge pages, so that no page has two owners; small ones of two blocks, so that half is one. */
    uint64_t slice = bytes / n;
    slice -= slice % (slice >= HUGE_BYTES ? HUGE_BYTES : 2 * MB_STREAM_BLOCK_BYTES);
    if (!slice || bytes > SIZE_MAX / 2)
        return mb_fail(err, MB_ERANGE, "a buffer of %llu bytes for %u threads: at least 512 KiB each are needed",
                       (unsigned long long)bytes, n);
    struct mb_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return mb_fail_memory(err);
    stream->team = team;
    stream->read_sum = kernels->read_sum;
    stream->n = n;
    stream->bytes = slice * n;
    stream->slice_blocks = slice / MB_STREAM_BLOCK_BYTES;
    stream->cancel = cancel;
    stream->sums = calloc(n * stream->slice_blocks, sizeof *stream->sums);
    stream->readers = aligned_alloc(_Alignof(struct reader), n * sizeof *stream->readers);
    stream->by_node = calloc(4 * (size_t)n, sizeof *stream->by_node);
    if (!stream->sums || !stream->readers || !stream->by_node)
        goto no_memory;
    memset(stream->readers, 0, n * sizeof *stream->readers);
    stream->node_first = stream->by_node + n;
    stream->node_count = stream->by_node + 2 * (size_t)n;
    stream->node_index = stream->by_node + 3 * (size_t)n;
    order_by_node(stream);
    stream->map_bytes = stream->bytes + HUGE_BYTES;
    void *map = mmap(NULL, stream->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        goto no_memory;
    stream->map = map;
    stream->base = stream->map + (HUGE_BYTES - (uintptr_t)map % HUGE_BYTES) % HUGE_BYTES;
#if defined(MADV_HUGEPAGE)
    madvise(stream->base, stream->bytes, MADV_HUGEPAGE); /* a wish: huge_share tells what became of it */
#endif
    mb_team_run(team, n, fill_slice, stream);
    if (cancelled(stream)) {
        mb_stream_close(stream);
        return mb_fail(err, MB_ECANCEL, "the measurement was cancelled");
    }
    *out = stream;
    return MB_OK;
no_memory:
    mb_stream_close(stream);
    return mb_fail_memory(err);
}
