/* SPDX-License-Identifier: MIT */
/* The parts of the NEON level, one per file; called by mb_kernels_add_neon() only. */
#ifndef MB_AARCH64_NEON_H
#define MB_AARCH64_NEON_H

#include "kernels/kernels.h"

void mb_kernels_add_neon_attention(struct mb_kernels *kernels);
void mb_kernels_add_neon_matmul(struct mb_kernels *kernels);
void mb_kernels_add_neon_ops(struct mb_kernels *kernels);

#endif
