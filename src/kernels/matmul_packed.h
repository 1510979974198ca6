/* SPDX-License-Identifier: MIT */
/* Matrix products of packed weights (mb_pack()) with 8-bit activations, written once over the vectors of lanes_<set>.h,
 * which is included before. A lane is a row, so one vector holds four columns of LANES rows.
 *
 * A weight is d * s * (q - centre) + m * min: d and m are floats of the block, s and min small integers of 32 or 16 of its
 * columns, and 1 where a block is 32 columns. Integers stay integers for 32 columns:
 * y += d * sum of x.d * (sum of s * (q - centre) * x.q) + m * sum of min * x.sum.
 *
 * One token: the quants are multiplied as they are unpacked. More: quants and scales of 256 columns are unpacked once to
 * the first-level cache and multiplied by all tokens, a tile at a time. */
#ifndef MB_MATMUL_PACKED_H
#define MB_MATMUL_PACKED_H

/* Columns that are worked on at a time, and the bytes that they can have in LANES rows. */
#define PART_COLS  256
#define PART_BYTES (LANES * PART_COLS * 17 / 16)

/* What a type is like. The compiler sees constants. */
struct kind {
    int steps;     /* times 32 columns in a block: 1 or 8; 8 have integer scales */
    int halves;    /* 2: scales by 16 columns, not by 32 */
    int flushes;   /* 2: sums of 32 columns could overflow 16 bits, those of 16 cannot; 2 if halves is */
    int is_signed; /* signed quants; else up to 63 */
    int centre;    /* the quant that stands for 0 */
    int has_min;
    int sub, pairs; /* see span_fn */
};

/* Of one block of LANES rows. s is in the form that multiplies sums; both are by 32 or by 16 columns. */
struct scales {
    vf d, m;
    vi s[16];
    vf min[16];
};

/* Fill in what the kind has. */
typedef void scales_fn(struct scales *to, const char *at);

/* Quants of span p, the j-th step of a walk over it: each load is used for all columns that it has bits of. A span has
 * kind.sub * 32 columns. kind.pairs: w[0] and w[1] are columns 4 j and 4 j + 16 to +3 of the 32, j < 4. Otherwise w[u] is
 * columns 4 j to 4 j + 3 of 32 columns u of the span, j < 8. */
typedef void span_fn(vi *w, const char *at, int p, int j);

/* ---- types ---- */

/* Low and high nibbles. */
INLINE void nibbles(vi *w, const char *at)
{
    vi v = load(at);
    w[0] = bits(v, 0, 15);
    w[1] = bits(v, 4, 15);
}

INLINE void scales_d(struct scales *to, const char *at)
{
    to->d = load_f16(at);
}

INLINE void scales_d_m(struct scales *to, const char *at)
{
    to->d = load_f16(at);
    to->m = load_f16(at + LANES * 2);
}

INLINE void span_q4_0(vi *w, const char *at, int p, int j)
{
    (void)p;
    nibbles(w, at + LANES * (2 + 4 * j));
}

INLINE void span_q4_1(vi *w, const char *at, int p, int j)
{
    (void)p;
    nibbles(w, at + LANES * (4 + 4 * j));
}

/* Nibbles after the fifth bits, of which bit i belongs to column i. */
INLINE void nibbles_and_fifth(vi *w, const char *at, int j)
{
    vi fifth = load(at);
    nibbles(w, at + LANES * (4 + 4 * j));
    w[0] = either(w[0], spread_to_16(fifth, j));
    w[1] = either(w[1], spread_to_16(fifth, j + 4));
}

INLINE void span_q5_0(vi *w, const char *at, int p, int j)
{
    (void)p;
    nibbles_and_fifth(w, at + LANES * 2, j);
}

INLINE void span_q5_1(vi *w, const char *at, int p, int j)
{
    (void)p;
    nibbles_and_fifth(w, at + LANES * 4, j);
}

INLINE void span_q8_0(vi *w, const char *at, int p, int j)
{
    (void)p;
    w[0] = offset_s8(load(at + LANES * (2 + 4 * j)));
}

INLINE void nibbles_iq4(vi *w, const char *at)
{
    nibbles(w, at);
    w[0] = look_up(values_iq4_nl, w[0]);
    w[1] = look_up(values_iq4_nl, w[1]);
}

INLINE void span_iq4_nl(vi *w, const char *at, int p, int j)
{
    (void)p;
    nibbles_iq4(w, at + LANES * (2 + 4 * j));
}

INLINE void scales_mxfp4(struct scales *to, const char *at)
{
    to->d = e8m0_half(load_u8(at));
}

static const int8_t values_plus_12[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

INLINE void span_mxfp4(vi *w, const char *at, int p, int j)
{
    (void)p;
    nibbles(w, at + LANES * (1 + 4 * j));
    w[0] = look_up(values_plus_12, w[0]);
    w[1] = look_up(values_plus_12, w[1]);
}

/* Six bits each, 32 is 0: low nibbles of four bytes, and 16 bits with the high ones. */
INLINE void scales_iq4_xs(struct scales *to, const char *at)
{
    vi high = load_u16(at + LANES * 2), low = load(at + LANES * 4);
    to->d = load_f16(at);
    UNROLL
    for (int k = 0; k < 8; k++) {
        vi s = either(lane_bits(low, 4 * k, 15), lane_shift_left(lane_bits(high, 2 * k, 3), 4));
        to->s[k] = scale_byte(minus(s, 32), 0);
    }
}

INLINE void span_iq4_xs(vi *w, const char *at, int p, int j)
{
    nibbles_iq4(w, at + LANES * (8 + 16 * p + 4 * j));
}

/* Q4_K and Q5_K, six bits each: four scales in the bytes of a lane, then four more, and minima likewise. */
INLINE void scales_k4(struct scales *to, const char *at)
{
    vi a = load(at + LANES * 4), b = load(at + LANES * 8), c = load(at + LANES * 12);
    const vi s[2] = {bits(a, 0, 63), either(bits(c, 0, 15), bits(a, 2, 0x30))};
    const vi min[2] = {bits(b, 0, 63), either(bits(c, 4, 15), bits(b, 2, 0x30))};
    to->d = load_f16(at);
    to->m = times(load_f16(at + LANES * 2), all(-1));
    UNROLL
    for (int k = 0; k < 8; k++) {
        to->s[k] = scale_byte(s[k / 4], k % 4);
        to->min[k] = to_float(lane_bits(min[k / 4], k % 4 * 8, 255));
    }
}

INLINE void span_q4_k(vi *w, const char *at, int p, int j)
{
    nibbles(w, at + LANES * (16 + 32 * p + 4 * j));
}

/* Bits 2 p and 2 p + 1 of the bytes that come before the nibbles. */
INLINE void span_q5_k(vi *w, const char *at, int p, int j)
{
    vi fifth = shift_right(load(at + LANES * (16 + 4 * j)), 2 * p);
    nibbles(w, at + LANES * (48 + 32 * p + 4 * j));
    w[0] = either(w[0], bits_left(fifth, 4, 16));
    w[1] = either(w[1], bits_left(fifth, 3, 16));
}

INLINE void scales_q6_k(struct scales *to, const char *at)
{
    to->d = load_f16(at);
    UNROLL
    for (int i = 0; i < 4; i++) {
        vi s = load(at + LANES * (2 + 4 * i));
        UNROLL
        for (int k = 0; k < 4; k++)
            to->s[4 * i + k] = scale_byte(s, k);
    }
}

/* Of 128 columns, recoded (mb_pack_recode()): three words with six bits of a quant each, and two bits of a fourth above them. */
INLINE void span_q6_k(vi *w, const char *at, int p, int j)
{
    at += LANES * (18 + 96 * p + 12 * j);
    vi a = load(at), b = load(at + LANES * 4), c = load(at + LANES * 8);
    w[0] = bits(a, 0, 63);
    w[1] = bits(b, 0, 63);
    w[2] = bits(c, 0, 63);
    w[3] = either(either(bits(a, 6, 3), bits(b, 4, 12)), bits(c, 2, 48));
}

/* Six bits each, 32 is 0, four in the bytes of a lane. */
INLINE void scales_q3_k(struct scales *to, const char *at)
{
    vi a = load(at + LANES * 2), b = load(at + LANES * 6), c = load(at + LANES * 10);
    const vi s[4] = {either(bits(a, 0, 15), bits_left(c, 4, 0x30)), either(bits(b, 0, 15), bits_left(c, 2, 0x30)),
                     either(bits(a, 4, 15), bits(c, 0, 0x30)), either(bits(b, 4, 15), bits(c, 2, 0x30))};
    to->d = load_f16(at);
    UNROLL
    for (int i = 0; i < 4; i++) {
        vi centred = minus(s[i], 32);
        UNROLL
        for (int k = 0; k < 4; k++)
            to->s[4 * i + k] = scale_byte(centred, k);
    }
}

/* Two bits for each 32 columns of 128, and bit 4 p + u of the bytes that come before. */
INLINE void span_q3_k(vi *w, const char *at, int p, int j)
{
    vi high = shift_right(load(at + LANES * (14 + 4 * j)), 4 * p), low = load(at + LANES * (46 + 32 * p + 4 * j));
    w[0] = either(bits(low, 0, 3), bits_left(high, 2, 4));
    w[1] = either(bits(low, 2, 3), bits_left(high, 1, 4));
    w[2] = either(bits(low, 4, 3), bits(high, 0, 4));
    w[3] = either(bits(low, 6, 3), bits(high, 1, 4));
}

/* Nibbles: scales, and minima above them. */
INLINE void scales_q2_k(struct scales *to, const char *at)
{
    to->d = load_f16(at);
    to->m = times(load_f16(at + LANES * 2), all(-1));
    UNROLL
    for (int i = 0; i < 4; i++) {
        vi both = load(at + LANES * (4 + 4 * i)), s = bits(both, 0, 15);
        UNROLL
        for (int k = 0; k < 4; k++) {
            to->s[4 * i + k] = scale_byte(s, k);
            to->min[4 * i + k] = to_float(lane_bits(both, 8 * k + 4, 15));
        }
    }
}

INLINE void span_q2_k(vi *w, const char *at, int p, int j)
{
    vi v = load(at + LANES * (20 + 32 * p + 4 * j));
    for (int u = 0; u < 4; u++)
        w[u] = bits(v, 2 * u, 3);
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

/* One unit of `bytes` (a constant) of every row. */
INLINE void interleave_unit(char *to, const char *const *from, size_t offset, size_t bytes)
{
    UNROLL
    for (size_t row = 0; row < LANES; row++)
        memcpy(to + row * bytes, from[row] + offset, bytes);
}

/* Interleave one block of rows in file order, as mb_pack() does. A row that is missing is another time the last. */
static void interleave(char *to, const struct rows *rows, size_t offset, uint32_t type)
{
    const struct mb_pack_field *field = mb_pack_fields(type);
    const char *from[LANES];
    for (size_t i = 0; i < LANES; i++)
        from[i] = rows->at + (i < rows->n ? i : rows->n - 1) * rows->row_bytes + offset;
    for (; field->unit; field++) {
        char *at = to + LANES * field->to;
        size_t step = LANES * field->step * field->unit;
        size_t i = field->unit == 4 ? interleave_words(at, field->step, from, field->from, field->n_units) : 0;
        for (; i < field->n_units; i++)
            switch (field->unit) {
            case 1:
                interleave_unit(at + i * step, from, field->from + i, 1);
                break;
            case 2:
                interleave_unit(at + i * step, from, field->from + 2 * i, 2);
                break;
            default:
                interleave_unit(at + i * step, from, field->from + 4 * i, 4);
            }
    }
    mb_pack_recode(type, to, LANES);
}

/* n blocks from block b on, packed: where they are, or in the buffer. */
static const char *part_at(char *buffer, const struct rows *rows, uint32_t type, size_t block_bytes, size_t b, size_t n)
{
    if (rows->packed)
        return rows->at + b * block_bytes * LANES;
    for (size_t i = 0; i < rows->n; i++) /* the next part of every row */
        for (size_t k = 0; k < n * block_bytes; k += 64)
            __builtin_prefetch(rows->at + i * rows->row_bytes + (b + n) * block_bytes + k);
    for (size_t i = 0; i < n; i++)
        interleave(buffer + i * block_bytes * LANES, rows, (b + i) * block_bytes, type);
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

/* One thread reads the memory faster as two streams that advance together, and when every line is asked for before it is
 * needed. On two Zen 3 CPUs, of one, two, three and four streams and 0 to 4096 bytes, this was best for all types together. */
#define STREAMS     2
#define AHEAD_BYTES 1024

/* Ask for step j of n of the bytes that lie AHEAD_BYTES after `at`: every line of them. */
INLINE void ask_ahead(const char *at, size_t bytes, int j, int n)
{
    const int n_lines = (int)((bytes + 63) / 64);
    UNROLL
    for (int line = j * n_lines / n; line < (j + 1) * n_lines / n; line++)
        __builtin_prefetch(at + (bytes > AHEAD_BYTES ? bytes : AHEAD_BYTES) + line * 64);
}

/* Are sums of 16 columns ended, and not those of 32? */
INLINE int ends_halves(struct kind kind)
{
    return SUM_BITS == 16 ? kind.flushes == 2 : kind.halves == 2;
}

/* sum + quants of columns 4 i to 4 i + 3 * activations; signed ones are multiplied by the scale at once. */
INLINE vi add_product(vi sum, vi w, const struct mb_act_block *x, int i, vi s, struct kind kind)
{
    return kind.is_signed ? dot_signed(sum, w, four(x->q, i), s) : dot(sum, w, four(x->q, i));
}

/* What a sum of half h starts from, or of both if there is one flush. */
INLINE vi begin_sum(const struct mb_act_block *x, int h, struct kind kind)
{
    return dot_begin(x, ends_halves(kind) ? h : 2, kind.is_signed ? SIGNED_CENTRE : kind.centre);
}

/* total + s * sum, in lanes. */
INLINE vi end_sum(vi total, vi sum, vi s, struct kind kind)
{
    return kind.is_signed ? dot_signed_end(total, sum, s) : dot_end(total, sum, s);
}

/* total + 32 columns x, as nibbles of two halves. span_bytes: of all rows. */
INLINE vf add_pairs(vf total, vi s, span_fn *span, struct kind kind, const char *at, int p, const struct mb_act_block *x,
                    size_t span_bytes)
{
    vi w[2], low = begin_sum(x, 0, kind), high = begin_sum(x, 1, kind);
    UNROLL
    for (int j = 0; j < 4; j++) {
        ask_ahead(at + span_bytes * (size_t)p, span_bytes, j, 4);
        span(w, at, p, j);
        low = add_product(low, w[0], x, j, s, kind);
        if (ends_halves(kind))
            high = add_product(high, w[1], x, 4 + j, s, kind);
        else
            low = add_product(low, w[1], x, 4 + j, s, kind);
    }
    vi sum = end_sum(zero(), low, s, kind);
    if (ends_halves(kind))
        sum = end_sum(sum, high, s, kind);
    return fma3(to_float(sum), all(x->d), total);
}

/* Sums of four times 32 columns of LANES rows are more than sixteen registers hold: such kinds take a register of rows after the
 * other. */
INLINE int n_parts(struct kind kind)
{
    return kind.sub < 4 ? 1 : PARTS;
}

/* total + sub times 32 columns from x on, in one of the parts; what it is in the others is not looked at. s: their scales. */
INLINE vf add_columns(vf total, const vi *s, span_fn *span, struct kind kind, const char *at, int p, const struct mb_act_block *x,
                      size_t span_bytes, int part)
{
    vi w[4], sum[4], whole[4];
    for (int u = 0; u < kind.sub; u++)
        whole[u] = zero();
    UNROLL
    for (int h = 0; h < 2; h++) {
        for (int u = 0; u < kind.sub; u++)
            if (h == 0 || ends_halves(kind))
                sum[u] = begin_sum(x + u, h, kind);
        UNROLL
        for (int j = 4 * h; j < 4 * h + 4; j++) {
            ask_ahead(at + span_bytes * (size_t)p, span_bytes, 8 * part + j, 8 * n_parts(kind));
            span(w, at, p, j);
            for (int u = 0; u < kind.sub; u++)
                sum[u] = add_product(sum[u], w[u], x + u, j, s[u * kind.halves], kind);
        }
        for (int u = 0; u < kind.sub; u++)
            if (h == 1 || ends_halves(kind))
                whole[u] = end_sum(whole[u], sum[u], s[u * kind.halves + h * (kind.halves - 1)], kind);
    }
    for (int u = 0; u < kind.sub; u++)
        total = fma3(to_float(whole[u]), all(x[u].d), total);
    return total;
}

/* The same in all parts. The compiler drops what is not looked at. */
INLINE vf add_span(vf total, const vi *s, span_fn *span, struct kind kind, const char *at, int p, const struct mb_act_block *x,
                   size_t span_bytes)
{
    if (n_parts(kind) == 1)
        return add_columns(total, s, span, kind, at, p, x, span_bytes, 0);
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        total = part_of(total, add_columns(total, s, span, kind, at, p, x, span_bytes, part), part);
        AFRESH(x);
        AFRESH(at);
    }
    return total;
}

/* y + d * total + m * (sum of min * x.sum), of blocks of x that are `step` apart. */
INLINE vf add_scaled(vf y, vf total, const struct scales *scales, struct kind kind, const struct mb_act_block *x, size_t step)
{
    vf low = all(0);
    y = fma3(scales->d, total, y);
    if (!kind.has_min)
        return y;
    UNROLL
    for (int i = 0; i < kind.steps * kind.halves; i++) {
        const struct mb_act_block *here = x + (size_t)(i / kind.halves) * step;
        vf x_sum = all(kind.halves == 2 ? here->half[i % 2] : here->sum);
        low = kind.steps == 1 ? x_sum : fma3(scales->min[i], x_sum, low);
    }
    return fma3(scales->m, low, y);
}

/* y[s] += block * x for n groups (a constant) at once, a span of every group in turn: the streams advance together. What is added
 * in which order is the same as for more tokens, so results are equal bit for bit. */
INLINE void add_blocks(vf *y, size_t n, scales_fn *fill, span_fn *span, struct kind kind, const char *const *at,
                       size_t block_bytes, const struct mb_act_block *x)
{
    struct scales scales[STREAMS];
    vf total[STREAMS];
    ROLLED
    for (size_t s = 0; s < n; s++) {
        AFRESH(x);
        fill(&scales[s], at[s]);
        total[s] = all(0);
        if (kind.steps == 1) {
            const vi ones = one();
            total[s] = kind.pairs ? add_pairs(total[s], ones, span, kind, at[s], 0, x, block_bytes * LANES)
                                  : add_span(total[s], &ones, span, kind, at[s], 0, x, block_bytes * LANES);
            y[s] = add_scaled(y[s], total[s], &scales[s], kind, x, 1);
        } else
            IN_MEMORY(scales);
    }
    if (kind.steps == 1)
        return;
    ROLLED
    for (int p = 0; p < kind.steps / kind.sub; p++) {
        const struct mb_act_block *here = x + p * kind.sub;
        const size_t span_bytes = LANES * block_bytes * (size_t)kind.sub / (size_t)kind.steps;
        ROLLED
        for (size_t s = 0; s < n; s++) {
            const vi *scale = scales[s].s + p * kind.sub * kind.halves;
            AFRESH(here);
            total[s] = kind.pairs ? add_pairs(total[s], *scale, span, kind, at[s], p, here, span_bytes)
                                  : add_span(total[s], scale, span, kind, at[s], p, here, span_bytes);
        }
    }
    ROLLED
    for (size_t s = 0; s < n; s++)
        y[s] = add_scaled(y[s], total[s], &scales[s], kind, x, 1);
}

/* STREAMS parts of the packed rows in step; then what is left, and rows in file order, group by group. */
INLINE void decode(scales_fn *fill, span_fn *span, struct kind kind, size_t block_bytes, const struct mb_matmul *op, size_t begin,
                   size_t end)
{
    const size_t n_blocks = op->n_cols / 32 / (size_t)kind.steps, n_part = PART_COLS / 32 / (size_t)kind.steps;
    const size_t n_whole = op->packed ? (end == op->n_rows ? end / LANES * LANES - begin : end - begin) / LANES : 0;
    const size_t part = n_whole / STREAMS * LANES;
    const char *at[STREAMS];
    char buffer[PART_BYTES];
    vf y[STREAMS];
    for (size_t r = begin; r < begin + part; r += LANES) {
        for (size_t s = 0; s < STREAMS; s++) {
            at[s] = (const char *)op->weights + (r + s * part) * op->row_bytes;
            y[s] = all(0);
        }
        const struct mb_act_block *x = op->x;
        for (size_t b = 0; b < n_blocks; b++, x += kind.steps) {
            add_blocks(y, STREAMS, fill, span, kind, at, block_bytes, x);
            for (size_t s = 0; s < STREAMS; s++)
                at[s] += block_bytes * LANES;
        }
        for (size_t s = 0; s < STREAMS; s++)
            store(op->y + r + s * part, y[s]);
    }
    for (size_t r = begin + part * STREAMS; r < end; r += LANES) {
        struct rows rows = rows_at(op, r, end);
        const struct mb_act_block *x = op->x;
        y[0] = all(0);
        for (size_t b = 0; b < n_blocks; b++, x += kind.steps) {
            at[0] = b % n_part ? at[0] + block_bytes * LANES
                               : part_at(buffer, &rows, op->type, block_bytes, b, n_blocks - b < n_part ? n_blocks - b : n_part);
            add_blocks(y, 1, fill, span, kind, at, block_bytes, x);
        }
        put(op->y + r, y[0], rows.n);
    }
}

/* ---- more tokens ---- */

/* PART_COLS columns, unpacked. */
struct unpacked {
    vi w[PART_COLS / 4];
    struct scales scales[PART_COLS / 32]; /* one of each block */
};

INLINE void unpack(struct unpacked *to, scales_fn *fill, span_fn *span, struct kind kind, size_t block_bytes, const char *at,
                   size_t n_blocks)
{
    vi *w = to->w;
    for (size_t b = 0; b < n_blocks; b++, at += block_bytes * LANES) {
        fill(&to->scales[b], at);
        ROLLED
        for (int p = 0; p < kind.steps / kind.sub; p++, w += 8 * kind.sub) {
            for (int j = 0; j < (kind.pairs ? 4 : 8); j++) {
                vi v[4];
                span(v, at, p, j);
                for (int u = 0; u < (kind.pairs ? 2 : kind.sub); u++)
                    w[kind.pairs ? 4 * u + j : 8 * u + j] = v[u];
            }
        }
    }
}

/* The block of token t, of tiles of `tile` blocks, the first one at x. */
INLINE const struct mb_act_block *of_token(const struct mb_act_block *x, size_t tile, size_t t)
{
    return x + t / MB_ACT_TILE * tile + t % MB_ACT_TILE;
}

/* total[t] + 32 columns w of scales s times those of n tokens (a constant), of tiles that are `tile` blocks apart. */
INLINE void multiply_32(const vi *w, const vi *s, const struct mb_act_block *x, size_t tile, vf *total, size_t n,
                        struct kind kind)
{
    vi sum[TOKENS_AT_ONCE], whole[TOKENS_AT_ONCE];
    for (size_t t = 0; t < n; t++)
        whole[t] = zero();
    UNROLL
    for (int h = 0; h < 2; h++) {
        for (size_t t = 0; t < n; t++)
            if (h == 0 || ends_halves(kind))
                sum[t] = begin_sum(of_token(x, tile, t), h, kind);
        UNROLL
        for (int i = 4 * h; i < 4 * h + 4; i++)
            for (size_t t = 0; t < n; t++)
                sum[t] = add_product(sum[t], w[i], of_token(x, tile, t), i, s[0], kind);
        for (size_t t = 0; t < n; t++)
            if (h == 1 || ends_halves(kind))
                whole[t] = end_sum(whole[t], sum[t], s[h * (kind.halves - 1)], kind);
    }
    for (size_t t = 0; t < n; t++)
        total[t] = fma3(to_float(whole[t]), all(of_token(x, tile, t)->d), total[t]);
}

/* y[t] += part * x of n tokens (a constant), of some whole tiles or of one. Blocks `ahead` are asked for on the way. */
INLINE void multiply(const struct unpacked *part, size_t n_blocks, const struct mb_act_block *x, size_t tile, size_t ahead,
                     vf *y, size_t n, struct kind kind)
{
    const vi *w = part->w, ones = one();
    for (size_t b = 0; b < n_blocks; b++) {
        const struct scales *scales = &part->scales[b];
        vf total[TOKENS_AT_ONCE], low[TOKENS_AT_ONCE];
        for (size_t t = 0; t < n; t++)
            total[t] = low[t] = all(0);
        ROLLED
        for (int k = 0; k < kind.steps; k++, w += 8, x += n < MB_ACT_TILE ? n : MB_ACT_TILE) {
            for (size_t t = 0; t < n; t++)
                __builtin_prefetch(of_token(x + ahead, tile, t));
            multiply_32(w, kind.steps == 1 ? &ones : scales->s + k * kind.halves, x, tile, total, n, kind);
            for (int h = 0; h < kind.halves && kind.has_min; h++)
                for (size_t t = 0; t < n; t++) {
                    const struct mb_act_block *here = of_token(x, tile, t);
                    vf x_sum = all(kind.halves == 2 ? here->half[h] : here->sum);
                    low[t] = kind.steps == 1 ? x_sum : fma3(scales->min[k * kind.halves + h], x_sum, low[t]);
                }
        }
        for (size_t t = 0; t < n; t++) {
            y[t] = fma3(scales->d, total[t], y[t]);
            y[t] = kind.has_min ? fma3(scales->m, low[t], y[t]) : y[t];
        }
    }
}

/* Tokens that share one unpacking. */
#define TOKENS_MAX 64

/* n_blocks of the weights from column 32 * b on, times the tokens first <= t < first + n, first a multiple of MB_ACT_TILE. One
 * copy for each kind: the types share them. */
INLINE void multiply_all(const struct unpacked *part, size_t n_blocks, const struct mb_matmul *op, size_t b, size_t first,
                         size_t n, vf *y, struct kind kind)
{
    const size_t n_x = op->n_cols / 32, tile = n_x * MB_ACT_TILE;
    size_t t = 0;
    for (; TOKENS_AT_ONCE > MB_ACT_TILE && t + TOKENS_AT_ONCE <= n; t += TOKENS_AT_ONCE) {
        const struct mb_act_block *x = (const struct mb_act_block *)op->x + mb_act_at(n_x, op->n_tokens, b, first + t);
        multiply(part, n_blocks, x, tile, t + TOKENS_AT_ONCE < n ? tile * TOKENS_AT_ONCE / MB_ACT_TILE : 0, y + t, TOKENS_AT_ONCE,
                 kind);
    }
    for (; t < n; t += MB_ACT_TILE) {
        const struct mb_act_block *x = (const struct mb_act_block *)op->x + mb_act_at(n_x, op->n_tokens, b, first + t);
        switch (n - t) {
        case 1:
            multiply(part, n_blocks, x, tile, 0, y + t, 1, kind);
            break;
        case 2:
            multiply(part, n_blocks, x, tile, 0, y + t, 2, kind);
            break;
        case 3:
            multiply(part, n_blocks, x, tile, 0, y + t, 3, kind);
            break;
        default:
            multiply(part, n_blocks, x, tile, t + MB_ACT_TILE < n ? tile : 0, y + t, MB_ACT_TILE, kind);
        }
    }
}

typedef void multiply_fn(const struct unpacked *part, size_t n_blocks, const struct mb_matmul *op, size_t b, size_t first,
                         size_t n, vf *y);

/* Bytes of activations and of weights that are worked on together: both shall stay in a second-level cache of 512 KiB. */
#define TILE_ACT_BYTES    (256 << 10)
#define TILE_WEIGHT_BYTES (128 << 10)

/* Some rows stay in the cache while all tokens pass by, a tile of them at a time. */
INLINE void prefill(scales_fn *fill, span_fn *span, multiply_fn *multiply_part, struct kind kind, size_t block_bytes,
                    const struct mb_matmul *op, size_t begin, size_t end)
{
    size_t n_blocks = op->n_cols / 32 / (size_t)kind.steps, n_rows = TILE_WEIGHT_BYTES / op->row_bytes / LANES * LANES;
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
                    n = PART_COLS / 32 / (size_t)kind.steps;
                    n = n_blocks - b < n ? n_blocks - b : n;
                    const char *at = part_at(buffer, &rows, op->type, block_bytes, b, n);
                    unpack(&part, fill, span, kind, block_bytes, at, n);
                    multiply_part(&part, n, op, b * (size_t)kind.steps, t, n_here, y);
                }
                for (size_t i = 0; i < n_here; i++)
                    put(op->y + (t + i) * op->y_stride + r, y[i], rows.n);
            }
}

/* ---- all types ---- */

/* X(name, steps, halves, flushes, is_signed, centre, has_min): the kinds that multiply differently */
#define KINDS(X)               \
    X(zero_8, 1, 1, 1, 0, 8, 0)   \
    X(zero_12, 1, 1, 1, 0, 12, 0) \
    X(zero_16, 1, 1, 1, 0, 16, 0) \
    X(min_4, 1, 1, 1, 0, 0, 1)    \
    X(min_5, 1, 1, 2, 0, 0, 1)    \
    X(signed_1, 1, 1, 1, 1, 0, 0) \
    X(signed_8, 8, 1, 1, 1, 0, 0) \
    X(k2, 8, 2, 2, 0, 0, 1)       \
    X(k3, 8, 2, 2, 0, 4, 0)       \
    X(k4, 8, 1, 1, 0, 0, 1)       \
    X(k5, 8, 1, 2, 0, 0, 1)       \
    X(k6, 8, 2, 2, 0, 32, 0)

#define KIND(name, steps, halves, flushes, is_signed, centre, has_min)                                                     \
    static const struct kind kind_##name = {steps, halves, flushes, is_signed, centre, has_min, 1, 0};                     \
    NOT_INLINE void multiply_##name(const struct unpacked *part, size_t n_blocks, const struct mb_matmul *op, size_t b,    \
                                    size_t first, size_t n, vf *y)                                                         \
    {                                                                                                                      \
        multiply_all(part, n_blocks, op, b, first, n, y, kind_##name);                                                     \
    }
KINDS(KIND)
#undef KIND

INLINE struct kind walked(struct kind kind, int sub, int pairs)
{
    kind.sub = sub;
    kind.pairs = pairs;
    return kind;
}

/* X(type, name, scales, span, kind, sub, pairs) */
#define PACKED_TYPES(X)                                           \
    X(Q4_0, q4_0, scales_d, span_q4_0, zero_8, 1, 1)              \
    X(Q4_1, q4_1, scales_d_m, span_q4_1, min_4, 1, 1)             \
    X(Q5_0, q5_0, scales_d, span_q5_0, zero_16, 1, 1)             \
    X(Q5_1, q5_1, scales_d_m, span_q5_1, min_5, 1, 1)             \
    X(Q8_0, q8_0, scales_d, span_q8_0, signed_1, 1, 0)            \
    X(Q2_K, q2_k, scales_q2_k, span_q2_k, k2, 4, 0)               \
    X(Q3_K, q3_k, scales_q3_k, span_q3_k, k3, 4, 0)               \
    X(Q4_K, q4_k, scales_k4, span_q4_k, k4, 2, 0)                 \
    X(Q5_K, q5_k, scales_k4, span_q5_k, k5, 2, 0)                 \
    X(Q6_K, q6_k, scales_q6_k, span_q6_k, k6, 4, 0)               \
    X(IQ4_NL, iq4_nl, scales_d, span_iq4_nl, signed_1, 1, 1)      \
    X(IQ4_XS, iq4_xs, scales_iq4_xs, span_iq4_xs, signed_8, 1, 1) \
    X(MXFP4, mxfp4, scales_mxfp4, span_mxfp4, zero_12, 1, 1)

#define MATMUL(TYPE, name, scales, span, kind, sub, pairs)                                       \
    static void matmul_##name(const struct mb_matmul *op, size_t begin, size_t end)              \
    {                                                                                            \
        const size_t bytes = sizeof(struct mb_block_##name);                                     \
        if (op->n_tokens == 1)                                                                   \
            decode(scales, span, walked(kind_##kind, sub, pairs), bytes, op, begin, end);        \
        else                                                                                     \
            prefill(scales, span, multiply_##kind, walked(kind_##kind, sub, pairs), bytes, op, begin, end); \
    }
PACKED_TYPES(MATMUL)
#undef MATMUL

/* mb_pack() */
static void pack(uint32_t type, size_t rows, void *to, const void *from, size_t row_bytes, size_t n_rows, size_t begin,
                 size_t end)
{
    const size_t block_bytes = mb_type_info(type)->block_bytes;
    size_t r = begin;
    if (rows != LANES) {
        mb_pack(type, rows, to, from, row_bytes, n_rows, begin, end);
        return;
    }
    for (; r + LANES <= end; r += LANES) {
        const struct rows group = {(const char *)from + r * row_bytes, row_bytes, LANES, 0};
        for (size_t b = 0; b < row_bytes; b += block_bytes)
            interleave((char *)to + r * row_bytes + b * LANES, &group, b, type);
    }
    memcpy((char *)to + r * row_bytes, (const char *)from + r * row_bytes, (end - r) * row_bytes);
}

static void add_packed(struct mb_kernels *kernels)
{
    kernels->pack_rows = LANES;
    kernels->pack = pack;
#define ROW(TYPE, name, scales, span, kind, sub, pairs) kernels->matmul[MB_TYPE_##TYPE] = matmul_##name;
    PACKED_TYPES(ROW)
#undef ROW
}

#endif
