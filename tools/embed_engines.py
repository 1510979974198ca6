#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turn engine profiles into a C file.

usage: embed_engines.py OUT.c OUT.d ENGINES_DIR TABLE.h

Every *.json of ENGINES_DIR becomes rows of mb_profiles (src/plan/profile_table.h), whose list of constants is read from
TABLE.h, so that a missing or an unknown constant stops the build. OUT.d tells the build what was read.
"""

import json
import math
import os
import re
import sys

BACKENDS = ["cuda", "metal", "vulkan", "rocm", "cpu"]


def constants_of(table):
    with open(table, encoding="utf-8") as file:
        text = file.read()
    start = text.index("#define MB_CONSTANTS(X)")
    return re.findall(r'X\((\w+), "(\w+)"\)', text[start : text.index("enum mb_constant", start)])


def row(path, engine, profile, constants):
    backend, values = profile["backend"], profile["constants"]
    unknown = set(values) - {key for _, key in constants}
    missing = {key for _, key in constants} - set(values)
    if unknown or missing or backend not in BACKENDS:
        sys.exit(f"{path}: {engine} {backend}: unknown {sorted(unknown)}, missing {sorted(missing)}")
    for key, value in values.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            sys.exit(f"{path}: {engine} {backend}: {key} is no number")
    numbers = ", ".join(repr(float(values[key])) for _, key in constants)
    return f'    {{"{engine}", MB_BACKEND_{backend.upper()}, {{{numbers}}}, {int(profile["rows"])}}},'


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    out_c, out_d, folder, table = sys.argv[1:]
    constants, files = constants_of(table), []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as file:
                files.append((path, json.load(file)))
    files.sort(key=lambda entry: (entry[1]["rank"], entry[1]["engine"]))
    lines = ['#include "plan/profile_table.h"', "", "const struct mb_profile mb_profiles[] = {"]
    for path, data in files:
        if not re.fullmatch(r"[a-z0-9_.-]+", data["engine"]):
            sys.exit(f"{path}: {data['engine']}: not a name of an engine")
        lines += [row(path, data["engine"], profile, constants) for profile in data["profiles"]]
    lines += ["};", "const size_t mb_n_profiles = sizeof mb_profiles / sizeof *mb_profiles;"]
    names = [data["engine"] for _, data in files]
    choices = names + [
        f"{data['engine']}:{backend}"
        for _, data in files
        for backend in ("rocm", "vulkan")
        if {"rocm", "vulkan"} <= {profile["backend"] for profile in data["profiles"]}
    ]
    texts = ", ".join(f'"{name}"' for name in choices)
    lines += [f"const char *const mb_profile_engines[] = {{{texts}}};"]
    lines += [f"const size_t mb_n_profile_engines = {len(names)}, mb_n_profile_choices = {len(choices)};", ""]
    with open(out_c, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    with open(out_d, "w", encoding="utf-8") as file:
        file.write(f"{out_c}: {folder} {table} " + " ".join(path for path, _ in files) + "\n")


main()
