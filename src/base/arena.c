/* SPDX-License-Identifier: MIT */
/* Memory that is taken piece by piece and freed at once: a list of chunks, newest first. */
#include "base.h"

#include <stdlib.h>
#include <string.h>

struct mb_arena_chunk {
    struct mb_arena_chunk *next;
    size_t used, size;
    max_align_t bytes[];
};

enum { CHUNK_BYTES = 16 * 1024 };

void *mb_arena_alloc(struct mb_arena *arena, size_t n)
{
    const size_t align = sizeof(max_align_t);
    if ((uint64_t)n > (uint64_t)1 << 40 || n > SIZE_MAX - align - sizeof(struct mb_arena_chunk)) {
        arena->failed = 1;
        return NULL;
    }
    n = (n + align - 1) / align * align;
    struct mb_arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - chunk->used < n) {
        size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
        chunk = calloc(1, sizeof *chunk + size);
        if (!chunk) {
            arena->failed = 1;
            return NULL;
        }
        chunk->size = size;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    void *at = (char *)chunk->bytes + chunk->used;
    chunk->used += n;
    return at;
}

void *mb_arena_array(struct mb_arena *arena, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size) {
        arena->failed = 1;
        return NULL;
    }
    return mb_arena_alloc(arena, count * size);
}

char *mb_arena_text_n(struct mb_arena *arena, const char *text, size_t n)
{
    if (!text)
        return NULL;
    char *copy = n < SIZE_MAX ? mb_arena_alloc(arena, n + 1) : NULL;
    if (copy)
        memcpy(copy, text, n); /* the block is zeroed, so it is terminated */
    return copy;
}

char *mb_arena_text(struct mb_arena *arena, const char *text)
{
    return text ? mb_arena_text_n(arena, text, strlen(text)) : NULL;
}

char *mb_arena_format(struct mb_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n >= 0 ? mb_arena_alloc(arena, (size_t)n + 1) : NULL;
    if (text)
        vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

void *mb_arena_append(struct mb_arena *arena, void *array, unsigned *n, size_t size)
{
    /* Capacity is the power of two at or above *n (at least 4), so it needs no field of its own. */
    void *block = *(void **)array;
    unsigned count = *n;
    if (count == UINT32_MAX / 2) {
        arena->failed = 1;
        return NULL;
    }
    if (count == 0 || (count >= 4 && (count & (count - 1)) == 0)) {
        void *larger = mb_arena_array(arena, count ? (size_t)count * 2 : 4, size);
        if (!larger)
            return NULL;
        if (count)
            memcpy(larger, block, (size_t)count * size);
        *(void **)array = block = larger;
    }
    *n = count + 1;
    return (char *)block + (size_t)count * size;
}

void mb_arena_free(struct mb_arena *arena)
{
    struct mb_arena_chunk *chunk = arena->chunks;
    while (chunk) {
        struct mb_arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    arena->chunks = NULL;
    arena->failed = 0;
}
