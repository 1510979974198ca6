/* SPDX-License-Identifier: MIT */
/* dump FILE: everything that the reader of GGUF (or, by another ending, safetensors) learnt, as JSON, for
 * golden.py and peers.py to compare with what another reader of the format learnt. */
#include "base/base.h"
#include "model/gguf.h"
#include "model/safetensors.h"

#include <math.h>
#include <string.h>

static json_t *text_json(const char *text, size_t n)
{
    json_t *string = json_stringn(text, n);
    if (string)
        return string;
    string = json_array(); /* bytes that are not UTF-8, one number each */
    for (size_t i = 0; i < n; i++)
        json_array_append_new(string, json_integer((unsigned char)text[i]));
    return string;
}

static json_t *value_json(const struct mb_gguf *gguf, const struct mb_gguf_kv *kv, uint64_t i)
{
    uint64_t u;
    int64_t s;
    double f;
    const char *text;
    size_t n;
    switch (kv->item_type) {
    case MB_GGUF_TEXT:
        if (kv->type == MB_GGUF_TEXT)
            return mb_gguf_get_text(gguf, kv->key, &text) ? NULL : text_json(text, strlen(text));
        return mb_gguf_get_text_at(gguf, kv->key, i, &text, &n) ? NULL : text_json(text, n);
    case MB_GGUF_F32:
    case MB_GGUF_F64:
        if (mb_gguf_get_f64_at(gguf, kv->key, i, &f))
            return NULL;
        return isfinite(f) ? json_real(f) : json_null();
    case MB_GGUF_BOOL:
        return mb_gguf_get_u64_at(gguf, kv->key, i, &u) ? NULL : json_boolean(u);
    case MB_GGUF_U64:
        return mb_gguf_get_u64_at(gguf, kv->key, i, &u) ? NULL : mb_json_count(u);
    default:
        return mb_gguf_get_i64_at(gguf, kv->key, i, &s) ? NULL : json_integer(s);
    }
}

static json_t *kv_json(const struct mb_gguf *gguf, const struct mb_gguf_kv *kv)
{
    json_t *value = NULL;
    if (kv->type == MB_GGUF_ARRAY) {
        value = json_array();
        for (uint64_t i = 0; i < kv->n; i++)
            json_array_append_new(value, value_json(gguf, kv, i));
    } else {
        value = value_json(gguf, kv, 0);
    }
    return json_pack("{s:s, s:s, s:s, s:o}", "key", kv->key, "type", mb_gguf_value_name(kv->type),
                     "item_type", mb_gguf_value_name(kv->item_type), "value", value);
}

static json_t *tensor_json(const struct mb_gguf_tensor *tensor)
{
    json_t *shape = json_array();
    for (unsigned i = 0; i < tensor->n_dims; i++)
        json_array_append_new(shape, mb_json_count(tensor->ne[i]));
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:i}", "name", tensor->name, "type",
                     mb_type_name(tensor->type), "shape", shape, "bytes",
                     mb_json_count(tensor->bytes), "offset", mb_json_count(tensor->offset), "part",
                     (int)tensor->part);
}

static int print_json(json_t *root)
{
    if (!root)
        return 5;
    json_dumpf(root, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(root);
    return ferror(stdout) != 0;
}

static int dump_safetensors(const char *path, struct mb_err *err)
{
    struct mb_safetensors *model = NULL;
    int code = mb_safetensors_open(path, &model, err);
    if (code)
        return code;
    json_t *tensors = json_array();
    for (unsigned i = 0; i < model->n_tensors; i++) {
        const struct mb_safetensors_tensor *tensor = &model->tensors[i];
        json_t *shape = json_array();
        for (unsigned k = 0; k < tensor->n_dims; k++)
            json_array_append_new(shape, mb_json_count(tensor->shape[k]));
        json_array_append_new(tensors, json_pack("{s:s, s:s, s:o, s:o}", "name", tensor->name,
                                                 "dtype", tensor->dtype, "shape", shape, "bytes",
                                                 mb_json_count(tensor->bytes)));
    }
    json_t *root =
        json_pack("{s:o, s:o}", "tensors", tensors, "bytes", mb_json_count(model->bytes));
    mb_safetensors_close(model);
    return print_json(root) ? MB_EINTERNAL : MB_OK;
}

static int dump_gguf(const char *path, struct mb_err *err)
{
    struct mb_gguf *gguf = NULL;
    int code = mb_gguf_open(path, &gguf, err);
    if (code)
        return code;
    json_t *kvs = json_array(), *tensors = json_array(), *parts = json_array();
    for (unsigned i = 0; i < mb_gguf_n_kv(gguf); i++)
        json_array_append_new(kvs, kv_json(gguf, mb_gguf_kv(gguf, i)));
    for (unsigned i = 0; i < mb_gguf_n_tensors(gguf); i++)
        json_array_append_new(tensors, tensor_json(mb_gguf_tensor(gguf, i)));
    for (unsigned i = 0; i < mb_gguf_n_parts(gguf); i++) {
        const struct mb_gguf_part *part = mb_gguf_part(gguf, i);
        json_array_append_new(parts, json_pack("{s:i, s:b, s:i, s:o}", "version",
                                               (int)part->version, "big_endian", part->big_endian,
                                               "alignment", (int)part->alignment, "data_offset",
                                               mb_json_count(part->data_offset)));
    }
    json_t *root = json_pack("{s:s, s:o, s:o, s:o}", "kind", mb_gguf_kind_name(mb_gguf_kind(gguf)),
                             "parts", parts, "kv", kvs, "tensors", tensors);
    mb_gguf_close(gguf);
    return print_json(root) ? MB_EINTERNAL : MB_OK;
}

int main(int argc, char **argv)
{
    struct mb_err err = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: dump FILE\n");
        return 2;
    }
    size_t n = strlen(argv[1]);
    int is_gguf = n > 5 && strcmp(argv[1] + n - 5, ".gguf") == 0;
    int code = is_gguf ? dump_gguf(argv[1], &err) : dump_safetensors(argv[1], &err);
    if (code)
        fprintf(stderr, "%s\n", err.text);
    return mb_code_exit(code);
}
