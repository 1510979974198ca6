/* SPDX-License-Identifier: MIT */
/* Memory modules as the firmware describes them: the SMBIOS table (DMTF DSP0134), or the same facts
 * in udev's database, which every user may read. From them: what is installed and how fast it can
 * be. */
#ifndef MB_SMBIOS_H
#define MB_SMBIOS_H

#include "base/base.h"

/* One memory device that is plugged in or soldered. */
struct mb_dimm {
    uint64_t size_bytes; /* 0 unknown */
    const char *type;    /* "DDR5", "LPDDR5"; NULL unknown */
    unsigned mt_per_s;   /* configured, else rated; 0 unknown */
    int rated_only;      /* mt_per_s is what the module could do, not what is set */
    unsigned width_bits; /* data, without ECC; 0 unknown */
    const char *locator; /* "DIMM_A1", "Controller0-ChannelA-DIMM0"; NULL unknown */
    const char *bank;    /* "BANK 0", "P0 CHANNEL A"; NULL unknown */
};

struct mb_dimms {
    struct mb_dimm *dimms;
    unsigned n;
    const char *source; /* "SMBIOS", "udev database of SMBIOS" */
};

/* Read a raw table of n bytes. entry (may be NULL) is the entry point; when it states a length, the
 * table ends there. Broken tables give the devices before the break. Returns MB_OK; MB_ENODATA: no
 * memory device; MB_ENOMEM. */
int mb_smbios_parse(struct mb_arena *arena, const unsigned char *table, size_t n,
                    const unsigned char *entry, size_t entry_n, struct mb_dimms *out);

/* The same from the text of /run/udev/data/+dmi:id, where systemd's dmi_memory_id has left it. */
int mb_smbios_parse_udev(struct mb_arena *arena, const char *database, struct mb_dimms *out);

/* The first of both that can be read under root. Returns MB_OK; MB_ENODATA: neither. */
int mb_smbios_read(struct mb_arena *arena, const char *root, struct mb_dimms *out);

/* What the modules are together. */
struct mb_dimm_sum {
    uint64_t installed_bytes; /* 0: the size of a module is unknown */
    const char *type;         /* of all; NULL unknown or mixed */
    unsigned mt_per_s;        /* of the slowest; 0 unknown */
    int rated_only;
    unsigned n_channels;     /* 0: locators do not tell */
    unsigned width_bits;     /* of all channels together; 0 unknown */
    double bytes_per_s;      /* width_bits / 8 * mt_per_s * 1e6; 0 unknown */
    const char *why_unknown; /* why bytes_per_s is 0; else NULL */
};
int mb_smbios_sum(struct mb_arena *arena, const struct mb_dimms *dimms, struct mb_dimm_sum *out);

/* "DDR5-6000, 2 channels x 64 bit"; NULL when not even the type is known. */
const char *mb_smbios_describe(struct mb_arena *arena, const struct mb_dimm_sum *sum);

#endif
