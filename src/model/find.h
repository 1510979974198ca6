/* SPDX-License-Identifier: MIT */
/* Models that other programs have already downloaded: the stores of Ollama, Hugging Face, LM Studio
 * and llama.cpp. */
#ifndef MB_FIND_H
#define MB_FIND_H

#include "membound.h"

enum mb_store {
    MB_STORE_OLLAMA,   /* the directory that holds manifests/ and blobs/: ~/.ollama/models */
    MB_STORE_HF,       /* the hub's cache: ~/.cache/huggingface/hub */
    MB_STORE_LMSTUDIO, /* owner/repo/file.gguf: ~/.lmstudio/models, ~/.cache/lm-studio/models */
    MB_STORE_LLAMACPP  /* files side by side: ~/.cache/llama.cpp */
};

/* "Ollama", "Hugging Face", "LM Studio", "llama.cpp". */
const char *mb_store_name(enum mb_store store);

struct mb_find_dir {
    enum mb_store store;
    const char *path;
};

struct mb_found {
    const char *name; /* as people say it: "gemma3:4b", "Qwen3-8B-Q4_K_M" */
    const char *path; /* of the file, or of part 1 of a split model */
    uint64_t bytes;   /* of all parts that are there */
    unsigned n_parts;
    enum mb_store store;
};

struct mb_found_list {
    struct mb_found *
        rows; /* sorted by name, then path; a file that two names link to is there once per store */
    unsigned n_rows;
    void *owner; /* private */
};

/* List the GGUF models of the stores, mmproj files left out. No file is opened but Ollama's
 * manifests. What is not there or can't be read is no error: it holds no models. Returns MB_OK;
 * MB_ENOMEM. */
int mb_find_list(const struct mb_find_dir *dirs, size_t n_dirs, struct mb_found_list **out,
                 struct mb_err *err);
void mb_find_free(struct mb_found_list *list);

/* The model of that name: as listed, or without Ollama's ":latest", or the end of its path
 * ("repo/x.gguf"); if there is none, without regard to case and punctuation. Returns MB_OK;
 * MB_ENAME: none, err offers the nearest, or several different ones, err names them. */
int mb_find_model(const struct mb_found_list *list, const char *name, const struct mb_found **out,
                  struct mb_err *err);

#endif
