/* SPDX-License-Identifier: MIT */
/* GGUF files: metadata and the table of tensors, without reading any tensor's data.
 *
 * Layout of a file (version 2 and 3; source: ggml, docs/gguf.md):
 *   "GGUF", u32 version, u64 number of tensors, u64 number of key-value pairs,
 *   pairs    string key, u32 type, value; an array is u32 item type, u64 count, items
 *   tensors  string name, u32 number of dimensions, u64 each dimension, u32 type, u64 offset from
 * the data's start padding up to general.alignment (32 if absent), then the data A string is its
 * u64 length and its bytes. All is little endian, or all but the magic is big endian.
 *
 * A model in split files is opened by any of its parts and looks like one file. */
#ifndef MB_GGUF_H
#define MB_GGUF_H

#include "model/source.h"
#include "model/type.h"

struct mb_gguf;

/* What a GGUF file is for. Only a model can be run. */
enum mb_gguf_kind {
    MB_GGUF_MODEL,
    MB_GGUF_ADAPTER, /* LoRA: a change to a model */
    MB_GGUF_MMPROJ,  /* the image or audio encoder beside a model */
    MB_GGUF_VOCAB,   /* a tokenizer without tensors */
    MB_GGUF_OTHER    /* importance matrices, control vectors */
};

enum mb_gguf_value {
    MB_GGUF_U8,
    MB_GGUF_I8,
    MB_GGUF_U16,
    MB_GGUF_I16,
    MB_GGUF_U32,
    MB_GGUF_I32,
    MB_GGUF_F32,
    MB_GGUF_BOOL,
    MB_GGUF_TEXT,
    MB_GGUF_ARRAY,
    MB_GGUF_U64,
    MB_GGUF_I64,
    MB_GGUF_F64,
    MB_GGUF_VALUE_END
};

struct mb_gguf_tensor {
    const char *name;
    uint32_t type; /* enum mb_type */
    unsigned n_dims;
    uint64_t ne[4]; /* ne[0] is the row; 1 from n_dims on */
    uint64_t bytes;
    uint64_t offset; /* absolute, in the file of its part */
    unsigned part;
};

struct mb_gguf_kv {
    const char *key;
    enum mb_gguf_value type;
    enum mb_gguf_value item_type; /* of an array; otherwise the same as type */
    uint64_t n;                   /* items of an array; otherwise 1 */
    /* private to gguf.c */
    size_t at;             /* of the value, or an array's first item, in the header */
    const char *text;      /* a terminated copy of a text */
    const uint32_t *marks; /* array of texts: where each 64th one lies */
};

struct mb_gguf_part {
    const char *path;      /* as opened */
    uint64_t file_bytes;   /* MB_SOURCE_UNKNOWN if the server did not say */
    uint64_t header_bytes; /* up to the end of the table of tensors */
    uint64_t data_offset;
    uint32_t version, alignment;
    int big_endian;
    unsigned n_tensors;
};

/* Open a file, or all files of a split model given any of them. Reads headers only.
 *   out  written only on MB_OK; free with mb_gguf_close()
 * Returns MB_OK; MB_ENOENT: the file or a part is missing (named); MB_EIO; MB_EFORMAT: not a GGUF
 * file (err says what it is instead), damaged, truncated, or of a type this program does not know;
 * MB_ENOMEM; and what else the source returns. */
int mb_gguf_open(const char *path, struct mb_gguf **out, struct mb_err *err);
int mb_gguf_open_source(const struct mb_source *source, const char *path, struct mb_gguf **out,
                        struct mb_err *err);

/* The same from the first n bytes of a file of file_bytes (MB_SOURCE_UNKNOWN: not known), which are
 * copied. One part only. Also returns MB_EMORE: these bytes are good so far but not the whole
 * header; come again with more. */
int mb_gguf_open_bytes(const void *bytes, size_t n, uint64_t file_bytes, const char *label,
                       struct mb_gguf **out, struct mb_err *err);
void mb_gguf_close(struct mb_gguf *gguf);

enum mb_gguf_kind mb_gguf_kind(const struct mb_gguf *gguf);
const char *mb_gguf_kind_name(enum mb_gguf_kind kind); /* "model", "LoRA adapter", ... */

unsigned mb_gguf_n_parts(const struct mb_gguf *gguf);
const struct mb_gguf_part *mb_gguf_part(const struct mb_gguf *gguf, unsigned i);
uint64_t
mb_gguf_file_bytes(const struct mb_gguf *gguf); /* of all parts; MB_SOURCE_UNKNOWN if one is */
uint64_t mb_gguf_tensor_bytes(const struct mb_gguf *gguf); /* sum over the table */

/* Tensors in the order of the files; find returns NULL. */
unsigned mb_gguf_n_tensors(const struct mb_gguf *gguf);
const struct mb_gguf_tensor *mb_gguf_tensor(const struct mb_gguf *gguf, unsigned i);
const struct mb_gguf_tensor *mb_gguf_find_tensor(const struct mb_gguf *gguf, const char *name);

/* Metadata: the pairs of the first part in file order; find returns NULL. */
unsigned mb_gguf_n_kv(const struct mb_gguf *gguf);
const struct mb_gguf_kv *mb_gguf_kv(const struct mb_gguf *gguf, unsigned i);
const struct mb_gguf_kv *mb_gguf_find_kv(const struct mb_gguf *gguf, const char *key);
const char *mb_gguf_value_name(enum mb_gguf_value type); /* "u32", "text", ... */

/* A value by key. MB_OK; MB_ENODATA: no such key; MB_EFORMAT: it is of another kind or does not
 * fit. out is written only on MB_OK. Integers are read from any integer type, from bool, and from a
 * float that holds a whole number (published files store layer counts as f32); floats from any
 * number; bools from bool and integers. */
int mb_gguf_get_u64(const struct mb_gguf *gguf, const char *key, uint64_t *out);
int mb_gguf_get_i64(const struct mb_gguf *gguf, const char *key, int64_t *out);
int mb_gguf_get_f64(const struct mb_gguf *gguf, const char *key, double *out);
int mb_gguf_get_bool(const struct mb_gguf *gguf, const char *key, int *out);
int mb_gguf_get_text(const struct mb_gguf *gguf, const char *key, const char **out);

/* Arrays: count and item type; item i. A scalar number answers for every i, since files give one
 * value or one per layer. Further: MB_ERANGE: the array has no item i. Texts of arrays are not
 * terminated and may hold any bytes; text i costs a short walk. */
int mb_gguf_array_n(const struct mb_gguf *gguf, const char *key, uint64_t *out_n,
                    enum mb_gguf_value *out_type);
int mb_gguf_get_u64_at(const struct mb_gguf *gguf, const char *key, uint64_t i, uint64_t *out);
int mb_gguf_get_i64_at(const struct mb_gguf *gguf, const char *key, uint64_t i, int64_t *out);
int mb_gguf_get_f64_at(const struct mb_gguf *gguf, const char *key, uint64_t i, double *out);
int mb_gguf_get_text_at(const struct mb_gguf *gguf, const char *key, uint64_t i, const char **out,
                        size_t *out_n);

/* Item i of an array whose key was looked up (mb_gguf_find_kv(); NULL: MB_ENODATA). As above. */
int mb_gguf_item_u64(const struct mb_gguf *gguf, const struct mb_gguf_kv *kv, uint64_t i,
                     uint64_t *out);
int mb_gguf_item_f64(const struct mb_gguf *gguf, const struct mb_gguf_kv *kv, uint64_t i,
                     double *out);

/* A walk over all texts of an array, in order. MB_OK; MB_ENODATA; MB_EFORMAT: no array of texts. */
struct mb_gguf_texts {
    const struct mb_gguf *gguf;
    size_t at;
    uint64_t n_left;
};
int mb_gguf_texts(const struct mb_gguf *gguf, const char *key, struct mb_gguf_texts *out);
/* The next of them; 0: there was none, and nothing is written. */
int mb_gguf_next_text(struct mb_gguf_texts *texts, const char **out, size_t *out_n);

/* ---- split names ---- */

/* Does the name end in -NNNNN-of-NNNNN.gguf with 1 <= no <= count? 1 yes: prefix_bytes come before
 * the ending. */
int mb_gguf_split_parse(const char *path, size_t *prefix_bytes, unsigned *no, unsigned *count);

/* ---- building, for gguf_split.c ---- */

struct mb_gguf *mb_gguf_new(void);
/* Parse one more file's header. bytes is from malloc() and taken over on MB_OK only; MB_EMORE
 * changes nothing. */
int mb_gguf_add_part(struct mb_gguf *gguf, unsigned char *bytes, size_t n, uint64_t file_bytes,
                     const char *path, struct mb_err *err);
/* An integer of one part's own metadata; codes as above. */
int mb_gguf_part_u64(const struct mb_gguf *gguf, unsigned part, const char *key, uint64_t *out);
/* All parts are there: make the table of all tensors and find out the kind. */
int mb_gguf_finish(struct mb_gguf *gguf, struct mb_err *err);

#endif
