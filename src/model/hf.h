/* SPDX-License-Identifier: MIT */
/* The header of a GGUF file on a model hub, without downloading the model:
 * `hf:owner/repo/path/file.gguf`. */
#ifndef MB_HF_H
#define MB_HF_H

#include "model/gguf.h"
#include "model/http.h"

struct mb_hf_opts {
    const char *base;      /* of the hub; NULL: https://huggingface.co */
    const char *cache_dir; /* where headers are kept (made if absent); NULL: nowhere */
    struct mb_http_opts http;
};

/* Does the name begin with "hf:"? */
int mb_hf_is_name(const char *name);

/* Read the headers of the file, or of all parts of a split model given any of them. A header that
 * is in the cache under the same address and entity tag is not fetched again. Returns as
 * mb_gguf_open() and mb_http_read() do; MB_EINVAL: not of the form hf:owner/repo/path/file.gguf;
 * MB_EIO: the hub wants a token, err says how. */
int mb_hf_open(const char *name, const struct mb_hf_opts *opts, struct mb_gguf **out,
               struct mb_err *err);

#endif
