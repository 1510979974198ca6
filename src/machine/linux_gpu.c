/* SPDX-License-Identifier: MIT */
/* GPUs as Linux lists them: cards that a driver has taken (/sys/class/drm) with what amdgpu tells
 * of their memory, the PCIe path from the CPU to them, and display controllers that no driver has
 * taken (/sys/bus/pci). Which of them are integrated, and what a GPU library adds, is decided in
 * gpu.c. */
#include "machine/clean.h"
#include "machine/detect.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { CARDS_MAX = 64, PATH_DEPTH_MAX = 16 };

/* Display adapters of virtual machines and of server management chips (vendor numbers of the PCI ID
 * database). They show a desktop, they compute nothing. */
static int is_display_only(uint32_t vendor_id)
{
    static const uint32_t vendors[] = {
        0x1af4, /* virtio-gpu */
        0x1b36, /* QXL */
        0x1234, /* Bochs and QEMU's standard VGA */
        0x1013, /* Cirrus */
        0x15ad, /* VMware SVGA */
        0x80ee, /* VirtualBox */
        0x1414, /* Hyper-V */
        0x5853, /* Xen */
        0x1a03, /* ASPEED BMC */
        0x102b, /* Matrox G200 in BMCs */
        0x19e5, /* Huawei iBMC */
        0x1d0f  /* Amazon's virtual display */
    };
    for (size_t i = 0; i < MB_COUNT(vendors); i++)
        if (vendors[i] == vendor_id)
            return 1;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((const char *)a, (const char *)b);
}

/* Names in ROOT/directory that are prefix and then only the given characters, sorted. */
static unsigned list_names(const char *root, const char *directory, const char *prefix,
                           const char *characters, char (*names)[NAME_MAX + 1], unsigned max)
{
    char path[PATH_MAX];
    unsigned n = 0;
    int wrote = snprintf(path, sizeof path, "%s%s", root ? root : "", directory);
    DIR *dir = wrote > 0 && (size_t)wrote < sizeof path ? opendir(path) : NULL;
    if (!dir)
        return 0;
    for (struct dirent *entry; n < max && (entry = readdir(dir));) {
        size_t skip = strlen(prefix);
        const char *rest = entry->d_name + skip;
        if (strncmp(entry->d_name, prefix, skip) != 0 || !*rest || *rest == '.' ||
            strlen(entry->d_name) > 16 || rest[strspn(rest, characters)])
            continue;
        snprintf(names[n++], NAME_MAX + 1, "%s", entry->d_name);
    }
    closedir(dir);
    qsort(names, n, sizeof *names, compare_names);
    return n;
}

/* The value of KEY=value in a uevent file's text. */
static const char *uevent_value(struct mb_arena *arena, const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0 && line[n] == '=') {
            const char *value = line + n + 1;
            return mb_clean_name(arena, mb_arena_text_n(arena, value, strcspn(value, "\n")));
        }
    }
    return NULL;
}

static int attribute(const char *root, const char *device, const char *name, uint64_t *out)
{
    char path[PATH_MAX];
    int wrote = snprintf(path, sizeof path, "%s/%s", device, name);
    return wrote > 0 && (size_t)wrote < sizeof path && mb_file_u64(root, path, out);
}

/* "16.0 GT/s PCIe" -> 16; 0 unknown. */
static double link_speed(struct mb_arena *arena, const char *root, const char *device)
{
    char path[PATH_MAX];
    int wrote = snprintf(path, sizeof path, "%s/max_link_speed", device);
    const char *line =
        wrote > 0 && (size_t)wrote < sizeof path ? mb_file_line(arena, root, path) : NULL;
    double speed = 0;
    if (!line || sscanf(line, "%lf GT/s", &speed) != 1 || !(speed >= 2.5 && speed <= 128))
        return 0;
    return speed;
}

/* Narrow the card's link by one device on the path. */
static void narrow(struct mb_arena *arena, const char *root, const char *device,
                   struct mb_card *card)
{
    uint64_t lanes;
    double speed = link_speed(arena, root, device);
    if (speed > 0 && (card->gt_per_s <= 0 || speed < card->gt_per_s))
        card->gt_per_s = speed;
    if (attribute(root, device, "max_link_width", &lanes) && lanes >= 1 && lanes <= 32 &&
        (!card->width_max || lanes < card->width_max))
        card->width_max = (unsigned)lanes;
    if (attribute(root, device, "current_link_width", &lanes) && lanes >= 1 && lanes <= 32 &&
        (!card->width || lanes < card->width))
        card->width = (unsigned)lanes;
}

/* The slowest step between CPU and card. Many cards carry a PCIe switch: the chip's own link is
 * then inside the card and always wide, and the slot's link is one of the bridges above, which are
 * the directories above the device's real one. */
static void read_link(struct mb_arena *arena, const char *root, const char *device,
                      struct mb_card *card)
{
    char path[PATH_MAX], resolved[PATH_MAX];
    narrow(arena, root, device, card);
    int wrote = snprintf(path, sizeof path, "%s%s", root ? root : "", device);
    if (wrote < 0 || (size_t)wrote >= sizeof path || !realpath(path, resolved))
        return;
    for (int depth = 0; depth < PATH_DEPTH_MAX; depth++) {
        char *slash = strrchr(resolved, '/');
        if (!slash || slash == resolved)
            return;
        *slash = 0;
        const char *name = strrchr(resolved, '/');
        if (!name || !mb_clean_pci(arena, name + 1))
            return;
        narrow(arena, NULL, resolved, card);
    }
}

/* Fill card from a device directory (below root). 0: no GPU of a maker that anything here can use.
 */
static int read_card(struct mb_arena *arena, const char *root, const char *device,
                     struct mb_card *card)
{
    uint64_t vendor = 0, id = 0;
    if (!attribute(root, device, "vendor", &vendor) || vendor > 0xffff ||
        is_display_only((uint32_t)vendor))
        return 0;
    card->vendor_id = (uint32_t)vendor;
    if (attribute(root, device, "device", &id) && id <= 0xffff)
        card->device_id = (uint32_t)id;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/uevent", device);
    const char *text = mb_file_read(arena, root, path, 64 << 10, NULL);
    card->driver = uevent_value(arena, text, "DRIVER");
    card->pci = mb_clean_pci(arena, uevent_value(arena, text, "PCI_SLOT_NAME"));
    snprintf(path, sizeof path, "%s/product_name", device);
    card->name = mb_clean_name(arena, mb_file_line(arena, root, path));
    card->has_vram = attribute(root, device, "mem_info_vram_total", &card->vram_bytes) &&
                     card->vram_bytes < (uint64_t)1 << 50;
    if (!card->has_vram)
        card->vram_bytes = 0;
    if (!attribute(root, device, "mem_info_vram_used", &card->vram_used_bytes) ||
        card->vram_used_bytes > card->vram_bytes)
        card->vram_used_bytes = UINT64_MAX;
    card->has_gtt = attribute(root, device, "mem_info_gtt_total", &card->gtt_bytes) &&
                    card->gtt_bytes < (uint64_t)1 << 50;
    if (!card->has_gtt)
        card->gtt_bytes = 0;
    if (!attribute(root, device, "mem_info_gtt_used", &card->gtt_used_bytes) ||
        card->gtt_used_bytes > card->gtt_bytes)
        card->gtt_used_bytes = UINT64_MAX;
    read_link(arena, root, device, card);
    return 1;
}

/* By PCI address, because the kernel's card numbers change from boot to boot; those without one
 * last. */
static int compare_cards(const void *a, const void *b)
{
    const struct mb_card *x = a, *y = b;
    if (!x->pci || !y->pci)
        return !x->pci - !y->pci;
    return strcmp(x->pci, y->pci);
}

void mb_card_list(struct mb_machine *machine, const char *root, struct mb_card **out, unsigned *n)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    char(*names)[NAME_MAX + 1] = mb_arena_array(arena, 1024, sizeof *names);
    *out = NULL;
    *n = 0;
    if (!names)
        return;
    unsigned n_names = list_names(root, "/sys/class/drm", "card", "0123456789", names, CARDS_MAX);
    for (unsigned i = 0; i < n_names; i++) {
        char device[128];
        struct mb_card card = {.has_drm = 1};
        snprintf(device, sizeof device, "/sys/class/drm/%.40s/device", names[i]);
        if (!read_card(arena, root, device, &card))
            continue;
        struct mb_card *new = mb_arena_append(arena, out, n, sizeof *new);
        if (new)
            *new = card;
    }
    n_names = list_names(root, "/sys/bus/pci/devices", "", "0123456789abcdef:.", names, 1024);
    for (unsigned i = 0; i < n_names && *n < CARDS_MAX; i++) {
        char device[128];
        uint64_t class = 0;
        struct mb_card card = {0};
        const char *pci = mb_clean_pci(arena, names[i]);
        snprintf(device, sizeof device, "/sys/bus/pci/devices/%.40s", names[i]);
        /* PCI class 03: display controllers; 12: processing accelerators. */
        if (!pci || !attribute(root, device, "class", &class) ||
            (class >> 16 != 0x03 && class >> 16 != 0x12) || !read_card(arena, root, device, &card))
            continue;
        card.pci = pci;
        int known = 0;
        for (unsigned k = 0; k < *n; k++)
            known |= (*out)[k].pci && strcmp((*out)[k].pci, pci) == 0;
        struct mb_card *new = known ? NULL : mb_arena_append(arena, out, n, sizeof *new);
        if (new)
            *new = card;
    }
    if (*n)
        qsort(*out, *n, sizeof **out, compare_cards);
}
