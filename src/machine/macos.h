/* SPDX-License-Identifier: MIT */
/* Macs: what macOS says (macos_facts.c, Darwin only) and the machine that follows from it (macos.c,
 * everywhere, so that it can be tested without a Mac). */
#ifndef MB_MACOS_H
#define MB_MACOS_H

#include "machine/chip.h"
#include "machine/machine.h"

/* Texts are borrowed; 0 or NULL is unknown. */
struct mb_macos_facts {
    const char *chip;      /* machdep.cpu.brand_string: "Apple M4 Max" */
    const char *model;     /* hw.model: "Mac16,5" */
    const char *version;   /* kern.osproductversion: "15.1" */
    uint64_t memory_bytes; /* hw.memsize */
    uint64_t free_bytes;   /* host_statistics64: free + inactive pages */
    int has_free;
    uint64_t wired_limit_mb; /* iogpu.wired_limit_mb: MiB that the GPU may wire; 0 is the system's
                                default */
    unsigned n_performance_cores; /* hw.perflevel0.physicalcpu */
    unsigned n_efficiency_cores;  /* hw.perflevel1.physicalcpu */
    unsigned n_gpu_cores;         /* gpu-core-count of the accelerator in the I/O registry */
    uint64_t l1d_bytes, l2_bytes; /* of the performance cores: of one, and of their cluster */
    int is_virtual;               /* kern.hv_vmm_present */
};

/* Ask this Mac. Returns MB_OK; MB_ENOTSUP on other systems; MB_ENOMEM. */
int mb_macos_read(struct mb_arena *arena, struct mb_macos_facts *out);

/* Pools, processors and notes of a machine that is empty so far; not yet finished. chips may be
 * NULL. */
void mb_macos_machine(const struct mb_macos_facts *facts, const struct mb_chips *chips,
                      struct mb_machine *machine);

#endif
