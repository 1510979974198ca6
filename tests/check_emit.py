#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_emit.py MEMBOUND WORKDIR: run a real llama.cpp with the flags that `membound plan --emit llama.cpp` prints, and compare
where it puts weights and cache with the plan.

llama-completion (or llama-cli) is taken from LLAMA_BIN or PATH. If ggml-rpc-server is beside it and llama.cpp was built
with -DGGML_RPC=ON, two of these servers on this machine play the cards, so that -ngl, -ts, -ot and --n-cpu-moe really place
tensors; without them the flags are only parsed. Models are made here, with the `gguf` package, which is installed into a
virtual environment in WORKDIR; without network or llama.cpp the check is skipped (exit code 77)."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

PACKAGES = ["gguf==0.19.0", "numpy"]
N_LAYERS, WIDTH, VOCAB = 12, 256, 512


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def enter_environment(workdir):
    python = workdir / "venv" / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == (workdir / "venv").resolve():
        return
    try:
        subprocess.run([sys.executable, "-m", "venv", workdir / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    except (OSError, subprocess.CalledProcessError) as why:
        skip(f"the packages cannot be installed: {why}")
    os.execv(python, [python, *sys.argv])


def write_model(path, experts, tied):
    """A LLaMA of random weights, 12 layers; with experts, Mixtral's kind."""
    import gguf
    import numpy
    random = numpy.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(1024 if not experts else 256)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(WIDTH // 8)
    writer.add_layer_norm_rms_eps(1e-5)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    writer.add_tokenizer_model("llama")
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    tokens += [f"w{i}" for i in range(VOCAB - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * VOCAB)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (VOCAB - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def add(name, *shape, dtype=numpy.float16):
        writer.add_tensor(name, (random.standard_normal(shape) * 0.02).astype(dtype))

    add("token_embd.weight", VOCAB, WIDTH)
    add("output_norm.weight", WIDTH, dtype=numpy.float32)
    if not tied:
        add("output.weight", VOCAB, WIDTH)
    for i in range(N_LAYERS):
        add(f"blk.{i}.attn_norm.weight", WIDTH, dtype=numpy.float32)
        add(f"blk.{i}.ffn_norm.weight", WIDTH, dtype=numpy.float32)
        for name, rows in (("q", WIDTH), ("k", WIDTH // 4), ("v", WIDTH // 4), ("output", WIDTH)):
            add(f"blk.{i}.attn_{name}.weight", rows, WIDTH)
        if experts:
            add(f"blk.{i}.ffn_gate_inp.weight", experts, WIDTH, dtype=numpy.float32)
            for name in ("gate", "up", "down"):
                add(f"blk.{i}.ffn_{name}_exps.weight", experts, 256, WIDTH)
        else:
            add(f"blk.{i}.ffn_gate.weight", 1024, WIDTH)
            add(f"blk.{i}.ffn_up.weight", 1024, WIDTH)
            add(f"blk.{i}.ffn_down.weight", WIDTH, 1024)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def find_llama():
    places = [os.environ.get("LLAMA_BIN"), *os.environ.get("PATH", "").split(":")]
    for place in filter(None, places):
        for name in ("llama-completion", "llama-cli"):
            program = pathlib.Path(place) / name
            if os.access(program, os.X_OK):
                servers = [program.parent / server for server in ("ggml-rpc-server", "rpc-server")]
                server = next((path for path in servers if os.access(path, os.X_OK)), None)
                return program, server
    return None, None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cards:
    """RPC servers that play cards."""

    def __init__(self, server, n):
        self.ports = [free_port() for _ in range(n)]
        self.running = [subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL) for port in self.ports]
        for port in self.ports:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)

    def stop(self):
        for process in self.running:
            process.terminate()
            process.wait()


def emitted(membound, workdir, *args):
    """The arguments that a shell would pass to llama-server, and the plan as JSON."""
    fake = workdir / "fake"
    fake.mkdir(exist_ok=True)
    (fake / "llama-server").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    (fake / "llama-server").chmod(0o755)
    (fake / "ggml-rpc-server").write_text("#!/bin/sh\n")
    (fake / "ggml-rpc-server").chmod(0o755)
    text = subprocess.run([membound, "plan", *args, "--emit", "llama.cpp"], check=True, capture_output=True, text=True).stdout
    plan = json.loads(subprocess.run([membound, "plan", *args, "--json"], check=True, capture_output=True, text=True).stdout)
    done = subprocess.run(["sh", "-c", text], check=True, capture_output=True, env={**os.environ, "PATH": f"{fake}:{os.environ['PATH']}"})
    return done.stdout.decode().split("\0")[:-1], plan


def run_llama(program, flags, ports):
    if "-t" in flags:  # the cores of the planned machine, not of this one
        flags = flags[:flags.index("-t")] + flags[flags.index("-t") + 2:]
    if "--rpc" in flags:
        flags = flags[:flags.index("--rpc")] + flags[flags.index("--rpc") + 2:]
    command = [program, *flags, "-t", "2", "-n", "1", "-p", "w1", "-no-cnv", "--no-warmup", "-v", "-fit", "off"]
    if ports:
        command += ["--rpc", ",".join(f"127.0.0.1:{port}" for port in ports)]
    done = subprocess.run(command, capture_output=True, timeout=300, stdin=subprocess.DEVNULL)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def buffers(log, what, ports):
    """MiB of a kind of buffer per card, and of the CPU."""
    sizes = {port: 0.0 for port in ports}
    host = 0.0
    for name, size in re.findall(rf"(\S+)\s+{what} buffer size =\s*([0-9.]+) MiB", log):
        port = next((port for port in ports if name.endswith(f":{port}]")), None)
        if port is None:
            host += float(size)
        else:
            sizes[port] += float(size)
    return list(sizes.values()), host


def check_cluster(membound, workdir, machine, program, server):
    """Two machines with a card each: the servers play both, in the order that --rpc and -ts give."""
    complaints = []
    saved = workdir / "machine.json"
    cards = Cards(server, 2)
    for mib in (20, 23, 40):
        for pool in machine["pools"]:
            if pool["kind"] == "vram":
                pool["capacity_bytes"] = pool["installed_bytes"] = pool["usable_bytes"] = (1 << 30) + (mib << 20)
        saved.write_text(json.dumps(machine))
        model = workdir / "dense.gguf"
        args = [str(model), "--on", str(saved), "--nodes", "2", "--ctx", "512"]
        flags, plan = emitted(membound, workdir, *args)
        code, log = run_llama(program, flags, cards.ports)
        nodes = [node for node in plan["nodes"] if node["n_layers"]]
        case = f"2 machines of {mib} MiB: {' '.join(flags[2:])}"
        if code or len(nodes) != 2 and mib < 40:
            complaints.append(f"{case}: exit {code}, {len(nodes)} machines used\n{log[-1500:]}")
            continue
        sizes, _ = buffers(log, "model", cards.ports)
        for size, node in zip(sizes, plan["nodes"]):
            # The embedding of the main machine is in its RAM; what else is there has a rule.
            if node["main"] and "-ot" in flags:
                continue
            want = node["weights_bytes"] / 2**20 - (VOCAB * WIDTH * 2 / 2**20 if node["main"] else 0)
            if len(nodes) == 2 and abs(size - want) > 0.2:
                complaints.append(f"{case}: {node['machine']}: {size} MiB instead of {want:.2f}")
    cards.stop()
    return complaints


def main():
    membound, workdir = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    program, server = find_llama()
    if not program:
        skip("no llama-completion or llama-cli in LLAMA_BIN or PATH")
    enter_environment(workdir)
    models = {"dense": (0, False), "tied": (0, True), "moe": (16, False)}
    for name, (experts, tied) in models.items():
        write_model(workdir / f"{name}.gguf", experts, tied)
    n_runs = n_split = 0
    short_forms = set()
    failed = []
    for machine_name, n_cards in (("PC RTX 3090, 64 GB DDR5", 1), ("PC 2x RTX 3090, 64 GB DDR5", 2)):
        saved = workdir / "machine.json"
        subprocess.run([membound, "machine", machine_name, "--save", saved, "--json"], check=True, stdout=subprocess.DEVNULL)
        machine = json.loads(saved.read_text())
        # So slow a RAM that even these tiny models are worth splitting.
        slow = {"bytes_per_s": 2e8, "provenance": "spec", "detail": "made up"}
        for pool in machine["pools"]:
            if pool["kind"] == "system":
                pool["bandwidth"] = pool["bandwidth_spec"] = slow
        for processor in machine["processors"]:
            for read in processor["reads"]:
                if read["pool"] == "ram":
                    read.update(slow)
        cards = Cards(server, n_cards) if server else None
        for name in models:
            for mib in (8, 14, 20, 30, 45, 200):
                # What is kept of each card, and room for a part of the model.
                for pool in machine["pools"]:
                    if pool["kind"] == "vram":
                        pool["capacity_bytes"] = pool["installed_bytes"] = pool["usable_bytes"] = (1 << 30) + (mib << 20)
                saved.write_text(json.dumps(machine))
                flags, plan = emitted(membound, workdir, str(workdir / f"{name}.gguf"), "--on", str(saved), "--ctx", "512")
                code, log = run_llama(program, flags, cards.ports if cards else [])
                n_runs += 1
                short_forms |= {flag for flag in flags if flag in ("--n-cpu-moe", "--cpu-moe", "-ot", "-ts")}
                case = f"{name}, {n_cards} cards of {mib} MiB: {' '.join(flags[2:])}"
                if code:
                    failed.append(f"{case}: exit {code}\n{log[-1500:]}")
                    continue
                if not cards:
                    continue
                pools = {pool["id"]: pool for pool in plan["pools"]}
                for what, key in (("model", "weights"), ("KV", "kv")):
                    sizes, host = buffers(log, what, cards.ports)
                    for card, size in enumerate(sizes):
                        want = pools[f"vram{card}"][key] / 2**20
                        # Rounded to two decimals, with tensors aligned; RPC buffers are padded to 512 bytes per tensor.
                        if abs(size - want) > 0.2:
                            failed.append(f"{case}: {what} on card {card}: {size} MiB instead of {want:.2f}")
                        n_split += 0 < want and host > 1
        if cards:
            cards.stop()
        if server and n_cards == 1:
            failed += check_cluster(membound, workdir, machine, program, server)
            n_runs += 3
    for text in failed:
        print(text)
    print(f"{n_runs} runs of {program.name}{' on RPC devices' if server else ', flags only'}; of them {n_split} comparisons of split models; "
          f"flags seen: {', '.join(sorted(short_forms))}")
    if server and (n_split < 10 or not {"--n-cpu-moe", "-ts"} <= short_forms):
        failed.append("too few")
    print(f"{n_runs - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
