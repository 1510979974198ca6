/* SPDX-License-Identifier: MIT */
/* Matrix products with f32 activations: F32, F16 and BF16 weights, and the types that are dequantized on the way. Written
 * once over the vectors of lanes_<set>.h, which is included before. One token: dot products of four rows at a time, from
 * four parts of the matrix, because one thread reads the memory faster as several streams. More: LANES rows of PANEL_COLS
 * columns are brought to f32 and interleaved, a lane per row, and stay in the second-level cache while tokens pass by,
 * FLOAT_TOKENS at a time; their sums meet y between panels. */
#ifndef MB_MATMUL_FLOAT_H
#define MB_MATMUL_FLOAT_H

#define PANEL_COLS   2048
#define PIECE_COLS   256 /* that are brought to f32 at a time */
#define ROWS_AT_ONCE 4

/* LANES weights from `at`, as f32. */
typedef vf load_fn(const void *at);

INLINE vf load_f32(const void *at)
{
    return load_floats(at);
}

/* n rows (a constant) times one token, y_step apart in y. element is the size of a weight; few reads those that fill no
 * vector. */
INLINE void dot_rows(load_fn *read, size_t element, mb_dequant_fn *few, const char *const *rows, size_t n, const float *x,
                     size_t n_cols, float *y, size_t y_step)
{
    vf sum[ROWS_AT_ONCE];
    size_t c = 0;
    for (size_t r = 0; r < n; r++)
        sum[r] = all(0);
    for (; c + LANES <= n_cols; c += LANES) {
        vf v = load_floats(x + c);
        for (size_t r = 0; r < n; r++) {
            __builtin_prefetch(rows[r] + c * element + 512);
            sum[r] = fma3(read(rows[r] + c * element), v, sum[r]);
        }
    }
    for (size_t r = 0; r < n; r++) {
        float w[LANES], last = 0;
        few(w, rows[r] + c * element, n_cols - c);
        for (size_t i = c; i < n_cols; i++)
            last += w[i - c] * x[i];
        y[r * y_step] = sum_lanes(sum[r]) + last;
    }
}

INLINE void decode_float(load_fn *read, size_t element, mb_dequant_fn *few, const struct mb_matmul *op, size_t begin, size_t end)
{
    size_t part = (end - begin) / ROWS_AT_ONCE;
    const char *rows[ROWS_AT_ONCE];
    for (size_t r = begin; r < begin + part; r++) {
        for (size_t i = 0; i < ROWS_AT_ONCE; i++)
            rows[i] = (const char *)op->weights + (r + i * part) * op->row_bytes;
        dot_rows(read, element, few, rows, ROWS_AT_ONCE, op->x, op->n_cols, op->y + r, part);
    }
    for (size_t r = begin + part * ROWS_AT_ONCE; r < end; r++) {
        rows[0] = (const char *)op->weights + r * op->row_bytes;
        dot_rows(read, element, few, rows, 1, op->x, op->n_cols, op->y + r, 1);
    }
}

/* y of n tokens (a constant) and n_rows rows (+)= panel * x over n_cols columns. */
INLINE void multiply_panel(const float *panel, const float *x, size_t x_stride, size_t n_cols, float *y, size_t y_stride,
                           size_t n, size_t n_rows, int is_first)
{
    vf sum[FLOAT_TOKENS];
    for (size_t t = 0; t < n; t++) {
        sum[t] = all(0);
        __builtin_prefetch(y + t * y_stride, 1);
    }
    for (size_t c = 0; c < n_cols; c++) {
        vf w = load_floats(panel + c * LANES);
        for (size_t t = 0; t < n; t++)
            sum[t] = fma3(w, all(x[t * x_stride + c]), sum[t]);
    }
    UNROLL
    for (size_t t = 0; t < n; t++) {
        float part[LANES] = {0}, *to = n_rows == LANES ? y + t * y_stride : part;
        if (n_rows < LANES)
            memcpy(part, y + t * y_stride, n_rows * sizeof *part);
        store(to, is_first ? sum[t] : fma3(sum[t], all(1), load_floats(to)));
        if (n_rows < LANES)
            memcpy(y + t * y_stride, part, n_rows * sizeof *part);
    }
}

/* The same of tokens from t on, n (a constant) at once as long as there are as many. Returns the first that is left. */
INLINE size_t multiply_tokens(const float *panel, const struct mb_matmul *op, size_t r, size_t c, size_t n_cols, size_t t,
                              size_t n, size_t n_rows)
{
    for (; t + n <= op->n_tokens; t += n)
        multiply_panel(panel, (const float *)op->x + t * op->n_cols + c, op->n_cols, n_cols, op->y + t * op->y_stride + r,
                       op->y_stride, n, n_rows, c == 0);
    return t;
}

/* n_cols columns from c on, as f32 with a lane per row. */
static void make_panel(float *panel, const struct mb_matmul *op, mb_dequant_fn *dequant, size_t r, size_t n_rows, size_t c,
                       size_t n_cols)
{
    const struct mb_type_info *info = mb_type_info(op->type);
    for (size_t done = 0; done < n_cols; done += PIECE_COLS, panel += LANES * PIECE_COLS) {
        float floats[LANES][PIECE_COLS + LANES]; /* apart in the cache: not a power of two */
        const size_t n = n_cols - done < PIECE_COLS ? n_cols - done : PIECE_COLS;
        const char *rows[LANES];
        for (size_t i = 0; i < LANES; i++) {
            const size_t row = r + (i < n_rows ? i : n_rows - 1);
            rows[i] = (const char *)floats[i];
            dequant(floats[i],
                    (const char *)op->weights + row * op->row_bytes + (c + done) / info->block_elements * info->block_bytes, n);
        }
        for (size_t i = interleave_words((char *)panel, 1, rows, 0, n); i < n; i++)
            for (size_t lane = 0; lane < LANES; lane++)
                panel[i * LANES + lane] = floats[lane][i];
    }
}

/* Any type, many tokens. */
static void matmul_panels(const struct mb_matmul *op, mb_dequant_fn *dequant, size_t begin, size_t end)
{
    float panel[LANES * PANEL_COLS];
    for (size_t r = begin; r < end; r += LANES) {
        const size_t n_rows = end - r < LANES ? end - r : LANES;
        for (size_t c = 0; c < op->n_cols; c += PANEL_COLS) {
            const size_t n_cols = op->n_cols - c < PANEL_COLS ? op->n_cols - c : PANEL_COLS;
            make_panel(panel, op, dequant, r, n_rows, c, n_cols);
            /* One token alone waits for each of its sums; so what is left is taken in halves. */
            size_t t = multiply_tokens(panel, op, r, c, n_cols, 0, FLOAT_TOKENS, n_rows);
            t = multiply_tokens(panel, op, r, c, n_cols, t, FLOAT_TOKENS / 2, n_rows);
            t = multiply_tokens(panel, op, r, c, n_cols, t, 2, n_rows);
            multiply_tokens(panel, op, r, c, n_cols, t, 1, n_rows);
        }
    }
}

static void matmul_f32(const struct mb_matmul *op, size_t begin, size_t end)
{
    if (op->n_tokens == 1)
        decode_float(load_f32, 4, mb_dequant_ref(MB_TYPE_F32), op, begin, end);
    else
        matmul_panels(op, mb_dequant_ref(MB_TYPE_F32), begin, end);
}

static void dequant_f16(float *to, const void *from, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(to + i, load_f16((const char *)from + 2 * i));
    mb_dequant_ref(MB_TYPE_F16)(to + i, (const char *)from + 2 * i, n - i);
}

static void matmul_f16(const struct mb_matmul *op, size_t begin, size_t end)
{
    if (op->n_tokens == 1)
        decode_float(load_f16, 2, mb_dequant_ref(MB_TYPE_F16), op, begin, end);
    else
        matmul_panels(op, dequant_f16, begin, end);
}

static void dequant_bf16(float *to, const void *from, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(to + i, load_bf16((const char *)from + 2 * i));
    mb_dequant_ref(MB_TYPE_BF16)(to + i, (const char *)from + 2 * i, n - i);
}

static void matmul_bf16(const struct mb_matmul *op, size_t begin, size_t end)
{
    if (op->n_tokens == 1)
        decode_float(load_bf16, 2, mb_dequant_ref(MB_TYPE_BF16), op, begin, end);
    else
        matmul_panels(op, dequant_bf16, begin, end);
}

static void add_float(struct mb_kernels *kernels)
{
    kernels->matmul[MB_TYPE_F32] = matmul_f32;
    kernels->matmul[MB_TYPE_F16] = matmul_f16;
    kernels->matmul[MB_TYPE_BF16] = matmul_bf16;
    kernels->many[MB_TYPE_F16] = kernels->many[MB_TYPE_BF16] = MB_ACT_F32;
    kernels->dequant[MB_TYPE_F16] = dequant_f16;
    kernels->dequant[MB_TYPE_BF16] = dequant_bf16;
}

#endif
