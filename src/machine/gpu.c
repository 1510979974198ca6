/* SPDX-License-Identifier: MIT */
/* The GPUs of a machine, each once, whoever reported it: NVML (the best for NVIDIA), /sys (which
 * cards there are, and amdgpu's memory), Vulkan (everything else, and what is integrated). The same
 * card is known by its PCI address, else by its PCI id, else by its name.
 *
 * Integrated or discrete, the first that answers:
 *   1. Vulkan's device type (drivers know it);
 *   2. the chip table: a system on a chip, or a card;
 *   3. NVIDIA: the systems on a chip by their names; Intel: slot 00:02.0 is the processor's own;
 * AMD: PCI ids of APUs;
 *   4. Vulkan's heaps: all device-local means one memory.
 * A discrete GPU whose memory nobody states is named in a note and not counted. */
#include "gpu/vk.h"
#include "machine/clean.h"
#include "machine/detect.h"
#include "machine/nvml.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { VENDOR_AMD = 0x1002, VENDOR_NVIDIA = 0x10de, VENDOR_INTEL = 0x8086 };
static const uint64_t memory_bytes_max = (uint64_t)1 << 50;

/* A GPU while the readers' answers come together. */
struct found {
    struct mb_gpu_facts gpu;
    const struct mb_nvml_gpu *nvml;
    const struct mb_card *card;
    const struct mb_vk_info *vk;
    const char *vk_driver; /* the last Vulkan driver that offered it */
};

struct search {
    struct mb_machine *machine;
    struct mb_arena *arena;
    const struct mb_chips *chips; /* NULL: not to be had */
    struct found *found;
    unsigned n;
};

static struct found *add(struct search *s)
{
    return mb_arena_append(s->arena, &s->found, &s->n, sizeof *s->found);
}

static struct found *find_pci(struct search *s, const char *pci)
{
    for (unsigned i = 0; i < s->n && pci; i++)
        if (s->found[i].gpu.pci && strcmp(s->found[i].gpu.pci, pci) == 0)
            return s->found + i;
    return NULL;
}

/* "10de:2684" */
static const char *pci_id(struct search *s, const struct mb_gpu_facts *gpu)
{
    return gpu->vendor_id ? mb_arena_format(s->arena, "%04x:%04x", gpu->vendor_id & 0xffff,
                                            gpu->device_id & 0xffff)
                          : NULL;
}

/* ---- bringing the answers together ---- */

static void take_nvml(struct search *s, const struct mb_nvml *nvml)
{
    for (unsigned i = 0; i < nvml->n_gpus; i++) {
        const struct mb_nvml_gpu *from = nvml->gpus + i;
        if (!from->name && !from->pci)
            continue;
        if (find_pci(s, from->pci))
            continue;
        struct found *f = add(s);
        if (!f)
            return;
        f->nvml = from;
        f->gpu.name = from->name;
        f->gpu.pci = from->pci;
        f->gpu.vendor_id = VENDOR_NVIDIA;
        f->gpu.device_id = from->device_id;
    }
}

static void take_cards(struct search *s, const struct mb_card *cards, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct found *f = find_pci(s, cards[i].pci);
        if (!f)
            f = add(s);
        if (!f)
            return;
        f->card = cards + i;
        f->gpu.pci = cards[i].pci;
        f->gpu.vendor_id = cards[i].vendor_id;
        f->gpu.device_id = cards[i].device_id;
    }
}

/* The found GPU that a Vulkan device without (matching) PCI address is: same PCI id or one name in
 * the other, and this driver has not offered it yet (two equal cards are two devices of one
 * driver). */
static struct found *find_similar(struct search *s, const struct mb_vk_info *vk)
{
    for (int by_name = 0; by_name < 2; by_name++)
        for (unsigned i = 0; i < s->n; i++) {
            struct found *f = s->found + i;
            const char *driver = vk->driver ? vk->driver : "";
            if (vk->pci && f->gpu.pci)
                continue;
            if (f->vk_driver && strcmp(f->vk_driver, driver) == 0)
                continue;
            int same = by_name ? f->gpu.name && vk->name && strcasestr(vk->name, f->gpu.name)
                               : f->gpu.device_id && f->gpu.vendor_id == vk->vendor_id &&
                                     f->gpu.device_id == vk->device_id;
            if (same)
                return f;
        }
    return NULL;
}

static void take_vulkan(struct search *s, const struct mb_vk_info *list, unsigned n,
                        int allow_software)
{
    for (unsigned i = 0; i < n; i++) {
        const struct mb_vk_info *vk = list + i;
        int software = strcmp(vk->type, "cpu") == 0;
        if (software ? !allow_software : strcmp(vk->type, "other") == 0)
            continue;
        const char *pci = mb_clean_pci(s->arena, vk->pci);
        struct found *f = find_pci(s, pci);
        if (!f && !software)
            f = find_similar(s, vk);
        if (!f)
            f = add(s);
        if (!f)
            return;
        if (!f->vk)
            f->vk = vk;
        f->vk_driver = vk->driver ? vk->driver : "";
        if (!f->gpu.pci)
            f->gpu.pci = pci;
        if (!f->gpu.vendor_id) {
            f->gpu.vendor_id = vk->vendor_id;
            f->gpu.device_id = vk->device_id;
        }
        if (!f->gpu.name)
            f->gpu.name = mb_clean_name(s->arena, vk->name);
    }
}

/* ---- conclusions about one ---- */

/* AMD's processors with graphics by their PCI device id (PCI ID database, amdgpu's list of APUs).
 */
static int is_amd_apu(uint32_t device_id)
{
    static const uint16_t ids[] = {
        0x15dd, 0x15d8,                 /* Raven, Picasso */
        0x1636, 0x164c, 0x1638, 0x15e7, /* Renoir, Lucienne, Cezanne, Barcelo */
        0x163f, 0x1435,                 /* Van Gogh */
        0x164d, 0x1681, 0x1506,         /* Rembrandt, Mendocino */
        0x164e, 0x13c0,                 /* Raphael, Granite Ridge */
        0x15bf, 0x15c8, 0x1900, 0x1901, /* Phoenix, Hawk Point */
        0x150e, 0x1586, 0x1114          /* Strix Point, Strix Halo, Krackan Point */
    };
    for (size_t i = 0; i < MB_COUNT(ids); i++)
        if (ids[i] == device_id)
            return 1;
    return 0;
}

static int is_integrated(const struct found *f, const struct mb_chip *chip)
{
    const char *type = f->vk ? f->vk->type : "";
    if (strcmp(type, "integrated") == 0 || strcmp(type, "cpu") == 0)
        return 1;
    if (strcmp(type, "discrete") == 0)
        return 0;
    if (chip)
        return chip->kind == MB_CHIP_SOC;
    if (f->gpu.vendor_id == VENDOR_NVIDIA) {
        static const char *const names[] = {"GB10", "nvgpu", "Orin", "Xavier", "Thor"};
        for (size_t i = 0; i < MB_COUNT(names) && f->gpu.name; i++)
            if (strstr(f->gpu.name, names[i]))
                return 1;
        return 0;
    }
    if (f->gpu.vendor_id == VENDOR_INTEL)
        return f->gpu.pci && strcmp(f->gpu.pci, "0000:00:02.0") == 0;
    if (f->gpu.vendor_id == VENDOR_AMD)
        return is_amd_apu(f->gpu.device_id);
    return f->vk && f->vk->unified;
}

/* Bytes of a Vulkan device's heaps. NVIDIA lists a window into VRAM as a second device-local heap,
 * which is no memory of its own; other drivers' heaps do not overlap. */
static uint64_t heap_bytes(const struct mb_vk_info *vk, int device_local_only, int largest_only)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < vk->n_heaps; i++) {
        uint64_t size = vk->heaps[i].size_bytes;
        if ((device_local_only && !vk->heaps[i].device_local) || size > memory_bytes_max)
            continue;
        sum = largest_only ? (size > sum ? size : sum) : sum + size;
    }
    return sum <= memory_bytes_max ? sum : 0;
}

/* What is left of the device-local heaps; 0 when a driver does not tell (*known 0). */
static uint64_t heap_free_bytes(const struct mb_vk_info *vk, int *known)
{
    uint64_t free_bytes = 0;
    *known = 0;
    for (unsigned i = 0; i < vk->n_heaps; i++) {
        const struct mb_vk_heap *heap = vk->heaps + i;
        if (!heap->device_local || !heap->has_budget || heap->budget_bytes > memory_bytes_max)
            continue;
        *known = 1;
        uint64_t left =
            heap->budget_bytes > heap->usage_bytes ? heap->budget_bytes - heap->usage_bytes : 0;
        free_bytes = left > free_bytes ? left : free_bytes;
    }
    return free_bytes;
}

static void conclude_memory(const struct found *f, struct mb_gpu_facts *gpu)
{
    const struct mb_card *card = f->card;
    if (f->nvml && f->nvml->has_memory) {
        gpu->vram_bytes =
            mb_figure_of((double)f->nvml->memory_bytes, MB_REPORTED, "nvmlDeviceGetMemoryInfo");
        gpu->vram_free_bytes = mb_figure_of((double)f->nvml->memory_free_bytes, MB_REPORTED,
                                            "nvmlDeviceGetMemoryInfo");
    } else if (card && card->has_vram && card->vram_bytes) {
        gpu->vram_bytes =
            mb_figure_of((double)card->vram_bytes, MB_REPORTED, "amdgpu mem_info_vram_total");
        if (card->vram_used_bytes != UINT64_MAX)
            gpu->vram_free_bytes =
                mb_figure_of((double)(card->vram_bytes - card->vram_used_bytes), MB_REPORTED,
                             "amdgpu mem_info_vram_total - mem_info_vram_used");
    } else if (f->vk && !gpu->integrated) {
        int known;
        uint64_t bytes = heap_bytes(f->vk, 1, gpu->vendor_id == VENDOR_NVIDIA),
                 left = heap_free_bytes(f->vk, &known);
        if (bytes)
            gpu->vram_bytes =
                mb_figure_of((double)bytes, MB_REPORTED, "Vulkan, device-local heaps");
        if (bytes && known)
            gpu->vram_free_bytes = mb_figure_of((double)(left < bytes ? left : bytes), MB_REPORTED,
                                                "Vulkan, VK_EXT_memory_budget");
    }
    if (!gpu->integrated)
        return;
    if (card && card->has_gtt && card->gtt_bytes)
        gpu->gtt_bytes =
            mb_figure_of((double)card->gtt_bytes, MB_REPORTED, "amdgpu mem_info_gtt_total");
    if (f->vk && heap_bytes(f->vk, 0, 0))
        gpu->heaps_bytes =
            mb_figure_of((double)heap_bytes(f->vk, 0, 0), MB_REPORTED, "Vulkan memory heaps");
}

static void conclude_link(const struct found *f, struct mb_gpu_facts *gpu)
{
    static const double gt_per_s[] = {2.5, 5, 8, 16, 32, 64};
    if (f->card) {
        for (unsigned g = 0; g < MB_COUNT(gt_per_s); g++)
            if (f->card->gt_per_s >= gt_per_s[g])
                gpu->pcie_generation = g + 1;
        gpu->width_max = f->card->width_max;
        gpu->width = f->card->width;
    }
    if (f->nvml && f->nvml->link_generation_max)
        gpu->pcie_generation = f->nvml->link_generation_max;
    if (f->nvml && f->nvml->link_width_max) {
        gpu->width_max = f->nvml->link_width_max;
        gpu->width = f->nvml->link_width;
    }
    if (gpu->pcie_generation > 6)
        gpu->pcie_generation = 0;
}

static void conclude_bandwidth(struct search *s, const struct found *f, struct mb_gpu_facts *gpu)
{
    const struct mb_nvml_gpu *nvml = f->nvml;
    if (nvml && nvml->memory_clock_mhz && nvml->bus_width_bits) {
        /* Two transfers per clock: NVML counts GDDR5 to 7 and HBM alike. */
        double rate = 2.0 * nvml->memory_clock_mhz * 1e6 * nvml->bus_width_bits / 8;
        gpu->bandwidth_bytes_per_s =
            mb_figure_of(rate, MB_DERIVED,
                         mb_arena_format(s->arena, "2 x %u MHz x %u bit / 8 = %.0f GB/s, NVML",
                                         nvml->memory_clock_mhz, nvml->bus_width_bits, rate / 1e9));
    } else if (gpu->chip) {
        gpu->bandwidth_bytes_per_s = gpu->chip->bandwidth_bytes_per_s;
        gpu->bandwidth_bytes_per_s.detail =
            mb_arena_text(s->arena, gpu->bandwidth_bytes_per_s.detail);
    }
}

/* The table's entry; the size of its memory tells cards of one name apart. */
static const struct mb_chip *find_chip(const struct search *s, const struct found *f,
                                       const char *id)
{
    struct mb_chip_hints hints = {.name = f->gpu.name, .pci_id = id};
    if (f->nvml && f->nvml->has_memory)
        hints.memory_bytes = (double)f->nvml->memory_bytes;
    else if (f->vk && strcmp(f->vk->type, "discrete") == 0)
        hints.memory_bytes = (double)heap_bytes(f->vk, 1, f->gpu.vendor_id == VENDOR_NVIDIA);
    const struct mb_chip *chip = mb_chip_find_like(s->chips, &hints);
    return chip && chip->kind != MB_CHIP_CPU ? chip : NULL;
}

/* Turn what was found into a GPU. 0: it is named in a note and not counted. */
static int conclude(struct search *s, const struct found *f, struct mb_gpu_facts *gpu)
{
    const char *id = pci_id(s, &f->gpu);
    const char *driver = f->card ? f->card->driver : NULL;
    *gpu = f->gpu;
    if (s->chips)
        gpu->chip = find_chip(s, f, id);
    gpu->integrated = is_integrated(f, gpu->chip);
    gpu->software = f->vk && strcmp(f->vk->type, "cpu") == 0;
    if (!gpu->name)
        gpu->name = f->card && f->card->name ? f->card->name
                    : gpu->chip              ? mb_arena_text(s->arena, gpu->chip->name)
                                             : mb_arena_format(s->arena, "%s GPU %s",
                                                  gpu->vendor_id == VENDOR_NVIDIA  ? "NVIDIA"
                                                               : gpu->vendor_id == VENDOR_AMD   ? "AMD"
                                                               : gpu->vendor_id == VENDOR_INTEL ? "Intel"
                                                                                                : "unknown",
                                                  id ? id : "");
    conclude_memory(f, gpu);
    if (!f->nvml && !f->vk && !driver) {
        mb_machine_add_note(s->machine,
                            "%s%s%s has no driver, so it is not counted: install its driver.",
                            gpu->name, gpu->pci ? " at " : "", gpu->pci ? gpu->pci : "");
        return 0;
    }
    if (!gpu->integrated && !mb_figure_known(&gpu->vram_bytes)) {
        mb_machine_add_note(
            s->machine, "%s%s%s does not tell its memory (driver %s), so it is not counted: %s.",
            gpu->name, gpu->pci ? " at " : "", gpu->pci ? gpu->pci : "",
            driver ? driver : "unknown",
            driver && strcmp(driver, "vfio-pci") == 0 ? "it is reserved for a virtual machine"
            : gpu->vendor_id == VENDOR_NVIDIA ? "install NVIDIA's driver, or look at nvidia-smi"
                                              : "install its Vulkan driver");
        return 0;
    }
    if (!gpu->integrated)
        conclude_link(f, gpu);
    conclude_bandwidth(s, f, gpu);
    if (f->nvml) {
        gpu->n_cores = f->nvml->n_cores;
        if (f->nvml->power_limit_mw)
            gpu->power_limit_w = mb_figure_of(f->nvml->power_limit_mw / 1000.0, MB_REPORTED,
                                              "nvmlDeviceGetEnforcedPowerLimit");
        if (f->nvml->mig)
            mb_machine_add_note(
                s->machine,
                "%s is divided into MIG instances; the sizes here are of the whole GPU.",
                gpu->name);
    }
    if (!gpu->n_cores && gpu->chip)
        gpu->n_cores = gpu->chip->n_gpu_cores;
    if (f->vk && !f->nvml)
        gpu->driver = mb_arena_format(s->arena, "vulkan %s",
                                      f->vk->driver ? mb_clean_name(s->arena, f->vk->driver) : "");
    else if (!f->nvml)
        gpu->driver = mb_arena_format(s->arena, "%s sysfs", driver);
    return 1;
}

/* Discrete before integrated before software, each in PCI order; those without an address in the
 * order found. */
static int compare_gpus(const void *a, const void *b)
{
    const struct mb_gpu_facts *x = a, *y = b;
    int rank_x = x->integrated + x->software, rank_y = y->integrated + y->software;
    if (rank_x != rank_y)
        return rank_x - rank_y;
    if (x->pci && y->pci && strcmp(x->pci, y->pci) != 0)
        return strcmp(x->pci, y->pci);
    if (!x->pci != !y->pci)
        return !x->pci - !y->pci;
    return (x->order > y->order) - (x->order < y->order);
}

int mb_gpu_list(struct mb_machine *machine, const char *root, const struct mb_detect_opts *opts,
                const struct mb_chips *chips, struct mb_gpu_facts **out, unsigned *n)
{
    struct search s = {.machine = machine, .arena = mb_machine_arena(machine), .chips = chips};
    struct mb_nvml nvml = {0};
    struct mb_card *cards = NULL;
    struct mb_vk_info *vk = NULL;
    unsigned n_cards = 0, n_vk = 0;
    struct mb_err err = {0};
    *out = NULL;
    *n = 0;
    mb_card_list(machine, root, &cards, &n_cards);
    int n_nvidia = 0, vulkan_answers = 0;
    for (unsigned i = 0; i < n_cards; i++)
        n_nvidia += cards[i].vendor_id == VENDOR_NVIDIA;
    if (!opts->no_gpu) {
        int code = mb_nvml_list(s.arena, root, &nvml, &err);
        if (code == MB_ENOMEM)
            return code;
        if (code == MB_EFORMAT || (code != MB_OK && n_nvidia))
            mb_machine_add_note(machine, "%s.", err.text);
        if (root || opts->allow_software_gpu || mb_vk_worth_trying()) {
            code = mb_vk_list(s.arena, root, &vk, &n_vk, &err);
            if (code == MB_ENOMEM)
                return code;
            vulkan_answers = code == MB_OK;
            if (code != MB_OK && (code != MB_ENOHW || (!root && n_cards)))
                mb_machine_add_note(machine, "%s.", err.text);
        }
    } else if (n_cards) {
        mb_machine_add_note(machine, "GPU libraries were not asked, so GPUs may be missing here.");
    }
    take_nvml(&s, &nvml);
    take_cards(&s, cards, n_cards);
    if (vulkan_answers)
        take_vulkan(&s, vk, n_vk, opts->allow_software_gpu);
    for (unsigned i = 0; i < s.n; i++) {
        struct mb_gpu_facts gpu;
        if (!conclude(&s, s.found + i, &gpu))
            continue;
        if (s.found[i].nvml)
            gpu.driver = nvml.driver ? mb_arena_format(s.arena, "nvml %s", nvml.driver) : "nvml";
        if (vulkan_answers && !s.found[i].vk)
            mb_machine_add_note(
                machine,
                "%s is not offered by Vulkan, which membound computes with: install its Vulkan driver.",
                gpu.name);
        gpu.order = *n;
        struct mb_gpu_facts *new = mb_arena_append(s.arena, out, n, sizeof *new);
        if (!new)
            return MB_ENOMEM;
        *new = gpu;
    }
    if (*n)
        qsort(*out, *n, sizeof **out, compare_gpus);
    return MB_OK;
}
