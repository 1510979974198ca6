/* SPDX-License-Identifier: MIT */
/* Tokens to statements, and reading and freeing a template. Tags that pull in other templates (include, import, extends,
 * block) are refused: a model's template stands alone. */
#include "engine/template_node.h"

#include <stdlib.h>
#include <string.h>

enum { SOURCE_MAX = 4 * 1024 * 1024 };

static struct mb_tnode *parse_block(struct mb_tparse *p, const char *const *ends);

static int expect_close(struct mb_tparse *p)
{
    return mb_tparse_expect(p, MB_TT_CLOSE, NULL);
}

/* A body up to one of the end words, which is left as the current token. */
static struct mb_tnode *parse_body(struct mb_tparse *p, const char *const *ends)
{
    if (!expect_close(p))
        return NULL;
    return parse_block(p, ends);
}

/* A body, its only end word and the end of that tag. */
static struct mb_tnode *parse_whole(struct mb_tparse *p, const char *end)
{
    const char *const ends[] = {end, NULL};
    struct mb_tnode *body = parse_body(p, ends);
    mb_tparse_skip(p, MB_TT_NAME, end);
    expect_close(p);
    return body;
}

static struct mb_tnode *parse_if(struct mb_tparse *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    struct mb_tnode *first = mb_tnode_new(p, MB_N_IF), *node = first;
    while (node && p->code == MB_OK) {
        node->a = mb_tparse_tuple(p, 0, NULL);
        node->b = parse_body(p, ends);
        if (!mb_tparse_skip(p, MB_TT_NAME, "elif"))
            break;
        node->c = mb_tnode_new(p, MB_N_IF);
        node = node->c;
    }
    if (node && mb_tparse_skip(p, MB_TT_NAME, "else"))
        node->c = parse_body(p, last);
    mb_tparse_expect(p, MB_TT_NAME, "endif");
    expect_close(p);
    return first;
}

static struct mb_tnode *parse_for(struct mb_tparse *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    struct mb_tnode *node = mb_tnode_new(p, MB_N_FOR);
    struct mb_tnode **kids = mb_arena_array(p->arena, 2, sizeof *kids);
    if (!node || !kids)
        return mb_tparse_fail(p, MB_ENOMEM, "memory: an allocation failed; close other programs and try again");
    node->kids = kids;
    node->a = mb_tparse_target(p, 0, "in");
    mb_tparse_expect(p, MB_TT_NAME, "in");
    node->b = mb_tparse_tuple(p, 0, "recursive");
    if (mb_tparse_skip(p, MB_TT_NAME, "if"))
        kids[1] = mb_tparse_expression(p, 1);
    if (mb_tparse_is(p, MB_TT_NAME, "recursive"))
        return mb_tparse_fail(p, MB_EFORMAT, "recursive loops are not supported");
    p->loops++;
    node->c = parse_body(p, ends);
    p->loops--;
    if (mb_tparse_skip(p, MB_TT_NAME, "else"))
        kids[0] = parse_body(p, last);
    mb_tparse_expect(p, MB_TT_NAME, "endfor");
    expect_close(p);
    return node;
}

static struct mb_tnode *parse_set(struct mb_tparse *p)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_SET);
    if (!node)
        return NULL;
    node->a = mb_tparse_target(p, 1, NULL);
    if (mb_tparse_skip(p, MB_TT_OPERATOR, "=")) {
        node->b = mb_tparse_tuple(p, 1, NULL);
        expect_close(p);
        return node;
    }
    node->kind = MB_N_SET_BLOCK;
    node->b = mb_tparse_is(p, MB_TT_OPERATOR, "|") ? mb_tparse_filters(p, NULL, 0) : NULL;
    node->c = parse_whole(p, "endset");
    return node;
}

/* (name, name=default, ...) into the kids of node. */
static void parse_params(struct mb_tparse *p, struct mb_tnode *node)
{
    int defaults = 0, n = 0;
    mb_tparse_expect(p, MB_TT_OPERATOR, "(");
    while (p->code == MB_OK && !mb_tparse_is(p, MB_TT_OPERATOR, ")")) {
        if (n++)
            mb_tparse_expect(p, MB_TT_OPERATOR, ",");
        struct mb_tnode *param = mb_tnode_new(p, MB_N_KEYWORD);
        if (!param)
            return;
        param->value = p->at->value;
        if (!mb_tparse_expect(p, MB_TT_NAME, NULL))
            return;
        if (mb_tparse_skip(p, MB_TT_OPERATOR, "=")) {
            param->a = mb_tparse_expression(p, 1);
            defaults = 1;
        } else if (defaults) {
            mb_tparse_fail(p, MB_EFORMAT, "a parameter without a default follows one with a default");
        }
        mb_tnode_add(p, node, param);
    }
    mb_tparse_expect(p, MB_TT_OPERATOR, ")");
}

/* The body of a macro or of caller: loops around it can't be left from within. */
static void parse_callable(struct mb_tparse *p, struct mb_tnode *node, const char *end)
{
    unsigned loops = p->loops, uses = p->uses;
    p->loops = 0;
    p->uses = 0;
    node->c = parse_whole(p, end);
    node->op = (uint8_t)p->uses;
    p->uses |= uses;
    p->loops = loops;
}

static struct mb_tnode *parse_macro(struct mb_tparse *p)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_MACRO);
    if (!node)
        return NULL;
    node->value = p->at->value;
    if (!mb_tparse_expect(p, MB_TT_NAME, NULL))
        return NULL;
    parse_params(p, node);
    parse_callable(p, node, "endmacro");
    return node;
}

static struct mb_tnode *parse_call_block(struct mb_tparse *p)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_CALL_BLOCK);
    if (!node)
        return NULL;
    if (mb_tparse_is(p, MB_TT_OPERATOR, "("))
        parse_params(p, node);
    node->a = mb_tparse_expression(p, 1);
    if (node->a && node->a->kind != MB_N_CALL)
        return mb_tparse_fail(p, MB_EFORMAT, "call needs a call");
    parse_callable(p, node, "endcall");
    return node;
}

static struct mb_tnode *parse_with(struct mb_tparse *p)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_WITH);
    while (p->code == MB_OK && !mb_tparse_is(p, MB_TT_CLOSE, NULL)) {
        if (node->n)
            mb_tparse_expect(p, MB_TT_OPERATOR, ",");
        struct mb_tnode *set = mb_tnode_new(p, MB_N_SET);
        if (!set)
            return NULL;
        set->a = mb_tparse_target(p, 0, NULL);
        mb_tparse_expect(p, MB_TT_OPERATOR, "=");
        set->b = mb_tparse_expression(p, 1);
        mb_tnode_add(p, node, set);
    }
    if (node)
        node->c = parse_whole(p, "endwith");
    return node;
}

static struct mb_tnode *parse_generation(struct mb_tparse *p)
{
    /* Marks what the model wrote, for training; the text is the same without it. */
    struct mb_tnode *node = mb_tnode_new(p, MB_N_SCOPE);
    if (node)
        parse_callable(p, node, "endgeneration");
    return node;
}

static struct mb_tnode *parse_filter_block(struct mb_tparse *p)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_FILTER_BLOCK);
    if (!node)
        return NULL;
    node->b = mb_tparse_filters(p, NULL, 1);
    node->c = parse_whole(p, "endfilter");
    return node;
}

static struct mb_tnode *parse_jump(struct mb_tparse *p, int kind)
{
    struct mb_tnode *node = mb_tnode_new(p, kind);
    if (!p->loops)
        return mb_tparse_fail(p, MB_EFORMAT, "break or continue outside a loop");
    expect_close(p);
    return node;
}

/* {% print a %} is {{ a }}. */
static struct mb_tnode *parse_print(struct mb_tparse *p)
{
    struct mb_tnode *node = mb_tnode_new(p, MB_N_OUTPUT);
    if (node) {
        node->a = mb_tparse_tuple(p, 1, NULL);
        expect_close(p);
    }
    return node;
}

static struct mb_tnode *parse_statement(struct mb_tparse *p)
{
    struct mb_tv word = p->at->value;
    if (p->at->kind != MB_TT_NAME)
        return mb_tparse_fail(p, MB_EFORMAT, "tag name expected");
    p->at++;
    if (mb_tv_is_text(word, "if"))
        return parse_if(p);
    if (mb_tv_is_text(word, "for"))
        return parse_for(p);
    if (mb_tv_is_text(word, "set"))
        return parse_set(p);
    if (mb_tv_is_text(word, "macro"))
        return parse_macro(p);
    if (mb_tv_is_text(word, "call"))
        return parse_call_block(p);
    if (mb_tv_is_text(word, "filter"))
        return parse_filter_block(p);
    if (mb_tv_is_text(word, "with"))
        return parse_with(p);
    if (mb_tv_is_text(word, "generation"))
        return parse_generation(p);
    if (mb_tv_is_text(word, "print"))
        return parse_print(p);
    if (mb_tv_is_text(word, "break"))
        return parse_jump(p, MB_N_BREAK);
    if (mb_tv_is_text(word, "continue"))
        return parse_jump(p, MB_N_CONTINUE);
    return mb_tparse_fail(p, MB_EFORMAT, "unknown or unsupported tag '%.*s'", word.n > 60 ? 60 : (int)word.n, word.s);
}

/* Statements up to a tag that starts with one of the words (NULL: to the end of the template); the word is left. */
static struct mb_tnode *parse_block(struct mb_tparse *p, const char *const *ends)
{
    struct mb_tnode *block = mb_tnode_new(p, MB_N_BLOCK);
    if (!mb_tparse_enter(p))
        return NULL;
    while (p->code == MB_OK && p->at->kind != MB_TT_END) {
        struct mb_tnode *node = NULL;
        if (p->at->kind == MB_TT_DATA) {
            node = mb_tnode_new(p, MB_N_DATA);
            if (node)
                node->value = p->at++->value;
        } else if (mb_tparse_skip(p, MB_TT_PRINT, NULL)) {
            node = mb_tnode_new(p, MB_N_OUTPUT);
            if (node)
                node->a = mb_tparse_tuple(p, 1, NULL);
            mb_tparse_expect(p, MB_TT_PRINTED, NULL);
        } else {
            p->at++; /* the opening of a tag */
            for (unsigned i = 0; ends && ends[i]; i++)
                if (mb_tparse_is(p, MB_TT_NAME, ends[i])) {
                    p->depth--;
                    return block;
                }
            node = parse_statement(p);
        }
        mb_tnode_add(p, block, node);
    }
    if (ends)
        mb_tparse_fail(p, MB_EFORMAT, "the template ends where '%s' was expected", ends[0]);
    p->depth--;
    return block;
}

/* A copy with every line break as "\n", without one at the very end. */
static char *copy_source(struct mb_arena *arena, const char *text, size_t *n)
{
    char *copy = mb_arena_alloc(arena, *n + 1);
    size_t to = 0;
    for (size_t i = 0; copy && i < *n; i++) {
        if (text[i] == '\r' && i + 1 < *n && text[i + 1] == '\n')
            continue;
        copy[to++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (to && copy[to - 1] == '\n')
        to--;
    *n = to;
    return copy;
}

int mb_template_mentions(const struct mb_template *tmpl, const char *name)
{
    for (unsigned i = 0; i < tmpl->n_tokens; i++)
        if (tmpl->tokens[i].kind == MB_TT_NAME && mb_tv_is_text(tmpl->tokens[i].value, name))
            return 1;
    return 0;
}

void mb_template_free(struct mb_template *tmpl)
{
    if (tmpl) {
        mb_arena_free(&tmpl->arena);
        free(tmpl);
    }
}

int mb_template_parse(const char *text, size_t n, struct mb_template **out, struct mb_err *err)
{
    if (n > SOURCE_MAX)
        return mb_fail(err, MB_ERANGE, "chat template: %zu bytes, at most %d are taken", n, SOURCE_MAX);
    if (!mb_utf8_valid(text, n))
        return mb_fail(err, MB_EFORMAT, "chat template: is not valid UTF-8; the file is damaged");
    struct mb_template *tmpl = calloc(1, sizeof *tmpl);
    if (!tmpl)
        return mb_fail_memory(err);
    char *source = copy_source(&tmpl->arena, text, &n);
    struct mb_tlex lex = {.arena = &tmpl->arena};
    int code = source ? mb_tlex_run(&lex, source, n, err) : mb_fail_memory(err);
    if (code == MB_OK) {
        struct mb_tparse p = {.arena = &tmpl->arena, .at = lex.tokens, .err = err};
        tmpl->tokens = lex.tokens;
        tmpl->n_tokens = lex.n;
        tmpl->root = parse_block(&p, NULL);
        code = p.code;
    }
    if (code == MB_OK) {
        *out = tmpl;
        return MB_OK;
    }
    mb_template_free(tmpl);
    return code;
}
