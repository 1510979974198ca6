/* SPDX-License-Identifier: MIT */
/* What NVIDIA's management library says about its GPUs. The library is opened at run time: no
 * driver, no NVML, no fault. */
#ifndef MB_NVML_H
#define MB_NVML_H

#include "base/base.h"

/* One GPU. Each call may answer "not supported" (GB10 has no VRAM to tell of): then the field is 0
 * or NULL. */
struct mb_nvml_gpu {
    const char *name, *pci; /* "NVIDIA GeForce RTX 4090", "0000:01:00.0" */
    uint32_t vendor_id, device_id;
    uint64_t memory_bytes, memory_free_bytes;
    int has_memory;
    unsigned link_generation_max, link_width_max; /* what GPU and slot can do together */
    unsigned link_generation, link_width;         /* now */
    unsigned bus_width_bits, memory_clock_mhz;    /* of the VRAM; the clock is the highest one */
    unsigned power_limit_mw;
    unsigned n_cores;
    unsigned compute_major, compute_minor;
    int mig; /* divided into instances */
};

struct mb_nvml {
    const char *driver; /* "570.86.10" */
    struct mb_nvml_gpu *gpus;
    unsigned n_gpus;
};

/* All GPUs of this machine (root NULL), or those in ROOT/membound/nvml.json.
 * Returns MB_OK (perhaps without GPUs); MB_ENOHW: no library or no driver, err says what to do;
 * MB_EFORMAT: the recorded file is broken; MB_ENOMEM. */
int mb_nvml_list(struct mb_arena *arena, const char *root, struct mb_nvml *out, struct mb_err *err);

/* The recorded file's text. Members that are missing or of the wrong type are unknown. */
int mb_nvml_parse(struct mb_arena *arena, const char *text, size_t n, struct mb_nvml *out,
                  struct mb_err *err);

#endif
