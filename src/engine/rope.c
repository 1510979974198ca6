/* SPDX-License-Identifier: MIT */
/* Rotary positions: the speed at which each pair turns, and the sines and cosines of one position. All scaling schemes end up in
 * these speeds: linear and YaRN (Peng et al. 2023, arXiv 2309.00071), the frequency factors of Llama 3 and LongRoPE. */
#include "engine/forward.h"

#include <math.h>

/* The pair that turns `turns` times within the context of the training. */
static double pair_of(const struct mb_rope_params *rope, double turns)
{
    return rope->n_rot * log(rope->context / (turns * 2 * 3.14159265358979323846)) / (2 * log(rope->base));
}

/* 1 for pairs that keep their speed, 0 for pairs whose positions are scaled, a ramp between. */
static double kept(const struct mb_rope_params *rope, uint32_t pair)
{
    double low = floor(pair_of(rope, rope->beta_fast)), high = ceil(pair_of(rope, rope->beta_slow));
    low = low > 0 ? low : 0;
    high = high < rope->n_rot - 1 ? high : rope->n_rot - 1;
    double width = high - low > 0.001 ? high - low : 0.001, along = (pair - low) / width;
    return 1 - (along < 0 ? 0 : along > 1 ? 1 : along);
}

void mb_rope_speeds(const struct mb_rope_params *rope, const float *factors, double *speeds)
{
    for (uint32_t i = 0; i < rope->n_rot / 2; i++) {
        double own = pow(rope->base, -2.0 * i / rope->n_rot) / (factors ? factors[i] : 1);
        double mixed = rope->extrapolate > 0 ? rope->extrapolate * kept(rope, i) : 0;
        speeds[i] = own * (rope->scale * (1 - mixed) + mixed);
    }
}

void mb_rope_table(const struct mb_rope_params *rope, const double *speeds, uint64_t position, float *table)
{
    for (uint32_t i = 0; i < rope->n_rot / 2; i++) {
        double angle = (double)position * speeds[i];
        table[2 * i] = (float)cos(angle) * rope->magnitude;
        table[2 * i + 1] = (float)sin(angle) * rope->magnitude;
    }
}
