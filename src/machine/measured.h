/* SPDX-License-Identifier: MIT */
/* A measurement and its machine: making its figures the machine's, and its JSON (docs/json.md,
 * "measurement"). */
#ifndef MB_MEASURED_H
#define MB_MEASURED_H

#include "base/reader.h"

/* Make the figures of a measurement those of its machine, and the measurement machine->measurement;
 * draw the conclusions anew (mb_machine_finish). Series name processors and pools by index. For
 * each processor and pool the best accepted read counts, whatever the number of threads; a copy
 * sets its link, which is added where none is. Rejected series and those that name something the
 * machine lacks are kept, but change nothing. measurement  in  lives as long as the machine: build
 * it in mb_machine_arena() Returns MB_OK; MB_ENOMEM. */
int mb_machine_apply_measurement(struct mb_machine *machine,
                                 const struct mb_measurement *measurement);

/* As JSON, processors and pools named by id (null where the machine lacks them); NULL when out of
 * memory. */
json_t *mb_measurement_json(const struct mb_machine *machine,
                            const struct mb_measurement *measurement);

/* Read it back into reader->arena for this machine. With lenient set an id that the machine lacks
 * becomes the index UINT32_MAX, which apply ignores; else it is refused. NULL on failure
 * (reader->code). */
struct mb_measurement *mb_measurement_read(struct mb_reader *reader, const json_t *object,
                                           const struct mb_machine *machine, int lenient);

/* The index of the pool or processor of that id; UINT32_MAX: none. */
unsigned mb_machine_pool_index(const struct mb_machine *machine, const char *id);
unsigned mb_machine_processor_index(const struct mb_machine *machine, const char *id);

#endif
