/* SPDX-License-Identifier: MIT */
/* Any bytes as a GGUF header: a code or a model, and then everything in the model can be read. */
#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_all(const struct mb_gguf *gguf)
{
    uint64_t sum = 0; /* of what the texts hold, so that they are really read */
    for (unsigned i = 0; i < mb_gguf_n_kv(gguf); i++) {
        const struct mb_gguf_kv *kv = mb_gguf_kv(gguf, i);
        uint64_t u = 0, last = kv->n ? kv->n - 1 : 0;
        int64_t s;
        double f;
        int flag;
        const char *text;
        size_t text_n;
        if (mb_gguf_find_kv(gguf, kv->key) != kv)
            abort();
        mb_gguf_get_u64(gguf, kv->key, &u);
        mb_gguf_get_i64(gguf, kv->key, &s);
        mb_gguf_get_f64(gguf, kv->key, &f);
        mb_gguf_get_bool(gguf, kv->key, &flag);
        if (mb_gguf_get_text(gguf, kv->key, &text) == MB_OK)
            sum += strlen(text);
        for (uint64_t k = 0; k < kv->n && k < 200; k++) {
            mb_gguf_get_u64_at(gguf, kv->key, k, &u);
            mb_gguf_get_i64_at(gguf, kv->key, k, &s);
            if (mb_gguf_get_text_at(gguf, kv->key, k, &text, &text_n) == MB_OK && text_n)
                sum += (unsigned char)text[0] + (unsigned char)text[text_n - 1];
        }
        mb_gguf_get_f64_at(gguf, kv->key, last, &f);
        mb_gguf_get_text_at(gguf, kv->key, last, &text, &text_n);
    }
    if (sum == UINT64_MAX)
        abort();
    uint64_t bytes = 0;
    for (unsigned i = 0; i < mb_gguf_n_tensors(gguf); i++) {
        const struct mb_gguf_tensor *tensor = mb_gguf_tensor(gguf, i);
        if (mb_gguf_find_tensor(gguf, tensor->name) != tensor)
            abort();
        if (tensor->offset < mb_gguf_part(gguf, 0)->data_offset ||
            tensor->bytes > mb_gguf_file_bytes(gguf))
            abort();
        bytes += tensor->bytes;
    }
    if (bytes != mb_gguf_tensor_bytes(gguf))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    unsigned char *copy = malloc(n ? n : 1);
    if (!copy)
        return 0;
    if (n)
        memcpy(copy, data, n);
    const uint64_t file_bytes[] = {n, MB_SOURCE_UNKNOWN, (uint64_t)1 << 40};
    for (unsigned i = 0; i < 3; i++) {
        struct mb_gguf *gguf = NULL;
        struct mb_err err;
        int code = mb_gguf_open_bytes(copy, n, file_bytes[i], "fuzz", &gguf, &err);
        if (code == MB_OK)
            read_all(gguf);
        else if (code != MB_EFORMAT && code != MB_ENOMEM && !(code == MB_EMORE && i > 0))
            abort();
        mb_gguf_close(gguf);
    }
    free(copy);
    return 0;
}
