/* SPDX-License-Identifier: MIT */
/* A plan over several machines: each gets a range of layers, and is planned and predicted for that range alone by the
 * same placer and cost model as any machine; transfers between them are added. Which range goes where is a recursion
 * over machines and boundaries. The machines work one after the other on a token, so their times add up, and more
 * machines never make one conversation faster than a single machine that could hold the model. */
#include "plan/cluster.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT_DEFAULT = 8192, UBATCH_DEFAULT = 512, PROMPT = 512 };

/* Between equal splits, the more even one: a range costs so much more of its time as its memory is full, squared. */
#define EVENNESS 1e-3

struct owner {
    struct mb_arena arena;
    struct mb_cluster cluster;
};

struct stage {
    const struct mb_machine *machine;
    struct mb_cost cost;
    int is_main;
    unsigned same_as; /* the first stage with this machine and role */
    double *seconds;  /* [(n_layers + 1)^2] of the range from..end at the depth asked for; < 0: does not fit, NAN: not
                         asked */
};

struct maker {
    struct mb_cluster *cluster;
    struct mb_arena *arena, scratch;
    const struct mb_model *model;
    struct mb_plan_opts opts;
    struct mb_machine_link link;
    struct mb_load *load, range; /* range: the part at work, with units and shapes of its own */
    uint32_t *new_shape;         /* of the load's, in the range */
    struct mb_placer placer;
    struct stage stages[MB_CLUSTER_MAX];
    unsigned n_stages;
};

static void note(struct maker *m, const char ***list, unsigned *n, const char *text)
{
    const char **entry = text ? mb_arena_append(m->arena, list, n, sizeof(**list)) : NULL;
    if (entry)
        *entry = text;
}

/* ---- one range on one machine ---- */

/* The load of layers from..end; of the main machine, with the embedding and the output. */
static void set_range(struct maker *m, uint32_t from, uint32_t end, int is_main)
{
    const struct mb_load *load = m->load;
    struct mb_load *range = &m->range;
    struct mb_unit *units = range->units;
    struct mb_shape *shapes = range->shapes;
    *range = *load;
    range->units = units;
    range->shapes = shapes;
    range->n_units = range->n_shapes = 0;
    for (uint32_t i = 0; i < load->n_shapes; i++)
        m->new_shape[i] = UINT32_MAX;
    range->n_layers = end - from;
    range->n_moe_layers = 0;
    range->resident_bytes = range->cache_bytes = 0;
    range->weight_bytes = 0;
    for (uint32_t i = 0; i < load->n_units; i++) {
        const struct mb_unit *unit = &load->units[i];
        int in_layers = unit->kind == MB_UNIT_CORE || unit->kind == MB_UNIT_FFN || unit->kind == MB_UNIT_EXPERTS;
        if (unit->kind == MB_UNIT_UNREAD || (!in_layers && !is_main) ||
            (in_layers && ((uint32_t)unit->layer < from || (uint32_t)unit->layer >= end)))
            continue;
        struct mb_unit *copy = &units[range->n_units++];
        *copy = *unit;
        /* Shapes are numbered in the order of their first units. */
        uint32_t *shape = &m->new_shape[unit->shape];
        if (*shape == UINT32_MAX) {
            *shape = range->n_shapes++;
            shapes[*shape] = load->shapes[unit->shape];
        }
        copy->shape = *shape;
        if (in_layers)
            copy->layer = unit->layer - (int32_t)from;
        range->n_moe_layers += unit->kind == MB_UNIT_EXPERTS;
        range->resident_bytes += unit->resident_bytes;
        range->cache_bytes += unit->cache_bytes;
        range->weight_bytes += load->shapes[unit->shape].weight_bytes;
    }
    range->moe = range->n_moe_layers > 0;
}

/* Which device of a machine holds a pool, as the engine lists them; -1: RAM beside GPUs. */
static int device_of(const struct stage *stage, unsigned pool, unsigned *n_devices)
{
    int device = -1;
    *n_devices = 0;
    for (unsigned i = 0; i < stage->cost.n_pools; i++) {
        if (!stage->cost.pools[i].known || !stage->cost.pools[i].gpu)
            continue;
        device = i == pool ? (int)*n_devices : device;
        ++*n_devices;
    }
    if (*n_devices)
        return device;
    *n_devices = 1; /* the CPU itself */
    return 0;
}

/* Room on a machine. What serves other machines' programs puts whole layers on its GPUs, or on the CPU where there is
 * none. */
static double find_rooms(const struct maker *m, const struct stage *stage, struct mb_rooms *rooms)
{
    int has_gpu = 0;
    double room = 0;
    mb_rooms_find(&stage->cost, &m->range, &m->opts, rooms);
    for (unsigned i = 0; i < rooms->n_pools; i++)
        has_gpu |= rooms->pools[i].usable && stage->cost.pools[i].gpu;
    for (unsigned i = 0; i < rooms->n_pools; i++) {
        if (has_gpu && !stage->is_main && !stage->cost.pools[i].gpu)
            rooms->pools[i].usable = 0;
        if (rooms->pools[i].usable)
            room += (double)rooms->pools[i].room_bytes;
    }
    return room;
}

/* Place the range that is set. 1: it fits. FFNs and experts may lie in RAM of the main machine, but no whole layer
 * beside a GPU: engines have their CPU's layers before all devices, and these come last. */
static int place(struct maker *m, const struct stage *stage, struct mb_rooms *rooms, struct mb_placement *out,
                 double *room)
{
    *room = find_rooms(m, stage, rooms);
    if (mb_placer_load(&m->placer, &m->range, NULL) != MB_OK)
        return 0;
    for (unsigned round = 0; round < 2; round++) {
        int whole_in_ram = 0;
        if (!mb_place_best(&m->placer, &stage->cost, rooms, mb_place_depth(m->load), out))
            return 0;
        for (uint32_t i = 0; i < m->range.n_units; i++) {
            unsigned n_devices;
            whole_in_ram |=
                m->range.units[i].kind == MB_UNIT_CORE && device_of(stage, out->pool_of_unit[i], &n_devices) < 0;
        }
        if (!whole_in_ram)
            return 1;
        for (unsigned i = 0; i < rooms->n_pools; i++)
            rooms->pools[i].usable &= stage->cost.pools[i].gpu; /* then nothing in RAM */
    }
    return 0;
}

/* Seconds per token of layers from..end on a stage; -1: no room. An empty range costs nothing, but on the main machine.
 */
static double range_seconds(struct maker *m, unsigned index, uint32_t from, uint32_t end)
{
    struct stage *stage = &m->stages[m->stages[index].same_as];
    size_t at = (size_t)from * (m->load->n_layers + 1) + end;
    if (from == end && !stage->is_main)
        return 0;
    if (isnan(stage->seconds[at])) {
        struct mb_rooms rooms;
        struct mb_placement placement;
        double room;
        set_range(m, from, end, stage->is_main);
        if (place(m, stage, &rooms, &placement, &room)) {
            double full = room > 0 ? (double)(m->range.resident_bytes + m->range.cache_bytes) / room : 1;
            stage->seconds[at] = placement.seconds * (1 + EVENNESS * full * full);
        } else {
            stage->seconds[at] = -1;
        }
    }
    return stage->seconds[at];
}

/* ---- which range goes where ---- */

/* Transfers per token. llama.cpp's program sends to each server and hears from it; others pass on around a ring. */
static unsigned hops_of(const struct maker *m, unsigned n_used)
{
    const char *engine = m->stages[0].cost.engine;
    return n_used < 2                                                          ? 0
           : strncmp(engine, "vllm", 4) == 0 || strncmp(engine, "mlx", 3) == 0 ? n_used
                                                                               : 2 * (n_used - 1);
}

static double hop_seconds(const struct maker *m, double n_tokens)
{
    return m->link.latency_s.value + n_tokens * m->cluster->hop_bytes / m->link.bytes_per_s.value;
}

/* bounds[i] to bounds[i + 1]: the layers of stage i. 1: found. The main machine, last, is always used. */
static int divide(struct maker *m, uint32_t *bounds)
{
    uint32_t n = m->load->n_layers;
    size_t width = n + 1;
    double *best = mb_arena_array(&m->scratch, (m->n_stages + 1) * width, sizeof(double));
    uint32_t *from = mb_arena_array(&m->scratch, (m->n_stages + 1) * width, sizeof(uint32_t));
    if (!best || !from)
        return 0;
    double hop = (hops_of(m, 2)) * hop_seconds(m, 1);
    for (uint32_t end = 0; end <= n; end++)
        best[end] = end ? INFINITY : 0;
    for (unsigned s = 0; s < m->n_stages; s++) {
        const double *before = best + s * width;
        double *after = best + (s + 1) * width;
        uint32_t *begin = from + (s + 1) * width;
        int last = s + 1 == m->n_stages;
        for (uint32_t end = 0; end <= n; end++)
            after[end] = INFINITY;
        for (uint32_t start = 0; start <= n; start++) {
            if (isinf(before[start]))
                continue;
            for (uint32_t end = last ? n : start; end <= n; end++) {
                double seconds = range_seconds(m, s, start, end);
                if (seconds < 0)
                    break; /* more layers fit no better */
                seconds += before[start] + (end > start && !last ? hop : 0);
                if (seconds < after[end]) {
                    after[end] = seconds;
                    begin[end] = start;
                }
            }
        }
    }
    if (isinf(best[m->n_stages * width + n]))
        return 0;
    bounds[m->n_stages] = n;
    for (unsigned s = m->n_stages; s > 0; s--)
        bounds[s - 1] = from[s * width + bounds[s]];
    return 1;
}

/* ---- the result ---- */

static void count_devices(struct mb_cluster_node *node, const struct maker *m, const struct stage *stage,
                          const uint8_t *pools)
{
    uint8_t *ffn = (uint8_t *)m->cluster->ffn_in_ram, *experts = (uint8_t *)m->cluster->experts_in_ram;
    int core = -1; /* device of the layer at work: a layer's core comes first among its units */
    for (uint32_t i = 0; i < m->range.n_units; i++) {
        const struct mb_unit *unit = &m->range.units[i];
        if (unit->layer < 0 || pools[i] >= stage->cost.n_pools)
            continue;
        int device = device_of(stage, pools[i], &node->n_devices);
        if (unit->kind == MB_UNIT_CORE) {
            core = device;
            if (device >= 0 && (unsigned)device < MB_COUNT(node->on_device))
                node->on_device[device]++;
        } else if (device < 0 && core >= 0) {
            (unit->kind == MB_UNIT_FFN ? ffn : experts)[node->first_layer + (uint32_t)unit->layer] = 1;
        }
    }
    if (node->n_devices > MB_COUNT(node->on_device))
        node->n_devices = MB_COUNT(node->on_device);
    if (!node->n_devices)
        device_of(stage, 0, &node->n_devices);
}

struct sums {
    double seconds, at_ctx, bound_s, bound_at_ctx, prefill, ttft[3], sigma;
};

static const double prompts[3] = {1024, 8192, 32768};

static int fill_node(struct maker *m, unsigned s, uint32_t from, uint32_t end, struct sums *sums, struct mb_err *err)
{
    const struct stage *stage = &m->stages[s];
    struct mb_cluster_node *node = &m->cluster->nodes[s];
    struct mb_rooms rooms;
    struct mb_placement placement;
    struct mb_place_use use;
    struct mb_prediction now, deep, prompt;
    *node = (struct mb_cluster_node){.machine = mb_arena_text(m->arena, stage->machine->name),
                                     .is_main = stage->is_main,
                                     .first_layer = from,
                                     .n_layers = end - from};
    set_range(m, from, end, stage->is_main);
    if (from == end && !stage->is_main) {
        node->room_bytes = find_rooms(m, stage, &rooms);
        return MB_OK;
    }
    if (!place(m, stage, &rooms, &placement, &node->room_bytes))
        return mb_fail_memory(err);
    unsigned n_ubatch = m->opts.kv.n_batch ? m->opts.kv.n_batch : UBATCH_DEFAULT;
    const uint8_t *pools = placement.pool_of_unit;
    int code = mb_predict_decode(&stage->cost, &m->range, pools, 0, &now, err);
    if (code == MB_OK)
        code = mb_predict_decode(&stage->cost, &m->range, pools, (double)m->opts.n_ctx, &deep, err);
    if (code == MB_OK)
        code = mb_predict_prefill(&stage->cost, &m->range, pools, PROMPT, 0, n_ubatch, &prompt, err);
    for (unsigned i = 0; i < 3 && code == MB_OK; i++) {
        double seconds;
        if (prompts[i] > (double)m->opts.n_ctx)
            continue;
        code = mb_predict_ttft(&stage->cost, &m->range, pools, prompts[i], n_ubatch, &seconds, err);
        sums->ttft[i] += seconds;
    }
    if (code != MB_OK)
        return code;
    mb_place_measure(&m->range, &rooms, pools, &use);
    for (unsigned i = 0; i < rooms.n_pools; i++) {
        node->weights_bytes += use.weights_bytes[i];
        node->kv_bytes += use.cache_bytes[i];
        node->buffers_bytes += use.buffers_bytes[i];
    }
    count_devices(node, m, stage, pools);
    node->seconds = now.seconds;
    node->seconds_at_ctx = deep.seconds;
    node->prefill_seconds = prompt.seconds;
    sums->seconds += now.seconds;
    sums->at_ctx += deep.seconds;
    sums->prefill += prompt.seconds;
    sums->bound_s += now.bound_tokens_per_s > 0 ? 1 / now.bound_tokens_per_s : 0;
    sums->bound_at_ctx += deep.bound_tokens_per_s > 0 ? 1 / deep.bound_tokens_per_s : 0;
    sums->sigma = now.sigma > sums->sigma ? now.sigma : sums->sigma;
    return MB_OK;
}

/* The parts' errors may go the same way: the interval is that of the widest of them. */
static struct mb_speed speed_of(double n_tokens, double seconds, double bound_s, double sigma)
{
    double spread = exp(1.2816 * sigma), tokens_per_s = n_tokens / seconds;
    return (struct mb_speed){tokens_per_s, tokens_per_s / spread, tokens_per_s * spread,
                             bound_s > 0 ? n_tokens / bound_s : 0};
}

static void set_speeds(struct maker *m, const struct sums *sums)
{
    struct mb_cluster *cluster = m->cluster;
    unsigned n_ubatch = m->opts.kv.n_batch ? m->opts.kv.n_batch : UBATCH_DEFAULT;
    cluster->n_hops = hops_of(m, cluster->n_used);
    cluster->link_seconds = cluster->n_hops * hop_seconds(m, 1);
    double prompt_link = cluster->n_hops * hop_seconds(m, PROMPT);
    cluster->decode = speed_of(1, sums->seconds + cluster->link_seconds, sums->bound_s, sums->sigma);
    cluster->decode_at_ctx = speed_of(1, sums->at_ctx + cluster->link_seconds, sums->bound_at_ctx, sums->sigma);
    cluster->prefill = speed_of(PROMPT, sums->prefill + prompt_link, 0, sums->sigma);
    cluster->link_share = cluster->link_seconds / (sums->seconds + cluster->link_seconds);
    cluster->prefill_link_share = prompt_link / (sums->prefill + prompt_link);
    for (unsigned i = 0; i < 3; i++) {
        double chunks = ceil(prompts[i] / n_ubatch);
        if (sums->ttft[i] > 0)
            cluster->ttft_s[i] = sums->ttft[i] + cluster->link_seconds +
                                 cluster->n_hops * (chunks * m->link.latency_s.value +
                                                    prompts[i] * cluster->hop_bytes / m->link.bytes_per_s.value);
    }
}

/* Each machine by itself, for comparison. */
static void find_alone(struct maker *m)
{
    struct mb_cluster *cluster = m->cluster;
    for (unsigned s = 0; s < m->n_stages; s++) {
        struct stage stage = m->stages[s];
        struct mb_rooms rooms;
        struct mb_placement placement;
        struct mb_prediction now;
        stage.is_main = 1;
        set_range(m, 0, m->load->n_layers, 1);
        find_rooms(m, &stage, &rooms);
        if (mb_placer_load(&m->placer, &m->range, NULL) != MB_OK ||
            !mb_place_best(&m->placer, &stage.cost, &rooms, mb_place_depth(m->load), &placement) ||
            mb_predict_decode(&stage.cost, &m->range, placement.pool_of_unit, 0, &now, NULL) != MB_OK ||
            now.tokens_per_s <= cluster->alone_tokens_per_s)
            continue;
        cluster->alone = mb_arena_text(m->arena, stage.machine->name);
        cluster->alone_tokens_per_s = now.tokens_per_s;
    }
}

/* How many more machines like the smallest, before the others; 0: not even the most would do. */
static unsigned machines_missing(struct maker *m, unsigned smallest)
{
    uint32_t bounds[MB_CLUSTER_MAX + 1];
    size_t cells = ((size_t)m->load->n_layers + 1) * (m->load->n_layers + 1);
    struct stage more = m->stages[smallest];
    if (more.is_main || more.same_as != smallest) {
        more.is_main = 0;
        more.seconds = mb_arena_array(&m->scratch, cells, sizeof(double));
        for (size_t i = 0; more.seconds && i < cells; i++)
            more.seconds[i] = (double)NAN;
    }
    for (unsigned added = 1; more.seconds && m->n_stages < MB_CLUSTER_MAX; added++) {
        memmove(m->stages + 1, m->stages, m->n_stages * sizeof(*m->stages));
        m->n_stages++;
        m->stages[0] = more;
        m->stages[0].same_as = 0;
        for (unsigned i = 1; i < m->n_stages; i++)
            m->stages[i].same_as = i < added ? 0 : m->stages[i].same_as + 1;
        if (divide(m, bounds))
            return added;
    }
    return 0;
}

static void say_needs(struct maker *m)
{
    struct mb_cluster *cluster = m->cluster;
    char a[32], b[32], c[32];
    double room = 0, ram = 0, least = INFINITY; /* ram: beside the GPUs of the main machine */
    unsigned smallest = 0;
    set_range(m, 0, m->load->n_layers, 1);
    double need = (double)m->range.resident_bytes + (double)m->range.cache_bytes;
    for (unsigned s = 0; s < m->n_stages; s++) {
        struct mb_rooms rooms;
        double here = find_rooms(m, &m->stages[s], &rooms);
        cluster->nodes[s] = (struct mb_cluster_node){.machine = mb_arena_text(m->arena, m->stages[s].machine->name),
                                                     .is_main = m->stages[s].is_main,
                                                     .room_bytes = here};
        for (unsigned i = 0; i < rooms.n_pools; i++) {
            unsigned n_devices;
            if (rooms.pools[i].usable && device_of(&m->stages[s], i, &n_devices) < 0) {
                ram += (double)rooms.pools[i].room_bytes;
                here -= (double)rooms.pools[i].room_bytes;
            }
        }
        room += here;
        smallest = here < least ? s : smallest;
        least = here < least ? here : least;
    }
    mb_format_bytes(need, a, sizeof a);
    mb_format_bytes(room, b, sizeof b);
    mb_format_bytes(ram, c, sizeof c);
    note(m, &cluster->needs, &cluster->n_needs,
         ram > 0 ? mb_arena_format(
                       m->arena,
                       "%s of weights and cache, and buffers beside them, do not go into %s on GPUs; %s of RAM on the "
                       "main machine take experts, but no whole layers",
                       a, b, c)
                 : mb_arena_format(
                       m->arena,
                       "%s of weights and cache, and buffers beside them, do not go into %s on these machines", a, b));
    const char *name = cluster->nodes[smallest].machine;
    unsigned more = machines_missing(m, smallest);
    if (more)
        note(m, &cluster->needs, &cluster->n_needs,
             mb_arena_format(m->arena, "%u more machine%s like %s would hold it", more, more == 1 ? "" : "s", name));
    note(m, &cluster->needs, &cluster->n_needs,
         mb_arena_text(m->arena,
                       "or a smaller quantization, a shorter context (--ctx), or a smaller cache (--kv Q8_0)"));
}

static void say_notes(struct maker *m)
{
    struct mb_cluster *cluster = m->cluster;
    for (unsigned i = 0; i < cluster->n_nodes; i++)
        if (!cluster->nodes[i].n_layers)
            note(m, &cluster->notes, &cluster->n_notes,
                 mb_arena_format(m->arena, "%s holds no layer%s", cluster->nodes[i].machine,
                                 cluster->nodes[i].is_main ? ", only the embedding and the output"
                                                           : ": without it, it is as fast"));
    if (cluster->alone && cluster->alone_tokens_per_s >= cluster->decode.tokens_per_s * 0.99)
        note(m, &cluster->notes, &cluster->n_notes,
             mb_arena_format(m->arena,
                             "%s alone is as fast: %.3g tokens/s. Machines that take turns do not add bandwidth",
                             cluster->alone, cluster->alone_tokens_per_s));
    for (unsigned i = 0; i < m->model->n_layers_all; i++)
        if (m->model->layers[i].kv_layer != i) {
            note(m, &cluster->notes, &cluster->n_notes,
                 mb_arena_text(m->arena,
                               "Some layers read the cache of earlier ones; an engine may have to keep them together"));
            break;
        }
}

/* ---- the whole ---- */

static int set_context(struct maker *m, struct mb_err *err)
{
    uint64_t most = m->model->hp.context_max;
    if (!m->opts.n_ctx)
        m->opts.n_ctx = most && most < CONTEXT_DEFAULT ? most : CONTEXT_DEFAULT;
    if (most && m->opts.n_ctx > most)
        return mb_fail(err, MB_ERANGE, "context %llu: %s was trained for %llu; ask for no more",
                       (unsigned long long)m->opts.n_ctx, m->model->name, (unsigned long long)most);
    return MB_OK;
}

static int set_stages(struct maker *m, const struct mb_machine *const *machines, unsigned n, struct mb_err *err)
{
    size_t cells = ((size_t)m->load->n_layers + 1) * (m->load->n_layers + 1);
    for (unsigned s = 0; s < n; s++) {
        struct stage *stage = &m->stages[m->n_stages];
        stage->machine = machines[(s + 1) % n]; /* the main machine is the last stage */
        stage->is_main = s + 1 == n;
        int code = mb_cost_init(&stage->cost, stage->machine, m->opts.engine, err);
        if (code != MB_OK)
            return code;
        stage->same_as = m->n_stages;
        for (unsigned i = 0; i < m->n_stages && !stage->is_main; i++) {
            if (m->stages[i].machine == stage->machine) {
                stage->same_as = i;
                break;
            }
        }
        if (stage->same_as == m->n_stages) {
            stage->seconds = mb_arena_array(&m->scratch, cells, sizeof(double));
            for (size_t i = 0; stage->seconds && i < cells; i++)
                stage->seconds[i] = (double)NAN;
        }
        m->n_stages++;
    }
    return m->scratch.failed ? mb_fail_memory(err) : MB_OK;
}

static int fill(struct maker *m, const struct mb_machine *const *machines, unsigned n, struct mb_err *err)
{
    struct mb_cluster *cluster = m->cluster;
    uint32_t bounds[MB_CLUSTER_MAX + 1] = {0};
    struct sums sums = {0};
    int code = set_context(m, err);
    if (code == MB_OK)
        code = mb_load_build(m->model, m->opts.n_ctx, &m->opts.kv, &m->load, err);
    if (code != MB_OK)
        return code;
    m->range.units = mb_arena_array(&m->scratch, m->load->n_units + 1, sizeof(*m->range.units));
    m->range.shapes = mb_arena_array(&m->scratch, m->load->n_shapes + 1, sizeof(*m->range.shapes));
    m->new_shape = mb_arena_array(&m->scratch, m->load->n_shapes + 1, sizeof(*m->new_shape));
    cluster->nodes = mb_arena_array(m->arena, n, sizeof(*cluster->nodes));
    cluster->n_layers = m->load->n_layers;
    cluster->ffn_in_ram = mb_arena_alloc(m->arena, m->load->n_layers + 1);
    cluster->experts_in_ram = mb_arena_alloc(m->arena, m->load->n_layers + 1);
    if (m->scratch.failed || !cluster->nodes || !cluster->ffn_in_ram || !cluster->experts_in_ram)
        return mb_fail_memory(err);
    code = set_stages(m, machines, n, err);
    if (code != MB_OK)
        return code;
    const struct mb_cost *cost = &m->stages[n - 1].cost;
    int best = mb_cost_best_pool(cost);
    cluster->model = mb_arena_text(m->arena, m->model->name ? m->model->name : "(unnamed)");
    cluster->quant = mb_arena_text(m->arena, m->model->quant);
    cluster->engine =
        strchr(cost->engine, ':') || best < 0
            ? mb_arena_text(m->arena, cost->engine)
            : mb_arena_format(m->arena, "%s:%s", cost->engine, mb_backend_name(cost->pools[best].backend));
    cluster->n_ctx = m->opts.n_ctx;
    cluster->model_bytes = m->model->resident_bytes;
    cluster->n_nodes = n;
    cluster->kv = m->opts.kv;
    cluster->kv.type_k = mb_arena_text(m->arena, m->opts.kv.type_k);
    cluster->kv.type_v = mb_arena_text(m->arena, m->opts.kv.type_v);
    cluster->link = mb_arena_text(m->arena, m->link.name);
    cluster->link_bytes_per_s = m->link.bytes_per_s;
    cluster->link_latency_s = m->link.latency_s;
    /* The residual stream: F32 in llama.cpp; with hyper-connections, several of them. */
    cluster->hop_bytes = 4.0 * m->model->hp.n_embd * (m->model->hp.hc > 1 ? m->model->hp.hc : 1);
    find_alone(m);
    cluster->fits = divide(m, bounds);
    if (m->scratch.failed)
        return mb_fail_memory(err);
    if (!cluster->fits) {
        say_needs(m);
        return MB_OK;
    }
    for (unsigned s = 0; s < n && code == MB_OK; s++) {
        code = fill_node(m, s, bounds[s], bounds[s + 1], &sums, err);
        cluster->n_used += bounds[s + 1] > bounds[s] || s + 1 == n;
    }
    if (code == MB_OK) {
        set_speeds(m, &sums);
        say_notes(m);
    }
    return code;
}

int mb_cluster_make(const struct mb_machine *const *machines, unsigned n_machines, const char *link,
                    const struct mb_model *model, const struct mb_plan_opts *opts, struct mb_cluster **out,
                    struct mb_err *err)
{
    struct maker maker = {.model = model};
    struct owner *owner = calloc(1, sizeof(*owner));
    if (!owner)
        return mb_fail_memory(err);
    if (opts)
        maker.opts = *opts;
    maker.cluster = &owner->cluster;
    maker.arena = &owner->arena;
    owner->cluster.owner = owner;
    int code =
        n_machines < 2 || n_machines > MB_CLUSTER_MAX
            ? mb_fail(err, MB_EINVAL, "%u machines: a plan over several takes 2 to %d", n_machines, MB_CLUSTER_MAX)
            : mb_link_parse(link, &maker.link, err);
    if (code == MB_OK)
        code = fill(&maker, machines, n_machines, err);
    if (code == MB_OK && owner->arena.failed)
        code = mb_fail_memory(err);
    mb_placer_free(&maker.placer);
    mb_load_free(maker.load);
    mb_arena_free(&maker.scratch);
    if (code != MB_OK)
        mb_cluster_free(&owner->cluster);
    else
        *out = &owner->cluster;
    return code;
}

void mb_cluster_free(struct mb_cluster *cluster)
{
    if (!cluster)
        return;
    struct owner *owner = cluster->owner;
    mb_arena_free(&owner->arena);
    free(owner);
}
