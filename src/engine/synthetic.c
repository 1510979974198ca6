/* SPDX-License-Identifier: MIT */
/* Synthetic weights: blocks of every type that are valid and decode to sane numbers, made from a seed. Speed does not depend on
 * what weights say, as long as they are neither zeros (pages of zeros may be one page) nor numbers that blow up. */
#include "engine/weights.h"
#include "kernels/quant.h"
#include "model/roles.h"

#include <math.h>
#include <string.h>

/* Blocks after which a tensor repeats. A prime, so that rows do not. */
#define PERIOD 16381u

/* Where the scale of a block stands, and the standard deviation of its elements when that scale is 1 and all other bits are
 * random. Types with a minimum: the minimum that centres them, as a multiple of the scale. */
static const struct block_rule {
    uint8_t type;
    int16_t scale_at, min_at; /* halves; -1: none */
    float spread, min;
} rules[] = {
    {MB_TYPE_Q4_0, 0, -1, 4.6f, 0},     {MB_TYPE_Q4_1, 0, 2, 4.6f, -7.5f},   {MB_TYPE_Q5_0, 0, -1, 9.2f, 0},
    {MB_TYPE_Q5_1, 0, 2, 9.2f, -15.5f}, {MB_TYPE_Q8_0, 0, -1, 74.0f, 0},     {MB_TYPE_Q2_K, 80, 82, 14.0f, 1.5f},
    {MB_TYPE_Q3_K, 108, -1, 43.0f, 0},  {MB_TYPE_Q4_K, 0, 2, 258.0f, 7.5f},  {MB_TYPE_Q5_K, 0, 2, 526.0f, 15.5f},
    {MB_TYPE_Q6_K, 208, -1, 1366.0f, 0}, {MB_TYPE_IQ4_NL, 0, -1, 68.0f, 0},  {MB_TYPE_IQ4_XS, 0, -1, 1260.0f, 0},
    {MB_TYPE_IQ2_XXS, 0, -1, 50.0f, 0}, {MB_TYPE_IQ2_XS, 0, -1, 50.0f, 0},   {MB_TYPE_IQ2_S, 0, -1, 50.0f, 0},
    {MB_TYPE_IQ3_XXS, 0, -1, 120.0f, 0}, {MB_TYPE_IQ3_S, 0, -1, 128.0f, 0},  {MB_TYPE_IQ1_S, 0, -1, 8.0f, 0},
    {MB_TYPE_TQ1_0, 52, -1, 0.8f, 0},   {MB_TYPE_TQ2_0, 64, -1, 1.2f, 0},    {MB_TYPE_Q1_0, 0, -1, 1.0f, 0},
    {MB_TYPE_Q2_0, 0, -1, 1.2f, 0},
};

static const struct block_rule *rule_of(uint32_t type)
{
    for (unsigned i = 0; i < MB_COUNT(rules); i++) {
        if (rules[i].type == type)
            return &rules[i];
    }
    return NULL;
}

int mb_weights_can_fill(uint32_t type)
{
    return type == MB_TYPE_F32 || type == MB_TYPE_F16 || type == MB_TYPE_BF16 || type == MB_TYPE_MXFP4 || rule_of(type);
}

static uint64_t key_of(const struct mb_tensor *tensor, uint64_t seed)
{
    uint64_t key = mb_mix(seed);
    for (const char *c = tensor->name; *c; c++)
        key = mb_mix(key ^ (unsigned char)*c);
    return key;
}

static int ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

struct range {
    float centre, spread; /* uniform within centre +- spread * sqrt(3) */
};

static struct range range_of(const struct mb_tensor *tensor)
{
    switch (tensor->kind) {
    case MB_T_ROPE_FREQS:
    case MB_T_ROPE_FACTORS_LONG:
    case MB_T_ROPE_FACTORS_SHORT: return (struct range){2.0f, 0.4f};
    case MB_T_ATTN_SINKS: return (struct range){0.0f, 1.0f};
    case MB_T_TOKEN_EMBD: return (struct range){0.0f, 0.8f};
    default: break;
    }
    if (ends_in(tensor->name, ".bias"))
        return (struct range){0.0f, 0.1f};
    if (tensor->n_dims == 1)
        return (struct range){1.0f, 0.15f}; /* norms */
    float spread = 1.0f / sqrtf((float)tensor->ne[0]);
    if (tensor->op == MB_OP_ROUTER)
        return (struct range){0.0f, 4 * spread}; /* clear choices */
    if (tensor->quant_class == MB_Q_ATTN_OUT || tensor->quant_class == MB_Q_DOWN)
        spread *= 0.4f; /* layers add little to the stream, as in trained models */
    return (struct range){0.0f, spread};
}

static float uniform(uint64_t bits, struct range range)
{
    return range.centre + range.spread * 1.7320508f * ((float)(bits >> 40) / 8388608.0f - 1.0f);
}

static void make_block(uint8_t *to, uint32_t type, size_t n_bytes, uint64_t key, struct range range)
{
    uint64_t bits = mb_mix(key);
    if (type == MB_TYPE_F32) {
        float value = uniform(bits, range);
        memcpy(to, &value, sizeof value);
        return;
    }
    if (type == MB_TYPE_F16 || type == MB_TYPE_BF16) {
        float value = uniform(bits, range);
        uint16_t half = type == MB_TYPE_F16 ? mb_f16_of_f32(value) : mb_bf16_of_f32(value);
        memcpy(to, &half, sizeof half);
        return;
    }
    for (size_t i = 0; i < n_bytes; i += 8) {
        uint64_t word = mb_mix(bits + i);
        memcpy(to + i, &word, n_bytes - i < 8 ? n_bytes - i : 8);
    }
    float jitter = 0.75f + 0.5f * (float)(bits >> 40) / 16777216.0f;
    if (type == MB_TYPE_MXFP4) {
        int exponent = (int)lrintf(log2f(range.spread / 2.9f)) + (int)(bits & 1);
        to[0] = (uint8_t)(127 + exponent);
        return;
    }
    const struct block_rule *rule = rule_of(type);
    float scale = range.spread / rule->spread * jitter;
    uint16_t half = mb_f16_of_f32(scale);
    memcpy(to + rule->scale_at, &half, sizeof half);
    if (rule->min_at >= 0) {
        half = mb_f16_of_f32(scale * rule->min);
        memcpy(to + rule->min_at, &half, sizeof half);
    }
}

void mb_weights_fill(const struct mb_tensor *tensor, uint64_t seed, void *to, uint64_t begin, uint64_t end)
{
    const struct mb_type_info *info = mb_type_info(tensor->type);
    size_t block_bytes = info->block_bytes;
    uint64_t key = key_of(tensor, seed), made = end - begin < PERIOD ? end - begin : PERIOD;
    struct range range = range_of(tensor);
    uint8_t *bytes = to;
    for (uint64_t i = 0; i < made; i++)
        make_block(bytes + i * block_bytes, tensor->type, block_bytes, mb_mix(key + (begin + i) % PERIOD), range);
    for (uint64_t i = made; i < end - begin;) {
        uint64_t n = end - begin - i < i ? end - begin - i : i;
        n = n < i / PERIOD * PERIOD ? n : i / PERIOD * PERIOD;
        memcpy(bytes + i * block_bytes, bytes, n * block_bytes);
        i += n;
    }
}
