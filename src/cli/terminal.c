/* SPDX-License-Identifier: MIT */
/* The terminal: its width and colours, a progress line, interrupts, and the last words on stderr. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct terminal terminal_of_stdout(void)
{
    struct terminal terminal = {.width = 80};
    const char *columns = getenv("COLUMNS"), *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    struct winsize size;
    int is_terminal = isatty(STDOUT_FILENO);
    if (is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
        terminal.width = size.ws_col;
    else if (columns && atoi(columns) > 0)
        terminal.width = (unsigned)atoi(columns);
    /* Long lines are hard to read, and very narrow ones can't hold the columns. */
    terminal.width = terminal.width > 120 ? 120 : terminal.width < 60 ? 60 : terminal.width;
    terminal.colour = is_terminal && !(no_colour && *no_colour) && !(term && strcmp(term, "dumb") == 0);
    return terminal;
}

char *speed_of(double tokens_per_s, char *buf, size_t n)
{
    snprintf(buf, n, tokens_per_s >= 99.5 ? "%.0f" : tokens_per_s >= 9.95 ? "%.1f" : "%.2f", tokens_per_s);
    return buf;
}

char *depth_of(uint64_t depth, char *buf, size_t n)
{
    int whole = depth && depth % 1024 == 0;
    snprintf(buf, n, whole ? "%juk" : "%ju", (uintmax_t)(whole ? depth / 1024 : depth));
    return buf;
}

char *read_of(double bytes, char *buf, size_t n)
{
    double unit = bytes >= 1e8 ? 1e9 : bytes >= 1e6 ? 1e6 : 1e3;
    snprintf(buf, n, bytes >= 1e8 ? "%.2f GB" : bytes >= 1e6 ? "%.3g MB" : "%.3g kB", bytes / unit);
    return buf;
}

void append(char *buf, size_t n, const char *format, ...)
{
    size_t used = strnlen(buf, n);
    va_list args;
    va_start(args, format);
    if (used < n)
        vsnprintf(buf + used, n - used, format, args);
    va_end(args);
}

void heading(const char *text, const struct terminal *terminal)
{
    printf(terminal->colour ? "\n\033[1m%s\033[0m\n" : "\n%s\n", text);
}

void line(struct mb_table *table, const char *label, const char *text)
{
    mb_table_row(table);
    mb_table_cell(table, 0, MB_DIM, label);
    mb_table_cell(table, 1, MB_PLAIN, text);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_begin(struct progress *progress)
{
    *progress = (struct progress){.began_s = now_s(), .on = isatty(STDERR_FILENO)};
}

void progress_show(void *user, const char *what, double share)
{
    struct progress *progress = user;
    double now = now_s();
    if (!progress->on || now - progress->began_s < 1 || now - progress->shown_s < 0.1)
        return;
    progress->shown_s = now;
    progress->visible = 1;
    int done = (int)(share < 0 ? 0 : share > 1 ? 20 : share * 20);
    fprintf(stderr, "\r\033[K%.*s%.*s %3.0f %%  %.50s", done, "####################", 20 - done, "--------------------",
            share * 100, what);
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->visible)
        fputs("\r\033[K", stderr);
    progress->visible = 0;
}

/* The one mutable global of the program: a signal handler can reach nothing else. */
static volatile int interrupted;

static void on_interrupt(int signal_number)
{
    if (interrupted) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    interrupted = 1;
}

const volatile int *interrupt_flag(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    return &interrupted;
}

void interrupt_clear(void)
{
    interrupted = 0;
}

int terminal_of_stderr(void)
{
    return isatty(STDERR_FILENO);
}

const char *history_path(char *buf, size_t n)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int length = -1;
    /* The XDG rule: a relative path is ignored. */
    if (data && *data == '/')
        length = snprintf(buf, n, "%s/membound/history.db", data);
    else if (home && *home == '/')
        length = snprintf(buf, n, "%s/.local/share/membound/history.db", home);
    return length > 0 && (size_t)length < n ? buf : NULL;
}

int report(const struct mb_err *err)
{
    fprintf(stderr, "membound: %s\n", err->text);
    return mb_code_exit(err->code);
}

int finish_output(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    fprintf(stderr, "membound: standard output: %s; nothing more was printed\n", strerror(errno));
    return mb_code_exit(MB_EWRITE);
}
