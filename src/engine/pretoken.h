/* SPDX-License-Identifier: MIT */
/* Pre-tokenizers: how text is cut into pieces before the merges of byte-level BPE, which never cross a cut. A family is
 * a list of expressions; each cuts the pieces of the one before into matches and what lies between them. */
#ifndef MB_PRETOKEN_H
#define MB_PRETOKEN_H

#include "base/base.h"

enum { MB_PRETOKEN_STEPS_MAX = 6 };

struct mb_pretoken {
    const char *names; /* values of tokenizer.ggml.pre, with blanks between */
    const char *steps[MB_PRETOKEN_STEPS_MAX];
    unsigned char add_bos;       /* unless the file says otherwise */
    unsigned char ignore_merges; /* a piece that is a token stays whole, whatever the merges say */
    unsigned char plain;         /* tokens are UTF-8 with U+2581 for blanks, not the bytes' stand-ins */
    unsigned char newlines;      /* as ignore_merges, for pieces of newlines only */
};

/* The family of this name; NULL: not known. */
const struct mb_pretoken *mb_pretoken_find(const char *name);
/* All families, for tests: NULL behind the last. */
const struct mb_pretoken *mb_pretoken_family(unsigned i);

/* Its expressions, compiled. Immutable, so that threads may share it. */
struct mb_splitter;

/* Returns MB_OK; MB_ENOMEM; MB_EINTERNAL: PCRE2 refuses an expression. */
int mb_splitter_new(const struct mb_pretoken *family, struct mb_splitter **out, struct mb_err *err);
void mb_splitter_free(struct mb_splitter *splitter);

/* Cut n > 0 bytes of UTF-8 (whatever they hold; a byte that is not part of a sequence counts as a control character).
 *   ends   where each piece ends, in order, the last at n; free() it
 * Returns MB_OK; MB_ERANGE: n is over MB_SPLIT_BYTES_MAX, or the text would take too long; MB_ENOMEM. */
#define MB_SPLIT_BYTES_MAX ((size_t)1 << 30)
int mb_splitter_run(const struct mb_splitter *splitter, const char *text, size_t n, uint32_t **ends, size_t *n_ends,
                    struct mb_err *err);

#endif
