#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the two SMBIOS files that Linux shows in /sys/firmware/dmi/tables.

    smbios.py DESCRIPTION.json OUTDIR    writes OUTDIR/smbios_entry_point and OUTDIR/DMI
    smbios.py --hostile OUTDIR           writes a pair that lies wherever it can
    smbios.py --dump DIR                 prints the memory devices of such a pair, as JSON

The description is small and for people; the layouts are those of the public specification DMTF
DSP0134 (SMBIOS 3.7), of which this file knows types 0, 1, 2, 4, 16, 17 and 127. Serial numbers and
asset tags are never written. Only the recorded machines in tests/trees use it, so that a reader can
be tested on tables of machines that are not at hand.
"""

import json
import os
import struct
import sys

FORM_FACTORS = {
    "Other": 0x01,
    "Unknown": 0x02,
    "Chip": 0x05,
    "DIMM": 0x09,
    "Row Of Chips": 0x0B,
    "SODIMM": 0x0D,
    "FB-DIMM": 0x0F,
    "Die": 0x10,
    "CAMM": 0x11,
}
MEMORY_TYPES = {
    "Other": 0x01,
    "Unknown": 0x02,
    "DRAM": 0x03,
    "DDR3": 0x18,
    "DDR4": 0x1A,
    "LPDDR": 0x1B,
    "LPDDR2": 0x1C,
    "LPDDR3": 0x1D,
    "LPDDR4": 0x1E,
    "HBM": 0x20,
    "HBM2": 0x21,
    "DDR5": 0x22,
    "LPDDR5": 0x23,
    "HBM3": 0x24,
}
TYPE_DETAILS = {
    "Other": 1 << 1,
    "Unknown": 1 << 2,
    "Synchronous": 1 << 7,
    "Registered": 1 << 13,
    "Unbuffered": 1 << 14,
}
ECC = {"Other": 1, "Unknown": 2, "None": 3, "Parity": 4, "Single-bit ECC": 5, "Multi-bit ECC": 6}

# Length of a type 17 structure in each version of the specification that made it longer.
TYPE17_LENGTHS = {
    21: "2.1",
    27: "2.3",
    28: "2.6",
    34: "2.7",
    40: "2.8",
    84: "3.2",
    92: "3.3",
    100: "3.7",
}

MIB_PER_GIB = 1024
KIB_PER_GIB = 1024 * 1024


class Bad(Exception):
    """The description is wrong; the text says where."""


class Structure:
    """One structure in the making: its formatted area, and the strings that it numbers from 1."""

    def __init__(self, kind, handle):
        self.kind, self.handle = kind, handle
        self.body, self.strings = bytearray(), []

    def put(self, fmt, *values):
        self.body += struct.pack("<" + fmt, *values)

    def put_string(self, text):
        """The byte that refers to a string, 0 for none. Equal texts are stored twice, as firmware
        does."""
        if text is None:
            self.put("B", 0)
            return
        raw = text.encode("latin-1")
        if not raw or b"\0" in raw:
            raise Bad(
                "a string of structure 0x%04x is empty or holds NUL; leave it out instead"
                % self.handle
            )
        self.strings.append(raw)
        self.put("B", len(self.strings))

    def finish(self, length=None):
        """The bytes of the structure; length cuts it off as older firmware does."""
        full = 4 + len(self.body)
        length = full if length is None else length
        if length > full:
            raise Bad(
                "structure 0x%04x has %d bytes, %d were asked for" % (self.handle, full, length)
            )
        head = struct.pack("<BBH", self.kind, length, self.handle)
        tail = b"".join(s + b"\0" for s in self.strings) + b"\0" if self.strings else b"\0\0"
        return head + bytes(self.body[: length - 4]) + tail


def code(table, name, where):
    """A name from one of the tables above, or a number as it is (for codes the tables lack)."""
    if isinstance(name, int):
        return name
    if name not in table:
        raise Bad("%s: %r is none of %s" % (where, name, ", ".join(table)))
    return table[name]


def bios(d, s):
    s.put_string(d.get("vendor"))
    s.put_string(d.get("version"))
    s.put("H", 0)
    s.put_string(d.get("release_date"))
    s.put("BQ", 0xFF, 0x08)  # ROM size: see the extended field; characteristics not supported
    s.put("BBBBBB", 0, 0x0D, 5, 0, 0xFF, 0xFF)
    s.put("H", 32)  # extended ROM size, MiB
    return s.finish()


def system(d, s):
    s.put_string(d.get("manufacturer"))
    s.put_string(d.get("product"))
    s.put_string(d.get("version"))
    s.put_string(None)
    s.put("16sB", bytes(16), 6)  # UUID of zeroes: not present; woken by the power switch
    s.put_string(None)
    s.put_string(d.get("family"))
    return s.finish()


def board(d, s):
    s.put_string(d.get("manufacturer"))
    s.put_string(d.get("product"))
    s.put_string(d.get("version"))
    s.put_string(None)
    s.put_string(None)
    s.put("B", 0x09)
    s.put_string(None)
    s.put("HBB", 0xFFFF, 0x0A, 0)
    return s.finish()


def processor(d, s):
    cores, threads = d.get("cores", 0), d.get("threads", 0)
    s.put_string(d.get("socket"))
    s.put("BB", 3, 0xFE)  # central processor; family in the 16-bit field
    s.put_string(d.get("manufacturer"))
    s.put("Q", 0)
    s.put_string(d.get("version"))
    s.put("BHHHBB", 0, 100, d.get("max_mhz", 0), d.get("current_mhz", 0), 0x41, 0x06)
    s.put("HHH", 0xFFFF, 0xFFFF, 0xFFFF)
    for _ in range(3):
        s.put_string(None)
    s.put("BBBH", min(cores, 255), min(cores, 255), min(threads, 255), 0xFC)
    s.put("HHHH", d.get("family", 0x6B), cores, cores, threads)
    return s.finish()


def array(d, s):
    capacity_kib = int(d.get("max_capacity_gib", 0) * KIB_PER_GIB)
    big = capacity_kib >= 0x80000000
    s.put("BBB", 3, 3, code(ECC, d.get("ecc", "None"), "ecc"))
    s.put(
        "IHHQ",
        0x80000000 if big else capacity_kib,
        0xFFFE,
        d["devices"],
        capacity_kib * 1024 if big else 0,
    )
    return s.finish()


def memory_size(d):
    """The pair (size word, extended size); size_gib 0 is an empty slot, null is unknown."""
    gib = d.get("size_gib", 0)
    if gib is None:
        return 0xFFFF, 0
    mib = round(gib * MIB_PER_GIB)
    if mib < 0 or mib > 0x7FFFFFFF:
        raise Bad("size_gib %r does not fit" % gib)
    return (mib, 0) if mib < 0x7FFF else (0x7FFF, mib)


def speed_word(value):
    """The 16-bit speed field and the 32-bit one behind it (specification 3.3 and later)."""
    value = value or 0
    return (0xFFFF, value) if value >= 0xFFFF else (value, 0)


def device(d, s):
    installed = d.get("size_gib", 0) != 0
    size, extended_size = memory_size(d)
    speed, extended_speed = speed_word(d.get("speed") if installed else 0)
    configured, extended_configured = speed_word(d.get("configured_speed") if installed else 0)
    width = d.get("data_width", 0xFFFF) if installed else 0xFFFF
    detail = 0
    for name in d.get("type_detail", ["Synchronous"] if installed else ["Unknown"]):
        detail |= code(TYPE_DETAILS, name, "type_detail")
    s.put("HH", d.get("array", 0x10), 0xFFFE)
    s.put("HHH", d.get("total_width", width) if installed else 0xFFFF, width, size)
    s.put(
        "BB",
        code(FORM_FACTORS, d.get("form_factor", "DIMM") if installed else "Unknown", "form_factor"),
        0,
    )
    s.put_string(d.get("locator"))
    s.put_string(d.get("bank_locator"))
    s.put(
        "B",
        code(
            MEMORY_TYPES, d.get("memory_type", "Unknown") if installed else "Unknown", "memory_type"
        ),
    )
    s.put("HH", detail, speed)
    s.put_string(d.get("manufacturer"))
    s.put_string(None)
    s.put_string(None)
    s.put_string(d.get("part"))
    s.put("BIH", d.get("rank", 0) & 0x0F, extended_size, configured)
    voltage = d.get("millivolt", 0) if installed else 0
    s.put("HHH", voltage, voltage, voltage)
    s.put("BH", 0x03 if installed else 0x02, 1 << 3 if installed else 1 << 2)
    s.put_string(None)
    s.put("HHHH", 0, 0, 0, 0)
    volatile = int((d.get("size_gib") or 0) * (1 << 30))
    s.put("QQQQ", 0, volatile, 0, 0)
    s.put("II", extended_speed, extended_configured)
    s.put("HHHH", 0, 0, 0, 0)
    length = d.get("length", 92)
    if length not in TYPE17_LENGTHS:
        raise Bad("length %d is none of %s" % (length, sorted(TYPE17_LENGTHS)))
    return s.finish(length)


def end(_, s):
    return s.finish()


BUILDERS = {0: bios, 1: system, 2: board, 4: processor, 16: array, 17: device, 127: end}


def checksum(raw, at, start=0, stop=None):
    """Set the byte at `at` so that the bytes from start to stop add up to 0 modulo 256."""
    out = bytearray(raw)
    out[at] = 0
    out[at] = -sum(out[start:stop]) & 0xFF
    return bytes(out)


def entry_point(version, kind, table, count, longest):
    major, minor = version[0], version[1]
    if kind == 64:
        raw = struct.pack(
            "<5sBBBBBBBIQ", b"_SM3_", 0, 24, major, minor, version[2], 1, 0, len(table), 0x7A000000
        )
        return checksum(raw, 5)
    if len(table) > 0xFFFF:
        raise Bad("the table is too long for a 32-bit entry point")
    raw = struct.pack(
        "<4sBBBBHB5s5sBHIHB",
        b"_SM_",
        0,
        31,
        major,
        minor,
        longest,
        0,
        bytes(5),
        b"_DMI_",
        0,
        len(table),
        0x7A000000,
        count,
        (major & 15) << 4 | (minor & 15),
    )
    return checksum(checksum(raw, 0x15, 0x10), 4)


def expand(structures):
    """The structures in order; an entry with "repeat" stands for several with their own fields."""
    for entry in structures:
        for own in entry.get("repeat", [{}]):
            yield {**{k: v for k, v in entry.items() if k != "repeat"}, **own}


def build(description):
    """The pair (entry point, table) that a description stands for."""
    version = [int(v) for v in description["version"].split(".")]
    version += [0] * (3 - len(version))
    table, count, longest, handle = b"", 0, 0, 0
    for d in expand(description["structures"]):
        kind = d["type"]
        if kind not in BUILDERS:
            raise Bad("structure type %d is not known here" % kind)
        handle = d.get("handle", handle)
        raw = BUILDERS[kind](d, Structure(kind, handle))
        table, count, longest, handle = table + raw, count + 1, max(longest, len(raw)), handle + 1
    return entry_point(version, description.get("entry_point", 64), table, count, longest), table


def hostile():
    """A pair that a reader must survive: each structure breaks one rule. Those that can be stepped
    over come first; the last one can't, because its length is less than its own header."""

    def raw(kind, length, body, tail):
        return struct.pack("<BBH", kind, length, 0x1100 + kind) + body + tail

    full = bytearray(96)
    struct.pack_into("<HHHHH", full, 4, 0xFFFE, 0xFFFF, 0xFFFF, 0xFFFF, 0x7FFF)
    # strings that do not exist, a type that does not
    full[16 - 4], full[17 - 4], full[18 - 4] = 200, 255, 0xEE
    struct.pack_into("<I", full, 0x1C - 4, 0xFFFFFFFF)
    struct.pack_into("<H", full, 0x20 - 4, 0xFFFF)
    struct.pack_into("<II", full, 0x54 - 4, 0xFFFFFFFF, 0xFFFFFFFF)
    # impossible sizes; a string of control characters
    table = raw(17, 100, bytes(full), b"\xff\xfe\x1b[2J\n\0\0")
    # ends before its own size field
    table += raw(17, 12, bytes(8), b"\0\0")
    # a header and nothing else
    table += raw(17, 4, b"", b"\0\0")
    # an array of 65535 devices and 2^64 - 1 bytes
    table += raw(16, 23, b"\xff" * 19, b"\0\0")
    # a string longer than any real one
    table += raw(4, 48, b"\xff" * 44, b"A" * 5000 + b"\0\0")
    # says "end", and yet more follows
    table += raw(127, 4, b"", b"\0\0")
    # runs past the end of the file
    table += raw(17, 255, b"\x40" * 16, b"")
    # shorter than its header
    table += raw(17, 3, b"", b"no terminator")
    entry = struct.pack(
        "<5sBBBBBBBIQ",
        b"_SM3_",
        0x5A,
        255,
        0xFF,
        0xFF,
        0xFF,
        0xFF,
        0xFF,
        0xFFFFFFFF,
        0xFFFFFFFFFFFFFFFF,
    )
    return entry, table


def devices_of(table):
    """The memory devices of a well-formed table, read back without the code that wrote them."""
    at, found = 0, []
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        if length < 4 or at + length > len(table):
            break
        tail = table.find(b"\0\0", at + length)
        if tail < 0:
            break
        strings = table[at + length : tail].split(b"\0")
        if kind == 17 and length >= 21:

            def text(offset):
                number = table[at + offset]
                return strings[number - 1].decode("latin-1") if 0 < number <= len(strings) else None

            def word(offset, size=2):
                return (
                    int.from_bytes(table[at + offset : at + offset + size], "little")
                    if offset + size <= length
                    else 0
                )

            mib = word(0x1C, 4) & 0x7FFFFFFF if word(0x0C) == 0x7FFF else word(0x0C)
            found.append(
                {
                    "locator": text(0x10),
                    "bank_locator": text(0x11),
                    "memory_type": table[at + 0x12],
                    "mib": None if word(0x0C) == 0xFFFF else mib,
                    "data_width": word(0x0A),
                    "speed": word(0x15),
                    "configured_speed": word(0x20),
                }
            )
        if kind == 127:
            break
        at = tail + 2
    return found


def write(outdir, pair):
    os.makedirs(outdir, exist_ok=True)
    for name, raw in zip(("smbios_entry_point", "DMI"), pair):
        with open(os.path.join(outdir, name), "wb") as f:
            f.write(raw)


def main(argv):
    if len(argv) == 3 and argv[1] == "--hostile":
        write(argv[2], hostile())
    elif len(argv) == 3 and argv[1] == "--dump":
        with open(os.path.join(argv[2], "DMI"), "rb") as f:
            print(json.dumps(devices_of(f.read()), indent=1))
    elif len(argv) == 3 and not argv[1].startswith("-"):
        with open(argv[1], encoding="utf-8") as f:
            description = json.load(f)
        try:
            write(argv[2], build(description))
        except (Bad, KeyError) as e:
            print("%s: %s" % (argv[1], e), file=sys.stderr)
            return 3
    else:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
