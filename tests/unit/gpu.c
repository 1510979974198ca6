/* SPDX-License-Identifier: MIT */
/* Suite for src/gpu. Recorded lists need nothing; what needs a Vulkan device is skipped, and said
 * so, where there is none. */
#include "gpu/vk_list.h"
#include "gpu/vk_measure.h"
#ifdef MB_HAVE_VULKAN
#include "gpu/vk_device.h"
#endif

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif

#ifdef HAVE_ASAN
/* Drivers keep memory in statics; once they are unloaded LeakSanitizer takes that for a leak of
 * ours. So under it nothing is unloaded. */
int dlclose(void *library);
int dlclose(void *library)
{
    (void)library;
    return 0;
}
#endif

static const char good[] =
    "{\"devices\":[{\"name\":\"Radeon 8060S\",\"vendor_id\":4098,\"device_id\":5510,"
    "\"type\":\"integrated\","
    "\"driver\":\"radv\",\"api\":\"1.4.305\",\"pci\":\"0000:c5:00.0\",\"heaps\":["
    "{\"size_bytes\":42949672960,\"device_local\":false,"
    "\"budget_bytes\":null,\"usage_bytes\":null},"
    "{\"size_bytes\":85899345920,\"device_local\":true,"
    "\"budget_bytes\":99999999999,\"usage_bytes\":4096}],"
    "\"memory_types\":[{\"heap\":1,\"flags\":[\"device_local\",\"host_visible\"]}]}]}";

/* A copy of exactly n bytes, so that a read past the end is a fault. */
static int list_text(struct mb_arena *arena, const char *text, struct mb_vk_info **out, unsigned *n,
                     struct mb_err *err)
{
    size_t length = strlen(text);
    char *copy = malloc(length ? length : 1);
    memcpy(copy, text, length);
    int code = mb_vk_list_json(arena, copy, length, "recording", out, n, err);
    free(copy);
    return code;
}

static void recorded_device_is_read(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    struct mb_vk_info *list = NULL;
    unsigned n = 0;
    struct mb_err err;
    assert_int_equal(list_text(&arena, good, &list, &n, &err), MB_OK);
    assert_int_equal(n, 1);
    assert_string_equal(list->name, "Radeon 8060S");
    assert_string_equal(list->type, "integrated");
    assert_string_equal(list->pci, "0000:c5:00.0");
    assert_int_equal(list->vendor_id, 0x1002);
    assert_int_equal(list->n_heaps, 2);
    assert_false(list->unified);
    assert_false(list->heaps[0].has_budget);
    assert_true(list->heaps[1].has_budget);
    assert_true(list->heaps[1].budget_bytes == list->heaps[1].size_bytes);
    assert_true(list->heaps[1].usage_bytes == 4096);
    mb_arena_free(&arena);
}

/* The good recording with one part replaced. */
static int list_changed(const char *from, const char *to, struct mb_err *err)
{
    char text[2 * sizeof good];
    const char *at = strstr(good, from);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    struct mb_arena arena = {0};
    struct mb_vk_info *list = NULL;
    unsigned n = 0;
    int code = list_text(&arena, text, &list, &n, err);
    if (code != MB_OK)
        assert_null(list);
    mb_arena_free(&arena);
    return code;
}

static void broken_recordings_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *names;
    } cases[] = {
        {"{\"devices\"", "{\"machines\"", "devices"},
        {"\"name\":\"Radeon 8060S\"", "\"name\":7", "devices[0]: name"},
        {"\"name\":\"Radeon 8060S\"", "\"nom\":\"Radeon\"", "devices[0]: unknown key"},
        {"Radeon 8060S", "", "devices[0]: name"},
        {"Radeon 8060S", "a\\u0000b", "column"},
        {"4098", "4294967296", "devices[0]: vendor_id"},
        {"4098", "-1", "devices[0]: vendor_id"},
        {"\"integrated\"", "\"quantum\"", "devices[0]: type"},
        {"\"integrated\"", "null", "devices[0]: type"},
        {"0000:c5:00.0", "0000:c5:00,0", "devices[0]: pci"},
        {"0000:c5:00.0", "../../../etc/passwd", "devices[0]: pci"},
        {"42949672960", "0", "heaps[0]: size_bytes"},
        {"42949672960", "null", "heaps[0]: size_bytes"},
        {"42949672960", "-5", "heaps[0]: size_bytes"},
        {"42949672960", "1e300", "heaps[0]: size_bytes"},
        {"42949672960", "9223372036854775807", "heaps[0]: size_bytes"},
        {"99999999999", "\"all\"", "heaps[1]: budget_bytes"},
        {"\"device_local\":false", "\"device_local\":1", "heaps[0]: device_local"},
        {"{\"heap\":1", "{\"heap\":2", "memory_types[0]: heap"},
        {"{\"heap\":1,", "{", "memory_types[0]: heap"},
        {"\"host_visible\"", "[]", "memory_types[0]: flags"},
        {"]}]}", "]}]", "line"},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct mb_err err = {0};
        assert_int_equal(list_changed(cases[i].from, cases[i].to, &err), MB_EFORMAT);
        assert_int_equal(err.code, MB_EFORMAT);
        assert_non_null(strstr(err.text, cases[i].names));
        assert_int_equal(list_changed(cases[i].from, cases[i].to, NULL), MB_EFORMAT);
    }
    struct mb_err err;
    assert_int_equal(list_changed("\"0000:c5:00.0\"", "null", &err), MB_OK);
    assert_int_equal(list_changed("0000:c5:00.0", "10000:c5:00.0", &err), MB_OK);
}

static void counts_in_recordings_are_bounded(void **state)
{
    (void)state;
    char text[65536];
    size_t n = (size_t)snprintf(text, sizeof text,
                                "{\"devices\":[{\"name\":\"x\",\"type\":\"cpu\",\"heaps\":[");
    for (unsigned i = 0; i < 17; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "%s{\"size_bytes\":1,\"device_local\":true}", i ? "," : "");
    snprintf(text + n, sizeof text - n, "]}]}");
    struct mb_arena arena = {0};
    struct mb_vk_info *list = NULL;
    unsigned n_list = 0;
    struct mb_err err;
    assert_int_equal(list_text(&arena, text, &list, &n_list, &err), MB_EFORMAT);
    n = (size_t)snprintf(text, sizeof text, "{\"devices\":[");
    for (unsigned i = 0; i < 65; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%snull", i ? "," : "");
    snprintf(text + n, sizeof text - n, "]}");
    assert_int_equal(list_text(&arena, text, &list, &n_list, &err), MB_EFORMAT);
    assert_int_equal(list_text(&arena, "{\"devices\":[null]}", &list, &n_list, &err), MB_EFORMAT);
    assert_int_equal(list_text(&arena, "{\"devices\":[]}", &list, &n_list, &err), MB_ENOHW);
    assert_int_equal(list_text(&arena, "[]", &list, &n_list, &err), MB_EFORMAT);
    assert_int_equal(list_text(&arena, "", &list, &n_list, &err), MB_EFORMAT);
    assert_null(list);
    mb_arena_free(&arena);
}

/* Set by main from the command line: where the source is. */
static const char *source_root;

static void recorded_machines_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *tree;
        int code;
        const char *name, *type;
        int unified;
    } cases[] = {
        {"pc-rtx4090", MB_OK, "NVIDIA GeForce RTX 4090", "discrete", 0},
        {"laptop-intel-igpu", MB_OK, "Intel(R) Arc(tm) Graphics (MTL)", "integrated", 1},
        {"garbage", MB_EFORMAT, NULL, NULL, 0},
        {"empty", MB_ENOHW, NULL, NULL, 0},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        char root[4096];
        struct mb_arena arena = {0};
        struct mb_vk_info *list = NULL;
        unsigned n = 0;
        struct mb_err err;
        snprintf(root, sizeof root, "%s/tests/trees/%s", source_root, cases[i].tree);
        assert_int_equal(mb_vk_list(&arena, root, &list, &n, &err), cases[i].code);
        if (cases[i].code == MB_OK) {
            assert_string_equal(list[0].name, cases[i].name);
            assert_string_equal(list[0].type, cases[i].type);
            assert_int_equal(list[0].unified, cases[i].unified);
        }
        mb_arena_free(&arena);
    }
}

static void put_file(const char *path, const char *text, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    close(fd);
}

static void recordings_come_from_their_tree(void **state)
{
    (void)state;
    char root[] = "/tmp/membound-gpu-XXXXXX", dir[64], path[96];
    assert_non_null(mkdtemp(root));
    snprintf(dir, sizeof dir, "%s/membound", root);
    snprintf(path, sizeof path, "%s/vulkan.json", dir);
    struct mb_arena arena = {0};
    struct mb_vk_info *list = NULL;
    unsigned n = 0;
    struct mb_err err;
    assert_int_equal(mb_vk_list(&arena, root, &list, &n, &err), MB_ENOHW);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mb_vk_list(&arena, root, &list, &n, &err), MB_ENOHW);
    put_file(path, good, sizeof good - 1);
    assert_int_equal(mb_vk_list(&arena, root, &list, &n, &err), MB_OK);
    assert_int_equal(n, 1);
    char *large = calloc(1, (1 << 20) + 1);
    put_file(path, large, (1 << 20) + 1);
    free(large);
    assert_int_equal(mb_vk_list(&arena, root, &list, &n, &err), MB_EFORMAT);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(mb_vk_list(&arena, root, &list, &n, &err), MB_EIO);
    unlink(path);
    rmdir(dir);
    rmdir(root);
    mb_arena_free(&arena);
}

/* Skips the test where Vulkan has no device; fails when it should have one. */
static struct mb_vk_info *live_or_skip(struct mb_arena *arena, unsigned *n)
{
    struct mb_vk_info *list = NULL;
    struct mb_err err = {0};
    int code = mb_vk_list(arena, NULL, &list, n, &err);
    if (code == MB_ENOHW || code == MB_ENOTSUP) {
        print_message("skipped: %s\n", err.text);
        assert_null(list);
        mb_arena_free(arena);
        skip();
    }
    assert_int_equal(code, MB_OK);
    return list;
}

static void live_list_is_sound(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    unsigned n = 0;
    struct mb_vk_info *list = live_or_skip(&arena, &n);
    assert_true(n > 0);
    int software = 0, hardware = 0;
    for (unsigned i = 0; i < n; i++) {
        print_message("%s, %s, %s, %s, Vulkan %s\n", list[i].name, list[i].type,
                      list[i].pci ? list[i].pci : "no PCI address",
                      list[i].driver ? list[i].driver : "unknown driver", list[i].api);
        assert_true(strlen(list[i].name) > 0);
        assert_true(list[i].n_heaps > 0);
        for (unsigned j = 0; j < list[i].n_heaps; j++) {
            assert_true(list[i].heaps[j].size_bytes > 0);
            assert_true(list[i].heaps[j].budget_bytes <= list[i].heaps[j].size_bytes);
        }
        software += strcmp(list[i].type, "cpu") == 0;
        hardware +=
            strcmp(list[i].type, "discrete") == 0 || strcmp(list[i].type, "integrated") == 0;
    }
    /* A device of the machine implies a device file; without one only software is left. */
    assert_true(hardware == 0 || mb_vk_worth_trying());
    assert_true(hardware > 0 || software > 0 || mb_vk_worth_trying());
    mb_arena_free(&arena);
}

static void live_list_keeps_stderr(void **state)
{
    (void)state;
    struct stat before, after;
    struct mb_arena arena = {0};
    unsigned n = 0;
    assert_int_equal(fstat(STDERR_FILENO, &before), 0);
    live_or_skip(&arena, &n);
    assert_int_equal(fstat(STDERR_FILENO, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_dev == after.st_dev);
    mb_arena_free(&arena);
}

static void opening_names_what_is_missing(void **state)
{
    (void)state;
    struct mb_gpu *gpu = NULL;
    struct mb_err err = {0};
    int code = mb_gpu_open(NULL, "no such device", 1, &gpu, &err);
    assert_true(code == MB_ENOHW || code == MB_ENOTSUP);
    assert_null(gpu);
    assert_int_equal(err.code, code);
    code = mb_gpu_open("ffff:ff:1f.7", NULL, 0, &gpu, &err);
    assert_true(code == MB_ENOHW || code == MB_ENOTSUP);
    assert_null(gpu);
    mb_gpu_close(NULL);
}

#ifdef MB_HAVE_VULKAN

/* The software device, so that a test never competes for a real one; skips where there is none. */
static struct mb_gpu *open_or_skip(void)
{
    struct mb_arena arena = {0};
    unsigned n = 0;
    struct mb_vk_info *list = live_or_skip(&arena, &n);
    const char *name = NULL;
    for (unsigned i = 0; i < n; i++)
        if (strcmp(list[i].type, "cpu") == 0)
            name = list[i].name;
    struct mb_gpu *gpu = NULL;
    struct mb_err err = {0};
    if (name) {
        assert_int_equal(mb_gpu_open(NULL, name, 0, &gpu, &err), MB_ENOHW);
        assert_null(gpu);
        int code = mb_gpu_open(NULL, name, 1, &gpu, &err);
        if (code != MB_OK)
            print_error("%s\n", err.text);
        assert_int_equal(code, MB_OK);
    }
    mb_arena_free(&arena);
    if (!gpu) {
        print_message("skipped: no software Vulkan device (lavapipe)\n");
        skip();
    }
    return gpu;
}

static void reading_counts_and_checks_every_byte(void **state)
{
    (void)state;
    struct mb_gpu *gpu = open_or_skip();
    struct mb_err err = {0};
    uint64_t bytes = 0;
    double seconds = 0;
    assert_int_equal(mb_gpu_read_once(gpu, &bytes, &seconds, &err), MB_EINVAL);
    assert_int_equal(mb_gpu_read_prepare(gpu, 16383, &err), MB_ERANGE);
    /* Odd numbers of tiles, one piece and several, more tiles than groups. */
    static const struct {
        uint64_t bytes, piece_bytes_max, expect;
        uint32_t groups_max;
    } cases[] = {
        {16384, 1 << 27, 16384, 65535},
        {5 * 16384 + 1000, 1 << 27, 5 * 16384, 65535},
        {(5 << 20) + 16384, (1 << 20) + 5, (5 << 20) + 16384, 65535},
        {(9 << 20) + 16384, 1 << 27, (9 << 20) + 16384, 7},
        {16 << 20, 1 << 27, 16 << 20, 65535},
    };
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        gpu->piece_bytes_max = cases[i].piece_bytes_max;
        gpu->groups_max = cases[i].groups_max;
        assert_int_equal(mb_gpu_read_prepare(gpu, cases[i].bytes, &err), MB_OK);
        for (int j = 0; j < 2; j++) {
            assert_int_equal(mb_gpu_read_once(gpu, &bytes, &seconds, &err), MB_OK);
            assert_true(bytes == cases[i].expect);
            assert_true(seconds > 0 && seconds < 60);
        }
    }
    print_message("%.1f GB/s by %s\n", (double)bytes / seconds * 1e-9, mb_gpu_clock(gpu));
    assert_true((double)bytes / seconds > 1e7 && (double)bytes / seconds < 1e13);
    mb_gpu_close(gpu);
}

static void a_wrong_sum_is_rejected(void **state)
{
    (void)state;
    struct mb_gpu *gpu = open_or_skip();
    struct mb_err err = {0};
    uint64_t bytes = 7;
    double seconds = 7;
    assert_int_equal(mb_gpu_read_prepare(gpu, 4 << 20, &err), MB_OK);
    gpu->expected_sum ^= 1u << 31;
    assert_int_equal(mb_gpu_read_once(gpu, &bytes, &seconds, &err), MB_EREJECT);
    assert_int_equal(err.code, MB_EREJECT);
    assert_int_equal(mb_gpu_read_for(gpu, 0.05, &bytes, &seconds, &err), MB_EREJECT);
    assert_true(bytes == 7 && seconds == 7);
    gpu->expected_sum ^= 1u << 31;
    assert_int_equal(mb_gpu_read_once(gpu, &bytes, &seconds, &err), MB_OK);
    mb_gpu_close(gpu);
}

static void skipped_work_is_rejected(void **state)
{
    (void)state;
    struct mb_gpu *gpu = open_or_skip();
    struct mb_err err = {0};
    uint64_t bytes;
    double seconds;
    assert_int_equal(mb_gpu_read_prepare(gpu, 4 << 20, &err), MB_OK);
    /* Recorded commands that read nothing, while the sums of the pass before lie there. */
    assert_int_equal(mb_gpu_slot_begin(gpu, &gpu->slots[0], &err), MB_OK);
    if (gpu->queries) {
        gpu->CmdResetQueryPool(gpu->slots[0].commands, gpu->queries, 0, 2);
        gpu->CmdWriteTimestamp(gpu->slots[0].commands, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT,
                               gpu->queries, 0);
        gpu->CmdWriteTimestamp(gpu->slots[0].commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT,
                               gpu->queries, 1);
    }
    assert_int_equal(mb_gpu_slot_end(gpu, &gpu->slots[0], &err), MB_OK);
    assert_int_equal(mb_gpu_read_once(gpu, &bytes, &seconds, &err), MB_EREJECT);
    mb_gpu_close(gpu);
}

static void reading_goes_on_as_long_as_asked(void **state)
{
    (void)state;
    struct mb_gpu *gpu = open_or_skip();
    struct mb_err err = {0};
    uint64_t bytes = 0;
    double seconds = 0;
    assert_int_equal(mb_gpu_read_prepare(gpu, 4 << 20, &err), MB_OK);
    assert_int_equal(mb_gpu_read_for(gpu, 0.2, &bytes, &seconds, &err), MB_OK);
    assert_true(seconds >= 0.2);
    assert_true(bytes >= 8 << 20 && bytes % (4 << 20) == 0);
    assert_int_equal(mb_gpu_read_for(gpu, 0, &bytes, &seconds, &err), MB_OK);
    assert_true(bytes == 4 << 20);
    mb_gpu_close(gpu);
}

static void copies_are_verified(void **state)
{
    (void)state;
    struct mb_gpu *gpu = open_or_skip();
    struct mb_err err = {0};
    double seconds = 0;
    assert_int_equal(mb_gpu_copy_once(gpu, 1, &seconds, &err), MB_EINVAL);
    assert_int_equal(mb_gpu_copy_check(gpu, &err), MB_EINVAL);
    assert_int_equal(mb_gpu_copy_prepare(gpu, 4095, &err), MB_ERANGE);
    assert_int_equal(mb_gpu_copy_prepare(gpu, 4097, &err), MB_ERANGE);
    assert_int_equal(mb_gpu_copy_prepare(gpu, UINT64_MAX - 3, &err), MB_ERANGE);
    assert_int_equal(mb_gpu_copy_prepare(gpu, 4096, &err), MB_OK);
    assert_int_equal(mb_gpu_copy_prepare(gpu, 16 << 20, &err), MB_OK);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(mb_gpu_copy_once(gpu, i % 2 == 0, &seconds, &err), MB_OK);
        assert_true(seconds > 0 && seconds < 60);
    }
    /* A copy to the device that never happened. */
    gpu->generation++;
    assert_int_equal(mb_gpu_copy_once(gpu, 0, &seconds, &err), MB_EREJECT);
    assert_int_equal(mb_gpu_copy_check(gpu, &err), MB_OK);
    mb_gpu_close(gpu);
}

static void latency_is_positive(void **state)
{
    (void)state;
    struct mb_gpu *gpu = open_or_skip();
    struct mb_err err = {0};
    double seconds = mb_gpu_latency_s(gpu, &err);
    print_message("%.0f us for one dispatch\n", seconds * 1e6);
    assert_true(seconds > 0 && seconds < 1);
    mb_gpu_close(gpu);
}

static void memory_is_kept_under_the_budget(void **state)
{
    (void)state;
    struct mb_gpu *gpu = open_or_skip();
    struct mb_err err = {0};
    uint64_t bytes = 0;
    double seconds;
    for (uint32_t i = 0; i < gpu->memory.memoryHeapCount; i++)
        gpu->memory.memoryHeaps[i].size = 10 << 20;
    assert_int_equal(mb_gpu_read_prepare(gpu, UINT64_MAX, &err), MB_OK);
    assert_int_equal(mb_gpu_read_once(gpu, &bytes, &seconds, &err), MB_OK);
    assert_true(bytes == 8 << 20);
    assert_int_equal(mb_gpu_copy_prepare(gpu, 9 << 20, &err), MB_ENOMEM);
    mb_gpu_close(gpu);
}

static void a_lost_device_ends_with_an_error(void **state)
{
    (void)state;
    struct mb_gpu *gpu = open_or_skip();
    struct mb_err err = {0};
    uint64_t bytes;
    double seconds;
    assert_int_equal(mb_gpu_read_prepare(gpu, 1 << 20, &err), MB_OK);
    assert_int_equal(mb_gpu_copy_prepare(gpu, 1 << 20, &err), MB_OK);
    assert_int_equal(mb_gpu_check(gpu, "vkQueueSubmit", VK_ERROR_DEVICE_LOST, &err), MB_ENOHW);
    assert_non_null(strstr(err.text, "lost"));
    assert_int_equal(mb_gpu_read_once(gpu, &bytes, &seconds, &err), MB_ENOHW);
    assert_int_equal(mb_gpu_read_for(gpu, 1, &bytes, &seconds, &err), MB_ENOHW);
    assert_int_equal(mb_gpu_read_prepare(gpu, 1 << 20, &err), MB_ENOHW);
    assert_int_equal(mb_gpu_copy_once(gpu, 1, &seconds, &err), MB_ENOHW);
    assert_int_equal(mb_gpu_copy_prepare(gpu, 1 << 20, &err), MB_ENOHW);
    assert_true(mb_gpu_latency_s(gpu, &err) < 0);
    mb_gpu_close(gpu);
}

#endif

int main(int argc, char **argv)
{
    source_root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_device_is_read),
        cmocka_unit_test(broken_recordings_are_refused),
        cmocka_unit_test(counts_in_recordings_are_bounded),
        cmocka_unit_test(recordings_come_from_their_tree),
        cmocka_unit_test(recorded_machines_are_read),
        cmocka_unit_test(live_list_is_sound),
        cmocka_unit_test(live_list_keeps_stderr),
        cmocka_unit_test(opening_names_what_is_missing),
#ifdef MB_HAVE_VULKAN
        cmocka_unit_test(reading_counts_and_checks_every_byte),
        cmocka_unit_test(a_wrong_sum_is_rejected),
        cmocka_unit_test(skipped_work_is_rejected),
        cmocka_unit_test(reading_goes_on_as_long_as_asked),
        cmocka_unit_test(copies_are_verified),
        cmocka_unit_test(latency_is_positive),
        cmocka_unit_test(memory_is_kept_under_the_budget),
        cmocka_unit_test(a_lost_device_ends_with_an_error),
#endif
    };
    return cmocka_run_group_tests_name("gpu", tests, NULL, NULL);
}
