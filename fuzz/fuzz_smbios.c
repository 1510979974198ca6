/* SPDX-License-Identifier: MIT */
/* Memory modules: the first byte chooses between a raw table, a table behind an entry point, and
 * udev's text. */
#include "machine/smbios.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void *exact(const uint8_t *data, size_t n)
{
    void *copy = malloc(n ? n : 1);
    if (copy && n)
        memcpy(copy, data, n);
    return copy;
}

/* Sums stay in bounds and say why they are unknown. */
static void check(struct mb_arena *arena, const struct mb_dimms *dimms)
{
    struct mb_dimm_sum sum;
    if (mb_smbios_sum(arena, dimms, &sum) != MB_OK)
        return;
    if (sum.installed_bytes > (uint64_t)1 << 60 ||
        !(sum.bytes_per_s >= 0 && sum.bytes_per_s < 1e18))
        abort();
    if ((sum.bytes_per_s > 0) == (sum.why_unknown != NULL))
        abort();
    mb_smbios_describe(arena, &sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mb_arena arena = {0};
    struct mb_dimms dimms;
    if (n == 0)
        return 0;
    unsigned kind = data[0] % 3;
    size_t entry_n = kind == 1 ? (n - 1 < 32 ? n - 1 : 32) : 0;
    unsigned char *entry = exact(data + 1, entry_n),
                  *table = exact(data + 1 + entry_n, n - 1 - entry_n);
    int code = MB_ENOMEM;
    if (entry && table && kind == 2) {
        char *text = mb_arena_text_n(&arena, (const char *)table, n - 1);
        code = text ? mb_smbios_parse_udev(&arena, text, &dimms) : MB_ENOMEM;
    } else if (entry && table) {
        code = mb_smbios_parse(&arena, table, n - 1 - entry_n, entry_n ? entry : NULL, entry_n,
                               &dimms);
    }
    /* What was read must not point into what is freed. */
    free(entry);
    free(table);
    if (code == MB_OK)
        check(&arena, &dimms);
    mb_arena_free(&arena);
    return 0;
}
