/* SPDX-License-Identifier: MIT */
/* Suite for detection: every recorded machine against what tests/trees says of it, this machine
 * against /proc/meminfo, and trees made here for single rules (two cards, cgroups, links, machines
 * without a card's driver). */
#include "machine/machine.h"
#include "machine/macos.h"

#include <dirent.h>
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static const char *source_root;

/* ---- looking at machines ---- */

static const struct mb_pool *pool_of(const struct mb_machine *m, enum mb_pool_kind kind)
{
    for (unsigned i = 0; i < m->n_pools; i++)
        if (m->pools[i].kind == kind)
            return m->pools + i;
    return NULL;
}

static const struct mb_pool *ram_of(const struct mb_machine *m)
{
    const struct mb_pool *ram = pool_of(m, MB_POOL_UNIFIED);
    return ram ? ram : pool_of(m, MB_POOL_SYSTEM);
}

static int has_note(const struct mb_machine *m, const char *part)
{
    for (unsigned i = 0; i < m->n_notes; i++)
        if (strstr(m->notes[i], part))
            return 1;
    return 0;
}

static unsigned count_gpus(const struct mb_machine *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < m->n_processors; i++)
        n += m->processors[i].kind == MB_PROCESSOR_GPU;
    return n;
}

/* What holds for every machine, whatever its files were. */
static void assert_sound(const struct mb_machine *m)
{
    unsigned n_ram = 0, n_cpu = 0;
    assert_non_null(m->name);
    assert_non_null(m->class_reason);
    assert_non_null(m->fingerprint);
    for (unsigned i = 0; i < m->n_pools; i++) {
        const struct mb_pool *p = m->pools + i;
        n_ram += p->kind != MB_POOL_VRAM;
        assert_non_null(p->id);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(p->id, m->pools[k].id);
        if (mb_figure_known(&p->capacity_bytes)) {
            assert_true(p->capacity_bytes.value > 0 && p->capacity_bytes.value < 0x1p60);
            assert_non_null(p->capacity_bytes.detail);
            if (mb_figure_known(&p->free_bytes))
                assert_true(p->free_bytes.value <= p->capacity_bytes.value);
            if (mb_figure_known(&p->usable_bytes))
                assert_true(p->usable_bytes.value <= p->capacity_bytes.value);
        }
        if (mb_figure_known(&p->bandwidth_bytes_per_s))
            assert_true(p->bandwidth_bytes_per_s.value < 1e14);
    }
    assert_int_equal(n_ram, 1);
    for (unsigned i = 0; i < m->n_processors; i++) {
        const struct mb_processor *p = m->processors + i;
        n_cpu += p->kind == MB_PROCESSOR_CPU;
        assert_non_null(p->name);
        assert_true(p->n_reads >= 1);
        for (unsigned r = 0; r < p->n_reads; r++)
            assert_true(p->reads[r].pool < m->n_pools);
        if (p->kind == MB_PROCESSOR_GPU && !p->integrated)
            assert_int_equal(m->pools[p->reads[0].pool].kind, MB_POOL_VRAM);
    }
    assert_int_equal(n_cpu, 1);
    for (unsigned i = 0; i < m->n_links; i++)
        assert_true(m->links[i].from < m->n_pools && m->links[i].to < m->n_pools &&
                    m->links[i].from != m->links[i].to);
}

/* ---- recorded machines ---- */

static unsigned n_wrong;

static void wrong(const char *tree, const char *what, const char *got, const char *want)
{
    print_error("%s: %s is %s, expected %s\n", tree, what, got, want);
    n_wrong++;
}

/* Compare within 1 %; a JSON null means unknown. factor turns the JSON's unit into the figure's. */
static void check_figure(const char *tree, const char *what, double got, const json_t *want,
                         double factor)
{
    char a[64], b[64];
    if (!want)
        return;
    double expected = json_is_null(want) ? 0 : json_number_value(want) * factor;
    snprintf(a, sizeof a, "%.6g", got);
    snprintf(b, sizeof b, "%.6g", expected);
    if (fabs(got - expected) > 0.01 * expected)
        wrong(tree, what, a, b);
}

static void check_text(const char *tree, const char *what, const char *got, const json_t *want)
{
    const char *expected = json_string_value(want);
    if (!want)
        return;
    if (!got != !expected || (got && strcmp(got, expected) != 0))
        wrong(tree, what, got ? got : "null", expected ? expected : "null");
}

static double known(struct mb_figure figure)
{
    return mb_figure_known(&figure) ? figure.value : 0;
}

static void check_pools(const char *tree, const struct mb_machine *m, const json_t *expected)
{
    static const char *const kinds[] = {"system", "vram", "unified"};
    unsigned char used[16] = {0};
    size_t i;
    const json_t *want;
    if (json_array_size(expected) != m->n_pools)
        wrong(tree, "number of pools", "different", "that of expected.json");
    json_array_foreach(expected, i, want)
    {
        const char *kind = json_string_value(json_object_get(want, "kind"));
        unsigned p = 0;
        while (p < m->n_pools && p < sizeof used &&
               (used[p] || !kind || strcmp(kinds[m->pools[p].kind], kind) != 0))
            p++;
        if (p >= m->n_pools || p >= sizeof used) {
            wrong(tree, "a pool", "missing", kind);
            continue;
        }
        used[p] = 1;
        check_figure(tree, "capacity", known(m->pools[p].capacity_bytes),
                     json_object_get(want, "capacity_gib"), MB_GIB);
        check_figure(tree, "usable", known(m->pools[p].usable_bytes),
                     json_object_get(want, "gpu_usable_gib"), MB_GIB);
        /* expected.json speaks of the modules; without them it may be known from the chip. */
        struct mb_figure installed = m->pools[p].installed_bytes;
        if (installed.provenance == MB_SPEC)
            installed.provenance = MB_UNKNOWN;
        check_figure(tree, "installed", known(installed), json_object_get(want, "installed_gib"),
                     MB_GIB);
    }
}

static void check_gpus(const char *tree, const struct mb_machine *m, const json_t *expected)
{
    size_t i;
    const json_t *want;
    unsigned char used[16] = {0};
    if (json_array_size(expected) != count_gpus(m))
        wrong(tree, "number of GPUs", "different", "that of expected.json");
    json_array_foreach(expected, i, want)
    {
        unsigned p = 0;
        while (p < m->n_processors && p < sizeof used &&
               (used[p] || m->processors[p].kind != MB_PROCESSOR_GPU ||
                strcmp(m->processors[p].name, json_string_value(want)) != 0))
            p++;
        if (p < m->n_processors && p < sizeof used)
            used[p] = 1;
        else
            wrong(tree, "a GPU", "missing", json_string_value(want));
    }
}

static void check_ram(const char *tree, const struct mb_machine *m, const json_t *expected)
{
    const struct mb_pool *ram = ram_of(m);
    if (!json_is_object(expected)) {
        if (ram->name)
            wrong(tree, "name of the RAM", ram->name, "null");
        return;
    }
    char want[64];
    snprintf(want, sizeof want, "%s-%d, %d channel",
             json_string_value(json_object_get(expected, "type")),
             (int)json_integer_value(json_object_get(expected, "mega_transfers_per_s")),
             (int)json_integer_value(json_object_get(expected, "channels")));
    if (!ram->name || strncmp(ram->name, want, strlen(want)) != 0)
        wrong(tree, "name of the RAM", ram->name ? ram->name : "null", want);
    check_figure(tree, "RAM bandwidth", known(ram->bandwidth_spec_bytes_per_s),
                 json_object_get(expected, "bandwidth_gb_per_s"), 1e9);
}

static void check_links(const char *tree, const struct mb_machine *m, const json_t *expected)
{
    char want[64];
    snprintf(want, sizeof want, "PCIe %d.0 x%d",
             (int)json_integer_value(json_object_get(expected, "generation")),
             (int)json_integer_value(json_object_get(expected, "lanes")));
    if (json_is_null(expected) && m->n_links)
        wrong(tree, "a link", "there", "none");
    if (json_is_object(expected) && !m->n_links)
        wrong(tree, "link", "missing", want);
    for (unsigned i = 0; i < m->n_links && json_is_object(expected); i++)
        if (!m->links[i].name || strcmp(m->links[i].name, want) != 0)
            wrong(tree, "link", m->links[i].name ? m->links[i].name : "null", want);
}

static void check_tree(const char *tree, const char *path)
{
    char file[2048];
    json_error_t why;
    snprintf(file, sizeof file, "%s/expected.json", path);
    json_t *expected = json_load_file(file, 0, &why);
    assert_non_null(expected);
    struct mb_machine *m = NULL;
    struct mb_err err;
    assert_int_equal(mb_machine_detect(&(struct mb_detect_opts){.root = path}, &m, &err), MB_OK);
    assert_sound(m);
    assert_false(mb_machine_is_live(m));
    const struct mb_processor *cpu = m->processors;
    check_pools(tree, m, json_object_get(expected, "pools"));
    check_gpus(tree, m, json_object_get(expected, "gpus"));
    check_text(tree, "class", mb_class_name(m->machine_class), json_object_get(expected, "class"));
    check_ram(tree, m, json_object_get(expected, "ram"));
    check_links(tree, m, json_object_get(expected, "link"));
    check_figure(tree, "cores", cpu->n_cores, json_object_get(expected, "cores"), 1);
    check_figure(tree, "NUMA nodes", cpu->n_numa_nodes, json_object_get(expected, "numa_nodes"), 1);
    check_text(tree, "SIMD", cpu->simd, json_object_get(expected, "simd"));
    json_decref(expected);
    mb_machine_free(m);
}

static void recorded_machines_are_as_expected(void **state)
{
    (void)state;
    char trees[1024];
    snprintf(trees, sizeof trees, "%s/tests/trees", source_root);
    DIR *dir = opendir(trees);
    assert_non_null(dir);
    unsigned n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[1536], file[1600];
        struct stat st;
        snprintf(path, sizeof path, "%s/%.255s", trees, entry->d_name);
        snprintf(file, sizeof file, "%s/expected.json", path);
        if (*entry->d_name == '.' || stat(file, &st) != 0)
            continue;
        check_tree(entry->d_name, path);
        n++;
    }
    closedir(dir);
    assert_true(n >= 10);
    assert_int_equal(n_wrong, 0);
}

static struct mb_machine *detect_tree(const char *name)
{
    char path[1024];
    struct mb_machine *m = NULL;
    struct mb_err err;
    snprintf(path, sizeof path, "%s/tests/trees/%s", source_root, name);
    assert_int_equal(mb_machine_detect(&(struct mb_detect_opts){.root = path}, &m, &err), MB_OK);
    return m;
}

static void details_of_recorded_machines(void **state)
{
    (void)state;
    struct mb_machine *m = detect_tree("pc-rtx4090");
    const struct mb_pool *vram = pool_of(m, MB_POOL_VRAM);
    assert_string_equal(vram->id, "vram0");
    assert_true(fabs(vram->bandwidth_bytes_per_s.value - 1008e9) < 1e9);
    assert_int_equal(vram->bandwidth_bytes_per_s.provenance, MB_DERIVED);
    assert_int_equal(m->n_links, 2);
    assert_true(fabs(m->links[0].bytes_per_s.value - 31.5e9) < 0.05e9);
    assert_int_equal(m->links[0].from, m->links[1].to);
    assert_string_equal(m->processors[1].driver, "nvml 570.133.07");
    assert_string_equal(m->processors[1].pci, "0000:01:00.0");
    assert_true(m->processors[1].power_limit_w.value == 450);
    assert_string_equal(ram_of(m)->bandwidth_spec_bytes_per_s.detail,
                        "DDR5-6000, 2 channels x 64 bit = 96 GB/s, SMBIOS");
    assert_string_equal(m->os, "Linux 6.14, x86_64");
    assert_null(m->virtual_by);
    mb_machine_free(m);

    m = detect_tree("pc-2x3090");
    assert_true(has_note(m, "8 of the 16 PCIe lanes"));
    assert_int_equal(m->n_links, 4);
    mb_machine_free(m);

    /* A laptop's GPU is not the desktop card of that name, and RAM beside a card stays system RAM.
     */
    m = detect_tree("laptop-rtx4090m");
    assert_string_equal(m->processors[1].name, "NVIDIA GeForce RTX 4090 Laptop GPU");
    assert_int_equal(m->processors[2].integrated, 1);
    assert_string_equal(m->pools[m->processors[2].reads[0].pool].id, "ram");
    mb_machine_free(m);

    m = detect_tree("amd-395-512m");
    assert_string_equal(m->pools[0].id, "unified");
    assert_int_equal(m->n_pools, 1);
    mb_machine_free(m);
    m = detect_tree("amd-395-64-64");
    assert_true(m->pools[0].bandwidth_bytes_per_s.value == 256e9);
    assert_int_equal(m->pools[0].bandwidth_bytes_per_s.provenance, MB_SPEC);
    assert_true(m->processors[1].n_peaks > 0);
    assert_non_null(m->pools[0].raise);
    assert_non_null(strstr(m->pools[0].raise, "ttm.pages_limit="));
    mb_machine_free(m);

    m = detect_tree("this-vm");
    assert_string_equal(m->virtual_by, "an unnamed hypervisor");
    assert_int_equal(m->processors[0].cache_bytes[2], 32 << 20);
    mb_machine_free(m);

    m = detect_tree("container-limit");
    assert_true(has_note(m, "control group"));
    mb_machine_free(m);

    m = detect_tree("dgx-spark");
    assert_string_equal(m->processors[0].name, "10 x Cortex-A725, 10 x Cortex-X925");
    assert_int_equal(m->n_links, 0);
    mb_machine_free(m);
}

/* ---- this machine ---- */

static void this_machine_is_detected(void **state)
{
    (void)state;
    struct mb_machine *m = NULL;
    struct mb_err err;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(mb_machine_detect(NULL, &m, &err), MB_OK);
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("detection took %.1f ms\n",
                  (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
    assert_sound(m);
    assert_true(mb_machine_is_live(m));
    assert_true(m->processors[0].n_threads >= 1);
    assert_non_null(m->processors[0].simd);
#ifdef __linux__
    FILE *file = fopen("/proc/meminfo", "r");
    unsigned long long kib = 0;
    assert_non_null(file);
    assert_int_equal(fscanf(file, "MemTotal: %llu kB", &kib), 1);
    fclose(file);
    /* Less where a control group says so; never more, except for a carve-out, which is not part of
     * MemTotal. */
    double total = (double)kib * 1024, got = ram_of(m)->capacity_bytes.value;
    if (!has_note(m, "control group") && ram_of(m)->kind == MB_POOL_SYSTEM)
        assert_true(fabs(got - total) < 0.02 * total);
#endif
    struct mb_machine *again = NULL;
    assert_int_equal(mb_machine_detect(&(struct mb_detect_opts){.root = "/"}, &again, &err), MB_OK);
    assert_string_equal(m->fingerprint, again->fingerprint);
    mb_machine_free(again);
    mb_machine_free(m);
    assert_int_equal(
        mb_machine_detect(&(struct mb_detect_opts){.root = "/does/not/exist"}, &m, &err),
        MB_ENOENT);
    assert_non_null(strstr(err.text, "/does/not/exist"));
}

/* ---- trees made here ---- */

static char made[] = "/tmp/membound-detect-XXXXXX";

static void put(const char *path, const char *text)
{
    char full[1024];
    snprintf(full, sizeof full, "%s/%s", made, path);
    for (char *p = full + strlen(made) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0755);
        *p = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int make_root(void **state)
{
    (void)state;
    memset(made + strlen(made) - 6, 'X', 6);
    if (!mkdtemp(made))
        return -1;
    put("proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Test CPU\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu lm avx2 fma f16c\n\n"
        "processor\t: 1\nmodel name\t: Test CPU\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu lm avx2 fma f16c\n");
    put("proc/meminfo",
        "MemTotal:       67108864 kB\nMemFree: 1 kB\nMemAvailable:   33554432 kB\n");
    put("proc/version", "Linux version 6.1.0-test (builder) #1\n");
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(made, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct mb_machine *detect_made(struct mb_detect_opts opts)
{
    struct mb_machine *m = NULL;
    struct mb_err err;
    opts.root = made;
    assert_int_equal(mb_machine_detect(&opts, &m, &err), MB_OK);
    assert_sound(m);
    return m;
}

static void cgroup_limits_count_along_the_path(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/outer/inner\n");
    put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
    put("sys/fs/cgroup/outer/inner/memory.current", "1073741824\n");
    put("sys/fs/cgroup/outer/memory.max", "8589934592\n");
    put("sys/fs/cgroup/outer/memory.current", "6442450944\n");
    put("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 1073741824\n");
    put("sys/fs/cgroup/outer/cpu.max", "100000 100000\n");
    struct mb_machine *m = detect_made((struct mb_detect_opts){0});
    assert_true(m->pools[0].capacity_bytes.value == 8 * MB_GIB);
    assert_true(m->pools[0].free_bytes.value == 3 * MB_GIB);
    assert_string_equal(m->pools[0].capacity_bytes.detail, "/sys/fs/cgroup/outer/memory.max");
    assert_int_equal(m->processors[0].n_threads, 1);
    assert_int_equal(m->processors[0].n_cores, 1);
    mb_machine_free(m);
    put("proc/self/cgroup", "5:cpuset:/x\n4:memory:/a\n");
    put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "4294967296\n");
    m = detect_made((struct mb_detect_opts){0});
    assert_true(m->pools[0].capacity_bytes.value == 4 * MB_GIB);
    mb_machine_free(m);
}

#define NVML_CARD(pci)                                               \
    "{\"name\":\"NVIDIA Test\",\"pci\":\"" pci                       \
    "\",\"memory_total_bytes\":25769803776,\"memory_free_bytes\":1," \
    "\"pcie_generation_max\":3,\"pcie_width_max\":16,\"pcie_width_current\":4}"
#define VK_CARD(name, pci, type)                                                 \
    "{\"name\":\"" name "\",\"vendor_id\":4318,\"device_id\":1,\"type\":\"" type \
    "\",\"driver\":\"nvidia\","                                                  \
    "\"api\":\"1.3.0\",\"pci\":" pci                                             \
    ",\"heaps\":[{\"size_bytes\":25769803776,\"device_local\":true},"            \
    "{\"size_bytes\":1073741824,\"device_local\":true}],\"memory_types\":[]}"

static void a_card_counts_once(void **state)
{
    (void)state;
    put("membound/nvml.json", "{\"driver\":\"1\",\"devices\":[" NVML_CARD(
                                  "0000:01:00.0") "," NVML_CARD("00000000:02:00.0") "]}");
    put("membound/vulkan.json",
        "{\"devices\":[" VK_CARD("NVIDIA Test", "null", "discrete") "," VK_CARD(
            "NVIDIA Test", "null", "discrete") "," VK_CARD("llvmpipe", "null", "cpu") "]}");
    put("sys/class/drm/card0/device/vendor", "0x10de\n");
    put("sys/class/drm/card0/device/uevent", "DRIVER=nvidia\nPCI_SLOT_NAME=0000:02:00.0\n");
    put("sys/class/drm/card1/device/vendor", "0x1af4\n");
    put("sys/class/drm/card1/device/uevent", "DRIVER=virtio-pci\nPCI_SLOT_NAME=0000:03:00.0\n");
    put("sys/bus/pci/devices/0000:02:00.0/vendor", "0x10de\n");
    put("sys/bus/pci/devices/0000:02:00.0/class", "0x030000\n");
    put("sys/bus/pci/devices/0000:04:00.0/vendor", "0x10de\n");
    put("sys/bus/pci/devices/0000:04:00.0/device", "0xffff\n");
    put("sys/bus/pci/devices/0000:04:00.0/class", "0x030200\n");
    struct mb_machine *m = detect_made((struct mb_detect_opts){0});
    assert_int_equal(count_gpus(m), 2);
    assert_int_equal(m->n_pools, 3);
    assert_int_equal(m->n_links, 4);
    assert_string_equal(m->links[0].name, "PCIe 3.0 x4");
    assert_int_equal(m->pools[0].kind, MB_POOL_SYSTEM);
    assert_true(has_note(m, "0000:04:00.0 has no driver"));
    assert_false(has_note(m, "0000:03:00.0")); /* a virtual display is not even worth a note */
    mb_machine_free(m);
    m = detect_made((struct mb_detect_opts){.allow_software_gpu = 1});
    assert_int_equal(count_gpus(m), 3);
    assert_string_equal(m->processors[3].name, "llvmpipe");
    assert_int_equal(m->processors[3].integrated, 1);
    mb_machine_free(m);
    m = detect_made((struct mb_detect_opts){.no_gpu = 1});
    assert_int_equal(count_gpus(m), 0);
    assert_true(has_note(m, "not counted"));
    mb_machine_free(m);
}

static void vulkan_alone_is_enough(void **state)
{
    (void)state;
    put("membound/vulkan.json",
        "{\"devices\":[" VK_CARD("NVIDIA Test", "\"0000:01:00.0\"", "discrete") "]}");
    struct mb_machine *m = detect_made((struct mb_detect_opts){0});
    /* The second device-local heap is a window into the first. */
    assert_true(pool_of(m, MB_POOL_VRAM)->capacity_bytes.value == 24 * MB_GIB);
    assert_int_equal(m->machine_class, MB_CLASS_GPU);
    mb_machine_free(m);
    put("membound/vulkan.json", "{\"devices\":[" VK_CARD("Some APU", "null", "integrated") "]}");
    m = detect_made((struct mb_detect_opts){0});
    assert_int_equal(m->n_pools, 1);
    assert_int_equal(m->pools[0].kind, MB_POOL_UNIFIED);
    mb_machine_free(m);
    put("membound/vulkan.json", "{\"devices\":[{}]}");
    m = detect_made((struct mb_detect_opts){0});
    assert_int_equal(m->n_pools, 1);
    assert_true(m->n_notes >= 1);
    mb_machine_free(m);
}

static void amd_without_vulkan(void **state)
{
    (void)state;
    /* A discrete card, known by amdgpu alone, behind a slot of x8 and generation 3. */
    put("sys/devices/pci0000:00/0000:00:01.0/max_link_speed", "8.0 GT/s PCIe\n");
    put("sys/devices/pci0000:00/0000:00:01.0/max_link_width", "8\n");
    put("sys/devices/pci0000:00/0000:00:01.0/current_link_width", "8\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/vendor", "0x1002\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/device", "0x744c\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/uevent",
        "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/mem_info_vram_total", "25753026560\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/mem_info_vram_used", "1073741824\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/mem_info_gtt_total", "34359738368\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/max_link_speed", "16.0 GT/s PCIe\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/max_link_width", "16\n");
    put("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/current_link_width", "16\n");
    put("sys/class/drm/card0/x", "");
    char link[1024];
    snprintf(link, sizeof link, "%s/sys/class/drm/card0/device", made);
    assert_int_equal(symlink("../../../devices/pci0000:00/0000:00:01.0/0000:03:00.0", link), 0);
    /* The processor's own graphics: not a pool of their own beside the card. */
    put("sys/class/drm/card1/device/vendor", "0x1002\n");
    put("sys/class/drm/card1/device/device", "0x164e\n");
    put("sys/class/drm/card1/device/uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:0c:00.0\n");
    put("sys/class/drm/card1/device/mem_info_vram_total", "536870912\n");
    put("sys/class/drm/card1/device/mem_info_gtt_total", "34359738368\n");
    struct mb_machine *m = detect_made((struct mb_detect_opts){0});
    assert_int_equal(m->n_pools, 2);
    assert_int_equal(m->pools[0].kind, MB_POOL_SYSTEM);
    assert_true(m->pools[0].capacity_bytes.value == 64 * MB_GIB);
    assert_true(m->pools[1].capacity_bytes.value == 25753026560.0);
    assert_true(m->pools[1].free_bytes.value == 25753026560.0 - 1073741824.0);
    assert_string_equal(m->links[0].name, "PCIe 3.0 x8");
    assert_int_equal(count_gpus(m), 2);
    assert_int_equal(m->processors[2].integrated, 1);
    mb_machine_free(m);
}

static void virtual_machines_are_named(void **state)
{
    (void)state;
    put("proc/cpuinfo", "processor\t: 0\nmodel name\t: V\nflags\t\t: fpu lm hypervisor\n");
    put("sys/class/dmi/id/sys_vendor", "QEMU\n");
    struct mb_machine *m = detect_made((struct mb_detect_opts){0});
    assert_string_equal(m->virtual_by, "QEMU");
    assert_string_equal(m->processors[0].simd, "scalar");
    assert_false(mb_figure_known(&m->pools[0].bandwidth_bytes_per_s));
    mb_machine_free(m);
    put("proc/version", "Linux version 5.15.1-microsoft-standard-WSL2 (x)\n");
    m = detect_made((struct mb_detect_opts){0});
    assert_string_equal(m->os, "Linux 5.15 (WSL), x86_64");
    mb_machine_free(m);
    /* The same names on a machine without the flag are bare metal at a cloud maker. */
    put("proc/cpuinfo", "processor\t: 0\nmodel name\t: V\nflags\t\t: fpu lm\n");
    m = detect_made((struct mb_detect_opts){0});
    assert_null(m->virtual_by);
    mb_machine_free(m);
}

static void synthetic_bombs_are_refused(void **state)
{
    (void)state;
    /* None with [attached] memory: hwloc 2.9 leaks a few bytes when it refuses those. */
    static const char *const bombs[] = {
        "pu:4000000000",       "node:1000 l3:1000 core:1000 pu:1000", "pu:0", "core:2 (", ")(",

        "999999999 999999999", "core:2(size=1 pu:99999999) pu:2"};
    for (size_t i = 0; i < MB_COUNT(bombs); i++) {
        put("membound/topology", bombs[i]);
        struct mb_machine *m = detect_made((struct mb_detect_opts){0});
        assert_in_range(m->processors[0].n_cores, 1, 2);
        mb_machine_free(m);
    }
}

/* ---- Macs ---- */

static struct mb_machine *mac(struct mb_macos_facts facts)
{
    struct mb_machine *m = mb_machine_new(MB_ORIGIN_DETECTED);
    struct mb_chips *chips = NULL;
    assert_non_null(m);
    assert_int_equal(mb_chips_open(&chips, NULL), MB_OK);
    mb_macos_machine(&facts, chips, m);
    mb_chips_close(chips);
    assert_int_equal(mb_machine_finish(m, NULL), MB_OK);
    assert_sound(m);
    return m;
}

static void macs_are_unified(void **state)
{
    (void)state;
    struct mb_macos_facts m1 = {.chip = "Apple M1",
                                .model = "MacBookAir10,1",
                                .version = "15.1",
                                .memory_bytes = (uint64_t)8 << 30,
                                .free_bytes = (uint64_t)2 << 30,
                                .has_free = 1,
                                .n_performance_cores = 4,
                                .n_efficiency_cores = 4,
                                .n_gpu_cores = 8};
    struct mb_machine *m = mac(m1);
    assert_int_equal(m->n_pools, 1);
    assert_int_equal(m->pools[0].kind, MB_POOL_UNIFIED);
    assert_true(fabs(m->pools[0].usable_bytes.value - 8 * MB_GIB * 2 / 3) < MB_MIB);
    assert_true(m->pools[0].free_bytes.value == 2 * MB_GIB);
    assert_int_equal(m->machine_class, MB_CLASS_UNIFIED);
    assert_string_equal(m->os, "macOS 15.1");
    assert_int_equal(m->processors[1].n_cores, 8);
    assert_true(m->pools[0].bandwidth_bytes_per_s.value == 68.25e9);
    assert_int_equal(m->pools[0].bandwidth_bytes_per_s.provenance, MB_SPEC);
    mb_machine_free(m);

    struct mb_macos_facts max = {.chip = "Apple M4 Max",
                                 .memory_bytes = (uint64_t)128 << 30,
                                 .n_performance_cores = 12,
                                 .n_efficiency_cores = 4,
                                 .n_gpu_cores = 40};
    m = mac(max);
    assert_true(m->pools[0].usable_bytes.value == 96 * MB_GIB);
    assert_int_equal(m->machine_class, MB_CLASS_DEDICATED);
    assert_non_null(strstr(m->pools[0].raise, "iogpu.wired_limit_mb="));
    assert_true(m->pools[0].bandwidth_bytes_per_s.value == 546e9); /* 14 and 32 cores have 410 */
    mb_machine_free(m);

    max.wired_limit_mb = 120 << 10;
    m = mac(max);
    assert_true(m->pools[0].usable_bytes.value == 120 * MB_GIB);
    assert_int_equal(m->pools[0].usable_bytes.provenance, MB_REPORTED);
    assert_null(m->pools[0].raise);
    mb_machine_free(m);

    max.wired_limit_mb = UINT64_MAX; /* more than there is: the default is believed */
    m = mac(max);
    assert_true(m->pools[0].usable_bytes.value == 96 * MB_GIB);
    mb_machine_free(m);

    m = mac((struct mb_macos_facts){.chip = "Intel(R) Core(TM) i7",
                                    .memory_bytes = (uint64_t)16 << 30,
                                    .n_performance_cores = 4});
    assert_int_equal(m->pools[0].kind, MB_POOL_SYSTEM);
    assert_int_equal(m->machine_class, MB_CLASS_CPU);
    mb_machine_free(m);

    m = mac((struct mb_macos_facts){0});
    mb_machine_free(m);
}

int main(int argc, char **argv)
{
    source_root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_machines_are_as_expected),
        cmocka_unit_test(details_of_recorded_machines),
        cmocka_unit_test(this_machine_is_detected),
        cmocka_unit_test_setup_teardown(cgroup_limits_count_along_the_path, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_card_counts_once, make_root, remove_root),
        cmocka_unit_test_setup_teardown(vulkan_alone_is_enough, make_root, remove_root),
        cmocka_unit_test_setup_teardown(amd_without_vulkan, make_root, remove_root),
        cmocka_unit_test_setup_teardown(virtual_machines_are_named, make_root, remove_root),
        cmocka_unit_test_setup_teardown(synthetic_bombs_are_refused, make_root, remove_root),
        cmocka_unit_test(macs_are_unified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
