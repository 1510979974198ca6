/* SPDX-License-Identifier: MIT */
/* Suite for machines as JSON: what is written reads back to the same, and what people write is
 * checked. */
#include "machine/json.h"
#include "machine/machine.h"
#include "machine/measured.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct mb_machine *parse(const char *text)
{
    struct mb_machine *machine = NULL;
    struct mb_err err = {0};
    if (mb_machine_parse(text, strlen(text), "dir/my.json", &machine, &err) != MB_OK)
        fail_msg("%s", err.text);
    return machine;
}

static void refused(const char *text, const char *expect)
{
    struct mb_machine *machine = NULL;
    struct mb_err err = {0};
    assert_int_equal(mb_machine_parse(text, strlen(text), "my.json", &machine, &err), MB_EFORMAT);
    assert_null(machine);
    if (!strstr(err.text, expect) || strncmp(err.text, "my.json: ", 9) != 0)
        fail_msg("\"%s\" does not hold \"%s\"", err.text, expect);
    assert_int_equal(mb_machine_parse(text, strlen(text), "my.json", &machine, NULL), MB_EFORMAT);
}

/* A machine with everything in it that can be written, built as detection builds one. */
static struct mb_machine *everything(void)
{
    struct mb_machine *machine = mb_machine_new(MB_ORIGIN_DETECTED);
    struct mb_arena *arena = mb_machine_arena(machine);
    struct mb_pool ram = {.id = "ram", .name = "DDR5-6000, 2 channels", .kind = MB_POOL_SYSTEM};
    struct mb_pool vram = {
        .id = "vram0", .name = "a \"card\"", .kind = MB_POOL_VRAM, .raise = "cannot be raised"};
    ram.capacity_bytes = mb_figure_of(67108864.0 * 1000, MB_REPORTED, "/proc/meminfo MemTotal");
    ram.installed_bytes = mb_figure_of(64 * MB_GIB, MB_REPORTED, "SMBIOS: type 17");
    ram.free_bytes = mb_figure_of(123456789012345, MB_REPORTED, NULL);
    ram.bandwidth_spec_bytes_per_s = mb_figure_of(96e9, MB_DERIVED, "2 * 8 bytes * 6000 MT/s");
    vram.capacity_bytes = mb_figure_of(24 * MB_GIB, MB_REPORTED, "driver");
    vram.free_bytes = mb_figure_of(0, MB_REPORTED, "driver");
    mb_machine_add_pool(machine, &ram);
    mb_machine_add_pool(machine, &vram);
    struct mb_processor cpu = {
        .id = "cpu", .name = "a CPU", .n_cores = 8, .n_threads = 16, .n_numa_nodes = 1};
    cpu.simd = "avx2";
    cpu.cache_bytes[0] = 32768;
    cpu.cache_bytes[2] = 32 << 20;
    struct mb_processor gpu = {
        .id = "gpu0", .kind = MB_PROCESSOR_GPU, .pci = "0000:01:00.0", .driver = "nvml 570"};
    gpu.power_limit_w = mb_figure_of(449.7, MB_REPORTED, "nvml");
    mb_machine_add_processor(machine, &cpu);
    mb_machine_add_processor(machine, &gpu);
    mb_machine_add_read(machine, 0, 0, (struct mb_figure){0});
    mb_machine_add_read(machine, 1, 1, mb_figure_of(1008e9, MB_SPEC, "data sheet"));
    mb_machine_add_peak(machine, 1, "f16", mb_figure_of(165.2e12, MB_SPEC, "data sheet"));
    struct mb_link link = {.to = 1,
                           .name = "PCIe 4.0 x16",
                           .bytes_per_s = mb_figure_of(28.8e9 / 3, MB_DERIVED, "payload")};
    mb_machine_add_link(machine, &link);
    struct mb_price *price = mb_arena_alloc(arena, sizeof *price);
    *price = (struct mb_price){1999.99, "USD", "2025-10", "new", "a shop"};
    machine->price = price;
    machine->name = "this machine";
    machine->os = "Linux 6.1, x86_64";
    machine->fingerprint = "0123abcd";
    machine->power_load_w = mb_figure_of(600, MB_SPEC, "wall");
    mb_machine_add_note(machine, "a note");
    struct mb_measurement *measurement = mb_arena_alloc(arena, sizeof *measurement);
    *measurement = (struct mb_measurement){.date = "2026-11-23T01:19:43Z",
                                           .version = "0.1.0",
                                           .age_s = 3.5 * 86400,
                                           .took_s = 1.0 / 3};
    measurement->series = mb_arena_array(arena, 4, sizeof *measurement->series);
    measurement->n_series = 4;
    measurement->series[0] = (struct mb_measured){
        .kind = MB_MEASURED_READ, .n_threads = 1, .bytes_per_s = 40e9 / 3, .method = "avx2 loads"};
    measurement->series[1] = (struct mb_measured){.kind = MB_MEASURED_READ,
                                                  .n_threads = 2,
                                                  .bytes_per_s = 59.3e9,
                                                  .method = "avx2 loads",
                                                  .levels = {{59.3e9, 0.9}, {40e9, 0.1}},
                                                  .n_levels = 2,
                                                  .spread = 0.1,
                                                  .n_samples = 40};
    measurement->series[2] = (struct mb_measured){.kind = MB_MEASURED_COPY,
                                                  .processor = 1,
                                                  .pool = 1,
                                                  .pool_to = 0,
                                                  .bytes_per_s = 25e9,
                                                  .latency_s = 9e-6};
    measurement->series[3] = (struct mb_measured){.kind = MB_MEASURED_READ,
                                                  .processor = 1,
                                                  .pool = 1,
                                                  .bytes_per_s = 5e12,
                                                  .rejected = "a cache, not memory"};
    assert_int_equal(mb_machine_apply_measurement(machine, measurement), MB_OK);
    return machine;
}

static json_t *json_of(const struct mb_machine *machine)
{
    char *text = NULL;
    struct mb_err err = {0};
    assert_int_equal(mb_machine_json(machine, &text, &err), MB_OK);
    json_t *root = mb_json_parse(text, strlen(text), "text", &err);
    assert_non_null(root);
    mb_text_free(text);
    return root;
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    char path[] = "/tmp/membound-test-XXXXXX";
    close(mkstemp(path));
    struct mb_machine *machine = everything(), *again = NULL;
    struct mb_err err = {0};
    assert_int_equal(mb_machine_save(machine, path, &err), MB_OK);
    if (mb_machine_read(path, &again, &err) != MB_OK)
        fail_msg("%s", err.text);
    assert_int_equal(again->origin, MB_ORIGIN_FILE);
    json_t *first = json_of(machine), *second = json_of(again);
    assert_string_equal(json_string_value(json_object_get(first, "origin")), "detected");
    json_object_set_new(first, "origin", json_string("file"));
    if (!json_equal(first, second)) {
        char *a = json_dumps(first, JSON_INDENT(1)), *b = json_dumps(second, JSON_INDENT(1));
        size_t at = strspn(a, "");
        while (a[at] == b[at])
            at++;
        fail_msg("differs at: %.200s\n--- and ---\n%.200s", a + at, b + at);
    }
    json_decref(first);
    json_decref(second);
    mb_machine_free(machine);
    mb_machine_free(again);
    unlink(path);
}

static void keys_are_the_documented_ones(void **state)
{
    (void)state;
    struct mb_machine *machine = everything();
    json_t *root = json_of(machine);
    const json_t *ram = json_array_get(json_object_get(root, "pools"), 0);
    assert_string_equal(json_string_value(json_object_get(root, "class")), "gpu");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(ram, "sources"), "capacity_bytes")),
        "reported: /proc/meminfo MemTotal");
    assert_true(json_is_null(json_object_get(ram, "usable_bytes")));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(ram, "bandwidth"), "provenance")),
        "measured");
    const json_t *series = json_object_get(json_object_get(root, "measurement"), "series");
    assert_string_equal(json_string_value(json_object_get(json_array_get(series, 2), "pool_to")),
                        "ram");
    assert_string_equal(json_string_value(json_object_get(json_array_get(series, 3), "rejected")),
                        "a cache, not memory");
    json_decref(root);
    mb_machine_free(machine);
}

static void a_measurement_becomes_the_machines_figures(void **state)
{
    (void)state;
    struct mb_machine *machine = everything();
    const struct mb_figure *read = &machine->processors[0].reads[0].bytes_per_s;
    assert_true(read->value == 59.3e9);
    assert_int_equal(read->provenance, MB_MEASURED);
    assert_string_equal(read->detail,
                        "2 threads, avx2 loads, 3 days ago with membound 0.1.0");
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == 59.3e9);
    assert_true(machine->pools[0].bandwidth_spec_bytes_per_s.value == 96e9);
    /* Rejected: the spec stays. */
    assert_int_equal(machine->processors[1].reads[0].bytes_per_s.provenance, MB_SPEC);
    /* The other direction had no link. */
    assert_int_equal(machine->n_links, 2);
    assert_int_equal(machine->links[1].from, 1);
    assert_true(machine->links[1].latency_s.value == 9e-6);
    assert_int_equal(machine->links[0].bytes_per_s.provenance, MB_DERIVED);
    /* Series of parts that the machine lacks change nothing. */
    struct mb_measured strange[] = {
        {.kind = MB_MEASURED_READ, .processor = 9, .bytes_per_s = 1e12},
        {.kind = MB_MEASURED_READ, .pool = UINT32_MAX, .bytes_per_s = 1e12},
        {.kind = MB_MEASURED_COPY, .pool = 0, .pool_to = 7, .bytes_per_s = 1e12},
        {.kind = MB_MEASURED_COPY, .pool = 0, .pool_to = 0, .bytes_per_s = 1e12}};
    struct mb_measurement measurement = {.series = strange, .n_series = 4};
    assert_int_equal(mb_machine_apply_measurement(machine, &measurement), MB_OK);
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == 59.3e9);
    assert_int_equal(machine->n_links, 2);
    json_t *root = json_of(machine);
    const json_t *series = json_object_get(json_object_get(root, "measurement"), "series");
    assert_true(json_is_null(json_object_get(json_array_get(series, 0), "processor")));
    json_decref(root);
    mb_machine_free(machine);
}

static void a_few_lines_are_enough(void **state)
{
    (void)state;
    struct mb_machine *machine =
        parse("{\"pools\":[{\"kind\":\"unified\",\"capacity\":\"128 GB\",\"bandwidth\":273e9}]}");
    assert_string_equal(machine->name, "my.json");
    assert_int_equal(machine->machine_class, MB_CLASS_DEDICATED);
    assert_string_equal(machine->pools[0].id, "unified");
    assert_true(machine->pools[0].capacity_bytes.value == 128 * MB_GIB);
    assert_string_equal(machine->pools[0].capacity_bytes.detail, "dir/my.json");
    assert_int_equal(machine->pools[0].bandwidth_bytes_per_s.provenance, MB_SPEC);
    assert_int_equal(machine->n_processors, 2);
    assert_false(mb_figure_known(&machine->processors[0].reads[0].bytes_per_s));
    assert_true(machine->processors[1].reads[0].bytes_per_s.value == 273e9);
    assert_true(machine->processors[1].integrated);
    mb_machine_free(machine);

    machine = parse(
        "{\"name\":\"x\",\"pools\":[{\"kind\":\"vram\",\"capacity\":\"24 GB\",\"bandwidth\":936e9},"
        "{\"kind\":\"vram\",\"capacity_bytes\":25769803776,\"id\":\"vram1\"},{\"kind\":\"vram\",\"capacity\":\"24\"},"
        "{\"kind\":\"system\",\"capacity\":\"64 GB\",\"bandwidth\":{\"bytes_per_s\":80e9}}]}");
    assert_string_equal(machine->pools[0].id, "vram0");
    assert_string_equal(machine->pools[2].id, "vram2");
    assert_string_equal(machine->pools[3].id, "ram");
    assert_int_equal(machine->n_processors, 4);
    assert_string_equal(machine->processors[2].id, "gpu2");
    assert_string_equal(machine->processors[3].id, "cpu");
    assert_int_equal(machine->processors[3].reads[0].pool, 3);
    assert_int_equal(machine->pools[0].usable_bytes.provenance, MB_DERIVED);
    assert_int_equal(machine->machine_class, MB_CLASS_GPU);
    mb_machine_free(machine);

    machine = parse(
        "{\"pools\":[{\"kind\":\"system\",\"capacity\":\"8\",\"bandwidth\":30e9,\"bandwidth_spec\":50e9}]}");
    assert_true(machine->pools[0].bandwidth_spec_bytes_per_s.value == 50e9);
    mb_machine_free(machine);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    refused("{", "line 1");
    refused("[]", "not an object");
    refused("{}", "pools: is missing");
    refused("{\"pools\":[]}", "pools: is empty");
    refused("{\"pools\":[{\"kind\":\"vram\"}]}", "pools[0]: capacity: is missing");
    refused("{\"pools\":[{\"capacity\":\"1\"}]}", "pools[0]: kind: is missing");
    refused("{\"pools\":[{\"kind\":\"sram\",\"capacity\":\"1\"}]}",
            "\"sram\" is none of system, vram, unified");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"0\"}]}", "is no size");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"-4 GB\"}]}", "is no size");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity_bytes\":0}]}",
            "capacity_bytes: 0 is not in");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity_bytes\":-1}]}",
            "capacity_bytes: -1 is not in");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity_bytes\":1e300}]}", "capacity_bytes");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\",\"bandwith\":1}]}",
            "unknown key \"bandwith\"; did you mean bandwidth?");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\",\"bandwidth\":0}]}",
            "bandwidth: 0 is not in");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\",\"bandwidth\":\"fast\"}]}",
            "bandwidth: not an object");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\",\"id\":\"A B\"}]}", "id: ");
    refused(
        "{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\",\"id\":\"a\"},{\"kind\":\"vram\",\"capacity\":\"1\",\"id\":\"a\"}]}",
        "given twice");
    refused(
        "{\"pools\":[{\"kind\":\"vram\",\"capacity_bytes\":5,\"sources\":{\"capacity_bytes\":\"guessed: me\"}}]}",
        "does not begin with");
    refused(
        "{\"pools\":[{\"kind\":\"vram\",\"capacity_bytes\":5,\"sources\":{\"capacity\":\"spec\"}}]}",
        "sources: unknown key");
    refused(
        "{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\"}],\"links\":[{\"from\":\"ram\",\"to\":\"vram0\"}]}",
        "links[0]: from: no pool");
    refused(
        "{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\"}],\"links\":[{\"from\":\"vram0\",\"to\":\"vram0\"}]}",
        "same pool");
    refused(
        "{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\"}],\"processors\":[{\"kind\":\"gpu\"}]}",
        "processors[0]: reads: is missing");
    refused(
        "{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\"}],\"measurement\":{\"series\":[{\"kind\":\"read\",\"pool\":\"x\"}]}}",
        "measurement: series[0]: pool: the machine has no \"x\"");
    refused(
        "{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\"}],\"price\":{\"amount\":1,\"currency\":\"dollar\"}}",
        "price: currency");
    refused("{\"pools\":[{\"kind\":\"vram\",\"capacity\":\"1\"}],\"name\":\"a\",\"name\":\"b\"}",
            "duplicate");
}

static void files_are_bounded(void **state)
{
    (void)state;
    struct mb_machine *machine = NULL;
    struct mb_err err = {0};
    char path[] = "/tmp/membound-test-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(ftruncate(fd, (4 << 20) + 1), 0);
    close(fd);
    assert_int_equal(mb_machine_read(path, &machine, &err), MB_EFORMAT);
    assert_non_null(strstr(err.text, "4 MiB"));
    unlink(path);
    assert_int_equal(mb_machine_read(path, &machine, &err), MB_ENOENT);
    assert_int_equal(mb_machine_read("/tmp", &machine, &err), MB_EIO);
    machine = everything();
    assert_int_equal(mb_machine_save(machine, "/nowhere/at/all.json", &err), MB_EWRITE);
    mb_machine_free(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(keys_are_the_documented_ones),
        cmocka_unit_test(a_measurement_becomes_the_machines_figures),
        cmocka_unit_test(a_few_lines_are_enough),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(files_are_bounded),
    };
    return cmocka_run_group_tests_name("machine_json", tests, NULL, NULL);
}
