/* SPDX-License-Identifier: MIT */
/* Opening the Vulkan loader, one instance, and asking physical devices what they are. Nothing here
 * opens a device. */
#include "gpu/vk_loader.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* stderr is one per process, so silencing it needs one lock per process: two threads that saved and
 * restored it crosswise would leave it closed for good. */
static pthread_mutex_t quiet_lock = PTHREAD_MUTEX_INITIALIZER;

int mb_vk_quiet_begin(void)
{
    pthread_mutex_lock(&quiet_lock);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int saved = nowhere >= 0 ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1;
    if (saved >= 0)
        dup2(nowhere, STDERR_FILENO);
    if (nowhere >= 0)
        close(nowhere);
    return saved;
}

void mb_vk_quiet_end(int saved)
{
    if (saved >= 0) {
        dup2(saved, STDERR_FILENO);
        close(saved);
    }
    pthread_mutex_unlock(&quiet_lock);
}

int mb_vk_fail(struct mb_err *err, const char *call, VkResult result)
{
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_TOO_MANY_OBJECTS:
        return mb_fail(err, MB_ENOMEM, "%s: out of %s memory; close other programs and try again",
                       call, result == VK_ERROR_OUT_OF_HOST_MEMORY ? "system" : "GPU");
    case VK_ERROR_DEVICE_LOST:
        return mb_fail(
            err, MB_ENOHW,
            "%s: the GPU was lost (VK_ERROR_DEVICE_LOST); see the system log of its driver", call);
    case VK_ERROR_INCOMPATIBLE_DRIVER:
        return mb_fail(err, MB_ENOHW,
                       "%s: no Vulkan driver was found; install the driver of the GPU", call);
    case VK_ERROR_INITIALIZATION_FAILED:
        return mb_fail(
            err, MB_ENOHW,
            "%s: the driver could not start; check its installation and the rights on /dev/dri",
            call);
    default:
        return mb_fail(err, MB_ENOHW, "%s: failed with VkResult %d; update the driver", call,
                       (int)result);
    }
}

static void *open_library(void)
{
    static const char *const names[] = {
#ifdef __APPLE__
        /* Homebrew on Apple silicon installs where dlopen does not look. */
        "libvulkan.1.dylib",
        "/opt/homebrew/lib/libvulkan.1.dylib",
        "/usr/local/lib/libvulkan.1.dylib",
        "libMoltenVK.dylib",
        "/opt/homebrew/lib/libMoltenVK.dylib",
        "/usr/local/lib/libMoltenVK.dylib",
#else
        "libvulkan.so.1",
        "libvulkan.so",
#endif
    };
    for (size_t i = 0; i < MB_COUNT(names); i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library)
            return library;
    }
    return NULL;
}

static int has_extension(const VkExtensionProperties *have, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strncmp(have[i].extensionName, name, sizeof have[i].extensionName) == 0)
            return 1;
    return 0;
}

static int create_instance(struct mb_vk_loader *vk, struct mb_err *err)
{
    /* Only to learn whether one name is there: a list cut short (VK_INCOMPLETE) costs no more than
     * that name. */
    VkExtensionProperties have[128];
    uint32_t n = MB_COUNT(have);
    VkResult result = vk->EnumerateInstanceExtensionProperties(NULL, &n, have);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE)
        n = 0;
    /* Without it the loader hides MoltenVK, which implements a subset of Vulkan. */
    static const char *const portability = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
    int has_portability = has_extension(have, n, portability);
    VkApplicationInfo app = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "membound",
        .apiVersion = VK_API_VERSION_1_1,
    };
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .flags = has_portability ? VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR : 0,
        .pApplicationInfo = &app,
        .enabledExtensionCount = has_portability ? 1 : 0,
        .ppEnabledExtensionNames = &portability,
    };
    result = vk->CreateInstance(&info, NULL, &vk->instance);
    if (result != VK_SUCCESS) {
        vk->instance = VK_NULL_HANDLE;
        return mb_vk_fail(err, "Vulkan: vkCreateInstance", result);
    }
    return MB_OK;
}

/* The casts are what vkGetInstanceProcAddr is for; a function that is missing is an error, so calls
 * need no checks. */
#define LOAD(name)                                                              \
    vk->name = (PFN_vk##name)vk->GetInstanceProcAddr(vk->instance, "vk" #name); \
    if (!vk->name)                                                              \
        return mb_fail(err, MB_ENOHW, "Vulkan: vk" #name " is missing; update the Vulkan loader");

static int load_and_create(struct mb_vk_loader *vk, struct mb_err *err)
{
    vk->library = open_library();
    if (!vk->library)
        return mb_fail(err, MB_ENOHW,
                       "Vulkan: no loader (libvulkan.so.1); install the GPU's Vulkan driver");
    void *symbol = dlsym(vk->library, "vkGetInstanceProcAddr");
    memcpy(&vk->GetInstanceProcAddr, &symbol,
           sizeof symbol); /* C has no cast from object to function pointer */
    if (!symbol)
        return mb_fail(err, MB_ENOHW,
                       "Vulkan: the loader has no vkGetInstanceProcAddr; reinstall it");
    MB_VK_GLOBAL_FUNCTIONS(LOAD)
    uint32_t version = 0;
    if (vk->EnumerateInstanceVersion(&version) != VK_SUCCESS || version < VK_API_VERSION_1_1)
        return mb_fail(err, MB_ENOHW, "Vulkan: the loader is older than 1.1; update it");
    int code = create_instance(vk, err);
    if (code != MB_OK)
        return code;
    MB_VK_INSTANCE_FUNCTIONS(LOAD)
    return MB_OK;
}

int mb_vk_loader_open(struct mb_vk_loader *vk, struct mb_err *err)
{
    memset(vk, 0, sizeof *vk);
    int saved = mb_vk_quiet_begin();
    int code = load_and_create(vk, err);
    mb_vk_quiet_end(saved);
    if (code != MB_OK)
        mb_vk_loader_close(vk);
    return code;
}

void mb_vk_loader_close(struct mb_vk_loader *vk)
{
    if (vk->instance && vk->DestroyInstance)
        vk->DestroyInstance(vk->instance, NULL);
    if (vk->library)
        dlclose(vk->library);
    memset(vk, 0, sizeof *vk);
}

int mb_vk_loader_devices(const struct mb_vk_loader *vk, VkPhysicalDevice devices[MB_VK_DEVICES_MAX],
                         uint32_t *n, struct mb_err *err)
{
    uint32_t found = MB_VK_DEVICES_MAX;
    int saved = mb_vk_quiet_begin();
    VkResult result = vk->EnumeratePhysicalDevices(vk->instance, &found, devices);
    mb_vk_quiet_end(saved);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE)
        return mb_vk_fail(err, "Vulkan: vkEnumeratePhysicalDevices", result);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < found && i < MB_VK_DEVICES_MAX; i++) {
        VkPhysicalDeviceProperties properties;
        vk->GetPhysicalDeviceProperties(devices[i], &properties);
        if (properties.apiVersion >= VK_API_VERSION_1_1)
            devices[kept++] = devices[i];
    }
    if (kept == 0)
        return mb_fail(
            err, MB_ENOHW,
            "Vulkan: the drivers offer no device of Vulkan 1.1; install the GPU's driver");
    *n = kept;
    return MB_OK;
}

int mb_vk_loader_offers(const struct mb_vk_loader *vk, VkPhysicalDevice device,
                        const char *extension)
{
    uint32_t n = 0;
    if (vk->EnumerateDeviceExtensionProperties(device, NULL, &n, NULL) != VK_SUCCESS || n == 0 ||
        n > 4096)
        return 0;
    struct mb_arena arena = {0};
    VkExtensionProperties *have = mb_arena_array(&arena, n, sizeof *have);
    VkResult result = have ? vk->EnumerateDeviceExtensionProperties(device, NULL, &n, have)
                           : VK_ERROR_OUT_OF_HOST_MEMORY;
    int offered =
        (result == VK_SUCCESS || result == VK_INCOMPLETE) && has_extension(have, n, extension);
    mb_arena_free(&arena);
    return offered;
}

/* A driver's text of at most n bytes as one clean line; NULL when empty. */
static const char *clean(struct mb_arena *arena, const char *text, size_t n)
{
    char *copy = *text ? mb_arena_text_n(arena, text, strnlen(text, n)) : NULL;
    for (char *p = copy; p && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return copy;
}

static const char *type_name(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return "cpu";
    default:
        return "other";
    }
}

static int read_heaps(const struct mb_vk_loader *vk, VkPhysicalDevice device,
                      struct mb_arena *arena, struct mb_vk_info *info, struct mb_err *err)
{
    int has_budget = mb_vk_loader_offers(vk, device, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT,
    };
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = has_budget ? &budget : NULL,
    };
    vk->GetPhysicalDeviceMemoryProperties2(device, &memory);
    uint32_t n = memory.memoryProperties.memoryHeapCount;
    if (n > VK_MAX_MEMORY_HEAPS)
        n = VK_MAX_MEMORY_HEAPS;
    info->heaps = mb_arena_array(arena, n, sizeof *info->heaps);
    if (!info->heaps)
        return mb_fail_memory(err);
    info->n_heaps = n;
    for (uint32_t i = 0; i < n; i++) {
        const VkMemoryHeap *heap = &memory.memoryProperties.memoryHeaps[i];
        info->heaps[i] = (struct mb_vk_heap){
            .size_bytes = heap->size,
            .budget_bytes = budget.heapBudget[i],
            .usage_bytes = budget.heapUsage[i],
            .device_local = (heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) != 0,
            .has_budget = has_budget && budget.heapBudget[i] > 0,
        };
    }
    return MB_OK;
}

int mb_vk_loader_info(const struct mb_vk_loader *vk, VkPhysicalDevice device,
                      struct mb_arena *arena, struct mb_vk_info *info, struct mb_err *err)
{
    int has_pci = mb_vk_loader_offers(vk, device, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME);
    VkPhysicalDevicePCIBusInfoPropertiesEXT pci = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT,
    };
    /* Core since 1.2, but every driver of that age still offers the extension by name. */
    int has_driver = mb_vk_loader_offers(vk, device, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME);
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
        .pNext = has_pci ? &pci : NULL,
    };
    VkPhysicalDeviceProperties2 all = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
        .pNext = has_driver ? (void *)&driver : driver.pNext,
    };
    vk->GetPhysicalDeviceProperties2(device, &all);
    const VkPhysicalDeviceProperties *properties = &all.properties;
    memset(info, 0, sizeof *info);
    info->name = clean(arena, properties->deviceName, sizeof properties->deviceName);
    if (!info->name)
        info->name = "unnamed GPU";
    info->type = type_name(properties->deviceType);
    info->vendor_id = properties->vendorID;
    info->device_id = properties->deviceID;
    info->api = mb_arena_format(arena, "%u.%u.%u", VK_API_VERSION_MAJOR(properties->apiVersion),
                                VK_API_VERSION_MINOR(properties->apiVersion),
                                VK_API_VERSION_PATCH(properties->apiVersion));
    const char *driver_name = clean(arena, driver.driverName, sizeof driver.driverName);
    const char *driver_info = clean(arena, driver.driverInfo, sizeof driver.driverInfo);
    info->driver = driver_name && driver_info
                       ? mb_arena_format(arena, "%s %s", driver_name, driver_info)
                       : driver_name;
    if (has_pci)
        info->pci = mb_arena_format(arena, "%04x:%02x:%02x.%x", pci.pciDomain, pci.pciBus & 0xff,
                                    pci.pciDevice & 0xff, pci.pciFunction & 0xf);
    int code = read_heaps(vk, device, arena, info, err);
    if (code != MB_OK || arena->failed)
        return code != MB_OK ? code : mb_fail_memory(err);
    mb_vk_info_finish(info);
    return MB_OK;
}
