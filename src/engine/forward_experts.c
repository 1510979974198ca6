/* SPDX-License-Identifier: MIT */
/* Routed experts. Every token chooses some; the entries (token, slot) are put in the order of experts, so that each chosen
 * expert's rows are read once per pass for all its tokens, and results are summed in the same order whatever their number. */
#include "engine/forward.h"

#include <math.h>
#include <string.h>

/* ---- choosing ---- */

/* Keep scores of the best groups only; a group is as good as the sum of its two best experts. */
static void mask_groups(float *scores, uint32_t n, uint32_t n_groups, uint32_t n_used)
{
    uint32_t size = n / n_groups;
    for (uint32_t left = n_groups - n_used; left; left--) {
        uint32_t worst = 0;
        float least = INFINITY;
        for (uint32_t g = 0; g < n_groups; g++) {
            float first = -INFINITY, second = -INFINITY;
            for (uint32_t i = g * size; i < (g + 1) * size; i++) {
                float score = scores[i];
                if (score > first) {
                    second = first;
                    first = score;
                } else if (score > second)
                    second = score;
            }
            if (first != -INFINITY && first + second <= least) {
                least = first + second;
                worst = g;
            }
        }
        for (uint32_t i = worst * size; i < (worst + 1) * size; i++)
            scores[i] = -INFINITY;
    }
}

static void sort_by_expert(uint32_t *chosen, float *weights, uint32_t k)
{
    for (uint32_t i = 1; i < k; i++) {
        for (uint32_t j = i; j && chosen[j - 1] > chosen[j]; j--) {
            uint32_t expert = chosen[j];
            float weight = weights[j];
            chosen[j] = chosen[j - 1];
            weights[j] = weights[j - 1];
            chosen[j - 1] = expert;
            weights[j - 1] = weight;
        }
    }
}

/* chosen[k] of one token, ascending, and their weights. scores: [n] scratch beside probs. */
static void choose(const struct mb_pass *pass, const struct mb_step *step, float *probs, float *scores, uint32_t *chosen,
                   float *weights)
{
    const struct mb_engine_hparams *hp = &pass->program->hp;
    const struct mb_kernels *kernels = pass->kernels;
    uint32_t n = pass->program->model->hp.n_expert, k = pass->program->model->hp.n_expert_used;
    if (hp->gating == MB_GATE_SOFTMAX)
        kernels->softmax(probs, probs, n, 1, NULL);
    else if (hp->gating == MB_GATE_SIGMOID)
        kernels->sigmoid(probs, probs, n);
    memcpy(scores, probs, n * sizeof *scores);
    if (step->choice_bias)
        kernels->add(scores, scores, step->choice_bias, n);
    if (hp->n_groups)
        mask_groups(scores, n, hp->n_groups, hp->n_groups_used);
    mb_top_k(chosen, scores, n, k);
    for (uint32_t i = 0; i < k; i++)
        weights[i] = probs[chosen[i]];
    if (hp->gating == MB_GATE_CHOSEN)
        kernels->softmax(weights, weights, k, 1, NULL);
    if (hp->gate_normalise) {
        float sum = 0;
        for (uint32_t i = 0; i < k; i++)
            sum += weights[i];
        sum = sum > 6.103515625e-5f ? sum : 6.103515625e-5f; /* the least normal half, as llama.cpp has it */
        kernels->scale(weights, weights, k, 1 / sum);
    }
    if (hp->gate_scale != 1)
        kernels->scale(weights, weights, k, hp->gate_scale);
    sort_by_expert(chosen, weights, k);
}

/* Entries of all tokens, by expert and then by token: order[counts[e]..counts[e + 1]) are those of expert e. */
static void put_in_order(const struct mb_pass *pass, struct mb_lane *lane, const uint32_t *chosen)
{
    uint32_t n = pass->program->model->hp.n_expert, entries = (uint32_t)lane->n * pass->program->model->hp.n_expert_used;
    uint32_t *counts = lane->counts;
    memset(counts, 0, (n + 2) * sizeof *counts);
    for (uint32_t i = 0; i < entries; i++)
        counts[chosen[i] + 2]++;
    for (uint32_t e = 0; e < n; e++)
        counts[e + 2] += counts[e + 1];
    for (uint32_t i = 0; i < entries; i++)
        lane->order[counts[chosen[i] + 1]++] = i;
}

void mb_pass_router(struct mb_pass *pass, const struct mb_step *step, unsigned member)
{
    struct mb_lane *lane = &pass->lanes[member];
    uint32_t n = pass->program->model->hp.n_expert, k = pass->program->model->hp.n_expert_used;
    const struct mb_matrix *matrix = &step->matrices[0];
    const float *from = step->from_stream ? lane->x : lane->h;
    mb_pass_multiply(pass, matrix, 0, mb_lane_prepare(pass, lane, matrix->type, from, matrix->n_cols), pass->router, n, member);
    mb_team_barrier(pass->team);
    if (lane->is_private) {
        float *probs = lane->own_weights + k;
        memcpy(probs, pass->router, n * sizeof *probs);
        choose(pass, step, probs, probs + n, lane->own_chosen, lane->own_weights);
        put_in_order(pass, lane, lane->own_chosen);
        return;
    }
    for (size_t t = lane->begin; t < lane->end; t++)
        choose(pass, step, pass->router + t * n, lane->own_weights, pass->chosen + t * k, pass->weights_chosen + t * k);
    mb_team_barrier(pass->team);
    put_in_order(pass, lane, pass->chosen);
}

/* ---- running the chosen ---- */

/* The form of n tokens that both matrices of an expert read; forms that all levels read are the same for both. */
static enum mb_act act_of_both(const struct mb_pass *pass, const struct mb_step *step, size_t n)
{
    const struct mb_matrix *gate = &step->matrices[0], *up = &step->matrices[1];
    enum mb_act act = mb_kernels_act(pass->kernels, gate->type, gate->n_cols, n);
    return act == mb_kernels_act(pass->kernels, up->type, up->n_cols, n) ? act : mb_act_of(gate->type);
}

/* Bring the tokens of each expert into the form that its rows read, side by side. */
static void gather(struct mb_pass *pass, const struct mb_step *step, struct mb_lane *lane, unsigned member)
{
    const struct mb_matrix *matrix = &step->matrices[0];
    uint32_t n = pass->program->model->hp.n_expert, k = pass->program->model->hp.n_expert_used;
    for (uint32_t e = 0; e < n; e++) {
        uint32_t at = lane->counts[e], count = lane->counts[e + 1] - at;
        size_t begin, end;
        if (!count)
            continue;
        for (uint32_t i = 0; i < count; i++)
            lane->seen[i] = lane->order[at + i] / k;
        struct mb_prepare op = {.act = act_of_both(pass, step, count),
                                .to = (uint8_t *)pass->act_experts + at * pass->act_entry,
                                .from = step->from_stream ? lane->x : lane->h,
                                .from_stride = matrix->n_cols,
                                .index = lane->seen,
                                .n_cols = matrix->n_cols,
                                .n_tokens = count};
        mb_share(mb_prepare_units(&op), 1, member, pass->members, &begin, &end);
        if (begin < end)
            pass->kernels->prepare(&op, begin, end);
    }
    mb_team_barrier(pass->team);
}

void mb_pass_experts_up(struct mb_pass *pass, const struct mb_step *step, unsigned member)
{
    struct mb_lane *lane = &pass->lanes[member];
    const struct mb_matrix *gate = &step->matrices[0], *up = &step->matrices[1];
    uint32_t n = pass->program->model->hp.n_expert;
    size_t width = gate->n_rows;
    struct mb_input in = {0}, in_up = {0};
    if (lane->is_private) {
        const float *from = step->from_stream ? lane->x : lane->h;
        in = mb_lane_prepare(pass, lane, gate->type, from, gate->n_cols);
        in_up = mb_lane_prepare(pass, lane, up->type, from, up->n_cols);
    } else
        gather(pass, step, lane, member);
    for (uint32_t e = 0; e < n; e++) {
        size_t at = lane->counts[e], count = lane->counts[e + 1] - at;
        if (!count)
            continue;
        if (!lane->is_private)
            in = in_up = (struct mb_input){act_of_both(pass, step, count),
                                           (uint8_t *)pass->act_experts + at * pass->act_entry, count};
        mb_pass_multiply(pass, gate, e, in, pass->expert_gate + at * width, width, member);
        mb_pass_multiply(pass, up, e, in_up, pass->expert_up + at * width, width, member);
        mb_pass_activate(pass, pass->expert_gate + at * width, pass->expert_up + at * width, width, count,
                         step[1].matrices[0].type, (uint8_t *)pass->act_experts_down + at * pass->act_down_entry, member);
    }
    mb_team_barrier(pass->team);
}

void mb_pass_experts_down(struct mb_pass *pass, const struct mb_step *step, unsigned member)
{
    struct mb_lane *lane = &pass->lanes[member];
    const struct mb_matrix *matrix = &step->matrices[0];
    uint32_t n = pass->program->model->hp.n_expert, k = pass->program->model->hp.n_expert_used;
    const float *weights = lane->is_private ? lane->own_weights : pass->weights_chosen;
    size_t begin, end, d = matrix->n_rows;
    mb_share(d, 32, member, pass->members, &begin, &end);
    for (size_t t = 0; begin < end && t < lane->n; t++)
        memset(pass->y + t * d + begin, 0, (end - begin) * sizeof(float));
    for (uint32_t e = 0; e < n; e++) {
        size_t at = lane->counts[e], count = lane->counts[e + 1] - at;
        if (!count)
            continue;
        struct mb_input in = mb_pass_activated(pass, matrix, pass->expert_gate + at * matrix->n_cols,
                                               (uint8_t *)pass->act_experts_down + at * pass->act_down_entry, count);
        mb_pass_multiply(pass, matrix, e, in, pass->partial, d, member);
        for (size_t i = 0; begin < end && i < count; i++) {
            uint32_t entry = lane->order[at + i];
            pass->kernels->axpy(pass->y + entry / k * d + begin, pass->partial + i * d + begin, end - begin, weights[entry]);
        }
    }
    mb_team_barrier(pass->team);
}
