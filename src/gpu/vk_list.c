/* SPDX-License-Identifier: MIT */
/* The list of Vulkan devices from either source, and reading the recorded one: ROOT/membound/vulkan.json, hostile until
 * checked. Knows nothing of the Vulkan headers; the live source is vk_live.c. */
#include "gpu/vk_list.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    DEVICES_MAX = 64,
    HEAPS_MAX = 16, /* VK_MAX_MEMORY_HEAPS */
    TYPES_MAX = 32, /* VK_MAX_MEMORY_TYPES */
    FLAGS_MAX = 16,
    TEXT_MAX = 256, /* VK_MAX_PHYSICAL_DEVICE_NAME_SIZE */
    FILE_MAX = 1 << 20
};

#define HEAP_BYTES_MAX ((uint64_t)1 << 60)

static const char *const device_types[] = {"discrete", "integrated", "virtual", "cpu", "other"};

/* Where in which recording: errors say "LABEL: devices[2]: heaps[0].size_bytes: ...". */
struct place {
    const char *label;
    char at[48];
};

static int bad(struct mb_err *err, const struct place *place, const char *key, const char *what)
{
    return mb_fail(err, MB_EFORMAT, "%s: %s%s: %s; record the machine again", place->label, place->at, key, what);
}

static int is_text(const char *text, size_t n)
{
    if (n == 0 || n > TEXT_MAX || strlen(text) != n)
        return 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return 0;
    return 1;
}

/* A text of printable characters in the arena; NULL where absent or null, unless it is required. */
static int get_text(struct mb_arena *arena, json_t *object, const char *key, int required, const struct place *place,
                    const char **out, struct mb_err *err)
{
    json_t *value = json_object_get(object, key);
    *out = NULL;
    if (!required && (!value || json_is_null(value)))
        return MB_OK;
    if (!json_is_string(value) || !is_text(json_string_value(value), json_string_length(value)))
        return bad(err, place, key, "a text of 1 to 256 printable bytes was expected");
    *out = mb_arena_text(arena, json_string_value(value));
    return *out ? MB_OK : mb_fail_memory(err);
}

/* A whole number 0..max; *known says whether there was one (absent and null: 0). */
static int get_count(json_t *object, const char *key, uint64_t max, const struct place *place, uint64_t *out, int *known,
                     struct mb_err *err)
{
    json_t *value = json_object_get(object, key);
    *out = 0;
    *known = value && !json_is_null(value);
    if (!*known)
        return MB_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > max)
        return bad(err, place, key, "a whole number in range was expected");
    *out = (uint64_t)json_integer_value(value);
    return MB_OK;
}

/* An array of min..max elements, or NULL where it may be absent (min 0). */
static int get_array(json_t *object, const char *key, size_t min, size_t max, const struct place *place, json_t **out,
                     struct mb_err *err)
{
    *out = json_object_get(object, key);
    if (!*out && min == 0)
        return MB_OK;
    if (!json_is_array(*out) || json_array_size(*out) < min || json_array_size(*out) > max)
        return bad(err, place, key, "an array was expected, of not too many elements");
    return MB_OK;
}

/* "0000:bb:dd.f" in lower-case hexadecimal digits, as sysfs names its directories; bridges may open domains of more digits. */
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

static int read_heaps(struct mb_arena *arena, json_t *device, struct place *place, struct mb_vk_info *info,
                      struct mb_err *err)
{
    json_t *heaps, *heap;
    size_t i;
    int code = get_array(device, "heaps", 1, HEAPS_MAX, place, &heaps, err);
    if (code != MB_OK)
        return code;
    info->heaps = mb_arena_array(arena, json_array_size(heaps), sizeof *info->heaps);
    if (!info->heaps)
        return mb_fail_memory(err);
    size_t prefix = strlen(place->at);
    json_array_foreach(heaps, i, heap) {
        struct mb_vk_heap *to = &info->heaps[i];
        int has_size, has_usage;
        snprintf(place->at + prefix, sizeof place->at - prefix, "heaps[%zu].", i);
        code = get_count(heap, "size_bytes", HEAP_BYTES_MAX, place, &to->size_bytes, &has_size, err);
        if (code == MB_OK && !to->size_bytes)
            code = bad(err, place, "size_bytes", "a size over 0 was expected");
        if (code == MB_OK)
            code = get_count(heap, "budget_bytes", HEAP_BYTES_MAX, place, &to->budget_bytes, &to->has_budget, err);
        if (code == MB_OK)
            code = get_count(heap, "usage_bytes", HEAP_BYTES_MAX, place, &to->usage_bytes, &has_usage, err);
        if (code == MB_OK && !json_is_boolean(json_object_get(heap, "device_local")))
            code = bad(err, place, "device_local", "true or false was expected");
        if (code != MB_OK)
            return code;
        to->device_local = json_is_true(json_object_get(heap, "device_local"));
    }
    place->at[prefix] = 0;
    info->n_heaps = (unsigned)json_array_size(heaps);
    return MB_OK;
}

/* Memory types are not part of the list, but a recording with broken ones is not to be trusted for the rest. */
static int check_types(json_t *device, const struct mb_vk_info *info, struct place *place, struct mb_err *err)
{
    json_t *types, *type, *flags, *flag;
    size_t i, j;
    int code = get_array(device, "memory_types", 0, TYPES_MAX, place, &types, err);
    if (code != MB_OK || !types)
        return code;
    size_t prefix = strlen(place->at);
    json_array_foreach(types, i, type) {
        uint64_t heap;
        int known;
        snprintf(place->at + prefix, sizeof place->at - prefix, "memory_types[%zu].", i);
        code = get_count(type, "heap", info->n_heaps - 1, place, &heap, &known, err);
        if (code == MB_OK && !known)
            code = bad(err, place, "heap", "the index of a heap was expected");
        if (code == MB_OK)
            code = get_array(type, "flags", 0, FLAGS_MAX, place, &flags, err);
        if (code != MB_OK)
            return code;
        json_array_foreach(flags, j, flag)
            if (!json_is_string(flag))
                return bad(err, place, "flags", "names were expected");
    }
    place->at[prefix] = 0;
    return MB_OK;
}

static int read_device(struct mb_arena *arena, json_t *device, struct place *place, struct mb_vk_info *info,
                       struct mb_err *err)
{
    uint64_t vendor_id, device_id;
    int known;
    int code = get_text(arena, device, "name", 1, place, &info->name, err);
    if (code == MB_OK)
        code = get_text(arena, device, "driver", 0, place, &info->driver, err);
    if (code == MB_OK)
        code = get_text(arena, device, "api", 0, place, &info->api, err);
    if (code == MB_OK)
        code = get_text(arena, device, "pci", 0, place, &info->pci, err);
    if (code == MB_OK && info->pci && !is_pci(info->pci))
        code = bad(err, place, "pci", "an address like 0000:01:00.0 was expected");
    if (code == MB_OK)
        code = get_count(device, "vendor_id", UINT32_MAX, place, &vendor_id, &known, err);
    if (code == MB_OK)
        code = get_count(device, "device_id", UINT32_MAX, place, &device_id, &known, err);
    if (code == MB_OK)
        code = read_heaps(arena, device, place, info, err);
    if (code == MB_OK)
        code = check_types(device, info, place, err);
    if (code != MB_OK)
        return code;
    info->vendor_id = (uint32_t)vendor_id;
    info->device_id = (uint32_t)device_id;
    const char *type = json_string_value(json_object_get(device, "type"));
    for (size_t i = 0; type && i < MB_COUNT(device_types); i++)
        if (strcmp(type, device_types[i]) == 0)
            info->type = device_types[i];
    if (!info->type)
        return bad(err, place, "type", "discrete, integrated, virtual, cpu or other was expected");
    mb_vk_info_finish(info);
    return MB_OK;
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

int mb_vk_list_json(struct mb_arena *arena, const char *text, size_t n, const char *label, struct mb_vk_info **out,
                    unsigned *out_n, struct mb_err *err)
{
    struct place place = {.label = label};
    json_t *devices, *device;
    size_t i;
    json_t *root = mb_json_parse(text, n, label, err);
    if (!root)
        return err && err->code == MB_ENOMEM ? MB_ENOMEM : MB_EFORMAT;
    struct mb_vk_info *list = NULL;
    unsigned n_list = 0;
    int code = get_array(root, "devices", 1, DEVICES_MAX, &place, &devices, err);
    if (code != MB_OK && json_is_array(devices) && json_array_size(devices) == 0)
        code = mb_fail(err, MB_ENOHW, "%s: no Vulkan device was recorded", label);
    if (code == MB_OK && !(list = mb_arena_array(arena, json_array_size(devices), sizeof *list)))
        code = mb_fail_memory(err);
    if (code == MB_OK) {
        json_array_foreach(devices, i, device) {
            snprintf(place.at, sizeof place.at, "devices[%zu].", i);
            code = read_device(arena, device, &place, &list[n_list++], err);
            if (code != MB_OK)
                break;
        }
    }
    json_decref(root);
    if (code == MB_OK) {
        *out = list;
        *out_n = n_list;
    }
    return code;
}

static int list_recorded(struct mb_arena *arena, const char *root, struct mb_vk_info **out, unsigned *out_n,
                         struct mb_err *err)
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
    return mb_fail(err, MB_EIO, "%s%s: %s; check its type and permissions", root, path, strerror(errno));
}

int mb_vk_list(struct mb_arena *arena, const char *root, struct mb_vk_info **out, unsigned *out_n, struct mb_err *err)
{
    if (root && *root && strcmp(root, "/") != 0)
        return list_recorded(arena, root, out, out_n, err);
    return mb_vk_list_live(arena, out, out_n, err);
}

int mb_vk_worth_trying(void)
{
#ifdef __linux__
    /* NVIDIA makes its device files on first use, so its driver in proc counts, too; nvhost and nvgpu: Jetson; dxg: WSL2;
     * kgsl, mali0: vendors' drivers of phone chips. All others have a DRM render node. */
    static const char *const files[] = {
        "/dev/nvidiactl", "/dev/nvidia0",         "/proc/driver/nvidia/version", "/dev/dxg",
        "/dev/nvgpu",     "/dev/nvhost-ctrl-gpu", "/dev/kgsl-3d0",               "/dev/mali0",
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
