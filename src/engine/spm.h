/* SPDX-License-Identifier: MIT */
/* SentencePiece as llama.cpp runs it: characters merge into the token of the best score, and what is no token is written
 * as its bytes. */
#ifndef MB_SPM_H
#define MB_SPM_H

#include "engine/bpe.h"

/* What is looked up once. The vocabulary must outlive it. */
struct mb_spm {
    const struct mb_vocab *vocab;
    int32_t bytes[256]; /* "<0xXX>", or the byte itself, or the unknown token */
};

void mb_spm_open(const struct mb_vocab *vocab, struct mb_spm *spm);

/* Append the tokens of n > 0 bytes of text whose blanks are U+2581. 0, or -1: out of memory. */
int mb_spm_run(const struct mb_spm *spm, struct mb_merge *merge, const char *text, size_t n, struct mb_ids *ids);

#endif
