/* SPDX-License-Identifier: MIT */
/* Suite for src/model/http.c and hf.c, against tests/gguf/serve.py on loopback: good servers, poor
 * ones, and liars. */
#include "base/base.h"
#include "model/hf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static const char *source_root;
static char dir[] = "/tmp/membound-http-XXXXXX";
static char cache[sizeof dir + 16];
static pid_t server;
static int server_stdin = -1;
static unsigned ports[2];

enum { SMALL_BYTES = 10000, N_TOKENS = 300000 };

/* ---- the files and the server ---- */

static void write_small(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/small.bin", dir);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (unsigned i = 0; i < SMALL_BYTES; i++)
        fputc((int)(i * 7 % 251), file);
    assert_int_equal(fclose(file), 0);
}

static void put(FILE *file, uint64_t value, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        fputc((int)(value >> 8 * i & 0xff), file);
}

static void put_text(FILE *file, const char *text)
{
    put(file, strlen(text), 8);
    fputs(text, file);
}

/* A model whose header has 4 MB of tokens and one tensor of 40 GB; the data is not there. */
static void write_model(const char *name, uint64_t rows)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs("GGUF", file);
    put(file, 3, 4);
    put(file, 1, 8);
    put(file, 1, 8);
    put_text(file, "tokenizer.ggml.tokens");
    put(file, MB_GGUF_ARRAY, 4);
    put(file, MB_GGUF_TEXT, 4);
    put(file, N_TOKENS, 8);
    for (unsigned i = 0; i < N_TOKENS; i++) {
        char token[16];
        snprintf(token, sizeof token, "t%05u", i);
        put_text(file, token);
    }
    put_text(file, "x.weight");
    put(file, 2, 4);
    put(file, 1024, 8);
    put(file, rows, 8);
    put(file, MB_TYPE_F32, 4);
    put(file, 0, 8);
    while (ftell(file) % 32)
        fputc(0, file);
    assert_int_equal(fclose(file), 0);
}

static int start(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(cache, sizeof cache, "%s/cache/deep", dir);
    write_small();
    write_model("model.gguf", 10000000);
    char script[PATH_MAX], command[PATH_MAX * 2];
    snprintf(command, sizeof command,
             "cp '%s'/tests/data/gguf/split-*.gguf '%s'/tests/data/gguf/llama.gguf '%s'",
             source_root, source_root, dir);
    if (system(command) != 0)
        return -1;
    snprintf(script, sizeof script, "%s/tests/gguf/serve.py", source_root);
    int in[2], out[2];
    if (pipe(in) || pipe(out))
        return -1;
    server = fork();
    if (server == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[0]), close(in[1]), close(out[0]), close(out[1]);
        execlp("python3", "python3", script, dir, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server_stdin = in[1];
    FILE *said = fdopen(out[0], "r");
    int n = said ? fscanf(said, "%u %u", &ports[0], &ports[1]) : 0;
    if (said)
        fclose(said);
    return n == 2 ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    char command[PATH_MAX];
    close(server_stdin); /* the server ends with its standard input */
    waitpid(server, NULL, 0);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const struct mb_http_opts fast = {.connect_s = 5, .stall_s = 1, .retry_ms = 1};

/* Read a window of DIR/file in the manner of mode. */
static int fetch(const char *mode, const char *file, uint64_t at, void *to, size_t n, size_t *got,
                 struct mb_err *err)
{
    char url[256];
    struct mb_http *http = NULL;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/%s/%s", ports[0], mode, file);
    assert_int_equal(mb_http_open(url, &fast, &http, err), MB_OK);
    int code = mb_http_read(http, at, to, n, got, err);
    mb_http_close(http);
    return code;
}

static uint64_t stat_of(const char *key)
{
    char text[32] = "", mode[64];
    size_t got = 0;
    struct mb_err err;
    snprintf(mode, sizeof mode, "stats/%s", key);
    char url[256];
    struct mb_http *http = NULL;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/%s", ports[0], mode);
    assert_int_equal(mb_http_open(url, &fast, &http, &err), MB_OK);
    if (mb_http_read(http, 0, text, sizeof text - 1, &got, &err))
        fail_msg("%s", err.text);
    mb_http_close(http);
    return strtoull(text, NULL, 10);
}

static void check_small(const unsigned char *bytes, uint64_t at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(bytes[i], (at + i) * 7 % 251);
}

/* ---- windows ---- */

static void windows_come_from_many_servers(void **state)
{
    (void)state;
    static const char *const modes[] = {"good", "whole", "nototal", "short", "truncating", "flaky"};
    static const struct {
        uint64_t at;
        size_t n, got;
    } windows[] = {{0, 100, 100},      {0, SMALL_BYTES, SMALL_BYTES},
                   {5000, 1000, 1000}, {9990, 100, 10},
                   {9999, 1, 1},       {0, 3 * SMALL_BYTES, SMALL_BYTES}};
    for (size_t m = 0; m < MB_COUNT(modes); m++) {
        for (size_t i = 0; i < MB_COUNT(windows); i++) {
            size_t got = 0;
            struct mb_err err;
            unsigned char *bytes = malloc(windows[i].n);
            int code = fetch(modes[m], "small.bin", windows[i].at, bytes, windows[i].n, &got, &err);
            /* Halving 10,000 bytes takes more tries than are allowed without progress; that is
             * told. */
            if (strcmp(modes[m], "truncating") == 0 && windows[i].got > 31) {
                assert_int_equal(code, MB_ENET);
            } else {
                if (code)
                    fail_msg("%s %zu: %s", modes[m], i, err.text);
                assert_int_equal(got, windows[i].got);
            }
            check_small(bytes, windows[i].at, got);
            free(bytes);
        }
    }
    /* A dropping line is resumed while each try brings 64 KiB or more; the halves end below that.
     */
    size_t n = 7000000, got = 0;
    unsigned char *bytes = malloc(n);
    struct mb_err err;
    int code = fetch("truncating", "model.gguf", 0, bytes, n - 1000000, &got, &err);
    assert_int_equal(code, MB_ENET);
    assert_true(got > n / 2);
    assert_memory_equal(bytes, "GGUF", 4);
    free(bytes);
}

static void one_handle_reads_many_windows(void **state)
{
    (void)state;
    char url[256];
    struct mb_http *http = NULL;
    unsigned char bytes[1000];
    size_t got = 0;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/good/small.bin", ports[0]);
    assert_int_equal(mb_http_open(url, &fast, &http, NULL), MB_OK);
    assert_true(mb_http_file_bytes(http) == MB_SOURCE_UNKNOWN);
    for (uint64_t at = 0; at < SMALL_BYTES; at += sizeof bytes) {
        assert_int_equal(mb_http_read(http, at, bytes, sizeof bytes, &got, NULL), MB_OK);
        assert_int_equal(got, sizeof bytes);
        check_small(bytes, at, got);
    }
    assert_int_equal(mb_http_file_bytes(http), SMALL_BYTES);
    assert_string_equal(mb_http_etag(http), "\"one\"");
    assert_int_equal(mb_http_status(http), 206);
    uint64_t before = stat_of("good.requests");
    assert_int_equal(mb_http_read(http, SMALL_BYTES, bytes, 10, &got, NULL), MB_OK);
    assert_int_equal(got, 0);
    assert_int_equal(stat_of("good.requests"), before);
    mb_http_close(http);
}

static void liars_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *mode;
        int code;
        const char *text;
    } cases[] = {
        {"liar-start", MB_EFORMAT, "another range"},
        {"liar-length", MB_EFORMAT, "its range and its length differ"},
        {"liar-range", MB_EFORMAT, "another range"},
        {"liar-syntax", MB_EFORMAT, "malformed"},
        {"liar-more", MB_EFORMAT, "more bytes"},
        {"liar-norange", MB_EFORMAT, "without its range"},
        {"dropping", MB_ENET, "5 times in a row"},
        {"slow", MB_ENET, "times in a row"},
        {"headers", MB_EFORMAT, "endless head"},
        {"loop", MB_EFORMAT, "in circles"},
        {"to-file", MB_EFORMAT, "file, which is not http"},
        {"to-ftp", MB_EFORMAT, "ftp, which is not http"},
        {"nowhere", MB_EFORMAT, "without saying where"},
        {"404", MB_ENOENT, "404"},
        {"410", MB_ENOENT, "410"},
        {"401", MB_EIO, "401"},
        {"403", MB_EIO, "403"},
        {"500", MB_ENET, "status 500"},
        {"400", MB_ENET, "status 400"},
        {"204", MB_ENET, "status 204"},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        unsigned char bytes[200];
        size_t got = 0;
        struct mb_err err = {0};
        int code = fetch(cases[i].mode, "small.bin", 0, bytes, sizeof bytes, &got, &err);
        if (code != cases[i].code || !strstr(err.text, cases[i].text))
            fail_msg("%s: expected \"%s\", got %d \"%s\"", cases[i].mode, cases[i].text, code,
                     err.text);
    }
    struct mb_http *http = NULL;
    struct mb_err err;
    static const char *const urls[] = {"file:///etc/passwd", "ftp://127.0.0.1/x", "nonsense", "",
                                       "http://"};
    for (size_t i = 0; i < MB_COUNT(urls); i++)
        assert_int_equal(mb_http_open(urls[i], NULL, &http, &err), MB_EINVAL);
    struct mb_http_opts opts = fast;
    opts.token = "a\r\nHost: elsewhere";
    assert_int_equal(mb_http_open("http://127.0.0.1/", &opts, &http, &err), MB_EINVAL);
    assert_null(http);
}

/* What differs only between two windows of one handle. */
static void changes_between_windows_are_seen(void **state)
{
    (void)state;
    static const char *const modes[] = {"changing", "liar-total"};
    for (size_t i = 0; i < MB_COUNT(modes); i++) {
        char url[256], bytes[100];
        struct mb_http *http = NULL;
        struct mb_err err;
        size_t got = 0;
        snprintf(url, sizeof url, "http://127.0.0.1:%u/%s/small.bin", ports[0], modes[i]);
        assert_int_equal(mb_http_open(url, &fast, &http, &err), MB_OK);
        assert_int_equal(mb_http_read(http, 0, bytes, sizeof bytes, &got, &err), MB_OK);
        assert_int_equal(mb_http_read(http, 100, bytes, sizeof bytes, &got, &err), MB_EFORMAT);
        assert_non_null(strstr(err.text, "changed while it was read"));
        mb_http_close(http);
    }
}

static void nobody_home_is_told(void **state)
{
    (void)state;
    /* A port that was just free: bound and not listening. */
    struct mb_http *http = NULL;
    struct mb_err err;
    char byte;
    size_t got;
    assert_int_equal(mb_http_open("http://127.0.0.1:1/x", &fast, &http, &err), MB_OK);
    assert_int_equal(mb_http_read(http, 0, &byte, 1, &got, &err), MB_ENET);
    mb_http_close(http);
    volatile int cancel = 1;
    struct mb_http_opts opts = fast;
    opts.cancel = &cancel;
    char url[256];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/good/small.bin", ports[0]);
    assert_int_equal(mb_http_open(url, &opts, &http, &err), MB_OK);
    assert_int_equal(mb_http_read(http, 0, &byte, 1, &got, &err), MB_ECANCEL);
    mb_http_close(http);
}

/* ---- the head, without a server ---- */

static void heads_are_parsed_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int bad;
    } ranges[] = {
        {"Content-Range: bytes 0-99/1000", 0},
        {"content-range:bytes 0-0/1\r\n", 0},
        {"Content-Range: bytes 0-99/*", 0},
        {"Content-Range: bytes 99-0/1000", 1},
        {"Content-Range: bytes 0-99/99", 1},
        {"Content-Range: bytes 0-99/100 ", 0},
        {"Content-Range: bytes 0-99/100x", 1},
        {"Content-Range: bytes 0-99", 1},
        {"Content-Range: bytes */1000", 1},
        {"Content-Range: bytes -1-99/1000", 1},
        {"Content-Range: bytes 0-9223372036854775808/*", 1},
        {"Content-Range: bytes 0-99999999999999999999999/*", 1},
        {"Content-Range: lines 0-99/1000", 1},
        {"Content-Range:", 1},
        {"Content-Length: 12", 0},
        {"Content-Length: -12", 1},
        {"Content-Length: 12, 12", 1},
        {"Content-Length: 0x10", 1},
        {"Content-Length:", 1},
        {"nonsense", 0},
    };
    for (size_t i = 0; i < MB_COUNT(ranges); i++) {
        struct mb_http_head head = {0};
        static const char status[] = "HTTP/1.1 206 Partial Content\r\n";
        assert_int_equal(mb_http_head_line(&head, status, sizeof status - 1), MB_OK);
        size_t n = strlen(ranges[i].line);
        char *copy = malloc(n ? n : 1); /* exact, so that ASan sees a read past the end */
        memcpy(copy, ranges[i].line, n);
        assert_int_equal(mb_http_head_line(&head, copy, n), MB_OK);
        free(copy);
        if (head.bad != ranges[i].bad)
            fail_msg("%s: bad is %d", ranges[i].line, head.bad);
        assert_int_equal(head.status, 206);
    }
    static const struct {
        const char *line;
        int status;
    } statuses[] = {{"HTTP/1.1 200 OK", 200}, {"HTTP/2 206", 206}, {"HTTP/1.1 99 x", 0},
                    {"HTTP/1.1 2000", 0},     {"HTTP/1.1", 0},     {"HTTP/1.1 20x", 0}};
    for (size_t i = 0; i < MB_COUNT(statuses); i++) {
        struct mb_http_head head = {0};
        mb_http_head_line(&head, statuses[i].line, strlen(statuses[i].line));
        assert_int_equal(head.status, statuses[i].status);
        assert_int_equal(head.bad, statuses[i].status == 0);
    }
    struct mb_http_head head = {0};
    static const char *const lines[] = {"HTTP/1.1 200 OK",
                                        "Content-Length: 5",
                                        "Content-Length: 6",
                                        "HTTP/1.1 206 x",
                                        "ETag: W/\"abc\"",
                                        "ETag: \"later\"",
                                        "",
                                        "Content-Length: x"};
    for (size_t i = 0; i < MB_COUNT(lines); i++) {
        mb_http_head_line(&head, lines[i], strlen(lines[i]));
        assert_int_equal(head.bad, i == 2);
    }
    assert_string_equal(head.etag, "W/\"abc\"");
    assert_int_equal(head.complete, 1);
    int code = MB_OK;
    for (unsigned i = 0; i < 100000 && !code; i++)
        code = mb_http_head_line(&head, "X: y", 4);
    assert_int_equal(code, MB_EFORMAT);
}

/* ---- models on a hub ---- */

static int open_hub(const char *mode, const char *name, const char *cache_dir, const char *token,
                    struct mb_gguf **out, struct mb_err *err)
{
    char base[64];
    snprintf(base, sizeof base, "http://127.0.0.1:%u/%s", ports[0], mode);
    struct mb_hf_opts opts = {base, cache_dir, fast};
    opts.http.token = token;
    return mb_hf_open(name, &opts, out, err);
}

static void headers_cost_no_download(void **state)
{
    (void)state;
    static const char *const modes[] = {"huge", "noranges", "nolength"};
    for (size_t i = 0; i < MB_COUNT(modes); i++) {
        struct mb_gguf *gguf = NULL;
        struct mb_err err;
        char key[64];
        if (open_hub(modes[i], "hf:owner/repo/dir/model.gguf", NULL, NULL, &gguf, &err))
            fail_msg("%s: %s", modes[i], err.text);
        assert_int_equal(mb_gguf_n_tensors(gguf), 1);
        assert_true(mb_gguf_tensor_bytes(gguf) == UINT64_C(40960000000));
        uint64_t n = 0;
        enum mb_gguf_value type;
        assert_int_equal(mb_gguf_array_n(gguf, "tokenizer.ggml.tokens", &n, &type), MB_OK);
        assert_int_equal(n, N_TOKENS);
        if (i == 0)
            assert_true(mb_gguf_file_bytes(gguf) == UINT64_C(60000000000));
        else if (i == 2)
            assert_true(mb_gguf_file_bytes(gguf) == MB_SOURCE_UNKNOWN);
        mb_gguf_close(gguf);
        /* The header is 4.2 MB. Windows of 1, 2, 4 and 8 MiB, each from the start where there are
         * no ranges, and what lay in the sockets' buffers when we hung up. */
        snprintf(key, sizeof key, "%s.bytes", modes[i]);
        assert_true(stat_of(key) < (i == 0 ? 9000000 : 60000000));
    }
}

static void parts_are_fetched(void **state)
{
    (void)state;
    struct mb_gguf *gguf = NULL;
    struct mb_err err;
    if (open_hub("good", "hf:owner/repo/split-00002-of-00003.gguf", NULL, NULL, &gguf, &err))
        fail_msg("%s", err.text);
    assert_int_equal(mb_gguf_n_parts(gguf), 3);
    mb_gguf_close(gguf);
    gguf = NULL;
    /* More of the file is stated than there is data: seen without a download. */
    assert_int_equal(open_hub("good", "hf:owner/repo/model.gguf", NULL, NULL, &gguf, &err),
                     MB_EFORMAT);
    assert_non_null(strstr(err.text, "truncated download"));
    assert_int_equal(open_hub("html", "hf:owner/repo/llama.gguf", NULL, NULL, &gguf, &err),
                     MB_EFORMAT);
    assert_non_null(strstr(err.text, "an HTML page; the download failed"));
    static const char *const names[] = {
        "hf:",        "hf:owner",         "hf:owner/repo",       "hf:owner/repo/",
        "hf:/repo/x", "hf:owner/re po/x", "hf:owner/repo/../x",  "hf:../repo/x",
        "x.gguf",     "hf:owner/repo//x", "hf:owner/repo/a/../b"};
    for (size_t i = 0; i < MB_COUNT(names); i++)
        assert_int_equal(open_hub("good", names[i], NULL, NULL, &gguf, &err), MB_EINVAL);
    assert_null(gguf);
}

static void refusals_name_the_mend(void **state)
{
    (void)state;
    static const struct {
        const char *mode, *token;
        int code;
        const char *text;
    } cases[] = {
        {"401", NULL, MB_EIO, "set HF_TOKEN"},
        {"401", "test-token", MB_EIO, "does not accept the token in HF_TOKEN"},
        {"403", NULL, MB_EIO, "then set HF_TOKEN"},
        {"403", "test-token", MB_EIO, "account of HF_TOKEN"},
        {"404", NULL, MB_ENOENT, "the hub has no such file"},
        {"gated", NULL, MB_EIO, "set HF_TOKEN"},
    };
    struct mb_gguf *gguf = NULL;
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct mb_err err = {0};
        int code =
            open_hub(cases[i].mode, "hf:owner/repo/llama.gguf", NULL, cases[i].token, &gguf, &err);
        if (code != cases[i].code || !strstr(err.text, cases[i].text))
            fail_msg("%s: expected \"%s\", got %d \"%s\"", cases[i].mode, cases[i].text, code,
                     err.text);
    }
}

static void the_token_stays_with_its_origin(void **state)
{
    (void)state;
    static const char *const modes[] = {"gated", "hostname", "renamed"};
    for (size_t i = 0; i < MB_COUNT(modes); i++) {
        struct mb_gguf *gguf = NULL;
        struct mb_err err;
        if (open_hub(modes[i], "hf:owner/repo/llama.gguf", NULL, "test-token", &gguf, &err))
            fail_msg("%s: %s", modes[i], err.text);
        mb_gguf_close(gguf);
    }
    assert_true(stat_of("target.requests") > 0);
    assert_int_equal(stat_of("target.tokens"), 0);
}

static unsigned entries(char *last)
{
    unsigned n = 0;
    DIR *open = opendir(cache);
    for (const struct dirent *entry = open ? readdir(open) : NULL; entry; entry = readdir(open)) {
        if (*entry->d_name == '.')
            continue;
        n++;
        snprintf(last, PATH_MAX, "%s/%.200s", cache, entry->d_name);
    }
    if (open)
        closedir(open);
    return n;
}

static void headers_are_kept(void **state)
{
    (void)state;
    struct mb_err err;
    char path[PATH_MAX] = "";
    uint64_t bytes = stat_of("huge.bytes"), fetched[5];
    for (unsigned round = 0; round < 5; round++) {
        if (round >= 2) { /* damage the entry: a byte of it, its end, or all of it */
            struct stat st;
            assert_int_equal(stat(path, &st), 0);
            FILE *file = fopen(path, "r+b");
            assert_non_null(file);
            fseek(file, round == 2 ? st.st_size / 2 : 0, SEEK_SET);
            if (round != 3)
                fputc('~', file);
            fclose(file);
            if (round == 3)
                assert_int_equal(truncate(path, st.st_size - 1), 0);
        }
        struct mb_gguf *gguf = NULL;
        if (open_hub("huge", "hf:owner/repo/model.gguf", cache, NULL, &gguf, &err))
            fail_msg("round %u: %s", round, err.text);
        assert_int_equal(mb_gguf_n_tensors(gguf), 1);
        mb_gguf_close(gguf);
        assert_int_equal(entries(path), 1);
        fetched[round] = stat_of("huge.bytes") - bytes;
        bytes += fetched[round];
        if (round == 1)
            assert_true(fetched[1] <= 4096);
        else
            assert_true(fetched[round] > 4000000);
    }
    /* Another address is another entry; a directory that can't be made costs nothing but the entry.
     */
    struct mb_gguf *gguf = NULL;
    assert_int_equal(open_hub("huge", "hf:owner/other/model.gguf", cache, NULL, &gguf, &err),
                     MB_OK);
    mb_gguf_close(gguf);
    assert_int_equal(entries(path), 2);
    assert_int_equal(open_hub("huge", "hf:owner/repo/model.gguf", "/dev/null/x", NULL, &gguf, &err),
                     MB_OK);
    mb_gguf_close(gguf);
}

int main(int argc, char **argv)
{
    source_root = argc > 1 ? argv[1] : ".";
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_parsed_strictly),
        cmocka_unit_test(windows_come_from_many_servers),
        cmocka_unit_test(one_handle_reads_many_windows),
        cmocka_unit_test(liars_are_refused),
        cmocka_unit_test(changes_between_windows_are_seen),
        cmocka_unit_test(nobody_home_is_told),
        cmocka_unit_test(headers_cost_no_download),
        cmocka_unit_test(parts_are_fetched),
        cmocka_unit_test(refusals_name_the_mend),
        cmocka_unit_test(the_token_stays_with_its_origin),
        cmocka_unit_test(headers_are_kept),
    };
    return cmocka_run_group_tests_name("http", tests, start, stop);
}
