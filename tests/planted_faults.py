#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plant one fault at a time in a copy of the source and expect the suite to turn red.

usage: planted_faults.py SOURCE_ROOT [--all]

Without --all the first fault of each suite is planted, which keeps `make check` short; the texts of all of them are
looked up either way.

tests/data/faults.json lists the faults: file, the text to replace (it must stand there exactly once), the
replacement, and the suite that must notice. A suite that stays green, one that is red without the fault, a text that
is gone, or a suite without a fault is a failure: a test that cannot fail proves nothing.
"""
import concurrent.futures as futures
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")


class Copy:
    """A copy of the source with a build of its own, so that several work side by side."""

    def __init__(self, root, scratch):
        self.source, self.build = pathlib.Path(scratch) / "source", pathlib.Path(scratch) / "build"
        shutil.copytree(root, self.source, ignore=shutil.ignore_patterns("build*", ".git"), symlinks=True)
        set_up = run("meson", "setup", str(self.build), str(self.source), "-Dbuildtype=debug",
                     "-Doptimization=1")
        if set_up.returncode:
            raise RuntimeError(set_up.stdout)

    def is_green(self, suite):
        """Does the suite build and pass? None: it does not build."""
        built = run("ninja", "-C", str(self.build), f"tests/test-{suite}")
        if built.returncode:
            return None
        return run("timeout", "120", f"{self.build}/tests/test-{suite}", str(self.source)).returncode == 0

    def complaints(self, suite, faults, n_planted):
        # Green before, or the reds after it would prove nothing.
        if not self.is_green(suite):
            return [f"{suite}: red without a fault"]
        red = []
        for i, fault in enumerate(faults):
            path = self.source / fault["file"]
            sound = path.read_text()
            name = f'{suite}: {fault["file"]}: {fault["from"]!r}'
            if sound.count(fault["from"]) != 1:
                red.append(f"{name}: stands there {sound.count(fault['from'])} times, not once")
                continue
            if i >= n_planted:
                continue
            path.write_text(sound.replace(fault["from"], fault["to"]))
            green = self.is_green(suite)
            path.write_text(sound)
            if green is None:
                red.append(f"{name}: the fault does not compile")
            elif green:
                red.append(f"{name}: the suite stayed green")
            else:
                print(f"noticed: {name}", flush=True)
        return red


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    n_planted = sys.maxsize if "--all" in sys.argv[2:] else 1
    by_suite = {}
    for fault in json.loads((root / "tests/data/faults.json").read_text()):
        by_suite.setdefault(fault["suite"], []).append(fault)
    suites = re.search(r"suites = \[(.*?)\]", (root / "tests/meson.build").read_text(), re.S)[1]
    red = [f"{suite}: no fault is planted for this suite; add one to tests/data/faults.json"
           for suite in re.findall(r"'(\w+)'", suites) if suite not in by_suite]
    waiting = queue.SimpleQueue()
    for suite in sorted(by_suite, key=lambda suite: -len(by_suite[suite])):
        waiting.put(suite)

    def work(scratch):
        copy = Copy(root, scratch)
        while True:
            try:
                suite = waiting.get_nowait()
            except queue.Empty:
                return
            red.extend(copy.complaints(suite, by_suite[suite], n_planted))

    n = min(4, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="membound-faults-") as scratch, futures.ThreadPoolExecutor(n) as pool:
        for done in [pool.submit(work, pathlib.Path(scratch) / str(i)) for i in range(n)]:
            done.result()
    print("\n".join(red))
    sys.exit(bool(red))


main()
