/* SPDX-License-Identifier: MIT */
/* Reading memory, the reference. */
#include "kernels/kernels.h"

#include <assert.h>

/* sum over i of word[i], modulo 2^64
 *   from   [bytes]  64-bit words in the CPU's byte order, aligned to MB_READ_ALIGN
 *   bytes           a multiple of MB_READ_UNIT (asserted); 0 gives 0
 * Every byte is loaded exactly once: `bytes` is what moves, and what a measurement may divide by. The sum is the proof: over
 * random words a kernel that leaves out, repeats or invents a load ends up with another one. The order of the loads is free.
 * Faster levels walk four streams a quarter of the block apart: that keeps more of the hardware prefetchers busy. On two
 * Zen 3 cores it read 1.2 times what one stream did; software prefetches made every variant slower. */
uint64_t mb_read_sum_ref(const void *from, size_t bytes)
{
    assert(bytes % MB_READ_UNIT == 0 && (uintptr_t)from % MB_READ_ALIGN == 0);
    const uint64_t *word = from;
    uint64_t sum[4] = {0};
    for (size_t i = 0; i < bytes / 8; i += 4)
        for (size_t lane = 0; lane < 4; lane++)
            sum[lane] += word[i + lane];
    return sum[0] + sum[1] + sum[2] + sum[3];
}
