#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the hardware catalog, data/chips/*.json and data/machines/*.json.

This file owns the rules that docs/catalog.md states in words: which keys an entry has, what each
value may be, and what must agree between entries (unique names, chips that exist, bandwidth against
bus width and data rate, a defined source behind every figure). It leaves the truth of a figure to
the person who reads its source. It needs only the standard library.

    tools/check_catalog.py                 check the catalog of the tree this script is in
    tools/check_catalog.py DIR             check DIR/data instead
    tools/check_catalog.py --self-test     plant faults in copies of the catalog; each must be found

One line per fault, `file: entry: field: what is wrong`. Exit 0: no fault, 1: faults, 2: usage.
"""

import copy
import glob
import json
import math
import os
import re
import sys

SCHEMA = 1
KINDS = ("gpu", "soc", "cpu")
PEAK_TYPES = ("f32", "f16", "bf16", "i8", "fp8", "fp4")
USABLE_RULES = ("apple-wired", "amd-gtt", "all")
FAMILIES = ("macbook-air", "macbook-pro", "mac-mini", "mac-studio", "pc", "amd-395", "dgx-spark",
            "server")
SYSTEMS = ("macOS", "Linux", "Windows")
CONDITIONS = ("new", "second-hand")

CHIP_KEYS = ("id", "kind", "name", "vendor", "released", "match", "pci", "memory", "link", "cpu",
             "gpu", "cpu_read_bytes_per_s", "gpu_usable", "peak", "power", "sources")
MACHINE_KEYS = ("name", "aliases", "family", "released", "os", "chips", "ram", "power", "price",
                "sources")

ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
PCI_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}\Z")
MONTH = re.compile(r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])\Z")
SOURCE_KEY = re.compile(r"[a-z][a-z0-9]*\Z")
CURRENCY = re.compile(r"[A-Z]{3}\Z")
URL = re.compile(r"https://[^\s()]+")

# Loose limits: they catch a slip of the unit (GB for bytes, MHz for MT/s), not a wrong figure.
BUS_BITS = (16, 16384)
MEGA_TRANSFERS = (100, 100000)
BANDWIDTH = (1e9, 1e14)
FLOPS = (1e10, 1e17)
WATTS = (0.1, 20000)
GIB = (1, 65536)
AMOUNT = (1, 10000000)
TOLERANCE = 0.01
TEXT_BYTES = 1000  # MB_READER_TEXT_MAX of src/base/reader.h


def inner(value, key):
    """value[key] if it is an object, else an empty one: its own check has said the fault."""
    return value[key] if isinstance(value.get(key), dict) else {}


class Checker:
    """Collects faults and, while one entry is checked, which of its sources are used."""

    def __init__(self):
        self.faults = []
        self.file = self.entry = ""
        self.sources = {}
        self.used = set()

    def fault(self, field, what):
        line = f"{self.file}: {self.entry}: {field}: {what}"
        self.faults.append("".join(ch if ch.isprintable() else "?" for ch in line))

    def keys(self, field, value, required):
        """True if value is an object with exactly these keys."""
        if not isinstance(value, dict):
            self.fault(field, "must be an object")
            return False
        dot = field + "." if field != "-" else ""
        for key in value:
            if key not in required:
                self.fault(dot + key, "unknown key")
        missing = [key for key in required if key not in value]
        for key in missing:
            self.fault(dot + key, "is missing")
        return not missing

    def text(self, field, value, pattern=None, what="a text"):
        if not isinstance(value, str) or not value or value != value.strip():
            self.fault(field, f"must be {what}, not empty, without outer blanks")
            return False
        if pattern and not pattern.match(value):
            self.fault(field, f"must be {what}, not {value!r}")
            return False
        if not value.isprintable() or len(value.encode()) > TEXT_BYTES:
            self.fault(field, f"must be printable and no longer than {TEXT_BYTES} bytes")
            return False
        return True

    def choice(self, field, value, choices):
        if value not in choices or not isinstance(value, str):
            self.fault(field, "must be one of " + ", ".join(choices))
            return False
        return True

    def number(self, field, value, limits, whole=False, null=False):
        """True if value is a finite number within the limits. With null, None is no fault."""
        if value is None and null:
            return False
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value):
            what = ("whole " if whole else "") + "number" + (" or null" if null else "")
            self.fault(field, "must be a " + what)
            return False
        if not limits[0] <= value <= limits[1]:
            self.fault(field, f"{value:g} is outside {limits[0]:g} to {limits[1]:g}")
            return False
        return True

    def list(self, field, value, empty=False):
        if not isinstance(value, list) or not (value or empty):
            self.fault(field, "must be a list" + ("" if empty else " with at least one element"))
            return False
        return True

    def names(self, field, value, pattern=None, what="a text", empty=False):
        """A list of texts that differ by more than case. Returns the good ones in lower case."""
        if not self.list(field, value, empty):
            return []
        good = [v.lower() for v in value if self.text(field, v, pattern, what)]
        for v in {v for v in good if good.count(v) > 1}:
            self.fault(field, f"{v!r} stands twice")
        return good

    def month(self, field, value):
        if value is not None:
            self.text(field, value, MONTH, "a month YYYY-MM")

    def source(self, field, value, url=True):
        if not self.text(field, value, SOURCE_KEY, "the key of a source"):
            return
        self.used.add(value)
        if value not in self.sources:
            self.fault(field, f"source {value!r} is not defined")
        elif url and not URL.search(str(self.sources[value])):
            self.fault(field, f"source {value!r} names no https address")

    def begin(self, key, value):
        """Start an entry, which faults call by value[key]."""
        value = value if isinstance(value, dict) else {}
        name = value.get(key)
        self.entry = name if isinstance(name, str) and name else f"(no {key})"
        self.used = set()
        self.sources = inner(value, "sources")

    def end(self, value):
        """After all fields of an entry: every source is a text, is well named and is used."""
        if not isinstance(value.get("sources"), dict):
            self.fault("sources", "must be an object")
            return
        for key, said in self.sources.items():
            self.text(f"sources.{key}", key, SOURCE_KEY, "a key such as s1")
            self.text(f"sources.{key}", said)
            if key not in self.used:
                self.fault(f"sources.{key}", "is used by no figure")


# Chips


def check_memory(c, memory, kind):
    if kind == "cpu":
        if not c.keys("memory", memory, ("type", "channels", "mega_transfers_per_s", "source")):
            return
        c.text("memory.type", memory["type"])
        c.number("memory.channels", memory["channels"], (1, 64), whole=True)
        c.number("memory.mega_transfers_per_s", memory["mega_transfers_per_s"], MEGA_TRANSFERS,
                 whole=True)
        c.source("memory.source", memory["source"])
        return
    if not c.keys("memory", memory, ("type", "bus_bits", "mega_transfers_per_s", "capacity_gib",
                                     "bandwidth_bytes_per_s", "source")):
        return
    c.text("memory.type", memory["type"])
    bus = c.number("memory.bus_bits", memory["bus_bits"], BUS_BITS, whole=True, null=True)
    rate = c.number("memory.mega_transfers_per_s", memory["mega_transfers_per_s"], MEGA_TRANSFERS,
                    whole=True, null=True)
    if c.list("memory.capacity_gib", memory["capacity_gib"]):
        good = [v for v in memory["capacity_gib"]
                if c.number("memory.capacity_gib", v, GIB, whole=True)]
        if good != sorted(set(good)):
            c.fault("memory.capacity_gib", "must rise and hold no value twice")
    bandwidth = c.number("memory.bandwidth_bytes_per_s", memory["bandwidth_bytes_per_s"], BANDWIDTH)
    if bus and rate and bandwidth:
        derived = memory["bus_bits"] / 8 * memory["mega_transfers_per_s"] * 1e6
        said = memory["bandwidth_bytes_per_s"]
        if abs(said - derived) > TOLERANCE * derived:
            c.fault("memory.bandwidth_bytes_per_s",
                    f"{said:g} is not bus_bits / 8 * mega_transfers_per_s = {derived:g}")
    c.source("memory.source", memory["source"])


def check_link(c, link, kind):
    if kind != "gpu":
        if link is not None:
            c.fault("link", f"must be null for a {kind}")
        return
    if not isinstance(link, dict):
        c.fault("link", "must be an object for a gpu")
        return
    if link.get("type") == "nvlink-c2c":
        if c.keys("link", link, ("type", "bytes_per_s", "source")):
            c.number("link.bytes_per_s", link["bytes_per_s"], BANDWIDTH)
            c.source("link.source", link["source"])
    elif c.keys("link", link, ("type", "generation", "lanes", "source")):
        c.choice("link.type", link["type"], ("pcie", "nvlink-c2c"))
        c.number("link.generation", link["generation"], (1, 8), whole=True)
        lanes = link["lanes"]
        if c.number("link.lanes", lanes, (1, 16), whole=True) and lanes & (lanes - 1):
            c.fault("link.lanes", "must be a power of two")
        c.source("link.source", link["source"])


def check_cores(c, field, value, wanted, kind):
    if not wanted:
        if value is not None:
            c.fault(field, f"must be null for a {kind}")
    elif c.keys(field, value, ("cores", "name")):
        c.number(f"{field}.cores", value["cores"], (1, 100000), whole=True, null=True)
        c.text(f"{field}.name", value["name"])


def check_soc_fields(c, chip, kind):
    read, usable = chip["cpu_read_bytes_per_s"], chip["gpu_usable"]
    if kind != "soc":
        for field in ("cpu_read_bytes_per_s", "gpu_usable"):
            if chip[field] is not None:
                c.fault(field, f"must be null for a {kind}")
        return
    if read is not None and c.keys("cpu_read_bytes_per_s", read, ("value", "source")):
        whole = inner(chip, "memory").get("bandwidth_bytes_per_s")
        known = c.number("cpu_read_bytes_per_s.value", read["value"], BANDWIDTH)
        if known and isinstance(whole, (int, float)) and read["value"] > whole:
            c.fault("cpu_read_bytes_per_s.value", "is above the bandwidth of the memory")
        c.source("cpu_read_bytes_per_s.source", read["source"])
    if c.keys("gpu_usable", usable, ("rule", "source")):
        c.choice("gpu_usable.rule", usable["rule"], USABLE_RULES)
        c.source("gpu_usable.source", usable["source"])


def check_peak(c, peak):
    if peak is None or not c.list("peak", peak):
        return
    seen = set()
    for p in peak:
        if not c.keys("peak", p, ("type", "flops_per_s", "source", "note")):
            continue
        if c.choice("peak.type", p["type"], PEAK_TYPES):
            if p["type"] in seen:
                c.fault(f"peak.{p['type']}", "stands twice")
            seen.add(p["type"])
        c.number(f"peak.{p['type']}", p["flops_per_s"], FLOPS)
        c.source(f"peak.{p['type']}.source", p["source"])
        if c.text(f"peak.{p['type']}.note", p["note"]) and re.search(r"\bsparse\b", p["note"]):
            if not re.search(r"\b(half|quarter) of", p["note"]):
                c.fault(f"peak.{p['type']}.note", "only dense figures are kept")


def check_power(c, power):
    if power is None or not c.keys("power", power, ("idle_w", "load_w", "source")):
        return
    idle = c.number("power.idle_w", power["idle_w"], WATTS, null=True)
    load = c.number("power.load_w", power["load_w"], WATTS, null=True)
    if power["idle_w"] is None and power["load_w"] is None:
        c.fault("power", "holds no figure: write null")
    if idle and load and power["idle_w"] >= power["load_w"]:
        c.fault("power.idle_w", "must be below load_w")
    c.source("power.source", power["source"])


def check_chip(c, chip):
    c.begin("id", chip)
    if not c.keys("-", chip, CHIP_KEYS):
        return
    c.text("id", chip["id"], ID, "lower-case words joined by '-'")
    for field in ("name", "vendor"):
        c.text(field, chip[field])
    c.month("released", chip["released"])
    c.names("match", chip["match"])
    c.names("pci", chip["pci"], PCI_ID, "vendor:device in lower-case hex", empty=True)
    if c.choice("kind", chip["kind"], KINDS):
        kind = chip["kind"]
        check_memory(c, chip["memory"], kind)
        check_link(c, chip["link"], kind)
        check_cores(c, "cpu", chip["cpu"], kind in ("cpu", "soc"), kind)
        check_cores(c, "gpu", chip["gpu"], kind == "soc", kind)
        check_soc_fields(c, chip, kind)
        check_peak(c, chip["peak"])
        check_power(c, chip["power"])
    c.end(chip)


def listed(value):
    return [v for v in value if isinstance(v, (str, int))] if isinstance(value, list) else []


def told_apart(a, b):
    """Chips that report the same name differ in memory size or in a known number of GPU cores."""
    sizes = [set(listed(inner(x, "memory").get("capacity_gib"))) for x in (a, b)]
    cores = [inner(x, "gpu").get("cores") for x in (a, b)]
    return not (sizes[0] & sizes[1]) or (None not in cores and cores[0] != cores[1])


def check_chips_together(c, entries):
    """What no chip shows alone: ids, PCI ids and names across files. Returns chips by id."""
    by_id, by_pci, by_name = {}, {}, {}
    for file, chip in entries:
        if not isinstance(chip, dict) or not isinstance(chip.get("id"), str):
            continue
        c.file, c.entry = file, chip["id"]
        if chip["id"] in by_id:
            c.fault("id", "stands twice")
        by_id.setdefault(chip["id"], chip)
        for pci in listed(chip.get("pci")):
            if pci in by_pci:
                c.fault("pci", f"{pci} is also that of {by_pci[pci]}")
            by_pci.setdefault(pci, chip["id"])
        for name in {str(n).lower() for n in listed(chip.get("match"))}:
            for other in by_name.get(name, []):
                if other is not chip and not told_apart(chip, other):
                    c.fault("match", f"{name!r} is also that of {other['id']}, with nothing to "
                                     "tell them apart")
            by_name.setdefault(name, []).append(chip)
    return by_id


# Machines


def check_machine_chips(c, machine, by_id):
    """Returns the kinds in the machine and its channels of system memory by chip."""
    kinds, channels, types, seen = set(), 0, set(), set()
    if not c.list("chips", machine["chips"]):
        return kinds, channels, types
    for part in machine["chips"]:
        if not c.keys("chips", part, ("chip", "count", "memory_gib")):
            continue
        count = part["count"] if c.number("chips.count", part["count"], (1, 64), whole=True) else 0
        if not c.text("chips.chip", part["chip"]):
            continue
        if part["chip"] in seen:
            c.fault("chips.chip", f"{part['chip']!r} stands twice: use count")
        seen.add(part["chip"])
        chip = by_id.get(part["chip"])
        if chip is None:
            c.fault("chips.chip", f"no chip has the id {part['chip']!r}")
            continue
        kind, memory = str(chip.get("kind")), inner(chip, "memory")
        kinds.add(kind)
        if kind == "cpu":
            if isinstance(memory.get("channels"), int):
                channels += count * memory["channels"]
            types.add(str(memory.get("type")))
            if part["memory_gib"] is not None:
                c.fault("chips.memory_gib", f"must be null for {part['chip']}: a cpu reads the ram")
            continue
        size = part["memory_gib"]
        if isinstance(size, bool) or size not in listed(memory.get("capacity_gib")):
            c.fault("chips.memory_gib", f"{size} is not a memory size of {part['chip']}")
    if "soc" in kinds and len(kinds | seen) > 2:
        c.fault("chips", "a machine around a soc has no other chip")
    if "soc" not in kinds and "cpu" not in kinds:
        c.fault("chips", "a cpu or a soc is missing")
    return kinds, channels, types


def check_ram(c, ram, kinds, channels, types):
    if ram is None:
        if "cpu" in kinds:
            c.fault("ram", "is missing: the machine has a cpu chip")
        return
    if not c.keys("ram", ram, ("type", "channels", "mega_transfers_per_s", "capacity_gib",
                               "source")):
        return
    if "soc" in kinds:
        c.fault("ram", "must be null: the memory of a soc is its own")
    if c.text("ram.type", ram["type"]) and types and ram["type"] not in types:
        c.fault("ram.type", f"{ram['type']} is not the memory of the machine's cpu")
    known = c.number("ram.channels", ram["channels"], (1, 256), whole=True)
    if known and 0 < channels < ram["channels"]:
        c.fault("ram.channels", f"{ram['channels']} are more than the {channels} of its cpu chips")
    c.number("ram.mega_transfers_per_s", ram["mega_transfers_per_s"], MEGA_TRANSFERS, whole=True)
    c.number("ram.capacity_gib", ram["capacity_gib"], GIB, whole=True)
    c.source("ram.source", ram["source"], url=False)


def check_price(c, price):
    if price is None or not c.keys("price", price, ("amount", "currency", "date", "condition",
                                                    "source")):
        return
    c.number("price.amount", price["amount"], AMOUNT)
    c.text("price.currency", price["currency"], CURRENCY, "three capital letters")
    c.text("price.date", price["date"], MONTH, "a month YYYY-MM")
    c.choice("price.condition", price["condition"], CONDITIONS)
    c.source("price.source", price["source"])


def check_machine(c, machine, by_id, taken):
    c.begin("name", machine)
    if not c.keys("-", machine, MACHINE_KEYS):
        return
    own = [("name", [machine["name"].lower()] if c.text("name", machine["name"]) else []),
           ("aliases", c.names("aliases", machine["aliases"], empty=True))]
    for field, names in own:
        for n in names:
            if n in taken:
                c.fault(field, f"{n!r} is taken by {taken[n]}")
            taken.setdefault(n, c.entry)
    c.choice("family", machine["family"], FAMILIES)
    c.month("released", machine["released"])
    if c.list("os", machine["os"]):
        for system in machine["os"]:
            c.choice("os", system, SYSTEMS)
    kinds, channels, types = check_machine_chips(c, machine, by_id)
    check_ram(c, machine["ram"], kinds, channels, types)
    check_power(c, machine["power"])
    check_price(c, machine["price"])
    c.end(machine)


# The whole catalog


def strict_object(pairs):
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"key {key!r} stands twice in one object")
    return dict(pairs)


def no_constant(text):
    raise ValueError(f"{text} is not a number")


def load(c, root, kind):
    """All documents data/<kind>/*.json as {path: value}; a file that does not parse is a fault."""
    documents = {}
    paths = sorted(glob.glob(os.path.join(root, "data", kind, "*.json")))
    c.entry = "-"
    if not paths:
        c.file = f"data/{kind}"
        c.fault("-", "holds no .json file")
    for path in paths:
        c.file = os.path.relpath(path, root)
        try:
            with open(path, encoding="utf-8") as f:
                documents[c.file] = json.load(f, object_pairs_hook=strict_object,
                                              parse_constant=no_constant)
        except (OSError, ValueError, RecursionError) as e:
            c.fault("-", f"cannot be read: {e}")
    return documents


def entries(c, documents, key):
    for file, document in documents.items():
        c.file, c.entry = file, "-"
        if not c.keys("-", document, ("schema", key)):
            continue
        if document["schema"] != SCHEMA or isinstance(document["schema"], bool):
            c.fault("schema", f"must be {SCHEMA}")
        if c.list(key, document[key]):
            for entry in document[key]:
                yield file, entry


def check(c, chips, machines):
    found = list(entries(c, chips, "chips"))
    for c.file, chip in found:
        check_chip(c, chip)
    by_id = check_chips_together(c, found)
    taken = {}
    found = list(entries(c, machines, "machines"))
    for c.file, machine in found:
        check_machine(c, machine, by_id, taken)
    return c.faults


# Self-test: a checker that cannot fail checks nothing


def first(documents, key, test):
    return next(e for d in documents.values() for e in d[key] if test(e))


def planted():
    """(what, function that plants one fault, text that the fault's line must hold)."""
    def finder(key, test):
        return lambda ch, ma: first(ch if key == "chips" else ma, key, test)

    gpu = finder("chips", lambda e: e["kind"] == "gpu" and e["peak"] and e["pci"])
    soc = finder("chips", lambda e: e["cpu_read_bytes_per_s"])
    cpu = finder("chips", lambda e: e["kind"] == "cpu")
    pc = finder("machines", lambda e: e["ram"] and len(e["chips"]) > 1)
    mac = finder("machines", lambda e: e["ram"] is None)
    priced = finder("machines", lambda e: e["price"])
    powered = finder("machines", lambda e: e["power"])

    def put(get, *path_value):
        *path, key, value = path_value

        def plant(ch, ma):
            at = get(ch, ma)
            for step in path:
                at = at[step]
            at[key] = value
        return plant

    def drop(get, key):
        return lambda ch, ma: get(ch, ma).pop(key)

    def twice(get, documents):
        def plant(ch, ma):
            which = ch if documents == "chips" else ma
            next(iter(which.values()))[documents].append(copy.deepcopy(get(ch, ma)))
        return plant

    def renamed_copy(get):
        def plant(ch, ma):
            other = copy.deepcopy(get(ch, ma))
            other.update(id=other["id"] + "-copy", pci=[])
            next(iter(ch.values()))["chips"].append(other)
        return plant

    return [
        ("unknown key", put(gpu, "speed", 1), "speed: unknown key"),
        ("missing key", drop(gpu, "link"), "link: is missing"),
        ("wrong kind", put(gpu, "kind", "tpu"), "kind: must be one of"),
        ("bad id", put(gpu, "id", "RTX_1"), "id: must be lower-case"),
        ("bad month", put(gpu, "released", "2022-13"), "released: must be a month"),
        ("upper-case pci", put(gpu, "pci", 0, "10DE:2684"), "pci: must be vendor:device"),
        ("empty match", put(gpu, "match", []), "match: must be a list"),
        ("long text", put(gpu, "name", "x" * 1001), "name: must be printable"),
        ("line in a text", put(gpu, "name", "two\nlines"), "name: must be printable"),
        ("blank in match", put(gpu, "match", 0, "A card "), "match: must be"),
        ("text for number", put(gpu, "memory", "bus_bits", "384"), "bus_bits: must be a whole"),
        ("true for number", put(gpu, "power", "load_w", True), "power.load_w: must be a number"),
        ("bandwidth off", put(gpu, "memory", "bandwidth_bytes_per_s", 5e11), "is not bus_bits / 8"),
        ("GB for bytes", put(gpu, "memory", "bandwidth_bytes_per_s", 1008), "is outside"),
        ("infinity", put(gpu, "memory", "bandwidth_bytes_per_s", math.inf), "must be a number"),
        ("negative watts", put(gpu, "power", "load_w", -5), "is outside"),
        ("idle above load", put(gpu, "power", "idle_w", 15000), "must be below load_w"),
        ("lanes", put(gpu, "link", "lanes", 12), "link.lanes: must be a power of two"),
        ("no such source", put(gpu, "memory", "source", "s9"), "source 's9' is not defined"),
        ("unused source", put(gpu, "sources", "s9", "x (https://example.org)"), "is used by no"),
        ("source without address", put(gpu, "sources", "s1", "they say so"), "no https address"),
        ("no source", put(gpu, "memory", "source", None), "memory.source: must be the key"),
        ("peak type", put(gpu, "peak", 0, "type", "f64"), "peak.type: must be one of"),
        ("peak twice", put(gpu, "peak", 1, "type", "f32"), "peak.f32: stands twice"),
        ("sparse peak", put(gpu, "peak", 0, "note", "tensor cores, sparse"), "only dense figures"),
        ("soc with link", put(soc, "link", {"type": "pcie"}), "link: must be null for a soc"),
        ("usable rule", put(soc, "gpu_usable", "rule", "most"), "gpu_usable.rule: must be one of"),
        ("cpu too fast", put(soc, "cpu_read_bytes_per_s", "value", 9e12), "above the bandwidth"),
        ("cpu channels", put(cpu, "memory", "channels", 0), "memory.channels: 0 is outside"),
        ("chip twice", twice(gpu, "chips"), "id: stands twice"),
        ("pci twice", twice(gpu, "chips"), "is also that of"),
        ("same name", renamed_copy(gpu), "nothing to tell them apart"),
        ("machine twice", twice(pc, "machines"), "is taken by"),
        ("alias taken", lambda ch, ma: pc(ch, ma)["aliases"].append(mac(ch, ma)["name"].upper()),
         "is taken by"),
        ("no such chip", put(pc, "chips", 0, "chip", "voodoo-2"), "no chip has the id"),
        ("memory size", put(pc, "chips", 0, "memory_gib", 7), "is not a memory size of"),
        ("memory of a cpu", put(pc, "chips", 1, "memory_gib", 64), "must be null for"),
        ("no ram", put(pc, "ram", None), "ram: is missing"),
        ("ram on a soc", lambda ch, ma: mac(ch, ma).update(ram=copy.deepcopy(pc(ch, ma)["ram"])),
         "ram: must be null"),
        ("too many channels", put(pc, "ram", "channels", 200), "are more than"),
        ("ram type", put(pc, "ram", "type", "DDR3"), "is not the memory of the machine's cpu"),
        ("family", put(pc, "family", "toaster"), "family: must be one of"),
        ("system", put(pc, "os", ["BeOS"]), "os: must be one of"),
        ("price without date", put(priced, "price", "date", None), "price.date: must be a month"),
        ("price without source", put(priced, "price", "source", "zz"), "is not defined"),
        ("currency", put(priced, "price", "currency", "$"), "price.currency: must be three"),
        ("condition", put(priced, "price", "condition", "stolen"), "condition: must be one of"),
        ("price of nothing", put(priced, "price", "amount", 0), "price.amount: 0 is outside"),
        ("power without figures",
         lambda ch, ma: powered(ch, ma)["power"].update(idle_w=None, load_w=None),
         "power: holds no figure"),
        ("schema", lambda ch, ma: next(iter(ch.values())).update(schema=2), "schema: must be 1"),
        ("no object", lambda ch, ma: next(iter(ch.values()))["chips"].append(7),
         "must be an object"),
    ]


def self_test(root):
    c = Checker()
    chips, machines = load(c, root, "chips"), load(c, root, "machines")
    if c.faults or check(Checker(), chips, machines):
        print("self-test: the catalog itself has faults; run the check first")
        return 1
    failed = 0
    for what, plant, expected in planted():
        ch, ma = copy.deepcopy(chips), copy.deepcopy(machines)
        plant(ch, ma)
        lines = check(Checker(), ch, ma)
        if not any(expected in line for line in lines):
            failed += 1
            print(f"self-test: {what}: expected {expected!r}, got {lines[:3]}")
    for what, text in (("key twice", '{"a": 1, "a": 2}'), ("NaN", '{"a": NaN}')):
        try:
            json.loads(text, object_pairs_hook=strict_object, parse_constant=no_constant)
        except ValueError:
            continue
        failed += 1
        print(f"self-test: {what}: was accepted")
    print(f"self-test: {len(planted()) + 2} planted faults, {failed} missed")
    return 1 if failed else 0


def main(argv):
    args = argv[1:]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if args and args[0] == "--self-test":
        return self_test(args[1] if len(args) > 1 else root)
    if len(args) > 1 or (args and (args[0].startswith("-") or not os.path.isdir(args[0]))):
        print(__doc__.split("\n\n")[2] + "\n", file=sys.stderr)
        return 2
    c = Checker()
    root = args[0] if args else root
    chips, machines = load(c, root, "chips"), load(c, root, "machines")
    for line in check(c, chips, machines):
        print(line)
    if not c.faults:
        n_chips = sum(len(d["chips"]) for d in chips.values())
        n_machines = sum(len(d["machines"]) for d in machines.values())
        print(f"catalog: {n_chips} chips, {n_machines} machines, no fault")
    return 1 if c.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
