/* SPDX-License-Identifier: MIT */
/* Sizes, rates and ages for people, figures with provenance, and sizes as people type them. */
#include "base.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

char *mb_format_bytes(double bytes, char *buf, size_t n)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    if (!(bytes >= 0) || isinf(bytes)) {
        snprintf(buf, n, "unknown");
    } else if (bytes < 1024) {
        snprintf(buf, n, "%.0f B", bytes);
    } else {
        size_t unit = 0;
        double value = bytes / 1024;
        /* 1023.95 would print as 1024.0: move on before that. GiB is the unit of this field; TiB only from 10 on. */
        while (unit < 3 && value >= (unit == 2 ? 10 * 1024 : 1023.95))
            value /= 1024, unit++;
        snprintf(buf, n, value >= 99.95 || unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    }
    return buf;
}

char *mb_format_rate(double bytes_per_s, char *buf, size_t n)
{
    double gb = bytes_per_s / 1e9;
    if (!(bytes_per_s >= 0) || isinf(bytes_per_s))
        snprintf(buf, n, "unknown");
    else
        snprintf(buf, n, gb >= 99.95 ? "%.0f GB/s" : gb >= 9.995 ? "%.1f GB/s" : "%.2f GB/s", gb);
    return buf;
}

char *mb_format_age(double seconds, char *buf, size_t n)
{
    static const struct {
        double seconds;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    if (!(seconds >= 0) || isinf(seconds)) {
        snprintf(buf, n, "unknown");
        return buf;
    }
    size_t unit = 0;
    while (unit < 3 && seconds < 2 * units[unit].seconds)
        unit++;
    double count = floor(seconds / units[unit].seconds);
    snprintf(buf, n, "%.0f %s%s", count, units[unit].name, count == 1 ? "" : "s");
    return buf;
}

int mb_parse_bytes(const char *text, uint64_t *out_bytes)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = {{"", MB_GIB},     {"b", 1},           {"k", 1024},     {"kb", 1024},
                 {"kib", 1024},    {"m", MB_MIB},      {"mb", MB_MIB},  {"mib", MB_MIB},
                 {"g", MB_GIB},    {"gb", MB_GIB},     {"gib", MB_GIB}, {"t", MB_GIB * 1024},
                 {"tb", MB_GIB * 1024}, {"tib", MB_GIB * 1024}};
    if (!text || !isdigit((unsigned char)*text))
        return MB_EINVAL;
    /* Decimal digits only: strtod would take "0x1p60", and its point depends on the locale. */
    double value = 0, place = 1;
    const char *p = text;
    for (; isdigit((unsigned char)*p); p++)
        value = value * 10 + (*p - '0');
    if (*p == '.')
        for (p++; isdigit((unsigned char)*p); p++)
            value += (*p - '0') * (place /= 10);
    while (*p == ' ')
        p++;
    for (size_t i = 0; i < MB_COUNT(units); i++) {
        if (strcasecmp(p, units[i].name) == 0) {
            double bytes = value * units[i].bytes;
            if (!(bytes <= 1152921504606846976.0))
                return MB_EINVAL;
            *out_bytes = (uint64_t)(bytes + 0.5);
            return MB_OK;
        }
    }
    return MB_EINVAL;
}

const char *mb_provenance_name(enum mb_provenance provenance)
{
    static const char *const names[] = {"unknown", "measured", "reported", "spec", "derived"};
    return (unsigned)provenance < MB_COUNT(names) ? names[provenance] : "unknown";
}

struct mb_figure mb_figure_of(double value, enum mb_provenance provenance, const char *detail)
{
    return (struct mb_figure){value, provenance, detail};
}

int mb_figure_known(const struct mb_figure *figure)
{
    return figure->provenance != MB_UNKNOWN && isfinite(figure->value) && figure->value >= 0;
}
