/* SPDX-License-Identifier: MIT */
/* Copies between pinned host memory and device memory, checked by pattern: word i of generation g
 * is mix(i) ^ mix(~g), so that words at the wrong place, of an older copy, or never copied are all
 * seen. */
#include "gpu/vk_device.h"

#include <string.h>

enum { SAMPLE_WORDS = 16384 }; /* one checked word per 64 KiB */

#define COPY_BYTES_MIN ((uint64_t)4096)
#define COPY_BYTES_MAX ((uint64_t)4 << 30)

static uint32_t word(uint32_t i, uint32_t generation)
{
    return mb_gpu_mix32(i) ^ mb_gpu_mix32(~generation);
}

void mb_gpu_copy_free(struct mb_gpu *gpu)
{
    mb_gpu_buffer_free(gpu, &gpu->staging);
    mb_gpu_buffer_free(gpu, &gpu->target);
}

static int record(struct mb_gpu *gpu, struct mb_gpu_slot *slot, const struct mb_gpu_buffer *from,
                  const struct mb_gpu_buffer *to, struct mb_err *err)
{
    int code = mb_gpu_slot_begin(gpu, slot, err);
    if (code != MB_OK)
        return code;
    VkBufferCopy all = {.size = from->bytes};
    mb_gpu_slot_barrier(gpu, slot, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                        VK_PIPELINE_STAGE_TRANSFER_BIT,
                        VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    gpu->CmdCopyBuffer(slot->commands, from->buffer, to->buffer, 1, &all);
    mb_gpu_slot_barrier(gpu, slot, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                        VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    return mb_gpu_slot_end(gpu, slot, err);
}

static int take(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err)
{
    const VkBufferUsageFlags usage =
        VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    /* The host's own memory, or nothing would cross the link; cached, because the host reads it. */
    struct mb_gpu_want host = {
        .must = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
        .like = VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
        .dislike = gpu->discrete ? VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT : 0,
    };
    struct mb_gpu_want device = {
        .must = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
        .dislike = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
    };
    int code = mb_gpu_buffer_new(gpu, bytes, usage, host, &gpu->staging, err);
    if (code == MB_OK)
        code = mb_gpu_buffer_new(gpu, bytes, usage, device, &gpu->target, err);
    if (code == MB_OK)
        code = record(gpu, &gpu->to_device, &gpu->staging, &gpu->target, err);
    if (code == MB_OK)
        code = record(gpu, &gpu->from_device, &gpu->target, &gpu->staging, err);
    return code;
}

static int run(struct mb_gpu *gpu, struct mb_gpu_slot *slot, double *seconds, struct mb_err *err)
{
    int code = mb_gpu_slot_submit(gpu, slot, err);
    return code == MB_OK ? mb_gpu_slot_wait(gpu, slot, seconds, err) : code;
}

/* Write every step-th word of a generation, or its complement. */
static void put_words(struct mb_gpu *gpu, uint32_t step, uint32_t generation, uint32_t flip)
{
    uint32_t *words = gpu->staging.map;
    uint64_t n = gpu->staging.bytes / sizeof *words;
    for (uint64_t i = 0; i < n; i += step)
        words[i] = word((uint32_t)i, generation) ^ flip;
}

static int check_words(struct mb_gpu *gpu, uint32_t step, uint32_t generation, struct mb_err *err)
{
    const uint32_t *words = gpu->staging.map;
    uint64_t n = gpu->staging.bytes / sizeof *words;
    for (uint64_t i = 0; i < n; i += step)
        if (words[i] != word((uint32_t)i, generation))
            return mb_fail(
                err, MB_EREJECT,
                "%s: a copy there and back changed byte %llu; the driver, link or memory is faulty",
                gpu->name, (unsigned long long)i * sizeof *words);
    return MB_OK;
}

static int is_prepared(const struct mb_gpu *gpu, struct mb_err *err)
{
    int code = mb_gpu_alive(gpu, err);
    if (code == MB_OK && !gpu->target.buffer)
        code = mb_fail(err, MB_EINVAL, "%s: no buffer was prepared to be copied", gpu->name);
    return code;
}

int mb_gpu_copy_check(struct mb_gpu *gpu, struct mb_err *err)
{
    int code = is_prepared(gpu, err);
    if (code != MB_OK)
        return code;
    put_words(gpu, 1, ++gpu->generation, 0);
    code = run(gpu, &gpu->to_device, NULL, err);
    if (code != MB_OK)
        return code;
    memset(gpu->staging.map, 0, gpu->staging.bytes);
    code = run(gpu, &gpu->from_device, NULL, err);
    return code == MB_OK ? check_words(gpu, 1, gpu->generation, err) : code;
}

int mb_gpu_copy_prepare(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err)
{
    int code = mb_gpu_alive(gpu, err);
    if (code != MB_OK)
        return code;
    if (bytes < COPY_BYTES_MIN || bytes > COPY_BYTES_MAX || bytes % 4)
        return mb_fail(err, MB_ERANGE,
                       "%s: %llu bytes can't be copied; choose a multiple of 4 from 4 KiB to 4 GiB",
                       gpu->name, (unsigned long long)bytes);
    mb_gpu_copy_free(gpu);
    code = take(gpu, bytes, err);
    if (code == MB_OK)
        code = mb_gpu_copy_check(gpu, err);
    if (code != MB_OK && !gpu->hung)
        mb_gpu_copy_free(gpu);
    return code;
}

int mb_gpu_copy_once(struct mb_gpu *gpu, int to_device, double *seconds, struct mb_err *err)
{
    double took_s;
    int code = is_prepared(gpu, err);
    if (code != MB_OK)
        return code;
    /* There: a sample of new words. Back: the host's sample is spoilt first, so that only the copy
     * can mend it. */
    if (to_device)
        put_words(gpu, SAMPLE_WORDS, ++gpu->generation, 0);
    else
        put_words(gpu, SAMPLE_WORDS, gpu->generation, UINT32_MAX);
    code = run(gpu, to_device ? &gpu->to_device : &gpu->from_device, &took_s, err);
    if (code == MB_OK && !to_device)
        code = check_words(gpu, SAMPLE_WORDS, gpu->generation, err);
    if (code == MB_OK)
        *seconds = took_s;
    return code;
}
