#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_tokenizer_vectors.py DIR: write tests/data/tokenizer anew: three tiny vocabularies (bpe.gguf, spm.gguf, plain.gguf) and
vectors.json, what llama.cpp makes of texts with them. --families DIR2 writes bpe.gguf once for each name of a pre-tokenizer that
pretoken.c knows, for check_tokenizer.py. Needs the packages gguf and llama-cpp-python.

The merges are learnt here from random texts that are not cut into words first. So they cross every bound that a pre-tokenizer may
set, and a cut that is missing or too many shows."""
import argparse
import collections
import json
import pathlib
import random
import re
import tempfile

import gguf

import check_tokenizer

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
PLAIN = ("gemma4", "granite-embed-multi-311m", "sarvam-moe")
SPACE = "\u2581"
SENTENCE = ("The quick brown Fox's 12345 tails weren't FOUND, said O'Neil's DON'T-list;  he'd seen 3.14 and 1000000 of them!\n\n"
            "\tif (x_1 != y2) {\r\n    return foo->bar(\"a/b\");  // done\n}\n   \n Ünïcödé ÉCOLE straße İstanbul Ωmega жизнь ЖИЗНЬ \n"
            "中文字符，日本語のテキスト。한국어 텍스트! नमस्ते दुनिया বাংলা ภาษาไทย עברית العربية ١٢٣٤ ½²③ 🙂👩‍🚀 e\u0301\u200d ')/\n"
            "IMGIMGABZ <sentinel:7> ...   ,\u3000\u00a0 \u2028x\u0085y 'S 'll'LL ''ve it'S 999 8888 77777 666666 5555555  1234\u3000567 ")


def byte_names():
    """The stand-in character of each byte (public source: GPT-2's encoder.py)."""
    printing = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [byte for byte in range(256) if byte not in printing]
    return {byte: chr(byte) for byte in printing} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


def learn(words, n):
    """The n most frequent merges, one after the other, in lists of symbols."""
    merges = []
    for _ in range(n):
        pairs = collections.Counter(pair for word in words for pair in zip(word, word[1:]) if len(pair[0] + pair[1]) <= 12)
        pair, count = max(pairs.items(), key=lambda item: (item[1], item[0]))
        if count < 2:
            break
        merges.append(pair)
        for at, word in enumerate(words):
            out = []
            for symbol in word:
                if out and (out[-1], symbol) == pair:
                    out[-1] = out[-1] + symbol
                else:
                    out.append(symbol)
            words[at] = out
    return merges


def corpus(n):
    rng = random.Random(7)
    return [SENTENCE] * 2 + [check_tokenizer.random_text(rng, []) for _ in range(n)]


def write(path, model, pre, tokens, types, merges=None, scores=None, **ids):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny vocabulary")
    for add in (writer.add_context_length, writer.add_embedding_length, writer.add_feed_forward_length, writer.add_head_count,
                writer.add_block_count):
        add(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges:
        writer.add_token_merges([" ".join(pair) for pair in merges])
    if scores:
        writer.add_token_scores(scores)
    for name, value in ids.items():
        getattr(writer, "add_" + name)(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def write_bpe(path, pre, n_texts=40, n_merges=500):
    names = byte_names()
    merges = learn([[names[byte] for byte in text.encode()] for text in corpus(n_texts)], n_merges)
    tokens = [names[byte] for byte in range(256)]
    tokens += dict.fromkeys(left + right for left, right in merges)
    # Bits of a merge may be tokens that no merge makes; that matters where merges are ignored.
    tokens += [text for text in ("wordĠbreak", "ing!") if text not in tokens]
    types = [NORMAL] * len(tokens)
    for text, kind in (("<|endoftext|>", CONTROL), ("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL), ("<|im_end|>\n", CONTROL),
                       ("<tool>", USER), ("<tool>s", USER), ("ool>s<", USER), ("\n\n\n", USER), ("<|pad|>", UNUSED), ("x" * 40, USER)):
        tokens.append(text)
        types.append(kind)
    write(path, "gpt2", pre, tokens, types, merges, bos_token_id=tokens.index("<|endoftext|>"), eos_token_id=tokens.index("<|im_end|>"),
          add_bos_token=True, add_eos_token=True)


def characters(n_merges):
    """Tokens and merges over characters, blanks as U+2581."""
    words = [list(text.replace(" ", SPACE)) for text in corpus(40)]
    alphabet = [symbol for symbol, n in collections.Counter(symbol for word in words for symbol in word).items() if n > 1]
    return sorted(alphabet), learn(words, n_merges)


def write_spm(path):
    alphabet, merges = characters(300)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    scores = [0.0] * len(tokens)
    for rank, text in enumerate(dict.fromkeys([left + right for left, right in merges] + alphabet)):
        if text not in tokens:
            tokens.append(text)
            types.append(NORMAL)
            scores.append(-float(rank // 2)) # equal scores, too
    for text, kind in (("<|assistant|>", CONTROL), ("[INST]", USER), ("<|end|>", NORMAL), ("\t" * 13, USER)):
        tokens.append(text)
        types.append(kind)
        scores.append(0.0)
    write(path, "llama", None, tokens, types, scores=scores, bos_token_id=1, eos_token_id=2, unk_token_id=0)


def write_plain(path):
    alphabet, merges = characters(300)
    merges = [pair for pair in merges if "\n" not in pair[0] + pair[1]]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [CONTROL, CONTROL, CONTROL, UNKNOWN] + [BYTE] * 256
    for text in dict.fromkeys([*alphabet, *(left + right for left, right in merges), "\n\n", "\n\n\n\n"]):
        if text not in tokens:
            tokens.append(text)
            types.append(NORMAL)
    tokens += ["<start_of_turn>", "<end_of_turn>"]
    types += [CONTROL, USER]
    write(path, "gemma4", None, tokens, types, merges, bos_token_id=2, eos_token_id=1, unk_token_id=3)


class Peer:
    """llama.cpp with a vocabulary."""

    def __init__(self, path):
        import llama_cpp
        self.lib = llama_cpp
        self.silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silent, None)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise SystemExit(f"{path}: llama.cpp does not load it")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.buffer = (llama_cpp.llama_token * 100000)()

    def ids(self, text, flags):
        text = text.encode()
        n = self.lib.llama_tokenize(self.vocab, text, len(text), self.buffer, len(self.buffer), bool(flags & check_tokenizer.SPECIAL),
                                    bool(flags & check_tokenizer.PARSE))
        return list(self.buffer[:n])

    def ends(self):
        return [i for i in range(self.lib.llama_vocab_n_tokens(self.vocab)) if self.lib.llama_vocab_is_eog(self.vocab, i)]


TEXTS = ["", " ", "  ", "a", "Hello", " Hello", "Hello world  \n", "\n", "\n\n\n\n", "<tool>s<|im_start|>user\nhi<|im_end|>\n<|im_start|>",
         "x" * 100, "<s>[INST] a [INST]b</s> <|assistant|> \n c<|end|> d", "a<unk>b", "\t" * 30, "<end_of_turn>\n<start_of_turn>", "wordbreak word break",
         "word breaking!", "\u2581a \u2581", "\U00010348\u0488", "Ġa Ċ", "<|endoftext|><|pad|><|im_e", "\x00a\x00", SENTENCE]


def vectors(path, specials):
    peer, rng = Peer(path), random.Random(11)
    texts = TEXTS + [check_tokenizer.random_text(rng, specials) for _ in range(20)]
    return {"ends": peer.ends(), "texts": [[at & 3 if at >= len(TEXTS) else flags, text, peer.ids(text, at & 3 if at >= len(TEXTS) else flags)]
                                           for at, text in enumerate(texts) for flags in ((0,) if at >= len(TEXTS) else (0, 3))]}


def family_names(one_each):
    source = (pathlib.Path(__file__).parent.parent / "src/engine/pretoken.c").read_text(encoding="utf-8")
    found = ["".join(re.findall(r'"([^"]*)"', names)).split() for names in re.findall(r'\.names = ((?:"[^"]*"\s*)+)', source)]
    return [name for names in found for name in names[:1 if one_each else None] if name not in PLAIN]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--families", action="store_true")
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    if args.families:
        write_bpe(args.directory / "default.gguf", "default", n_texts=150, n_merges=1500)
        reader = gguf.GGUFReader(args.directory / "default.gguf")
        tokens, types, merges = (reader.fields["tokenizer.ggml." + key].contents() for key in ("tokens", "token_type", "merges"))
        for name in family_names(False):
            write(args.directory / f"{name}.gguf", "gpt2", name, tokens, types, [tuple(merge.split(" ")) for merge in merges],
                  bos_token_id=0, eos_token_id=0)
        return
    write_bpe(args.directory / "bpe.gguf", "default")
    write_spm(args.directory / "spm.gguf")
    write_plain(args.directory / "plain.gguf")
    out = {"files": {}, "text": SENTENCE, "families": {}}
    for name, specials in (("bpe", ["<|im_start|>", "<tool>", "<tool>s", "<|im_end|>"]), ("spm", ["<s>", "[INST]", "<|end|>"]),
                           ("plain", ["<bos>", "<start_of_turn>", "<end_of_turn>"])):
        out["files"][name + ".gguf"] = vectors(args.directory / (name + ".gguf"), specials)
    with tempfile.TemporaryDirectory() as scratch:
        for name in family_names(True):
            path = pathlib.Path(scratch) / "family.gguf"
            write_bpe(path, name)
            out["families"][name] = Peer(path).ids(SENTENCE, 0)
    lines = json.dumps(out, ensure_ascii=True, separators=(",", ":")).replace("],[", "],\n[").replace('],"', '],\n"')
    (args.directory / "vectors.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
