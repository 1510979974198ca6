/* SPDX-License-Identifier: MIT */
/* A whole recorded machine. The input is a list of files, each begun by a byte 0xff and one that
 * says which; all else is its content. The files lie in a directory of this process, which the next
 * input finds empty. */
#include "machine/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const files[] = {
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/version",
    "proc/self/cgroup",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.current",
    "sys/fs/cgroup/memory.stat",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
    "sys/firmware/dmi/tables/DMI",
    "run/udev/data/+dmi:id",
    "sys/devices/system/node/online",
    "sys/class/drm/card0/device/vendor",
    "sys/class/drm/card0/device/device",
    "sys/class/drm/card0/device/uevent",
    "sys/class/drm/card0/device/mem_info_vram_total",
    "sys/class/drm/card0/device/mem_info_vram_used",
    "sys/class/drm/card0/device/mem_info_gtt_total",
    "sys/class/drm/card0/device/max_link_speed",
    "sys/class/drm/card0/device/max_link_width",
    "sys/class/drm/card0/device/current_link_width",
    "membound/nvml.json",
    "membound/vulkan.json",
};

static char root[] = "/tmp/membound-fuzz-XXXXXX";

static void path_of(char *path, size_t n, unsigned file)
{
    snprintf(path, n, "%s/%s", root, files[file]);
}

static void remove_root(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", root);
    if (system(command) != 0)
        abort();
}

static void make_root(void)
{
    char path[256];
    if (!mkdtemp(root))
        abort();
    for (unsigned i = 0; i < MB_COUNT(files); i++) {
        path_of(path, sizeof path, i);
        for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
            *p = 0;
            mkdir(path, 0700);
            *p = '/';
        }
    }
    atexit(remove_root);
}

static void check(const struct mb_machine *machine)
{
    if (!machine->name || !machine->class_reason || machine->n_pools == 0 ||
        machine->n_processors == 0)
        abort();
    for (unsigned i = 0; i < machine->n_pools; i++) {
        const struct mb_pool *pool = machine->pools + i;
        if (mb_figure_known(&pool->capacity_bytes) && mb_figure_known(&pool->usable_bytes) &&
            pool->usable_bytes.value > pool->capacity_bytes.value)
            abort();
        if (mb_figure_known(&pool->capacity_bytes) && mb_figure_known(&pool->free_bytes) &&
            pool->free_bytes.value > pool->capacity_bytes.value)
            abort();
    }
    for (unsigned i = 0; i < machine->n_processors; i++)
        for (unsigned r = 0; r < machine->processors[i].n_reads; r++)
            if (machine->processors[i].reads[r].pool >= machine->n_pools)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int made;
    char path[256];
    unsigned char written[MB_COUNT(files)] = {0};
    if (!made)
        make_root();
    made = 1;
    for (size_t at = 0; at + 2 <= n;) {
        const uint8_t *next = memchr(data + at + 2, 0xff, n - at - 2);
        size_t end = next ? (size_t)(next - data) : n;
        unsigned file = data[at + 1] % MB_COUNT(files);
        path_of(path, sizeof path, file);
        FILE *out = fopen(path, "w");
        if (out) {
            fwrite(data + at + 2, 1, end - at - 2, out);
            fclose(out);
            written[file] = 1;
        }
        at = end;
    }
    struct mb_machine *machine = NULL;
    char *text = NULL;
    if (mb_machine_detect(&(struct mb_detect_opts){.root = root}, &machine, NULL) == MB_OK) {
        check(machine);
        if (mb_machine_json(machine, &text, NULL) != MB_OK)
            abort();
        mb_text_free(text);
        mb_machine_free(machine);
    }
    for (unsigned i = 0; i < MB_COUNT(files); i++) {
        path_of(path, sizeof path, i);
        if (written[i])
            unlink(path);
    }
    return 0;
}
