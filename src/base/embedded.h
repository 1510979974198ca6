/* SPDX-License-Identifier: MIT */
/* The files of data/ inside the program, written by tools/embed.py at build time. */
#ifndef MB_EMBEDDED_H
#define MB_EMBEDDED_H

#include <stddef.h>

struct mb_embedded {
    const char *name;           /* path below data/: "chips/apple.json" */
    const unsigned char *bytes; /* terminated by a NUL that n does not count */
    size_t n;
};

extern const struct mb_embedded mb_embedded_files[];
extern const size_t mb_embedded_n_files;

#endif
