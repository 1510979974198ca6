/* SPDX-License-Identifier: MIT */
/* UTF-8 of which nothing is assumed. */
#ifndef MB_UTF8_H
#define MB_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the well-formed sequence at the start of n > 0 bytes (1 to 4; no surrogates, nothing longer than needed);
 * 0: it is broken; -1: it is well formed so far but ends too early. */
int mb_utf8_sequence(const char *text, size_t n);
/* Bytes of a well-formed sequence, by its first byte. */
unsigned mb_utf8_length(char first);
/* Write a code point below 0x800; returns its bytes. */
unsigned mb_utf8_write(uint32_t code, char *out);

#endif
