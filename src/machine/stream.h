/* SPDX-License-Identifier: MIT */
/* A buffer of known content that a team reads as fast as it can: what the read bandwidth of a CPU is measured with.
 * Internal. */
#ifndef MB_STREAM_H
#define MB_STREAM_H

#include "base/team.h"
#include "kernels/kernels.h"

/* Blocks are what one call of a kernel reads; each has its checksum. */
#define MB_STREAM_BLOCK_BYTES ((uint64_t)256 << 10)

struct mb_stream;

struct mb_stream_sample {
    double bytes_per_s; /* of all threads together: bytes / seconds */
    double seconds;     /* from the first start to the last end */
    uint64_t bytes;
    uint64_t n_bad_blocks; /* whose sum was not the one that was stored */
    double cpu_share;      /* of that time in which the threads had a CPU, 0..1 */
};

/* Map a buffer of at most `bytes`, rounded down to equal slices for the team's members, and let each member fill its slice with
 * seeded random words: pages lie near whoever touches them first. Huge pages are asked for.
 *   team, kernels  in  borrowed until close
 *   cancel         in  may be NULL
 * Returns MB_OK; MB_ERANGE: less than two blocks for each member; MB_ENOMEM; MB_ECANCEL. */
int mb_stream_open(struct mb_team *team, const struct mb_kernels *kernels, uint64_t bytes, const volatile int *cancel,
                   struct mb_stream **out, struct mb_err *err);
void mb_stream_close(struct mb_stream *stream);

/* Bytes of the buffer, and the share of it that lies in huge pages (0..1; negative: the OS does not tell). */
uint64_t mb_stream_bytes(const struct mb_stream *stream);
double mb_stream_huge_share(const struct mb_stream *stream);

/* Let the members i < n_threads read for about that long, and check every block. Each reads the slices of its own NUMA node in
 * turn, shared with the other readers there, and goes on where it stopped the last time, so that what it reads is what it read
 * longest ago. With half set only the first half of each slice is read: the same work on a buffer half as large. */
void mb_stream_read(struct mb_stream *stream, unsigned n_threads, int half, double seconds, struct mb_stream_sample *out);

/* Bytes in huge pages between two addresses according to the text of /proc/self/smaps. Pure. */
uint64_t mb_smaps_huge_bytes(const char *smaps, uintptr_t from, uintptr_t to);

#endif
