/* SPDX-License-Identifier: MIT */
/* The header of any GGUF file is either refused or a model of which all that use_model.h asks holds. */
#include "model/gguf.h"
#include "model/open.h"
#include "use_model.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *bytes = malloc(size ? size : 1);
    struct mb_gguf *gguf = NULL;
    struct mb_model *model = NULL;
    struct mb_err err = {0};
    if (!bytes)
        return 0;
    memcpy(bytes, data, size);
    if (mb_gguf_open_bytes(bytes, size, MB_SOURCE_UNKNOWN, "fuzz.gguf", &gguf, &err) == MB_OK) {
        if (mb_model_from_gguf(gguf, "fuzz.gguf", &model, &err) == MB_OK) {
            use_model(model);
        } else if (!*err.text) {
            abort();
        }
    }
    mb_model_free(model);
    mb_gguf_close(gguf);
    free(bytes);
    return 0;
}
