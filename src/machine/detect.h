/* SPDX-License-Identifier: MIT */
/* What the readers of a machine hand to detect.c. Internal to detection. A reader takes the machine
 * for its arena and for notes, and the root directory (NULL: this machine); what it can't learn
 * stays 0 or NULL. */
#ifndef MB_DETECT_H
#define MB_DETECT_H

#include "machine/chip.h"
#include "machine/machine.h"

/* ---- linux_cpu.c ---- */

struct mb_cpu {
    const char *name;
    const char *arch; /* "x86_64", "aarch64" */
    const char *simd;
    const char *virtual_by;
    unsigned n_cores, n_threads, n_numa_nodes;
    uint64_t cache_bytes[3];
};
int mb_cpu_read(struct mb_machine *machine, const char *root, struct mb_cpu *out);

/* ---- linux_ram.c ---- */

struct mb_ram {
    uint64_t total_bytes;                        /* MemTotal; 0 unknown */
    struct mb_figure capacity_bytes, free_bytes; /* after cgroup limits */
};
void mb_ram_read(struct mb_machine *machine, const char *root, struct mb_ram *out);
/* CPUs' worth of time that cgroups grant this process; 0: no limit. */
double mb_ram_cpu_quota(struct mb_machine *machine, const char *root);

/* ---- linux_gpu.c ---- */

/* A GPU of /sys/class/drm or of the PCI bus. Virtual display adapters and server management chips
 * are left out. */
struct mb_card {
    const char *pci, *driver, *name; /* NULL unknown */
    uint32_t vendor_id, device_id;
    int has_drm;           /* found in /sys/class/drm, so a driver has taken it */
    int has_vram, has_gtt; /* amdgpu states them */
    uint64_t vram_bytes, vram_used_bytes, gtt_bytes, gtt_used_bytes;
    double gt_per_s;           /* PCIe: the best speed along the path from CPU to card; 0 unknown */
    unsigned width_max, width; /* PCIe lanes: possible along the path, and now; 0 unknown */
};
void mb_card_list(struct mb_machine *machine, const char *root, struct mb_card **out, unsigned *n);

/* ---- gpu.c ---- */

/* One GPU, whoever reported it. */
struct mb_gpu_facts {
    const char *name, *pci, *driver;
    uint32_t vendor_id, device_id;
    int integrated;                               /* reads the CPU's RAM */
    struct mb_figure vram_bytes, vram_free_bytes; /* discrete; amdgpu's carve-out when integrated */
    struct mb_figure
        gtt_bytes; /* integrated: RAM that the driver lets the GPU use, beyond the carve-out */
    struct mb_figure heaps_bytes; /* integrated: all that Vulkan offers */
    struct mb_figure bandwidth_bytes_per_s;
    struct mb_figure power_limit_w;
    unsigned n_cores;
    unsigned pcie_generation;   /* 1..6 */
    unsigned width_max, width;  /* lanes */
    int software;               /* no GPU at all: kept for tests */
    const struct mb_chip *chip; /* NULL: not in the table */
    unsigned order;             /* as found */
};
/* All GPUs of a machine, discrete ones first, in PCI order; a card seen by several readers once.
 * chips may be NULL. Returns MB_OK; MB_ENOMEM. */
int mb_gpu_list(struct mb_machine *machine, const char *root, const struct mb_detect_opts *opts,
                const struct mb_chips *chips, struct mb_gpu_facts **out, unsigned *n);

#endif
