/* SPDX-License-Identifier: MIT */
/* Matrix products and their activations with NEON. Contract: matmul.h. */
#include "kernels/lanes_neon.h"
#include "kernels/matmul_float.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_codes_neon.h"
#include "kernels/aarch64_neon.h"

#include <math.h>

/* mb_quant_8() of 32 floats. */
static float quant_8(int8_t *to, const float *from)
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
    float32x4_t x[8];
    uint32x4_t most = vdupq_n_u32(0);
    for (int i = 0; i < 8; i++) {
        x[i] = vld1q_f32(from + 4 * i);
        most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(x[i]), magnitude));
    }
    float max = mb_f32_of_bits(vmaxvq_u32(most));
    if (!(max >= 0x1p-100f && max < INFINITY)) {
        memset(to, 0, 32);
        return max < 1 ? 0 : NAN;
    }
    const float inverse = 127 / max;
    for (int i = 0; i < 8; i += 2) {
        int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(x[i], inverse)), b = vcvtnq_s32_f32(vmulq_n_f32(x[i + 1], inverse));
        vst1_s8(to + 4 * i, vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b))));
    }
    return max / 127;
}

/* The pairs of both halves of a block from its bytes. */
static void fill_pairs(struct mb_act_block *x)
{
    for (int h = 0; h < 2; h++) {
        int16x8_t pairs = vpaddlq_s8(vld1q_s8(x->q + 16 * h)); /* columns 0 and 1, 2 and 3 modulo 4 in turn */
        int32_t even = vaddlvq_s16(vreinterpretq_s16_s32(vshlq_n_s32(vreinterpretq_s32_s16(pairs), 16)));
        int32_t both = vaddvq_s16(pairs);
        x->pairs[h][0] = (int16_t)even;
        x->pairs[h][1] = (int16_t)(both - even);
    }
}

/* Only tests ask for these: no level of AArch64 multiplies them. */
#define quant_16 mb_quant_16

#include "kernels/matmul_prepare.h"

static void store_f16(void *to, const float *from, size_t n)
{
    uint16_t *half = to;
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1_u16(half + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(from + i))));
    mb_store_ref(MB_TYPE_F16)(half + i, from + i, n - i);
}

void mb_kernels_add_neon_matmul(struct mb_kernels *kernels)
{
    add_packed(kernels);
    add_float(kernels);
    add_codes(kernels);
    add_prepare(kernels);
    kernels->store[MB_TYPE_F16] = store_f16;
}
