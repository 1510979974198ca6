/* SPDX-License-Identifier: MIT */
/* A cache as if n tokens were in it. Evaluating a prompt of 32k tokens takes minutes, and how fast the token after it is
 * computed does not depend on what the cells hold, as long as it is numbers; so the bench writes random ones. */
#include "engine/session.h"

#include <string.h>

enum { ROW_MAX = 1 << 12 };

struct fill {
    struct mb_session *session;
    uint64_t seed;
};

/* Cells of one head, in the range that heads after their norms have. */
static void fill_head(const struct fill *fill, uint8_t *to, size_t row_bytes, size_t n_cells, size_t n, uint64_t key)
{
    const struct mb_pass *pass = &fill->session->pass;
    mb_store_fn *store = pass->kernels->store[pass->cache->types.k];
    float row[ROW_MAX];
    for (size_t cell = 0; cell < n_cells; cell++) {
        for (size_t i = 0; i < n; i++)
            row[i] = (float)(mb_mix(key + cell * ROW_MAX + i) >> 40) / 8388608.0f - 1.0f;
        store(to + cell * row_bytes, row, n);
    }
}

/* Heads one by one: of those of all layers, every member takes its share. */
static void fill_share(void *arg, unsigned member)
{
    const struct fill *fill = arg;
    const struct mb_pass *pass = &fill->session->pass;
    const struct mb_model *model = pass->program->model;
    for (uint32_t i = 0; i < pass->cache->n_layers; i++) {
        const struct mb_kv_cache_layer *cache = &pass->cache->layers[i];
        const struct mb_layer *layer = &model->layers[i];
        size_t begin, end;
        if (!cache->cells || layer->kv_layer != i || layer->head_k > ROW_MAX || layer->head_v > ROW_MAX)
            continue;
        mb_share(cache->n_heads, 1, member, pass->members, &begin, &end);
        for (size_t head = begin; head < end; head++) {
            uint64_t key = mb_mix(mb_mix(fill->seed + i) + head);
            fill_head(fill, cache->k + head * cache->k_head, cache->k_row, cache->cells, layer->head_k, key);
            fill_head(fill, cache->v + head * cache->v_head, cache->v_row, cache->cells, layer->head_v, ~key);
        }
    }
}

void mb_session_fill(struct mb_session *session, uint64_t seed)
{
    struct fill fill = {session, seed};
    mb_kv_cache_expect(&session->cache, session->n_ctx);
    mb_team_run(session->team, session->pass.members, fill_share, &fill);
    memset(session->tokens, 0, session->n_ctx * sizeof *session->tokens);
}

void mb_session_seek(struct mb_session *session, uint32_t n)
{
    session->n_kept = 0;
    session->n_tokens = session->n_written = n;
}
