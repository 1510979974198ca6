/* SPDX-License-Identifier: MIT */
/* Finding a profile by engine and backend. The table itself is made from data/engines at build time. */
#include "plan/profile_table.h"

#include <string.h>

const char *mb_backend_name(enum mb_backend backend)
{
    static const char *const names[MB_N_BACKENDS] = {"cuda", "metal", "vulkan", "rocm", "cpu"};
    return (unsigned)backend < MB_N_BACKENDS ? names[backend] : "none";
}

int mb_backend_by_name(const char *name, enum mb_backend *out)
{
    for (unsigned i = 0; i < MB_N_BACKENDS; i++) {
        if (mb_name_compare(name, mb_backend_name((enum mb_backend)i)) == 0) {
            *out = (enum mb_backend)i;
            return MB_OK;
        }
    }
    return MB_ENAME;
}

const char *const *mb_engine_names(size_t *out_n)
{
    *out_n = mb_n_profile_choices;
    return mb_profile_engines;
}

const char *mb_profile_engine(const struct mb_profile *profile)
{
    return profile->engine;
}

enum mb_backend mb_profile_backend(const struct mb_profile *profile)
{
    return profile->backend;
}

const struct mb_profile *mb_profile_find(const char *engine, enum mb_backend backend)
{
    for (size_t i = 0; i < mb_n_profiles; i++) {
        if (mb_profiles[i].backend == backend &&
            mb_name_compare(mb_profiles[i].engine, engine ? engine : mb_profile_engines[0]) == 0)
            return &mb_profiles[i];
    }
    return NULL;
}

/* How llama.cpp's usual builds drive a processor. */
static enum mb_backend backend_of(const struct mb_processor *processor)
{
    const char *name = processor->name ? processor->name : "";
    if (processor->kind == MB_PROCESSOR_CPU)
        return MB_BACKEND_CPU;
    if (strncmp(name, "Apple", 5) == 0)
        return MB_BACKEND_METAL;
    if (strstr(name, "NVIDIA") || strstr(name, "GeForce"))
        return MB_BACKEND_CUDA;
    return MB_BACKEND_VULKAN;
}

int mb_profile_for(const struct mb_machine *machine, unsigned processor, const char *engine, const struct mb_profile **out,
                   struct mb_err *err)
{
    char name[64], offers[200];
    const char *colon = engine ? strchr(engine, ':') : NULL;
    size_t n = colon ? (size_t)(colon - engine) : engine ? strlen(engine) : 0;
    if (processor >= machine->n_processors)
        return mb_fail(err, MB_EINVAL, "%s: has no processor %u", machine->name, processor);
    const struct mb_processor *p = &machine->processors[processor];
    enum mb_backend usual = backend_of(p), backend = usual;
    int known = !engine;
    snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), engine ? engine : "");
    for (size_t i = 0; i < mb_n_profile_engines; i++)
        known |= mb_name_compare(mb_profile_engines[i], name) == 0;
    if (!known) {
        mb_name_nearest(name, mb_profile_engines, mb_n_profile_engines, 3, offers, sizeof offers);
        return mb_fail(err, MB_ENAME, "%s: no such engine; %s%s", name,
                       *offers ? "did you mean " : "there are llama.cpp and others",
                       offers);
    }
    if (colon && mb_backend_by_name(colon + 1, &backend) != MB_OK)
        return mb_fail(err, MB_ENAME, "%s: no such backend; there are cuda, metal, vulkan, rocm and cpu", colon + 1);
    /* The backend that was asked for is a GPU's; the CPU beside it keeps its own. */
    if (p->kind == MB_PROCESSOR_CPU)
        backend = MB_BACKEND_CPU;
    else if (backend == MB_BACKEND_CPU || (backend != MB_BACKEND_VULKAN && backend != usual &&
                                           !(backend == MB_BACKEND_ROCM && usual == MB_BACKEND_VULKAN)))
        return mb_fail(err, MB_ENOTSUP, "%s: does not run on %s", engine, p->name ? p->name : p->id);
    *out = mb_profile_find(engine ? name : NULL, backend);
    if (!*out)
        return mb_fail(err, MB_ENOTSUP, "%s: nobody published how it runs on %s (%s)", name[0] ? name : mb_profile_engines[0],
                       p->name ? p->name : p->id, mb_backend_name(backend));
    return MB_OK;
}
