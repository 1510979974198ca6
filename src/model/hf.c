/* SPDX-License-Identifier: MIT */
/* A model hub as a source of bytes, and a cache of the headers read from it.
 *
 * A cache entry is one file: a first line for this program, address, entity tag, sizes and
 * checksum, one per line, then the first bytes of the remote file. Its name is a hash of address
 * and tag; since anybody may choose addresses and so make hashes meet, both are compared again when
 * it is read. Entries are a convenience: one that is damaged is removed, and one that can't be
 * written is forgotten. */
#include "model/hf.h"

#include "base/base.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PROBE_BYTES = 4096, /* enough to learn size and tag, cheap if the cache has the rest */
    ENTRY_MAX = 512 * 1024 * 1024, /* as the GGUF reader's bound on a header */
    ADDRESS_MAX = 2048
};

static const char entry_magic[] = "membound header 1";

struct remote {
    struct mb_http *http;
    char *url;
    const char *cache_dir;
    unsigned char *bytes; /* the first n bytes of the file: read by us, or out of the cache */
    size_t n;
    int cached;
};

int mb_hf_is_name(const char *name)
{
    return strncmp(name, "hf:", 3) == 0;
}

/* FNV-1a: for names and against accidents, not against people. */
static uint64_t hash(uint64_t seed, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ seed;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* ---- the cache ---- */

static int entry_path(const struct remote *remote, char path[PATH_MAX])
{
    const char *tag = mb_http_etag(remote->http);
    if (!remote->cache_dir || !*tag)
        return 0;
    uint64_t h = hash(hash(0, remote->url, strlen(remote->url)), tag, strlen(tag));
    int n = snprintf(path, PATH_MAX, "%s/%016" PRIx64 ".header", remote->cache_dir, h);
    return n > 0 && n < PATH_MAX;
}

/* The lines before the bytes. */
static int entry_head(const struct remote *remote, const void *bytes, size_t n, char *head,
                      size_t head_n)
{
    return snprintf(head, head_n, "%s\n%s\n%s\n%" PRIu64 " %zu %016" PRIx64 "\n", entry_magic,
                    remote->url, mb_http_etag(remote->http), mb_http_file_bytes(remote->http), n,
                    hash(1, bytes, n));
}

static void load_entry(struct remote *remote)
{
    char path[PATH_MAX], expected[ADDRESS_MAX + 512];
    struct mb_arena arena = {0};
    size_t n = 0;
    if (!entry_path(remote, path))
        return;
    const char *text = mb_file_read(&arena, NULL, path, ENTRY_MAX + sizeof expected, &n);
    /* The bytes lie behind the fourth line end; the head is then what we would write for them, or
     * the entry is bad. */
    const char *at = text;
    for (unsigned i = 0; i < 4 && at; i++) {
        at = memchr(at, '\n', n - (size_t)(at - text));
        at = at ? at + 1 : NULL;
    }
    if (at) {
        size_t bytes_n = n - (size_t)(at - text);
        int head_n = entry_head(remote, at, bytes_n, expected, sizeof expected);
        unsigned char *copy = NULL;
        if (head_n == at - text && memcmp(expected, text, (size_t)head_n) == 0 &&
            bytes_n >= remote->n && memcmp(at, remote->bytes, remote->n) == 0)
            copy = malloc(bytes_n ? bytes_n : 1);
        if (copy) {
            memcpy(copy, at, bytes_n);
            free(remote->bytes);
            remote->bytes = copy;
            remote->n = bytes_n;
            remote->cached = 1;
        }
    }
    if (text && !remote->cached)
        unlink(path);
    mb_arena_free(&arena);
}

static void make_dirs(const char *path)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return;
    for (size_t i = 1; i <= n; i++) {
        if (path[i] && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        mkdir(part, 0777); /* what fails here fails again, and finally, when the entry is written */
    }
}

static void save_entry(const struct remote *remote)
{
    char path[PATH_MAX], head[ADDRESS_MAX + 512];
    if (remote->cached || remote->n <= PROBE_BYTES / 4 || memcmp(remote->bytes, "GGUF", 4) != 0 ||
        !entry_path(remote, path))
        return;
    int head_n = entry_head(remote, remote->bytes, remote->n, head, sizeof head);
    if (head_n <= 0 || (size_t)head_n >= sizeof head)
        return;
    char *whole = malloc((size_t)head_n + remote->n);
    if (!whole)
        return;
    memcpy(whole, head, (size_t)head_n);
    memcpy(whole + head_n, remote->bytes, remote->n);
    make_dirs(remote->cache_dir);
    mb_file_write(path, whole, (size_t)head_n + remote->n, NULL);
    free(whole);
}

/* ---- names ---- */

/* Letters that stand for themselves in a path; the rest is written as %XX. */
static int is_plain(char c)
{
    return isalnum((unsigned char)c) || strchr("-._~/", c);
}

static int is_repo_part(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-._", text[i]))
            return 0;
    return n > 0 && n <= 96 && text[0] != '.';
}

/* hf:owner/repo/path/file.gguf -> BASE/owner/repo/resolve/main/path/file.gguf */
static int make_url(const char *base, const char *name, char url[ADDRESS_MAX], struct mb_err *err)
{
    const char *owner = name + 3, *slash = strchr(owner, '/');
    const char *repo = slash ? slash + 1 : NULL, *slash2 = repo ? strchr(repo, '/') : NULL;
    const char *path = slash2 ? slash2 + 1 : NULL;
    if (!path || !is_repo_part(owner, (size_t)(slash - owner)) ||
        !is_repo_part(repo, (size_t)(slash2 - repo)) || !*path || *path == '/' ||
        strstr(path, "//") || strncmp(path, "../", 3) == 0 || strstr(path, "/../"))
        return mb_fail(err, MB_EINVAL, "%s: not of the form hf:owner/repo/path/file.gguf",
                       mb_source_label(name));
    size_t base_n = strlen(base);
    while (base_n && base[base_n - 1] == '/')
        base_n--;
    int n = snprintf(url, ADDRESS_MAX, "%.*s/%.*s/resolve/main/",
                     (int)(base_n < ADDRESS_MAX ? base_n : ADDRESS_MAX), base,
                     (int)(slash2 - owner), owner);
    for (; *path && n > 0 && n < ADDRESS_MAX - 4; path++)
        n += snprintf(url + n, ADDRESS_MAX - (size_t)n, is_plain(*path) ? "%c" : "%%%02X",
                      (unsigned char)*path);
    if (*path || n < 0 || n >= ADDRESS_MAX - 4)
        return mb_fail(err, MB_EINVAL, "%s: the name is too long", mb_source_label(name));
    return MB_OK;
}

/* ---- the hub as a source ---- */

/* The hub's refusals in its own terms: what is wrong, and what a person can do. */
static int explain(const struct remote *remote, const char *name, int with_token, int code,
                   struct mb_err *err)
{
    int status = mb_http_status(remote->http);
    const char *label = mb_source_label(name);
    if (status == 401 && with_token)
        return mb_fail(
            err, code,
            "%s: the hub does not accept the token in HF_TOKEN (401), or there is no such "
            "repository; renew the token or check the name",
            label);
    if (status == 401)
        return mb_fail(
            err, code,
            "%s: gated, private, or no such repository (401): set HF_TOKEN or check the name",
            label);
    if (status == 403 && with_token)
        return mb_fail(
            err, code,
            "%s: gated (403): accept the model's conditions on its page with the account of HF_TOKEN",
            label);
    if (status == 403)
        return mb_fail(
            err, code,
            "%s: gated (403): accept the model's conditions on its page, then set HF_TOKEN", label);
    if (status == 404)
        return mb_fail(err, code,
                       "%s: the hub has no such file (404); check the names of repository and file",
                       label);
    return code;
}

static void remote_close(void *handle)
{
    struct remote *remote = handle;
    if (!remote)
        return;
    if (remote->bytes)
        save_entry(remote);
    mb_http_close(remote->http);
    free(remote->bytes);
    free(remote->url);
    free(remote);
}

static int remote_open(void *user, const char *name, void **handle, uint64_t *file_bytes,
                       struct mb_err *err)
{
    const struct mb_hf_opts *opts = user;
    char url[ADDRESS_MAX];
    int code = make_url(opts->base ? opts->base : "https://huggingface.co", name, url, err);
    if (code)
        return code;
    struct remote *remote = calloc(1, sizeof *remote);
    if (!remote)
        return mb_fail_memory(err);
    remote->cache_dir = opts->cache_dir;
    remote->url = strdup(url);
    remote->bytes = malloc(PROBE_BYTES);
    code = remote->url && remote->bytes ? mb_http_open(url, &opts->http, &remote->http, err)
                                        : mb_fail_memory(err);
    if (!code) {
        code = mb_http_read(remote->http, 0, remote->bytes, PROBE_BYTES, &remote->n, err);
        if (code)
            code = explain(remote, name, opts->http.token != NULL, code, err);
    }
    if (code) {
        free(remote->bytes);
        remote->bytes = NULL; /* nothing to keep */
        remote_close(remote);
        return code;
    }
    load_entry(remote);
    *handle = remote;
    *file_bytes = mb_http_file_bytes(remote->http);
    return MB_OK;
}

static int remote_read(void *handle, uint64_t at, void *to, size_t n, size_t *got,
                       struct mb_err *err)
{
    struct remote *remote = handle;
    *got = 0;
    if (at < remote->n) {
        size_t there = remote->n - (size_t)at;
        *got = n < there ? n : there;
        memcpy(to, remote->bytes + at, *got);
    }
    if (*got == n)
        return MB_OK;
    size_t more = 0;
    int code = mb_http_read(remote->http, at + *got, (char *)to + *got, n - *got, &more, err);
    if (code)
        return code;
    /* Keep what continues the beginning. */
    uint64_t from = at + *got;
    if (more && from == remote->n && from + more <= ENTRY_MAX) {
        unsigned char *larger = realloc(remote->bytes, remote->n + more);
        if (larger) {
            memcpy(larger + remote->n, (char *)to + *got, more);
            remote->bytes = larger;
            remote->n += more;
            remote->cached = 0;
        }
    }
    *got += more;
    return MB_OK;
}

int mb_hf_open(const char *name, const struct mb_hf_opts *opts, struct mb_gguf **out,
               struct mb_err *err)
{
    struct mb_hf_opts copy = opts ? *opts : (struct mb_hf_opts){0};
    if (!mb_hf_is_name(name))
        return mb_fail(err, MB_EINVAL, "%s: not of the form hf:owner/repo/path/file.gguf",
                       mb_source_label(name));
    struct mb_source source = {remote_open, remote_read, remote_close, &copy};
    return mb_gguf_open_source(&source, name, out, err);
}
