/* SPDX-License-Identifier: MIT */
/* Large memory straight from the OS: zeroed, on 2 MiB pages where the OS gives them, and placed on the NUMA node of the thread
 * that writes it first. */
#ifndef MB_PAGES_H
#define MB_PAGES_H

#include <stddef.h>
#include <stdint.h>

/* Memory of at least that many bytes (0: one page), aligned to a page; NULL: the OS has none. */
void *mb_pages_take(size_t bytes);
void mb_pages_give(void *pages, size_t bytes);

/* The same on small pages: for memory that is filled slowly and at many places, where a huge page would be cleared and kept for
 * its first bytes. */
void *mb_pages_take_small(size_t bytes);
/* Pages of it that are touched for the first time from now on may be huge. */
void mb_pages_allow_huge(void *pages, size_t bytes);

/* Bytes that programs can take without pushing others out, as the OS estimates it; 0 unknown. */
uint64_t mb_pages_free(void);

#endif
