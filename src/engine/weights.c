/* SPDX-License-Identifier: MIT */
/* Loading weights: which tensors a pass needs, whether they fit, and bringing them into memory with all threads. Trusts the
 * tensor table for sizes and offsets, which the GGUF reader has checked against the files. */
#include "engine/weights.h"
#include "base/team.h"
#include "engine/pages.h"
#include "model/roles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Rows of an embedding table that synthetic weights hold in file order, too. */
#define ROWS_KEPT 256

struct loaded {
    struct mb_weights_place first;     /* where loading put it */
    const struct mb_weights_place *now; /* where it is read: published, see behind.h */
    const uint8_t *rows;
    float *f32;
    uint64_t n_rows; /* at `rows` */
    uint8_t needed, is_taken;
};

struct mapping {
    void *base;
    size_t bytes;
};

struct mb_weights {
    const struct mb_model *model;
    const struct mb_kernels *kernels;
    struct mb_arena arena;
    struct loaded *tensors; /* as many as the model has */
    struct mapping *parts;
    unsigned n_parts;
    uint8_t *taken;
    uint64_t taken_bytes, seed;
    struct mb_behind *behind; /* NULL: nothing comes later */
    struct mb_team *team; /* while loading */
    const struct mb_engine_opts *opts;
    uint8_t **scratch; /* [members] */
    uint32_t next;     /* tensor that is being loaded */
    int stop;
};

static int is_needed(const struct mb_tensor *tensor)
{
    return (tensor->op != MB_OP_NONE && tensor->rule != MB_READ_NEVER) || tensor->kind == MB_T_ROPE_FACTORS_SHORT;
}

/* Rows that lie one after the other in one matrix; 0: no matrix that is multiplied with. */
static uint64_t matrix_rows(const struct mb_tensor *tensor)
{
    switch (tensor->op) {
    case MB_OP_QKV:
    case MB_OP_ATTN_OUT:
    case MB_OP_FFN_UP:
    case MB_OP_FFN_DOWN:
    case MB_OP_ROUTER:
    case MB_OP_EXPERTS_UP:
    case MB_OP_EXPERTS_DOWN:
    case MB_OP_SHARED_UP:
    case MB_OP_SHARED_DOWN:
    case MB_OP_HEAD: return tensor->n_dims >= 2 && tensor->type != MB_TYPE_F32 ? tensor->ne[1] : 0;
    default: return 0;
    }
}

/* Groups of packed rows must not straddle the parts of a fused matrix. */
static int can_pack(const struct mb_weights *weights, const struct mb_tensor *tensor)
{
    const struct mb_model *model = weights->model;
    if (!matrix_rows(tensor) || !weights->kernels->pack_rows || !mb_pack_can(tensor->type))
        return 0;
    if (tensor->kind == MB_T_ATTN_QKV && tensor->layer >= 0) {
        const struct mb_layer *layer = &model->layers[tensor->layer];
        return layer->head_k % MB_ROWS_AT_ONCE == 0 && layer->head_v % MB_ROWS_AT_ONCE == 0;
    }
    return tensor->kind != MB_T_FFN_UP || tensor->ne[1] % (2 * MB_ROWS_AT_ONCE) == 0;
}

static int map_parts(struct mb_weights *weights, const struct mb_gguf *gguf, struct mb_err *err)
{
    unsigned n = mb_gguf_n_parts(gguf);
    weights->parts = mb_arena_array(&weights->arena, n, sizeof *weights->parts);
    if (!weights->parts)
        return mb_fail_memory(err);
    for (unsigned i = 0; i < n; i++) {
        const struct mb_gguf_part *part = mb_gguf_part(gguf, i);
        struct stat info;
        if (part->big_endian)
            return mb_fail(err, MB_ENOTSUP, "%s: a big-endian file; convert it anew for this machine", part->path);
        int file = open(part->path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            return mb_fail(err, errno == ENOENT ? MB_ENOENT : MB_EIO, "%s: %s", part->path, strerror(errno));
        if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode) || (uint64_t)info.st_size < part->file_bytes) {
            close(file);
            return mb_fail(err, MB_EIO, "%s: the file has changed since it was opened; try again", part->path);
        }
        struct mapping *mapping = &weights->parts[weights->n_parts];
        mapping->bytes = (size_t)info.st_size;
        mapping->base = mmap(NULL, mapping->bytes, PROT_READ, MAP_SHARED, file, 0);
        int why = errno;
        close(file);
        if (mapping->base == MAP_FAILED)
            return mb_fail(err, MB_EIO, "%s: it cannot be mapped: %s", part->path, strerror(why));
        weights->n_parts++;
    }
    return MB_OK;
}

static const uint8_t *in_file(const struct mb_weights *weights, const struct mb_tensor *tensor)
{
    if (tensor->part >= weights->n_parts)
        return NULL;
    const struct mapping *part = &weights->parts[tensor->part];
    if (tensor->offset > part->bytes || tensor->bytes > part->bytes - tensor->offset)
        return NULL;
    return (const uint8_t *)part->base + tensor->offset;
}

/* Does tensor i take memory, or is it used where the file is mapped? */
static int is_taken(const struct mb_weights *weights, const struct mb_tensor *tensor)
{
    int mapped = weights->opts->load == MB_LOAD_MMAP || weights->opts->load == MB_LOAD_BEHIND;
    return !mapped || ((uintptr_t)in_file(weights, tensor) & 3) != 0;
}

/* ---- how much ---- */

static int refuse(const struct mb_weights *weights, uint64_t needs, uint64_t free_bytes, struct mb_err *err)
{
    const struct mb_model *model = weights->model;
    char need_text[32], free_text[32];
    mb_format_bytes((double)needs, need_text, sizeof need_text);
    mb_format_bytes((double)free_bytes, free_text, sizeof free_text);
    double bits = model->params ? 8.0 * (double)free_bytes * 0.95 / (double)model->params : 0;
    if (bits >= 1.5)
        return mb_fail(err, MB_ENOMEM, "%s needs %s and %s are free; a quantization of at most %.1f bits per weight would fit",
                       model->name, need_text, free_text, bits);
    return mb_fail(err, MB_ENOMEM, "%s needs %s and %s are free; close other programs or take a smaller model", model->name,
                   need_text, free_text);
}

/* Places of all tensors in one block of memory. */
static int plan(struct mb_weights *weights, uint64_t **out_at, struct mb_err *err)
{
    const struct mb_model *model = weights->model;
    uint64_t total = 0, needed = 0;
    uint64_t *at = mb_arena_array(&weights->arena, model->n_tensors, sizeof *at);
    if (!at)
        return mb_fail_memory(err);
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        struct loaded *loaded = &weights->tensors[i];
        loaded->needed = (uint8_t)is_needed(tensor);
        if (!loaded->needed)
            continue;
        if (tensor->type_name || !mb_quant_reads(tensor->type))
            return mb_fail(err, MB_ENOTSUP, "%s: %s: weights of the type %s are not run yet; `membound inspect` counts them",
                           model->name, tensor->name, tensor->type_name ? tensor->type_name : mb_type_name(tensor->type));
        if (weights->opts->load == MB_LOAD_SYNTHETIC && !mb_weights_can_fill(tensor->type))
            return mb_fail(err, MB_ENOTSUP, "%s: %s: synthetic weights of the type %s cannot be made", model->name,
                           tensor->name, mb_type_name(tensor->type));
        if (weights->parts && !in_file(weights, tensor))
            return mb_fail(err, MB_EFORMAT, "%s: %s lies outside of the file; it is truncated", model->name, tensor->name);
        needed += tensor->bytes;
        loaded->is_taken = (uint8_t)is_taken(weights, tensor);
        if (!loaded->is_taken)
            continue;
        loaded->first.packed = can_pack(weights, tensor);
        at[i] = total;
        total += (tensor->bytes + 4095) / 4096 * 4096;
        if (loaded->first.packed && tensor->rule == MB_READ_TIED && !weights->parts)
            total += (ROWS_KEPT * (tensor->bytes / tensor->ne[1]) + 4095) / 4096 * 4096;
    }
    uint64_t free_bytes = weights->opts->memory_bytes ? weights->opts->memory_bytes : mb_pages_free();
    if (free_bytes && (total > needed ? total : needed) > free_bytes)
        return refuse(weights, total > needed ? total : needed, free_bytes, err);
    weights->taken_bytes = total;
    weights->taken = total ? mb_pages_take(total) : NULL;
    if (total && !weights->taken)
        return refuse(weights, total, free_bytes, err);
    *out_at = at;
    return MB_OK;
}

/* ---- bringing it in ---- */

static void load_rows(struct mb_weights *weights, const struct mb_tensor *tensor, const struct loaded *loaded, unsigned member,
                      uint64_t matrix, size_t rows, size_t row_bytes, size_t begin, size_t end)
{
    uint64_t place = (matrix * rows + begin) * row_bytes;
    uint8_t *to = (uint8_t *)(uintptr_t)loaded->first.data + place;
    uint64_t block_bytes = mb_type_info(tensor->type)->block_bytes;
    const uint8_t *from = weights->parts         ? in_file(weights, tensor) + place
                          : loaded->first.packed ? weights->scratch[member]
                                                 : to;
    if (!weights->parts)
        mb_weights_fill(tensor, weights->seed, (uint8_t *)(uintptr_t)from, place / block_bytes,
                        (place + (end - begin) * row_bytes) / block_bytes);
    mb_rows_bring(weights->kernels, tensor->type, loaded->first.packed, to, from, row_bytes, end - begin);
}

static void load_tensor(void *arg, unsigned member)
{
    struct mb_weights *weights = arg;
    const struct mb_tensor *tensor = &weights->model->tensors[weights->next];
    const struct loaded *loaded = &weights->tensors[weights->next];
    uint64_t rows = tensor->ne[1], matrices = tensor->ne[2] * tensor->ne[3];
    if (!tensor->bytes)
        return;
    size_t row_bytes = (size_t)(tensor->bytes / (rows * matrices)), begin, end;
    for (uint64_t matrix = 0; matrix < matrices; matrix++) {
        mb_share(rows, MB_ROWS_AT_ONCE, member, mb_team_size(weights->team), &begin, &end);
        for (size_t row = begin; row < end; row += MB_ROWS_AT_ONCE)
            load_rows(weights, tensor, loaded, member, matrix, rows, row_bytes, row,
                      row + MB_ROWS_AT_ONCE < end ? row + MB_ROWS_AT_ONCE : end);
    }
}

static size_t largest_row(const struct mb_model *model)
{
    size_t largest = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        uint64_t rows = tensor->ne[1] * tensor->ne[2] * tensor->ne[3];
        size_t row = rows ? (size_t)(tensor->bytes / rows) : 0;
        largest = row > largest ? row : largest;
    }
    return largest;
}

static int bring(struct mb_weights *weights, const uint64_t *at, struct mb_err *err)
{
    const struct mb_model *model = weights->model;
    const struct mb_engine_opts *opts = weights->opts;
    uint64_t done = 0;
    int code = mb_team_start(opts->n_threads, &weights->team, err);
    if (code)
        return code;
    unsigned members = mb_team_size(weights->team);
    weights->scratch = mb_arena_array(&weights->arena, members, sizeof *weights->scratch);
    for (unsigned i = 0; weights->scratch && i < members && !weights->parts; i++)
        weights->scratch[i] = mb_arena_alloc(&weights->arena, MB_ROWS_AT_ONCE * largest_row(model));
    if (weights->arena.failed)
        return mb_fail_memory(err);
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        struct loaded *loaded = &weights->tensors[i];
        if (!loaded->is_taken)
            continue;
        if (opts->cancel && __atomic_load_n(opts->cancel, __ATOMIC_RELAXED))
            return mb_fail(err, MB_ECANCEL, "loading was cancelled");
        loaded->first.data = weights->taken + at[i];
        weights->next = i;
        mb_team_run(weights->team, members, load_tensor, weights);
        if (loaded->first.packed && tensor->rule == MB_READ_TIED && !weights->parts) {
            uint64_t row = tensor->bytes / tensor->ne[1], n = tensor->ne[1] < ROWS_KEPT ? tensor->ne[1] : ROWS_KEPT;
            uint8_t *rows = weights->taken + at[i] + (tensor->bytes + 4095) / 4096 * 4096;
            mb_weights_fill(tensor, weights->seed, rows, 0, n * row / mb_type_info(tensor->type)->block_bytes);
            loaded->rows = rows;
            loaded->n_rows = n;
        }
        done += tensor->bytes;
        if (opts->progress)
            opts->progress(opts->user, "loading weights", (double)done / (double)weights->taken_bytes);
    }
    return MB_OK;
}

int mb_weights_load(const struct mb_model *model, const struct mb_gguf *gguf, const struct mb_engine_opts *opts,
                    const struct mb_kernels *kernels, struct mb_weights **out, struct mb_err *err)
{
    uint64_t *at = NULL;
    struct mb_weights *weights = calloc(1, sizeof *weights);
    if (!weights)
        return mb_fail_memory(err);
    weights->model = model;
    weights->kernels = kernels;
    weights->opts = opts;
    weights->seed = opts->seed;
    weights->tensors = mb_arena_array(&weights->arena, model->n_tensors, sizeof *weights->tensors);
    int code = weights->tensors ? MB_OK : mb_fail_memory(err);
    if (!code && opts->load != MB_LOAD_SYNTHETIC)
        code = map_parts(weights, gguf, err);
    if (!code)
        code = plan(weights, &at, err);
    if (!code && weights->taken_bytes)
        code = bring(weights, at, err);
    mb_team_stop(weights->team);
    weights->team = NULL;
    if (code) {
        mb_weights_free(weights);
        return code;
    }
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        struct loaded *loaded = &weights->tensors[i];
        loaded->now = &loaded->first;
        if (!loaded->needed)
            continue;
        const uint8_t *file = weights->parts ? in_file(weights, &model->tensors[i]) : NULL;
        if (!loaded->first.data)
            loaded->first.data = file;
        if (!loaded->rows)
            loaded->rows = loaded->first.packed ? file : loaded->first.data;
        if (!loaded->n_rows)
            loaded->n_rows = model->tensors[i].ne[1];
    }
    weights->opts = NULL;
    *out = weights;
    return MB_OK;
}

void mb_weights_free(struct mb_weights *weights)
{
    if (!weights)
        return;
    mb_behind_close(weights->behind);
    for (unsigned i = 0; i < weights->n_parts; i++)
        munmap(weights->parts[i].base, weights->parts[i].bytes);
    mb_pages_give(weights->taken, weights->taken_bytes);
    mb_arena_free(&weights->arena);
    free(weights);
}

struct mb_behind *mb_weights_follow(struct mb_weights *weights, const uint32_t *order, size_t n)
{
    const struct mb_model *model = weights->model;
    struct mb_behind_tensor *list = mb_arena_array(&weights->arena, n ? n : 1, sizeof *list);
    uint8_t *seen = mb_arena_alloc(&weights->arena, model->n_tensors);
    size_t n_list = 0;
    for (size_t k = 0; list && seen && k < n; k++) {
        const struct mb_tensor *tensor = &model->tensors[order[k]];
        struct loaded *loaded = &weights->tensors[order[k]];
        if (!loaded->needed || loaded->is_taken || !tensor->bytes || seen[order[k]])
            continue;
        seen[order[k]] = 1;
        uint64_t matrices = tensor->ne[2] * tensor->ne[3];
        list[n_list++] = (struct mb_behind_tensor){.from = loaded->first.data,
                                                   .n_rows = tensor->ne[1],
                                                   .n_matrices = matrices,
                                                   .row_bytes = tensor->bytes / (tensor->ne[1] * matrices),
                                                   .type = tensor->type,
                                                   .to.packed = can_pack(weights, tensor),
                                                   .now = &loaded->now};
    }
    if (!n_list || mb_behind_open(list, n_list, weights->kernels, &weights->behind) != MB_OK)
        return NULL;
    return weights->behind;
}

struct mb_behind *mb_weights_behind(const struct mb_weights *weights)
{
    return weights->behind;
}

struct mb_weights_place mb_weights_at(const struct mb_weights *weights, uint32_t i)
{
    return *__atomic_load_n(&weights->tensors[i].now, __ATOMIC_ACQUIRE);
}

const void *mb_weights_first(const struct mb_weights *weights, uint32_t i)
{
    const struct loaded *loaded = &weights->tensors[i];
    return loaded->rows ? loaded->rows : loaded->first.data; /* synthetic ones may have no rows in file order */
}

const void *mb_weights_row(const struct mb_weights *weights, uint32_t i, uint64_t row)
{
    const struct mb_tensor *tensor = &weights->model->tensors[i];
    const struct loaded *loaded = &weights->tensors[i];
    return loaded->rows + row % loaded->n_rows * (tensor->bytes / (tensor->ne[1] * tensor->ne[2] * tensor->ne[3]));
}

const float *mb_weights_f32(struct mb_weights *weights, uint32_t i)
{
    const struct mb_tensor *tensor = &weights->model->tensors[i];
    struct loaded *loaded = &weights->tensors[i];
    uint64_t n = tensor->ne[0] * tensor->ne[1] * tensor->ne[2] * tensor->ne[3];
    if (tensor->type == MB_TYPE_F32)
        return (const float *)(const void *)loaded->first.data;
    if (!loaded->f32) {
        loaded->f32 = mb_arena_array(&weights->arena, n, sizeof(float));
        if (loaded->f32)
            weights->kernels->dequant[tensor->type](loaded->f32, loaded->first.data, n);
    }
    return loaded->f32;
}

uint64_t mb_weights_taken(const struct mb_weights *weights)
{
    struct mb_behind_state state = {0};
    if (weights->behind)
        mb_behind_get_state(weights->behind, &state);
    return weights->taken_bytes + state.taken_bytes;
}
