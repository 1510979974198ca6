/* SPDX-License-Identifier: MIT */
/* What several suites need: a directory of their own, and models of the catalog. Include after cmocka.h. A suite that
 * uses a part of it defines SUPPORT_DIR, SUPPORT_FILES (with SUPPORT_DIR) or SUPPORT_MODELS first. */
#ifndef MB_TEST_SUPPORT_H
#define MB_TEST_SUPPORT_H

#include "membound.h"

#include <limits.h>
#include <stdlib.h>

#ifdef SUPPORT_DIR
static char dir[] = "/tmp/membound-test-XXXXXX";

/* Set-up and tear-down of a group: the directory is there while its tests run. */
static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[PATH_MAX];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* Text formatted below the directory, in one of a few rotating buffers, so that two can stand in one call. */
__attribute__((format(printf, 1, 2))) static const char *in_dir(const char *format, ...)
{
    static char buffers[4][PATH_MAX];
    static unsigned next;
    char *buf = buffers[next++ % 4];
    int n = snprintf(buf, PATH_MAX, "%s/", dir);
    va_list args;
    va_start(args, format);
    vsnprintf(buf + n, PATH_MAX - (size_t)n, format, args);
    va_end(args);
    return buf;
}
#endif

#ifdef SUPPORT_FILES
/* A file of these bytes in the directory. */
static void write_bytes(const char *name, const void *bytes, size_t n)
{
    FILE *file = fopen(in_dir("%s", name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}
#endif

#ifdef SUPPORT_MODELS
/* A model of the catalog; the test fails if there is none. */
static struct mb_model *open_spec(const char *spec)
{
    struct mb_model *model;
    struct mb_err err;
    if (mb_model_catalog(spec, &model, &err) != MB_OK)
        fail_msg("%s", err.text);
    return model;
}
#endif

#endif
