/* SPDX-License-Identifier: MIT */
/* Reading JSON that somebody else wrote: typed access that names file, entry and key when something
 * is wrong. The first failure sticks and later calls answer "absent", so that callers check `code`
 * once per entry. null counts as absent everywhere. */
#ifndef MB_READER_H
#define MB_READER_H

#include "base/base.h"

struct mb_reader {
    struct mb_arena *arena; /* texts are copied here */
    const char *file;       /* named in err */
    struct mb_err *err;
    int code;        /* MB_OK until something failed */
    char where[160]; /* entry being read: "chips[3] rtx-4090: memory" */
};

enum mb_need { MB_OPTIONAL, MB_REQUIRED };

/* Longest text that is accepted. */
enum { MB_READER_TEXT_MAX = 1000 };

/* Fail with MB_EFORMAT: "FILE: WHERE: KEY: what". key may be NULL. Returns the code. */
int mb_reader_fail(struct mb_reader *reader, const char *key, const char *format, ...)
    MB_PRINTF(3, 4);

/* Go into a part, described for err ("series[2]", "memory"), and out again with what enter
 * returned. */
size_t mb_reader_enter(struct mb_reader *reader, const char *format, ...) MB_PRINTF(2, 3);
void mb_reader_leave(struct mb_reader *reader, size_t mark);

/* Is value an object with no other keys than these n? Fails naming the nearest known key. */
int mb_reader_keys(struct mb_reader *reader, const json_t *value, const char *const *keys,
                   size_t n);

/* Members of an object: NULL, NAN, 0 and -1 stand for absent (or failed). Control characters in
 * texts become '?'. Numbers must lie in [min, max], counts in [0, max], arrays hold at most max_n
 * elements; a choice is an index into names. */
const char *mb_reader_text(struct mb_reader *reader, const json_t *object, const char *key,
                           enum mb_need need);
double mb_reader_number(struct mb_reader *reader, const json_t *object, const char *key, double min,
                        double max, enum mb_need need);
uint64_t mb_reader_count(struct mb_reader *reader, const json_t *object, const char *key,
                         uint64_t max, enum mb_need need);
int mb_reader_flag(struct mb_reader *reader, const json_t *object, const char *key);
json_t *mb_reader_array(struct mb_reader *reader, const json_t *object, const char *key,
                        size_t max_n, enum mb_need need);
json_t *mb_reader_object(struct mb_reader *reader, const json_t *object, const char *key,
                         enum mb_need need);
int mb_reader_choice(struct mb_reader *reader, const json_t *object, const char *key,
                     const char *const *names, size_t n, enum mb_need need);
/* The texts of an array; *out_n of them. */
const char **mb_reader_texts(struct mb_reader *reader, const json_t *object, const char *key,
                             size_t max_n, unsigned *out_n, enum mb_need need);

/* The text that part["source"] names among sources ({"s1": "a document"}); required. */
const char *mb_reader_source(struct mb_reader *reader, const json_t *part, const json_t *sources);

#endif
