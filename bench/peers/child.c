/* SPDX-License-Identifier: MIT */
/* membound's side of the comparison with llama.cpp (compare.py): a model that stays loaded and runs what standard input asks for,
 * line by line, one answer each. The memory is read by the same threads (engine/probe.h), for both sides.
 *
 * usage: peer-membound MODEL THREADS CONTEXT copy|mmap
 *     depth D     go on from D tokens, as if they had been evaluated          ok
 *     decode N    N tokens one by one from that depth                         ok SECONDS CPU_SECONDS BYTES_PER_TOKEN
 *     prefill N   N tokens at once into an empty context                      the same
 *     probe MS    read memory for that long                                   ok BYTES_PER_SECOND
 *     quit
 * CPU seconds are those of all threads together. A line that starts with "error" ends the comparison. */
#include "engine/probe.h"
#include "machine/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT_MAX = 1 << 20, THREADS_MAX = 4096, PROBE_MS_MAX = 10000 };

struct peer {
    struct mb_model *model;
    struct mb_engine *engine;
    struct mb_session *session;
    struct mb_probe *probe;
    int32_t *tokens;
    uint32_t n_ctx, depth;
    uint64_t random;
};

static uint64_t last_cache_bytes(void)
{
    struct mb_detect_opts opts = {.no_gpu = 1};
    struct mb_machine *machine = NULL;
    if (mb_machine_detect(&opts, &machine, NULL) != MB_OK)
        return 0;
    const struct mb_processor *cpu = mb_machine_cpu(machine);
    uint64_t bytes = cpu ? cpu->cache_bytes[2] : 0;
    mb_machine_free(machine);
    return bytes;
}

/* What a pass of n tokens reads, as mb_bench_run() counts it. */
static int count_pass(const struct peer *peer, uint32_t n, uint64_t depth, double *bytes, struct mb_err *err)
{
    struct mb_traffic traffic;
    int code = mb_model_traffic(peer->model, n, depth, NULL, &traffic, err);
    if (!code)
        *bytes += (double)traffic.weights_bytes + (double)traffic.kv_read_bytes + (double)traffic.state_read_bytes;
    return code;
}

static int count_bytes(const struct peer *peer, uint32_t n, int decode, double *per_token, struct mb_err *err)
{
    double bytes = 0;
    int code = count_pass(peer, decode ? 1 : n, decode ? peer->depth : 0, &bytes, err);
    if (!code && decode)
        code = count_pass(peer, 1, peer->depth + n - 1, &bytes, err);
    *per_token = bytes / (decode ? 2 : n);
    return code;
}

static int run(struct peer *peer, uint32_t n, int decode, struct mb_err *err)
{
    uint32_t n_vocab = mb_session_n_vocab(peer->session), depth = decode ? peer->depth : 0;
    double bytes;
    if (!n || n > peer->n_ctx - depth)
        return mb_fail(err, MB_ERANGE, "%u tokens after %u do not fit the context of %u", n, depth, peer->n_ctx);
    int code = count_bytes(peer, n, decode, &bytes, err);
    for (uint32_t i = 0; i < n; i++) {
        peer->random = peer->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407); /* Knuth's MMIX */
        peer->tokens[i] = (int32_t)((peer->random >> 33) % n_vocab);
    }
    mb_session_seek(peer->session, depth);
    double began = mb_now_s(), cpu_began = mb_process_cpu_s();
    for (uint32_t i = 0; decode && !code && i < n; i++)
        code = mb_session_eval(peer->session, peer->tokens + i, 1, NULL, err);
    if (!decode && !code)
        code = mb_session_eval(peer->session, peer->tokens, n, NULL, err);
    double seconds = mb_now_s() - began, cpu_s = mb_process_cpu_s() - cpu_began;
    if (!code)
        printf("ok %.9f %.9f %.0f\n", seconds, cpu_s, bytes);
    return code;
}

static int obey(struct peer *peer, const char *verb, unsigned n, struct mb_err *err)
{
    if (strcmp(verb, "decode") == 0 || strcmp(verb, "prefill") == 0)
        return run(peer, n, *verb == 'd', err);
    if (strcmp(verb, "probe") == 0) {
        printf("ok %.0f\n", mb_probe_read(peer->probe, 1e-3 * (n < PROBE_MS_MAX ? n : PROBE_MS_MAX)));
        return MB_OK;
    }
    if (strcmp(verb, "depth") != 0)
        return mb_fail(err, MB_EINVAL, "%s: not one of depth, decode, prefill, probe, quit", verb);
    if (n >= peer->n_ctx)
        return mb_fail(err, MB_ERANGE, "a depth of %u does not fit the context of %u", n, peer->n_ctx);
    peer->depth = n;
    printf("ok\n");
    return MB_OK;
}

static int open_all(struct peer *peer, char **args, struct mb_err *err)
{
    struct mb_engine_opts load = {.load = strcmp(args[4], "mmap") == 0 ? MB_LOAD_MMAP : MB_LOAD_COPY};
    struct mb_session_opts session = {.n_threads = (unsigned)strtoul(args[2], NULL, 10),
                                      .n_ctx = (uint32_t)strtoul(args[3], NULL, 10)};
    if (!session.n_ctx || session.n_ctx > CONTEXT_MAX || session.n_threads > THREADS_MAX)
        return mb_fail(err, MB_ERANGE, "%s tokens, %s threads: 1 to %d and 0 to %d", args[3], args[2], CONTEXT_MAX, THREADS_MAX);
    load.n_threads = session.n_threads;
    peer->n_ctx = session.n_ctx;
    peer->tokens = malloc(peer->n_ctx * sizeof *peer->tokens);
    if (!peer->tokens)
        return mb_fail_memory(err);
    int code = mb_model_open(args[1], NULL, &peer->model, err);
    if (!code)
        code = mb_engine_open(peer->model, &load, &peer->engine, err);
    if (!code)
        code = mb_session_open(peer->engine, &session, &peer->session, err);
    if (!code)
        code = mb_probe_open(peer->session, last_cache_bytes(), &peer->probe, err);
    if (!code)
        mb_session_fill(peer->session, 1);
    return code;
}

static void greet(const struct peer *peer)
{
    struct mb_session_info info;
    struct mb_model_info model;
    mb_session_get_info(peer->session, &info);
    mb_model_get_info(peer->model, &model);
    printf("ok %s %s %u threads%s, probe reads %.0f MB of %s\n", MB_VERSION, info.simd, info.n_threads,
           info.is_bound ? " bound" : "", (double)mb_probe_bytes(peer->probe) / 1e6,
           mb_probe_is_weights(peer->probe) ? "weights" : "a buffer");
}

int main(int n_args, char **args)
{
    struct mb_err err = {0};
    struct peer peer = {.random = 20261123};
    char line[128], verb[32];
    if (n_args != 5) {
        fprintf(stderr, "usage: peer-membound MODEL THREADS CONTEXT copy|mmap\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int code = open_all(&peer, args, &err);
    if (!code)
        greet(&peer);
    while (!code && fgets(line, sizeof line, stdin)) {
        unsigned n = 0;
        if (sscanf(line, "%31s %u", verb, &n) < 1)
            continue;
        if (strcmp(verb, "quit") == 0)
            break;
        code = obey(&peer, verb, n, &err);
    }
    if (code)
        printf("error %s\n", err.text);
    mb_probe_close(peer.probe);
    mb_session_free(peer.session);
    mb_engine_free(peer.engine);
    mb_model_free(peer.model);
    free(peer.tokens);
    return code != 0;
}
