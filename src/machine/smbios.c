/* SPDX-License-Identifier: MIT */
/* Memory modules from SMBIOS structures of type 16 (memory array) and 17 (memory device), DMTF
 * DSP0134 3.7 sections 7.17 and 7.18, or from the properties that systemd's dmi_memory_id makes of
 * them.
 *
 * A structure is: type, length of the formatted area, handle (2 bytes); the formatted area;
 * strings, each ended by NUL, the last one by two. Older firmware has shorter areas, so a field
 * exists only if the length covers it. All numbers are little-endian. Everything is bounded by the
 * bytes at hand; counts and lengths in the table are never believed. */
#include "machine/smbios.h"
#include "machine/clean.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    TYPE_ARRAY = 16,
    TYPE_DEVICE = 17,
    TYPE_END = 127,
    USE_SYSTEM_MEMORY = 3,
    DEVICES_MAX = 1024, /* the largest servers have under 200 */
    ARRAYS_MAX = 256,
    TABLE_BYTES_MAX = 1 << 20
};

/* No module is larger than this; what is stated beyond is unknown. */
static const uint64_t module_bytes_max = (uint64_t)4 << 40;

/* Memory types of table 78 that hold the programs' data. The names serve both readers. */
static const struct {
    unsigned code;
    const char *name;
} types[] = {{0x12, "DDR"},    {0x13, "DDR2"},   {0x18, "DDR3"},   {0x1a, "DDR4"}, {0x1b, "LPDDR"},
             {0x1c, "LPDDR2"}, {0x1d, "LPDDR3"}, {0x1e, "LPDDR4"}, {0x20, "HBM"},  {0x21, "HBM2"},
             {0x22, "DDR5"},   {0x23, "LPDDR5"}, {0x24, "HBM3"}};

enum { CODE_FLASH = 0x09, CODE_ROM = 0x0a, CODE_NON_VOLATILE = 0x1f };

static unsigned width_bits(uint64_t stated)
{
    /* Some firmware counts the ECC bits as data. */
    unsigned bits = stated == 72 || stated == 80 ? 64
                    : stated == 40               ? 32
                    : stated > 1024              ? 0
                                                 : (unsigned)stated;
    return bits % 8 ? 0 : bits;
}

static unsigned speed_mt_per_s(uint64_t stated)
{
    return stated >= 100 && stated <= 100000 ? (unsigned)stated : 0;
}

/* ---- the raw table ---- */

/* One structure: n bytes of formatted area, then strings up to (not including) strings_end. */
struct structure {
    const unsigned char *bytes;
    unsigned n;
    const unsigned char *strings, *strings_end;
};

/* The field of size bytes at offset; 0 when the structure is too short to have it. */
static uint64_t field(const struct structure *s, unsigned offset, unsigned size)
{
    uint64_t value = 0;
    if (offset + size > s->n)
        return 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)s->bytes[offset + i] << (8 * i);
    return value;
}

/* The string that the byte at offset numbers from 1; NULL for none. */
static const char *text(struct mb_arena *arena, const struct structure *s, unsigned offset)
{
    uint64_t number = field(s, offset, 1);
    const unsigned char *at = s->strings;
    while (number > 1 && at < s->strings_end) {
        const unsigned char *nul = memchr(at, 0, (size_t)(s->strings_end - at));
        if (!nul)
            return NULL;
        at = nul + 1;
        number--;
    }
    if (number != 1 || at >= s->strings_end)
        return NULL;
    size_t n = (size_t)(s->strings_end - at);
    const unsigned char *nul = memchr(at, 0, n);
    return mb_clean_name(arena,
                         mb_arena_text_n(arena, (const char *)at, nul ? (size_t)(nul - at) : n));
}

/* The structure at *at, which then moves behind it. 0 when there is no whole one. */
static int next_structure(const unsigned char *table, size_t n, size_t *at, struct structure *out)
{
    if (n - *at < 4)
        return 0;
    const unsigned char *s = table + *at;
    unsigned length = s[1];
    if (length < 4 || length > n - *at)
        return 0;
    size_t end = *at + length;
    while (end + 1 < n && (table[end] || table[end + 1]))
        end++;
    if (end + 1 >= n)
        return 0;
    *out = (struct structure){s, length, s + length, table + end};
    *at = end + 2;
    return 1;
}

/* Fill dimm from a structure of type 17; 0 when it is an empty slot or not RAM. */
static int read_device(struct mb_arena *arena, const struct structure *s, struct mb_dimm *dimm)
{
    uint64_t size = field(s, 0x0c, 2), code = field(s, 0x12, 1);
    if (s->n < 0x15 || size == 0 || code == CODE_FLASH || code == CODE_ROM ||
        code == CODE_NON_VOLATILE)
        return 0;
    if (size == 0x7fff)
        size = (field(s, 0x1c, 4) & 0x7fffffff) << 20;
    else if (size == 0xffff)
        size = 0;
    else
        size = size & 0x8000 ? (size & 0x7fff) << 10 : size << 20;
    dimm->size_bytes = size <= module_bytes_max ? size : 0;
    for (size_t i = 0; i < MB_COUNT(types); i++)
        if (types[i].code == code)
            dimm->type = types[i].name;
    dimm->width_bits = width_bits(field(s, 0x0a, 2));
    uint64_t rated = field(s, 0x15, 2), configured = field(s, 0x20, 2);
    if (rated == 0xffff)
        rated = field(s, 0x54, 4);
    if (configured == 0xffff)
        configured = field(s, 0x58, 4);
    dimm->mt_per_s = speed_mt_per_s(configured);
    if (!dimm->mt_per_s) {
        dimm->mt_per_s = speed_mt_per_s(rated);
        dimm->rated_only = 1;
    }
    dimm->locator = text(arena, s, 0x10);
    dimm->bank = text(arena, s, 0x11);
    return 1;
}

/* The table's length by its entry point; SIZE_MAX when that does not tell. */
static size_t stated_length(const unsigned char *entry, size_t n)
{
    if (entry && n >= 24 && memcmp(entry, "_SM3_", 5) == 0)
        return (size_t)entry[12] | (size_t)entry[13] << 8 | (size_t)entry[14] << 16 |
               (size_t)entry[15] << 24;
    if (entry && n >= 31 && memcmp(entry, "_SM_", 4) == 0)
        return (size_t)entry[0x16] | (size_t)entry[0x17] << 8;
    return SIZE_MAX;
}

int mb_smbios_parse(struct mb_arena *arena, const unsigned char *table, size_t n,
                    const unsigned char *entry, size_t entry_n, struct mb_dimms *out)
{
    *out = (struct mb_dimms){.source = "SMBIOS"};
    size_t stated = stated_length(entry, entry_n);
    if (stated >= 4 && stated < n)
        n = stated;
    /* Arrays of video or cache memory have devices, too; those handles are skipped. */
    uint64_t other_arrays[ARRAYS_MAX];
    unsigned n_other = 0;
    struct structure s;
    for (size_t at = 0; next_structure(table, n, &at, &s) && s.bytes[0] != TYPE_END;)
        if (s.bytes[0] == TYPE_ARRAY && s.n >= 0x0f && field(&s, 5, 1) != USE_SYSTEM_MEMORY &&
            n_other < ARRAYS_MAX)
            other_arrays[n_other++] = field(&s, 2, 2);
    for (size_t at = 0;
         next_structure(table, n, &at, &s) && s.bytes[0] != TYPE_END && out->n < DEVICES_MAX;) {
        struct mb_dimm dimm = {0};
        int skip = s.bytes[0] != TYPE_DEVICE;
        for (unsigned i = 0; i < n_other && !skip; i++)
            skip = other_arrays[i] == field(&s, 4, 2);
        if (skip || !read_device(arena, &s, &dimm))
            continue;
        struct mb_dimm *new = mb_arena_append(arena, &out->dimms, &out->n, sizeof *new);
        if (!new)
            return MB_ENOMEM;
        *new = dimm;
    }
    return out->n ? MB_OK : MB_ENODATA;
}

/* ---- udev's database ---- */

static void set_property(struct mb_arena *arena, struct mb_dimm *dimm, const char *key,
                         const char *value, int *present)
{
    uint64_t number = isdigit((unsigned char)*value) ? strtoull(value, NULL, 10) : 0;
    if (strcmp(key, "PRESENT") == 0)
        *present = number != 0;
    else if (strcmp(key, "SIZE") == 0)
        dimm->size_bytes = number <= module_bytes_max ? number : 0;
    else if (strcmp(key, "DATA_WIDTH") == 0)
        dimm->width_bits = width_bits(number);
    else if (strcmp(key, "CONFIGURED_SPEED_MTS") == 0 && speed_mt_per_s(number)) {
        dimm->mt_per_s = speed_mt_per_s(number);
        dimm->rated_only = 0;
    } else if (strcmp(key, "SPEED_MTS") == 0 && !dimm->mt_per_s) {
        dimm->mt_per_s = speed_mt_per_s(number);
        dimm->rated_only = 1;
    } else if (strcmp(key, "LOCATOR") == 0)
        dimm->locator = mb_clean_name(arena, value);
    else if (strcmp(key, "BANK_LOCATOR") == 0)
        dimm->bank = mb_clean_name(arena, value);
    else if (strcmp(key, "TYPE") == 0)
        for (size_t i = 0; i < MB_COUNT(types); i++)
            if (strcmp(types[i].name, value) == 0)
                dimm->type = types[i].name;
}

/* Keep a device whose properties are complete: an empty slot says PRESENT=0 or has no size. */
static void keep_device(struct mb_arena *arena, const struct mb_dimm *dimm, int present,
                        struct mb_dimms *out)
{
    if (!present || !dimm->size_bytes || out->n >= DEVICES_MAX)
        return;
    struct mb_dimm *new = mb_arena_append(arena, &out->dimms, &out->n, sizeof *new);
    if (new)
        *new = *dimm;
}

int mb_smbios_parse_udev(struct mb_arena *arena, const char *database, struct mb_dimms *out)
{
    static const char prefix[] = "E:MEMORY_DEVICE_";
    *out = (struct mb_dimms){.source = "udev database of SMBIOS"};
    /* The properties of a device stand together; another number begins another device. */
    struct mb_dimm dimm = {0};
    unsigned long now = ULONG_MAX;
    int present = 0;
    for (const char *line = database, *next; *line; line = next) {
        size_t length = strcspn(line, "\n");
        char copy[256];
        next = line + length + (line[length] == '\n');
        if (length >= sizeof copy || strncmp(line, prefix, sizeof prefix - 1) != 0)
            continue;
        memcpy(copy, line, length);
        copy[length] = 0;
        char *key;
        unsigned long number = strtoul(copy + sizeof prefix - 1, &key, 10);
        char *value = strchr(key, '=');
        if (!value || *key != '_' || number >= DEVICES_MAX)
            continue;
        *value = 0;
        if (number != now) {
            keep_device(arena, &dimm, present, out);
            dimm = (struct mb_dimm){0};
            now = number;
            present = 1;
        }
        set_property(arena, &dimm, key + 1, value + 1, &present);
    }
    keep_device(arena, &dimm, present, out);
    return arena->failed ? MB_ENOMEM : out->n ? MB_OK : MB_ENODATA;
}

int mb_smbios_read(struct mb_arena *arena, const char *root, struct mb_dimms *out)
{
    size_t n = 0, entry_n = 0;
    unsigned char *table = (unsigned char *)mb_file_read(
        arena, root, "/sys/firmware/dmi/tables/DMI", TABLE_BYTES_MAX, &n);
    if (table) {
        char *entry = mb_file_read(arena, root, "/sys/firmware/dmi/tables/smbios_entry_point", 4096,
                                   &entry_n);
        int code =
            mb_smbios_parse(arena, table, n, (unsigned char *)entry, entry ? entry_n : 0, out);
        if (code != MB_ENODATA)
            return code;
    }
    char *udev = mb_file_read(arena, root, "/run/udev/data/+dmi:id", TABLE_BYTES_MAX, NULL);
    return udev ? mb_smbios_parse_udev(arena, udev, out) : MB_ENODATA;
}

/* ---- channels ---- */

/* The channel that a locator names, as a key that is the same for all modules on it:
 * "Controller0-ChannelA-DIMM1" -> "controller0-a", "P0 CHANNEL B" -> "p0 b", "CPU1_DIMM_A2" ->
 * "cpu1_dimm_a". Plain numbers ("DIMM 1") name a slot, and how slots share channels differs from
 * board to board, so they give nothing. word is "channel" or "dimm". */
static int channel_key(const char *locator, const char *word, char *key, size_t n)
{
    const char *at = locator ? strcasestr(locator, word) : NULL;
    if (!at)
        return 0;
    const char *after = at + strlen(word);
    while (*after == ' ' || *after == '_' || *after == '-' || *after == ':' || *after == '#')
        after++;
    int letter = isalpha((unsigned char)*after);
    size_t token = letter ? 1 : strspn(after, "0123456789");
    if (strcmp(word, "dimm") == 0) {
        /* "DIMM_A1" and "DIMM A" name a channel, "DIMM 1" and "DIMM Slot" do not. */
        if (!letter || isalpha((unsigned char)after[1]))
            return 0;
    } else if (!token) {
        return 0;
    }
    /* What stands before tells the socket or controller, unless it is the slot's own number. */
    size_t before = (size_t)(at - locator);
    for (size_t i = 0; i + 4 <= before; i++)
        if (strncasecmp(locator + i, "dimm", 4) == 0)
            before = 0;
    int wrote = snprintf(key, n, "%.*s%.*s", (int)before, locator, (int)token, after);
    for (char *p = key; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return wrote > 0 && (size_t)wrote < n;
}

static int module_channel(const struct mb_dimm *dimm, char *key, size_t n)
{
    return channel_key(dimm->locator, "channel", key, n) ||
           channel_key(dimm->bank, "channel", key, n) || channel_key(dimm->locator, "dimm", key, n);
}

enum { KEY_BYTES = 200 };
struct channel {
    char key[KEY_BYTES];
    unsigned width_bits;
};

/* Count channels and their width. Returns why they are unknown, or NULL. */
static const char *count_channels(struct channel *channels, const struct mb_dimms *dimms,
                                  struct mb_dimm_sum *sum)
{
    for (unsigned i = 0; i < dimms->n; i++) {
        const struct mb_dimm *dimm = dimms->dimms + i;
        struct channel new = {.width_bits = dimm->width_bits};
        if (!module_channel(dimm, new.key, sizeof new.key)) {
            /* A single module is one channel, and soldered LPDDR packages never share one; else it
             * takes a name. */
            if (dimms->n > 1 && !(dimm->type && strncmp(dimm->type, "LPDDR", 5) == 0))
                return "the names of the memory slots do not tell the channels";
            snprintf(new.key, sizeof new.key, "#%u", i);
        }
        unsigned c = 0;
        while (c < sum->n_channels && strcmp(channels[c].key, new.key) != 0)
            c++;
        if (c == sum->n_channels)
            channels[sum->n_channels++] = new;
        else if (new.width_bits > channels[c].width_bits)
            channels[c].width_bits = new.width_bits;
    }
    for (unsigned c = 0; c < sum->n_channels; c++) {
        if (!channels[c].width_bits)
            return "SMBIOS does not state the width of a module";
        sum->width_bits += channels[c].width_bits;
    }
    return NULL;
}

int mb_smbios_sum(struct mb_arena *arena, const struct mb_dimms *dimms, struct mb_dimm_sum *out)
{
    *out = (struct mb_dimm_sum){0};
    int sizes_known = 1, mixed = 0;
    for (unsigned i = 0; i < dimms->n; i++) {
        const struct mb_dimm *dimm = dimms->dimms + i;
        out->installed_bytes += dimm->size_bytes;
        sizes_known &= dimm->size_bytes > 0;
        mixed |= i > 0 && dimm->type != dimms->dimms[0].type;
        out->rated_only |= dimm->rated_only;
        if (i == 0 || dimm->mt_per_s < out->mt_per_s)
            out->mt_per_s = dimm->mt_per_s;
    }
    if (!sizes_known)
        out->installed_bytes = 0;
    if (dimms->n && !mixed)
        out->type = dimms->dimms[0].type;
    struct channel *channels = mb_arena_array(arena, dimms->n ? dimms->n : 1, sizeof *channels);
    if (!channels)
        return MB_ENOMEM;
    out->why_unknown = count_channels(channels, dimms, out);
    if (out->why_unknown)
        out->n_channels = out->width_bits = 0;
    else if (!out->mt_per_s)
        out->why_unknown = "SMBIOS does not state the speed of a module";
    else
        out->bytes_per_s = out->width_bits / 8.0 * out->mt_per_s * 1e6;
    return MB_OK;
}

const char *mb_smbios_describe(struct mb_arena *arena, const struct mb_dimm_sum *sum)
{
    if (!sum->type)
        return NULL;
    char speed[32] = "", channels[64] = "";
    if (sum->mt_per_s)
        snprintf(speed, sizeof speed, "-%u", sum->mt_per_s);
    if (sum->n_channels && sum->width_bits % sum->n_channels == 0)
        snprintf(channels, sizeof channels, ", %u channel%s x %u bit", sum->n_channels,
                 sum->n_channels > 1 ? "s" : "", sum->width_bits / sum->n_channels);
    else if (sum->n_channels)
        snprintf(channels, sizeof channels, ", %u channels, %u bit in all", sum->n_channels,
                 sum->width_bits);
    return mb_arena_format(arena, "%s%s%s", sum->type, speed, channels);
}
