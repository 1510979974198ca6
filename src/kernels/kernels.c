/* SPDX-License-Identifier: MIT */
/* Fills the table: the reference first, then what each level improves, lowest level first. */
#include "kernels/kernels.h"

void mb_kernels_init(struct mb_kernels *kernels, unsigned flags)
{
    *kernels = (struct mb_kernels){
        .read_name = "scalar",
        .read_sum = mb_read_sum_ref,
        .prepare = mb_prepare_ref,
        .pack = mb_pack,
        .attention = mb_attention_ref,
        .rms_norm = mb_rms_norm_ref,
        .layer_norm = mb_layer_norm_ref,
        .rope = mb_rope_ref,
        .softmax = mb_softmax_ref,
        .glu = mb_glu_ref,
        .add = mb_add_ref,
        .mul = mb_mul_ref,
        .scale = mb_scale_ref,
        .axpy = mb_axpy_ref,
        .soft_cap = mb_soft_cap_ref,
        .sigmoid = mb_sigmoid_ref,
    };
    for (uint32_t type = 0; type < MB_TYPE_END; type++) {
        kernels->dequant[type] = mb_dequant_ref(type);
        kernels->store[type] = mb_store_ref(type);
        kernels->matmul[type] = mb_quant_reads(type) ? mb_matmul_ref : NULL;
        kernels->few[type] = kernels->many[type] = mb_act_of(type);
    }
#if defined(__x86_64__)
    if (flags & MB_CPU_AVX2)
        mb_kernels_add_avx2(kernels);
    if (flags & MB_CPU_AVX512)
        mb_kernels_add_avx512(kernels);
    if (flags & MB_CPU_AVX512_VNNI)
        mb_kernels_add_avx512_vnni(kernels);
#elif defined(__aarch64__)
    if (flags & MB_CPU_NEON)
        mb_kernels_add_neon(kernels);
    if (flags & MB_CPU_NEON_DOTPROD)
        mb_kernels_add_neon_dotprod(kernels);
#else
    (void)flags;
#endif
}
