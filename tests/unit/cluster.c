/* SPDX-License-Identifier: MIT */
/* Suite for src/plan/cluster.c, link.c and emit_cluster.c: ranges that fit and follow each other, sums that are sums,
 * links, and commands. */
#include "base/base.h"
#include "model/open.h"
#include "plan/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SUPPORT_MODELS
#include "support.h"

static struct mb_machine *machine_of(const char *name)
{
    struct mb_machine *machine;
    struct mb_err err;
    if (mb_machine_catalog(name, &machine, &err) != MB_OK)
        fail_msg("%s", err.text);
    return machine;
}

static struct mb_cluster *make(const struct mb_machine *const *machines, unsigned n, const char *link,
                               const struct mb_model *model, const struct mb_plan_opts *opts)
{
    struct mb_cluster *cluster;
    struct mb_err err;
    if (mb_cluster_make(machines, n, link, model, opts, &cluster, &err) != MB_OK)
        fail_msg("%s", err.text);
    return cluster;
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-9 * fabs(b) + 1e-15))
        fail_msg("%.15g instead of %.15g", a, b);
}

/* What must hold of any answer. */
static void check(const struct mb_cluster *cluster, const struct mb_model *model)
{
    uint32_t next = 0;
    double seconds = cluster->link_seconds, at_ctx = cluster->link_seconds;
    uint64_t weights = 0;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct mb_cluster_node *node = &cluster->nodes[i];
        uint32_t on = 0;
        assert_int_equal(node->first_layer, next);
        assert_int_equal(node->is_main, i + 1 == cluster->n_nodes);
        assert_true((double)(node->weights_bytes + node->kv_bytes + node->buffers_bytes) <= node->room_bytes);
        for (unsigned d = 0; d < node->n_devices; d++)
            on += node->on_device[d];
        assert_int_equal(on, node->n_layers);
        next += node->n_layers;
        seconds += node->seconds;
        at_ctx += node->seconds_at_ctx;
        weights += node->weights_bytes;
    }
    assert_int_equal(next, model->hp.n_layers);
    assert_true(weights <= model->resident_bytes && weights > model->resident_bytes * 9 / 10);
    near(cluster->decode.tokens_per_s, 1 / seconds);
    near(cluster->decode_at_ctx.tokens_per_s, 1 / at_ctx);
    near(cluster->link_seconds,
         cluster->n_hops * (cluster->link_latency_s.value + cluster->hop_bytes / cluster->link_bytes_per_s.value));
    near(cluster->link_share, cluster->link_seconds / seconds);
    assert_true(cluster->decode.low < cluster->decode.tokens_per_s &&
                cluster->decode.tokens_per_s < cluster->decode.high);
    assert_true(cluster->decode.tokens_per_s < cluster->decode.bound_tokens_per_s);
    assert_true(cluster->prefill_link_share > 0 || cluster->n_hops == 0);
}

static void a_model_over_two_machines(void **state)
{
    (void)state;
    struct mb_machine *spark = machine_of("DGX Spark");
    const struct mb_machine *machines[4] = {spark, spark, spark, spark};
    struct mb_model *model = open_spec("Qwen3-235B-A22B@Q4_K_M");
    struct mb_cluster *cluster = make(machines, 2, "10GbE", model, NULL);
    assert_true(cluster->fits);
    check(cluster, model);
    assert_null(cluster->alone);
    assert_int_equal(cluster->n_used, 2);
    assert_int_equal(cluster->n_hops, 2);
    near(cluster->hop_bytes, 4.0 * 4096);
    /* Equal machines get equal parts. */
    assert_true(abs((int)cluster->nodes[0].n_layers - (int)cluster->nodes[1].n_layers) <= 4);
    double two = cluster->decode.tokens_per_s;
    mb_cluster_free(cluster);
    /* More machines do not add bandwidth, and more hops cost. */
    cluster = make(machines, 4, "10GbE", model, NULL);
    check(cluster, model);
    assert_true(cluster->decode.tokens_per_s <= two * 1.0001);
    assert_true(cluster->decode.tokens_per_s > two * 0.9);
    mb_cluster_free(cluster);
    double last = 0;
    static const char *const links[] = {"1MB/s,50ms", "1GbE", "10GbE", "100GbE", "100GbE-rdma"};
    for (unsigned i = 0; i < MB_COUNT(links); i++) {
        cluster = make(machines, 2, links[i], model, NULL);
        check(cluster, model);
        assert_true(cluster->decode.tokens_per_s > last);
        assert_true(i > 0 || cluster->link_share > 0.5);
        last = cluster->decode.tokens_per_s;
        mb_cluster_free(cluster);
    }
    mb_model_free(model);
    mb_machine_free(spark);
}

static void the_faster_machine_is_filled_first(void **state)
{
    (void)state;
    struct mb_machine *spark = machine_of("DGX Spark"), *studio = machine_of("Mac Studio M3 Ultra 256 GB");
    struct mb_model *model = open_spec("DeepSeek-V3.2@Q4_K_M");
    const struct mb_machine *machines[] = {spark, studio, spark};
    for (unsigned order = 0; order < 2; order++) {
        machines[0] = order ? studio : spark;
        machines[1] = order ? spark : studio;
        struct mb_cluster *cluster = make(machines, 3, "10GbE", model, NULL);
        assert_true(cluster->fits);
        check(cluster, model);
        for (unsigned i = 0; i < 3; i++) {
            const struct mb_cluster_node *node = &cluster->nodes[i];
            double full = (double)(node->weights_bytes + node->kv_bytes + node->buffers_bytes) / node->room_bytes;
            if (strstr(node->machine, "Studio"))
                assert_true(full > 0.95); /* not one more layer fits */
        }
        mb_cluster_free(cluster);
    }
    mb_model_free(model);
    mb_machine_free(spark);
    mb_machine_free(studio);
}

static void a_machine_that_suffices_stays_alone(void **state)
{
    (void)state;
    struct mb_machine *spark = machine_of("DGX Spark");
    const struct mb_machine *machines[2] = {spark, spark};
    struct mb_model *model = open_spec("Qwen3-8B@Q4_K_M");
    struct mb_cluster *cluster = make(machines, 2, "10GbE", model, NULL);
    check(cluster, model);
    assert_int_equal(cluster->n_used, 1);
    assert_int_equal(cluster->n_hops, 0);
    assert_int_equal(cluster->nodes[1].n_layers, 36);
    near(cluster->decode.tokens_per_s, cluster->alone_tokens_per_s);
    assert_string_equal(cluster->alone, "DGX Spark");
    assert_int_equal(cluster->n_notes, 2);
    mb_cluster_free(cluster);
    mb_model_free(model);
    mb_machine_free(spark);
}

static void what_does_not_fit_says_what_would(void **state)
{
    (void)state;
    struct mb_machine *mini = machine_of("Mac mini M4 Pro 48 GB");
    const struct mb_machine *machines[MB_CLUSTER_MAX] = {mini, mini};
    struct mb_model *model = open_spec("Qwen3-235B-A22B@Q4_K_M");
    struct mb_cluster *cluster = make(machines, 2, "thunderbolt5", model, NULL);
    struct mb_err err;
    char *text = NULL;
    assert_false(cluster->fits);
    assert_true(cluster->n_needs >= 2);
    int more = atoi(cluster->needs[1]);
    assert_true(more >= 1 && more + 2 <= MB_CLUSTER_MAX);
    assert_int_equal(mb_cluster_emit(cluster, model, "llama.cpp", &text, &err), MB_EINVAL);
    assert_int_equal(mb_cluster_json(cluster, &text, NULL), MB_OK);
    mb_text_free(text);
    mb_cluster_free(cluster);
    /* So many do, and one less does not. */
    for (int i = 0; i < more + 2; i++)
        machines[i] = mini;
    for (int n = more + 1; n <= more + 2; n++) {
        cluster = make(machines, (unsigned)n, "thunderbolt5", model, NULL);
        assert_int_equal(cluster->fits, n == more + 2);
        if (cluster->fits)
            check(cluster, model);
        mb_cluster_free(cluster);
    }
    assert_int_equal(mb_cluster_make(machines, 1, "10GbE", model, NULL, &cluster, &err), MB_EINVAL);
    assert_int_equal(
        mb_cluster_make(machines, 2, "10GbE", model, &(struct mb_plan_opts){.n_ctx = 1 << 27}, &cluster, &err),
        MB_ERANGE);
    assert_int_equal(
        mb_cluster_make(machines, 2, "10GbE", model, &(struct mb_plan_opts){.engine = "abacus"}, &cluster, &err),
        MB_ENAME);
    mb_model_free(model);
    mb_machine_free(mini);
}

static void links(void **state)
{
    (void)state;
    struct mb_machine_link link;
    struct mb_err err;
    static const char *const bad[] = {"",           "10",        "10 bananas", "0GB/s",       "-1GB/s",
                                      "nanGB/s",    "1e999GB/s", "1GB/s,",     "1GB/s,5",     "1GB/s,0us",
                                      "1GB/s,5us,", "1GB/sx",    "0x10GB/s",   "thunderbolt", "1GB/s,99999ms"};
    for (unsigned i = 0; i < MB_COUNT(bad); i++) {
        if (mb_link_parse(bad[i], &link, &err) == MB_OK)
            fail_msg("%s was taken for a link", bad[i]);
        assert_non_null(strstr(err.text, "10GbE"));
    }
    assert_int_equal(mb_link_parse("25Gb/s", &link, NULL), MB_OK);
    near(link.bytes_per_s.value, 25e9 / 8);
    assert_int_equal(mb_link_parse("1.1 GB/s,80us", &link, NULL), MB_OK);
    near(link.bytes_per_s.value, 1.1e9);
    near(link.latency_s.value, 80e-6);
    assert_int_equal(mb_link_parse("10gbe", &link, NULL), MB_OK);
    near(link.bytes_per_s.value, 1.25e9 * 1460 / 1538);
    assert_int_equal(link.bytes_per_s.provenance, MB_SPEC);
    size_t n;
    const char *const *names = mb_link_names(&n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(mb_link_parse(names[i], &link, NULL), MB_OK);
        assert_string_equal(link.name, names[i]);
        assert_non_null(link.bytes_per_s.detail);
        assert_non_null(link.latency_s.detail);
    }
}

static void commands_for_each_machine(void **state)
{
    (void)state;
    struct mb_machine *spark = machine_of("DGX Spark");
    const struct mb_machine *machines[3] = {spark, spark, spark};
    struct mb_model *model = open_spec("GLM-4.6-355B-A32B@Q6_K");
    struct mb_plan_opts opts = {.kv = {.type_k = "Q8_0", .type_v = "Q8_0"}};
    struct mb_cluster *cluster = make(machines, 3, "200GbE", model, &opts);
    struct mb_err err;
    char *text;
    assert_true(cluster->fits);
    /* A name of a hand-written machine stays in its comment. */
    ((struct mb_cluster_node *)cluster->nodes)[0].machine = "x\ntouch pwned";
    assert_int_equal(mb_cluster_emit(cluster, model, "llama.cpp", &text, &err), MB_OK);
    assert_null(strstr(text, "\ntouch"));
    assert_non_null(strstr(text, "--rpc \"$NODE2:50052,$NODE3:50052\""));
    assert_non_null(strstr(text, "-ctk q8_0 -ctv q8_0"));
    unsigned ngl, a, b, c;
    const char *flags = strstr(text, "-ngl ");
    assert_non_null(flags);
    assert_int_equal(sscanf(flags, "-ngl %u -ts %u,%u,%u", &ngl, &a, &b, &c), 4);
    assert_int_equal(ngl, model->n_layers_all + 1);
    assert_int_equal(a + b + c, ngl);
    assert_int_equal(a, cluster->nodes[0].n_layers);
    for (const char *line = text; *line; line = strchr(line, '\n') + 1)
        assert_true(strcspn(line, "\n") <= 80);
    mb_text_free(text);
    assert_int_equal(mb_cluster_emit(cluster, model, "exo", &text, &err), MB_OK);
    mb_text_free(text);
    assert_int_equal(mb_cluster_emit(cluster, model, "vllm", &text, &err), MB_ENOTSUP);
    assert_int_equal(mb_cluster_emit(cluster, model, "ollama", &text, &err), MB_ENAME);
    assert_int_equal(mb_cluster_json(cluster, &text, NULL), MB_OK);
    json_t *root = mb_json_parse(text, strlen(text), "cluster", NULL);
    assert_int_equal(json_array_size(json_object_get(root, "nodes")), 3);
    json_t *link = json_object_get(root, "link");
    near(json_number_value(json_object_get(link, "bytes_per_s")),
         (double)(long long)(cluster->link_bytes_per_s.value * 100) / 100);
    assert_true(json_is_number(json_object_get(link, "latency_s")) && json_is_number(json_object_get(link, "share")));
    json_decref(root);
    mb_text_free(text);
    mb_cluster_free(cluster);
    mb_model_free(model);
    model = open_spec("Llama-3.3-70B@BF16");
    cluster = make(machines, 2, "200GbE-rdma", model, &(struct mb_plan_opts){.engine = "vllm"});
    assert_true(cluster->fits);
    assert_int_equal(cluster->n_hops, 2);
    assert_int_equal(mb_cluster_emit(cluster, model, "vllm", &text, &err), MB_OK);
    assert_non_null(strstr(text, "--pipeline-parallel-size 2"));
    assert_non_null(strstr(text, "ray start --head"));
    mb_text_free(text);
    mb_cluster_free(cluster);
    mb_model_free(model);
    mb_machine_free(spark);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_over_two_machines),
        cmocka_unit_test(the_faster_machine_is_filled_first),
        cmocka_unit_test(a_machine_that_suffices_stays_alone),
        cmocka_unit_test(what_does_not_fit_says_what_would),
        cmocka_unit_test(links),
        cmocka_unit_test(commands_for_each_machine),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
