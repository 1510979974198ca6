/* SPDX-License-Identifier: MIT */
/* The list of this machine's Vulkan devices. */
#include "gpu/vk_loader.h"

#include <string.h>

/* Two drivers for one card (RADV and AMDVLK, say) give two devices with one address. */
static int is_listed(const struct mb_vk_info *list, unsigned n, const char *pci)
{
    for (unsigned i = 0; pci && i < n; i++)
        if (list[i].pci && strcmp(list[i].pci, pci) == 0)
            return 1;
    return 0;
}

int mb_vk_list_live(struct mb_arena *arena, struct mb_vk_info **out, unsigned *out_n,
                    struct mb_err *err)
{
    struct mb_vk_loader vk;
    VkPhysicalDevice devices[MB_VK_DEVICES_MAX];
    uint32_t n = 0;
    unsigned n_list = 0;
    int code = mb_vk_loader_open(&vk, err);
    if (code != MB_OK)
        return code;
    code = mb_vk_loader_devices(&vk, devices, &n, err);
    struct mb_vk_info *list = code == MB_OK ? mb_arena_array(arena, n, sizeof *list) : NULL;
    if (code == MB_OK && !list)
        code = mb_fail_memory(err);
    for (uint32_t i = 0; code == MB_OK && i < n; i++) {
        code = mb_vk_loader_info(&vk, devices[i], arena, &list[n_list], err);
        n_list += code == MB_OK && !is_listed(list, n_list, list[n_list].pci);
    }
    mb_vk_loader_close(&vk);
    if (code == MB_OK) {
        *out = list;
        *out_n = n_list;
    }
    return code;
}
