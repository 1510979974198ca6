/* SPDX-License-Identifier: MIT */
/* Suite for src/model/type.c. The expected sizes are typed in from the published table of ggml, not
 * taken from the code under test. */
#include "base/base.h"
#include "model/type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const struct {
    const char *name;
    unsigned number, elements, bytes;
    double bpw;
} expected[] = {
    {"F32", 0, 1, 4, 32},
    {"F16", 1, 1, 2, 16},
    {"Q4_0", 2, 32, 18, 4.5},
    {"Q4_1", 3, 32, 20, 5},
    {"Q5_0", 6, 32, 22, 5.5},
    {"Q5_1", 7, 32, 24, 6},
    {"Q8_0", 8, 32, 34, 8.5},
    {"Q8_1", 9, 32, 36, 9},
    {"Q2_K", 10, 256, 84, 2.625},
    {"Q3_K", 11, 256, 110, 3.4375},
    {"Q4_K", 12, 256, 144, 4.5},
    {"Q5_K", 13, 256, 176, 5.5},
    {"Q6_K", 14, 256, 210, 6.5625},
    {"Q8_K", 15, 256, 292, 9.125},
    {"IQ2_XXS", 16, 256, 66, 2.0625},
    {"IQ2_XS", 17, 256, 74, 2.3125},
    {"IQ3_XXS", 18, 256, 98, 3.0625},
    {"IQ1_S", 19, 256, 50, 1.5625},
    {"IQ4_NL", 20, 32, 18, 4.5},
    {"IQ3_S", 21, 256, 110, 3.4375},
    {"IQ2_S", 22, 256, 82, 2.5625},
    {"IQ4_XS", 23, 256, 136, 4.25},
    {"I8", 24, 1, 1, 8},
    {"I16", 25, 1, 2, 16},
    {"I32", 26, 1, 4, 32},
    {"I64", 27, 1, 8, 64},
    {"F64", 28, 1, 8, 64},
    {"IQ1_M", 29, 256, 56, 1.75},
    {"BF16", 30, 1, 2, 16},
    {"TQ1_0", 34, 256, 54, 1.6875},
    {"TQ2_0", 35, 256, 66, 2.0625},
    {"MXFP4", 39, 32, 17, 4.25},
    {"NVFP4", 40, 64, 36, 4.5},
    {"Q1_0", 41, 128, 18, 1.125},
    {"Q2_0", 42, 64, 18, 2.25},
};

static void table_holds_the_published_sizes(void **state)
{
    (void)state;
    unsigned n_known = 0;
    for (uint32_t type = 0; type < 1000; type++)
        n_known += mb_type_info(type) != NULL;
    assert_int_equal(n_known, MB_COUNT(expected));
    for (size_t i = 0; i < MB_COUNT(expected); i++) {
        const struct mb_type_info *info = mb_type_info(expected[i].number);
        assert_non_null(info);
        assert_string_equal(info->name, expected[i].name);
        assert_int_equal(info->block_elements, expected[i].elements);
        assert_int_equal(info->block_bytes, expected[i].bytes);
        assert_true(info->bpw == expected[i].bpw);
        enum mb_type type;
        assert_int_equal(mb_type_by_name(expected[i].name, &type), MB_OK);
        assert_int_equal(type, expected[i].number);
    }
}

static void names_are_found_in_any_case(void **state)
{
    (void)state;
    enum mb_type type = MB_TYPE_F32;
    assert_int_equal(mb_type_by_name("q4_k", &type), MB_OK);
    assert_int_equal(type, MB_TYPE_Q4_K);
    assert_int_equal(mb_type_by_name("Q4_K_M", &type), MB_ENAME);
    assert_int_equal(mb_type_by_name("", &type), MB_ENAME);
    assert_int_equal(type, MB_TYPE_Q4_K);
    assert_string_equal(mb_type_name(4), "unknown");
    assert_string_equal(mb_type_name(UINT32_MAX), "unknown");
}

static void tensors_are_whole_blocks(void **state)
{
    (void)state;
    uint64_t bytes = 7;
    /* Llama-3.1-8B ffn_down at Q6_K: 14336 x 4096. */
    assert_int_equal(mb_type_bytes(MB_TYPE_Q6_K, (uint64_t[4]){14336, 4096}, 2, &bytes), MB_OK);
    assert_true(bytes == UINT64_C(14336) * 4096 / 256 * 210);
    /* Dimensions past n_dims do not count, and no dimension is a scalar. */
    assert_int_equal(mb_type_bytes(MB_TYPE_F32, (uint64_t[4]){10, 99, 99, 99}, 1, &bytes), MB_OK);
    assert_true(bytes == 40);
    assert_int_equal(mb_type_bytes(MB_TYPE_F32, (uint64_t[4]){0}, 0, &bytes), MB_OK);
    assert_true(bytes == 4);
    bytes = 7;
    assert_int_equal(mb_type_bytes(MB_TYPE_Q4_K, (uint64_t[4]){128, 256}, 2, &bytes), MB_EFORMAT);
    assert_int_equal(mb_type_bytes(4, (uint64_t[4]){32}, 1, &bytes), MB_EINVAL);
    assert_int_equal(mb_type_bytes(MB_TYPE_END, (uint64_t[4]){32}, 1, &bytes), MB_EINVAL);
    assert_int_equal(mb_type_bytes(MB_TYPE_F32, (uint64_t[4]){32}, 5, &bytes), MB_EINVAL);
    assert_true(bytes == 7);
}

static void sizes_do_not_wrap(void **state)
{
    (void)state;
    uint64_t bytes = 7, big = UINT64_C(1) << 32;
    assert_int_equal(mb_type_bytes(MB_TYPE_F32, (uint64_t[4]){big, big}, 2, &bytes), MB_ERANGE);
    assert_int_equal(mb_type_bytes(MB_TYPE_I8, (uint64_t[4]){UINT64_MAX}, 1, &bytes), MB_ERANGE);
    assert_int_equal(mb_type_bytes(MB_TYPE_F64, (uint64_t[4]){INT64_MAX / 4}, 1, &bytes),
                     MB_ERANGE);
    assert_int_equal(mb_type_bytes(MB_TYPE_Q1_0, (uint64_t[4]){UINT64_C(1) << 63, 1}, 2, &bytes),
                     MB_ERANGE);
    assert_int_equal(mb_type_bytes(MB_TYPE_I8, (uint64_t[4]){big, big / 2 - 1, 1, 2}, 4, &bytes),
                     MB_ERANGE);
    assert_int_equal(mb_type_bytes(MB_TYPE_Q1_0, (uint64_t[4]){UINT64_C(1) << 63}, 1, &bytes),
                     MB_ERANGE);
    assert_true(bytes == 7);
    assert_int_equal(mb_type_bytes(MB_TYPE_I8, (uint64_t[4]){INT64_MAX}, 1, &bytes), MB_OK);
    assert_true(bytes == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_holds_the_published_sizes),
        cmocka_unit_test(names_are_found_in_any_case),
        cmocka_unit_test(tensors_are_whole_blocks),
        cmocka_unit_test(sizes_do_not_wrap),
    };
    return cmocka_run_group_tests_name("type", tests, NULL, NULL);
}
