/* SPDX-License-Identifier: MIT */
/* What a GPU's memory and its link really sustain, by Vulkan compute and copies. Internal;
 * docs/measurement.md states the method. A figure is only given after the bytes behind it were
 * proved to have been read or moved. */
#ifndef MB_VK_MEASURE_H
#define MB_VK_MEASURE_H

#include "base/base.h"

struct mb_gpu; /* an opened device with its buffers; one thread at a time */

/* Open a device by its PCI address as mb_vk_list() gives it; where pci is NULL, or the driver tells
 * no addresses, by its exact name (may be NULL where pci is not). Software devices only if allowed.
 * Returns MB_OK; MB_ENOHW: no such device, or it can't be opened; MB_EINVAL: neither given;
 * MB_ENOMEM; MB_ENOTSUP: built without Vulkan. */
int mb_gpu_open(const char *pci, const char *name, int allow_software, struct mb_gpu **out,
                struct mb_err *err);
void mb_gpu_close(struct mb_gpu *gpu);

/* Every function below returns, beside its own: MB_ENOHW: the device was lost; it then stays lost
 * and only close is left; MB_EREJECT: it gave no answer within a minute, with the same consequence;
 * MB_ENOMEM; MB_ENOTSUP. */

/* Take device-local memory of that size, rounded down to 16 KiB and cut to 80 % of what the heap's
 * budget leaves (the driver may give still less), and have the GPU fill it with seeded data whose
 * sum is known without reading it. Replaces an earlier one. Reads it four times, to see whether its
 * clock can be used. MB_ERANGE: bytes below 16 KiB. */
int mb_gpu_read_prepare(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err);

/* Read all of it once. bytes_read: what the shader loaded. seconds: by the device's timestamps, or
 * submission to fence on the host's clock where timestamps are missing or not plausible.
 * MB_EREJECT: the sum is wrong, so not every byte was read; MB_EINVAL: not prepared. */
int mb_gpu_read_once(struct mb_gpu *gpu, uint64_t *bytes_read, double *seconds, struct mb_err *err);

/* Keep the GPU reading for at least that long without a gap between passes, each checked, while
 * other threads do what they like. bytes_read / elapsed_s is the rate. Overshoots by up to two
 * passes. */
int mb_gpu_read_for(struct mb_gpu *gpu, double seconds, uint64_t *bytes_read, double *elapsed_s,
                    struct mb_err *err);

/* Take exactly that much pinned host memory and as much device-local memory (a multiple of 4 from
 * 4096 to 4 GiB; else MB_ERANGE; where 80 % of a budget would be exceeded MB_ENOMEM), then check as
 * mb_gpu_copy_check() does. */
int mb_gpu_copy_prepare(struct mb_gpu *gpu, uint64_t bytes, struct mb_err *err);

/* Copy all of it once over the link, by the copy engine where there is one; seconds from submission
 * to fence on the host's clock. A sample of words is new in each copy to the device and checked in
 * each copy back: MB_EREJECT if one is wrong. */
int mb_gpu_copy_once(struct mb_gpu *gpu, int to_device, double *seconds, struct mb_err *err);

/* There and back with a new pattern, every word compared: MB_EREJECT when one differs. For after a
 * series of copies. */
int mb_gpu_copy_check(struct mb_gpu *gpu, struct mb_err *err);

/* Seconds from submission of one tiny dispatch until its fence is seen: the median of 32. Negative
 * on failure. */
double mb_gpu_latency_s(struct mb_gpu *gpu, struct mb_err *err);

/* How read_once takes its time: "GPU timestamps" or "host clock". After read_prepare. */
const char *mb_gpu_clock(const struct mb_gpu *gpu);

#endif
