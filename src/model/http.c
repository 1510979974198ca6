/* SPDX-License-Identifier: MIT */
/* Range requests by libcurl. Redirects are followed here and not by libcurl, so that the token's
 * way can be read in one place. */
#include "model/http.h"

#include "base/base.h"

#include <curl/curl.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    HEAD_MAX = 64 * 1024,
    BODY_IGNORED_MAX = 64 * 1024, /* of a redirect or an error page */
    REDIRECTS_MAX = 10,
    RETRIES_MAX = 4,
    PROGRESS_MIN = 64 * 1024, /* with so many new bytes, the retries count from the start again */
    SLOW_BYTES_PER_S = 4096
};

/* ---- a reply's head ---- */

/* Decimal digits only, at least one, that fit 63 bits. Returns the place behind them or NULL. */
static const char *take_digits(const char *from, const char *end, uint64_t *out)
{
    uint64_t value = 0;
    const char *p = from;
    for (; p < end && isdigit((unsigned char)*p); p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (value > ((uint64_t)INT64_MAX - digit) / 10)
            return NULL;
        value = value * 10 + digit;
    }
    *out = value;
    return p > from ? p : NULL;
}

/* "bytes 0-99/1000" or "bytes 0-99/<star>"; anything else, "bytes <star>/1000" of a 416 included,
 * is bad. */
static int take_range(struct mb_http_head *head, const char *p, const char *end)
{
    uint64_t first, last, total = MB_SOURCE_UNKNOWN;
    if (end - p < 6 || strncasecmp(p, "bytes", 5) != 0 || p[5] != ' ')
        return 0;
    p = take_digits(p + 6, end, &first);
    if (!p || p == end || *p != '-')
        return 0;
    p = take_digits(p + 1, end, &last);
    if (!p || p == end || *p != '/')
        return 0;
    p++;
    if (end - p == 1 && *p == '*')
        p++;
    else
        p = take_digits(p, end, &total);
    if (p != end || first > last || total <= last)
        return 0;
    if (head->has_range &&
        (head->range_first != first || head->range_last != last || head->range_total != total))
        return 0;
    head->has_range = 1;
    head->range_first = first;
    head->range_last = last;
    head->range_total = total;
    return 1;
}

static int take_length(struct mb_http_head *head, const char *p, const char *end)
{
    uint64_t length;
    if (take_digits(p, end, &length) != end)
        return 0;
    if (head->content_length != MB_SOURCE_UNKNOWN && head->content_length != length)
        return 0;
    head->content_length = length;
    return 1;
}

static void take_etag(struct mb_http_head *head, const char *p, const char *end)
{
    size_t n = (size_t)(end - p);
    if (!n || n >= sizeof head->etag || *head->etag)
        return;
    for (size_t i = 0; i < n; i++)
        if (p[i] < 0x21 || p[i] > 0x7e)
            return;
    memcpy(head->etag, p, n);
    head->etag[n] = 0;
}

/* "HTTP/1.1 206 Partial Content", "HTTP/2 200". */
static int take_status(struct mb_http_head *head, const char *line, const char *end)
{
    const char *p = memchr(line, ' ', (size_t)(end - line));
    uint64_t status;
    if (!p)
        return 0;
    p = take_digits(p + 1, end, &status);
    if (!p || (p < end && *p != ' ') || status < 100 || status > 999)
        return 0;
    head->status = (int)status;
    return 1;
}

int mb_http_head_line(struct mb_http_head *head, const char *line, size_t n)
{
    const char *end = line + n;
    if (end > line && end[-1] == '\n')
        end--;
    if (end > line && end[-1] == '\r')
        end--;
    if (end - line >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        /* The bytes go on counting, or a server could send interim replies for ever. */
        *head = (struct mb_http_head){.content_length = MB_SOURCE_UNKNOWN,
                                      .range_total = MB_SOURCE_UNKNOWN,
                                      .n_bytes = head->n_bytes};
        head->bad = !take_status(head, line, end);
    }
    if (n > HEAD_MAX - head->n_bytes)
        return MB_EFORMAT;
    head->n_bytes += n;
    if (head->complete)
        return MB_OK; /* a trailer behind the body */
    if (line == end) {
        head->complete = 1;
        return MB_OK;
    }
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon)
        return MB_OK;
    size_t name_n = (size_t)(colon - line);
    const char *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (name_n == 13 && strncasecmp(line, "content-range", name_n) == 0)
        head->bad |= !take_range(head, value, end);
    else if (name_n == 14 && strncasecmp(line, "content-length", name_n) == 0)
        head->bad |= !take_length(head, value, end);
    else if (name_n == 4 && strncasecmp(line, "etag", name_n) == 0)
        take_etag(head, value, end);
    return MB_OK;
}

/* ---- one request ---- */

struct mb_http {
    CURL *curl;
    CURLU *origin;
    struct curl_slist *plain, *with_token; /* request headers; with_token is NULL without one */
    struct mb_http_opts opts;
    char *url, *label;
    uint64_t file_bytes;
    char etag[128];
    int status, answered;
};

/* Where a running transfer puts its bytes. */
struct transfer {
    struct mb_http *http;
    struct mb_http_head head;
    uint64_t at; /* of the window in the file */
    unsigned char *to;
    size_t n, got;
    uint64_t skip;     /* bytes before the window, when the server sends all */
    uint64_t expected; /* bytes of the body that the head announced; MB_SOURCE_UNKNOWN */
    uint64_t ignored;
    int judged, done;
    int code; /* a refusal; err has the text */
    struct mb_err *err;
};

static size_t on_header(char *line, size_t one, size_t n, void *user)
{
    struct transfer *t = user;
    if (mb_http_head_line(&t->head, line, n * one) == MB_OK)
        return n * one;
    t->code = mb_fail(t->err, MB_EFORMAT,
                      "%s: the server sends an endless head; it is no file server", t->http->label);
    return 0;
}

static int refuse(struct transfer *t, const char *what)
{
    return t->code =
               mb_fail(t->err, MB_EFORMAT,
                       "%s: the server contradicts itself: %s; try again, or download the file",
                       t->http->label, what);
}

/* The head is complete: does it answer what was asked, and is it still the same file? */
static int judge(struct transfer *t)
{
    struct mb_http *http = t->http;
    const struct mb_http_head *head = &t->head;
    uint64_t total = MB_SOURCE_UNKNOWN;
    t->judged = 1;
    if (head->bad)
        return refuse(t, "a length or a range in its head is malformed or there twice");
    if (head->status == 206) {
        if (!head->has_range)
            return refuse(t, "a part of the file without its range");
        if (head->range_first != t->at || head->range_last - t->at >= t->n)
            return refuse(t, "another range than the one asked for");
        t->expected = head->range_last - head->range_first + 1;
        if (head->content_length != MB_SOURCE_UNKNOWN && head->content_length != t->expected)
            return refuse(t, "its range and its length differ");
        total = head->range_total;
    } else { /* 200: the whole file comes, whatever was asked */
        t->expected = total = head->content_length;
        t->skip = t->at;
        if (total == 0)
            return t->code = mb_fail(t->err, MB_EFORMAT, "%s: the file is empty", http->label);
        if (t->at >= total)
            return refuse(t, "the file is shorter than it said before");
    }
    if (http->answered && ((total != MB_SOURCE_UNKNOWN && http->file_bytes != MB_SOURCE_UNKNOWN &&
                            total != http->file_bytes) ||
                           strcmp(head->etag, http->etag) != 0))
        return t->code = mb_fail(t->err, MB_EFORMAT,
                                 "%s: the file changed while it was read; try again", http->label);
    http->answered = 1;
    if (total != MB_SOURCE_UNKNOWN)
        http->file_bytes = total;
    memcpy(http->etag, head->etag, sizeof http->etag);
    return MB_OK;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *user)
{
    struct transfer *t = user;
    size_t all = n * one, taken = all;
    if (t->head.status != 200 && t->head.status != 206) {
        t->ignored += all;
        return t->ignored > BODY_IGNORED_MAX ? 0 : all;
    }
    if (!t->judged && judge(t))
        return 0;
    if (t->expected != MB_SOURCE_UNKNOWN) {
        if (all > t->expected) {
            refuse(t, "more bytes than it announced");
            return 0;
        }
        t->expected -= all;
    }
    if (t->skip) {
        size_t skipped = all < t->skip ? all : (size_t)t->skip;
        t->skip -= skipped;
        bytes += skipped;
        all -= skipped;
    }
    size_t room = t->n - t->got, copied = all < room ? all : room;
    memcpy(t->to + t->got, bytes, copied);
    t->got += copied;
    if (all > copied && t->head.status == 206) {
        refuse(t, "more bytes than were asked for");
        return 0;
    }
    /* Enough: returning less than was offered ends the transfer of a server that would send the
     * whole file. */
    t->done = t->got == t->n;
    return t->done && t->head.status == 200 ? 0 : taken;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    const struct mb_http *http = user;
    return http->opts.cancel && *http->opts.cancel;
}

static int same_part(CURLU *a, CURLU *b, CURLUPart part, unsigned flags)
{
    char *x = NULL, *y = NULL;
    int same = curl_url_get(a, part, &x, flags) == CURLUE_OK &&
               curl_url_get(b, part, &y, flags) == CURLUE_OK && strcasecmp(x, y) == 0;
    curl_free(x);
    curl_free(y);
    return same;
}

/* May this URL be asked, and is it of the origin that the token is for? */
static int check_url(const struct mb_http *http, const char *url, int *same_origin,
                     struct mb_err *err)
{
    CURLU *parts = curl_url();
    char *scheme = NULL;
    int code = MB_OK;
    if (!parts)
        return mb_fail_memory(err);
    if (curl_url_set(parts, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0))
        code =
            mb_fail(err, MB_EFORMAT, "%s: the server sends us to %.60s, which is not http; refused",
                    http->label, scheme ? scheme : "an address that is no URL");
    else
        *same_origin = same_part(parts, http->origin, CURLUPART_SCHEME, 0) &&
                       same_part(parts, http->origin, CURLUPART_HOST, 0) &&
                       same_part(parts, http->origin, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    curl_free(scheme);
    curl_url_cleanup(parts);
    return code;
}

/* One request to one URL. */
static CURLcode perform(struct mb_http *http, const char *url, int with_token, struct transfer *t)
{
    char range[64];
    CURL *curl = http->curl;
    snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, t->at, t->at + t->n - 1);
    t->head = (struct mb_http_head){0};
    t->ignored = t->skip = 0;
    t->judged = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_RANGE, range);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER,
                     with_token && http->with_token ? http->with_token : http->plain);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    return curl_easy_perform(curl);
}

static int is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* One request and the redirects that it leads to. *curl_code is what ended the last transfer. */
static int follow(struct mb_http *http, struct transfer *t, CURLcode *curl_code, struct mb_err *err)
{
    char *url = strdup(http->url);
    int code = url ? MB_OK : mb_fail_memory(err);
    for (unsigned n = 0; !code; n++) {
        int same_origin = 0;
        code = check_url(http, url, &same_origin, err);
        if (code)
            break;
        *curl_code = perform(http, url, same_origin, t);
        http->status = t->head.status;
        code = t->code;
        if (code || *curl_code || !is_redirect(t->head.status))
            break;
        char *next = NULL;
        curl_easy_getinfo(http->curl, CURLINFO_REDIRECT_URL, &next);
        if (!next) {
            code = mb_fail(err, MB_EFORMAT, "%s: the server sends us on without saying where",
                           http->label);
        } else if (n == REDIRECTS_MAX) {
            code = mb_fail(err, MB_EFORMAT, "%s: over %d redirects; the server goes in circles",
                           http->label, REDIRECTS_MAX);
        } else {
            free(url);
            url = strdup(next); /* next is the handle's and dies with its next request */
            code = url ? MB_OK : mb_fail_memory(err);
        }
    }
    free(url);
    return code;
}

/* ---- a window, with retries ---- */

static int is_passing(CURLcode code, int status)
{
    switch (code) {
    case CURLE_OK:
        return status == 408 || status == 429 || status == 200 || status == 206 ||
               (status >= 500 && status != 501);
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return 1;
    default:
        return 0;
    }
}

static int fail_status(const struct mb_http *http, struct mb_err *err)
{
    int status = http->status;
    if (status == 404 || status == 410)
        return mb_fail(err, MB_ENOENT, "%s: the server has no such file (%d); check the name",
                       http->label, status);
    if (status == 401 || status == 403)
        return mb_fail(err, MB_EIO, "%s: the server refuses access (%d); give a token", http->label,
                       status);
    return mb_fail(err, MB_ENET, "%s: the server answers with status %d; try again later",
                   http->label, status);
}

static void pause_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

int mb_http_read(struct mb_http *http, uint64_t at, void *to, size_t n, size_t *got,
                 struct mb_err *err)
{
    *got = 0;
    unsigned failures = 0;
    size_t mark = 0;
    for (;;) {
        uint64_t from = at + *got;
        if (http->file_bytes != MB_SOURCE_UNKNOWN && from >= http->file_bytes)
            return MB_OK;
        if (*got == n)
            return MB_OK;
        struct transfer t = {
            .http = http, .at = from, .to = (unsigned char *)to + *got, .n = n - *got, .err = err};
        if (http->file_bytes != MB_SOURCE_UNKNOWN && t.n > http->file_bytes - from)
            t.n = (size_t)(http->file_bytes - from);
        CURLcode why = CURLE_OK;
        int code = follow(http, &t, &why, err);
        if (code)
            return code;
        if (why == CURLE_ABORTED_BY_CALLBACK)
            return mb_fail(err, MB_ECANCEL, "%s: cancelled", http->label);
        int good = http->status == 200 || http->status == 206;
        *got += t.got;
        if (good && !why && !t.judged) /* an empty body never reached on_body() */
            return judge(&t) ? t.code : refuse(&t, "an empty answer");
        if (t.done)
            continue;
        if (good && !why && t.got && http->status == 206 && t.expected == 0)
            continue; /* a shorter range than asked for is allowed; go on behind it */
        if (good && !why && http->status == 200 && http->file_bytes == MB_SOURCE_UNKNOWN) {
            http->file_bytes = at + *got; /* it ended where the file ends */
            if (t.skip)
                return refuse(&t, "the file is shorter than it was before");
            return MB_OK;
        }
        if (!why && http->status == 416 && http->answered &&
            http->file_bytes == MB_SOURCE_UNKNOWN) {
            http->file_bytes = from; /* of a file whose size it does not tell, the end */
            return MB_OK;
        }
        if (!is_passing(why, http->status)) {
            if (!why || http->status >= 400)
                return fail_status(http, err);
            return mb_fail(err, MB_ENET, "%s: %s; check the connection", http->label,
                           curl_easy_strerror(why));
        }
        if (*got - mark >= PROGRESS_MIN) {
            mark = *got;
            failures = 0;
        }
        if (failures == RETRIES_MAX) {
            if (!good && !why)
                return fail_status(http, err);
            return mb_fail(err, MB_ENET, "%s: %s, %u times in a row; try again later", http->label,
                           why ? curl_easy_strerror(why) : "the connection was dropped",
                           failures + 1);
        }
        pause_ms((http->opts.retry_ms ? http->opts.retry_ms : 500) << failures++);
        if (http->opts.cancel && *http->opts.cancel)
            return mb_fail(err, MB_ECANCEL, "%s: cancelled", http->label);
    }
}

/* ---- the handle ---- */

static int set_up(struct mb_http *http)
{
    CURL *curl = http->curl;
    int bad = 0;
#if LIBCURL_VERSION_NUM >= 0x075500
    bad |= curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK;
#else
    bad |= curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS)) !=
           CURLE_OK;
#endif
    bad |= curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) != CURLE_OK;
    bad |= curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) != CURLE_OK;
    bad |= curl_easy_setopt(curl, CURLOPT_USERAGENT, "membound/" MB_VERSION) != CURLE_OK;
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT,
                     (long)(http->opts.connect_s ? http->opts.connect_s : 15));
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
                     (long)(http->opts.stall_s ? http->opts.stall_s : 30));
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES_PER_S);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, http);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    return bad;
}

/* The token is a header line; a line end in it would start another. */
static int is_token(const char *token)
{
    for (const char *p = token; *p; p++)
        if (*p < 0x21 || *p > 0x7e)
            return 0;
    return *token != 0;
}

int mb_http_open(const char *url, const struct mb_http_opts *opts, struct mb_http **out,
                 struct mb_err *err)
{
    struct mb_http *http = calloc(1, sizeof *http);
    if (!http)
        return mb_fail_memory(err);
    if (opts)
        http->opts = *opts;
    http->file_bytes = MB_SOURCE_UNKNOWN;
    http->url = strdup(url);
    http->curl = curl_easy_init();
    http->origin = curl_url();
    http->plain = curl_slist_append(NULL, "Accept-Encoding: identity");
    http->label = strdup(mb_source_label(url));
    int same_origin, code = MB_OK;
    if (!http->url || !http->curl || !http->origin || !http->plain || !http->label || set_up(http))
        code = mb_fail_memory(err);
    else if (curl_url_set(http->origin, CURLUPART_URL, url, 0) != CURLUE_OK ||
             check_url(http, url, &same_origin, NULL) != MB_OK)
        code = mb_fail(err, MB_EINVAL, "%s: not an http or https URL", http->label);
    const char *token = http->opts.token;
    if (!code && token && !is_token(token))
        code = mb_fail(err, MB_EINVAL,
                       "the token holds blanks or control characters; check how it was set");
    if (!code && token) {
        size_t n = strlen(token) + 32;
        char *line = malloc(n);
        if (line) {
            snprintf(line, n, "Authorization: Bearer %s", token);
            http->with_token = curl_slist_append(NULL, line);
            free(line);
        }
        if (!http->with_token || !curl_slist_append(http->with_token, "Accept-Encoding: identity"))
            code = mb_fail_memory(err);
    }
    if (code) {
        mb_http_close(http);
        return code;
    }
    http->opts.token = NULL; /* the caller's; ours is in with_token */
    *out = http;
    return MB_OK;
}

void mb_http_close(struct mb_http *http)
{
    if (!http)
        return;
    curl_easy_cleanup(http->curl);
    curl_url_cleanup(http->origin);
    curl_slist_free_all(http->plain);
    curl_slist_free_all(http->with_token);
    free(http->label);
    free(http->url);
    free(http);
}

uint64_t mb_http_file_bytes(const struct mb_http *http)
{
    return http->file_bytes;
}

const char *mb_http_etag(const struct mb_http *http)
{
    return http->etag;
}

int mb_http_status(const struct mb_http *http)
{
    return http->status;
}
