/* SPDX-License-Identifier: MIT */
/* Matrix products with f32 activations: F32, F16 and BF16 weights, and the types that are dequantized on the way. Written once
 * over the vectors of lanes_<set>.h, which is included before. One token: dot products of two rows at a time. More: 2 * LANES
 * rows of PANEL_COLS columns are brought to f32 and interleaved, a lane per row, and stay in the first-level cache while tokens
 * pass by, FLOAT_TOKENS at a time; their sums stand in y between panels. */
#ifndef MB_MATMUL_FLOAT_H
#define MB_MATMUL_FLOAT_H

#define PANEL_COLS 256
#define PANEL_ROWS ((size_t)(2 * LANES))

/* LANES weights from `at`, as f32. */
typedef vf load_fn(const void *at);

INLINE vf load_f32(const void *at)
{
    return load_floats(at);
}

/* Up to 2 rows times one token. element is the size of a weight, one its reader. */
INLINE void dot_rows(load_fn *read, size_t element, mb_dequant_fn *one, const char *const *rows, size_t n_rows, const float *x,
                     size_t n_cols, float *y)
{
    vf sum[2][4];
    for (size_t r = 0; r < n_rows; r++)
        for (int i = 0; i < 4; i++)
            sum[r][i] = all(0);
    size_t c = 0;
    for (; c + 4 * LANES <= n_cols; c += 4 * LANES)
        for (size_t i = 0; i < 4; i++) {
            vf v = load_floats(x + c + i * LANES);
            for (size_t r = 0; r < n_rows; r++)
                sum[r][i] = fma3(read(rows[r] + (c + i * LANES) * element), v, sum[r][i]);
        }
    for (; c + LANES <= n_cols; c += LANES)
        for (size_t r = 0; r < n_rows; r++)
            sum[r][0] = fma3(read(rows[r] + c * element), load_floats(x + c), sum[r][0]);
    for (size_t r = 0; r < n_rows; r++) {
        y[r] = sum_lanes(plus(plus(sum[r][0], sum[r][1]), plus(sum[r][2], sum[r][3])));
        float w[LANES];
        one(w, rows[r] + c * element, n_cols - c);
        for (size_t i = c; i < n_cols; i++)
            y[r] += w[i - c] * x[i];
    }
}

INLINE void decode_float(load_fn *read, size_t element, mb_dequant_fn *one, const struct mb_matmul *op, size_t begin, size_t end)
{
    for (size_t r = begin; r < end; r += 2) {
        const char *row = (const char *)op->weights + r * op->row_bytes, *const rows[2] = {row, row + op->row_bytes};
        if (r + 2 <= end)
            dot_rows(read, element, one, rows, 2, op->x, op->n_cols, op->y + r);
        else
            dot_rows(read, element, one, rows, 1, op->x, op->n_cols, op->y + r);
    }
}

/* y of n tokens and n_rows rows (+)= panel * x over n_cols columns. */
INLINE void multiply_panel(const float *panel, const float *x, size_t x_stride, size_t n_cols, float *y, size_t y_stride,
                           size_t n, size_t n_rows, int is_first)
{
    vf sum[FLOAT_TOKENS][2];
    float part[PANEL_ROWS];
    for (size_t t = 0; t < n; t++) {
        const float *from = y + t * y_stride;
        if (n_rows < PANEL_ROWS) {
            memcpy(part, from, n_rows * sizeof *part);
            from = part;
        }
        for (size_t i = 0; i < 2; i++)
            sum[t][i] = is_first ? all(0) : load_floats(from + i * LANES);
    }
    for (size_t c = 0; c < n_cols; c++) {
        vf w[2] = {load_floats(panel + c * LANES), load_floats(panel + (PANEL_COLS + c) * LANES)};
        for (size_t t = 0; t < n; t++) {
            vf v = all(x[t * x_stride + c]);
            sum[t][0] = fma3(w[0], v, sum[t][0]);
            sum[t][1] = fma3(w[1], v, sum[t][1]);
        }
    }
    for (size_t t = 0; t < n; t++) {
        float *to = n_rows < PANEL_ROWS ? part : y + t * y_stride;
        for (size_t i = 0; i < 2; i++)
            store(to + i * LANES, sum[t][i]);
        if (n_rows < PANEL_ROWS)
            memcpy(y + t * y_stride, part, n_rows * sizeof *part);
    }
}

/* Any type, many tokens. */
static void matmul_panels(const struct mb_matmul *op, mb_dequant_fn *dequant, size_t begin, size_t end)
{
    const struct mb_type_info *info = mb_type_info(op->type);
    for (size_t r = begin; r < end; r += PANEL_ROWS) {
        size_t n_rows = end - r < PANEL_ROWS ? end - r : PANEL_ROWS;
        for (size_t c = 0; c < op->n_cols; c += PANEL_COLS) {
            float floats[PANEL_ROWS][PANEL_COLS], panel[PANEL_ROWS * PANEL_COLS];
            size_t n_cols = op->n_cols - c < PANEL_COLS ? op->n_cols - c : PANEL_COLS;
            const char *rows[PANEL_ROWS];
            for (size_t i = 0; i < PANEL_ROWS; i++) {
                size_t row = r + (i < n_rows ? i : n_rows - 1);
                rows[i] = (const char *)floats[i];
                dequant(floats[i], (const char *)op->weights + row * op->row_bytes + c / info->block_elements * info->block_bytes,
                        n_cols);
            }
            for (size_t half = 0; half < 2; half++) {
                float *to = panel + half * LANES * PANEL_COLS;
                for (size_t i = interleave_words((char *)to, rows + half * LANES, n_cols); i < n_cols; i++)
                    for (size_t lane = 0; lane < LANES; lane++)
                        to[i * LANES + lane] = floats[half * LANES + lane][i];
            }
            const float *x = (const float *)op->x + c;
            float *y = op->y + r;
            size_t t = 0;
            for (; t + FLOAT_TOKENS <= op->n_tokens; t += FLOAT_TOKENS)
                multiply_panel(panel, x + t * op->n_cols, op->n_cols, n_cols, y + t * op->y_stride, op->y_stride, FLOAT_TOKENS,
                               n_rows, c == 0);
            for (; t < op->n_tokens; t++)
                multiply_panel(panel, x + t * op->n_cols, op->n_cols, n_cols, y + t * op->y_stride, op->y_stride, 1, n_rows,
                               c == 0);
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

/* Types without kernels of their own, through f32. */
static void matmul_dequantized(const struct mb_matmul *op, size_t begin, size_t end)
{
    mb_dequant_fn *dequant = mb_dequant_ref(op->type);
    const struct mb_type_info *info = mb_type_info(op->type);
    if (op->n_tokens > 1) {
        matmul_panels(op, dequant, begin, end);
        return;
    }
    for (size_t r = begin; r < end; r++) {
        float sum = 0;
        for (size_t c = 0; c < op->n_cols; c += info->block_elements) {
            float w[256], part;
            const char *const row = (const char *)w;
            dequant(w, (const char *)op->weights + r * op->row_bytes + c / info->block_elements * info->block_bytes,
                    info->block_elements);
            dot_rows(load_f32, 4, mb_dequant_ref(MB_TYPE_F32), &row, 1, (const float *)op->x + c, info->block_elements, &part);
            sum += part;
        }
        op->y[r] = sum;
    }
}

static void add_float(struct mb_kernels *kernels)
{
    for (uint32_t type = 0; type < MB_TYPE_END; type++)
        if (mb_quant_reads(type) && !mb_pack_can(type))
            kernels->matmul[type] = matmul_dequantized;
    kernels->matmul[MB_TYPE_F32] = matmul_f32;
    kernels->matmul[MB_TYPE_F16] = matmul_f16;
    kernels->matmul[MB_TYPE_BF16] = matmul_bf16;
    kernels->dequant[MB_TYPE_F16] = dequant_f16;
    kernels->dequant[MB_TYPE_BF16] = dequant_bf16;
}

#endif
