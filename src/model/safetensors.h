/* SPDX-License-Identifier: MIT */
/* Safetensors: the names, types and shapes of a model's tensors, without reading their data.
 *
 * Layout of a file (source: huggingface/safetensors, README): u64 length of a JSON object, little
 * endian; the object,
 * {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__": {...}}; the
 * data. A model is a directory of such files, and model.safetensors.index.json says which tensor is
 * in which. */
#ifndef MB_SAFETENSORS_H
#define MB_SAFETENSORS_H

#include "membound.h"

#define MB_SAFETENSORS_UNKNOWN UINT64_MAX

struct mb_safetensors_tensor {
    const char *name;
    const char *dtype; /* as written: "BF16", "F8_E4M3"; NULL if only the index is there */
    unsigned n_dims;
    uint64_t shape[8]; /* as written: the row is the last one */
    uint64_t bytes;    /* MB_SAFETENSORS_UNKNOWN if only the index is there */
    unsigned file;
};

/* Bytes by type, in the order of first appearance. */
struct mb_safetensors_sum {
    const char *dtype;
    uint64_t bytes;
    unsigned n_tensors;
};

struct mb_safetensors {
    struct mb_safetensors_tensor *tensors; /* in the order of the files and of their data */
    unsigned n_tensors;
    struct mb_safetensors_sum *sums;
    unsigned n_sums;
    const char **files;
    unsigned n_files;
    uint64_t bytes;          /* of all tensors; what the index says if only that is there */
    const char *config_path; /* of config.json; NULL if there is none */
    void *owner;             /* private */
};

/* Open a directory or a single file.
 * Returns MB_OK; MB_ENOENT: not there, or a file that the index names is missing; MB_EIO;
 * MB_EFORMAT: no safetensors, damaged or truncated; MB_ENOMEM. */
int mb_safetensors_open(const char *path, struct mb_safetensors **out, struct mb_err *err);
void mb_safetensors_close(struct mb_safetensors *model);

/* The same from the first n bytes of one file of file_bytes. Also returns MB_EMORE: the header is
 * longer. */
int mb_safetensors_open_bytes(const void *bytes, size_t n, uint64_t file_bytes, const char *label,
                              struct mb_safetensors **out, struct mb_err *err);

#endif
