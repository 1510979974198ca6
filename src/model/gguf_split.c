/* SPDX-License-Identifier: MIT */
/* From a name to an open model: read a file's header in growing windows until it is whole, and if
 * the file is one part of a split model, read the others' too. */
#include "model/gguf.h"

#include "base/base.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Small enough to cost nothing on a small file; doubled until the header fits. */
enum { FIRST_WINDOW = 1024 * 1024 };

int mb_gguf_split_parse(const char *path, size_t *prefix_bytes, unsigned *no, unsigned *count)
{
    static const char shape[] = "-00000-of-00000.gguf";
    size_t n = strlen(path), k = sizeof shape - 1;
    if (n < k)
        return 0;
    const char *tail = path + n - k;
    unsigned numbers[2] = {0, 0};
    for (size_t i = 0; i < k; i++) {
        if (shape[i] != '0' && tail[i] != shape[i])
            return 0;
        if (shape[i] == '0' && !isdigit((unsigned char)tail[i]))
            return 0;
        if (shape[i] == '0')
            numbers[i > 6] = numbers[i > 6] * 10 + (unsigned)(tail[i] - '0');
    }
    if (numbers[0] < 1 || numbers[0] > numbers[1])
        return 0;
    *prefix_bytes = n - k;
    *no = numbers[0];
    *count = numbers[1];
    return 1;
}

/* Read windows of an open file until its header parses. */
static int read_part(const struct mb_source *source, void *handle, uint64_t file_bytes,
                     const char *path, struct mb_gguf *gguf, struct mb_err *err)
{
    unsigned char *bytes = NULL;
    size_t have = 0, window = FIRST_WINDOW;
    int code = MB_EMORE;
    while (code == MB_EMORE) {
        if (window > file_bytes)
            window = (size_t)file_bytes;
        unsigned char *larger = realloc(bytes, window);
        if (!larger) {
            code = mb_fail_memory(err);
            break;
        }
        bytes = larger;
        size_t got = 0;
        code = source->read(handle, have, bytes + have, window - have, &got, err);
        if (code)
            break;
        if (got < window - have && file_bytes != MB_SOURCE_UNKNOWN) {
            code = mb_fail(err, MB_EIO, "%s: the file ended before its stated size; try again",
                           mb_source_label(path));
            break;
        }
        have += got;
        if (have < window)
            file_bytes = have; /* the end that the other side did not tell */
        code = mb_gguf_add_part(gguf, bytes, have, file_bytes, path, err);
        window *= 2;
    }
    if (code)
        free(bytes);
    return code;
}

static int add_file(const struct mb_source *source, const char *path, struct mb_gguf *gguf,
                    struct mb_err *err)
{
    void *handle = NULL;
    uint64_t file_bytes = 0;
    int code = source->open(source->user, path, &handle, &file_bytes, err);
    if (code)
        return code;
    code = read_part(source, handle, file_bytes, path, gguf, err);
    source->close(handle);
    return code;
}

/* Does the part that was read last say that it is number no (from 1) of count? */
static int check_part(const struct mb_gguf *gguf, const char *path, unsigned no, unsigned count,
                      struct mb_err *err)
{
    uint64_t said_no = 0, said_count = 0;
    unsigned part = mb_gguf_n_parts(gguf) - 1;
    int bad = mb_gguf_part_u64(gguf, part, "split.no", &said_no);
    bad |= mb_gguf_part_u64(gguf, part, "split.count", &said_count);
    if (bad)
        return mb_fail(
            err, MB_EFORMAT,
            "%s: named as part %u of %u, but not a part of a split model; download it again",
            mb_source_label(path), no, count);
    if (said_no != no - 1 || said_count != count)
        return mb_fail(err, MB_EFORMAT,
                       "%s: named as part %u of %u, but inside it is part %" PRIu64 " of %" PRIu64
                       "; give the file its own name again",
                       mb_source_label(path), no, count, said_no + 1, said_count);
    return MB_OK;
}

/* All parts of a split model in their order. path names any of them; its header said count. */
static int add_all(const struct mb_source *source, const char *path, uint64_t count,
                   struct mb_gguf *gguf, struct mb_err *err)
{
    size_t prefix = 0;
    unsigned no = 0, named = 0;
    if (!mb_gguf_split_parse(path, &prefix, &no, &named) || named != count)
        return mb_fail(err, MB_EFORMAT,
                       "%s: one part of a model split into %" PRIu64
                       ", but the name does not say so; the parts are "
                       "found by names like model-00001-of-%05" PRIu64 ".gguf",
                       mb_source_label(path), count, count);
    size_t n = prefix + 32;
    char *name = malloc(n);
    if (!name)
        return mb_fail_memory(err);
    int code = MB_OK;
    for (unsigned i = 1; i <= named && !code; i++) {
        snprintf(name, n, "%.*s-%05u-of-%05u.gguf", (int)prefix, path, i, named);
        code = add_file(source, name, gguf, err);
        if (code == MB_ENOENT)
            mb_fail(err, code, "%s: part %u of %u is missing; all parts must lie side by side",
                    mb_source_label(name), i, named);
        if (!code)
            code = check_part(gguf, name, i, named, err);
    }
    free(name);
    return code;
}

static int check_tensors(const struct mb_gguf *gguf, const char *path, struct mb_err *err)
{
    uint64_t said = 0;
    int code = mb_gguf_part_u64(gguf, 0, "split.tensors.count", &said);
    if (code == MB_ENODATA || (!code && said == mb_gguf_n_tensors(gguf)))
        return MB_OK;
    if (code)
        return mb_fail(err, MB_EFORMAT,
                       "%s: split.tensors.count is not a count; the file is damaged",
                       mb_source_label(path));
    return mb_fail(err, MB_EFORMAT,
                   "%s: the parts hold %u tensors, but the first one says %" PRIu64
                   "; they are not all of the same model: download them again",
                   mb_source_label(path), mb_gguf_n_tensors(gguf), said);
}

int mb_gguf_open_source(const struct mb_source *source, const char *path, struct mb_gguf **out,
                        struct mb_err *err)
{
    if (strlen(path) > INT_MAX / 2)
        return mb_fail(err, MB_EINVAL, "the name is too long");
    struct mb_gguf *gguf = mb_gguf_new();
    if (!gguf)
        return mb_fail_memory(err);
    int code = add_file(source, path, gguf, err);
    uint64_t count = 0;
    int split = !code && mb_gguf_part_u64(gguf, 0, "split.count", &count) == MB_OK && count > 1;
    if (split) {
        mb_gguf_close(gguf);
        gguf = mb_gguf_new();
        code = gguf ? add_all(source, path, count, gguf, err) : mb_fail_memory(err);
    }
    if (!code)
        code = mb_gguf_finish(gguf, err);
    if (!code && split)
        code = check_tensors(gguf, path, err);
    if (code) {
        mb_gguf_close(gguf);
        return code;
    }
    *out = gguf;
    return MB_OK;
}

int mb_gguf_open(const char *path, struct mb_gguf **out, struct mb_err *err)
{
    struct mb_source files = mb_source_files();
    return mb_gguf_open_source(&files, path, out, err);
}

int mb_gguf_open_bytes(const void *bytes, size_t n, uint64_t file_bytes, const char *label,
                       struct mb_gguf **out, struct mb_err *err)
{
    struct mb_gguf *gguf = mb_gguf_new();
    unsigned char *copy = malloc(n ? n : 1);
    if (!gguf || !copy) {
        free(copy);
        mb_gguf_close(gguf);
        return mb_fail_memory(err);
    }
    if (n)
        memcpy(copy, bytes, n);
    int code = mb_gguf_add_part(gguf, copy, n, file_bytes, label, err);
    if (code)
        free(copy);
    else
        code = mb_gguf_finish(gguf, err);
    if (code) {
        mb_gguf_close(gguf);
        return code;
    }
    *out = gguf;
    return MB_OK;
}
