/* SPDX-License-Identifier: MIT */
/* What the writers of flags for other engines share: the placement in the words of an engine that puts layers in order
 * on its devices, and a command that is built flag by flag, each with the reason for it. Internal to src/plan. */
#ifndef MB_EMIT_H
#define MB_EMIT_H

#include "base/base.h"
#include "model/model.h"

enum { MB_EMIT_FLAGS_MAX = 24, MB_EMIT_DEVICES_MAX = 32 };

struct mb_emit_flag {
    const char *flag; /* ready for a shell: "-ngl 37" */
    const char *why;  /* "36 layers and the output head on the GPU: 2.7 GiB" */
};

/* Pieces of a layer that can lie apart from it. */
enum mb_emit_piece { MB_EMIT_FFN, MB_EMIT_EXPERTS, MB_EMIT_N_PIECES };

struct mb_emit {
    const struct mb_plan *plan;
    const struct mb_model *model;
    struct mb_model_info info;
    struct mb_arena arena;
    struct mb_emit_flag flags[MB_EMIT_FLAGS_MAX];
    unsigned n_flags;
    const char *notes[MB_EMIT_FLAGS_MAX]; /* what no flag says */
    unsigned n_notes;
    unsigned devices[MB_EMIT_DEVICES_MAX]; /* pools that a GPU reads, in the order of the machine */
    unsigned n_devices;
    int host;                                /* pool of the CPU; where there is none, the unified one */
    uint32_t n_layers;                       /* that are placed */
    uint32_t first;                          /* the first layer on a device; n_layers: none is */
    uint32_t on_device[MB_EMIT_DEVICES_MAX]; /* layers */
};

/* Describe the placement. MB_OK; MB_ENOTSUP: the layers' cores are not in order on host and devices, err names the
 * engine. */
int mb_emit_begin(struct mb_emit *emit, const struct mb_plan *plan, const struct mb_model *model, const char *engine,
                  struct mb_err *err);
void mb_emit_end(struct mb_emit *emit);

/* The device of a pool, as an index into devices; -1: none. */
int mb_emit_device(const struct mb_emit *emit, unsigned pool);

/* Does every layer lie in one piece, and the output with the last one? Engines without rules for single tensors need
 * that. */
int mb_emit_whole_layers(const struct mb_emit *emit);

/* Weights of a layer's piece; of all of the layer (piece MB_EMIT_N_PIECES: what is neither). */
uint64_t mb_emit_piece_bytes(const struct mb_emit *emit, uint32_t layer, enum mb_emit_piece piece);
/* Which piece a tensor belongs to. */
enum mb_emit_piece mb_emit_piece_of(const struct mb_tensor *tensor);

/* printf into the arena. */
const char *mb_emit_text(struct mb_emit *emit, const char *format, ...) MB_PRINTF(2, 3);

/* Text of a shell word; a file's path, which is never taken for an option. In the arena. */
const char *mb_emit_quote(struct mb_emit *emit, const char *text);
const char *mb_emit_path(struct mb_emit *emit, const char *path);

/* Append a flag with its reason, a note. Both texts must be in the arena or literal; what was formatted without memory
 * is NULL and shows in arena.failed. */
void mb_emit_flag(struct mb_emit *emit, const char *flag, const char *why);
void mb_emit_note(struct mb_emit *emit, const char *note);

/* The command with its reasons above it, the prediction first. comment 0: an environment or file follows below (head
 * only). */
int mb_emit_command(struct mb_emit *emit, const char *program, char **out, struct mb_err *err);
void mb_emit_head(const struct mb_emit *emit, FILE *out);

/* A comment of a shell, wrapped at 80 columns; indent stands before its first line, and as blanks before the others.
 * NULL text: none. */
void mb_emit_comment(FILE *out, const char *indent, const char *text);

/* The hub's name or the directory of safetensors, as a shell word; NULL with err filled where the model is a GGUF file.
 */
const char *mb_emit_hub_model(struct mb_emit *emit, const char *engine, struct mb_err *err);

/* A stream into memory: its text goes to *out. Returns MB_OK or MB_ENOMEM. */
int mb_emit_close(struct mb_emit *emit, FILE *file, char **text, char **out, struct mb_err *err);

/* emit_tensors.c: "^blk\.(..)\.(..)\.=CPU" for the pieces of the layers that wanted[] marks; NULL without memory. The
 * pattern matches the names of these tensors and no other of the model, holds no comma, and means the same in
 * ECMAScript and POSIX. */
const char *mb_emit_pattern(struct mb_emit *emit, const uint8_t *wanted, enum mb_emit_piece piece);
/* The numbers that are marked, as a pattern: "[0-9]|1[0-4]"; for people: "0 to 14". */
const char *mb_emit_numbers(struct mb_emit *emit, const uint8_t *wanted, uint32_t n);
const char *mb_emit_ranges(struct mb_emit *emit, const uint8_t *wanted, uint32_t n);

/* The targets. */
typedef int mb_emit_fn(struct mb_emit *emit, char **out, struct mb_err *err);
mb_emit_fn mb_emit_llama_cpp, mb_emit_ik_llama_cpp;
mb_emit_fn mb_emit_ollama, mb_emit_vllm, mb_emit_lmstudio, mb_emit_mlx;

#endif
