#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare the speed of membound and llama.cpp on the same files with the same threads, block by block in turn.

Each engine is a process that holds the model. A block is: read memory, one engine, read memory, the other engine, read memory;
the order of the engines changes with every block. A block counts if the readings agree and both engines had their CPUs. What
is compared is the ratio within a block. docs/bench-peers.md states the method."""
import argparse
import datetime
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

import llama_setup
import make_model
import report

HERE = pathlib.Path(__file__).resolve().parent
BLOCK_S, BLOCK_MIN, BLOCK_MAX = 0.3, 2, 64
PROBE_MS = 40
PAUSE_S = 0.02  # threads of both engines spin for some milliseconds after their work, then sleep
TUNE_BLOCKS = 3
ROOM_BYTES = 1 << 30
# glibc then asks for huge pages, as membound does; without it llama.cpp has small ones where the system's default is "madvise".
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def progress(text):
    """A line that the next one overwrites; only people see it."""
    if sys.stderr.isatty():
        print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)


class Child:
    """A process that answers each line with one line."""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        bufsize=1, env={**os.environ, **(environment or {})})
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline().strip()
        if not line.startswith("ok"):
            raise RuntimeError(f"{self.name}: {line.removeprefix('error ') or 'it ended without a word'}")
        return line[2:].strip()

    def ask(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return [float(word) for word in self.answer().split()]

    def cpu_s(self):
        """CPU time so far, of all its threads; None where there is no /proc."""
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Pair:
    """Both engines with one model."""

    def __init__(self, options, path, n_ctx):
        self.options, self.path, self.n_ctx, self.peer, self.mode = options, path, n_ctx, None, None
        self.ours = Child("membound", [options.build / "bench/peer-membound", path, options.threads, n_ctx, "copy"])

    def start_peer(self, mode):
        """llama.cpp with a way of loading: "mmap", "read", or "huge", which is "read" into huge pages."""
        if self.mode == mode:
            return
        if self.peer:
            self.peer.close()
        self.peer = Child("llama.cpp", [sys.executable, HERE / "llama_child.py", self.options.library, self.path,
                                        self.options.threads, self.n_ctx, "mmap" if mode == "mmap" else "read"],
                          HUGE if mode == "huge" else None)
        self.mode = mode

    def probe(self):
        return self.ours.ask(f"probe {PROBE_MS}")[0]

    def run(self, child, phase, n):
        seconds, cpu_s, *bytes_per_token = child.ask(f"{phase} {n}")
        time.sleep(PAUSE_S)
        return {"tokens_per_s": n / seconds, "cpu": cpu_s / (seconds * self.options.threads)}, bytes_per_token

    def block(self, phase, n, first, before):
        """One block; `first`: 0 membound first, 1 llama.cpp."""
        out, probes, bytes_per_token = {}, [before], None
        for turn in (first, 1 - first):
            name = report.ENGINES[turn]
            out[name], counted = self.run((self.ours, self.peer)[turn], phase, n)
            probes.append(self.probe())
            out[name]["bytes_per_s"] = (probes[-2] + probes[-1]) / 2
            bytes_per_token = counted[0] if counted else bytes_per_token
        out["probes"], out["first"] = probes, report.ENGINES[first]
        return out, bytes_per_token

    def idle_shares(self):
        """CPU that each takes while it waits."""
        before = [child.cpu_s() for child in (self.ours, self.peer)]
        time.sleep(0.5)
        after = [child.cpu_s() for child in (self.ours, self.peer)]
        return [(b - a) / 0.5 if a is not None else 0 for a, b in zip(before, after)]

    def close(self):
        for child in filter(None, (self.ours, self.peer)):
            child.close()


def memory_free():
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def busy_share():
    """What all programs together take of the CPUs, looked at for a second; 0 where nobody says."""
    def look():
        try:
            with open("/proc/stat", encoding="ascii") as file:
                times = [int(word) for word in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        return sum(times) - times[3] - times[4], sum(times)

    before = look()
    time.sleep(1)
    after = look()
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def score(pair, phase, n):
    """How fast llama.cpp is with what is set, for what memory gave; runs that lost a CPU only if there are no others."""
    scores, disturbed = [], []
    wanted = TUNE_BLOCKS if phase == "decode" else 1
    while len(scores) < wanted and len(disturbed) < 2 * wanted:
        before = pair.probe()
        result, _ = pair.run(pair.peer, phase, n)
        # Memory sets the pace of decoding; arithmetic that of prefill.
        value = result["tokens_per_s"] / ((before + pair.probe()) if phase == "decode" else 1)
        (scores if result["cpu"] >= report.CPU_SHARE else disturbed).append(value)
    return report.quantile(scores or disturbed, 0.5)


def tune(pair, options, phases):
    """For each phase the way of loading and the attention with which llama.cpp is fastest: [(mode, flash)]. On a machine that is
    busy it ends after the time of a row, with what was tried."""
    until = time.monotonic() + options.seconds
    modes = ("mmap", "read", "huge") if options.peer_load == "best" else (options.peer_load,)
    flashes = (0, 1) if options.peer_flash == "best" else (int(options.peer_flash),)
    best = [(-1.0, modes[0], flashes[0])] * len(phases)
    if len(modes) * len(flashes) == 1:
        return [choice[1:] for choice in best]
    for mode in modes:
        pair.start_peer(mode)
        for flash in flashes:
            pair.peer.ask(f"flash {flash}")
            for i, (phase, n) in enumerate(phases):
                if time.monotonic() > until:
                    progress("")
                    print(f"  ways of running llama.cpp were tried up to {mode}, flash {'on' if flash else 'off'}, {phase} {n}")
                    return [choice[1:] for choice in best]
                progress(f"  how is llama.cpp fastest? {mode}, flash {'on' if flash else 'off'}, {phase} {n}")
                pair.peer.ask(f"depth {n if phase == 'decode' else 0}")
                pair.run(pair.peer, phase, 2)
                best[i] = max(best[i], (score(pair, phase, 8 if phase == "decode" else min(n, 256)), mode, flash))
    progress("")
    return [choice[1:] for choice in best]


def prepare(pair, phase, n, mode, flash):
    """Both at the depth; how many tokens make a block."""
    pair.start_peer(mode)
    pair.peer.ask(f"flash {flash}")
    for child in (pair.ours, pair.peer):
        child.ask(f"depth {n if phase == 'decode' else 0}")
    if phase == "prefill":
        return n
    for child in (pair.ours, pair.peer):
        pair.run(child, phase, 2)
    slower = min(pair.run(child, phase, 4)[0]["tokens_per_s"] for child in (pair.ours, pair.peer))
    return int(max(BLOCK_MIN, min(BLOCK_MAX, BLOCK_S * slower)))


def measure(pair, options, phase, n, mode, flash):
    n_tokens = prepare(pair, phase, n, mode, flash)
    wanted = options.blocks if phase == "decode" else min(options.blocks, options.prefill_blocks)
    blocks, counted, bytes_per_token, began = [], 0, None, time.monotonic()
    before = pair.probe()
    while counted < wanted and time.monotonic() - began < options.seconds:
        block, bytes_per_token = pair.block(phase, n_tokens, len(blocks) % 2, before)
        before = block["probes"][-1]
        block["phase"] = phase
        blocks.append(block)
        counted += report.accepts(block)
        progress(f"  {phase} {n}: {counted} of {wanted} blocks, {len(blocks) - counted} lost")
    progress("")
    return {"phase": phase, "depth": n if phase == "decode" else 0, "n_tokens": n_tokens,
            "peer": f"{mode}, flash {'on' if flash else 'off'}", "summary": report.summary(blocks, bytes_per_token),
            "blocks": blocks}


def compare(options, model, quant, path, phases, rows):
    """Append a row for each phase as it is complete, so that an interruption loses only the last."""
    deepest = max(n + (BLOCK_MAX if phase == "decode" else 0) for phase, n in phases)
    inspected = subprocess.run([options.build / "src/cli/membound", "inspect", path, "--json"], check=True, capture_output=True)
    # The weights twice; the cache three times, since llama.cpp has one for each kind of attention.
    size, free = path.stat().st_size, memory_free()
    need = 2 * size + 3 * json.loads(inspected.stdout)["kv_bytes_per_token"] * deepest + ROOM_BYTES
    if free is not None and need > free:
        print(f"{model} {quant}: left out; both engines need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
        return
    pair = None
    try:
        pair = Pair(options, path, deepest)
        choices = tune(pair, options, phases)
        pair.start_peer(choices[0][0])
        print(f"{model} {quant}: membound {pair.ours.about}", flush=True)
        # Rows of one way of loading one after another: each start loads the model anew.
        order = sorted(range(len(phases)), key=lambda i: choices[i][0] != pair.mode)
        for i in order:
            row = measure(pair, options, *phases[i], *choices[i])
            rows.append({"model": model, "quant": quant, "file_bytes": size, **row})
        shares = pair.idle_shares()
        if max(shares) > 0.02:
            print(f"{model} {quant}: idle, membound took {100 * shares[0]:.0f} % of a CPU, llama.cpp {100 * shares[1]:.0f} %")
    finally:
        if pair:
            pair.close()
    rows.sort(key=lambda row: phases.index((row["phase"], row["depth"] if row["phase"] == "decode" else row["n_tokens"])))


def read_once(path):
    """Seconds to read a file that the page cache holds."""
    buffer = bytearray(1 << 20)
    began = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - began


def write_once(command):
    """Seconds from the start of a program to the first byte that it writes."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        first = program.stdout.read(1)
        seconds = time.perf_counter() - began
        program.stdout.read()
    if not first or program.returncode:
        raise SystemExit(f"{command[0]} ended with {program.returncode} and wrote {'a text' if first else 'nothing'}")
    return seconds


def first_token(options, model, quant, path):
    """Start to first token, in turn with reading the file; the best of five, since what disturbs only ever adds."""
    times = {"read_s": [], "membound_s": [], "llama_s": []}
    read_once(path)
    for _ in range(5):
        times["read_s"].append(read_once(path))
        command = [options.build / "src/cli/membound", "run", path, "-p", "hi", "-n", "1", "--threads", str(options.threads)]
        times["membound_s"].append(write_once(command))
        command = [sys.executable, HERE / "llama_child.py", options.library, path, options.threads, "first", "hi"]
        child = Child("llama.cpp", command)
        times["llama_s"].append(float(child.about))
        child.close()
    return {"model": model, "quant": quant, "file_bytes": path.stat().st_size,
            **{name: min(values) for name, values in times.items()}}


def models_of(options):
    """(name, quant, path) of what is asked for; files are written when their turn comes."""
    folder = options.work / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        if name.endswith(".gguf"):
            yield pathlib.Path(name).stem, "file", pathlib.Path(name)
        elif name == "gemma3-270m":
            yield name, "Q4_K_M", llama_setup.gemma(options.work, folder / "gemma3-270m-Q4_K_M.gguf")
        else:
            for quant in options.quants:
                print(f"{name} {quant}: writing or finding the file", flush=True)
                path = folder / f"{name}-{quant}.gguf"
                try:
                    yield name, quant, make_model.make(options.build / "bench/peer-model", name, quant, path)
                except ValueError as why:
                    print(f"{name}: left out; {why}")


def phase_of(text):
    """decode@DEPTH or prefill@TOKENS."""
    phase, at, n = text.partition("@")
    if phase not in ("decode", "prefill") or not at or not n.isdigit() or (phase == "prefill" and n == "0"):
        raise argparse.ArgumentTypeError(f"{text}: not like decode@0 or prefill@512")
    return phase, int(n)


def words(text):
    return text.replace(",", " ").split()


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"), help="where membound was built (build)")
    parser.add_argument("--work", type=pathlib.Path, help="llama.cpp and the models go here (BUILD/bench-peers)")
    parser.add_argument("--models", type=words, default=["qwen3-1.7b", "gemma3-270m"],
                        help=f"{', '.join(make_model.FAMILIES)}, gemma3-270m, or paths of .gguf files")
    parser.add_argument("--quants", type=words, default=["Q4_K_M", "Q8_0"], help="of the models that are written here")
    parser.add_argument("--phases", type=lambda text: [phase_of(word) for word in words(text)],
                        default=[("decode", 0), ("decode", 8192), ("prefill", 512)], help="decode@0 decode@8192 prefill@512")
    parser.add_argument("--blocks", type=int, default=20, help="that count for a row of decoding (20)")
    parser.add_argument("--prefill-blocks", type=int, default=6, help="at most that many for prefill, whose blocks are long (6)")
    parser.add_argument("--seconds", type=float, default=120, help="after which a row ends with what counts so far (120)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else
                        os.cpu_count(), help="of both engines (every CPU)")
    parser.add_argument("--peer-load", choices=("best", "mmap", "read", "huge"), default="best")
    parser.add_argument("--peer-flash", choices=("best", "0", "1"), default="best")
    parser.add_argument("--library", help="libllama.so of your own, instead of compiling one")
    parser.add_argument("--wheel", action="store_true", help="take llama.cpp's wheel, do not compile")
    parser.add_argument("--first-token", action="store_true", help="also measure the start to the first token")
    parser.add_argument("--only-first-token", action="store_true", help="and nothing else")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything, block by block")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="print the tables of such a file, run nothing")
    return parser.parse_args(arguments)


def git_revision():
    done = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown revision"


def main():
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.markdown:
        print(report.markdown(json.loads(options.markdown.read_text())))
        return 0
    options.build = options.build.absolute()
    options.work = (options.work or options.build / "bench-peers").absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    what = options.library
    if not options.library:
        options.library, what = llama_setup.llama(options.work, options.wheel)
    version = subprocess.run([options.build / "src/cli/membound", "--version"], capture_output=True, text=True).stdout.split()[-1]
    result = {"date": datetime.date.today().isoformat(), "machine": {"cpu": cpu_name(), "n_threads": options.threads,
                                                                    "system": f"{platform.system()} {platform.machine()}"},
              "versions": {"membound": f"{version} ({git_revision()})", "llama.cpp": f"llama.cpp as {what}"},
              "rows": [], "first_token": []}
    print(f"{result['machine']['cpu']}, {options.threads} threads; membound {result['versions']['membound']}\n"
          f"{result['versions']['llama.cpp']}", flush=True)
    busy, failed = busy_share(), 0
    if busy > 0.05:
        print(f"other programs take {100 * busy:.0f} % of the CPUs: many blocks will be lost; llama.cpp may be very slow in them")
    try:
        for model, quant, path in models_of(options):
            if not options.only_first_token:
                rows = []
                try:
                    compare(options, model, quant, path, options.phases, rows)
                finally:
                    result["rows"] += rows
                    if rows:
                        print(report.table(rows), flush=True)
            if options.first_token or options.only_first_token:
                result["first_token"].append(first_token(options, model, quant, path))
    except KeyboardInterrupt:
        print("\nended before the last model", file=sys.stderr)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as why:
        print(why, file=sys.stderr)
        failed = 1
    if len({(row["model"], row["quant"]) for row in result["rows"]}) > 1:
        print(f"\n{report.table(result['rows'])}")
    if result["first_token"]:
        print(f"start to first token, page cache warm, best of five\n{report.first_token_table(result['first_token'])}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
