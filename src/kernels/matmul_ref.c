/* SPDX-License-Identifier: MIT */
/* Matrix products, the reference: products and sums in double, one row and one token at a time. Contract: matmul.h. */
#include "kernels/matmul.h"

#include <assert.h>

enum mb_act mb_act_of(uint32_t type)
{
    return mb_pack_can(type) ? MB_ACT_Q8 : MB_ACT_F32;
}

size_t mb_act_bytes(enum mb_act act, size_t n_cols, size_t n_tokens)
{
    size_t blocks = n_cols / 32 * n_tokens;
    return act == MB_ACT_Q8    ? blocks * sizeof(struct mb_act_block)
           : act == MB_ACT_Q16 ? blocks * MB_ACT_16_WORDS * sizeof(uint32_t)
                               : n_cols * n_tokens * sizeof(float);
}

void mb_prepare_ref(const struct mb_prepare *op, size_t begin, size_t end)
{
    assert(op->act == MB_ACT_F32 || op->n_cols % 32 == 0);
    size_t per_token = (op->n_cols + 31) / 32;
    for (size_t u = begin; u < end; u++) {
        size_t token = u / per_token, block = u % per_token;
        const float *from = op->from + (op->index ? op->index[token] : token) * op->from_stride + block * 32;
        if (op->act == MB_ACT_Q8) {
            struct mb_act_block *to = (struct mb_act_block *)op->to + mb_act_at(per_token, op->n_tokens, block, token);
            to->d = mb_quant_8(to->q, from);
            int pairs[2][2] = {{0}};
            for (int i = 0; i < 32; i++)
                pairs[i / 16][i / 2 % 2] += to->q[i];
            for (int h = 0; h < 2; h++) {
                to->pairs[0][h] = (int16_t)pairs[0][h];
                to->pairs[1][h] = (int16_t)pairs[1][h];
            }
            mb_act_sum(to);
        } else if (op->act == MB_ACT_Q16) {
            int16_t q[32];
            float d = mb_quant_16(q, from);
            mb_act_16_put(op, block, token, q, d);
        } else {
            size_t n = op->n_cols - block * 32 < 32 ? op->n_cols - block * 32 : 32;
            memcpy((float *)op->to + token * op->n_cols + block * 32, from, n * sizeof *from);
        }
    }
}

/* Activation (t, c). */
static double activation(const struct mb_matmul *op, size_t t, size_t c)
{
    if (op->act == MB_ACT_F32)
        return ((const float *)op->x)[t * op->n_cols + c];
    if (op->act == MB_ACT_Q16) {
        size_t step, at = mb_act_16_at(op->n_cols / 32, op->n_tokens, c / 32, t, &step);
        const uint32_t *words = (const uint32_t *)op->x + at;
        uint32_t pair = words[c % 32 / 2 * step];
        return (double)mb_f32_of_bits(words[16 * step]) * (int16_t)(c % 2 ? pair >> 16 : pair);
    }
    const struct mb_act_block *block = (const struct mb_act_block *)op->x + mb_act_at(op->n_cols / 32, op->n_tokens, c / 32, t);
    return (double)block->d * block->q[c % 32];
}

void mb_matmul_ref(const struct mb_matmul *op, size_t begin, size_t end)
{
    assert(!op->packed && end <= op->n_rows);
    mb_dequant_fn *dequant = mb_dequant_ref(op->type);
    const struct mb_type_info *info = mb_type_info(op->type);
    size_t step = info->block_elements == 1 ? 256 : info->block_elements;
    for (size_t r = begin; r < end; r++)
        for (size_t t = 0; t < op->n_tokens; t++) {
            double sum = 0;
            for (size_t c = 0; c < op->n_cols; c += step) {
                float w[256];
                size_t n = op->n_cols - c < step ? op->n_cols - c : step;
                dequant(w, (const char *)op->weights + r * op->row_bytes + c / info->block_elements * info->block_bytes, n);
                for (size_t i = 0; i < n; i++)
                    sum += w[i] * activation(op, t, c + i);
            }
            op->y[t * op->y_stride + r] = (float)sum;
        }
}
