/* SPDX-License-Identifier: MIT */
/* Any bytes as a safetensors file: a code or a list whose sums agree. */
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const struct mb_safetensors *model)
{
    uint64_t tensors = 0, sums = 0;
    for (unsigned i = 0; i < model->n_tensors; i++) {
        tensors += model->tensors[i].bytes;
        if (!model->tensors[i].name || !model->tensors[i].dtype || model->tensors[i].n_dims > 8)
            abort();
    }
    for (unsigned i = 0; i < model->n_sums; i++)
        sums += model->sums[i].bytes;
    if (tensors != model->bytes || sums != model->bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    /* The length is not the interesting part: inputs are the JSON text, and a good length is put
     * before it, unless the first byte is not the text's. */
    int raw = n == 0 || data[0] != '{';
    size_t total = n + (raw ? 0 : 8);
    unsigned char *copy = calloc(1, total ? total : 1);
    if (!copy)
        return 0;
    for (unsigned i = 0; i < 8 && !raw; i++)
        copy[i] = (unsigned char)((uint64_t)n >> (8 * i));
    if (n)
        memcpy(copy + (raw ? 0 : 8), data, n);
    const uint64_t file_bytes[] = {total, (uint64_t)1 << 40};
    for (unsigned i = 0; i < 2; i++) {
        struct mb_safetensors *model = NULL;
        struct mb_err err;
        int code = mb_safetensors_open_bytes(copy, total, file_bytes[i], "fuzz", &model, &err);
        if (code == MB_OK)
            check(model);
        else if (code != MB_EFORMAT && code != MB_ENOMEM && !(code == MB_EMORE && i > 0))
            abort();
        mb_safetensors_close(model);
    }
    free(copy);
    return 0;
}
