/* SPDX-License-Identifier: MIT */
/* GPUs as the Vulkan drivers see them: names, memory heaps with live budgets, PCI addresses.
 * Internal. The loader is opened at run time, so a program that links this starts and runs on a
 * machine that has none. */
#ifndef MB_VK_H
#define MB_VK_H

#include "base/base.h"

struct mb_vk_heap {
    uint64_t size_bytes;
    uint64_t budget_bytes, usage_bytes; /* of this process: only if has_budget */
    int device_local, has_budget;
};

struct mb_vk_info {
    const char *name;
    const char *driver; /* "radv Mesa 25.0.1" or NULL */
    const char *api;    /* "1.4.305" or NULL */
    const char *pci;    /* "0000:01:00.0" or NULL */
    const char *type;   /* "discrete" "integrated" "virtual" "cpu" "other" */
    uint32_t vendor_id, device_id;
    struct mb_vk_heap *heaps;
    unsigned n_heaps;
    int unified; /* every heap device-local */
};

/* List the devices, in the order of the drivers; a GPU that two drivers offer is listed once, by
 * the first.
 *   root  in   NULL, "" or "/": the Vulkan loader. Else ROOT/membound/vulkan.json is read
 *   out   out  [*out_n] in the arena, written only on MB_OK, never empty
 *
 * A live list loads every installed driver (50 ms and more for those that bring a compiler) and
 * opens no device. While drivers load, the process's stderr is /dev/null, because some announce
 * themselves there.
 *
 * Returns MB_OK; MB_ENOHW: no loader, no device, or nothing recorded; MB_EFORMAT: the recording is
 * broken; MB_EIO: it can't be read; MB_ENOMEM; MB_ENOTSUP: built without Vulkan. Thread-safe. */
int mb_vk_list(struct mb_arena *arena, const char *root, struct mb_vk_info **out, unsigned *out_n,
               struct mb_err *err);

/* Could this machine have a GPU that Vulkan drives? Looks for device files only (microseconds) and
 * is 0 only where they would have to exist and do not; a live list then finds nothing but software
 * devices. */
int mb_vk_worth_trying(void);

#endif
