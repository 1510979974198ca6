/* SPDX-License-Identifier: MIT */
/* Error codes and their texts, made from the one list in membound.h, and the one way to fill a struct mb_err. */
#include "base.h"

#include <string.h>

const char *mb_code_name(int code)
{
    switch (code) {
#define CODE_NAME(name, value, exit_code, text)                                                    \
    case value:                                                                                    \
        return #name;
        MB_ERRORS(CODE_NAME)
#undef CODE_NAME
    }
    return "MB_EINTERNAL";
}

const char *mb_code_text(int code)
{
    switch (code) {
#define CODE_TEXT(name, value, exit_code, text)                                                    \
    case value:                                                                                    \
        return text;
        MB_ERRORS(CODE_TEXT)
#undef CODE_TEXT
    }
    return "internal error";
}

int mb_code_exit(int code)
{
    switch (code) {
#define CODE_EXIT(name, value, exit_code, text)                                                    \
    case value:                                                                                    \
        return exit_code;
        MB_ERRORS(CODE_EXIT)
#undef CODE_EXIT
    }
    return 5;
}

int mb_fail_text(struct mb_err *err, int code, const char *format, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    err->code = code;
    if (n < 0)
        snprintf(err->text, sizeof err->text, "%s", mb_code_text(code));
    else if ((size_t)n >= sizeof err->text)
        memcpy(err->text + sizeof err->text - 4, "...", 4);
    /* File contents end up here: a hostile name must not move the cursor or start a second line. */
    for (char *p = err->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return code;
}
