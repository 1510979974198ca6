/* SPDX-License-Identifier: MIT */
/* The packed order of weights: which parts of a block are interleaved in which units. Contract: mb_pack() in matmul.h. */
#include "kernels/matmul.h"

#include <assert.h>

#define FIELDS_MAX 9 /* and the end */

/* What kernels read first comes first, and then everything in the order in which they walk over it: memory is read as one
 * stream. f16 and single scales in units of their own size, all else four bytes at a time. Q6_K: quants of 128 columns, two
 * words of low bits and one of high bits in turn. */
static const struct mb_pack_field fields[MB_TYPE_END][FIELDS_MAX] = {
    [MB_TYPE_Q4_0] = {{0, 2, 1, 0, 1}, {2, 4, 4, 2, 1}},
    [MB_TYPE_Q4_1] = {{0, 2, 2, 0, 1}, {4, 4, 4, 4, 1}},
    [MB_TYPE_Q5_0] = {{0, 2, 1, 0, 1}, {2, 4, 5, 2, 1}},
    [MB_TYPE_Q5_1] = {{0, 2, 2, 0, 1}, {4, 4, 5, 4, 1}},
    [MB_TYPE_Q8_0] = {{0, 2, 1, 0, 1}, {2, 4, 8, 2, 1}},
    [MB_TYPE_Q2_K] = {{80, 2, 2, 0, 1}, {0, 4, 4, 4, 1}, {16, 4, 16, 20, 1}},
    [MB_TYPE_Q3_K] = {{108, 2, 1, 0, 1}, {96, 4, 3, 2, 1}, {0, 4, 24, 14, 1}},
    [MB_TYPE_Q4_K] = {{0, 2, 2, 0, 1}, {4, 4, 35, 4, 1}},
    [MB_TYPE_Q5_K] = {{0, 2, 2, 0, 1}, {4, 4, 43, 4, 1}},
    [MB_TYPE_Q6_K] = {{208, 2, 1, 0, 1}, {192, 4, 4, 2, 1},
                      {0, 4, 8, 18, 3}, {32, 4, 8, 22, 3}, {128, 4, 8, 26, 3},
                      {64, 4, 8, 114, 3}, {96, 4, 8, 118, 3}, {160, 4, 8, 122, 3}},
    [MB_TYPE_IQ4_NL] = {{0, 2, 1, 0, 1}, {2, 4, 4, 2, 1}},
    [MB_TYPE_IQ4_XS] = {{0, 2, 2, 0, 1}, {4, 4, 33, 4, 1}},
    [MB_TYPE_MXFP4] = {{0, 1, 1, 0, 1}, {1, 4, 4, 1, 1}},
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
                for (size_t i = 0; i < f->n_units; i++)
                    for (size_t row = 0; row < rows; row++)
                        memcpy(out + (f->to + i * f->step * f->unit) * rows + row * f->unit,
                               in + row * row_bytes + f->from + i * f->unit, f->unit);
            mb_pack_recode(type, out, rows);
        }
    memcpy((char *)to + r * row_bytes, (const char *)from + r * row_bytes, (end - r) * row_bytes);
}
