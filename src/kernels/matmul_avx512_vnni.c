/* SPDX-License-Identifier: MIT */
/* Matrix products with AVX-512 and its dot products of bytes and words. Contract: matmul.h. */
#define WITH_VNNI 1
#include "kernels/lanes_avx512.h"
#include "kernels/matmul_float.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_rows.h"
#include "kernels/matmul_wide.h"
#include "kernels/matmul_codes.h"

void mb_kernels_add_avx512_vnni(struct mb_kernels *kernels)
{
    add_packed(kernels);
    add_rows(kernels);
    add_float(kernels);
    add_wide(kernels);
    add_codes(kernels);
}
