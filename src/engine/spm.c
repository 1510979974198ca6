/* SPDX-License-Identifier: MIT */
/* SentencePiece's merging over a vocabulary with scores. */
#include "engine/spm.h"

#include "engine/utf8.h"

#include <string.h>

struct run {
    const struct mb_vocab *vocab;
    const char *text;
};

/* A float as a number that grows as it falls. */
static uint32_t falling(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits & UINT32_C(0x80000000) ? bits : ~bits & UINT32_C(0x7fffffff);
}

static int merge_rule(const void *self, const struct mb_symbol *left, const struct mb_symbol *right, uint32_t *order,
                      uint32_t *string)
{
    const struct run *run = self;
    int32_t id = mb_vocab_find(run->vocab, run->text + left->at, (size_t)left->n + right->n);
    if (id == MB_TOKEN_NONE)
        return 0;
    *order = falling(run->vocab->scores[id]);
    *string = (uint32_t)id;
    return 1;
}

void mb_spm_open(const struct mb_vocab *vocab, struct mb_spm *spm)
{
    spm->vocab = vocab;
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        spm->bytes[byte] = mb_vocab_find(vocab, name, 6);
        name[0] = (char)byte;
        if (spm->bytes[byte] == MB_TOKEN_NONE)
            spm->bytes[byte] = mb_vocab_find(vocab, name, 1);
        if (spm->bytes[byte] == MB_TOKEN_NONE)
            spm->bytes[byte] = vocab->unk;
    }
}

int mb_spm_run(const struct mb_spm *spm, struct mb_merge *merge, const char *text, size_t n, struct mb_ids *ids)
{
    const struct run run = {spm->vocab, text};
    merge->n_symbols = 0;
    for (size_t i = 0, length; i < n; i += length) {
        int sequence = mb_utf8_sequence(text + i, n - i);
        length = sequence > 0 ? (size_t)sequence : 1;
        uint32_t string = (uint32_t)mb_vocab_find(spm->vocab, text + i, length); /* none is UINT32_MAX */
        if (mb_merge_add(merge, (uint32_t)i, (uint32_t)length, string))
            return -1;
    }
    if (mb_merge_run(merge, merge_rule, &run))
        return -1;
    for (uint32_t i = 0; i != UINT32_MAX; i = merge->symbols[i].next) {
        const struct mb_symbol *symbol = &merge->symbols[i];
        if (symbol->string != UINT32_MAX) {
            if (mb_ids_add(ids, (int32_t)symbol->string))
                return -1;
            continue;
        }
        for (uint32_t k = symbol->at; k < symbol->at + symbol->n; k++) {
            int32_t id = spm->bytes[(unsigned char)text[k]];
            if (id != MB_TOKEN_NONE && mb_ids_add(ids, id))
                return -1;
        }
    }
    return 0;
}
