#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plant one fault at a time in a copy of the source and expect the suite to turn red.

usage: planted_faults.py SOURCE_ROOT

tests/data/faults.json lists the faults: file, the text to replace (it must stand there exactly once), the
replacement, and the suite that must notice. A suite that stays green, a text that is gone, or a suite without a
fault is a failure: a test that cannot fail proves nothing.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    faults = json.loads((root / "tests/data/faults.json").read_text())
    suites = set(re.findall(r"'(\w+)'", re.search(r"suites = \[(.*?)\]", (root / "tests/meson.build").read_text(), re.S)[1]))
    red = []
    for suite in sorted(suites - {f["suite"] for f in faults}):
        red.append(f"{suite}: no fault is planted for this suite; add one to tests/data/faults.json")
    with tempfile.TemporaryDirectory(prefix="membound-faults-") as scratch:
        copy = pathlib.Path(scratch) / "source"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns("build*", ".git", "*.gguf"), symlinks=True)
        build = str(pathlib.Path(scratch) / "build")
        set_up = run("meson", "setup", build, str(copy), "-Dbuildtype=debug")
        if set_up.returncode:
            sys.exit(set_up.stdout)
        for fault in faults:
            path = copy / fault["file"]
            sound = path.read_text()
            name = f'{fault["suite"]}: {fault["file"]}: {fault["from"]!r}'
            if sound.count(fault["from"]) != 1:
                red.append(f"{name}: stands there {sound.count(fault['from'])} times, not once")
                continue
            path.write_text(sound.replace(fault["from"], fault["to"]))
            target = f'tests/test-{fault["suite"]}'
            built = run("ninja", "-C", build, target)
            if built.returncode:
                red.append(f"{name}: the fault does not compile\n{built.stdout[-800:]}")
            elif run("timeout", "60", f"{build}/{target}", str(copy)).returncode == 0:
                red.append(f"{name}: the suite stayed green")
            else:
                print(f"noticed: {name}")
            path.write_text(sound)
        # The copies must be green again, or the reds above proved nothing.
        for suite in sorted({f["suite"] for f in faults}):
            built = run("ninja", "-C", build, f"tests/test-{suite}")
            if built.returncode or run("timeout", "120", f"{build}/tests/test-{suite}", str(copy)).returncode:
                red.append(f"{suite}: red without a fault")
    print("\n".join(red))
    sys.exit(bool(red))


main()
