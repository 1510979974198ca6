#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench_peers.py PEER_MODEL MEMBOUND SOURCE_ROOT: what `make bench-peers` stands on, without another engine and without a clock:
which blocks count, what they amount to, the tables, and models that have the size and the types of the real ones."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

PEER_MODEL, MEMBOUND, ROOT = sys.argv[1:4]
sys.path.insert(0, str(pathlib.Path(ROOT) / "bench/peers"))
sys.dont_write_bytecode = True
import make_model  # noqa: E402
import report  # noqa: E402


def block(ours, theirs, probes=(100e9, 100e9, 100e9), cpu=(1.0, 1.0)):
    return {"probes": list(probes), "first": "membound",
            "membound": {"tokens_per_s": ours, "cpu": cpu[0], "bytes_per_s": (probes[0] + probes[1]) / 2},
            "llama.cpp": {"tokens_per_s": theirs, "cpu": cpu[1], "bytes_per_s": (probes[1] + probes[2]) / 2}}


def inspect(model):
    return json.loads(subprocess.run([MEMBOUND, "inspect", model, "--json"], check=True, capture_output=True, text=True).stdout)


class Blocks(unittest.TestCase):
    def test_which_count(self):
        self.assertTrue(report.accepts(block(10, 9)))
        self.assertTrue(report.accepts(block(10, 9, probes=(100, 90, 95))))
        for probes in (100, 89, 95), (95, 100, 89), (89, 95, 100), (0, 0, 0):
            self.assertFalse(report.accepts(block(10, 9, probes=probes)), probes)
        self.assertTrue(report.accepts({**block(10, 9, probes=(100, 50, 95)), "phase": "prefill"}))
        self.assertTrue(report.accepts(block(10, 9, cpu=(0.9, 0.9))))
        for cpu in (0.89, 1), (1, 0.89):
            self.assertFalse(report.accepts(block(10, 9, cpu=cpu)), cpu)

    def test_quantiles(self):
        self.assertEqual([report.quantile([4, 1, 3, 2, 5], share) for share in (0, 0.25, 0.5, 0.75, 1)], [1, 2, 3, 4, 5])
        self.assertEqual(report.quantile([1, 2], 0.25), 1.25)
        self.assertEqual(report.quantile([7], 0.75), 7)

    def test_summary(self):
        blocks = [block(20, 10), block(30, 10), block(40, 10)]
        blocks += [block(1000, 1, cpu=(0.5, 1)), block(1, 1000, probes=(100e9, 50e9, 100e9))]
        totals = report.summary(blocks, 2e9)
        self.assertEqual((totals["n_counted"], totals["n_dropped"]), (3, 2))
        self.assertEqual((totals["membound"]["tokens_per_s"], totals["llama.cpp"]["tokens_per_s"]), (30, 10))
        self.assertAlmostEqual(totals["membound"]["fraction_of_bound"], 0.6)
        self.assertAlmostEqual(totals["llama.cpp"]["fraction_of_bound"], 0.2)
        self.assertEqual(totals["ratio"], [2.5, 3, 3.5])
        self.assertEqual(totals["bytes_per_s"], 100e9)

    def test_ratio_is_within_blocks(self):
        # Memory gives half in the second block; the engines' ratio is the same in both.
        blocks = [block(20, 10), block(10, 5, probes=(50e9, 50e9, 50e9))]
        totals = report.summary(blocks, 2e9)
        self.assertEqual(totals["ratio"], [2, 2, 2])
        self.assertAlmostEqual(totals["membound"]["fraction_of_bound"], 0.4)

    def test_none_counts(self):
        totals = report.summary([block(1, 1, cpu=(0, 0))], 1e9)
        self.assertEqual((totals["n_counted"], totals["n_dropped"], totals["ratio"], totals["membound"]), (0, 1, None, None))


class Tables(unittest.TestCase):
    def rows(self):
        decode = {"model": "qwen3-1.7b", "quant": "Q4_K_M", "phase": "decode", "depth": 32768, "n_tokens": 16,
                  "peer": "mmap, flash off", "summary": report.summary([block(120.04, 9.994)] * 20, 1e9)}
        prefill = dict(decode, phase="prefill", depth=0, n_tokens=512)
        return [decode, prefill, dict(decode, summary=report.summary([], None))]

    def test_text(self):
        lines = report.table(self.rows()).splitlines()
        self.assertEqual(len(lines), 5)
        self.assertLessEqual(max(map(len, lines)), 130)
        self.assertEqual(" ".join(lines[2].split()), "qwen3-1.7b Q4_K_M decode @32768 120 9.99 100 120 % 10 % 12.01 12.01..12.01 "
                         "20 + 0 mmap, flash off")
        self.assertIn("prefill 512", lines[3])
        self.assertNotIn("%", lines[3])
        self.assertIn(" - ", lines[4])

    def test_markdown(self):
        first = {"model": "m", "quant": "Q8_0", "file_bytes": 2e9, "read_s": 1, "membound_s": 2, "llama_s": 3}
        result = {"machine": {"cpu": "A CPU", "n_threads": 2}, "versions": {"membound": "1", "llama.cpp": "2"},
                  "date": "2026-11-23", "rows": self.rows(), "first_token": [first]}
        tables = [line for line in report.markdown(result).splitlines() if line.startswith("|")]
        self.assertEqual(len({line.count(" | ") for line in tables[:5]}), 1)
        self.assertEqual(len({line.count(" | ") for line in tables[5:]}), 1)
        self.assertEqual(tables[-1], "| m Q8_0 | 2.00 GB | 2.00 s | 3.00 s | 1.00 s |")


class Models(unittest.TestCase):
    def header(self, name, quant):
        """What is in a file that is cut off after its table of tensors."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            family = make_model.FAMILIES[name]
            types = make_model.types_of(PEER_MODEL, name, family, quant, path)
            return types, make_model.tensors_of(family)

    def test_types_are_those_of_the_real_models(self):
        for name, real in ("qwen3-1.7b", "Qwen3-1.7B"), ("llama-8b", "Llama-3.1-8B"):
            for quant in "Q4_K_M", "Q8_0", "IQ4_XS", "Q4_0":
                types, tensors = self.header(name, quant)
                sizes = {}
                for tensor, shape in tensors:
                    count = 1
                    for n in shape:
                        count *= n
                    _, elements, size = make_model.TYPES[types[tensor]]
                    sizes[types[tensor]] = sizes.get(types[tensor], 0) + count // elements * size
                self.assertEqual(sizes, inspect(f"{real}@{quant}")["types"], f"{name} {quant}")

    def test_small_files(self):
        for name, quant in ("tiny", "Q4_K_M"), ("tiny", "F16"), ("tiny-moe", "MXFP4"), ("tiny-moe", "Q6_K"):
            with tempfile.TemporaryDirectory() as folder:
                path = make_model.make(PEER_MODEL, name, quant, pathlib.Path(folder) / "model.gguf")
                self.assertEqual([path], list(pathlib.Path(folder).iterdir()))
                found = inspect(path)
                self.assertEqual((found["n_vocab"], found["n_layers"]), (512, make_model.FAMILIES[name]["layers"]))
                self.assertIn({"MXFP4": "MXFP4", "Q4_K_M": "Q6_K", "Q6_K": "Q6_K", "F16": "F16"}[quant], found["types"])
                data = path.read_bytes()[-found["resident_bytes"]:]
                # Pages of zeros, or of anything else that repeats, may be one page.
                pages = [data[i:i + 4096] for i in range(0, len(data) - 4096, 4096)]
                self.assertEqual(len(set(pages)), len(pages))
                done = subprocess.run([MEMBOUND, "run", path, "--raw", "-p", "hi", "-n", "2"], capture_output=True)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_refusals(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            with self.assertRaises(ValueError):
                make_model.make(PEER_MODEL, "tiny", "MXFP4", path)
            with self.assertRaises(subprocess.CalledProcessError):
                make_model.make(PEER_MODEL, "tiny", "Q4_K_X", path)
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
