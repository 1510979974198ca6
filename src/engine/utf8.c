/* SPDX-License-Identifier: MIT */
/* Sequences of UTF-8 (RFC 3629, section 4). */
#include "engine/utf8.h"

unsigned mb_utf8_length(char first)
{
    unsigned char byte = (unsigned char)first;
    return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

unsigned mb_utf8_write(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

int mb_utf8_sequence(const char *text, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char first = bytes[0];
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    unsigned length = mb_utf8_length(text[0]);
    for (unsigned i = 1; i < length; i++) {
        if (i == n)
            return -1;
        /* The second byte bounds the value: no longer than needed, no surrogates, no more than 0x10ffff. */
        unsigned char low = i > 1 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        unsigned char high = i > 1 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (bytes[i] < low || bytes[i] > high)
            return 0;
    }
    return (int)length;
}
