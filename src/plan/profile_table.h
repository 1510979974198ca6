/* SPDX-License-Identifier: MIT */
/* The shape of a profile, for the code that tools/embed_engines.py writes. */
#ifndef MB_PROFILE_TABLE_H
#define MB_PROFILE_TABLE_H

#include "plan/profile.h"

struct mb_profile {
    const char *engine;
    enum mb_backend backend;
};

extern const struct mb_profile mb_profiles[];
extern const size_t mb_n_profiles;
/* Each engine once, in the order of the files' "rank", then the ENGINE:BACKEND that a person may choose. */
extern const char *const mb_profile_engines[];
extern const size_t mb_n_profile_engines, mb_n_profile_choices;

#endif
