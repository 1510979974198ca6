/* SPDX-License-Identifier: MIT */
/* The recorded list of Vulkan devices, as mb_vk_list() reads it from a tree. */
#include "gpu/vk_list.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What was read keeps its promises, whatever the text was. */
static void check(const struct mb_vk_info *list, unsigned n)
{
    if (!list || n == 0)
        abort();
    for (unsigned i = 0; i < n; i++) {
        if (!list[i].name || !*list[i].name || !list[i].type || list[i].n_heaps == 0)
            abort();
        for (unsigned j = 0; j < list[i].n_heaps; j++)
            if (list[i].heaps[j].size_bytes == 0 ||
                list[i].heaps[j].budget_bytes > list[i].heaps[j].size_bytes)
                abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mb_arena arena = {0};
    struct mb_vk_info *list = NULL;
    struct mb_err err = {0};
    unsigned n_list = 0;
    char *copy = malloc(n ? n : 1);
    if (!copy)
        return 0;
    if (n)
        memcpy(copy, data, n);
    if (mb_vk_list_json(&arena, copy, n, "fuzz", &list, &n_list, &err) == MB_OK)
        check(list, n_list);
    else if (list || err.code == MB_OK)
        abort();
    free(copy);
    mb_arena_free(&arena);
    return 0;
}
