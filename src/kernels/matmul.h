/* SPDX-License-Identifier: MIT */
/* Matrix products: rows of weights of any type times activations. Two steps: prepare brings activations into the form that the
 * weights' kernels read, once for all matrices that share them; matmul computes some rows for all tokens. Threads split the
 * units of a prepare and the rows of a matmul as they like; nothing else is shared. */
#ifndef MB_MATMUL_H
#define MB_MATMUL_H

#include "kernels/quant.h"

/* What the kernels of a weight type read as activations. */
enum mb_act {
    MB_ACT_F32, /* f32, as they are: F32, F16, BF16 and the types that are dequantized on the way */
    MB_ACT_Q8,  /* blocks of 32 8-bit integers with an f32 scale: Q4_0 to Q6_K, IQ4_NL, IQ4_XS, MXFP4; others on some levels */
    MB_ACT_Q16, /* blocks of 32 integers up to 8191 with an f32 scale: many tokens of other types, on some levels */
    MB_ACT_END
};

/* MB_ACT_Q8 if matrices of the type have integer kernels, else MB_ACT_F32: what every level reads, for any number of tokens.
 * mb_kernels_act() says what a level reads best. */
enum mb_act mb_act_of(uint32_t type);

/* One block of MB_ACT_Q8. Blocks lie in the order in which kernels read them: for every MB_ACT_TILE tokens (the last tile may
 * have fewer), for every 32 columns, for every token of the tile. mb_act_at() is the index. */
struct mb_act_block {
    int8_t q[32];
    float d;             /* x is about d * q: mb_quant_8() */
    float sum;           /* d * (sum of q): offsets and minima of weights are multiplied by it */
    float half[2];       /* the same of q[0..15] and q[16..31] */
    int16_t pairs[3][2]; /* sums of q where the column is 0 or 1, and 2 or 3, modulo 4: in q[0..15], q[16..31], all */
    int32_t reserved;    /* 0; a block fills one line of the cache */
};

/* Fill in what follows from d and the pairs of the halves. */
static inline void mb_act_sum(struct mb_act_block *x)
{
    for (int k = 0; k < 2; k++) {
        x->pairs[2][k] = (int16_t)(x->pairs[0][k] + x->pairs[1][k]);
        x->half[k] = x->d * (float)(x->pairs[k][0] + x->pairs[k][1]);
    }
    x->sum = x->d * (float)(x->pairs[2][0] + x->pairs[2][1]);
    x->reserved = 0;
}

#define MB_ACT_ALIGN 64
#define MB_ACT_TILE  4

/* Where the block of columns 32 b to 32 b + 31 of token t is, of n_blocks and n_tokens. */
static inline size_t mb_act_at(size_t n_blocks, size_t n_tokens, size_t b, size_t t)
{
    size_t first = t / MB_ACT_TILE * MB_ACT_TILE, width = n_tokens - first < MB_ACT_TILE ? n_tokens - first : MB_ACT_TILE;
    return first * n_blocks + b * width + t - first;
}

/* MB_ACT_Q16: one block is MB_ACT_16_WORDS words of 32 bits: 16 pairs of columns, the first one in the low half, and the scale
 * d; x is about d * q, see mb_quant_16(). For every MB_ACT_16_TILE tokens (the last tile may have fewer), for every 32 columns,
 * the words of the tile's tokens lie in turn. So one address and constant offsets reach what a kernel reads next. */
#define MB_ACT_16_TILE  6
#define MB_ACT_16_WORDS 17

/* Where the first word of columns 32 b to 32 b + 31 of token t is; *step: words from there to its next. */
static inline size_t mb_act_16_at(size_t n_blocks, size_t n_tokens, size_t b, size_t t, size_t *step)
{
    size_t first = t / MB_ACT_16_TILE * MB_ACT_16_TILE;
    *step = n_tokens - first < MB_ACT_16_TILE ? n_tokens - first : MB_ACT_16_TILE;
    return (first * n_blocks + b * *step) * MB_ACT_16_WORDS + t - first;
}

/* Bytes of n_tokens rows of n_cols activations in that form; n_cols is a multiple of 32 unless it is MB_ACT_F32. */
size_t mb_act_bytes(enum mb_act act, size_t n_cols, size_t n_tokens);

struct mb_prepare {
    enum mb_act act;
    void *to;              /* mb_act_bytes(), aligned to MB_ACT_ALIGN */
    const float *from;     /* row t of the tokens starts at from + index * from_stride */
    size_t from_stride;    /* floats */
    const uint32_t *index; /* [n_tokens] which row is token t (MoE: the tokens of one expert); NULL: t */
    size_t n_cols;         /* 1 or more; a multiple of 32 unless act is MB_ACT_F32 */
    size_t n_tokens;
};

/* Write block `block` of token `token` of an MB_ACT_Q16. */
static inline void mb_act_16_put(const struct mb_prepare *op, size_t block, size_t token, const int16_t q[32], float d)
{
    size_t step, at = mb_act_16_at(op->n_cols / 32, op->n_tokens, block, token, &step);
    uint32_t *words = (uint32_t *)op->to + at;
    for (int i = 0; i < 16; i++)
        words[i * step] = (uint16_t)q[2 * i] | (uint32_t)(uint16_t)q[2 * i + 1] << 16;
    words[16 * step] = mb_bits_of_f32(d);
}

/* Units of a prepare: 32 columns of one token each (the last may be shorter), token after token. */
static inline size_t mb_prepare_units(const struct mb_prepare *op)
{
    return op->n_tokens * ((op->n_cols + 31) / 32);
}

/* Write units begin <= u < end. MB_ACT_F32: row t, [n_cols] floats, at t * n_cols. MB_ACT_Q8 and MB_ACT_Q16: as above, q and
 * d by mb_quant_8() and mb_quant_16(). Equal bit for bit on every level. Reads 4 bytes per column, writes 4, 2 or 2.125. */
typedef void mb_prepare_fn(const struct mb_prepare *op, size_t begin, size_t end);

/* Row r of the weights, n_cols elements of type, starts at weights + r * row_bytes, in one of two orders:
 *   packed = 0: as in the file.
 *   packed = 1: as mb_pack() leaves it. Groups of pack_rows rows lie interleaved; rows after the last whole group are as in the
 *               file. Group g starts at weights + g * pack_rows * row_bytes: the bytes of a matrix, and of every whole group, are
 *               the same as in the file.
 * Weights are aligned as the C type of their block, no more. Kernels read no byte outside the rows that they compute (but may
 * prefetch beyond). */
struct mb_matmul {
    uint32_t type;
    enum mb_act act; /* of x: mb_act_of(type), or what mb_kernels_act() gives */
    unsigned packed;
    const void *weights;
    size_t row_bytes; /* bytes of a row, no gap: n_cols / block_elements * block_bytes; packed = 0 allows a larger stride */
    size_t n_rows;
    size_t n_cols;   /* a multiple of block_elements, and of 32 unless act is MB_ACT_F32 */
    const void *x;   /* activations, prepared with act, the same n_cols and n_tokens */
    size_t n_tokens; /* 1 or more */
    float *y;        /* out: element (t, r) at t * y_stride + r */
    size_t y_stride;
};

/* Rows that begin and end of a matmul are multiples of (end may also be n_rows), so that no group is cut. */
#define MB_MATMUL_ROWS 16

/* y[t * y_stride + r] = sum over c of W[r, c] * x[t, c], for begin <= r < end and all tokens; nothing else is written.
 * The reference forms the sum of exact products in double; x is d * q unless act is MB_ACT_F32. Others, with u = 2^-24 and
 * S = sum over c of |W[r, c] * x[t, c]|, minima and offsets counted with their own magnitudes: within (n_cols / 16 + 8) u S for
 * MB_ACT_F32, and (n_cols / 32 + 8) 2 u S with S by blocks for the others (integers are exact within 32 columns). For
 * MB_ACT_Q16, weights may be rounded as activations are, by up to 1 / (2 * 8191) of the largest of 32. A NaN or infinity in a
 * row or token makes the results that it enters non-finite.
 * Reads (end - begin) * row_bytes of weights once if n_tokens is small (decode); for many tokens, once per
 * some tokens, and the activations once per some rows. */
typedef void mb_matmul_fn(const struct mb_matmul *op, size_t begin, size_t end);

/* ---- packed order ---- */

/* Has the type a packed order? The types with MB_ACT_Q8 have one. */
int mb_pack_can(uint32_t type);

/* Bring rows [begin, end) of a matrix of n_rows from file order (at from) into packed order (at to, the same offsets).
 *   rows       in   rows of a group: the pack_rows of the kernels that will read it, 1..64
 *   begin, end in   multiples of rows; end may also be n_rows
 * A group is a sequence of blocks, each rows times as long as one block. Within it the units of the block's fields (4 bytes,
 * or one scale) are interleaved: a unit of all rows, the next unit of all rows, and so on. So lane r of a vector of 4-byte
 * units belongs to row r, and no sum across lanes is needed.
 * from and to must not overlap. Reads and writes (end - begin) * row_bytes. */
typedef void mb_pack_fn(uint32_t type, size_t rows, void *to, const void *from, size_t row_bytes, size_t n_rows, size_t begin,
                        size_t end);

/* The fields of a block, for kernels that interleave on the way: n_units units of `unit` bytes each (0 ends them), from byte
 * `from` of a row's block on; unit i of a row stands at rows * (to + i * step * unit) + row * unit. */
struct mb_pack_field {
    uint8_t from, unit, n_units, to, step;
};
const struct mb_pack_field *mb_pack_fields(uint32_t type);

/* After that the quants of Q6_K are recoded where they are, because four of six bits in three bytes are quicker to unpack than
 * nibbles and pairs of bits. block: one block of `rows` rows, interleaved. Of the 4 * rows bytes a, b, c that belong together,
 * a = low bits of columns 0..31 and 64..95, b = of 32..63 and 96..127, c = two high bits of each, become
 * q0 | q3 << 6, q1 | (q3 >> 2) << 6, q2 | (q3 >> 4) << 6, where q0..q3 are the quants of the four times 32 columns. */
static inline void mb_pack_recode(uint32_t type, char *block, size_t rows)
{
    if (type != MB_TYPE_Q6_K)
        return;
    const uint32_t low = 0x0f0f0f0f, middle = 0x30303030, high = 0xc0c0c0c0;
    for (size_t word = 0; word < 16; word++) {
        char *at = block + rows * (18 + 12 * word);
        for (size_t row = 0; row < rows; row++, at += 4) { /* four bytes at a time; masks keep them apart */
            uint32_t a, b, c;
            memcpy(&a, at, 4);
            memcpy(&b, at + 4 * rows, 4);
            memcpy(&c, at + 8 * rows, 4);
            uint32_t q3 = (b >> 4 & low) | (c >> 2 & middle);
            uint32_t q2 = (a >> 4 & low) | (c & middle);
            a = (a & low) | (c << 4 & middle) | (q3 << 6 & high);
            b = (b & low) | (c << 2 & middle) | (q3 << 4 & high);
            c = q2 | (q3 << 2 & high);
            memcpy(at, &a, 4);
            memcpy(at + 4 * rows, &b, 4);
            memcpy(at + 8 * rows, &c, 4);
        }
    }
}

/* References. */
mb_prepare_fn mb_prepare_ref;
mb_matmul_fn mb_matmul_ref; /* file order only */
mb_pack_fn mb_pack;

#endif
