/* SPDX-License-Identifier: MIT */
/* Tokens to expressions, by precedence climbing: or, and, not, comparisons, + -, ~, * / // %, **, unary, then filters and
 * tests, which bind to the operand right before them. Source: Jinja's documentation, "Expressions", and how its parser
 * resolves what that leaves open. */
#include "engine/template_node.h"

#include <string.h>

enum { NESTED_MAX = 200, KIDS_MAX = 100000 };

/* ---- the parser's tools ---- */

struct mb_tnode *mb_tparse_fail(struct mb_tparse *p, int code, const char *format, ...)
{
    if (p->code == MB_OK) {
        char text[320];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        p->code = mb_fail(p->err, code, "chat template, line %u: %s", p->at->line, text);
    }
    return NULL;
}

struct mb_tnode *mb_tnode_new(struct mb_tparse *p, int kind)
{
    if (p->code != MB_OK)
        return NULL;
    struct mb_tnode *node = mb_arena_alloc(p->arena, sizeof *node);
    if (!node) {
        p->code = mb_fail_memory(p->err);
        return NULL;
    }
    node->kind = (uint8_t)kind;
    node->line = p->at->line;
    return node;
}

int mb_tnode_add(struct mb_tparse *p, struct mb_tnode *node, struct mb_tnode *kid)
{
    if (p->code != MB_OK || !node || !kid)
        return 0;
    if (node->n >= KIDS_MAX) {
        mb_tparse_fail(p, MB_ERANGE, "more than %d parts in one place", KIDS_MAX);
        return 0;
    }
    struct mb_tnode **at = mb_arena_append(p->arena, &node->kids, &node->n, sizeof *at);
    if (!at) {
        p->code = mb_fail_memory(p->err);
        return 0;
    }
    *at = kid;
    return 1;
}

int mb_tparse_enter(struct mb_tparse *p)
{
    if (++p->depth > NESTED_MAX)
        mb_tparse_fail(p, MB_ERANGE, "nested more than %d levels deep", NESTED_MAX);
    return p->code == MB_OK;
}

int mb_tparse_is(const struct mb_tparse *p, enum mb_ttoken_kind kind, const char *text)
{
    size_t n = text ? strlen(text) : 0;
    return p->code == MB_OK && p->at->kind == kind && (!text || (p->at->value.n == n && memcmp(p->at->value.s, text, n) == 0));
}

int mb_tparse_skip(struct mb_tparse *p, enum mb_ttoken_kind kind, const char *text)
{
    if (!mb_tparse_is(p, kind, text))
        return 0;
    p->at++;
    return 1;
}

static void fail_token(struct mb_tparse *p, const char *expected)
{
    static const char *const kinds[] = {"end of template", "text", "start of a tag", "end of the tag",
                                        "start of a tag", "end of the tag", NULL, "a string", "a number", "a number", NULL};
    const char *kind = kinds[p->at->kind];
    if (kind)
        mb_tparse_fail(p, MB_EFORMAT, "expected %s, got %s", expected, kind);
    else
        mb_tparse_fail(p, MB_EFORMAT, "expected %s, got '%.*s'", expected, p->at->value.n > 60 ? 60 : (int)p->at->value.n,
                       p->at->value.s);
}

int mb_tparse_expect(struct mb_tparse *p, enum mb_ttoken_kind kind, const char *text)
{
    if (mb_tparse_skip(p, kind, text))
        return 1;
    if (p->code == MB_OK)
        fail_token(p, text ? text : kind == MB_TT_NAME ? "a name" : "the end of the tag");
    return 0;
}

static int is_op(const struct mb_tparse *p, const char *op)
{
    return mb_tparse_is(p, MB_TT_OPERATOR, op);
}

static int skip_op(struct mb_tparse *p, const char *op)
{
    return mb_tparse_skip(p, MB_TT_OPERATOR, op);
}

static int is_word(const struct mb_tparse *p, const char *word)
{
    return mb_tparse_is(p, MB_TT_NAME, word);
}

static struct mb_tnode *named(struct mb_tparse *p, int kind)
{
    struct mb_tnode *node = mb_tnode_new(p, kind);
    if (node) {
        node->value = p->at->value;
        if (!mb_tparse_expect(p, MB_TT_NAME, NULL))
            return NULL;
    }
    return node;
}

/* ---- operands ---- */

static struct mb_tnode *parse_items(struct mb_tparse *p, int kind, const char *close)
{
    struct mb_tnode *node = mb_tnode_new(p, kind);
    while (p->code == MB_OK && !is_op(p, close)) {
        if (node->n && (!mb_tparse_expect(p, MB_TT_OPERATOR, ",") || is_op(p, close)))
            break;
        mb_tnode_add(p, node, mb_tparse_expression(p, 1));
        if (kind == MB_N_DICT && mb_tparse_expect(p, MB_TT_OPERATOR, ":"))
            mb_tnode_add(p, node, mb_tparse_expression(p, 1));
    }
    return mb_tparse_expect(p, MB_TT_OPERATOR, close) ? node : NULL;
}

static struct mb_tnode *parse_strings(struct mb_tparse *p)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_CONST);
    if (!node)
        return NULL;
    node->value = p->at++->value;
    while (p->at->kind == MB_TT_TEXT) { /* strings side by side are one */
        struct mb_tv next = p->at++->value;
        char *joined = mb_arena_alloc(p->arena, (size_t)node->value.n + next.n + 1);
        if (!joined) {
            p->code = mb_fail_memory(p->err);
            return NULL;
        }
        memcpy(joined, node->value.s, node->value.n);
        memcpy(joined + node->value.n, next.s, next.n);
        node->value = mb_tv_text(joined, (size_t)node->value.n + next.n);
    }
    return node;
}

static struct mb_tnode *parse_primary(struct mb_tparse *p, int with_field)
{
    if (p->code != MB_OK)
        return NULL;
    if (p->at->kind == MB_TT_TEXT)
        return parse_strings(p);
    if (p->at->kind == MB_TT_INT || p->at->kind == MB_TT_FLOAT) {
        struct mb_tnode *node = mb_tnode_new(p, MB_N_CONST);
        if (node)
            node->value = p->at++->value;
        return node;
    }
    if (p->at->kind == MB_TT_NAME) {
        struct mb_tnode *node = named(p, MB_N_NAME);
        if (!node)
            return NULL;
        struct mb_tv name = node->value;
        if (mb_tv_is_text(name, "true") || mb_tv_is_text(name, "True") || mb_tv_is_text(name, "false") ||
            mb_tv_is_text(name, "False")) {
            node->kind = MB_N_CONST;
            node->value = mb_tv_bool((name.s[0] | 32) == 't');
        } else if (mb_tv_is_text(name, "none") || mb_tv_is_text(name, "None")) {
            node->kind = MB_N_CONST;
            node->value = mb_tv_none();
        } else if (with_field && skip_op(p, ".")) {
            node->kind = MB_N_FIELD;
            node->b = named(p, MB_N_NAME);
        } else {
            p->uses |= mb_tv_is_text(name, "caller") ? MB_USES_CALLER : 0;
            p->uses |= mb_tv_is_text(name, "varargs") ? MB_USES_VARARGS : 0;
            p->uses |= mb_tv_is_text(name, "kwargs") ? MB_USES_KWARGS : 0;
        }
        return node;
    }
    if (skip_op(p, "(")) {
        if (skip_op(p, ")"))
            return mb_tnode_new(p, MB_N_TUPLE);
        struct mb_tnode *node = mb_tparse_tuple(p, 1, NULL);
        return mb_tparse_expect(p, MB_TT_OPERATOR, ")") ? node : NULL;
    }
    if (skip_op(p, "["))
        return parse_items(p, MB_N_LIST, "]");
    if (skip_op(p, "{"))
        return parse_items(p, MB_N_DICT, "}");
    fail_token(p, "an expression");
    return NULL;
}

/* Arguments behind "(" into the kids of node. */
static void parse_args(struct mb_tparse *p, struct mb_tnode *node)
{
    int n = 0, keywords = 0;
    while (p->code == MB_OK && !is_op(p, ")")) {
        if (n++ && (!mb_tparse_expect(p, MB_TT_OPERATOR, ",") || is_op(p, ")")))
            break;
        struct mb_tnode *arg = NULL;
        if (is_op(p, "*") || is_op(p, "**")) {
            int all_named = is_op(p, "**");
            arg = mb_tnode_new(p, all_named ? MB_N_SPREAD_NAMED : MB_N_SPREAD);
            p->at++;
            if (arg)
                arg->a = mb_tparse_expression(p, 1);
            keywords |= all_named;
        } else if (p->at->kind == MB_TT_NAME && p->at[1].kind == MB_TT_OPERATOR && p->at[1].value.n == 1 &&
                   p->at[1].value.s[0] == '=') {
            arg = named(p, MB_N_KEYWORD);
            p->at++;
            if (arg)
                arg->a = mb_tparse_expression(p, 1);
            keywords = 1;
        } else {
            if (keywords)
                mb_tparse_fail(p, MB_EFORMAT, "a positional argument follows a keyword argument");
            arg = mb_tparse_expression(p, 1);
        }
        mb_tnode_add(p, node, arg);
    }
    mb_tparse_expect(p, MB_TT_OPERATOR, ")");
}

static struct mb_tnode *parse_subscript(struct mb_tparse *p, struct mb_tnode *object)
{
    struct mb_tnode *bounds[3] = {0}, *node = mb_tnode_new(p, MB_N_ITEM);
    unsigned n = 0;
    int slice = 0;
    if (!node)
        return NULL;
    node->a = object;
    if (is_op(p, "]")) {
        fail_token(p, "an expression");
        return NULL;
    }
    while (p->code == MB_OK && !is_op(p, "]") && n < 3) {
        if (!is_op(p, ":"))
            bounds[n] = mb_tparse_expression(p, 1);
        n++;
        if (!skip_op(p, ":"))
            break;
        slice = 1;
    }
    if (is_op(p, ",") && !slice) { /* a[1, 2] asks for a tuple */
        struct mb_tnode *tuple = mb_tnode_new(p, MB_N_TUPLE);
        mb_tnode_add(p, tuple, bounds[0]);
        while (skip_op(p, ",") && !is_op(p, "]"))
            mb_tnode_add(p, tuple, mb_tparse_expression(p, 1));
        bounds[0] = tuple;
    }
    if (!mb_tparse_expect(p, MB_TT_OPERATOR, "]"))
        return NULL;
    node->b = bounds[0];
    if (slice) {
        node->kind = MB_N_SLICE;
        node->kids = mb_arena_array(p->arena, 3, sizeof *node->kids);
        if (!node->kids) {
            p->code = mb_fail_memory(p->err);
            return NULL;
        }
        memcpy(node->kids, bounds, sizeof bounds);
    }
    return node;
}

static struct mb_tnode *parse_call(struct mb_tparse *p, struct mb_tnode *callee)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_CALL);
    if (node) {
        node->a = callee;
        parse_args(p, node);
    }
    return node;
}

static struct mb_tnode *parse_postfix(struct mb_tparse *p, struct mb_tnode *node)
{
    while (p->code == MB_OK) {
        if (skip_op(p, ".")) {
            struct mb_tnode *object = node;
            if (p->at->kind == MB_TT_INT) {
                node = mb_tnode_new(p, MB_N_ITEM);
                struct mb_tnode *key = mb_tnode_new(p, MB_N_CONST);
                if (!node || !key)
                    return NULL;
                key->value = p->at++->value;
                node->b = key;
            } else {
                node = named(p, MB_N_ATTRIBUTE);
                if (!node)
                    return NULL;
            }
            node->a = object;
        } else if (skip_op(p, "[")) {
            node = parse_subscript(p, node);
        } else if (skip_op(p, "(")) {
            node = parse_call(p, node);
        } else {
            break;
        }
    }
    return node;
}

/* A dotted name, joined. */
static struct mb_tv dotted_name(struct mb_tparse *p)
{
    struct mb_tv name = p->at->value;
    mb_tparse_expect(p, MB_TT_NAME, NULL);
    while (skip_op(p, ".")) {
        struct mb_tv part = p->at->value;
        if (!mb_tparse_expect(p, MB_TT_NAME, NULL))
            break;
        const char *joined = mb_arena_format(p->arena, "%.*s.%.*s", (int)name.n, name.s, (int)part.n, part.s);
        if (joined)
            name = mb_tv_text(joined, strlen(joined));
    }
    return name;
}

static struct mb_tnode *parse_test(struct mb_tparse *p, struct mb_tnode *object)
{
    int negated = mb_tparse_skip(p, MB_TT_NAME, "not");
    struct mb_tnode *node = mb_tnode_new(p, MB_N_TEST);
    if (!node)
        return NULL;
    node->a = object;
    node->value = dotted_name(p);
    enum mb_ttoken_kind next = p->at->kind;
    if (skip_op(p, "(")) {
        parse_args(p, node);
    } else if (next == MB_TT_TEXT || next == MB_TT_INT || next == MB_TT_FLOAT || is_op(p, "[") || is_op(p, "{") ||
               (next == MB_TT_NAME && !is_word(p, "else") && !is_word(p, "or") && !is_word(p, "and"))) {
        if (is_word(p, "is"))
            return mb_tparse_fail(p, MB_EFORMAT, "tests cannot be chained with is");
        mb_tnode_add(p, node, parse_postfix(p, parse_primary(p, 0)));
    }
    if (!negated)
        return node;
    struct mb_tnode *not = mb_tnode_new(p, MB_N_UNARY);
    if (not) {
        not->op = MB_OP_NOT;
        not->a = node;
    }
    return not;
}

struct mb_tnode *mb_tparse_filters(struct mb_tparse *p, struct mb_tnode *node, int first)
{
    while (p->code == MB_OK && (first || skip_op(p, "|"))) {
        struct mb_tnode *filter = mb_tnode_new(p, MB_N_FILTER);
        if (!filter)
            return NULL;
        filter->value = dotted_name(p);
        filter->a = node;
        if (skip_op(p, "("))
            parse_args(p, filter);
        node = filter;
        first = 0;
    }
    return node;
}

static struct mb_tnode *parse_unary(struct mb_tparse *p, int with_filter)
{
    struct mb_tnode *node;
    unsigned depth = p->depth;
    if (!mb_tparse_enter(p))
        return NULL;
    if (is_op(p, "-") || is_op(p, "+")) {
        int op = is_op(p, "-") ? MB_OP_NEG : MB_OP_POS;
        node = mb_tnode_new(p, MB_N_UNARY);
        p->at++;
        if (node) {
            node->op = (uint8_t)op;
            node->a = parse_unary(p, 0);
        }
    } else {
        node = parse_primary(p, 0);
    }
    node = parse_postfix(p, node);
    while (with_filter && p->code == MB_OK) {
        if (is_op(p, "|"))
            node = mb_tparse_filters(p, node, 0);
        else if (mb_tparse_skip(p, MB_TT_NAME, "is"))
            node = parse_test(p, node);
        else if (skip_op(p, "("))
            node = parse_call(p, node);
        else
            break;
    }
    p->depth = depth;
    return node;
}

/* ---- operators ---- */

enum { LEVEL_OR, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARE, LEVEL_ADD, LEVEL_CONCAT, LEVEL_MUL, LEVEL_POW };

/* The binary operator at hand: its level, and how many tokens it has; -1: none. */
static int operator_at(const struct mb_tparse *p, int *op, int *n_tokens)
{
    static const struct {
        const char *text;
        int op, level;
    } table[] = {{"or", MB_OP_OR, LEVEL_OR},       {"and", MB_OP_AND, LEVEL_AND},   {"==", MB_OP_EQ, LEVEL_COMPARE},
                 {"!=", MB_OP_NE, LEVEL_COMPARE},  {"<", MB_OP_LT, LEVEL_COMPARE},  {"<=", MB_OP_LE, LEVEL_COMPARE},
                 {">", MB_OP_GT, LEVEL_COMPARE},   {">=", MB_OP_GE, LEVEL_COMPARE}, {"in", MB_OP_IN, LEVEL_COMPARE},
                 {"+", MB_OP_ADD, LEVEL_ADD},      {"-", MB_OP_SUB, LEVEL_ADD},     {"~", MB_OP_CONCAT, LEVEL_CONCAT},
                 {"*", MB_OP_MUL, LEVEL_MUL},      {"/", MB_OP_DIV, LEVEL_MUL},     {"//", MB_OP_FLOORDIV, LEVEL_MUL},
                 {"%", MB_OP_MOD, LEVEL_MUL},      {"**", MB_OP_POW, LEVEL_POW}};
    if (p->code != MB_OK || (p->at->kind != MB_TT_OPERATOR && p->at->kind != MB_TT_NAME))
        return -1;
    *n_tokens = 1;
    for (size_t i = 0; i < MB_COUNT(table); i++)
        if (mb_tv_is_text(p->at->value, table[i].text)) {
            *op = table[i].op;
            return table[i].level;
        }
    if (mb_tv_is_text(p->at->value, "not") && p->at[1].kind == MB_TT_NAME && mb_tv_is_text(p->at[1].value, "in")) {
        *op = MB_OP_NOT_IN;
        *n_tokens = 2;
        return LEVEL_COMPARE;
    }
    return -1;
}

static struct mb_tnode *binary(struct mb_tparse *p, int op, struct mb_tnode *a, struct mb_tnode *b, unsigned line)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_BINARY);
    if (node) {
        node->op = (uint8_t)op;
        node->a = a;
        node->b = b;
        node->line = line;
    }
    return node;
}

/* Operands joined by operators of `level` and above. */
static struct mb_tnode *parse_level(struct mb_tparse *p, int level)
{
    struct mb_tnode *node;
    unsigned depth = p->depth;
    if (!mb_tparse_enter(p))
        return NULL;
    if (level <= LEVEL_NOT && is_word(p, "not")) {
        node = mb_tnode_new(p, MB_N_UNARY);
        p->at++;
        if (node) {
            node->op = MB_OP_NOT;
            node->a = parse_level(p, LEVEL_NOT);
        }
    } else {
        node = parse_unary(p, 1);
    }
    int op = 0, n_tokens = 0, at;
    while ((at = operator_at(p, &op, &n_tokens)) >= level && p->code == MB_OK) {
        unsigned line = p->at->line;
        p->at += n_tokens;
        struct mb_tnode *right = parse_level(p, at + 1);
        if (at != LEVEL_COMPARE) {
            node = binary(p, op, node, right, line);
        } else {
            struct mb_tnode *chain = node && node->kind == MB_N_COMPARE && node->op ? node : mb_tnode_new(p, MB_N_COMPARE);
            if (!chain)
                return NULL;
            if (chain != node) {
                chain->a = node;
                chain->op = 1; /* still open: a further comparison belongs to the same chain */
            }
            mb_tnode_add(p, chain, binary(p, op, NULL, right, line));
            node = chain;
        }
    }
    if (node && node->kind == MB_N_COMPARE)
        node->op = 0;
    p->depth = depth;
    return node;
}

struct mb_tnode *mb_tparse_expression(struct mb_tparse *p, int with_condition)
{
    struct mb_tnode *node = parse_level(p, LEVEL_OR);
    unsigned depth = p->depth;
    while (with_condition && mb_tparse_skip(p, MB_TT_NAME, "if") && mb_tparse_enter(p)) {
        struct mb_tnode *condition = mb_tnode_new(p, MB_N_CONDITION);
        if (!condition)
            return NULL;
        condition->b = node;
        condition->a = parse_level(p, LEVEL_OR);
        if (mb_tparse_skip(p, MB_TT_NAME, "else"))
            condition->c = mb_tparse_expression(p, 1);
        node = condition;
    }
    p->depth = depth;
    return p->code == MB_OK ? node : NULL;
}

/* Nothing more of a tuple follows. */
static int is_tuple_end(const struct mb_tparse *p, const char *end)
{
    return p->at->kind == MB_TT_CLOSE || p->at->kind == MB_TT_PRINTED || is_op(p, ")") || (end && is_word(p, end));
}

static struct mb_tnode *parse_tuple(struct mb_tparse *p, int with_condition, const char *end, int target, int with_field)
{
    struct mb_tnode *tuple = NULL, *node = NULL;
    unsigned depth = p->depth;
    while (p->code == MB_OK && !(tuple && is_tuple_end(p, end))) {
        node = target ? parse_primary(p, with_field) : mb_tparse_expression(p, with_condition);
        if (!is_op(p, ",") && !tuple)
            break;
        if (!tuple)
            tuple = mb_tnode_new(p, MB_N_TUPLE);
        mb_tnode_add(p, tuple, node);
        if (!skip_op(p, ","))
            break;
    }
    p->depth = depth;
    return p->code != MB_OK ? NULL : tuple ? tuple : node;
}

struct mb_tnode *mb_tparse_tuple(struct mb_tparse *p, int with_condition, const char *end)
{
    return parse_tuple(p, with_condition, end, 0, 0);
}

static int can_assign(const struct mb_tnode *node)
{
    if (node->kind != MB_N_TUPLE)
        return node->kind == MB_N_NAME || node->kind == MB_N_FIELD;
    for (unsigned i = 0; i < node->n; i++)
        if (!can_assign(node->kids[i]))
            return 0;
    return 1;
}

struct mb_tnode *mb_tparse_target(struct mb_tparse *p, int with_field, const char *end)
{
    struct mb_tnode *node = parse_tuple(p, 0, end, 1, with_field);
    if (node && !can_assign(node))
        return mb_tparse_fail(p, MB_EFORMAT, "cannot assign to this");
    return node;
}
