#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The program as a person uses it: program.py MEMBOUND SOURCE_ROOT. Exit codes, one-line errors, JSON, screens."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

PROGRAM, ROOT = sys.argv[1], pathlib.Path(sys.argv[2])
TREES = ROOT / "tests/trees"


class Program(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="membound-program-")
        cls.home = pathlib.Path(cls.scratch.name)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def run_it(self, *args, expect=0, env=None, **kwargs):
        environment = {**os.environ, "XDG_DATA_HOME": str(self.home / "data"), "COLUMNS": "80", **(env or {})}
        done = subprocess.run([PROGRAM, *args], capture_output="stdout" not in kwargs, env=environment, timeout=100, **kwargs)
        if expect is not None:
            self.assertEqual(done.returncode, expect, (args, done))
        self.stdout = (done.stdout or b"").decode()
        self.stderr = (done.stderr or b"").decode()
        return self.stdout

    def refused(self, code, *args, names=()):
        """One line on stderr, nothing on stdout, the right exit code, and the thing at fault named."""
        self.run_it(*args, expect=code)
        self.assertEqual(self.stdout, "")
        self.assertEqual(self.stderr.count("\n"), 1, self.stderr)
        self.assertTrue(self.stderr.startswith("membound: "), self.stderr)
        for name in names:
            self.assertIn(name, self.stderr)

    def test_help_and_version(self):
        self.assertIn("membound 0.1.0", self.run_it("--version"))
        self.assertIn("verbs:", self.run_it("--help"))
        for verb in self.verbs():
            text = self.run_it(verb, "--help")
            self.assertIn("examples:", text)
            self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def verbs(self):
        text = self.run_it("--help")
        return [line.split()[0] for line in text.split("verbs:\n")[1].split("\n\n")[0].splitlines()]

    def test_every_verb_and_option_is_in_man_page_and_completions(self):
        man = (ROOT / "docs/membound.1").read_text().replace("\\-", "-")
        shells = [(ROOT / "completions" / name).read_text() for name in ("membound.bash", "_membound", "membound.fish")]
        for verb in self.verbs() + ["home"]:
            for line in self.run_it(verb, "--help").splitlines():
                option = line.split()[0] if line.startswith("  --") else None
                if not option or option == "--help":
                    continue
                self.assertIn("Fl " + option[1:], man, "man page")
                for shell in shells:
                    self.assertIn(option[2:], shell, f"completions: {verb} {option}")

    def test_usage_errors(self):
        self.refused(2, "machin", names=["machin", "machine"])
        self.refused(2, "machine", "--mesure", names=["--mesure", "--measure"])
        self.refused(2, "machine", "--threads", "x", names=["x"])
        self.refused(2, "machine", "--threads", "-1", names=["-1"])
        self.refused(2, "machine", "--threads", names=["--threads"])
        self.refused(2, "machine", "a", "b", names=["b"])
        self.refused(2, "machine", "DGX Spark", "--measure")
        self.refused(2, "machine", "--list", "DGX Spark")
        self.refused(2, "--jsn", names=["--json"])

    def test_this_machine(self):
        first = json.loads(self.run_it("--json"))
        self.assertEqual(first["origin"], "detected")
        ram = [p for p in first["pools"] if p["kind"] in ("system", "unified")]
        self.assertEqual(len(ram), 1)
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        meminfo = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
        self.assertLessEqual(ram[0]["capacity_bytes"], meminfo["MemTotal"] * 1.02)
        if not pathlib.Path("/sys/fs/cgroup/memory.max").exists():
            self.assertGreaterEqual(ram[0]["capacity_bytes"], meminfo["MemTotal"] * 0.98)
        self.assertEqual(ram[0]["bandwidth"]["provenance"], "measured")
        self.assertGreater(ram[0]["bandwidth"]["bytes_per_s"], 1e7)
        self.assertTrue(first["measurement"]["series"])
        # The second run takes the measurement of the first.
        second = json.loads(self.run_it("--json"))
        self.assertEqual(second["measurement"]["date"], first["measurement"]["date"])
        self.assertEqual(second["fingerprint"], first["fingerprint"])
        self.assertLessEqual(self.widest(self.run_it()), 80)
        self.assertLessEqual(self.widest(self.run_it("machine")), 80)

    @staticmethod
    def widest(text):
        return max(map(len, text.splitlines()))

    def test_history_is_never_the_answer(self):
        """A home that can't be written, a corrupt database: the history is lost, not the answer."""
        blocked = self.home / "blocked"
        blocked.write_text("a file where a directory should be")
        self.run_it("machine", "--quick", "--json", env={"XDG_DATA_HOME": str(blocked)})
        self.assertEqual(self.stderr.count("\n"), 1, self.stderr)
        self.assertEqual(json.loads(self.stdout)["pools"][0]["bandwidth"]["provenance"], "measured")
        corrupt = self.home / "corrupt/membound"
        corrupt.mkdir(parents=True)
        (corrupt / "history.db").write_bytes(b"not a database at all" * 400)
        self.run_it("machine", "--json", env={"XDG_DATA_HOME": str(self.home / "corrupt")})
        self.assertEqual(json.loads(self.stdout)["measurement"], None)
        self.assertEqual(self.stderr.count("\n"), 1, self.stderr)

    def test_catalog(self):
        text = self.run_it("machine", "DGX Spark")
        for word in ("unified", "128", "273 GB/s", "dedicated"):
            self.assertIn(word, text)
        self.assertLessEqual(self.widest(text), 80)
        machine = json.loads(self.run_it("machine", "dgx-spark", "--json"))
        self.assertEqual((machine["origin"], machine["class"]), ("catalog", "dedicated"))
        self.refused(2, "machine", "DGX Sprak", names=["DGX Spark"])
        listing = self.run_it("machine", "--list")
        self.assertLessEqual(self.widest(listing), 80)
        rows = json.loads(self.run_it("machine", "--list", "--json"))["machines"]
        self.assertEqual([row["desirability"] for row in rows], list(range(1, len(rows) + 1)))
        for row in rows:
            self.assertIn(row["name"][:20], listing)

    def test_every_catalog_machine_prints_and_round_trips(self):
        for row in json.loads(self.run_it("machine", "--list", "--json"))["machines"]:
            saved = self.home / "saved.json"
            first = json.loads(self.run_it("machine", row["name"], "--json", "--save", str(saved)))
            again = json.loads(self.run_it("machine", str(saved), "--json"))
            self.assertEqual(again["origin"], "file")
            for machine in (first, again):
                machine.pop("origin")
            self.assertEqual(first, again, row["name"])
            self.assertLessEqual(self.widest(self.run_it("machine", row["name"])), 80, row["name"])

    def test_files(self):
        good = self.home / "what-if.json"
        good.write_text('{"name": "what if", "pools": [{"kind": "unified", "capacity": "256 GB", "bandwidth": 1.0e12}]}')
        machine = json.loads(self.run_it("machine", str(good), "--json"))
        self.assertEqual((machine["name"], machine["class"]), ("what if", "dedicated"))
        long = "x" * 990
        good.write_text(json.dumps({"name": long, "pools": [{"kind": "unified", "capacity": "64 GB", "name": long, "raise": long}],
                                    "processors": [{"kind": "gpu", "name": long, "driver": long, "reads": []}]}))
        self.assertLessEqual(self.widest(self.run_it("machine", str(good))), 80)
        bad = self.home / "bad.json"
        for text, name in (('{"pools": [', "line"), ('{"pools": []}', "pools"), ('{"pools": [{"kind": "tape"}]}', "tape"),
                           ('{"pools": [{"kind": "vram", "capacity": "0 GB"}]}', "capacity"), ("[]", "bad.json"),
                           ('{"pools": [{"kind": "vram", "capacity": "1 GB", "bandwith": 1}]}', "bandwidth"), ("", "bad.json")):
            bad.write_text(text)
            self.refused(3, "machine", str(bad), names=["bad.json", name])
        self.refused(3, "machine", "no/such/file.json", names=["no/such/file.json"])
        self.refused(3, "machine", str(self.home) + "/", names=[str(self.home)])
        self.refused(3, "machine", "--root", "/no/such/tree", names=["/no/such/tree"])
        self.refused(4, "machine", str(good), "--save", "/no/such/dir/x.json", names=["/no/such/dir/x.json"])

    def test_inspect_catalog(self):
        text = self.run_it("inspect", "Qwen3-8B@Q4_K_M")
        for word in ("qwen3, 36 layers", "8.19 B", "4.67 GB", "attention", "273 GB/s", "144 KiB"):
            self.assertIn(word, text)
        self.assertLessEqual(self.widest(text), 80)
        model = json.loads(self.run_it("inspect", "gpt-oss-120b", "--ctx", "5000", "--batch", "8", "--kv", "Q8_0", "--tensors", "--json"))
        self.assertEqual((model["arch"], model["quant"], model["kv_type_k"]), ("gpt-oss", "MXFP4", "Q8_0"))
        self.assertEqual((model["pass_tokens"], model["pass_depth"]), (8, 5000))
        self.assertEqual(sum(model["traffic"]["by_role"].values()), model["traffic"]["weights_bytes"])
        self.assertEqual(sum(tensor["bytes"] for tensor in model["tensors"]), model["resident_bytes"])
        self.assertEqual(len(model["tensors"]), model["n_tensors"])
        self.assertIn("5000", model["traffic"]["kv_bytes_at"])
        decode = json.loads(self.run_it("inspect", "gpt-oss-120b", "--json"))
        self.assertEqual(sum(tensor["read_bytes"] for tensor in model["tensors"]), decode["traffic"]["weights_bytes"])
        # The law, by hand.
        law = {entry["bytes_per_s"]: entry["tokens_per_s_at"]["0"] for entry in decode["law"]}
        reads = decode["traffic"]["weights_bytes"] + decode["traffic"]["kv_bytes_at"]["0"]
        self.assertAlmostEqual(law[273000000000], 273e9 / reads, places=3)
        self.refused(2, "inspect", "Qwen3-9000B", names=["Qwen3-9000B"])
        self.refused(2, "inspect", "Qwen3-8B@Q9_K", names=["Q9"])
        self.refused(2, "inspect", "Qwen3-8B", "--kv", "Q3", names=["Q3"])
        self.refused(2, "inspect", "Qwen3-8B", "--ctx", "1000000", names=["40960"])
        self.refused(2, "inspect", "Qwen3-8B", "--batch", "0", names=["--batch"])
        self.refused(2, "inspect", names=["MODEL"])
        self.refused(2, "inspect", "Qwen3-8B", "--list")
        names = json.loads(self.run_it("inspect", "--catalog", "--json"))
        self.assertGreaterEqual(len(names["models"]), 109)
        self.assertIn("IQ4_XS", names["quants"])

    def test_inspect_files(self):
        good = sorted((ROOT / "tests/data/gguf").glob("*.gguf"))
        self.assertTrue(good)
        for path in good:
            self.run_it("inspect", str(path), "--json", expect=None)
            if self.stdout:
                model = json.loads(self.stdout)
                self.assertGreaterEqual(model["file_bytes"], model["resident_bytes"])
            else:
                self.assertEqual(self.stderr.count("\n"), 1, path)
        whole = next(path for path in good if "llama" in path.name).read_bytes()
        bad = self.home / "bad.gguf"
        for content, word in ((b"\xff\xd8\xff\xe0\0\x10JFIF\0", "JPEG"), (b"", "empty"), (whole[: len(whole) // 3], "bad.gguf"),
                              (b"<!DOCTYPE html><html>", "HTML"), (whole[:-64], "bad.gguf"), (b"GGUF" + b"\xff" * 64, "bad.gguf")):
            bad.write_bytes(content)
            self.refused(3, "inspect", str(bad), names=["bad.gguf", word])
        self.refused(3, "inspect", str(self.home), names=[str(self.home)])
        self.refused(3, "inspect", "/no/such/model.gguf", names=["/no/such/model.gguf"])

    def test_inspect_stores(self):
        """What Ollama and llama.cpp have downloaded is listed and opened by its short name."""
        source = next(path for path in sorted((ROOT / "tests/data/gguf").glob("*.gguf")) if "llama" in path.name)
        cache = self.home / "cache/llama.cpp"
        cache.mkdir(parents=True)
        (cache / "tiny-llama-Q8_0.gguf").write_bytes(source.read_bytes())
        env = {"XDG_CACHE_HOME": str(self.home / "cache"), "HOME": str(self.home), "OLLAMA_MODELS": "", "LLAMA_CACHE": str(cache)}
        listed = json.loads(self.run_it("inspect", "--list", "--json", env=env))["models"]
        self.assertEqual([row["name"] for row in listed], ["tiny-llama-Q8_0"])
        self.assertEqual(listed[0]["store"], "llama.cpp")
        self.assertIn("tiny-llama-Q8_0", self.run_it("inspect", "--list", env=env))
        model = json.loads(self.run_it("inspect", "tiny-llama-Q8_0", "--json", env=env))
        self.assertEqual(model["path"], str(cache / "tiny-llama-Q8_0.gguf"))

    def test_plan(self):
        moe = ("plan", "gpt-oss-120b", "--on", "PC RTX 3090, 64 GB DDR5")
        for args in (moe, moe + ("--explain",), ("plan", "Qwen3-8B", "--on", "DGX H100", "--ctx", "32k"),
                     ("plan", "Llama-3.3-70B", "--on", "PC 2x RTX 3090, 64 GB DDR5", "--kv", "Q8_0", "--engine", "llama.cpp:vulkan")):
            for env in ({"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}):
                text = self.run_it(*args, env=env)
                self.assertLessEqual(self.widest(text), 80, args)
                self.assertEqual(text.isascii(), env["LC_ALL"] == "C")
        plan = json.loads(self.run_it(*moe, "--ctx", "16k", "--json", "--explain"))
        self.assertEqual((plan["ctx"], plan["fits"], plan["engine"]), (16384, True, "llama.cpp:cuda"))
        self.assertEqual({row["pool"] for row in plan["placement"] if row["group"] == "attention"}, {"vram0"})
        self.assertAlmostEqual(sum(term["seconds"] for term in plan["terms"]), 1 / plan["decode"]["tokens_per_s"], places=9)
        for pool in plan["pools"]:
            self.assertEqual(pool["used_bytes"], pool["weights"] + pool["kv"] + pool["buffers"] + pool["reserved"])
        self.assertIn("--n-cpu-moe", self.run_it(*moe, "--emit", "llama.cpp"))
        text = self.run_it("plan", "Qwen3-32B@Q8_0", "--on", "MacBook Pro M4 Max 36 GB", expect=1)
        self.assertIn("what would make it fit", text)
        self.assertLessEqual(self.widest(text), 80)
        self.run_it()  # measures, if nothing was measured yet
        here = json.loads(self.run_it("plan", "Qwen3-0.6B", "--json", "--apps", "1GiB"))
        self.assertTrue(here["fits"])
        tree = str(ROOT / "tests/trees/rtx3090x2")
        self.refused(2, "plan", names=["MODEL"])
        self.refused(2, "plan", "Qwen3-8B", "--on", "DGX Spark", "--ctx", "1000000", names=["40960"])
        self.refused(2, "plan", "Qwen3-8B", "--on", "DGX Spark", "--engine", "abacus", names=["abacus"])
        self.refused(2, "plan", "Qwen3-8B", "--on", "DGX Spark", "--root", tree, names=["--root"])
        self.refused(2, "plan", "Qwen3-8B", "--on", "DGX Spark", "--emit", "llama.cpp", "--json", names=["--emit"])
        self.refused(2, "plan", "Qwen3-8B", "--on", "DGX Spark", "--emit", "abacus", names=["abacus"])
        self.refused(2, "plan", "Qwen3-8B", "--on", "DGX Spark", "--batch", "1000000", names=["--batch"])
        bad = self.home / "slow.json"
        bad.write_text('{"name": "mute", "pools": [{"id": "ram", "kind": "system", "capacity_bytes": 68719476736}]}')
        self.refused(1, "plan", "Qwen3-8B", "--on", str(bad), names=["mute"])

    def test_emit(self):
        """Each target either prints something that says what it does, or one line that names a target that can."""
        moe = ("plan", "gpt-oss-120b", "--on", "PC RTX 3090, 64 GB DDR5", "--emit")
        dense = ("plan", "Qwen3-8B", "--on", "PC RTX 4090, 64 GB DDR5", "--emit")
        mac = ("plan", "Qwen3-8B", "--on", "MacBook Pro M4 Max 64 GB", "--emit")
        for args in (moe + ("llama.cpp",), moe + ("ik_llama.cpp",), dense + ("llama.cpp",), dense + ("ollama",), dense + ("lmstudio",),
                     mac + ("mlx",), mac + ("llama.cpp",), ("plan", "Qwen3-8B@BF16", "--on", "PC RTX 4090, 64 GB DDR5", "--emit", "vllm")):
            text = self.run_it(*args)
            self.assertTrue(text.startswith("# "), args)
            self.assertIn("predicted for", text)
            self.assertLessEqual(max(len(line) for line in text.splitlines() if line.startswith("#")), 80, args)
            self.assertEqual(self.stderr, "", args)
        for args in (moe + ("ollama",), moe + ("lmstudio",), dense + ("vllm",), moe + ("mlx",), dense + ("mlx",)):
            self.refused(4, *args, names=["llama.cpp"])

    def test_cluster(self):
        big = ("plan", "Qwen3-235B-A22B@Q4_K_M", "--on", "DGX Spark")
        plan = json.loads(self.run_it(*big, "--on", "DGX Spark", "--link", "200GbE", "--json"))
        self.assertTrue(plan["fits"])
        self.assertEqual(sum(node["n_layers"] for node in plan["nodes"]), 94)
        seconds = sum(node["seconds_per_token"] for node in plan["nodes"]) + plan["link"]["seconds_per_token"]
        self.assertAlmostEqual(plan["decode"]["tokens_per_s"] * seconds, 1, places=6)
        self.assertLess(plan["link"]["share"], 0.05)
        for args in (big + ("--nodes", "3"), big + ("--on", "Mac Studio M3 Ultra 256 GB", "--link", "thunderbolt5"),
                     big + ("--nodes", "2", "--link", "1.1GB/s,80us", "--emit", "exo"), big + ("--nodes", "2", "--emit", "llama.cpp")):
            self.assertLessEqual(self.widest(self.run_it(*args)), 80, args)
        self.assertIn("--rpc", self.run_it(*big, "--nodes", "2", "--emit", "llama.cpp"))
        none = json.loads(self.run_it("plan", "Qwen3-235B-A22B@Q8_0", "--on", "Mac mini M4 Pro 48 GB", "--nodes", "2", "--json", expect=1))
        self.assertFalse(none["fits"])
        self.assertTrue(none["needs"])
        self.assertLessEqual(self.widest(self.run_it("plan", "Qwen3-235B-A22B@Q8_0", "--on", "Mac mini M4 Pro 48 GB", "--nodes", "2", expect=1)), 80)
        self.refused(2, *big, "--link", "10GbE", names=["--link"])
        self.refused(2, *big, "--nodes", "2", "--link", "string", names=["string", "10GbE"])
        self.refused(2, *big, "--nodes", "17", names=["--nodes"])
        self.refused(2, *big, "--nodes", "2", "--explain", names=["--explain"])
        self.refused(2, *big, "--on", "DGX Spark", "--nodes", "2", names=["--nodes"])
        self.refused(2, *big, "--nodes", "2", "--emit", "ollama", names=["exo"])

    def test_shard(self):
        """The law backwards: the mission's figures, units, a model, and what can't be."""
        def shard(*args):
            return json.loads(self.run_it("shard", *args, "--json"))

        found = shard("--bandwidth", "273", "--speed", "13")
        self.assertEqual((found["found"], found["size_bytes"], found["efficiency_assumed"]), ("size", 21000000000, True))
        self.assertEqual(shard("--bandwidth", "273GB/s", "--size", "21GB")["tokens_per_s"], 13)
        self.assertEqual(shard("--size=21", "--speed=13 tok/s")["bandwidth_bytes_per_s"], 273000000000)
        self.assertAlmostEqual(shard("--size", "19.5578GiB", "--speed", "13")["bandwidth_bytes_per_s"] / 273e9, 1, places=5)
        self.assertEqual(shard("--bandwidth", "1.8TB/s", "--speed", "90", "--efficiency", "50%")["size_bytes"], 10000000000)
        all_three = shard("--bandwidth", "273", "--speed", "40", "--size", "65")
        self.assertEqual((all_three["found"], all_three["verdict"]), ("efficiency", "over"))
        model = shard("--on", "DGX Spark", "--speed", "55", "--model", "gpt-oss-120b", "--ctx", "1000", "--kv", "Q8_0")
        self.assertEqual((model["bandwidth_bytes_per_s"], model["model"]["n_expert_used"]), (273000000000, 4))
        self.assertTrue(4 < model["model"]["experts_implied"] < 12)
        for args in (("--bandwidth", "273", "--speed", "13"), ("--bandwidth", "273", "--speed", "40", "--size", "65"),
                     ("--on", "DGX Spark", "--size", "2"), ("--bandwidth", "1", "--speed", "1", "--model", "Qwen3-8B"),
                     ("--bandwidth", "273", "--speed", "900", "--model", "gpt-oss-120b"), ("--size", "21", "--speed", "13")):
            self.assertLessEqual(self.widest(self.run_it("shard", *args)), 80, args)
        self.assertIn("21.0 GB", self.run_it("shard", "--bandwidth", "273", "--speed", "13"))
        for value in ("0", "-1", "nan", "inf", "0x10", "", "ten", "1e999", "3 apples", "."):
            for option in ("--bandwidth", "--speed", "--size"):
                self.refused(2, "shard", "--bandwidth", "273", "--speed", "13", option, value)
        for args in ((), ("--speed", "13"), ("--model", "Qwen3-8B"), ("--bandwidth", "273", "--ctx", "5", "--speed", "1"),
                     ("--bandwidth", "273", "--on", "here", "--speed", "1"), ("--efficiency", "2", "--speed", "1"),
                     ("--bandwidth", "1", "--speed", "1", "--size", "1", "--efficiency", "0.5"),
                     ("--bandwidth", "1", "--model", "Qwen3-8B", "--ctx", "40960")):
            self.refused(2, "shard", *args)
        self.refused(2, "shard", "--speed", "1", "--on", "DGX Sprak", "--model", "Qwen3-8B", names=["DGX Spark"])

    def test_run(self):
        """Text from a small model: a prompt from three places, JSON, and what can't be."""
        model = str(ROOT / "tests/data/golden/writer.gguf")
        said = [self.run_it("run", model, *args, "-n", "12", "--seed", "4", "--temp", "1.2", input=given.encode())
                for args, given in ((("-p", "to be"), ""), (("--prompt=to be",), ""), ((), "to be"), (("-f", "-"), "to be"))]
        self.assertEqual(len(set(said)), 1)
        self.assertNotEqual(said[0], self.run_it("run", model, "-p", "to be", "-n", "12", "--seed", "5", "--temp", "1.2"))
        told = json.loads(self.run_it("run", model, "-p", "to be", "-n", "12", "--seed", "4", "--temp", "1.2", "--json"))
        self.assertEqual(told["text"].rstrip("\n"), said[0].rstrip("\n"))
        self.assertEqual((told["stop"], told["decode"]["written_tokens"], told["decode"]["tokens"]), ("length", 12, 11))
        self.assertGreater(told["decode"]["bytes_per_token"], 50000)
        self.assertEqual(self.run_it("run", model, "--raw", "-p", "it", "-n", "9", "--temp", "0"),
                         self.run_it("run", model, "--raw", "-p", "it", "-n", "9", "--temp", "0", "--mmap", "--threads", "1"))
        ways = [json.loads(self.run_it("run", model, "--raw", "-p", "it", "-n", "9", "--temp", "0", "--json", *way))
                for way in (("--copy",), ("--mmap",), ())]
        self.assertEqual(len({way["text"] for way in ways}), 1)
        self.assertEqual([(way["load"]["way"], way["load"]["why"]) for way in ways[:2]], [("copy", "asked"), ("map", "asked")])
        self.assertIn((ways[2]["load"]["way"], ways[2]["load"]["why"]), [("behind", "default"), ("copy", "nodes"), ("map", "memory")])
        self.assertEqual(ways[2]["load"]["behind_bytes"] > 0, ways[2]["load"]["way"] == "behind")
        self.assertLessEqual(self.widest(self.run_it("run", "--help")), 80)
        self.assertIn("Which model?", self.run_it("run", expect=2))
        for code, args in ((2, (model, "-p", "x", "-f", "y")), (2, (model, "--raw", "--system", "x", "-p", "x")),
                           (2, (model, "-p", "x", "--template", "nosuch")), (2, (model, "-p", "x", "-q")),
                           (2, (model, "-p", "x", "--copy", "--mmap")), (2, (model, "-p", "x", "--kv", "Q3")), (3, (model, "-f", "/no/such/file")), (2, ("Qwen3-8B", "-p", "x")),
                           (3, (model, "-p", "x", "--template-vars", "[]")), (2, (model, "-p", "x" * 500, "--ctx", "64"))):
            self.refused(code, "run", *args)

    def test_validate(self):
        """Predictions beside measurements: the built-in rows, a file, its limit, its picture, and hostile files."""
        found = json.loads(self.run_it("validate", "--json", "--rows"))
        self.assertGreater(found["used"], 400)
        self.assertEqual(found["used"] + len(found["skipped"]), found["rows"])
        self.assertEqual(len(found["predictions"]), found["used"])
        for name in ("dense", "moe", "hybrid", "cpu", "deep", "prefill"):
            self.assertEqual({"n", "median_ape", "p90_ape", "bias", "coverage80"}, set(found["classes"][name]))
        self.assertEqual(sum(score["n"] for score in found["chips"].values()), found["used"])
        self.assertLessEqual(self.widest(self.run_it("validate")), 80)
        heading = "machine,chip,bw_gbs_spec,backend,engine,model,quant,tg_tps"
        rows = self.home / "rows.csv"
        rows.write_text(heading + "\nPC,RTX 4090,1008,cuda,llama.cpp,Qwen3-8B,Q4_K_M,128\n")
        picture = self.home / "rows.svg"
        self.assertIn("1 of 1", self.run_it("validate", str(rows), "--svg", str(picture), "--limit", "50%"))
        self.assertIn("</svg>", picture.read_text())
        self.assertLessEqual(self.widest(self.run_it("validate", str(rows), "--rows")), 80)
        rows.write_text(heading + "\nPC,RTX 4090,1008,cuda,llama.cpp,Qwen3-8B,Q4_K_M,30\n")
        self.run_it("validate", str(rows), "--limit", "50%", expect=1)
        self.assertIn("over the limit", self.stderr)
        rows.write_text(heading + "\nPC,RTX 4090,1008,cuda,llama.cpp,Qwen3-8B,Q4_K_M,fast\n")
        self.refused(3, "validate", str(rows), names=["line 2", "tg_tps"])
        self.refused(3, "validate", str(self.home / "nothing.csv"))
        self.refused(2, "validate", "--cross", "day", names=["chip"])
        self.refused(2, "validate", "--fit", "--json")
    def test_advise_machines(self):
        """What to buy for a model: conditions, the nearest miss, 80 columns, a picture."""
        def advise(*args, expect=0):
            return json.loads(self.run_it("advise", "--model", *args, "--json", expect=expect))

        rich = advise("gpt-oss-120b", "--budget", "20,000", "--min-speed", "20", "--limit", "0")
        self.assertEqual((rich["budget"], rich["n_meet"]), (20000, len(rich["machines"])))
        for row in rich["machines"]:
            self.assertLessEqual(row["price"]["amount"], 20000)
            self.assertGreaterEqual(row["decode"]["tokens_per_s"], 20)
            self.assertTrue(row["fits"] and row["why"])
        cheapest = min(row["price"]["amount"] for row in rich["machines"])
        poor = advise("gpt-oss-120b", "--budget", str(cheapest - 1), "--min-speed", "20", expect=1)
        self.assertEqual((poor["machines"], poor["near_price"]["price"]["amount"]), ([], cheapest))
        self.assertEqual(rich["cheapest"], poor["near_price"]["machine"])
        too_fast = advise("gpt-oss-120b", "--min-speed", "100000", expect=1)
        self.assertEqual(too_fast["near_speed"]["machine"], too_fast["near_any"]["machine"])
        for kind in ("cpu", "gpu", "unified", "dedicated"):
            self.assertEqual({row["class"] for row in advise("Qwen3-8B", "--class", kind)["machines"]}, {kind})
        picture = self.home / "price.svg"
        for args, code in ((("gpt-oss-120b",), 0), (("gpt-oss-120b", "--budget", "2500", "--min-speed", "20"), 1),
                           (("Llama-3.3-70B", "--class", "gpu", "--min-speed", "0", "--limit", "0"), 0),
                           (("Kimi-K3@Q8_0",), 1), (("Qwen3-8B@Q8_0", "--sort", "energy", "--svg", str(picture)), 0)):
            self.assertLessEqual(self.widest(self.run_it("advise", "--model", *args, expect=code)), 80, args)
        self.assertIn("DGX Spark", picture.read_text())
        for args in (("--model", "gpt-oss-120b", "--on", "here"), ("--budget", "100"), ("--class", "gpu"), ("--svg", "x.svg"),
                     ("--model", "Qwen3-8B", "--class", "phone"), ("--model", "Qwen3-8B", "--sort", "beauty"),
                     ("--model", "Qwen3-8B", "--budget", "0"), ("--model", "Qwen3-8B", "--budget", "-1"),
                     ("--model", "Qwen3-8B", "--budget", "2,5"), ("--model", "Qwen3-8B", "--min-speed", "fast"),
                     ("--model", "Qwen3-8B", "--quant", "Q8_0"), ("--model", "Qwen3-8B", "--ctx", "1000000")):
            self.refused(2, "advise", *args)
        self.refused(2, "advise", "--model", "Qwen3-8C", names=["Qwen3-8B"])
        self.refused(2, "advise", "--engine", "olama", names=["ollama"])
        self.refused(4, "advise", "--model", "Qwen3-8B", "--svg", "/no/such/directory/x.svg", names=["x.svg"])

    def test_advise_models(self):
        """What to run on a machine: this one, one of the catalog, a hand-written one."""
        found = json.loads(self.run_it("advise", "--on", "PC RTX 4090, 64 GB DDR5", "--limit", "0", "--json"))
        self.assertEqual(found["n_meet"], len(found["models"]))
        for row in found["models"]:
            self.assertGreaterEqual(row["decode"]["tokens_per_s"], 10)
        for row in found["rest"]:
            self.assertTrue(row["misses"])
        self.assertGreater(found["sparse"]["decode"]["tokens_per_s"], 3 * found["dense"]["decode"]["tokens_per_s"])
        for name in ("PC RTX 4090, 64 GB DDR5", "Mac mini M4 16 GB", "DGX H200", "Server EPYC 9355, 384 GB"):
            self.assertLessEqual(self.widest(self.run_it("advise", "--on", name)), 80, name)
        self.run_it("machine", "--quick", "--json")
        here = json.loads(self.run_it("advise", "--ctx", "2048", "--min-speed", "0", "--json"))
        self.assertTrue(here["models"] and here["machine"])
        only = json.loads(self.run_it("advise", "--on", "DGX Spark", "--quant", "Q4_0,Q2_K", "--json"))
        self.assertLessEqual({row["quant"] for row in only["models"]}, {"Q4_0", "Q2_K"})
        tiny = self.home / "tiny.json"
        tiny.write_text('{"name": "tiny", "pools": [{"kind": "system", "capacity": "256 MB", "bandwidth": 1e9}]}')
        self.assertIn("does not fit", self.run_it("advise", "--on", str(tiny), expect=1))
        tiny.write_text('{"name": "blind", "pools": [{"kind": "system", "capacity": "16 GB"}]}')
        self.refused(1, "advise", "--on", str(tiny), names=["bandwidth"])
        self.refused(2, "advise", "--on", "DGX Sprak", names=["DGX Spark"])
        self.refused(2, "advise", "--on", "DGX Spark", "--quant", "Q4_K_MM", names=["Q4_K_M"])

    def test_recorded_machines(self):
        trees = [tree for tree in sorted(TREES.iterdir()) if (tree / "expected.json").exists()]
        self.assertGreaterEqual(len(trees), 10)
        for tree in trees:
            machine = json.loads(self.run_it("machine", "--root", str(tree), "--json"))
            self.assertEqual(machine["class"], json.loads((tree / "expected.json").read_text())["class"], tree)
            self.assertLessEqual(self.widest(self.run_it("--root", str(tree))), 80, tree)

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "machine", "DGX Spark"], stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 4)
        self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_software_gpu(self):
        """The GPU path on Mesa's software device, where that is installed."""
        machine = json.loads(self.run_it("machine", "--no-gpu", "--json"))
        self.assertFalse([p for p in machine["processors"] if p["kind"] == "gpu"])
        machine = json.loads(self.run_it("machine", "--json"))
        self.assertFalse([p for p in machine["processors"] if p["name"] and "llvmpipe" in p["name"]], "a phantom GPU")
        # Mesa's driver leaks 256 bytes when it is unloaded.
        quiet = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
        machine = json.loads(self.run_it("machine", "--quick", "--software-gpu", "--json", env=quiet))
        software = [i for i in machine["processors"] if i["kind"] == "gpu" and "llvmpipe" in i["name"]]
        if not software:
            self.skipTest("no software Vulkan device is installed (mesa-vulkan-drivers)")
        series = [s for s in machine["measurement"]["series"] if s["processor"] == software[0]["id"]]
        self.assertTrue([s for s in series if s["kind"] == "read" and s["bytes_per_s"] > 0 and not s["rejected"]], series)

    def test_bench(self):
        self.refused(2, "bench", names=["MODEL"])
        self.refused(2, "bench", "SmolLM2-135M@Q4_K_M", names=["--synthetic"])
        self.refused(2, "bench", "SmolLM2-135M@Q4_K_M", "--depth", "0,x", names=["--depth"])
        self.refused(2, "bench", "SmolLM2-135M@Q4_K_M", "--prefill", "0", "--decode", "0", names=["nothing"])
        self.refused(2, "bench", "SmolLM2-135M@Q4_K_M", "--synthetic", "--depth", "8k", names=["8192", "trained"])
        self.refused(4, "bench", "Llama-3.1-405B@F16", "--synthetic", names=["free"])
        self.refused(3, "bench", str(self.home / "none.gguf"), names=["none.gguf"])
        short = ["bench", "SmolLM2-135M@Q4_K_M", "--synthetic", "--prefill", "8", "--decode", "2", "--threads", "1"]
        bench = json.loads(self.run_it(*short, "--json", "--ops", "--depth", "0,1k"))
        self.assertEqual([(run["phase"], run["depth"]) for run in bench["runs"]],
                         [("prefill", 0), ("prefill", 1024), ("decode", 0), ("decode", 1024)])
        self.assertEqual((bench["threads"], bench["synthetic"]), (1, True))
        for run in bench["runs"]:
            self.assertGreater(run["tokens_per_s"]["median"], 0)
            self.assertGreater(run["predicted_high"], run["predicted_low"])
        reads = sum(op["bytes"] for op in bench["ops"] if (op["phase"], op["depth"]) == ("decode", 1024))
        self.assertAlmostEqual(reads / 2 / bench["runs"][3]["bytes_per_token"], 1, 5)
        text = self.run_it(*short, "--ops")
        self.assertLessEqual(self.widest(text), 80)
        for word in ("synthetic", "predicted", "bound", "ffn_up"):
            self.assertIn(word, text)

    def test_bench_ends_with_what_it_has(self):
        """Interrupted in the middle: the rows so far, exit code 1."""
        process = subprocess.Popen([PROGRAM, "bench", "SmolLM2-135M@Q4_K_M", "--synthetic", "--decode", "2", "--threads", "1",
                                    "--prefill", "2", "--depth", ",".join(["0"] * 16), "--json"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env={**os.environ, "XDG_DATA_HOME": str(self.home / "data")})
        try:
            process.communicate(timeout=6)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, err)
        if out:
            self.assertTrue(json.loads(out)["cancelled"])
        else:
            self.assertEqual(err.count(b"\n"), 1, err)


if __name__ == "__main__":
    unittest.main(argv=["program.py"], verbosity=2)
