/* SPDX-License-Identifier: MIT */
/* Matrix products of packed weights with NEON and its dot products of bytes. Contract: matmul.h. Compiled with
 * -march=armv8.2-a+dotprod, called only where the flags say so; all else is as without them (matmul_neon.c). */
#include "kernels/lanes_neon.h"
#include "kernels/matmul_packed.h"

void mb_kernels_add_neon_dotprod(struct mb_kernels *kernels)
{
    add_packed(kernels);
}
