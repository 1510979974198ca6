/* SPDX-License-Identifier: MIT */
/* Suite for src/machine/smbios.c: tables built here byte by byte, udev's text, locators, and a
 * table cut at every byte. */
#include "machine/smbios.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct table {
    unsigned char bytes[8192];
    size_t n;
};

static void put_bytes(struct table *t, const void *bytes, size_t n)
{
    assert_true(t->n + n <= sizeof t->bytes);
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

static void put_header(struct table *t, unsigned type, unsigned length, unsigned handle)
{
    unsigned char header[4] = {(unsigned char)type, (unsigned char)length, (unsigned char)handle,
                               (unsigned char)(handle >> 8)};
    put_bytes(t, header, sizeof header);
}

struct module {
    unsigned mib, type, width, rated, configured;
    const char *locator, *bank;
    unsigned array, length;
};

static void set(unsigned char *area, unsigned offset, unsigned size, unsigned value)
{
    for (unsigned i = 0; i < size; i++)
        area[offset + i] = (unsigned char)(value >> (8 * i));
}

static void put_module(struct table *t, const struct module *m)
{
    unsigned char area[92] = {0};
    unsigned length = m->length ? m->length : 92;
    area[0] = 17;
    area[1] = (unsigned char)length;
    set(area, 4, 2, m->array ? m->array : 0x1000);
    set(area, 8, 2, m->width);
    set(area, 0x0a, 2, m->width);
    set(area, 0x0c, 2, m->mib >= 0x7fff ? 0x7fff : m->mib);
    set(area, 0x1c, 4, m->mib >= 0x7fff ? m->mib : 0);
    area[0x10] = m->locator ? 1 : 0;
    area[0x11] = m->bank ? (m->locator ? 2 : 1) : 0;
    area[0x12] = (unsigned char)m->type;
    set(area, 0x15, 2, m->rated);
    set(area, 0x20, 2, m->configured);
    put_bytes(t, area, length);
    if (m->locator)
        put_bytes(t, m->locator, strlen(m->locator) + 1);
    if (m->bank)
        put_bytes(t, m->bank, strlen(m->bank) + 1);
    put_bytes(t, "\0", m->locator || m->bank ? 1 : 2);
}

static void put_end(struct table *t)
{
    put_header(t, 127, 4, 0xfeff);
    put_bytes(t, "\0", 2);
}

/* Parse from a block of exactly n bytes, so that a sanitizer sees the first byte read beyond it. */
static int parse(struct mb_arena *arena, const unsigned char *bytes, size_t n, struct mb_dimms *out)
{
    unsigned char *exact = malloc(n ? n : 1);
    assert_non_null(exact);
    memcpy(exact, bytes, n);
    int code = mb_smbios_parse(arena, exact, n, NULL, 0, out);
    free(exact);
    return code;
}

static struct mb_dimm_sum sum_of(struct mb_arena *arena, const struct module *modules, unsigned n)
{
    struct table t = {.n = 0};
    struct mb_dimms dimms;
    struct mb_dimm_sum sum;
    for (unsigned i = 0; i < n; i++)
        put_module(&t, modules + i);
    put_end(&t);
    assert_int_equal(parse(arena, t.bytes, t.n, &dimms), MB_OK);
    assert_int_equal(mb_smbios_sum(arena, &dimms, &sum), MB_OK);
    return sum;
}

static void two_channels_of_ddr5(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    const struct module modules[] = {{0, 2, 0, 0, 0, "DIMM 0", "P0 CHANNEL A", 0, 0},
                                     {16384, 0x22, 64, 4800, 6000, "DIMM 1", "P0 CHANNEL A", 0, 0},
                                     {0, 2, 0, 0, 0, "DIMM 0", "P0 CHANNEL B", 0, 0},
                                     {16384, 0x22, 64, 4800, 6000, "DIMM 1", "P0 CHANNEL B", 0, 0}};
    struct mb_dimm_sum sum = sum_of(&arena, modules, 4);
    assert_true(sum.installed_bytes == (uint64_t)32 << 30);
    assert_string_equal(sum.type, "DDR5");
    assert_int_equal(sum.n_channels, 2);
    assert_true(sum.bytes_per_s == 96e9);
    assert_string_equal(mb_smbios_describe(&arena, &sum), "DDR5-6000, 2 channels x 64 bit");
    mb_arena_free(&arena);
}

static void locators_name_channels(void **state)
{
    (void)state;
    static const struct {
        const char *a_locator, *a_bank, *b_locator, *b_bank;
        unsigned type, n_channels; /* 0: not told */
    } cases[] = {
        {"ChannelA-DIMM0", "BANK 0", "ChannelB-DIMM0", "BANK 2", 0x1a, 2},
        {"ChannelA-DIMM0", "BANK 0", "ChannelA-DIMM1", "BANK 1", 0x1a, 1},
        {"Controller0-ChannelA-DIMM0", "BANK 0", "Controller1-ChannelA-DIMM0", "BANK 0", 0x22, 2},
        {"DIMM_A2", "BANK 1", "DIMM_B2", "BANK 3", 0x22, 2},
        {"DIMM_A1", NULL, "DIMM_A2", NULL, 0x22, 1},
        {"P1-DIMMA1", NULL, "P2-DIMMA1", NULL, 0x22, 2},
        {"P1-DIMMA1", "P0_Node0_Channel0_Dimm0", "P1-DIMMA2", "P0_Node0_Channel0_Dimm1", 0x1a, 1},
        {"DIMM 1", "BANK 0", "DIMM 2", "BANK 1", 0x1a, 0},
        {"A1", NULL, "B1", NULL, 0x1a, 0},
        {NULL, NULL, NULL, NULL, 0x1a, 0},
        {"Motherboard", "BANK 0", "Motherboard", "BANK 1", 0x23, 2},
        {"DIMM 0 Channel A", NULL, "DIMM 1 Channel A", NULL, 0x1a, 1},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct mb_arena arena = {0};
        const struct module modules[] = {
            {8192, cases[i].type, 64, 3200, 3200, cases[i].a_locator, cases[i].a_bank, 0, 0},
            {8192, cases[i].type, 64, 3200, 3200, cases[i].b_locator, cases[i].b_bank, 0, 0}};
        struct mb_dimm_sum sum = sum_of(&arena, modules, 2);
        if (sum.n_channels != cases[i].n_channels)
            fail_msg("case %zu (%s): %u channels, expected %u", i, cases[i].a_locator,
                     sum.n_channels, cases[i].n_channels);
        assert_true(!sum.why_unknown == (cases[i].n_channels > 0));
        assert_true(sum.bytes_per_s == cases[i].n_channels * 25.6e9);
        mb_arena_free(&arena);
    }
}

static void odd_modules(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    /* One module is one channel, whatever its slot is called; 72 bits are 64 of data. */
    struct mb_dimm_sum sum =
        sum_of(&arena, &(struct module){65536, 0x1a, 72, 2666, 2400, "DIMM 3", NULL, 0, 0}, 1);
    assert_true(sum.installed_bytes == (uint64_t)64 << 30);
    assert_int_equal(sum.n_channels, 1);
    assert_true(sum.bytes_per_s == 19.2e9);
    /* Old firmware: 27 bytes, no configured speed. */
    sum = sum_of(&arena, &(struct module){1024, 0x18, 64, 1333, 0, "DIMM_A1", NULL, 0, 27}, 1);
    assert_int_equal(sum.mt_per_s, 1333);
    assert_int_equal(sum.rated_only, 1);
    /* Two kinds of modules: the slower rate holds, and no type is named. */
    const struct module mixed[] = {{8192, 0x1a, 64, 3200, 3200, "DIMM_A1", NULL, 0, 0},
                                   {8192, 0x18, 64, 1600, 1600, "DIMM_B1", NULL, 0, 0}};
    sum = sum_of(&arena, mixed, 2);
    assert_null(sum.type);
    assert_true(sum.bytes_per_s == 25.6e9);
    /* A virtual machine's: no width, no speed. */
    sum = sum_of(&arena, &(struct module){4096, 0x07, 0xffff, 0, 0, "DIMM 0", NULL, 0, 0}, 1);
    assert_true(sum.bytes_per_s == 0);
    assert_non_null(sum.why_unknown);
    assert_true(sum.installed_bytes == (uint64_t)4 << 30);
    /* A size that no module has. */
    sum = sum_of(&arena, &(struct module){0x7fffffff, 0x22, 64, 4800, 4800, "DIMM_A1", NULL, 0, 0},
                 1);
    assert_true(sum.installed_bytes == 0);
    mb_arena_free(&arena);
}

static void other_arrays_do_not_count(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    struct table t = {.n = 0};
    struct mb_dimms dimms;
    unsigned char area[11] = {3, 4 /* video memory */, 3};
    put_header(&t, 16, 15, 0x2000);
    put_bytes(&t, area, sizeof area);
    put_bytes(&t, "\0", 2);
    put_module(&t, &(struct module){1024, 0x1a, 64, 3200, 3200, "GPU", NULL, 0x2000, 0});
    put_module(&t, &(struct module){8192, 0x1a, 64, 3200, 3200, "DIMM_A1", NULL, 0, 0});
    put_end(&t);
    put_module(&t, &(struct module){8192, 0x1a, 64, 3200, 3200, "behind the end", NULL, 0, 0});
    assert_int_equal(parse(&arena, t.bytes, t.n, &dimms), MB_OK);
    assert_int_equal(dimms.n, 1);
    assert_string_equal(dimms.dimms[0].locator, "DIMM_A1");
    mb_arena_free(&arena);
}

static void entry_point_ends_the_table(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    struct table t = {.n = 0};
    struct mb_dimms dimms;
    const struct module module = {8192, 0x1a, 64, 3200, 3200, "DIMM_A1", NULL, 0, 0};
    put_module(&t, &module);
    size_t one = t.n;
    put_module(&t, &module);
    unsigned char v3[24] = "_SM3_", v2[31] = "_SM_";
    set(v3, 12, 4, (unsigned)one);
    set(v2, 0x16, 2, (unsigned)one);
    assert_int_equal(mb_smbios_parse(&arena, t.bytes, t.n, v3, sizeof v3, &dimms), MB_OK);
    assert_int_equal(dimms.n, 1);
    assert_int_equal(mb_smbios_parse(&arena, t.bytes, t.n, v2, sizeof v2, &dimms), MB_OK);
    assert_int_equal(dimms.n, 1);
    set(v3, 12, 4, 0xffffffff);
    assert_int_equal(mb_smbios_parse(&arena, t.bytes, t.n, v3, sizeof v3, &dimms), MB_OK);
    assert_int_equal(dimms.n, 2);
    assert_int_equal(mb_smbios_parse(&arena, t.bytes, t.n, v3, 5, &dimms), MB_OK);
    assert_int_equal(dimms.n, 2);
    mb_arena_free(&arena);
}

static void every_prefix_is_survived(void **state)
{
    (void)state;
    struct table t = {.n = 0};
    put_module(&t, &(struct module){8192, 0x1a, 64, 3200, 3200, "DIMM_A1", "BANK 0", 0, 0});
    put_module(&t, &(struct module){8192, 0x1a, 64, 3200, 3200, "DIMM_B1", "BANK 1", 0, 0});
    put_end(&t);
    for (size_t n = 0; n <= t.n; n++) {
        struct mb_arena arena = {0};
        struct mb_dimms dimms;
        int code = parse(&arena, t.bytes, n, &dimms);
        assert_true(code == MB_OK || code == MB_ENODATA);
        assert_true(dimms.n <= 2);
        mb_arena_free(&arena);
    }
    /* Each byte wrong once: numbers of strings, lengths and all. */
    for (size_t i = 0; i < t.n; i++)
        for (unsigned wrong = 0; wrong < 256; wrong += 51) {
            struct mb_arena arena = {0};
            struct mb_dimms dimms;
            struct mb_dimm_sum sum;
            unsigned char keep = t.bytes[i];
            t.bytes[i] = (unsigned char)wrong;
            if (parse(&arena, t.bytes, t.n, &dimms) == MB_OK)
                assert_int_equal(mb_smbios_sum(&arena, &dimms, &sum), MB_OK);
            t.bytes[i] = keep;
            mb_arena_free(&arena);
        }
}

static void udev_tells_the_same(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    struct mb_dimms dimms;
    struct mb_dimm_sum sum;
    static const char text[] =
        "I:1\nE:MEMORY_ARRAY_NUM_DEVICES=3\n"
        "E:MEMORY_DEVICE_0_PRESENT=0\nE:MEMORY_DEVICE_0_LOCATOR=DIMM 0\n"
        "E:MEMORY_DEVICE_1_TOTAL_WIDTH=64\nE:MEMORY_DEVICE_1_DATA_WIDTH=64\n"
        "E:MEMORY_DEVICE_1_SIZE=17179869184\nE:MEMORY_DEVICE_1_LOCATOR=DIMM 1\n"
        "E:MEMORY_DEVICE_1_BANK_LOCATOR=P0 CHANNEL A\nE:MEMORY_DEVICE_1_TYPE=DDR4\n"
        "E:MEMORY_DEVICE_1_SPEED_MTS=3600\nE:MEMORY_DEVICE_1_CONFIGURED_SPEED_MTS=3200\n"
        "E:MEMORY_DEVICE_2_DATA_WIDTH=64\nE:MEMORY_DEVICE_2_SIZE=17179869184\n"
        "E:MEMORY_DEVICE_2_BANK_LOCATOR=P0 CHANNEL B\nE:MEMORY_DEVICE_2_TYPE=DDR4\n"
        "E:MEMORY_DEVICE_2_CONFIGURED_SPEED_MTS=3200";
    assert_int_equal(mb_smbios_parse_udev(&arena, text, &dimms), MB_OK);
    assert_int_equal(dimms.n, 2);
    assert_int_equal(mb_smbios_sum(&arena, &dimms, &sum), MB_OK);
    assert_string_equal(mb_smbios_describe(&arena, &sum), "DDR4-3200, 2 channels x 64 bit");
    assert_true(sum.bytes_per_s == 51.2e9);
    static const char *const broken[] = {"",
                                         "E:MEMORY_DEVICE_",
                                         "E:MEMORY_DEVICE_1",
                                         "E:MEMORY_DEVICE_-1_SIZE=5\n",
                                         "E:MEMORY_DEVICE_99999999999999999999_SIZE=5",
                                         "E:MEMORY_DEVICE_0=\n",
                                         "E:MEMORY_DEVICE_0_SIZE=",
                                         "E:MEMORY_DEVICE_0_SIZE=99999999999999999999999\n"};
    for (size_t i = 0; i < MB_COUNT(broken); i++)
        assert_int_equal(mb_smbios_parse_udev(&arena, broken[i], &dimms), MB_ENODATA);
    mb_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_channels_of_ddr5),
        cmocka_unit_test(locators_name_channels),
        cmocka_unit_test(odd_modules),
        cmocka_unit_test(other_arrays_do_not_count),
        cmocka_unit_test(entry_point_ends_the_table),
        cmocka_unit_test(every_prefix_is_survived),
        cmocka_unit_test(udev_tells_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
