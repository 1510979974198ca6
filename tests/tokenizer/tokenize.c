/* SPDX-License-Identifier: MIT */
/* tokenize FILE.gguf: texts to tokens, for check_tokenizer.py to compare with what another program makes of them. Each
 * request on stdin is flags (of enum mb_tokenize_flag) and the length of a text, both u32 in the byte order of this
 * machine, and the text. Each answer is a line: the ids; then, behind a tab, 1 if detokenising gives the text back (without what
 * MB_TOKENIZE_SPECIAL added). */
#include "base/base.h"
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static int answer(const struct mb_tokenizer *tokenizer, const char *text, size_t n, unsigned flags)
{
    int32_t *ids;
    size_t n_ids, back_n;
    char *back;
    struct mb_err err;
    const struct mb_tokenizer_info *info = mb_tokenizer_info(tokenizer);
    int bos = (flags & MB_TOKENIZE_SPECIAL) && info->add_bos, eos = (flags & MB_TOKENIZE_SPECIAL) && info->add_eos;
    if (mb_tokenize(tokenizer, text, n, flags, &ids, &n_ids, &err) ||
        mb_detokenize(tokenizer, ids + bos, n_ids - (size_t)(bos + eos), MB_DETOKENIZE_START | MB_DETOKENIZE_CONTROL, &back, &back_n, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    for (size_t i = 0; i < n_ids; i++)
        printf("%s%d", i ? " " : "", (int)ids[i]);
    printf("\t%d\n", back_n == n && memcmp(back, text, n) == 0);
    free(ids);
    free(back);
    return 0;
}

int main(int argc, char **argv)
{
    struct mb_gguf *gguf = NULL;
    struct mb_tokenizer *tokenizer = NULL;
    struct mb_err err;
    if (argc != 2) {
        fprintf(stderr, "usage: tokenize FILE.gguf < requests\n");
        return 2;
    }
    int failed = mb_gguf_open(argv[1], &gguf, &err) || mb_tokenizer_open(gguf, &tokenizer, &err);
    mb_gguf_close(gguf);
    if (failed)
        fprintf(stderr, "%s\n", err.text);
    uint32_t head[2];
    while (!failed && fread(head, sizeof *head, 2, stdin) == 2) {
        char *text = malloc((size_t)head[1] + 1);
        failed = !text || fread(text, 1, head[1], stdin) != head[1] || answer(tokenizer, text, head[1], head[0]);
        fflush(stdout);
        free(text);
    }
    mb_tokenizer_close(tokenizer);
    return failed ? 3 : 0;
}
