/* SPDX-License-Identifier: MIT */
/* The list of Vulkan devices from either source, and reading the recorded one:
 * ROOT/membound/vulkan.json, hostile until checked. Knows nothing of the Vulkan headers; the live
 * source is vk_live.c. */
#include "gpu/vk_list.h"

#include "base/reader.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    DEVICES_MAX = 64,
    HEAPS_MAX = 16, /* VK_MAX_MEMORY_HEAPS */
    TYPES_MAX = 32, /* VK_MAX_MEMORY_TYPES */
    FLAGS_MAX = 16,
    FILE_MAX = 1 << 20
};

#define HEAP_BYTES_MAX ((uint64_t)1 << 60)

static const char *const device_types[] = {"discrete", "integrated", "virtual", "cpu", "other"};

/* "0000:bb:dd.f" in lower-case hexadecimal digits, as sysfs names its directories; bridges may open
 * domains of more digits. */
static int is_pci(const char *text)
{
    static const char digits[] = "0123456789abcdef", shape[] = ":xx:xx.x";
    size_t domain = strspn(text, digits);
    if (domain < 4 || domain > 8 || strlen(text + domain) != sizeof shape - 1)
        return 0;
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == 'x' ? !strchr(digits, text[domain + i]) : text[domain + i] != shape[i])
            return 0;
    return 1;
}

static void read_heap(struct mb_reader *reader, const json_t *from, struct mb_vk_heap *heap)
{
    static const char *const keys[] = {"size_bytes", "device_local", "budget_bytes", "usage_bytes"};
    mb_reader_keys(reader, from, keys, MB_COUNT(keys));
    heap->size_bytes = mb_reader_count(reader, from, "size_bytes", HEAP_BYTES_MAX, MB_REQUIRED);
    if (!reader->code && heap->size_bytes == 0)
        mb_reader_fail(reader, "size_bytes", "is 0");
    heap->budget_bytes = mb_reader_count(reader, from, "budget_bytes", HEAP_BYTES_MAX, MB_OPTIONAL);
    heap->usage_bytes = mb_reader_count(reader, from, "usage_bytes", HEAP_BYTES_MAX, MB_OPTIONAL);
    heap->has_budget = heap->budget_bytes > 0;
    heap->device_local = mb_reader_flag(reader, from, "device_local");
}

static void read_heaps(struct mb_reader *reader, const json_t *device, struct mb_vk_info *info)
{
    const json_t *heaps = mb_reader_array(reader, device, "heaps", HEAPS_MAX, MB_REQUIRED);
    size_t n = json_array_size(heaps);
    if (!reader->code && n == 0)
        mb_reader_fail(reader, "heaps", "is empty");
    info->heaps = mb_arena_array(reader->arena, n, sizeof *info->heaps);
    for (size_t i = 0; i < n && info->heaps && !reader->code; i++) {
        size_t mark = mb_reader_enter(reader, "heaps[%zu]", i);
        read_heap(reader, json_array_get(heaps, i), &info->heaps[i]);
        mb_reader_leave(reader, mark);
    }
    info->n_heaps = (unsigned)n;
}

/* Memory types are not part of the list, but a recording with broken ones is not to be trusted for
 * the rest. */
static void check_types(struct mb_reader *reader, const json_t *device, unsigned n_heaps)
{
    static const char *const keys[] = {"heap", "flags"};
    const json_t *types = mb_reader_array(reader, device, "memory_types", TYPES_MAX, MB_OPTIONAL);
    for (size_t i = 0; i < json_array_size(types) && !reader->code; i++) {
        const json_t *type = json_array_get(types, i);
        unsigned n_flags;
        size_t mark = mb_reader_enter(reader, "memory_types[%zu]", i);
        mb_reader_keys(reader, type, keys, MB_COUNT(keys));
        mb_reader_count(reader, type, "heap", n_heaps - 1, MB_REQUIRED);
        mb_reader_texts(reader, type, "flags", FLAGS_MAX, &n_flags, MB_OPTIONAL);
        mb_reader_leave(reader, mark);
    }
}

static void read_device(struct mb_reader *reader, const json_t *device, struct mb_vk_info *info)
{
    static const char *const keys[] = {"name", "vendor_id", "device_id", "type",        "driver",
                                       "api",  "pci",       "heaps",     "memory_types"};
    mb_reader_keys(reader, device, keys, MB_COUNT(keys));
    info->name = mb_reader_text(reader, device, "name", MB_REQUIRED);
    info->vendor_id =
        (uint32_t)mb_reader_count(reader, device, "vendor_id", UINT32_MAX, MB_OPTIONAL);
    info->device_id =
        (uint32_t)mb_reader_count(reader, device, "device_id", UINT32_MAX, MB_OPTIONAL);
    int type =
        mb_reader_choice(reader, device, "type", device_types, MB_COUNT(device_types), MB_REQUIRED);
    info->type = type < 0 ? NULL : device_types[type];
    info->driver = mb_reader_text(reader, device, "driver", MB_OPTIONAL);
    info->api = mb_reader_text(reader, device, "api", MB_OPTIONAL);
    info->pci = mb_reader_text(reader, device, "pci", MB_OPTIONAL);
    if (info->pci && !is_pci(info->pci))
        mb_reader_fail(reader, "pci", "not an address like 0000:01:00.0");
    read_heaps(reader, device, info);
    check_types(reader, device, info->n_heaps);
    if (!reader->code)
        mb_vk_info_finish(info);
}

void mb_vk_info_finish(struct mb_vk_info *info)
{
    info->unified = info->n_heaps > 0;
    for (unsigned i = 0; i < info->n_heaps; i++) {
        struct mb_vk_heap *heap = &info->heaps[i];
        /* The specification forbids it, drivers that count memory of the whole system do it. */
        if (heap->budget_bytes > heap->size_bytes)
            heap->budget_bytes = heap->size_bytes;
        info->unified &= heap->device_local;
    }
}

int mb_vk_list_json(struct mb_arena *arena, const char *text, size_t n, const char *label,
                    struct mb_vk_info **out, unsigned *out_n, struct mb_err *err)
{
    static const char *const keys[] = {"devices"};
    struct mb_err why = {0};
    struct mb_reader reader = {.arena = arena, .file = label, .err = err};
    json_t *root = mb_json_parse(text, n, label, &why);
    if (!root)
        return mb_fail(err, why.code, "%s", why.text);
    mb_reader_keys(&reader, root, keys, MB_COUNT(keys));
    const json_t *devices = mb_reader_array(&reader, root, "devices", DEVICES_MAX, MB_REQUIRED);
    size_t n_list = json_array_size(devices);
    if (!reader.code && n_list == 0)
        reader.code = mb_fail(err, MB_ENOHW, "%s: no Vulkan device was recorded", label);
    struct mb_vk_info *list = mb_arena_array(arena, n_list, sizeof *list);
    for (size_t i = 0; i < n_list && list && !reader.code; i++) {
        size_t mark = mb_reader_enter(&reader, "devices[%zu]", i);
        read_device(&reader, json_array_get(devices, i), &list[i]);
        mb_reader_leave(&reader, mark);
    }
    json_decref(root);
    if (!reader.code && arena->failed)
        reader.code = mb_fail_memory(err);
    if (!reader.code) {
        *out = list;
        *out_n = (unsigned)n_list;
    }
    return reader.code;
}

static int list_recorded(struct mb_arena *arena, const char *root, struct mb_vk_info **out,
                         unsigned *out_n, struct mb_err *err)
{
    static const char path[] = "/membound/vulkan.json";
    size_t n = 0;
    errno = 0;
    char *text = mb_file_read(arena, root, path, FILE_MAX, &n);
    if (text)
        return mb_vk_list_json(arena, text, n, path + 1, out, out_n, err);
    if (errno == ENOENT || errno == ENOTDIR)
        return mb_fail(err, MB_ENOHW, "%s%s: no Vulkan device was recorded", root, path);
    if (errno == ENOMEM)
        return mb_fail_memory(err);
    if (errno == EFBIG)
        return mb_fail(err, MB_EFORMAT, "%s%s: over 1 MiB; record the machine again", root, path);
    return mb_fail(err, MB_EIO, "%s%s: %s; check its type and permissions", root, path,
                   strerror(errno));
}

int mb_vk_list(struct mb_arena *arena, const char *root, struct mb_vk_info **out, unsigned *out_n,
               struct mb_err *err)
{
    if (root && *root && strcmp(root, "/") != 0)
        return list_recorded(arena, root, out, out_n, err);
    return mb_vk_list_live(arena, out, out_n, err);
}

int mb_vk_worth_trying(void)
{
#ifdef __linux__
    /* NVIDIA makes its device files on first use, so its driver in proc counts, too; nvhost and
     * nvgpu: Jetson; dxg: WSL2; kgsl, mali0: vendors' drivers of phone chips. All others have a DRM
     * render node. */
    static const char *const files[] = {
        "/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia/version",
        "/dev/dxg",       "/dev/nvgpu",   "/dev/nvhost-ctrl-gpu",
        "/dev/kgsl-3d0",  "/dev/mali0",
    };
    for (size_t i = 0; i < MB_COUNT(files); i++)
        if (access(files[i], F_OK) == 0)
            return 1;
    DIR *dri = opendir("/dev/dri");
    if (!dri)
        return 0;
    int found = 0;
    for (struct dirent *entry; !found && (entry = readdir(dri));)
        found = strncmp(entry->d_name, "renderD", 7) == 0;
    closedir(dri);
    return found;
#else
    return 1;
#endif
}
