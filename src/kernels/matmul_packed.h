/* SPDX-License-Identifier: MIT */
/* Matrix products of packed weights (mb_pack()) with 8-bit activations, written once over the vectors of lanes_<set>.h,
 * which is included before. A lane is a row, so one vector holds four columns of LANES rows. Per 32 columns a type tells
 * its quants, as eight vectors of bytes, and its scales, as floats of the rows: y += scale * d * (sum of w * q) + bias *
 * sum.
 *
 * One token: the quants are multiplied as they are unpacked. More: quants and scales of 256 columns are unpacked once to
 * the first-level cache and multiplied by all tokens, a tile at a time. */
#ifndef MB_MATMUL_PACKED_H
#define MB_MATMUL_PACKED_H

/* What a type takes from a block before its columns: scales. */
struct opened {
    vf d, m;
    vi a[4];
};

/* Of 32 columns, or of the 16 of half h if the type has its scales by 16. */
struct scale {
    vf scale, bias;
};

typedef struct opened open_fn(const char *at);
typedef struct scale scale_fn(const struct opened *b, const char *at, int k, int h);
/* Columns 4 i to 4 i + 3 of 32 columns k of the block. */
typedef vi quad_fn(const char *at, int k, int i);

/* What the compiler is told of a type. */
struct kind {
    int halves;    /* 2: scales by 16 columns */
    int is_signed; /* signed weights; otherwise up to 15, or more with a centre */
    int centre;    /* the weight that stands for 0, where it has to be taken off early: see lanes_avx2.h */
    int has_bias;
};

/* ---- types ---- */

/* Quads whose first 16 columns are low nibbles and the others high ones, of 16 bytes per row. */
INLINE vi nibbles(const char *qs, int i)
{
    return bits(load(qs + LANES * 4 * (i % 4)), i / 4 * 4, 15);
}

INLINE struct opened open_d(const char *at)
{
    return (struct opened){.d = load_f16(at)};
}

INLINE struct opened open_d_m(const char *at)
{
    return (struct opened){.d = load_f16(at), .m = load_f16(at + LANES * 2)};
}

/* One scale, no minimum; the weight `zero` means 0. */
INLINE struct scale scale_zero(vf d, int zero)
{
    return (struct scale){d, zero ? times(d, all((float)-zero)) : d};
}

INLINE struct scale scale_q4_0(const struct opened *b, const char *at, int k, int h)
{
    (void)at, (void)k, (void)h;
    return scale_zero(b->d, 8);
}

INLINE vi quad_q4_0(const char *at, int k, int i)
{
    (void)k;
    return nibbles(at + LANES * 2, i);
}

INLINE struct scale scale_q4_1(const struct opened *b, const char *at, int k, int h)
{
    (void)at, (void)k, (void)h;
    return (struct scale){b->d, b->m};
}

INLINE vi quad_q4_1(const char *at, int k, int i)
{
    (void)k;
    return nibbles(at + LANES * 4, i);
}

INLINE struct scale scale_q5_0(const struct opened *b, const char *at, int k, int h)
{
    (void)at, (void)k, (void)h;
    return scale_zero(b->d, CENTRES ? 0 : 16);
}

/* Fifth bits: bit i of a lane belongs to column i. */
INLINE vi quad_q5_0(const char *at, int k, int i)
{
    (void)k;
    return either(nibbles(at + LANES * 6, i), spread_to_16(load(at + LANES * 2), i));
}

INLINE struct scale scale_q5_1(const struct opened *b, const char *at, int k, int h)
{
    (void)at, (void)k, (void)h;
    return (struct scale){b->d, CENTRES ? fma3(b->d, all(16), b->m) : b->m};
}

INLINE vi quad_q5_1(const char *at, int k, int i)
{
    (void)k;
    return either(nibbles(at + LANES * 8, i), spread_to_16(load(at + LANES * 4), i));
}

INLINE struct scale scale_q8_0(const struct opened *b, const char *at, int k, int h)
{
    (void)at, (void)k, (void)h;
    return scale_zero(b->d, S8_OFFSET);
}

INLINE vi quad_q8_0(const char *at, int k, int i)
{
    (void)k;
    return offset_s8(load(at + LANES * (2 + 4 * i)));
}

INLINE vi quad_iq4_nl(const char *at, int k, int i)
{
    (void)k;
    return look_up(values_iq4_nl, nibbles(at + LANES * 2, i));
}

INLINE struct opened open_mxfp4(const char *at)
{
    return (struct opened){.d = e8m0_half(load_u8(at))};
}

INLINE struct scale scale_mxfp4(const struct opened *b, const char *at, int k, int h)
{
    (void)at, (void)k, (void)h;
    return scale_zero(b->d, CENTRES ? 0 : 12);
}

INLINE vi quad_mxfp4(const char *at, int k, int i)
{
    static const int8_t values_plus_12[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    (void)k;
    return look_up(values_plus_12, nibbles(at + LANES, i));
}

INLINE struct opened open_iq4_xs(const char *at)
{
    return (struct opened){.d = load_f16(at), .a = {load_u16(at + LANES * 2), load(at + LANES * 4)}};
}

INLINE struct scale scale_iq4_xs(const struct opened *b, const char *at, int k, int h)
{
    (void)at, (void)h;
    vi scale = either(lane_bits(b->a[1], 4 * k, 15), lane_shift_left(lane_bits(b->a[0], 2 * k, 3), 4));
    return scale_zero(times(b->d, to_float(lane_add(scale, -32))), S8_OFFSET);
}

INLINE vi quad_iq4_xs(const char *at, int k, int i)
{
    return look_up(values_iq4_nl, nibbles(at + LANES * (8 + 16 * k), i));
}

/* Scales and minima of Q4_K and Q5_K, four sub-blocks in the bytes of a lane: a[0], a[1] scales of 0..3 and 4..7, a[2], a[3]
 * minima. */
INLINE struct opened open_k4(const char *at)
{
    vi a = load(at + LANES * 4), b = load(at + LANES * 8), c = load(at + LANES * 12);
    return (struct opened){.d = load_f16(at),
                           .m = times(load_f16(at + LANES * 2), all(-1)),
                           .a = {bits(a, 0, 63), either(bits(c, 0, 15), bits(a, 2, 0x30)), bits(b, 0, 63),
                                 either(bits(c, 4, 15), bits(b, 2, 0x30))}};
}

INLINE struct scale scale_q4_k(const struct opened *b, const char *at, int k, int h)
{
    (void)at, (void)h;
    return (struct scale){times(b->d, to_float(lane_bits(b->a[k / 4], k % 4 * 8, 255))),
                          times(b->m, to_float(lane_bits(b->a[2 + k / 4], k % 4 * 8, 255)))};
}

INLINE vi quad_q4_k(const char *at, int k, int i)
{
    return bits(load(at + LANES * (16 + k / 2 * 32 + 4 * i)), k % 2 * 4, 15);
}

INLINE struct scale scale_q5_k(const struct opened *b, const char *at, int k, int h)
{
    struct scale s = scale_q4_k(b, at, k, h);
    if (CENTRES)
        s.bias = fma3(s.scale, all(16), s.bias);
    return s;
}

/* Bit k of each byte, moved to bit `to`. */
INLINE vi bit_of(vi v, int k, int to)
{
    return k < to ? bits_left(v, to - k, 1 << to) : bits(v, k - to, 1 << to);
}

INLINE vi quad_q5_k(const char *at, int k, int i)
{
    return either(bits(load(at + LANES * (48 + k / 2 * 32 + 4 * i)), k % 2 * 4, 15),
                  bit_of(load(at + LANES * (16 + 4 * i)), k, 4));
}

INLINE struct opened open_q6_k(const char *at)
{
    return open_d(at + LANES * 208);
}

INLINE struct scale scale_q6_k(const struct opened *b, const char *at, int k, int h)
{
    return scale_zero(times(b->d, to_float(load_i8(at + LANES * (192 + 2 * k + h)))), CENTRES ? 0 : 32);
}

/* Two bits of every byte of 32 of qh, a nibble of half the bytes of 64 of ql. */
INLINE vi quad_q6_k(const char *at, int k, int i)
{
    vi low = bits(load(at + LANES * (k / 4 * 64 + k % 2 * 32 + 4 * i)), k % 4 / 2 * 4, 15);
    vi high = load(at + LANES * (128 + k / 4 * 32 + 4 * i));
    return either(low, k % 4 < 2 ? bits_left(high, 4 - k % 4 * 2, 0x30) : bits(high, k % 4 * 2 - 4, 0x30));
}

/* Four scales in the bytes of a lane. */
INLINE struct opened open_q3_k(const char *at)
{
    vi a = load(at + LANES * 96), b = load(at + LANES * 100), c = load(at + LANES * 104);
    return (struct opened){.d = load_f16(at + LANES * 108),
                           .a = {either(bits(a, 0, 15), bits_left(c, 4, 0x30)), either(bits(b, 0, 15), bits_left(c, 2, 0x30)),
                                 either(bits(a, 4, 15), bits(c, 0, 0x30)), either(bits(b, 4, 15), bits(c, 2, 0x30))}};
}

INLINE struct scale scale_q3_k(const struct opened *b, const char *at, int k, int h)
{
    (void)at;
    return scale_zero(times(b->d, to_float(lane_add(lane_bits(b->a[k / 2], (k % 2 * 2 + h) * 8, 255), -32))), 4);
}

INLINE vi quad_q3_k(const char *at, int k, int i)
{
    return either(bits(load(at + LANES * (32 + k / 4 * 32 + 4 * i)), k % 4 * 2, 3), bit_of(load(at + LANES * 4 * i), k, 2));
}

INLINE struct opened open_q2_k(const char *at)
{
    return (struct opened){.d = load_f16(at + LANES * 80), .m = times(load_f16(at + LANES * 82), all(-1))};
}

INLINE struct scale scale_q2_k(const struct opened *b, const char *at, int k, int h)
{
    vi both = load_u8(at + LANES * (2 * k + h));
    return (struct scale){times(b->d, to_float(lane_bits(both, 0, 15))), times(b->m, to_float(lane_bits(both, 4, 15)))};
}

INLINE vi quad_q2_k(const char *at, int k, int i)
{
    return bits(load(at + LANES * (16 + k / 4 * 32 + 4 * i)), k % 4 * 2, 3);
}

/* ---- rows ---- */

/* LANES rows, packed at `at`, or in file order from there. */
struct rows {
    const char *at;
    size_t row_bytes;
    size_t n; /* rows that there are, at most LANES; packed groups are whole */
    int packed;
};

/* Rows r to r + LANES, as far as they come before end. */
static struct rows rows_at(const struct mb_matmul *op, size_t r, size_t end)
{
    return (struct rows){(const char *)op->weights + r * op->row_bytes, op->row_bytes, end - r < LANES ? end - r : LANES,
                         op->packed && r + LANES <= op->n_rows};
}

/* Interleave one block of rows in file order, as mb_pack() does. A row that is missing is another time the last. */
static void interleave(char *to, const struct rows *rows, size_t offset, const struct mb_pack_field *field)
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

/* Columns that are interleaved or unpacked at a time, and the bytes that they can have in LANES rows. */
#define PART_COLS  256
#define PART_BYTES (LANES * PART_COLS * 17 / 16)

/* n blocks from block b on, packed: where they are, or in the buffer. */
static const char *part_at(char *buffer, const struct rows *rows, uint32_t type, size_t block_bytes, size_t b, size_t n)
{
    if (rows->packed)
        return rows->at + b * block_bytes * LANES;
    for (size_t i = 0; i < rows->n; i++) /* the next part of every row */
        for (size_t k = 0; k < n * block_bytes; k += 64)
            __builtin_prefetch(rows->at + i * rows->row_bytes + (b + n) * block_bytes + k);
    for (size_t i = 0; i < n; i++)
        interleave(buffer + i * block_bytes * LANES, rows, (b + i) * block_bytes, mb_pack_fields(type));
    return buffer;
}

static void put(float *y, vf v, size_t n_rows)
{
    float row[LANES];
    if (n_rows == LANES) {
        store(y, v);
        return;
    }
    store(row, v);
    memcpy(y, row, n_rows * sizeof *y);
}

/* ---- one token ---- */

/* One thread reads the memory faster as several streams, and when the next lines of each are asked for. On two Zen 3 cores
 * Q4_0 ran at 62 % of the speed of plain reads with one stream, 77 % with four, 97 % with four and a prefetch of 512 bytes. */
#define STREAMS        4
#define PREFETCH_BYTES 512

INLINE vi dot_done(vi sum, struct kind kind)
{
    return kind.is_signed ? sum : dot_end(sum);
}

/* sum + four quads. They are multiplied one by one, so that few registers are in use at a time. */
INLINE vi add_quads(vi sum, quad_fn *quad, struct kind kind, const char *at, int k, int first, const int8_t *q)
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        vx x = four(q + 4 * (first + i));
        sum = kind.is_signed ? dot_signed(sum, quad(at, k, first + i), x) : dot(sum, quad(at, k, first + i), x);
    }
    FORGET;
    return sum;
}

INLINE vf add_scaled(vf y, vi sum, const struct scale *s, struct kind kind, float d, float x_sum)
{
    y = fma3(to_float(dot_done(sum, kind)), times(s->scale, all(d)), y);
    return kind.has_bias ? fma3(s->bias, all(x_sum), y) : y;
}

/* y + 32 columns. */
INLINE vf add_32(vf y, const struct scale *s, quad_fn *quad, struct kind kind, const char *at, int k,
                 const struct mb_act_block *x)
{
    if (kind.halves == 1) {
        vi sum = add_quads(dot_begin(x, 2, kind.centre), quad, kind, at, k, 0, x->q);
        sum = add_quads(sum, quad, kind, at, k, 4, x->q);
        return add_scaled(y, sum, s, kind, x->d, x->sum);
    }
    vi sum = add_quads(dot_begin(x, 0, kind.centre), quad, kind, at, k, 0, x->q);
    y = add_scaled(y, sum, s, kind, x->d, x->half[0]);
    sum = add_quads(dot_begin(x, 1, kind.centre), quad, kind, at, k, 4, x->q);
    return add_scaled(y, sum, s + 1, kind, x->d, x->half[1]);
}

/* The scales of n steps of 32 columns of the block. */
INLINE void all_scales(struct scale *to, open_fn *open, scale_fn *scale, int halves, const char *at, size_t n)
{
    const struct opened opened = open(at);
    UNROLL
    for (size_t k = 0; k < n; k++) {
        *to++ = scale(&opened, at, (int)k, 0);
        if (halves == 2)
            *to++ = scale(&opened, at, (int)k, 1);
    }
}

/* STREAMS parts of the rows in step, then what is left. */
INLINE void decode(open_fn *open, scale_fn *scale, quad_fn *quad, struct kind kind, size_t block_bytes, size_t block_elements,
                   const struct mb_matmul *op, size_t begin, size_t end)
{
    size_t n_blocks = op->n_cols / block_elements, n_groups = (end - begin + LANES - 1) / LANES, part = n_groups / STREAMS;
    char buffer[PART_BYTES];
    for (size_t i = 0; i < part + n_groups % STREAMS; i++) {
        size_t n_streams = i < part ? STREAMS : 1, first = i < part ? i : i + part * (STREAMS - 1);
        struct rows rows[STREAMS];
        vf y[STREAMS];
        for (size_t s = 0; s < n_streams; s++) {
            rows[s] = rows_at(op, begin + (first + s * part) * LANES, end);
            y[s] = all(0);
        }
        for (size_t b = 0, n; b < n_blocks; b += n) {
            n = PART_COLS / block_elements;
            n = n_blocks - b < n ? n_blocks - b : n;
            for (size_t s = 0; s < n_streams; s++) {
                const char *at = part_at(buffer, &rows[s], op->type, block_bytes, b, n);
                const struct mb_act_block *x = (const struct mb_act_block *)op->x + b * (block_elements / 32);
                vf sum = y[s];
                for (size_t j = 0; j < n; j++, at += block_bytes * LANES) {
                    for (size_t line = 0; line < block_bytes * LANES; line += 64)
                        __builtin_prefetch(at + PREFETCH_BYTES + line);
                    struct scale scales[16];
                    all_scales(scales, open, scale, kind.halves, at, block_elements / 32);
                    if (block_elements > 32)
                        IN_MEMORY(scales);
                    UNROLL
                    for (size_t k = 0; k < block_elements / 32; k++)
                        sum = add_32(sum, scales + k * (size_t)kind.halves, quad, kind, at, (int)k, x++);
                }
                y[s] = sum;
            }
        }
        for (size_t s = 0; s < n_streams; s++)
            put(op->y + begin + (first + s * part) * LANES, y[s], rows[s].n);
    }
}

/* ---- more tokens ---- */

/* A part, unpacked. */
struct unpacked {
    vi w[PART_COLS / 4];
    struct scale s[PART_COLS / 16];
};

INLINE void unpack(struct unpacked *to, open_fn *open, scale_fn *scale, quad_fn *quad, int halves, size_t block_bytes,
                   size_t block_elements, const char *at, size_t n)
{
    vi *w = to->w;
    struct scale *s = to->s;
    for (size_t j = 0; j < n; j++, at += block_bytes * LANES) {
        all_scales(s, open, scale, halves, at, block_elements / 32);
        s += block_elements / 32 * (size_t)halves;
        UNROLL
        for (size_t k = 0; k < block_elements / 32; k++, w += 8) {
            for (int i = 0; i < 8; i++)
                w[i] = quad(at, (int)k, i);
        }
    }
}

/* y[t] += part * x of the n tokens of a tile, n a constant. Four tokens of 16 rows are what 16 registers of 32 bytes hold:
 * 8 sums, 2 of weights, an activation. Blocks of the tile after this are asked for on the way. */
INLINE void multiply(const struct unpacked *part, size_t n_steps, const struct mb_act_block *x, size_t to_next_tile, vf *y,
                     size_t n, struct kind kind)
{
    for (size_t k = 0; k < n_steps; k++, x += n) {
        const struct scale *s = part->s + k * (size_t)kind.halves;
        const vi *w = part->w + 8 * k;
        vi sum[MB_ACT_TILE];
        for (size_t t = 0; t < n; t++)
            __builtin_prefetch(x + to_next_tile + t);
        UNROLL
        for (int h = 0; h < 2; h++) {
            for (size_t t = 0; t < n; t++)
                if (h == 0 || kind.halves == 2)
                    sum[t] = dot_begin(x + t, kind.halves == 2 ? h : 2, kind.centre);
            UNROLL
            for (int i = 0; i < 4; i++)
                for (size_t t = 0; t < n; t++) {
                    vx q = four(x[t].q + 16 * h + 4 * i);
                    sum[t] = kind.is_signed ? dot_signed(sum[t], w[4 * h + i], q) : dot(sum[t], w[4 * h + i], q);
                }
            for (size_t t = 0; t < n; t++)
                if (kind.halves == 2)
                    y[t] = add_scaled(y[t], sum[t], s + h, kind, x[t].d, x[t].half[h]);
                else if (h == 1)
                    y[t] = add_scaled(y[t], sum[t], s, kind, x[t].d, x[t].sum);
        }
    }
}

/* Tokens that share one unpacking. */
#define TOKENS_MAX 64

/* The tokens first <= t < first + n, first a multiple of MB_ACT_TILE, and columns from block b of n_blocks on. One copy for
 * each kind: the types share them. */
INLINE void multiply_all(const struct unpacked *part, size_t n_steps, const struct mb_matmul *op, size_t b, size_t first,
                         size_t n, vf *y, struct kind kind)
{
    const size_t n_blocks = op->n_cols / 32;
    for (size_t t = 0; t < n; t += MB_ACT_TILE) {
        const struct mb_act_block *x = (const struct mb_act_block *)op->x + mb_act_at(n_blocks, op->n_tokens, b, first + t);
        size_t to_next_tile = t + MB_ACT_TILE < n ? n_blocks * MB_ACT_TILE : 0;
        switch (n - t) {
        case 1:
            multiply(part, n_steps, x, 0, y + t, 1, kind);
            break;
        case 2:
            multiply(part, n_steps, x, 0, y + t, 2, kind);
            break;
        case 3:
            multiply(part, n_steps, x, 0, y + t, 3, kind);
            break;
        default:
            multiply(part, n_steps, x, to_next_tile, y + t, 4, kind);
        }
    }
}

#define KIND_NIBBLE ((struct kind){1, 0, 0, 1})          /* weights up to 15, a bias */
#define KIND_FIVE   ((struct kind){1, 0, 16, 1})         /* up to 31, a bias */
#define KIND_ZERO   ((struct kind){1, 0, 16, !CENTRES})  /* up to 31, 16 is zero */
#define KIND_E2M1   ((struct kind){1, 0, 12, !CENTRES})  /* up to 24, 12 is zero */
#define KIND_SIGNED ((struct kind){1, 1, 0, S8_OFFSET != 0})
#define KIND_HALVES ((struct kind){2, 0, 0, 1})          /* up to 15, scales by 16, biases */
#define KIND_SIX    ((struct kind){2, 0, 32, !CENTRES})  /* up to 63, 32 is zero, scales by 16 */

typedef void multiply_fn(const struct unpacked *part, size_t n_steps, const struct mb_matmul *op, size_t b, size_t first,
                         size_t n, vf *y);

#define MULTIPLY(KIND)                                                                                              \
    NOT_INLINE void multiply_##KIND(const struct unpacked *part, size_t n_steps, const struct mb_matmul *op,        \
                                    size_t b, size_t first, size_t n, vf *y)                                        \
    {                                                                                                               \
        multiply_all(part, n_steps, op, b, first, n, y, KIND);                                                      \
    }
MULTIPLY(KIND_NIBBLE)
MULTIPLY(KIND_FIVE)
MULTIPLY(KIND_ZERO)
MULTIPLY(KIND_E2M1)
MULTIPLY(KIND_SIGNED)
MULTIPLY(KIND_HALVES)
MULTIPLY(KIND_SIX)
#undef MULTIPLY

/* Bytes of activations and of weights that are worked on together: both shall stay in a second-level cache of 512 KiB. */
#define TILE_ACT_BYTES    (256 << 10)
#define TILE_WEIGHT_BYTES (128 << 10)

/* Some rows stay in the cache while all tokens pass by, a tile of them at a time. */
INLINE void prefill(open_fn *open, scale_fn *scale, quad_fn *quad, multiply_fn *multiply_part, int halves,
                    size_t block_bytes, size_t block_elements, const struct mb_matmul *op, size_t begin, size_t end)
{
    size_t n_blocks = op->n_cols / block_elements, n_rows = TILE_WEIGHT_BYTES / op->row_bytes / LANES * LANES;
    size_t n_tokens = TILE_ACT_BYTES / (op->n_cols / 32 * sizeof(struct mb_act_block)) / MB_ACT_TILE * MB_ACT_TILE;
    n_tokens = n_tokens < 2 * MB_ACT_TILE ? 2 * MB_ACT_TILE : n_tokens > TOKENS_MAX ? TOKENS_MAX : n_tokens;
    n_rows = n_rows < LANES ? LANES : n_rows;
    char buffer[PART_BYTES];
    struct unpacked part;
    vf y[TOKENS_MAX];
    for (size_t first = begin; first < end; first += n_rows)
        for (size_t t = 0; t < op->n_tokens; t += n_tokens)
            for (size_t r = first; r < end && r < first + n_rows; r += LANES) {
                struct rows rows = rows_at(op, r, end);
                size_t n_here = op->n_tokens - t < n_tokens ? op->n_tokens - t : n_tokens;
                for (size_t i = 0; i < n_here; i++)
                    y[i] = all(0);
                for (size_t b = 0, n; b < n_blocks; b += n) {
                    n = PART_COLS / block_elements;
                    n = n_blocks - b < n ? n_blocks - b : n;
                    const char *at = part_at(buffer, &rows, op->type, block_bytes, b, n);
                    size_t step = block_elements / 32;
                    unpack(&part, open, scale, quad, halves, block_bytes, block_elements, at, n);
                    multiply_part(&part, n * step, op, b * step, t, n_here, y);
                }
                for (size_t i = 0; i < n_here; i++)
                    put(op->y + (t + i) * op->y_stride + r, y[i], rows.n);
            }
}

/* X(type, name, elements per block, open, scale, quad, kind) */
#define PACKED_TYPES(X)                                                             \
    X(Q4_0, q4_0, 32, open_d, scale_q4_0, quad_q4_0, KIND_NIBBLE)                  \
    X(Q4_1, q4_1, 32, open_d_m, scale_q4_1, quad_q4_1, KIND_NIBBLE)                \
    X(Q5_0, q5_0, 32, open_d, scale_q5_0, quad_q5_0, KIND_ZERO)                    \
    X(Q5_1, q5_1, 32, open_d_m, scale_q5_1, quad_q5_1, KIND_FIVE)                  \
    X(Q8_0, q8_0, 32, open_d, scale_q8_0, quad_q8_0, KIND_SIGNED)                  \
    X(Q2_K, q2_k, 256, open_q2_k, scale_q2_k, quad_q2_k, KIND_HALVES)              \
    X(Q3_K, q3_k, 256, open_q3_k, scale_q3_k, quad_q3_k, KIND_HALVES)              \
    X(Q4_K, q4_k, 256, open_k4, scale_q4_k, quad_q4_k, KIND_NIBBLE)                \
    X(Q5_K, q5_k, 256, open_k4, scale_q5_k, quad_q5_k, KIND_FIVE)                  \
    X(Q6_K, q6_k, 256, open_q6_k, scale_q6_k, quad_q6_k, KIND_SIX)                 \
    X(IQ4_NL, iq4_nl, 32, open_d, scale_q8_0, quad_iq4_nl, KIND_SIGNED)            \
    X(IQ4_XS, iq4_xs, 256, open_iq4_xs, scale_iq4_xs, quad_iq4_xs, KIND_SIGNED)    \
    X(MXFP4, mxfp4, 32, open_mxfp4, scale_mxfp4, quad_mxfp4, KIND_E2M1)

#define MATMUL(TYPE, name, elements, open, scale, quad, KIND)                                                    \
    static void matmul_##name(const struct mb_matmul *op, size_t begin, size_t end)                               \
    {                                                                                                             \
        const size_t bytes = sizeof(struct mb_block_##name);                                                      \
        if (op->n_tokens == 1)                                                                                    \
            decode(open, scale, quad, KIND, bytes, elements, op, begin, end);                                    \
        else                                                                                                      \
            prefill(open, scale, quad, multiply_##KIND, (KIND).halves, bytes, elements, op, begin, end);                        \
    }
PACKED_TYPES(MATMUL)
#undef MATMUL

static void add_packed(struct mb_kernels *kernels)
{
    kernels->pack_rows = LANES;
#define ROW(TYPE, name, elements, open, scale, quad, KIND) kernels->matmul[MB_TYPE_##TYPE] = matmul_##name;
    PACKED_TYPES(ROW)
#undef ROW
}

#endif
