/* SPDX-License-Identifier: MIT */
/* Stands in for the Vulkan sources where the program is built without Vulkan headers or glslc. */
#include "gpu/vk_list.h"

int mb_vk_list_live(struct mb_arena *arena, struct mb_vk_info **out, unsigned *out_n, struct mb_err *err)
{
    (void)arena, (void)out, (void)out_n;
    return mb_fail(err, MB_ENOTSUP, "Vulkan: this program was built without it; build with -Dvulkan=enabled");
}
