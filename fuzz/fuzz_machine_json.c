/* SPDX-License-Identifier: MIT */
/* Any text is either refused or a machine whose JSON reads back to the same JSON. */
#include "machine/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size ? size : 1), *first = NULL, *second = NULL;
    struct mb_machine *machine = NULL, *again = NULL;
    struct mb_err err;
    if (!text)
        return 0;
    memcpy(text, data, size);
    if (mb_machine_parse(text, size, "fuzz.json", &machine, &err) == MB_OK) {
        if (mb_machine_json(machine, &first, &err) != MB_OK ||
            mb_machine_parse(first, strlen(first), "fuzz.json", &again, &err) != MB_OK ||
            mb_machine_json(again, &second, &err) != MB_OK || strcmp(first, second) != 0)
            abort();
    } else if (!*err.text || strlen(err.text) >= sizeof err.text) {
        abort();
    }
    mb_text_free(first);
    mb_text_free(second);
    mb_machine_free(machine);
    mb_machine_free(again);
    free(text);
    return 0;
}
