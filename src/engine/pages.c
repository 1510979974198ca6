/* SPDX-License-Identifier: MIT */
/* Large memory from the OS. Small things come from arenas; this is for weights and caches. */
#include "engine/pages.h"
#include "base/base.h"

#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

static size_t rounded(size_t bytes)
{
    return bytes ? (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE : HUGE_PAGE;
}

static void *take(size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    void *pages = mmap(NULL, rounded(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

void mb_pages_allow_huge(void *pages, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    madvise(pages, rounded(bytes), MADV_HUGEPAGE); /* a wish: small pages work, too */
#else
    (void)pages, (void)bytes;
#endif
}

void *mb_pages_take(size_t bytes)
{
    void *pages = take(bytes);
    if (pages)
        mb_pages_allow_huge(pages, bytes);
    return pages;
}

void *mb_pages_take_small(size_t bytes)
{
    void *pages = take(bytes);
#ifdef MADV_NOHUGEPAGE
    if (pages)
        madvise(pages, rounded(bytes), MADV_NOHUGEPAGE);
#endif
    return pages;
}

void mb_pages_give(void *pages, size_t bytes)
{
    if (pages)
        munmap(pages, rounded(bytes));
}

uint64_t mb_pages_free(void)
{
    struct mb_arena arena = {0};
    unsigned long long kib = 0;
    char *text = mb_file_read(&arena, NULL, "/proc/meminfo", 1 << 16, NULL);
    const char *line = text ? strstr(text, "MemAvailable:") : NULL;
    if (!line || sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
        kib = 0;
    uint64_t bytes = kib * 1024, limit = 0, used = 0;
    if (mb_file_u64(NULL, "/sys/fs/cgroup/memory.max", &limit) && mb_file_u64(NULL, "/sys/fs/cgroup/memory.current", &used)) {
        uint64_t left = limit > used ? limit - used : 0;
        bytes = !bytes || left < bytes ? left : bytes;
    }
    mb_arena_free(&arena);
    return bytes;
}
