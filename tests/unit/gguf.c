/* SPDX-License-Identifier: MIT */
/* Suite for src/model/gguf.c, gguf_split.c and source.c: files written here byte by byte, good ones
 * and hostile ones, each hostile one cut from a good one by a single change. */
#include "base/base.h"
#include "model/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPPORT_DIR
#define SUPPORT_FILES
#include "support.h"

/* ---- a writer ---- */

struct writer {
    unsigned char bytes[1 << 16];
    size_t n;
    int big_endian;
};

static void put(struct writer *w, uint64_t value, unsigned n)
{
    assert_true(w->n + n <= sizeof w->bytes);
    for (unsigned i = 0; i < n; i++)
        w->bytes[w->n++] = (unsigned char)(value >> 8 * (w->big_endian ? n - 1 - i : i));
}

static void put_bytes(struct writer *w, const void *bytes, size_t n)
{
    put(w, n, 8);
    assert_true(w->n + n <= sizeof w->bytes);
    memcpy(w->bytes + w->n, bytes, n);
    w->n += n;
}

static void put_text(struct writer *w, const char *text)
{
    put_bytes(w, text, strlen(text));
}

static void put_head(struct writer *w, uint64_t n_tensors, uint64_t n_kvs)
{
    memcpy(w->bytes + w->n, "GGUF", 4);
    w->n += 4;
    put(w, 3, 4);
    put(w, n_tensors, 8);
    put(w, n_kvs, 8);
}

static void put_number(struct writer *w, const char *key, enum mb_gguf_value type, uint64_t value,
                       unsigned n)
{
    put_text(w, key);
    put(w, type, 4);
    put(w, value, n);
}

static void put_text_kv(struct writer *w, const char *key, const char *text)
{
    put_text(w, key);
    put(w, MB_GGUF_TEXT, 4);
    put_text(w, text);
}

static void put_tensor(struct writer *w, const char *name, uint32_t type, uint64_t ne0,
                       uint64_t ne1, uint64_t offset)
{
    put_text(w, name);
    put(w, 2, 4);
    put(w, ne0, 8);
    put(w, ne1, 8);
    put(w, type, 4);
    put(w, offset, 8);
}

/* Zeros up to the alignment and then n bytes of data. */
static void put_data(struct writer *w, size_t n)
{
    w->n = (w->n + 31) / 32 * 32;
    assert_true(w->n + n <= sizeof w->bytes);
    w->n += n;
}

/* A small model: a.weight F32 [8, 2] at 0, b.weight Q8_0 [32, 3] at 64. */
static struct writer *small_model(int big_endian)
{
    struct writer *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->big_endian = big_endian;
    put_head(w, 2, 8);
    put_text_kv(w, "general.architecture", "llama");
    put_number(w, "llama.block_count", MB_GGUF_U32, 7, 4);
    put_number(w, "llama.rope.freq_base", MB_GGUF_F32, 0x461c4000, 4);   /* 10000.0 */
    put_number(w, "llama.attention.shared", MB_GGUF_F32, 0x41a00000, 4); /* 20.0 */
    put_number(w, "llama.scale", MB_GGUF_F64, 0x3fe0000000000000, 8);    /* 0.5 */
    put_number(w, "llama.offset", MB_GGUF_I16, 0xfffe, 2);               /* -2 */
    put_text(w, "llama.heads");
    put(w, MB_GGUF_ARRAY, 4);
    put(w, MB_GGUF_U16, 4);
    put(w, 3, 8);
    put(w, 4, 2), put(w, 0, 2), put(w, 8, 2);
    put_text(w, "tokenizer.ggml.tokens");
    put(w, MB_GGUF_ARRAY, 4);
    put(w, MB_GGUF_TEXT, 4);
    put(w, 200, 8);
    for (unsigned i = 0; i < 200; i++) {
        char token[16];
        snprintf(token, sizeof token, "t%u", i * i);
        put_bytes(w, token, i == 130 ? 0 : strlen(token));
    }
    put_tensor(w, "a.weight", MB_TYPE_F32, 8, 2, 0);
    put_tensor(w, "b.weight", MB_TYPE_Q8_0, 32, 3, 64);
    put_data(w, 64 + 3 * 34);
    return w;
}

static int open_writer(const struct writer *w, struct mb_gguf **out, struct mb_err *err)
{
    /* An exact-size block, so that ASan sees a read past the end. */
    unsigned char *copy = malloc(w->n ? w->n : 1);
    assert_non_null(copy);
    memcpy(copy, w->bytes, w->n);
    int code = mb_gguf_open_bytes(copy, w->n, w->n, "made.gguf", out, err);
    free(copy);
    return code;
}

/* Refused, and the line names the file and holds the text. */
static void refuse(struct writer *w, const char *text)
{
    struct mb_gguf *gguf = NULL;
    struct mb_err err = {0};
    int code = open_writer(w, &gguf, &err);
    if (code != MB_EFORMAT || !strstr(err.text, text))
        fail_msg("expected \"%s\", got %d \"%s\"", text, code, err.text);
    assert_non_null(strstr(err.text, "made.gguf: "));
    assert_null(gguf);
    free(w);
}

/* ---- good files ---- */

static void check_small_model(const struct mb_gguf *gguf)
{
    assert_int_equal(mb_gguf_kind(gguf), MB_GGUF_MODEL);
    assert_int_equal(mb_gguf_n_tensors(gguf), 2);
    const struct mb_gguf_tensor *b = mb_gguf_find_tensor(gguf, "b.weight");
    assert_ptr_equal(b, mb_gguf_tensor(gguf, 1));
    assert_null(mb_gguf_tensor(gguf, 2));
    assert_null(mb_gguf_find_tensor(gguf, "c.weight"));
    assert_int_equal(b->type, MB_TYPE_Q8_0);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->ne[0], 32);
    assert_int_equal(b->ne[1], 3);
    assert_int_equal(b->ne[3], 1);
    assert_int_equal(b->bytes, 102);
    const struct mb_gguf_part *part = mb_gguf_part(gguf, 0);
    assert_int_equal(b->offset, part->data_offset + 64);
    assert_int_equal(part->data_offset % 32, 0);
    assert_int_equal(part->version, 3);
    assert_int_equal(mb_gguf_tensor_bytes(gguf), 64 + 102);
    assert_int_equal(mb_gguf_file_bytes(gguf), part->data_offset + 64 + 102);

    uint64_t u = 99;
    int64_t i = 99;
    double f = 99;
    int flag = 99;
    const char *text = NULL;
    assert_int_equal(mb_gguf_get_u64(gguf, "llama.block_count", &u), MB_OK);
    assert_int_equal(u, 7);
    assert_int_equal(mb_gguf_get_u64(gguf, "llama.attention.shared", &u), MB_OK);
    assert_int_equal(u, 20);
    assert_int_equal(mb_gguf_get_u64(gguf, "llama.scale", &u), MB_EFORMAT);
    assert_int_equal(mb_gguf_get_u64(gguf, "llama.offset", &u), MB_EFORMAT);
    assert_int_equal(mb_gguf_get_u64(gguf, "llama.absent", &u), MB_ENODATA);
    assert_int_equal(mb_gguf_get_u64(gguf, "general.architecture", &u), MB_EFORMAT);
    assert_int_equal(mb_gguf_get_u64(gguf, "llama.heads", &u), MB_EFORMAT);
    assert_int_equal(u, 20);
    assert_int_equal(mb_gguf_get_i64(gguf, "llama.offset", &i), MB_OK);
    assert_int_equal(i, -2);
    assert_int_equal(mb_gguf_get_f64(gguf, "llama.rope.freq_base", &f), MB_OK);
    assert_true(f == 10000.0);
    assert_int_equal(mb_gguf_get_f64(gguf, "llama.offset", &f), MB_OK);
    assert_true(f == -2.0);
    assert_int_equal(mb_gguf_get_bool(gguf, "llama.block_count", &flag), MB_OK);
    assert_int_equal(flag, 1);
    assert_int_equal(mb_gguf_get_text(gguf, "general.architecture", &text), MB_OK);
    assert_string_equal(text, "llama");
    assert_int_equal(mb_gguf_get_text(gguf, "llama.block_count", &text), MB_EFORMAT);

    uint64_t n = 0;
    enum mb_gguf_value type;
    assert_int_equal(mb_gguf_array_n(gguf, "llama.heads", &n, &type), MB_OK);
    assert_int_equal(n, 3);
    assert_int_equal(type, MB_GGUF_U16);
    assert_int_equal(mb_gguf_array_n(gguf, "llama.block_count", &n, &type), MB_EFORMAT);
    assert_int_equal(mb_gguf_get_u64_at(gguf, "llama.heads", 2, &u), MB_OK);
    assert_int_equal(u, 8);
    assert_int_equal(mb_gguf_get_u64_at(gguf, "llama.heads", 3, &u), MB_ERANGE);
    assert_int_equal(mb_gguf_get_u64_at(gguf, "llama.block_count", 1000, &u), MB_OK);
    assert_int_equal(u, 7);
    struct mb_gguf_texts texts;
    const char *next;
    size_t next_n;
    assert_int_equal(mb_gguf_texts(gguf, "tokenizer.ggml.tokens", &texts), MB_OK);
    for (unsigned k = 0; k < 200; k++) {
        char expected[16];
        size_t text_n = 0;
        snprintf(expected, sizeof expected, "t%u", k * k);
        assert_int_equal(mb_gguf_get_text_at(gguf, "tokenizer.ggml.tokens", k, &text, &text_n),
                         MB_OK);
        assert_int_equal(text_n, k == 130 ? 0 : strlen(expected));
        assert_memory_equal(text, expected, text_n);
        assert_true(mb_gguf_next_text(&texts, &next, &next_n));
        assert_ptr_equal(next, text);
        assert_int_equal(next_n, text_n);
    }
    assert_false(mb_gguf_next_text(&texts, &next, &next_n));
    assert_int_equal(mb_gguf_texts(gguf, "llama.heads", &texts), MB_EFORMAT);
    assert_int_equal(mb_gguf_texts(gguf, "nothing", &texts), MB_ENODATA);
    assert_int_equal(mb_gguf_item_u64(gguf, mb_gguf_find_kv(gguf, "llama.heads"), 2, &u), MB_OK);
    assert_int_equal(u, 8);
    assert_int_equal(mb_gguf_item_u64(gguf, mb_gguf_find_kv(gguf, "llama.heads"), 3, &u), MB_ERANGE);
    assert_int_equal(mb_gguf_item_u64(gguf, mb_gguf_find_kv(gguf, "nothing"), 0, &u), MB_ENODATA);
    size_t text_n;
    assert_int_equal(mb_gguf_get_text_at(gguf, "tokenizer.ggml.tokens", 200, &text, &text_n),
                     MB_ERANGE);
    assert_int_equal(mb_gguf_get_text_at(gguf, "llama.heads", 0, &text, &text_n), MB_EFORMAT);
}

static void reads_both_byte_orders_and_versions(void **state)
{
    (void)state;
    for (int big_endian = 0; big_endian < 2; big_endian++) {
        for (unsigned version = 2; version <= 3; version++) {
            struct writer *w = small_model(big_endian);
            w->bytes[big_endian ? 7 : 4] = (unsigned char)version;
            struct mb_gguf *gguf = NULL;
            struct mb_err err;
            int code = open_writer(w, &gguf, &err);
            if (code)
                fail_msg("%s", err.text);
            assert_int_equal(mb_gguf_part(gguf, 0)->big_endian, big_endian);
            assert_int_equal(mb_gguf_part(gguf, 0)->version, version);
            if (version == 3)
                check_small_model(gguf);
            mb_gguf_close(gguf);
            free(w);
        }
    }
}

/* Every beginning of a good file asks for more; as a whole file, each one is refused. */
static void each_beginning_asks_for_more(void **state)
{
    (void)state;
    struct writer *w = small_model(0);
    struct mb_gguf *gguf = NULL;
    struct mb_err err;
    assert_int_equal(open_writer(w, &gguf, &err), MB_OK);
    size_t header_bytes = (size_t)mb_gguf_part(gguf, 0)->header_bytes;
    mb_gguf_close(gguf);
    gguf = NULL;
    for (size_t n = 0; n < w->n; n++) {
        unsigned char *copy = malloc(n ? n : 1);
        memcpy(copy, w->bytes, n);
        int code = mb_gguf_open_bytes(copy, n, w->n, "made.gguf", &gguf, &err);
        assert_int_equal(code, n < header_bytes ? MB_EMORE : MB_OK);
        if (!code)
            check_small_model(gguf);
        mb_gguf_close(gguf);
        gguf = NULL;
        assert_int_equal(mb_gguf_open_bytes(copy, n, n, "made.gguf", &gguf, &err), MB_EFORMAT);
        if (n >= 200) /* before, the counts alone are more than such a file can hold */
            assert_non_null(strstr(err.text, "truncated"));
        free(copy);
    }
    /* Whoever does not know the size can read the header, too. */
    assert_int_equal(
        mb_gguf_open_bytes(w->bytes, header_bytes, MB_SOURCE_UNKNOWN, "x", &gguf, &err), MB_OK);
    assert_true(mb_gguf_file_bytes(gguf) == MB_SOURCE_UNKNOWN);
    mb_gguf_close(gguf);
    free(w);
}

static void kinds_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *key, *text;
        enum mb_gguf_kind kind;
    } cases[] = {
        {"general.type", "model", MB_GGUF_MODEL},
        {"general.type", "adapter", MB_GGUF_ADAPTER},
        {"adapter.type", "lora", MB_GGUF_ADAPTER},
        {"general.type", "mmproj", MB_GGUF_MMPROJ},
        {"general.architecture", "clip", MB_GGUF_MMPROJ},
        {"general.type", "imatrix", MB_GGUF_OTHER},
        {"general.architecture", "llama", MB_GGUF_MODEL},
        {"general.architecture", "controlvector", MB_GGUF_OTHER},
    };
    for (size_t i = 0; i <= MB_COUNT(cases); i++) {
        struct writer *w = calloc(1, sizeof *w);
        int vocab = i == MB_COUNT(cases);
        put_head(w, !vocab, 1);
        put_text_kv(w, vocab ? "general.architecture" : cases[i].key,
                    vocab ? "llama" : cases[i].text);
        if (!vocab) {
            put_tensor(w, "a.weight", MB_TYPE_F32, 8, 1, 0);
            put_data(w, 32);
        }
        struct mb_gguf *gguf = NULL;
        assert_int_equal(open_writer(w, &gguf, NULL), MB_OK);
        assert_int_equal(mb_gguf_kind(gguf), vocab ? MB_GGUF_VOCAB : cases[i].kind);
        mb_gguf_close(gguf);
        free(w);
    }
}

static void numbers_keep_their_sign_and_size(void **state)
{
    (void)state;
    struct writer *w = calloc(1, sizeof *w);
    put_head(w, 0, 8);
    put_number(w, "u64", MB_GGUF_U64, UINT64_MAX, 8);
    put_number(w, "i64", MB_GGUF_I64, (uint64_t)INT64_MIN, 8);
    put_number(w, "i8", MB_GGUF_I8, 0x80, 1);
    put_number(w, "nan", MB_GGUF_F32, 0x7fc00000, 4);
    put_number(w, "inf", MB_GGUF_F32, 0x7f800000, 4);
    put_number(w, "big", MB_GGUF_F64, 0x43e0000000000000, 8); /* 2^63 */
    put_number(w, "minus", MB_GGUF_F32, 0xc0400000, 4);       /* -3 */
    put_number(w, "yes", MB_GGUF_BOOL, 2, 1);
    struct mb_gguf *gguf = NULL;
    assert_int_equal(open_writer(w, &gguf, NULL), MB_OK);
    uint64_t u = 0;
    int64_t i = 0;
    double f = 0;
    int flag = 0;
    assert_int_equal(mb_gguf_get_u64(gguf, "u64", &u), MB_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(mb_gguf_get_i64(gguf, "u64", &i), MB_EFORMAT);
    assert_int_equal(mb_gguf_get_i64(gguf, "i64", &i), MB_OK);
    assert_true(i == INT64_MIN);
    assert_int_equal(mb_gguf_get_i64(gguf, "i8", &i), MB_OK);
    assert_int_equal(i, -128);
    static const char *const odd[] = {"nan", "inf", "big"};
    for (size_t k = 0; k < MB_COUNT(odd); k++) {
        assert_int_equal(mb_gguf_get_u64(gguf, odd[k], &u), MB_EFORMAT);
        assert_int_equal(mb_gguf_get_i64(gguf, odd[k], &i), MB_EFORMAT);
        assert_int_equal(mb_gguf_get_bool(gguf, odd[k], &flag), MB_EFORMAT);
        assert_int_equal(mb_gguf_get_f64(gguf, odd[k], &f), MB_OK);
    }
    assert_int_equal(mb_gguf_get_u64(gguf, "minus", &u), MB_EFORMAT);
    assert_int_equal(mb_gguf_get_i64(gguf, "minus", &i), MB_OK);
    assert_int_equal(i, -3);
    assert_int_equal(mb_gguf_get_bool(gguf, "yes", &flag), MB_OK);
    assert_int_equal(flag, 1);
    assert_int_equal(mb_gguf_get_u64(gguf, "yes", &u), MB_OK);
    assert_int_equal(u, 1);
    mb_gguf_close(gguf);
    free(w);
}

/* ---- hostile files ---- */

static struct writer *with_tensors(unsigned n)
{
    struct writer *w = calloc(1, sizeof *w);
    put_head(w, n, 0);
    return w;
}

static void refuses_hostile_tensors(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t ne0, ne1, offset;
        const char *text;
    } cases[] = {
        {4, 32, 1, 0, "type 4"},
        {1234567, 32, 1, 0, "type 1234567"},
        {MB_TYPE_Q4_K, 128, 2, 0, "no multiple of the 256"},
        {MB_TYPE_F32, 0, 2, 0, "dimension of 0"},
        {MB_TYPE_F32, UINT64_C(1) << 63, 1, 0, "larger than any file"},
        {MB_TYPE_F32, UINT64_C(1) << 32, UINT64_C(1) << 32, 0, "larger than any file"},
        {MB_TYPE_F32, 8, 1, 33, "no multiple of the alignment"},
        {MB_TYPE_F32, 8, 1, UINT64_MAX - 31, "outside any file"},
        {MB_TYPE_F32, 8, 1, (UINT64_C(1) << 63) - 64, "outside any file"},
        {MB_TYPE_I8, INT64_MAX, 1, 0, "outside any file"},
        {MB_TYPE_F32, 8, 1, 1 << 20, "truncated download"},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct writer *w = with_tensors(1);
        put_tensor(w, "x.weight", cases[i].type, cases[i].ne0, cases[i].ne1, cases[i].offset);
        put_data(w, 1024);
        refuse(w, cases[i].text);
    }

    struct writer *w = with_tensors(2);
    put_tensor(w, "x", MB_TYPE_F32, 64, 1, 0);
    put_tensor(w, "y", MB_TYPE_F32, 8, 1, 224);
    put_data(w, 1024);
    refuse(w, "x and y overlap");

    w = with_tensors(2);
    put_tensor(w, "x", MB_TYPE_F32, 8, 1, 64);
    put_tensor(w, "x", MB_TYPE_F32, 8, 1, 0);
    put_data(w, 1024);
    refuse(w, "tensor x is there twice");

    w = with_tensors(1);
    put_tensor(w, "caf\xe9", MB_TYPE_F32, 8, 1, 0);
    put_data(w, 1024);
    refuse(w, "not UTF-8");

    w = with_tensors(1);
    put_tensor(w, "", MB_TYPE_F32, 8, 1, 0);
    put_data(w, 1024);
    refuse(w, "is empty");

    w = with_tensors(1);
    put_text(w, "x");
    put(w, 5, 4);
    put_data(w, 1024);
    refuse(w, "5 dimensions");

    w = with_tensors(1);
    put(w, UINT64_MAX, 8);
    put_data(w, 1024);
    refuse(w, "claims 18446744073709551615 bytes");

    w = calloc(1, sizeof *w);
    put_head(w, UINT64_C(1) << 60, 0);
    put_data(w, 1024);
    refuse(w, "claims 1152921504606846976 tensors");

    w = with_tensors(30); /* more than 24 bytes each would allow */
    put_data(w, 128);
    refuse(w, "claims 30 tensors");

    w = with_tensors(4);
    put_tensor(w, "x", MB_TYPE_F32, 8, 1, 0);
    refuse(w, "claims 4 tensors");
}

static void refuses_hostile_metadata(void **state)
{
    (void)state;
    static const unsigned char bad_names[][4] = {"\xff", "\xc0\x80", "\xed\xa0\x80", "a\xc3"};
    for (size_t i = 0; i < MB_COUNT(bad_names); i++) {
        struct writer *w = calloc(1, sizeof *w);
        put_head(w, 0, 1);
        put_number(w, (const char *)bad_names[i], MB_GGUF_U8, 1, 1);
        put_data(w, 32);
        refuse(w, "not UTF-8");
    }

    struct writer *w = calloc(1, sizeof *w);
    put_head(w, 0, 1);
    put_bytes(w, "a\0b", 3);
    put(w, MB_GGUF_U8, 4);
    put_data(w, 32);
    refuse(w, "not UTF-8");

    w = calloc(1, sizeof *w);
    put_head(w, 0, UINT64_MAX);
    refuse(w, "claims 18446744073709551615 pairs");

    w = calloc(1, sizeof *w);
    put_head(w, 0, 2);
    put_number(w, "k", MB_GGUF_U8, 1, 1);
    put_number(w, "k", MB_GGUF_U8, 1, 1);
    refuse(w, "key k is there twice");

    w = calloc(1, sizeof *w);
    put_head(w, 0, 1);
    put_number(w, "k", (enum mb_gguf_value)13, 1, 8);
    refuse(w, "unknown type 13");

    w = calloc(1, sizeof *w);
    put_head(w, 0, 1);
    put_text(w, "k");
    put(w, MB_GGUF_TEXT, 4);
    put(w, UINT64_C(1) << 62, 8);
    refuse(w, "truncated or damaged");

    static const struct {
        uint32_t item_type;
        uint64_t n;
    } arrays[] = {{MB_GGUF_U64, UINT64_C(1) << 61},  {MB_GGUF_U8, UINT64_MAX},
                  {MB_GGUF_TEXT, UINT64_C(1) << 60}, {MB_GGUF_TEXT, UINT64_MAX},
                  {MB_GGUF_U64, UINT64_MAX},         {MB_GGUF_F64, 100},
                  {MB_GGUF_ARRAY, UINT64_MAX}};
    for (size_t i = 0; i < MB_COUNT(arrays); i++) {
        w = calloc(1, sizeof *w);
        put_head(w, 0, 1);
        put_text(w, "k");
        put(w, MB_GGUF_ARRAY, 4);
        put(w, arrays[i].item_type, 4);
        put(w, arrays[i].n, 8);
        put_data(w, 64);
        refuse(w, arrays[i].item_type == MB_GGUF_ARRAY ? "" : "truncated or damaged");
    }

    for (unsigned depth = 1; depth < 100000 / 12; depth = depth < 5 ? depth + 1 : depth * 20) {
        w = calloc(1, sizeof *w);
        put_head(w, 0, 1);
        put_text(w, "k");
        put(w, MB_GGUF_ARRAY, 4);
        for (unsigned i = 0; i < depth - 1 && w->n < sizeof w->bytes - 64; i++)
            put(w, MB_GGUF_ARRAY, 4), put(w, 1, 8);
        put(w, MB_GGUF_U8, 4), put(w, 1, 8), put(w, 7, 1);
        if (depth > 4) {
            refuse(w, "nests arrays");
            continue;
        }
        struct mb_gguf *gguf = NULL;
        uint64_t u;
        assert_int_equal(open_writer(w, &gguf, NULL), MB_OK);
        assert_int_equal(mb_gguf_get_u64_at(gguf, "k", 0, &u), depth == 1 ? MB_OK : MB_EFORMAT);
        mb_gguf_close(gguf);
        free(w);
    }

    static const uint32_t alignments[] = {0, 3, 48, UINT32_MAX, UINT32_C(1) << 31};
    for (size_t i = 0; i < MB_COUNT(alignments); i++) {
        w = calloc(1, sizeof *w);
        put_head(w, 0, 1);
        put_number(w, "general.alignment", MB_GGUF_U32, alignments[i], 4);
        refuse(w, "no power of two");
    }

    w = small_model(0);
    w->bytes[4] = 1;
    refuse(w, "version 1");
    w = small_model(0);
    w->bytes[4] = 4;
    refuse(w, "version 4");
    w = small_model(0);
    memset(w->bytes + 4, 0, 4);
    refuse(w, "version 0");
}

/* Random changes of one to four bytes: whatever happens, it is a code and no crash (ASan watches).
 */
static void survives_damage(void **state)
{
    (void)state;
    uint64_t seed = 42;
    for (unsigned round = 0; round < 20000; round++) {
        struct writer *w = small_model(round & 1);
        for (unsigned k = 0; k <= round % 4; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            w->bytes[(seed >> 33) % w->n] = (unsigned char)(seed >> 25);
        }
        struct mb_gguf *gguf = NULL;
        int code = open_writer(w, &gguf, NULL);
        assert_true(code == MB_OK || code == MB_EFORMAT);
        mb_gguf_close(gguf);
        free(w);
    }
}

/* ---- files on disk ---- */

static void refuse_file(const char *path, int expected, const char *text)
{
    struct mb_gguf *gguf = NULL;
    struct mb_err err = {0};
    int code = mb_gguf_open(path, &gguf, &err);
    if (code != expected || !strstr(err.text, text))
        fail_msg("expected \"%s\", got %d \"%s\"", text, code, err.text);
    assert_null(gguf);
}

static void wrong_files_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } cases[] = {
        {"\xff\xd8\xff\xe0 JFIF", 9, "JPEG"},
        {"\x89PNG\r\n\x1a\n", 8, "PNG"},
        {"PK\3\4rest", 8, "zip archive"},
        {"\n\n<!DOCTYPE html><html>", 22, "an HTML page; the download failed"},
        {"<html lang=\"en\">", 16, "an HTML page"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", 57, "git-lfs pointer"},
        {"\x40\0\0\0\0\0\0\0{\"a\":{}}", 16, "safetensors"},
        {"{\"error\":\"not found\"}", 21, "JSON"},
        {"lmgg1234", 8, "before August 2023"},
        {"\0\0\0\0\0\0\0\0\0\0", 10, "full of zeros"},
        {"hello", 5, "not a GGUF file"},
        {"GGU", 3, "not a GGUF file"},
        {"", 0, "the file is empty"},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        write_bytes("wrong.gguf", cases[i].bytes, cases[i].n);
        refuse_file(in_dir("wrong.gguf"), MB_EFORMAT, cases[i].text);
    }
    refuse_file(dir, MB_EFORMAT, "directory");
    refuse_file(in_dir("absent.gguf"), MB_ENOENT, "no such file");
    refuse_file("/dev/null", MB_EFORMAT, "device");
    assert_int_equal(mkfifo(in_dir("fifo.gguf"), 0600), 0);
    refuse_file(in_dir("fifo.gguf"), MB_EFORMAT, "pipe");

    /* A long path leaves room for the reason. */
    char *longer = malloc(4000);
    memset(longer, 'x', 4000);
    longer[3999] = 0;
    for (unsigned i = 0; i < 3999; i += 200)
        longer[i] = '/';
    refuse_file(longer, MB_ENOENT, "no such file");
    free(longer);

    struct writer *w = small_model(0);
    write_bytes("cut.gguf", w->bytes, w->n - 100);
    refuse_file(in_dir("cut.gguf"), MB_EFORMAT,
                "truncated download: 3 of 3 KiB are there, 100 B missing");
    free(w);
}

/* Part no (from 1) of count with one tensor, and maybe the sum of tensors. */
static void write_split(const char *name, unsigned no, unsigned count, const char *tensor,
                        unsigned sum)
{
    struct writer *w = calloc(1, sizeof *w);
    put_head(w, 1, no == 1 ? 4 : 3);
    if (no == 1)
        put_text_kv(w, "general.architecture", "llama");
    put_number(w, "split.no", MB_GGUF_U16, no - 1, 2);
    put_number(w, "split.count", MB_GGUF_U16, count, 2);
    put_number(w, "split.tensors.count", MB_GGUF_I32, sum, 4);
    put_tensor(w, tensor, MB_TYPE_F32, 8, no, 0);
    put_data(w, 32 * no);
    write_bytes(name, w->bytes, w->n);
    free(w);
}

static void splits_open_as_one(void **state)
{
    (void)state;
    write_split("m-00001-of-00003.gguf", 1, 3, "a", 3);
    write_split("m-00002-of-00003.gguf", 2, 3, "b", 3);
    refuse_file(in_dir("m-00002-of-00003.gguf"), MB_ENOENT,
                "m-00003-of-00003.gguf: part 3 of 3 is missing");
    write_split("m-00003-of-00003.gguf", 3, 3, "c", 3);
    for (unsigned no = 1; no <= 3; no++) {
        char name[32];
        snprintf(name, sizeof name, "m-%05u-of-00003.gguf", no);
        struct mb_gguf *gguf = NULL;
        struct mb_err err;
        if (mb_gguf_open(in_dir("%s", name), &gguf, &err))
            fail_msg("%s", err.text);
        assert_int_equal(mb_gguf_n_parts(gguf), 3);
        assert_int_equal(mb_gguf_n_tensors(gguf), 3);
        assert_int_equal(mb_gguf_tensor_bytes(gguf), 32 * 6);
        const struct mb_gguf_tensor *c = mb_gguf_find_tensor(gguf, "c");
        assert_int_equal(c->part, 2);
        assert_int_equal(c->offset, mb_gguf_part(gguf, 2)->data_offset);
        assert_string_equal(mb_gguf_part(gguf, 1)->path, in_dir("m-00002-of-00003.gguf"));
        const char *arch;
        assert_int_equal(mb_gguf_get_text(gguf, "general.architecture", &arch), MB_OK);
        mb_gguf_close(gguf);
    }

    write_split("m-00003-of-00003.gguf", 2, 3, "c", 3);
    refuse_file(in_dir("m-00001-of-00003.gguf"), MB_EFORMAT,
                "named as part 3 of 3, but inside it is part 2 of 3");
    write_split("m-00003-of-00003.gguf", 3, 3, "b", 3);
    refuse_file(in_dir("m-00001-of-00003.gguf"), MB_EFORMAT, "tensor b is there twice");
    write_split("m-00003-of-00003.gguf", 3, 3, "c", 3);
    write_split("m-00001-of-00003.gguf", 1, 3, "a", 4);
    refuse_file(in_dir("m-00001-of-00003.gguf"), MB_EFORMAT,
                "hold 3 tensors, but the first one says 4");
    write_split("renamed.gguf", 1, 3, "a", 3);
    refuse_file(in_dir("renamed.gguf"), MB_EFORMAT, "split into 3, but the name does not say so");
    struct writer *w = small_model(0);
    write_bytes("m-00002-of-00003.gguf", w->bytes, w->n);
    write_split("m-00001-of-00003.gguf", 1, 3, "a", 3);
    refuse_file(in_dir("m-00001-of-00003.gguf"), MB_EFORMAT, "not a part of a split model");
    free(w);

    size_t prefix;
    unsigned no, count;
    assert_int_equal(mb_gguf_split_parse("x-00002-of-00010.gguf", &prefix, &no, &count), 1);
    assert_int_equal(prefix, 1);
    assert_int_equal(no, 2);
    assert_int_equal(count, 10);
    assert_int_equal(mb_gguf_split_parse("-00001-of-00001.gguf", &prefix, &no, &count), 1);
    assert_int_equal(mb_gguf_split_parse("x-00000-of-00010.gguf", &prefix, &no, &count), 0);
    assert_int_equal(mb_gguf_split_parse("x-00011-of-00010.gguf", &prefix, &no, &count), 0);
    assert_int_equal(mb_gguf_split_parse("x-0001-of-00010.gguf", &prefix, &no, &count), 0);
    assert_int_equal(mb_gguf_split_parse("x.gguf", &prefix, &no, &count), 0);
}

/* 60 GB that are a hole in the file system: opening takes the memory of the header and no more. */
static void huge_files_cost_their_header(void **state)
{
    (void)state;
    struct writer *w = calloc(1, sizeof *w);
    uint64_t ne1 = UINT64_C(60000000000) / 4 / 4096;
    put_head(w, 1, 0);
    put_tensor(w, "x.weight", MB_TYPE_F32, 4096, ne1, 0);
    put_data(w, 0);
    write_bytes("huge.gguf", w->bytes, w->n);
    if (truncate(in_dir("huge.gguf"), (off_t)(w->n + ne1 * 4096 * 4)) != 0) {
        free(w);
        skip();
    }
    free(w);
    struct rusage before, after;
    struct mb_gguf *gguf = NULL;
    struct mb_err err;
    getrusage(RUSAGE_SELF, &before);
    if (mb_gguf_open(in_dir("huge.gguf"), &gguf, &err))
        fail_msg("%s", err.text);
    assert_true(mb_gguf_tensor_bytes(gguf) > UINT64_C(59000000000));
    mb_gguf_close(gguf);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 30 * 1024);
    unlink(in_dir("huge.gguf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_both_byte_orders_and_versions),
        cmocka_unit_test(each_beginning_asks_for_more),
        cmocka_unit_test(kinds_are_told_apart),
        cmocka_unit_test(numbers_keep_their_sign_and_size),
        cmocka_unit_test(refuses_hostile_tensors),
        cmocka_unit_test(refuses_hostile_metadata),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(splits_open_as_one),
        cmocka_unit_test(huge_files_cost_their_header),
    };
    return cmocka_run_group_tests_name("gguf", tests, make_dir, remove_dir);
}
