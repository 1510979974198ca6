/* SPDX-License-Identifier: MIT */
/* Reading with all threads of a session. Regions are the matrices of the model; each member reads its share of every one, which
 * is about what it multiplies with in a pass. Assumes that pages are resident; the first reading of a mapped file is the
 * caller's warm-up. */
#include "engine/probe.h"
#include "engine/pages.h"

#include <stdlib.h>

/* What is read between two looks at the clock. */
#define PIECE_BYTES ((size_t)256 << 10)
/* Smaller tensors are not worth a split. */
#define REGION_MIN ((uint64_t)64 << 10)
/* Memory this many times as large as a cache is hardly helped by it. */
#define CACHES 8
#define CACHE_ASSUMED ((uint64_t)64 << 20)

struct region {
    const uint8_t *from;
    uint64_t bytes;
};

/* What a member writes while others read: lines of its own. */
struct reader {
    _Alignas(128) double began_s, ended_s;
    uint64_t bytes, sum;
    size_t region, at; /* where it goes on */
};

struct mb_probe {
    struct mb_session *session;
    struct mb_arena arena;
    struct region *regions;
    size_t n_regions;
    uint64_t total_bytes;
    void *buffer; /* NULL: the weights are read */
    uint64_t buffer_bytes;
    struct reader *readers;
    double seconds;
};

/* The part of a region that a member reads, in whole units and aligned. */
static size_t share_of(const struct mb_probe *probe, const struct region *region, unsigned member, const uint8_t **from)
{
    size_t begin, end;
    mb_share((size_t)(region->bytes / MB_READ_UNIT), 1, member, probe->session->pass.members, &begin, &end);
    *from = region->from + begin * MB_READ_UNIT;
    return (end - begin) * MB_READ_UNIT;
}

static void read_share(void *arg, unsigned member)
{
    struct mb_probe *probe = arg;
    struct reader *reader = &probe->readers[member];
    mb_read_sum_fn *read_sum = probe->session->pass.kernels->read_sum;
    reader->bytes = 0;
    mb_team_barrier(probe->session->team);
    double began = mb_now_s(), now;
    do {
        const uint8_t *from;
        size_t share = share_of(probe, &probe->regions[reader->region], member, &from);
        size_t n = share - reader->at < PIECE_BYTES ? share - reader->at : PIECE_BYTES;
        if (n)
            reader->sum += read_sum(from + reader->at, n);
        reader->bytes += n;
        reader->at += n;
        if (reader->at >= share) {
            reader->at = 0;
            reader->region = reader->region + 1 < probe->n_regions ? reader->region + 1 : 0;
        }
        now = mb_now_s();
    } while (now - began < probe->seconds);
    reader->began_s = began;
    reader->ended_s = now;
}

static void fill_share(void *arg, unsigned member)
{
    struct mb_probe *probe = arg;
    const uint8_t *from;
    size_t n = share_of(probe, &probe->regions[0], member, &from) / 8;
    uint64_t *words = (uint64_t *)(uintptr_t)from, state = member + 1;
    for (size_t i = 0; i < n; i++)
        words[i] = state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407); /* Knuth's MMIX */
}

/* Matrices that a pass reads, those of experts one by one. */
static void add_weights(struct mb_probe *probe)
{
    const struct mb_engine *engine = probe->session->engine;
    const struct mb_model *model = engine->model;
    size_t n = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++)
        n += model->tensors[i].ne[2] * model->tensors[i].ne[3];
    probe->regions = mb_arena_array(&probe->arena, n, sizeof *probe->regions);
    for (uint32_t i = 0; probe->regions && i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        uint64_t matrices = tensor->ne[2] * tensor->ne[3], bytes = matrices ? tensor->bytes / matrices : 0;
        uintptr_t data = (uintptr_t)mb_weights_at(engine->weights, i).data;
        if (!data || tensor->rule == MB_READ_ROWS || tensor->rule == MB_READ_NEVER || bytes < REGION_MIN)
            continue;
        for (uint64_t m = 0; m < matrices; m++) {
            /* Tensors of a mapped file start where they please. */
            uintptr_t begin = (data + m * bytes + MB_READ_ALIGN - 1) / MB_READ_ALIGN * MB_READ_ALIGN;
            uint64_t left = (data + (m + 1) * bytes - begin) / MB_READ_UNIT * MB_READ_UNIT;
            probe->regions[probe->n_regions++] = (struct region){(const uint8_t *)begin, left};
            probe->total_bytes += left;
        }
    }
}

static int add_buffer(struct mb_probe *probe, uint64_t bytes, struct mb_err *err)
{
    uint64_t most = mb_pages_free() / 2;
    probe->buffer_bytes = (bytes < most || !most ? bytes : most) / MB_READ_UNIT * MB_READ_UNIT;
    probe->buffer = mb_pages_take(probe->buffer_bytes);
    if (!probe->buffer)
        return mb_fail(err, MB_ENOMEM, "the bound is measured with %.1f GiB, which are not free; close other programs",
                       (double)bytes / MB_GIB);
    probe->regions[0] = (struct region){probe->buffer, probe->buffer_bytes};
    probe->n_regions = 1;
    probe->total_bytes = probe->buffer_bytes;
    mb_team_run(probe->session->team, probe->session->pass.members, fill_share, probe);
    return MB_OK;
}

int mb_probe_open(struct mb_session *session, uint64_t cache_bytes, struct mb_probe **out, struct mb_err *err)
{
    unsigned members = session->pass.members;
    uint64_t wanted = (cache_bytes ? cache_bytes : CACHE_ASSUMED) * CACHES;
    struct mb_probe *probe = calloc(1, sizeof *probe);
    if (!probe)
        return mb_fail_memory(err);
    probe->session = session;
    probe->readers = aligned_alloc(_Alignof(struct reader), members * sizeof *probe->readers);
    add_weights(probe);
    int code = probe->readers && probe->regions ? MB_OK : mb_fail_memory(err);
    for (unsigned i = 0; !code && i < members; i++)
        probe->readers[i] = (struct reader){0};
    if (!code && probe->total_bytes < wanted)
        code = add_buffer(probe, wanted, err);
    if (code) {
        mb_probe_close(probe);
        return code;
    }
    *out = probe;
    return MB_OK;
}

void mb_probe_close(struct mb_probe *probe)
{
    if (!probe)
        return;
    mb_pages_give(probe->buffer, probe->buffer_bytes);
    free(probe->readers);
    mb_arena_free(&probe->arena);
    free(probe);
}

double mb_probe_read(struct mb_probe *probe, double seconds)
{
    struct mb_session *session = probe->session;
    unsigned members = session->pass.members;
    uint64_t bytes = 0;
    probe->seconds = seconds;
    mb_engine_take_turn(session->engine);
    mb_team_run(session->team, members, read_share, probe);
    mb_engine_end_turn(session->engine);
    double began = probe->readers[0].began_s, ended = probe->readers[0].ended_s;
    for (unsigned i = 0; i < members; i++) {
        const struct reader *reader = &probe->readers[i];
        began = reader->began_s < began ? reader->began_s : began;
        ended = reader->ended_s > ended ? reader->ended_s : ended;
        bytes += reader->bytes;
    }
    return ended > began ? (double)bytes / (ended - began) : 0;
}

uint64_t mb_probe_bytes(const struct mb_probe *probe)
{
    return probe->total_bytes;
}

int mb_probe_is_weights(const struct mb_probe *probe)
{
    return !probe->buffer;
}
