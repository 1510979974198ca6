/* SPDX-License-Identifier: MIT */
/* Between expressions (template_eval.c) and statements (template_run.c). Internal to template_*.c. */
#ifndef MB_TEMPLATE_EVAL_H
#define MB_TEMPLATE_EVAL_H

#include "engine/template_node.h"

/* Variables of one level: the template, a loop's turn, a macro's call, a block. `if` makes none. */
struct mb_tscope {
    struct mb_tscope *parent;
    struct mb_tdict vars;
};

struct mb_tmacro {
    const struct mb_tnode *node; /* MB_N_MACRO or MB_N_CALL_BLOCK */
    struct mb_tscope *scope;     /* where it was defined: what its body sees */
};

/* A loop under way. The next item is looked for only when someone asks, as Jinja does: the filter may depend on what the
 * body changes in a namespace. */
struct mb_tloop {
    struct mb_tv *items;
    uint32_t n, next; /* next: in items, the first that was not looked at */
    uint32_t index0;
    struct mb_tv before, after, last_seen;
    int has_after, has_last;
    const struct mb_tnode *target, *filter; /* filter may be NULL */
    struct mb_tscope *outer, *turn; /* turn: the variables of the turn under way */
};

struct mb_tscope *mb_tscope_new(struct mb_trun *run, struct mb_tscope *parent);
/* Is there a next item? Then it is in loop->after. */
int mb_tloop_peek(struct mb_trun *run, struct mb_tloop *loop);
struct mb_tv mb_teval(struct mb_trun *run, const struct mb_tnode *node);
void mb_tassign(struct mb_trun *run, const struct mb_tnode *target, struct mb_tv value);
/* Evaluate a call, with one more keyword argument (NULL: none). */
struct mb_tv mb_tcall_node(struct mb_trun *run, const struct mb_tnode *node, const struct mb_tpair *extra);
/* Run statements in the scope at hand; what they print is the result. */
struct mb_tv mb_texec_text(struct mb_trun *run, const struct mb_tnode *body);

#endif
