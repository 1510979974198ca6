/* SPDX-License-Identifier: MIT */
/* Suite for src/plan/published.c and resolve.c: hostile CSV is refused with its line, and rows mean what they say. */
#include "plan/published.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define HEADING "id,machine,chip,mem_gb,bw_gbs_spec,backend,engine,model,arch,params_b,active_params_b,moe,quant,size_gib,ctx_depth,pp_tokens,pp_tps,tg_tokens,tg_tps,flash_attn,ngl_or_offload,date,notes,flag,split\n"

static struct mb_rows *parse(const char *text)
{
    struct mb_rows *rows;
    struct mb_err err;
    if (mb_rows_parse(text, strlen(text), "test.csv", &rows, &err))
        fail_msg("%s", err.text);
    return rows;
}

static void refuse(const char *text, const char *said)
{
    struct mb_rows *rows = NULL;
    struct mb_err err = {0};
    assert_int_equal(mb_rows_parse(text, strlen(text), "test.csv", &rows, &err), MB_EFORMAT);
    if (!strstr(err.text, said))
        fail_msg("\"%s\" does not say \"%s\"", err.text, said);
    assert_null(rows);
}

static void fields(void **state)
{
    (void)state;
    struct mb_rows *rows = parse("\xef\xbb\xbftg_tps,machine,chip,backend,engine,model,quant,unknown,notes\r\n"
                                 "12.5,\"a, \"\"b\"\"\",RTX 4090,cuda,llama.cpp,M,Q8_0,x,\"two\nlines\"\r\n"
                                 "\n"
                                 "7,m,c,cpu,e,M,Q8_0,,");
    assert_int_equal(rows->n_rows, 2);
    assert_string_equal(rows->rows[0].machine, "a, \"b\"");
    assert_string_equal(rows->rows[0].notes, "two\nlines");
    assert_true(rows->rows[0].tps == 12.5);
    assert_true(isnan(rows->rows[0].depth));
    assert_string_equal(rows->rows[0].id, "");
    assert_int_equal(rows->rows[0].line, 2);
    assert_int_equal(rows->rows[1].line, 5);
    mb_rows_free(rows);
}

static void hostile(void **state)
{
    (void)state;
    refuse("", "no column");
    refuse("id,machine\n", "no column chip");
    refuse("tg_tps,tg_tps\n", "two columns");
    refuse(HEADING "x,y\n", "line 2: fewer fields");
    refuse("machine,chip,backend,engine,model,quant,tg_tps\na,b,c,d,e,f,1,2\n", "line 2: more fields");
    refuse("machine,chip,backend,engine,model,quant,tg_tps\na,b,c,d,e,f,fast\n", "line 2: tg_tps: \"fast\"");
    refuse("machine,chip,backend,engine,model,quant,tg_tps\na,b,c,d,e,f,-1\n", "no number");
    refuse("machine,chip,backend,engine,model,quant,tg_tps\na,b,c,d,e,f,nan\n", "no number");
    refuse("machine,chip,backend,engine,model,quant,tg_tps\na,b,c,d,e,\"f,1\n", "line 2: a quotation mark opens");
    char *text = malloc(6000);
    memset(text, 'x', 5999);
    text[5999] = 0;
    refuse(text, "longer than 4000");
    free(text);
    struct mb_rows *rows;
    struct mb_err err;
    assert_int_equal(mb_rows_parse("a\0b", 3, "test.csv", &rows, &err), MB_EFORMAT);
}

static struct mb_rows *resolve(const char *lines)
{
    char text[8000];
    snprintf(text, sizeof text, "%s%s", HEADING, lines);
    struct mb_rows *rows = parse(text);
    struct mb_err err;
    if (mb_rows_resolve(rows, &err))
        fail_msg("%s", err.text);
    return rows;
}

static unsigned in_pool(const struct mb_row *row, enum mb_unit_kind kind, enum mb_pool_kind pool)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < row->load->n_units; i++)
        n += row->load->units[i].kind == kind && row->owned_machine->pools[row->pools[i]].kind == pool;
    return n;
}

static void names_mean_things(void **state)
{
    (void)state;
    struct mb_rows *rows = resolve(
        "a,PC,RTX 4090,24,1008,cuda,llama.cpp,Qwen3-8B,qwen3,8.19,8.19,0,Q4_K_M,4.68,0,,,128,120,1,,2026-05,,0,seen\n"
        "b,MacBook Pro (M2 Max 30c 32GB),M2 Max,32,400,metal,mlx-lm,Qwen3-8B,qwen3,8.19,8.19,0,MLX-4bit,,0,2048,,128,70,,,,decode follows 2048,0,\n"
        "c,Strix,Strix Halo,128,256,rocm,ollama,DeepSeek-R1-Distill-Qwen-14B,qwen2,14.77,14.77,0,UD-Q4_K_XL,8.4,0,,,,20,,,,,0,\n"
        "d,PC,RTX 3070,8,448,vulkan,llama.cpp or ollama,Nobody-9B,llama,9,9,0,\"Q4 (4-bit)\",,8192,,,64,50,,,,,0,\n"
        "e,PC,No Such,8,,cuda,llama.cpp,Qwen3-8B,qwen3,8.19,8.19,0,Q4_K_M,,0,,,,50,,,,,0,\n"
        "f,PC,RTX 4090,24,1008,cuda,llama.cpp,Qwen3-8B,qwen3,8.19,8.19,0,Q4_K_M,4.68,0,,,128,900,1,,,,0,\n"
        "g,PC,RTX 4090,24,1008,cuda,vllm,Qwen3-Coder-30B-A3B,qwen3moe,30.5,3.3,1,AWQ-INT4,,0,,,128,200,,,,,0,\n"
        "h,PC,RTX 4090,24,1008,cuda,llama.cpp,Unheard-Of,,,,0,Q4_K_M,,0,,,,50,,,,,0,\n");
    struct mb_row *row = rows->rows;
    assert_null(row[0].skip);
    assert_string_equal(row[0].chip_key, "rtx 4090");
    assert_string_equal(row[0].engine_key, "llama.cpp:cuda");
    assert_true(row[0].exact_model && fabs(row[0].load->scale - 1) < 0.02);
    assert_true(row[0].mean_depth == 64);
    assert_true(row[0].months == 40);
    assert_null(row[1].skip);
    assert_string_equal(row[1].engine_key, "mlx:metal");
    assert_int_equal(row[1].owned_machine->processors[0].n_cores, 30);
    assert_true(row[1].mean_depth == 2048 + 64);
    assert_null(row[2].skip);
    assert_string_equal(row[2].catalog_model, "Qwen2.5-14B");
    assert_string_equal(row[2].chip_key, "strix halo");
    assert_string_equal(row[2].engine_key, "ollama:rocm");
    assert_null(row[3].skip);
    assert_false(row[3].exact_model);
    assert_string_equal(row[3].engine_key, "llama.cpp:vulkan");
    assert_true(row[3].mean_depth == 8192 + 32);
    assert_non_null(strstr(row[4].skip, "bw_gbs_spec"));
    assert_non_null(strstr(row[5].skip, "faster than the memory"));
    assert_null(row[6].skip);
    assert_int_equal(row[6].row_class, MB_ROW_MOE);
    assert_string_equal(row[6].engine_key, "vllm:cuda");
    assert_non_null(strstr(row[7].skip, "params_b"));
    mb_rows_free(rows);
}

static void hosts_and_placements(void **state)
{
    (void)state;
    struct mb_rows *rows = resolve(
        "a,RTX 5090 + EPYC 9355,RTX 5090,32,1792,hybrid,ik_llama.cpp,DeepSeek-V3-0324-671B,deepseek2,671,37,1,IQ2_K_R4,226,0,,,128,20,1,exps=CPU,,\"12ch DDR5-6400 (614 GB/s theo, 598 measured read)\",0,\n"
        "b,RTX 5090 + Ryzen 5 9600 DDR5-5600,RTX 5090,32,1792,hybrid,llama.cpp,gpt-oss-120b,gpt-oss,116.8,5.1,1,MXFP4,59,0,,,128,40,1,n-cpu-moe=30,,,0,\n"
        "c,PC + i9-13900HK,RTX 2080,8,448,hybrid,llama.cpp,Qwen3-14B,qwen3,14.77,14.77,0,Q4_K_M,8.38,0,,,,16.9,,ngl=32,,quad-channel DDR4,0,\n"
        "d,RTX 3090 + EPYC 9355,RTX 3090,24,936,hybrid,llama.cpp,Qwen3-235B-A22B,qwen3moe,235,22,1,Q6_K,,0,,,128,12,,exps=CPU except blk 0-4,,,0,\n"
        "e,PC,RTX 5070,12,672,hybrid,llama.cpp,Qwen3-30B-A3B,qwen3moe,30.5,3.3,1,Q4_K_M,17.35,0,,,128,25,,auto,,,0,\n"
        "f,CPU,CPU,,,cpu,llama.cpp,Qwen3-4B,qwen3,4,4,0,Q4_K_M,,0,,,128,22,,ngl=0,,,0,\n"
        "g,CPU: EPYC 9355,EPYC 9355,768,576,cpu,ik_llama.cpp,Qwen3-4B,qwen3,4,4,0,Q4_K_M,,0,,,128,60,,ngl=0,,,0,\n");
    struct mb_row *row = rows->rows;
    for (unsigned i = 0; i < 5; i++) {
        if (row[i].skip)
            fail_msg("%s: %s", row[i].id, row[i].skip);
        assert_int_equal(row[i].row_class, MB_ROW_HYBRID);
        assert_int_equal(row[i].owned_machine->n_pools, 2);
    }
    assert_true(row[0].owned_machine->pools[1].bandwidth_bytes_per_s.value == 614e9);
    assert_int_equal(in_pool(&row[0], MB_UNIT_EXPERTS, MB_POOL_VRAM), 0);
    assert_int_equal(in_pool(&row[0], MB_UNIT_CORE, MB_POOL_SYSTEM), 0);
    assert_true(fabs(row[1].owned_machine->pools[1].bandwidth_bytes_per_s.value - 89.6e9) < 1);
    assert_int_equal(in_pool(&row[1], MB_UNIT_EXPERTS, MB_POOL_SYSTEM), 30);
    assert_int_equal(in_pool(&row[1], MB_UNIT_EXPERTS, MB_POOL_VRAM), 6);
    assert_true(fabs(row[2].owned_machine->pools[1].bandwidth_bytes_per_s.value - 4 * 2933 * 8e6) < 1);
    assert_int_equal(in_pool(&row[2], MB_UNIT_CORE, MB_POOL_VRAM), 32);
    assert_int_equal(in_pool(&row[2], MB_UNIT_CORE, MB_POOL_SYSTEM), 8);
    assert_int_equal(in_pool(&row[3], MB_UNIT_EXPERTS, MB_POOL_VRAM), 5);
    assert_int_equal(in_pool(&row[3], MB_UNIT_EXPERTS, MB_POOL_SYSTEM), 89);
    assert_true(row[4].ram_assumed);
    assert_true(in_pool(&row[4], MB_UNIT_EXPERTS, MB_POOL_VRAM) > 10 && in_pool(&row[4], MB_UNIT_EXPERTS, MB_POOL_SYSTEM) > 10);
    assert_non_null(strstr(row[5].skip, "RAM is unknown"));
    assert_null(row[6].skip);
    assert_int_equal(row[6].row_class, MB_ROW_CPU);
    mb_rows_free(rows);
}

static void chips(void **state)
{
    static const char *const pairs[][2] = {{"NVIDIA GeForce RTX 4090", "rtx 4090"},
                                           {"Apple M2 Ultra GPU", "m2 ultra"},
                                           {"Apple M2 Ultra (76-core GPU)", "m2 ultra"},
                                           {"AMD Radeon 8060S", "strix halo"},
                                           {"AMD Ryzen AI Max+ 395", "strix halo"},
                                           {"NVIDIA A100-SXM4-80GB", "a100 sxm"},
                                           {"NVIDIA H100 SXM5 80 GB", "h100 sxm"},
                                           {"AMD Radeon AI PRO R9700", "r9700"},
                                           {"NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx pro 6000"},
                                           {"", ""}};
    char buf[64];
    (void)state;
    for (unsigned i = 0; i < MB_COUNT(pairs); i++)
        assert_string_equal(mb_chip_key(pairs[i][0], buf, sizeof buf), pairs[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields),           cmocka_unit_test(hostile), cmocka_unit_test(names_mean_things),
        cmocka_unit_test(hosts_and_placements), cmocka_unit_test(chips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
