/* SPDX-License-Identifier: MIT */
/* The parts of the AVX2 level, one per file; called by mb_kernels_add_avx2() only. */
#ifndef MB_X86_AVX2_H
#define MB_X86_AVX2_H

#include "kernels/kernels.h"

void mb_kernels_add_avx2_attention(struct mb_kernels *kernels);
void mb_kernels_add_avx2_matmul(struct mb_kernels *kernels);
void mb_kernels_add_avx2_ops(struct mb_kernels *kernels);

#endif
