/* SPDX-License-Identifier: MIT */
/* From what a person typed to a model: a file, a model that another program has downloaded, a file on a model hub, or a
 * name of the catalog. Each of these is somebody else's; this file decides which one was meant. */
#include "model/find.h"
#include "model/gguf.h"
#include "model/hf.h"
#include "model/open.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static int open_remote(const char *spec, const struct mb_model_search *search, struct mb_model **out, struct mb_err *err)
{
    struct mb_hf_opts opts = {0};
    struct mb_gguf *gguf = NULL;
    if (search) {
        opts.base = search->hub;
        opts.cache_dir = search->header_cache;
        opts.http.token = search->hub_token;
        opts.http.cancel = search->cancel;
    }
    int code = mb_hf_open(spec, &opts, &gguf, err);
    if (code)
        return code;
    code = mb_model_from_gguf(gguf, spec, out, err);
    mb_gguf_close(gguf);
    return code;
}

/* A bare name: what is on this machine goes before the catalog, because it is what would be run. */
static int open_name(const char *spec, const struct mb_model_search *search, struct mb_model **out, struct mb_err *err)
{
    struct mb_found_list *list = NULL;
    const struct mb_found *found = NULL;
    struct mb_err why = {0};
    int here = MB_ENAME;
    if (search && search->n_stores && !strchr(spec, '@')) {
        here = mb_models_found(search, &list, err);
        if (here)
            return here;
        here = mb_find_model(list, spec, &found, &why);
    }
    int code = here == MB_OK       ? mb_model_open_gguf(found->path, out, err)
               : here == MB_EINVAL ? mb_fail(err, here, "%s", why.text)
                                   : mb_model_catalog(spec, out, err);
    mb_found_free(list);
    return code;
}

int mb_model_open(const char *spec, const struct mb_model_search *search, struct mb_model **out, struct mb_err *err)
{
    struct stat info;
    if (!spec || !*spec)
        return mb_fail(err, MB_EINVAL, "no model given; name a GGUF file or NAME@QUANT, as in Qwen3-8B@Q4_K_M");
    if (mb_hf_is_name(spec))
        return open_remote(spec, search, out, err);
    int exists = stat(spec, &info) == 0;
    if (exists && S_ISDIR(info.st_mode))
        return mb_model_open_hf(spec, out, err);
    if (exists || ends_in(spec, ".gguf") || spec[0] == '/' || spec[0] == '.')
        return mb_model_open_gguf(spec, out, err);
    return open_name(spec, search, out, err);
}
