/* SPDX-License-Identifier: MIT */
/* Suite for src/machine/chip.c: strict reading, and finding a chip without mistaking it for a
 * similar one. */
#include "machine/chip.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SOURCES "\"sources\":{\"s1\":\"a document\",\"s3\":\"a \\\"}]{ b\"}"
#define CARD                                                                                                 \
    "{\"id\":\"rtx-4090\",\"kind\":\"gpu\",\"name\":\"NVIDIA GeForce RTX 4090\",\"vendor\":\"NVIDIA\","      \
    "\"match\":[\"NVIDIA GeForce RTX 4090\"],\"pci\":[\"10de:2684\"],"                                       \
    "\"memory\":{\"type\":\"GDDR6X\",\"bus_bits\":384,\"mega_transfers_per_s\":21000,\"capacity_gib\":[24]," \
    "\"bandwidth_bytes_per_s\":1.008e12,\"source\":\"s1\"},"                                                 \
    "\"link\":{\"type\":\"pcie\",\"generation\":4,\"lanes\":16,\"source\":\"s1\"},"                          \
    "\"peak\":[{\"type\":\"f16\",\"flops_per_s\":165.2e12,\"source\":\"s1\",\"note\":\"dense\"}],"           \
    "\"power\":{\"idle_w\":null,\"load_w\":450,\"source\":\"s1\"}," SOURCES "}"
#define SOC(id, cores, rate)                                                                           \
    "{\"id\":\"" id                                                                                    \
    "\",\"kind\":\"soc\",\"name\":\"Apple M4 Max\",\"vendor\":\"Apple\",\"match\":[\"Apple M4 Max\"]," \
    "\"memory\":{\"type\":\"LPDDR5X\",\"capacity_gib\":[48],\"bandwidth_bytes_per_s\":" rate           \
    ",\"source\":\"s1\"},"                                                                             \
    "\"gpu\":{\"cores\":" cores                                                                        \
    "},\"gpu_usable\":{\"rule\":\"apple-wired\",\"source\":\"s1\"}," SOURCES "}"

static int parse(const char *chips_json, struct mb_chips **out, struct mb_err *err)
{
    static char text[8192]; /* must outlive the chips */
    int n = snprintf(text, sizeof text, "{\"schema\":1,\"chips\":[%s]}", chips_json);
    assert_true(n > 0 && (size_t)n < sizeof text);
    static struct mb_embedded file = {"chips/test.json", (const unsigned char *)text, 0};
    file.n = (size_t)n;
    return mb_chips_parse(&file, 1, out, err);
}

static void an_entry_is_read_whole(void **state)
{
    (void)state;
    struct mb_chips *chips = NULL;
    struct mb_err err = {0};
    assert_int_equal(parse(CARD, &chips, &err), MB_OK);
    const struct mb_chip *chip = mb_chip_by_id(chips, "rtx-4090");
    assert_non_null(chip);
    assert_int_equal(chip->kind, MB_CHIP_GPU);
    assert_int_equal(chip->bus_bits, 384);
    assert_true(chip->bandwidth_bytes_per_s.value == 1.008e12);
    assert_int_equal(chip->bandwidth_bytes_per_s.provenance, MB_SPEC);
    assert_string_equal(chip->bandwidth_bytes_per_s.detail, "a document");
    assert_string_equal(chip->link_name, "PCIe 4.0 x16");
    assert_int_equal(chip->link_bytes_per_s.provenance, MB_DERIVED);
    assert_true(chip->link_bytes_per_s.value > 31.5e9 && chip->link_bytes_per_s.value < 31.52e9);
    assert_string_equal(chip->peaks[0].flops_per_s.detail, "dense; a document");
    assert_false(mb_figure_known(&chip->power_idle_w));
    assert_true(chip->power_load_w.value == 450);
    assert_true(chip->capacities_bytes[0] == 24 * MB_GIB);
    mb_chips_close(chips);
}

static void names_match_whole(void **state)
{
    (void)state;
    struct mb_chips *chips = NULL;
    struct mb_err err = {0};
    assert_int_equal(parse(CARD
                           "," SOC("m4-max-32", "32", "410e9") "," SOC("m4-max-40", "40", "546e9"),
                           &chips, &err),
                     MB_OK);
    const struct mb_chip *card = mb_chip_by_id(chips, "rtx-4090");
    assert_ptr_equal(mb_chip_find(chips, "  nvidia geforce rtx 4090\n", NULL), card);
    assert_null(mb_chip_find(chips, "NVIDIA GeForce RTX 4090 Laptop GPU", NULL));
    assert_null(mb_chip_find(chips, "RTX 4090", NULL));
    assert_null(mb_chip_find(chips, "NVIDIA GeForce RTX 409", NULL));
    assert_null(mb_chip_find(chips, "", NULL));
    assert_null(mb_chip_find(chips, NULL, NULL));
    assert_null(mb_chip_find(chips, "Tesla M40", NULL));
    assert_ptr_equal(mb_chip_find(chips, "some driver's name", "10DE:2684"), card);
    assert_ptr_equal(mb_chip_find(chips, NULL, "10de:2684"), card);
    assert_null(mb_chip_find(chips, NULL, "10de:2685"));
    /* One name, two chips: the cores decide, and without them nothing does. */
    assert_null(mb_chip_find(chips, "Apple M4 Max", NULL));
    struct mb_chip_hints hints = {.name = "apple m4 max", .n_gpu_cores = 40};
    assert_string_equal(mb_chip_find_like(chips, &hints)->id, "m4-max-40");
    hints.n_gpu_cores = 32;
    assert_string_equal(mb_chip_find_like(chips, &hints)->id, "m4-max-32");
    hints.n_gpu_cores = 20;
    assert_null(mb_chip_find_like(chips, &hints));
    hints = (struct mb_chip_hints){.name = "Apple M4 Max", .memory_bytes = 48 * MB_GIB};
    assert_null(mb_chip_find_like(chips, &hints));
    mb_chips_close(chips);
}

/* A good entry with one text replaced must be refused, and the refusal must name file, chip and
 * key. */
static void refused(const char *from, const char *to, const char *expect)
{
    char json[4096];
    const char *at = strstr(CARD, from);
    assert_non_null(at);
    snprintf(json, sizeof json, "%.*s%s%s", (int)(at - CARD), CARD, to, at + strlen(from));
    struct mb_chips *chips = NULL;
    struct mb_err err = {0};
    assert_int_equal(parse(json, &chips, &err), MB_EFORMAT);
    assert_null(chips);
    if (!strstr(err.text, expect) || strncmp(err.text, "chips/test.json: ", 17) != 0)
        fail_msg("\"%s\" does not hold \"%s\"", err.text, expect);
}

static void wrong_entries_are_refused(void **state)
{
    (void)state;
    refused("\"vendor\"", "\"vendr\"", "unknown key \"vendr\"; did you mean vendor?");
    refused("\"kind\":\"gpu\"", "\"kind\":\"npu\"",
            "rtx-4090: kind: \"npu\" is none of gpu, soc, cpu");
    refused("10de:2684", "10de2684", "rtx-4090: pci: ");
    refused("21000", "12000", "rtx-4090: memory: bandwidth_bytes_per_s: ");
    refused("[24]", "[]", "capacity_gib");
    refused("[24]", "[-1]", "capacity_gib");
    refused("1.008e12,\"source\":\"s1\"", "1.008e12,\"source\":\"s2\"",
            "memory: source: \"s2\" is not in sources");
    refused("1.008e12,\"source\":\"s1\"", "1.008e12", "memory: source: is missing");
    refused("\"generation\":4", "\"generation\":0", "link: no PCIe link");
    refused("\"f16\"", "\"f61\"", "peak[0]: type");
    refused("450", "-450", "power: load_w");
    struct mb_chips *chips = NULL;
    struct mb_err err = {0};
    assert_int_equal(parse(CARD "," CARD, &chips, &err), MB_EFORMAT);
    assert_non_null(strstr(err.text, "exists already"));
    assert_int_equal(parse("{", &chips, &err), MB_EFORMAT);
    assert_int_equal(parse("{", &chips, NULL), MB_EFORMAT);
    assert_int_equal(parse("1", &chips, &err), MB_EFORMAT);
    assert_non_null(strstr(err.text, "1 elements, of which 0 are objects"));
}

static void limits_of_what_a_gpu_may_use(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    const char *raise = NULL;
    struct mb_figure figure = mb_usable_bytes(MB_USABLE_APPLE_WIRED, 36 * MB_GIB, &arena, &raise);
    assert_true(figure.value == 24 * MB_GIB);
    assert_int_equal(figure.provenance, MB_DERIVED);
    assert_non_null(strstr(raise, "iogpu.wired_limit_mb=28672"));
    assert_true(mb_usable_bytes(MB_USABLE_APPLE_WIRED, 128 * MB_GIB, &arena, &raise).value ==
                96 * MB_GIB);
    assert_true(mb_usable_bytes(MB_USABLE_AMD_GTT, 128 * MB_GIB, &arena, &raise).value ==
                64 * MB_GIB);
    assert_non_null(strstr(raise, "ttm.pages_limit=28835840"));
    assert_non_null(strstr(raise, "amdgpu.gttsize=112640"));
    assert_true(mb_usable_bytes(MB_USABLE_ALL, 128 * MB_GIB, &arena, &raise).value == 128 * MB_GIB);
    assert_null(raise);
    figure = mb_usable_bytes(MB_USABLE_UNKNOWN, 128 * MB_GIB, &arena, &raise);
    assert_false(mb_figure_known(&figure));
    assert_true(mb_pcie_bytes_per_s(7, 16) == 0);
    assert_true(mb_pcie_bytes_per_s(4, 0) == 0);
    assert_true(fabs(mb_pcie_bytes_per_s(1, 1) - 250e6) < 1);
    assert_true(fabs(mb_pcie_bytes_per_s(4, 16) - 31.508e9) < 1e6);
    mb_arena_free(&arena);
}

static void embedded_chips_are_valid(void **state)
{
    (void)state;
    struct mb_chips *chips = NULL;
    struct mb_err err = {0};
    if (mb_chips_parse(mb_embedded_files, mb_embedded_n_files, &chips, &err) != MB_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < mb_chips_count(chips); i++) {
        const struct mb_chip *chip = mb_chips_at(chips, i);
        for (unsigned m = 0; m < chip->n_match; m++) {
            struct mb_chip_hints hints = {chip->match[m], chip->n_pci ? chip->pci[0] : NULL,
                                          chip->n_cpu_cores, chip->n_gpu_cores,
                                          chip->n_capacities ? chip->capacities_bytes[0] : 0};
            if (mb_chip_find_like(chips, &hints) != chip)
                fail_msg("%s is not found by its own name \"%s\"", chip->id, chip->match[m]);
        }
    }
    assert_null(mb_chips_at(chips, mb_chips_count(chips)));
    size_t n = mb_chips_count(chips);
    mb_chips_close(chips);
    /* Reading on demand finds the same. */
    assert_int_equal(mb_chips_open(&chips, &err), MB_OK);
    assert_int_equal(mb_chips_count(chips), n);
    for (size_t i = 0; i < n; i++)
        assert_non_null(mb_chips_at(chips, i));
    mb_chips_close(chips);
    mb_chips_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_is_read_whole),    cmocka_unit_test(names_match_whole),
        cmocka_unit_test(wrong_entries_are_refused), cmocka_unit_test(limits_of_what_a_gpu_may_use),
        cmocka_unit_test(embedded_chips_are_valid),
    };
    return cmocka_run_group_tests_name("chip", tests, NULL, NULL);
}
