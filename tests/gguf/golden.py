#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""golden.py DUMP DIR: each DIR/*.json is what the reference reader learnt of a GGUF file (peers.py --golden wrote it);
the program DUMP must learn the same. Also: one changed byte in a file must be seen, so that this test can fail."""
import json
import pathlib
import subprocess
import sys
import tempfile


def difference(ours, theirs, where="file"):
    """The first place where two JSON values differ, or None. 1 and 1.0 are the same number; 1 and true are not."""
    if isinstance(ours, bool) != isinstance(theirs, bool):
        return f"{where}: {ours!r} instead of {theirs!r}"
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if set(ours) != set(theirs):
            return f"{where}: keys {sorted(ours)} instead of {sorted(theirs)}"
        pairs = [(f"{where}.{key}", ours[key], theirs[key]) for key in theirs]
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return f"{where}: {len(ours)} items instead of {len(theirs)}"
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(ours, theirs))]
    else:
        return None if ours == theirs else f"{where}: {ours!r} instead of {theirs!r}"
    for name, a, b in pairs:
        found = difference(a, b, name)
        if found:
            return found
    return None


def dump(program, path):
    done = subprocess.run([program, str(path)], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return json.loads(done.stdout)


def main():
    program, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    goldens = sorted(directory.glob("*.json"))
    bad = 0
    for golden in goldens:
        theirs = json.loads(golden.read_text())
        found = difference(dump(program, directory / theirs.pop("file")), theirs)
        print(f"{golden.stem}: {found or 'same'}")
        bad += found is not None
    if len(goldens) < 8:
        print(f"only {len(goldens)} golden files")
        bad += 1
    with tempfile.TemporaryDirectory() as scratch:
        theirs = json.loads((directory / "llama.json").read_text())
        damaged = bytearray((directory / theirs.pop("file")).read_bytes())
        at = damaged.index(b"output_norm.weight")
        damaged[at] ^= 1
        path = pathlib.Path(scratch) / "damaged.gguf"
        path.write_bytes(damaged)
        if difference(dump(program, path), theirs) is None:
            print("a changed byte was not seen")
            bad += 1
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
