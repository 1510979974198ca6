/* SPDX-License-Identifier: MIT */
/* Matrix products of packed weights with AVX-512 and its 8-bit dot products. Contract: matmul.h. */
#define WITH_VNNI 1
#include "kernels/lanes_avx512.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_rows.h"

void mb_kernels_add_avx512_vnni(struct mb_kernels *kernels)
{
    add_packed(kernels);
    add_rows(kernels);
}
