/* SPDX-License-Identifier: MIT */
/* Golden models: tests/data/golden holds headers of tiny GGUF files and what llama.cpp makes of them. Their weights are those that
 * mb_weights_fill() makes from the seed, so that no file has to hold them. */
#ifndef MB_TEST_GOLDEN_H
#define MB_TEST_GOLDEN_H

#include "engine/weights.h"
#include "model/open.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_SEED 20261123u

/* Write the file whose header is at `from`, weights and all. MB_OK, or what failed. */
static int golden_fill(const char *from, const char *to, struct mb_err *err)
{
    struct mb_arena arena = {0};
    struct mb_gguf *gguf = NULL;
    struct mb_model *model = NULL;
    FILE *out = NULL;
    size_t n;
    char *header = mb_file_read(&arena, NULL, from, 1 << 22, &n);
    if (!header)
        return mb_fail(err, MB_ENOENT, "%s: it can't be read", from);
    /* The reader wants the padding after the table of tensors to be there. */
    char *padded = mb_arena_alloc(&arena, n + 64);
    memcpy(padded, header, n);
    int code = mb_gguf_open_bytes(padded, n + 64, MB_SOURCE_UNKNOWN, from, &gguf, err);
    if (!code)
        code = mb_model_from_gguf(gguf, from, &model, err);
    if (!code && !(out = fopen(to, "wb")))
        code = mb_fail(err, MB_EWRITE, "%s: it can't be written", to);
    if (!code)
        fwrite(padded, 1, (size_t)mb_gguf_part(gguf, 0)->data_offset, out);
    for (uint32_t i = 0; !code && i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        uint8_t *bytes = mb_arena_alloc(&arena, (size_t)tensor->bytes);
        mb_weights_fill(tensor, GOLDEN_SEED, bytes, 0, tensor->bytes / mb_type_info(tensor->type)->block_bytes);
        while ((uint64_t)ftell(out) < tensor->offset)
            fputc(0, out);
        fwrite(bytes, 1, (size_t)tensor->bytes, out);
    }
    if (out && fclose(out) != 0)
        code = mb_fail(err, MB_EWRITE, "%s: it can't be written", to);
    mb_model_free(model);
    mb_gguf_close(gguf);
    mb_arena_free(&arena);
    return code;
}

/* Call fn with the name of every model that llama.cpp's logits are kept of, in the source tree at `root`. Returns how many. */
static inline unsigned golden_each(const char *root, void (*fn)(const char *name))
{
    char path[PATH_MAX];
    struct dirent *entry;
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/tests/data/golden", root);
    DIR *list = opendir(path);
    while (list && (entry = readdir(list))) {
        size_t k = strlen(entry->d_name);
        if (k < 5 || strcmp(entry->d_name + k - 4, ".bin") != 0)
            continue;
        entry->d_name[k - 4] = 0;
        fn(entry->d_name);
        n++;
    }
    if (list)
        closedir(list);
    return n;
}

#endif
