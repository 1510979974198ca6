/* SPDX-License-Identifier: MIT */
/* Attention of the query heads that share one KV head, over cache rows of one type, in one pass: scores, softmax and the sum over
 * V are never stored for the whole context. What has been seen so far is a state per query, so that a context can be walked in
 * pieces: one after the other (rings, pages), or by several threads whose states are merged. */
#ifndef MB_ATTENTION_H
#define MB_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

/* Largest head of K or V (MLA: 576 and 512). */
#define MB_ATTENTION_DIM_MAX 1024

struct mb_attention {
    uint32_t type;        /* of both caches: F32, F16 or Q8_0 */
    const void *k, *v;    /* cache row i of this KV head starts at k + i * k_stride; rows aligned as their type */
    size_t k_stride;      /* bytes */
    size_t v_stride;
    size_t k_dim, v_dim;  /* elements, 1..MB_ATTENTION_DIM_MAX; multiples of 32 for Q8_0 */
    const float *q;       /* query i, [k_dim], starts at q + i * q_stride: heads of the group, tokens, in any order */
    size_t q_stride;      /* floats */
    size_t n_queries;
    const uint32_t *begin, *end; /* [n_queries] query i sees rows begin[i] <= row < end[i] only; begin NULL: 0 */
    float scale;          /* of the scores */
    float soft_cap;       /* scores become soft_cap * tanh(score / soft_cap); 0: they stay */
    float *state;         /* [n_queries][mb_attention_state(v_dim)] */
};

/* Floats of one state: v_dim sums, then the largest score and the sum of the exponentials, to a multiple of 16. */
static inline size_t mb_attention_state(size_t v_dim)
{
    return (v_dim + 2 + 15) / 16 * 16;
}

/* States that have seen nothing: sums 0, largest score -infinity. */
void mb_attention_clear(float *state, size_t v_dim, size_t n_queries);

/* Let queries query_begin..query_end (each that sees them) see the cache rows row_begin <= row < row_end.
 * With s = soft-capped scale * (q . k), m the largest s so far: state = sum of exp(s - m) v, m, sum of exp(s - m).
 * The reference reads rows by mb_dequant_ref() and computes in double (stored as f32). Others: results within
 * (k_dim + 64) u max |s| + 1e-6 times the largest |v|; for Q8_0 a level may quantize q as mb_quant_8() does,
 * which moves scores by up to 2^-8 * scale * sum |q k|.
 * Reads each row of K and V once per 16 queries; needs no memory beyond 64 KiB of stack. */
typedef void mb_attention_fn(const struct mb_attention *op, size_t query_begin, size_t query_end, size_t row_begin,
                             size_t row_end);

/* Add the states at from to those at to, as if one had seen the rows of both. */
void mb_attention_merge(float *to, const float *from, size_t v_dim, size_t n_queries);

/* out[v_dim] of one state: the sums divided by the sum of exponentials plus exp(sink - m); sink NULL: that term is 0. A
 * state that has seen nothing gives zeros. */
void mb_attention_finish(float *out, const float *state, size_t v_dim, const float *sink);

mb_attention_fn mb_attention_ref;

#endif
