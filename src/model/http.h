/* SPDX-License-Identifier: MIT */
/* Windows of a file on a web server, by range requests. Nothing a server says is believed: not its
 * lengths, not its ranges, not where it sends us. */
#ifndef MB_HTTP_H
#define MB_HTTP_H

#include "model/source.h"

struct mb_http_opts {
    const char *token;  /* sent as a bearer token to the origin (scheme, host, port) of the URL and
                           to no  other, wherever it redirects; NULL: none */
    unsigned connect_s; /* give up connecting after so many seconds; 0: 15 */
    unsigned stall_s;   /* give up when under 4 KiB/s for so long; 0: 30 */
    unsigned retry_ms;  /* pause before the first retry, doubled for each further one; 0: 500 */
    const volatile int *cancel; /* may be NULL; set to non-zero to stop */
};

struct mb_http;

/* A file at an http or https URL. Nothing is sent yet. MB_OK; MB_EINVAL: no such URL; MB_ENOMEM. */
int mb_http_open(const char *url, const struct mb_http_opts *opts, struct mb_http **out,
                 struct mb_err *err);

/* Up to n bytes from `at`; *got is less than n only at the end of the file. Follows up to 10
 * redirects to http or https, resumes up to 4 times in a row after a dropped connection, and stops
 * a server that sends the whole file after the window. Returns MB_OK; MB_ENOENT: 404 or 410;
 * MB_EIO: 401 or 403; MB_EFORMAT: the server contradicts itself, or the file changed between two
 * windows; MB_ENET; MB_ECANCEL; MB_ENOMEM. */
int mb_http_read(struct mb_http *http, uint64_t at, void *to, size_t n, size_t *got,
                 struct mb_err *err);

/* Learnt from the replies so far: size (MB_SOURCE_UNKNOWN), entity tag ("" unknown), status of the
 * last (0 none). */
uint64_t mb_http_file_bytes(const struct mb_http *http);
const char *mb_http_etag(const struct mb_http *http);
int mb_http_status(const struct mb_http *http);

void mb_http_close(struct mb_http *http);

/* ---- one reply's head, without a network ---- */

struct mb_http_head {
    int status;              /* 0: no status line yet */
    uint64_t content_length; /* MB_SOURCE_UNKNOWN */
    int has_range;           /* first <= last; total is over last or MB_SOURCE_UNKNOWN */
    uint64_t range_first, range_last, range_total;
    char etag[128]; /* "" if absent or not printable */
    int complete;   /* the empty line was there; only a new status line counts after it */
    int bad;        /* malformed or contradictory */
    size_t n_bytes;
};

/* Take one line (with or without its line end; not terminated) into head. A status line starts a
 * new reply. Returns MB_OK; MB_EFORMAT: over 64 KiB of lines. Zero-initialise head before the first
 * line. */
int mb_http_head_line(struct mb_http_head *head, const char *line, size_t n);

#endif
