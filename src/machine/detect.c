/* SPDX-License-Identifier: MIT */
/* From what the readers found to a machine of pools, processors and links.
 *
 * Which pools there are:
 *   - each discrete GPU's memory is a pool of its own;
 *   - RAM is one pool. It is `unified` when a GPU reads it and nothing better is there: no discrete
 * GPU, or the RAM was clearly bought for the GPU (its chip reads it at 200 GB/s and more, or
 * firmware has set over a quarter of it aside). Else it is `system`, and an integrated GPU is one
 * more processor that reads it.
 *   - a firmware carve-out of a unified pool is part of it, whatever its size: it is the same RAM.
 * A virtual machine's memory modules are made up by its host, so no bandwidth is derived from them.
 */
#include "machine/detect.h"
#include "machine/clean.h"
#include "machine/macos.h"
#include "machine/smbios.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static const double fast_unified_bytes_per_s = 200e9;

struct detection {
    struct mb_machine *machine;
    struct mb_arena *arena;
    const char *root; /* NULL: live */
    struct mb_chips *chips;
    struct mb_cpu cpu;
    struct mb_ram ram;
    struct mb_gpu_facts *gpus;
    unsigned n_gpus;
    int has_dimms;
    struct mb_dimm_sum dimms;
    const char *dimms_source;
};

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* A figure of the chip table, whose texts go away with the table. */
static struct mb_figure keep(struct detection *d, struct mb_figure figure)
{
    figure.detail = mb_arena_text(d->arena, figure.detail);
    return figure;
}

static double value_or_0(const struct mb_figure *figure)
{
    return mb_figure_known(figure) ? figure->value : 0;
}

/* ---- names ---- */

/* "Linux 6.1, x86_64" */
static void read_os(struct detection *d)
{
    const char *version = mb_file_line(d->arena, d->root, "/proc/version");
    unsigned major, minor;
    if (!version || sscanf(version, "Linux version %5u.%5u", &major, &minor) != 2)
        return;
    int wsl = strcasestr(version, "microsoft") != NULL;
    d->machine->os =
        mb_arena_format(d->arena, "Linux %u.%u%s%s%s", major, minor, wsl ? " (WSL)" : "",
                        d->cpu.arch ? ", " : "", d->cpu.arch ? d->cpu.arch : "");
    if (wsl)
        mb_machine_add_note(
            d->machine,
            "This is WSL: Windows lends it a part of the RAM; memory= in .wslconfig changes that.");
}

/* A firmware text that says something; NULL for what boards are delivered with. */
static const char *firmware_text(struct detection *d, const char *path)
{
    static const char *const fillers[] = {"System Product Name",
                                          "System manufacturer",
                                          "To Be Filled By O.E.M.",
                                          "Default string",
                                          "Not Specified",
                                          "Not Applicable",
                                          "OEM",
                                          "O.E.M.",
                                          "None",
                                          "Unknown",
                                          "System Name",
                                          "All Series"};
    const char *text = mb_clean_name(d->arena, mb_file_line(d->arena, d->root, path));
    for (size_t i = 0; text && i < MB_COUNT(fillers); i++)
        if (strcasecmp(text, fillers[i]) == 0)
            return NULL;
    return text;
}

static void name_machine(struct detection *d)
{
    const char *vendor = firmware_text(d, "/sys/class/dmi/id/sys_vendor");
    const char *product = firmware_text(d, "/sys/class/dmi/id/product_name");
    if (!product)
        product = firmware_text(d, "/sys/class/dmi/id/board_name");
    if (!product)
        product = firmware_text(d, "/proc/device-tree/model");
    if (product && vendor && strncasecmp(product, vendor, strcspn(vendor, " ,")) != 0)
        d->machine->name = mb_arena_format(d->arena, "%s %s", vendor, product);
    else if (product)
        d->machine->name = product;
    else if (d->n_gpus && !d->gpus[0].software && d->cpu.name)
        d->machine->name = mb_arena_format(d->arena, "%s, %s", d->cpu.name, d->gpus[0].name);
    else
        d->machine->name = d->cpu.name ? d->cpu.name : "unknown machine";
}

/* What makes this machine's bandwidth what it is, and nothing that names its owner. */
static void make_fingerprint(struct detection *d)
{
    char ram[32];
    snprintf(ram, sizeof ram, "%.0f GiB", (double)d->ram.total_bytes / MB_GIB);
    const char *text =
        mb_arena_format(d->arena, "%s; %u cores; %s", d->cpu.name ? d->cpu.name : "unknown CPU",
                        d->cpu.n_cores, ram);
    for (unsigned i = 0; i < d->n_gpus && text && !d->gpus[i].software;
         i++) /* software devices are last */
        text = mb_arena_format(d->arena, "%s; %s %s", text, d->gpus[i].name,
                               d->gpus[i].pci ? d->gpus[i].pci : "-");
    if (d->cpu.virtual_by && text)
        text = mb_arena_format(d->arena, "%s; %s", text, d->cpu.virtual_by);
    d->machine->fingerprint = text;
}

/* ---- memory modules ---- */

static void read_dimms(struct detection *d)
{
    struct mb_dimms dimms;
    if (mb_smbios_read(d->arena, d->root, &dimms) == MB_OK &&
        mb_smbios_sum(d->arena, &dimms, &d->dimms) == MB_OK) {
        d->has_dimms = 1;
        d->dimms_source = dimms.source;
        /* A table that adds up to less than Linux sees is no description of this machine. */
        if (d->dimms.installed_bytes &&
            (double)d->dimms.installed_bytes < 0.95 * (double)d->ram.total_bytes) {
            mb_machine_add_note(d->machine,
                                "SMBIOS lists less RAM than Linux sees, so it is not believed.");
            d->has_dimms = 0;
        }
        return;
    }
    if (d->cpu.virtual_by)
        return;
    errno = 0;
    mb_file_read(d->arena, d->root, "/sys/firmware/dmi/tables/DMI", 1, NULL);
    if (errno == EFBIG) /* it is there and can be read */
        mb_machine_add_note(
            d->machine,
            "Type, speed and channels of the RAM are unknown: SMBIOS lists no memory module.");
    else if (errno == EACCES || errno == EPERM)
        mb_machine_add_note(
            d->machine,
            "Type, speed and channels of the RAM are unknown: only root may read the SMBIOS table; "
            "run membound with sudo to see them.");
    else
        mb_machine_add_note(
            d->machine,
            "Type, speed and channels of the RAM are unknown: there is no SMBIOS table%s.",
            d->root ? " in this record (it takes root to record it)" : "");
}

/* The integrated GPU that stands for the RAM pool: the first real one, else a software device.
 * NULL: none. */
static const struct mb_gpu_facts *integrated_gpu(const struct detection *d)
{
    for (unsigned i = 0; i < d->n_gpus; i++)
        if (d->gpus[i].integrated)
            return d->gpus + i;
    return NULL;
}

/* The system on a chip that CPU and RAM belong to, by its GPU's name or the CPU's; NULL: a socket,
 * or not in the table. */
static const struct mb_chip *find_soc(const struct detection *d)
{
    const struct mb_gpu_facts *gpu = integrated_gpu(d);
    const struct mb_chip *chip = gpu ? gpu->chip : NULL;
    if (!chip && d->chips)
        chip = mb_chip_find(d->chips, d->cpu.name, NULL);
    return chip && chip->kind == MB_CHIP_SOC ? chip : NULL;
}

/* Peak bandwidth of RAM: from the modules, else what the document of a system on a chip says. */
static struct mb_figure ram_bandwidth(struct detection *d)
{
    struct mb_figure derived = {0}, spec = {0};
    if (find_soc(d))
        spec = keep(d, find_soc(d)->bandwidth_bytes_per_s);
    if (d->cpu.virtual_by)
        return spec;
    if (d->has_dimms && d->dimms.bytes_per_s > 0) {
        const char *modules = mb_smbios_describe(d->arena, &d->dimms);
        derived = mb_figure_of(
            d->dimms.bytes_per_s, MB_DERIVED,
            mb_arena_format(d->arena, "%s = %.4g GB/s, %s%s", modules ? modules : "memory modules",
                            d->dimms.bytes_per_s / 1e9, d->dimms_source,
                            d->dimms.rated_only ? " (rated speed; the configured one is not stated)"
                                                : ""));
    } else if (d->has_dimms && !mb_figure_known(&spec)) {
        mb_machine_add_note(
            d->machine,
            "The bandwidth of the RAM is not derived: %s.",
            d->dimms.why_unknown);
    }
    if (!mb_figure_known(&derived))
        return spec;
    /* Soldered memory has one width, so a table that says otherwise is wrong; slower modules than
     * the chip allows exist. */
    if (mb_figure_known(&spec) &&
        (derived.value > spec.value * 1.1 || derived.value < spec.value * 0.5)) {
        mb_machine_add_note(
            d->machine,
            "SMBIOS gives %.4g GB/s for the RAM where the chip's document says %.4g; the document is used.",
            derived.value / 1e9, spec.value / 1e9);
        return spec;
    }
    return derived;
}

/* ---- pools ---- */

static const char *gpu_share_raise(struct detection *d, const struct mb_gpu_facts *gpu, double capacity,
                                   double usable)
{
    /* 110 of 128 GiB is what people run with; the same share for smaller ones. */
    double carve_out = value_or_0(&gpu->vram_bytes), shared = (double)d->ram.total_bytes;
    double most = (double)(uint64_t)(shared * 110 / 128 / MB_GIB) * MB_GIB;
    if (gpu->vendor_id != 0x1002 || !mb_figure_known(&gpu->gtt_bytes) || usable >= capacity * 0.98)
        return NULL;
    if (value_or_0(&gpu->gtt_bytes) >= most)
        return carve_out > 1 * MB_GIB
                   ? "choose a smaller carve-out (UMA frame buffer) in the firmware: what is shared serves CPU and GPU"
                   : NULL;
    return mb_arena_format(
        d->arena,
        "boot with ttm.pages_limit=%.0f (older kernels: amdgpu.gttsize=%.0f) so that the GPU may use "
        "%.0f GiB of RAM%s",
        most / 4096, most / MB_MIB, most / MB_GIB,
        carve_out > 1 * MB_GIB
            ? " beside its carve-out; a smaller carve-out in the firmware leaves more to share"
            : "");
}

static struct mb_figure gpu_share(struct detection *d, const struct mb_gpu_facts *gpu, double capacity)
{
    double carve_out = value_or_0(&gpu->vram_bytes);
    if (capacity <= 0)
        return (struct mb_figure){0};
    if (mb_figure_known(&gpu->gtt_bytes))
        return mb_figure_of(smaller(carve_out + gpu->gtt_bytes.value, capacity), MB_DERIVED,
                            "mem_info_vram_total (carve-out) + mem_info_gtt_total");
    if (gpu->vendor_id == 0x10de)
        return mb_figure_of(capacity, MB_DERIVED,
                            mb_arena_format(d->arena, "%s may use all RAM", gpu->name));
    if (mb_figure_known(&gpu->heaps_bytes))
        return mb_figure_of(smaller(gpu->heaps_bytes.value, capacity), MB_REPORTED,
                            gpu->heaps_bytes.detail);
    return (struct mb_figure){0};
}

/* The size that a memory is sold by, when the chip comes with one that is a little above what
 * programs see. */
static struct mb_figure sold_bytes(struct detection *d, const struct mb_chip *chip, double seen)
{
    for (unsigned i = 0; chip && i < chip->n_capacities; i++)
        if (chip->capacities_bytes[i] >= seen * 0.99 && chip->capacities_bytes[i] <= seen * 1.08)
            return mb_figure_of(chip->capacities_bytes[i], MB_SPEC,
                                mb_arena_format(d->arena, "%s is sold with it", chip->name));
    return (struct mb_figure){0};
}

static int is_unified(const struct detection *d, const struct mb_gpu_facts *gpu)
{
    if (!gpu)
        return 0;
    if (d->gpus[0].integrated) /* discrete ones come first */
        return 1;
    const struct mb_chip *soc = find_soc(d);
    return (soc && value_or_0(&soc->bandwidth_bytes_per_s) >= fast_unified_bytes_per_s) ||
           value_or_0(&gpu->vram_bytes) > 0.25 * (double)d->ram.total_bytes;
}

static unsigned add_ram(struct detection *d)
{
    const struct mb_gpu_facts *gpu = integrated_gpu(d);
    int unified = is_unified(d, gpu);
    struct mb_pool pool = {.id = unified ? "unified" : "ram",
                           .kind = unified ? MB_POOL_UNIFIED : MB_POOL_SYSTEM,
                           .capacity_bytes = d->ram.capacity_bytes,
                           .free_bytes = d->ram.free_bytes};
    pool.name = d->has_dimms ? mb_smbios_describe(d->arena, &d->dimms) : NULL;
    if (d->has_dimms && d->dimms.installed_bytes)
        pool.installed_bytes =
            mb_figure_of((double)d->dimms.installed_bytes, MB_REPORTED, d->dimms_source);
    if (unified && mb_figure_known(&pool.capacity_bytes)) {
        double carve_out = value_or_0(&gpu->vram_bytes);
        if (carve_out > 0) {
            pool.capacity_bytes =
                mb_figure_of(pool.capacity_bytes.value + carve_out, MB_DERIVED,
                             mb_arena_format(d->arena, "%s + %s", d->ram.capacity_bytes.detail,
                                             gpu->vram_bytes.detail));
            if (mb_figure_known(&pool.free_bytes) && mb_figure_known(&gpu->vram_free_bytes))
                pool.free_bytes =
                    mb_figure_of(pool.free_bytes.value + gpu->vram_free_bytes.value, MB_DERIVED,
                                 mb_arena_format(d->arena, "%s + %s", d->ram.free_bytes.detail,
                                                 gpu->vram_free_bytes.detail));
        }
        pool.usable_bytes = gpu_share(d, gpu, pool.capacity_bytes.value);
        pool.raise =
            gpu_share_raise(d, gpu, pool.capacity_bytes.value, value_or_0(&pool.usable_bytes));
    }
    if (unified && !mb_figure_known(&pool.installed_bytes))
        pool.installed_bytes = sold_bytes(d, find_soc(d), value_or_0(&pool.capacity_bytes));
    pool.bandwidth_spec_bytes_per_s = ram_bandwidth(d);
    return mb_machine_add_pool(d->machine, &pool);
}

static void add_cpu(struct detection *d, unsigned ram)
{
    const struct mb_pool *pool = d->machine->pools + ram;
    const struct mb_chip *soc = find_soc(d);
    const struct mb_chip *chip = d->chips ? mb_chip_find(d->chips, d->cpu.name, NULL) : NULL;
    struct mb_processor cpu = {.id = "cpu",
                               .name = d->cpu.name ? d->cpu.name : "unknown CPU",
                               .kind = MB_PROCESSOR_CPU,
                               .n_cores = d->cpu.n_cores,
                               .n_threads = d->cpu.n_threads,
                               .n_numa_nodes = d->cpu.n_numa_nodes,
                               .simd = d->cpu.simd};
    memcpy(cpu.cache_bytes, d->cpu.cache_bytes, sizeof cpu.cache_bytes);
    struct mb_figure reads = pool->bandwidth_spec_bytes_per_s;
    if (soc && mb_figure_known(&soc->cpu_read_bytes_per_s))
        reads = keep(d, soc->cpu_read_bytes_per_s);
    unsigned index = mb_machine_add_processor(d->machine, &cpu);
    mb_machine_add_read(d->machine, index, ram, reads);
    for (unsigned i = 0; chip && chip->kind == MB_CHIP_CPU && i < chip->n_peaks; i++)
        mb_machine_add_peak(d->machine, index, mb_arena_text(d->arena, chip->peaks[i].type),
                            keep(d, chip->peaks[i].flops_per_s));
}

/* Both directions between RAM and a card. */
static void add_links(struct detection *d, const struct mb_gpu_facts *gpu, unsigned ram, unsigned vram)
{
    struct mb_link link = {.from = ram, .to = vram};
    const struct mb_chip *chip = gpu->chip;
    unsigned lanes = gpu->width && gpu->width <= gpu->width_max ? gpu->width : gpu->width_max;
    if (chip && chip->link_name && !chip->link_generation) {
        /* NVLink-C2C: the CPU is on the same board, and PCIe is only where the drivers look first.
         */
        link.name = mb_arena_text(d->arena, chip->link_name);
        link.bytes_per_s = keep(d, chip->link_bytes_per_s);
    } else if (gpu->pcie_generation && lanes) {
        double rate = mb_pcie_bytes_per_s(gpu->pcie_generation, lanes);
        link.name = mb_arena_format(d->arena, "PCIe %u.0 x%u", gpu->pcie_generation, lanes);
        link.bytes_per_s = mb_figure_of(
            rate, MB_DERIVED,
            mb_arena_format(d->arena, "%s after the line code = %.3g GB/s", link.name, rate / 1e9));
        if (lanes < gpu->width_max)
            mb_machine_add_note(
                d->machine,
                "%s%s%s has %u of the %u PCIe lanes that it could use: look at the slot.",
                gpu->name, gpu->pci ? " at " : "", gpu->pci ? gpu->pci : "", lanes, gpu->width_max);
    } else {
        mb_machine_add_note(
            d->machine, "The PCIe link of %s is unknown: neither its driver nor /sys states it.",
            gpu->name);
    }
    mb_machine_add_link(d->machine, &link);
    link.from = vram;
    link.to = ram;
    mb_machine_add_link(d->machine, &link);
}

static void add_gpus(struct detection *d, unsigned ram)
{
    unsigned n_vram = 0;
    for (unsigned i = 0; i < d->n_gpus; i++) {
        const struct mb_gpu_facts *gpu = d->gpus + i;
        struct mb_processor processor = {.id = mb_arena_format(d->arena, "gpu%u", i),
                                         .name = gpu->name,
                                         .kind = MB_PROCESSOR_GPU,
                                         .integrated = gpu->integrated,
                                         .n_cores = gpu->n_cores,
                                         .pci = gpu->pci,
                                         .driver = gpu->driver,
                                         .power_limit_w = gpu->power_limit_w};
        unsigned index = mb_machine_add_processor(d->machine, &processor), pool_index = ram;
        struct mb_figure reads = d->machine->pools[ram].bandwidth_spec_bytes_per_s;
        if (!gpu->integrated) {
            struct mb_pool pool = {.id = mb_arena_format(d->arena, "vram%u", n_vram++),
                                   .name = gpu->name,
                                   .kind = MB_POOL_VRAM,
                                   .capacity_bytes = gpu->vram_bytes,
                                   .installed_bytes =
                                       sold_bytes(d, gpu->chip, gpu->vram_bytes.value),
                                   .free_bytes = gpu->vram_free_bytes,
                                   .usable_bytes = gpu->vram_bytes,
                                   .bandwidth_spec_bytes_per_s = gpu->bandwidth_bytes_per_s};
            pool_index = mb_machine_add_pool(d->machine, &pool);
            reads = gpu->bandwidth_bytes_per_s;
            add_links(d, gpu, ram, pool_index);
        }
        mb_machine_add_read(d->machine, index, pool_index, reads);
        for (unsigned p = 0; gpu->chip && gpu->chip->kind != MB_CHIP_CPU && p < gpu->chip->n_peaks;
             p++)
            mb_machine_add_peak(d->machine, index,
                                mb_arena_text(d->arena, gpu->chip->peaks[p].type),
                                keep(d, gpu->chip->peaks[p].flops_per_s));
    }
}

/* ---- the whole ---- */

static int detect_linux(struct detection *d, const struct mb_detect_opts *opts)
{
    int code = mb_cpu_read(d->machine, d->root, &d->cpu);
    if (code)
        return code;
    mb_ram_read(d->machine, d->root, &d->ram);
    code = mb_gpu_list(d->machine, d->root, opts, d->chips, &d->gpus, &d->n_gpus);
    if (code)
        return code;
    double quota = mb_ram_cpu_quota(d->machine, d->root);
    if (quota > 0 && quota < d->cpu.n_threads) {
        mb_machine_add_note(d->machine,
                            "A control group grants this process %.3g CPUs' worth of time of %u.",
                            quota, d->cpu.n_threads);
        d->cpu.n_threads = quota < 1 ? 1 : (unsigned)(quota + 0.5);
    }
    d->machine->virtual_by = d->cpu.virtual_by;
    read_os(d);
    read_dimms(d);
    name_machine(d);
    make_fingerprint(d);
    unsigned ram = add_ram(d);
    add_cpu(d, ram);
    add_gpus(d, ram);
    return MB_OK;
}

int mb_machine_detect(const struct mb_detect_opts *opts, struct mb_machine **out,
                      struct mb_err *err)
{
    static const struct mb_detect_opts defaults;
    struct detection d = {0};
    if (!opts)
        opts = &defaults;
    d.root = opts->root && *opts->root && strcmp(opts->root, "/") != 0 ? opts->root : NULL;
    DIR *dir = opendir(d.root ? d.root : "/");
    if (!dir && errno == ENOMEM)
        return mb_fail_memory(err);
    if (!dir)
        return mb_fail(err, MB_ENOENT, "%s: %s; name the directory of a recorded machine",
                       d.root ? d.root : "/", strerror(errno));
    closedir(dir);
    d.machine = mb_machine_new(MB_ORIGIN_DETECTED);
    if (!d.machine)
        return mb_fail_memory(err);
    d.arena = mb_machine_arena(d.machine);
    mb_machine_set_live(d.machine, !d.root);
    struct mb_err why = {0};
    int code = mb_chips_open(&d.chips, &why);
    if (code != MB_OK && code != MB_ENOMEM) {
        mb_machine_add_note(d.machine, "The chip table can't be read: %s", why.text);
        code = MB_OK;
    }
#ifdef __APPLE__
    if (code == MB_OK && !d.root) {
        struct mb_macos_facts facts;
        code = mb_macos_read(d.arena, &facts);
        if (code == MB_OK)
            mb_macos_machine(&facts, d.chips, d.machine);
    } else
#endif
        if (code == MB_OK)
        code = detect_linux(&d, opts);
    if (code == MB_OK)
        code = mb_machine_finish(d.machine, NULL);
    mb_chips_close(d.chips);
    if (code != MB_OK) {
        mb_machine_free(d.machine);
        return code == MB_ENOMEM ? mb_fail_memory(err)
                                 : mb_fail(err, code, "detection: %s", mb_code_text(code));
    }
    *out = d.machine;
    return MB_OK;
}
