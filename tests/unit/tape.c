/* SPDX-License-Identifier: MIT */
/* Suite for src/model/tape.c and roles.c: names to roles, the order of ops, and that sums are sums. */
#include "base/base.h"
#include "model/open.h"
#include "model/roles.h"
#include "model/tape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_MODELS
#include "support.h"

static struct mb_tape *build(const struct mb_model *model, uint32_t n_tokens, uint64_t depth)
{
    struct mb_tape *tape;
    assert_int_equal(mb_tape_build(model, n_tokens, depth, NULL, &tape, NULL), MB_OK);
    return tape;
}

static void the_table_of_names_is_sorted(void **state)
{
    (void)state;
    for (unsigned i = 1; i < MB_T_END; i++)
        assert_true(strcmp(mb_kind_info(i - 1)->base, mb_kind_info(i)->base) < 0);
}

static void names_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t layer;
        enum mb_tensor_kind kind;
    } names[] = {
        {"token_embd.weight", -1, MB_T_TOKEN_EMBD},
        {"output.weight", -1, MB_T_OUTPUT},
        {"output_norm.weight", -1, MB_T_OUTPUT_NORM},
        {"blk.0.attn_q.weight", 0, MB_T_ATTN_Q},
        {"blk.61.attn_q.bias", 61, MB_T_ATTN_Q},
        {"blk.7.ssm_a", 7, MB_T_SSM_A},
        {"blk.7.ssm_dt.bias", 7, MB_T_SSM_DT},
        {"blk.3.ffn_down_exps.scale", 3, MB_T_FFN_DOWN_EXPS},
        {"blk.3.ffn_down_exps.input_scale", 3, MB_T_FFN_DOWN_EXPS},
        {"blk.3.indexer.k_norm.bias", 3, MB_T_INDEXER_K_NORM},
        {"blk.31.ffn_gate.7.weight", 31, MB_T_FFN_GATE_EXPS}, /* Mixtral of 2023 */
        {"blk.31.attn_q.7.weight", 31, MB_T_UNKNOWN},
        {"blk.5.attn_qk.weight", 5, MB_T_UNKNOWN},
        {"blk.5.attn.weight", 5, MB_T_UNKNOWN},
        {"blk.", -1, MB_T_UNKNOWN},
        {"blk.3", 3, MB_T_UNKNOWN},
        {"", -1, MB_T_UNKNOWN},
        {".weight", -1, MB_T_UNKNOWN},
        {"7.weight", -1, MB_T_UNKNOWN},
    };
    int32_t layer;
    enum mb_tensor_kind kind;
    for (unsigned i = 0; i < MB_COUNT(names); i++) {
        assert_int_equal(mb_tensor_parse(names[i].name, &layer, &kind), MB_OK);
        if (layer != names[i].layer || kind != names[i].kind)
            fail_msg("%s: layer %d, kind %u", names[i].name, layer, kind);
    }
    assert_int_equal(mb_tensor_parse("blk.1024.attn_q.weight", &layer, &kind), MB_EFORMAT);
    assert_int_equal(mb_tensor_parse("blk.99999999999999999999.attn_q.weight", &layer, &kind), MB_EFORMAT);
}

static void ops_come_in_the_order_of_execution(void **state)
{
    (void)state;
    static const enum mb_op_kind dense[] = {MB_OP_NORM_ATTN, MB_OP_QKV,      MB_OP_ROPE_STORE, MB_OP_ATTENTION,
                                            MB_OP_ATTN_OUT,  MB_OP_NORM_FFN, MB_OP_FFN_UP,     MB_OP_FFN_DOWN};
    struct mb_model *model = open_spec("Qwen3-8B");
    struct mb_tape *tape = build(model, 1, 0);
    assert_int_equal(tape->n_ops, 1 + 36 * MB_COUNT(dense) + 2);
    assert_int_equal(tape->ops[0].kind, MB_OP_EMBED);
    for (unsigned i = 0; i < 36 * MB_COUNT(dense); i++) {
        assert_int_equal(tape->ops[1 + i].kind, dense[i % MB_COUNT(dense)]);
        assert_int_equal(tape->ops[1 + i].layer, i / MB_COUNT(dense));
    }
    assert_int_equal(tape->ops[tape->n_ops - 2].kind, MB_OP_HEAD_NORM);
    assert_int_equal(tape->ops[tape->n_ops - 1].kind, MB_OP_HEAD);
    assert_int_equal(tape->ops[2].n_tensors, 3);
    assert_int_equal(tape->ops[2].role, MB_ROLE_ATTENTION);
    mb_tape_free(tape);
    mb_model_free(model);

    static const enum mb_op_kind hybrid[] = {MB_OP_NORM_ATTN,    MB_OP_RECURRENT_IN, MB_OP_RECURRENT_MIX, MB_OP_RECURRENT_OUT,
                                             MB_OP_NORM_POST_ATTN, MB_OP_ROUTER,     MB_OP_EXPERTS_UP,    MB_OP_EXPERTS_DOWN,
                                             MB_OP_SHARED_UP,    MB_OP_SHARED_DOWN};
    model = open_spec("Qwen3.6-35B-A3B");
    tape = build(model, 1, 0);
    for (unsigned i = 0; i < MB_COUNT(hybrid); i++)
        assert_int_equal(tape->ops[1 + i].kind, hybrid[i]);
    assert_int_equal(tape->ops[3].state_read_bytes, 2195456);
    assert_true(tape->ops[7].experts == 8);
    mb_tape_free(tape);
    mb_model_free(model);
}

/* For every model: each tensor is on the tape exactly once (a tied table twice, unread ones never), and the totals are the
 * sums of the ops. */
static void nothing_is_lost_or_counted_twice(void **state)
{
    (void)state;
    size_t n;
    const char *const *names = mb_model_names(&n);
    for (size_t i = 0; i < n; i++) {
        struct mb_model *model = open_spec(names[i]);
        for (unsigned pass = 0; pass < 2; pass++) {
            struct mb_tape *tape = build(model, pass ? 64 : 1, 1000);
            struct mb_traffic sum = {0};
            uint64_t by_role = 0;
            unsigned char seen[4096] = {0};
            assert_true(model->n_tensors <= sizeof(seen));
            for (uint32_t j = 0; j < tape->n_ops; j++) {
                const struct mb_op *op = &tape->ops[j];
                assert_true(op->weight_bytes <= op->resident_bytes);
                assert_true(j == 0 || op->layer < 0 || op->layer > op[-1].layer ||
                            (op->layer == op[-1].layer && op->kind > op[-1].kind));
                sum.weights_bytes += op->weight_bytes;
                sum.kv_read_bytes += op->kv_read_bytes;
                sum.kv_write_bytes += op->kv_write_bytes;
                sum.state_read_bytes += op->state_read_bytes;
                sum.state_write_bytes += op->state_write_bytes;
                for (uint32_t k = 0; k < op->n_tensors; k++)
                    seen[op->tensors[k]]++;
            }
            for (uint32_t j = 0; j < model->n_tensors; j++) {
                unsigned rule = model->tensors[j].rule, want = rule == MB_READ_NEVER ? 0 : rule == MB_READ_TIED ? 2 : 1;
                if (seen[j] != want)
                    fail_msg("%s: %s is on the tape %u times", names[i], model->tensors[j].name, seen[j]);
                if (model->tensors[j].role == MB_ROLE_OTHER || model->tensors[j].op == MB_OP_LAYER_OTHER)
                    fail_msg("%s: %s has no role", names[i], model->tensors[j].name);
            }
            for (unsigned j = 0; j < MB_N_ROLES; j++)
                by_role += tape->traffic.by_role[j];
            assert_int_equal(by_role, tape->traffic.weights_bytes);
            assert_int_equal(sum.weights_bytes, tape->traffic.weights_bytes);
            assert_int_equal(sum.kv_read_bytes, tape->traffic.kv_read_bytes);
            assert_int_equal(sum.kv_write_bytes, tape->traffic.kv_write_bytes);
            assert_int_equal(sum.state_read_bytes, tape->traffic.state_read_bytes);
            assert_int_equal(sum.state_write_bytes, tape->traffic.state_write_bytes);
            mb_tape_free(tape);
        }
        mb_model_free(model);
    }
}

static void experts_of_a_batch(void **state)
{
    (void)state;
    assert_true(mb_experts_expected(128, 8, 1) == 8);
    assert_true(fabs(mb_experts_expected(128, 8, 2) - 15.5) < 1e-9); /* 8 + 8 * 120/128 */
    assert_true(mb_experts_expected(128, 8, 10000) > 127.999);
    assert_true(mb_experts_expected(8, 8, 5) == 8);
    assert_true(mb_experts_expected(0, 0, 5) == 0);
    struct mb_model *model = open_spec("Qwen3-30B-A3B");
    struct mb_tape *one = build(model, 1, 0), *two = build(model, 2, 0), *many = build(model, 4096, 0);
    uint64_t all = 0;
    for (uint32_t i = 0; i < model->n_tensors; i++)
        all += model->tensors[i].rule == MB_READ_EXPERTS ? model->tensors[i].bytes : 0;
    uint64_t experts = one->traffic.by_role[MB_ROLE_ROUTED_EXPERTS];
    assert_int_equal(experts, all / 16);
    assert_true(fabs((double)two->traffic.by_role[MB_ROLE_ROUTED_EXPERTS] / (double)experts - 15.5 / 8) < 1e-6);
    assert_true((double)many->traffic.by_role[MB_ROLE_ROUTED_EXPERTS] / (double)all > 0.9999);
    assert_true(one->traffic.by_role[MB_ROLE_ATTENTION] == many->traffic.by_role[MB_ROLE_ATTENTION]);
    mb_tape_free(one);
    mb_tape_free(two);
    mb_tape_free(many);
    mb_model_free(model);
}

static void arithmetic_is_counted(void **state)
{
    (void)state;
    /* Two operations per active weight but the embedding rows and scores; Llama-3-8B: 7.50 B weights. */
    struct mb_model *model = open_spec("Llama-3-8B");
    struct mb_tape *tape = build(model, 1, 0);
    assert_true(fabs(tape->traffic.flops / (2.0 * 7504924672.0) - 1) < 0.001);
    double shallow = tape->traffic.flops;
    mb_tape_free(tape);
    tape = build(model, 1, 8191); /* 32 layers * 32 heads * (128 + 128) * 2 per cell */
    assert_true(fabs(tape->traffic.flops - shallow - 8191.0 * 32 * 32 * 256 * 2) < 1);
    mb_tape_free(tape);
    tape = build(model, 512, 0); /* the head works for the last token only; cells 1 + 2 + .. + 512 */
    double head = 2.0 * 4096 * 128256, cells = 512.0 * 513 / 2 - 512;
    assert_true(fabs(tape->traffic.flops - (512 * (shallow - head) + head + cells * 32 * 32 * 256 * 2)) < 1e6);
    mb_tape_free(tape);
    mb_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_of_names_is_sorted),
        cmocka_unit_test(names_are_taken_apart),
        cmocka_unit_test(ops_come_in_the_order_of_execution),
        cmocka_unit_test(nothing_is_lost_or_counted_twice),
        cmocka_unit_test(experts_of_a_batch),
        cmocka_unit_test(arithmetic_is_counted),
    };
    return cmocka_run_group_tests_name("tape", tests, NULL, NULL);
}
