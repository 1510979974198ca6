# SPDX-License-Identifier: MIT
"""What blocks of a comparison amount to: which of them count, medians and quartiles, the table for a terminal and for Markdown.
Pure: no clock, no files, no processes."""
import statistics

SAME = 0.10       # readings of the memory around a block may differ by so much
CPU_SHARE = 0.90  # of the time on all its threads that a block must have had
ENGINES = ("membound", "llama.cpp")


def accepts(block, same=SAME, cpu_share=CPU_SHARE):
    """Does a block count? `probes`: the readings before, between and after; for each engine `cpu`: its share of the CPU time.
    Prefill is not bounded by memory, and takes seconds, in which memory may change."""
    probes = block["probes"]
    if block.get("phase") != "prefill" and (min(probes) <= 0 or max(probes) - min(probes) > same * max(probes)):
        return False
    return all(block[engine]["cpu"] >= cpu_share for engine in ENGINES)


def quantile(values, share):
    """Linear between the two nearest ranks."""
    values = sorted(values)
    at = share * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def summary(blocks, bytes_per_token):
    """Medians over the blocks that count; None where none does."""
    counted = [block for block in blocks if accepts(block)]
    out = {"n_counted": len(counted), "n_dropped": len(blocks) - len(counted), "bytes_per_token": bytes_per_token,
           "bytes_per_s": None, "ratio": None, **{engine: None for engine in ENGINES}}
    if not counted:
        return out
    out["bytes_per_s"] = statistics.median(reading for block in counted for reading in block["probes"])
    for engine in ENGINES:
        bounds = [block[engine]["tokens_per_s"] * bytes_per_token / block[engine]["bytes_per_s"] for block in counted]
        out[engine] = {"tokens_per_s": statistics.median(block[engine]["tokens_per_s"] for block in counted),
                       "fraction_of_bound": statistics.median(bounds)}
    ratios = [block[ENGINES[0]]["tokens_per_s"] / block[ENGINES[1]]["tokens_per_s"] for block in counted]
    out["ratio"] = [quantile(ratios, share) for share in (0.25, 0.5, 0.75)]
    return out


def figure(value):
    """Three digits, as people write speeds."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def phase_name(row):
    if row["phase"] == "decode":
        return f"decode @{row['depth']}"
    return f"prefill {row['n_tokens']}"


HEADINGS = ("model", "quant", "phase", "membound", "llama.cpp", "read", "bound", "bound", "ratio", "quartiles", "blocks",
            "llama.cpp with")
UNITS = ("", "", "", "tokens/s", "tokens/s", "GB/s", "membound", "llama.cpp", "", "", "+ lost", "")


def cells(row):
    totals, ratio = row["summary"], row["summary"]["ratio"]

    def speed(engine):
        return figure(totals[engine] and totals[engine]["tokens_per_s"])

    def bound(engine):
        """Prefill reads its weights once for many tokens; a share of the bound would say nothing about it."""
        if not totals[engine] or row["phase"] != "decode":
            return "-"
        return f"{100 * totals[engine]['fraction_of_bound']:.0f} %"

    return (row["model"], row["quant"], phase_name(row), speed("membound"), speed("llama.cpp"),
            figure(totals["bytes_per_s"] and totals["bytes_per_s"] / 1e9), bound("membound"), bound("llama.cpp"),
            f"{ratio[1]:.2f}" if ratio else "-", f"{ratio[0]:.2f}..{ratio[2]:.2f}" if ratio else "-",
            f"{totals['n_counted']} + {totals['n_dropped']}", row["peer"])


def widths_of(rows):
    return [max(map(len, column)) for column in zip(HEADINGS, UNITS, *rows)]


def line(row, widths):
    """Names to the left, figures to the right."""
    left = {0, 1, 2, len(row) - 1}
    return "  ".join(cell.ljust(width) if i in left else cell.rjust(width)
                     for i, (cell, width) in enumerate(zip(row, widths))).rstrip()


def table(rows):
    rows = [cells(row) for row in rows]
    widths = widths_of(rows)
    return "\n".join(line(row, widths) for row in [HEADINGS, UNITS, *rows])


def first_token_table(rows):
    out = []
    for row in rows:
        out.append(f"  {row['model']} {row['quant']}, {row['file_bytes'] / 1e9:.2f} GB: membound {row['membound_s']:.2f} s, "
                   f"llama.cpp {row['llama_s']:.2f} s, reading the file {row['read_s']:.2f} s; "
                   f"membound / reading {row['membound_s'] / row['read_s']:.2f}")
    return "\n".join(out)


def markdown(result):
    """The tables of docs and bench/results."""
    machine, versions = result["machine"], result["versions"]
    out = [f"{machine['cpu']}, {machine['n_threads']} threads, {result['date']}; membound {versions['membound']}, "
           f"{versions['llama.cpp']}.", ""]
    if result["rows"]:
        out += ["| model | quant | phase | membound tok/s | llama.cpp tok/s | read GB/s | bound, membound | bound, llama.cpp "
                "| ratio | quartiles | blocks | llama.cpp with |", "| " + "--- | " * 3 + "---: | " * 8 + "--- |"]
        out += ["| " + " | ".join(cells(row)) + " |" for row in result["rows"]]
    if result["first_token"]:
        out += ["", "| start to first token | file | membound | llama.cpp | reading the file |", "| --- " + "| ---: " * 4 + "|"]
        out += [f"| {row['model']} {row['quant']} | {row['file_bytes'] / 1e9:.2f} GB | {row['membound_s']:.2f} s | "
                f"{row['llama_s']:.2f} s | {row['read_s']:.2f} s |" for row in result["first_token"]]
    return "\n".join(out)
