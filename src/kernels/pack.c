/* SPDX-License-Identifier: MIT */
/* The packed order of weights: which parts of a block are interleaved in which units. Contract: mb_pack() in matmul.h. */
#include "kernels/matmul.h"

#include <assert.h>

/* Three at most, and the end. */
#define FIELDS_MAX 4

/* Scales in units of their own size, quants four bytes at a time. */
static const struct mb_pack_field fields[MB_TYPE_END][FIELDS_MAX] = {
    [MB_TYPE_Q4_0] = {{2, 1}, {4, 4}},
    [MB_TYPE_Q4_1] = {{2, 2}, {4, 4}},
    [MB_TYPE_Q5_0] = {{2, 1}, {4, 5}},
    [MB_TYPE_Q5_1] = {{2, 2}, {4, 5}},
    [MB_TYPE_Q8_0] = {{2, 1}, {4, 8}},
    [MB_TYPE_Q2_K] = {{1, 16}, {4, 16}, {2, 2}},
    [MB_TYPE_Q3_K] = {{4, 27}, {2, 1}},
    [MB_TYPE_Q4_K] = {{2, 2}, {4, 35}},
    [MB_TYPE_Q5_K] = {{2, 2}, {4, 43}},
    [MB_TYPE_Q6_K] = {{4, 48}, {1, 16}, {2, 1}},
    [MB_TYPE_IQ4_NL] = {{2, 1}, {4, 4}},
    [MB_TYPE_IQ4_XS] = {{2, 2}, {4, 33}},
    [MB_TYPE_MXFP4] = {{1, 1}, {4, 4}},
};

const struct mb_pack_field *mb_pack_fields(uint32_t type)
{
    return fields[type];
}

int mb_pack_can(uint32_t type)
{
    return type < MB_TYPE_END && fields[type][0].unit;
}

void mb_pack(uint32_t type, size_t rows, void *to, const void *from, size_t row_bytes, size_t n_rows, size_t begin,
             size_t end)
{
    assert(mb_pack_can(type) && begin % rows == 0 && (end % rows == 0 || end == n_rows) && end <= n_rows);
    size_t block_bytes = mb_type_info(type)->block_bytes;
    size_t r = begin;
    for (; r + rows <= end; r += rows)
        for (size_t b = 0; b < row_bytes / block_bytes; b++) {
            const char *in = (const char *)from + r * row_bytes + b * block_bytes;
            char *out = (char *)to + r * row_bytes + b * block_bytes * rows;
            for (const struct mb_pack_field *f = fields[type]; f->unit; f++)
                for (size_t i = 0; i < f->n_units; i++, in += f->unit)
                    for (size_t row = 0; row < rows; row++, out += f->unit)
                        memcpy(out, in + row * row_bytes, f->unit);
        }
    memcpy((char *)to + r * row_bytes, (const char *)from + r * row_bytes, (end - r) * row_bytes);
}
