/* SPDX-License-Identifier: MIT */
/* Walks through the stores of other programs. Their layouts are read from what they write (Ollama
 * 0.12, huggingface_hub 0.3x, LM Studio 0.3, llama.cpp b10573); everything in them may be broken or
 * missing, and then simply is not listed. */
#include "model/find.h"

#include "base/base.h"
#include "model/gguf.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum {
    DEPTH_MAX = 6,         /* directories below a store; also what ends a loop of links */
    ENTRIES_MAX = 200000,  /* of all directories together */
    MANIFEST_MAX = 1 << 20 /* real ones have under 2 KiB */
};

struct row {
    struct mb_found found;
    dev_t device;
    ino_t inode;
};

struct walk {
    struct mb_arena arena; /* of the result */
    struct row *rows;
    unsigned n_rows, n_entries;
    enum mb_store store;
    const char *root;
};

const char *mb_store_name(enum mb_store store)
{
    static const char *const names[] = {"Ollama", "Hugging Face", "LM Studio", "llama.cpp"};
    return (unsigned)store < MB_COUNT(names) ? names[store] : "unknown";
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcasecmp(text + n - k, end) == 0;
}

/* Take a model into the result, unless this store has it under another name. */
static void add(struct walk *walk, const char *name, const char *path, uint64_t bytes,
                unsigned n_parts, const struct stat *st)
{
    for (unsigned i = 0; i < walk->n_rows; i++) {
        const struct row *row = &walk->rows[i];
        /* Ollama's names are what people type: two of them may well mean one file. */
        if (row->device == st->st_dev && row->inode == st->st_ino &&
            row->found.store == walk->store &&
            (walk->store != MB_STORE_OLLAMA || strcmp(row->found.name, name) == 0))
            return;
    }
    struct row *row = mb_arena_append(&walk->arena, &walk->rows, &walk->n_rows, sizeof *row);
    if (row)
        *row = (struct row){{mb_arena_text(&walk->arena, name), mb_arena_text(&walk->arena, path),
                             bytes, n_parts, walk->store},
                            st->st_dev,
                            st->st_ino};
}

/* ---- files by their name ---- */

/* A GGUF file: its name without ending, part number and, in llama.cpp's cache, owner and
 * repository. */
static void add_file(struct walk *walk, const char *path)
{
    char name[NAME_MAX + 1], part[PATH_MAX];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strlen(base), prefix = 0;
    unsigned no = 1, count = 1;
    struct stat st;
    if (!ends_with(base, ".gguf") || n >= sizeof name || stat(path, &st) != 0 ||
        !S_ISREG(st.st_mode))
        return;
    n -= 5;
    uint64_t bytes = (uint64_t)st.st_size;
    if (mb_gguf_split_parse(path, &prefix, &no, &count)) {
        if (no != 1)
            return;
        n = prefix - (size_t)(base - path);
        struct stat other;
        for (unsigned i = 2; i <= count && i <= 10000; i++) {
            int length =
                snprintf(part, sizeof part, "%.*s-%05u-of-%05u.gguf", (int)prefix, path, i, count);
            if (length > 0 && (size_t)length < sizeof part && stat(part, &other) == 0)
                bytes += (uint64_t)other.st_size;
        }
    }
    memcpy(name, base, n);
    name[n] = 0;
    for (const char *p = name; *p; p++)
        if (strncasecmp(p, "mmproj", 6) == 0)
            return;
    char *start = name;
    if (walk->store == MB_STORE_LLAMACPP)
        for (char *p = name; (p = strstr(p, "GGUF_")); p++)
            start = p + 5; /* owner_repo-GGUF_file.gguf */
    if (*start)
        add(walk, start, path, bytes, count, &st);
}

static void walk_files(struct walk *walk, const char *path, unsigned depth)
{
    DIR *dir = depth <= DEPTH_MAX ? opendir(path) : NULL;
    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        char below[PATH_MAX];
        struct stat st;
        if (++walk->n_entries > ENTRIES_MAX)
            break;
        int n = snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (*entry->d_name == '.' || n < 0 || (size_t)n >= sizeof below)
            continue;
        if (ends_with(entry->d_name, ".gguf"))
            add_file(walk, below);
        else if (stat(below, &st) == 0 && S_ISDIR(st.st_mode))
            walk_files(walk, below, depth + 1);
    }
    if (dir)
        closedir(dir);
}

/* hub/models--owner--repo/snapshots/REVISION/...; what else lies in a hub is not for us. */
static void walk_hub(struct walk *walk)
{
    DIR *dir = opendir(walk->root);
    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        char below[PATH_MAX];
        if (++walk->n_entries > ENTRIES_MAX)
            break;
        int n = snprintf(below, sizeof below, "%s/%s/snapshots", walk->root, entry->d_name);
        if (strncmp(entry->d_name, "models--", 8) == 0 && n > 0 && (size_t)n < sizeof below)
            walk_files(walk, below, 1);
    }
    if (dir)
        closedir(dir);
}

/* ---- Ollama ---- */

/* "sha256:" and 64 hex digits; what else is in a manifest must not become a path. */
static int is_digest(const char *digest)
{
    if (!digest || strncmp(digest, "sha256:", 7) != 0 || strlen(digest) != 7 + 64)
        return 0;
    for (const char *p = digest + 7; *p; p++)
        if (!isxdigit((unsigned char)*p))
            return 0;
    return 1;
}

static void read_manifest(struct walk *walk, const char *path, const char *name)
{
    struct mb_arena scratch = {0};
    size_t n = 0;
    const char *text = mb_file_read(&scratch, NULL, path, MANIFEST_MAX, &n);
    json_t *root = text ? mb_json_parse(text, n, "manifest", NULL) : NULL;
    const json_t *layers = json_object_get(root, "layers");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        const char *type = json_string_value(json_object_get(layer, "mediaType"));
        const char *digest = json_string_value(json_object_get(layer, "digest"));
        json_int_t size = json_integer_value(json_object_get(layer, "size"));
        char blob[PATH_MAX];
        struct stat st;
        if (!type || strcmp(type, "application/vnd.ollama.image.model") != 0 || !is_digest(digest))
            continue;
        int length = snprintf(blob, sizeof blob, "%s/blobs/sha256-%s", walk->root, digest + 7);
        /* A blob of another size is a download that has not ended. */
        if (length > 0 && (size_t)length < sizeof blob && stat(blob, &st) == 0 &&
            S_ISREG(st.st_mode) && (size <= 0 || st.st_size == size))
            add(walk, name, blob, (uint64_t)st.st_size, 1, &st);
        break;
    }
    json_decref(root);
    mb_arena_free(&scratch);
}

/* manifests/HOST/NAMESPACE/MODEL/TAG -> what `ollama list` shows. */
static void name_manifest(struct walk *walk, const char *path, const char *host, const char *space,
                          const char *model, const char *tag)
{
    char name[4 * (NAME_MAX + 2)];
    int own = strcmp(host, "registry.ollama.ai") == 0;
    int plain = own && strcmp(space, "library") == 0;
    snprintf(name, sizeof name, "%s%s%s%s%s:%s", own ? "" : host, own ? "" : "/",
             plain ? "" : space, plain ? "" : "/", model, tag);
    read_manifest(walk, path, name);
}

/* parts[0..depth) are the directories between manifests/ and path. */
static void walk_manifests(struct walk *walk, const char *path, const char *parts[4],
                           unsigned depth)
{
    DIR *dir = opendir(path);
    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        char below[PATH_MAX];
        if (++walk->n_entries > ENTRIES_MAX)
            break;
        int n = snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (*entry->d_name == '.' || n < 0 || (size_t)n >= sizeof below)
            continue;
        parts[depth] = entry->d_name;
        if (depth < 3)
            walk_manifests(walk, below, parts, depth + 1);
        else
            name_manifest(walk, below, parts[0], parts[1], parts[2], parts[3]);
    }
    if (dir)
        closedir(dir);
}

/* ---- the list ---- */

static int compare_rows(const void *a, const void *b)
{
    const struct mb_found *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->path, y->path);
}

int mb_models_found(const struct mb_model_search *search, struct mb_found_list **out, struct mb_err *err)
{
    struct walk walk = {0};
    for (size_t i = 0; i < search->n_stores; i++) {
        if (!search->stores[i].path || !*search->stores[i].path)
            continue;
        walk.root = search->stores[i].path;
        walk.store = search->stores[i].store;
        walk.n_entries = 0;
        if (walk.store == MB_STORE_OLLAMA) {
            char manifests[PATH_MAX];
            const char *parts[4];
            int n = snprintf(manifests, sizeof manifests, "%s/manifests", walk.root);
            if (n > 0 && (size_t)n < sizeof manifests)
                walk_manifests(&walk, manifests, parts, 0);
        } else if (walk.store == MB_STORE_HF) {
            walk_hub(&walk);
        } else {
            walk_files(&walk, walk.root, 1);
        }
    }
    struct mb_found_list *list = mb_arena_alloc(&walk.arena, sizeof *list);
    struct mb_found *rows = mb_arena_array(&walk.arena, walk.n_rows, sizeof *rows);
    struct mb_arena *owner = malloc(sizeof *owner);
    if (!owner || walk.arena.failed) {
        free(owner);
        mb_arena_free(&walk.arena);
        return mb_fail_memory(err);
    }
    for (unsigned i = 0; i < walk.n_rows; i++)
        rows[i] = walk.rows[i].found;
    if (walk.n_rows)
        qsort(rows, walk.n_rows, sizeof *rows, compare_rows);
    *owner = walk.arena;
    *list = (struct mb_found_list){rows, walk.n_rows, owner};
    *out = list;
    return MB_OK;
}

void mb_found_free(struct mb_found_list *list)
{
    if (!list)
        return;
    struct mb_arena *owner = list->owner;
    mb_arena_free(owner);
    free(owner);
}

int mb_found_json(const struct mb_found_list *list, char **out, struct mb_err *err)
{
    json_t *root = json_object(), *models = json_array();
    int bad = 0;
    for (unsigned i = 0; i < list->n_rows; i++) {
        const struct mb_found *found = list->rows + i;
        json_t *object = json_object();
        bad += mb_json_put(object, "name", mb_json_text(found->name));
        bad += mb_json_put(object, "path", mb_json_text(found->path));
        bad += mb_json_put(object, "bytes", mb_json_count(found->bytes));
        bad += mb_json_put(object, "parts", mb_json_count(found->n_parts));
        bad += mb_json_put(object, "store", mb_json_text(mb_store_name(found->store)));
        bad += json_array_append_new(models, object);
    }
    bad += mb_json_put(root, "models", models);
    if (bad) {
        json_decref(root);
        return mb_fail_memory(err);
    }
    return mb_json_dump(root, out, err);
}

/* ---- one model by name ---- */

static int is_named(const struct mb_found *found, const char *name)
{
    size_t path_n = strlen(found->path), n = strlen(name);
    if (strncmp(found->name, name, n) == 0 &&
        (!found->name[n] || strcmp(found->name + n, ":latest") == 0))
        return 1;
    return path_n > n && strcmp(found->path + path_n - n, name) == 0 &&
           found->path[path_n - n - 1] == '/';
}

static int is_nearly_named(const struct mb_found *found, const char *name)
{
    return mb_name_compare(found->name, name) == 0;
}

int mb_find_model(const struct mb_found_list *list, const char *name, const struct mb_found **out,
                  struct mb_err *err)
{
    int (*const passes[])(const struct mb_found *, const char *) = {is_named, is_nearly_named};
    for (size_t k = 0; k < MB_COUNT(passes) && *name; k++) {
        const struct mb_found *first = NULL;
        for (unsigned i = 0; i < list->n_rows; i++) {
            const struct mb_found *found = &list->rows[i];
            if (!passes[k](found, name))
                continue;
            /* The same file in two stores is no question; two files are. */
            if (first && found->bytes != first->bytes)
                return mb_fail(
                    err, MB_EINVAL,
                    "%.80s: several models have this name: %.120s and %.120s; give the path", name,
                    mb_source_label(first->path), mb_source_label(found->path));
            if (!first)
                first = found;
        }
        if (first) {
            *out = first;
            return MB_OK;
        }
    }
    char nearest[200] = "";
    const char **names = calloc(list->n_rows ? list->n_rows : 1, sizeof *names);
    if (!names)
        return mb_fail_memory(err);
    for (unsigned i = 0; i < list->n_rows; i++)
        names[i] = list->rows[i].name;
    mb_name_nearest(name, names, list->n_rows, 3, nearest, sizeof nearest);
    free(names);
    if (*nearest)
        return mb_fail(err, MB_ENAME, "%.80s: no model of this name on this machine; is it %s?",
                       name, nearest);
    return mb_fail(err, MB_ENAME,
                   "%.80s: no model of this name on this machine; give the path of a GGUF file",
                   name);
}
