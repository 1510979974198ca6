#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our read bandwidth against that of an independent tool, taken in turn: likwid-bench, else sysbench.

usage: bandwidth.py BENCH_BANDWIDTH [--rounds N] [--mib N] [--threads N] [--out FILE]

Each round is probe, ours, peer (or peer, ours), probe. A probe is 0.1 s of ours; a round whose probes differ by more than
15 % says nothing, because the machine changed within it, and is discarded; so is one in which other programs had the CPUs
for more than 10 % of the time. All read the same amount of memory with
the same number of threads bound to the same hardware threads. likwid-bench is run as it comes (4 KiB pages) and with
huge pages from malloc, so that pages are not taken for loads. Medians and spreads of the rounds that were kept are
printed as a table in Markdown; exit 1 if ours is below 0.97 of the best peer.
"""
import argparse
import datetime
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys

PROBE_S, OURS_S, AGREE, CPU_SHARE_MIN, TARGET = 0.1, 0.6, 0.15, 0.9, 0.97
PASSES = 16  # of likwid-bench over the buffer: about as long


class Ours:
    def __init__(self, program, threads, mib):
        self.process = subprocess.Popen([program, str(threads), str(mib)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.what = self.process.stdout.readline().strip()

    def read(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        rate, share = self.process.stdout.readline().split()
        return float(rate), float(share)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def likwid(kernel, huge, threads, mib):
    environment = dict(os.environ)
    if huge:
        environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"

    def run():
        done = subprocess.run(["likwid-bench", "-t", kernel, "-i", str(PASSES), "-W", f"S0:{mib * 1048576 // 1000}kB:{threads}"],
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = re.search(r"^MByte/s:\s+([\d.]+)", done.stdout, re.M)
        if not found:
            sys.exit(f"likwid-bench: no figure in its output\n{done.stdout[-800:]}")
        return float(found[1]) * 1e6
    return run


def sysbench(threads, mib):
    def run():
        done = subprocess.run(["sysbench", "memory", "--memory-oper=read", f"--memory-block-size={mib // threads}M",
                               "--memory-scope=local", "--memory-total-size=1000G", "--time=2", f"--threads={threads}", "run"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return float(re.search(r"\(([\d.]+) MiB/sec\)", done.stdout)[1]) * 1048576
    return run


def version(*command):
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.strip()
    return text.splitlines()[0] if text else command[0]


def peers(threads, mib):
    """[(name, function)], and what they are."""
    if shutil.which("likwid-bench"):
        flags = re.search(r"^flags\s*:(.*)$", open("/proc/cpuinfo").read(), re.M)
        flags = flags[1].split() if flags else []
        kernels = ["load"] + ["load_avx"] * ("avx" in flags) + ["load_avx512"] * ("avx512f" in flags)
        return [(f"likwid-bench {k}{', huge pages' if huge else ''}", likwid(k, huge, threads, mib))
                for k in kernels for huge in (False, True)], version("likwid-bench", "-v")
    if shutil.which("sysbench"):
        return [("sysbench memory read", sysbench(threads, mib))], version("sysbench", "--version")
    sys.exit("bandwidth: neither likwid-bench nor sysbench is installed; there is nothing to compare with")


def spread(values):
    if len(values) < 3:
        return float("nan")
    tenths = statistics.quantiles(values, n=10)
    return (tenths[8] - tenths[0]) / statistics.median(values)


def load():
    try:
        return open("/proc/loadavg").read().split()[0]
    except OSError:
        return "unknown"


def compare(ours, name, peer, rounds):
    """Rows (ours, peer) of the rounds that were kept, and how many were not."""
    kept, discarded = [], 0
    while len(kept) < rounds and discarded < 2 * rounds:
        before, _ = ours.read(PROBE_S)
        if (len(kept) + discarded) % 2:
            theirs = peer()
            mine, share = ours.read(OURS_S)
        else:
            mine, share = ours.read(OURS_S)
            theirs = peer()
        after, _ = ours.read(PROBE_S)
        if abs(before - after) > AGREE * max(before, after) or share < CPU_SHARE_MIN:
            discarded += 1
        else:
            kept.append((mine, theirs))
        print(f"  {name}: ours {mine / 1e9:.1f}, theirs {theirs / 1e9:.1f}, probes {before / 1e9:.1f} {after / 1e9:.1f}, "
              f"CPU {share:.2f}", file=sys.stderr)
    return kept, discarded


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--mib", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out")
    options = parser.parse_args()
    found, peer_version = peers(options.threads, options.mib)
    load_before = load()
    ours = Ours(options.program, options.threads, options.mib)
    rows, worst = [], float("inf")
    for name, peer in found:
        kept, discarded = compare(ours, name, peer, options.rounds)
        if not kept:
            rows.append(f"| {name} | | | | | | 0 | {discarded} |")
            continue
        mine, theirs = [k[0] for k in kept], [k[1] for k in kept]
        ratios = [a / b for a, b in kept]
        worst = min(worst, statistics.median(ratios))
        rows.append(f"| {name} | {statistics.median(mine) / 1e9:.1f} | {statistics.median(theirs) / 1e9:.1f} | "
                    f"{statistics.median(ratios):.3f} | {spread(mine):.2f} | {spread(theirs):.2f} | {len(kept)} | {discarded} |")
    ours.close()
    cpu = re.search(r"^model name\s*:\s*(.*)$", open("/proc/cpuinfo").read(), re.M)
    text = "\n".join([
        f"- date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"- machine: {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} hardware threads, Linux {platform.release()}",
        f"- ours: {ours.what}",
        f"- peer: {peer_version}",
        f"- command: bench/bandwidth.py --rounds {options.rounds} --mib {options.mib} --threads {options.threads}",
        f"- load average before and after: {load_before}, {load()} (the bench itself counts)",
        "",
        "| peer | ours GB/s | peer GB/s | ours / peer | spread of ours | of peer | rounds kept | discarded |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows, ""])
    print(text)
    if options.out:
        with open(options.out, "w") as out:
            out.write(text)
    print(f"ours / best peer: {worst:.3f} (target {TARGET})")
    sys.exit(worst < TARGET)


main()
