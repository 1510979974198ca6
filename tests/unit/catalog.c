/* SPDX-License-Identifier: MIT */
/* Suite for src/catalog: the data that is built in, finding by name, the order of the list, and
 * refusing wrong entries. */
#include "catalog/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct mb_machine *find(const char *name)
{
    struct mb_machine *machine = NULL;
    struct mb_err err = {0};
    if (mb_machine_catalog(name, &machine, &err) != MB_OK)
        fail_msg("%s", err.text);
    return machine;
}

static void all_data_are_valid(void **state)
{
    (void)state;
    struct mb_err err = {0};
    if (mb_catalog_check(mb_embedded_files, mb_embedded_n_files, &err) != MB_OK)
        fail_msg("%s", err.text);
}

static const struct mb_processor *gpu_of(const struct mb_machine *machine)
{
    for (unsigned i = 0; i < machine->n_processors; i++)
        if (machine->processors[i].kind == MB_PROCESSOR_GPU)
            return machine->processors + i;
    return NULL;
}

static void known(const struct mb_machine *machine, const struct mb_figure *figure,
                  const char *what)
{
    if (!mb_figure_known(figure) || figure->value <= 0 || !figure->detail || !*figure->detail)
        fail_msg("%s: %s has no figure or no source", machine->name, what);
}

static void every_machine_holds_together(void **state)
{
    (void)state;
    struct mb_catalog_row *rows = NULL;
    size_t n = 0;
    assert_int_equal(mb_catalog_rows(&rows, &n, NULL), MB_OK);
    assert_true(n >= 40);
    for (size_t i = 0; i < n; i++) {
        struct mb_machine *machine = find(rows[i].name);
        assert_string_equal(machine->name, rows[i].name);
        assert_int_equal(machine->origin, MB_ORIGIN_CATALOG);
        assert_int_equal(machine->machine_class, rows[i].machine_class);
        assert_non_null(machine->os);
        assert_true(machine->n_pools >= 1 && machine->n_processors >= 1);
        assert_int_equal(rows[i].desirability, i + 1);
        for (unsigned p = 0; p < machine->n_pools; p++) {
            const struct mb_pool *pool = machine->pools + p;
            known(machine, &pool->capacity_bytes, "capacity");
            known(machine, &pool->bandwidth_bytes_per_s, "bandwidth");
            known(machine, &pool->bandwidth_spec_bytes_per_s, "bandwidth");
            assert_false(mb_figure_known(&pool->free_bytes));
            assert_true(pool->bandwidth_bytes_per_s.value > 20e9 &&
                        pool->bandwidth_bytes_per_s.value < 2e13);
            if (pool->kind != MB_POOL_SYSTEM) {
                known(machine, &pool->usable_bytes, "usable size");
                assert_true(pool->usable_bytes.value <= pool->capacity_bytes.value);
                assert_non_null(gpu_of(machine));
            }
        }
        for (unsigned l = 0; l < machine->n_links; l++) {
            assert_int_not_equal(machine->links[l].from, machine->links[l].to);
            known(machine, &machine->links[l].bytes_per_s, "link");
        }
        mb_machine_free(machine);
        if (i == 0)
            continue;
        int cpu = rows[i].machine_class == MB_CLASS_CPU,
            cpu_before = rows[i - 1].machine_class == MB_CLASS_CPU;
        assert_true(cpu_before <= cpu);
        if (cpu == cpu_before)
            assert_true(rows[i - 1].fast_bytes > rows[i].fast_bytes ||
                        (rows[i - 1].fast_bytes == rows[i].fast_bytes &&
                         rows[i - 1].bandwidth_bytes_per_s >= rows[i].bandwidth_bytes_per_s));
    }
    mb_catalog_rows_free(rows);
    mb_catalog_rows_free(NULL);
}

/* Is there an entry whose name holds the text? */
static int listed(const struct mb_catalog_row *rows, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (strstr(rows[i].name, text))
            return 1;
    return 0;
}

static void the_machines_that_people_ask_for_exist(void **state)
{
    (void)state;
    static const char *const names[] = {"MacBook Pro M1 Pro",
                                        "MacBook Pro M1 Max",
                                        "MacBook Pro M2 Pro",
                                        "MacBook Pro M2 Max",
                                        "MacBook Pro M3 ",
                                        "MacBook Pro M3 Pro",
                                        "MacBook Pro M3 Max",
                                        "MacBook Pro M4 ",
                                        "MacBook Pro M4 Pro",
                                        "MacBook Pro M4 Max",
                                        "MacBook Pro M5",
                                        "Mac mini M4 ",
                                        "Mac mini M4 Pro",
                                        "Mac Studio M1 Ultra",
                                        "Mac Studio M2 Ultra",
                                        "Mac Studio M3 Ultra",
                                        "Mac Studio M4 Max",
                                        "PC RTX 3090, 64 GB",
                                        "PC RTX 3090, 128 GB",
                                        "PC RTX 4090, 64 GB",
                                        "PC RTX 4090, 128 GB",
                                        "PC RTX 5090, 64 GB",
                                        "PC RTX 5090, 128 GB",
                                        "PC RTX PRO 6000, 64",
                                        "PC RTX PRO 6000, 128",
                                        "AMD Max+ 395 64 GB",
                                        "AMD Max+ 395 96 GB",
                                        "AMD Max+ 395 128 GB",
                                        "DGX Spark"};
    struct mb_catalog_row *rows = NULL;
    size_t n = 0;
    assert_int_equal(mb_catalog_rows(&rows, &n, NULL), MB_OK);
    for (size_t i = 0; i < MB_COUNT(names); i++)
        if (!listed(rows, n, names[i]))
            fail_msg("no machine \"%s...\"", names[i]);
    mb_catalog_rows_free(rows);
}

static void machines_are_composed_from_chips(void **state)
{
    (void)state;
    struct mb_machine *machine = find("DGX Spark");
    assert_int_equal(machine->machine_class, MB_CLASS_DEDICATED);
    assert_int_equal(machine->n_pools, 1);
    assert_int_equal(machine->pools[0].kind, MB_POOL_UNIFIED);
    assert_true(machine->pools[0].capacity_bytes.value == 128 * MB_GIB);
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == 273e9);
    assert_int_equal(machine->pools[0].bandwidth_bytes_per_s.provenance, MB_SPEC);
    assert_int_equal(machine->n_processors, 2);
    assert_int_equal(machine->processors[1].kind, MB_PROCESSOR_GPU);
    assert_true(machine->processors[1].integrated);
    mb_machine_free(machine);

    machine = find("PC RTX 4090, 64 GB DDR5");
    assert_int_equal(machine->machine_class, MB_CLASS_GPU);
    assert_int_equal(machine->n_pools, 2);
    assert_string_equal(machine->pools[0].id, "ram");
    assert_string_equal(machine->pools[1].id, "vram0");
    assert_true(machine->pools[1].bandwidth_bytes_per_s.value == 1008e9);
    assert_int_equal(machine->pools[0].bandwidth_bytes_per_s.provenance, MB_DERIVED);
    assert_int_equal(machine->n_links, 2);
    assert_string_equal(machine->links[0].name, "PCIe 4.0 x16");
    assert_int_equal(machine->links[0].bytes_per_s.provenance, MB_DERIVED);
    /* RAM is behind the link: the card does not read it. */
    assert_int_equal(gpu_of(machine)->n_reads, 1);
    mb_machine_free(machine);

    machine = find("MacBook Pro M4 Max 128 GB");
    assert_int_equal(machine->machine_class, MB_CLASS_DEDICATED);
    assert_true(machine->pools[0].usable_bytes.value == 96 * MB_GIB);
    assert_non_null(strstr(machine->pools[0].raise, "iogpu.wired_limit_mb"));
    mb_machine_free(machine);

    machine = find("AMD Max+ 395 128 GB");
    assert_true(machine->pools[0].usable_bytes.value == 64 * MB_GIB);
    assert_non_null(strstr(machine->pools[0].raise, "ttm.pages_limit"));
    mb_machine_free(machine);

    machine = find("PC 2x RTX 3090, 64 GB DDR5");
    assert_int_equal(machine->n_pools, 3);
    assert_string_equal(machine->pools[2].id, "vram1");
    assert_int_equal(machine->n_links, 4);
    mb_machine_free(machine);
}

static void not_found(const char *name, const char *expect, const char *never)
{
    struct mb_machine *machine = NULL;
    struct mb_err err = {0};
    assert_int_equal(mb_machine_catalog(name, &machine, &err), MB_ENAME);
    assert_null(machine);
    if (!strstr(err.text, expect) || (never && strstr(err.text, never)) ||
        !strstr(err.text, "membound machine --list"))
        fail_msg("\"%s\": %s", name, err.text);
    assert_int_equal(mb_machine_catalog(name, &machine, NULL), MB_ENAME);
}

static void names_are_found_as_people_type_them(void **state)
{
    (void)state;
    static const char *const same[][2] = {{"dgx spark", "DGX Spark"},
                                          {"dgxspark", "DGX Spark"},
                                          {"Max+ 395, 96 GB", "AMD Max+ 395 96 GB"},
                                          {"pc rtx4090 128gb", "PC RTX 4090, 128 GB DDR5"},
                                          {"studio m3 ultra 512", "Mac Studio M3 Ultra 512 GB"}};
    for (size_t i = 0; i < MB_COUNT(same); i++) {
        struct mb_machine *machine = find(same[i][0]);
        assert_string_equal(machine->name, same[i][1]);
        mb_machine_free(machine);
    }
    not_found("DGX Sprak", "no machine \"DGX Sprak\" in the catalog; did you mean DGX Spark", NULL);
    not_found("RTX 4090", "PC RTX 4090, 64 GB DDR5; PC RTX 4090, 128 GB DDR5", NULL);
    not_found("Mac mini M4", "Mac mini M4 Pro 24 GB", "M40");
    not_found("Tesla M40", "no machine \"Tesla M40\"", "M4 ");
    not_found("M4", "and ", NULL);
    not_found("", "no machine", "did you mean");
    not_found(" - ", "no machine", NULL);
    char longer[2000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    not_found(longer, "no machine", NULL);
}

#define CHIPS                                                                                                              \
    "{\"schema\":1,\"chips\":[{\"id\":\"soc\",\"kind\":\"soc\",\"name\":\"A SoC\",\"vendor\":\"V\",\"match\":[\"A SoC\"]," \
    "\"memory\":{\"capacity_gib\":[16,32],\"bandwidth_bytes_per_s\":1e11,\"source\":\"s\"},\"sources\":{\"s\":\"doc\"}},"  \
    "{\"id\":\"cpu\",\"kind\":\"cpu\",\"name\":\"A CPU\",\"vendor\":\"V\",\"match\":[\"A CPU\"],\"cpu\":{\"cores\":8},"    \
    "\"memory\":{\"type\":\"DDR5\",\"channels\":2,\"mega_transfers_per_s\":5600,\"source\":\"s\"},\"sources\":{\"s\":\"doc\"}}]}"
#define MACHINE                                                                                                                           \
    "{\"name\":\"Box 16\",\"aliases\":[\"Case 16\"],\"family\":\"box\",\"released\":null,\"os\":[\"Linux\"],"                             \
    "\"chips\":[{\"chip\":\"soc\",\"count\":1,\"memory_gib\":16}],\"ram\":null,\"power\":{\"idle_w\":5,\"load_w\":50,\"source\":\"s1\"}," \
    "\"price\":{\"amount\":999,\"currency\":\"USD\",\"date\":\"2025-10\",\"condition\":\"new\",\"source\":\"s1\"},\"sources\":{\"s1\":\"a shop\"}}"
#define TOWER                                                                                                             \
    "{\"name\":\"Tower\",\"family\":\"tower\",\"os\":[\"Linux\",\"Windows\"],\"chips\":[{\"chip\":\"cpu\",\"count\":1}]," \
    "\"ram\":{\"type\":\"DDR5\",\"channels\":2,\"mega_transfers_per_s\":6000,\"capacity_gib\":64,\"source\":\"s1\"},\"sources\":{\"s1\":\"kit\"}}"

static int load(const char *machines, struct mb_catalog_row **rows, size_t *n, struct mb_err *err)
{
    char text[4096];
    int length = snprintf(text, sizeof text, "{\"schema\":1,\"machines\":[%s]}", machines);
    struct mb_embedded files[] = {{"chips/c.json", (const unsigned char *)CHIPS, sizeof CHIPS - 1},
                                  {"machines/m.json", (const unsigned char *)text, (size_t)length}};
    int code = mb_catalog_check(files, 2, err);
    return code ? code : mb_catalog_list(files, 2, rows, n, err);
}

static void entries_become_rows(void **state)
{
    (void)state;
    struct mb_catalog_row *rows = NULL;
    size_t n = 0;
    struct mb_err err = {0};
    if (load(TOWER "," MACHINE, &rows, &n, &err) != MB_OK)
        fail_msg("%s", err.text);
    assert_int_equal(n, 2);
    /* 16 GB that a GPU reads go before 64 GB that none reads. */
    assert_string_equal(rows[0].name, "Box 16");
    assert_true(rows[0].price.amount == 999);
    assert_string_equal(rows[0].price.source, "a shop");
    assert_string_equal(rows[1].name, "Tower");
    assert_true(rows[1].fast_bytes == 64 * MB_GIB);
    assert_true(rows[1].bandwidth_bytes_per_s == 96e9);
    assert_null(rows[1].price.currency);
    mb_catalog_rows_free(rows);
}

static void refused(const char *machine, const char *from, const char *to, const char *expect)
{
    char json[2048];
    const char *at = strstr(machine, from);
    assert_non_null(at);
    snprintf(json, sizeof json, "%.*s%s%s", (int)(at - machine), machine, to, at + strlen(from));
    struct mb_catalog_row *rows = NULL;
    size_t n = 0;
    struct mb_err err = {0};
    assert_int_equal(load(json, &rows, &n, &err), MB_EFORMAT);
    if (!strstr(err.text, expect) || strncmp(err.text, "machines/m.json: ", 17) != 0)
        fail_msg("\"%s\" does not hold \"%s\"", err.text, expect);
}

static void wrong_entries_are_refused(void **state)
{
    (void)state;
    refused(MACHINE, "\"soc\"", "\"sock\"", "Box 16: chips[0]: chip: no chip has the id \"sock\"");
    refused(MACHINE, "\"memory_gib\":16", "\"memory_gib\":24",
            "memory_gib: soc is not sold with that size");
    refused(MACHINE, "\"memory_gib\":16", "\"memory_gib\":null", "memory_gib");
    refused(MACHINE, "\"count\":1", "\"count\":2", "count");
    refused(MACHINE, "\"count\":1", "\"count\":0", "count: is 0");
    refused(MACHINE, "\"price\"", "\"prise\"", "unknown key \"prise\"; did you mean price?");
    refused(MACHINE, "\"USD\"", "\"usd\"", "price: currency");
    refused(MACHINE, "2025-10", "October", "price: date");
    refused(MACHINE, "\"new\"", "\"used\"", "price: condition");
    refused(MACHINE, "\"idle_w\":5,", "\"idle_w\":55,", "power: idle_w: more than load_w");
    refused(MACHINE, "\"source\":\"s1\"", "\"source\":\"s9\"", "source: \"s9\" is not in sources");
    refused(MACHINE, "\"os\":[\"Linux\"]", "\"os\":null", "os: is missing");
    refused(MACHINE, "\"ram\":null",
            "\"ram\":{\"type\":\"DDR5\",\"channels\":2,\"mega_transfers_per_s\":6000,"
            "\"capacity_gib\":64,\"source\":\"s1\"}",
            "memory_gib");
    refused(TOWER, "\"channels\":2", "\"channels\":4", "ram: channels: 4, but 1 x cpu has 2");
    refused(TOWER, "\"ram\"", "\"note\"", "ram: is missing");
    refused(TOWER "," MACHINE, "\"Case 16\"", "\"tower\"", "also means Box 16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_data_are_valid),
        cmocka_unit_test(every_machine_holds_together),
        cmocka_unit_test(the_machines_that_people_ask_for_exist),
        cmocka_unit_test(machines_are_composed_from_chips),
        cmocka_unit_test(names_are_found_as_people_type_them),
        cmocka_unit_test(entries_become_rows),
        cmocka_unit_test(wrong_entries_are_refused),
    };
    return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
