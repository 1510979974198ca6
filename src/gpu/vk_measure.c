/* SPDX-License-Identifier: MIT */
/* Sustained read bandwidth of a GPU's memory, and the latency of a dispatch. The data is filled by
 * one shader and summed by another; the sum is known from a formula, so a driver or compiler that
 * leaves out loads is caught, and so is memory that does not hold what was written. Opening and
 * buffers are vk_device.c's. */
#include "gpu/vk_device.h"

#include <stdlib.h>
#include <string.h>

enum {
    PIECES_MAX = 1024,
    GROUPS_FULL = 4096, /* enough work groups to fill the largest GPU several times */
    TILES_PER_GROUP = 16,
    LATENCY_SAMPLES = 32
};

#define PIECE_BYTES_MIN \
    ((uint64_t)64 << 20) /* below this a failed allocation is not tried in halves */

/* The sum of all words of n tiles, by the formula that fill.comp's comment states. The sum of a
 * tile's words is an odd multiple of its factor, so each bit of each factor counts. */
static uint32_t expected_sum(uint32_t n_tiles)
{
    uint32_t words = 0, factors = 0;
    for (uint32_t j = 1; j <= MB_GPU_TILE_BYTES / 4; j++)
        words += mb_gpu_mix32(j);
    for (uint32_t tile = 0; tile < n_tiles; tile++)
        factors += mb_gpu_mix32(tile ^ 0x9e3779b9u) | 1u;
    return words * factors;
}

void mb_gpu_read_free(struct mb_gpu *gpu)
{
    for (unsigned i = 0; i < gpu->n_pieces; i++)
        mb_gpu_buffer_free(gpu, &gpu->pieces[i].data);
    free(gpu->pieces);
    gpu->pieces = NULL;
    gpu->n_pieces = 0;
    gpu->read_bytes = 0;
    gpu->n_sums = 0;
    for (int i = 0; i < MB_GPU_SLOTS; i++)
        mb_gpu_buffer_free(gpu, &gpu->sums[i]);
    if (gpu->sets)
        gpu->DestroyDescriptorPool(gpu->device, gpu->sets, NULL);
    gpu->sets = VK_NULL_HANDLE;
}

/* Enough groups that the last ones do not leave the GPU half empty for long, few enough that their
 * sums stay small. */
static uint32_t count_groups(const struct mb_gpu *gpu, uint32_t n_tiles)
{
    uint32_t n = n_tiles / TILES_PER_GROUP;
    if (n < GROUPS_FULL)
        n = n_tiles < GROUPS_FULL ? n_tiles : GROUPS_FULL;
    return n < gpu->groups_max ? n : gpu->groups_max;
}

/* Memory in pieces, as large as the device allows; smaller ones when it fails, less in all when
 * these fail. */
static int take_pieces(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err)
{
    /* A discrete card's host-visible memory may be the small window, and cached memory of an
     * integrated GPU is snooped. */
    struct mb_gpu_want want = {
        .must = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
        .dislike = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
    };
    uint64_t piece_bytes = gpu->piece_bytes_max;
    gpu->pieces = calloc(PIECES_MAX, sizeof *gpu->pieces);
    if (!gpu->pieces)
        return mb_fail_memory(err);
    while (bytes - gpu->read_bytes >= MB_GPU_TILE_BYTES && gpu->n_pieces < PIECES_MAX) {
        struct mb_gpu_piece *piece = &gpu->pieces[gpu->n_pieces];
        uint64_t left_bytes = bytes - gpu->read_bytes;
        uint64_t now_bytes = piece_bytes < left_bytes ? piece_bytes : left_bytes;
        now_bytes -= now_bytes % MB_GPU_TILE_BYTES;
        int code = mb_gpu_buffer_new(gpu, now_bytes, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, want,
                                     &piece->data, err);
        if (code == MB_ENOMEM && now_bytes > PIECE_BYTES_MIN) {
            piece_bytes = now_bytes / 2;
            continue;
        }
        if (code == MB_ENOMEM && gpu->n_pieces > 0)
            break;
        if (code != MB_OK)
            return code;
        piece->push.n_tiles = (uint32_t)(now_bytes / MB_GPU_TILE_BYTES);
        piece->push.first_tile = (uint32_t)(gpu->read_bytes / MB_GPU_TILE_BYTES);
        piece->push.first_sum = gpu->n_sums;
        piece->n_groups = count_groups(gpu, piece->push.n_tiles);
        gpu->n_sums += piece->n_groups;
        gpu->read_bytes += now_bytes;
        gpu->n_pieces++;
    }
    return MB_OK;
}

static int take_sums(struct mb_gpu *gpu, struct mb_err *err)
{
    /* The host reads them after each pass: cached memory of its own, if the device can write there.
     */
    struct mb_gpu_want want = {
        .must = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
        .like = VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
        .dislike = gpu->discrete ? VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT : 0,
    };
    VkDescriptorSet sets[MB_GPU_SLOTS * PIECES_MAX];
    int code = mb_gpu_sets_new(gpu, MB_GPU_SLOTS * gpu->n_pieces, &gpu->sets, sets, err);
    for (int i = 0; i < MB_GPU_SLOTS && code == MB_OK; i++) {
        code = mb_gpu_buffer_new(gpu, (uint64_t)gpu->n_sums * sizeof(uint32_t),
                                 VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, want, &gpu->sums[i], err);
        for (unsigned j = 0; j < gpu->n_pieces && code == MB_OK; j++) {
            gpu->pieces[j].sets[i] = sets[(unsigned)i * gpu->n_pieces + j];
            mb_gpu_set_bind(gpu, gpu->pieces[j].sets[i], &gpu->pieces[j].data, &gpu->sums[i]);
        }
    }
    return code;
}

/* One dispatch per piece. */
static void record_pieces(struct mb_gpu *gpu, VkPipeline pipeline, int slot)
{
    VkCommandBuffer commands = gpu->slots[slot].commands;
    gpu->CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    for (unsigned i = 0; i < gpu->n_pieces; i++) {
        const struct mb_gpu_piece *piece = &gpu->pieces[i];
        gpu->CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, gpu->layout, 0, 1,
                                   &piece->sets[slot], 0, NULL);
        gpu->CmdPushConstants(commands, gpu->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                              sizeof piece->push, &piece->push);
        gpu->CmdDispatch(commands, piece->n_groups, 1, 1);
    }
}

static int fill(struct mb_gpu *gpu, struct mb_err *err)
{
    int code = mb_gpu_slot_begin(gpu, &gpu->slots[0], err);
    if (code != MB_OK)
        return code;
    record_pieces(gpu, gpu->fill, 0);
    code = mb_gpu_slot_end(gpu, &gpu->slots[0], err);
    if (code == MB_OK)
        code = mb_gpu_slot_submit(gpu, &gpu->slots[0], err);
    if (code == MB_OK)
        code = mb_gpu_slot_wait(gpu, &gpu->slots[0], NULL, err);
    return code;
}

static int record_read(struct mb_gpu *gpu, int slot, struct mb_err *err)
{
    int code = mb_gpu_slot_begin(gpu, &gpu->slots[slot], err);
    if (code != MB_OK)
        return code;
    VkCommandBuffer commands = gpu->slots[slot].commands;
    uint32_t query = 2 * (uint32_t)slot;
    mb_gpu_slot_barrier(gpu, &gpu->slots[slot], VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                        VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                        VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    if (gpu->queries) {
        gpu->CmdResetQueryPool(commands, gpu->queries, query, 2);
        gpu->CmdWriteTimestamp(commands, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, gpu->queries, query);
    }
    record_pieces(gpu, gpu->read, slot);
    if (gpu->queries)
        gpu->CmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, gpu->queries,
                               query + 1);
    mb_gpu_slot_barrier(gpu, &gpu->slots[slot], VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                        VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT,
                        VK_ACCESS_HOST_READ_BIT);
    return mb_gpu_slot_end(gpu, &gpu->slots[slot], err);
}

static int submit(struct mb_gpu *gpu, int slot, struct mb_err *err)
{
    /* The sums of the pass before are right, too: a pass that wrote nothing must not find them. */
    memset(gpu->sums[slot].map, 0xff, gpu->sums[slot].bytes);
    return mb_gpu_slot_submit(gpu, &gpu->slots[slot], err);
}

/* Wait for a pass and check that it read everything. */
static int finish(struct mb_gpu *gpu, int slot, double *host_s, struct mb_err *err)
{
    int code = mb_gpu_slot_wait(gpu, &gpu->slots[slot], host_s, err);
    if (code != MB_OK)
        return code;
    const uint32_t *sums = gpu->sums[slot].map;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < gpu->n_sums; i++)
        sum += sums[i];
    if (sum != gpu->expected_sum)
        return mb_fail(
            err, MB_EREJECT,
            "%s: reading %.0f MiB gave the sum %08x, not %08x; the driver or the memory is faulty",
            gpu->name, (double)gpu->read_bytes / MB_MIB, sum, gpu->expected_sum);
    return MB_OK;
}

/* Seconds between a pass's timestamps; 0 where there are none. */
static int timestamps(struct mb_gpu *gpu, int slot, double *seconds, struct mb_err *err)
{
    uint64_t ticks[2];
    *seconds = 0;
    if (!gpu->queries)
        return MB_OK;
    VkResult result = gpu->GetQueryPoolResults(gpu->device, gpu->queries, 2 * (uint32_t)slot, 2,
                                               sizeof ticks, ticks, sizeof *ticks,
                                               VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
    uint64_t mask =
        gpu->timestamp_bits >= 64 ? UINT64_MAX : ((uint64_t)1 << gpu->timestamp_bits) - 1;
    if (result == VK_SUCCESS)
        *seconds = (double)((ticks[1] - ticks[0]) & mask) * gpu->timestamp_s;
    return mb_gpu_check(gpu, "vkGetQueryPoolResults", result, err);
}

/* One pass by both clocks. */
static int pass(struct mb_gpu *gpu, double *device_s, double *host_s, struct mb_err *err)
{
    int code = submit(gpu, 0, err);
    if (code == MB_OK)
        code = finish(gpu, 0, host_s, err);
    if (code == MB_OK)
        code = timestamps(gpu, 0, device_s, err);
    return code;
}

/* The device can't have worked longer than we waited. */
static int is_possible(double device_s, double host_s)
{
    return device_s > 0 && device_s <= host_s * 1.01;
}

/* Timestamps count if they explain most of what the host saw in the best of three passes: there are
 * drivers that give those of the recording, or in another unit. What they leave unexplained is the
 * way there and back. */
static int choose_clock(struct mb_gpu *gpu, struct mb_err *err)
{
    gpu->use_timestamps = 0;
    for (int i = 0; i < 4; i++) {
        double device_s, host_s;
        int code = pass(gpu, &device_s, &host_s, err);
        if (code != MB_OK)
            return code;
        /* The first pass warms up. */
        if (i > 0 && is_possible(device_s, host_s) && host_s - device_s <= 0.25 * host_s + 300e-6)
            gpu->use_timestamps = 1;
    }
    return MB_OK;
}

static int prepare(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err)
{
    uint64_t available_bytes = mb_gpu_available_bytes(gpu);
    int code = take_pieces(gpu, bytes < available_bytes ? bytes : available_bytes, err);
    if (code == MB_OK && gpu->n_pieces == 0)
        code = mb_fail(err, MB_ENOMEM, "%s: no free memory; close programs that use the GPU",
                       gpu->name);
    if (code == MB_OK)
        code = take_sums(gpu, err);
    if (code == MB_OK)
        code = fill(gpu, err);
    gpu->expected_sum = expected_sum((uint32_t)(gpu->read_bytes / MB_GPU_TILE_BYTES));
    for (int i = 0; i < MB_GPU_SLOTS && code == MB_OK; i++)
        code = record_read(gpu, i, err);
    if (code == MB_OK)
        code = choose_clock(gpu, err);
    return code;
}

int mb_gpu_read_prepare(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err)
{
    int code = mb_gpu_alive(gpu, err);
    if (code != MB_OK)
        return code;
    if (bytes < MB_GPU_TILE_BYTES)
        return mb_fail(err, MB_ERANGE,
                       "%s: a buffer of %llu bytes is too small; 16 KiB is the least", gpu->name,
                       (unsigned long long)bytes);
    mb_gpu_read_free(gpu);
    code = prepare(gpu, bytes, err);
    if (code != MB_OK && !gpu->hung)
        mb_gpu_read_free(gpu);
    return code;
}

static int is_prepared(const struct mb_gpu *gpu, struct mb_err *err)
{
    int code = mb_gpu_alive(gpu, err);
    if (code == MB_OK && gpu->n_pieces == 0)
        code = mb_fail(err, MB_EINVAL, "%s: no buffer was prepared to be read", gpu->name);
    return code;
}

int mb_gpu_read_once(struct mb_gpu *gpu, uint64_t *bytes_read, double *seconds, struct mb_err *err)
{
    double device_s, host_s;
    int code = is_prepared(gpu, err);
    if (code == MB_OK)
        code = pass(gpu, &device_s, &host_s, err);
    if (code != MB_OK)
        return code;
    *bytes_read = gpu->read_bytes;
    *seconds = gpu->use_timestamps && is_possible(device_s, host_s) ? device_s : host_s;
    return MB_OK;
}

int mb_gpu_read_for(struct mb_gpu *gpu, double seconds, uint64_t *bytes_read, double *elapsed_s,
                    struct mb_err *err)
{
    int code = is_prepared(gpu, err);
    if (code != MB_OK)
        return code;
    uint64_t n_passes = 0;
    double start_s = mb_now_s();
    int slot = 0, pending = 0;
    code = submit(gpu, slot, err);
    if (code == MB_OK)
        pending = 1;
    while (pending && code == MB_OK) {
        /* The next pass is queued before this one ends, so that the GPU never waits for us. */
        int more = mb_now_s() - start_s < seconds;
        if (more && (code = submit(gpu, 1 - slot, err)) != MB_OK)
            more = 0;
        struct mb_err *why = code == MB_OK ? err : NULL; /* the first failure is the one to tell */
        int finished = finish(gpu, slot, NULL, why);
        if (code == MB_OK)
            code = finished;
        n_passes += finished == MB_OK;
        slot = 1 - slot;
        pending = more;
    }
    if (pending && !gpu->lost)
        finish(gpu, slot, NULL, NULL);
    if (code == MB_OK) {
        *elapsed_s = mb_now_s() - start_s;
        *bytes_read = n_passes * gpu->read_bytes;
    }
    return code;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double mb_gpu_latency_s(struct mb_gpu *gpu, struct mb_err *err)
{
    double samples[LATENCY_SAMPLES];
    if (mb_gpu_alive(gpu, err) != MB_OK)
        return -1;
    /* The first few wake the device up. */
    for (int i = -4; i < LATENCY_SAMPLES; i++)
        if (mb_gpu_slot_submit(gpu, &gpu->tiny_slot, err) != MB_OK ||
            mb_gpu_slot_wait(gpu, &gpu->tiny_slot, &samples[i < 0 ? 0 : i], err) != MB_OK)
            return -1;
    qsort(samples, LATENCY_SAMPLES, sizeof *samples, compare_doubles);
    return (samples[LATENCY_SAMPLES / 2 - 1] + samples[LATENCY_SAMPLES / 2]) / 2;
}

const char *mb_gpu_clock(const struct mb_gpu *gpu)
{
    return gpu->use_timestamps ? "GPU timestamps" : "host clock";
}
