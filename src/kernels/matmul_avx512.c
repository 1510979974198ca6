/* SPDX-License-Identifier: MIT */
/* Matrix products with AVX-512, bytes multiplied as with AVX2. Contract: matmul.h. */
#define WITH_VNNI 0
#include "kernels/lanes_avx512.h"
#include "kernels/matmul_float.h"
#include "kernels/matmul_packed.h"
#include "kernels/matmul_rows.h"
#include "kernels/x86_avx512.h"

void mb_kernels_add_avx512_matmul(struct mb_kernels *kernels)
{
    add_packed(kernels);
    add_rows(kernels);
    add_float(kernels);
}
