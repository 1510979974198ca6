/* SPDX-License-Identifier: MIT */
/* Matrix products with NEON and its dot products of bytes. Contract: matmul.h. Compiled with -march=armv8.2-a+dotprod, called
 * only where the flags say so; products of floats are the same as without them (matmul_neon.c). */
#include "kernels/lanes_neon.h"
#include "kernels/matmul_float.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_codes_neon.h"

void mb_kernels_add_neon_dotprod(struct mb_kernels *kernels)
{
    add_packed(kernels);
    add_float(kernels);
    add_codes(kernels);
}
