/* SPDX-License-Identifier: MIT */
/* Links between machines: what they carry, by the document that defines them, and what one transfer takes before its
 * first byte arrives. Rates are payload: for Ethernet, TCP's share of a full frame (1460 of 1538 bytes on the wire).
 * Latencies are assumptions that docs/cluster.md gives grounds for; a person who has measured a link says so instead.
 */
#include "plan/cluster.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TCP_SHARE         (1460.0 / 1538.0)
#define ETHERNET_S        100e-6
#define THUNDERBOLT_TCP_S 300e-6
#define RDMA_S            50e-6

#define ETHERNET_TEXT "assumed: TCP between two hosts, one switch"
#define TCP_TEXT \
    "reported: TCP over Thunderbolt, jeffgeerling.com/blog/2025/15-tb-vram-on-mac-studio-rdma-over-thunderbolt-5"
#define RDMA_TEXT "reported as under 50 us: jeffgeerling.com/blog/2025/15-tb-vram-on-mac-studio-rdma-over-thunderbolt-5"
#define ROCE_TEXT "assumed: as RDMA over Thunderbolt"

static const struct {
    const char *name;
    double bits_per_s;
    double share;
    const char *document;
    double latency_s;
    const char *latency;
} links[] = {
    {"1GbE", 1e9, TCP_SHARE, "IEEE 802.3ab-1999", ETHERNET_S, ETHERNET_TEXT},
    {"2.5GbE", 2.5e9, TCP_SHARE, "IEEE 802.3bz-2016", ETHERNET_S, ETHERNET_TEXT},
    {"5GbE", 5e9, TCP_SHARE, "IEEE 802.3bz-2016", ETHERNET_S, ETHERNET_TEXT},
    {"10GbE", 10e9, TCP_SHARE, "IEEE 802.3an-2006, 802.3ae-2002", ETHERNET_S, ETHERNET_TEXT},
    {"25GbE", 25e9, TCP_SHARE, "IEEE 802.3by-2016", ETHERNET_S, ETHERNET_TEXT},
    {"40GbE", 40e9, TCP_SHARE, "IEEE 802.3ba-2010", ETHERNET_S, ETHERNET_TEXT},
    {"50GbE", 50e9, TCP_SHARE, "IEEE 802.3cd-2018", ETHERNET_S, ETHERNET_TEXT},
    {"100GbE", 100e9, TCP_SHARE, "IEEE 802.3ba-2010", ETHERNET_S, ETHERNET_TEXT},
    {"200GbE", 200e9, TCP_SHARE, "IEEE 802.3bs-2017", ETHERNET_S, ETHERNET_TEXT},
    {"400GbE", 400e9, TCP_SHARE, "IEEE 802.3bs-2017", ETHERNET_S, ETHERNET_TEXT},
    {"100GbE-rdma", 100e9, TCP_SHARE, "IEEE 802.3ba-2010", RDMA_S, ROCE_TEXT},
    {"200GbE-rdma", 200e9, TCP_SHARE, "IEEE 802.3bs-2017", RDMA_S, ROCE_TEXT},
    {"usb4", 40e9, 1, "USB4 Specification 1.0, Gen 3x2", THUNDERBOLT_TCP_S, TCP_TEXT},
    {"thunderbolt4", 40e9, 1, "Intel, Thunderbolt 4: 40 Gb/s", THUNDERBOLT_TCP_S, TCP_TEXT},
    {"thunderbolt5", 80e9, 1, "Intel, Thunderbolt 5: 80 Gb/s each way", THUNDERBOLT_TCP_S, TCP_TEXT},
    {"thunderbolt5-rdma", 80e9, 1, "Intel, Thunderbolt 5: 80 Gb/s each way", RDMA_S, RDMA_TEXT},
};

const char *const *mb_link_names(size_t *out_n)
{
    static const char *const names[] = {
        "1GbE",   "2.5GbE", "5GbE",        "10GbE",       "25GbE", "40GbE",        "50GbE",        "100GbE",
        "200GbE", "400GbE", "100GbE-rdma", "200GbE-rdma", "usb4",  "thunderbolt4", "thunderbolt5", "thunderbolt5-rdma"};
    _Static_assert(MB_COUNT(names) == MB_COUNT(links), "one name per link");
    *out_n = MB_COUNT(names);
    return names;
}

/* A number and its unit at the front of text; *rest is what follows. 0: there is none. */
static double number_with(const char *text, const char *const *units, const double *values, size_t n, const char **rest)
{
    char *end;
    if (!strchr("0123456789.", *text) || !*text || (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')))
        return 0;
    double value = strtod(text, &end);
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(units[i]);
        if (strncmp(end, units[i], length) == 0) {
            *rest = end + length;
            return value * values[i];
        }
    }
    return 0;
}

int mb_link_parse(const char *text, struct mb_machine_link *out, struct mb_err *err)
{
    /* Bits and bytes differ by the case of one letter, as everywhere. */
    static const char *const rates[] = {"GB/s", "MB/s", "Gb/s", "Gbit/s", "Mb/s", "Mbit/s"};
    static const double rate_values[] = {1e9, 1e6, 1e9 / 8, 1e9 / 8, 1e6 / 8, 1e6 / 8};
    static const char *const times[] = {"us", "ms"};
    static const double time_values[] = {1e-6, 1e-3};
    for (size_t i = 0; i < MB_COUNT(links); i++) {
        if (strcasecmp(text, links[i].name) == 0) { /* "2.5GbE" is not "25GbE" */
            out->name = links[i].name;
            out->bytes_per_s = mb_figure_of(links[i].bits_per_s / 8 * links[i].share, MB_SPEC, links[i].document);
            out->latency_s = mb_figure_of(links[i].latency_s, MB_DERIVED, links[i].latency);
            return MB_OK;
        }
    }
    const char *rest = "";
    double rate = number_with(text, rates, rate_values, MB_COUNT(rates), &rest), latency = ETHERNET_S;
    int given = *rest == ',';
    if (given)
        latency = number_with(rest + 1, times, time_values, MB_COUNT(times), &rest);
    if (!(rate > 0) || rate > 1e15 || !(latency > 0) || latency > 10 || *rest)
        return mb_fail(
            err, MB_EINVAL,
            "%.60s: not a link; give 10GbE, 25GbE, 100GbE, 200GbE, usb4, thunderbolt5 or a rate such as 1.1GB/s or "
            "1.1GB/s,80us",
            text);
    out->name = text;
    out->bytes_per_s = mb_figure_of(rate, MB_REPORTED, "as given");
    out->latency_s =
        given ? mb_figure_of(latency, MB_REPORTED, "as given") : mb_figure_of(latency, MB_DERIVED, ETHERNET_TEXT);
    return MB_OK;
}
