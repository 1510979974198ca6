/* SPDX-License-Identifier: MIT */
/* The CPU: its name and SIMD level, its cores, caches and NUMA nodes, and whether it is a virtual
 * one.
 *
 * On this machine the SIMD level is asked of the CPU *and* of the operating system's saved state
 * (XCR0), because a CPU flag alone does not promise that the kernel keeps the wide registers; cores
 * and caches are hwloc's view of this process, so a cpuset counts. A recorded machine gives
 * /proc/cpuinfo, whose flags the kernel has filtered already, and ROOT/membound/topology, one line
 * for hwloc_topology_set_synthetic(). */
#include "machine/detect.h"
#include "kernels/kernels.h"
#include "machine/clean.h"

#include <ctype.h>
#include <hwloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

enum { CPUINFO_BYTES_MAX = 16 << 20, THREADS_MAX = 8192, SYNTHETIC_BYTES_MAX = 512 };

/* ---- asking the CPU ---- */

#if defined(__x86_64__) || defined(__i386__)
/* CPUID leaf 0x40000000 holds a signature when the hypervisor bit of leaf 1 is set. */
static const char *live_hypervisor(void)
{
    static const struct {
        const char *signature, *name;
    } known[] = {
        {"KVMKVMKVM", "KVM"},          {"Linux KVM Hv", "KVM"},   {"Microsoft Hv", "Hyper-V"},
        {"VMwareVMware", "VMware"},    {"XenVMMXenVMM", "Xen"},   {"VBoxVBoxVBox", "VirtualBox"},
        {"TCGTCGTCGTCG", "QEMU"},      {"bhyve bhyve ", "bhyve"}, {" lrpepyh  vr", "Parallels"},
        {"prl hyperv  ", "Parallels"}, {"ACRNACRNACRN", "ACRN"},  {"VirtualApple", "Rosetta"}};
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 31))
        return NULL;
    char signature[13] = "";
    __cpuid(0x40000000, a, b, c, d);
    memcpy(signature, &b, 4);
    memcpy(signature + 4, &c, 4);
    memcpy(signature + 8, &d, 4);
    for (size_t i = 0; i < MB_COUNT(known); i++)
        if (strncmp(signature, known[i].signature, sizeof signature - 1) == 0)
            return known[i].name;
    return NULL;
}
#else
static const char *live_hypervisor(void)
{
    return NULL;
}
#endif

/* ---- /proc/cpuinfo ---- */

struct cpuinfo {
    char *name;             /* "model name" */
    char *board;            /* "Model": what some ARM boards call themselves */
    char *flags, *features; /* x86, ARM */
    unsigned n_threads, n_cores;
    struct {
        unsigned implementer, part, n;
    } parts[8]; /* ARM: the kinds of cores */
    unsigned n_parts;
};

/* Is word one of the blank-separated words of list? */
static int has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; at && (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ' ') && (!at[n] || at[n] == ' '))
            return 1;
    return 0;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void count_part(struct cpuinfo *info, unsigned implementer, unsigned part)
{
    unsigned i = 0;
    while (i < info->n_parts &&
           (info->parts[i].implementer != implementer || info->parts[i].part != part))
        i++;
    if (i == MB_COUNT(info->parts))
        return;
    if (i == info->n_parts) {
        info->parts[i].implementer = implementer;
        info->parts[i].part = part;
        info->n_parts++;
    }
    info->parts[i].n++;
}

/* Takes the text apart in place. */
static void parse_cpuinfo(struct mb_arena *arena, char *text, struct cpuinfo *info)
{
    uint64_t *cores = mb_arena_array(arena, THREADS_MAX, sizeof *cores);
    uint64_t socket = 0, core = 0;
    unsigned n_cores = 0, implementer = 0;
    for (char *line = text, *next; line && cores; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        char *value = strchr(line, ':');
        if (!value)
            continue;
        size_t n = (size_t)(value - line);
        while (n && isspace((unsigned char)line[n - 1]))
            n--;
        line[n] = 0;
        for (value++; isspace((unsigned char)*value);)
            value++;
        if (strcmp(line, "processor") == 0 && strtoul(value, NULL, 10) < THREADS_MAX &&
            info->n_threads < THREADS_MAX)
            info->n_threads++;
        else if (strcmp(line, "model name") == 0 && !info->name)
            info->name = value;
        else if (strcmp(line, "Model") == 0 && !info->board)
            info->board = value;
        else if (strcmp(line, "flags") == 0 && !info->flags)
            info->flags = value;
        else if (strcmp(line, "Features") == 0 && !info->features)
            info->features = value;
        else if (strcmp(line, "physical id") == 0)
            socket = strtoul(value, NULL, 10);
        else if (strcmp(line, "core id") == 0) {
            core = strtoul(value, NULL, 10);
            if (n_cores < THREADS_MAX)
                cores[n_cores++] = socket << 32 | (core & 0xffffffff);
        } else if (strcmp(line, "CPU implementer") == 0)
            implementer = (unsigned)strtoul(value, NULL, 0);
        else if (strcmp(line, "CPU part") == 0)
            count_part(info, implementer, (unsigned)strtoul(value, NULL, 0));
    }
    if (n_cores) {
        qsort(cores, n_cores, sizeof *cores, compare_u64);
        info->n_cores = 1;
        for (unsigned i = 1; i < n_cores; i++)
            info->n_cores += cores[i] != cores[i - 1];
    } else if (info->features) {
        info->n_cores = info->n_threads; /* no ARM core in use here runs two threads */
    }
}

/* ARM CPUs state numbers, not names (MIDR_EL1; Arm's and the makers' manuals, as in Linux
 * asm/cputype.h). */
static const char *part_name(unsigned implementer, unsigned part)
{
    static const struct {
        unsigned implementer, part;
        const char *name;
    } known[] = {{0x41, 0xd03, "Cortex-A53"},     {0x41, 0xd05, "Cortex-A55"},
                 {0x41, 0xd08, "Cortex-A72"},     {0x41, 0xd0b, "Cortex-A76"},
                 {0x41, 0xd0c, "Neoverse-N1"},    {0x41, 0xd40, "Neoverse-V1"},
                 {0x41, 0xd42, "Cortex-A78AE"},   {0x41, 0xd49, "Neoverse-N2"},
                 {0x41, 0xd4f, "Neoverse-V2"},    {0x41, 0xd83, "Neoverse-V3AE"},
                 {0x41, 0xd84, "Neoverse-V3"},    {0x41, 0xd85, "Cortex-X925"},
                 {0x41, 0xd87, "Cortex-A725"},    {0x41, 0xd8e, "Neoverse-N3"},
                 {0x51, 0x001, "Qualcomm Oryon"}, {0xc0, 0xac3, "Ampere-1"},
                 {0xc0, 0xac4, "Ampere-1A"},      {0x4e, 0x004, "NVIDIA Carmel"}};
    for (size_t i = 0; i < MB_COUNT(known); i++)
        if (known[i].implementer == implementer && known[i].part == part)
            return known[i].name;
    return NULL;
}

/* "10 x Cortex-X925, 10 x Cortex-A725"; NULL when a kind is unknown. */
static const char *parts_name(struct mb_arena *arena, const struct cpuinfo *info)
{
    const char *all = NULL;
    for (unsigned i = 0; i < info->n_parts; i++) {
        const char *name = part_name(info->parts[i].implementer, info->parts[i].part);
        if (!name)
            return NULL;
        all = mb_arena_format(arena, "%s%s%u x %s", all ? all : "", all ? ", " : "",
                              info->parts[i].n, name);
    }
    return all;
}

/* ---- hwloc ---- */

/* Is a synthetic description one that hwloc can build in no time: plain text, under THREADS_MAX
 * objects at the bottom? hwloc multiplies the counts before it looks at their size. */
static int synthetic_is_sane(const char *line)
{
    uint64_t product = 1;
    int depth = 0;
    if (strlen(line) > SYNTHETIC_BYTES_MAX)
        return 0;
    for (const char *p = line; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr(" :()=[]_-.", *p))
            return 0;
        depth += (*p == '(' || *p == '[') - (*p == ')' || *p == ']');
        if (depth < 0)
            return 0;
        int begins = p == line || p[-1] == ' ' || p[-1] == ':';
        if (depth == 0 && begins && isdigit((unsigned char)*p)) {
            uint64_t count = strtoull(p, NULL, 10);
            if (count == 0 || count > THREADS_MAX || (product *= count) > THREADS_MAX)
                return 0;
        }
    }
    return depth == 0;
}

/* Size of the first cache of a type that has one, and the size of all of them. */
static uint64_t cache_bytes(hwloc_topology_t topology, hwloc_obj_type_t type, uint64_t *all)
{
    uint64_t largest = 0, sum = 0;
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(topology, type, o));) {
        sum += o->attr->cache.size;
        if (o->attr->cache.size > largest)
            largest = o->attr->cache.size;
    }
    *all = sum;
    return largest;
}

static unsigned count_objects(hwloc_topology_t topology, hwloc_obj_type_t type)
{
    int n = hwloc_get_nbobjs_by_type(topology, type);
    return n > 0 ? (unsigned)n : 0;
}

/* Cores, caches and NUMA nodes of this process (synthetic NULL) or of a description. 0: hwloc
 * failed. */
static int read_topology(const char *synthetic, struct mb_cpu *cpu)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0)
        return 0;
    int good = 1;
    if (synthetic) {
        good = hwloc_topology_set_synthetic(topology, synthetic) == 0;
    } else {
        /* We want nothing of devices here, and those plugins would open GPU libraries; and on Linux
         * /sys knows what "x86" finds out by moving this thread to every CPU in turn. */
        static const char *const unwanted[] = {"cuda",      "nvml", "rsmi", "opencl",
                                               "levelzero", "gl",   "pci",
#ifdef __linux__
                                               "x86"
#endif
        };
        for (size_t i = 0; i < MB_COUNT(unwanted); i++)
            hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST,
                                          unwanted[i]);
    }
    if (!good || hwloc_topology_load(topology) != 0) {
        hwloc_topology_destroy(topology);
        return 0;
    }
    hwloc_bitmap_t bound = synthetic ? NULL : hwloc_bitmap_alloc();
    if (bound && hwloc_get_cpubind(topology, bound, HWLOC_CPUBIND_PROCESS) == 0 &&
        !hwloc_bitmap_iszero(bound))
        hwloc_topology_restrict(topology, bound, 0);
    hwloc_bitmap_free(bound);
    cpu->n_threads = count_objects(topology, HWLOC_OBJ_PU);
    cpu->n_cores = count_objects(topology, HWLOC_OBJ_CORE);
    if (!cpu->n_cores)
        cpu->n_cores = cpu->n_threads;
    cpu->n_numa_nodes = count_objects(topology, HWLOC_OBJ_NUMANODE);
    static const hwloc_obj_type_t levels[] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE,
                                              HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE};
    for (size_t i = 0; i < MB_COUNT(levels); i++) {
        uint64_t all, one = cache_bytes(topology, levels[i], &all);
        if (one && i < 2)
            cpu->cache_bytes[i] = one;
        if (all && i > 0)
            cpu->cache_bytes[2] = all;
    }
    hwloc_topology_destroy(topology);
    return 1;
}

/* "0-1" or "0,2-3" of /sys/devices/system/node/online as a count; 0 when it is no such list. */
static unsigned count_nodes(const char *list)
{
    unsigned n = 0;
    while (list && isdigit((unsigned char)*list)) {
        char *end;
        unsigned long first = strtoul(list, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if (last < first || last > 4096)
            return 0;
        n += (unsigned)(last - first + 1);
        list = *end == ',' ? end + 1 : NULL;
    }
    return n;
}

/* ---- virtual machines ---- */

/* Who made the machine, by the firmware's names. Cloud makers use the same names for bare metal, so
 * on x86 this counts only beside the CPU's hypervisor flag. */
static const char *dmi_hypervisor(struct mb_arena *arena, const char *root)
{
    static const struct {
        const char *text, *name;
    } known[] = {{"KVM", "KVM"},
                 {"QEMU", "QEMU"},
                 {"VMware", "VMware"},
                 {"VirtualBox", "VirtualBox"},
                 {"innotek", "VirtualBox"},
                 {"Xen", "Xen"},
                 {"Parallels", "Parallels"},
                 {"Bochs", "Bochs"},
                 {"BHYVE", "bhyve"},
                 {"Apple Virtualization", "Apple Virtualization"},
                 {"Google Compute Engine", "KVM"},
                 {"OpenStack", "KVM"},
                 {"Amazon EC2", "KVM"},
                 {"Hyper-V", "Hyper-V"},
                 {"Virtual Machine", "Hyper-V"}};
    static const char *const files[] = {"product_name", "sys_vendor"};
    for (size_t f = 0; f < MB_COUNT(files); f++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/class/dmi/id/%s", files[f]);
        const char *line = mb_file_line(arena, root, path);
        for (size_t i = 0; line && i < MB_COUNT(known); i++)
            if (strcasestr(line, known[i].text))
                return known[i].name;
    }
    return NULL;
}

static const char *virtual_by(struct mb_arena *arena, const char *root, const struct cpuinfo *info)
{
    const char *name = root ? NULL : live_hypervisor();
    int flag = info->flags && has_word(info->flags, "hypervisor");
    if (name)
        return name;
    if (info->flags && !flag)
        return NULL;
    name = dmi_hypervisor(arena, root);
    if (!info->flags && name && strcmp(name, "KVM") == 0 &&
        mb_file_line(arena, root, "/sys/class/dmi/id/product_name") &&
        strstr(mb_file_line(arena, root, "/sys/class/dmi/id/product_name"), "metal"))
        return NULL;
    return name ? name : flag ? "an unnamed hypervisor" : NULL;
}

/* The level by the kernel's list of flags, which holds only what it lets programs use. */
static unsigned recorded_flags(const struct cpuinfo *info)
{
    static const char *const avx2[] = {"avx2", "fma", "f16c"};
    static const char *const avx512[] = {"avx512f", "avx512bw", "avx512dq", "avx512vl"};
    if (info->features)
        return has_word(info->features, "asimddp") ? MB_CPU_NEON | MB_CPU_NEON_DOTPROD
               : has_word(info->features, "asimd") ? MB_CPU_NEON
                                                   : 0;
    for (size_t i = 0; i < MB_COUNT(avx2); i++)
        if (!has_word(info->flags, avx2[i]))
            return 0;
    for (size_t i = 0; i < MB_COUNT(avx512); i++)
        if (!has_word(info->flags, avx512[i]))
            return MB_CPU_AVX2;
    return MB_CPU_AVX2 | MB_CPU_AVX512 |
           (has_word(info->flags, "avx512_vnni") ? MB_CPU_AVX512_VNNI : 0);
}

int mb_cpu_read(struct mb_machine *machine, const char *root, struct mb_cpu *out)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    struct cpuinfo info = {0};
    *out = (struct mb_cpu){0};
    char *text = mb_file_read(arena, root, "/proc/cpuinfo", CPUINFO_BYTES_MAX, NULL);
    if (text)
        parse_cpuinfo(arena, text, &info);
    out->name = mb_clean_name(arena, info.name);
    if (!out->name)
        out->name = parts_name(arena, &info);
    if (!out->name)
        out->name = mb_clean_name(arena, info.board);
    /* Every x86 CPU has an FPU and every ARM one that runs Linux is named by its features: else
     * this is no such list. */
    if (info.flags && !has_word(info.flags, "fpu"))
        info.flags = NULL;
    if (info.features && !has_word(info.features, "fp") && !has_word(info.features, "half"))
        info.features = NULL;
    if (info.flags)
        out->arch = has_word(info.flags, "lm") ? "x86_64" : "i686";
    else if (info.features)
        out->arch = has_word(info.features, "asimd") ? "aarch64" : "arm";
    if (!root) {
        struct utsname name;
        if (uname(&name) == 0)
            out->arch = mb_clean_name(arena, name.machine);
        out->simd = mb_cpu_simd(mb_cpu_flags());
    } else if (info.flags || info.features) {
        out->simd = mb_cpu_simd(recorded_flags(&info));
    }
    const char *synthetic = root ? mb_file_line(arena, root, "/membound/topology") : NULL;
    int known = 0;
    if (!root || (synthetic && synthetic_is_sane(synthetic)))
        known = read_topology(synthetic, out);
    /* A synthetic line is the same all over, so it can't tell that only some cores have two
     * threads. */
    if (known && synthetic && out->n_cores == info.n_cores && out->n_threads < info.n_threads)
        out->n_threads = info.n_threads;
    if (!known) {
        out->n_threads = info.n_threads;
        out->n_cores = info.n_cores;
        out->n_numa_nodes =
            count_nodes(mb_file_line(arena, root, "/sys/devices/system/node/online"));
        mb_machine_add_note(
            machine, "The CPU's caches are unknown: %s",
            synthetic ? "membound/topology is not a line that hwloc understands."
            : root    ? "this recorded machine has no membound/topology (write it with lstopo)."
                      : "hwloc could not read this system.");
    }
    out->virtual_by = virtual_by(arena, root, &info);
    if (!out->name)
        mb_machine_add_note(machine, "The CPU's name is unknown: /proc/cpuinfo does not state it.");
    return MB_OK;
}
