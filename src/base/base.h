/* SPDX-License-Identifier: MIT */
/* What every module stands on: failing with a text, memory that is freed at once, reading small files,
 * figures, and JSON with checks. Internal; the public side of base is in membound.h. */
#ifndef MB_BASE_H
#define MB_BASE_H

#include "membound.h"

#include <jansson.h>
#include <stdarg.h>

#define MB_COUNT(array) (sizeof(array) / sizeof(*(array)))

#if defined(__GNUC__)
#define MB_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#else
#define MB_PRINTF(format_at, args_at)
#endif

/* Fill err (may be NULL) and return code, so that a failure is one statement:
 *   return mb_fail(err, MB_EFORMAT, "%s: block_count is 0; the file is damaged", path);
 * Control characters become '?'; a text that is too long ends in "...". */
#define mb_fail(err, code, ...) mb_fail_code(mb_fail_text((err), (code), __VA_ARGS__), (code))
int mb_fail_text(struct mb_err *err, int code, const char *format, ...) MB_PRINTF(3, 4);

/* In sight of compilers and analysers, so that they know that a failure is one and callers go no further. */
static inline int mb_fail_code(int ignored, int code)
{
    (void)ignored;
    return code;
}

/* Out of memory, the same text everywhere. */
static inline int mb_fail_memory(struct mb_err *err)
{
    return mb_fail(err, MB_ENOMEM, "memory: an allocation failed; close other programs and try again");
}

/* ---- arena ---- */

/* Memory that is taken piece by piece and freed at once. Zero-initialised arenas are valid and empty. */
struct mb_arena {
    struct mb_arena_chunk *chunks;
    int failed; /* an allocation failed; sticky, so that builders can check once at the end */
};

/* n zeroed bytes, aligned for any type; NULL when out of memory or n is over 2^40. n = 0 gives a valid pointer. */
void *mb_arena_alloc(struct mb_arena *arena, size_t n);
/* count * size zeroed bytes; NULL also when the product overflows. */
void *mb_arena_array(struct mb_arena *arena, size_t count, size_t size);
/* Copies of text; NULL in gives NULL out. _format is printf into the arena. */
char *mb_arena_text(struct mb_arena *arena, const char *text);
char *mb_arena_text_n(struct mb_arena *arena, const char *text, size_t n);
char *mb_arena_format(struct mb_arena *arena, const char *format, ...) MB_PRINTF(2, 3);
/* Append one zeroed element to a growing array of *n elements: *array moves to a larger block of the arena when
 * needed (the old block stays until the arena is freed). Returns the new element, NULL when out of memory. */
void *mb_arena_append(struct mb_arena *arena, void *array, unsigned *n, size_t size);
void mb_arena_free(struct mb_arena *arena);

/* ---- files ---- */

/* Read a small file under root ("" or NULL: the real one) into the arena, at most limit bytes; the text is terminated, may
 * hold NULs, and *n_bytes (may be NULL) is its length. Regular files only (sysfs and proc are that); never blocks on a FIFO.
 * Returns NULL when it can't be read; errno says why (EFBIG: longer than limit). */
char *mb_file_read(struct mb_arena *arena, const char *root, const char *path, size_t limit, size_t *n_bytes);

/* The first line of such a file without surrounding blanks; NULL when unreadable, empty or not printable text. */
char *mb_file_line(struct mb_arena *arena, const char *root, const char *path);

/* Its first line as an unsigned number ("123", "0x10de"): 1 done, 0 not a number that fits 64 bits. */
int mb_file_u64(const char *root, const char *path, uint64_t *out);

/* Write a file whole or not at all (temporary file beside it, fsync, rename). Returns MB_OK or MB_EWRITE. */
int mb_file_write(const char *path, const void *bytes, size_t n, struct mb_err *err);

/* ---- figures ---- */

struct mb_figure mb_figure_of(double value, enum mb_provenance provenance, const char *detail);
/* Is the value known (finite, not negative, provenance given)? */
int mb_figure_known(const struct mb_figure *figure);

/* ---- clocks, random numbers ---- */

/* Seconds of a clock that only goes forward, of CPU time of the calling thread, and of all threads of the process together. */
double mb_now_s(void);
double mb_cpu_now_s(void);
double mb_process_cpu_s(void);

/* splitmix64 (Steele, Lea, Flood, 2014) as a hash of a counter. */
static inline uint64_t mb_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* ---- names ---- */

/* Compare names as people type them: case, blanks and punctuation do not count ("RTX-4090" = "rtx 4090"). 0 = same. */
int mb_name_compare(const char *a, const char *b);
/* How far two names are apart: edit distance over the folded names; a name that holds the other whole is near. */
unsigned mb_name_distance(const char *a, const char *b);
/* The up to max nearest of n names, best first, as "a, b or c" in buf; empty when nothing is near. */
char *mb_name_nearest(const char *wanted, const char *const *names, size_t n, unsigned max, char *buf, size_t buf_n);

/* ---- JSON ---- */

/* Parse text strictly (duplicate keys refused, depth bounded by jansson). label names the source in err.
 * Returns a new reference or NULL with err filled (MB_EFORMAT, line and column named; MB_ENOMEM). */
json_t *mb_json_parse(const char *text, size_t n, const char *label, struct mb_err *err);

/* Add to an object, taking the reference of value (even on failure). 0 done, -1 out of memory (value NULL counts as that);
 * callers add up the results. */
int mb_json_put(json_t *object, const char *key, json_t *value);
/* A text or null; a finite number (whole numbers as integers) or null; a count. */
json_t *mb_json_text(const char *text);
json_t *mb_json_number(double value);
json_t *mb_json_count(uint64_t value);
/* {"<unit key>": value, "provenance": .., "detail": ..}; value null when unknown. */
json_t *mb_json_figure(const struct mb_figure *figure, const char *unit_key);
/* Serialise (indented by 2, keys in insertion order), stealing root. *out is freed with
 * mb_text_free(). Returns MB_OK; MB_ENOMEM. */
int mb_json_dump(json_t *root, char **out, struct mb_err *err);

#endif
