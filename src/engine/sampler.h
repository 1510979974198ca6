/* SPDX-License-Identifier: MIT */
/* Choosing the next token from the logits of a model. In this order, which is llama.cpp's:
 *
 *   bias         is added to the logits of the tokens named
 *   penalties    for what stands in the last penalty_last_n tokens: a logit above 0 is divided by penalty_repeat, another
 *                multiplied by it; then count * penalty_frequency + penalty_presence is taken off
 *   greedy       temperature <= 0: the largest logit
 *   top k        the k largest logits remain
 *   top p        of these the fewest, largest first, whose probabilities sum to p
 *   min p        of these the ones at least min_p times as probable as the first
 *   temperature  divides what remains; then chance decides
 *
 * Among equal logits the lower id is larger. A logit that is not a number, or -infinity, is never chosen; +infinity counts as the
 * largest finite one. The same options, seed and logits give the same tokens on every machine: the generator and exp() are this
 * file's own, and every sum has one order. The options and their defaults are in membound.h. */
#ifndef MB_SAMPLER_H
#define MB_SAMPLER_H

#include "base/base.h"

struct mb_sampler;

/* A sampler for n_vocab logits, with all memory that it will need (about 20 bytes for each).
 * Returns MB_OK; MB_ERANGE: an option is out of its range, or a bias is for no token (named); MB_ENOMEM. */
int mb_sampler_open(const struct mb_sampler_opts *opts, uint32_t n_vocab, struct mb_sampler **out, struct mb_err *err);
void mb_sampler_close(struct mb_sampler *sampler);

/* The next token, chosen from n_vocab logits. It is not accepted by this.
 * Returns MB_OK; MB_EFORMAT: no logit is a number, so that nothing can be chosen. */
int mb_sampler_pick(struct mb_sampler *sampler, const float *logits, int32_t *id, struct mb_err *err);
/* A token stands in the text now, of the prompt or picked: for the penalties. Ids that do not exist are ignored. */
void mb_sampler_accept(struct mb_sampler *sampler, int32_t id);
/* Begin anew: no token is accepted, and the generator starts from seed. */
void mb_sampler_reset(struct mb_sampler *sampler, uint64_t seed);

#endif
