/* SPDX-License-Identifier: MIT */
/* Reading memory with NEON. Contract: read_ref.c. Every AArch64 runs it. */
#include "kernels/aarch64_neon.h"

#include <arm_neon.h>
#include <assert.h>

static uint64_t read_sum_neon(const void *from, size_t bytes)
{
    assert(bytes % MB_READ_UNIT == 0 && (uintptr_t)from % MB_READ_ALIGN == 0);
    size_t quarter = bytes / 32; /* words */
    uint64x2_t sum[8];
    for (unsigned i = 0; i < 8; i++)
        sum[i] = vdupq_n_u64(0);
    /* 128 bytes of each stream, which is one line of Apple's chips and two of most others. */
    for (const uint64_t *at = from, *end = at + quarter; at < end; at += 16)
        for (unsigned s = 0; s < 4; s++)
            for (unsigned i = 0; i < 8; i++)
                sum[i] = vaddq_u64(sum[i], vld1q_u64(at + s * quarter + 2 * i));
    for (unsigned i = 1; i < 8; i++)
        sum[0] = vaddq_u64(sum[0], sum[i]);
    return vgetq_lane_u64(sum[0], 0) + vgetq_lane_u64(sum[0], 1);
}

void mb_kernels_add_neon(struct mb_kernels *kernels)
{
    kernels->read_name = "neon";
    kernels->read_sum = read_sum_neon;
    mb_kernels_add_neon_attention(kernels);
    mb_kernels_add_neon_matmul(kernels);
    mb_kernels_add_neon_ops(kernels);
}
