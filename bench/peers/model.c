/* SPDX-License-Identifier: MIT */
/* The two parts of writing a model (make_model.py) that the library knows already: which type a quantization gives to each
 * tensor, and blocks of each type that are valid and decode to sane numbers.
 *
 * usage: peer-model types HEADER.gguf QUANT      a line for each tensor: its type and its name
 *        peer-model fill HEADER.gguf MODEL.gguf  the header with the data of its tensors behind it
 * HEADER.gguf ends with the table of tensors. */
#include "engine/weights.h"
#include "model/open.h"
#include "model/quant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX ((size_t)64 << 20)
/* Synthetic blocks repeat: a stretch of this many, a multiple of the period, is made once for each tensor. */
#define STRETCH_BLOCKS (UINT64_C(16381) * 16)
#define SEED 20261123u

struct header {
    struct mb_arena arena;
    char *bytes; /* padded */
    struct mb_gguf *gguf;
    struct mb_model *model;
};

static int open_header(const char *path, struct header *header, struct mb_err *err)
{
    size_t n;
    char *bytes = mb_file_read(&header->arena, NULL, path, HEADER_MAX, &n);
    if (!bytes)
        return mb_fail(err, MB_ENOENT, "%s: it can't be read", path);
    /* The reader wants the padding after the table of tensors to be there. */
    header->bytes = mb_arena_alloc(&header->arena, n + 64);
    if (!header->bytes)
        return mb_fail_memory(err);
    memcpy(header->bytes, bytes, n);
    int code = mb_gguf_open_bytes(header->bytes, n + 64, MB_SOURCE_UNKNOWN, path, &header->gguf, err);
    return code ? code : mb_model_from_gguf(header->gguf, path, &header->model, err);
}

static void close_header(struct header *header)
{
    mb_model_free(header->model);
    mb_gguf_close(header->gguf);
    mb_arena_free(&header->arena);
}

static int print_types(struct header *header, const char *name, struct mb_err *err)
{
    const struct mb_quant *quant = mb_quant_find(name, NULL);
    if (!quant)
        return mb_fail(err, MB_ENAME, "%s: not a quantization; for example Q4_K_M", name);
    /* What a file holds as halves here is what the quantizer would touch. */
    for (uint32_t i = 0; i < header->model->n_tensors; i++) {
        struct mb_tensor *tensor = &header->model->tensors[i];
        tensor->quantizable = tensor->plain = tensor->type == MB_TYPE_F16;
    }
    int code = mb_quant_assign(header->model, quant, NULL, err);
    for (uint32_t i = 0; !code && i < header->model->n_tensors; i++)
        printf("%s %s\n", mb_type_info(header->model->tensors[i].type)->name, header->model->tensors[i].name);
    return code;
}

static int write_tensor(FILE *out, const struct mb_tensor *tensor, struct mb_err *err)
{
    uint64_t block_bytes = mb_type_info(tensor->type)->block_bytes, n = tensor->bytes / block_bytes;
    uint64_t stretch = n < STRETCH_BLOCKS ? n : STRETCH_BLOCKS;
    if (!mb_weights_can_fill(tensor->type))
        return mb_fail(err, MB_ENOTSUP, "%s: blocks of %s can't be made", tensor->name, mb_type_info(tensor->type)->name);
    uint8_t *bytes = malloc(stretch * block_bytes);
    if (!bytes)
        return mb_fail_memory(err);
    mb_weights_fill(tensor, SEED, bytes, 0, stretch);
    while ((uint64_t)ftello(out) < tensor->offset)
        fputc(0, out);
    for (uint64_t done = 0; done < n; done += stretch)
        fwrite(bytes, block_bytes, n - done < stretch ? n - done : stretch, out);
    free(bytes);
    return ferror(out) ? MB_EWRITE : MB_OK;
}

static int fill(struct header *header, const char *path, struct mb_err *err)
{
    FILE *out = fopen(path, "wb");
    if (!out)
        return mb_fail(err, MB_EWRITE, "%s: it can't be written", path);
    fwrite(header->bytes, 1, (size_t)mb_gguf_part(header->gguf, 0)->data_offset, out);
    int code = MB_OK;
    for (uint32_t i = 0; !code && i < header->model->n_tensors; i++)
        code = write_tensor(out, &header->model->tensors[i], err);
    if (fclose(out) != 0 || code == MB_EWRITE)
        code = mb_fail(err, MB_EWRITE, "%s: writing it failed; is the disk full?", path);
    return code;
}

int main(int n, char **args)
{
    struct mb_err err = {0};
    struct header header = {0};
    int to_fill = n == 4 && strcmp(args[1], "fill") == 0;
    if (n != 4 || (!to_fill && strcmp(args[1], "types") != 0)) {
        fprintf(stderr, "usage: peer-model types HEADER.gguf QUANT | fill HEADER.gguf MODEL.gguf\n");
        return 2;
    }
    int code = open_header(args[2], &header, &err);
    if (!code)
        code = to_fill ? fill(&header, args[3], &err) : print_types(&header, args[3], &err);
    if (code)
        fprintf(stderr, "%s\n", err.text);
    close_header(&header);
    return code != 0;
}
