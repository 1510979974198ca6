/* SPDX-License-Identifier: MIT */
/* Engine profiles: the constants that turn a bound into the speed of a real engine. They come from data/engines, which
 * `membound validate --fit` writes; docs/prediction.md states the formula and each constant. Internal to src/plan. */
#ifndef MB_PROFILE_H
#define MB_PROFILE_H

#include "base/base.h"

/* How a processor is driven. */
enum mb_backend { MB_BACKEND_CUDA, MB_BACKEND_METAL, MB_BACKEND_VULKAN, MB_BACKEND_ROCM, MB_BACKEND_CPU, MB_N_BACKENDS };

/* "cuda", "metal", "vulkan", "rocm", "cpu". */
const char *mb_backend_name(enum mb_backend backend);
/* MB_OK or MB_ENAME. */
int mb_backend_by_name(const char *name, enum mb_backend *out);

struct mb_profile;

/* The profile of an engine ("llama.cpp", "ollama", "mlx", ...; NULL: llama.cpp) on a backend. Engines that nobody measured on
 * that backend have none: NULL. Valid as long as the program. */
const struct mb_profile *mb_profile_find(const char *engine, enum mb_backend backend);

/* The profile by which an engine runs on a processor of a machine. The engine may name its backend: "llama.cpp:rocm". Without
 * that: NVIDIA GPUs cuda, Apple metal, AMD and Intel vulkan, CPUs cpu.
 * Returns MB_OK; MB_ENAME: no such engine, err offers the nearest; MB_ENOTSUP: not on this processor. */
int mb_profile_for(const struct mb_machine *machine, unsigned processor, const char *engine, const struct mb_profile **out,
                   struct mb_err *err);

const char *mb_profile_engine(const struct mb_profile *profile);
enum mb_backend mb_profile_backend(const struct mb_profile *profile);

#endif
