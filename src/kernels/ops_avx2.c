/* SPDX-License-Identifier: MIT */
/* The operations between the matrices with AVX2. Contracts: ops.h. */
#include "kernels/floats_avx2.h"
#include "kernels/ops_floats.h"
#include "kernels/x86_avx2.h"

void mb_kernels_add_avx2_ops(struct mb_kernels *kernels)
{
    add_ops(kernels);
}
