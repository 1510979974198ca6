/* SPDX-License-Identifier: MIT */
/* Text to tokens and back, with the tokenizer that a GGUF file carries: byte-level BPE and SentencePiece, special tokens,
 * and a detokeniser for text that grows. Token for token what llama.cpp gives for the same file (docs/tokenizers.md).
 *
 *   struct mb_tokenizer *tokenizer;
 *   int32_t *ids;
 *   size_t n;
 *   int code = mb_tokenizer_open(gguf, &tokenizer, &err);
 *   code = mb_tokenize(tokenizer, text, strlen(text), MB_TOKENIZE_SPECIAL | MB_TOKENIZE_PARSE, &ids, &n, &err);
 *   ... free(ids); mb_tokenizer_close(tokenizer);
 *
 * A tokenizer is immutable once it is open, so that threads may share it. A detokeniser belongs to one thread. */
#ifndef MB_TOKENIZER_H
#define MB_TOKENIZER_H

#include "model/gguf.h"

struct mb_tokenizer;

/* What is known of a tokenizer. An id is -1 where the model has none. */
struct mb_tokenizer_info {
    uint32_t n_vocab;
    int32_t bos, eos, eot, unk;
    int add_bos, add_eos;  /* what MB_TOKENIZE_SPECIAL adds */
    int add_space_prefix;  /* a text begins with a blank of its own, which the detokeniser takes away again */
    const char *pre;       /* name of the pre-tokenizer; NULL: the file names none */
    const char *warning;   /* a line to tell people: the file leaves out something that matters; NULL: nothing */
};

/* Read the tokenizer of a model. gguf may be closed afterwards.
 * Returns MB_OK; MB_ENODATA: the file has none; MB_ENOTSUP: its kind or its pre-tokenizer is not known here (named);
 * MB_EFORMAT: what the file says cannot be right; MB_ENOMEM; MB_EINTERNAL. */
int mb_tokenizer_open(const struct mb_gguf *gguf, struct mb_tokenizer **out, struct mb_err *err);
void mb_tokenizer_close(struct mb_tokenizer *tokenizer);
const struct mb_tokenizer_info *mb_tokenizer_info(const struct mb_tokenizer *tokenizer);

enum mb_tokenize_flag {
    MB_TOKENIZE_SPECIAL = 1, /* add what the model wants at the start and the end of a text */
    MB_TOKENIZE_PARSE = 2    /* control tokens in the text ("<|im_end|>") are tokens; without it, plain text */
};

/* n_bytes of text (any bytes, NULs too; up to 1 GiB) to tokens.
 *   ids    written only on MB_OK; free() it; never NULL
 * Returns MB_OK; MB_ERANGE: the text is too long, or would take too long; MB_ENOMEM. */
int mb_tokenize(const struct mb_tokenizer *tokenizer, const char *text, size_t n_bytes, unsigned flags, int32_t **ids,
                size_t *n, struct mb_err *err);

/* The bytes that a token stands for (the name of a control token), as long as the tokenizer is open; a token may be part
 * of a character. Returns MB_OK; MB_ERANGE: there is no such id. */
int mb_token_bytes(const struct mb_tokenizer *tokenizer, int32_t id, const char **bytes, size_t *n);
/* The token whose text in the vocabulary is this ("<|im_start|>"), or -1. */
int32_t mb_token_find(const struct mb_tokenizer *tokenizer, const char *text);
/* Does it end what a model writes? Is it a control token, which text does not show? 0 also where there is no such id. */
int mb_token_is_eog(const struct mb_tokenizer *tokenizer, int32_t id);
int mb_token_is_control(const struct mb_tokenizer *tokenizer, int32_t id);

enum mb_detokenize_flag {
    MB_DETOKENIZE_CONTROL = 1, /* show control tokens */
    MB_DETOKENIZE_START = 2    /* the text begins here: take the blank away that add_space_prefix put there */
};

/* n tokens to the bytes they stand for. Ids that do not exist give nothing.
 *   text   written only on MB_OK; terminated, but may hold NULs; free() it
 * Returns MB_OK; MB_ENOMEM. */
int mb_detokenize(const struct mb_tokenizer *tokenizer, const int32_t *ids, size_t n, unsigned flags, char **text,
                  size_t *n_bytes, struct mb_err *err);

/* The same token by token, for showing what a model writes: what comes out is UTF-8 at every moment. The beginning of a
 * character waits for its end; bytes that cannot be one come out as U+FFFD. No memory is taken after opening. */
struct mb_detok;

/* Returns MB_OK; MB_ENOMEM. */
int mb_detok_open(const struct mb_tokenizer *tokenizer, unsigned flags, struct mb_detok **out, struct mb_err *err);
void mb_detok_close(struct mb_detok *detok);
/* Begin a new text. */
void mb_detok_reset(struct mb_detok *detok, unsigned flags);
/* The text that one more token completes: terminated, *n bytes, good until the next call. */
const char *mb_detok_add(struct mb_detok *detok, int32_t id, size_t *n);
/* The text that is left when no more tokens come. */
const char *mb_detok_end(struct mb_detok *detok, size_t *n);

#endif
