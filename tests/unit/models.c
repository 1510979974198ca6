/* SPDX-License-Identifier: MIT */
/* Suite for the model as a whole: the catalog against another implementation and against published sizes; files, each
 * catalog model written as the header of a GGUF file and read back; hostile metadata. */
#include "base/base.h"
#include "model/arch.h"
#include "model/gguf.h"
#include "model/open.h"
#include "model/tape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *root;

static struct mb_model *open_spec(const char *spec)
{
    struct mb_model *model;
    struct mb_err err;
    if (mb_model_open(spec, NULL, &model, &err) != MB_OK)
        fail_msg("%s", err.text);
    return model;
}

/* ---- the catalog ---- */

/* What the other implementation does not count, or counts otherwise; docs/models.md, "the second count". */
static int64_t explained(const struct mb_model *model)
{
    int64_t bytes = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const struct mb_tensor *tensor = &model->tensors[i];
        if (tensor->rule == MB_READ_TIED) /* the row that is looked up, beside the head */
            bytes += (int64_t)(tensor->bytes / tensor->ne[1]);
        if (strcmp(tensor->name, "rope_factors_short.weight") == 0) /* one of the two */
            bytes -= (int64_t)tensor->bytes;
        size_t n = strlen(tensor->name); /* scales of experts that are not chosen */
        if (n > 20 && strcmp(tensor->name + n - 20, ".ffn_down_exps.scale") == 0)
            bytes -= (int64_t)(tensor->bytes - tensor->bytes * model->hp.n_expert_used / model->hp.n_expert);
    }
    return bytes;
}

static void the_second_count(void **state)
{
    (void)state;
    struct mb_arena arena = {0};
    char *text = mb_file_read(&arena, root, "/tests/data/models/bytes.csv", 1 << 16, NULL), *save = NULL;
    unsigned n = 0;
    assert_non_null(text);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char name[100], quant[20], spec[130];
        uint64_t v[9];
        if (sscanf(line, "%99[^,],%19[^,],%" SCNu64 ",%" SCNu64 ",%" SCNu64 ",%" SCNu64 ",%" SCNu64 ",%" SCNu64 ",%" SCNu64
                         ",%" SCNu64 ",%" SCNu64,
                   name, quant, v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7, v + 8) != 11)
            continue;
        for (unsigned i = 0; i < 2; i++) {
            snprintf(spec, sizeof(spec), "%s@%s", name, i ? "BF16" : quant);
            struct mb_model *model = open_spec(spec);
            struct mb_traffic traffic;
            struct mb_kv_size kv;
            assert_int_equal(mb_model_traffic(model, 1, 0, NULL, &traffic, NULL), MB_OK);
            assert_int_equal(mb_model_kv_size(model, 4096, NULL, &kv, NULL), MB_OK);
            if (model->resident_bytes != v[2 * i] || model->n_tensors != v[4] ||
                (int64_t)(traffic.weights_bytes - v[2 * i + 1]) != explained(model) || kv.bytes_per_token != v[5] ||
                kv.state_bytes != v[6] || kv.window_bytes_per_cell != v[7] || kv.window != v[8])
                fail_msg("%s: %" PRIu64 " bytes, %" PRIu64 " read, %u tensors, kv %" PRIu64 ", state %" PRIu64 ", window %" PRIu64
                         " x %u; the line says %s",
                         spec, model->resident_bytes, traffic.weights_bytes, model->n_tensors, kv.bytes_per_token,
                         kv.state_bytes, kv.window_bytes_per_cell, kv.window, line);
            mb_model_free(model);
        }
        n++;
    }
    assert_int_equal(n, 109);
    mb_arena_free(&arena);
}

static void published_sizes(void **state)
{
    (void)state;
    unsigned n = 0, within_1 = 0, within_02 = 0, n_params = 0;
    const char *text;
    for (size_t i = 0; (text = mb_model_catalog_text(i)); i++) {
        struct mb_err err;
        json_t *entry = mb_json_parse(text, strlen(text), "entry", &err), *size;
        assert_non_null(entry);
        size_t j;
        json_array_foreach(json_object_get(entry, "sizes"), j, size) {
            if (json_is_true(json_object_get(size, "other_mix")))
                continue; /* the maker's own mix: told in the entry, not expected to agree */
            const char *layout = json_string_value(json_object_get(size, "layout"));
            const char *era = json_string_value(json_object_get(size, "era"));
            struct mb_catalog_variant variant = {
                .quant = {.imatrix = json_is_true(json_object_get(size, "imatrix")), .before_2026_03 = era != NULL},
                .old_ssm_in = layout && strcmp(layout, "ssm_in") == 0,
                .old_kv_b = layout && strcmp(layout, "attn_kv_b") == 0};
            char spec[130];
            snprintf(spec, sizeof(spec), "%s@%s", json_string_value(json_object_get(entry, "name")),
                     json_string_value(json_object_get(size, "quant")));
            struct mb_model *model;
            if (mb_model_catalog_variant(spec, &variant, &model, &err) != MB_OK)
                fail_msg("%s", err.text);
            double error = fabs((double)model->resident_bytes / MB_GIB / json_number_value(json_object_get(size, "gib")) - 1);
            n++;
            within_1 += error <= 0.01;
            within_02 += error <= 0.002;
            if (error > 0.03)
                fail_msg("%s: off by %.2f %%", spec, 100 * error);
            json_t *params = json_object_get(size, "params_b");
            n_params += params && fabs((double)model->params / 1e9 / json_number_value(params) - 1) < 0.0035;
            mb_model_free(model);
        }
        json_decref(entry);
    }
    assert_int_equal(n, 75);
    assert_true(within_1 >= 74);
    assert_true(within_02 >= 67);
    assert_true(n_params >= 70);
}

static void names_are_forgiving(void **state)
{
    (void)state;
    struct mb_model *model = open_spec("qwen3 8b@q4_k_m");
    assert_string_equal(model->name, "Qwen3-8B");
    assert_string_equal(model->quant, "Q4_K_M");
    mb_model_free(model);
    model = open_spec("gpt-oss-20b");
    assert_string_equal(model->quant, "MXFP4");
    mb_model_free(model);
    model = open_spec("Qwen3-30B-A3B@UD-Q4_K_XL");
    assert_true(model->size_uncertainty == 0.10);
    mb_model_free(model);
    static const struct {
        const char *spec;
        int code;
        const char *says;
    } wrong[] = {
        {"Qwen3-8C", MB_ENAME, "Qwen3-8B"},
        {"Qwen3-8B@Q4_K_X", MB_ENAME, "Q4_K_M"},
        {"Qwen3-8B@", MB_ENAME, "quantization"},
        {"@Q4_K_M", MB_ENAME, "NAME@QUANT"},
        {"", MB_EINVAL, "GGUF"},
        {"/nonexistent/model.gguf", MB_ENOENT, "model.gguf"},
        {"nonexistent.gguf", MB_ENOENT, "nonexistent.gguf"},
        {"xyzzy plugh plover", MB_ENAME, "xyzzy"},
    };
    for (unsigned i = 0; i < MB_COUNT(wrong); i++) {
        struct mb_err err = {0};
        int code = mb_model_open(wrong[i].spec, NULL, &model, &err);
        if (code != wrong[i].code || err.code != code || !strstr(err.text, wrong[i].says))
            fail_msg("'%s': %d, %s", wrong[i].spec, code, err.text);
    }
}

/* Every model of the catalog at five quantizations, as a planner asks for them. */
static void every_model_has_its_traffic(void **state)
{
    (void)state;
    static const char *const quants[] = {"Q4_K_M", "Q8_0", "IQ4_XS", "Q3_K_M", "BF16"};
    size_t n;
    const char *const *names = mb_model_names(&n);
    for (size_t i = 0; i < n * MB_COUNT(quants); i++) {
        char spec[130];
        struct mb_traffic traffic;
        snprintf(spec, sizeof(spec), "%s@%s", names[i / MB_COUNT(quants)], quants[i % MB_COUNT(quants)]);
        struct mb_model *model = open_spec(spec);
        assert_int_equal(mb_model_traffic(model, 1, 4096, NULL, &traffic, NULL), MB_OK);
        assert_true(traffic.weights_bytes > 0 && traffic.flops > 0);
        mb_model_free(model);
    }
}

/* ---- files ---- */

struct writer {
    unsigned char *bytes;
    size_t n, size;
    uint64_t n_kv;
    const char *arch;
};

static void put(struct writer *w, const void *bytes, size_t n)
{
    if (w->n + n > w->size) {
        w->size = (w->n + n) * 2;
        w->bytes = realloc(w->bytes, w->size);
        assert_non_null(w->bytes);
    }
    memcpy(w->bytes + w->n, bytes, n);
    w->n += n;
}

static void put_u32(struct writer *w, uint32_t value)
{
    put(w, &value, 4);
}

static void put_u64(struct writer *w, uint64_t value)
{
    put(w, &value, 8);
}

static void put_text(struct writer *w, const char *text)
{
    put_u64(w, strlen(text));
    put(w, text, strlen(text));
}

static void begin(struct writer *w, const char *arch)
{
    memset(w, 0, sizeof(*w));
    put(w, "GGUF", 4);
    put_u32(w, 3);
    put_u64(w, 0);
    put_u64(w, 0);
    w->arch = arch;
    put_text(w, "general.architecture");
    put_u32(w, MB_GGUF_TEXT);
    put_text(w, arch);
    w->n_kv = 1;
}

static void key(struct writer *w, const char *name)
{
    char full[128];
    snprintf(full, sizeof(full), "%s.%s", w->arch, name);
    put_text(w, full);
    w->n_kv++;
}

static void number(struct writer *w, const char *name, uint64_t value)
{
    if (!value)
        return;
    key(w, name);
    put_u32(w, MB_GGUF_U64);
    put_u64(w, value);
}

static void list(struct writer *w, const char *name, const uint32_t *values, uint32_t n)
{
    key(w, name);
    put_u32(w, MB_GGUF_ARRAY);
    put_u32(w, MB_GGUF_U32);
    put_u64(w, n);
    for (uint32_t i = 0; i < n; i++)
        put_u32(w, values[i]);
}

struct row {
    const char *name;
    uint32_t type;
    uint64_t ne[3];
};

static void tensor(struct writer *w, const char *name, uint32_t type, const uint64_t *ne, unsigned n_dims, uint64_t *offset)
{
    uint64_t bytes, shape[4] = {1, 1, 1, 1};
    memcpy(shape, ne, n_dims * sizeof(*ne));
    assert_int_equal(mb_type_bytes(type, shape, n_dims, &bytes), MB_OK);
    put_text(w, name);
    put_u32(w, n_dims);
    put(w, ne, n_dims * sizeof(*ne));
    put_u32(w, type);
    put_u64(w, *offset);
    *offset += (bytes + 31) / 32 * 32;
}

static int finish(struct writer *w, uint64_t n_tensors, struct mb_model **out, struct mb_err *err)
{
    memcpy(w->bytes + 8, &n_tensors, 8);
    memcpy(w->bytes + 16, &w->n_kv, 8);
    static const unsigned char zeros[64];
    put(w, zeros, 64);
    struct mb_gguf *gguf;
    int code = mb_gguf_open_bytes(w->bytes, w->n, MB_SOURCE_UNKNOWN, "test.gguf", &gguf, err);
    free(w->bytes);
    if (code)
        return code;
    code = mb_model_from_gguf(gguf, "test.gguf", out, err);
    mb_gguf_close(gguf);
    return code;
}

/* Write the metadata that a converter would write for a catalog model, and its tensors. */
static struct mb_model *through_a_file(const struct mb_model *model)
{
    const struct mb_hparams *hp = &model->hp;
    struct writer w;
    uint32_t values[MB_LAYERS_MAX] = {0}, n = model->n_layers_all;
    int windows = 0, per_layer_kv = 0;
    begin(&w, model->arch_name);
    number(&w, "block_count", n);
    number(&w, "nextn_predict_layers", hp->n_nextn);
    number(&w, "embedding_length", hp->n_embd);
    number(&w, "context_length", hp->context_max);
    number(&w, "vocab_size", hp->n_vocab);
    for (uint32_t i = 0; i < n; i++) {
        windows |= model->layers[i].window > 0;
        per_layer_kv |= model->layers[i].n_head_kv != model->layers[0].n_head_kv;
        per_layer_kv |= model->layers[i].n_head != model->layers[0].n_head;
    }
    per_layer_kv |= model->arch->flags & MB_ARCH_KV_PER_LAYER;
    if (per_layer_kv) {
        for (uint32_t i = 0; i < n; i++)
            values[i] = model->layers[i].n_head;
        list(&w, "attention.head_count", values, n);
        for (uint32_t i = 0; i < n; i++)
            values[i] = model->layers[i].mixer == MB_MIX_ATTENTION ? model->layers[i].n_head_kv : 0;
        if (!hp->kv_lora)
            list(&w, "attention.head_count_kv", values, n);
    } else {
        number(&w, "attention.head_count", hp->n_head);
        number(&w, "attention.head_count_kv", hp->kv_lora ? 1 : model->layers[0].n_head_kv);
    }
    if (hp->kv_lora) {
        number(&w, "attention.kv_lora_rank", hp->kv_lora);
        number(&w, "attention.key_length", hp->kv_lora + hp->rope);
        number(&w, "attention.value_length", hp->kv_lora);
        number(&w, "attention.key_length_mla", hp->nope + hp->rope);
        number(&w, "attention.value_length_mla", hp->v_mla);
        number(&w, "rope.dimension_count", hp->rope);
    } else {
        number(&w, "attention.key_length", hp->head_k);
        number(&w, "attention.value_length", hp->head_v ? hp->head_v : hp->head_k);
        number(&w, "attention.key_length_swa", hp->head_k_window);
        number(&w, "attention.value_length_swa", hp->head_k_window);
    }
    if (windows) {
        number(&w, "attention.sliding_window", hp->window);
        for (uint32_t i = 0; i < n; i++)
            values[i] = model->layers[i].window > 0;
        if (!hp->o_groups && hp->n_layers % 2) /* half of the models: by the family's own period */
            list(&w, "attention.sliding_window_pattern", values, n);
        else if (!hp->o_groups && (strcmp(model->arch_name, "gemma4") == 0 || !model->arch->swa_period))
            list(&w, "attention.sliding_window_pattern", values, n);
    }
    number(&w, "attention.shared_kv_layers", hp->shared_kv_layers);
    number(&w, "expert_count", hp->n_expert);
    number(&w, "expert_used_count", hp->n_expert_used);
    number(&w, "attention.indexer.head_count", hp->index_heads);
    number(&w, "attention.indexer.key_length", hp->index_dim);
    number(&w, "attention.indexer.top_k", hp->index_top_k);
    number(&w, "attention.output_lora_rank", hp->o_lora);
    if (hp->o_groups) {
        for (uint32_t i = 0; i < n; i++)
            values[i] = model->layers[i].compress_ratio;
        list(&w, "attention.compress_ratios", values, n);
    }
    number(&w, "ssm.conv_kernel", hp->ssm_conv);
    number(&w, "ssm.inner_size", hp->ssm_inner);
    number(&w, "ssm.state_size", hp->ssm_state);
    number(&w, "ssm.group_count", hp->ssm_groups);
    number(&w, "kda.head_dim", model->arch->recurrent == MB_MIX_KDA ? hp->linear_dim : 0);
    number(&w, "shortconv.l_cache", hp->conv_cache);
    uint64_t offset = 0;
    for (uint32_t i = model->n_tensors; i-- > 0;) /* in another order than the catalog's */
        tensor(&w, model->tensors[i].name, model->tensors[i].type, model->tensors[i].ne, model->tensors[i].n_dims, &offset);
    struct mb_model *copy;
    struct mb_err err;
    if (finish(&w, model->n_tensors, &copy, &err) != MB_OK)
        fail_msg("%s: %s", model->name, err.text);
    return copy;
}

static void a_file_says_the_same_as_the_catalog(void **state)
{
    (void)state;
    size_t n;
    const char *const *names = mb_model_names(&n);
    for (size_t i = 0; i < n; i++) {
        struct mb_model *model = open_spec(names[i]), *copy = through_a_file(model);
        struct mb_kv_size kv[2];
        assert_int_equal(model->n_tensors, copy->n_tensors);
        assert_int_equal(model->resident_bytes, copy->resident_bytes);
        assert_int_equal(mb_model_kv_size(model, 8192, NULL, &kv[0], NULL), MB_OK);
        assert_int_equal(mb_model_kv_size(copy, 8192, NULL, &kv[1], NULL), MB_OK);
        if (memcmp(&kv[0], &kv[1], sizeof(kv[0])) != 0)
            fail_msg("%s: cache of %" PRIu64 " B per token, window %" PRIu64 ", state %" PRIu64 "; read back %" PRIu64
                     ", %" PRIu64 ", %" PRIu64,
                     names[i], kv[0].bytes_per_token, kv[0].window_bytes_per_cell, kv[0].state_bytes, kv[1].bytes_per_token,
                     kv[1].window_bytes_per_cell, kv[1].state_bytes);
        for (uint64_t depth = 0; depth <= 100000; depth += 50000) {
            struct mb_traffic t[2];
            assert_int_equal(mb_model_traffic(model, 1, depth, NULL, &t[0], NULL), MB_OK);
            assert_int_equal(mb_model_traffic(copy, 1, depth, NULL, &t[1], NULL), MB_OK);
            for (unsigned j = 0; j < MB_N_ROLES; j++) {
                if (t[0].by_role[j] != t[1].by_role[j])
                    fail_msg("%s: %s: %" PRIu64 ", read back %" PRIu64, names[i], mb_role_name(j), t[0].by_role[j],
                             t[1].by_role[j]);
            }
            if (t[0].kv_read_bytes != t[1].kv_read_bytes || t[0].state_read_bytes != t[1].state_read_bytes ||
                t[0].kv_write_bytes != t[1].kv_write_bytes)
                fail_msg("%s at %" PRIu64 ": cache %" PRIu64 ", read back %" PRIu64, names[i], depth, t[0].kv_read_bytes,
                         t[1].kv_read_bytes);
        }
        if (copy->n_warnings)
            fail_msg("%s: %s", names[i], copy->warnings[0]);
        mb_model_free(copy);
        mb_model_free(model);
    }
}

/* A small llama: two layers of 64 wide, 4 heads of 16, 2 of them KV. */
struct small {
    struct writer w;
    uint64_t n_tensors, offset;
};

static void small_keys(struct small *s, const char *arch)
{
    memset(s, 0, sizeof(*s));
    begin(&s->w, arch);
}

static void small_tensor(struct small *s, const char *name, uint64_t ne0, uint64_t ne1, uint64_t ne2)
{
    uint64_t ne[3] = {ne0, ne1, ne2};
    tensor(&s->w, name, MB_TYPE_F16, ne, ne2 ? 3 : ne1 ? 2 : 1, &s->offset);
    s->n_tensors++;
}

static void small_tensors(struct small *s)
{
    small_tensor(s, "token_embd.weight", 64, 100, 0);
    small_tensor(s, "output.weight", 64, 100, 0);
    for (unsigned i = 0; i < 2; i++) {
        static const struct {
            const char *name;
            uint64_t ne[2];
        } rows[] = {{"attn_q", {64, 64}}, {"attn_k", {64, 32}}, {"attn_v", {64, 32}}, {"attn_output", {64, 64}},
                    {"ffn_up", {64, 128}}, {"ffn_gate", {64, 128}}, {"ffn_down", {128, 64}}};
        for (unsigned j = 0; j < MB_COUNT(rows); j++) {
            char name[64];
            snprintf(name, sizeof(name), "blk.%u.%s.weight", i, rows[j].name);
            small_tensor(s, name, rows[j].ne[0], rows[j].ne[1], 0);
        }
    }
}

static const struct {
    const char *key;
    uint64_t value;
} sound[] = {{"block_count", 2}, {"embedding_length", 64}, {"attention.head_count", 4}, {"attention.head_count_kv", 2}};

static void hostile_metadata_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint64_t value;
        const char *says; /* NULL: accepted */
    } faults[] = {
        {"context_length", 4096, NULL},
        {"block_count", UINT64_C(1) << 63, "block_count"},
        {"block_count", 0, "block_count"},
        {"block_count", 4000000000, "block_count"},
        {"nextn_predict_layers", 2, "block_count"},
        {"nextn_predict_layers", UINT64_MAX, "nextn_predict_layers"},
        {"embedding_length", 0, "embedding_length"},
        {"embedding_length", UINT64_C(1) << 40, "embedding_length"},
        {"attention.head_count_kv", 0, "KV heads"},
        {"attention.head_count", 0, "heads"},
        {"attention.head_count", 100000, "attention.head_count"},
        {"attention.key_length", 1u << 30, "attention.key_length"},
        {"attention.key_length", UINT64_MAX, "key_length"},
        {"attention.shared_kv_layers", 2, "shared_kv_layers"},
        {"expert_count", 4000000000, "expert_count"},
        {"expert_used_count", 3, "expert_used_count"},
        {"attention.sliding_window", 4294967295, "window"},
        {"vocab_size", UINT64_C(1) << 33, "vocab_size"},
    };
    for (unsigned i = 0; i < MB_COUNT(faults); i++) {
        struct small s;
        small_keys(&s, "llama");
        for (unsigned j = 0; j < MB_COUNT(sound); j++) {
            if (strcmp(sound[j].key, faults[i].key) != 0)
                number(&s.w, sound[j].key, sound[j].value);
        }
        key(&s.w, faults[i].key);
        put_u32(&s.w, MB_GGUF_U64);
        put_u64(&s.w, faults[i].value);
        small_tensors(&s);
        struct mb_model *model = NULL;
        struct mb_err err = {0};
        int code = finish(&s.w, s.n_tensors, &model, &err);
        if (!faults[i].says) {
            if (code)
                fail_msg("%s", err.text);
            mb_model_free(model);
        } else if (code != MB_EFORMAT || !strstr(err.text, faults[i].says)) {
            fail_msg("%s = %" PRIu64 ": %d, %s", faults[i].key, faults[i].value, code, err.text);
        }
    }
    /* Lists that are shorter than the layers. */
    static const char *const lists[] = {"attention.head_count", "attention.head_count_kv", "feed_forward_length"};
    for (unsigned i = 0; i < MB_COUNT(lists); i++) {
        struct small s;
        const uint32_t one = 4;
        small_keys(&s, "llama");
        for (unsigned j = 0; j < MB_COUNT(sound); j++) {
            if (strcmp(sound[j].key, lists[i]) != 0)
                number(&s.w, sound[j].key, sound[j].value);
        }
        list(&s.w, lists[i], &one, 1);
        small_tensors(&s);
        struct mb_model *model = NULL;
        struct mb_err err = {0};
        assert_int_equal(finish(&s.w, s.n_tensors, &model, &err), MB_EFORMAT);
        assert_non_null(strstr(err.text, lists[i]));
    }
    /* A tensor of a layer that no model has, and experts without a count. */
    struct small s;
    struct mb_model *model = NULL;
    struct mb_err err = {0};
    small_keys(&s, "llama");
    for (unsigned j = 0; j < MB_COUNT(sound); j++)
        number(&s.w, sound[j].key, sound[j].value);
    small_tensors(&s);
    small_tensor(&s, "blk.123456789.attn_q.weight", 64, 64, 0);
    assert_int_equal(finish(&s.w, s.n_tensors, &model, &err), MB_EFORMAT);
    assert_non_null(strstr(err.text, "blk.123456789"));
    small_keys(&s, "qwen35");
    for (unsigned j = 0; j < MB_COUNT(sound); j++)
        number(&s.w, sound[j].key, sound[j].value);
    small_tensors(&s);
    small_tensor(&s, "blk.1.ssm_a", 64, 0, 0);
    assert_int_equal(finish(&s.w, s.n_tensors, &model, &err), MB_EFORMAT);
    assert_non_null(strstr(err.text, "ssm.conv_kernel"));
}

static void a_stranger_is_counted_by_its_tensors(void **state)
{
    (void)state;
    struct small s;
    struct mb_model *model;
    struct mb_err err;
    struct mb_traffic traffic;
    small_keys(&s, "frobnicator");
    for (unsigned j = 0; j < MB_COUNT(sound); j++)
        number(&s.w, sound[j].key, sound[j].value);
    number(&s.w, "expert_count", 4);
    number(&s.w, "expert_used_count", 1);
    small_tensors(&s);
    small_tensor(&s, "blk.1.ffn_up_exps.weight", 64, 32, 4);
    small_tensor(&s, "blk.1.zork.weight", 64, 3, 0);
    small_tensor(&s, "v.patch.weight", 64, 1000, 0);
    small_tensor(&s, "blk.7.attn_q.weight", 64, 1000, 0);
    if (finish(&s.w, s.n_tensors, &model, &err) != MB_OK)
        fail_msg("%s", err.text);
    assert_int_equal(mb_model_traffic(model, 1, 9, NULL, &traffic, NULL), MB_OK);
    uint64_t layers = 2 * 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3);
    assert_int_equal(traffic.weights_bytes, 2 * 64 + 2 * 6400 + layers + 2 * 64 * 32 + 2 * 64 * 3);
    assert_int_equal(traffic.by_role[MB_ROLE_ROUTED_EXPERTS], 2 * 64 * 32);
    assert_int_equal(traffic.by_role[MB_ROLE_OTHER], 2 * 64 * 3);
    assert_int_equal(traffic.by_role[MB_ROLE_EMBEDDING], 2 * 64);
    assert_int_equal(traffic.kv_read_bytes, 10 * 2 * 2 * 32 * 2);
    assert_null(model->arch);
    int told = 0;
    for (unsigned i = 0; i < model->n_warnings; i++)
        told += strstr(model->warnings[i], "frobnicator") != NULL || strstr(model->warnings[i], "zork") != NULL;
    assert_int_equal(told, 2);
    mb_model_free(model);
}

static void old_files_are_understood(void **state)
{
    (void)state;
    /* Mixtral of 2023: one tensor per expert. */
    struct small s;
    struct mb_model *model;
    struct mb_err err;
    struct mb_traffic traffic;
    small_keys(&s, "llama");
    for (unsigned j = 0; j < MB_COUNT(sound); j++)
        number(&s.w, sound[j].key, sound[j].value);
    number(&s.w, "expert_count", 4);
    number(&s.w, "expert_used_count", 2);
    small_tensor(&s, "token_embd.weight", 64, 100, 0); /* tied: no output.weight */
    for (unsigned i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof(name), "blk.0.ffn_gate.%u.weight", i);
        small_tensor(&s, name, 64, 128, 0);
    }
    small_tensor(&s, "blk.0.attn_qkv.weight", 64, 128, 0); /* fused */
    if (finish(&s.w, s.n_tensors, &model, &err) != MB_OK)
        fail_msg("%s", err.text);
    assert_int_equal(mb_model_traffic(model, 1, 0, NULL, &traffic, NULL), MB_OK);
    assert_int_equal(traffic.by_role[MB_ROLE_ROUTED_EXPERTS], 2 * 2 * 64 * 128);
    assert_int_equal(traffic.by_role[MB_ROLE_OUTPUT], 2 * 6400);
    assert_int_equal(traffic.by_role[MB_ROLE_EMBEDDING], 2 * 64);
    assert_int_equal(traffic.kv_read_bytes, 2 * 2 * 32); /* layer 1 has no attention */
    mb_model_free(model);
    /* MLA before 2025: no *_mla keys, so keys and values of all heads are kept. */
    small_keys(&s, "deepseek2");
    number(&s.w, "block_count", 1);
    number(&s.w, "embedding_length", 64);
    number(&s.w, "attention.head_count", 4);
    number(&s.w, "attention.head_count_kv", 4);
    number(&s.w, "attention.key_length", 24);
    number(&s.w, "attention.value_length", 16);
    number(&s.w, "attention.kv_lora_rank", 32);
    small_tensor(&s, "token_embd.weight", 64, 100, 0);
    small_tensor(&s, "blk.0.attn_kv_a_mqa.weight", 64, 40, 0);
    small_tensor(&s, "blk.0.attn_kv_b.weight", 32, 128, 0);
    if (finish(&s.w, s.n_tensors, &model, &err) != MB_OK)
        fail_msg("%s", err.text);
    assert_int_equal(mb_model_traffic(model, 1, 0, NULL, &traffic, NULL), MB_OK);
    assert_int_equal(traffic.kv_read_bytes, 2 * 4 * (24 + 16));
    mb_model_free(model);
}

static void lists_may_begin_with_zero(void **state)
{
    (void)state;
    /* Nemotron-H writes heads per layer, 0 for layers without attention; the head size is then that of the others. */
    struct small s;
    struct mb_model *model;
    struct mb_err err;
    struct mb_traffic traffic;
    const uint32_t heads[] = {0, 4}, kv[] = {0, 2};
    small_keys(&s, "llama");
    number(&s.w, "block_count", 2);
    number(&s.w, "embedding_length", 64);
    list(&s.w, "attention.head_count", heads, 2);
    list(&s.w, "attention.head_count_kv", kv, 2);
    small_tensor(&s, "token_embd.weight", 64, 100, 0);
    small_tensor(&s, "blk.0.ffn_up.weight", 64, 100, 0);
    small_tensor(&s, "blk.1.attn_qkv.weight", 64, 128, 0);
    if (finish(&s.w, s.n_tensors, &model, &err) != MB_OK)
        fail_msg("%s", err.text);
    assert_int_equal(mb_model_traffic(model, 1, 0, NULL, &traffic, NULL), MB_OK);
    assert_int_equal(traffic.kv_read_bytes, 2 * 2 * 2 * 16);
    mb_model_free(model);
}

/* Tensors that contradict the metadata are believed, and that is said once, however many layers there are. */
static void tensors_are_believed(void **state)
{
    (void)state;
    struct small s;
    struct mb_model *model;
    struct mb_err err;
    struct mb_traffic traffic;
    small_keys(&s, "llama");
    for (unsigned j = 0; j < MB_COUNT(sound); j++)
        number(&s.w, sound[j].key, sound[j].value * (strcmp(sound[j].key, "attention.head_count_kv") == 0 ? 2 : 1));
    small_tensors(&s);
    if (finish(&s.w, s.n_tensors, &model, &err) != MB_OK)
        fail_msg("%s", err.text);
    assert_int_equal(mb_model_traffic(model, 1, 0, NULL, &traffic, NULL), MB_OK);
    assert_int_equal(traffic.kv_read_bytes, 2 * 2 * 32 * 2);
    assert_int_equal(model->n_warnings, 1);
    mb_model_free(model);
}

static void json_has_the_promised_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {"name",  "arch",   "quant",  "params", "active_params", "file_bytes", "resident_bytes",
                                       "unread_bytes", "size_uncertainty", "kv_bytes_per_token", "traffic", "types", "layers",
                                       "warnings", "context_max", "state_bytes"};
    struct mb_model *model = open_spec("GLM-4.5-Air");
    struct mb_err err;
    char *text;
    assert_int_equal(mb_model_json(model, NULL, &text, &err), MB_OK);
    json_t *root_object = mb_json_parse(text, strlen(text), "json", &err), *value, *layer;
    const char *name;
    assert_non_null(root_object);
    for (unsigned i = 0; i < MB_COUNT(keys); i++) {
        if (!json_object_get(root_object, keys[i]))
            fail_msg("no %s", keys[i]);
    }
    json_int_t sum = 0, layers = 0, types = 0;
    json_t *traffic = json_object_get(root_object, "traffic");
    json_object_foreach(json_object_get(traffic, "by_role"), name, value)
        sum += json_integer_value(value);
    assert_int_equal(sum, json_integer_value(json_object_get(traffic, "weights_bytes")));
    json_object_foreach(json_object_get(root_object, "types"), name, value)
        types += json_integer_value(value);
    assert_int_equal(types, model->resident_bytes);
    assert_int_equal(json_array_size(json_object_get(root_object, "layers")), 47);
    size_t i;
    json_array_foreach(json_object_get(root_object, "layers"), i, layer)
        layers += json_integer_value(json_object_get(layer, "kv_bytes_per_token"));
    assert_int_equal(layers, json_integer_value(json_object_get(root_object, "kv_bytes_per_token")));
    json_t *at = json_object_get(json_object_get(traffic, "kv_bytes_at"), "4096");
    assert_int_equal(json_integer_value(at), 4097 * layers);
    layer = json_array_get(json_object_get(root_object, "layers"), 46);
    assert_string_equal(json_string_value(json_object_get(layer, "kind")), "nextn");
    assert_int_equal(json_integer_value(json_object_get(layer, "weights_bytes")), 0);
    assert_int_equal(json_integer_value(json_object_get(layer, "resident_bytes")),
                     json_integer_value(json_object_get(root_object, "unread_bytes")));
    json_decref(root_object);
    mb_text_free(text);
    struct mb_model_info info;
    mb_model_get_info(model, &info);
    struct mb_tensor_info one;
    uint64_t bytes = 0, read = 0;
    for (uint32_t t = 0; mb_model_tensor(model, t, &one) == MB_OK; t++) {
        bytes += one.bytes;
        read += one.read_bytes;
        if (strcmp(one.name, "blk.46.ffn_down_exps.weight") == 0)
            assert_int_equal(one.read_bytes, 0);
    }
    assert_int_equal(bytes, info.resident_bytes);
    assert_int_equal(read, sum); /* not tied: every byte belongs to one tensor */
    assert_int_equal(mb_model_tensor(model, info.n_tensors, &one), MB_ERANGE);
    assert_int_equal(info.n_layers, 46);
    assert_int_equal(info.n_head_kv, 8);
    assert_true(info.active_params > 12000000000 && info.active_params < 13000000000);
    mb_model_free(model);
}

int main(int argc, char **argv)
{
    root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_count),
        cmocka_unit_test(published_sizes),
        cmocka_unit_test(names_are_forgiving),
        cmocka_unit_test(every_model_has_its_traffic),
        cmocka_unit_test(a_file_says_the_same_as_the_catalog),
        cmocka_unit_test(hostile_metadata_is_refused),
        cmocka_unit_test(a_stranger_is_counted_by_its_tensors),
        cmocka_unit_test(old_files_are_understood),
        cmocka_unit_test(lists_may_begin_with_zero),
        cmocka_unit_test(tensors_are_believed),
        cmocka_unit_test(json_has_the_promised_keys),
    };
    return cmocka_run_group_tests_name("models", tests, NULL, NULL);
}
