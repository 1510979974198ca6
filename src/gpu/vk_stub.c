/* SPDX-License-Identifier: MIT */
/* Stands in for the Vulkan sources where the program is built without Vulkan headers or glslc. As
 * no device can be opened, the functions that take one are never called. */
#include "gpu/vk_list.h"
#include "gpu/vk_measure.h"

static int no_vulkan(struct mb_err *err)
{
    return mb_fail(err, MB_ENOTSUP,
                   "Vulkan: this program was built without it; build with -Dvulkan=enabled");
}

int mb_vk_list_live(struct mb_arena *arena, struct mb_vk_info **out, unsigned *out_n,
                    struct mb_err *err)
{
    (void)arena, (void)out, (void)out_n;
    return no_vulkan(err);
}

int mb_gpu_open(const char *pci, const char *name, int allow_software, struct mb_gpu **out,
                struct mb_err *err)
{
    (void)pci, (void)name, (void)allow_software, (void)out;
    return no_vulkan(err);
}

void mb_gpu_close(struct mb_gpu *gpu)
{
    (void)gpu;
}

int mb_gpu_read_prepare(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err)
{
    (void)gpu, (void)bytes;
    return no_vulkan(err);
}

int mb_gpu_read_once(struct mb_gpu *gpu, uint64_t *bytes_read, double *seconds, struct mb_err *err)
{
    (void)gpu, (void)bytes_read, (void)seconds;
    return no_vulkan(err);
}

int mb_gpu_read_for(struct mb_gpu *gpu, double seconds, uint64_t *bytes_read, double *elapsed_s,
                    struct mb_err *err)
{
    (void)gpu, (void)seconds, (void)bytes_read, (void)elapsed_s;
    return no_vulkan(err);
}

int mb_gpu_copy_prepare(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err)
{
    (void)gpu, (void)bytes;
    return no_vulkan(err);
}

int mb_gpu_copy_once(struct mb_gpu *gpu, int to_device, double *seconds, struct mb_err *err)
{
    (void)gpu, (void)to_device, (void)seconds;
    return no_vulkan(err);
}

int mb_gpu_copy_check(struct mb_gpu *gpu, struct mb_err *err)
{
    (void)gpu;
    return no_vulkan(err);
}

double mb_gpu_latency_s(struct mb_gpu *gpu, struct mb_err *err)
{
    (void)gpu;
    no_vulkan(err);
    return -1;
}

const char *mb_gpu_clock(const struct mb_gpu *gpu)
{
    (void)gpu;
    return "none";
}
