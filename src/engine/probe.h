/* SPDX-License-Identifier: MIT */
/* The bound of a run: how fast the threads of a session read the memory that its passes read, right now. Reading the weights
 * themselves needs no memory beside them, uses the same pages on the same nodes, and so is what a pass that did nothing but
 * read would reach. Weights that a cache could keep are no measure of memory: then a buffer is read. */
#ifndef MB_PROBE_H
#define MB_PROBE_H

#include "engine/session.h"

struct mb_probe;

/*   session      in  borrowed until close; its thread opens, reads and closes
 *   cache_bytes  in  last-level cache of the machine; 0 unknown, then 64 MiB are assumed
 * Returns MB_OK; MB_ENOMEM. */
int mb_probe_open(struct mb_session *session, uint64_t cache_bytes, struct mb_probe **out, struct mb_err *err);
void mb_probe_close(struct mb_probe *probe);

/* Let all threads read for about that long; bytes per second of all together, from the first start to the last end. Each goes on
 * where it stopped, so that what it reads is what it read longest ago. */
double mb_probe_read(struct mb_probe *probe, double seconds);

/* Bytes that are read in turn, and whether they are the weights. */
uint64_t mb_probe_bytes(const struct mb_probe *probe);
int mb_probe_is_weights(const struct mb_probe *probe);

#endif
