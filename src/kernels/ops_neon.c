/* SPDX-License-Identifier: MIT */
/* The operations between the matrices with NEON. Contracts: ops.h. */
#include "kernels/floats_neon.h"
#include "kernels/ops_floats.h"
#include "kernels/aarch64_neon.h"

void mb_kernels_add_neon_ops(struct mb_kernels *kernels)
{
    add_ops(kernels);
}
