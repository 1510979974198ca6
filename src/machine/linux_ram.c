/* SPDX-License-Identifier: MIT */
/* System RAM as programs see it: /proc/meminfo, and the limits of the control groups around this
 * process. A limit anywhere on the way to the root counts, because each group is charged with what
 * its children use. */
#include "machine/clean.h"
#include "machine/detect.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MEMINFO_BYTES_MAX = 64 << 10, DEPTH_MAX = 64 };

/* Beyond this nothing is memory; version 1 states "no limit" as a number near 2^63. */
static const uint64_t bytes_max = (uint64_t)1 << 60;

/* "MemTotal:  1234 kB" in bytes; 0 when missing. */
static uint64_t meminfo_bytes(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) != 0 || line[n] != ':')
            continue;
        const char *value = line + n + 1;
        while (*value == ' ' || *value == '\t')
            value++;
        if (!isdigit((unsigned char)*value))
            return 0;
        unsigned long long kib = strtoull(value, NULL, 10);
        return kib <= bytes_max / 1024 ? kib * 1024 : 0;
    }
    return 0;
}

/* Bytes of page cache in a group that the kernel gives back before it kills anybody; 0 unknown. */
static uint64_t reclaimable_bytes(struct mb_arena *arena, const char *root, const char *directory,
                                  const char *key)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/memory.stat", directory);
    const char *text = mb_file_read(arena, root, path, MEMINFO_BYTES_MAX, NULL);
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0 && line[n] == ' ')
            return isdigit((unsigned char)line[n + 1]) ? strtoull(line + n + 1, NULL, 10) : 0;
    }
    return 0;
}

struct limits {
    uint64_t bytes;      /* the lowest limit; UINT64_MAX none */
    const char *file;    /* that states it */
    uint64_t room_bytes; /* the least that any group has left; UINT64_MAX unknown or no limit */
    const char *room_file;
    double cpus; /* 0 no limit */
};

/* One version's way of stating things. */
struct version {
    const char *limit, *usage, *stat_key;
    const char *mounts[2];
    int is_cpu;
};

static void read_memory(struct mb_machine *machine, const char *root, const struct version *v,
                        const char *directory, struct limits *limits)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    char path[4400];
    uint64_t limit, usage;
    snprintf(path, sizeof path, "%s/%s", directory, v->limit);
    if (!mb_file_u64(root, path, &limit) || limit >= bytes_max)
        return; /* "max", or no such file */
    if (limit < limits->bytes) {
        limits->bytes = limit;
        limits->file = mb_clean_name(arena, path);
    }
    snprintf(path, sizeof path, "%s/%s", directory, v->usage);
    if (!mb_file_u64(root, path, &usage))
        return;
    uint64_t cache = reclaimable_bytes(arena, root, directory, v->stat_key);
    usage -= cache < usage ? cache : usage;
    uint64_t room = usage < limit ? limit - usage : 0;
    if (room < limits->room_bytes) {
        limits->room_bytes = room;
        limits->room_file = mb_clean_name(arena, path);
    }
}

static void read_cpu(struct mb_machine *machine, const char *root, const struct version *v,
                     const char *directory, struct limits *limits)
{
    char path[4400];
    double quota = 0, period = 0;
    uint64_t us;
    snprintf(path, sizeof path, "%s/%s", directory, v->limit);
    if (v->usage) { /* version 1: two files; a quota of -1 is none */
        if (mb_file_u64(root, path, &us))
            quota = (double)us;
        snprintf(path, sizeof path, "%s/%s", directory, v->usage);
        if (mb_file_u64(root, path, &us))
            period = (double)us;
    } else { /* version 2: "200000 100000" or "max 100000" */
        const char *line = mb_file_line(mb_machine_arena(machine), root, path);
        unsigned long long q, p;
        if (line && isdigit((unsigned char)*line) && sscanf(line, "%20llu %20llu", &q, &p) == 2) {
            quota = (double)q;
            period = (double)p;
        }
    }
    if (quota > 0 && period > 0 && (limits->cpus <= 0 || quota / period < limits->cpus))
        limits->cpus = quota / period;
}

/* From the group up to the mount's root, whose files exist when a container sees only its own part
 * of the tree. */
static void walk_up(struct mb_machine *machine, const char *root, const struct version *v,
                    const char *group, struct limits *limits)
{
    for (size_t m = 0; m < MB_COUNT(v->mounts) && v->mounts[m]; m++) {
        char directory[4200];
        size_t base = strlen(v->mounts[m]);
        int wrote = snprintf(directory, sizeof directory, "%s%s", v->mounts[m], group);
        if (wrote < 0 || (size_t)wrote >= sizeof directory)
            continue;
        for (int depth = 0; depth < DEPTH_MAX; depth++) {
            size_t n = strlen(directory);
            while (n > base && directory[n - 1] == '/')
                directory[--n] = 0;
            (v->is_cpu ? read_cpu : read_memory)(machine, root, v, directory, limits);
            if (n <= base)
                break;
            *strrchr(directory, '/') = 0;
        }
    }
}

/* Is controller one of the comma-separated names? */
static int has_controller(const char *names, const char *controller)
{
    size_t n = strlen(controller);
    for (const char *at = names; (at = strstr(at, controller)); at += n)
        if ((at == names || at[-1] == ',') && (!at[n] || at[n] == ','))
            return 1;
    return 0;
}

static void read_limits(struct mb_machine *machine, const char *root, int cpu,
                        struct limits *limits)
{
    static const struct version v2[] = {
        {"memory.max",
         "memory.current",
         "inactive_file",
         {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"},
         0},
        {"cpu.max", NULL, NULL, {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}, 1}};
    static const struct version v1[] = {{"memory.limit_in_bytes",
                                         "memory.usage_in_bytes",
                                         "total_inactive_file",
                                         {"/sys/fs/cgroup/memory"},
                                         0},
                                        {"cpu.cfs_quota_us",
                                         "cpu.cfs_period_us",
                                         NULL,
                                         {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"},
                                         1}};
    *limits = (struct limits){.bytes = UINT64_MAX, .room_bytes = UINT64_MAX};
    char *text =
        mb_file_read(mb_machine_arena(machine), root, "/proc/self/cgroup", MEMINFO_BYTES_MAX, NULL);
    for (char *line = text, *next; line && *line; line = next ? next : line + strlen(line)) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        /* "4:memory:/a/b" or "0::/a/b" */
        char *names = strchr(line, ':');
        char *group = names ? strchr(names + 1, ':') : NULL;
        if (!group || group[1] != '/')
            continue;
        names++;
        *group++ = 0;
        if (strstr(group, "/.."))
            group = ""; /* outside of what this namespace shows: only the root of the mount can be
                           read */
        if (!*names)
            walk_up(machine, root, v2 + cpu, group, limits);
        else if (has_controller(names, cpu ? "cpu" : "memory"))
            walk_up(machine, root, v1 + cpu, group, limits);
    }
}

double mb_ram_cpu_quota(struct mb_machine *machine, const char *root)
{
    struct limits limits;
    read_limits(machine, root, 1, &limits);
    return limits.cpus;
}

void mb_ram_read(struct mb_machine *machine, const char *root, struct mb_ram *out)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    *out = (struct mb_ram){0};
    const char *text = mb_file_read(arena, root, "/proc/meminfo", MEMINFO_BYTES_MAX, NULL);
    out->total_bytes = text ? meminfo_bytes(text, "MemTotal") : 0;
    if (!out->total_bytes) {
        mb_machine_add_note(
            machine, "The size of system RAM is unknown: /proc/meminfo does not state MemTotal.");
        return;
    }
    struct limits limits;
    read_limits(machine, root, 0, &limits);
    out->capacity_bytes =
        mb_figure_of((double)out->total_bytes, MB_REPORTED, "/proc/meminfo MemTotal");
    if (limits.bytes < out->total_bytes) {
        char size[32], total[32];
        out->capacity_bytes = mb_figure_of((double)limits.bytes, MB_REPORTED, limits.file);
        mb_machine_add_note(
            machine, "A control group limits this process to %s of the machine's %s (%s).",
            mb_format_bytes((double)limits.bytes, size, sizeof size),
            mb_format_bytes((double)out->total_bytes, total, sizeof total), limits.file);
    }
    uint64_t available = meminfo_bytes(text, "MemAvailable");
    if (available && available <= out->total_bytes && available <= limits.bytes)
        out->free_bytes =
            mb_figure_of((double)available, MB_REPORTED, "/proc/meminfo MemAvailable");
    if (limits.room_bytes != UINT64_MAX && (!available || limits.room_bytes < available))
        out->free_bytes = mb_figure_of(
            (double)limits.room_bytes, MB_DERIVED,
            mb_arena_format(arena, "limit - use that can't be reclaimed, %s", limits.room_file));
}
