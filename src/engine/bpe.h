/* SPDX-License-Identifier: MIT */
/* Byte-pair encoding: merges by rank within the pieces of a pre-tokenizer. Tokens are spelled with a stand-in character
 * for each byte (U+0021 for '!', U+0120 for a blank), or, in plain vocabularies, in UTF-8 with U+2581 for blanks. */
#ifndef MB_BPE_H
#define MB_BPE_H

#include "engine/merge.h"
#include "engine/pretoken.h"
#include "engine/vocab.h"

struct mb_bpe;

/* What a call appends tokens to. */
struct mb_ids {
    int32_t *ids;
    size_t n, max;
};

/* Append an id. 0, or -1: out of memory. */
int mb_ids_add(struct mb_ids *ids, int32_t id);

/* Read the merges of a vocabulary, which gains the texts that only merges name, and must outlive it.
 * Returns MB_OK; MB_EFORMAT: there are none, or they are no merges; MB_ENOMEM; codes of mb_splitter_new(). */
int mb_bpe_open(const struct mb_gguf *gguf, struct mb_vocab *vocab, const struct mb_pretoken *family, struct mb_bpe **out,
                struct mb_err *err);
void mb_bpe_close(struct mb_bpe *bpe);

/* Append the tokens of n > 0 bytes of text. Returns MB_OK or the codes of mb_splitter_run(). */
int mb_bpe_run(const struct mb_bpe *bpe, struct mb_merge *merge, const char *text, size_t n, struct mb_ids *ids,
               struct mb_err *err);

/* The byte that a stand-in character means; -1: it is none. */
int mb_bpe_byte(uint32_t code);

#endif
