/* SPDX-License-Identifier: MIT */
/* Any bytes as a vocabulary and a text: the first two bytes are the length of the text, which comes next; the rest
 * is a GGUF file.
 * Whatever opens must take the text, give ids that exist, and say in UTF-8 what they mean. */
#include "engine/tokenizer.h"
#include "engine/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_utf8(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        int length = mb_utf8_sequence(text + i, n - i);
        if (length <= 0)
            abort();
        i += (size_t)length;
    }
}

static void run(const struct mb_tokenizer *tokenizer, const char *text, size_t n, unsigned flags)
{
    int32_t *ids;
    size_t n_ids, n_back;
    char *back;
    struct mb_detok *detok;
    if (mb_tokenize(tokenizer, text, n, flags, &ids, &n_ids, NULL))
        abort();
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= mb_tokenizer_info(tokenizer)->n_vocab)
            abort();
        mb_token_is_eog(tokenizer, ids[i]);
    }
    if (mb_detokenize(tokenizer, ids, n_ids, flags, &back, &n_back, NULL) || mb_detok_open(tokenizer, flags, &detok, NULL))
        abort();
    for (size_t i = 0; i <= n_ids; i++) {
        size_t n_part;
        const char *part = i < n_ids ? mb_detok_add(detok, ids[i], &n_part) : mb_detok_end(detok, &n_part);
        check_utf8(part, n_part);
    }
    mb_detok_close(detok);
    free(back);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    size_t length = data[0] | (size_t)data[1] << 8;
    length = length < n - 2 ? length : n - 2;
    char *text = malloc(length + 1); /* its own block, so that a read behind it is found */
    struct mb_gguf *gguf = NULL;
    struct mb_tokenizer *tokenizer = NULL;
    struct mb_err err;
    if (!text)
        return 0;
    memcpy(text, data + 2, length);
    if (mb_gguf_open_bytes(data + 2 + length, n - 2 - length, MB_SOURCE_UNKNOWN, "fuzz", &gguf, &err) == MB_OK) {
        int code = mb_tokenizer_open(gguf, &tokenizer, &err);
        if (code != MB_OK && code != MB_EFORMAT && code != MB_ENOTSUP && code != MB_ENODATA && code != MB_ENOMEM)
            abort();
    }
    mb_gguf_close(gguf);
    for (unsigned flags = 0; tokenizer && flags < 4; flags++)
        run(tokenizer, text, length, flags);
    mb_tokenizer_close(tokenizer);
    free(text);
    return 0;
}
