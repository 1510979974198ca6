/* SPDX-License-Identifier: MIT */
/* Running statements, and the rendering as a whole. */
#include "engine/template_eval.h"

#include <stdlib.h>
#include <string.h>

enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

static void exec(struct mb_trun *run, const struct mb_tnode *node);

struct mb_tv mb_texec_text(struct mb_trun *run, const struct mb_tnode *body)
{
    struct mb_tbuf buf = {0}, *saved = run->out;
    run->out = &buf;
    exec(run, body);
    run->out = saved;
    return mb_tbuf_text(run, &buf);
}

/* A body in a scope of its own. */
static void exec_scoped(struct mb_trun *run, const struct mb_tnode *body)
{
    struct mb_tscope *saved = run->scope;
    run->scope = mb_tscope_new(run, saved);
    if (run->scope)
        exec(run, body);
    run->scope = saved;
}

/* What a body in a scope of its own prints, through a filter if there is one. */
static struct mb_tv scoped_text(struct mb_trun *run, const struct mb_tnode *body, const struct mb_tnode *filter)
{
    struct mb_tscope *saved = run->scope;
    struct mb_tv text = {0};
    run->scope = mb_tscope_new(run, saved);
    if (run->scope)
        text = mb_texec_text(run, body);
    if (filter && run->scope && !mb_trun_failed(run) && !run->flow) {
        struct mb_tv hole = run->hole;
        run->hole = text;
        text = mb_teval(run, filter);
        run->hole = hole;
    }
    run->scope = saved;
    return text;
}

static void exec_if(struct mb_trun *run, const struct mb_tnode *node)
{
    while (node && node->kind == MB_N_IF && !mb_trun_failed(run)) {
        struct mb_tv answer = mb_teval(run, node->a);
        if (mb_trun_failed(run))
            return;
        if (mb_tv_truth(run, answer)) {
            exec(run, node->b);
            return;
        }
        node = node->c;
    }
    if (node)
        exec(run, node);
}

/* One turn: a scope with the target and `loop`. 0: the loop ends here. */
static int exec_turn(struct mb_trun *run, const struct mb_tnode *node, struct mb_tloop *loop, struct mb_tv item)
{
    /* One scope for all turns, emptied before each: a macro of an earlier turn sees the present one, as in Jinja. */
    if (loop->turn)
        loop->turn->vars.n = 0;
    else
        loop->turn = mb_tscope_new(run, loop->outer);
    run->scope = loop->turn;
    if (!run->scope)
        return 0;
    mb_tdict_set(run, &run->scope->vars, mb_tv_text("loop", 4), (struct mb_tv){.kind = MB_T_LOOP, .loop = loop});
    mb_tassign(run, node->a, item);
    exec(run, node->c);
    int more = run->flow != FLOW_BREAK && !mb_trun_failed(run);
    run->flow = FLOW_ON;
    return more;
}

static void exec_for(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tscope *saved = run->scope;
    struct mb_tloop *loop = mb_trun_alloc(run, 1, sizeof *loop); /* a macro may keep it longer than this call */
    struct mb_tv iterable = mb_teval(run, node->b);
    unsigned turns = 0;
    if (mb_trun_failed(run) || !mb_tv_items(run, iterable, &loop->items, &loop->n))
        return;
    loop->target = node->a;
    loop->filter = node->kids[1];
    loop->outer = saved;
    while (mb_tloop_peek(run, loop)) {
        struct mb_tv item = loop->after;
        loop->has_after = 0;
        loop->index0 = turns++;
        if (!exec_turn(run, node, loop, item))
            break;
        loop->before = item;
    }
    run->scope = saved;
    if (!turns && node->kids[0] && !mb_trun_failed(run))
        exec_scoped(run, node->kids[0]);
}

static void exec_with(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tscope *outer = run->scope, *inner = mb_tscope_new(run, outer);
    for (unsigned i = 0; i < node->n && !mb_trun_failed(run); i++) {
        struct mb_tv value = mb_teval(run, node->kids[i]->b); /* values see the scope outside */
        run->scope = inner;
        mb_tassign(run, node->kids[i]->a, value);
        run->scope = outer;
    }
    if (!mb_trun_failed(run)) {
        run->scope = inner;
        exec(run, node->c);
    }
    run->scope = outer;
}

static struct mb_tv new_macro(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tmacro *macro = mb_trun_alloc(run, 1, sizeof *macro);
    if (!macro)
        return (struct mb_tv){0};
    *macro = (struct mb_tmacro){node, run->scope};
    return (struct mb_tv){.kind = MB_T_MACRO, .macro = macro};
}

static void exec_inner(struct mb_trun *run, const struct mb_tnode *node)
{
    struct mb_tv value;
    struct mb_tpair caller;
    switch (node->kind) {
    case MB_N_BLOCK:
        for (unsigned i = 0; i < node->n && !run->flow && !mb_trun_failed(run); i++)
            exec(run, node->kids[i]);
        break;
    case MB_N_DATA: mb_tbuf_add(run, run->out, node->value.s, node->value.n); break;
    case MB_N_OUTPUT:
        value = mb_teval(run, node->a);
        if (!mb_trun_failed(run))
            mb_tv_print(run, run->out, value);
        break;
    case MB_N_IF: exec_if(run, node); break;
    case MB_N_FOR: exec_for(run, node); break;
    case MB_N_SET:
        value = mb_teval(run, node->b);
        mb_tassign(run, node->a, value);
        break;
    case MB_N_SET_BLOCK:
        value = scoped_text(run, node->c, node->b);
        if (!run->flow)
            mb_tassign(run, node->a, value);
        break;
    case MB_N_FILTER_BLOCK:
        value = scoped_text(run, node->c, node->b);
        if (!mb_trun_failed(run) && !run->flow)
            mb_tv_print(run, run->out, value);
        break;
    case MB_N_MACRO:
        value = new_macro(run, node);
        if (!mb_trun_failed(run))
            mb_tdict_set(run, &run->scope->vars, node->value, value);
        break;
    case MB_N_CALL_BLOCK:
        caller = (struct mb_tpair){mb_tv_text("caller", 6), new_macro(run, node)};
        value = mb_tcall_node(run, node->a, &caller);
        if (!mb_trun_failed(run))
            mb_tv_print(run, run->out, value);
        break;
    case MB_N_WITH: exec_with(run, node); break;
    case MB_N_SCOPE: exec_scoped(run, node->c); break;
    case MB_N_BREAK: run->flow = FLOW_BREAK; break;
    case MB_N_CONTINUE: run->flow = FLOW_CONTINUE; break;
    default: mb_trun_fail(run, MB_EINTERNAL, "not a statement"); break;
    }
}

static void exec(struct mb_trun *run, const struct mb_tnode *node)
{
    if (!mb_trun_step(run, 1))
        return;
    run->line = node->line;
    if (mb_trun_enter(run))
        exec_inner(run, node);
    mb_trun_leave(run);
}

int mb_template_render(const struct mb_template *tmpl, const json_t *context, const struct mb_template_opts *opts,
                       char **text, size_t *n, struct mb_err *err)
{
    static const struct mb_template_opts none;
    const struct mb_template_opts *o = opts ? opts : &none;
    struct mb_trun run = {
        .bytes_left = o->memory_bytes ? o->memory_bytes : (size_t)256 << 20,
        .output_max = o->output_bytes ? o->output_bytes : (size_t)32 << 20,
        .steps_left = o->steps_max ? o->steps_max : 50000000,
        .now = o->now,
        .line = 1,
    };
    struct mb_tbuf out = {0};
    if (run.output_max > UINT32_MAX / 2)
        run.output_max = UINT32_MAX / 2; /* texts have 32-bit lengths */
    if (context && !json_is_object(context))
        return mb_fail(err, MB_EINVAL, "chat template: the context is no JSON object");
    struct mb_tv globals = context ? mb_tv_from_json(&run, context) : mb_tv_dict(&run);
    run.scope = mb_tscope_new(&run, NULL);
    run.out = &out;
    if (!mb_trun_failed(&run)) {
        run.globals = globals.dict;
        exec(&run, tmpl->root);
    }
    int code = run.code;
    if (code == MB_OK) {
        char *copy = malloc(out.n + 1);
        if (copy) {
            if (out.n)
                memcpy(copy, out.s, out.n);
            copy[out.n] = 0;
            *text = copy;
            if (n)
                *n = out.n;
        } else {
            code = mb_fail_memory(err);
        }
    } else if (err) {
        *err = run.err;
    }
    mb_arena_free(&run.arena);
    return code;
}
