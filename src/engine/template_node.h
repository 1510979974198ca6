/* SPDX-License-Identifier: MIT */
/* What a template is after reading: tokens, then nodes. Internal to template_*.c. Nodes live in the template's arena and
 * do not change after parsing, so several renderings may share them. */
#ifndef MB_TEMPLATE_NODE_H
#define MB_TEMPLATE_NODE_H

#include "engine/template_value.h"

enum mb_ttoken_kind {
    MB_TT_END,    /* of the template */
    MB_TT_DATA,   /* text between tags */
    MB_TT_OPEN,   /* {% */
    MB_TT_CLOSE,  /* %} */
    MB_TT_PRINT,  /* {{ */
    MB_TT_PRINTED, /* }} */
    MB_TT_NAME,
    MB_TT_TEXT,   /* a string literal, escapes undone */
    MB_TT_INT,
    MB_TT_FLOAT,
    MB_TT_OPERATOR /* one or two characters, as text */
};

struct mb_ttoken {
    enum mb_ttoken_kind kind;
    unsigned line;
    struct mb_tv value;
};

struct mb_tlex {
    struct mb_arena *arena;
    struct mb_ttoken *tokens; /* the last one is MB_TT_END */
    unsigned n;
};

/* Cut a template (valid UTF-8) into tokens. The source must outlive them. MB_OK, MB_EFORMAT, MB_ENOMEM. */
int mb_tlex_run(struct mb_tlex *lex, const char *source, size_t n, struct mb_err *err);

enum mb_tnode_kind {
    /* expressions */
    MB_N_CONST,     /* value */
    MB_N_NAME,      /* value: the name */
    MB_N_LIST,      /* kids */
    MB_N_TUPLE,     /* kids */
    MB_N_DICT,      /* kids: key, value, key, value */
    MB_N_UNARY,     /* op, a */
    MB_N_BINARY,    /* op, a, b */
    MB_N_COMPARE,   /* a; kids: MB_N_BINARY with op and b */
    MB_N_CONDITION, /* b if a else c (c may be NULL) */
    MB_N_ATTRIBUTE, /* a, value: the name */
    MB_N_ITEM,      /* a[b] */
    MB_N_SLICE,     /* a[kids[0]:kids[1]:kids[2]], each may be NULL */
    MB_N_CALL,      /* a(kids) */
    MB_N_FILTER,    /* a|value(kids); a NULL: what the block holds */
    MB_N_TEST,      /* a is value(kids) */
    MB_N_KEYWORD,   /* value = a, among the kids of a call */
    MB_N_SPREAD,    /* *a, among the kids of a call */
    MB_N_SPREAD_NAMED, /* **a */
    MB_N_FIELD,     /* value.b(NAME): an attribute of a namespace as target of set */
    /* statements */
    MB_N_BLOCK,     /* kids */
    MB_N_DATA,      /* value */
    MB_N_OUTPUT,    /* a */
    MB_N_IF,        /* a, b, c (c may be NULL; elif: another IF) */
    MB_N_FOR,       /* a: target, b: iterable, c: body, kids[0]: else, kids[1]: filter; each kid may be NULL */
    MB_N_SET,       /* a = b */
    MB_N_SET_BLOCK, /* a = text of c, through filter b (may be NULL) */
    MB_N_MACRO,     /* value: name, kids: parameters (MB_N_KEYWORD, a is the default or NULL), c: body, op: MB_USES_* */
    MB_N_CALL_BLOCK, /* a: the call, kids: parameters of caller, c: body */
    MB_N_FILTER_BLOCK, /* b: filter, c: body */
    MB_N_WITH,      /* kids: SETs, c: body */
    MB_N_SCOPE,     /* c: body */
    MB_N_BREAK,
    MB_N_CONTINUE
};

enum { MB_USES_CALLER = 1, MB_USES_VARARGS = 2, MB_USES_KWARGS = 4 };

struct mb_tnode {
    uint8_t kind, op;
    unsigned line, n;
    struct mb_tv value;
    struct mb_tnode *a, *b, *c;
    struct mb_tnode **kids;
};

struct mb_template {
    struct mb_arena arena;
    struct mb_tnode *root;
    const struct mb_ttoken *tokens;
    unsigned n_tokens;
};

/* The parser's state, shared by statements (template_parse.c) and expressions (template_expr.c). */
struct mb_tparse {
    struct mb_arena *arena;
    const struct mb_ttoken *at;
    unsigned depth, loops, uses;
    int code;
    struct mb_err *err;
};

/* Fail with the line of the current token (first failure wins); NULL. */
struct mb_tnode *mb_tparse_fail(struct mb_tparse *p, int code, const char *format, ...) MB_PRINTF(3, 4);
/* A new node of the current line; kids are appended. NULL when the parser has failed. */
struct mb_tnode *mb_tnode_new(struct mb_tparse *p, int kind);
int mb_tnode_add(struct mb_tparse *p, struct mb_tnode *node, struct mb_tnode *kid);
/* One level deeper: 0 when that is too deep. */
int mb_tparse_enter(struct mb_tparse *p);
/* Is the current token this operator or word? _skip: then go past it. _expect: or fail. */
int mb_tparse_is(const struct mb_tparse *p, enum mb_ttoken_kind kind, const char *text);
int mb_tparse_skip(struct mb_tparse *p, enum mb_ttoken_kind kind, const char *text);
int mb_tparse_expect(struct mb_tparse *p, enum mb_ttoken_kind kind, const char *text);

/* An expression, without the "x if y" form when with_condition is 0. */
struct mb_tnode *mb_tparse_expression(struct mb_tparse *p, int with_condition);
/* An expression, or several parted by commas: a tuple. end: a word that ends it, or NULL. */
struct mb_tnode *mb_tparse_tuple(struct mb_tparse *p, int with_condition, const char *end);
/* What can stand left of "=" or "in": a name, a field of a namespace where allowed, or a tuple of these. */
struct mb_tnode *mb_tparse_target(struct mb_tparse *p, int with_field, const char *end);
/* Filters after "|" applied to node (NULL: a block's text). first: the first name stands without "|". */
struct mb_tnode *mb_tparse_filters(struct mb_tparse *p, struct mb_tnode *node, int first);

#endif
