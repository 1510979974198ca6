/* SPDX-License-Identifier: MIT */
/* What NVML answered on a recorded machine. */
#include "machine/nvml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mb_arena arena = {0};
    struct mb_nvml nvml;
    struct mb_err err = {0};
    char *copy = malloc(n ? n : 1);
    if (!copy)
        return 0;
    if (n)
        memcpy(copy, data, n);
    int code = mb_nvml_parse(&arena, copy, n, &nvml, &err);
    free(copy);
    if (code != MB_OK && err.code == MB_OK)
        abort();
    for (unsigned i = 0; code == MB_OK && i < nvml.n_gpus; i++) {
        const struct mb_nvml_gpu *gpu = nvml.gpus + i;
        if (gpu->memory_free_bytes > gpu->memory_bytes || !gpu->has_memory != !gpu->memory_bytes)
            abort();
        if ((gpu->name && !*gpu->name) || (gpu->pci && strlen(gpu->pci) < 12))
            abort();
    }
    mb_arena_free(&arena);
    return 0;
}
