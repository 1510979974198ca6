/* SPDX-License-Identifier: MIT */
/* Suite for src/plan/emit*.c: what a shell makes of the commands, and where an engine that reads their flags as
 * llama.cpp does puts every tensor. The commands are run by sh with printf in the engine's place. */
#include "base/base.h"
#include "model/open.h"
#include "plan/emit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPPORT_DIR
#define SUPPORT_FILES
#define SUPPORT_MODELS
#include "support.h"

static const char *root;

/* ---- plans made by hand ---- */

enum { MAX_LAYERS = 256 };

struct made {
    struct mb_plan plan;
    struct mb_plan_pool pools[4];
    enum mb_pool_kind kinds[4];
    const char *ids[4], *names[4], *raises[4];
    uint8_t core[MAX_LAYERS], ffn[MAX_LAYERS], experts[MAX_LAYERS];
};

/* A machine of n_cards cards (pools 1..) beside RAM (pool 0), and a plan with everything in RAM. */
static void make(struct made *made, const struct mb_model *model, unsigned n_cards)
{
    static const char *const ids[] = {"ram", "vram0", "vram1", "vram2"};
    *made = (struct made){0};
    made->plan = (struct mb_plan){.machine = "a made-up machine",
                                  .model = model->name,
                                  .quant = model->quant,
                                  .fits = 1,
                                  .engine = n_cards ? "llama.cpp:cuda" : "llama.cpp:cpu",
                                  .n_ctx = 8192,
                                  .model_bytes = model->resident_bytes,
                                  .pools = made->pools,
                                  .n_pools = n_cards + 1,
                                  .pool_ids = made->ids,
                                  .pool_names = made->names,
                                  .pool_kinds = made->kinds,
                                  .pool_raises = made->raises,
                                  .kv_type_k = "F16",
                                  .kv_type_v = "F16",
                                  .n_batch = 512,
                                  .n_threads = 8,
                                  .n_layers = model->hp.n_layers,
                                  .core_pool = made->core,
                                  .ffn_pool = made->ffn,
                                  .experts_pool = made->experts,
                                  .decode = {.tokens_per_s = 10, .low = 8, .high = 12}};
    for (unsigned i = 0; i <= n_cards; i++) {
        made->ids[i] = ids[i];
        made->kinds[i] = i ? MB_POOL_VRAM : MB_POOL_SYSTEM;
        made->pools[i] =
            (struct mb_plan_pool){.capacity_bytes = 24 * MB_GIB, .weights_bytes = 1 << 30, .kv_bytes = 1 << 28};
    }
    assert_true(model->n_layers_all <= MAX_LAYERS);
    for (uint32_t i = 0; i < model->hp.n_layers; i++) {
        made->core[i] = 0;
        made->ffn[i] = made->experts[i] = MB_PLAN_NOWHERE;
        for (uint32_t t = 0; t < model->n_tensors; t++) {
            if (model->tensors[t].layer != (int32_t)i)
                continue;
            if (mb_emit_piece_of(&model->tensors[t]) == MB_EMIT_FFN)
                made->ffn[i] = 0;
            if (mb_emit_piece_of(&model->tensors[t]) == MB_EMIT_EXPERTS)
                made->experts[i] = 0;
        }
    }
}

static unsigned random_below(uint64_t *seed, unsigned n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((*seed >> 33) % n);
}

/* Layers in order over RAM and cards; pieces with their layer, or in RAM by one of several fashions. */
static void place(struct made *made, const struct mb_model *model, unsigned n_cards, uint64_t *seed)
{
    uint32_t n = model->hp.n_layers, begin = random_below(seed, 3) ? 0 : random_below(seed, n + 1);
    uint32_t second = n_cards > 1 ? begin + random_below(seed, n - begin + 1) : n;
    unsigned fashion = random_below(seed, 5), until = random_below(seed, n + 1), ffn_too = random_below(seed, 2);
    for (uint32_t i = 0; i < n; i++) {
        unsigned pool = i < begin ? 0 : i < second ? 1 : 2;
        int out = fashion == 0   ? 0
                  : fashion == 1 ? i < until
                  : fashion == 2 ? i >= until
                  : fashion == 3 ? (int)random_below(seed, 2)
                                 : 1;
        made->core[i] = (uint8_t)pool;
        if (made->experts[i] != MB_PLAN_NOWHERE)
            made->experts[i] = (uint8_t)(out ? 0 : pool);
        if (made->ffn[i] != MB_PLAN_NOWHERE)
            made->ffn[i] = (uint8_t)(out && ffn_too ? 0 : pool);
    }
    made->plan.output_pool = random_below(seed, 4) ? made->core[n - 1] : 0;
}

static char *emit(const struct made *made, const struct mb_model *model, const char *target)
{
    char *text = NULL;
    struct mb_err err;
    if (mb_plan_emit(&made->plan, model, target, &text, &err) != MB_OK)
        fail_msg("%s: %s", target, err.text);
    return text;
}

static void refused(const struct made *made, const struct mb_model *model, const char *target, int code,
                    const char *word)
{
    char *text = NULL;
    struct mb_err err;
    assert_int_equal(mb_plan_emit(&made->plan, model, target, &text, &err), code);
    assert_null(text);
    if (!strstr(err.text, word))
        fail_msg("%s: no word of %s", err.text, word);
}

/* ---- a shell ---- */

struct args {
    char buf[65536];
    char *arg[128];
    unsigned n;
};

/* The arguments that sh passes to the program of the command. Comments are lines that start with '#'. */
static void run_shell(const char *text, const char *program, struct args *args)
{
    const char *at = text;
    while (*at == '#') {
        const char *end = strchr(at, '\n');
        assert_non_null(end);
        if (end - at > 80)
            fail_msg("%.*s: longer than 80", (int)(end - at), at);
        at = end + 1;
    }
    assert_memory_equal(at, program, strlen(program));
    write_bytes("command.sh", "printf '%s\\0'", 13);
    FILE *file = fopen(in_dir("command.sh"), "a");
    fputs(at + strlen(program), file);
    fclose(file);
    char command[PATH_MAX + 40];
    snprintf(command, sizeof command, "cd '%s' && sh command.sh", dir);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(args->buf, 1, sizeof args->buf - 1, pipe);
    assert_int_equal(pclose(pipe), 0);
    args->buf[n] = 0;
    args->n = 0;
    for (size_t i = 0; i < n; i += strlen(args->buf + i) + 1) {
        assert_true(args->n < MB_COUNT(args->arg));
        args->arg[args->n++] = args->buf + i;
    }
}

static const char *value_of(const struct args *args, const char *flag)
{
    for (unsigned i = 0; i + 1 < args->n; i++)
        if (strcmp(args->arg[i], flag) == 0)
            return args->arg[i + 1];
    return NULL;
}

static int has(const struct args *args, const char *flag)
{
    for (unsigned i = 0; i < args->n; i++)
        if (strcmp(args->arg[i], flag) == 0)
            return 1;
    return 0;
}

/* ---- llama.cpp, as docs/emit.md says that it reads its flags ---- */

struct engine {
    unsigned ngl, n_all, split[4], n_split;
    int ik;
    regex_t rules[8];
    unsigned pool[8], n_rules;
};

static void add_rule(struct engine *engine, const char *pattern, size_t n, unsigned pool)
{
    char copy[16384];
    assert_true(n < sizeof copy && engine->n_rules < MB_COUNT(engine->rules));
    memcpy(copy, pattern, n);
    copy[n] = 0;
    assert_int_equal(regcomp(&engine->rules[engine->n_rules], copy, REG_EXTENDED | REG_NOSUB), 0);
    engine->pool[engine->n_rules++] = pool;
}

static void configure(struct engine *engine, const struct args *args, const struct mb_model *model, int ik)
{
    *engine = (struct engine){.n_all = model->n_layers_all, .ik = ik};
    engine->ngl = (unsigned)atoi(value_of(args, "-ngl"));
    const char *split = value_of(args, "-ts"), *rules = value_of(args, "-ot"), *first = value_of(args, "--n-cpu-moe");
    for (; split; split = strchr(split, ',') ? strchr(split, ',') + 1 : NULL)
        engine->split[engine->n_split++] = (unsigned)atoi(split);
    if (!engine->n_split)
        engine->split[engine->n_split++] = 1;
    if (first) {
        /* N rules, one for each layer, put together. */
        char all[8192] = "blk\\.(0";
        for (int i = 1; i < atoi(first); i++)
            snprintf(all + strlen(all), sizeof all - strlen(all), "|%d", i);
        strcat(all, ")\\.ffn_(up|down|gate|gate_up)_(ch|)exps");
        add_rule(engine, all, strlen(all), 0);
    }
    static const char all_experts[] = "\\.ffn_(up|down|gate|gate_up)_(ch|)exps";
    if (has(args, "--cpu-moe"))
        add_rule(engine, all_experts, strlen(all_experts), 0);
    while (rules) {
        size_t n = strcspn(rules, ",");
        const char *equal = memchr(rules, '=', n);
        assert_non_null(equal);
        unsigned pool = strncmp(equal, "=CUDA", 5) == 0 ? 1 + (unsigned)(equal[5] - '0') : 0;
        assert_true(pool || strncmp(equal, "=CPU", 4) == 0);
        add_rule(engine, rules, (size_t)(equal - rules), pool);
        rules = rules[n] ? rules + n + 1 : NULL;
    }
}

static void forget(struct engine *engine)
{
    for (unsigned i = 0; i < engine->n_rules; i++)
        regfree(&engine->rules[i]);
}

/* Layer n_all is the output. The fork counts it only when all layers are offloaded. */
static unsigned pool_of_layer(const struct engine *engine, unsigned layer)
{
    unsigned slots = engine->n_all + 1, active = engine->ngl < slots ? engine->ngl : slots;
    unsigned start = slots - active;
    if (engine->ik) {
        if (layer == engine->n_all && engine->ngl <= engine->n_all)
            return 0;
        start = engine->ngl < engine->n_all ? engine->n_all - engine->ngl : 0;
        if (layer == engine->n_all)
            layer = start + active - 1;
    }
    if (layer < start)
        return 0;
    float sum = 0, so_far = 0, at = (float)(layer - start) / (float)active;
    for (unsigned i = 0; i < engine->n_split; i++)
        sum += (float)engine->split[i];
    for (unsigned i = 0; i < engine->n_split; i++) {
        so_far += (float)engine->split[i];
        if (so_far / sum > at)
            return 1 + i;
    }
    fail_msg("layer %u lies on no card", layer);
    return 0;
}

static unsigned pool_of_tensor(const struct engine *engine, const char *name, int32_t layer)
{
    for (unsigned i = 0; i < engine->n_rules; i++)
        if (regexec(&engine->rules[i], name, 0, NULL, 0) == 0)
            return engine->pool[i];
    return pool_of_layer(engine, layer < 0 ? engine->n_all : (unsigned)layer);
}

static void check(const struct engine *engine, const struct made *made, const struct mb_model *model, const char *text)
{
    int any = 0;
    for (uint32_t i = 0; i < model->hp.n_layers; i++)
        any |= made->core[i] != 0;
    for (uint32_t t = 0; t < model->n_tensors; t++) {
        const struct mb_tensor *tensor = &model->tensors[t];
        enum mb_emit_piece piece = mb_emit_piece_of(tensor);
        unsigned want;
        if (tensor->layer >= (int32_t)model->hp.n_layers)
            want = 0;
        else if (tensor->layer >= 0)
            want = piece == MB_EMIT_FFN       ? made->ffn[tensor->layer]
                   : piece == MB_EMIT_EXPERTS ? made->experts[tensor->layer]
                                              : made->core[tensor->layer];
        else if (strcmp(tensor->name, "output.weight") == 0 ||
                 (model->hp.tied && strcmp(tensor->name, "token_embd.weight") == 0))
            want = made->plan.output_pool;
        else
            continue;
        if (!any)
            want = 0;
        unsigned got = pool_of_tensor(engine, tensor->name, tensor->layer);
        if (got != want)
            fail_msg("%s: %s lies in pool %u instead of %u\n%s", model->name, tensor->name, got, want, text);
    }
}

static void every_tensor_goes_where_the_plan_says(void **state)
{
    (void)state;
    size_t n_models;
    const char *const *names = mb_model_names(&n_models);
    uint64_t seed = 42;
    struct args *args = malloc(sizeof *args);
    struct made *made = malloc(sizeof *made);
    assert_true(args && made);
    for (size_t m = 0; m < n_models; m++) {
        struct mb_model *model = open_spec(names[m]);
        for (unsigned round = 0; round < 4; round++) {
            unsigned n_cards = 1 + round % 2;
            struct engine engine;
            make(made, model, n_cards);
            place(made, model, n_cards, &seed);
            int ik = round == 3;
            /* The older fork has the output with the last layer's card only when all are offloaded. */
            char *text = emit(made, model, ik ? "ik_llama.cpp" : "llama.cpp");
            run_shell(text, "llama-server", args);
            configure(&engine, args, model, ik);
            check(&engine, made, model, text);
            forget(&engine);
            mb_text_free(text);
        }
        mb_model_free(model);
    }
    free(args);
    free(made);
}

static void short_forms_are_used_where_they_say_the_same(void **state)
{
    (void)state;
    struct args args;
    struct made made;
    struct mb_model *model = open_spec("gpt-oss-120b");
    make(&made, model, 1);
    for (uint32_t i = 0; i < 36; i++) {
        made.core[i] = 1;
        made.experts[i] = i < 20 ? 0 : 1;
    }
    made.plan.output_pool = 1;
    char *text = emit(&made, model, "llama.cpp");
    run_shell(text, "llama-server", &args);
    assert_string_equal(value_of(&args, "-ngl"), "37");
    assert_string_equal(value_of(&args, "--n-cpu-moe"), "20");
    assert_string_equal(value_of(&args, "-c"), "8192");
    assert_string_equal(value_of(&args, "-t"), "8");
    assert_string_equal(value_of(&args, "-m"), "gpt-oss-120b-MXFP4.gguf");
    assert_null(value_of(&args, "-ot"));
    assert_null(value_of(&args, "-ctk"));
    assert_non_null(strstr(text, "31.6 GiB")); /* 20 of 36 layers of experts */
    mb_text_free(text);
    /* The last ones instead: only a rule can say that. */
    for (uint32_t i = 0; i < 36; i++)
        made.experts[i] = i < 20 ? 1 : 0;
    made.plan.kv_type_k = made.plan.kv_type_v = "Q8_0";
    text = emit(&made, model, "llama.cpp");
    run_shell(text, "llama-server", &args);
    assert_null(value_of(&args, "--n-cpu-moe"));
    assert_string_equal(value_of(&args, "-ot"),
                        "^blk\\.(2[0-9]|3[0-5])\\.(ffn_gate_exps|ffn_up_exps|ffn_down_exps)\\.=CPU");
    assert_string_equal(value_of(&args, "-ctk"), "q8_0");
    mb_text_free(text);
    memset(made.experts, 0, 36);
    text = emit(&made, model, "llama.cpp");
    run_shell(text, "llama-server", &args);
    assert_true(has(&args, "--cpu-moe"));
    mb_text_free(text);
    make(&made, model, 0);
    text = emit(&made, model, "llama.cpp");
    run_shell(text, "llama-server", &args);
    assert_string_equal(value_of(&args, "-ngl"), "0");
    mb_text_free(text);
    mb_model_free(model);
}

static void names_can_not_break_out(void **state)
{
    (void)state;
    static const char *const names[] = {
        "-rf.gguf",
        "with blank.gguf",
        "a'b'c.gguf",
        "$(touch pwned).gguf",
        "`touch pwned`.gguf",
        "a;touch pwned;.gguf",
        "line\ntouch pwned\n.gguf",
        "a\"b\\c.gguf",
        "#x.gguf",
        "~root.gguf",
        "\xff\xfe.gguf",
        "a\nb'$(touch pwned)'.gguf",
    };
    struct mb_arena arena = {0};
    size_t n;
    char *bytes = mb_file_read(&arena, root, "/tests/data/gguf/llama.gguf", 1 << 24, &n);
    assert_non_null(bytes);
    struct args args;
    struct made made;
    char at[PATH_MAX];
    assert_non_null(getcwd(at, sizeof at));
    assert_int_equal(chdir(dir), 0);
    for (unsigned i = 0; i < MB_COUNT(names); i++) {
        struct mb_model *model;
        write_bytes(names[i], bytes, n);
        assert_int_equal(mb_model_open(names[i], NULL, &model, NULL), MB_OK);
        make(&made, model, 1);
        made.plan.machine = "box\ntouch pwned";
        made.plan.model = "model\r\ntouch pwned";
        char *text = emit(&made, model, "llama.cpp");
        run_shell(text, "llama-server", &args);
        const char *path = value_of(&args, "-m");
        assert_true(*path != '-' && *path != '~');
        assert_string_equal(strncmp(path, "./", 2) == 0 ? path + 2 : path, names[i]);
        assert_int_not_equal(access("pwned", F_OK), 0);
        mb_text_free(text);
        text = emit(&made, model, "lmstudio");
        run_shell(text, "lms load", &args);
        assert_int_equal(args.n, 5);
        assert_int_not_equal(access("pwned", F_OK), 0);
        mb_text_free(text);
        if (strpbrk(names[i], "\n")) {
            refused(&made, model, "ollama", MB_ENOTSUP, "rename");
        } else {
            text = emit(&made, model, "ollama");
            assert_non_null(strstr(text, "\nFROM ./"));
            mb_text_free(text);
        }
        refused(&made, model, "vllm", MB_ENOTSUP, "GGUF");
        mb_model_free(model);
    }
    assert_int_equal(chdir(at), 0);
    mb_arena_free(&arena);
}

static void other_engines_say_what_they_can_not(void **state)
{
    (void)state;
    struct made made;
    struct args args;
    struct mb_model *model = open_spec("Qwen3-30B-A3B@Q4_K_M");
    make(&made, model, 1);
    for (uint32_t i = 0; i < 48; i++)
        made.core[i] = 1;
    made.plan.output_pool = 1;
    refused(&made, model, "ollama", MB_ENOTSUP, "llama.cpp");
    refused(&made, model, "lm studio", MB_ENOTSUP, "llama.cpp");
    refused(&made, model, "vllm", MB_ENOTSUP, "BF16");
    refused(&made, model, "mlx", MB_ENOTSUP, "Apple");
    refused(&made, model, "gnu emacs", MB_ENAME, "lmstudio");
    made.plan.fits = 0;
    refused(&made, model, "llama.cpp", MB_EINVAL, "fit");
    made.plan.fits = 1;
    memcpy(made.experts, made.core, 48);
    char *text = emit(&made, model, "ollama");
    assert_non_null(strstr(text, "PARAMETER num_gpu 49\n"));
    assert_non_null(strstr(text, "PARAMETER num_ctx 8192\n"));
    assert_non_null(strstr(text, "FROM ./Qwen3-30B-A3B-Q4_K_M.gguf\n"));
    mb_text_free(text);
    text = emit(&made, model, "lmstudio");
    run_shell(text, "lms load", &args);
    assert_string_equal(value_of(&args, "--gpu"), "max");
    mb_text_free(text);
    memset(made.core, 0, 12);
    memset(made.experts, 0, 12);
    text = emit(&made, model, "ollama");
    assert_non_null(strstr(text, "PARAMETER num_gpu 37\n"));
    mb_text_free(text);
    text = emit(&made, model, "lmstudio");
    run_shell(text, "lms load", &args);
    assert_string_equal(value_of(&args, "--gpu"), "0.750");
    mb_text_free(text);
    made.plan.kv_type_k = "Q5_1";
    refused(&made, model, "ollama", MB_ENOTSUP, "Q8_0");
    /* Layers out of order. */
    made.core[40] = 0;
    refused(&made, model, "llama.cpp", MB_ENOTSUP, "layer 40");
    mb_model_free(model);
    model = open_spec("Qwen3-8B@BF16");
    make(&made, model, 2);
    for (uint32_t i = 0; i < 36; i++)
        made.core[i] = made.ffn[i] = (uint8_t)(1 + i / 18);
    made.plan.output_pool = 2;
    made.pools[0].weights_bytes = 0;
    made.pools[1].weights_bytes = made.pools[2].weights_bytes = 8ull << 30;
    text = emit(&made, model, "vllm");
    run_shell(text, "vllm serve", &args);
    assert_string_equal(args.arg[0], "Qwen/Qwen3-8B");
    assert_string_equal(value_of(&args, "--tensor-parallel-size"), "2");
    assert_string_equal(value_of(&args, "--gpu-memory-utilization"), "0.36");
    assert_null(value_of(&args, "--cpu-offload-gb"));
    mb_text_free(text);
    mb_model_free(model);
    /* One unified pool: a Mac. */
    model = open_spec("Qwen3-8B@Q4_K_M");
    make(&made, model, 0);
    made.kinds[0] = MB_POOL_UNIFIED;
    made.plan.engine = "llama.cpp:metal";
    made.raises[0] = "sudo sysctl iogpu.wired_limit_mb=30000";
    made.pools[0].used_bytes = (uint64_t)(23.5 * MB_GIB);
    text = emit(&made, model, "mlx");
    assert_non_null(strstr(text, "\nmlx_lm.server --model Qwen3-8B-mlx-4bit\n"));
    assert_non_null(
        strstr(text, "mlx_lm.convert --hf-path Qwen/Qwen3-8B -q --q-bits 4 --mlx-path Qwen3-8B-mlx-4bit &&\n"));
    assert_non_null(strstr(text, "iogpu.wired_limit_mb=30000"));
    mb_text_free(text);
    text = emit(&made, model, "llama.cpp");
    run_shell(text, "llama-server", &args);
    assert_string_equal(value_of(&args, "-ngl"), "37");
    assert_null(value_of(&args, "-t"));
    assert_non_null(strstr(text, "iogpu.wired_limit_mb=30000"));
    mb_text_free(text);
    mb_model_free(model);
}

int main(int argc, char **argv)
{
    root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_goes_where_the_plan_says),
        cmocka_unit_test(short_forms_are_used_where_they_say_the_same),
        cmocka_unit_test(names_can_not_break_out),
        cmocka_unit_test(other_engines_say_what_they_can_not),
    };
    return cmocka_run_group_tests_name("emit", tests, make_dir, remove_dir);
}
