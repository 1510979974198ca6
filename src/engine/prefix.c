/* SPDX-License-Identifier: MIT */
/* Prefixes on disk: the tokens of a sequence and the cells that the next token would see. A file is hostile until its length,
 * its counts and its checksum agree.
 *   "MBPREFIX", u32 version, u32 cache type, u64 fingerprint of the model, u32 layers, u32 0, u64 tokens
 *   i32 each token
 *   per layer and KV head: rows of K, rows of V, of the positions from the first that the next token sees
 *   u64 checksum of all before
 * All in the byte order of the machine, which the fingerprint tells apart. */
#include "engine/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION 1u

struct header {
    char magic[8];
    uint32_t version, type;
    uint64_t fingerprint;
    uint32_t n_layers, zero;
    uint64_t n_tokens;
};

struct stream {
    FILE *file;
    uint64_t sum;
    int failed;
};

static void add_sum(struct stream *stream, const uint8_t *bytes, size_t n)
{
    uint64_t word;
    for (; n >= 8; n -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        stream->sum = (stream->sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        stream->sum ^= stream->sum >> 29;
    }
    for (; n; n--, bytes++)
        stream->sum = (stream->sum ^ *bytes) * UINT64_C(0x9e3779b97f4a7c15);
}

static void put(struct stream *stream, void *bytes, size_t n)
{
    stream->failed |= fwrite(bytes, 1, n, stream->file) != n;
    add_sum(stream, bytes, n);
}

static void get(struct stream *stream, void *bytes, size_t n)
{
    if (stream->failed || fread(bytes, 1, n, stream->file) != n)
        stream->failed = 1;
    else
        add_sum(stream, bytes, n);
}

/* All cells that the token at position n sees, through `move`; returns their bytes. */
static uint64_t each_cell(const struct mb_kv_cache *cache, uint64_t n, struct stream *stream,
                          void (*move)(struct stream *, void *, size_t))
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < cache->n_layers; i++) {
        const struct mb_kv_cache_layer *layer = &cache->layers[i];
        struct mb_kv_span spans[2];
        if (!layer->cells)
            continue;
        unsigned n_spans = mb_kv_spans(layer, mb_kv_first_seen(layer, n), n, spans);
        for (uint32_t head = 0; head < layer->n_heads; head++) {
            for (unsigned s = 0; s < 2 * n_spans; s++) {
                const struct mb_kv_span *span = &spans[s % n_spans];
                size_t row = s < n_spans ? layer->k_row : layer->v_row;
                uint8_t *rows = s < n_spans ? layer->k + head * layer->k_head : layer->v + head * layer->v_head;
                bytes += span->n * row;
                if (stream)
                    move(stream, rows + span->cell * row, span->n * row);
            }
        }
    }
    return bytes;
}

static struct header header_of(const struct mb_session *session)
{
    struct header header = {.version = VERSION,
                            .type = session->cache.types.k,
                            .fingerprint = session->engine->fingerprint,
                            .n_layers = session->cache.n_layers,
                            .n_tokens = session->n_tokens};
    memcpy(header.magic, "MBPREFIX", 8);
    return header;
}

int mb_session_save(const struct mb_session *session, const char *path, struct mb_err *err)
{
    size_t n_path = strlen(path);
    char *temporary = malloc(n_path + 8);
    if (!temporary)
        return mb_fail_memory(err);
    memcpy(temporary, path, n_path);
    memcpy(temporary + n_path, ".XXXXXX", 8);
    int code = MB_OK, handle = mkstemp(temporary);
    struct stream stream = {.file = handle < 0 ? NULL : fdopen(handle, "wb")};
    if (!stream.file) {
        code = mb_fail(err, MB_EWRITE, "%s: %s", path, strerror(errno));
        if (handle >= 0) {
            close(handle);
            unlink(temporary);
        }
        free(temporary);
        return code;
    }
    struct header header = header_of(session);
    put(&stream, &header, sizeof header);
    put(&stream, session->tokens, session->n_tokens * sizeof(int32_t));
    each_cell(&session->cache, session->n_tokens, &stream, put);
    uint64_t sum = stream.sum;
    stream.failed |= fwrite(&sum, sizeof sum, 1, stream.file) != 1;
    stream.failed |= fflush(stream.file) != 0 || fsync(handle) != 0;
    int why = errno;
    stream.failed |= fclose(stream.file) != 0;
    if (stream.failed || rename(temporary, path) != 0) {
        why = stream.failed ? why : errno;
        unlink(temporary);
        code = mb_fail(err, MB_EWRITE, "%s: %s", path, strerror(why));
    }
    free(temporary);
    return code;
}

static int check_header(const struct mb_session *session, const struct header *header, const char *path, struct mb_err *err)
{
    struct header own = header_of(session);
    if (memcmp(header->magic, own.magic, sizeof own.magic) != 0)
        return mb_fail(err, MB_EFORMAT, "%s is not a saved prefix", path);
    if (header->version != VERSION)
        return mb_fail(err, MB_EFORMAT, "%s: version %u of a saved prefix; this program reads %u", path, header->version,
                       VERSION);
    if (header->fingerprint != own.fingerprint || header->n_layers != own.n_layers)
        return mb_fail(err, MB_EFORMAT, "%s: the prefix of another model; evaluate the prompt anew", path);
    if (header->type != own.type)
        return mb_fail(err, MB_EFORMAT, "%s: its cache is of the type %s, the session's is %s", path, mb_type_name(header->type),
                       mb_type_name(own.type));
    if (header->n_tokens > session->n_ctx)
        return mb_fail(err, MB_ERANGE, "%s: %llu tokens are more than the context of %u holds; open a longer one", path,
                       (unsigned long long)header->n_tokens, session->n_ctx);
    return MB_OK;
}

static int read_all(struct mb_session *session, FILE *file, const char *path, struct mb_err *err)
{
    struct stream stream = {.file = file};
    struct header header;
    struct stat info;
    uint64_t sum = 0;
    get(&stream, &header, sizeof header);
    if (stream.failed)
        return mb_fail(err, MB_EFORMAT, "%s is not a saved prefix", path);
    int code = check_header(session, &header, path, err);
    if (code)
        return code;
    uint64_t bytes = sizeof header + header.n_tokens * sizeof(int32_t) +
                     each_cell(&session->cache, header.n_tokens, NULL, NULL) + sizeof sum;
    if (fstat(fileno(file), &info) != 0 || (uint64_t)info.st_size != bytes)
        return mb_fail(err, MB_EFORMAT, "%s: the file is truncated or damaged", path);
    get(&stream, session->tokens, (size_t)header.n_tokens * sizeof(int32_t));
    mb_kv_cache_expect(&session->cache, header.n_tokens);
    each_cell(&session->cache, header.n_tokens, &stream, get);
    if (stream.failed || fread(&sum, sizeof sum, 1, file) != 1 || sum != stream.sum)
        return mb_fail(err, MB_EFORMAT, "%s: the file is damaged", path);
    for (uint64_t i = 0; i < header.n_tokens; i++) {
        if (session->tokens[i] < 0 || (uint32_t)session->tokens[i] >= session->engine->model->hp.n_vocab)
            return mb_fail(err, MB_EFORMAT, "%s: a token outside of the vocabulary; the file is damaged", path);
    }
    session->n_tokens = session->n_written = (size_t)header.n_tokens;
    return MB_OK;
}

int mb_session_restore(struct mb_session *session, const char *path, struct mb_err *err)
{
    mb_session_truncate(session, 0);
    FILE *file = fopen(path, "rb");
    if (!file)
        return mb_fail(err, errno == ENOENT ? MB_ENOENT : MB_EIO, "%s: %s", path, strerror(errno));
    int code = read_all(session, file, path, err);
    fclose(file);
    return code;
}
