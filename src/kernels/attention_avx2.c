/* SPDX-License-Identifier: MIT */
/* Attention with AVX2. Contract: attention.h. */
#include "kernels/floats_avx2.h"
#include "kernels/attention_floats.h"
#include "kernels/x86_avx2.h"

void mb_kernels_add_avx2_attention(struct mb_kernels *kernels)
{
    add_attention(kernels);
}
