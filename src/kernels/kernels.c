/* SPDX-License-Identifier: MIT */
/* Fills the table: the reference first, then what each level improves, lowest level first. */
#include "kernels/kernels.h"

void mb_kernels_init(struct mb_kernels *kernels, unsigned flags)
{
    *kernels = (struct mb_kernels){.read_name = "scalar", .read_sum = mb_read_sum_ref};
#if defined(__x86_64__)
    if (flags & MB_CPU_AVX2)
        mb_kernels_add_avx2(kernels);
    if (flags & MB_CPU_AVX512)
        mb_kernels_add_avx512(kernels);
#elif defined(__aarch64__)
    if (flags & MB_CPU_NEON)
        mb_kernels_add_neon(kernels);
#else
    (void)flags;
#endif
}
