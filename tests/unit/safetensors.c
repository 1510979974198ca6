/* SPDX-License-Identifier: MIT */
/* Suite for src/model/safetensors.c. */
#include "base/base.h"
#include "model/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPPORT_DIR
#define SUPPORT_FILES
#include "support.h"

/* A file: the length of the JSON text, the text, and data of n_data zeros. Free with free(). */
static unsigned char *make(const char *json, size_t n_data, size_t *n)
{
    size_t length = strlen(json);
    *n = 8 + length + n_data;
    unsigned char *bytes = calloc(1, *n);
    assert_non_null(bytes);
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, json, length);
    return bytes;
}

static int open_made(const char *json, size_t n_data, struct mb_safetensors **out,
                     struct mb_err *err)
{
    size_t n;
    unsigned char *bytes = make(json, n_data, &n);
    int code = mb_safetensors_open_bytes(bytes, n, n, "made.safetensors", out, err);
    free(bytes);
    return code;
}

static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[16,28]},"
    "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
    "\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[28,32]},"
    "\"e\":{\"dtype\":\"BF16\",\"shape\":[0,7],\"data_offsets\":[28,28]},"
    "\"q\":{\"dtype\":\"F4\",\"shape\":[2,2],\"data_offsets\":[32,34]},"
    "\"x\":{\"dtype\":\"NEW9\",\"shape\":[5],\"data_offsets\":[34,40]}}   ";

static void headers_are_listed(void **state)
{
    (void)state;
    struct mb_safetensors *model = NULL;
    struct mb_err err;
    if (open_made(good, 40, &model, &err))
        fail_msg("%s", err.text);
    static const char *const names[] = {"a.weight", "b.weight", "e", "s", "q", "x"};
    assert_int_equal(model->n_tensors, MB_COUNT(names));
    for (unsigned i = 0; i < model->n_tensors; i++)
        assert_string_equal(model->tensors[i].name, names[i]);
    const struct mb_safetensors_tensor *b = &model->tensors[1];
    assert_string_equal(b->dtype, "BF16");
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->bytes, 12);
    assert_int_equal(model->bytes, 40);
    assert_int_equal(model->n_sums, 4);
    assert_string_equal(model->sums[0].dtype, "F32");
    assert_int_equal(model->sums[0].bytes, 20);
    assert_int_equal(model->sums[0].n_tensors, 2);
    mb_safetensors_close(model);

    size_t n;
    unsigned char *bytes = make(good, 40, &n);
    for (size_t k = 0; k < n; k++) {
        unsigned char *copy = malloc(k ? k : 1); /* exact, for ASan */
        memcpy(copy, bytes, k);
        model = NULL;
        int code = mb_safetensors_open_bytes(copy, k, n, "made", &model, &err);
        assert_int_equal(code, k < 8 + sizeof good - 1 ? MB_EMORE : MB_OK);
        mb_safetensors_close(model);
        assert_int_equal(mb_safetensors_open_bytes(copy, k, k, "made", &model, &err), MB_EFORMAT);
        free(copy);
    }
    free(bytes);
}

static void hostile_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,8]}}",
         "do not fit its shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,32]}}",
         "do not fit its shape"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", "do not fit its shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", "no range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}", "no range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16,32]}}", "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", "lacks"},
        {"{\"a\":{\"dtype\":7,\"shape\":[4],\"data_offsets\":[0,16]}}", "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}", "lacks"},
        {"{\"a\":7}", "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", "no count"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4.0],\"data_offsets\":[0,16]}}", "no count"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}",
         "larger than any"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}",
         "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}",
         "over 8 dimensions"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[8,10]}}",
         "a and b overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[99],\"data_offsets\":[0,99]}}",
         "truncated download: 59 B"},
        {"{\"a\":{},\"a\":{}}", "duplicate"},
        {"{\"a\":", "line 1"},
        {"[]", "not a safetensors file"},
        {"", "not a safetensors file"},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct mb_safetensors *model = NULL;
        struct mb_err err = {0};
        int code = open_made(cases[i].json, 40, &model, &err);
        if (code != MB_EFORMAT || !strstr(err.text, cases[i].text))
            fail_msg("%s: expected \"%s\", got %d \"%s\"", cases[i].json, cases[i].text, code,
                     err.text);
    }
    /* Lengths that no header has. */
    static const uint64_t lengths[] = {0, 1, 100000001, UINT64_MAX, UINT64_MAX - 8, INT64_MAX};
    for (size_t i = 0; i < MB_COUNT(lengths); i++) {
        unsigned char bytes[32] = "01234567{\"a\":{}}";
        struct mb_safetensors *model = NULL;
        struct mb_err err;
        for (unsigned k = 0; k < 8; k++)
            bytes[k] = (unsigned char)(lengths[i] >> (8 * k));
        assert_int_equal(
            mb_safetensors_open_bytes(bytes, sizeof bytes, UINT64_MAX, "x", &model, &err),
            MB_EFORMAT);
    }
}

/* ---- directories ---- */

static void write_one(const char *name, const char *tensor)
{
    char json[200];
    size_t n;
    snprintf(json, sizeof json,
             "{\"%s\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", tensor);
    unsigned char *bytes = make(json, 4, &n);
    write_bytes(name, bytes, n);
    free(bytes);
}

static void write_index(const char *text)
{
    write_bytes("model.safetensors.index.json", text, strlen(text));
}

static void refuse(int expected, const char *text)
{
    struct mb_safetensors *model = NULL;
    struct mb_err err = {0};
    int code = mb_safetensors_open(dir, &model, &err);
    if (code != expected || !strstr(err.text, text))
        fail_msg("expected \"%s\", got %d \"%s\"", text, code, err.text);
}

static void directories_are_one_model(void **state)
{
    (void)state;
    struct mb_safetensors *model = NULL;
    struct mb_err err;
    refuse(MB_EFORMAT, "no .safetensors file");
    write_one("model-00001-of-00002.safetensors", "a");
    write_one("model-00002-of-00002.safetensors", "b");
    write_bytes("config.json", "{}", 2);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(mb_safetensors_open(dir, &model, &err), MB_OK);
        assert_int_equal(model->n_files, 2);
        assert_int_equal(model->n_tensors, 2);
        assert_int_equal(model->tensors[1].file, 1);
        assert_int_equal(model->bytes, 8);
        assert_string_equal(model->config_path, in_dir("config.json"));
        mb_safetensors_close(model);
        write_index(
            "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
            "\"b\":\"model-00002-of-00002.safetensors\"}}");
    }
    assert_int_equal(mb_safetensors_open(in_dir("model-00001-of-00002.safetensors"), &model, &err),
                     MB_OK);
    assert_int_equal(model->n_tensors, 1);
    assert_null(model->config_path);
    mb_safetensors_close(model);

    write_index("{\"weight_map\":{\"a\":\"../x.safetensors\"}}");
    refuse(MB_EFORMAT, "no file name");
    write_index("{\"weight_map\":{\"a\":[]}}");
    refuse(MB_EFORMAT, "no file name");
    write_index("{\"weight_map\":{}}");
    refuse(MB_EFORMAT, "no weight_map");
    write_index("{\"weight_map\":");
    refuse(MB_EFORMAT, "line 1");
    write_index(
        "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\",\"c\":\"model-00001-of-00002.safetensors\"}}");
    refuse(MB_EFORMAT, "names 2 tensors, the files hold 1");
    write_index(
        "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\",\"c\":\"model-3.safetensors\"}}");
    refuse(MB_ENOENT, "model-3.safetensors is missing");

    /* The index alone: names and the stated sum; types and shapes are unknown and said to be so. */
    write_index(
        "{\"metadata\":{\"total_size\":1000},\"weight_map\":{\"a\":\"x.safetensors\",\"c\":\"y.safetensors\"}}");
    assert_int_equal(mb_safetensors_open(dir, &model, &err), MB_OK);
    assert_int_equal(model->n_tensors, 2);
    assert_null(model->tensors[0].dtype);
    assert_true(model->tensors[0].bytes == MB_SAFETENSORS_UNKNOWN);
    assert_int_equal(model->bytes, 1000);
    assert_int_equal(model->n_sums, 0);
    mb_safetensors_close(model);

    assert_int_equal(unlink(in_dir("model.safetensors.index.json")), 0);
    write_one("z.safetensors", "a");
    refuse(MB_EFORMAT, "the tensor a is in two files");
    write_bytes("z.safetensors", "<html>", 6);
    refuse(MB_EFORMAT, "an HTML page");
    write_bytes("z.safetensors", "GGUF\3\0\0\0\0\0\0\0\0\0\0\0", 16);
    refuse(MB_EFORMAT, "a GGUF file");
    assert_int_equal(mb_safetensors_open(in_dir("absent"), &model, &err), MB_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_listed),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(directories_are_one_model),
    };
    return cmocka_run_group_tests_name("safetensors", tests, make_dir, remove_dir);
}
