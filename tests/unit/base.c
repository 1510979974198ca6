/* SPDX-License-Identifier: MIT */
/* Suite for src/base. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void errors_have_names_and_exit_codes(void **state)
{
    (void)state;
    assert_string_equal(mb_code_name(MB_EFORMAT), "MB_EFORMAT");
    assert_int_equal(mb_code_exit(MB_OK), 0);
    assert_int_equal(mb_code_exit(MB_EFORMAT), 3);
    assert_int_equal(mb_code_exit(-999), 5);
    struct mb_err err;
    assert_int_equal(mb_fail(&err, MB_EIO, "a\nb\033[2J"), MB_EIO);
    assert_string_equal(err.text, "a?b?[2J");
    char *longer = calloc(1, 1000);
    memset(longer, 'x', 999);
    mb_fail(&err, MB_EIO, "%s", longer);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_string_equal(err.text + sizeof err.text - 4, "...");
    free(longer);
}

static void arena_grows_and_refuses(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    int *numbers = NULL;
    unsigned n = 0;
    unsigned char *beside = NULL;
    for (int i = 0; i < 1000; i++) {
        *(int *)mb_arena_append(&arena, &numbers, &n, sizeof *numbers) = i;
        if (!beside)
            beside = memset(mb_arena_alloc(&arena, 16), 0xff, 16);
    }
    for (int i = 0; i < 16; i++)
        assert_int_equal(beside[i], 0xff); /* an array that did not move would have run into it */
    assert_int_equal(n, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(numbers[i], i);
    assert_null(mb_arena_array(&arena, SIZE_MAX / 2, 4));
    assert_true(arena.failed);
    mb_arena_free(&arena);
}

static void sizes_for_people(void **state)
{
    (void)state;
    char buf[32];
    assert_string_equal(mb_format_bytes(24 * MB_GIB, buf, sizeof buf), "24.0 GiB");
    assert_string_equal(mb_format_bytes(128 * MB_GIB, buf, sizeof buf), "128 GiB");
    assert_string_equal(mb_format_bytes(1023.99 * 1024, buf, sizeof buf), "1.0 MiB");
    assert_string_equal(mb_format_bytes(-1, buf, sizeof buf), "unknown");
    assert_string_equal(mb_format_rate(273e9, buf, sizeof buf), "273 GB/s");
    assert_string_equal(mb_format_rate(59.34e9, buf, sizeof buf), "59.3 GB/s");
    assert_string_equal(mb_format_age(86400 * 3.5, buf, sizeof buf), "3 days");
    uint64_t bytes = 0;
    assert_int_equal(mb_parse_bytes("24", &bytes), MB_OK);
    assert_true(bytes == (uint64_t)24 << 30);
    assert_int_equal(mb_parse_bytes("1.5 GB", &bytes), MB_OK);
    assert_true(bytes == (uint64_t)3 << 29);
    assert_int_equal(mb_parse_bytes("0x10", &bytes), MB_EINVAL);
    assert_int_equal(mb_parse_bytes("-1", &bytes), MB_EINVAL);
    assert_int_equal(mb_parse_bytes("99999999999TiB", &bytes), MB_EINVAL);
}

static void names_are_forgiving(void **state)
{
    (void)state;
    const char *names[] = {"DGX Spark", "Mac mini M4 16 GB", "PC RTX 4090, 64 GB DDR5"};
    char buf[200];
    assert_int_equal(mb_name_compare("dgx-spark", "DGX Spark"), 0);
    assert_string_equal(mb_name_nearest("dgx sprak", names, 3, 3, buf, sizeof buf), "DGX Spark");
    assert_string_equal(mb_name_nearest("rtx 4090", names, 3, 3, buf, sizeof buf), "PC RTX 4090, 64 GB DDR5");
    assert_string_equal(mb_name_nearest("zzzzzz", names, 3, 3, buf, sizeof buf), "");
}

static void tables_align_and_wrap(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    struct mb_table *table = mb_table_new(3);
    mb_table_column(table, 0, "pool", MB_LEFT);
    mb_table_column(table, 1, "size", MB_RIGHT);
    mb_table_row(table);
    mb_table_cell(table, 0, MB_PLAIN, "ram");
    mb_table_cell(table, 1, MB_PLAIN, "8 GiB");
    mb_table_cell(table, 2, MB_PLAIN, "a text that is too long for one line of 40");
    assert_int_equal(mb_table_print(table, out, 2, 40, 0), MB_OK);
    fclose(out);
    mb_table_free(table);
    assert_string_equal(text, "  pool   size\n"
                              "  ram   8 GiB  a text that is too long\n"
                              "               for one line of 40\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_have_names_and_exit_codes), cmocka_unit_test(arena_grows_and_refuses),
        cmocka_unit_test(sizes_for_people),                 cmocka_unit_test(names_are_forgiving),
        cmocka_unit_test(tables_align_and_wrap),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
