/* SPDX-License-Identifier: MIT */
/* Suite for src/model/kv.c: sizes that engines printed, formulas worked out by hand, and what a pass reads. */
#include "base/base.h"
#include "model/kv.h"
#include "model/open.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_MODELS
#include "support.h"

static const char *root;

static void sizes_that_engines_printed(void **state)
{
    (void)state;
    static const char *const parts[] = {"full", "window", "index", "compressed", "state"};
    struct mb_arena arena = {0};
    char *text = mb_file_read(&arena, root, "/tests/data/models/kv_logged.csv", 1 << 16, NULL), *save = NULL;
    unsigned n = 0;
    assert_non_null(text);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *at = line, *field[10];
        if (*line == '#' || strncmp(line, "model,", 6) == 0)
            continue;
        for (unsigned i = 0; i < 10; i++) {
            field[i] = strsep(&at, ",");
            assert_non_null(field[i]);
        }
        struct mb_kv_opts opts = {.type_k = field[1], .type_v = field[1]};
        opts.n_seq = (uint32_t)atoi(field[3]);
        opts.n_batch = (uint32_t)atoi(field[4]);
        opts.window_full = atoi(field[5]);
        unsigned part = 0;
        while (strcmp(parts[part], field[6]) != 0)
            part++;
        struct mb_model *model = open_spec(field[0]);
        struct mb_kv_part_size sizes[MB_KV_PARTS];
        assert_int_equal(mb_kv_parts(model, strtoull(field[2], NULL, 10), &opts, sizes, NULL), MB_OK);
        double mib = (double)sizes[part].bytes / MB_MIB;
        if (fabs(mib - atof(field[8])) >= 0.01 || (long long)sizes[part].cells != atoll(field[7]))
            fail_msg("%s, %s, %s cells of %s: %.3f MiB in %llu cells instead of %s MiB", field[0], field[1], field[7], field[6],
                     mib, (unsigned long long)sizes[part].cells, field[8]);
        mb_model_free(model);
        n++;
    }
    assert_int_equal(n, 30);
    mb_arena_free(&arena);
}

static struct mb_traffic traffic(const struct mb_model *model, uint32_t n_tokens, uint64_t depth)
{
    struct mb_traffic out;
    assert_int_equal(mb_model_traffic(model, n_tokens, depth, NULL, &out, NULL), MB_OK);
    return out;
}

static void full_attention_reads_every_cell(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("Llama-3.1-8B");
    assert_int_equal(traffic(model, 1, 0).kv_read_bytes, 131072);
    assert_int_equal(traffic(model, 1, 32767).kv_read_bytes, 32768 * UINT64_C(131072));
    assert_int_equal(traffic(model, 1, 32767).kv_write_bytes, 131072);
    assert_int_equal(traffic(model, 512, 0).kv_read_bytes, 512 * UINT64_C(131072)); /* a chunk reads each cell once */
    struct mb_kv_opts q8 = {.type_k = "Q8_0", .type_v = "Q8_0"};
    struct mb_kv_size size;
    assert_int_equal(mb_model_kv_size(model, 0, &q8, &size, NULL), MB_OK);
    assert_int_equal(size.bytes_per_token, 69632);
    q8 = (struct mb_kv_opts){.type_k = "Q8_0", .type_v = "Q4_0"};
    assert_int_equal(mb_model_kv_size(model, 0, &q8, &size, NULL), MB_OK);
    assert_int_equal(size.bytes_per_token, 32 * (1088 + 576));
    mb_model_free(model);
}

static void windows_stop_growing(void **state)
{
    (void)state;
    /* Gemma-4-12B at position 32,767: 512 MiB in full layers, 320 MiB in windows. */
    struct mb_model *model = open_spec("Gemma-4-12B");
    assert_int_equal(traffic(model, 1, 32767).kv_read_bytes, (512 + 320) * UINT64_C(1048576));
    assert_int_equal(traffic(model, 1, 99).kv_read_bytes, 100 * (uint64_t)(16384 + 327680));
    mb_model_free(model);
    /* A chunk starts anew: token 8192 sees itself alone in the 36 chunked layers. */
    model = open_spec("Llama-4-Scout-17B-16E");
    assert_int_equal(traffic(model, 1, 8191).kv_read_bytes, 8192 * (uint64_t)(49152 + 147456));
    assert_int_equal(traffic(model, 1, 8192).kv_read_bytes, 8193 * UINT64_C(49152) + 147456);
    mb_model_free(model);
}

static void shared_layers_read_what_they_do_not_keep(void **state)
{
    (void)state;
    /* E4B: 42 layers, the last 18 without a cache; 35 slide (512 cells of 2*2*256*2 B), 7 are full (2*2*512*2 B). */
    struct mb_model *model = open_spec("Gemma-4-E4B");
    assert_int_equal(traffic(model, 1, 4095).kv_read_bytes, 35 * 512 * UINT64_C(2048) + 7 * 4096 * UINT64_C(4096));
    assert_int_equal(traffic(model, 1, 4095).kv_write_bytes, 20 * 2048 + 4 * 4096);
    assert_int_equal(model->layers[24].kv_layer, 22);
    assert_int_equal(model->layers[29].kv_layer, 23);
    assert_int_equal(model->layers[22].kv_layer, 22);
    mb_model_free(model);
}

static void sparse_attention_reads_its_choice(void **state)
{
    (void)state;
    /* 78 MLA rows of 576 halves, at most 2048 of them; 21 indexers of 128 halves over all cells. */
    struct mb_model *model = open_spec("GLM-5.2");
    assert_int_equal(traffic(model, 1, 99999).kv_read_bytes, 78 * 2048 * UINT64_C(1152) + 21 * 100000 * UINT64_C(256));
    assert_int_equal(traffic(model, 1, 999).kv_read_bytes, 78 * 1000 * UINT64_C(1152) + 21 * 1000 * UINT64_C(256));
    mb_model_free(model);
    /* 43 windows of 128; 21 layers pick 512 of the cells of 4 tokens by 64-byte-per-token keys, 20 read all cells of 128. */
    model = open_spec("DeepSeek-V4-Flash");
    uint64_t want = 43 * 128 * UINT64_C(1024) + 21 * (512 * UINT64_C(1024) + 25600 * UINT64_C(256)) + 20 * 800 * UINT64_C(1024);
    assert_int_equal(traffic(model, 1, 102399).kv_read_bytes, want);
    mb_model_free(model);
    /* The unused V of its indexers is kept and not read. */
    model = open_spec("MiniMax-M3-428B-A23B");
    want = 3 * 10000 * UINT64_C(2048) + 57 * (2048 * UINT64_C(2048) + 10000 * UINT64_C(256));
    assert_int_equal(traffic(model, 1, 9999).kv_read_bytes, want);
    mb_model_free(model);
}

static void states_do_not_grow(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("Qwen3.6-35B-A3B");
    assert_int_equal(traffic(model, 1, 0).state_read_bytes, 65863680);
    assert_int_equal(traffic(model, 1, 100000).state_write_bytes, 65863680);
    struct mb_kv_opts opts = {.type_k = "Q8_0", .type_v = "Q8_0", .n_seq = 4};
    struct mb_kv_size size;
    assert_int_equal(mb_model_kv_size(model, 4096, &opts, &size, NULL), MB_OK);
    assert_int_equal(size.state_bytes, 4 * 65863680);
    mb_model_free(model);
}

static void limits_are_told(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("Qwen3-8B");
    struct mb_kv_size size;
    struct mb_traffic out;
    struct mb_err err;
    struct mb_kv_opts opts = {.type_k = "Q6_K"};
    assert_int_equal(mb_model_kv_size(model, 1, &opts, &size, &err), MB_EINVAL);
    assert_non_null(strstr(err.text, "Q6_K"));
    assert_int_equal(mb_model_kv_size(model, UINT64_MAX, NULL, &size, &err), MB_ERANGE);
    assert_int_equal(mb_model_traffic(model, 0, 0, NULL, &out, &err), MB_ERANGE);
    assert_int_equal(mb_model_traffic(model, 1, UINT64_MAX, NULL, &out, &err), MB_ERANGE);
    assert_int_equal(mb_model_traffic(model, UINT32_MAX, 5, NULL, &out, &err), MB_ERANGE);
    mb_model_free(model);
    /* Rows are rounded up to whole blocks. */
    assert_int_equal(mb_row_bytes(MB_TYPE_Q8_0, 80), 3 * 34);
    assert_int_equal(mb_row_bytes(MB_TYPE_F16, 80), 160);
}

int main(int argc, char **argv)
{
    root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_engines_printed),
        cmocka_unit_test(full_attention_reads_every_cell),
        cmocka_unit_test(windows_stop_growing),
        cmocka_unit_test(shared_layers_read_what_they_do_not_keep),
        cmocka_unit_test(sparse_attention_reads_its_choice),
        cmocka_unit_test(states_do_not_grow),
        cmocka_unit_test(limits_are_told),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
