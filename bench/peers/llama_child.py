#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""llama.cpp's side of the comparison (compare.py), through its C interface: a model that stays loaded and runs what standard
input asks for, as child.c does for membound.

usage: llama_child.py LIBRARY MODEL THREADS CONTEXT mmap|read
    flash 0|1 ; depth D ; decode N ; prefill N ; quit        answers as in child.c, without bytes
       llama_child.py LIBRARY MODEL THREADS first TEXT       load, evaluate the text, choose a token: ok SECONDS
Flash attention off and on are two contexts of one model. Weights are repacked where llama.cpp knows how (its default), the
cache is F16, sliding layers keep their window only, as llama.cpp's own programs do."""
import time

BEGAN = time.perf_counter()

import ctypes  # noqa: E402  the clock starts before anything is loaded
import pathlib  # noqa: E402
import sys  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "engine"))
from llama import Batch, ContextParams, Llama, ModelParams, flag, i32, pointer  # noqa: E402

LOAD_MODES = {"read": 0, "mmap": 1}
CHUNK = 512
size_t = ctypes.c_size_t


def to_stderr(level, text, _):
    if level == 4:
        sys.stderr.write(f"llama.cpp: {text.decode(errors='replace')}")


def load_library(path):
    Llama.library = lib = ctypes.CDLL(path)
    Llama.declare()
    lib.quiet = type(Llama.quiet)(to_stderr)
    lib.llama_log_set(lib.quiet, None)
    for name, result, *arguments in (
            ("llama_synchronize", None, pointer), ("llama_model_n_swa", i32, pointer),
            ("llama_memory_seq_rm", flag, pointer, i32, i32, i32), ("llama_memory_seq_cp", None, pointer, i32, i32, i32, i32),
            ("llama_memory_seq_add", None, pointer, i32, i32, i32, i32), ("llama_memory_seq_pos_max", i32, pointer, i32),
            ("llama_memory_seq_pos_min", i32, pointer, i32), ("llama_memory_can_shift", flag, pointer),
            ("llama_state_seq_get_size", size_t, pointer, i32),
            ("llama_state_seq_get_data", size_t, pointer, ctypes.c_char_p, size_t, i32),
            ("llama_state_seq_set_data", size_t, pointer, ctypes.c_char_p, size_t, i32),
            ("llama_print_system_info", ctypes.c_char_p), ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), pointer, i32)):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Context:
    """One sequence of a model."""

    def __init__(self, lib, model, n_threads, n_ctx, flash):
        self.lib, self.depth, self.n_ctx, self.random = lib, 0, n_ctx, 20261123
        params = lib.llama_context_default_params()
        if (params.n_batch, params.n_ubatch, params.n_seq_max, params.type_k, params.type_v) != (2048, 512, 1, 1, 1):
            raise RuntimeError("another version of llama.cpp: its structures differ from those declared here")
        # A second sequence is what filling copies through; with sliding windows it would lengthen what attention reads.
        self.can_copy = lib.llama_model_n_swa(model) == 0
        params.n_ctx, params.n_threads, params.n_threads_batch = n_ctx, n_threads, n_threads
        params.flash_attn_type, params.swa_full, params.no_perf = flash, False, True
        if self.can_copy:
            params.n_seq_max, params.kv_unified = 2, True
        self.context = lib.llama_init_from_model(model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp opens no context with flash attention {flash}")
        self.memory = lib.llama_get_memory(self.context)
        self.n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def eval(self, tokens):
        n = len(tokens)
        if self.lib.llama_decode(self.context, Batch(n, (i32 * n)(*tokens), None, None, None, None, None)):
            raise RuntimeError("llama.cpp fails to decode")
        self.lib.llama_synchronize(self.context)

    def tokens(self, n):
        out = []
        for _ in range(n):
            self.random = (self.random * 6364136223846793005 + 1442695040888963407) % 2**64
            out.append((self.random >> 33) % self.n_vocab)
        return out

    def copies(self, n):
        """Fill by copying the cells of the first tokens behind each other, shifted to their positions; public calls only."""
        lib, memory = self.lib, self.memory
        self.eval(self.tokens(CHUNK))
        size = lib.llama_state_seq_get_size(self.context, 0)
        state = ctypes.create_string_buffer(size)
        if not lib.llama_state_seq_get_data(self.context, state, size, 0):
            return False
        for begin in range(CHUNK, n, CHUNK):
            if not lib.llama_state_seq_set_data(self.context, state, size, 1):
                return False
            lib.llama_memory_seq_add(memory, 1, 0, -1, begin)
            lib.llama_memory_seq_cp(memory, 1, 0, -1, -1)
            lib.llama_memory_seq_rm(memory, 1, -1, -1)
        lib.llama_memory_seq_rm(memory, 0, n, -1)
        return lib.llama_memory_seq_pos_min(memory, 0) == 0 and lib.llama_memory_seq_pos_max(memory, 0) == n - 1

    def fill(self, n):
        if n > self.n_ctx:
            raise RuntimeError(f"a depth of {n} does not fit the context of {self.n_ctx}")
        self.lib.llama_memory_clear(self.memory, False)
        self.depth = n
        if n > CHUNK and self.can_copy and self.lib.llama_memory_can_shift(self.memory) and self.copies(n):
            return
        self.lib.llama_memory_clear(self.memory, False)
        for begin in range(0, n, CHUNK):
            self.eval(self.tokens(min(CHUNK, n - begin)))

    def run(self, n, decode):
        if decode:
            self.lib.llama_memory_seq_rm(self.memory, 0, self.depth, -1)
        else:
            self.lib.llama_memory_clear(self.memory, False)
            self.depth = 0
        tokens = self.tokens(n)
        began, cpu_began = time.perf_counter(), time.process_time()
        if decode:
            for token in tokens:
                self.eval([token])
        else:
            for begin in range(0, n, CHUNK):
                self.eval(tokens[begin:begin + CHUNK])
        return f"ok {time.perf_counter() - began:.9f} {time.process_time() - cpu_began:.9f}"


def load_model(lib, path, load):
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    if load:
        params.load_mode = LOAD_MODES[load]
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise RuntimeError(f"llama.cpp refuses {path}")
    return model


class Peer:
    """A model and its contexts, one for each state of flash attention, made when they are first asked for."""

    def __init__(self, lib, model, n_threads, n_ctx):
        self.make = lambda flash: Context(lib, model, n_threads, n_ctx, flash)
        self.contexts, self.flash = {}, 0

    def obey(self, verb, n):
        if verb == "flash":
            self.flash = n
        if self.flash not in self.contexts:
            self.contexts[self.flash] = self.make(self.flash)
        context = self.contexts[self.flash]
        if verb == "depth":
            context.fill(n)
        elif verb in ("decode", "prefill"):
            return context.run(n, verb == "decode")
        elif verb != "flash":
            raise RuntimeError(f"{verb}: not one of flash, depth, decode, prefill, quit")
        return "ok"


def serve(lib, path, n_threads, n_ctx, load):
    peer = Peer(lib, load_model(lib, path, load), n_threads, n_ctx)
    print("ok " + lib.llama_print_system_info().decode().strip(), flush=True)
    for line in sys.stdin:
        words = line.split()
        if not words or words[0] == "quit":
            break
        print(peer.obey(words[0], int(words[1])), flush=True)


def first_token(lib, path, n_threads, text):
    model = load_model(lib, path, None)
    context = Context(lib, model, n_threads, 4096, -1)
    data, out = text.encode(), (i32 * (len(text.encode()) + 16))()
    n = lib.llama_tokenize(lib.llama_model_get_vocab(model), data, len(data), out, len(out), True, True)
    context.eval(out[:n])
    if not lib.llama_get_logits_ith(context.context, -1):
        raise RuntimeError("llama.cpp computes no logits")
    print(f"ok {time.perf_counter() - BEGAN:.6f}", flush=True)


def main():
    if len(sys.argv) != 6:
        print(__doc__)
        return 2
    library, path, n_threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        lib = load_library(library)
        if sys.argv[4] == "first":
            first_token(lib, path, n_threads, sys.argv[5])
        else:
            serve(lib, path, n_threads, int(sys.argv[4]), sys.argv[5])
    except (RuntimeError, OSError, AttributeError) as why:
        print(f"error {why}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
