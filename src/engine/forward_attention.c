/* SPDX-License-Identifier: MIT */
/* Attention: queries and keys get their norms and positions, keys and values go to the cache, queries see it. With many tokens
 * the work is split by heads and tiles of tokens; with one, by KV heads and, where there are too few of them for the members,
 * by pieces of the context whose states are merged. */
#include "engine/forward.h"

/* Tokens of one tile. */
#define TILE 64
/* A piece of context is not worth a barrier if it is shorter. */
#define PIECE_MIN 128

/* How many pieces each head's context is walked in: so many that heads times pieces divide evenly among the whole team, whether
 * or not all of it runs, because how states are merged shows in the last bits. */
static size_t pieces_of(const struct mb_pass *pass, const struct mb_kv_cache_layer *cache, uint64_t cells)
{
    size_t heads = cache->n_heads, a = heads, b = pass->n_team;
    while (b) {
        size_t rest = a % b;
        a = b;
        b = rest;
    }
    size_t pieces = pass->n_team / a, most = (size_t)(cells / PIECE_MIN);
    pieces = pieces < pass->n_chunks ? pieces : pass->n_chunks;
    pieces = pieces < most ? pieces : most;
    return pieces ? pieces : 1;
}

static size_t decode_pieces(const struct mb_pass *pass, const struct mb_kv_cache_layer *cache)
{
    return pieces_of(pass, cache, pass->position + 1 - mb_kv_first_seen(cache, pass->position));
}

/* ---- rope and store ---- */

static void turn_heads(const struct mb_pass *pass, const struct mb_step *step, const struct mb_lane *lane, size_t t, float *x,
                       size_t n_heads, size_t width)
{
    const struct mb_engine_hparams *hp = &pass->program->hp;
    int window = pass->cache->layers[step->layer].window != 0;
    const struct mb_rope_params *rope = window ? &hp->rope_window : &hp->rope;
    const float *turns = (window ? lane->turns_window : lane->turns) + t * rope->n_rot;
    if (!step->no_rope)
        pass->kernels->rope(x, n_heads, width, rope->n_rot, turns, hp->rope_kind);
}

/* KV head h of token t with its query heads. */
static void rope_store_head(struct mb_pass *pass, const struct mb_step *step, const struct mb_lane *lane, size_t t, size_t h)
{
    const struct mb_kernels *kernels = pass->kernels;
    const struct mb_layer *layer = &pass->program->model->layers[step->layer];
    const struct mb_kv_cache_layer *cache = &pass->cache->layers[step->layer];
    float eps = pass->program->hp.norm_eps;
    size_t group = layer->n_head / layer->n_head_kv, cell = (size_t)((pass->position + t) % cache->cells);
    float *q = pass->q + (t * layer->n_head + h * group) * layer->head_k;
    float *k = pass->k + (t * layer->n_head_kv + h) * layer->head_k;
    const float *v = pass->v + (t * layer->n_head_kv + h) * layer->head_v;
    if (step->norm && !step->norm_whole) {
        for (size_t i = 0; i < group; i++)
            kernels->rms_norm(q + i * layer->head_k, q + i * layer->head_k, step->norm, layer->head_k, eps);
    }
    if (step->norm_k && !step->norm_whole)
        kernels->rms_norm(k, k, step->norm_k, layer->head_k, eps);
    turn_heads(pass, step, lane, t, q, group, layer->head_k);
    turn_heads(pass, step, lane, t, k, 1, layer->head_k);
    kernels->store[pass->cache->types.k](cache->k + h * cache->k_head + cell * cache->k_row, k, layer->head_k);
    kernels->store[pass->cache->types.v](cache->v + h * cache->v_head + cell * cache->v_row, v, layer->head_v);
}

static void norm_whole(const struct mb_pass *pass, const struct mb_step *step, size_t t)
{
    const struct mb_layer *layer = &pass->program->model->layers[step->layer];
    size_t q = (size_t)layer->n_head * layer->head_k, k = (size_t)layer->n_head_kv * layer->head_k;
    float eps = pass->program->hp.norm_eps;
    if (step->norm)
        pass->kernels->rms_norm(pass->q + t * q, pass->q + t * q, step->norm, q, eps);
    if (step->norm_k)
        pass->kernels->rms_norm(pass->k + t * k, pass->k + t * k, step->norm_k, k, eps);
}

void mb_pass_rope_store(struct mb_pass *pass, const struct mb_step *step, unsigned member)
{
    const struct mb_lane *lane = &pass->lanes[member];
    const struct mb_kv_cache_layer *cache = &pass->cache->layers[step->layer];
    size_t heads = cache->n_heads, begin, end;
    if (step->norm_whole) {
        mb_share(pass->n, 1, member, pass->members, &begin, &end);
        for (size_t t = begin; t < end; t++) {
            norm_whole(pass, step, t);
            for (size_t h = 0; h < heads; h++)
                rope_store_head(pass, step, lane, t, h);
        }
        mb_team_barrier(pass->team);
        return;
    }
    if (pass->n == 1) {
        for (size_t h = member; h < heads; h += pass->members)
            rope_store_head(pass, step, lane, 0, h);
        if (decode_pieces(pass, cache) > 1)
            mb_team_barrier(pass->team); /* else the member that made a head is the one that attends with it */
        return;
    }
    mb_share(pass->n * heads, 1, member, pass->members, &begin, &end);
    for (size_t i = begin; i < end; i++)
        rope_store_head(pass, step, lane, i / heads, i % heads);
    mb_team_barrier(pass->team);
}

/* ---- attention ---- */

/* Queries [0, op->n_queries) see positions [begin, end); positions that query i sees are in lane->seen. */
static void see(const struct mb_pass *pass, const struct mb_kv_cache_layer *cache, struct mb_attention *op, size_t head,
                uint64_t begin, uint64_t end, const uint64_t *first, uint64_t query_position, size_t per_token, uint32_t *seen)
{
    struct mb_kv_span spans[2];
    unsigned n = mb_kv_spans(cache, begin, end, spans);
    uint32_t *from = seen, *to = seen + op->n_queries;
    op->begin = from;
    op->end = to;
    for (unsigned s = 0; s < n; s++) {
        uint64_t at = spans[s].position;
        for (size_t i = 0; i < op->n_queries; i++) {
            uint64_t position = query_position + i / per_token;
            uint64_t low = first ? *first : mb_kv_first_seen(cache, position), high = position + 1;
            low = low > at ? low - at : 0;
            high = high > at ? high - at : 0;
            to[i] = (uint32_t)(high < spans[s].n ? high : spans[s].n);
            from[i] = (uint32_t)(low < to[i] ? low : to[i]);
        }
        op->k = cache->k + head * cache->k_head + spans[s].cell * cache->k_row;
        op->v = cache->v + head * cache->v_head + spans[s].cell * cache->v_row;
        pass->kernels->attention(op, 0, op->n_queries, 0, spans[s].n);
    }
}

static struct mb_attention attention_of(const struct mb_pass *pass, const struct mb_step *step)
{
    const struct mb_layer *layer = &pass->program->model->layers[step->layer];
    const struct mb_kv_cache_layer *cache = &pass->cache->layers[step->layer];
    return (struct mb_attention){.type = pass->cache->types.k,
                                 .k_stride = cache->k_row,
                                 .v_stride = cache->v_row,
                                 .k_dim = layer->head_k,
                                 .v_dim = layer->head_v,
                                 .scale = pass->program->hp.score_scale,
                                 .soft_cap = pass->program->hp.score_cap};
}

/* One query head, TILE tokens from `first` on. */
static void attend_tile(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, size_t head, size_t first)
{
    const struct mb_layer *layer = &pass->program->model->layers[step->layer];
    const struct mb_kv_cache_layer *cache = &pass->cache->layers[step->layer];
    size_t group = layer->n_head / layer->n_head_kv, n = pass->n - first < TILE ? pass->n - first : TILE;
    size_t state = mb_attention_state(layer->head_v);
    uint64_t position = pass->position + first;
    struct mb_attention op = attention_of(pass, step);
    op.q = pass->q + (first * layer->n_head + head) * layer->head_k;
    op.q_stride = (size_t)layer->n_head * layer->head_k;
    op.n_queries = n;
    op.state = lane->own_states;
    mb_attention_clear(op.state, layer->head_v, n);
    see(pass, cache, &op, head / group, mb_kv_first_seen(cache, position), position + n, NULL, position, 1, lane->seen);
    for (size_t i = 0; i < n; i++)
        mb_attention_finish(pass->attended + ((first + i) * layer->n_head + head) * layer->head_v, op.state + i * state,
                            layer->head_v, step->sinks ? step->sinks + head : NULL);
}

/* One KV head of one token, piece `piece` of its context. */
static void attend_piece(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, size_t head, size_t piece,
                         size_t pieces)
{
    const struct mb_layer *layer = &pass->program->model->layers[step->layer];
    const struct mb_kv_cache_layer *cache = &pass->cache->layers[step->layer];
    size_t group = layer->n_head / layer->n_head_kv, state = mb_attention_state(layer->head_v), begin, end;
    uint64_t seen = mb_kv_first_seen(cache, pass->position);
    mb_share((size_t)(pass->position + 1 - seen), 1, (unsigned)piece, (unsigned)pieces, &begin, &end);
    struct mb_attention op = attention_of(pass, step);
    op.q = pass->q + head * group * layer->head_k;
    op.q_stride = layer->head_k;
    op.n_queries = group;
    op.state = pieces == 1 ? lane->own_states : pass->states + (piece * layer->n_head + head * group) * state;
    mb_attention_clear(op.state, layer->head_v, group);
    see(pass, cache, &op, head, seen + begin, seen + end, &seen, pass->position, group, lane->seen);
    if (pieces > 1)
        return;
    for (size_t i = 0; i < group; i++)
        mb_attention_finish(pass->attended + (head * group + i) * layer->head_v, op.state + i * state, layer->head_v,
                            step->sinks ? step->sinks + head * group + i : NULL);
}

static void merge_pieces(struct mb_pass *pass, const struct mb_step *step, size_t pieces, unsigned member)
{
    const struct mb_layer *layer = &pass->program->model->layers[step->layer];
    size_t state = mb_attention_state(layer->head_v);
    for (size_t head = member; head < layer->n_head; head += pass->members) {
        float *to = pass->states + head * state;
        for (size_t piece = 1; piece < pieces; piece++)
            mb_attention_merge(to, pass->states + (piece * layer->n_head + head) * state, layer->head_v, 1);
        mb_attention_finish(pass->attended + head * layer->head_v, to, layer->head_v, step->sinks ? step->sinks + head : NULL);
    }
}

void mb_pass_attention(struct mb_pass *pass, const struct mb_step *step, unsigned member)
{
    struct mb_lane *lane = &pass->lanes[member];
    const struct mb_layer *layer = &pass->program->model->layers[step->layer];
    const struct mb_kv_cache_layer *cache = &pass->cache->layers[step->layer];
    if (pass->n == 1) {
        size_t pieces = decode_pieces(pass, cache);
        for (size_t i = member; i < cache->n_heads * pieces; i += pass->members)
            attend_piece(pass, step, lane, i % cache->n_heads, i / cache->n_heads, pieces);
        if (pieces > 1) {
            mb_team_barrier(pass->team);
            merge_pieces(pass, step, pieces, member);
        }
    } else {
        size_t tiles = (pass->n + TILE - 1) / TILE;
        for (size_t i = member; i < tiles * layer->n_head; i += pass->members)
            attend_tile(pass, step, lane, i % layer->n_head, i / layer->n_head * TILE);
    }
    mb_team_barrier(pass->team);
}
