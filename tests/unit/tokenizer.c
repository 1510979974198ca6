/* SPDX-License-Identifier: MIT */
/* Tokenizers: the ids that llama.cpp gives (tests/data/tokenizer, made by tests/make_tokenizer_vectors.py), texts that come back
 * as they were, streams that are UTF-8 at every moment, texts made to take long, and files made to break the reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "engine/pretoken.h"
#include "engine/tokenizer.h"
#include "engine/utf8.h"

#include <pthread.h>
#include <string.h>
#include <stdlib.h>

static const char *source_root;

static char *read_data(const char *name, size_t *n)
{
    struct mb_arena arena = {0};
    const char *path = mb_arena_format(&arena, "%s/tests/data/tokenizer/%s", source_root, name);
    char *text = mb_file_read(&arena, NULL, path, 1 << 20, n);
    assert_non_null(text);
    char *copy = malloc(*n + 1);
    assert_non_null(copy);
    memcpy(copy, text, *n + 1);
    mb_arena_free(&arena);
    return copy;
}

static int try_open(const char *bytes, size_t n, struct mb_tokenizer **out, struct mb_err *err)
{
    struct mb_gguf *gguf = NULL;
    *out = NULL;
    assert_int_equal(mb_gguf_open_bytes(bytes, n, n, "test", &gguf, err), MB_OK);
    int code = mb_tokenizer_open(gguf, out, err);
    mb_gguf_close(gguf);
    return code;
}

static struct mb_tokenizer *open_bytes(const char *bytes, size_t n)
{
    struct mb_tokenizer *tokenizer;
    struct mb_err err;
    if (try_open(bytes, n, &tokenizer, &err))
        fail_msg("%s", err.text);
    return tokenizer;
}

/* A vocabulary of the data; pre, where not NULL, is put in place of "default". */
static struct mb_tokenizer *open_data(const char *name, const char *pre)
{
    static const char key[] = "tokenizer.ggml.pre";
    size_t n;
    char *bytes = read_data(name, &n);
    if (pre) {
        char *at = memmem(bytes, n, key, sizeof key - 1);
        assert_non_null(at);
        size_t before = (size_t)(at - bytes) + sizeof key - 1 + 4, length = strlen(pre), old = strlen("default");
        char *changed = malloc(n + length);
        assert_non_null(changed);
        memcpy(changed, bytes, before);
        uint64_t little = length; /* of a little-endian file; so is every machine that runs this test */
        memcpy(changed + before, &little, 8);
        memcpy(changed + before + 8, pre, length);
        memcpy(changed + before + 8 + length, bytes + before + 8 + old, n - before - 8 - old);
        free(bytes);
        bytes = changed;
        n = n - old + length;
    }
    struct mb_tokenizer *tokenizer = open_bytes(bytes, n);
    free(bytes);
    return tokenizer;
}

static int32_t *tokens_of(const struct mb_tokenizer *tokenizer, const char *text, size_t n, unsigned flags, size_t *n_ids)
{
    int32_t *ids;
    struct mb_err err;
    if (mb_tokenize(tokenizer, text, n, flags, &ids, n_ids, &err))
        fail_msg("%s", err.text);
    return ids;
}

static void check_ids(const struct mb_tokenizer *tokenizer, const char *label, const char *text, size_t n, unsigned flags,
                      const json_t *expected)
{
    size_t n_ids;
    int32_t *ids = tokens_of(tokenizer, text, n, flags, &n_ids);
    for (size_t i = 0; i < n_ids && i < json_array_size(expected); i++)
        if (ids[i] != json_integer_value(json_array_get(expected, i)))
            fail_msg("%s: token %zu of \"%s\", flags %u, is %d", label, i, text, flags, (int)ids[i]);
    if (n_ids != json_array_size(expected))
        fail_msg("%s: \"%s\", flags %u, has %zu tokens", label, text, flags, n_ids);
    free(ids);
}

/* Text -> tokens -> text, at once and as a stream. */
static void check_back(const struct mb_tokenizer *tokenizer, const char *text, size_t n)
{
    size_t n_ids, n_back, n_stream = 0;
    int32_t *ids = tokens_of(tokenizer, text, n, 0, &n_ids);
    char *back;
    struct mb_err err;
    struct mb_detok *detok;
    unsigned flags = MB_DETOKENIZE_START | MB_DETOKENIZE_CONTROL;
    assert_int_equal(mb_detokenize(tokenizer, ids, n_ids, flags, &back, &n_back, &err), MB_OK);
    assert_int_equal(n_back, n);
    assert_memory_equal(back, text, n);
    assert_int_equal(mb_detok_open(tokenizer, flags, &detok, &err), MB_OK);
    for (size_t i = 0; i <= n_ids; i++) {
        size_t n_part;
        const char *part = i < n_ids ? mb_detok_add(detok, ids[i], &n_part) : mb_detok_end(detok, &n_part);
        assert_true(n_stream + n_part <= n);
        assert_memory_equal(part, text + n_stream, n_part);
        for (size_t k = 0; k < n_part;) {
            int length = mb_utf8_sequence(part + k, n_part - k);
            assert_true(length > 0);
            k += (size_t)length;
        }
        n_stream += n_part;
    }
    assert_int_equal(n_stream, n);
    mb_detok_close(detok);
    free(back);
    free(ids);
}

static json_t *read_vectors(void)
{
    size_t n;
    char *text = read_data("vectors.json", &n);
    json_t *vectors = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
    free(text);
    assert_non_null(vectors);
    return vectors;
}

static void the_ids_of_files(void **state)
{
    (void)state;
    json_t *vectors = read_vectors(), *file, *item;
    const char *name;
    size_t at;
    json_object_foreach(json_object_get(vectors, "files"), name, file) {
        struct mb_tokenizer *tokenizer = open_data(name, NULL);
        json_array_foreach(json_object_get(file, "texts"), at, item) {
            const json_t *text = json_array_get(item, 1);
            check_ids(tokenizer, name, json_string_value(text), json_string_length(text),
                      (unsigned)json_integer_value(json_array_get(item, 0)), json_array_get(item, 2));
            if (strcmp(name, "bpe.gguf") == 0)
                check_back(tokenizer, json_string_value(text), json_string_length(text));
        }
        const json_t *ends = json_object_get(file, "ends");
        size_t n_ends = 0;
        for (int32_t id = -1; id <= (int32_t)mb_tokenizer_info(tokenizer)->n_vocab; id++)
            n_ends += mb_token_is_eog(tokenizer, id) != 0;
        assert_int_equal(n_ends, json_array_size(ends));
        json_array_foreach(ends, at, item)
            assert_true(mb_token_is_eog(tokenizer, (int32_t)json_integer_value(item)));
        mb_tokenizer_close(tokenizer);
    }
    json_decref(vectors);
}

static void the_cuts_of_families(void **state)
{
    (void)state;
    json_t *vectors = read_vectors(), *expected;
    const json_t *text = json_object_get(vectors, "text");
    const char *name;
    assert_true(json_object_size(json_object_get(vectors, "families")) > 25);
    json_object_foreach(json_object_get(vectors, "families"), name, expected) {
        struct mb_tokenizer *tokenizer = open_data("bpe.gguf", name);
        assert_string_equal(mb_tokenizer_info(tokenizer)->pre, name);
        check_ids(tokenizer, name, json_string_value(text), json_string_length(text), 0, expected);
        check_back(tokenizer, json_string_value(text), json_string_length(text));
        mb_tokenizer_close(tokenizer);
    }
    json_decref(vectors);
}

/* ---- texts made to take long ---- */

enum { LONG = 1 << 20 };

static void fill(char *text, size_t n, const char *pattern)
{
    size_t length = strlen(pattern);
    for (size_t i = 0; i < n; i++)
        text[i] = pattern[i % length];
}

/* Work that grows with the square of the text would take hours here. */
static void long_texts(void **state)
{
    (void)state;
    static const char *const patterns[] = {" ", "a", "\n", "A", "\xc3\xa9", "1", "'", "\r\n ", "aB", "\xe4\xb8\xad", "\xe3\x80\x80", "<",
        "<tool", "x", "\xff", "\xf0\x9f\x99"};
    static const char *const names[] = {"bpe.gguf", "spm.gguf", "plain.gguf"};
    char *text = malloc(LONG + 4);
    assert_non_null(text);
    for (size_t i = 0; i < MB_COUNT(names); i++) {
        struct mb_tokenizer *tokenizer = open_data(names[i], NULL);
        for (size_t k = 0; k < MB_COUNT(patterns); k++) {
            size_t n = LONG - LONG % strlen(patterns[k]), n_ids;
            fill(text, n, patterns[k]);
            if (i < 2 && mb_utf8_sequence(patterns[k], strlen(patterns[k])) > 0)
                check_back(tokenizer, text, n);
            else
                free(tokens_of(tokenizer, text, n, MB_TOKENIZE_PARSE, &n_ids));
        }
        mb_tokenizer_close(tokenizer);
    }
    free(text);
}

/* Every family, with runs that end in what no run may hold. */
static void long_runs_in_families(void **state)
{
    (void)state;
    static const char *const patterns[] = {" ", "1", "a", "A", "\xc3\x89", "\n"};
    static const char *const tails[] = {"", "\xe4\xb8\xad", "x", "1", "."};
    enum { RUN = LONG / 8 };
    char *text = malloc(RUN + 8), pre[64];
    assert_non_null(text);
    const struct mb_pretoken *family;
    for (unsigned i = 0; (family = mb_pretoken_family(i)); i++) {
        struct mb_splitter *splitter;
        struct mb_err err;
        snprintf(pre, sizeof pre, "%.*s", (int)strcspn(family->names, " "), family->names);
        assert_ptr_equal(mb_pretoken_find(pre), family);
        assert_int_equal(mb_splitter_new(family, &splitter, &err), MB_OK);
        for (size_t k = 0; k < MB_COUNT(patterns) * MB_COUNT(tails); k++) {
            const char *tail = tails[k % MB_COUNT(tails)];
            size_t n = RUN, n_ends;
            uint32_t *ends;
            fill(text, n, patterns[k / MB_COUNT(tails)]);
            memcpy(text + n, tail, strlen(tail));
            n += strlen(tail);
            if (mb_splitter_run(splitter, text, n, &ends, &n_ends, &err))
                fail_msg("%s, pattern %zu: %s", pre, k, err.text);
            assert_true(n_ends > 0);
            assert_int_equal(ends[n_ends - 1], n);
            free(ends);
        }
        mb_splitter_free(splitter);
    }
    free(text);
    assert_null(mb_pretoken_find("llama"));
    assert_null(mb_pretoken_find(""));
}

/* ---- streams ---- */

static void a_stream_waits_for_the_end_of_a_character(void **state)
{
    (void)state;
    struct mb_tokenizer *tokenizer = open_data("bpe.gguf", NULL);
    struct mb_detok *detok;
    struct mb_err err;
    size_t n;
    assert_int_equal(mb_detok_open(tokenizer, 0, &detok, &err), MB_OK);
    /* Ids 0 to 255 are the bytes. */
    assert_string_equal(mb_detok_add(detok, 0xf0, &n), "");
    assert_string_equal(mb_detok_add(detok, 0x9f, &n), "");
    assert_string_equal(mb_detok_add(detok, 0x99, &n), "");
    assert_string_equal(mb_detok_add(detok, 0x82, &n), "\xf0\x9f\x99\x82");
    assert_string_equal(mb_detok_add(detok, 0x82, &n), "\xef\xbf\xbd");
    assert_string_equal(mb_detok_add(detok, 0xe2, &n), "");
    assert_string_equal(mb_detok_add(detok, 'a', &n), "\xef\xbf\xbd" "a");
    assert_string_equal(mb_detok_add(detok, 0xe2, &n), "");
    assert_string_equal(mb_detok_add(detok, 0x82, &n), "");
    assert_string_equal(mb_detok_add(detok, mb_token_find(tokenizer, "<|im_end|>"), &n), "");
    assert_string_equal(mb_detok_end(detok, &n), "\xef\xbf\xbd");
    assert_string_equal(mb_detok_end(detok, &n), "");
    assert_string_equal(mb_detok_add(detok, 1 << 30, &n), "");
    assert_string_equal(mb_detok_add(detok, -1, &n), "");
    assert_string_equal(mb_detok_add(detok, mb_token_find(tokenizer, "<tool>"), &n), "<tool>");
    mb_detok_reset(detok, MB_DETOKENIZE_CONTROL);
    assert_string_equal(mb_detok_add(detok, mb_token_find(tokenizer, "<|im_end|>"), &n), "<|im_end|>");
    mb_detok_close(detok);
    mb_tokenizer_close(tokenizer);
}

static void the_blank_at_the_start(void **state)
{
    (void)state;
    struct mb_tokenizer *tokenizer = open_data("spm.gguf", NULL);
    struct mb_err err;
    size_t n_ids, n;
    int32_t *ids = tokens_of(tokenizer, " a a", 4, MB_TOKENIZE_SPECIAL, &n_ids);
    char *text;
    assert_int_equal(ids[0], mb_tokenizer_info(tokenizer)->bos);
    assert_int_equal(mb_detokenize(tokenizer, ids, n_ids, MB_DETOKENIZE_START, &text, &n, &err), MB_OK);
    assert_string_equal(text, " a a");
    free(text);
    assert_int_equal(mb_detokenize(tokenizer, ids, n_ids, 0, &text, &n, &err), MB_OK);
    assert_string_equal(text, "  a a");
    free(text);
    assert_int_equal(mb_detokenize(tokenizer, ids, 1, MB_DETOKENIZE_CONTROL, &text, &n, &err), MB_OK);
    assert_string_equal(text, "<s>");
    free(text);
    free(ids);
    const char *bytes;
    assert_int_equal(mb_token_bytes(tokenizer, mb_token_find(tokenizer, "<0x0A>"), &bytes, &n), MB_OK);
    assert_int_equal(n, 1);
    assert_int_equal(*bytes, '\n');
    assert_int_equal(mb_token_bytes(tokenizer, -1, &bytes, &n), MB_ERANGE);
    assert_int_equal(mb_token_bytes(tokenizer, (int32_t)mb_tokenizer_info(tokenizer)->n_vocab, &bytes, &n), MB_ERANGE);
    assert_int_equal(mb_token_find(tokenizer, "no such token"), -1);
    assert_true(mb_token_is_control(tokenizer, 1));
    assert_false(mb_token_is_control(tokenizer, -1));
    mb_tokenizer_close(tokenizer);
}

/* Bytes that are no UTF-8 come back as they were. */
static void any_bytes_come_back(void **state)
{
    (void)state;
    static const char *const names[] = {"bpe.gguf", "spm.gguf"};
    char text[300];
    for (size_t i = 0; i < MB_COUNT(names); i++) {
        struct mb_tokenizer *tokenizer = open_data(names[i], NULL);
        uint32_t seed = 1;
        for (unsigned round = 0; round < 200; round++) {
            size_t n = round % sizeof text, n_ids, n_back;
            for (size_t k = 0; k < n; k++)
                text[k] = (char)((seed = seed * 1664525 + 1013904223) >> 24);
            int32_t *ids = tokens_of(tokenizer, text, n, 0, &n_ids);
            char *back;
            struct mb_err err;
            assert_int_equal(mb_detokenize(tokenizer, ids, n_ids, MB_DETOKENIZE_START, &back, &n_back, &err), MB_OK);
            assert_int_equal(n_back, n);
            assert_memory_equal(back, text, n);
            free(back);
            free(ids);
        }
        mb_tokenizer_close(tokenizer);
    }
}

/* ---- threads ---- */

static void *tokenize_often(void *argument)
{
    static const char text[] = "Hello world 123, it's <tool>  \n\n";
    uintptr_t sum = 0;
    for (int i = 0; i < 200; i++) {
        int32_t *ids;
        size_t n = 0;
        if (mb_tokenize(argument, text, sizeof text - 1, MB_TOKENIZE_PARSE, &ids, &n, NULL))
            return NULL;
        for (size_t k = 0; k < n; k++)
            sum = sum * 31 + (uintptr_t)ids[k];
        free(ids);
    }
    return (void *)(sum | 1);
}

static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    struct mb_tokenizer *tokenizer = open_data("bpe.gguf", NULL);
    pthread_t threads[4];
    void *expected = tokenize_often(tokenizer), *got;
    assert_non_null(expected);
    for (size_t i = 0; i < MB_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, tokenize_often, tokenizer), 0);
    for (size_t i = 0; i < MB_COUNT(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &got), 0);
        assert_ptr_equal(got, expected);
    }
    mb_tokenizer_close(tokenizer);
}

/* ---- files made to break the reader ---- */

struct file {
    char bytes[4096];
    size_t n;
    uint64_t n_kv;
};

static void put(struct file *file, const void *bytes, size_t n)
{
    assert_true(file->n + n <= sizeof file->bytes);
    memcpy(file->bytes + file->n, bytes, n);
    file->n += n;
}

static void put_u(struct file *file, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++, value >>= 8)
        put(file, &(char){(char)value}, 1);
}

static void put_text(struct file *file, const char *text)
{
    put_u(file, strlen(text), 8);
    put(file, text, strlen(text));
}

static void put_key(struct file *file, const char *key, enum mb_gguf_value type)
{
    put_text(file, key);
    put_u(file, type, 4);
    file->n_kv++;
    memcpy(file->bytes + 16, &file->n_kv, 8);
}

static void put_kv_text(struct file *file, const char *key, const char *text)
{
    put_key(file, key, MB_GGUF_TEXT);
    put_text(file, text);
}

static void put_kv_u32(struct file *file, const char *key, uint32_t value)
{
    put_key(file, key, MB_GGUF_U32);
    put_u(file, value, 4);
}

static void put_texts(struct file *file, const char *key, const char *const *texts, size_t n)
{
    put_key(file, key, MB_GGUF_ARRAY);
    put_u(file, MB_GGUF_TEXT, 4);
    put_u(file, n, 8);
    for (size_t i = 0; i < n; i++)
        put_text(file, texts[i]);
}

static void put_u32s(struct file *file, const char *key, enum mb_gguf_value type, const uint32_t *values, size_t n)
{
    put_key(file, key, MB_GGUF_ARRAY);
    put_u(file, type, 4);
    put_u(file, n, 8);
    for (size_t i = 0; i < n; i++)
        put_u(file, values[i], 4);
}

static void begin(struct file *file)
{
    memset(file, 0, sizeof *file);
    put(file, "GGUF\3\0\0\0", 8);
    put_u(file, 0, 8);
    put_u(file, 0, 8);
}

static void expect(const struct file *file, int code, const char *part)
{
    struct mb_tokenizer *tokenizer;
    struct mb_err err;
    assert_int_equal(try_open(file->bytes, file->n, &tokenizer, &err), code);
    assert_null(tokenizer);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

#define KEY(name) "tokenizer.ggml." name

static void files_that_cannot_be_right(void **state)
{
    (void)state;
    static const char *const tokens[] = {"a", "b", "ab", "c"}, *const twins[] = {"a", "b", "a"}, *const merges[] = {"a b"};
    static const uint32_t types[] = {1, 1, 1}, nan[] = {0, 0x7fc00000, 0, 0};
    struct file file;

    begin(&file);
    expect(&file, MB_ENODATA, "no tokenizer");
    put_kv_text(&file, KEY("model"), "bert");
    expect(&file, MB_ENOTSUP, "bert");

    begin(&file);
    put_kv_text(&file, KEY("model"), "gpt2");
    expect(&file, MB_EFORMAT, "no list of tokens");
    put_kv_text(&file, KEY("pre"), "no-such-family");
    expect(&file, MB_ENOTSUP, "no-such-family");

    begin(&file);
    put_kv_text(&file, KEY("model"), "llama");
    put_texts(&file, KEY("tokens"), tokens, 0);
    expect(&file, MB_EFORMAT, "0 tokens");

    begin(&file);
    put_kv_text(&file, KEY("model"), "gpt2");
    put_texts(&file, KEY("tokens"), twins, 3);
    expect(&file, MB_EFORMAT, "tokens 0 and 2 have the same text");

    begin(&file);
    put_kv_text(&file, KEY("model"), "gpt2");
    put_texts(&file, KEY("tokens"), tokens, 4);
    expect(&file, MB_EFORMAT, "no list of merges");
    put_texts(&file, KEY("merges"), merges, 1);
    struct file good = file;
    put_kv_u32(&file, KEY("bos_token_id"), 4);
    expect(&file, MB_EFORMAT, "bos_token_id");
    file = good;
    put_kv_u32(&file, KEY("eot_token_id"), 1u << 31);
    expect(&file, MB_EFORMAT, "eot_token_id");
    file = good;
    put_kv_text(&file, KEY("eos_token_id"), "1");
    expect(&file, MB_EFORMAT, "eos_token_id");
    file = good;
    put_kv_text(&file, KEY("add_bos_token"), "yes");
    expect(&file, MB_EFORMAT, "add_bos_token");
    file = good;
    put_u32s(&file, KEY("token_type"), MB_GGUF_I32, types, 3);
    expect(&file, MB_EFORMAT, "3 items for 4 tokens");
    file = good;
    put_u32s(&file, KEY("scores"), MB_GGUF_F32, nan, 4);
    expect(&file, MB_EFORMAT, "token 1");
    file = good;
    put_kv_u32(&file, KEY("scores"), 1);
    expect(&file, MB_EFORMAT, "scores");
}

/* Odd, but harmless: merges of what are no tokens, empty tokens, ids of -1. What has no token is left out. */
static void files_that_are_odd(void **state)
{
    (void)state;
    static const char *const tokens[] = {"a", "b", "ab", "", "xyz"};
    static const char *const merges[] = {"a b", "a b", "", " ", "nothing", "b c", "x y", "xy z", "\xff \xff", "c "};
    struct file file;
    begin(&file);
    put_kv_text(&file, KEY("model"), "gpt2");
    put_texts(&file, KEY("tokens"), tokens, 5);
    put_texts(&file, KEY("merges"), merges, MB_COUNT(merges));
    put_kv_u32(&file, KEY("bos_token_id"), UINT32_MAX);
    struct mb_tokenizer *tokenizer = open_bytes(file.bytes, file.n);
    const struct mb_tokenizer_info *info = mb_tokenizer_info(tokenizer);
    assert_int_equal(info->bos, -1);
    assert_null(info->pre);
    assert_non_null(strstr(info->warning, "pre-tokenizer"));
    size_t n;
    int32_t *ids = tokens_of(tokenizer, "abcaxyzxyb", 10, MB_TOKENIZE_SPECIAL, &n);
    static const int32_t expected[] = {2, 0, 4, 1};
    assert_int_equal(n, 4);
    assert_memory_equal(ids, expected, sizeof expected);
    free(ids);
    assert_int_equal(mb_token_find(tokenizer, "[EMPTY_3]"), 3);
    assert_int_equal(mb_token_find(tokenizer, "xy"), -1);
    mb_tokenizer_close(tokenizer);
}

int main(int argc, char **argv)
{
    source_root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ids_of_files),
        cmocka_unit_test(the_cuts_of_families),
        cmocka_unit_test(long_texts),
        cmocka_unit_test(long_runs_in_families),
        cmocka_unit_test(a_stream_waits_for_the_end_of_a_character),
        cmocka_unit_test(the_blank_at_the_start),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(files_that_cannot_be_right),
        cmocka_unit_test(files_that_are_odd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
