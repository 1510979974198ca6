/* SPDX-License-Identifier: MIT */
/* Our side of the bandwidth comparison (bandwidth.py): fills a buffer once, then for each line "SECONDS" on stdin reads it for
 * that long as mb_machine_measure() does, and answers "BYTES_PER_S CPU_SHARE". Ends with its input.
 *
 * usage: bench-bandwidth THREADS MEBIBYTES */
#include "machine/stream.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    unsigned n_threads = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    uint64_t bytes = argc == 3 ? strtoull(argv[2], NULL, 10) << 20 : 0;
    struct mb_kernels kernels;
    struct mb_team *team;
    struct mb_stream *stream;
    struct mb_err err;
    char line[64];
    if (!n_threads || !bytes) {
        fprintf(stderr, "usage: bench-bandwidth THREADS MEBIBYTES\n");
        return 2;
    }
    mb_kernels_init(&kernels, mb_cpu_flags());
    int code = mb_team_start(n_threads, &team, &err);
    if (code == MB_OK)
        code = mb_stream_open(team, &kernels, bytes, NULL, &stream, &err);
    if (code != MB_OK) {
        fprintf(stderr, "bench-bandwidth: %s\n", err.text);
        return mb_code_exit(code);
    }
    printf("%s loads, %.0f %% huge pages, %llu bytes, %u threads%s\n", kernels.read_name,
           100 * mb_stream_huge_share(stream), (unsigned long long)mb_stream_bytes(stream), n_threads,
           mb_team_is_bound(team) ? " bound" : "");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        double seconds = strtod(line, NULL), done_s = 0, bytes_read = 0, cpu_s = 0;
        uint64_t n_bad = 0;
        while (done_s < seconds) {
            struct mb_stream_sample sample;
            mb_stream_read(stream, n_threads, 0, seconds < 0.02 ? seconds : 0.02, &sample);
            done_s += sample.seconds;
            bytes_read += (double)sample.bytes;
            cpu_s += sample.cpu_share * sample.seconds;
            n_bad += sample.n_bad_blocks;
        }
        if (n_bad || done_s <= 0) {
            fprintf(stderr, "bench-bandwidth: wrong checksums\n");
            return 5;
        }
        printf("%.0f %.3f\n", bytes_read / done_s, cpu_s / done_s);
        fflush(stdout);
    }
    mb_stream_close(stream);
    mb_team_stop(team);
    return 0;
}
