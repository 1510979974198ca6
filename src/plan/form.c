/* SPDX-License-Identifier: MIT */
/* Which parameters make up which price, with the priors that hold where nothing was measured. Everything that the model assumes
 * about chips, engines and builds is in this file. */
#include "plan/form.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *mb_rate_text(enum mb_rate rate)
{
    static const char *const texts[MB_N_RATES] = {
#define RATE_TEXT(name, key, text) text,
        MB_RATES(RATE_TEXT)
#undef RATE_TEXT
    };
    return (unsigned)rate < MB_N_RATES ? texts[rate] : "none";
}

static const char *rate_key(enum mb_rate rate)
{
    static const char *const keys[MB_N_RATES] = {
#define RATE_KEY(name, key, text) key,
        MB_RATES(RATE_KEY)
#undef RATE_KEY
    };
    return keys[rate];
}

double mb_form_join(double reading_s, double unpacking_s)
{
    double longer = reading_s > unpacking_s ? reading_s : unpacking_s;
    double shorter = reading_s > unpacking_s ? unpacking_s : reading_s;
    double ratio = longer > 0 ? shorter / longer : 0;
    return longer * cbrt(1 + ratio * ratio * ratio);
}

/* ---- amounts ---- */

void mb_shape_amounts(const struct mb_shape *shape, double depth, double amount[MB_N_RATES])
{
    memset(amount, 0, MB_N_RATES * sizeof(*amount));
    if (shape->kind == MB_UNIT_EMBEDDING || shape->kind == MB_UNIT_LAYER_EMBEDDING || shape->kind == MB_UNIT_UNREAD)
        return;
    for (unsigned class = 0; class < MB_N_WEIGHT_CLASSES; class ++) {
        amount[MB_RATE_BYTE_FLOAT + class] = shape->bytes[class];
        if (class != MB_WEIGHTS_FLOAT)
            amount[MB_RATE_UNPACK_FLOAT + class] = shape->weights[class];
    }
    if (shape->n_cells) {
        amount[MB_RATE_KV_BYTE] = mb_shape_kv_bytes(shape, depth);
        amount[shape->mixer == MB_MIX_MLA ? MB_RATE_KV_LATENT : MB_RATE_KV_FLOP] = mb_shape_kv_flops(shape, depth);
    }
    amount[MB_RATE_STATE_BYTE] = shape->state_bytes;
    amount[MB_RATE_OP] = shape->n_ops;
    if (shape->kind == MB_UNIT_FFN)
        amount[MB_RATE_FFN] = 1;
    if (shape->kind == MB_UNIT_EXPERTS)
        amount[MB_RATE_MOE] = 1;
    if (shape->kind != MB_UNIT_CORE)
        return;
    amount[MB_RATE_INDEX] = shape->n_cells > 1;
    switch (shape->mixer) {
    case MB_MIX_ATTENTION: amount[MB_RATE_ATTENTION] = 1; break;
    case MB_MIX_MLA: amount[MB_RATE_MLA] = 1; break;
    case MB_MIX_GDN:
    case MB_MIX_KDA: amount[MB_RATE_DELTA] = 1; break;
    case MB_MIX_MAMBA2:
    case MB_MIX_OTHER_STATE: amount[MB_RATE_SSM] = 1; break;
    case MB_MIX_CONV: amount[MB_RATE_CONV] = 1; break;
    default: break;
    }
}

/* ---- chips ---- */

static int is_among(const char *word, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(word, list[i]) == 0)
            return 1;
    }
    return 0;
}

unsigned mb_chip_words(const char *name, char words[][24], unsigned max)
{
    unsigned n = 0, length = 0, depth = 0;
    for (const char *text = name;; text++) {
        unsigned char c = (unsigned char)*text;
        depth += c == '(';
        if (c && !depth && (isalnum(c) || c == '+')) {
            if (length < 23) {
                words[n][length++] = (char)tolower(c);
                words[n][length] = 0;
            }
        } else if (length) {
            n++;
            length = 0;
        }
        if (c == ')' && depth)
            depth--;
        if (!c || n == max)
            return n;
    }
}

char *mb_chip_key(const char *name, char *buf, size_t n)
{
    static const char *const dropped[] = {"nvidia", "geforce",  "amd",        "apple",   "intel",       "radeon", "gpu",
                                          "gb",     "graphics", "generation", "edition", "workstation", "server", "blackwell"};
    static const struct {
        const char *key, *to;
    } same[] = {{"ryzen ai max+ 395", "strix halo"}, {"8060s", "strix halo"},    {"ryzen ai max+ pro 395", "strix halo"},
                {"ai pro r9700", "r9700"},           {"gb10 superchip", "gb10"}, {"dgx spark", "gb10"}};
    char words[12][24];
    unsigned n_words = mb_chip_words(name, words, 12);
    size_t length = 0;
    if (!n)
        return buf;
    *buf = 0;
    for (unsigned i = 0; i < n_words; i++) {
        char *word = words[i];
        size_t digits = strspn(word, "0123456789");
        if (is_among(word, dropped, MB_COUNT(dropped)) || (digits && strcmp(word + digits, "gb") == 0))
            continue;
        if (!word[digits] && i + 1 < n_words && strcmp(words[i + 1], "gb") == 0)
            continue; /* "80 GB" */
        if (strncmp(word, "sxm", 3) == 0)
            word[3] = 0; /* "SXM4" */
        int written = snprintf(buf + length, n - length, "%s%s", length ? " " : "", word);
        if (written < 0 || (size_t)written >= n - length)
            break;
        length += (size_t)written;
    }
    for (size_t i = 0; i < MB_COUNT(same); i++) {
        if (strcmp(buf, same[i].key) == 0)
            snprintf(buf, n, "%s", same[i].to);
    }
    return buf;
}

/* Generations whose members behave alike. The ratio of FP32 operations to bytes is that of the members in data/chips; it
 * stands in where a chip's own peak is not known. */
static const struct family {
    const char *start, *name;
    double flops_per_byte;
} families[] = {{"rtx pro 6000", "blackwell", 65}, {"rtx 50", "blackwell", 55}, {"gb10", "blackwell", 110},
                {"rtx 40", "ada", 75},             {"l40", "ada", 100},         {"l4", "ada", 100},
                {"rtx 6000 ada", "ada", 95},       {"rtx 5000 ada", "ada", 110}, {"rtx 4000 ada", "ada", 75},
                {"rtx 30", "ampere", 40},          {"rtx a", "ampere", 50},     {"a40", "ampere", 54},
                {"a10", "a100", 10},               {"a30", "a100", 11},         {"h100", "hopper", 20},
                {"h200", "hopper", 14},            {"rtx 20", "turing", 22},    {"gtx 16", "turing", 22},
                {"gtx 10", "pascal", 25},          {"m1", "m1-m2", 30},         {"m2", "m1-m2", 34},
                {"m3", "m3-m4", 36},               {"m4", "m3-m4", 34},         {"m5", "m5", 32},
                {"m6", "m5", 32},                  {"strix halo", "rdna3", 116}, {"rx 7", "rdna3", 64},
                {"rx 9", "rdna4", 76},             {"r9700", "rdna4", 75},      {"gfx10", "rdna2", 40},
                {"rx 6", "rdna2", 40},             {"arc", "xe", 35}};

void mb_form_processor(struct mb_form_context *context, const struct mb_processor *processor)
{
    double f32 = 0, f16 = 0, ratio = 0;
    mb_chip_key(processor->name ? processor->name : "", context->chip, sizeof context->chip);
    context->family[0] = 0;
    if (context->backend == MB_BACKEND_CPU) {
        /* CPUs: how fast they unpack goes with their memory. 10 operations per byte is an EPYC or a desktop Ryzen. */
        context->f32_flops_per_s = context->prompt_flops_per_s = 10 * context->bytes_per_s;
        return;
    }
    for (size_t i = 0; i < MB_COUNT(families); i++) {
        size_t n = strlen(families[i].start);
        char next = context->chip[n < strlen(context->chip) ? n : strlen(context->chip)];
        /* "m1" is not the start of "m10"; "rtx 40" is of "rtx 4090". */
        if (strncmp(context->chip, families[i].start, n) || (families[i].start[0] == 'm' && isdigit((unsigned char)next)))
            continue;
        snprintf(context->family, sizeof context->family, "%s", families[i].name);
        ratio = families[i].flops_per_byte;
        break;
    }
    for (unsigned i = 0; i < processor->n_peaks; i++) {
        const struct mb_peak *peak = &processor->peaks[i];
        if (!mb_figure_known(&peak->flops_per_s))
            continue;
        if (strcmp(peak->type, "f32") == 0)
            f32 = peak->flops_per_s.value;
        if (strcmp(peak->type, "f16") == 0)
            f16 = peak->flops_per_s.value;
    }
    context->f32_flops_per_s = f32 > 0 ? f32 : (ratio > 0 ? ratio : 50) * context->bytes_per_s;
    /* Matrix units, where the peak of one is known; consumer NVIDIA cards have 2 times their FP32, Apple none before M5. */
    context->prompt_flops_per_s = f16 > 0 ? f16 : context->f32_flops_per_s * (context->backend == MB_BACKEND_CUDA ? 2 : 1);
}

/* ---- prices ---- */

/* Builds from before 2025, and from before May 2026. */
enum { MONTHS_OLD = 24, MONTHS_MID = 40 };

#define LN(value) log(value)

static void part(struct mb_form_sum *price, double prior, double weight, const char *format, ...) MB_PRINTF(4, 5);
static void part(struct mb_form_sum *price, double prior, double weight, const char *format, ...)
{
    if (price->n == MB_PARTS_MAX)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(price->part[price->n].name, sizeof price->part[0].name, format, args);
    va_end(args);
    price->part[price->n].prior = prior;
    price->part[price->n++].weight = weight;
}

static int is_old(const struct mb_form_context *context)
{
    return context->months < MONTHS_OLD && strcmp(context->engine, "llama.cpp") == 0;
}

static int is_other_engine(const struct mb_form_context *context)
{
    return strcmp(context->engine, "llama.cpp") != 0 && strcmp(context->engine, "membound") != 0;
}

/* How well this chip's memory is used under this engine, beside the backend's own efficiency. */
static void memory_parts(struct mb_form_sum *price, const struct mb_form_context *context)
{
    const char *backend = mb_backend_name(context->backend);
    if (*context->chip)
        part(price, 0, context->backend == MB_BACKEND_CPU ? 3 : 10, "memory chip %.24s %s", context->chip, backend);
    if (*context->family)
        part(price, 0, 8, "memory family %s %s", context->family, backend);
    if (is_other_engine(context))
        part(price, 0, 4, "memory engine %.16s%s", context->engine, context->backend == MB_BACKEND_CPU ? " cpu" : "");
    if (is_old(context) && context->backend != MB_BACKEND_CPU)
        part(price, 0, 4, "memory builds before 2025");
}

static void overhead_parts(struct mb_form_sum *price, const struct mb_form_context *context)
{
    const char *backend = mb_backend_name(context->backend);
    part(price, 0, 1, "overhead %s", backend);
    if (context->backend != MB_BACKEND_CPU) {
        part(price, 0, 4, "overhead chip %.24s %s", context->chip, backend);
        part(price, 0, 4.5, "overhead family %s %s", context->family, backend);
    }
    if (is_other_engine(context))
        part(price, 0, 3, "overhead engine %.16s", context->engine);
    else if (context->months < MONTHS_OLD)
        part(price, 0, 2, "overhead builds before 2025");
    else if (context->months < MONTHS_MID)
        part(price, 0, 2, "overhead builds before May 2026");
}

static void weight_price(const struct mb_form_context *context, enum mb_rate rate, struct mb_form_sum *price)
{
    const char *backend = mb_backend_name(context->backend);
    if (rate <= MB_RATE_BYTE_CODE) {
        price->base = 1 / context->bytes_per_s;
        part(price, LN(1 / 0.88), 8, "memory %s", backend);
        part(price, 0, 8, "%s", rate_key(rate));
        memory_parts(price, context);
        return;
    }
    if (rate == MB_RATE_UNPACK_FLOAT)
        return;
    price->base = 1 / context->f32_flops_per_s;
    part(price, LN(5), 2, "%s%s", rate_key(rate), context->backend == MB_BACKEND_CPU ? " cpu" : "");
    part(price, 0, 2, "unpack %s", backend);
    if (*context->family)
        part(price, 0, 4, "unpack family %s", context->family);
    if (is_other_engine(context))
        part(price, 0, 3, "unpack engine %.16s%s", context->engine, context->backend == MB_BACKEND_CPU ? " cpu" : "");
    if (is_old(context) && context->backend != MB_BACKEND_CPU)
        part(price, 0, 4, "memory builds before 2025");
}

static void cache_price(const struct mb_form_context *context, enum mb_rate rate, struct mb_form_sum *price)
{
    const char *backend = mb_backend_name(context->backend);
    int gpu = context->backend != MB_BACKEND_CPU;
    if (rate == MB_RATE_STATE_BYTE) {
        price->base = 1 / context->bytes_per_s;
        part(price, LN(1 / 0.6), 1, "state");
    } else if (rate == MB_RATE_KV_BYTE) {
        price->base = 1 / context->bytes_per_s;
        part(price, 0, 2, "kv.byte %s", backend);
        part(price, LN(1 / 0.7), 3, "kv.byte");
    } else {
        price->base = 1 / context->f32_flops_per_s;
        part(price, 0, 1.5, "kv.flop %s", backend);
        part(price, LN(8), 1, "kv.flop");
        /* Without a flash-attention kernel for it, CUDA computes latent attention as if all heads had their own cache. */
        if (rate == MB_RATE_KV_LATENT && context->flash != 1 && context->backend == MB_BACKEND_CUDA &&
            !is_other_engine(context) &&
            context->months < MONTHS_MID)
            part(price, LN(4), 1, "kv.flop latent without flash attention");
    }
    if (gpu && rate != MB_RATE_STATE_BYTE && (context->flash == 0 || (context->flash < 0 && is_old(context))))
        part(price, LN(1.5), 2, "cache without flash attention");
    memory_parts(price, context);
}

static void overhead_price(const struct mb_form_context *context, enum mb_rate rate, struct mb_form_sum *price)
{
    static const double microseconds[] = {[MB_RATE_OP] = 4,    [MB_RATE_ATTENTION] = 20, [MB_RATE_MLA] = 40,
                                          [MB_RATE_DELTA] = 40, [MB_RATE_SSM] = 20,      [MB_RATE_CONV] = 10,
                                          [MB_RATE_INDEX] = 60, [MB_RATE_FFN] = 10,      [MB_RATE_MOE] = 40,
                                          [MB_RATE_TOKEN] = 150};
    price->base = 1;
    part(price, LN(microseconds[rate] * 1e-6), rate == MB_RATE_TOKEN ? 2 : rate == MB_RATE_OP ? 0.7 : 1.5, "%s", rate_key(rate));
    part(price, 0, 3, "%s %s", rate_key(rate), mb_backend_name(context->backend));
    overhead_parts(price, context);
}

static void prompt_price(const struct mb_form_context *context, enum mb_rate rate, struct mb_form_sum *price)
{
    const char *backend = mb_backend_name(context->backend);
    if (rate == MB_RATE_PROMPT_BYTE) {
        price->base = 1 / context->bytes_per_s;
        part(price, LN(1.3), 2, "prompt.byte %s", backend);
        return;
    }
    if (rate == MB_RATE_PROMPT_LAYER) {
        price->base = 1;
        part(price, LN(150e-6), 1, "prompt.layer %s", backend);
        return;
    }
    price->base = 1 / context->prompt_flops_per_s;
    part(price, LN(2.5), 1, "prompt.flop %s", backend);
    if (*context->family)
        part(price, 0, 3, "prompt.flop family %s %s", context->family, backend);
    if (*context->chip)
        part(price, 0, 4, "prompt.flop chip %.20s %s", context->chip, backend);
    if (is_other_engine(context))
        part(price, 0, 2, "prompt.flop engine %.16s", context->engine);
    if (context->months < MONTHS_OLD && context->backend != MB_BACKEND_CPU)
        part(price, 0, 2, "prompt.flop builds before 2025");
}

void mb_form_price(const struct mb_form_context *context, enum mb_rate rate, struct mb_form_sum *out)
{
    out->base = 0;
    out->n = 0;
    if (rate <= MB_RATE_UNPACK_CODE) {
        weight_price(context, rate, out);
    } else if (rate <= MB_RATE_STATE_BYTE) {
        cache_price(context, rate, out);
    } else if (rate <= MB_RATE_TOKEN) {
        overhead_price(context, rate, out);
    } else if (rate == MB_RATE_CROSSING) {
        out->base = 1;
        part(out, LN(40e-6), 1, "crossing");
    } else if (rate == MB_RATE_PROMPT_COPY) {
        out->base = 1; /* over the bandwidth of the link */
        part(out, LN(1.3), 2, "prompt.copy");
    } else {
        prompt_price(context, rate, out);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct mb_fitted *)a)->name, ((const struct mb_fitted *)b)->name);
}

const struct mb_fitted *mb_fitted_find(const struct mb_fitted_table *table, const char *name)
{
    struct mb_fitted wanted = {.name = name};
    return table->n ? bsearch(&wanted, table->rows, table->n, sizeof(wanted), by_name) : NULL;
}

double mb_form_seconds(const struct mb_form_context *context, enum mb_rate rate, const struct mb_fitted_table *table,
                       unsigned *out_rows)
{
    struct mb_form_sum price;
    double sum = 0, factor = 1;
    unsigned rows = 0;
    mb_form_price(context, rate, &price);
    for (unsigned i = 0; i < price.n; i++) {
        const struct mb_fitted *fitted = mb_fitted_find(table, price.part[i].name);
        if (fitted) {
            factor *= fitted->value;
            rows = fitted->n_rows > rows ? fitted->n_rows : rows;
        } else {
            sum += price.part[i].prior;
        }
    }
    if (out_rows)
        *out_rows = rows;
    return price.base * factor * exp(sum);
}
