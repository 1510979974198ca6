/* SPDX-License-Identifier: MIT */
/* The Vulkan loader, opened at run time, with one instance: the functions that this program calls,
 * by table. */
#ifndef MB_VK_LOADER_H
#define MB_VK_LOADER_H

#include "gpu/vk_list.h"

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

/* Every function of the loader that is called, by the level at which it is looked up. */
#define MB_VK_GLOBAL_FUNCTIONS(X)           \
    X(EnumerateInstanceVersion)             \
    X(EnumerateInstanceExtensionProperties) \
    X(CreateInstance)

#define MB_VK_INSTANCE_FUNCTIONS(X)           \
    X(DestroyInstance)                        \
    X(EnumeratePhysicalDevices)               \
    X(EnumerateDeviceExtensionProperties)     \
    X(GetPhysicalDeviceProperties)            \
    X(GetPhysicalDeviceProperties2)           \
    X(GetPhysicalDeviceMemoryProperties2)     \
    X(GetPhysicalDeviceQueueFamilyProperties) \
    X(CreateDevice)                           \
    X(GetDeviceProcAddr)

#define MB_VK_FIELD(name) PFN_vk##name name;

struct mb_vk_loader {
    void *library;
    VkInstance instance;
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
    MB_VK_GLOBAL_FUNCTIONS(MB_VK_FIELD)
    MB_VK_INSTANCE_FUNCTIONS(MB_VK_FIELD)
};

/* Open the loader and make an instance of Vulkan 1.1 without layers. On failure everything is
 * closed again. Returns MB_OK; MB_ENOHW: no loader, no driver, or too old; MB_ENOMEM. */
int mb_vk_loader_open(struct mb_vk_loader *vk, struct mb_err *err);
void mb_vk_loader_close(struct mb_vk_loader *vk);

/* The physical devices of Vulkan 1.1 and up in the order of the drivers. Returns MB_OK (never 0
 * devices); MB_ENOHW; MB_ENOMEM. */
enum { MB_VK_DEVICES_MAX = 64 };
int mb_vk_loader_devices(const struct mb_vk_loader *vk, VkPhysicalDevice devices[MB_VK_DEVICES_MAX],
                         uint32_t *n, struct mb_err *err);

/* Fill info (heaps too) from a physical device. Returns MB_OK; MB_ENOMEM. */
int mb_vk_loader_info(const struct mb_vk_loader *vk, VkPhysicalDevice device,
                      struct mb_arena *arena, struct mb_vk_info *info, struct mb_err *err);

/* Does the device offer this extension? */
int mb_vk_loader_offers(const struct mb_vk_loader *vk, VkPhysicalDevice device,
                        const char *extension);

/* Drivers print to stderr while they load ("... is not a conformant Vulkan implementation",
 * MoltenVK's version), and no interface but the environment stops them. Between begin and end the
 * process's stderr is /dev/null; end takes what begin returned. One thread at a time: others wait.
 */
int mb_vk_quiet_begin(void);
void mb_vk_quiet_end(int saved);

/* Fill err for a failed call ("vkCreateDevice: VK_ERROR_DEVICE_LOST; ...") and return the code that
 * fits. */
int mb_vk_fail(struct mb_err *err, const char *call, VkResult result);

#endif
