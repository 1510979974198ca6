/* SPDX-License-Identifier: MIT */
/* Opening a Vulkan device for measuring: choosing it, its queues and memory types, its pipelines,
 * and the steps from which every measurement is made (buffers, recorded commands, fences). What is
 * measured is left to vk_measure.c and vk_copy.c. */
#include "gpu/vk_device.h"

#include <stdlib.h>
#include <string.h>

#define FENCE_TIMEOUT_NS ((uint64_t)60 * 1000 * 1000 * 1000)

static const uint32_t read_code[] = {
#include "gpu/read.comp.inc"
};

static const uint32_t fill_code[] = {
#include "gpu/fill.comp.inc"
};

int mb_gpu_check(struct mb_gpu *gpu, const char *call, VkResult result, struct mb_err *err)
{
    if (result == VK_SUCCESS)
        return MB_OK;
    char what[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE + 64];
    snprintf(what, sizeof what, "%s: %s", gpu->name, call);
    if (result == VK_ERROR_DEVICE_LOST)
        gpu->lost = 1;
    return mb_vk_fail(err, what, result);
}

int mb_gpu_alive(const struct mb_gpu *gpu, struct mb_err *err)
{
    return gpu->lost
               ? mb_fail(err, MB_ENOHW, "%s: the GPU was lost earlier; open it again", gpu->name)
               : MB_OK;
}

/* ---- memory ---- */

static uint64_t heap_available_bytes(struct mb_gpu *gpu, uint32_t heap)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT,
    };
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = gpu->has_budget ? &budget : NULL,
    };
    uint64_t available_bytes = gpu->memory.memoryHeaps[heap].size;
    if (gpu->has_budget) {
        gpu->vk.GetPhysicalDeviceMemoryProperties2(gpu->physical, &memory);
        uint64_t left_bytes = budget.heapBudget[heap] > budget.heapUsage[heap]
                                  ? budget.heapBudget[heap] - budget.heapUsage[heap]
                                  : 0;
        if (left_bytes < available_bytes)
            available_bytes = left_bytes;
    }
    return available_bytes / 5 * 4;
}

/* More likes less dislikes; the drivers list equals in order of speed. -1: none. Types with flags
 * that need a feature or mean something else (protected, lazily allocated, device-coherent) are
 * left alone. */
static int pick_type(const struct mb_gpu *gpu, uint32_t allowed, struct mb_gpu_want want)
{
    const VkMemoryPropertyFlags plain =
        VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
        VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    int best = -1, best_score = 0;
    uint64_t best_bytes = 0;
    for (uint32_t i = 0; i < gpu->memory.memoryTypeCount && i < VK_MAX_MEMORY_TYPES; i++) {
        VkMemoryPropertyFlags flags = gpu->memory.memoryTypes[i].propertyFlags;
        if (!(allowed >> i & 1) || (flags & ~plain) || (flags & want.must) != want.must)
            continue;
        int score = 0;
        for (VkMemoryPropertyFlags bit = 1; bit & plain; bit <<= 1)
            score += ((flags & want.like & bit) != 0) - 2 * ((flags & want.dislike & bit) != 0);
        /* The largest heap first: cards without resizable BAR have a second device-local heap of
         * 256 MiB. */
        uint64_t bytes = gpu->memory.memoryHeaps[gpu->memory.memoryTypes[i].heapIndex].size;
        int better = want.must & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
                         ? bytes > best_bytes || (bytes == best_bytes && score > best_score)
                         : score > best_score;
        if (best < 0 || better) {
            best = (int)i;
            best_score = score;
            best_bytes = bytes;
        }
    }
    return best;
}

uint64_t mb_gpu_available_bytes(struct mb_gpu *gpu)
{
    int type = pick_type(gpu, UINT32_MAX,
                         (struct mb_gpu_want){.must = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT});
    return type < 0 ? 0 : heap_available_bytes(gpu, gpu->memory.memoryTypes[type].heapIndex);
}

static int fill_buffer(struct mb_gpu *gpu, VkBufferUsageFlags usage, struct mb_gpu_want want,
                       struct mb_gpu_buffer *out, struct mb_err *err)
{
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = out->bytes,
        .usage = usage,
        .sharingMode = VK_SHARING_MODE_EXCLUSIVE,
    };
    int code = mb_gpu_check(gpu, "vkCreateBuffer",
                            gpu->CreateBuffer(gpu->device, &info, NULL, &out->buffer), err);
    if (code != MB_OK)
        return code;
    VkMemoryRequirements needs;
    gpu->GetBufferMemoryRequirements(gpu->device, out->buffer, &needs);
    int type = pick_type(gpu, needs.memoryTypeBits, want);
    if (type < 0)
        return mb_fail(err, MB_ENOHW, "%s: no memory type for this buffer; update the driver",
                       gpu->name);
    if (needs.size > heap_available_bytes(gpu, gpu->memory.memoryTypes[type].heapIndex))
        return mb_fail(err, MB_ENOMEM,
                       "%s: %.0f MiB are over 80 %% of its free memory; close other programs",
                       gpu->name, (double)needs.size / MB_MIB);
    VkMemoryAllocateInfo take = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex = (uint32_t)type,
    };
    code = mb_gpu_check(gpu, "vkAllocateMemory",
                        gpu->AllocateMemory(gpu->device, &take, NULL, &out->memory), err);
    if (code == MB_OK)
        code = mb_gpu_check(gpu, "vkBindBufferMemory",
                            gpu->BindBufferMemory(gpu->device, out->buffer, out->memory, 0), err);
    if (code == MB_OK && (want.must & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT))
        code = mb_gpu_check(
            gpu, "vkMapMemory",
            gpu->MapMemory(gpu->device, out->memory, 0, VK_WHOLE_SIZE, 0, &out->map), err);
    return code;
}

int mb_gpu_buffer_new(struct mb_gpu *gpu, uint64_t bytes, VkBufferUsageFlags usage,
                      struct mb_gpu_want want, struct mb_gpu_buffer *out, struct mb_err *err)
{
    *out = (struct mb_gpu_buffer){.bytes = bytes};
    int code = fill_buffer(gpu, usage, want, out, err);
    if (code != MB_OK)
        mb_gpu_buffer_free(gpu, out);
    return code;
}

void mb_gpu_buffer_free(struct mb_gpu *gpu, struct mb_gpu_buffer *buffer)
{
    if (buffer->buffer)
        gpu->DestroyBuffer(gpu->device, buffer->buffer, NULL);
    if (buffer->memory)
        gpu->FreeMemory(gpu->device, buffer->memory, NULL); /* unmaps it */
    *buffer = (struct mb_gpu_buffer){0};
}

/* ---- commands ---- */

static int slot_new(struct mb_gpu *gpu, VkCommandPool pool, VkQueue queue, struct mb_gpu_slot *slot,
                    struct mb_err *err)
{
    VkCommandBufferAllocateInfo take = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    slot->queue = queue;
    int code = mb_gpu_check(gpu, "vkAllocateCommandBuffers",
                            gpu->AllocateCommandBuffers(gpu->device, &take, &slot->commands), err);
    if (code == MB_OK)
        code = mb_gpu_check(gpu, "vkCreateFence",
                            gpu->CreateFence(gpu->device, &fence, NULL, &slot->fence), err);
    return code;
}

int mb_gpu_slot_begin(struct mb_gpu *gpu, struct mb_gpu_slot *slot, struct mb_err *err)
{
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    return mb_gpu_check(gpu, "vkBeginCommandBuffer", gpu->BeginCommandBuffer(slot->commands, &info),
                        err);
}

int mb_gpu_slot_end(struct mb_gpu *gpu, struct mb_gpu_slot *slot, struct mb_err *err)
{
    return mb_gpu_check(gpu, "vkEndCommandBuffer", gpu->EndCommandBuffer(slot->commands), err);
}

void mb_gpu_slot_barrier(struct mb_gpu *gpu, struct mb_gpu_slot *slot, VkPipelineStageFlags from,
                         VkAccessFlags wrote, VkPipelineStageFlags to, VkAccessFlags reads)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = wrote,
        .dstAccessMask = reads,
    };
    gpu->CmdPipelineBarrier(slot->commands, from, to, 0, 1, &barrier, 0, NULL, 0, NULL);
}

int mb_gpu_slot_submit(struct mb_gpu *gpu, struct mb_gpu_slot *slot, struct mb_err *err)
{
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .commandBufferCount = 1,
        .pCommandBuffers = &slot->commands,
    };
    int code =
        mb_gpu_check(gpu, "vkResetFences", gpu->ResetFences(gpu->device, 1, &slot->fence), err);
    if (code != MB_OK)
        return code;
    slot->submitted_s = mb_now_s();
    return mb_gpu_check(gpu, "vkQueueSubmit", gpu->QueueSubmit(slot->queue, 1, &info, slot->fence),
                        err);
}

int mb_gpu_slot_wait(struct mb_gpu *gpu, struct mb_gpu_slot *slot, double *seconds,
                     struct mb_err *err)
{
    VkResult result = gpu->WaitForFences(gpu->device, 1, &slot->fence, VK_TRUE, FENCE_TIMEOUT_NS);
    if (seconds)
        *seconds = mb_now_s() - slot->submitted_s;
    if (result == VK_TIMEOUT) {
        gpu->lost = gpu->hung = 1;
        return mb_fail(err, MB_EREJECT,
                       "%s: no answer within a minute; see the system log of its driver",
                       gpu->name);
    }
    return mb_gpu_check(gpu, "vkWaitForFences", result, err);
}

/* ---- pipelines ---- */

int mb_gpu_sets_new(struct mb_gpu *gpu, uint32_t n, VkDescriptorPool *pool, VkDescriptorSet *sets,
                    struct mb_err *err)
{
    VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                 .descriptorCount = 2 * n};
    VkDescriptorPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = n,
        .poolSizeCount = 1,
        .pPoolSizes = &size,
    };
    int code = mb_gpu_check(gpu, "vkCreateDescriptorPool",
                            gpu->CreateDescriptorPool(gpu->device, &info, NULL, pool), err);
    for (uint32_t i = 0; i < n && code == MB_OK; i++) {
        VkDescriptorSetAllocateInfo take = {
            .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
            .descriptorPool = *pool,
            .descriptorSetCount = 1,
            .pSetLayouts = &gpu->set_layout,
        };
        code = mb_gpu_check(gpu, "vkAllocateDescriptorSets",
                            gpu->AllocateDescriptorSets(gpu->device, &take, &sets[i]), err);
    }
    return code;
}

void mb_gpu_set_bind(struct mb_gpu *gpu, VkDescriptorSet set, const struct mb_gpu_buffer *data,
                     const struct mb_gpu_buffer *sums)
{
    VkDescriptorBufferInfo buffers[2] = {
        {.buffer = data->buffer, .range = data->bytes},
        {.buffer = sums->buffer, .range = sums->bytes},
    };
    VkWriteDescriptorSet write = {
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
        .dstSet = set,
        .descriptorCount = 2, /* runs over into binding 1 */
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .pBufferInfo = buffers,
    };
    gpu->UpdateDescriptorSets(gpu->device, 1, &write, 0, NULL);
}

static int pipeline_new(struct mb_gpu *gpu, const uint32_t *code_words, size_t n_bytes,
                        VkPipeline *out, struct mb_err *err)
{
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = n_bytes,
        .pCode = code_words,
    };
    VkShaderModule module;
    int code = mb_gpu_check(gpu, "vkCreateShaderModule",
                            gpu->CreateShaderModule(gpu->device, &module_info, NULL, &module), err);
    if (code != MB_OK)
        return code;
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage =
            {
                .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = module,
                .pName = "main",
            },
        .layout = gpu->layout,
    };
    code = mb_gpu_check(
        gpu, "vkCreateComputePipelines",
        gpu->CreateComputePipelines(gpu->device, VK_NULL_HANDLE, 1, &info, NULL, out), err);
    gpu->DestroyShaderModule(gpu->device, module, NULL);
    return code;
}

static int make_pipelines(struct mb_gpu *gpu, struct mb_err *err)
{
    VkDescriptorSetLayoutBinding bindings[2];
    for (uint32_t i = 0; i < 2; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    VkDescriptorSetLayoutCreateInfo sets = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = 2,
        .pBindings = bindings,
    };
    int code = mb_gpu_check(
        gpu, "vkCreateDescriptorSetLayout",
        gpu->CreateDescriptorSetLayout(gpu->device, &sets, NULL, &gpu->set_layout), err);
    if (code != MB_OK)
        return code;
    VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                                .size = sizeof(struct mb_gpu_push)};
    VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &gpu->set_layout,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &push,
    };
    code = mb_gpu_check(gpu, "vkCreatePipelineLayout",
                        gpu->CreatePipelineLayout(gpu->device, &layout, NULL, &gpu->layout), err);
    if (code == MB_OK)
        code = pipeline_new(gpu, read_code, sizeof read_code, &gpu->read, err);
    if (code == MB_OK)
        code = pipeline_new(gpu, fill_code, sizeof fill_code, &gpu->fill, err);
    return code;
}

static int make_slots(struct mb_gpu *gpu, struct mb_err *err)
{
    VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = gpu->family,
    };
    int code = mb_gpu_check(gpu, "vkCreateCommandPool",
                            gpu->CreateCommandPool(gpu->device, &info, NULL, &gpu->pool), err);
    info.queueFamilyIndex = gpu->copy_family;
    if (code == MB_OK)
        code = mb_gpu_check(gpu, "vkCreateCommandPool",
                            gpu->CreateCommandPool(gpu->device, &info, NULL, &gpu->copy_pool), err);
    for (int i = 0; i < MB_GPU_SLOTS && code == MB_OK; i++)
        code = slot_new(gpu, gpu->pool, gpu->queue, &gpu->slots[i], err);
    if (code == MB_OK)
        code = slot_new(gpu, gpu->pool, gpu->queue, &gpu->tiny_slot, err);
    if (code == MB_OK)
        code = slot_new(gpu, gpu->copy_pool, gpu->copy_queue, &gpu->to_device, err);
    if (code == MB_OK)
        code = slot_new(gpu, gpu->copy_pool, gpu->copy_queue, &gpu->from_device, err);
    if (code == MB_OK && gpu->timestamp_bits) {
        VkQueryPoolCreateInfo queries = {
            .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
            .queryType = VK_QUERY_TYPE_TIMESTAMP,
            .queryCount = 2 * MB_GPU_SLOTS,
        };
        code = mb_gpu_check(gpu, "vkCreateQueryPool",
                            gpu->CreateQueryPool(gpu->device, &queries, NULL, &gpu->queries), err);
    }
    return code;
}

/* One work group that reads nothing: what is left is the way to the GPU and back. */
static int make_tiny(struct mb_gpu *gpu, struct mb_err *err)
{
    struct mb_gpu_want want = {.must = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT};
    struct mb_gpu_push push = {0};
    VkDescriptorSet set = VK_NULL_HANDLE;
    int code = mb_gpu_buffer_new(gpu, MB_GPU_TILE_BYTES, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, want,
                                 &gpu->tiny, err);
    if (code == MB_OK)
        code = mb_gpu_sets_new(gpu, 1, &gpu->tiny_sets, &set, err);
    if (code == MB_OK)
        code = mb_gpu_slot_begin(gpu, &gpu->tiny_slot, err);
    if (code != MB_OK)
        return code;
    mb_gpu_set_bind(gpu, set, &gpu->tiny, &gpu->tiny);
    VkCommandBuffer commands = gpu->tiny_slot.commands;
    mb_gpu_slot_barrier(gpu, &gpu->tiny_slot, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                        VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                        VK_ACCESS_SHADER_WRITE_BIT);
    gpu->CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, gpu->read);
    gpu->CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, gpu->layout, 0, 1, &set, 0,
                               NULL);
    gpu->CmdPushConstants(commands, gpu->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof push,
                          &push);
    gpu->CmdDispatch(commands, 1, 1, 1);
    return mb_gpu_slot_end(gpu, &gpu->tiny_slot, err);
}

/* ---- opening ---- */

/* The physical device that was asked for, and its properties into gpu. */
static int choose(struct mb_gpu *gpu, const char *pci, const char *name, int allow_software,
                  struct mb_err *err)
{
    VkPhysicalDevice devices[MB_VK_DEVICES_MAX];
    uint32_t n = 0;
    int software = 0;
    int code = mb_vk_loader_devices(&gpu->vk, devices, &n, err);
    if (code != MB_OK)
        return code;
    struct mb_arena arena = {0};
    for (uint32_t i = 0; i < n && !gpu->physical; i++) {
        struct mb_vk_info info;
        code = mb_vk_loader_info(&gpu->vk, devices[i], &arena, &info, err);
        if (code != MB_OK)
            break;
        int same =
            pci && info.pci ? strcmp(pci, info.pci) == 0 : name && strcmp(name, info.name) == 0;
        if (!same)
            continue;
        if (strcmp(info.type, "cpu") == 0 && !allow_software) {
            software = 1;
            continue;
        }
        gpu->physical = devices[i];
        gpu->discrete = strcmp(info.type, "discrete") == 0;
        snprintf(gpu->name, sizeof gpu->name, "%s", info.name);
    }
    mb_arena_free(&arena);
    if (code == MB_OK && !gpu->physical)
        code =
            mb_fail(err, MB_ENOHW,
                    software ? "%s: a software device, which is not measured; use the CPU's figures"
                             : "%s: Vulkan has no such device; install its driver",
                    pci ? pci : name);
    return code;
}

static void read_limits(struct mb_gpu *gpu)
{
    VkPhysicalDeviceMaintenance3Properties allocation = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES,
    };
    VkPhysicalDeviceProperties2 all = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
        .pNext = &allocation,
    };
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    gpu->vk.GetPhysicalDeviceProperties2(gpu->physical, &all);
    gpu->vk.GetPhysicalDeviceMemoryProperties2(gpu->physical, &memory);
    gpu->memory = memory.memoryProperties;
    gpu->has_budget =
        mb_vk_loader_offers(&gpu->vk, gpu->physical, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    gpu->groups_max = all.properties.limits.maxComputeWorkGroupCount[0];
    gpu->timestamp_s = (double)all.properties.limits.timestampPeriod * 1e-9;
    gpu->piece_bytes_max = all.properties.limits.maxStorageBufferRange;
    if (allocation.maxMemoryAllocationSize < gpu->piece_bytes_max)
        gpu->piece_bytes_max = allocation.maxMemoryAllocationSize;
}

static int choose_queues(struct mb_gpu *gpu, struct mb_err *err)
{
    VkQueueFamilyProperties families[32];
    uint32_t n = MB_COUNT(families);
    gpu->vk.GetPhysicalDeviceQueueFamilyProperties(gpu->physical, &n, families);
    gpu->family = gpu->copy_family = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        VkQueueFlags flags = families[i].queueFlags;
        const VkQueueFlags usual =
            VK_QUEUE_TRANSFER_BIT | VK_QUEUE_SPARSE_BINDING_BIT | VK_QUEUE_PROTECTED_BIT;
        if (families[i].queueCount == 0)
            continue;
        if ((flags & VK_QUEUE_COMPUTE_BIT) && gpu->family == UINT32_MAX) {
            gpu->family = i;
            gpu->timestamp_bits = families[i].timestampValidBits;
        }
        /* A queue that can only copy is a DMA engine; those of video codecs can copy, too, and are
         * something else. */
        if ((flags & VK_QUEUE_TRANSFER_BIT) && !(flags & ~usual) && gpu->copy_family == UINT32_MAX)
            gpu->copy_family = i;
    }
    if (gpu->family == UINT32_MAX)
        return mb_fail(err, MB_ENOHW, "%s: no compute queue; update the driver", gpu->name);
    if (gpu->copy_family == UINT32_MAX)
        gpu->copy_family = gpu->family;
    return MB_OK;
}

#define LOAD(function)                                                                        \
    gpu->function = (PFN_vk##function)gpu->vk.GetDeviceProcAddr(gpu->device, "vk" #function); \
    if (!gpu->function)                                                                       \
        return mb_fail(err, MB_ENOHW, "%s: vk" #function " is missing; update the driver",    \
                       gpu->name);

static int create_device(struct mb_gpu *gpu, struct mb_err *err)
{
    static const float priority = 1.0f;
    /* Devices with a subset of Vulkan must have it enabled; the name's macro is in a header of
     * provisional extensions. */
    static const char *const subset = "VK_KHR_portability_subset";
    VkDeviceQueueCreateInfo queues[2];
    for (int i = 0; i < 2; i++)
        queues[i] = (VkDeviceQueueCreateInfo){
            .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
            .queueFamilyIndex = i ? gpu->copy_family : gpu->family,
            .queueCount = 1,
            .pQueuePriorities = &priority,
        };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = gpu->copy_family != gpu->family ? 2 : 1,
        .pQueueCreateInfos = queues,
        .enabledExtensionCount = mb_vk_loader_offers(&gpu->vk, gpu->physical, subset) ? 1 : 0,
        .ppEnabledExtensionNames = &subset,
    };
    VkResult result = gpu->vk.CreateDevice(gpu->physical, &info, NULL, &gpu->device);
    if (result != VK_SUCCESS)
        gpu->device = VK_NULL_HANDLE;
    int code = mb_gpu_check(gpu, "vkCreateDevice", result, err);
    if (code != MB_OK)
        return code;
    MB_VK_DEVICE_FUNCTIONS(LOAD)
    gpu->GetDeviceQueue(gpu->device, gpu->family, 0, &gpu->queue);
    gpu->GetDeviceQueue(gpu->device, gpu->copy_family, 0, &gpu->copy_queue);
    return MB_OK;
}

static int open_device(struct mb_gpu *gpu, const char *pci, const char *name, int allow_software,
                       struct mb_err *err)
{
    int code = mb_vk_loader_open(&gpu->vk, err);
    if (code == MB_OK)
        code = choose(gpu, pci, name, allow_software, err);
    if (code != MB_OK)
        return code;
    read_limits(gpu);
    code = choose_queues(gpu, err);
    if (code != MB_OK)
        return code;
    int saved = mb_vk_quiet_begin();
    code = create_device(gpu, err);
    if (code == MB_OK)
        code = make_pipelines(gpu, err);
    mb_vk_quiet_end(saved);
    if (code == MB_OK)
        code = make_slots(gpu, err);
    if (code == MB_OK)
        code = make_tiny(gpu, err);
    return code;
}

static void free_slot(struct mb_gpu *gpu, struct mb_gpu_slot *slot)
{
    if (slot->fence)
        gpu->DestroyFence(gpu->device, slot->fence, NULL);
}

/* Half-built devices too: a device whose functions are not all there has no objects but itself. */
static void free_objects(struct mb_gpu *gpu)
{
    gpu->DeviceWaitIdle(gpu->device);
    mb_gpu_read_free(gpu);
    mb_gpu_copy_free(gpu);
    mb_gpu_buffer_free(gpu, &gpu->tiny);
    for (int i = 0; i < MB_GPU_SLOTS; i++)
        free_slot(gpu, &gpu->slots[i]);
    free_slot(gpu, &gpu->tiny_slot);
    free_slot(gpu, &gpu->to_device);
    free_slot(gpu, &gpu->from_device);
    /* Destroying VK_NULL_HANDLE is allowed and does nothing. */
    gpu->DestroyQueryPool(gpu->device, gpu->queries, NULL);
    gpu->DestroyDescriptorPool(gpu->device, gpu->tiny_sets, NULL);
    gpu->DestroyCommandPool(gpu->device, gpu->pool, NULL);
    gpu->DestroyCommandPool(gpu->device, gpu->copy_pool, NULL);
    gpu->DestroyPipeline(gpu->device, gpu->read, NULL);
    gpu->DestroyPipeline(gpu->device, gpu->fill, NULL);
    gpu->DestroyPipelineLayout(gpu->device, gpu->layout, NULL);
    gpu->DestroyDescriptorSetLayout(gpu->device, gpu->set_layout, NULL);
}

void mb_gpu_close(struct mb_gpu *gpu)
{
    if (!gpu || gpu->hung)
        return; /* a device that does not answer may write to what it was given: nothing is freed */
    if (gpu->device && gpu->CmdWriteTimestamp) /* the last of the table */
        free_objects(gpu);
    if (gpu->device && gpu->DestroyDevice)
        gpu->DestroyDevice(gpu->device, NULL);
    mb_vk_loader_close(&gpu->vk);
    free(gpu);
}

int mb_gpu_open(const char *pci, const char *name, int allow_software, struct mb_gpu **out,
                struct mb_err *err)
{
    if (!pci && !name)
        return mb_fail(err, MB_EINVAL, "GPU: neither address nor name was given");
    if (!allow_software && !mb_vk_worth_trying())
        return mb_fail(err, MB_ENOHW,
                       "%s: this machine has no GPU device files; install its driver",
                       pci ? pci : name);
    struct mb_gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu)
        return mb_fail_memory(err);
    int code = open_device(gpu, pci, name, allow_software, err);
    if (code == MB_OK)
        *out = gpu;
    else
        mb_gpu_close(gpu);
    return code;
}
