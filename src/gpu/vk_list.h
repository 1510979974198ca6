/* SPDX-License-Identifier: MIT */
/* The two sources of a device list, and what makes them one kind of list. Used by src/gpu, its
 * tests and its fuzzer. */
#ifndef MB_VK_LIST_H
#define MB_VK_LIST_H

#include "gpu/vk.h"

/* List by the loader of this machine: see mb_vk_list(). vk_stub.c has it for builds without Vulkan.
 */
int mb_vk_list_live(struct mb_arena *arena, struct mb_vk_info **out, unsigned *out_n,
                    struct mb_err *err);

/* List from the text of a recording, n bytes; label names it in errors. MB_OK, MB_ENOHW (no
 * devices), MB_EFORMAT, MB_ENOMEM. */
int mb_vk_list_json(struct mb_arena *arena, const char *text, size_t n, const char *label,
                    struct mb_vk_info **out, unsigned *out_n, struct mb_err *err);

/* Bring a heap's figures in order (a budget over the size is the size) and conclude unified. */
void mb_vk_info_finish(struct mb_vk_info *info);

#endif
