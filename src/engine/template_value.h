/* SPDX-License-Identifier: MIT */
/* Values of a rendering and the run that owns them. Internal to template_*.c.
 *
 * A value is 16 bytes, passed by value; texts are slices (pointer and length, UTF-8, not terminated), so cutting one
 * copies nothing. Everything else lives in the run's arena until the rendering ends. The first failure sticks in the
 * run: functions then return an undefined value or NULL, and loops ask mb_trun_failed(). */
#ifndef MB_TEMPLATE_VALUE_H
#define MB_TEMPLATE_VALUE_H

#include "engine/template.h"

#include <string.h>

enum mb_tkind {
    MB_T_UNDEFINED,
    MB_T_NONE,
    MB_T_BOOL,
    MB_T_INT,
    MB_T_FLOAT,
    MB_T_TEXT,
    MB_T_LIST, /* the sequences: struct mb_tseq */
    MB_T_TUPLE,
    MB_T_RANGE,
    MB_T_KEYS, /* dict views */
    MB_T_VALUES,
    MB_T_ITEMS,
    MB_T_ITER, /* what a generator is in Python: can be walked once, has no length */
    MB_T_DICT,
    MB_T_NAMESPACE,
    MB_T_LOOP,
    MB_T_MACRO,
    MB_T_METHOD,
    MB_T_FUNCTION,
    MB_T_CYCLER,
    MB_T_JOINER,
    MB_T_MISSING /* an argument that was not given; never seen by templates */
};

struct mb_tv {
    uint8_t kind;
    uint8_t flag; /* text: is Markup; undefined: enum mb_tundef */
    uint8_t of;   /* undefined: kind of the object that was asked */
    uint32_t n;   /* bytes of a text, or of an undefined value's name */
    union {
        int64_t i;
        double f;
        const char *s;
        struct mb_tseq *seq;
        struct mb_tdict *dict;
        struct mb_tloop *loop;
        struct mb_tmacro *macro;
        struct mb_tmethod *method;
        const struct mb_tcallee *function;
        struct mb_tcycler *cycler;
    };
};

/* What an undefined value was: decides the message when it is used. */
enum mb_tundef { MB_U_NAME, MB_U_ATTRIBUTE, MB_U_ELEMENT, MB_U_UNSAFE, MB_U_TEXT };

struct mb_tseq {
    struct mb_tv *items;
    uint32_t n;
    uint32_t at;         /* MB_T_ITER: the next item */
    int64_t first, last, step; /* MB_T_RANGE */
};

struct mb_tpair {
    struct mb_tv key, value;
};

struct mb_tdict {
    struct mb_tpair *pairs; /* in order of insertion */
    uint32_t n, room;
};

struct mb_tmethod {
    struct mb_tv self;
    const struct mb_tcallee *callee;
};

struct mb_tcycler { /* and joiner: items[0] is the separator, at is "was called" */
    struct mb_tv *items;
    uint32_t n, at;
};

/* A text that grows. */
struct mb_tbuf {
    char *s;
    size_t n, room;
};

struct mb_tscope;

struct mb_trun {
    struct mb_arena arena;
    size_t bytes_left, output_max;
    uint64_t steps_left;
    unsigned line, depth;
    int code; /* MB_OK, or the first failure, told in err */
    struct mb_err err;
    const struct tm *now;
    /* the evaluator's own */
    struct mb_tscope *scope;
    struct mb_tdict *globals;
    struct mb_tbuf *out;
    struct mb_tv hole; /* input of a filter block's outermost filter */
    int flow;          /* break or continue under way */
};

/* Arguments of a call: positional ones, then keywords. */
struct mb_targs {
    struct mb_tv *values;
    uint32_t n;
    struct mb_tpair *named;
    uint32_t n_named;
};

enum { MB_TARGS_MAX = 8 };

/* Something built in that can be called. params names the parameters, parted by blanks, the first being the object or
 * input; the first `required` must be given; those after "/" have no name that a call may use. NULL: args are handed over
 * as they are, and v[0] is the input. Missing ones are MB_T_MISSING. */
struct mb_tcallee {
    const char *name;
    const char *params;
    unsigned required;
    struct mb_tv (*call)(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args);
};

/* ---- the run: template_value.c ---- */

/* Fail with a line of text; the first failure wins. Returns an undefined value. */
struct mb_tv mb_trun_fail(struct mb_trun *run, int code, const char *format, ...) MB_PRINTF(3, 4);
/* Account for work; 0 when the bound is reached (the run has failed then). */
int mb_trun_step(struct mb_trun *run, uint64_t steps);
/* Enter and leave one level of recursion; enter gives 0 when too deep. */
int mb_trun_enter(struct mb_trun *run);
void mb_trun_leave(struct mb_trun *run);
/* Zeroed memory; NULL when the run has failed or fails now. */
void *mb_trun_alloc(struct mb_trun *run, size_t count, size_t size);

static inline int mb_trun_failed(const struct mb_trun *run)
{
    return run->code != MB_OK;
}

/* ---- making values ---- */

static inline struct mb_tv mb_tv_none(void)
{
    return (struct mb_tv){.kind = MB_T_NONE};
}

static inline struct mb_tv mb_tv_bool(int b)
{
    return (struct mb_tv){.kind = MB_T_BOOL, .i = b != 0};
}

static inline struct mb_tv mb_tv_int(int64_t i)
{
    return (struct mb_tv){.kind = MB_T_INT, .i = i};
}

static inline struct mb_tv mb_tv_float(double f)
{
    return (struct mb_tv){.kind = MB_T_FLOAT, .f = f};
}

static inline struct mb_tv mb_tv_text(const char *s, size_t n)
{
    return (struct mb_tv){.kind = MB_T_TEXT, .n = (uint32_t)n, .s = s};
}

static inline int mb_tv_is_text(struct mb_tv v, const char *word)
{
    size_t n = strlen(word);
    return v.kind == MB_T_TEXT && v.n == n && memcmp(v.s, word, n) == 0;
}

static inline int mb_tv_is_seq(struct mb_tv v)
{
    return v.kind >= MB_T_LIST && v.kind <= MB_T_ITER;
}

/* An undefined value that remembers what it was. */
struct mb_tv mb_tv_undefined(enum mb_tundef what, struct mb_tv name, int of_kind);
/* A sequence of n zeroed items (undefined values); items of the result may be written. */
struct mb_tv mb_tv_seq(struct mb_trun *run, int kind, size_t n);
struct mb_tv mb_tv_pair(struct mb_trun *run, struct mb_tv a, struct mb_tv b);
struct mb_tv mb_tv_dict(struct mb_trun *run);
/* Set a key; an unhashable key fails the run. */
void mb_tdict_set(struct mb_trun *run, struct mb_tdict *dict, struct mb_tv key, struct mb_tv value);
/* The value of a key, NULL if there is none. */
struct mb_tv *mb_tdict_find(struct mb_trun *run, const struct mb_tdict *dict, struct mb_tv key);
/* Append to a growing list of items (room doubles); 0 when the run has failed. */
int mb_tseq_add(struct mb_trun *run, struct mb_tseq *seq, struct mb_tv item);

/* ---- asking values ---- */

int mb_tv_truth(struct mb_trun *run, struct mb_tv v);
int mb_tv_equal(struct mb_trun *run, struct mb_tv a, struct mb_tv b);
/* -1, 0, 1; what has no order fails the run. */
int mb_tv_compare(struct mb_trun *run, struct mb_tv a, struct mb_tv b, const char *op);
int mb_tv_hashable(struct mb_tv v);
/* Is it a number (bool counts)? as a double. */
int mb_tv_number(struct mb_tv v, double *out);
/* "str", "dict", "list": Python's name of the type. */
const char *mb_tv_type(struct mb_tv v);
/* Fail because an undefined value was used. */
struct mb_tv mb_tv_undefined_fail(struct mb_trun *run, struct mb_tv v);
/* The items of anything that can be walked: *out borrows them. An iterator is emptied. 0: it cannot be walked. */
int mb_tv_items(struct mb_trun *run, struct mb_tv v, struct mb_tv **out, uint32_t *n);
/* Its length, or -1 (the run has failed) when it has none. */
int64_t mb_tv_length(struct mb_trun *run, struct mb_tv v);

/* str() and repr() as Python writes them. */
struct mb_tv mb_tv_str(struct mb_trun *run, struct mb_tv v);
void mb_tv_print(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv v);
void mb_tv_repr(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv v);
/* repr() of a float: the shortest text that reads back the same. */
void mb_tv_float_text(double f, char out[40]);

/* ---- texts: template_text.c ---- */

void mb_tbuf_add(struct mb_trun *run, struct mb_tbuf *buf, const char *s, size_t n);
void mb_tbuf_word(struct mb_trun *run, struct mb_tbuf *buf, const char *word);
void mb_tbuf_repeat(struct mb_trun *run, struct mb_tbuf *buf, const char *s, size_t n, int64_t times);
void mb_tbuf_point(struct mb_trun *run, struct mb_tbuf *buf, uint32_t point);
struct mb_tv mb_tbuf_text(struct mb_trun *run, const struct mb_tbuf *buf);
/* Add with & < > ' " as HTML entities. */
void mb_tbuf_escape(struct mb_trun *run, struct mb_tbuf *buf, struct mb_tv text);

/* The code point at s (n > 0 bytes of valid UTF-8), its length in *len. */
uint32_t mb_utf8_at(const char *s, size_t n, unsigned *len);
unsigned mb_utf8_put(uint32_t point, char out[4]);
int mb_utf8_valid(const char *s, size_t n);
size_t mb_utf8_count(const char *s, size_t n);
/* Byte offset of code point `index` (n when past the end). */
size_t mb_utf8_offset(const char *s, size_t n, size_t index);
/* As Python's str.isspace(), isprintable(), upper(), lower() see a code point (cased letters of Latin, Greek, Cyrillic,
 * Armenian only). */
int mb_point_space(uint32_t point);
int mb_point_printable(uint32_t point);
uint32_t mb_point_upper(uint32_t point);
uint32_t mb_point_lower(uint32_t point);
int mb_point_cased(uint32_t point); /* 1 upper, -1 lower, 0 neither */
int mb_point_alpha(uint32_t point);
/* Cut white space, or any code point of chars (a text or MISSING/none), from the ends: 1 left, 2 right, 3 both. */
struct mb_tv mb_text_strip(struct mb_tv text, struct mb_tv chars, int sides);
/* Offset of needle in text[from..], or -1. */
int64_t mb_text_find(struct mb_trun *run, struct mb_tv text, struct mb_tv needle, size_t from);
struct mb_tv mb_text_case(struct mb_trun *run, struct mb_tv text, char how); /* 'u', 'l', 't', 'c', 's' */
struct mb_tv mb_text_replace(struct mb_trun *run, struct mb_tv text, struct mb_tv old, struct mb_tv with, int64_t count);
struct mb_tv mb_text_concat(struct mb_trun *run, struct mb_tv a, struct mb_tv b);
struct mb_tv mb_text_lines(struct mb_trun *run, struct mb_tv text, int keep_ends);

/* ---- JSON: template_json.c ---- */

struct mb_tv mb_tv_from_json(struct mb_trun *run, const json_t *json);
extern const struct mb_tcallee mb_tfilter_tojson;

/* ---- operators and access: template_ops.c ---- */

enum mb_top {
    MB_OP_ADD, MB_OP_SUB, MB_OP_MUL, MB_OP_DIV, MB_OP_FLOORDIV, MB_OP_MOD, MB_OP_POW, MB_OP_CONCAT, MB_OP_AND, MB_OP_OR,
    MB_OP_EQ, MB_OP_NE, MB_OP_LT, MB_OP_LE, MB_OP_GT, MB_OP_GE, MB_OP_IN, MB_OP_NOT_IN, MB_OP_NOT, MB_OP_NEG, MB_OP_POS
};

struct mb_tv mb_top_binary(struct mb_trun *run, int op, struct mb_tv a, struct mb_tv b);
int mb_top_compare(struct mb_trun *run, int op, struct mb_tv a, struct mb_tv b);
struct mb_tv mb_top_negate(struct mb_trun *run, struct mb_tv a);
/* a.name, a[key], a[from:to:step] (none where left out). */
struct mb_tv mb_top_attribute(struct mb_trun *run, struct mb_tv object, struct mb_tv name);
struct mb_tv mb_top_item(struct mb_trun *run, struct mb_tv object, struct mb_tv key);
struct mb_tv mb_top_slice(struct mb_trun *run, struct mb_tv object, const struct mb_tv bounds[3]);
/* item for a dotted path "a.b.0", as filters take it; fallback replaces undefined parts unless MISSING or none. */
struct mb_tv mb_top_path(struct mb_trun *run, struct mb_tv object, struct mb_tv path, struct mb_tv fallback);

/* ---- calls ---- */

/* Call something built in with an input (self) before the arguments. */
struct mb_tv mb_tcall(struct mb_trun *run, const struct mb_tcallee *callee, struct mb_tv self, const struct mb_targs *args);
/* An integer argument (bool counts); MISSING and none give fallback when none_ok. Otherwise the run fails. */
int64_t mb_targ_int(struct mb_trun *run, struct mb_tv v, int64_t fallback);
/* A text argument; otherwise the run fails and the text is empty. */
struct mb_tv mb_targ_text(struct mb_trun *run, struct mb_tv v);

/* By name; NULL: there is none. _method: of values of this kind; *unsafe when Python has one that changes its object. */
const struct mb_tcallee *mb_tfilter_find(struct mb_tv name);
const struct mb_tcallee *mb_ttest_find(struct mb_tv name);
const struct mb_tcallee *mb_tmethod_find(int kind, struct mb_tv name, int *unsafe);
const struct mb_tcallee *mb_tglobal_at(unsigned i); /* functions that templates may call; NULL after the last */

/* text % args and text.format(...): template_format.c */
struct mb_tv mb_text_percent(struct mb_trun *run, struct mb_tv text, struct mb_tv args);
struct mb_tv mb_text_format(struct mb_trun *run, struct mb_tv text, const struct mb_targs *args);

#endif
