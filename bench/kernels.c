/* SPDX-License-Identifier: MIT */
/* How fast the matrix kernels stream weights, or attention a cache, beside plain reads of the same memory: blocks of a few
 * milliseconds of both in turn, so that a machine whose memory changes its speed disturbs both alike. Blocks that did not have
 * their CPUs are dropped.
 *
 * usage: bench-kernels [-t THREADS] [-c COLUMNS] [-n TOKENS] [-m MEBIBYTES] [-s SECONDS] [-l LEVEL] [-f] [-k] [-a HEADS]
 *                      [TYPE...]
 *     -t  threads (all)                          -c  columns of the matrix (4096)
 *     -n  tokens (1: decode)                     -m  buffer of weights, more than the caches hold (256)
 *     -s  seconds for each type (2)              -f  file order (packed where the level has it)
 *     -l  kernels of a lower level: scalar, avx2, avx512 (what the CPU can do)
 *     -k  the same 128 KiB again and again in each thread: what the kernels do when memory is no limit
 *     -a  attention of one token instead: query heads of each KV head; columns are those of a head (128), types F32, F16, Q8_0
 * Prints for each type: weight bytes per second, percent of plain reads (medians over accepted blocks, with their number), and
 * multiply-adds per second; best is the 95th percentile. */
#include "../tests/unit/random_weights.h"
#include "base/team.h"
#include "kernels/attention.h"
#include "kernels/kernels.h"
#include "machine/stream.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/mman.h>

#define THREADS_MAX 256
#define BLOCKS_MAX  4096
#define BLOCK_BYTES (8u << 20) /* about a millisecond: short enough to be left alone by other programs */
#define KEPT_BYTES  (128u << 10)
#define HEADS_MAX   64

struct bench {
    struct mb_kernels kernels;
    struct mb_team *team;
    char *weights;
    size_t bytes;       /* of the buffer */
    size_t n_cols, n_tokens;
    int file_order;
    int kept;           /* -k */
    size_t heads;       /* -a; 0: matrices */
    struct mb_matmul op;
    size_t rows_at;     /* where the next block starts */
    size_t block_rows;  /* rows of one block */
    int read;           /* this block only reads */
    volatile uint64_t sink;
    double start_s[THREADS_MAX], end_s[THREADS_MAX], cpu_s[THREADS_MAX];
};

/* Half of the rows are K, half V. */
static void attend(const struct bench *b, size_t begin, size_t end)
{
    static const float q[MB_ATTENTION_DIM_MAX] = {1};
    const size_t rows = (end - begin) / 2;
    const char *k = (const char *)b->weights + begin * b->op.row_bytes;
    float state[HEADS_MAX * (MB_ATTENTION_DIM_MAX + 16)];
    uint32_t seen[HEADS_MAX];
    for (size_t i = 0; i < b->heads; i++)
        seen[i] = (uint32_t)rows;
    struct mb_attention op = {.type = b->op.type, .k = k, .v = k + rows * b->op.row_bytes, .k_stride = b->op.row_bytes,
                              .v_stride = b->op.row_bytes, .k_dim = b->n_cols, .v_dim = b->n_cols, .q = q, .q_stride = 0,
                              .n_queries = b->heads, .end = seen, .scale = 1, .state = state};
    mb_attention_clear(state, b->n_cols, b->heads);
    b->kernels.attention(&op, 0, b->heads, 0, rows);
}

static void work(void *arg, unsigned member)
{
    struct bench *b = arg;
    unsigned n = mb_team_size(b->team);
    size_t units = b->block_rows / MB_MATMUL_ROWS;
    size_t begin = b->rows_at + units * member / n * MB_MATMUL_ROWS, end = b->rows_at + units * (member + 1) / n * MB_MATMUL_ROWS;
    size_t times = 1;
    if (b->kept) {
        size_t rows = KEPT_BYTES / b->op.row_bytes / 64 * 64 + 64;
        rows = rows < end - begin ? rows : end - begin;
        times = (end - begin) / rows;
        end = begin + rows;
    }
    mb_team_barrier(b->team);
    double cpu = mb_cpu_now_s();
    b->start_s[member] = mb_now_s();
    if (b->read) {
        const uintptr_t from = ((uintptr_t)b->weights + begin * b->op.row_bytes) / MB_READ_UNIT * MB_READ_UNIT;
        const uintptr_t to = ((uintptr_t)b->weights + end * b->op.row_bytes) / MB_READ_UNIT * MB_READ_UNIT;
        uint64_t sum = 0;
        for (uintptr_t at = from; at < to; at += MB_STREAM_BLOCK_BYTES)
            sum += b->kernels.read_sum((const void *)at, to - at < MB_STREAM_BLOCK_BYTES ? to - at : MB_STREAM_BLOCK_BYTES);
        b->sink += sum;
    }
    for (size_t i = 0; i < times && !b->read; i++)
        if (b->heads)
            attend(b, begin, end);
        else
            b->kernels.matmul[b->op.type](&b->op, begin, end);
    b->end_s[member] = mb_now_s();
    b->cpu_s[member] = mb_cpu_now_s() - cpu;
}

/* Bytes per second of one block, or 0 if a thread lost its CPU. Each block goes on where the last one stopped: what it reads is
 * what was read longest ago. */
static double block(struct bench *b, int read)
{
    double start = INFINITY, end = 0, cpu = 0;
    unsigned n = mb_team_size(b->team);
    b->read = read;
    mb_team_run(b->team, n, work, b);
    b->rows_at = b->rows_at + 2 * b->block_rows <= b->op.n_rows ? b->rows_at + b->block_rows : 0;
    for (unsigned i = 0; i < n; i++) {
        start = fmin(start, b->start_s[i]);
        end = fmax(end, b->end_s[i]);
        cpu += b->cpu_s[i] / (b->end_s[i] - b->start_s[i]) / n;
    }
    return cpu < 0.97 ? 0 : (double)(b->block_rows * b->op.row_bytes) / (end - start);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_value);
    return n ? values[n / 2] : 0;
}

static void fill(struct bench *b)
{
    uint64_t x = SEED;
    size_t row_bytes = b->op.row_bytes, n_rows = b->op.n_rows, unit = n_rows < 64 ? n_rows : 64;
    char *file = malloc(unit * row_bytes);
    fill_weights(b->op.type, file, unit * b->n_cols, 0.02f, &x);
    for (size_t r = 0; r < n_rows; r += unit) {
        size_t n = n_rows - r < unit ? n_rows - r : unit;
        if (b->op.packed)
            mb_pack(b->op.type, b->kernels.pack_rows, b->weights + r * row_bytes, file, row_bytes, n, 0, n);
        else
            memcpy(b->weights + r * row_bytes, file, n * row_bytes);
    }
    free(file);
}

static void bench_type(struct bench *b, uint32_t type, double seconds)
{
    static double gbs[BLOCKS_MAX], read_gbs[BLOCKS_MAX], ratio[BLOCKS_MAX];
    const struct mb_type_info *info = mb_type_info(type);
    size_t n = 0, dropped = 0;
    uint64_t x = SEED;
    b->op = (struct mb_matmul){.type = type, .weights = b->weights, .n_cols = b->n_cols, .n_tokens = b->n_tokens,
                               .packed = !b->heads && !b->file_order && b->kernels.pack_rows && mb_pack_can(type)};
    b->op.row_bytes = b->n_cols / info->block_elements * info->block_bytes;
    b->op.n_rows = b->bytes / b->op.row_bytes / 64 * 64;
    b->op.y_stride = b->op.n_rows;
    b->block_rows = (b->n_tokens == 1 ? BLOCK_BYTES : BLOCK_BYTES / 8 / b->n_tokens) / b->op.row_bytes / 64 * 64;
    b->block_rows = b->block_rows < 64 ? 64 : b->block_rows;
    float *y = malloc(b->op.n_rows * b->n_tokens * sizeof *y), *floats = malloc(b->n_cols * b->n_tokens * sizeof *floats);
    b->op.y = y;
    fill_floats(floats, b->n_cols * b->n_tokens, &x);
    b->op.act = mb_kernels_act(&b->kernels, type, b->n_cols, b->n_tokens);
    void *act = aligned_alloc(MB_ACT_ALIGN, (mb_act_bytes(b->op.act, b->n_cols, b->n_tokens) + 63) / 64 * 64);
    struct mb_prepare prepare = {.act = b->op.act, .to = act, .from = floats, .from_stride = b->n_cols,
                                 .n_cols = b->n_cols, .n_tokens = b->n_tokens};
    b->kernels.prepare(&prepare, 0, mb_prepare_units(&prepare));
    b->op.x = act;
    fill(b);
    b->rows_at = 0;
    for (double until = mb_now_s() + seconds; mb_now_s() < until && n < BLOCKS_MAX;) {
        double before = block(b, 1), this = block(b, 0), after = block(b, 1);
        if (before == 0 || this == 0 || after == 0 || fabs(before - after) > 0.2 * before) {
            dropped++;
            continue;
        }
        gbs[n] = this / 1e9;
        read_gbs[n] = (before + after) / 2e9;
        ratio[n] = gbs[n] / read_gbs[n];
        n++;
    }
    const size_t products = b->heads ? b->heads : b->n_tokens; /* of a weight */
    const char *order = b->heads ? "cache" : b->op.packed ? "packed" : "file";
    double speed = median(gbs, n), percent = 100 * median(ratio, n), read_speed = median(read_gbs, n);
    if (b->kept) {
        printf("%-8s %-6s %4zu tokens  %6.2f GB/s  best %6.2f  %6.1f G multiply-adds/s\n", info->name, order, b->n_tokens,
               speed, n ? gbs[n - 1 - n / 20] : 0,
               speed / (double)b->op.row_bytes * (double)(b->n_cols * products));
    } else
        printf("%-8s %-6s %4zu tokens  %6.2f GB/s  read %6.2f GB/s  %5.1f %%  (%4.1f .. %4.1f)  best %6.2f of %6.2f  "
               "%6.1f G multiply-adds/s  %zu blocks, %zu dropped\n",
               info->name, order, b->n_tokens, speed, read_speed, percent,
               n ? 100 * ratio[n / 4] : 0, n ? 100 * ratio[3 * n / 4] : 0, n ? gbs[n - 1 - n / 20] : 0,
               n ? read_gbs[n - 1 - n / 20] : 0, speed / (double)b->op.row_bytes * (double)(b->n_cols * products), n, dropped);
    fflush(stdout);
    free(y);
    free(floats);
    free(act);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct bench *b = &bench;
    unsigned n_threads = 0, flags = mb_cpu_flags();
    size_t mebibytes = 256;
    double seconds = 2;
    struct mb_err err;
    b->n_tokens = 1;
    for (int c; (c = getopt(argc, argv, "t:c:n:m:s:l:a:fk")) != -1;)
        switch (c) {
        case 't': n_threads = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'c': b->n_cols = strtoul(optarg, NULL, 10); break;
        case 'n': b->n_tokens = strtoul(optarg, NULL, 10); break;
        case 'm': mebibytes = strtoul(optarg, NULL, 10); break;
        case 's': seconds = strtod(optarg, NULL); break;
        case 'a': b->heads = strtoul(optarg, NULL, 10); break;
        case 'f': b->file_order = 1; break;
        case 'k': b->kept = 1; break;
        case 'l':
            flags = !strcmp(optarg, "scalar") ? 0 : !strcmp(optarg, "avx2") ? flags & MB_CPU_AVX2
                    : !strcmp(optarg, "avx512") ? flags & ~(unsigned)MB_CPU_AVX512_VNNI : flags;
            break;
        default: return 2;
        }
    if (!b->n_cols)
        b->n_cols = b->heads ? 128 : 4096;
    if (b->heads > HEADS_MAX || (b->heads && (b->n_cols % 32 || b->n_cols > MB_ATTENTION_DIM_MAX || b->n_tokens > 1))) {
        fprintf(stderr, "bench-kernels: attention has at most 64 heads, 32 to 1024 columns and one token\n");
        return 2;
    }
    if ((!b->heads && b->n_cols % 256) || !b->n_tokens || n_threads > THREADS_MAX || mebibytes < 8) {
        fprintf(stderr, "bench-kernels: columns are a multiple of 256, tokens 1 or more, the buffer 8 MiB or more\n");
        return 2;
    }
    mb_kernels_init(&b->kernels, flags);
    if (mb_team_start(n_threads, &b->team, &err) != MB_OK) {
        fprintf(stderr, "bench-kernels: %s\n", err.text);
        return mb_code_exit(err.code);
    }
    b->bytes = mebibytes << 20;
    b->weights = mmap(NULL, b->bytes + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->weights == MAP_FAILED)
        return 4;
    b->weights += (2 << 20) - (uintptr_t)b->weights % (2 << 20);
    madvise(b->weights, b->bytes, MADV_HUGEPAGE);
    printf("%s, %u threads, %zu columns\n", mb_cpu_simd(flags), mb_team_size(b->team), b->n_cols);
    for (uint32_t type = 0; type < MB_TYPE_END; type++) {
        const int is_cache = type == MB_TYPE_F32 || type == MB_TYPE_F16 || type == MB_TYPE_Q8_0;
        const int can = mb_quant_reads(type) && (!b->heads || is_cache);
        int wanted = optind == argc && can && (mb_pack_can(type) || mb_type_info(type)->block_elements == 1);
        for (int i = optind; i < argc; i++)
            wanted |= can && strcasecmp(argv[i], mb_type_name(type)) == 0;
        if (wanted)
            bench_type(b, type, seconds);
    }
    mb_team_stop(b->team);
    return 0;
}
