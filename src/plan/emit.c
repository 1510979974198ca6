/* SPDX-License-Identifier: MIT */
/* Commands that make another engine place a model like the plan: the placement in the words of those engines, words for
 * a shell that no file name can break out of, and the list of targets. What each engine understands stands in its
 * writer. */
#include "plan/emit.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    mb_emit_fn *write;
} targets[] = {
    {"llama.cpp", mb_emit_llama_cpp}, {"ik_llama.cpp", mb_emit_ik_llama_cpp},
    {"ollama", mb_emit_ollama},       {"lmstudio", mb_emit_lmstudio},
    {"vllm", mb_emit_vllm},           {"mlx", mb_emit_mlx},
};

const char *const *mb_emit_names(size_t *out_n)
{
    static const char *const names[] = {"llama.cpp", "ik_llama.cpp", "ollama", "lmstudio", "vllm", "mlx"};
    _Static_assert(MB_COUNT(names) == MB_COUNT(targets), "one name per target");
    *out_n = MB_COUNT(names);
    return names;
}

/* ---- the placement ---- */

enum mb_emit_piece mb_emit_piece_of(const struct mb_tensor *tensor)
{
    switch (tensor->op) {
    case MB_OP_FFN_UP:
    case MB_OP_FFN_DOWN:
        return MB_EMIT_FFN;
    case MB_OP_EXPERTS_UP:
    case MB_OP_EXPERTS_DOWN:
        return MB_EMIT_EXPERTS;
    default:
        return MB_EMIT_N_PIECES;
    }
}

uint64_t mb_emit_piece_bytes(const struct mb_emit *emit, uint32_t layer, enum mb_emit_piece piece)
{
    uint64_t bytes = 0;
    const struct mb_layer *of = &emit->model->layers[layer];
    for (uint32_t i = 0; i < of->n_tensors; i++) {
        const struct mb_tensor *tensor = &emit->model->tensors[emit->model->by_layer[of->first_tensor + i]];
        if (mb_emit_piece_of(tensor) == piece)
            bytes += tensor->bytes;
    }
    return bytes;
}

int mb_emit_device(const struct mb_emit *emit, unsigned pool)
{
    for (unsigned i = 0; i < emit->n_devices; i++)
        if (emit->devices[i] == pool)
            return (int)i;
    return -1;
}

static void find_devices(struct mb_emit *emit)
{
    const struct mb_plan *plan = emit->plan;
    const char *backend = strchr(plan->engine, ':');
    int cpu_only = backend && strcmp(backend, ":cpu") == 0;
    emit->host = -1;
    for (unsigned i = 0; i < plan->n_pools; i++) {
        enum mb_pool_kind kind = plan->pool_kinds[i];
        if (kind == MB_POOL_SYSTEM || (kind == MB_POOL_UNIFIED && emit->host < 0))
            emit->host = (int)i;
        if (kind != MB_POOL_SYSTEM && !cpu_only && emit->n_devices < MB_EMIT_DEVICES_MAX)
            emit->devices[emit->n_devices++] = i;
    }
}

int mb_emit_begin(struct mb_emit *emit, const struct mb_plan *plan, const struct mb_model *model, const char *engine,
                  struct mb_err *err)
{
    *emit = (struct mb_emit){.plan = plan, .model = model};
    mb_model_get_info(model, &emit->info);
    emit->n_layers = plan->n_layers < model->hp.n_layers ? plan->n_layers : model->hp.n_layers;
    find_devices(emit);
    emit->first = emit->n_layers;
    int last = -1;
    for (uint32_t i = 0; i < emit->n_layers; i++) {
        /* A layer without attention or state has no core; what it has decides. */
        unsigned pool = plan->core_pool[i] != MB_PLAN_NOWHERE      ? plan->core_pool[i]
                        : plan->experts_pool[i] != MB_PLAN_NOWHERE ? plan->experts_pool[i]
                                                                   : plan->ffn_pool[i];
        int device = mb_emit_device(emit, pool);
        if (device < last)
            return mb_fail(
                err, MB_ENOTSUP,
                "%s: it puts layers on the CPU and then on the cards in order, and this plan has layer %u before "
                "its turn; no engine of the list can do that",
                engine, i);
        if (device >= 0 && emit->first == emit->n_layers)
            emit->first = i;
        if (device >= 0)
            emit->on_device[device]++;
        last = device;
    }
    return MB_OK;
}

void mb_emit_end(struct mb_emit *emit)
{
    mb_arena_free(&emit->arena);
}

int mb_emit_whole_layers(const struct mb_emit *emit)
{
    const struct mb_plan *plan = emit->plan;
    for (uint32_t i = 0; i < emit->n_layers; i++) {
        unsigned core = plan->core_pool[i];
        if (core == MB_PLAN_NOWHERE)
            continue;
        if ((plan->ffn_pool[i] != MB_PLAN_NOWHERE && plan->ffn_pool[i] != core) ||
            (plan->experts_pool[i] != MB_PLAN_NOWHERE && plan->experts_pool[i] != core))
            return 0;
    }
    return emit->first == emit->n_layers || mb_emit_device(emit, plan->output_pool) >= 0;
}

/* ---- words ---- */

const char *mb_emit_text(struct mb_emit *emit, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    char *text = n < 0 ? NULL : mb_arena_alloc(&emit->arena, (size_t)n + 1);
    if (text)
        vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

const char *mb_emit_quote(struct mb_emit *emit, const char *text)
{
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%_+=:,./-";
    size_t n = strlen(text), quotes = 0;
    if (n && strspn(text, safe) == n)
        return text;
    for (size_t i = 0; i < n; i++)
        quotes += text[i] == '\'';
    char *quoted = mb_arena_alloc(&emit->arena, n + 3 * quotes + 3), *to = quoted;
    if (!quoted)
        return NULL;
    *to++ = '\'';
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\'') {
            memcpy(to, "'\\''", 4);
            to += 4;
        } else {
            *to++ = text[i];
        }
    }
    *to++ = '\'';
    *to = 0;
    return quoted;
}

const char *mb_emit_path(struct mb_emit *emit, const char *path)
{
    if (*path == '-' || *path == '~')
        path = mb_emit_text(emit, "./%s", path);
    return path ? mb_emit_quote(emit, path) : NULL;
}

void mb_emit_flag(struct mb_emit *emit, const char *flag, const char *why)
{
    if (flag && why && emit->n_flags < MB_EMIT_FLAGS_MAX)
        emit->flags[emit->n_flags++] = (struct mb_emit_flag){flag, why};
}

void mb_emit_note(struct mb_emit *emit, const char *note)
{
    if (note && emit->n_notes < MB_EMIT_FLAGS_MAX)
        emit->notes[emit->n_notes++] = note;
}

/* Names come from files: a line break in one must not start a command. */
static void put_safe(FILE *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fputc((unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i], out);
}

void mb_emit_comment(FILE *out, const char *indent, const char *text)
{
    if (!text)
        return;
    size_t column = 0, hang = strlen(indent);
    const char *p = text;
    while (*p) {
        size_t word = strcspn(p, " ");
        if (column && column + 1 + word > 80) {
            fputc('\n', out);
            column = 0;
        }
        if (!column) {
            fputc('#', out);
            if (p == text)
                put_safe(out, indent, hang);
            else
                fprintf(out, "%*s", (int)hang, "");
            column = 1 + hang;
        } else {
            fputc(' ', out);
            column++;
        }
        put_safe(out, p, word);
        column += word;
        p += word;
        p += strspn(p, " ");
    }
    fputc('\n', out);
}

void mb_emit_head(const struct mb_emit *emit, FILE *out)
{
    const struct mb_plan *plan = emit->plan;
    char text[1024], size[32];
    snprintf(text, sizeof text, "%.200s%s%.40s on %.200s: %s of weights, context %llu",
             plan->model ? plan->model : "(unnamed)", plan->quant ? ", " : "", plan->quant ? plan->quant : "",
             plan->machine, mb_format_bytes((double)plan->model_bytes, size, sizeof size),
             (unsigned long long)plan->n_ctx);
    mb_emit_comment(out, " ", text);
    snprintf(text, sizeof text, "predicted for %.60s: %.3g tokens/s (%.3g to %.3g), prompt %.3g tokens/s", plan->engine,
             plan->decode.tokens_per_s, plan->decode.low, plan->decode.high, plan->prefill.tokens_per_s);
    mb_emit_comment(out, " ", text);
    for (unsigned i = 0; i < emit->n_notes; i++)
        mb_emit_comment(out, " ", emit->notes[i]);
}

int mb_emit_close(struct mb_emit *emit, FILE *file, char **text, char **out, struct mb_err *err)
{
    int bad = !file || ferror(file);
    if (file && fclose(file) != 0)
        bad = 1;
    if (bad || emit->arena.failed) {
        free(*text);
        *text = NULL;
        return mb_fail_memory(err);
    }
    *out = *text;
    return MB_OK;
}

int mb_emit_command(struct mb_emit *emit, const char *program, char **out, struct mb_err *err)
{
    char *text = NULL;
    size_t n = 0, width = 0, column;
    FILE *file = emit->arena.failed ? NULL : open_memstream(&text, &n);
    if (!file)
        return mb_fail_memory(err);
    mb_emit_head(emit, file);
    for (unsigned i = 0; i < emit->n_flags; i++) {
        size_t length = strlen(emit->flags[i].flag);
        if (length <= 24 && length > width)
            width = length;
    }
    fputs("#\n", file);
    for (unsigned i = 0; i < emit->n_flags; i++) {
        const char *flag = emit->flags[i].flag;
        char left[64];
        /* Long values are seen in the command itself. */
        int shown = strlen(flag) <= 24 ? (int)strlen(flag) : (int)strcspn(flag, " ");
        snprintf(left, sizeof left, "   %-*.*s ", (int)width, shown, flag);
        mb_emit_comment(file, left, emit->flags[i].why);
    }
    fprintf(file, "%s", program);
    const char *line = strrchr(program, '\n');
    column = strlen(line ? line + 1 : program);
    for (unsigned i = 0; i < emit->n_flags; i++) {
        size_t length = strlen(emit->flags[i].flag);
        if (column + 1 + length > 76) {
            fputs(" \\\n   ", file);
            column = 3;
        }
        fprintf(file, " %s", emit->flags[i].flag);
        column += 1 + length;
    }
    fputc('\n', file);
    return mb_emit_close(emit, file, &text, out, err);
}

/* ---- the public function ---- */

int mb_plan_emit(const struct mb_plan *plan, const struct mb_model *model, const char *target, char **out,
                 struct mb_err *err)
{
    for (unsigned i = 0; target && i < MB_COUNT(targets); i++) {
        if (mb_name_compare(target, targets[i].name) != 0)
            continue;
        if (!plan->fits)
            return mb_fail(err, MB_EINVAL, "%s: the plan does not fit, so there is nothing to run; see what it needs",
                           targets[i].name);
        struct mb_emit emit;
        int code = mb_emit_begin(&emit, plan, model, targets[i].name, err);
        if (code == MB_OK)
            code = targets[i].write(&emit, out, err);
        mb_emit_end(&emit);
        return code;
    }
    return mb_fail(err, MB_ENAME,
                   "%.60s: no engine that flags can be written for; there are llama.cpp, ik_llama.cpp, ollama, "
                   "lmstudio, vllm and mlx",
                   target ? target : "(none)");
}
