/* SPDX-License-Identifier: MIT */
/* What documents say about chips: GPUs, systems on a chip and CPUs of data/chips. Detection looks
 * chips up by the name that a driver tells; the catalog builds machines from them. */
#ifndef MB_CHIP_H
#define MB_CHIP_H

#include "base/base.h"
#include "base/embedded.h"

enum mb_chip_kind { MB_CHIP_GPU, MB_CHIP_SOC, MB_CHIP_CPU };

/* How much of a pool a GPU may use by default. */
enum mb_usable_rule {
    MB_USABLE_UNKNOWN,
    MB_USABLE_ALL,
    MB_USABLE_APPLE_WIRED, /* macOS: 2/3 up to 36 GiB, 3/4 above */
    MB_USABLE_AMD_GTT      /* Linux amdgpu: half of RAM */
};

/* All texts live as long as the struct mb_chips. Counts that are unknown are 0. */
struct mb_chip {
    const char *id, *name, *vendor; /* "rtx-4090", "NVIDIA GeForce RTX 4090", "NVIDIA" */
    const char *released;           /* "2022-10" or NULL */
    enum mb_chip_kind kind;
    const char **match; /* names that drivers and systems tell */
    unsigned n_match;
    const char **pci; /* "10de:2684" */
    unsigned n_pci;
    const char *memory_type; /* "GDDR6X" or NULL */
    unsigned bus_bits;       /* all channels together */
    double mega_transfers_per_s;
    double *capacities_bytes; /* sizes that are sold; none for kind cpu */
    unsigned n_capacities;
    struct mb_figure bandwidth_bytes_per_s;
    const char *link_name;                /* "PCIe 4.0 x16", "NVLink-C2C" or NULL */
    unsigned link_generation, link_lanes; /* PCIe */
    struct mb_figure link_bytes_per_s;    /* payload, one direction */
    const char *cpu_name;
    unsigned n_cpu_cores;
    const char *gpu_name; /* of a system on a chip */
    unsigned n_gpu_cores;
    struct mb_figure cpu_read_bytes_per_s; /* the CPU part of a system on a chip alone */
    enum mb_usable_rule usable_rule;
    const char *usable_source;
    struct mb_peak *peaks; /* of the GPU; of the CPU for kind cpu */
    unsigned n_peaks;
    struct mb_figure power_idle_w, power_load_w;
};

struct mb_chips;

/* The chips of the program; entries are read when they are asked for, and one that is broken (a
 * test sees to it that none is) counts as absent. Returns MB_OK; MB_ENOMEM. */
int mb_chips_open(struct mb_chips **out, struct mb_err *err);
void mb_chips_close(struct mb_chips *chips);

/* The same over files below "chips/", which must outlive the chips. */
int mb_chips_index(const struct mb_embedded *files, size_t n_files, struct mb_chips **out,
                   struct mb_err *err);

/* The same, and read and check all entries at once.
 * Returns MB_OK; MB_EFORMAT: err names file, chip and key; MB_ENOMEM. */
int mb_chips_parse(const struct mb_embedded *files, size_t n_files, struct mb_chips **out,
                   struct mb_err *err);

/* How many, and each; NULL for a broken one. */
size_t mb_chips_count(const struct mb_chips *chips);
const struct mb_chip *mb_chips_at(const struct mb_chips *chips, size_t at);

/* The chip of that id, or NULL. */
const struct mb_chip *mb_chip_by_id(const struct mb_chips *chips, const char *id);

/* What is known about a chip; NULL or 0: not known. */
struct mb_chip_hints {
    const char *name;   /* as a driver or the OS tells it */
    const char *pci_id; /* "10de:2684" */
    unsigned n_cpu_cores, n_gpu_cores;
    double memory_bytes; /* as programs see it: up to 7 % less than what is sold */
};

/* The chip of that name, else the chip behind that PCI id. A name matches as a whole, without case
 * and surrounding blanks, never in part: "Tesla M40" is no Apple M4. Where several chips fit (Apple
 * sells one name with different core counts), the other hints decide; NULL when none or several are
 * left. */
const struct mb_chip *mb_chip_find_like(const struct mb_chips *chips,
                                        const struct mb_chip_hints *hints);

/* The same with only a name and a PCI id; both may be NULL. */
const struct mb_chip *mb_chip_find(const struct mb_chips *chips, const char *name,
                                   const char *pci_id);

/* What a GPU may use of a pool of capacity bytes, and how to raise it (*raise may become NULL).
 * Texts go into the arena. */
struct mb_figure mb_usable_bytes(enum mb_usable_rule rule, double capacity_bytes,
                                 struct mb_arena *arena, const char **raise);

/* Bytes per second of one direction of a PCIe link; 0 for a generation or width that does
 * not exist. lanes * transfers/s * line code / 8, the figure that makers print; packet
 * headers take another 5 to 15 % of it, which only a measurement tells. */
double mb_pcie_bytes_per_s(unsigned generation, unsigned lanes);

#endif
