#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print the rows of `golden` in tests/unit/quants.c: how the Python package gguf reads 64 random blocks of each type.

usage: quant_hashes.py    (needs the package: pip install gguf)

The blocks are the words of an xorshift generator, so both sides make the same ones. What they mean is hashed (FNV-1a, 64 bits)
as f32 bits, NaNs all the same.
"""
import numpy as np
import gguf
from gguf import quants

N_BLOCKS = 64


def words(n):
    x = 88172645463325252
    for _ in range(n):
        x ^= x << 13 & (1 << 64) - 1
        x ^= x >> 7
        x ^= x << 17 & (1 << 64) - 1
        yield x


def fnv(data):
    h = 0xcbf29ce484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return h


np.seterr(all="ignore")
for kind in gguf.GGMLQuantizationType:
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    n = N_BLOCKS * size
    data = np.array(list(words((n + 7) // 8)), dtype="<u8").view(np.uint8)[:n]
    try:
        values = quants.dequantize(data.reshape(N_BLOCKS, size), kind)
    except NotImplementedError:
        continue
    if values.dtype != np.float32 or kind.name in ("I8", "I16", "I32", "I64", "F64"):
        continue
    bits = np.ascontiguousarray(values).reshape(-1).astype("<f4").view(np.uint32).copy()
    bits[(bits & 0x7fffffff) > 0x7f800000] = 0x7fc00000
    print(f"    {{MB_TYPE_{kind.name}, 0x{fnv(bits.tobytes()):016x}u}},")
