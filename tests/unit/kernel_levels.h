/* SPDX-License-Identifier: MIT */
/* What the suites of kernels share: the levels that this CPU can run, and memory with an unreadable page behind it. Include after cmocka.h. */
#ifndef MB_TEST_KERNEL_LEVELS_H
#define MB_TEST_KERNEL_LEVELS_H

#include "base/base.h"
#include "kernels/kernels.h"
#include "random_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Flag sets from none to all; a level counts if this CPU has all its flags. */
static const unsigned levels[] = {
    0,
    MB_CPU_AVX2,
    MB_CPU_AVX2 | MB_CPU_AVX512,
    MB_CPU_AVX2 | MB_CPU_AVX512 | MB_CPU_AVX512_VNNI,
    MB_CPU_NEON,
    MB_CPU_NEON | MB_CPU_NEON_DOTPROD,
};

#if defined(MB_TEST_EMULATED)
void emulated_add_avx512(struct mb_kernels *kernels);
void emulated_add_avx512_vnni(struct mb_kernels *kernels);

/* What level l adds to AVX2, carried out by AVX2, which the CPU must have. */
static inline int has_emulated_level(unsigned l, struct mb_kernels *kernels)
{
    if (!(levels[l] & MB_CPU_AVX512) || !(mb_cpu_flags() & MB_CPU_AVX2))
        return 0;
    mb_kernels_init(kernels, MB_CPU_AVX2);
    emulated_add_avx512(kernels);
    if (levels[l] & MB_CPU_AVX512_VNNI)
        emulated_add_avx512_vnni(kernels);
    return 1;
}
#else
static inline int has_emulated_level(unsigned l, struct mb_kernels *kernels)
{
    (void)l, (void)kernels;
    return 0;
}
#endif

static inline const char *level_name(unsigned l)
{
    if ((levels[l] & mb_cpu_flags()) == levels[l])
        return mb_cpu_simd(levels[l]);
    return levels[l] & MB_CPU_AVX512_VNNI ? "avx512-vnni, emulated" : "avx512, emulated";
}

/* Fills kernels and returns 1 if this CPU runs level l, or emulates what the suite tests of it. */
static inline int has_level(unsigned l, struct mb_kernels *kernels)
{
    if ((levels[l] & mb_cpu_flags()) != levels[l])
        return has_emulated_level(l, kernels);
    mb_kernels_init(kernels, levels[l]);
    return 1;
}

/* ---- memory ---- */

/* n bytes whose end (to `align`) touches a page that cannot be read: a load beyond them is a crash. */
struct guarded {
    void *map;
    size_t map_bytes;
    char *bytes;
};

static inline struct guarded guarded_new(size_t n, size_t align)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (n + align + page - 1) / page * page;
    struct guarded g = {.map_bytes = body + page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_true(mprotect((char *)g.map + body, page, PROT_NONE) == 0);
    g.bytes = (char *)g.map + (body - n) / align * align;
    return g;
}

static inline void guarded_free(struct guarded *g)
{
    munmap(g->map, g->map_bytes);
}

#endif
