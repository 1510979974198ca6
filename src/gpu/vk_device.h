/* SPDX-License-Identifier: MIT */
/* An opened Vulkan device: its functions, queues, pipelines and buffers. Shared by the files that
 * measure, and by their tests, which plant faults in it. */
#ifndef MB_VK_DEVICE_H
#define MB_VK_DEVICE_H

#include "gpu/vk_loader.h"
#include "gpu/vk_measure.h"

#define MB_VK_DEVICE_FUNCTIONS(X)  \
    X(DestroyDevice)               \
    X(GetDeviceQueue)              \
    X(DeviceWaitIdle)              \
    X(QueueSubmit)                 \
    X(CreateFence)                 \
    X(DestroyFence)                \
    X(ResetFences)                 \
    X(WaitForFences)               \
    X(CreateBuffer)                \
    X(DestroyBuffer)               \
    X(GetBufferMemoryRequirements) \
    X(AllocateMemory)              \
    X(FreeMemory)                  \
    X(BindBufferMemory)            \
    X(MapMemory)                   \
    X(CreateShaderModule)          \
    X(DestroyShaderModule)         \
    X(CreateDescriptorSetLayout)   \
    X(DestroyDescriptorSetLayout)  \
    X(CreatePipelineLayout)        \
    X(DestroyPipelineLayout)       \
    X(CreateComputePipelines)      \
    X(DestroyPipeline)             \
    X(CreateDescriptorPool)        \
    X(DestroyDescriptorPool)       \
    X(AllocateDescriptorSets)      \
    X(UpdateDescriptorSets)        \
    X(CreateCommandPool)           \
    X(DestroyCommandPool)          \
    X(AllocateCommandBuffers)      \
    X(BeginCommandBuffer)          \
    X(EndCommandBuffer)            \
    X(CreateQueryPool)             \
    X(DestroyQueryPool)            \
    X(GetQueryPoolResults)         \
    X(CmdBindPipeline)             \
    X(CmdBindDescriptorSets)       \
    X(CmdPushConstants)            \
    X(CmdDispatch)                 \
    X(CmdPipelineBarrier)          \
    X(CmdCopyBuffer)               \
    X(CmdResetQueryPool)           \
    X(CmdWriteTimestamp)

struct mb_gpu_buffer {
    VkBuffer buffer;
    VkDeviceMemory memory;
    void *map; /* host-visible buffers */
    uint64_t bytes;
};

/* The push constants of the shaders. */
struct mb_gpu_push {
    uint32_t n_tiles, first_tile, first_sum;
};

enum {
    MB_GPU_TILE_BYTES = 16384, /* what a work group takes at a time, as the shaders have it */
    MB_GPU_SLOTS = 2           /* passes in flight, so that the GPU need not wait for the host */
};

/* One buffer of the data to read: a storage buffer has a largest size. */
struct mb_gpu_piece {
    struct mb_gpu_buffer data;
    VkDescriptorSet sets[MB_GPU_SLOTS]; /* with the sums of each slot */
    struct mb_gpu_push push;
    uint32_t n_groups;
};

/* Commands recorded once, submitted often. */
struct mb_gpu_slot {
    VkQueue queue;
    VkCommandBuffer commands;
    VkFence fence;
    double submitted_s;
};

struct mb_gpu {
    struct mb_vk_loader vk;
    VkPhysicalDevice physical;
    VkPhysicalDeviceMemoryProperties memory;
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    int discrete;
    int has_budget;
    uint64_t piece_bytes_max;
    uint32_t groups_max;
    uint32_t family, copy_family;
    uint32_t timestamp_bits;
    double timestamp_s; /* one tick */

    VkDevice device;
    MB_VK_DEVICE_FUNCTIONS(MB_VK_FIELD)
    VkQueue queue, copy_queue;
    VkCommandPool pool, copy_pool;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipeline read, fill;
    int lost; /* nothing more is asked of the device */
    int hung; /* it still owns what was submitted, so nothing may be destroyed */

    /* the tiny dispatch of mb_gpu_latency_s() */
    struct mb_gpu_buffer tiny;
    VkDescriptorPool tiny_sets;
    struct mb_gpu_slot tiny_slot;

    /* reading */
    struct mb_gpu_piece *pieces;
    unsigned n_pieces;
    uint64_t read_bytes;
    struct mb_gpu_buffer sums[MB_GPU_SLOTS];
    uint32_t n_sums;
    uint32_t expected_sum;
    VkDescriptorPool sets;
    VkQueryPool queries;
    struct mb_gpu_slot slots[MB_GPU_SLOTS];
    int use_timestamps;

    /* copying */
    struct mb_gpu_buffer staging, target;
    struct mb_gpu_slot to_device, from_device;
    uint32_t generation; /* of the pattern that the device holds in its sampled words */
};

/* What a memory type must have, and what speaks for and against it. */
struct mb_gpu_want {
    VkMemoryPropertyFlags must, like, dislike;
};

/* The finalizer of MurmurHash3 (Austin Appleby, public domain), as fill.comp has it: every bit of x
 * reaches every bit of the result, no two x give the same. */
static inline uint32_t mb_gpu_mix32(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    return x ^ (x >> 16);
}

/* Fill err for a failed call and remember a lost device; MB_OK for VK_SUCCESS. */
int mb_gpu_check(struct mb_gpu *gpu, const char *call, VkResult result, struct mb_err *err);
/* MB_OK, or an error when the device was lost earlier. */
int mb_gpu_alive(const struct mb_gpu *gpu, struct mb_err *err);

/* A buffer with its own memory, mapped if it must be host-visible. Fails with MB_ENOMEM when it
 * would take more than 80 % of what the heap's budget leaves. */
int mb_gpu_buffer_new(struct mb_gpu *gpu, uint64_t bytes, VkBufferUsageFlags usage,
                      struct mb_gpu_want want, struct mb_gpu_buffer *out, struct mb_err *err);
void mb_gpu_buffer_free(struct mb_gpu *gpu, struct mb_gpu_buffer *buffer);
/* 80 % of what the budget of the largest device-local heap leaves this process. */
uint64_t mb_gpu_available_bytes(struct mb_gpu *gpu);

/* Begin recording a slot's commands (what it had is forgotten), end it, submit it, wait for it. */
int mb_gpu_slot_begin(struct mb_gpu *gpu, struct mb_gpu_slot *slot, struct mb_err *err);
int mb_gpu_slot_end(struct mb_gpu *gpu, struct mb_gpu_slot *slot, struct mb_err *err);
int mb_gpu_slot_submit(struct mb_gpu *gpu, struct mb_gpu_slot *slot, struct mb_err *err);
/* seconds (may be NULL): since its submission, on the host's clock. */
int mb_gpu_slot_wait(struct mb_gpu *gpu, struct mb_gpu_slot *slot, double *seconds,
                     struct mb_err *err);
/* A barrier over all memory between two stages. */
void mb_gpu_slot_barrier(struct mb_gpu *gpu, struct mb_gpu_slot *slot, VkPipelineStageFlags from,
                         VkAccessFlags wrote, VkPipelineStageFlags to, VkAccessFlags reads);

/* A pool of n sets, each with data at binding 0 and sums at binding 1 (the same buffer twice is
 * allowed). */
int mb_gpu_sets_new(struct mb_gpu *gpu, uint32_t n, VkDescriptorPool *pool, VkDescriptorSet *sets,
                    struct mb_err *err);
void mb_gpu_set_bind(struct mb_gpu *gpu, VkDescriptorSet set, const struct mb_gpu_buffer *data,
                     const struct mb_gpu_buffer *sums);

/* Free what read_prepare and copy_prepare took; the device must be idle. */
void mb_gpu_read_free(struct mb_gpu *gpu);
void mb_gpu_copy_free(struct mb_gpu *gpu);

#endif
