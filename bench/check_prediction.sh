#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: check_prediction.sh [MEMBOUND [N]]
#
# Measure this machine, then bench ten pairs of model and quantization on synthetic weights and count how often the interval of
# the prediction holds the measured speed of decoding; with N also that of a prefill of N tokens. Takes minutes, and wants a
# machine that does nothing else. Exit code 1: it held for fewer than eight of ten.
membound=${1:-build/src/cli/membound} prefill=${2:-0}
pairs="SmolLM2-135M@Q8_0 Gemma-3-270M@Q4_K_M Qwen3-0.6B@Q8_0 Gemma-3-1B@Q4_0 Llama-3.2-1B@F16
Qwen3-1.7B@Q4_K_M SmolLM2-1.7B@Q5_K_M Llama-3.2-3B@Q6_K Phi-4-mini-3.8B@IQ4_XS Qwen3-4B@Q4_K_M"

"$membound" machine --measure > /dev/null || exit
printf '%-26s %-7s %9s %9s %9s %9s %8s %6s\n' model phase measured predicted low high 'of bound' holds
for pair in $pairs; do
    "$membound" bench "$pair" --synthetic --prefill "$prefill" --json || exit
done | python3 -c '
import json, sys
text, at, held, n = sys.stdin.read(), 0, {}, {}
while text[at:].strip():
    bench, used = json.JSONDecoder().raw_decode(text[at:].lstrip())
    at += used + len(text[at:]) - len(text[at:].lstrip())
    for run in bench["runs"]:
        phase = run["phase"]
        n[phase] = n.get(phase, 0) + 1
        held[phase] = held.get(phase, 0) + bool(run["holds"])
        print("%-26s %-7s %9.2f %9.2f %9.2f %9.2f %6.0f %% %6s" % (
            bench["model"] + "@" + bench["quant"], phase, run["tokens_per_s"]["median"], run["predicted_tokens_per_s"],
            run["predicted_low"], run["predicted_high"], 100 * run["fraction_of_bound"], "yes" if run["holds"] else "no")
            + (" (unsteady)" if run["unsteady"] else ""), flush=True)
for phase in n:
    print("%s: held in %d of %d" % (phase, held[phase], n[phase]))
sys.exit(n.get("decode", 0) < 10 or held["decode"] < 8)'
