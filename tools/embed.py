#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Embed JSON files in a C file.

usage: embed.py OUT.c OUT.d DATA_DIR SUBDIR|FILE.json...

Every *.json of each DATA_DIR/SUBDIR goes, without its blanks and in the order of names, into the table
mb_embedded_files (src/base/embedded.h) under the name "SUBDIR/FILE.json", and DATA_DIR/FILE.json under "FILE.json". A
missing SUBDIR embeds nothing. OUT.d tells the build what was read; it names the directories, too, so that a new file is
noticed. Broken JSON stops the build.
"""

import json
import os
import re
import sys

BLANKS_OR_TEXT = re.compile(r'"(?:\\.|[^"\\])*"|\s+')


def refuse_duplicates(pairs):
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f'key "{key}" appears twice')
    return dict(pairs)


def minified(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        json.loads(text, object_pairs_hook=refuse_duplicates)
    except ValueError as error:
        sys.exit(f"{path}: {error}")
    # Cut blanks from the text itself: numbers stay as they were written.
    return BLANKS_OR_TEXT.sub(lambda m: m.group() if m.group()[0] == '"' else "", text).encode()


def c_bytes(data):
    numbers = [str(byte) for byte in data + b"\0"]
    return ",\n".join(",".join(numbers[i : i + 32]) for i in range(0, len(numbers), 32))


def nearest_existing(path):
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    out_c, out_d, data_dir, subdirs = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    read, arrays, rows = [], [], []
    names = []
    for subdir in subdirs:
        folder = os.path.join(data_dir, subdir)
        if subdir.endswith(".json"):
            names.append(subdir)
            continue
        read.append(nearest_existing(folder))
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if name.endswith(".json"):
                names.append(f"{subdir}/{name}")
    for name in names:
        path = os.path.join(data_dir, name)
        read.append(path)
        data = minified(path)
        arrays.append(f"static const unsigned char file_{len(rows)}[] = {{\n{c_bytes(data)}}};\n")
        rows.append(f'    {{"{name}", file_{len(rows)}, {len(data)}}},\n')
    with open(out_c, "w", encoding="ascii") as file:
        file.write("/* SPDX-License-Identifier: MIT */\n/* Made by tools/embed.py; edit the JSON files instead. */\n")
        file.write('#include "base/embedded.h"\n\n')
        file.writelines(arrays)
        # The last row keeps the table legal when there is no file at all.
        file.write("\nconst struct mb_embedded mb_embedded_files[] = {\n" + "".join(rows) + "    {0, 0, 0},\n};\n")
        file.write(f"const size_t mb_embedded_n_files = {len(rows)};\n")
    with open(out_d, "w", encoding="utf-8") as file:
        file.write(out_c + ": " + " ".join(path.replace(" ", "\\ ") for path in read) + "\n")


main()
