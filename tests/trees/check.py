#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check the recorded machines in this directory, and the two tools that make them.

The trees are test data, so a slip in one would teach a reader the wrong thing. This file recomputes
what can be recomputed: SMBIOS tables from their descriptions, RAM expectations from the tables
(read by other code than wrote them), capacities from meminfo, cgroup limits and amdgpu's files. It
runs tools/record-machine.sh on trees and on a table full of secrets. Standard library only; lstopo
is used when it is there. Exit code 0: all good, 1: complaints on stderr.
"""

import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(HERE, "..", "..", "tools")
sys.path.insert(0, TOOLS)
import smbios  # noqa: E402

GIB = 1 << 30
LIMIT_BYTES = 2 << 20
HOSTILE = "garbage"
NAMES = [
    "amd-395-32-96",
    "amd-395-512m",
    "amd-395-64-64",
    "container-limit",
    "container-limit-v1",
    "dgx-spark",
    "empty",
    "garbage",
    "laptop-intel-igpu",
    "laptop-rtx4090m",
    "pc-2x3090",
    "pc-rtx4090",
    "server-dual",
    "this-vm",
]
KEYS = {"pools", "gpus", "class", "ram", "link", "cores", "simd", "numa_nodes"}
SIMD = {"scalar", "avx2", "avx512", "avx512-vnni", "neon", "neon-dotprod", None}
MEMORY_CODES = {v: k for k, v in smbios.MEMORY_TYPES.items()}

complaints = []


def expect(good, tree, text):
    if not good:
        complaints.append("%s: %s" % (tree, text))


def near(a, b):
    return a is not None and b is not None and math.isclose(a, b, rel_tol=0.01)


def read(tree, path, mode="r"):
    full = os.path.join(HERE, tree, path)
    if not os.path.isfile(full):
        return None
    with open(full, mode) as f:
        return f.read()


def number(tree, path):
    text = read(tree, path)
    return None if text is None or text.strip() == "max" else int(text)


def files_of(top):
    for directory, _, names in os.walk(top):
        for name in names:
            yield os.path.relpath(os.path.join(directory, name), top)


def channel(device):
    """The channel that a memory device sits on, from whichever locator names it."""
    if "CHANNEL" in device["bank_locator"].upper():
        return device["bank_locator"].split("_Dimm")[0]
    return re.sub(r"(-DIMM)?\d+$", "", device["locator"])


def check_table(tree, want):
    tables = os.path.join(HERE, tree, "sys/firmware/dmi/tables")
    description = read(tree, "membound/smbios.json")
    if description is None:
        expect(not os.path.exists(tables), tree, "an SMBIOS table without its description")
        expect(want["ram"] is None, tree, "RAM is expected without a table")
        return
    pair = tuple(
        read(tree, "sys/firmware/dmi/tables/" + n, "rb") for n in ("smbios_entry_point", "DMI")
    )
    expect(
        pair == smbios.build(json.loads(description)),
        tree,
        "the table is not what its description builds",
    )
    found = [d for d in smbios.devices_of(pair[1]) if d["mib"]]
    widths = {channel(d): (d["data_width"], d["configured_speed"]) for d in found}
    peak = sum(w / 8 * s for w, s in widths.values()) / 1000
    ram = want["ram"]
    expect({MEMORY_CODES[d["memory_type"]] for d in found} == {ram["type"]}, tree, "RAM type")
    expect(
        {d["configured_speed"] for d in found} == {ram["mega_transfers_per_s"]},
        tree,
        "configured speed",
    )
    expect(len(widths) == ram["channels"], tree, "channels: %d in the table" % len(widths))
    expect(near(peak, ram["bandwidth_gb_per_s"]), tree, "peak of the table is %.2f GB/s" % peak)
    installed = sum(d["mib"] for d in found) / 1024
    main = [p for p in want["pools"] if p["kind"] != "vram"][0]
    expect(
        main.get("installed_gib") == installed, tree, "installed: %g GiB in the table" % installed
    )


def memory_limit(tree):
    """The lowest limit of the process's memory cgroup and its ancestors, in bytes, or None."""
    limits = []
    for line in (read(tree, "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        mount, name = (
            ("sys/fs/cgroup", "memory.max")
            if controllers == ""
            else ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        )
        if controllers and "memory" not in controllers.split(","):
            continue
        path = path.rstrip("/")
        while True:
            value = number(tree, mount + path + "/" + name)
            if value is not None:
                limits.append(value)
            if not path:
                break
            path = path.rsplit("/", 1)[0]
    return min(limits, default=None)


def check_pools(tree, want):
    total = (
        int(re.search(r"^MemTotal:\s+(\d+) kB", read(tree, "proc/meminfo"), re.M).group(1)) * 1024
    )
    limit = memory_limit(tree)
    carve_out = gtt = 0
    for n in range(4):
        device = "sys/class/drm/card%d/device/" % n
        carve_out += number(tree, device + "mem_info_vram_total") or 0
        gtt += number(tree, device + "mem_info_gtt_total") or 0
    visible = min(total, limit or total) + carve_out
    main = [p for p in want["pools"] if p["kind"] != "vram"]
    expect(len(main) == 1, tree, "exactly one pool is the machine's RAM")
    capacity = main[0]["capacity_gib"]
    if carve_out:
        expect(
            near(main[0]["gpu_usable_gib"], min((carve_out + gtt) / GIB, capacity)),
            tree,
            "gpu_usable_gib",
        )
        expect(
            number(tree, "sys/module/ttm/parameters/pages_limit") * 4096 == gtt,
            tree,
            "pages_limit and GTT differ",
        )
    expect(
        near(capacity * GIB, visible),
        tree,
        "capacity: the files say %.2f GiB" % (visible / GIB),
    )
    cards = any(p["kind"] == "vram" for p in want["pools"])
    expect(
        not (cards and main[0]["kind"] == "unified"),
        tree,
        "RAM beside a card is system memory",
    )
    nodes = sum(
        int(re.search(r"MemTotal:\s+(\d+)", read(tree, p)).group(1))
        for p in ("sys/devices/system/node/node%d/meminfo" % n for n in range(want["numa_nodes"]))
    )
    expect(
        tree == "this-vm" or near(nodes * 1024, total),
        tree,
        "the nodes' memory does not add up to MemTotal",
    )


def check_gpus(tree, want):
    nvml = json.loads(read(tree, "membound/nvml.json") or '{"devices": []}')["devices"]
    vulkan = json.loads(read(tree, "membound/vulkan.json") or '{"devices": []}')["devices"]
    for d in vulkan:
        expect(
            all(0 <= t["heap"] < len(d["heaps"]) for t in d["memory_types"]),
            tree,
            "memory type without a heap",
        )
    slots = {d["pci"]: d for d in vulkan}
    for d in nvml:
        expect(d["pci"] in slots, tree, "%s is not in vulkan.json" % d["pci"])
        expect(
            read(tree, "proc/driver/nvidia/gpus/%s/information" % d["pci"]) is not None,
            tree,
            "no information file",
        )
    real = [d["name"] for d in nvml] + [
        d["name"] for d in vulkan if d["type"] != "cpu" and d["vendor_id"] != 0x10DE
    ]
    expect(sorted(real) == sorted(want["gpus"]), tree, "GPUs: the files say %s" % real)
    cards = sorted(
        d["memory_total_bytes"] / GIB for d in nvml if slots[d["pci"]]["type"] == "discrete"
    )
    pools = sorted(p["capacity_gib"] for p in want["pools"] if p["kind"] == "vram")
    expect(len(cards) == len(pools) and all(map(near, cards, pools)), tree, "VRAM pools")
    links = {
        (d["pcie_generation_max"], d["pcie_width_current"])
        for d in nvml
        if slots[d["pci"]]["type"] == "discrete"
    }
    wanted = {(want["link"]["generation"], want["link"]["lanes"])} if want["link"] else set()
    expect(links == wanted, tree, "link: the files say %s" % sorted(links))
    nominal = max(
        [sum(pools)]
        + [
            p.get("installed_gib") or p["capacity_gib"]
            for p in want["pools"]
            if p["kind"] == "unified"
        ]
    )
    kinds = {p["kind"] for p in want["pools"]}
    group = (
        "dedicated"
        if nominal * GIB >= 96e9
        else "unified" if "unified" in kinds else "gpu" if "vram" in kinds else "cpu"
    )
    expect(want["class"] == group, tree, "class: by the rules %s" % group)


def check_cpu(tree, want):
    text = read(tree, "proc/cpuinfo")
    blocks = [
        dict(re.findall(r"^([^\t:]+)\s*: ?(.*)$", b, re.M)) for b in text.strip().split("\n\n")
    ]
    cores = {(b["physical id"], b["core id"]) for b in blocks if "core id" in b} or {
        b["processor"] for b in blocks
    }
    expect(len(cores) == want["cores"], tree, "cores: %d in cpuinfo" % len(cores))
    flags = set((blocks[0].get("flags") or blocks[0].get("Features")).split())
    levels = [
        ("avx512-vnni", {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}),
        ("avx512", {"avx512f"}),
        ("avx2", {"avx2", "fma"}),
        ("neon-dotprod", {"asimddp"}),
        ("neon", {"asimd"}),
        ("scalar", set()),
    ]
    simd = next(name for name, needs in levels if needs <= flags)
    expect(simd == want["simd"], tree, "simd: cpuinfo says %s" % simd)
    if shutil.which("lstopo-no-graphics"):
        line = read(tree, "membound/topology").strip()
        run = subprocess.run(
            ["lstopo-no-graphics", "--input", line, "--only", "Core"],
            capture_output=True,
            text=True,
        )
        count = run.stdout.count("Core L#")
        expect(run.returncode == 0 and count == len(cores), tree, "topology: %d cores" % count)
    else:
        print("lstopo is not here: topologies were not checked")


def check_shape(tree):
    text = read(tree, "expected.json")
    expect(text is not None, tree, "no expected.json")
    want = json.loads(text)
    expect(set(want) == KEYS, tree, "keys of expected.json")
    expect(
        want["simd"] in SIMD and want["class"] in ("cpu", "gpu", "unified", "dedicated"),
        tree,
        "simd or class",
    )
    expect(read(tree, "SOURCE.md") or read(tree, "README.md"), tree, "no SOURCE.md")
    for path in files_of(os.path.join(HERE, tree)):
        if path.endswith(".json") and tree != HOSTILE:
            json.loads(read(tree, path))
    return want


def record(out, root):
    return subprocess.run(
        ["sh", os.path.join(TOOLS, "record-machine.sh"), out, root],
        capture_output=True,
        timeout=300,
    )


def secret_table():
    """A table with something to hide in every place where firmware hides it."""

    def raw(kind, body, strings):
        return (
            struct.pack("<BBH", kind, 4 + len(body), kind)
            + body
            + b"".join(s + b"\0" for s in strings)
            + b"\0"
        )

    one = bytearray(23)
    one[0:4], one[4:20] = bytes([1, 2, 0, 3]), b"UUIDSECRETUUIDSE"
    seventeen = bytearray(36)
    struct.pack_into("<HHHHHH", seventeen, 0, 16, 0xFFFE, 64, 64, 16384, 9)
    seventeen[12:15], seventeen[19:23] = bytes([1, 2, 0x22]), bytes([3, 4, 5, 6])
    return (
        raw(1, bytes(one), [b"Maker", b"Product", b"SECRETSERIAL"])
        + raw(
            17,
            bytes(seventeen),
            [b"DIMM 0", b"P0 CHANNEL A", b"Maker", b"SECRETSERIAL", b"SECRETTAG", b"Part"],
        )
        + raw(11, b"\x01", [b"SECRETOEM"])
        + raw(221, b"SECRETBYTES", [b"SECRETOEM"])
        + raw(127, b"", [b""])[:6]
        + b"SECRETTAIL"
    )


def check_recorder():
    with tempfile.TemporaryDirectory() as top:
        for tree in NAMES:
            out = os.path.join(top, tree)
            expect(
                record(out, os.path.join(HERE, tree)).returncode == 0,
                tree,
                "the recorder failed on it",
            )
            if tree in (HOSTILE, "empty"):
                continue
            ours = {
                p
                for p in files_of(os.path.join(HERE, tree))
                if p.startswith(("proc/", "sys/")) and "renderD" not in p
            }
            theirs = set(files_of(out))
            expect(ours == theirs, tree, "recorded otherwise: %s" % sorted(ours ^ theirs))
            for path in sorted(ours & theirs):
                with open(os.path.join(out, path), "rb") as f:
                    got = f.read()
                same = re.sub(
                    rb"GPU-[0-9a-f-]+",
                    b"GPU-00000000-0000-0000-0000-000000000000",
                    read(tree, path, "rb"),
                )
                expect(got == same, tree, "%s changed when recorded" % path)
        root = os.path.join(top, "secrets")
        tables = os.path.join(root, "sys/firmware/dmi/tables")
        os.makedirs(tables)
        with open(os.path.join(tables, "DMI"), "wb") as f:
            f.write(secret_table())
        os.makedirs(os.path.join(root, "sys/class/drm/card0/device"))
        with open(os.path.join(root, "sys/class/drm/card0/device/unique_id"), "w") as f:
            f.write("1234567890abcdef\n")
        out = os.path.join(top, "blanked")
        record(out, root)
        with open(os.path.join(out, "sys/firmware/dmi/tables/DMI"), "rb") as f:
            got = f.read()
        expect(
            len(got) == len(secret_table()) and b"SECRET" not in got,
            "recorder",
            "the SMBIOS table leaks or changed length",
        )
        expect(
            smbios.devices_of(got) == smbios.devices_of(secret_table()),
            "recorder",
            "the memory devices changed",
        )
        with open(os.path.join(out, "sys/class/drm/card0/device/unique_id")) as f:
            expect(f.read() == "0000000000000000\n", "recorder", "unique_id leaks")


def main():
    trees = sorted(
        d for d in os.listdir(HERE) if os.path.isdir(os.path.join(HERE, d)) and d != "__pycache__"
    )
    expect(set(NAMES) <= set(trees), "trees", "missing: %s" % sorted(set(NAMES) - set(trees)))
    size = sum(os.path.getsize(os.path.join(HERE, p)) for p in files_of(HERE))
    expect(size < LIMIT_BYTES, "trees", "%d bytes in all, the limit is %d" % (size, LIMIT_BYTES))
    for tree in trees:
        want = check_shape(tree)
        if tree == HOSTILE:
            pair = tuple(
                read(tree, "sys/firmware/dmi/tables/" + n, "rb")
                for n in ("smbios_entry_point", "DMI")
            )
            expect(pair == smbios.hostile(), tree, "the table is not the hostile one")
        elif tree != "empty":
            for check in (check_table, check_pools, check_gpus, check_cpu):
                check(tree, want)
    check_recorder()
    for text in complaints:
        print(text, file=sys.stderr)
    print("%d trees, %d bytes, %d complaints" % (len(trees), size, len(complaints)))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
