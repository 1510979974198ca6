/* SPDX-License-Identifier: MIT */
/* Matrix products of the types that have no packed order, with 8-bit activations, or with 16-bit ones through matmul_wide.h: the
 * codebooks (IQ1, IQ2, IQ3), where a point names several columns of one row, ternary digits (TQ1_0, TQ2_0), one and two bits
 * (Q1_0, Q2_0) and NVFP4. A row is walked as it lies in the file. Needs AVX2, and matmul_wide.h before it.
 *
 * Integers stay integers for four columns in each of eight lanes, which are added up at the end of the row.
 *
 * What takes time is not memory but looking points up, one load for each. So all indices of a block are joined from their bits
 * first, many at a time, and stored for the loads to come. */
#ifndef MB_MATMUL_CODES_H
#define MB_MATMUL_CODES_H

/* 32 columns in order: magnitudes, and bytes with the sign of the quant (any positive, zero or negative number); their scales,
 * those of the first and of the last 16 columns in eight words each. */
struct span_32 {
    __m256i size, sign, s;
};

/* Of the first and of the last 16 columns, in four lanes each. */
typedef __m256 float_scales;

INLINE float float_of_half(uint16_t half)
{
    return _cvtsh_ss(half);
}

#include "kernels/coded_types.h"

/* ---- types ---- */

/* 16 bytes, in both halves. */
INLINE __m256i twice(const void *at)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)at));
}

/* 8 bytes, in every quarter. */
INLINE __m256i four_times(const void *at)
{
    long long v;
    memcpy(&v, at, sizeof v);
    return _mm256_set1_epi64x(v);
}

/* Sixteen bytes as words. */
INLINE __m256i words_of(const void *at)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)at));
}

INLINE void store_words(uint16_t *to, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)to, v);
}

INLINE __m256i four_points(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return _mm256_set_epi64x((long long)d, (long long)c, (long long)b, (long long)a);
}

INLINE __m256i look_up_4(const uint64_t *table, const uint16_t *index)
{
    return four_points(table[index[0]], table[index[1]], table[index[2]], table[index[3]]);
}

INLINE __m256i look_up_8(const uint32_t *table, const uint16_t *index)
{
    return _mm256_setr_epi32((int)table[index[0]], (int)table[index[1]], (int)table[index[2]], (int)table[index[3]],
                             (int)table[index[4]], (int)table[index[5]], (int)table[index[6]], (int)table[index[7]]);
}

/* The signs of four times seven bits, from the lowest on. */
INLINE __m256i signs_of_28(uint32_t bits)
{
    const uint64_t *signs = mb_signs_even;
    return four_points(signs[bits & 127], signs[bits >> 7 & 127], signs[bits >> 14 & 127], signs[bits >> 21 & 127]);
}

/* 1, or -1 where a bit is set. */
INLINE __m256i signs_of_32(uint32_t bits)
{
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i mask = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte), bit);
    return _mm256_or_si256(_mm256_cmpeq_epi8(mask, bit), _mm256_set1_epi8(1));
}

/* Quants that are signed already. */
INLINE struct span_32 signed_span(__m256i q, __m256i s)
{
    return (struct span_32){_mm256_abs_epi8(q), q, s};
}

/* One scale for 32 columns, or one for each half. */
INLINE __m256i scale_32(int s)
{
    return _mm256_set1_epi16((short)s);
}

INLINE __m256i scales_16(int first, int last)
{
    return _mm256_set_m128i(_mm_set1_epi16((short)last), _mm_set1_epi16((short)first));
}

INLINE struct span_32 code_iq2_xxs(const char *at, const struct indices *indices, int k)
{
    const uint8_t *index = (const uint8_t *)at + 2 + 8 * k;
    const uint32_t word = word_at(index + 4);
    const uint64_t *grid = mb_grid_iq2_xxs;
    (void)indices;
    return (struct span_32){four_points(grid[index[0]], grid[index[1]], grid[index[2]], grid[index[3]]), signs_of_28(word),
                            scale_32((int)(word >> 28) * 2 + 1)};
}

INLINE __m256i scales_iq2(const uint8_t *scales, int k)
{
    return scales_16((scales[k] & 15) * 2 + 1, (scales[k] >> 4) * 2 + 1);
}

INLINE struct span_32 code_iq2_xs(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq2_xs *b = (const void *)at;
    const uint16_t *qs = b->qs + 4 * k;
    const uint64_t *grid = mb_grid_iq2_xs, *signs = mb_signs_even;
    (void)indices;
    return (struct span_32){
        four_points(grid[qs[0] & 511], grid[qs[1] & 511], grid[qs[2] & 511], grid[qs[3] & 511]),
        four_points(signs[qs[0] >> 9], signs[qs[1] >> 9], signs[qs[2] >> 9], signs[qs[3] >> 9]), scales_iq2(b->scales, k)};
}

/* The high two bits of four points share a byte, which comes to all of them and moves up until theirs are bits 8 and 9. */
INLINE void index_iq2_s(struct indices *to, const char *at)
{
    const struct mb_block_iq2_s *b = (const void *)at;
    const __m256i zero_to_3 = _mm256_setr_epi64x((long long)0x8000800080008000, (long long)0x8001800180018001,
                                                 (long long)0x8002800280028002, (long long)0x8003800380038003);
    for (int i = 0; i < 32; i += 16) {
        __m256i high = _mm256_shuffle_epi8(_mm256_set1_epi32((int)word_at(b->qh + i / 4)), zero_to_3);
        high = _mm256_mullo_epi16(high, _mm256_set1_epi64x(0x0004001000400100));
        high = _mm256_and_si256(high, _mm256_set1_epi16(0x300));
        store_words(to->point + i, _mm256_or_si256(words_of(b->qs + i), high));
    }
}

INLINE struct span_32 code_iq2_s(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq2_s *b = (const void *)at;
    return (struct span_32){look_up_4(mb_grid_iq2_s, indices->point + 4 * k), signs_of_32(word_at(b->qs + 32 + 4 * k)),
                            scales_iq2(b->scales, k)};
}

INLINE struct span_32 code_iq3_xxs(const char *at, const struct indices *indices, int k)
{
    const uint8_t *index = (const uint8_t *)at + 2 + 8 * k;
    const uint32_t *grid = mb_grid_iq3_xxs, word = word_at(at + 66 + 4 * k);
    const __m256i size = _mm256_setr_epi32((int)grid[index[0]], (int)grid[index[1]], (int)grid[index[2]], (int)grid[index[3]],
                                           (int)grid[index[4]], (int)grid[index[5]], (int)grid[index[6]], (int)grid[index[7]]);
    (void)indices;
    return (struct span_32){size, signs_of_28(word), scale_32((int)(word >> 28) * 2 + 1)};
}

/* The ninth bits of eight points share a byte. */
INLINE void index_iq3_s(struct indices *to, const char *at)
{
    const struct mb_block_iq3_s *b = (const void *)at;
    const __m256i bit = _mm256_broadcastsi128_si256(_mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128));
    const __m256i bytes = _mm256_setr_epi64x((long long)0x8000800080008000, (long long)0x8000800080008000,
                                             (long long)0x8001800180018001, (long long)0x8001800180018001);
    for (int i = 0; i < 64; i += 16) {
        const __m256i two = _mm256_set1_epi16((short)(b->qh[i / 8] | b->qh[i / 8 + 1] << 8));
        __m256i high = _mm256_and_si256(_mm256_shuffle_epi8(two, bytes), bit);
        high = _mm256_and_si256(_mm256_cmpeq_epi16(high, bit), _mm256_set1_epi16(256));
        store_words(to->point + i, _mm256_or_si256(words_of(b->qs + i), high));
    }
}

INLINE struct span_32 code_iq3_s(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq3_s *b = (const void *)at;
    return (struct span_32){look_up_8(mb_grid_iq3_s, indices->point + 8 * k), signs_of_32(word_at(b->signs + 4 * k)),
                            scale_32((b->scales[k / 2] >> 4 * (k % 2) & 15) * 2 + 1)};
}

/* The high three bits of four points are in a word of 16 bits: it is spread, and each place has its own moved to bits 8 to 10,
 * the last one by one to the right. */
INLINE void index_iq1_s(struct indices *to, const char *at)
{
    const struct mb_block_iq1_s *b = (const void *)at;
    const __m256i spread = _mm256_setr_epi64x(0x0100010001000100, 0x0302030203020302, 0x0504050405040504, 0x0706070607060706);
    for (int i = 0; i < 32; i += 16) {
        const __m256i words = _mm256_shuffle_epi8(four_times(b->qh + i / 4), spread);
        __m256i high = _mm256_mullo_epi16(words, _mm256_set1_epi64x(0x0000000400200100));
        high = _mm256_or_si256(high, _mm256_mulhi_epu16(words, _mm256_set1_epi64x((long long)0x8000000000000000)));
        high = _mm256_and_si256(high, _mm256_set1_epi16(0x700));
        store_words(to->point + i, _mm256_or_si256(words_of(b->qs + i), high));
    }
}

/* In eighths: points are multiples of 8, and all move by one up or down. */
INLINE struct span_32 code_iq1_s(const char *at, const struct indices *indices, int k)
{
    const struct mb_block_iq1_s *b = (const void *)at;
    const __m256i q = look_up_4(mb_grid_iq1_s, indices->point + 4 * k);
    return signed_span(_mm256_add_epi8(q, _mm256_set1_epi8(b->qh[k] & 0x8000 ? -1 : 1)),
                       scale_32((b->qh[k] >> 12 & 7) * 2 + 1));
}

/* Nibbles: three high bits of a point, and whether it moves down. */
INLINE void index_iq1_m(struct indices *to, const char *at)
{
    const struct mb_block_iq1_m *b = (const void *)at;
    const __m256i spread = _mm256_setr_epi64x((long long)0x8001800180008000, (long long)0x8003800380028002,
                                              (long long)0x8005800580048004, (long long)0x8007800780068006);
    for (int i = 0; i < 32; i += 16) {
        const __m256i bytes = _mm256_shuffle_epi8(four_times(b->qh + i / 2), spread);
        const __m256i high = _mm256_mullo_epi16(bytes, _mm256_set1_epi32(0x00100100)); /* the nibble is in bits 8 to 11 */
        store_words(to->point + i, _mm256_or_si256(words_of(b->qs + i), _mm256_and_si256(high, _mm256_set1_epi16(0x700))));
        store_words(to->sign + i, _mm256_and_si256(_mm256_srli_epi16(high, 11), _mm256_set1_epi16(1)));
    }
}

INLINE struct span_32 code_iq1_m(const char *at, const struct indices *indices, int k)
{
    static const uint64_t moves[2] = {0x0101010101010101, 0xffffffffffffffff};
    const struct mb_block_iq1_m *b = (const void *)at;
    const int s = (b->scales[k / 2 * 2] | b->scales[k / 2 * 2 + 1] << 8) >> 6 * (k % 2);
    const __m256i q = look_up_4(mb_grid_iq1_s, indices->point + 4 * k);
    return signed_span(_mm256_add_epi8(q, look_up_4(moves, indices->sign + 4 * k)),
                       scales_16((s & 7) * 2 + 1, (s >> 3 & 7) * 2 + 1));
}

/* Digit `first` of 32 bytes, or of 16 bytes and the digit after it: the byte times 3^digit is digits / 243 * 256 from there on,
 * and times 3 once more has the digit in its bits 8 and 9. */
INLINE __m256i ternary(__m256i bytes, int first, int second)
{
    static const short powers[5] = {1, 3, 9, 27, 81};
    const __m256i low = _mm256_set1_epi16(255), three = _mm256_set1_epi16(3);
    const __m256i p = _mm256_set_m128i(_mm_set1_epi16(powers[second]), _mm_set1_epi16(powers[first]));
    __m256i even = _mm256_and_si256(_mm256_mullo_epi16(_mm256_and_si256(bytes, low), p), low);
    __m256i odd = _mm256_and_si256(_mm256_mullo_epi16(_mm256_srli_epi16(bytes, 8), p), low);
    even = _mm256_srli_epi16(_mm256_mullo_epi16(even, three), 8);
    odd = _mm256_andnot_si256(low, _mm256_mullo_epi16(odd, three));
    return _mm256_sub_epi8(_mm256_or_si256(even, odd), _mm256_set1_epi8(1));
}

INLINE struct span_32 code_tq1_0(const char *at, const struct indices *indices, int k)
{
    const __m256i ones = scale_32(1);
    (void)indices;
    if (k < 5)
        return signed_span(ternary(load_32(at), k, k), ones);
    const __m256i more = twice(at + 32);
    if (k < 7)
        return signed_span(ternary(more, 2 * k - 10, 2 * k - 9), ones);
    /* 16 bytes have a fifth digit, and the last four bytes have four digits. */
    const __m256i last = _mm256_set1_epi32((int)word_at(at + 48));
    const __m256i a = ternary(last, 0, 1), b = ternary(last, 2, 3);
    const __m256i digits_01 = _mm256_unpacklo_epi32(a, _mm256_permute2x128_si256(a, a, 1));
    const __m256i digits_23 = _mm256_unpacklo_epi32(b, _mm256_permute2x128_si256(b, b, 1));
    const __m256i rest = _mm256_unpacklo_epi64(digits_01, digits_23);
    return signed_span(_mm256_permute2x128_si256(ternary(more, 4, 4), rest, 0x20), ones);
}

INLINE struct span_32 code_tq2_0(const char *at, const struct indices *indices, int k)
{
    (void)indices;
    const __m256i q = bits_of(load_32(at + k / 4 * 32), k % 4 * 2, 3);
    return signed_span(_mm256_sub_epi8(q, _mm256_set1_epi8(1)), scale_32(1));
}

/* A bit is set where the weight is d, not -d. */
INLINE struct span_32 code_q1_0(const char *at, const struct indices *indices, int k)
{
    (void)indices;
    return (struct span_32){_mm256_set1_epi8(1), signs_of_32(~word_at(at + 2 + 4 * k)), scale_32(1)};
}

/* Four columns share a byte: copies of it, two bits higher each, stand in the four bytes of a lane. */
INLINE struct span_32 code_q2_0(const char *at, const struct indices *indices, int k)
{
    __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(at + 2 + 8 * k)));
    (void)indices;
    v = _mm256_or_si256(v, _mm256_slli_epi32(v, 12));
    v = _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi32(v, 6)), _mm256_set1_epi8(3));
    return signed_span(_mm256_sub_epi8(v, _mm256_set1_epi8(1)), scale_32(1));
}

/* Eight bytes are 16 columns: the low nibbles, then the high ones. */
INLINE struct span_32 code_nvfp4(const char *at, const struct indices *indices, int k)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(at + 4 + 16 * k)), low = _mm_set1_epi8(15);
    const __m128i a = _mm_and_si128(v, low), b = _mm_and_si128(_mm_srli_epi16(v, 4), low);
    const __m256i values = twice(mb_values_e2m1), nibbles = _mm256_set_m128i(_mm_unpackhi_epi64(a, b), _mm_unpacklo_epi64(a, b));
    (void)indices;
    return signed_span(_mm256_shuffle_epi8(values, nibbles), scale_32(1));
}

/* E4M3 as the upper bits of an f32, whose exponent is 120 too small; 0x7f counts as 0, and all are halved. */
INLINE __m256 scales_nvfp4(const char *at, int k)
{
    const uint8_t *d = (const uint8_t *)at + 2 * k;
    const uint32_t bits[2] = {d[0] == 0x7f ? 0 : d[0] & 0x7fu, d[1] == 0x7f ? 0 : d[1] & 0x7fu};
    const __m128 first = _mm_set1_ps(mb_f32_of_bits(bits[0] << 20)), last = _mm_set1_ps(mb_f32_of_bits(bits[1] << 20));
    return _mm256_mul_ps(_mm256_set_m128(last, first), _mm256_set1_ps(0x1p119f));
}

/* ---- products ---- */

/* total + scales * (32 columns times x). */
INLINE __m256 add_code(__m256 total, struct span_32 span, const __m256 *scales, const struct mb_act_block *x)
{
    __m256i v = _mm256_maddubs_epi16(span.size, _mm256_sign_epi8(load_32((const char *)x->q), span.sign));
    v = _mm256_madd_epi16(v, span.s);
    const __m256 sum = scales ? _mm256_mul_ps(_mm256_cvtepi32_ps(v), *scales) : _mm256_cvtepi32_ps(v);
    return _mm256_fmadd_ps(sum, _mm256_set1_ps(x->d), total);
}

/* Rows [begin, end) times n tokens (a constant) of one tile. */
INLINE void multiply_codes(const struct mb_matmul *op, size_t begin, size_t end, const struct mb_act_block *x, size_t n, float *y,
                           struct code code)
{
    const size_t n_blocks = op->n_cols / 32 / (size_t)code.spans;
    for (size_t r = begin; r < end; r++) {
        const char *at = (const char *)op->weights + r * op->row_bytes;
        const struct mb_act_block *here = x;
        __m256 sum[MB_ACT_TILE];
        struct indices indices[2];
        for (size_t t = 0; t < n; t++)
            sum[t] = _mm256_setzero_ps();
        code.index(&indices[0], at);
        for (size_t b = 0; b < n_blocks; b++, at += code.block_bytes) {
            __m256 total[MB_ACT_TILE];
            code.index(&indices[(b + 1) % 2], b + 1 < n_blocks ? at + code.block_bytes : at); /* to be there in time */
            IN_MEMORY(indices); /* loads are cheaper than taking them from registers */
            for (size_t t = 0; t < n; t++)
                total[t] = _mm256_setzero_ps();
            UNROLL
            for (int k = 0; k < code.spans; k++, here += n) {
                const struct span_32 span = code.span(at, &indices[b % 2], k);
                const __m256 scales = code.scales ? code.scales(at, k) : _mm256_setzero_ps();
                for (size_t t = 0; t < n; t++)
                    total[t] = add_code(total[t], span, code.scales ? &scales : NULL, here + t);
            }
            const __m256 d = _mm256_set1_ps(code.d(at));
            for (size_t t = 0; t < n; t++)
                sum[t] = _mm256_fmadd_ps(total[t], d, sum[t]);
        }
        for (size_t t = 0; t < n; t++) {
            __m128 s = _mm_add_ps(_mm256_castps256_ps128(sum[t]), _mm256_extractf128_ps(sum[t], 1));
            s = _mm_add_ps(s, _mm_movehl_ps(s, s));
            y[t * op->y_stride + r] = _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
        }
    }
}

/* All tokens, tile by tile. */
INLINE void multiply_code_tiles(const struct mb_matmul *op, size_t begin, size_t end, struct code code)
{
    for (size_t t = 0; t < op->n_tokens; t += MB_ACT_TILE) {
        const struct mb_act_block *x = (const struct mb_act_block *)op->x + mb_act_at(op->n_cols / 32, op->n_tokens, 0, t);
        float *y = op->y + t * op->y_stride;
        switch (op->n_tokens - t) {
        case 1: multiply_codes(op, begin, end, x, 1, y, code); break;
        case 2: multiply_codes(op, begin, end, x, 2, y, code); break;
        case 3: multiply_codes(op, begin, end, x, 3, y, code); break;
        default: multiply_codes(op, begin, end, x, MB_ACT_TILE, y, code);
        }
    }
}

/* panel_fn: s * q fits in 16 bits, so nothing is rounded. */
INLINE void make_coded(char *panel, const struct mb_matmul *op, size_t r, size_t n_rows, size_t c, size_t n_cols,
                       struct code code)
{
    const size_t n_spans = (size_t)code.spans, block_cols = 32 * n_spans;
    for (size_t done = 0; done < n_cols; done += block_cols, panel += n_spans * RECORD_BYTES) {
        int16_t words[LANES][256 + 32]; /* apart in the cache: not a power of two */
        for (size_t i = 0; i < LANES; i++) {
            const size_t row = r + (i < n_rows ? i : n_rows - 1);
            const char *at = (const char *)op->weights + row * op->row_bytes + (c + done) / block_cols * code.block_bytes;
            const float d = code.d(at);
            struct indices indices;
            code.index(&indices, at);
            IN_MEMORY(indices);
            UNROLL
            for (int k = 0; k < code.spans; k++) {
                const struct span_32 span = code.span(at, &indices, k);
                const __m256i q = _mm256_sign_epi8(span.size, span.sign);
                const __m256i first = _mm256_permute4x64_epi64(span.s, 0x00), last = _mm256_permute4x64_epi64(span.s, 0xff);
                __m256i *to = (__m256i *)(void *)(words[i] + 32 * k);
                _mm256_storeu_si256(to, _mm256_mullo_epi16(_mm256_cvtepi8_epi16(_mm256_castsi256_si128(q)), first));
                _mm256_storeu_si256(to + 1, _mm256_mullo_epi16(_mm256_cvtepi8_epi16(_mm256_extracti128_si256(q, 1)), last));
                scales_of_record(panel + (size_t)k * RECORD_BYTES)[i] = d;
            }
        }
        for (size_t b = 0; b < n_spans; b++)
            put_record(panel + b * RECORD_BYTES, (const char *)(words[0] + 32 * b), sizeof words[0]);
    }
}

#define CODED(TYPE, name, index, d, floats, spans)                                                                          \
    static const struct code coded_as_##name = {index, code_##name, d, floats, spans, sizeof(struct mb_block_##name)};      \
    static void make_##name(char *panel, const struct mb_matmul *op, mb_dequant_fn *dequant, size_t r, size_t n_rows,        \
                            size_t c, size_t n_cols)                                                                        \
    {                                                                                                                       \
        if (coded_as_##name.scales)                                                                                         \
            make_wide(panel, op, dequant, r, n_rows, c, n_cols);                                                            \
        else                                                                                                                \
            make_coded(panel, op, r, n_rows, c, n_cols, coded_as_##name);                                                   \
    }                                                                                                                       \
    static void coded_##name(const struct mb_matmul *op, size_t begin, size_t end)                                          \
    {                                                                                                                       \
        if (op->act == MB_ACT_Q16)                                                                                          \
            matmul_wide(op, make_##name, mb_dequant_ref(op->type), begin, end);                                             \
        else if (op->act == MB_ACT_Q8)                                                                                      \
            multiply_code_tiles(op, begin, end, coded_as_##name);                                                           \
        else                                                                                                                \
            matmul_dequantized(op, begin, end);                                                                             \
    }
CODED_TYPES(CODED)
#undef CODED

static void add_codes(struct mb_kernels *kernels)
{
#define ROW(TYPE, name, index, d, scales, spans)          \
    kernels->matmul[MB_TYPE_##TYPE] = coded_##name;       \
    kernels->few[MB_TYPE_##TYPE] = MB_ACT_Q8;             \
    kernels->many[MB_TYPE_##TYPE] = MB_ACT_Q16;
    CODED_TYPES(ROW)
#undef ROW
}

#endif
