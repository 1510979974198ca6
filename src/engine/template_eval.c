/* SPDX-License-Identifier: MIT */
/* Evaluating expressions: names through the scopes, calls of macros and built-in things, filters and tests. Macros run
 * statements, so this file and template_run.c lean on each other through template_eval.h. */
#include "engine/template_eval.h"

#include <string.h>

/* ---- names ---- */

static struct mb_tv lookup(struct mb_trun *run, struct mb_tv name)
{
    for (const struct mb_tscope *scope = run->scope; scope; scope = scope->parent) {
        const struct mb_tv *have = mb_tdict_find(run, &scope->vars, name);
        if (have)
            return *have;
    }
    const struct mb_tv *have = run->globals ? mb_tdict_find(run, run->globals, name) : NULL;
    if (have)
        return *have;
    const struct mb_tcallee *global;
    for (unsigned i = 0; (global = mb_tglobal_at(i)) != NULL; i++)
        if (mb_tv_is_text(name, global->name))
            return (struct mb_tv){.kind = MB_T_FUNCTION, .function = global};
    return mb_tv_undefined(MB_U_NAME, name, 0);
}

struct mb_tscope *mb_tscope_new(struct mb_trun *run, struct mb_tscope *parent)
{
    struct mb_tscope *scope = mb_trun_alloc(run, 1, sizeof *scope);
    if (scope)
        scope->parent = parent;
    return scope;
}

static void assign_tuple(struct mb_trun *run, const struct mb_tnode *target, struct mb_tv value)
{
    struct mb_tv *items;
    uint32_t n;
    if (!mb_tv_items(run, value, &items, &n))
        return;
    if (n != target->n) {
        mb_trun_fail(run, MB_EFORMAT, "%s values to unpack (expected %u)", n < target->n ? "not enough" : "too many", target->n);
        return;
    }
    for (unsigned i = 0; i < n && !mb_trun_failed(run); i++)
        mb_tassign(run, target->kids[i], items[i]);
}

void mb_tassign(struct mb_trun *run, const struct mb_tnode *target, struct mb_tv value)
{
    if (mb_trun_failed(run))
        return;
    if (target->kind == MB_N_TUPLE) {
        if (mb_trun_enter(run))
            assign_tuple(run, target, value);
        mb_trun_leave(run);
    } else if (target->kind == MB_N_FIELD) {
        struct mb_tv object = lookup(run, target->value);
        if (object.kind == MB_T_NAMESPACE)
            mb_tdict_set(run, object.dict, target->b->value, value);
        else
            mb_trun_fail(run, MB_EFORMAT, "cannot assign attribute on non-namespace object");
    } else {
        mb_tdict_set(run, &run->scope->vars, target->value, value);
    }
}

/* ---- loop ---- */

/* Does the next item of the source pass the loop's filter? */
static int passes(struct mb_trun *run, struct mb_tloop *loop, struct mb_tv item)
{
    if (!loop->filter)
        return 1;
    struct mb_tscope *saved = run->scope;
    int yes = 0;
    run->scope = mb_tscope_new(run, loop->outer);
    if (run->scope) {
        mb_tassign(run, loop->target, item);
        yes = mb_tv_truth(run, mb_teval(run, loop->filter));
    }
    run->scope = saved;
    return yes && !mb_trun_failed(run);
}

int mb_tloop_peek(struct mb_trun *run, struct mb_tloop *loop)
{
    while (!loop->has_after && loop->next < loop->n && mb_trun_step(run, 1)) {
        struct mb_tv item = loop->items[loop->next++];
        if (passes(run, loop, item)) {
            loop->after = item;
            loop->has_after = 1;
        }
    }
    return loop->has_after && !mb_trun_failed(run);
}

/* Items in all, which needs the filter's answer for the rest. */
static int64_t loop_length(struct mb_trun *run, struct mb_tloop *loop)
{
    if (loop->filter) {
        struct mb_tv rest = mb_tv_seq(run, MB_T_LIST, 0);
        while (loop->next < loop->n && !mb_trun_failed(run)) {
            struct mb_tv item = loop->items[loop->next++];
            if (passes(run, loop, item))
                mb_tseq_add(run, rest.seq, item);
        }
        if (mb_trun_failed(run))
            return 0;
        loop->items = rest.seq->items;
        loop->n = rest.seq->n;
        loop->next = 0;
        loop->filter = NULL;
    }
    return (int64_t)loop->index0 + 1 + loop->has_after + (loop->n - loop->next);
}

static struct mb_tv loop_cycle(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args)
{
    if (!args->n)
        return mb_trun_fail(run, MB_EFORMAT, "no items for cycling given");
    return args->values[v[0].loop->index0 % args->n];
}

static struct mb_tv loop_changed(struct mb_trun *run, struct mb_tv *v, const struct mb_targs *args)
{
    struct mb_tloop *loop = v[0].loop;
    struct mb_tv now = mb_tv_seq(run, MB_T_TUPLE, args->n);
    if (mb_trun_failed(run))
        return now;
    if (args->n)
        memcpy(now.seq->items, args->values, args->n * sizeof *args->values);
    int same = loop->has_last && mb_tv_equal(run, now, loop->last_seen);
    loop->last_seen = now;
    loop->has_last = 1;
    return mb_tv_bool(!same);
}

static struct mb_tv loop_attribute(struct mb_trun *run, struct mb_tv object, struct mb_tv name)
{
    static const struct mb_tcallee cycle = {"cycle", NULL, 1, loop_cycle}, changed = {"changed", NULL, 1, loop_changed};
    struct mb_tloop *loop = object.loop;
    if (mb_tv_is_text(name, "index0"))
        return mb_tv_int(loop->index0);
    if (mb_tv_is_text(name, "index"))
        return mb_tv_int((int64_t)loop->index0 + 1);
    if (mb_tv_is_text(name, "first"))
        return mb_tv_bool(loop->index0 == 0);
    if (mb_tv_is_text(name, "last"))
        return mb_tv_bool(!mb_tloop_peek(run, loop));
    if (mb_tv_is_text(name, "length"))
        return mb_tv_int(loop_length(run, loop));
    if (mb_tv_is_text(name, "revindex"))
        return mb_tv_int(loop_length(run, loop) - loop->index0);
    if (mb_tv_is_text(name, "revindex0"))
        return mb_tv_int(loop_length(run, loop) - loop->index0 - 1);
    if (mb_tv_is_text(name, "depth"))
        return mb_tv_int(1);
    if (mb_tv_is_text(name, "depth0"))
        return mb_tv_int(0);
    if (mb_tv_is_text(name, "previtem"))
        return loop->index0 ? loop->before
                            : mb_tv_undefined(MB_U_TEXT, mb_tv_text("there is no previous item", 25), 0);
    if (mb_tv_is_text(name, "nextitem"))
        return mb_tloop_peek(run, loop) ? loop->after : mb_tv_undefined(MB_U_TEXT, mb_tv_text("there is no next item", 21), 0);
    const struct mb_tcallee *callee = mb_tv_is_text(name, "cycle") ? &cycle : mb_tv_is_text(name, "changed") ? &changed : NULL;
    struct mb_tmethod *method = callee ? mb_trun_alloc(run, 1, sizeof *method) : NULL;
    if (!method)
        return mb_tv_undefined(MB_U_ATTRIBUTE, name, MB_T_LOOP);
    *method = (struct mb_tmethod){object, callee};
    return (struct mb_tv){.kind = MB_T_METHOD, .method = method};
}

static struct mb_tv attribute(struct mb_trun *run, struct mb_tv object, struct mb_tv name)
{
    if (object.kind == MB_T_LOOP)
        return loop_attribute(run, object, name);
    if (object.kind == MB_T_CYCLER && mb_tv_is_text(name, "current"))
        return object.cycler->items[object.cycler->at];
    if (object.kind == MB_T_MACRO && mb_tv_is_text(name, "name"))
        return object.macro->node->value;
    return mb_top_attribute(run, object, name);
}

/* ---- calls ---- */

static void add_named(struct mb_trun *run, struct mb_tdict *named, struct mb_tv name, struct mb_tv value)
{
    if (mb_tdict_find(run, named, name))
        mb_trun_fail(run, MB_EFORMAT, "got multiple values for keyword argument '%.*s'", name.n > 60 ? 60 : (int)name.n, name.s);
    mb_tdict_set(run, named, name, value);
}

/* Evaluate the kids of a call from kid `first` on. extra: a further keyword argument (NULL: none). */
static int eval_args(struct mb_trun *run, const struct mb_tnode *call, const struct mb_tpair *extra, struct mb_targs *out)
{
    *out = (struct mb_targs){0};
    if (!call->n && !extra)
        return 1;
    struct mb_tv list = mb_tv_seq(run, MB_T_LIST, 0), named = mb_tv_dict(run), *items;
    uint32_t n;
    for (unsigned i = 0; i < call->n && !mb_trun_failed(run); i++) {
        const struct mb_tnode *kid = call->kids[i];
        struct mb_tv value = mb_teval(run, kid->kind == MB_N_KEYWORD || kid->kind == MB_N_SPREAD || kid->kind == MB_N_SPREAD_NAMED
                                               ? kid->a
                                               : kid);
        if (mb_trun_failed(run))
            return 0;
        if (kid->kind == MB_N_KEYWORD) {
            add_named(run, named.dict, kid->value, value);
        } else if (kid->kind == MB_N_SPREAD) {
            if (mb_tv_items(run, value, &items, &n))
                for (uint32_t k = 0; k < n && mb_trun_step(run, 1); k++)
                    mb_tseq_add(run, list.seq, items[k]);
        } else if (kid->kind == MB_N_SPREAD_NAMED) {
            if (value.kind != MB_T_DICT)
                mb_trun_fail(run, MB_EFORMAT, "argument after ** must be a mapping, not %s", mb_tv_type(value));
            for (uint32_t k = 0; !mb_trun_failed(run) && k < value.dict->n; k++)
                add_named(run, named.dict, mb_targ_text(run, value.dict->pairs[k].key), value.dict->pairs[k].value);
        } else {
            mb_tseq_add(run, list.seq, value);
        }
    }
    if (extra && !mb_trun_failed(run))
        add_named(run, named.dict, extra->key, extra->value);
    if (mb_trun_failed(run))
        return 0;
    *out = (struct mb_targs){list.seq->items, list.seq->n, named.dict->pairs, named.dict->n};
    return 1;
}

/* Take a key and its value out of a dict; 0: it is not there. */
static int take(struct mb_trun *run, struct mb_tdict *dict, struct mb_tv key, struct mb_tv *out)
{
    for (uint32_t i = 0; i < dict->n; i++)
        if (mb_tv_equal(run, dict->pairs[i].key, key)) {
            *out = dict->pairs[i].value;
            memmove(dict->pairs + i, dict->pairs + i + 1, (dict->n - i - 1) * sizeof *dict->pairs);
            dict->n--;
            return 1;
        }
    return 0;
}

/* The parameters of a macro into the scope at hand, which is its own. */
static void bind_params(struct mb_trun *run, const struct mb_tmacro *macro, const struct mb_targs *args)
{
    const struct mb_tnode *node = macro->node;
    struct mb_tv name = node->kind == MB_N_MACRO ? node->value : mb_tv_text("caller", 6);
    struct mb_tv rest = mb_tv_dict(run), caller = mb_tv_undefined(MB_U_TEXT, mb_tv_text("No caller defined", 17), 0);
    unsigned uses = node->op;
    for (uint32_t k = 0; k < args->n_named && !mb_trun_failed(run); k++)
        mb_tdict_set(run, rest.dict, args->named[k].key, args->named[k].value);
    for (unsigned i = 0; i < node->n && !mb_trun_failed(run); i++) {
        const struct mb_tnode *param = node->kids[i];
        struct mb_tv value = mb_tv_undefined(MB_U_NAME, param->value, 0);
        if (i < args->n)
            value = args->values[i];
        else if (!take(run, rest.dict, param->value, &value) && param->a)
            value = mb_teval(run, param->a);
        if (!mb_trun_failed(run))
            mb_tdict_set(run, &run->scope->vars, param->value, value);
    }
    if (mb_trun_failed(run))
        return;
    if (uses & MB_USES_CALLER) {
        take(run, rest.dict, mb_tv_text("caller", 6), &caller);
        mb_tdict_set(run, &run->scope->vars, mb_tv_text("caller", 6), caller);
    }
    if (uses & MB_USES_KWARGS)
        mb_tdict_set(run, &run->scope->vars, mb_tv_text("kwargs", 6), rest);
    else if (rest.dict->n)
        mb_trun_fail(run, MB_EFORMAT, "macro '%.*s' takes no keyword argument '%.*s'", (int)name.n, name.s,
                     (int)rest.dict->pairs[0].key.n, rest.dict->pairs[0].key.s);
    uint32_t over = args->n > node->n ? args->n - node->n : 0;
    if (uses & MB_USES_VARARGS) {
        struct mb_tv varargs = mb_tv_seq(run, MB_T_TUPLE, over);
        if (over && !mb_trun_failed(run))
            memcpy(varargs.seq->items, args->values + node->n, over * sizeof *args->values);
        mb_tdict_set(run, &run->scope->vars, mb_tv_text("varargs", 7), varargs);
    } else if (over) {
        mb_trun_fail(run, MB_EFORMAT, "macro '%.*s' takes not more than %u argument(s)", (int)name.n, name.s, node->n);
    }
}

static struct mb_tv call_macro(struct mb_trun *run, const struct mb_tmacro *macro, const struct mb_targs *args)
{
    struct mb_tscope *saved = run->scope;
    struct mb_tv text = mb_tv_text("", 0);
    run->scope = mb_tscope_new(run, macro->scope);
    if (run->scope) {
        bind_params(run, macro, args);
        text = mb_texec_text(run, macro->node->c);
    }
    run->scope = saved;
    return text;
}

static struct mb_tv call_value(struct mb_trun *run, struct mb_tv callee, const struct mb_targs *args)
{
    switch (callee.kind) {
    case MB_T_MACRO: return call_macro(run, callee.macro, args);
    case MB_T_METHOD: return mb_tcall(run, callee.method->callee, callee.method->self, args);
    case MB_T_FUNCTION: return mb_tcall(run, callee.function, mb_tv_none(), args);
    case MB_T_JOINER: return callee.cycler->at++ ? callee.cycler->items[0] : mb_tv_text("", 0);
    case MB_T_UNDEFINED: return mb_tv_undefined_fail(run, callee);
    case MB_T_LOOP: return mb_trun_fail(run, MB_EFORMAT, "recursive loops are not supported");
    default: return mb_trun_fail(run, MB_EFORMAT, "'%s' object is not callable", mb_tv_type(callee));
    }
}

struct mb_tv mb_tcall_node(struct mb_trun *run, const struct mb_tnode *node, const struct mb_tpair *extra)
{
    struct mb_targs args;
    struct mb_tv callee = mb_teval(run, node->a);
    if (mb_trun_failed(run) || !eval_args(run, node, extra, &args))
        return callee;
    run->line = node->line;
    return call_value(run, callee, &args);
}

static struct mb_tv eval_filter(struct mb_trun *run, const struct mb_tnode *node, int is_test)
{
    struct mb_targs args;
    struct mb_tv input = node->a ? mb_teval(run, node->a) : run->hole;
    const struct mb_tcallee *callee = is_test ? mb_ttest_find(node->value) : mb_tfilter_find(node->value);
    if (mb_trun_failed(run))
        return input;
    run->line = node->line;
    if (!callee)
        return mb_trun_fail(run, MB_EFORMAT, "No %s named '%.*s'; it is not supported", is_test ? "test" : "filter",
                            node->value.n > 60 ? 60 : (int)node->value.n, node->value.s);
    if (!eval_args(run, node, NULL, &args))
        return input;
    return mb_tcall(run, callee, input, &args);
}

/* ---- the rest ---- */

static struct mb_tv eval_items(struct mb_trun *run, const struct mb_tnode *node, int kind)
{
    struct mb_tv out = mb_tv_seq(run, kind, node->n);
    for (unsigned i = 0; i < node->n && !mb_trun_failed(run); i++)
        out.seq->items[i] = mb_teval(run, node->kids[i]);
    return out;
}

static struct mb_tv eval_dict(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv out = mb_tv_dict(run);
    for (unsigned i = 0; i + 1 < node->n && !mb_trun_failed(run); i += 2) {
        struct mb_tv key = mb_teval(run, node->kids[i]), value = mb_teval(run, node->kids[i + 1]);
        if (!mb_trun_failed(run))
            mb_tdict_set(run, out.dict, key, value);
    }
    return out;
}

static struct mb_tv eval_binary(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv a = mb_teval(run, node->a);
    if (mb_trun_failed(run))
        return a;
    if (node->op == MB_OP_AND)
        return mb_tv_truth(run, a) ? mb_teval(run, node->b) : a;
    if (node->op == MB_OP_OR)
        return mb_tv_truth(run, a) ? a : mb_teval(run, node->b);
    struct mb_tv b = mb_teval(run, node->b);
    run->line = node->line;
    return mb_top_binary(run, node->op, a, b);
}

/* a < b < c: each operand once, and no further than the first that is false. */
static struct mb_tv eval_compare(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv a = mb_teval(run, node->a);
    int yes = 1;
    for (unsigned i = 0; i < node->n && yes && !mb_trun_failed(run); i++) {
        struct mb_tv b = mb_teval(run, node->kids[i]->b);
        run->line = node->line;
        yes = mb_top_compare(run, node->kids[i]->op, a, b);
        a = b;
    }
    return mb_tv_bool(yes);
}

static struct mb_tv eval_unary(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv a = mb_teval(run, node->a);
    double number;
    if (mb_trun_failed(run))
        return a;
    if (node->op == MB_OP_NOT)
        return mb_tv_bool(!mb_tv_truth(run, a));
    if (node->op == MB_OP_NEG)
        return mb_top_negate(run, a);
    if (a.kind == MB_T_UNDEFINED)
        return mb_tv_undefined_fail(run, a);
    if (!mb_tv_number(a, &number))
        return mb_trun_fail(run, MB_EFORMAT, "bad operand type for unary +: '%s'", mb_tv_type(a));
    return a.kind == MB_T_FLOAT ? a : mb_tv_int(a.i);
}

static struct mb_tv eval_item(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv object = mb_teval(run, node->a);
    struct mb_tv key = mb_trun_failed(run) ? object : mb_teval(run, node->b);
    run->line = node->line;
    if (object.kind == MB_T_LOOP && key.kind == MB_T_TEXT)
        return loop_attribute(run, object, key);
    return mb_top_item(run, object, key);
}

static struct mb_tv eval_slice(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv object = mb_teval(run, node->a), bounds[3];
    for (int i = 0; i < 3; i++)
        bounds[i] = node->kids[i] && !mb_trun_failed(run) ? mb_teval(run, node->kids[i]) : mb_tv_none();
    run->line = node->line;
    return mb_top_slice(run, object, bounds);
}

static struct mb_tv eval_condition(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv answer = mb_teval(run, node->a);
    if (mb_trun_failed(run) || mb_tv_truth(run, answer))
        return mb_teval(run, node->b);
    if (node->c)
        return mb_teval(run, node->c);
    return mb_tv_undefined(MB_U_TEXT, mb_tv_text("the inline if-expression was false and has no else", 50), 0);
}

static struct mb_tv eval_attribute(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv object = mb_teval(run, node->a);
    run->line = node->line;
    return mb_trun_failed(run) ? object : attribute(run, object, node->value);
}

static struct mb_tv eval_inner(struct mb_trun *run, const struct mb_tnode *node)
{
    switch (node->kind) {
    case MB_N_LIST: return eval_items(run, node, MB_T_LIST);
    case MB_N_TUPLE: return eval_items(run, node, MB_T_TUPLE);
    case MB_N_DICT: return eval_dict(run, node);
    case MB_N_UNARY: return eval_unary(run, node);
    case MB_N_BINARY: return eval_binary(run, node);
    case MB_N_COMPARE: return eval_compare(run, node);
    case MB_N_CONDITION: return eval_condition(run, node);
    case MB_N_ATTRIBUTE: return eval_attribute(run, node);
    case MB_N_ITEM: return eval_item(run, node);
    case MB_N_SLICE: return eval_slice(run, node);
    case MB_N_CALL: return mb_tcall_node(run, node, NULL);
    case MB_N_FILTER: return eval_filter(run, node, 0);
    case MB_N_TEST: return eval_filter(run, node, 1);
    default: return mb_trun_fail(run, MB_EINTERNAL, "not an expression");
    }
}

struct mb_tv mb_teval(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv out = {0};
    if (!mb_trun_step(run, 1))
        return out;
    if (node->kind == MB_N_CONST)
        return node->value;
    run->line = node->line;
    if (node->kind == MB_N_NAME)
        return lookup(run, node->value);
    if (mb_trun_enter(run))
        out = eval_inner(run, node);
    mb_trun_leave(run);
    return mb_trun_failed(run) ? (struct mb_tv){0} : out;
}
