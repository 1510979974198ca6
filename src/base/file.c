/* SPDX-License-Identifier: MIT */
/* Small files: sysfs and proc attributes under a root directory that a test may choose, and files that are
 * written whole or not at all. Everything read here is hostile until its reader has checked it. */
#include "base.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_under(const char *root, const char *path)
{
    char full[PATH_MAX];
    int n = snprintf(full, sizeof full, "%s%s%s", root ? root : "", *path == '/' ? "" : "/", path);
    if (n < 0 || (size_t)n >= sizeof full) {
        errno = ENAMETOOLONG;
        return -1;
    }
    /* O_NONBLOCK: a FIFO planted in a tree must not hang us. */
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    return fd;
}

/* Up to n bytes; -1 with errno. Short only at the end of the file. */
static ssize_t read_all(int fd, char *to, size_t n)
{
    size_t have = 0;
    while (have < n) {
        ssize_t got = read(fd, to + have, n - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

char *mb_file_read(struct mb_arena *arena, const char *root, const char *path, size_t limit, size_t *n_bytes)
{
    int fd = open_under(root, path);
    if (fd < 0)
        return NULL;
    /* proc and sysfs files state a size of 0 or 4096 whatever they hold, so read until the end. */
    size_t size = 4096, have = 0;
    char *buf = NULL;
    int why = 0;
    for (;;) {
        if (size > limit + 1)
            size = limit + 1;
        char *larger = realloc(buf, size);
        if (!larger) {
            why = ENOMEM;
            break;
        }
        buf = larger;
        ssize_t got = read_all(fd, buf + have, size - have);
        if (got < 0) {
            why = errno;
            break;
        }
        have += (size_t)got;
        if (have < size)
            break;
        if (have > limit) {
            why = EFBIG;
            break;
        }
        size *= 2;
    }
    close(fd);
    char *text = why ? NULL : mb_arena_text_n(arena, buf, have);
    free(buf);
    if (!text)
        errno = why ? why : ENOMEM;
    else if (n_bytes)
        *n_bytes = have;
    return text;
}

/* The first line of at most n-1 bytes, blanks cut, into line. 1 done, 0 unreadable or not printable text. */
static int read_line(const char *root, const char *path, char *line, size_t n)
{
    int fd = open_under(root, path);
    if (fd < 0)
        return 0;
    ssize_t got = read_all(fd, line, n - 1);
    close(fd);
    if (got <= 0)
        return 0;
    line[got] = 0;
    size_t length = strcspn(line, "\n");
    if (length == n - 1)
        return 0; /* longer than any attribute we know */
    while (length && isspace((unsigned char)line[length - 1]))
        length--;
    line[length] = 0;
    size_t skip = 0;
    while (isspace((unsigned char)line[skip]))
        skip++;
    memmove(line, line + skip, length - (skip < length ? skip : length) + 1);
    for (const char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return 0;
    return *line != 0;
}

char *mb_file_line(struct mb_arena *arena, const char *root, const char *path)
{
    char line[1024];
    return read_line(root, path, line, sizeof line) ? mb_arena_text(arena, line) : NULL;
}

int mb_file_u64(const char *root, const char *path, uint64_t *out)
{
    char line[64];
    if (!read_line(root, path, line, sizeof line) || !isdigit((unsigned char)*line))
        return 0;
    char *end;
    int hex = line[0] == '0' && (line[1] == 'x' || line[1] == 'X');
    errno = 0;
    unsigned long long value = strtoull(line, &end, hex ? 16 : 10);
    if (errno || *end)
        return 0;
    *out = value;
    return 1;
}

int mb_file_write(const char *path, const void *bytes, size_t n, struct mb_err *err)
{
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return mb_fail(err, MB_EWRITE, "%.100s...: the name is too long; choose a shorter one", path);
    int fd = mkstemp(temporary);
    if (fd < 0)
        return mb_fail(err, MB_EWRITE, "%s: %s; choose a directory that can be written", path, strerror(errno));
    int why = 0;
    for (size_t done = 0; done < n && !why;) {
        ssize_t wrote = write(fd, (const char *)bytes + done, n - done);
        if (wrote >= 0)
            done += (size_t)wrote;
        else if (errno != EINTR)
            why = errno;
    }
    /* mkstemp makes it private; a saved machine is an ordinary file, so give it the mode that open() would. */
    mode_t mask = umask(0);
    umask(mask);
    if (!why && (fchmod(fd, 0666 & ~mask) != 0 || fsync(fd) != 0))
        why = errno;
    if (close(fd) != 0 && !why)
        why = errno;
    if (!why && rename(temporary, path) != 0)
        why = errno;
    if (why) {
        unlink(temporary);
        return mb_fail(err, MB_EWRITE, "%s: %s; nothing was written", path, strerror(why));
    }
    return MB_OK;
}
