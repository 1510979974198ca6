/* SPDX-License-Identifier: MIT */
/* The inner loops, one table of them. The reference is plain C11 and the specification; each instruction set has a file of
 * its own, compiled with its own flags, and replaces the entries that it makes faster. The flags are an argument, so that
 * tests can build every level that the CPU can run. A kernel has no state, and distinct data may be worked on in parallel. */
#ifndef MB_KERNELS_H
#define MB_KERNELS_H

#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "kernels/ops.h"
#include "kernels/quant.h"

#include <stddef.h>
#include <stdint.h>

/* What the CPU can do and the OS lets it do. */
enum mb_cpu_flag {
    MB_CPU_AVX2 = 1 << 0,        /* AVX2, FMA, F16C */
    MB_CPU_AVX512 = 1 << 1,      /* AVX-512 F, BW, DQ, VL */
    MB_CPU_AVX512_VNNI = 1 << 2, /* 8-bit dot products */
    MB_CPU_NEON = 1 << 3,        /* every AArch64 */
    MB_CPU_NEON_DOTPROD = 1 << 4 /* 8-bit dot products */
};

/* The raw facts that x86 flags are drawn from: CPUID leaves 1 and 7.0, and XCR0 (0 when the OS does not use XSAVE). */
struct mb_x86_facts {
    uint32_t leaf1_ecx, leaf7_ebx, leaf7_ecx;
    uint64_t xcr0;
};

/* Flags of those facts. A CPU that has AVX under an OS that does not save its registers does not count as having it. Pure. */
unsigned mb_cpu_flags_x86(const struct mb_x86_facts *facts);

/* Flags of the CPU that runs this. */
unsigned mb_cpu_flags(void);

/* "scalar", "avx2", "avx512", "avx512-vnni", "neon" or "neon-dotprod": the highest of the flags. */
const char *mb_cpu_simd(unsigned flags);

/* Bytes that every read kernel takes a multiple of, and the alignment of where it starts. */
#define MB_READ_UNIT 512
#define MB_READ_ALIGN 64

/* sum of the 64-bit words of from[bytes], modulo 2^64. The contract stands at mb_read_sum_ref (read_ref.c). */
typedef uint64_t mb_read_sum_fn(const void *from, size_t bytes);

/* Contracts: quant.h, matmul.h, attention.h, ops.h. */
struct mb_kernels {
    const char *read_name; /* of read_sum: "scalar", "avx2", "avx512", "neon" */
    mb_read_sum_fn *read_sum;
    mb_dequant_fn *dequant[MB_TYPE_END]; /* NULL where mb_quant_reads() says no */
    mb_store_fn *store[MB_TYPE_END];     /* F32, F16, BF16, Q8_0; NULL for others */
    mb_prepare_fn *prepare;
    mb_matmul_fn *matmul[MB_TYPE_END]; /* as dequant */
    enum mb_act few[MB_TYPE_END];      /* activations of fewer than MB_MANY_TOKENS: mb_act_of() or MB_ACT_Q8 */
    enum mb_act many[MB_TYPE_END];     /* of others: the same or MB_ACT_Q16 */
    unsigned pack_rows;                /* rows of a group in packed order; 0: this level reads file order only */
    mb_pack_fn *pack;
    mb_attention_fn *attention;
    mb_rms_norm_fn *rms_norm;
    mb_layer_norm_fn *layer_norm;
    mb_rope_fn *rope;
    mb_softmax_fn *softmax;
    mb_glu_fn *glu;
    mb_add_fn *add;
    mb_mul_fn *mul;
    mb_scale_fn *scale;
    mb_axpy_fn *axpy;
    mb_soft_cap_fn *soft_cap;
    mb_sigmoid_fn *sigmoid;
};

/* The fastest kernels that CPUs with these flags can run. */
void mb_kernels_init(struct mb_kernels *kernels, unsigned flags);

/* Tokens from which on 16-bit activations pay for the conversion of the weights. */
#define MB_MANY_TOKENS 16

/* The form of activations with which matmul[type] is fastest. */
static inline enum mb_act mb_kernels_act(const struct mb_kernels *kernels, uint32_t type, size_t n_cols, size_t n_tokens)
{
    if (n_cols % 32 != 0)
        return mb_act_of(type);
    return n_tokens < MB_MANY_TOKENS ? kernels->few[type] : kernels->many[type];
}

mb_read_sum_fn mb_read_sum_ref;

/* Overlays, one per file; called by mb_kernels_init() only. */
#if defined(__x86_64__)
void mb_kernels_add_avx2(struct mb_kernels *kernels);
void mb_kernels_add_avx512(struct mb_kernels *kernels);
void mb_kernels_add_avx512_vnni(struct mb_kernels *kernels);
#elif defined(__aarch64__)
void mb_kernels_add_neon(struct mb_kernels *kernels);
void mb_kernels_add_neon_dotprod(struct mb_kernels *kernels);
#endif

#endif
