/* SPDX-License-Identifier: MIT */
/* What this Mac says: sysctl(3), host_statistics64 and the I/O registry, as in Apple's
 * documentation. Compiled on Darwin only; what follows from it is in macos.c. */
#include "machine/macos.h"

#include <CoreFoundation/CoreFoundation.h>
#include <IOKit/IOKitLib.h>
#include <mach/mach.h>
#include <sys/types.h>
#include <sys/sysctl.h>

static const char *sysctl_text(struct mb_arena *arena, const char *name)
{
    char text[256] = "";
    size_t n = sizeof text - 1;
    return sysctlbyname(name, text, &n, NULL, 0) == 0 && *text ? mb_arena_text(arena, text) : NULL;
}

/* Of 4 or 8 bytes, as the variable has it; 0 when there is none. */
static uint64_t sysctl_number(const char *name)
{
    union {
        uint32_t four;
        uint64_t eight;
    } value = {.eight = 0};
    size_t n = sizeof value;
    if (sysctlbyname(name, &value, &n, NULL, 0) != 0)
        return 0;
    return n == sizeof value.four ? value.four : n == sizeof value.eight ? value.eight : 0;
}

static unsigned gpu_cores(void)
{
    int cores = 0;
    /* MACH_PORT_NULL is the default port on all versions; its names changed. */
    io_service_t service =
        IOServiceGetMatchingService(MACH_PORT_NULL, IOServiceMatching("AGXAccelerator"));
    if (!service)
        return 0;
    CFTypeRef number =
        IORegistryEntrySearchCFProperty(service, kIOServicePlane, CFSTR("gpu-core-count"),
                                        kCFAllocatorDefault, kIORegistryIterateRecursively);
    if (number && CFGetTypeID(number) == CFNumberGetTypeID())
        CFNumberGetValue(number, kCFNumberIntType, &cores);
    if (number)
        CFRelease(number);
    IOObjectRelease(service);
    return cores > 0 && cores < 4096 ? (unsigned)cores : 0;
}

static int free_bytes(uint64_t *out)
{
    mach_port_t host = mach_host_self();
    vm_statistics64_data_t vm;
    mach_msg_type_number_t n = HOST_VM_INFO64_COUNT;
    vm_size_t page = 0;
    int good = host_page_size(host, &page) == KERN_SUCCESS &&
               host_statistics64(host, HOST_VM_INFO64, (host_info64_t)&vm, &n) == KERN_SUCCESS;
    mach_port_deallocate(mach_task_self(), host);
    if (good)
        *out = ((uint64_t)vm.free_count + vm.inactive_count) * page;
    return good;
}

int mb_macos_read(struct mb_arena *arena, struct mb_macos_facts *out)
{
    *out = (struct mb_macos_facts){
        .chip = sysctl_text(arena, "machdep.cpu.brand_string"),
        .model = sysctl_text(arena, "hw.model"),
        .version = sysctl_text(arena, "kern.osproductversion"),
        .memory_bytes = sysctl_number("hw.memsize"),
        .wired_limit_mb = sysctl_number("iogpu.wired_limit_mb"),
        .n_performance_cores = (unsigned)sysctl_number("hw.perflevel0.physicalcpu"),
        .n_efficiency_cores = (unsigned)sysctl_number("hw.perflevel1.physicalcpu"),
        .n_gpu_cores = gpu_cores(),
        .l1d_bytes = sysctl_number("hw.perflevel0.l1dcachesize"),
        .l2_bytes = sysctl_number("hw.perflevel0.l2cachesize"),
        .is_virtual = sysctl_number("kern.hv_vmm_present") != 0};
    out->has_free = free_bytes(&out->free_bytes);
    if (!out->n_performance_cores) /* Intel */
        out->n_performance_cores = (unsigned)sysctl_number("hw.physicalcpu");
    return arena->failed ? MB_ENOMEM : MB_OK;
}
