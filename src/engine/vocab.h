/* SPDX-License-Identifier: MIT */
/* The vocabulary of a model, as its GGUF file states it: texts, scores and kinds of tokens, the ids with a meaning, and
 * the table that finds a token by its text. How text becomes tokens is left to bpe.c, spm.c and tokenizer.c. Immutable
 * once it is complete.
 *
 * Keys and defaults follow llama.cpp, with whose files these are (public source: llama.cpp, src/llama-vocab.cpp;
 * docs/tokenizers.md says where this program differs). */
#ifndef MB_VOCAB_H
#define MB_VOCAB_H

#include "engine/pretoken.h"
#include "model/gguf.h"

enum mb_vocab_model {
    MB_VOCAB_BPE, /* merges by rank: "gpt2", "gemma4" */
    MB_VOCAB_SPM  /* SentencePiece, merges by score: "llama" */
};

/* What a token is, as bits: a control token whose type says "normal" has both. */
enum mb_token_kind {
    MB_TOKEN_NORMAL = 1,
    MB_TOKEN_UNKNOWN = 2,
    MB_TOKEN_CONTROL = 4, /* found in text only on request, and not shown */
    MB_TOKEN_USER = 8,    /* always found in text first, shown as it is */
    MB_TOKEN_BYTE = 16,   /* "<0xXX>" */
    MB_TOKEN_RSTRIP = 32, /* takes the white space on its right along */
    MB_TOKEN_LSTRIP = 64, /* and that on its left */
    MB_TOKEN_EOG = 128    /* ends what a model writes */
};

enum { MB_TOKEN_NONE = -1 };

struct mb_string {
    const char *text; /* not terminated, any bytes */
    uint32_t n;
    uint32_t hash;
};

struct mb_vocab {
    enum mb_vocab_model model;
    const char *pre; /* name of the pre-tokenizer; NULL: the file has none */
    const struct mb_pretoken *family; /* of BPE; NULL otherwise */
    uint32_t n_tokens;
    /* The first n_tokens are the tokens; behind them lie texts that only merges name. */
    struct mb_string *strings;
    uint32_t n_strings, strings_max;
    uint32_t *slots; /* hash table of strings: index + 1, or 0 */
    uint32_t slots_mask;
    uint32_t seed;
    float *scores;        /* of tokens; none is NaN */
    unsigned char *kinds; /* of tokens: bits of enum mb_token_kind */
    uint32_t token_bytes_max;
    int32_t bos, eos, eot, unk; /* MB_TOKEN_NONE: the model has none */
    int add_bos, add_eos, add_space_prefix;
    struct mb_arena arena;
};

/* Read the vocabulary; on failure what was read so far is there for mb_vocab_free(). vocab is zeroed by the caller.
 * Returns MB_OK; MB_ENODATA: the file has no tokenizer; MB_ENOTSUP: its kind, or its pre-tokenizer, is not known here;
 * MB_EFORMAT: it cannot be right (err says where); MB_ENOMEM. */
int mb_vocab_read(const struct mb_gguf *gguf, struct mb_vocab *vocab, struct mb_err *err);
void mb_vocab_free(struct mb_vocab *vocab);

/* The token with exactly this text, or MB_TOKEN_NONE. */
int32_t mb_vocab_find(const struct mb_vocab *vocab, const char *text, size_t n);
/* The string with this text (a token's id, or more), or UINT32_MAX. */
uint32_t mb_vocab_find_string(const struct mb_vocab *vocab, const char *text, size_t n);
/* The same, and where there is none it is added; text is kept, not copied. UINT32_MAX: out of memory. */
uint32_t mb_vocab_add_string(struct mb_vocab *vocab, const char *text, size_t n);

#endif
