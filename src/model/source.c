/* SPDX-License-Identifier: MIT */
/* Local files as a source of bytes, and what a file is that is not what was expected. */
#include "model/source.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LABEL_BYTES = 160 };

struct file {
    int fd;
    uint64_t bytes;
    const char *label; /* in the same block */
};

const char *mb_source_label(const char *path)
{
    size_t n = strlen(path);
    if (n <= LABEL_BYTES)
        return path;
    const char *tail = path + n - LABEL_BYTES, *slash = strchr(tail, '/');
    return slash && slash[1] ? slash + 1 : tail;
}

static int file_open(void *user, const char *path, void **handle, uint64_t *file_bytes,
                     struct mb_err *err)
{
    (void)user;
    const char *label = mb_source_label(path);
    /* O_NONBLOCK: a FIFO must be refused below, not waited for here. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return mb_fail(err, MB_ENOENT, "%s: no such file", label);
    if (fd < 0)
        return mb_fail(err, MB_EIO, "%s: %s", label, strerror(errno));
    int code = MB_OK;
    struct stat st;
    if (fstat(fd, &st) != 0)
        code = mb_fail(err, MB_EIO, "%s: %s", label, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        code = mb_fail(err, MB_EFORMAT, "%s: this is a directory; name a file in it", label);
    else if (!S_ISREG(st.st_mode))
        code = mb_fail(err, MB_EFORMAT, "%s: this is a device or a pipe, not a file", label);
    else if (st.st_size == 0)
        code = mb_fail(err, MB_EFORMAT, "%s: the file is empty; download it again", label);
    size_t label_n = strlen(label) + 1;
    struct file *file = code ? NULL : malloc(sizeof *file + label_n);
    if (!file) {
        close(fd);
        return code ? code : mb_fail_memory(err);
    }
    *file = (struct file){fd, (uint64_t)st.st_size, memcpy(file + 1, label, label_n)};
    *handle = file;
    *file_bytes = file->bytes;
    return MB_OK;
}

static int file_read(void *handle, uint64_t at, void *to, size_t n, size_t *got, struct mb_err *err)
{
    const struct file *file = handle;
    *got = 0;
    uint64_t left = at < file->bytes ? file->bytes - at : 0;
    if (n > left)
        n = (size_t)left;
    while (*got < n) {
        ssize_t r = pread(file->fd, (char *)to + *got, n - *got, (off_t)(at + *got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return mb_fail(err, MB_EIO, "%s: %s", file->label, strerror(errno));
        if (r == 0)
            return mb_fail(err, MB_EIO,
                           "%s: the file shrank while it was read; wait until its writer is done",
                           file->label);
        *got += (size_t)r;
    }
    return MB_OK;
}

static void file_close(void *handle)
{
    struct file *file = handle;
    if (file)
        close(file->fd);
    free(file);
}

struct mb_source mb_source_files(void)
{
    return (struct mb_source){file_open, file_read, file_close, NULL};
}

const char *mb_source_sniff(const void *bytes, size_t n)
{
    static const struct {
        const char *magic;
        size_t n;
        const char *what;
    } kinds[] = {
        {"version https://git-lfs", 23,
         "a git-lfs pointer; fetch the file itself with `git lfs pull`"},
        {"\xff\xd8\xff", 3, "a JPEG picture"},
        {"\x89PNG", 4, "a PNG picture"},
        {"GIF8", 4, "a GIF picture"},
        {"%PDF", 4, "a PDF document"},
        {"PK\3\4", 4,
         "a zip archive; unpack it (a PyTorch checkpoint is one, and must be converted)"},
        {"\x80\2", 2, "a Python pickle; convert it to GGUF"},
        {"\x1f\x8b", 2, "a gzip archive; unpack it"},
        {"\x28\xb5\x2f\xfd", 4, "a zstd archive; unpack it"},
        {"7z\xbc\xaf", 4, "a 7z archive; unpack it"},
        {"\x89HDF", 4, "an HDF5 file; convert it to GGUF"},
        {"\x7f"
         "ELF",
         4, "a program"},
        {"lmgg", 4, "a GGML file from before August 2023; take a GGUF file of this model"},
        {"fmgg", 4, "a GGML file from before August 2023; take a GGUF file of this model"},
        {"tjgg", 4, "a GGML file from before August 2023; take a GGUF file of this model"},
        {"algg", 4, "a GGML adapter from before August 2023; take a GGUF file of it"},
        {"\0\0\0\0\0\0\0\0", 8, "full of zeros at the start; the download is not finished"},
    };
    const char *text = bytes;
    for (size_t i = 0; i < MB_COUNT(kinds); i++)
        if (n >= kinds[i].n && memcmp(text, kinds[i].magic, kinds[i].n) == 0)
            return kinds[i].what;
    /* safetensors: the length of a JSON object, then the object. */
    if (n >= 10 && text[5] == 0 && text[6] == 0 && text[7] == 0 && text[8] == '{' && text[9] == '"')
        return "a safetensors file; convert it to GGUF, or name its directory";
    size_t at = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < n && strchr(" \t\r\n", text[at]) && text[at])
        at++;
    static const char *const html[] = {"<!doctype html", "<html", "<head", "<!--"};
    for (size_t i = 0; i < MB_COUNT(html); i++)
        if (n - at >= strlen(html[i]) && strncasecmp(text + at, html[i], strlen(html[i])) == 0)
            return "an HTML page; the download failed";
    if (n - at >= 5 && memcmp(text + at, "<?xml", 5) == 0)
        return "an XML page; the download failed";
    if (n - at >= 2 && text[at] == '{' && strchr(" \t\r\n\"}", text[at + 1]) && text[at + 1])
        return "a JSON text; the download failed, or this is a configuration file";
    return NULL;
}
