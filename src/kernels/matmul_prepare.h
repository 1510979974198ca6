/* SPDX-License-Identifier: MIT */
/* Activations to integers, written once over three functions that stand before the include of this: quant_8() and quant_16() are
 * mb_quant_8() and mb_quant_16(), fill_pairs() gives the pairs of both halves of a block from its q. */
#ifndef MB_MATMUL_PREPARE_H
#define MB_MATMUL_PREPARE_H

static void prepare(const struct mb_prepare *op, size_t begin, size_t end)
{
    if (op->act == MB_ACT_F32) {
        mb_prepare_ref(op, begin, end);
        return;
    }
    size_t per_token = op->n_cols / 32, token = begin / per_token, block = begin % per_token;
    for (size_t u = begin; u < end; u++) {
        const float *from = op->from + (op->index ? op->index[token] : token) * op->from_stride + block * 32;
        if (op->act == MB_ACT_Q8) {
            struct mb_act_block *to = (struct mb_act_block *)op->to + mb_act_at(per_token, op->n_tokens, block, token);
            to->d = quant_8(to->q, from);
            fill_pairs(to);
            mb_act_sum(to);
        } else {
            int16_t q[32];
            const float d = quant_16(q, from);
            mb_act_16_put(op, block, token, q, d);
        }
        if (++block == per_token) {
            block = 0;
            token++;
        }
    }
}

static void store_q8_0(void *to, const float *from, size_t n)
{
    struct mb_block_q8_0 *block = to;
    for (size_t b = 0; b < n / 32; b++, from += 32)
        block[b].d = mb_f16_of_f32(quant_8(block[b].qs, from));
}

static void add_prepare(struct mb_kernels *kernels)
{
    kernels->prepare = prepare;
    kernels->store[MB_TYPE_Q8_0] = store_q8_0;
}

#endif
