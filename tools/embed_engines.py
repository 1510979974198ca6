#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turn the engines and the fitted constants of the cost model into a C file.

usage: embed_engines.py OUT.c OUT.d ENGINES_DIR MEASURED.csv

engines.json lists the engines and their backends (src/plan/profile_table.h); constants.json, which `membound validate --fit`
writes, holds the parameters (src/plan/form.h). MEASURED.csv goes in as it is. OUT.d tells the build what was read.
"""

import json
import math
import os
import re
import sys

BACKENDS = ["cuda", "metal", "vulkan", "rocm", "cpu"]


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def profiles(path):
    engines = load(path)["engines"]
    lines = ["const struct mb_profile mb_profiles[] = {"]
    for entry in engines:
        for backend in entry["backends"]:
            if backend not in BACKENDS or not re.fullmatch(r"[a-z0-9_.-]+", entry["engine"]):
                sys.exit(f"{path}: {entry['engine']} on {backend}: not a name that is known")
            lines.append(f'    {{"{entry["engine"]}", MB_BACKEND_{backend.upper()}}},')
    names = [entry["engine"] for entry in engines]
    choices = names + [
        f"{entry['engine']}:{backend}"
        for entry in engines
        for backend in ("rocm", "vulkan")
        if {"rocm", "vulkan"} <= set(entry["backends"])
    ]
    texts = ", ".join(f'"{name}"' for name in choices)
    lines += ["};", "const size_t mb_n_profiles = sizeof mb_profiles / sizeof *mb_profiles;"]
    lines += [f"const char *const mb_profile_engines[] = {{{texts}}};"]
    lines += [f"const size_t mb_n_profile_engines = {len(names)}, mb_n_profile_choices = {len(choices)};"]
    return lines


def constants(path):
    rows = load(path)["constants"]
    lines = ["const struct mb_fitted mb_fitted_rows[] = {"]
    for name, (value, n_rows) in sorted(rows.items(), key=lambda item: item[0].encode()):
        if not re.fullmatch(r"[a-zA-Z0-9 ._+-]{1,55}", name) or not math.isfinite(value) or value <= 0:
            sys.exit(f"{path}: {name}: not a constant")
        lines.append(f'    {{"{name}", {float(value)!r}, {int(n_rows)}}},')
    return lines + ["};", "const size_t mb_fitted_n = sizeof mb_fitted_rows / sizeof *mb_fitted_rows;"]


def measured(path):
    with open(path, "rb") as file:
        data = file.read()
    numbers = [str(byte) for byte in data + b"\0"]
    text = ",\n".join(",".join(numbers[i : i + 32]) for i in range(0, len(numbers), 32))
    return [
        "extern const char mb_embedded_measured[];",
        "extern const size_t mb_embedded_measured_n;",
        f"const char mb_embedded_measured[] = {{{text}}};",
        f"const size_t mb_embedded_measured_n = {len(data)};",
    ]


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    out_c, out_d, folder, csv = sys.argv[1:]
    paths = [os.path.join(folder, name) for name in ("engines.json", "constants.json")]
    lines = ['#include "plan/form.h"', '#include "plan/profile_table.h"', ""]
    lines += profiles(paths[0]) + [""] + constants(paths[1]) + [""] + measured(csv) + [""]
    with open(out_c, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    with open(out_d, "w", encoding="utf-8") as file:
        file.write(f"{out_c}: " + " ".join(paths + [csv]) + "\n")


main()
