/* SPDX-License-Identifier: MIT */
/* Models that other programs have already downloaded: the stores of Ollama, Hugging Face, LM Studio
 * and llama.cpp. Listing them is public (membound.h); finding one by name is mb_model_open()'s. */
#ifndef MB_FIND_H
#define MB_FIND_H

#include "membound.h"

/* The model of that name: as listed, or without Ollama's ":latest", or the end of its path
 * ("repo/x.gguf"); if there is none, without regard to case and punctuation. Returns MB_OK;
 * MB_ENAME: none, err offers the nearest; MB_EINVAL: several different ones, err names them. */
int mb_find_model(const struct mb_found_list *list, const char *name, const struct mb_found **out,
                  struct mb_err *err);

#endif
