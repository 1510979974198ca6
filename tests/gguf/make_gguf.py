# SPDX-License-Identifier: MIT
"""Tiny GGUF files of many architectures and all types, written by the `gguf` package. The values mean nothing; names,
types and shapes of metadata and tensors are those of real files."""
import pathlib

import gguf
import numpy as np

EMBD, ROWS = 256, 2
T = gguf.GGMLQuantizationType
# Types of files; Q8_1 and Q8_K live at run time only.
FILE_TYPES = [t for t in T if t not in (T.Q8_1, T.Q8_K)]


def add_tensor(writer, rng, name, kind, shape):
    """shape is [ne0, ne1, ...], as in the file."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    assert shape[0] % elements == 0
    native = {T.F32: np.float32, T.F16: np.float16, T.F64: np.float64, T.I8: np.int8, T.I16: np.int16,
              T.I32: np.int32, T.I64: np.int64}
    if kind in native:
        data = rng.integers(-100, 100, size=shape[::-1]).astype(native[kind])
        writer.add_tensor(name, data)
    else:
        data = rng.integers(0, 256, size=[*shape[:0:-1], shape[0] // elements * size], dtype=np.uint8)
        writer.add_tensor(name, data, raw_dtype=kind)


def common(writer, name, n_layers, tokens=150):
    writer.add_name(name)
    writer.add_type("model")
    writer.add_block_count(n_layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(EMBD)
    writer.add_feed_forward_length(2 * EMBD)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(15)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"<{i}>" if i % 7 else f"\u0120t{i}\u00e9\n" for i in range(tokens)])
    writer.add_token_scores([-0.5 * i for i in range(tokens)])
    writer.add_token_types([i % 4 for i in range(tokens)])
    writer.add_bos_token_id(1)
    writer.add_add_bos_token(True)


def dense(writer, rng, n_layers, kinds, extra=(), head=True):
    add_tensor(writer, rng, "token_embd.weight", kinds[0], [EMBD, ROWS])
    for layer in range(n_layers):
        for at, (name, shape) in enumerate([("attn_q", [EMBD, ROWS]), ("attn_k", [EMBD, ROWS]), ("attn_v", [EMBD, 1]),
                                            ("attn_output", [EMBD, ROWS]), ("ffn_gate", [EMBD, ROWS]),
                                            ("ffn_up", [EMBD, ROWS]), ("ffn_down", [2 * EMBD, ROWS])]):
            add_tensor(writer, rng, f"blk.{layer}.{name}.weight", kinds[at % len(kinds)], shape)
        for name in ("attn_norm.weight", "ffn_norm.weight", *extra):
            add_tensor(writer, rng, f"blk.{layer}.{name}", T.F32, [EMBD])
    add_tensor(writer, rng, "output_norm.weight", T.F32, [EMBD])
    if head:
        add_tensor(writer, rng, "output.weight", T.Q6_K, [EMBD, ROWS])


def experts(writer, rng, n_layers, kind, n=4, first=0, shared=True):
    writer.add_expert_count(n)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(EMBD)
    for layer in range(first, n_layers):
        for name in ("gate", "up", "down"):
            add_tensor(writer, rng, f"blk.{layer}.ffn_{name}_exps.weight", kind, [EMBD, ROWS, n])
            if shared:
                add_tensor(writer, rng, f"blk.{layer}.ffn_{name}_shexp.weight", T.Q8_0, [EMBD, ROWS])
        add_tensor(writer, rng, f"blk.{layer}.ffn_gate_inp.weight", T.F32, [EMBD, n])


def llama(w, rng):
    common(w, "Tiny Llama", 2)
    w.add_uint64("test.u64", 2**62 + 5)
    w.add_int64("test.i64", -2**62)
    w.add_int8("test.i8", -7)
    w.add_uint8("test.u8", 200)
    w.add_int16("test.i16", -300)
    w.add_uint16("test.u16", 60000)
    w.add_int32("test.i32", -70000)
    w.add_float64("test.f64", 0.1)
    w.add_float32("test.f32", 0.1)
    w.add_string("test.empty", "")
    w.add_string("test.unicode", "na\u00efve \u4e2d\u6587 \U0001f600\n\ttab")
    w.add_chat_template("{% for m in messages %}{{ m }}{% endfor %}")
    dense(w, rng, 2, [T.Q4_K, T.Q6_K])
    add_tensor(w, rng, "rope_freqs.weight", T.F32, [32])


def types(w, rng):
    w.add_name("every type")
    w.add_block_count(1)
    for kind in FILE_TYPES:
        add_tensor(w, rng, f"one.{kind.name.lower()}.weight", kind, [EMBD])
        if gguf.GGML_QUANT_SIZES[kind][0] > 1:
            add_tensor(w, rng, f"four.{kind.name.lower()}.weight", kind, [EMBD, 1, 2, 1])


def gemma3(w, rng):
    common(w, "Tiny Gemma 3", 2)
    w.add_sliding_window(512)
    w.add_key_length(256)
    dense(w, rng, 2, [T.Q8_0, T.Q5_0], head=False,
          extra=("attn_q_norm.weight", "post_attention_norm.weight", "post_ffw_norm.weight"))


def gemma4(w, rng):
    common(w, "Tiny Gemma 4", 3)
    w.add_sliding_window_pattern([True, True, False])
    w.add_array("gemma4.feed_forward_lengths", [512, 512, 1024])
    w.add_float32("gemma4.attention.shared_kv_layers", 1.0)
    w.add_uint32("gemma4.embedding_length_per_layer_input", 32)
    dense(w, rng, 3, [T.BF16, T.IQ4_NL], head=False)
    add_tensor(w, rng, "per_layer_token_embd.weight", T.Q6_K, [EMBD, 8])


def qwen3moe(w, rng):
    common(w, "Tiny Qwen 3 MoE", 2)
    dense(w, rng, 2, [T.IQ4_XS], extra=("attn_q_norm.weight", "attn_k_norm.weight"))
    experts(w, rng, 2, T.IQ3_XXS, shared=False)


def qwen35moe(w, rng):
    common(w, "Tiny Qwen 3.5 MoE", 4)
    w.add_uint32("qwen35moe.full_attention_interval", 4)
    w.add_ssm_conv_kernel(4)
    w.add_ssm_state_size(16)
    dense(w, rng, 4, [T.Q4_K, T.Q5_K])
    experts(w, rng, 4, T.Q4_K)
    for layer in range(3):
        add_tensor(w, rng, f"blk.{layer}.ssm_a", T.F32, [32])
        add_tensor(w, rng, f"blk.{layer}.ssm_conv1d.weight", T.F32, [4, 64])


def gpt_oss(w, rng):
    common(w, "Tiny gpt-oss", 2)
    w.add_sliding_window(128)
    dense(w, rng, 2, [T.Q8_0], extra=("attn_q.bias", "post_attention_norm.weight"))
    experts(w, rng, 2, T.MXFP4, shared=False)
    add_tensor(w, rng, "blk.0.attn_sinks.weight", T.F32, [4])


def deepseek2(w, rng):
    common(w, "Tiny DeepSeek", 2)
    w.add_kv_lora_rank(64)
    w.add_key_length_mla(48)
    w.add_value_length_mla(32)
    w.add_leading_dense_block_count(1)
    dense(w, rng, 1, [T.Q2_K, T.Q3_K])
    experts(w, rng, 2, T.IQ1_M, first=1)
    add_tensor(w, rng, "blk.1.attn_k_b.weight", T.Q8_0, [32, 64, 4])
    add_tensor(w, rng, "blk.1.exp_probs_b.bias", T.F32, [4])


def glm4moe(w, rng):
    common(w, "Tiny GLM", 3)
    w.add_nextn_predict_layers(1)
    dense(w, rng, 3, [T.Q4_0, T.Q4_1, T.Q5_1])
    experts(w, rng, 3, T.Q2_K, first=1)
    add_tensor(w, rng, "blk.2.nextn.eh_proj.weight", T.Q4_0, [2 * EMBD, ROWS])


def nemotron_h_moe(w, rng):
    common(w, "Tiny Nemotron", 3)
    w.add_array("nemotron_h_moe.attention.head_count_kvs", [0, 2, 0])
    dense(w, rng, 3, [T.NVFP4])
    experts(w, rng, 3, T.NVFP4)
    add_tensor(w, rng, "blk.0.ffn_up_exps.scale", T.F32, [4])


def lfm2(w, rng):
    common(w, "Tiny LFM", 2)
    w.add_shortconv_l_cache(3)
    dense(w, rng, 2, [T.F16], head=False)
    add_tensor(w, rng, "blk.0.shortconv.conv.weight", T.F32, [3, EMBD])


def phi3(w, rng):
    common(w, "Tiny Phi", 1)
    w.add_custom_alignment(64)
    dense(w, rng, 1, [T.TQ1_0, T.TQ2_0])
    add_tensor(w, rng, "rope_factors_long.weight", T.F32, [48])


def mmproj(w, rng):
    w.add_type("mmproj")
    w.add_bool("clip.has_vision_encoder", True)
    add_tensor(w, rng, "v.patch_embd.weight", T.F16, [4, 4, 3, 8])


def adapter(w, rng):
    w.add_type("adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", 16.0)
    add_tensor(w, rng, "blk.0.attn_q.weight.lora_a", T.F32, [EMBD, 1])
    add_tensor(w, rng, "blk.0.attn_q.weight.lora_b", T.F32, [1, EMBD])


def vocab(w, rng):
    w.add_type("vocab")
    w.add_tokenizer_model("llama")
    w.add_token_list([f"v{i}" for i in range(150)])


def big(w, rng):
    w.add_name("big endian")
    w.add_block_count(7)
    w.add_array("test.heads", [4, 0, 8])
    w.add_float32("test.f32", 1.5)
    w.add_token_list(["a", "bc", "def"])
    add_tensor(w, rng, "a.weight", T.F32, [8, 3])


# File name, architecture, contents, further arguments of the writer. The first GOLDEN are kept in tests/data/gguf.
FILES = [("llama", "llama", llama, {}), ("types", "llama", types, {}),
         ("split", "gemma4", gemma4, {"split_max_tensors": 12}), ("phi3", "phi3", phi3, {}),
         ("mmproj", "clip", mmproj, {}),
         ("adapter", "llama", adapter, {}), ("vocab", "llama", vocab, {}),
         ("big", "llama", big, {"endianess": gguf.GGUFEndian.BIG}),
         ("gpt-oss", "gpt-oss", gpt_oss, {}), ("gemma3", "gemma3", gemma3, {}), ("qwen3moe", "qwen3moe", qwen3moe, {}),
         ("qwen35moe", "qwen35moe", qwen35moe, {}),
         ("deepseek2", "deepseek2", deepseek2, {}), ("glm4moe", "glm4moe", glm4moe, {}),
         ("nemotron_h_moe", "nemotron_h_moe", nemotron_h_moe, {}), ("lfm2", "lfm2", lfm2, {})]
GOLDEN = 8


def write(directory, files):
    """Write the files; returns {name: [paths of its parts]}."""
    directory = pathlib.Path(directory)
    made = {}
    for name, arch, fill, options in files:
        for old in directory.glob(f"{name}*.gguf"):
            old.unlink()
        writer = gguf.GGUFWriter(directory / f"{name}.gguf", arch, **options)
        fill(writer, np.random.default_rng(len(name)))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        made[name] = sorted(directory.glob(f"{name}-*-of-*.gguf")) or [directory / f"{name}.gguf"]
    return made
