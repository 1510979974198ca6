/* SPDX-License-Identifier: MIT */
/* Matrix products of packed weights (mb_pack()) with 8-bit activations, written once over the vectors of lanes_<set>.h, which is
 * included before. A lane is a row, so one vector holds four columns of LANES rows. For 32 columns a type unpacks its quants to
 * eight vectors of bytes, and its scales to one float per row; then every token of the tile multiplies them with its activations,
 * and y += scale * d * (sum of w * q) + bias * sum. For one token the tile lives in registers. */
#ifndef MB_MATMUL_PACKED_H
#define MB_MATMUL_PACKED_H

/* Tokens that share one unpacking. */
#define TILE_TOKENS 64

struct tile {
    const struct mb_act_block *x; /* of the next 32 columns, first token of the tile */
    size_t x_stride;              /* blocks from one 32 columns to the next */
    size_t n_tokens;
    vf *y; /* [n_tokens] sums so far */
};

/* Columns of one scale: 32 or 16 of w[8]. bias is read only if it is not 0 (has_bias). */
INLINE void multiply32(struct tile *tile, const vi *w, vf scale, int has_bias, vf bias, enum range range)
{
    for (size_t t = 0; t < tile->n_tokens; t++) {
        const struct mb_act_block *x = tile->x + t;
        vf y = fma3(to_float(dot32(w, x->q, range)), times(scale, all(x->d)), tile->y[t]);
        tile->y[t] = has_bias ? fma3(bias, all(x->sum), y) : y;
    }
    tile->x += tile->x_stride;
}

INLINE void multiply16(struct tile *tile, const vi *w, const vf *scale, const vf *bias, enum range range)
{
    for (size_t t = 0; t < tile->n_tokens; t++) {
        const struct mb_act_block *x = tile->x + t;
        vf y = tile->y[t];
        for (int h = 0; h < 2; h++) {
            y = fma3(to_float(dot16(w + 4 * h, x->q + 16 * h, range)), times(scale[h], all(x->d)), y);
            y = fma3(bias[h], all(x->half[h]), y);
        }
        tile->y[t] = y;
    }
    tile->x += tile->x_stride;
}

/* Signed weights. */
INLINE void multiply_signed(struct tile *tile, const vi *w, vf scale)
{
    multiply32(tile, w, scale, S8_OFFSET != 0, times(scale, all(-S8_OFFSET)), S8);
}

/* Low nibbles are the first 16 columns, high nibbles the others. */
INLINE void nibbles(vi *w, const char *qs)
{
    for (int i = 0; i < 4; i++) {
        vi v = load(qs + i * LANES * 4);
        w[i] = bits(v, 0, 15);
        w[i + 4] = bits(v, 4, 15);
    }
}

INLINE void nibble_values(vi *w, const char *qs, const int8_t *table)
{
    nibbles(w, qs);
    for (int i = 0; i < 8; i++)
        w[i] = look_up(table, w[i]);
}

/* Their fifth bits: bit i of a lane belongs to column i. */
INLINE void add_fifths(vi *w, vi qh)
{
    for (int i = 0; i < 8; i++)
        w[i] = either(w[i], spread_to_16(lane_bits(qh, 4 * i, 15)));
}

INLINE void block_q4_0(struct tile *tile, const char *at)
{
    vi w[8];
    vf d = load_f16(at);
    nibbles(w, at + LANES * 2);
    multiply32(tile, w, d, 1, times(d, all(-8)), U4);
}

INLINE void block_q4_1(struct tile *tile, const char *at)
{
    vi w[8];
    nibbles(w, at + LANES * 4);
    multiply32(tile, w, load_f16(at), 1, load_f16(at + LANES * 2), U4);
}

INLINE void block_q5_0(struct tile *tile, const char *at)
{
    vi w[8];
    vf d = load_f16(at);
    nibbles(w, at + LANES * 6);
    add_fifths(w, load(at + LANES * 2));
    multiply32(tile, w, d, 1, times(d, all(-16)), U5);
}

INLINE void block_q5_1(struct tile *tile, const char *at)
{
    vi w[8];
    nibbles(w, at + LANES * 8);
    add_fifths(w, load(at + LANES * 4));
    multiply32(tile, w, load_f16(at), 1, load_f16(at + LANES * 2), U5);
}

INLINE void block_q8_0(struct tile *tile, const char *at)
{
    vi w[8];
    for (int i = 0; i < 8; i++)
        w[i] = offset_s8(load(at + LANES * (2 + 4 * i)));
    multiply_signed(tile, w, load_f16(at));
}

INLINE void block_iq4_nl(struct tile *tile, const char *at)
{
    vi w[8];
    nibble_values(w, at + LANES * 2, values_iq4_nl);
    multiply_signed(tile, w, load_f16(at));
}

INLINE void block_mxfp4(struct tile *tile, const char *at)
{
    static const int8_t values_plus_12[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    vi w[8];
    vf d = e8m0_half(load_u8(at));
    nibble_values(w, at + LANES, values_plus_12);
    multiply32(tile, w, d, 1, times(d, all(-12)), U5);
}

INLINE void block_iq4_xs(struct tile *tile, const char *at)
{
    vf d = load_f16(at);
    vi high = load_u16(at + LANES * 2), low = load(at + LANES * 4);
    UNROLL
    for (int k = 0; k < 8; k++) {
        vi w[8], scale = either(lane_bits(low, 4 * k, 15), lane_shift_left(lane_bits(high, 2 * k, 3), 4));
        nibble_values(w, at + LANES * (8 + 16 * k), values_iq4_nl);
        multiply_signed(tile, w, times(d, to_float(lane_add(scale, -32))));
    }
}

/* Scales and minima of Q4_K and Q5_K, four sub-blocks in the bytes of a lane: [0] of 0..3, [1] of 4..7. */
INLINE void scales_k4(const char *at, vi *scale, vi *min)
{
    vi a = load(at), b = load(at + LANES * 4), c = load(at + LANES * 8);
    scale[0] = bits(a, 0, 63);
    min[0] = bits(b, 0, 63);
    scale[1] = either(bits(c, 0, 15), bits(a, 2, 0x30));
    min[1] = either(bits(c, 4, 15), bits(b, 2, 0x30));
}

/* Bit k of each byte, moved to bit `to`. */
INLINE vi bit_of(vi v, int k, int to)
{
    return k < to ? bits_left(v, to - k, 1 << to) : bits(v, k - to, 1 << to);
}

INLINE void block_q4_k(struct tile *tile, const char *at)
{
    vf d = load_f16(at), minus_dmin = times(load_f16(at + LANES * 2), all(-1));
    vi scale[2], min[2];
    scales_k4(at + LANES * 4, scale, min);
    const char *qs = at + LANES * 16;
    UNROLL
    for (int k = 0; k < 8; k++) {
        vi w[8];
        for (int i = 0; i < 8; i++)
            w[i] = bits(load(qs + LANES * (k / 2 * 32 + 4 * i)), k % 2 * 4, 15);
        multiply32(tile, w, times(d, to_float(lane_bits(scale[k / 4], k % 4 * 8, 255))), 1,
                   times(minus_dmin, to_float(lane_bits(min[k / 4], k % 4 * 8, 255))), U4);
    }
}

INLINE void block_q5_k(struct tile *tile, const char *at)
{
    vf d = load_f16(at), minus_dmin = times(load_f16(at + LANES * 2), all(-1));
    vi scale[2], min[2];
    scales_k4(at + LANES * 4, scale, min);
    const char *qh = at + LANES * 16, *qs = at + LANES * 48;
    UNROLL
    for (int k = 0; k < 8; k++) {
        vi w[8];
        for (int i = 0; i < 8; i++)
            w[i] = either(bits(load(qs + LANES * (k / 2 * 32 + 4 * i)), k % 2 * 4, 15), bit_of(load(qh + LANES * 4 * i), k, 4));
        multiply32(tile, w, times(d, to_float(lane_bits(scale[k / 4], k % 4 * 8, 255))), 1,
                   times(minus_dmin, to_float(lane_bits(min[k / 4], k % 4 * 8, 255))), U5);
    }
}

INLINE void block_q6_k(struct tile *tile, const char *at)
{
    vf d = load_f16(at + LANES * 208);
    UNROLL
    for (int k = 0; k < 8; k++) { /* 32 columns: two bits of every byte of qh, a nibble of half the bytes of ql */
        vi w[8];
        for (int i = 0; i < 8; i++) {
            vi low = bits(load(at + LANES * (k / 4 * 64 + k % 2 * 32 + 4 * i)), k % 4 / 2 * 4, 15);
            vi high = load(at + LANES * (128 + k / 4 * 32 + 4 * i));
            w[i] = either(low, k % 4 < 2 ? bits_left(high, 4 - k % 4 * 2, 0x30) : bits(high, k % 4 * 2 - 4, 0x30));
        }
        vf scale[2], bias[2];
        for (int h = 0; h < 2; h++) {
            scale[h] = times(d, to_float(load_i8(at + LANES * (192 + 2 * k + h))));
            bias[h] = times(scale[h], all(-32));
        }
        multiply16(tile, w, scale, bias, U6);
    }
}

INLINE void block_q3_k(struct tile *tile, const char *at)
{
    vf d = load_f16(at + LANES * 108);
    vi a = load(at + LANES * 96), b = load(at + LANES * 100), c = load(at + LANES * 104);
    /* Four scales in the bytes of a lane. */
    const vi scales[4] = {either(bits(a, 0, 15), bits_left(c, 4, 0x30)), either(bits(b, 0, 15), bits_left(c, 2, 0x30)),
                          either(bits(a, 4, 15), bits(c, 0, 0x30)), either(bits(b, 4, 15), bits(c, 2, 0x30))};
    UNROLL
    for (int k = 0; k < 8; k++) {
        vi w[8];
        for (int i = 0; i < 8; i++)
            w[i] = either(bits(load(at + LANES * (32 + k / 4 * 32 + 4 * i)), k % 4 * 2, 3),
                          bit_of(load(at + LANES * 4 * i), k, 2));
        vf scale[2], bias[2];
        for (int h = 0; h < 2; h++) {
            scale[h] = times(d, to_float(lane_add(lane_bits(scales[k / 2], (k % 2 * 2 + h) * 8, 255), -32)));
            bias[h] = times(scale[h], all(-4));
        }
        multiply16(tile, w, scale, bias, U4);
    }
}

INLINE void block_q2_k(struct tile *tile, const char *at)
{
    vf d = load_f16(at + LANES * 80), minus_dmin = times(load_f16(at + LANES * 82), all(-1));
    UNROLL
    for (int k = 0; k < 8; k++) {
        vi w[8];
        for (int i = 0; i < 8; i++)
            w[i] = bits(load(at + LANES * (16 + k / 4 * 32 + 4 * i)), k % 4 * 2, 3);
        vf scale[2], bias[2];
        for (int h = 0; h < 2; h++) {
            vi both = load_u8(at + LANES * (2 * k + h));
            scale[h] = times(d, to_float(lane_bits(both, 0, 15)));
            bias[h] = times(minus_dmin, to_float(lane_bits(both, 4, 15)));
        }
        multiply16(tile, w, scale, bias, U4);
    }
}

/* ---- rows ---- */

typedef void block_fn(struct tile *tile, const char *at);

/* LANES rows, packed at `at`, or in file order from there. */
struct rows {
    const char *at;
    size_t row_bytes;
    size_t n; /* rows that there are, at most LANES; packed groups are whole */
    int packed;
};

/* Interleave one block of rows in file order, as mb_pack() does. A row that is missing is another time the last. */
INLINE void interleave(char *to, const struct rows *rows, size_t offset, const struct mb_pack_field *field)
{
    const char *from[LANES];
    for (size_t i = 0; i < LANES; i++)
        from[i] = rows->at + (i < rows->n ? i : rows->n - 1) * rows->row_bytes + offset;
    for (; field->unit; field++) {
        size_t done = 0;
        if (field->unit == 4)
            done = interleave_words(to, from, field->n_units);
        else if (field->unit == 1 && field->n_units == 16) {
            interleave_16_bytes(to, from);
            done = 16;
        }
        to += done * field->unit * LANES;
        for (size_t i = done; i < field->n_units; i++)
            for (size_t row = 0; row < LANES; row++, to += field->unit)
                memcpy(to, from[row] + i * field->unit, field->unit);
        for (size_t row = 0; row < LANES; row++)
            from[row] += (size_t)field->unit * field->n_units;
    }
}

/* Columns that are interleaved at a time. */
#define PART_COLS 256

/* A buffer for them: LANES rows of 256 columns, 8.5 bits each at most. */
#define PART_BYTES (LANES * PART_COLS * 17 / 16)

/* Interleave n blocks of the rows, from block b on. */
INLINE void interleave_part(char *to, const struct rows *rows, const struct mb_pack_field *fields, size_t block_bytes, size_t b,
                            size_t n)
{
    for (size_t i = 0; i < rows->n; i++) /* the next part of every row */
        for (size_t k = 0; k < n * block_bytes; k += 64)
            __builtin_prefetch(rows->at + i * rows->row_bytes + (b + n) * block_bytes + k);
    for (size_t i = 0; i < n; i++)
        interleave(to + i * block_bytes * LANES, rows, (b + i) * block_bytes, fields);
}

INLINE void put(float *y, vf v, size_t n_rows)
{
    float row[LANES];
    if (n_rows == LANES) {
        store(y, v);
        return;
    }
    store(row, v);
    memcpy(y, row, n_rows * sizeof *y);
}

/* Rows r to r + LANES, as far as they come before end. */
static struct rows rows_at(const struct mb_matmul *op, size_t r, size_t end)
{
    return (struct rows){(const char *)op->weights + r * op->row_bytes, op->row_bytes, end - r < LANES ? end - r : LANES,
                         op->packed && r + LANES <= op->n_rows};
}

/* One thread reads the memory faster as several streams, and when the next lines of each are asked for. On two Zen 3
 * cores Q4_0 ran
 * at 62 % of the speed of plain reads with one stream, 77 % with four, 97 % with four and a prefetch of 512 bytes. */
#define STREAMS        4
#define PREFETCH_BYTES 512

/* One token: STREAMS parts of the rows in step, then what is left. */
INLINE void decode(block_fn *block, size_t block_bytes, size_t block_elements, const struct mb_matmul *op, size_t begin,
                   size_t end)
{
    const struct mb_pack_field *fields = mb_pack_fields(op->type);
    size_t n_blocks = op->n_cols / block_elements, n_groups = (end - begin + LANES - 1) / LANES, part = n_groups / STREAMS;
    char buffer[PART_BYTES];
    for (size_t i = 0; i < part + n_groups % STREAMS; i++) {
        size_t n_streams = i < part ? STREAMS : 1, first = i < part ? i : i + part * (STREAMS - 1);
        struct rows rows[STREAMS];
        vf sums[STREAMS];
        for (size_t s = 0; s < n_streams; s++) {
            rows[s] = rows_at(op, begin + (first + s * part) * LANES, end);
            sums[s] = all(0);
        }
        for (size_t b = 0, n; b < n_blocks; b += n) {
            n = PART_COLS / block_elements;
            n = n_blocks - b < n ? n_blocks - b : n;
            for (size_t s = 0; s < n_streams; s++) {
                const char *at = rows[s].at + b * block_bytes * LANES;
                struct tile tile = {(const struct mb_act_block *)op->x + b * (block_elements / 32), 1, 1, &sums[s]};
                vf sum = sums[s];
                tile.y = &sum;
                if (rows[s].packed)
                    for (size_t k = 0; k < n * block_bytes * LANES; k += 64)
                        __builtin_prefetch(at + PREFETCH_BYTES + k);
                else {
                    interleave_part(buffer, &rows[s], fields, block_bytes, b, n);
                    at = buffer;
                }
                for (size_t k = 0; k < n; k++)
                    block(&tile, at + k * block_bytes * LANES);
                sums[s] = sum;
            }
        }
        for (size_t s = 0; s < n_streams; s++)
            put(op->y + begin + (first + s * part) * LANES, sums[s], rows[s].n);
    }
}

/* The product of some rows and tokens begin <= t < begin + n; y is that of the first row and token. */
INLINE void product(block_fn *block, size_t block_bytes, size_t block_elements, const struct mb_matmul *op,
                    const struct rows *rows,
                    size_t begin, size_t n, float *y)
{
    const struct mb_pack_field *fields = mb_pack_fields(op->type);
    size_t n_blocks = op->n_cols / block_elements;
    char buffer[PART_BYTES];
    vf sums[TILE_TOKENS];
    struct tile tile = {(const struct mb_act_block *)op->x + begin, op->n_tokens, n, sums};
    for (size_t t = 0; t < n; t++)
        sums[t] = all(0);
    for (size_t b = 0; b < n_blocks; b++) {
        const char *at = rows->at + b * block_bytes * LANES;
        if (!rows->packed) {
            interleave(buffer, rows, b * block_bytes, fields);
            at = buffer;
        }
        block(&tile, at);
    }
    for (size_t t = 0; t < n; t++)
        put(y + t * op->y_stride, sums[t], rows->n);
}

/* Bytes of activations and of weights that are worked on together, so that both stay in a second-level cache of 512 KiB. */
#define TILE_ACT_BYTES    (192 << 10)
#define TILE_WEIGHT_BYTES (128 << 10)

/* More tokens: some rows stay in the cache while all tokens pass by, a tile of them at a time. */
INLINE void prefill(block_fn *block, size_t block_bytes, size_t block_elements, const struct mb_matmul *op, size_t begin,
                    size_t end)
{
    size_t n_tokens = TILE_ACT_BYTES / (op->n_cols / 32 * sizeof(struct mb_act_block)) / 8 * 8;
    n_tokens = n_tokens < 8 ? 8 : n_tokens > TILE_TOKENS ? TILE_TOKENS : n_tokens;
    size_t n_rows = TILE_WEIGHT_BYTES / op->row_bytes / LANES * LANES;
    n_rows = n_rows < LANES ? LANES : n_rows;
    for (size_t first = begin; first < end; first += n_rows)
        for (size_t t = 0; t < op->n_tokens; t += n_tokens)
            for (size_t r = first; r < end && r < first + n_rows; r += LANES) {
                struct rows rows = rows_at(op, r, end);
                product(block, block_bytes, block_elements, op, &rows, t, op->n_tokens - t < n_tokens ? op->n_tokens - t
                        : n_tokens,
                        op->y + t * op->y_stride + r);
            }
}

/* X(type, name, elements per block) */
#define PACKED_TYPES(X)                                                                                                   \
    X(Q4_0, q4_0, 32) X(Q4_1, q4_1, 32) X(Q5_0, q5_0, 32) X(Q5_1, q5_1, 32) X(Q8_0, q8_0, 32) X(Q2_K, q2_k, 256)          \
    X(Q3_K, q3_k, 256) X(Q4_K, q4_k, 256) X(Q5_K, q5_k, 256) X(Q6_K, q6_k, 256) X(IQ4_NL, iq4_nl, 32)                     \
    X(IQ4_XS, iq4_xs, 256) X(MXFP4, mxfp4, 32)

#define MATMUL(TYPE, name, elements)                                                     \
    static void matmul_##name(const struct mb_matmul *op, size_t begin, size_t end)      \
    {                                                                                    \
        if (op->n_tokens == 1)                                                           \
            decode(block_##name, sizeof(struct mb_block_##name), elements, op, begin, end); \
        else                                                                             \
            prefill(block_##name, sizeof(struct mb_block_##name), elements, op, begin, end); \
    }
PACKED_TYPES(MATMUL)
#undef MATMUL

static void add_packed(struct mb_kernels *kernels)
{
    kernels->pack_rows = LANES;
#define ROW(TYPE, name, elements) kernels->matmul[MB_TYPE_##TYPE] = matmul_##name;
    PACKED_TYPES(ROW)
#undef ROW
}

#endif
