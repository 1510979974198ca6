/* SPDX-License-Identifier: MIT */
/* The part of the AVX-512 level with a file of its own; called by mb_kernels_add_avx512() only. */
#ifndef MB_X86_AVX512_H
#define MB_X86_AVX512_H

#include "kernels/kernels.h"

void mb_kernels_add_avx512_matmul(struct mb_kernels *kernels);

#endif
