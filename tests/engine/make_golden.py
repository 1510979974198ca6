#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_golden.py RUN WORKDIR DIR: write the golden models of tests/data/golden anew: for each case the header of a tiny GGUF file
(package gguf) and the logits that llama.cpp (package xllamacpp) computes with the weights that `RUN fill` makes for it.
make_golden.py RUN WORKDIR DIR --compare: compute everything anew, and compare our logits and the golden ones with it.
Needs the network once, to fill a virtual environment in WORKDIR; without it, it is skipped (exit code 77)."""
import os
import pathlib
import struct
import subprocess
import sys

import llama

QUANTS = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
          "MXFP4", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "TQ1_0", "TQ2_0"]


def enter_environment(workdir, more=()):
    """Run again inside the virtual environment that has the packages."""
    python = workdir / "venv" / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == (workdir / "venv").resolve():
        return
    try:
        subprocess.run([sys.executable, "-m", "venv", workdir / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *llama.PACKAGES, *more], check=True)
    except (OSError, subprocess.CalledProcessError) as why:
        print(f"skipped: the packages cannot be installed: {why}")
        sys.exit(77)
    os.execv(python, [python, *sys.argv])


class Case:
    """Metadata and tensors of a tiny model. `quant` is the type of its large matrices."""

    def __init__(self, name, arch, quant="F32", n_ctx=256, n_tokens=80, kept=48, d=64, heads=4, kv=2, head=16, ff=96, layers=4,
                 vocab=96, eps=1e-5, context=256, rope=None, tied=False, keys=None, **options):
        self.name, self.arch, self.quant, self.n_ctx, self.n_tokens, self.kept = name, arch, quant, n_ctx, n_tokens, kept
        self.d, self.heads, self.kv, self.head, self.ff, self.layers, self.vocab = d, heads, kv, head, ff, layers, vocab
        self.options = options
        self.keys = {"block_count": layers, "context_length": context, "embedding_length": d, "feed_forward_length": ff,
                     "attention.head_count": heads, "attention.head_count_kv": kv, "attention.key_length": head,
                     "attention.value_length": head, "attention.layer_norm_rms_epsilon": eps, "vocab_size": vocab,
                     "rope.dimension_count": rope or head, **(keys or {})}
        self.tensors = {}
        self.add("token_embd.weight", vocab, d)
        self.add("output_norm.weight", d)
        if not tied:
            self.add("output.weight", vocab, d)
        for i in range(layers):
            self.block(i)

    def add(self, name, *shape):
        self.tensors[name] = shape

    def block(self, i):
        o, d, q, k = self.options, self.d, self.heads * self.head, self.kv * self.head

        def add(name, *shape):
            self.add(f"blk.{i}.{name}", *shape)

        for norm in o.get("norms", ["attn_norm", "ffn_norm"]):
            add(norm + ".weight", d)
        if o.get("fused"):
            add("attn_qkv.weight", q + 2 * k, d)
        else:
            for name, rows in (("attn_q", q), ("attn_k", k), ("attn_v", k)):
                add(name + ".weight", rows, d)
                if o.get("bias"):
                    add(name + ".bias", rows)
        add("attn_output.weight", d, q)
        if o.get("output_bias"):
            add("attn_output.bias", d)
        if o.get("qk_norm"):
            add("attn_q_norm.weight", q if o["qk_norm"] == "whole" else self.head)
            add("attn_k_norm.weight", k if o["qk_norm"] == "whole" else self.head)
        if o.get("sinks"):
            add("attn_sinks.weight", self.heads)
        experts, dense = o.get("experts", 0), i < o.get("dense", 0)
        if experts and not dense:
            ff = o.get("ff_exp", self.ff)
            add("ffn_gate_inp.weight", experts, d)
            add("ffn_gate_exps.weight", experts, ff, d)
            add("ffn_up_exps.weight", experts, ff, d)
            add("ffn_down_exps.weight", experts, d, ff)
            if o.get("expert_bias"):
                add("ffn_gate_inp.bias", experts)
                add("ffn_gate_exps.bias", experts, ff)
                add("ffn_up_exps.bias", experts, ff)
                add("ffn_down_exps.bias", experts, d)
            if o.get("choice_bias"):
                add("exp_probs_b.bias", experts)
            if o.get("shared"):
                add("ffn_gate_shexp.weight", o["shared"], d)
                add("ffn_up_shexp.weight", o["shared"], d)
                add("ffn_down_shexp.weight", d, o["shared"])
        elif o.get("fused_up"):
            add("ffn_up.weight", 2 * self.ff, d)
            add("ffn_down.weight", d, self.ff)
        else:
            add("ffn_gate.weight", self.ff, d)
            add("ffn_up.weight", self.ff, d)
            add("ffn_down.weight", d, self.ff)

    def type_of(self, name, shape):
        if len(shape) == 1 or "norm" in name or name.endswith(".bias") or "ffn_gate_inp" in name:
            return "F32"
        quant = self.quant
        if isinstance(quant, dict):
            base = name.split(".")[-2]
            quant = quant.get(base, quant["else"])
        return quant

    def tokens(self):
        state, out = 12345, []
        for _ in range(self.n_tokens):
            state = (state * 1103515245 + 12345) % 2**31
            out.append((state >> 8) % self.vocab)
        return out

    def write_header(self, path):
        import gguf
        import numpy
        writer = gguf.GGUFWriter(path, self.arch)
        writer.add_string("tokenizer.ggml.model", "none")
        for key, value in self.keys.items():
            key = f"{self.arch}.{key}"
            if isinstance(value, bool):
                writer.add_bool(key, value)
            elif isinstance(value, int):
                writer.add_uint32(key, value)
            elif isinstance(value, float):
                writer.add_float32(key, value)
            elif isinstance(value, list):
                writer.add_array(key, value)
            else:
                writer.add_string(key, value)
        for name, shape in self.tensors.items():
            kind = gguf.GGMLQuantizationType[self.type_of(name, shape)]
            block, size = gguf.GGML_QUANT_SIZES[kind]
            count = 1
            for n in shape:
                count *= n
            writer.add_tensor_info(name, shape, numpy.dtype(numpy.float32), count // block * size, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()


def families():
    """One of each family, as keyword arguments: made with F32 and with quantized weights."""
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}
    post = ["attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"]
    moe = {"expert_count": 8, "expert_used_count": 2}
    return [
        dict(name="llama", arch="llama"),
        dict(name="mixtral", arch="llama", experts=8, keys=moe),
        dict(name="qwen2", arch="qwen2", bias=True, tied=True, keys={"rope.freq_base": 1000000.0}),
        dict(name="qwen3", arch="qwen3", qk_norm="head", head=32, keys={"rope.freq_base": 1000000.0}),
        dict(name="qwen3moe", arch="qwen3moe", qk_norm="head", experts=8, ff_exp=64,
             keys={**moe, "expert_feed_forward_length": 64}),
        dict(name="gemma2", arch="gemma2", norms=post, tied=True, head=32, n_tokens=100,
             keys={"attention.sliding_window": 16, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 3.0}),
        dict(name="gemma3", arch="gemma3", norms=post, tied=True, head=32, qk_norm="head", layers=6, n_ctx=512, context=512,
             n_tokens=320, kv=1,
             keys={"attention.sliding_window": 16, "rope.freq_base": 1000000.0, "rope.scaling.type": "linear",
                   "rope.scaling.factor": 8.0}),
        dict(name="gpt-oss", arch="gpt-oss", norms=["attn_norm", "post_attention_norm"], bias=True, output_bias=True, sinks=True,
             experts=8, expert_bias=True, ff=64, head=32, n_ctx=512, context=512, n_tokens=320,
             keys={**moe, **yarn, "expert_feed_forward_length": 64, "attention.sliding_window": 16,
                   "rope.freq_base": 150000.0}),
        dict(name="glm4", arch="glm4", norms=post, fused_up=True, bias=True, rope=8),
        dict(name="glm4moe", arch="glm4moe", norms=["attn_norm", "post_attention_norm"], bias=True, qk_norm="head", rope=8,
             experts=8, ff_exp=64, dense=1, shared=64, choice_bias=True,
             keys={**moe, "expert_feed_forward_length": 64, "expert_shared_count": 1, "leading_dense_block_count": 1,
                   "expert_gating_func": 2, "expert_weights_scale": 1.5, "expert_weights_norm": True}),
        dict(name="phi3", arch="phi3", fused=True, fused_up=True, rope=12,
             keys={"rope.scaling.attn_factor": 1.19, "rope.scaling.original_context_length": 64}, factors=True),
        dict(name="granite", arch="granite", tied=True,
             keys={"attention.scale": 0.125, "embedding_scale": 3.0, "residual_scale": 0.4, "logit_scale": 2.0}),
        dict(name="olmo2", arch="olmo2", norms=["post_attention_norm", "post_ffw_norm"], qk_norm="whole"),
        dict(name="smollm3", arch="smollm3", tied=True),
        dict(name="seed_oss", arch="seed_oss", norms=["attn_norm", "post_attention_norm"], bias=True),
        dict(name="mistral3", arch="mistral3", keys=yarn),
    ]


def cases():
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}
    out = []
    for family in families():
        factors = family.pop("factors", False)
        case = Case(**family)
        if factors:
            for which in ("long", "short"):
                case.add(f"rope_factors_{which}.weight", 6)
        out.append(case)
    short = Case("phi3-short", "phi3", fused=True, fused_up=True, rope=12,
                 keys={"rope.scaling.attn_factor": 1.19, "rope.scaling.original_context_length": 4096})
    for which in ("long", "short"):
        short.add(f"rope_factors_{which}.weight", 6)
    rope3 = Case("llama-rope3", "llama", keys={"rope.freq_base": 500000.0})
    rope3.add("rope_freqs.weight", 8)
    out += [short, rope3,
            Case("llama-linear", "llama", keys={"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}),
            Case("llama-yarn", "llama", keys=yarn),
            Case("olmo3", "olmo2", norms=["post_attention_norm", "post_ffw_norm"], qk_norm="whole", n_ctx=512, context=512,
                 n_tokens=320, keys={**yarn, "attention.sliding_window": 16}),
            Case("glm4moe-groups", "glm4moe", norms=["attn_norm", "post_attention_norm"], bias=True, experts=8, ff_exp=64,
                 dense=1, shared=64, choice_bias=True, n_tokens=40, kept=16,
                 keys={"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 64, "expert_shared_count": 1,
                       "leading_dense_block_count": 1, "expert_group_count": 4, "expert_group_used_count": 2})]
    for quant in QUANTS:
        out.append(Case("llama-" + quant.lower(), "llama", quant=quant, d=256, head=64, ff=512, layers=2, n_tokens=48, kept=16))
    for family in families():
        if family["name"] == "llama":
            continue
        quant = {"else": "Q8_0", "attn_v": "Q6_K", "ffn_down": "Q6_K", "attn_q": "Q4_K", "ffn_up": "Q4_K", "ffn_gate": "Q4_K"}
        if family["name"] == "gpt-oss":
            quant = {"else": "Q8_0", "ffn_gate_exps": "MXFP4", "ffn_up_exps": "MXFP4", "ffn_down_exps": "MXFP4"}
        factors = family.pop("factors", False)
        family.update(name=family["name"] + "-mixed", quant=quant, d=256, head=64, ff=256, ff_exp=256,
                      layers=6 if family["arch"] == "gemma3" else 4)
        family.update(n_tokens=min(family.get("n_tokens", 48), 100), kept=16, n_ctx=256, context=256)
        if "experts" in family:
            family.update(n_tokens=20 if "choice_bias" in family else 32, experts=4)  # few near ties
        if "shared" in family:
            family["shared"] = 256
        family["keys"] = dict(family.get("keys", {}))
        if "expert_feed_forward_length" in family["keys"]:
            family["keys"]["expert_feed_forward_length"] = 256
        if "expert_count" in family["keys"]:
            family["keys"]["expert_count"] = 4
        case = Case(**family)
        if factors:
            for which in ("long", "short"):
                case.add(f"rope_factors_{which}.weight", 6)
        out.append(case)
    return out


def peer_logits(case, path):
    peer = llama.Llama(path, case.n_ctx, kv="F32" if case.quant == "F32" else "F16")
    logits = peer.eval(case.tokens())
    peer.close()
    return logits


def pack(case, logits):
    tokens = case.tokens()
    first = len(tokens) - case.kept
    return b"MBGOLDEN" + struct.pack(f"<4I{len(tokens)}i", case.n_ctx, len(tokens), first, case.vocab, *tokens) + \
        logits[first:].astype("<f4").tobytes()


def compare(case, run, path, golden, logits):
    import numpy
    tokens = numpy.array(case.tokens(), "<i4").tobytes()
    limit = 1e-6 if case.quant == "F32" else 1e-3
    type_kv = "F32" if case.quant == "F32" else "F16"
    bad = golden.read_bytes()[:24] != pack(case, logits)[:24]
    old = numpy.frombuffer(golden.read_bytes()[24 + 4 * case.n_tokens:], "<f4").reshape(case.kept, case.vocab)

    def nmse(ours, right):
        return float(((ours - right) ** 2).sum() / (right ** 2).sum())

    drift, worst = nmse(old, logits[-case.kept:]), 0.0
    for batch in (1, 7, 512):
        done = subprocess.run([run, "logits", path, str(case.n_ctx), str(batch), type_kv, "1"], input=tokens,
                              capture_output=True)
        if done.returncode:
            print(f"{case.name}: {done.stderr.decode().strip()}")
            return True
        ours = numpy.frombuffer(done.stdout, "<f4").reshape(case.n_tokens, case.vocab)
        worst = max(worst, nmse(ours, logits))
    bad |= not worst <= limit or not drift <= limit
    print(f"{case.name}: ours {worst:.2g}, golden {drift:.2g}{'  TOO FAR' if bad else ''}")
    return bad


def main():
    if len(sys.argv) not in (4, 5):
        print(__doc__)
        return 2
    run, workdir, directory = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute(), pathlib.Path(sys.argv[3]).absolute()
    only = os.environ.get("ONLY", "")
    workdir.mkdir(parents=True, exist_ok=True)
    enter_environment(workdir)
    bad = 0
    for case in cases():
        if only and only not in case.name:
            continue
        full = workdir / f"{case.name}.gguf"
        if sys.argv[4:] == ["--compare"]:
            header = directory / f"{case.name}.gguf"
            subprocess.run([run, "fill", header, full], check=True)
            bad += compare(case, run, full, directory / f"{case.name}.bin", peer_logits(case, full))
        else:
            header = directory / f"{case.name}.gguf"
            case.write_header(header)
            subprocess.run([run, "fill", header, full], check=True)
            (directory / f"{case.name}.bin").write_bytes(pack(case, peer_logits(case, full)))
            print(case.name)
        full.unlink()
    return int(bad != 0)


if __name__ == "__main__":
    sys.exit(main())
