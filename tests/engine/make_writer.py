#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_writer.py FILE: write the small model with a tokenizer and a chat template that the suite `writer` and tests/program.py run
(package gguf). Its weights are random: what it writes means nothing, but is always the same."""
import sys

import gguf
import numpy

VOCAB, D, LAYERS, HEADS, HEAD, FF = 288, 32, 2, 2, 16, 64
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
TEMPLATE = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '</s>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def main():
    rng = numpy.random.default_rng(20)
    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    writer.add_name("writer")
    writer.add_context_length(256)
    writer.add_embedding_length(D)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(VOCAB)
    tokens = SPECIAL + [f"<0x{i:02X}>" for i in range(256)]
    tokens += [f"▁{word}" for word in "the of and to in is that it was he for on are as with his".split()]
    tokens += [f"pad{i}" for i in range(VOCAB - len(tokens))]
    types = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.BYTE] * 256
    types += [gguf.TokenType.NORMAL] * (VOCAB - len(types))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens[:VOCAB])
    writer.add_token_scores([0.0] * 262 + [-float(i) for i in range(VOCAB - 262)])
    writer.add_token_types(types[:VOCAB])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)

    def add(name, *shape, scale=0.3):
        writer.add_tensor(name, (rng.standard_normal(shape) * scale).astype(numpy.float16 if len(shape) > 1 else numpy.float32))

    add("token_embd.weight", VOCAB, D)
    for i in range(LAYERS):
        for name in "q", "k", "v", "output":
            add(f"blk.{i}.attn_{name}.weight", D, D)
        add(f"blk.{i}.ffn_gate.weight", FF, D)
        add(f"blk.{i}.ffn_up.weight", FF, D)
        add(f"blk.{i}.ffn_down.weight", D, FF)
        for name in "attn_norm", "ffn_norm":
            writer.add_tensor(f"blk.{i}.{name}.weight", numpy.ones(D, numpy.float32))
    writer.add_tensor("output_norm.weight", numpy.ones(D, numpy.float32))
    add("output.weight", VOCAB, D)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
