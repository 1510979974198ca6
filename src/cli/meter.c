/* SPDX-License-Identifier: MIT */
/* The meter of a running model: tokens per second, GB/s and the share of the bound, on stderr while text goes to
 * stdout. Where both are the same terminal, the meter has its last row for itself: the rows above scroll without it. */
#include "cli.h"

#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void meter_begin(struct meter *meter, double bound_bytes_per_s)
{
    struct winsize size;
    *meter = (struct meter){.bound_bytes_per_s = bound_bytes_per_s, .on = terminal_of_stderr()};
    if (meter->on && isatty(STDOUT_FILENO) && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 4)
        meter->rows = size.ws_row;
    /* A new line first, so that the cursor is not on the last row; then rows 1 to last - 1 scroll, the cursor staying where it
     * was (save, set region, restore, up). */
    if (meter->rows)
        fprintf(stderr, "\n\0337\033[1;%ur\0338\033[1A", meter->rows - 1);
    fflush(stderr);
}

void meter_show(struct meter *meter, const struct mb_written *so_far)
{
    double now = now_s();
    if (!meter->on || now - meter->shown_s < 0.2 || !(so_far->decode_s > 0) || !so_far->n_decoded)
        return;
    char text[160] = "";
    double rate = so_far->decode_bytes / so_far->decode_s;
    meter->shown_s = now;
    append(text, sizeof text, "%zu tokens  %.1f tok/s  %.1f GB/s", so_far->n_decoded,
           (double)so_far->n_decoded / so_far->decode_s, rate / 1e9);
    if (meter->bound_bytes_per_s > 0)
        append(text, sizeof text, "  %.0f %% of the bound", 100 * rate / meter->bound_bytes_per_s);
    if (meter->rows)
        fprintf(stderr, "\0337\033[%u;1H\033[2K\033[2m%s\033[0m\0338", meter->rows, text);
    else
        fprintf(stderr, "\r\033[K%s", text);
    fflush(stderr);
}

void meter_end(struct meter *meter)
{
    if (meter->rows)
        fprintf(stderr, "\0337\033[%u;1H\033[2K\033[r\0338", meter->rows);
    else if (meter->shown_s > 0)
        fputs("\r\033[K", stderr);
    fflush(stderr);
    meter->on = 0;
    meter->rows = 0;
    meter->shown_s = 0;
}
