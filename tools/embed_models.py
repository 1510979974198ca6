#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make a C file of the catalog's models.

usage: embed_models.py OUT.c OUT.d DATA_DIR/models

One text per model, so that the program parses only the model it is asked for. Stops the build when a file is not what
docs/models.md describes: strict JSON, the required keys, no name twice."""
import json
import os
import re
import sys


def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f'key "{key}" twice')
    return dict(pairs)


def c_text(text):
    # A character that continues a hexadecimal or trigraph escape cannot follow: only octal escapes are used.
    out = []
    for byte in text.encode():
        char = chr(byte)
        if char in '"\\?':
            out.append('\\' + char)
        elif 32 <= byte < 127:
            out.append(char)
        else:
            out.append(f'\\{byte:03o}')
    return ''.join(out)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    out, depfile, folder = sys.argv[1:]
    paths = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith('.json'))
    models, seen = [], {}
    for path in paths:
        with open(path, encoding='utf-8') as file:
            try:
                data = json.load(file, object_pairs_hook=no_duplicates)
            except ValueError as why:
                sys.exit(f'{path}: {why}')
        for model in data['models']:
            for key in ('name', 'arch', 'shape', 'sources'):
                if not model.get(key):
                    sys.exit(f'{path}: {model.get("name")}: no {key}')
            folded = re.sub(r'[^a-z0-9+]', '', model['name'].lower())
            if folded in seen:
                sys.exit(f'{path}: {model["name"]} and {seen[folded]} are the same name to a person')
            seen[folded] = model['name']
            models.append(model)
    with open(out, 'w', encoding='ascii') as file:
        file.write('/* Made by tools/embed_models.py from data/models. */\n#include "model/catalog_models.h"\n\n')
        file.write('const char *const mb_embedded_model_names[] = {\n')
        for model in models:
            file.write(f'    "{c_text(model["name"])}",\n')
        file.write('};\n\nconst char *const mb_embedded_models[] = {\n')
        for model in models:
            text = json.dumps(model, ensure_ascii=False, separators=(',', ':'))
            chunks = re.findall(r'.{1,100}', text, re.S)
            lines = '\n    '.join(f'"{c_text(chunk)}"' for chunk in chunks)
            file.write(f'    {lines},\n')
        file.write(f'}};\n\nconst unsigned mb_n_embedded_models = {len(models)};\n')
    with open(depfile, 'w', encoding='utf-8') as file:
        # The folder, too, so that a new file is noticed.
        file.write(out + ': ' + ' '.join(path.replace(' ', '\\ ') for path in [folder] + paths) + '\n')


main()
