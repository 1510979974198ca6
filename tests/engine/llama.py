# SPDX-License-Identifier: MIT
"""llama.cpp as the package xllamacpp carries it, called through its C interface. Only what the comparisons need."""
import ctypes
import pathlib

PACKAGES = ["xllamacpp==2026.10.11549", "gguf==0.19.0", "numpy"]
i32, u32, f32, flag, pointer = ctypes.c_int32, ctypes.c_uint32, ctypes.c_float, ctypes.c_bool, ctypes.c_void_p


def structure(name, fields):
    return type(name, (ctypes.Structure,), {"_fields_": fields})


ModelParams = structure("ModelParams", [
    ("devices", pointer), ("overrides", pointer), ("n_gpu_layers", i32), ("split_mode", i32), ("load_mode", i32),
    ("lazy_mode", i32), ("main_gpu", i32), ("tensor_split", pointer), ("progress", pointer), ("user", pointer),
    ("kv_overrides", pointer), ("vocab_only", flag), ("check_tensors", flag), ("use_extra_bufts", flag),
    ("no_host", flag), ("no_alloc", flag), ("load_mtp", flag), ("spare", ctypes.c_uint8 * 64)])
ContextParams = structure("ContextParams", [
    ("n_ctx", u32), ("n_batch", u32), ("n_ubatch", u32), ("n_seq_max", u32), ("n_rs_seq", u32), ("n_outputs_max", u32),
    ("n_outputs_max_per_seq", u32), ("n_threads", i32), ("n_threads_batch", i32), ("ctx_type", i32),
    ("rope_scaling_type", i32), ("pooling_type", i32), ("attention_type", i32), ("flash_attn_type", i32),
    ("rope_freq_base", f32), ("rope_freq_scale", f32), ("yarn_ext_factor", f32), ("yarn_attn_factor", f32),
    ("yarn_beta_fast", f32), ("yarn_beta_slow", f32), ("yarn_orig_ctx", u32), ("defrag_thold", f32),
    ("cb_eval", pointer), ("cb_eval_user_data", pointer), ("type_k", i32), ("type_v", i32), ("abort_callback", pointer),
    ("abort_callback_data", pointer), ("embeddings", flag), ("offload_kqv", flag), ("no_perf", flag),
    ("op_offload", flag), ("swa_full", flag), ("kv_unified", flag), ("spare", ctypes.c_uint8 * 128)])
Batch = structure("Batch", [
    ("n_tokens", i32), ("token", ctypes.POINTER(i32)), ("embd", pointer), ("pos", pointer), ("n_seq_id", pointer),
    ("seq_id", pointer), ("logits", ctypes.POINTER(ctypes.c_int8))])

TYPES = {"F32": 0, "F16": 1, "Q8_0": 8}


class Llama:
    """A model with one sequence."""

    library = None

    def __init__(self, path, n_ctx, n_batch=512, kv="F32", flash=False):
        import importlib.util
        if not Llama.library:
            where = pathlib.Path(importlib.util.find_spec("xllamacpp").origin).parent
            Llama.library = ctypes.CDLL(str(next(where.glob("xllamacpp*.so"))))
            self.declare()
        lib = Llama.library
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp refuses {path}")
        params = lib.llama_context_default_params()
        if (params.n_batch, params.n_ubatch, params.n_seq_max, params.type_k, params.type_v) != (2048, 512, 1, 1, 1):
            raise RuntimeError("another version of llama.cpp: its structures differ from those declared here")
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, min(n_batch, 512)
        params.n_threads = params.n_threads_batch = 2
        params.type_k = params.type_v = TYPES[kv]
        params.flash_attn_type = int(flash)
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp opens no context for {path}")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)

    @staticmethod
    def declare():
        lib = Llama.library
        lib.llama_model_default_params.restype = ModelParams
        lib.llama_context_default_params.restype = ContextParams
        lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParams]
        lib.llama_init_from_model.argtypes = [pointer, ContextParams]
        lib.llama_decode.argtypes = [pointer, Batch]
        lib.llama_get_logits_ith.argtypes = [pointer, i32]
        lib.llama_get_logits_ith.restype = ctypes.POINTER(f32)
        lib.llama_tokenize.argtypes = [pointer, ctypes.c_char_p, i32, ctypes.POINTER(i32), i32, flag, flag]
        lib.llama_memory_clear.argtypes = [pointer, flag]
        for name in ("llama_model_load_from_file", "llama_init_from_model", "llama_model_get_vocab", "llama_get_memory"):
            getattr(lib, name).restype = pointer
        for name in ("llama_model_get_vocab", "llama_vocab_n_tokens", "llama_free", "llama_model_free", "llama_get_memory"):
            getattr(lib, name).argtypes = [pointer]
        lib.llama_free.restype = lib.llama_model_free.restype = None
        Llama.quiet = ctypes.CFUNCTYPE(None, i32, ctypes.c_char_p, pointer)(Llama.log)
        lib.llama_log_set(Llama.quiet, None)
        lib.llama_backend_init()

    @staticmethod
    def log(level, text, _):
        if level == 4:
            print("llama.cpp:", text.decode(errors="replace"), end="")

    def eval(self, tokens):
        """Append tokens; the logits after each, [tokens][n_vocab]."""
        import numpy
        lib = Llama.library
        n = len(tokens)
        batch = Batch(n, (i32 * n)(*tokens), None, None, None, None, (ctypes.c_int8 * n)(*([1] * n)))
        if lib.llama_decode(self.context, batch):
            raise RuntimeError("llama.cpp fails to decode")
        rows = [numpy.ctypeslib.as_array(lib.llama_get_logits_ith(self.context, i), (self.n_vocab,)).copy() for i in range(n)]
        return numpy.stack(rows)

    def clear(self):
        Llama.library.llama_memory_clear(Llama.library.llama_get_memory(self.context), True)

    def tokenize(self, text, special=True):
        data = text.encode()
        out = (i32 * (len(data) + 16))()
        n = Llama.library.llama_tokenize(self.vocab, data, len(data), out, len(out), True, special)
        return list(out[:n])

    def close(self):
        Llama.library.llama_free(self.context)
        Llama.library.llama_model_free(self.model)
