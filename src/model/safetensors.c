/* SPDX-License-Identifier: MIT */
/* The headers of safetensors files as one list of tensors. What the tensors are for is left to the
 * architectures; nothing here knows a name. Headers come from strangers: lengths are bounded before
 * memory is taken, sizes are computed from the shapes and compared with the offsets. */
#include "model/safetensors.h"

#include "base/base.h"
#include "model/source.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    HEADER_MAX = 100 * 1000 * 1000, /* the bound that the format's own library has */
    TENSORS_MAX = 1 << 20,
    FILES_MAX = 10000,
    DTYPE_MAX = 31
};

static const char index_name[] = "model.safetensors.index.json";

struct builder {
    struct mb_arena arena;
    struct mb_safetensors model;
};

/* Bits of one element; 0 for a type that this program does not know, whose bytes the offsets still
 * tell. */
static unsigned dtype_bits(const char *dtype)
{
    static const struct {
        const char *name;
        unsigned bits;
    } types[] = {{"F64", 64}, {"I64", 64},    {"U64", 64},    {"C64", 64},    {"F32", 32},
                 {"I32", 32}, {"U32", 32},    {"F16", 16},    {"BF16", 16},   {"I16", 16},
                 {"U16", 16}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"I8", 8},
                 {"U8", 8},   {"BOOL", 8},    {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
    for (size_t i = 0; i < MB_COUNT(types); i++)
        if (strcmp(types[i].name, dtype) == 0)
            return types[i].bits;
    return 0;
}

/* ---- one header ---- */

/* A whole number of 0 or more. 1 done. */
static int take_count(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return 0;
    *out = (uint64_t)json_integer_value(value);
    return 1;
}

/* Shape and offsets into tensor; begin is the offset in the data. NULL done, else what is wrong. */
static const char *take_tensor(struct mb_arena *arena, const json_t *value,
                               struct mb_safetensors_tensor *tensor, uint64_t *begin)
{
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const json_t *shape = json_object_get(value, "shape"),
                 *offsets = json_object_get(value, "data_offsets");
    uint64_t end, elements = 1;
    if (!dtype || strlen(dtype) > DTYPE_MAX || !json_is_array(shape) ||
        json_array_size(offsets) != 2)
        return "lacks dtype, shape or data_offsets";
    if (json_array_size(shape) > MB_COUNT(tensor->shape))
        return "has over 8 dimensions";
    if (!take_count(json_array_get(offsets, 0), begin) ||
        !take_count(json_array_get(offsets, 1), &end) || end < *begin)
        return "has data_offsets that are no range";
    tensor->n_dims = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < tensor->n_dims; i++) {
        if (!take_count(json_array_get(shape, i), &tensor->shape[i]))
            return "has a dimension that is no count";
        if (tensor->shape[i] && elements > (uint64_t)INT64_MAX / tensor->shape[i])
            return "is larger than any file";
        elements *= tensor->shape[i];
    }
    tensor->bytes = end - *begin;
    unsigned bits = dtype_bits(dtype);
    if (bits && (elements > (uint64_t)INT64_MAX / bits || elements * bits % 8 ||
                 elements * bits / 8 != tensor->bytes))
        return "has data_offsets that do not fit its shape";
    tensor->dtype = mb_arena_text(arena, dtype);
    return NULL;
}

struct placed {
    struct mb_safetensors_tensor tensor;
    uint64_t begin;
};

static int compare_begins(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    /* A tensor of no bytes goes before the one that begins where it stands. */
    if (x->begin != y->begin)
        return (x->begin > y->begin) - (x->begin < y->begin);
    return (x->tensor.bytes > y->tensor.bytes) - (x->tensor.bytes < y->tensor.bytes);
}

static int add_tensors(struct builder *builder, struct placed *placed, unsigned n,
                       uint64_t data_bytes, const char *label, struct mb_err *err)
{
    uint64_t end = 0;
    qsort(placed, n, sizeof *placed, compare_begins);
    for (unsigned i = 0; i < n; i++) {
        if (placed[i].begin < end)
            return mb_fail(err, MB_EFORMAT,
                           "%s: the tensors %.80s and %.80s overlap; the file is damaged", label,
                           placed[i - 1].tensor.name, placed[i].tensor.name);
        end = placed[i].begin + placed[i].tensor.bytes;
        struct mb_safetensors_tensor *tensor = mb_arena_append(
            &builder->arena, &builder->model.tensors, &builder->model.n_tensors, sizeof *tensor);
        if (!tensor)
            return mb_fail_memory(err);
        *tensor = placed[i].tensor;
    }
    if (end > data_bytes) {
        char missing[32];
        mb_format_bytes((double)(end - data_bytes), missing, sizeof missing);
        return mb_fail(err, MB_EFORMAT,
                       "%s: truncated download: %s of the tensors are missing; download the rest",
                       label, missing);
    }
    if (builder->model.n_tensors > TENSORS_MAX)
        return mb_fail(err, MB_EFORMAT, "%s: over %d tensors; the files are damaged", label,
                       TENSORS_MAX);
    return MB_OK;
}

static int take_header(struct builder *builder, const char *text, size_t n, uint64_t data_bytes,
                       unsigned file, const char *label, struct mb_err *err)
{
    json_t *root = mb_json_parse(text, n, label, err);
    if (!root)
        return err && err->code == MB_ENOMEM ? MB_ENOMEM : MB_EFORMAT;
    int code = MB_OK;
    unsigned count = 0;
    struct placed *placed = calloc(json_object_size(root) + 1, sizeof *placed);
    if (!placed) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        if (code)
            break;
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct placed *at = &placed[count++];
        const char *wrong = take_tensor(&builder->arena, value, &at->tensor, &at->begin);
        at->tensor.name = mb_arena_text(&builder->arena, name);
        at->tensor.file = file;
        if (wrong)
            code = mb_fail(err, MB_EFORMAT, "%s: the tensor %.80s %s; the file is damaged", label,
                           name, wrong);
        else if (builder->arena.failed)
            code = mb_fail_memory(err);
    }
    if (!code)
        code = add_tensors(builder, placed, count, data_bytes, label, err);
    free(placed);
    json_decref(root);
    return code;
}

/* The length of the header, or 0 with err filled. */
static uint64_t header_length(const unsigned char *bytes, size_t n, uint64_t file_bytes,
                              const char *label, struct mb_err *err)
{
    uint64_t length = 0;
    for (unsigned i = 0; i < 8 && i < n; i++)
        length |= (uint64_t)bytes[i] << (8 * i);
    if (n >= 9 && length >= 2 && length <= HEADER_MAX && bytes[8] == '{' &&
        length <= file_bytes - 8)
        return length;
    const char *what = mb_source_sniff(bytes, n);
    if (n >= 9 && bytes[8] == '{' && length <= HEADER_MAX)
        mb_fail(err, MB_EFORMAT, "%s: truncated in its header; download it again", label);
    else if (n >= 4 && memcmp(bytes, "GGUF", 4) == 0)
        mb_fail(err, MB_EFORMAT, "%s: a GGUF file, not a safetensors file; name it .gguf", label);
    else
        mb_fail(err, MB_EFORMAT, "%s: not a safetensors file%s%s", label, what ? " but " : "",
                what ? what : "");
    return 0;
}

/* ---- the sums, and the result ---- */

static int finish(struct builder *builder, struct mb_safetensors **out, struct mb_err *err)
{
    struct mb_safetensors *model = &builder->model;
    for (unsigned i = 0; i < model->n_tensors; i++) {
        const struct mb_safetensors_tensor *tensor = &model->tensors[i];
        if (!tensor->dtype)
            continue;
        unsigned k = 0;
        while (k < model->n_sums && strcmp(model->sums[k].dtype, tensor->dtype) != 0)
            k++;
        if (k == 256)
            return mb_fail(err, MB_EFORMAT, "%s: over 256 types of tensors; the files are damaged",
                           mb_source_label(model->files[0]));
        if (k == model->n_sums) {
            struct mb_safetensors_sum *sum =
                mb_arena_append(&builder->arena, &model->sums, &model->n_sums, sizeof *sum);
            if (!sum)
                return mb_fail_memory(err);
            sum->dtype = tensor->dtype;
        }
        if (tensor->bytes > (uint64_t)INT64_MAX - model->bytes)
            return mb_fail(err, MB_EFORMAT,
                           "%s: the tensors are larger than any file; it is damaged",
                           mb_source_label(model->files[0]));
        model->sums[k].bytes += tensor->bytes;
        model->sums[k].n_tensors++;
        model->bytes += tensor->bytes;
    }
    struct mb_arena *owner = malloc(sizeof *owner);
    struct mb_safetensors *result = mb_arena_alloc(&builder->arena, sizeof *result);
    if (!owner || !result || builder->arena.failed) {
        free(owner);
        return mb_fail_memory(err);
    }
    *result = *model;
    *owner = builder->arena;
    result->owner = owner;
    *out = result;
    return MB_OK;
}

void mb_safetensors_close(struct mb_safetensors *model)
{
    if (!model)
        return;
    struct mb_arena *owner = model->owner;
    mb_arena_free(owner);
    free(owner);
}

static int add_name(struct builder *builder, const char *path, struct mb_err *err)
{
    const char **file = mb_arena_append(&builder->arena, &builder->model.files,
                                        &builder->model.n_files, sizeof *file);
    if (file)
        *file = mb_arena_text(&builder->arena, path);
    return file && *file ? MB_OK : mb_fail_memory(err);
}

int mb_safetensors_open_bytes(const void *bytes, size_t n, uint64_t file_bytes, const char *label,
                              struct mb_safetensors **out, struct mb_err *err)
{
    struct builder builder = {0};
    if (file_bytes < n)
        file_bytes = n;
    if (n < 16 && n < file_bytes)
        return mb_fail(err, MB_EMORE, "%s: %zu bytes are not the whole header", label, n);
    uint64_t length = header_length(bytes, n, file_bytes, label, err);
    if (!length)
        return MB_EFORMAT;
    if (length > n - 8)
        return mb_fail(err, MB_EMORE, "%s: %zu bytes are not the whole header", label, n);
    int code = add_name(&builder, label, err);
    if (!code)
        code = take_header(&builder, (const char *)bytes + 8, (size_t)length,
                           file_bytes - 8 - length, 0, label, err);
    if (!code)
        code = finish(&builder, out, err);
    if (code)
        mb_arena_free(&builder.arena);
    return code;
}

/* ---- files ---- */

static int read_file(struct builder *builder, const char *path, struct mb_err *err)
{
    struct mb_source source = mb_source_files();
    const char *label = mb_source_label(path);
    void *handle = NULL;
    uint64_t file_bytes = 0, length = 0;
    unsigned char start[64];
    unsigned char *text = NULL;
    size_t got = 0;
    int code = source.open(source.user, path, &handle, &file_bytes, err);
    if (code)
        return code;
    code = source.read(handle, 0, start, sizeof start, &got, err);
    if (!code) {
        length = header_length(start, got, file_bytes, label, err);
        code = length ? MB_OK : MB_EFORMAT;
    }
    if (!code) {
        text = malloc((size_t)length);
        code = text ? source.read(handle, 8, text, (size_t)length, &got, err) : mb_fail_memory(err);
    }
    if (!code)
        code = add_name(builder, path, err);
    if (!code)
        code = take_header(builder, (const char *)text, got, file_bytes - 8 - length,
                           builder->model.n_files - 1, label, err);
    free(text);
    source.close(handle);
    return code;
}

/* A file name of an index stays in its directory. */
static int is_base_name(const char *name)
{
    return name && *name && !strchr(name, '/') && strcmp(name, "..") != 0 &&
           strlen(name) <= NAME_MAX;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sort names and leave each one once; returns how many. */
static unsigned sort_once(const char **names, unsigned n)
{
    unsigned kept = 0;
    if (n)
        qsort(names, n, sizeof *names, compare_texts);
    for (unsigned i = 0; i < n; i++)
        if (!kept || strcmp(names[kept - 1], names[i]) != 0)
            names[kept++] = names[i];
    return kept;
}

/* Only the index is there: names and the sum that it states, the rest unknown. */
static int take_index_alone(struct builder *builder, const json_t *map, const json_t *root,
                            const char *path, struct mb_err *err)
{
    const char *name;
    json_t *value;
    int code = add_name(builder, path, err);
    json_object_foreach((json_t *)map, name, value)
    {
        struct mb_safetensors_tensor *tensor = mb_arena_append(
            &builder->arena, &builder->model.tensors, &builder->model.n_tensors, sizeof *tensor);
        if (!tensor)
            return mb_fail_memory(err);
        tensor->name = mb_arena_text(&builder->arena, name);
        tensor->bytes = MB_SAFETENSORS_UNKNOWN;
    }
    /* Some writers store the sum as a float; a whole number is what counts. */
    const json_t *total = json_object_get(json_object_get(root, "metadata"), "total_size");
    double sum = json_number_value(total);
    builder->model.bytes =
        sum >= 1 && sum <= 9007199254740992.0 ? (uint64_t)sum : MB_SAFETENSORS_UNKNOWN;
    return code;
}

/* By the index: the files it names, in the order of their names. */
static int read_index(struct builder *builder, const char *dir, const char *path, const char *text,
                      size_t n, struct mb_err *err)
{
    const char *label = mb_source_label(path);
    json_t *root = mb_json_parse(text, n, label, err);
    if (!root)
        return err && err->code == MB_ENOMEM ? MB_ENOMEM : MB_EFORMAT;
    const json_t *map = json_object_get(root, "weight_map");
    size_t n_map = json_object_size(map);
    const char **names = calloc(n_map + 1, sizeof *names);
    unsigned n_names = 0, n_there = 0;
    int code = MB_OK;
    const char *tensor, *missing = NULL;
    json_t *value;
    if (!names) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    if (!n_map || n_map > TENSORS_MAX)
        code = mb_fail(err, MB_EFORMAT, "%s: no weight_map in it; download it again", label);
    json_object_foreach((json_t *)map, tensor, value)
    {
        if (code)
            break;
        names[n_names++] = json_string_value(value);
        if (!is_base_name(names[n_names - 1]))
            code = mb_fail(err, MB_EFORMAT,
                           "%s: the file of tensor %.80s is no file name; the index is damaged",
                           label, tensor);
    }
    n_names = code ? 0 : sort_once(names, n_names);
    if (n_names > FILES_MAX)
        code = mb_fail(err, MB_EFORMAT, "%s: it names over %d files; the index is damaged", label,
                       FILES_MAX);
    for (unsigned pass = 0; pass < 2 && !code; pass++) {
        for (unsigned i = 0; i < n_names && !code; i++) {
            char file[PATH_MAX];
            struct stat st;
            int length = snprintf(file, sizeof file, "%s/%s", dir, names[i]);
            int there = length > 0 && (size_t)length < sizeof file && stat(file, &st) == 0;
            if (pass == 0 && there)
                n_there++;
            else if (pass == 0)
                missing = names[i];
            else
                code = read_file(builder, file, err);
        }
        if (pass == 0 && n_there && missing)
            code = mb_fail(
                err, MB_ENOENT,
                "%s: %.100s is missing, which the index names; download it into the same directory",
                label, missing);
        if (pass == 0 && !code && !n_there) {
            code = take_index_alone(builder, map, root, path, err);
            break;
        }
    }
    if (!code && n_there && builder->model.n_tensors < n_map)
        code = mb_fail(err, MB_EFORMAT,
                       "%s: it names %zu tensors, the files hold %u; download them again", label,
                       n_map, builder->model.n_tensors);
    free(names);
    json_decref(root);
    return code;
}

/* Without an index: every *.safetensors of the directory. */
static int read_all(struct builder *builder, const char *path, struct mb_err *err)
{
    const char **names = NULL;
    unsigned n = 0;
    int code = MB_OK;
    DIR *dir = opendir(path);
    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry && n < FILES_MAX;
         entry = readdir(dir)) {
        size_t length = strlen(entry->d_name);
        if (length <= 12 || *entry->d_name == '.' ||
            strcmp(entry->d_name + length - 12, ".safetensors") != 0)
            continue;
        const char **name = mb_arena_append(&builder->arena, &names, &n, sizeof *name);
        if (name)
            *name = mb_arena_text(&builder->arena, entry->d_name);
    }
    if (dir)
        closedir(dir);
    if (builder->arena.failed)
        return mb_fail_memory(err);
    n = sort_once(names, n);
    for (unsigned i = 0; names && i < n && !code; i++) {
        char *file = mb_arena_format(&builder->arena, "%s/%s", path, names[i]);
        code = file ? read_file(builder, file, err) : mb_fail_memory(err);
    }
    if (!code && !n)
        code = mb_fail(err, MB_EFORMAT, "%s: no .safetensors file in this directory",
                       mb_source_label(path));
    return code;
}

static int read_dir(struct builder *builder, const char *path, struct mb_err *err)
{
    struct stat st;
    size_t n = 0;
    char *config = mb_arena_format(&builder->arena, "%s/config.json", path);
    char *index = mb_arena_format(&builder->arena, "%s/%s", path, index_name);
    if (!config || !index)
        return mb_fail_memory(err);
    if (stat(config, &st) == 0 && S_ISREG(st.st_mode))
        builder->model.config_path = config;
    if (stat(index, &st) != 0)
        return read_all(builder, path, err);
    struct mb_arena scratch = {0};
    const char *text = mb_file_read(&scratch, NULL, index, HEADER_MAX, &n);
    int code = text ? read_index(builder, path, index, text, n, err)
                    : mb_fail(err, MB_EIO, "%s: cannot be read", mb_source_label(index));
    mb_arena_free(&scratch);
    return code;
}

static int compare_tensor_names(const void *a, const void *b)
{
    return strcmp((*(const struct mb_safetensors_tensor *const *)a)->name,
                  (*(const struct mb_safetensors_tensor *const *)b)->name);
}

/* JSON refuses a name that is twice in one file; this is for two files. */
static int check_names(const struct mb_safetensors *model, const char *path, struct mb_err *err)
{
    const struct mb_safetensors_tensor **order = malloc((model->n_tensors + 1u) * sizeof *order);
    int code = MB_OK;
    if (!order)
        return mb_fail_memory(err);
    for (unsigned i = 0; i < model->n_tensors; i++)
        order[i] = &model->tensors[i];
    qsort(order, model->n_tensors, sizeof *order, compare_tensor_names);
    for (unsigned i = 1; i < model->n_tensors && !code; i++)
        if (strcmp(order[i - 1]->name, order[i]->name) == 0)
            code = mb_fail(
                err, MB_EFORMAT,
                "%s: the tensor %.80s is in two files; leave only the files of one model in the directory",
                mb_source_label(path), order[i]->name);
    free(order);
    return code;
}

int mb_safetensors_open(const char *path, struct mb_safetensors **out, struct mb_err *err)
{
    struct builder builder = {0};
    struct stat st;
    int is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    int code = is_dir ? read_dir(&builder, path, err) : read_file(&builder, path, err);
    if (!code)
        code = check_names(&builder.model, path, err);
    if (!code)
        code = finish(&builder, out, err);
    if (code)
        mb_arena_free(&builder.arena);
    return code;
}
