/* SPDX-License-Identifier: MIT */
/* The table of tensor types, made from the one list in type.h, and the size of a tensor. Everything
 * that counts bytes goes through here; nothing else in the program knows a block size. */
#include "model/type.h"

#include <assert.h>
#include <strings.h>

/* A struct with padding would miscount, and a wrong field would read the wrong bits: both stop the
 * build. */
#define ASSERT_BYTES(name, number, elements, block, bytes)      \
    static_assert(sizeof(block) == (bytes), "block of " #name); \
    static_assert((number) < MB_TYPE_END, "number of " #name);
MB_TYPES(ASSERT_BYTES)
#undef ASSERT_BYTES

static const struct mb_type_info types[MB_TYPE_END] = {
#define TYPE_ROW(name, number, elements, block, bytes) \
    [number] = {#name, elements, sizeof(block), 8.0 * sizeof(block) / (elements)},
    MB_TYPES(TYPE_ROW)
#undef TYPE_ROW
};

const struct mb_type_info *mb_type_info(uint32_t type)
{
    return type < MB_TYPE_END && types[type].name ? &types[type] : NULL;
}

const char *mb_type_name(uint32_t type)
{
    const struct mb_type_info *info = mb_type_info(type);
    return info ? info->name : "unknown";
}

int mb_type_by_name(const char *name, enum mb_type *out)
{
    for (unsigned i = 0; i < MB_TYPE_END; i++) {
        if (types[i].name && strcasecmp(types[i].name, name) == 0) {
            *out = (enum mb_type)i;
            return MB_OK;
        }
    }
    return MB_ENAME;
}

int mb_type_bytes(uint32_t type, const uint64_t ne[4], unsigned n_dims, uint64_t *out_bytes)
{
    const struct mb_type_info *info = mb_type_info(type);
    if (!info || n_dims > 4)
        return MB_EINVAL;
    uint64_t row = n_dims ? ne[0] : 1;
    if (row % info->block_elements)
        return MB_EFORMAT;
    /* The elements are bounded too, not only the bytes: at 1.1 bits each, bytes alone would let
     * them pass 2^63. */
    uint64_t elements = row, blocks = row / info->block_elements;
    for (unsigned i = 1; i < n_dims; i++) {
        if (ne[i] && elements > INT64_MAX / ne[i])
            return MB_ERANGE;
        elements *= ne[i];
        blocks *= ne[i];
    }
    if (elements > INT64_MAX || blocks > INT64_MAX / info->block_bytes)
        return MB_ERANGE;
    *out_bytes = blocks * info->block_bytes;
    return MB_OK;
}
