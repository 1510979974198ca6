#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_model.py PEER_MODEL FAMILY QUANT FILE: write a GGUF with made-up weights that any engine loads and that runs as fast as
the real model: its shapes, its size of vocabulary, the types that llama-quantize gives to each tensor, blocks that are valid and
never zeros. What it says means nothing.

The types and the blocks come from the library (PEER_MODEL is the program build/bench/peer-model); this script knows the shapes
and writes the header. The tokenizer has bytes, "hi" and fillers, so that text can be given to it."""
import pathlib
import struct
import subprocess
import sys

U32, F32, TEXT, ARRAY, I32 = 4, 6, 8, 9, 5
ALIGNMENT = 32
# id, elements and bytes of a block, as in the GGUF specification.
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24),
         "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
         "Q6_K": (14, 256, 210), "IQ2_XXS": (16, 256, 66), "IQ2_XS": (17, 256, 74), "IQ3_XXS": (18, 256, 98),
         "IQ1_S": (19, 256, 50), "IQ4_NL": (20, 32, 18), "IQ3_S": (21, 256, 110), "IQ2_S": (22, 256, 82),
         "IQ4_XS": (23, 256, 136), "BF16": (30, 1, 2), "TQ1_0": (34, 256, 54), "TQ2_0": (35, 256, 66), "MXFP4": (39, 32, 17)}
# general.file_type of llama.cpp.
FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q2_K": 10, "Q3_K_M": 12, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18,
              "IQ2_XXS": 19, "IQ2_XS": 20, "IQ3_XXS": 23, "IQ1_S": 24, "IQ3_S": 26, "IQ3_M": 27, "IQ2_S": 28, "IQ2_M": 29,
              "IQ4_XS": 30, "TQ1_0": 36, "TQ2_0": 37, "MXFP4": 38}


def family(arch, layers, d, heads, kv, head, ff, vocab, context, base, eps, tied=False, experts=0, used=0):
    return locals()


# qwen3-1.7b and llama-8b: config.json of Qwen/Qwen3-1.7B and meta-llama/Llama-3.1-8B. moe-7b-a1b: the sizes of
# allenai/OLMoE-1B-7B-0924 in the architecture qwen3moe, which differs from it in little more than the norms of Q and K.
FAMILIES = {
    "qwen3-1.7b": family("qwen3", 28, 2048, 16, 8, 128, 6144, 151936, 40960, 1e6, 1e-6, tied=True),
    "llama-8b": family("llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 5e5, 1e-5),
    "moe-7b-a1b": family("qwen3moe", 16, 2048, 16, 16, 128, 1024, 50304, 4096, 1e4, 1e-5, experts=64, used=8),
    "tiny": family("qwen3", 8, 256, 4, 2, 64, 768, 512, 4096, 1e6, 1e-6, tied=True),
    "tiny-moe": family("qwen3moe", 4, 256, 4, 2, 64, 256, 512, 4096, 1e6, 1e-6, experts=8, used=2),
}


def keys_of(name, f, quant):
    a = f["arch"]
    keys = [("general.architecture", TEXT, a), ("general.name", TEXT, f"{name} (synthetic)"),
            ("general.alignment", U32, ALIGNMENT)]
    if quant in FILE_TYPES:
        keys.append(("general.file_type", U32, FILE_TYPES[quant]))
    keys += [(f"{a}.{key}", U32, value) for key, value in (
        ("block_count", f["layers"]), ("context_length", f["context"]), ("embedding_length", f["d"]),
        ("feed_forward_length", f["ff"]), ("attention.head_count", f["heads"]), ("attention.head_count_kv", f["kv"]),
        ("attention.key_length", f["head"]), ("attention.value_length", f["head"]), ("rope.dimension_count", f["head"]),
        ("vocab_size", f["vocab"]))]
    keys += [(f"{a}.attention.layer_norm_rms_epsilon", F32, f["eps"]), (f"{a}.rope.freq_base", F32, f["base"])]
    if f["experts"]:
        keys += [(f"{a}.{key}", U32, value) for key, value in (
            ("expert_count", f["experts"]), ("expert_used_count", f["used"]), ("expert_feed_forward_length", f["ff"]))]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    tokens += ["▁", "h", "i", "hi", "▁hi"]  # so that "hi" is one token, as in real vocabularies
    tokens += [f"▁w{i}" for i in range(f["vocab"] - len(tokens))]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (f["vocab"] - 259)
    return keys + [
        ("tokenizer.ggml.model", TEXT, "llama"), ("tokenizer.ggml.tokens", ARRAY, (TEXT, tokens)),
        ("tokenizer.ggml.scores", ARRAY, (F32, [-float(i) for i in range(f["vocab"])])),
        ("tokenizer.ggml.token_type", ARRAY, (I32, kinds)), ("tokenizer.ggml.bos_token_id", U32, 1),
        ("tokenizer.ggml.eos_token_id", U32, 2), ("tokenizer.ggml.unknown_token_id", U32, 0)]


def tensors_of(f):
    """Names with their dimensions, the length of a row first."""
    d, q, k, ff, n = f["d"], f["heads"] * f["head"], f["kv"] * f["head"], f["ff"], f["experts"]
    out = [("token_embd.weight", (d, f["vocab"])), ("output_norm.weight", (d,))]
    if not f["tied"]:
        out.append(("output.weight", (d, f["vocab"])))
    if f["arch"] == "llama":
        out.append(("rope_freqs.weight", (f["head"] // 2,)))
    for i in range(f["layers"]):
        layer = [("attn_norm", (d,)), ("attn_q", (d, q)), ("attn_k", (d, k)), ("attn_v", (d, k)), ("attn_output", (q, d)),
                 ("ffn_norm", (d,))]
        if f["arch"] != "llama":
            layer += [("attn_q_norm", (f["head"],)), ("attn_k_norm", (f["head"],))]
        if n:
            layer += [("ffn_gate_inp", (d, n)), ("ffn_gate_exps", (d, ff, n)), ("ffn_up_exps", (d, ff, n)),
                      ("ffn_down_exps", (ff, d, n))]
        else:
            layer += [("ffn_gate", (d, ff)), ("ffn_up", (d, ff)), ("ffn_down", (ff, d))]
        out += [(f"blk.{i}.{name}.weight", shape) for name, shape in layer]
    return out


def pack_text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def pack_value(kind, value):
    if kind == TEXT:
        return pack_text(value)
    if kind == ARRAY:
        item, values = value
        if item == TEXT:
            data = b"".join(map(pack_text, values))
        else:
            data = struct.pack(f"<{len(values)}{'f' if item == F32 else 'i'}", *values)
        return struct.pack("<IQ", item, len(values)) + data
    return struct.pack("<f" if kind == F32 else "<I", value)


def write_header(path, keys, tensors, types):
    offset, table = 0, []
    for name, shape in tensors:
        number, block, size = TYPES[types[name]]
        table.append(pack_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, offset))
        count = 1
        for n in shape:
            count *= n
        offset += (count // block * size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    pairs = [pack_text(key) + struct.pack("<I", kind) + pack_value(kind, value) for key, kind, value in keys]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(pairs + table))


def types_of(program, name, f, quant, path):
    """The type of each tensor, by name. `path` is where a header may stand for the while."""
    header, tensors = path.with_suffix(".header"), tensors_of(f)
    plain = {tensor: "F32" if len(shape) == 1 or "ffn_gate_inp" in tensor else "F16" for tensor, shape in tensors}
    try:
        write_header(header, keys_of(name, f, quant), tensors, plain)
        listed = subprocess.run([program, "types", header, quant], check=True, capture_output=True, text=True).stdout
    finally:
        header.unlink(missing_ok=True)
    return {tensor: kind for kind, tensor in (line.split() for line in listed.splitlines())}


def make(program, name, quant, path):
    """Write the model; a file that is there is taken to be it."""
    path = pathlib.Path(path)
    if path.exists():
        return path
    f = FAMILIES[name]
    if quant == "MXFP4" and not f["experts"]:
        raise ValueError("MXFP4: a type for experts; of a dense model llama-quantize makes Q8_0")
    types = types_of(program, name, f, quant, path)
    header, partial = path.with_suffix(".header"), path.with_suffix(".partial")
    try:
        write_header(header, keys_of(name, f, quant), tensors_of(f), types)
        subprocess.run([program, "fill", header, partial], check=True)
        partial.rename(path)
    finally:
        header.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return path


def main():
    if len(sys.argv) != 5 or sys.argv[2] not in FAMILIES:
        print(f"{__doc__}\n\nFAMILY: {', '.join(FAMILIES)}")
        return 2
    try:
        make(*sys.argv[1:])
    except subprocess.CalledProcessError as why:
        print(f"{sys.argv[3]}: {(why.stderr or str(why)).strip()}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as why:
        print(why, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
