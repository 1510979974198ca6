/* SPDX-License-Identifier: MIT */
/* Attention with NEON. Contract: attention.h. */
#include "kernels/floats_neon.h"
#include "kernels/attention_floats.h"
#include "kernels/aarch64_neon.h"

void mb_kernels_add_neon_attention(struct mb_kernels *kernels)
{
    add_attention(kernels);
}
