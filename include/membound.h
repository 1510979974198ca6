/* SPDX-License-Identifier: MIT */
/* membound: LLM inference is memory-bound. For every token the machine reads the model's active
 * weights once, so tokens/s = memory bandwidth / bytes read per token.
 *
 * This is the whole public API. It compiles alone as C11 and as C++17. The library never prints,
 * never exits and keeps no global state.
 *
 * Conventions
 *   errors     functions return int: MB_OK (0) or a negative code of MB_ERRORS. Where a function
 *              takes `struct mb_err *err` it may be NULL; on failure it holds one line that names
 *              the thing at fault and the mend.
 *   ownership  callers own what they pass in; what the library opens, the matching _free() or
 *              _close() frees. _free(NULL) is allowed. Strings inside a struct live as long as
 *              the struct's owner.
 *   units      stand in the names: _bytes, _bytes_per_s, _s. Sizes are printed in GiB (2^30), rates in
 *              GB/s (1e9).
 *   threads    an object may be used by one thread at a time, different objects by different threads. */
#ifndef MEMBOUND_H
#define MEMBOUND_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MB_VERSION "0.1.0"

/* ---- errors ------------------------------------------------------------------------------- */

/* The one list of codes: X(name, value, exit code of the program, text). Exit codes: 0 done, 1 the answer
 * is no, 2 usage, 3 bad input file, 4 missing hardware or resource, 5 internal. */
#define MB_ERRORS(X)                                                                               \
    X(MB_OK, 0, 0, "done")                                                                         \
    X(MB_EINVAL, -1, 2, "invalid argument")                                                        \
    X(MB_ENAME, -2, 2, "unknown name")                                                             \
    X(MB_ERANGE, -3, 2, "value out of range")                                                      \
    X(MB_ENOENT, -4, 3, "no such file")                                                            \
    X(MB_EIO, -5, 3, "cannot be read")                                                             \
    X(MB_EFORMAT, -6, 3, "invalid content")                                                        \
    X(MB_EWRITE, -7, 4, "cannot be written")                                                       \
    X(MB_ENOMEM, -8, 4, "out of memory")                                                           \
    X(MB_ENOHW, -9, 4, "missing hardware")                                                         \
    X(MB_ENOTSUP, -10, 4, "not supported here")                                                    \
    X(MB_ENODATA, -11, 1, "unknown figure")                                                        \
    X(MB_EREJECT, -12, 4, "measurement rejected")                                                  \
    X(MB_ENET, -13, 4, "network failure")                                                          \
    X(MB_ECANCEL, -14, 1, "cancelled")                                                             \
    X(MB_EINTERNAL, -15, 5, "internal error")                                                      \
    X(MB_EMORE, -16, 3, "more bytes are needed")

enum mb_code {
#define MB_CODE_ENUM(name, value, exit_code, text) name = (value),
    MB_ERRORS(MB_CODE_ENUM)
#undef MB_CODE_ENUM
};

/* Detail of a failure: "THING: what is wrong; the mend". Always terminated, never longer than the field;
 * control characters are replaced, so that it is one line whatever the input held. */
struct mb_err {
    int code;
    char text[400];
};

/* Name of a code ("MB_EFORMAT"), its general text, and the program's exit code for it. Unknown codes
 * answer like MB_EINTERNAL. */
const char *mb_code_name(int code);
const char *mb_code_text(int code);
int mb_code_exit(int code);

/* ---- units and tables for people ------------------------------------------------------------ */

#define MB_GIB 1073741824.0
#define MB_MIB 1048576.0

/* Write a size ("24.0 GiB", "512 MiB", "96 B"), a rate ("1008 GB/s", "59.3 GB/s"), a count of seconds
 * ("3 minutes", "2 days") into buf of n bytes; returns buf. NaN and negative values give "unknown". */
char *mb_format_bytes(double bytes, char *buf, size_t n);
char *mb_format_rate(double bytes_per_s, char *buf, size_t n);
char *mb_format_age(double seconds, char *buf, size_t n);

/* Read a size: "24", "24GiB", "24 GB" (both 2^30: memory is sold in binary units), "512M", "96B"; a bare number is in
 * GiB. Returns MB_OK; MB_EINVAL: not a size, negative, or over 2^60 bytes. */
int mb_parse_bytes(const char *text, uint64_t *out_bytes);

/* A table of text: columns are aligned, cells are copied, and the last column wraps at the given width.
 * Cells may hold UTF-8; widths count code points. */
struct mb_table;
enum mb_align { MB_LEFT, MB_RIGHT };
enum mb_style { MB_PLAIN, MB_BOLD, MB_DIM, MB_GOOD, MB_WARN, MB_BAD };

/* A new table of n_columns (1..16); NULL when out of memory. */
struct mb_table *mb_table_new(unsigned n_columns);
void mb_table_free(struct mb_table *table);
/* Alignment of a column (default left), and its heading (default none). */
void mb_table_column(struct mb_table *table, unsigned column, const char *heading, enum mb_align align);
/* Append a row of empty cells; then set its cells. Out of memory is remembered and told by print. */
void mb_table_row(struct mb_table *table);
void mb_table_cell(struct mb_table *table, unsigned column, enum mb_style style, const char *text);
/* Print with the given indent, wrapped at width (0: no wrapping), with ANSI colours if colour is set.
 * Returns MB_OK; MB_ENOMEM: a cell could not be stored; MB_EWRITE: the stream failed. */
int mb_table_print(const struct mb_table *table, FILE *out, unsigned indent, unsigned width, int colour);

/* ---- the machine ---------------------------------------------------------------------------- */

/* Where a figure comes from. */
enum mb_provenance {
    MB_UNKNOWN,  /* the value means nothing */
    MB_MEASURED, /* by this program on this machine; detail says when and how */
    MB_REPORTED, /* by the OS, firmware or driver; detail names the file or call */
    MB_SPEC,     /* from a document; detail names it */
    MB_DERIVED   /* by a formula from other figures; detail states it */
};

/* "unknown", "measured", "reported", "spec", "derived". */
const char *mb_provenance_name(enum mb_provenance provenance);

/* A figure about hardware. value is in the unit that the field's name states and means nothing when
 * provenance is MB_UNKNOWN. detail may be NULL. */
struct mb_figure {
    double value;
    enum mb_provenance provenance;
    const char *detail;
};

enum mb_pool_kind {
    MB_POOL_SYSTEM, /* RAM of the CPU */
    MB_POOL_VRAM,   /* RAM of a discrete GPU */
    MB_POOL_UNIFIED /* one RAM read by CPU and GPU, counted once */
};

/* A place where bytes live. */
struct mb_pool {
    const char *id;   /* "ram", "vram0", "unified": unique in its machine, [a-z0-9-]+ */
    const char *name; /* for people: "DDR5-6000, 2 channels", "NVIDIA GeForce RTX 4090"; may be NULL */
    enum mb_pool_kind kind;
    struct mb_figure capacity_bytes;  /* what programs can have at most (a cgroup limit counts) */
    struct mb_figure installed_bytes; /* what is soldered or plugged in: the size it is sold by */
    struct mb_figure free_bytes;      /* right now; unknown for catalog machines */
    struct mb_figure usable_bytes;    /* the part that a GPU may use (unified, vram); unknown for system */
    const char *raise;                /* how to raise usable_bytes, or NULL */
    struct mb_figure bandwidth_bytes_per_s;      /* the best sustained read figure known: measured over spec */
    struct mb_figure bandwidth_spec_bytes_per_s; /* spec or derived peak, whatever was measured */
};

enum mb_processor_kind { MB_PROCESSOR_CPU, MB_PROCESSOR_GPU };

/* How fast a processor reads a pool (an index into the machine's pools). */
struct mb_read {
    unsigned pool;
    struct mb_figure bytes_per_s;
};

/* Peak arithmetic for one number format: "f32", "f16", "bf16", "i8", "fp8", "fp4"; dense. */
struct mb_peak {
    const char *type;
    struct mb_figure flops_per_s;
};

/* A CPU or GPU that reads pools. A field without meaning for the kind is 0 or NULL. */
struct mb_processor {
    const char *id;   /* "cpu", "gpu0" */
    const char *name; /* "AMD EPYC 9355", "NVIDIA GeForce RTX 4090" */
    enum mb_processor_kind kind;
    int integrated;          /* GPU: shares the CPU's RAM */
    unsigned n_cores;        /* CPU: physical cores; GPU: cores as its maker counts them, 0 unknown */
    unsigned n_threads;      /* CPU: hardware threads that this process may use */
    unsigned n_numa_nodes;   /* CPU */
    const char *simd;        /* CPU: "scalar", "avx2", "avx512", "avx512-vnni", "neon", "neon-dotprod" */
    uint64_t cache_bytes[3]; /* CPU: L1d of one core, L2 of one core, all of the last level; 0 unknown */
    const char *pci;         /* GPU: "0000:01:00.0" or NULL */
    const char *driver;      /* GPU: what answered: "nvml 570.86", "vulkan radv", "amdgpu sysfs" */
    struct mb_figure power_limit_w;
    struct mb_read *reads;
    unsigned n_reads;
    struct mb_peak *peaks;
    unsigned n_peaks;
};

/* A transfer path between two pools, one direction. */
struct mb_link {
    unsigned from, to; /* pools */
    const char *name;  /* "PCIe 4.0 x16" or NULL */
    struct mb_figure bytes_per_s;
    struct mb_figure latency_s;
};

enum mb_machine_class {
    MB_CLASS_CPU,      /* no GPU that a program could use */
    MB_CLASS_GPU,      /* GPU daily driver: discrete VRAM; 24 GB and up, less is said plainly */
    MB_CLASS_UNIFIED,  /* unified daily driver: CPU and GPU read one pool; 36 GB minimum */
    MB_CLASS_DEDICATED /* dedicated inference machine: 96 GB of fast memory and up, 128 ideal */
};

/* "cpu", "gpu", "unified", "dedicated"; and for people: "GPU daily driver". */
const char *mb_class_name(enum mb_machine_class machine_class);
const char *mb_class_title(enum mb_machine_class machine_class);

/* A price somebody paid or asked; amount in units of currency (ISO 4217). */
struct mb_price {
    double amount;
    const char *currency;  /* "USD" */
    const char *date;      /* "2025-10" */
    const char *condition; /* "new" or "second-hand" */
    const char *source;
};

/* Levels of bandwidth that were seen while measuring: on a virtual machine the host moves virtual CPUs, and
 * bandwidth jumps between levels within seconds. */
struct mb_level {
    double bytes_per_s; /* median of the samples at this level */
    double share;       /* of all samples, 0..1 */
};

enum mb_measured_kind {
    MB_MEASURED_READ,  /* processor reads pool */
    MB_MEASURED_COPY,  /* link: pool -> pool_to */
    MB_MEASURED_SHARED /* processor reads pool while another processor does, too; bytes_per_s is the sum */
};

/* One series of a measurement. The rates are bytes per second that were really read. */
struct mb_measured {
    enum mb_measured_kind kind;
    unsigned processor, pool, pool_to;
    unsigned n_threads; /* CPU threads; 0 for a GPU */
    unsigned n_samples;
    double bytes_per_s; /* the level that holds: what a plan should count on */
    double median_bytes_per_s, min_bytes_per_s, max_bytes_per_s;
    double spread; /* (p90 - p10) / median of the samples */
    struct mb_level levels[4];
    unsigned n_levels;
    uint64_t buffer_bytes;
    double latency_s;    /* copy: one small transfer, there and waited for; 0 not measured */
    const char *method;  /* "avx2 loads, 2 MiB pages, 2 threads" */
    const char *rejected; /* why the figure is not used, or NULL */
};

struct mb_measurement {
    const char *date;    /* UTC, "2026-11-23T01:19:43Z" */
    const char *version; /* of membound */
    double age_s;        /* when it was loaded; 0 for a fresh one */
    double took_s;
    int quick;
    struct mb_measured *series;
    unsigned n_series;
};

enum mb_origin { MB_ORIGIN_DETECTED, MB_ORIGIN_CATALOG, MB_ORIGIN_FILE };

/* Pools + processors + links. Read it freely; only the library writes it. Everything in it lives until
 * mb_machine_free(). */
struct mb_machine {
    const char *name;
    enum mb_origin origin;
    enum mb_machine_class machine_class;
    const char *class_reason; /* one sentence: why this class */
    const char *class_change; /* one sentence: what would change it; NULL if nothing would */
    const char *os;           /* "Linux 6.1, x86_64"; catalog: "macOS", "Linux, Windows"; may be NULL */
    const char *virtual_by;   /* "KVM" when the CPU says that it is virtual, else NULL */
    const char *fingerprint;  /* same hardware, same text (detected machines; else NULL) */
    struct mb_pool *pools;
    unsigned n_pools;
    struct mb_processor *processors;
    unsigned n_processors;
    struct mb_link *links;
    unsigned n_links;
    const char **notes; /* what could not be learnt and how to learn it, one sentence each */
    unsigned n_notes;
    const struct mb_measurement *measurement; /* NULL: none */
    const struct mb_price *price;             /* catalog: NULL unknown */
    struct mb_figure power_idle_w, power_load_w;
    void *owner; /* private to the library */
};

/* Detection. Zero-initialise for defaults. */
struct mb_detect_opts {
    const char *root;       /* NULL or "/": this machine. Else a recorded machine (tests/trees/README.md) */
    int allow_software_gpu; /* keep llvmpipe and other software devices: for tests only */
    int no_gpu;             /* do not open GPU libraries */
};

/* Detect the pools, processors and links of a machine.
 *   out  out  [1] written only on MB_OK; free with mb_machine_free()
 * What can't be read stays unknown and is named in notes; a strange file never fails the detection.
 * Returns MB_OK; MB_ENOENT: root is no readable directory; MB_ENOMEM. */
int mb_machine_detect(const struct mb_detect_opts *opts, struct mb_machine **out, struct mb_err *err);

/* The catalog machine of that name or alias (case and punctuation do not matter).
 * Returns MB_OK; MB_ENAME: none or several fit, err offers the nearest names; MB_ENOMEM. */
int mb_machine_catalog(const char *name, struct mb_machine **out, struct mb_err *err);

/* Read a hand-written machine (docs/json.md, "machine"): the JSON that mb_machine_json() writes; only pools with
 * kind and capacity_bytes are required.
 * Returns MB_OK; MB_ENOENT, MB_EIO, MB_EFORMAT (err names line or key), MB_ENOMEM. */
int mb_machine_read(const char *path, struct mb_machine **out, struct mb_err *err);

void mb_machine_free(struct mb_machine *machine);

/* The machine as JSON text (docs/json.md); free with mb_text_free(). Returns MB_OK; MB_ENOMEM. */
int mb_machine_json(const struct mb_machine *machine, char **out, struct mb_err *err);
void mb_text_free(char *text);

/* Write the JSON to a file: whole or not at all (temporary file, then rename).
 * Returns MB_OK; MB_EWRITE; MB_ENOMEM. */
int mb_machine_save(const struct mb_machine *machine, const char *path, struct mb_err *err);

/* One line of the catalog list, best first: fast memory size, then its bandwidth, then compute. */
struct mb_catalog_row {
    const char *name;
    enum mb_machine_class machine_class;
    double fast_bytes;         /* unified, or the VRAM of all cards; system RAM for CPU-only machines */
    double bandwidth_bytes_per_s; /* of the fastest such pool; 0 unknown */
    double peak_flops_per_s;      /* f16 dense of one GPU; 0 unknown */
    unsigned desirability;        /* 1 = best */
    struct mb_price price;        /* currency NULL: unknown */
};

/* All catalog machines in order of desirability. rows are valid until mb_catalog_rows_free().
 * Returns MB_OK; MB_EFORMAT: the built-in data is broken; MB_ENOMEM. */
int mb_catalog_rows(struct mb_catalog_row **out, size_t *out_n, struct mb_err *err);
void mb_catalog_rows_free(struct mb_catalog_row *rows);

/* The same list as JSON text: {"machines": [{name, class, fast_bytes, bandwidth_bytes_per_s, peak_flops_per_s,
 * desirability, price}]}; free with mb_text_free(). Returns MB_OK; MB_EFORMAT; MB_ENOMEM. */
int mb_catalog_json(char **out, struct mb_err *err);

/* Called by long functions: what is done now, and the share of the work done (0..1). */
typedef void mb_progress_fn(void *user, const char *what, double share);

/* Measurement. Zero-initialise for defaults. */
struct mb_measure_opts {
    int quick;              /* under 5 s instead of under 30 s */
    unsigned n_threads_max; /* 0: every hardware thread */
    uint64_t buffer_bytes;  /* 0: four times the last cache and over 1 GiB where memory allows */
    int no_gpu;
    int allow_software_gpu;
    mb_progress_fn *progress; /* may be NULL; called by the calling thread */
    void *user;
    const volatile int *cancel; /* may be NULL; set to non-zero to stop */
};

/* Measure the sustained read bandwidth of each pool of this machine by each processor that reads it, both
 * directions of each link, and CPU and GPU at once on unified pools. Takes a machine of mb_machine_detect(); its
 * figures become measured ones. docs/measurement.md states the method.
 * Returns MB_OK; MB_EINVAL: not a detected live machine; MB_ENOMEM: not even 64 MiB are free;
 * MB_EREJECT: no series was accepted, err says why; MB_ECANCEL. */
int mb_machine_measure(struct mb_machine *machine, const struct mb_measure_opts *opts, struct mb_err *err);

/* Keep a measurement in, or take the newest one of this fingerprint from, the SQLite file `path` (its directory is
 * made). The history is a convenience: callers go on without it when these fail.
 * load: MB_OK; MB_ENODATA: none for this machine; MB_EIO: unreadable or corrupt. save: MB_OK; MB_EWRITE; MB_EINVAL:
 * nothing measured. */
int mb_history_load(const char *path, struct mb_machine *machine, struct mb_err *err);
int mb_history_save(const char *path, const struct mb_machine *machine, struct mb_err *err);

/* ---- the model ------------------------------------------------------------------------------ */

/* Hyperparameters and tensors of a language model, from a GGUF file or from the catalog. docs/models.md states where
 * the catalog's shapes and type rules come from, docs/traffic.md what counts as read. */
struct mb_model;

/* What a tensor is for: the rows of mb_traffic.by_role. X(name, JSON key) */
#define MB_ROLES(X)                                                                                \
    X(ATTENTION, "attention")                                                                      \
    X(RECURRENT, "recurrent")             /* linear attention, state space, short convolution */   \
    X(DENSE_FFN, "dense_ffn")                                                                      \
    X(ROUTED_EXPERTS, "routed_experts")                                                            \
    X(SHARED_EXPERTS, "shared_experts")                                                            \
    X(NORMS_ROUTERS, "norms_routers")     /* kept in F32 and read in full */                       \
    X(OUTPUT, "output")                   /* the head; with tied embeddings that table */          \
    X(EMBEDDING, "embedding_rows")                                                                 \
    X(PER_LAYER_EMBEDDING, "per_layer_embedding")                                                  \
    X(MIXING, "mixing")                   /* hyper-connections between residual streams */         \
    X(NEXTN, "nextn")                     /* next-token-prediction blocks: not read */             \
    X(MEDIA, "media")                     /* vision and audio: not read */                         \
    X(OTHER, "other")

enum mb_role {
#define MB_ROLE_ENUM(name, key) MB_ROLE_##name,
    MB_ROLES(MB_ROLE_ENUM)
#undef MB_ROLE_ENUM
        MB_N_ROLES
};

/* "attention", ...: the JSON key of a role. */
const char *mb_role_name(enum mb_role role);

/* A place where another program keeps the models that it downloaded. */
enum mb_store {
    MB_STORE_OLLAMA,   /* the directory that holds manifests/ and blobs/: ~/.ollama/models */
    MB_STORE_HF,       /* the hub's cache: ~/.cache/huggingface/hub */
    MB_STORE_LMSTUDIO, /* owner/repo/file.gguf: ~/.lmstudio/models, ~/.cache/lm-studio/models */
    MB_STORE_LLAMACPP  /* files side by side: ~/.cache/llama.cpp */
};

/* "Ollama", "Hugging Face", "LM Studio", "llama.cpp". */
const char *mb_store_name(enum mb_store store);

struct mb_store_dir {
    enum mb_store store;
    const char *path;
};

/* Where to look for models that are no files named in full. Zero-initialise for nowhere; everything is borrowed. */
struct mb_model_search {
    const struct mb_store_dir *stores; /* those that do not exist hold no models */
    size_t n_stores;
    const char *hub;          /* base URL of the model hub; NULL: the public one */
    const char *hub_token;    /* for gated models, sent to the hub only; NULL: none */
    const char *header_cache; /* directory for headers read from the hub; NULL: not kept */
    const volatile int *cancel;
};

/* Open the model that spec names:
 *   - a GGUF file, any part of a split one; only its header is read
 *   - a directory with config.json and *.safetensors
 *   - hf:owner/repo/path/file.gguf, of which only the header is fetched
 *   - the short name of a model in one of search's stores, as mb_models_found() lists it
 *   - NAME@QUANT of the catalog ("Qwen3-8B@Q4_K_M"; without @QUANT the usual one: Q4_K_M, MXFP4 for gpt-oss)
 *   search  in   may be NULL: no stores, the public hub without a token
 *   out     out  [1] written only on MB_OK; free with mb_model_free()
 * Returns MB_OK; MB_ENOENT: no such file; MB_ENAME: no such name, err offers the nearest; MB_EINVAL: several files have
 * this name, or no name was given; MB_EIO; MB_ENET; MB_ECANCEL; MB_EFORMAT: a damaged or impossible file, or something
 * else than a model, err names what it is, or the key or tensor at fault; MB_ENOMEM. */
int mb_model_open(const char *spec, const struct mb_model_search *search, struct mb_model **out, struct mb_err *err);

/* A model that is already on this machine. */
struct mb_found {
    const char *name; /* as people say it: "gemma3:4b", "Qwen3-8B-Q4_K_M" */
    const char *path; /* of the file, or of part 1 of a split model */
    uint64_t bytes;   /* of all parts that are there */
    unsigned n_parts;
    enum mb_store store;
};

struct mb_found_list {
    struct mb_found *rows; /* sorted by name, then path; a file that two names link to is there once per store */
    unsigned n_rows;
    void *owner; /* private to the library */
};

/* The GGUF models of search's stores, mmproj files left out. No file is opened but Ollama's manifests; what can't be
 * read holds no models. Returns MB_OK; MB_ENOMEM. */
int mb_models_found(const struct mb_model_search *search, struct mb_found_list **out, struct mb_err *err);
void mb_found_free(struct mb_found_list *list);

/* The same as JSON text: {"models": [{name, path, bytes, parts, store}]}; free with mb_text_free(). */
int mb_found_json(const struct mb_found_list *list, char **out, struct mb_err *err);

/* The same for catalog names only. */
int mb_model_catalog(const char *spec, struct mb_model **out, struct mb_err *err);

void mb_model_free(struct mb_model *model);

/* What a model is. Strings live as long as the model; those that are not known are NULL. */
struct mb_model_info {
    const char *name;
    const char *arch;  /* "llama", "qwen3moe": as GGUF files name it */
    const char *quant; /* "Q4_K_M"; of a file: what its label says, which need not be what its tensors are */
    const char *path;  /* NULL: from the catalog */
    const char *hf, *license, *released;
    int described;     /* is the architecture known here? If not, see the warnings */
    uint32_t n_layers; /* without next-token-prediction blocks */
    uint32_t n_nextn, n_embd, n_vocab;
    uint32_t n_head, n_head_kv; /* of the first attention layer */
    uint32_t n_expert, n_expert_used;
    uint64_t context_max; /* 0 unknown */
    uint64_t params, active_params;
    uint64_t file_bytes;     /* without a file: resident_bytes */
    uint64_t resident_bytes; /* all tensors */
    uint64_t unread_bytes;   /* of them never read in plain decoding */
    double size_uncertainty; /* relative; 0 for a file, else how far files of that label differ */
    uint32_t n_tensors;
    const char **warnings;
    unsigned n_warnings;
};

void mb_model_get_info(const struct mb_model *model, struct mb_model_info *out);

/* One tensor of a model. */
struct mb_tensor_info {
    const char *name;
    const char *type; /* "Q4_K" */
    unsigned n_dims;
    uint64_t ne[4]; /* ne[0] is the row; 1 from n_dims on */
    uint64_t bytes;
    uint64_t read_bytes; /* in decoding one token; of experts, the chosen share */
    int32_t layer;       /* -1: none */
    enum mb_role role;
};

/* Tensor i of mb_model_info.n_tensors. Returns MB_OK; MB_ERANGE: there is none. */
int mb_model_tensor(const struct mb_model *model, uint32_t i, struct mb_tensor_info *out);

/* How the cache is kept. Zero-initialise for defaults. */
struct mb_kv_opts {
    const char *type_k, *type_v; /* "F16" (NULL), "F32", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL" */
    uint32_t n_seq;              /* sequences; 0: one. They share a unified cache */
    uint32_t n_batch;            /* tokens of one prefill chunk; 0: 512. Sliding windows allocate that much more */
    int window_full;             /* sliding layers keep all cells, too */
};

/* Bytes that one forward pass moves. */
struct mb_traffic {
    uint64_t weights_bytes; /* read */
    uint64_t by_role[MB_N_ROLES];
    uint64_t kv_read_bytes, kv_write_bytes;
    uint64_t state_read_bytes, state_write_bytes; /* recurrent state */
    uint64_t active_params;                       /* weights that take part, in elements */
    double flops;
};

/* What a pass over n_tokens of one sequence moves when its cache already holds depth tokens. n_tokens = 1 is decoding;
 * more is one chunk of prefill: weights are read once, and the experts are those that n_tokens are expected to choose.
 * Returns MB_OK; MB_ERANGE: depth or n_tokens too large; MB_EINVAL: an unknown cache type; MB_ENOMEM. */
int mb_model_traffic(const struct mb_model *model, uint32_t n_tokens, uint64_t depth, const struct mb_kv_opts *opts,
                     struct mb_traffic *out, struct mb_err *err);

/* What the cache takes. */
struct mb_kv_size {
    uint64_t bytes_per_token;       /* that every further token of context adds */
    uint64_t window_bytes_per_cell; /* of all sliding layers together */
    uint32_t window;                /* cells that they need; the largest, if they differ */
    uint64_t cache_bytes;           /* to allocate for n_ctx tokens */
    uint64_t state_bytes;           /* recurrent state of all sequences */
};

/* Returns MB_OK; MB_ERANGE: n_ctx too large; MB_EINVAL: an unknown cache type. */
int mb_model_kv_size(const struct mb_model *model, uint64_t n_ctx, const struct mb_kv_opts *opts,
                     struct mb_kv_size *out, struct mb_err *err);

/* What mb_model_json() tells beside the model itself. Zero-initialise for a pass over one token with an empty cache. */
struct mb_inspect_opts {
    struct mb_kv_opts kv;
    uint64_t n_ctx;    /* tokens already in the cache */
    uint32_t n_tokens; /* of the pass; 0: one */
    int tensors;       /* list every tensor */
    double bandwidth_bytes_per_s; /* one more rate for the law; 0: none */
};

/* The model as JSON text (docs/json.md, "inspect"); free with mb_text_free(). opts may be NULL.
 * Returns MB_OK; MB_ERANGE: n_ctx or n_tokens too large; MB_EINVAL: an unknown cache type; MB_ENOMEM. */
int mb_model_json(const struct mb_model *model, const struct mb_inspect_opts *opts, char **out, struct mb_err *err);

/* Names of all catalog models, in catalog order: *out_n pointers that live as long as the program. */
const char *const *mb_model_names(size_t *out_n);

/* Names of the quantizations that the catalog can count, smallest first. */
const char *const *mb_quant_names(size_t *out_n);

/* ---- the plan ------------------------------------------------------------------------------- */

/* Where the bytes of a model go on a machine, and how fast it will be there. docs/prediction.md states the formulas and
 * their errors, docs/placement.md what is placed and why. */

/* Names of the engines whose speed can be predicted: "llama.cpp", "ollama", "mlx", ..., each with the backend that suits the
 * machine, and "ENGINE:BACKEND" where a person may choose ("llama.cpp:rocm"). *out_n pointers that live as long as
 * the program. */
const char *const *mb_engine_names(size_t *out_n);

/* Zero-initialise for defaults. */
struct mb_plan_opts {
    const char *engine;   /* NULL: "llama.cpp" */
    uint64_t n_ctx;       /* tokens of context to make room for; 0: 8192, or what the model was trained for if that is less */
    struct mb_kv_opts kv; /* n_batch is also the chunk of prefill */
    int apps_given;       /* apps_bytes counts */
    uint64_t apps_bytes;  /* RAM (unified: of the one pool) that other programs need. Not given: what they take now on a
                           * detected machine, else a default that the plan states */
    const uint64_t *limit_bytes; /* [n_limits] at most this much of pool i, 0: no limit; may be NULL */
    unsigned n_limits;
};

/* A speed with its 80 % interval. tokens_per_s 0: does not run. */
struct mb_speed {
    double tokens_per_s, low, high;
    double bound_tokens_per_s; /* the law: the memory's time for the bytes and nothing else */
};

/* One line of a prediction: seconds that one token (decode) takes. */
struct mb_term {
    const char *name;   /* "weights, vram0", "KV cache, ram", "96 layers", "crossings" */
    double seconds;
    double bytes;       /* 0: none */
    double bytes_per_s; /* that they are read with; 0: none */
    enum mb_provenance provenance; /* of the rate or the constant */
    const char *detail; /* "936 GB/s spec x 0.86, fitted on 31 rows" */
};

struct mb_plan_group {
    const char *group; /* "attention", "dense FFN", "routed experts", "KV cache", "output", ...: one row per pool
                        * that holds some */
    unsigned pool;
    unsigned n_layers; /* layers whose part is here; 0: not of a layer */
    uint64_t bytes;
    double traffic_bytes; /* read per token at depth 0; of the KV cache: at n_ctx */
};

struct mb_plan_pool {
    double capacity_bytes; /* that the plan may count on: capacity, or what a GPU may use, or a limit */
    uint64_t weights_bytes, kv_bytes, buffers_bytes, reserved_bytes; /* reserved: for other programs and the system */
    uint64_t used_bytes;   /* all four */
};

struct mb_plan_depth {
    uint64_t depth;
    struct mb_speed decode;
};

/* Another way to place the same model, or another engine with its own best placement, for comparison. */
struct mb_plan_other {
    const char *name; /* "layers in order until full", "all experts in host memory", "with llama.cpp:vulkan" */
    int fits;
    double tokens_per_s; /* at placed_depth */
};

/* Read it freely; it lives until mb_plan_free(), and needs neither machine nor model any longer. */
struct mb_plan {
    const char *machine, *model, *quant, *engine; /* engine with backend: "llama.cpp:cuda" */
    int fits;
    uint64_t n_ctx, ctx_max; /* ctx_max: the longest context that fits with the weights placed as they are; 0: none */
    uint64_t model_bytes;    /* resident weights */
    struct mb_plan_group *groups;
    unsigned n_groups;
    struct mb_plan_pool *pools; /* as many as the machine has */
    unsigned n_pools;
    const char **pool_ids; /* [n_pools] */
    const char **pool_names; /* [n_pools]; NULL entries: none */
    struct mb_speed decode;  /* at depth 0 */
    struct mb_speed prefill; /* of 512 tokens */
    double ttft_s[3];        /* time to the first token of prompts of 1k, 8k and 32k tokens; 0: longer than n_ctx, or unknown */
    struct mb_plan_depth *by_depth; /* 0, 1k, 4k, ... n_ctx */
    unsigned n_by_depth;
    struct mb_term *terms; /* of decode at depth 0; they sum to its time */
    unsigned n_terms;
    struct mb_term *prefill_terms;
    unsigned n_prefill_terms;
    uint64_t placed_depth;      /* tokens in the cache for which this placement is the fastest: half of the context */
    double placed_tokens_per_s; /* its decode speed there, to compare with others */
    struct mb_plan_other *others;
    unsigned n_others;
    const char *bottleneck; /* one sentence; if it does not fit: how much is missing */
    const char *reserved_for; /* what is kept for others, and on what grounds; NULL: nothing */
    const char **needs;     /* what would make it fit, one sentence each; none if it fits */
    unsigned n_needs;
    const char **warnings;
    unsigned n_warnings;
    /* For engines' flags: what the machine and the options said. */
    const enum mb_pool_kind *pool_kinds; /* [n_pools] */
    const char **pool_raises;            /* [n_pools] mb_pool.raise; NULL entries: none */
    const char *kv_type_k, *kv_type_v;   /* "F16" */
    uint32_t n_batch;                    /* tokens of one chunk of prefill */
    unsigned n_threads;                  /* physical cores of the CPU; 0 unknown */
    /* ... and the pool of each layer's parts (index of a pool; MB_PLAN_NOWHERE: there is no such part). */
    uint32_t n_layers;
    const uint8_t *core_pool;    /* [n_layers] attention or state, with its cache */
    const uint8_t *ffn_pool;     /* [n_layers] dense FFN */
    const uint8_t *experts_pool; /* [n_layers] routed experts */
    uint8_t output_pool, embedding_pool;
    void *owner; /* private to the library */
};

#define MB_PLAN_NOWHERE 255u

/* Place the model on the machine so that decoding is fastest, and predict.
 *   machine  in   any origin; needs capacity and bandwidth of at least one pool
 *   opts     in   may be NULL
 *   out      out  [1] written only on MB_OK, which includes a plan that does not fit (fits 0, needs says what would);
 *                 free with mb_plan_free()
 * Returns MB_OK; MB_ENAME: an unknown engine, err lists them; MB_ENOTSUP: this engine does not run on this machine;
 * MB_ENODATA: capacity or bandwidth unknown or zero, err names the pool; MB_ERANGE: n_ctx over what the model was trained
 * for (err says how much that is) or over the limits; MB_EINVAL: a cache type; MB_ENOMEM. Pure. */
int mb_plan_make(const struct mb_machine *machine, const struct mb_model *model, const struct mb_plan_opts *opts,
                 struct mb_plan **out, struct mb_err *err);
void mb_plan_free(struct mb_plan *plan);

/* The plan as JSON text (docs/json.md, "plan"); explain adds the terms. Free with mb_text_free(). MB_OK; MB_ENOMEM. */
int mb_plan_json(const struct mb_plan *plan, int explain, char **out, struct mb_err *err);

/* Commands, flags or files that make another engine place the model like the plan: target is one of mb_emit_names().
 * Returns MB_OK; MB_ENAME: unknown target, err lists them; MB_ENOTSUP: the target can't do this placement, err says why and
 * what can; MB_EINVAL: the plan does not fit; MB_ENOMEM. Free *out with mb_text_free(). */
int mb_plan_emit(const struct mb_plan *plan, const struct mb_model *model, const char *target, char **out, struct mb_err *err);
const char *const *mb_emit_names(size_t *out_n);

/* ---- several machines ------------------------------------------------------------------------ */

/* A model that is larger than one machine, over several: layers in order, machine after machine, for engines that do that
 * (llama.cpp with RPC, vLLM with Ray, exo). docs/cluster.md states what is counted. */

/* What a layer range costs on one machine. */
struct mb_cluster_node {
    const char *machine;
    int is_main;                     /* the program and the embedding are here; the output, with the last layers */
    uint32_t first_layer, n_layers;  /* n_layers 0: not needed */
    uint64_t weights_bytes, kv_bytes, buffers_bytes;
    double room_bytes;               /* for all three */
    double seconds, seconds_at_ctx;  /* per token, with an empty cache and with n_ctx tokens in it */
    double prefill_seconds;          /* of 512 tokens */
    unsigned n_devices;              /* what the engine lists there: its GPUs, or one CPU */
    uint32_t on_device[8];           /* layers */
};

struct mb_cluster {
    const char *model, *quant, *engine;
    int fits;
    uint64_t n_ctx, model_bytes;
    struct mb_cluster_node *nodes; /* in the order of the layers; the main machine is the last */
    unsigned n_nodes, n_used;
    uint32_t n_layers;
    const uint8_t *ffn_in_ram, *experts_in_ram; /* [n_layers] 1: in RAM of the main machine, while its attention is on a GPU */
    const char *link;              /* "10GbE" */
    struct mb_figure link_bytes_per_s, link_latency_s;
    unsigned n_hops;               /* transfers per token, one after the other */
    double hop_bytes;              /* of each */
    double link_seconds;           /* of all, per token */
    double link_share, prefill_link_share; /* of the time of a token, of a prompt */
    struct mb_speed decode, decode_at_ctx, prefill; /* prefill of 512 tokens */
    double ttft_s[3];              /* prompts of 1k, 8k, 32k; 0: longer than n_ctx */
    const char *alone;             /* the best of these machines by itself; NULL: the model fits none */
    double alone_tokens_per_s;
    const char **needs;            /* what would make it fit */
    unsigned n_needs;
    const char **notes;
    unsigned n_notes;
    struct mb_kv_opts kv;
    void *owner; /* private to the library */
};

/* Divide the model so that decoding is fastest, and predict.
 *   machines  in   [n_machines] 2 to 16; the first is the main one; the same may stand there several times
 *   link      in   between any two: one of mb_link_names(), or "1.1GB/s", or with the time of one transfer, "1.1GB/s,80us"
 *   opts      in   as for one machine; may be NULL
 *   out       out  written only on MB_OK, also if it does not fit; free with mb_cluster_free()
 * Returns MB_OK; MB_EINVAL: too few machines, a link; else as mb_plan_make(). Pure. */
int mb_cluster_make(const struct mb_machine *const *machines, unsigned n_machines, const char *link,
                    const struct mb_model *model, const struct mb_plan_opts *opts, struct mb_cluster **out, struct mb_err *err);
void mb_cluster_free(struct mb_cluster *cluster);
const char *const *mb_link_names(size_t *out_n);

/* As JSON text (docs/json.md, "cluster"); free with mb_text_free(). MB_OK; MB_ENOMEM. */
int mb_cluster_json(const struct mb_cluster *cluster, char **out, struct mb_err *err);

/* Commands for each machine; target is "llama.cpp", "vllm" or "exo". Returns as mb_plan_emit(). */
int mb_cluster_emit(const struct mb_cluster *cluster, const struct mb_model *model, const char *target, char **out,
                    struct mb_err *err);

/* ---- the inverse problem --------------------------------------------------------------------- */

/* The law, bandwidth * efficiency = speed * bytes read per token, solved for what is missing. docs/shard.md says what is
 * assumed. Zero-initialise for defaults. */
struct mb_shard_opts {
    double bandwidth_bytes_per_s; /* of the memory that is read; 0: not given */
    double tokens_per_s;          /* 0: not given */
    double size_bytes;            /* read per token; 0: not given. A model stands in: its active shard and its cache */
    double efficiency;            /* share of the bandwidth that the engine is assumed to reach; 0: 1, the bound */
    const struct mb_model *model; /* may be NULL; borrowed */
    uint64_t n_ctx;               /* tokens in the model's cache */
    struct mb_kv_opts kv;
};

enum mb_shard_found { MB_SHARD_SIZE, MB_SHARD_SPEED, MB_SHARD_BANDWIDTH, MB_SHARD_EFFICIENCY };

/* How an efficiency compares with published runs. */
enum mb_shard_verdict {
    MB_SHARD_UNTOLD, /* none was found: bandwidth, speed and size are not all known */
    MB_SHARD_BELOW,  /* nine of ten published runs reach more */
    MB_SHARD_USUAL,
    MB_SHARD_NEAR,   /* one of ten published runs reaches that much, and no law forbids it */
    MB_SHARD_OVER    /* more than the memory can deliver: that many bytes were not read for each token */
};

/* "size", "speed", "bandwidth", "efficiency"; "untold", "below", "usual", "near", "over". */
const char *mb_shard_found_name(enum mb_shard_found found);
const char *mb_shard_verdict_name(enum mb_shard_verdict verdict);

/* What is found if the engine reached this efficiency. */
struct mb_shard_typical {
    double efficiency;
    double value; /* in the unit of what is found */
};

struct mb_shard {
    enum mb_shard_found found;
    double bandwidth_bytes_per_s, tokens_per_s, size_bytes, efficiency; /* given, assumed or found */
    int assumed; /* nobody gave the efficiency: it is the bound's, 1, so a size found is the most that can be read */
    struct mb_shard_typical typical[3]; /* if assumed: one of ten published runs reaches this, half do, nine of ten do */
    unsigned n_typical;
    enum mb_shard_verdict verdict; /* of reads_efficiency */
    double reads_efficiency; /* bytes known to be read (size, else the model's) * speed / bandwidth; 0: not all known */
    const char *model;     /* its name, which lives as long as it does; NULL: there is none, and all below is 0 */
    double resident_bytes; /* all weights */
    double active_bytes;   /* weights that one token reads */
    double cache_bytes;    /* KV cache and state that one token reads at n_ctx */
    double weights_bytes;  /* size_bytes without the cache; 0: the cache alone is more */
    double share;          /* weights_bytes / resident_bytes */
    uint32_t n_expert, n_expert_used;
    double expert_bytes;   /* one more chosen expert, in all layers; 0: not a MoE */
    double experts;        /* chosen per token if weights_bytes are read; below 0: less than what is always read */
};

/* Two of bandwidth, speed and size are needed (a model counts as size), three give the efficiency.
 *   out  out  written only on MB_OK
 * Returns MB_OK; MB_EINVAL: too little is given, a figure is negative or not finite, an efficiency over 1 or beside three
 * figures that determine it; MB_ERANGE: n_ctx over what the model takes; MB_ENOMEM. Pure. */
int mb_shard_infer(const struct mb_shard_opts *opts, struct mb_shard *out, struct mb_err *err);

/* The same as JSON text (docs/json.md, "shard"); free with mb_text_free(). MB_OK; MB_ENOMEM. */
int mb_shard_json(const struct mb_shard *shard, char **out, struct mb_err *err);
/* ---- validation ----------------------------------------------------------------------------- */

/* Predictions beside published measurements. docs/prediction.md states the columns of the CSV, how its rows are read, and the
 * errors of the built-in rows. */

/* Errors of one class or chip. */
struct mb_score {
    const char *name;
    unsigned n;
    double median_ape, p90_ape; /* of |predicted / measured - 1| */
    double bias;                /* median of predicted / measured - 1 */
    double coverage80;          /* share of the measurements inside the 80 % interval */
};

/* One row of the CSV. */
struct mb_validation_row {
    const char *id, *machine, *chip, *model, *quant, *engine, *row_class; /* class: dense, moe, hybrid, cpu */
    double depth, measured, predicted, low, high; /* tokens/s in decoding */
    double prompt_measured, prompt_predicted;     /* tokens/s in prefill; 0: not measured */
    const char *skipped;                          /* why it was not used, or NULL */
};

/* Everything in it lives until mb_validation_free(). */
struct mb_validation {
    const char *cross; /* "none", "chip" or "model": what the fit had not seen of each row */
    struct mb_validation_row *rows;
    unsigned n_rows, n_used;
    struct mb_score *classes; /* dense, moe, hybrid, cpu, depth > 8k, prefill; those that have rows */
    unsigned n_classes;
    struct mb_score *chips; /* most rows first */
    unsigned n_chips;
    void *owner;
};

/* Predict every row of a CSV file (NULL: the built-in measurements).
 *   cross  in  NULL or "none": with the built-in constants; "chip", "model": with constants fitted to those rows of the file
 *              that are of another chip, or another model (takes a minute)
 * Returns MB_OK; MB_ENOENT, MB_EIO; MB_EFORMAT: err names line and column; MB_ENAME: cross; MB_ENODATA: too few rows to fit;
 * MB_ENOMEM. */
int mb_validate(const char *path, const char *cross, struct mb_validation **out, struct mb_err *err);
void mb_validation_free(struct mb_validation *validation);

/* The same as JSON text (docs/json.md, "validate"), and as an SVG picture: predicted against measured, one colour per chip.
 * Free with mb_text_free(). MB_OK; MB_EINVAL: no row was used; MB_ENOMEM. */
int mb_validation_json(const struct mb_validation *validation, int rows, char **out, struct mb_err *err);
int mb_validation_svg(const struct mb_validation *validation, char **out, struct mb_err *err);

/* Fit the constants of the cost model to a CSV file (NULL: the built-in measurements); *out is the text of
 * data/engines/constants.json. The same rows give the same text. Returns what mb_validate() does. */
int mb_validation_fit(const char *path, char **out, struct mb_err *err);
/* ---- advice --------------------------------------------------------------------------------- */

/* Which machine for a model, which model for a machine. Both rank what the plan predicts for each; docs/advise.md states the
 * rules. Size of memory comes first, then its bandwidth, then compute, then price, power and desirability. */

/* What a quantization costs in quality, as somebody measured and published it. */
struct mb_loss {
    const char *measured_on;    /* a model; NULL: nobody measured this quantization, as far as data/quality.json knows */
    int same_model;             /* the one asked for; 0: the reference model, for orientation: this one may lose more or less */
    int native;                 /* its makers publish the model in this format: nothing is lost */
    double perplexity_increase; /* relative to base; NAN unknown */
    double kld;                 /* mean KL divergence from base; NAN unknown */
    const char *base;           /* "F16": what it is compared with; may be NULL, as all below */
    const char *corpus, *imatrix, *date, *source, *note;
};

/* First what decides; the others break ties. */
enum mb_advise_order {
    MB_ORDER_MEMORY, /* most memory that a GPU reads */
    MB_ORDER_SPEED,
    MB_ORDER_PRICE,  /* cheapest */
    MB_ORDER_ENERGY  /* most tokens per joule */
};

/* Zero-initialise for defaults. */
struct mb_advise_opts {
    const char *engine;         /* NULL: "llama.cpp" */
    uint64_t n_ctx;             /* tokens of context to make room for; 0: 8192, or less where a model takes no more */
    double min_tokens_per_s;    /* at an empty context; 0: MB_ADVISE_READABLE; negative: any */
    double budget;              /* machines: in units of currency; 0: none */
    const char *currency;       /* NULL: "USD". Prices in other currencies count as unknown */
    int class_given;            /* machines: only those of machine_class */
    enum mb_machine_class machine_class;
    enum mb_advise_order order; /* machines */
    const char *const *quants;  /* models: those to choose from, best first; NULL: Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q3_K_M */
    unsigned n_quants;
    int apps_given;             /* as in mb_plan_opts */
    uint64_t apps_bytes;
    struct mb_kv_opts kv;
    unsigned limit;             /* rows to show; 0: all */
};

/* A speed at which one can read along. */
#define MB_ADVISE_READABLE 10.0

/* Why something is not among the answers; bits. */
enum mb_miss {
    MB_MISS_RUN = 1,      /* does not run there at all: see why */
    MB_MISS_FIT = 2,      /* does not fit */
    MB_MISS_SPEED = 4,    /* slower than min_tokens_per_s */
    MB_MISS_PRICE = 8,    /* dearer than the budget */
    MB_MISS_UNPRICED = 16,/* nobody knows its price in that currency, so no budget can be met */
    MB_MISS_CLASS = 32
};

/* How a model runs on a machine. */
struct mb_outcome {
    unsigned misses;     /* of mb_miss; 0: meets every condition */
    struct mb_speed decode;      /* with an empty cache */
    struct mb_speed decode_full; /* with n_ctx tokens in it */
    struct mb_speed prefill;     /* of 512 tokens */
    double slow_share;   /* of a token's bytes, from RAM beside a GPU with memory of its own; 0: all from fast memory */
    double used_bytes;   /* weights, cache and buffers */
    double have_bytes;   /* that the plan may count on, in all pools */
    const char *why;     /* one sentence */
    const char *but;     /* one: what to know before; NULL: nothing */
};

/* The next machine up: what it costs more and what it brings. */
struct mb_step_up {
    const char *machine; /* NULL: there is none with a known price */
    double price;        /* its own */
    double price_more, tokens_per_s_more, fast_bytes_more;
};

struct mb_machine_advice {
    const char *machine;
    enum mb_machine_class machine_class;
    double fast_bytes, bandwidth_bytes_per_s; /* as in mb_catalog_row */
    unsigned desirability;
    struct mb_price price;   /* currency NULL: unknown */
    double load_w;           /* of the whole machine; 0 unknown */
    double tokens_per_joule; /* decode / load_w; 0 unknown */
    struct mb_outcome fit;
    double ram_tokens_per_s; /* of its RAM alone, where part of the model spills there; 0: does not apply */
    struct mb_step_up faster;   /* the cheapest that is at least a quarter faster */
    struct mb_step_up larger;   /* the cheapest with at least a quarter more fast memory and nine tenths of the speed */
};

/* Read it freely; everything lives until mb_machine_advice_free(). Pointers to rows are NULL where there is none. */
struct mb_machine_advice_list {
    const char *model, *quant, *engine; /* quant may be NULL */
    uint64_t n_ctx;
    double min_tokens_per_s, budget; /* 0: none */
    const char *currency;
    uint64_t model_bytes;
    double read_bytes;   /* per token, with an empty cache */
    struct mb_loss loss;
    struct mb_machine_advice *rows; /* all machines of the catalog; those that meet every condition first, best first */
    unsigned n_rows;     /* that meet them */
    unsigned n_shown;    /* n_rows, or the limit */
    unsigned n_all;
    unsigned n_unpriced; /* that would meet them, but for a price that is not known */
    const struct mb_machine_advice *cheapest, *fastest, *thriftiest; /* of those that meet every condition */
    const struct mb_machine_advice *near_unpriced; /* the smallest of n_unpriced */
    /* The nearest, where no machine meets every condition: cheapest that only the budget rules out; fastest that only
     * min_tokens_per_s rules out; fastest on which the model runs at all. */
    const struct mb_machine_advice *near_price, *near_speed, *near_any;
    const char **notes;
    unsigned n_notes;
    void *owner;         /* private to the library */
};

/* Rank the catalog's machines for a model.
 *   model  in   borrowed until the list is freed
 *   opts   in   may be NULL
 *   out    out  written only on MB_OK, which includes that no machine meets the conditions
 * Returns MB_OK; MB_ENAME: an unknown engine; MB_ERANGE: n_ctx over what the model takes, or a number that is not finite;
 * MB_EINVAL: a cache type; MB_ENOMEM. Pure. */
int mb_advise_machines(const struct mb_model *model, const struct mb_advise_opts *opts, struct mb_machine_advice_list **out,
                       struct mb_err *err);
void mb_machine_advice_free(struct mb_machine_advice_list *list);
/* As JSON text (docs/json.md, "advise"); and price against speed as an SVG picture. Free with mb_text_free().
 * MB_OK; MB_ENOMEM. svg also MB_ENODATA: no machine with a price runs the model. */
int mb_machine_advice_json(const struct mb_machine_advice_list *list, char **out, struct mb_err *err);
int mb_machine_advice_svg(const struct mb_machine_advice_list *list, char **out, struct mb_err *err);

struct mb_model_advice {
    const char *model, *quant;
    const char *released;      /* NULL unknown */
    uint64_t params, active_params;
    int moe;
    uint64_t model_bytes;
    double read_bytes;         /* per token, with an empty cache */
    struct mb_outcome fit;
    struct mb_loss loss;
    const char **also;         /* models of the same shape, older: as fast, as large */
    unsigned n_also;
};

struct mb_model_advice_list {
    const char *machine, *engine;
    uint64_t n_ctx;            /* 0: 8192, or less where a model takes no more */
    double min_tokens_per_s;   /* 0: any */
    struct mb_price price;     /* of the machine; currency NULL: unknown */
    double fast_bytes;
    struct mb_model_advice *rows; /* one per model and shape, each with the best quantization that meets the conditions; largest
                                   * first. After n_rows those that meet them in none, with the smallest */
    unsigned n_rows, n_shown, n_all;
    const struct mb_model_advice *dense, *sparse; /* two of about the same size beyond the fast memory, the dense one slow and
                                                   * the MoE not; NULL: no such pair */
    const char *currency;
    struct mb_step_up step;       /* the next machine up, in that currency */
    const char **step_models;  /* that it runs and this one does not, largest first */
    unsigned n_step_models;
    const char **notes;
    unsigned n_notes;
    void *owner;               /* private to the library */
};

/* Rank the catalog's models for a machine. The same codes; MB_ENOTSUP: the engine does not run on it; MB_ENODATA: capacity or
 * bandwidth unknown. */
int mb_advise_models(const struct mb_machine *machine, const struct mb_advise_opts *opts, struct mb_model_advice_list **out,
                     struct mb_err *err);
void mb_model_advice_free(struct mb_model_advice_list *list);
int mb_model_advice_json(const struct mb_model_advice_list *list, char **out, struct mb_err *err);

/* ---- the engine ----------------------------------------------------------------------------- */

/* Runs a model on the CPU. An engine holds the weights and is shared; a session is one sequence of tokens with its cache and
 * its threads. docs/engine.md says what is run and how; a model that can be inspected but not run fails with MB_ENOTSUP and
 * the name of the part that is missing.
 *
 *   struct mb_model *model; struct mb_engine *engine; struct mb_session *session;
 *   mb_model_open("model.gguf", NULL, &model, &err);
 *   mb_engine_open(model, NULL, &engine, &err);
 *   mb_session_open(engine, NULL, &session, &err);
 *   mb_session_eval(session, tokens, n, NULL, &err);
 *   const float *logits = mb_session_logits(session, 0);
 */
struct mb_engine;
struct mb_session;

enum mb_load_mode {
    MB_LOAD_MMAP,     /* the file is mapped: starts at once, pages come as they are read */
    MB_LOAD_COPY,     /* read into memory in the order that streams best */
    MB_LOAD_SYNTHETIC, /* random blocks of the right types and shapes; the only way for models without a file */
    /* Mapped at first, and brought to the order of MB_LOAD_COPY by threads of the engine, half of n_threads and at most eight,
     * while sessions already run. Takes the memory of a copy. These threads begin after the first pass, or when a writer has been
     * opened, and end when all has come, or within milliseconds in mb_engine_free(); in between, all passes but the first leave
     * CPUs to them. Logits are the same, bit for bit, wherever weights lie. If the OS gives no memory or no thread for it, the
     * file stays mapped; mb_session_get_info() tells. With several memory nodes MB_LOAD_COPY decodes faster: each thread writes
     * the rows that it will read. */
    MB_LOAD_BEHIND
};

/* Zero-initialise for defaults. */
struct mb_engine_opts {
    enum mb_load_mode load;
    uint64_t seed;         /* MB_LOAD_SYNTHETIC */
    uint64_t memory_bytes; /* weights may take that much; 0: what the OS says is free */
    unsigned n_threads;    /* that load; 0: every hardware thread */
    mb_progress_fn *progress; /* may be NULL; called by the calling thread */
    void *user;
    const volatile int *cancel; /* may be NULL; set to non-zero to stop */
};

/* Load the weights of a model.
 *   model  in   borrowed; must outlive the engine
 *   opts   in   may be NULL
 *   out    out  [1] written only on MB_OK; free with mb_engine_free() after all its sessions
 * Returns MB_OK; MB_ENOTSUP: a part that is not run, err names it; MB_ENOMEM: more than is free, err says how much and what
 * would fit; MB_ENOENT, MB_EIO: the file; MB_EFORMAT: a tensor or value that does not fit the others; MB_EINVAL: a model
 * without a file that is not to be synthetic; MB_ECANCEL. */
int mb_engine_open(const struct mb_model *model, const struct mb_engine_opts *opts, struct mb_engine **out,
                   struct mb_err *err);
void mb_engine_free(struct mb_engine *engine);

/* What one part of a pass did. */
struct mb_op_time {
    const char *op;    /* "qkv", "ffn_up", "attention", ... */
    int layer;         /* -1: none */
    uint32_t n_tokens; /* of the pass */
    uint64_t bytes;    /* weights and cache that it read: what mb_model_traffic() charges; of experts, those chosen */
    double seconds;
};
typedef void mb_op_time_fn(void *user, const struct mb_op_time *time);

/* Zero-initialise for defaults. */
struct mb_session_opts {
    unsigned n_threads; /* 0: every hardware thread */
    uint32_t n_ctx;     /* tokens that fit; 0: 4096, or the model's limit if that is less */
    uint32_t n_batch;   /* tokens of one chunk of prefill, 1..512; 0: 512 */
    uint32_t n_logits;  /* rows of logits that are kept, 1..n_batch; 0: one */
    const char *type_k, *type_v; /* of the cache: "F16" (NULL), "F32", "Q8_0" */
    mb_op_time_fn *on_op; /* NULL: ops are not timed, which costs nothing */
    void *user;
};

/* Start a session: its threads, its cache and all its buffers. Nothing is allocated after that. The calling thread becomes one of
 * its threads and is bound to a CPU until mb_session_free(); it alone may call mb_session_eval() and mb_session_free(). Any
 * number of sessions may share an engine; their passes take turns.
 * Returns MB_OK; MB_ERANGE: an option out of range; MB_EINVAL: a cache type; MB_ENOTSUP: heads that the cache type can't hold;
 * MB_ENOMEM; MB_ENOHW. */
int mb_session_open(struct mb_engine *engine, const struct mb_session_opts *opts, struct mb_session **out,
                    struct mb_err *err);
void mb_session_free(struct mb_session *session);

/* How to evaluate. Zero-initialise for defaults. */
struct mb_eval_opts {
    int all_logits; /* keep logits after each token, not only after the last; then n_tokens <= n_logits */
    int no_logits;  /* keep none */
    mb_progress_fn *progress; /* may be NULL; called after each chunk */
    void *user;
    const volatile int *cancel; /* may be NULL; may be set by another thread: evaluation ends within one layer */
};

/* Append tokens (ids from 0 on) to the sequence. opts may be NULL.
 * Returns MB_OK; MB_ERANGE: no tokens, an id outside the vocabulary, more than the context holds, or too many logits;
 * MB_ECANCEL: the sequence holds the chunks that were complete; MB_EFORMAT: logits that are no numbers: the weights are
 * damaged; MB_EINVAL: the wrong thread. On other codes than MB_ECANCEL and MB_EFORMAT nothing has changed. */
int mb_session_eval(struct mb_session *session, const int32_t *tokens, size_t n_tokens, const struct mb_eval_opts *opts,
                    struct mb_err *err);

/* Logits after token i of the last call if all were kept, else i = 0: after its last token. [n_vocab] floats that stay until
 * the next call; NULL: none. */
const float *mb_session_logits(const struct mb_session *session, size_t i);
uint32_t mb_session_n_vocab(const struct mb_session *session);

/* The tokens of the sequence, *out_n of them; they stay until the next call. */
const int32_t *mb_session_tokens(const struct mb_session *session, size_t *out_n);
uint32_t mb_session_n_ctx(const struct mb_session *session);

/* Keep the first n tokens and forget the others, to go on from there. Returns how many are kept: n, or less where a sliding
 * window has already dropped cells that the next token would see (then 0), or where fewer are there. */
size_t mb_session_truncate(struct mb_session *session, size_t n);

/* Write the sequence and its cache to a file, whole or not at all; and read it into a session of the same model and cache types,
 * whose own sequence it replaces.
 * save: MB_OK; MB_EWRITE; MB_ENOMEM. restore: MB_OK; MB_ENOENT; MB_EIO; MB_EFORMAT: not such a file, damaged, or of another model
 * or other options; MB_ERANGE: longer than the context; MB_ENOMEM. On failure the session is empty. */
int mb_session_save(const struct mb_session *session, const char *path, struct mb_err *err);
int mb_session_restore(struct mb_session *session, const char *path, struct mb_err *err);

/* What a session takes. */
struct mb_session_info {
    uint64_t weights_bytes; /* in memory of this process; a mapped file takes none */
    uint64_t cache_bytes, buffer_bytes;
    unsigned n_threads;
    int is_bound;     /* each thread on a CPU of its own */
    const char *simd; /* of the kernels: "avx2", ... */
    /* MB_LOAD_BEHIND: bytes of tensors that come to memory (0: none, the file stays mapped), those that have come, and seconds
     * from the start of mb_engine_open() until all had; 0: not yet. */
    uint64_t behind_bytes, behind_done_bytes;
    double behind_s;
};
void mb_session_get_info(const struct mb_session *session, struct mb_session_info *out);

/* ---- writing text --------------------------------------------------------------------------- */

/* How the next token is chosen; docs/tokenizers.md states the order of the steps. The defaults are in mb_sampler_defaults(). */
struct mb_logit_bias {
    int32_t id;
    float bias; /* -INFINITY: never */
};

struct mb_sampler_opts {
    float temperature;                 /* 0.8; 0: always the most probable */
    unsigned top_k;                    /* 40; 0: all */
    float top_p;                       /* 0.95; 1: all */
    float min_p;                       /* 0.05; 0: all */
    float penalty_repeat;              /* 1: none */
    float penalty_presence;            /* 0: none */
    float penalty_frequency;           /* 0: none */
    unsigned penalty_last_n;           /* 64; 0: no penalties */
    const struct mb_logit_bias *biases; /* copied */
    size_t n_biases;
    uint64_t seed;
};

/* The defaults, which stand above; seed 0. */
struct mb_sampler_opts mb_sampler_defaults(void);

/* Writes text with a session: the tokenizer and the chat template of its model file, and a sampler. Either one text is
 * continued, or a conversation is held; what the cache already knows of it is not evaluated again. */
struct mb_writer;

/* Zero-initialise for defaults. */
struct mb_writer_opts {
    const struct mb_sampler_opts *sampling; /* NULL: the defaults */
    const char *chat_format; /* a built-in chat format or the text of a template; NULL: the file's */
    const char *extra_json;  /* an object with more variables for the template: {"enable_thinking": false}; NULL: none */
};

/* A writer on a session, which it borrows together with the model.
 *   model  in  the one that the session's engine was opened with
 * Returns MB_OK; MB_EINVAL: a model without a file has no tokenizer; MB_ENODATA: nor has this file; MB_ENOTSUP: its
 * tokenizer is not known here; MB_EFORMAT: tokenizer and weights do not fit each other, extra_json is no object;
 * MB_ENAME: no such chat format; MB_ERANGE: an option of sampling; MB_ENOMEM. A chat template that is missing or broken
 * fails only when a message is added. */
int mb_writer_open(struct mb_session *session, const struct mb_model *model, const struct mb_writer_opts *opts,
                   struct mb_writer **out, struct mb_err *err);
void mb_writer_close(struct mb_writer *writer);

/* Start anew with a text to continue: n bytes, any bytes. Returns MB_OK; MB_ERANGE: more than the context holds, err
 * says how much;
 * MB_ENOMEM. */
int mb_writer_text(struct mb_writer *writer, const char *text, size_t n, struct mb_err *err);

/* Add a message to the conversation: role is "system", "user" or "assistant". The next mb_writer_write() answers it.
 * Returns MB_OK; MB_ENODATA: the file has no chat template; MB_EFORMAT: a broken one, or one that refuses this conversation;
 * MB_EINVAL: content is no UTF-8; MB_ERANGE: more than the context holds; MB_ENOMEM. A message that fails is not kept. */
int mb_writer_message(struct mb_writer *writer, const char *role, const char *content, struct mb_err *err);

enum mb_stop {
    MB_STOP_END,     /* the model ended its text */
    MB_STOP_LENGTH,  /* n_max tokens are written */
    MB_STOP_CONTEXT, /* the context is full */
    MB_STOP_CANCEL
};

/* "end", "length", "context", "cancel". */
const char *mb_stop_name(enum mb_stop stop);

/* What was done so far. */
struct mb_written {
    enum mb_stop stop;
    size_t n_prompt;    /* tokens of the text or conversation */
    size_t n_reused;    /* of them still in the cache */
    double prefill_s;   /* for the n_prompt - n_reused others */
    size_t n_written;   /* tokens, the one that ends the text not counted */
    size_t n_decoded;   /* passes over one token: the first token comes from the prefill */
    double decode_s;    /* that these took, sampling included */
    double decode_bytes; /* that they read: weights, cache and state */
};

/* Zero-initialise for defaults. */
struct mb_write_opts {
    size_t n_max; /* tokens; 0: until the model ends or the context is full */
    int ignore_end; /* go on when the model ends its text */
    void (*on_text)(void *user, const char *text, size_t n); /* whole UTF-8 characters; may be NULL */
    void (*on_token)(void *user, const struct mb_written *so_far); /* after each token; may be NULL */
    mb_progress_fn *progress; /* of the prefill; may be NULL */
    void *user; /* of all three */
    const volatile int *cancel; /* may be NULL; may be set by another thread */
};

/* Evaluate what is new and write on. In a conversation the answer is kept as the assistant's message. The same options, seed,
 * text and number of threads give the same answer.
 *   opts  in   may be NULL
 *   out   out  always written
 * Returns MB_OK, also when cancelled; MB_EINVAL: there is nothing to continue; MB_EFORMAT: the weights are damaged; MB_ENOMEM. */
int mb_writer_write(struct mb_writer *writer, const struct mb_write_opts *opts, struct mb_written *out, struct mb_err *err);

/* One answer and what it took, for mb_run_json(). */
struct mb_run_report {
    const struct mb_model *model;
    const struct mb_machine *machine; /* NULL: unknown */
    const struct mb_session *session;
    const struct mb_written *written;
    const char *text; /* what was written: text_n bytes of UTF-8 */
    size_t text_n;
    uint64_t seed;
    enum mb_load_mode load;
    const char *load_why;     /* the word that says why weights were loaded in that way (docs/json.md) */
    double load_s;            /* until mb_engine_open() returned */
    double bound_bytes_per_s; /* read bandwidth of the CPU; 0 unknown */
    struct mb_speed predicted; /* of decoding; tokens_per_s 0: unknown */
};

/* The report as JSON text (docs/json.md, "run"); free with mb_text_free(). MB_OK; MB_EINVAL: text is no UTF-8; MB_ENOMEM. */
int mb_run_json(const struct mb_run_report *report, char **out, struct mb_err *err);

/* ---- the bench ------------------------------------------------------------------------------ */

/* How fast a model runs here, beside what the memory allowed in the same seconds and what was predicted. docs/bench.md states
 * the method. Zero-initialise for defaults. */
struct mb_bench_opts {
    enum mb_load_mode load; /* not MB_LOAD_BEHIND */
    uint64_t seed;         /* of synthetic weights and of the tokens that are read */
    unsigned n_threads;    /* 0: every hardware thread */
    int no_prefill, no_decode; /* leave it out */
    uint32_t n_prefill;    /* tokens of one prefill; 0: 512 */
    uint32_t n_decode;     /* tokens of one block of decoding; 0: what takes a good half second, 4 to 64 */
    const uint64_t *depths; /* [n_depths] tokens already in the cache; NULL: one, 0 */
    unsigned n_depths;
    int ops;               /* time every op, too, in blocks of their own */
    const struct mb_machine *machine; /* for predictions; NULL: none are made */
    mb_progress_fn *progress; /* may be NULL; called by the calling thread */
    void *user;
    const volatile int *cancel; /* may be NULL; set to non-zero to stop */
};

/* One phase at one depth. Speeds are the median, the least and the most of the blocks that count. */
struct mb_bench_row {
    const char *phase;     /* "prefill", "decode" */
    uint64_t depth;        /* tokens in the cache before each block */
    uint32_t n_tokens;     /* of one block */
    unsigned n_blocks;     /* that count */
    unsigned n_discarded;  /* during which the memory's speed changed, or other programs took the CPUs */
    int unsteady;          /* so it was during all of them: they all count, for want of better ones */
    double cpu_share;      /* of the time in which the threads had a CPU, median */
    double tokens_per_s, tokens_per_s_min, tokens_per_s_max;
    double bytes_per_token, bytes_per_s; /* weights, cache and state that are read: of mb_model_traffic(); times the speed */
    double bound_before_bytes_per_s, bound_after_bytes_per_s; /* read bandwidth around the blocks, medians */
    double fraction_of_bound; /* median over the blocks of their bytes_per_s over the mean of the bounds around them */
    struct mb_speed predicted; /* tokens_per_s 0: nothing is known to predict from */
    int holds;             /* low <= measured median <= high */
};

/* All calls of one kind of op in one block of a row. */
struct mb_bench_op {
    const char *phase;
    uint64_t depth;
    const char *op; /* "qkv", "experts_up", ... */
    uint32_t n_calls;
    uint64_t bytes; /* that they read together */
    double seconds, bytes_per_s;
    double fraction_of_bound;
    double share; /* of the time of all ops */
};

/* Read it freely; it lives until mb_bench_free(), and needs neither machine nor model any longer. */
struct mb_bench {
    const char *model, *quant;  /* quant may be NULL */
    const char *machine, *simd; /* machine: NULL without one */
    int synthetic, is_bound;
    unsigned n_threads;
    uint64_t weights_bytes;     /* of all tensors that a pass reads */
    uint64_t cache_bytes, buffer_bytes;
    uint64_t probe_bytes;       /* that the bound is measured with */
    int probe_is_weights;       /* they are the weights themselves */
    struct mb_figure bandwidth; /* that the predictions count on */
    int cancelled;              /* rows and ops are those that were complete */
    struct mb_bench_row *rows;
    unsigned n_rows;
    struct mb_bench_op *ops; /* row after row */
    unsigned n_ops;
    void *owner; /* private to the library */
};

/* Load the model, measure, predict.
 *   opts  in   may be NULL
 *   out   out  [1] written only on MB_OK, which includes a run that was cancelled after its first row; mb_bench_free() frees it
 * Returns MB_OK; MB_ERANGE: too many tokens or depths, or deeper than the model was trained for; MB_EINVAL: nothing is to be
 * measured; MB_ENOMEM: weights or cache do not fit what is free, err says how much that is; MB_ECANCEL; and what
 * mb_engine_open(), mb_session_open() and mb_session_eval() return. */
int mb_bench_run(const struct mb_model *model, const struct mb_bench_opts *opts, struct mb_bench **out, struct mb_err *err);
void mb_bench_free(struct mb_bench *bench);

/* The same as JSON text (docs/json.md, "bench"); free with mb_text_free(). MB_OK; MB_ENOMEM. */
int mb_bench_json(const struct mb_bench *bench, char **out, struct mb_err *err);

#ifdef __cplusplus
}
#endif
#endif
