/* SPDX-License-Identifier: MIT */
/* What the CPU can do and the OS lets it do. On x86 both must be asked: CPUID tells what the chip has, XCR0 which
 * registers the OS saves when it switches threads; vectors in registers that are not saved get lost. */
#include "kernels/kernels.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

/* Bits of XCR0: SSE 1, AVX 2; opmask 5, upper halves of zmm0-15 6, zmm16-31 7. (Intel SDM volume 1, 13.3) */
enum { XCR0_YMM = 1 << 1 | 1 << 2, XCR0_ZMM = XCR0_YMM | 1 << 5 | 1 << 6 | 1 << 7 };

static int has(uint64_t word, uint64_t bits)
{
    return (word & bits) == bits;
}

unsigned mb_cpu_flags_x86(const struct mb_x86_facts *facts)
{
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29; /* leaf 1, ecx */
    const uint32_t avx2 = 1u << 5, avx512_f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* leaf 7, ebx */
    const uint32_t avx512_vnni = 1u << 11; /* leaf 7, ecx */
    unsigned flags = 0;
    if (!has(facts->leaf1_ecx, osxsave | avx | fma | f16c) || !has(facts->xcr0, XCR0_YMM) ||
        !has(facts->leaf7_ebx, avx2))
        return 0;
    flags |= MB_CPU_AVX2;
    if (!has(facts->xcr0, XCR0_ZMM) || !has(facts->leaf7_ebx, avx512_f_dq_bw_vl))
        return flags;
    flags |= MB_CPU_AVX512;
    if (has(facts->leaf7_ecx, avx512_vnni))
        flags |= MB_CPU_AVX512_VNNI;
    return flags;
}

#if defined(__x86_64__) || defined(__i386__)

unsigned mb_cpu_flags(void)
{
    struct mb_x86_facts facts = {0};
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return 0;
    facts.leaf1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        facts.leaf7_ebx = ebx;
        facts.leaf7_ecx = ecx;
    }
    if (facts.leaf1_ecx & 1u << 27) { /* OSXSAVE: without it XGETBV is an illegal instruction */
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        facts.xcr0 = (uint64_t)high << 32 | low;
    }
    return mb_cpu_flags_x86(&facts);
}

#elif defined(__aarch64__)

unsigned mb_cpu_flags(void)
{
    unsigned flags = MB_CPU_NEON;
#if defined(__linux__) && defined(HWCAP_ASIMDDP)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        flags |= MB_CPU_NEON_DOTPROD;
#elif defined(__APPLE__)
    int value = 0;
    size_t size = sizeof value;
    if (sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &size, NULL, 0) == 0 && value)
        flags |= MB_CPU_NEON_DOTPROD;
#endif
    return flags;
}

#else

unsigned mb_cpu_flags(void)
{
    return 0;
}

#endif

const char *mb_cpu_simd(unsigned flags)
{
    return flags & MB_CPU_AVX512_VNNI    ? "avx512-vnni"
           : flags & MB_CPU_AVX512       ? "avx512"
           : flags & MB_CPU_AVX2         ? "avx2"
           : flags & MB_CPU_NEON_DOTPROD ? "neon-dotprod"
           : flags & MB_CPU_NEON         ? "neon"
                                         : "scalar";
}
