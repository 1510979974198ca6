/* SPDX-License-Identifier: MIT */
/* Where the bytes of a file come from: this machine's file system here, a server in hf.c. Readers
 * of headers ask for windows and never know which. */
#ifndef MB_SOURCE_H
#define MB_SOURCE_H

#include "membound.h"

/* A size that the other side does not tell. */
#define MB_SOURCE_UNKNOWN UINT64_MAX

/* How to open a name, read windows of it, and close it. user is handed to open.
 *   open   MB_OK, *file_bytes is the whole size or MB_SOURCE_UNKNOWN; else err names the thing and
 * the mend read   up to n bytes from `at` into `to`; *got is less than n only at the end of the
 * file. MB_OK, MB_EIO, MB_ENET */
struct mb_source {
    int (*open)(void *user, const char *path, void **handle, uint64_t *file_bytes,
                struct mb_err *err);
    int (*read)(void *handle, uint64_t at, void *to, size_t n, size_t *got, struct mb_err *err);
    void (*close)(void *handle);
    void *user;
};

/* Local files, opened read-only. Plain read()s, no mapping: a file that shrinks under us is then an
 * error and not a signal. Open: MB_ENOENT, MB_EIO, MB_EFORMAT (a directory, a device, an empty
 * file), MB_ENOMEM. */
struct mb_source mb_source_files(void);

/* The name of a thing as it stands in an error: its last part when the whole would leave no room
 * for the reason. */
const char *mb_source_label(const char *path);

/* What a file that should have been a model is instead, judged by its first bytes: "an HTML page;
 * the download failed". NULL when it looks like nothing known. */
const char *mb_source_sniff(const void *bytes, size_t n);

#endif
