/* SPDX-License-Identifier: MIT */
/* Suite for src/model/quant.c: the rules on shapes where they can be worked out by hand, then every type of every catalog
 * model in every file type against another implementation (tests/data/models/quants.csv). */
#include "base/base.h"
#include "model/open.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_MODELS
#include "support.h"

static const char *root;

static uint32_t type_of(const struct mb_model *model, const char *name)
{
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        if (strcmp(model->tensors[i].name, name) == 0)
            return model->tensors[i].type;
    }
    fail_msg("%s has no %s", model->name, name);
    return 0;
}

static const struct {
    const char *spec, *tensor;
    enum mb_type type;
    const char *why;
} rules[] = {
    {"Qwen3-8B@Q4_K_M", "output.weight", MB_TYPE_Q6_K, "the head keeps six bits"},
    {"Qwen3-8B@Q4_K_M", "token_embd.weight", MB_TYPE_Q4_K, "an untied table is like the rest"},
    {"Qwen3-4B@Q4_K_M", "token_embd.weight", MB_TYPE_Q6_K, "a tied one is the head"},
    {"Qwen3-8B@Q4_K_M", "blk.0.attn_norm.weight", MB_TYPE_F32, "norms stay"},
    {"Qwen3-8B@Q4_K_M", "blk.3.attn_v.weight", MB_TYPE_Q6_K, "36/8 = 4: layers 0 to 3 get more"},
    {"Qwen3-8B@Q4_K_M", "blk.4.attn_v.weight", MB_TYPE_Q4_K, "and layer 4 does not"},
    {"Qwen3-8B@Q4_K_M", "blk.6.attn_v.weight", MB_TYPE_Q6_K, "(6-4) % 3 == 2"},
    {"Qwen3-8B@Q4_K_M", "blk.31.ffn_down.weight", MB_TYPE_Q6_K, "7*36/8 = 31"},
    {"Qwen3-8B@Q4_K_S", "blk.3.attn_v.weight", MB_TYPE_Q5_K, "the first four"},
    {"Qwen3-8B@Q4_K_S", "blk.4.attn_v.weight", MB_TYPE_Q4_K, ""},
    {"Qwen3-8B@Q8_0", "output.weight", MB_TYPE_Q8_0, ""},
    {"Qwen3-8B@IQ4_XS", "blk.20.attn_v.weight", MB_TYPE_Q5_K, "32 heads to 8"},
    {"Llama-2-7B@IQ4_XS", "blk.20.attn_v.weight", MB_TYPE_IQ4_XS, "32 heads to 32"},
    {"Llama-2-7B@Q2_K", "blk.20.attn_v.weight", MB_TYPE_Q3_K, ""},
    {"Llama-3.1-70B@Q4_K_M", "blk.11.attn_v.weight", MB_TYPE_Q5_K, "80 layers with GQA: no value below Q5_K"},
    {"Mixtral-8x7B@Q4_K_M", "blk.5.attn_k.weight", MB_TYPE_Q8_0, "exactly eight experts"},
    {"Mixtral-8x7B@Q4_K_M", "blk.5.attn_output.weight", MB_TYPE_Q5_K, ""},
    {"Mixtral-8x7B@Q4_K_M", "blk.5.ffn_gate_inp.weight", MB_TYPE_F32, "a router is never quantized"},
    {"Qwen2.5-0.5B@Q4_K_M", "blk.3.attn_q.weight", MB_TYPE_Q5_0, "rows of 896 hold no block of 256"},
    {"Qwen2.5-0.5B@Q6_K", "blk.3.attn_q.weight", MB_TYPE_Q8_0, ""},
    {"Qwen2.5-0.5B@IQ4_XS", "blk.3.attn_q.weight", MB_TYPE_IQ4_NL, ""},
    {"gpt-oss-20b@MXFP4", "blk.0.ffn_up_exps.weight", MB_TYPE_MXFP4, "as its makers publish it"},
    {"gpt-oss-20b@MXFP4", "blk.0.attn_q.weight", MB_TYPE_Q8_0, ""},
    {"gpt-oss-20b@MXFP4", "blk.0.ffn_up_exps.bias", MB_TYPE_F32, ""},
    {"gpt-oss-20b@BF16", "blk.0.ffn_up_exps.weight", MB_TYPE_BF16, ""},
    {"DeepSeek-V3.1@MXFP4_MOE", "blk.5.attn_k_b.weight", MB_TYPE_MXFP4, "three dimensions, like experts"},
    {"Gemma-4-E4B@Q4_K_M", "per_layer_model_proj.weight", MB_TYPE_BF16, "not quantized, and not F32 either"},
    {"DeepSeek-V4-Flash@Q4_K_M", "blk.0.ffn_gate_tid2eid.weight", MB_TYPE_I32, ""},
    {"GLM-4.5-Air@Q4_K_M", "blk.46.nextn.eh_proj.weight", MB_TYPE_Q4_K, ""},
};

static void rules_worked_out_by_hand(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MB_COUNT(rules); i++) {
        struct mb_model *model = open_spec(rules[i].spec);
        uint32_t type = type_of(model, rules[i].tensor);
        if (type != rules[i].type)
            fail_msg("%s %s: %s instead of %s: %s", rules[i].spec, rules[i].tensor, mb_type_name(type),
                     mb_type_name(rules[i].type), rules[i].why);
        mb_model_free(model);
    }
}

static uint64_t hash(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return h;
}

static void every_type_as_the_other_implementation(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    char *text = mb_file_read(&arena, root, "/tests/data/models/quants.csv", 1 << 20, NULL), *line_end, *quants[64];
    unsigned n_quants = 0, n_models = 0;
    assert_non_null(text);
    for (char *line = text; *line; line = line_end + 1) {
        line_end = strchr(line, '\n');
        assert_non_null(line_end);
        *line_end = 0;
        if (*line == '#')
            continue;
        char *at = line, *name = strsep(&at, ",");
        if (strcmp(name, "name") == 0) {
            while (at)
                quants[n_quants++] = strsep(&at, ",");
            n_quants--; /* the hash */
            continue;
        }
        uint64_t sum = 0;
        for (unsigned i = 0; i < n_quants; i++) {
            char spec[200];
            snprintf(spec, sizeof(spec), "%s@%s", name, quants[i]);
            struct mb_model *model = open_spec(spec);
            uint64_t want = strtoull(strsep(&at, ","), NULL, 10);
            if (model->resident_bytes != want)
                fail_msg("%s: %llu bytes instead of %llu", spec, (unsigned long long)model->resident_bytes,
                         (unsigned long long)want);
            for (uint32_t j = 0; j < model->n_tensors; j++) {
                uint64_t h = hash(hash(UINT64_C(0xcbf29ce484222325), model->tensors[j].name), " ");
                sum += hash(h, mb_type_name(model->tensors[j].type));
            }
            mb_model_free(model);
        }
        if (sum != strtoull(at, NULL, 10))
            fail_msg("%s: the bytes are right, but types sit in other layers", name);
        n_models++;
    }
    assert_int_equal(n_models, 109);
    mb_arena_free(&arena);
}

static void details_change_what_they_should(void **state)
{
    (void)state;
    struct mb_model *model;
    struct mb_err err;
    struct mb_catalog_variant variant = {.quant = {.imatrix = 1}};
    assert_int_equal(mb_model_catalog_variant("Qwen3-30B-A3B@Q4_0", &variant, &model, &err), MB_OK);
    assert_int_equal(type_of(model, "blk.5.ffn_down_exps.weight"), MB_TYPE_Q4_1);
    assert_int_equal(type_of(model, "blk.6.ffn_down_exps.weight"), MB_TYPE_Q4_0);
    mb_model_free(model);
    variant = (struct mb_catalog_variant){.quant = {.before_2026_03 = 1}};
    assert_int_equal(mb_model_catalog_variant("Phi-4-14B@Q4_K_M", &variant, &model, &err), MB_OK);
    assert_int_equal(type_of(model, "blk.10.attn_qkv.weight"), MB_TYPE_Q5_K);
    mb_model_free(model);
    variant = (struct mb_catalog_variant){.untied = 1};
    assert_int_equal(mb_model_catalog_variant("Qwen3-0.6B@Q8_0", &variant, &model, &err), MB_OK);
    assert_int_equal(model->params, 751632384); /* ggml-org/Qwen3-0.6B-GGUF: 751.63 M */
    mb_model_free(model);
}

static void names_of_file_types(void **state)
{
    (void)state;
    double uncertainty;
    assert_string_equal(mb_quant_name(mb_quant_find("q4km", &uncertainty)), "Q4_K_M");
    assert_true(uncertainty == 0.03);
    assert_string_equal(mb_quant_name(mb_quant_find("UD-Q4_K_XL", &uncertainty)), "Q4_K_M");
    assert_true(uncertainty == 0.10);
    assert_string_equal(mb_quant_name(mb_quant_find("bf16", &uncertainty)), "BF16");
    assert_true(uncertainty == 0.01);
    assert_null(mb_quant_find("Q9_K", NULL));
    size_t n;
    const char *const *names = mb_quant_names(&n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(mb_quant_name(mb_quant_find(names[i], NULL)), names[i]);
}

int main(int argc, char **argv)
{
    root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_worked_out_by_hand),
        cmocka_unit_test(every_type_as_the_other_implementation),
        cmocka_unit_test(details_change_what_they_should),
        cmocka_unit_test(names_of_file_types),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
